//! The key slot: the master key under one secret, in 512 bytes. format-spec/key_slot.md.
//!
//! A slot is parsed before anything about it is authenticated; which slots are tried at all is the signed head's
//! decision. Its commitment tells a wrong secret from a damaged slot: the name (a hash) says "damaged", the commitment
//! says "wrong secret". What the secret opens is one thing only, the master key; the label that people read is sealed
//! under a key of the tree, bound to this very slot.

use aes_gcm::{AeadInOut, Aes256Gcm, KeyInit};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::kdf::{self, Params};
use super::key_file::KeyFile;
use super::key_tree::{Key, KeyTree, MasterKey, derive, derive_committed, derive_key};
use super::recovery_code::RecoveryCode;
use super::wire::{Reader, Writer};
use super::{Error, ObjectKind, Reason, Result};
use crate::base::id::RepositoryId;
use crate::base::time::Time;

/// Length of a slot, in bytes.
pub const SLOT_BYTES: usize = 512;
/// Longest label, in bytes of UTF-8.
pub const LABEL_BYTES_MAX: usize = INFO_BYTES - 9;

/// Clear fields before the salt.
const HEADER_BYTES: usize = 64;
/// Where the commitment begins: all before it is in its derivation.
const COMMITMENT_AT: usize = HEADER_BYTES + 32;
/// Where the sealed payload begins.
const PAYLOAD_AT: usize = COMMITMENT_AT + 32;
/// Payload before sealing: its type, the master key, room for a key bundle.
const PAYLOAD_BYTES: usize = 160;
/// Where the sealed label and date begin.
const INFO_AT: usize = PAYLOAD_AT + PAYLOAD_BYTES + TAG_BYTES;
/// Label and date before sealing: created 8, length 1, label.
const INFO_BYTES: usize = 128;
const TAG_BYTES: usize = 16;
const _: () = assert!(INFO_AT + INFO_BYTES + TAG_BYTES + 64 == SLOT_BYTES);

/// Payload type 1: the master key.
const PAYLOAD_MASTER: u8 = 1;
/// Flag: a mirror never gets this slot.
const FLAG_LOCAL: u8 = 1;
/// Every slot key seals one message (its salt is bound to that message), so its nonce is zero.
const NONCE: [u8; 12] = [0; 12];

/// What opens a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum SecretKind {
    /// What somebody remembers; stretched.
    Passphrase = 1,
    /// What was printed; stretched.
    RecoveryCode = 2,
    /// A generated file; not stretched.
    KeyFile = 3,
}

impl SecretKind {
    /// What people call it.
    #[must_use]
    pub const fn describe(self) -> &'static str {
        match self {
            Self::Passphrase => "passphrase",
            Self::RecoveryCode => "recovery code",
            Self::KeyFile => "key file",
        }
    }
}

/// A secret at hand.
#[derive(Clone)]
pub enum Secret {
    /// The passphrase's bytes, exactly as they were typed (no normalization), without the line's end.
    Passphrase(Zeroizing<Vec<u8>>),
    /// A recovery code.
    RecoveryCode(RecoveryCode),
    /// A key file.
    KeyFile(KeyFile),
}

impl Secret {
    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> SecretKind {
        match self {
            Self::Passphrase(_) => SecretKind::Passphrase,
            Self::RecoveryCode(_) => SecretKind::RecoveryCode,
            Self::KeyFile(_) => SecretKind::KeyFile,
        }
    }

    /// S of the spec: 32 bytes that stand for the secret in one slot.
    fn stretch(&self, salt: &[u8; 32], params: Params) -> Result<Key> {
        match self {
            Self::Passphrase(passphrase) => kdf::stretch(passphrase, salt, params),
            Self::RecoveryCode(code) => kdf::stretch(code.secret(), salt, params),
            Self::KeyFile(file) => Ok(derive_key("packstone v1 key file", &[file.secret()])),
        }
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Secret({:?})", self.kind())
    }
}

/// What people read about a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotLabel {
    /// Free text: a person, a place. From outside: print it escaped.
    pub label: String,
    /// When the slot was made, as claimed; whole seconds.
    pub created: Time,
}

/// A slot whose layout was checked; nothing in it is authenticated before [`KeySlot::unlock`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySlot {
    bytes: [u8; SLOT_BYTES],
    kind: SecretKind,
    params: Params,
    mirrored: bool,
}

fn refuse(reason: Reason) -> Error {
    Error::new("key slot", reason)
}

