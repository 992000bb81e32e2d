//! What a restore did, and what it could not do.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::base::id::ObjectId;
use crate::files::apply::{ApplyProblem, Severity};

/// Problems that a report carries; the monitor was told all of them.
pub const PROBLEMS_SHOWN: usize = 1_000;

/// What kind of problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProblemKind {
    /// Stored bytes are wrong or gone.
    Damage,
    /// This process could not read it from the repository now; nothing is known to be damaged.
    Unreadable,
    /// The snapshot says what no snapshot may say.
    Hostile,
    /// The target did not let us.
    Target,
    /// What is in the target is not what was written there.
    Verify,
}

/// One entry that is not, or not fully, restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Its path.
    pub path: Vec<u8>,
    /// What kind.
    pub kind: ProblemKind,
    /// The sentence.
    pub message: String,
}

/// Causes that a report carries: a snapshot may hold any number of names of attributes.
pub const CAUSES_MAX: usize = 100;
/// The reason of what `--verify` finds.
pub const READ_BACK: &str = "read back and not as in the snapshot";

/// Metadata that could not be set, or reads back as something else, and why.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cause {
    /// How bad.
    pub severity: Severity,
    /// What: "owner", "times".
    pub what: String,
    /// Why.
    pub reason: String,
}

/// How many entries a cause concerns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unset {
    /// How many.
    pub count: u64,
    /// The first of them.
    pub example: Vec<u8>,
}

/// What came of a restore. Sizes are bytes.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Regular files written.
    pub files: u64,
    /// Directories made, or brought to the snapshot's metadata.
    pub directories: u64,
    /// Symbolic links, pipes, sockets and devices made, and further names of hard-linked files.
    pub others: u64,
    /// Entries that were as they should be, or needed their metadata only.
    pub unchanged: u64,
    /// Bytes of those.
    pub unchanged_bytes: u64,
    /// Entries left as they are by the overwrite rule.
    pub skipped: u64,
    /// Bytes that those have in the snapshot.
    pub skipped_bytes: u64,
    /// Entries removed, those in a removed directory included.
    pub deleted: u64,
    /// Bytes of content written, holes not counted.
    pub bytes: u64,
    /// Bytes that all files wanted have, holes included.
    pub total_bytes: u64,
    /// Entries wanted.
    pub total_entries: u64,
    /// Files written of which the digest of the whole was not compared, because their pieces did not come in order; of each piece it
    /// is proven what it is. None when they were read back.
    pub not_compared: u64,
    /// Files read back.
    pub verified: u64,
    /// Blocks read.
    pub blocks: u64,
    /// The first problems, at most [`PROBLEMS_SHOWN`].
    pub problems: Vec<Problem>,
    /// How many there are in all.
    pub problem_count: u64,
    /// How many of them lie in directories that could not be made: those are named, and these are only counted.
    pub not_reached: u64,
    /// How many of them are the repository's fault: damage, or what no snapshot may say.
    pub damage_count: u64,
    /// Packs of which a block did not open, with the number of problems that come from it.
    pub damaged_packs: BTreeMap<ObjectId, u64>,
    /// Metadata that is not as the snapshot has it, one row a cause.
    pub unset: BTreeMap<Cause, Unset>,
    /// How long it took.
    pub took: Duration,
}

impl Report {
    /// True when everything that was wanted is as the snapshot has it, but for what an ordinary user may not set
    /// ([`Severity::Note`]).
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.problem_count == 0 && self.unset.keys().all(|cause| cause.severity == Severity::Note)
    }

    /// True when everything that was wanted is exactly as the snapshot has it.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.problem_count == 0 && self.unset.is_empty()
    }

    /// On how many entries something could not be set, by how bad it is.
    pub fn unset_count(&self, counts: impl Fn(Severity) -> bool) -> u64 {
        let counted = self.unset.iter().filter(|(cause, _)| counts(cause.severity));
        counted.map(|(_, unset)| unset.count).fold(0, u64::saturating_add)
    }

    /// One more entry lies in a directory that could not be made.
    pub(super) fn not_reached(&mut self) {
        self.problem_count += 1;
        self.not_reached += 1;
    }

    pub(super) fn problem(&mut self, problem: Problem) {
        self.problem_count += 1;
        if matches!(problem.kind, ProblemKind::Damage | ProblemKind::Hostile) {
            self.damage_count += 1;
        }
        if self.problems.len() < PROBLEMS_SHOWN {
            self.problems.push(problem);
        }
    }

    pub(super) fn unset(&mut self, problem: ApplyProblem, path: &[u8]) {
        let ApplyProblem { what, severity, reason } = problem;
        let mut cause = Cause { severity, what: what.to_string(), reason };
        if self.unset.len() >= CAUSES_MAX && !self.unset.contains_key(&cause) {
            cause = Cause { severity, what: "other metadata".to_owned(), reason: "for more reasons".to_owned() };
        }
        let entry = self.unset.entry(cause).or_insert_with(|| Unset { count: 0, example: path.to_vec() });
        entry.count += 1;
    }
}
