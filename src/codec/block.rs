//! Blocks: several chunks, packed and sealed as one unit. format-spec/block.md.
//!
//! A block knows nothing of its place; which chunks it holds, in which order, stands in its pack's directory, and chunk
//! ids are checked again after every opening.

use super::chunk_list::ChunkRef;
use super::compress::{Compressor, Decompressor};
use super::key_tree::KeyTree;
use super::pack::PackKind;
use super::unit::{self, Codec, Context, OVERHEAD_BYTES, PREFIX_BYTES};
use super::{Error, Reason, Result};

/// Longest content of a block, in bytes: 16 MiB. format-spec/block.md.
pub const PLAIN_MAX: u32 = 16 << 20;
/// Longest stored block, in bytes: one that did not compress.
pub const STORED_MAX: u32 = PLAIN_MAX + OVERHEAD_BYTES as u32;

const STRUCTURE: &str = "block";

/// A block that is ready to be appended to a pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedBlock {
    /// How its content is packed.
    pub codec: Codec,
    /// The unit.
    pub bytes: Vec<u8>,
}

/// Packs and seals the concatenated chunks of one block. `random` is 32 fresh bytes.
///
/// # Errors
/// [`Reason::OutOfRange`] for an empty content or one over [`PLAIN_MAX`].
pub fn seal(
    keys: &KeyTree,
    kind: PackKind,
    compressor: &mut Compressor,
    plain: &[u8],
    random: &[u8; 32],
) -> Result<SealedBlock> {
    let plain_length = u32::try_from(plain.len()).unwrap_or(u32::MAX);
    check_length(plain_length)?;
    let mut bytes = vec![0; PREFIX_BYTES];
    let codec = compressor.compress(plain, &mut bytes)?;
    let context = Context { kind: kind.block_unit(), codec, plain_length, clear: b"" };
    unit::seal(keys, &context, random, &mut bytes)?;
    Ok(SealedBlock { codec, bytes })
}

/// Opens a block in place and returns its content. `codec` and `plain_length` come from the pack's directory.
///
/// # Errors
/// What [`unit::open`] and [`Decompressor::decompress`] refuse, and [`Reason::OutOfRange`] for a length over
/// [`PLAIN_MAX`].
pub fn open(
    keys: &KeyTree,
    kind: PackKind,
    decompressor: &mut Decompressor,
    codec: Codec,
    plain_length: u32,
    unit: &mut [u8],
) -> Result<Vec<u8>> {
    let content = open_unit(keys, kind, codec, plain_length, unit)?;
    decompressor.decompress(codec, content, plain_length)
}

/// Opens a block in place, and leaves its content packed.
pub(super) fn open_unit<'u>(
    keys: &KeyTree,
    kind: PackKind,
    codec: Codec,
    plain_length: u32,
    unit: &'u mut [u8],
) -> Result<&'u [u8]> {
    check_length(plain_length)?;
    let context = Context { kind: kind.block_unit(), codec, plain_length, clear: b"" };
    unit::open(keys, &context, unit)
}

/// Checks that `plain` is exactly these chunks, in this order.
///
/// # Errors
/// [`Reason::PlainLength`] when their lengths do not add up, [`Reason::ChunkId`] when one hashes to another id.
pub fn verify_chunks(keys: &KeyTree, kind: PackKind, plain: &[u8], chunks: &[ChunkRef]) -> Result<()> {
    let refuse = |reason| Error::new(STRUCTURE, reason);
    let mut rest = plain;
    for chunk in chunks {
        let (bytes, behind) =
            rest.split_at_checked(chunk.length as usize).ok_or_else(|| refuse(Reason::PlainLength))?;
        if keys.chunk_id(kind.chunk_kind(), bytes) != chunk.id {
            return Err(refuse(Reason::ChunkId));
        }
        rest = behind;
    }
    if rest.is_empty() { Ok(()) } else { Err(refuse(Reason::PlainLength)) }
}

