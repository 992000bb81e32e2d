//! A repository in a temporary directory, and the shortest ways to back up and restore.

use packstone::base::stop::Stop;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use packstone::base::id::ObjectId;
use packstone::base::time::Time;
use packstone::codec::chunker::Parameters;
use packstone::codec::kdf::Params;
use packstone::codec::key_file::KeyFile;
use packstone::codec::key_slot::Secret;
use packstone::files::exclude::Excludes;
use packstone::files::pattern::Patterns;
use packstone::files::source::Sources;
use packstone::files::walk::Rules;
use packstone::ops::restore::{self, Options, Plan, Report, Selection};
use packstone::ops::select::{self, Filter, SnapshotRef};
use packstone::ops::{Item, Monitor, Phase, Problem, Silent, backup};
use packstone::repository::keyring::NewSlot;
use packstone::repository::lock::Locks;
use packstone::repository::pack_writer::PackOptions;
use packstone::repository::{Access, CreateOptions, Repository};
use packstone::storage::local::Local;

/// What only root can do is tested only as root.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Runs one test of this binary again as the user nobody, when this is root; the caller returns then. Otherwise false: the
/// test is run by an ordinary user already.
pub fn ran_as_ordinary_user(test: &str) -> bool {
    const NOBODY: u32 = 65_534;
    if !is_root() {
        return false;
    }
    let place = tempfile::tempdir().unwrap();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let binary = place.path().join("tests");
    // Not by this process: a child of another thread would inherit the copy while it is open for writing, and a file that is cannot
    // be run.
    let copied = Command::new("cp").arg(std::env::current_exe().unwrap()).arg(&binary).status();
    assert!(copied.unwrap().success());
    let output =
        Command::new(binary).args(["--exact", test]).uid(NOBODY).gid(NOBODY).current_dir("/").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}{}", String::from_utf8_lossy(&output.stderr));
    true
}

pub struct World {
    pub root: tempfile::TempDir,
    pub repository: Repository,
}

impl World {
    pub fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let place = root.path().join("repository");
        let secret = Self::secret();
        let access = Self::access(root.path(), Local::create(&place).unwrap());
        let slot = NewSlot { secret: &secret, kdf: Params::DEFAULT, label: "test", created: Time::now() };
        let options = CreateOptions { files: Parameters::FILES, created: Time::now() };
        let repository = Repository::create(access, &[slot], &options).unwrap();
        fs::create_dir(root.path().join("tree")).unwrap();
        Self { root, repository }
    }

    fn secret() -> Secret {
        Secret::KeyFile(KeyFile::generate(&[7; 32]))
    }

    fn access(root: &Path, storage: Local) -> Access {
        let place = root.join("repository");
        Access {
            storage: Arc::new(storage),
            locks: Locks::open(&place),
            place,
            cache: Some(root.join("cache")),
            remembered: None,
            retry_lock: Duration::ZERO,
        }
    }

    /// As another process would find it: blocks that were read are no longer at hand.
    pub fn reopen(&mut self) {
        let access = Self::access(self.root.path(), Local::open(&self.path("repository")).unwrap());
        self.repository = Repository::open(access, &Self::secret()).unwrap();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// The tree that is backed up.
    pub fn tree(&self) -> PathBuf {
        self.path("tree")
    }

    /// Writes a file beneath the tree, making its directories.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.tree().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    /// Backs the tree up by its absolute path.
    pub fn backup(&self) -> ObjectId {
        self.backup_with(&Silent)
    }

    pub fn backup_with(&self, monitor: &dyn Monitor) -> ObjectId {
        let sources = Sources::new(&[self.tree()], &Excludes::new()).unwrap();
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
            parent: None,
            unchanged: backup::scan::Unchanged::default(),
            skip_if_unchanged: false,
            allow_empty: false,
            readers: 2,
            packs: PackOptions::default(),
        };
        let rules = Rules::default();
        backup::run(&self.repository, sources, rules, &labels, &options, monitor).unwrap().snapshot.unwrap()
    }

    pub fn options(&self, target: &str) -> Options {
        Options::new(self.path(target))
    }

    /// Plans a restore of the tree's contents.
    pub fn plan(&self, snapshot: ObjectId, options: &Options, monitor: &dyn Monitor) -> packstone::ops::Result<Plan> {
        self.plan_part(snapshot, self.tree().as_os_str().as_bytes(), options, monitor)
    }

    pub fn plan_part(
        &self,
        snapshot: ObjectId,
        part: &[u8],
        options: &Options,
        monitor: &dyn Monitor,
    ) -> packstone::ops::Result<Plan> {
        let name = SnapshotRef::Prefix(snapshot.to_string());
        let chosen = select::one(&self.repository, &name, &Filter::default())?;
        let found = select::find_path(&self.repository, &chosen, part)?;
        restore::plan(&self.repository, &chosen, &found, options, monitor)
    }

    /// Restores the tree's contents.
    pub fn restore_with(
        &self,
        snapshot: ObjectId,
        options: &Options,
        monitor: &dyn Monitor,
    ) -> packstone::ops::Result<Report> {
        let plan = self.plan(snapshot, options, monitor)?;
        restore::execute(&self.repository, plan, monitor)
    }

    /// The same, and nothing may go wrong.
    pub fn restore(&self, snapshot: ObjectId, options: &Options) -> Report {
        let report = self.restore_with(snapshot, options, &Silent).unwrap();
        assert!(report.is_complete(), "{report:#?}");
        report
    }

    /// Differences between the tree and a directory.
    #[track_caller]
    pub fn assert_same(&self, target: &str) {
        let lines = super::tree::differences(&self.tree(), &self.path(target));
        assert!(lines.is_empty(), "{}", lines.join("\n"));
    }
}

