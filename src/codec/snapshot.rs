//! Snapshots: what was saved when, whence, and how well that went. format-spec/snapshot.md.
//!
//! Everything a person sees in a list of snapshots stands here and is sealed. What could not be read completely is a
//! stream of [`Problem`] records beside the tree, because there may be a million of them.

use bincode::{Decode, Encode};

use super::body;
use super::chunk_list::ChunkList;
use super::key_tree::KeyTree;
use super::root::Shape;
use super::stream::{self, RecordReader};
use super::unit::UnitKind;
use super::{Error, ObjectKind, Reason, Result};
use crate::base::id::ObjectId;
use crate::base::time::Time;

/// Longest plain body, padding included, in bytes.
pub const PLAIN_MAX: u32 = 4 << 20;
/// Longest host, user, label, tag, option or program, in bytes.
pub const TEXT_MAX: usize = 4096;
/// Longest path, in bytes, a slash before each name counted: 4,096 names of 255 bytes.
pub const PATH_MAX: usize = 4096 * 256;
/// Most paths, tags and options, each.
pub const LIST_MAX: usize = 1 << 14;

/// Longest stored snapshot, in bytes: the body, and an eighth for header, frame and padding. Asked before it is read.
pub const BYTES_MAX: u64 = PLAIN_MAX as u64 / 8 * 9;

/// Memory that decoding a body may take, in bytes.
const LIMIT: usize = 16 << 20;
const STRUCTURE: &str = "snapshot";
const PROBLEMS: &str = "list of problems";
const SHAPE: Shape = Shape {
    structure: STRUCTURE,
    kind: ObjectKind::Snapshot,
    unit: UnitKind::Snapshot,
    row_bytes: 0,
    rows_max: 0,
    plain_max: PLAIN_MAX,
};

/// How well a backup went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode, Decode)]
pub enum Outcome {
    /// Everything that was asked for is in it, as it was.
    #[default]
    Complete,
    /// Some files grew, shrank or vanished while they were read.
    Changed,
    /// Something could not be read, or a named source was missing.
    Partial,
}

/// What a snapshot holds. A restore that finds more stops: a small hostile tree can name itself without end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode)]
pub struct Counts {
    /// Regular files.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Symlinks, pipes, sockets, devices.
    pub others: u64,
    /// Sum of the sizes of the regular files, holes included, in bytes.
    pub bytes: u64,
}

impl Counts {
    /// All entries together.
    #[must_use]
    pub const fn entries(&self) -> u64 {
        self.files.saturating_add(self.directories).saturating_add(self.others)
    }
}

/// What the backup did compared with its parent. For people only: nothing depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode)]
pub struct Summary {
    /// Files that the parent does not have.
    pub files_new: u64,
    /// Files that differ from the parent's.
    pub files_changed: u64,
    /// Files taken over from the parent without reading.
    pub files_unmodified: u64,
    /// Directories that the parent does not have.
    pub dirs_new: u64,
    /// Directories that differ from the parent's.
    pub dirs_changed: u64,
    /// Directories as the parent has them.
    pub dirs_unmodified: u64,
    /// New chunks of file contents.
    pub data_chunks: u64,
    /// New chunks of listings.
    pub tree_chunks: u64,
    /// Plain length of the new chunks, in bytes.
    pub data_added: u64,
    /// Stored length of the new chunks, in bytes.
    pub data_stored: u64,
    /// Bytes that were read from files.
    pub bytes_read: u64,
    /// How long it took, in nanoseconds.
    pub duration_nanoseconds: u64,
}

