//! `rewrite` as a person sees it.

use std::fs;

use super::forget::ids;
use super::prune::noise;
use super::reading::{lines, objects};
use super::support::World;

fn world() -> (World, String, String) {
    let world = World::with_repository();
    world.write("docs/letter", "dear");
    world.write("cache/large", noise(1, 3 << 20));
    let first = world.backup();
    world.write("docs/other", "other");
    let second = world.backup();
    (world, first, second)
}

fn stored(world: &World) -> u64 {
    objects(world, "packs").iter().map(|path| fs::metadata(path).unwrap().len()).sum()
}

#[test]
fn dropped_paths_are_gone_and_their_space_comes_back() {
    let (world, first, second) = world();
    let ran = world.ok(&["rewrite", "--exclude", "cache", "--dry-run"]);
    assert!(ran.out.contains("2 entries (3.15 MB) would be dropped"), "{}", ran.out);
    assert!(ran.out.contains("2 of 2 snapshots would be rewritten; nothing was changed"), "{}", ran.out);
    assert_eq!(ids(&world), [first.as_str(), second.as_str()]);

    let ran = world.ok(&["rewrite", "--exclude", "cache", "--json", &second]);
    let changed = lines(&ran.out).remove(0);
    assert_eq!((changed["dropped_files"].as_u64(), changed["dropped_bytes"].as_u64()), (Some(1), Some(3 << 20)));
    assert_eq!(ids(&world).len(), 3, "the old one stays");
    let new = changed["new_snapshot_id"].as_str().unwrap();
    world.ok(&["restore", new, "--target", "back", "--verify"]);
    assert!(world.path("back/tree/docs/other").exists() && !world.path("back/tree/cache").exists());
    let shown = world.ok(&["show", new]);
    assert!(shown.out.contains("--exclude=cache"), "{}", shown.out);

    let ran = world.ok(&["rewrite", "--exclude", "cache", "--forget"]);
    assert!(ran.out.contains("2 of 3 snapshots rewritten, the old ones removed"), "{}", ran.out);
    assert_eq!(ids(&world).len(), 3);
    world.ok(&["prune", "--instant"]);
    assert!(stored(&world) < 200_000, "{}", stored(&world));
    world.ok(&["check", "--read-data", "--with-cache"]);
    let ran = world.ok(&["rewrite", "--exclude", "cache"]);
    assert!(ran.out.contains("Nothing in 3 snapshots matches"), "{}", ran.out);
    // On a busy machine, lines of progress come before it.
    let parent = lines(&world.ok(&["backup", "--json", "tree"]).out).pop().unwrap();
    assert_eq!(parent["message_type"], "summary", "{parent}");
}

#[test]
fn nothing_is_dropped_without_a_pattern_and_nothing_published_over_damage() {
    let (world, _, _) = world();
    let ran = world.run(&["rewrite"]);
    assert_eq!(ran.code, Some(2), "{}", ran.err);
    super::reading::spoil_packs(&world, "tree");
    let ran = world.run(&["rewrite", "--exclude", "cache", "--forget"]);
    assert_eq!(ran.code, Some(17), "{}", ran.err);
    assert_eq!(ids(&world).len(), 2);
}
