//! What is stored and where: packs, segments, snapshots, heads, locks and the cache.

pub mod cache;
