//! `diff` from outside.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use super::reading::{lines, spoil_packs};
use super::support::World;

/// Lines that name a difference.
fn changes(out: &str) -> Vec<&str> {
    out.lines().filter(|line| line.len() > 5 && line[1..5].trim().len() < 2 && line[5..].starts_with('/')).collect()
}

fn world() -> (World, [String; 2]) {
    let world = World::with_repository();
    world.write("keep/deep/a", "a");
    world.write("gone/x", "x");
    world.write("text", "one");
    world.write("mode", "m");
    world.write("turns", "file");
    symlink("a", world.tree().join("link")).unwrap();
    let first = world.backup();
    fs::remove_dir_all(world.tree().join("gone")).unwrap();
    world.write("text", "other");
    world.write("new\x1b/y", "y");
    fs::set_permissions(world.tree().join("mode"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::remove_file(world.tree().join("turns")).unwrap();
    world.write("turns/inside", "1");
    fs::remove_file(world.tree().join("link")).unwrap();
    symlink("b", world.tree().join("link")).unwrap();
    (world, [first, String::new()])
}

const EXPECTED: [&str; 8] = [
    "-    /tree/gone/",
    "-    /tree/gone/x",
    "M    /tree/link",
    "+    /tree/new\\x1b/",
    "+    /tree/new\\x1b/y",
    "M    /tree/text",
    "T    /tree/turns/",
    "+    /tree/turns/inside",
];

#[test]
fn two_snapshots_are_compared() {
    let (world, [first, _]) = world();
    let second = world.backup();
    let out = world.ok(&["diff", &first, "latest"]).out;
    assert!(out.starts_with(&format!("comparing snapshot {} to {}:\n", &first[..8], &second[..8])), "{out}");
    assert_eq!(changes(&out), EXPECTED);
    assert!(out.contains("Files:           2 new,     2 removed,     1 changed\n"), "{out}");
    assert!(out.contains("Dirs:            2 new,     1 removed\n"), "{out}");
    let out = world.ok(&["diff", "--metadata", &first, &second]).out;
    assert!(changes(&out).contains(&"U    /tree/mode"), "{out}");
    assert!(!changes(&out).iter().any(|line| line.ends_with("/keep/deep/a")), "{out}");
    // The other way round, what was added is removed.
    let back = world.ok(&["diff", &second, &first]).out;
    assert!(changes(&back).contains(&"+    /tree/gone/x") && changes(&back).contains(&"T    /tree/turns"), "{back}");
    let same = world.ok(&["diff", &second, "latest"]).out;
    assert_eq!(changes(&same), [""; 0]);
    assert!(same.contains("  Added:   0 B\n"), "{same}");
    assert_eq!(changes(&world.ok(&["diff", "-q", &first, &second]).out), EXPECTED);
}

#[test]
fn json_names_changes_and_adds_up() {
    let (world, [first, _]) = world();
    let second = world.backup();
    let all = lines(&world.ok(&["diff", "--json", &first, &second]).out);
    let change = all.iter().find(|line| line["path"] == "/tree/text").unwrap();
    assert_eq!((&change["message_type"], &change["modifier"]), (&"change".into(), &"M".into()));
    let statistics = all.last().unwrap();
    assert_eq!(statistics["message_type"], "statistics");
    assert_eq!(statistics["source_snapshot"], first.as_str());
    assert_eq!(statistics["target_snapshot"], second.as_str());
    assert_eq!(statistics["changed_files"], 1);
    assert_eq!(statistics["added"]["files"], 2);
    // "other", "y", "1" came; "one", "x", "file" went.
    assert_eq!((&statistics["added"]["data_blobs"], &statistics["removed"]["data_blobs"]), (&3.into(), &3.into()));
}

/// A copy of a file within the tree is new, and its chunk is not: it stands in a directory that did not change too.
#[test]
fn a_chunk_is_new_only_when_it_is_nowhere_else() {
    let world = World::with_repository();
    world.write("a/original", "content");
    world.write("b/other", "other");
    world.backup();
    fs::copy(world.tree().join("a/original"), world.tree().join("b/copy")).unwrap();
    world.backup();
    let all = lines(&world.ok(&["diff", "--json", "latest~1", "latest"]).out);
    let added = &all.last().unwrap()["added"];
    assert_eq!((&added["files"], &added["data_blobs"]), (&1.into(), &0.into()));
}

#[test]
fn parts_are_compared_with_each_other() {
    let world = World::with_repository();
    world.write("a/same", "1");
    world.write("a/only", "2");
    world.write("b/same", "1");
    world.write("b/file", "3");
    world.backup();
    let out = world.ok(&["diff", "latest:tree/a", "latest:tree/b"]).out;
    assert_eq!(changes(&out), ["+    /file", "-    /only"]);
    let out = world.ok(&["diff", "latest:tree/a/only", "latest:tree/b/file"]).out;
    assert_eq!(changes(&out), ["M    /file"]);
    let ran = world.run(&["diff", "latest:tree/a", "latest:tree/b/file"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("a directory can only be compared with another one"), "{}", ran.err);
}

#[test]
fn live_files_are_compared() {
    let (world, _) = world();
    let live: Vec<String> = EXPECTED.iter().map(|line| line.replacen("/tree", "", 1)).collect();
    let out = world.ok(&["diff", "latest:tree", "./tree"]).out;
    assert!(out.contains(" to ./tree:\n"), "{out}");
    assert_eq!(changes(&out), live);
    let out = world.ok(&["diff", "--metadata", "latest:tree", "./tree"]).out;
    assert!(changes(&out).contains(&"U    /mode"), "{out}");
    world.backup();
    assert_eq!(changes(&world.ok(&["diff", "--metadata", "latest:tree", "./tree"]).out), [""; 0]);
    let ran = world.run(&["diff", "latest:tree", "./absent"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("./absent cannot be read"), "{}", ran.err);
    assert_eq!(changes(&world.ok(&["diff", "latest:tree/text", "./tree/text"]).out), [""; 0]);
    let all = lines(&world.ok(&["diff", "--json", "latest:tree", "./tree"]).out);
    assert_eq!((all.len(), &all[0]["target_snapshot"]), (1, &"./tree".into()));
}

/// A file of the same size and time with other bytes is found by reading only; holes are compared as what they read as.
#[test]
fn content_is_read_when_asked_for() {
    let world = World::with_repository();
    let content: Vec<u8> = (0..3_000_000_u32).flat_map(|number| number.to_le_bytes()).collect();
    world.write("large", &content);
    let sparse = fs::File::create(world.tree().join("sparse")).unwrap();
    sparse.set_len(1 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"data", 300_000).unwrap();
    world.backup();
    let path = world.tree().join("large");
    let time = path.metadata().unwrap().modified().unwrap();
    let mut other = content.clone();
    other[11_000_000] ^= 1;
    fs::write(&path, &other).unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
    // The hole is filled with zeros: nothing that reads it can tell.
    let time = sparse.metadata().unwrap().modified().unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, &[0; 4096], 900_000).unwrap();
    sparse.set_modified(time).unwrap();
    assert_eq!(changes(&world.ok(&["diff", "latest:tree", "./tree"]).out), [""; 0]);
    assert_eq!(changes(&world.ok(&["diff", "--content", "latest:tree", "./tree"]).out), ["M    /large"]);
    // Written again as it was, with another time: only the content says that nothing changed.
    fs::write(&path, &content).unwrap();
    assert_eq!(changes(&world.ok(&["diff", "latest:tree", "./tree"]).out), ["M    /large"]);
    assert_eq!(changes(&world.ok(&["diff", "--content", "latest:tree", "./tree"]).out), [""; 0]);
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"x", 1_000_000).unwrap();
    assert_eq!(changes(&world.ok(&["diff", "--content", "latest:tree", "./tree"]).out), ["M    /sparse"]);
    world.write("large", &content);
    assert_eq!(world.run(&["diff", "--content", "latest", "latest"]).code, Some(2));
}

#[test]
fn damage_ends_the_comparison() {
    let (world, [first, _]) = world();
    world.backup();
    spoil_packs(&world, "tree");
    let ran = world.run(&["diff", &first, "latest"]);
    assert_eq!(ran.code, Some(17), "{}", ran.err);
    assert!(ran.err.contains("damaged: packs/"), "{}", ran.err);
    assert_eq!(world.run(&["diff", "latest", "./tree"]).code, Some(17));
    assert_eq!(world.run(&["diff", "latest", "latest~9"]).code, Some(1));
}
