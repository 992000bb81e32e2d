//! One run that adds to the repository: from the writer lock to the published head. format-spec/writing.md.
//!
//! # Order of writes, and what a crash leaves
//!
//! | step | a crash before the next step leaves | who cleans it |
//! |---|---|---|
//! | 1. packs, each durable under its name | packs that no segment lists | the next run adopts them |
//! | 2. segments | segments that no head names, and packs as above | as above; prune removes the segments |
//! | 3. snapshot | a snapshot that no head names | prune |
//! | 4. gate: every live segment and pack is there with its length | nothing more | |
//! | 5. head, under the append lock | the snapshot is acknowledged | |
//! | 6. cache | a cache that is behind: it catches up | the next command |
//!
//! Nothing is acknowledged before step 5, and step 5 is one rename. What a run merges (`merge.rs`) comes with steps 1 and 2, and is marked
//! as replaced in step 5.

use crate::base::lock::lock;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex};

use super::error::{Error, Result};
use super::index::{Index, read_segment};
use super::known::NewChunks;
use super::lock::WriterGuard;
use super::pack_reader;
use super::pack_writer::{PackOptions, PackWriter};
use super::public_view::segment_table;
use super::replace::Replaced;
use super::run_trees::{KeptTrees, RunTrees};
use super::{Repository, merge, random};
use crate::base::id::{ChunkId, ObjectId};
use crate::codec::head::HeadRef;
use crate::codec::key_tree::ChunkKind;
use crate::codec::live_state::{LiveState, MarkedKind, SnapshotEntry};
use crate::codec::pack::{Block, PackKind};
use crate::codec::segment::{self, Segment, SegmentPack};
use crate::codec::snapshot::{self, Snapshot};
use crate::codec::{self, Reason};
use crate::storage::{Folder, ObjectName, Stored};

/// What one run has stored so far, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Written {
    /// New data chunks.
    pub data_chunks: u64,
    /// New tree chunks.
    pub tree_chunks: u64,
    /// Plain bytes of new data chunks.
    pub data_bytes: u64,
    /// Plain bytes of new tree chunks.
    pub tree_bytes: u64,
    /// Bytes of the packs that it has finished; those taken over are not among them.
    pub pack_bytes: u64,
    /// Bytes of packs that hold what lay in small ones.
    pub merged_bytes: u64,
    /// Bytes of segments and the snapshot.
    pub other_bytes: u64,
    /// Packs of an interrupted run that were taken over.
    pub adopted_packs: u64,
}

/// One run that adds to the repository.
pub struct Run<'r> {
    repository: &'r Repository,
    index: Index,
    new: NewChunks,
    packs: Option<PackWriter>,
    pending: Vec<SegmentPack>,
    pending_chunks: usize,
    segments: Vec<(ObjectId, u64)>,
    all_packs: HashMap<ObjectId, u64>,
    base: Arc<LiveState>,
    /// Live packs that hold chunks which this run met and did not store.
    reused: Mutex<HashSet<ObjectId>>,
    /// Live packs that this run marks because they are missing or damaged: the gate does not ask for them.
    given_up: BTreeSet<ObjectId>,
    /// Live snapshots from which listings and contents are taken over unread.
    relied: Vec<ObjectId>,
    options: PackOptions,
    /// What its head marks as replaced.
    merged: merge::Merged,
    /// Present when the listings of this run are read back before it publishes.
    trees: Option<KeptTrees>,
    discard: bool,
    written: Written,
    warnings: Vec<String>,
    /// The last field, so that it is dropped last: an abandoned run still finishes its packs, under the lock.
    _lock: Option<WriterGuard>,
}

impl std::fmt::Debug for Run<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Run").field("written", &self.written).finish_non_exhaustive()
    }
}

impl<'r> Run<'r> {
    /// Takes the writer lock (waiting as long as the repository was told to), clears what interrupted uploads left,
    /// opens the index and adopts packs of an interrupted run. A run that discards takes no lock and adopts nothing.
    ///
    /// # Errors
    /// [`Error::Locked`], a head or segment that cannot be read, or a storage error.
    pub fn begin(repository: &'r Repository, options: PackOptions) -> Result<Self> {
        Self::begin_without_adopting(repository, options)?.adopting()
    }

    /// As [`Run::begin`], for a run that reads back its own listings before it publishes ([`Run::trees`]).
    ///
    /// # Errors
    /// As [`Run::begin`].
    pub fn begin_keeping_trees(repository: &'r Repository, options: PackOptions) -> Result<Self> {
        let mut run = Self::begin_without_adopting(repository, options)?;
        run.trees = Some(KeptTrees::default());
        run.adopting()
    }

