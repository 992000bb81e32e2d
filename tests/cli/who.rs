//! Which repository it is, and how new: what this machine remembers of places and heads, what the user says of them, and what is said when
//! nobody can know.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Ran;
use super::plain;
use super::support::{World, files_beneath};

const NOT_PROVEN: &str = "freshness NOT proven";

/// A second repository of the same key, with a file of its own, beside the first.
fn two() -> World {
    let world = World::with_repository();
    world.write("secret-of-one", "one");
    world.backup();
    let ran = at(&world, "other", &["init"]);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    fs::write(world.path("secret-of-two"), "two").unwrap();
    assert_eq!(at(&world, "other", &["backup", "secret-of-two"]).code, Some(0));
    world
}

/// The program with another repository.
fn at(world: &World, repository: &str, words: &[&str]) -> Ran {
    let mut command = world.command(words);
    command.env("PACKSTONE_REPOSITORY", world.path(repository)).output().unwrap().into()
}

/// The same on a machine that has seen nothing.
pub fn blank(world: &World, home: &str, words: &[&str]) -> Ran {
    fs::create_dir_all(world.path(home)).unwrap();
    world.command(words).env("HOME", world.path(home)).output().unwrap().into()
}

fn exchange(world: &World, one: &str, other: &str) {
    fs::rename(world.path(one), world.path("between")).unwrap();
    fs::rename(world.path(other), world.path(one)).unwrap();
    fs::rename(world.path("between"), world.path(other)).unwrap();
}

/// The id of the repository there, which is opened on a machine of its own.
fn id(world: &World, repository: &str) -> String {
    let mut command = world.command(&["status", "--json"]);
    let command = command.env("PACKSTONE_REPOSITORY", world.path(repository)).env("HOME", world.path("elsewhere"));
    let ran: Ran = command.output().unwrap().into();
    let status: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    status["repository"].as_str().unwrap().to_owned()
}

/// The state code of the newest state.
fn code(world: &World) -> String {
    let ran = world.run(&["status", "--json"]);
    let status: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    status["state_code"].as_str().unwrap().to_owned()
}

fn memories(world: &World) -> PathBuf {
    world.path("home/.local/state/packstone/repositories")
}

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
}

/// What each of these opens may be another repository than is meant.
const READS: &[&[&str]] = &[
    &["restore", "latest", "--target", "back"],
    &["snapshots"],
    &["ls", "latest"],
    &["dump", "latest", "tree/secret-of-one"],
    &["check"],
    &["status"],
    &["stats"],
    &["mirror", "list"],
    &["sync"],
    &["repair", "heads"],
    &["repair", "objects"],
];

/// Story: two repositories of one passphrase were exchanged. What was asked of the one was answered by the other, and a backup stored
/// the one's private files in the other.
#[test]
fn another_repository_in_its_place_is_refused_before_anything_is_read_or_stored() {
    let world = two();
    let (one, two) = (id(&world, "repository"), id(&world, "other"));
    exchange(&world, "repository", "other");
    let before = files_beneath(&world.repository());
    for words in READS.iter().chain([&["backup", "tree"][..], &["forget", "latest"], &["prune"]].iter()) {
        let ran = world.run(words);
        assert_eq!(ran.code, Some(14), "{words:?}: {}{}", ran.out, ran.err);
        for part in [&one[..8], &two[..8], &format!("--repo-id {}", &two[..8])] {
            assert!(ran.err.contains(part), "{words:?}: {part}: {}", ran.err);
        }
        assert_eq!(ran.out, "", "{words:?}");
    }
    assert_eq!(files_beneath(&world.repository()), before, "no lock, no pin, no object");
    assert!(!world.path("back").exists());
    // Exchanged again, all is as it was.
    exchange(&world, "repository", "other");
    world.ok(&["snapshots"]);

    // The way out: who names it means it, from then on.
    exchange(&world, "repository", "other");
    let accepted = world.ok(&["--repo-id", &two[..8], "ls", "latest"]);
    assert!(accepted.out.contains("secret-of-two"), "{}", accepted.out);
    assert!(world.ok(&["ls", "latest"]).out.contains("secret-of-two"));
    exchange(&world, "repository", "other");
    assert_eq!(world.run(&["ls", "latest"]).code, Some(14), "the one of before is the other one now");
    // Two disks that are used in turn.
    for _ in 0..2 {
        world.ok(&["--repo-id", &one, "--repo-id", &two[..20], "snapshots"]);
        exchange(&world, "repository", "other");
    }
}

