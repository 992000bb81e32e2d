//! The head: one signed link of the chain that says which objects are live. format-spec/head.md.
//!
//! A head is plain, so that whoever moves objects needs no secret, and signed, so that nobody else can make one. It
//! carries the cumulative difference to the checkpoint that it names (a checkpoint: the whole state), so opening a
//! repository takes the newest head and one checkpoint. Before the signature is verified only the fields that verifying
//! needs are looked at; everything after it is read from authenticated bytes, and still distrusted: a head that
//! contradicts itself is refused.

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};

use super::config::{CONFIG_BYTES, Config, Features};
use super::difference::{ConfigCopy, Difference};
pub use super::live_state::{LiveState, Mark, MarkedKind, SnapshotEntry, Sweep};
use super::wire::{Reader, Writer};
use super::{Error, ObjectKind, Reason, Result};
use crate::base::id::{ID_BYTES, ObjectId, RepositoryId};
use crate::base::time::Time;

/// Bytes before the sections.
pub const FIXED_BYTES: usize = 224;
/// Bytes of the signature at the end.
pub const SIGNATURE_BYTES: usize = 64;
/// Longest head: 64 MiB.
pub const BYTES_MAX: usize = 64 << 20;
/// A difference longer than this is replaced by a checkpoint.
pub const DIFFERENCE_BYTES_MAX: usize = 1 << 20;
/// A whole state of at most so many bytes is always a checkpoint: a block of most disks, less what surrounds it.
pub const CHECKPOINT_BYTES_MIN: usize = 3 << 10;
/// What is signed begins with this, so that no signature of a head can be one of anything else.
pub const SIGNATURE_CONTEXT: &[u8] = b"packstone v1 head\0";

const FLAG_CHECKPOINT: u8 = 1;
const NO_ID: ObjectId = ObjectId([0; ID_BYTES]);

/// A head by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HeadRef {
    /// Its place in the chain; the first is 1.
    pub generation: u64,
    /// Hash of its bytes.
    pub id: ObjectId,
}

/// A head whose signature was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    generation: u64,
    previous: Option<HeadRef>,
    time: Time,
    features: Features,
    is_checkpoint: bool,
    checkpoint: HeadRef,
    id: ObjectId,
    repository: RepositoryId,
    digest: [u8; 32],
    difference: Difference,
    config: Option<ConfigCopy>,
}

fn refuse(reason: Reason) -> Error {
    Error::new("head", reason)
}

/// The signed message: the context and everything before the signature.
fn message(body: &[u8]) -> Vec<u8> {
    [SIGNATURE_CONTEXT, body].concat()
}

