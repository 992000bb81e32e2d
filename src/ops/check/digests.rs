//! The digests of whole files. Chunks that are all right, in the wrong order or too few of them, are found by nothing else.
//!
//! Every distinct content that has a digest (chunk list, holes and digest together) is compared once. Most are hashed while the
//! packs are read: a file's chunks mostly lie one behind the other in packs that were written one after another, so the packs are
//! read in an order in which each follows those from which files go on into it. What does not come in order, because a file
//! shares chunks with others, is read once more for itself afterwards.
//!
//! Memory: 24 bytes for each chunk of a file that is hashed on the way, as for the record of the chunk itself, and no more of
//! these than twice as many as there are records; a hasher for each file that has begun, at most [`ACTIVE_MAX`].

use crate::base::lock::{into_inner, lock};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use rayon::prelude::*;

use super::trees::Source;
use crate::codec::chunk_list::ChunkRef;
use crate::codec::pack::PackKind;
use crate::codec::tree::{Content, Hole};
use crate::ops::Monitor;
use crate::ops::item_progress::ItemProgress;
use crate::repository::list_reader::Chunks;

/// Files that have begun and are not finished: a hasher takes 2 KiB.
const ACTIVE_MAX: usize = 4_096;
/// Holes that are kept until the end of a file; a file with more is read for itself.
const HOLES_MAX: usize = 8;
/// Chunks of one file that is hashed on the way: 24 MiB of places while they are found.
const CHUNKS_MAX: usize = 1 << 20;

/// Tells contents apart that are to have different digests.
pub(super) fn key(content: &Content) -> Option<u128> {
    let digest = content.digest?;
    let mut hasher = blake3::Hasher::new();
    hasher.update(&content.chunks.key().to_le_bytes()).update(&content.size.to_le_bytes()).update(&digest);
    for hole in &content.holes {
        hasher.update(&hole.offset.to_le_bytes()).update(&hole.length.to_le_bytes());
    }
    let mut key = [0; 16];
    hasher.finalize_xof().fill(&mut key);
    Some(u128::from_le_bytes(key))
}

/// One chunk of one file: in a block of a pack.
#[derive(Debug, Clone, Copy)]
pub(super) struct Piece {
    pub pack: u32,
    row: u32,
    /// The how many-th chunk of the file.
    ordinal: u32,
    offset: u32,
    length: u32,
    pub block: u16,
}

const _: () = assert!(size_of::<Piece>() <= 24);

/// One content.
#[derive(Debug)]
struct Row {
    key: u128,
    digest: [u8; 32],
    holes: Box<[Hole]>,
    chunks: u32,
    size: u64,
}

/// What is found while trees are read.
#[derive(Debug, Default)]
struct Found {
    rows: Vec<Row>,
    pieces: Vec<Piece>,
    /// Contents that are to be read for themselves, and their sizes.
    left: HashMap<u128, u64>,
    /// Contents with a wrong digest.
    wrong: HashSet<u128>,
    compared: u64,
}

/// Gathers the contents that have a digest. Shared by all threads.
#[derive(Debug, Default)]
pub(super) struct Gathering {
    seen: Mutex<HashSet<u128>>,
    found: Mutex<Found>,
}

impl Gathering {
    /// Takes note of the content of a file.
    pub fn meet(&self, source: &Source<'_>, content: &Content) {
        let (Some(digest), Some(key)) = (content.digest, key(content)) else { return };
        if !lock(&self.seen).insert(key) {
            return;
        }
        let places = Places::of(source, content);
        let mut found = lock(&self.found);
        match places {
            // Another finding names it.
            Places::Unreadable => {}
            Places::Apart => {
                found.left.insert(key, content.size);
            }
            Places::InOrder(_) if content.holes.len() > HOLES_MAX => {
                found.left.insert(key, content.size);
            }
            Places::InOrder(pieces) if pieces.is_empty() => {
                found.compared += 1;
                if Content::digest_of(blake3::Hasher::new(), &content.holes) != digest {
                    found.wrong.insert(key);
                }
            }
            Places::InOrder(pieces) => {
                let most = source.places.len().saturating_mul(2).max(CHUNKS_MAX);
                let row = u32::try_from(found.rows.len()).ok().filter(|_| found.pieces.len() + pieces.len() <= most);
                let Some(row) = row else {
                    found.left.insert(key, content.size);
                    return;
                };
                let holes = content.holes.clone().into_boxed_slice();
                found.rows.push(Row { key, digest, holes, chunks: pieces.len() as u32, size: content.size });
                found.pieces.extend(pieces.into_iter().map(|piece| Piece { row, ..piece }));
            }
        }
    }

