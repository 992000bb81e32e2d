//! The first stage: the walk, the comparison with the parent, and the forming of groups.
//!
//! # When is a file unchanged?
//!
//! Size, mtime, ctime and inode must be the parent's. That alone would miss a write in the same clock tick in which the
//! parent read the file: file systems stamp with a coarse clock (`CONFIG_HZ`, 1 to 10 ms; 1 s or 2 s on some). So a file
//! whose ctime is not clearly older than the moment the parent's run began is read again. And where the file system has
//! no write-back (tmpfs), a store through a shared mapping into a page that is dirty already moves no timestamp: files
//! modified in the minute before the parent's run are read again there (elsewhere the reader starts write-back first,
//! which makes the next store fault and stamp: `files::read`).

use std::collections::{HashMap, HashSet};
use std::iter::Peekable;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::group::{Group, Job, Piece, Work};
use crate::base::time::Time;
use crate::codec::chunk_list::ChunkList;
use crate::codec::snapshot::{ProblemKind, Snapshot};
use crate::codec::tree::{Entry, Metadata, Node};
use crate::files::metadata;
use crate::files::source::Sources;
use crate::files::stat::{Kind, Stat};
use crate::files::walk::{self, Rules, Step, Walk};
use crate::ops::{Error, Monitor, Result};
use crate::repository::Repository;
use crate::repository::list_reader::Listing;

/// Which differences make a file worth reading again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Unchanged {
    /// Read everything.
    pub force: bool,
    /// Take a file over although its ctime differs.
    pub ignore_ctime: bool,
    /// Take a file over although its inode differs.
    pub ignore_inode: bool,
}

/// A group is handed on when its files hold this many bytes,
const GROUP_BYTES: u64 = 4 << 20;
/// or when so many of them must be read,
const GROUP_FILES: usize = 256;
/// or when it has this many steps.
const GROUP_STEPS: usize = 2_048;
/// Pieces of one group that wait to be stored: each is about a megabyte, or a few for a large file.
const PIECES_WAITING: usize = 4;

/// A tick of the clock that stamps inodes, in nanoseconds, with room to spare.
const TICK: i128 = 20_000_000;
/// The same for file systems that store whole or even seconds only.
const COARSE_TICK: i128 = 2_000_000_000;
/// How long a page may stay dirty unnoticed where there is no write-back.
const DIRTY: i128 = 60_000_000_000;

/// The files of one group, for a reading thread.
pub(super) struct Jobs {
    pub files: Vec<Job>,
    pub pieces: Sender<Piece>,
}

/// One directory of the parent snapshot, read beside the walk.
struct ParentListing<'r> {
    entries: Peekable<Listing<'r>>,
}

impl ParentListing<'_> {
    /// The parent's entry of this name. Names are asked for in ascending order. A listing that cannot be read on
    /// ends here: the files are read again, which also heals what can be healed.
    fn find(&mut self, name: &[u8]) -> Option<Entry> {
        loop {
            match self.entries.peek()? {
                Err(_) => return None,
                Ok(entry) if entry.name.as_slice() > name => return None,
                Ok(entry) => {
                    let found = entry.name == name;
                    let entry = self.entries.next()?.ok()?;
                    if found {
                        return Some(entry);
                    }
                }
            }
        }
    }
}

/// The first stage.
pub(super) struct Scan<'r> {
    repository: &'r Repository,
    parents: Vec<Option<ParentListing<'r>>>,
    /// When the parent's run began: what was read then was read no earlier.
    parent_began: Option<Time>,
    unchanged: Unchanged,
    groups: Sender<Group>,
    jobs: Sender<Jobs>,
    work: Vec<Work>,
    files: Vec<Job>,
    bytes: u64,
    devices: HashMap<u64, u32>,
    /// Inodes with several names that this run has met.
    linked: HashSet<(u64, u64)>,
}

/// The stage behind us has stopped.
struct Stopped;

