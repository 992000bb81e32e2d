//! Everything about one snapshot but its files.

use super::select::{self, Chosen, Filter, SnapshotRef};
use super::{Error, Result};
use crate::codec::snapshot::Problem;
use crate::repository::Repository;
use crate::repository::list_reader::Problems;

/// Finds the snapshot.
///
/// # Errors
/// As [`select::one`].
pub fn plan(repository: &Repository, name: &SnapshotRef, filter: &Filter) -> Result<Chosen> {
    select::one(repository, name, filter)
}

/// Hands every note of the snapshot to `show`: there may be a million.
///
/// # Errors
/// The damage, when the notes cannot be read; what `show` returns.
pub fn problems<E: From<Error>>(
    repository: &Repository,
    chosen: &Chosen,
    show: &mut dyn FnMut(Problem) -> std::result::Result<(), E>,
) -> std::result::Result<(), E> {
    for problem in Problems::new(repository, chosen.snapshot.problems.clone()) {
        show(problem.map_err(Error::from)?)?;
    }
    Ok(())
}
