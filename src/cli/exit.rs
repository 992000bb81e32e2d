//! Every exit code, and the error that a command ends with.
//!
//! The codes are restic's where restic has one. Scripts may rely on them: a code never changes its meaning, new
//! ones may be added, and an unknown code is a failure. The help text's table is rendered from here.

use super::about;
use crate::base::command::unmarked;
use crate::base::shortage;
use std::error::Error;
use std::fmt;
use std::io;
use std::path::Path;

/// How the program ends. `as u8` is the code that the shell sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Exit {
    /// All that was asked for is done.
    Success = 0,
    /// Failed; the message says at what.
    Failed = 1,
    /// The command line is not understood, or asks for what does not go together.
    Usage = 2,
    /// The snapshot is stored, but some of the source could not be read.
    SourcePartlyUnreadable = 3,
    /// No repository at that place.
    NoRepository = 10,
    /// Another process holds the lock.
    Locked = 11,
    /// The passphrase, recovery code or key file opens none of the repository's keys.
    WrongPassword = 12,
    /// A mirror lacks something that its state needs.
    MirrorIncomplete = 13,
    /// The repository, or a mirror, is older than what was seen before, or is another one.
    Rollback = 14,
    /// The repository here is behind its mirror.
    Stale = 15,
    /// The repository has two different histories.
    Fork = 16,
    /// Something in the repository is damaged or missing.
    Damage = 17,
    /// Something should have been done by now.
    Overdue = 18,
    /// A drill did not bring back what was backed up.
    DrillFailed = 19,
    /// More would be deleted on a mirror than may be.
    DeletionRefused = 20,
    /// Interrupted by the user (128 + SIGINT).
    Interrupted = 130,
}

impl Exit {
    /// All of them, by code.
    pub const ALL: [Self; 16] = [
        Self::Success,
        Self::Failed,
        Self::Usage,
        Self::SourcePartlyUnreadable,
        Self::NoRepository,
        Self::Locked,
        Self::WrongPassword,
        Self::MirrorIncomplete,
        Self::Rollback,
        Self::Stale,
        Self::Fork,
        Self::Damage,
        Self::Overdue,
        Self::DrillFailed,
        Self::DeletionRefused,
        Self::Interrupted,
    ];

    /// How a command ends that went on behind what it could not read.
    #[must_use]
    pub const fn of_unread(is_damage: bool) -> Self {
        if is_damage { Self::Damage } else { Self::Failed }
    }