#[test]
fn a_place_has_the_name_that_was_typed_and_the_one_without_links() {
    let world = two();
    symlink("repository", world.path("link")).unwrap();
    assert_eq!(at(&world, "link", &["snapshots"]).code, Some(0), "another name of the same place");
    // The link leads to the other one.
    fs::remove_file(world.path("link")).unwrap();
    symlink("other", world.path("link")).unwrap();
    assert_eq!(at(&world, "link", &["snapshots"]).code, Some(14));
    // By relative names, and by a link that was never used.
    exchange(&world, "repository", "other");
    symlink("repository", world.path("new-link")).unwrap();
    for name in ["new-link", "repository/../repository/"] {
        assert_eq!(at(&world, name, &["snapshots"]).code, Some(14), "{name}");
    }
    let ran: Ran = world
        .command(&["--repo", ".", "snapshots"])
        .env_remove("PACKSTONE_REPOSITORY")
        .current_dir(world.repository())
        .output()
        .unwrap()
        .into();
    assert_eq!(ran.code, Some(14), "{}", ran.err);
    // A link to a disk that is gone leads nowhere; what was seen through it is still known.
    fs::rename(world.path("other"), world.path("unmounted")).unwrap();
    let ran = at(&world, "link", &["snapshots"]);
    assert_eq!(ran.code, Some(10), "{}", ran.err);
}

#[test]
fn a_repository_that_moved_is_opened_and_its_old_place_is_not_given_to_a_new_one_unasked() {
    let world = two();
    world.write("a", "a");
    fs::rename(world.repository(), world.path("moved")).unwrap();
    let ran = at(&world, "moved", &["snapshots"]);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
    assert_eq!(at(&world, "moved", &["backup", "tree"]).code, Some(0));
    let ran = world.run(&["backup", "--init", "tree"]);
    assert_eq!(ran.code, Some(10), "{}", ran.err);
    assert!(ran.err.contains("is not there now") && plain(&ran.err).contains("packstone init"), "{}", ran.err);
    assert!(!world.repository().exists());
    // On purpose it is made, and the place is its own.
    let ran = world.ok(&["init"]);
    assert_eq!(ran.err, "");
    let ran = world.ok(&["backup", "tree"]);
    assert_eq!(ran.err, "");
    // The one of before comes back there: another one by now.
    fs::rename(world.repository(), world.path("new")).unwrap();
    fs::rename(world.path("moved"), world.repository()).unwrap();
    assert_eq!(world.run(&["snapshots"]).code, Some(14));
}

#[test]
fn a_recovered_repository_takes_its_place() {
    let world = two();
    world.ok(&["mirror", "add", "offsite", "mirror"]);
    world.ok(&["sync"]);
    fs::remove_dir_all(world.path("other")).unwrap();
    let ran = world.ok(&["recover", "offsite", "--to", "other"]);
    assert_eq!(ran.err, "", "{}", ran.out);
    let ran = at(&world, "other", &["snapshots"]);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
}

