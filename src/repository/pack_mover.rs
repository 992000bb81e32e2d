//! Copying what is wanted of a pack into others: what a prune does before a pack goes, and a run with many small ones.
//!
//! A block of which everything is wanted is copied as it is when it is full; of the others the wanted chunks are taken out, and become part of fuller
//! blocks.

use super::Repository;
use super::error::{Error, damaged};
use super::pack_blocks::PackBlocks;
use crate::base::id::{ChunkId, ObjectId};
use crate::base::sys::give_back_memory;
use crate::codec::block_verifier::BlockVerifier;
use crate::codec::chunk_list::ChunkRef;
use crate::codec::pack::{Block, PackKind};
use crate::codec::{self, Reason};
use crate::storage::ObjectName;

/// A block with fewer plain bytes than this part of a full one is made into a fuller one.
const SMALL_BLOCK_PART: u32 = 4;
/// After so many bytes of blocks that were read, memory that was freed is given back to the system.
const GIVE_BACK_EVERY: u64 = 8 << 20;

/// Why a pack was not moved.
#[derive(Debug)]
pub enum MoveError {
    /// It cannot be read, or is not what its name and its segment say.
    Unread(Error),
    /// Nothing more can be written.
    Unwritten(Error),
}

impl From<MoveError> for Error {
    fn from(error: MoveError) -> Self {
        match error {
            MoveError::Unread(error) | MoveError::Unwritten(error) => error,
        }
    }
}

/// What came of moving something.
pub type Moved = Result<(), MoveError>;

/// Where it goes.
pub trait Destination {
    /// Whether a chunk is wanted. Asked once for each chunk of a pack, in order, before anything of its block is read.
    fn wants(&mut self, chunk: &ChunkRef) -> bool;

    /// Takes a whole block as it is stored. Nothing of it was opened yet.
    ///
    /// # Errors
    /// [`MoveError::Unread`] when it is damaged, [`MoveError::Unwritten`].
    fn put_block(&mut self, kind: PackKind, block: Block, sealed: Vec<u8>, from: ObjectId) -> Moved;

    /// Takes a chunk, which was opened and hashed.
    ///
    /// # Errors
    /// [`MoveError::Unwritten`].
    fn put_chunk(&mut self, kind: PackKind, id: ChunkId, bytes: &[u8]) -> Moved;
}

/// Moves one pack after the other.
pub struct PackMover {
    verifier: BlockVerifier,
    /// Bytes that were read since memory was given back.
    read: u64,
}

impl std::fmt::Debug for PackMover {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PackMover")
    }
}

impl PackMover {
    /// One that has moved nothing.
    ///
    /// # Errors
    /// There is no memory for it.
    pub fn new() -> Result<Self, Error> {
        let verifier = BlockVerifier::new();
        let verifier = verifier.map_err(|error| Error::Internal(format!("a block cannot be opened: {error}")))?;
        Ok(Self { verifier, read: 0 })
    }

    /// Copies what `to` wants of a pack with this id and length, in which its segment lists so many `chunks`. All of it is read, and its bytes are what its
    /// name says: until that is known, nothing that rests on the copies may be published.
    ///
    /// # Errors
    /// What was copied before an error stays copied.
    pub fn move_pack(
        &mut self,
        repository: &Repository,
        (id, length): (ObjectId, u64),
        chunks: usize,
        to: &mut dyn Destination,
    ) -> Moved {
        let refused = |error| MoveError::Unread(damaged(ObjectName::Pack(id))(error));
        let mut blocks = PackBlocks::open(repository, id, length).map_err(MoveError::Unread)?;
        let kind = blocks.kind();
        if blocks.chunk_count() != chunks {
            let rule = "it holds other chunks than its segment says";
            return Err(refused(codec::Error::new("pack", Reason::BrokenRule { rule })));
        }
        while let Some((record, mut sealed)) = blocks.next_block().map_err(MoveError::Unread)? {
            self.read += sealed.len() as u64;
            if self.read >= GIVE_BACK_EVERY {
                give_back_memory();
                self.read = 0;
            }
            let wanted: Vec<bool> = record.chunks.iter().map(|chunk| to.wants(chunk)).collect();
            let is_full = record.plain_length >= kind.block_target() / SMALL_BLOCK_PART;
            if !wanted.contains(&true) {
                continue;
            }
            if is_full && !wanted.contains(&false) {
                to.put_block(kind, record, sealed, id)?;
                continue;
            }
            let plain = self.verifier.open(repository.keys(), kind, &record, &mut sealed).map_err(refused)?;
            let mut start = 0;
            for (chunk, is_wanted) in record.chunks.iter().zip(wanted) {
                let end = start + chunk.length as usize;
                if is_wanted {
                    let truncated = || refused(codec::Error::new("pack", Reason::Truncated));
                    to.put_chunk(kind, chunk.id, plain.get(start..end).ok_or_else(truncated)?)?;
                }
                start = end;
            }
        }
        blocks.finish().map_err(MoveError::Unread)
    }
}
