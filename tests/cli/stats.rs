//! `stats` from outside.

use std::fs;

use super::reading::{json, objects, spoil_packs};
use super::support::World;

fn noise(length: usize, mut seed: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length);
    while bytes.len() < length {
        // xorshift64 (Marsaglia, 2003): does not compress.
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        bytes.extend_from_slice(&seed.to_le_bytes());
    }
    bytes
}

fn world() -> World {
    let world = World::with_repository();
    world.write("one", noise(10_000, 1));
    world.write("same", noise(10_000, 1));
    world.write("other", noise(5_000, 2));
    fs::hard_link(world.tree().join("other"), world.tree().join("linked")).unwrap();
    world.backup();
    world.write("new", noise(1_000, 3));
    world.backup();
    world
}

#[test]
fn each_mode_counts_its_way() {
    let world = world();
    let stats = |words: &[&str]| json(&world.ok(&[&["stats", "--json"], words].concat()));
    let all = stats(&[]);
    assert_eq!(all["total_size"], 25_000 + 26_000);
    assert_eq!((&all["total_file_count"], &all["snapshots_count"]), (&9.into(), &2.into()));
    let latest = stats(&["latest"]);
    assert_eq!((&latest["total_size"], &latest["snapshots_count"]), (&26_000.into(), &1.into()));
    assert_eq!(stats(&["latest:tree/new"])["total_size"], 1_000);
    let contents = stats(&["--mode", "files-by-contents"]);
    assert_eq!((&contents["total_size"], &contents["total_file_count"]), (&16_000.into(), &3.into()));
    let chunks = stats(&["--mode", "blobs-per-file"]);
    assert_eq!((&chunks["total_size"], &chunks["total_blob_count"]), (&31_000.into(), &5.into()));
    let raw = stats(&["--mode", "raw-data"]);
    let plain = raw["total_uncompressed_size"].as_u64().unwrap();
    let stored = raw["total_size"].as_u64().unwrap();
    assert!(plain > 16_000 && stored > 16_000 && stored < 20_000, "{raw}");
    assert!(raw.get("total_file_count").is_none());
    // A directory with all that is in it, and not only its own listing.
    let blobs = |part: &str| stats(&["--mode", "raw-data", part])["total_blob_count"].as_u64().unwrap();
    assert_eq!((blobs("latest"), blobs("latest:tree")), (5, 4), "three contents, the directory and the root");
    assert!(raw["total_blob_count"].as_u64().unwrap() >= 5, "{raw}");
    // What the newest snapshot alone needs is less than what both do.
    assert!(stats(&["--mode", "raw-data", "latest"])["total_size"].as_u64().unwrap() < stored);
}

#[test]
fn the_repository_is_counted_by_kind() {
    let world = world();
    let all = json(&world.ok(&["stats", "--json"]));
    let repository = &all["repository"];
    let mut bytes = 0;
    for (folder, kinds) in [
        ("packs", &["data_packs", "tree_packs", "other_packs"][..]),
        ("index", &["segments"]),
        ("snapshots", &["snapshots"]),
        ("heads", &["heads"]),
        ("keys", &["keys"]),
    ] {
        let files = objects(&world, folder);
        let sum = |what: &str| kinds.iter().map(|kind| repository[*kind][what].as_u64().unwrap()).sum::<u64>();
        let length: u64 = files.iter().map(|path| path.metadata().unwrap().len()).sum();
        assert_eq!((sum("count"), sum("size")), (files.len() as u64, length), "{folder}");
        bytes += length;
    }
    assert_eq!(repository["total_size"], bytes);
    let text = world.ok(&["stats"]).out;
    assert!(text.starts_with("Stats in restore-size mode:\n"), "{text}");
    assert!(text.contains("Snapshots:  2\n") && text.contains("Size:  51.0 kB"), "{text}");
    assert!(text.contains("Data packs:       2  "), "{text}");
}

#[test]
fn filters_and_damage() {
    let world = world();
    let none = json(&world.ok(&["stats", "--json", "--host", "elsewhere"]));
    assert_eq!((&none["snapshots_count"], &none["total_size"]), (&0.into(), &0.into()));
    assert_eq!(world.run(&["stats", "latest~9"]).code, Some(1));
    spoil_packs(&world, "tree");
    let ran = world.run(&["stats"]);
    assert_eq!(ran.code, Some(17), "{}", ran.err);
    assert!(ran.err.contains("could not be counted"), "{}", ran.err);
}
