//! What was found to speak against a mirror is a complaint of `status` until a later sync or check disproves it.

use std::fs;

use super::check::damage;
use super::plain;
use super::prune::noise;
use super::reading::json;
use super::support::{World, files_beneath};
use serde_json::Value;

/// A mirror that is whole, of two snapshots.
fn world() -> World {
    let world = World::with_repository();
    for (name, seed) in [("a", 1), ("b", 2)] {
        world.write(name, noise(seed, 300_000));
        world.backup();
    }
    world.ok(&["mirror", "add", "offsite", "mirror"]);
    world.ok(&["sync"]);
    world
}

/// What `status` says of the mirror, and how it ends.
fn status(world: &World) -> (Option<i32>, Value) {
    let ran = world.run(&["status", "--json"]);
    let mut status = json(&ran);
    (ran.code, status["mirrors"][0].take())
}

fn is_well(world: &World) {
    let (code, mirror) = status(world);
    let nothing = (&serde_json::json!([]), &serde_json::json!(0));
    assert_eq!((code, (&mirror["findings"], &mirror["damaged_objects"])), (Some(0), nothing), "{mirror}");
}

/// The one finding: who found it, and its kind.
fn finding(world: &World) -> (String, String) {
    let (code, mirror) = status(world);
    assert_eq!(code, Some(18), "{mirror}");
    let found = mirror["findings"].as_array().unwrap();
    assert_eq!(found.len(), 1, "{mirror}");
    let word = |key: &str| found[0][key].as_str().unwrap().to_owned();
    (word("by"), word("kind"))
}

#[test]
fn a_refusal_counts_until_the_mirror_is_whole() {
    let world = world();
    is_well(&world);
    fs::rename(world.path("mirror/heads"), world.path("heads")).unwrap();
    let refused = world.run(&["sync"]);
    assert_eq!(refused.code, Some(14), "{}", refused.err);
    assert_eq!(finding(&world), ("sync".to_owned(), "rollback".to_owned()));
    let shown = world.run(&["status"]);
    assert!(shown.out.contains("in doubt, was whole at 3"), "{}", shown.out);
    let next = plain(&shown.out);
    assert!(next.contains("! offsite: the last sync of it, ") && next.contains("mirror accept offsite"), "{next}");
    let listed = world.run(&["mirror", "list"]);
    assert!(listed.err.contains("offsite: the sync of ") && listed.err.contains("rollback"), "{}", listed.err);
    // A dry run is no sync, and a check that is refused as well says so too.
    assert_ne!(world.run(&["check", "--mirror", "offsite"]).code, Some(0));
    fs::rename(world.path("heads"), world.path("mirror/heads")).unwrap();
    assert_eq!(world.run(&["sync", "--dry-run"]).code, Some(0));
    assert_eq!(status(&world).0, Some(18));
    world.ok(&["sync"]);
    is_well(&world);
}

/// The disk was mounted again: whoever looks at the mirror and finds it as it was knows enough.
#[test]
fn a_check_disproves_a_rollback() {
    let world = world();
    fs::rename(world.path("mirror/heads"), world.path("heads")).unwrap();
    assert_eq!(world.run(&["sync"]).code, Some(14));
    fs::rename(world.path("heads"), world.path("mirror/heads")).unwrap();
    world.ok(&["check", "--mirror", "offsite"]);
    is_well(&world);
}

#[test]
fn an_accepted_state_is_no_refusal_any_more() {
    let world = world();
    fs::remove_dir_all(world.path("mirror")).unwrap();
    fs::create_dir(world.path("mirror")).unwrap();
    assert_eq!(world.run(&["sync"]).code, Some(14));
    world.ok(&["mirror", "accept", "offsite", "--head", "none"]);
    assert_eq!(status(&world).1["findings"].as_array().unwrap().len(), 0);
    world.ok(&["sync"]);
    is_well(&world);
}

