//! Which part of which block goes where: one [`Piece`] for each chunk of each file that is written, sorted by pack and
//! block, so that each block is read and decoded once.
//!
//! A piece takes 40 bytes. Up to 2^20 of them are held and sorted in memory; beyond that sorted runs go to an unnamed
//! temporary file and are merged while they are read.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::base::id::ChunkId;
use crate::base::unnamed_file;

/// Pieces in memory: 2^20 of 40 bytes are 40 MiB.
const RUN_PIECES: usize = 1 << 20;
/// Pieces of a run that are read back at once.
const READ_PIECES: usize = 1 << 11;
/// Bytes of a chunk id that a piece carries: enough to notice any accident; who can forge a block has the keys.
const ID_PART: usize = 14;

/// One chunk of one file. Ordered by block, then by file and position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Piece {
    /// Row of the pack.
    pub pack: u32,
    /// Number of the block in it.
    pub block: u16,
    /// Row of the file.
    pub file: u32,
    /// Where the chunk begins in the file's data, holes not counted.
    pub position: u64,
    /// Where it begins in the plain block.
    pub offset: u32,
    /// Its length.
    pub length: u32,
    /// The beginning of its id.
    id: [u8; ID_PART],
}

const _: () = assert!(size_of::<Piece>() == Piece::BYTES);

impl Piece {
    const BYTES: usize = 40;

    /// The part of an id that a piece carries.
    pub fn id_part(id: &ChunkId) -> [u8; ID_PART] {
        let mut part = [0; ID_PART];
        part.copy_from_slice(&id.0[..ID_PART]);
        part
    }

    /// A piece of the chunk `id`.
    pub fn new(pack: u32, block: u16, file: u32, position: u64, offset: u32, length: u32, id: &ChunkId) -> Self {
        Self { pack, block, file, position, offset, length, id: Self::id_part(id) }
    }

    /// True when this is the chunk.
    pub fn is_of(&self, id: &ChunkId) -> bool {
        self.id == Self::id_part(id)
    }

    /// The block.
    pub const fn key(&self) -> (u32, u16) {
        (self.pack, self.block)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.pack.to_le_bytes());
        out.extend_from_slice(&self.block.to_le_bytes());
        out.extend_from_slice(&self.file.to_le_bytes());
        out.extend_from_slice(&self.position.to_le_bytes());
        out.extend_from_slice(&self.offset.to_le_bytes());
        out.extend_from_slice(&self.length.to_le_bytes());
        out.extend_from_slice(&self.id);
    }

    fn decode(mut bytes: &[u8]) -> Option<Self> {
        fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
            let (first, rest) = bytes.split_first_chunk()?;
            *bytes = rest;
            Some(*first)
        }
        let bytes = &mut bytes;
        Some(Self {
            pack: u32::from_le_bytes(take(bytes)?),
            block: u16::from_le_bytes(take(bytes)?),
            file: u32::from_le_bytes(take(bytes)?),
            position: u64::from_le_bytes(take(bytes)?),
            offset: u32::from_le_bytes(take(bytes)?),
            length: u32::from_le_bytes(take(bytes)?),
            id: take(bytes)?,
        })
    }
}

/// A sorted run in the temporary file.
#[derive(Debug)]
struct Run {
    next: u64,
    end: u64,
    buffer: std::vec::IntoIter<Piece>,
}

/// Takes pieces in any order and gives them back sorted.
#[derive(Debug)]
pub struct Pieces {
    memory: Vec<Piece>,
    capacity: usize,
    spill: Option<File>,
    runs: Vec<Run>,
    written: u64,
    /// How many there are.
    pub count: u64,
}

impl Default for Pieces {
    fn default() -> Self {
        Self::with_capacity(RUN_PIECES)
    }
}

impl Pieces {
    fn with_capacity(capacity: usize) -> Self {
        Self { memory: Vec::new(), capacity, spill: None, runs: Vec::new(), written: 0, count: 0 }
    }

    /// Adds one; spills to an unnamed file in `folder` when memory is used up.
    ///
    /// # Errors
    /// The temporary file cannot be written.
    pub fn push(&mut self, piece: Piece, folder: &Path) -> io::Result<()> {
        self.memory.push(piece);
        self.count += 1;
        if self.memory.len() >= self.capacity { self.spill(folder) } else { Ok(()) }
    }