impl Head {
    /// Whether these bytes are a head that the holder of the signing key made, whatever it says. The body that was
    /// signed.
    ///
    /// Who has a file under `heads/` that fails here has junk; one that passes here and fails [`Head::parse`] is ours
    /// and must not be skipped.
    ///
    /// # Errors
    /// Length, magic, version, kind, repository, signer, then [`Reason::Signature`]. [`Reason::UnknownVersion`] may hide
    /// a head of ours.
    pub fn verify<'a>(bytes: &'a [u8], verifying_key: &[u8; 32], repository: RepositoryId) -> Result<&'a [u8]> {
        let mut reader = Reader::new("head", bytes);
        reader.clear_header(ObjectKind::Head)?;
        if bytes.len() > BYTES_MAX {
            return Err(refuse(Reason::OutOfRange { field: "length" }));
        }
        reader.take(2)?;
        let total = u64::from(reader.u32()?);
        if total != bytes.len() as u64 {
            return Err(refuse(Reason::WrongLength { expected: total, found: bytes.len() as u64 }));
        }
        let body_bytes = bytes.len().checked_sub(SIGNATURE_BYTES).filter(|length| *length >= FIXED_BYTES);
        let (body, signature) = bytes.split_at(body_bytes.ok_or(refuse(Reason::Truncated))?);
        reader.repository(repository)?;
        reader.take(48)?;
        if reader.array::<32>()? != *verifying_key {
            return Err(refuse(Reason::OtherSigner));
        }
        check_signature(verifying_key, body, signature)?;
        Ok(body)
    }

    /// Reads and verifies a head of `repository` under the config's `verifying_key`.
    ///
    /// # Errors
    /// What [`Head::verify`] refuses, then the first field or section that is wrong. Unknown read features are refused,
    /// the other masks are for the caller.
    pub fn parse(bytes: &[u8], verifying_key: &[u8; 32], repository: RepositoryId) -> Result<Self> {
        let mut reader = Reader::new("head", Self::verify(bytes, verifying_key, repository)?);
        reader.clear_header(ObjectKind::Head)?;
        let flags = reader.u8()?;
        if flags & !FLAG_CHECKPOINT != 0 {
            return Err(refuse(Reason::NonzeroReserved));
        }
        let is_checkpoint = flags & FLAG_CHECKPOINT != 0;
        reader.zero(1)?;
        reader.take(4 + ID_BYTES)?;
        let generation = reader.u64()?;
        let previous = reader.object_id()?;
        let time = Time::from_seconds(reader.i64()?);
        reader.take(32)?;
        let features = Features::read(&mut reader)?;
        features.check_read().map_err(refuse)?;
        let checkpoint = HeadRef { generation: reader.u64()?, id: reader.object_id()? };
        let digest = reader.array()?;
        let (difference, config) = Difference::read(&mut reader, is_checkpoint)?;

        let previous = match (generation, previous) {
            (0, _) => return Err(refuse(Reason::OutOfRange { field: "generation" })),
            (1, NO_ID) => None,
            (1, _) | (_, NO_ID) => return Err(refuse(Reason::WrongPrevious)),
            (_, id) => Some(HeadRef { generation: generation - 1, id }),
        };
        let named_well = if is_checkpoint {
            checkpoint == HeadRef { generation, id: NO_ID }
        } else {
            (1..generation).contains(&checkpoint.generation)
        };
        if !named_well {
            return Err(refuse(Reason::WrongCheckpoint));
        }
        if let Some(copy) = &config {
            check_copy(copy, repository, verifying_key, &features)?;
        }
        let id = ObjectId::of(bytes);
        let checkpoint = if is_checkpoint { HeadRef { generation, id } } else { checkpoint };
        Ok(Self {
            generation,
            previous,
            time,
            features,
            is_checkpoint,
            checkpoint,
            id,
            repository,
            digest,
            difference,
            config,
        })
    }

    /// The copy of the config that a checkpoint carries, for whoever has lost the config itself. The head is parsed under the signer and the
    /// repository that it names: it proves that the copy belongs to it, and not whose it is. None for anything else.
    #[must_use]
    pub fn config_within(bytes: &[u8]) -> Option<[u8; CONFIG_BYTES]> {
        let named = || {
            let mut reader = Reader::new("head", bytes);
            reader.clear_header(ObjectKind::Head)?;
            reader.take(2 + 4)?;
            let repository = RepositoryId(reader.array()?);
            reader.take(48)?;
            Ok::<_, Error>((repository, reader.array::<32>()?))
        };
        let (repository, signer) = named().ok()?;
        Self::parse(bytes, &signer, repository).ok()?.config
    }

    /// Its own name.
    #[must_use]
    pub const fn reference(&self) -> HeadRef {
        HeadRef { generation: self.generation, id: self.id }
    }

    /// Its place in the chain; the first is 1.
    #[must_use]
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// The head before it; none for the first.
    #[must_use]
    pub const fn previous(&self) -> Option<HeadRef> {
        self.previous
    }

    /// When it was made, as claimed; whole seconds.
    #[must_use]
    pub const fn time(&self) -> Time {
        self.time
    }

    /// Features in use; never fewer than in the head before.
    #[must_use]
    pub const fn features(&self) -> Features {
        self.features
    }

    /// Whether it carries the whole state.
    #[must_use]
    pub const fn is_checkpoint(&self) -> bool {
        self.is_checkpoint
    }

    /// The head whose state it changes: itself for a checkpoint.
    #[must_use]
    pub const fn checkpoint(&self) -> HeadRef {
        self.checkpoint
    }

    /// The repository it belongs to.
    #[must_use]
    pub const fn repository(&self) -> RepositoryId {
        self.repository
    }

    /// The live key slots, which every head lists in full.
    #[must_use]
    pub const fn slots(&self) -> &std::collections::BTreeSet<ObjectId> {
        &self.difference.slots
    }

    /// The digest of the live state, as signed.
    #[must_use]
    pub const fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// The config's bytes, which every checkpoint carries.
    #[must_use]
    pub const fn config(&self) -> Option<&[u8; CONFIG_BYTES]> {
        self.config.as_ref()
    }

    /// The whole live state: `checkpoint`'s, changed by this head's difference. A checkpoint needs none.
    ///
    /// # Errors
    /// [`Reason::WrongCheckpoint`] when `checkpoint` is not the one that this head names;
    /// [`Reason::AlreadyListed`] and [`Reason::NotListed`] when the difference does not fit it; what
    /// [`LiveState::check`] refuses; [`Reason::WrongAncestors`]; [`Reason::WrongDigest`].
    pub fn resolve(&self, checkpoint: Option<&Self>) -> Result<LiveState> {
        let base = if self.is_checkpoint {
            LiveState::default()
        } else {
            let named = |head: &&Self| head.is_checkpoint && head.reference() == self.checkpoint;
            let checkpoint = checkpoint.filter(named).ok_or(refuse(Reason::WrongCheckpoint))?;
            if checkpoint.repository != self.repository {
                return Err(refuse(Reason::OtherRepository));
            }
            checkpoint.resolve(None)?
        };
        let state = self.difference.apply(&base).map_err(refuse)?;
        state.check(self.generation).map_err(refuse)?;
        let lists = |head: &HeadRef| state.is_ancestor(head.generation, &head.id);
        if state.ancestors.len() as u64 != self.generation - 1
            || !self.previous.as_ref().is_none_or(lists)
            || !(self.is_checkpoint || lists(&self.checkpoint))
        {
            return Err(refuse(Reason::WrongAncestors));
        }
        if state.digest() != self.digest {
            return Err(refuse(Reason::WrongDigest));
        }
        Ok(state)
    }
}

