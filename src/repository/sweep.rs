//! Removing what was marked: nothing leaves the disk before a published head says that it never comes back.
//! format-spec/deleting.md.
//!
//! # Order of writes, and what a crash leaves
//!
//! | step | a crash before the next step leaves | who cleans it |
//! |---|---|---|
//! | 1. a head that lists the objects as swept | files that nobody will ever use again | the next sweep |
//! | 2. each file is removed | the rest of them | the next sweep |
//!
//! # Invariants
//!
//! - An object is swept only when it was marked in a generation that every running process knows of: no pin is older.
//!   Who knows of the mark does not use the object, or takes it out of the mark in the head that he publishes, under the same
//!   append lock. Clocks only ever make a sweep later.
//! - A file is removed only when the newest head lists it as swept, and nobody publishes another one meanwhile.

use std::collections::HashSet;
use std::time::Duration;

use super::Repository;
use super::chain::{self, Tip};
use super::error::{Error, Result};
use super::marked::folder;
use super::pin::Pinned;
use super::swept_names::OldNames;
use crate::base::id::ObjectId;
use crate::base::time::Time;
use crate::codec::head::{Head, HeadRef};
use crate::codec::live_state::{Mark, MarkedKind, Sweep};
use crate::storage::{ErrorKind, Folder, ObjectName};

/// What is marked, sorted by what keeps it from being swept.
#[derive(Debug, Clone, Default)]
pub struct Sweepable {
    /// Nothing does.
    pub ready: Vec<(ObjectId, Mark)>,
    /// The grace does.
    pub in_grace: Vec<(ObjectId, Mark)>,
    /// When the first and the last of these will be out of it.
    pub grace_ends: Option<(Time, Time)>,
    /// A running process does.
    pub pinned: Vec<(ObjectId, Mark)>,
    /// The one that relies on the oldest state.
    pub holder: Option<Pinned>,
}

/// What a sweep did.
#[derive(Debug, Clone, Default)]
pub struct Swept {
    /// The head, when one was published.
    pub head: Option<HeadRef>,
    /// What it newly lists as swept.
    pub swept: Vec<(ObjectId, MarkedKind)>,
    /// Files that were removed: those, and what an interrupted sweep left.
    pub removed: u64,
    /// Their bytes.
    pub removed_bytes: u64,
    /// Files that could not be removed, and why; the next sweep tries again.
    pub failed: Vec<(ObjectName, String)>,
}

/// Packs whose files were moved, with where they are, and who keeps the others where they were.
pub type Quarantined = (Vec<(ObjectId, String)>, Option<Pinned>);

impl Repository {
    /// The earliest time that any kept head gives, this one among them.
    pub(super) fn earliest_head_time(&self, tip: &Tip) -> Result<Time> {
        let times = self.heads()?.into_iter().filter_map(|(_, name)| {
            let bytes = self.storage().read(&name, chain::HEAD_BYTES_MAX).ok()?;
            Some(Head::parse(&bytes, &self.config().verifying_key, self.id()).ok()?.time())
        });
        Ok(times.chain([tip.head.time()]).min().unwrap_or_default())
    }

    /// The names of all heads, oldest first.
    fn heads(&self) -> Result<Vec<(u64, ObjectName)>> {
        let mut heads: Vec<_> = self
            .storage()
            .list(Folder::Heads)?
            .into_iter()
            .filter_map(|found| match found.name {
                ObjectName::Head { generation, .. } => Some((generation, found.name)),
                _ => None,
            })
            .collect();
        heads.sort_unstable_by_key(|(generation, _)| *generation);
        Ok(heads)
    }

