//! How much there is: what snapshots hold, counted in restic's four ways, and what the repository stores.
//!
//! What is counted once is remembered by 64 bits of its hash: among ten million things two are mistaken for one with a
//! chance of about one in 400,000, and then a figure is off by one.

use std::collections::{HashMap, HashSet};

use super::select::{self, Filter, Found, SnapshotArgument};
use super::tree_walk::{TreeWalk, Visited};
use super::{Error, Monitor, Phase, Problem, Result, Severity, Unread};
use crate::base::id::ObjectId;
use crate::codec::chunk_list::{ChunkList, ChunkRef};
use crate::codec::pack::PackKind;
use crate::codec::snapshot::Snapshot;
use crate::codec::tree::{Content, Entry, Node};
use crate::repository::Repository;
use crate::repository::list_reader::Chunks;
use crate::storage::Folder;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// What a restore of each snapshot would write; a file with several names counts once in each.
    RestoreSize,
    /// Files with the same content count once.
    FilesByContents,
    /// Chunks of contents and listings, each once.
    RawData,
    /// Chunks of contents, each once for each path.
    ChunksPerFile,
}

/// What to count.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Only these; empty for all that the filter lets through.
    pub snapshots: Vec<SnapshotArgument>,
    /// What the others are chosen by.
    pub filter: Filter,
    /// How to count.
    pub mode: Mode,
}

/// Stored objects of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stored {
    /// How many.
    pub count: u64,
    /// Their stored lengths together, in bytes.
    pub bytes: u64,
}

impl Stored {
    const fn add(&mut self, bytes: u64) {
        self.count += 1;
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

/// What the repository stores, by kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Objects {
    /// Live packs of contents.
    pub data_packs: Stored,
    /// Live packs of listings.
    pub tree_packs: Stored,
    /// Packs that no live segment lists: of a run that was interrupted, or no longer live.
    pub other_packs: Stored,
    /// Segments of the index.
    pub segments: Stored,
    /// Snapshots.
    pub snapshots: Stored,
    /// Heads.
    pub heads: Stored,
    /// Key slots.
    pub keys: Stored,
}

impl Objects {
    /// Bytes of all of them.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.data_packs.bytes
            + self.tree_packs.bytes
            + self.other_packs.bytes
            + self.segments.bytes
            + self.snapshots.bytes
            + self.heads.bytes
            + self.keys.bytes
    }
}

/// What was counted. Sizes are bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Report {
    /// Snapshots that were looked at.
    pub snapshots: u64,
    /// Regular files; not for [`Mode::RawData`].
    pub files: Option<u64>,
    /// Chunks; only for [`Mode::RawData`] and [`Mode::ChunksPerFile`].
    pub chunks: Option<u64>,
    /// The size that the mode counts: for [`Mode::RawData`] as stored.
    pub size: u64,
    /// For [`Mode::RawData`]: the same before compression.
    pub plain_size: Option<u64>,
    /// What the repository stores.
    pub objects: Objects,
    /// Snapshots and listings that could not be read and are not counted.
    pub unread: Unread,
}

/// A block and how much of it is in use.
#[derive(Debug, Clone, Copy, Default)]
struct Used {
    stored: u64,
    plain: u64,
    used: u64,
}

struct Counter<'a> {
    repository: &'a Repository,
    mode: Mode,
    report: Report,
    seen: HashSet<u64>,
    paths: HashSet<u64>,
    blocks: HashMap<(ObjectId, u16), Used>,
}

/// 64 bits of a hash over the parts, each with its length before it.
fn fingerprint(parts: &[&[u8]]) -> u64 {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
    }
    let mut bytes = [0; 8];
    hasher.finalize_xof().fill(&mut bytes);
    u64::from_le_bytes(bytes)
}

fn of_list(list: &ChunkList) -> u64 {
    let ids: Vec<u8> = list.chunks.iter().flat_map(|chunk| *chunk.id.as_bytes()).collect();
    fingerprint(&[&[list.depth], &ids])
}

