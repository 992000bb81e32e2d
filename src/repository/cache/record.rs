//! The bytes of every record in the cache, and the keyed check at the end of each. format-spec/cache.md, "Records".
//!
//! A check covers the table, the key, the value and, for blocks and chunks, the id of the pack that the pack number
//! stands for. So a record that was moved to another key or another table, or that is read beside a pack table with
//! other numbers, fails its check. Integers in keys are big endian (their order is the table's order), in values
//! little endian.

use super::{BlockPlace, Location, PackFact};
use crate::base::id::{ChunkId, ObjectId, RepositoryId};
use crate::codec::key_tree::Key;
use crate::codec::unit::Codec;

/// Bytes of a check: 64 bits.
pub const CHECK_BYTES: usize = 8;

/// Key of a chunk record: the chunk's id.
pub const CHUNK_KEY_BYTES: usize = 32;
/// Value of a chunk record: pack 4, block 2, offset 4, length 4, check 8.
pub const CHUNK_VALUE_BYTES: usize = 4 + 2 + 4 + 4 + CHECK_BYTES;
/// Key of a block record: pack 4, block 2.
pub const BLOCK_KEY_BYTES: usize = 4 + 2;
/// Value of a block record: offset 8, stored length 4, plain length 4, codec 1, check 8.
pub const BLOCK_VALUE_BYTES: usize = 8 + 4 + 4 + 1 + CHECK_BYTES;
/// Key of a pack record: its number.
pub const PACK_KEY_BYTES: usize = 4;
/// Value of a pack record: id 32, length 8, kind 1, segment 32, check 8.
pub const PACK_VALUE_BYTES: usize = 32 + 8 + 1 + 32 + CHECK_BYTES;
/// Key of a covered segment: its id.
pub const SEGMENT_KEY_BYTES: usize = 32;
/// Value of a covered segment: only a check.
pub const SEGMENT_VALUE_BYTES: usize = CHECK_BYTES;
/// Key of the one record that describes the whole file.
pub const META_KEY: [u8; 1] = [0];
/// Value of it: version 4, repository 32, generation 8, head 32, packs 4, segments 4, check 8.
pub const META_VALUE_BYTES: usize = 4 + 32 + 8 + 32 + 4 + 4 + CHECK_BYTES;

/// Version of the cache's layout. Another one is rebuilt, never converted.
pub const CACHE_VERSION: u32 = 1;

/// What a check or seal is made for; the first byte of what it covers.
#[derive(Clone, Copy)]
#[repr(u8)]
pub enum Purpose {
    /// A chunk record.
    Chunk = 1,
    /// A block record.
    Block = 2,
    /// A pack record.
    Pack = 3,
    /// The record about the whole file.
    Meta = 4,
    /// A covered segment.
    Segment = 5,
    /// One extent of the file.
    Extent = 6,
    /// The seal of the file.
    Seal = 7,
}

/// A keyed hash over `purpose` and `parts`.
pub fn keyed(key: &Key, purpose: Purpose, parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_keyed(key.expose());
    hasher.update(&[purpose as u8]);
    for part in parts {
        hasher.update(part);
    }
    *hasher.finalize().as_bytes()
}

/// Ends `value` with its check.
fn finish<const N: usize>(key: &Key, purpose: Purpose, record_key: &[u8], mut value: [u8; N], pack: &[u8]) -> [u8; N] {
    let (content, check) = value.split_at_mut(N - CHECK_BYTES);
    check.copy_from_slice(&keyed(key, purpose, &[record_key, content, pack])[..CHECK_BYTES]);
    value
}

/// The content of `value` when its check is right. Accidents are what a check guards against, so the comparison need
/// not take constant time.
fn checked<'a>(key: &Key, purpose: Purpose, record_key: &[u8], value: &'a [u8], pack: &[u8]) -> Option<&'a [u8]> {
    let (content, check) = value.split_at_checked(value.len().checked_sub(CHECK_BYTES)?)?;
    (keyed(key, purpose, &[record_key, content, pack])[..CHECK_BYTES] == *check).then_some(content)
}

/// Writes fields one after another into a value.
struct Fields<'a>(&'a mut [u8]);

impl Fields<'_> {
    fn put(&mut self, field: &[u8]) {
        let rest = std::mem::take(&mut self.0);
        let (place, rest) = rest.split_at_mut(field.len());
        place.copy_from_slice(field);
        self.0 = rest;
    }
}

/// Reads fields one after another.
fn take<'a, const N: usize>(from: &mut &'a [u8]) -> Option<&'a [u8; N]> {
    let (field, rest) = from.split_first_chunk()?;
    *from = rest;
    Some(field)
}

