//! Trees: the listings of directories, and everything that is known about each file. format-spec/tree.md.
//!
//! A listing is a stream of entries in strictly ascending order of their names' bytes. A reader holds one entry at a
//! time and refuses a duplicate without remembering names. Every rule is checked when an entry is written and again
//! when it is read: an entry that a reader would refuse is never stored.

use bincode::{Decode, Encode};

use super::body;
pub use super::chunk_list::{CHUNK_LENGTH_MAX, ChunkList, ChunkRef, ChunkRefReader, INLINE_MAX};
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
/// Deepest directory below the topmost listing: this many names lead to it. What is deeper a writer does not store and a reader
/// does not enter.
pub const DIRECTORY_DEPTH_MAX: usize = 4_096;
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

    /// Lets go of the bytes that are not used up, and says how many they were. To go on, the stream is pushed again from there.
    pub fn let_go(&mut self) -> usize {
        let rest = self.records.rest().len();
        self.records = RecordReader::new(STRUCTURE);
        rest
    }

    /// The stream has ended.
    ///
    /// # Errors
    /// [`Reason::Truncated`] when it ends within an entry.
    pub fn finish(self) -> Result<()> {
        self.records.finish()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::base::id::ChunkId;

    fn chunk(number: u8, length: u32) -> ChunkRef {
        ChunkRef { id: ChunkId([number; 32]), length }
    }

    fn list(chunks: &[ChunkRef]) -> ChunkList {
        ChunkList { depth: 0, chunks: chunks.to_vec() }
    }

    fn metadata() -> Metadata {
        let time = Time { seconds: -1_700_000_000, nanoseconds: 999_999_999 };
        let xattr = |name: &[u8]| Xattr { name: name.to_vec(), value: vec![0, 255] };
        Metadata {
            mode: 0o4755,
            uid: 1000,
            user: b"user".to_vec(),
            mtime: time,
            btime: Some(Time::default()),
            inode: u64::MAX,
            links: 2,
            xattrs: vec![xattr(b"security.capability"), xattr(b"user.\xff")],
            ..Metadata::default()
        }
    }

    fn entry(name: &[u8], node: Node) -> Entry {
        Entry { name: name.to_vec(), metadata: metadata(), node }
    }

    fn file(content: Content) -> Entry {
        entry(b"file", Node::File(content))
    }

    fn one_of_each() -> Vec<Entry> {
        let holes = vec![Hole { offset: 0, length: 4096 }, Hole { offset: 4100, length: 1 }];
        let digest = Some(Content::digest_of(blake3::Hasher::new(), &holes));
        let sparse = Content { size: 4105, chunks: list(&[chunk(1, 8)]), holes, digest };
        let long = ChunkList { depth: 1, chunks: vec![chunk(2, 36 * 2000)] };
        vec![
            entry(b"\x01\n", Node::Fifo),
            entry(b"...", Node::Socket),
            entry(b"block", Node::BlockDevice { major: 8, minor: u32::MAX }),
            entry(b"character", Node::CharacterDevice { major: 0, minor: 0 }),
            entry(b"directory", Node::Directory { listing: list(&[chunk(3, 77)]) }),
            entry(b"empty", Node::File(Content::default())),
            entry(b"long", Node::File(Content { size: 1 << 40, chunks: long, holes: vec![], digest: Some([1; 32]) })),
            entry(b"sparse", Node::File(sparse)),
            entry(b"symlink", Node::Symlink { target: b"../\xff".to_vec() }),
            entry(&[b'z'; NAME_MAX], Node::Fifo),
        ]
    }

    fn stream_of(entries: &[Entry]) -> Vec<u8> {
        let mut stream = Vec::new();
        entries.iter().for_each(|entry| encode_entry(entry, &mut stream).unwrap());
        stream
    }

    fn read(stream: &[u8], piece: usize) -> Result<Vec<Entry>> {
        let (mut reader, mut entries) = (EntryReader::new(), Vec::new());
        for bytes in stream.chunks(piece) {
            reader.push(bytes);
            while let Some(entry) = reader.next()? {
                entries.push(entry);
            }
        }
        reader.finish()?;
        Ok(entries)
    }

    fn refused(entry: &Entry) -> &'static str {
        let mut out = b"before".to_vec();
        let reason = encode_entry(entry, &mut out).unwrap_err().reason;
        assert_eq!(out, b"before");
        // A hostile writer checks nothing; the reader does.
        let mut stream = Vec::new();
        stream::write_record(STRUCTURE, &mut stream, |out| body::encode_into(STRUCTURE, entry, out)).unwrap();
        assert_eq!(read(&stream, 1000).unwrap_err().reason, reason);
        reason.slug()
    }

    #[test]
    fn a_listing_comes_back_however_it_is_cut() {
        let entries = one_of_each();
        let stream = stream_of(&entries);
        for piece in [1, 2, 7, 100, stream.len()] {
            assert_eq!(read(&stream, piece).unwrap(), entries, "pieces of {piece}");
        }
        assert_eq!(read(&stream[..stream.len() - 1], 50).unwrap_err().reason, Reason::Truncated);
        assert_eq!(read(&[], 1).unwrap(), []);
    }

    #[test]
    fn names_that_leave_their_directory_are_refused() {
        for name in [&b""[..], b".", b"..", b"a/b", b"/", b"a\0", &[b'z'; NAME_MAX + 1]] {
            assert_eq!(refused(&entry(name, Node::Fifo)), "broken-rule", "{name:?}");
        }
    }

    #[test]
    fn duplicates_and_disorder_are_refused() {
        for names in [[&b"a"[..], b"a"], [b"b", b"a"], [b"aa", b"a"], [b"\xff", b"z"]] {
            let stream = stream_of(&names.map(|name| entry(name, Node::Fifo)));
            assert_eq!(read(&stream, 9).unwrap_err().reason, Reason::NotAscending { list: "names" }, "{names:?}");
        }
    }

    #[test]
    fn metadata_out_of_range_is_refused() {
        let with = |change: fn(&mut Metadata)| {
            let mut entry = entry(b"a", Node::Fifo);
            change(&mut entry.metadata);
            refused(&entry)
        };
        assert_eq!(with(|m| m.mode = 0o10000), "out-of-range");
        assert_eq!(with(|m| m.mtime.nanoseconds = 1_000_000_000), "out-of-range");
        assert_eq!(with(|m| m.btime = Some(Time { seconds: 0, nanoseconds: u32::MAX })), "out-of-range");
        assert_eq!(with(|m| m.user = b"a\0b".to_vec()), "broken-rule");
        assert_eq!(with(|m| m.xattrs[0].name.clear()), "broken-rule");
        assert_eq!(with(|m| m.xattrs.reverse()), "not-ascending");
        assert_eq!(with(|m| m.xattrs[1] = m.xattrs[0].clone()), "not-ascending");
        for target in [&b""[..], b"a\0"] {
            assert_eq!(refused(&entry(b"a", Node::Symlink { target: target.to_vec() })), "broken-rule");
        }
    }

    #[test]
    fn contents_that_do_not_add_up_are_refused() {
        let digest = Some([0; 32]);
        let hole = |offset, length| Hole { offset, length };
        let content = |size, chunks: &[ChunkRef], holes: &[Hole], digest| {
            refused(&file(Content { size, chunks: list(chunks), holes: holes.to_vec(), digest }))
        };
        assert_eq!(content(5, &[chunk(1, 4)], &[], None), "broken-rule");
        assert_eq!(content(5, &[], &[], None), "broken-rule");
        assert_eq!(content(0, &[chunk(1, 0)], &[], None), "out-of-range");
        assert_eq!(content(4, &[chunk(1, 4)], &[], digest), "broken-rule", "a digest too many");
        assert_eq!(content(8, &[chunk(1, 4), chunk(1, 4)], &[], None), "broken-rule", "no digest");
        for holes in [
            &[hole(0, 0)][..],
            &[hole(0, 5), hole(5, 5)],
            &[hole(6, 4), hole(0, 5)],
            &[hole(0, 5), hole(4, 5)],
            &[hole(0, 11)],
            &[hole(u64::MAX, 2)],
        ] {
            assert_eq!(content(10, &[], holes, digest), "broken-rule", "{holes:?}");
        }
        assert_eq!(content(u64::MAX, &[], &[hole(0, 1); HOLES_MAX + 1], digest), "out-of-range");
        let shallow = ChunkList { depth: 1, chunks: vec![chunk(1, 36)] };
        assert_eq!(refused(&entry(b"a", Node::Directory { listing: shallow })), "broken-rule");
    }

    #[test]
    fn an_entry_too_long_is_refused_before_it_is_stored() {
        let mut entry = entry(b"a", Node::Fifo);
        entry.metadata.xattrs = vec![Xattr { name: b"user.big".to_vec(), value: vec![0; stream::RECORD_MAX] }];
        assert!(matches!(encode_entry(&entry, &mut Vec::new()).unwrap_err().reason, Reason::OutOfRange { .. }));
    }

    #[test]
    fn unknown_types_ask_for_a_newer_program() {
        let mut stream = stream_of(&[entry(b"a", Node::Fifo)]);
        *stream.last_mut().unwrap() = 200;
        assert_eq!(read(&stream, 1000).unwrap_err().reason, Reason::UnknownVariant { variant: 200 });
    }
}
