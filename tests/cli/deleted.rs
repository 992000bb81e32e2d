//! `deleted` from outside: what is called gone and what is not, and a history that outlives its snapshots.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;

use serde_json::Value;

use super::Ran;
use super::forget::{backup_at, ids};
use super::reading::{flip, json, lines, objects, spoil_packs};
use super::support::{World, snapshot_id};

/// The deletions that are listed, and the cursor of the next page.
fn listed(ran: &Ran) -> (Vec<Value>, Option<String>) {
    let mut lines = lines(&ran.out);
    let summary = lines.pop().unwrap();
    assert_eq!(summary["message_type"], "summary");
    assert_eq!(summary["deletions"], lines.len());
    assert!(lines.iter().all(|line| line["message_type"] == "deletion"));
    (lines, summary["next"].as_str().map(str::to_owned))
}

fn deleted(world: &World, words: &[&str]) -> Vec<Value> {
    listed(&world.ok(&[&["deleted", "--json"], words].concat())).0
}

fn text(row: &Value, field: &str) -> String {
    row[field].as_str().unwrap_or_else(|| panic!("no {field} in {row}")).to_owned()
}

/// The paths that are listed, in the order shown.
fn paths(world: &World, words: &[&str]) -> Vec<String> {
    deleted(world, words).iter().map(|row| text(row, "path")).collect()
}

fn remove(world: &World, name: &str) {
    let path = world.tree().join(name);
    if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }.unwrap();
}

/// A tree that was saved on the first of January, and what was left of it on the second.
fn world() -> (World, Vec<String>) {
    let world = World::with_repository();
    for name in ["kept", "file", "directory/one", "directory/deeper/two", "becomes a directory", "other/kept"] {
        world.write(name, name);
    }
    symlink("kept", world.tree().join("link")).unwrap();
    let mut all = vec![backup_at(&world, "2026-01-01 10:00:00", &[])];
    for name in ["file", "directory", "link", "becomes a directory"] {
        remove(&world, name);
    }
    world.write("becomes a directory/inner", "inner");
    world.write("new", "new");
    all.push(backup_at(&world, "2026-01-02 10:00:00", &[]));
    (world, all)
}

const GONE: [&str; 7] = [
    "/tree/becomes a directory",
    "/tree/directory",
    "/tree/directory/deeper",
    "/tree/directory/deeper/two",
    "/tree/directory/one",
    "/tree/file",
    "/tree/link",
];

#[test]
fn what_vanished_is_listed_with_its_last_snapshot() {
    let (world, all) = world();
    let rows = deleted(&world, &[]);
    assert_eq!(rows.iter().map(|row| text(row, "path")).collect::<Vec<_>>(), GONE);
    let kinds: Vec<String> = rows.iter().map(|row| text(row, "type")).collect();
    assert_eq!(kinds, ["file", "dir", "dir", "file", "file", "file", "symlink"]);
    assert_eq!(rows[0]["size"], "becomes a directory".len());
    assert!(rows[1].get("size").is_none());
    for row in &rows {
        assert_eq!(text(row, "found"), "2026-01-02T10:00:00+00:00");
        assert_eq!(text(row, "last_snapshot_time"), "2026-01-01T10:00:00+00:00");
        assert_eq!((text(row, "last_snapshot_id"), text(row, "restorable")), (all[0].clone(), "live".to_owned()));
        assert_eq!((text(row, "restorable_from"), &row["there_again"]), (all[0].clone(), &Value::Bool(false)));
    }
    let out = world.ok(&["deleted"]).out;
    let line = format!("2026-01-02 10:00:00  2026-01-01 10:00:00  as long as {} is kept", &all[0][..8]);
    assert!(out.contains(&line) && out.contains("/tree/directory/deeper/\n"), "{out}");
    assert!(out.contains("7 deletions"), "{out}");
    // What it says to type works.
    let hint = format!(" restore '{}:/tree/becomes a directory' --target ./back\n", &all[0][..8]);
    assert!(out.contains("\nGet one back: packstone") && out.contains(&hint), "{out}");
    world.ok(&["restore", &format!("{}:/tree/becomes a directory", &all[0][..8]), "--target", "back"]);
    assert!(world.ok(&["show", "latest"]).out.contains("7 deletions so far"));
    assert_eq!(json(&world.ok(&["cat", "snapshot", "latest", "--json"]))["deleted_count"], 7);
    // Nothing changes by looking again.
    backup_at(&world, "2026-01-03 10:00:00", &[]);
    assert_eq!(paths(&world, &[]), GONE);
    world.ok(&["check", "--read-data"]);
}

