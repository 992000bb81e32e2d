//! What a restore did, and what it could not do.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::base::id::ObjectId;

/// Problems that a report carries; the monitor was told all of them.
pub const PROBLEMS_SHOWN: usize = 1_000;

/// What kind of problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProblemKind {
    /// Stored bytes are wrong or gone.
    Damage,
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

/// Something that only a more privileged user could have set, on how many entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotPermitted {
    /// On how many.
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
    /// How many of them are the repository's fault: damage, or what no snapshot may say.
    pub damage_count: u64,
    /// Packs of which a block did not open, with the number of problems that come from it.
    pub damaged_packs: BTreeMap<ObjectId, u64>,
    /// What lacked privilege, by what it was ("owner").
    pub not_permitted: BTreeMap<String, NotPermitted>,
    /// How long it took.
    pub took: Duration,
}

impl Report {
    /// True when everything that was wanted is exactly as the snapshot has it.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.problem_count == 0 && self.not_permitted.is_empty()
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

    pub(super) fn not_permitted(&mut self, what: String, path: &[u8]) {
        let entry = self.not_permitted.entry(what).or_insert_with(|| NotPermitted { count: 0, example: path.to_vec() });
        entry.count += 1;
    }
}
