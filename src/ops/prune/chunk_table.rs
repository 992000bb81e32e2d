//! Every chunk of every live pack, and which of them are needed: sorted runs and a bitmap instead of a map of ids.
//!
//! A chunk is known by the first 128 bits of its id, which is a hash under a secret key, and by its ordinal: chunks are
//! counted through all live packs in the order of their segments. 20 bytes a chunk, and one bit: ten million chunks take
//! 200 MB.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};

use rayon::slice::ParallelSliceMut;

use super::tree_places::TreePlaces;
use crate::base::id::ChunkId;
use crate::codec::pack::PackKind;
use crate::codec::segment::{Segment, SegmentPack};
use crate::repository::index::{Place, read_segment};
use crate::repository::{Repository, Result};

/// 128 bits of an id, and the ordinal.
type Row = [u32; 5];

fn prefix(id: &ChunkId) -> [u32; 4] {
    let word = |at: usize| u32::from_be_bytes([id.0[at], id.0[at + 1], id.0[at + 2], id.0[at + 3]]);
    [word(0), word(4), word(8), word(12)]
}

/// One live pack.
#[derive(Debug, Clone, Copy)]
pub(in crate::ops) struct LivePack {
    /// Ordinal of its first chunk.
    pub first: u32,
    /// How many chunks it holds.
    pub chunks: u32,
}

/// A set of numbers that may be added to from many threads.
#[derive(Debug, Default)]
pub(in crate::ops) struct Bits(Vec<AtomicU64>);

impl Bits {
    pub fn new(length: usize) -> Self {
        Self((0..length.div_ceil(64)).map(|_| AtomicU64::new(0)).collect())
    }

    /// Adds a number; true when it is new.
    pub fn set(&self, number: usize) -> bool {
        let bit = 1 << (number % 64);
        self.0.get(number / 64).is_some_and(|word| word.fetch_or(bit, Ordering::Relaxed) & bit == 0)
    }

    /// The same set, which is not added to when this one is.
    pub fn copy(&self) -> Self {
        Self(self.0.iter().map(|word| AtomicU64::new(word.load(Ordering::Relaxed))).collect())
    }

    pub fn get(&self, number: usize) -> bool {
        self.0.get(number / 64).is_some_and(|word| word.load(Ordering::Relaxed) >> (number % 64) & 1 == 1)
    }
}

/// Chunks by how many they are and how long.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::ops) struct ChunkSum {
    pub chunks: u64,
    /// Before compression, in bytes.
    pub plain: u64,
    /// Their share of the stored length of the blocks that they lie in, in bytes.
    pub stored: u64,
}

/// The table.
#[derive(Debug, Default)]
pub(in crate::ops) struct ChunkTable {
    rows: Vec<Row>,
    packs: Vec<LivePack>,
    /// Rows of which a live snapshot needs the chunk; of several copies the first row stands for all.
    needed: Bits,
    trees: TreePlaces,
}

/// Calls `each` with every live pack, once, segment by segment.
pub(in crate::ops) fn each_live_pack(
    repository: &Repository,
    each: &mut dyn FnMut(SegmentPack) -> Result<()>,
) -> Result<()> {
    let tip = repository.tip();
    let mut seen = std::collections::HashSet::new();
    for (id, length) in &tip.state.segments {
        let Segment { packs } =
            read_segment(repository.storage(), repository.keys(), *id, *length, tip.reference().generation)?;
        for pack in packs {
            if tip.state.keeps(&pack.id) && seen.insert(pack.id) {
                each(pack)?;
            }
        }
    }
    Ok(())
}

/// Adds the chunks of these ordinals up.
///
/// # Errors
/// A segment that cannot be read.
pub(in crate::ops) fn add_up(repository: &Repository, ordinals: &Bits) -> Result<ChunkSum> {
    let mut sum = ChunkSum::default();
    let mut ordinal = 0;
    each_live_pack(repository, &mut |pack| {
        for block in &pack.directory.blocks {
            let mut plain = 0;
            for chunk in &block.chunks {
                if ordinals.get(ordinal) {
                    sum.chunks += 1;
                    plain += u64::from(chunk.length);
                }
                ordinal += 1;
            }
            sum.plain += plain;
            sum.stored += u64::from(block.stored_length) * plain / u64::from(block.plain_length.max(1));
        }
        Ok(())
    })?;
    Ok(sum)
}

impl ChunkTable {
    /// Reads the segments of the newest head.
    ///
    /// # Errors
    /// A segment that cannot be read: nothing may be marked by half an index.
    pub fn read(repository: &Repository) -> Result<Self> {
        // Counted first: a vector that grows holds everything twice for a moment.
        let (mut count, mut tree_chunks) = (0, 0);
        each_live_pack(repository, &mut |pack| {
            count += pack.directory.chunk_count();
            if pack.kind == PackKind::Tree {
                tree_chunks += pack.directory.chunk_count();
            }
            Ok(())
        })?;
        let mut rows: Vec<Row> = Vec::with_capacity(count);
        let mut packs = Vec::new();
        let mut trees = TreePlaces::new(tree_chunks);
        each_live_pack(repository, &mut |pack| {
            let refuse = |_| crate::repository::Error::Refused("more chunks than 32 bits count".to_owned());
            let first = u32::try_from(rows.len()).map_err(refuse)?;
            trees.add(&pack, first);
            for chunk in pack.directory.blocks.iter().flat_map(|block| &block.chunks) {
                let [a, b, c, d] = prefix(&chunk.id);
                rows.push([a, b, c, d, u32::try_from(rows.len()).map_err(refuse)?]);
            }
            let chunks = u32::try_from(rows.len()).map_err(refuse)? - first;
            packs.push(LivePack { first, chunks });
            Ok(())
        })?;
        rows.par_sort_unstable();
        let needed = Bits::new(rows.len());
        Ok(Self { rows, packs, needed, trees })
    }