    fn adopting(mut self) -> Result<Self> {
        if !self.discard {
            self.claim_orphans()?;
            self.adopt()?;
        }
        Ok(self)
    }

    /// As [`Run::begin`], but packs of an interrupted run stay what they are.
    ///
    /// # Errors
    /// As [`Run::begin`].
    pub fn begin_without_adopting(repository: &'r Repository, options: PackOptions) -> Result<Self> {
        let lock = if options.discard { None } else { Some(repository.lock_writer()?) };
        if lock.is_some() {
            repository.require_pin()?;
            repository.refresh()?;
            repository.storage().clean_temporary()?;
        }
        let tip = repository.tip();
        tip.require_sound()?;
        let mut index = repository.open_index();
        if let Some(error) = index.take_broken().into_iter().next() {
            return Err(error);
        }
        Ok(Self {
            repository,
            new: NewChunks::new(repository.cache_folder().map(Path::new)),
            packs: Some(PackWriter::new(repository.shared_storage(), repository.shared_keys(), options)?),
            pending: Vec::new(),
            pending_chunks: 0,
            segments: Vec::new(),
            all_packs: HashMap::new(),
            base: Arc::clone(&tip.state),
            reused: Mutex::default(),
            given_up: BTreeSet::new(),
            relied: Vec::new(),
            merged: merge::Merged::default(),
            options,
            trees: None,
            discard: options.discard,
            written: Written::default(),
            warnings: Vec::new(),
            index,
            _lock: lock,
        })
    }

    /// Packs that no segment lists and that are neither marked nor swept: what interrupted runs left, with their lengths.
    /// While this run holds the writer lock there are no others.
    ///
    /// # Errors
    /// A storage error.
    pub fn orphan_packs(&self) -> Result<Vec<(ObjectId, u64)>> {
        let listed = self.repository.storage().list(Folder::Packs)?.into_iter();
        let packs = listed.filter_map(|found| match found.name {
            ObjectName::Pack(id) => Some((id, found.length)),
            _ => None,
        });
        let known = |id: &ObjectId| {
            self.index.packs().contains_key(id) || !self.base.keeps(id) || self.all_packs.contains_key(id)
        };
        Ok(packs.filter(|(id, _)| !known(id)).collect())
    }

    /// Takes orphan packs that a prune marked out of the mark, so that they cannot be swept while this run takes them over.
    fn claim_orphans(&mut self) -> Result<()> {
        let marked = self.base.marked.iter().filter(|(_, mark)| mark.kind == MarkedKind::Pack && !mark.replaced);
        let mut orphans: Vec<ObjectId> = marked.map(|(id, _)| *id).collect();
        if orphans.is_empty() {
            return Ok(());
        }
        let tip = self.repository.tip();
        for (id, length) in &self.base.segments {
            let table = segment_table(self.repository.storage(), self.repository.id(), *id, *length, &tip)?;
            orphans.retain(|id| table.packs.binary_search_by(|row| row.id.cmp(id)).is_err());
        }
        let there = self.lengths(Folder::Packs)?;
        orphans.retain(|id| there.contains_key(id));
        if orphans.is_empty() {
            return Ok(());
        }
        self.repository.append(|state, _| {
            state.marked.retain(|id, _| !orphans.contains(id));
            Ok(())
        })?;
        self.base = Arc::clone(&self.repository.tip().state);
        Ok(())
    }

    fn adopt(&mut self) -> Result<()> {
        for (id, length) in self.orphan_packs()? {
            let name = ObjectName::Pack(id);
            match pack_reader::examine(self.repository, id, length) {
                Ok(pack) => {
                    // Whoever stored it may have been killed before the folder was synced.
                    self.repository.storage().settle(&name)?;
                    for chunk in pack.directory.blocks.iter().flat_map(|block| &block.chunks) {
                        if !self.new.contains(&chunk.id).map_err(spill_error)? {
                            self.new.insert(&chunk.id).map_err(spill_error)?;
                        }
                    }
                    self.written.adopted_packs += 1;
                    let stored_earlier = pack.length;
                    self.take(pack)?;
                    self.written.pack_bytes -= stored_earlier;
                }
                Err(error) => self.warnings.push(format!(
                    "{name}: left by an interrupted run or not ours, and not usable ({error}); it is left alone"
                )),
            }
        }
        Ok(())
    }

