//! `copy` from outside: secrets of both repositories, what is said, and the exit code.

use std::fs;

use super::Ran;
use super::forget::{backup_at, ids};
use super::reading::{json, lines, spoil_packs, spoil_snapshot};
use super::support::World;

/// A world whose repository holds three snapshots, and an empty one at `other` that opens with a key file of its own.
fn world() -> (World, Vec<String>) {
    let world = World::with_repository();
    other(&world, &["init", "--chunk-size", "64k", "--new-key-file", "other-key"]);
    world.write("a", "a");
    world.write("deep/down/b", vec![7; 500_000]);
    let mut all = vec![backup_at(&world, "2026-01-01", &["--tag", "first", "--host", "web"])];
    world.write("deep/down/c", "c");
    all.push(backup_at(&world, "2026-01-02", &["--host", "web"]));
    all.push(backup_at(&world, "2026-01-03", &["--tag", "third", "--host", "db"]));
    (world, all)
}

/// A command on the other repository.
fn try_other(world: &World, words: &[&str]) -> Ran {
    let mut command = world.bare(&[&["--repo", "other"], words].concat());
    if words[0] != "init" {
        command.env("PACKSTONE_KEY_FILE", world.path("other-key"));
    }
    command.env("PACKSTONE_FROM_KEY_FILE", world.key()).output().unwrap().into()
}

fn other(world: &World, words: &[&str]) -> Ran {
    let ran = try_other(world, words);
    assert_eq!(ran.code, Some(0), "{words:?}\n{}\n{}", ran.out, ran.err);
    ran
}

fn listed(world: &World) -> Vec<serde_json::Value> {
    json(&other(world, &["snapshots", "--json"])).as_array().unwrap().clone()
}

const FROM: [&str; 3] = ["copy", "--from-repo", "repository"];

#[test]
fn snapshots_come_over_once_with_all_that_is_said_of_them() {
    let (world, all) = world();
    world.ok(&["hold", &all[1]]);
    let dry = other(&world, &[&FROM[..], &["-n"]].concat());
    assert!(dry.out.contains("3 snapshots would be copied; nothing was changed"), "{}", dry.out);
    assert!(dry.out.contains(&format!("{}  2026-01-01 00:00:00  web  ", &all[0][..8])), "{}", dry.out);
    assert!(listed(&world).is_empty());
    let ran = other(&world, &FROM);
    assert!(ran.out.contains("3 snapshots copied, ") && ran.out.contains("  copied, is "), "{}", ran.out);
    let copies = listed(&world);
    let sources = json(&world.ok(&["snapshots", "--json"])).as_array().unwrap().clone();
    assert_eq!(copies.len(), 3);
    for (copy, source) in copies.iter().zip(&sources) {
        for field in ["time", "hostname", "username", "paths", "tags", "held", "outcome", "summary"] {
            assert_eq!(copy[field], source[field], "{field}");
        }
        assert_ne!(copy["tree"], source["tree"]);
    }
    assert_eq!(copies[1]["held"], true);
    let again = other(&world, &FROM);
    assert!(again.out.contains("0 snapshots copied, 3 there already"), "{}", again.out);
    other(&world, &["check", "--read-data"]);
    other(&world, &["restore", "latest", "--target", "back", "--verify"]);
    let tree = world.tree();
    let back = world.path("back").join("tree");
    for file in ["a", "deep/down/b", "deep/down/c"] {
        assert_eq!(fs::read(tree.join(file)).unwrap(), fs::read(back.join(file)).unwrap(), "{file}");
    }
    // A backup here takes over from the copy what did not change.
    let ran = other(&world, &["backup", "--json", "--host", "db", "tree"]);
    let summary = lines(&ran.out).pop().unwrap();
    assert_eq!((&summary["files_unmodified"], &summary["data_blobs"]), (&3.into(), &0.into()));
}

