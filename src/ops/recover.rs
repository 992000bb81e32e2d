//! `recover`: a repository comes back from mirrors alone, as far as they have it. format-spec/mirror.md.
//!
//! # Order of writes, and what a crash leaves
//!
//! | step | a crash before the next step leaves |
//! |---|---|
//! | 1. key slots, packs, segments, snapshots, each hashed before it gets its name; what no mirror has sound is left out | objects without a config: no repository, and the same command goes on |
//! | 2. the checkpoint and the head; newer heads that cannot be read | as above |
//! | 3. the config | a repository of that head: the same command finds it so ([`is_same`]) and fetches what it lacks still |
//!
//! Whoever makes a plan and carries it out holds the writer lock of the target: another recover, or a backup into what an earlier one has made
//! meanwhile, would store what this one puts aside.
//!
//! What an earlier attempt stored is made durable before the config is: it may have been killed between a name and its fsync.
//!
//! # Invariants
//!
//! - Nothing gets a name whose bytes do not hash to it, but for newer heads that cannot be read: they say that this is not the newest state.
//! - What is lacking is not there. There is no other record of it that could be lost: whoever publishes looks for every live pack first
//!   ([`crate::repository::run`]), and nobody deletes on a mirror because something is absent here.
//! - There is a config only where the repository opens: its head, that one's checkpoint and a key slot are there.
//! - A store that does not answer has lost nothing: where no mirror says anything of an object, the recovery ends without a config.

use crate::base::lock::{into_inner, lock};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use super::mirror_error::MirrorError;
use super::{Error, Monitor, Phase, Result};
use crate::base::threads;
use crate::codec::config::CONFIG_BYTES;
use crate::codec::head::HeadRef;
use crate::codec::head_code::HeadCode;
use crate::repository;
use crate::repository::chain::{self, Tip};
use crate::repository::public_view::{self, Needed, PublicView, Survey};
use crate::storage::several::Several;
use crate::storage::{self, ErrorKind, Folder, ObjectName, Storage};

/// The newest head on a mirror that is whole.
///
/// # Errors
/// [`repository::Error::UnreadableHead`] when a newer one is damaged: an older state must not pass for the newest.
pub fn newest(mirror: &PublicView) -> Result<Tip> {
    mirror.tip().require_readable()?;
    Ok(mirror.tip().clone())
}

/// The newest head that can be read. Newer ones may be there that are damaged: [`Tip::unreadable_heads`].
///
/// # Errors
/// [`repository::Error::UnreadableHead`] when a newer program wrote a newer one: nothing is wrong with it.
pub fn readable(mirror: &PublicView) -> Result<Tip> {
    match &mirror.tip().unreadable {
        Some((_, found)) if found.is_newer() => newest(mirror),
        _ => Ok(mirror.tip().clone()),
    }
}

/// What will be fetched.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The head that comes back.
    pub head: HeadRef,
    /// What it needs, the config last.
    pub needs: Vec<Needed>,
    /// What of that the target lacks.
    pub fetch: Vec<Needed>,
    /// Newer heads that cannot be read. They come as they are.
    pub unreadable: Vec<ObjectName>,
    /// Segments that are lost. Every pack comes that may be one of theirs.
    pub broken_segments: usize,
    config: Vec<u8>,
    /// The target has its config already.
    is_repository: bool,
}

impl Plan {
    /// True when everything is there, and was read: an earlier attempt got so far.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.is_repository && self.fetch.is_empty()
    }

    /// True when a repository lies at the target. It is left alone unless it [`is_same`].
    #[must_use]
    pub const fn is_repository(&self) -> bool {
        self.is_repository
    }

    /// Bytes to be fetched, as far as they are known.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.fetch.iter().filter_map(|needed| needed.length).sum()
    }
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Report {
    /// What no mirror has sound, by name.
    pub lacking: Vec<Lacking>,
}

/// An object that did not come.
#[derive(Debug)]
pub struct Lacking {
    /// Which.
    pub object: ObjectName,
    /// What each mirror said of it that was asked.
    pub said: Vec<(String, repository::Error)>,
}

impl Lacking {
    /// The mirrors that were asked, and what is wrong on each.
    #[must_use]
    pub fn reasons(&self) -> Vec<(String, String)> {
        self.said.iter().map(|(mirror, error)| (mirror.clone(), super::check::reason(error))).collect()
    }
}

