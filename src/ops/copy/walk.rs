//! The first stage: through the source's listings in order, beside those of a relative and its copy.

use crate::base::lock::lock;
use std::collections::HashSet;
use std::sync::Mutex;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::Base;
use super::listing::SortedListing;
use super::memo::{CopiedListing, Memo, content_key};
use crate::codec::chunk_list::{ChunkList, ChunkRef};
use crate::codec::snapshot::{PATH_MAX, Snapshot};
use crate::codec::tree::{Content, Entry, Hole, Metadata, Node};
use crate::codec::{self, Reason};
use crate::ops::tree_depth::{check_depth, far_above};
use crate::ops::{Error, Monitor, Result};
use crate::repository::list_reader::{Chunks, Listing};
use crate::repository::{self, Repository};

/// A group is handed on when its contents and what is known of them have this many bytes,
const GROUP_BYTES: u64 = 4 << 20;
/// or when so many of them must be read,
const GROUP_FILES: usize = 256;
/// or when it has this many steps.
const GROUP_STEPS: usize = 2_048;
/// Pieces of one group that wait to be stored.
const PIECES_WAITING: usize = 4;
/// Contents with several names that are remembered.
const LINKED_MAX: usize = 1 << 18;

/// One step of the walk, decided.
pub(super) enum Work {
    /// A directory begins. The key is that of its listing in the source.
    Enter { name: Vec<u8>, metadata: Metadata, key: u128 },
    /// The directory entered last ends.
    Leave,
    /// An entry that says in the destination what it says here, or of which the content is there already; of a directory, its
    /// height.
    Ready(Entry, usize),
    /// A file that is being read: its pieces come through the group's channel, in this order.
    Read { path: Vec<u8>, name: Vec<u8>, metadata: Metadata, content: Content },
    /// Another name of a content that was handed on before.
    Link { path: Vec<u8>, name: Vec<u8>, metadata: Metadata, content: Content },
}

impl Work {
    /// Bytes that it takes, roughly: what an entry carries besides its name may be long.
    fn weight(&self) -> u64 {
        let of_metadata = |metadata: &Metadata| {
            let xattrs = metadata.xattrs.iter().map(|xattr| xattr.name.len() + xattr.value.len()).sum::<usize>();
            metadata.user.len() + metadata.group.len() + xattrs
        };
        let of_content = |content: &Content| {
            content.chunks.chunks.len() * size_of::<ChunkRef>() + content.holes.len() * size_of::<Hole>()
        };
        let bytes = match self {
            Self::Enter { metadata, .. } => of_metadata(metadata),
            Self::Leave => 0,
            Self::Ready(Entry { metadata, node, .. }, _) => {
                of_metadata(metadata)
                    + match node {
                        Node::File(content) => of_content(content),
                        Node::Directory { listing } => listing.chunks.len() * size_of::<ChunkRef>(),
                        Node::Symlink { target } => target.len(),
                        _ => 0,
                    }
            }
            Self::Read { path, metadata, content, .. } | Self::Link { path, metadata, content, .. } => {
                path.len() + of_metadata(metadata) + 2 * of_content(content)
            }
        };
        bytes as u64
    }
}

/// Some steps in order, and the channel through which their files' contents come.
pub(super) struct Group {
    pub work: Vec<Work>,
    pub pieces: Receiver<Piece>,
}

/// The contents of one group, for a reading thread.
pub(super) struct Jobs {
    pub files: Vec<(Vec<u8>, Content)>,
    pub pieces: Sender<Piece>,
}

/// Pieces of some contents, in order.
pub(super) struct Piece {
    pub data: Vec<u8>,
    pub items: Vec<super::read::Item>,
}

/// One directory, and the same one of a relative and of its copy.
struct Level<'r> {
    entries: Listing<'r>,
    base: Option<(SortedListing<'r>, SortedListing<'r>)>,
    path_length: usize,
}

/// The first stage.
pub(super) struct Walk<'a> {
    pub source: &'a Repository,
    pub destination: &'a Repository,
    pub snapshot: &'a Snapshot,
    pub base: Option<&'a Base<'a>>,
    pub listings: &'a Mutex<Memo<CopiedListing>>,
    pub groups: Sender<Group>,
    pub jobs: Sender<Jobs>,
}

/// What is being gathered.
struct Gathering<'a> {
    walk: Walk<'a>,
    work: Vec<Work>,
    files: Vec<(Vec<u8>, Content)>,
    bytes: u64,
    linked: HashSet<u128>,
    path: Vec<u8>,
    entries_left: u64,
}

/// As in a backup: the stage behind has an error of its own, which comes first.
fn stopped() -> Error {
    Error::Internal("what stores the copy ended before the source was read".to_owned())
}

impl Walk<'_> {
    /// Walks the whole snapshot.
    pub fn run(self, monitor: &dyn Monitor) -> Result<()> {
        let entries_left = self.snapshot.counts.entries();
        let (work, files, linked, path) = (Vec::new(), Vec::new(), HashSet::new(), Vec::new());
        Gathering { walk: self, work, files, bytes: 0, linked, path, entries_left }.run(monitor)
    }
}

