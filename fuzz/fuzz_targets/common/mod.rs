//! What the targets share: fixed keys, and sealing whatever the fuzzer made, so that it gets past the cipher and
//! reaches the parsers behind it.

#![allow(dead_code)] // no target needs all of it

use std::sync::LazyLock;

use packstone::base::id::RepositoryId;
use packstone::codec::key_tree::{KeyTree, MasterKey};
use packstone::codec::unit::{self, Codec, Context, PREFIX_BYTES, UnitKind};
use packstone::codec::wire::clear_header;
use packstone::codec::{ObjectKind, SUITE};

/// The repository that the inputs belong to.
pub const REPOSITORY: RepositoryId = RepositoryId([2; 32]);

/// Its keys.
pub static KEYS: LazyLock<KeyTree> = LazyLock::new(|| KeyTree::new(&MasterKey::new([1; 32]), REPOSITORY));

/// An authentic unit of any content.
pub fn sealed(kind: UnitKind, codec: Codec, plain_length: u32, clear: &[u8], content: &[u8]) -> Vec<u8> {
    let mut buffer = [&[0; PREFIX_BYTES], content].concat();
    let context = Context { kind, codec, plain_length, clear };
    unit::seal(&KEYS, &context, &[3; 32], &mut buffer).expect("fits");
    buffer
}

/// An authentic root (format-spec/root.md) of any table and body.
pub fn root(kind: ObjectKind, unit: UnitKind, rows: u32, table: &[u8], body: &[u8]) -> Vec<u8> {
    let plain = [&(body.len() as u32).to_le_bytes()[..], body].concat();
    let mut object = clear_header(kind).to_vec();
    object.extend([1, SUITE, 0, 0, 0, 0]);
    object.extend((plain.len() as u32).to_le_bytes());
    object.extend(rows.to_le_bytes());
    object.extend([0; 8]);
    object.extend(REPOSITORY.0);
    object.extend(table);
    let unit = sealed(unit, Codec::Stored, plain.len() as u32, &object, &plain);
    object.extend(unit);
    object
}
