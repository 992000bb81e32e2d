//! Vectors of the key slot.

use packstone::base::id::RepositoryId;
use packstone::base::time::Time;
use packstone::codec::config::Config;
use packstone::codec::kdf::Params;
use packstone::codec::key_file::KeyFile;
use packstone::codec::key_slot::{KeySlot, Secret};
use packstone::codec::key_tree::{KeyTree, MasterKey};
use packstone::codec::recovery_code::RecoveryCode;
use zeroize::Zeroizing;

use crate::config::config;
use crate::file::{Outcome, Vector, flip, hex, seed};

fn file(label: &str) -> Secret {
    Secret::KeyFile(KeyFile::generate(&seed(label)))
}

fn passphrase(text: &str) -> Secret {
    Secret::Passphrase(Zeroizing::new(text.into()))
}

fn code() -> RecoveryCode {
    RecoveryCode::generate(b"sixteen  octets!")
}

fn keys(config: &[u8]) -> KeyTree {
    KeyTree::new(&MasterKey::new(seed("master")), Config::id(config))
}

/// Unlocks with whichever secret stands in the inputs, then reads the label.
pub fn read(vector: &Vector) -> Outcome {
    let secret = match (vector.input_if_any("key-file"), vector.input_if_any("recovery-code")) {
        (Some(file), _) => Secret::KeyFile(KeyFile::parse(file.as_bytes()).unwrap()),
        (_, Some(code)) => Secret::RecoveryCode(RecoveryCode::parse(code).unwrap()),
        _ => passphrase(vector.input("passphrase")),
    };
    let repository = RepositoryId(vector.input_32("repository"));
    let slot = KeySlot::parse(&vector.bytes, repository)?;
    let master = slot.unlock(&secret)?;
    let label = slot.label(&KeyTree::new(&master, repository))?;
    let Params { memory_kib, passes, lanes } = slot.params();
    Ok(vec![
        ("master".into(), hex(master.expose())),
        ("kind".into(), slot.kind().describe().into()),
        ("stretching".into(), format!("{memory_kib} {passes} {lanes}")),
        ("mirrored".into(), slot.mirrored().to_string()),
        ("label".into(), label.label),
        ("created".into(), label.created.seconds.to_string()),
    ])
}

fn create(secret: &Secret, label: &str, mirrored: bool, config: &[u8]) -> Vec<u8> {
    let (master, created) = (MasterKey::new(seed("master")), Time::from_seconds(1_700_000_001));
    KeySlot::create(&master, &keys(config), secret, Params::DEFAULT, label, created, mirrored, &seed("random")).unwrap()
}

