//! The chain of heads: which objects are live. format-spec/head.md, format-spec/writing.md.
//!
//! Invariants
//! - The newest head that verifies is the truth. It is found by name, proved by signature, and completed by the one
//!   checkpoint that it names.
//! - A file under `heads/` whose bytes do not hash to its name may be a damaged head: when it stands above the newest
//!   valid one, an acknowledged snapshot may hang on it, so writers refuse ([`Error::UnreadableHead`]). A file whose
//!   hash is right and whose signature is not was never a head of ours: it is junk, reported and skipped.
//! - Heads are published under the append lock on top of the newest one, so generations never fork here.

use std::sync::Arc;

use ed25519_dalek::SigningKey;

use super::error::{Error, Result};
use crate::base::id::{ObjectId, RepositoryId};
use crate::base::time::Time;
use crate::codec::head::{self, Head, HeadRef};
use crate::codec::live_state::LiveState;
use crate::codec::{self, Reason};
use crate::storage::{ErrorKind, Folder, ObjectName, Storage, Stored};

/// Longest head that is read, in bytes. format-spec/head.md, "Limits".
pub const HEAD_BYTES_MAX: u64 = head::BYTES_MAX as u64;

/// The newest head and what it says.
#[derive(Debug, Clone)]
pub struct Tip {
    /// The head.
    pub head: Arc<Head>,
    /// What is live.
    pub state: Arc<LiveState>,
    /// The checkpoint that the head builds on (itself, when it is one), and its state.
    checkpoint: (Arc<Head>, Arc<LiveState>),
    /// Files under `heads/` that are none of ours.
    pub junk: Vec<ObjectName>,
    /// A newer head that cannot be read, or whose checkpoint cannot. Who wants the newest state is refused, and so is who writes.
    pub unreadable: Option<(ObjectName, Unreadable)>,
    /// All of them, and those that cannot be completed.
    hidden: Vec<ObjectName>,
    /// All of them, the newest first.
    damaged: Vec<ObjectName>,
    /// A newer head whose checkpoint is not there. On a mirror it is on its way: the head is sent before it, because the
    /// checkpoint alone would be a head whose objects nobody has sent. In a repository it is lost.
    pub incomplete: Option<(ObjectName, ObjectName)>,
}

impl Tip {
    /// Generation and id of the newest head.
    #[must_use]
    pub fn reference(&self) -> HeadRef {
        self.head.reference()
    }

    /// True when this very head is there, above the newest one that can be read, and cannot be read or completed itself: an older state is then
    /// no rollback, but damage.
    #[must_use]
    pub fn hides(&self, seen: HeadRef) -> bool {
        self.hidden.contains(&name_of(seen))
    }

    /// The heads above the newest one that cannot be read, the newest first; those whose checkpoint is not there are not among them.
    #[must_use]
    pub fn unreadable_heads(&self) -> &[ObjectName] {
        &self.damaged
    }

    /// Refuses to take what is shown for the newest state. On a mirror a head whose checkpoint is not there is on its way.
    ///
    /// # Errors
    /// [`Error::UnreadableHead`].
    pub fn require_newest(&self, on_mirror: bool) -> Result<()> {
        if on_mirror { self.require_readable() } else { self.require_sound() }
    }

    /// Refuses to write on top of a head that cannot be read.
    pub fn require_sound(&self) -> Result<()> {
        self.require_readable()?;
        match self.incomplete {
            None => Ok(()),
            Some((object, checkpoint)) => {
                let error = format!("its checkpoint {checkpoint} is not there");
                Err(Error::UnreadableHead { object, error, is_damage: true })
            }
        }
    }

    /// Refuses to take an older head for the newest when a newer one is damaged.
    ///
    /// # Errors
    /// [`Error::UnreadableHead`].
    pub fn require_readable(&self) -> Result<()> {
        match &self.unreadable {
            None => Ok(()),
            Some((object, found)) => Err(found.clone().of(*object)),
        }
    }
}

