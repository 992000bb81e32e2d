//! Segments of the index: what the packs of one run hold. format-spec/segment.md.
//!
//! ```text
//! header 64 | clear table of packs | sealed body
//! ```
//!
//! The clear table lets anyone without a key know which packs a head needs, and how long they are. The body holds each
//! pack's directory, so that the index is rebuilt from segments alone, and the first bytes of the pack's directory unit, so
//! that a pack's own directory can be compared without opening it.

use bincode::{Decode, Encode};

use super::directory::DirectoryBody;
use super::key_tree::KeyTree;
use super::pack::{self, PackDirectory, PackKind};
use super::root::Shape;
use super::unit::{OVERHEAD_BYTES, PREFIX_BYTES, UnitKind};
use super::wire::Reader;
use super::{Error, ObjectKind, Reason, Result, body};
use crate::base::id::{ID_BYTES, ObjectId, RepositoryId};

/// Bytes of one row of the clear table: id 32, length u64, kind u8.
pub const ROW_BYTES: usize = ID_BYTES + 9;
/// Most packs of one segment.
pub const PACKS_MAX: usize = 1 << 16;
/// Most chunks of one segment; a run that stores more writes several.
pub const CHUNKS_MAX: usize = 1 << 18;
/// Longest plain body, padding included, in bytes.
pub const PLAIN_MAX: u32 = 64 << 20;

/// Longest stored segment, in bytes: table, body, and an eighth for header, frame and padding. Asked before it is read.
pub const BYTES_MAX: u64 = (PLAIN_MAX as u64 + (ROW_BYTES * PACKS_MAX) as u64) / 8 * 9;

/// Memory that decoding a body may take, in bytes.
const LIMIT: usize = 64 << 20;
const STRUCTURE: &str = "segment";
const SHAPE: Shape = Shape {
    structure: STRUCTURE,
    kind: ObjectKind::Segment,
    unit: UnitKind::Segment,
    row_bytes: ROW_BYTES,
    rows_max: PACKS_MAX as u32,
    plain_max: PLAIN_MAX,
};

const _: () = assert!(pack::CHUNKS_MAX <= CHUNKS_MAX, "every pack fits into one segment");

fn refuse(reason: Reason) -> Error {
    Error::new(STRUCTURE, reason)
}

/// A pack as the clear table names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackRow {
    /// The pack's name.
    pub id: ObjectId,
    /// Its stored length, in bytes.
    pub length: u64,
    /// What it holds.
    pub kind: PackKind,
}

/// The clear part of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentTable {
    /// The packs, strictly ascending by id.
    pub packs: Vec<PackRow>,
}

impl SegmentTable {
    /// Reads the table at the front of a segment. Needs no key, so it proves nothing: only a segment whose hash stands
    /// in a verified head is to be believed.
    ///
    /// # Errors
    /// In this order: [`Reason::Truncated`], [`Reason::WrongMagic`], [`Reason::UnknownVersion`], [`Reason::WrongKind`],
    /// [`Reason::UnknownKeyMode`], [`Reason::UnknownSuite`], [`Reason::UnknownCodec`], [`Reason::NonzeroReserved`],
    /// [`Reason::OtherRepository`], [`Reason::OutOfRange`], [`Reason::NotAscending`].
    pub fn parse(bytes: &[u8], repository: RepositoryId) -> Result<Self> {
        let (_, table) = SHAPE.parse(bytes, repository)?;
        let packs = table.as_chunks::<ROW_BYTES>().0.iter().map(parse_row).collect::<Result<Vec<_>>>()?;
        check_rows(&packs)?;
        Ok(Self { packs })
    }
}

fn parse_row(row: &[u8; ROW_BYTES]) -> Result<PackRow> {
    let mut reader = Reader::new(STRUCTURE, row);
    let (id, length) = (reader.object_id()?, reader.u64()?);
    let kind = PackKind::from_byte(reader.u8()?).ok_or(refuse(Reason::OutOfRange { field: "kind of a pack" }))?;
    Ok(PackRow { id, length, kind })
}

fn check_rows(rows: &[PackRow]) -> Result<()> {
    if rows.is_empty() || rows.len() > PACKS_MAX {
        return Err(refuse(Reason::OutOfRange { field: "number of packs" }));
    }
    if !rows.is_sorted_by(|a, b| a.id < b.id) {
        return Err(refuse(Reason::NotAscending { list: "packs" }));
    }
    if !rows.iter().all(|row| (pack::PADDED_MIN..=pack::LENGTH_MAX).contains(&row.length)) {
        return Err(refuse(Reason::OutOfRange { field: "length of a pack" }));
    }
    Ok(())
}

