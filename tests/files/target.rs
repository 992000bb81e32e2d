use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use packstone::codec::tree::{Metadata, Node};
use packstone::files::apply::Applier;
use packstone::files::new_file::NewFile;
use packstone::files::stat::Kind;
use packstone::files::target::{Existing, Target, TargetError};

use super::root_of;

fn plain(mode: u32) -> Metadata {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    Metadata { mode, uid, gid, ..Metadata::default() }
}

/// Two directories side by side: one to restore into, one that must not change.
struct Field {
    place: tempfile::TempDir,
}

impl Field {
    fn new() -> Self {
        let place = tempfile::tempdir().unwrap();
        fs::create_dir(place.path().join("target")).unwrap();
        fs::create_dir(place.path().join("outside")).unwrap();
        fs::write(place.path().join("outside/file"), "untouched").unwrap();
        Self { place }
    }

    fn target(&self) -> std::path::PathBuf {
        self.place.path().join("target")
    }

    fn outside_is_untouched(&self) {
        let outside = self.place.path().join("outside");
        let names: Vec<_> = fs::read_dir(&outside).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["file"]);
        assert_eq!(fs::read(outside.join("file")).unwrap(), b"untouched");
    }
}

fn names(path: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn hostile_names_are_refused_by_every_operation() {
    let field = Field::new();
    let target = root_of(&field.target());
    let applier = Applier::new(true);
    let (made, _) =
        NewFile::create(&target, b"good", Existing::Refuse).unwrap().finish(&plain(0o600), &applier).unwrap();
    let seen = target.candidate(b"good", Kind::File).unwrap().seen().unwrap();
    for name in [&b""[..], b".", b"..", b"/", b"a/b", b"../outside/file", b"/etc/passwd", b"a\0b"] {
        assert!(target.candidate(name, Kind::File).is_none());
        let refused = |error: Option<TargetError>| assert!(matches!(error, Some(TargetError::Name(n)) if n == name));
        refused(target.stat(name).err());
        refused(target.directory(name).err());
        refused(target.make_directory(name).err());
        refused(NewFile::create(&target, name, Existing::Replace).err());
        refused(target.make_special(name, &Node::Fifo, &plain(0o600), &applier, Existing::Replace).err());
        refused(target.hard_link(&target, b"good", made, name, Existing::Replace).err());
        refused(target.hard_link(&target, name, made, b"new", Existing::Replace).err());
        refused(target.update(name, &seen, &plain(0o600), &applier).err());
        refused(target.remove(name).err());
    }
    assert_eq!(names(&field.target()), ["good"]);
    field.outside_is_untouched();
}

#[test]
fn a_link_in_the_way_is_not_followed() {
    let field = Field::new();
    symlink("../outside", field.target().join("directory")).unwrap();
    symlink("../outside/file", field.target().join("file")).unwrap();
    symlink("../outside/new", field.target().join("dangling")).unwrap();
    let target = root_of(&field.target());
    for error in [target.directory(b"directory").err(), target.make_directory(b"directory").err()] {
        assert!(matches!(error, Some(TargetError::Conflict { kind: Kind::Symlink, .. })), "{error:?}");
    }
    for name in [&b"file"[..], b"dangling", b"directory"] {
        let error = NewFile::create(&target, name, Existing::Refuse).unwrap_err();
        assert!(matches!(error, TargetError::Conflict { kind: Kind::Symlink, .. }), "{error:?}");
        let file = NewFile::create(&target, name, Existing::Replace).unwrap();
        file.write_at(0, b"new").unwrap();
        file.finish(&plain(0o644), &Applier::new(true)).unwrap();
    }
    for name in ["file", "dangling", "directory"] {
        assert!(fs::symlink_metadata(field.target().join(name)).unwrap().is_file());
        assert_eq!(fs::read(field.target().join(name)).unwrap(), b"new");
    }
    field.outside_is_untouched();
}

#[test]
fn a_link_put_in_place_of_an_open_directory_redirects_nothing() {
    let field = Field::new();
    let target = root_of(&field.target());
    let (directory, _) = target.make_directory(b"d").unwrap();
    fs::rename(field.target().join("d"), field.target().join("moved")).unwrap();
    symlink("../outside", field.target().join("d")).unwrap();
    let file = NewFile::create(&directory, b"file", Existing::Replace).unwrap();
    file.finish(&plain(0o600), &Applier::new(true)).unwrap();
    directory.make_directory(b"inner").unwrap();
    directory.remove(b"file").unwrap();
    assert!(directory.finish(&plain(0o700), &Applier::new(true)).problems.is_empty());
    assert_eq!(names(&field.target().join("moved")), ["inner"]);
    field.outside_is_untouched();
}

#[test]
fn an_existing_inode_is_never_written_into() {
    let field = Field::new();
    let (file, link) = (field.place.path().join("outside/file"), field.target().join("file"));
    fs::hard_link(&file, &link).unwrap();
    let before = fs::metadata(&file).unwrap();
    let target = root_of(&field.target());
    let new = NewFile::create(&target, b"file", Existing::Replace).unwrap();
    new.write_at(0, b"restored").unwrap();
    // Until it is finished the old one stands there.
    assert_eq!(fs::read(&link).unwrap(), b"untouched");
    new.finish(&plain(0o600), &Applier::new(true)).unwrap();
    assert_eq!(fs::read(&link).unwrap(), b"restored");
    field.outside_is_untouched();
    let after = fs::metadata(&file).unwrap();
    assert_eq!((after.mode(), after.mtime_nsec()), (before.mode(), before.mtime_nsec()));
    assert_eq!(names(&field.target()), ["file"]);
}

#[test]
fn a_directory_in_the_way_is_a_conflict_for_anything_else() {
    let field = Field::new();
    let target = root_of(&field.target());
    target.make_directory(b"d").unwrap();
    let is_conflict = |error: Option<TargetError>| {
        assert!(matches!(error, Some(TargetError::Conflict { kind: Kind::Directory, .. })), "{error:?}");
    };
    let applier = Applier::new(true);
    for existing in [Existing::Refuse, Existing::Replace] {
        is_conflict(NewFile::create(&target, b"d", existing).err());
        is_conflict(target.make_special(b"d", &Node::Fifo, &plain(0o600), &applier, existing).err());
    }
    // A directory that appears while a file is on its way.
    fs::write(field.target().join("late"), "").unwrap();
    let file = NewFile::create(&target, b"late", Existing::Replace).unwrap();
    fs::remove_file(field.target().join("late")).unwrap();
    fs::create_dir(field.target().join("late")).unwrap();
    is_conflict(file.finish(&plain(0o600), &applier).err());
    assert_eq!(names(&field.target()), ["d", "late"]);
}

#[test]
fn a_file_that_comes_in_pieces_is_opened_again_only_if_it_is_ours() {
    let field = Field::new();
    let target = root_of(&field.target());
    let applier = Applier::new(true);
    for existing in [false, true] {
        let path = field.target().join("pieces");
        if existing {
            fs::write(&path, "old").unwrap();
        }
        let file = NewFile::create(&target, b"pieces", Existing::Replace).unwrap();
        file.set_length(1 << 20).unwrap();
        file.write_at(1 << 19, b"middle").unwrap();
        let file = file.suspend().unwrap().reopen().unwrap();
        file.write_at(0, b"first").unwrap();
        file.finish(&plain(0o640), &applier).unwrap();
        let content = fs::read(&path).unwrap();
        assert_eq!((content.len(), &content[..5], &content[1 << 19..][..6]), (1 << 20, &b"first"[..], &b"middle"[..]));
        assert!(fs::metadata(&path).unwrap().blocks() * 512 < 1 << 19, "what was not written is a hole");
    }
    // Somebody puts a link to another file in its place.
    let pending = NewFile::create(&target, b"swapped", Existing::Refuse).unwrap().suspend().unwrap();
    fs::rename(field.target().join("swapped"), field.target().join("moved")).unwrap();
    symlink("../outside/file", field.target().join("swapped")).unwrap();
    assert!(pending.clone().reopen().is_err());
    fs::remove_file(field.target().join("swapped")).unwrap();
    fs::hard_link(field.place.path().join("outside/file"), field.target().join("swapped")).unwrap();
    assert!(matches!(pending.clone().reopen(), Err(TargetError::Replaced(_))));
    pending.discard();
    assert_eq!(names(&field.target()), ["moved", "pieces", "swapped"]);
    field.outside_is_untouched();
}

/// The number of an inode is given to the next one as soon as it is free, and that one may be anybody's.
#[test]
fn a_file_of_the_same_number_is_not_the_same_file() {
    if !super::is_root() {
        println!("SKIPPED target::a_file_of_the_same_number_is_not_the_same_file: a file of somebody else needs root");
        return;
    }
    let field = Field::new();
    let target = root_of(&field.target());
    let path = field.target().join("file");
    let mut same = 0;
    for _ in 0..50 {
        let pending = NewFile::create(&target, b"file", Existing::Refuse).unwrap().suspend().unwrap();
        let inode = fs::metadata(&path).unwrap().ino();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "his").unwrap();
        std::os::unix::fs::chown(&path, Some(65_534), Some(65_534)).unwrap();
        same += u32::from(fs::metadata(&path).unwrap().ino() == inode);
        assert!(matches!(pending.clone().reopen(), Err(TargetError::Replaced(_))));
        pending.discard();
        assert_eq!(fs::read(&path).unwrap(), b"his");
        fs::remove_file(&path).unwrap();
    }
    println!("{same} of 50 got the same number");
}

