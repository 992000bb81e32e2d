//! Chunk lists: which chunks, in order, make a content. format-spec/tree.md, "Chunk lists".
//!
//! Up to [`INLINE_MAX`] chunks stand in the list itself (depth 0). A longer list is a stream of its own: its records of
//! 36 bytes are cut into chunks, and the list names those (depth 1), and so on. There is one form only: a list is
//! deeper exactly when it would not fit otherwise.

use bincode::{Decode, Encode};

use super::stream::Buffer;
use super::{Error, Reason, Result};
use crate::base::id::{ChunkId, ID_BYTES};

/// Most chunks that stand in a list itself.
pub const INLINE_MAX: usize = 1024;
/// Deepest list. Two levels hold every file that Linux can; the rest is for other chunk lengths.
pub const DEPTH_MAX: u8 = 8;
/// Longest chunk, in bytes: 16 MiB, the longest block.
pub const CHUNK_LENGTH_MAX: u32 = super::block::PLAIN_MAX;

const STRUCTURE: &str = "chunk list";

/// A chunk and how long it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
pub struct ChunkRef {
    /// Which chunk.
    pub id: ChunkId,
    /// Its plain length in bytes, never zero.
    pub length: u32,
}

impl ChunkRef {
    /// Bytes of a record in a list's stream: id 32, length u32 little endian.
    pub const BYTES: usize = ID_BYTES + 4;

    /// Appends the record.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.id.as_bytes());
        out.extend_from_slice(&self.length.to_le_bytes());
    }

    /// Refuses a length that no chunk has.
    pub(super) fn check(&self) -> Result<()> {
        if (1..=CHUNK_LENGTH_MAX).contains(&self.length) {
            Ok(())
        } else {
            Err(Error::new(STRUCTURE, Reason::OutOfRange { field: "chunk length" }))
        }
    }
}

/// The chunks of a content, in order.
///
/// At depth 0 they are the chunks themselves. At depth n the concatenation of the chunks named here is a stream of
/// [`ChunkRef`] records, those of the list of depth n - 1.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
pub struct ChunkList {
    /// How many streams lie between this list and the content.
    pub depth: u8,
    /// At most [`INLINE_MAX`].
    pub chunks: Vec<ChunkRef>,
}

impl ChunkList {
    /// Two lists with the same key are the same list: the key is taken from the chunks' ids, which are hashes.
    #[must_use]
    pub fn key(&self) -> u128 {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&[self.depth]);
        for chunk in &self.chunks {
            hasher.update(chunk.id.as_bytes()).update(&chunk.length.to_le_bytes());
        }
        let mut bytes = [0; 16];
        hasher.finalize_xof().fill(&mut bytes);
        u128::from_le_bytes(bytes)
    }

    /// The sum of the lengths of the chunks named here: the content's length at depth 0, a stream's above.
    #[must_use]
    pub fn inline_length(&self) -> u64 {
        self.chunks.iter().map(|chunk| u64::from(chunk.length)).sum()
    }

    /// True when the content is empty.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Refuses lists that no writer makes: too long, too deep, of impossible lengths, or deeper than they need be.
    ///
    /// # Errors
    /// [`Reason::OutOfRange`], [`Reason::BrokenRule`].
    pub fn check(&self) -> Result<()> {
        let refuse = |reason| Err(Error::new(STRUCTURE, reason));
        if self.chunks.len() > INLINE_MAX {
            return refuse(Reason::OutOfRange { field: "number of chunks" });
        }
        if self.depth > DEPTH_MAX {
            return refuse(Reason::OutOfRange { field: "depth" });
        }
        self.chunks.iter().try_for_each(ChunkRef::check)?;
        if self.depth > 0 {
            let length = self.inline_length();
            if !length.is_multiple_of(ChunkRef::BYTES as u64) {
                return refuse(Reason::BrokenRule { rule: "a list's stream is no whole number of records" });
            }
            if length / ChunkRef::BYTES as u64 <= INLINE_MAX as u64 {
                return refuse(Reason::BrokenRule { rule: "a list is deeper than its length asks for" });
            }
        }
        Ok(())
    }
}

