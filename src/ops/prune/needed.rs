//! What live snapshots need: every distinct listing is read once, and every chunk that it, or a file in it, names is noted.
//!
//! Whatever cannot be read ends the prune: what hangs below a listing that cannot be read would be taken for waste.

use std::collections::{BTreeMap, HashSet};

use rayon::prelude::*;

use super::chunk_table::ChunkTable;
use crate::base::id::ObjectId;
use crate::codec::chunk_list::{ChunkList, ChunkRef};
use crate::codec::pack::PackKind;
use crate::codec::snapshot::Snapshot;
use crate::codec::tree::Node;
use crate::ops::{Error, Monitor, Result};
use crate::repository::blocks::{Blocks, Chunk};
use crate::repository::list_reader::{Chunks, Listing, TreeChunks};
use crate::repository::{self, Repository};

/// Listings that are read before their subdirectories are put in order.
const BATCH: usize = 8_192;
/// Plain bytes of tree blocks that are kept: listings are read in the order in which they lie.
const KEPT_BYTES_MAX: usize = 16 << 20;

/// What to do with a chunk that the table does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::ops) enum Unknown {
    /// It is missing.
    Refuse,
    /// It was stored after the table was made, in packs that stay.
    Stays,
}

/// Paths of a snapshot that do not count, as the names in each directory.
#[derive(Debug, Clone, Default)]
pub(in crate::ops) struct Cut {
    is_whole: bool,
    below: BTreeMap<Vec<u8>, Self>,
}

impl Cut {
    /// Adds a path.
    pub fn add<'n>(&mut self, names: impl Iterator<Item = &'n [u8]>) {
        let mut at = self;
        for name in names {
            at = at.below.entry(name.to_vec()).or_default();
        }
        at.is_whole = true;
    }

    /// True when nothing is left of the snapshot.
    pub const fn is_whole(&self) -> bool {
        self.is_whole
    }
}

/// Notes needed chunks.
pub(in crate::ops) struct Needed<'r> {
    repository: &'r Repository,
    unknown: Unknown,
    listings: HashSet<u128>,
    /// Snapshots that were gone through.
    snapshots: HashSet<ObjectId>,
}

/// Reads chunks of trees and notes them.
struct Source<'a> {
    repository: &'a Repository,
    table: &'a ChunkTable,
    unknown: Unknown,
    generation: u64,
    blocks: Blocks,
}

impl<'a> Source<'a> {
    fn new(repository: &'a Repository, table: &'a ChunkTable, unknown: Unknown) -> Self {
        let generation = repository.tip().reference().generation;
        Self { repository, table, unknown, generation, blocks: Blocks::keeping(KEPT_BYTES_MAX) }
    }

    fn need(&self, chunk: &ChunkRef) -> repository::Result<()> {
        if self.table.need(&chunk.id).is_none() && self.unknown == Unknown::Refuse {
            return Err(repository::Error::ChunkMissing { chunk: chunk.id });
        }
        Ok(())
    }

    fn need_all(&self, list: &ChunkList) -> repository::Result<()> {
        if list.depth == 0 {
            return list.chunks.iter().try_for_each(|chunk| self.need(chunk));
        }
        Chunks::new(self, list.clone()).try_for_each(|chunk| self.need(&chunk?))
    }

    /// Notes what one listing names and returns its subdirectories.
    fn listing(&self, list: ChunkList) -> repository::Result<Vec<ChunkList>> {
        let mut directories = Vec::new();
        for entry in Listing::new(self, list) {
            match entry?.node {
                Node::File(content) => self.need_all(&content.chunks)?,
                Node::Directory { listing } => directories.push(listing),
                _ => {}
            }
        }
        Ok(directories)
    }

    /// The same without what lies at some paths.
    fn listing_without(&self, list: ChunkList, cut: &Cut) -> repository::Result<Vec<ChunkList>> {
        let mut directories = Vec::new();
        for entry in Listing::new(self, list) {
            let entry = entry?;
            let cut = cut.below.get(&entry.name);
            match entry.node {
                _ if cut.is_some_and(Cut::is_whole) => {}
                Node::File(content) => self.need_all(&content.chunks)?,
                Node::Directory { listing } => match cut {
                    Some(cut) => directories.append(&mut self.listing_without(listing, cut)?),
                    None => directories.push(listing),
                },
                _ => {}
            }
        }
        Ok(directories)
    }
}

