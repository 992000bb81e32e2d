//! Reading chunked streams: a listing entry by entry, a chunk list chunk by chunk, without holding the whole.

use super::Repository;
use super::blocks::Chunk;
use super::error::{Error, Result, damaged};
use crate::base::id::ObjectId;
use crate::codec::chunk_list::{ChunkList, ChunkRef, ChunkRefReader, DEPTH_MAX};
use crate::codec::deletion_log::{Deletion, DeletionReader};
use crate::codec::pack::PackKind;
use crate::codec::snapshot::{self, Problem, ProblemReader, Snapshot};
use crate::codec::tree::{Content, Entry, EntryReader};
use crate::codec::{self, Reason, stream};
use crate::storage::ObjectName;

/// Where the chunks of trees are read from. The repository itself reads as its index says; a check reads as the
/// segments say, whatever the cache believes.
pub trait TreeChunks: Sync {
    /// Reads one chunk of a tree and checks its id.
    ///
    /// # Errors
    /// [`Error::ChunkMissing`], or the damage that was found.
    fn tree_chunk(&self, chunk: &ChunkRef) -> Result<Chunk>;

    /// True once somebody wants an end: what a small stream names may be read for ever.
    fn is_ended(&self) -> bool;
}

/// Chunks after which it is asked whether somebody wants an end.
const ASKED_AFTER: u64 = 1 << 6;

impl TreeChunks for Repository {
    fn tree_chunk(&self, chunk: &ChunkRef) -> Result<Chunk> {
        self.chunk(PackKind::Tree, chunk)
    }

    fn is_ended(&self) -> bool {
        Self::is_ended(self)
    }
}

/// The chunks that a list stands for, in order.
pub struct Chunks<'r> {
    source: &'r dyn TreeChunks,
    /// The list itself, and which of its chunks comes next.
    list: ChunkList,
    next: usize,
    /// One stream of chunks for each level of depth, the outermost first. A stream goes on from chunk to chunk, wherever those were cut.
    streams: Vec<ChunkRefReader>,
    is_done: bool,
    /// Bytes that may still come, and what is said when there are more.
    room: Option<(u64, &'static str)>,
    found: u64,
}

impl<'r> Chunks<'r> {
    /// Reads `list`, however long it is: of a stream that ends where its records do.
    #[must_use]
    pub fn new(source: &'r dyn TreeChunks, list: ChunkList) -> Self {
        let streams = (0..list.depth.min(DEPTH_MAX)).map(|_| ChunkRefReader::new()).collect();
        Self { source, list, next: 0, streams, is_done: false, room: None, found: 0 }
    }

    /// Begins again, and lets go of what was read.
    fn rewind(&mut self) {
        *self = Self { room: self.room, ..Self::new(self.source, std::mem::take(&mut self.list)) };
    }

    /// Reads the chunks of a file: there are never more than it is long. A small list that names one chunk or one stream again and again
    /// unfolds without end.
    #[must_use]
    pub fn of_file(source: &'r dyn TreeChunks, content: &Content) -> Self {
        let room = content.data_length().unwrap_or_default();
        let chunks = Self::new(source, content.chunks.clone());
        Self { room: Some((room, "there are more chunks than the file is long")), ..chunks }
    }

    fn step(&mut self) -> Result<Option<ChunkRef>> {
        if self.list.depth > DEPTH_MAX {
            return Err(refused("chunk list", Reason::OutOfRange { field: "depth" }));
        }
        let mut level = self.streams.len();
        loop {
            let next = match level.checked_sub(1).and_then(|above| self.streams.get_mut(above)) {
                Some(stream) => stream.next().map_err(unplaced)?,
                None => {
                    let inline = self.list.chunks.get(self.next).copied();
                    self.next += 1;
                    inline
                }
            };
            match (next, self.streams.get_mut(level)) {
                (Some(chunk), None) => return self.count(chunk).map(Some),
                (Some(chunk), Some(stream)) => {
                    stream.push(&part(self.source, &chunk)?);
                    level += 1;
                }
                // This level is used up: the one outside it goes on.
                (None, _) if level > 0 => level -= 1,
                (None, _) => {
                    let mut ended = self.streams.drain(..);
                    return ended.try_for_each(ChunkRefReader::finish).map(|()| None).map_err(unplaced);
                }
            }
        }
    }

    fn count(&mut self, chunk: ChunkRef) -> Result<ChunkRef> {
        self.found = self.found.wrapping_add(1);
        if self.found.is_multiple_of(ASKED_AFTER) {
            require_going_on(self.source)?;
        }
        if let Some((room, rule)) = &mut self.room {
            let left = room.checked_sub(u64::from(chunk.length));
            *room = left.ok_or_else(|| refused("chunk list", Reason::BrokenRule { rule }))?;
        }
        Ok(chunk)
    }
}

