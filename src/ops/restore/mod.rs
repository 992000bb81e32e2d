//! Restore: from a snapshot to files. format-spec/restoring.md says what it promises.
//!
//! [`plan()`] only reads: it walks the snapshot's trees, looks at what is in the target already, decides about every entry,
//! and notes which pieces of which blocks the new files are made of. [`execute`] takes the plan:
//!
//! 1. what is in the way, and with `--delete` what the snapshot does not have, is removed; directories are made;
//! 2. workers take the blocks in pack order; each is read and decoded once and its pieces go to all their files;
//! 3. further names of hard-linked files, then symbolic links, pipes, sockets and devices;
//! 4. metadata of the directories, deepest first;
//! 5. with `--verify`, everything is read back.
//!
//! Invariants
//! - Nothing outside the target changes: every name is looked up beneath an open directory ([`crate::files::target`]).
//! - A file has its final name and its modification time only when all of it is written, or it is made under its final name
//!   in a place that was empty and gets its time last. So an unfinished file is never taken for a finished one.
//! - A file of which one piece is missing is removed and named; the rest is restored.
//! - Memory: about 100 bytes and the name for each entry; pieces are sorted in runs of 40 MiB and spilled behind that.

mod catalog;
mod compare;
mod deletion;
mod digests;
mod directories;
mod execute;
mod existing;
mod limits;
mod open_files;
mod pieces;
pub mod plan;
mod planner;
pub mod report;
pub mod selection;
mod spelling;
mod tree;
mod verify;
mod verify_metadata;
mod worker;

use std::path::PathBuf;
use std::sync::Arc;

use crate::files::own::OwnPlaces;

pub use execute::execute;
pub use plan::{Line, Plan, Totals};
pub use planner::plan;
pub use report::{Cause, Problem, ProblemKind, Report, Unset};
pub use selection::Selection;

/// When something that is there already is written over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Overwrite {
    /// Always. A file of the same size is read and compared first; one with the same content is not written again.
    #[default]
    Always,
    /// When size or modification time differ.
    IfChanged,
    /// When the snapshot's is newer.
    IfNewer,
    /// Never.
    Never,
}

/// What to restore, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// The directory to restore into; made when it is missing.
    pub target: PathBuf,
    /// Which entries.
    pub selection: Selection,
    /// What happens to what is there.
    pub overwrite: Overwrite,
    /// Remove what is in restored directories and not in the snapshot.
    pub delete: bool,
    /// Leave long runs of zeros out: they become holes.
    pub sparse: bool,
    /// Owners by number, not by name.
    pub numeric_owner: bool,
    /// Read everything back.
    pub verify: bool,
    /// What is this program's own, or another repository, is never removed, and nothing is restored into it. No backup holds what is
    /// own, so `--delete` would take it for something extra.
    pub own: Arc<OwnPlaces>,
    /// The plan will not be carried out, so that nothing is tried in the target to make it.
    pub dry_run: bool,
}

impl Options {
    /// Everything into this directory, over whatever is there.
    #[must_use]
    pub fn new(target: PathBuf) -> Self {
        Self {
            target,
            selection: Selection::default(),
            overwrite: Overwrite::Always,
            delete: false,
            sparse: false,
            numeric_owner: false,
            verify: false,
            own: Arc::default(),
            dry_run: false,
        }
    }
}
