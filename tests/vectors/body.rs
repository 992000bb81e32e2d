//! Vectors of the encoding of bodies.

use packstone::codec::{Error, body};

use crate::file::{Outcome, Vector};

fn decoded<T: bincode::Decode<()> + bincode::Encode + std::fmt::Debug>(bytes: &[u8]) -> Result<String, Error> {
    body::decode::<T, 65_536>("body", bytes).map(|value| format!("{value:?}"))
}

/// Decodes the bytes as the type that the input line names, within 64 KiB of memory.
pub fn read(vector: &Vector) -> Outcome {
    let decode = match vector.input("type") {
        "u32" => decoded::<u32>,
        "u64" => decoded::<u64>,
        "i64" => decoded::<i64>,
        "bool" => decoded::<bool>,
        "option of u8" => decoded::<Option<u8>>,
        "text" => decoded::<String>,
        "bytes" => decoded::<Vec<u8>>,
        "list of u64" => decoded::<Vec<u64>>,
        "array of 3 bytes" => decoded::<[u8; 3]>,
        other => panic!("{other}"),
    };
    Ok(vec![("value".into(), decode(&vector.bytes)?)])
}

pub fn vectors() -> Vec<Vector> {
    let accepted = |name: &str, kind: &str, comment: &str, bytes: &[u8]| {
        Vector::accepted(name, comment, bytes.to_vec()).with("type", kind)
    };
    let refused = |name: &str, slug: &str, kind: &str, comment: &str, bytes: &[u8]| {
        Vector::refused(name, slug, comment, bytes.to_vec()).with("type", kind)
    };
    let huge = [253, 0, 0, 0, 0, 0, 0, 0, 0x40];
    vec![
        accepted("one-byte", "u64", "250 is the largest number of one byte", &[250]),
        accepted("two-bytes", "u64", "251 and 16 bits", &[251, 251, 0]),
        accepted("four-bytes", "u64", "252 and 32 bits", &[252, 0, 0, 1, 0]),
        accepted("eight-bytes", "u64", "253 and 64 bits", &[253, 255, 255, 255, 255, 255, 255, 255, 255]),
        accepted("negative", "i64", "zigzag: -1 is 1", &[1]),
        accepted("positive", "i64", "zigzag: 1700000000 is 3400000000", &[252, 0, 0xe2, 0xa7, 0xca]),
        accepted("present", "option of u8", "1 and the value", &[1, 7]),
        accepted("absent", "option of u8", "0", &[0]),
        accepted("text", "text", "length and UTF-8", &[2, 0xc3, 0xa9]),
        accepted("list", "list of u64", "length and elements", &[2, 5, 251, 0, 1]),
        accepted("array", "array of 3 bytes", "the bytes, no length", &[1, 2, 255]),
        refused("overlong-two", "not-canonical", "u64", "5 in three bytes", &[251, 5, 0]),
        refused("overlong-four", "not-canonical", "u64", "65535 in five bytes", &[252, 255, 255, 0, 0]),
        refused("overlong-eight", "not-canonical", "u64", "5 in nine bytes", &[253, 5, 0, 0, 0, 0, 0, 0, 0]),
        refused("overlong-length", "not-canonical", "bytes", "the length of a list in three bytes", &[251, 1, 0, 9]),
        refused("too-wide", "undecodable", "u32", "64 bits where 32 belong", &[253, 5, 0, 0, 0, 0, 0, 0, 0]),
        refused("reserved-marker", "undecodable", "u64", "255 begins no number", &[255]),
        refused("neither-true-nor-false", "undecodable", "bool", "2", &[2]),
        refused("not-utf-8", "undecodable", "text", "a byte that no text has", &[1, 0xff]),
        refused("nine-bytes", "undecodable", "bytes", "a list of 2^62 bytes: over the limit on memory", &huge),
        refused("nine-bytes-of-numbers", "undecodable", "list of u64", "a list of 2^62 numbers", &huge),
        refused("truncated", "truncated", "list of u64", "the second element is missing", &[2, 5]),
        refused("trailing", "trailing-bytes", "u64", "a byte follows", &[5, 0]),
    ]
}
