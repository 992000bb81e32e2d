//! What was copied already, within bounds: the listing or content of the destination by the key of the source's.

use std::collections::HashMap;

use crate::codec::chunk_list::{ChunkList, ChunkRef};
use crate::codec::tree::Content;

/// Bytes that one of the two halves may take, about. Little in tests, so that things are forgotten.
const HALF_BYTES: usize = if cfg!(test) { 64 << 10 } else { 12 << 20 };
/// What an entry takes beside its chunks, about.
const ENTRY_BYTES: usize = 128;

/// Remembers what was used last: when a half is full, the older one is forgotten.
#[derive(Debug)]
pub(super) struct Memo<V> {
    recent: HashMap<u128, V>,
    older: HashMap<u128, V>,
    bytes: usize,
}

impl<V> Default for Memo<V> {
    fn default() -> Self {
        Self { recent: HashMap::new(), older: HashMap::new(), bytes: 0 }
    }
}

/// What can be remembered.
pub(super) trait Weight: Clone {
    /// Its chunk references.
    fn chunks(&self) -> &ChunkList;
}

/// The copy of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CopiedListing {
    pub listing: ChunkList,
    /// How many directories lie below it, one in the other: where it stands again, that must still fit.
    pub height: usize,
}

impl Weight for CopiedListing {
    fn chunks(&self) -> &ChunkList {
        &self.listing
    }
}

impl Weight for Content {
    fn chunks(&self) -> &ChunkList {
        &self.chunks
    }
}

impl<V: Weight> Memo<V> {
    pub fn get(&mut self, key: u128) -> Option<V> {
        if let Some(value) = self.recent.get(&key) {
            return Some(value.clone());
        }
        let value = self.older.remove(&key)?;
        self.insert(key, value.clone());
        Some(value)
    }

    pub fn insert(&mut self, key: u128, value: V) {
        let bytes = ENTRY_BYTES + value.chunks().chunks.len() * size_of::<ChunkRef>();
        if self.bytes + bytes > HALF_BYTES {
            self.older = std::mem::take(&mut self.recent);
            self.bytes = 0;
        }
        self.bytes += bytes;
        self.recent.insert(key, value);
    }

    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

/// Two contents with the same key are the same content.
pub(super) fn content_key(content: &Content) -> u128 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&content.chunks.key().to_le_bytes());
    hasher.update(&content.size.to_le_bytes());
    // Where there are holes there is a digest, which says where they are.
    hasher.update(&[u8::from(content.digest.is_some())]).update(&content.digest.unwrap_or_default());
    let mut bytes = [0; 16];
    hasher.finalize_xof().fill(&mut bytes);
    u128::from_le_bytes(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::base::id::ChunkId;

    #[test]
    fn it_stays_small_and_keeps_what_is_used() {
        let list = |n: u32| {
            let id = ChunkId(*blake3::hash(&n.to_le_bytes()).as_bytes());
            let listing = ChunkList { depth: 0, chunks: vec![ChunkRef { id, length: 1 + n }; 20] };
            CopiedListing { listing, height: n as usize }
        };
        let mut memo = Memo::default();
        for n in 0..20_000 {
            memo.insert(u128::from(n), list(n));
            if n % 10 == 0 {
                assert_eq!(memo.get(0).unwrap(), list(0));
            }
        }
        let most = HALF_BYTES / ENTRY_BYTES;
        assert!(memo.recent.len() + memo.older.len() < most, "{}", memo.recent.len() + memo.older.len());
        assert_eq!(memo.get(19_999).unwrap(), list(19_999));
        assert!(memo.get(1).is_none());
        memo.clear();
        assert!(memo.get(0).is_none());
    }
}
