//! Snapshots that no backup makes, written with the repository's own key by somebody who checks nothing. Each is small on disk.

use packstone::base::time::Time;
use packstone::codec::chunk_list::{ChunkList, ChunkRef, DEPTH_MAX, INLINE_MAX};
use packstone::codec::deletion_log::{DeletedKind, Deletion, encode_deletion};
use packstone::codec::key_tree::ChunkKind;
use packstone::codec::pack::PackKind;
use packstone::codec::snapshot::{self, Counts, Outcome, Problem, ProblemKind, Snapshot, Summary};
use packstone::codec::tree::{Content, Entry, Metadata, Node, Xattr};
use packstone::codec::{body, stream};
use packstone::repository::Repository;
use packstone::repository::pack_writer::PackOptions;
use packstone::repository::run::Run;

use super::repository::open_with_key_file;
use super::world::World;

/// Plain bytes of the longest chunk of a file.
const CHUNK_BYTES: usize = 16 << 20;
/// Of the longest one of a stream.
const PART_BYTES: usize = stream::CHUNK_MAX as usize;

/// What is wrong with a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Case {
    /// 15,360 problems of a mebibyte each, as many as the snapshot says.
    LongProblems,
    /// The same, and the snapshot says that there are 10.
    MoreProblems,
    /// A list of problems that ends after 2^60 of them, as the snapshot says.
    ProblemsWithoutEnd,
    /// A log of deletions that ends after 2^60 of them, as the snapshot says.
    DeletionsWithoutEnd,
    /// A file of one chunk of 16 MiB, named 1,024 times.
    OneChunkAgain,
    /// A directory with two equal ones, 60 times; the snapshot says that it has a hundred.
    Laughs,
    /// The same, and the snapshot says how many there are: every directory of it is as it should be.
    HonestLaughs,
    /// 5,000 directories, one in the other.
    Deep,
    /// A small file whose list of chunks unfolds eight times.
    ShortListWithoutEnd,
    /// The same file with a size that fits.
    LongListWithoutEnd,
    /// Directories, one in the other, with so much in each that what is open at once does not fit.
    FatAndDeep,
    /// A directory of long entries that are much alike.
    FatAndWide,
    /// A listing and a list of problems in chunks that are longer than those of any stream.
    LongParts,
}

pub const CASES: [Case; 13] = [
    Case::LongProblems,
    Case::MoreProblems,
    Case::ProblemsWithoutEnd,
    Case::DeletionsWithoutEnd,
    Case::OneChunkAgain,
    Case::Laughs,
    Case::HonestLaughs,
    Case::Deep,
    Case::ShortListWithoutEnd,
    Case::LongListWithoutEnd,
    Case::FatAndDeep,
    Case::FatAndWide,
    Case::LongParts,
];

impl Case {
    /// True where not all is well with the tree, so that no command that reads all of it may say so.
    pub fn is_broken(self) -> bool {
        !matches!(
            self,
            Self::LongProblems
                | Self::HonestLaughs
                | Self::MoreProblems
                | Self::ProblemsWithoutEnd
                | Self::DeletionsWithoutEnd
                | Self::FatAndDeep
                | Self::FatAndWide
        )
    }
}

pub fn open(world: &World) -> Repository {
    open_with_key_file(&world.path("repository"), &world.path("key"))
}

/// One chunk of a tree.
fn chunk(run: &mut Run<'_>, bytes: &[u8]) -> ChunkRef {
    ChunkRef { id: run.add_tree(bytes).unwrap(), length: bytes.len() as u32 }
}

/// A stream, cut without a look at it.
fn parts(run: &mut Run<'_>, bytes: &[u8]) -> Vec<ChunkRef> {
    bytes.chunks(PART_BYTES).map(|part| chunk(run, part)).collect()
}

/// A list of these chunks, as deep as it must be.
fn list(run: &mut Run<'_>, mut chunks: Vec<ChunkRef>) -> ChunkList {
    let mut depth = 0;
    while chunks.len() > INLINE_MAX {
        let mut bytes = Vec::new();
        chunks.iter().for_each(|chunk| chunk.write(&mut bytes));
        chunks = parts(run, &bytes);
        depth += 1;
    }
    ChunkList { depth, chunks }
}

