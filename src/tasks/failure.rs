//! Why a task ended without its report: a kind, a sentence, what to do next, and whether trying again may help.
//!
//! Every face reads the same failure: the command line makes an exit code of the kind, an API a status, a schedule decides by it
//! whether to try again. Sentences are for people; nothing is derived from one.

use super::remedy::{self, Remedy};
use crate::base::command::unmarked;
use crate::base::shortage;
use std::error::Error;
use std::fmt;
use std::io;
use std::path::Path;

/// What kind of failure it is, or how a report ends that is no success.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Failed; the sentence says at what.
    Failed,
    /// The request is not understood, or asks for what does not go together.
    Usage,
    /// The snapshot is stored, but some of the source could not be read.
    SourcePartlyUnreadable,
    /// What was named is not there: an object, a snapshot, a path, a pack, a mirror.
    NotFound,
    /// What is there is in the way: it exists already, it changed meanwhile, or another process uses it.
    Conflict,
    /// The request is understood and cannot be: a bad value, or things that do not go together.
    Invalid,
    /// The disk that is written to is full.
    TargetFull,
    /// A defect of the program or of the machine under it.
    Internal,
    /// The program will not do it although it could: it protects something.
    Refused,
    /// No repository at that place.
    NoRepository,
    /// Another process holds the lock.
    Locked,
    /// The passphrase, recovery code or key file opens none of the repository's keys.
    WrongPassword,
    /// A mirror lacks something that its state needs.
    MirrorIncomplete,
    /// The repository, or a mirror, is older than what was seen before, or is another one.
    Rollback,
    /// The repository here is behind its mirror.
    Stale,
    /// The repository has two different histories.
    Fork,
    /// Something in the repository is damaged or missing.
    Damage,
    /// Something should have been done by now.
    Overdue,
    /// A drill did not bring back what was backed up.
    DrillFailed,
    /// A drill could not be held, for a reason that says nothing of the mirror.
    DrillNotHeld,
    /// More would be deleted on a mirror than may be.
    DeletionRefused,
    /// Whoever read the report went away.
    OutputClosed,
    /// Ended before it was done, because somebody wanted it to.
    Interrupted,
}

impl Kind {
    /// The word for it in what is stored and what programs read.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Usage => "usage",
            Self::SourcePartlyUnreadable => "source-partly-unreadable",
            Self::NotFound => "not-found",
            Self::Conflict => "conflict",
            Self::Invalid => "invalid",
            Self::TargetFull => "target-full",
            Self::Internal => "internal",
            Self::Refused => "refused",
            Self::NoRepository => "no-repository",
            Self::Locked => "locked",
            Self::WrongPassword => "wrong-password",
            Self::MirrorIncomplete => "mirror-incomplete",
            Self::Rollback => "rollback",
            Self::Stale => "stale",
            Self::Fork => "fork",
            Self::Damage => "damage",
            Self::Overdue => "overdue",
            Self::DrillFailed => "drill-failed",
            Self::DrillNotHeld => "drill-not-held",
            Self::DeletionRefused => "deletion-refused",
            Self::OutputClosed => "output-closed",
            Self::Interrupted => "interrupted",
        }
    }

    /// How a task ends that went on behind what it could not read.
    #[must_use]
    pub const fn of_unread(is_damage: bool) -> Self {
        if is_damage { Self::Damage } else { Self::Failed }
    }
}

/// Why a task ended: a sentence that names the object and what was expected, the causes below it, and what to do next.
///
/// Texts are kept as they are; whoever shows them makes them safe to show, so none is escaped twice.
#[derive(Debug)]
pub struct Failure {
    kind: Kind,
    message: String,
    remedies: Vec<Remedy>,
    source: Option<Box<dyn Error + Send + Sync>>,
    of_process: bool,
    transient: bool,
    /// The mirror that the sentence names.
    mirror: Option<String>,
}