/// Key of the block record for block `block` of pack number `pack`.
pub fn block_key(pack: u32, block: u16) -> [u8; BLOCK_KEY_BYTES] {
    let mut record_key = [0; BLOCK_KEY_BYTES];
    let mut fields = Fields(&mut record_key);
    fields.put(&pack.to_be_bytes());
    fields.put(&block.to_be_bytes());
    record_key
}

/// Value of the record that says that `chunk` is at `at`.
pub fn chunk_value(key: &Key, chunk: &ChunkId, at: &Location) -> [u8; CHUNK_VALUE_BYTES] {
    let mut value = [0; CHUNK_VALUE_BYTES];
    let mut fields = Fields(&mut value);
    fields.put(&at.pack_number.to_le_bytes());
    fields.put(&at.block.to_le_bytes());
    fields.put(&at.offset.to_le_bytes());
    fields.put(&at.length.to_le_bytes());
    finish(key, Purpose::Chunk, chunk.as_bytes(), value, at.pack.as_bytes())
}

/// Where `chunk` is, when the record is true.
pub fn read_chunk(key: &Key, chunk: &ChunkId, value: &[u8], packs: &[PackFact]) -> Option<Location> {
    let mut fields = value;
    let pack_number = u32::from_le_bytes(*take(&mut fields)?);
    let pack = packs.get(usize::try_from(pack_number).ok()?)?.id;
    checked(key, Purpose::Chunk, chunk.as_bytes(), value, pack.as_bytes())?;
    Some(Location {
        pack,
        pack_number,
        block: u16::from_le_bytes(*take(&mut fields)?),
        offset: u32::from_le_bytes(*take(&mut fields)?),
        length: u32::from_le_bytes(*take(&mut fields)?),
    })
}

/// Value of a block record.
pub fn block_value(
    key: &Key,
    record_key: &[u8; BLOCK_KEY_BYTES],
    place: &BlockPlace,
    pack: &ObjectId,
) -> [u8; BLOCK_VALUE_BYTES] {
    let mut value = [0; BLOCK_VALUE_BYTES];
    let mut fields = Fields(&mut value);
    fields.put(&place.offset.to_le_bytes());
    fields.put(&place.stored_length.to_le_bytes());
    fields.put(&place.plain_length.to_le_bytes());
    fields.put(&[place.codec as u8]);
    finish(key, Purpose::Block, record_key, value, pack.as_bytes())
}

/// Where a block is in its pack, when the record is true.
pub fn read_block(key: &Key, record_key: &[u8; BLOCK_KEY_BYTES], value: &[u8], pack: &ObjectId) -> Option<BlockPlace> {
    let mut fields = checked(key, Purpose::Block, record_key, value, pack.as_bytes())?;
    Some(BlockPlace {
        offset: u64::from_le_bytes(*take(&mut fields)?),
        stored_length: u32::from_le_bytes(*take(&mut fields)?),
        plain_length: u32::from_le_bytes(*take(&mut fields)?),
        codec: Codec::try_from(take::<1>(&mut fields)?[0]).ok()?,
    })
}

/// Value of the record of pack `number`.
pub fn pack_value(key: &Key, number: u32, fact: &PackFact) -> [u8; PACK_VALUE_BYTES] {
    let mut value = [0; PACK_VALUE_BYTES];
    let mut fields = Fields(&mut value);
    fields.put(fact.id.as_bytes());
    fields.put(&fact.length.to_le_bytes());
    fields.put(&[fact.kind]);
    fields.put(fact.segment.as_bytes());
    finish(key, Purpose::Pack, &number.to_be_bytes(), value, &[])
}

/// The facts of pack `number`, when the record is true.
pub fn read_pack(key: &Key, number: u32, value: &[u8]) -> Option<PackFact> {
    let mut fields = checked(key, Purpose::Pack, &number.to_be_bytes(), value, &[])?;
    Some(PackFact {
        id: ObjectId(*take(&mut fields)?),
        length: u64::from_le_bytes(*take(&mut fields)?),
        kind: take::<1>(&mut fields)?[0],
        segment: ObjectId(*take(&mut fields)?),
    })
}

/// Value of a covered segment.
pub fn segment_value(key: &Key, segment: &ObjectId) -> [u8; SEGMENT_VALUE_BYTES] {
    finish(key, Purpose::Segment, segment.as_bytes(), [0; SEGMENT_VALUE_BYTES], &[])
}

/// True when the record of a covered segment is true.
pub fn segment_is_true(key: &Key, segment: &ObjectId, value: &[u8]) -> bool {
    checked(key, Purpose::Segment, segment.as_bytes(), value, &[]).is_some()
}

