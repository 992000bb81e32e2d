//! A listing that is read beside another one, in the order of names.

use std::iter::Peekable;

use crate::codec::chunk_list::ChunkList;
use crate::codec::tree::Entry;
use crate::repository::Repository;
use crate::repository::list_reader::Listing;

/// See the module.
pub(super) struct SortedListing<'r> {
    entries: Peekable<Listing<'r>>,
}

impl<'r> SortedListing<'r> {
    pub fn new(repository: &'r Repository, list: ChunkList) -> Self {
        Self { entries: Listing::new(repository, list).peekable() }
    }

    /// The entry of this name. Names are asked for in ascending order. A listing that cannot be read on ends here: what it
    /// would tell is found out by reading.
    pub fn find(&mut self, name: &[u8]) -> Option<Entry> {
        loop {
            match self.entries.peek()? {
                Err(_) => return None,
                Ok(entry) if entry.name.as_slice() > name => return None,
                Ok(entry) => {
                    let found = entry.name == name;
                    let entry = self.entries.next()?.ok()?;
                    if found {
                        return Some(entry);
                    }
                }
            }
        }
    }
}
