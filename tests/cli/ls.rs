//! `ls` from outside.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;

use super::reading::{lines, spoil_packs};
use super::support::World;

fn world() -> World {
    let world = World::with_repository();
    world.write("Documents/letters/one.txt", "one");
    world.write("Documents/cv.odt", "a longer life");
    world.write("big", [b'x'; 2000]);
    symlink("Documents/cv.odt", world.tree().join("link")).unwrap();
    fs::write(world.tree().join(std::ffi::OsStr::from_bytes(b"bad\xff\n\x1b[31m")), "").unwrap();
    world
}

fn paths(out: &str) -> Vec<&str> {
    out.lines().skip(1).collect()
}

#[test]
fn everything_is_listed_in_order() {
    let world = world();
    let id = world.backup();
    let ran = world.ok(&["ls", "latest"]);
    assert!(ran.out.starts_with(&format!("snapshot {} of [", &id[..8])), "{}", ran.out);
    let expected = [
        "/tree",
        "/tree/Documents",
        "/tree/Documents/cv.odt",
        "/tree/Documents/letters",
        "/tree/Documents/letters/one.txt",
        "/tree/bad\\xff\\n\\x1b[31m",
        "/tree/big",
        "/tree/link",
    ];
    assert_eq!(paths(&ran.out), expected);
    assert_eq!(world.ok(&["ls", "-q", "latest"]).out.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn directories_are_listed_with_what_is_in_them() {
    let world = world();
    world.backup();
    let documents = ["/tree/Documents", "/tree/Documents/cv.odt", "/tree/Documents/letters"];
    assert_eq!(paths(&world.ok(&["ls", "latest", "/tree/Documents"]).out), documents);
    let all = world.ok(&["ls", "latest", "--recursive", "/tree/Documents"]).out;
    assert_eq!(paths(&all), [&documents[..], &["/tree/Documents/letters/one.txt"]].concat());
    // A path is found beside and beneath the sources too, and by the absolute path that was backed up.
    let absolute = world.tree().canonicalize().unwrap().join("Documents");
    for part in ["tree/Documents", "Documents", "Documents/../Documents/.", world.text(&absolute)] {
        let out = world.ok(&["ls", &format!("latest:{part}")]).out;
        let beneath = ["/tree/Documents/cv.odt", "/tree/Documents/letters", "/tree/Documents/letters/one.txt"];
        assert_eq!(paths(&out), beneath, "{part}");
    }
    assert_eq!(paths(&world.ok(&["ls", "latest:Documents", "letters"]).out).len(), 2);
    assert_eq!(paths(&world.ok(&["ls", "latest:big"]).out), ["/tree/big"]);
}

#[test]
fn a_path_that_is_not_there_names_what_is_missing() {
    let world = world();
    world.backup();
    for (part, sentence) in [
        ("Documents/letters/two.txt", "/tree/Documents/letters holds no \"two.txt\""),
        ("tree/Documents/cv.odt/x", "/tree/Documents/cv.odt is a file, not a directory"),
        ("tree/link/x", "/tree/link is a symbolic link to Documents/cv.odt, which is not followed"),
    ] {
        let ran = world.run(&["ls", &format!("latest:{part}")]);
        assert_eq!(ran.code, Some(1));
        assert!(ran.err.contains(sentence), "{}", ran.err);
    }
}

/// The same relative path beneath two sources: neither is guessed.
#[test]
fn a_path_that_fits_twice_is_refused() {
    let world = World::with_repository();
    world.write("one/notes", "1");
    world.write("two/notes", "2");
    world.ok(&["backup", "tree/one", "tree/two"]);
    let ran = world.run(&["ls", "latest:notes"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("/tree/one/notes or /tree/two/notes"), "{}", ran.err);
    assert!(world.ok(&["ls", "latest:one/notes"]).out.ends_with("/tree/one/notes\n"));
}

#[test]
fn long_lines_and_other_orders() {
    let world = world();
    let time = filetime("2020-02-03 04:05:06");
    fs::File::open(world.tree().join("big")).unwrap().set_modified(time).unwrap();
    world.backup();
    let out = world.ok(&["ls", "--long", "latest"]).out;
    let big = out.lines().find(|line| line.ends_with("/tree/big")).unwrap();
    assert!(big.starts_with("-rw-") && big.contains("  2000 2020-02-03 04:05:06 /tree/big"), "{big}");
    assert!(out.contains("/tree/link -> Documents/cv.odt\n"), "{out}");
    let out = world.ok(&["ls", "-l", "--human-readable", "latest"]).out;
    assert!(out.contains("2.00 kB 2020-02-03"), "{out}");
    let by_size = world.ok(&["ls", "--sort", "size", "latest"]).out;
    assert_eq!(paths(&by_size)[..2], ["/tree/big", "/tree/Documents/cv.odt"]);
    let by_time = world.ok(&["ls", "--sort", "time", "--reverse", "latest"]).out;
    assert_eq!(paths(&by_time)[0], "/tree/big");
    let reverse = world.ok(&["ls", "--reverse", "latest"]).out;
    assert_eq!(paths(&reverse)[0], "/tree/link");
    let by_extension = world.ok(&["ls", "--sort", "extension", "latest"]).out;
    assert_eq!(paths(&by_extension).last(), Some(&"/tree/Documents/letters/one.txt"));
}

fn filetime(text: &str) -> std::time::SystemTime {
    let time: jiff::civil::DateTime = text.parse().unwrap();
    time.to_zoned(jiff::tz::TimeZone::UTC).unwrap().timestamp().into()
}

#[test]
fn json_lines_are_a_snapshot_and_its_nodes() {
    let world = world();
    let id = world.backup();
    let all = lines(&world.ok(&["ls", "--json", "latest"]).out);
    assert_eq!((&all[0]["message_type"], &all[0]["struct_type"]), (&"snapshot".into(), &"snapshot".into()));
    assert_eq!(all[0]["id"], id.as_str());
    assert!(all[1..].iter().all(|node| node["message_type"] == "node" && node["struct_type"] == "node"));
    let find = |path: &str| all.iter().find(|node| node["path"] == path).unwrap();
    assert_eq!(find("/tree/Documents/cv.odt")["size"], 13);
    assert_eq!(find("/tree/Documents/cv.odt")["type"], "file");
    assert_eq!(find("/tree/link")["link_target"], "Documents/cv.odt");
    assert!(find("/tree/Documents").get("size").is_none());
    let odd = all.iter().find(|node| node["path_raw"].is_string()).unwrap();
    assert!(odd["name_raw"] == "626164ff0a1b5b33316d", "{odd}");
}

#[test]
fn damage_ends_with_its_own_code() {
    let world = world();
    world.backup();
    spoil_packs(&world, "tree");
    let ran = world.run(&["ls", "latest"]);
    assert_eq!(ran.code, Some(17), "{}", ran.err);
    assert!(
        ran.err.contains("damaged: packs/") && ran.err.contains("what is shown above is not everything"),
        "{}",
        ran.err
    );
    let ran = world.run(&["ls", "latest:tree/Documents"]);
    assert_eq!(ran.code, Some(17), "{}", ran.err);
}

/// A source that was typed as a relative path is found by its absolute one too, itself as well as what is in it.
#[test]
fn a_relative_source_is_found_by_its_absolute_path() {
    let world = world();
    world.backup();
    let tree = world.tree();
    let whole = world.ok(&["ls", &format!("latest:{}", world.text(&tree))]);
    assert!(paths(&whole.out).contains(&"/tree/big"), "{}", whole.out);
    let back = world.path("back");
    world.ok(&["restore", &format!("latest:{}", world.text(&tree)), "--target", world.text(&back)]);
    assert_eq!(fs::read(back.join("Documents/cv.odt")).unwrap(), b"a longer life");
    world.ok(&["backup", "."]);
    let inner = world.run(&["ls", &format!("latest:{}", world.text(&world.path("")).trim_end_matches('/'))]);
    assert_eq!(inner.code, Some(0), "the root is a source: {}", inner.err);
}