impl Iterator for Chunks<'_> {
    type Item = Result<ChunkRef>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_done {
            return None;
        }
        let step = self.step();
        self.is_done = !matches!(step, Ok(Some(_)));
        step.transpose()
    }
}

/// Refuses to go on once somebody wants an end. It says nothing of what is read.
fn require_going_on(source: &dyn TreeChunks) -> Result<()> {
    if source.is_ended() { Err(Error::stopped("read", "chunks")) } else { Ok(()) }
}

/// A chunk of a stream: no writer makes a long one, and many may be held at once, for a stream of streams and for directories in each other.
///
/// # Errors
/// As [`TreeChunks::tree_chunk`]; a chunk longer than any of a stream; somebody wanted an end.
pub fn part(source: &dyn TreeChunks, chunk: &ChunkRef) -> Result<Chunk> {
    require_going_on(source)?;
    if chunk.length > stream::CHUNK_MAX {
        return Err(refused("stream", Reason::OutOfRange { field: "chunk length" }));
    }
    source.tree_chunk(chunk)
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
    /// Records that may still come, and what is said when there are more.
    room: Option<(u64, &'static str)>,
    /// How much of the stream was read.
    read: u64,
    /// How much of what comes next was used up before.
    used: u64,
}

impl<'r, R: Records> Stream<'r, R> {
    fn new(source: &'r dyn TreeChunks, list: ChunkList) -> Self {
        Self { chunks: Chunks::new(source, list), reader: Some(R::default()), room: None, read: 0, used: 0 }
    }

    /// The same where the snapshot says how many records there are.
    fn counted(source: &'r dyn TreeChunks, list: ChunkList, count: u64, rule: &'static str) -> Self {
        Self { room: Some((count, rule)), ..Self::new(source, list) }
    }

    fn step(&mut self) -> Result<Option<R::Record>> {
        loop {
            let Some(reader) = &mut self.reader else { return Ok(None) };
            if let Some(record) = reader.next().map_err(unplaced)? {
                if let Some((room, rule)) = &mut self.room {
                    let left = room.checked_sub(1);
                    *room = left.ok_or_else(|| refused("list", Reason::BrokenRule { rule }))?;
                }
                return Ok(Some(record));
            }
            match self.chunks.next().transpose()? {
                Some(chunk) => {
                    self.read = self.read.saturating_add(u64::from(chunk.length));
                    if let Some(left) = self.used.checked_sub(u64::from(chunk.length)) {
                        self.used = left;
                        continue;
                    }
                    let bytes = part(self.chunks.source, &chunk)?;
                    reader.push(usize::try_from(self.used).ok().and_then(|used| bytes.get(used..)).unwrap_or_default());
                    self.used = 0;
                }
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

    /// Lets go of what was read and is not used up yet; the next entry reads it again. Whoever goes down a tree does so with the listings far above:
    /// there may be thousands of them.
    pub fn let_go(&mut self) {
        let Stream { chunks, reader, read, used, .. } = &mut self.0;
        if let Some(reader) = reader
            && *read > 0
        {
            *used = (*used).saturating_add(*read).saturating_sub(reader.let_go() as u64);
            *read = 0;
            chunks.rewind();
        }
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
    /// Reads the problems of a snapshot, never more than it says it has: one chunk, named again and again, is a list without end.
    #[must_use]
    pub fn of(source: &'r dyn TreeChunks, snapshot: &Snapshot) -> Self {
        let rule = "there are more problems than the snapshot says it has";
        Self(Stream::counted(source, snapshot.problems.clone(), snapshot.problem_count, rule))
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
    /// Reads the log of a snapshot, never more than it says it has.
    #[must_use]
    pub fn of(source: &'r dyn TreeChunks, snapshot: &Snapshot) -> Self {
        let rule = "there are more records of deletions than the snapshot says it has";
        Self(Stream::counted(source, snapshot.deleted.clone(), snapshot.deleted_count, rule))
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::HashMap;
    use std::sync::Arc;

    use super::*;
    use crate::base::id::ChunkId;
    use crate::codec::chunk_list::INLINE_MAX;

    /// Chunks by their ids.
    #[derive(Default)]
    struct Known(HashMap<ChunkId, Arc<Vec<u8>>>);

    impl TreeChunks for Known {
        fn tree_chunk(&self, chunk: &ChunkRef) -> Result<Chunk> {
            let bytes = self.0.get(&chunk.id).ok_or(Error::ChunkMissing { chunk: chunk.id })?;
            Ok(Chunk::whole(Arc::clone(bytes)))
        }

        fn is_ended(&self) -> bool {
            false
        }
    }

    impl Known {
        fn add(&mut self, bytes: &[u8]) -> ChunkRef {
            let id = ChunkId(*blake3::hash(bytes).as_bytes());
            self.0.insert(id, Arc::new(bytes.to_vec()));
            ChunkRef { id, length: bytes.len() as u32 }
        }

        /// The stream of a list, cut without a look at its records.
        fn stream(&mut self, chunks: &[ChunkRef], length: usize) -> Vec<ChunkRef> {
            let mut bytes = Vec::new();
            chunks.iter().for_each(|chunk| chunk.write(&mut bytes));
            bytes.chunks(length).map(|bytes| self.add(bytes)).collect()
        }
    }

    fn leaf(number: u32) -> ChunkRef {
        ChunkRef { id: ChunkId(*blake3::hash(&number.to_le_bytes()).as_bytes()), length: 1 + number % 7 }
    }

    /// A list of depth 2 was refused as cut wherever a record ran on from what one chunk of the outer stream names to what the next one
    /// does: the files that have one could not be read.
    #[test]
    fn a_record_may_lie_across_any_two_chunks_of_any_stream() {
        let leaves: Vec<ChunkRef> = (0..2_000).map(leaf).collect();
        for length in [36, 50, 100, 1_000] {
            let mut known = Known::default();
            let mut list = ChunkList { depth: 0, chunks: leaves.clone() };
            for depth in 1..=4 {
                list = ChunkList { depth, chunks: known.stream(&list.chunks, length) };
                let read: Vec<ChunkRef> = Chunks::new(&known, list.clone()).map(Result::unwrap).collect();
                assert_eq!(read, leaves, "depth {depth}, chunks of {length}");
            }
        }
    }

    #[test]
    fn a_listing_that_lets_go_after_any_entry_goes_on_where_it_was() {
        use crate::codec::tree::{self, Node};
        let mut bytes = Vec::new();
        let names: Vec<Vec<u8>> =
            (0..60_u32).map(|n| format!("{n:02}{}", "x".repeat(n as usize)).into_bytes()).collect();
        for name in &names {
            let entry = Entry { name: name.clone(), metadata: tree::Metadata::default(), node: Node::Fifo };
            tree::encode_entry(&entry, &mut bytes).unwrap();
        }
        for length in [1, 36, 100, 5_000] {
            let mut known = Known::default();
            let chunks: Vec<ChunkRef> = bytes.chunks(length).map(|part| known.add(part)).collect();
            let list = ChunkList { depth: 1, chunks: known.stream(&chunks, 50) };
            for every in 1..5 {
                let mut listing = Listing::new(&known, list.clone());
                let mut read = Vec::new();
                while let Some(entry) = listing.next() {
                    read.push(entry.unwrap().name);
                    if read.len() % every == 0 {
                        listing.let_go();
                        listing.let_go();
                    }
                }
                assert_eq!(read, names, "chunks of {length}, after each {every}");
            }
        }
    }

    #[test]
    fn a_stream_that_ends_in_a_record_is_refused() {
        let mut known = Known::default();
        let mut bytes = Vec::new();
        leaf(1).write(&mut bytes);
        let cut = known.add(&bytes[..35]);
        let mut chunks = Chunks::new(&known, ChunkList { depth: 1, chunks: vec![cut] });
        assert!(matches!(chunks.next(), Some(Err(Error::Stream { .. }))));
        assert!(chunks.next().is_none());
        let deep = ChunkList { depth: DEPTH_MAX + 1, chunks: vec![leaf(1)] };
        assert!(Chunks::new(&known, deep).next().unwrap().is_err());
    }

    /// Eight streams, each of which names the one below it a thousand times: 10^24 chunks. What is read ends at the length of the file.
    #[test]
    fn a_file_has_no_more_chunks_than_it_is_long() {
        let mut known = Known::default();
        let mut chunk = ChunkRef { length: 5, ..leaf(0) };
        for _ in 0..DEPTH_MAX {
            let stream = known.stream(&[chunk; INLINE_MAX], usize::MAX);
            chunk = stream[0];
        }
        let chunks = ChunkList { depth: DEPTH_MAX, chunks: vec![chunk; INLINE_MAX] };
        let content = Content { size: 5_003, chunks, ..Content::default() };
        let read: Vec<Result<ChunkRef>> = Chunks::of_file(&known, &content).collect();
        assert_eq!(read.len(), 1_001);
        assert!(read.iter().rev().skip(1).all(Result::is_ok));
        assert!(matches!(read.last(), Some(Err(Error::Stream { .. }))));
    }
}