/// Reads the stream of a list of depth 1 or more, in pieces.
#[derive(Default)]
pub struct ChunkRefReader {
    buffer: Buffer,
}

impl ChunkRefReader {
    /// A reader at the beginning of a stream.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the next bytes of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.push(bytes);
    }

    /// The next record; `None` when more of the stream is needed, or it is at its end.
    ///
    /// # Errors
    /// [`Reason::OutOfRange`] for a length that no chunk has.
    #[allow(clippy::should_implement_trait)] // the next piece may be missing, which no iterator can say
    pub fn next(&mut self) -> Result<Option<ChunkRef>> {
        let Some(record) = self.buffer.take(ChunkRef::BYTES) else { return Ok(None) };
        let Some((id, length)) = record.split_first_chunk::<ID_BYTES>() else { return Ok(None) };
        let Some(length) = length.first_chunk() else { return Ok(None) };
        let chunk = ChunkRef { id: ChunkId(*id), length: u32::from_le_bytes(*length) };
        chunk.check()?;
        Ok(Some(chunk))
    }

    /// The stream has ended.
    ///
    /// # Errors
    /// [`Reason::Truncated`] when it ends within a record.
    pub fn finish(self) -> Result<()> {
        if self.buffer.rest().is_empty() { Ok(()) } else { Err(Error::new(STRUCTURE, Reason::Truncated)) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn chunk(number: u8, length: u32) -> ChunkRef {
        ChunkRef { id: ChunkId([number; 32]), length }
    }

    #[test]
    fn records_come_back_however_the_stream_is_cut() {
        let chunks: Vec<ChunkRef> = (0..100).map(|n| chunk(n, u32::from(n) + 1)).collect();
        let mut stream = Vec::new();
        chunks.iter().for_each(|chunk| chunk.write(&mut stream));
        assert_eq!(stream.len(), 3600);
        for piece in [1, 35, 36, 37, 1000] {
            let (mut reader, mut found) = (ChunkRefReader::new(), Vec::new());
            for bytes in stream.chunks(piece) {
                reader.push(bytes);
                while let Some(chunk) = reader.next().unwrap() {
                    found.push(chunk);
                }
            }
            reader.finish().unwrap();
            assert_eq!(found, chunks);
        }
        let mut reader = ChunkRefReader::new();
        reader.push(&stream[..37]);
        assert_eq!(reader.next().unwrap(), Some(chunks[0]));
        assert_eq!(reader.next().unwrap(), None);
        assert_eq!(reader.finish().unwrap_err().reason, Reason::Truncated);
        let mut reader = ChunkRefReader::new();
        reader.push(&[0; 36]);
        assert!(matches!(reader.next().unwrap_err().reason, Reason::OutOfRange { .. }));
    }

    #[test]
    fn a_list_has_one_form() {
        let list = |depth, chunks| ChunkList { depth, chunks }.check().map_err(|error| error.reason.slug());
        assert_eq!(list(0, vec![]), Ok(()));
        assert_eq!(list(0, vec![chunk(1, 5); INLINE_MAX]), Ok(()));
        assert_eq!(list(0, vec![chunk(1, 5); INLINE_MAX + 1]), Err("out-of-range"));
        assert_eq!(list(0, vec![chunk(1, 0)]), Err("out-of-range"));
        assert_eq!(list(0, vec![chunk(1, CHUNK_LENGTH_MAX + 1)]), Err("out-of-range"));
        assert_eq!(list(1, vec![chunk(1, 36 * 1025)]), Ok(()));
        assert_eq!(list(1, vec![chunk(1, 36 * 1024)]), Err("broken-rule"), "deeper than needed");
        assert_eq!(list(1, vec![chunk(1, 36 * 1025 + 1)]), Err("broken-rule"), "no whole number of records");
        assert_eq!(list(1, vec![]), Err("broken-rule"));
        assert_eq!(list(DEPTH_MAX + 1, vec![chunk(1, 36 * 1025)]), Err("out-of-range"));
    }
}