impl<'a> Gathering<'a> {
    fn run(mut self, monitor: &dyn Monitor) -> Result<()> {
        let root = self.walk.snapshot.root.clone();
        let base = self.walk.base.map(|base| (base.source.root.clone(), base.copy.clone()));
        let mut levels = vec![self.level(root, base)];
        while let Some(level) = levels.last_mut() {
            if monitor.interrupted() {
                return Err(Error::Interrupted);
            }
            self.path.truncate(level.path_length);
            let Some(entry) = level.entries.next() else {
                levels.pop();
                if !levels.is_empty() {
                    self.push(Work::Leave)?;
                }
                continue;
            };
            let entry = entry
                .map_err(|error| Error::at(if self.path.is_empty() { b"/" } else { self.path.as_slice() }, error))?;
            self.path.push(b'/');
            self.path.extend_from_slice(&entry.name);
            if self.path.len() > PATH_MAX {
                return Err(self.refuse("a path is longer than any path may be"));
            }
            let left = self.entries_left.checked_sub(1);
            self.entries_left =
                left.ok_or_else(|| self.refuse("there are more entries than the snapshot says it has"))?;
            let relative = level.base.as_mut().and_then(|(source, copy)| {
                let source = source.find(&entry.name);
                let copy = copy.find(&entry.name);
                Some((source?, copy?))
            });
            if let Some(next) = self.entry(entry, relative)? {
                levels.push(next);
                if let Some(far) = far_above(&mut levels) {
                    far.entries.let_go();
                }
            }
        }
        self.hand_on()
    }

    fn refuse(&self, rule: &'static str) -> Error {
        let error = codec::Error::new("tree", Reason::BrokenRule { rule });
        Error::at(&self.path, repository::Error::Stream { error })
    }

    fn level(&self, listing: ChunkList, base: Option<(ChunkList, ChunkList)>) -> Level<'a> {
        let base = base.map(|(source, copy)| {
            (SortedListing::new(self.walk.source, source), SortedListing::new(self.walk.destination, copy))
        });
        Level { entries: Listing::new(self.walk.source, listing), base, path_length: self.path.len() }
    }

    /// Decides about one entry; a directory that is to be entered comes back.
    fn entry(&mut self, entry: Entry, relative: Option<(Entry, Entry)>) -> Result<Option<Level<'a>>> {
        let Entry { name, metadata, node } = entry;
        match node {
            Node::Directory { listing } => {
                let key = listing.key();
                let copied = lock(self.walk.listings).get(key);
                if let Some(CopiedListing { listing, height }) = copied {
                    check_depth(&self.path, height)?;
                    self.push(Work::Ready(Entry { name, metadata, node: Node::Directory { listing } }, height))?;
                    return Ok(None);
                }
                let base = relative.and_then(|(source, copy)| match (source.node, copy.node) {
                    (Node::Directory { listing: source }, Node::Directory { listing: copy }) => Some((source, copy)),
                    _ => None,
                });
                check_depth(&self.path, 0)?;
                self.push(Work::Enter { name, metadata, key })?;
                Ok(Some(self.level(listing, base)))
            }
            Node::File(content) if !content.chunks.is_empty() => {
                self.file(name, metadata, content, relative)?;
                Ok(None)
            }
            node => {
                self.push(Work::Ready(Entry { name, metadata, node }, 0))?;
                Ok(None)
            }
        }
    }

    fn file(
        &mut self,
        name: Vec<u8>,
        metadata: Metadata,
        content: Content,
        relative: Option<(Entry, Entry)>,
    ) -> Result<()> {
        if let Some(copied) = relative.and_then(|(source, copy)| copied(&content, source, copy))
            && self.is_whole(&copied)
        {
            return self.push(Work::Ready(Entry { name, metadata, node: Node::File(copied) }, 0));
        }
        let path = self.path.clone();
        if metadata.links > 1 {
            if self.linked.len() == LINKED_MAX {
                self.linked.clear();
            }
            if !self.linked.insert(content_key(&content)) {
                return self.push(Work::Link { path, name, metadata, content });
            }
        }
        if content.size >= GROUP_BYTES && !self.files.is_empty() {
            self.hand_on()?;
        }
        self.bytes += content.data_length().unwrap_or(content.size);
        self.files.push((path.clone(), content.clone()));
        self.push(Work::Read { path, name, metadata, content })
    }

    /// True when every chunk of a content that is taken over is still to be had.
    fn is_whole(&self, copied: &Content) -> bool {
        let destination = self.walk.destination;
        let mut chunks = Chunks::of_file(destination, copied);
        !self.walk.base.is_some_and(|base| base.confirm)
            || chunks.all(|chunk| chunk.is_ok_and(|chunk| destination.locate(&chunk).is_ok()))
    }

    fn push(&mut self, work: Work) -> Result<()> {
        self.bytes = self.bytes.saturating_add(work.weight());
        self.work.push(work);
        if self.bytes >= GROUP_BYTES || self.files.len() >= GROUP_FILES || self.work.len() >= GROUP_STEPS {
            self.hand_on()?;
        }
        Ok(())
    }

    fn hand_on(&mut self) -> Result<()> {
        self.bytes = 0;
        let (sender, pieces) = bounded(PIECES_WAITING);
        let files = std::mem::take(&mut self.files);
        if !files.is_empty() {
            // Readers take jobs in order, so the group that is stored now is always being read.
            self.walk.jobs.send(Jobs { files, pieces: sender }).map_err(|_| stopped())?;
        }
        let work = std::mem::take(&mut self.work);
        self.walk.groups.send(Group { work, pieces }).map_err(|_| stopped())
    }
}

/// The copy of a content, when the relative has the same one and its copy says the same about it.
fn copied(content: &Content, source: Entry, copy: Entry) -> Option<Content> {
    let (Node::File(same), Node::File(copied)) = (source.node, copy.node) else { return None };
    let digests_agree = match (same.digest, copied.digest) {
        (Some(one), Some(other)) => one == other,
        _ => true,
    };
    let is_copy =
        source.metadata == copy.metadata && same.size == copied.size && same.holes == copied.holes && digests_agree;
    (same == *content && is_copy).then_some(copied)
}
