//! The first stage: the walk, the comparison with the parent, and the forming of groups.
//!
//! An entry is taken over from the parent unread when size, mtime, ctime and inode are the parent's and nothing can have
//! changed since without a trace: [`needs_reread`] has the reasons.

use std::collections::HashMap;
use std::iter::Peekable;
use std::os::fd::AsFd;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::Compared;
use super::gone::{Gone, Watched, kind_of_inode};
use super::group::{Group, Job, Piece, Work};
use crate::base::id::ObjectId;
use crate::base::time::Time;
use crate::codec::chunk_list::ChunkList;
use crate::codec::deletion_log::DeletedKind;
use crate::codec::live_state::{LiveState, MarkedKind};
use crate::codec::snapshot::ProblemKind;
use crate::codec::tree::{Entry, Metadata, Node};
use crate::files::metadata::{self, Captured};
use crate::files::owner::Owners;
use crate::files::read::needs_reread;
use crate::files::source::Sources;
use crate::files::stat::{Kind, Stat};
use crate::files::walk::{self, Rules, Step, Walk};
use crate::files::xattr::Place;
use crate::ops::deleted::holders::kind_of;
use crate::ops::{Error, Monitor, Result};
use crate::repository::list_reader::{Chunks, Listing};
use crate::repository::{self, Repository};

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

/// The files of one group, for a reading thread.
pub(super) struct Jobs {
    pub files: Vec<Job>,
    pub pieces: Sender<Piece>,
}

/// One directory of an earlier snapshot, read beside the walk.
struct Beside<'r> {
    entries: Peekable<Listing<'r>>,
}

/// What a listing beside the walk says about a name.
enum Told {
    /// It has the name.
    Has(Entry),
    /// It has another one first, which the walk does not.
    Passed(Entry),
    /// It does not have the name.
    Not,
    /// It cannot be read on.
    Unread(repository::Error),
}

impl<'r> Beside<'r> {
    fn new(repository: &'r Repository, list: ChunkList) -> Self {
        Self { entries: Listing::new(repository, list).peekable() }
    }

    /// What comes up to this name, or up to the end. Names are asked for in ascending order.
    fn ask(&mut self, name: Option<&[u8]>) -> Told {
        match (self.entries.peek(), name) {
            (None, _) => return Told::Not,
            (Some(Ok(entry)), Some(name)) if entry.name.as_slice() > name => return Told::Not,
            _ => {}
        }
        match self.entries.next() {
            Some(Ok(entry)) if name == Some(&entry.name) => Told::Has(entry),
            Some(Ok(entry)) => Told::Passed(entry),
            Some(Err(error)) => Told::Unread(error),
            None => Told::Not,
        }
    }
}

/// Which of the snapshots that are compared with a listing belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    /// The parent, which mostly is the snapshot before as well.
    Parent,
    /// The snapshot before, when it is another one than the parent.
    Before,
}

/// A directory in which the walk stands, in the snapshots that are compared with.
#[derive(Default)]
struct Level<'r> {
    parent: Option<Beside<'r>>,
    before: Option<Beside<'r>>,
    /// Present as long as what the walk does not meet here may be gone.
    watched: Option<Watched>,
}

impl<'r> Level<'r> {
    const fn side(&mut self, side: Side) -> Option<&mut Beside<'r>> {
        match side {
            Side::Parent => self.parent.as_mut(),
            Side::Before => self.before.as_mut(),
        }
    }
}

/// True when packs or segments were marked since the snapshot arrived. A prune marks none that a live snapshot needs, but
/// packs that are gone are marked too, when the index is repaired, and segments that are gone or damaged: nobody knows which
/// packs those listed, and one that went with its segment has no mark. A file may only be taken over from a snapshot that
/// has it.
pub(in crate::ops) fn may_have_lost(state: &LiveState, snapshot: ObjectId) -> bool {
    let arrival = state.snapshots.get(&snapshot).map_or(0, |entry| entry.arrival);
    let loses = |kind| matches!(kind, MarkedKind::Pack | MarkedKind::Segment);
    state.marked.values().any(|mark| loses(mark.kind) && mark.since >= arrival)
}