#[test]
fn a_repository_that_is_named_is_the_one_or_refused() {
    let world = two();
    let (one, two) = (id(&world, "repository"), id(&world, "other"));
    for words in READS {
        let ran = world.run(&[&["--repo-id", &two[..8]], *words].concat());
        assert_eq!(ran.code, Some(14), "{words:?}: {}", ran.err);
        assert!(ran.err.contains(&one[..8]) && ran.err.contains(&two[..8]), "{words:?}: {}", ran.err);
    }
    assert_eq!(world.run(&["--repo-id", &one[..7], "snapshots"]).code, Some(2));
    world.ok(&["--repo-id", &one, "snapshots"]);
    world.ok(&["--repo-id", &one[..8].to_uppercase(), "snapshots"]);
    for words in [&["init", "--repo-id", &one[..8]][..], &["backup", "--init", "--repo-id", &one[..8], "tree"]] {
        assert_eq!(at(&world, "new", words).code, Some(2), "a new one cannot be meant");
    }
    assert!(!world.path("new").exists());
    // Mirrors, and the source of a copy.
    world.ok(&["mirror", "add", "offsite", "mirror"]);
    world.ok(&["sync"]);
    let address = world.path("mirror");
    let address = world.text(&address);
    for words in [
        &["--from", address, "ls", "latest"][..],
        &["check", "--mirror", address],
        &["recover", address, "--to", "back"],
        &["drill", address, "--to", "drills"],
    ] {
        let ran = world.run(&[&["--repo-id", &two[..8]], words].concat());
        let exit = if words[0] == "drill" { 19 } else { 14 };
        assert_eq!(ran.code, Some(exit), "{words:?}: {}{}", ran.out, ran.err);
        world.ok(&[&["--repo-id", &one[..8]], words].concat());
    }
    fs::remove_dir_all(world.path("back")).unwrap();
    for from in [&["--from-repo", "repository"][..], &["--from-mirror", address]] {
        let copy = |id: &str| {
            let mut command = world.command(&[&["copy", "--from-repo-id", id], from].concat());
            command.env("PACKSTONE_FROM_KEY_FILE", world.key());
            let ran: Ran = command.env("PACKSTONE_REPOSITORY", world.path("other")).output().unwrap().into();
            ran
        };
        let ran = copy(&two[..8]);
        assert_eq!(ran.code, Some(14), "{from:?}: {}", ran.err);
        let ran = copy(&one[..8]);
        assert_eq!(ran.code, Some(0), "{from:?}: {}", ran.err);
    }
}

/// The mirror of another repository in a mirror's place.
#[test]
fn a_mirror_of_another_repository_is_not_read_for_the_one_that_is_meant() {
    let world = two();
    world.ok(&["mirror", "add", "offsite", "mirror"]);
    world.ok(&["sync"]);
    assert_eq!(at(&world, "other", &["mirror", "add", "offsite", "other-mirror"]).code, Some(0));
    assert_eq!(at(&world, "other", &["sync"]).code, Some(0));
    exchange(&world, "mirror", "other-mirror");
    let two = id(&world, "other");
    for words in [
        &["--from", "offsite", "restore", "latest", "--target", "back"][..],
        &["check", "--mirror", "offsite"],
        &["recover", "offsite", "--to", "back"],
    ] {
        let ran = world.run(words);
        assert_eq!(ran.code, Some(14), "{words:?}: {}", ran.err);
        assert!(ran.err.contains(&two[..8]), "{words:?}: {}", ran.err);
    }
    assert_eq!(world.run(&["drill", "offsite", "--to", "drills"]).code, Some(19));
    assert!(!world.path("back").exists());
    exchange(&world, "mirror", "other-mirror");
    // Nor is the name looked up in the list of another repository.
    exchange(&world, "repository", "other");
    assert_eq!(world.run(&["--from", "offsite", "ls", "latest"]).code, Some(14));
}