#[test]
fn the_history_outlives_its_snapshots() {
    let (world, all) = world();
    remove(&world, "other");
    backup_at(&world, "2026-01-03 10:00:00", &[]);
    world.ok(&["forget", "--keep-last", "1"]);
    let rows = deleted(&world, &["file"]);
    assert_eq!((rows.len(), text(&rows[0], "restorable")), (1, "removed".to_owned()));
    assert_eq!(text(&rows[0], "restorable_from"), all[0]);
    let until = text(&rows[0], "restorable_until");
    let shown = format!("until {}: undelete {}", until[..19].replace('T', " "), &all[0][..8]);
    assert!(world.ok(&["deleted", "file"]).out.contains(&shown), "{shown}");
    let kept = json(&world.ok(&["prune", "--instant", "--json"]));
    assert!(kept["removed_objects"].as_u64().unwrap() > 0, "{kept}");
    let rows = deleted(&world, &[]);
    let (newest, before) = rows.split_at(2);
    assert_eq!(newest.iter().map(|row| text(row, "path")).collect::<Vec<_>>(), ["/tree/other", "/tree/other/kept"]);
    assert_eq!(before.iter().map(|row| text(row, "path")).collect::<Vec<_>>(), GONE);
    assert!(rows.iter().all(|row| row["restorable"] == "no" && row.get("restorable_from").is_none()), "{rows:?}");
    assert!(world.ok(&["deleted"]).out.contains("no longer"));
    world.ok(&["check", "--read-data"]);
    // It goes on, and survives a rewriting of everything that is needed.
    remove(&world, "new");
    backup_at(&world, "2026-01-04 10:00:00", &[]);
    world.ok(&["forget", "--keep-last", "1", "--prune", "--instant", "--max-unused", "0"]);
    world.ok(&["tag", "--add", "x", "latest"]);
    assert_eq!(paths(&world, &[]).len(), 10);
    world.ok(&["prune", "--instant", "--max-unused", "0"]);
    assert_eq!(paths(&world, &["--tag", "x"]).len(), 10);
    assert!(paths(&world, &["--tag", "y"]).is_empty() && paths(&world, &["--host", "elsewhere"]).is_empty());
    world.ok(&["check", "--read-data"]);
}

/// The newest snapshot carries the log. When it is forgotten, the next backup finds the same again.
#[test]
fn forgetting_the_newest_loses_nothing() {
    let (world, all) = world();
    world.ok(&["forget", &all[1]]);
    assert!(paths(&world, &[]).is_empty());
    backup_at(&world, "2026-01-03 10:00:00", &[]);
    let rows = deleted(&world, &[]);
    assert_eq!(rows.iter().map(|row| text(row, "path")).collect::<Vec<_>>(), GONE);
    assert!(rows.iter().all(|row| text(row, "last_snapshot_id") == all[0]));
}

#[test]
fn an_older_snapshot_that_holds_it_is_named_when_the_last_one_is_gone() {
    let world = World::with_repository();
    world.write("a/b/c", "first");
    world.write("kept", "kept");
    let first = backup_at(&world, "2026-01-01 10:00:00", &[]);
    world.write("a/b/c", "second");
    let second = backup_at(&world, "2026-01-02 10:00:00", &[]);
    remove(&world, "a");
    backup_at(&world, "2026-01-03 10:00:00", &[]);
    let from = |world: &World| text(&deleted(world, &["/tree/a/b/c"])[0], "restorable_from");
    assert_eq!(from(&world), second);
    world.ok(&["forget", &second]);
    assert_eq!(from(&world), first);
    world.ok(&["forget", &first]);
    assert_eq!(from(&world), second, "both can come back: the later one is named");
    // Held under a new id, it is the same tree.
    world.ok(&["undelete", &first]);
    world.ok(&["hold", &first]);
    assert_eq!(from(&world), ids(&world)[0]);
}