fn check_signature(verifying_key: &[u8; 32], body: &[u8], signature: &[u8]) -> Result<()> {
    let key = VerifyingKey::from_bytes(verifying_key).map_err(|_| refuse(Reason::Signature))?;
    let signature = Signature::from_slice(signature).map_err(|_| refuse(Reason::Signature))?;
    // Strict: no small-order points, no second encoding of a signature (a head has one id).
    key.verify_strict(&message(body), &signature).map_err(|_| refuse(Reason::Signature))
}

/// The config copy of a checkpoint must be this repository's.
fn check_copy(
    copy: &ConfigCopy,
    repository: RepositoryId,
    verifying_key: &[u8; 32],
    features: &Features,
) -> Result<()> {
    if Config::id(copy) != repository {
        return Err(refuse(Reason::OtherRepository));
    }
    let config = Config::parse(copy)?;
    if config.verifying_key != *verifying_key {
        return Err(refuse(Reason::OtherSigner));
    }
    if !features.contains(&config.features) {
        return Err(refuse(Reason::ShrunkFeatures));
    }
    Ok(())
}

/// Whether `next` is the head right after `previous`. The states are compared by [`LiveState::check_transition`].
///
/// # Errors
/// [`Reason::OtherRepository`]; [`Reason::WrongPrevious`] for another generation or predecessor;
/// [`Reason::ShrunkFeatures`]; [`Reason::WrongCheckpoint`] when `next` is no checkpoint and names another one than
/// `previous` does.
pub fn check_succession(previous: &Head, next: &Head) -> Result<()> {
    if previous.repository != next.repository {
        return Err(refuse(Reason::OtherRepository));
    }
    if next.previous != Some(previous.reference()) {
        return Err(refuse(Reason::WrongPrevious));
    }
    if !next.features.contains(&previous.features) {
        return Err(refuse(Reason::ShrunkFeatures));
    }
    if !next.is_checkpoint && next.checkpoint != previous.checkpoint {
        return Err(refuse(Reason::WrongCheckpoint));
    }
    Ok(())
}

/// Whether a head is written as a difference of `change` bytes rather than as the `whole`, when so many `heads` name the same checkpoint.
/// A small state is always written whole: who opens the repository then reads one file, and it takes a block of the disk in either form.
/// After a checkpoint differences grow with every head; together they take about as much as the next checkpoint when that comes.
fn is_difference_worth(change: usize, whole: usize, heads: u64) -> bool {
    let longest = whole.min(DIFFERENCE_BYTES_MAX);
    let together = (change as u64).saturating_mul(heads) / 2;
    whole > CHECKPOINT_BYTES_MIN && change <= longest && together <= whole as u64
}