    /// What a person should hear about.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Adds to what a person should hear about.
    pub fn warn(&mut self, warning: String) {
        self.warnings.push(warning);
    }

    /// Says that listings or contents are taken over unread from a live snapshot. Should it be forgotten before this run
    /// publishes, what it needs stays.
    pub fn rely_on(&mut self, snapshot: ObjectId) {
        self.relied.push(snapshot);
    }

    /// What was stored so far.
    #[must_use]
    pub const fn written(&self) -> &Written {
        &self.written
    }

    /// The repository that is added to.
    #[must_use]
    pub const fn repository(&self) -> &'r Repository {
        self.repository
    }

    /// True when the chunk needs not be stored.
    ///
    /// # Errors
    /// The temporary file of new ids cannot be read.
    pub fn contains(&self, id: &ChunkId) -> Result<bool> {
        if self.new.contains(id).map_err(spill_error)? {
            return Ok(true);
        }
        let Some(pack) = self.index.pack_of(id) else { return Ok(false) };
        lock(&self.reused).insert(pack);
        Ok(true)
    }

    /// Stores a chunk unless it is stored already; true when it was new.
    ///
    /// # Errors
    /// A storage error, final for the run.
    pub fn add(&mut self, kind: PackKind, id: ChunkId, bytes: &[u8]) -> Result<bool> {
        if self.contains(&id)? {
            return Ok(false);
        }
        self.new.insert(&id).map_err(spill_error)?;
        match kind {
            PackKind::Data => {
                self.written.data_chunks += 1;
                self.written.data_bytes += bytes.len() as u64;
            }
            PackKind::Tree => {
                self.written.tree_chunks += 1;
                self.written.tree_bytes += bytes.len() as u64;
            }
        }
        self.packs.as_mut().ok_or_else(closed)?.add(kind, id, bytes)?;
        if let Some(trees) = self.trees.as_mut().filter(|_| kind == PackKind::Tree) {
            trees.keep(id, bytes);
        }
        self.take_finished()?;
        Ok(true)
    }

    /// The listings that this run has stored so far. A large run finishes its open packs for that. None when
    /// the run does not keep them ([`Run::begin_keeping_trees`]), and in one that discards.
    ///
    /// # Errors
    /// A storage error, final for the run.
    pub fn trees(&mut self) -> Result<Option<RunTrees<'r>>> {
        if self.discard || self.trees.is_none() {
            return Ok(None);
        }
        if self.trees.as_ref().is_some_and(|trees| trees.overflown) {
            for pack in self.packs.take().ok_or_else(closed)?.finish()? {
                self.take(pack)?;
            }
            let (storage, keys) = (self.repository.shared_storage(), self.repository.shared_keys());
            self.packs = Some(PackWriter::new(storage, keys, self.options)?);
            if let Some(trees) = &mut self.trees {
                trees.forget_recent();
            }
        }
        Ok(self.trees.as_ref().map(|trees| RunTrees::new(self.repository, trees)))
    }

    /// Stores a chunk in a new pack although a live one holds it: what a prune does before that one goes.
    ///
    /// # Errors
    /// A storage error, final for the run.
    pub fn move_chunk(&mut self, kind: PackKind, id: ChunkId, bytes: &[u8]) -> Result<()> {
        self.packs.as_mut().ok_or_else(closed)?.add(kind, id, bytes)?;
        self.take_finished()
    }

    /// This run will mark a live pack that is missing or damaged.
    pub fn give_up(&mut self, pack: ObjectId) {
        self.given_up.insert(pack);
    }

    /// Stores a sealed block of the pack `from` in a new pack, as it is; opened and hashed on the way.
    ///
    /// # Errors
    /// A storage error or damage, final for the run.
    pub fn move_block(&mut self, kind: PackKind, block: Block, bytes: Vec<u8>, from: ObjectId) -> Result<()> {
        self.packs.as_mut().ok_or_else(closed)?.add_sealed(kind, block, bytes, from)?;
        self.take_finished()
    }

    fn take_finished(&mut self) -> Result<()> {
        let Some(packs) = &self.packs else { return Err(closed()) };
        let finished: Vec<SegmentPack> = packs.finished().collect();
        finished.into_iter().try_for_each(|pack| self.take(pack))
    }

    /// Hashes and stores a piece of a listing.
    ///
    /// # Errors
    /// As [`Run::add`].
    pub fn add_tree(&mut self, bytes: &[u8]) -> Result<ChunkId> {
        let id = self.repository.keys().chunk_id(ChunkKind::Tree, bytes);
        self.add(PackKind::Tree, id, bytes)?;
        Ok(id)
    }

    /// A pack is durable: it goes into the segment being gathered.
    fn take(&mut self, pack: SegmentPack) -> Result<()> {
        self.written.pack_bytes += pack.length;
        self.all_packs.insert(pack.id, pack.length);
        if let Some(trees) = &mut self.trees {
            trees.place(&pack);
        }
        self.relist(pack)
    }

    /// Puts a pack into a new segment that another one lists already.
    ///
    /// # Errors
    /// A storage error, final for the run.
    pub fn relist(&mut self, pack: SegmentPack) -> Result<()> {
        let chunks = pack.directory.chunk_count();
        // Of small packs with a chunk or two each there may be too many before their chunks are.
        let full = self.pending_chunks + chunks > segment::CHUNKS_MAX || self.pending.len() == segment::PACKS_MAX;
        if full && !self.pending.is_empty() {
            self.write_segment()?;
        }
        self.pending_chunks += chunks;
        self.pending.push(pack);
        Ok(())
    }

    fn write_segment(&mut self) -> Result<()> {
        self.pending_chunks = 0;
        let mut packs = std::mem::take(&mut self.pending);
        if packs.is_empty() || self.discard {
            return Ok(());
        }
        packs.sort_unstable_by_key(|pack| pack.id);
        packs.dedup_by_key(|pack| pack.id);
        let bytes = segment::encode(self.repository.keys(), Segment { packs }, &random::bytes()?)
            .map_err(|error| Error::Internal(format!("a segment could not be written: {error}")))?;
        let id = ObjectId::of(&bytes);
        self.repository.storage().put(&ObjectName::Segment(id), &bytes)?;
        self.written.other_bytes += bytes.len() as u64;
        self.segments.push((id, bytes.len() as u64));
        Ok(())
    }

    /// Makes all packs and segments durable (steps 1 and 2). No chunk can be added afterwards.
    ///
    /// # Errors
    /// A storage error, final for the run.
    pub fn seal(&mut self) -> Result<()> {
        if let Some(packs) = self.packs.take() {
            for pack in packs.finish()? {
                self.take(pack)?;
            }
        }
        self.write_segment()
    }

    /// A pack that holds what lay in others is durable.
    pub(super) fn take_merged(&mut self, pack: SegmentPack) -> Result<()> {
        self.written.merged_bytes += pack.length;
        self.all_packs.insert(pack.id, pack.length);
        self.relist(pack)
    }

    /// Says what the head of this run marks as replaced.
    pub(super) fn set_merged(&mut self, merged: merge::Merged) {
        self.merged = merged;
    }

    /// Where everything was when the run began.
    pub(super) const fn index(&self) -> &Index {
        &self.index
    }

    /// The state when the run began.
    pub(super) fn base(&self) -> &LiveState {
        &self.base
    }

    /// How packs are written.
    pub(super) const fn options(&self) -> PackOptions {
        self.options
    }

    /// True for a run that stores nothing.
    pub(super) const fn discards(&self) -> bool {
        self.discard
    }

    /// Steps 3 to 6: stores the snapshot, passes the gate, publishes the head, and brings the cache up to it.
    ///
    /// # Errors
    /// Any error means that nothing was acknowledged.
    pub fn publish(mut self, snapshot: &Snapshot) -> Result<(ObjectId, HeadRef)> {
        self.seal()?;
        if self.discard {
            return Err(closed());
        }
        let (id, length) = self.store_snapshot(snapshot)?;
        let head = self.publish_with(snapshot.parent, |state, generation| {
            state.snapshots.insert(id, SnapshotEntry { length, arrival: generation });
            Ok(())
        })?;
        Ok((id, head))
    }

    /// Step 3: its id and its stored length.
    fn store_snapshot(&self, snapshot: &Snapshot) -> Result<(ObjectId, u64)> {
        let bytes = snapshot::encode(self.repository.keys(), snapshot, &random::bytes()?)
            .map_err(|error| Error::Invalid(format!("the snapshot could not be written: {error}")))?;
        let id = ObjectId::of(&bytes);
        if self.repository.storage().put(&ObjectName::Snapshot(id), &bytes)? == Stored::Exists {
            return Err(Error::Conflict(format!("snapshot {id} exists already")));
        }
        Ok((id, bytes.len() as u64))
    }

    /// Steps 3 to 6 for snapshots that were made from live ones, each given with the one it comes from. They must be live
    /// still: what was taken over from them unread lies in live packs because of that. The new ones have their arrival: they
    /// say nothing newer. With `replace` the old ones leave.
    ///
    /// # Errors
    /// [`Error::Overtaken`] when one of them was forgotten meanwhile; any error means that nothing changed.
    pub fn publish_derived(mut self, derived: &[(ObjectId, Snapshot)], replace: bool) -> Result<Replaced> {
        self.seal()?;
        if self.discard {
            return Err(closed());
        }
        let mut stored = Vec::with_capacity(derived.len());
        for (from, snapshot) in derived {
            let (id, length) = self.store_snapshot(snapshot)?;
            stored.push((*from, id, length));
        }
        let head = self.publish_with(None, |state, generation| {
            for (from, id, length) in &stored {
                let entry = state.snapshots.get(from).copied();
                let entry = entry.ok_or(Error::Overtaken { what: ObjectName::Snapshot(*from) })?;
                state.snapshots.insert(*id, SnapshotEntry { length: *length, arrival: entry.arrival });
                if replace {
                    state.mark(*from, MarkedKind::Snapshot, generation);
                }
            }
            Ok(())
        })?;
        Ok(Replaced { head, snapshots: stored.into_iter().map(|(from, id, _)| (from, id)).collect() })
    }

    /// Steps 4 to 6: passes the gate, publishes the new segments with whatever else `change` does to the state, and brings
    /// the cache up to the head. `parent` is the snapshot that files were taken over from unread.
    fn publish_with(
        mut self,
        parent: Option<ObjectId>,
        change: impl FnOnce(&mut LiveState, u64) -> Result<()>,
    ) -> Result<HeadRef> {
        self.gate()?;
        let segments = std::mem::take(&mut self.segments);
        let head = self.repository.append(|state, generation| {
            for pack in self.lost(state, parent)? {
                state.marked.remove(&pack);
            }
            for pack in &self.given_up {
                state.mark(*pack, MarkedKind::Pack, generation);
            }
            state.segments.extend(segments);
            self.merged.apply(state, generation);
            change(state, generation)
        })?;
        let tip = self.repository.tip();
        self.index.settle(&self.repository.sources(&tip));
        self.repository.keep_ballast();
        Ok(head)
    }

    /// Publishes new segments without a snapshot, and closes the run: what `repair index` does after adopting.
    ///
    /// # Errors
    /// Any error means that nothing was acknowledged.
    pub fn publish_segments(mut self) -> Result<Option<HeadRef>> {
        self.seal()?;
        if self.segments.is_empty() || self.discard {
            return Ok(None);
        }
        self.publish_with(None, |_, _| Ok(())).map(Some)
    }

    /// Publishes new segments and whatever else `change` does to the state, and closes the run.
    ///
    /// # Errors
    /// Any error means that nothing changed.
    pub fn publish_change(mut self, change: impl FnOnce(&mut LiveState, u64) -> Result<()>) -> Result<HeadRef> {
        self.seal()?;
        if self.discard {
            return Err(closed());
        }
        self.publish_with(None, change)
    }

    /// The packs that this run relies on and that were marked since it began: whoever publishes revives them.
    ///
    /// A backup relies on the packs in which it met chunks, and on those of the parent whose files it took over unread; a copy
    /// on those of the snapshots that it named ([`Run::rely_on`]). A mark spares what a live snapshot needs, so the latter
    /// count only when such a one was forgotten meanwhile. Which packs those are nobody has written down; then all that were
    /// marked since are revived, and the next prune marks again what nobody needs.
    ///
    /// # Errors
    /// [`Error::Overtaken`] when something is not there to be revived.
    fn lost(&self, state: &LiveState, parent: Option<ObjectId>) -> Result<Vec<ObjectId>> {
        let overtaken = |id: &ObjectId| Error::Overtaken { what: ObjectName::Pack(*id) };
        let everything = parent.iter().chain(&self.relied).any(|id| !state.snapshots.contains_key(id));
        let reused = lock(&self.reused);
        let listed = self.listed_since(state)?;
        let mut revived = Vec::new();
        for (id, pack) in self.index.packs() {
            if !everything && !reused.contains(id) && state.marked.contains_key(id) {
                continue;
            }
            // Our pin keeps what we rely on from being swept.
            if state.swept.contains_key(id) {
                return Err(overtaken(id));
            }
            if !state.segments.contains_key(&pack.segment) && !listed.contains(id) {
                return Err(overtaken(id));
            }
            if state.marked.contains_key(id) {
                revived.push(*id);
            }
        }
        Ok(revived)
    }

    /// The packs in segments that others published since this run began. They matter when a segment that this run knows is
    /// no longer live, because it was merged with others.
    fn listed_since(&self, state: &LiveState) -> Result<BTreeSet<ObjectId>> {
        let mut listed = BTreeSet::new();
        if self.base.segments.keys().all(|id| state.segments.contains_key(id)) {
            return Ok(listed);
        }
        let repository = self.repository;
        let generation = repository.tip().reference().generation;
        for (id, length) in state.segments.iter().filter(|(id, _)| !self.base.segments.contains_key(id)) {
            let segment = read_segment(repository.storage(), repository.keys(), *id, *length, generation)?;
            listed.extend(segment.packs.iter().map(|pack| pack.id));
        }
        Ok(listed)
    }

    /// Step 4, one pass over the listings: every live segment exists with the length that the head names, and every live
    /// pack with the one that its segment names. The cache may know what a segment says that is gone: whoever restores
    /// from the files alone does not.
    fn gate(&self) -> Result<()> {
        let generation = self.repository.tip().reference().generation;
        let segments = self.lengths(Folder::Index)?;
        let own = self.segments.iter().map(|(id, length)| (id, length));
        for (id, expected) in self.base.segments.iter().chain(own) {
            let object = ObjectName::Segment(*id);
            match segments.get(id) {
                Some(found) if found == expected => {}
                Some(&found) => {
                    let reason = Reason::WrongLength { expected: *expected, found };
                    return Err(Error::Damaged { object, error: codec::Error::new("segment", reason) });
                }
                None => return Err(Error::Missing { object, generation }),
            }
        }
        let packs = self.lengths(Folder::Packs)?;
        let live = self.index.packs().iter().map(|(id, pack)| (*id, pack.length));
        let live = live.filter(|(id, _)| !self.given_up.contains(id));
        for (id, expected) in live.chain(self.all_packs.iter().map(|(id, length)| (*id, *length))) {
            match packs.get(&id) {
                Some(&found) if found == expected => {}
                Some(&found) => return Err(Error::PackLength { pack: id, expected, found }),
                None => return Err(Error::Missing { object: ObjectName::Pack(id), generation }),
            }
        }
        Ok(())
    }

    /// What a folder holds, and how long each object is.
    fn lengths(&self, folder: Folder) -> Result<HashMap<ObjectId, u64>> {
        let listed = self.repository.storage().list(folder)?;
        Ok(listed.into_iter().filter_map(|found| found.name.id().map(|id| (id, found.length))).collect())
    }
}

