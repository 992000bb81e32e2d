//! What makes repositories and snapshots.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use super::super::reading::spoil_packs;
use super::super::support::{World, copy_program};
use super::{Page, backup_of, empty, hold, next_day, nothing, settle, tree, two};

#[test]
fn init() {
    let mut page = Page::new("init");
    let world = nothing();
    fs::write(world.path("passphrase"), "correct horse battery\n").unwrap();
    fs::write(world.path("nothing"), "").unwrap();
    page.bare(&world, &["init", "--new-key-file", "key", "--dry-run"]);
    page.bare(&world, &["init", "--new-key-file", "key", "--dry-run", "--json"]);
    page.bare(&world, &["init", "--new-key-file", "key"]);
    page.bare(&world, &["init", "-r", "second", "--new-key-file", "key-2", "--json"]);
    page.bare(&world, &["init", "-r", "third", "--new-key-file", "key-3", "--quiet"]);
    page.bare(&world, &["init", "-r", "fourth", "--new-key-file", "key-4", "-v", "--chunk-size", "512k"]);
    page.bare(&world, &["init", "-r", "fifth", "-p", "passphrase", "--no-recovery-code"]);
    page.bare(&world, &["init", "-r", "sixth", "-p", "passphrase", "--no-recovery-code", "--json"]);
    page.title("Failing");
    page.bare(&world, &["init", "--new-key-file", "key"]);
    page.bare(&world, &["init", "--new-key-file", "key", "--json"]);
    page.bare(&world, &["init", "--new-key-file", "key-5"]);
    page.bare(&world, &["init", "-r", "seventh", "--new-key-file", "passphrase"]);
    page.bare(&world, &["init", "-r", "seventh", "-p", "passphrase"]);
    page.bare(&world, &["init", "-r", "seventh", "-p", "nothing", "--no-recovery-code"]);
    page.bare(&world, &["init", "-r", "seventh", "-p", "missing", "--no-recovery-code"]);
    page.bare(&world, &["init", "-r", "seventh"]);
    page.bare(&world, &["init", "-r", "seventh", "--new-key-file", "key-5", "-p", "passphrase"]);
    page.bare(&world, &["init", "-r", "seventh", "--new-key-file", "key-5", "--chunk-size", "1"]);
    page.bare(&world, &["init", "-r", "seventh", "-p", "passphrase", "--no-recovery-code", "--kdf-memory", "1M"]);
    page.bare(&world, &["init", "-r", "no/such/place", "--new-key-file", "key-5"]);
    fs::create_dir(world.path("photos")).unwrap();
    fs::write(world.path("photos/beach.jpg"), "sea").unwrap();
    page.bare(&world, &["init", "-r", "photos", "--new-key-file", "key-5"]);
    page.end();
}

