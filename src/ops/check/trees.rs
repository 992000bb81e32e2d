//! Trees: every distinct listing of every snapshot is read once, and every chunk that a file names is looked for.
//!
//! The walk goes level by level. The listings of a level are read in the order in which they lie in their packs, by all
//! threads, so that a block is opened about once a level and not once a listing. What is remembered of a listing is its
//! number of entries and its subdirectories; a second, cheap pass adds them up for each snapshot. Nothing recurses: how
//! deep a tree goes is decided by whoever wrote it.

use crate::base::lock::lock;
use std::collections::HashMap;
use std::sync::Mutex;

use rayon::prelude::*;

use super::places::{Bad, Places};
use crate::base::id::ObjectId;
use crate::codec::chunk_list::{ChunkList, ChunkRef};
use crate::codec::pack::PackKind;
use crate::codec::snapshot::Counts;
use crate::codec::tree::{Content, DIRECTORY_DEPTH_MAX, Node};
use crate::ops::{Error, Monitor, Result};
use crate::repository::blocks::{Blocks, Chunk};
use crate::repository::list_reader::{Chunks, Listing, TreeChunks};
use crate::repository::{self, Repository};
use crate::storage::{ErrorKind, ObjectName};

/// Listings that are read before their results are put together.
const BATCH: usize = 8_192;

/// Reads chunks of trees as the segments say, trying every copy, and remembers what could not be read.
pub(super) struct Source<'a> {
    pub repository: &'a Repository,
    pub places: &'a Places,
    pub bad: Bad,
    blocks: Blocks,
    generation: u64,
    /// A pack that is to be taken as gone.
    hidden: Option<u32>,
    failures: Mutex<HashMap<(u32, u16), Failure>>,
    /// Why nothing more can be read at all.
    fatal: Mutex<Option<repository::Error>>,
}

/// Why a block could not be opened.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Failure {
    pub why: String,
    /// It could not be read by this process now: nothing is known of its bytes.
    pub is_unread: bool,
}

impl<'a> Source<'a> {
    pub fn new(repository: &'a Repository, places: &'a Places, bad: Bad) -> Self {
        Self {
            repository,
            places,
            bad,
            blocks: Blocks::default(),
            generation: repository.tip().reference().generation,
            hidden: None,
            failures: Mutex::default(),
            fatal: Mutex::default(),
        }
    }

    /// Reads as if the pack with this number were gone.
    pub fn without(repository: &'a Repository, places: &'a Places, bad: Bad, pack: u32) -> Self {
        Self { hidden: Some(pack), ..Self::new(repository, places, bad) }
    }

    /// Blocks of tree packs that could not be read, and why.
    pub fn failures(&self) -> Vec<((u32, u16), Failure)> {
        let failures = lock(&self.failures);
        let mut all: Vec<_> = failures.iter().map(|(place, why)| (*place, why.clone())).collect();
        all.sort_unstable();
        all
    }

    /// The failure that every further reading would meet too.
    fn check_fatal(&self) -> Result<()> {
        let fatal = lock(&self.fatal).take();
        fatal.map_or(Ok(()), |error| Err(error.into()))
    }
}

impl TreeChunks for Source<'_> {
    fn is_ended(&self) -> bool {
        self.repository.is_ended()
    }

    fn tree_chunk(&self, chunk: &ChunkRef) -> repository::Result<Chunk> {
        let mut failure = None;
        for record in self.places.copies(PackKind::Tree, chunk) {
            let Some(place) = self.places.place(record) else { continue };
            if self.hidden == Some(record.pack) {
                let object = ObjectName::Pack(place.pack);
                failure = Some(repository::Error::Missing { object, generation: self.generation });
                continue;
            }
            let repository = self.repository;
            let (storage, keys) = (repository.storage(), repository.keys());
            let read = || self.blocks.chunk(storage, keys, PackKind::Tree, chunk, &place, self.generation);
            match super::read_twice(read) {
                Ok(chunk) => return Ok(chunk),
                Err(error) => {
                    if error.is_unavailable() {
                        *lock(&self.fatal) = error.again();
                    }
                    let mut failures = lock(&self.failures);
                    let is_unread = error.is_unreadable();
                    let failure_of = || Failure { why: reason(&error), is_unread };
                    failures.entry((record.pack, record.block)).or_insert_with(failure_of);
                    failure = Some(error);
                }
            }
        }
        Err(failure.unwrap_or(repository::Error::ChunkMissing { chunk: chunk.id }))
    }
}