impl Report {
    /// Refuses what is not whole.
    ///
    /// # Errors
    /// What was said of the first object that is lacking.
    pub fn require_whole(self) -> Result<()> {
        match self.lacking.into_iter().flat_map(|lacking| lacking.said).next() {
            Some((_, error)) => Err(error.into()),
            None => Ok(()),
        }
    }
}

/// Whether `target`, which has a config, is what the mirror's head of `tip` makes and nothing else: an earlier attempt was cut off behind that, or
/// brought what there was. Anything else there is somebody's repository, or one that was written to since.
#[must_use]
pub fn is_same(mirror: &PublicView, tip: &Tip, target: &dyn Storage) -> bool {
    let config = target.read(&ObjectName::Config, CONFIG_BYTES as u64);
    let is_known = |head: &ObjectName| tip.unreadable_heads().contains(head);
    config.is_ok_and(|config| config == mirror.config_bytes())
        && chain::newest(target, mirror.verifying_key(), mirror.id()).is_ok_and(|there| {
            there.reference() == tip.reference()
                && there.unreadable_heads().iter().all(is_known)
                && there.incomplete.is_none()
        })
}

/// Works out what `target` lacks of the head of `tip`, which is one of the mirror's.
///
/// # Errors
/// A store that does not answer; no key slot; [`Error::Conflict`] when something else lies at the target.
pub fn plan(mirror: &PublicView, tip: &Tip, target: &dyn Storage) -> Result<Plan> {
    let Survey { mut needs, broken_segments } = public_view::survey(mirror.storage(), mirror.id(), tip, false)?;
    if broken_segments > 0 {
        add_unlisted(mirror, tip, &mut needs)?;
    }
    // Last, as in `init`: with its config the target is a repository.
    needs.rotate_left(1);
    let mut there = BTreeMap::new();
    for folder in Folder::ALL {
        for found in target.list(folder).map_err(repository::Error::from)? {
            there.insert(found.name, found.length);
        }
    }
    match target.read(&ObjectName::Config, CONFIG_BYTES as u64) {
        Ok(config) if config == mirror.config_bytes() => {
            there.insert(ObjectName::Config, CONFIG_BYTES as u64);
        }
        Ok(_) => {
            return Err(Error::Conflict("another repository lies at the target: choose an empty directory".to_owned()));
        }
        Err(error) if error.kind == ErrorKind::Absent => {}
        Err(error) => return Err(repository::Error::from(error).into()),
    }
    // A key slot that the mirror has lost, or never got, must not keep the others from opening what comes back.
    let keys = mirror.storage().list(Folder::Keys).map_err(repository::Error::from)?;
    needs.retain(|needed| {
        !matches!(needed.name, ObjectName::Key(_)) || keys.iter().any(|found| found.name == needed.name)
    });
    // Without any, nobody could open it.
    if !needs.iter().any(|needed| matches!(needed.name, ObjectName::Key(_))) {
        let slots = tip.state.slots.len();
        let first = "not one key slot is there".to_owned();
        return Err(MirrorError::Incomplete {
            generation: tip.reference().generation,
            missing: slots,
            of: slots,
            first,
            behind: None,
        }
        .into());
    }
    // What lies there may be what is left of a damaged repository: its length says nothing.
    let is_there = |needed: &&Needed| {
        let listed = needed.length.is_none_or(|length| there.get(&needed.name) == Some(&length));
        there.contains_key(&needed.name)
            && listed
            && public_view::verify(target, needed, mirror.config_bytes(), &mut |_| ()).is_ok()
    };
    let fetch = needs.iter().filter(|needed| !is_there(needed)).copied().collect();
    let is_repository = there.contains_key(&ObjectName::Config);
    let (head, config) = (tip.reference(), mirror.config_bytes().to_vec());
    // Those of the checkpoint and the head are among the needs.
    let is_needed = |head: &ObjectName| needs.iter().any(|needed| needed.name == *head);
    let unreadable = tip.unreadable_heads().iter().filter(|head| !is_needed(head)).copied().collect();
    Ok(Plan { head, needs, fetch, unreadable, broken_segments, config, is_repository })
}

/// Adds every pack that lies there, in no segment that can be read, and that the head has not given up: one of a segment that is lost, or one that a
/// backup left which did not end. `repair index` finds out what they hold.
fn add_unlisted(mirror: &PublicView, tip: &Tip, needs: &mut Vec<Needed>) -> Result<()> {
    let known: BTreeSet<ObjectName> = needs.iter().map(|needed| needed.name).collect();
    for found in mirror.storage().list(Folder::Packs).map_err(repository::Error::from)? {
        if found.name.id().is_some_and(|id| tip.state.keeps(&id)) && !known.contains(&found.name) {
            needs.push(Needed { name: found.name, length: Some(found.length) });
        }
    }
    Ok(())
}

