//! What looks and changes nothing.

use super::super::reading::{json, spoil_packs, spoil_snapshot};
use super::super::support::World;
use super::storing::two_hosts;
use super::{Page, next_day, nothing, one, settle, tree, two};

#[test]
fn snapshots() {
    let mut page = Page::new("snapshots");
    let (world, [first, second, _]) = two_hosts();
    page.forms(&world, &["snapshots"]);
    page.forms(&world, &["snapshots", "--compact"]);
    page.forms(&world, &["snapshots", "--group-by", "host,tags"]);
    page.forms(&world, &["snapshots", "--latest", "1"]);
    page.run(&world, &["snapshots", &first, "latest"]);
    page.run(&world, &["snapshots", "--tag", "home", "--host", "box"]);
    page.run(&world, &["snapshots", "--tag", "nobody"]);
    page.run(&world, &["snapshots", "--tag", "nobody", "--json"]);
    page.title("Failing");
    page.run(&world, &["snapshots", "0000"]);
    page.run(&world, &["snapshots", "--group-by", "colour"]);
    page.run(&world, &["snapshots", "--latest", "none"]);
    page.run(&world, &["snapshots", "--absent"]);
    page.run(&world, &["snapshot"]);
    page.run(&world, &["snapshots", "--expect-head", "nonsense"]);
    page.run(&world, &["snapshots", "--repo-id", "00000000"]);
    page.run(&world, &["snapshots", "--from", "nobody"]);
    page.refusals(&world, &["snapshots"]);
    page.run(&world, &["snapshots", "-r", "other", "--key-file", "other-key"]);
    page.run(&world, &["snapshots", "-r", "other", "--key-file", "other-key", "--json"]);
    page.title("A snapshot is damaged");
    spoil_snapshot(&world, &second);
    page.forms(&world, &["snapshots"]);
    page.title("From a mirror");
    let (world, _) = super::mirrored();
    page.forms(&world, &["snapshots", "--from", "offsite"]);
    page.run(&world, &["snapshots", "--from", "./mirror"]);
    let code = json(&world.ok(&["sync", "--json"]))["state_code"].as_str().unwrap().to_owned();
    next_day(&world);
    super::backup(&world, 2, &[]);
    page.forms(&world, &["snapshots", "--from", "offsite"]);
    page.title("The state that is expected");
    page.run(&world, &["snapshots", "--expect-head", &code]);
    let newer = json(&world.ok(&["sync", "--json"]))["state_code"].as_str().unwrap().to_owned();
    super::set_back(&world, "repository", || {
        super::backup(&world, 3, &[]);
    });
    page.run(&world, &["snapshots", "--expect-head", &newer]);
    page.title("It is older than what was seen here");
    page.forms(&world, &["snapshots"]);
    page.run(&world, &["backup", "tree"]);
    page.end();
}

#[test]
fn ls() {
    let mut page = Page::new("ls");
    let (world, [first, second]) = two();
    page.forms(&world, &["ls", "latest"]);
    page.forms(&world, &["ls", "latest", "--long"]);
    page.run(&world, &["ls", "latest", "--long", "--human-readable", "--sort", "size", "--reverse"]);
    page.run(&world, &["ls", &format!("{first}:tree/letters")]);
    page.run(&world, &["ls", &first[..8], "tree/letters", "--recursive"]);
    page.title("Failing");
    page.run(&world, &["ls"]);
    page.run(&world, &["ls", "0000"]);
    page.run(&world, &["ls", "latest~9", "--json"]);
    page.run(&world, &["ls", "latest:absent"]);
    page.run(&world, &["ls", "latest", "tree/absent"]);
    page.run(&world, &["ls", "latest:tree/notes.md"]);
    page.run(&world, &["ls", "latest", "--sort", "colour"]);
    page.refusals(&world, &["ls", "latest"]);
    page.title("The listings are damaged");
    spoil_packs(&world, "tree");
    page.run(&world, &["ls", "latest"]);
    page.run(&world, &["ls", "latest", "--json"]);
    spoil_snapshot(&world, &second);
    page.run(&world, &["ls", &second]);
    page.end();
}