/// Why an object was refused, without its name, for a sentence that has named it already.
pub(in crate::ops) fn reason(error: &repository::Error) -> String {
    match error {
        repository::Error::Damaged { error, .. } => error.reason.to_string(),
        repository::Error::Missing { .. } => "it is not there".to_owned(),
        repository::Error::Storage(error) if error.kind == ErrorKind::Absent => "it is not there".to_owned(),
        repository::Error::Storage(error) if error.kind == ErrorKind::Length => "it has another length".to_owned(),
        repository::Error::Storage(error) if error.kind == ErrorKind::NoFile => "it is no regular file".to_owned(),
        repository::Error::Storage(error) => error.source.to_string(),
        error => error.to_string(),
    }
}

/// Why something of a snapshot is not to be had.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Cause {
    /// A pack is missing or damaged.
    Pack(u32),
    /// A chunk is in no live pack.
    ChunkMissing,
    /// All chunks are right, and the digest of the whole is not.
    Digest,
    /// Whoever wrote it wrote nonsense.
    Refused(String),
}

/// What stops a file or listing from being read, as far as the index and what is known to be bad can tell.
fn chunk_causes(places: &Places, bad: &Bad, kind: PackKind, chunk: &ChunkRef, causes: &mut Vec<Cause>) {
    let mut first = None;
    for record in places.copies(kind, chunk) {
        if !bad.contains(record) {
            return;
        }
        first = first.or(Some(record.pack));
    }
    let cause = first.map_or(Cause::ChunkMissing, Cause::Pack);
    if !causes.contains(&cause) {
        causes.push(cause);
    }
}

/// What stops a tree chunk from being read: an error of [`Source`].
fn tree_causes(source: &Source<'_>, error: &repository::Error, causes: &mut Vec<Cause>) {
    let cause = match error {
        repository::Error::ChunkMissing { .. } => Cause::ChunkMissing,
        repository::Error::Damaged { object: ObjectName::Pack(id), .. }
        | repository::Error::Missing { object: ObjectName::Pack(id), .. } => {
            source.places.number(id).map_or(Cause::ChunkMissing, Cause::Pack)
        }
        repository::Error::Storage(error) => match ObjectName::parse(&error.object) {
            Ok(ObjectName::Pack(id)) => source.places.number(&id).map_or(Cause::ChunkMissing, Cause::Pack),
            _ => Cause::Refused(error.to_string()),
        },
        error => Cause::Refused(error.to_string()),
    };
    if !causes.contains(&cause) {
        causes.push(cause);
    }
}

/// What stops a file from being restored; empty when nothing does.
pub(super) fn file_causes(source: &Source<'_>, content: &Content) -> Vec<Cause> {
    let mut causes = Vec::new();
    if source.bad.has_wrong_digest(content) {
        causes.push(Cause::Digest);
    }
    let list = &content.chunks;
    if list.depth == 0 {
        // That the lengths add up was checked when the entry was read.
        for chunk in &list.chunks {
            chunk_causes(source.places, &source.bad, PackKind::Data, chunk, &mut causes);
        }
        return causes;
    }
    let mut length: u64 = 0;
    for chunk in Chunks::of_file(source, content) {
        match chunk {
            Ok(chunk) => {
                length = length.saturating_add(u64::from(chunk.length));
                chunk_causes(source.places, &source.bad, PackKind::Data, &chunk, &mut causes);
            }
            Err(error) => {
                tree_causes(source, &error, &mut causes);
                return causes;
            }
        }
    }
    if content.data_length() != Some(length) {
        causes.push(Cause::Refused("the lengths of its chunks do not add up to its size".to_owned()));
    }
    causes
}