    /// What of all that is marked could be swept now.
    ///
    /// # Errors
    /// The pins or the heads cannot be listed.
    pub fn sweepable(&self, grace: Duration, now: Time) -> Result<Sweepable> {
        let tip = self.tip();
        let mut sweepable = Sweepable::default();
        if tip.state.marked.is_empty() {
            return Ok(sweepable);
        }
        let oldest = self.oldest_pin()?;
        // A repair of the index marks packs that are gone. Swept, a copy that turns up could never come back.
        let packs: HashSet<ObjectId> =
            self.storage().list(Folder::Packs)?.into_iter().filter_map(|found| found.name.id()).collect();
        let mut pinned_since = None;
        for (id, mark) in &tip.state.marked {
            if mark.kind == MarkedKind::Pack && !packs.contains(id) {
                continue;
            }
            let entry = (*id, *mark);
            let ends = Time::from_seconds(mark.time.saturating_add_unsigned(grace.as_secs()));
            if !grace.is_zero() && !mark.replaced && ends > now {
                let (first, last) = sweepable.grace_ends.unwrap_or((ends, ends));
                sweepable.grace_ends = Some((first.min(ends), last.max(ends)));
                sweepable.in_grace.push(entry);
            } else if oldest.as_ref().is_some_and(|pinned| pinned.generation < mark.since) {
                pinned_since = pinned_since.max(Some(mark.since));
                sweepable.pinned.push(entry);
            } else {
                sweepable.ready.push(entry);
            }
        }
        sweepable.holder = oldest.filter(|_| pinned_since.is_some());
        Ok(sweepable)
    }

    /// Sweeps what was replaced, and removes it, unless another process relies on it. From now on this one relies on the newest head alone.
    ///
    /// # Errors
    /// As [`Repository::pin_newest`] and [`Repository::sweep`].
    fn sweep_replaced(&self, now: Time) -> Result<Swept> {
        if !self.tip().state.marked.values().any(|mark| mark.replaced) {
            return Ok(Swept::default());
        }
        self.pin_newest()?;
        let mut ready = self.sweepable(Duration::MAX, now)?.ready;
        ready.retain(|(_, mark)| mark.replaced);
        if ready.is_empty() { Ok(Swept::default()) } else { self.sweep(&ready, now) }
    }

    /// Sweeps what was replaced, and removes it, unless another process relies on it: after something was acknowledged that no failure takes
    /// back, so one becomes a warning. From now on this process relies on the newest head alone.
    pub fn sweep_replaced_or_warn(&self) {
        if let Err(error) = self.sweep_replaced(Time::now()) {
            self.warn(format!(
                "small packs that were merged are there still, and the next backup removes them: {error}"
            ));
        }
    }

    /// Publishes what is `ready` as swept, and then removes the files of everything that is. Whatever was revived in the
    /// meantime stays.
    ///
    /// # Errors
    /// The head could not be published: nothing changed. Files that could not be removed are no error.
    /// [`Error::Interrupted`] when somebody wants an end: the next sweep goes on.
    pub fn sweep(&self, ready: &[(ObjectId, Mark)], now: Time) -> Result<Swept> {
        let mut swept = Swept::default();
        if !ready.is_empty() {
            let mut done = Vec::new();
            // What cannot be looked into keeps its names: nothing depends on their leaving.
            let old = OldNames::find(self, now).unwrap_or_default();
            // A clock that is behind must not make a name look old.
            let since = now.seconds.max(self.tip().head.time().seconds);
            let head = self.append(|state, _| {
                for (id, mark) in ready {
                    if state.marked.get(id) == Some(mark) {
                        state.marked.remove(id);
                        state.swept.insert(*id, Sweep { kind: mark.kind, since });
                        done.push((*id, mark.kind));
                    }
                }
                old.leave(state);
                Ok(())
            })?;
            swept.head = Some(head);
            swept.swept = done;
        }
        self.remove_swept(&mut swept)?;
        if swept.removed > 0 {
            self.keep_ballast_after_sweep();
        }
        Ok(swept)
    }

    /// Moves the files of marked packs to the quarantine: those that are marked still, under the append lock, so that nobody revives one
    /// meanwhile, and that no process relies on. Returns where they are, and who keeps the others.
    ///
    /// # Errors
    /// The newest head or the pins cannot be read; a file cannot be moved.
    pub fn quarantine(&self, packs: &[ObjectId]) -> Result<Quarantined> {
        let _append = self.lock_append()?;
        self.refresh()?;
        let (tip, oldest) = (self.tip(), self.oldest_pin()?);
        let (mut moved, mut holder) = (Vec::new(), None);
        for id in packs {
            let Some(mark) = tip.state.marked.get(id) else { continue };
            if let Some(pinned) = oldest.as_ref().filter(|pinned| pinned.generation < mark.since) {
                holder = Some(pinned.clone());
                continue;
            }
            moved.push((*id, self.storage().set_aside(&ObjectName::Pack(*id))?));
        }
        Ok((moved, holder))
    }

