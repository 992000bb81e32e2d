//! A small repository with two snapshots, and copies of it to be harmed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::repository::lengthen_state;
use packstone::base::id::ObjectId;
use packstone::base::time::Time;
use packstone::codec::chunk_list::ChunkList;
use packstone::codec::chunker::Parameters;
use packstone::codec::kdf::Params;
use packstone::codec::key_file::KeyFile;
use packstone::codec::key_slot::Secret;
use packstone::codec::pack::PackKind;
use packstone::codec::segment::SegmentPack;
use packstone::codec::tree::Node;
use packstone::files::exclude::Excludes;
use packstone::files::source::Sources;
use packstone::files::walk::Rules;
use packstone::ops::{self, Silent, backup, check};
use packstone::repository::keyring::NewSlot;
use packstone::repository::list_reader::{Chunks, Listing};
use packstone::repository::lock::Locks;
use packstone::repository::pack_writer::PackOptions;
use packstone::repository::remembered::Remembered;
use packstone::repository::{self, Access, CreateOptions, Repository, index};
use packstone::storage::ObjectName;
use packstone::storage::local::Local;

/// SplitMix64: bytes that are the same in every run, and that do not shrink.
pub struct Noise(pub u64);

impl Noise {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..length.div_ceil(8)).flat_map(|_| self.next().to_le_bytes()).collect();
        bytes.truncate(length);
        bytes
    }
}

pub fn secret(number: u8) -> Secret {
    Secret::KeyFile(KeyFile::generate(&[number; 32]))
}

/// Makes a repository with two key files, 1 and 2.
pub fn create(access: Access) -> Repository {
    let (one, two) = (secret(1), secret(2));
    let slot = |secret, label| NewSlot { secret, kdf: Params::DEFAULT, label, created: Time::from_seconds(1) };
    let files = Parameters { min: 2 << 10, average: 8 << 10, max: 32 << 10 };
    let options = CreateOptions { files, created: Time::from_seconds(1) };
    Repository::create(access, &[slot(&one, "one"), slot(&two, "two")], &options).unwrap()
}

/// Backs a folder up, on top of the newest snapshot.
pub fn back_up(repository: &Repository, source: &Path) -> ops::Result<ObjectId> {
    let sources = Sources::new(&[source.to_path_buf()], &Excludes::new())?;
    let labels = backup::Labels {
        time: None,
        host: "host".into(),
        user: "user".into(),
        label: String::new(),
        tags: Vec::new(),
        paths: vec![b"/source".to_vec()],
        options: Vec::new(),
    };
    let parent = repository.snapshots().unwrap().into_iter().rev().find(|(_, snapshot)| snapshot.is_ok());
    let options = backup::Options {
        parent: parent.map(|(id, _)| id),
        unchanged: backup::scan::Unchanged::default(),
        skip_if_unchanged: false,
        allow_empty: false,
        readers: 1,
        packs: PackOptions::default(),
    };
    let report = backup::run(repository, sources, Rules::default(), &labels, &options, &Silent)?;
    Ok(report.snapshot.expect("no dry run"))
}

/// What is in the source: its files by their paths below it.
pub type Contents = BTreeMap<String, Vec<u8>>;

pub fn write(folder: &Path, name: &str, bytes: &[u8]) {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, bytes).unwrap();
    // Long ago, so that the next backup may take it over unread.
    let file = fs::File::options().write(true).open(&path).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)).unwrap();
}

fn contents(folder: &Path, below: &Path, all: &mut Contents) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            contents(&path, below, all);
        } else {
            let name = path.strip_prefix(below).unwrap().to_str().unwrap().to_owned();
            all.insert(name, fs::read(&path).unwrap());
        }
    }
}

/// The files of the first snapshot.
pub fn fill(folder: &Path, noise: &mut Noise) {
    write(folder, "keep/one.bin", &noise.bytes(60_000));
    write(folder, "keep/deep/er/text", &b"packstone ".repeat(3_000));
    write(folder, "empty", b"");
}

/// What the second one has beside them.
pub const LATER: &str = "later/two.bin";

pub fn add_later(folder: &Path, noise: &mut Noise) {
    write(folder, LATER, &noise.bytes(90_000));
}

/// What one run has stored.
#[derive(Debug, Clone)]
pub struct Stored {
    pub snapshot: ObjectId,
    pub segment: ObjectId,
    pub data: SegmentPack,
    pub tree: SegmentPack,
    pub contents: Contents,
}

/// The repository that all copies are taken from.
pub struct Template {
    folder: tempfile::TempDir,
    pub source: PathBuf,
    /// What the two runs have stored.
    pub runs: Vec<Stored>,
    /// The live key slots: of key file 1, of key file 2.
    pub slots: Vec<ObjectId>,
    /// Heads by generation: 1 is the checkpoint.
    pub heads: Vec<ObjectName>,
    /// Another repository of the same make: its config and its cache.
    pub stranger: PathBuf,
}

fn access(folder: &Path, fresh: bool, remembers: bool) -> Access {
    let place = folder.join("repository");
    let storage = if fresh { Local::create(&place).unwrap() } else { Local::open(&place).unwrap() };
    Access {
        storage: Arc::new(storage),
        locks: Locks::open(&place),
        place,
        cache: Some(folder.join("cache")),
        remembered: remembers.then(|| Remembered::new(folder.join("state"))),
        retry_lock: Duration::ZERO,
    }
}

