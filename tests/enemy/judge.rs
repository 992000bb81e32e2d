//! Looks at what is there when everybody is done.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{lgetxattr, llistxattr};

use super::ENEMY;
use packstone::files::target::TEMPORARY_PREFIX;

/// Everything about an entry that a restore sets, and its content.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Facts {
    pub kind: &'static str,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime: (i64, i64),
    pub device: u64,
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The bytes of a file, the target of a link.
    pub content: Vec<u8>,
}

impl Facts {
    fn capability(&self) -> Option<&Vec<u8>> {
        self.xattrs.get(&b"security.capability"[..])
    }

    /// Whether somebody who is not the enemy answers for its bytes.
    fn is_guarded(&self) -> bool {
        self.uid != ENEMY
            || (self.mode & 0o2000 != 0 && self.gid != ENEMY && self.kind == "file")
            || self.capability().is_some()
    }

    /// Short enough to read.
    fn show(&self) -> String {
        let begin = String::from_utf8_lossy(&self.content[..self.content.len().min(60)]).into_owned();
        let evil = self.content.windows(4).position(|bytes| bytes == b"EVIL");
        format!(
            "{} {:04o} {}:{} {} bytes{} {:?}{}",
            self.kind,
            self.mode,
            self.uid,
            self.gid,
            self.content.len(),
            if self.capability().is_some() { " capability" } else { "" },
            begin,
            evil.map_or_else(String::new, |at| format!(", the enemy's from byte {at} on"))
        )
    }
}

pub type Tree = BTreeMap<PathBuf, Facts>;
pub type Inodes = BTreeSet<(u64, u64)>;

fn xattrs(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut list = vec![0; 1 << 14];
    let length = llistxattr(path, &mut list[..]).unwrap_or(0);
    let names = list[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let value = |name: &[u8]| {
        let mut value = vec![0; 1 << 12];
        let length = lgetxattr(path, name, &mut value[..]).unwrap_or(0);
        value.truncate(length);
        value
    };
    names.map(|name| (name.to_vec(), value(name))).collect()
}

/// Facts of one entry; nothing when it went away.
fn facts(path: &Path) -> Option<Facts> {
    let stat = fs::symlink_metadata(path).ok()?;
    let kind = stat.file_type();
    let (kind, content) = match () {
        () if kind.is_file() => ("file", fs::read(path).ok()?),
        () if kind.is_symlink() => ("link", fs::read_link(path).ok()?.into_os_string().into_encoded_bytes()),
        () if kind.is_dir() => ("directory", Vec::new()),
        () if kind.is_fifo() => ("pipe", Vec::new()),
        () if kind.is_socket() => ("socket", Vec::new()),
        () => ("device", Vec::new()),
    };
    Some(Facts {
        kind,
        mode: stat.mode() & 0o7777,
        uid: stat.uid(),
        gid: stat.gid(),
        mtime: (stat.mtime(), stat.mtime_nsec()),
        device: stat.rdev(),
        xattrs: xattrs(path),
        content,
    })
}

/// Everything beneath a directory, itself too; no link is followed, no other file system entered.
pub fn look(root: &Path) -> Tree {
    let mut found = Tree::new();
    let Ok(top) = fs::symlink_metadata(root) else { return found };
    let mut open = vec![root.to_owned()];
    while let Some(path) = open.pop() {
        let Ok(stat) = fs::symlink_metadata(&path) else { continue };
        if stat.dev() != top.dev() {
            continue;
        }
        if stat.is_dir() {
            open.extend(fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path()));
        }
        if let Some(facts) = facts(&path) {
            found.insert(path.strip_prefix(root).unwrap().to_owned(), facts);
        }
    }
    found
}

/// The inodes of all that is no directory.
pub fn inodes(root: &Path) -> Inodes {
    let all = look(root);
    let inner = all.iter().filter(|(_, facts)| facts.kind != "directory");
    inner
        .filter_map(|(path, _)| fs::symlink_metadata(root.join(path)).ok())
        .map(|stat| (stat.dev(), stat.ino()))
        .collect()
}

