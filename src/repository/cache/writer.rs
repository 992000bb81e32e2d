//! Writing the cache: once at the end of a run, or from scratch out of all segments.
//!
//! Packs and their blocks are numbered and written as they come; chunk records are sorted first and go in as one
//! ascending sequence (sorted, ten million inserts write a hundredth of what random ones do), all in one transaction.
//! From scratch means a new file that takes the old one's place by rename, so a damaged file is never repaired.
//!
//! Order: exclusive lock; index written, committed, closed; seal written beside it; index renamed (from scratch); seal
//! renamed; folder made durable. A crash before the last rename leaves an index that no seal fits, or the old pair.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File};
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};

use redb::{Database, ReadOnlyDatabase, ReadableDatabase, WriteTransaction};

use super::record::{self, CHUNK_KEY_BYTES, CHUNK_VALUE_BYTES, META_KEY, Meta};
use super::sorter::Sorter;
use super::{
    BLOCKS, BlockPlace, CHUNKS, CacheError, Files, Location, META, PACKS, PackFact, SEGMENTS, Stamp, create_file, load,
    seal,
};
use crate::base::guard::guard;
use crate::base::id::{ChunkId, ObjectId, RepositoryId};
use crate::base::private;
use crate::codec::key_tree::Key;
use crate::codec::pack::Block;
use crate::codec::segment::SegmentPack;

/// A chunk's key and value, as they are sorted.
const RECORD_BYTES: usize = CHUNK_KEY_BYTES + CHUNK_VALUE_BYTES;

/// Chunk records that are sorted in memory: 128 Ki of 54 bytes are 7 MiB, and as much again while they are sorted.
const SORTED_RECORDS_MAX: usize = 128 * 1024;

/// Memory that redb may use for pages while it is written to, in bytes: 8 MiB. Records come in the order of their keys, so
/// that no page is wanted again once it is full.
const PAGE_CACHE_BYTES: usize = 8 << 20;

/// A pack and what is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewPack {
    /// The pack.
    pub fact: PackFact,
    /// Its blocks in order, each with its chunks (id, plain length) in order.
    pub blocks: Vec<(BlockPlace, Vec<(ChunkId, u32)>)>,
}

impl NewPack {
    /// What the segment `segment` says about one of its packs.
    #[must_use]
    pub fn of_segment(segment: ObjectId, pack: &SegmentPack) -> Self {
        let place = |offset, block: &Block| BlockPlace {
            offset,
            stored_length: block.stored_length,
            plain_length: block.plain_length,
            codec: block.codec,
        };
        let chunks = |block: &Block| block.chunks.iter().map(|chunk| (chunk.id, chunk.length)).collect();
        Self {
            fact: PackFact { id: pack.id, length: pack.length, kind: pack.kind.object_kind() as u8, segment },
            blocks: pack.directory.placed().map(|(offset, block)| (place(offset, block), chunks(block))).collect(),
        }
    }
}

/// What to bring the cache up to.
pub struct Update<'a> {
    /// What it covers afterwards.
    pub stamp: Stamp,
    /// The packs of the segments that it did not cover yet. Of two places of one chunk, the later is kept.
    pub packs: Box<dyn Iterator<Item = NewPack> + 'a>,
}

/// Writes `update` into the cache in `folder`. With `from_scratch` it holds nothing else afterwards; without, there must
/// be a sound cache to add to.
///
/// # Errors
/// Any [`CacheError`]; none may fail a run. After an error there is either the cache as it was, or none.
pub fn write(
    folder: &Path,
    key: &Key,
    repository: RepositoryId,
    update: Update<'_>,
    from_scratch: bool,
) -> Result<(), CacheError> {
    let mut writer =
        if from_scratch { Writer::create(folder, key, repository)? } else { Writer::open(folder, key, repository)? };
    for pack in update.packs {
        writer.add(&pack)?;
    }
    writer.finish(&update.stamp)
}

