//! The live key slots: which secrets open the repository. format-spec/key_slot.md.
//!
//! Only slots that the verified head names are tried, and only those of the secret's kind. There are never none. A change
//! is: write the new slot, read it back, open it, publish the head that names it, and only then (in the same head)
//! drop the old one; so at every instant the repository opens with at least one acknowledged secret. A slot goes only when it was
//! named, and only one of the same kind takes its place.

use std::collections::BTreeSet;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use super::chain::Tip;
use super::error::{Error, Result, damaged};
use super::lock::Locks;
use super::{Repository, random};
use crate::base::command::suggest;
use crate::base::id::{ObjectId, RepositoryId};
use crate::base::time::Time;
use crate::codec::head::HeadRef;
use crate::codec::kdf::Params;
use crate::codec::key_slot::{KeySlot, SLOT_BYTES, Secret, SecretKind};
use crate::codec::key_tree::{KeyTree, MasterKey};
use crate::codec::live_state::SLOTS_MAX;
use crate::codec::{self, Reason};
use crate::storage::{ErrorKind, Folder, ObjectName, Storage};

/// One live slot, for a list.
#[derive(Debug, Clone)]
pub struct SlotInfo {
    /// The slot object's id.
    pub id: ObjectId,
    /// What opens it.
    pub kind: SecretKind,
    /// Its label, free text.
    pub label: String,
    /// When it was made.
    pub created: Time,
    /// Key derivation parameters; none for a key file.
    pub kdf: Option<Params>,
    /// True for the slot that opened the repository now.
    pub current: bool,
    /// Why the slot cannot be used, when it is damaged or missing, or cannot be read.
    pub damage: Option<String>,
    /// It could not be read by this process now: nothing is known of its bytes.
    pub is_unreadable: bool,
}

impl SlotInfo {
    /// What opens it, or that nobody can say that: "damaged" or "unreadable".
    #[must_use]
    pub const fn describe(&self) -> &'static str {
        match (self.is_unreadable, self.damage.is_some()) {
            (true, _) => "unreadable",
            (false, true) => "damaged",
            (false, false) => self.kind.describe(),
        }
    }
}

/// What a new slot is made of.
#[derive(Debug)]
pub struct NewSlot<'a> {
    /// The secret that will open it.
    pub secret: &'a Secret,
    /// Key derivation parameters.
    pub kdf: Params,
    /// Free text.
    pub label: &'a str,
    /// When it was made.
    pub created: Time,
}

impl NewSlot<'_> {
    /// Seals the master key, and proves that the slot opens before anyone relies on it.
    pub(super) fn seal(&self, master: &MasterKey, keys: &KeyTree) -> Result<(ObjectId, Vec<u8>)> {
        let cannot = |error: codec::Error| format!("the key slot could not be made: {error}");
        let bytes =
            KeySlot::create(master, keys, self.secret, self.kdf, self.label, self.created, true, &random::bytes()?)
                .map_err(|error| Error::Invalid(cannot(error)))?;
        let again = KeySlot::parse(&bytes, keys.repository()).and_then(|slot| slot.unlock(self.secret));
        if again.map_err(|error| Error::Internal(cannot(error)))?.expose() != master.expose() {
            return Err(Error::Internal("the new key slot does not open to the master key".to_owned()));
        }
        Ok((ObjectId::of(&bytes), bytes))
    }
}

fn read(storage: &dyn Storage, repository: RepositoryId, id: ObjectId, generation: u64) -> Result<KeySlot> {
    let name = ObjectName::Key(id);
    let bytes = storage.read(&name, SLOT_BYTES as u64).map_err(|error| match error.kind {
        ErrorKind::Absent | ErrorKind::NoFile => Error::Missing { object: name, generation },
        _ => error.into(),
    })?;
    if ObjectId::of(&bytes) != id {
        return Err(damaged(name)(codec::Error::new("key slot", Reason::ObjectId)));
    }
    KeySlot::parse(&bytes, repository).map_err(damaged(name))
}

