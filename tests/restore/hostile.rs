//! Snapshots that no backup makes, written by someone who has the keys and checks nothing: nothing outside the target
//! changes, and the object is named.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use packstone::base::id::ObjectId;
use packstone::base::time::Time;
use packstone::codec::chunk_list::{ChunkList, ChunkRef};
use packstone::codec::key_tree::ChunkKind;
use packstone::codec::pack::PackKind;
use packstone::codec::snapshot::{Counts, Outcome, Snapshot, Summary};
use packstone::codec::tree::{Content, Entry, Metadata, Node};
use packstone::codec::{body, stream};
use packstone::ops::restore::{Report, execute};
use packstone::ops::{Action, Silent};
use packstone::repository::pack_writer::PackOptions;
use packstone::repository::run::Run;

use super::world::{Event, Hook, World, names, noise};

/// A listing as raw bytes, with no rule checked.
pub fn listing(run: &mut Run<'_>, entries: &[Entry]) -> ChunkList {
    let mut bytes = Vec::new();
    for entry in entries {
        stream::write_record("tree", &mut bytes, |out| body::encode_into("tree", entry, out)).unwrap();
    }
    if bytes.is_empty() {
        return ChunkList::default();
    }
    let id = run.add_tree(&bytes).unwrap();
    ChunkList { depth: 0, chunks: vec![ChunkRef { id, length: bytes.len() as u32 }] }
}

fn file(run: &mut Run<'_>, name: &[u8], bytes: &[u8]) -> Entry {
    let id = run.repository().keys().chunk_id(ChunkKind::Data, bytes);
    run.add(PackKind::Data, id, bytes).unwrap();
    let chunks = ChunkList { depth: 0, chunks: vec![ChunkRef { id, length: bytes.len() as u32 }] };
    let content = Content { size: bytes.len() as u64, chunks, holes: Vec::new(), digest: None };
    entry(name, Node::File(content))
}

pub fn entry(name: &[u8], node: Node) -> Entry {
    let metadata = Metadata { mode: 0o755, uid: rustix::process::geteuid().as_raw(), ..Metadata::default() };
    Entry { name: name.to_vec(), metadata, node }
}

pub fn publish(run: Run<'_>, root: ChunkList, counts: Counts) -> ObjectId {
    let snapshot = Snapshot {
        time: Time::now(),
        written: Time::now(),
        host: "hostile".to_owned(),
        user: String::new(),
        paths: vec![b"/x".to_vec()],
        label: String::new(),
        tags: Vec::new(),
        held: false,
        root,
        parent: None,
        original: None,
        outcome: Outcome::Complete,
        problems: ChunkList::default(),
        problem_count: 0,
        deleted: ChunkList::default(),
        deleted_count: 0,
        counts,
        summary: Summary::default(),
        options: Vec::new(),
        program: "nobody".to_owned(),
    };
    run.publish(&snapshot).unwrap().0
}

fn plenty() -> Counts {
    Counts { files: 100, directories: 100, others: 100, bytes: 1 << 30 }
}