fn bytes_of(entries: &[Entry]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in entries {
        stream::write_record("tree", &mut bytes, |out| body::encode_into("tree", entry, out)).unwrap();
    }
    bytes
}

/// A listing, with no rule checked.
fn listing(run: &mut Run<'_>, entries: &[Entry]) -> ChunkList {
    let chunks = parts(run, &bytes_of(entries));
    list(run, chunks)
}

fn entry(name: &str, node: Node) -> Entry {
    let metadata = Metadata { mode: 0o755, uid: rustix::process::geteuid().as_raw(), ..Metadata::default() };
    Entry { name: name.as_bytes().to_vec(), metadata, node }
}

fn directory(name: &str, listing: ChunkList) -> Entry {
    entry(name, Node::Directory { listing })
}

/// Records, as many as fit into so many bytes.
fn records(most: usize, mut record: impl FnMut(&mut Vec<u8>)) -> (Vec<u8>, u64) {
    let (mut bytes, mut count) = (Vec::new(), 0);
    loop {
        let before = bytes.len();
        record(&mut bytes);
        if bytes.len() > most {
            bytes.truncate(before);
            return (bytes, count);
        }
        count += 1;
    }
}

/// A list that names this chunk, through streams as deep as they may be.
fn without_end(run: &mut Run<'_>, mut named: ChunkRef) -> ChunkList {
    for _ in 0..DEPTH_MAX {
        let mut bytes = Vec::new();
        (0..PART_BYTES / ChunkRef::BYTES).for_each(|_| named.write(&mut bytes));
        named = chunk(run, &bytes);
    }
    ChunkList { depth: DEPTH_MAX, chunks: vec![named; INLINE_MAX] }
}

fn data(run: &mut Run<'_>, bytes: &[u8]) -> ChunkRef {
    let id = run.repository().keys().chunk_id(ChunkKind::Data, bytes);
    run.add(PackKind::Data, id, bytes).unwrap();
    ChunkRef { id, length: bytes.len() as u32 }
}

fn file(size: u64, chunks: ChunkList) -> Entry {
    entry("file", Node::File(Content { size, chunks, holes: Vec::new(), digest: Some([7; 32]) }))
}

fn long_problem() -> Problem {
    let path = b"/long".repeat(snapshot::PATH_MAX / 5);
    Problem { path, kind: ProblemKind::Unreadable, message: "unreadable".to_owned() }
}

/// 15 problems of a mebibyte each, and those so often.
fn long_problems(run: &mut Run<'_>, times: usize) -> (ChunkList, u64) {
    let (bytes, count) = records(CHUNK_BYTES, |bytes| snapshot::encode_problem(&long_problem(), bytes).unwrap());
    let chunks = parts(run, &bytes).repeat(times);
    (list(run, chunks), count * times as u64)
}

/// A file with attributes of a mebibyte in all.
fn fat(name: &str) -> Entry {
    let mut fat = entry(name, Node::File(Content::default()));
    let value = vec![0; 60_000];
    fat.metadata.xattrs =
        (0..17).map(|n| Xattr { name: format!("user.{n:02}").into_bytes(), value: value.clone() }).collect();
    fat
}

