//! The first stage: the walk, the comparison with the parent, and the forming of groups.
//!
//! An entry is taken over from the parent unread when size, mtime, ctime and inode are the parent's and nothing can have
//! changed since without a trace: [`needs_reread`] has the reasons.

use std::collections::{HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::os::fd::AsFd;
use std::sync::Arc;

use crossbeam_channel::{Sender, bounded};

use super::Compared;
use super::gone::{Gone, Watched, kind_of_inode};
use super::group::{Group, Job, Jobs, Work};
use super::listing_cursor::{ListingCursor, Lookup};
use super::round::{Again, Scanned, Stored, compare_directory, directory_of, is_same_inode};
use super::store::GROUPS_WAITING;
use crate::base::command::suggest;
use crate::base::id::ObjectId;
use crate::base::shortage::{is_shortage, share_of_open_files};
use crate::base::time::Time;
use crate::codec::chunk_list::ChunkList;
use crate::codec::deletion_log::DeletedKind;
use crate::codec::live_state::{LiveState, Mark, MarkedKind};
use crate::codec::snapshot::ProblemKind;
use crate::codec::tree::{Entry, Metadata, Node};
use crate::files::directory::Directory;
use crate::files::metadata::{self, Captured};
use crate::files::owner::Owners;
use crate::files::read::needs_reread;
use crate::files::stat::{Kind, Stat};
use crate::files::walk::{self, Enter, Step, Walk};
use crate::files::xattr::Place;
use crate::ops::deleted::holders::kind_of;
use crate::ops::{Error, Monitor, Result};
use crate::repository::Repository;
use crate::repository::list_reader::{Chunks, TreeChunks};

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
/// Groups whose files may hold directories open at the same time: those that wait, those that are read, and the next one.
const GROUPS_OPEN: usize = GROUPS_WAITING + READERS_MAX + 1;
/// Files are read by so many threads as a rule.
const READERS_MAX: usize = 4;
/// Open files of everything else: standard streams, repository, packs being written, cache, what is read.
const OTHER_FILES: usize = 48;
/// Pieces of one group that wait to be stored: each is about a megabyte, or a few for a large file.
const PIECES_WAITING: usize = 4;

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
    parent: Option<ListingCursor<'r>>,
    before: Option<ListingCursor<'r>>,
    /// Present as long as what the walk does not meet here may be gone.
    watched: Option<Watched>,
    /// In a later round: the directory stays as it is.
    is_kept: bool,
    /// In a later round, where every name is looked at: the path. What the walk does not meet is gone.
    path: Option<Vec<u8>>,
    /// A source in which the walk has met nothing so far: what the snapshot before has in it is not called gone, because its
    /// disk may not be mounted.
    is_bare_source: bool,
}

impl<'r> Level<'r> {
    const fn side(&mut self, side: Side) -> Option<&mut ListingCursor<'r>> {
        match side {
            Side::Parent => self.parent.as_mut(),
            Side::Before => self.before.as_mut(),
        }
    }
}

/// True when packs or segments were marked since the snapshot arrived. A prune marks none that a live snapshot needs, but
/// packs that are gone are marked too, when the index is repaired, and segments that are gone or damaged: nobody knows which
/// packs those listed, and one that went with its segment has no mark. What was replaced is not among them: everything in it was opened
/// and lies in others. A file may only be taken over from a snapshot that has it.
pub(in crate::ops) fn may_have_lost(state: &LiveState, snapshot: ObjectId) -> bool {
    let arrival = state.snapshots.get(&snapshot).map_or(0, |entry| entry.arrival);
    let loses = |mark: &Mark| matches!(mark.kind, MarkedKind::Pack | MarkedKind::Segment) && !mark.replaced;
    state.marked.values().any(|mark| loses(mark) && mark.since >= arrival)
}

