//! Reading chunks: blocks are fetched, opened once, and kept for a while, because neighbours are read together.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use super::error::{Error, Result, damaged};
use super::index::Place;
use crate::base::id::ObjectId;
use crate::codec::chunk_list::ChunkRef;
use crate::codec::compress::Decompressor;
use crate::codec::key_tree::KeyTree;
use crate::codec::pack::PackKind;
use crate::codec::{self, Reason, block};
use crate::storage::{ErrorKind, ObjectName, Storage};

/// Plain bytes of blocks that are kept, at most.
const KEPT_BYTES_MAX: usize = 32 << 20;

/// One chunk's plaintext, inside the block that it came in.
#[derive(Debug, Clone)]
pub struct Chunk {
    block: Arc<Vec<u8>>,
    range: Range<usize>,
}

impl std::ops::Deref for Chunk {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.block[self.range.clone()]
    }
}

/// A pack and the number of a block in it.
type BlockKey = (ObjectId, u16);

#[derive(Default)]
struct Kept {
    /// Most recently used last.
    blocks: Vec<(BlockKey, Arc<Vec<u8>>)>,
    bytes: usize,
}

/// Opens blocks and remembers the last ones.
#[derive(Default)]
pub struct Blocks {
    kept: Mutex<Kept>,
    decompressors: Mutex<Vec<Decompressor>>,
}

impl std::fmt::Debug for Blocks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Blocks")
    }
}

impl Blocks {
    fn kept(&self, key: BlockKey) -> Option<Arc<Vec<u8>>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let position = kept.blocks.iter().rposition(|(other, _)| *other == key)?;
        let entry = kept.blocks.remove(position);
        let block = Arc::clone(&entry.1);
        kept.blocks.push(entry);
        Some(block)
    }

    fn keep(&self, key: BlockKey, block: &Arc<Vec<u8>>) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.bytes += block.len();
        kept.blocks.push((key, Arc::clone(block)));
        while kept.bytes > KEPT_BYTES_MAX && kept.blocks.len() > 1 {
            let (_, oldest) = kept.blocks.remove(0);
            kept.bytes -= oldest.len();
        }
    }

    /// Reads and opens one block, without keeping it.
    ///
    /// # Errors
    /// [`Error::Damaged`] for bytes that do not open, [`Error::Missing`] for a pack that is gone.
    pub fn open(
        &self,
        storage: &dyn Storage,
        keys: &KeyTree,
        kind: PackKind,
        place: &Place,
        generation: u64,
    ) -> Result<Vec<u8>> {
        let name = ObjectName::Pack(place.pack);
        let length = u64::from(place.at.stored_length);
        let mut sealed = storage.read_range(&name, place.at.offset, length).map_err(|error| match error.kind {
            ErrorKind::Absent | ErrorKind::NoFile => Error::Missing { object: name, generation },
            ErrorKind::Length => damaged(name)(codec::Error::new("pack", Reason::Truncated)),
            _ => error.into(),
        })?;
        let decompressor = {
            let mut decompressors = self.decompressors.lock().unwrap_or_else(PoisonError::into_inner);
            decompressors.pop()
        };
        let mut decompressor = match decompressor {
            Some(decompressor) => decompressor,
            None => Decompressor::new().map_err(damaged(name))?,
        };
        let plain = block::open(keys, kind, &mut decompressor, place.at.codec, place.at.plain_length, &mut sealed)
            .map_err(damaged(name));
        self.decompressors.lock().unwrap_or_else(PoisonError::into_inner).push(decompressor);
        plain
    }

    /// Reads one chunk and checks its id.
    ///
    /// # Errors
    /// As [`Blocks::open`]; [`Error::Damaged`] when the chunk hashes to another id.
    pub fn chunk(
        &self,
        storage: &dyn Storage,
        keys: &KeyTree,
        kind: PackKind,
        chunk: &ChunkRef,
        place: &Place,
        generation: u64,
    ) -> Result<Chunk> {
        let key = (place.pack, place.block);
        let block = match self.kept(key) {
            Some(block) => block,
            None => {
                let block = Arc::new(self.open(storage, keys, kind, place, generation)?);
                self.keep(key, &block);
                block
            }
        };
        let start = place.offset as usize;
        let range = start..start.saturating_add(chunk.length as usize);
        let bytes = block.get(range.clone());
        if bytes.is_none_or(|bytes| keys.chunk_id(kind.chunk_kind(), bytes) != chunk.id) {
            let error = codec::Error::new("block", Reason::ChunkId);
            return Err(damaged(ObjectName::Pack(place.pack))(error));
        }
        Ok(Chunk { block, range })
    }
}
