//! `prune`: what nothing needs goes, in two steps. Packs without a needed chunk are marked, packs with few are rewritten and then
//! marked; and what was marked long enough ago, and is not relied on by any running process, is swept.
//! format-spec/deleting.md.
//!
//! # Order of writes, and what a crash leaves
//!
//! | step | a crash before the next step leaves | who cleans it |
//! |---|---|---|
//! | 1. when everything that live snapshots need was found in live packs: sweep what earlier prunes marked | see `repository/sweep.rs` | the next prune |
//! | 2. a head that marks the packs that nothing needs | marked packs | the next prune |
//! | 3. under the writer lock: new packs and segments | packs and segments that no head names | the next backup or prune |
//! | 4. a head that names them and marks what they replace | marked packs and segments | the next prune |
//! | 5. at once, when told so: sweep | see `repository/sweep.rs` | the next prune |
//!
//! # Invariants
//!
//! - Nothing is marked or swept by half a picture: a head, segment, snapshot or listing that cannot be read, or a needed chunk that no live
//!   pack holds, ends the prune. What is marked may be the only copy then: a repair marks packs that are gone, and they may be back.
//! - Before a head marks anything, every snapshot that this very head keeps has been gone through: those published since the
//!   prune began too.
//! - Packs that somebody else marked meanwhile end it, and it begins again: two prunes may each have kept the copy of a chunk that the
//!   other one drops.
//! - Steps 2 and 5 run beside a backup; a backup that relies on what step 2 marked takes it out of the mark (`run.rs`).

pub(super) mod chunk_table;
pub(super) mod needed;
pub(super) mod plan;
mod tree_places;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

pub use plan::{Limits, MaxUnused, PackUse, Plan, Sum, Why, sum};

use self::chunk_table::{Bits, ChunkTable};
use self::needed::Needed;
use super::{ATTEMPTS, Error, Monitor, Phase, Result, Silent};
use crate::base::id::{ChunkId, ObjectId};
use crate::base::sys::{give_back_memory, keep_no_large_memory};
use crate::base::time::Time;
use crate::codec::chunk_list::ChunkRef;
use crate::codec::head::HeadRef;
use crate::codec::live_state::{LiveState, MarkedKind};
use crate::codec::pack::{Block, PackKind};
use crate::repository::lock::LockError;
use crate::repository::pack_mover::{Destination, MoveError, Moved, PackMover};
use crate::repository::pack_writer::PackOptions;
use crate::repository::run::Run;
use crate::repository::sweep::{Sweepable, Swept};
use crate::repository::{self, Repository, index};
use crate::storage::{Folder, ObjectName};

/// How long what is marked can come back before it is swept, unless something else is asked for: 7 days.
pub const GRACE: Duration = Duration::from_secs(7 * 86_400);

/// What is wanted.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// What may stay.
    pub limits: Limits,
    /// How long marked objects can be revived before they are swept. Zero: at once, if no running process relies on them.
    pub grace: Duration,
    /// How packs are written.
    pub packs: PackOptions,
    /// The clock.
    pub now: Time,
}

/// What was done.
#[derive(Debug, Default)]
pub struct Report {
    /// What it was based on.
    pub plan: Plan,
    /// Packs that were marked now.
    pub marked: Sum,
    /// Objects that no head named, left by interrupted runs, that were marked now: how many, and their bytes.
    pub orphans: (u64, u64),
    /// Bytes of new packs.
    pub repacked_bytes: u64,
    /// Segments that were replaced.
    pub merged: u64,
    /// What was swept.
    pub swept: Vec<Swept>,
    /// What is still marked, and why.
    pub waiting: Sweepable,
    /// Bytes of packs that are still marked.
    pub waiting_bytes: u64,
    /// Another run held the writer lock: packs were not rewritten.
    pub busy: Option<LockError>,
    /// The last head that it published.
    pub head: Option<HeadRef>,
    /// Heads that were removed because newer ones say all that they said.
    pub heads_removed: u64,
}

impl Report {
    /// Files that were removed, and their bytes.
    #[must_use]
    pub fn removed(&self) -> (u64, u64) {
        self.swept.iter().fold((0, 0), |sum, swept| (sum.0 + swept.removed, sum.1 + swept.removed_bytes))
    }
}

