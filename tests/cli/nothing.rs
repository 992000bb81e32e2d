//! A backup that stores nothing of what it was asked for says so: empty streams, empty sources, patterns that match all.

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::process::Stdio;

use super::Ran;
use super::plain;
use super::support::World;

fn outcome(ran: &Ran) -> String {
    let summary: serde_json::Value = serde_json::from_str(ran.out.lines().last().unwrap()).unwrap();
    summary["outcome"].as_str().unwrap().to_owned()
}

fn piped(world: &World, words: &[&str], input: &[u8]) -> Ran {
    let mut child =
        world.command(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap().into()
}

/// Story: `false | packstone backup --stdin` made a complete snapshot of 0 bytes, and keeping the last one dropped the dump.
#[test]
fn an_empty_stream_makes_no_snapshot_unless_it_is_meant() {
    let world = World::with_repository();
    let stream = ["backup", "--stdin", "--stdin-filename", "db.sql"];
    let allowing = [&stream[..], &["--stdin-allow-empty"]].concat();
    let ran = piped(&world, &stream, b"");
    assert_eq!(ran.code, Some(1), "{}", ran.out);
    assert!(ran.err.contains("the stream is empty") && ran.err.contains("--stdin-allow-empty"), "{}", ran.err);
    for words in [&stream[..], &allowing] {
        // Nothing at all, whether an empty one is meant or not.
        let closed = format!("exec {} \"$@\" <&-", env!("CARGO_BIN_EXE_packstone"));
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", &closed, "sh"]).args(words);
        for (name, value) in world.command(words).get_envs() {
            value.map(|value| shell.env(name, value));
        }
        let ran: Ran = shell.current_dir(world.path("")).output().unwrap().into();
        assert_eq!(ran.code, Some(1), "{}{}", ran.out, ran.err);
        assert!(ran.err.contains("the standard input is closed"), "{}", ran.err);
    }
    let command =
        |more: &[&str]| world.run(&[&["backup", "--stdin-from-command", "--stdin-filename", "db.sql"], more].concat());
    assert_eq!(command(&["--", "true"]).code, Some(1));
    assert!(command(&["--", "false"]).err.contains("failed"), "the command's failure is what is said");
    assert!(world.ok(&["snapshots"]).out.contains("0 snapshots"));
    assert_eq!(piped(&world, &stream, b"dump").code, Some(0));
    assert_eq!(command(&["--stdin-allow-empty", "--", "true"]).code, Some(0));
    // What somebody gives on purpose is no closed input.
    let null: Ran = world.command(&allowing).stdin(fs::File::open("/dev/null").unwrap()).output().unwrap().into();
    assert_eq!(null.code, Some(0), "{}", null.err);
    assert!(world.ok(&["snapshots"]).out.contains("3 snapshots"));
}

/// Story: an empty mount point, or a pattern that matched everything, was a complete snapshot of nothing.
#[test]
fn a_source_that_is_empty_and_was_not_is_partial_and_said() {
    let world = World::with_repository();
    world.write("inner/file", "text");
    world.backup();
    let matched = world.run(&["backup", "--exclude", "inner", "tree"]);
    assert_eq!(matched.code, Some(3), "{}{}", matched.out, matched.err);
    assert!(
        matched.err.contains("tree: no files were stored")
            || matched.err.contains("no files were stored, and snapshot"),
        "{}",
        matched.out
    );
    assert!(matched.out.contains(&format!("backup --allow-empty {}", world.tree().display())), "{}", matched.out);
    fs::rename(world.tree(), world.path("unmounted")).unwrap();
    fs::create_dir(world.tree()).unwrap();
    for _ in 0..2 {
        let empty = world.run(&["backup", "--json", "tree"]);
        assert_eq!((empty.code, outcome(&empty)), (Some(3), "partial".to_owned()));
        let summary: serde_json::Value = serde_json::from_str(empty.out.lines().last().unwrap()).unwrap();
        assert_eq!(summary["emptied"][0], "tree");
    }
    let latest = world.ok(&["restore", "latest", "--target", "nothing"]);
    assert!(plain(&latest.err).contains("To see what is missing in it: packstone show"), "{}", latest.err);
    // The last complete one is kept by every rule.
    world.ok(&["forget", "--keep-last", "1"]);
    let restored = world.path("restored");
    let kept = world.ok(&["snapshots", "--json"]).out;
    let kept: serde_json::Value = serde_json::from_str(&kept).unwrap();
    let ids: Vec<&str> = kept.as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap()).collect();
    world.ok(&["restore", ids[0], "--target", world.text(&restored)]);
    assert_eq!(fs::read(restored.join("tree/inner/file")).unwrap(), b"text");
    let meant = world.run(&["backup", "--json", "--allow-empty", "tree"]);
    assert_eq!((meant.code, outcome(&meant)), (Some(0), "complete".to_owned()));
}