#[test]
fn a_file_with_a_second_name_gets_no_set_id_bits() {
    let field = Field::new();
    let target = root_of(&field.target());
    let applier = Applier::new(true);
    let file = NewFile::create(&target, b"program", Existing::Refuse).unwrap();
    fs::hard_link(field.target().join("program"), field.target().join("second")).unwrap();
    let (_, problems) = file.finish(&plain(0o4755), &applier).unwrap();
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert_eq!(fs::metadata(field.target().join("program")).unwrap().mode() & 0o7777, 0o755);
    // One whose only name is gone is nothing that was restored.
    let file = NewFile::create(&target, b"gone", Existing::Refuse).unwrap();
    fs::remove_file(field.target().join("gone")).unwrap();
    assert!(matches!(file.finish(&plain(0o644), &applier), Err(TargetError::Replaced(_))));
}

#[test]
fn nothing_temporary_stays_when_a_name_cannot_be_given() {
    let field = Field::new();
    let target = root_of(&field.target());
    let applier = Applier::new(true);
    let is_right = |result: Result<_, TargetError>| assert!(result.is_err());
    // A directory that appears in the place of what is to be replaced, again and again.
    for _ in 0..50 {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..20 {
                    let path = field.target().join("x");
                    let _ = symlink("nowhere", &path).and_then(|()| fs::remove_file(&path));
                    let _ = fs::create_dir(&path).and_then(|()| fs::remove_dir(&path));
                }
            });
            for _ in 0..20 {
                let _ = target.make_special(b"x", &Node::Fifo, &plain(0o600), &applier, Existing::Replace);
                let _ = target.remove(b"x");
            }
        });
    }
    let _ = target.remove(b"x");
    assert!(names(&field.target()).is_empty(), "{:?}", names(&field.target()));
    let node = Node::Symlink { target: vec![b'x'; 1 << 13] };
    is_right(target.make_special(b"x", &node, &plain(0o777), &applier, Existing::Replace));
    assert!(names(&field.target()).is_empty());
}

