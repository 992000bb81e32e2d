//! Heads built byte by byte: every field can be set to what no writer would write, and signed all the same.

use ed25519_dalek::{Signer, SigningKey};
use packstone::base::id::ObjectId;
use packstone::codec::config::Config;
use packstone::codec::key_tree::MasterKey;

use crate::config::{config, verifying_key};
use crate::file::seed;

/// The time that every head claims.
pub const TIME: u64 = 1_700_000_002;
/// The bit beside the kind of a mark that says "replaced".
pub const REPLACED: u64 = 0x100;

/// The numbers of a mark: kind and flags, generation, time, arrival.
pub fn mark(kind: u64, since: u64, arrival: u64) -> [u64; 4] {
    [kind, since, TIME, arrival]
}

/// A head's fields, each of which a vector may set to what it likes.
#[derive(Clone)]
pub struct Raw {
    pub flags: u8,
    pub reserved: u8,
    pub repository: [u8; 32],
    pub generation: u64,
    pub previous: [u8; 32],
    pub signer: [u8; 32],
    pub features: [u64; 3],
    pub checkpoint: (u64, [u8; 32]),
    /// Sections of the whole state, for the digest.
    pub state: Vec<(u16, Vec<u8>)>,
    /// Sections of this head.
    pub sections: Vec<(u16, Vec<u8>)>,
}

pub fn encode(sections: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (section, body) in sections {
        bytes.extend_from_slice(&section.to_le_bytes());
        bytes.extend_from_slice(&[0; 2]);
        bytes.extend_from_slice(&(body.len() as u32).to_le_bytes());
        bytes.extend_from_slice(body);
    }
    bytes
}

pub fn signing() -> SigningKey {
    MasterKey::new(seed("master")).signing_key()
}

impl Raw {
    pub fn body(&self) -> Vec<u8> {
        let sections = encode(&self.sections);
        let total = 224 + sections.len() + 64;
        [
            b"\x89PKST\r\n\x1a\x01\x07".as_slice(),
            &[self.flags, self.reserved],
            &(total as u32).to_le_bytes(),
            &self.repository,
            &self.generation.to_le_bytes(),
            &self.previous,
            &(TIME as i64).to_le_bytes(),
            &self.signer,
            &self.features.map(u64::to_le_bytes).concat(),
            &self.checkpoint.0.to_le_bytes(),
            &self.checkpoint.1,
            &blake3::derive_key("packstone v1 live state", &encode(&self.state)),
            &sections,
        ]
        .concat()
    }

    pub fn sign_by(&self, signing: &SigningKey) -> Vec<u8> {
        let body = self.body();
        let signature = signing.sign(&[b"packstone v1 head\0".as_slice(), &body].concat());
        [body.as_slice(), &signature.to_bytes()].concat()
    }

    pub fn sign(&self) -> Vec<u8> {
        self.sign_by(&signing())
    }

    pub fn with(&self, change: impl FnOnce(&mut Self)) -> Vec<u8> {
        let mut changed = self.clone();
        change(&mut changed);
        changed.sign()
    }

    /// With other sections and the state that they make.
    pub fn with_sections(&self, sections: Vec<(u16, Vec<u8>)>, state: Vec<(u16, Vec<u8>)>) -> Vec<u8> {
        self.with(|raw| (raw.sections, raw.state) = (sections, state))
    }
}

pub fn id(label: &str) -> [u8; 32] {
    seed(label)
}

/// Ids with the numbers behind them, sorted.
pub fn list(entries: &[(&str, &[u64])]) -> Vec<u8> {
    let mut entries: Vec<Vec<u8>> = entries
        .iter()
        .map(|(label, numbers)| {
            [&id(label)[..], &numbers.iter().flat_map(|n| n.to_le_bytes()).collect::<Vec<_>>()].concat()
        })
        .collect();
    entries.sort();
    entries.concat()
}