/// Makes the head that follows `previous` (the first one when there is none) and says that `next` is live: the bytes to
/// be stored.
///
/// It is a checkpoint when it is the first, when no `checkpoint` is at hand (it must be the one that `previous` names,
/// `previous` itself included), when the whole state has at most [`CHECKPOINT_BYTES_MIN`] bytes, and when the difference would be longer
/// than the whole state or than [`DIFFERENCE_BYTES_MAX`], or longer than the whole state together with the differences before it. The
/// ancestors in `next` are not looked at: they follow from `previous`. Optional sections of `previous` are not carried over: they are about
/// that head alone. Marks of its own generation get its `time`.
///
/// # Errors
/// [`Reason::OtherRepository`] and [`Reason::OtherSigner`] when config, key and heads do not belong together;
/// [`Reason::UnknownFeature`] when a feature in use forbids this program to write; [`Reason::WrongCheckpoint`];
/// [`Reason::WrongTransition`] and what [`LiveState::check`] refuses; [`Reason::OutOfRange`] for a head over
/// [`BYTES_MAX`].
pub fn successor(
    signing: &SigningKey,
    repository: RepositoryId,
    config_bytes: &[u8],
    previous: Option<(&Head, &LiveState)>,
    checkpoint: Option<(&Head, &LiveState)>,
    next: &LiveState,
    time: Time,
) -> Result<Vec<u8>> {
    let config = Config::parse(config_bytes)?;
    let copy: ConfigCopy = config.encode();
    let verifying_key = signing.verifying_key().to_bytes();
    check_copy(&copy, repository, &verifying_key, &config.features)?;
    let mut features = config.features;
    let mut generation = 1;
    let mut previous_id = NO_ID;
    let mut state = LiveState { ancestors: Vec::new(), ..next.clone() };
    if let Some((head, before)) = previous {
        if head.repository != repository {
            return Err(refuse(Reason::OtherRepository));
        }
        before.check_transition(next).map_err(refuse)?;
        features = features.union(&head.features);
        generation = head.generation.checked_add(1).ok_or(refuse(Reason::OutOfRange { field: "generation" }))?;
        previous_id = head.id;
        state.ancestors.clone_from(&before.ancestors);
        let mut ancestor = [0; 8];
        ancestor.copy_from_slice(&head.id.0[..8]);
        state.ancestors.push(ancestor);
    }
    features.check_write().map_err(refuse)?;
    for mark in state.marked.values_mut().filter(|mark| mark.since == generation) {
        mark.time = time.seconds;
    }
    state.check(generation).map_err(refuse)?;
    let whole = Difference::between(&LiveState::default(), &state);
    let mut difference = None;
    if let (Some((head, _)), Some((base, base_state))) = (previous, checkpoint) {
        if base.reference() != head.checkpoint {
            return Err(refuse(Reason::WrongCheckpoint));
        }
        let change = Difference::between(base_state, &state);
        let worth = is_difference_worth(change.encoded_bytes(), whole.encoded_bytes(), generation - base.generation);
        difference = worth.then_some((change, base.reference()));
    }
    let (flags, sections, checkpoint, copy) = match difference {
        Some((change, base)) => (0, change, base, None),
        None => (FLAG_CHECKPOINT, whole, HeadRef { generation, id: NO_ID }, Some(copy)),
    };

    let mut body = Writer::new();
    sections.write(&mut body, copy.as_ref());
    let total = FIXED_BYTES + body.as_slice().len() + SIGNATURE_BYTES;
    let length = u32::try_from(total).ok().filter(|_| total <= BYTES_MAX);
    let length = length.ok_or(refuse(Reason::OutOfRange { field: "length" }))?;
    let mut writer = Writer::with_header(ObjectKind::Head);
    writer.u8(flags).zero(1).u32(length).bytes(repository.as_bytes()).u64(generation).bytes(previous_id.as_bytes());
    writer.i64(time.seconds).bytes(&verifying_key);
    features.write(&mut writer);
    writer.u64(checkpoint.generation).bytes(checkpoint.id.as_bytes()).bytes(&state.digest());
    writer.bytes(body.as_slice());
    let signature = signing.sign(&message(writer.as_slice()));
    writer.bytes(&signature.to_bytes());
    Ok(writer.finish())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::codec::chunker::Parameters;
    use crate::codec::key_tree::MasterKey;

    struct Repository {
        signing: SigningKey,
        config: [u8; 256],
    }

    impl Repository {
        fn new() -> Self {
            let signing = MasterKey::new([1; 32]).signing_key();
            let verifying_key = signing.verifying_key().to_bytes();
            let config = Config::new(Parameters::FILES, verifying_key, Time::from_seconds(0));
            Self { config: config.encode(), signing }
        }

        fn parse(&self, bytes: &[u8]) -> Result<Head> {
            Head::parse(bytes, &self.signing.verifying_key().to_bytes(), Config::id(&self.config))
        }

        /// Publishes `next`; checks that it reads back as itself.
        fn publish(
            &self,
            previous: Option<&(Head, LiveState)>,
            checkpoint: Option<&(Head, LiveState)>,
            next: &LiveState,
        ) -> (Head, LiveState) {
            let pair = |pair: &'_ (Head, LiveState)| (pair.0.clone(), pair.1.clone());
            let (previous, checkpoint) = (previous.map(pair), checkpoint.map(pair));
            let bytes = successor(
                &self.signing,
                Config::id(&self.config),
                &self.config,
                previous.as_ref().map(|(head, state)| (head, state)),
                checkpoint.as_ref().map(|(head, state)| (head, state)),
                next,
                Time::from_seconds(1),
            )
            .unwrap();
            let head = self.parse(&bytes).unwrap();
            let state = head.resolve(checkpoint.as_ref().map(|(head, _)| head)).unwrap();
            assert_eq!(state, LiveState { ancestors: state.ancestors.clone(), ..next.clone() });
            if let Some((previous, _)) = &previous {
                check_succession(previous, &head).unwrap();
                assert!(state.is_ancestor(previous.generation, &previous.reference().id));
            }
            (head, state)
        }
    }

    fn first() -> LiveState {
        LiveState { slots: [ObjectId([1; 32])].into(), ..LiveState::default() }
    }

    fn segments(state: &LiveState, from: u64, count: u64) -> LiveState {
        let mut next = state.clone();
        next.segments.extend((from..from + count).map(|n| (ObjectId::of(&n.to_le_bytes()), n)));
        next
    }

    /// A state that is not always written whole.
    fn large() -> LiveState {
        segments(&first(), 1_000, 100)
    }

    #[test]
    fn a_chain_is_published_and_read() {
        let repository = Repository::new();
        let one = repository.publish(None, None, &large());
        assert!(one.0.is_checkpoint() && one.0.previous.is_none());
        assert_eq!(one.0.config(), Some(&repository.config));
        let two = repository.publish(Some(&one), Some(&one), &segments(&one.1, 0, 3));
        assert!(!two.0.is_checkpoint());
        let three = repository.publish(Some(&two), Some(&one), &segments(&two.1, 10, 3));
        assert_eq!((three.0.generation, three.0.checkpoint), (3, one.0.reference()));
        assert_eq!(three.0.slots(), &three.1.slots);
        assert_eq!(three.0.resolve(None).unwrap_err().reason, Reason::WrongCheckpoint);
        assert_eq!(three.0.resolve(Some(&two.0)).unwrap_err().reason, Reason::WrongCheckpoint);
        assert_eq!(check_succession(&one.0, &three.0).unwrap_err().reason, Reason::WrongPrevious);
    }

    #[test]
    fn a_checkpoint_comes_when_the_difference_outgrows_the_state() {
        let repository = Repository::new();
        let one = repository.publish(None, None, &segments(&first(), 0, 100));
        let few = LiveState { ancestors: one.1.ancestors.clone(), ..first() };
        let two = repository.publish(Some(&one), Some(&one), &few);
        assert!(two.0.is_checkpoint(), "a hundred removals are longer than one slot");
        let without = repository.publish(Some(&two), None, &segments(&two.1, 0, 1));
        assert!(without.0.is_checkpoint(), "no checkpoint at hand");
        let many = segments(&two.1, 0, 30_000);
        assert!(repository.publish(Some(&two), Some(&two), &many).0.is_checkpoint(), "over 1 MiB");
    }

    /// A small state is written whole, and in a long chain neither one head nor all of them together become long.
    #[test]
    fn heads_of_a_long_chain_stay_short() {
        let repository = Repository::new();
        let mut checkpoint = repository.publish(None, None, &first());
        let (mut previous, mut lengths, mut whole) = (checkpoint.clone(), Vec::new(), 0);
        for generation in 2..3_000 {
            let next = segments(&previous.1, generation, 1);
            let pair = |(head, state): &(Head, LiveState)| (head.clone(), state.clone());
            let (before, base) = (pair(&previous), pair(&checkpoint));
            let bytes = successor(
                &repository.signing,
                Config::id(&repository.config),
                &repository.config,
                Some((&before.0, &before.1)),
                Some((&base.0, &base.1)),
                &next,
                Time::from_seconds(1),
            )
            .unwrap();
            let head = repository.parse(&bytes).unwrap();
            let state = LiveState { ancestors: vec![[0; 8]; generation as usize - 1], ..next };
            whole = Difference::between(&LiveState::default(), &state).encoded_bytes();
            assert!(head.is_checkpoint() || whole > CHECKPOINT_BYTES_MIN, "{generation}");
            lengths.push(bytes.len());
            // What a reader would resolve, without going through all of it each time.
            let ancestors = [before.1.ancestors.as_slice(), &[*before.0.id.0.first_chunk().unwrap()]].concat();
            previous = (head, LiveState { ancestors, ..state });
            if previous.0.is_checkpoint() {
                checkpoint = pair(&previous);
            }
        }
        assert_eq!(previous.0.resolve(Some(&checkpoint.0)).unwrap(), previous.1);
        let all: usize = lengths.iter().sum();
        assert!(all < lengths.len() * whole / 10, "{all} bytes, the last state has {whole}");
    }

    #[test]
    fn every_bit_of_a_head_is_signed() {
        let repository = Repository::new();
        let one = repository.publish(None, None, &first());
        let config = &repository.config;
        let pair = Some((&one.0, &one.1));
        let id = Config::id(config);
        let bytes = successor(&repository.signing, id, config, pair, pair, &first(), Time::default()).unwrap();
        repository.parse(&bytes).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let reason = repository.parse(&changed).unwrap_err().reason;
            match bit / 8 {
                0..16 => assert!(!matches!(reason, Reason::Truncated), "byte {}: {reason}", bit / 8),
                16..48 => assert_eq!(reason, Reason::OtherRepository),
                96..128 => assert_eq!(reason, Reason::OtherSigner),
                _ => assert_eq!(reason, Reason::Signature, "byte {}", bit / 8),
            }
        }
        for length in 0..bytes.len() {
            assert!(repository.parse(&bytes[..length]).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn a_writer_is_kept_from_breaking_the_chain() {
        let repository = Repository::new();
        let one = repository.publish(None, None, &first());
        let id = Config::id(&repository.config);
        let make = |signing: &SigningKey, repository_id, previous: &(Head, LiveState), next: &LiveState| {
            let pair = Some((&previous.0, &previous.1));
            successor(signing, repository_id, &repository.config, pair, pair, next, Time::default())
                .map_err(|error| error.reason)
        };
        assert!(make(&repository.signing, id, &one, &first()).is_ok());
        assert_eq!(make(&repository.signing, id, &one, &LiveState::default()), Err(Reason::NoSlots));
        let foreign = MasterKey::new([2; 32]).signing_key();
        assert_eq!(make(&foreign, id, &one, &first()), Err(Reason::OtherSigner));
        assert_eq!(make(&repository.signing, RepositoryId([0; 32]), &one, &first()), Err(Reason::OtherRepository));
        let mut next = first();
        next.marked.insert(ObjectId([1; 32]), Mark::new(MarkedKind::Slot, 1));
        assert_eq!(make(&repository.signing, id, &one, &next), Err(Reason::LiveMarked));
        let one = repository.publish(None, None, &large());
        let two = repository.publish(Some(&one), Some(&one), &large());
        assert_eq!(make(&repository.signing, id, &two, &large()), Err(Reason::WrongCheckpoint), "two is none");
    }
}
