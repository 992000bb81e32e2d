//! `restore`: what is printed, what is refused, and the exit codes.

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::Ran;
use super::plain;
use super::support::World;

fn world() -> World {
    let world = World::with_repository();
    world.write("docs/one", "one");
    world.write("docs/two", "two\n".repeat(100_000));
    world.write("empty", "");
    world
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_tree_comes_back_and_the_summary_says_so() {
    let world = world();
    let id = world.backup();
    let ran = world.ok(&["restore", "latest", "--target", "out", "--verify"]);
    assert!(ran.out.contains(&format!("Restored {} to out  3 files, 2 directories", &id[..8])), "{}", ran.out);
    assert!(ran.out.contains("3 files read back and identical"), "{}", ran.out);
    assert_eq!(fs::read(world.path("out/tree/docs/one")).unwrap(), b"one");
    let again = world.ok(&["restore", "latest", "--target", "out"]);
    assert!(again.out.contains("3 unchanged"), "{}", again.out);
    // A part goes directly into the target; -vv names every file.
    let ran = world.ok(&["restore", &format!("{}:tree/docs", &id[..8]), "-t", "part", "-vv"]);
    assert!(ran.out.contains("restored  /one  3 B"), "{}", ran.out);
    assert_eq!(fs::read(world.path("part/one")).unwrap(), b"one");
    let ran = world.ok(&["restore", "latest", "-t", "some", "--include", "one", "-q"]);
    assert_eq!(ran.out, "");
    assert!(world.path("some/tree/docs/one").exists() && !world.path("some/tree/docs/two").exists());
}

#[test]
fn json_has_restics_shape() {
    let world = world();
    world.backup();
    let ran = world.ok(&["restore", "latest", "--target", "out", "--json", "-vv"]);
    let lines = lines(&ran.out);
    let verbose: Vec<&Value> = lines.iter().filter(|line| line["message_type"] == "verbose_status").collect();
    assert!(verbose.iter().any(|line| line["item"] == "/tree/docs/one" && line["action"] == "restored"), "{}", ran.out);
    let summary = lines.last().unwrap();
    assert_eq!(summary["message_type"], "summary");
    assert_eq!((&summary["total_files"], &summary["files_restored"]), (&Value::from(5), &Value::from(5)));
    assert_eq!((&summary["bytes_restored"], &summary["error_count"]), (&Value::from(400_003), &Value::from(0)));
}

#[test]
fn a_dry_run_shows_the_plan_and_changes_nothing() {
    let world = world();
    world.backup();
    let ran = world.ok(&["restore", "latest", "--target", "out", "--dry-run", "-vv"]);
    assert!(ran.out.contains("Would restore") && ran.out.contains("/tree/docs/one"), "{}", ran.out);
    assert!(!world.path("out").exists());
}

#[test]
fn what_makes_no_sense_is_refused() {
    let world = world();
    world.backup();
    let cases = [
        (&["restore", "latest", "--target", "/", "--delete"][..], 2, "--include"),
        (&["restore", "latest", "--target", ""], 2, "--target"),
        (&["restore", "latest", "--target", "key"], 1, "is no directory"),
        (&["restore", "latest:nothing", "--target", "out"], 1, "packstone ls"),
        (&["restore", "latest~7", "--target", "out"], 1, "packstone snapshots"),
        (&["restore", "latest", "--target", "out", "--include", "[a"], 2, "pattern"),
    ];
    for (words, code, text) in cases {
        let ran = world.run(words);
        assert_eq!(ran.code, Some(code), "{words:?} {}", ran.err);
        assert!(plain(&ran.err).contains(text), "{words:?} {}", ran.err);
    }
    assert!(!world.path("out").exists());
}

fn largest_pack(world: &World) -> PathBuf {
    let mut found = Vec::new();
    for folder in fs::read_dir(world.repository().join("packs")).unwrap() {
        let folder = folder.unwrap().path();
        found.extend(fs::read_dir(folder).unwrap().map(|pack| pack.unwrap().path()));
    }
    found.sort_by_key(|path: &PathBuf| fs::metadata(path).unwrap().len());
    found.pop().unwrap()
}

#[test]
fn damage_names_the_pack_and_the_files_and_restores_the_rest() {
    let world = World::with_repository();
    let mut noise = vec![0; 300_000];
    blake3::Hasher::new().finalize_xof().fill(&mut noise);
    world.write("lost", &noise);
    world.write("empty", "");
    world.backup();
    let pack = largest_pack(&world);
    fs::set_permissions(&pack, fs::Permissions::from_mode(0o600)).unwrap();
    fs::File::options().write(true).open(&pack).unwrap().write_all_at(b"damage", 5000).unwrap();
    let ran = world.run(&["restore", "latest", "--target", "out"]);
    assert_eq!(ran.code, Some(17), "{}", ran.err);
    let short = &pack.file_name().unwrap().to_str().unwrap()[..8];
    assert!(ran.err.contains("/tree/lost") && ran.err.contains(short), "{}", ran.err);
    assert!(plain(&ran.err).contains("packstone check"), "{}", ran.err);
    assert!(world.path("out/tree/empty").exists() && !world.path("out/tree/lost").exists());
}

fn give(path: &Path, uid: u32) {
    chown(path, Some(uid), Some(uid)).unwrap();
    if path.is_dir() {
        fs::read_dir(path).unwrap().for_each(|entry| give(&entry.unwrap().path(), uid));
    }
}

/// A world of root's, with a file of somebody else's that is a set-id program, a device, and the program where user 65534 can run
/// it; everything is given to him. `None` when this is not root, which is said.
fn of_nobody(test: &str) -> Option<World> {
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED restore::{test}: making other people's files needs root");
        return None;
    }
    let world = World::with_repository();
    for n in 0..300 {
        world.write(&format!("d{}/f{n}", n % 7), format!("{n}"));
    }
    world.write("other", "of somebody else");
    chown(world.tree().join("other"), Some(12_345), Some(54_321)).unwrap();
    fs::set_permissions(world.tree().join("other"), fs::Permissions::from_mode(0o6755)).unwrap();
    world.backup();
    give(&world.path(""), NOBODY);
    super::support::copy_program(&world.path("packstone"));
    Some(world)
}

