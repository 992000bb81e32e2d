//! Roots: objects with a clear header, perhaps a clear table, and one sealed body. Segments and snapshots are roots.
//! format-spec/root.md.
//!
//!     header 64 | table | unit of (body length u32 | body | zeros)
//!
//! Header and table are part of the unit's key derivation: a changed bit that no check sees fails at the commitment.
//! The zeros are inside the unit; they let the object's length step coarsely.

use super::compress::Decompressor;
use super::key_tree::KeyTree;
use super::pack::KEY_MODE;
use super::padding::padded_length;
use super::unit::{self, Codec, Context, OVERHEAD_BYTES, PREFIX_BYTES, UnitKind};
use super::{Error, ObjectKind, Reason, Result, SUITE, VERSION};
use crate::base::id::RepositoryId;

/// Bytes before the table.
pub const HEADER_BYTES: usize = 64;
/// The shortest padded root, in bytes.
pub const PADDED_MIN: u64 = 4 << 10;
/// Bytes of the body's length, before the body.
const LENGTH_BYTES: usize = 4;

/// What makes one kind of root different from another.
pub(super) struct Shape {
    /// Name in errors.
    pub structure: &'static str,
    pub magic: [u8; 8],
    pub kind: ObjectKind,
    pub unit: UnitKind,
    /// Bytes of one row of the clear table; zero when there is none.
    pub row_bytes: usize,
    /// Most rows.
    pub rows_max: u32,
    /// Longest plain content of the unit, zeros included, in bytes.
    pub plain_max: u32,
}

/// The clear header, parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    codec: Codec,
    plain_length: u32,
    /// Rows of the table.
    pub rows: u32,
}

impl Shape {
    const fn refuse(&self, reason: Reason) -> Error {
        Error::new(self.structure, reason)
    }

    /// Bytes of header and table.
    fn clear_length(&self, rows: u32) -> usize {
        HEADER_BYTES + self.row_bytes * rows as usize
    }

    fn header(&self, repository: RepositoryId, header: Header) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(&self.magic);
        bytes[8..13].copy_from_slice(&[VERSION, self.kind as u8, KEY_MODE, SUITE, header.codec as u8]);
        bytes[16..20].copy_from_slice(&header.plain_length.to_le_bytes());
        bytes[20..24].copy_from_slice(&header.rows.to_le_bytes());
        bytes[32..].copy_from_slice(repository.as_bytes());
        bytes
    }

    /// Splits a root into its header and its table's bytes. Needs no key; what follows the table may be missing.
    pub(super) fn parse<'a>(&self, bytes: &'a [u8], repository: RepositoryId) -> Result<(Header, &'a [u8])> {
        let refuse = |reason| Err(self.refuse(reason));
        let Some((header, rest)) = bytes.split_first_chunk::<HEADER_BYTES>() else { return refuse(Reason::Truncated) };
        if header[..8] != self.magic {
            return refuse(Reason::WrongMagic);
        }
        if header[8] != VERSION {
            return refuse(Reason::UnknownVersion { version: header[8] });
        }
        if header[9] != self.kind as u8 {
            return refuse(Reason::WrongKind { expected: self.kind as u8, found: header[9] });
        }
        if header[10] != KEY_MODE {
            return refuse(Reason::UnknownKeyMode { mode: header[10] });
        }
        if header[11] != SUITE {
            return refuse(Reason::UnknownSuite { suite: header[11] });
        }
        let codec = Codec::try_from(header[12]).map_err(|reason| self.refuse(reason))?;
        if header[13..16] != [0; 3] || header[24..32] != [0; 8] {
            return refuse(Reason::NonzeroReserved);
        }
        if header[32..] != repository.0 {
            return refuse(Reason::OtherRepository);
        }
        let number = |at: usize| header[at..].first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes));
        let (plain_length, rows) = (number(16), number(20));
        if plain_length > self.plain_max || (plain_length as usize) < LENGTH_BYTES {
            return refuse(Reason::OutOfRange { field: "plain length" });
        }
        if rows > self.rows_max {
            return refuse(Reason::OutOfRange { field: "number of rows" });
        }
        let table = rest.get(..self.row_bytes * rows as usize).ok_or(self.refuse(Reason::Truncated))?;
        Ok((Header { codec, plain_length, rows }, table))
    }

    /// Seals a body. `table` holds `rows` rows.
    pub(super) fn seal(
        &self,
        keys: &KeyTree,
        rows: u32,
        table: &[u8],
        body: &[u8],
        random: &[u8; 32],
    ) -> Result<Vec<u8>> {
        let too_long = || self.refuse(Reason::OutOfRange { field: "plain length" });
        let clear_length = self.clear_length(rows);
        let length = clear_length + OVERHEAD_BYTES + LENGTH_BYTES + body.len();
        let padded = padded_length(length as u64, PADDED_MIN);
        let plain_length = padded - (clear_length + OVERHEAD_BYTES) as u64;
        let plain_length =
            u32::try_from(plain_length).ok().filter(|length| *length <= self.plain_max).ok_or_else(too_long)?;
        let body_length = u32::try_from(body.len()).map_err(|_| too_long())?;
        let header = Header { codec: Codec::Stored, plain_length, rows };
        let mut object = self.header(keys.repository(), header).to_vec();
        object.extend_from_slice(table);
        let mut unit = Vec::with_capacity(plain_length as usize + OVERHEAD_BYTES);
        unit.resize(PREFIX_BYTES, 0);
        unit.extend_from_slice(&body_length.to_le_bytes());
        unit.extend_from_slice(body);
        unit.resize(PREFIX_BYTES + plain_length as usize, 0);
        let context = Context { kind: self.unit, codec: header.codec, plain_length, clear: &object };
        unit::seal(keys, &context, random, &mut unit)?;
        object.append(&mut unit);
        Ok(object)
    }

    /// Opens a whole root and returns its header and body. The bytes are used up.
    pub(super) fn open(&self, keys: &KeyTree, bytes: &mut [u8]) -> Result<(Header, Vec<u8>)> {
        let (header, _) = self.parse(bytes, keys.repository())?;
        let Some((clear, unit)) = bytes.split_at_mut_checked(self.clear_length(header.rows)) else {
            return Err(self.refuse(Reason::Truncated));
        };
        let context = Context { kind: self.unit, codec: header.codec, plain_length: header.plain_length, clear };
        let content = unit::open(keys, &context, unit)?;
        let mut plain = Decompressor::new()?.decompress(header.codec, content, header.plain_length)?;
        let body_end = plain.first_chunk().map(|length| u32::from_le_bytes(*length) as usize + LENGTH_BYTES);
        let Some(zeros) = body_end.and_then(|end| plain.get(end..)) else {
            return Err(self.refuse(Reason::Truncated));
        };
        if zeros.iter().any(|byte| *byte != 0) {
            return Err(self.refuse(Reason::NonzeroReserved));
        }
        plain.truncate(plain.len() - zeros.len());
        plain.drain(..LENGTH_BYTES);
        Ok((header, plain))
    }
}
