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
/// always a literal of this program (BLAKE3 paper, section 2.6). Wiped when dropped, like all it was made from here.
pub(super) fn derive(context: &'static str, parts: &[&[u8]]) -> Zeroizing<blake3::OutputReader> {
    let mut hasher = blake3::Hasher::new_derive_key(context);
    for part in parts {
        hasher.update(part);
    }
    let output = Zeroizing::new(hasher.finalize_xof());
    hasher.zeroize();
    output
}

/// The first 32 bytes of [`derive()`].
pub(super) fn derive_key(context: &'static str, parts: &[&[u8]]) -> Key {
    let mut key = Key([0; 32]);
    derive(context, parts).fill(&mut key.0);
    key
}

/// `DK64`: a commitment, and the key that it commits to.
pub(super) fn derive_committed(context: &'static str, parts: &[&[u8]]) -> ([u8; 32], Key) {
    let mut output = derive(context, parts);
    let mut commitment = [0; 32];
    let mut key = Key([0; 32]);
    output.fill(&mut commitment);
    output.fill(&mut key.0);
    (commitment, key)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn master() -> MasterKey {
        let mut bytes = [0; 32];
        (0..32).zip(&mut bytes).for_each(|(value, byte)| *byte = value);
        MasterKey::new(bytes)
    }

    fn hex(bytes: &[u8; 32]) -> String {
        RepositoryId(*bytes).to_string()
    }

    /// The expected values come from another implementation of the formulas in format-spec/key_tree.md (Python, with
    /// the blake3 and cryptography packages).
    #[test]
    fn every_key_is_derived_as_the_specification_says() {
        let keys = KeyTree::new(&master(), RepositoryId([0x42; 32]));
        let expect = |found: &[u8; 32], expected: &str| assert_eq!(hex(found), expected);
        expect(
            &keys.signing().verifying_key().to_bytes(),
            "b04b368f47cbf20e1a196e528ca3c0ad5b56cf5a9959accf6fe72b97c685f507",
        );
        expect(&repository_id(b"config bytes").0, "e3b94838d3c6eca81d49de46e7f25249b2858470a63ec0d98a9b9fbcbae770c0");
        expect(
            &keys.chunk_id(ChunkKind::Data, b"packstone").0,
            "e354dbf98e4e75d777b2ccb4c8a9cebc75584b29fb8e21206524b141edd2366c",
        );
        expect(
            &keys.chunk_id(ChunkKind::Tree, b"packstone").0,
            "ac0ebe598c3adc039840f1cc6a44a28b5bc4c015de5f237083fda972742e9046",
        );
        expect(keys.cache().expose(), "66d15d8656a8ac30ef5d52069bf762dbe400ada100907a286cf1e960bc070132");
        expect(keys.slot_info(b"before").expose(), "76b26a154459d30a6f49a603660a8ba18c8ac49f006604cb2668211156859c0d");
        expect(keys.salt_key().expose(), "a42f192a722a43f00892740726f6881778a0458166db13a720ac05846811f7dc");
        let units = [
            "4580a453302904d0f336d49353e506ad24b62114e63adfb9c48a3923eab831b2",
            "17cffe4518231b7ad400eda2acfba2263f0894b3954636feb6b7ccd41e282e97",
            "1df7dceb8f1f7ecd21520d126a930dc1c5b38a465603ed6d9bc11c084191adb8",
            "c38fcd9c28bdb5da2c40dce53e1aebd2e9b4b4606fe977c69c2582e49fcac542",
            "d08c476b4217f9ee71bc39c71acdf894ad3f809875dea9c407020b98fb0a6625",
            "36271004ad49c1b00eb0df8c4a1455a26c65c1e9d8d96992e1735374c2be403d",
        ];
        for (kind, expected) in UnitKind::ALL.into_iter().zip(units) {
            expect(keys.unit_key(kind).expose(), expected);
        }
    }

    #[test]
    fn another_repository_has_other_keys_under_the_same_master() {
        let of = |repository| KeyTree::new(&master(), RepositoryId([repository; 32]));
        let (one, other) = (of(1), of(2));
        assert_ne!(one.chunk_id(ChunkKind::Data, b"x"), other.chunk_id(ChunkKind::Data, b"x"));
        assert_ne!(one.cache().expose(), other.cache().expose());
        for kind in UnitKind::ALL {
            assert_ne!(one.unit_key(kind).expose(), other.unit_key(kind).expose());
        }
        // The signing key stands above the repository: the config, and so the id, names its public half.
        assert_eq!(one.signing().verifying_key(), other.signing().verifying_key());
    }
}