    fn spill(&mut self, folder: &Path) -> io::Result<()> {
        let file = match &self.spill {
            Some(file) => file,
            None => self.spill.insert(unnamed_file::create(folder)?),
        };
        self.memory.sort_unstable();
        let start = self.written;
        let mut bytes = Vec::with_capacity(READ_PIECES * Piece::BYTES);
        for pieces in self.memory.chunks(READ_PIECES) {
            bytes.clear();
            pieces.iter().for_each(|piece| piece.encode(&mut bytes));
            file.write_all_at(&bytes, self.written)?;
            self.written += bytes.len() as u64;
        }
        self.memory.clear();
        self.runs.push(Run { next: start, end: self.written, buffer: Vec::new().into_iter() });
        Ok(())
    }

    /// No more come: what was added, in order.
    ///
    /// # Errors
    /// The temporary file cannot be read.
    pub fn sorted(mut self) -> io::Result<Sorted> {
        self.memory.sort_unstable();
        let mut sorted =
            Sorted { memory: self.memory.into_iter(), spill: self.spill, runs: self.runs, heap: BinaryHeap::new() };
        if !sorted.runs.is_empty() {
            for source in 0..=sorted.runs.len() {
                sorted.refill(source)?;
            }
        }
        Ok(sorted)
    }
}

/// Pieces in order.
#[derive(Debug)]
pub struct Sorted {
    memory: std::vec::IntoIter<Piece>,
    spill: Option<File>,
    runs: Vec<Run>,
    /// The next piece of every source; the source behind the runs is the memory.
    heap: BinaryHeap<Reverse<(Piece, usize)>>,
}

impl Sorted {
    fn refill(&mut self, source: usize) -> io::Result<()> {
        let next = match (self.runs.get_mut(source), &self.spill) {
            (Some(run), Some(file)) => {
                if run.buffer.len() == 0 && run.next < run.end {
                    let length = ((READ_PIECES * Piece::BYTES) as u64).min(run.end - run.next);
                    let mut bytes = vec![0; length as usize];
                    file.read_exact_at(&mut bytes, run.next)?;
                    run.next += length;
                    let pieces: Option<Vec<Piece>> = bytes.chunks(Piece::BYTES).map(Piece::decode).collect();
                    run.buffer = pieces.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?.into_iter();
                }
                run.buffer.next()
            }
            _ => self.memory.next(),
        };
        if let Some(piece) = next {
            self.heap.push(Reverse((piece, source)));
        }
        Ok(())
    }

    /// The next piece.
    ///
    /// # Errors
    /// The temporary file cannot be read.
    pub fn next(&mut self) -> io::Result<Option<Piece>> {
        if self.runs.is_empty() {
            return Ok(self.memory.next());
        }
        let Some(Reverse((piece, source))) = self.heap.pop() else { return Ok(None) };
        self.refill(source)?;
        Ok(Some(piece))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn piece(n: u64) -> Piece {
        let hash = blake3::hash(&n.to_le_bytes());
        let bytes = hash.as_bytes();
        let id = ChunkId(*bytes);
        let block = u16::from(bytes[1]);
        Piece::new(u32::from(bytes[0] % 7), block, n as u32, n << 33, n as u32, 3, &id)
    }

    #[test]
    fn pieces_come_back_sorted_with_and_without_spilling() {
        let folder = tempfile::tempdir().unwrap();
        let mut expected: Vec<Piece> = (0..10_000).map(piece).collect();
        expected.sort_unstable();
        for capacity in [20_000, 3_000, 100, 10_000] {
            let mut pieces = Pieces::with_capacity(capacity);
            (0..10_000).for_each(|n| pieces.push(piece(n), folder.path()).unwrap());
            assert_eq!(pieces.count, 10_000);
            let mut sorted = pieces.sorted().unwrap();
            let mut found = Vec::new();
            while let Some(piece) = sorted.next().unwrap() {
                found.push(piece);
            }
            assert!(found == expected, "{capacity}");
        }
    }

    #[test]
    fn a_piece_knows_its_chunk() {
        let id = ChunkId(*blake3::hash(b"x").as_bytes());
        let piece = Piece::new(0, 0, 0, 0, 0, 1, &id);
        assert!(piece.is_of(&id));
        let mut other = id;
        other.0[13] ^= 1;
        assert!(!piece.is_of(&other));
    }
}