#[test]
fn what_is_there_again_is_shown_on_demand() {
    let (world, _) = world();
    world.write("file", "again");
    backup_at(&world, "2026-01-03 10:00:00", &[]);
    assert!(paths(&world, &["file"]).is_empty());
    let rows = deleted(&world, &["--all", "file"]);
    assert_eq!((rows.len(), &rows[0]["there_again"]), (1, &Value::Bool(true)));
    assert!(world.ok(&["deleted", "--all", "file"]).out.contains("/tree/file  (there again)"));
    remove(&world, "file");
    backup_at(&world, "2026-01-04 10:00:00", &[]);
    let times = |words: &[&str]| deleted(&world, words).iter().map(|row| text(row, "found")).collect::<Vec<_>>();
    assert_eq!(times(&["file"]), ["2026-01-04T10:00:00+00:00"]);
    assert_eq!(times(&["file", "--all"]), ["2026-01-04T10:00:00+00:00", "2026-01-02T10:00:00+00:00"]);
    // A deletion that a later one took the place of is not the last word about its path.
    assert!(times(&["file", "--until", "2026-01-03"]).is_empty());
    assert_eq!(times(&["file", "--until", "2026-01-03", "--all"]).len(), 1);
    assert_eq!(times(&["--since", "2026-01-03"]).len(), 1);
    assert_eq!(world.run(&["deleted", "--since", "soon"]).code, Some(2));
    // Two records of one path in one page, in the other order of their places.
    assert_eq!(paths(&world, &["--limit", "1"]), ["/tree/file"]);
}

#[test]
fn paths_are_typed_in_every_form() {
    let (world, _) = world();
    let absolute = world.tree().join("directory/deeper");
    for part in
        ["/tree/directory/deeper", "tree/directory/deeper", "directory/deeper/", world.text(&absolute), "**/deeper"]
    {
        assert_eq!(paths(&world, &[part]), ["/tree/directory/deeper", "/tree/directory/deeper/two"], "{part}");
    }
    assert_eq!(paths(&world, &["."]), GONE, "all that was saved lies in the current directory");
    assert_eq!(paths(&world, &["*o*"]).len(), 5, "patterns as in find");
    for part in ["direct", "/elsewhere", "one"] {
        assert!(paths(&world, &[part]).is_empty(), "{part}");
    }
    assert_eq!(world.run(&["deleted", "["]).code, Some(2));
}

#[test]
fn pages_follow_each_other() {
    let (world, _) = world();
    for day in 3..=5 {
        world.write(&format!("of day {day}"), "x");
        world.write("again and again", "x");
        backup_at(&world, &format!("2026-01-0{day} 10:00:00"), &[]);
        remove(&world, &format!("of day {day}"));
        remove(&world, "again and again");
        backup_at(&world, &format!("2026-01-0{day} 11:00:00"), &[]);
    }
    for (words, total) in [(&[][..], 11), (&["--all"], 13)] {
        let whole = paths(&world, words);
        assert_eq!(whole.len(), total, "{whole:?}");
        for limit in 1..=total {
            let (mut all, mut after): (Vec<String>, Option<String>) = (Vec::new(), None);
            let limit = limit.to_string();
            loop {
                let mut line = [words, &["--limit", &limit]].concat();
                if let Some(cursor) = &after {
                    line.extend(["--after", cursor]);
                }
                let (rows, next) = listed(&world.ok(&[&["deleted", "--json"], line.as_slice()].concat()));
                all.extend(rows.iter().map(|row| text(row, "path")));
                assert!(all.len() <= total && !rows.is_empty());
                after = next;
                if after.is_none() {
                    break;
                }
            }
            assert_eq!(all, whole, "pages of {limit}");
        }
    }
    // What comes meanwhile does not move what is behind the cursor.
    let out = world.ok(&["deleted", "--limit", "3"]).out;
    let cursor = out.lines().find_map(|line| line.split_once(" deleted --after ")).unwrap().1;
    let older = paths(&world, &["--after", cursor]);
    remove(&world, "kept");
    backup_at(&world, "2026-01-06 10:00:00", &[]);
    assert_eq!(paths(&world, &["--after", cursor]), older);
    assert_eq!(paths(&world, &[])[0], "/tree/kept");
    for wrong in ["", "1", "-", "0.0-0-0"] {
        assert_eq!(world.run(&["deleted", "--after", wrong]).code, Some(2), "{wrong}");
    }
}

