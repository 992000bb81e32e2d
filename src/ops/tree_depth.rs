//! How deep a tree may be: one question for everything that goes down a stored tree. format-spec/limits.md, "Depth of a tree".
//!
//! The depth of a directory is the number of names that lead to it from the snapshot's root. A writer stores no directory
//! deeper than [`DIRECTORY_DEPTH_MAX`], and no reader opens the listing of one. Where a listing is not gone through because it is
//! known already, its height (how many directories lie below it, one in the other) is counted in its place.

use super::{Error, Result};
use crate::base::escape::Escaped;
use crate::codec::tree::DIRECTORY_DEPTH_MAX;

/// Bytes of a path that are shown.
const PATH_SHOWN: usize = 80;

/// How many names a path has, with a slash before each.
pub fn depth_of(path: &[u8]) -> usize {
    path.iter().filter(|byte| **byte == b'/').count()
}

/// Refuses a directory at `path` (a slash before each name) when it, or what lies `beneath` it, is too deep. Names that lead to where the
/// path begins count as well as directories beneath its end.
///
/// # Errors
/// [`Error::Refused`]: no stored byte is damaged, and nothing is to be healed.
pub fn check_depth(path: &[u8], beneath: usize) -> Result<()> {
    let depth = depth_of(path).saturating_add(beneath);
    if depth <= DIRECTORY_DEPTH_MAX {
        return Ok(());
    }
    let (shown, more) = match path.get(..PATH_SHOWN) {
        Some(beginning) => (beginning, "..."),
        None => (path, ""),
    };
    Err(Error::Refused(format!("{}{more}: {depth} directories deep, and {}", Escaped(shown), too_deep("the snapshot"))))
}

/// Directories in each other whose listings keep what they have read ([`crate::repository::list_reader::Listing::let_go`]).
const OPEN_MAX: usize = 32;

/// Of directories that are open, the topmost first, the one that is too far above for its listing to keep what it has read. Asked whenever one is entered.
pub fn far_above<T>(levels: &mut [T]) -> Option<&mut T> {
    let far = levels.len().checked_sub(OPEN_MAX + 1)?;
    levels.get_mut(far)
}

/// The end of a sentence about a tree that is too deep.
pub fn too_deep(what: &str) -> String {
    format!(
        "{DIRECTORY_DEPTH_MAX} is the limit of the format: {what} is refused. Nothing of it is damaged; what lies higher comes back \
         by a restore that leaves out with --exclude what is too deep"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_what_lies_beneath_are_counted() {
        let deep = |names: usize| b"/d".repeat(names);
        for (names, beneath, fits) in [
            (0, 0, true),
            (DIRECTORY_DEPTH_MAX, 0, true),
            (DIRECTORY_DEPTH_MAX + 1, 0, false),
            (DIRECTORY_DEPTH_MAX - 7, 7, true),
            (DIRECTORY_DEPTH_MAX - 7, 8, false),
            (0, usize::MAX, false),
        ] {
            assert_eq!(check_depth(&deep(names), beneath).is_ok(), fits, "{names} {beneath}");
        }
    }
}