#[test]
fn backup_() {
    let mut page = Page::new("backup");
    let world = empty();
    tree(&world);
    let at = |day: &'static str, more: &[&'static str]| -> Vec<&'static str> {
        [&["backup", "--host", "box", "--time", day, "tree"], more].concat()
    };
    page.run(&world, &at("2024-05-01 10:00:00", &["--dry-run"]));
    page.run(&world, &at("2024-05-01 10:00:00", &["--dry-run", "--json"]));
    page.run(&world, &at("2024-05-01 10:00:00", &["--dry-run", "-vv"]));
    page.run(&world, &at("2024-05-01 10:00:00", &["--dry-run", "--quiet"]));
    page.run(&world, &at("2024-05-01 10:00:00", &["--tag", "spring,home", "--label", "before the move"]));
    next_day(&world);
    page.run(&world, &at("2024-05-02 10:00:00", &["--json"]));
    page.run(&world, &at("2024-05-03 10:00:00", &["--skip-if-unchanged"]));
    page.run(&world, &at("2024-05-03 10:00:00", &["--skip-if-unchanged", "--json"]));
    page.run(&world, &at("2024-05-03 10:00:00", &["-v"]));
    page.run(&world, &at("2024-05-04 10:00:00", &["--quiet"]));
    page.run(&world, &at("2024-05-05 10:00:00", &["-vv", "--force"]));
    page.run(&world, &at("2024-05-06 10:00:00", &["-vv", "--json", "--exclude", "*.txt"]));
    let parent = world.ok(&["show", "latest", "--json"]);
    let parent: serde_json::Value = serde_json::from_str(&parent.out).unwrap();
    let parent = parent["id"].as_str().unwrap().to_owned();
    page.run(&world, &[&at("2024-05-07 10:00:00", &["--parent"])[..], &[&parent]].concat());
    page.run(
        &world,
        &[
            "backup",
            "--host",
            "box",
            "--time",
            "2024-05-07 10:00:00",
            "--stdin-from-command",
            "--stdin-filename",
            "seven",
            "seq",
            "7",
        ],
    );
    page.title("A file for the whole of another repository");
    page.run(&world, &["backup", "--init", "-r", "new", "--key-file", "key", "--host", "box", "tree"]);
    page.title("Part of the source cannot be read");
    page.run(&world, &at("2024-05-08 10:00:00", &["absent"]));
    page.run(&world, &at("2024-05-08 10:00:00", &["absent", "--json"]));
    let before = fs::metadata(world.tree()).unwrap().permissions();
    fs::create_dir(world.path("bare")).unwrap();
    page.run(&world, &["backup", "--host", "box", "--time", "2024-05-08 10:00:00", "bare"]);
    fs::set_permissions(world.tree(), before).unwrap();
    page.title("Failing");
    page.run(&world, &["backup"]);
    page.run(&world, &["backup", "absent"]);
    page.run(&world, &["backup", "absent", "--json"]);
    page.run(&world, &["backup", "--stdin", "tree"]);
    page.run(&world, &["backup", "--stdin"]);
    page.run(&world, &["backup", "--stdin-from-command", "false"]);
    page.run(&world, &["backup", "--stdin-from-command", "./absent-program"]);
    page.run(&world, &["backup", "tree", "--parent", "0000"]);
    page.run(&world, &["backup", "tree", "--time", "yesterday"]);
    page.run(&world, &["backup", "tree", "--exclude", "[a"]);
    page.run(&world, &["backup", "tree", "--exclude-file", "absent"]);
    page.run(&world, &["backup", "tree", "--exclude", "*"]);
    page.run(&world, &["backup", "tree", "--compression", "extreme"]);
    page.run(&world, &["backup", "tree", "--pack-size", "1"]);
    page.run(&world, &["backup", "tree", "--no-cache", "--cache-dir", "cache"]);
    page.run(&world, &["backup", "tree", "--group-by", "colour"]);
    page.run(&world, &["backup", "tree", "--repo-id", "0000000000"]);
    page.refusals(&world, &["backup", "tree"]);
    let held = hold(&world.repository().join("lock/writer"));
    page.run(&world, &["backup", "tree", "--host", "box", "--time", "2024-05-09 10:00:00"]);
    drop(held);
    let segments: Vec<_> = super::super::support::files_beneath(&world.repository().join("packs"));
    for segment in segments {
        fs::remove_file(segment).unwrap();
    }
    page.title("The packs are lost");
    page.run(&world, &["backup", "tree"]);
    page.end();
}