/// Everything that reads the newest state, and may be answered with an older one.
const EVERY_WAY_IN: &[&[&str]] = &[
    &["restore", "latest", "--target", "back"],
    &["snapshots", "--json"],
    &["ls", "latest"],
    &["dump", "latest", "tree/file"],
    &["check"],
    &["find", "file"],
    &["diff", "latest", "./tree"],
    &["stats"],
    &["status"],
    &["show", "latest"],
    &["deleted"],
    &["key", "list"],
    &["cat", "config"],
    &["mirror", "list"],
    &["repair", "heads"],
    &["repair", "objects"],
    &["--from", "MIRROR", "ls", "latest"],
    &["--from", "MIRROR", "restore", "latest", "--target", "back-2"],
    &["check", "--mirror", "MIRROR"],
    &["drill", "MIRROR", "--to", "drills"],
    &["drill", "MIRROR", "--to", "drills", "--sample", "10%"],
    &["recover", "MIRROR", "--to", "recovered"],
    &["backup", "tree"],
];

pub fn mirrored() -> World {
    let world = World::with_repository();
    world.write("file", "text");
    world.backup();
    world.ok(&["mirror", "add", "offsite", "mirror"]);
    world.ok(&["sync"]);
    world
}

pub fn said(ran: &Ran) -> usize {
    assert!(!ran.out.contains("freshness NOT proven:"), "{}", ran.out);
    ran.err.matches(NOT_PROVEN).count()
}

#[test]
fn a_machine_that_has_seen_nothing_says_so_once() {
    let world = mirrored();
    let (mirror, code) = (world.path("mirror"), code(&world));
    for (number, words) in EVERY_WAY_IN.iter().enumerate() {
        let words: Vec<&str> =
            words.iter().map(|word| if *word == "MIRROR" { world.text(&mirror) } else { *word }).collect();
        let clean = || drop(["back", "back-2", "recovered"].map(|name| fs::remove_dir_all(world.path(name))));
        let home = format!("home-{number}");
        let ran = blank(&world, &home, &words);
        assert!(matches!(ran.code, Some(0 | 18)), "{words:?}: {}{}", ran.out, ran.err);
        assert_eq!(said(&ran), 1, "{words:?}: {}{}", ran.out, ran.err);
        assert!(ran.err.contains(&code) && ran.err.contains("--expect-head"), "{words:?}: {}", ran.err);
        clean();
        let ran = blank(&world, &home, &words);
        assert_eq!(said(&ran), 0, "the second time: {words:?}: {}", ran.err);
        clean();
        // With the code nothing is left to be said.
        let ran = blank(&world, &format!("proven-{number}"), &[&["--expect-head", &code], &words[..]].concat());
        assert_eq!(said(&ran), 0, "{words:?}: {}", ran.err);
        clean();
    }
    // Lines for programs stay lines for programs, on both streams.
    let ran = blank(&world, "json", &["snapshots", "--json"]);
    serde_json::from_str::<serde_json::Value>(&ran.out).unwrap();
    ran.err.lines().for_each(|line| drop(serde_json::from_str::<serde_json::Value>(line).unwrap()));
    // Both of a copy.
    let into = World::with_repository();
    let mut command = into.command(&["copy", "--from-repo", world.text(&world.repository())]);
    let ran: Ran = command.env("PACKSTONE_FROM_KEY_FILE", world.key()).output().unwrap().into();
    assert_eq!((ran.code, said(&ran)), (Some(0), 1), "{}", ran.err);
    assert!(ran.err.contains("--from-expect-head") && ran.err.contains(world.text(&world.repository())), "{}", ran.err);
}

#[test]
fn a_new_repository_is_as_new_as_can_be() {
    let world = World::with_repository();
    let ran = world.ok(&["snapshots"]);
    assert_eq!(ran.err, "");
    let ran = at(&world, "second", &["backup", "--init", "key"]);
    assert_eq!((ran.code, said(&ran)), (Some(0), 0), "{}", ran.err);
}

