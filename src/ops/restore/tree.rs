//! A snapshot's tree as a stream of entries, depth first, without recursion.
//!
//! A small hostile snapshot can stand for 2^60 entries (one listing that names another one twice, sixty times over), so the
//! walk counts, and ends with an error as soon as there is more than the snapshot itself says that it holds.

use crate::base::escape::Escaped;
use crate::codec::chunk_list::ChunkList;
use crate::codec::snapshot::Counts;
use crate::codec::tree::{Entry, Node};
use crate::ops::tree_depth::{check_depth, depth_of, far_above};
use crate::ops::{Error, Result};
use crate::repository::list_reader::Listing;
use crate::repository::{self, Repository};

/// One step of the walk.
pub enum Step {
    /// An entry; [`Tree::path`] is its path. A directory is entered only on demand ([`Tree::enter`]).
    Entry(Box<Entry>),
    /// The listing of the directory entered last, at [`Tree::path`], cannot be read any further. [`Step::Leave`] follows.
    Broken(repository::Error),
    /// The directory entered last ends; [`Tree::path`] is its path.
    Leave,
}

struct Frame<'r> {
    listing: Listing<'r>,
    path_length: usize,
    ended: bool,
}

/// See the module.
pub struct Tree<'r> {
    repository: &'r Repository,
    frames: Vec<Frame<'r>>,
    path: Vec<u8>,
    /// How many names lead to the root of this walk.
    above: usize,
    limit: Counts,
    seen: Counts,
}

impl<'r> Tree<'r> {
    /// A walk through `listing`, beneath a root without name, of a snapshot that says it holds `limit`.
    pub fn new(repository: &'r Repository, listing: ChunkList, limit: Counts) -> Self {
        let frame = Frame { listing: Listing::new(repository, listing), path_length: 0, ended: false };
        Self { repository, frames: vec![frame], path: Vec::new(), above: 0, limit, seen: Counts::default() }
    }

    /// The same beneath a directory of the snapshot: `prefix` is its path, with a slash before each name.
    pub fn beneath(self, prefix: &[u8]) -> Self {
        Self { above: depth_of(prefix), ..self }
    }

    /// Path of what the last step was about: a slash before each name, empty for the root.
    pub fn path(&self) -> &[u8] {
        &self.path
    }

    /// How many directories are open, the root included.
    pub fn depth(&self) -> usize {
        self.frames.len()
    }

    /// After a directory's [`Step::Entry`]: its entries come next.
    ///
    /// # Errors
    /// Deeper than a tree may be.
    pub fn enter(&mut self, listing: ChunkList) -> Result<()> {
        check_depth(&self.path, self.above)?;
        let listing = Listing::new(self.repository, listing);
        self.frames.push(Frame { listing, path_length: self.path.len(), ended: false });
        if let Some(far) = far_above(&mut self.frames) {
            far.listing.let_go();
        }
        Ok(())
    }

    /// The next step; `None` after the root was left.
    ///
    /// # Errors
    /// There is more than the snapshot says that it holds.
    pub fn next(&mut self) -> Result<Option<Step>> {
        let Some(frame) = self.frames.last_mut() else { return Ok(None) };
        self.path.truncate(frame.path_length);
        let next = if frame.ended { None } else { frame.listing.next() };
        match next {
            None => {
                self.frames.pop();
                Ok(Some(Step::Leave))
            }
            Some(Err(error)) => {
                frame.ended = true;
                Ok(Some(Step::Broken(error)))
            }
            Some(Ok(entry)) => {
                self.path.push(b'/');
                self.path.extend_from_slice(&entry.name);
                self.count(&entry)?;
                Ok(Some(Step::Entry(Box::new(entry))))
            }
        }
    }

    fn count(&mut self, entry: &Entry) -> Result<()> {
        let Counts { files, directories, others, bytes } = &mut self.seen;
        match &entry.node {
            Node::File(content) => {
                *files += 1;
                *bytes = bytes.saturating_add(content.size);
            }
            Node::Directory { .. } => *directories += 1,
            _ => *others += 1,
        }
        let (seen, limit) = (self.seen, self.limit);
        if seen.files <= limit.files
            && seen.directories <= limit.directories
            && seen.others <= limit.others
            && seen.bytes <= limit.bytes
        {
            return Ok(());
        }
        Err(Error::Refused(format!(
            "{}: the snapshot says that it holds {} files, {} directories, {} other entries and {} bytes, and here it \
             exceeds that: it is damaged or hostile, and nothing more of it is restored",
            Escaped(&self.path),
            limit.files,
            limit.directories,
            limit.others,
            limit.bytes
        )))
    }
}
