//! The third stage: takes groups in walk order, stores what is new, and writes the listings bottom up.

use std::collections::{BTreeMap, HashMap, HashSet};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::group::{Finished, Group, Item, Jobs, Piece, Work};
use super::log::Log;
use super::round::{Scanned, directory_of};
use super::{Compared, PROBLEMS_SHOWN, Stored, gone, read};
use crate::base::threads;
use crate::codec::chunk_list::{ChunkList, ChunkRef};
use crate::codec::deletion_log::{DeletedKind, Deletion};
use crate::codec::pack::PackKind;
use crate::codec::snapshot::{self, Outcome, Problem, ProblemKind};
use crate::codec::tree::{Content, Entry, Metadata, Node, encode_entry};
use crate::files::owner::Owners;
use crate::ops::item_progress::ItemProgress;
use crate::ops::show::typed_path;
use crate::ops::{Action, Error, Item as Seen, Monitor, Result, Severity};
use crate::repository::list_reader::Listing;
use crate::repository::list_writer::{ChunkListWriter, StreamWriter};
use crate::repository::run::Run;
use crate::repository::run_trees::RunTrees;

/// Groups that wait to be stored, at most. Each holds a few megabytes.
pub(super) const GROUPS_WAITING: usize = 3;

/// Buffers that are kept for reading, at most.
const BUFFERS_KEPT: usize = 8;

/// From this many bytes of extended attributes on, an entry is tried before it is stored.
const ATTRIBUTES_TRIED: usize = 1 << 20;

/// A directory whose entries are being gathered.
struct Frame {
    path: Vec<u8>,
    name: Vec<u8>,
    metadata: Metadata,
    parent: Option<(Metadata, ChunkList)>,
    listing: StreamWriter,
    /// It was named as a source.
    is_source: bool,
    /// Files, links, pipes and so on that lie beneath it.
    entries: u64,
}

/// The third stage's own state. It goes through all rounds of a backup.
pub(super) struct Store<'a, 'r> {
    run: &'a mut Run<'r>,
    monitor: &'a dyn Monitor,
    /// Absolute paths of what is backed up.
    sources: Vec<Vec<u8>>,
    root: StreamWriter,
    frames: Vec<Frame>,
    /// Contents of files with several names, by the run's own key for their inode.
    linked: HashMap<(u64, u64), (Metadata, Content)>,
    problems: StreamWriter,
    compared: Compared<'a>,
    log: Log,
    spare: Option<Sender<Vec<u8>>>,
    stored: Stored,
    /// Sources by their path in the snapshot, and how many entries that are no directories lie beneath each. The root is
    /// among them for its count, whether it is a source or not.
    held: BTreeMap<Vec<u8>, u64>,
    /// A later round than the first.
    is_again: bool,
    /// What is there and was found in no state that could be stored.
    unsettled: BTreeMap<Vec<u8>, String>,
    /// What a later round may find wrong again: the beginning of a hash of path and message.
    said: HashSet<[u8; 16]>,
    /// Directories of files that were gone, or had changed, when their turn came in this round.
    missed: HashSet<Vec<u8>>,
}

impl<'a, 'r> Store<'a, 'r> {
    /// Nothing is stored yet.
    ///
    /// # Errors
    /// A storage error, final for the run.
    pub fn new(
        run: &'a mut Run<'r>,
        monitor: &'a dyn Monitor,
        sources: Vec<Vec<u8>>,
        compared: Compared<'a>,
    ) -> Result<Self> {
        let log = Log::go_on(run, compared.before.map(|before| &before.snapshot))?;
        Ok(Self {
            run,
            monitor,
            sources,
            root: StreamWriter::default(),
            frames: Vec::new(),
            linked: HashMap::new(),
            problems: StreamWriter::default(),
            compared,
            log,
            spare: None,
            stored: Stored::default(),
            held: BTreeMap::new(),
            is_again: false,
            unsettled: BTreeMap::new(),
            said: HashSet::new(),
            missed: HashSet::new(),
        })
    }