fn of_content(content: &Content) -> u64 {
    let digest = content.digest.unwrap_or_default();
    fingerprint(&[&content.size.to_le_bytes(), &digest, &of_list(&content.chunks).to_le_bytes()])
}

/// Counts.
///
/// # Errors
/// As [`select::argument`]; [`Error::Interrupted`]. What cannot be read is told to the monitor and in
/// [`Report::unread`].
pub fn run(repository: &Repository, wanted: &Wanted, monitor: &dyn Monitor) -> Result<Report> {
    let mut counter = Counter {
        repository,
        mode: wanted.mode,
        report: Report::default(),
        seen: HashSet::new(),
        paths: HashSet::new(),
        blocks: HashMap::new(),
    };
    let mut parts: Vec<(ObjectId, Snapshot, Found)> = Vec::new();
    if wanted.snapshots.is_empty() {
        let selection = select::all(repository, &wanted.filter)?;
        for (id, error) in selection.damaged {
            let error = Error::from(error);
            counter.report.unread.add(&error);
            monitor.problem(&Problem::new(
                Severity::Error,
                b"",
                &format!("snapshot {} cannot be read: {error}", id.short()),
            ));
        }
        for chosen in selection.chosen {
            let found = select::find_path(repository, &chosen, b"")?;
            parts.push((chosen.id, chosen.snapshot, found));
        }
    }
    for argument in &wanted.snapshots {
        let (chosen, found) = select::argument(repository, argument, &wanted.filter)?;
        parts.push((chosen.id, chosen.snapshot, found));
    }
    monitor.phase(Phase::Count);
    monitor.expect(parts.len() as u64, 0, true);
    let mut snapshots = HashSet::new();
    for (id, snapshot, found) in &parts {
        counter.part(snapshot, found, monitor)?;
        snapshots.insert(*id);
        monitor.advance(1, 0);
    }
    counter.report.snapshots = snapshots.len() as u64;
    counter.finish()
}