#[test]
fn a_state_code_is_followed_or_the_state_is_refused() {
    let world = mirrored();
    copy(&world.repository(), &world.path("before"));
    copy(&world.path("mirror"), &world.path("mirror-before"));
    let old = code(&world);
    world.backup();
    let new = code(&world);
    // Another history: the older state, written to by another machine.
    copy(&world.path("before"), &world.path("fork"));
    let mut command = world.command(&["backup", "tree", "key"]);
    let fork = command.env("HOME", world.path("elsewhere")).env("PACKSTONE_REPOSITORY", world.path("fork"));
    assert!(fork.output().unwrap().status.success());
    let status = world
        .command(&["status", "--json"])
        .env("HOME", world.path("elsewhere"))
        .env("PACKSTONE_REPOSITORY", world.path("fork"))
        .output()
        .unwrap();
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
    let forked = status["state_code"].as_str().unwrap();
    let (before, mirror) = (world.path("before"), world.path("mirror-before"));
    let (before, mirror) = (world.text(&before), world.text(&mirror));
    world.ok(&["sync"]);
    let synced = world.path("mirror");
    let synced = world.text(&synced);
    for (number, (code, words, exit)) in [
        (&*old, &["ls", "latest"][..], 0),
        (&new, &["ls", "latest"], 0),
        (&new, &["--repo", before, "ls", "latest"], 14),
        (&old, &["--repo", before, "ls", "latest"], 0),
        (forked, &["ls", "latest"], 16),
        (&new, &["--from", mirror, "ls", "latest"], 14),
        (&new, &["check", "--mirror", mirror], 14),
        (&new, &["recover", mirror, "--to", "back"], 14),
        (&new, &["drill", mirror, "--to", "drills"], 19),
        (&new, &["drill", mirror, "--to", "drills", "--sample", "10%"], 19),
        (forked, &["--from", synced, "ls", "latest"], 16),
        (forked, &["recover", synced, "--to", "back"], 16),
        (&old, &["--from", synced, "ls", "latest"], 0),
    ]
    .into_iter()
    .enumerate()
    {
        let ran = blank(&world, &format!("home-{number}"), &[&["--expect-head", code], words].concat());
        assert_eq!(ran.code, Some(exit), "{number} {words:?}: {}{}", ran.out, ran.err);
        assert!(exit == 0 || ran.err.contains("state code"), "{words:?}: {}", ran.err);
    }
    assert_eq!(world.run(&["--expect-head", "nonsense", "ls", "latest"]).code, Some(2));
    let copied = |home: &str, code: &str| {
        let mut command = world.command(&["copy", "--from-repo", before, "--from-expect-head", code]);
        command.env("PACKSTONE_FROM_KEY_FILE", world.key()).env("HOME", world.path(home));
        let ran: Ran = command.env("PACKSTONE_REPOSITORY", world.path("copies")).output().unwrap().into();
        ran
    };
    assert_eq!(at(&world, "copies", &["init"]).code, Some(0));
    assert_eq!(copied("copying-1", &new).code, Some(14));
    assert_eq!(copied("copying-2", &old).code, Some(0));
}

/// Story: a drill passed on a mirror that `sync` called set back.
#[test]
fn a_mirror_that_was_set_back_passes_no_drill_and_is_not_read() {
    let world = mirrored();
    let old = code(&world);
    copy(&world.path("mirror"), &world.path("mirror-before"));
    world.write("file-2", "text");
    world.backup();
    world.ok(&["sync"]);
    let address = world.path("mirror");
    let address = world.text(&address).to_owned();
    // By another machine too, which knows of it by its address only.
    assert_eq!(blank(&world, "elsewhere", &["--from", &address, "ls", "latest"]).code, Some(0));
    fs::remove_dir_all(world.path("mirror")).unwrap();
    fs::rename(world.path("mirror-before"), world.path("mirror")).unwrap();
    let refused = world.run(&["sync"]);
    assert_eq!(refused.code, Some(14));
    for (words, exit) in [
        (&["drill", "offsite", "--to", "drills"][..], 19),
        (&["drill", "offsite", "--to", "drills", "--sample", "10%"], 19),
        (&["--from", "offsite", "ls", "latest"], 14),
        (&["check", "--mirror", "offsite"], 14),
        (&["recover", "offsite", "--to", "back"], 14),
        (&["--from", &address, "ls", "latest"], 14),
        (&["drill", &address, "--to", "drills"], 19),
    ] {
        let ran = world.run(words);
        assert_eq!(ran.code, Some(exit), "{words:?}: {}{}", ran.out, ran.err);
        assert!(ran.err.contains("rollback: this mirror stood at generation"), "{words:?}: {}", ran.err);
        assert!(!ran.out.contains("PASSED"), "{words:?}: {}", ran.out);
    }
    assert!(world.ok(&["drill", "history"]).out.contains("rollback"), "it is written down");
    let ran = blank(&world, "elsewhere", &["--from", &address, "ls", "latest"]);
    assert_eq!(ran.code, Some(14), "{}", ran.err);
    let file = ran.err.split("remembers of it: ").nth(1).unwrap().trim();
    fs::remove_file(file).unwrap();
    assert_eq!(blank(&world, "elsewhere", &["--from", &address, "ls", "latest"]).code, Some(0));
    // The way out.
    world.ok(&["mirror", "accept", "offsite", "--head", &old]);
    let ran = world.ok(&["--from", "offsite", "ls", "latest"]);
    assert!(ran.err.contains("this machine has seen generation"), "{}", ran.err);
    world.ok(&["recover", "offsite", "--to", "back", "--head", &old]);
}

