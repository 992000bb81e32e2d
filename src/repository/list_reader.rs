//! Reading chunked streams: a listing entry by entry, a chunk list chunk by chunk, without holding the whole.

use super::Repository;
use super::blocks::Chunk;
use super::error::{Error, Result, damaged};
use crate::base::id::ObjectId;
use crate::codec::chunk_list::{ChunkList, ChunkRef, ChunkRefReader, DEPTH_MAX};
use crate::codec::deletion_log::{Deletion, DeletionReader};
use crate::codec::pack::PackKind;
use crate::codec::snapshot::{self, Problem, ProblemReader, Snapshot};
use crate::codec::tree::{Entry, EntryReader};
use crate::codec::{self, Reason};
use crate::storage::ObjectName;

/// Where the chunks of trees are read from. The repository itself reads as its index says; a check reads as the
/// segments say, whatever the cache believes.
pub trait TreeChunks: Sync {
    /// Reads one chunk of a tree and checks its id.
    ///
    /// # Errors
    /// [`Error::ChunkMissing`], or the damage that was found.
    fn tree_chunk(&self, chunk: &ChunkRef) -> Result<Chunk>;
}

impl TreeChunks for Repository {
    fn tree_chunk(&self, chunk: &ChunkRef) -> Result<Chunk> {
        self.chunk(PackKind::Tree, chunk)
    }
}

/// The chunks that a list stands for, in order.
pub struct Chunks<'r> {
    source: &'r dyn TreeChunks,
    /// One level of indirection each, the outermost first.
    levels: Vec<Level>,
}

struct Level {
    depth: u8,
    pending: std::vec::IntoIter<ChunkRef>,
    reader: Option<ChunkRefReader>,
}

impl<'r> Chunks<'r> {
    /// Reads `list`.
    #[must_use]
    pub fn new(source: &'r dyn TreeChunks, list: ChunkList) -> Self {
        let outermost = Level { depth: list.depth, pending: list.chunks.into_iter(), reader: None };
        Self { source, levels: vec![outermost] }
    }

    fn step(&mut self) -> Result<Option<ChunkRef>> {
        while let Some(level) = self.levels.last_mut() {
            if level.depth > DEPTH_MAX {
                return Err(refused("chunk list", Reason::OutOfRange { field: "depth" }));
            }
            let Some(chunk) = level.pending.next() else {
                // This level is used up: the one outside it goes on.
                if let Some(reader) = level.reader.take() {
                    reader.finish().map_err(unplaced)?;
                }
                self.levels.pop();
                continue;
            };
            if level.depth == 0 {
                return Ok(Some(chunk));
            }
            let bytes = self.source.tree_chunk(&chunk)?;
            // The records of one list run on across its chunks, so the reader is handed from chunk to chunk.
            let depth = level.depth - 1;
            let mut reader = level.reader.take().unwrap_or_default();
            reader.push(&bytes);
            let mut found = Vec::new();
            while let Some(inner) = reader.next().map_err(unplaced)? {
                found.push(inner);
            }
            level.reader = Some(reader);
            self.levels.push(Level { depth, pending: found.into_iter(), reader: None });
        }
        Ok(None)
    }
}

impl Iterator for Chunks<'_> {
    type Item = Result<ChunkRef>;

    fn next(&mut self) -> Option<Self::Item> {
        let step = self.step();
        if step.is_err() {
            self.levels.clear();
        }
        step.transpose()
    }
}

fn refused(structure: &'static str, reason: Reason) -> Error {
    unplaced(codec::Error::new(structure, reason))
}

/// A stream's chunks may lie in many packs, so the refusal names the stream only; who reads it adds the path.
fn unplaced(error: codec::Error) -> Error {
    Error::Stream { error }
}

/// A decoder that is fed chunk by chunk.
trait Records: Default {
    type Record;
    fn push(&mut self, bytes: &[u8]);
    fn next(&mut self) -> codec::Result<Option<Self::Record>>;
    fn finish(self) -> codec::Result<()>;
}

impl Records for EntryReader {
    type Record = Entry;