/// What opened a repository.
pub(super) struct Opened {
    /// The slot.
    pub slot: ObjectId,
    /// What it holds.
    pub master: MasterKey,
    /// Which of the secrets.
    pub secret: usize,
}

/// Tries the live slots of each secret's kind, the cheapest first, while the work of all that were tried stays within its limit. A stranger's head may name 16 slots of
/// 1 GiB each, and whoever mistypes a passphrase must not wait for minutes.
///
/// # Errors
/// [`Error::WrongSecret`] when none opens (about the passphrase, if there is one among them); the damage itself, when every slot of that kind is damaged; the storage's failure
/// when a slot could not be read and no other one opens; [`Error::Interrupted`].
pub(super) fn unlock(
    storage: &dyn Storage,
    repository: RepositoryId,
    tip: &Tip,
    secrets: &[Secret],
    locks: &Locks,
) -> Result<Opened> {
    let (mut slots, mut damaged_slots) = (Vec::new(), 0);
    let (mut failure, mut unreadable) = (None, None);
    for id in tip.state.slots.iter().take(SLOTS_MAX) {
        match read(storage, repository, *id, tip.reference().generation) {
            Ok(slot) => slots.push((slot.params().work_kib(), *id, slot)),
            Err(error) if error.is_unavailable() => return Err(error),
            // Another slot may open with it as well.
            Err(error) if error.is_unreadable() => unreadable = Some(error),
            Err(error) => {
                damaged_slots += 1;
                failure = Some(error);
            }
        }
    }
    slots.sort_unstable_by_key(|(work, id, _)| (*work, *id));
    let works: Vec<(u32, SecretKind)> = slots.iter().map(|(work, _, slot)| (*work, slot.kind())).collect();
    let kinds: Vec<SecretKind> = secrets.iter().map(Secret::kind).collect();
    let (tries, untried) = affordable(&works, &kinds);
    for (number, row) in &tries {
        let (Some(secret), Some((_, id, slot))) = (secrets.get(*number), slots.get(*row)) else { continue };
        match try_slot(slot, secret, locks)? {
            Ok(master) => return Ok(Opened { slot: *id, master, secret: *number }),
            Err(error) if error.reason == Reason::Commitment => {}
            Err(error) => {
                damaged_slots += 1;
                failure = Some(damaged(ObjectName::Key(*id))(error));
            }
        }
    }
    let is_passphrase = |secret: &&Secret| secret.kind() == SecretKind::Passphrase;
    let about = secrets.iter().find(is_passphrase).or(secrets.first());
    let kind = about.map_or(SecretKind::Passphrase, Secret::kind);
    let tried: BTreeSet<usize> = tries.iter().map(|(_, row)| *row).collect();
    let of_kind = |rows: &BTreeSet<usize>| {
        slots.iter().enumerate().filter(|(row, (.., slot))| slot.kind() == kind && rows.contains(row)).count()
    };
    match (unreadable, failure) {
        // It may be the slot that the secret opens: nobody can say that the secret is wrong.
        (Some(error), _) => Err(error),
        (None, Some(error)) if tried.is_empty() => Err(error),
        _ => Err(Error::WrongSecret {
            secret: kind.describe(),
            tried: of_kind(&tried),
            damaged: damaged_slots,
            untried: of_kind(&untried),
        }),
    }
}

/// What is tried with each secret: its number and the slot's, in order; and the slots that are too dear to be tried with all of them. `slots` are their
/// work and kind, the cheapest first.
fn affordable(slots: &[(u32, SecretKind)], secrets: &[SecretKind]) -> (Vec<(usize, usize)>, BTreeSet<usize>) {
    let (mut work, mut tries, mut untried) = (0_u32, Vec::new(), BTreeSet::new());
    for (number, kind) in secrets.iter().enumerate() {
        for (row, (cost, _)) in slots.iter().enumerate().filter(|(_, (_, of))| of == kind) {
            match work.checked_add(*cost).filter(|sum| *sum <= Params::WORK_ALL_KIB_MAX) {
                Some(sum) => {
                    work = sum;
                    tries.push((number, row));
                }
                None => drop(untried.insert(row)),
            }
        }
    }
    (tries, untried)
}