/// The only one who may write a cache, from [`Writer::create`] or [`Writer::open`] to [`Writer::finish`]. Dropped
/// before that, it takes the cache with it when it had begun to change it.
pub struct Writer {
    key: Key,
    repository: RepositoryId,
    files: Files,
    /// The file that is being written: the index itself, or a new one.
    target: PathBuf,
    from_scratch: bool,
    packs: HashMap<ObjectId, u32>,
    covered: BTreeSet<ObjectId>,
    chunks: Sorter<RECORD_BYTES, CHUNK_KEY_BYTES>,
    open: Option<(WriteTransaction, Database)>,
    _lock: File,
}

impl Writer {
    /// Begins an empty cache.
    ///
    /// # Errors
    /// [`CacheError::Busy`] while anybody reads or writes the old one, [`CacheError::Io`].
    pub fn create(folder: &Path, key: &Key, repository: RepositoryId) -> Result<Self, CacheError> {
        let files = Files::new(folder);
        private::make_directories(folder).map_err(|error| failed(folder, error))?;
        let lock = lock_exclusive(&files)?;
        let target = folder.join("index.redb.new");
        clear(&target)?;
        let file = create_file(&target).map_err(|error| failed(&target, error))?;
        let mut writer = Self::new(files, key, repository, target, lock, true);
        let database = run(&writer.target, || Ok(builder().create_file(file)?))?;
        writer.begin(database)?;
        Ok(writer)
    }

    /// Begins to add to the cache that there is.
    ///
    /// # Errors
    /// [`CacheError::Busy`] while anybody reads or writes it; [`CacheError::Absent`], [`CacheError::OtherRepository`]
    /// and [`CacheError::Damaged`]: [`Writer::create`] is the remedy; [`CacheError::Io`].
    pub fn open(folder: &Path, key: &Key, repository: RepositoryId) -> Result<Self, CacheError> {
        let files = Files::new(folder);
        fs::metadata(&files.index).map_err(|error| CacheError::io(&files.index, error))?;
        let lock = lock_exclusive(&files)?;
        seal::verify(&files.index, &files.seal, key, repository)?;
        let target = files.index.clone();
        let mut writer = Self::new(files, key, repository, target, lock, false);
        let database = run(&writer.target, || {
            let database = builder().set_repair_callback(redb::RepairSession::abort).open(&writer.files.index)?;
            Ok(database)
        })?;
        let read = || {
            let unreadable = |error: redb::TransactionError| CacheError::of(&writer.target, error, "it cannot be read");
            load(&database.begin_read().map_err(unreadable)?, &writer.target, key, repository)
        };
        let tables = guard(read).unwrap_or(Err(STOPPED))?;
        writer.packs = tables.packs.iter().map(|fact| fact.id).zip(0..).collect();
        writer.covered = tables.stamp.segments;
        writer.begin(database)?;
        Ok(writer)
    }

    fn new(files: Files, key: &Key, repository: RepositoryId, target: PathBuf, lock: File, from_scratch: bool) -> Self {
        Self {
            key: Key::new(*key.expose()),
            repository,
            target,
            from_scratch,
            packs: HashMap::new(),
            covered: BTreeSet::new(),
            chunks: Sorter::new(&files.folder, SORTED_RECORDS_MAX),
            files,
            open: None,
            _lock: lock,
        }
    }

    fn begin(&mut self, database: Database) -> Result<(), CacheError> {
        let transaction = run(&self.target, || Ok(database.begin_write()?))?;
        self.open = Some((transaction, database));
        Ok(())
    }

    /// Whether the cache that is added to covers a segment.
    #[must_use]
    pub fn covers(&self, segment: &ObjectId) -> bool {
        self.covered.contains(segment)
    }

