//! Vectors of the sealed unit.

use packstone::base::id::RepositoryId;
use packstone::codec::key_tree::{KeyTree, MasterKey};
use packstone::codec::unit::{self, Codec, Context, PREFIX_BYTES, UnitKind};

use crate::file::{Outcome, Vector, flip, hex, seed};

fn keys(master: &[u8; 32], repository: &[u8; 32]) -> KeyTree {
    KeyTree::new(&MasterKey::new(*master), RepositoryId(*repository))
}

/// Opens the bytes with the keys and context of the input lines.
pub fn read(vector: &Vector) -> Outcome {
    let number = |key| vector.input(key).parse::<u32>().unwrap();
    let kind = UnitKind::ALL.into_iter().find(|kind| *kind as u32 == number("kind")).unwrap();
    let codec = Codec::try_from(number("codec") as u8).unwrap();
    let clear = vector.input_hex("clear");
    let context = Context { kind, codec, plain_length: number("plain-length"), clear: &clear };
    let mut bytes = vector.bytes.clone();
    let keys = keys(&vector.input_32("master"), &vector.input_32("repository"));
    let content = unit::open(&keys, &context, &mut bytes)?;
    Ok(vec![("content".into(), hex(content))])
}

fn sealed(kind: UnitKind, clear: &[u8], random: &[u8; 32], content: &[u8]) -> Vec<u8> {
    let context = Context { kind, codec: Codec::Stored, plain_length: content.len() as u32, clear };
    let mut buffer = [&[0; PREFIX_BYTES], content].concat();
    unit::seal(&keys(&seed("master"), &seed("repository")), &context, random, &mut buffer).unwrap();
    buffer
}

/// The input lines under which `sealed(DataBlock, b"", ...)` opens.
fn inputs(vector: Vector, kind: UnitKind, plain_length: usize, clear: &[u8]) -> Vector {
    vector
        .with_hex("master", &seed("master"))
        .with_hex("repository", &seed("repository"))
        .with("kind", kind as u8)
        .with("codec", 0)
        .with("plain-length", plain_length)
        .with_hex("clear", clear)
}

pub fn vectors() -> Vec<Vector> {
    let content = b"one block of one chunk";
    let good = sealed(UnitKind::DataBlock, b"", &seed("random"), content);
    let block = |vector: Vector| inputs(vector, UnitKind::DataBlock, content.len(), b"");
    let replaced = |vector: Vector, key: &str, value: &str| {
        let mut vector = block(vector);
        vector.inputs.iter_mut().find(|(name, _)| name == key).unwrap().1 = value.into();
        vector
    };
    let refused =
        |name: &str, slug: &str, comment: &str, bytes: Vec<u8>| block(Vector::refused(name, slug, comment, bytes));
    let other = |name: &str, comment: &str, key: &str, value: &str| {
        replaced(Vector::refused(name, "commitment", comment, good.clone()), key, value)
    };
    let empty = sealed(UnitKind::Snapshot, b"clear header", &seed("random"), b"");
    let stuck = sealed(UnitKind::DataBlock, b"", &seed("random"), b"two blocks, same length");
    let mut extended = good.clone();
    extended.push(0);
    vec![
        block(Vector::accepted("block", "a data block, stored", good.clone())),
        inputs(
            Vector::accepted("empty-with-clear", "no content, bound to a clear header", empty.clone()),
            UnitKind::Snapshot,
            0,
            b"clear header",
        ),
        inputs(
            Vector::accepted(
                "stuck-generator",
                "the random bytes of `block`, other content: another salt and key",
                stuck,
            ),
            UnitKind::DataBlock,
            23,
            b"",
        ),
        inputs(
            Vector::refused("clear-changed", "commitment", "one byte of the clear header differs", empty),
            UnitKind::Snapshot,
            0,
            b"Clear header",
        ),
        refused("salt-flipped", "commitment", "one bit of the salt", flip(&good, 0, 0)),
        refused("commitment-flipped", "commitment", "one bit of the commitment", flip(&good, 32, 7)),
        refused("ciphertext-flipped", "tag", "one bit of the ciphertext", flip(&good, 64, 3)),
        refused("tag-flipped", "tag", "one bit of the tag", flip(&good, good.len() - 1, 0)),
        refused("truncated", "truncated", "shorter than the empty unit", good[..79].to_vec()),
        refused("short", "tag", "the last byte is missing", good[..good.len() - 1].to_vec()),
        refused("extended", "tag", "a byte follows", extended),
        other("other-kind", "a data block cannot pose as a tree block", "kind", "2"),
        other("other-codec", "the codec is in the key", "codec", "1"),
        other("other-length", "the plain length is in the key", "plain-length", "23"),
        other("other-master", "another master key", "master", &hex(&seed("another master"))),
        other("other-repository", "another repository under the same master key", "repository", &hex(&seed("another"))),
    ]
}