#[test]
fn a_source_that_holds_nothing_the_first_time_is_said() {
    let world = World::with_repository();
    let ran = world.ok(&["backup", "tree"]);
    assert!(ran.err.contains("no files were stored"), "{}{}", ran.out, ran.err);
    assert!(!world.ok(&["backup", "--allow-empty", "tree"]).err.contains("no files were stored"));
    assert!(world.run(&["status"]).out.contains("has no files"));
}

#[test]
fn a_source_that_lost_nearly_all_is_said_by_the_backup_and_by_status() {
    let world = World::with_repository();
    (0..100).for_each(|number| world.write(&format!("f{number}"), "x"));
    assert!(!world.ok(&["backup", "tree"]).err.contains("were stored"));
    assert!(!world.run(&["status"]).out.contains("the one before"));
    (5..100).for_each(|number| fs::remove_file(world.tree().join(format!("f{number}"))).unwrap());
    let ran = world.ok(&["backup", "tree"]);
    assert!(ran.err.contains("5 files were stored, and snapshot"), "{}", ran.err);
    let status = world.run(&["status"]).out;
    assert!(status.contains("has 5 files, the one before it had 100"), "{status}");
}

/// Story: after a night without the disk everything was read again, and what had been deleted meanwhile was never noticed.
#[test]
fn what_is_there_again_is_compared_with_what_was_there_before() {
    let world = World::with_repository();
    (0..20).for_each(|number| world.write(&format!("f{number}"), "x"));
    world.backup();
    fs::rename(world.tree(), world.path("unmounted")).unwrap();
    fs::create_dir(world.tree()).unwrap();
    assert_eq!(world.run(&["backup", "tree"]).code, Some(3));
    fs::remove_dir(world.tree()).unwrap();
    assert_eq!(world.run(&["backup", "--json", "tree", "key"]).code, Some(3), "a source that is missing");
    fs::rename(world.path("unmounted"), world.tree()).unwrap();
    fs::remove_file(world.tree().join("f7")).unwrap();
    let ran = world.ok(&["backup", "--json", "tree"]);
    let summary: serde_json::Value = serde_json::from_str(ran.out.lines().last().unwrap()).unwrap();
    assert_eq!(summary["files_new"], 0, "{summary}");
    assert!(world.ok(&["deleted"]).out.contains("tree/f7"));
}

#[test]
fn a_link_with_a_slash_behind_it_is_followed() {
    let world = World::with_repository();
    world.write("file", "text");
    symlink("tree", world.path("link")).unwrap();
    world.ok(&["backup", "link/"]);
    assert_eq!(world.ok(&["dump", "latest", "link/file"]).out, "text");
}

/// A file that says it has 0 bytes, as those of `/proc` do.
#[test]
fn a_file_of_size_zero_with_content_is_stored() {
    let world = World::with_repository();
    if fs::metadata("/proc/version").is_err() {
        eprintln!("SKIPPED a_file_of_size_zero_with_content_is_stored: no /proc");
        return;
    }
    world.ok(&["backup", "/proc/version"]);
    let stored = world.ok(&["dump", "latest", "/proc/version"]).out;
    assert_eq!(stored, fs::read_to_string("/proc/version").unwrap());
    let restored = world.path("restored");
    world.ok(&["restore", "latest", "--target", world.text(&restored), "--verify"]);
    assert_eq!(fs::read(restored.join("proc/version")).unwrap(), stored.as_bytes());
}
