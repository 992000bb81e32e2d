//! Whether a mirror's history is ours: decided by its listing, and by reading what the listing alone does not explain.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::id::ObjectId;
use crate::codec::config::{CONFIG_BYTES, Config};
use crate::codec::head::{Head, HeadRef};
use crate::ops::mirror_error::MirrorError;
use crate::ops::{Error, Result, probe};
use crate::repository::public_view::PublicView;
use crate::repository::{self, chain};
use crate::storage::{ErrorKind, MirrorStore, ObjectName};

/// Finds the newest head of ours on the mirror, and refuses what must not be written to. Heads of our chain are known by their
/// names: our own head carries the beginnings of all earlier heads' ids. `doubtful` is what has other bytes there than were sent, as far as that
/// is known; a config of ours that is damaged joins it.
pub(super) fn compare(
    view: &PublicView,
    mirror: &dyn MirrorStore,
    there: &BTreeMap<ObjectName, u64>,
    strays: &[String],
    seen: Option<HeadRef>,
    doubtful: &mut BTreeSet<ObjectName>,
    notes: &mut Vec<String>,
) -> Result<Option<HeadRef>> {
    let tip = view.tip();
    let mut newest: Option<HeadRef> = None;
    let (mut strange, mut broken) = (Vec::new(), Vec::new());
    for name in there.keys() {
        let ObjectName::Head { generation, id } = *name else { continue };
        let head = HeadRef { generation, id };
        if head == tip.reference() || tip.state.is_ancestor(generation, &id) {
            newest = newest.filter(|newest| newest.generation > generation).or(Some(head));
        } else {
            match unknown(view, mirror, head)? {
                Stranger::Nobodys(name) => strange.push(name),
                // Below our head nobody looks at it.
                Stranger::Broken(name) if generation < tip.reference().generation => strange.push(name),
                Stranger::Broken(name) => broken.push(name),
                Stranger::Gone => {}
            }
        }
    }
    match strange.as_slice() {
        [] => {}
        [name] => notes.push(format!("{name} on the mirror is no head of this repository and was left alone")),
        [name, ..] => notes.push(format!(
            "{} files under heads/ on the mirror are no heads of this repository and were left alone, {name} one of them",
            strange.len()
        )),
    }
    for name in broken {
        notes.push(format!(
            "{name} on the mirror has not the bytes that its name says: check and recover stop at it, for it may hide a newer state, until it \
             is taken out of heads/ there"
        ));
    }
    if newest.is_none() {
        first_time(view, mirror, there, strays, doubtful)?;
    }
    match seen {
        Some(seen) if newest.is_none_or(|newest| newest.generation < seen.generation) => {
            Err(MirrorError::Rollback { seen: seen.generation, found: newest }.into())
        }
        _ => Ok(newest),
    }
}

/// Compares the heads that a later listing shows: another machine may have published since the first one, or finished what was cut off
/// then. Nobody's are passed over.
///
/// # Errors
/// A fork; [`MirrorError::Ahead`].
pub(super) fn compare_again(
    view: &PublicView,
    mirror: &dyn MirrorStore,
    now: impl Iterator<Item = ObjectName>,
) -> Result<()> {
    let tip = view.tip();
    for name in now {
        let ObjectName::Head { generation, id } = name else { continue };
        let head = HeadRef { generation, id };
        if head != tip.reference() && !tip.state.is_ancestor(generation, &id) {
            unknown(view, mirror, head)?;
        }
    }
    Ok(())
}

/// A view of the newest head here, when `error` calls what the mirror shows another history, or one ahead of ours, and the head here has moved
/// on since `view` was opened: then another process has published, and may have synced what it published.
///
/// # Errors
/// As opening the view.
pub(super) fn newer(view: &PublicView, error: &Error) -> Result<Option<PublicView>> {
    let is_doubtful = matches!(
        error,
        Error::Mirror(MirrorError::Ahead { .. } | MirrorError::UnreadableHead { .. })
            | Error::Repository(repository::Error::Fork { .. })
    );
    if !is_doubtful {
        return Ok(None);
    }
    let now = view.reopen()?;
    Ok((now.tip().reference().generation > view.tip().reference().generation).then_some(now))
}

/// What lies under the name of a head that is not of our chain.
enum Stranger {
    /// No head of this repository.
    Nobodys(ObjectName),
    /// Other bytes than the name says, or more than any head has.
    Broken(ObjectName),
    /// Nothing any more.
    Gone,
}

