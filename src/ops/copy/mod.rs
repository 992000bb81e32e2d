//! `copy`: snapshots of one repository into another, with other keys and other chunks.
//!
//! The id of a chunk is keyed and cuts are the repository's own, so contents are read, checked against the source's ids and
//! digests, cut again as the destination cuts, and stored there: a later backup of the same files into the destination finds its
//! chunks. Listings are encoded again, with every entry's metadata as it is. Three stages hand bounded queues on, as in a
//! backup:
//!
//! 1. `walk`: one thread goes through the source's listings in order;
//! 2. `read`: a few threads read, check, cut and hash contents;
//! 3. `store`: one thread stores what is new, and writes the listings.
//!
//! Each snapshot is a run of its own and is published by itself. Nothing is read twice without need: a listing that was copied
//! by this process is taken from a memo; and of a snapshot of which the destination has an earlier relative, only
//! files that differ from that one's source are read.

mod known;
mod listing;
mod memo;
mod read;
mod store;
#[cfg(test)]
mod tests;
mod walk;

use crate::base::lock::lock;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use self::known::{Known, origin};
use self::memo::{CopiedListing, Memo};
use super::mirror_error::MirrorError;
use super::select::{self, Chosen, Filter, SnapshotRef};
use super::{Error, Monitor, Phase, Result};
use crate::base::id::ObjectId;
use crate::codec::chunk_list::ChunkList;
use crate::codec::snapshot::Snapshot;
use crate::ops::backup::scan::may_have_lost;
use crate::repository::pack_writer::PackOptions;
use crate::repository::remembered::follows;
use crate::repository::run::{Run, Written};
use crate::repository::{self, Repository};

/// How to copy.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// How many contents are read at the same time.
    pub readers: usize,
    /// How packs are written.
    pub packs: PackOptions,
}

/// What will be done.
#[derive(Debug, Default)]
pub struct Plan {
    /// Snapshots that are copied, oldest first.
    pub copy: Vec<Chosen>,
    /// Snapshots that are there already, and their copies.
    pub there: Vec<(Chosen, ObjectId)>,
    /// Snapshots of the source that were meant, or may have been, and cannot be read.
    pub damaged: Vec<(ObjectId, repository::Error)>,
    /// Everything that can be read in the source, oldest first.
    everything: Vec<Chosen>,
}

/// Works out which snapshots are copied: those named, else all that the filter lets through, but for those that are there
/// already.
///
/// # Errors
/// [`Error::Invalid`] when both are one repository with one history, [`MirrorError::Ahead`] when the source is the newer one of the two; as [`select::many`].
pub fn plan(source: &Repository, destination: &Repository, names: &[SnapshotRef], filter: &Filter) -> Result<Plan> {
    if source.id() == destination.id() && !is_fork(source, destination) {
        let [theirs, ours] = [source, destination].map(|repository| repository.tip().reference().generation);
        if theirs > ours {
            return Err(MirrorError::Ahead { ours, theirs }.into());
        }
        return Err(Error::Invalid(format!(
            "{} and {} are the same repository, {}, with the same history: nothing was copied. A whole repository is copied by any tool",
            source.place().display(),
            destination.place().display(),
            source.id().short()
        )));
    }
    let selection = select::many(source, names, filter)?;
    let mut plan = Plan { damaged: selection.damaged, ..Plan::default() };
    plan.everything = select::all(source, &Filter::default())?.chosen;
    let known = Known::read(destination);
    for chosen in selection.chosen {
        match known.copy_of(chosen.id, &chosen.snapshot) {
            Some((copy, _)) => plan.there.push((chosen, copy)),
            None => plan.copy.push(chosen),
        }
    }
    Ok(plan)
}

/// True when neither history goes on from where the other one stands: each may have snapshots that the other lacks.
fn is_fork(one: &Repository, other: &Repository) -> bool {
    let (one, other) = (one.tip(), other.tip());
    follows(one.reference(), other.reference(), &other.state).is_err()
        && follows(other.reference(), one.reference(), &one.state).is_err()
}

