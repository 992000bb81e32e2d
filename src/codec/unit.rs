//! The sealed unit: the one frame in which every secret byte of a repository lies. format-spec/unit.md.
//!
//! ```text
//! salt 32 | commitment 32 | ciphertext | tag 16
//! ```
//!
//! Each unit has a key of its own, derived from everything that is known about it (kind, domain, codec, plain length,
//! the clear bytes it belongs to, and its salt), so a change of any of these fails at the commitment, before the
//! cipher is asked. The commitment also makes the unit committing: AES-GCM alone would let one ciphertext open under
//! two keys (Dodis et al., "Fast Message Franking", CRYPTO 2018; RFC 9771, "key commitment"). A unit knows nothing of its
//! position, so a fully live block moves between packs as bytes.

use aes_gcm::{AeadInOut, Aes256Gcm, KeyInit};
use subtle::ConstantTimeEq;

use super::key_tree::{DOMAIN, Key, KeyTree, derive, derive_committed};
use super::{Error, Reason, Result};

/// Bytes of the random-looking salt at the front.
pub const SALT_BYTES: usize = 32;
/// Bytes of the commitment behind the salt.
pub const COMMITMENT_BYTES: usize = 32;
/// Bytes before the ciphertext.
pub const PREFIX_BYTES: usize = SALT_BYTES + COMMITMENT_BYTES;
/// Bytes of the GCM tag behind the ciphertext.
pub const TAG_BYTES: usize = 16;
/// A unit is this much longer than its content: salt 32, commitment 32, tag 16.
pub const OVERHEAD_BYTES: usize = PREFIX_BYTES + TAG_BYTES;

/// What a unit holds. Each kind has a key of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum UnitKind {
    /// Chunks of files.
    DataBlock = 1,
    /// Chunks of listings.
    TreeBlock = 2,
    /// Directory of a data pack.
    DataDirectory = 3,
    /// Directory of a tree pack.
    TreeDirectory = 4,
    /// Body of a segment.
    Segment = 5,
    /// Body of a snapshot.
    Snapshot = 6,
}

impl UnitKind {
    /// Every kind, in the order of its number; the first is 1.
    pub const ALL: [Self; 6] =
        [Self::DataBlock, Self::TreeBlock, Self::DataDirectory, Self::TreeDirectory, Self::Segment, Self::Snapshot];
}

/// How a unit's content was packed before it was sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, bincode::Encode, bincode::Decode)]
#[repr(u8)]
pub enum Codec {
    /// As it is.
    Stored = 0,
    /// One zstd frame (RFC 8878).
    Zstd = 1,
}

impl TryFrom<u8> for Codec {
    type Error = Reason;

    fn try_from(codec: u8) -> std::result::Result<Self, Reason> {
        match codec {
            0 => Ok(Self::Stored),
            1 => Ok(Self::Zstd),
            codec => Err(Reason::UnknownCodec { codec }),
        }
    }
}

/// What is known about a unit from an authenticated place before it is opened. All of it is in its key.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// What it holds.
    pub kind: UnitKind,
    /// How its content is packed.
    pub codec: Codec,
    /// Length of the content when unpacked, in bytes.
    pub plain_length: u32,
    /// Clear bytes that belong to it (a header, a footer, a table), empty for blocks.
    pub clear: &'a [u8],
}

impl Context<'_> {
    /// Commitment and cipher key of the unit with this salt.
    fn derive(&self, keys: &KeyTree, salt: &[u8; SALT_BYTES]) -> ([u8; COMMITMENT_BYTES], Key) {
        derive_committed(
            "packstone v1 unit",
            &[
                keys.unit_key(self.kind).expose(),
                keys.repository().as_bytes(),
                &[self.kind as u8],
                &DOMAIN.to_le_bytes(),
                &[self.codec as u8],
                &self.plain_length.to_le_bytes(),
                salt,
                blake3::hash(self.clear).as_bytes(),
            ],
        )
    }
}

/// The salt of a unit: unpredictable as long as `random` is, and different for different contents even when it is
/// not (a cloned virtual machine repeats its generator), so that one key never meets two contents.
fn salt(keys: &KeyTree, random: &[u8; 32], plain_length: u32, content: &[u8]) -> [u8; SALT_BYTES] {
    let mut salt = [0; SALT_BYTES];
    derive(
        "packstone v1 salt",
        &[keys.salt_key().expose(), random, &plain_length.to_le_bytes(), blake3::hash(content).as_bytes()],
    )
    .fill(&mut salt);
    salt
}

/// Seals in place. `buffer` holds [`PREFIX_BYTES`] bytes of room and then the content (packed with the context's
/// codec); afterwards it holds the unit.
///
/// # Errors
/// [`Reason::OutOfRange`] when the buffer has no room for the prefix or the content is longer than the cipher takes.
pub fn seal(keys: &KeyTree, context: &Context<'_>, random: &[u8; 32], buffer: &mut Vec<u8>) -> Result<()> {
    let refuse = || Error::new("sealed unit", Reason::OutOfRange { field: "content length" });
    let content = buffer.get(PREFIX_BYTES..).ok_or_else(refuse)?;
    let salt = salt(keys, random, context.plain_length, content);
    let (commitment, key) = context.derive(keys, &salt);
    buffer[..SALT_BYTES].copy_from_slice(&salt);
    buffer[SALT_BYTES..PREFIX_BYTES].copy_from_slice(&commitment);
    let cipher = Aes256Gcm::new(key.expose().into());
    let tag = cipher
        .encrypt_inout_detached(&NONCE.into(), b"", (&mut buffer[PREFIX_BYTES..]).into())
        .map_err(|_| refuse())?;
    buffer.extend_from_slice(&tag);
    Ok(())
}

