//! Trees: the listings of directories, and everything that is known about each file. format-spec/tree.md.
//!
//! A listing is a stream of entries in strictly ascending order of their names' bytes. A reader holds one entry at a
//! time and refuses a duplicate without remembering names. Every rule is checked when an entry is written and again
//! when it is read: an entry that a reader would refuse is never stored.

use bincode::{Decode, Encode};

use super::body;
pub use super::chunk_list::{CHUNK_LENGTH_MAX, ChunkList, ChunkRef, ChunkRefReader, DEPTH_MAX, INLINE_MAX};
use super::stream::{self, RecordReader};
use super::{Error, Reason, Result};
use crate::base::time::Time;

/// Longest name of an entry, in bytes. Linux allows 255; other systems 255 characters of up to four bytes.
pub const NAME_MAX: usize = 255 * 4;
/// Longest target of a symlink and longest name of a user, group or attribute, in bytes.
pub const TEXT_MAX: usize = 64 << 10;
/// Most holes of one file. What a writer finds beyond them it stores as the zeros that they read as.
pub const HOLES_MAX: usize = 1 << 16;
/// Most extended attributes of one entry.
pub const XATTRS_MAX: usize = 1 << 16;
/// Permission bits that [`Metadata::mode`] may have: rwx three times, set-user-id, set-group-id, sticky.
pub const MODE_MASK: u32 = 0o7777;

/// Memory that decoding one entry may take, in bytes.
const LIMIT: usize = 64 << 20;
const STRUCTURE: &str = "tree";

/// A run of zeros that occupies no space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Hole {
    /// Where it begins in the file, in bytes.
    pub offset: u64,
    /// How long it is, in bytes, never zero.
    pub length: u64,
}

/// What a regular file holds.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
pub struct Content {
    /// Length of the file, holes included, in bytes.
    pub size: u64,
    /// The data between the holes, cut as one stream.
    pub chunks: ChunkList,
    /// Ascending, apart from each other, inside the file.
    pub holes: Vec<Hole>,
    /// Present exactly when there is more than one chunk or any hole: see [`Content::digest_of`].
    pub digest: Option<[u8; 32]>,
}

impl Content {
    /// True when the content carries a digest: the one chunk's id says enough otherwise.
    #[must_use]
    pub fn needs_digest(&self) -> bool {
        self.chunks.depth > 0 || self.chunks.chunks.len() > 1 || !self.holes.is_empty()
    }

    /// The digest of a content whose data bytes went into `data` while they were read: plain BLAKE3 of the data,
    /// followed, when there are holes, by each hole's offset and length as u64 little endian. It checks cutting, order and
    /// holes, which no chunk id can.
    #[must_use]
    pub fn digest_of(mut data: blake3::Hasher, holes: &[Hole]) -> [u8; 32] {
        for hole in holes {
            data.update(&hole.offset.to_le_bytes());
            data.update(&hole.length.to_le_bytes());
        }
        *data.finalize().as_bytes()
    }

    /// Length of the data between the holes, in bytes; `None` when the holes are longer than the file.
    #[must_use]
    pub fn data_length(&self) -> Option<u64> {
        self.holes.iter().try_fold(self.size, |left, hole| left.checked_sub(hole.length))
    }

    fn check(&self) -> Result<()> {
        let refuse = |rule| Err(Error::new(STRUCTURE, Reason::BrokenRule { rule }));
        self.chunks.check()?;
        if self.holes.len() > HOLES_MAX {
            return Err(Error::new(STRUCTURE, Reason::OutOfRange { field: "number of holes" }));
        }
        let mut next = 0;
        for (number, hole) in self.holes.iter().enumerate() {
            // Holes that touch would be one hole.
            let is_apart = if number == 0 { true } else { hole.offset > next };
            match hole.offset.checked_add(hole.length) {
                Some(end) if hole.length > 0 && is_apart && end <= self.size => next = end,
                _ => return refuse("holes must be ascending, apart, not empty and inside the file"),
            }
        }
        let data = self.data_length();
        if self.chunks.depth == 0 && data != Some(self.chunks.inline_length()) {
            return refuse("the lengths of chunks and holes do not add up to the file's size");
        }
        if self.digest.is_some() != self.needs_digest() {
            return refuse("a digest stands exactly with several chunks or holes");
        }
        Ok(())
    }
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Node {
    /// A regular file.
    File(Content),
    /// A directory.
    Directory {
        /// The stream of its entries.
        listing: ChunkList,
    },
    /// A symbolic link.
    Symlink {
        /// Where it points, as stored in it: not empty, no NUL.
        target: Vec<u8>,
    },
    /// A named pipe.
    Fifo,
    /// A socket's name.
    Socket,
    /// A character device.
    CharacterDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
}

/// An extended attribute: ACLs and capabilities are some.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Xattr {
    /// Its name with the name space: `user.comment`, `security.capability`.
    pub name: Vec<u8>,
    /// Its bytes.
    pub value: Vec<u8>,
}

/// Everything about an entry beside its name and content.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
pub struct Metadata {
    /// Permission bits with set-id and sticky: nothing outside [`MODE_MASK`].
    pub mode: u32,
    /// Number of the owner.
    pub uid: u32,
    /// Number of the group.
    pub gid: u32,
    /// Name of the owner on the machine, empty when it has none.
    pub user: Vec<u8>,
    /// Name of the group on the machine, empty when it has none.
    pub group: Vec<u8>,
    /// Last change of the content.
    pub mtime: Time,
    /// Last change of the inode. Cannot be restored; tells what is unchanged.
    pub ctime: Time,
    /// Creation, where the file system knows it.
    pub btime: Option<Time>,
    /// The file system it lies on, as an ordinal within the snapshot: raw device numbers change at reboot.
    pub device: u32,
    /// Inode number.
    pub inode: u64,
    /// Number of hard links; entries with equal device and inode and more than one link are one file.
    pub links: u64,
    /// Strictly ascending by name.
    pub xattrs: Vec<Xattr>,
    /// Inode flags (`FS_IOC_GETFLAGS`): immutable, append-only, no-dump, ...
    pub flags: u32,
}

