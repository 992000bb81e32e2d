//! Hold: no rule of a forget removes a held snapshot until it is released.

use super::environment::Environment;
use super::failure::Failure;
pub use super::tag::Report;
use super::tag::change_snapshots;
use crate::ops::Monitor;
use crate::ops::retag::Change;
use crate::ops::select::{Filter, SnapshotRef};
use serde::Deserialize;

/// Which snapshots are held or released.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Request {
    /// The snapshots, at least one.
    #[serde(deserialize_with = "super::text_form::list")]
    pub snapshots: Vec<SnapshotRef>,
    /// Change nothing, only say what would be done.
    pub dry_run: bool,
}

/// Holds the snapshots.
///
/// # Errors
/// When a snapshot is not there, or the change cannot be published.
pub fn hold(request: &Request, environment: &Environment, monitor: &dyn Monitor) -> Result<Report, Failure> {
    set_held("hold", true, request, environment, monitor)
}

/// Releases the snapshots.
///
/// # Errors
/// As [`hold`].
pub fn release(request: &Request, environment: &Environment, monitor: &dyn Monitor) -> Result<Report, Failure> {
    set_held("release", false, request, environment, monitor)
}

fn set_held(
    command: &str,
    held: bool,
    request: &Request,
    environment: &Environment,
    monitor: &dyn Monitor,
) -> Result<Report, Failure> {
    let Request { snapshots, dry_run } = request;
    // Without a name all would be meant.
    if snapshots.is_empty() {
        return Err(Failure::usage("no snapshot is named: nothing was changed"));
    }
    change_snapshots(command, (snapshots, &Filter::default()), &Change::Held(held), *dry_run, environment, monitor)
}
