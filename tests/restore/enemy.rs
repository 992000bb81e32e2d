//! Somebody else works in the directory that root restores into. What he wrote, or can still write, never ends up as root's or with
//! set-id bits; what he had stays his; and nothing of root's is changed in its place.
//!
//! All of it needs root: these tests make files of two users.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, UNIX_EPOCH};

use packstone::base::id::ObjectId;
use packstone::ops::restore::{Overwrite, Report, execute};
use packstone::ops::{Action, Silent};
use rustix::fs::{CWD, FileType, Mode, XattrFlags, lsetxattr, mknodat};

use super::world::{Event, Hook, World, is_root};

const NOBODY: u32 = 65_534;
const RULES: [Overwrite; 3] = [Overwrite::Always, Overwrite::IfChanged, Overwrite::IfNewer];

/// True when the test cannot run, and says so.
fn skipped(name: &str) -> bool {
    if !is_root() {
        println!("SKIPPED enemy::{name}: files of two users need root");
    }
    !is_root()
}

/// A file as an enemy left it, and whether root's restore may keep its inode.
struct Case {
    name: &'static str,
    uid: u32,
    gid: u32,
    mode: u32,
    /// He has it open for writing.
    open: bool,
    kept: bool,
}

const CASES: [Case; 7] = [
    Case { name: "roots", uid: 0, gid: 0, mode: 0o644, open: false, kept: true },
    Case { name: "roots-closed", uid: 0, gid: 0, mode: 0o600, open: false, kept: true },
    Case { name: "roots-open", uid: 0, gid: 0, mode: 0o644, open: true, kept: false },
    Case { name: "roots-writable", uid: 0, gid: 0, mode: 0o666, open: false, kept: false },
    Case { name: "his", uid: NOBODY, gid: NOBODY, mode: 0o644, open: false, kept: false },
    Case { name: "his-open", uid: NOBODY, gid: NOBODY, mode: 0o400, open: true, kept: false },
    Case { name: "his-group", uid: 0, gid: NOBODY, mode: 0o644, open: false, kept: false },
];

fn set_time(path: &Path, seconds: u64) {
    File::open(path).unwrap().set_modified(UNIX_EPOCH + Duration::from_secs(seconds)).unwrap();
}

fn stat(path: &Path) -> fs::Metadata {
    fs::symlink_metadata(path).unwrap()
}

/// Every case, with the bytes of the snapshot, in a target of the enemy's. Gives his descriptors.
fn fill(world: &World, out: &Path, seconds: u64) -> Vec<(PathBuf, File)> {
    fs::create_dir_all(out).unwrap();
    chown(out, Some(NOBODY), Some(NOBODY)).unwrap();
    let mut open = Vec::new();
    for Case { name, uid, gid, mode, open: is_open, .. } in &CASES {
        let path = out.join(name);
        fs::write(&path, fs::read(world.tree().join(name)).unwrap()).unwrap();
        let writer = File::options().write(true).open(&path).unwrap();
        set_time(&path, seconds);
        chown(&path, Some(*uid), Some(*gid)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).unwrap();
        if *is_open {
            open.push((path, writer));
        }
    }
    open
}

#[test]
fn an_inode_is_kept_only_when_nobody_else_can_write_it() {
    if skipped("an_inode_is_kept_only_when_nobody_else_can_write_it") {
        return;
    }
    for rule in RULES {
        let world = World::new();
        for case in &CASES {
            let path = world.write(case.name, format!("the content of {}", case.name));
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
            set_time(&path, 1_000_000);
        }
        let snapshot = world.backup();
        let out = world.path("out");
        // The rule that goes by age wants an older one.
        let writers = fill(&world, &out, if rule == Overwrite::IfNewer { 999_999 } else { 1_000_000 });
        let before: Vec<u64> = CASES.iter().map(|case| stat(&out.join(case.name)).ino()).collect();
        let mut options = world.options("out");
        options.overwrite = rule;
        options.verify = true;
        let report = world.restore(snapshot, &options);
        assert_eq!(report.files, CASES.iter().filter(|case| !case.kept).count() as u64, "{rule:?} {report:?}");
        for (path, writer) in &writers {
            writer.write_all_at(b"HIS", 0).unwrap();
            assert!(!fs::read(path).unwrap().starts_with(b"HIS"), "{rule:?} {path:?}");
        }
        for (case, inode) in CASES.iter().zip(before) {
            let is = stat(&out.join(case.name));
            assert_eq!((is.uid(), is.gid(), is.mode() & 0o7777), (0, 0, 0o644), "{rule:?} {}", case.name);
            assert_eq!(is.ino() == inode, case.kept, "{rule:?} {}", case.name);
        }
        world.assert_same("out");
    }
}