impl TreeChunks for Source<'_> {
    fn is_ended(&self) -> bool {
        self.repository.is_ended()
    }

    fn tree_chunk(&self, chunk: &ChunkRef) -> repository::Result<Chunk> {
        self.need(chunk)?;
        if self.unknown == Unknown::Stays {
            // A newer head may have it in another pack than the table.
            return self.repository.chunk(PackKind::Tree, chunk);
        }
        let place = self.table.tree_place(&chunk.id).filter(|place| place.length == chunk.length);
        let place = place.ok_or(repository::Error::ChunkMissing { chunk: chunk.id })?;
        let (storage, keys) = (self.repository.storage(), self.repository.keys());
        self.blocks.chunk(storage, keys, PackKind::Tree, chunk, &place, self.generation)
    }
}

impl<'r> Needed<'r> {
    pub fn new(repository: &'r Repository) -> Self {
        Self { repository, unknown: Unknown::Refuse, listings: HashSet::new(), snapshots: HashSet::new() }
    }

    /// From now on chunks that the table does not have are those of newer packs.
    pub fn later(&mut self) {
        self.unknown = Unknown::Stays;
    }

    /// Goes through those of the newest head's snapshots that were not gone through.
    ///
    /// # Errors
    /// Anything that cannot be read; [`Error::Interrupted`].
    pub fn snapshots(&mut self, table: &ChunkTable, monitor: &dyn Monitor) -> Result<()> {
        let source = Source::new(self.repository, table, self.unknown);
        let state = self.repository.tip().state;
        let mut level = Vec::new();
        let new: Vec<ObjectId> = state.snapshots.keys().filter(|id| !self.snapshots.contains(*id)).copied().collect();
        for id in new {
            let snapshot = self.repository.snapshot(id)?;
            self.beside_the_tree(&source, &snapshot)?;
            if self.listings.insert(snapshot.root.key()) {
                level.push(snapshot.root);
            }
        }
        self.listings(&source, level, monitor)?;
        self.snapshots.extend(state.snapshots.keys());
        Ok(())
    }

    /// Goes through those of the newest head's snapshots, but for what `cuts` takes away from some.
    ///
    /// # Errors
    /// As [`Needed::snapshots`].
    pub fn snapshots_without(
        &mut self,
        cuts: &BTreeMap<ObjectId, Cut>,
        table: &ChunkTable,
        monitor: &dyn Monitor,
    ) -> Result<()> {
        let source = Source::new(self.repository, table, self.unknown);
        let state = self.repository.tip().state;
        let mut level = Vec::new();
        for id in state.snapshots.keys() {
            let cut = cuts.get(id);
            if cut.is_some_and(Cut::is_whole) {
                continue;
            }
            let snapshot = self.repository.snapshot(*id)?;
            self.beside_the_tree(&source, &snapshot)?;
            match cut {
                Some(cut) => level.append(&mut source.listing_without(snapshot.root, cut)?),
                None => {
                    level.push(snapshot.root);
                    self.snapshots.insert(*id);
                }
            }
        }
        level.retain(|list| self.listings.insert(list.key()));
        self.listings(&source, level, monitor)
    }

    /// What a snapshot needs besides its tree.
    fn beside_the_tree(&mut self, source: &Source<'_>, snapshot: &Snapshot) -> Result<()> {
        source.need_all(&snapshot.problems)?;
        // Snapshots share the log of deletions as long as nothing is deleted.
        if self.listings.insert(snapshot.deleted.key()) {
            source.need_all(&snapshot.deleted)?;
        }
        Ok(())
    }

    /// Goes through listings and all that lies below them.
    fn listings(&mut self, source: &Source<'_>, mut level: Vec<ChunkList>, monitor: &dyn Monitor) -> Result<()> {
        let table = source.table;
        while !level.is_empty() {
            monitor.expect(level.len() as u64, 0, false);
            let place = |list: &ChunkList| list.chunks.first().and_then(|chunk| table.ordinal(&chunk.id));
            level.par_sort_by_cached_key(place);
            let mut next = Vec::new();
            let mut rest = level.into_iter();
            loop {
                let batch: Vec<ChunkList> = rest.by_ref().take(BATCH).collect();
                if batch.is_empty() {
                    break;
                }
                if monitor.interrupted() {
                    return Err(Error::Interrupted);
                }
                let length = batch.len() as u64;
                let found: repository::Result<Vec<Vec<ChunkList>>> =
                    batch.into_par_iter().with_min_len(32).map(|list| source.listing(list)).collect();
                next.extend(found?.into_iter().flatten().filter(|list| self.listings.insert(list.key())));
                monitor.advance(length, 0);
            }
            level = next;
        }
        Ok(())
    }
}
