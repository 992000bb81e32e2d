//! What only a real directory shows: modes, strays, occupied directories, left-overs.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use packstone::base::id::ObjectId;
use packstone::storage::local::Local;
use packstone::storage::{ErrorKind, Folder, ObjectName, Storage, Stored};

/// Tells the child process of a test which umask to take and where to work.
const CHILD: &str = "PACKSTONE_TEST_UMASK_CHILD";

fn everything_below(path: &Path) -> Vec<PathBuf> {
    let mut found = vec![path.to_path_buf()];
    if path.is_dir() {
        found.extend(fs::read_dir(path).unwrap().flat_map(|entry| everything_below(&entry.unwrap().path())));
    }
    found
}

#[test]
fn modes_do_not_depend_on_the_umask() {
    if let Ok(child) = std::env::var(CHILD) {
        let (umask, root) = child.split_once(' ').unwrap();
        rustix::process::umask(rustix::fs::Mode::from_bits_truncate(u32::from_str_radix(umask, 8).unwrap()));
        let storage = Local::create(Path::new(root)).unwrap();
        for bytes in [&b"one"[..], b"two"] {
            let id = ObjectId::of(bytes);
            for name in [ObjectName::Config, ObjectName::Pack(id), ObjectName::Head { generation: 1, id }] {
                storage.put(&name, bytes).unwrap();
            }
        }
        return;
    }
    // The umask belongs to the whole process: each one gets a process of its own.
    for umask in ["0", "022", "777"] {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("new").join("repository");
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "local::modes_do_not_depend_on_the_umask"])
            .env(CHILD, format!("{umask} {}", root.display()))
            .output()
            .unwrap();
        assert!(child.status.success(), "{umask}: {}", String::from_utf8_lossy(&child.stdout));
        let found = everything_below(&directory.path().join("new"));
        assert_eq!(found.iter().filter(|path| path.is_file()).count(), 5, "{umask}: {found:?}");
        for path in found {
            let wanted = if path.is_dir() { 0o700 } else { 0o400 };
            let mode = fs::symlink_metadata(&path).unwrap().permissions().mode() & 0o7777;
            assert_eq!(mode, wanted, "umask {umask}: {}", path.display());
        }
    }
}

#[test]
fn strays_are_named_and_never_listed() {
    let directory = tempfile::tempdir().unwrap();
    let storage = Local::create(directory.path()).unwrap();
    let id = ObjectId::of(b"x");
    storage.put(&ObjectName::Pack(id), b"x").unwrap();
    storage.put(&ObjectName::Key(id), b"x").unwrap();
    let keys = directory.path().join("keys");
    fs::write(keys.join("notes\n\x1b[31m"), b"").unwrap();
    fs::write(keys.join(std::ffi::OsStr::from_bytes(b"\xff")), b"").unwrap();
    fs::create_dir(keys.join(ObjectId::of(b"directory").to_string())).unwrap();
    symlink(keys.join(id.to_string()), keys.join(ObjectId::of(b"link").to_string())).unwrap();
    let packs = directory.path().join("packs");
    fs::create_dir(packs.join("zz")).unwrap();
    fs::create_dir_all(packs.join("00")).unwrap();
    fs::write(packs.join("00").join(ObjectId::of(b"x").to_string()), b"in the wrong folder").unwrap();

    assert_eq!(storage.list(Folder::Keys).unwrap().len(), 1);
    let strays = storage.strays(Folder::Keys).unwrap();
    assert_eq!(strays.len(), 4, "{strays:?}");
    assert!(strays.contains(&"keys/notes\\n\\x1b[31m".to_owned()), "{strays:?}");
    assert!(strays.contains(&"keys/\\xff".to_owned()), "{strays:?}");
    assert_eq!(storage.list(Folder::Packs).unwrap().len(), 1);
    let mut strays = storage.strays(Folder::Packs).unwrap();
    strays.sort();
    assert_eq!(strays, [format!("packs/00/{id}"), "packs/zz".to_owned()]);
    let error = storage.read(&ObjectName::Key(ObjectId::of(b"link")), 9).unwrap_err();
    assert_ne!(error.kind, ErrorKind::Absent, "a link is not followed, and is not nothing: {error}");
}

