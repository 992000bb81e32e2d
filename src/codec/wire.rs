//! Hand-written reading and writing of fixed layouts: the only way to parse bytes that nothing has authenticated yet.
//! format-spec/README.md, "Conventions".
//!
//! A [`Reader`] walks over borrowed bytes. It never panics, allocates nothing, and checks what is reserved; each of its
//! errors carries the structure's name. A [`Writer`] is the other direction. Integers are little endian.

use super::{Error, ObjectKind, Reason, Result, VERSION};
use crate::base::id::{ID_BYTES, ObjectId, RepositoryId};

/// First 8 bytes of every stored object. As in PNG (RFC 2083, 12.11): the first byte is no ASCII and starts no UTF-8
/// sequence, CR LF is changed by any text-mode transfer in either direction, and 1a ends a listing on old terminals.
pub const MAGIC: [u8; 8] = *b"\x89PKST\r\n\x1a";

/// Bytes of the clear header: magic 8, version 1, kind 1.
pub const CLEAR_HEADER_BYTES: usize = 10;

/// The clear header of a stored object: magic, version, kind.
#[must_use]
pub fn clear_header(kind: ObjectKind) -> [u8; CLEAR_HEADER_BYTES] {
    let mut header = [0; CLEAR_HEADER_BYTES];
    header[..8].copy_from_slice(&MAGIC);
    header[8] = VERSION;
    header[9] = kind as u8;
    header
}

/// A cursor over bytes that nobody vouches for.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    structure: &'static str,
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Reader<'a> {
    /// Reads `bytes` as the named structure; the name stands in every error.
    #[must_use]
    pub const fn new(structure: &'static str, bytes: &'a [u8]) -> Self {
        Self { structure, bytes, position: 0 }
    }

    /// Reads a structure of fixed length.
    ///
    /// # Errors
    /// [`Reason::WrongLength`] when `bytes` are more or fewer than `expected`.
    pub const fn fixed(structure: &'static str, bytes: &'a [u8], expected: usize) -> Result<Self> {
        if bytes.len() != expected {
            let reason = Reason::WrongLength { expected: expected as u64, found: bytes.len() as u64 };
            return Err(Error::new(structure, reason));
        }
        Ok(Self::new(structure, bytes))
    }

    /// The error that refuses this structure.
    #[must_use]
    pub const fn refuse(&self, reason: Reason) -> Error {
        Error::new(self.structure, reason)
    }

    /// How many bytes were read.
    #[must_use]
    pub const fn position(&self) -> usize {
        self.position
    }

    /// How many bytes are left.
    #[must_use]
    pub const fn remaining(&self) -> usize {
        self.bytes.len() - self.position
    }

    /// The next `length` bytes.
    ///
    /// # Errors
    /// [`Reason::Truncated`] when fewer are left; so for all readers below.
    pub fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let end = self.position.checked_add(length).ok_or(self.refuse(Reason::Truncated))?;
        let taken = self.bytes.get(self.position..end).ok_or(self.refuse(Reason::Truncated))?;
        self.position = end;
        Ok(taken)
    }

    /// The next `N` bytes by value.
    ///
    /// # Errors
    /// [`Reason::Truncated`].
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    /// One byte.
    ///
    /// # Errors
    /// [`Reason::Truncated`].
    pub fn u8(&mut self) -> Result<u8> {
        self.array().map(u8::from_le_bytes)
    }

    /// Two bytes.
    ///
    /// # Errors
    /// [`Reason::Truncated`].
    pub fn u16(&mut self) -> Result<u16> {
        self.array().map(u16::from_le_bytes)
    }

    /// Four bytes.
    ///
    /// # Errors
    /// [`Reason::Truncated`].
    pub fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    /// Eight bytes.
    ///
    /// # Errors
    /// [`Reason::Truncated`].
    pub fn u64(&mut self) -> Result<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// Eight bytes, signed.
    ///
    /// # Errors
    /// [`Reason::Truncated`].
    pub fn i64(&mut self) -> Result<i64> {
        self.array().map(i64::from_le_bytes)
    }

    /// The id of a stored object.
    ///
    /// # Errors
    /// [`Reason::Truncated`].
    pub fn object_id(&mut self) -> Result<ObjectId> {
        self.array::<ID_BYTES>().map(ObjectId)
    }

    /// A repository's id, which must be `expected`.
    ///
    /// # Errors
    /// [`Reason::Truncated`], [`Reason::OtherRepository`].
    pub fn repository(&mut self, expected: RepositoryId) -> Result<()> {
        if self.array::<ID_BYTES>()? == expected.0 { Ok(()) } else { Err(self.refuse(Reason::OtherRepository)) }
    }

    /// `length` reserved bytes.
    ///
    /// # Errors
    /// [`Reason::Truncated`], or [`Reason::NonzeroReserved`] when one of them is not zero.
    pub fn zero(&mut self, length: usize) -> Result<()> {
        if self.take(length)?.iter().all(|byte| *byte == 0) {
            Ok(())
        } else {
            Err(self.refuse(Reason::NonzeroReserved))
        }
    }

    /// The clear header of the one kind that is expected here.
    ///
    /// # Errors
    /// [`Reason::Truncated`], [`Reason::WrongMagic`], [`Reason::UnknownVersion`], [`Reason::WrongKind`].
    pub fn clear_header(&mut self, kind: ObjectKind) -> Result<()> {
        self.clear_header_of(&[kind]).map(|_| ())
    }

    /// The clear header of one of `kinds`; says which. An error names the first of them as the expected one.
    ///
    /// # Errors
    /// As [`Reader::clear_header`].
    pub fn clear_header_of(&mut self, kinds: &[ObjectKind]) -> Result<ObjectKind> {
        if self.array()? != MAGIC {
            return Err(self.refuse(Reason::WrongMagic));
        }
        match self.u8()? {
            VERSION => {}
            version => return Err(self.refuse(Reason::UnknownVersion { version })),
        }
        let found = self.u8()?;
        let expected = kinds.first().map_or(0, |kind| *kind as u8);
        let kind = kinds.iter().find(|kind| **kind as u8 == found);
        kind.copied().ok_or(self.refuse(Reason::WrongKind { expected, found }))
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// [`Reason::TrailingBytes`] when bytes are left.
    pub const fn finish(self) -> Result<()> {
        if self.remaining() == 0 { Ok(()) } else { Err(Error::new(self.structure, Reason::TrailingBytes)) }
    }
}