    fn push(&mut self, bytes: &[u8]) {
        Self::push(self, bytes);
    }

    fn next(&mut self) -> codec::Result<Option<Entry>> {
        Self::next(self)
    }

    fn finish(self) -> codec::Result<()> {
        Self::finish(self)
    }
}

impl Records for ProblemReader {
    type Record = Problem;

    fn push(&mut self, bytes: &[u8]) {
        Self::push(self, bytes);
    }

    fn next(&mut self) -> codec::Result<Option<Problem>> {
        Self::next(self)
    }

    fn finish(self) -> codec::Result<()> {
        Self::finish(self)
    }
}

impl Records for DeletionReader {
    type Record = Deletion;

    fn push(&mut self, bytes: &[u8]) {
        Self::push(self, bytes);
    }

    fn next(&mut self) -> codec::Result<Option<Deletion>> {
        Self::next(self)
    }

    fn finish(self) -> codec::Result<()> {
        Self::finish(self)
    }
}

/// The records of a chunked stream.
struct Stream<'r, R> {
    chunks: Chunks<'r>,
    reader: Option<R>,
}

impl<'r, R: Records> Stream<'r, R> {
    fn new(source: &'r dyn TreeChunks, list: ChunkList) -> Self {
        Self { chunks: Chunks::new(source, list), reader: Some(R::default()) }
    }

    fn step(&mut self) -> Result<Option<R::Record>> {
        loop {
            let Some(reader) = &mut self.reader else { return Ok(None) };
            if let Some(record) = reader.next().map_err(unplaced)? {
                return Ok(Some(record));
            }
            match self.chunks.step()? {
                Some(chunk) => reader.push(&self.chunks.source.tree_chunk(&chunk)?),
                None => {
                    if let Some(reader) = self.reader.take() {
                        reader.finish().map_err(unplaced)?;
                    }
                }
            }
        }
    }

    fn next(&mut self) -> Option<Result<R::Record>> {
        let step = self.step();
        if step.is_err() {
            self.reader = None;
        }
        step.transpose()
    }
}

/// The entries of one directory, in the order of their names.
pub struct Listing<'r>(Stream<'r, EntryReader>);

impl<'r> Listing<'r> {
    /// Reads the listing that `list` stands for.
    #[must_use]
    pub fn new(source: &'r dyn TreeChunks, list: ChunkList) -> Self {
        Self(Stream::new(source, list))
    }
}

impl Iterator for Listing<'_> {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next()
    }
}

/// The problems of one snapshot.
pub struct Problems<'r>(Stream<'r, ProblemReader>);

impl<'r> Problems<'r> {
    /// Reads the problems that `list` stands for.
    #[must_use]
    pub fn new(source: &'r dyn TreeChunks, list: ChunkList) -> Self {
        Self(Stream::new(source, list))
    }
}

impl Iterator for Problems<'_> {
    type Item = Result<Problem>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next()
    }
}

/// The log of deletions of one snapshot, oldest first.
pub struct Deletions<'r>(Stream<'r, DeletionReader>);

impl<'r> Deletions<'r> {
    /// Reads the log that `list` stands for.
    #[must_use]
    pub fn new(source: &'r dyn TreeChunks, list: ChunkList) -> Self {
        Self(Stream::new(source, list))
    }
}

impl Iterator for Deletions<'_> {
    type Item = Result<Deletion>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next()
    }
}

macro_rules! opaque_debug {
    ($($name:ident),*) => {$(
        impl std::fmt::Debug for $name<'_> {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(stringify!($name))
            }
        }
    )*};
}
opaque_debug!(Chunks, Listing, Problems, Deletions);

/// Refuses a snapshot whose bytes are not what its name says.
pub(super) fn open_snapshot(repository: &Repository, id: ObjectId, bytes: Vec<u8>) -> Result<Snapshot> {
    let name = ObjectName::Snapshot(id);
    if ObjectId::of(&bytes) != id {
        return Err(damaged(name)(codec::Error::new("snapshot", Reason::ObjectId)));
    }
    snapshot::open(repository.keys(), bytes).map_err(damaged(name))
}