#[test]
fn a_file_that_is_given_up_leaves_nothing() {
    let field = Field::new();
    let target = root_of(&field.target());
    fs::write(field.target().join("old"), "old").unwrap();
    for name in [&b"old"[..], b"new"] {
        drop(NewFile::create(&target, name, Existing::Replace).unwrap());
        NewFile::create(&target, name, Existing::Replace).unwrap().suspend().unwrap().discard();
    }
    assert_eq!(names(&field.target()), ["old"]);
    assert_eq!(fs::read(field.target().join("old")).unwrap(), b"old");
}

#[test]
fn hard_links_lead_only_to_what_was_made() {
    let field = Field::new();
    let target = root_of(&field.target());
    let (directory, _) = target.make_directory(b"d").unwrap();
    let applier = Applier::new(true);
    let file = NewFile::create(&target, b"one", Existing::Refuse).unwrap();
    let (made, _) = file.finish(&plain(0o600), &applier).unwrap();
    fs::write(field.target().join("d/two"), "in the way").unwrap();
    assert!(target.hard_link(&target, b"one", made, b"d", Existing::Replace).is_err());
    let refused = directory.hard_link(&target, b"one", made, b"two", Existing::Refuse);
    assert!(matches!(refused, Err(TargetError::Conflict { .. })));
    for _ in 0..2 {
        directory.hard_link(&target, b"one", made, b"two", Existing::Replace).unwrap();
    }
    assert_eq!(fs::metadata(field.target().join("one")).unwrap().nlink(), 2);
    assert_eq!(names(&field.target().join("d")), ["two"]);
    // The source is not what it was.
    fs::rename(field.target().join("one"), field.target().join("kept")).unwrap();
    fs::hard_link(field.place.path().join("outside/file"), field.target().join("one")).unwrap();
    let error = directory.hard_link(&target, b"one", made, b"three", Existing::Replace).unwrap_err();
    assert!(matches!(error, TargetError::Replaced(_)), "{error:?}");
    assert_eq!(names(&field.target().join("d")), ["two"]);
    // A symbolic link can have two names as well.
    let node = Node::Symlink { target: b"../outside".to_vec() };
    let (made, _) = target.make_special(b"s", &node, &plain(0o777), &applier, Existing::Refuse).unwrap();
    directory.hard_link(&target, b"s", made, b"s", Existing::Refuse).unwrap();
    assert_eq!(fs::symlink_metadata(field.target().join("d/s")).unwrap().nlink(), 2);
    field.outside_is_untouched();
}