/// A snapshot of the entries that `make` makes.
fn snapshot(world: &World, make: impl FnOnce(&mut Run<'_>) -> Vec<Entry>) -> ObjectId {
    let mut run = Run::begin(&world.repository, PackOptions::default()).unwrap();
    let entries = make(&mut run);
    let root = listing(&mut run, &entries);
    publish(run, root, plenty())
}

fn restore(world: &World, snapshot: ObjectId) -> packstone::ops::Result<Report> {
    let mut options = world.options("around/out");
    options.delete = true;
    options.verify = true;
    let plan = world.plan_part(snapshot, b"/", &options, &Silent)?;
    execute(&world.repository, plan, &Silent)
}

/// A world with a target inside a directory whose other content must not change.
fn world() -> World {
    let world = World::new();
    fs::create_dir_all(world.path("around/out")).unwrap();
    fs::write(world.path("around/precious"), "precious").unwrap();
    fs::create_dir(world.path("around/other")).unwrap();
    world
}

/// Everything around the target.
fn around(world: &World) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for name in names(&world.path("around")) {
        let path = world.path("around").join(&name);
        if !name.starts_with("out/") && name != "out" {
            found.insert(path.clone(), fs::read(&path).unwrap_or_default());
        }
    }
    found
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    let absolute = |world: &World| world.path("around/planted").as_os_str().as_bytes().to_vec();
    let names: [fn(&World) -> Vec<u8>; 8] = [
        |_| b"..".to_vec(),
        |_| b".".to_vec(),
        |_| b"".to_vec(),
        |_| b"../planted".to_vec(),
        |_| b"a/b".to_vec(),
        |_| b"nul\0".to_vec(),
        |_| vec![b'x'; 2000],
        |world| world.path("around/planted").as_os_str().as_bytes().to_vec(),
    ];
    assert!(names[7](&World::new()).starts_with(b"/") && absolute(&World::new()).starts_with(b"/"));
    for name in names {
        for as_directory in [false, true] {
            let world = world();
            let before = around(&world);
            let name = name(&world);
            let id = snapshot(&world, |run| {
                let inner = file(run, b"planted", b"evil");
                let hostile = if as_directory {
                    let listing = listing(run, &[inner]);
                    entry(&name, Node::Directory { listing })
                } else {
                    file(run, &name, b"evil")
                };
                let directory = listing(run, &[hostile]);
                vec![entry(b"good", Node::Directory { listing: directory }), file(run, b"z", b"after it")]
            });
            let report = restore(&world, id).unwrap();
            assert_eq!(report.problem_count, 1, "{name:?} {report:?}");
            assert_eq!(report.problems[0].path, b"/good", "the directory is named");
            assert_eq!(around(&world), before, "{name:?}");
            // What stands elsewhere in the snapshot is restored.
            assert_eq!(names_of(&world), ["good", "z"], "{name:?}");
        }
    }
}

fn names_of(world: &World) -> Vec<String> {
    names(&world.path("around/out"))
}

#[test]
fn a_name_twice_is_refused() {
    let world = world();
    let before = around(&world);
    let outside = world.path("around/other").as_os_str().as_bytes().to_vec();
    // First a symbolic link, then a directory of the same name with a child: the classic way out.
    let id = snapshot(&world, |run| {
        let child = file(run, b"planted", b"evil");
        let children = listing(run, &[child]);
        vec![
            entry(b"a", Node::Symlink { target: outside }),
            entry(b"a", Node::Directory { listing: children }),
            file(run, b"b", b"never read"),
        ]
    });
    let report = restore(&world, id).unwrap();
    assert_eq!(report.problem_count, 1, "{report:?}");
    assert_eq!(around(&world), before);
    assert!(names(&world.path("around/other")).is_empty());
}

#[test]
fn names_out_of_order_are_refused() {
    let world = world();
    let id = snapshot(&world, |run| vec![file(run, b"b", b"1"), file(run, b"a", b"2")]);
    let report = restore(&world, id).unwrap();
    assert_eq!(report.problem_count, 1, "{report:?}");
    assert_eq!(names_of(&world), ["b"]);
}

#[test]
fn nothing_is_written_through_a_symbolic_link_in_the_target() {
    let world = world();
    let before = around(&world);
    symlink(world.path("around/other"), world.path("around/out/a")).unwrap();
    let id = snapshot(&world, |run| {
        let child = file(run, b"planted", b"evil");
        let children = listing(run, &[child]);
        vec![entry(b"a", Node::Directory { listing: children })]
    });
    restore(&world, id).unwrap();
    assert_eq!(around(&world), before);
    assert_eq!(names_of(&world), ["a", "a/planted"]);
    assert!(!world.path("around/out/a").is_symlink());
}

#[test]
fn a_directory_swapped_for_a_link_during_the_restore_leads_nowhere() {
    for moment in [Action::New, Action::Started] {
        let world = world();
        // Many directories, so that some are opened again after the swap.
        for n in 0..600 {
            world.write(&format!("d{n:03}/file"), noise(n, 3_000));
        }
        let id = world.backup();
        let swapped = AtomicBool::new(false);
        let out = world.path("out");
        let other = world.path("around/other");
        let hook = Hook::new(|event: &Event<'_>| {
            let now = match moment {
                // After the last directory was made: before any file is.
                Action::New => matches!(event, Event::Item(item) if item.path == b"/d599" && item.directory),
                _ => matches!(event, Event::Bytes),
            };
            if now && !swapped.swap(true, SeqCst) {
                for n in 0..600 {
                    let directory = out.join(format!("d{n:03}"));
                    let _ = fs::rename(&directory, out.join(format!("moved{n:03}")));
                    symlink(&other, &directory).unwrap();
                }
            }
        });
        let report = world.restore_with(id, &world.options("out"), &hook).unwrap();
        assert!(swapped.load(SeqCst));
        assert!(names(&other).is_empty(), "{:?}", names(&other));
        assert!(report.problem_count > 0, "{report:?}");
    }
}