/// How often it is asked, while a secret is stretched, whether somebody wants an end: one stretching may take many seconds.
const ASKED_EVERY: Duration = Duration::from_millis(100);

/// Tries a secret. Where that takes time, a thread does it: it is left alone when somebody wants an end, and ends with the process.
fn try_slot(slot: &KeySlot, secret: &Secret, locks: &Locks) -> Result<codec::Result<MasterKey>> {
    if slot.params().work_kib() == 0 {
        return Ok(slot.unlock(secret));
    }
    let (sender, receiver) = mpsc::channel();
    let (slot, secret) = (slot.clone(), secret.clone());
    let work = move || drop(sender.send(slot.unlock(&secret)));
    std::thread::Builder::new().spawn(work).map_err(Error::Threads)?;
    loop {
        if locks.is_ended() {
            return Err(Error::Interrupted);
        }
        match receiver.recv_timeout(ASKED_EVERY) {
            Ok(unlocked) => return Ok(unlocked),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Error::Internal("the thread that stretches a secret ended unexpectedly".to_owned()));
            }
        }
    }
}

/// Refuses a slot that would be one too many to try: with it the slots of its kind would cost more than one secret may.
fn require_tried(others: &[SlotInfo], kind: SecretKind, kdf: Params) -> Result<()> {
    let works = others.iter().filter(|slot| slot.kind == kind).filter_map(|slot| slot.kdf);
    let work = works.fold(kdf.work_kib(), |sum, kdf| sum.saturating_add(kdf.work_kib()));
    if kind == SecretKind::KeyFile || work <= Params::WORK_ALL_KIB_MAX {
        return Ok(());
    }
    Err(Error::Invalid(format!(
        "with this key, trying one {} would cost more than {} GiB of memory times passes, and nobody tries more. Give it less memory, or remove \
         another one first. To see them: {}",
        kind.describe(),
        Params::WORK_ALL_KIB_MAX >> 20,
        suggest!("key list")
    )))
}

/// The slots that lie under `keys/` and open with the secret of a key file, whatever names them: those of an interrupted run are named by
/// nothing. Other secrets are not tried, since each try costs their stretching.
///
/// # Errors
/// The folder cannot be listed, or this process cannot read one of the slots.
pub fn opened_by(storage: &dyn Storage, secret: &Secret) -> Result<Vec<ObjectId>> {
    let mut opened = Vec::new();
    if secret.kind() != SecretKind::KeyFile {
        return Ok(opened);
    }
    for found in storage.list(Folder::Keys)? {
        let ObjectName::Key(id) = found.name else { continue };
        let Some(repository) = (match storage.read(&found.name, SLOT_BYTES as u64) {
            Ok(bytes) => KeySlot::repository_of(&bytes),
            Err(error) if matches!(error.kind, ErrorKind::Absent | ErrorKind::NoFile | ErrorKind::Length) => None,
            Err(error) => return Err(error.into()),
        }) else {
            continue;
        };
        let slot = read(storage, repository, id, 0);
        if slot.is_ok_and(|slot| slot.kind() == secret.kind() && slot.unlock(secret).is_ok()) {
            opened.push(id);
        }
    }
    Ok(opened)
}

impl Repository {
    /// The live slots.
    #[must_use]
    pub fn slots(&self) -> Vec<SlotInfo> {
        let tip = self.tip();
        let describe = |id: &ObjectId| {
            self.slot_info(*id).unwrap_or_else(|error| SlotInfo {
                id: *id,
                kind: SecretKind::Passphrase,
                label: String::new(),
                created: Time::default(),
                kdf: None,
                current: *id == self.slot(),
                is_unreadable: error.is_unreadable(),
                damage: Some(error.to_string()),
            })
        };
        tip.state.slots.iter().map(describe).collect()
    }