/// Works out what [`run`] would do. Reads only.
///
/// # Errors
/// Anything of the live snapshots that cannot be read; [`Error::Interrupted`].
pub fn plan(repository: &Repository, options: &Options, monitor: &dyn Monitor) -> Result<Report> {
    repository.refresh()?;
    repository.tip().require_sound()?;
    let view = View::new(repository, options, monitor)?;
    let mut report = Report { plan: view.plan, ..Report::default() };
    report.wait(repository, options)?;
    Ok(report)
}

/// Does it.
///
/// # Errors
/// As [`plan`], and storage errors. What was published before stays true.
pub fn run(repository: &Repository, options: &Options, monitor: &dyn Monitor) -> Result<Report> {
    let mut report = Report::default();
    repository.pin_newest()?;
    repository.tip().require_sound()?;
    let mut attempt = 1;
    loop {
        match once(repository, options, monitor, &mut report) {
            Err(error) if error.is_overtaken() && attempt < ATTEMPTS => attempt += 1,
            other => break other,
        }
        repository.pin_newest()?;
    }?;
    report.heads_removed = repository.thin_heads()?;
    report.wait(repository, options)?;
    Ok(report)
}

/// What a prune knows before it changes anything.
struct View<'r> {
    base: LiveState,
    table: ChunkTable,
    needed: Needed<'r>,
    kept: Bits,
    /// Some needed chunks lie in several packs.
    copies: bool,
    plan: Plan,
    /// Packs that this prune has marked: a copy in one of them is none.
    gone: BTreeSet<usize>,
}

impl<'r> View<'r> {
    fn new(repository: &'r Repository, options: &Options, monitor: &dyn Monitor) -> Result<Self> {
        monitor.phase(Phase::Mark);
        let base = LiveState::clone(&repository.tip().state);
        let mut table = ChunkTable::read(repository)?;
        let mut needed = Needed::new(repository);
        needed.snapshots(&table, monitor)?;
        needed.later();
        table.forget_places();
        give_back_memory();
        let (kept, copies) = table.kept();
        let plan = plan::decide(repository, &table, &kept, &options.limits)?;
        Ok(Self { base, table, needed, kept, copies, plan, gone: BTreeSet::new() })
    }

    /// Marks packs in the state that is being published, but for those that a snapshot published since needs.
    fn mark<'p>(
        &mut self,
        packs: impl Iterator<Item = &'p PackUse> + Clone,
        state: &mut LiveState,
        generation: u64,
    ) -> repository::Result<Sum> {
        self.needed.snapshots(&self.table, &Silent).map_err(inner)?;
        let going: BTreeSet<usize> = packs.clone().map(|pack| pack.number).collect();
        let again = self.table.needed_since(&self.kept, &going, &self.gone);
        let marked: Vec<PackUse> = packs.filter(|pack| again.binary_search(&pack.number).is_err()).copied().collect();
        for pack in &marked {
            state.mark(pack.id, MarkedKind::Pack, generation);
        }
        self.gone.extend(marked.iter().map(|pack| pack.number));
        Ok(sum(&marked))
    }
}

/// The repository's own error out of an operation's.
fn inner(error: Error) -> repository::Error {
    match error {
        Error::Repository(error) | Error::At { source: error, .. } => error,
        Error::Interrupted => repository::Error::Interrupted,
        Error::NotFound(message) => repository::Error::NotFound(message),
        Error::Conflict(message) => repository::Error::Conflict(message),
        Error::Invalid(message) => repository::Error::Invalid(message),
        Error::Internal(message) => repository::Error::Internal(message),
        error => repository::Error::Refused(error.to_string()),
    }
}

/// Nobody else has marked or swept packs, or replaced segments, since `base`.
fn unchanged(base: &LiveState, state: &LiveState) -> repository::Result<()> {
    let gone = base.segments.keys().find(|id| !state.segments.contains_key(*id));
    if let Some(id) = gone {
        return Err(repository::Error::Overtaken { what: ObjectName::Segment(*id) });
    }
    let packs = |id: &&ObjectId| state.marked.get(*id).is_none_or(|mark| mark.kind == MarkedKind::Pack);
    let dropped = state.marked.keys().chain(state.swept.keys()).filter(packs).find(|id| base.keeps(id));
    match dropped {
        Some(id) => Err(repository::Error::Overtaken { what: ObjectName::Pack(*id) }),
        None => Ok(()),
    }
}

