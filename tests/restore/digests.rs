//! Files whose chunks are all right and whose digest is not: in another order, one too often, with other holes. A reader that
//! looks at chunks alone gives them back without a word; `check --read-data` and `restore` do not.

use std::collections::BTreeSet;
use std::fs;

use packstone::base::id::ObjectId;
use packstone::codec::chunk_list::ChunkRef;
use packstone::codec::key_tree::ChunkKind;
use packstone::codec::pack::PackKind;
use packstone::codec::snapshot::Counts;
use packstone::codec::tree::{Content, Entry, Hole, Node};
use packstone::ops::Silent;
use packstone::ops::check::{self, Data};
use packstone::ops::restore::execute;
use packstone::repository::list_writer::ChunkListWriter;
use packstone::repository::pack_writer::PackOptions;
use packstone::repository::run::Run;

use super::hostile::{entry, listing, publish};
use super::world::{World, noise};

const MIB: usize = 1 << 20;

/// One file: what is stored, and what the digest says.
struct File {
    name: &'static str,
    /// Seeds of its chunks, in the order in which they are stored.
    stored: Vec<u64>,
    /// In the order in which they were read.
    read: Vec<u64>,
    chunk_bytes: usize,
    /// A hole of so many bytes behind all data, and what the digest takes it for.
    hole: (u64, u64),
}

impl File {
    fn new(name: &'static str, chunk_bytes: usize, stored: Vec<u64>, read: Vec<u64>) -> Self {
        Self { name, stored, read, chunk_bytes, hole: (0, 0) }
    }

    fn is_wrong(&self) -> bool {
        self.stored != self.read || self.hole.0 != self.hole.1
    }

    fn entry(&self, run: &mut Run<'_>) -> Entry {
        let mut list = ChunkListWriter::default();
        let mut data = blake3::Hasher::new();
        for seed in &self.stored {
            let bytes = noise(*seed, self.chunk_bytes);
            let id = run.repository().keys().chunk_id(ChunkKind::Data, &bytes);
            run.add(PackKind::Data, id, &bytes).unwrap();
            list.push(ChunkRef { id, length: bytes.len() as u32 }, run).unwrap();
        }
        for seed in &self.read {
            data.update(&noise(*seed, self.chunk_bytes));
        }
        let start = (self.stored.len() * self.chunk_bytes) as u64;
        let hole = |length| if length == 0 { Vec::new() } else { vec![Hole { offset: start, length }] };
        let (holes, other) = (hole(self.hole.0), hole(self.hole.1));
        let chunks = list.finish(run).unwrap();
        let mut content = Content { size: start + self.hole.0, chunks, holes, digest: None };
        content.digest = content.needs_digest().then(|| Content::digest_of(data, &other));
        entry(self.name.as_bytes(), Node::File(content))
    }

    fn content(&self) -> Vec<u8> {
        let mut bytes: Vec<u8> = self.stored.iter().flat_map(|seed| noise(*seed, self.chunk_bytes)).collect();
        bytes.resize(bytes.len() + self.hole.0 as usize, 0);
        bytes
    }
}

/// Every shape, right and wrong.
fn files() -> Vec<File> {
    let long: Vec<u64> = (100..112).collect();
    let mut long_wrong: Vec<u64> = (200..212).collect();
    let read = long_wrong.clone();
    long_wrong.swap(10, 11);
    let many: Vec<u64> = (10_000..11_100).collect();
    let mut many_wrong: Vec<u64> = (20_000..21_100).collect();
    let many_read = many_wrong.clone();
    many_wrong.swap(1_098, 1_099);
    vec![
        File::new("01 two chunks", 900, vec![1, 2], vec![1, 2]),
        File::new("02 swapped", 900, vec![4, 3], vec![3, 4]),
        File::new("03 one twice", 900, vec![5, 5], vec![5, 6]),
        File { hole: (4_096, 4_096), ..File::new("04 a hole", 900, vec![7], vec![7]) },
        File { hole: (4_096, 8_192), ..File::new("05 another hole", 900, vec![8], vec![8]) },
        File { hole: (4_096, 4_096), ..File::new("06 nothing but a hole", 900, vec![], vec![]) },
        File { hole: (4_096, 1), ..File::new("07 nothing but another hole", 900, vec![], vec![]) },
        File::new("08 many blocks", MIB, long.clone(), long.clone()),
        File::new("09 many blocks, swapped at the end", MIB, long_wrong, read),
        File::new("10 shared in another order", MIB, vec![111, 103, 107], vec![111, 103, 107]),
        File::new("11 shared in a wrong order", MIB, vec![110, 101, 106], vec![101, 106, 110]),
        File::new("12 a list of chunks of its own", 700, many.clone(), many),
        File::new("13 the same, swapped at the end", 700, many_wrong, many_read),
        File::new("14 one chunk needs no digest", 900, vec![9], vec![9]),
    ]
}

/// Packs of 4 MiB, so that the long files lie in several.
fn stored(world: &World, files: &[File]) -> ObjectId {
    let mut run = Run::begin(&world.repository, PackOptions { pack_bytes: 4 << 20, ..PackOptions::default() }).unwrap();
    let entries: Vec<Entry> = files.iter().map(|file| file.entry(&mut run)).collect();
    let root = listing(&mut run, &entries);
    let bytes = files.iter().map(|file| file.content().len() as u64).sum();
    publish(run, root, Counts { files: files.len() as u64, directories: 0, others: 0, bytes })
}

