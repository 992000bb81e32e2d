//! What the tests of the reading commands share: JSON out of what was printed, and damage.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::Ran;
use super::support::{World, files_beneath};

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
    files_beneath(&world.repository().join(folder))
}

/// Flips a bit at each of the positions.
pub fn flip(path: &Path, positions: &[u64]) {
    let mut bytes = fs::read(path).unwrap();
    for position in positions {
        bytes[*position as usize] ^= 1;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(path, bytes).unwrap();
}

/// Spoils every block of every pack of one kind, "data" or "tree". Which block comes first is up to the threads that made them.
pub fn spoil_packs(world: &World, kind: &str) {
    let mut spoilt = 0;
    for path in objects(world, "packs") {
        let id = path.file_name().unwrap().to_str().unwrap().to_owned();
        let pack = json(&world.ok(&["cat", "pack", &id, "--json"]));
        if pack["kind"] == kind {
            let blocks = pack["blocks"].as_array().unwrap();
            // A block begins with its commitment: with that, all of it is spoiled.
            let positions: Vec<u64> = blocks.iter().map(|block| block["offset"].as_u64().unwrap()).collect();
            flip(&path, &positions);
            spoilt += 1;
        }
    }
    assert!(spoilt > 0, "there was no {kind} pack");
}

/// Spoils a snapshot.
pub fn spoil_snapshot(world: &World, id: &str) {
    flip(&world.repository().join("snapshots").join(id), &[60]);
}
