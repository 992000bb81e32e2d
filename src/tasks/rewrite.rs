//! Rewrite: new snapshots without some of the paths of old ones.

use super::environment::{Environment, repositories};
use super::failure::{Failure, Kind};
use super::patterns::PatternRules;
use super::report_warnings;
use super::snapshot_filter::SnapshotFilter;
use crate::base::escape::escape;
use crate::ops::rewrite::{self, Options};
use crate::ops::select::{self, SnapshotRef};
use crate::ops::{Monitor, Problem, Subject};
use crate::repository::pack_writer::PackOptions;
use serde::Deserialize;

/// Which snapshots, and what is dropped.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Request {
    /// Only these; without any, all that the filter lets through.
    #[serde(deserialize_with = "super::text_form::list")]
    pub snapshots: Vec<SnapshotRef>,
    /// Which snapshots are meant where none is named, and which `latest` counts.
    pub filter: SnapshotFilter,
    /// What is dropped, by the paths in the snapshots.
    pub exclude: PatternRules,
    /// Remove the old snapshots, as a forget does.
    pub forget: bool,
    /// Change nothing, only say what would be done.
    pub dry_run: bool,
}

/// What was rewritten.
#[derive(Debug)]
pub struct Report {
    /// The rewriting's own report.
    pub report: rewrite::Report,
    is_whole: bool,
}

impl Report {
    /// How it ends. What was not named may not have been meant.
    #[must_use]
    pub fn kind(&self) -> Option<Kind> {
        (!self.is_whole).then_some(Kind::Damage)
    }
}

/// Makes the new snapshots and publishes them in one step.
///
/// # Errors
/// A usage error without a pattern; [`Kind::Damage`] when a listing cannot be read: then nothing was published.
pub fn run(request: &Request, environment: &Environment, monitor: &dyn Monitor) -> Result<Report, Failure> {
    let patterns = request.exclude.read()?;
    if patterns.is_empty() {
        return Err(Failure::usage("nothing to drop: give --exclude, --iexclude or a file of them"));
    }
    let repository = repositories::open_repository(environment, monitor, "rewrite")?;
    repository.require_newest()?;
    let selection = select::many(&repository, &request.snapshots, &request.filter.resolve())?;
    report_warnings(&repository, monitor);
    for (id, error) in &selection.damaged {
        let message = format!("snapshot {} cannot be read ({error}): it stays as it is", id.short());
        monitor.problem(&Problem::warning(Subject::Stored, &message));
    }
    let options = Options {
        said: request.exclude.given().iter().map(|text| format!("--exclude={}", escape(text))).collect(),
        excludes: [patterns.exact, patterns.ignoring_case],
        replace: request.forget,
        packs: PackOptions { discard: request.dry_run, ..environment.packs },
    };
    let report = rewrite::run(&repository, &selection, &options, monitor)?;
    for warning in &report.warnings {
        monitor.problem(&Problem::warning(Subject::Stored, warning));
    }
    Ok(Report { report, is_whole: selection.damaged.is_empty() || request.snapshots.is_empty() })
}