#[test]
fn find() {
    let mut page = Page::new("find");
    let (world, [first, _]) = two();
    page.forms(&world, &["find", "*.txt"]);
    page.forms(&world, &["find", "--long", "notes.md", "letters/one.txt"]);
    page.run(&world, &["find", "-i", "NOTES.MD", "--snapshot", &first, "--reverse", "--human-readable"]);
    page.run(&world, &["find", "*", "--newest", "2023-01-01 00:00:00"]);
    page.run(&world, &["find", "absent"]);
    page.run(&world, &["find", "absent", "--json"]);
    page.title("Failing");
    page.run(&world, &["find"]);
    page.run(&world, &["find", "[a"]);
    page.run(&world, &["find", "a", "--snapshot", "0000"]);
    page.run(&world, &["find", "a", "--oldest", "never"]);
    page.refusals(&world, &["find", "a"]);
    page.title("The listings are damaged");
    spoil_packs(&world, "tree");
    page.run(&world, &["find", "*.txt"]);
    page.run(&world, &["find", "*.txt", "--json"]);
    page.end();
}

#[test]
fn deleted() {
    let mut page = Page::new("deleted");
    let (world, _) = two();
    page.forms(&world, &["deleted"]);
    std::fs::remove_file(world.tree().join("letters/one.txt")).unwrap();
    std::fs::remove_file(world.tree().join("notes.md")).unwrap();
    settle(&world.tree());
    super::backup(&world, 3, &[]);
    tree_again(&world);
    super::backup(&world, 4, &[]);
    page.forms(&world, &["deleted", "--all"]);
    page.forms(&world, &["deleted", "--all", "--limit", "1"]);
    page.run(&world, &["deleted", "*.md", "--all"]);
    page.run(&world, &["deleted", "--since", "2024-05-04 00:00:00"]);
    page.run(&world, &["deleted", "--until", "2024-05-02 23:00:00"]);
    page.run(&world, &["deleted", "absent"]);
    page.run(&world, &["deleted", "absent", "--json"]);
    page.title("Failing");
    page.run(&world, &["deleted", "--since", "never"]);
    page.run(&world, &["deleted", "--after", "nonsense"]);
    page.run(&world, &["deleted", "--limit", "none"]);
    page.run(&world, &["deleted", "[a"]);
    page.refusals(&world, &["deleted"]);
    page.end();
}

fn tree_again(world: &World) {
    std::fs::remove_file(world.tree().join("link")).unwrap();
    tree(world);
    next_day(world);
}

#[test]
fn diff() {
    let mut page = Page::new("diff");
    let (world, [first, second]) = two();
    page.redaction.listings_are_in(&["Added:", "Removed:", "bytes"]);
    page.forms(&world, &["diff", &first, &second]);
    page.run(&world, &["diff", "latest~1", "latest", "--metadata"]);
    page.run(&world, &["diff", "latest", "latest"]);
    page.run(&world, &["diff", "latest", "latest", "--json"]);
    page.run(&world, &["diff", "latest~1:tree/letters", "latest:tree/letters"]);
    page.redaction.listings_are_in(&[]);
    page.title("With live files");
    page.run(&world, &["diff", "latest:tree", "./tree"]);
    page.forms(&world, &["diff", "latest~1:tree", "./tree", "--content"]);
    page.title("Failing");
    page.run(&world, &["diff", "latest"]);
    page.run(&world, &["diff", "latest", "0000"]);
    page.run(&world, &["diff", "latest", "latest:absent"]);
    page.run(&world, &["diff", "latest", "./absent"]);
    page.run(&world, &["diff", "latest", "latest~1", "--content"]);
    page.refusals(&world, &["diff", "latest", "latest~1"]);
    page.title("The listings are damaged");
    spoil_packs(&world, "tree");
    page.run(&world, &["diff", "latest~1", "latest"]);
    page.run(&world, &["diff", "latest~1", "latest", "--json"]);
    page.end();
}

/// What `stats` says of chunks, listings among them.
const STATS: [&str; 9] = [
    "total_size",
    "total_uncompressed_size",
    "compression_ratio",
    "compression_space_saving",
    "freed_size",
    "Size:",
    "Ratio:",
    "Freed:",
    "Before compression:",
];