/// The first stage.
pub(super) struct Scan<'r> {
    repository: &'r Repository,
    owners: &'r Owners,
    levels: Vec<Level<'r>>,
    gone: Option<Gone<'r>>,
    /// On which side the snapshot before is.
    before_side: Side,
    /// That it could not be read in full was said.
    told_unread: bool,
    /// When the parent's run began: what was read then was read no earlier.
    parent_began: Option<Time>,
    unchanged: Unchanged,
    /// The parent may have lost chunks: what is taken over from it is looked up first.
    confirm: bool,
    groups: Sender<Group>,
    jobs: Sender<Jobs>,
    work: Vec<Work>,
    files: Vec<Job>,
    bytes: u64,
    devices: HashMap<u64, u32>,
    /// Inodes with several names that this run has met, and their ctime then: the number alone may by now be that of another
    /// file, or the file may have been written to.
    linked: HashMap<(u64, u64), Time>,
}

/// The stage behind us has stopped.
struct Stopped;

/// When the next stage failed its own error comes first, and is the run's. Were it to stop without one, half a tree must
/// not become a snapshot.
fn stopped() -> Error {
    Error::Refused("what stores the files ended before the walk did".to_owned())
}

impl<'r> Scan<'r> {
    pub(super) fn new(
        repository: &'r Repository,
        owners: &'r Owners,
        compared: Compared<'r>,
        unchanged: Unchanged,
        groups: Sender<Group>,
        jobs: Sender<Jobs>,
    ) -> Self {
        let parent = compared.parent;
        let before = compared.before.filter(|before| parent.is_none_or(|(id, _)| id != before.id));
        let top = Level {
            parent: parent.map(|(_, parent)| Beside::new(repository, parent.root.clone())),
            before: before.map(|before| Beside::new(repository, before.snapshot.root.clone())),
            watched: None,
        };
        Self {
            repository,
            owners,
            levels: vec![top],
            gone: Gone::new(repository, compared),
            before_side: if before.is_some() { Side::Before } else { Side::Parent },
            told_unread: false,
            parent_began: parent.map(|(_, parent)| parent.written),
            unchanged,
            confirm: parent.is_some_and(|(id, _)| may_have_lost(&repository.tip().state, id)),
            groups,
            jobs,
            work: Vec::new(),
            files: Vec::new(),
            bytes: 0,
            devices: HashMap::new(),
            linked: HashMap::new(),
        }
    }

    pub(super) fn run(mut self, sources: Sources, rules: Rules, monitor: &dyn Monitor) -> Result<()> {
        let watched = self.gone.as_ref().and_then(|gone| gone.root(sources.whole.clone()));
        if let Some(top) = self.levels.last_mut() {
            top.watched = watched;
        }
        for step in Walk::new(sources, rules) {
            if monitor.interrupted() {
                return Err(Error::Interrupted);
            }
            self.step(step).map_err(|Stopped| stopped())?;
        }
        self.leave().and_then(|()| self.hand_on()).map_err(|Stopped| stopped())
    }

    fn step(&mut self, step: Step) -> std::result::Result<(), Stopped> {
        match step {
            Step::Enter(enter) => self.enter(enter)?,
            Step::Leave => {
                self.leave()?;
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
                self.unwatch(&problem);
                self.problem(problem.path, kind, problem.error.to_string());
            }
            Step::Own(path) => self.work.push(Work::Own { path }),
        }
        if self.bytes >= GROUP_BYTES || self.files.len() >= GROUP_FILES || self.work.len() >= GROUP_STEPS {
            self.hand_on()?;
        }
        Ok(())
    }

    /// A directory whose names cannot be read says nothing about what is gone, and a source that is missing is no deletion.
    fn unwatch(&mut self, problem: &walk::Problem) {
        if let Some(level) = self.levels.last_mut()
            && level.watched.as_ref().is_some_and(|watched| watched.path == problem.path)
        {
            level.watched = None;
        }
        if let Some(gone) = self.gone.as_mut().filter(|_| problem.kind == walk::ProblemKind::MissingSource) {
            gone.is_missing(&problem.path);
        }
    }

