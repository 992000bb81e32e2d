//! Reading chunks: blocks are fetched, opened once, and kept for a while, because neighbours are read together.

use crate::base::lock::lock;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use super::error::{Error, Result, damaged};
use super::index::Place;
use crate::base::id::ObjectId;
use crate::codec::chunk_list::ChunkRef;
use crate::codec::compress::Decompressor;
use crate::codec::key_tree::KeyTree;
use crate::codec::pack::PackKind;
use crate::codec::{self, Reason, block};
use crate::storage::{ErrorKind, ObjectName, Storage};

/// Plain bytes of blocks that are kept, at most, by [`Blocks::default`].
const KEPT_BYTES_MAX: usize = 32 << 20;

/// One chunk's plaintext, inside the block that it came in.
#[derive(Debug, Clone)]
pub struct Chunk {
    block: Arc<Vec<u8>>,
    range: Range<usize>,
}

impl Chunk {
    /// A chunk that is at hand, without its block.
    pub(super) fn whole(bytes: Arc<Vec<u8>>) -> Self {
        let range = 0..bytes.len();
        Self { block: bytes, range }
    }
}

impl std::ops::Deref for Chunk {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.block[self.range.clone()]
    }
}

/// A pack and the number of a block in it.
type BlockKey = (ObjectId, u16);

/// One block, or the place for it: whoever comes while it is being opened waits.
type Slot = Arc<Mutex<Option<Arc<Vec<u8>>>>>;

#[derive(Default)]
struct Kept {
    /// Most recently used last, with the bytes that each takes: none before it is open.
    blocks: Vec<(BlockKey, Slot, usize)>,
    bytes: usize,
}

/// Opens blocks and remembers the last ones. Several threads that want one block open it once.
pub struct Blocks {
    kept_bytes_max: usize,
    kept: Mutex<Kept>,
    decompressors: Mutex<Vec<Decompressor>>,
}

impl std::fmt::Debug for Blocks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Blocks")
    }
}

impl Default for Blocks {
    fn default() -> Self {
        Self::keeping(KEPT_BYTES_MAX)
    }
}

impl Blocks {
    /// One that keeps so many plain bytes of blocks, and at least the last block.
    #[must_use]
    pub fn keeping(bytes: usize) -> Self {
        Self { kept_bytes_max: bytes, kept: Mutex::default(), decompressors: Mutex::default() }
    }

    fn slot(&self, key: BlockKey) -> Slot {
        let mut kept = lock(&self.kept);
        let entry = match kept.blocks.iter().rposition(|(other, ..)| *other == key) {
            Some(position) => kept.blocks.remove(position),
            None => (key, Slot::default(), 0),
        };
        let slot = Arc::clone(&entry.1);
        kept.blocks.push(entry);
        slot
    }

    /// A block was opened: the oldest go until all fit.
    fn count(&self, key: BlockKey, bytes: usize) {
        let mut kept = lock(&self.kept);
        let Some(entry) = kept.blocks.iter_mut().rfind(|(other, ..)| *other == key) else { return };
        let before = std::mem::replace(&mut entry.2, bytes);
        kept.bytes += bytes - before.min(bytes);
        while kept.bytes > self.kept_bytes_max && kept.blocks.len() > 1 {
            let (_, _, oldest) = kept.blocks.remove(0);
            kept.bytes -= oldest;
        }
    }

    /// A block that could not be opened takes no place.
    fn drop_slot(&self, key: BlockKey) {
        lock(&self.kept).blocks.retain(|(other, _, bytes)| *other != key || *bytes > 0);
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
        let decompressor = lock(&self.decompressors).pop();
        let mut decompressor = match decompressor {
            Some(decompressor) => decompressor,
            None => Decompressor::new().map_err(damaged(name))?,
        };
        let plain = block::open(keys, kind, &mut decompressor, place.at.codec, place.at.plain_length, &mut sealed)
            .map_err(damaged(name));
        lock(&self.decompressors).push(decompressor);
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
        let slot = self.slot(key);
        let mut opened = lock(&slot);
        let block = match &*opened {
            Some(block) => Arc::clone(block),
            None => {
                let block = match self.open(storage, keys, kind, place, generation) {
                    Ok(block) => Arc::new(block),
                    Err(error) => {
                        self.drop_slot(key);
                        return Err(error);
                    }
                };
                *opened = Some(Arc::clone(&block));
                self.count(key, block.len());
                block
            }
        };
        drop(opened);
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
