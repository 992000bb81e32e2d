//! A directory with a repository, its key file, a mirror and a second repository.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// Everything lies beneath one directory and goes with it.
pub struct World {
    root: tempfile::TempDir,
}

impl World {
    /// A repository with three snapshots of a small tree, a mirror `offsite` that is whole, and another repository, `other`.
    pub fn new() -> Self {
        let world = Self { root: tempfile::tempdir().unwrap() };
        fs::create_dir(world.path("home")).unwrap();
        fs::create_dir(world.path("tree")).unwrap();
        world.ok(&["init", "--new-key-file", "key"]);
        for round in 0..3 {
            fs::write(world.path("tree/file"), format!("round {round}")).unwrap();
            world.ok(&["backup", "tree"]);
        }
        world.ok(&["--repo", "other", "--key-file", "other-key", "init", "--new-key-file", "other-key"]);
        world.ok(&["mirror", "add", "offsite", "mirror"]);
        world.ok(&["sync"]);
        world
    }

    /// The same once more.
    pub fn copy(&self) -> Self {
        let root = tempfile::tempdir().unwrap();
        let copied = Command::new("cp").arg("-a").arg(self.root.path().join(".")).arg(root.path()).status();
        assert!(copied.unwrap().success());
        // This machine knows the mirror by its path.
        let copy = Self { root };
        copy.ok(&["mirror", "remove", "offsite"]);
        copy.ok(&["mirror", "add", "offsite", "mirror"]);
        copy
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// The program in this world.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_packstone"));
        if let Some(other) = std::env::var_os("PACKSTONE_TEST_PROGRAM") {
            command = Command::new(other);
        }
        command.args(words).env_clear().current_dir(self.root.path());
        command.env("HOME", self.path("home")).env("TZ", "UTC").env("RUST_BACKTRACE", "1");
        command.env("PACKSTONE_REPOSITORY", self.path("repository")).env("PACKSTONE_KEY_FILE", self.path("key"));
        command
    }

    pub fn ok(&self, words: &[&str]) -> String {
        let ran = self.command(words).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert_eq!(ran.status.code(), Some(0), "{words:?} {}{}", text(&ran.stdout), text(&ran.stderr));
        text(&ran.stdout)
    }
}
