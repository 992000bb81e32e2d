//! `recover`: a repository comes back from a mirror alone. format-spec/mirror.md.
//!
//! # Order of writes, and what a crash leaves
//!
//! | step | a crash before the next step leaves |
//! |---|---|
//! | 1. key slots, packs, segments, snapshots, each hashed before it gets its name | objects without a config: no repository, and the same command goes on |
//! | 2. the checkpoint, the head | as above |
//! | 3. the config | a repository, whole for that head: the same command finds it so ([`Plan::is_done`]) |
//!
//! Whoever makes a plan and carries it out holds the writer lock of the target: another recover, or a backup into what an earlier one has made
//! meanwhile, would store what this one puts aside.
//!
//! What an earlier attempt stored is made durable before the config is: it may have been killed between a name and its fsync.

use crate::base::lock::{into_inner, lock};
use std::collections::BTreeSet;
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
use crate::repository::public_view::{self, Needed, PublicView};
use crate::storage::{self, ErrorKind, Folder, ObjectName, Storage};

/// The newest head on a mirror that is whole.
///
/// # Errors
/// [`repository::Error::UnreadableHead`] when a newer one is damaged: an older state must not pass for the newest.
pub fn newest(mirror: &PublicView) -> Result<Tip> {
    mirror.tip().require_readable()?;
    Ok(mirror.tip().clone())
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

    /// True when a repository lies at the target. It is left alone unless it [`is_same`] and [`Plan::is_done`].
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

/// Whether `target`, which has a config, is what the mirror's head of `tip` makes and nothing else: an earlier attempt was cut off when it had
/// fetched everything. Anything else there is somebody's repository, or one that was written to since.
#[must_use]
pub fn is_same(mirror: &PublicView, tip: &Tip, target: &dyn Storage) -> bool {
    let config = target.read(&ObjectName::Config, CONFIG_BYTES as u64);
    config.is_ok_and(|config| config == mirror.config_bytes())
        && chain::newest(target, mirror.verifying_key(), mirror.id()).is_ok_and(|there| {
            there.reference() == tip.reference() && there.unreadable.is_none() && there.incomplete.is_none()
        })
}

/// Works out what `target` lacks of the head of `tip`, which is one of the mirror's.
///
/// # Errors
/// A segment that cannot be read; no key slot; [`Error::Conflict`] when something else lies at the target.
pub fn plan(mirror: &PublicView, tip: &Tip, target: &dyn Storage) -> Result<Plan> {
    let mut needs = public_view::needs(mirror.storage(), mirror.id(), tip)?;
    // Last, as in `init`: with its config the target is a repository.
    needs.rotate_left(1);
    let mut there = std::collections::BTreeMap::new();
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
        }
        .into());
    }
    // What lies there may be what is left of a damaged repository: its length says nothing.
    let is_there = |needed: &&Needed| {
        let listed = needed.length.is_none_or(|length| there.get(&needed.name) == Some(&length));
        there.contains_key(&needed.name) && listed && public_view::verify(target, needed, mirror.config_bytes()).is_ok()
    };
    let fetch = needs.iter().filter(|needed| !is_there(needed)).copied().collect();
    let is_repository = there.contains_key(&ObjectName::Config);
    Ok(Plan { head: tip.reference(), needs, fetch, config: mirror.config_bytes().to_vec(), is_repository })
}

/// Fetches what the plan says, `parallel` packs at a time.
///
/// # Errors
/// [`Error::Interrupted`]; an object that is missing on the mirror, or is not what its name says: then the target is no repository
/// yet, and what was fetched stays.
pub fn execute(
    mirror: &PublicView,
    target: &dyn Storage,
    plan: &Plan,
    parallel: usize,
    monitor: &dyn Monitor,
) -> Result<()> {
    monitor.phase(Phase::Fetch);
    monitor.expect(plan.fetch.len() as u64, plan.bytes(), true);
    if plan.is_done() {
        // It may be in use by now: it is made durable, and nothing else.
        return settle(target, plan, monitor);
    }
    target.clean_temporary().map_err(repository::Error::from)?;
    let is_last = |needed: &&Needed| matches!(needed.name, ObjectName::Config | ObjectName::Head { .. });
    let bulk: Vec<Needed> = plan.fetch.iter().filter(|needed| !is_last(needed)).copied().collect();
    let queue = Mutex::new(bulk.into_iter());
    let failed: Mutex<Option<Error>> = Mutex::new(None);
    let stop = AtomicBool::new(false);
    let work = || {
        while !stop.load(Ordering::Relaxed) && !monitor.interrupted() {
            let next = lock(&queue).next();
            let Some(needed) = next else { return };
            if let Err(error) = fetch(mirror, target, plan, &needed, monitor) {
                stop.store(true, Ordering::Relaxed);
                lock(&failed).get_or_insert(error);
            }
        }
    };
    threads::share(parallel, work);
    if let Some(error) = into_inner(failed) {
        return Err(error);
    }
    // A newer head that an earlier attempt left would be the one that is believed.
    for found in target.list(Folder::Heads).map_err(repository::Error::from)? {
        if !plan.needs.iter().any(|needed| needed.name == found.name) {
            target.set_aside(&found.name).map_err(repository::Error::from)?;
        }
    }
    settle(target, plan, monitor)?;
    for needed in plan.fetch.iter().filter(is_last) {
        if monitor.interrupted() {
            return Err(Error::Interrupted);
        }
        fetch(mirror, target, plan, needed, monitor)?;
    }
    if monitor.interrupted() { Err(Error::Interrupted) } else { Ok(()) }
}

/// Makes durable what an earlier attempt has stored.
fn settle(target: &dyn Storage, plan: &Plan, monitor: &dyn Monitor) -> Result<()> {
    let fetched: BTreeSet<ObjectName> = plan.fetch.iter().map(|needed| needed.name).collect();
    for found in plan.needs.iter().filter(|needed| !fetched.contains(&needed.name)) {
        if monitor.interrupted() {
            return Err(Error::Interrupted);
        }
        target.settle(&found.name).map_err(repository::Error::from)?;
    }
    Ok(())
}

fn fetch(mirror: &PublicView, target: &dyn Storage, plan: &Plan, needed: &Needed, monitor: &dyn Monitor) -> Result<()> {
    let mut upload = target.create().map_err(repository::Error::from)?;
    let mut written = Ok(());
    let read = public_view::stream_verified(mirror.storage(), needed, &plan.config, &mut |piece| {
        if monitor.interrupted() {
            return Err(interrupted(needed));
        }
        written = upload.append(piece);
        monitor.advance(0, piece.len() as u64);
        // Reading ends here. The error of the write is returned below.
        if written.is_ok() { Ok(()) } else { Err(interrupted(needed)) }
    });
    written.map_err(repository::Error::from)?;
    match read {
        Err(_) if monitor.interrupted() => return Err(Error::Interrupted),
        Err(repository::Error::Storage(error)) if error.kind == ErrorKind::Absent => {
            let generation = plan.head.generation;
            return Err(repository::Error::Missing { object: needed.name, generation }.into());
        }
        read => read?,
    };
    // What has the right name and a wrong length was not put there by us: a rename is the last thing that we do.
    if target.length(&needed.name).is_ok() {
        target.set_aside(&needed.name).map_err(repository::Error::from)?;
    }
    upload.finish(&needed.name).map_err(repository::Error::from)?;
    monitor.advance(1, 0);
    Ok(())
}

fn interrupted(needed: &Needed) -> storage::Error {
    storage::Error::new("read", needed.name, std::io::ErrorKind::Interrupted.into())
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