    /// Adds a pack. One that is known already keeps its number, and its facts and places are written again.
    ///
    /// # Errors
    /// [`CacheError::Unfit`] for more blocks or longer blocks than a pack may have, [`CacheError::Io`],
    /// [`CacheError::Damaged`]. The writer is of no use then.
    pub fn add(&mut self, pack: &NewPack) -> Result<(), CacheError> {
        let next = u32::try_from(self.packs.len()).map_err(|_| CacheError::Unfit("more packs than 32 bits count"))?;
        let number = *self.packs.entry(pack.fact.id).or_insert(next);
        for (index, (_, chunks)) in pack.blocks.iter().enumerate() {
            let block = u16::try_from(index).map_err(|_| CacheError::Unfit("more blocks than a pack may have"))?;
            let mut offset = 0_u32;
            for (id, length) in chunks {
                let at = Location { pack: pack.fact.id, pack_number: number, block, offset, length: *length };
                let mut sorted = [0; RECORD_BYTES];
                sorted[..CHUNK_KEY_BYTES].copy_from_slice(id.as_bytes());
                sorted[CHUNK_KEY_BYTES..].copy_from_slice(&record::chunk_value(&self.key, id, &at));
                self.chunks.push(sorted).map_err(|error| failed(&self.files.folder, error))?;
                offset = offset.checked_add(*length).ok_or(CacheError::Unfit("a block longer than 4 GiB"))?;
            }
        }
        let (transaction, _) = self.open.as_ref().ok_or(STOPPED)?;
        run(&self.target, || {
            let value = record::pack_value(&self.key, number, &pack.fact);
            transaction.open_table(PACKS)?.insert(&number.to_be_bytes(), &value)?;
            let mut table = transaction.open_table(BLOCKS)?;
            for ((place, _), block) in pack.blocks.iter().zip(0..) {
                let record_key = record::block_key(number, block);
                table.insert(&record_key, &record::block_value(&self.key, &record_key, place, &pack.fact.id))?;
            }
            Ok(())
        })
    }

    /// Writes the chunks and the stamp, commits, closes and seals.
    ///
    /// # Errors
    /// Any [`CacheError`] but `Busy`.
    pub fn finish(mut self, stamp: &Stamp) -> Result<(), CacheError> {
        let unfit = |_| CacheError::Unfit("more records than 32 bits count");
        let meta = Meta {
            repository: self.repository,
            generation: stamp.generation,
            head: stamp.head,
            packs: u32::try_from(self.packs.len()).map_err(unfit)?,
            segments: u32::try_from(stamp.segments.len()).map_err(unfit)?,
        };
        let chunks = std::mem::replace(&mut self.chunks, Sorter::new(&self.files.folder, 1));
        let (transaction, database) = self.open.take().ok_or(STOPPED)?;
        let written = run(&self.target, || {
            if self.from_scratch {
                append(&transaction, chunks)?;
            } else {
                insert(&transaction, chunks)?;
            }
            let mut segments = transaction.open_table(SEGMENTS)?;
            for gone in self.covered.difference(&stamp.segments) {
                segments.remove(gone.as_bytes())?;
            }
            for new in stamp.segments.difference(&self.covered) {
                segments.insert(new.as_bytes(), &record::segment_value(&self.key, new))?;
            }
            drop(segments);
            // Opened so that they exist even when nothing is in them.
            transaction.open_table(PACKS)?;
            transaction.open_table(BLOCKS)?;
            transaction.open_table(META)?.insert(&META_KEY, &meta.value(&self.key))?;
            transaction.commit()?;
            Ok(())
        });
        let closed = guard(|| drop(database)).ok_or(STOPPED);
        written.and(closed)?;
        // Closing reports nothing. What cannot be opened again must not get a seal.
        run(&self.target, || Ok(ReadOnlyDatabase::open(&self.target)?))?;
        self.publish()
    }

