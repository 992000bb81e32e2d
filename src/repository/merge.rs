//! Few packs and few segments without a prune: a run that finds many small ones copies what is in them into few, and marks them as
//! replaced. What is replaced needs no grace, so the same process sweeps it as soon as it has published, unless another process
//! relies on an older head. format-spec/writing.md, "Merging".
//!
//! # Invariants
//!
//! - A pack is replaced only when every chunk of it was opened, hashed, and lies in a pack that this run made durable, and when all of
//!   its bytes are what its name says. A segment is replaced only when everything that it lists and that is not replaced is listed by a
//!   segment of this run.
//! - What cannot be read is left alone, and said. A merge that fails does not end the run: what was moved by then is stored twice.
//! - It is bounded: a run moves at most as many bytes of each kind as one pack is meant to have.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::Repository;
use super::error::{Error, Result, damaged};
use super::index::read_segment;
use super::pack_mover::{Destination, MoveError, Moved, PackMover};
use super::pack_writer::{PackOptions, PackWriter};
use super::run::Run;
use crate::base::id::{ChunkId, ObjectId};
use crate::codec::block_verifier::BlockVerifier;
use crate::codec::chunk_list::ChunkRef;
use crate::codec::live_state::{LiveState, MarkedKind};
use crate::codec::pack::{self, Block, PackKind};
use crate::codec::segment::{Segment, SegmentPack};
use crate::storage::ObjectName;

/// A pack below this part of the intended length is small.
const SMALL_PACK_PART: u64 = 32;
/// A pack of the least length there is, in bytes, is small whatever length is intended.
const SMALL_PACK_BYTES: u64 = pack::PADDED_MIN + 1;
/// A segment below this many stored bytes is small: about 3,000 chunks.
const SMALL_SEGMENT_BYTES: u64 = 128 << 10;
/// No further pack is moved when the plain bytes are so many times what a pack is meant to have: they may be packed very tightly.
const PLAIN_PART: u64 = 16;

/// What was merged: the head of this run marks it as replaced.
#[derive(Debug, Default)]
pub(super) struct Merged {
    packs: BTreeSet<ObjectId>,
    segments: BTreeSet<ObjectId>,
}

impl Merged {
    /// Marks it in the state that is being published.
    pub(super) fn apply(&self, state: &mut LiveState, generation: u64) {
        for pack in &self.packs {
            state.replace(*pack, MarkedKind::Pack, generation);
        }
        for segment in self.segments.iter().filter(|id| state.segments.contains_key(id)).copied().collect::<Vec<_>>() {
            state.replace(segment, MarkedKind::Segment, generation);
        }
    }
}

/// The smallest of the small packs of each kind of which there are many, until they have the bytes of one pack.
fn choose_packs(
    packs: impl Iterator<Item = (ObjectId, PackKind, u64)>,
    options: &PackOptions,
) -> BTreeMap<ObjectId, u64> {
    let below = (options.pack_bytes / SMALL_PACK_PART).max(SMALL_PACK_BYTES);
    let mut small: Vec<_> = packs.filter(|(.., length)| *length < below).collect();
    small.sort_unstable_by_key(|(id, _, length)| (*length, *id));
    let mut chosen = BTreeMap::new();
    for kind in [PackKind::Data, PackKind::Tree] {
        let of_kind = small.iter().filter(|pack| pack.1 == kind);
        if of_kind.clone().count() < options.merge_min {
            continue;
        }
        let mut room = options.pack_bytes;
        for (id, _, length) in of_kind {
            let Some(rest) = room.checked_sub(*length) else { break };
            room = rest;
            chosen.insert(*id, *length);
        }
    }
    chosen
}

/// The segments that list the chosen packs, and all small ones when there are many.
fn choose_segments(
    state: &LiveState,
    of_packs: impl Iterator<Item = ObjectId>,
    merge_min: usize,
) -> BTreeMap<ObjectId, u64> {
    let small = state.segments.iter().filter(|(_, length)| **length < SMALL_SEGMENT_BYTES);
    let mut chosen = BTreeMap::new();
    if small.clone().count() >= merge_min {
        chosen.extend(small.map(|(id, length)| (*id, *length)));
    }
    chosen.extend(of_packs.filter_map(|id| Some((id, *state.segments.get(&id)?))));
    chosen
}

