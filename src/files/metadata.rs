//! Everything about an inode except its content, as a snapshot stores it.

use std::io;
use std::os::fd::AsFd;

use rustix::fs::ioctl_getflags;

use super::directory::Directory;
use super::owner::Owners;
use super::stat::{Kind, Stat};
use super::xattr::{self, Place};
use crate::base::shortage::is_shortage;
use crate::codec::tree::{Metadata, Node, Xattr};

/// Inode flags that are stored and restored (`FS_IOC_GETFLAGS`, ioctl_iflags(2)): compress, sync, immutable,
/// append-only, no-dump, no-atime, journal data, no tail-merging, sync directory, top of hierarchy, no copy-on-write.
///
/// Left out: what the kernel keeps for itself (extents, index, inline data, huge file, encrypted, verity), what cannot be
/// set on a finished tree (case folding: only on an empty directory), what needs an id that is not stored (project
/// inheritance), and what no file system implements (secure deletion, undeletable).
pub const FLAGS_MASK: u32 = COMPRESS
    | SYNC
    | IMMUTABLE
    | APPEND
    | NO_DUMP
    | NO_ATIME
    | JOURNAL_DATA
    | NO_TAIL
    | SYNC_DIRECTORY
    | TOP_DIRECTORY
    | NO_COPY_ON_WRITE;
const COMPRESS: u32 = 0x0000_0004;
const SYNC: u32 = 0x0000_0008;
/// Nothing about the inode may change; set last of all.
pub const IMMUTABLE: u32 = 0x0000_0010;
/// Data may only be added; set last of all.
pub const APPEND: u32 = 0x0000_0020;
const NO_DUMP: u32 = 0x0000_0040;
const NO_ATIME: u32 = 0x0000_0080;
const JOURNAL_DATA: u32 = 0x0000_4000;
const NO_TAIL: u32 = 0x0000_8000;
const SYNC_DIRECTORY: u32 = 0x0001_0000;
const TOP_DIRECTORY: u32 = 0x0002_0000;
/// Only takes effect on an empty file.
pub const NO_COPY_ON_WRITE: u32 = 0x0080_0000;

/// Something about an inode that could not be read. The rest is known.
#[derive(Debug)]
pub struct Problem {
    /// What: `extended attributes`, `extended attribute user.x`.
    pub what: String,
    /// What the system says.
    pub error: io::Error,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.what, self.error)
    }
}

/// See [`capture`].
#[derive(Debug)]
pub struct Captured {
    /// For the tree entry.
    pub metadata: Metadata,
    /// What the inode is. `None` for files and directories: the caller knows their content.
    pub node: Option<Node>,
    /// What is missing in `metadata`.
    pub problems: Vec<Problem>,
}

impl Captured {
    /// Takes the problem out that says nothing of the inode: this process has run out of something.
    pub fn take_shortage(&mut self) -> Option<io::Error> {
        let found = self.problems.iter().position(|problem| is_shortage(&problem.error))?;
        Some(self.problems.swap_remove(found).error)
    }
}

/// Collects what a tree entry says beside name and content. `place` is the inode that `stat` describes; flags are read
/// only when it is open. `device` is the snapshot's ordinal for `stat.device`.
///
/// A caller that wants all of it to be of one inode gives an open descriptor ([`Directory::open_inode`]).
///
/// # Errors
/// The target of a symbolic link cannot be read: without it there is nothing to store.
pub fn capture(place: &Place<'_>, stat: &Stat, device: u32, owners: &Owners) -> io::Result<Captured> {
    let node = match (stat.kind, place) {
        (Kind::File | Kind::Directory, _) => None,
        (Kind::Symlink, Place::Named(directory, name)) => Some(Node::Symlink { target: directory.read_link(name)? }),
        (Kind::Symlink, Place::Open(fd)) => {
            Some(Node::Symlink { target: rustix::fs::readlinkat(fd, "", Vec::new())?.into_bytes() })
        }
        (Kind::Fifo, _) => Some(Node::Fifo),
        (Kind::Socket, _) => Some(Node::Socket),
        (Kind::CharacterDevice, _) => Some(Node::CharacterDevice { major: stat.rdev.0, minor: stat.rdev.1 }),
        (Kind::BlockDevice, _) => Some(Node::BlockDevice { major: stat.rdev.0, minor: stat.rdev.1 }),
    };
    let mut problems = Vec::new();
    let metadata = Metadata {
        mode: stat.mode,
        uid: stat.uid,
        gid: stat.gid,
        user: owners.user(stat.uid),
        group: owners.group(stat.gid),
        mtime: stat.mtime,
        ctime: stat.ctime,
        btime: stat.btime,
        device,
        inode: stat.inode,
        links: stat.links,
        xattrs: captured_xattrs(place, &mut problems),
        flags: flags(place, stat.kind),
    };
    Ok(Captured { metadata, node, problems })
}

fn captured_xattrs(place: &Place<'_>, problems: &mut Vec<Problem>) -> Vec<Xattr> {
    let names = match xattr::names(place) {
        Ok(names) => names,
        Err(error) => {
            problems.push(Problem { what: "extended attributes".to_owned(), error });
            return Vec::new();
        }
    };
    let mut found = Vec::with_capacity(names.len());
    for name in names {
        match xattr::value(place, &name) {
            Ok(Some(value)) => found.push(Xattr { name, value }),
            Ok(None) => {}
            Err(error) => {
                let what = format!("extended attribute {}", crate::base::escape::Escaped(&name));
                problems.push(Problem { what, error });
            }
        }
    }
    found
}

/// What has a name and is neither a file nor a directory, taken hold of once: stat, target, attributes are of one inode,
/// whatever happens to the name meanwhile.
///
/// # Errors
/// What the kernel says; [`io::ErrorKind::NotFound`] when the name is gone.
pub fn capture_special(directory: &Directory, name: &[u8], owners: &Owners) -> io::Result<(Stat, Option<Captured>)> {
    let held = directory.open_inode(name)?;
    let stat = Stat::of(&held)?;
    if matches!(stat.kind, Kind::File | Kind::Directory) {
        return Ok((stat, None));
    }
    let captured = capture(&Place::Open(held.as_fd()), &stat, 0, owners)?;
    Ok((stat, Some(captured)))
}

/// All extended attributes, sorted by name; `None` when one of them cannot be read.
pub(super) fn xattrs(place: &Place<'_>) -> Option<Vec<Xattr>> {
    let mut problems = Vec::new();
    let found = captured_xattrs(place, &mut problems);
    problems.is_empty().then_some(found)
}

/// Flags of an open file or directory; none where the file system has none.
pub(super) fn flags(place: &Place<'_>, kind: Kind) -> u32 {
    match (place, kind) {
        (Place::Open(fd), Kind::File | Kind::Directory) => {
            ioctl_getflags(fd).map_or(0, |flags| flags.bits() & FLAGS_MASK)
        }
        _ => 0,
    }
}
