//! Compares two trees on disk: everything that a restore promises to bring back, found by a walk of its own.
//!
//! Compared: names, kinds, permission bits, owners, modification times to the nanosecond, extended attributes, groups of
//! hard links, contents, targets of symbolic links, device numbers, and roughly how much space files take (a hole must
//! not have become data).

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

#[derive(Debug, PartialEq, Eq)]
struct Facts {
    kind: &'static str,
    mode: u32,
    owner: (u32, u32),
    mtime: (i64, i64),
    device: u64,
    /// First path of the group of hard links, when there are several names.
    first_name: Option<Vec<u8>>,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    content: Vec<u8>,
    size: u64,
}

struct Found {
    facts: Facts,
    allocated: u64,
}

/// Every difference between two trees, one line each; the top directories themselves are not compared.
pub fn differences(one: &Path, other: &Path) -> Vec<String> {
    let (a, b) = (facts(one), facts(other));
    let mut lines = Vec::new();
    for (path, left) in &a {
        let shown = String::from_utf8_lossy(path);
        match b.get(path) {
            None => lines.push(format!("{shown}: missing in the second tree")),
            Some(right) => {
                if left.facts != right.facts {
                    lines.push(format!("{shown}: {:?} / {:?}", left.facts, right.facts));
                }
                // A hole costs nothing on either side; a block or two of slack for how each file system allocates.
                if right.allocated > left.allocated.saturating_mul(2) + (256 << 10) {
                    lines.push(format!("{shown}: {} bytes allocated, {} before", right.allocated, left.allocated));
                }
            }
        }
    }
    for path in b.keys().filter(|path| !a.contains_key(*path)) {
        lines.push(format!("{}: only in the second tree", String::from_utf8_lossy(path)));
    }
    lines
}

fn facts(root: &Path) -> BTreeMap<Vec<u8>, Found> {
    let mut found = BTreeMap::new();
    let mut groups: HashMap<(u64, u64), Vec<u8>> = HashMap::new();
    let mut open = vec![Vec::new()];
    while let Some(directory) = open.pop() {
        let at = root.join(OsStr::from_bytes(&directory));
        let mut names: Vec<Vec<u8>> =
            fs::read_dir(&at).unwrap().map(|entry| entry.unwrap().file_name().as_bytes().to_vec()).collect();
        names.sort();
        for name in names {
            let mut path = directory.clone();
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(&name);
            let full = root.join(OsStr::from_bytes(&path));
            let stat = fs::symlink_metadata(&full).unwrap();
            let kind = stat.file_type();
            if kind.is_dir() {
                open.push(path.clone());
            }
            let first_name = (!kind.is_dir() && stat.nlink() > 1)
                .then(|| groups.entry((stat.dev(), stat.ino())).or_insert_with(|| path.clone()).clone());
            let facts = Facts {
                kind: kind_of(&stat),
                mode: stat.mode() & 0o7777,
                owner: (stat.uid(), stat.gid()),
                mtime: (stat.mtime(), stat.mtime_nsec()),
                device: stat.rdev(),
                first_name,
                xattrs: xattrs(&full),
                content: content(&full, &stat),
                size: if kind.is_dir() { 0 } else { stat.size() },
            };
            found.insert(path, Found { facts, allocated: stat.blocks() * 512 });
        }
    }
    found
}

fn kind_of(stat: &fs::Metadata) -> &'static str {
    let kind = stat.file_type();
    match () {
        () if kind.is_dir() => "directory",
        () if kind.is_file() => "file",
        () if kind.is_symlink() => "symlink",
        () if kind.is_fifo() => "fifo",
        () if kind.is_socket() => "socket",
        () if kind.is_char_device() => "character device",
        () => "block device",
    }
}

/// The digest of a file, the target of a symbolic link. A file of more than a gigabyte is nearly all holes here: what is
/// hashed is its data and where that lies.
fn content(path: &Path, stat: &fs::Metadata) -> Vec<u8> {
    if stat.file_type().is_symlink() {
        return fs::read_link(path).unwrap().as_os_str().as_bytes().to_vec();
    }
    if !stat.is_file() {
        return Vec::new();
    }
    if stat.size() < 1 << 30 {
        return blake3::hash(&fs::read(path).unwrap()).as_bytes().to_vec();
    }
    use std::io::Read;
    let mut file = fs::File::open(path).unwrap();
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 1 << 20];
    let mut at = 0;
    while let Ok(data) = rustix::fs::seek(&file, rustix::fs::SeekFrom::Data(at)) {
        rustix::fs::seek(&file, rustix::fs::SeekFrom::Start(data)).unwrap();
        let length = file.read(&mut buffer).unwrap();
        at = data + length as u64;
        if buffer[..length].iter().any(|byte| *byte != 0) {
            hasher.update(&data.to_le_bytes());
            hasher.update(&buffer[..length]);
        }
    }
    hasher.finalize().as_bytes().to_vec()
}

fn xattrs(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut list = vec![0; 1 << 16];
    let length = rustix::fs::llistxattr(path, &mut list[..]).unwrap_or(0);
    let names = list[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let value = |name: &[u8]| {
        let mut value = vec![0; 1 << 16];
        let length = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap_or(0);
        value.truncate(length);
        value
    };
    names.map(|name| (name.to_vec(), value(name))).collect()
}
