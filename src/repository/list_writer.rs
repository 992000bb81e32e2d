//! Writing chunked streams: listings, long chunk lists, problem lists. format-spec/tree.md, "Streams".
//!
//! Memory is bounded by the chunk size and not by the length: a directory of a million entries, or a file of a million
//! chunks, holds a few hundred kilobytes.

use super::error::{Error, Result};
use super::run::Run;
use crate::codec::chunk_list::{self, ChunkList, ChunkRef};
use crate::codec::chunker::{Cutter, Parameters};
use crate::codec::tree::{self, Entry};

/// Bytes that are cut with the parameters of trees as they come.
#[derive(Debug, Default)]
struct Stream {
    buffer: Vec<u8>,
    start: usize,
}

impl Stream {
    /// Takes the next chunk off the front, if it can be told where it ends.
    fn cut(&mut self, run: &mut Run<'_>, at_end: bool) -> Result<Option<ChunkRef>> {
        let rest = self.buffer.get(self.start..).unwrap_or_default();
        let cutter = Cutter::new(run.repository().keys().gear(), Parameters::TREES).map_err(refuse)?;
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
    /// Lets `encode` append one record.
    ///
    /// # Errors
    /// The record cannot be encoded, or a storage error, final for the run.
    pub fn push(
        &mut self,
        run: &mut Run<'_>,
        encode: impl FnOnce(&mut Vec<u8>) -> crate::codec::Result<()>,
    ) -> Result<()> {
        encode(&mut self.stream.buffer).map_err(refuse)?;
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

fn refuse(error: crate::codec::Error) -> Error {
    Error::Refused(format!("a record could not be stored: {error}"))
}