    fn row(&self, id: &ChunkId) -> Option<usize> {
        let wanted = prefix(id);
        let at = self.rows.partition_point(|row| row[..4] < wanted[..]);
        self.rows.get(at).is_some_and(|row| row[..4] == wanted[..]).then_some(at)
    }

    /// Ordinal of the first copy of a chunk.
    pub fn ordinal(&self, id: &ChunkId) -> Option<u32> {
        self.row(id).map(|row| self.rows[row][4])
    }

    /// Where a chunk of a tree lies: the first copy of it. `None` when no live tree pack has it.
    pub fn tree_place(&self, id: &ChunkId) -> Option<Place> {
        let wanted = prefix(id);
        let copies = self.rows.get(self.row(id)?..)?.iter().take_while(|row| row[..4] == wanted[..]);
        copies.filter_map(|row| self.trees.place(row[4])).next()
    }

    /// Whoever has gone through all trees needs no places of their chunks any more.
    pub fn forget_places(&mut self) {
        self.trees = TreePlaces::default();
    }

    /// Says that a live snapshot needs the chunk. `None` when no live pack has it, true when nobody had said so before.
    pub fn need(&self, id: &ChunkId) -> Option<bool> {
        self.row(id).map(|row| self.needed.set(row))
    }

    /// What was needed up to now.
    pub fn needed(&self) -> Bits {
        self.needed.copy()
    }

    /// Of the chunks that are needed now and were not in `before`: the copies in `kept`.
    pub fn since(&self, before: &Bits, kept: &Bits) -> Bits {
        let since = Bits::new(self.rows.len());
        let mut at = 0;
        for group in self.rows.chunk_by(|one, other| one[..4] == other[..4]) {
            if self.needed.get(at) && !before.get(at) {
                for row in group.iter().filter(|row| kept.get(row[4] as usize)) {
                    since.set(row[4] as usize);
                }
            }
            at += group.len();
        }
        since
    }

    /// The live packs, in the order of the ordinals.
    pub fn packs(&self) -> &[LivePack] {
        &self.packs
    }

    /// Number of the pack that holds an ordinal.
    pub fn pack_of(&self, ordinal: u32) -> usize {
        self.packs.partition_point(|pack| pack.first <= ordinal).saturating_sub(1)
    }

    /// Which ordinals are needed: of several copies of a chunk the one in the pack of which most is needed anyway. And
    /// whether there are several copies of any.
    pub fn kept(&self) -> (Bits, bool) {
        let kept = Bits::new(self.rows.len());
        let mut alone = vec![0_u32; self.packs.len()];
        let mut several = Vec::new();
        let mut at = 0;
        for group in self.rows.chunk_by(|one, other| one[..4] == other[..4]) {
            if self.needed.get(at) {
                if let [row] = group {
                    kept.set(row[4] as usize);
                    alone[self.pack_of(row[4])] += 1;
                } else {
                    several.push((at, group.len()));
                }
            }
            at += group.len();
        }
        let share = |ordinal: u32| {
            let number = self.pack_of(ordinal);
            let pack = &self.packs[number];
            u64::from(alone[number]) * 1_000_000 / u64::from(pack.chunks.max(1))
        };
        let copies = !several.is_empty();
        for (at, length) in several {
            let best = self.rows[at..at + length]
                .iter()
                .map(|row| row[4])
                .max_by_key(|ordinal| (share(*ordinal), u32::MAX - ordinal));
            if let Some(best) = best {
                kept.set(best as usize);
            }
        }
        (kept, copies)
    }

    /// The packs that hold copies of needed chunks of which none is in `kept`: what became needed after `kept` was made. One copy of
    /// each chunk counts, in a pack that stays when there is one: neither `going` nor `gone` already.
    pub fn needed_since(&self, kept: &Bits, going: &BTreeSet<usize>, gone: &BTreeSet<usize>) -> Vec<usize> {
        let mut packs = Vec::new();
        let mut at = 0;
        for group in self.rows.chunk_by(|one, other| one[..4] == other[..4]) {
            if self.needed.get(at) && !group.iter().any(|row| kept.get(row[4] as usize)) {
                let numbers = || group.iter().map(|row| self.pack_of(row[4]));
                if numbers().all(|number| going.contains(&number) || gone.contains(&number)) {
                    packs.extend(numbers().find(|number| going.contains(number)));
                }
            }
            at += group.len();
        }
        packs.sort_unstable();
        packs.dedup();
        packs
    }
}
