//! Vectors of the key tree: what follows from a master key and a config.

use packstone::base::id::RepositoryId;
use packstone::codec::key_tree::{ChunkKind, KeyTree, MasterKey, repository_id};

use crate::config::config;
use crate::file::{Outcome, Vector, hex, seed};

/// The bytes are a chunk's plaintext.
pub fn read(vector: &Vector) -> Outcome {
    let repository = repository_id(&vector.input_hex("config"));
    let keys = KeyTree::new(&MasterKey::new(vector.input_32("master")), repository);
    let RepositoryId(repository) = repository;
    Ok(vec![
        ("repository".into(), hex(&repository)),
        ("verifying-key".into(), hex(&keys.signing().verifying_key().to_bytes())),
        ("data-chunk-id".into(), keys.chunk_id(ChunkKind::Data, &vector.bytes).to_string()),
        ("tree-chunk-id".into(), keys.chunk_id(ChunkKind::Tree, &vector.bytes).to_string()),
        ("cache-key".into(), hex(keys.cache().expose())),
        ("slot-info-key".into(), hex(keys.slot_info(b"the slot's first bytes").expose())),
    ])
}

pub fn vectors() -> Vec<Vector> {
    let mut other = config();
    other[88] ^= 1;
    let vector = |name, comment, master: &str, config: &[u8], chunk: &[u8]| {
        Vector::accepted(name, comment, chunk.to_vec()).with_hex("master", &seed(master)).with_hex("config", config)
    };
    vec![
        vector("default", "the shared repository", "master", &config(), b"packstone"),
        vector("empty-chunk", "the chunk of no bytes", "master", &config(), b""),
        vector(
            "other-config",
            "one bit of the config: every key but the signing key differs",
            "master",
            &other,
            b"packstone",
        ),
        vector("other-master", "another master key", "another master", &config(), b"packstone"),
    ]
}