    fn publish(&mut self) -> Result<(), CacheError> {
        let new_seal = self.files.folder.join("index.seal.new");
        clear(&new_seal)?;
        seal::write(&self.target, &new_seal, &self.key, self.repository)?;
        if self.from_scratch {
            replace(&self.target, &self.files.index)?;
        }
        replace(&new_seal, &self.files.seal)?;
        // From here on the pair is whole, and nothing is to be taken back.
        self.target = PathBuf::new();
        let folder = &self.files.folder;
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| failed(folder, error))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let open = self.open.take();
        guard(|| drop(open));
        // Unfinished: an index that no seal fits only takes room, which a full disk may need. Nothing to report to.
        if !self.target.as_os_str().is_empty() {
            let _ = fs::remove_file(&self.target);
        }
    }
}

const STOPPED: CacheError = CacheError::Damaged("the database stopped at an assertion");

fn builder() -> redb::Builder {
    let mut builder = redb::Builder::new();
    builder.set_cache_size(PAGE_CACHE_BYTES);
    builder
}

/// Every chunk record into an empty table. Of equal ids the last counts.
fn append(transaction: &WriteTransaction, chunks: Sorter<RECORD_BYTES, CHUNK_KEY_BYTES>) -> Result<(), redb::Error> {
    let mut table = transaction.open_table(CHUNKS)?;
    let mut cursor = table.upper_bound_mut(Bound::<&[u8; CHUNK_KEY_BYTES]>::Unbounded)?;
    let mut sorted = chunks.finish()?.peekable();
    while let Some(record) = sorted.next().transpose()? {
        let again = matches!(sorted.peek(), Some(Ok(next)) if next[..CHUNK_KEY_BYTES] == record[..CHUNK_KEY_BYTES]);
        if !again && let Some((id, value)) = split(&record) {
            cursor.insert_before(id, value)?;
        }
    }
    cursor.close()?;
    Ok(())
}

/// Every chunk record into a table that holds some. Of equal ids the last counts.
fn insert(transaction: &WriteTransaction, chunks: Sorter<RECORD_BYTES, CHUNK_KEY_BYTES>) -> Result<(), redb::Error> {
    let mut table = transaction.open_table(CHUNKS)?;
    for record in chunks.finish()? {
        if let Some((id, value)) = split(&record?) {
            table.insert(id, value)?;
        }
    }
    Ok(())
}

fn split(record: &[u8; RECORD_BYTES]) -> Option<(&[u8; CHUNK_KEY_BYTES], &[u8; CHUNK_VALUE_BYTES])> {
    let (id, value) = record.split_first_chunk()?;
    Some((id, value.try_into().ok()?))
}

/// Calls the database; a panic is damage.
fn run<T>(path: &Path, call: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, CacheError> {
    guard(call).unwrap_or(Err(redb::Error::PreviousIo)).map_err(|error| match error {
        redb::Error::DatabaseAlreadyOpen => CacheError::Busy,
        redb::Error::Io(error) => failed(path, error),
        _ => STOPPED,
    })
}

/// `error` about `path`, where a missing path is no missing cache.
fn failed(path: &Path, error: io::Error) -> CacheError {
    CacheError::Io { path: path.to_owned(), error }
}

fn lock_exclusive(files: &Files) -> Result<File, CacheError> {
    let lock = private::open(&files.lock).map_err(|error| failed(&files.lock, error))?;
    lock.try_lock().map_err(|error| files.lock_error(error))?;
    Ok(lock)
}

/// Removes what an interrupted writer left at `path`.
fn clear(path: &Path) -> Result<(), CacheError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(path, error)),
        _ => Ok(()),
    }
}

/// Renames `from` over `to`. An empty folder in the place of a file makes room.
fn replace(from: &Path, to: &Path) -> Result<(), CacheError> {
    if fs::symlink_metadata(to).is_ok_and(|metadata| metadata.is_dir()) {
        fs::remove_dir(to).map_err(|error| failed(to, error))?;
    }
    fs::rename(from, to).map_err(|error| failed(to, error))
}
