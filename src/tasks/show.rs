//! Show a snapshot's facts and notes: what could not be read, what changed while it was read.

use super::environment::{Environment, repositories};
use super::failure::Failure;
use super::report_warnings;
use super::snapshot_filter::SnapshotFilter;
use crate::codec::snapshot::Problem;
use crate::ops::Monitor;
use crate::ops::select::{Chosen, SnapshotRef};
use crate::ops::show;
use crate::repository::Repository;
use serde::Deserialize;

/// Which snapshot.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Request {
    /// The snapshot.
    #[serde(deserialize_with = "super::text_form::value")]
    pub snapshot: SnapshotRef,
    /// Which snapshots `latest` counts.
    pub filter: SnapshotFilter,
}

/// The snapshot that was found.
#[derive(Debug)]
pub struct Planned {
    repository: Repository,
    chosen: Chosen,
}

/// Opens the repository and finds the snapshot.
///
/// # Errors
/// When the repository cannot be opened, or the snapshot is not there or cannot be read.
pub fn plan(request: &Request, environment: &Environment, monitor: &dyn Monitor) -> Result<Planned, Failure> {
    let repository = repositories::open_repository(environment, monitor, "show")?;
    let chosen = show::plan(&repository, &request.snapshot, &request.filter.resolve())?;
    report_warnings(&repository, monitor);
    Ok(Planned { repository, chosen })
}

impl Planned {
    /// The snapshot, with its facts.
    #[must_use]
    pub const fn chosen(&self) -> &Chosen {
        &self.chosen
    }

    /// Hands every note of it to `show`: there may be a million.
    ///
    /// # Errors
    /// When the notes cannot be read; what `show` returns.
    pub fn execute(&self, show: &mut dyn FnMut(Problem) -> Result<(), Failure>) -> Result<(), Failure> {
        show::problems(&self.repository, &self.chosen, show)
    }
}
