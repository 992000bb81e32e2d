//! The config: what a repository is, in 256 bytes that are written once. format-spec/config.md.
//!
//! Its hash is the repository id, which is in every key: nobody can exchange the verifying key, the suite or the chunker
//! without turning the repository into another one. It holds no secret and is authenticated only backwards, when the
//! verifying key derived from the master key equals the one it names; until then everything in it is a claim.

use ed25519_dalek::VerifyingKey;

use super::chunker::Parameters;
use super::wire::{Reader, Writer};
use super::{ObjectKind, Reason, Result, SUITE, key_tree};
use crate::base::id::RepositoryId;
use crate::base::time::Time;

/// Length of a config, in bytes.
pub const CONFIG_BYTES: usize = 256;

/// Chunker 1: FastCDC (2020) with the repository's gear table. format-spec/chunker.md.
pub const CHUNKER: u32 = 1;

/// What a program must understand: a bit for each feature, by what somebody wants to do. Bits are only ever added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Features {
    /// Unknown bit: do not even read.
    pub read: u64,
    /// Unknown bit: read, but publish nothing.
    pub write: u64,
    /// Unknown bit: do not copy to or from a mirror.
    pub move_: u64,
}

impl Features {
    /// Bytes of the three masks.
    pub const BYTES: usize = 24;
    /// The bits that this program knows: version 1 has none.
    pub const KNOWN: Self = Self { read: 0, write: 0, move_: 0 };

    /// Reads the three masks, and nothing more than that.
    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self> {
        Ok(Self { read: reader.u64()?, write: reader.u64()?, move_: reader.u64()? })
    }

    pub(super) fn write(&self, writer: &mut Writer) {
        writer.u64(self.read).u64(self.write).u64(self.move_);
    }

    /// True when every bit of `other` is set here too.
    #[must_use]
    pub const fn contains(&self, other: &Self) -> bool {
        other.read & !self.read == 0 && other.write & !self.write == 0 && other.move_ & !self.move_ == 0
    }

    /// The bits of both.
    #[must_use]
    pub const fn union(&self, other: &Self) -> Self {
        Self { read: self.read | other.read, write: self.write | other.write, move_: self.move_ | other.move_ }
    }

    const fn unknown(bits: u64, known: u64) -> std::result::Result<(), Reason> {
        if bits & !known == 0 { Ok(()) } else { Err(Reason::UnknownFeature { bits: bits & !known }) }
    }

    /// Whether this program may read.
    ///
    /// # Errors
    /// [`Reason::UnknownFeature`]; so for the two below.
    pub const fn check_read(&self) -> std::result::Result<(), Reason> {
        Self::unknown(self.read, Self::KNOWN.read)
    }

    /// Whether this program may publish heads.
    ///
    /// # Errors
    /// [`Reason::UnknownFeature`].
    pub const fn check_write(&self) -> std::result::Result<(), Reason> {
        Self::unknown(self.write, Self::KNOWN.write)
    }

    /// Whether this program may copy to and from mirrors.
    ///
    /// # Errors
    /// [`Reason::UnknownFeature`].
    pub const fn check_move(&self) -> std::result::Result<(), Reason> {
        Self::unknown(self.move_, Self::KNOWN.move_)
    }
}

/// A repository's config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Cryptographic suite: [`SUITE`].
    pub suite: u8,
    /// Where file contents are cut.
    pub files: Parameters,
    /// Verifies the signatures of heads.
    pub verifying_key: [u8; 32],
    /// Features that were in use from the beginning; heads add theirs.
    pub features: Features,
    /// When the repository was made, as claimed; whole seconds.
    pub created: Time,
}

impl Config {
    /// The config of a new repository of version 1: this program's suite, no features.
    #[must_use]
    pub const fn new(files: Parameters, verifying_key: [u8; 32], created: Time) -> Self {
        let features = Features { read: 0, write: 0, move_: 0 };
        Self { suite: SUITE, files, verifying_key, features, created }
    }

