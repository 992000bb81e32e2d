//! A second reader, written in Python from the pages of `format-spec/` alone, reads what this program writes.
//!
//! It lies in `format-spec/reader/` and needs a Python with the packages of its `requirements.txt`: `venv.sh DIR` makes one,
//! `PACKSTONE_READER_PYTHON` names it. Where the packages are missing, each test here says `SKIPPED` on the standard error;
//! with `PACKSTONE_REQUIRE_READER=1` it fails.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn spec() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("format-spec")
}

fn python() -> Command {
    let mut command = Command::new(std::env::var_os("PACKSTONE_READER_PYTHON").unwrap_or_else(|| "python3".into()));
    // No compiled files in the source tree.
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

/// False, said aloud, where the reader cannot run. Fails where it must run.
fn can_read(test: &str) -> bool {
    let why = match python().args(["-c", "import argon2, blake3, cryptography, zstandard"]).output() {
        Ok(output) if output.status.success() => return true,
        Ok(output) => String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or("no reason given").to_owned(),
        Err(error) => error.to_string(),
    };
    let required = std::env::var_os("PACKSTONE_REQUIRE_READER").is_some_and(|value| value == "1");
    assert!(!required, "the independent reader must run and cannot: {why}");
    // Straight to the descriptor: the test harness would keep the output of a test that passes.
    let line =
        format!("SKIPPED: {test}: the independent reader cannot run ({why}); see format-spec/reader/README.md\n");
    std::io::stderr().write_all(line.as_bytes()).unwrap();
    false
}

/// The reader's JSON lines, and whether it ended well.
fn reader(words: &[&str]) -> (bool, Vec<Value>) {
    let output = python().arg(spec().join("reader/packstone_reader.py")).args(words).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    (output.status.success(), lines)
}

/// A repository and a tree in a directory of their own.
struct World {
    root: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        for name in ["home", "tree"] {
            fs::create_dir(root.path().join(name)).unwrap();
        }
        Self { root }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// Runs the program; it must succeed.
    fn packstone(&self, words: &[&str]) -> Output {
        let output = Command::new(env!("CARGO_BIN_EXE_packstone"))
            .args(["--repo", "repository"])
            .args(words)
            .env_clear()
            .env("HOME", self.path("home"))
            .current_dir(self.root.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        output
    }

    fn backup(&self) -> BTreeMap<PathBuf, Seen> {
        self.packstone(&["--key-file", "key", "backup", "tree"]);
        describe(&self.path("tree"))
    }

    fn read(&self, command: &str, more: &[&str]) -> (bool, Vec<Value>) {
        let (repository, key) = (self.text("repository"), self.text("key"));
        reader(&[&[command, &repository, "--key-file", &key], more].concat())
    }
}

/// What must be the same in the tree that is read back.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    mode: u32,
    modified: (i64, i64),
    /// A file's length and hash, a symlink's target.
    content: String,
    /// The first path, in order, of the same inode.
    first: PathBuf,
}

fn describe(root: &Path) -> BTreeMap<PathBuf, Seen> {
    let mut waiting = vec![root.to_owned()];
    let mut paths = Vec::new();
    while let Some(path) = waiting.pop() {
        if path.symlink_metadata().unwrap().is_dir() {
            waiting.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        paths.push(path);
    }
    paths.sort();
    let mut inodes: BTreeMap<u64, PathBuf> = BTreeMap::new();
    let mut seen = BTreeMap::new();
    for path in paths {
        let metadata = path.symlink_metadata().unwrap();
        let content = if metadata.is_file() {
            format!("{} {}", metadata.len(), blake3::hash(&fs::read(&path).unwrap()))
        } else if metadata.is_symlink() {
            fs::read_link(&path).unwrap().display().to_string()
        } else {
            String::new()
        };
        let name = path.strip_prefix(root).unwrap().to_owned();
        let first = inodes.entry(metadata.ino()).or_insert_with(|| name.clone()).clone();
        let modified = (metadata.mtime(), metadata.mtime_nsec());
        seen.insert(name, Seen { mode: metadata.mode(), modified, content, first });
    }
    seen
}

/// Bytes without order, the same in every run.
fn noise(word: &str, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(word.as_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// A file of each sort that the format treats in its own way.
fn fill(tree: &Path) {
    for name in ["deep/deeper", "empty", "many"] {
        fs::create_dir_all(tree.join(name)).unwrap();
    }
    fs::write(tree.join("one chunk"), "a small file\n").unwrap();
    fs::write(tree.join("nothing"), "").unwrap();
    fs::write(tree.join("text"), "the same line, again and again\n".repeat(20_000)).unwrap();
    // About 2 000 chunks of 4 KiB: more than the 1 024 that stand in an entry.
    fs::write(tree.join("deep/long list"), noise("long", 8 << 20)).unwrap();
    let sparse = File::create(tree.join("deep/deeper/sparse")).unwrap();
    sparse.write_all_at(&noise("first", 70_000), 1 << 20).unwrap();
    sparse.write_all_at(&noise("second", 300_001), 5 << 20).unwrap();
    sparse.set_len(9 << 20).unwrap();
    File::create(tree.join("only a hole")).unwrap().set_len(3 << 20).unwrap();
    fs::hard_link(tree.join("one chunk"), tree.join("deep/hard link")).unwrap();
    symlink("../one chunk", tree.join("deep/symlink")).unwrap();
    symlink("/nowhere/at all", tree.join("dangling")).unwrap();
    fs::write(tree.join("set-id"), "x").unwrap();
    fs::set_permissions(tree.join("set-id"), Permissions::from_mode(0o4750)).unwrap();
    // A listing of several chunks.
    for number in 0..1_500 {
        fs::write(tree.join(format!("many/{number}")), number.to_string()).unwrap();
    }
    fs::set_permissions(tree.join("empty"), Permissions::from_mode(0o500)).unwrap();
}

#[test]
fn it_finds_in_every_vector_what_this_program_finds() {
    if !can_read("vectors") {
        return;
    }
    let folder = spec().join("vectors");
    let files: usize =
        fs::read_dir(&folder).unwrap().map(|structure| fs::read_dir(structure.unwrap().path()).unwrap().count()).sum();
    let (good, lines) = reader(&["vectors", folder.to_str().unwrap()]);
    assert!(good, "{lines:#?}");
    assert_eq!(lines, [serde_json::json!({ "passed": files, "failed": 0 })]);
}

#[test]
fn it_verifies_and_restores_every_snapshot() {
    if !can_read("repository") {
        return;
    }
    let world = World::new();
    world.packstone(&["init", "--new-key-file", "key", "--chunk-size", "4k"]);
    let tree = world.path("tree");
    fill(&tree);
    let mut expected = vec![world.backup()];
    // An insertion into the middle, a change of metadata only, a removal, something new.
    let mut long = noise("long", 8 << 20);
    long.splice(3_000_000..3_000_000, *b"inserted");
    fs::write(tree.join("deep/long list"), long).unwrap();
    fs::set_permissions(tree.join("text"), Permissions::from_mode(0o600)).unwrap();
    fs::remove_file(tree.join("dangling")).unwrap();
    fs::write(tree.join("deep/new"), noise("new", 100_000)).unwrap();
    expected.push(world.backup());
    expected.push(world.backup());

    let (good, lines) = world.read("verify", &[]);
    assert!(good, "{lines:#?}");
    let summary = lines.last().unwrap();
    let number = |name: &str| summary[name].as_u64().unwrap_or_else(|| panic!("no {name} in {summary}"));
    assert_eq!((number("problems"), number("snapshots"), number("generation")), (0, 3, 4));
    assert_eq!(number("deletions"), 2, "the removal, in the logs of the second and the third");
    assert!(number("long_lists") >= 3, "no chunk list was long enough to be a stream: {summary}");

    let (good, snapshots) = world.read("list", &[]);
    assert!(good && snapshots.len() == expected.len(), "{snapshots:#?}");
    for (snapshot, expected) in snapshots.iter().zip(&expected) {
        let id = snapshot["id"].as_str().unwrap();
        let (good, lines) = world.read("extract", &[id, &world.text(id)]);
        assert!(good && lines.is_empty(), "{lines:#?}");
        let found = describe(&world.path(id).join("tree"));
        assert!(found.keys().eq(expected.keys()), "{:?} / {:?}", found.keys(), expected.keys());
        for (path, seen) in expected {
            assert_eq!(found.get(path), Some(seen), "{}", path.display());
        }
    }
}

#[test]
fn it_opens_with_a_passphrase_and_refuses_another() {
    if !can_read("passphrase") {
        return;
    }
    let world = World::new();
    fs::write(world.path("good"), "correct horse battery staple\n").unwrap();
    fs::write(world.path("bad"), "correct horse battery stapler\n").unwrap();
    world.packstone(&["--password-file", "good", "init", "--no-recovery-code"]);
    fs::write(world.path("tree/file"), "content").unwrap();
    world.packstone(&["--password-file", "good", "backup", "tree"]);
    let repository = world.text("repository");
    let (good, lines) = reader(&["verify", &repository, "--password-file", &world.text("good")]);
    assert!(good, "{lines:#?}");
    let (good, lines) = reader(&["list", &repository, "--password-file", &world.text("bad")]);
    assert!(!good);
    assert_eq!(lines[0]["reason"], "commitment");
}

#[test]
fn it_notices_one_changed_byte_in_each_kind_of_object() {
    if !can_read("damage") {
        return;
    }
    let world = World::new();
    world.packstone(&["init", "--new-key-file", "key"]);
    fs::write(world.path("tree/file"), noise("file", 50_000)).unwrap();
    world.backup();
    let (good, lines) = world.read("verify", &[]);
    assert!(good, "{lines:#?}");
    for folder in ["packs", "index", "snapshots", "keys", "heads"] {
        let mut object = world.path("repository").join(folder);
        while object.is_dir() {
            object = fs::read_dir(&object).unwrap().map(|entry| entry.unwrap().path()).max().unwrap();
        }
        let honest = fs::read(&object).unwrap();
        let mode = object.metadata().unwrap().permissions();
        fs::set_permissions(&object, Permissions::from_mode(0o600)).unwrap();
        let mut file = File::options().write(true).open(&object).unwrap();
        let middle = honest.len() / 2;
        file.seek(SeekFrom::Start(middle as u64)).unwrap();
        file.write_all(&[honest[middle] ^ 1]).unwrap();
        let (good, lines) = world.read("verify", &[]);
        assert!(!good, "{}", object.display());
        let named = lines.iter().any(|line| line.to_string().contains("object-id"));
        assert!(named, "{}: {lines:#?}", object.display());
        file.seek(SeekFrom::Start(0)).unwrap();
        file.write_all(&honest).unwrap();
        fs::set_permissions(&object, mode).unwrap();
    }
    let (good, lines) = world.read("verify", &[]);
    assert!(good, "{lines:#?}");
}
