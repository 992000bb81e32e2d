//! What the program does: one file a verb. A plan that can be shown, then its execution, then a report.
//!
//! Nothing here prints. What happens on the way is told to a [`Monitor`]; whoever is above decides whether that
//! becomes a progress bar, JSON lines, or nothing.

pub mod backup;
pub mod cat;
pub mod check;
pub mod check_mirror;
pub mod content;
pub mod copy;
pub mod deleted;
pub mod diff;
pub mod drill;
pub mod dump;
pub mod find;
pub mod forget;
pub mod freed;
mod item_progress;
pub mod key_file;
pub mod ls;
pub mod mirror_error;
pub mod order;
pub mod part;
pub mod probe;
pub mod prune;
pub mod recover;
pub mod repair_heads;
pub mod repair_index;
pub mod repair_mirror;
pub mod repair_objects;
pub mod repair_packs;
pub mod repair_snapshots;
pub mod restore;
pub mod retag;
pub mod rewrite;
mod rewrite_tree;
pub mod sample;
pub mod select;
pub mod show;
pub mod snapshots;
pub mod stats;
pub mod sync;
pub mod tally;
mod tree_depth;
pub mod tree_walk;
pub mod undelete;

use crate::base::stop::Stop;
use std::time::Duration;

/// What a long operation is doing now. A phase begins with [`Monitor::phase`] and ends with the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Reading the segments and bringing the cache up to date.
    LoadIndex,
    /// Walking, reading and storing the user's files.
    Backup,
    /// Reading snapshots of one repository and storing them in another.
    Copy,
    /// Making what was stored durable: segment, snapshot, head.
    Publish,
    /// Comparing two trees, or a tree with live files.
    Compare,
    /// Working out which blocks of which packs are needed.
    Plan,
    /// Writing the user's files.
    Restore,
    /// Reading written files back.
    Verify,
    /// Checking heads, segments and snapshots against each other.
    CheckStructure,
    /// Checking that every tree and every chunk a snapshot names is there.
    CheckTrees,
    /// Reading packs back and checking every block.
    CheckData,
    /// Reading packs to make segments and the cache again.
    RebuildIndex,
    /// Adding up sizes.
    Count,
    /// Finding out which chunks live snapshots need.
    Mark,
    /// Writing what is needed of packs into new ones.
    Repack,
    /// Writing trees again without some of their entries.
    Rewrite,
    /// Finding out what a mirror holds.
    ListMirror,
    /// Sending objects to a mirror.
    Send,
    /// Deleting from a mirror what its head does not need any more.
    DeleteOnMirror,
    /// Fetching objects from a mirror.
    Fetch,
}

/// What an operation found out about, or did with, one entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Being read or written now: shown as the current file only.
    Started,
    /// Was not in the parent snapshot, or not at the target.
    New,
    /// Differs from what was there before.
    Changed,
    /// The same as before, not read or not written again.
    Unchanged,
    /// Left out by a rule (exclude, overwrite).
    Skipped,
    /// Removed (restore with `--delete`).
    Deleted,
}

/// One entry and what became of it. All sizes are bytes.
#[derive(Debug, Clone, Copy)]
pub struct Item<'a> {
    /// Its path, as bytes.
    pub path: &'a [u8],
    /// What became of it.
    pub action: Action,
    /// True for a directory.
    pub directory: bool,
    /// The size of its content; 0 for what has none.
    pub size: u64,
    /// New content bytes before compression, and as stored; 0 where nothing is stored.
    pub added: u64,
    /// Bytes that `added` takes in the repository, when that is known already.
    pub stored: u64,
    /// How long it took.
    pub took: Duration,
}

impl<'a> Item<'a> {
    /// An entry of which only path and action are known.
    #[must_use]
    pub const fn new(path: &'a [u8], action: Action) -> Self {
        Self { path, action, directory: false, size: 0, added: 0, stored: 0, took: Duration::ZERO }
    }
}

/// How grave a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Worth knowing; the result is what was asked for (a file grew while it was read). It is in the report too.
    Note,
    /// Not to be overlooked, and in no report: nothing of what was asked for is missing, but something is not as it should be.
    Warning,
    /// Some of what was asked for could not be done; the outcome says so.
    Error,
}

/// What a problem is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Subject {
    /// An entry of a source or a target, at the problem's path.
    File,
    /// Something that is stored in the repository.
    Stored,
    /// A mirror.
    Mirror,
    /// How new what was opened is.
    Freshness,
    /// This machine: what it remembers, its cache, its directories, its limits.
    Machine,
}

/// Something that went wrong or is worth knowing, while the work goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Problem<'a> {
    /// How grave it is.
    pub severity: Severity,
    /// What it is about.
    pub subject: Subject,
    /// The path of the entry; empty when it concerns no single file.
    pub path: &'a [u8],
    /// The sentence. Commands in it stand between their marks ([`crate::base::command`]).
    pub message: &'a str,
}

