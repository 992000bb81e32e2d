//! What is gone: entries that the snapshot before holds and the walk does not meet.
//!
//! An entry that the walk does not meet may be there all the same: excluded, unreadable, on a file system that is not entered.
//! So nothing is called gone on the word of the walk alone:
//!
//! - only directories count whose names the walk has all read, and that are sources or lie in one;
//! - the name is looked for once more, and there must be nothing of its kind;
//! - a source that was named and is missing is no deletion: it is a problem of its own, and perhaps a disk that is not mounted.
//!
//! Everything beneath a directory that is gone is gone with it.

use std::collections::HashSet;
use std::io::ErrorKind;
use std::sync::Arc;

use super::Compared;
use crate::base::time::Time;
use crate::codec::deletion_log::{DeletedKind, Deletion};
use crate::codec::tree::{Entry, Node};
use crate::files::directory::Directory;
use crate::files::stat::Kind;
use crate::ops::deleted::holders::kind_of;
use crate::ops::part;
use crate::ops::tree_walk::{TreeWalk, Visited};
use crate::repository::Repository;

use super::log::Before;

/// Where an entry that the walk did not meet is looked for once more.
pub(super) struct Watched {
    /// Path in the snapshot, without a slash at either end; empty for the root.
    pub path: Vec<u8>,
    /// Directories that hold such an entry, if it is there: more than one only at the root.
    pub directories: Vec<Arc<Directory>>,
}

/// What an entry of the walk would be called.
pub(super) const fn kind_of_inode(kind: Kind) -> DeletedKind {
    match kind {
        Kind::File => DeletedKind::File,
        Kind::Directory => DeletedKind::Directory,
        Kind::Symlink => DeletedKind::Symlink,
        Kind::Fifo | Kind::Socket | Kind::CharacterDevice | Kind::BlockDevice => DeletedKind::Other,
    }
}

/// The record of an entry of the snapshot before.
pub(super) fn record(before: &Before, found: Time, path: Vec<u8>, entry: &Entry) -> Option<Deletion> {
    let size = match &entry.node {
        Node::File(content) => content.size,
        _ => 0,
    };
    let (snapshot, snapshot_time) = (before.id, before.snapshot.time);
    let mtime = entry.metadata.mtime;
    let deletion = Deletion { path, kind: kind_of(&entry.node), size, mtime, snapshot, snapshot_time, found };
    // Nothing that a snapshot holds is refused, unless its path is longer than any path may be.
    deletion.check().is_ok().then_some(deletion)
}

/// Finds out what is gone since the snapshot before.
pub(super) struct Gone<'r> {
    repository: &'r Repository,
    before: &'r Before,
    found: Time,
    /// Sources that were named and are missing.
    missing: HashSet<Vec<u8>>,
}

impl<'r> Gone<'r> {
    /// Nothing is gone where there is no snapshot before.
    pub fn new(repository: &'r Repository, compared: Compared<'r>) -> Option<Self> {
        let before = compared.before?;
        Some(Self { repository, before, found: compared.found, missing: HashSet::new() })
    }

    /// What is watched at the top. A directory that was saved by its whole path stands deeper in the snapshot than the same
    /// one saved as `.`: then there is nothing to compare.
    pub fn root(&self, whole: Vec<Arc<Directory>>) -> Option<Watched> {
        let comparable = !whole.is_empty() && part::is_whole(self.repository, &self.before.snapshot).unwrap_or(false);
        comparable.then_some(Watched { path: Vec::new(), directories: whole })
    }

    /// A source was named and is missing.
    pub fn is_missing(&mut self, path: &[u8]) {
        self.missing.insert(path.to_vec());
    }

    /// The path of an entry that the walk did not meet, when it is gone.
    pub fn check(&self, watched: &Watched, entry: &Entry) -> Option<Vec<u8>> {
        let mut path = watched.path.clone();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(&entry.name);
        let is_gone = |directory: &Arc<Directory>| match directory.stat(&entry.name) {
            Ok(stat) => kind_of_inode(stat.kind) != kind_of(&entry.node),
            Err(error) => error.kind() == ErrorKind::NotFound,
        };
        (!self.missing.contains(&path) && watched.directories.iter().all(is_gone)).then_some(path)
    }

    fn record(&self, path: Vec<u8>, entry: &Entry) -> Option<Deletion> {
        record(self.before, self.found, path, entry)
    }

    /// Hands on a record of the entry and of everything beneath it, until `each` breaks off. A listing that cannot be read
    /// is handed on as its error.
    pub fn records<E>(
        &self,
        path: Vec<u8>,
        entry: &Entry,
        each: &mut dyn FnMut(crate::ops::Result<Deletion>) -> Result<(), E>,
    ) -> Result<(), E> {
        if let Some(deletion) = self.record(path.clone(), entry) {
            each(Ok(deletion))?;
        }
        let Node::Directory { listing } = &entry.node else { return Ok(()) };
        let walk = TreeWalk::new(self.repository, &self.before.snapshot, &path, listing.clone());
        // The path has no slash before its first name.
        let mut walk = walk.in_part(b"/");
        while let Some(next) = walk.next() {
            match next {
                Ok(Visited { path, .. }) if self.missing.contains(&path) => walk.skip_children(),
                Ok(Visited { path, entry }) => {
                    if let Some(deletion) = self.record(path, &entry) {
                        each(Ok(deletion))?;
                    }
                }
                Err(error) => each(Err(error))?,
            }
        }
        Ok(())
    }
}