#[test]
fn what_a_check_misses_counts_until_it_is_there() {
    for disprove in [&["sync"][..], &["check", "--mirror", "offsite"]] {
        let world = world();
        let pack = files_beneath(&world.path("mirror/packs")).remove(0);
        fs::rename(&pack, world.path("pack")).unwrap();
        assert_eq!(world.run(&["check", "--mirror", "offsite"]).code, Some(13));
        assert_eq!(finding(&world), ("check".to_owned(), "mirror-incomplete".to_owned()));
        if disprove[0] == "check" {
            fs::rename(world.path("pack"), &pack).unwrap();
        }
        world.ok(disprove);
        is_well(&world);
    }
}

/// It has its length, so no listing shows it. The next sync sends it again, and reads it back.
#[test]
fn damage_that_a_check_reads_counts_until_it_is_mended() {
    for mend in [&["sync"][..], &["repair", "mirror", "offsite"], &["check", "--mirror", "offsite", "--read-data"]] {
        let world = world();
        let pack = files_beneath(&world.path("mirror/packs")).remove(0);
        let bytes = fs::read(&pack).unwrap();
        damage(&pack, |bytes| bytes.iter_mut().for_each(|byte| *byte ^= 0x55));
        assert_eq!(world.run(&["check", "--mirror", "offsite", "--read-data"]).code, Some(17));
        let (code, mirror) = status(&world);
        assert_eq!((code, &mirror["damaged_objects"]), (Some(18), &Value::from(1)), "{mirror}");
        // One that reads nothing disproves nothing.
        world.ok(&["check", "--mirror", "offsite"]);
        let shown = world.run(&["status"]);
        assert!(shown.code == Some(18) && shown.out.contains("1 object there cannot be used, packs/"), "{}", shown.out);
        let planned = world.ok(&["sync", "--dry-run"]);
        assert!(planned.out.contains("1 object would be sent"), "{}", planned.out);
        if mend[0] == "check" {
            damage(&pack, |damaged| damaged.copy_from_slice(&bytes));
        }
        let ran = world.ok(mend);
        assert!(mend[0] != "sync" || ran.out.contains("1 object sent"), "{}", ran.out);
        assert_eq!(fs::read(&pack).unwrap(), bytes, "{mend:?}");
        is_well(&world);
    }
}

/// The first sync was killed behind the config, which had been changed on its way.
#[test]
fn a_config_that_was_changed_on_its_way_is_sent_again() {
    let world = World::with_repository();
    world.write("a", "a");
    world.backup();
    world.ok(&["mirror", "add", "offsite", "mirror"]);
    let config = fs::read(world.repository().join("config")).unwrap();
    for place in [0, 60, 255] {
        let mut changed = config.clone();
        changed[place] ^= 0x10;
        fs::write(world.path("mirror/config"), &changed).unwrap();
        let ran = world.ok(&["sync", "--dry-run"]);
        assert!(ran.out.contains("objects would be sent"), "{}", ran.out);
    }
    world.ok(&["sync"]);
    assert_eq!(fs::read(world.path("mirror/config")).unwrap(), config);
    world.ok(&["check", "--mirror", "offsite", "--read-data"]);
}

/// Damage here keeps a mirror behind, and is no doubt about what lies there.
#[test]
fn damage_here_is_not_the_mirrors() {
    let world = world();
    world.write("c", noise(3, 300_000));
    let before = files_beneath(&world.repository().join("packs"));
    world.backup();
    let new = files_beneath(&world.repository().join("packs")).into_iter().find(|pack| !before.contains(pack)).unwrap();
    damage(&new, |bytes| bytes[700] ^= 1);
    assert_eq!(world.run(&["sync"]).code, Some(17));
    assert_eq!(finding(&world), ("sync".to_owned(), "damage".to_owned()));
    let shown = world.run(&["status"]);
    assert!(!shown.out.contains("in doubt") && shown.out.contains("another hash"), "{}", shown.out);
    // Whoever looks at what lies there learns nothing of what is damaged here.
    world.ok(&["check", "--mirror", "offsite", "--read-data"]);
    world.ok(&["repair", "mirror", "offsite"]);
    assert_eq!(finding(&world), ("sync".to_owned(), "damage".to_owned()));
    damage(&new, |bytes| bytes[700] ^= 1);
    world.ok(&["sync"]);
    is_well(&world);
}