/// What became of one snapshot.
#[derive(Debug)]
pub enum Done {
    /// It was copied.
    Copied(Copied),
    /// Its copy was there already: another one of the same backup came first.
    There(ObjectId),
    /// It cannot be read wholly: nothing of it was acknowledged.
    Unreadable(Error),
}

/// A copy.
#[derive(Debug, Clone)]
pub struct Copied {
    /// The snapshot in the destination.
    pub id: ObjectId,
    /// Files of which the content was read.
    pub files_read: u64,
    /// Bytes of these contents, without holes.
    pub bytes_read: u64,
    /// What was stored.
    pub written: Written,
    /// How long it took.
    pub took: Duration,
    /// What a person should hear about.
    pub warnings: Vec<String>,
}

/// Why a snapshot was not copied.
enum Failure {
    /// The source cannot be read: the next snapshot may be.
    Source(Error),
    /// The destination cannot be written, or the user wants an end.
    Final(Error),
}

impl From<repository::Error> for Failure {
    fn from(error: repository::Error) -> Self {
        Self::Final(error.into())
    }
}

/// A snapshot of the source and its copy, beside which a relative is copied.
struct Base<'a> {
    source: &'a Snapshot,
    copy: ChunkList,
    copy_id: ObjectId,
    /// The copy may have lost chunks: what is taken from it is looked up first.
    confirm: bool,
}

/// Copies snapshots one after the other, and remembers what it copied.
pub struct Copying<'a> {
    source: &'a Repository,
    destination: &'a Repository,
    everything: Vec<Chosen>,
    options: Options,
    monitor: &'a dyn Monitor,
    known: Known,
    listings: Mutex<Memo<CopiedListing>>,
    /// Files and bytes of the current snapshot that were reported to the monitor.
    reported: Mutex<(u64, u64)>,
    /// The copies that `listings` lie in.
    relied: Vec<ObjectId>,
    /// The head that this process published last. After one by somebody else nothing that is remembered counts.
    generation: u64,
}

impl std::fmt::Debug for Copying<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Copying")
    }
}

impl<'a> Copying<'a> {
    /// Begins to copy what `plan` says: hand [`Copying::snapshot`] each of [`Plan::copy`], in order.
    #[must_use]
    pub fn new(
        source: &'a Repository,
        destination: &'a Repository,
        plan: &mut Plan,
        options: Options,
        monitor: &'a dyn Monitor,
    ) -> Self {
        monitor.phase(Phase::Copy);
        let sum = |of: fn(&Snapshot) -> u64| plan.copy.iter().map(|chosen| of(&chosen.snapshot)).sum();
        monitor.expect(sum(|snapshot| snapshot.counts.files), sum(|snapshot| snapshot.counts.bytes), true);
        Self {
            source,
            destination,
            everything: std::mem::take(&mut plan.everything),
            options,
            monitor,
            known: Known::default(),
            listings: Mutex::default(),
            reported: Mutex::default(),
            relied: Vec::new(),
            generation: 0,
        }
    }

    fn forget(&mut self) {
        lock(&self.listings).clear();
        self.relied.clear();
    }

    /// Copies one.
    ///
    /// # Errors
    /// What the destination said, or [`Error::Interrupted`]: this snapshot was not acknowledged, and the next one would fare no
    /// better. What was stored is taken over by the next run.
    pub fn snapshot(&mut self, chosen: &Chosen) -> Result<Done> {
        let done = self.try_snapshot(chosen);
        // Directories that were copied before, and what is not copied at all.
        let (reported, counts) = (std::mem::take(&mut *lock(&self.reported)), &chosen.snapshot.counts);
        self.monitor.skip(counts.files.saturating_sub(reported.0), counts.bytes.saturating_sub(reported.1));
        match done {
            Ok(done) => Ok(done),
            Err(failure) => {
                // Packs that were not finished are gone with the run.
                self.forget();
                match failure {
                    Failure::Source(error) => Ok(Done::Unreadable(error)),
                    Failure::Final(error) => Err(error),
                }
            }
        }
    }