#[test]
fn a_tree_of_2_to_the_60_entries_ends_at_once() {
    let world = world();
    let mut run = Run::begin(&world.repository, PackOptions::default()).unwrap();
    let leaf = file(&mut run, b"leaf", b"x");
    let mut list = listing(&mut run, &[leaf]);
    for _ in 0..60 {
        let twice = [b"a", b"b"].map(|name| entry(name, Node::Directory { listing: list.clone() }));
        list = listing(&mut run, &twice);
    }
    let id = publish(run, list, plenty());
    let error = restore(&world, id).unwrap_err().to_string();
    assert!(error.contains("the snapshot says that it holds"), "{error}");
    assert!(names_of(&world).is_empty());
}

#[test]
fn a_file_whose_chunks_do_not_add_up_is_refused() {
    let world = world();
    let id = snapshot(&world, |run| {
        // The list of a long file names chunks of another length than the file has: only its stream tells.
        let bytes = noise(1, 5000);
        let chunk = run.repository().keys().chunk_id(ChunkKind::Data, &bytes);
        run.add(PackKind::Data, chunk, &bytes).unwrap();
        let mut records = Vec::new();
        for _ in 0..1025 {
            ChunkRef { id: chunk, length: 5000 }.write(&mut records);
        }
        let list = run.add_tree(&records).unwrap();
        let chunks = ChunkList { depth: 1, chunks: vec![ChunkRef { id: list, length: records.len() as u32 }] };
        let content = Content { size: 17, chunks, holes: Vec::new(), digest: Some([0; 32]) };
        vec![entry(b"liar", Node::File(content)), file(run, b"z", b"good")]
    });
    let report = restore(&world, id).unwrap();
    assert_eq!(report.problem_count, 1, "{report:?}");
    assert_eq!(report.problems[0].path, b"/liar");
    assert_eq!(names_of(&world), ["z"]);
}

#[test]
fn one_chunk_in_very_many_places_is_restored() {
    let world = world();
    let id = snapshot(&world, |run| {
        let bytes = noise(1, 5000);
        let chunk = run.repository().keys().chunk_id(ChunkKind::Data, &bytes);
        run.add(PackKind::Data, chunk, &bytes).unwrap();
        let (mut records, mut digest) = (Vec::new(), blake3::Hasher::new());
        for _ in 0..1025 {
            ChunkRef { id: chunk, length: 5000 }.write(&mut records);
            digest.update(&bytes);
        }
        let list = run.add_tree(&records).unwrap();
        let chunks = ChunkList { depth: 1, chunks: vec![ChunkRef { id: list, length: records.len() as u32 }] };
        let digest = Some(Content::digest_of(digest, &[]));
        vec![entry(b"long", Node::File(Content { size: 1025 * 5000, chunks, holes: Vec::new(), digest }))]
    });
    let report = restore(&world, id).unwrap();
    assert!(report.is_complete(), "{report:?}");
    assert_eq!((report.blocks, report.verified), (1, 1));
    assert_eq!(fs::read(world.path("around/out/long")).unwrap(), noise(1, 5000).repeat(1025));
}

/// Hard links go by device and inode numbers that the snapshot claims. They never reach anything but this restore's own
/// files, and names whose contents differ stay apart.
#[test]
fn claimed_hard_links_reach_nothing_outside() {
    let world = world();
    let before = around(&world);
    let precious = rustix::fs::stat(world.path("around/precious")).unwrap();
    let id = snapshot(&world, |run| {
        let mut entries = vec![file(run, b"a", b"one"), file(run, b"b", b"two"), file(run, b"c", b"one")];
        for entry in &mut entries {
            entry.metadata.inode = precious.st_ino;
            entry.metadata.links = 3;
        }
        entries
    });
    let report = restore(&world, id).unwrap();
    assert!(report.is_complete(), "{report:?}");
    assert_eq!(around(&world), before);
    assert_eq!(rustix::fs::stat(world.path("around/precious")).unwrap().st_nlink, 1);
    for (name, content) in [("a", "one"), ("b", "two"), ("c", "one")] {
        assert_eq!(fs::read(world.path("around/out").join(name)).unwrap(), content.as_bytes());
    }
}

