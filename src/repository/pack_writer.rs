//! Filling and flushing packs: chunks are gathered into blocks in walk order, blocks are compressed, sealed and verified
//! in parallel, and one thread writes them in order.
//!
//! There is at most one open data pack and one open tree pack, so a run that is killed loses at most these two: every
//! finished pack lies durable under its name, describes itself, and is adopted by the next run (`pack_reader.rs`).
//!
//! Every block is opened again as soon as it is sealed: unsealed, decompressed, every chunk hashed. A bit that flips in
//! memory between reading and sealing is caught here and not years later.

use crate::base::lock::lock;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

use super::error::{Error, Result, damaged};
use super::random;
use crate::base::id::{ChunkId, ObjectId};
use crate::codec::block::{self, SealedBlock};
use crate::codec::block_verifier::BlockVerifier;
use crate::codec::chunk_list::ChunkRef;
use crate::codec::compress::{Compressor, KEPT_MAX};
use crate::codec::key_tree::KeyTree;
use crate::codec::pack::{self, Block, PackDirectory, PackKind};
use crate::codec::segment::SegmentPack;
use crate::codec::unit;
use crate::storage::{ObjectName, Storage, Upload};

/// The default of [`PackOptions::merge_min`].
pub const MERGE_MIN: usize = 32;

/// How packs are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackOptions {
    /// A pack is finished when it has reached this many bytes.
    pub pack_bytes: u64,
    /// zstd level; none to compress nothing.
    pub compression: Option<i32>,
    /// Open every block again after sealing it.
    pub verify: bool,
    /// Write nothing: for a dry run.
    pub discard: bool,
    /// A run merges small packs when there are at least so many of one kind, and small segments likewise ([`Run::merge_small`]).
    ///
    /// [`Run::merge_small`]: super::run::Run::merge_small
    pub merge_min: usize,
}

impl Default for PackOptions {
    fn default() -> Self {
        Self { pack_bytes: 32 << 20, compression: Some(3), verify: true, discard: false, merge_min: MERGE_MIN }
    }
}

/// Blocks that are queued for the writing thread, at most; it has one more in hand. Each holds 2 MiB and its sealed form.
const BLOCKS_QUEUED_MAX: usize = 4;

/// As many as there are threads to seal them: more would only take memory.
fn blocks_queued() -> usize {
    rayon::current_num_threads().clamp(1, BLOCKS_QUEUED_MAX)
}

/// One block on its way to its pack.
struct Pending {
    kind: PackKind,
    sealed: Receiver<Result<(Block, Vec<u8>)>>,
}

/// Chunks that wait to become a block.
struct Assembler {
    kind: PackKind,
    plain: Vec<u8>,
    chunks: Vec<ChunkRef>,
}

impl Assembler {
    const fn new(kind: PackKind) -> Self {
        Self { kind, plain: Vec::new(), chunks: Vec::new() }
    }
}

/// What the workers share.
struct Workshop {
    keys: Arc<KeyTree>,
    options: PackOptions,
    compressors: Mutex<Vec<Compressor>>,
    verifiers: Mutex<Vec<BlockVerifier>>,
    /// Empty, for the next blocks.
    buffers: Mutex<Vec<Vec<u8>>>,
}

impl Workshop {
    /// An empty buffer with room for so many bytes. It is not left to grow: doubled, it would take twice what it holds.
    fn buffer(&self, room: usize) -> Vec<u8> {
        let mut buffer = lock(&self.buffers).pop().unwrap_or_default();
        buffer.reserve_exact(room);
        buffer
    }

    fn give_back(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        let mut buffers = lock(&self.buffers);
        if buffers.len() < blocks_queued() && buffer.capacity() <= KEPT_MAX {
            buffers.push(buffer);
        }
    }

    /// The sealed block, and what the directory will say about it.
    fn seal(&self, kind: PackKind, plain: &[u8], chunks: Vec<ChunkRef>) -> Result<(Block, Vec<u8>)> {
        let refuse = |error: crate::codec::Error| Error::Internal(format!("a block could not be sealed: {error}"));
        let kept = lock(&self.compressors).pop();
        let mut compressor = match (kept, self.options.compression) {
            (Some(compressor), _) => compressor,
            (None, Some(level)) => Compressor::new(level).map_err(refuse)?,
            (None, None) => Compressor::off(),
        };
        let SealedBlock { codec, bytes } =
            block::seal(&self.keys, kind, &mut compressor, plain, &random::bytes()?).map_err(refuse)?;
        lock(&self.compressors).push(compressor);
        let block = Block { codec, stored_length: bytes.len() as u32, plain_length: plain.len() as u32, chunks };
        if self.options.verify {
            self.verify(kind, &block, &bytes).map_err(|error| {
                Error::Internal(format!(
                    "a block did not open again after it was sealed ({error}): this points at faulty memory. \
                     Nothing was published; test the machine's memory before the next backup"
                ))
            })?;
        }
        Ok((block, bytes))
    }