#[test]
fn content_that_was_not_read_gets_no_rights() {
    if skipped("content_that_was_not_read_gets_no_rights") {
        return;
    }
    let world = World::new();
    let capability = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    for (name, mode) in [("uid", 0o4755), ("gid", 0o2755), ("capable", 0o755)] {
        let path = world.write(name, format!("a good {name}"));
        if name == "capable" {
            lsetxattr(&path, "security.capability", &capability, XattrFlags::empty()).unwrap();
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        set_time(&path, 1_000_000);
    }
    let snapshot = world.backup();
    for (content, owner) in [("an evil", 0), ("an evil", NOBODY), ("a good", 0), ("a good", NOBODY)] {
        let out = world.path("out");
        fs::create_dir(&out).unwrap();
        for name in ["uid", "gid", "capable"] {
            let path = out.join(name);
            // Of the same length.
            fs::write(&path, format!("{content} {name}").replace("an evil", "a evil")).unwrap();
            set_time(&path, 1_000_000);
            chown(&path, Some(owner), Some(owner)).unwrap();
        }
        let mut options = world.options("out");
        options.overwrite = Overwrite::IfChanged;
        let report = world.restore(snapshot, &options);
        assert_eq!(report.files, 3, "{content} {owner} {report:?}");
        world.assert_same("out");
        // What is right in everything is kept.
        assert_eq!(world.restore(snapshot, &options).files, 0);
        fs::remove_dir_all(out).unwrap();
    }
}

/// A plan is made, `meanwhile` happens, and the plan is carried out.
fn between(world: &World, snapshot: ObjectId, meanwhile: impl FnOnce(&Path)) -> Report {
    let plan = world.plan(snapshot, &world.options("out"), &Silent).unwrap();
    assert_eq!(plan.totals().unchanged, 1, "the file is to be kept");
    meanwhile(&world.path("out/file"));
    execute(&world.repository, plan, &Silent).unwrap()
}

/// What happens to a file, in words and done.
type Meanwhile = (&'static str, fn(&Path));

#[test]
fn what_changed_after_it_was_compared_gets_nothing() {
    if skipped("what_changed_after_it_was_compared_gets_nothing") {
        return;
    }
    let cases: [Meanwhile; 5] = [
        ("written to", |path| fs::write(path, "other").unwrap()),
        ("written to, and set back in time", |path| {
            let time = stat(path).modified().unwrap();
            fs::write(path, "other").unwrap();
            File::open(path).unwrap().set_modified(time).unwrap();
        }),
        ("another file of root's moved there", |path| {
            let elsewhere = path.with_file_name("../elsewhere");
            fs::write(&elsewhere, "other").unwrap();
            fs::set_permissions(&elsewhere, fs::Permissions::from_mode(0o600)).unwrap();
            fs::rename(elsewhere, path).unwrap();
        }),
        ("a symbolic link to one", |path| {
            fs::write(path.with_file_name("../elsewhere"), "other").unwrap();
            fs::remove_file(path).unwrap();
            symlink("../elsewhere", path).unwrap();
        }),
        ("a second name", |path| fs::hard_link(path, path.with_file_name("second")).unwrap()),
    ];
    for (name, meanwhile) in cases {
        let world = World::new();
        let path = world.write("file", "right");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let snapshot = world.backup();
        fs::create_dir(world.path("out")).unwrap();
        fs::write(world.path("out/file"), "right").unwrap();
        fs::set_permissions(world.path("out/file"), fs::Permissions::from_mode(0o600)).unwrap();
        let report = between(&world, snapshot, meanwhile);
        assert_eq!(report.problem_count, 1, "{name} {report:?}");
        let is = fs::metadata(world.path("out/file")).unwrap();
        assert_ne!(is.mode() & 0o7777, 0o640, "{name}");
    }
    // And opened for writing, before anything is written.
    let world = World::new();
    let snapshot = {
        world.write("file", "right");
        world.backup()
    };
    fs::create_dir(world.path("out")).unwrap();
    fs::write(world.path("out/file"), "right").unwrap();
    let mut writer = None;
    let report = between(&world, snapshot, |path| writer = File::options().write(true).open(path).ok());
    assert!(writer.is_some());
    assert_eq!(report.problem_count, 1, "{report:?}");
}

/// Symbolic links, pipes and hard links have owners too.
#[test]
fn what_is_no_file_is_kept_by_the_same_rules() {
    if skipped("what_is_no_file_is_kept_by_the_same_rules") {
        return;
    }
    let world = World::new();
    let make = |place: &Path| {
        symlink("target", place.join("link")).unwrap();
        mknodat(CWD, place.join("pipe"), FileType::Fifo, Mode::from_raw_mode(0o640), 0).unwrap();
        fs::write(place.join("one"), "one").unwrap();
        fs::set_permissions(place.join("one"), fs::Permissions::from_mode(0o644)).unwrap();
        set_time(&place.join("one"), 1_000_000);
        fs::hard_link(place.join("one"), place.join("two")).unwrap();
    };
    make(&world.tree());
    let snapshot = world.backup();
    let out = world.path("out");
    let names = ["link", "pipe", "one", "two"];
    for (owner, mode, kept) in
        [(0, 0o640, [true, true, true, true]), (0, 0o666, [true, false, true, true]), (NOBODY, 0o640, [false; 4])]
    {
        fs::create_dir(&out).unwrap();
        make(&out);
        fs::set_permissions(out.join("pipe"), fs::Permissions::from_mode(mode)).unwrap();
        for name in ["link", "pipe", "one"] {
            std::os::unix::fs::lchown(out.join(name), Some(owner), Some(owner)).unwrap();
        }
        let before = names.map(|name| stat(&out.join(name)).ino());
        world.restore(snapshot, &world.options("out"));
        let after = names.map(|name| stat(&out.join(name)).ino());
        for ((name, kept), (before, after)) in names.iter().zip(kept).zip(before.iter().zip(after)) {
            assert_eq!(*before == after, kept, "{name} of {owner} {mode:o}");
        }
        world.assert_same("out");
        fs::remove_dir_all(&out).unwrap();
    }
}

#[test]
fn a_directory_of_his_is_taken_before_anything_is_made_in_it() {
    if skipped("a_directory_of_his_is_taken_before_anything_is_made_in_it") {
        return;
    }
    let world = World::new();
    world.write("his/file", "x");
    world.write("open/file", "x");
    world.write("kept/file", "x");
    let snapshot = world.backup();
    let out = world.path("out");
    for (name, owner, mode) in [("his", NOBODY, 0o700), ("open", 0, 0o777), ("kept", 0, 0o755)] {
        fs::create_dir_all(out.join(name)).unwrap();
        fs::set_permissions(out.join(name), fs::Permissions::from_mode(mode)).unwrap();
        chown(out.join(name), Some(owner), Some(owner)).unwrap();
    }
    // A list of his that every new file would get: user 65534 may do everything.
    let list: Vec<u8> =
        [(1_u16, 7_u16, u32::MAX), (2, 7, NOBODY), (4, 5, u32::MAX), (16, 7, u32::MAX), (32, 5, u32::MAX)]
            .into_iter()
            .fold(2_u32.to_le_bytes().to_vec(), |mut list, (tag, rights, id)| {
                list.extend(tag.to_le_bytes().into_iter().chain(rights.to_le_bytes()).chain(id.to_le_bytes()));
                list
            });
    let has_lists = lsetxattr(out.join("his"), "system.posix_acl_default", &list, XattrFlags::empty()).is_ok();
    let looked = AtomicBool::new(false);
    let hook = Hook::new(|event: &Event<'_>| {
        if matches!(event, Event::Bytes) && !looked.swap(true, SeqCst) {
            for name in ["his", "open", "kept"] {
                let is = stat(&out.join(name));
                assert_eq!((is.uid(), is.mode() & 0o022), (0, 0), "{name} {:o}", is.mode());
            }
        }
    });
    let report = world.restore_with(snapshot, &world.options("out"), &hook).unwrap();
    assert!(report.is_complete() && looked.load(SeqCst), "{report:?}");
    world.assert_same("out");
    if !has_lists {
        println!("SKIPPED enemy: a default access control list: there are none on this file system");
    }
}

/// The owner of the directory takes the name of a half-written or finished file away, and puts something of his there.
#[test]
fn names_that_are_taken_away_are_noticed() {
    if skipped("names_that_are_taken_away_are_noticed") {
        return;
    }
    let world = World::new();
    let noise = super::world::noise(1, 24 << 20);
    world.write("large", &noise);
    fs::set_permissions(world.tree().join("large"), fs::Permissions::from_mode(0o4755)).unwrap();
    let snapshot = world.backup();
    let out = world.path("out");
    fs::create_dir(&out).unwrap();
    chown(&out, Some(NOBODY), Some(NOBODY)).unwrap();
    // In the way, so that it is made under a temporary name.
    fs::write(out.join("large"), "old").unwrap();
    chown(out.join("large"), Some(NOBODY), Some(NOBODY)).unwrap();
    let done = AtomicBool::new(false);
    let hook = Hook::new(|event: &Event<'_>| {
        if matches!(event, Event::Bytes) && !done.swap(true, SeqCst) {
            for name in super::world::names(&out).iter().filter(|name| name.starts_with(".packstone-restore-")) {
                fs::remove_file(out.join(name)).unwrap();
                fs::write(out.join(name), "evil").unwrap();
                chown(out.join(name), Some(NOBODY), Some(NOBODY)).unwrap();
            }
        }
    });
    let report = world.restore_with(snapshot, &world.options("out"), &hook).unwrap();
    assert!(done.load(SeqCst));
    assert_eq!(report.problem_count, 1, "{report:?}");
    let is = stat(&out.join("large"));
    assert_eq!((is.uid(), is.mode() & 0o6000), (NOBODY, 0), "what stands there is his, and no program of root's");
    assert_eq!(super::world::names(&out), ["large"]);
    // And the directory that was just made: another one of his has its name.
    let world = World::new();
    world.write("directory/file", "x");
    let snapshot = world.backup();
    let out = world.path("out");
    fs::create_dir(&out).unwrap();
    let hook = Hook::new(|event: &Event<'_>| {
        if let Event::Item(item) = event
            && item.action == Action::New
            && item.directory
        {
            fs::rename(out.join("directory"), out.join("moved")).unwrap();
            fs::create_dir(out.join("directory")).unwrap();
            chown(out.join("directory"), Some(NOBODY), Some(NOBODY)).unwrap();
        }
    });
    let report = world.restore_with(snapshot, &world.options("out"), &hook).unwrap();
    assert_eq!(report.problem_count, 1, "what went into the one that was moved is not where it belongs: {report:?}");
    assert_eq!(report.problems[0].path, b"/directory");
    assert_eq!(stat(&out.join("directory")).uid(), NOBODY);
    assert_eq!(super::world::names(&out), ["directory", "moved", "moved/file"]);
}