/// The first stage.
pub(super) struct Scan<'r> {
    repository: &'r Repository,
    owners: &'r Owners,
    again: Option<Again<'r>>,
    /// The first error that a later round cannot go on behind.
    failure: Option<Error>,
    stale: u64,
    vanished: HashSet<u64>,
    unfinished: HashSet<Vec<u8>>,
    levels: Vec<Level<'r>>,
    gone: Option<Gone<'r>>,
    /// On which side the snapshot before is.
    before_side: Side,
    /// That it could not be read in full was said.
    told_unread: bool,
    /// When the parent's run began: what was read then was read no earlier.
    parent_began: Option<Time>,
    unchanged: Unchanged,
    /// An empty source is what is meant.
    allow_empty: bool,
    /// The parent may have lost chunks: what is taken over from it is looked up first.
    confirm: bool,
    groups: Sender<Group>,
    jobs: Sender<Jobs>,
    work: Vec<Work>,
    files: Vec<Job>,
    bytes: u64,
    /// Directories that the files of this group hold open, and how many it may.
    directories: usize,
    open_max: usize,
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
    Error::Internal("what stores the files ended before the walk did".to_owned())
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
            parent: parent.map(|(_, parent)| ListingCursor::new(repository, parent.root.clone())),
            before: before.map(|before| ListingCursor::new(repository, before.snapshot.root.clone())),
            ..Level::default()
        };
        Self {
            repository,
            owners,
            again: None,
            failure: None,
            stale: 0,
            vanished: HashSet::new(),
            unfinished: HashSet::new(),
            levels: vec![top],
            gone: Gone::new(repository, compared),
            before_side: if before.is_some() { Side::Before } else { Side::Parent },
            told_unread: false,
            parent_began: parent.map(|(_, parent)| parent.written),
            unchanged,
            allow_empty: false,
            confirm: parent.is_some_and(|(id, _)| may_have_lost(&repository.tip().state, id)),
            groups,
            jobs,
            work: Vec::new(),
            files: Vec::new(),
            bytes: 0,
            directories: 0,
            open_max: share_of_open_files(GROUP_FILES, (1, 2 * GROUPS_OPEN), OTHER_FILES, 1),
            devices: HashMap::new(),
            linked: HashMap::new(),
        }
    }

    /// Whether an empty source is what is meant.
    pub(super) const fn allow_empty(mut self, allow: bool) -> Self {
        self.allow_empty = allow;
        self
    }

    /// A later round, which compares with what the rounds before stored.
    pub(super) fn again(
        repository: &'r Repository,
        owners: &'r Owners,
        again: Again<'r>,
        devices: HashMap<u64, u32>,
        groups: Sender<Group>,
        jobs: Sender<Jobs>,
    ) -> Self {
        let nothing = Compared { parent: None, before: None, found: again.cut };
        let first = Self::new(repository, owners, nothing, Unchanged::default(), groups, jobs);
        let top = Level { parent: Some(ListingCursor::new(again.trees, again.root.clone())), ..Level::default() };
        Self { levels: vec![top], parent_began: Some(again.began), again: Some(again), devices, ..first }
    }

    /// Walks. Directories that were named as `.`, `..` or `/` are `whole`.
    pub(super) fn run(mut self, mut walk: Walk, whole: Vec<Arc<Directory>>, monitor: &dyn Monitor) -> Result<Scanned> {
        let watched = self.gone.as_ref().and_then(|gone| gone.root(whole));
        if let Some(top) = self.levels.last_mut() {
            top.path = self.again.as_ref().filter(|_| walk.looks_at_all()).map(|_| Vec::new());
            top.is_bare_source = watched.is_some() && !self.allow_empty;
            top.watched = watched;
        }
        while let Some(step) = walk.next() {
            if monitor.interrupted() {
                return Err(Error::Interrupted);
            }
            self.step(step, &mut walk).map_err(|Stopped| self.stopped())?;
        }
        let ended = self.leave().and_then(|()| self.hand_on());
        ended.map_err(|Stopped| self.stopped())?;
        Ok(Scanned {
            listed: walk.into_listed(),
            devices: self.devices,
            stale: self.stale,
            gone: self.vanished,
            unfinished: self.unfinished,
        })
    }

    fn stopped(&mut self) -> Error {
        self.failure.take().unwrap_or_else(stopped)
    }

    fn step(&mut self, step: Step, walk: &mut Walk) -> std::result::Result<(), Stopped> {
        match step {
            Step::Enter(enter) => {
                if !self.enter(enter, walk.is_in_focus(), walk.looks_at_all())? {
                    walk.skip_children();
                }
            }
            Step::Leave => {
                let is_kept = self.levels.last().is_some_and(|level| level.is_kept);
                self.leave()?;
                if !is_kept {
                    self.work.push(Work::Leave);
                }
            }
            Step::Entry(entry) => self.entry(entry)?,
            // The first round has said so.
            Step::Problem(walk::Problem { kind: walk::ProblemKind::MissingSource, .. }) if self.again.is_some() => {}
            Step::Problem(problem) if problem.kind == walk::ProblemKind::Restless => {
                self.unwatch(&problem);
                self.work.push(Work::Restless { path: problem.path, message: problem.error.to_string() });
            }
            Step::Problem(problem) if is_shortage(&problem.error) => {
                return Err(self.shortage(problem.path, problem.error));
            }
            Step::Problem(problem) => {
                let kind = match problem.kind {
                    walk::ProblemKind::MissingSource => ProblemKind::MissingSource,
                    walk::ProblemKind::Vanished => ProblemKind::Vanished,
                    walk::ProblemKind::Unreadable => ProblemKind::Unreadable,
                    walk::ProblemKind::TooDeep => ProblemKind::Unsupported,
                    walk::ProblemKind::Restless => ProblemKind::Unreadable,
                };
                self.unwatch(&problem);
                self.problem(problem.path, kind, problem.error.to_string());
            }
            Step::Own(_) if self.again.is_some() => {}
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
        let looks = |level: &Level<'_>| level.watched.is_some() && !level.is_bare_source;
        if self.again.is_some() || self.levels.last().is_some_and(looks) {
            self.ask(self.before_side, None)?;
        }
        self.levels.pop();
        Ok(())
    }

    fn hand_on(&mut self) -> std::result::Result<(), Stopped> {
        (self.bytes, self.directories) = (0, 0);
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
            let Some(cursor) = self.levels.last_mut().and_then(|level| level.side(side)) else { return Ok(None) };
            match cursor.seek(name) {
                Lookup::Found(entry) => return Ok(Some(entry)),
                Lookup::Passed(entry) if self.again.is_some() => self.keep_passed(entry)?,
                Lookup::Passed(entry) if side == self.before_side => self.passed(&entry)?,
                Lookup::Passed(_) => {}
                Lookup::Absent => return Ok(None),
                Lookup::Unreadable(error) if self.again.is_some() => {
                    // What this run stored a moment ago: nothing can be built on it any more.
                    self.failure = Some(error.into());
                    return Err(Stopped);
                }
                Lookup::Unreadable(error) => {
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

    /// In a later round: what the rounds before stored stays, also when it is gone meanwhile.
    fn keep_passed(&mut self, entry: Entry) -> std::result::Result<(), Stopped> {
        if let Some(path) = self.levels.last().and_then(|level| level.path.as_ref()) {
            let mut hasher = std::hash::DefaultHasher::new();
            (path, &entry.name).hash(&mut hasher);
            self.vanished.insert(hasher.finish());
        }
        self.keep(entry)
    }

    fn keep(&mut self, entry: Entry) -> std::result::Result<(), Stopped> {
        self.work.push(Work::Kept { entry });
        if self.work.len() >= GROUP_STEPS { self.hand_on() } else { Ok(()) }
    }

    /// What the parent and the snapshot before have under the name of an entry of the walk. Of another kind, it is gone.
    fn meet(
        &mut self,
        name: &[u8],
        path: &[u8],
        kind: DeletedKind,
    ) -> std::result::Result<(Option<Entry>, Option<ChunkList>), Stopped> {
        if let Some(level) = self.levels.last_mut() {
            level.is_bare_source = false;
        }
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
                 deletions. Next: {}",
                suggest!("check")
            )));
        }
    }

    fn problem(&mut self, path: Vec<u8>, kind: ProblemKind, message: String) {
        self.work.push(Work::Problem { path, kind, message });
    }

    /// This process has run out of something: that says nothing of the path, and the run ends.
    fn shortage(&mut self, path: Vec<u8>, source: std::io::Error) -> Stopped {
        self.failure = Some(Error::Shortage { path, source });
        Stopped
    }

    fn metadata_problems(&mut self, path: &[u8], problems: &[metadata::Problem]) {
        for problem in problems {
            self.problem(path.to_vec(), ProblemKind::Metadata, problem.to_string());
        }
    }

    /// A directory begins. False when nothing in it is looked at.
    fn enter(&mut self, enter: Enter, in_focus: bool, looks_at_all: bool) -> std::result::Result<bool, Stopped> {
        let device = self.device(&enter.stat);
        let (parent, before) = self.meet(&enter.name, &enter.path, DeletedKind::Directory)?;
        let mut takes = true;
        let mut parent = parent;
        if let Some(again) = &self.again {
            takes = again.takes(&enter.path, &enter.stat);
            let stored = parent.as_ref().map(|entry| compare_directory(entry, &enter, device, in_focus));
            match stored {
                None | Some(Stored::Changed) => {}
                Some(Stored::GivesWay) if takes => {
                    if let Some(entry) = parent.take() {
                        self.work.push(Work::Dropped { entry });
                    }
                }
                Some(stays) => {
                    if stays == Stored::WasExchanged {
                        let message = "another directory took its place while the backup ran: the first one was stored";
                        self.problem(enter.path.clone(), ProblemKind::Changed, message.to_owned());
                    }
                    self.stale += u64::from(stays == Stored::GivesWay);
                    self.levels.push(Level { is_kept: true, ..Level::default() });
                    if let Some(entry) = parent {
                        self.keep(entry)?;
                    }
                    return Ok(false);
                }
            }
        }
        let parent = match parent {
            Some(Entry { metadata, node: Node::Directory { listing }, .. }) => Some((metadata, listing)),
            _ => None,
        };
        let is_watched = self.gone.is_some() && !enter.ancestor && !enter.closed;
        let source: &'r dyn TreeChunks = self.again.as_ref().map_or(self.repository, |again| again.trees);
        self.levels.push(Level {
            parent: parent.as_ref().map(|(_, list)| ListingCursor::new(source, list.clone())),
            before: before.map(|list| ListingCursor::new(self.repository, list)),
            watched: is_watched
                .then(|| Watched { path: enter.path.clone(), directories: vec![enter.directory.clone()] }),
            is_kept: false,
            path: self.again.as_ref().filter(|_| looks_at_all).map(|_| enter.path.clone()),
            is_bare_source: enter.source && !self.allow_empty,
        });
        let same = parent.as_ref().filter(|(old, _)| !takes || self.is_same_inode_state(old, &enter.stat));
        let metadata = match same {
            Some((old, _)) => Metadata { device, ..old.clone() },
            None => {
                let place = Place::Open(enter.directory.as_fd());
                match metadata::capture(&place, &enter.stat, device, self.owners) {
                    Ok(mut captured) => {
                        if let Some(source) = captured.take_shortage() {
                            return Err(self.shortage(enter.path, source));
                        }
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
        let Enter { path, name, source, .. } = enter;
        self.work.push(Work::Enter { path, name, metadata, parent, source });
        Ok(true)
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
        let mut chunks = Chunks::of_file(self.repository, content);
        !self.confirm || chunks.all(|chunk| chunk.is_ok_and(|chunk| self.repository.locate(&chunk).is_ok()))
    }

    fn entry(&mut self, found: walk::Entry) -> std::result::Result<(), Stopped> {
        let device = self.device(&found.stat);
        let (old, _) = self.meet(&found.name, &found.path, kind_of_inode(found.stat.kind))?;
        let Some(old) = self.take_or_keep(old, &found, device)? else { return Ok(()) };
        let (unchanged, old) = match old {
            Some(old) if self.again.is_none() && self.is_unchanged(&old, &found) && self.is_whole(&old) => {
                (Some(old), None)
            }
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
                let old = Some(Box::new(entry.clone()));
                self.work.push(Work::Other { path, entry, old });
            }
            return Ok(());
        }
        if stat.kind == Kind::File {
            return self.read(Found { name, path, device, parent, old }, stat);
        }
        self.special(Found { name, path, device, parent, old }, stat)
    }

    /// In a later round: whether an entry is stored anew. What keeps its inode was read already; what it holds may be of a
    /// later moment than the round.
    #[allow(clippy::option_option)] // whether it is taken, and what it takes the place of
    fn take_or_keep(
        &mut self,
        old: Option<Entry>,
        found: &walk::Entry,
        device: u32,
    ) -> std::result::Result<Option<Option<Entry>>, Stopped> {
        let Some(again) = &self.again else { return Ok(Some(old)) };
        let takes = again.takes(&found.path, &found.stat);
        if !takes {
            self.unfinished.insert(directory_of(&found.path));
        }
        match old {
            Some(old) if !takes || is_same_inode(&old, &found.stat, device) => {
                self.stale += u64::from(!is_same_inode(&old, &found.stat, device));
                self.keep(old)?;
                Ok(None)
            }
            None if !takes => Ok(None),
            old => Ok(Some(old)),
        }
    }

    /// A file to read: what is read is what has the name then.
    fn read(&mut self, found: Found, stat: Stat) -> std::result::Result<(), Stopped> {
        let Found { name, path, device, parent, old } = found;
        let key = (stat.links > 1).then_some((u64::from(device), stat.inode));
        if let Some(key) = key
            && self.linked.insert(key, stat.ctime) == Some(stat.ctime)
        {
            self.work.push(Work::Link { path, name, key, old });
            return Ok(());
        }
        let is_other = self.files.last().is_none_or(|last| !Arc::ptr_eq(&last.directory, &parent));
        if !self.files.is_empty() && (stat.size >= GROUP_BYTES || (is_other && self.directories >= self.open_max)) {
            self.hand_on()?;
        }
        self.directories += usize::from(is_other || self.files.is_empty());
        self.bytes += stat.size;
        let until = self.again.as_ref().filter(|it| !it.unsettled.contains(&path)).map(|it| (it.cut, it.began));
        let reports_bytes = self.again.is_none() || old.is_none();
        self.files.push(Job { directory: parent, name: name.clone(), stat, until, reports_bytes });
        self.work.push(Work::Read { path, name, device, size: stat.size, old, key });
        Ok(())
    }

    /// Anything but a file or a directory, as far as the walk saw.
    fn special(&mut self, mut found: Found, seen: Stat) -> std::result::Result<(), Stopped> {
        let stored = found.old.take_if(|_| self.again.is_some());
        match metadata::capture_special(&found.parent, &found.name, self.owners) {
            // Something is mounted over the name since the walk saw it: the next backup sees it so from the beginning.
            Ok((stat, _)) if stat.device != seen.device && stored.is_none() => {
                self.problem(found.path, ProblemKind::Unreadable, "another file system was mounted over it".to_owned());
            }
            Ok((_, Some(Captured { metadata, node: Some(node), problems }))) => {
                found.old = stored.or(found.old);
                self.metadata_problems(&found.path, &problems);
                let metadata = Metadata { device: found.device, ..metadata };
                let entry = Entry { name: found.name, metadata, node };
                self.work.push(Work::Other { path: found.path, entry, old: found.old });
            }
            Ok((stat, _)) if stat.kind == Kind::File => {
                found.old = stored.or(found.old);
                return self.read(found, stat);
            }
            // What an earlier round stored stays.
            _ if stored.is_some() => {
                self.unfinished.insert(directory_of(&found.path));
                if let Some(stored) = stored {
                    self.keep(*stored)?;
                }
            }
            Ok(_) => {
                let message = "became a directory after it was looked at".to_owned();
                self.work.push(Work::Restless { path: found.path, message });
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                if let Some(old) = found.old.filter(|_| self.before_side == Side::Parent) {
                    self.record(found.path.clone(), &old)?;
                }
                self.problem(found.path, ProblemKind::Vanished, "vanished while the backup ran".to_owned());
            }
            Err(error) if is_shortage(&error) => return Err(self.shortage(found.path, error)),
            Err(error) => self.problem(found.path, ProblemKind::Unreadable, error.to_string()),
        }
        Ok(())
    }
}

/// An entry of the walk that is not the parent's.
struct Found {
    name: Vec<u8>,
    path: Vec<u8>,
    device: u32,
    parent: Arc<Directory>,
    /// What the parent has under the name.
    old: Option<Box<Entry>>,
}
