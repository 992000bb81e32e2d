//! How new what was opened is, as far as anybody can know. Promise P5.
//!
//! | known | the newest head that can be read | outcome |
//! |---|---|---|
//! | a state code | is the head with it, or follows it | [`Grade::Proven`] |
//! | the head that was seen here last | is it, or follows it | [`Grade::Remembered`] |
//! | nothing, or nothing that can be read | any | [`Grade::NotProven`]: it is said, and remembered from then on |
//! | of a mirror: the head of the repository | is older | [`Grade::Behind`]: it may only not have been synced since |
//! | either | is older | a rollback; damage when what was seen is there and cannot be read |
//! | either | is of another history | a fork; of a copy of which that may be wanted, it is said |

use super::chain::Tip;
use super::error::Result;
use super::remembered::{Recalled, Remembered, Subject, Unreadable, follows};
use super::{Access, Repository};
use crate::base::escape::escape;
use crate::base::id::RepositoryId;
use crate::base::shortage::is_shortage;
use crate::codec::head::HeadRef;
use crate::storage;

/// What is known about how new a state is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grade {
    /// It is the head with the code that was given, or follows it.
    Proven,
    /// It is the head that this machine saw last, or follows it.
    Remembered,
    /// This machine has seen a newer head of the repository, and none of this copy of it.
    Behind(HeadRef),
    /// This machine has seen another history of the repository, and that may be what is asked for.
    Forked(HeadRef),
    /// Nothing says that there was no newer one.
    NotProven,
    /// Nobody asked: there is no memory.
    Unasked,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Freshness {
    /// How new it is.
    pub grade: Grade,
    /// Files of this machine's memory that cannot be read.
    pub unreadable: Vec<Unreadable>,
}

/// What was known before anything was read: another process of this machine may publish, and remember that, in between.
#[derive(Debug)]
pub(super) struct Known<'a> {
    memory: Option<&'a Remembered>,
    here: Recalled<HeadRef>,
    original: Recalled<HeadRef>,
    id: RepositoryId,
    place: Option<Unreadable>,
}

impl Access {
    /// Compares who it is, and asks what is known of it.
    ///
    /// # Errors
    /// As [`Remembered::require_identity`].
    pub(super) fn known(&self, id: RepositoryId) -> Result<Known<'_>> {
        let memory = self.remembered.as_ref();
        let Some(remembered) = memory else {
            return Ok(Known { memory, here: Recalled::Nothing, original: Recalled::Nothing, id, place: None });
        };
        let place = remembered.require_identity(&self.place, id)?;
        Ok(Known { memory, here: remembered.recall(id), original: remembered.recall_original(id), id, place })
    }
}

/// What was seen of the very thing that is opened. The damage of a head that was seen, and is there, is no rollback: who needs the newest
/// state is refused, and others go on.
fn compare(seen: HeadRef, tip: &Tip) -> Result<()> {
    if tip.hides(seen) { Ok(()) } else { follows(seen, tip.reference(), &tip.state) }
}

