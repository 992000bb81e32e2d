//! Make new snapshots without the files that are lost.

use crate::ops::repair_snapshots::{self, Lost, Options};
use crate::ops::select::{self, SnapshotRef};
use crate::ops::{Monitor, Problem, Subject};
use crate::repository::pack_writer::PackOptions;
use crate::tasks::environment::{Environment, repositories};
use crate::tasks::failure::{Failure, Kind};
use crate::tasks::report_warnings;
use crate::tasks::snapshot_filter::SnapshotFilter;
use serde::Deserialize;

/// Which snapshots.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Request {
    /// Only these; without any, all that the filter lets through.
    #[serde(deserialize_with = "crate::tasks::text_form::list")]
    pub snapshots: Vec<SnapshotRef>,
    /// Which snapshots are meant where none is named, and which `latest` counts.
    pub filter: SnapshotFilter,
    /// Remove the old snapshots, as a forget does.
    pub forget: bool,
    /// Change nothing, only find out what is lost.
    pub dry_run: bool,
}

/// What was done.
#[derive(Debug)]
pub struct Report {
    /// The repair's own report.
    pub report: repair_snapshots::Report,
    is_unusable: bool,
}

impl Report {
    /// How it ends.
    #[must_use]
    pub fn kind(&self) -> Option<Kind> {
        self.is_unusable.then_some(Kind::Damage)
    }
}

/// Makes the new snapshots and publishes them in one step. `lost` is told of every lost path before that.
///
/// # Errors
/// When the repository cannot be opened, or the repair cannot be published.
pub fn run(
    request: &Request,
    environment: &Environment,
    monitor: &dyn Monitor,
    lost: Lost<'_>,
) -> Result<Report, Failure> {
    let repository = repositories::open_repository(environment, monitor, "repair snapshots")?;
    repository.require_newest()?;
    let selection = select::many(&repository, &request.snapshots, &request.filter.resolve())?;
    report_warnings(&repository, monitor);
    for (id, error) in &selection.damaged {
        let message =
            format!("snapshot {} cannot be read ({error}): there is nothing to make a new one of", id.short());
        monitor.problem(&Problem::warning(Subject::Stored, &message));
    }
    let packs = PackOptions { discard: request.dry_run, ..environment.packs };
    let options = Options { replace: request.forget, packs };
    let report = repair_snapshots::run(&repository, &selection, options, monitor, lost)?;
    for warning in &report.warnings {
        monitor.problem(&Problem::warning(Subject::Stored, warning));
    }
    let is_unusable = !selection.damaged.is_empty() || report.changes.iter().any(|change| change.all_lost);
    Ok(Report { report, is_unusable })
}