impl Counter<'_> {
    fn part(&mut self, snapshot: &Snapshot, found: &Found, monitor: &dyn Monitor) -> Result<()> {
        let mut inodes = HashSet::new();
        let is_new = match found.entry() {
            Some(entry) => self.entry(&found.path, entry, &mut inodes)?,
            None if self.mode == Mode::RawData => {
                // What stands beside the tree of a whole snapshot is needed too.
                self.listing(&snapshot.problems)?;
                self.listing(&snapshot.deleted)?;
                self.listing(&snapshot.root)?
            }
            None => true,
        };
        let Some(listing) = found.listing().filter(|_| is_new) else { return Ok(()) };
        let mut walk = TreeWalk::new(self.repository, snapshot, found.prefix(), listing.clone());
        while let Some(next) = walk.next() {
            if monitor.interrupted() {
                return Err(Error::Interrupted);
            }
            match next {
                Ok(Visited { path, entry }) => {
                    let is_new = self.entry(&path, &entry, &mut inodes)?;
                    if !is_new {
                        walk.skip_children();
                    }
                }
                Err(error) => {
                    let error = error.passable()?;
                    self.report.unread.add(&error);
                    monitor.problem(&Problem::new(Severity::Error, b"", &error.to_string()));
                }
            }
        }
        Ok(())
    }

    /// Counts one entry. False for a directory that need not be entered again.
    fn entry(&mut self, path: &[u8], entry: &Entry, inodes: &mut HashSet<(u32, u64)>) -> Result<bool> {
        let content = match (&entry.node, self.mode) {
            (Node::Directory { listing }, Mode::RawData) => return self.listing(listing),
            (Node::File(content), _) => content,
            _ => return Ok(true),
        };
        let files = self.report.files.get_or_insert(0);
        match self.mode {
            Mode::RestoreSize => {
                *files += 1;
                let metadata = &entry.metadata;
                if metadata.links <= 1 || inodes.insert((metadata.device, metadata.inode)) {
                    self.report.size = self.report.size.saturating_add(content.size);
                }
            }
            Mode::FilesByContents => {
                if self.seen.insert(of_content(content)) {
                    *files += 1;
                    self.report.size = self.report.size.saturating_add(content.size);
                }
            }
            Mode::ChunksPerFile => {
                if self.paths.insert(fingerprint(&[path])) {
                    *files += 1;
                }
                for chunk in Chunks::of_file(self.repository, content) {
                    let chunk = chunk.map_err(|source| Error::at(path, source))?;
                    if self.seen.insert(fingerprint(&[path, chunk.id.as_bytes()])) {
                        *self.report.chunks.get_or_insert(0) += 1;
                        self.report.size = self.report.size.saturating_add(u64::from(chunk.length));
                    }
                }
            }
            Mode::RawData => {
                // Contents whose list was seen bring nothing new, and long lists are streams to be read.
                if self.seen.insert(of_content(content)) {
                    self.list(&content.chunks)?;
                }
            }
        }
        Ok(true)
    }

    /// Counts the chunks of a listing. False when it was counted before.
    fn listing(&mut self, listing: &ChunkList) -> Result<bool> {
        let is_new = self.paths.insert(of_list(listing));
        if is_new {
            self.list(listing)?;
        }
        Ok(is_new)
    }

    fn list(&mut self, list: &ChunkList) -> Result<()> {
        for chunk in Chunks::new(self.repository, list.clone()) {
            let chunk = chunk?;
            if self.seen.insert(fingerprint(&[chunk.id.as_bytes()])) {
                self.chunk(&chunk)?;
            }
        }
        Ok(())
    }

    fn chunk(&mut self, chunk: &ChunkRef) -> Result<()> {
        *self.report.chunks.get_or_insert(0) += 1;
        let place = self.repository.locate(chunk)?;
        let block = self.blocks.entry((place.pack, place.block)).or_default();
        block.stored = u64::from(place.at.stored_length);
        block.plain = u64::from(place.at.plain_length);
        block.used = block.used.saturating_add(u64::from(chunk.length));
        Ok(())
    }

    fn finish(mut self) -> Result<Report> {
        if self.mode == Mode::RawData {
            // A block that holds other chunks too counts by the share of it that is meant.
            let share = |block: &Used| match block.plain {
                0 => 0,
                plain => u128::from(block.stored) * u128::from(block.used.min(plain)) / u128::from(plain),
            };
            let stored: u128 = self.blocks.values().map(share).sum();
            self.report.size = u64::try_from(stored).unwrap_or(u64::MAX);
            self.report.plain_size = Some(self.blocks.values().map(|block| block.used).sum());
            self.report.files = None;
            self.report.chunks.get_or_insert(0);
        } else {
            self.report.files.get_or_insert(0);
        }
        self.report.objects = objects(self.repository)?;
        Ok(self.report)
    }
}

/// Adds up what the repository stores.
///
/// # Errors
/// When its folders cannot be listed.
pub fn objects(repository: &Repository) -> Result<Objects> {
    let mut objects = Objects::default();
    let index = repository.index();
    for folder in Folder::ALL {
        for listed in repository.storage().list(folder).map_err(crate::repository::Error::from)? {
            let stored = match folder {
                Folder::Keys => &mut objects.keys,
                Folder::Index => &mut objects.segments,
                Folder::Snapshots => &mut objects.snapshots,
                Folder::Heads => &mut objects.heads,
                Folder::Packs => {
                    let live = listed.name.id().and_then(|id| index.packs().get(&id));
                    match live.map(|pack| pack.kind) {
                        Some(PackKind::Data) => &mut objects.data_packs,
                        Some(PackKind::Tree) => &mut objects.tree_packs,
                        None => &mut objects.other_packs,
                    }
                }
            };
            stored.add(listed.length);
        }
    }
    Ok(objects)
}