/// Commitment and wrapping key of the slot whose bytes before the commitment are `before`.
fn wrap(stretched: &Key, before: &[u8]) -> ([u8; 32], Key) {
    derive_committed("packstone v1 slot", &[stretched.expose(), before])
}

fn seal(key: &Key, content: &mut [u8], writer: &mut Writer) -> Result<()> {
    let tag = Aes256Gcm::new(key.expose().into())
        .encrypt_inout_detached(&NONCE.into(), b"", (&mut *content).into())
        .map_err(|_| refuse(Reason::OutOfRange { field: "content length" }))?;
    writer.bytes(content).bytes(&tag);
    Ok(())
}

/// Opens `sealed` (content and tag).
fn open<const N: usize>(key: &Key, sealed: &[u8]) -> Result<Zeroizing<[u8; N]>> {
    let mut reader = Reader::new("key slot", sealed);
    let mut content = Zeroizing::new(reader.array::<N>()?);
    let tag: [u8; TAG_BYTES] = reader.array()?;
    reader.finish()?;
    Aes256Gcm::new(key.expose().into())
        .decrypt_inout_detached(&NONCE.into(), b"", content.as_mut_slice().into(), &tag.into())
        .map_err(|_| refuse(Reason::Tag))?;
    Ok(content)
}

/// The date and label as they are sealed.
fn encode_info(label: &str, created: Time) -> Result<Zeroizing<Vec<u8>>> {
    let length = u8::try_from(label.len()).ok().filter(|length| usize::from(*length) <= LABEL_BYTES_MAX);
    let length = length.ok_or(refuse(Reason::OutOfRange { field: "label length" }))?;
    let mut writer = Writer::new();
    writer.i64(created.seconds).u8(length).bytes(label.as_bytes()).zero_to(INFO_BYTES);
    Ok(Zeroizing::new(writer.finish()))
}

impl KeySlot {
    /// Makes a slot: the bytes to be stored. `params` is not used for a key file. With `mirrored` false the slot never
    /// leaves this copy of the repository. `random` comes from the kernel's generator.
    ///
    /// # Errors
    /// [`Reason::EmptyPassphrase`]; [`Reason::OutOfRange`] for a label over [`LABEL_BYTES_MAX`] or parameters beyond
    /// the limits; [`Reason::OutOfMemory`].
    #[allow(clippy::too_many_arguments)] // each of the eight is one field of the slot or one of its keys
    pub fn create(
        master: &MasterKey,
        keys: &KeyTree,
        secret: &Secret,
        params: Params,
        label: &str,
        created: Time,
        mirrored: bool,
        random: &[u8; 32],
    ) -> Result<Vec<u8>> {
        if matches!(secret, Secret::Passphrase(passphrase) if passphrase.is_empty()) {
            return Err(refuse(Reason::EmptyPassphrase));
        }
        let mut info = encode_info(label, created)?;
        let mut writer = Writer::with_header(ObjectKind::KeySlot);
        writer.u8(secret.kind() as u8).u8(if mirrored { 0 } else { FLAG_LOCAL });
        if secret.kind() == SecretKind::KeyFile {
            writer.zero(12);
        } else {
            params.check().map_err(refuse)?;
            writer.u32(params.memory_kib).u32(params.passes).u32(params.lanes);
        }
        writer.zero(8).bytes(keys.repository().as_bytes());
        let mut salt = [0; 32];
        derive("packstone v1 slot salt", &[master.expose(), random, writer.as_slice(), &info]).fill(&mut salt);
        writer.bytes(&salt);
        let stretched = secret.stretch(&salt, params)?;
        let (commitment, key) = wrap(&stretched, writer.as_slice());
        writer.bytes(&commitment);
        let mut payload = Zeroizing::new([0; PAYLOAD_BYTES]);
        payload[0] = PAYLOAD_MASTER;
        payload[1..33].copy_from_slice(master.expose());
        seal(&key, &mut *payload, &mut writer)?;
        let key = keys.slot_info(writer.as_slice());
        seal(&key, &mut info, &mut writer)?;
        writer.zero_to(SLOT_BYTES);
        Ok(writer.finish())
    }

