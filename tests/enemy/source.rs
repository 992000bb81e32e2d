//! What is backed up: files of several owners, with set-id bits and capabilities, and the tree beside the target that must not change.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, XattrFlags, makedev, mknodat, setxattr};

use super::ENEMY;

/// `security.capability`, revision 2: permitted and effective cap_net_raw.
const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
/// A user who is neither root nor the enemy.
const OTHER: u32 = 1_234;
/// Name, owner, group, mode, bytes, capability.
type Row = (&'static str, u32, u32, u32, usize, bool);

const FILES: [Row; 14] = [
    ("plain", 0, 0, 0o644, 700, false),
    ("secret", 0, 0, 0o600, 9_000, false),
    ("su", 0, 0, 0o4755, 5_000, false),
    ("wall", 0, 5, 0o2755, 300_000, false),
    // Rights that an access control list would have left are inside what the group has.
    ("of another", OTHER, OTHER, 0o664, 400, false),
    ("su of another", OTHER, OTHER, 0o4711, 120_000, false),
    ("ping", 0, 0, 0o755, 6_000, true),
    ("ping of another", OTHER, OTHER, 0o755, 200, true),
    ("his", ENEMY, ENEMY, 0o644, 800, false),
    ("his large", ENEMY, ENEMY, 0o600, 250_000, false),
    ("his su", ENEMY, ENEMY, 0o4755, 300, false),
    ("his with root's group", ENEMY, 0, 0o2755, 2_000, false),
    ("his ping", ENEMY, ENEMY, 0o755, 900, true),
    ("empty", 0, 0, 0o4755, 0, false),
];

/// Directories, and how many of the files are in each.
pub const DIRECTORIES: [&str; 5] = ["sub", "sub/deep", "other", "sticky", "more"];

/// Bytes that nothing else has.
fn content(path: &str, length: usize) -> Vec<u8> {
    format!("the snapshot's {path}; ").into_bytes().into_iter().cycle().take(length).collect()
}

fn file(path: &Path, bytes: &[u8], (uid, gid, mode, capability): (u32, u32, u32, bool)) {
    fs::write(path, bytes).unwrap();
    chown(path, Some(uid), Some(gid)).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    if capability {
        setxattr(path, "security.capability", &CAPABILITY, XattrFlags::empty()).unwrap();
    }
}

/// Makes the tree, whose directories belong to `owner`.
pub fn make(root: &Path, owner: u32) {
    let mut directories = vec![root.to_owned()];
    directories.extend(DIRECTORIES.iter().map(|name| root.join(name)));
    for (at, directory) in directories.iter().enumerate() {
        fs::create_dir(directory).unwrap();
        for (name, uid, gid, mode, length, capability) in FILES {
            // Large ones once or twice.
            if length < 100_000 || at < 2 {
                let path = directory.join(name);
                file(
                    &path,
                    &content(path.strip_prefix(root).unwrap().to_str().unwrap(), length),
                    (uid, gid, mode, capability),
                );
            }
        }
        symlink("plain", directory.join("link")).unwrap();
        symlink("/etc/passwd", directory.join("link of another")).unwrap();
        lchown(directory.join("link of another"), Some(OTHER), Some(OTHER)).unwrap();
    }
    fs::hard_link(root.join("sub/su"), root.join("other/su again")).unwrap();
    fs::hard_link(root.join("plain"), root.join("plain again")).unwrap();
    mknodat(CWD, root.join("pipe"), FileType::Fifo, Mode::from_raw_mode(0o622), 0).unwrap();
    mknodat(CWD, root.join("sub/null"), FileType::CharacterDevice, Mode::from_raw_mode(0o600), makedev(1, 3)).unwrap();
    for (at, directory) in directories.iter().enumerate() {
        chown(directory, Some(owner), Some(owner)).unwrap();
        let mode = match directory.file_name().and_then(|name| name.to_str()) {
            Some("sticky") => 0o1777,
            Some("more") => 0o775,
            _ => 0o755,
        };
        fs::set_permissions(directory, fs::Permissions::from_mode(mode)).unwrap();
        let old = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_600_000_000 + at as u64);
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if fs::symlink_metadata(&path).unwrap().is_file() {
                fs::File::options().write(true).open(&path).unwrap().set_modified(old).unwrap();
            }
        }
    }
    // A write took the bits of some away: those were set before the content was complete, and the times came last.
    for (directory, row) in directories.iter().flat_map(|directory| FILES.map(|row| (directory, row))) {
        if let Ok(found) = fs::metadata(directory.join(row.0)) {
            assert_eq!(found.mode() & 0o7777, row.3, "{}", row.0);
        }
    }
}

/// The files of root and of another that lie beside the target.
pub const CANARIES: [&str; 6] = ["shadow", "su", "ping", "of another", "below/file", "link"];

/// Files beside the target with the bytes of an entry of the snapshot, and other modes and times: linked into its place, they look
/// like something to be kept.
pub const TWINS: [(&str, u32, u32); 5] = [
    ("plain", 0, 0o600),
    ("sub/su", 0, 0o755),
    ("other/ping", 0, 0o755),
    ("of another", OTHER, 0o600),
    ("more/secret", 0, 0o644),
];

/// Makes them. The directory can be passed by anybody.
pub fn canaries(root: &Path) {
    fs::create_dir_all(root.join("below")).unwrap();
    for (name, attributes) in [
        ("shadow", (0, 0, 0o640, false)),
        ("su", (0, 0, 0o4755, false)),
        ("ping", (0, 0, 0o755, true)),
        ("of another", (OTHER, OTHER, 0o644, false)),
        ("below/file", (0, 0, 0o644, false)),
        // Names that the snapshot has too: who follows a link to this directory finds them.
        ("plain", (0, 0, 0o644, false)),
        ("secret", (0, 0, 0o600, false)),
        ("below/su", (0, 0, 0o4755, false)),
    ] {
        file(&root.join(name), format!("canary {name}").as_bytes(), attributes);
    }
    for (name, owner, mode) in TWINS {
        let row = FILES.iter().find(|row| name.ends_with(row.0)).unwrap();
        let path = root.join("twins").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        file(&path, &content(name, row.4), (owner, owner, mode, false));
    }
    symlink("shadow", root.join("link")).unwrap();
    for at in ["", "below", "twins", "twins/sub", "twins/other", "twins/more"].map(|name| root.join(name)) {
        fs::set_permissions(&at, fs::Permissions::from_mode(0o755)).unwrap();
    }
}
