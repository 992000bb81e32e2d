//! Reading back the listings that a run has stored and not published yet.
//!
//! A small run keeps the pieces of its listings in memory. When they are more than `KEPT_BYTES_MAX`, what was stored so far
//! is finished into packs first, and pieces are read from those.

use std::collections::HashMap;
use std::sync::Arc;

use super::Repository;
use super::blocks::Chunk;
use super::error::Result;
use super::index::Memory;
use super::list_reader::TreeChunks;
use crate::base::id::ChunkId;
use crate::codec::chunk_list::ChunkRef;
use crate::codec::pack::PackKind;
use crate::codec::segment::SegmentPack;

/// Pieces of listings that a run keeps in memory, at most, in bytes.
const KEPT_BYTES_MAX: usize = 4 << 20;

/// What a run remembers of its listings.
#[derive(Debug, Default)]
pub struct KeptTrees {
    recent: HashMap<ChunkId, Arc<Vec<u8>>>,
    bytes: usize,
    /// Not all that is in unfinished packs is in `recent`.
    pub overflown: bool,
    placed: Memory,
}

impl KeptTrees {
    /// A piece was stored.
    pub fn keep(&mut self, id: ChunkId, bytes: &[u8]) {
        self.bytes += bytes.len();
        if self.bytes > KEPT_BYTES_MAX {
            self.overflown = true;
            self.recent = HashMap::new();
        } else {
            self.recent.insert(id, Arc::new(bytes.to_vec()));
        }
    }

    /// A pack of pieces was finished, or taken over.
    pub fn place(&mut self, pack: &SegmentPack) {
        if pack.kind == PackKind::Tree {
            self.placed.add(pack);
        }
    }

    /// All that was stored lies in finished packs.
    pub fn forget_recent(&mut self) {
        self.recent = HashMap::new();
        self.bytes = 0;
        self.overflown = false;
    }
}

/// The listings of a run as they are now, and those of the repository. See the module.
pub struct RunTrees<'r> {
    repository: &'r Repository,
    recent: HashMap<ChunkId, Arc<Vec<u8>>>,
    placed: Memory,
}

impl<'r> RunTrees<'r> {
    /// What the run remembers now.
    pub(super) fn new(repository: &'r Repository, kept: &KeptTrees) -> Self {
        Self { repository, recent: kept.recent.clone(), placed: kept.placed.clone() }
    }
}

impl TreeChunks for RunTrees<'_> {
    fn is_ended(&self) -> bool {
        self.repository.is_ended()
    }

    fn tree_chunk(&self, chunk: &ChunkRef) -> Result<Chunk> {
        if let Some(bytes) = self.recent.get(&chunk.id) {
            return Ok(Chunk::whole(Arc::clone(bytes)));
        }
        let Some(place) = self.placed.get(&chunk.id) else { return self.repository.chunk(PackKind::Tree, chunk) };
        let (repository, generation) = (self.repository, self.repository.tip().reference().generation);
        repository.blocks.chunk(repository.storage(), &repository.keys, PackKind::Tree, chunk, &place, generation)
    }
}
