//! Vectors of the chunker: where data is cut.

use packstone::base::id::RepositoryId;
use packstone::codec::chunker::{Cutter, Parameters};
use packstone::codec::key_tree::{KeyTree, MasterKey};

use crate::file::{Outcome, Vector, seed};

/// Cuts the bytes; the fact is the list of lengths.
pub fn read(vector: &Vector) -> Outcome {
    let number = |key| vector.input(key).parse::<u32>().unwrap();
    let parameters = Parameters { min: number("min"), average: number("average"), max: number("max") };
    let keys = KeyTree::new(&MasterKey::new(vector.input_32("master")), RepositoryId(vector.input_32("repository")));
    let cutter = Cutter::new(keys.gear(), parameters)?;
    let (mut lengths, mut rest) = (Vec::new(), &vector.bytes[..]);
    while let Some(length) = cutter.next(rest, true) {
        lengths.push(length.to_string());
        rest = &rest[length..];
    }
    Ok(vec![("lengths".into(), lengths.join(" "))])
}

/// The data, and reads of seven bytes.
pub fn seed_of(vector: &Vector) -> Vec<u8> {
    [&vector.bytes[..], &[7, 0]].concat()
}

pub fn vectors() -> Vec<Vector> {
    let noise = |length: usize| {
        let mut bytes = vec![0; length];
        blake3::Hasher::new().update(b"noise").finalize_xof().fill(&mut bytes);
        bytes
    };
    let with = |vector: Vector, master: &str, [min, average, max]: [u32; 3]| {
        vector
            .with_hex("master", &seed(master))
            .with_hex("repository", &seed("repository"))
            .with("min", min)
            .with("average", average)
            .with("max", max)
    };
    let small = [64, 256, 1024];
    let accepted = |name: &str, comment: &str, bytes| with(Vector::accepted(name, comment, bytes), "master", small);
    let refused = |name: &str, comment: &str, lengths| {
        with(Vector::refused(name, "out-of-range", comment, noise(100)), "master", lengths)
    };
    let inserted = [&noise(4000)[..700], b"inserted", &noise(4000)[700..]].concat();
    vec![
        accepted("noise", "bytes without order", noise(4000)),
        accepted("inserted", "the same with eight bytes more after 700: most cuts are where they were", inserted),
        accepted("odd", "the same, 2 999 bytes of it: an odd last chunk", noise(2999)),
        accepted("zeros", "equal bytes are cut at the longest length", vec![0; 2500]),
        accepted("shortest", "as long as the shortest chunk", noise(64)),
        accepted("empty", "nothing to cut", Vec::new()),
        with(Vector::accepted("other-keys", "the table comes from the keys", noise(4000)), "another master", small),
        refused("min-odd", "lengths are even", [65, 256, 1024]),
        refused("min-small", "under 64 bytes", [62, 256, 1024]),
        refused("average-below-min", "not ascending", [512, 256, 1024]),
        refused("max-below-average", "not ascending", [512, 1024, 1024]),
        refused("max-large", "over 16 MiB", [64, 256, (16 << 20) + 2]),
    ]
}