/// The record about the whole file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    /// Whose cache it is.
    pub repository: RepositoryId,
    /// Generation of the head that it was brought up to.
    pub generation: u64,
    /// Id of that head.
    pub head: ObjectId,
    /// Records in the pack table.
    pub packs: u32,
    /// Records in the table of covered segments.
    pub segments: u32,
}

impl Meta {
    /// Its value.
    pub fn value(&self, key: &Key) -> [u8; META_VALUE_BYTES] {
        let mut value = [0; META_VALUE_BYTES];
        let mut fields = Fields(&mut value);
        fields.put(&CACHE_VERSION.to_le_bytes());
        fields.put(self.repository.as_bytes());
        fields.put(&self.generation.to_le_bytes());
        fields.put(self.head.as_bytes());
        fields.put(&self.packs.to_le_bytes());
        fields.put(&self.segments.to_le_bytes());
        finish(key, Purpose::Meta, &META_KEY, value, &[])
    }

    /// Reads it, when it is true and of this version.
    pub fn read(key: &Key, value: &[u8]) -> Option<Self> {
        let mut fields = checked(key, Purpose::Meta, &META_KEY, value, &[])?;
        if u32::from_le_bytes(*take(&mut fields)?) != CACHE_VERSION {
            return None;
        }
        Some(Self {
            repository: RepositoryId(*take(&mut fields)?),
            generation: u64::from_le_bytes(*take(&mut fields)?),
            head: ObjectId(*take(&mut fields)?),
            packs: u32::from_le_bytes(*take(&mut fields)?),
            segments: u32::from_le_bytes(*take(&mut fields)?),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn key() -> Key {
        Key::new([7; 32])
    }

    fn packs() -> Vec<PackFact> {
        (0..3_u8)
            .map(|n| PackFact { id: ObjectId([n; 32]), length: 1 << 25, kind: 3, segment: ObjectId([9; 32]) })
            .collect()
    }

    #[test]
    fn a_chunk_record_reads_back_and_no_changed_bit_does() {
        let chunk = ChunkId([1; 32]);
        let at = Location { pack: ObjectId([2; 32]), pack_number: 2, block: 5, offset: 70_000, length: 1_048_576 };
        let value = chunk_value(&key(), &chunk, &at);
        assert_eq!(read_chunk(&key(), &chunk, &value, &packs()), Some(at));
        for bit in 0..value.len() * 8 {
            let mut changed = value;
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(read_chunk(&key(), &chunk, &changed, &packs()), None, "bit {bit}");
        }
        assert_eq!(read_chunk(&key(), &ChunkId([3; 32]), &value, &packs()), None);
        assert_eq!(read_chunk(&Key::new([8; 32]), &chunk, &value, &packs()), None);
    }

    #[test]
    fn records_fail_beside_a_pack_table_with_other_numbers() {
        let chunk = ChunkId([1; 32]);
        let at = Location { pack: ObjectId([1; 32]), pack_number: 1, block: 0, offset: 0, length: 10 };
        let value = chunk_value(&key(), &chunk, &at);
        let mut renumbered = packs();
        renumbered.swap(0, 1);
        assert_eq!(read_chunk(&key(), &chunk, &value, &renumbered), None);
        assert_eq!(read_chunk(&key(), &chunk, &value, &packs()[..1]), None);

        let record_key = block_key(1, 0);
        let place = BlockPlace { offset: 48, stored_length: 99, plain_length: 10, codec: Codec::Stored };
        let value = block_value(&key(), &record_key, &place, &ObjectId([1; 32]));
        assert_eq!(read_block(&key(), &record_key, &value, &ObjectId([1; 32])), Some(place));
        assert_eq!(read_block(&key(), &record_key, &value, &ObjectId([2; 32])), None);
        assert_eq!(read_block(&key(), &block_key(1, 1), &value, &ObjectId([1; 32])), None);
    }

    #[test]
    fn meta_of_another_version_is_refused_though_its_check_is_right() {
        let meta =
            Meta { repository: RepositoryId([4; 32]), generation: 12, head: ObjectId([5; 32]), packs: 3, segments: 2 };
        let value = meta.value(&key());
        assert_eq!(Meta::read(&key(), &value), Some(meta));
        let mut newer = value;
        newer[0] = 2;
        let newer = finish(&key(), Purpose::Meta, &META_KEY, newer, &[]);
        assert_eq!(Meta::read(&key(), &newer), None);
        assert_eq!(Meta::read(&key(), &value[1..]), None);
        assert_eq!(Meta::read(&key(), &[]), None);
    }
}
