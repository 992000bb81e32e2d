//! How much of what the process has a restore takes: threads, files that are kept open, and rows of its plan.

use super::catalog::NONE;
use crate::base::command::suggest;
use crate::base::shortage::share_of_open_files;
use crate::ops::select::{Chosen, Found};
use crate::ops::{Error, Result};

/// Open files of one worker besides those that are kept: a block, the way to it, a new file, the directory of another one.
const WORKER_FILES: usize = 8;
/// Open files of everything else: standard streams, repository, pin, cache, temporary files, target.
const OTHER_FILES: usize = 24;

/// As many workers as there are processors, 2 to 8; fewer where few files may be open.
pub(super) fn workers() -> usize {
    let workers = std::thread::available_parallelism().map_or(2, std::num::NonZero::get).clamp(2, 8);
    share_of_open_files(workers * WORKER_FILES, (1, 2), OTHER_FILES, WORKER_FILES) / WORKER_FILES
}

/// How many files may be kept open besides what the workers need: `share` of them, at most `wanted`.
pub(super) fn kept_open(wanted: usize, share: (usize, usize)) -> usize {
    share_of_open_files(wanted, share, OTHER_FILES + workers() * WORKER_FILES, 2)
}

/// Refuses a snapshot of more entries than a plan can number. What lies beneath a path of it may be as few as can be.
///
/// # Errors
/// [`Error::Refused`].
pub(super) fn require_countable(chosen: &Chosen, found: &Found) -> Result<()> {
    let entries = chosen.snapshot.counts.entries();
    if entries < u64::from(NONE) || !found.prefix().is_empty() {
        return Ok(());
    }
    Err(Error::Refused(format!(
        "the snapshot says that it holds {entries} entries, and no more than {NONE} can be restored at once: restore one directory after the other, {}",
        suggest!("restore {}:PATH --target DIRECTORY", chosen.id.short())
    )))
}