    /// All trees have been read. What is in packs that `is_read` does not choose is not compared.
    pub fn finish(self, is_all: bool, is_read: impl Fn(u32) -> bool) -> Digests {
        let mut found = into_inner(self.found);
        let mut whole = vec![true; found.rows.len()];
        for piece in &found.pieces {
            if !is_read(piece.pack)
                && let Some(whole) = whole.get_mut(piece.row as usize)
            {
                *whole = false;
            }
        }
        let mut not_compared = whole.iter().filter(|whole| !**whole).count() as u64;
        found.pieces.retain(|piece| whole.get(piece.row as usize) == Some(&true));
        if !is_all {
            // They may lie in packs that nobody wants to be read.
            not_compared += std::mem::take(&mut found.left).len() as u64;
        }
        let order = order(&found.pieces);
        found.pieces.par_sort_unstable_by_key(|piece| (piece.pack, piece.block, piece.row, piece.ordinal));
        let mut ranges = HashMap::new();
        let mut start = 0;
        for run in found.pieces.chunk_by(|one, other| one.pack == other.pack) {
            ranges.extend(run.first().map(|first| (first.pack, start..start + run.len())));
            start += run.len();
        }
        Digests { found, order, ranges, not_compared, active: HashMap::new(), dropped: HashSet::new() }
    }
}

/// Where the chunks of a file lie.
enum Places {
    /// Each behind the one before, or in another pack that was not met before.
    InOrder(Vec<Piece>),
    /// In any other way.
    Apart,
    /// Somewhere it cannot be read.
    Unreadable,
}

impl Places {
    fn of(source: &Source<'_>, content: &Content) -> Self {
        let mut pieces: Vec<Piece> = Vec::new();
        let mut packs: HashSet<u32> = HashSet::new();
        let mut in_order = true;
        let mut add = |chunk: &ChunkRef| -> bool {
            let copies = source.places.copies(PackKind::Data, chunk);
            let Some(record) = copies.into_iter().find(|record| !source.bad.contains(record)) else { return false };
            let ordinal = pieces.len() as u32;
            let (pack, block, offset) = (record.pack, record.block, record.offset);
            in_order &= match pieces.last() {
                Some(last) if last.pack == pack => (last.block, last.offset) < (block, offset),
                _ => packs.insert(pack),
            };
            pieces.push(Piece { pack, row: 0, ordinal, offset, length: chunk.length, block });
            in_order &= pieces.len() <= CHUNKS_MAX;
            if !in_order {
                // What is not hashed on the way needs no places.
                pieces.clear();
            }
            true
        };
        if content.chunks.depth == 0 {
            if !content.chunks.chunks.iter().all(&mut add) {
                return Self::Unreadable;
            }
        } else {
            for chunk in Chunks::of_file(source, content) {
                if !chunk.is_ok_and(|chunk| add(&chunk)) {
                    return Self::Unreadable;
                }
            }
        }
        if in_order { Self::InOrder(pieces) } else { Self::Apart }
    }
}

