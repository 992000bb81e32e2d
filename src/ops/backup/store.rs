//! The third stage: takes groups in walk order, stores what is new, and writes the listings bottom up.

use std::collections::HashMap;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::group::{Finished, Group, Item, Piece, Work};
use super::log::Log;
use super::{Compared, Options, PROBLEMS_SHOWN, Stored, gone, read, scan};
use crate::codec::chunk_list::{ChunkList, ChunkRef};
use crate::codec::deletion_log::{DeletedKind, Deletion};
use crate::codec::pack::PackKind;
use crate::codec::snapshot::{self, Counts, Outcome, Problem, ProblemKind, Summary};
use crate::codec::tree::{Content, Entry, Metadata, Node, encode_entry};
use crate::files::owner::Owners;
use crate::files::source::Sources;
use crate::files::walk::Rules;
use crate::ops::show::typed_path;
use crate::ops::{Action, Error, Item as Seen, Monitor, Result, Severity};
use crate::repository::list_writer::{ChunkListWriter, StreamWriter};
use crate::repository::run::Run;

/// Groups that wait to be stored, at most. Each holds a few megabytes.
const GROUPS_WAITING: usize = 3;

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
}

/// The third stage's own state.
struct Store<'a, 'r> {
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
    spare: Sender<Vec<u8>>,
    stored: Stored,
}

/// Runs all stages over the sources.
pub(super) fn files(
    run: &mut Run<'_>,
    sources: Sources,
    rules: Rules,
    compared: Compared<'_>,
    options: &Options,
    monitor: &dyn Monitor,
) -> Result<Stored> {
    let repository = run.repository();
    let log = Log::go_on(run, compared.before.map(|before| &before.snapshot))?;
    let paths = sources.paths.clone();
    let (groups, waiting) = bounded(GROUPS_WAITING);
    let (jobs, work) = bounded(GROUPS_WAITING);
    let (spare, buffers) = bounded(BUFFERS_KEPT);
    let parameters = repository.config().files;
    let owners = Owners::new();
    std::thread::scope(|scope| {
        for _ in 0..options.readers.max(1) {
            let (work, buffers) = (work.clone(), buffers.clone());
            let owners = &owners;
            scope.spawn(move || read::files(repository.keys(), parameters, owners, &work, &buffers));
        }
        drop(work);
        let (owners, unchanged) = (&owners, options.unchanged);
        let scanner = scope.spawn(move || {
            scan::Scan::new(repository, owners, compared, unchanged, groups, jobs).run(sources, rules, monitor)
        });
        let result = Store::new(run, monitor, spare, paths, compared, log).run(&waiting);
        // When storing failed, the queues must end, or the other stages wait for ever.
        drop(waiting);
        match (result, scanner.join()) {
            (Err(error), _) => Err(error),
            (Ok(_), Ok(Err(error))) => Err(error),
            (Ok(stored), Ok(Ok(()))) => Ok(stored),
            (Ok(_), Err(_)) => Err(Error::Refused("the walk ended unexpectedly".to_owned())),
        }
    })
}

impl<'a, 'r> Store<'a, 'r> {
    fn new(
        run: &'a mut Run<'r>,
        monitor: &'a dyn Monitor,
        spare: Sender<Vec<u8>>,
        sources: Vec<Vec<u8>>,
        compared: Compared<'a>,
        log: Log,
    ) -> Self {
        Self {
            run,
            monitor,
            sources,
            root: StreamWriter::default(),
            frames: Vec::new(),
            linked: HashMap::new(),
            problems: StreamWriter::default(),
            compared,
            log,
            spare,
            stored: Stored {
                root: ChunkList::default(),
                problems: ChunkList::default(),
                problem_count: 0,
                deleted: ChunkList::default(),
                deleted_count: 0,
                deletions: 0,
                shown: Vec::new(),
                outcome: Outcome::Complete,
                counts: Counts::default(),
                summary: Summary::default(),
                own: Vec::new(),
            },
        }
    }

    fn run(mut self, groups: &Receiver<Group>) -> Result<Stored> {
        for group in groups {
            if self.monitor.interrupted() {
                return Err(Error::Interrupted);
            }
            self.group(group)?;
        }
        if self.monitor.interrupted() {
            return Err(Error::Interrupted);
        }
        self.stored.root = self.root.finish(self.run)?;
        self.stored.problems = self.problems.finish(self.run)?;
        (self.stored.deleted, self.stored.deleted_count) = self.log.finish(self.run)?;
        Ok(self.stored)
    }

