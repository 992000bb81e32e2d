//! The newest head cannot be read: what is older passes for the newest nowhere, with or without a memory of it, and is found by its id.

use std::fs;

use super::check::damage;
use super::plain;
use super::support::files_beneath;
use super::who::{blank, mirrored, said};

/// What says "latest", or that all is well, or that something is not there.
const NEED_THE_NEWEST: &[&[&str]] = &[
    &["restore", "latest", "--target", "back"],
    &["restore", "latest~1", "--target", "back"],
    &["dump", "latest", "tree/file"],
    &["ls", "latest"],
    &["show", "latest"],
    &["diff", "latest~1", "latest"],
    &["diff", "latest", "./tree"],
    &["status"],
    &["stats"],
    &["stats", "--mode", "freed", "latest"],
    &["snapshots"],
    &["snapshots", "latest"],
    &["find", "file"],
    &["deleted"],
    &["key", "list"],
    &["check"],
    &["backup", "tree"],
    &["backup", "--dry-run", "tree"],
    &["forget", "--keep-last", "1", "--dry-run"],
    &["tag", "--add", "x", "--dry-run"],
    &["prune", "--dry-run"],
    &["undelete"],
    &["sync"],
    &["repair", "objects", "--dry-run"],
];

/// Story: a bit of the newest head had flipped. A machine that had not seen it restored the snapshot before as the latest one.
#[test]
fn an_older_state_is_nobodys_latest() {
    let world = mirrored();
    let old = world.backup();
    world.write("file-2", "text");
    world.backup();
    damage(&files_beneath(&world.repository().join("heads")).pop().unwrap(), |bytes| bytes[200] ^= 1);
    for blank_machine in [true, false] {
        let run = |words: &[&str]| match blank_machine {
            true => blank(&world, "elsewhere", words),
            false => world.run(words),
        };
        for words in NEED_THE_NEWEST {
            // The list of mirrors is this machine's.
            if blank_machine && words[0] == "sync" {
                continue;
            }
            let ran = run(words);
            let who = format!("{words:?}, blank: {blank_machine}");
            assert_eq!(ran.code, Some(17), "{who}: {}{}", ran.out, ran.err);
            assert!(plain(&ran.err).contains("packstone repair heads"), "{who}: {}", ran.err);
            assert!(!world.path("back").exists(), "{who}");
        }
        for words in [
            &["restore", &old, "--target", "back"][..],
            &["ls", &old],
            &["dump", &old, "tree/file"],
            &["show", &old],
            &["snapshots", &old],
            &["find", "file", "--snapshot", &old],
            &["stats", &old],
        ] {
            let ran = run(words);
            assert_eq!(ran.code, Some(0), "{words:?}: {}{}", ran.out, ran.err);
            assert!(ran.err.contains("snapshots may be missing"), "{words:?}: {}", ran.err);
            // What is not the newest state is not remembered as that.
            assert_eq!(said(&ran), usize::from(blank_machine), "{words:?}: {}", ran.err);
        }
        fs::remove_dir_all(world.path("back")).unwrap();
    }
}

#[test]
fn a_mirror_whose_newest_head_is_damaged_has_no_latest_either() {
    let world = mirrored();
    let old = world.backup();
    world.ok(&["sync"]);
    world.backup();
    world.ok(&["sync"]);
    damage(&files_beneath(&world.path("mirror/heads")).pop().unwrap(), |bytes| bytes[200] ^= 1);
    let address = world.path("mirror");
    let address = world.text(&address);
    for (words, exit) in [
        (&["--from", address, "ls", "latest"][..], 17),
        (&["--from", address, "status"], 17),
        (&["--from", address, "ls", &old], 0),
        (&["check", "--mirror", address], 17),
        (&["recover", address, "--to", "back"], 17),
        (&["drill", address, "--to", "drills"], 19),
        (&["drill", address, "--to", "drills", "--sample", "10%"], 19),
    ] {
        for ran in [world.run(words), blank(&world, "elsewhere", words)] {
            assert_eq!(ran.code, Some(exit), "{words:?}: {}{}", ran.out, ran.err);
            assert!(!ran.out.contains("PASSED"), "{words:?}: {}", ran.out);
        }
    }
}

/// Story: the newest snapshot could not be read, and `tag` and `forget` took the one before for the latest.
#[test]
fn a_snapshot_that_cannot_be_read_may_be_the_latest() {
    let world = mirrored();
    let old = world.backup();
    world.write("file-2", "text");
    let newest = world.backup();
    let name = files_beneath(&world.repository().join("snapshots"));
    let file = name.into_iter().find(|path| path.to_string_lossy().contains(&newest)).unwrap();
    damage(&file, |bytes| bytes[40] ^= 1);
    let before = files_beneath(&world.repository().join("heads"));
    for words in [
        &["tag", "--add", "x", "latest"][..],
        &["hold", "latest"],
        &["forget", "latest"],
        &["snapshots", "latest"],
        &["stats", "latest"],
        &["restore", "latest", "--target", "back"],
        &["ls", "latest~1"],
        &["diff", "latest~1", "latest"],
        &["diff", "latest~9", "latest"],
    ] {
        let ran = world.run(words);
        assert_eq!(ran.code, Some(17), "{words:?}: {}{}", ran.out, ran.err);
        assert!(ran.err.contains("cannot be determined") && ran.err.contains(&newest[..8]), "{words:?}: {}", ran.err);
    }
    assert_eq!(files_beneath(&world.repository().join("heads")), before);
    world.ok(&["tag", "--add", "x", &old]);
}
