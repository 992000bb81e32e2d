//! The cache: which pack, block and offset hold a chunk, in a redb file that may be deleted at any time.
//!
//! It stands beside the repository's truth (heads and segments), never in its place:
//!
//! - **An answer is right or absent.** Every record ends in a keyed check over its table, key and value and over the id
//!   of the pack it names (`record`). Packs are immutable, so "chunk X is in pack P" stays true for ever: a record is
//!   true, or fails its check, or names a pack that is not live any more. The last is the caller's to ask, because only
//!   the head knows. A miss is never an answer for reading data: ask the segments.
//! - **It cannot fail a run.** Every error here is one that the caller may log and go on from. Nothing waits: a cache
//!   that another process writes is [`CacheError::Busy`]. Panics inside redb are caught (`guard`), and redb is only
//!   given files that it closed itself (`seal`).
//! - **It is written once**, at the end of a run, after the head, in one transaction with the ids in order
//!   ([`Writer`]), and stamped with that head and the segments it covers. Whoever finds an older stamp adds the
//!   segments that are missing.
//!
//! Files in the folder: `index.redb`; `index.seal`, written after the index was closed; `index.lock`, held shared by
//! readers and exclusively by the one writer. Bytes and order of writes: format-spec/cache.md.

mod record;
mod seal;
mod sorter;
mod writer;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use redb::{ReadOnlyDatabase, ReadOnlyTable, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition};
use rustix::fs::{CWD, OFlags};

use self::record::{
    BLOCK_KEY_BYTES, BLOCK_VALUE_BYTES, CHUNK_KEY_BYTES, CHUNK_VALUE_BYTES, META_KEY, META_VALUE_BYTES, Meta,
    PACK_KEY_BYTES, PACK_VALUE_BYTES, SEGMENT_KEY_BYTES, SEGMENT_VALUE_BYTES,
};
use crate::base::escape::Escaped;
use crate::base::guard::guard;
use crate::base::id::{ChunkId, ObjectId, RepositoryId};
use crate::base::private;
use crate::base::regular;
use crate::codec::key_tree::Key;
use crate::codec::unit::Codec;

pub use self::writer::{NewPack, Update, Writer, write};

type Table<const K: usize, const V: usize> = TableDefinition<'static, &'static [u8; K], &'static [u8; V]>;
type OpenTable<const K: usize, const V: usize> = ReadOnlyTable<&'static [u8; K], &'static [u8; V]>;

const CHUNKS: Table<CHUNK_KEY_BYTES, CHUNK_VALUE_BYTES> = TableDefinition::new("chunks");
const BLOCKS: Table<BLOCK_KEY_BYTES, BLOCK_VALUE_BYTES> = TableDefinition::new("blocks");
const PACKS: Table<PACK_KEY_BYTES, PACK_VALUE_BYTES> = TableDefinition::new("packs");
const SEGMENTS: Table<SEGMENT_KEY_BYTES, SEGMENT_VALUE_BYTES> = TableDefinition::new("segments");
const META: Table<1, META_VALUE_BYTES> = TableDefinition::new("meta");

/// Memory that redb may use for pages while it is read, in bytes: 64 MiB, of the 300 MiB that ten million chunks may cost.
const PAGE_CACHE_BYTES: usize = 64 << 20;

/// Where a chunk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Location {
    /// The pack.
    pub pack: ObjectId,
    /// The pack's number in this cache: its place in [`Cache::packs`]. Another cache numbers otherwise.
    pub pack_number: u32,
    /// Number of the block in the pack, from 0.
    pub block: u16,
    /// Where the chunk begins in the plain block, in bytes.
    pub offset: u32,
    /// Plain length of the chunk, in bytes.
    pub length: u32,
}

/// Where a block is in its pack, and how to open it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BlockPlace {
    /// Where the sealed block begins in the pack's file, in bytes.
    pub offset: u64,
    /// Length of the sealed block, in bytes.
    pub stored_length: u32,
    /// Length of the plain block, in bytes.
    pub plain_length: u32,
    /// How the plain block was packed before it was sealed.
    pub codec: Codec,
}