/// What one file under `heads/` turned out to be.
enum Candidate {
    Valid(Box<Head>),
    Junk,
    Unreadable(codec::Error),
}

fn examine(
    storage: &dyn Storage,
    name: &ObjectName,
    verifying_key: &[u8; 32],
    repository: RepositoryId,
) -> Result<Candidate> {
    let bytes = match storage.read(name, HEAD_BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(error) if matches!(error.kind, ErrorKind::Length | ErrorKind::NoFile) => {
            return Ok(Candidate::Unreadable(codec::Error::new("head", Reason::Truncated)));
        }
        Err(error) => return Err(error.into()),
    };
    if Some(ObjectId::of(&bytes)) != name.id() {
        return Ok(Candidate::Unreadable(codec::Error::new("head", Reason::ObjectId)));
    }
    // Whether a signature is ours decides between junk and damage; what the signed bytes say comes after it.
    if let Err(error) = Head::verify(&bytes, verifying_key, repository) {
        let newer = error.reason.needs_newer_program();
        return Ok(if newer { Candidate::Unreadable(error) } else { Candidate::Junk });
    }
    match Head::parse(&bytes, verifying_key, repository) {
        Ok(head) if head.generation() == generation(name) => Ok(Candidate::Valid(Box::new(head))),
        Ok(_) => Ok(Candidate::Junk),
        Err(error) => Ok(Candidate::Unreadable(error)),
    }
}

/// A file under `heads/` that may be a head of ours, and cannot be read.
#[derive(Debug, Clone)]
pub struct Unreadable {
    /// What refused it.
    pub(super) why: String,
    /// A newer program wrote it.
    pub(super) is_newer: bool,
    /// False when the disk failed under it, which says nothing of its bytes.
    is_damage: bool,
}

impl std::fmt::Display for Unreadable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.why)
    }
}

impl Unreadable {
    /// True for what a newer program wrote: no byte of it is wrong.
    #[must_use]
    pub const fn is_newer(&self) -> bool {
        self.is_newer
    }

    /// The error that names the head.
    pub(super) fn of(self, object: ObjectName) -> Error {
        Error::UnreadableHead { object, error: self.why, is_damage: self.is_damage }
    }
}

/// One head; none for a file that was never ours.
///
/// # Errors
/// A store that does not answer says nothing: an older head must not pass for the newest because of it.
pub(super) fn readable(
    storage: &dyn Storage,
    name: &ObjectName,
    verifying_key: &[u8; 32],
    repository: RepositoryId,
) -> Result<std::result::Result<Option<Box<Head>>, Unreadable>> {
    match examine(storage, name, verifying_key, repository) {
        Ok(Candidate::Valid(head)) => Ok(Ok(Some(head))),
        Ok(Candidate::Junk) => Ok(Ok(None)),
        Ok(Candidate::Unreadable(error)) => {
            let is_newer = error.reason.needs_newer_program();
            Ok(Err(Unreadable { why: error.to_string(), is_newer, is_damage: true }))
        }
        // A bad sector in one head must not keep the others from being read.
        Err(Error::Storage(error)) if !is_silent(error.kind) => {
            let is_damage = error.kind.is_about_object();
            Ok(Err(Unreadable { why: format!("it cannot be read: {}", error.source), is_newer: false, is_damage }))
        }
        Err(error) => Err(error),
    }
}

/// A failure that says nothing of the object.
pub(super) const fn is_silent(kind: ErrorKind) -> bool {
    kind.is_general() || matches!(kind, ErrorKind::Denied)
}

/// The generation in the name of a head.
pub(super) fn generation(name: &ObjectName) -> u64 {
    match name {
        ObjectName::Head { generation, .. } => *generation,
        _ => 0,
    }
}