    /// The stored bytes. Nanoseconds of `created` are dropped.
    #[must_use]
    pub fn encode(&self) -> [u8; CONFIG_BYTES] {
        let mut writer = Writer::with_header(ObjectKind::Config);
        writer.u8(self.suite).zero(1).u32(CHUNKER).u32(self.files.min).u32(self.files.average).u32(self.files.max);
        writer.zero(4).bytes(&self.verifying_key);
        self.features.write(&mut writer);
        writer.i64(self.created.seconds).zero_to(CONFIG_BYTES);
        let mut bytes = [0; CONFIG_BYTES];
        bytes.copy_from_slice(writer.as_slice());
        bytes
    }

    /// Reads a config. What it says is a claim until the master key is known.
    ///
    /// # Errors
    /// The first check that failed, in the order of the fields. Unknown read features are refused; the other masks are
    /// for the caller to ask ([`Features::check_write`], [`Features::check_move`]).
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader::fixed("config", bytes, CONFIG_BYTES)?;
        reader.clear_header(ObjectKind::Config)?;
        let suite = reader.u8()?;
        if suite != SUITE {
            return Err(reader.refuse(Reason::UnknownSuite { suite }));
        }
        reader.zero(1)?;
        let chunker = reader.u32()?;
        if chunker != CHUNKER {
            return Err(reader.refuse(Reason::UnknownChunker { chunker }));
        }
        let files = Parameters { min: reader.u32()?, average: reader.u32()?, max: reader.u32()? };
        if !files.is_valid() {
            return Err(reader.refuse(Reason::OutOfRange { field: "chunk length" }));
        }
        reader.zero(4)?;
        let verifying_key: [u8; 32] = reader.array()?;
        if !is_usable(&verifying_key) {
            return Err(reader.refuse(Reason::OutOfRange { field: "verifying key" }));
        }
        let features = Features::read(&mut reader)?;
        features.check_read().map_err(|reason| reader.refuse(reason))?;
        let created = Time::from_seconds(reader.i64()?);
        reader.zero(reader.remaining())?;
        reader.finish()?;
        Ok(Self { suite, files, verifying_key, features, created })
    }

    /// The id of the repository that these stored bytes describe.
    #[must_use]
    pub fn id(bytes: &[u8]) -> RepositoryId {
        key_tree::repository_id(bytes)
    }
}

/// True for a point on the curve that is not of small order: under a weak key anybody can make signatures (RFC 8032,
/// 5.1.7; Chalkias et al., "Taming the many EdDSAs", 2020).
fn is_usable(verifying_key: &[u8; 32]) -> bool {
    VerifyingKey::from_bytes(verifying_key).is_ok_and(|key| !key.is_weak())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::codec::key_tree::MasterKey;

    fn config() -> Config {
        Config {
            suite: SUITE,
            files: Parameters::FILES,
            verifying_key: MasterKey::new([7; 32]).signing_key().verifying_key().to_bytes(),
            features: Features { read: 0, write: 1, move_: 2 },
            created: Time::from_seconds(-5),
        }
    }

    #[test]
    fn a_config_is_read_as_it_was_written() {
        let bytes = config().encode();
        assert_eq!(Config::parse(&bytes), Ok(config()));
        assert_eq!(Config::parse(&bytes).unwrap().encode(), bytes);
    }

    #[test]
    fn every_bit_is_refused_or_makes_another_repository() {
        let bytes = config().encode();
        for bit in 0..CONFIG_BYTES * 8 {
            let mut changed = bytes;
            changed[bit / 8] ^= 1 << (bit % 8);
            match Config::parse(&changed) {
                Ok(read) => assert_eq!(read.encode(), changed, "bit {bit} is read but not kept"),
                Err(error) => assert_eq!(error.structure, "config"),
            }
            assert_ne!(Config::id(&changed), Config::id(&bytes));
        }
    }

    #[test]
    fn features_only_grow() {
        let (old, new) = (Features { read: 1, write: 2, move_: 4 }, Features { read: 3, write: 2, move_: 4 });
        assert!(new.contains(&old) && !old.contains(&new));
        assert_eq!(old.union(&new), new);
        assert_eq!(new.check_read(), Err(Reason::UnknownFeature { bits: 3 }));
        assert_eq!(new.check_write(), Err(Reason::UnknownFeature { bits: 2 }));
        assert_eq!(new.check_move(), Err(Reason::UnknownFeature { bits: 4 }));
        assert_eq!(Features::default().check_read(), Ok(()));
    }
}
