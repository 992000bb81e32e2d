//! Where every live chunk lies, according to the segments alone.
//!
//! A check holds all chunks of a repository at once, so a record is small: 24 bytes, with the first 64 bits of the
//! chunk's id. That is enough to say that a chunk is there (a chance of 2^-40 for one that is missing among ten million);
//! whatever is read is checked against the whole id.

use std::collections::{HashMap, HashSet};

use rayon::prelude::*;

use super::digests;
use crate::base::id::{ChunkId, ObjectId};
use crate::codec::chunk_list::ChunkRef;
use crate::codec::pack::PackKind;
use crate::codec::segment::Segment;
use crate::codec::tree::Content;
use crate::repository::cache::BlockPlace;
use crate::repository::index::Place;

/// One live pack.
#[derive(Debug)]
pub(super) struct LivePack {
    pub id: ObjectId,
    /// Stored length in bytes, as the segment says.
    pub length: u64,
    pub kind: PackKind,
    /// The segment that lists it.
    pub segment: ObjectId,
    /// Where its blocks are; kept for tree packs, which are read chunk by chunk.
    blocks: Vec<BlockPlace>,
}

/// One copy of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Record {
    /// First 64 bits of the chunk's id, in two halves: the record needs no alignment to 8 bytes.
    fingerprint: [u32; 2],
    length: u32,
    /// Number of the pack.
    pub pack: u32,
    pub offset: u32,
    /// Number of the block in its pack.
    pub block: u16,
}

/// Where every live chunk lies.
#[derive(Debug, Default)]
pub(super) struct Places {
    packs: Vec<LivePack>,
    numbers: HashMap<ObjectId, u32>,
    data: Vec<Record>,
    tree: Vec<Record>,
}

fn fingerprint(id: &ChunkId) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h, ..] = id.0;
    [u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h])]
}

impl Places {
    /// Adds the packs of a segment that `is_live` keeps. A pack that two segments list is taken once.
    pub fn add(&mut self, id: ObjectId, segment: &Segment, is_live: impl Fn(&ObjectId) -> bool) {
        for pack in segment.packs.iter().filter(|pack| is_live(&pack.id)) {
            if self.numbers.contains_key(&pack.id) {
                continue;
            }
            let number = self.packs.len() as u32;
            self.numbers.insert(pack.id, number);
            let records = match pack.kind {
                PackKind::Data => &mut self.data,
                PackKind::Tree => &mut self.tree,
            };
            let mut blocks = Vec::new();
            for (index, (at, block)) in pack.directory.placed().enumerate() {
                if pack.kind == PackKind::Tree {
                    blocks.push(BlockPlace {
                        offset: at,
                        stored_length: block.stored_length,
                        plain_length: block.plain_length,
                        codec: block.codec,
                    });
                }
                let mut offset = 0;
                for chunk in &block.chunks {
                    let fingerprint = fingerprint(&chunk.id);
                    let length = chunk.length;
                    // A pack has at most 65,535 blocks.
                    records.push(Record { fingerprint, length, pack: number, offset, block: index as u16 });
                    offset += length;
                }
            }
            self.packs.push(LivePack { id: pack.id, length: pack.length, kind: pack.kind, segment: id, blocks });
        }
    }

    /// All segments have been added.
    pub fn finish(&mut self) {
        self.data.shrink_to_fit();
        self.data.par_sort_unstable();
        self.tree.par_sort_unstable();
    }

    /// How many chunks there are, each copy counted.
    pub fn len(&self) -> usize {
        self.data.len() + self.tree.len()
    }

    /// Every live pack, by number.
    pub fn packs(&self) -> &[LivePack] {
        &self.packs
    }

    /// The number of a live pack.
    pub fn number(&self, id: &ObjectId) -> Option<u32> {
        self.numbers.get(id).copied()
    }

    /// The live pack with this number.
    pub fn pack(&self, number: u32) -> Option<&LivePack> {
        self.packs.get(number as usize)
    }

    /// Every copy of a chunk with the length that is expected.
    pub fn copies(&self, kind: PackKind, chunk: &ChunkRef) -> impl Iterator<Item = &Record> {
        let records = match kind {
            PackKind::Data => &self.data,
            PackKind::Tree => &self.tree,
        };
        let (wanted, length) = (fingerprint(&chunk.id), chunk.length);
        let first = records.partition_point(|record| (record.fingerprint, record.length) < (wanted, length));
        let found = records.get(first..).unwrap_or_default().iter();
        found.take_while(move |record| (record.fingerprint, record.length) == (wanted, length))
    }

    /// How to read a copy of a tree chunk.
    pub fn place(&self, record: &Record) -> Option<Place> {
        let pack = self.pack(record.pack)?;
        let at = *pack.blocks.get(usize::from(record.block))?;
        Some(Place { pack: pack.id, block: record.block, at, offset: record.offset, length: record.length })
    }
}

/// What is known to be unreadable.
#[derive(Debug, Clone, Default)]
pub(super) struct Bad {
    /// Packs of which nothing can be relied on.
    packs: HashSet<u32>,
    /// Single blocks.
    blocks: HashSet<(u32, u16)>,
    /// Contents whose digest is wrong.
    contents: HashSet<u128>,
}

impl Bad {
    /// Nothing of the pack can be relied on.
    pub fn add_pack(&mut self, pack: u32) -> bool {
        self.packs.insert(pack)
    }

    /// One block is damaged.
    pub fn add_block(&mut self, pack: u32, block: u16) -> bool {
        self.blocks.insert((pack, block))
    }

    /// These contents, by key, have another digest than recorded.
    pub fn add_contents(&mut self, wrong: &HashSet<u128>) -> bool {
        self.contents.extend(wrong);
        !wrong.is_empty()
    }

    /// True when the digest of the content is known to be wrong.
    pub fn has_wrong_digest(&self, content: &Content) -> bool {
        !self.contents.is_empty() && digests::key(content).is_some_and(|key| self.contents.contains(&key))
    }

    /// True when this copy is not to be had.
    pub fn contains(&self, record: &Record) -> bool {
        self.packs.contains(&record.pack) || self.blocks.contains(&(record.pack, record.block))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_stays_small() {
        assert!(size_of::<Record>() <= 24);
    }
}