    /// Runs all stages once. `scan` is the first one, given the queues that it fills; `readers` files are read at a time.
    ///
    /// # Errors
    /// Any error is final for the run.
    pub fn round(
        &mut self,
        owners: &Owners,
        readers: usize,
        scan: impl FnOnce(Sender<Group>, Sender<Jobs>) -> Result<Scanned> + Send,
    ) -> Result<Scanned> {
        let (groups, waiting) = bounded(GROUPS_WAITING);
        let (jobs, work) = bounded(GROUPS_WAITING);
        let (spare, buffers) = bounded(BUFFERS_KEPT);
        self.spare = Some(spare);
        // Numbers of inodes are used again: what one meant in an earlier round it does not mean in this one.
        self.linked = HashMap::new();
        self.missed = HashSet::new();
        let repository = self.run.repository();
        let (parameters, monitor) = (repository.config().files, self.monitor);
        let scanned = std::thread::scope(|scope| {
            let reader = || {
                let (work, buffers) = (work.clone(), buffers.clone());
                move || read::files(repository.keys(), parameters, owners, monitor, &work, &buffers)
            };
            threads::spawn(scope, readers, reader).map_err(Error::Threads)?;
            drop(work);
            let scanner = threads::spawn_one(scope, move || scan(groups, jobs)).map_err(Error::Threads)?;
            let result = waiting.iter().try_for_each(|group| self.group(group));
            // When storing failed, the queues must end, or the other stages wait for ever.
            drop(waiting);
            match (result, scanner.join()) {
                (Err(error), _) => Err(error),
                (Ok(()), Ok(scanned)) => scanned,
                (Ok(()), Err(_)) => Err(Error::Internal("the walk ended unexpectedly".to_owned())),
            }
        })?;
        if self.monitor.interrupted() {
            return Err(Error::Interrupted);
        }
        self.stored.root = std::mem::take(&mut self.root).finish(self.run)?;
        self.is_again = true;
        Ok(scanned)
    }