/// Fetches what the plan says, `parallel` objects at a time, each from the first of `copies` that has it sound. Those are what `mirror` reads.
///
/// # Errors
/// [`Error::Interrupted`]; no mirror answers; the target cannot be written; what is needed to open the repository is lost. Then the target is no
/// repository yet, and what was fetched stays.
pub fn execute(
    copies: &Several,
    target: &dyn Storage,
    plan: &Plan,
    parallel: usize,
    monitor: &dyn Monitor,
) -> Result<Report> {
    monitor.phase(Phase::Fetch);
    monitor.expect(plan.fetch.len() as u64, plan.bytes(), true);
    if plan.is_done() {
        // It may be in use by now: it is made durable, and nothing else.
        settle(target, plan, &BTreeSet::new(), monitor)?;
        return Ok(Report::default());
    }
    target.clean_temporary().map_err(repository::Error::from)?;
    let fetched: BTreeSet<ObjectName> = plan.fetch.iter().map(|needed| needed.name).collect();
    let is_last = |needed: &&Needed| matches!(needed.name, ObjectName::Config | ObjectName::Head { .. });
    let bulk: Vec<Needed> = plan.fetch.iter().filter(|needed| !is_last(needed)).copied().collect();
    let queue = Mutex::new(bulk.into_iter());
    let failed: Mutex<Option<Error>> = Mutex::new(None);
    let lacking: Mutex<Vec<Lacking>> = Mutex::default();
    let stop = AtomicBool::new(false);
    let work = || {
        while !stop.load(Ordering::Relaxed) && !monitor.interrupted() {
            let next = lock(&queue).next();
            let Some(needed) = next else { return };
            match fetch(copies, target, plan, &needed, monitor) {
                Ok(None) => {}
                Ok(Some(lost)) => lock(&lacking).push(lost),
                Err(error) => {
                    stop.store(true, Ordering::Relaxed);
                    lock(&failed).get_or_insert(error);
                }
            }
        }
    };
    threads::share(parallel, work);
    if let Some(error) = into_inner(failed) {
        return Err(error);
    }
    if monitor.interrupted() {
        return Err(Error::Interrupted);
    }
    let mut lacking = into_inner(lacking);
    lacking.sort_unstable_by_key(|lost| lost.object);
    if !lacking.is_empty() {
        require_there(copies, target, plan, &mut lacking)?;
    }
    if !plan.is_repository {
        // A newer head that an earlier attempt left would be the one that is believed.
        for found in target.list(Folder::Heads).map_err(repository::Error::from)? {
            if !plan.needs.iter().any(|needed| needed.name == found.name) && !plan.unreadable.contains(&found.name) {
                target.set_aside(&found.name).map_err(repository::Error::from)?;
            }
        }
    }
    settle(target, plan, &fetched, monitor)?;
    let last = plan.fetch.iter().filter(is_last);
    let (config, heads): (Vec<_>, Vec<_>) = last.partition(|needed| needed.name == ObjectName::Config);
    for needed in heads {
        if monitor.interrupted() {
            return Err(Error::Interrupted);
        }
        if let Some(lost) = fetch(copies, target, plan, needed, monitor)? {
            Report { lacking: vec![lost] }.require_whole()?;
        }
    }
    for head in &plan.unreadable {
        put_unreadable(copies, target, head)?;
    }
    if monitor.interrupted() {
        return Err(Error::Interrupted);
    }
    for needed in config {
        target.put(&needed.name, &plan.config).map_err(repository::Error::from)?;
        monitor.advance(1, needed.length.unwrap_or_default());
    }
    Ok(Report { lacking })
}