#[test]
fn special_files_replace_what_is_there() {
    let field = Field::new();
    let target = root_of(&field.target());
    symlink("../outside/file", field.target().join("x")).unwrap();
    let applier = Applier::new(true);
    for node in [Node::Symlink { target: b"other".to_vec() }, Node::Fifo, Node::Socket] {
        let refused = target.make_special(b"x", &node, &plain(0o600), &applier, Existing::Refuse);
        assert!(matches!(refused, Err(TargetError::Conflict { .. })));
        target.make_special(b"x", &node, &plain(0o600), &applier, Existing::Replace).unwrap();
    }
    assert_eq!(target.stat(b"x").unwrap().unwrap().kind, Kind::Socket);
    assert_eq!(names(&field.target()), ["x"]);
    field.outside_is_untouched();
}

#[test]
fn removing_stays_inside() {
    let field = Field::new();
    let base = field.target().join("d");
    fs::create_dir_all(base.join("a/b/c")).unwrap();
    symlink("../../outside", base.join("link")).unwrap();
    symlink("../../../outside/file", base.join("a/link")).unwrap();
    fs::hard_link(field.place.path().join("outside/file"), base.join("a/b/file")).unwrap();
    let target = root_of(&field.target());
    target.remove(b"d").unwrap();
    target.remove(b"d").unwrap();
    symlink("../outside", field.target().join("top")).unwrap();
    target.remove(b"top").unwrap();
    assert!(names(&field.target()).is_empty());
    field.outside_is_untouched();
}

#[test]
fn a_mount_point_is_never_emptied() {
    // /proc is mounted on /; were the check missing, opening would work and only the unlinks would fail.
    let root = Target::open(Path::new("/"), false).unwrap().root();
    let error = root.remove(b"proc").unwrap_err();
    assert!(matches!(error, TargetError::Mounted(_)), "{error:?}");
}

#[test]
fn a_full_disk_is_recognised() {
    // Every write to this device says that there is no space.
    let source = fs::write("/dev/full", "x").unwrap_err();
    let error = TargetError::Io { operation: "write", name: b"file\n".to_vec(), source };
    assert!(error.is_full());
    assert!(error.to_string().starts_with("\"file\\n\": write: "));
}

#[test]
fn a_target_is_made_with_its_ancestors_only_when_asked() {
    let field = Field::new();
    let path = field.target().join("a/b");
    assert!(Target::open(&path, false).is_err());
    let target = Target::open(&path, true).unwrap();
    assert!(target.root().names().unwrap().is_empty());
    target.sync().unwrap();
}