    /// The run that is added to.
    pub fn run(&mut self) -> &mut Run<'r> {
        self.run
    }

    /// What the rounds so far have stored, to be read back; none in a dry run.
    ///
    /// # Errors
    /// A storage error, final for the run.
    pub fn trees(&mut self) -> Result<Option<(RunTrees<'r>, ChunkList)>> {
        let trees = self.run.trees()?;
        Ok(trees.map(|trees| (trees, self.stored.root.clone())))
    }

    /// Paths of what is there and was found in no state that could be stored.
    pub fn unsettled(&self) -> HashSet<Vec<u8>> {
        self.unsettled.keys().cloned().collect()
    }

    /// Directories of files that were gone, or had changed, when their turn came in the last round.
    pub const fn missed(&self) -> &HashSet<Vec<u8>> {
        &self.missed
    }

    /// Sources by their path in the snapshot, the root as an empty one, and how many entries lie beneath each that are no
    /// directories.
    pub const fn held(&self) -> &BTreeMap<Vec<u8>, u64> {
        &self.held
    }

    /// Nobody knows what changed after it was listed: what came may be missing.
    ///
    /// # Errors
    /// A storage error, final for the run.
    pub fn cannot_look_again(&mut self, error: &std::io::Error) -> Result<()> {
        let message = format!("what changed while the backup ran cannot be determined, and may be missing: {error}");
        self.problem(Vec::new(), ProblemKind::Unreadable, message)
    }

    /// The last round was not at rest.
    ///
    /// # Errors
    /// A storage error, final for the run.
    pub fn note_unrest(&mut self) -> Result<()> {
        let message =
            "files were replaced and removed again and again while the backup ran: what was moved may be missing";
        self.problem(Vec::new(), ProblemKind::Changed, message.to_owned())
    }

    /// Whether something is missing in what was stored so far.
    pub fn is_partial(&self) -> bool {
        self.stored.outcome == Outcome::Partial || !self.unsettled.is_empty()
    }

    /// A source is empty and was not.
    ///
    /// # Errors
    /// A storage error, final for the run.
    pub fn empty_source(&mut self, path: Vec<u8>, message: String) -> Result<()> {
        self.stored.emptied.push(path.clone());
        self.problem(path, ProblemKind::MissingSource, message)
    }

    /// No further round comes: what is there and is not stored makes the snapshot partial.
    ///
    /// # Errors
    /// A storage error, final for the run.
    pub fn finish(mut self) -> Result<Stored> {
        for (path, message) in std::mem::take(&mut self.unsettled) {
            let message = format!("{message} while the backup ran, and is not in the snapshot");
            self.problem(path, ProblemKind::Unreadable, message)?;
        }
        self.stored.problems = self.problems.finish(self.run)?;
        (self.stored.deleted, self.stored.deleted_count) = self.log.finish(self.run)?;
        Ok(self.stored)
    }

    fn group(&mut self, group: Group) -> Result<()> {
        if self.monitor.interrupted() {
            return Err(Error::Interrupted);
        }
        let mut pieces = Pieces { channel: group.pieces, current: None };
        for work in group.work {
            match work {
                Work::Enter { path, name, metadata, parent, source } => {
                    self.unsettled.remove(&path);
                    let listing = StreamWriter::default();
                    self.frames.push(Frame { path, name, metadata, parent, listing, is_source: source, entries: 0 });
                }
                Work::Leave => self.leave()?,
                Work::Unchanged { path, entry } => {
                    self.stored.summary.files_unmodified += 1;
                    if let Node::File(content) = &entry.node {
                        self.progress_of(true, content.size).finish();
                        if entry.metadata.links > 1 {
                            let key = (u64::from(entry.metadata.device), entry.metadata.inode);
                            self.linked.insert(key, (entry.metadata.clone(), content.clone()));
                        }
                        self.count_file(content.size);
                        self.seen(&path, Action::Unchanged, content.size, 0);
                    }
                    self.store(&entry)?;
                }
                Work::Read { path, name, device, size, old, key } => {
                    if let Some(key) = key {
                        // Until it is read, nothing is known of what has this number now.
                        self.linked.remove(&key);
                    }
                    let progress = self.progress_of(old.is_some(), size);
                    self.file(&mut pieces, path, name, device, old.as_deref(), key, progress)?;
                }
                Work::Link { path, name, key, old } => self.link(path, name, key, old.as_deref())?,
                Work::Other { path, entry, old } => {
                    self.progress_of(old.is_some(), 0).finish();
                    self.other(&path, &entry, old.as_deref())?;
                }
                Work::Kept { entry } => self.push(&entry)?,
                Work::Dropped { entry } => self.drop_stored(&entry)?,
                Work::Restless { path, message } => {
                    self.progress_of(true, 0).finish();
                    self.unsettled.insert(path, message);
                }
                Work::Problem { path, kind, message } => self.problem(path, kind, message)?,
                Work::Deleted(deletion) => self.deleted(&deletion)?,
                Work::Unread(message) => self.run.warn(message),
                Work::Own { path } => self.stored.own.push(path),
            }
        }
        Ok(())
    }

    /// Begins the progress of an entry. `is_old` when the snapshot before, or an earlier round, has it. Whoever counts the sources
    /// has counted each once, with the size that the walk sees, and nothing of what only a later round finds.
    fn progress_of(&self, is_old: bool, size: u64) -> ItemProgress<'a> {
        if self.is_again && is_old {
            return ItemProgress::counted_before();
        }
        if self.is_again {
            self.monitor.expect(1, size, false);
        }
        ItemProgress::new(self.monitor, 1, size)
    }

    /// Stores an entry that is no directory, and counts it as one that its sources hold.
    fn store(&mut self, entry: &Entry) -> Result<()> {
        match (self.is_again, self.frames.last_mut()) {
            (false, Some(frame)) => frame.entries += 1,
            (false, None) => *self.held.entry(Vec::new()).or_default() += 1,
            (true, frame) => {
                let path = frame.map(|frame| frame.path.clone()).unwrap_or_default();
                let is_beneath = |source: &[u8]| {
                    path.strip_prefix(source)
                        .is_some_and(|rest| source.is_empty() || rest.is_empty() || rest[0] == b'/')
                };
                self.held.iter_mut().filter(|(source, _)| is_beneath(source)).for_each(|(_, held)| *held += 1);
            }
        }
        self.push(entry)
    }

    fn push(&mut self, entry: &Entry) -> Result<()> {
        // Only attributes can make an entry too long to be stored, and only then it is encoded twice.
        let attributes: usize = entry.metadata.xattrs.iter().map(|xattr| xattr.name.len() + xattr.value.len()).sum();
        let fits = if attributes < ATTRIBUTES_TRIED { entry.check() } else { encode_entry(entry, &mut Vec::new()) };
        if let Err(error) = fits {
            let mut path = self.frames.last().map(|frame| frame.path.clone()).unwrap_or_default();
            path.push(b'/');
            path.extend_from_slice(&entry.name);
            return self.problem(path, ProblemKind::Unsupported, format!("cannot be stored: {}", error.reason));
        }
        let listing = match self.frames.last_mut() {
            Some(frame) => &mut frame.listing,
            None => &mut self.root,
        };
        Ok(listing.push_entry(self.run, entry)?)
    }

    fn leave(&mut self) -> Result<()> {
        let Some(frame) = self.frames.pop() else { return Ok(()) };
        let listing = frame.listing.finish(self.run)?;
        if !self.is_again {
            if frame.is_source {
                self.held.insert(frame.path.clone(), frame.entries);
            }
            match self.frames.last_mut() {
                Some(above) => above.entries += frame.entries,
                None => *self.held.entry(Vec::new()).or_default() += frame.entries,
            }
        }
        let summary = &mut self.stored.summary;
        let action = match &frame.parent {
            None => {
                summary.dirs_new += 1;
                Action::New
            }
            // The first round has counted it.
            Some(_) if self.is_again => Action::Unchanged,
            Some((metadata, old)) if *old == listing && *metadata == frame.metadata => {
                summary.dirs_unmodified += 1;
                Action::Unchanged
            }
            Some(_) => {
                summary.dirs_changed += 1;
                Action::Changed
            }
        };
        if !(self.is_again && frame.parent.is_some()) {
            self.stored.counts.directories += 1;
            self.monitor.item(&Seen { directory: true, ..Seen::new(&frame.path, action) });
        }
        self.push(&Entry { name: frame.name, metadata: frame.metadata, node: Node::Directory { listing } })
    }

    fn count_file(&mut self, size: u64) {
        self.stored.counts.files += 1;
        self.stored.counts.bytes = self.stored.counts.bytes.saturating_add(size);
    }

    /// An entry of an earlier round gives way to another one.
    fn uncount(&mut self, entry: &Entry) {
        let counts = &mut self.stored.counts;
        match &entry.node {
            Node::File(content) => {
                counts.files = counts.files.saturating_sub(1);
                counts.bytes = counts.bytes.saturating_sub(content.size);
            }
            Node::Directory { .. } => counts.directories = counts.directories.saturating_sub(1),
            _ => counts.others = counts.others.saturating_sub(1),
        }
    }

    /// An entry of an earlier round, with all that lies beneath it, gives way.
    fn drop_stored(&mut self, entry: &Entry) -> Result<()> {
        self.uncount(entry);
        let Some((trees, _)) = self.trees()? else { return Ok(()) };
        let mut open = Vec::new();
        if let Node::Directory { listing } = &entry.node {
            open.push(listing.clone());
        }
        while let Some(listing) = open.pop() {
            for entry in Listing::new(&trees, listing) {
                let entry = entry?;
                self.uncount(&entry);
                if let Node::Directory { listing } = entry.node {
                    open.push(listing);
                }
            }
        }
        Ok(())
    }

    /// In a later round, what is stored takes the place of an entry of an earlier one.
    fn replace(&mut self, path: &[u8], old: Option<&Entry>) -> Result<()> {
        self.unsettled.remove(path);
        old.filter(|_| self.is_again).map_or(Ok(()), |old| self.drop_stored(old))
    }

    fn seen(&self, path: &[u8], action: Action, size: u64, added: u64) {
        self.monitor.item(&Seen { size, added, ..Seen::new(path, action) });
    }

    /// A file that had to be read again may turn out to be the parent's.
    fn count_action(&mut self, old: Option<&Entry>, new: &Entry) -> Action {
        if self.is_again && old.is_some() {
            // The first round has counted it.
            return Action::Changed;
        }
        let summary = &mut self.stored.summary;
        let (count, action) = match old {
            None => (&mut summary.files_new, Action::New),
            Some(old) if old == new => (&mut summary.files_unmodified, Action::Unchanged),
            Some(_) => (&mut summary.files_changed, Action::Changed),
        };
        *count += 1;
        action
    }

    #[allow(clippy::too_many_arguments)] // what the walk knows of it
    fn file(
        &mut self,
        pieces: &mut Pieces,
        path: Vec<u8>,
        name: Vec<u8>,
        device: u32,
        old: Option<&Entry>,
        key: Option<(u64, u64)>,
        mut progress: ItemProgress<'_>,
    ) -> Result<()> {
        self.monitor.item(&Seen::new(&path, Action::Started));
        let mut chunks = ChunkListWriter::default();
        let mut added = 0;
        let finished = loop {
            match pieces.next(self.spare.as_ref())? {
                Item::Chunk { start, length, id } => {
                    // A file may take hours.
                    if self.monitor.interrupted() {
                        return Err(Error::Interrupted);
                    }
                    let bytes = pieces.bytes(start, length)?;
                    if self.run.add(PackKind::Data, id, bytes)? {
                        added += length as u64;
                    }
                    self.stored.summary.bytes_read += length as u64;
                    progress.count_read(length as u64);
                    chunks.push(ChunkRef { id, length: length as u32 }, self.run)?;
                }
                Item::End(finished) => break finished,
                Item::Other { metadata, node, problems } => {
                    for message in problems {
                        self.problem(path.clone(), ProblemKind::Metadata, message)?;
                    }
                    let entry = Entry { name, metadata: Metadata { device, ..*metadata }, node };
                    return self.other(&path, &entry, old);
                }
                Item::Newer => {
                    self.missed.insert(directory_of(&path));
                    // The name is there, and was before: the next round takes whatever has it.
                    return self.restless(path, "was replaced at each look".to_owned(), old);
                }
                Item::Restless { message } => return self.restless(path, message, old),
                Item::Shortage { source } => {
                    return Err(Error::Shortage { path: typed_path(&path, &self.sources), source });
                }
                Item::Failed { kind, message } => {
                    if kind == ProblemKind::Vanished {
                        self.missed.insert(directory_of(&path));
                    }
                    if let Some(old) = old.filter(|_| self.is_again) {
                        // What an earlier round read is in the snapshot.
                        return self.push(old);
                    }
                    if kind == ProblemKind::Vanished {
                        self.vanished(&path, old)?;
                    }
                    return self.problem(path, kind, message);
                }
            }
        };
        let Finished { mut metadata, size, holes, data, changed, problems } = *finished;
        metadata.device = device;
        if let Some(message) = changed {
            self.problem(path.clone(), ProblemKind::Changed, message)?;
        }
        for message in problems {
            self.problem(path.clone(), ProblemKind::Metadata, message)?;
        }
        let mut content = Content { size, chunks: chunks.finish(self.run)?, holes, digest: None };
        if content.needs_digest() {
            content.digest = Some(Content::digest_of(data, &content.holes));
        }
        // Only of the inode that was read: another file may have had the name when it was opened.
        if let Some(key) = key.filter(|(_, inode)| *inode == metadata.inode) {
            self.linked.insert(key, (metadata.clone(), content.clone()));
        }
        let entry = Entry { name, metadata, node: Node::File(content) };
        self.replace(&path, old)?;
        let action = self.count_action(old, &entry);
        self.count_file(size);
        self.seen(&path, action, size, added);
        self.store(&entry)
    }

    fn other(&mut self, path: &[u8], entry: &Entry, old: Option<&Entry>) -> Result<()> {
        self.replace(path, old)?;
        self.stored.counts.others += 1;
        self.seen(path, if old.is_some() { Action::Unchanged } else { Action::New }, 0, 0);
        self.store(entry)
    }

    /// Nothing that could be stored was found under the name. A later round looks again; what an earlier one stored stays.
    fn restless(&mut self, path: Vec<u8>, message: String, old: Option<&Entry>) -> Result<()> {
        if let Some(old) = old.filter(|_| self.is_again) {
            return self.push(old);
        }
        self.unsettled.insert(path, message);
        Ok(())
    }

    fn link(&mut self, path: Vec<u8>, name: Vec<u8>, key: (u64, u64), old: Option<&Entry>) -> Result<()> {
        let linked = self.linked.get(&key).cloned();
        self.progress_of(old.is_some(), linked.as_ref().map_or(0, |(_, content)| content.size)).finish();
        let Some((metadata, content)) = linked else {
            // Under its first name another file was read.
            return self.restless(
                path,
                "is a name of a file that could not be read under its first name".to_owned(),
                old,
            );
        };
        let size = content.size;
        let entry = Entry { name, metadata, node: Node::File(content) };
        self.replace(&path, old)?;
        let action = self.count_action(old, &entry);
        self.count_file(size);
        self.seen(&path, action, size, 0);
        self.store(&entry)
    }

    fn deleted(&mut self, deletion: &Deletion) -> Result<()> {
        self.stored.deletions += 1;
        let directory = deletion.kind == DeletedKind::Directory;
        self.monitor.item(&Seen { directory, ..Seen::new(&deletion.path, Action::Deleted) });
        self.log.add(self.run, deletion)
    }

    /// A file was gone when its turn came: the next backup finds it in no snapshot, so it goes into the log now.
    fn vanished(&mut self, path: &[u8], old: Option<&Entry>) -> Result<()> {
        let Compared { parent, before, found } = self.compared;
        let held = before.filter(|before| parent.is_some_and(|(id, _)| id == before.id)).zip(old);
        match held.and_then(|(before, old)| gone::record(before, found, path.to_vec(), old)) {
            Some(deletion) => self.deleted(&deletion),
            None => Ok(()),
        }
    }

    /// Puts a problem into the snapshot and says so. One that a later round finds again is the same.
    ///
    /// # Errors
    /// A storage error, final for the run.
    pub fn problem(&mut self, path: Vec<u8>, kind: ProblemKind, mut message: String) -> Result<()> {
        let may_come_again = kind != ProblemKind::Vanished;
        if may_come_again && !self.said.insert(fingerprint(&path, &message)) {
            return Ok(());
        }
        let (outcome, severity) = match kind {
            ProblemKind::Vanished | ProblemKind::Changed => (Outcome::Changed, Severity::Note),
            ProblemKind::Unreadable | ProblemKind::MissingSource | ProblemKind::Metadata | ProblemKind::Unsupported => {
                (Outcome::Partial, Severity::Error)
            }
        };
        self.stored.outcome = self.stored.outcome.max(outcome);
        self.monitor.problem(&crate::ops::Problem::new(severity, &typed_path(&path, &self.sources), &message));
        while message.len() > snapshot::TEXT_MAX {
            message.pop();
        }
        let problem = Problem { path, kind, message };
        self.problems.push(self.run, |buffer| snapshot::encode_problem(&problem, buffer))?;
        self.stored.problem_count += 1;
        if self.stored.shown.len() < PROBLEMS_SHOWN {
            self.stored.shown.push(problem);
        }
        Ok(())
    }
}