const NOBODY: u32 = 65_534;

/// Runs the program as user 65534, behind these words.
fn as_nobody(world: &World, before: &[&str], words: &[&str]) -> Ran {
    let binary = world.path("packstone");
    let all = [before, &[world.text(&binary)], words].concat();
    let mut command = Command::new(all[0]);
    for (name, value) in world.command(&[]).get_envs() {
        value.map(|value| command.env(name, value));
    }
    command.args(&all[1..]).current_dir(world.path("")).uid(NOBODY).gid(NOBODY).output().unwrap().into()
}

/// What restic and borg do: everything is back but what he may not set, and knows.
#[test]
fn an_ordinary_user_hears_what_only_root_could_have_set() {
    let Some(world) = of_nobody("an_ordinary_user_hears_what_only_root_could_have_set") else { return };
    for (more, code) in
        [(&[][..], 0), (&["--verify"], 0), (&["--strict-owner"], 1), (&["--verify", "--strict-owner"], 1)]
    {
        let ran = as_nobody(&world, &[], &[&["restore", "latest", "--target", "out"], more].concat());
        assert_eq!(ran.code, Some(code), "{more:?}\n{}\n{}", ran.out, ran.err);
        assert!(ran.err.contains("owner: not permitted for 309 entries"), "{}", ran.err);
        assert!(ran.err.contains("set-id bits: ") && ran.err.contains("/tree/other among them"), "{}", ran.err);
        assert!(ran.err.lines().count() <= 3, "a line a cause: {}", ran.err);
        assert_eq!(fs::read(world.path("out/tree/other")).unwrap(), b"of somebody else");
        // A set-id bit never comes with another owner.
        assert_eq!(fs::metadata(world.path("out/tree/other")).unwrap().permissions().mode() & 0o7777, 0o755);
    }
    let ran = as_nobody(&world, &[], &["restore", "latest", "--target", "out", "--json"]);
    let summary = lines(&ran.out).pop().unwrap();
    assert_eq!((ran.code, &summary["error_count"]), (Some(0), &Value::from(0)), "{summary}");
    let owner = &summary["metadata"][0];
    assert_eq!((&owner["what"], &owner["note"], &owner["count"]), (&"owner".into(), &true.into(), &309.into()));
}