impl Known<'_> {
    /// Compares what was read with it.
    ///
    /// # Errors
    /// A rollback, a fork, or what the user expects and is not so.
    pub(super) fn judge(self, tip: &Tip) -> Result<Freshness> {
        let Some(memory) = self.memory else { return Ok(Freshness { grade: Grade::Unasked, unreadable: Vec::new() }) };
        let mut unreadable: Vec<Unreadable> = self.place.into_iter().collect();
        let mut known = |recalled: Recalled<HeadRef>| match recalled {
            Recalled::Known(seen) => Some(seen),
            Recalled::Nothing => None,
            Recalled::Unreadable(why) => {
                unreadable.push(why);
                None
            }
        };
        let (original, here) = (known(self.original), known(self.here));
        // What this process has run out of ends a command: it says nothing of what was seen.
        let shortage = unreadable.iter().find_map(|it| Some((it, it.refusal().filter(is_shortage)?)));
        if let Some((unreadable, error)) = shortage {
            let file = escape(unreadable.file.as_os_str().as_encoded_bytes());
            return Err(storage::Error::new("read", file, error).into());
        }
        let (listed, any_history) = match &memory.subject {
            Subject::Copy { listed, any_history, .. } => {
                (listed.iter().find(|(id, _)| *id == self.id).and_then(|(_, head)| *head), *any_history)
            }
            _ => (None, false),
        };
        let mut grade = match original {
            Some(seen) if seen.generation > tip.reference().generation => Grade::Behind(seen),
            Some(seen) => match follows(seen, tip.reference(), &tip.state) {
                Ok(()) => Grade::Remembered,
                Err(error) if !any_history => return Err(error),
                Err(_) => Grade::Forked(seen),
            },
            None => Grade::NotProven,
        };
        for seen in listed.into_iter().chain(here) {
            compare(seen, tip)?;
            if grade == Grade::NotProven {
                grade = Grade::Remembered;
            }
        }
        // A newer one, or another one, was seen all the same.
        if memory.expected.require_head(tip)? && !matches!(grade, Grade::Behind(_) | Grade::Forked(_)) {
            grade = Grade::Proven;
        }
        Ok(Freshness { grade, unreadable })
    }
}

impl Access {
    /// True for a copy that is only read, to which somebody else may be sending a newer state.
    pub(super) fn is_mirror(&self) -> bool {
        self.locks.is_of_process()
    }

    /// Remembers what was opened. Its head only when no newer one is there that cannot be read. An error is a sentence.
    pub(super) fn remember(&self, id: RepositoryId, tip: &Tip) -> std::result::Result<(), String> {
        let Some(remembered) = &self.remembered else { return Ok(()) };
        let mut stored = remembered.set_place(id, &self.place);
        if tip.require_newest(self.is_mirror()).is_ok() {
            let head = tip.reference();
            if remembered.head(id) != Some(head) {
                // Whoever published it may have been killed before the folder was synced. What is remembered must not outlive
                // the head itself, or the next power cut looks like a rollback. A read-only place cannot be settled.
                let _ = self.storage.settle(&super::chain::name_of(head));
            }
            stored = stored.and(remembered.store(id, &self.place, head));
        }
        stored.map_err(|error| {
            format!("this machine could not remember the newest head ({error}): a rollback may go unnoticed")
        })
    }
}