/// A saved state of some paths.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Snapshot {
    /// The time that it stands for; `--time` may claim another than that of writing.
    pub time: Time,
    /// When the backup began, by the clock of the machine: what it read was read no earlier.
    pub written: Time,
    /// Name of the machine.
    pub host: String,
    /// Who ran the backup.
    pub user: String,
    /// What was saved, as absolute paths.
    pub paths: Vec<Vec<u8>>,
    /// A label for people, empty when there is none.
    pub label: String,
    /// Tags, in the order given.
    pub tags: Vec<String>,
    /// True when no rule of `forget` may remove it.
    pub held: bool,
    /// The listing of the root directory.
    pub root: ChunkList,
    /// The snapshot that unchanged files were taken from.
    pub parent: Option<ObjectId>,
    /// The first one of the snapshots that this one was made from by changing tags or rewriting.
    pub original: Option<ObjectId>,
    /// How well it went.
    pub outcome: Outcome,
    /// Stream of [`Problem`] records.
    pub problems: ChunkList,
    /// Number of records in it.
    pub problem_count: u64,
    /// Log of the deletions from its source up to now: a stream of [`super::deletion_log::Deletion`] records.
    pub deleted: ChunkList,
    /// Number of records in it.
    pub deleted_count: u64,
    /// What it holds.
    pub counts: Counts,
    /// What the backup did.
    pub summary: Summary,
    /// Excludes and other options that decided what is in it.
    pub options: Vec<String>,
    /// Name and version of the program that wrote it.
    pub program: String,
}

/// The directory beneath which one of a snapshot's paths stands for many that were given; `None` for a path that was given itself. The
/// directory is not stored whole then.
#[must_use]
pub fn many_beneath(path: &[u8]) -> Option<&[u8]> {
    path.strip_suffix(b"/").filter(|directory| !directory.is_empty())
}

impl Snapshot {
    fn check(&self) -> Result<()> {
        let out_of_range = |field| Err(Error::new(STRUCTURE, Reason::OutOfRange { field }));
        if !self.time.is_valid() || !self.written.is_valid() {
            return out_of_range("time");
        }
        let texts = [&self.host, &self.user, &self.label, &self.program];
        if texts.into_iter().chain(&self.tags).chain(&self.options).any(|text| text.len() > TEXT_MAX) {
            return out_of_range("length of a text");
        }
        if self.paths.iter().any(|path| path.is_empty() || path.len() > PATH_MAX || path.contains(&0)) {
            return out_of_range("length of a path");
        }
        if [self.paths.len(), self.tags.len(), self.options.len()].into_iter().any(|length| length > LIST_MAX) {
            return out_of_range("number of paths, tags or options");
        }
        if self.problems.is_empty() != (self.problem_count == 0) {
            return out_of_range("number of problems");
        }
        if self.deleted.is_empty() != (self.deleted_count == 0) {
            return out_of_range("number of deletions");
        }
        self.root.check()?;
        self.problems.check()?;
        self.deleted.check()
    }
}

/// The bytes of a snapshot. `random` is 32 fresh bytes.
///
/// # Errors
/// [`Reason::OutOfRange`], [`Reason::BrokenRule`] for what a reader would refuse.
pub fn encode(keys: &KeyTree, snapshot: &Snapshot, random: &[u8; 32]) -> Result<Vec<u8>> {
    snapshot.check()?;
    SHAPE.seal(keys, 0, b"", body::encode(STRUCTURE, snapshot)?, random)
}

/// Opens a whole snapshot.
///
/// # Errors
/// In this order: [`Reason::Truncated`], [`Reason::WrongMagic`], [`Reason::UnknownVersion`], [`Reason::WrongKind`],
/// [`Reason::UnknownKeyMode`], [`Reason::UnknownSuite`], [`Reason::UnknownCodec`], [`Reason::NonzeroReserved`],
/// [`Reason::OtherRepository`], [`Reason::OutOfRange`]; [`Reason::Commitment`] for another key or a changed header,
/// [`Reason::Tag`]; what [`body::decode`] refuses; [`Reason::OutOfRange`] and [`Reason::BrokenRule`] for its content.
pub fn open(keys: &KeyTree, mut bytes: Vec<u8>) -> Result<Snapshot> {
    let (_, content) = SHAPE.open(keys, &mut bytes)?;
    let snapshot: Snapshot = body::decode::<_, LIMIT>(STRUCTURE, &content)?;
    snapshot.check()?;
    Ok(snapshot)
}