/// Finds and proves the newest head.
///
/// # Errors
/// [`Error::NoHead`] when none verifies, [`Error::Fork`] when two of the newest generation do, [`Error::Missing`] or
/// [`Error::Damaged`] for its checkpoint.
pub fn newest(storage: &dyn Storage, verifying_key: &[u8; 32], repository: RepositoryId) -> Result<Tip> {
    let mut names = head_names(storage)?;
    loop {
        let found = newest_of(storage, verifying_key, repository, &names);
        let is_whole = found.as_ref().is_ok_and(|tip| tip.unreadable.is_none() && tip.incomplete.is_none());
        if is_whole {
            return found;
        }
        // Others may have published so many heads since the listing that these are gone.
        let again = head_names(storage)?;
        if again.first().map(generation) <= names.first().map(generation) {
            return found;
        }
        names = again;
    }
}

/// The names of all files under `heads/`, the newest first.
fn head_names(storage: &dyn Storage) -> Result<Vec<ObjectName>> {
    let mut names: Vec<ObjectName> = storage.list(Folder::Heads)?.into_iter().map(|listed| listed.name).collect();
    names.sort_unstable_by_key(|name| std::cmp::Reverse((generation(name), name.id())));
    Ok(names)
}

fn newest_of(
    storage: &dyn Storage,
    verifying_key: &[u8; 32],
    repository: RepositoryId,
    names: &[ObjectName],
) -> Result<Tip> {
    let found = names.len();
    let (mut junk, mut hidden, mut damaged) = (Vec::new(), Vec::new(), Vec::new());
    let (mut unreadable, mut incomplete) = (None, None);
    let mut newest: Option<Tip> = None;
    // The id of a valid head whose checkpoint is not there: a second one of its generation is a fork all the same.
    let mut waiting: Option<HeadRef> = None;
    for name in names.iter().copied() {
        if newest.as_ref().is_some_and(|tip| tip.reference().generation != generation(&name)) {
            break;
        }
        match readable(storage, &name, verifying_key, repository)? {
            Ok(Some(head)) => {
                let other = newest.as_ref().map(Tip::reference).or(waiting);
                if let Some(other) = other.filter(|other| other.generation == head.generation()) {
                    return Err(Error::Fork { one: other, other: head.reference() });
                }
                let (reference, checkpoint) = (head.reference(), name_of(head.checkpoint()));
                match complete(storage, verifying_key, repository, head) {
                    Err(Error::Missing { object, .. }) if object == checkpoint => {
                        waiting = Some(reference);
                        hidden.push(name);
                        incomplete = incomplete.or(Some((name, checkpoint)));
                    }
                    // It is there, and says nothing any more: what it says is lost with its checkpoint.
                    Err(Error::Damaged { object, error }) if object == checkpoint => {
                        waiting = Some(reference);
                        hidden.push(name);
                        damaged.push(name);
                        let is_newer = error.reason.needs_newer_program();
                        let why = format!("its checkpoint {checkpoint} is damaged: {error}");
                        unreadable = unreadable.or(Some((name, Unreadable { why, is_newer, is_damage: true })));
                    }
                    tip => newest = Some(tip?),
                }
            }
            // Beside a valid one of its generation a damaged file is nobody's. One that could not be read may be a fork.
            Err(found) if newest.is_none() || !found.is_damage => {
                hidden.push(name);
                damaged.push(name);
                unreadable = unreadable.or(Some((name, found)));
            }
            _ => junk.push(name),
        }
    }
    match newest {
        Some(tip) => Ok(Tip { junk, hidden, damaged, unreadable, incomplete, ..tip }),
        None => Err(match (unreadable, incomplete) {
            (_, Some((name, checkpoint))) => Error::Missing { object: checkpoint, generation: generation(&name) },
            (Some((object, found)), None) => found.of(object),
            (None, None) => Error::NoHead { found },
        }),
    }
}