    /// The names are asked for again under the append lock: since the newest head was read one may have left the list, its file been
    /// copied back, and a backup have taken that over.
    fn remove_swept(&self, swept: &mut Swept) -> Result<()> {
        let mut found = Vec::new();
        for kind in MarkedKind::ALL {
            let state = self.tip().state;
            let is_swept = |id: &ObjectId| state.swept.get(id).is_some_and(|sweep| sweep.kind == kind);
            if state.swept.values().any(|sweep| sweep.kind == kind) {
                let listed = self.storage().list(folder(kind))?.into_iter();
                let named = listed.filter_map(|listed| Some((listed.name.id()?, listed)));
                found.extend(named.filter(|(id, _)| is_swept(id)).map(|(id, listed)| (id, kind, listed)));
            }
        }
        for (number, batch) in found.chunks(REMOVED_AT_ONCE).enumerate() {
            if number > 0 {
                // Who waits to publish looks ten times a second.
                std::thread::sleep(LET_OTHERS_PUBLISH);
                // What was published stays true: the next sweep removes the rest.
                if self.access.locks.is_ended() {
                    return Err(Error::Interrupted);
                }
            }
            let newest = self.lock_append().and_then(|append| self.refresh().map(|()| append));
            let append = match newest.and_then(|append| self.tip().require_sound().map(|()| append)) {
                Ok(append) => append,
                Err(Error::Interrupted) => return Err(Error::Interrupted),
                Err(error) => {
                    swept.failed.extend(batch.iter().map(|(_, _, listed)| (listed.name, error.to_string())));
                    break;
                }
            };
            let state = self.tip().state;
            for (id, kind, listed) in batch {
                if state.swept.get(id).is_none_or(|sweep| sweep.kind != *kind) {
                    continue;
                }
                match self.storage().remove(&listed.name) {
                    Ok(()) => {
                        swept.removed += 1;
                        swept.removed_bytes += listed.length;
                    }
                    Err(error) if error.kind == ErrorKind::Absent => {}
                    Err(error) => swept.failed.push((listed.name, error.to_string())),
                }
            }
            drop(append);
        }
        Ok(())
    }

    /// Removes heads that nobody needs: all but the newest [`HEADS_KEPT`], their checkpoints, and those that a running process has
    /// pinned. Returns how many.
    ///
    /// # Errors
    /// The heads or pins cannot be listed.
    pub fn thin_heads(&self) -> Result<u64> {
        self.thin_heads_above(0)
    }

    /// As [`Repository::thin_heads`], when there are more heads than so many.
    pub(super) fn thin_heads_above(&self, count: usize) -> Result<u64> {
        let tip = self.tip();
        let newest = tip.reference().generation;
        let Some(limit) = newest.checked_sub(HEADS_KEPT) else { return Ok(0) };
        let heads = self.heads()?;
        if heads.len() <= count {
            return Ok(0);
        }
        let is_own = |(generation, name): &&(u64, ObjectName)| {
            *generation == newest || name.id().is_some_and(|id| tip.state.is_ancestor(*generation, &id))
        };
        let oldest = self.oldest_pin()?.map_or(u64::MAX, |pinned| pinned.generation);
        let cut = oldest.min(limit + 1);
        // Every later head names the same checkpoint, or one that is kept because it is later itself.
        let Some((_, first)) = heads.iter().find(|head| head.0 >= cut && is_own(head)) else { return Ok(0) };
        let read = chain::readable(self.storage(), first, &self.config().verifying_key, self.id())?;
        // What cannot be read, or is not the head that its name says, may need any of them.
        let Ok(Some(first)) = read else { return Ok(0) };
        let needed = [first.checkpoint().generation, tip.head.checkpoint().generation];
        let mut removed = 0;
        for (_, name) in heads.iter().filter(|head| head.0 < cut && !needed.contains(&head.0) && is_own(head)) {
            removed += u64::from(self.storage().remove(name).is_ok());
        }
        Ok(removed)
    }
}

