//! The third stage: takes groups in the order of the walk, stores what is new, and writes the listings bottom up.

use crate::base::lock::lock;
use std::sync::Mutex;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::memo::{CopiedListing, Memo, content_key};
use super::read::{Item, Way};
use super::walk::{Group, Jobs, Piece, Walk, Work};
use super::{Base, Failure};
use crate::base::threads;
use crate::codec::chunk_list::{ChunkList, ChunkRef};
use crate::codec::deletion_log::encode_deletion;
use crate::codec::pack::PackKind;
use crate::codec::snapshot::{self, Snapshot};
use crate::codec::tree::{Content, Entry, Metadata, Node};
use crate::ops::{Action, Error, Item as Seen, Monitor};
use crate::repository::Repository;
use crate::repository::list_reader::{Deletions, Problems};
use crate::repository::list_writer::{ChunkListWriter, StreamWriter};
use crate::repository::run::Run;

/// Groups that wait to be stored, at most. Each holds a few megabytes.
const GROUPS_WAITING: usize = 3;
/// Buffers that are kept for reading, at most.
const BUFFERS_KEPT: usize = 8;

type Result<T> = std::result::Result<T, Failure>;

/// What one snapshot is copied from, and how.
pub(super) struct Parts<'a> {
    pub source: &'a Repository,
    pub snapshot: &'a Snapshot,
    pub base: Option<&'a Base<'a>>,
    pub listings: &'a Mutex<Memo<CopiedListing>>,
    /// Files and bytes of the snapshot that were reported to the monitor.
    pub reported: &'a Mutex<(u64, u64)>,
    pub readers: usize,
    pub monitor: &'a dyn Monitor,
}

/// What was stored for one snapshot.
#[derive(Debug, Default)]
pub(super) struct Stored {
    pub root: ChunkList,
    pub problems: ChunkList,
    pub deleted: ChunkList,
    pub deleted_count: u64,
    pub files_read: u64,
    pub bytes_read: u64,
}

/// A directory of which the entries are being gathered.
struct Frame {
    name: Vec<u8>,
    metadata: Metadata,
    key: u128,
    listing: StreamWriter,
    /// How many directories lie below it so far, one in the other.
    height: usize,
}

struct Store<'a, 'r> {
    run: &'a mut Run<'r>,
    parts: &'a Parts<'a>,
    way: Way<'a>,
    root: StreamWriter,
    root_height: usize,
    frames: Vec<Frame>,
    /// Contents with several names.
    linked: Memo<Content>,
    spare: Sender<Vec<u8>>,
    buffers: Receiver<Vec<u8>>,
    /// Bytes of the current file that were reported to the monitor.
    read: u64,
    stored: Stored,
}

/// Stores one snapshot's listings and contents, but not yet the snapshot.
pub(super) fn snapshot<'r>(run: &mut Run<'r>, parts: &Parts<'_>) -> Result<Stored> {
    let destination: &'r Repository = run.repository();
    let (spare, buffers) = bounded(BUFFERS_KEPT);
    let way = Way { source: parts.source, destination };
    let mut store = Store {
        run,
        parts,
        way,
        root: StreamWriter::default(),
        root_height: 0,
        frames: Vec::new(),
        linked: Memo::default(),
        spare,
        buffers,
        read: 0,
        stored: Stored::default(),
    };
    let key = parts.snapshot.root.key();
    let copied = lock(parts.listings).get(key);
    store.stored.root = match copied {
        Some(root) => root.listing,
        None => store.tree(key)?,
    };
    store.problems()?;
    store.deleted()?;
    Ok(store.stored)
}

