//! The content of a stored file, in order: data and holes, checked as a whole at the end.
//!
//! Each chunk was checked against its id when its block was opened. The digest of the whole file, where it has one, and
//! the lengths check what no chunk's id can: their order, and that none is missing.

use std::sync::mpsc;

use super::{Error, Result};
use crate::base::threads;
use crate::codec::chunk_list::ChunkRef;
use crate::codec::pack::PackKind;
use crate::codec::tree::{Content, Hole};
use crate::codec::{self, Reason};
use crate::repository::blocks::Chunk;
use crate::repository::list_reader::Chunks;
use crate::repository::{self, Repository};

/// Chunks that are opened ahead of the one being used. Neighbours share their block, so this is little memory.
const AHEAD: usize = 8;
/// Files of fewer chunks are read without a thread of their own.
const AHEAD_CHUNKS_MIN: usize = 4;

/// The next part of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Bytes.
    Data(&'a [u8]),
    /// So many zeros that occupy no space.
    Hole(u64),
}

fn wrong(path: &[u8], rule: &'static str) -> Error {
    let error = codec::Error::new("content", Reason::BrokenRule { rule });
    Error::at(path, repository::Error::Stream { error })
}

/// Cuts the stream of data at the holes, and checks the whole.
struct Assembler<'a> {
    path: &'a [u8],
    content: &'a Content,
    holes: std::iter::Peekable<std::slice::Iter<'a, Hole>>,
    hasher: Option<blake3::Hasher>,
    /// Where the next byte stands in the file.
    offset: u64,
    data: u64,
}

impl<'a> Assembler<'a> {
    fn new(path: &'a [u8], content: &'a Content) -> Self {
        let hasher = content.digest.map(|_| blake3::Hasher::new());
        Self { path, content, holes: content.holes.iter().peekable(), hasher, offset: 0, data: 0 }
    }

    fn holes<E: From<Error>>(
        &mut self,
        sink: &mut dyn FnMut(Piece<'_>) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        while let Some(hole) = self.holes.next_if(|hole| hole.offset == self.offset) {
            sink(Piece::Hole(hole.length))?;
            self.offset = self.offset.saturating_add(hole.length);
        }
        Ok(())
    }

    fn push<E: From<Error>>(
        &mut self,
        mut bytes: &[u8],
        sink: &mut dyn FnMut(Piece<'_>) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        if let Some(hasher) = &mut self.hasher {
            hasher.update(bytes);
        }
        self.data = self.data.saturating_add(bytes.len() as u64);
        if Some(self.data) > self.content.data_length() {
            return Err(wrong(self.path, "there is more data than the file is long").into());
        }
        while !bytes.is_empty() {
            self.holes(sink)?;
            let room = self.holes.peek().map_or(u64::MAX, |hole| hole.offset.saturating_sub(self.offset));
            let length = usize::try_from(room).unwrap_or(usize::MAX).min(bytes.len());
            let (now, later) = bytes.split_at(length);
            sink(Piece::Data(now))?;
            self.offset = self.offset.saturating_add(length as u64);
            bytes = later;
        }
        Ok(())
    }

    fn finish<E: From<Error>>(
        mut self,
        sink: &mut dyn FnMut(Piece<'_>) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        self.holes(sink)?;
        if self.offset != self.content.size {
            return Err(wrong(self.path, "there is less data than the file is long").into());
        }
        let digest = self.hasher.map(|hasher| Content::digest_of(hasher, &self.content.holes));
        if digest != self.content.digest {
            return Err(wrong(self.path, "the digest of the whole file is another one than recorded").into());
        }
        Ok(())
    }
}

/// Hands the content of a file to `sink`, piece by piece. `path` is for errors.
///
/// # Errors
/// The damage, with the path; what `sink` returns. What was handed over before the error is not the whole file.
pub fn read<E: From<Error>>(
    repository: &Repository,
    path: &[u8],
    content: &Content,
    sink: &mut dyn FnMut(Piece<'_>) -> std::result::Result<(), E>,
) -> std::result::Result<(), E> {
    let mut assembler = Assembler::new(path, content);
    if content.chunks.depth == 0 && content.chunks.chunks.len() < AHEAD_CHUNKS_MIN {
        for chunk in &content.chunks.chunks {
            assembler.push(&open(repository, path, chunk)?, sink)?;
        }
        return assembler.finish(sink);
    }
    std::thread::scope(|scope| {
        let (sender, receiver) = mpsc::sync_channel::<Result<Chunk>>(AHEAD);
        let ahead = threads::spawn_one(scope, move || {
            for chunk in Chunks::of_file(repository, content) {
                let opened = chunk.map_err(|source| Error::at(path, source));
                let opened = opened.and_then(|chunk| open(repository, path, &chunk));
                let is_error = opened.is_err();
                // Nobody listens any more when the sink has failed.
                if sender.send(opened).is_err() || is_error {
                    break;
                }
            }
        });
        ahead.map_err(Error::Threads)?;
        for chunk in receiver {
            assembler.push(&chunk?, sink)?;
        }
        assembler.finish(sink)
    })
}

fn open(repository: &Repository, path: &[u8], chunk: &ChunkRef) -> Result<Chunk> {
    repository.chunk(PackKind::Data, chunk).map_err(|source| Error::at(path, source))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn assemble(content: &Content, pieces: &[&[u8]]) -> Result<Vec<u8>> {
        let mut file = Vec::new();
        let mut sink = |piece: Piece<'_>| -> Result<()> {
            match piece {
                Piece::Data(bytes) => file.extend_from_slice(bytes),
                Piece::Hole(length) => file.resize(file.len() + usize::try_from(length).unwrap(), 0),
            }
            Ok(())
        };
        let mut assembler = Assembler::new(b"/f", content);
        for piece in pieces {
            assembler.push(piece, &mut sink)?;
        }
        assembler.finish(&mut sink)?;
        Ok(file)
    }

    fn sparse() -> Content {
        let holes = vec![Hole { offset: 0, length: 2 }, Hole { offset: 5, length: 3 }, Hole { offset: 9, length: 1 }];
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"abcd");
        Content { size: 10, digest: Some(Content::digest_of(hasher, &holes)), holes, ..Content::default() }
    }

    #[test]
    fn holes_stand_where_they_were() {
        for pieces in [&[&b"abcd"[..]][..], &[b"a", b"bc", b"d"], &[b"abc", b"d"]] {
            assert_eq!(assemble(&sparse(), pieces).unwrap(), b"\0\0abc\0\0\0d\0");
        }
        let empty = Content::default();
        assert_eq!(assemble(&empty, &[]).unwrap(), b"");
    }

    #[test]
    fn a_file_that_is_not_whole_is_damage() {
        for pieces in [&[&b"abc"[..]][..], &[b"abcde"], &[b"abdc"], &[]] {
            assert!(assemble(&sparse(), pieces).unwrap_err().is_damage(), "{pieces:?}");
        }
    }
}
