//! `init` and `backup` from outside.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Stdio;

use super::plain;
use super::support::{World, snapshot_id};

fn last_json(text: &str) -> serde_json::Value {
    serde_json::from_str(text.lines().last().unwrap()).unwrap()
}

#[test]
fn the_first_backup_on_a_new_machine_is_one_command() {
    let world = World::new();
    world.write("Documents/cv.odt", "a life");
    let ran = world
        .bare(&["backup", "--init", "tree"])
        .env_remove("PACKSTONE_REPOSITORY")
        .env("PACKSTONE_PASSWORD", "correct horse")
        .output()
        .unwrap();
    let ran: super::Ran = ran.into();
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert!(ran.out.contains("New repository"), "{}", ran.out);
    assert!(ran.out.contains("1 file  6 B"), "{}", ran.out);
    assert!(ran.out.contains("! Only copy"), "{}", ran.out);
    assert!(world.path("home/.local/share/packstone/main/config").exists());
    // The same once more, now with the repository there.
    let again = world
        .bare(&["backup", "--init", "--json", "tree"])
        .env_remove("PACKSTONE_REPOSITORY")
        .env("PACKSTONE_PASSWORD", "correct horse")
        .output()
        .unwrap();
    let again: super::Ran = again.into();
    assert_eq!(again.code, Some(0), "{}", again.err);
    let summary = last_json(&again.out);
    assert_eq!(summary["message_type"], "summary");
    assert_eq!(summary["files_new"], 0);
    assert_eq!(summary["total_files_processed"], 1);
}

#[test]
fn a_wrong_passphrase_has_its_own_exit_code() {
    let world = World::new();
    let init = world.bare(&["init"]).env("PACKSTONE_PASSWORD", "right").output().unwrap();
    assert!(init.status.success());
    let ran: super::Ran = world.bare(&["backup", "tree"]).env("PACKSTONE_PASSWORD", "wrong").output().unwrap().into();
    assert_eq!(ran.code, Some(12));
    assert!(ran.err.contains("no key of this repository opens with this passphrase (1 tried)"), "{}", ran.err);
}

#[test]
fn a_place_without_a_repository_has_its_own_exit_code() {
    let world = World::new();
    let ran = world.run(&["backup", "tree"]);
    assert_eq!(ran.code, Some(10), "{}", ran.err);
    assert!(plain(&ran.err).contains("packstone init"), "{}", ran.err);
}

#[test]
fn an_unmounted_disk_does_not_become_a_new_repository() {
    let world = World::with_repository();
    world.write("a", "a");
    world.backup();
    fs::rename(world.repository(), world.path("unmounted")).unwrap();
    fs::create_dir(world.repository()).unwrap();
    let ran = world.run(&["backup", "--init", "tree"]);
    assert_eq!(ran.code, Some(10), "{}", ran.err);
    assert!(ran.err.contains("is its disk mounted?"), "{}", ran.err);
    assert_eq!(fs::read_dir(world.repository()).unwrap().count(), 0);
}

#[test]
fn an_older_copy_in_its_place_is_a_rollback() {
    let world = World::with_repository();
    world.write("a", "a");
    world.backup();
    let copied = std::process::Command::new("cp")
        .args(["-a", world.text(&world.repository()), world.text(&world.path("old"))])
        .status()
        .unwrap();
    assert!(copied.success());
    world.write("b", "b");
    world.backup();
    fs::rename(world.repository(), world.path("new")).unwrap();
    fs::rename(world.path("old"), world.repository()).unwrap();
    let ran = world.run(&["backup", "tree"]);
    assert_eq!(ran.code, Some(14), "{}", ran.err);
    assert!(ran.err.contains("rollback"), "{}", ran.err);
}

#[test]
fn an_older_copy_that_was_written_to_since_is_a_fork() {
    let world = World::with_repository();
    world.write("a", "a");
    world.backup();
    let copy = |from: &str, to: &str| {
        let (from, to) = (world.path(from), world.path(to));
        let copied =
            std::process::Command::new("cp").args(["-a", world.text(&from), world.text(&to)]).status().unwrap();
        assert!(copied.success());
    };
    copy("repository", "old");
    copy("home", "other-home");
    world.write("b", "b");
    world.backup();
    fs::rename(world.repository(), world.path("new")).unwrap();
    fs::rename(world.path("old"), world.repository()).unwrap();
    for name in ["c", "d"] {
        // Another machine, which has not seen what this one has.
        world.write(name, name);
        let ran: super::Ran =
            world.command(&["backup", "tree"]).env("HOME", world.path("other-home")).output().unwrap().into();
        assert_eq!(ran.code, Some(0), "{}", ran.err);
    }
    let ran = world.run(&["snapshots"]);
    assert_eq!(ran.code, Some(16), "{}", ran.err);
    assert!(ran.err.contains("fork: head 3") && ran.err.contains("that head 4"), "{}", ran.err);
}

