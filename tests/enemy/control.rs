//! The trial can fail: a careless restore is found.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use super::{ENEMY, judge, source};

/// A harm done to a target that is as the snapshot has it, and what must be said then.
type Harm = (&'static str, fn(&Path), &'static str);

fn set(path: &Path, owner: u32, mode: u32, bytes: &[u8]) {
    fs::write(path, bytes).unwrap();
    chown(path, Some(owner), Some(owner)).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

const HARMS: [Harm; 7] = [
    (
        "a file of root is written",
        |at| set(&at.join("target/sub/plain"), 0, 0o644, b"EVIL"),
        "bytes that are not the snapshot's",
    ),
    (
        "one byte of it",
        |at| {
            let mut bytes = fs::read(at.join("target/secret")).unwrap();
            bytes[8_999] ^= 1;
            set(&at.join("target/secret"), 0, 0o600, &bytes);
        },
        "bytes that are not the snapshot's",
    ),
    (
        "the enemy's bytes are set-id root",
        |at| set(&at.join("target/new"), 0, 0o4755, b"EVIL"),
        "bytes that are not the snapshot's",
    ),
    (
        "right bytes, bits of another file",
        |at| {
            let bytes = fs::read(at.join("target/plain")).unwrap();
            set(&at.join("target/new"), 0, 0o4755, &bytes);
        },
        "bytes that are not the snapshot's",
    ),
    ("moved out of the target", |at| set(&at.join("stash"), 0, 0o644, b"EVIL"), "bytes that are not the snapshot's"),
    (
        "a link of root's to elsewhere",
        |at| std::os::unix::fs::symlink("/etc/shadow", at.join("target/new")).unwrap(),
        "a link that",
    ),
    (
        "a directory of root's takes his files",
        |at| {
            let made = at.join("target/sub/late-evil-0-1");
            set(&made, ENEMY, 0o644, b"");
        },
        "made by the enemy afterwards",
    ),
];

#[test]
fn every_harm_to_a_target_is_found() {
    if !rustix::process::getuid().is_root() {
        return println!("SKIPPED harms to a target: it needs root");
    }
    let make = || {
        let arena = tempfile::tempdir().unwrap();
        source::make(&arena.path().join("target"), 0);
        arena
    };
    let sound = make();
    let snapshot = judge::look(&sound.path().join("target"));
    let none = judge::Inodes::new();
    assert_eq!(judge::guarded(sound.path(), &snapshot, &none, 0), Vec::<String>::new());
    for (what, harm, says) in HARMS {
        let arena = make();
        harm(arena.path());
        let found = judge::guarded(arena.path(), &snapshot, &none, 0);
        assert!(found.len() == 1 && found[0].contains(says), "{what}: {found:?}");
    }
    // His own files are his.
    let arena = make();
    set(&arena.path().join("target/his"), ENEMY, 0o644, b"EVIL");
    assert_eq!(judge::guarded(arena.path(), &snapshot, &none, 0), Vec::<String>::new());
    println!("{} of {} harms to a target are found", HARMS.len(), HARMS.len());
}