/// Excludes.
pub fn without(patterns: &[&str]) -> Selection {
    let mut list = Patterns::new(false);
    patterns.iter().for_each(|pattern| list.add(pattern.as_bytes()).unwrap());
    Selection::new([Patterns::new(false), Patterns::new(true)], [list, Patterns::new(true)])
}

/// Includes.
pub fn only(patterns: &[&str]) -> Selection {
    let mut list = Patterns::new(false);
    patterns.iter().for_each(|pattern| list.add(pattern.as_bytes()).unwrap());
    Selection::new([list, Patterns::new(true)], [Patterns::new(false), Patterns::new(true)])
}

/// Bytes that do not compress and differ by `seed`.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// Calls back on what happens.
pub struct Hook<F: Fn(&Event<'_>) + Send + Sync> {
    pub call: F,
    /// Interrupts after so many bytes.
    pub bytes_left: AtomicU64,
}

pub enum Event<'a> {
    Phase(Phase),
    Item(&'a Item<'a>),
    Bytes,
}

impl<F: Fn(&Event<'_>) + Send + Sync> Hook<F> {
    pub fn new(call: F) -> Self {
        Self { call, bytes_left: AtomicU64::new(u64::MAX) }
    }
}

impl<F: Fn(&Event<'_>) + Send + Sync> Monitor for Hook<F> {
    fn phase(&self, phase: Phase) {
        (self.call)(&Event::Phase(phase));
    }

    fn expect(&self, _: u64, _: u64, _: bool) {}

    fn advance(&self, _: u64, bytes: u64) {
        let take = |left: u64| Some(left.saturating_sub(bytes));
        let _ = self.bytes_left.fetch_update(SeqCst, SeqCst, take);
        if bytes > 0 {
            (self.call)(&Event::Bytes);
        }
    }

    fn item(&self, item: &Item<'_>) {
        (self.call)(&Event::Item(item));
    }

    fn problem(&self, _: &Problem<'_>) {}

    fn stop(&self) -> Option<Stop> {
        (self.bytes_left.load(SeqCst) == 0).then_some(Stop::User)
    }
}

/// All names beneath a directory, sorted.
pub fn names(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![directory.to_path_buf()];
    while let Some(at) = open.pop() {
        for entry in fs::read_dir(&at).unwrap() {
            let entry = entry.unwrap();
            found.push(entry.path().strip_prefix(directory).unwrap().to_string_lossy().into_owned());
            if entry.file_type().unwrap().is_dir() {
                open.push(entry.path());
            }
        }
    }
    found.sort();
    found
}