/// The length of a listing, and of the block that it is.
const LENGTHS: [&str; 3] = ["length", "stored_length", "plain_length"];

#[test]
fn stats() {
    let mut page = Page::new("stats");
    let (world, _) = two();
    page.forms(&world, &["stats"]);
    page.forms(&world, &["stats", "--mode", "files-by-contents", "latest"]);
    page.forms(&world, &["stats", "--mode", "blobs-per-file", "latest"]);
    page.redaction.listings_are_in(&STATS);
    page.forms(&world, &["stats", "--mode", "raw-data", "latest"]);
    page.forms(&world, &["stats", "--mode", "freed", "latest"]);
    page.run(&world, &["stats", "--mode", "freed", "--only-path", "tree/letters"]);
    page.run(&world, &["stats", "--mode", "freed", "latest:tree/letters", "--json"]);
    page.redaction.listings_are_in(&[]);
    page.title("Failing");
    page.run(&world, &["stats", "0000"]);
    page.run(&world, &["stats", "--mode", "colour"]);
    page.run(&world, &["stats", "--only-path", "tree/letters"]);
    page.run(&world, &["stats", "--tag", "nobody"]);
    page.refusals(&world, &["stats"]);
    page.title("The listings are damaged");
    spoil_packs(&world, "tree");
    page.run(&world, &["stats"]);
    page.run(&world, &["stats", "--json"]);
    page.end();
}

#[test]
fn show() {
    let mut page = Page::new("show");
    let (world, [first, second]) = two();
    page.forms(&world, &["show", &first]);
    page.forms(&world, &["show", "latest"]);
    world.command(&["backup", "--host", "box", "--time", "2024-05-03 10:00:00", "tree", "absent"]).output().unwrap();
    page.title("A partial one");
    page.forms(&world, &["show", "latest"]);
    page.title("Failing");
    page.run(&world, &["show"]);
    page.run(&world, &["show", "0000"]);
    page.run(&world, &["show", "latest", "--host", "nobody"]);
    page.refusals(&world, &["show", "latest"]);
    spoil_snapshot(&world, &second);
    page.run(&world, &["show", &second]);
    page.run(&world, &["show", &second, "--json"]);
    page.end();
}

#[test]
fn cat() {
    let mut page = Page::new("cat");
    let (world, first) = one();
    let name = |folder: &str| {
        let file = super::super::reading::objects(&world, folder).remove(0);
        file.file_name().unwrap().to_str().unwrap().to_owned()
    };
    page.forms(&world, &["cat", "config"]);
    page.forms(&world, &["cat", "head"]);
    page.forms(&world, &["cat", "key", &name("keys")]);
    page.forms(&world, &["cat", "tree", "latest:tree/letters"]);
    let small = one_stream();
    page.redaction.listings_are_in(&["length"]);
    page.forms(&small, &["cat", "snapshot", "latest"]);
    page.redaction.listings_are_in(&[]);
    page.forms(&small, &["cat", "tree", "latest"]);
    let packs = super::super::reading::objects(&small, "packs");
    let pack = |kind: &str| {
        let name = |pack: &std::path::PathBuf| pack.file_name().unwrap().to_str().unwrap().to_owned();
        let is_it = |id: &String| json(&small.ok(&["cat", "pack", id, "--json"]))["kind"] == kind;
        packs.iter().map(name).find(is_it).unwrap()
    };
    let segment = super::super::reading::objects(&small, "index").remove(0);
    page.redaction.listings_are_in(&LENGTHS);
    page.forms(&small, &["cat", "segment", segment.file_name().unwrap().to_str().unwrap()]);
    page.redaction.listings_are_in(&[]);
    page.forms(&small, &["cat", "pack", &pack("data")]);
    page.redaction.listings_are_in(&LENGTHS);
    page.forms(&small, &["cat", "pack", &pack("tree")]);
    page.redaction.listings_are_in(&[]);
    let listed = json(&small.ok(&["cat", "pack", &pack("data"), "--json"]));
    let chunk = listed["blocks"][0]["chunks"][0]["id"].as_str().unwrap();
    page.forms(&small, &["cat", "chunk", chunk]);
    page.title("Failing");
    page.run(&world, &["cat"]);
    page.run(&world, &["cat", "dog"]);
    for kind in ["head", "key", "snapshot", "segment", "pack", "tree", "chunk"] {
        page.run(&world, &["cat", kind, "0000"]);
    }
    page.run(&world, &["cat", "snapshot"]);
    page.run(&world, &["cat", "config", "0000"]);
    page.run(&world, &["cat", "snapshot", "zz", "--json"]);
    page.refusals(&world, &["cat", "head"]);
    page.title("A snapshot is damaged");
    spoil_snapshot(&world, &first);
    page.run(&world, &["cat", "snapshot", &first]);
    page.end();
}