    fn try_snapshot(&mut self, chosen: &Chosen) -> std::result::Result<Done, Failure> {
        let Chosen { id, snapshot } = chosen;
        let begun = Instant::now();
        if self.monitor.interrupted() {
            return Err(Failure::Final(Error::Interrupted));
        }
        let mut run = Run::begin(self.destination, self.options.packs)?;
        // Under the lock: somebody else may have copied it meanwhile.
        self.known.refresh(self.destination);
        if let Some((copy, _)) = self.known.copy_of(*id, snapshot) {
            return Ok(Done::There(copy));
        }
        if self.destination.tip().reference().generation != self.generation {
            self.forget();
        }
        self.relied.iter().for_each(|id| run.rely_on(*id));
        let base = self.base(chosen);
        if let Some(base) = &base {
            run.rely_on(base.copy_id);
        }
        let parts = store::Parts {
            source: self.source,
            snapshot,
            base: base.as_ref(),
            listings: &self.listings,
            reported: &self.reported,
            readers: self.options.readers,
            monitor: self.monitor,
        };
        let stored = store::snapshot(&mut run, &parts)?;
        if self.monitor.interrupted() {
            return Err(Failure::Final(Error::Interrupted));
        }
        run.seal()?;
        let written = *run.written();
        let copy = Snapshot {
            root: stored.root,
            parent: snapshot.parent.and_then(|parent| self.copy_of_parent(&parent)),
            original: Some(origin(*id, snapshot)),
            problems: stored.problems,
            deleted: stored.deleted,
            deleted_count: stored.deleted_count,
            program: concat!("packstone ", env!("CARGO_PKG_VERSION")).to_owned(),
            ..snapshot.clone()
        };
        run.merge_small(&|| self.monitor.interrupted())?;
        let warnings = run.warnings().to_vec();
        let (id, head) = run.publish(&copy)?;
        self.generation = head.generation;
        self.relied.push(id);
        Ok(Done::Copied(Copied {
            id,
            files_read: stored.files_read,
            bytes_read: stored.bytes_read,
            written,
            took: begun.elapsed(),
            warnings,
        }))
    }

    /// Ends it: sweeps what was replaced on the way. Before, what was copied last relied on it.
    pub fn finish(self) {
        self.destination.sweep_replaced_or_warn();
    }

    /// The copy of the source's parent.
    fn copy_of_parent(&self, parent: &ObjectId) -> Option<ObjectId> {
        match self.everything.iter().find(|chosen| chosen.id == *parent) {
            Some(Chosen { id, snapshot }) => self.known.copy_of(*id, snapshot).map(|(copy, _)| copy),
            None => self.known.made_from(parent),
        }
    }

    /// The relative of which the copy is there: the parent; else the last one before it of the same host and paths; else the
    /// first one after it.
    fn base(&self, chosen: &Chosen) -> Option<Base<'_>> {
        let copy = |other: &'_ Chosen| self.known.copy_of(other.id, &other.snapshot).is_some();
        let is_parent = |other: &&Chosen| chosen.snapshot.parent == Some(other.id) && copy(other);
        let is_relative = |other: &&Chosen| {
            let (one, other_one) = (&chosen.snapshot, &other.snapshot);
            one.host == other_one.host && one.paths == other_one.paths && other.id != chosen.id && copy(other)
        };
        let at = self.everything.iter().position(|other| other.id == chosen.id).unwrap_or(self.everything.len());
        let (before, after) = self.everything.split_at(at);
        let relative = before.iter().rev().find(is_parent);
        let relative = relative.or_else(|| before.iter().rev().find(is_relative));
        let relative = relative.or_else(|| after.iter().find(is_relative))?;
        let (copy_id, copy) = self.known.copy_of(relative.id, &relative.snapshot)?;
        let confirm = may_have_lost(&self.destination.tip().state, copy_id);
        Some(Base { source: &relative.snapshot, copy: copy.root.clone(), copy_id, confirm })
    }
}
