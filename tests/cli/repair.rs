//! `repair index` as a person sees it.

use std::fs;
use std::io::Read;
use std::path::PathBuf;
use std::process::Stdio;

use super::check::{damage, packs};
use super::forget::ids;
use super::plain;
use super::prune::noise;
use super::reading::lines;
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
    assert!(ran.out.contains("its segment says") && plain(&ran.out).contains("packstone repair packs"), "{}", ran.out);
    let ran = world.run(&["check", "--json"]);
    assert!(ran.out.contains("\"suggest_repair_packs\":true"), "{}", ran.out);
    // The padding at its end is all that it has lost.
    let ran = world.ok(&["repair", "packs"]);
    assert!(ran.out.contains("1 of 1 block will be stored again"), "{}", ran.out);
    assert!(ran.out.contains("moved: packs/") && ran.out.contains("is now quarantine/"), "{}", ran.out);
    assert!(!pack.exists());
    world.ok(&["check", "--read-data", "--with-cache"]);
    let snapshot = world.backup();
    world.ok(&["restore", &snapshot, "--target", "restored", "--verify"]);
}

/// Four files, one a block, in one pack; the pack, and the snapshot.
fn large_world() -> (World, PathBuf, String) {
    let world = World::with_repository();
    for number in 0..4 {
        world.write(&format!("{number}"), noise(number, 2 << 20));
    }
    let snapshot = world.backup();
    let pack = packs(&world).into_iter().max_by_key(|pack| fs::metadata(pack).unwrap().len()).unwrap();
    (world, pack, snapshot)
}

fn quarantined(world: &World) -> Vec<PathBuf> {
    let entries = fs::read_dir(world.repository().join("quarantine"));
    entries.map_or_else(|_| Vec::new(), |entries| entries.map(|entry| entry.unwrap().path()).collect())
}

#[test]
fn what_opens_in_a_damaged_pack_is_saved_and_a_backup_stores_the_rest_again() {
    let (world, pack, snapshot) = large_world();
    damage(&pack, |bytes| bytes[1_000] ^= 1);
    assert_eq!(world.run(&["check", "--read-data"]).code, Some(17));
    let ran = world.run(&["repair", "packs", "--dry-run"]);
    assert_eq!(ran.code, Some(17), "{}", ran.out);
    assert!(ran.out.contains("block 1 of ") && ran.out.contains("would be stored again"), "{}", ran.out);
    assert!(pack.exists() && quarantined(&world).is_empty(), "a dry run changes nothing");
    let ran = world.run(&["repair", "packs"]);
    assert_eq!(ran.code, Some(17), "{}", ran.out);
    assert!(ran.out.contains("lost: ") && ran.out.contains("of which no other copy is here"), "{}", ran.out);
    assert!(!pack.exists() && quarantined(&world).len() == 1, "{}", ran.out);
    let ran = world.run(&["restore", &snapshot, "--target", "some"]);
    assert_eq!(ran.code, Some(17), "{}", ran.err);
    let same = |to: &str, name: &str| {
        fs::read(world.path(to).join("tree").join(name))
            .is_ok_and(|read| read == fs::read(world.tree().join(name)).unwrap())
    };
    assert_eq!((0..4).filter(|number| same("some", &number.to_string())).count(), 3, "one file is lost");
    let again = world.backup();
    for id in [&snapshot, &again] {
        world.ok(&["restore", id, "--target", id, "--verify"]);
    }
    world.ok(&["check", "--read-data", "--with-cache"]);
    world.ok(&["prune", "--instant"]);
    assert_eq!(quarantined(&world).len(), 1, "nothing is removed");
}

#[test]
fn a_sound_copy_that_turns_up_heals_what_was_given_up() {
    let (world, pack, snapshot) = large_world();
    let sound = fs::read(&pack).unwrap();
    damage(&pack, |bytes| bytes[1_000] ^= 1);
    assert_eq!(world.run(&["repair", "packs"]).code, Some(17));
    // An instant prune must not declare it gone for ever.
    world.write("more", "more");
    fs::remove_file(world.tree().join("0")).unwrap();
    world.backup();
    assert_eq!(world.run(&["prune", "--instant"]).code, Some(17), "the first snapshot has lost something");
    fs::write(&pack, sound).unwrap();
    world.ok(&["repair", "index", "--read-all-packs", "--read-data"]);
    world.ok(&["restore", &snapshot, "--target", "back", "--verify"]);
    world.ok(&["check", "--read-data"]);
}

#[test]
fn a_marked_copy_of_what_is_lost_is_used_again() {
    let (world, pack, first) = large_world();
    fs::remove_file(world.tree().join("0")).unwrap();
    let second = world.backup();
    world.ok(&["forget", &first]);
    world.ok(&["prune"]);
    let newest = packs(&world).into_iter().max_by_key(|pack| fs::metadata(pack).unwrap().modified().unwrap()).unwrap();
    assert!(pack.exists() && newest != pack, "rewritten, and still in its grace");
    damage(&newest, |bytes| bytes[1_000] ^= 1);
    let ran = world.ok(&["repair", "packs"]);
    assert!(ran.out.contains("marked, and holds what is lost elsewhere: it will be used again"), "{}", ran.out);
    world.ok(&["check", "--read-data", "--with-cache"]);
    world.ok(&["restore", &second, "--target", "back", "--verify"]);
    world.ok(&["prune", "--instant"]);
    world.ok(&["restore", &second, "--target", "again", "--verify"]);
}

