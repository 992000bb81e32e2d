//! The entries of a snapshot.

use super::part::Part;
use super::select::{self, Chosen, Filter, SnapshotArgument};
use super::tree_walk::{TreeWalk, Visited};
use super::{Error, Monitor, Result, Unread};
use crate::repository::Repository;

/// What to list.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The snapshot, or a part of it.
    pub snapshot: SnapshotArgument,
    /// What `latest` counts.
    pub filter: Filter,
    /// Only these directories, beneath the part; empty for everything.
    pub directories: Vec<Vec<u8>>,
    /// What is in their directories too.
    pub recursive: bool,
}

/// One thing to list: a directory with what is in it, or a file alone.
#[derive(Debug)]
struct Start {
    found: select::Found,
    recursive: bool,
    /// The directory itself is an entry too.
    itself: bool,
}

/// What will be listed.
#[derive(Debug)]
pub struct Plan {
    /// The snapshot.
    pub chosen: Chosen,
    starts: Vec<Start>,
}

/// Finds what is to be listed.
///
/// # Errors
/// As [`select::argument`], and [`select::find_path`] for the directories.
pub fn plan(repository: &Repository, wanted: &Wanted) -> Result<Plan> {
    let (chosen, found) = select::argument(repository, &wanted.snapshot, &wanted.filter)?;
    if wanted.directories.is_empty() {
        let itself = found.listing().is_none();
        return Ok(Plan { chosen, starts: vec![Start { found, recursive: true, itself }] });
    }
    let mut starts: Vec<Start> = Vec::new();
    for directory in &wanted.directories {
        let path = match directory.first() {
            Some(b'/') => directory.clone(),
            _ if wanted.snapshot.path.is_some() => [found.prefix(), b"/", directory].concat(),
            _ => directory.clone(),
        };
        let inner = select::find_path(repository, &chosen, &path)?;
        let is_new = starts.iter().all(|start| start.found.path != inner.path);
        let itself = inner.entry().is_some();
        if is_new {
            starts.push(Start { found: inner, recursive: wanted.recursive, itself });
        }
    }
    Ok(Plan { chosen, starts })
}

/// Hands every entry to `show`, directories before what is in them, and problems to the monitor. Returns the
/// listings that could not be read.
///
/// # Errors
/// What `show` returns; [`Error::Interrupted`].
pub fn execute<E: From<Error>>(
    repository: &Repository,
    plan: &Plan,
    show: &mut dyn FnMut(Visited) -> std::result::Result<(), E>,
    monitor: &dyn Monitor,
) -> std::result::Result<Unread, E> {
    let mut unread = Unread::default();
    for start in &plan.starts {
        if start.itself
            && let Part::Entry(entry) = &start.found.part
        {
            show(Visited { path: start.found.path.clone(), entry: entry.clone() })?;
        }
        let Some(listing) = start.found.listing() else { continue };
        let mut walk = TreeWalk::new(repository, &plan.chosen.snapshot, start.found.prefix(), listing.clone());
        while let Some(next) = walk.next() {
            if monitor.interrupted() {
                return Err(Error::Interrupted.into());
            }
            match next {
                Ok(visited) => {
                    if !start.recursive {
                        walk.skip_children();
                    }
                    show(visited)?;
                }
                Err(error) => {
                    let error = error.passable()?;
                    unread.add(&error);
                    monitor.problem(&super::Problem::new(super::Severity::Error, b"", &error.to_string()));
                }
            }
        }
    }
    Ok(unread)
}
