//! The entries of a snapshot, or of a part of it, one after the other: a directory, then what is in it, by name.
//!
//! Holds one open listing a level, whatever their number. A listing that cannot be read is an error of its own and
//! the walk goes on after it, so one damaged pack does not hide the rest. A small hostile tree may name one
//! listing many times and unfold without end: no path is longer than a snapshot's may be, no directory is deeper, and there
//! are no more entries than the snapshot says it has.

use super::tree_depth::{check_depth, depth_of, far_above};
use super::{Error, Result};
use crate::codec::chunk_list::ChunkList;
use crate::codec::snapshot::{PATH_MAX, Snapshot};
use crate::codec::tree::{Entry, Node};
use crate::codec::{self, Reason};
use crate::repository::list_reader::Listing;
use crate::repository::{self, Repository};

/// One entry of the walk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Visited {
    /// Its path from the snapshot's root, with a slash before each name.
    pub path: Vec<u8>,
    /// What it is.
    pub entry: Entry,
}

struct Level<'r> {
    listing: Listing<'r>,
    /// Length of the directory's own path.
    path_length: usize,
}

/// An iterator over the entries beneath a directory. See the module.
pub struct TreeWalk<'r> {
    repository: &'r Repository,
    levels: Vec<Level<'r>>,
    /// The path of the last entry.
    path: Vec<u8>,
    /// The directory that was visited last and will be entered next.
    pending: Option<ChunkList>,
    /// How many names lead to where the paths of this walk begin.
    above: usize,
    entries_left: u64,
}

impl std::fmt::Debug for TreeWalk<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TreeWalk").field("depth", &self.levels.len()).finish_non_exhaustive()
    }
}

impl<'r> TreeWalk<'r> {
    /// Walks `listing`, which stands at `prefix` (empty for the root) in `snapshot`.
    #[must_use]
    pub fn new(repository: &'r Repository, snapshot: &Snapshot, prefix: &[u8], listing: ChunkList) -> Self {
        Self {
            repository,
            levels: Vec::new(),
            path: prefix.to_vec(),
            pending: Some(listing),
            above: 0,
            entries_left: snapshot.counts.entries(),
        }
    }

    /// The same with paths that begin in a part of the snapshot, which lies at `part`.
    #[must_use]
    pub fn in_part(self, part: &[u8]) -> Self {
        Self { above: depth_of(part), ..self }
    }

    /// Passes over what is in the directory that was visited last.
    pub fn skip_children(&mut self) {
        self.pending = None;
    }

    /// How many directories deep the entry visited last lies: 1 for one in the directory that the walk began with.
    #[must_use]
    pub const fn depth(&self) -> usize {
        self.levels.len()
    }

    fn refuse(&mut self, rule: &'static str) -> Error {
        let error = codec::Error::new("tree", Reason::BrokenRule { rule });
        self.levels.clear();
        Error::at(&self.path, repository::Error::Stream { error })
    }
}

impl Iterator for TreeWalk<'_> {
    type Item = Result<Visited>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(listing) = self.pending.take() {
            if let Err(error) = check_depth(&self.path, self.above) {
                self.levels.clear();
                return Some(Err(error));
            }
            let listing = Listing::new(self.repository, listing);
            self.levels.push(Level { listing, path_length: self.path.len() });
            if let Some(far) = far_above(&mut self.levels) {
                far.listing.let_go();
            }
        }
        while let Some(level) = self.levels.last_mut() {
            self.path.truncate(level.path_length);
            let Some(next) = level.listing.next() else {
                self.levels.pop();
                continue;
            };
            let entry = match next {
                Ok(entry) => entry,
                Err(error) => {
                    self.levels.pop();
                    let path = if self.path.is_empty() { b"/" } else { self.path.as_slice() };
                    return Some(Err(Error::at(path, error)));
                }
            };
            self.path.push(b'/');
            self.path.extend_from_slice(&entry.name);
            if self.path.len() > PATH_MAX {
                return Some(Err(self.refuse("a path is longer than any path may be")));
            }
            let Some(left) = self.entries_left.checked_sub(1) else {
                return Some(Err(self.refuse("there are more entries than the snapshot says it has")));
            };
            self.entries_left = left;
            if let Node::Directory { listing } = &entry.node {
                self.pending = Some(listing.clone());
            }
            return Some(Ok(Visited { path: self.path.clone(), entry }));
        }
        None
    }
}