pub fn vectors() -> Vec<Vector> {
    let repository = Config::id(&config());
    let good = create(&file("key file"), "paul@desk", true, &config());
    let with_file = |vector: Vector, secret: &str| {
        let text = KeyFile::generate(&seed(secret)).encode();
        vector.with_hex("repository", &repository.0).with("key-file", text.trim())
    };
    let opened =
        |name: &str, comment: &str, bytes: Vec<u8>| with_file(Vector::accepted(name, comment, bytes), "key file");
    let refused = |name: &str, slug: &str, comment: &str, bytes: Vec<u8>| {
        with_file(Vector::refused(name, slug, comment, bytes), "key file")
    };
    let set = |at: usize, bytes: &[u8]| {
        let mut slot = good.clone();
        slot[at..at + bytes.len()].copy_from_slice(bytes);
        slot
    };
    // A stretched slot's header over the key-file slot: refused before anything is stretched.
    let stretched = |memory_kib: u32, passes: u32, lanes: u32| {
        let mut slot = set(10, &[1]);
        slot[12..24].copy_from_slice(&[memory_kib, passes, lanes].map(u32::to_le_bytes).concat());
        slot
    };
    let mut other = config();
    other[88] ^= 1;
    let foreign = create(&file("key file"), "paul@desk", true, &other);
    let by_passphrase = create(&passphrase("correct horse battery staple"), "desk", true, &config());
    let with_passphrase =
        |vector: Vector, text: &str| vector.with_hex("repository", &repository.0).with("passphrase", text);
    let by_code = create(&Secret::RecoveryCode(code()), "paper", true, &config());
    vec![
        opened("key-file", "opened by a key file", good.clone()),
        opened(
            "never-mirrored",
            "the flag that keeps it off mirrors",
            create(&file("key file"), "local", false, &config()),
        ),
        opened("no-label", "an empty label", create(&file("key file"), "", true, &config())),
        opened("longest-label", "119 bytes of label", create(&file("key file"), &"x".repeat(119), true, &config())),
        with_passphrase(
            Vector::accepted("passphrase", "opened by a passphrase", by_passphrase.clone()),
            "correct horse battery staple",
        ),
        Vector::accepted("recovery-code", "opened by a recovery code", by_code)
            .with_hex("repository", &repository.0)
            .with("recovery-code", &*code().text()),
        with_passphrase(
            Vector::refused("wrong-passphrase", "commitment", "another passphrase", by_passphrase),
            "correct horse battery stapler",
        ),
        with_file(
            Vector::refused("wrong-key-file", "commitment", "another key file", good.clone()),
            "another key file",
        ),
        with_passphrase(
            Vector::refused("other-secret", "other-secret", "a passphrase for a key-file slot", good.clone()),
            "correct horse battery staple",
        ),
        refused("truncated", "wrong-length", "the last byte is missing", good[..511].to_vec()),
        refused("extended", "wrong-length", "a byte follows", [&good[..], &[0]].concat()),
        refused("magic", "wrong-magic", "one bit of the magic", flip(&good, 7, 0)),
        refused("version", "unknown-version", "version 2", set(8, &[2])),
        refused("kind", "wrong-kind", "the kind of a head", set(9, &[7])),
        refused("secret-type", "unknown-secret", "secret type 4", set(10, &[4])),
        refused("flags", "nonzero-reserved", "an unknown flag", set(11, &[2])),
        refused("flag-flipped", "commitment", "the flag was added afterwards", set(11, &[1])),
        refused(
            "kdf-for-key-file",
            "nonzero-reserved",
            "stretching parameters where nothing is stretched",
            set(12, &[1]),
        ),
        refused("kdf-memory-low", "out-of-range", "63 MiB: too cheap to guess", stretched(63 << 10, 3, 4)),
        refused("kdf-memory-high", "out-of-range", "4 TiB: would fill the memory", stretched(u32::MAX, 3, 4)),
        refused("kdf-passes-low", "out-of-range", "2 passes", stretched(64 << 10, 2, 4)),
        refused("kdf-passes-high", "out-of-range", "17 passes", stretched(64 << 10, 17, 4)),
        refused("kdf-lanes-zero", "out-of-range", "no lane", stretched(64 << 10, 3, 0)),
        refused("kdf-lanes-high", "out-of-range", "9 lanes", stretched(64 << 10, 3, 9)),
        refused("kdf-work-high", "out-of-range", "1 GiB 5 times over", stretched(1 << 20, 5, 4)),
        refused("reserved-24", "nonzero-reserved", "reserved bytes before the repository id", set(24, &[1])),
        refused(
            "other-repository",
            "other-repository",
            "a whole slot of another repository, same master key",
            foreign.clone(),
        ),
        refused("repository-replaced", "commitment", "that slot with this repository's id written over its own", {
            let mut slot = foreign;
            slot[32..64].copy_from_slice(&repository.0);
            slot
        }),
        refused("salt-flipped", "commitment", "one bit of the salt", flip(&good, 64, 0)),
        refused("commitment-flipped", "commitment", "one bit of the commitment", flip(&good, 127, 7)),
        refused("payload-flipped", "tag", "one bit of the sealed master key", flip(&good, 129, 1)),
        refused("payload-tag-flipped", "tag", "one bit of its tag", flip(&good, 303, 0)),
        refused(
            "label-flipped",
            "tag",
            "one bit of the sealed label: opens, but its label does not",
            flip(&good, 304, 0),
        ),
        refused("label-exchanged", "tag", "the label of another slot of this repository", {
            let other = create(&file("key file"), "somebody else", true, &config());
            let mut slot = good.clone();
            slot[304..448].copy_from_slice(&other[304..448]);
            slot
        }),
        refused("reserved-448", "nonzero-reserved", "first byte behind the label", set(448, &[1])),
        refused("reserved-511", "nonzero-reserved", "last byte", set(511, &[1])),
    ]
}