/// What is guarded must be the snapshot's, wherever the enemy put it, after so many restores before. `canaries` are looked at by themselves.
pub fn guarded(arena: &Path, snapshot: &Tree, canaries: &Inodes, turn: usize) -> Vec<String> {
    let mut faults = Vec::new();
    for (path, found) in look(arena) {
        let stat = fs::symlink_metadata(arena.join(&path)).ok();
        if !found.is_guarded() || stat.is_some_and(|stat| canaries.contains(&(stat.dev(), stat.ino()))) {
            continue;
        }
        if let Err(why) = judge(&found, snapshot) {
            faults.push(format!("{}: {why}: {}", path.display(), found.show()));
        }
    }
    faults.extend(late_names(arena, turn));
    faults
}

fn judge(found: &Facts, snapshot: &Tree) -> Result<(), &'static str> {
    let mut same_kind = snapshot.values().filter(|facts| facts.kind == found.kind);
    match found.kind {
        "directory" | "pipe" | "socket" => Ok(()),
        "link" => same_kind
            .any(|facts| facts.content == found.content)
            .then_some(())
            .ok_or("a link that the snapshot does not have"),
        "device" => same_kind
            .any(|facts| facts.device == found.device && facts.uid == found.uid && found.mode & !facts.mode == 0)
            .then_some(())
            .ok_or("a device that the snapshot does not have"),
        _ => {
            let owned = |facts: &&Facts| {
                (facts.uid, facts.gid) == (found.uid, found.gid)
                    && found.mode & 0o6000 & !facts.mode == 0
                    && (found.capability().is_none() || facts.capability() == found.capability())
            };
            if same_kind.clone().filter(owned).any(|facts| facts.content == found.content) {
                return Ok(());
            }
            // What was not finished is root's, for nobody else to open, and has no byte of another.
            let is_unfinished = found.uid == 0 && found.mode & !0o600 == 0 && found.capability().is_none();
            let part = |facts: &Facts| {
                found.content.len() <= facts.content.len()
                    && found.content.iter().zip(&facts.content).all(|(one, other)| one == other || *one == 0)
            };
            if is_unfinished && same_kind.any(part) {
                return Ok(());
            }
            Err("bytes that are not the snapshot's for a file of this owner, with these bits")
        }
    }
}

/// A directory that somebody else owns, and that is not everybody's, takes no file of the enemy after the restore.
fn late_names(arena: &Path, turn: usize) -> Vec<String> {
    let mut faults = Vec::new();
    for (path, found) in look(arena) {
        let is_late =
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&format!("late-evil-{turn}-")));
        let above = path.parent().and_then(|above| facts(&arena.join(above)));
        if is_late
            && found.uid == ENEMY
            && let Some(above) = above
            && above.uid != ENEMY
            && above.mode & 0o002 == 0
        {
            faults.push(format!(
                "{}: made by the enemy afterwards, in a directory of {}: {}",
                path.display(),
                above.uid,
                above.show()
            ));
        }
    }
    faults
}

/// How two trees differ, a sentence each; `matters` says which paths count.
pub fn differences(wanted: &Tree, found: &Tree, extra: bool, matters: impl Fn(&Path) -> bool) -> Vec<String> {
    let mut faults = Vec::new();
    for (path, one) in wanted.iter().filter(|(path, _)| matters(path)) {
        match found.get(path) {
            None => faults.push(format!("{}: is missing", path.display())),
            Some(other) if other != one => {
                let attributes = if one.xattrs == other.xattrs { "" } else { ", other attributes" };
                let times = if one.mtime == other.mtime { "" } else { ", another time" };
                let (one, other) = (one.show(), other.show());
                faults.push(format!("{}: {one} expected, {other} found{attributes}{times}", path.display()));
            }
            Some(_) => {}
        }
    }
    if extra {
        for path in found.keys().filter(|path| !wanted.contains_key(*path) && matters(path)) {
            faults.push(format!("{}: should not be there", path.display()));
        }
    }
    faults
}

/// Temporary names beneath a directory.
pub fn temporary(tree: &Tree) -> usize {
    let prefix = std::str::from_utf8(TEMPORARY_PREFIX).unwrap();
    tree.keys().filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix))).count()
}