/// As root every file can be read: then another user runs the program. None, with a line that says so, where that cannot be.
fn ordinary(world: &World) -> Option<impl Fn(&[&str]) -> Command> {
    const NOBODY: u32 = 65_534;
    let is_root = rustix::process::geteuid().is_root();
    if is_root {
        copy_program(&world.path("packstone"));
        let owner = format!("{NOBODY}:{NOBODY}");
        let done = Command::new("chown").args(["-R", &owner]).arg(world.path("")).status().unwrap();
        assert!(done.success());
    }
    let command = move |words: &[&str]| {
        let own = world.command(words);
        if !is_root {
            return own;
        }
        let mut command = Command::new(world.path("packstone"));
        command.args(words).env_clear().current_dir(world.path("")).uid(NOBODY).gid(NOBODY);
        command.envs(own.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    };
    match command(&["version"]).output() {
        Ok(output) if output.status.success() => Some(command),
        other => {
            println!(
                "SKIPPED backup of what cannot be read: root reads everything, and nobody cannot run the program: {other:?}"
            );
            None
        }
    }
}

#[test]
fn backup_of_what_cannot_be_read() {
    let mut page = Page::new("backup-unreadable");
    let world = empty();
    tree(&world);
    let set = |mode| fs::set_permissions(world.tree().join("notes.md"), fs::Permissions::from_mode(mode)).unwrap();
    set(0);
    let Some(command) = ordinary(&world) else { return };
    let words = ["backup", "--host", "box", "tree", "--time"];
    page.add(&world, &mut command(&[&words[..], &["2024-05-01 10:00:00"]].concat()));
    page.add(&world, &mut command(&[&words[..], &["2024-05-02 10:00:00", "--json"]].concat()));
    page.add(&world, &mut command(&[&words[..], &["2024-05-03 10:00:00", "--quiet"]].concat()));
    page.add(&world, &mut command(&["show", "latest"]));
    page.end();
}

#[test]
fn copy() {
    let mut page = Page::new("copy");
    let (world, [first, _]) = two();
    let from = |more: &[&'static str]| -> Vec<&'static str> {
        [
            &["copy", "-r", "other", "--key-file", "other-key", "--from-repo", "repository", "--from-key-file", "key"],
            more,
        ]
        .concat()
    };
    page.run(&world, &from(&["--dry-run"]));
    page.run(&world, &from(&["--dry-run", "--json"]));
    page.run(&world, &[&from(&[])[..], &[&first[..8]]].concat());
    page.run(&world, &from(&["--json"]));
    page.run(&world, &from(&[]));
    page.run(&world, &from(&["--quiet"]));
    page.run(&world, &from(&["-v"]));
    page.title("Failing");
    page.run(&world, &from(&["0000"]));
    page.run(&world, &from(&["--tag", "nobody"]));
    page.run(&world, &["copy", "--from-repo", "nowhere"]);
    page.run(&world, &["copy", "--from-repo", "other", "--from-key-file", "key"]);
    page.run(&world, &["copy", "--from-repo", "other", "--from-key-file", "no-key"]);
    page.run(&world, &["copy", "--from-repo", "other"]);
    page.run(&world, &["copy", "--from-repo", "repository", "--from-key-file", "key"]);
    page.run(&world, &["copy", "--from-mirror", "nobody", "--from-key-file", "key"]);
    page.run(&world, &["copy", "--from-repo", "other", "--from-key-file", "other-key", "--from-repo-id", "00000000"]);
    page.run(&world, &["copy"]);
    page.refusals(&world, &["copy", "--from-repo", "other", "--from-key-file", "other-key"]);
    page.locked(&world, &["copy", "--from-repo", "other", "--from-key-file", "other-key"]);
    page.title("What is copied is damaged");
    world.ok(&["init", "-r", "third", "--new-key-file", "third-key"]);
    world.ok(&[
        "backup",
        "tree",
        "--host",
        "box",
        "-r",
        "third",
        "--key-file",
        "third-key",
        "--time",
        "2024-05-01 10:00:00",
    ]);
    spoil_packs(&world, "data");
    let damaged =
        ["copy", "-r", "third", "--key-file", "third-key", "--from-repo", "repository", "--from-key-file", "key"];
    page.run(&world, &[&damaged[..], &["--json"]].concat());
    page.run(&world, &damaged);
    page.end();
}

#[test]
fn rewrite() {
    let mut page = Page::new("rewrite");
    let (world, _) = two();
    page.forms(&world, &["rewrite", "--exclude", "*.md", "--dry-run"]);
    page.run(&world, &["rewrite", "--exclude", "*.md", "--forget", "--json"]);
    page.run(&world, &["rewrite", "--exclude", "absent"]);
    page.run(&world, &["rewrite", "--exclude", "letters", "--forget", "-v"]);
    page.run(&world, &["rewrite", "--exclude", "empty", "--forget", "--quiet"]);
    page.run(&world, &["rewrite", "--exclude", "*", "--dry-run"]);
    page.run(&world, &["rewrite", "--exclude", "link", "latest"]);
    page.title("Failing");
    page.run(&world, &["rewrite"]);
    page.run(&world, &["rewrite", "--exclude", "*.txt", "0000"]);
    page.run(&world, &["rewrite", "--exclude", "[a"]);
    page.run(&world, &["rewrite", "--exclude", "*.txt", "--tag", "nobody"]);
    page.refusals(&world, &["rewrite", "--exclude", "link"]);
    page.locked(&world, &["rewrite", "--exclude", "link"]);
    page.title("The listings are damaged");
    spoil_packs(&world, "tree");
    page.run(&world, &["rewrite", "--exclude", "link"]);
    page.end();
}

#[test]
fn tag() {
    let mut page = Page::new("tag");
    let (world, [first, second]) = two();
    page.forms(&world, &["tag", "--add", "kept", "--dry-run"]);
    page.run(&world, &["tag", "--add", "kept", &second]);
    page.run(&world, &["tag", "--set", "one,two", &first[..8], "--json"]);
    page.run(&world, &["tag", "--set", "one,two", "--quiet"]);
    page.run(&world, &["tag", "--remove", "one", "-v"]);
    page.run(&world, &["tag", "--remove", "one"]);
    page.title("Failing");
    page.run(&world, &["tag"]);
    page.run(&world, &["tag", "--add", "a", "--set", "b"]);
    page.run(&world, &["tag", "--add", "a", "0000"]);
    page.run(&world, &["tag", "--add", "a", "--tag", "nobody"]);
    page.run(&world, &["tag", "--add", "a", "--host", "nobody", "--json"]);
    page.refusals(&world, &["tag", "--add", "a"]);
    page.locked(&world, &["tag", "--add", "a"]);
    page.end();
}

#[test]
fn hold_() {
    let mut page = Page::new("hold");
    let (world, [first, second]) = two();
    page.forms(&world, &["hold", &first, "--dry-run"]);
    page.run(&world, &["hold", &first]);
    page.run(&world, &["hold", &second, "--json"]);
    page.run(&world, &["hold", "latest", "--quiet"]);
    page.run(&world, &["hold", "latest", "latest~1"]);
    page.run(&world, &["hold", "latest", "--json"]);
    page.title("Failing");
    page.run(&world, &["hold"]);
    page.run(&world, &["hold", "0000"]);
    page.run(&world, &["hold", "latest~7"]);
    page.refusals(&world, &["hold", "latest"]);
    page.run(&world, &["release", "latest"]);
    page.locked(&world, &["hold", "latest"]);
    page.end();
}

#[test]
fn release() {
    let mut page = Page::new("release");
    let (world, _) = two();
    page.run(&world, &["release", "latest"]);
    world.ok(&["hold", "latest", "latest~1"]);
    page.forms(&world, &["release", "latest", "--dry-run"]);
    page.run(&world, &["release", "latest"]);
    page.run(&world, &["release", "latest~1", "--json"]);
    page.run(&world, &["release", "latest", "latest~1", "--quiet"]);
    page.title("Failing");
    page.run(&world, &["release"]);
    page.run(&world, &["release", "0000"]);
    page.refusals(&world, &["release", "latest"]);
    world.ok(&["hold", "latest"]);
    page.locked(&world, &["release", "latest"]);
    page.end();
}

/// A tree that did not change between two backups of another host, for the groups.
pub fn two_hosts() -> (World, [String; 3]) {
    let (world, [first, second]) = two();
    settle(&world.tree());
    let third = backup_of("laptop", &world, 3, &["--tag", "home"]);
    (world, [first, second, third])
}
