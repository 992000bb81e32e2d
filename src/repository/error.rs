//! What can go wrong between a name and what it stands for. Each variant says which object.

use crate::base::escape::escape;
use crate::base::id::{ChunkId, ObjectId, RepositoryId};
use crate::codec;
use crate::codec::head::HeadRef;
use crate::codec::kdf::Params;
use crate::repository::lock::LockError;
use crate::storage::{self, ErrorKind, ObjectName};

/// A failed operation on a repository.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The storage refused.
    #[error(transparent)]
    Storage(#[from] storage::Error),
    /// There is no repository at this place.
    #[error("no repository at {place}: {why}")]
    NoRepository {
        /// The place, as the user named it.
        place: String,
        /// What is missing.
        why: &'static str,
    },
    /// `init` found something at its place.
    #[error("{place} cannot become a new repository: {why}")]
    Occupied {
        /// The place, as the user named it.
        place: String,
        /// What is there.
        why: &'static str,
    },
    /// No live key slot of the secret's type opens with it.
    #[error("no key of this repository opens with this {secret} ({tried} tried{}{})", if *damaged == 0 { String::new() } else { format!("; {damaged} damaged, which could not be tried") }, not_tried(*untried))]
    WrongSecret {
        /// The kind of secret: "passphrase", "recovery code", "key file".
        secret: &'static str,
        /// How many slots were of that kind.
        tried: usize,
        /// How many slots are damaged or missing: the secret may be of one of them.
        damaged: usize,
        /// How many were not tried, because all of them together would take too long.
        untried: usize,
    },
    /// Another process holds a lock, or it could not be taken.
    #[error(transparent)]
    Locked(LockError),
    /// Somebody wanted an end.
    #[error("interrupted")]
    Interrupted,
    /// A stored object was refused.
    #[error("damaged: {object}: {error}")]
    Damaged {
        /// Its name.
        object: ObjectName,
        /// The check that failed.
        error: codec::Error,
    },
    /// An object that a signed head names is not there.
    #[error("missing: {object}, which head {generation} names")]
    Missing {
        /// Its name.
        object: ObjectName,
        /// Generation of the head.
        generation: u64,
    },
    /// A listing, chunk list or problem list was refused after its chunks had opened: whoever wrote it wrote nonsense.
    #[error("refused: {error}")]
    Stream {
        /// The check that failed.
        error: codec::Error,
    },
    /// A pack has another length than its segment says.
    #[error("damaged: pack {pack}: {expected} bytes expected, {found} found")]
    PackLength {
        /// The pack.
        pack: ObjectId,
        /// Length in its segment.
        expected: u64,
        /// Length on disk.
        found: u64,
    },
    /// No live pack holds a chunk.
    #[error("missing: chunk {} is in no live pack", chunk.short())]
    ChunkMissing {
        /// The chunk.
        chunk: ChunkId,
    },
    /// A head above the newest valid one cannot be read.
    #[error("{}{object} is newer than the newest head that can be verified ({error})", if *is_damage { "damaged: " } else { "" })]
    UnreadableHead {
        /// Its name.
        object: ObjectName,
        /// Why it was refused.
        error: String,
        /// False when the disk failed under it, which says nothing of its bytes.
        is_damage: bool,
    },
    /// No head verifies.
    #[error("no valid head under heads/: {found} files there, none signed by this repository's key")]
    NoHead {
        /// How many files looked like heads.
        found: usize,
    },
    /// Two signed heads, neither of which comes before the other: of one generation, or of two histories.
    #[error("fork: {}", two_histories(one, other))]
    Fork {
        /// One of them: the one that was seen before, or of the older generation.
        one: HeadRef,
        /// The other one.
        other: HeadRef,
    },
    /// The newest head is older than one that was seen here before.
    #[error("rollback: this repository stood at generation {} when last seen here and now shows {}", remembered.generation, found.generation)]
    Rollback {
        /// What this machine remembers.
        remembered: HeadRef,
        /// What the repository shows.
        found: HeadRef,
    },
    /// The config's verifying key is not the one of the master key.
    #[error("the config names another signing key than this repository's keys: it was exchanged")]
    ForeignConfig,
    /// The newest head is older than the one with the state code that was given.
    #[error("rollback: the state code is of generation {expected}, and what is there shows generation {}", found.generation)]
    BehindCode {
        /// Generation in the code.
        expected: u64,
        /// The newest head.
        found: HeadRef,
    },
    /// The head with the state code that was given is not one that the newest head follows.
    #[error("fork: the state code is of a head of generation {expected} that is not among those that generation {} follows", found.generation)]
    NotInHistory {
        /// Generation in the code.
        expected: u64,
        /// The newest head.
        found: HeadRef,
    },
    /// It is another repository than the user named.
    #[error("this is repository {}, not {expected}", found.short())]
    OtherRepository {
        /// What was named.
        expected: String,
        /// What is there.
        found: RepositoryId,
    },
    /// It is another repository than was seen at this place before.
    #[error("{place} holds repository {}, and repository {} was there when last seen", found.short(), remembered.short())]
    Exchanged {
        /// The place, as the user named it.
        place: String,
        /// What this machine remembers.
        remembered: RepositoryId,
        /// What is there.
        found: RepositoryId,
    },
    /// Something that this run relied on was removed or marked by another one meanwhile.
    #[error("the repository changed while this command ran: {what} is no longer live; run it again")]
    Overtaken {
        /// The object.
        what: ObjectName,
    },
    /// The kernel's generator failed, or repeated itself.
    #[error("the system's random generator {0}")]
    Random(&'static str),
    /// No thread could be started.
    #[error("cannot start a thread: {0}")]
    Threads(std::io::Error),
    /// The system refused something beside the repository.
    #[error("{what}: {source}")]
    System {
        /// What was to be done, and with what, safe to show.
        what: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// What was named is not there.
    #[error("{0}")]
    NotFound(String),
    /// What is there is in the way: it exists already, it changed meanwhile, or another process uses it.
    #[error("{0}")]
    Conflict(String),
    /// The request cannot be: a bad value, or things that do not go together.
    #[error("{0}")]
    Invalid(String),
    /// A defect of the program or of the machine under it: what cannot happen has happened.
    #[error("{0}")]
    Internal(String),
    /// The program will not do it although it could: it protects something, or the format does not hold it.
    #[error("{0}")]
    Refused(String),
}

impl From<LockError> for Error {
    fn from(error: LockError) -> Self {
        match error {
            LockError::Interrupted => Self::Interrupted,
            error => Self::Locked(error),
        }
    }
}

impl Error {
    /// Somebody wanted an end in the middle of reading: every other object would fail as this one does ([`Error::is_unavailable`]), and it is
    /// never damage.
    #[must_use]
    pub fn stopped(operation: &'static str, object: &str) -> Self {
        let source = std::io::Error::other("interrupted");
        storage::Error::new(operation, object, source).with_kind(ErrorKind::Interrupted).into()
    }

    /// True when stored bytes are wrong or gone: exit code 17 and a look at `check`.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Damaged { .. }
            | Self::Missing { .. }
            | Self::Stream { .. }
            | Self::PackLength { .. }
            | Self::ChunkMissing { .. }
            | Self::NoHead { .. }
            | Self::ForeignConfig => true,
            Self::UnreadableHead { is_damage, .. } => *is_damage,
            Self::Storage(error) => matches!(error.kind, ErrorKind::Length | ErrorKind::NoFile),
            _ => false,
        }
    }

    /// True when nothing else could be read either: the store does not answer, or this process has run out of open files
    /// or memory. Never damage.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Storage(error) if error.kind.is_general())
    }

    /// True when somebody wanted an end before it was done.
    #[must_use]
    pub fn is_interrupted(&self) -> bool {
        match self {
            Self::Interrupted => true,
            Self::Storage(error) => error.kind == ErrorKind::Interrupted,
            _ => false,
        }
    }

    /// True when this process could not read an object now: nothing is known of its bytes. Never damage.
    #[must_use]
    pub fn is_unreadable(&self) -> bool {
        match self {
            Self::Storage(error) => !error.kind.is_about_object(),
            Self::Overtaken { .. } => true,
            _ => false,
        }
    }

    /// True when the disk failed under one object. Where the others can be read it may be a bad sector, and another copy of
    /// the object is what a repair is for.
    #[must_use]
    pub fn is_of_device(&self) -> bool {
        matches!(self, Self::Storage(error) if error.kind == ErrorKind::Device)
    }

    /// True for what a repair gives up when no other copy has it: damaged, missing, or on a part of the disk that cannot be read. What this process
    /// may or can not read now is none of it.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.is_damage() || matches!(self, Self::Storage(error) if error.kind.is_about_object()) || self.is_of_device()
    }

    /// The same failure once more, for whoever cannot give the first one away; none for anything but a storage's failure.
    #[must_use]
    pub fn again(&self) -> Option<Self> {
        let Self::Storage(error) = self else { return None };
        let source = match error.source.raw_os_error() {
            Some(errno) => std::io::Error::from_raw_os_error(errno),
            None => std::io::Error::new(error.source.kind(), error.source.to_string()),
        };
        let again = storage::Error::new(error.operation, &error.object, source).with_kind(error.kind);
        Some(Self::Storage(again))
    }
}

fn not_tried(count: usize) -> String {
    if count == 0 {
        return String::new();
    }
    let limit = Params::WORK_ALL_KIB_MAX >> 20;
    format!(
        "; {count} not tried: for one secret keys are tried, the cheapest first, up to {limit} GiB of memory times passes"
    )
}

fn two_histories(one: &HeadRef, other: &HeadRef) -> String {
    let (first, second) = (one.id.short(), other.id.short());
    if one.generation == other.generation {
        return format!("two signed heads of generation {}: {first} and {second}", one.generation);
    }
    let (before, now) = (one.generation, other.generation);
    format!("head {before} ({first}), which was seen here, is not among those that head {now} ({second}) follows")
}

/// Result of a repository operation.
pub type Result<T> = std::result::Result<T, Error>;

/// Turns a codec's refusal into one that names the object.
pub(super) fn damaged(object: ObjectName) -> impl Fn(codec::Error) -> Error {
    move |error| Error::Damaged { object, error }
}

/// A request that cannot be, in words that hold text from outside.
#[must_use]
pub fn invalid(message: &str, about: &[u8]) -> Error {
    Error::Invalid(format!("{message}: {}", escape(about)))
}
