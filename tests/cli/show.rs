//! `show` from outside.

use super::reading::{lines, spoil_packs};
use super::support::World;

#[test]
fn a_snapshot_tells_its_facts() {
    let world = World::with_repository();
    world.write("a", "12345");
    let first = world.backup();
    world.ok(&["backup", "tree", "--tag", "x,y", "--label", "spring\u{202e}", "--exclude", "*.o", "--host", "h"]);
    let out = world.ok(&["show", "latest"]).out;
    let fact = |name: &str| {
        let line = out.lines().find(|line| line.starts_with(&format!("{name} ")));
        line.unwrap_or_else(|| panic!("no {name} in\n{out}"))[name.len()..].trim()
    };
    assert_eq!(fact("host"), "h");
    assert_eq!(fact("tags"), "x, y");
    assert_eq!(fact("label"), "spring\\u{202e}");
    assert_eq!(fact("outcome"), "complete");
    assert_eq!(fact("holds"), "1 file, 1 directory, 0 others, 5 B");
    assert!(fact("path").ends_with("/tree"), "{out}");
    assert!(fact("program").starts_with("packstone "), "{out}");
    assert!(fact("option").contains("*.o"), "{out}");
    assert_eq!(world.ok(&["show", &first[..10]]).out.lines().next(), Some(format!("snapshot  {first}").as_str()));
}

#[test]
fn notes_are_listed() {
    let world = World::with_repository();
    world.write("a", "1");
    assert_eq!(world.run(&["backup", "tree", "absent\x1b"]).code, Some(3));
    let out = world.ok(&["show", "latest"]).out;
    assert!(out.contains("outcome   partial: something could not be read"), "{out}");
    assert!(out.contains("\n1 note:\n  missing "), "{out}");
    assert!(out.contains("absent\\x1b: "), "{out}");
    let all = lines(&world.ok(&["show", "--json", "latest"]).out);
    assert_eq!(all[0]["message_type"], "snapshot");
    assert_eq!((&all[0]["outcome"], &all[0]["notes"]), (&"partial".into(), &1.into()));
    assert_eq!(all[0]["files"], 1);
    assert_eq!((&all[1]["message_type"], &all[1]["kind"]), (&"note".into(), &"missing".into()));
    assert!(all[1]["path"].as_str().unwrap().ends_with("absent\x1b"));
    spoil_packs(&world, "tree");
    let ran = world.run(&["show", "latest"]);
    assert_eq!(ran.code, Some(17), "{}", ran.err);
}