fn fingerprint(path: &[u8], message: &str) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(path.len() as u64).to_le_bytes()).update(path).update(message.as_bytes());
    let mut first = [0; 16];
    hasher.finalize_xof().fill(&mut first);
    first
}

/// The items of one group's files, in order.
struct Pieces {
    channel: Receiver<Piece>,
    current: Option<(Vec<u8>, std::vec::IntoIter<Item>)>,
}

impl Pieces {
    fn next(&mut self, spare: Option<&Sender<Vec<u8>>>) -> Result<Item> {
        loop {
            if let Some((_, items)) = &mut self.current
                && let Some(item) = items.next()
            {
                return Ok(item);
            }
            if let Some((buffer, _)) = self.current.take() {
                // The readers take their buffers from here; one too many is dropped.
                let _ = spare.map(|spare| spare.try_send(buffer));
            }
            let ended = || Error::Internal("a reading thread ended unexpectedly".to_owned());
            let piece = self.channel.recv().map_err(|_| ended())?;
            self.current = Some((piece.data, piece.items.into_iter()));
        }
    }

    fn bytes(&self, start: usize, length: usize) -> Result<&[u8]> {
        let bytes = self.current.as_ref().and_then(|(data, _)| data.get(start..)?.get(..length));
        bytes.ok_or_else(|| Error::Internal("a reading thread handed on less than it said".to_owned()))
    }
}
