//! `forget` from outside: what stays and goes, why, and that nothing goes by mistake.

use super::plain;
use super::reading::{json, lines, spoil_snapshot};
use super::support::{World, snapshot_id};

/// Stores the tree under a claimed time.
pub fn backup_at(world: &World, time: &str, words: &[&str]) -> String {
    snapshot_id(&world.ok(&[&["backup", "--json", "tree", "--time", time], words].concat()))
}

/// The ids of the live snapshots, oldest first.
pub fn ids(world: &World) -> Vec<String> {
    let list = json(&world.ok(&["snapshots", "--json"]));
    list.as_array().unwrap().iter().map(|snapshot| snapshot["id"].as_str().unwrap().to_owned()).collect()
}

/// Five days, and two snapshots on the last of them.
fn world() -> (World, Vec<String>) {
    let world = World::with_repository();
    world.write("a", "a");
    let mut all: Vec<String> = (1..=5).map(|day| backup_at(&world, &format!("2026-01-0{day} 10:00:00"), &[])).collect();
    all.push(backup_at(&world, "2026-01-05 11:00:00", &[]));
    (world, all)
}

#[test]
fn rules_say_what_stays_and_why() {
    let (world, all) = world();
    let dry = world.ok(&["forget", "--keep-daily", "2", "--keep-yearly", "1", "--dry-run"]);
    assert!(dry.out.contains("Applying rules: keep 2 daily, 1 yearly snapshots"), "{}", dry.out);
    assert!(dry.out.contains("snapshots for (host ["), "{}", dry.out);
    assert!(dry.out.contains("keep 2 snapshots:") && dry.out.contains("remove 4 snapshots:"), "{}", dry.out);
    for word in
        ["Reasons", "daily snapshot", "yearly snapshot", "beyond 2 daily", &format!("same day as {}", &all[5][..8])]
    {
        assert!(dry.out.contains(word), "{word}: {}", dry.out);
    }
    assert!(dry.out.contains("kept 2, would remove 4 snapshots; nothing was changed"), "{}", dry.out);
    assert_eq!(ids(&world), all);
    let ran = world.ok(&["forget", "-d", "2", "-y", "1", "-c"]);
    assert!(ran.out.contains("kept 2, removed 4 snapshots"), "{}", ran.out);
    assert!(
        plain(&ran.out).contains("packstone prune") && plain(&ran.out).contains("packstone undelete "),
        "{}",
        ran.out
    );
    assert_eq!(ids(&world), [all[3].as_str(), &all[5]]);
    let again = world.ok(&["forget", "-d", "2", "-y", "1"]);
    assert!(again.out.contains("kept 2, removed 0 snapshots"), "{}", again.out);
    assert!(world.ok(&["check", "--read-data"]).out.contains("2 snapshots"), "a forgotten snapshot is no damage");
    assert_eq!(world.ok(&["forget", "-q", "-l", "1"]).out, "");
    assert_eq!(ids(&world), [all[5].as_str()]);
}

#[test]
fn json_has_restics_shape() {
    let (world, all) = world();
    let groups = json(&world.ok(&["forget", "--json", "--keep-last", "1", "--keep-daily", "unlimited"]));
    let group = &groups[0];
    assert_eq!(groups.as_array().unwrap().len(), 1);
    assert_eq!(group["message_type"], "forget_group");
    assert!(group["tags"].is_null() && group["host"].is_string() && group["paths"].is_array(), "{group}");
    assert_eq!(group["keep"].as_array().unwrap().len(), 5);
    assert_eq!(group["remove"][0]["id"], all[4].as_str());
    assert_eq!(group["reasons"][0]["snapshot"]["id"], all[5].as_str());
    assert_eq!(group["reasons"][0]["matches"], serde_json::json!(["last snapshot", "daily snapshot"]));
    assert_eq!(group["reasons"][0]["counters"], serde_json::json!({ "daily": -1 }));
    assert_eq!(group["remove_reasons"].as_array().unwrap().len(), 1);
    let named = json(&world.ok(&["forget", "--json", &all[0]]));
    assert_eq!(named["snapshot_ids"], serde_json::json!([all[0]]));
}