fn spill_error(source: std::io::Error) -> Error {
    Error::System { what: "the temporary file of this run's chunk ids".to_owned(), source }
}

fn closed() -> Error {
    Error::Internal("this run stores nothing more".to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::codec::chunk_list::ChunkRef;
    use crate::codec::chunker::Parameters;
    use crate::codec::pack::{Block, PackDirectory};
    use crate::codec::unit::{self, Codec};
    use crate::repository::fixture;
    use crate::storage::memory::Memory;

    fn repository() -> Repository {
        fixture::repository(&Memory::new(), 7, Parameters::FILES)
    }

    /// What a run with the smallest packs and large chunks finishes.
    fn pack_of_one_chunk(number: u64) -> SegmentPack {
        let id = blake3::hash(&number.to_le_bytes());
        let chunk = ChunkRef { id: ChunkId(*id.as_bytes()), length: 1_000 };
        let stored_length = 1_000 + unit::OVERHEAD_BYTES as u32;
        let block = Block { codec: Codec::Stored, stored_length, plain_length: 1_000, chunks: vec![chunk] };
        SegmentPack {
            id: ObjectId(*id.as_bytes()),
            length: 16 << 10,
            kind: PackKind::Data,
            directory: PackDirectory { blocks: vec![block] },
            directory_prefix: [0; unit::PREFIX_BYTES],
        }
    }

    #[test]
    fn more_packs_than_a_segment_lists_go_into_several() {
        let repository = repository();
        let mut run = Run::begin(&repository, PackOptions::default()).unwrap();
        for number in 0..=segment::PACKS_MAX as u64 {
            run.take(pack_of_one_chunk(number)).unwrap();
        }
        run.seal().unwrap();
        assert_eq!(run.segments.len(), 2);
    }
}