/// What is lacking is lacking, and not a mirror that went away meanwhile; and the rest opens.
fn require_there(copies: &Several, target: &dyn Storage, plan: &Plan, lacking: &mut Vec<Lacking>) -> Result<()> {
    let is_key = |name: &ObjectName| matches!(name, ObjectName::Key(_));
    let mut keys = plan.needs.iter().filter(|needed| is_key(&needed.name));
    if keys.all(|needed| target.length(&needed.name).is_err()) {
        let keys = lacking.drain(..).filter(|lost| is_key(&lost.object)).collect();
        return Report { lacking: keys }.require_whole();
    }
    for copy in copies.answering() {
        // A disk that was taken out, or a bucket that was removed, has nothing of what it had a moment ago.
        let is_blamed = |(name, error): &(String, repository::Error)| {
            *name == copy.name && !matches!(error, repository::Error::Damaged { .. })
        };
        if !lacking.iter().any(|lost| lost.said.iter().any(is_blamed)) {
            continue;
        }
        let error = match copy.storage().list(Folder::Heads) {
            Ok(heads) if !heads.is_empty() => continue,
            Ok(_) => repository::Error::NoHead { found: 0 },
            Err(error) => error.into(),
        };
        if !copies.has_others() {
            return Err(error.into());
        }
        copy.give_up(&error.to_string());
    }
    match copies.answering().next() {
        Some(_) => Ok(()),
        None => Report { lacking: std::mem::take(lacking) }.require_whole(),
    }
}

/// Makes durable what an earlier attempt has stored. What was fetched now is durable, or lacking.
fn settle(target: &dyn Storage, plan: &Plan, fetched: &BTreeSet<ObjectName>, monitor: &dyn Monitor) -> Result<()> {
    for found in plan.needs.iter().filter(|needed| !fetched.contains(&needed.name)) {
        if monitor.interrupted() {
            return Err(Error::Interrupted);
        }
        target.settle(&found.name).map_err(repository::Error::from)?;
    }
    Ok(())
}

/// A newer head that cannot be read: with it under its name everybody who opens what came back knows that this is not the newest state, and
/// `repair heads` knows what to look for.
fn put_unreadable(copies: &Several, target: &dyn Storage, head: &ObjectName) -> Result<()> {
    match target.length(head) {
        Ok(_) => return Ok(target.settle(head).map_err(repository::Error::from)?),
        Err(error) if error.kind == ErrorKind::Absent => {}
        Err(error) => return Err(repository::Error::from(error).into()),
    }
    let bytes = match copies.read(head, chain::HEAD_BYTES_MAX) {
        Ok(bytes) => bytes,
        // No byte of it can be read, or it is far too long. An empty file says as much.
        Err(error) if error.kind.is_about_object() || error.kind == ErrorKind::Device => Vec::new(),
        Err(error) => return Err(repository::Error::from(error).into()),
    };
    target.put(head, &bytes).map_err(repository::Error::from)?;
    Ok(())
}

/// Where it failed.
enum Failed {
    /// The mirror.
    There(repository::Error),
    /// The target.
    Here(storage::Error),
}

/// Fetches one object; what each mirror said of it, when none has it sound.
fn fetch(
    copies: &Several,
    target: &dyn Storage,
    plan: &Plan,
    needed: &Needed,
    monitor: &dyn Monitor,
) -> Result<Option<Lacking>> {
    let mut said = Vec::new();
    // So many of its bytes were reported; none of a head, whose length is not known before.
    let mut reported = 0;
    for copy in copies.answering() {
        let mut bring = || bring(copy.storage(), target, plan, needed, &mut reported, monitor);
        let brought = match bring() {
            // A reading that broke off and went on may have mixed two.
            Err(Failed::There(repository::Error::Damaged { .. })) if !monitor.interrupted() => bring(),
            other => other,
        };
        let error = match brought {
            Ok(()) => {
                monitor.advance(1, 0);
                return Ok(None);
            }
            Err(Failed::Here(error)) => return Err(repository::Error::from(error).into()),
            Err(_) if monitor.interrupted() => return Err(Error::Interrupted),
            Err(Failed::There(error)) => error,
        };
        if let repository::Error::Storage(failed) = &error
            && failed.kind.is_general()
        {
            // What this process has run out of, or that somebody wants an end, says nothing of a mirror.
            if !copies.has_others() || matches!(failed.kind, ErrorKind::Interrupted | ErrorKind::Shortage) {
                return Err(error.into());
            }
            copy.give_up(&failed.to_string());
        }
        said.push((copy.name.clone(), error));
    }
    if said.iter().any(|(_, error)| error.is_lost()) {
        monitor.skip(1, needed.length.unwrap_or_default().saturating_sub(reported));
        return Ok(Some(Lacking { object: needed.name, said }));
    }
    // None of those who were asked has said anything of it.
    let unknown = || {
        let silent = copies.copies().iter().find_map(|copy| copy.silent()).unwrap_or("no mirror answers");
        let error = storage::Error::new("read", needed.name, std::io::Error::other(silent.to_owned()));
        repository::Error::from(error.with_kind(ErrorKind::Unavailable))
    };
    Err(said.into_iter().next().map_or_else(unknown, |(_, error)| error).into())
}

