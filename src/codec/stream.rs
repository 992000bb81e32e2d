//! Streams of records: directory listings and lists of problems. Each record is its length (u32, little endian) and its
//! bytes; the stream is cut into chunks wherever the chunker likes, so a record may begin in one chunk and end in a
//! later one. format-spec/tree.md, "Streams".

use super::{Error, Reason, Result};

/// Longest record, in bytes: 16 MiB. A reader refuses a longer one at its length, before it gathers it.
pub const RECORD_MAX: usize = 16 << 20;

/// Longest chunk of a stream, in bytes: the longest that is cut with the parameters of trees. format-spec/chunker.md.
pub const CHUNK_MAX: u32 = super::chunker::Parameters::TREES.max;

/// Bytes of a record's length.
const LENGTH_BYTES: usize = 4;

/// Appends a record to `out`; `write` appends its bytes. After an error `out` is as it was.
///
/// # Errors
/// What `write` returns, and [`Reason::OutOfRange`] for a record over [`RECORD_MAX`].
pub fn write_record(
    structure: &'static str,
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>) -> Result<()>,
) -> Result<()> {
    let start = out.len();
    out.extend_from_slice(&[0; LENGTH_BYTES]);
    let result = write(out).and_then(|()| {
        let length = out.len() - start - LENGTH_BYTES;
        match u32::try_from(length) {
            Ok(bytes) if length <= RECORD_MAX => {
                out[start..start + LENGTH_BYTES].copy_from_slice(&bytes.to_le_bytes());
                Ok(())
            }
            _ => Err(Error::new(structure, Reason::OutOfRange { field: "record length" })),
        }
    });
    if result.is_err() {
        out.truncate(start);
    }
    result
}

/// Bytes that came and are not yet used up. Holds at most what was pushed since the last complete item and that item.
#[derive(Default)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    used: usize,
}

impl Buffer {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.used);
        self.used = 0;
        self.bytes.extend_from_slice(bytes);
    }

    pub(super) fn rest(&self) -> &[u8] {
        &self.bytes[self.used..]
    }

    /// The next `count` bytes, used up, or `None` when they have not all come.
    pub(super) fn take(&mut self, count: usize) -> Option<&[u8]> {
        let end = self.used.checked_add(count)?;
        let bytes = self.bytes.get(self.used..end)?;
        self.used = end;
        Some(bytes)
    }
}

/// Splits a stream that comes in pieces into records.
pub struct RecordReader {
    structure: &'static str,
    buffer: Buffer,
}

impl RecordReader {
    /// A reader at the beginning of a stream of `structure`.
    #[must_use]
    pub fn new(structure: &'static str) -> Self {
        Self { structure, buffer: Buffer::default() }
    }

    /// Adds the next bytes of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.push(bytes);
    }

    /// The next record's bytes; `None` when more of the stream is needed, or it is at its end.
    ///
    /// # Errors
    /// [`Reason::OutOfRange`] for a record that says it is empty or longer than [`RECORD_MAX`].
    #[allow(clippy::should_implement_trait)] // the next piece may be missing, which no iterator can say
    pub fn next(&mut self) -> Result<Option<&[u8]>> {
        let Some(length) = self.buffer.rest().first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
        let length = u32::from_le_bytes(*length) as usize;
        if length == 0 || length > RECORD_MAX {
            return Err(Error::new(self.structure, Reason::OutOfRange { field: "record length" }));
        }
        Ok(self.buffer.take(LENGTH_BYTES + length).map(|record| &record[LENGTH_BYTES..]))
    }

    /// The bytes that are not used up.
    pub(super) fn rest(&self) -> &[u8] {
        self.buffer.rest()
    }

    /// The stream has ended.
    ///
    /// # Errors
    /// [`Reason::Truncated`] when it ends within a record.
    pub fn finish(self) -> Result<()> {
        if self.buffer.rest().is_empty() { Ok(()) } else { Err(Error::new(self.structure, Reason::Truncated)) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn records_come_back_however_the_stream_is_cut() {
        let records: Vec<Vec<u8>> = (1..60_u8).map(|n| vec![n; usize::from(n) * 7]).collect();
        let mut stream = Vec::new();
        for record in &records {
            let write = |out: &mut Vec<u8>| {
                out.extend_from_slice(record);
                Ok(())
            };
            write_record("test", &mut stream, write).unwrap();
        }
        for piece in [1, 3, 64, 1000, stream.len()] {
            let (mut reader, mut found) = (RecordReader::new("test"), Vec::new());
            for bytes in stream.chunks(piece) {
                reader.push(bytes);
                while let Some(record) = reader.next().unwrap() {
                    found.push(record.to_vec());
                }
            }
            reader.finish().unwrap();
            assert_eq!(found, records, "pieces of {piece}");
        }
        let mut reader = RecordReader::new("test");
        reader.push(&stream[..stream.len() - 1]);
        while reader.next().unwrap().is_some() {}
        assert_eq!(reader.finish().unwrap_err().reason, Reason::Truncated);
    }

    #[test]
    fn hostile_lengths_are_refused_at_once() {
        for length in [0, RECORD_MAX as u32 + 1, u32::MAX] {
            let mut reader = RecordReader::new("test");
            reader.push(&length.to_le_bytes());
            assert!(matches!(reader.next().unwrap_err().reason, Reason::OutOfRange { .. }), "{length}");
        }
    }

    #[test]
    fn a_record_that_cannot_be_written_leaves_nothing() {
        let mut out = b"before".to_vec();
        let write = |out: &mut Vec<u8>| {
            out.resize(out.len() + RECORD_MAX + 1, 0);
            Ok(())
        };
        assert!(write_record("test", &mut out, write).is_err());
        assert_eq!(out, b"before");
    }
}
