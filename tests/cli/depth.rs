//! Trees of 4,095, 4,096 and 4,097 directories, one in the other: what every command makes of them.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Command;

use packstone::codec::tree::DIRECTORY_DEPTH_MAX;
use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};

use super::reading::lines;
use super::support::World;

/// Directories one in the other, with a file in the last one.
fn make_deep(top: &Path, names: usize) {
    fs::create_dir_all(top).unwrap();
    let open = |at: &OwnedFd, name: &str| openat(at, name, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap();
    let mut here = openat(CWD, top, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap();
    for _ in 0..names {
        mkdirat(&here, "z", Mode::RWXU).unwrap();
        here = open(&here, "z");
    }
    let file = openat(&here, "bottom", OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC, Mode::RUSR).unwrap();
    rustix::io::write(file, b"all the way down").unwrap();
}

/// Neither std nor a path of one piece reaches so deep.
fn remove(place: &Path) {
    assert!(Command::new("rm").arg("-rf").arg(place).status().unwrap().success());
}

fn may_open_enough() -> bool {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    let enough = limit.is_none_or(|limit| limit >= 2 * DIRECTORY_DEPTH_MAX as u64 + 200);
    if !enough {
        println!("SKIPPED depth: a walk holds a directory open for each level, and too few may be open here");
    }
    enough
}

/// `tree` itself is one of the directories. The answer says whether all of it must come back.
fn every_command(depth: usize, whole: bool) {
    let world = World::with_repository();
    make_deep(&world.tree(), depth - 1);
    world.ok(&["mirror", "add", "offsite", "mirror"]);
    let ran = world.run(&["backup", "--json", "tree"]);
    assert_eq!(ran.code, Some(if whole { 0 } else { 3 }), "{depth}: {}", ran.err);
    let summary = lines(&ran.out).pop().unwrap();
    assert_eq!(summary["outcome"], if whole { "complete" } else { "partial" });
    if !whole {
        assert!(ran.err.contains("more than 4096 directories deep"), "{}", &ran.err[..200.min(ran.err.len())]);
        assert_eq!(summary["problems"], 1);
    }
    let stored = depth.min(DIRECTORY_DEPTH_MAX) as u64;
    let entries = stored + u64::from(whole);
    world.ok(&["check", "--read-data"]);
    world.ok(&["sync"]);
    let listed = lines(&world.ok(&["ls", "latest", "--recursive", "--json"]).out);
    assert_eq!(
        listed.iter().filter(|line| line["struct_type"] == "node" || line["message_type"] == "node").count() as u64,
        entries
    );
    assert_eq!(world.ok(&["find", "bottom"]).out.contains("bottom"), whole);
    let archive = world.path("archive.tar");
    world.ok(&["dump", "latest", "/", "--target", world.text(&archive)]);
    assert!(fs::metadata(&archive).unwrap().len() > stored * 512);
    // Restored, it is the same tree; what is too deep is the only difference.
    let restored = world.ok(&["restore", "latest", "--target", "out", "--verify", "--json"]);
    assert_eq!(lines(&restored.out).pop().unwrap()["files_restored"], entries);
    let diff = world.ok(&["diff", "latest:tree", "./out/tree", "--content", "--json"]);
    let statistics = lines(&diff.out).pop().unwrap();
    assert_eq!((&statistics["changed_files"], &statistics["added"]["dirs"]), (&0.into(), &0.into()), "{statistics}");
    assert_eq!((&statistics["removed"]["dirs"], &statistics["removed"]["files"]), (&0.into(), &0.into()));
    world.ok(&["drill", "--to", "drills"]);
    // Into another repository, and written again without a file that is not there.
    world.ok(&["--repo", "other", "init", "--new-key-file", "other-key"]);
    let copied =
        ["--repo", "other", "--key-file", "other-key", "copy", "--from-repo", "repository", "--from-key-file", "key"];
    world.ok(&copied);
    world.ok(&["--repo", "other", "--key-file", "other-key", "check", "--read-data"]);
    world.ok(&["--repo", "other", "--key-file", "other-key", "restore", "latest", "--target", "copied"]);
    world.ok(&["rewrite", "--exclude", "nothing", "latest"]);
    world.ok(&["stats"]);
    // The second backup takes it all over, and a diff of the two finds nothing.
    world.run(&["backup", "tree"]);
    let diff = json_statistics(&world, &["diff", "latest~1", "latest", "--json"]);
    assert_eq!((&diff["added"]["dirs"], &diff["removed"]["dirs"]), (&0.into(), &0.into()), "{diff}");
    world.ok(&["restore", "latest:tree", "--target", "out/tree", "--delete"]);
    ["tree", "out", "copied", "drills"].iter().for_each(|name| remove(&world.path(name)));
}

fn json_statistics(world: &World, words: &[&str]) -> serde_json::Value {
    lines(&world.ok(words).out).pop().unwrap()
}

#[test]
fn one_less_than_the_limit() {
    if may_open_enough() {
        every_command(DIRECTORY_DEPTH_MAX - 1, true);
    }
}

#[test]
fn exactly_the_limit() {
    if may_open_enough() {
        every_command(DIRECTORY_DEPTH_MAX, true);
    }
}

#[test]
fn one_more_than_the_limit_is_a_partial_snapshot() {
    if may_open_enough() {
        every_command(DIRECTORY_DEPTH_MAX + 1, false);
    }
}
