//! `stats --mode freed` against what a real forget and prune then free.

use std::fs;

use serde_json::Value;

use super::reading::{json, objects, spoil_packs};
use super::support::World;

fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

fn stored(world: &World) -> u64 {
    objects(world, "packs").iter().map(|path| path.metadata().unwrap().len()).sum()
}

/// Five snapshots; each of the later ones loses some files of those before and gets some of its own.
fn world() -> (World, Vec<String>) {
    let world = World::with_repository();
    let mut all = Vec::new();
    for day in 0..5_u64 {
        for number in 0..12 {
            world.write(&format!("{day}/{number:02}"), noise(day << 8 | number, 150_000));
        }
        world.write("large", noise(1_000 + day, 1_500_000));
        if day > 1 {
            for number in (0..12).step_by(2) {
                fs::remove_file(world.tree().join(format!("{}/{number:02}", day - 2))).unwrap();
            }
        }
        all.push(world.backup());
    }
    world.ok(&["prune", "--instant", "--max-unused", "0"]);
    world.ok(&["prune", "--instant", "--max-unused", "0"]);
    (world, all)
}

fn freed(world: &World, words: &[&str]) -> Value {
    json(&world.ok(&[&["stats", "--json", "--mode", "freed"], words].concat()))
}

/// What is really freed by forgetting these, in bytes of packs.
fn really(world: &World, ids: &[&str]) -> u64 {
    let before = stored(world);
    world.ok(&[&["forget", "-q"], ids].concat());
    world.ok(&["prune", "-q", "--instant", "--max-unused", "0"]);
    before - stored(world)
}

#[test]
fn it_foretells_what_forget_and_prune_free() {
    for which in [&[0][..], &[1], &[4], &[0, 1, 2], &[1, 3, 4], &[0, 1, 2, 3, 4]] {
        let (world, all) = world();
        let ids: Vec<&str> = which.iter().map(|number| all[*number].as_str()).collect();
        let told = freed(&world, &ids);
        assert_eq!(told["snapshots_count"], ids.len());
        let get = |field: &str| told[field].as_u64().unwrap();
        let (size, foretold, whole) = (get("total_size"), get("freed_size"), get("packs_size"));
        assert!(size > 1_500_000 && whole <= foretold, "{told}");
        assert_eq!(told["unneeded_size"], 0);
        let really = really(&world, &ids);
        // Noise does not shrink, so shares are exact. Beside the chunks there are directories, and the padding of packs that go
        // and of those that come: at most one part in 32.
        println!("{which:?}: {size} of chunks, {foretold} foretold, {really} freed");
        let slack = (16 << 10) + foretold / 32;
        assert!(really.abs_diff(size) <= slack, "{which:?}: {size} of chunks, {really} freed: {told}");
        assert!(really.abs_diff(foretold) <= slack, "{which:?}: {foretold} foretold, {really} freed: {told}");
        if which.len() == 5 {
            assert_eq!((really, stored(&world)), (whole, 0));
        }
    }
}

#[test]
fn filters_choose_and_text_says_it() {
    let world = World::with_repository();
    world.write("shared", noise(1, 700_000));
    world.ok(&["backup", "--host", "a", "--tag", "x", "tree"]);
    world.write("own", noise(2, 300_000));
    world.ok(&["backup", "--host", "b", "tree"]);
    let of = |words: &[&str], field: &str| freed(&world, words)[field].as_u64().unwrap();
    let a = of(&["--host", "a"], "total_uncompressed_size");
    assert!(a < 20_000, "listings at most: {a}");
    assert_eq!(of(&["--tag", "x"], "total_uncompressed_size"), a);
    let b = of(&["--host", "b"], "total_uncompressed_size");
    assert!((300_000..320_000).contains(&b), "{b}");
    assert_eq!(of(&["latest"], "total_uncompressed_size"), b);
    assert!(of(&[], "total_uncompressed_size") > 1_000_000);
    assert_eq!(of(&["--host", "nobody"], "total_size"), 0);
    let text = world.ok(&["stats", "--mode", "freed", "latest"]).out;
    assert!(text.starts_with("Stats in freed mode:\n") && text.contains("Size:  30"), "{text}");
    assert!(text.contains("nothing else needs them"), "{text}");
    // What a forgotten snapshot has left behind is not counted, and said.
    world.ok(&["forget", "latest"]);
    assert!(of(&["latest"], "unneeded_size") > 300_000);
    assert!(of(&["latest"], "total_uncompressed_size") < 720_000);
}

#[test]
fn a_path_is_counted_where_nothing_else_needs_it() {
    let world = World::with_repository();
    world.write("films/one", noise(1, 400_000));
    world.write("films/two", noise(2, 300_000));
    world.write("again/two", noise(2, 300_000));
    let first = world.backup();
    fs::remove_file(world.tree().join("films/one")).unwrap();
    world.write("films/three", noise(3, 200_000));
    let second = world.backup();
    let plain = |words: &[&str]| freed(&world, words)["total_uncompressed_size"].as_u64().unwrap();
    let about = |found: u64, expected: u64| assert!((expected..expected + 5_000).contains(&found), "{found}");
    // Of one snapshot: what the other has stays needed, and so does what lies elsewhere in the same one.
    about(plain(&[&format!("{first}:tree/films")]), 400_000);
    about(plain(&[&format!("{second}:tree/films")]), 200_000);
    about(plain(&[&format!("{second}:tree/films/three")]), 200_000);
    about(plain(&[&format!("{second}:tree/films/two")]), 0);
    // Of all: what lies elsewhere stays needed.
    about(plain(&["--only-path", "tree/films"]), 600_000);
    about(plain(&["--only-path", "tree/films", "--only-path", "tree/again"]), 900_000);
    about(plain(&["--only-path", "tree/films/one"]), 400_000);
    about(plain(&["--only-path", "films/one", &second, &first]), 400_000);
    // A whole snapshot beside a part of the other.
    about(plain(&[&first, &format!("{second}:tree/films/three")]), 600_000);
    let nowhere = world.run(&["stats", "--mode", "freed", "--only-path", "nowhere"]);
    assert_eq!(nowhere.code, Some(1));
    assert!(nowhere.err.contains("no nowhere in any of the 2 snapshots"), "{}", nowhere.err);
    assert_eq!(world.run(&["stats", "--only-path", "tree"]).code, Some(2));
}

#[test]
fn what_cannot_be_read_ends_it() {
    let world = World::with_repository();
    world.write("a", "a");
    world.backup();
    spoil_packs(&world, "tree");
    assert_eq!(world.run(&["stats", "--mode", "freed"]).code, Some(17));
}
