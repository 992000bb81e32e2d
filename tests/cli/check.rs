//! `check` as a person and a script see it.

use std::fs;
use std::path::PathBuf;

use super::plain;
use super::support::World;

/// The packs of a world's repository.
pub fn packs(world: &World) -> Vec<PathBuf> {
    let folders = fs::read_dir(world.repository().join("packs")).unwrap();
    let mut packs: Vec<PathBuf> = folders
        .flat_map(|folder| fs::read_dir(folder.unwrap().path()).unwrap())
        .map(|pack| pack.unwrap().path())
        .collect();
    packs.sort();
    packs
}

/// Writes over a read-only object.
pub fn damage(path: &std::path::Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

fn world() -> World {
    let world = World::with_repository();
    world.write("letters/one.txt", "dear one\n".repeat(500));
    world.write("two\nlines", "hostile name");
    world.backup();
    world
}

/// The longer one of two packs holds the data; a listing is shorter here.
fn data_pack(world: &World) -> PathBuf {
    let listed = |pack: &PathBuf| {
        let id = pack.file_name().unwrap().to_str().unwrap().to_owned();
        world.ok(&["check", "--list", &id]).out.contains("one.txt")
    };
    packs(world).into_iter().find(listed).unwrap()
}

#[test]
fn a_sound_repository_is_told_in_one_line() {
    let world = world();
    let ran = world.ok(&["check"]);
    assert!(ran.out.starts_with("No damage found  generation 2: 1 snapshot, "), "{}", ran.out);
    assert!(plain(&ran.out).contains("packstone check --read-data"), "{}", ran.out);
    let ran = world.ok(&["check", "--read-data"]);
    assert!(ran.out.contains("2 packs, 2 of them read ("), "{}", ran.out);
    let ran = world.ok(&["check", "--json", "--with-cache"]);
    let expected = r#"{"message_type":"summary","num_errors":0,"broken_packs":[],"suggest_repair_index":false,"suggest_prune":false,"suggest_repair_packs":false,"suggest_repair_snapshots":false}"#;
    assert_eq!(ran.out.trim_end(), expected);
    assert_eq!(ran.err, "");
    assert_eq!(world.ok(&["check", "--quiet"]).out, "");
}

/// A file of several chunks has a digest of the whole, and reading everything compares it.
#[test]
fn digests_of_whole_files_are_counted() {
    let world = World::with_repository();
    let mut long = vec![0; 9 << 20];
    blake3::Hasher::new().finalize_xof().fill(&mut long);
    world.write("long", &long);
    world.write("short", "one chunk");
    world.backup();
    let ran = world.ok(&["check", "--read-data"]);
    assert!(ran.out.contains("Digests of whole files: 1 compared, of 1 file of several chunks\n"), "{}", ran.out);
    let told: serde_json::Value = serde_json::from_str(&world.ok(&["check", "--read-data", "--json"]).out).unwrap();
    assert!(told["digests_compared"] == 1 && told["digests_not_compared"] == 0, "{told}");
    assert!(!world.ok(&["check"]).out.contains("Digests"));
}

#[test]
fn all_parts_together_are_all_packs() {
    let world = world();
    let mut read = 0;
    for part in 1..=4 {
        let out = world.ok(&["check", "--read-data-subset", &format!("{part}/4")]).out;
        read += ["1 of them", "2 of them"].iter().position(|count| out.contains(count)).map_or(0, |index| index + 1);
    }
    assert_eq!(read, 2);
    let ran = world.ok(&["check", "--read-data-subset", "50%", "--read-data-seed", "7"]);
    assert!(ran.out.contains("1 of them read"), "{}", ran.out);
    assert!(ran.out.contains("the same ones again: --read-data-seed 7"), "{}", ran.out);
    let ran = world.ok(&["check", "--read-data-subset", "1k"]);
    assert!(ran.out.contains("1 of them read"), "{}", ran.out);
}

#[test]
fn a_damaged_pack_is_named_with_what_it_costs_and_what_to_do() {
    let world = world();
    let pack = data_pack(&world);
    damage(&pack, |bytes| bytes[100] ^= 1);
    assert_eq!(world.run(&["check"]).code, Some(0), "structure does not read data");
    let ran = world.run(&["check", "--read-data"]);
    assert_eq!(ran.code, Some(17));
    let id = pack.file_name().unwrap().to_str().unwrap();
    let named = format!("damaged: packs/{}/{id}: block 1 of 1 does not open: commitment differs", &id[..2]);
    assert!(ran.out.contains(&named), "{}", ran.out);
    let affected = format!("all of them: packstone check --list {}\n", &id[..8]);
    assert!(
        ran.out.contains("needed by 2 paths in 1 snapshot\n") && plain(&ran.out).contains(&affected),
        "{}",
        ran.out
    );
    assert!(ran.out.contains("tree/two\\nlines"), "{}", ran.out);
    assert!(ran.out.contains("Next: copy the file of that name back from any other copy"), "{}", ran.out);
    assert!(ran.out.contains("\n1 problem found  "), "{}", ran.out);

    let list = world.ok(&["check", "--list", &id[..8]]);
    assert_eq!(list.out.lines().count(), 2, "{}", list.out);
    let ran = world.run(&["check", "--read-data", "--json"]);
    assert_eq!(ran.code, Some(17));
    assert!(ran.err.starts_with("{\"message_type\":\"error\",\"message\":\"damaged: packs/"), "{}", ran.err);
    assert!(ran.out.contains(&format!("\"num_errors\":1,\"broken_packs\":[\"{id}\"],\"suggest_repair_index\":false")));
}

#[test]
fn a_missing_pack_and_a_missing_config_have_their_sentences() {
    let world = world();
    let pack = data_pack(&world);
    let saved = world.path("saved");
    fs::rename(&pack, &saved).unwrap();
    let ran = world.run(&["check"]);
    assert_eq!(ran.code, Some(17));
    assert!(ran.out.contains("missing: packs/") && plain(&ran.out).contains("packstone repair packs"), "{}", ran.out);
    fs::rename(&saved, &pack).unwrap();
    world.ok(&["check", "--read-data"]);

    let config = world.repository().join("config");
    fs::rename(&config, &saved).unwrap();
    let ran = world.run(&["check"]);
    assert_eq!(ran.code, Some(17));
    assert!(ran.err.contains("the config file of the repository at"), "{}", ran.err);
    assert!(ran.err.contains("copy the file config back"), "{}", ran.err);
    fs::rename(&saved, &config).unwrap();
    world.ok(&["check"]);
}

#[test]
fn strangers_are_notes_and_a_wrong_cache_is_made_again() {
    let world = world();
    fs::write(world.repository().join("snapshots/notes\x1b[31m.txt"), "x").unwrap();
    fs::write(world.repository().join("index").join("ab".repeat(32)), "x").unwrap();
    let ran = world.ok(&["check"]);
    assert!(ran.out.contains("Note: snapshots/notes\\x1b[31m.txt is not part of the repository"), "{}", ran.out);
    assert!(ran.out.contains("Note: 1 segment is named by no head"), "{}", ran.out);

    let caches = world.path("home/.cache/packstone");
    let cache = fs::read_dir(caches).unwrap().next().unwrap().unwrap().path().join("index.redb");
    damage(&cache, |bytes| bytes[5_000] ^= 1);
    let ran = world.ok(&["check"]);
    assert!(ran.out.contains("Note: the cache was wrong and was made again"), "{}", ran.out);
    assert!(!world.ok(&["check"]).out.contains("cache was wrong"));
}

#[test]
fn a_pack_that_nobody_knows_cannot_be_listed() {
    let world = world();
    let ran = world.run(&["check", "--list", "zz"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("no live pack has an id that begins with zz"), "{}", ran.err);
}

/// A directory or a link under the name of an object is the loss of that object, and what it held is named.
#[test]
fn an_object_that_is_no_file_is_missing() {
    let world = world();
    for pack in packs(&world) {
        let saved = world.path("saved");
        fs::rename(&pack, &saved).unwrap();
        for link in [false, true] {
            if link {
                std::os::unix::fs::symlink(&saved, &pack).unwrap();
            } else {
                fs::create_dir(&pack).unwrap();
            }
            let ran = world.run(&["check"]);
            assert_eq!(ran.code, Some(17), "{}", ran.out);
            assert!(ran.out.contains("it is not there") && ran.out.contains("needed by"), "{}", ran.out);
            let back = world.path("back");
            let ran = world.run(&["restore", "latest", "--target", world.text(&back)]);
            assert_eq!(ran.code, Some(17), "{}", ran.err);
            let _ = if link { fs::remove_file(&pack) } else { fs::remove_dir(&pack) };
        }
        fs::rename(&saved, &pack).unwrap();
    }
    world.ok(&["check", "--read-data"]);
}

#[test]
fn a_lost_key_slot_is_damage_and_no_wrong_key() {
    let world = world();
    fs::remove_dir_all(world.repository().join("keys")).unwrap();
    fs::create_dir(world.repository().join("keys")).unwrap();
    let ran = world.run(&["snapshots"]);
    assert_eq!(ran.code, Some(17), "{}", ran.err);
    assert!(ran.err.contains("missing: keys/") && ran.err.contains("any copy"), "{}", ran.err);
    let config = world.repository().join("config");
    fs::remove_file(&config).unwrap();
    fs::create_dir(&config).unwrap();
    let ran = world.run(&["snapshots"]);
    assert_eq!(ran.code, Some(17), "{}", ran.err);
    assert!(ran.err.contains("config: not a regular file"), "{}", ran.err);
}