    /// Opens a sealed block and hashes every chunk in it.
    fn verify(&self, kind: PackKind, block: &Block, bytes: &[u8]) -> crate::codec::Result<()> {
        let kept = lock(&self.verifiers).pop();
        let mut verifier = match kept {
            Some(verifier) => verifier,
            None => BlockVerifier::new()?,
        };
        let verified = verifier.verify(&self.keys, kind, block, bytes);
        lock(&self.verifiers).push(verifier);
        verified
    }
}

/// A pack that is being written.
struct OpenPack {
    kind: PackKind,
    upload: Option<Box<dyn Upload>>,
    hasher: blake3::Hasher,
    length: u64,
    chunks: usize,
    directory: PackDirectory,
}

impl OpenPack {
    fn begin(storage: &dyn Storage, keys: &KeyTree, kind: PackKind, discard: bool) -> Result<Self> {
        let upload = if discard { None } else { Some(storage.create()?) };
        let directory = PackDirectory { blocks: Vec::new() };
        let mut pack = Self { kind, upload, hasher: blake3::Hasher::new(), length: 0, chunks: 0, directory };
        pack.append(&pack::header(kind, keys.repository()))?;
        Ok(pack)
    }

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.hasher.update(bytes);
        self.length += bytes.len() as u64;
        if let Some(upload) = &mut self.upload {
            upload.append(bytes)?;
        }
        Ok(())
    }

    fn finish(mut self, keys: &KeyTree) -> Result<SegmentPack> {
        let tail = pack::finish(keys, self.kind, &self.directory, self.length, &random::bytes()?)
            .map_err(|error| Error::Internal(format!("a pack could not be closed: {error}")))?;
        let mut directory_prefix = [0; unit::PREFIX_BYTES];
        directory_prefix.copy_from_slice(&tail[..unit::PREFIX_BYTES]);
        self.append(&tail)?;
        let id = ObjectId(*self.hasher.finalize().as_bytes());
        if let Some(upload) = self.upload {
            upload.finish(&ObjectName::Pack(id))?;
        }
        Ok(SegmentPack { id, length: self.length, kind: self.kind, directory: self.directory, directory_prefix })
    }
}

/// The thread that writes sealed blocks in order.
struct Packer {
    storage: Arc<dyn Storage>,
    workshop: Arc<Workshop>,
    finished: Sender<SegmentPack>,
    open: [Option<OpenPack>; 2],
}

impl Packer {
    fn run(mut self, blocks: &Receiver<Pending>) -> Result<()> {
        for pending in blocks {
            let (block, bytes) = pending
                .sealed
                .recv()
                .map_err(|_| Error::Internal("a worker thread ended before its block was sealed".to_owned()))??;
            let options = self.workshop.options;
            // A pack is closed while it still fits its length: it is padded up to that, and a full one hardly is.
            if let Some(pack) = &self.open[pending.kind as usize % 2] {
                let blocks = pack.directory.blocks.len() + 1;
                let chunks = pack.chunks + block.chunks.len();
                let length = pack.length + bytes.len() as u64 + PackDirectory::room(blocks, chunks);
                if length > options.pack_bytes || blocks > pack::BLOCKS_MAX || chunks > pack::CHUNKS_MAX {
                    self.close(pending.kind)?;
                }
            }
            let slot = &mut self.open[pending.kind as usize % 2];
            let pack = match slot {
                Some(pack) => pack,
                none => {
                    none.insert(OpenPack::begin(&*self.storage, &self.workshop.keys, pending.kind, options.discard)?)
                }
            };
            pack.append(&bytes)?;
            pack.chunks += block.chunks.len();
            pack.directory.blocks.push(block);
        }
        self.close(PackKind::Data)?;
        self.close(PackKind::Tree)
    }

    fn close(&mut self, kind: PackKind) -> Result<()> {
        if let Some(pack) = self.open[kind as usize % 2].take() {
            let finished = pack.finish(&self.workshop.keys)?;
            // The receiver lives as long as the writer; when it is gone the run has failed elsewhere.
            let _ = self.finished.send(finished);
        }
        Ok(())
    }
}

/// Gathers chunks into blocks and blocks into packs.
pub struct PackWriter {
    workshop: Arc<Workshop>,
    data: Assembler,
    tree: Assembler,
    blocks: Option<Sender<Pending>>,
    finished: Receiver<SegmentPack>,
    packer: Option<JoinHandle<Result<()>>>,
}

impl std::fmt::Debug for PackWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PackWriter").field("options", &self.workshop.options).finish_non_exhaustive()
    }
}

