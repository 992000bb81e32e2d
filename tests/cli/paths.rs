//! More paths than a snapshot can name.

use std::fs;
use std::process::Command;

use super::Ran;
use super::reading::{json, lines};
use super::support::World;

/// One more than a snapshot holds of tags, or of paths.
const MANY: usize = (1 << 14) + 1;
/// Files whose paths are more than a snapshot holds, because each is long.
const FILES: usize = 700;

/// A directory whose path is nearly as long as the system takes, as the tree names it, and files in it: more than a snapshot names.
fn many(world: &World) -> (String, Vec<String>) {
    let long = vec!["d".repeat(250); 14].join("/");
    let paths = (0..FILES).map(|number| format!("{long}/{}/{number}", number % 10));
    let paths: Vec<String> = paths.collect();
    paths.iter().for_each(|path| world.write(path, "x"));
    assert!(paths.iter().map(String::len).sum::<usize>() > 2 << 20);
    let tree = world.tree();
    let absolute = |path: &str| tree.join(path).to_str().unwrap().to_owned();
    (absolute(&long), paths.iter().map(|path| absolute(path)).collect())
}

/// Backs up the paths that are given on the standard input.
fn backup(world: &World, paths: &[String], more: &[&str]) -> Ran {
    let list = world.path("list");
    let content: Vec<u8> = paths.iter().flat_map(|path| [path.as_bytes(), b"\0"].concat()).collect();
    fs::write(&list, content).unwrap();
    let words = [&["backup", "--json", "--files-from-raw", world.text(&list)], more].concat();
    let ran = world.ok(&words);
    assert!(!ran.err.contains("a snapshot holds at most"), "{}", ran.err);
    ran
}

/// Story: `find | packstone backup --files-from-raw -` was refused after everything had been walked.
#[test]
fn a_list_of_many_files_is_backed_up_and_finds_its_parent() {
    let world = World::with_repository();
    let (place, all) = many(&world);
    let ran = backup(&world, &all, &[]);
    let summary = lines(&ran.out).pop().unwrap();
    assert_eq!(summary["files_new"], FILES, "{summary}");
    // A file has come, one is not given any more; one that is there and was not given is no deletion.
    let new = format!("{place}/3/new");
    fs::write(&new, "y").unwrap();
    let mut next = all[1..].to_vec();
    next.push(new.clone());
    let summary = lines(&backup(&world, &next, &[]).out).pop().unwrap();
    assert_eq!((&summary["files_unmodified"], &summary["files_new"]), (&(FILES - 1).into(), &1.into()), "{summary}");
    let named = format!("{place}/");
    let snapshots = json(&world.ok(&["snapshots", "--json"]));
    for snapshot in snapshots.as_array().unwrap() {
        assert_eq!(snapshot["paths"], serde_json::json!([named]), "{snapshot}");
    }
    // One of the whole directory is another source: neither stands for the other.
    let summary = lines(&world.ok(&["backup", "--json", &place]).out).pop().unwrap();
    assert_eq!(summary["files_unmodified"], 0, "{summary}");
    let ran = world.ok(&["forget", "--keep-last", "1", "--json"]);
    assert!(ran.code == Some(0), "{}", ran.err);
    let left = json(&world.ok(&["snapshots", "--json"]));
    let paths: Vec<_> = left.as_array().unwrap().iter().map(|snapshot| snapshot["paths"][0].clone()).collect();
    assert_eq!(paths, [named.as_str(), &place]);
    // Both are found by the directory.
    let found = json(&world.ok(&["snapshots", "--json", "--path", &place]));
    assert_eq!(found.as_array().unwrap().len(), 2);
    // What was not given is not extra: a restore removes nothing for it.
    let id = left[0]["id"].as_str().unwrap();
    let part = format!("{id}:{place}");
    let ran = world.ok(&["restore", &part, "--target", &place, "--delete", "--dry-run"]);
    assert!(!ran.out.contains("deleted "), "{}", ran.out);
    world.ok(&["restore", &part, "--target", &place, "--delete"]);
    assert!(fs::exists(&all[0]).unwrap());
    // A path as it is typed.
    let ran = world.ok(&["restore", &format!("{id}:{new}"), "--target", "one"]);
    assert_eq!(ran.code, Some(0));
}

/// `find` names directories too, and then they are stored whole.
#[test]
fn a_list_that_names_the_directory_is_a_backup_of_it() {
    let world = World::with_repository();
    many(&world);
    let found = Command::new("find").arg(world.tree()).output().unwrap();
    let paths: Vec<String> = String::from_utf8(found.stdout).unwrap().lines().map(str::to_owned).collect();
    assert!(paths.len() > FILES);
    backup(&world, &paths, &[]);
    let place = world.text(&world.tree()).to_owned();
    let summary = lines(&world.ok(&["backup", "--json", &place]).out).pop().unwrap();
    assert_eq!(summary["files_unmodified"], FILES, "{summary}");
}

/// What cannot be stored is refused before anything is read.
#[test]
fn too_many_tags_are_refused_first() {
    let world = World::with_repository();
    world.write("a", "x");
    let tags: Vec<String> = (0..MANY).map(|number| format!("t{number}")).collect();
    let ran = world.run(&["backup", "tree", "--tag", &tags.join(",")]);
    assert_eq!(ran.code, Some(1), "{}", ran.err);
    assert!(ran.err.contains("16384"), "{}", ran.err);
}