fn bring(
    mirror: &dyn Storage,
    target: &dyn Storage,
    plan: &Plan,
    needed: &Needed,
    reported: &mut u64,
    monitor: &dyn Monitor,
) -> std::result::Result<(), Failed> {
    let mut upload = target.create().map_err(Failed::Here)?;
    let (mut written, mut read) = (Ok(()), 0_u64);
    if *reported > 0 {
        monitor.repeat(*reported, 0);
    }
    let read = public_view::stream_verified(mirror, needed, &plan.config, &mut |piece| {
        if monitor.interrupted() {
            return Err(interrupted(needed));
        }
        written = upload.append(piece);
        let length = if needed.length.is_some() { piece.len() as u64 } else { 0 };
        // What an attempt before has read comes again.
        let again = length.min(reported.saturating_sub(read));
        read += length;
        *reported = read.max(*reported);
        monitor.advance(0, length - again);
        if again > 0 {
            monitor.repeat(0, again);
        }
        // Reading ends here. The error of the write is returned below.
        if written.is_ok() { Ok(()) } else { Err(interrupted(needed)) }
    });
    written.map_err(Failed::Here)?;
    match read {
        Err(repository::Error::Storage(error)) if error.kind == ErrorKind::Absent => {
            let generation = plan.head.generation;
            return Err(Failed::There(repository::Error::Missing { object: needed.name, generation }));
        }
        read => read.map_err(Failed::There)?,
    };
    // What has the right name and a wrong length was not put there by us: a rename is the last thing that we do.
    if target.length(&needed.name).is_ok() {
        target.set_aside(&needed.name).map_err(Failed::Here)?;
    }
    upload.finish(&needed.name).map_err(Failed::Here)?;
    Ok(())
}

fn interrupted(needed: &Needed) -> storage::Error {
    storage::Error::new("read", needed.name, std::io::ErrorKind::Interrupted.into())
}

/// Where copies of one repository are read as one: refuses two histories of it. A head that is neither the newest one nor among those that it
/// follows is of another.
///
/// # Errors
/// [`repository::Error::Fork`]; the mirrors do not answer.
pub fn require_one_history(mirror: &PublicView) -> Result<()> {
    let tip = mirror.tip();
    let newest = tip.reference();
    for found in mirror.storage().list(Folder::Heads).map_err(repository::Error::from)? {
        let ObjectName::Head { generation, id } = found.name else { continue };
        let one = HeadRef { generation, id };
        if one == newest || generation > newest.generation || tip.state.is_ancestor(generation, &id) {
            continue;
        }
        match chain::at(mirror.storage(), mirror.verifying_key(), mirror.id(), one) {
            Err(error) if error.is_unavailable() => return Err(error.into()),
            // Its checkpoint is lost, and it is signed all the same.
            Err(repository::Error::Missing { object, .. } | repository::Error::Damaged { object, .. })
                if object != found.name => {}
            // None of ours, or nobody knows any more what it said.
            Err(_) => continue,
            Ok(_) => {}
        }
        return Err(repository::Error::Fork { one, other: newest }.into());
    }
    Ok(())
}

/// The head on a mirror that a state code names.
///
/// # Errors
/// [`Error::NotFound`] when there is none; storage errors.
pub fn named(mirror: &dyn Storage, code: &HeadCode) -> Result<HeadRef> {
    let listed = mirror.list(Folder::Heads).map_err(repository::Error::from)?;
    let heads = listed.into_iter().filter_map(|found| match found.name {
        ObjectName::Head { generation, id } => Some(HeadRef { generation, id }),
        _ => None,
    });
    heads.into_iter().find(|head| code.matches(head)).ok_or_else(|| {
        Error::NotFound(format!("the mirror has no head of generation {} with this code", code.generation()))
    })
}

/// The newest head of a mirror that is shown as of this one. Another history of the same generation is nobody's business then.
///
/// # Errors
/// [`repository::Error::Missing`] when it is not whole there.
pub fn older(mirror: &PublicView, wanted: HeadRef) -> Result<Tip> {
    let tip = newest(mirror)?;
    if tip.reference() == wanted {
        return Ok(tip);
    }
    Err(repository::Error::Missing { object: chain::name_of(wanted), generation: wanted.generation }.into())
}
