//! Opening one block after the other.

use super::Result;
use super::block::{open_unit, verify_chunks};
use super::compress::{Decompressor, KEPT_MAX};
use super::directory::Block;
use super::key_tree::KeyTree;
use super::pack::PackKind;
use super::unit::OVERHEAD_BYTES;

/// Opens blocks and hashes their chunks. Keeps its working memory between them: a block of 2 MiB that is given back to the system
/// and taken again costs 512 page faults.
pub struct BlockVerifier {
    decompressor: Decompressor,
    unit: Vec<u8>,
    plain: Vec<u8>,
}

impl std::fmt::Debug for BlockVerifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BlockVerifier")
    }
}

impl BlockVerifier {
    /// One that has seen nothing.
    ///
    /// # Errors
    /// As [`Decompressor::new`].
    pub fn new() -> Result<Self> {
        Ok(Self { decompressor: Decompressor::new()?, unit: Vec::new(), plain: Vec::new() })
    }

    /// The content of the block that its pack's directory describes so: exactly its chunks. Opens it in place.
    ///
    /// # Errors
    /// What [`open`](super::block::open) and [`verify_chunks`] refuse.
    pub fn open(&mut self, keys: &KeyTree, kind: PackKind, block: &Block, unit: &mut [u8]) -> Result<&[u8]> {
        let content = open_unit(keys, kind, block.codec, block.plain_length, unit)?;
        self.drop_long();
        self.decompressor.decompress_into(&mut self.plain, block.codec, content, block.plain_length)?;
        verify_chunks(keys, kind, &self.plain, &block.chunks)?;
        Ok(&self.plain)
    }

    /// The same, of a unit that stays as it is.
    ///
    /// # Errors
    /// As [`BlockVerifier::open`].
    pub fn verify(&mut self, keys: &KeyTree, kind: PackKind, block: &Block, unit: &[u8]) -> Result<()> {
        let mut copy = std::mem::take(&mut self.unit);
        copy.clear();
        copy.reserve_exact(unit.len());
        copy.extend_from_slice(unit);
        let verified = self.open(keys, kind, block, &mut copy).map(|_| ());
        self.unit = copy;
        self.drop_long();
        verified
    }

    fn drop_long(&mut self) {
        for buffer in [&mut self.unit, &mut self.plain] {
            if buffer.capacity() > KEPT_MAX + OVERHEAD_BYTES {
                *buffer = Vec::new();
            }
        }
    }
}