impl<'a> Problem<'a> {
    /// One about the file at `path`, or about something stored when that is empty.
    #[must_use]
    pub const fn new(severity: Severity, path: &'a [u8], message: &'a str) -> Self {
        let subject = if path.is_empty() { Subject::Stored } else { Subject::File };
        Self { severity, subject, path, message }
    }

    /// A warning about something else than a file.
    #[must_use]
    pub const fn warning(subject: Subject, message: &'a str) -> Self {
        Self { severity: Severity::Warning, subject, path: b"", message }
    }

    /// The same about something else.
    #[must_use]
    pub const fn about(self, subject: Subject) -> Self {
        Self { subject, ..self }
    }
}

/// How often an operation begins again because others changed what its plan rests on.
pub const ATTEMPTS: usize = 5;

/// Runs what rests on things that a sweep may take at any time: they are marked already, and nobody waits for a reader of them. What failed while the
/// repository has moved on is tried again on the newest state, which knows what was swept: until then it is no damage that something is gone.
///
/// # Errors
/// Those of `operation`.
pub(crate) fn on_newest<T>(
    repository: &crate::repository::Repository,
    mut operation: impl FnMut() -> Result<T>,
) -> Result<T> {
    let mut attempt = 1;
    loop {
        let seen = repository.tip().reference();
        match operation() {
            Err(error) if attempt < ATTEMPTS => {
                // Who waited for a lock in vain, or was interrupted, does not begin again.
                let is_locked = matches!(error.repository(), Some(crate::repository::Error::Locked(_)));
                let may_be_swept = !is_locked && !matches!(error, Error::Interrupted);
                let has_moved = repository.refresh().is_ok() && repository.tip().reference() != seen;
                if error.is_overtaken() || (may_be_swept && has_moved) {
                    attempt += 1;
                } else {
                    return Err(error);
                }
            }
            done => return done,
        }
    }
}

/// Who watches an operation. Called from several threads at once and often, so every method is cheap and none
/// can fail. Paths are raw bytes: whoever shows them escapes them.
pub trait Monitor: Send + Sync {
    /// A new phase begins; counts start again at zero and nothing is expected until [`Monitor::expect`] says so.
    fn phase(&self, phase: Phase);

    /// Nothing is at work until the next phase begins: somebody may be asked something, or results be shown.
    fn idle(&self) {}

    /// So much **more** work is known to be in this phase: `items` (files, packs, snapshots: what the phase
    /// counts) and `bytes`. May be called many times, also while the work runs; `complete` is true when the total
    /// is now final, so that a remaining time can be told.
    fn expect(&self, items: u64, bytes: u64, complete: bool);

    /// All that a phase has to do, as far as it is known from outside it; each call says it anew. It may come before the phase begins, while
    /// others run, and too late. What the phase itself expects is added to it.
    fn total(&self, _phase: Phase, _items: u64, _bytes: u64, _complete: bool) {}

    /// So much of it is done, counted since the last call. The bytes were read, written or sent.
    fn advance(&self, items: u64, bytes: u64);

    /// So much of it needs no work: it is taken over unread, or cannot be done.
    fn skip(&self, items: u64, bytes: u64) {
        self.advance(items, bytes);
    }

    /// So many bytes that were done are lost and have to be done again, and so many of them have been.
    fn repeat(&self, _lost: u64, _again: u64) {}

