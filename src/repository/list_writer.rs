//! Writing chunked streams: listings, long chunk lists, problem lists, logs of deletions. format-spec/tree.md, "Streams".
//!
//! Memory is bounded by the chunk size and not by the length: a directory of a million entries, or a file of a million
//! chunks, holds a few hundred kilobytes.

use super::error::{Error, Result};
use super::run::Run;
use crate::codec::chunk_list::{self, ChunkList, ChunkRef};
use crate::codec::chunker::{Cutter, Parameters};
use crate::codec::tree::{self, Entry};

/// Bytes that were cut off and are still held: as much as a chunk may have, so that what is left is moved seldom.
const CUT_OFF_MAX: usize = Parameters::TREES.max as usize;

/// Bytes that are cut with the parameters of trees as they come.
#[derive(Debug, Default)]
struct Stream {
    buffer: Vec<u8>,
    start: usize,
}

impl Stream {
    /// Takes the next chunk off the front, if it can be told where it ends.
    fn cut(&mut self, run: &mut Run<'_>, at_end: bool) -> Result<Option<ChunkRef>> {
        // What was cut off goes now and then, so that the stream is never held as a whole.
        if self.start >= CUT_OFF_MAX {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        let rest = self.buffer.get(self.start..).unwrap_or_default();
        let cutter = Cutter::new(run.repository().keys().gear(), Parameters::TREES)
            .map_err(|error| Error::Internal(unstored(&error)))?;
        let length = cutter.next(rest, at_end);
        let Some(length) = length.filter(|length| *length > 0) else {
            self.buffer.drain(..self.start);
            self.start = 0;
            return Ok(None);
        };
        let id = run.add_tree(&rest[..length])?;
        self.start += length;
        Ok(Some(ChunkRef { id, length: length as u32 }))
    }

    const fn is_ready(&self) -> bool {
        self.buffer.len() - self.start >= Parameters::TREES.max as usize
    }
}

/// A chunk list that becomes a stream of its own when it grows beyond what stands in line.
#[derive(Debug, Default)]
pub struct ChunkListWriter {
    refs: Vec<ChunkRef>,
    above: Option<Box<(Stream, ChunkListWriter)>>,
}

impl ChunkListWriter {
    /// Adds a chunk at the end.
    ///
    /// # Errors
    /// A storage error, final for the run.
    pub fn push(&mut self, chunk: ChunkRef, run: &mut Run<'_>) -> Result<()> {
        self.refs.push(chunk);
        if self.above.is_none() && self.refs.len() > chunk_list::INLINE_MAX {
            self.above = Some(Box::default());
        }
        let Some(above) = &mut self.above else { return Ok(()) };
        let (stream, list) = &mut **above;
        for chunk in self.refs.drain(..) {
            chunk.write(&mut stream.buffer);
        }
        while stream.is_ready() {
            if let Some(chunk) = stream.cut(run, false)? {
                list.push(chunk, run)?;
            }
        }
        Ok(())
    }

    /// The finished list.
    ///
    /// # Errors
    /// A storage error, final for the run.
    pub fn finish(mut self, run: &mut Run<'_>) -> Result<ChunkList> {
        let mut depth = 0_u8;
        loop {
            let Some(above) = self.above else { return Ok(ChunkList { depth, chunks: self.refs }) };
            let (mut stream, mut list) = *above;
            while let Some(chunk) = stream.cut(run, true)? {
                list.push(chunk, run)?;
            }
            depth += 1;
            self = list;
        }
    }
}

/// A chunked stream of records of any kind.
#[derive(Debug, Default)]
pub struct StreamWriter {
    stream: Stream,
    list: ChunkListWriter,
}

impl StreamWriter {
    /// A writer that goes on at the end of a stream: all its chunks stay but the last one, whose bytes are cut again together
    /// with what comes. Where a chunk ends depends on nothing before its beginning, so the result is what writing
    /// everything at once would give. What stays must be live: the caller sees to that.
    ///
    /// # Errors
    /// A storage error, final for the run.
    pub fn resume(run: &mut Run<'_>, stay: &[ChunkRef], last: &[u8]) -> Result<Self> {
        let mut writer = Self::default();
        stay.iter().try_for_each(|chunk| writer.list.push(*chunk, run))?;
        writer.stream.buffer.extend_from_slice(last);
        Ok(writer)
    }

    /// Lets `encode` append one record.
    ///
    /// # Errors
    /// The record cannot be encoded, or a storage error, final for the run.
    pub fn push(
        &mut self,
        run: &mut Run<'_>,
        encode: impl FnOnce(&mut Vec<u8>) -> crate::codec::Result<()>,
    ) -> Result<()> {
        encode(&mut self.stream.buffer).map_err(|error| Error::Refused(unstored(&error)))?;
        while self.stream.is_ready() {
            if let Some(chunk) = self.stream.cut(run, false)? {
                self.list.push(chunk, run)?;
            }
        }
        Ok(())
    }

