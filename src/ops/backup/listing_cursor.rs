//! A listing of an earlier snapshot, or of an earlier round, that is read beside the walk.

use std::iter::Peekable;

use crate::codec::chunk_list::ChunkList;
use crate::codec::tree::Entry;
use crate::repository;
use crate::repository::list_reader::{Listing, TreeChunks};

/// One directory, in the order of its names.
pub(super) struct ListingCursor<'r> {
    entries: Peekable<Listing<'r>>,
}

/// What a listing beside the walk says about a name.
pub(super) enum Lookup {
    /// It has the name.
    Found(Entry),
    /// It has another one first, which the walk does not.
    Passed(Entry),
    /// It does not have the name.
    Absent,
    /// It cannot be read on.
    Unreadable(repository::Error),
}

impl<'r> ListingCursor<'r> {
    /// At the beginning of a listing.
    pub fn new(source: &'r dyn TreeChunks, list: ChunkList) -> Self {
        Self { entries: Listing::new(source, list).peekable() }
    }

    /// What comes up to this name, or up to the end. Names are asked for in ascending order.
    pub fn seek(&mut self, name: Option<&[u8]>) -> Lookup {
        match (self.entries.peek(), name) {
            (None, _) => return Lookup::Absent,
            (Some(Ok(entry)), Some(name)) if entry.name.as_slice() > name => return Lookup::Absent,
            _ => {}
        }
        match self.entries.next() {
            Some(Ok(entry)) if name == Some(&entry.name) => Lookup::Found(entry),
            Some(Ok(entry)) => Lookup::Passed(entry),
            Some(Err(error)) => Lookup::Unreadable(error),
            None => Lookup::Absent,
        }
    }
}