/// Everything about one pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentPack {
    /// The pack's name.
    pub id: ObjectId,
    /// Its stored length, in bytes.
    pub length: u64,
    /// What it holds.
    pub kind: PackKind,
    /// Its blocks and chunks.
    pub directory: PackDirectory,
    /// Salt and commitment of the directory unit in the pack, as stored there.
    pub directory_prefix: [u8; PREFIX_BYTES],
}

impl SegmentPack {
    const fn row(&self) -> PackRow {
        PackRow { id: self.id, length: self.length, kind: self.kind }
    }

    /// The pack is at least as long as what its directory describes.
    fn check_length(&self) -> Result<()> {
        let needed = self.directory.body_length() + (OVERHEAD_BYTES + pack::FOOTER_BYTES) as u64;
        if needed > self.length {
            return Err(refuse(Reason::OutOfRange { field: "length of a pack" }));
        }
        Ok(())
    }
}

/// What the packs of one run hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// The packs, strictly ascending by id.
    pub packs: Vec<SegmentPack>,
}

/// One pack as the body holds it; its row stands in the clear table.
#[derive(Encode, Decode)]
struct PackBody {
    directory_prefix: [u8; PREFIX_BYTES],
    directory: DirectoryBody,
}

impl Segment {
    /// Opens a whole segment.
    ///
    /// # Errors
    /// What [`SegmentTable::parse`] refuses, in the same order; [`Reason::Commitment`] for another key or a changed header
    /// or table, [`Reason::Tag`]; what [`body::decode`] refuses; [`Reason::OutOfRange`] and [`Reason::PlainLength`] for
    /// directories that no pack has.
    pub fn open(keys: &KeyTree, mut bytes: Vec<u8>) -> Result<Self> {
        let table = SegmentTable::parse(&bytes, keys.repository())?;
        let (_, content) = SHAPE.open(keys, &mut bytes)?;
        drop(bytes);
        let bodies: Vec<PackBody> = body::decode::<_, LIMIT>(STRUCTURE, &content)?;
        if bodies.len() != table.packs.len() {
            return Err(refuse(Reason::OutOfRange { field: "number of packs" }));
        }
        let pack = |(row, body): (PackRow, PackBody)| {
            let directory = PackDirectory::try_from(body.directory)?;
            let PackRow { id, length, kind } = row;
            let pack = SegmentPack { id, length, kind, directory, directory_prefix: body.directory_prefix };
            pack.check_length()?;
            Ok(pack)
        };
        let packs = table.packs.into_iter().zip(bodies).map(pack).collect::<Result<Vec<_>>>()?;
        let segment = Self { packs };
        segment.check_chunks()?;
        Ok(segment)
    }

    /// Number of chunks in all packs.
    #[must_use]
    pub fn chunk_count(&self) -> usize {
        self.packs.iter().map(|pack| pack.directory.chunk_count()).sum()
    }

    fn check_chunks(&self) -> Result<()> {
        if self.chunk_count() > CHUNKS_MAX {
            return Err(refuse(Reason::OutOfRange { field: "number of chunks" }));
        }
        Ok(())
    }
}