impl PackWriter {
    /// Starts the writing thread.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn new(storage: Arc<dyn Storage>, keys: Arc<KeyTree>, options: PackOptions) -> Result<Self> {
        let (blocks, queue) = bounded(blocks_queued());
        let (finished_in, finished) = unbounded();
        let workshop = Arc::new(Workshop {
            keys,
            options,
            compressors: Mutex::default(),
            verifiers: Mutex::default(),
            buffers: Mutex::default(),
        });
        let packer = Packer { storage, workshop: Arc::clone(&workshop), finished: finished_in, open: [None, None] };
        let packer = std::thread::Builder::new().spawn(move || packer.run(&queue)).map_err(Error::Threads)?;
        Ok(Self {
            workshop,
            data: Assembler::new(PackKind::Data),
            tree: Assembler::new(PackKind::Tree),
            blocks: Some(blocks),
            finished,
            packer: Some(packer),
        })
    }

    /// Adds a chunk that no live pack holds.
    ///
    /// # Errors
    /// The writing thread's error: it is final for the run.
    pub fn add(&mut self, kind: PackKind, id: ChunkId, bytes: &[u8]) -> Result<()> {
        let assembler = match kind {
            PackKind::Data => &mut self.data,
            PackKind::Tree => &mut self.tree,
        };
        if !assembler.plain.is_empty() && assembler.plain.len() + bytes.len() > kind.block_target() as usize {
            self.flush(kind)?;
        }
        let assembler = match kind {
            PackKind::Data => &mut self.data,
            PackKind::Tree => &mut self.tree,
        };
        if assembler.plain.capacity() == 0 {
            assembler.plain = self.workshop.buffer(bytes.len().max(kind.block_target() as usize));
        }
        assembler.plain.extend_from_slice(bytes);
        assembler.chunks.push(ChunkRef { id, length: bytes.len() as u32 });
        Ok(())
    }

    fn flush(&mut self, kind: PackKind) -> Result<()> {
        let assembler = match kind {
            PackKind::Data => &mut self.data,
            PackKind::Tree => &mut self.tree,
        };
        if assembler.chunks.is_empty() {
            return Ok(());
        }
        let kind = assembler.kind;
        let plain = std::mem::take(&mut assembler.plain);
        let chunks = std::mem::take(&mut assembler.chunks);
        let (done, sealed) = bounded(1);
        let pending = Pending { kind, sealed };
        // Queue first: the bound on blocks in flight is the bound on memory.
        let queued = self.blocks.as_ref().is_some_and(|blocks| blocks.send(pending).is_ok());
        if !queued {
            return Err(self.failure());
        }
        let workshop = Arc::clone(&self.workshop);
        rayon::spawn(move || {
            let result = workshop.seal(kind, &plain, chunks);
            workshop.give_back(plain);
            let _ = done.send(result);
        });
        Ok(())
    }

    /// Adds a sealed block of the pack `from` as it is; it is opened and its chunks are hashed on the way.
    ///
    /// # Errors
    /// The writing thread's error, [`Error::Damaged`] for the pack among them: it is final for the run.
    pub fn add_sealed(&mut self, kind: PackKind, record: Block, bytes: Vec<u8>, from: ObjectId) -> Result<()> {
        let (done, sealed) = bounded(1);
        let pending = Pending { kind, sealed };
        let queued = self.blocks.as_ref().is_some_and(|blocks| blocks.send(pending).is_ok());
        if !queued {
            return Err(self.failure());
        }
        let workshop = Arc::clone(&self.workshop);
        rayon::spawn(move || {
            let verified = workshop.verify(kind, &record, &bytes).map_err(damaged(ObjectName::Pack(from)));
            let _ = done.send(verified.map(|()| (record, bytes)));
        });
        Ok(())
    }

    /// Why the writing thread stopped.
    fn failure(&mut self) -> Error {
        self.blocks = None;
        match self.packer.take().map(JoinHandle::join) {
            Some(Ok(Err(error))) => error,
            _ => Error::Internal("the thread that writes packs ended unexpectedly".to_owned()),
        }
    }

    /// Packs that were finished since the last call.
    pub fn finished(&self) -> impl Iterator<Item = SegmentPack> + '_ {
        self.finished.try_iter()
    }

    /// Flushes everything, waits until it is durable and returns the last packs.
    ///
    /// # Errors
    /// The writing thread's error: it is final for the run.
    pub fn finish(mut self) -> Result<Vec<SegmentPack>> {
        self.flush(PackKind::Data)?;
        self.flush(PackKind::Tree)?;
        self.blocks = None;
        match self.packer.take().map(JoinHandle::join) {
            Some(Ok(Ok(()))) => Ok(self.finished.try_iter().collect()),
            Some(Ok(Err(error))) => Err(error),
            _ => Err(Error::Internal("the thread that writes packs ended unexpectedly".to_owned())),
        }
    }
}

impl Drop for PackWriter {
    /// An abandoned run leaves no thread behind. What was sealed is finished into packs, which the next run adopts.
    fn drop(&mut self) {
        self.blocks = None;
        if let Some(packer) = self.packer.take() {
            let _ = packer.join();
        }
    }
}