/// Opens in place and returns the content, still packed with the context's codec.
///
/// # Errors
/// [`Reason::Truncated`] for fewer bytes than a unit has, [`Reason::Commitment`] for another key or context,
/// [`Reason::Tag`] for changed content. The buffer's content is meaningless after an error.
pub fn open<'a>(keys: &KeyTree, context: &Context<'_>, unit: &'a mut [u8]) -> Result<&'a [u8]> {
    let refuse = |reason| Error::new("sealed unit", reason);
    if unit.len() < OVERHEAD_BYTES {
        return Err(refuse(Reason::Truncated));
    }
    let (prefix, rest) = unit.split_at_mut(PREFIX_BYTES);
    let mut salt = [0; SALT_BYTES];
    salt.copy_from_slice(&prefix[..SALT_BYTES]);
    let (commitment, key) = context.derive(keys, &salt);
    if !bool::from(commitment.ct_eq(&prefix[SALT_BYTES..])) {
        return Err(refuse(Reason::Commitment));
    }
    let (content, tag) = rest.split_at_mut(rest.len() - TAG_BYTES);
    let mut expected = [0; TAG_BYTES];
    expected.copy_from_slice(tag);
    Aes256Gcm::new(key.expose().into())
        .decrypt_inout_detached(&NONCE.into(), b"", (&mut *content).into(), &expected.into())
        .map_err(|_| refuse(Reason::Tag))?;
    Ok(content)
}

/// Nonce of every unit: zero, because each unit's key is used once (NIST SP 800-38D, 8.2.1: one invocation).
const NONCE: [u8; 12] = [0; 12];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::base::id::RepositoryId;
    use crate::codec::key_tree::MasterKey;

    fn keys() -> KeyTree {
        KeyTree::new(&MasterKey::new([1; 32]), RepositoryId([2; 32]))
    }

    fn context(content: &[u8]) -> Context<'static> {
        Context { kind: UnitKind::DataBlock, codec: Codec::Stored, plain_length: content.len() as u32, clear: b"" }
    }

    fn sealed(content: &[u8], random: u8) -> Vec<u8> {
        let mut buffer = [&[0; PREFIX_BYTES], content].concat();
        seal(&keys(), &context(content), &[random; 32], &mut buffer).unwrap();
        buffer
    }

    #[test]
    fn what_was_sealed_opens() {
        for content in [b"".as_slice(), b"x", &[7; 100_000]] {
            let mut unit = sealed(content, 3);
            assert_eq!(unit.len(), content.len() + OVERHEAD_BYTES);
            assert_eq!(open(&keys(), &context(content), &mut unit), Ok(content));
        }
    }

    #[test]
    fn every_bit_is_checked() {
        let unit = sealed(b"content", 3);
        for bit in 0..unit.len() * 8 {
            let mut changed = unit.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let reason = open(&keys(), &context(b"content"), &mut changed).unwrap_err().reason;
            let expected = if bit / 8 < PREFIX_BYTES { Reason::Commitment } else { Reason::Tag };
            assert_eq!(reason, expected, "byte {}", bit / 8);
        }
        for length in 0..OVERHEAD_BYTES {
            let mut short = unit[..length].to_vec();
            assert_eq!(open(&keys(), &context(b"content"), &mut short).unwrap_err().reason, Reason::Truncated);
        }
    }

    #[test]
    fn a_buffer_without_room_is_refused() {
        let mut buffer = vec![0; PREFIX_BYTES - 1];
        assert!(seal(&keys(), &context(b""), &[0; 32], &mut buffer).is_err());
        assert_eq!(buffer.len(), PREFIX_BYTES - 1);
    }

    /// A cloned machine repeats its generator. One key must still never meet two contents: equal salts would be equal
    /// keys, and AES-GCM under one key and nonce gives both contents away.
    #[test]
    fn a_stuck_generator_repeats_no_salt() {
        let mut salts = std::collections::HashSet::new();
        for number in 0..1000_u32 {
            assert!(salts.insert(sealed(&number.to_le_bytes(), 0)[..SALT_BYTES].to_vec()));
        }
        // The same content gives the same unit: nothing new is sealed.
        assert_eq!(sealed(b"content", 0), sealed(b"content", 0));
        assert_ne!(sealed(b"content", 0), sealed(b"content", 1));
    }

    /// AES-GCM alone would let one ciphertext open under two keys; the commitment does not.
    #[test]
    fn a_unit_opens_under_one_context_only() {
        let unit = sealed(b"content", 3);
        let own = context(b"content");
        for kind in UnitKind::ALL {
            for codec in [Codec::Stored, Codec::Zstd] {
                for plain_length in [7, 8] {
                    for clear in [b"".as_slice(), b"c"] {
                        let context = Context { kind, codec, plain_length, clear };
                        let same = kind == own.kind && codec == own.codec && plain_length == 7 && clear.is_empty();
                        let opened = open(&keys(), &context, &mut unit.clone()).map(<[u8]>::to_vec);
                        match opened {
                            Ok(content) => assert!(same && content == b"content"),
                            Err(error) => assert!(!same && error.reason == Reason::Commitment),
                        }
                    }
                }
            }
        }
    }
}