/// One file of one chunk, and its listing; a segment that names the pack of the first before that of the second. They are ordered by random ids.
fn one_stream() -> World {
    loop {
        let world = super::empty();
        let words = ["backup", "--host", "box", "--time", "2024-05-01 10:00:00", "--stdin-from-command", "seq", "7"];
        world.ok(&words);
        let segment = super::super::reading::objects(&world, "index").remove(0);
        let segment = json(&world.ok(&["cat", "segment", segment.file_name().unwrap().to_str().unwrap(), "--json"]));
        if segment["packs"][0]["kind"] == "data" {
            return world;
        }
    }
}

#[test]
fn status() {
    let mut page = Page::new("status");
    let (world, _) = two();
    page.forms(&world, &["status"]);
    world.ok(&["backup", "--host", "box", "tree"]);
    page.forms(&world, &["status"]);
    page.forms(&world, &["status", "--max-drill-age", "0"]);
    world.ok(&["mirror", "add", "offsite", "mirror"]);
    page.forms(&world, &["status"]);
    world.ok(&["sync"]);
    page.forms(&world, &["status"]);
    world.ok(&["drill", "--to", "drills"]);
    page.forms(&world, &["status"]);
    page.run(&world, &["status", "-r", "other", "--key-file", "other-key"]);
    page.run(&world, &["status", "-r", "other", "--key-file", "other-key", "--json"]);
    page.title("Failing");
    page.run(&world, &["status", "--max-age", "never"]);
    page.refusals(&world, &["status"]);
    page.end();
}

#[test]
fn version() {
    let mut page = Page::new("version");
    let world = nothing();
    for words in
        [&["version"][..], &["--version"], &["version", "--json"], &["version", "--quiet"], &["version", "more"]]
    {
        page.bare(&world, words);
    }
    page.end();
}

#[test]
fn help() {
    let mut page = Page::new("help");
    let world = nothing();
    for words in [
        &[][..],
        &["help", "version"],
        &["help", "absent"],
        &["version", "-h"],
        &["mirror"],
        &["key"],
        &["repair"],
        &["absent"],
        &["--absent"],
    ] {
        page.bare(&world, words);
    }
    page.end();
}

/// The scripts are long, and the command reference says the same. Only their lengths and digests are here.
#[test]
fn completions() {
    let mut page = Page::new("completions");
    let world = nothing();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        page.long(&world, &["completions", shell]);
        page.long(&world, &["completions", shell, "--json"]);
    }
    page.title("Failing");
    page.bare(&world, &["completions"]);
    page.bare(&world, &["completions", "nosh"]);
    page.end();
}

#[test]
fn man() {
    let mut page = Page::new("man");
    let world = nothing();
    page.bare(&world, &["man"]);
    page.long(&world, &["man", "--json"]);
    page.bare(&world, &["man", "--directory", "pages"]);
    page.bare(&world, &["man", "--directory", "pages", "--json"]);
    page.title("The pages of the commands");
    for file in super::super::support::files_beneath(&world.path("pages")) {
        let text = std::fs::read(&file).unwrap();
        page.digest(file.file_name().unwrap().to_str().unwrap(), &text);
    }
    page.title("Failing");
    page.bare(&world, &["man", "backup"]);
    std::fs::write(world.path("file"), "x").unwrap();
    page.bare(&world, &["man", "--directory", "file"]);
    page.end();
}
