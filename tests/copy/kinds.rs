//! Every kind of file comes over as it is, between repositories that cut differently.

use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::Path;

use packstone::base::id::ObjectId;
use packstone::codec::tree::{Content, Node};
use packstone::ops::restore;
use packstone::ops::select::{Filter, SnapshotArgument, SnapshotRef, argument};
use packstone::ops::tree_walk::{TreeWalk, Visited};
use packstone::ops::{Silent, restore::Options};
use packstone::repository::Repository;
use rustix::fs::{CWD, FileType, Mode, XattrFlags, lsetxattr, mknodat};

use super::pair::{LARGE, SMALL, Side, assert_sound, copy_all};
use super::tree::differences;
use super::world::{Noise, backup};

/// Whatever an ordinary user may make.
fn fill(tree: &Path) {
    let write = |name: &str, bytes: &[u8]| {
        let path = tree.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    };
    write("empty", b"");
    write("small", b"text\n");
    // More chunks than a list holds in line, here or there.
    write("large", &Noise(1).bytes(3 << 20));
    write("text", &Noise(2).text(2 << 20));
    write("one chunk there", &Noise(3).bytes(15 << 10));
    for n in 0..200 {
        write(&format!("many/{}/{n}", n % 7), &Noise(n).bytes((n as usize * 97) % 9000));
    }
    write("same/listing/a", b"a");
    write("same/too/listing/a", b"a");
    for name in [&b"caf\xe9 latin"[..], b"new\nline", &[b'n'; 255]] {
        fs::write(tree.join(std::ffi::OsStr::from_bytes(name)), name).unwrap();
    }
    symlink("small", tree.join("link")).unwrap();
    mknodat(CWD, tree.join("fifo"), FileType::Fifo, Mode::from_raw_mode(0o640), 0).unwrap();
    for (one, other) in [("large", "many/large too"), ("large", "z"), ("small", "small too"), ("link", "link too")] {
        fs::hard_link(tree.join(one), tree.join(other)).unwrap();
    }
    let holes = File::create(tree.join("holes")).unwrap();
    holes.write_all_at(b"begin", 0).unwrap();
    holes.write_all_at(&Noise(3).bytes(100_000), 3 << 20).unwrap();
    holes.set_len(1 << 30).unwrap();
    File::create(tree.join("one hole")).unwrap().set_len(1 << 20).unwrap();
    fs::set_permissions(tree.join("text"), fs::Permissions::from_mode(0o4750)).unwrap();
    fs::create_dir(tree.join("empty directory")).unwrap();
    for path in ["small", "many", "holes"] {
        lsetxattr(tree.join(path), "user.comment", b"\0\xffvalue", XattrFlags::empty()).unwrap();
    }
}

/// Every entry, and of contents all but the chunks.
fn entries(repository: &Repository, id: ObjectId) -> Vec<Visited> {
    let snapshot = repository.snapshot(id).unwrap();
    let without_chunks = |visited: packstone::ops::Result<Visited>| {
        let mut visited = visited.unwrap();
        match &mut visited.entry.node {
            Node::File(Content { chunks, digest, .. }) => {
                chunks.chunks.clear();
                chunks.depth = 0;
                // Present where there are several chunks.
                *digest = None;
            }
            Node::Directory { listing } => listing.chunks.clear(),
            _ => {}
        }
        visited
    };
    TreeWalk::new(repository, &snapshot, b"", snapshot.root.clone()).map(without_chunks).collect()
}

fn restore_to(repository: &Repository, id: ObjectId, part: &Path, target: &Path) {
    let options = Options { verify: true, ..Options::new(target.to_path_buf()) };
    let wanted = SnapshotArgument {
        snapshot: SnapshotRef::Prefix(id.to_string()),
        path: Some(part.as_os_str().as_bytes().to_vec()),
    };
    let (chosen, found) = argument(repository, &wanted, &Filter::default()).unwrap();
    let plan = restore::plan(repository, &chosen, &found, &options, &Silent).unwrap();
    let report = restore::execute(repository, plan, &Silent).unwrap();
    assert!(report.is_complete(), "{report:#?}");
}

#[test]
fn every_kind_comes_over_whichever_way_it_is_cut() {
    for (from, into) in [(SMALL, LARGE), (LARGE, SMALL), (SMALL, SMALL)] {
        let folder = tempfile::tempdir().unwrap();
        let tree = folder.path().join("tree");
        fs::create_dir(&tree).unwrap();
        fill(&tree);
        let (source, destination) = (Side::new(1, from).open(), Side::new(2, into).open());
        let saved = backup(&source, &tree).unwrap().snapshot.unwrap();
        let [copied] = copy_all(&source, &destination).try_into().unwrap();
        assert_eq!(entries(&source, saved), entries(&destination, copied.id));
        let (one, other) = (source.snapshot(saved).unwrap(), destination.snapshot(copied.id).unwrap());
        assert_eq!(other.original, Some(saved));
        assert_ne!(one.root, other.root);
        let same = packstone::codec::snapshot::Snapshot {
            root: one.root.clone(),
            original: None,
            problems: one.problems.clone(),
            ..other
        };
        assert_eq!(one, same);
        assert_sound(&destination);
        let (here, there) = (folder.path().join("here"), folder.path().join("there"));
        restore_to(&source, saved, &tree, &here);
        restore_to(&destination, copied.id, &tree, &there);
        assert_eq!(differences(&here, &there), Vec::<String>::new());
        assert_eq!(differences(&tree, &there), Vec::<String>::new());
    }
}