    /// The directory entered last ends: what its listings still have the walk did not meet.
    fn leave(&mut self) -> std::result::Result<(), Stopped> {
        if self.levels.last().is_some_and(|level| level.watched.is_some()) {
            self.ask(self.before_side, None)?;
        }
        self.levels.pop();
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

    /// What one side has under this name, or nothing for the end of the directory. What is passed over may be gone. A listing
    /// that cannot be read on ends here: the files are read again, which also heals what can be healed.
    fn ask(&mut self, side: Side, name: Option<&[u8]>) -> std::result::Result<Option<Entry>, Stopped> {
        loop {
            let Some(beside) = self.levels.last_mut().and_then(|level| level.side(side)) else { return Ok(None) };
            match beside.ask(name) {
                Told::Has(entry) => return Ok(Some(entry)),
                Told::Passed(entry) if side == self.before_side => self.passed(&entry)?,
                Told::Passed(_) => {}
                Told::Not => return Ok(None),
                Told::Unread(error) => {
                    if let Some(level) = self.levels.last_mut() {
                        match side {
                            Side::Parent => level.parent = None,
                            Side::Before => level.before = None,
                        }
                    }
                    if side == self.before_side && self.gone.is_some() {
                        self.unread(&error.to_string());
                    }
                    return Ok(None);
                }
            }
        }
    }

    /// What the parent and the snapshot before have under the name of an entry of the walk. Of another kind, it is gone.
    fn meet(
        &mut self,
        name: &[u8],
        path: &[u8],
        kind: DeletedKind,
    ) -> std::result::Result<(Option<Entry>, Option<ChunkList>), Stopped> {
        let parent = self.ask(Side::Parent, Some(name))?;
        let before = match self.before_side {
            Side::Parent => None,
            Side::Before => self.ask(Side::Before, Some(name))?,
        };
        let compared = before.as_ref().or(parent.as_ref().filter(|_| self.before_side == Side::Parent));
        if let Some(other) = compared.filter(|entry| kind_of(&entry.node) != kind) {
            self.record(path.to_vec(), other)?;
        }
        let listing = match before {
            Some(Entry { node: Node::Directory { listing }, .. }) => Some(listing),
            _ => None,
        };
        Ok((parent, listing))
    }

    /// The walk did not meet an entry of the snapshot before.
    fn passed(&mut self, entry: &Entry) -> std::result::Result<(), Stopped> {
        let watched = self.levels.last().and_then(|level| level.watched.as_ref());
        let gone = self.gone.as_ref().zip(watched).and_then(|(gone, watched)| gone.check(watched, entry));
        gone.map_or(Ok(()), |path| self.record(path, entry))
    }

    /// Records that an entry and everything beneath it is gone.
    fn record(&mut self, path: Vec<u8>, entry: &Entry) -> std::result::Result<(), Stopped> {
        let Some(gone) = self.gone.take() else { return Ok(()) };
        let result = gone.records(path, entry, &mut |deletion| {
            match deletion {
                Ok(deletion) => self.work.push(Work::Deleted(Box::new(deletion))),
                Err(error) => self.unread(&error.to_string()),
            }
            if self.work.len() >= GROUP_STEPS { self.hand_on() } else { Ok(()) }
        });
        self.gone = Some(gone);
        result
    }

    fn unread(&mut self, error: &str) {
        if !std::mem::replace(&mut self.told_unread, true) {
            self.work.push(Work::Unread(format!(
                "the snapshot before cannot be read in full ({error}): what is gone since then may be missing in the log of \
                 deletions. Next: packstone check"
            )));
        }
    }

    fn problem(&mut self, path: Vec<u8>, kind: ProblemKind, message: String) {
        self.work.push(Work::Problem { path, kind, message });
    }

    fn metadata_problems(&mut self, path: &[u8], problems: &[metadata::Problem]) {
        for problem in problems {
            let message = format!("{}: {}", problem.what, problem.error);
            self.problem(path.to_vec(), ProblemKind::Metadata, message);
        }
    }

    fn enter(&mut self, enter: walk::Enter) -> std::result::Result<(), Stopped> {
        let device = self.device(&enter.stat);
        let (parent, before) = self.meet(&enter.name, &enter.path, DeletedKind::Directory)?;
        let parent = match parent {
            Some(Entry { metadata, node: Node::Directory { listing }, .. }) => Some((metadata, listing)),
            _ => None,
        };
        let is_watched = self.gone.is_some() && !enter.ancestor && !enter.closed;
        self.levels.push(Level {
            parent: parent.as_ref().map(|(_, list)| Beside::new(self.repository, list.clone())),
            before: before.map(|list| Beside::new(self.repository, list)),
            watched: is_watched
                .then(|| Watched { path: enter.path.clone(), directories: vec![enter.directory.clone()] }),
        });
        let same = parent.as_ref().filter(|(old, _)| self.is_same_inode_state(old, &enter.stat));
        let metadata = match same {
            Some((old, _)) => Metadata { device, ..old.clone() },
            None => {
                let place = Place::Open(enter.directory.as_fd());
                match metadata::capture(&place, &enter.stat, device, self.owners) {
                    Ok(captured) => {
                        self.metadata_problems(&enter.path, &captured.problems);
                        captured.metadata
                    }
                    // Only symlinks fail, and this is a directory.
                    Err(error) => {
                        self.problem(enter.path.clone(), ProblemKind::Metadata, error.to_string());
                        Metadata::default()
                    }
                }
            }
        };
        self.work.push(Work::Enter { path: enter.path, name: enter.name, metadata, parent });
        Ok(())
    }

    /// True when nothing of the inode can have changed since the parent read it.
    fn is_same_inode_state(&self, old: &Metadata, stat: &Stat) -> bool {
        let Some(began) = self.parent_began else { return false };
        if self.unchanged.force {
            return false;
        }
        let inode = self.unchanged.ignore_inode || old.inode == stat.inode;
        let ctime = self.unchanged.ignore_ctime || old.ctime == stat.ctime;
        // Only the clock's tick matters here: content is not looked at.
        let ticked = !needs_reread(0, Time::default(), stat.ctime, began, true);
        inode && ctime && old.mtime == stat.mtime && old.mode == stat.mode && ticked
    }

    fn is_unchanged(&self, old: &Entry, entry: &walk::Entry) -> bool {
        if !self.is_same_inode_state(&old.metadata, &entry.stat) {
            return false;
        }
        match (&old.node, entry.stat.kind) {
            (Node::File(content), Kind::File) => {
                let stat = &entry.stat;
                let writes_back = entry.parent.writes_back();
                content.size == stat.size
                    && self
                        .parent_began
                        .is_some_and(|began| !needs_reread(stat.size, stat.mtime, stat.ctime, began, writes_back))
            }
            (Node::Symlink { .. }, Kind::Symlink)
            | (Node::Fifo, Kind::Fifo)
            | (Node::Socket, Kind::Socket)
            | (Node::CharacterDevice { .. }, Kind::CharacterDevice)
            | (Node::BlockDevice { .. }, Kind::BlockDevice) => true,
            _ => false,
        }
    }

    /// True when every chunk of the parent's entry is still to be had.
    fn is_whole(&self, old: &Entry) -> bool {
        let Node::File(content) = &old.node else { return true };
        let mut chunks = Chunks::new(self.repository, content.chunks.clone());
        !self.confirm || chunks.all(|chunk| chunk.is_ok_and(|chunk| self.repository.locate(&chunk).is_ok()))
    }

    fn entry(&mut self, found: walk::Entry) -> std::result::Result<(), Stopped> {
        let device = self.device(&found.stat);
        let (old, _) = self.meet(&found.name, &found.path, kind_of_inode(found.stat.kind))?;
        let (unchanged, old) = match old {
            Some(old) if self.is_unchanged(&old, &found) && self.is_whole(&old) => (Some(old), None),
            old => (None, old.map(Box::new)),
        };
        let walk::Entry { name, path, stat, parent } = found;
        let key = (stat.links > 1).then_some((u64::from(device), stat.inode));
        if let Some(mut entry) = unchanged {
            entry.metadata.device = device;
            // With another inode accepted: names that share one are restored as one file.
            entry.metadata.inode = stat.inode;
            entry.metadata.links = stat.links;
            if stat.kind == Kind::File {
                if let Some(key) = key {
                    self.linked.insert(key, stat.ctime);
                }
                self.work.push(Work::Unchanged { path, entry });
            } else {
                self.work.push(Work::Other { path, entry, old: true });
            }
            return Ok(());
        }
        if stat.kind == Kind::File {
            if let Some(key) = key
                && self.linked.insert(key, stat.ctime) == Some(stat.ctime)
            {
                self.work.push(Work::Link { path, name, key, old });
                return Ok(());
            }
            if stat.size >= GROUP_BYTES && !self.files.is_empty() {
                self.hand_on()?;
            }
            self.bytes += stat.size;
            self.files.push(Job { directory: parent, name: name.clone(), stat });
            self.work.push(Work::Read { path, name, device, old, key });
            return Ok(());
        }
        match metadata::capture(&Place::Named(&parent, &name), &stat, device, self.owners) {
            Ok(Captured { metadata, node: Some(node), problems }) => {
                self.metadata_problems(&path, &problems);
                let entry = Entry { name, metadata, node };
                self.work.push(Work::Other { path, entry, old: old.is_some() });
            }
            Ok(_) => self.problem(path, ProblemKind::Changed, "was replaced while the backup ran".to_owned()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                if let Some(old) = old.filter(|_| self.before_side == Side::Parent) {
                    self.record(path.clone(), &old)?;
                }
                self.problem(path, ProblemKind::Vanished, "vanished while the backup ran".to_owned());
            }
            Err(error) => self.problem(path, ProblemKind::Unreadable, error.to_string()),
        }
        Ok(())
    }
}

/// A queue of jobs, as the reading threads see it.
pub(super) type JobQueue = Receiver<Jobs>;