#[test]
fn json_names_each_snapshot_and_its_copy() {
    let (world, all) = world();
    let told = lines(&other(&world, &[&FROM[..], &["--json", "--dry-run", &all[2][..10], &all[0]]].concat()).out);
    let would: Vec<_> = told.iter().filter(|line| line["message_type"] == "would_copy").collect();
    assert_eq!(would.iter().map(|line| line["snapshot_id"].as_str().unwrap()).collect::<Vec<_>>(), [&all[0], &all[2]]);
    assert_eq!(would[0]["total_files"], 2);
    let told = lines(&other(&world, &[&FROM[..], &["--json", &all[1]]].concat()).out);
    let copied = told.iter().find(|line| line["message_type"] == "copied").unwrap();
    assert_eq!((&copied["snapshot_id"], &copied["files_read"]), (&all[1].as_str().into(), &3.into()));
    assert_eq!(copied["copy_id"], listed(&world)[0]["id"]);
    let told = lines(&other(&world, &[&FROM[..], &["--json"]].concat()).out);
    let there = told.iter().find(|line| line["message_type"] == "there").unwrap();
    assert_eq!((&there["snapshot_id"], &there["copy_id"]), (&copied["snapshot_id"], &copied["copy_id"]));
    let summary = told.last().unwrap();
    assert_eq!(summary["message_type"], "summary");
    assert_eq!((&summary["copied_snapshots"], &summary["there_already"]), (&2.into(), &1.into()));
    assert!(told.iter().all(|line| line["message_type"].is_string()));
}

#[test]
fn filters_choose_in_the_source() {
    let (world, _) = world();
    let count = |words: &[&str]| {
        let ran = other(&world, &[&FROM[..], &["-n", "--json"], words].concat());
        lines(&ran.out).pop().unwrap()["copied_snapshots"].as_u64().unwrap()
    };
    assert_eq!(count(&["--host", "web"]), 2);
    assert_eq!(count(&["--tag", "third"]), 1);
    assert_eq!(count(&["--path", "tree"]), 3);
    assert_eq!(count(&["--path", "elsewhere"]), 0);
    assert_eq!(count(&["latest~1"]), 1);
    let ran = other(&world, &[&FROM[..], &["--host", "nobody"]].concat());
    assert!(ran.out.contains("No snapshot of the source is meant"), "{}", ran.out);
    assert_eq!(try_other(&world, &[&FROM[..], &["abcdefabcdef"]].concat()).code, Some(1));
}

#[test]
fn both_secrets_are_found_where_each_is_said_to_be() {
    let world = World::new();
    fs::write(world.path("one.txt"), "the first passphrase\n").unwrap();
    fs::write(world.path("two.txt"), "the second passphrase\n").unwrap();
    for (place, file) in [("repository", "one.txt"), ("other", "two.txt")] {
        let ran: Ran = world.bare(&["-r", place, "-p", file, "init"]).output().unwrap().into();
        assert_eq!(ran.code, Some(0), "{}", ran.err);
    }
    world.write("a", "a");
    let ran: Ran = world.bare(&["-p", "one.txt", "backup", "tree"]).output().unwrap().into();
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    let copy = |words: &[&str], variables: &[(&str, &str)]| -> Ran {
        let mut command = world.bare(&[&["-r", "other", "copy", "-n"], words].concat());
        command.envs(variables.iter().copied()).output().unwrap().into()
    };
    type Given<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)]);
    let good: [Given<'_>; 4] = [
        (&["--from-repo", "repository", "-p", "two.txt", "--from-password-file", "one.txt"], &[]),
        (
            &["-p", "two.txt", "--from-password-command", "cat one.txt"],
            &[("PACKSTONE_FROM_REPOSITORY", "repository"), ("PACKSTONE_FROM_PASSWORD_FILE", "/nowhere")],
        ),
        (
            &["--from-repo", "repository"],
            &[("PACKSTONE_PASSWORD_FILE", "two.txt"), ("PACKSTONE_FROM_PASSWORD", "the first passphrase")],
        ),
        (
            &["--from-repo", "repository", "--from-password-file", "one.txt"],
            &[("PACKSTONE_PASSWORD_COMMAND", "printenv PACKSTONE_FROM_PASSWORD; true"), ("PACKSTONE_PASSWORD", "x")],
        ),
    ];
    for (words, variables) in &good[..3] {
        let ran = copy(words, variables);
        assert_eq!(ran.code, Some(0), "{words:?}: {}", ran.err);
        assert!(ran.out.contains("1 snapshot would be copied"), "{}", ran.out);
    }
    // No command sees the other one's secret.
    let (words, variables) = good[3];
    assert_ne!(copy(words, variables).code, Some(0));
    let wrong = copy(&["--from-repo", "repository", "-p", "two.txt", "--from-password-file", "two.txt"], &[]);
    assert_eq!(wrong.code, Some(12));
    assert!(wrong.err.contains("source"), "{}", wrong.err);
    let nowhere = copy(&["--from-repo", "nowhere", "-p", "two.txt"], &[]);
    assert_eq!(nowhere.code, Some(10));
    assert!(nowhere.err.contains("--from-repo"), "{}", nowhere.err);
    let both =
        copy(&["--from-repo", "repository", "--from-password-file", "a", "--from-key-file", "b", "-p", "two.txt"], &[]);
    assert_eq!(both.code, Some(2));
    assert!(both.err.contains("--from-password-command"), "{}", both.err);
    let none = copy(&["-p", "two.txt"], &[]);
    assert_eq!(none.code, Some(2));
    assert!(none.err.contains("PACKSTONE_FROM_REPOSITORY"), "{}", none.err);
}

