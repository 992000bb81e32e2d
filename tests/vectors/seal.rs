//! Keys of the vectors, and sealing what no writer would: bodies that are authentic and wrong.

use packstone::base::id::RepositoryId;
use packstone::codec::key_tree::{KeyTree, MasterKey};
use packstone::codec::unit::{self, Codec, Context, PREFIX_BYTES, UnitKind};
use packstone::codec::wire::clear_header;
use packstone::codec::{ObjectKind, SUITE};

use crate::file::{Vector, seed};

/// The keys that a vector's input lines name.
pub fn keys_of(vector: &Vector) -> KeyTree {
    KeyTree::new(&MasterKey::new(vector.input_32("master")), RepositoryId(vector.input_32("repository")))
}

/// The keys of nearly all vectors.
pub fn keys() -> KeyTree {
    KeyTree::new(&MasterKey::new(seed("master")), repository())
}

/// The repository of nearly all vectors.
pub fn repository() -> RepositoryId {
    RepositoryId(seed("repository"))
}

/// Adds the input lines of these keys.
pub fn with_keys(vector: Vector) -> Vector {
    vector.with_hex("master", &seed("master")).with_hex("repository", &seed("repository"))
}

/// A unit of any content under any context.
pub fn sealed(kind: UnitKind, codec: Codec, plain_length: usize, clear: &[u8], content: &[u8]) -> Vec<u8> {
    let plain_length = u32::try_from(plain_length).unwrap();
    let mut buffer = [&[0; PREFIX_BYTES], content].concat();
    unit::seal(&keys(), &Context { kind, codec, plain_length, clear }, &seed("random"), &mut buffer).unwrap();
    buffer
}

/// The clear header of a root (format-spec/root.md).
pub fn root_header(kind: ObjectKind, plain_length: usize, rows: u32) -> Vec<u8> {
    let mut header = clear_header(kind).to_vec();
    header.extend([1, SUITE, 0, 0, 0, 0]);
    header.extend(u32::try_from(plain_length).unwrap().to_le_bytes());
    header.extend(rows.to_le_bytes());
    header.extend([0; 8]);
    header.extend(repository().0);
    header
}

/// A root without padding around any content of its unit.
pub fn root_of(kind: ObjectKind, unit: UnitKind, rows: u32, table: &[u8], plain: &[u8]) -> Vec<u8> {
    let mut object = [&root_header(kind, plain.len(), rows)[..], table].concat();
    let sealed = sealed(unit, Codec::Stored, plain.len(), &object, plain);
    object.extend(sealed);
    object
}

/// The content of a unit, if it opens: a fact that lets a reader be written step by step, and a seed for the fuzzer.
pub fn opened(keys: &KeyTree, context: &Context<'_>, bytes: &[u8]) -> Option<Vec<u8>> {
    unit::open(keys, context, &mut bytes.to_vec()).ok().map(<[u8]>::to_vec)
}

/// The body in a root with so many bytes of clear table, if it opens.
pub fn body_of(keys: &KeyTree, kind: UnitKind, root: &[u8], table_bytes: usize) -> Option<Vec<u8>> {
    let (clear, bytes) = root.split_at_checked(64 + table_bytes)?;
    let plain_length = u32::from_le_bytes(*clear[16..].first_chunk()?);
    let plain = opened(keys, &Context { kind, codec: Codec::Stored, plain_length, clear }, bytes)?;
    let length = u32::from_le_bytes(*plain.first_chunk()?) as usize;
    Some(plain.get(4..4 + length)?.to_vec())
}

/// The content of a root's unit: the body behind its length.
pub fn framed(body: &[u8]) -> Vec<u8> {
    [&u32::try_from(body.len()).unwrap().to_le_bytes()[..], body].concat()
}
