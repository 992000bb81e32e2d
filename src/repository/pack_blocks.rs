//! Reading all of a pack front to back, one block in memory at a time, for whoever moves what is in it.
//!
//! Every byte is hashed on the way, and [`PackBlocks::finish`] says in the end whether together they are what the pack's name
//! says. What was taken out of the pack until then is to be believed no further than it was checked itself, and nothing that
//! rests on it is published before.

use super::Repository;
use super::error::{Result, damaged};
use super::pack_reader;
use crate::base::id::ObjectId;
use crate::codec::pack::{Block, HEADER_BYTES, PackKind};
use crate::codec::{self, Reason};
use crate::storage::{ErrorKind, ObjectName};

/// One pack that is being read.
pub struct PackBlocks<'r> {
    repository: &'r Repository,
    id: ObjectId,
    length: u64,
    kind: PackKind,
    chunks: usize,
    blocks: std::vec::IntoIter<Block>,
    /// How much of it was read and hashed, in bytes.
    at: u64,
    hasher: blake3::Hasher,
}

impl std::fmt::Debug for PackBlocks<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PackBlocks").field("id", &self.id).field("at", &self.at).finish_non_exhaustive()
    }
}

impl<'r> PackBlocks<'r> {
    /// Reads what the pack says about itself.
    ///
    /// # Errors
    /// [`Error::Damaged`](super::Error::Damaged) with the first check that failed; a storage error.
    pub fn open(repository: &'r Repository, id: ObjectId, length: u64) -> Result<Self> {
        let found = repository.storage().length(&ObjectName::Pack(id))?;
        if found != length {
            let reason = Reason::WrongLength { expected: length, found };
            return Err(damaged(ObjectName::Pack(id))(codec::Error::new("pack", reason)));
        }
        let pack = pack_reader::read_directory(repository, id, length)?;
        let chunks = pack.directory.chunk_count();
        let blocks = pack.directory.blocks.into_iter();
        let mut reader =
            Self { repository, id, length, kind: pack.kind, chunks, blocks, at: 0, hasher: blake3::Hasher::new() };
        reader.take(HEADER_BYTES as u64)?;
        Ok(reader)
    }

    /// What it holds.
    #[must_use]
    pub const fn kind(&self) -> PackKind {
        self.kind
    }

    /// How many chunks it says that it holds.
    #[must_use]
    pub const fn chunk_count(&self) -> usize {
        self.chunks
    }

    fn take(&mut self, count: u64) -> Result<Vec<u8>> {
        let name = ObjectName::Pack(self.id);
        let bytes = self.repository.storage().read_range(&name, self.at, count).map_err(|error| match error.kind {
            ErrorKind::Length => damaged(name)(codec::Error::new("pack", Reason::Truncated)),
            _ => error.into(),
        })?;
        self.hasher.update(&bytes);
        self.at += count;
        Ok(bytes)
    }

    /// The next block as it is stored, and what the directory says about it; `None` behind the last.
    ///
    /// # Errors
    /// A storage error; [`Error::Damaged`](super::Error::Damaged) when the pack ends early.
    pub fn next_block(&mut self) -> Result<Option<(Block, Vec<u8>)>> {
        let Some(block) = self.blocks.next() else { return Ok(None) };
        let sealed = self.take(u64::from(block.stored_length))?;
        Ok(Some((block, sealed)))
    }

    /// Reads the rest: all of it was what the name says.
    ///
    /// # Errors
    /// [`Error::Damaged`](super::Error::Damaged) when it was not.
    pub fn finish(mut self) -> Result<()> {
        while self.next_block()?.is_some() {}
        self.take(self.length.saturating_sub(self.at))?;
        if ObjectId(*self.hasher.finalize().as_bytes()) == self.id {
            return Ok(());
        }
        Err(damaged(ObjectName::Pack(self.id))(codec::Error::new("pack", Reason::ObjectId)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::codec::chunker::Parameters;
    use crate::codec::key_tree::ChunkKind;
    use crate::repository::fixture;
    use crate::repository::pack_writer::PackOptions;
    use crate::repository::run::Run;
    use crate::storage::memory::Memory;
    use crate::storage::{Folder, Storage};

    fn repository(storage: &Memory) -> Repository {
        fixture::repository(storage, 7, Parameters::FILES)
    }

    /// A pack of four blocks that do not shrink, its id and its length.
    fn pack(repository: &Repository) -> (ObjectId, u64) {
        let mut run = Run::begin(repository, PackOptions { compression: None, ..PackOptions::default() }).unwrap();
        for number in 0..8_u8 {
            let mut bytes = vec![0; 1 << 20];
            blake3::Hasher::new().update(&[number]).finalize_xof().fill(&mut bytes);
            let id = repository.keys().chunk_id(ChunkKind::Data, &bytes);
            run.add(PackKind::Data, id, &bytes).unwrap();
        }
        run.publish_segments().unwrap();
        let packs = repository.storage().list(Folder::Packs).unwrap();
        assert_eq!(packs.len(), 1);
        (packs[0].name.id().unwrap(), packs[0].length)
    }

    #[test]
    fn the_blocks_come_one_after_the_other() {
        let storage = Memory::new();
        let repository = repository(&storage);
        let (id, length) = pack(&repository);
        let whole = storage.read(&ObjectName::Pack(id), length).unwrap();
        let mut blocks = PackBlocks::open(&repository, id, length).unwrap();
        assert_eq!((blocks.kind(), blocks.chunk_count()), (PackKind::Data, 8));
        let (mut at, mut count) = (HEADER_BYTES, 0);
        while let Some((block, sealed)) = blocks.next_block().unwrap() {
            assert_eq!(sealed.len(), block.stored_length as usize);
            assert_eq!(sealed, whole[at..at + sealed.len()]);
            (at, count) = (at + sealed.len(), count + 1);
        }
        assert_eq!(count, 4);
        blocks.finish().unwrap();
    }

    /// Also in a block that nobody asked for, and in the padding.
    #[test]
    fn a_changed_bit_anywhere_and_every_other_length_is_noticed() {
        let storage = Memory::new();
        let repository = repository(&storage);
        let (id, length) = pack(&repository);
        let name = ObjectName::Pack(id);
        let read = |length| PackBlocks::open(&repository, id, length).and_then(PackBlocks::finish);
        let last = length as usize - 1;
        for position in [0, 20, HEADER_BYTES, 3 << 20, 8 << 20, last - 40, last - 20, last] {
            storage.corrupt(&name, |bytes| bytes[position] ^= 1);
            assert!(read(length).unwrap_err().is_damage(), "byte {position}");
            storage.corrupt(&name, |bytes| bytes[position] ^= 1);
        }
        read(length).unwrap();
        storage.corrupt(&name, |bytes| bytes.truncate(last));
        assert!(read(length).unwrap_err().is_damage() && read(length - 1).unwrap_err().is_damage());
        storage.corrupt(&name, |bytes| bytes.extend([0; 2]));
        assert!(read(length).unwrap_err().is_damage() && read(length + 1).unwrap_err().is_damage());
    }
}
