//! Where every chunk is: the cache first, the segments whenever the cache does not know.
//!
//! Invariants
//! - Only live packs are ever returned: those in the table of a live segment that are neither marked nor swept.
//! - "This chunk is stored" is believed only when a record that passed its keyed check, or an opened segment, says so.
//! - For reading, a miss in the cache is no answer: the segments themselves are asked before a chunk is called
//!   missing ([`Index::locate`]). For writing, a miss only stores a chunk twice ([`Index::pack_of`]).

use crate::base::lock::lock;
use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock};

use super::cache::{BlockPlace, Cache, CacheError, NewPack, PackFact, Stamp, Writer};
use super::error::{Error, Result, damaged};
use crate::base::id::{ChunkId, ObjectId};
use crate::codec::head::HeadRef;
use crate::codec::key_tree::KeyTree;
use crate::codec::live_state::LiveState;
use crate::codec::pack::{Block, PackKind};
use crate::codec::segment::{self, Segment, SegmentPack};
use crate::storage::{ErrorKind, ObjectName, Storage};

/// Where one chunk lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The pack.
    pub pack: ObjectId,
    /// Number of the block in its pack.
    pub block: u16,
    /// Where the block lies in the pack.
    pub at: BlockPlace,
    /// Offset of the chunk in the plain block, in bytes.
    pub offset: u32,
    /// Length of the chunk, in bytes.
    pub length: u32,
}

/// One live pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LivePack {
    /// Stored length in bytes.
    pub length: u64,
    /// What it holds.
    pub kind: PackKind,
    /// The segment that lists it.
    pub segment: ObjectId,
}

/// Segments held in memory: what the cache does not cover, or everything when there is no cache.
#[derive(Debug, Clone, Default)]
pub(super) struct Memory {
    packs: Vec<(ObjectId, Vec<BlockPlace>)>,
    chunks: HashMap<ChunkId, InMemory>,
}

#[derive(Debug, Clone, Copy)]
struct InMemory {
    pack: u32,
    block: u16,
    offset: u32,
    length: u32,
}

impl Memory {
    /// Adds what a pack holds.
    pub(super) fn add(&mut self, pack: &SegmentPack) {
        let number = self.packs.len() as u32;
        let mut places = Vec::with_capacity(pack.directory.blocks.len());
        for (block, (at, record)) in pack.directory.placed().enumerate() {
            places.push(place(at, record));
            let mut offset = 0;
            for chunk in &record.chunks {
                let place = InMemory { pack: number, block: block as u16, offset, length: chunk.length };
                self.chunks.entry(chunk.id).or_insert(place);
                offset += chunk.length;
            }
        }
        self.packs.push((pack.id, places));
    }

    /// Where a chunk lies.
    pub(super) fn get(&self, id: &ChunkId) -> Option<Place> {
        let found = self.chunks.get(id)?;
        let (pack, places) = self.packs.get(found.pack as usize)?;
        let at = *places.get(usize::from(found.block))?;
        Some(Place { pack: *pack, block: found.block, at, offset: found.offset, length: found.length })
    }
}

/// Reads and opens one segment.
pub fn read_segment(
    storage: &dyn Storage,
    keys: &KeyTree,
    id: ObjectId,
    length: u64,
    generation: u64,
) -> Result<Segment> {
    let name = ObjectName::Segment(id);
    let bytes = storage.read(&name, length.min(segment::BYTES_MAX)).map_err(|error| match error.kind {
        ErrorKind::Absent | ErrorKind::NoFile => Error::Missing { object: name, generation },
        _ => error.into(),
    })?;
    if ObjectId::of(&bytes) != id {
        return Err(damaged(name)(crate::codec::Error::new("segment", crate::codec::Reason::ObjectId)));
    }
    Segment::open(keys, bytes).map_err(damaged(name))
}

/// Where every live chunk is.
pub struct Index {
    cache: Option<Cache>,
    cache_folder: Option<PathBuf>,
    cache_damaged: AtomicBool,
    memory: Memory,
    everything: OnceLock<Memory>,
    /// Why a segment could not be asked, when nothing is known of its bytes.
    unasked: Mutex<Option<Error>>,
    packs: HashMap<ObjectId, LivePack>,
    broken: Vec<Error>,
}

impl std::fmt::Debug for Index {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Index").field("packs", &self.packs.len()).finish_non_exhaustive()
    }
}

/// What an index is made from.
#[derive(Clone, Copy)]
pub struct Sources<'a> {
    /// The repository's objects.
    pub storage: &'a dyn Storage,
    /// Its keys.
    pub keys: &'a KeyTree,
    /// What is live.
    pub state: &'a LiveState,
    /// The head that says so.
    pub head: HeadRef,
    /// The folder of this repository's cache, unless the user wants none.
    pub cache_folder: Option<&'a Path>,
}

impl std::fmt::Debug for Sources<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sources").field("head", &self.head).finish_non_exhaustive()
    }
}

