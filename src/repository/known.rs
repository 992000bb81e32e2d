//! The chunks that one run has stored itself.
//!
//! A run may meet millions of new chunks, so their ids are not kept in a hash map of 32-byte keys. The table holds
//! 64 bits of each id and its ordinal (12 bytes); a miss is final, a hit is confirmed against the full id, which stands in
//! memory for the first [`IDS_IN_MEMORY`] chunks and in an unnamed temporary file behind them.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use hashbrown::HashTable;

use crate::base::id::{ChunkId, ID_BYTES};
use crate::base::unnamed_file;

/// Ids that are kept in memory: 2^20 of 32 bytes are 32 MiB.
const IDS_IN_MEMORY: usize = 1 << 20;

/// Ids of the chunks that this run has stored.
#[derive(Debug)]
pub struct NewChunks {
    table: HashTable<[u32; 3]>,
    ids: Vec<ChunkId>,
    spill: Option<Spill>,
    spill_folder: Option<std::path::PathBuf>,
}

#[derive(Debug)]
struct Spill {
    file: File,
    unwritten: Vec<u8>,
    written: u64,
}

fn fingerprint(id: &ChunkId) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&id.0[..8]);
    u64::from_le_bytes(bytes)
}

const fn split(fingerprint: u64, ordinal: u32) -> [u32; 3] {
    [fingerprint as u32, (fingerprint >> 32) as u32, ordinal]
}

const fn joined(entry: &[u32; 3]) -> u64 {
    entry[0] as u64 | (entry[1] as u64) << 32
}

impl NewChunks {
    /// An empty set that spills to an unnamed file in `spill_folder` (the system's temporary folder without one).
    #[must_use]
    pub fn new(spill_folder: Option<&Path>) -> Self {
        Self {
            table: HashTable::new(),
            ids: Vec::new(),
            spill: None,
            spill_folder: spill_folder.map(Path::to_path_buf),
        }
    }

    fn id(&self, ordinal: u32) -> io::Result<ChunkId> {
        let ordinal = ordinal as usize;
        if let Some(id) = self.ids.get(ordinal) {
            return Ok(*id);
        }
        let spill = self.spill.as_ref().ok_or_else(|| io::Error::other("id beyond the table"))?;
        let offset = ((ordinal - self.ids.len()) * ID_BYTES) as u64;
        let mut id = [0; ID_BYTES];
        if offset >= spill.written {
            let start = (offset - spill.written) as usize;
            let bytes = spill.unwritten.get(start..start + ID_BYTES);
            id.copy_from_slice(bytes.ok_or_else(|| io::Error::other("id beyond the table"))?);
        } else {
            spill.file.read_exact_at(&mut id, offset)?;
        }
        Ok(ChunkId(id))
    }

    /// True when the chunk was stored by this run.
    ///
    /// # Errors
    /// Reading the temporary file failed.
    pub fn contains(&self, id: &ChunkId) -> io::Result<bool> {
        let wanted = fingerprint(id);
        let mut failure = None;
        let found = self.table.find(wanted, |entry| {
            joined(entry) == wanted
                && match self.id(entry[2]) {
                    Ok(stored) => stored == *id,
                    Err(error) => {
                        failure = Some(error);
                        false
                    }
                }
        });
        match (found, failure) {
            (Some(_), _) => Ok(true),
            (None, Some(error)) => Err(error),
            (None, None) => Ok(false),
        }
    }

    /// Adds a chunk that is not in the set.
    ///
    /// # Errors
    /// Writing the temporary file failed, or the run has stored 2^32 chunks.
    pub fn insert(&mut self, id: &ChunkId) -> io::Result<()> {
        let ordinal = u32::try_from(self.table.len()).map_err(|_| io::Error::other("2^32 new chunks in one run"))?;
        if self.ids.len() < IDS_IN_MEMORY {
            self.ids.push(*id);
        } else {
            let spill = match &mut self.spill {
                Some(spill) => spill,
                none => none.insert(Spill {
                    file: unnamed_file::create(self.spill_folder.as_deref().unwrap_or(&std::env::temp_dir()))?,
                    unwritten: Vec::new(),
                    written: 0,
                }),
            };
            spill.unwritten.extend_from_slice(&id.0);
            if spill.unwritten.len() >= 1 << 20 {
                spill.file.write_all(&spill.unwritten)?;
                spill.written += spill.unwritten.len() as u64;
                spill.unwritten.clear();
            }
        }
        let fingerprint = fingerprint(id);
        self.table.insert_unique(fingerprint, split(fingerprint, ordinal), joined);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn id(n: u64) -> ChunkId {
        ChunkId(*blake3::hash(&n.to_le_bytes()).as_bytes())
    }

    #[test]
    fn it_holds_what_was_put_in_and_nothing_else_also_beyond_the_memory() {
        let mut set = NewChunks::new(None);
        let count = IDS_IN_MEMORY as u64 + 40_000;
        for n in 0..count {
            set.insert(&id(n)).unwrap();
        }
        for n in (0..count).step_by(997).chain(count - 10..count) {
            assert!(set.contains(&id(n)).unwrap(), "{n}");
            assert!(!set.contains(&id(n + count)).unwrap(), "{n}");
        }
    }

    #[test]
    fn two_ids_with_the_same_fingerprint_are_two() {
        let mut set = NewChunks::new(None);
        let (mut one, mut other) = (id(1), id(1));
        one.0[31] ^= 1;
        other.0[30] ^= 1;
        set.insert(&one).unwrap();
        assert!(set.contains(&one).unwrap());
        assert!(!set.contains(&other).unwrap());
        set.insert(&other).unwrap();
        assert!(set.contains(&other).unwrap() && set.contains(&one).unwrap());
    }
}
