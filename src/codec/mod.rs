//! Bytes in, bytes out: every stored structure, cutting, compressing and sealing.
//!
//! No disk, no clock, no global randomness: whoever calls hands in the random bytes, so everything here can be tested
//! with vectors and fuzzed without an operating system. One page of `format-spec/` is one file here, one folder of
//! vectors and one fuzz target, all of the same name.
//!
//! Two kinds of parser exist and never mix. Everything that is read **before** anything is authenticated (config,
//! key slot, head, every clear header) has a fixed layout and is parsed by hand through [`wire`]. Everything inside a
//! sealed unit is authenticated first and then decoded by [`body`], which refuses whatever does not encode to the same
//! bytes again.

pub mod block;
pub mod block_verifier;
pub mod body;
pub mod chunk_list;
pub mod chunker;
pub mod compress;
pub mod config;
pub mod crockford;
pub mod deletion_log;
mod difference;
pub mod directory;
pub mod error;
pub mod head;
pub mod head_code;
pub mod kdf;
pub mod key_file;
pub mod key_slot;
pub mod key_tree;
pub mod live_state;
pub mod pack;
pub mod padding;
pub mod recovery_code;
pub mod root;
pub mod segment;
pub mod snapshot;
pub mod stream;
pub mod tree;
pub mod unit;
pub mod wire;

pub use error::{Error, Reason};

/// Result of reading a stored structure.
pub type Result<T> = std::result::Result<T, Error>;

/// Kind of a stored object: the byte after the version in every clear header. format-spec/README.md, "Kinds".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum ObjectKind {
    /// `config`.
    Config = 1,
    /// A key slot.
    KeySlot = 2,
    /// A pack of file data.
    DataPack = 3,
    /// A pack of trees.
    TreePack = 4,
    /// A segment of the index.
    Segment = 5,
    /// A snapshot.
    Snapshot = 6,
    /// A head.
    Head = 7,
}

/// Version that this program writes, and the newest that it reads, in every clear header.
pub const VERSION: u8 = 1;

/// Suite 1: BLAKE3, AES-256-GCM under a key for each unit, Ed25519, Argon2id.
pub const SUITE: u8 = 1;
