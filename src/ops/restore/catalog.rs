//! Everything that a restore is to make, held tightly: a million files fit into some hundred megabytes.
//!
//! Names lie in one arena, owners and sets of extended attributes are kept once, and directories are a table in which each
//! row names its parent. A row's number is larger than its parent's.

use std::collections::HashMap;

use crate::base::time::Time;
use crate::codec::tree::{Hole, Metadata, Node, Xattr};
use crate::files::made::{Made, Seen};
use crate::ops::{Error, Result};

/// "None" in a table that is indexed by u32.
pub const NONE: u32 = u32::MAX;

/// A name in the arena.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Name {
    start: u32,
    length: u16,
}

/// [`Metadata`] without what a restore does not set.
#[derive(Debug, Clone, Copy)]
pub struct Attributes {
    mtime: Time,
    owner: u32,
    xattrs: u32,
    flags: u32,
    mode: u16,
}

impl Attributes {
    /// Whether there are inode flags to set.
    pub const fn has_flags(&self) -> bool {
        self.flags != 0
    }
}

/// Where something is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Row of its directory.
    pub directory: u32,
    /// Its name.
    pub name: Name,
}

/// One directory. Row 0 is the target itself.
#[derive(Debug, Clone, Copy)]
pub struct Directory {
    /// Row of the directory above, and its name there.
    pub place: Place,
    /// What it gets at the end; none for a target that was there.
    pub attributes: Option<Attributes>,
    /// It was there when the plan was made.
    pub exists: bool,
    /// Something else was there, which is removed first.
    pub obstacle: bool,
    /// Its number among the decisions of the plan, or [`NONE`].
    pub ordinal: u32,
}

/// One regular file to write.
#[derive(Debug, Clone, Copy)]
pub struct File {
    /// Where.
    pub place: Place,
    /// What it gets at the end.
    pub attributes: Attributes,
    /// Its length, holes included, in bytes.
    pub size: u64,
    /// How many pieces it is made of.
    pub pieces: u32,
    /// Row of its holes, or [`NONE`].
    pub holes: u32,
    /// Row of its digest, or [`NONE`].
    pub digest: u32,
    /// Row of its group of hard links, or [`NONE`].
    pub group: u32,
    /// Its number among the decisions of the plan.
    pub ordinal: u32,
    /// Something is there that it takes the place of.
    pub replaces: bool,
}

/// A symbolic link, pipe, socket or device to make.
#[derive(Debug, Clone)]
pub struct Special {
    /// Where.
    pub place: Place,
    /// What it gets.
    pub attributes: Attributes,
    /// What it is.
    pub node: Node,
    /// Row of its group of hard links, or [`NONE`].
    pub group: u32,
    /// Its number among the decisions of the plan.
    pub ordinal: u32,
    /// Something is there that it takes the place of.
    pub replaces: bool,
}

/// A further name of something that is made or kept.
#[derive(Debug, Clone, Copy)]
pub struct Link {
    /// Where.
    pub place: Place,
    /// What it gets where it cannot be a further name.
    pub attributes: Attributes,
    /// Row of the group.
    pub group: u32,
    /// Bytes of the file.
    pub size: u64,
    /// Its number among the decisions of the plan.
    pub ordinal: u32,
    /// Something is there that it takes the place of.
    pub replaces: bool,
}

/// Something that has the right content and needs its metadata only.
#[derive(Debug, Clone, Copy)]
pub struct Adjust {
    /// Where.
    pub place: Place,
    /// What it gets.
    pub attributes: Attributes,
    /// What was compared: nothing else gets the metadata.
    pub seen: Seen,
    /// Its size in bytes.
    pub size: u64,
    /// Its number among the decisions of the plan.
    pub ordinal: u32,
}