    /// One slot.
    ///
    /// # Errors
    /// It is damaged or missing, or cannot be read.
    pub fn slot_info(&self, id: ObjectId) -> Result<SlotInfo> {
        let slot = read(self.storage(), self.id(), id, self.tip().reference().generation)?;
        let label = slot.label(self.keys()).map_err(damaged(ObjectName::Key(id)))?;
        Ok(SlotInfo {
            id,
            kind: slot.kind(),
            label: label.label,
            created: label.created,
            kdf: (slot.kind() != SecretKind::KeyFile).then_some(slot.params()),
            current: id == self.slot(),
            damage: None,
            is_unreadable: false,
        })
    }

    /// The live slots that a recovery code opens, the oldest first.
    #[must_use]
    pub fn recovery_codes(&self) -> Vec<SlotInfo> {
        let mut slots = self.slots();
        slots.retain(|slot| slot.kind == SecretKind::RecoveryCode && slot.damage.is_none());
        slots.sort_by_key(|slot| (slot.created, slot.id));
        slots
    }

    /// Refuses a further slot when there are as many as there may be. Who shows a secret before it is stored asks first.
    ///
    /// # Errors
    /// [`Error::Conflict`] at 16 slots.
    pub fn require_room_for_slot(&self, replacing: Option<ObjectId>) -> Result<()> {
        let count = self.tip().state.slots.len().saturating_sub(usize::from(replacing.is_some()));
        if count < SLOTS_MAX {
            return Ok(());
        }
        Err(Error::Conflict(format!(
            "a repository has at most {SLOTS_MAX} keys: remove one first. To see them: {}",
            suggest!("key list")
        )))
    }

    /// Adds a slot, and with `replacing` drops that one in the same head.
    ///
    /// # Errors
    /// [`Error::Conflict`] at 16 slots, and when the one to be replaced was removed meanwhile; [`Error::Invalid`] when the one to be replaced is of another kind; a storage error means that nothing changed.
    pub fn add_slot(&self, new: &NewSlot<'_>, replacing: Option<ObjectId>) -> Result<(ObjectId, HeadRef)> {
        self.add_slot_keeping(new, replacing, || Ok(()))
    }

    /// The same. `keep` makes the secret durable where its user finds it, when the slot is stored and before it counts.
    ///
    /// # Errors
    /// As [`Repository::add_slot`], and those of `keep`: then the slot counts for nothing.
    pub fn add_slot_keeping(
        &self,
        new: &NewSlot<'_>,
        replacing: Option<ObjectId>,
        keep: impl FnOnce() -> Result<()>,
    ) -> Result<(ObjectId, HeadRef)> {
        self.require_room_for_slot(replacing)?;
        if let Some(old) = replacing {
            let kind = read(self.storage(), self.id(), old, self.tip().reference().generation)?.kind();
            if kind != new.secret.kind() {
                let (old, kind, new) = (old.short(), kind.describe(), new.secret.kind().describe());
                return Err(Error::Invalid(format!("key {old} is a {kind}, and a {new} does not replace it")));
            }
        }
        let mut others = self.slots();
        others.retain(|slot| slot.damage.is_none() && Some(slot.id) != replacing);
        require_tried(&others, new.secret.kind(), new.kdf)?;
        let (id, bytes) = new.seal(self.master(), self.keys())?;
        let name = ObjectName::Key(id);
        self.storage().put(&name, &bytes)?;
        if self.storage().read(&name, SLOT_BYTES as u64)? != bytes {
            return Err(damaged(name)(codec::Error::new("key slot", Reason::ObjectId)));
        }
        keep()?;
        let head = self.append(|state, _| {
            state.slots.insert(id);
            if let Some(old) = replacing
                && !state.slots.remove(&old)
            {
                return Err(Error::Conflict(format!("key {} was removed meanwhile", old.short())));
            }
            Ok(())
        })?;
        if replacing == Some(self.slot()) {
            self.set_slot(id);
        }
        Ok((id, head))
    }