impl Store<'_, '_> {
    /// Runs all stages and returns the copy of the root, the listing of this key.
    fn tree(&mut self, key: u128) -> Result<ChunkList> {
        let (groups, waiting) = bounded(GROUPS_WAITING);
        let (jobs, work) = bounded(GROUPS_WAITING);
        let Parts { source, snapshot, base, listings, readers, monitor, .. } = *self.parts;
        let way = self.way;
        let threads_failed = |error| Failure::Final(Error::Threads(error));
        std::thread::scope(|scope| {
            let reader = || {
                let (work, buffers) = (work.clone(), self.buffers.clone());
                move || way.contents(&work, &buffers)
            };
            threads::spawn(scope, readers, reader).map_err(threads_failed)?;
            drop(work);
            let walk = Walk { source, destination: way.destination, snapshot, base, listings, groups, jobs };
            let walker = threads::spawn_one(scope, move || walk.run(monitor)).map_err(threads_failed)?;
            let result = self.groups(&waiting);
            // When storing failed, the queues must end, or the other stages wait for ever.
            drop(waiting);
            match (result, walker.join()) {
                (Err(failure), _) => Err(failure),
                (Ok(()), Ok(Err(Error::Interrupted))) => Err(Failure::Final(Error::Interrupted)),
                (Ok(()), Ok(Err(error))) => Err(Failure::Source(error)),
                (Ok(()), Ok(Ok(()))) => Ok(()),
                (Ok(()), Err(_)) => Err(ended()),
            }
        })?;
        let root = std::mem::take(&mut self.root).finish(self.run)?;
        lock(listings).insert(key, CopiedListing { listing: root.clone(), height: self.root_height });
        Ok(root)
    }

    fn groups(&mut self, groups: &Receiver<Group>) -> Result<()> {
        for Group { work, pieces } in groups {
            if self.parts.monitor.interrupted() {
                return Err(Failure::Final(Error::Interrupted));
            }
            let mut pieces = Pieces { channel: pieces, current: None };
            work.into_iter().try_for_each(|work| self.work(work, &mut pieces))?;
        }
        Ok(())
    }

    fn work(&mut self, work: Work, pieces: &mut Pieces) -> Result<()> {
        match work {
            Work::Enter { name, metadata, key } => {
                self.frames.push(Frame { name, metadata, key, listing: StreamWriter::default(), height: 0 });
                Ok(())
            }
            Work::Leave => self.leave(),
            Work::Ready(entry, height) => self.push(&entry, height),
            Work::Read { path, name, metadata, content } => {
                let copied = self.content(pieces, &path, &content)?;
                if metadata.links > 1 {
                    self.linked.insert(content_key(&content), copied.clone());
                }
                self.push(&Entry { name, metadata, node: Node::File(copied) }, 0)
            }
            Work::Link { path, name, metadata, content } => {
                let copied = match self.linked.get(content_key(&content)) {
                    Some(copied) => copied,
                    None => self.content_again(path, content)?,
                };
                self.push(&Entry { name, metadata, node: Node::File(copied) }, 0)
            }
        }
    }

    /// Adds an entry to the listing that is being gathered; `height` is that of a directory.
    fn push(&mut self, entry: &Entry, height: usize) -> Result<()> {
        if let Node::File(content) = &entry.node {
            // Holes, and what is there already.
            self.parts.monitor.skip(1, content.size.saturating_sub(std::mem::take(&mut self.read)));
            let reported = &mut *lock(self.parts.reported);
            *reported = (reported.0 + 1, reported.1.saturating_add(content.size));
        }
        let (listing, highest) = match self.frames.last_mut() {
            Some(frame) => (&mut frame.listing, &mut frame.height),
            None => (&mut self.root, &mut self.root_height),
        };
        if matches!(entry.node, Node::Directory { .. }) {
            *highest = (height + 1).max(*highest);
        }
        Ok(listing.push_entry(self.run, entry)?)
    }

    fn leave(&mut self) -> Result<()> {
        let Some(Frame { name, metadata, key, listing, height }) = self.frames.pop() else { return Ok(()) };
        let listing = listing.finish(self.run)?;
        lock(self.parts.listings).insert(key, CopiedListing { listing: listing.clone(), height });
        self.push(&Entry { name, metadata, node: Node::Directory { listing } }, height)
    }

