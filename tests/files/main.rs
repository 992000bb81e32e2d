//! Walking and restoring on a real file system, through the library.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod metadata;
mod own;
mod target;
mod walk;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use packstone::files::target::{Target, TargetDirectory};

/// What only root can do is tested only as root.
fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn root_of(path: &Path) -> Arc<TargetDirectory> {
    Target::open(path, true).unwrap().root()
}

/// Runs one test of this binary again as the user nobody, when this is root; the caller returns then. Otherwise false:
/// the test is run by an ordinary user already.
fn ran_as_ordinary_user(test: &str) -> bool {
    const NOBODY: u32 = 65_534;
    if !is_root() {
        return false;
    }
    // The binary may lie where nobody may not go.
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
