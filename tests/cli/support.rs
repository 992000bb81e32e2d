//! A world of one's own for each test: home, repository, key file and source tree in one temporary directory.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Ran, packstone, repository};

/// One test's world. Everything lies beneath one directory and goes with it.
pub struct World {
    root: tempfile::TempDir,
}

impl World {
    /// An empty world.
    pub fn new() -> Self {
        Self::at(tempfile::tempdir().unwrap())
    }

    /// An empty world in a directory that is there.
    pub fn at(root: tempfile::TempDir) -> Self {
        for name in ["home", "tree"] {
            fs::create_dir(root.path().join(name)).unwrap();
        }
        Self { root }
    }

    /// A world with a repository at [`World::repository`] that opens with the key file [`World::key`].
    pub fn with_repository() -> Self {
        let world = Self::new();
        world.make_repository();
        world
    }

    /// Makes the repository and its key file.
    pub fn make_repository(&self) {
        let ran: Ran = self.bare(&["init", "--new-key-file", self.text(&self.key())]).output().unwrap().into();
        assert_eq!(ran.code, Some(0), "{}", ran.err);
    }

    /// Publishes heads with so much in their lists that those which follow are differences to a checkpoint: a small state is always
    /// written whole.
    pub fn lengthen_state(&self) {
        repository::lengthen_state(&repository::open_with_key_file(&self.repository(), &self.key()));
    }

    /// A world of its own with all that another one holds.
    pub fn copy(other: &Self) -> Self {
        let root = tempfile::tempdir().unwrap();
        let from = other.root.path().join(".");
        assert!(Command::new("cp").arg("-a").arg(from).arg(root.path()).status().unwrap().success());
        Self { root }
    }

    /// A path in the world.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// The repository.
    pub fn repository(&self) -> PathBuf {
        self.path("repository")
    }

    /// The key file.
    pub fn key(&self) -> PathBuf {
        self.path("key")
    }

    /// The tree that is backed up.
    pub fn tree(&self) -> PathBuf {
        self.path("tree")
    }

    /// A path as text.
    pub fn text<'a>(&self, path: &'a Path) -> &'a str {
        path.to_str().unwrap()
    }

    /// Writes a file beneath the tree, making its directories.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.tree().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// The program with this world's home and repository, and no secret.
    pub fn bare(&self, words: &[&str]) -> Command {
        let mut command = packstone(words);
        command
            .env("HOME", self.path("home"))
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("PACKSTONE_REPOSITORY", self.repository())
            .env("TZ", "UTC")
            .current_dir(self.root.path());
        command
    }

    /// The program with the key file too.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = self.bare(words);
        command.env("PACKSTONE_KEY_FILE", self.key());
        command
    }

    /// Runs it to the end.
    pub fn run(&self, words: &[&str]) -> Ran {
        self.command(words).output().unwrap().into()
    }

    /// Runs it and expects success.
    pub fn ok(&self, words: &[&str]) -> Ran {
        let ran = self.run(words);
        assert_eq!(ran.code, Some(0), "{words:?}\n{}\n{}", ran.out, ran.err);
        ran
    }

    /// Backs the tree up (as the relative path `tree`) and returns the snapshot's id.
    pub fn backup(&self) -> String {
        let ran = self.ok(&["backup", "--json", "tree"]);
        snapshot_id(&ran)
    }
}

/// Runs one test of this binary again as the user nobody, when this is root; the caller returns then. Otherwise false: the test is run by an
/// ordinary user already.
pub fn ran_as_ordinary_user(test: &str) -> bool {
    const NOBODY: u32 = 65_534;
    if !rustix::process::geteuid().is_root() {
        return false;
    }
    // The binaries may lie where nobody may not go.
    let place = tempfile::tempdir().unwrap();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let (tests, program) = (place.path().join("tests"), place.path().join("packstone"));
    copy_executable(&std::env::current_exe().unwrap(), &tests);
    copy_program(&program);
    let mut command = Command::new(tests);
    command.args(["--exact", test]).env("PACKSTONE_TEST_PROGRAM", program);
    let output = command.uid(NOBODY).gid(NOBODY).current_dir("/").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}{}", String::from_utf8_lossy(&output.stderr));
    true
}

/// A copy of the program.
pub fn copy_program(path: &Path) {
    copy_executable(Path::new(env!("CARGO_BIN_EXE_packstone")), path);
}

/// Not by this process: a descriptor that is open for writing here could be inherited by what another test starts at that moment, and
/// then nobody may run the file.
fn copy_executable(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg(from).arg(to).status().unwrap().success());
}

/// All files beneath a folder, sorted. What vanishes meanwhile is passed over.
pub fn files_beneath(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_directory { found.extend(files_beneath(&entry.path())) } else { found.push(entry.path()) }
    }
    found.sort();
    found
}

/// The snapshot id in the summary of `backup --json`.
pub fn snapshot_id(ran: &Ran) -> String {
    let mut lines = ran.out.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let summary = lines.rfind(|line| line["message_type"] == "summary").unwrap();
    summary["snapshot_id"].as_str().unwrap().to_owned()
}