/// Files that are removed before others may publish again.
const REMOVED_AT_ONCE: usize = 256;
/// How long others may then do so.
const LET_OTHERS_PUBLISH: Duration = Duration::from_millis(200);

/// More heads than so many are thinned by whoever publishes the next one.
pub(super) const HEADS_MAX: usize = 2 * HEADS_KEPT as usize;

/// Heads that are kept besides their checkpoints. format-spec/head.md.
pub const HEADS_KEPT: u64 = 16;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::base::stop::{Stop, StopSignal};
    use crate::codec::chunker::Parameters;
    use crate::codec::key_file::KeyFile;
    use crate::codec::key_slot::Secret;
    use crate::codec::live_state::LiveState;
    use crate::repository::lock::Locks;
    use crate::repository::{Access, fixture};
    use crate::storage::Storage;
    use crate::storage::memory::Memory;
    use std::sync::Arc;

    /// Between two batches of files who wants an end is heard, and the next sweep goes on.
    #[test]
    fn a_sweep_hears_a_stop() {
        let storage = Memory::new();
        drop(fixture::repository(&storage, 1, Parameters::FILES));
        let open = |locks: Locks| {
            let access = Access { locks, ..Access::bare(Arc::new(storage.clone()), "/memory/1".into()) };
            Repository::open(access, &Secret::KeyFile(KeyFile::generate(&[1; 32]))).unwrap()
        };
        let repository = open(Locks::none());
        let packs: Vec<ObjectId> = (0..REMOVED_AT_ONCE + 10)
            .map(|number| {
                let bytes = number.to_le_bytes();
                let id = ObjectId::of(&bytes);
                repository.storage().put(&ObjectName::Pack(id), &bytes).unwrap();
                id
            })
            .collect();
        let mark = |state: &mut LiveState, since| {
            state.marked.extend(packs.iter().map(|id| (*id, Mark::new(MarkedKind::Pack, since))));
            Ok(())
        };
        repository.append(mark).unwrap();
        repository.pin_newest().unwrap();
        let ready = repository.sweepable(Duration::ZERO, Time::now()).unwrap().ready;
        assert_eq!(ready.len(), packs.len());
        drop(repository);
        let stop = StopSignal::new();
        stop.request(Stop::User);
        let count = || storage.list(Folder::Packs).unwrap().len();
        let ended = open(Locks::none().ended_by(stop)).sweep(&ready, Time::now());
        assert!(matches!(ended, Err(Error::Interrupted)), "{ended:?}");
        assert_eq!(count(), 10, "the first batch");
        let swept = open(Locks::none()).sweep(&[], Time::now()).unwrap();
        assert_eq!((swept.removed, count()), (10, 0));
    }

    /// The head that says which checkpoint is needed has the bytes of an older one of ours: nothing is removed that a head needs.
    #[test]
    fn thinning_believes_no_head_that_is_not_what_its_name_says() {
        let storage = Memory::new();
        let repository = fixture::repository(&storage, 1, Parameters::FILES);
        let checkpoint = fixture::fill(&repository);
        let old = storage.list(Folder::Heads).unwrap()[0].name;
        let old = storage.read(&old, chain::HEAD_BYTES_MAX).unwrap();
        for _ in 0..20 {
            repository.append(|_, _| Ok(())).unwrap();
        }
        let (newest, count) = (repository.tip().reference(), || storage.list(Folder::Heads).unwrap().len());
        assert_eq!(repository.tip().head.checkpoint().generation, checkpoint);
        repository.pin_newest().unwrap();
        let heads = repository.heads().unwrap();
        let (_, first) = heads.iter().find(|(generation, _)| *generation > newest.generation - HEADS_KEPT).unwrap();
        let right = storage.read(first, chain::HEAD_BYTES_MAX).unwrap();
        storage.remove(first).unwrap();
        storage.put(first, &old).unwrap();
        let before = count();
        assert_eq!((repository.thin_heads().unwrap(), count()), (0, before));
        storage.remove(first).unwrap();
        storage.put(first, &right).unwrap();
        assert!(repository.thin_heads().unwrap() > 0);
        assert_eq!(count() as u64, HEADS_KEPT + 1, "the newest, and their checkpoint");
        repository.refresh().unwrap();
        assert_eq!(repository.tip().reference(), newest);
    }
}
