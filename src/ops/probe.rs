//! What a store can do, tried with one object that goes again: listed, written, read whole and in part, removed.
//!
//! - It is listed first. Where something else lies, a repository of somebody's or his photos, nothing is written; nor where these credentials
//!   may not list, for then no sync could work.
//! - The object has a name that is the same each time. What an interrupted one left, or one whose credentials may not delete, is known by its name,
//!   removed by the next one where that is allowed, and is no reason to take the place for somebody else's.
//! - However it ends, removing it is tried: after a failure, and also when the user wants an end.
//! - But not in a bucket that says that it keeps what is removed (versioning, object lock): each probe would leave 64 KiB there, and with a lock nobody could take
//!   them away. The object stays, and the next probe reads it again.

use super::sync::recognise;
use super::{Error, Result};
use crate::base::id::{ObjectId, RepositoryId};
use crate::repository;
use crate::repository::public_view::PublicView;
use crate::storage::cause::{Cause, Keeping, Lock};
use crate::storage::{self, ErrorKind, MirrorStore, ObjectName, Uplink};
use crate::text::size;
use bytes::Bytes;
use std::collections::BTreeMap;

/// Bytes of the probe: more than one packet, and not much.
pub(super) const PROBE_BYTES: usize = 64 << 10;
/// Probes that may be left by earlier ones whose credentials could not delete, before one of them is written again.
const LEFT_MAX: u8 = 16;
/// Whose incomplete objects a probe's are.
const OWNER: &str = "probe";

/// Whether what was removed is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removing {
    /// It is.
    Works,
    /// These credentials may not.
    NotAllowed,
    /// It is still there, for this reason.
    Fails(String),
    /// The bucket would keep it.
    NotTried,
}

/// What was found out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Findings {
    /// The listing shows what was written, with its length.
    pub lists: bool,
    /// A part of an object reads as that part.
    pub reads_ranges: bool,
    /// What was removed is gone.
    pub removing: Removing,
    /// The object that could not be removed.
    pub left: Option<ObjectName>,
    /// What the store does with what was removed, where it says so.
    pub keeping: Option<Keeping>,
}

impl Findings {
    /// The same in words.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let say = |is_so, yes: &str, no: &str| if is_so { yes.to_owned() } else { no.to_owned() };
        let mut lines = vec![
            "writing and reading back: the same bytes".to_owned(),
            say(
                self.lists,
                "listing: shows what was written, at once",
                "listing: does not show what was just written; a sync may have to be run again",
            ),
            say(
                self.reads_ranges,
                "reading a part: right",
                "reading a part: wrong bytes; only whole objects will be read right",
            ),
            match &self.removing {
                Removing::Works => "removing: works".to_owned(),
                Removing::NotAllowed => "removing: these credentials may not. So nobody can empty the mirror with them, and it only grows: sync it with \
                    --no-delete"
                    .to_owned(),
                Removing::NotTried => "removing: not tried, because the bucket keeps what is removed".to_owned(),
                Removing::Fails(why) => format!("removing: does not work, so nothing on it can ever be freed ({why})"),
            },
        ];
        if let Some(keeping) = self.keeping {
            lines.push(explain(keeping));
        }
        if let Some(left) = &self.left {
            lines.push(format!("the object that was written for this stays there: {left}, {} KiB", PROBE_BYTES >> 10));
        }
        lines
    }
}

/// What it means that a bucket keeps what was removed.
fn explain(keeping: Keeping) -> String {
    match keeping.lock {
        Some(Lock { for_everybody, days: Some(days) }) => {
            let days = size::counted(days, "day", "days");
            let who = if for_everybody { "nobody" } else { "nobody without a special right" };
            format!(
                "object lock: each object stays {days} from when it was stored, and {who} can change that. What is deleted there frees no space before \
                 then, and nobody can empty the mirror"
            )
        }
        Some(Lock { days: None, .. }) => "object lock: it is on, and has no default, so it protects nothing that is sent; earlier versions stay. What is \
            deleted there frees no space until a lifecycle rule of the bucket removes them"
            .to_owned(),
        None => "versioning: what is deleted there stays as an earlier version, and frees no space until a lifecycle rule of the bucket removes it"
            .to_owned(),
    }
}