#[test]
fn only_a_free_directory_becomes_a_repository() {
    let directory = tempfile::tempdir().unwrap();
    let refused = |path: &Path| Local::create(path).unwrap_err().source.kind();

    let home = directory.path().join("home");
    fs::create_dir(&home).unwrap();
    fs::write(home.join("letter"), b"").unwrap();
    assert_eq!(refused(&home), io::ErrorKind::DirectoryNotEmpty);
    assert_eq!(everything_below(&home).len(), 2, "nothing was made there");

    let other = directory.path().join("other");
    fs::create_dir_all(other.join("packs/ab")).unwrap();
    fs::create_dir_all(other.join("tmp")).unwrap();
    fs::write(other.join("tmp/4121-0"), b"left over").unwrap();
    let storage = Local::create(&other).expect("what an interrupted creation left is completed");
    assert_eq!(storage.clean_temporary().unwrap(), 1);
    Local::create(&other).expect("twice is once");
    fs::write(other.join("packs/ab/picture.jpg"), b"").unwrap();
    assert_eq!(refused(&other), io::ErrorKind::DirectoryNotEmpty);
    fs::remove_file(other.join("packs/ab/picture.jpg")).unwrap();
    storage.put(&ObjectName::Key(ObjectId::of(b"x")), b"x").unwrap();
    Local::create(&other).expect("a key slot without a config is an interrupted creation");
    storage.put(&ObjectName::Segment(ObjectId::of(b"x")), b"x").unwrap();
    assert_eq!(refused(&other), io::ErrorKind::DirectoryNotEmpty);
    storage.put(&ObjectName::Config, b"x").unwrap();
    assert_eq!(refused(&other), io::ErrorKind::AlreadyExists);

    fs::write(directory.path().join("file"), b"").unwrap();
    assert!(Local::create(&directory.path().join("file")).is_err());
    assert!(Local::open(&directory.path().join("file")).is_err());
    assert_eq!(Local::open(&directory.path().join("absent")).unwrap_err().kind, ErrorKind::Absent);
}

#[test]
fn empty_folders_that_a_copy_left_behind_are_no_damage() {
    let directory = tempfile::tempdir().unwrap();
    let storage = Local::open(directory.path()).unwrap();
    for folder in Folder::ALL {
        assert_eq!(storage.list(folder).unwrap(), []);
    }
    assert_eq!(storage.clean_temporary().unwrap(), 0);
    assert_eq!(everything_below(directory.path()).len(), 1, "reading made nothing");
    let name = ObjectName::Pack(ObjectId::of(b"x"));
    assert_eq!(storage.put(&name, b"x").unwrap(), Stored::Created);
    assert_eq!(storage.read(&name, 1).unwrap(), b"x");
}

#[test]
fn an_object_damaged_in_place_is_not_taken_for_what_was_stored() {
    let directory = tempfile::tempdir().unwrap();
    let storage = Local::create(directory.path()).unwrap();
    let bytes = vec![9; 3_000_000];
    let name = ObjectName::Pack(ObjectId::of(&bytes));
    storage.put(&name, &bytes).unwrap();
    let path = directory.path().join(name.to_string());
    let damage = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = bytes.clone();
        change(&mut bytes);
        fs::remove_file(&path).unwrap();
        fs::write(&path, bytes).unwrap();
    };
    damage(&|bytes| bytes[2_999_999] ^= 1);
    assert!(storage.put(&name, &bytes).unwrap_err().to_string().contains("damaged"));
    damage(&|bytes| bytes.truncate(2_999_999));
    assert!(storage.put(&name, &bytes).unwrap_err().to_string().contains("damaged"));
    damage(&|_| {});
    assert_eq!(storage.put(&name, &bytes).unwrap(), Stored::Exists);
    assert_eq!(fs::read_dir(directory.path().join("tmp")).unwrap().count(), 0);
}
