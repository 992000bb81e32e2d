//! The seal: a small file beside the index that proves that every byte of it is as it was when it was closed.
//!
//! redb trusts what it reads: a damaged pointer can make it reserve gigabytes or stop at an assertion, before any
//! record could be checked. So the whole file is hashed, with the cache key, before redb sees a byte of it, and redb
//! is only ever given a file that it wrote and closed itself. The seal is also the mark of a clean close: a run that is
//! killed while it writes leaves an index that its seal does not fit, and that is rebuilt.
//!
//! Layout: format-spec/cache.md, "Seal".

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use rayon::prelude::*;

use super::CacheError;
use super::record::{CACHE_VERSION, Purpose, keyed};
use crate::base::id::RepositoryId;
use crate::codec::key_tree::Key;

/// First bytes of a seal.
const MAGIC: [u8; 8] = *b"pkscache";
/// Bytes of a seal: magic 8, version 4, zero 4, repository 32, length of the index 8, keyed hash 32.
const SEAL_BYTES: usize = 8 + 4 + 4 + 32 + 8 + 32;
/// Bytes of the index that are hashed at once, by any thread.
const EXTENT_BYTES: usize = 1 << 20;

/// Hash over the whole index: a keyed hash over its length and the keyed hashes of its extents.
fn hash(file: &File, length: u64, key: &Key, repository: RepositoryId) -> io::Result<[u8; 32]> {
    let extents = length.div_ceil(EXTENT_BYTES as u64);
    let hashes = (0..extents)
        .into_par_iter()
        .map_init(
            || vec![0; EXTENT_BYTES],
            |buffer, extent| {
                let offset = extent * EXTENT_BYTES as u64;
                let bytes = usize::try_from(length - offset).map_or(EXTENT_BYTES, |rest| rest.min(EXTENT_BYTES));
                let buffer = &mut buffer[..bytes];
                file.read_exact_at(buffer, offset)?;
                Ok(keyed(key, Purpose::Extent, &[&extent.to_le_bytes(), buffer]))
            },
        )
        .collect::<io::Result<Vec<_>>>()?;
    let parts = [&CACHE_VERSION.to_le_bytes()[..], repository.as_bytes(), &length.to_le_bytes(), hashes.as_flattened()];
    Ok(keyed(key, Purpose::Seal, &parts))
}

fn encode(repository: RepositoryId, length: u64, hash: &[u8; 32]) -> [u8; SEAL_BYTES] {
    let mut seal = [0; SEAL_BYTES];
    seal[..8].copy_from_slice(&MAGIC);
    seal[8..12].copy_from_slice(&CACHE_VERSION.to_le_bytes());
    seal[16..48].copy_from_slice(repository.as_bytes());
    seal[48..56].copy_from_slice(&length.to_le_bytes());
    seal[56..].copy_from_slice(hash);
    seal
}

/// Proves that the index at `index` is the one that the seal at `seal` was made for.
///
/// # Errors
/// [`CacheError::Absent`] when one of them is not there, [`CacheError::OtherRepository`], [`CacheError::Damaged`] when
/// they do not fit, [`CacheError::Io`] when they cannot be read.
pub fn verify(index: &Path, seal: &Path, key: &Key, repository: RepositoryId) -> Result<(), CacheError> {
    let mut found = Vec::with_capacity(SEAL_BYTES + 1);
    let file = super::open_file(seal)?;
    file.take(SEAL_BYTES as u64 + 1).read_to_end(&mut found).map_err(|error| CacheError::io(seal, error))?;
    if found.len() != SEAL_BYTES || found[..8] != MAGIC || found[8..12] != CACHE_VERSION.to_le_bytes() {
        return Err(CacheError::Damaged("its seal is not a seal of this version"));
    }
    if found[16..48] != *repository.as_bytes() {
        return Err(CacheError::OtherRepository);
    }
    let file = super::open_file(index)?;
    let metadata = file.metadata().map_err(|error| CacheError::io(index, error))?;
    let length = metadata.len();
    if !metadata.is_file() || found[48..56] != length.to_le_bytes() {
        return Err(CacheError::Damaged("its index has another length than its seal says"));
    }
    let hash = hash(&file, length, key, repository).map_err(|error| CacheError::io(index, error))?;
    if found != encode(repository, length, &hash) {
        return Err(CacheError::Damaged("its index is not the one that was sealed"));
    }
    Ok(())
}

/// Writes the seal of the index at `index` to `seal`, a path that does not exist yet, and makes it durable.
///
/// # Errors
/// [`CacheError::Io`].
pub fn write(index: &Path, seal: &Path, key: &Key, repository: RepositoryId) -> Result<(), CacheError> {
    let file = super::open_file(index)?;
    let length = file.metadata().map_err(|error| CacheError::io(index, error))?.len();
    let hash = hash(&file, length, key, repository).map_err(|error| CacheError::io(index, error))?;
    let make = || {
        let mut file = super::create_file(seal)?;
        file.write_all(&encode(repository, length, &hash))?;
        file.sync_all()
    };
    make().map_err(|error| CacheError::io(seal, error))
}
