//! Vectors of the config.

use packstone::base::time::Time;
use packstone::codec::chunker::Parameters;
use packstone::codec::config::{Config, Features};
use packstone::codec::key_tree::MasterKey;

use crate::file::{Outcome, Vector, flip, hex, seed};

/// The config of the repository that the vectors of all structures share.
pub fn config() -> [u8; 256] {
    Config::new(Parameters::FILES, verifying_key("master"), Time::from_seconds(1_700_000_000)).encode()
}

/// The verifying key that belongs to a master key.
pub fn verifying_key(master: &str) -> [u8; 32] {
    MasterKey::new(seed(master)).signing_key().verifying_key().to_bytes()
}

/// Reads it; with a `repository` line (a pin) its id must be that one.
pub fn read(vector: &Vector) -> Outcome {
    let config = Config::parse(&vector.bytes)?;
    assert_eq!(config.encode(), *vector.bytes, "{}: does not encode to itself", vector.name);
    let Features { read, write, move_ } = config.features;
    Ok(vec![
        ("repository".into(), hex(&Config::id(&vector.bytes).0)),
        ("chunks".into(), format!("{} {} {}", config.files.min, config.files.average, config.files.max)),
        ("verifying-key".into(), hex(&config.verifying_key)),
        ("features".into(), format!("{read} {write} {move_}")),
        ("created".into(), config.created.seconds.to_string()),
    ])
}

fn set(at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut config = config().to_vec();
    config[at..at + bytes.len()].copy_from_slice(bytes);
    config
}

pub fn vectors() -> Vec<Vector> {
    let refused = Vector::refused;
    let small = [65536_u32, 131_072, 524_288].map(u32::to_le_bytes).concat();
    vec![
        Vector::accepted("default", "what init writes", config().to_vec()),
        Vector::accepted("small-chunks", "other chunk lengths: another repository id", set(16, &small)),
        Vector::accepted("write-feature", "an unknown write feature: readable, not writable", set(72, &[4])),
        Vector::accepted(
            "foreign-key",
            "another verifying key: accepted, and another repository id",
            set(32, &verifying_key("foreign")),
        ),
        Vector::accepted("before-1970", "a clock that was wrong", set(88, &(-1_i64).to_le_bytes())),
        refused("empty", "wrong-length", "no bytes", Vec::new()),
        refused("truncated", "wrong-length", "the last byte is missing", config()[..255].to_vec()),
        refused("extended", "wrong-length", "a byte follows", [&config()[..], &[0]].concat()),
        refused("magic", "wrong-magic", "one bit of the magic", flip(&config(), 0, 7)),
        refused("text-mode", "wrong-magic", "CR LF became LF in transfer", set(5, b"\n\x1a\x01\x01\x01")),
        refused("version", "unknown-version", "version 2", set(8, &[2])),
        refused("kind", "wrong-kind", "the kind of a key slot", set(9, &[2])),
        refused("suite", "unknown-suite", "suite 2", set(10, &[2])),
        refused("reserved-11", "nonzero-reserved", "reserved byte after the suite", set(11, &[1])),
        refused("chunker", "unknown-chunker", "chunker 2", set(12, &[2])),
        refused(
            "chunk-order",
            "out-of-range",
            "least chunk length above the average",
            set(16, &(2_u32 << 20).to_le_bytes()),
        ),
        refused("chunk-zero", "out-of-range", "chunks of no bytes", set(16, &[0; 12])),
        refused(
            "chunk-huge",
            "out-of-range",
            "chunks of 4 GiB would fill the memory",
            set(24, &[0xfe, 0xff, 0xff, 0xff]),
        ),
        refused("chunk-odd", "out-of-range", "an odd chunk length", set(16, &[1])),
        refused("reserved-28", "nonzero-reserved", "reserved bytes after the chunk lengths", set(31, &[0x80])),
        refused(
            "key-weak",
            "out-of-range",
            "a verifying key of small order: anybody could sign",
            set(32, &{
                let mut neutral = [0; 32];
                neutral[0] = 1;
                neutral
            }),
        ),
        refused(
            "key-off-curve",
            "out-of-range",
            "a verifying key that is no point",
            set(32, &{
                let mut off = [0; 32];
                off[0] = 2;
                off
            }),
        ),
        refused("read-feature", "unknown-feature", "a read feature of a later version", set(64, &[1])),
        refused("reserved-96", "nonzero-reserved", "first reserved byte of the rest", set(96, &[1])),
        refused("reserved-255", "nonzero-reserved", "last byte", set(255, &[1])),
    ]
}
