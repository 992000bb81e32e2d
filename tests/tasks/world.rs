//! A machine with a repository that a key file opens, two mirrors in directories, and something to back up.

use packstone::base::stop::{Stop, StopSignal};
use packstone::ops::{Item, Monitor, Phase, Problem};
use packstone::tasks::environment::Environment;
use packstone::tasks::environment::places::Places;
use packstone::tasks::environment::secret::{SecretPlaces, Secrets, Variables};
use packstone::tasks::failure::Failure;
use packstone::tasks::{backup, init, mirror, sync};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

pub const MIRRORS: [&str; 2] = ["one", "two"];

/// Keeps what it is told, and asks its signal.
#[derive(Default)]
pub struct Listener {
    pub problems: Mutex<Vec<String>>,
    pub phases: Mutex<Vec<Phase>>,
    pub stop: StopSignal,
}

impl Monitor for Listener {
    fn phase(&self, phase: Phase) {
        self.phases.lock().unwrap().push(phase);
    }
    fn expect(&self, _: u64, _: u64, _: bool) {}
    fn advance(&self, _: u64, _: u64) {}
    fn item(&self, _: &Item<'_>) {}
    fn problem(&self, problem: &Problem<'_>) {
        self.problems.lock().unwrap().push(problem.message.to_owned());
    }
    fn stop(&self) -> Option<Stop> {
        self.stop.get()
    }
}

pub struct World {
    root: tempfile::TempDir,
    pub listener: Listener,
}

impl World {
    /// With a repository and files, and no mirror yet.
    pub fn new() -> Self {
        let this = Self { root: tempfile::tempdir().unwrap(), listener: Listener::default() };
        let files = this.at("files");
        std::fs::create_dir(&files).unwrap();
        std::fs::write(files.join("small"), "small\n").unwrap();
        std::fs::write(files.join("large"), noise(3 << 20)).unwrap();
        let request =
            init::Request { new_key_file: Some(this.at("key")), no_recovery_code: true, ..init::Request::default() };
        init::run(&request, &this.environment(), &this.listener, &mut init::Unattended).unwrap();
        this
    }

    /// With both mirrors as well.
    pub fn with_mirrors() -> Self {
        let this = Self::new();
        for name in MIRRORS {
            let request = mirror::AddRequest {
                name: name.to_owned(),
                address: this.at(name).to_str().unwrap().to_owned(),
                ..mirror::AddRequest::default()
            };
            mirror::add(&request, &this.environment(), &this.listener, &|_| Ok(())).unwrap();
        }
        this
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// This machine's environment; the key file is the only secret, and nobody can be asked.
    pub fn environment(&self) -> Environment {
        self.environment_with(SecretPlaces { key_file: Some(self.at("key")), ..SecretPlaces::default() })
    }

    pub fn environment_with(&self, secret: SecretPlaces) -> Environment {
        let places = Places {
            repository: Some(self.at("repository")),
            repository_file: None,
            cache: Some(self.at("cache")),
            no_cache: false,
            state: Some(self.at("state")),
        };
        let mut environment = Environment::new(places, Secrets::new(secret, Variables::default()));
        environment.stop = self.listener.stop.clone();
        environment
    }

    pub fn back_up(&self) -> Result<backup::Report, Failure> {
        let request = backup::Request { paths: vec![self.at("files")], ..backup::Request::default() };
        backup::run(&request, &self.environment(), &self.listener)
    }

    pub fn sync(&self) -> Result<(), Failure> {
        let request = sync::Request { no_delete: false, ..sync::Request::default() };
        sync::run(&request, &self.environment(), &self.listener, &|_, _| Ok(()))?.into_result()
    }

    pub fn problems(&self) -> Vec<String> {
        std::mem::take(&mut *self.listener.problems.lock().unwrap())
    }
}

/// Bytes that do not compress, the same every time.
pub fn noise(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    bytes
}

/// All files below a directory with their contents.
pub fn contents(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(contents(&path));
        } else {
            found.push((path.strip_prefix(directory).unwrap().to_path_buf(), std::fs::read(&path).unwrap()));
        }
    }
    found.sort();
    found
}

/// The first pack of the repository.
pub fn a_pack(repository: &Path) -> PathBuf {
    let mut packs: Vec<PathBuf> = std::fs::read_dir(repository.join("packs"))
        .unwrap()
        .flat_map(|folder| std::fs::read_dir(folder.unwrap().path()).unwrap())
        .map(|entry| entry.unwrap().path())
        .collect();
    packs.sort_by_key(|path| std::cmp::Reverse(path.metadata().unwrap().len()));
    packs.swap_remove(0)
}