impl<'r> Scan<'r> {
    pub(super) fn new(
        repository: &'r Repository,
        parent: Option<&Snapshot>,
        unchanged: Unchanged,
        groups: Sender<Group>,
        jobs: Sender<Jobs>,
    ) -> Self {
        let root = parent.map(|parent| parent.root.clone());
        Self {
            repository,
            parents: vec![root.map(|list| Self::listing(repository, list))],
            parent_began: parent.map(|parent| parent.written),
            unchanged,
            groups,
            jobs,
            work: Vec::new(),
            files: Vec::new(),
            bytes: 0,
            devices: HashMap::new(),
            linked: HashSet::new(),
        }
    }

    fn listing(repository: &'r Repository, list: ChunkList) -> ParentListing<'r> {
        ParentListing { entries: Listing::new(repository, list).peekable() }
    }

    pub(super) fn run(mut self, sources: Sources, rules: Rules, monitor: &dyn Monitor) -> Result<()> {
        let mut walk = Walk::new(sources, rules);
        while let Some(step) = walk.next() {
            if monitor.interrupted() {
                return Err(Error::Interrupted);
            }
            // When the next stage has stopped it knows why, and its error is the run's.
            if self.step(step).is_err() {
                return Ok(());
            }
        }
        let _ = self.hand_on();
        Ok(())
    }

    fn step(&mut self, step: Step) -> std::result::Result<(), Stopped> {
        match step {
            Step::Enter(enter) => self.enter(enter),
            Step::Leave => {
                self.parents.pop();
                self.work.push(Work::Leave);
            }
            Step::Entry(entry) => self.entry(entry)?,
            Step::Problem(problem) => {
                let kind = match problem.kind {
                    walk::ProblemKind::MissingSource => ProblemKind::MissingSource,
                    walk::ProblemKind::Vanished => ProblemKind::Vanished,
                    walk::ProblemKind::Unreadable => ProblemKind::Unreadable,
                    walk::ProblemKind::TooDeep => ProblemKind::Unsupported,
                };
                self.problem(problem.path, kind, problem.error.to_string());
            }
            Step::Own(path) => self.work.push(Work::Own { path }),
        }
        if self.bytes >= GROUP_BYTES || self.files.len() >= GROUP_FILES || self.work.len() >= GROUP_STEPS {
            self.hand_on()?;
        }
        Ok(())
    }

    fn hand_on(&mut self) -> std::result::Result<(), Stopped> {
        self.bytes = 0;
        let (sender, pieces) = bounded(PIECES_WAITING);
        let files = std::mem::take(&mut self.files);
        if !files.is_empty() {
            // Readers take jobs in order, so the group that is stored now is always being read.
            self.jobs.send(Jobs { files, pieces: sender }).map_err(|_| Stopped)?;
        }
        let work = std::mem::take(&mut self.work);
        self.groups.send(Group { work, pieces }).map_err(|_| Stopped)
    }

    /// The number of a file system within this snapshot: raw device numbers change at a reboot.
    fn device(&mut self, stat: &Stat) -> u32 {
        let next = self.devices.len() as u32;
        *self.devices.entry(stat.device).or_insert(next)
    }

    fn parent(&mut self, name: &[u8]) -> Option<Entry> {
        self.parents.last_mut()?.as_mut()?.find(name)
    }

    fn problem(&mut self, path: Vec<u8>, kind: ProblemKind, message: String) {
        self.work.push(Work::Problem { path, kind, message });
    }

    fn metadata_problems(&mut self, path: &[u8], problems: Vec<String>) {
        for message in problems {
            self.problem(path.to_vec(), ProblemKind::Metadata, message);
        }
    }

    fn enter(&mut self, enter: walk::Enter) {
        let device = self.device(&enter.stat);
        let parent = match self.parent(&enter.name) {
            Some(Entry { metadata, node: Node::Directory { listing }, .. }) => Some((metadata, listing)),
            _ => None,
        };
        let listing = parent.as_ref().map(|(_, list)| Self::listing(self.repository, list.clone()));
        self.parents.push(listing);
        let same = parent.as_ref().filter(|(old, _)| self.is_same_inode_state(old, &enter.stat));
        let metadata = match same {
            Some((old, _)) => Metadata { device, ..old.clone() },
            None => {
                let (mut metadata, problems) = metadata::capture_directory(&enter.directory, &enter.stat);
                metadata.device = device;
                self.metadata_problems(&enter.path, problems);
                metadata
            }
        };
        self.work.push(Work::Enter { path: enter.path, name: enter.name, metadata, parent });
    }

    /// True when nothing of the inode can have changed since the parent read it.
    fn is_same_inode_state(&self, old: &Metadata, stat: &Stat) -> bool {
        let Some(began) = self.parent_began else { return false };
        if self.unchanged.force {
            return false;
        }
        let inode = self.unchanged.ignore_inode || old.inode == stat.inode;
        let ctime = self.unchanged.ignore_ctime || old.ctime == stat.ctime;
        inode && ctime && old.mtime == stat.mtime && old.mode == stat.mode && is_settled(stat, began)
    }

    fn is_unchanged(&self, old: &Entry, entry: &walk::Entry) -> bool {
        if !self.is_same_inode_state(&old.metadata, &entry.stat) {
            return false;
        }
        match (&old.node, entry.stat.kind) {
            (Node::File(content), Kind::File) => {
                let recent = |began: Time| entry.stat.mtime.as_nanoseconds() + DIRTY >= began.as_nanoseconds();
                content.size == entry.stat.size
                    && (entry.parent.writes_back() || !self.parent_began.is_some_and(recent))
            }
            (Node::Symlink { .. }, Kind::Symlink)
            | (Node::Fifo, Kind::Fifo)
            | (Node::Socket, Kind::Socket)
            | (Node::CharacterDevice { .. }, Kind::CharacterDevice)
            | (Node::BlockDevice { .. }, Kind::BlockDevice) => true,
            _ => false,
        }
    }

    fn entry(&mut self, found: walk::Entry) -> std::result::Result<(), Stopped> {
        let device = self.device(&found.stat);
        let old = self.parent(&found.name);
        let known = old.is_some();
        let unchanged = old.filter(|old| self.is_unchanged(old, &found));
        let walk::Entry { name, path, stat, parent } = found;
        let key = (stat.links > 1).then_some((u64::from(device), stat.inode));
        if let Some(mut entry) = unchanged {
            entry.metadata.device = device;
            entry.metadata.links = stat.links;
            if stat.kind == Kind::File {
                if let Some(key) = key {
                    self.linked.insert(key);
                }
                self.work.push(Work::Unchanged { path, entry });
            } else {
                self.work.push(Work::Other { path, entry, known: true });
            }
            return Ok(());
        }
        if stat.kind == Kind::File {
            if let Some(key) = key
                && !self.linked.insert(key)
            {
                self.work.push(Work::Link { path, name, key, known });
                return Ok(());
            }
            if stat.size >= GROUP_BYTES && !self.files.is_empty() {
                self.hand_on()?;
            }
            self.bytes += stat.size;
            self.files.push(Job { directory: parent, name: name.clone(), stat });
            self.work.push(Work::Read { path, name, device, known, key });
            return Ok(());
        }
        match metadata::capture_special(&parent, &name, &stat) {
            Ok((node, mut metadata, problems)) => {
                metadata.device = device;
                self.metadata_problems(&path, problems);
                self.work.push(Work::Other { path, entry: Entry { name, metadata, node }, known });
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                self.problem(path, ProblemKind::Vanished, "vanished while the backup ran".to_owned());
            }
            Err(error) => self.problem(path, ProblemKind::Unreadable, error.to_string()),
        }
        Ok(())
    }
}

/// True when a later change of the inode must have moved its ctime: the clock had ticked on before the parent's run began.
fn is_settled(stat: &Stat, began: Time) -> bool {
    let coarse = stat.ctime.nanoseconds == 0 && stat.mtime.nanoseconds == 0;
    let tick = if coarse { COARSE_TICK } else { TICK };
    stat.ctime.as_nanoseconds() + tick < began.as_nanoseconds()
}

/// A queue of jobs, as the reading threads see it.
pub(super) type JobQueue = Receiver<Jobs>;
