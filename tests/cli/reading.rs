//! What the tests of the reading commands share: JSON out of what was printed, and damage.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::Ran;
use super::support::World;

/// The one JSON value that was printed.
pub fn json(ran: &Ran) -> Value {
    serde_json::from_str(&ran.out).unwrap()
}

/// The JSON values that were printed, one a line.
pub fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// All files beneath a folder of the repository.
pub fn objects(world: &World, folder: &str) -> Vec<PathBuf> {
    fn walk(path: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(path).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { walk(&path, found) } else { found.push(path) }
        }
    }
    let mut found = Vec::new();
    walk(&world.repository().join(folder), &mut found);
    found.sort();
    found
}

/// Flips a bit in the middle of a file.
pub fn flip(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    // The first block begins after the header of 48 bytes: its commitment, and with it the whole block, is spoiled.
    bytes[60] ^= 1;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(path, bytes).unwrap();
}

/// Spoils the first block of every pack of one kind, "data" or "tree".
pub fn spoil_packs(world: &World, kind: &str) {
    let mut spoilt = 0;
    for path in objects(world, "packs") {
        let id = path.file_name().unwrap().to_str().unwrap().to_owned();
        if json(&world.ok(&["cat", "pack", &id, "--json"]))["kind"] == kind {
            flip(&path);
            spoilt += 1;
        }
    }
    assert!(spoilt > 0, "there was no {kind} pack");
}

/// Spoils a snapshot.
pub fn spoil_snapshot(world: &World, id: &str) {
    flip(&world.repository().join("snapshots").join(id));
}
