//! What the stages of a backup hand to each other: entries in walk order, in groups.

use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender};

use crate::base::id::ChunkId;
use crate::base::time::Time;
use crate::codec::chunk_list::ChunkList;
use crate::codec::deletion_log::Deletion;
use crate::codec::snapshot::ProblemKind;
use crate::codec::tree::{Entry, Hole, Metadata, Node};
use crate::files::directory::Directory;
use crate::files::stat::Stat;

/// One step of the walk, decided. `old` is the parent's entry of the same name; in a later round, that of the rounds before.
pub(super) enum Work {
    /// A directory begins.
    Enter {
        path: Vec<u8>,
        name: Vec<u8>,
        metadata: Metadata,
        /// Metadata and listing in the parent snapshot; in a later round, those that the rounds before stored.
        parent: Option<(Metadata, ChunkList)>,
        /// It was named as a source.
        source: bool,
    },
    /// The directory entered last ends.
    Leave,
    /// A file that is the parent's.
    Unchanged { path: Vec<u8>, entry: Entry },
    /// A file that is being read: its pieces come through the group's channel, in this order. `size` is what the walk saw.
    Read { path: Vec<u8>, name: Vec<u8>, device: u32, size: u64, old: Option<Box<Entry>>, key: Option<(u64, u64)> },
    /// Another name of a file that this run has met already, unchanged since.
    Link { path: Vec<u8>, name: Vec<u8>, key: (u64, u64), old: Option<Box<Entry>> },
    /// A symlink, pipe, socket or device.
    Other { path: Vec<u8>, entry: Entry, old: Option<Box<Entry>> },
    /// In a later round: what the rounds before stored stays as it is.
    Kept { entry: Entry },
    /// In a later round: what the rounds before stored under the name of the directory that follows was something else.
    Dropped { entry: Entry },
    /// It is there, and something else at each look: a later round may find it at rest.
    Restless { path: Vec<u8>, message: String },
    /// Something could not be done.
    Problem { path: Vec<u8>, kind: ProblemKind, message: String },
    /// Something that the snapshot before holds is gone.
    Deleted(Box<Deletion>),
    /// The snapshot before could not be read in full.
    Unread(String),
    /// A path of this program's own that was left out.
    Own { path: Vec<u8> },
}

/// Some steps in walk order, and the channel through which their files' contents come.
pub(super) struct Group {
    pub work: Vec<Work>,
    pub pieces: Receiver<Piece>,
}

/// The files of one group, for a reading thread.
pub(super) struct Jobs {
    pub files: Vec<Job>,
    pub pieces: Sender<Piece>,
}

/// A queue of jobs, as the reading threads see it.
pub(super) type JobQueue = Receiver<Jobs>;

/// A file to read.
pub(super) struct Job {
    pub directory: Arc<Directory>,
    pub name: Vec<u8>,
    pub stat: Stat,
    /// In a later round: its cut, and when the run began. What is younger than the run and changed after the cut is of no use.
    pub until: Option<(Time, Time)>,
    /// Its bytes are reported to the monitor as they are read.
    pub reports_bytes: bool,
}

/// Pieces of some files, in order.
pub(super) struct Piece {
    pub data: Vec<u8>,
    pub items: Vec<Item>,
}

/// One fact about the file being read.
pub(super) enum Item {
    /// A chunk, in the piece's data.
    Chunk { start: usize, length: usize, id: ChunkId },
    /// The file is read to its end.
    End(Box<Finished>),
    /// It is no regular file any more, but this.
    Other { metadata: Box<Metadata>, node: Node, problems: Vec<String> },
    /// It changed after the time that the job gives.
    Newer,
    /// It is there, and something else at each look.
    Restless { message: String },
    /// The file could not be read; it has no entry.
    Failed { kind: ProblemKind, message: String },
    /// This process has run out of something: that says nothing of the file, and the run ends.
    Shortage { source: std::io::Error },
}

/// A file that was read.
pub(super) struct Finished {
    pub metadata: Metadata,
    pub size: u64,
    pub holes: Vec<Hole>,
    /// BLAKE3 of the data, before the holes are added.
    pub data: blake3::Hasher,
    /// It changed under the reader.
    pub changed: Option<String>,
    /// What of its metadata could not be read.
    pub problems: Vec<String>,
}
