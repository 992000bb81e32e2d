//! What snapshots have at many paths at once: each listing on the way is read once a snapshot, and no further than needed.

use std::iter::Peekable;

use crate::codec::chunk_list::ChunkList;
use crate::codec::deletion_log::DeletedKind;
use crate::codec::tree::{Entry, Node};
use crate::repository;
use crate::repository::list_reader::{Listing, TreeChunks};

/// What an entry is called in a log of deletions.
#[must_use]
pub const fn kind_of(node: &Node) -> DeletedKind {
    match node {
        Node::File(_) => DeletedKind::File,
        Node::Directory { .. } => DeletedKind::Directory,
        Node::Symlink { .. } => DeletedKind::Symlink,
        _ => DeletedKind::Other,
    }
}

/// The order in which [`kinds`] wants paths: by their names, so that what is in a directory stands together.
#[must_use]
pub fn by_names(one: &[u8], other: &[u8]) -> std::cmp::Ordering {
    let is_slash = |byte: &u8| *byte == b'/';
    one.split(is_slash).cmp(other.split(is_slash))
}

/// A directory on the way.
struct Level<'r> {
    entries: Peekable<Listing<'r>>,
    last: Option<Entry>,
}

impl<'r> Level<'r> {
    fn new(source: &'r dyn TreeChunks, list: ChunkList) -> Self {
        Self { entries: Listing::new(source, list).peekable(), last: None }
    }

    /// The entry of this name. Names come in ascending order, each perhaps several times.
    fn find(&mut self, name: &[u8]) -> repository::Result<Option<&Entry>> {
        while self.last.as_ref().is_none_or(|last| last.name.as_slice() < name) {
            match self.entries.next() {
                Some(entry) => self.last = Some(entry?),
                None => return Ok(None),
            }
        }
        Ok(self.last.as_ref().filter(|last| last.name == name))
    }
}

/// What stands at each of these paths beneath `root`, which come in the order of [`by_names`]; and the first error, when a
/// listing cannot be read: then nothing is said to stand there.
pub fn kinds(
    source: &dyn TreeChunks,
    root: &ChunkList,
    paths: &[&[u8]],
) -> (Vec<Option<DeletedKind>>, Option<repository::Error>) {
    let mut failed = None;
    let mut top = Level::new(source, root.clone());
    // The directories that are open, and their names.
    let mut open: Vec<(&[u8], Level<'_>)> = Vec::new();
    let mut found = Vec::with_capacity(paths.len());
    for path in paths {
        let names: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
        let above = names.len() - 1;
        let common = open.iter().zip(&names[..above]).take_while(|((open, _), name)| open == *name).count();
        open.truncate(common);
        let kind = loop {
            let depth = open.len();
            let level = open.last_mut().map_or(&mut top, |(_, level)| level);
            let entry = match level.find(names[depth]) {
                Ok(entry) => entry,
                Err(error) => {
                    failed.get_or_insert(error);
                    break None;
                }
            };
            match entry {
                Some(entry) if depth == above => break Some(kind_of(&entry.node)),
                Some(Entry { node: Node::Directory { listing }, .. }) => {
                    let next = Level::new(source, listing.clone());
                    open.push((names[depth], next));
                }
                _ => break None,
            }
        };
        found.push(kind);
    }
    (found, failed)
}
