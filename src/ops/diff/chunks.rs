//! Which chunks only one of two snapshots has.
//!
//! What differs is gathered while the trees are compared. A chunk of it may still stand in a part that is the same on both
//! sides, so at the end those parts are read too, once, and only when something is left to decide.

use std::collections::{HashMap, HashSet};

use super::Statistics;
use crate::base::id::ChunkId;
use crate::codec::chunk_list::{ChunkList, ChunkRef};
use crate::codec::snapshot::Snapshot;
use crate::codec::tree::{Content, Node};
use crate::ops::tree_walk::TreeWalk;
use crate::ops::{Error, Monitor, Result};
use crate::repository::Repository;
use crate::repository::list_reader;

/// Chunks of one side that the other one does not seem to have.
#[derive(Default)]
struct Sets {
    data: HashMap<ChunkId, u32>,
    tree: HashMap<ChunkId, u32>,
}

/// See the module.
pub(super) struct Chunks<'r> {
    repository: &'r Repository,
    removed: Sets,
    added: Sets,
    common: HashSet<ChunkId>,
    same: Vec<ChunkList>,
}

impl<'r> Chunks<'r> {
    pub(super) fn new(repository: &'r Repository) -> Self {
        Self { repository, removed: Sets::default(), added: Sets::default(), common: HashSet::new(), same: Vec::new() }
    }

    fn all(&self, list: &ChunkList) -> impl Iterator<Item = Result<ChunkRef>> + use<'r> {
        list_reader::Chunks::new(self.repository, list.clone()).map(|chunk| chunk.map_err(Error::from))
    }

    /// A file of one side.
    pub(super) fn file(&mut self, content: &Content, added: bool) -> Result<()> {
        for chunk in self.all(&content.chunks) {
            let chunk = chunk?;
            let sets = if added { &mut self.added } else { &mut self.removed };
            sets.data.insert(chunk.id, chunk.length);
        }
        Ok(())
    }

    /// A directory of one side.
    pub(super) fn directory(&mut self, listing: &ChunkList, added: bool) -> Result<()> {
        for chunk in self.all(listing) {
            let chunk = chunk?;
            let sets = if added { &mut self.added } else { &mut self.removed };
            sets.tree.insert(chunk.id, chunk.length);
        }
        Ok(())
    }

    /// A file that both sides have.
    pub(super) fn same_file(&mut self, content: &Content) -> Result<()> {
        for chunk in self.all(&content.chunks) {
            self.common.insert(chunk?.id);
        }
        Ok(())
    }

    /// A directory that both sides have.
    pub(super) fn same_directory(&mut self, listing: &ChunkList) {
        self.same.push(listing.clone());
    }

    /// What stands in a part that both sides have is new on neither.
    fn drop_common(&mut self, chunk: &ChunkId) {
        for sets in [&mut self.removed, &mut self.added] {
            sets.data.remove(chunk);
            sets.tree.remove(chunk);
        }
    }

    fn is_empty(&self) -> bool {
        [&self.removed, &self.added].iter().all(|sets| sets.data.is_empty() && sets.tree.is_empty())
    }

    /// Decides what is left, and counts it.
    pub(super) fn finish(
        mut self,
        statistics: &mut Statistics,
        (from, to): (&Snapshot, &Snapshot),
        monitor: &dyn Monitor,
    ) -> Result<()> {
        fn split(one: &mut HashMap<ChunkId, u32>, other: &mut HashMap<ChunkId, u32>) {
            one.retain(|id, _| other.remove(id).is_none());
        }
        split(&mut self.removed.data, &mut self.added.data);
        split(&mut self.removed.tree, &mut self.added.tree);
        for chunk in std::mem::take(&mut self.common) {
            self.drop_common(&chunk);
        }
        // Either snapshot holds these; the one with more entries bounds the walk.
        let larger = if from.counts.entries() > to.counts.entries() { from } else { to };
        for listing in std::mem::take(&mut self.same) {
            if self.is_empty() {
                break;
            }
            self.drop_list(&listing)?;
            for visited in TreeWalk::new(self.repository, larger, b"", listing) {
                if monitor.interrupted() {
                    return Err(Error::Interrupted);
                }
                match visited?.entry.node {
                    Node::File(content) => self.drop_list(&content.chunks)?,
                    Node::Directory { listing } => self.drop_list(&listing)?,
                    _ => {}
                }
            }
        }
        for (sets, count) in [(&self.removed, &mut statistics.removed), (&self.added, &mut statistics.added)] {
            count.data_chunks = sets.data.len() as u64;
            count.tree_chunks = sets.tree.len() as u64;
            count.bytes = sets.data.values().chain(sets.tree.values()).map(|length| u64::from(*length)).sum();
        }
        Ok(())
    }

    fn drop_list(&mut self, list: &ChunkList) -> Result<()> {
        for chunk in self.all(list) {
            let id = chunk?.id;
            self.drop_common(&id);
        }
        Ok(())
    }
}