/// What went wrong with one path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
pub enum ProblemKind {
    /// It could not be read; it is missing in the snapshot.
    Unreadable,
    /// It was named as a source and does not exist, or holds nothing and held something before.
    MissingSource,
    /// It vanished between being listed and being read; it is missing in the snapshot.
    Vanished,
    /// It grew, shrank or was written to while it was read; the snapshot has what was read.
    Changed,
    /// Some of its metadata could not be read; its content is complete.
    Metadata,
    /// It is of a kind, or over a limit, that the format cannot store.
    Unsupported,
}

/// One thing that went wrong.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Problem {
    /// Where, as bytes.
    pub path: Vec<u8>,
    /// What.
    pub kind: ProblemKind,
    /// The same for people, with the system's own words.
    pub message: String,
}

impl Problem {
    fn check(&self) -> Result<()> {
        if self.path.len() > PATH_MAX || self.message.len() > TEXT_MAX {
            return Err(Error::new(PROBLEMS, Reason::OutOfRange { field: "length of a text" }));
        }
        Ok(())
    }
}

/// Appends a problem to the stream. After an error `out` is as it was.
///
/// # Errors
/// [`Reason::OutOfRange`] for a path over [`PATH_MAX`] or a message over [`TEXT_MAX`].
pub fn encode_problem(problem: &Problem, out: &mut Vec<u8>) -> Result<()> {
    problem.check()?;
    stream::write_record(PROBLEMS, out, |out| body::encode_into(PROBLEMS, problem, out))
}

/// Reads the stream of problems in pieces.
pub struct ProblemReader {
    records: RecordReader,
}

impl Default for ProblemReader {
    fn default() -> Self {
        Self::new()
    }
}

impl ProblemReader {
    /// A reader at the beginning of the stream.
    #[must_use]
    pub fn new() -> Self {
        Self { records: RecordReader::new(PROBLEMS) }
    }