    /// Adds one entry of a listing. Entries come in the order of their names.
    ///
    /// # Errors
    /// As [`StreamWriter::push`].
    pub fn push_entry(&mut self, run: &mut Run<'_>, entry: &Entry) -> Result<()> {
        self.push(run, |buffer| tree::encode_entry(entry, buffer))
    }

    /// The chunks of the whole stream.
    ///
    /// # Errors
    /// A storage error, final for the run.
    pub fn finish(mut self, run: &mut Run<'_>) -> Result<ChunkList> {
        while let Some(chunk) = self.stream.cut(run, true)? {
            self.list.push(chunk, run)?;
        }
        self.list.finish(run)
    }
}

fn unstored(error: &crate::codec::Error) -> String {
    format!("a record could not be stored: {error}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::repository::Repository;
    use crate::repository::fixture;
    use crate::repository::pack_writer::PackOptions;
    use crate::storage::memory::Memory;

    fn repository() -> Repository {
        fixture::repository(&Memory::new(), 7, Parameters::FILES)
    }

    /// Bytes in which the chunker finds places to cut.
    fn noise(length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        blake3::Hasher::new().finalize_xof().fill(&mut bytes);
        bytes
    }

    fn write(mut writer: StreamWriter, run: &mut Run<'_>, bytes: &[u8]) -> ChunkList {
        for record in bytes.chunks(700) {
            let push = |buffer: &mut Vec<u8>| {
                buffer.extend_from_slice(record);
                Ok(())
            };
            writer.push(run, push).unwrap();
        }
        writer.finish(run).unwrap()
    }

    /// A directory of a million entries, or a list of long paths, was held in memory as a whole until its end.
    #[test]
    fn a_stream_is_not_held_as_a_whole() {
        let repository = repository();
        let mut run = Run::begin(&repository, PackOptions { discard: true, ..PackOptions::default() }).unwrap();
        for record in [&noise(1 << 20)[..], &noise(700)[..]] {
            let mut writer = StreamWriter::default();
            for _ in 0..(64 << 20) / record.len() {
                let push = |buffer: &mut Vec<u8>| {
                    buffer.extend_from_slice(record);
                    Ok(())
                };
                writer.push(&mut run, push).unwrap();
                let held = writer.stream.buffer.len();
                assert!(held <= record.len() + 3 * CUT_OFF_MAX, "{held} bytes of records of {}", record.len());
            }
        }
    }

    /// Nobody can tell how often a stream was broken off: lists of every depth, broken off within a chunk and at its end.
    #[test]
    fn a_stream_that_goes_on_is_the_stream_written_at_once() {
        let repository = repository();
        let mut run = Run::begin(&repository, PackOptions { discard: true, ..PackOptions::default() }).unwrap();
        let bytes = noise(90 << 20);
        let at_once = |run: &mut Run<'_>, end: usize| write(StreamWriter::default(), run, &bytes[..end]);
        // The chunks of all of it, for taking lists apart without reading them.
        let mut chunks = Vec::new();
        let mut start = 0;
        let cutter = Cutter::new(repository.keys().gear(), Parameters::TREES).unwrap();
        while let Some(length) = cutter.next(&bytes[start..], true).filter(|length| *length > 0) {
            chunks.push(start..start + length);
            start += length;
        }
        assert!(chunks.len() > chunk_list::INLINE_MAX + 100, "{}", chunks.len());
        let boundary = |index: usize| chunks[index].end;
        let mut depths = Vec::new();
        for (first, end) in [
            (0, 1),
            (1, 700),
            (700, 300_000),
            (boundary(3), boundary(3) + 1),
            (boundary(5) - 1, boundary(5)),
            (boundary(1_022) + 9, boundary(1_022) + 700),
            (boundary(1_023) - 5, boundary(1_023) + 5),
            (boundary(1_023), bytes.len()),
            (bytes.len() - 1, bytes.len()),
        ] {
            let whole = at_once(&mut run, end);
            let begun = chunks.iter().take_while(|chunk| chunk.start < first);
            let mut begun: Vec<_> = begun.map(|chunk| chunk.start..chunk.end.min(first)).collect();
            let last = begun.pop().unwrap_or(0..0);
            let stay: Vec<ChunkRef> = begun
                .iter()
                .map(|chunk| {
                    let id = run.add_tree(&bytes[chunk.clone()]).unwrap();
                    ChunkRef { id, length: chunk.len() as u32 }
                })
                .collect();
            let writer = StreamWriter::resume(&mut run, &stay, &bytes[last]).unwrap();
            assert_eq!(write(writer, &mut run, &bytes[first..end]), whole, "{first} {end}");
            depths.push(whole.depth);
        }
        assert!(depths.contains(&0) && depths.contains(&1), "{depths:?}");
    }
}