fn wrong(files: &[File]) -> BTreeSet<String> {
    files.iter().filter(|file| file.is_wrong()).map(|file| file.name.to_owned()).collect()
}

fn checked(world: &World, data: Data) -> check::Report {
    check::run(&world.repository, &check::Options { data, ..check::Options::default() }, &Silent).unwrap()
}

#[test]
fn check_names_every_file_with_a_wrong_digest() {
    let mut world = World::new();
    let files = files();
    let wrong = wrong(&files);
    assert_eq!(wrong.len(), 7);
    stored(&world, &files);
    world.reopen();
    let report = checked(&world, Data::None);
    assert!(report.findings.is_empty() && report.digests_compared == 0, "{report:#?}");
    let report = checked(&world, Data::All);
    assert_eq!((report.digests_compared, report.digests_not_compared), (13, 0));
    let [finding] = report.findings.as_slice() else { panic!("{report:#?}") };
    let affected = finding.affected.as_ref().unwrap();
    assert!(finding.message.contains("digest") && affected.paths == wrong.len() as u64, "{finding:#?}");
    for (path, _) in &affected.first {
        let name = String::from_utf8_lossy(path).trim_start_matches('/').to_owned();
        assert!(wrong.contains(&name), "{name}");
    }
    // A part of the packs: every part compares what lies in it, and says how many it did not.
    let mut seen = 0;
    for part in 1..=4 {
        let report = checked(&world, Data::Part { part, parts: 4 });
        assert_eq!(report.digests_compared + report.digests_not_compared, 13, "{report:#?}");
        seen += report.digests_compared;
    }
    assert!(seen > 0, "small files lie in one pack");
}

#[test]
fn check_finds_nothing_where_nothing_is() {
    let mut world = World::new();
    let files: Vec<File> = files().into_iter().filter(|file| !file.is_wrong()).collect();
    stored(&world, &files);
    // The same again: each distinct content is compared once.
    stored(&world, &files);
    world.reopen();
    let report = checked(&world, Data::All);
    assert!(report.findings.is_empty(), "{report:#?}");
    assert_eq!((report.digests_compared, report.digests_not_compared), (6, 0));
}

#[test]
fn restore_leaves_out_what_is_not_what_was_backed_up() {
    let mut world = World::new();
    let files = files();
    let snapshot = stored(&world, &files);
    world.reopen();
    let mut options = world.options("out");
    let plan = world.plan_part(snapshot, b"/", &options, &Silent).unwrap();
    let report = execute(&world.repository, plan, &Silent).unwrap();
    let named: BTreeSet<String> = report
        .problems
        .iter()
        .map(|problem| String::from_utf8_lossy(&problem.path).trim_start_matches('/').to_owned())
        .collect();
    // What shares chunks in another order is compared when it happens to be at hand in order, and counted when not.
    let shared = |name: &str| name.contains("shared");
    let unseen = files.iter().filter(|file| shared(file.name) && !named.contains(file.name)).count() as u64;
    assert!(report.not_compared <= unseen, "{report:#?}");
    for file in &files {
        let found = fs::read(world.path("out").join(file.name)).ok();
        if file.is_wrong() && !(shared(file.name) && report.not_compared > 0) {
            assert!(found.is_none() && named.contains(file.name), "{}: {report:#?}", file.name);
        } else if !file.is_wrong() {
            assert!(found == Some(file.content()) && !named.contains(file.name), "{}", file.name);
        }
    }
    assert_eq!(report.damage_count, report.problem_count);
    // Read back, all of them are named.
    options.target = world.path("verified");
    options.verify = true;
    let plan = world.plan_part(snapshot, b"/", &options, &Silent).unwrap();
    let report = execute(&world.repository, plan, &Silent).unwrap();
    assert_eq!(report.damage_count, wrong(&files).len() as u64, "{report:#?}");
    assert_eq!(report.not_compared, 0);
}

/// Neither a damaged block nor a missing pack is taken for a wrong digest.
#[test]
fn what_cannot_be_read_is_no_wrong_digest() {
    let mut world = World::new();
    let files: Vec<File> = files().into_iter().filter(|file| !file.is_wrong()).collect();
    stored(&world, &files);
    let mut packs: Vec<_> = fs::read_dir(world.path("repository/packs"))
        .unwrap()
        .flat_map(|folder| fs::read_dir(folder.unwrap().path()).unwrap())
        .map(|pack| pack.unwrap().path())
        .collect();
    packs.sort_by_key(|pack| fs::metadata(pack).unwrap().len());
    let longest = packs.pop().unwrap();
    let mut bytes = fs::read(&longest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::remove_file(&longest).unwrap();
    fs::write(&longest, &bytes).unwrap();
    world.reopen();
    let report = checked(&world, Data::All);
    assert_eq!(report.findings.len(), 1, "{report:#?}");
    assert!(report.findings[0].pack.is_some(), "{report:#?}");
    fs::remove_file(&longest).unwrap();
    world.reopen();
    let report = checked(&world, Data::All);
    assert!(report.findings.iter().all(|finding| !finding.message.contains("digest")), "{report:#?}");
}