/// What stops a listing from being read.
pub(super) fn listing_causes(source: &Source<'_>, error: &repository::Error) -> Vec<Cause> {
    let mut causes = Vec::new();
    tree_causes(source, error, &mut causes);
    causes
}

/// One distinct listing.
#[derive(Debug, Clone, Default)]
struct Directory {
    /// Its own entries.
    own: Counts,
    children: Vec<u32>,
    /// It, or a file in it, cannot be read.
    bad: bool,
    /// It, or anything below it, cannot be read.
    tainted: bool,
    /// How many directories lie below it, one in the other.
    height: usize,
    total: Counts,
}

/// Every distinct listing of all snapshots.
#[derive(Debug, Default)]
pub(super) struct Trees {
    directories: Vec<Directory>,
    numbers: HashMap<u128, u32>,
}

/// What one listing holds.
struct Read {
    number: u32,
    own: Counts,
    children: Vec<ChunkList>,
    bad: bool,
}

/// What else is done with the content of each file of each distinct listing.
pub(super) type EachFile<'a> = &'a (dyn Fn(&Content) + Sync);

fn read(source: &Source<'_>, number: u32, list: ChunkList, each_file: EachFile<'_>) -> Read {
    let mut read = Read { number, own: Counts::default(), children: Vec::new(), bad: false };
    for entry in Listing::new(source, list) {
        let Ok(entry) = entry else {
            read.bad = true;
            break;
        };
        match &entry.node {
            Node::File(content) => {
                read.own.files += 1;
                read.own.bytes = read.own.bytes.saturating_add(content.size);
                read.bad |= !file_causes(source, content).is_empty();
                each_file(content);
            }
            Node::Directory { listing } => {
                read.own.directories += 1;
                read.children.push(listing.clone());
            }
            _ => read.own.others += 1,
        }
    }
    read
}

impl Trees {
    /// Reads every listing below `roots`, each once, and hands on every file in it.
    ///
    /// # Errors
    /// [`Error::Interrupted`].
    pub fn read(
        source: &Source<'_>,
        roots: &[&ChunkList],
        each_file: EachFile<'_>,
        monitor: &dyn Monitor,
    ) -> Result<Self> {
        let mut trees = Self::default();
        let mut level = Vec::new();
        for root in roots {
            trees.meet((*root).clone(), &mut level);
        }
        while !level.is_empty() {
            monitor.expect(level.len() as u64, 0, false);
            level.par_sort_by_cached_key(|(_, list)| {
                let first = list.chunks.first()?;
                source.places.copies(PackKind::Tree, first).next().map(|record| (record.pack, record.block))
            });
            let mut next = Vec::new();
            let mut rest = level.into_iter();
            loop {
                let batch: Vec<_> = rest.by_ref().take(BATCH).collect();
                if batch.is_empty() {
                    break;
                }
                if monitor.interrupted() {
                    return Err(Error::Interrupted);
                }
                let length = batch.len() as u64;
                // Neighbours stay together on one thread: they lie in the same blocks.
                let read = |(number, list)| read(source, number, list, each_file);
                let read: Vec<Read> = batch.into_par_iter().with_min_len(32).map(read).collect();
                source.check_fatal()?;
                for read in read {
                    let children = read.children.into_iter().map(|list| trees.meet(list, &mut next)).collect();
                    if let Some(directory) = trees.directories.get_mut(read.number as usize) {
                        *directory = Directory { own: read.own, children, bad: read.bad, ..Directory::default() };
                    }
                }
                monitor.advance(length, 0);
            }
            level = next;
        }
        trees.add_up();
        Ok(trees)
    }