/// An order of the packs in which each comes behind those from which a file goes on into it, as far as there is one; beside that
/// the order in which files were met.
fn order(pieces: &[Piece]) -> Vec<u32> {
    let mut first: HashMap<u32, usize> = HashMap::new();
    let mut follows: HashMap<u32, Vec<u32>> = HashMap::new();
    let mut waits: HashMap<u32, usize> = HashMap::new();
    let mut known: HashSet<(u32, u32)> = HashSet::new();
    // As gathered: file by file, chunk by chunk.
    for (place, piece) in pieces.iter().enumerate() {
        first.entry(piece.pack).or_insert(place);
        let before = place.checked_sub(1).and_then(|before| pieces.get(before));
        if let Some(before) = before.filter(|before| before.row == piece.row && before.pack != piece.pack)
            && known.insert((before.pack, piece.pack))
        {
            follows.entry(before.pack).or_default().push(piece.pack);
            *waits.entry(piece.pack).or_default() += 1;
        }
    }
    let mut rest: BTreeSet<(usize, u32)> = first.iter().map(|(pack, place)| (*place, *pack)).collect();
    let mut ready: BTreeSet<(usize, u32)> =
        rest.iter().filter(|(_, pack)| !waits.contains_key(pack)).copied().collect();
    let mut order = Vec::with_capacity(rest.len());
    // Where all wait for each other, the one that was met first goes first, and some files are read once more.
    while let Some(next) = ready.pop_first().or_else(|| rest.first().copied()) {
        if !rest.remove(&next) {
            continue;
        }
        order.push(next.1);
        for pack in follows.get(&next.1).into_iter().flatten() {
            if let Some(waiting) = waits.get_mut(pack) {
                *waiting = waiting.saturating_sub(1);
                if *waiting == 0 {
                    ready.extend(first.get(pack).map(|place| (*place, *pack)));
                }
            }
        }
    }
    order
}

/// A file that has begun.
#[derive(Debug, Clone)]
struct Active {
    hasher: blake3::Hasher,
    next: u32,
}

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct Compared {
    /// Distinct contents whose digest was compared.
    pub compared: u64,
    /// Distinct contents whose digest was not, although they can be read.
    pub not_compared: u64,
    /// Those whose digest is wrong.
    pub wrong: HashSet<u128>,
}

/// Every distinct content that has a digest.
#[derive(Debug)]
pub(super) struct Digests {
    found: Found,
    /// Packs that hold something of them, in the order in which they are to be read.
    order: Vec<u32>,
    /// Which pieces lie in each.
    ranges: HashMap<u32, Range<usize>>,
    not_compared: u64,
    active: HashMap<u32, Box<Active>>,
    /// Rows that are not hashed on the way any more.
    dropped: HashSet<u32>,
}

impl Digests {
    /// The packs that are to be read in this order.
    pub fn order(&self) -> &[u32] {
        &self.order
    }

    /// What lies in a pack, in the order of its blocks.
    fn pieces(&self, pack: u32) -> &[Piece] {
        self.ranges.get(&pack).and_then(|range| self.found.pieces.get(range.clone())).unwrap_or_default()
    }

    /// Which blocks of a pack hold something.
    pub fn blocks(&self, pack: u32) -> HashSet<u16> {
        self.pieces(pack).iter().map(|piece| piece.block).collect()
    }

    /// Takes neighbouring blocks of a pack, by their numbers: their content, or nothing for one that cannot be opened.
    pub fn take(&mut self, pack: u32, blocks: &[(u16, Option<Vec<u8>>)]) {
        let Some((first, _)) = blocks.first() else { return };
        let pieces = self.pieces(pack);
        let start = pieces.partition_point(|piece| piece.block < *first);
        let contents: HashMap<u16, &[u8]> =
            blocks.iter().filter_map(|(number, content)| Some((*number, content.as_deref()?))).collect();
        let last = blocks.last().map_or(*first, |(number, _)| *number);
        let mut rows: BTreeMap<u32, Vec<Chunk<'_>>> = BTreeMap::new();
        for piece in pieces.iter().skip(start).take_while(|piece| piece.block <= last) {
            let (from, length) = (piece.offset as usize, piece.length as usize);
            let bytes = contents.get(&piece.block).and_then(|block| block.get(from..)?.get(..length));
            rows.entry(piece.row).or_default().push((piece.ordinal, bytes));
        }
        let mut work = Vec::new();
        for (row, pieces) in rows {
            if self.dropped.contains(&row) {
                continue;
            }
            let active = match self.active.remove(&row) {
                Some(active) => active,
                None => Box::new(Active { hasher: blake3::Hasher::new(), next: 0 }),
            };
            work.push((row, active, pieces));
        }
        let done: Vec<(u32, Step)> =
            work.into_par_iter().map(|(row, active, pieces)| (row, active.go_on(&pieces))).collect();
        for (row, step) in done {
            self.keep(row, step);
        }
    }