fn once(repository: &Repository, options: &Options, monitor: &dyn Monitor, report: &mut Report) -> Result<()> {
    keep_no_large_memory();
    // Before the table of chunks is there: a cache that must catch up takes as much memory again for a while.
    drop(repository.open_index());
    give_back_memory();
    let mut view = View::new(repository, options, monitor)?;
    if report.swept.is_empty() {
        report.sweep(repository, options)?;
        // Segments that list what is swept now are merged too; none that the view does not know.
        view.plan.merge = plan::segments_to_merge(repository, &view.plan)?;
        view.plan.merge.retain(|id| view.base.segments.contains_key(id));
    }
    let mut changed = false;
    let dead = std::mem::take(&mut view.plan.dead);
    if !dead.is_empty() {
        let head = repository.append(|state, generation| {
            unchanged(&view.base, state)?;
            report.marked = view.mark(dead.iter(), state, generation)?;
            Ok(())
        })?;
        report.head = Some(head);
        changed = true;
        view.base = LiveState::clone(&repository.tip().state);
        if options.grace.is_zero() {
            // On a full disk this makes the room for what follows. What the plan rests on stays what our own head said: others may
            // have marked packs by now.
            repository.pin_newest()?;
            report.sweep(repository, options)?;
        }
    }
    view.plan.dead = dead;
    match Run::begin_without_adopting(repository, options.packs) {
        Ok(run) => {
            unchanged(&view.base, &repository.tip().state)?;
            let orphans = orphans(repository, &run)?;
            if !view.plan.repack.is_empty() || !view.plan.merge.is_empty() || !orphans.is_empty() {
                rewrite(run, &mut view, &orphans, monitor, report)?;
                changed = true;
            }
        }
        Err(repository::Error::Locked(busy @ LockError::Busy { .. })) => {
            let waits = !view.plan.repack.is_empty() || !view.plan.merge.is_empty();
            report.busy = Some(busy).filter(|_| waits);
        }
        Err(error) => return Err(error.into()),
    }
    let View { plan, copies, .. } = view;
    report.plan = plan;
    if changed && copies {
        // Of chunks that lay in several packs the cache may know a copy that is going.
        repository.close_index();
        let tip = repository.tip();
        let _ = index::rebuild_cache(&repository.sources(&tip));
    }
    if changed && options.grace.is_zero() {
        repository.pin_newest()?;
        report.sweep(repository, options)?;
    }
    Ok(())
}

/// An object that no head names.
struct Orphan {
    id: ObjectId,
    kind: MarkedKind,
    length: u64,
}

/// What interrupted runs left. `run` holds the writer lock, so nobody is about to publish a pack, segment or snapshot of a backup;
/// whoever publishes anything else takes it out of the mark.
fn orphans(repository: &Repository, run: &Run<'_>) -> Result<Vec<Orphan>> {
    let state = repository.tip().state;
    let packs = run.orphan_packs()?.into_iter();
    let mut orphans: Vec<Orphan> = packs.map(|(id, length)| Orphan { id, kind: MarkedKind::Pack, length }).collect();
    let folders = [
        (Folder::Index, MarkedKind::Segment),
        (Folder::Snapshots, MarkedKind::Snapshot),
        (Folder::Keys, MarkedKind::Slot),
    ];
    for (folder, kind) in folders {
        for found in repository.storage().list(folder).map_err(repository::Error::from)? {
            if let Some(id) = found.name.id().filter(|id| !state.knows(id)) {
                orphans.push(Orphan { id, kind, length: found.length });
            }
        }
    }
    Ok(orphans)
}