/// Makes the newest snapshot of the world's repository such a one.
pub fn make(world: &World, case: Case) {
    let repository = open(world);
    let mut whole = Run::begin(&repository, PackOptions { verify: false, ..PackOptions::default() }).unwrap();
    let run = &mut whole;
    let some = Counts { files: 100, directories: 100, others: 100, bytes: 1 << 20 };
    let mut snapshot = Snapshot {
        time: Time::now(),
        written: Time::now(),
        host: "hostile".to_owned(),
        user: String::new(),
        paths: vec![world.path("tree").into_os_string().into_encoded_bytes()],
        label: String::new(),
        tags: Vec::new(),
        held: false,
        root: ChunkList::default(),
        parent: None,
        original: None,
        outcome: Outcome::Partial,
        problems: ChunkList::default(),
        problem_count: 0,
        deleted: ChunkList::default(),
        deleted_count: 0,
        counts: Counts::default(),
        summary: Summary::default(),
        options: Vec::new(),
        program: "nobody".to_owned(),
    };
    match case {
        Case::LongProblems => (snapshot.problems, snapshot.problem_count) = long_problems(run, INLINE_MAX),
        Case::MoreProblems => (snapshot.problems, snapshot.problem_count) = (long_problems(run, INLINE_MAX).0, 10),
        Case::ProblemsWithoutEnd => {
            let problem = Problem { path: b"x".to_vec(), ..long_problem() };
            let (bytes, _) = records(PART_BYTES, |bytes| snapshot::encode_problem(&problem, bytes).unwrap());
            let named = chunk(run, &bytes);
            (snapshot.problems, snapshot.problem_count) = (without_end(run, named), 1 << 60);
        }
        Case::DeletionsWithoutEnd => {
            let deletion = Deletion {
                path: b"x".to_vec(),
                kind: DeletedKind::File,
                size: 1,
                mtime: Time::now(),
                snapshot: packstone::base::id::ObjectId([1; 32]),
                snapshot_time: Time::now(),
                found: Time::now(),
            };
            let (bytes, _) = records(PART_BYTES, |bytes| encode_deletion(&deletion, bytes).unwrap());
            let named = chunk(run, &bytes);
            (snapshot.deleted, snapshot.deleted_count) = (without_end(run, named), 1 << 60);
        }
        Case::OneChunkAgain => {
            let named = data(run, &vec![0; CHUNK_BYTES]);
            let size = (CHUNK_BYTES * INLINE_MAX) as u64;
            let file = file(size, ChunkList { depth: 0, chunks: vec![named; INLINE_MAX] });
            snapshot.root = listing(run, &[file]);
            snapshot.counts = Counts { files: 1, bytes: size, ..Counts::default() };
        }
        Case::Laughs | Case::HonestLaughs => {
            for _ in 0..60 {
                let inner = snapshot.root.clone();
                snapshot.root = listing(run, &[directory("a", inner.clone()), directory("b", inner)]);
            }
            let all = Counts { directories: (1 << 61) - 2, ..Counts::default() };
            snapshot.counts = if case == Case::Laughs { some } else { all };
        }
        Case::Deep => {
            for _ in 0..5_000 {
                snapshot.root = listing(run, &[directory("d", snapshot.root.clone())]);
            }
            snapshot.counts = Counts { directories: 5_000, ..Counts::default() };
        }
        Case::ShortListWithoutEnd | Case::LongListWithoutEnd => {
            let named = data(run, b"x");
            let chunks = without_end(run, named);
            let size = if case == Case::LongListWithoutEnd { 1 << 60 } else { 5_000 };
            snapshot.root = listing(run, &[file(size, chunks)]);
            snapshot.counts = Counts { files: 1, bytes: size, ..Counts::default() };
        }
        Case::FatAndDeep => {
            let levels: u64 = if super::is_full() { 4_000 } else { 1_000 };
            let fat = [fat("f0"), fat("f1")];
            for _ in 0..levels {
                // The directory comes first: the rest of what was read lies open while it is gone through.
                let mut bytes = bytes_of(&[directory("a", snapshot.root.clone())]);
                bytes.extend(bytes_of(&fat));
                let chunks = parts(run, &bytes);
                snapshot.root = list(run, chunks);
            }
            snapshot.counts = Counts { files: 2 * levels, directories: levels, ..Counts::default() };
        }
        Case::FatAndWide => {
            let count: u64 = if super::is_full() { 1_000 } else { 300 };
            let mut chunks = Vec::new();
            for n in 0..count {
                chunks.extend(parts(run, &bytes_of(&[fat(&format!("f{n:04}"))])));
            }
            snapshot.root = list(run, chunks);
            snapshot.counts = Counts { files: count, ..Counts::default() };
        }
        Case::LongParts => {
            let fat: Vec<Entry> = (0..10).map(|n| fat(&format!("f{n}"))).collect();
            snapshot.root = ChunkList { depth: 0, chunks: vec![chunk(run, &bytes_of(&fat))] };
            snapshot.counts = Counts { files: 10, ..Counts::default() };
            let (bytes, count) =
                records(CHUNK_BYTES, |bytes| snapshot::encode_problem(&long_problem(), bytes).unwrap());
            let named = chunk(run, &bytes);
            snapshot.problems = ChunkList { depth: 0, chunks: vec![named; INLINE_MAX] };
            snapshot.problem_count = count * INLINE_MAX as u64;
        }
    }
    snapshot.outcome = if snapshot.problem_count == 0 { Outcome::Complete } else { Outcome::Partial };
    whole.publish(&snapshot).unwrap();
}
