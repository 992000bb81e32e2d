//! Every kind of file comes back as it was.

use std::ffi::OsStr;
use std::fs::{self, File, FileTimes};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use packstone::ops::{Action, Silent};
use rustix::fs::{CWD, FileType, Mode, XattrFlags, lsetxattr, makedev, mknodat};

use super::world::{Event, Hook, World, is_root, noise, ran_as_ordinary_user};

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Whatever this user may make.
fn fill(world: &World) {
    let tree = world.tree();
    world.write("empty", "");
    world.write("small", "text\n");
    world.write("large", noise(1, 9 << 20));
    world.write("twice/large", noise(1, 9 << 20));
    world.write("text", "the same line again\n".repeat(400_000));
    for n in 0..300 {
        world.write(&format!("many/{}/{n}", n % 7), noise(n, (n as usize * 97) % 9000));
    }
    for name in [&b"caf\xe9 latin"[..], b"new\nline", b"\x1b[31mred", b" ", b"-rf", &[b'n'; 255]] {
        fs::write(tree.join(OsStr::from_bytes(name)), name).unwrap();
    }
    symlink("small", tree.join("link")).unwrap();
    symlink("../../nowhere\n", tree.join("broken link")).unwrap();
    mknodat(CWD, tree.join("fifo"), FileType::Fifo, Mode::from_raw_mode(0o640), 0).unwrap();
    drop(UnixListener::bind(tree.join("socket")).unwrap());
    fs::hard_link(tree.join("large"), tree.join("many/large too")).unwrap();
    fs::hard_link(tree.join("large"), tree.join("z")).unwrap();
    fs::hard_link(tree.join("fifo"), tree.join("fifo too")).unwrap();
    fs::hard_link(tree.join("link"), tree.join("link too")).unwrap();
    let holes = File::create(tree.join("holes")).unwrap();
    holes.write_all_at(b"begin", 0).unwrap();
    holes.write_all_at(&noise(3, 100_000), 3 << 20).unwrap();
    holes.set_len(10 << 30).unwrap();
    File::create(tree.join("one hole")).unwrap().set_len(1 << 20).unwrap();
    set_mode(&world.write("set-id", "#!"), 0o6755);
    set_mode(&world.write("nothing", "x"), 0o400);
    fs::create_dir_all(tree.join("shut/inner")).unwrap();
    world.write("shut/inner/file", "in a directory that may not be written");
    set_mode(&tree.join("shut/inner"), 0o555);
    fs::create_dir(tree.join("sticky")).unwrap();
    set_mode(&tree.join("sticky"), 0o1777);
    fs::create_dir(tree.join("empty directory")).unwrap();
    for path in ["small", "many", "holes"] {
        lsetxattr(tree.join(path), "user.comment", b"\0\xffvalue", XattrFlags::empty()).unwrap();
    }
    lsetxattr(tree.join("text"), "user.long", &vec![b'v'; 3000], XattrFlags::empty()).unwrap();
    let before = UNIX_EPOCH - Duration::new(1_000_000, 123_456_789);
    for name in ["empty", "small", "many", "twice"] {
        let file = File::open(tree.join(name)).unwrap();
        file.set_times(FileTimes::new().set_modified(before)).unwrap();
    }
}

#[test]
fn an_ordinary_users_files_come_back() {
    if ran_as_ordinary_user("kinds::an_ordinary_users_files_come_back") {
        return;
    }
    let world = World::new();
    fill(&world);
    let snapshot = world.backup();
    let mut options = world.options("out");
    options.verify = true;
    let report = world.restore(snapshot, &options);
    assert!(report.verified > 300, "{report:?}");
    world.assert_same("out");
    // Again: nothing is to be written, and everything stays as it is.
    let again = world.restore(snapshot, &options);
    assert_eq!((again.files, again.bytes), (0, 0), "{again:?}");
    world.assert_same("out");
    // Temporary directories are removed by their owner, who may not write here.
    for place in ["tree", "out"] {
        set_mode(&world.path(place).join("shut/inner"), 0o755);
    }
}

#[test]
fn roots_files_come_back() {
    if !is_root() {
        eprintln!("skipped: devices, owners and privileged attributes need root");
        return;
    }
    let world = World::new();
    fill(&world);
    let tree = world.tree();
    let device = |name, kind, minor| {
        let made = mknodat(CWD, tree.join(name), kind, Mode::from_raw_mode(0o600), makedev(1, minor));
        made.map_err(|error| eprintln!("skipped: {name}: {error}")).is_ok()
    };
    device("null", FileType::CharacterDevice, 3);
    device("ram", FileType::BlockDevice, 0);
    std::os::unix::fs::chown(tree.join("small"), Some(12_345), Some(54_321)).unwrap();
    std::os::unix::fs::chown(tree.join("set-id"), Some(1), Some(1)).unwrap();
    set_mode(&tree.join("set-id"), 0o6755);
    std::os::unix::fs::lchown(tree.join("link"), Some(77), Some(78)).unwrap();
    std::os::unix::fs::chown(tree.join("many/3"), Some(5), Some(6)).unwrap();
    // cap_net_raw+ep, version 2 (include/uapi/linux/capability.h).
    let capability = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    for (path, name, value) in
        [("text", "security.capability", &capability[..]), ("small", "trusted.note", b"t"), ("link", "trusted.l", b"t")]
    {
        if let Err(error) = lsetxattr(tree.join(path), name, value, XattrFlags::empty()) {
            eprintln!("skipped: {name}: {error}");
        }
    }
    let snapshot = world.backup();
    let mut options = world.options("out");
    options.verify = true;
    world.restore(snapshot, &options);
    world.assert_same("out");
    let again = world.restore(snapshot, &options);
    assert_eq!((again.files, again.bytes), (0, 0), "{again:?}");
    world.assert_same("out");
}

