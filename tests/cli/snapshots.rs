//! `snapshots` from outside, and how snapshots are chosen by every command.

use super::plain;
use super::reading::{json, spoil_snapshot};
use super::support::{World, snapshot_id};

fn backup(world: &World, words: &[&str]) -> String {
    snapshot_id(&world.ok(&[&["backup", "--json", "tree"], words].concat()))
}

fn world() -> (World, [String; 3]) {
    let world = World::with_repository();
    world.write("Documents/cv.odt", "a life");
    let first = backup(&world, &["--time", "2026-01-01 10:00:00", "--host", "one", "--tag", "a,b"]);
    let second = backup(&world, &["--time", "2026-01-02 10:00:00", "--host", "two", "--tag", "b"]);
    let third = backup(&world, &["--time", "2026-01-03 10:00:00", "--host", "one", "--label", "the \x1b[31mthird"]);
    (world, [first, second, third])
}

fn ids(world: &World, words: &[&str]) -> Vec<String> {
    let ran = world.ok(&[&["snapshots", "--json"], words].concat());
    let list = json(&ran);
    list.as_array().unwrap().iter().map(|snapshot| snapshot["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_table_says_what_there_is() {
    let (world, [first, _, third]) = world();
    let out = world.ok(&["snapshots"]).out;
    let lines: Vec<&str> = out.lines().collect();
    for word in ["ID", "Time", "Host", "Tags", "Label", "Paths", "Size"] {
        assert!(lines[0].contains(word), "{out}");
    }
    assert!(lines[2].starts_with(&format!("{}  2026-01-01 10:00:00  one   a", &first[..8])), "{out}");
    assert!(out.contains("the \\x1b[31mthird") && !out.contains('\x1b'), "{out}");
    assert!(out.ends_with("3 snapshots\n"), "{out}");
    let compact = world.ok(&["snapshots", "--compact"]).out;
    assert!(compact.contains("a,b") && !compact.contains("/tree"), "{compact}");
    assert!(compact.contains(&third[..8]), "{compact}");
}

#[test]
fn json_has_restics_shape() {
    let (world, [first, second, third]) = world();
    let list = json(&world.ok(&["snapshots", "--json"]));
    let list = list.as_array().unwrap();
    assert_eq!(list.len(), 3);
    assert_eq!(list[0]["id"], first.as_str());
    assert_eq!(list[0]["short_id"], &first[..8]);
    assert_eq!(list[0]["time"], "2026-01-01T10:00:00+00:00");
    assert_eq!(list[0]["hostname"], "one");
    assert_eq!(list[0]["tags"], serde_json::json!(["a", "b"]));
    assert_eq!(list[0]["paths"][0], world.tree().canonicalize().unwrap().to_str().unwrap());
    assert_eq!(list[0]["summary"]["files_new"], 1);
    assert_eq!(list[0]["summary"]["total_bytes_processed"], 6);
    assert_eq!(list[1]["id"], second.as_str());
    assert_eq!(list[2]["label"], "the \x1b[31mthird");
    assert_eq!(list[2]["id"], third.as_str());
    let groups = json(&world.ok(&["snapshots", "--json", "--group-by", "host"]));
    assert_eq!(groups[0]["group_key"]["hostname"], "one");
    assert_eq!(groups[0]["snapshots"].as_array().unwrap().len(), 2);
    assert_eq!(groups[1]["snapshots"][0]["id"], second.as_str());
}

#[test]
fn snapshots_are_chosen_as_in_restic() {
    let (world, [first, second, third]) = world();
    assert_eq!(ids(&world, &["--host", "one"]), [first.clone(), third.clone()]);
    assert_eq!(ids(&world, &["--tag", "b,a"]), [first.as_str()]);
    assert_eq!(ids(&world, &["--tag", "a", "--tag", "b"]), [first.clone(), second.clone()]);
    assert_eq!(ids(&world, &["--tag", ""]), [third.as_str()]);
    assert_eq!(ids(&world, &["--path", "tree"]).len(), 3);
    assert!(ids(&world, &["--path", "/elsewhere"]).is_empty());
    assert_eq!(ids(&world, &["--latest", "1"]), [second.clone(), third.clone()]);
    assert_eq!(ids(&world, &["latest~1", &first[..12]]), [first.clone(), second.clone()]);
    assert_eq!(ids(&world, &["--host", "one", "latest~1"]), [first.as_str()]);
    assert_eq!(ids(&world, &[&first.to_uppercase()]), [first]);
    let text = world.ok(&["snapshots", "--group-by", "host,paths"]).out;
    assert!(text.starts_with("snapshots for (host [one], paths ["), "{text}");
}

#[test]
fn what_is_not_there_is_said() {
    let (world, [first, second, third]) = world();
    let absent = (0..16)
        .map(|digit| format!("{digit:x}"))
        .find(|digit| [&first, &second, &third].iter().all(|id| !id.starts_with(digit.as_str())));
    let ran = world.run(&["snapshots", &absent.unwrap()]);
    assert_eq!(ran.code, Some(1));
    assert!(
        ran.err.contains("no snapshot ") && plain(&ran.err).contains("To see them: packstone snapshots"),
        "{}",
        ran.err
    );
    let ran = world.run(&["ls", "latest~7"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("no snapshot latest~7: only 3 to choose from"), "{}", ran.err);
    let ran = world.run(&["ls", "--host", "three", "latest"]);
    assert!(ran.err.contains("none of the 3 snapshots"), "{}", ran.err);
    let empty = World::with_repository();
    assert!(empty.ok(&["snapshots"]).out.ends_with("0 snapshots\n"));
    let ran = empty.run(&["ls", "latest"]);
    assert!(plain(&ran.err).contains("holds none yet. To make one: packstone backup PATH"), "{}", ran.err);
    assert_eq!(world.run(&["snapshots", "xyz"]).code, Some(2));
}

/// Of seventeen snapshots two begin with the same digit: typing that digit names the candidates.
#[test]
fn an_ambiguous_id_names_its_candidates() {
    let world = World::with_repository();
    world.write("a", "a");
    let all: Vec<String> = (0..17).map(|_| backup(&world, &[])).collect();
    let shared = all.iter().find(|id| all.iter().filter(|other| other[..1] == id[..1]).count() > 1).unwrap();
    let ran = world.run(&["show", &shared[..1]]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("type more digits"), "{}", ran.err);
    assert!(ran.err.contains(&shared[..8]), "{}", ran.err);
}

#[test]
fn a_damaged_snapshot_is_listed_as_such() {
    let (world, [first, second, third]) = world();
    spoil_snapshot(&world, &third);
    let ran = world.run(&["snapshots"]);
    assert_eq!(ran.code, Some(17), "{}", ran.err);
    assert!(ran.out.contains(&format!("! {}  damaged: ", &third[..8])), "{}", ran.out);
    assert!(ran.out.contains(&first[..8]) && ran.out.contains(&second[..8]), "{}", ran.out);
    assert!(ran.err.contains("1 snapshot cannot be read"), "{}", ran.err);
    let ran = world.run(&["snapshots", "--json"]);
    assert_eq!(ran.code, Some(17));
    assert_eq!(json(&ran).as_array().unwrap().len(), 2);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&ran.err).unwrap()["code"], 17);
    // An older one must not pass for the newest: it is named, and can be named.
    let ran = world.run(&["ls", "latest"]);
    assert_eq!((ran.code, ran.out.as_str()), (Some(17), ""));
    let sentence =
        format!("which snapshot is latest cannot be determined: {}, stored after {}, ", &third[..8], &second[..8]);
    assert!(ran.err.contains(&sentence), "{}", ran.err);
    assert!(world.ok(&["ls", &second]).out.contains(&second[..8]));
    // What is damaged and older is no obstacle.
    spoil_snapshot(&world, &third);
    spoil_snapshot(&world, &first);
    let ran = world.ok(&["ls", "latest"]);
    assert!(ran.out.contains(&third[..8]), "{}", ran.out);
    assert!(ran.err.contains(&format!("! snapshot {} cannot be read", &first[..8])), "{}", ran.err);
    spoil_snapshot(&world, &third);
    assert_eq!(world.run(&["ls", &third]).code, Some(17));
}

/// A source that is missing beside one that is there makes a partial snapshot, and the list shows it.
#[test]
fn a_flawed_snapshot_is_marked() {
    let world = World::with_repository();
    world.write("a", "a");
    assert_eq!(world.run(&["backup", "tree", "absent"]).code, Some(3));
    let out = world.ok(&["snapshots"]).out;
    assert!(out.contains("! partial") && plain(&out).contains("packstone show "), "{out}");
}