/// What the cache knows of a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PackFact {
    /// The pack.
    pub id: ObjectId,
    /// Length of its file, in bytes.
    pub length: u64,
    /// Its object kind, as in its header ([`crate::codec::ObjectKind`]).
    pub kind: u8,
    /// The segment that it was learnt from.
    pub segment: ObjectId,
}

/// How far a cache is: everything in `segments`, which were the live segments of this head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    /// Generation of the head.
    pub generation: u64,
    /// Id of the head.
    pub head: ObjectId,
    /// Every segment whose packs are in the cache.
    pub segments: BTreeSet<ObjectId>,
}

/// Why there is no cache, or no answer from it. None of these may end a run.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// There is none, or it was never finished.
    #[error("there is no cache yet")]
    Absent,
    /// Another process is reading what this one would write, or writing what this one would read.
    #[error("the cache is in use by another process")]
    Busy,
    /// It belongs to another repository.
    #[error("the cache belongs to another repository")]
    OtherRepository,
    /// It is not what was written. It is rebuilt from the segments by the next command that may write it.
    #[error("the cache cannot be used: {0}")]
    Damaged(&'static str),
    /// What was to be put into it does not fit its format.
    #[error("the cache cannot take this: {0}")]
    Unfit(&'static str),
    /// The file system refused.
    #[error("the cache cannot be used: {}: {error}", Escaped(path.as_os_str().as_bytes()))]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

impl CacheError {
    /// `error` about `path`; a path that is not there is a cache that is not there.
    fn io(path: &Path, error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::NotFound { Self::Absent } else { Self::Io { path: path.to_owned(), error } }
    }

    /// What redb said about `path`: the file system's refusal, or damage.
    fn of(path: &Path, error: impl Into<redb::Error>, damage: &'static str) -> Self {
        match error.into() {
            redb::Error::Io(error) => Self::Io { path: path.to_owned(), error },
            _ => Self::Damaged(damage),
        }
    }
}

/// The files of a cache.
struct Files {
    folder: PathBuf,
    index: PathBuf,
    seal: PathBuf,
    lock: PathBuf,
}

impl Files {
    fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            index: folder.join("index.redb"),
            seal: folder.join("index.seal"),
            lock: folder.join("index.lock"),
        }
    }

    /// Held by whoever reads. The lock file exists as soon as there was ever a writer; readers create nothing, so that
    /// a cache in a folder that cannot be written serves too.
    fn lock_shared(&self) -> Result<File, CacheError> {
        let file = open_file(&self.lock)?;
        file.try_lock_shared().map_err(|error| self.lock_error(error))?;
        Ok(file)
    }

    fn lock_error(&self, error: TryLockError) -> CacheError {
        match error {
            TryLockError::WouldBlock => CacheError::Busy,
            TryLockError::Error(error) => CacheError::io(&self.lock, error),
        }
    }
}

/// Opens an existing regular file for reading. Whatever else stands there (a folder, a pipe) is not opened.
fn open_file(path: &Path) -> Result<File, CacheError> {
    match regular::open_at(CWD, path, OFlags::RDONLY) {
        Ok((file, _)) => Ok(File::from(file)),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            Err(CacheError::Damaged("one of its files is no regular file"))
        }
        Err(error) => Err(CacheError::io(path, error)),
    }
}

/// Makes a new file that only its owner may read and write.
fn create_file(path: &Path) -> io::Result<File> {
    private::create(path)
}

/// What is read when a cache is opened, whole and checked.
struct Tables {
    stamp: Stamp,
    packs: Vec<PackFact>,
}