impl Metadata {
    fn check(&self) -> Result<()> {
        let refuse = |reason| Err(Error::new(STRUCTURE, reason));
        if self.mode & !MODE_MASK != 0 {
            return refuse(Reason::OutOfRange { field: "mode" });
        }
        if !self.mtime.is_valid() || !self.ctime.is_valid() || self.btime.is_some_and(|time| !time.is_valid()) {
            return refuse(Reason::OutOfRange { field: "time" });
        }
        if ![&self.user, &self.group].iter().all(|name| is_text(name)) {
            return refuse(Reason::BrokenRule { rule: "the name of a user or group holds a NUL or is too long" });
        }
        if self.xattrs.len() > XATTRS_MAX {
            return refuse(Reason::OutOfRange { field: "number of extended attributes" });
        }
        if !self.xattrs.iter().all(|xattr| !xattr.name.is_empty() && is_text(&xattr.name)) {
            return refuse(Reason::BrokenRule {
                rule: "the name of an extended attribute is empty, too long or holds a NUL",
            });
        }
        if !self.xattrs.is_sorted_by(|a, b| a.name < b.name) {
            return refuse(Reason::NotAscending { list: "extended attributes" });
        }
        Ok(())
    }
}

fn is_text(bytes: &[u8]) -> bool {
    bytes.len() <= TEXT_MAX && !bytes.contains(&0)
}

/// One line of a listing.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Entry {
    /// Its name: bytes, no path.
    pub name: Vec<u8>,
    /// Owner, times and so on.
    pub metadata: Metadata,
    /// What it is.
    pub node: Node,
}

impl Entry {
    /// Refuses what no writer stores and what a restore must never see.
    ///
    /// # Errors
    /// [`Reason::OutOfRange`], [`Reason::BrokenRule`].
    pub fn check(&self) -> Result<()> {
        if !is_name(&self.name) {
            let rule = "a name is empty, '.', '..', too long, or holds '/' or NUL";
            return Err(Error::new(STRUCTURE, Reason::BrokenRule { rule }));
        }
        self.metadata.check()?;
        match &self.node {
            Node::File(content) => content.check(),
            Node::Directory { listing } => listing.check(),
            Node::Symlink { target } if target.is_empty() || !is_text(target) => {
                let rule = "the target of a symlink is empty, too long or holds NUL";
                Err(Error::new(STRUCTURE, Reason::BrokenRule { rule }))
            }
            Node::Symlink { .. } | Node::Fifo | Node::Socket => Ok(()),
            Node::CharacterDevice { .. } | Node::BlockDevice { .. } => Ok(()),
        }
    }
}

/// True for bytes that name a file within a directory and nothing else.
#[must_use]
pub fn is_name(name: &[u8]) -> bool {
    !matches!(name, b"" | b"." | b"..") && name.len() <= NAME_MAX && !name.iter().any(|byte| matches!(byte, b'/' | 0))
}

/// Appends an entry to a listing's stream. After an error `out` is as it was.
///
/// # Errors
/// What [`Entry::check`] refuses, and [`Reason::OutOfRange`] for an entry over [`stream::RECORD_MAX`].
pub fn encode_entry(entry: &Entry, out: &mut Vec<u8>) -> Result<()> {
    entry.check()?;
    stream::write_record(STRUCTURE, out, |out| body::encode_into(STRUCTURE, entry, out))
}

/// Reads a listing's stream in pieces, checking every rule.
pub struct EntryReader {
    records: RecordReader,
    last_name: Vec<u8>,
}

impl Default for EntryReader {
    fn default() -> Self {
        Self::new()
    }
}

impl EntryReader {
    /// A reader at the beginning of a listing.
    #[must_use]
    pub fn new() -> Self {
        Self { records: RecordReader::new(STRUCTURE), last_name: Vec::new() }
    }

    /// Adds the next bytes of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        self.records.push(bytes);
    }

    /// The next entry; `None` when more of the stream is needed, or it is at its end.
    ///
    /// # Errors
    /// Whatever [`body::decode`] and [`Entry::check`] refuse, and [`Reason::NotAscending`] for a name that is not above
    /// the one before it. After an error the rest of the listing cannot be read.
    #[allow(clippy::should_implement_trait)] // the next piece may be missing, which no iterator can say
    pub fn next(&mut self) -> Result<Option<Entry>> {
        let Some(record) = self.records.next()? else { return Ok(None) };
        let entry: Entry = body::decode::<_, LIMIT>(STRUCTURE, record)?;
        entry.check()?;
        // No name is empty, so the first one is above the empty one that this begins with.
        if entry.name <= self.last_name {
            return Err(Error::new(STRUCTURE, Reason::NotAscending { list: "names" }));
        }
        self.last_name.clone_from(&entry.name);
        Ok(Some(entry))
    }

    /// The stream has ended.
    ///
    /// # Errors
    /// [`Reason::Truncated`] when it ends within an entry.
    pub fn finish(self) -> Result<()> {
        self.records.finish()
    }
}