    /// Adds the next bytes of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        self.records.push(bytes);
    }

    /// The next problem; `None` when more of the stream is needed, or it is at its end.
    ///
    /// # Errors
    /// What [`body::decode`] refuses, and [`Reason::OutOfRange`].
    #[allow(clippy::should_implement_trait)] // the next piece may be missing, which no iterator can say
    pub fn next(&mut self) -> Result<Option<Problem>> {
        let Some(record) = self.records.next()? else { return Ok(None) };
        let problem: Problem = body::decode::<_, LIMIT>(PROBLEMS, record)?;
        problem.check()?;
        Ok(Some(problem))
    }

    /// The stream has ended.
    ///
    /// # Errors
    /// [`Reason::Truncated`] when it ends within a record.
    pub fn finish(self) -> Result<()> {
        self.records.finish()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::base::id::{ChunkId, RepositoryId};
    use crate::codec::chunk_list::ChunkRef;
    use crate::codec::key_tree::MasterKey;
    use crate::codec::root::HEADER_BYTES;
    use crate::codec::unit::PREFIX_BYTES;

    fn keys() -> KeyTree {
        KeyTree::new(&MasterKey::new([7; 32]), RepositoryId([1; 32]))
    }

    fn snapshot() -> Snapshot {
        let list = |number| ChunkList { depth: 0, chunks: vec![ChunkRef { id: ChunkId([number; 32]), length: 1000 }] };
        Snapshot {
            time: Time { seconds: -5, nanoseconds: 1 },
            written: Time::from_seconds(1_800_000_000),
            host: "höst".into(),
            user: "user".into(),
            paths: vec![b"/home/\xff".to_vec()],
            label: String::new(),
            tags: vec!["a".into(), "b".into()],
            held: true,
            root: list(1),
            parent: Some(ObjectId([2; 32])),
            original: None,
            outcome: Outcome::Partial,
            problems: list(3),
            problem_count: 17,
            deleted: list(4),
            deleted_count: 18,
            counts: Counts { files: 1, directories: 2, others: 3, bytes: u64::MAX },
            summary: Summary { files_new: 1, ..Summary::default() },
            options: vec!["--exclude=*.o".into()],
            program: "packstone 0.1.0".into(),
        }
    }

    #[test]
    fn a_snapshot_comes_back_in_coarse_lengths() {
        let mut lengths = std::collections::BTreeSet::new();
        for count in [0, 1, 20, 100, 400] {
            let mut snapshot = snapshot();
            snapshot.paths = vec![b"/some/path".to_vec(); count];
            let bytes = encode(&keys(), &snapshot, &[0; 32]).unwrap();
            lengths.insert(bytes.len());
            assert_eq!(open(&keys(), bytes).unwrap(), snapshot);
        }
        assert_eq!(lengths.into_iter().collect::<Vec<_>>(), [4096, 8192]);
        assert_eq!(snapshot().counts.entries(), 6);
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let bytes = encode(&keys(), &snapshot(), &[0; 32]).unwrap();
        for position in (0..HEADER_BYTES + PREFIX_BYTES + 400).chain([bytes.len() - 1]) {
            for bit in 0..8 {
                let mut bytes = bytes.clone();
                bytes[position] ^= 1 << bit;
                let reason = open(&keys(), bytes).unwrap_err().reason;
                match position.checked_sub(HEADER_BYTES) {
                    Some(0..PREFIX_BYTES) => assert_eq!(reason, Reason::Commitment, "byte {position}"),
                    Some(_) => assert_eq!(reason, Reason::Tag, "byte {position}"),
                    None => assert_ne!(reason, Reason::Tag, "byte {position}"),
                }
            }
        }
    }

    #[test]
    fn snapshots_that_no_writer_makes_are_refused() {
        let refused = |change: fn(&mut Snapshot)| {
            let mut snapshot = snapshot();
            change(&mut snapshot);
            let reason = encode(&keys(), &snapshot, &[0; 32]).unwrap_err().reason;
            // A hostile writer checks nothing; the reader does.
            let body = body::encode(STRUCTURE, &snapshot).unwrap();
            let bytes = SHAPE.seal(&keys(), 0, b"", body, &[0; 32]).unwrap();
            assert_eq!(open(&keys(), bytes).unwrap_err().reason, reason);
            reason.slug()
        };
        assert_eq!(refused(|s| s.time.nanoseconds = 1_000_000_000), "out-of-range");
        assert_eq!(refused(|s| s.label = "x".repeat(TEXT_MAX + 1)), "out-of-range");
        assert_eq!(refused(|s| s.tags = vec![String::new(); LIST_MAX + 1]), "out-of-range");
        assert_eq!(refused(|s| s.paths = vec![b"a\0".to_vec()]), "out-of-range");
        assert_eq!(refused(|s| s.paths = vec![vec![]]), "out-of-range");
        assert_eq!(refused(|s| s.problem_count = 0), "out-of-range");
        assert_eq!(refused(|s| s.problems.chunks.clear()), "out-of-range");
        assert_eq!(refused(|s| s.deleted_count = 0), "out-of-range");
        assert_eq!(refused(|s| s.deleted.depth = 1), "broken-rule");
        assert_eq!(refused(|s| s.root.depth = 1), "broken-rule");
        assert_eq!(refused(|s| s.root.chunks[0].length = 0), "out-of-range");
    }

    #[test]
    fn problems_come_back() {
        let problems: Vec<Problem> = (0..50)
            .map(|n| Problem { path: vec![b'/', n], kind: ProblemKind::Vanished, message: "é".repeat(n.into()) })
            .collect();
        let mut stream = Vec::new();
        problems.iter().for_each(|problem| encode_problem(problem, &mut stream).unwrap());
        let (mut reader, mut found) = (ProblemReader::new(), Vec::new());
        for piece in stream.chunks(33) {
            reader.push(piece);
            while let Some(problem) = reader.next().unwrap() {
                found.push(problem);
            }
        }
        reader.finish().unwrap();
        assert_eq!(found, problems);
        let long = Problem { message: "x".repeat(TEXT_MAX + 1), ..problems[0].clone() };
        assert!(encode_problem(&long, &mut stream).is_err());
    }
}