/// The bytes of a segment. `random` is 32 fresh bytes.
///
/// # Errors
/// [`Reason::NotAscending`] when the packs are not in order, [`Reason::OutOfRange`] when a limit is broken: more than
/// [`CHUNKS_MAX`] chunks go into several segments.
pub fn encode(keys: &KeyTree, segment: Segment, random: &[u8; 32]) -> Result<Vec<u8>> {
    let rows: Vec<PackRow> = segment.packs.iter().map(SegmentPack::row).collect();
    check_rows(&rows)?;
    segment.check_chunks()?;
    let mut table = Vec::with_capacity(rows.len() * ROW_BYTES);
    let mut bodies = Vec::with_capacity(rows.len());
    for pack in segment.packs {
        pack.directory.check()?;
        pack.check_length()?;
        table.extend_from_slice(pack.id.as_bytes());
        table.extend_from_slice(&pack.length.to_le_bytes());
        table.push(pack.kind.object_kind() as u8);
        bodies.push(PackBody { directory_prefix: pack.directory_prefix, directory: pack.directory.into() });
    }
    let rows = u32::try_from(rows.len()).map_err(|_| refuse(Reason::OutOfRange { field: "number of packs" }))?;
    let body = body::encode(STRUCTURE, &bodies)?;
    drop(bodies);
    SHAPE.seal(keys, rows, &table, body, random)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::base::id::ChunkId;
    use crate::codec::chunk_list::ChunkRef;
    use crate::codec::key_tree::MasterKey;
    use crate::codec::pack::Block;
    use crate::codec::root::HEADER_BYTES;
    use crate::codec::unit::Codec;

    fn keys() -> KeyTree {
        KeyTree::new(&MasterKey::new([7; 32]), RepositoryId([1; 32]))
    }

    fn pack(number: u8) -> SegmentPack {
        let chunks = vec![ChunkRef { id: ChunkId([number; 32]), length: 1000 }];
        let block = Block { codec: Codec::Zstd, stored_length: 500, plain_length: 1000, chunks };
        SegmentPack {
            id: ObjectId([number; 32]),
            length: 16 << 10,
            kind: if number.is_multiple_of(2) { PackKind::Data } else { PackKind::Tree },
            directory: PackDirectory { blocks: vec![block; usize::from(number)] },
            directory_prefix: [number; PREFIX_BYTES],
        }
    }

    fn refused(segment: &Segment) -> Reason {
        encode(&keys(), segment.clone(), &[0; 32]).unwrap_err().reason
    }

    #[test]
    fn a_segment_comes_back_and_its_table_needs_no_key() {
        let segment = Segment { packs: vec![pack(1), pack(2), pack(9)] };
        let bytes = encode(&keys(), segment.clone(), &[0; 32]).unwrap();
        assert_eq!(bytes.len(), 4096);
        let table = SegmentTable::parse(&bytes, RepositoryId([1; 32])).unwrap();
        assert_eq!(table.packs, segment.packs.iter().map(SegmentPack::row).collect::<Vec<_>>());
        assert_eq!(Segment::open(&keys(), bytes).unwrap(), segment);
        assert_eq!(segment.chunk_count(), 12);
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let bytes = encode(&keys(), Segment { packs: vec![pack(1), pack(2)] }, &[0; 32]).unwrap();
        let clear = HEADER_BYTES + 2 * ROW_BYTES;
        let ciphertext = clear + PREFIX_BYTES;
        for position in (0..ciphertext + 200).chain([bytes.len() - 1]) {
            let mut bytes = bytes.clone();
            bytes[position] ^= 0x10;
            let reason = Segment::open(&keys(), bytes).unwrap_err().reason;
            if position >= ciphertext {
                assert_eq!(reason, Reason::Tag, "byte {position}");
            } else if position >= clear {
                assert_eq!(reason, Reason::Commitment, "byte {position}");
            }
        }
        let mut shortened = bytes.clone();
        shortened[HEADER_BYTES + ID_BYTES + 1] ^= 0x80;
        assert_eq!(Segment::open(&keys(), shortened).unwrap_err().reason, Reason::Commitment, "a pack's length");
        for length in [0, HEADER_BYTES - 1, clear - 1, clear + 79] {
            assert_eq!(Segment::open(&keys(), bytes[..length].to_vec()).unwrap_err().reason, Reason::Truncated);
        }
    }

    #[test]
    fn segments_that_no_writer_makes_are_refused() {
        assert_eq!(refused(&Segment { packs: vec![] }), Reason::OutOfRange { field: "number of packs" });
        for packs in [vec![pack(2), pack(1)], vec![pack(1), pack(1)]] {
            assert_eq!(refused(&Segment { packs }), Reason::NotAscending { list: "packs" });
        }
        let short = SegmentPack { length: 100, ..pack(1) };
        assert_eq!(refused(&Segment { packs: vec![short] }), Reason::OutOfRange { field: "length of a pack" });
        let full = SegmentPack { length: 16 << 10, ..pack(40) };
        assert_eq!(refused(&Segment { packs: vec![full] }), Reason::OutOfRange { field: "length of a pack" });
        let mut many = pack(1);
        many.length = 256 << 20;
        let chunk = ChunkRef { id: ChunkId([1; 32]), length: 1 };
        let block = Block { codec: Codec::Zstd, stored_length: 500, plain_length: 65_536, chunks: vec![chunk; 65_536] };
        many.directory.blocks = vec![block; 3];
        let segment = Segment { packs: vec![many.clone(), SegmentPack { id: ObjectId([2; 32]), ..many }] };
        assert_eq!(refused(&segment), Reason::OutOfRange { field: "number of chunks" });
    }
}