#[test]
fn nothing_goes_by_mistake() {
    let (world, all) = world();
    for words in [
        &["forget"][..],
        &["forget", "--keep-last", "0"],
        &["forget", "--keep-within", "0d"],
        &["forget", "--keep-last", "-2"],
        &["forget", "--unsafe-allow-remove-all"],
        &["forget", "--keep-last", "1", &all[0]],
        &["forget", "--keep-within", "5w", "--keep-last", "1"],
    ] {
        let ran = world.run(words);
        assert_eq!(ran.code, Some(2), "{words:?}: {}", ran.err);
    }
    // A misspelled tag.
    let ran = world.run(&["forget", "--keep-tag", "no such"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("the rules keep none of the 6 snapshots of host ["), "{}", ran.err);
    let ran = world.run(&["forget", &all[0], "0123456789abcdef0123456789"]);
    assert_eq!(ran.code, Some(1), "{}", ran.err);
    assert_eq!(ids(&world), all);
    assert_eq!(world.ok(&["forget", "--host", "elsewhere", "--keep-last", "1"]).out.lines().count(), 2);
    world.ok(&["forget", "--path", "tree", "--unsafe-allow-remove-all"]);
    assert!(ids(&world).is_empty());
    world.backup();
    world.ok(&["check"]);
}

#[test]
fn groups_and_filters_are_those_of_snapshots() {
    let world = World::with_repository();
    world.write("a", "a");
    let one = backup_at(&world, "2026-01-01", &["--host", "one", "--tag", "x"]);
    let two = backup_at(&world, "2026-01-02", &["--host", "two", "--tag", "x", "--label", "l"]);
    let three = backup_at(&world, "2026-01-03", &["--host", "two", "--tag", "y"]);
    let would = |words: &[&str]| {
        let groups = json(&world.ok(&[&["forget", "--json", "-n", "--keep-last", "1"], words].concat()));
        let removed = groups.as_array().unwrap().iter().flat_map(|group| group["remove"].as_array().unwrap());
        removed.map(|snapshot| snapshot["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(would(&[]), [two.as_str()]);
    assert_eq!(would(&["--group-by", ""]), [two.as_str(), &one]);
    assert_eq!(would(&["--group-by", "tags"]), [one.as_str()]);
    assert!(would(&["--group-by", "host,label"]).is_empty());
    assert!(would(&["--host", "one"]).is_empty());
    assert_eq!(would(&["--group-by", "paths", "--tag", "x"]), [one.as_str()]);
    assert_eq!(would(&["-g", "", "--keep-tag", "x", "--keep-id", &three[..8]]), Vec::<String>::new());
    assert_eq!(world.run(&["forget", "--keep-last", "1", "--group-by", "user"]).code, Some(2));
    assert!(world.ok(&["snapshots", "--group-by", "label"]).out.contains("label [l]"));
}

#[test]
fn flawed_held_and_future_snapshots_are_looked_after() {
    let (world, all) = world();
    let partial = world.run(&["backup", "--json", "tree", "absent", "--time", "2026-01-06 10:00:00"]);
    assert_eq!(partial.code, Some(3), "{}", partial.err);
    let partial = snapshot_id(&partial);
    let future = backup_at(&world, "2399-01-01", &[]);
    world.ok(&["hold", "-n", &all[1]]);
    assert!(json(&world.ok(&["snapshots", "--json"]))[1].get("held").is_none(), "a dry run changes nothing");
    world.ok(&["hold", &all[1]]);
    let held = ids(&world)[1].clone();
    let ran = world.run(&["forget", &held]);
    assert_eq!(ran.code, Some(1));
    assert!(plain(&ran.err).contains("is held: nothing was removed. To let it go: packstone release "), "{}", ran.err);
    let out = world.ok(&["forget", "--keep-last", "1", "--group-by", ""]).out;
    for word in ["newest complete snapshot", "held", "time in the future", "last snapshot"] {
        assert!(out.contains(word), "{word}: {out}");
    }
    assert_eq!(ids(&world), [held, all[5].clone(), partial, future]);
}

#[test]
fn a_snapshot_that_cannot_be_read_goes_by_name_only() {
    let (world, all) = world();
    spoil_snapshot(&world, &all[0]);
    let ran = world.ok(&["forget", "--keep-last", "1"]);
    assert!(ran.err.contains(&format!("! snapshot {} cannot be read", &all[0][..8])), "{}", ran.err);
    assert!(ran.out.contains("kept 1, removed 4 snapshots"), "{}", ran.out);
    assert_eq!(world.run(&["snapshots"]).code, Some(17));
    world.ok(&["forget", &all[0]]);
    assert_eq!(ids(&world), [all[5].as_str()]);
    let ran = world.run(&["undelete", "--json"]);
    assert_eq!((ran.code, lines(&ran.out).len()), (Some(17), 4), "{}", ran.err);
}