    /// One entry begins or is finished.
    fn item(&self, item: &Item<'_>);

    /// Something went wrong or is worth knowing, and the work goes on.
    fn problem(&self, problem: &Problem<'_>);

    /// Who wants an end, once somebody does. Operations ask between two files, packs or blocks and then return their
    /// "interrupted" error, leaving what an interrupted run may leave.
    fn stop(&self) -> Option<Stop>;

    /// True when somebody wants an end.
    fn interrupted(&self) -> bool {
        self.stop().is_some()
    }
}

/// Nobody watches and nobody interrupts.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Monitor for Silent {
    fn phase(&self, _: Phase) {}
    fn expect(&self, _: u64, _: u64, _: bool) {}
    fn advance(&self, _: u64, _: u64) {}
    fn item(&self, _: &Item<'_>) {}
    fn problem(&self, _: &Problem<'_>) {}
    fn stop(&self) -> Option<Stop> {
        None
    }
}

/// Why an operation ended without its result.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The repository said no.
    #[error(transparent)]
    Repository(crate::repository::Error),
    /// The repository said no while this path of a snapshot was read.
    #[error("{}: {source}", crate::base::escape::Escaped(.path))]
    At {
        /// The path.
        path: Vec<u8>,
        /// Why.
        source: crate::repository::Error,
    },
    /// A snapshot that may be the one that was meant by `latest` cannot be read.
    #[error("{sentence} ({source})")]
    NewestUnreadable {
        /// Which one, and what was asked for.
        sentence: String,
        /// The beginning of the id of the newest that can be read.
        found: String,
        /// Why not.
        source: Box<crate::repository::Error>,
    },
    /// A mirror must not be written to, or is not whole.
    #[error(transparent)]
    Mirror(#[from] mirror_error::MirrorError),
    /// What this machine knows of mirrors could not be read or written.
    #[error(transparent)]
    Book(#[from] crate::repository::mirror_book::BookError),
    /// The sources said no.
    #[error(transparent)]
    Source(#[from] crate::files::source::SourceError),
    /// This process or this machine has run out of something while it was at this path of a source or a target. It says
    /// nothing of the path.
    #[error("{}: {source}", crate::base::escape::Escaped(.path))]
    Shortage {
        /// The path.
        path: Vec<u8>,
        /// What the system says ([`crate::base::shortage`]).
        source: std::io::Error,
    },
    /// No thread could be started.
    #[error("cannot start a thread: {0}")]
    Threads(std::io::Error),
    /// A stream that was to be stored gave nothing.
    #[error("the stream is empty: no snapshot was made of it")]
    EmptyStream,
    /// The user wanted an end.
    #[error("interrupted")]
    Interrupted,
    /// The system refused something beside the repository.
    #[error("{what}: {source}")]
    System {
        /// What was to be done, and with what, safe to show.
        what: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// What was named is not there: an object, a snapshot, a path, a pack.
    #[error("{0}")]
    NotFound(String),
    /// What is there is in the way: it exists already, it changed meanwhile, or another process uses it.
    #[error("{0}")]
    Conflict(String),
    /// The request cannot be: a bad value, or things that do not go together.
    #[error("{0}")]
    Invalid(String),
    /// The disk that is written to, and that holds no repository, is full.
    #[error("{0}")]
    TargetFull(String),
    /// A defect of the program or of the machine under it: what cannot happen has happened.
    #[error("{0}")]
    Internal(String),
    /// The program will not do it although it could: it protects something, or the source is hostile.
    #[error("{0}")]
    Refused(String),
}

impl From<crate::repository::Error> for Error {
    fn from(error: crate::repository::Error) -> Self {
        if error.is_interrupted() { Self::Interrupted } else { Self::Repository(error) }
    }
}

/// What a command went on behind, because it could not be read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unread {
    /// How many snapshots, listings or records.
    pub count: u64,
    /// Some of it is damaged or missing. Otherwise this process could not read it now.
    pub is_damage: bool,
}

impl Unread {
    /// One more.
    pub fn add(&mut self, error: &Error) {
        self.count += 1;
        self.is_damage |= error.is_damage();
    }

    /// And all of those.
    pub const fn join(&mut self, more: Self) {
        self.count += more.count;
        self.is_damage |= more.is_damage;
    }
}

impl Error {
    /// The error again, when a command that reads may go on behind it: one object that cannot be read.
    ///
    /// # Errors
    /// The error, when it ends the command: nothing more can be read, or the snapshot itself is refused.
    pub fn passable(self) -> Result<Self> {
        let is_general = self.repository().is_some_and(crate::repository::Error::is_unavailable);
        if is_general || self.is_unmet() || matches!(self, Self::System { .. }) { Err(self) } else { Ok(self) }
    }

    /// True when the operation itself says that the request cannot be met: what was stored was not what kept it from that.
    #[must_use]
    pub const fn is_unmet(&self) -> bool {
        matches!(
            self,
            Self::NotFound(_)
                | Self::Conflict(_)
                | Self::Invalid(_)
                | Self::TargetFull(_)
                | Self::Internal(_)
                | Self::Refused(_)
        )
    }

    /// True when others changed what a plan rests on, and a new plan may do ([`ATTEMPTS`]).
    #[must_use]
    pub const fn is_overtaken(&self) -> bool {
        matches!(self, Self::Repository(crate::repository::Error::Overtaken { .. }))
    }

    /// True when it speaks against a mirror, and not against the repository here or this machine.
    #[must_use]
    pub fn is_of_mirror(&self) -> bool {
        use crate::repository::Error as E;
        match self {
            Self::Mirror(_) | Self::Repository(E::Fork { .. }) => true,
            Self::Repository(E::Storage(error)) => error.mirror.is_some(),
            _ => false,
        }
    }

    /// The repository's refusal, with the path of the snapshot that was being read.
    #[must_use]
    pub fn at(path: &[u8], source: crate::repository::Error) -> Self {
        Self::At { path: path.to_vec(), source }
    }

    /// What the repository said, when it was the repository.
    #[must_use]
    pub fn repository(&self) -> Option<&crate::repository::Error> {
        match self {
            Self::Repository(error) | Self::At { source: error, .. } => Some(error),
            Self::NewestUnreadable { source, .. } => Some(source),
            Self::Mirror(_)
            | Self::Book(_)
            | Self::Source(_)
            | Self::Shortage { .. }
            | Self::System { .. }
            | Self::Threads(_)
            | Self::EmptyStream
            | Self::Interrupted
            | Self::NotFound(_)
            | Self::Conflict(_)
            | Self::Invalid(_)
            | Self::TargetFull(_)
            | Self::Internal(_)
            | Self::Refused(_) => None,
        }
    }

    /// True when stored bytes are wrong or gone.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        self.repository().is_some_and(crate::repository::Error::is_damage)
    }
}

/// Result of an operation.
pub type Result<T> = std::result::Result<T, Error>;