/// A head that is not of our chain. One of another history is an error.
fn unknown(view: &PublicView, mirror: &dyn MirrorStore, head: HeadRef) -> Result<Stranger> {
    let name = chain::name_of(head);
    let bytes = match mirror.read(&name, chain::HEAD_BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(error) if matches!(error.kind, ErrorKind::Length | ErrorKind::NoFile) => return Ok(Stranger::Broken(name)),
        Err(error) if error.kind == ErrorKind::Absent => return Ok(Stranger::Gone),
        Err(error) => return Err(repository::Error::from(error).into()),
    };
    if ObjectId::of(&bytes) != head.id {
        return Ok(Stranger::Broken(name));
    }
    if Head::verify(&bytes, view.verifying_key(), view.id()).is_err() {
        return Ok(Stranger::Nobodys(name));
    }
    let tip = view.tip();
    if head.generation > tip.reference().generation {
        let theirs = match chain::newest(mirror, view.verifying_key(), view.id()) {
            Ok(theirs) => theirs,
            // It says nothing of the mirror.
            Err(error) if error.is_interrupted() => return Err(error.into()),
            Err(error) => return Err(MirrorError::UnreadableHead { name, why: error.to_string() }.into()),
        };
        let own = tip.reference();
        if theirs.state.is_ancestor(own.generation, &own.id) {
            return Err(MirrorError::Ahead { ours: own.generation, theirs: theirs.reference().generation }.into());
        }
    }
    Err(repository::Error::Fork { one: head, other: tip.reference() }.into())
}

/// What is sent to a mirror that has a head of ours hangs on the config there: one that is noise, or another repository's, has the right
/// length, and nothing could ever be opened again.
pub(super) fn confirm_config(view: &PublicView, mirror: &dyn MirrorStore) -> Result<()> {
    match mirror.read(&ObjectName::Config, CONFIG_BYTES as u64) {
        Ok(config) if config == view.config_bytes() => Ok(()),
        Ok(_) => Err(MirrorError::WrongConfig.into()),
        Err(error) => Err(repository::Error::from(error).into()),
    }
}

/// True when a config names our verifying key, but for a few wrong bytes: another repository's key agrees in one or two by chance.
fn has_our_key(view: &PublicView, config: &[u8]) -> bool {
    let (key, ours) = (view.verifying_key(), view.config_bytes());
    let Some(at) = ours.windows(key.len()).position(|window| window == key) else { return false };
    let equal = key.iter().zip(config.iter().skip(at)).filter(|(one, other)| one == other).count();
    equal >= key.len() * 3 / 4
}

/// Refuses a place where something else lies than a mirror of this repository. What has a head of ours is one, whatever its state.
///
/// # Errors
/// [`MirrorError::Foreign`], [`MirrorError::OtherRepository`].
pub fn recognise(
    view: &PublicView,
    mirror: &dyn MirrorStore,
    there: &BTreeMap<ObjectName, u64>,
    strays: &[String],
) -> Result<()> {
    let tip = view.tip();
    let is_ours = |name: &ObjectName| match *name {
        ObjectName::Head { generation, id } => {
            HeadRef { generation, id } == tip.reference() || tip.state.is_ancestor(generation, &id)
        }
        _ => false,
    };
    if there.keys().any(is_ours) {
        return Ok(());
    }
    first_time(view, mirror, there, strays, &mut BTreeSet::new())
}

/// Nothing there was ever whole: it is empty, or the first sync was interrupted.
fn first_time(
    view: &PublicView,
    mirror: &dyn MirrorStore,
    there: &BTreeMap<ObjectName, u64>,
    strays: &[String],
    doubtful: &mut BTreeSet<ObjectName>,
) -> Result<()> {
    if there.contains_key(&ObjectName::Config) {
        let config = mirror.read(&ObjectName::Config, CONFIG_BYTES as u64 + 1).map_err(repository::Error::from)?;
        // A first write that was cut off is replaced, and one that was changed on its way; anything else is somebody's.
        let is_cut = config.len() < CONFIG_BYTES && view.config_bytes().starts_with(&config);
        if config == view.config_bytes() || is_cut {
            return Ok(());
        }
        let is_nobodys = || doubtful.contains(&ObjectName::Config) && Config::parse(&config).is_err();
        if config.len() == CONFIG_BYTES && (has_our_key(view, &config) || is_nobodys()) {
            doubtful.insert(ObjectName::Config);
            return Ok(());
        }
        return Err(MirrorError::OtherRepository.into());
    }
    // Probes that could not be removed, or whose command was killed, are ours, however many: of somebody's repository the config is the first.
    let is_probe = |(name, length): (&ObjectName, &u64)| {
        matches!(name, ObjectName::Pack(_)) && *length == probe::PROBE_BYTES as u64
    };
    if there.iter().all(is_probe) && strays.is_empty() {
        return Ok(());
    }
    // The config is the first object that is sent: without it nothing else of ours can be there.
    let objects = there.keys().next().map(ToString::to_string);
    match objects.or_else(|| strays.first().cloned()) {
        None => Ok(()),
        Some(name) => Err(MirrorError::Foreign { files: there.len() + strays.len(), name }.into()),
    }
}
