//! The key tree: every key of a repository, derived from its master key. format-spec/key_tree.md.
//!
//! No key serves two purposes. Each lives in a type without `Debug`, `Clone` or serialization and is wiped on drop.

use ed25519_dalek::SigningKey;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::chunker::GearTable;
use super::unit::UnitKind;
use crate::base::id::{ChunkId, RepositoryId};

/// 32 secret bytes.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct Key([u8; 32]);

impl Key {
    /// Takes 32 secret bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes, for the primitive that needs them.
    #[must_use]
    pub const fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

/// `DK(context, parts...)`: BLAKE3 in key derivation mode, the context prefixed with `packstone v1 `. `context` is
/// always a literal of this program (BLAKE3 paper, section 2.6).
pub(super) fn derive(context: &'static str, parts: &[&[u8]]) -> blake3::OutputReader {
    let mut hasher = blake3::Hasher::new_derive_key(context);
    for part in parts {
        hasher.update(part);
    }
    let output = hasher.finalize_xof();
    hasher.zeroize();
    output
}

/// The first 32 bytes of [`derive`].
pub(super) fn derive_key(context: &'static str, parts: &[&[u8]]) -> Key {
    let mut key = [0; 32];
    derive(context, parts).fill(&mut key);
    Key(key)
}

/// The master key: 32 bytes from the kernel's generator, drawn once, stored only inside key slots.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct MasterKey([u8; 32]);

impl MasterKey {
    /// Takes 32 bytes from the kernel's generator.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes, for sealing them into a slot.
    #[must_use]
    pub const fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// The key that signs this repository's heads. Its verifying key stands in the config.
    #[must_use]
    pub fn signing_key(&self) -> SigningKey {
        let seed = derive_key("packstone v1 head signing seed", &[&self.0]);
        SigningKey::from_bytes(&seed.0)
    }
}

/// The id of the repository that `config_bytes` describe.
#[must_use]
pub fn repository_id(config_bytes: &[u8]) -> RepositoryId {
    let mut id = [0; 32];
    derive("packstone v1 repository id", &[config_bytes]).fill(&mut id);
    RepositoryId(id)
}

/// The dedup domain of version 1: one domain for the whole repository.
pub const DOMAIN: u32 = 0;

/// The two spaces of chunk ids. They never collide, so a planted file cannot pose as a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ChunkKind {
    /// Pieces of file contents.
    Data,
    /// Pieces of listings, long chunk lists and problem lists.
    Tree,
}

/// Every key that reading and writing a repository needs.
pub struct KeyTree {
    repository: RepositoryId,
    signing: SigningKey,
    units: [Key; UnitKind::ALL.len()],
    id_data: Key,
    id_tree: Key,
    salt: Key,
    gear: GearTable,
    cache: Key,
    root: Key,
}

impl KeyTree {
    /// Derives all keys of the repository whose config has `repository` as its id.
    #[must_use]
    pub fn new(master: &MasterKey, repository: RepositoryId) -> Self {
        let root = derive_key("packstone v1 root", &[&master.0, repository.as_bytes()]);
        let domain = derive_key("packstone v1 dedup domain", &[&root.0, &DOMAIN.to_le_bytes()]);
        let units = UnitKind::ALL.map(|kind| derive_key("packstone v1 object kind", &[&root.0, &[kind as u8]]));
        let mut gear = Zeroizing::new([0; GearTable::BYTES]);
        derive("packstone v1 gear table", &[&domain.0]).fill(gear.as_mut());
        Self {
            repository,
            signing: master.signing_key(),
            units,
            id_data: derive_key("packstone v1 chunk id data", &[&domain.0]),
            id_tree: derive_key("packstone v1 chunk id tree", &[&domain.0]),
            salt: derive_key("packstone v1 salt key", &[&domain.0]),
            gear: GearTable::new(&gear),
            cache: derive_key("packstone v1 cache check", &[&root.0]),
            root,
        }
    }

    /// The repository that these keys belong to.
    #[must_use]
    pub const fn repository(&self) -> RepositoryId {
        self.repository
    }

    /// Signs heads.
    #[must_use]
    pub const fn signing(&self) -> &SigningKey {
        &self.signing
    }

    /// The table that cutting uses.
    #[must_use]
    pub const fn gear(&self) -> &GearTable {
        &self.gear
    }

    /// Checks the records of the local cache.
    #[must_use]
    pub const fn cache(&self) -> &Key {
        &self.cache
    }

    /// Seals the label of the key slot that begins with these bytes.
    #[must_use]
    pub fn slot_info(&self, before: &[u8]) -> Key {
        derive_key("packstone v1 slot info", &[&self.root.0, before])
    }

    /// The id of a chunk.
    #[must_use]
    pub fn chunk_id(&self, kind: ChunkKind, plaintext: &[u8]) -> ChunkId {
        let key = match kind {
            ChunkKind::Data => &self.id_data,
            ChunkKind::Tree => &self.id_tree,
        };
        ChunkId(*blake3::keyed_hash(&key.0, plaintext).as_bytes())
    }

    pub(super) const fn unit_key(&self, kind: UnitKind) -> &Key {
        &self.units[kind as usize - 1]
    }

    pub(super) const fn salt_key(&self) -> &Key {
        &self.salt
    }
}