    /// Reads a slot of `repository`. Nothing in it is authenticated yet.
    ///
    /// # Errors
    /// The first check that failed, in the order of the fields; the stretching parameters are within the limits
    /// afterwards.
    pub fn parse(bytes: &[u8], repository: RepositoryId) -> Result<Self> {
        let mut reader = Reader::fixed("key slot", bytes, SLOT_BYTES)?;
        reader.clear_header(ObjectKind::KeySlot)?;
        let kind = match reader.u8()? {
            1 => SecretKind::Passphrase,
            2 => SecretKind::RecoveryCode,
            3 => SecretKind::KeyFile,
            secret => return Err(reader.refuse(Reason::UnknownSecret { secret })),
        };
        let flags = reader.u8()?;
        if flags & !FLAG_LOCAL != 0 {
            return Err(reader.refuse(Reason::NonzeroReserved));
        }
        let params = if kind == SecretKind::KeyFile {
            reader.zero(12)?;
            Params { memory_kib: 0, passes: 0, lanes: 0 }
        } else {
            let params = Params { memory_kib: reader.u32()?, passes: reader.u32()?, lanes: reader.u32()? };
            params.check().map_err(|reason| reader.refuse(reason))?;
            params
        };
        reader.zero(8)?;
        reader.repository(repository)?;
        reader.take(SLOT_BYTES - 64 - reader.position())?;
        reader.zero(64)?;
        reader.finish()?;
        let mut copy = [0; SLOT_BYTES];
        copy.copy_from_slice(bytes);
        Ok(Self { bytes: copy, kind, params, mirrored: flags & FLAG_LOCAL == 0 })
    }

    /// The repository that a slot says it is of, for who knows none: what an interrupted `init` leaves has no config.
    #[must_use]
    pub fn repository_of(bytes: &[u8]) -> Option<RepositoryId> {
        Some(RepositoryId(*bytes.get(32..)?.first_chunk()?))
    }

    /// What opens it.
    #[must_use]
    pub const fn kind(&self) -> SecretKind {
        self.kind
    }

    /// How its secret is stretched; all zero for a key file, which is not.
    #[must_use]
    pub const fn params(&self) -> Params {
        self.params
    }

    /// False when mirrors never get it.
    #[must_use]
    pub const fn mirrored(&self) -> bool {
        self.mirrored
    }

    /// The master key, when `secret` is the right one.
    ///
    /// # Errors
    /// [`Reason::OtherSecret`] for a secret of another kind (nothing was tried), [`Reason::Commitment`] for a wrong
    /// secret (or a slot that was changed in its clear part), [`Reason::Tag`] for changed content,
    /// [`Reason::UnknownSecret`] for a payload of a later version, [`Reason::OutOfMemory`].
    pub fn unlock(&self, secret: &Secret) -> Result<MasterKey> {
        if secret.kind() != self.kind {
            return Err(refuse(Reason::OtherSecret));
        }
        let mut reader = Reader::new("key slot", &self.bytes);
        reader.take(HEADER_BYTES)?;
        let salt: [u8; 32] = reader.array()?;
        let expected: [u8; 32] = reader.array()?;
        let sealed = reader.take(PAYLOAD_BYTES + TAG_BYTES)?;
        let stretched = secret.stretch(&salt, self.params)?;
        let (commitment, key) = wrap(&stretched, &self.bytes[..COMMITMENT_AT]);
        if !bool::from(commitment.ct_eq(&expected)) {
            return Err(refuse(Reason::Commitment));
        }
        let payload = open::<PAYLOAD_BYTES>(&key, sealed)?;
        let mut reader = Reader::new("key slot", &*payload);
        match reader.u8()? {
            PAYLOAD_MASTER => {}
            secret => return Err(refuse(Reason::UnknownSecret { secret })),
        }
        let master = Zeroizing::new(reader.array::<32>()?);
        reader.zero(reader.remaining())?;
        Ok(MasterKey::new(*master))
    }