#[test]
fn another_writer_is_named_and_waited_for() {
    let world = World::with_repository();
    world.write("a", "a");
    // A backup of a stream that does not end holds the lock, as soon as it gets it from one of those below.
    let mut holder = world.command(&["backup", "--retry-lock", "5m", "--stdin"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut input = holder.stdin.take().unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    let ran = loop {
        let ran = world.run(&["backup", "tree"]);
        if ran.code == Some(11) {
            break ran;
        }
        assert!(std::time::Instant::now() < deadline, "the lock was never taken");
    };
    assert!(ran.err.contains(&format!("PID {}", holder.id())), "{}", ran.err);
    let waiting = world.command(&["backup", "--retry-lock", "5m", "tree"]).spawn().unwrap();
    input.write_all(b"the end").unwrap();
    drop(input);
    assert!(holder.wait().unwrap().success());
    let waited: super::Ran = waiting.wait_with_output().unwrap().into();
    assert_eq!(waited.code, Some(0), "{}", waited.err);
}

#[test]
fn what_cannot_be_read_is_named_and_the_rest_is_stored() {
    let world = World::with_repository();
    world.write("good", "good");
    let ran = world.run(&["backup", "tree", "missing"]);
    assert_eq!(ran.code, Some(3), "{}", ran.err);
    assert!(ran.err.contains("missing"), "{}", ran.err);
    assert!(ran.out.contains("partial"), "{}", ran.out);
    let ran = world.run(&["backup", "missing", "tree"]);
    assert!(ran.out.contains(":tree --target"), "what is said to come back is there: {}", ran.out);
    let list = world.path("list");
    fs::write(&list, "tree\nnothing*\n").unwrap();
    let ran = world.run(&["backup", "--files-from", world.text(&list)]);
    assert_eq!(ran.code, Some(3), "{}", ran.err);
    assert!(ran.err.contains("nothing*"), "{}", ran.err);
    let absolute = world.path("gone");
    let ran = world.run(&["backup", "tree", world.text(&absolute)]);
    assert!(ran.err.contains(&format!("! {}: ", absolute.display())), "as it was typed: {}", ran.err);
    let ran = world.run(&["show", "latest"]);
    assert!(ran.out.contains(&format!(" {}: ", absolute.display())), "{}", ran.out);
    let none = world.run(&["backup", "missing"]);
    assert_eq!(none.code, Some(1));
    assert!(none.err.contains("none of the sources exists"), "{}", none.err);
}

#[test]
fn excludes_work_as_in_restic() {
    let world = World::with_repository();
    for name in
        ["keep.c", "drop.o", "sub/drop.o", "sub/Keep.O", "cache/CACHEDIR.TAG", "cache/big", "no/.nobackup", "no/x"]
    {
        world.write(name, name);
    }
    world.write("cache/CACHEDIR.TAG", "Signature: 8a477f597d28d172789f06886806bc55");
    world.write("large", vec![b'x'; 4096]);
    let ran = world.ok(&[
        "backup",
        "--json",
        "--exclude=*.o",
        "--exclude-caches",
        "--exclude-if-present=.nobackup",
        "--exclude-larger-than=4k",
        "tree",
    ]);
    // keep.c, Keep.O, CACHEDIR.TAG, .nobackup, and large (4096 is not larger than 4k)
    assert_eq!(last_json(&ran.out)["total_files_processed"], 5, "{}", ran.out);
}

/// Programs that follow a backup find its entries in `ls` under the same path, as with restic.
#[test]
fn entries_are_named_from_the_root_of_the_snapshot() {
    let world = World::with_repository();
    world.write("sub/file", "content");
    let ran = world.ok(&["backup", "--json", "-v", "-v", "tree"]);
    let lines: Vec<serde_json::Value> = ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let items = lines.iter().filter(|line| line["message_type"] == "verbose_status");
    let items: Vec<&str> = items.filter_map(|line| line["item"].as_str()).collect();
    assert_eq!(items, ["/tree/sub/file", "/tree/sub", "/tree"]);
}

/// What was named is stored whatever the patterns say, as restic does; they decide about what is in it.
#[test]
fn patterns_do_not_reject_a_named_source() {
    let world = World::with_repository();
    for name in ["a.o", "b.o", "keep/c"] {
        world.write(name, name);
    }
    for (words, files) in [
        (&["-e", "*", "-e", "!keep", "tree"][..], 1),
        (&["-e", "*.o", "tree/a.o", "tree/keep"], 2),
        (&["-e", "*.o", "tree", "tree/a.o"], 2),
        (&["-e", "tree", "--allow-empty", "tree"], 0),
        (&["--exclude-larger-than", "0", "tree/a.o"], 1),
    ] {
        let ran = world.ok(&[&["backup", "--json"][..], words].concat());
        assert_eq!(last_json(&ran.out)["total_files_processed"], files, "{words:?}: {}", ran.out);
    }
}

/// Opening the lock file may fail too: that is nobody's lock, and waiting does not help.
#[test]
fn a_lock_that_cannot_be_made_is_no_lock_of_another() {
    let world = World::with_repository();
    world.write("file", "content");
    let lock = world.repository().join("lock/writer");
    let _ = fs::remove_file(&lock);
    fs::create_dir_all(&lock).unwrap();
    let ran = world.run(&["backup", "tree"]);
    assert_eq!(ran.code, Some(1), "{}", ran.err);
    assert!(ran.err.contains("cannot lock") && !ran.err.contains("--retry-lock"), "{}", ran.err);
}

#[test]
fn a_stream_becomes_a_file_and_a_failing_command_no_snapshot() {
    let world = World::with_repository();
    let ran =
        world.ok(&["backup", "--json", "--stdin-from-command", "--stdin-filename", "db.sql", "--", "echo", "dump"]);
    assert_eq!(last_json(&ran.out)["total_bytes_processed"], 5);
    world.ok(&["backup", "--stdin-from-command", "--stdin-filename", "/a//b.txt", "--", "echo", "dump"]);
    let ran = world.ok(&["snapshots", "--json", "latest"]);
    assert!(ran.out.contains(r#""paths":["/a/b.txt"]"#), "{}", ran.out);
    let failed = world.run(&["backup", "--stdin-from-command", "--", "false"]);
    assert_eq!(failed.code, Some(1));
    assert!(failed.err.contains("no snapshot was made"), "{}", failed.err);
}

#[test]
fn a_dry_run_writes_nothing_and_an_unchanged_tree_needs_no_snapshot() {
    let world = World::with_repository();
    world.write("a", vec![7; 100_000]);
    let size = || {
        let du = std::process::Command::new("du").args(["-sb", "--apparent-size"]).arg(world.repository()).output();
        String::from_utf8(du.unwrap().stdout).unwrap()
    };
    let before = size();
    let dry = world.ok(&["backup", "--json", "--dry-run", "tree"]);
    let summary = last_json(&dry.out);
    assert_eq!(summary["dry_run"], true);
    assert!(summary["data_added"].as_u64().unwrap() >= 100_000, "{summary}");
    assert_eq!(summary.get("snapshot_id"), None);
    assert_eq!(size(), before);
    world.backup();
    let skipped = world.ok(&["backup", "--json", "--skip-if-unchanged", "tree"]);
    assert_eq!(last_json(&skipped.out).get("snapshot_id"), None, "{}", skipped.out);
}

#[test]
fn a_home_that_holds_its_own_repository_is_stored_without_it() {
    let world = World::with_repository();
    world.write("a", "a");
    let ran = world.ok(&["backup", "--json", "."]);
    let first = last_json(&ran.out)["total_files_processed"].as_u64().unwrap();
    // the key file and one file in the tree; nothing of repository, cache and state
    assert_eq!(first, 2, "{}", ran.out);
    for _ in 0..3 {
        let ran = world.ok(&["backup", "--json", "."]);
        let summary = last_json(&ran.out);
        assert_eq!(summary["total_files_processed"], 2);
        assert!(summary["data_added_packed"].as_u64().unwrap() < 40_000, "{summary}");
    }
}

#[test]
fn every_name_is_stored_and_shown_safely() {
    let world = World::with_repository();
    world.write("new\nline", "1");
    world.write("esc\x1b[31m", "2");
    symlink("nowhere\n", world.tree().join("link")).unwrap();
    let unreadable = world.tree().join("secret\x1b]0;x\x07");
    fs::write(&unreadable, "3").unwrap();
    fs::set_permissions(&unreadable, fs::Permissions::from_mode(0o000)).unwrap();
    let ran = world.run(&["backup", "-vv", "tree"]);
    assert!(!ran.out.contains('\x1b') && !ran.err.contains('\x1b'));
    assert!(ran.out.contains("new\\nline"), "{}", ran.out);
    assert!(ran.code == Some(0) || ran.code == Some(3), "{}", ran.err);
    snapshot_id(&world.run(&["backup", "--json", "tree"]));
}

#[test]
fn a_file_that_is_read_again_and_is_the_same_is_unmodified() {
    let world = World::with_repository();
    world.write("fresh", "written a moment ago, so it is not trusted to be unchanged");
    world.backup();
    let ran = world.ok(&["backup", "--json", "tree"]);
    let summary = last_json(&ran.out);
    assert_eq!(summary["files_unmodified"], 1, "{summary}");
    assert_eq!(summary["files_changed"], 0, "{summary}");
}

/// The last line says how to get it back; it must be true for every way of naming a source.
#[test]
fn the_command_that_the_summary_names_works() {
    let world = World::with_repository();
    world.write("sub/a file", "content");
    let absolute = world.tree().to_str().unwrap().to_owned();
    for source in ["tree", "./tree/sub", "tree/../tree", ".", &absolute] {
        let ran = world.ok(&["backup", source]);
        let line = ran.out.lines().find(|line| line.starts_with("Get it back: ")).unwrap().to_owned();
        let command = line.strip_prefix("Get it back: packstone ").unwrap();
        let words: Vec<&str> = command.split(' ').collect();
        world.ok(&words);
        let back = world.path("back");
        let found = std::process::Command::new("find").arg(&back).args(["-name", "a file"]).output().unwrap();
        assert!(!found.stdout.is_empty(), "{line}");
        fs::remove_dir_all(back).unwrap();
    }
}