pub fn first() -> Raw {
    let slots = (1, list(&[("slot", &[])]));
    Raw {
        flags: 1,
        reserved: 0,
        repository: Config::id(&config()).0,
        generation: 1,
        previous: [0; 32],
        signer: verifying_key("master"),
        features: [0; 3],
        checkpoint: (1, [0; 32]),
        state: vec![slots.clone()],
        sections: vec![slots, (11, config().to_vec())],
    }
}

/// Name and first bytes of a head.
pub fn name(head: &[u8]) -> [u8; 32] {
    ObjectId::of(head).0
}

/// A second head: two segments, a snapshot, a mark.
pub fn second() -> Raw {
    let checkpoint = name(&first().sign());
    let sections = vec![
        (1, list(&[("slot", &[])])),
        (2, list(&[("segment 1", &[1000]), ("segment 2", &[2000])])),
        (4, list(&[("snapshot 1", &[500, 2])])),
        (6, list(&[("pack 1", &mark(2, 2, 0))])),
        (10, checkpoint[..8].to_vec()),
    ];
    Raw {
        flags: 0,
        generation: 2,
        previous: checkpoint,
        checkpoint: (1, checkpoint),
        state: sections.clone(),
        sections,
        ..first()
    }
}

/// A third: the marked pack is swept, a segment is replaced, a snapshot of the second generation is marked, still relative to the first.
pub fn third() -> Raw {
    let (one, two) = (name(&first().sign()), name(&second().sign()));
    let sections = vec![
        (1, list(&[("slot", &[]), ("slot 2", &[])])),
        (2, list(&[("segment 1", &[1000]), ("segment 3", &[3000])])),
        (4, list(&[("snapshot 1", &[500, 2]), ("snapshot 2", &[600, 3])])),
        (6, list(&[("segment 2", &mark(3 | REPLACED, 3, 0)), ("snapshot 3", &mark(4, 3, 2))])),
        (8, list(&[("pack 1", &[2, 1_700_000_002])])),
        (10, [&one[..8], &two[..8]].concat()),
    ];
    Raw { generation: 3, previous: two, state: sections.clone(), sections, ..second() }
}

/// A checkpoint with something in every list, and a head that takes all of it away.
pub fn full() -> Raw {
    let mut raw = first();
    raw.generation = 4;
    let three = name(&third().sign());
    raw.previous = three;
    raw.checkpoint = (4, [0; 32]);
    raw.state = third().state;
    raw.state[5].1.extend_from_slice(&three[..8]);
    raw.sections = [raw.state.clone(), vec![(11, config().to_vec())]].concat();
    raw
}

pub fn emptied() -> Raw {
    let four = name(&full().sign());
    let slots = (1, list(&[("slot 2", &[])]));
    let ancestors = [full().state[5].1.clone(), four[..8].to_vec()].concat();
    Raw {
        flags: 0,
        generation: 5,
        previous: four,
        checkpoint: (4, four),
        state: vec![slots.clone(), (10, ancestors)],
        sections: vec![
            slots,
            (3, list(&[("segment 1", &[]), ("segment 3", &[])])),
            (5, list(&[("snapshot 1", &[]), ("snapshot 2", &[])])),
            (7, list(&[("segment 2", &[]), ("snapshot 3", &[])])),
            (9, list(&[("pack 1", &[])])),
            (10, four[..8].to_vec()),
        ],
        ..first()
    }
}

/// The head with some bytes before the signature changed, and signed again.
pub fn patched(raw: &Raw, at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut body = raw.body();
    body[at..at + bytes.len()].copy_from_slice(bytes);
    let signature = signing().sign(&[b"packstone v1 head\0".as_slice(), &body].concat());
    [body.as_slice(), &signature.to_bytes()].concat()
}

/// The head with the order of the group added to the second half of its signature (RFC 8032, 8.4).
pub fn malleated(head: &[u8]) -> Vec<u8> {
    const ORDER: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let mut head = head.to_vec();
    let at = head.len() - 32;
    let mut carry = 0;
    for (byte, order) in head[at..].iter_mut().zip(ORDER) {
        let sum = u16::from(*byte) + u16::from(order) + carry;
        *byte = sum as u8;
        carry = sum >> 8;
    }
    head
}