    /// The number that the shell sees.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// What it means, in the help's words.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Success => "done",
            Self::Failed => "failed",
            Self::Usage => "wrong usage",
            Self::SourcePartlyUnreadable => "snapshot stored, but some of the source could not be read",
            Self::NoRepository => "no repository there",
            Self::Locked => "locked by another process",
            Self::WrongPassword => "wrong passphrase or key file",
            Self::MirrorIncomplete => "a mirror is not whole",
            Self::Rollback => "the repository, or a mirror, is older than what was seen before, or another one",
            Self::Stale => "the repository here is behind its mirror",
            Self::Fork => "the repository has two histories",
            Self::Damage => "damage found",
            Self::Overdue => "something is overdue",
            Self::DrillFailed => "a drill did not bring back what was backed up",
            Self::DeletionRefused => "more would be deleted on a mirror than may be",
            Self::Interrupted => "interrupted",
        }
    }

    /// The table of all codes, for the help text and the manual page.
    #[must_use]
    pub fn table() -> String {
        let mut text = String::from("Exit codes:\n");
        for exit in Self::ALL {
            text.push_str(&format!("  {:>3}  {}\n", exit.code(), exit.meaning()));
        }
        text
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// The error a command ends with: a sentence that names the object and what was expected, the causes below it, and
/// what to do next.
///
/// Texts are kept as they are; [`super::output::Output::error`] makes them safe to show, so none is escaped twice.
#[derive(Debug)]
pub struct CliError {
    exit: Exit,
    message: String,
    hints: Vec<String>,
    source: Option<Box<dyn Error + Send + Sync>>,
    pipe_closed: bool,
    of_process: bool,
}

impl CliError {
    /// An error that ends with `exit`.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), hints: Vec::new(), source: None, pipe_closed: false, of_process: false }
    }

    /// The same error with another exit code.
    #[must_use]
    pub fn with_exit(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }

    /// This process, or the machine under it, lacks something: nothing is known of what the command was about.
    #[must_use]
    pub(super) fn of_process(mut self) -> Self {
        self.of_process = true;
        self
    }

    /// See `CliError::of_process`.
    #[must_use]
    pub const fn is_of_process(&self) -> bool {
        self.of_process
    }

    /// A plain failure, exit code 1.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(Exit::Failed, message)
    }

    /// A command line that cannot be followed, exit code 2.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// The user wanted an end, exit code 130.
    #[must_use]
    pub fn interrupted() -> Self {
        Self::new(Exit::Interrupted, "interrupted")
    }

    /// Writing the command's own output failed. A reader that went away (`packstone ls | head`) is no error worth a
    /// sentence; the program then ends as others do, by SIGPIPE.
    #[must_use]
    pub fn output(error: io::Error) -> Self {
        let pipe_closed = error.kind() == io::ErrorKind::BrokenPipe;
        let mut this = Self::failed("cannot write the output").caused_by(error);
        this.pipe_closed = pipe_closed;
        this
    }

    /// The same with one more hint: what to run or to look at next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        let hint = hint.into();
        if !self.hints.contains(&hint) {
            self.hints.push(hint);
        }
        self
    }

    /// The same where it is about the repository at `place`, and not about the one of the command line.
    #[must_use]
    pub fn at(self, place: &Path) -> Self {
        self.map_texts(|text| about::of_repository(text, place))
    }

    /// The same where it is about what was read from a mirror.
    #[must_use]
    pub fn reading_from(self, mirror: &str) -> Self {
        self.map_texts(|text| about::of_mirror(text, mirror))
    }

    fn map_texts(mut self, change: impl Fn(&str) -> String) -> Self {
        self.message = change(&self.message);
        self.hints = self.hints.iter().map(|hint| change(hint)).collect();
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
    pub(super) fn because_of(self, error: &io::Error) -> Self {
        match shortage::describe(error).filter(|_| shortage::is_shortage(error)) {
            Some(hint) => self.hint(hint).of_process(),
            None => self,
        }
    }

    /// The same with its subject in front of the sentence: the path that was being read.
    #[must_use]
    pub fn about(mut self, subject: &str) -> Self {
        self.message = format!("{subject}: {}", self.message);
        self
    }

    /// The exit code.
    #[must_use]
    pub const fn exit(&self) -> Exit {
        self.exit
    }

    /// What to do next, in order.
    #[must_use]
    pub fn hints(&self) -> &[String] {
        &self.hints
    }

    /// True when whoever read our output has closed it.
    #[must_use]
    pub const fn is_pipe_closed(&self) -> bool {
        self.pipe_closed
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

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for CliError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_ascending() {
        assert!(Exit::ALL.windows(2).all(|pair| pair[0].code() < pair[1].code()));
    }

    #[test]
    fn the_table_has_a_line_for_each_code() {
        let table = Exit::table();
        assert_eq!(table.lines().count(), 1 + Exit::ALL.len());
        assert!(table.contains("\n   12  wrong passphrase or key file\n"), "{table}");
    }

    #[test]
    fn a_chain_names_every_cause_once() {
        let inner = io::Error::other("disk on fire");
        let error = CliError::failed("cannot read config").caused_by(inner).hint("run check");
        assert_eq!(error.chain(), "cannot read config: disk on fire");
        assert_eq!(error.hints(), ["run check"]);
        assert_eq!(error.exit().code(), 1);
    }

    #[test]
    fn what_has_run_out_is_said_once_whatever_it_was_wanted_for() {
        let error = || io::Error::from(rustix::io::Errno::MFILE);
        let failed = CliError::failed("cannot read the key file k").caused_by(error());
        let hint = failed.hints().concat();
        assert!(failed.hints().len() == 1 && hint.contains("ulimit -n") && failed.is_of_process(), "{hint}");
        let again = CliError::failed("x").hint(hint).caused_by(error());
        assert_eq!(again.hints().len(), 1);
        // An error that keeps it as its own cause.
        let below = CliError::failed("y").caused_by(failed);
        assert_eq!(below.hints().len(), 1);
        assert!(CliError::failed("z").caused_by(io::Error::other("disk on fire")).hints().is_empty());
    }

    #[test]
    fn a_closed_pipe_is_told_apart() {
        assert!(CliError::output(io::ErrorKind::BrokenPipe.into()).is_pipe_closed());
        assert!(!CliError::output(io::ErrorKind::StorageFull.into()).is_pipe_closed());
    }
}