/// A page is filled from as much of the log as it takes.
#[test]
fn most_of_what_vanished_is_there_again() {
    let world = World::with_repository();
    let write = |numbers: std::ops::Range<u32>| numbers.for_each(|n| world.write(&format!("many/{n:04}"), "x"));
    world.write("kept", "kept");
    write(0..2_300);
    world.backup();
    remove(&world, "many");
    world.backup();
    write(5..2_290);
    world.backup();
    let gone = paths(&world, &[]);
    let expected: Vec<String> = (0..5).chain(2_290..2_300).map(|n| format!("/tree/many/{n:04}")).collect();
    assert_eq!(gone, expected);
    let (first, next) = listed(&world.ok(&["deleted", "--json", "--limit", "7"]));
    assert_eq!(first.iter().map(|row| text(row, "path")).collect::<Vec<_>>(), expected[..7]);
    assert_eq!(paths(&world, &["--after", &next.unwrap()]), expected[7..]);
    // All of it, in pages that are larger than one pass.
    let (first, next) = listed(&world.ok(&["deleted", "--json", "--all", "--limit", "2000"]));
    assert_eq!((first.len(), paths(&world, &["--all", "--after", &next.unwrap()]).len()), (2_000, 301));
}

/// Two sources with a log each, in one list.
#[test]
fn every_source_has_a_log_of_its_own() {
    let (world, _) = world();
    fs::create_dir(world.path("second")).unwrap();
    fs::write(world.path("second/x"), "x").unwrap();
    let backup = |time: &str| world.ok(&["backup", "--allow-empty", "second", "--time", time]);
    backup("2026-01-01 12:00:00");
    fs::remove_file(world.path("second/x")).unwrap();
    backup("2026-01-01 13:00:00");
    let all = paths(&world, &[]);
    assert_eq!((all.len(), all[7].as_str()), (8, "/second/x"), "newest first, whatever the source");
    let (second, tree) = (world.path("second"), world.tree());
    assert_eq!(paths(&world, &["--path", world.text(&second)]), ["/second/x"]);
    assert_eq!(paths(&world, &["--path", world.text(&tree)]), GONE);
    // A backup by other rules of choosing a parent goes on with the log of its own source.
    remove(&world, "kept");
    world.ok(&["backup", "--group-by", "", "tree"]);
    assert_eq!(paths(&world, &["kept"]), ["/tree/kept"]);
    // And so does one that reads everything again, or compares with a parent of its own choice.
    remove(&world, "new");
    world.ok(&["backup", "--force", "tree"]);
    remove(&world, "other");
    let oldest = ids(&world)[0].clone();
    world.ok(&["backup", "--parent", &oldest, "tree"]);
    assert_eq!(paths(&world, &["--path", world.text(&tree)]).len(), 7 + 1 + 1 + 2);
    world.ok(&["check"]);
}

/// What the walk does not meet and is there all the same.
#[test]
fn what_is_left_out_is_not_gone() {
    let world = World::with_repository();
    for name in ["a.tmp", "large", "kept", "cache/x", "ignored", "left/x", "left/y"] {
        world.write(name, if name == "large" { "x".repeat(5_000) } else { name.to_owned() });
    }
    world.ok(&["backup", "tree"]);
    world.write("cache/CACHEDIR.TAG", "Signature: 8a477f597d28d172789f06886806bc55");
    world.write(".gitignore", "ignored\n");
    remove(&world, "left/x");
    let words = ["backup", "tree", "--exclude", "*.tmp", "--exclude", "left", "--exclude-larger-than", "1k"];
    world.ok(&[&words[..], &["--exclude-caches", "--git-ignore"]].concat());
    let kept = world.ok(&["ls", "latest", "--recursive"]).out;
    assert!(
        kept.contains("/tree/kept")
            && ["a.tmp", "large", "cache/x", "/ignored", "left"].iter().all(|name| !kept.contains(name)),
        "{kept}"
    );
    assert!(paths(&world, &["--all"]).is_empty());
    // Left out and deleted at once is deleted.
    world.ok(&["backup", "tree"]);
    remove(&world, "a.tmp");
    world.ok(&["backup", "tree", "--exclude", "*.tmp"]);
    assert_eq!(paths(&world, &[]), ["/tree/a.tmp"]);
}

