//! Where the chunks of trees lie, by their ordinals in the table of chunks.
//!
//! Marking reads every listing. It asks here and not the cache: the segments were read for the table anyway, and the pages of
//! the cache would take as much memory as a third of the table. 4 bytes a chunk of a tree, and about 60 a block of them.

use crate::base::id::ObjectId;
use crate::codec::pack::PackKind;
use crate::codec::segment::SegmentPack;
use crate::repository::cache::BlockPlace;
use crate::repository::index::Place;

#[derive(Debug)]
struct TreePack {
    id: ObjectId,
    /// Ordinal of its first chunk.
    first: u32,
    /// How many chunks it holds.
    chunks: u32,
    /// Numbers of its first block and of its first chunk, here.
    blocks_at: usize,
    offsets_at: usize,
}

#[derive(Debug)]
struct TreeBlock {
    /// Number of its first chunk in the pack.
    first: u32,
    at: BlockPlace,
}

/// Places of chunks in tree packs.
#[derive(Debug, Default)]
pub(super) struct TreePlaces {
    /// Ascending by their ordinals.
    packs: Vec<TreePack>,
    blocks: Vec<TreeBlock>,
    /// Where each chunk begins in its plain block.
    offsets: Vec<u32>,
}

impl TreePlaces {
    /// For so many chunks of trees.
    pub fn new(chunks: usize) -> Self {
        Self { offsets: Vec::with_capacity(chunks), ..Self::default() }
    }

    /// Adds a pack whose first chunk has the ordinal `first`, above all that were added. Of a data pack nothing is noted.
    pub fn add(&mut self, pack: &SegmentPack, first: u32) {
        if pack.kind != PackKind::Tree {
            return;
        }
        let (blocks_at, offsets_at) = (self.blocks.len(), self.offsets.len());
        for (offset, block) in pack.directory.placed() {
            let at = BlockPlace {
                offset,
                stored_length: block.stored_length,
                plain_length: block.plain_length,
                codec: block.codec,
            };
            self.blocks.push(TreeBlock { first: (self.offsets.len() - offsets_at) as u32, at });
            self.offsets.extend(block.chunks.iter().scan(0, |end, chunk| {
                let start = *end;
                *end += chunk.length;
                Some(start)
            }));
        }
        let chunks = (self.offsets.len() - offsets_at) as u32;
        self.packs.push(TreePack { id: pack.id, first, chunks, blocks_at, offsets_at });
    }

    /// Where the chunk with this ordinal lies; `None` when that is not in a tree pack.
    pub fn place(&self, ordinal: u32) -> Option<Place> {
        let number = self.packs.partition_point(|pack| pack.first <= ordinal).checked_sub(1)?;
        let pack = self.packs.get(number)?;
        let chunk = ordinal.checked_sub(pack.first).filter(|chunk| *chunk < pack.chunks)?;
        let blocks_end = self.packs.get(number + 1).map_or(self.blocks.len(), |next| next.blocks_at);
        let blocks = self.blocks.get(pack.blocks_at..blocks_end)?;
        let index = blocks.partition_point(|block| block.first <= chunk).checked_sub(1)?;
        let block = blocks.get(index)?;
        let offsets = self.offsets.get(pack.offsets_at..)?;
        let offset = *offsets.get(chunk as usize)?;
        let is_last = chunk + 1 == blocks.get(index + 1).map_or(pack.chunks, |next| next.first);
        let end = if is_last { block.at.plain_length } else { *offsets.get(chunk as usize + 1)? };
        let length = end.checked_sub(offset)?;
        Some(Place { pack: pack.id, block: u16::try_from(index).ok()?, at: block.at, offset, length })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::base::id::ChunkId;
    use crate::codec::chunk_list::ChunkRef;
    use crate::codec::pack::{Block, HEADER_BYTES, PackDirectory};
    use crate::codec::unit::{Codec, PREFIX_BYTES};

    fn pack(kind: PackKind, number: u8, blocks: &[&[u32]]) -> SegmentPack {
        let block = |lengths: &&[u32]| Block {
            codec: Codec::Zstd,
            stored_length: 100,
            plain_length: lengths.iter().sum(),
            chunks: lengths.iter().map(|length| ChunkRef { id: ChunkId([number; 32]), length: *length }).collect(),
        };
        SegmentPack {
            id: ObjectId([number; 32]),
            length: 16 << 10,
            kind,
            directory: PackDirectory { blocks: blocks.iter().map(block).collect() },
            directory_prefix: [number; PREFIX_BYTES],
        }
    }

    #[test]
    fn every_chunk_of_a_tree_is_found_where_its_directory_says_and_no_other() {
        let packs = [
            pack(PackKind::Data, 1, &[&[5], &[6, 7]]),
            pack(PackKind::Tree, 2, &[&[10, 20, 30], &[40]]),
            pack(PackKind::Data, 3, &[&[8]]),
            pack(PackKind::Tree, 4, &[&[1], &[2], &[3, 4]]),
            pack(PackKind::Tree, 5, &[&[9]]),
        ];
        let mut places = TreePlaces::new(0);
        let mut first = 0;
        for pack in &packs {
            places.add(pack, first);
            first += pack.directory.chunk_count() as u32;
        }
        let mut ordinal = 0;
        for pack in &packs {
            for (index, (start, block)) in pack.directory.placed().enumerate() {
                let mut offset = 0;
                for chunk in &block.chunks {
                    let found = places.place(ordinal);
                    ordinal += 1;
                    if pack.kind == PackKind::Data {
                        assert_eq!(found, None);
                        continue;
                    }
                    let found = found.unwrap();
                    assert_eq!((found.pack, usize::from(found.block)), (pack.id, index));
                    assert_eq!((found.offset, found.length), (offset, chunk.length));
                    assert_eq!(found.at.offset, start);
                    assert!(start >= HEADER_BYTES as u64);
                    offset += chunk.length;
                }
            }
        }
        assert_eq!(places.place(ordinal), None);
        assert_eq!(TreePlaces::default().place(0), None);
    }
}