impl Failure {
    /// A failure of this kind.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { kind, message, remedies: Vec::new(), source: None, of_process: false, transient: false, mirror: None }
    }

    /// The same of another kind.
    #[must_use]
    pub fn with_kind(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }

    /// What it failed on may pass by itself: the same request may succeed later.
    #[must_use]
    pub fn transient(mut self) -> Self {
        self.transient = true;
        self
    }

    /// True when the same request may succeed later, without anything being changed.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        self.transient
    }

    /// This process, or the machine under it, lacks something: nothing is known of what the command was about.
    #[must_use]
    pub fn of_process(mut self) -> Self {
        self.of_process = true;
        self
    }

    /// See [`Failure::of_process`].
    #[must_use]
    pub const fn is_of_process(&self) -> bool {
        self.of_process
    }

    /// A plain failure.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(Kind::Failed, message)
    }

    /// A request that cannot be followed.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message)
    }

    /// Somebody wanted an end.
    #[must_use]
    pub fn interrupted() -> Self {
        Self::new(Kind::Interrupted, "interrupted")
    }

    /// The same with one more remedy: what to run or to look at next.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<Remedy>) -> Self {
        let remedy = remedy.into();
        if !self.remedies.contains(&remedy) {
            self.remedies.push(remedy);
        }
        self
    }

    /// The same where it is about the repository at `place`, and not about the one that the environment names.
    #[must_use]
    pub fn at(mut self, place: &Path) -> Self {
        self.message = remedy::of_repository(&self.message, place);
        self.remedies = self.remedies.iter().map(|remedy| remedy.at(place)).collect();
        self
    }

    /// The same where it is about what was read from a mirror.
    #[must_use]
    pub fn reading_from(mut self, mirror: &str) -> Self {
        self.message = remedy::of_mirror(&self.message, mirror);
        let heal = Remedy::from(super::error_mapping::HEAL);
        let name = Some(mirror).filter(|mirror| !mirror.contains(['/', ':']));
        let of_mirror = |remedy: &Remedy| match name {
            // What is damaged there is no matter of the repository here.
            Some(name) if *remedy == heal => Remedy::from(super::store_failure::repair_named(name)),
            _ => remedy.reading_from(mirror),
        };
        self.remedies = self.remedies.iter().map(of_mirror).collect();
        self
    }

    /// The same with the error below it.
    #[must_use]
    pub fn caused_by(self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        let source = source.into();
        let this = match io_error_below(&*source) {
            Some(error) => self.because_of(error),
            None => self,
        };
        Self { source: Some(source), ..this }
    }

    /// The same, where the sentence has told what the system said. When that is something that this process has run out of, it says how to get
    /// more of it, whatever was to be read or written.
    #[must_use]
    pub fn because_of(self, error: &io::Error) -> Self {
        match shortage::describe(error).filter(|_| shortage::is_shortage(error)) {
            Some(hint) => self.remedy(hint).of_process().transient(),
            None => self,
        }
    }

    /// The same where the sentence names this mirror.
    #[must_use]
    pub fn of_mirror_named(mut self, name: Option<&str>) -> Self {
        self.mirror = name.map(str::to_owned);
        self
    }

    /// The same with its subject in front of the sentence: the path that was being read, or the mirror, where the sentence does not name it.
    #[must_use]
    pub fn about(mut self, subject: &str) -> Self {
        if self.mirror.as_deref() == Some(subject) {
            return self;
        }
        self.message = format!("{subject}: {}", self.message);
        self
    }

    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// What to do next, in order.
    #[must_use]
    pub fn remedies(&self) -> &[Remedy] {
        &self.remedies
    }

    /// The sentence and its causes in one line, each cause once: many errors already print their source.
    #[must_use]
    pub fn chain(&self) -> String {
        let mut text = self.message.clone();
        let mut next = self.source();
        while let Some(error) = next {
            let cause = unmarked(&error.to_string());
            if !text.ends_with(&cause) {
                text.push_str(": ");
                text.push_str(&cause);
            }
            next = error.source();
        }
        text
    }
}

/// The failure of the system that an error is, or comes from.
fn io_error_below<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a io::Error> {
    error.downcast_ref().or_else(|| io_error_below(error.source()?))
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_names_every_cause_once() {
        let inner = io::Error::other("disk on fire");
        let error = Failure::failed("cannot read config").caused_by(inner).remedy("run check");
        assert_eq!(error.chain(), "cannot read config: disk on fire");
        assert_eq!(error.remedies(), [Remedy::from("run check")]);
        assert_eq!(error.kind(), Kind::Failed);
    }

    #[test]
    fn what_has_run_out_is_said_once_whatever_it_was_wanted_for() {
        let error = || io::Error::from(rustix::io::Errno::MFILE);
        let failed = Failure::failed("cannot read the key file k").caused_by(error());
        let hint: String = failed.remedies().iter().map(Remedy::marked).collect();
        assert!(failed.remedies().len() == 1 && hint.contains("ulimit -n") && failed.is_of_process(), "{hint}");
        let again = Failure::failed("x").remedy(hint).caused_by(error());
        assert_eq!(again.remedies().len(), 1);
        // An error that keeps it as its own cause.
        let below = Failure::failed("y").caused_by(failed);
        assert_eq!(below.remedies().len(), 1);
        assert!(Failure::failed("z").caused_by(io::Error::other("disk on fire")).remedies().is_empty());
    }
}