/// The head with this reference, and what it says.
///
/// # Errors
/// [`Error::Missing`] or [`Error::Damaged`] for it or its checkpoint.
pub fn at(storage: &dyn Storage, verifying_key: &[u8; 32], repository: RepositoryId, wanted: HeadRef) -> Result<Tip> {
    let name = name_of(wanted);
    match examine(storage, &name, verifying_key, repository) {
        Ok(Candidate::Valid(head)) => complete(storage, verifying_key, repository, head),
        Ok(Candidate::Junk) => Err(Error::Damaged { object: name, error: codec::Error::new("head", Reason::Tag) }),
        Ok(Candidate::Unreadable(error)) => Err(Error::Damaged { object: name, error }),
        Err(Error::Storage(error)) if error.kind == ErrorKind::Absent => {
            Err(Error::Missing { object: name, generation: wanted.generation })
        }
        Err(error) => Err(error),
    }
}

/// Reads the checkpoint of a valid head and puts its state together.
pub(super) fn complete(
    storage: &dyn Storage,
    verifying_key: &[u8; 32],
    repository: RepositoryId,
    head: Box<Head>,
) -> Result<Tip> {
    let head: Arc<Head> = Arc::from(head);
    let resolve_error = |error| Error::Damaged { object: name_of(head.reference()), error };
    let checkpoint = if head.is_checkpoint() {
        let state = Arc::new(head.resolve(None).map_err(resolve_error)?);
        (Arc::clone(&head), state)
    } else {
        let reference = head.checkpoint();
        let name = name_of(reference);
        let checkpoint = match examine(storage, &name, verifying_key, repository) {
            Ok(Candidate::Valid(checkpoint)) => checkpoint,
            Ok(Candidate::Junk) => {
                let error = codec::Error::new("head", Reason::Tag);
                return Err(Error::Damaged { object: name, error });
            }
            Ok(Candidate::Unreadable(error)) => return Err(Error::Damaged { object: name, error }),
            Err(Error::Storage(error)) if error.kind == ErrorKind::Absent => {
                return Err(Error::Missing { object: name, generation: head.reference().generation });
            }
            Err(error) => return Err(error),
        };
        let state = checkpoint.resolve(None).map_err(|error| Error::Damaged { object: name, error })?;
        (Arc::from(checkpoint), Arc::new(state))
    };
    let state = if head.is_checkpoint() {
        Arc::clone(&checkpoint.1)
    } else {
        Arc::new(head.resolve(Some(&checkpoint.0)).map_err(resolve_error)?)
    };
    let none = Vec::new;
    Ok(Tip {
        head,
        state,
        checkpoint,
        junk: none(),
        hidden: none(),
        damaged: none(),
        unreadable: None,
        incomplete: None,
    })
}

/// The object that holds the head with this reference.
#[must_use]
pub const fn name_of(reference: HeadRef) -> ObjectName {
    ObjectName::Head { generation: reference.generation, id: reference.id }
}

/// Encodes the first head of a repository.
pub fn first(
    signing: &SigningKey,
    repository: RepositoryId,
    config: &[u8],
    state: &LiveState,
    time: Time,
) -> Result<Vec<u8>> {
    head::successor(signing, repository, config, None, None, state, time)
        .map_err(|error| Error::Internal(error.to_string()))
}

/// Stores the successor of `tip` that says `next`, and returns the new tip. Call under the append lock with a tip
/// that was read under it.
pub fn append(
    storage: &dyn Storage,
    signing: &SigningKey,
    repository: RepositoryId,
    config: &[u8],
    tip: &Tip,
    next: &LiveState,
    time: Time,
) -> Result<HeadRef> {
    tip.require_sound()?;
    let previous = (&*tip.head, &*tip.state);
    let checkpoint = (&*tip.checkpoint.0, &*tip.checkpoint.1);
    let bytes = head::successor(signing, repository, config, Some(previous), Some(checkpoint), next, time)
        .map_err(|error| Error::Refused(error.to_string()))?;
    let reference = HeadRef { generation: tip.reference().generation + 1, id: ObjectId::of(&bytes) };
    match storage.put(&name_of(reference), &bytes)? {
        Stored::Created => Ok(reference),
        Stored::Exists => Err(Error::Conflict(format!("head {} exists already", reference.generation))),
    }
}
