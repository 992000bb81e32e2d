use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use packstone::base::time::Time;
use packstone::codec::tree::{Metadata, Node, Xattr};
use packstone::files::apply::{Applier, Severity, What};
use packstone::files::directory::Directory;
use packstone::files::metadata::{APPEND, FLAGS_MASK, IMMUTABLE, capture};
use packstone::files::new_file::NewFile;
use packstone::files::owner::Owners;
use packstone::files::stat::Kind;
use packstone::files::target::{Existing, TargetError};
use packstone::files::xattr::{self, Place};

use super::{is_root, ran_as_ordinary_user, root_of};

/// `NODUMP` and `NOATIME`: an ordinary owner may set them.
const HARMLESS_FLAGS: u32 = 0x40 | 0x80;

/// `user::rw-,user:12345:r--,group::r--,mask::r--,other::---` as acl(5) stores it: version 2, then tag, rights, id.
fn acl() -> Vec<u8> {
    let mut acl = 2u32.to_le_bytes().to_vec();
    for (tag, rights, id) in
        [(1u16, 6u16, u32::MAX), (2, 4, 12_345), (4, 4, u32::MAX), (16, 4, u32::MAX), (32, 0, u32::MAX)]
    {
        acl.extend_from_slice(&tag.to_le_bytes());
        acl.extend_from_slice(&rights.to_le_bytes());
        acl.extend_from_slice(&id.to_le_bytes());
    }
    acl
}

/// `cap_net_raw=ep`, revision 2; capabilities(7), "File capabilities".
fn capability() -> Vec<u8> {
    let mut value = vec![1, 0, 0, 2];
    value.extend_from_slice(&(1u32 << 13).to_le_bytes());
    value.extend_from_slice(&[0; 12]);
    value
}

fn xattrs(list: &[(&str, Vec<u8>)]) -> Vec<Xattr> {
    let mut xattrs: Vec<_> =
        list.iter().map(|(name, value)| Xattr { name: name.as_bytes().to_vec(), value: value.clone() }).collect();
    xattrs.sort_by(|a, b| a.name.cmp(&b.name));
    xattrs
}

fn metadata(mode: u32) -> Metadata {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    // Half a second before 1970 and then some.
    let mtime = Time { seconds: -86_401, nanoseconds: 123_456_789 };
    Metadata { mode, uid, gid, mtime, links: 1, ..Metadata::default() }
}

/// What a backup would store of a name now.
fn captured(place: &Path, name: &[u8]) -> (Metadata, Option<Node>) {
    let directory = Directory::open_root(place).unwrap();
    let stat = directory.stat(name).unwrap();
    let file = matches!(stat.kind, Kind::File | Kind::Directory).then(|| directory.open_file(name).unwrap());
    let place = file.as_ref().map_or(Place::Named(&directory, name), |file| Place::Open(file.as_fd()));
    let captured = capture(&place, &stat, 7, &Owners::new()).unwrap();
    assert!(captured.problems.is_empty(), "{:?}", captured.problems);
    assert_eq!(captured.metadata.device, 7);
    (captured.metadata, captured.node)
}

/// What can be set at all.
fn settable(metadata: &Metadata) -> (u32, u32, u32, Time, Vec<Xattr>, u32) {
    let Metadata { mode, uid, gid, mtime, xattrs, flags, .. } = metadata.clone();
    (mode, uid, gid, mtime, xattrs, flags)
}

#[test]
fn a_file_comes_back_with_everything() {
    let place = tempfile::tempdir().unwrap();
    let target = root_of(place.path());
    let mut wanted = metadata(0o640);
    let mut list = vec![
        ("user.comment", b"text\0and \xff".to_vec()),
        ("user.empty", vec![]),
        ("user.large", vec![7; 3_000]),
        ("system.posix_acl_access", acl()),
    ];
    if is_root() {
        list.push(("security.capability", capability()));
        list.push(("trusted.packstone", b"root's".to_vec()));
        (wanted.uid, wanted.gid, wanted.mode) = (12_345, 23_456, 0o6640);
    }
    wanted.xattrs = xattrs(&list);
    wanted.flags = HARMLESS_FLAGS;
    let file = NewFile::create(&target, b"file", Existing::Refuse).unwrap();
    file.write_at(5, b"data").unwrap();
    let (_, problems) = file.finish(&wanted, &Applier::new(true)).unwrap();
    assert!(problems.is_empty(), "{problems:?}");
    assert_eq!(settable(&captured(place.path(), b"file").0), settable(&wanted));
    assert_eq!(fs::read(place.path().join("file")).unwrap(), b"\0\0\0\0\0data");
}