/// Reads the small tables.
fn load(transaction: &ReadTransaction, path: &Path, key: &Key, repository: RepositoryId) -> Result<Tables, CacheError> {
    let damaged = |error: redb::StorageError| CacheError::of(path, error, "the database cannot be read");
    let table_missing = |error: redb::TableError| CacheError::of(path, error, "a table is missing");
    let meta = transaction.open_table(META).map_err(table_missing)?.get(&META_KEY).map_err(damaged)?;
    let meta = meta.and_then(|value| Meta::read(key, value.value())).ok_or(CacheError::Damaged("meta record"))?;
    if meta.repository != repository {
        return Err(CacheError::OtherRepository);
    }
    let mut packs = Vec::new();
    let table = transaction.open_table(PACKS).map_err(table_missing)?;
    for (entry, number) in table.iter().map_err(damaged)?.zip(0..meta.packs) {
        let (record_key, value) = entry.map_err(damaged)?;
        let fact =
            record::read_pack(key, number, value.value()).filter(|_| *record_key.value() == number.to_be_bytes());
        packs.push(fact.ok_or(CacheError::Damaged("pack record"))?);
    }
    let mut segments = BTreeSet::new();
    let table = transaction.open_table(SEGMENTS).map_err(table_missing)?;
    for (entry, _) in table.iter().map_err(damaged)?.zip(0..meta.segments) {
        let (record_key, value) = entry.map_err(damaged)?;
        let segment = ObjectId(*record_key.value());
        if !record::segment_is_true(key, &segment, value.value()) {
            return Err(CacheError::Damaged("segment record"));
        }
        segments.insert(segment);
    }
    if packs.len() != meta.packs as usize || segments.len() != meta.segments as usize {
        return Err(CacheError::Damaged("records are missing"));
    }
    Ok(Tables { stamp: Stamp { generation: meta.generation, head: meta.head, segments }, packs })
}

/// The open tables. Fields are dropped in this order: tables, database, lock.
struct Reader {
    chunks: OpenTable<CHUNK_KEY_BYTES, CHUNK_VALUE_BYTES>,
    blocks: OpenTable<BLOCK_KEY_BYTES, BLOCK_VALUE_BYTES>,
    _database: ReadOnlyDatabase,
    _lock: File,
}

/// A cache, open for reading: any number of threads and processes may have it open at once. While it is open, nobody
/// can write it, this process included, so it is dropped as soon as the last lookup is done.
pub struct Cache {
    key: Key,
    stamp: Stamp,
    packs: Vec<PackFact>,
    damaged: AtomicBool,
    seal: PathBuf,
    /// The index file, for messages.
    path: PathBuf,
    reader: Option<Reader>,
}

impl Cache {
    /// Opens the cache in `folder`, if there is a sound one for `repository` that nobody is writing; `key` is
    /// [`crate::codec::key_tree::KeyTree::cache`]. [`Cache::try_open`] says why there is none.
    #[must_use]
    pub fn open(folder: &Path, key: &Key, repository: RepositoryId) -> Option<Self> {
        Self::try_open(folder, key, repository).ok()
    }

    /// As [`Cache::open`], with the reason. Costs one reading of the index file.
    ///
    /// # Errors
    /// Any [`CacheError`]. After [`CacheError::Busy`] go on without; after any other, build it anew.
    pub fn try_open(folder: &Path, key: &Key, repository: RepositoryId) -> Result<Self, CacheError> {
        let files = Files::new(folder);
        let lock = files.lock_shared()?;
        seal::verify(&files.index, &files.seal, key, repository)?;
        Self::open_locked(&files, key, repository, lock)
    }