fn check_length(plain_length: u32) -> Result<()> {
    if (1..=PLAIN_MAX).contains(&plain_length) {
        Ok(())
    } else {
        Err(Error::new(STRUCTURE, Reason::OutOfRange { field: "plain length" }))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::base::id::RepositoryId;
    use crate::codec::key_tree::{ChunkKind, MasterKey};

    fn keys(repository: u8) -> KeyTree {
        KeyTree::new(&MasterKey::new([7; 32]), RepositoryId([repository; 32]))
    }

    fn sealed(keys: &KeyTree, plain: &[u8]) -> SealedBlock {
        seal(keys, PackKind::Data, &mut Compressor::new(3).unwrap(), plain, &[1; 32]).unwrap()
    }

    fn opened(keys: &KeyTree, kind: PackKind, codec: Codec, length: u32, bytes: &[u8]) -> Result<Vec<u8>> {
        open(keys, kind, &mut Decompressor::new().unwrap(), codec, length, &mut bytes.to_vec())
    }

    #[test]
    fn a_block_comes_back() {
        let keys = keys(1);
        for plain in [b"x".to_vec(), b"text ".repeat(1000)] {
            let block = sealed(&keys, &plain);
            let length = u32::try_from(plain.len()).unwrap();
            assert_eq!(opened(&keys, PackKind::Data, block.codec, length, &block.bytes).unwrap(), plain);
        }
        assert_eq!(sealed(&keys, b"x").bytes.len(), 1 + OVERHEAD_BYTES);
    }

    #[test]
    fn every_other_context_fails_at_the_commitment() {
        let plain = b"text ".repeat(100);
        let block = sealed(&keys(1), &plain);
        let reason = |keys: &KeyTree, kind, codec, length, bytes: &[u8]| {
            opened(keys, kind, codec, length, bytes).unwrap_err().reason
        };
        let (data, zstd) = (PackKind::Data, Codec::Zstd);
        assert_eq!(block.codec, zstd);
        assert_eq!(reason(&keys(2), data, zstd, 500, &block.bytes), Reason::Commitment);
        assert_eq!(reason(&keys(1), PackKind::Tree, zstd, 500, &block.bytes), Reason::Commitment);
        assert_eq!(reason(&keys(1), data, Codec::Stored, 500, &block.bytes), Reason::Commitment);
        assert_eq!(reason(&keys(1), data, zstd, 501, &block.bytes), Reason::Commitment);
        for position in 0..block.bytes.len() {
            let mut bytes = block.bytes.clone();
            bytes[position] ^= 1;
            let expected = if position < PREFIX_BYTES { Reason::Commitment } else { Reason::Tag };
            assert_eq!(reason(&keys(1), data, zstd, 500, &bytes), expected, "byte {position}");
        }
        assert_eq!(reason(&keys(1), data, zstd, 500, &block.bytes[..79]), Reason::Truncated);
        assert!(matches!(reason(&keys(1), data, zstd, 0, &block.bytes), Reason::OutOfRange { .. }));
        assert!(matches!(reason(&keys(1), data, zstd, PLAIN_MAX + 1, &block.bytes), Reason::OutOfRange { .. }));
    }

    #[test]
    fn chunks_are_checked_one_by_one() {
        let keys = keys(1);
        let chunk = |kind, bytes: &[u8]| ChunkRef {
            id: keys.chunk_id(kind, bytes),
            length: u32::try_from(bytes.len()).unwrap(),
        };
        let (a, b) = (chunk(ChunkKind::Data, b"first"), chunk(ChunkKind::Data, b"second"));
        let verify = |kind, plain: &[u8], chunks: &[ChunkRef]| {
            verify_chunks(&keys, kind, plain, chunks).map_err(|error| error.reason)
        };
        assert_eq!(verify(PackKind::Data, b"firstsecond", &[a, b]), Ok(()));
        assert_eq!(verify(PackKind::Data, b"firstsecond", &[b, a]), Err(Reason::ChunkId));
        assert_eq!(verify(PackKind::Tree, b"firstsecond", &[a, b]), Err(Reason::ChunkId));
        assert_eq!(verify(PackKind::Data, b"firstsecond", &[a]), Err(Reason::PlainLength));
        assert_eq!(verify(PackKind::Data, b"firstsec", &[a, b]), Err(Reason::PlainLength));
    }
}