/// A group of hard links: its first name, and the inode behind it once that is known.
#[derive(Debug, Clone, Copy)]
pub struct Group {
    /// The first name.
    pub place: Place,
    /// The inode, when it was kept.
    pub kept: Option<Made>,
    /// The number of the first name among the decisions of the plan.
    pub ordinal: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Owner {
    uid: u32,
    gid: u32,
    user: Vec<u8>,
    group: Vec<u8>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Catalog {
    names: Vec<u8>,
    owners: Vec<Owner>,
    owner_rows: HashMap<Owner, u32>,
    xattrs: Vec<Vec<Xattr>>,
    xattr_rows: HashMap<[u8; 32], u32>,
    holes: Vec<Box<[Hole]>>,
    digests: Vec<[u8; 32]>,
    /// Directories, parents first.
    pub directories: Vec<Directory>,
    /// Files to write.
    pub files: Vec<File>,
    /// Symbolic links and so on.
    pub specials: Vec<Special>,
    /// Further names.
    pub links: Vec<Link>,
    /// Metadata only.
    pub adjusts: Vec<Adjust>,
    /// Groups of hard links.
    pub groups: Vec<Group>,
    /// With `--verify`, of each further name of an inode: the number of the first one among the decisions, and its own.
    pub twins: Vec<(u32, u32)>,
}

/// The row that the next entry of a table gets.
pub fn next_row(length: usize) -> Result<u32> {
    u32::try_from(length)
        .ok()
        .filter(|row| *row != NONE)
        .ok_or_else(|| Error::Invalid("more than 2^32 entries: restore a part at a time, as ID:path".to_owned()))
}

impl Catalog {
    /// Keeps a name.
    pub fn name(&mut self, name: &[u8]) -> Result<Name> {
        let full = || Error::Invalid("more than 4 GiB of names: restore a part at a time, as ID:path".to_owned());
        let start = u32::try_from(self.names.len()).map_err(|_| full())?;
        let length = u16::try_from(name.len()).map_err(|_| full())?;
        self.names.extend_from_slice(name);
        Ok(Name { start, length })
    }

    /// A name's bytes.
    pub fn bytes(&self, name: Name) -> &[u8] {
        let start = name.start as usize;
        self.names.get(start..start + usize::from(name.length)).unwrap_or_default()
    }

    /// Keeps what a restore sets.
    pub fn attributes(&mut self, metadata: Metadata) -> Result<Attributes> {
        let owner = Owner { uid: metadata.uid, gid: metadata.gid, user: metadata.user, group: metadata.group };
        let owner = match self.owner_rows.get(&owner) {
            Some(row) => *row,
            None => {
                let row = next_row(self.owners.len())?;
                self.owners.push(owner.clone());
                self.owner_rows.insert(owner, row);
                row
            }
        };
        let xattrs = if metadata.xattrs.is_empty() { NONE } else { self.keep_xattrs(metadata.xattrs)? };
        Ok(Attributes { mtime: metadata.mtime, owner, xattrs, flags: metadata.flags, mode: metadata.mode as u16 })
    }

    fn keep_xattrs(&mut self, xattrs: Vec<Xattr>) -> Result<u32> {
        let mut hasher = blake3::Hasher::new();
        for Xattr { name, value } in &xattrs {
            for bytes in [name, value] {
                hasher.update(&(bytes.len() as u64).to_le_bytes());
                hasher.update(bytes);
            }
        }
        let key = *hasher.finalize().as_bytes();
        if let Some(row) = self.xattr_rows.get(&key) {
            return Ok(*row);
        }
        let row = next_row(self.xattrs.len())?;
        self.xattrs.push(xattrs);
        self.xattr_rows.insert(key, row);
        Ok(row)
    }

    /// What to set, as the file system layer wants it.
    pub fn metadata(&self, attributes: &Attributes) -> Metadata {
        let owner = self.owners.get(attributes.owner as usize);
        Metadata {
            mode: attributes.mode.into(),
            uid: owner.map_or(u32::MAX, |owner| owner.uid),
            gid: owner.map_or(u32::MAX, |owner| owner.gid),
            user: owner.map(|owner| owner.user.clone()).unwrap_or_default(),
            group: owner.map(|owner| owner.group.clone()).unwrap_or_default(),
            mtime: attributes.mtime,
            xattrs: self.xattrs.get(attributes.xattrs as usize).cloned().unwrap_or_default(),
            flags: attributes.flags,
            ..Metadata::default()
        }
    }

    /// Keeps the digest of a file.
    pub fn keep_digest(&mut self, digest: Option<[u8; 32]>) -> Result<u32> {
        let Some(digest) = digest else { return Ok(NONE) };
        let row = next_row(self.digests.len())?;
        self.digests.push(digest);
        Ok(row)
    }

    /// The digest of a file, if it has one.
    pub fn digest(&self, file: &File) -> Option<[u8; 32]> {
        self.digests.get(file.digest as usize).copied()
    }

    /// Keeps the holes of a file.
    pub fn keep_holes(&mut self, holes: Vec<Hole>) -> Result<u32> {
        if holes.is_empty() {
            return Ok(NONE);
        }
        let row = next_row(self.holes.len())?;
        self.holes.push(holes.into_boxed_slice());
        Ok(row)
    }

    /// The holes of a file.
    pub fn holes(&self, file: &File) -> &[Hole] {
        self.holes.get(file.holes as usize).map_or(&[], |holes| holes)
    }

    /// The path of a place from the target, with a slash before each name.
    pub fn path(&self, place: Place) -> Vec<u8> {
        let mut names = vec![place.name];
        let mut row = place.directory;
        while row != 0 {
            let Some(directory) = self.directories.get(row as usize) else { break };
            names.push(directory.place.name);
            row = directory.place.directory;
        }
        let mut path = Vec::new();
        for name in names.iter().rev() {
            path.push(b'/');
            path.extend_from_slice(self.bytes(*name));
        }
        path
    }

    /// A new group of hard links.
    pub fn group(&mut self, place: Place, kept: Option<Made>, ordinal: u32) -> Result<u32> {
        let row = next_row(self.groups.len())?;
        self.groups.push(Group { place, kept, ordinal });
        Ok(row)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn rows_are_small() {
        assert!(size_of::<File>() <= 80, "{}", size_of::<File>());
        assert!(size_of::<Directory>() <= 64, "{}", size_of::<Directory>());
    }

    #[test]
    fn metadata_and_names_come_back() {
        let mut catalog = Catalog::default();
        let metadata = Metadata {
            mode: 0o4755,
            uid: 1,
            gid: 2,
            user: b"u".to_vec(),
            group: b"g".to_vec(),
            mtime: Time { seconds: -1, nanoseconds: 5 },
            xattrs: vec![Xattr { name: b"user.a".to_vec(), value: b"1".to_vec() }],
            flags: 64,
            ..Metadata::default()
        };
        let first = catalog.attributes(metadata.clone()).unwrap();
        let second = catalog.attributes(metadata.clone()).unwrap();
        assert_eq!((first.owner, first.xattrs), (second.owner, second.xattrs));
        assert_eq!(catalog.metadata(&second), metadata);
        let top = Place { directory: 0, name: catalog.name(b"").unwrap() };
        let top = Directory { place: top, attributes: None, exists: true, obstacle: false, ordinal: NONE };
        catalog.directories.push(top);
        let a = Place { directory: 0, name: catalog.name(b"a").unwrap() };
        catalog.directories.push(Directory { place: a, attributes: Some(first), exists: false, ..top });
        let b = Place { directory: 1, name: catalog.name(b"b\xff").unwrap() };
        assert_eq!(catalog.path(b), b"/a/b\xff");
    }
}
