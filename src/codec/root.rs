//! Roots: objects with a clear header, perhaps a clear table, and one sealed body. Segments and snapshots are roots.
//! format-spec/root.md.
//!
//! ```text
//! header 64 | table | unit of (body length u32 | body | zeros)
//! ```
//!
//! Header and table are part of the unit's key derivation: a changed bit that no check sees fails at the commitment.
//! The zeros are inside the unit; they let the object's length step coarsely.

use super::compress::Decompressor;
use super::key_tree::KeyTree;
use super::pack::KEY_MODE;
use super::padding::padded_length;
use super::unit::{self, Codec, Context, OVERHEAD_BYTES, PREFIX_BYTES, UnitKind};
use super::wire::{Reader, Writer};
use super::{Error, ObjectKind, Reason, Result, SUITE};
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

    fn header(&self, repository: RepositoryId, header: Header) -> Writer {
        let mut bytes = Writer::with_header(self.kind);
        bytes.u8(KEY_MODE).u8(SUITE).u8(header.codec as u8).zero(3).u32(header.plain_length).u32(header.rows);
        bytes.zero(8).bytes(repository.as_bytes());
        bytes
    }

    /// Splits a root into its header and its table's bytes. Needs no key; what follows the table may be missing.
    pub(super) fn parse<'a>(&self, bytes: &'a [u8], repository: RepositoryId) -> Result<(Header, &'a [u8])> {
        let refuse = |reason| Err(self.refuse(reason));
        if bytes.len() < HEADER_BYTES {
            return refuse(Reason::Truncated);
        }
        let mut reader = Reader::new(self.structure, bytes);
        reader.clear_header(self.kind)?;
        match reader.u8()? {
            KEY_MODE => {}
            mode => return refuse(Reason::UnknownKeyMode { mode }),
        }
        match reader.u8()? {
            SUITE => {}
            suite => return refuse(Reason::UnknownSuite { suite }),
        }
        let codec = Codec::try_from(reader.u8()?).map_err(|reason| self.refuse(reason))?;
        reader.zero(3)?;
        let (plain_length, rows) = (reader.u32()?, reader.u32()?);
        reader.zero(8)?;
        reader.repository(repository)?;
        if plain_length > self.plain_max || (plain_length as usize) < LENGTH_BYTES {
            return refuse(Reason::OutOfRange { field: "plain length" });
        }
        if rows > self.rows_max {
            return refuse(Reason::OutOfRange { field: "number of rows" });
        }
        let table = reader.take(self.row_bytes * rows as usize)?;
        Ok((Header { codec, plain_length, rows }, table))
    }

    /// Seals a body, which is used up. `table` holds `rows` rows.
    pub(super) fn seal(
        &self,
        keys: &KeyTree,
        rows: u32,
        table: &[u8],
        body: Vec<u8>,
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
        let mut clear = self.header(keys.repository(), header);
        clear.bytes(table);
        let clear = clear.finish();
        // With room for the clear part, which goes in front: no more than body and unit are ever held together.
        let mut unit = Vec::with_capacity(padded as usize);
        unit.resize(PREFIX_BYTES, 0);
        unit.extend_from_slice(&body_length.to_le_bytes());
        unit.extend_from_slice(&body);
        drop(body);
        unit.resize(PREFIX_BYTES + plain_length as usize, 0);
        let context = Context { kind: self.unit, codec: header.codec, plain_length, clear: &clear };
        unit::seal(keys, &context, random, &mut unit)?;
        unit.splice(..0, clear);
        Ok(unit)
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
