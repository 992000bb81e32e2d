//! `cat` from outside.

use super::reading::{flip, json, lines, objects};
use super::support::World;

fn name(path: &std::path::Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

#[test]
fn every_kind_of_object_is_decoded() {
    let world = World::with_repository();
    world.write("Documents/cv.odt", "a life");
    let id = world.backup();
    let config = json(&world.ok(&["cat", "config", "--json"]));
    assert_eq!((&config["message_type"], &config["version"]), (&"config".into(), &1.into()));
    assert_eq!(config["chunker"]["average"], 1 << 20);
    assert!(world.ok(&["cat", "config"]).out.starts_with("repository "));

    let head = json(&world.ok(&["cat", "head", "--json"]));
    assert_eq!(head["generation"], 2);
    assert_eq!(head["snapshots"][0]["id"], id.as_str());
    let first = json(&world.ok(&["cat", "head", "1", "--json"]));
    assert_eq!((&first["id"], &first["snapshots"]), (&head["previous"]["id"], &serde_json::json!([])));
    let by_id = json(&world.ok(&["cat", "head", first["id"].as_str().unwrap(), "--json"]));
    assert_eq!(by_id["generation"], 1);

    let key = json(&world.ok(&["cat", "key", &name(&objects(&world, "keys")[0])[..6], "--json"]));
    assert_eq!((&key["type"], &key["current"]), (&"key file".into(), &true.into()));

    let segment = json(&world.ok(&["cat", "segment", &name(&objects(&world, "index")[0])[..9], "--json"]));
    assert_eq!(segment["live"], true);
    assert_eq!(segment["packs"].as_array().unwrap().len(), 2);
    for pack in objects(&world, "packs") {
        let text = world.ok(&["cat", "pack", &name(&pack)]).out;
        assert!(text.starts_with(&format!("pack    {}\n", name(&pack))), "{text}");
        let decoded = json(&world.ok(&["cat", "pack", &name(&pack), "--json"]));
        let listed = segment["packs"].as_array().unwrap().iter().find(|pack| pack["pack"] == decoded["pack"]).unwrap();
        assert_eq!(listed["blocks"], decoded["blocks"]);
    }

    let snapshot = json(&world.ok(&["cat", "snapshot", &id[..8], "--json"]));
    assert_eq!((&snapshot["snapshot"], &snapshot["counts"]["files"]), (&id.as_str().into(), &1.into()));
    assert!(world.ok(&["cat", "snapshot", "latest"]).out.starts_with("snapshot "));

    let tree = lines(&world.ok(&["cat", "tree", "latest:Documents", "--json"]).out);
    assert_eq!((&tree[0]["name"], &tree[0]["size"]), (&"cv.odt".into(), &6.into()));
    let chunk = tree[0]["content"]["chunks"][0]["id"].as_str().unwrap();
    for digits in [chunk, &chunk[..16]] {
        assert_eq!(world.ok(&["cat", "chunk", digits]).out, "a life");
    }
    assert_eq!(json(&world.ok(&["cat", "chunk", chunk, "--json"]))["bytes_hex"], "61206c696665");
    let root = snapshot["root"]["chunks"][0]["id"].as_str().unwrap();
    let listing = lines(&world.ok(&["cat", "tree", root, "--json"]).out);
    assert_eq!((&listing[0]["name"], &listing[0]["type"]), (&"tree".into(), &"dir".into()));
    let text = world.ok(&["cat", "tree", "latest:"]).out;
    assert!(text.starts_with("name     tree\ntype     dir\n"), "{text}");
}

#[test]
fn no_secret_is_ever_shown() {
    let world = World::with_repository();
    assert_eq!(world.run(&["cat", "masterkey"]).code, Some(2));
    let key = std::fs::read_to_string(world.key()).unwrap();
    let secret: Vec<&str> = key.split_whitespace().filter(|word| word.len() > 20).collect();
    assert!(!secret.is_empty(), "the key file holds a long word");
    let id = name(&objects(&world, "keys")[0]);
    for words in [&["cat", "key", &id][..], &["cat", "config"], &["cat", "head"]] {
        let out = world.ok(words).out;
        assert!(secret.iter().all(|word| !out.contains(word)), "{out}");
    }
}

#[test]
fn what_is_not_there_or_damaged_is_said() {
    let world = World::with_repository();
    world.write("a", "1");
    let id = world.backup();
    for words in [["cat", "pack", "z"], ["cat", "chunk", "0g"], ["cat", "key", ""]] {
        let ran = world.run(&words);
        assert_eq!(ran.code, Some(1), "{words:?} {}", ran.err);
        assert!(ran.err.contains("is no id: expected 1 to 64 hex digits"), "{}", ran.err);
    }
    let nothing = "0".repeat(63);
    for kind in ["head", "key", "segment", "pack", "snapshot", "chunk", "tree"] {
        let ran = world.run(&["cat", kind, &nothing]);
        assert_eq!(ran.code, Some(1), "{kind}: {}", ran.err);
        assert!(ran.err.contains(&nothing), "{kind}: {}", ran.err);
    }
    assert_eq!(world.run(&["cat", "pack"]).code, Some(2));
    let ran = world.run(&["cat", "pack", "--json", &nothing]);
    assert_eq!(lines(&ran.err)[0]["message_type"], "exit_error");
    for path in objects(&world, "packs").iter().chain(&objects(&world, "snapshots")) {
        flip(path, &[60]);
    }
    assert_eq!(world.run(&["cat", "pack", &name(&objects(&world, "packs")[0])]).code, Some(17));
    assert_eq!(world.run(&["cat", "snapshot", &id]).code, Some(17));
}