    /// Drops a slot: from this head on its secret opens nothing.
    ///
    /// # Errors
    /// [`Error::Refused`] for the last slot and for the one in use, [`Error::NotFound`] for one that is not live.
    pub fn remove_slot(&self, id: ObjectId) -> Result<HeadRef> {
        if id == self.slot() {
            return Err(Error::Refused(format!(
                "key {} is the one in use: open the repository with another key to remove it",
                id.short()
            )));
        }
        self.append(|state, _| {
            if !state.slots.remove(&id) {
                return Err(Error::NotFound(format!("key {} is not a live key of this repository", id.short())));
            }
            if state.slots.is_empty() {
                return Err(Error::Refused("the last key of a repository cannot be removed".to_owned()));
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(kind: SecretKind, memory_gib: u32, passes: u32) -> SlotInfo {
        SlotInfo {
            id: ObjectId::of(b"x"),
            kind,
            label: String::new(),
            created: Time::default(),
            kdf: Some(Params { memory_kib: memory_gib << 20, passes, lanes: 1 }),
            current: false,
            damage: None,
            is_unreadable: false,
        }
    }

    #[test]
    fn what_is_tried_stays_within_its_limit() {
        let (passphrase, code) = (SecretKind::Passphrase, SecretKind::RecoveryCode);
        let (cheap, dear) = (Params::DEFAULT.work_kib(), Params::WORK_KIB_MAX);
        for (slots, secrets, tried, untried) in [
            // As many of one's own as there can be, in every spelling.
            (vec![(cheap, passphrase); SLOTS_MAX], vec![passphrase; 4], 4 * SLOTS_MAX, 0),
            // A stranger's.
            (vec![(dear, passphrase); SLOTS_MAX], vec![passphrase], 3, 13),
            (vec![(dear, passphrase); SLOTS_MAX], vec![passphrase; 4], 3, SLOTS_MAX),
            // One's own among them comes first.
            ([vec![(cheap, passphrase)], vec![(dear, passphrase); 15]].concat(), vec![passphrase], 3, 13),
            (vec![(dear, code); SLOTS_MAX], vec![passphrase], 0, 0),
            (vec![(0, SecretKind::KeyFile); SLOTS_MAX], vec![SecretKind::KeyFile], SLOTS_MAX, 0),
        ] {
            let (tries, left) = affordable(&slots, &secrets);
            assert_eq!((tries.len(), left.len()), (tried, untried), "{} {}", slots.len(), secrets.len());
            assert_eq!(tries.first().copied(), (tried > 0).then_some((0, 0)));
        }
    }

    #[test]
    fn a_slot_that_nobody_would_try_is_not_made() {
        let passphrase = SecretKind::Passphrase;
        let dear = Params { memory_kib: 1 << 20, passes: 3, lanes: 4 };
        for (others, kind, kdf, fits) in [
            (vec![], passphrase, dear, true),
            (vec![slot(passphrase, 1, 3); 3], passphrase, dear, true),
            (vec![slot(passphrase, 1, 3); 4], passphrase, Params::DEFAULT, false),
            (vec![slot(passphrase, 1, 3); 4], SecretKind::RecoveryCode, Params::DEFAULT, true),
            (vec![slot(passphrase, 1, 3); 4], SecretKind::KeyFile, dear, true),
            (
                vec![SlotInfo { kdf: Some(Params::DEFAULT), ..slot(passphrase, 1, 3) }; 15],
                passphrase,
                Params::DEFAULT,
                true,
            ),
        ] {
            assert_eq!(require_tried(&others, kind, kdf).is_ok(), fits, "{} {kind:?} {kdf:?}", others.len());
        }
    }
}