impl Sources<'_> {
    fn segment(&self, id: ObjectId) -> Result<Segment> {
        let length = self.state.segments.get(&id).copied().unwrap_or(segment::BYTES_MAX);
        read_segment(self.storage, self.keys, id, length, self.head.generation)
    }

    fn is_live(&self, pack: &ObjectId) -> bool {
        !self.state.marked.contains_key(pack) && !self.state.swept.contains_key(pack)
    }
}

impl Index {
    /// Brings the cache up to the head and opens it; whatever the cache cannot take is held in memory. Segments that
    /// cannot be read are remembered ([`Index::broken`]): readers go on with the rest, writers refuse.
    #[must_use]
    pub fn open(sources: &Sources<'_>) -> Self {
        let folder = sources.cache_folder;
        let mut cache = folder.and_then(|folder| Self::open_cache(folder, sources));
        let mut missing = Self::uncovered(cache.as_ref(), sources);
        if let Some(folder) = folder
            && !missing.is_empty()
        {
            let from_scratch = cache.is_none();
            drop(cache.take());
            // The cache is disposable: when it cannot be written, the same segments are read into memory below.
            let _ = catch_up(folder, sources, from_scratch);
            cache = Self::open_cache(folder, sources);
            missing = Self::uncovered(cache.as_ref(), sources);
        }
        let mut packs = HashMap::new();
        for fact in cache.iter().flat_map(Cache::packs) {
            let kind = PackKind::from_byte(fact.kind);
            if let Some(kind) = kind
                && sources.state.segments.contains_key(&fact.segment)
                && sources.is_live(&fact.id)
            {
                packs.insert(fact.id, LivePack { length: fact.length, kind, segment: fact.segment });
            }
        }
        let mut memory = Memory::default();
        let mut broken = Vec::new();
        for id in missing {
            match sources.segment(id) {
                Ok(segment) => {
                    for pack in segment.packs.iter().filter(|pack| sources.is_live(&pack.id)) {
                        packs.insert(pack.id, LivePack { length: pack.length, kind: pack.kind, segment: id });
                        memory.add(pack);
                    }
                }
                Err(error) => broken.push(error),
            }
        }
        let lengths = packs.iter().map(|(id, pack)| (ObjectName::Pack(*id), pack.length));
        sources.storage.learn_lengths(&mut { lengths });
        Self {
            cache,
            cache_folder: folder.map(Path::to_path_buf),
            cache_damaged: AtomicBool::new(false),
            memory,
            everything: OnceLock::new(),
            unasked: Mutex::new(None),
            packs,
            broken,
        }
    }

    fn open_cache(folder: &Path, sources: &Sources<'_>) -> Option<Cache> {
        Cache::open(folder, sources.keys.cache(), sources.keys.repository())
    }

    fn uncovered(cache: Option<&Cache>, sources: &Sources<'_>) -> Vec<ObjectId> {
        let covered = cache.map(|cache| &cache.stamp().segments);
        let is_covered = |id: &ObjectId| covered.is_some_and(|covered| covered.contains(id));
        sources.state.segments.keys().filter(|id| !is_covered(id)).copied().collect()
    }

    /// Segments that could not be read.
    #[must_use]
    pub fn broken(&self) -> &[Error] {
        &self.broken
    }

    /// That the store did not answer when it was asked for a segment: what is not found here may be there.
    #[must_use]
    pub fn unavailable(&self) -> Option<Error> {
        let unasked = lock(&self.unasked);
        self.broken.iter().chain(unasked.iter()).filter(|error| error.is_unreadable()).find_map(Error::again)
    }

    /// The broken segments, to hand on as errors.
    pub fn take_broken(&mut self) -> Vec<Error> {
        std::mem::take(&mut self.broken)
    }

    /// Every live pack.
    #[must_use]
    pub const fn packs(&self) -> &HashMap<ObjectId, LivePack> {
        &self.packs
    }

    /// The live pack that holds the chunk, as far as the cache knows. Asked by writers.
    #[must_use]
    pub fn pack_of(&self, id: &ChunkId) -> Option<ObjectId> {
        if let Some(found) = self.memory.get(id) {
            return Some(found.pack);
        }
        match self.cache.as_ref()?.lookup(id) {
            Ok(location) => location.map(|location| location.pack).filter(|pack| self.packs.contains_key(pack)),
            Err(error) => {
                self.distrust(&error);
                None
            }
        }
    }

    fn locate_in_cache(&self, id: &ChunkId) -> Option<Place> {
        let cache = self.cache.as_ref()?;
        let found = cache.lookup(id).and_then(|location| match location {
            Some(location) if self.packs.contains_key(&location.pack) => {
                let at = cache.block(location.pack_number, location.block)?;
                Ok(at.map(|at| Place {
                    pack: location.pack,
                    block: location.block,
                    at,
                    offset: location.offset,
                    length: location.length,
                }))
            }
            _ => Ok(None),
        });
        found.unwrap_or_else(|error| {
            self.distrust(&error);
            None
        })
    }

