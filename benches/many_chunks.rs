//! How much memory a prune takes in a repository of very many chunks.
//!
//! Makes a repository with COUNT distinct chunks of a few bytes each, a hundred a file and a hundred files a directory, and
//! one forgotten snapshot; then runs the program's `prune` on it (it marks, and has nothing to rewrite), first with an empty cache
//! and then again, and prints the peak memory of each.
//!
//!     cargo bench --bench many_chunks -- --make DIR COUNT
//!
//! Ten million chunks take about 2 GB in DIR and some minutes.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use packstone::base::id::ObjectId;
use packstone::base::time::Time;
use packstone::codec::chunk_list::{ChunkList, ChunkRef};
use packstone::codec::chunker::Parameters;
use packstone::codec::kdf::Params;
use packstone::codec::key_file::KeyFile;
use packstone::codec::key_slot::Secret;
use packstone::codec::key_tree::ChunkKind;
use packstone::codec::live_state::MarkedKind;
use packstone::codec::pack::PackKind;
use packstone::codec::snapshot::{Counts, Outcome, Snapshot, Summary};
use packstone::codec::tree::{Content, Entry, Metadata, Node};
use packstone::repository::keyring::NewSlot;
use packstone::repository::list_writer::{ChunkListWriter, StreamWriter};
use packstone::repository::lock::Locks;
use packstone::repository::pack_writer::PackOptions;
use packstone::repository::run::Run;
use packstone::repository::{Access, CreateOptions, Repository};
use packstone::storage::local::Local;

/// Chunks of a file, files of a directory.
const EACH: u64 = 100;

fn create(place: &Path, key: KeyFile) -> Repository {
    let access = Access {
        storage: Arc::new(Local::create(place).unwrap()),
        locks: Locks::open(place),
        place: place.to_path_buf(),
        cache: None,
        remembered: None,
        retry_lock: Duration::ZERO,
    };
    let secret = Secret::KeyFile(key);
    let slot = NewSlot { secret: &secret, kdf: Params::DEFAULT, label: "", created: Time::now() };
    Repository::create(access, &[slot], &CreateOptions { files: Parameters::FILES, created: Time::now() }).unwrap()
}

fn file(run: &mut Run<'_>, numbers: std::ops::Range<u64>) -> Content {
    let mut chunks = ChunkListWriter::default();
    let mut digest = blake3::Hasher::new();
    let mut size = 0;
    for number in numbers {
        let bytes = number.to_le_bytes();
        let id = run.repository().keys().chunk_id(ChunkKind::Data, &bytes);
        run.add(PackKind::Data, id, &bytes).unwrap();
        chunks.push(ChunkRef { id, length: bytes.len() as u32 }, run).unwrap();
        digest.update(&bytes);
        size += bytes.len() as u64;
    }
    let digest = Some(Content::digest_of(digest, &[]));
    Content { size, chunks: chunks.finish(run).unwrap(), holes: Vec::new(), digest }
}

fn directory(run: &mut Run<'_>, entries: impl Iterator<Item = Node>) -> ChunkList {
    let mut listing = StreamWriter::default();
    for (number, node) in entries.enumerate() {
        let metadata = Metadata { mode: 0o644, links: 1, ..Metadata::default() };
        listing.push_entry(run, &Entry { name: format!("{number:09}").into_bytes(), metadata, node }).unwrap();
    }
    listing.finish(run).unwrap()
}

/// Saves the chunks of these numbers.
fn save(repository: &Repository, numbers: std::ops::Range<u64>) -> ObjectId {
    let mut run = Run::begin(repository, PackOptions::default()).unwrap();
    let per_directory = EACH * EACH;
    let mut listings = Vec::new();
    let mut start = numbers.start;
    while start < numbers.end {
        let end = numbers.end.min(start + per_directory);
        let mut files = Vec::new();
        for first in (start..end).step_by(EACH as usize) {
            files.push(Node::File(file(&mut run, first..end.min(first + EACH))));
        }
        listings.push(directory(&mut run, files.into_iter()));
        start = end;
    }
    let directories = listings.len() as u64;
    let root = directory(&mut run, listings.into_iter().map(|listing| Node::Directory { listing }));
    let count = numbers.end - numbers.start;
    let snapshot = Snapshot {
        time: Time::now(),
        written: Time::now(),
        host: "bench".to_owned(),
        user: "bench".to_owned(),
        paths: vec![b"/many".to_vec()],
        label: String::new(),
        tags: Vec::new(),
        held: false,
        root,
        parent: None,
        original: None,
        outcome: Outcome::Complete,
        problems: ChunkList::default(),
        problem_count: 0,
        deleted: ChunkList::default(),
        deleted_count: 0,
        counts: Counts { files: count.div_ceil(EACH), directories, others: 0, bytes: count * 8 },
        summary: Summary::default(),
        options: Vec::new(),
        program: "many_chunks".to_owned(),
    };
    run.publish(&snapshot).unwrap().0
}

/// Runs the program; its peak memory in KiB.
fn run(folder: &Path, words: &[&str]) -> u64 {
    let mut command = Command::new(env!("CARGO_BIN_EXE_packstone"));
    command.args(words).env_clear().env("HOME", folder.join("home")).stdin(Stdio::null());
    command.env("PACKSTONE_REPOSITORY", folder.join("repository")).env("PACKSTONE_KEY_FILE", folder.join("key"));
    let began = Instant::now();
    let mut child = command.spawn().unwrap();
    let mut peak = 0;
    let status = loop {
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let found = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
        peak = peak.max(found.unwrap_or(0));
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    assert!(status.success(), "{words:?}: {status}");
    println!("{words:?}: peak {} MiB, {:.1} s", peak >> 10, began.elapsed().as_secs_f64());
    peak
}

fn main() {
    let words: Vec<String> = std::env::args().skip_while(|word| word != "--make").collect();
    let [_, folder, count, ..] = words.as_slice() else {
        println!("many_chunks: cargo bench --bench many_chunks -- --make DIR COUNT");
        return;
    };
    let (folder, count) = (Path::new(folder), count.parse::<u64>().expect("a number of chunks"));
    fs::create_dir_all(folder.join("home")).unwrap();
    let key = KeyFile::generate(&[5; 32]);
    fs::write(folder.join("key"), key.encode().as_bytes()).unwrap();
    let began = Instant::now();
    let repository = create(&folder.join("repository"), key);
    save(&repository, 0..count);
    let forgotten = save(&repository, count..count + EACH * EACH);
    repository
        .append(|state, since| {
            state.mark(forgotten, MarkedKind::Snapshot, since);
            Ok(())
        })
        .unwrap();
    drop(repository);
    println!("{count} chunks and {} more: made in {:.0} s", EACH * EACH, began.elapsed().as_secs_f64());
    run(folder, &["prune", "--dry-run"]);
    run(folder, &["prune", "--max-unused", "unlimited"]);
    run(folder, &["prune", "--max-unused", "unlimited"]);
}
