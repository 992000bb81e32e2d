//! `undelete` from outside.

use std::fs;

use super::forget::{backup_at, ids};
use super::reading::{json, lines, objects};
use super::support::World;

fn world() -> (World, Vec<String>) {
    let world = World::with_repository();
    let mut all = Vec::new();
    for day in 1..=4 {
        world.write(&format!("file {day}"), format!("of day {day}\n").repeat(400));
        all.push(backup_at(&world, &format!("2026-01-0{day} 10:00:00"), &[]));
    }
    (world, all)
}

#[test]
fn what_was_forgotten_comes_back() {
    let (world, all) = world();
    assert!(world.ok(&["undelete"]).out.contains("0 snapshots can come back"));
    world.ok(&["forget", "--keep-last", "1"]);
    let out = world.ok(&["undelete"]).out;
    assert!(out.contains("3 snapshots can come back") && out.contains("generation 6"), "{out}");
    let told = lines(&world.ok(&["undelete", "--json"]).out);
    assert_eq!(told.len(), 3);
    assert_eq!(told[0]["message_type"], "marked_snapshot");
    assert_eq!((&told[0]["id"], &told[0]["since_generation"]), (&all[0].as_str().into(), &6.into()));
    let dry = world.ok(&["undelete", "-n", &all[0][..10]]);
    assert!(dry.out.contains(&format!("would bring back {}; nothing was changed", &all[0][..8])), "{}", dry.out);
    assert_eq!(ids(&world), [all[3].as_str()]);
    assert!(world.ok(&["undelete", &all[0], &all[2]]).out.contains("brought back "));
    assert_eq!(ids(&world), [all[0].as_str(), &all[2], &all[3]]);
    world.ok(&["restore", &all[0], "--target", "back", "--verify"]);
    world.ok(&["check", "--read-data"]);
    // They arrived when they first did: 2, 4, 5.
    let out = world.ok(&["cat", "head", "--json"]).out;
    let head = json(&super::Ran { code: Some(0), out, err: String::new() });
    let text = head.to_string();
    for arrival in [2, 4, 5] {
        assert!(text.contains(&format!("\"arrival\":{arrival}")), "{text}");
    }
    let ran = world.run(&["undelete", &all[0]]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("is there: it was not removed"), "{}", ran.err);
    assert_eq!(world.run(&["undelete", "latest"]).code, Some(2));
}

#[test]
fn a_change_of_tags_can_be_taken_back() {
    let (world, all) = world();
    world.ok(&["tag", "--add", "x", &all[1]]);
    let now = ids(&world)[1].clone();
    let told = lines(&world.ok(&["undelete", "--json"]).out);
    assert_eq!((told.len(), &told[0]["replaced_by"]), (1, &now.as_str().into()));
    world.ok(&["undelete", &all[1]]);
    assert_eq!(ids(&world).len(), 5);
}

/// A pack that is gone is named before anything is promised.
#[test]
fn what_lost_a_pack_does_not_come_back() {
    let (world, all) = world();
    world.ok(&["forget", &all[3]]);
    let packs = objects(&world, "packs");
    let newest = packs.iter().max_by_key(|path| fs::metadata(path).unwrap().modified().unwrap()).unwrap();
    fs::rename(newest, world.path("saved")).unwrap();
    let ran = world.run(&["undelete", &all[3]]);
    assert_eq!(ran.code, Some(17), "{}", ran.err);
    assert_eq!(ids(&world), all[..3]);
    // Marked meanwhile as lost, and copied back: the snapshot brings its pack back to life.
    assert_eq!(world.run(&["repair", "index"]).code, Some(17));
    fs::rename(world.path("saved"), newest).unwrap();
    let ran = world.ok(&["undelete", "--json", &all[3]]);
    assert_eq!(json(&ran)["revived_packs"], 1, "{}", ran.out);
    world.ok(&["restore", &all[3], "--target", "back", "--verify"]);
    world.ok(&["check", "--read-data"]);
}
