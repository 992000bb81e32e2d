//! `find` from outside.

use std::fs;

use super::reading::{json, spoil_packs, spoil_snapshot};
use super::support::World;

fn world() -> (World, [String; 2]) {
    let world = World::with_repository();
    world.write("Documents/Report.txt", "1");
    world.write("Documents/old/report.txt", "22");
    world.write("other", "3");
    let first = world.backup();
    fs::remove_file(world.tree().join("Documents/old/report.txt")).unwrap();
    let second = world.backup();
    (world, [first, second])
}

#[test]
fn matches_are_shown_for_each_snapshot_newest_first() {
    let (world, [first, second]) = world();
    let out = world.ok(&["find", "--ignore-case", "REPORT*"]).out;
    let (newer, older) = out.split_once("\n\n").unwrap();
    assert!(newer.starts_with(&format!("Found matching entries in snapshot {} from ", &second[..8])), "{out}");
    assert_eq!(newer.lines().skip(1).collect::<Vec<_>>(), ["/tree/Documents/Report.txt"]);
    assert!(older.starts_with(&format!("Found matching entries in snapshot {} from ", &first[..8])), "{out}");
    assert_eq!(
        older.lines().skip(1).collect::<Vec<_>>(),
        ["/tree/Documents/Report.txt", "/tree/Documents/old/report.txt"]
    );
    let out = world.ok(&["find", "--reverse", "-l", "other"]).out;
    assert!(out.starts_with(&format!("Found matching entries in snapshot {}", &first[..8])), "{out}");
    assert!(out.contains("      1 ") && out.contains("-rw"), "{out}");
    let out = world.ok(&["find", "-s", &first, "old"]).out;
    assert!(out.ends_with("/tree/Documents/old\n/tree/Documents/old/report.txt\n"), "{out}");
    assert_eq!(world.ok(&["find", "nothing*"]).out, "");
}

#[test]
fn patterns_and_times_narrow_it() {
    let (world, [first, _]) = world();
    let found = |words: &[&str]| {
        let out = world.ok(&[&["find", "-s", &first], words].concat()).out;
        out.lines().skip(1).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(found(&["report.txt"]), ["/tree/Documents/old/report.txt"]);
    assert_eq!(found(&["/tree/**/[rR]eport.txt"]).len(), 2);
    assert_eq!(found(&["/other"]), [""; 0]);
    assert_eq!(found(&["--newest", "2020-01-01", "*"]), [""; 0]);
    assert_eq!(found(&["--oldest", "2020-01-01", "other"]), ["/tree/other"]);
    let ran = world.run(&["find", "[a"]);
    assert_eq!(ran.code, Some(2), "{}", ran.err);
    assert_eq!(world.run(&["find", "-s", "latest~9", "x"]).code, Some(1));
}

#[test]
fn json_is_an_array_of_snapshots() {
    let (world, [first, second]) = world();
    let list = json(&world.ok(&["find", "--json", "[rR]eport.txt"]));
    assert_eq!(list.as_array().unwrap().len(), 2);
    assert_eq!((&list[0]["snapshot"], &list[0]["hits"]), (&second.into(), &1.into()));
    assert_eq!((&list[1]["snapshot"], &list[1]["hits"]), (&first.into(), &2.into()));
    assert_eq!(list[1]["matches"][1]["path"], "/tree/Documents/old/report.txt");
    assert_eq!(list[1]["matches"][1]["size"], 2);
    assert_eq!(json(&world.ok(&["find", "--json", "nothing"])), serde_json::json!([]));
}

#[test]
fn what_cannot_be_looked_into_is_said() {
    let (world, [first, _]) = world();
    spoil_snapshot(&world, &first);
    let ran = world.run(&["find", "other"]);
    assert_eq!(ran.code, Some(17));
    assert!(ran.out.ends_with("/tree/other\n") && ran.err.contains(&first[..8]), "{}", ran.err);
    spoil_packs(&world, "tree");
    let ran = world.run(&["find", "-s", "latest", "other"]);
    assert_eq!(ran.code, Some(17), "{}", ran.err);
}