    /// Stores a content that is being read.
    fn content(&mut self, pieces: &mut Pieces, path: &[u8], content: &Content) -> Result<Content> {
        self.parts.monitor.item(&Seen::new(path, Action::Started));
        let mut chunks = ChunkListWriter::default();
        let mut added = 0;
        let digest = loop {
            match pieces.next(&self.spare)? {
                Item::Chunk { start, length, id } => {
                    // A file may take hours.
                    if self.parts.monitor.interrupted() {
                        return Err(Failure::Final(Error::Interrupted));
                    }
                    if self.run.add(PackKind::Data, id, pieces.bytes(start, length)?)? {
                        added += length as u64;
                    }
                    self.stored.bytes_read += length as u64;
                    self.read += length as u64;
                    self.parts.monitor.advance(0, length as u64);
                    chunks.push(ChunkRef { id, length: length as u32 }, self.run)?;
                }
                Item::End { digest } => break digest,
                Item::Failed(error) => return Err(Failure::Source(*error)),
            }
        };
        self.stored.files_read += 1;
        let chunks = chunks.finish(self.run)?;
        let mut copied = Content { size: content.size, chunks, holes: content.holes.clone(), digest: None };
        copied.digest = digest.filter(|_| copied.needs_digest());
        self.parts.monitor.item(&Seen { size: content.size, added, ..Seen::new(path, Action::New) });
        Ok(copied)
    }

    /// Reads a content here, of which more were met since than are remembered.
    fn content_again(&mut self, path: Vec<u8>, content: Content) -> Result<Content> {
        let way = self.way;
        let (job, queue) = bounded(1);
        let buffers = self.buffers.clone();
        std::thread::scope(|scope| {
            let (sender, channel) = bounded(1);
            job.send(Jobs { files: vec![(path.clone(), content.clone())], pieces: sender }).map_err(|_| ended())?;
            drop(job);
            let reader = threads::spawn_one(scope, move || way.contents(&queue, &buffers));
            reader.map_err(|error| Failure::Final(Error::Threads(error)))?;
            self.content(&mut Pieces { channel, current: None }, &path, &content)
        })
    }

    fn problems(&mut self) -> Result<()> {
        let mut problems = StreamWriter::default();
        for problem in Problems::of(self.parts.source, self.parts.snapshot) {
            let problem = problem.map_err(|error| Failure::Source(Error::at(b"(list of problems)", error)))?;
            problems.push(self.run, |buffer| snapshot::encode_problem(&problem, buffer))?;
        }
        self.stored.problems = problems.finish(self.run)?;
        Ok(())
    }

    /// The log of deletions comes over as far as it can be read: what a snapshot holds is worth more than its history.
    fn deleted(&mut self) -> Result<()> {
        let (mut log, mut count) = (StreamWriter::default(), 0);
        for deletion in Deletions::of(self.parts.source, self.parts.snapshot) {
            match deletion {
                Ok(deletion) => log.push(self.run, |buffer| encode_deletion(&deletion, buffer))?,
                Err(error) => {
                    self.run
                        .warn(format!("the log of deletions cannot be read on ({error}): {count} records were copied"));
                    break;
                }
            }
            count += 1;
        }
        (self.stored.deleted, self.stored.deleted_count) = (log.finish(self.run)?, count);
        Ok(())
    }
}

fn ended() -> Failure {
    Failure::Final(Error::Internal("a reading thread ended unexpectedly".to_owned()))
}

/// The items of one group's contents, in order.
struct Pieces {
    channel: Receiver<Piece>,
    current: Option<(Vec<u8>, std::vec::IntoIter<Item>)>,
}

impl Pieces {
    fn next(&mut self, spare: &Sender<Vec<u8>>) -> Result<Item> {
        loop {
            if let Some((_, items)) = &mut self.current
                && let Some(item) = items.next()
            {
                return Ok(item);
            }
            if let Some((buffer, _)) = self.current.take() {
                // The readers take their buffers from here; one too many is dropped.
                let _ = spare.try_send(buffer);
            }
            let piece = self.channel.recv().map_err(|_| ended())?;
            self.current = Some((piece.data, piece.items.into_iter()));
        }
    }

    fn bytes(&self, start: usize, length: usize) -> Result<&[u8]> {
        let bytes = self.current.as_ref().and_then(|(data, _)| data.get(start..)?.get(..length));
        bytes.ok_or_else(ended)
    }
}