/// Builds a fixed layout front to back.
#[derive(Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// An empty structure.
    #[must_use]
    pub const fn new() -> Self {
        Self { bytes: Vec::new() }
    }

    /// A structure that begins with its clear header.
    #[must_use]
    pub fn with_header(kind: ObjectKind) -> Self {
        Self { bytes: clear_header(kind).to_vec() }
    }

    /// Bytes as they are.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// One byte.
    pub fn u8(&mut self, value: u8) -> &mut Self {
        self.bytes(&[value])
    }

    /// Two bytes.
    pub fn u16(&mut self, value: u16) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    /// Four bytes.
    pub fn u32(&mut self, value: u32) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    /// Eight bytes.
    pub fn u64(&mut self, value: u64) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    /// Eight bytes, signed.
    pub fn i64(&mut self, value: i64) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    /// Reserved bytes.
    pub fn zero(&mut self, length: usize) -> &mut Self {
        self.bytes.resize(self.bytes.len() + length, 0);
        self
    }

    /// Reserved bytes up to `length` in all; nothing when there are as many already.
    pub fn zero_to(&mut self, length: usize) -> &mut Self {
        self.zero(length.saturating_sub(self.bytes.len()))
    }

    /// What was written so far.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes
    }

    /// The structure.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut writer = Writer::with_header(ObjectKind::Head);
        writer.u8(1).u16(0x0302).u32(0x0706_0504).u64(0x0f0e_0d0c_0b0a_0908).i64(-2).zero(3).bytes(b"ab").zero_to(40);
        let bytes = writer.finish();
        assert_eq!(bytes.len(), 40);
        assert_eq!(bytes[10..18], [1, 2, 3, 4, 5, 6, 7, 8]);
        let mut reader = Reader::fixed("test", &bytes, 40).unwrap();
        reader.clear_header(ObjectKind::Head).unwrap();
        assert_eq!(reader.u8(), Ok(1));
        assert_eq!(reader.u16(), Ok(0x0302));
        assert_eq!(reader.u32(), Ok(0x0706_0504));
        assert_eq!(reader.u64(), Ok(0x0f0e_0d0c_0b0a_0908));
        assert_eq!(reader.i64(), Ok(-2));
        reader.zero(3).unwrap();
        assert_eq!(reader.array(), Ok(*b"ab"));
        assert_eq!((reader.position(), reader.remaining()), (38, 2));
        reader.zero(2).unwrap();
        reader.finish().unwrap();
    }

    #[test]
    fn nothing_is_read_beyond_the_end() {
        let reason = |result: Result<()>| result.unwrap_err().reason;
        let mut reader = Reader::new("test", &[1, 2, 3]);
        assert_eq!(reader.u32().unwrap_err().reason, Reason::Truncated);
        assert_eq!(reader.take(usize::MAX).unwrap_err().reason, Reason::Truncated);
        assert_eq!(reader.position(), 0, "a failed read takes nothing");
        assert_eq!(reason(reader.zero(1)), Reason::NonzeroReserved);
        assert_eq!(reason(reader.finish()), Reason::TrailingBytes);
        let wrong = Reader::fixed("test", &[0; 3], 4).unwrap_err().reason;
        assert_eq!(wrong, Reason::WrongLength { expected: 4, found: 3 });
    }

    #[test]
    fn a_clear_header_is_checked_field_by_field() {
        let good = clear_header(ObjectKind::DataPack);
        let read = |bytes: &[u8]| {
            Reader::new("test", bytes)
                .clear_header_of(&[ObjectKind::DataPack, ObjectKind::TreePack])
                .map_err(|e| e.reason)
        };
        assert_eq!(read(&good), Ok(ObjectKind::DataPack));
        assert_eq!(read(&clear_header(ObjectKind::TreePack)), Ok(ObjectKind::TreePack));
        assert_eq!(read(&good[..9]), Err(Reason::Truncated));
        for position in 0..8 {
            let mut bytes = good;
            bytes[position] ^= 0x20;
            assert_eq!(read(&bytes), Err(Reason::WrongMagic));
        }
        let mut bytes = good;
        bytes[8] = 2;
        assert_eq!(read(&bytes), Err(Reason::UnknownVersion { version: 2 }));
        assert_eq!(read(&clear_header(ObjectKind::Config)), Err(Reason::WrongKind { expected: 3, found: 1 }));
    }

    #[test]
    fn the_magic_is_no_text() {
        assert!(std::str::from_utf8(&MAGIC).is_err());
    }
}