    /// Its label and date, which only an opened repository can read.
    ///
    /// # Errors
    /// [`Reason::Tag`] when the slot was changed or belongs elsewhere, [`Reason::Undecodable`].
    pub fn label(&self, keys: &KeyTree) -> Result<SlotLabel> {
        let key = keys.slot_info(&self.bytes[..INFO_AT]);
        let info = open::<INFO_BYTES>(&key, &self.bytes[INFO_AT..INFO_AT + INFO_BYTES + TAG_BYTES])?;
        let mut reader = Reader::new("key slot", &*info);
        let created = Time::from_seconds(reader.i64()?);
        let length = usize::from(reader.u8()?);
        let label = std::str::from_utf8(reader.take(length)?).map_err(|_| refuse(Reason::Undecodable))?;
        reader.zero(reader.remaining())?;
        Ok(SlotLabel { label: label.to_owned(), created })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const REPOSITORY: RepositoryId = RepositoryId([9; 32]);
    const CREATED: Time = Time::from_seconds(1_700_000_000);

    fn master() -> MasterKey {
        MasterKey::new([3; 32])
    }

    fn keys() -> KeyTree {
        KeyTree::new(&master(), REPOSITORY)
    }

    fn file(byte: u8) -> Secret {
        Secret::KeyFile(KeyFile::generate(&[byte; 32]))
    }

    fn create(secret: &Secret, label: &str, mirrored: bool) -> Result<Vec<u8>> {
        KeySlot::create(&master(), &keys(), secret, Params::DEFAULT, label, CREATED, mirrored, &[5; 32])
    }

    fn reason<T>(result: Result<T>) -> Reason {
        result.map(|_| ()).unwrap_err().reason
    }

    #[test]
    fn a_key_file_opens_its_slot_and_no_other() {
        let slot = KeySlot::parse(&create(&file(1), "Grüße", true).unwrap(), REPOSITORY).unwrap();
        assert_eq!((slot.kind(), slot.params().lanes, slot.mirrored()), (SecretKind::KeyFile, 0, true));
        assert_eq!(slot.unlock(&file(1)).unwrap().expose(), master().expose());
        assert_eq!(slot.label(&keys()), Ok(SlotLabel { label: "Grüße".into(), created: CREATED }));
        assert_eq!(reason(slot.unlock(&file(2))), Reason::Commitment);
        let passphrase = Secret::Passphrase(Zeroizing::new(b"x".to_vec()));
        assert_eq!(reason(slot.unlock(&passphrase)), Reason::OtherSecret);
        assert!(!KeySlot::parse(&create(&file(1), "", false).unwrap(), REPOSITORY).unwrap().mirrored());
    }

    #[test]
    fn a_passphrase_and_a_recovery_code_open_theirs() {
        let passphrase = |text: &str| Secret::Passphrase(Zeroizing::new(text.into()));
        let slot = KeySlot::parse(&create(&passphrase("correct horse"), "", true).unwrap(), REPOSITORY).unwrap();
        assert_eq!(slot.unlock(&passphrase("correct horse")).unwrap().expose(), master().expose());
        assert_eq!(reason(slot.unlock(&passphrase("correct horsf"))), Reason::Commitment);
        assert_eq!(slot.params(), Params::DEFAULT);
        let code = Secret::RecoveryCode(RecoveryCode::generate(&[8; 16]));
        let slot = KeySlot::parse(&create(&code, "paper", true).unwrap(), REPOSITORY).unwrap();
        assert_eq!(slot.unlock(&code).unwrap().expose(), master().expose());
    }

    #[test]
    fn what_cannot_protect_is_not_made() {
        assert_eq!(reason(create(&Secret::Passphrase(Zeroizing::default()), "", true)), Reason::EmptyPassphrase);
        let longest = "x".repeat(LABEL_BYTES_MAX);
        let slot = KeySlot::parse(&create(&file(1), &longest, true).unwrap(), REPOSITORY).unwrap();
        assert_eq!(slot.label(&keys()).unwrap().label, longest);
        let too_long = create(&file(1), &(longest + "x"), true);
        assert_eq!(reason(too_long), Reason::OutOfRange { field: "label length" });
        let weak = Params { memory_kib: 8, ..Params::DEFAULT };
        let passphrase = Secret::Passphrase(Zeroizing::new(b"x".to_vec()));
        let slot = KeySlot::create(&master(), &keys(), &passphrase, weak, "", CREATED, true, &[5; 32]);
        assert_eq!(reason(slot), Reason::OutOfRange { field: "Argon2 memory" });
    }

    #[test]
    fn every_bit_of_a_slot_is_checked() {
        let bytes = create(&file(1), "label", true).unwrap();
        for bit in 0..SLOT_BYTES * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let at = bit / 8;
            let Ok(slot) = KeySlot::parse(&changed, REPOSITORY) else {
                assert!(!(HEADER_BYTES..448).contains(&at), "byte {at}");
                continue;
            };
            let unlocked = slot.unlock(&file(1));
            if at < PAYLOAD_AT {
                assert_eq!(reason(unlocked), Reason::Commitment, "byte {at}");
            } else if at < INFO_AT {
                assert_eq!(reason(unlocked), Reason::Tag, "byte {at}");
            } else {
                assert!(unlocked.is_ok(), "byte {at}");
            }
            assert_eq!(reason(slot.label(&keys())), Reason::Tag, "byte {at}");
        }
    }

    #[test]
    fn a_stuck_generator_pairs_no_key_with_two_contents() {
        let salt = |label: &str, mirrored| create(&file(1), label, mirrored).unwrap()[64..96].to_vec();
        assert_ne!(salt("a", true), salt("b", true));
        assert_ne!(salt("a", true), salt("a", false));
    }
}
