//! Directories of packs: which blocks a pack has and which chunks each of them holds. format-spec/pack.md, "Directory".

use bincode::{Decode, Encode};

use super::block::PLAIN_MAX;
use super::chunk_list::ChunkRef;
use super::key_tree::DOMAIN;
use super::pack::{FOOTER_BYTES, HEADER_BYTES};
use super::unit::{Codec, OVERHEAD_BYTES};
use super::{Error, Reason, Result};

/// Most blocks of one pack.
pub const BLOCKS_MAX: usize = 65_535;
/// Most chunks of one pack: a segment takes no more.
pub const CHUNKS_MAX: usize = 1 << 18;
/// Longest encoded directory, in bytes; the longest possible is about 10 MiB.
pub const DIRECTORY_MAX: u32 = 16 << 20;

const STRUCTURE: &str = "pack";

fn refuse(reason: Reason) -> Error {
    Error::new(STRUCTURE, reason)
}

/// A block as its pack's directory describes it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Block {
    /// How its content is packed.
    pub codec: Codec,
    /// Length of the whole unit in the pack, in bytes.
    pub stored_length: u32,
    /// Length of its chunks together, in bytes.
    pub plain_length: u32,
    /// Its chunks, in order, without gaps.
    pub chunks: Vec<ChunkRef>,
}

impl Block {
    fn check(&self) -> Result<()> {
        let out_of_range = |field| Err(refuse(Reason::OutOfRange { field }));
        if !(1..=PLAIN_MAX).contains(&self.plain_length) {
            return out_of_range("plain length of a block");
        }
        let content = self.stored_length.checked_sub(OVERHEAD_BYTES as u32);
        match (self.codec, content) {
            (Codec::Stored, Some(content)) if content == self.plain_length => {}
            (Codec::Zstd, Some(content)) if content > 0 && content < self.plain_length => {}
            _ => return out_of_range("stored length of a block"),
        }
        self.chunks.iter().try_for_each(ChunkRef::check)?;
        let sum: u64 = self.chunks.iter().map(|chunk| u64::from(chunk.length)).sum();
        if sum != u64::from(self.plain_length) {
            return Err(refuse(Reason::PlainLength));
        }
        Ok(())
    }
}

/// What a pack holds: its blocks in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PackDirectory {
    /// The blocks, in the order in which they stand in the pack, without gaps.
    pub blocks: Vec<Block>,
}

/// The directory as it is encoded.
#[derive(Encode, Decode)]
pub(super) struct DirectoryBody {
    /// Whose chunk ids these are; always [`DOMAIN`] in version 1.
    domain: u32,
    blocks: Vec<Block>,
}

impl From<PackDirectory> for DirectoryBody {
    fn from(directory: PackDirectory) -> Self {
        Self { domain: DOMAIN, blocks: directory.blocks }
    }
}

impl TryFrom<DirectoryBody> for PackDirectory {
    type Error = Error;

    fn try_from(body: DirectoryBody) -> Result<Self> {
        if body.domain != DOMAIN {
            return Err(refuse(Reason::OutOfRange { field: "dedup domain" }));
        }
        let directory = Self { blocks: body.blocks };
        directory.check()?;
        Ok(directory)
    }
}

impl PackDirectory {
    /// The blocks with the offsets at which they begin in the pack, in bytes.
    pub fn placed(&self) -> impl Iterator<Item = (u64, &Block)> {
        self.blocks.iter().scan(HEADER_BYTES as u64, |end, block| {
            let offset = *end;
            *end += u64::from(block.stored_length);
            Some((offset, block))
        })
    }

    /// Where block `index` begins in the pack, in bytes; `None` when there is no such block.
    #[must_use]
    pub fn block_offset(&self, index: usize) -> Option<u64> {
        self.placed().nth(index).map(|(offset, _)| offset)
    }

    /// Length of header and blocks together: where the directory unit begins, in bytes.
    #[must_use]
    pub fn body_length(&self) -> u64 {
        HEADER_BYTES as u64 + self.blocks.iter().map(|block| u64::from(block.stored_length)).sum::<u64>()
    }

    /// Number of chunks in all blocks.
    #[must_use]
    pub fn chunk_count(&self) -> usize {
        self.blocks.iter().map(|block| block.chunks.len()).sum()
    }

    /// A pack's length before padding is at most `body_length` and this, in bytes, when its directory describes so many
    /// blocks and chunks. A writer closes a pack before the next block would lift it over its wanted length.
    #[must_use]
    pub const fn room(blocks: usize, chunks: usize) -> u64 {
        // Domain 1, count 5; a block's codec 1, lengths 5 + 5, count 5; a chunk's id 32, length 5.
        (OVERHEAD_BYTES + FOOTER_BYTES) as u64 + 6 + 16 * blocks as u64 + 37 * chunks as u64
    }

    /// Refuses directories that no writer makes.
    ///
    /// # Errors
    /// [`Reason::OutOfRange`]; [`Reason::PlainLength`] when the chunks of a block do not add up to it.
    pub(super) fn check(&self) -> Result<()> {
        if self.blocks.is_empty() || self.blocks.len() > BLOCKS_MAX {
            return Err(refuse(Reason::OutOfRange { field: "number of blocks" }));
        }
        if self.chunk_count() > CHUNKS_MAX {
            return Err(refuse(Reason::OutOfRange { field: "number of chunks" }));
        }
        self.blocks.iter().try_for_each(Block::check)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::base::id::ChunkId;

    #[test]
    fn directories_that_no_writer_makes_are_refused() {
        let chunk = ChunkRef { id: ChunkId([1; 32]), length: 10 };
        let good = Block { codec: Codec::Stored, stored_length: 90, plain_length: 10, chunks: vec![chunk] };
        let check = |block: Block| PackDirectory { blocks: vec![block] }.check().map_err(|error| error.reason.slug());
        assert_eq!(check(good.clone()), Ok(()));
        assert_eq!(check(Block { plain_length: 11, stored_length: 91, ..good.clone() }), Err("plain-length"));
        assert_eq!(check(Block { chunks: vec![chunk, chunk], ..good.clone() }), Err("plain-length"));
        assert_eq!(check(Block { chunks: vec![], ..good.clone() }), Err("plain-length"));
        assert_eq!(check(Block { stored_length: 79, ..good.clone() }), Err("out-of-range"));
        assert_eq!(check(Block { stored_length: 91, ..good.clone() }), Err("out-of-range"));
        assert_eq!(
            check(Block { codec: Codec::Zstd, ..good.clone() }),
            Err("out-of-range"),
            "a frame that saves nothing"
        );
        assert_eq!(check(Block { plain_length: PLAIN_MAX + 1, ..good.clone() }), Err("out-of-range"));
        assert!(PackDirectory::default().check().is_err());
        let many = PackDirectory { blocks: vec![good.clone(); BLOCKS_MAX + 1] };
        assert_eq!(many.check().unwrap_err().reason, Reason::OutOfRange { field: "number of blocks" });
    }
}