/// The number 0 gives no rights by itself: in a user namespace of one user nothing can be given away, and the kernel says EINVAL.
#[test]
fn root_of_a_user_namespace_is_an_ordinary_user() {
    const NAME: &str = "root_of_a_user_namespace_is_an_ordinary_user";
    let Some(world) = of_nobody(NAME) else { return };
    let unshare = ["unshare", "-Ur"];
    let tried = Command::new("unshare").args(["-Ur", "true"]).uid(NOBODY).gid(NOBODY).status();
    if !tried.is_ok_and(|status| status.success()) {
        println!("SKIPPED restore::{NAME}: user namespaces are not allowed here");
        return;
    }
    // To the owner of the numbers in the namespace everything of root's is his own; what is left is the file of 12345.
    for (more, code) in [(&[][..], 0), (&["--strict-owner"], 1)] {
        let ran = as_nobody(&world, &unshare, &[&["restore", "latest", "--target", "out"], more].concat());
        assert_eq!(ran.code, Some(code), "{}\n{}", ran.out, ran.err);
        assert!(ran.err.contains("owner: not permitted for 1 entry, /tree/other among them"), "{}", ran.err);
        assert!(ran.err.lines().count() <= 3, "a line a cause: {}", ran.err);
    }
    let numbers = as_nobody(&world, &unshare, &["restore", "latest", "--target", "two", "--numeric-owner"]);
    assert_eq!(numbers.code, Some(0), "{}", numbers.err);
    assert_eq!(fs::read(world.path("two/tree/d1/f1")).unwrap(), b"1");
}

#[test]
fn a_full_target_ends_with_a_clear_sentence_and_goes_on_later() {
    let world = World::with_repository();
    for n in 0..40_u8 {
        let mut noise = vec![0; 200_000];
        blake3::Hasher::new().update(&[n]).finalize_xof().fill(&mut noise);
        world.write(&format!("f{n}"), noise);
    }
    world.backup();
    let small = world.path("small");
    fs::create_dir(&small).unwrap();
    let mount = |option: &str| {
        let ran = Command::new("mount").args(["-t", "tmpfs", "-o", option, "tmpfs"]).arg(&small).output();
        ran.is_ok_and(|ran| ran.status.success())
    };
    if !mount("size=4m") {
        eprintln!("skipped: mounting a small file system is not allowed here");
        return;
    }
    let ran = world.run(&["restore", "latest", "--target", "small"]);
    let grown = mount("remount,size=40m");
    let again = world.run(&["restore", "latest", "--target", "small", "--verify"]);
    let unmounted = Command::new("umount").arg(&small).status().unwrap().success();
    assert!(grown && unmounted);
    assert_eq!(ran.code, Some(1), "{}", ran.err);
    assert!(ran.err.contains("the disk of the target is full"), "{}", ran.err);
    assert_eq!(again.code, Some(0), "{}", again.err);
    assert!(again.out.contains("unchanged") && again.out.contains("40 files read back"), "{}", again.out);
}

/// The target is the directory itself when it is new, empty, or where it was saved from; any other keeps what it is.
#[test]
fn the_target_becomes_the_directory_or_stays_what_it_is() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let world = World::with_repository();
    world.write("a", "a");
    fs::set_permissions(world.tree(), fs::Permissions::from_mode(0o751)).unwrap();
    let tree = world.tree().to_str().unwrap().to_owned();
    world.ok(&["backup", &tree]);
    let saved = fs::metadata(&tree).unwrap();
    let part = format!("latest:{tree}");
    let state = |path: &Path| {
        let is = fs::metadata(path).unwrap();
        (is.mode(), is.mtime(), is.mtime_nsec())
    };
    let as_saved = (saved.mode(), saved.mtime(), saved.mtime_nsec());
    fs::create_dir(world.path("empty")).unwrap();
    for target in ["new", "empty"] {
        world.ok(&["restore", &part, "--target", target]);
        assert_eq!(state(&world.path(target)), as_saved, "{target}");
    }
    fs::create_dir(world.path("used")).unwrap();
    fs::write(world.path("used/other"), "x").unwrap();
    fs::set_permissions(world.path("used"), fs::Permissions::from_mode(0o1777)).unwrap();
    world.ok(&["restore", &part, "--target", "used"]);
    assert_eq!(state(&world.path("used")).0 & 0o7777, 0o1777);
    fs::remove_file(world.tree().join("a")).unwrap();
    fs::write(world.tree().join("b"), "b").unwrap();
    world.ok(&["restore", &part, "--target", &tree, "--delete"]);
    assert_eq!(state(&world.tree()), as_saved);
    assert!(!world.tree().join("b").exists());
}