    /// What the file system did not give says nothing of the cache; anything else is a wrong answer.
    fn distrust(&self, error: &CacheError) {
        if !matches!(error, CacheError::Io { .. }) {
            self.cache_damaged.store(true, Ordering::Relaxed);
        }
    }

    /// Where a chunk lies. Asked by readers: a miss in the cache sends us to the segments.
    #[must_use]
    pub fn locate(&self, sources: &Sources<'_>, id: &ChunkId) -> Option<Place> {
        self.memory.get(id).or_else(|| self.locate_in_cache(id)).or_else(|| {
            self.cache.as_ref()?;
            self.from_segments(sources, id)
        })
    }

    /// Where a chunk lies according to the segments alone.
    #[must_use]
    pub fn from_segments(&self, sources: &Sources<'_>, id: &ChunkId) -> Option<Place> {
        let everything = self.everything.get_or_init(|| {
            self.cache_damaged.store(true, Ordering::Relaxed);
            let mut memory = Memory::default();
            for id in sources.state.segments.keys() {
                match sources.segment(*id) {
                    Ok(segment) => {
                        for pack in segment.packs.iter().filter(|pack| self.packs.contains_key(&pack.id)) {
                            memory.add(pack);
                        }
                    }
                    Err(error) if error.is_unreadable() => {
                        *lock(&self.unasked) = Some(error);
                    }
                    // A damaged segment was named when the index was opened.
                    Err(_) => {}
                }
            }
            memory
        });
        everything.get(id)
    }

    /// After a run: adds its segments to the cache, or throws a cache away that gave a wrong answer. Never fails a run.
    pub fn settle(self, sources: &Sources<'_>) {
        let Some(folder) = &self.cache_folder else { return };
        let damaged = self.cache_damaged.load(Ordering::Relaxed);
        let is_behind = !Self::uncovered(self.cache.as_ref(), sources).is_empty();
        let from_scratch = damaged || self.cache.is_none();
        drop(self.cache);
        if is_behind || damaged {
            let _ = catch_up(folder, sources, from_scratch);
        }
    }
}

/// Makes the cache again from the segments. Without a cache folder there is nothing to do.
///
/// # Errors
/// [`CacheError::Busy`] while another process has it open; [`CacheError::Io`].
pub fn rebuild_cache(sources: &Sources<'_>) -> std::result::Result<(), CacheError> {
    let Some(folder) = sources.cache_folder else { return Ok(()) };
    catch_up(folder, sources, true)
}

/// Adds to the cache what it does not cover: first what segments list of marked packs, which may be revived, then the live
/// packs, so that a chunk that lies in both is found where it stays. Swept packs never come back and are left out. A segment
/// that cannot be read is left out and not claimed as covered. What is missing is asked of the cache that is locked:
/// another process may have made it anew, and with less in it, since it was read.
fn catch_up(folder: &Path, sources: &Sources<'_>, from_scratch: bool) -> std::result::Result<(), CacheError> {
    let (key, repository) = (sources.keys.cache(), sources.keys.repository());
    let mut writer =
        if from_scratch { Writer::create(folder, key, repository) } else { Writer::open(folder, key, repository) }?;
    let mut covered: BTreeSet<ObjectId> = sources.state.segments.keys().copied().collect();
    // Usually nothing is marked, and every segment is read once.
    let passes: &[bool] = if sources.state.marked.is_empty() { &[true] } else { &[false, true] };
    for live in passes {
        for id in sources.state.segments.keys().filter(|id| !writer.covers(id)).copied().collect::<Vec<_>>() {
            match sources.segment(id) {
                Ok(segment) => {
                    let wanted = |pack: &SegmentPack| {
                        !sources.state.swept.contains_key(&pack.id) && sources.is_live(&pack.id) == *live
                    };
                    for pack in segment.packs.into_iter().filter(wanted) {
                        writer.add(&new_pack(pack, id))?;
                    }
                }
                Err(_) => {
                    covered.remove(&id);
                }
            }
        }
    }
    writer.finish(&Stamp { generation: sources.head.generation, head: sources.head.id, segments: covered })
}

fn new_pack(pack: SegmentPack, segment: ObjectId) -> NewPack {
    let kind = pack.kind.object_kind() as u8;
    let fact = PackFact { id: pack.id, length: pack.length, kind, segment };
    let blocks = pack
        .directory
        .placed()
        .map(|(at, block)| (place(at, block), block.chunks.iter().map(|chunk| (chunk.id, chunk.length)).collect()))
        .collect();
    NewPack { fact, blocks }
}

const fn place(offset: u64, block: &Block) -> BlockPlace {
    BlockPlace { offset, stored_length: block.stored_length, plain_length: block.plain_length, codec: block.codec }
}
