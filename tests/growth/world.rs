//! A repository in a directory, used through the library.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use packstone::base::id::ObjectId;
use packstone::base::time::Time;
use packstone::codec::chunker::Parameters;
use packstone::codec::kdf::Params;
use packstone::codec::key_file::KeyFile;
use packstone::codec::key_slot::Secret;
use packstone::codec::pack::PackKind;
use packstone::codec::tree::Node;
use packstone::files::exclude::Excludes;
use packstone::files::source::Sources;
use packstone::files::walk::Rules;
use packstone::ops::{Monitor, Silent, backup};
use packstone::repository::keyring::NewSlot;
use packstone::repository::list_reader::{Chunks, Listing};
use packstone::repository::lock::Locks;
use packstone::repository::pack_writer::PackOptions;
use packstone::repository::{Access, CreateOptions, Repository};
use packstone::storage::Storage;
use packstone::storage::local::Local;
use packstone::storage::memory::Memory;

pub fn is_full() -> bool {
    std::env::var_os("PACKSTONE_FULL").is_some_and(|value| value == "1")
}

/// Says that a test could not be run, and why.
pub fn skipped(test: &str, why: &str) {
    println!("SKIPPED {test}: {why}");
}

pub struct World {
    _folder: tempfile::TempDir,
    pub repository: Repository,
    pub place: PathBuf,
    pub tree: PathBuf,
}

impl World {
    /// Repository and tree beneath the system's temporary folder.
    pub fn new() -> Self {
        Self::within(&std::env::temp_dir())
    }

    /// Repository and tree beneath `folder`.
    pub fn within(folder: &Path) -> Self {
        let folder = tempfile::tempdir_in(folder).unwrap();
        let storage = Arc::new(Local::create(&folder.path().join("repository")).unwrap());
        Self::with(folder, storage)
    }

    /// The repository is in memory: a backup of little takes no longer than a tick of the clock.
    pub fn in_memory() -> Self {
        Self::with(tempfile::tempdir().unwrap(), Arc::new(Memory::default()))
    }

    fn with(folder: tempfile::TempDir, storage: Arc<dyn Storage>) -> Self {
        let (place, tree) = (folder.path().join("repository"), folder.path().join("tree"));
        fs::create_dir(&tree).unwrap();
        let on_disk = place.exists();
        let secret = Secret::KeyFile(KeyFile::generate(&[1; 32]));
        let access = Access {
            storage,
            locks: if on_disk { Locks::open(&place) } else { Locks::none() },
            place: place.clone(),
            cache: on_disk.then(|| folder.path().join("cache")),
            remembered: None,
            retry_lock: Duration::ZERO,
        };
        let slot = NewSlot { secret: &secret, kdf: Params::DEFAULT, label: "", created: Time::now() };
        let options = CreateOptions { files: Parameters::FILES, created: Time::now() };
        let repository = Repository::create(access, &[slot], &options).unwrap();
        Self { _folder: folder, repository, place, tree }
    }

    pub fn write(&self, name: &str, content: &[u8]) {
        let path = self.tree.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub fn backup(&self) -> backup::Report {
        self.backup_of(&self.tree, &Silent)
    }

    /// Backs up what lies in `path`, without the folders that lead to it, on top of the newest snapshot.
    pub fn backup_of(&self, path: &Path, monitor: &dyn Monitor) -> backup::Report {
        self.backup_on(self.repository.snapshots().unwrap().last().map(|(id, _)| *id), path, monitor)
    }

    /// The same, on top of the snapshot that is given.
    pub fn backup_on(&self, parent: Option<ObjectId>, path: &Path, monitor: &dyn Monitor) -> backup::Report {
        let sources = Sources::new_in(path, &[PathBuf::from(".")], &Excludes::new()).unwrap();
        let labels = backup::Labels {
            time: None,
            host: "host".to_owned(),
            user: "user".to_owned(),
            label: String::new(),
            tags: Vec::new(),
            paths: sources.paths.clone(),
            options: Vec::new(),
        };
        let options = backup::Options {
            parent,
            unchanged: backup::scan::Unchanged::default(),
            skip_if_unchanged: false,
            allow_empty: false,
            readers: 2,
            packs: PackOptions::default(),
        };
        backup::run(&self.repository, sources, Rules::default(), &labels, &options, monitor).unwrap()
    }

    /// Every file of a snapshot with its content; directories are left out.
    pub fn files(&self, id: ObjectId) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        let mut open = vec![(String::new(), self.repository.snapshot(id).unwrap().root)];
        while let Some((path, list)) = open.pop() {
            for entry in Listing::new(&self.repository, list) {
                let entry = entry.unwrap();
                let path = format!("{path}/{}", String::from_utf8(entry.name).unwrap());
                match entry.node {
                    Node::Directory { listing } => open.push((path, listing)),
                    Node::File(content) => {
                        let mut bytes = Vec::new();
                        for chunk in Chunks::new(&self.repository, content.chunks) {
                            let chunk = self.repository.chunk(PackKind::Data, &chunk.unwrap());
                            bytes.extend_from_slice(&chunk.unwrap());
                        }
                        files.insert(path, bytes);
                    }
                    _ => {}
                }
            }
        }
        files
    }

    /// Bytes of all objects on disk.
    pub fn stored(&self) -> u64 {
        bytes_beneath(&self.place)
    }
}

/// Lengths of all files beneath a folder.
pub fn bytes_beneath(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    let bytes = |entry: fs::DirEntry| {
        let metadata = entry.metadata().unwrap();
        if metadata.is_dir() { bytes_beneath(&entry.path()) } else { metadata.len() }
    };
    entries.map(bytes).sum()
}
