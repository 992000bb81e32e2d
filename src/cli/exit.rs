//! Every exit code.
//!
//! The codes are restic's where restic has one. Scripts may rely on them: a code never changes its meaning, new
//! ones may be added, and an unknown code is a failure. The help text's table is rendered from here.

use crate::tasks::failure::Kind;

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
    /// A drill could not be held, for a reason that says nothing of the mirror.
    DrillNotHeld = 21,
    /// Interrupted by the user (128 + SIGINT).
    Interrupted = 130,
}

impl Exit {
    /// All of them, by code.
    pub const ALL: [Self; 17] = [
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
        Self::DrillNotHeld,
        Self::Interrupted,
    ];

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
            Self::DrillNotHeld => "a drill could not be held",
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

/// How a report ends: `None` is a success.
impl From<Option<Kind>> for Exit {
    fn from(kind: Option<Kind>) -> Self {
        kind.map_or(Self::Success, Self::from)
    }
}

impl From<Kind> for Exit {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Failed
            | Kind::NotFound
            | Kind::Conflict
            | Kind::Invalid
            | Kind::TargetFull
            | Kind::Internal
            | Kind::Refused
            | Kind::OutputClosed => Self::Failed,
            Kind::Usage => Self::Usage,
            Kind::SourcePartlyUnreadable => Self::SourcePartlyUnreadable,
            Kind::NoRepository => Self::NoRepository,
            Kind::Locked => Self::Locked,
            Kind::WrongPassword => Self::WrongPassword,
            Kind::MirrorIncomplete => Self::MirrorIncomplete,
            Kind::Rollback => Self::Rollback,
            Kind::Stale => Self::Stale,
            Kind::Fork => Self::Fork,
            Kind::Damage => Self::Damage,
            Kind::Overdue => Self::Overdue,
            Kind::DrillFailed => Self::DrillFailed,
            Kind::DrillNotHeld => Self::DrillNotHeld,
            Kind::DeletionRefused => Self::DeletionRefused,
            Kind::Interrupted => Self::Interrupted,
        }
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
}