#[test]
fn a_source_that_is_missing_is_not_gone() {
    let world = World::with_repository();
    world.write("disk/x", "x");
    world.write("kept", "kept");
    let run = |code: i32, words: &[&str]| {
        let ran = world.run(&[&["backup"], words].concat());
        assert_eq!(ran.code, Some(code), "{}", ran.err);
    };
    run(0, &["tree/disk", "tree/kept"]);
    run(0, &["tree", "tree/disk"]);
    remove(&world, "disk");
    run(3, &["tree/disk", "tree/kept"]);
    run(3, &["tree", "tree/disk"]);
    assert!(paths(&world, &["--all"]).is_empty());
}

/// The current directory as a source stands at the top; by its whole path it stands deeper. Neither is what the other lacks.
#[test]
fn one_directory_in_two_forms() {
    let world = World::with_repository();
    world.write("a", "a");
    world.write("b/c", "c");
    let here = |words: &[&str]| {
        let output = world.command(words).current_dir(world.tree()).output().unwrap();
        let ran = Ran::from(output);
        assert_eq!(ran.code, Some(0), "{}", ran.err);
    };
    let tree = world.tree();
    world.ok(&["backup", world.text(&tree)]);
    here(&["backup", "."]);
    world.ok(&["backup", world.text(&tree)]);
    assert!(paths(&world, &["--all"]).is_empty());
    here(&["backup", "."]);
    remove(&world, "a");
    here(&["backup", "."]);
    assert_eq!(paths(&world, &[]), ["/a"]);
    assert_eq!(paths(&world, &[world.text(&tree.join("a"))]), ["/a"]);
    remove(&world, "b");
    here(&["backup", "--allow-empty", "."]);
    assert_eq!(paths(&world, &[]), ["/b", "/b/c", "/a"], "also what was left of an empty directory");
}

fn give_to(user: u32, path: &Path) {
    for entry in fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() { give_to(user, &entry) } else { chown(&entry, Some(user), Some(user)).unwrap() }
    }
    chown(path, Some(user), Some(user)).unwrap();
}

