//! Files by name, in many snapshots.

use super::select::{self, Chosen, Filter, Selection, SnapshotRef};
use super::tree_walk::{TreeWalk, Visited};
use super::{Error, Monitor, Problem, Result, Severity, Unread};
use crate::base::time::Time;
use crate::files::pattern::Patterns;
use crate::repository::Repository;

/// What to look for.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The patterns: a path that one of them matches, or that lies beneath a match, is found.
    pub patterns: Patterns,
    /// Modified at this time or later.
    pub oldest: Option<Time>,
    /// Modified at this time or earlier.
    pub newest: Option<Time>,
}

/// The snapshots to look in, newest first, or oldest first with `reverse`.
///
/// # Errors
/// As [`select::many`].
pub fn snapshots(repository: &Repository, names: &[SnapshotRef], filter: &Filter, reverse: bool) -> Result<Selection> {
    let mut selection = select::many(repository, names, filter)?;
    if !reverse {
        selection.chosen.reverse();
    }
    Ok(selection)
}

/// Hands every match in one snapshot to `show` and problems to the monitor. Returns the listings that
/// could not be read.
///
/// # Errors
/// What `show` returns; [`Error::Interrupted`].
pub fn execute<E: From<Error>>(
    repository: &Repository,
    chosen: &Chosen,
    wanted: &Wanted,
    show: &mut dyn FnMut(Visited) -> std::result::Result<(), E>,
    monitor: &dyn Monitor,
) -> std::result::Result<Unread, E> {
    let mut unread = Unread::default();
    let mut walk = TreeWalk::new(repository, &chosen.snapshot, b"", chosen.snapshot.root.clone());
    while let Some(next) = walk.next() {
        if monitor.interrupted() {
            return Err(Error::Interrupted.into());
        }
        let visited = match next {
            Ok(visited) => visited,
            Err(error) => {
                let error = error.passable()?;
                unread.add(&error);
                monitor.problem(&Problem::new(Severity::Error, b"", &error.to_string()));
                continue;
            }
        };
        let answer = wanted.patterns.check(&visited.path);
        if !answer.matched && !answer.children_may_match {
            walk.skip_children();
        }
        let mtime = visited.entry.metadata.mtime;
        let in_time =
            wanted.oldest.is_none_or(|oldest| mtime >= oldest) && wanted.newest.is_none_or(|newest| mtime <= newest);
        if answer.matched && in_time {
            show(visited)?;
        }
    }
    Ok(unread)
}
