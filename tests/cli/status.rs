//! "Am I safe?", at a glance.

use std::fs;

use super::plain;
use super::reading::json;
use super::support::World;

#[test]
fn an_empty_repository_and_a_lonely_one_say_what_is_missing() {
    let world = World::with_repository();
    let ran = world.run(&["status"]);
    assert_eq!(ran.code, Some(18), "{}", ran.err);
    assert!(plain(&ran.out).contains("! there is no snapshot yet.  Next: packstone backup PATH"), "{}", ran.out);
    world.write("a", "a");
    world.backup();
    let ran = world.ok(&["status"]);
    assert!(plain(&ran.out).contains("this repository is the only copy.  Next: packstone mirror add"), "{}", ran.out);
    assert!(plain(&ran.out).contains("there is no recovery code.  Next: packstone key recovery-code"), "{}", ran.out);
}

#[test]
fn what_is_overdue_is_told_with_what_to_do() {
    let world = World::with_repository();
    world.write("a", "a");
    let tree = world.tree();
    world.ok(&["backup", "--time", "2020-01-01 00:00:00", world.text(&tree)]);
    let ran = world.run(&["status", "--json"]);
    assert_eq!(ran.code, Some(18), "{}", ran.err);
    let told = json(&ran);
    assert_eq!(told["overdue"].as_bool(), Some(true));
    assert!(told["sources"][0]["age_seconds"].as_u64().unwrap() > 5 * 365 * 86_400, "{told}");
    assert!(told["complaints"][0]["next"].as_str().unwrap().contains(" backup /"), "{told}");
    world.ok(&["status", "--max-age", "100y"]);
    world.backup();
    world.ok(&["status"]);
    // A mirror that was never synced, then one that is behind for longer than it may be.
    world.ok(&["mirror", "add", "offsite", "mirror"]);
    let ran = world.run(&["status"]);
    assert!(
        ran.code == Some(18) && plain(&ran.out).contains("! offsite was never synced.  Next: packstone sync offsite"),
        "{}",
        ran.out
    );
    world.ok(&["sync"]);
    let ran = world.ok(&["status"]);
    assert!(ran.out.contains("offsite  whole at 3"), "{}", ran.out);
    assert!(ran.out.contains("whether data comes back from it was never tried"), "{}", ran.out);
    world.write("b", "b");
    world.backup();
    let ran = world.ok(&["status"]);
    assert!(ran.out.contains("offsite is 1 state behind"), "{}", ran.out);
    std::thread::sleep(std::time::Duration::from_millis(1_100));
    assert_eq!(world.run(&["status", "--max-behind", "0"]).code, Some(18));
    world.ok(&["sync"]);
    // A drill that fails is overdue until one passes.
    world.ok(&["drill", "--to", "drills"]);
    let told = json(&world.ok(&["status", "--json"]));
    assert!(told["mirrors"][0]["drilled"].is_string() && told["mirrors"][0]["is_newest"] == true, "{told}");
    fs::rename(world.path("mirror/packs"), world.path("packs")).unwrap();
    assert_eq!(world.run(&["drill", "--to", "drills"]).code, Some(19));
    let ran = world.run(&["status"]);
    assert!(ran.code == Some(18) && ran.out.contains("! offsite: the last drill failed: "), "{}", ran.out);
    fs::rename(world.path("packs"), world.path("mirror/packs")).unwrap();
    world.ok(&["drill", "--to", "drills"]);
    world.ok(&["status"]);
}

#[test]
fn a_source_without_a_complete_snapshot_is_told() {
    let world = World::with_repository();
    world.write("a", "a");
    let tree = world.tree();
    let ran = world.run(&["backup", world.text(&tree), "/nowhere/at/all"]);
    assert_eq!(ran.code, Some(3), "{}", ran.err);
    let ran = world.run(&["status"]);
    assert!(ran.code == Some(18) && ran.out.contains("no snapshot of it is complete"), "{}", ran.out);
}