    /// The number of a listing; one that was not met before is to be read.
    fn meet(&mut self, list: ChunkList, pending: &mut Vec<(u32, ChunkList)>) -> u32 {
        let next = self.directories.len() as u32;
        match self.numbers.entry(list.key()) {
            std::collections::hash_map::Entry::Occupied(known) => *known.get(),
            std::collections::hash_map::Entry::Vacant(vacant) => {
                vacant.insert(next);
                self.directories.push(Directory::default());
                pending.push((next, list));
                next
            }
        }
    }

    /// Adds up entries, damage and heights from the leaves to the roots. Listings are named by hashes, so there is no circle.
    fn add_up(&mut self) {
        let mut done = vec![false; self.directories.len()];
        for root in 0..self.directories.len() {
            let mut stack = vec![(root, 0)];
            while let Some((number, position)) = stack.pop() {
                if done[number] {
                    continue;
                }
                if let Some(child) = self.directories[number].children.get(position) {
                    let child = *child as usize;
                    stack.push((number, position + 1));
                    if !done[child] {
                        stack.push((child, 0));
                    }
                    continue;
                }
                let directory = &self.directories[number];
                let (mut total, mut tainted, mut height) = (directory.own, directory.bad, 0);
                for child in &directory.children {
                    let child = &self.directories[*child as usize];
                    tainted |= child.tainted;
                    height = height.max(child.height + 1);
                    total.files = total.files.saturating_add(child.total.files);
                    total.directories = total.directories.saturating_add(child.total.directories);
                    total.others = total.others.saturating_add(child.total.others);
                    total.bytes = total.bytes.saturating_add(child.total.bytes);
                }
                let directory = &mut self.directories[number];
                (directory.total, directory.tainted, directory.height) = (total, tainted, height);
                done[number] = true;
            }
        }
    }

    fn directory(&self, list: &ChunkList) -> Option<&Directory> {
        self.directories.get(*self.numbers.get(&list.key())? as usize)
    }

    /// How many distinct listings there are.
    pub fn len(&self) -> usize {
        self.directories.len()
    }

    /// True when a directory below the listing lies deeper than a tree may be. Counted over every way that leads to it: a
    /// listing is read once, however deep it stands elsewhere.
    pub fn is_too_deep(&self, list: &ChunkList) -> bool {
        self.directory(list).is_some_and(|directory| directory.height > DIRECTORY_DEPTH_MAX)
    }

    /// Everything below a listing that was read.
    pub fn total(&self, list: &ChunkList) -> Option<Counts> {
        self.directory(list).map(|directory| directory.total)
    }

    /// True when something below the listing cannot be read.
    pub fn is_tainted(&self, list: &ChunkList) -> bool {
        self.directory(list).is_none_or(|directory| directory.tainted)
    }
}

/// Calls `each` with the path of every file and directory of a snapshot that cannot be read in full, and why. Goes only
/// where `trees` says that there is something, and stops after as many entries as the snapshot holds.
pub(super) fn affected(
    source: &Source<'_>,
    trees: &Trees,
    (snapshot, root, counts): (ObjectId, &ChunkList, Counts),
    each: &mut dyn FnMut(&Cause, ObjectId, &[u8]),
) {
    let mut left = counts.entries();
    let mut stack = vec![(Vec::new(), root.clone())];
    while let Some((path, list)) = stack.pop() {
        if !trees.is_tainted(&list) {
            continue;
        }
        for entry in Listing::new(source, list) {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    let shown: &[u8] = if path.is_empty() { b"/" } else { &path };
                    listing_causes(source, &error).iter().for_each(|cause| each(cause, snapshot, shown));
                    break;
                }
            };
            if left == 0 {
                return;
            }
            left -= 1;
            let path = [&path[..], b"/", &entry.name].concat();
            match entry.node {
                Node::File(content) => {
                    file_causes(source, &content).iter().for_each(|cause| each(cause, snapshot, &path));
                }
                Node::Directory { listing } => stack.push((path, listing)),
                _ => {}
            }
        }
    }
}