    fn keep(&mut self, row: u32, step: Step) {
        let Some(known) = self.found.rows.get(row as usize) else { return };
        match step {
            Step::OnTheWay(active) if active.next < known.chunks && self.active.len() < ACTIVE_MAX => {
                self.active.insert(row, active);
            }
            Step::OnTheWay(active) if active.next == known.chunks => {
                self.found.compared += 1;
                if Content::digest_of(active.hasher, &known.holes) != known.digest {
                    self.found.wrong.insert(known.key);
                }
                self.dropped.insert(row);
            }
            Step::OnTheWay(_) | Step::OutOfOrder => {
                self.found.left.insert(known.key, known.size);
                self.dropped.insert(row);
            }
            Step::Unreadable => {
                self.dropped.insert(row);
            }
        }
    }

    /// All packs have been read: what has begun and did not end is read for itself. Gives what is left, with sizes.
    pub fn left(&mut self) -> HashMap<u128, u64> {
        let mut left = std::mem::take(&mut self.found.left);
        let begun = self.active.drain().filter_map(|(row, _)| self.found.rows.get(row as usize));
        left.extend(begun.map(|row| (row.key, row.size)));
        left
    }

    /// What came of it, with what was read for itself.
    pub fn finish(self, alone: &Alone<'_>) -> Compared {
        let mut wrong = self.found.wrong;
        wrong.extend(lock(&alone.wrong).iter());
        let compared = self.found.compared + alone.compared.load(Relaxed);
        Compared { compared, not_compared: self.not_compared + alone.failed.load(Relaxed), wrong }
    }
}

/// Which chunk of its file, and its bytes; none when its block cannot be opened.
type Chunk<'b> = (u32, Option<&'b [u8]>);

/// What became of a file with some more of its chunks.
enum Step {
    OnTheWay(Box<Active>),
    OutOfOrder,
    Unreadable,
}

impl Active {
    fn go_on(mut self: Box<Self>, pieces: &[Chunk<'_>]) -> Step {
        for (ordinal, bytes) in pieces {
            let Some(bytes) = bytes else { return Step::Unreadable };
            if *ordinal != self.next {
                return Step::OutOfOrder;
            }
            self.hasher.update(bytes);
            self.next += 1;
        }
        Step::OnTheWay(self)
    }
}

/// Reads contents for themselves, while trees are walked once more. Shared by all threads.
pub(super) struct Alone<'a> {
    left: Mutex<HashMap<u128, u64>>,
    wrong: Mutex<HashSet<u128>>,
    compared: AtomicU64,
    failed: AtomicU64,
    monitor: &'a dyn Monitor,
}

impl<'a> Alone<'a> {
    /// For these contents, by key, with their sizes.
    pub fn new(left: HashMap<u128, u64>, monitor: &'a dyn Monitor) -> Self {
        let (compared, failed) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { left: Mutex::new(left), wrong: Mutex::default(), compared, failed, monitor }
    }

    /// True when nothing waits to be read.
    pub fn is_done(&self) -> bool {
        lock(&self.left).is_empty()
    }

    /// Reads the content of a file, if it is one of those.
    pub fn meet(&self, source: &Source<'_>, content: &Content) {
        let Some(key) = key(content) else { return };
        let Some(size) = lock(&self.left).remove(&key) else { return };
        let mut progress = ItemProgress::new(self.monitor, 1, size);
        match self.digest(source, content, &mut progress) {
            Some(digest) => {
                self.compared.fetch_add(1, Relaxed);
                if Some(digest) != content.digest {
                    lock(&self.wrong).insert(key);
                }
            }
            None => {
                self.failed.fetch_add(1, Relaxed);
            }
        }
    }

    /// The digest of what is stored. None when it cannot be read: another finding names the cause.
    fn digest(&self, source: &Source<'_>, content: &Content, progress: &mut ItemProgress<'_>) -> Option<[u8; 32]> {
        let mut hasher = blake3::Hasher::new();
        for chunk in Chunks::of_file(source, content) {
            if self.monitor.interrupted() {
                return None;
            }
            let bytes = source.repository.chunk(PackKind::Data, &chunk.ok()?).ok()?;
            hasher.update(&bytes);
            progress.read(bytes.len() as u64);
        }
        Some(Content::digest_of(hasher, &content.holes))
    }
}