impl Template {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut noise = Noise(11);
        let source = folder.path().join("source");
        let (home, stranger) = (folder.path().join("own"), folder.path().join("stranger"));
        for path in [&source, &home, &stranger] {
            fs::create_dir(path).unwrap();
        }
        fill(&source, &mut noise);
        let repository = create(access(&home, true, true));
        lengthen_state(&repository);
        let mut runs: Vec<Stored> = Vec::new();
        for run in 0..2 {
            if run == 1 {
                add_later(&source, &mut noise);
            }
            std::thread::sleep(Duration::from_millis(50));
            let before: BTreeSet<ObjectId> = repository.tip().state.segments.keys().copied().collect();
            let snapshot = back_up(&repository, &source).unwrap();
            let tip = repository.tip();
            let (segment, length) = tip.state.segments.iter().find(|(id, _)| !before.contains(id)).unwrap();
            let opened = index::read_segment(repository.storage(), repository.keys(), *segment, *length, 1).unwrap();
            let pack = |kind| opened.packs.iter().find(|pack| pack.kind == kind).unwrap().clone();
            let mut found = Contents::new();
            contents(&source, &source, &mut found);
            runs.push(Stored {
                snapshot,
                segment: *segment,
                data: pack(PackKind::Data),
                tree: pack(PackKind::Tree),
                contents: found,
            });
        }
        let slots = repository.slots();
        let slot = |label: &str| slots.iter().find(|slot| slot.label == label).unwrap().id;
        let mut heads: Vec<ObjectName> = repository
            .storage()
            .list(packstone::storage::Folder::Heads)
            .unwrap()
            .into_iter()
            .map(|head| head.name)
            .collect();
        heads.sort_unstable();
        // The checkpoint, and those that build on it.
        heads.drain(..heads.len() - 3);
        let other = create(access(&stranger, true, false));
        back_up(&other, &source).unwrap();
        Self { source, runs, slots: vec![slot("one"), slot("two")], heads, stranger, folder }
    }

    /// A copy that can be harmed.
    pub fn copy(&self) -> Copy {
        let folder = tempfile::tempdir().unwrap();
        copy_folder(&self.folder.path().join("own"), folder.path());
        Copy { folder }
    }

    /// The file of an object, in the template.
    pub fn file(&self, name: &ObjectName) -> PathBuf {
        self.folder.path().join("own/repository").join(name.to_string())
    }
}

fn copy_folder(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            fs::create_dir(&target).unwrap();
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), &target).unwrap();
        }
    }
}

/// One copy of the repository, with its cache and this machine's memory.
pub struct Copy {
    folder: tempfile::TempDir,
}

impl Copy {
    pub fn repository(&self) -> PathBuf {
        self.folder.path().join("repository")
    }

    pub fn file(&self, name: &ObjectName) -> PathBuf {
        self.repository().join(name.to_string())
    }

    /// The files of the cache.
    pub fn cache_file(&self, name: &str) -> PathBuf {
        let folder = fs::read_dir(self.folder.path().join("cache")).unwrap().next().unwrap().unwrap();
        folder.path().join(name)
    }

    /// Forgets what this machine remembers.
    pub fn forget(&self) {
        let _ = fs::remove_dir_all(self.folder.path().join("state"));
    }

    pub fn open(&self) -> repository::Result<Repository> {
        Repository::open(access(self.folder.path(), false, true), &secret(1))
            .or_else(|_| Repository::open(access(self.folder.path(), false, true), &secret(2)))
    }
}

/// One file of a snapshot, or one directory that cannot be listed (its path ends with `/`).
pub type Restored = (String, Result<Vec<u8>, repository::Error>);

/// Reads every file of a snapshot.
pub fn read_all(repository: &Repository, source: &Path, root: ChunkList) -> Vec<Restored> {
    let below = format!("{}/", source.to_str().unwrap());
    let mut found = Vec::new();
    let mut stack = vec![(String::from("/"), root)];
    while let Some((path, list)) = stack.pop() {
        for entry in Listing::new(repository, list) {
            match entry {
                Ok(entry) => {
                    let path = format!("{path}{}", String::from_utf8(entry.name).unwrap());
                    match entry.node {
                        Node::File(content) => {
                            let name = path.strip_prefix(&below).expect("everything is below the source").to_owned();
                            let bytes: Result<Vec<Vec<u8>>, _> = Chunks::new(repository, content.chunks)
                                .map(|chunk| Ok(repository.chunk(PackKind::Data, &chunk?)?.to_vec()))
                                .collect();
                            found.push((name, bytes.map(|pieces| pieces.concat())));
                        }
                        Node::Directory { listing } => stack.push((format!("{path}/"), listing)),
                        _ => {}
                    }
                }
                Err(error) => {
                    found.push((path.clone(), Err(error)));
                    break;
                }
            }
        }
    }
    found
}

/// Checks everything, packs' contents included.
pub fn check_all(repository: &Repository) -> check::Report {
    let options = check::Options { data: check::Data::All, seed: 1, whole_cache: true };
    check::run(repository, &options, &Silent).unwrap()
}

/// Checks all but the packs' contents.
pub fn check_structure(repository: &Repository) -> check::Report {
    check::run(repository, &check::Options::default(), &Silent).unwrap()
}