#[test]
fn delete_leaves_the_repository_and_the_memory_that_no_backup_holds() {
    let world = World::with_repository();
    world.write("docs/one", "one");
    // As people have it: all below one home. The backup leaves its own out, and says nothing of "extra".
    fs::create_dir(world.tree().join("disk")).unwrap();
    fs::rename(world.repository(), world.tree().join("disk/repository")).unwrap();
    fs::rename(world.path("home"), world.tree().join("home")).unwrap();
    let run = |words: &[&str]| -> Ran {
        let mut command = world.command(words);
        command.env("PACKSTONE_REPOSITORY", world.tree().join("disk/repository"));
        command.env("HOME", world.tree().join("home")).output().unwrap().into()
    };
    let ran = run(&["backup", "tree"]);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    world.write("extra/file", "extra");
    fs::rename(world.tree().join("disk"), world.tree().join("extra/disk")).unwrap();
    let run = |words: &[&str]| -> Ran {
        let mut command = world.command(words);
        command.env("PACKSTONE_REPOSITORY", world.tree().join("extra/disk/repository"));
        command.env("HOME", world.tree().join("home")).output().unwrap().into()
    };
    world.write("more", "more");
    let ran = run(&["restore", "latest:tree", "--target", "tree", "--delete"]);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert!(!world.tree().join("more").exists() && world.tree().join("extra/file").exists(), "{}", ran.out);
    let ran = run(&["check", "--read-data"]);
    assert_eq!(ran.code, Some(0), "{}{}", ran.out, ran.err);
    let ran = run(&["restore", "latest:tree", "--target", "tree/extra/disk/repository"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("packstone's own"), "{}", ran.err);
}

/// Story: the README says "look first". The look said "1 to delete" and not what, and the next line deleted a live file.
#[test]
fn a_dry_run_names_everything_that_would_go() {
    let world = world();
    world.backup();
    world.ok(&["restore", "latest:tree", "--target", "out"]);
    fs::create_dir_all(world.path("out/extra/deep")).unwrap();
    for name in ["out/extra/deep/live", "out/docs/esc\x1b[31m", "out/new"] {
        fs::write(world.path(name), "a live file").unwrap();
    }
    fs::write(world.path("out/docs/two"), "another size").unwrap();
    let gone = ["/docs/esc\\x1b[31m", "/extra", "/extra/deep", "/extra/deep/live", "/new"];
    let words = ["restore", "latest:tree", "--target", "out", "--delete"];
    let named = |more: &[&str], word: &str| -> Vec<String> {
        let ran = world.ok(&[&words[..], &["--dry-run"], more].concat());
        assert!(ran.out.contains("5 to delete. Nothing was changed") || more.contains(&"-q"), "{}", ran.out);
        let lines = ran.out.lines().filter_map(|line| line.strip_prefix(word));
        lines.map(|line| line.trim_start().to_owned()).collect()
    };
    for more in [&[][..], &["-v"], &["-vv"], &["-q"]] {
        assert_eq!(named(more, "deleted "), gone, "{more:?}");
    }
    // One -v names what would be written too, two what is left as it is.
    assert_eq!(named(&[], "updated "), [""; 0]);
    assert_eq!(named(&["-v"], "updated ").len(), 1);
    assert_eq!((named(&["-v"], "unchanged ").len(), named(&["-vv"], "unchanged ").len()), (0, 2));
    let ran = world.ok(&[&words[..], &["--dry-run", "--json"]].concat());
    let json = lines(&ran.out);
    let items = json.iter().filter(|line| line["message_type"] == "verbose_status" && line["action"] == "deleted");
    let items: Vec<&str> = items.map(|line| line["item"].as_str().unwrap()).collect();
    assert_eq!(items, ["/docs/esc\x1b[31m", "/extra", "/extra/deep", "/extra/deep/live", "/new"]);
    assert_eq!(json.last().unwrap()["files_deleted"], 5);
    assert!(world.path("out/extra/deep/live").exists());
    // The real one takes the same.
    let ran = world.ok(&[&words[..], &["-vv"]].concat());
    let mut really: Vec<&str> =
        ran.out.lines().filter_map(|line| line.strip_prefix("deleted ")).map(str::trim_start).collect();
    really.sort_unstable();
    assert_eq!(really, gone);
    assert!(ran.out.contains("5 deleted"), "{}", ran.out);
}