#[test]
fn what_cannot_be_read_is_not_gone() {
    const NOBODY: u32 = 65_534;
    let world = World::with_repository();
    world.write("closed/x", "x");
    world.write("hidden/y", "y");
    world.write("secret", "secret");
    world.write("gone", "gone");
    let is_root = rustix::process::geteuid().is_root();
    let program = world.path("program");
    super::support::copy_program(&program);
    if is_root {
        give_to(NOBODY, &world.path(""));
    }
    let run = |words: &[&str]| {
        let mut command = std::process::Command::new(&program);
        command.args(words).env_clear().env("HOME", world.path("home")).env("PACKSTONE_REPOSITORY", world.repository());
        command.env("PACKSTONE_KEY_FILE", world.key()).current_dir(world.path(""));
        if is_root {
            command.uid(NOBODY).gid(NOBODY);
        }
        Ran::from(command.output().unwrap())
    };
    assert_eq!(run(&["backup", "tree"]).code, Some(0));
    let mode = |name: &str, mode| {
        fs::set_permissions(world.tree().join(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    mode("closed", 0o000);
    // Its names can be listed and nothing about them can be asked.
    mode("hidden", 0o400);
    mode("secret", 0o000);
    remove(&world, "gone");
    let ran = run(&["backup", "tree"]);
    assert_eq!(ran.code, Some(3), "{}", ran.err);
    let told = listed(&run(&["deleted", "--json"])).0;
    assert_eq!(told.iter().map(|row| text(row, "path")).collect::<Vec<_>>(), ["/tree/gone"]);
    for name in ["closed", "hidden", "secret"] {
        mode(name, 0o700);
    }
}

#[test]
fn names_do_nothing_to_the_terminal() {
    let world = World::with_repository();
    let hostile = OsStr::from_bytes(b"a\nb\x1b[31m\xff");
    world.write("kept", "kept");
    fs::write(world.tree().join(hostile), "x").unwrap();
    world.backup();
    fs::remove_file(world.tree().join(hostile)).unwrap();
    world.backup();
    let out = world.ok(&["deleted"]).out;
    assert!(!out.contains('\x1b') && out.contains("/tree/a\\nb\\x1b[31m\\xff"), "{out}");
    let rows = deleted(&world, &[]);
    assert_eq!(text(&rows[0], "path_raw"), "2f747265652f610a621b5b33316dff");
}

/// A log that cannot be read stops no backup: a new one begins, and that is said.
#[test]
fn damage_in_the_log_does_not_stop_a_backup() {
    let (world, _) = world();
    // From here on another pack holds the listings, and the first ones the log alone.
    let before = objects(&world, "packs");
    for name in ["kept", "other/kept", "becomes a directory/inner"] {
        world.write(name, "another");
    }
    world.backup();
    for path in before {
        let id = path.file_name().unwrap().to_str().unwrap().to_owned();
        let pack = json(&world.ok(&["cat", "pack", &id, "--json"]));
        if pack["kind"] == "tree" {
            let blocks = pack["blocks"].as_array().unwrap();
            flip(&path, &blocks.iter().map(|block| block["offset"].as_u64().unwrap()).collect::<Vec<_>>());
        }
    }
    let ran = world.run(&["deleted", "--json"]);
    assert_eq!(ran.code, Some(17), "{}", ran.err);
    assert!(ran.err.contains("records of the log of deletions"), "{}", ran.err);
    let ran = world.run(&["check"]);
    assert!(ran.out.contains("(the log of deletions)") && ran.code == Some(17), "{}", ran.out);
    // Nothing is added, so nothing is read.
    assert!(!world.ok(&["backup", "tree"]).err.contains("log of deletions"));
    remove(&world, "new");
    let ran = world.ok(&["backup", "tree"]);
    assert!(ran.err.contains("the log of deletions cannot be read"), "{}", ran.err);
    assert!(ran.err.contains("its 7 records stay behind in earlier snapshots, and a new one begins"), "{}", ran.err);
    let newest = world.ok(&["deleted", "--json"]);
    assert_eq!(listed(&newest).0.iter().map(|row| text(row, "path")).collect::<Vec<_>>(), ["/tree/new"]);
}

/// The listings of the snapshot before cannot be read: the backup reads everything again, and says what it could not compare.
#[test]
fn damage_in_the_snapshot_before_is_said() {
    let (world, _) = world();
    spoil_packs(&world, "tree");
    remove(&world, "new");
    let ran = world.ok(&["backup", "tree"]);
    assert!(ran.err.contains("the snapshot before cannot be read in full"), "{}", ran.err);
}

#[test]
fn a_dry_run_and_a_stream_change_no_log() {
    let (world, _) = world();
    remove(&world, "new");
    world.ok(&["backup", "--dry-run", "tree"]);
    assert_eq!(paths(&world, &[]).len(), 7);
    let ran = world.ok(&["backup", "--json", "-vv", "tree"]);
    assert!(ran.out.contains(r#""action":"deleted","item":"/tree/new""#), "{}", ran.out);
    assert_eq!(paths(&world, &[]).len(), 8);
    // A file, and then a stream of the same name.
    let (file, there) = (world.path("stream"), world.path("stream/x"));
    fs::create_dir(&file).unwrap();
    fs::write(&there, "x").unwrap();
    let name = world.text(&file).to_owned();
    world.ok(&["backup", &name]);
    fs::remove_file(&there).unwrap();
    world.ok(&["backup", "--allow-empty", &name]);
    let ran = world.ok(&["backup", "--json", "--stdin", "--stdin-allow-empty", "--stdin-filename", &name]);
    assert_eq!(json(&world.ok(&["cat", "snapshot", &snapshot_id(&ran), "--json"]))["deleted_count"], 1);
}

/// The log is carried over by naming its chunks.
#[test]
fn an_unchanged_backup_stores_no_more_because_of_the_log() {
    let (world, _) = world();
    let stored = || -> u64 {
        let folders = ["packs", "index", "snapshots", "heads"].iter().flat_map(|folder| objects(&world, folder));
        folders.map(|path| fs::metadata(path).unwrap().len()).sum()
    };
    let packs = objects(&world, "packs").len();
    let before = stored();
    world.backup();
    assert_eq!(objects(&world, "packs").len(), packs);
    let head = objects(&world, "heads").iter().map(|path| fs::metadata(path).unwrap().len()).max().unwrap();
    // A snapshot of the least length, and the head that names it.
    assert_eq!(stored() - before, 4_096 + head);
    let raw = |words: &[&str]| {
        let words = [&["stats", "--mode", "raw-data", "--json"], words].concat();
        json(&world.ok(&words))["total_blob_count"].as_u64().unwrap()
    };
    assert_eq!(raw(&["latest"]), raw(&["latest:/tree"]) + 2, "the root's listing, and the log");
}