/// Directories one in the other, `names` of them, around a listing.
fn deep(run: &mut Run<'_>, names: usize, mut inner: ChunkList) -> ChunkList {
    for _ in 0..names {
        inner = listing(run, &[entry(b"d", Node::Directory { listing: inner })]);
    }
    inner
}

/// Story: one command stored a tree that another one called damaged, and no sync ran any more. Promised now: a tree at the limit is
/// good for every command, a deeper one is refused by every command, in one sentence, and is no damage.
#[test]
fn a_tree_that_is_too_deep_is_refused_by_every_command_and_is_no_damage() {
    use packstone::codec::key_file::KeyFile;
    use packstone::codec::tree::DIRECTORY_DEPTH_MAX;
    let world = World::new();
    let counts = |directories: usize| Counts { directories: directories as u64, ..Counts::default() };
    let mut run = Run::begin(&world.repository, PackOptions::default()).unwrap();
    // The lower half stands in both snapshots: in the second it hangs one too deep.
    let low = deep(&mut run, 100, ChunkList::default());
    let good = deep(&mut run, DIRECTORY_DEPTH_MAX - 100, low.clone());
    publish(run, good, counts(DIRECTORY_DEPTH_MAX));
    fs::write(world.path("key"), KeyFile::generate(&[7; 32]).encode()).unwrap();
    let program = |words: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_packstone"));
        command.args(words).env_clear().env("HOME", world.path("home")).current_dir(world.root.path());
        command.env("PACKSTONE_REPOSITORY", world.path("repository")).env("PACKSTONE_KEY_FILE", world.path("key"));
        let ran = command.stdin(std::process::Stdio::null()).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (ran.status.code(), text(&ran.stdout) + &text(&ran.stderr))
    };
    let ok = |words: &[&str]| {
        let (code, text) = program(words);
        assert_eq!(code, Some(0), "{words:?} {text}");
        text
    };
    fs::create_dir(world.path("home")).unwrap();
    ok(&["--repo", "other", "--key-file", "other-key", "init", "--new-key-file", "other-key"]);
    ok(&["mirror", "add", "offsite", "mirror"]);
    let copy =
        ["--repo", "other", "--key-file", "other-key", "copy", "--from-repo", "repository", "--from-key-file", "key"];
    let commands = [
        &["check"][..],
        &["ls", "latest", "--recursive"],
        &["find", "nothing"],
        &["stats"],
        &["dump", "latest", "/", "--target", "archive.tar"],
        &["diff", "latest:d", "latest:d/d"],
        &["restore", "latest", "--target", "out", "--dry-run"],
        &["rewrite", "--exclude", "nothing"],
        &copy,
    ];
    for words in commands {
        ok(words);
    }
    fs::remove_file(world.path("archive.tar")).unwrap();
    let mut run = Run::begin(&world.repository, PackOptions::default()).unwrap();
    let bad = deep(&mut run, DIRECTORY_DEPTH_MAX - 99, low);
    let bad = publish(run, bad, counts(DIRECTORY_DEPTH_MAX + 1));
    for words in commands {
        let (code, text) = program(words);
        assert_eq!(code, Some(1), "{words:?} {}", text.lines().last().unwrap_or_default());
        let line = text.lines().find(|line| line.contains("4096 is the limit of the format"));
        assert!(line.is_some_and(|line| line.len() < 600), "{words:?} {line:?}");
    }
    assert!(!world.path("out").exists() && !world.path("archive.tar").exists());
    ok(&["--repo", "other", "--key-file", "other-key", "check"]);
    // After that check a sync goes on, a backup too, and without the snapshot all is well.
    ok(&["sync"]);
    ok(&["forget", &bad.to_string()]);
    commands.iter().for_each(|words| drop(ok(words)));
    fs::write(world.tree().join("file"), "a file").unwrap();
    ok(&["backup", "tree"]);
}