impl Run<'_> {
    /// Copies what lies in many small packs into few, when there are many, and lists anew what many small segments list. Called when
    /// everything of the run itself was added; `interrupted` is asked between two packs, and ends the copying.
    ///
    /// # Errors
    /// The packs and segments of the run itself cannot be stored.
    pub fn merge_small(&mut self, interrupted: &dyn Fn() -> bool) -> Result<()> {
        if self.discards() {
            return Ok(());
        }
        let live = self.index().packs();
        let options = self.options();
        let packs = choose_packs(live.iter().map(|(id, pack)| (*id, pack.kind, pack.length)), &options);
        let listing = packs.keys().filter_map(|id| Some(live.get(id)?.segment)).collect::<Vec<_>>();
        let segments = choose_segments(self.base(), listing.into_iter(), options.merge_min);
        if segments.is_empty() {
            return Ok(());
        }
        self.seal()?;
        if let Err(error) = self.merge(&packs, &segments, interrupted) {
            self.warn(format!("small packs were not merged, and the next backup tries again: {error}"));
        }
        Ok(())
    }

    fn merge(
        &mut self,
        packs: &BTreeMap<ObjectId, u64>,
        segments: &BTreeMap<ObjectId, u64>,
        interrupted: &dyn Fn() -> bool,
    ) -> Result<()> {
        let repository = self.repository();
        let generation = repository.tip().reference().generation;
        let mut read: Vec<Segment> = Vec::with_capacity(segments.len());
        for (id, length) in segments {
            read.push(read_segment(repository.storage(), repository.keys(), *id, *length, generation)?);
        }
        let (moved, written) = self.move_packs(packs, &read, interrupted)?;
        let stays = |pack: &SegmentPack| !moved.contains(&pack.id) && !self.base().swept.contains_key(&pack.id);
        let stay: Vec<SegmentPack> =
            read.into_iter().flat_map(|segment| segment.packs).filter(|pack| stays(pack)).collect();
        // What holds the copies comes first: a segment that lists them is what makes the old ones superfluous.
        for pack in written {
            self.take_merged(pack)?;
        }
        stay.into_iter().try_for_each(|pack| self.relist(pack))?;
        self.seal()?;
        self.set_merged(Merged { packs: moved, segments: segments.keys().copied().collect() });
        Ok(())
    }

    /// The packs of which everything was copied, and those that hold it now, which are durable.
    fn move_packs(
        &mut self,
        packs: &BTreeMap<ObjectId, u64>,
        read: &[Segment],
        interrupted: &dyn Fn() -> bool,
    ) -> Result<(BTreeSet<ObjectId>, Vec<SegmentPack>)> {
        let (mut moved, mut written) = (BTreeSet::new(), Vec::new());
        if packs.is_empty() {
            return Ok((moved, written));
        }
        let repository = self.repository();
        let unopened = |error| Error::Internal(format!("a block cannot be opened: {error}"));
        let mut new = NewPacks {
            repository,
            writer: PackWriter::new(repository.shared_storage(), repository.shared_keys(), self.options())?,
            verifier: BlockVerifier::new().map_err(unopened)?,
            seen: HashSet::new(),
            plain_bytes: 0,
        };
        let mut mover = PackMover::new()?;
        let plain_max = self.options().pack_bytes.saturating_mul(PLAIN_PART);
        let chosen = read.iter().flat_map(|segment| &segment.packs).filter(|pack| packs.contains_key(&pack.id));
        for pack in chosen {
            if interrupted() || new.plain_bytes > plain_max {
                break;
            }
            match mover.move_pack(repository, (pack.id, pack.length), pack.directory.chunk_count(), &mut new) {
                Ok(()) => drop(moved.insert(pack.id)),
                Err(MoveError::Unwritten(error)) => return Err(error),
                // The gate of this run says when it is gone, and a check when it is damaged.
                Err(MoveError::Unread(error)) => {
                    self.warn(format!("a small pack was not merged with others: {error}"));
                }
            }
            written.extend(new.writer.finished());
        }
        written.extend(new.writer.finish()?);
        Ok((moved, written))
    }
}

/// New packs, in which each chunk is once.
struct NewPacks<'r> {
    repository: &'r Repository,
    writer: PackWriter,
    verifier: BlockVerifier,
    /// Chunks that were written.
    seen: HashSet<ChunkId>,
    /// Of all blocks that were moved.
    plain_bytes: u64,
}