#[test]
fn a_read_only_file_takes_its_attributes_from_an_ordinary_user() {
    if ran_as_ordinary_user("metadata::a_read_only_file_takes_its_attributes_from_an_ordinary_user") {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let target = root_of(place.path());
    let wanted = Metadata { xattrs: xattrs(&[("user.x", b"y".to_vec())]), ..metadata(0o444) };
    let file = NewFile::create(&target, b"file", Existing::Refuse).unwrap();
    let (_, problems) = file.finish(&wanted, &Applier::new(false)).unwrap();
    assert!(problems.is_empty(), "{problems:?}");
    assert_eq!(settable(&captured(place.path(), b"file").0), settable(&wanted));
}

#[test]
fn an_ordinary_user_never_makes_a_set_id_program_of_his_own() {
    if ran_as_ordinary_user("metadata::an_ordinary_user_never_makes_a_set_id_program_of_his_own") {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let target = root_of(place.path());
    let mut wanted = metadata(0o6755);
    (wanted.uid, wanted.gid) = (0, 0);
    wanted.xattrs = xattrs(&[("security.capability", capability())]);
    let file = NewFile::create(&target, b"program", Existing::Refuse).unwrap();
    let (_, problems) = file.finish(&wanted, &Applier::new(false)).unwrap();
    // Owners and set-id bits are what he may not set, and knows. A capability is missed.
    let what: Vec<_> = problems.iter().map(|problem| (problem.what.clone(), problem.severity)).collect();
    let (note, missed) = (Severity::Note, Severity::NotPermitted);
    assert_eq!(what, [(What::Owner, note), (What::SetIdBits, note), (What::Capabilities, missed)]);
    let (found, _) = captured(place.path(), b"program");
    assert_eq!((found.mode, found.xattrs.len()), (0o755, 0));
    // His own may be one.
    let file = NewFile::create(&target, b"own", Existing::Refuse).unwrap();
    assert!(file.finish(&metadata(0o4755), &Applier::new(false)).unwrap().1.is_empty());
    assert_eq!(captured(place.path(), b"own").0.mode, 0o4755);
}

#[test]
fn special_files_come_back_without_being_followed() {
    let place = tempfile::tempdir().unwrap();
    fs::write(place.path().join("elsewhere"), "").unwrap();
    let target = root_of(place.path());
    let before = captured(place.path(), b"elsewhere").0;
    let mut all = vec![
        (&b"link"[..], Node::Symlink { target: b"elsewhere".to_vec() }, 0o777),
        (b"far\n\xff", Node::Symlink { target: [b'x'; 4_000].to_vec() }, 0o777),
        (b"fifo", Node::Fifo, 0o622),
        (b"socket", Node::Socket, 0o1755),
    ];
    if is_root() {
        all.push((b"null", Node::CharacterDevice { major: 1, minor: 3 }, 0o666));
        all.push((b"disk", Node::BlockDevice { major: 259, minor: 70_000 }, 0o660));
    }
    for (name, node, mode) in all {
        let mut wanted = metadata(mode);
        if is_root() {
            (wanted.uid, wanted.gid) = (12_345, 23_456);
            wanted.xattrs = xattrs(&[("trusted.x", b"y".to_vec())]);
        }
        let (_, problems) = target.make_special(name, &node, &wanted, &Applier::new(true), Existing::Refuse).unwrap();
        assert!(problems.is_empty(), "{name:?} {problems:?}");
        let (found, found_node) = captured(place.path(), name);
        assert_eq!(settable(&found), settable(&wanted), "{name:?}");
        assert_eq!(found_node, Some(node));
    }
    assert_eq!(captured(place.path(), b"elsewhere").0, before);
}

#[test]
fn directories_get_theirs_at_the_end_and_stay_workable_until_then() {
    if ran_as_ordinary_user("metadata::directories_get_theirs_at_the_end_and_stay_workable_until_then") {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let target = root_of(place.path());
    let applier = Applier::new(false);
    for round in 0..2 {
        let (directory, new) = target.make_directory(b"closed").unwrap();
        assert_eq!(new, round == 0);
        let file = NewFile::create(&directory, b"file", Existing::Replace).unwrap();
        file.finish(&metadata(0o400), &applier).unwrap();
        let wanted = Metadata { xattrs: xattrs(&[("user.x", b"y".to_vec())]), ..metadata(0o2100) };
        assert!(directory.finish(&wanted, &applier).problems.is_empty());
        let parent = Directory::open_root(place.path()).unwrap();
        let found = parent.stat(b"closed").unwrap();
        assert_eq!((found.mode, found.mtime), (0o2100, wanted.mtime));
    }
    target.remove(b"closed").unwrap();
}

#[test]
fn an_inherited_acl_does_not_stay() {
    let place = tempfile::tempdir().unwrap();
    let parent = Directory::open_root(place.path()).unwrap();
    xattr::set(&Place::Open(parent.as_fd()), b"system.posix_acl_default", &acl()).unwrap();
    let target = root_of(place.path());
    let file = NewFile::create(&target, b"file", Existing::Refuse).unwrap();
    let (_, problems) = file.finish(&metadata(0o644), &Applier::new(true)).unwrap();
    assert!(problems.is_empty(), "{problems:?}");
    let (directory, _) = target.make_directory(b"directory").unwrap();
    assert!(directory.finish(&metadata(0o755), &Applier::new(true)).problems.is_empty());
    for (name, mode) in [(&b"file"[..], 0o644), (b"directory", 0o755)] {
        let (found, _) = captured(place.path(), name);
        assert_eq!((found.mode, found.xattrs), (mode, vec![]), "{name:?}");
    }
}

#[test]
fn immutable_comes_last_and_does_not_stop_the_next_restore() {
    if !is_root() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let target = root_of(place.path());
    let applier = Applier::new(true);
    for flags in [IMMUTABLE, APPEND, IMMUTABLE | HARMLESS_FLAGS] {
        let wanted = Metadata { flags, ..metadata(0o600) };
        let (directory, _) = target.make_directory(b"directory").unwrap();
        let file = NewFile::create(&directory, b"file", Existing::Replace).unwrap();
        let (made, problems) = file.finish(&wanted, &applier).unwrap();
        assert!(problems.is_empty(), "{problems:?}");
        // A second name for it comes after its metadata.
        target.hard_link(&directory, b"file", made, b"second", Existing::Replace).unwrap();
        assert!(directory.finish(&wanted, &applier).problems.is_empty());
        assert_eq!(captured(place.path(), b"second").0.links, 2);
        let (found, _) = captured(&place.path().join("directory"), b"file");
        assert_eq!((found.flags & FLAGS_MASK, found.mtime), (flags, wanted.mtime));
    }
    // What has another name keeps its flags there.
    target.remove(b"directory").unwrap();
    assert_eq!(captured(place.path(), b"second").0.flags & FLAGS_MASK, IMMUTABLE | HARMLESS_FLAGS);
    target.remove(b"second").unwrap();
    assert!(target.names().unwrap().is_empty());
}

#[test]
fn metadata_of_an_existing_file_is_set_only_when_nobody_else_is_affected() {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    fs::write(at("file"), "x").unwrap();
    let target = root_of(place.path());
    let applier = Applier::new(true);
    let wanted = Metadata { xattrs: xattrs(&[("user.x", b"y".to_vec())]), ..metadata(0o604) };
    let seen = |name: &[u8], kind| target.candidate(name, kind).unwrap().seen().unwrap();
    assert!(target.update(b"file", &seen(b"file", Kind::File), &wanted, &applier).unwrap().is_empty());
    assert_eq!(settable(&captured(place.path(), b"file").0), settable(&wanted));
    fs::hard_link(at("file"), at("other")).unwrap();
    let file = seen(b"file", Kind::File);
    let error = target.update(b"file", &file, &metadata(0o777), &applier).unwrap_err();
    assert!(matches!(error, TargetError::Changed(_)), "{error}");
    assert_eq!(fs::metadata(at("other")).unwrap().permissions().mode() & 0o7777, 0o604);
    symlink("file", at("link")).unwrap();
    assert!(target.update(b"link", &file, &metadata(0o777), &applier).is_err());
    assert!(target.update(b"link", &seen(b"link", Kind::Symlink), &metadata(0o777), &applier).unwrap().is_empty());
    assert_eq!(captured(place.path(), b"link").0.mtime, wanted.mtime);
}

#[test]
fn owners_are_found_by_name_first() {
    let known =
        Metadata { user: b"root".to_vec(), group: b"no such group".to_vec(), uid: 4_711, gid: 4_712, ..metadata(0) };
    assert_eq!(Applier::new(false).owner_of(&known), (0, 4_712));
    assert_eq!(Applier::new(true).owner_of(&known), (4_711, 4_712));
}

#[test]
fn everything_is_read_and_set_when_core_dumps_are_forbidden() {
    if ran_as_ordinary_user("metadata::everything_is_read_and_set_when_core_dumps_are_forbidden") {
        return;
    }
    // From here on /proc/self belongs to root.
    packstone::base::sys::forbid_core_dumps().unwrap();
    let work = || {
        let place = tempfile::tempdir().unwrap();
        let target = root_of(place.path());
        let applier = Applier::new(false);
        let (_, problems) =
            target.make_special(b"fifo", &Node::Fifo, &metadata(0o622), &applier, Existing::Refuse).unwrap();
        assert!(problems.is_empty(), "{problems:?}");
        assert_eq!(settable(&captured(place.path(), b"fifo").0), settable(&metadata(0o622)));
        let node = Node::Symlink { target: b"x".to_vec() };
        let (_, problems) = target.make_special(b"link", &node, &metadata(0o777), &applier, Existing::Refuse).unwrap();
        assert!(problems.is_empty(), "{problems:?}");
        assert_eq!(captured(place.path(), b"link").1, Some(node));
    };
    work();
    std::thread::spawn(work).join().unwrap();
}
