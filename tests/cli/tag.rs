//! `tag`, `hold` and `release` from outside.

use super::forget::{backup_at, ids};
use super::reading::{json, lines};
use super::support::World;

fn tags(world: &World) -> Vec<Vec<String>> {
    let list = json(&world.ok(&["snapshots", "--json"]));
    let tags = |snapshot: &serde_json::Value| {
        let tags = snapshot["tags"].as_array().cloned().unwrap_or_default();
        tags.iter().map(|tag| tag.as_str().unwrap().to_owned()).collect()
    };
    list.as_array().unwrap().iter().map(tags).collect()
}

fn world() -> World {
    let world = World::with_repository();
    world.write("a", "a");
    backup_at(&world, "2026-01-01", &["--tag", "a,b"]);
    backup_at(&world, "2026-01-02", &["--host", "two"]);
    world
}

#[test]
fn tags_are_changed_as_in_restic() {
    let world = world();
    let first = ids(&world)[0].clone();
    let ran = world.ok(&["tag", "--add", "c,a", "--remove", "b", &first[..10]]);
    assert!(ran.out.contains("1 snapshot tagged"), "{}", ran.out);
    assert_eq!(tags(&world), [vec!["a", "c"], vec![]]);
    let second = ids(&world)[0].clone();
    assert_ne!(first, second);
    assert!(world.ok(&["show", &second]).out.contains(&format!("original  {}", &first[..8])));
    let told = lines(&world.ok(&["tag", "--json", "--add", "x", "--host", "two"]).out);
    assert_eq!((told.len(), &told[0]["message_type"]), (2, &"changed".into()));
    assert_eq!(told[0]["new_snapshot_id"], ids(&world)[1].as_str());
    assert_eq!(told[1]["changed_snapshots"], 1);
    world.ok(&["tag", "--set", "z", "--set", "y"]);
    assert_eq!(tags(&world), [["z", "y"], ["z", "y"]]);
    // The first id stays the original over all changes.
    assert!(world.ok(&["show", &ids(&world)[0]]).out.contains(&format!("original  {}", &first[..8])));
    world.ok(&["tag", "--set", ""]);
    assert_eq!(tags(&world), [Vec::<String>::new(), vec![]]);
    let ran = world.ok(&["tag", "--remove", "none"]);
    assert!(ran.out.contains("0 snapshots tagged, 2 so already"), "{}", ran.out);
    for words in [&["tag"][..], &["tag", "--set", "a", "--add", "b"]] {
        assert_eq!(world.run(words).code, Some(2), "{words:?}");
    }
    let before = ids(&world);
    assert!(world.ok(&["tag", "-n", "--add", "x"]).out.contains("2 snapshots would be tagged; nothing was changed"));
    assert_eq!(ids(&world), before);
    world.ok(&["check", "--read-data"]);
    world.ok(&["restore", "latest", "--target", "back", "--verify"]);
}

#[test]
fn holding_is_seen_and_undone() {
    let world = world();
    let before = ids(&world);
    assert!(world.ok(&["hold", "latest"]).out.contains("1 snapshot held"));
    let held = ids(&world)[1].clone();
    assert_ne!(held, before[1]);
    assert!(world.ok(&["snapshots"]).out.contains("  held\n"));
    assert_eq!(json(&world.ok(&["snapshots", "--json"]))[1]["held"], true);
    assert!(world.ok(&["show", &held]).out.contains("held      yes"));
    assert!(world.ok(&["cat", "snapshot", &held]).out.contains("held"));
    assert!(world.ok(&["hold", &held]).out.contains("0 snapshots held, 1 so already"));
    assert_eq!(ids(&world)[1], held);
    world.ok(&["release", &held]);
    assert!(json(&world.ok(&["snapshots", "--json"]))[1].get("held").is_none());
    assert!(!world.ok(&["snapshots"]).out.contains("held"));
    assert_eq!(world.run(&["hold"]).code, Some(2));
    assert_eq!(world.run(&["release", "latest~9"]).code, Some(1));
}