impl Destination for NewPacks<'_> {
    fn wants(&mut self, chunk: &ChunkRef) -> bool {
        self.plain_bytes += u64::from(chunk.length);
        !self.seen.contains(&chunk.id)
    }

    fn put_block(&mut self, kind: PackKind, block: Block, sealed: Vec<u8>, from: ObjectId) -> Moved {
        // Here, and not where it is written: that one pack is damaged is no reason to leave the others as they are.
        let verified = self.verifier.verify(self.repository.keys(), kind, &block, &sealed);
        verified.map_err(|error| MoveError::Unread(damaged(ObjectName::Pack(from))(error)))?;
        self.seen.extend(block.chunks.iter().map(|chunk| chunk.id));
        self.writer.add_sealed(kind, block, sealed, from).map_err(MoveError::Unwritten)
    }

    fn put_chunk(&mut self, kind: PackKind, id: ChunkId, bytes: &[u8]) -> Moved {
        if self.seen.insert(id) {
            self.writer.add(kind, id, bytes).map_err(MoveError::Unwritten)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::codec::chunker::Parameters;
    use crate::codec::key_tree::ChunkKind;
    use crate::repository::fixture;
    use crate::storage::memory::Memory;
    use crate::storage::{Folder, Storage};

    const PACK: u64 = 32 << 20;
    const SMALL: u64 = 16 << 10;

    fn id(number: u64) -> ObjectId {
        ObjectId::of(&number.to_le_bytes())
    }

    #[test]
    fn only_many_small_packs_of_one_kind_are_chosen_and_no_more_than_one_pack_holds() {
        let packs = |lengths: &[(PackKind, u64, usize)]| {
            let all = lengths.iter().flat_map(|(kind, length, count)| std::iter::repeat_n((*kind, *length), *count));
            let numbered = (0..).zip(all).map(|(number, (kind, length))| (id(number), kind, length));
            let chosen = choose_packs(numbered, &PackOptions::default());
            (chosen.len(), chosen.values().sum::<u64>())
        };
        let (data, tree) = (PackKind::Data, PackKind::Tree);
        for (lengths, expected) in [
            (vec![], (0, 0)),
            (vec![(data, SMALL, 31), (tree, SMALL, 31)], (0, 0)),
            (vec![(data, SMALL, 32), (tree, SMALL, 31)], (32, 32 * SMALL)),
            (vec![(data, SMALL, 32), (tree, SMALL, 40)], (72, 72 * SMALL)),
            (vec![(data, PACK / 32, 1_000)], (0, 0)),
            (vec![(data, SMALL, 31), (data, PACK / 32, 1)], (0, 0)),
            (vec![(data, PACK / 32 - 1, 31), (data, SMALL, 1)], (32, 31 * (PACK / 32 - 1) + SMALL)),
            // The shortest of ten thousand, as many as one pack holds.
            (vec![(data, SMALL, 10_000)], (2_048, PACK)),
        ] {
            assert_eq!(packs(&lengths), expected, "{lengths:?}");
        }
    }

    /// Packs of one chunk each, and what is in them.
    fn world(storage: &Memory, count: u64) -> (Repository, Vec<(ChunkRef, Vec<u8>)>) {
        let repository = fixture::repository(storage, 7, Parameters::FILES);
        let mut chunks = Vec::new();
        for number in 0..count {
            let mut run = Run::begin(&repository, PackOptions::default()).unwrap();
            let bytes = number.to_le_bytes().repeat(100);
            let chunk = repository.keys().chunk_id(ChunkKind::Data, &bytes);
            run.add(PackKind::Data, chunk, &bytes).unwrap();
            run.publish_segments().unwrap();
            chunks.push((ChunkRef { id: chunk, length: bytes.len() as u32 }, bytes));
        }
        (repository, chunks)
    }

    fn merge(repository: &Repository, interrupted: bool) -> Vec<String> {
        let mut run = Run::begin(repository, PackOptions::default()).unwrap();
        run.merge_small(&|| interrupted).unwrap();
        let warnings = run.warnings().to_vec();
        run.publish_change(|_, _| Ok(())).unwrap();
        repository.sweep_replaced_or_warn();
        warnings
    }

    fn counts(storage: &Memory) -> (usize, usize) {
        let count = |folder| storage.list(folder).unwrap().len();
        (count(Folder::Packs), count(Folder::Index))
    }

    #[test]
    fn what_lay_in_many_packs_lies_in_one() {
        let storage = Memory::new();
        let (repository, chunks) = world(&storage, 32);
        assert_eq!(counts(&storage), (32, 32));
        assert_eq!(merge(&repository, false), Vec::<String>::new());
        assert_eq!(counts(&storage), (1, 1));
        assert!(repository.tip().state.marked.is_empty());
        assert_eq!(repository.tip().state.swept.len(), 64);
        for (chunk, bytes) in &chunks {
            assert_eq!(repository.chunk(PackKind::Data, chunk).unwrap().to_vec(), *bytes);
        }
        assert_eq!(merge(&repository, false), Vec::<String>::new());
        assert_eq!(counts(&storage), (1, 1), "there is nothing more to do");
    }

    #[test]
    fn a_pack_that_is_damaged_stays_where_it_is_and_is_named() {
        let storage = Memory::new();
        let (repository, chunks) = world(&storage, 33);
        let place = repository.locate(&chunks[5].0).unwrap();
        let name = ObjectName::Pack(place.pack);
        let mut bytes = storage.read(&name, PACK).unwrap();
        storage.remove(&name).unwrap();
        bytes[place.at.offset as usize + 20] ^= 1;
        storage.put(&name, &bytes).unwrap();
        let warnings = merge(&repository, false);
        assert!(warnings.len() == 1 && warnings[0].contains(&name.to_string()), "{warnings:?}");
        assert_eq!(counts(&storage), (2, 1), "it, and the pack that holds all others");
        for (number, (chunk, bytes)) in chunks.iter().enumerate() {
            match repository.chunk(PackKind::Data, chunk) {
                Ok(found) => assert!(number != 5 && found.to_vec() == *bytes),
                Err(error) => assert!(number == 5 && error.is_damage(), "{number}: {error}"),
            }
        }
    }

    #[test]
    fn who_wants_an_end_gets_it_and_nothing_is_lost() {
        let storage = Memory::new();
        let (repository, chunks) = world(&storage, 32);
        assert_eq!(merge(&repository, true), Vec::<String>::new());
        assert_eq!(counts(&storage), (32, 1), "segments are merged without reading packs");
        for (chunk, bytes) in &chunks {
            assert_eq!(repository.chunk(PackKind::Data, chunk).unwrap().to_vec(), *bytes);
        }
    }
}