    /// Opens an index that was proved sound, under a lock that keeps it so.
    fn open_locked(files: &Files, key: &Key, repository: RepositoryId, lock: File) -> Result<Self, CacheError> {
        let open = || {
            let database = redb::Builder::new()
                .set_cache_size(PAGE_CACHE_BYTES)
                .open_read_only(&files.index)
                .map_err(|error| CacheError::of(&files.index, error, "it is not a database that was closed"))?;
            let unreadable = |error: redb::TransactionError| CacheError::of(&files.index, error, "it cannot be read");
            let transaction = database.begin_read().map_err(unreadable)?;
            let tables = load(&transaction, &files.index, key, repository)?;
            let table_missing = |error: redb::TableError| CacheError::of(&files.index, error, "a table is missing");
            let chunks = transaction.open_table(CHUNKS).map_err(table_missing)?;
            let blocks = transaction.open_table(BLOCKS).map_err(table_missing)?;
            Ok((tables, Reader { chunks, blocks, _database: database, _lock: lock }))
        };
        let (tables, reader) =
            guard(open).unwrap_or(Err(CacheError::Damaged("the database stopped at an assertion")))?;
        Ok(Self {
            key: Key::new(*key.expose()),
            stamp: tables.stamp,
            packs: tables.packs,
            damaged: AtomicBool::new(false),
            seal: files.seal.clone(),
            path: files.index.clone(),
            reader: Some(reader),
        })
    }

    /// How far it is.
    #[must_use]
    pub const fn stamp(&self) -> &Stamp {
        &self.stamp
    }

    /// Every pack that it knows, by number. Whether one is live, only the head says.
    #[must_use]
    pub fn packs(&self) -> &[PackFact] {
        &self.packs
    }

    /// True after a lookup failed: the cache gives no more answers, and the next to open it finds none.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        self.damaged.load(Ordering::Relaxed)
    }

    /// Where `id` is, as far as the cache knows. `None` means: not in the segments that the stamp covers, as far as a
    /// cache can say that at all; before data is given up, ask the segments.
    ///
    /// # Errors
    /// [`CacheError::Damaged`]: take it for a miss. From then on every lookup says so at once.
    pub fn lookup(&self, id: &ChunkId) -> Result<Option<Location>, CacheError> {
        self.ask(|reader| {
            let Some(value) = reader.chunks.get(id.as_bytes())? else { return Ok(Some(None)) };
            Ok(record::read_chunk(&self.key, id, value.value(), &self.packs).map(Some))
        })
    }

    /// Where block `block` of the pack with number `pack_number` is.
    ///
    /// # Errors
    /// As [`Cache::lookup`].
    pub fn block(&self, pack_number: u32, block: u16) -> Result<Option<BlockPlace>, CacheError> {
        let Some(pack) = usize::try_from(pack_number).ok().and_then(|number| self.packs.get(number)) else {
            return Ok(None);
        };
        let record_key = record::block_key(pack_number, block);
        self.ask(|reader| {
            let Some(value) = reader.blocks.get(&record_key)? else { return Ok(Some(None)) };
            Ok(record::read_block(&self.key, &record_key, value.value(), &pack.id).map(Some))
        })
    }

    /// Asks the database. `None` from `question` is a record whose check failed.
    fn ask<T>(&self, question: impl FnOnce(&Reader) -> Result<Option<T>, redb::StorageError>) -> Result<T, CacheError> {
        let why = match (self.is_damaged(), &self.reader) {
            (false, Some(reader)) => match guard(|| question(reader)) {
                Some(Ok(Some(answer))) => return Ok(answer),
                Some(Ok(None)) => "a record fails its check",
                // Nothing is known of its bytes: the next lookup may be answered.
                Some(Err(redb::StorageError::Io(error))) => {
                    return Err(CacheError::Io { path: self.path.clone(), error });
                }
                Some(Err(_)) => "the database cannot be read",
                None => "the database stopped at an assertion",
            },
            _ => "an earlier lookup failed",
        };
        if !self.damaged.swap(true, Ordering::Relaxed) {
            // Without its seal nobody opens it again. Under the shared lock this is the seal of this very index. In a
            // folder that cannot be written, the next to open it may find the damage again.
            let _ = std::fs::remove_file(&self.seal);
        }
        Err(CacheError::Damaged(why))
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        let reader = self.reader.take();
        guard(|| drop(reader));
    }
}
