//! How much of what the process has a restore takes: threads, and files that are kept open.

use crate::base::shortage::share_of_open_files;

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
