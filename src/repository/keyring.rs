//! The live key slots: which secrets open the repository. format-spec/key_slot.md.
//!
//! Only slots that the verified head names are tried, and only those of the secret's kind. There are never none. A change
//! is: write the new slot, read it back, open it, publish the head that names it, and only then (in the same head)
//! drop the old one; so at every instant the repository opens with at least one acknowledged secret. A slot goes only when it was
//! named, and only one of the same kind takes its place.

use super::chain::Tip;
use super::error::{Error, Result, damaged};
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

/// Tries the live slots of the secret's kind.
///
/// # Errors
/// [`Error::WrongSecret`] when none opens; the damage itself, when every slot of that kind is damaged; the storage's failure
/// when a slot could not be read and no other one opens.
pub(super) fn unlock(
    storage: &dyn Storage,
    repository: RepositoryId,
    tip: &Tip,
    secret: &Secret,
) -> Result<(ObjectId, MasterKey)> {
    let (mut tried, mut damaged_slots) = (0, 0);
    let (mut failure, mut unreadable) = (None, None);
    for id in tip.state.slots.iter().take(SLOTS_MAX) {
        match read(storage, repository, *id, tip.reference().generation) {
            Ok(slot) if slot.kind() != secret.kind() => {}
            Ok(slot) => {
                tried += 1;
                match slot.unlock(secret) {
                    Ok(master) => return Ok((*id, master)),
                    Err(error) if error.reason == Reason::Commitment => {}
                    Err(error) => {
                        damaged_slots += 1;
                        failure = Some(damaged(ObjectName::Key(*id))(error));
                    }
                }
            }
            Err(error) if error.is_unavailable() => return Err(error),
            // Another slot may open with it as well.
            Err(error) if error.is_unreadable() => unreadable = Some(error),
            Err(error) => {
                damaged_slots += 1;
                failure = Some(error);
            }
        }
    }
    match (unreadable, failure) {
        // It may be the slot that the secret opens: nobody can say that the secret is wrong.
        (Some(error), _) => Err(error),
        (None, Some(error)) if tried == 0 => Err(error),
        _ => Err(Error::WrongSecret { secret: secret.kind().describe(), tried, damaged: damaged_slots }),
    }
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