#[test]
fn a_repository_is_not_copied_into_itself() {
    let (world, _) = world();
    let mut command = world.command(&["copy", "--from-repo", "repository"]);
    let ran: Ran = command.env("PACKSTONE_FROM_KEY_FILE", world.key()).output().unwrap().into();
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("are the same repository"), "{}", ran.err);
}

#[test]
fn what_is_damaged_is_named_and_not_there() {
    let (world, all) = world();
    other(&world, &[&FROM[..], &[&all[0]]].concat());
    spoil_snapshot(&world, &all[1]);
    let ran = try_other(&world, &FROM);
    assert_eq!(ran.code, Some(17), "{}", ran.err);
    assert!(ran.err.contains(&format!("snapshot {} of the source cannot be read", &all[1][..8])), "{}", ran.err);
    assert!(ran.out.contains("1 snapshot copied, 1 there already"), "{}", ran.out);
    assert_eq!(listed(&world).len(), 2);
    let (world, all) = self::world();
    spoil_packs(&world, "data");
    let ran = try_other(&world, &[&FROM[..], &["--json"]].concat());
    assert_eq!(ran.code, Some(17), "{}", ran.err);
    for id in &all {
        assert!(ran.err.contains(&format!("snapshot {} is not copied: /tree/", &id[..8])), "{}", ran.err);
    }
    assert_eq!(lines(&ran.out).pop().unwrap()["failed_snapshots"], 3);
    assert!(listed(&world).is_empty());
    other(&world, &["check", "--read-data"]);
}

/// Copies arrive late and out of order: that says nothing about anybody's clock.
#[test]
fn a_copy_puts_no_clock_in_doubt() {
    let world = World::with_repository();
    other(&world, &["init", "--new-key-file", "other-key"]);
    world.write("a", "a");
    world.backup();
    other(&world, &["backup", "-q", "tree"]);
    let direct = listed(&world)[0]["id"].clone();
    other(&world, &FROM);
    let groups = json(&other(&world, &["forget", "--keep-last", "1", "--json", "--dry-run"]));
    let keep = groups[0]["keep"].as_array().unwrap();
    assert_eq!(keep.iter().map(|snapshot| &snapshot["id"]).collect::<Vec<_>>(), [&direct]);
    assert_eq!(groups[0]["remove"].as_array().unwrap().len(), 1);
}

#[test]
fn rules_take_copies_by_their_times() {
    let (world, _) = world();
    other(&world, &["backup", "-q", "--host", "web", "--time", "2026-01-05", "tree"]);
    other(&world, &FROM);
    other(&world, &["backup", "-q", "--host", "web", "--time", "2026-01-04", "tree"]);
    let ran = other(&world, &["forget", "--keep-daily", "2", "--group-by", "", "--json"]);
    let times = |list: &str| -> Vec<String> {
        let list = json(&ran)[0][list].as_array().unwrap().clone();
        list.iter().map(|snapshot| snapshot["time"].as_str().unwrap()[..10].to_owned()).collect()
    };
    assert_eq!(times("keep"), ["2026-01-05", "2026-01-04"]);
    assert_eq!(times("remove"), ["2026-01-03", "2026-01-02", "2026-01-01"]);
    // What the rules removed is chosen again by the next copy, as any other that is not there.
    assert!(other(&world, &FROM).out.contains("3 snapshots copied"));
    assert_eq!(ids(&world).len(), 3);
}