#[test]
fn paths_longer_than_the_kernel_takes_come_back() {
    let world = World::new();
    // 60 directories of 100 bytes: 6,000 bytes of path, made step by step.
    let name = "d".repeat(100);
    let mut at = rustix::fs::open(world.tree(), rustix::fs::OFlags::DIRECTORY, Mode::empty()).unwrap();
    for _ in 0..60 {
        rustix::fs::mkdirat(&at, &name, Mode::from_raw_mode(0o755)).unwrap();
        at = rustix::fs::openat(&at, &name, rustix::fs::OFlags::DIRECTORY, Mode::empty()).unwrap();
    }
    let flags = rustix::fs::OFlags::CREATE | rustix::fs::OFlags::WRONLY;
    let file = rustix::fs::openat(&at, "file", flags, Mode::from_raw_mode(0o644)).unwrap();
    rustix::io::write(&file, b"deep").unwrap();
    let snapshot = world.backup();
    let mut options = world.options("out");
    options.verify = true;
    let report = world.restore(snapshot, &options);
    assert_eq!((report.files, report.directories, report.verified), (1, 60, 1));
    let mut at = rustix::fs::open(world.path("out"), rustix::fs::OFlags::DIRECTORY, Mode::empty()).unwrap();
    for _ in 0..60 {
        at = rustix::fs::openat(&at, &name, rustix::fs::OFlags::DIRECTORY, Mode::empty()).unwrap();
    }
    let file = rustix::fs::openat(&at, "file", rustix::fs::OFlags::RDONLY, Mode::empty()).unwrap();
    let mut content = [0; 8];
    assert_eq!(rustix::io::read(&file, &mut content[..]).unwrap(), 4);
    assert_eq!(&content[..4], b"deep");
}

#[test]
fn sparse_makes_holes_of_zeros() {
    let world = World::new();
    let mut bytes = noise(1, 8 << 20);
    bytes[1 << 20..7 << 20].fill(0);
    world.write("zeros", &bytes);
    let snapshot = world.backup();
    let mut options = world.options("plain");
    world.restore(snapshot, &options);
    options.target = world.path("sparse");
    options.sparse = true;
    options.verify = true;
    world.restore(snapshot, &options);
    let blocks = |place: &str| fs::metadata(world.path(place).join("zeros")).unwrap().blocks() * 512;
    assert_eq!(fs::read(world.path("sparse/zeros")).unwrap(), bytes);
    assert!(blocks("plain") >= 8 << 20);
    assert!(blocks("sparse") <= 3 << 20, "{}", blocks("sparse"));
}

#[test]
fn a_part_of_a_snapshot_goes_directly_into_the_target() {
    let world = World::new();
    world.write("docs/a/one", "1");
    world.write("docs/two", "2");
    let snapshot = world.backup();
    let options = world.options("out");
    let part = [world.tree().as_os_str().as_bytes(), b"/docs/a"].concat();
    let plan = world.plan_part(snapshot, &part, &options, &Silent).unwrap();
    packstone::ops::restore::execute(&world.repository, plan, &Silent).unwrap();
    assert_eq!(super::world::names(&world.path("out")), ["one"]);
    // A target that was made for it is like the directory that went into it; one that holds something keeps what it has.
    let facts = |path: &str| {
        let stat = fs::metadata(world.path(path)).unwrap();
        (stat.mode(), stat.mtime(), stat.mtime_nsec())
    };
    assert_eq!(facts("out"), facts("tree/docs/a"));
    fs::create_dir(world.path("there")).unwrap();
    fs::write(world.path("there/other"), "x").unwrap();
    set_mode(&world.path("there"), 0o711);
    let plan = world.plan_part(snapshot, &part, &world.options("there"), &Silent).unwrap();
    packstone::ops::restore::execute(&world.repository, plan, &Silent).unwrap();
    assert_eq!(facts("there").0 & 0o777, 0o711);
    let file = [world.tree().as_os_str().as_bytes(), b"/docs/two"].concat();
    let mut options = world.options("file");
    options.verify = true;
    let plan = world.plan_part(snapshot, &file, &options, &Silent).unwrap();
    let report = packstone::ops::restore::execute(&world.repository, plan, &Silent).unwrap();
    assert_eq!(report.verified, 1);
    assert_eq!(super::world::names(&world.path("file")), ["two"]);
}

/// Story: a file with two names was read under the first one; then both went, and another file with two names came and got
/// the number of its inode. It was stored with the first one's content. The same can be seen when a file is written to.
#[test]
fn another_name_of_a_file_that_changed_since_is_read_again() {
    let world = World::new();
    let first = world.write("a", "before");
    fs::hard_link(&first, world.tree().join("z")).unwrap();
    // More files than the walk can be ahead of what is stored.
    for n in 0..4_000 {
        world.write(&format!("between/{n}"), "");
    }
    let hook = Hook::new(|event: &Event<'_>| {
        if let Event::Item(item) = event
            && item.action == Action::New
            && item.path.ends_with(b"/a")
        {
            fs::write(&first, "afterwards").unwrap();
        }
    });
    let snapshot = world.backup_with(&hook);
    world.restore(snapshot, &world.options("out"));
    assert_eq!(fs::read(world.path("out/a")).unwrap(), b"before");
    assert_eq!(fs::read(world.path("out/z")).unwrap(), b"afterwards");
}