/// Writes what is needed of packs into new ones, merges segments, and publishes that.
fn rewrite(
    mut run: Run<'_>,
    view: &mut View<'_>,
    orphans: &[Orphan],
    monitor: &dyn Monitor,
    report: &mut Report,
) -> Result<()> {
    let repository = run.repository();
    monitor.phase(Phase::Repack);
    monitor.expect(view.plan.repack.len() as u64, view.plan.repack_bytes(), true);
    let mut mover = PackMover::new()?;
    for (pack, _) in &view.plan.repack {
        if monitor.interrupted() {
            return Err(Error::Interrupted);
        }
        let live = view.table.packs()[pack.number];
        let mut needs = Needs { run: &mut run, kept: &view.kept, ordinal: live.first as usize };
        let moved = mover.move_pack(repository, (pack.id, pack.length), live.chunks as usize, &mut needs);
        moved.map_err(repository::Error::from)?;
        monitor.advance(1, pack.length);
    }
    give_back_memory();
    let tip = repository.tip();
    for id in &view.plan.merge {
        let length = tip.state.segments.get(id).copied().unwrap_or_default();
        let generation = tip.reference().generation;
        let segment = index::read_segment(repository.storage(), repository.keys(), *id, length, generation)?;
        // Marked packs stay listed: they can be revived.
        for pack in segment.packs.into_iter().filter(|pack| !tip.state.swept.contains_key(&pack.id)) {
            run.relist(pack)?;
        }
    }
    run.seal()?;
    report.repacked_bytes = run.written().pack_bytes;
    report.merged = view.plan.merge.len() as u64;
    let base = view.base.clone();
    let (repacked, merged) = (std::mem::take(&mut view.plan.repack), std::mem::take(&mut view.plan.merge));
    // Our own reading must not keep the cache from being written.
    repository.close_index();
    let head = run.publish_change(|state, generation| {
        unchanged(&base, state)?;
        let sum = view.mark(repacked.iter().map(|(pack, _)| pack), state, generation)?;
        report.marked = Sum {
            packs: report.marked.packs + sum.packs,
            bytes: report.marked.bytes + sum.bytes,
            unused: report.marked.unused + sum.unused,
        };
        for id in &merged {
            state.replace(*id, MarkedKind::Segment, generation);
        }
        for orphan in orphans {
            if !state.knows(&orphan.id) {
                state.mark(orphan.id, orphan.kind, generation);
            }
        }
        // What it was for is done, and the cache is written next.
        view.table = ChunkTable::default();
        view.kept = Bits::default();
        give_back_memory();
        Ok(())
    })?;
    report.orphans = orphans.iter().fold((0, 0), |sum, orphan| (sum.0 + 1, sum.1 + orphan.length));
    report.head = Some(head);
    view.plan.repack = repacked;
    view.plan.merge = merged;
    Ok(())
}

/// What is needed of packs, and the run that it goes into.
struct Needs<'a, 'r> {
    run: &'a mut Run<'r>,
    kept: &'a Bits,
    /// Of the chunk that comes next.
    ordinal: usize,
}

impl Destination for Needs<'_, '_> {
    fn wants(&mut self, _: &ChunkRef) -> bool {
        let is_kept = self.kept.get(self.ordinal);
        self.ordinal += 1;
        is_kept
    }

    fn put_block(&mut self, kind: PackKind, block: Block, sealed: Vec<u8>, from: ObjectId) -> Moved {
        self.run.move_block(kind, block, sealed, from).map_err(MoveError::Unwritten)
    }

    fn put_chunk(&mut self, kind: PackKind, id: ChunkId, bytes: &[u8]) -> Moved {
        self.run.move_chunk(kind, id, bytes).map_err(MoveError::Unwritten)
    }
}

impl Report {
    fn sweep(&mut self, repository: &Repository, options: &Options) -> Result<()> {
        let sweepable = repository.sweepable(options.grace, options.now)?;
        let swept = repository.sweep(&sweepable.ready, options.now)?;
        self.head = swept.head.or(self.head);
        self.swept.push(swept);
        Ok(())
    }

    fn wait(&mut self, repository: &Repository, options: &Options) -> Result<()> {
        self.waiting = repository.sweepable(options.grace, options.now)?;
        let listed = repository.storage().list(Folder::Packs).map_err(repository::Error::from)?;
        let lengths: BTreeMap<ObjectId, u64> =
            listed.into_iter().filter_map(|found| Some((found.name.id()?, found.length))).collect();
        let waiting = [&self.waiting.ready, &self.waiting.in_grace, &self.waiting.pinned];
        self.waiting_bytes = waiting.into_iter().flatten().filter_map(|(id, _)| lengths.get(id)).sum();
        Ok(())
    }
}