/// The object of a repository's probe, and its name.
fn object(repository: RepositoryId, number: u8) -> (ObjectName, Vec<u8>) {
    let mut bytes = vec![0; PROBE_BYTES];
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"packstone probe").update(repository.as_bytes()).update(&[number]);
    hasher.finalize_xof().fill(&mut bytes);
    (ObjectName::Pack(ObjectId::of(&bytes)), bytes)
}

/// Tries the store as a mirror of this repository.
///
/// # Errors
/// [`Error::Mirror`] when something else lies there: nothing is written then. [`Error::Refused`] when what is read back is not what was written; a
/// storage error when it cannot be listed, written or read.
pub fn run(store: &dyn MirrorStore, view: &PublicView) -> Result<Findings> {
    let failed = |error: storage::Error| match error.kind {
        ErrorKind::Interrupted => Error::Interrupted,
        _ => repository::Error::from(error).into(),
    };
    let (listed, strays) = store.list_all().map_err(failed)?;
    let there: BTreeMap<ObjectName, u64> = listed.into_iter().map(|found| (found.name, found.length)).collect();
    recognise(view, store, &there, &strays)?;
    let _ = store.clean_leftovers(OWNER);
    let mut objects = (0..LEFT_MAX).map(|number| object(view.id(), number));
    // What an earlier one left is removed, or another name is taken, which the listing does not show yet.
    let is_free = |name: &ObjectName| !there.contains_key(name) || store.discard(name).is_ok();
    let keeping = store.keeping();
    let is_kept = keeping.is_some_and(|keeping| keeping.versions);
    let free = if is_kept { None } else { objects.find(|(name, _)| is_free(name)) };
    let (name, bytes) = free.unwrap_or_else(|| object(view.id(), 0));
    let body = Bytes::from(bytes);
    let is_there = is_kept && there.get(&name) == Some(&(PROBE_BYTES as u64));
    let send = || store.send(&name, &body, &Uplink { owner: OWNER, ..Uplink::default() });
    if let Err(error) = if is_there { Ok(()) } else { send() } {
        // It may have arrived. A store that does not answer is not waited for again: the next one knows the name.
        if error.kind != ErrorKind::Unavailable && !is_kept {
            let _ = store.discard(&name);
            let _ = store.list_all().and_then(|_| store.clean_leftovers(OWNER));
        }
        return Err(failed(error));
    }
    let whole = store.read(&name, PROBE_BYTES as u64);
    let listed = store.list_all();
    let part = store.read_range(&name, 1_000, 3_000);
    let (removing, left) = if is_kept { (Removing::NotTried, true) } else { remove(store, &name)? };
    let (listed, _) = listed.map_err(failed)?;
    if whole.map_err(failed)? != body {
        return Err(Error::Refused(
            "this store returns other bytes than it was given: no mirror can be kept there".to_owned(),
        ));
    }
    Ok(Findings {
        lists: listed.iter().any(|found| found.name == name && found.length == PROBE_BYTES as u64),
        reads_ranges: part.is_ok_and(|part| Some(part.as_slice()) == body.get(1_000..4_000)),
        removing,
        left: left.then_some(name),
        keeping,
    })
}

/// Removes the object, and says whether it is still there.
fn remove(store: &dyn MirrorStore, name: &ObjectName) -> Result<(Removing, bool)> {
    let removed = store.discard(name);
    let is_there = match store.length(name) {
        Err(error) if error.kind == ErrorKind::Interrupted => return Err(Error::Interrupted),
        Err(error) => error.kind != ErrorKind::Absent,
        Ok(_) => true,
    };
    let removing = match removed {
        Ok(()) if is_there => Removing::Fails("it says that it did, and it is still there".to_owned()),
        Ok(()) => Removing::Works,
        Err(error) if error.kind == ErrorKind::Denied || error.cause == Some(Cause::NoRight) => Removing::NotAllowed,
        Err(error) => Removing::Fails(error.to_string()),
    };
    Ok((removing, is_there))
}

#[cfg(test)]
mod tests;