    fn group(&mut self, group: Group) -> Result<()> {
        let mut pieces = Pieces { channel: group.pieces, current: None };
        for work in group.work {
            match work {
                Work::Enter { path, name, metadata, parent } => {
                    let frame = Frame { path, name, metadata, parent, listing: StreamWriter::default() };
                    self.frames.push(frame);
                }
                Work::Leave => self.leave()?,
                Work::Unchanged { path, entry } => {
                    self.stored.summary.files_unmodified += 1;
                    if let Node::File(content) = &entry.node {
                        if entry.metadata.links > 1 {
                            let key = (u64::from(entry.metadata.device), entry.metadata.inode);
                            self.linked.insert(key, (entry.metadata.clone(), content.clone()));
                        }
                        self.count_file(content.size);
                        self.seen(&path, Action::Unchanged, content.size, 0);
                    }
                    self.push(&entry)?;
                }
                Work::Read { path, name, device, old, key } => {
                    self.file(&mut pieces, path, name, device, old.as_deref(), key)?;
                }
                Work::Link { path, name, key, old } => self.link(path, name, key, old.as_deref())?,
                Work::Other { path, entry, old } => {
                    self.stored.counts.others += 1;
                    self.monitor.advance(1, 0);
                    self.seen(&path, if old { Action::Unchanged } else { Action::New }, 0, 0);
                    self.push(&entry)?;
                }
                Work::Problem { path, kind, message } => self.problem(path, kind, message)?,
                Work::Deleted(deletion) => self.deleted(&deletion)?,
                Work::Unread(message) => self.run.warn(message),
                Work::Own { path } => self.stored.own.push(path),
            }
        }
        Ok(())
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
        let summary = &mut self.stored.summary;
        let action = match &frame.parent {
            None => {
                summary.dirs_new += 1;
                Action::New
            }
            Some((metadata, old)) if *old == listing && *metadata == frame.metadata => {
                summary.dirs_unmodified += 1;
                Action::Unchanged
            }
            Some(_) => {
                summary.dirs_changed += 1;
                Action::Changed
            }
        };
        self.stored.counts.directories += 1;
        self.monitor.item(&Seen { directory: true, ..Seen::new(&frame.path, action) });
        self.push(&Entry { name: frame.name, metadata: frame.metadata, node: Node::Directory { listing } })
    }

    fn count_file(&mut self, size: u64) {
        self.stored.counts.files += 1;
        self.stored.counts.bytes = self.stored.counts.bytes.saturating_add(size);
        self.monitor.advance(1, size);
    }

    fn seen(&self, path: &[u8], action: Action, size: u64, added: u64) {
        self.monitor.item(&Seen { size, added, ..Seen::new(path, action) });
    }

    /// A file that had to be read again may turn out to be the parent's.
    fn count_action(&mut self, old: Option<&Entry>, new: &Entry) -> Action {
        let summary = &mut self.stored.summary;
        let (count, action) = match old {
            None => (&mut summary.files_new, Action::New),
            Some(old) if old == new => (&mut summary.files_unmodified, Action::Unchanged),
            Some(_) => (&mut summary.files_changed, Action::Changed),
        };
        *count += 1;
        action
    }

    fn file(
        &mut self,
        pieces: &mut Pieces,
        path: Vec<u8>,
        name: Vec<u8>,
        device: u32,
        old: Option<&Entry>,
        key: Option<(u64, u64)>,
    ) -> Result<()> {
        self.monitor.item(&Seen::new(&path, Action::Started));
        let mut chunks = ChunkListWriter::default();
        let mut added = 0;
        let finished = loop {
            match pieces.next(&self.spare)? {
                Item::Chunk { start, length, id } => {
                    let bytes = pieces.bytes(start, length)?;
                    if self.run.add(PackKind::Data, id, bytes)? {
                        added += length as u64;
                    }
                    self.stored.summary.bytes_read += length as u64;
                    chunks.push(ChunkRef { id, length: length as u32 }, self.run)?;
                }
                Item::End(finished) => break finished,
                Item::Failed { kind, message } => {
                    self.monitor.advance(1, 0);
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
        if let Some(key) = key {
            self.linked.insert(key, (metadata.clone(), content.clone()));
        }
        let entry = Entry { name, metadata, node: Node::File(content) };
        let action = self.count_action(old, &entry);
        self.count_file(size);
        self.seen(&path, action, size, added);
        self.push(&entry)
    }

    fn link(&mut self, path: Vec<u8>, name: Vec<u8>, key: (u64, u64), old: Option<&Entry>) -> Result<()> {
        let Some((metadata, content)) = self.linked.get(&key).cloned() else {
            self.monitor.advance(1, 0);
            let message = "another name of the same file could not be read".to_owned();
            return self.problem(path, ProblemKind::Unreadable, message);
        };
        let size = content.size;
        let entry = Entry { name, metadata, node: Node::File(content) };
        let action = self.count_action(old, &entry);
        self.count_file(size);
        self.seen(&path, action, size, 0);
        self.push(&entry)
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

    fn problem(&mut self, path: Vec<u8>, kind: ProblemKind, mut message: String) -> Result<()> {
        let (outcome, severity) = match kind {
            ProblemKind::Vanished | ProblemKind::Changed => (Outcome::Changed, Severity::Note),
            ProblemKind::Unreadable | ProblemKind::MissingSource | ProblemKind::Metadata | ProblemKind::Unsupported => {
                (Outcome::Partial, Severity::Error)
            }
        };
        self.stored.outcome = self.stored.outcome.max(outcome);
        self.monitor.problem(severity, &typed_path(&path, &self.sources), &message);
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

/// The items of one group's files, in order.
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
            let ended = || Error::Refused("a reading thread ended unexpectedly".to_owned());
            let piece = self.channel.recv().map_err(|_| ended())?;
            self.current = Some((piece.data, piece.items.into_iter()));
        }
    }

    fn bytes(&self, start: usize, length: usize) -> Result<&[u8]> {
        let bytes = self.current.as_ref().and_then(|(data, _)| data.get(start..)?.get(..length));
        bytes.ok_or_else(|| Error::Refused("a reading thread handed on less than it said".to_owned()))
    }
}