/// What befalls a file, and its name.
type Damage = (&'static str, fn(&Path));

fn damages() -> Vec<Damage> {
    vec![
        ("emptied", |file| fs::write(file, b"").unwrap()),
        ("garbage", |file| fs::write(file, b"\xff{]").unwrap()),
        ("truncated", |file| {
            let bytes = fs::read(file).unwrap();
            fs::write(file, &bytes[..bytes.len() / 2]).unwrap();
        }),
        ("of another repository", |file| {
            let text = fs::read_to_string(file).unwrap();
            let id = text.split('"').nth(3).unwrap().to_owned();
            fs::write(file, text.replace(&id, &"7".repeat(64))).unwrap();
        }),
        ("a directory", |file| {
            fs::remove_file(file).unwrap();
            fs::create_dir(file).unwrap();
        }),
        ("a pipe", |file| {
            fs::remove_file(file).unwrap();
            assert!(Command::new("mkfifo").arg(file).status().unwrap().success());
        }),
        ("a link to itself", |file| {
            fs::remove_file(file).unwrap();
            symlink(file, file).unwrap();
        }),
    ]
}

/// Story: this machine's memory had been emptied, and a repository that was set back passed without a word.
#[test]
fn a_memory_that_cannot_be_read_is_said_and_not_taken_for_none() {
    for (what, harm) in damages() {
        let world = World::with_repository();
        world.write("file", "text");
        let snapshot = world.backup();
        let id = id(&world, "repository");
        let file = memories(&world).join(format!("{id}.json"));
        harm(&file);
        let ran = world.ok(&["restore", &snapshot, "--target", "back"]);
        assert_eq!(said(&ran), 1, "{what}: {}", ran.err);
        let name = world.text(&file);
        assert!(
            ran.err.contains("what this machine remembers cannot be read") && ran.err.contains(name),
            "{what}: {}",
            ran.err
        );
        // It was said, and is replaced; but for what the system did not give, which may be right.
        let ran = world.ok(&["snapshots"]);
        if what == "a link to itself" {
            assert!(said(&ran) == 1 && ran.err.contains("remove it to start again"), "{}", ran.err);
            assert!(file.is_symlink());
            fs::remove_file(&file).unwrap();
            assert_eq!(said(&world.ok(&["snapshots"])), 1, "nothing is known");
        } else {
            assert_eq!(ran.err, "", "{what}");
        }
        assert_eq!(world.ok(&["snapshots"]).err, "", "{what}");
        assert!(fs::read_to_string(&file).unwrap().contains(&id), "{what}");
    }
}

/// Which repository lies at a place is not lost with one file.
#[test]
fn one_broken_file_loses_neither_the_place_nor_an_unmounted_disk() {
    for (what, harm) in damages() {
        // A place that is said to be another repository's is refused, and not unreadable.
        if what == "of another repository" {
            continue;
        }
        let world = two();
        let one = id(&world, "repository");
        harm(&memories(&world).join(format!("{one}.json")));
        exchange(&world, "repository", "other");
        assert_eq!(world.run(&["snapshots"]).code, Some(14), "{what}: the place is remembered for itself");
        exchange(&world, "repository", "other");
        fs::rename(world.repository(), world.path("unmounted")).unwrap();
        assert_eq!(world.run(&["backup", "--init", "key"]).code, Some(10), "{what}");
        fs::rename(world.path("unmounted"), world.repository()).unwrap();

        // All that is known of places.
        for file in files_beneath(&memories(&world).join("places")) {
            harm(&file);
        }
        let ran = world.ok(&["snapshots"]);
        assert!(ran.err.contains("what this machine remembers cannot be read"), "{what}: {}", ran.err);
        if what == "a link to itself" {
            let mut links = files_beneath(&memories(&world));
            links.retain(|file| file.is_symlink() && ran.err.contains(world.text(file)));
            assert!(links.len() > 1, "{}", ran.err);
            for link in links {
                fs::remove_file(link).unwrap();
            }
            world.ok(&["snapshots"]);
        }
        assert_eq!(world.ok(&["snapshots"]).err, "", "{what}");
        // Nothing is known of a place whose own file is broken.
        for file in files_beneath(&memories(&world).join("places")) {
            harm(&file);
        }
        fs::rename(world.repository(), world.path("unmounted")).unwrap();
        fs::remove_file(memories(&world).join(format!("{one}.json"))).unwrap();
        let ran = world.run(&["backup", "--init", "key"]);
        assert_eq!(ran.code, Some(10), "{what}: {}", ran.err);
        assert!(ran.err.contains("cannot be determined") && !world.repository().exists(), "{what}: {}", ran.err);
    }
}

/// What a version wrote that knew places by the file of the repository only.
#[test]
fn a_place_of_an_earlier_version_is_known() {
    let world = two();
    fs::remove_dir_all(memories(&world).join("places")).unwrap();
    exchange(&world, "repository", "other");
    assert_eq!(world.run(&["snapshots"]).code, Some(14));
    fs::rename(world.repository(), world.path("unmounted")).unwrap();
    assert_eq!(world.run(&["backup", "--init", "key"]).code, Some(10));
}

/// An ordinary user, for whom mode 000 means something.
#[test]
fn a_memory_that_may_not_be_read_is_said() {
    if super::support::ran_as_ordinary_user("who::a_memory_that_may_not_be_read_is_said") {
        return;
    }
    let world = World::with_repository();
    world.write("file", "text");
    world.backup();
    let file = memories(&world).join(format!("{}.json", id(&world, "repository")));
    fs::set_permissions(&file, fs::Permissions::from_mode(0o000)).unwrap();
    let ran = world.ok(&["restore", "latest", "--target", "back"]);
    assert_eq!(said(&ran), 1, "{}", ran.err);
    // It may be right, and stays as it is.
    assert_eq!(said(&world.ok(&["snapshots"])), 1);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(world.ok(&["snapshots"]).err, "");
    // All of it: nothing can be written either, and a restore goes on.
    fs::set_permissions(memories(&world), fs::Permissions::from_mode(0o000)).unwrap();
    for _ in 0..2 {
        let ran = world.ok(&["restore", "latest", "--target", "back"]);
        assert_eq!(said(&ran), 1, "{}", ran.err);
        assert!(ran.err.contains("could not remember"), "{}", ran.err);
    }
    let ran = at(&world, "nowhere", &["backup", "--init", "key"]);
    assert_eq!(ran.code, Some(10), "whether something was there is not known: {}", ran.err);
    fs::set_permissions(memories(&world), fs::Permissions::from_mode(0o700)).unwrap();
}