/// Whoever reads a damaged pack goes on reading what opens in it.
#[test]
fn a_damaged_pack_stays_while_somebody_reads() {
    let (world, pack, _) = large_world();
    let mut reader = world.command(&["dump", "latest", "tree/3"]).stdout(Stdio::piped()).spawn().unwrap();
    // Once the first byte is here it reads, and the pipe holds it up.
    let mut read = vec![0];
    reader.stdout.as_mut().unwrap().read_exact(&mut read).unwrap();
    damage(&pack, |bytes| bytes[1_000] ^= 1);
    let ran = world.run(&["repair", "packs", "--json"]);
    assert_eq!(ran.code, Some(17), "{}", ran.err);
    assert!(ran.out.contains(&format!("PID {},", reader.id())), "{}", ran.out);
    assert!(pack.exists() && quarantined(&world).is_empty());
    reader.stdout.as_mut().unwrap().read_to_end(&mut read).unwrap();
    assert!(reader.wait().unwrap().success() && read == fs::read(world.tree().join("3")).unwrap());
    let id = pack.file_name().unwrap().to_str().unwrap();
    let ran = world.ok(&["repair", "packs", &id[..12]]);
    assert!(!pack.exists() && quarantined(&world).len() == 1, "{}", ran.out);
    assert_eq!(world.run(&["repair", "packs", "0123456789ab"]).code, Some(1));
}

#[test]
fn snapshots_without_what_is_lost_take_the_place_of_those_that_lost_it() {
    let (world, pack, first) = large_world();
    world.write("small", "small");
    let second = world.backup();
    damage(&pack, |bytes| bytes[1_000] ^= 1);
    let ran = world.run(&["repair", "snapshots"]);
    assert_eq!(ran.code, Some(0), "what nobody has found out is not lost: {}", ran.out);
    assert_eq!(world.run(&["repair", "packs"]).code, Some(17));
    assert_eq!(world.run(&["prune"]).code, Some(17), "lost chunks end a prune");
    let ran = world.ok(&["repair", "snapshots", "--dry-run"]);
    assert!(
        ran.out.contains(&format!("{}:/tree/", &first[..8])) && ran.out.contains("would have the rest"),
        "{}",
        ran.out
    );
    assert_eq!(ids(&world).len(), 2);
    let ran = world.ok(&["repair", "snapshots", &first]);
    assert!(ran.out.contains("has the rest") && ran.out.contains("The old snapshots stay"), "{}", ran.out);
    assert_eq!(ids(&world).len(), 3);
    let ran = world.ok(&["repair", "snapshots", "--forget", "--json"]);
    let changed: Vec<_> = lines(&ran.out).into_iter().filter(|line| line["message_type"] == "repaired").collect();
    assert_eq!(changed.len(), 2, "the repaired one is whole: {}", ran.out);
    let of = |old: &str| changed.iter().find(|line| line["old_snapshot_id"] == old).unwrap()["new_snapshot_id"].clone();
    let id = of(&second);
    let id = id.as_str().unwrap();
    world.ok(&["restore", id, "--target", "back", "--verify"]);
    let names: Vec<_> =
        fs::read_dir(world.path("back/tree")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 4, "three of four, and the small one: {names:?}");
    let shown = world.ok(&["show", id]);
    assert!(shown.out.contains("partial") && shown.out.contains("lost from the repository"), "{}", shown.out);
    world.ok(&["prune", "--instant"]);
    world.ok(&["check", "--read-data", "--with-cache"]);
    // In place nothing is taken for extra that was lost.
    world.ok(&["restore", id, "--target", world.text(&world.path("")), "--delete"]);
    assert_eq!(fs::read_dir(world.tree()).unwrap().count(), 5);
}

#[test]
fn a_lost_listing_keeps_the_rest_of_its_snapshot() {
    let world = World::with_repository();
    world.write("kept/a", "a");
    let first = world.backup();
    for number in 0..3_000 {
        world.write(&format!("deep/{number}"), "");
    }
    world.backup();
    let tree = packs(&world).into_iter().max_by_key(|pack| fs::metadata(pack).unwrap().modified().unwrap()).unwrap();
    damage(&tree, |bytes| bytes[1_000] ^= 1);
    let ran = world.run(&["repair", "snapshots"]);
    assert_eq!(ran.code, Some(17), "a pack that is damaged comes first: {} {}", ran.out, ran.err);
    assert_eq!(world.run(&["repair", "packs"]).code, Some(17));
    let ran = world.run(&["repair", "snapshots", "--forget"]);
    assert!(ran.out.contains("listing"), "{} {}", ran.out, ran.err);
    world.ok(&["restore", &first, "--target", "back", "--verify"]);
    world.backup();
    world.ok(&["check", "--read-data"]);
    world.ok(&["prune", "--instant"]);
}
