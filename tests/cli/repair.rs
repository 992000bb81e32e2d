//! `repair index` as a person sees it.

use std::fs;

use super::check::{damage, packs};
use super::support::World;

fn world() -> World {
    let world = World::with_repository();
    world.write("one.txt", "dear one\n".repeat(500));
    world.backup();
    world
}

#[test]
fn a_sound_index_only_gets_its_cache_again() {
    let world = world();
    let ran = world.ok(&["repair", "index"]);
    assert!(ran.out.contains("The segments are whole; the cache made again from them"), "{}", ran.out);
    assert!(world.ok(&["check"]).out.contains("generation 2:"), "no head was published");
}

#[test]
fn lost_segments_come_back_from_the_packs() {
    let world = world();
    let segments = world.repository().join("index");
    for segment in fs::read_dir(&segments).unwrap() {
        damage(&segment.unwrap().path(), |bytes| bytes[1_000] ^= 1);
    }
    fs::remove_dir_all(world.path("home/.cache")).unwrap();
    let ran = world.run(&["check", "--json"]);
    assert_eq!(ran.code, Some(17));
    assert!(ran.out.contains("\"suggest_repair_index\":true"), "{}", ran.out);
    let ran = world.run(&["backup", "tree"]);
    assert_eq!(ran.code, Some(17), "nobody adds to an index that cannot be read: {}", ran.err);

    let ran = world.ok(&["repair", "index", "--dry-run"]);
    assert!(ran.out.contains("1 segment would be replaced, 2 packs would be listed in new ones"), "{}", ran.out);
    assert_eq!(world.run(&["check"]).code, Some(17), "a dry run changes nothing");
    let ran = world.ok(&["repair", "index"]);
    assert!(ran.out.contains("Published generation 3"), "{}", ran.out);
    world.ok(&["check", "--read-data"]);
    world.backup();
    world.ok(&["check", "--read-data"]);
}

#[test]
fn a_lost_pack_is_given_up_and_brought_back() {
    let world = world();
    let pack = packs(&world).remove(0);
    let saved = world.path("saved");
    fs::rename(&pack, &saved).unwrap();
    assert_eq!(world.run(&["backup", "tree"]).code, Some(17), "the gate counts packs");
    let ran = world.run(&["repair", "index", "--json"]);
    assert_eq!(ran.code, Some(17));
    assert!(ran.out.contains("\"missing_packs\":[\""), "{}", ran.out);
    world.backup();
    fs::rename(&saved, &pack).unwrap();
    let ran = world.ok(&["repair", "index", "--read-all-packs", "--read-data"]);
    assert!(ran.out.contains("replaced"), "{}", ran.out);
    world.ok(&["check", "--read-data"]);
}

#[test]
fn a_damaged_pack_stays_listed_and_is_named() {
    let world = world();
    let pack = packs(&world).remove(0);
    damage(&pack, |bytes| bytes[100] ^= 1);
    let ran = world.run(&["repair", "index", "--read-all-packs", "--read-data"]);
    assert_eq!(ran.code, Some(17));
    assert!(ran.out.contains("it stays listed as its segment says"), "{}", ran.out);
    assert_eq!(world.run(&["check", "--read-data"]).code, Some(17));
    damage(&pack, |bytes| bytes[100] ^= 1);
    world.ok(&["check", "--read-data"]);
}

#[test]
fn a_cache_does_not_stand_in_for_a_lost_segment() {
    let world = world();
    for segment in fs::read_dir(world.repository().join("index")).unwrap() {
        fs::remove_file(segment.unwrap().path()).unwrap();
    }
    world.write("two.txt", "dear two\n".repeat(500));
    let ran = world.run(&["backup", "tree"]);
    assert_eq!(ran.code, Some(17), "nothing is acknowledged that restores with this machine's cache only: {}", ran.out);
    world.ok(&["repair", "index"]);
    world.backup();
    fs::remove_dir_all(world.path("home/.cache")).unwrap();
    world.ok(&["restore", "latest", "--target", "out", "--verify"]);
}

/// No writer goes on while a live pack has another length: what to do without a copy of it is said, and works.
#[test]
fn a_truncated_pack_is_named_and_can_be_given_up() {
    let world = world();
    let pack = packs(&world).remove(0);
    damage(&pack, |bytes| bytes.truncate(bytes.len() - 100));
    assert_eq!(world.run(&["backup", "tree"]).code, Some(17));
    let ran = world.run(&["repair", "index"]);
    assert_eq!(ran.code, Some(17), "{}", ran.out);
    assert!(ran.out.contains("its segment says") && ran.out.contains("move the file out"), "{}", ran.out);
    let ran = world.run(&["check"]);
    assert!(ran.out.contains("move the file out"), "{}", ran.out);
    fs::remove_file(&pack).unwrap();
    assert_eq!(world.run(&["repair", "index"]).code, Some(17));
    let snapshot = world.backup();
    let restored = world.path("restored");
    world.ok(&["restore", &snapshot, "--target", world.text(&restored), "--verify"]);
}