impl Repository {
    /// How new it was when it was opened, as far as that is known.
    #[must_use]
    pub const fn freshness(&self) -> &Freshness {
        &self.freshness
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use std::path::Path;
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::base::id::ObjectId;
    use crate::base::time::Time;
    use crate::codec::chunker::Parameters;
    use crate::codec::head;
    use crate::codec::kdf::Params;
    use crate::codec::key_file::KeyFile;
    use crate::codec::key_slot::Secret;
    use crate::repository::chain;
    use crate::repository::error::Error;
    use crate::repository::keyring::NewSlot;
    use crate::repository::lock::Locks;
    use crate::repository::{CreateOptions, ObjectName, Stored, fixture};
    use crate::storage::Storage;
    use crate::storage::local::Local;

    fn secret() -> Secret {
        Secret::KeyFile(KeyFile::generate(&[7; 32]))
    }

    fn access(place: &Path, memory: Option<Remembered>) -> Access {
        let storage = Local::open(place).or_else(|_| Local::create(place)).unwrap();
        Access {
            storage: Arc::new(storage),
            locks: Locks::open(place),
            place: place.to_path_buf(),
            cache: None,
            remembered: memory.map(|memory| memory.of(place)),
            retry_lock: Duration::ZERO,
        }
    }

    /// The newest head names a checkpoint, made by a second one, that is gone: the first checkpoint and what builds on it can be read.
    #[test]
    fn a_head_whose_checkpoint_is_lost_hides_the_newest_state() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("repository");
        let memory = |name: &str| Remembered::new(folder.path().join(name));
        let secret = secret();
        let slot = NewSlot { secret: &secret, kdf: Params::DEFAULT, label: "", created: Time::default() };
        let options = CreateOptions { files: Parameters::FILES, created: Time::now() };
        let made = Repository::create(access(&place, Some(memory("state"))), &[slot], &options).unwrap();
        let id = made.id();
        assert_eq!(made.freshness().grade, Grade::Remembered, "a new one");
        assert_eq!(fixture::fill(&made), 4);
        let older = made.append(|_, _| Ok(())).unwrap();
        let tip = made.tip();
        let before = Some((&*tip.head, &*tip.state));
        let bytes =
            head::successor(made.keys().signing(), id, &made.config_bytes, before, None, &tip.state, Time::now());
        let bytes = bytes.unwrap();
        let checkpoint = HeadRef { generation: 6, id: ObjectId::of(&bytes) };
        assert!(matches!(made.storage().put(&chain::name_of(checkpoint), &bytes), Ok(Stored::Created)));
        let newest = made.append(|_, _| Ok(())).unwrap();
        assert_eq!((newest.generation, made.tip().head.checkpoint()), (7, checkpoint));
        drop(made);
        Local::open(&place).unwrap().remove(&chain::name_of(checkpoint)).unwrap();

        let open = |access| Repository::open(access, &secret);
        for (memory, grade) in [(memory("state"), Grade::Remembered), (memory("blank"), Grade::NotProven)] {
            for _ in 0..2 {
                let repository = open(access(&place, Some(memory.clone()))).unwrap();
                assert_eq!(repository.tip().reference(), older);
                assert_eq!(repository.freshness().grade, grade, "an older state is not remembered as the newest");
                let name = ObjectName::Head { generation: newest.generation, id: newest.id };
                assert!(
                    matches!(repository.require_newest(), Err(Error::UnreadableHead { object, .. }) if object == name)
                );
                assert!(repository.append(|_, _| Ok(())).is_err());
                assert_eq!(repository.take_warnings().len(), 1);
            }
        }
        // A machine that saw the checkpoint itself, which is gone.
        let seen = memory("seen");
        seen.store(id, &place, checkpoint).unwrap();
        assert!(matches!(open(access(&place, Some(seen))), Err(Error::Rollback { .. })));
        // On a mirror the checkpoint is on its way.
        let address = Path::new("file:///mirror");
        let mirror = |memory: Remembered| Access {
            locks: Locks::none(),
            place: address.to_path_buf(),
            remembered: Some(memory),
            ..access(&place, None)
        };
        let copy = |name: &str, listed, any_history| memory(name).of_copy(address, vec![(id, listed)], any_history);
        let repository = open(mirror(copy("blank-2", None, false))).unwrap();
        assert!(repository.require_newest().is_ok());
        assert_eq!(repository.freshness().grade, Grade::NotProven);
        // What was seen of the repository, of the mirror itself, of another history.
        let stranger = HeadRef { generation: 2, id: ObjectId::of(b"another") };
        let ahead = HeadRef { generation: 4, id: ObjectId::of(b"not here") };
        let other = memory("other");
        other.store(id, &place, stranger).unwrap();
        for (name, listed, any_history, expected) in [
            ("blank-2", None, false, Some(Grade::Remembered)),
            ("state", None, false, Some(Grade::Behind(newest))),
            ("blank-3", Some(older), false, Some(Grade::Remembered)),
            ("blank-4", Some(newest), false, Some(Grade::Remembered)),
            ("blank-5", Some(ahead), false, None),
            ("other", None, false, None),
            ("other", None, true, Some(Grade::Forked(stranger))),
        ] {
            let found = open(mirror(copy(name, listed, any_history))).map(|repository| repository.freshness().grade);
            assert_eq!(found.ok(), expected, "{name} {listed:?} {any_history}");
        }
    }
}
