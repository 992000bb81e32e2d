//! List snapshots.

use super::environment::{Environment, repositories};
use super::failure::{Failure, Kind};
use super::report_warnings;
use super::snapshot_filter::SnapshotFilter;
use crate::ops::Monitor;
use crate::ops::select::{GroupBy, SnapshotRef};
use crate::ops::snapshots::{self, Wanted};
use crate::repository::Repository;
use crate::text::size;
use serde::Deserialize;

/// Which snapshots, and how they are put together.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Request {
    /// Only these.
    #[serde(deserialize_with = "super::text_form::list")]
    pub snapshots: Vec<SnapshotRef>,
    /// Which snapshots.
    pub filter: SnapshotFilter,
    /// Only so many newest ones of each group, by host and paths unless [`Request::group_by`] is given.
    pub latest: Option<u32>,
    /// In groups with the same host, paths, tags or label: `"host,paths"`.
    #[serde(deserialize_with = "super::text_form::option")]
    pub group_by: Option<GroupBy>,
}

/// The list.
#[derive(Debug)]
pub struct Report {
    /// What was found.
    pub report: snapshots::Report,
    /// It is in groups that have something in common. Otherwise one group holds all.
    pub is_grouped: bool,
    /// Why the result is not complete. A face shows this after the result.
    pub incomplete: Option<Failure>,
}

impl Report {
    /// How it ends.
    #[must_use]
    pub fn kind(&self) -> Option<Kind> {
        self.incomplete.as_ref().map(Failure::kind)
    }
}

/// Lists snapshots.
///
/// # Errors
/// When the repository cannot be opened, or a snapshot that is named is not there. One that cannot be read is no failure but in the
/// report.
pub fn run(request: &Request, environment: &Environment, monitor: &dyn Monitor) -> Result<Report, Failure> {
    let repository = repositories::open_repository(environment, monitor, "snapshots")?;
    let group_by = request.group_by.unwrap_or_default();
    let newest_of = request.group_by.unwrap_or(GroupBy::HOST_AND_PATHS);
    let wanted = Wanted {
        names: request.snapshots.clone(),
        filter: request.filter.resolve(),
        newest: request.latest.map(|newest| (newest as usize, newest_of)),
        group_by,
    };
    let report = snapshots::list(&repository, &wanted)?;
    report_warnings(&repository, monitor);
    let incomplete = incomplete(request, &report, &repository);
    Ok(Report { report, is_grouped: group_by != GroupBy::default(), incomplete })
}

fn incomplete(request: &Request, report: &snapshots::Report, repository: &Repository) -> Option<Failure> {
    if report.damaged.is_empty() {
        // Who named some has seen them; a list of all lacks what only the newest head names.
        let newest = if request.snapshots.is_empty() { repository.require_newest() } else { Ok(()) };
        return newest.err().map(Failure::from);
    }
    let named: Vec<String> = report.damaged.iter().map(|(id, error)| format!("{} ({error})", id.short())).collect();
    let count = size::counted(named.len() as u64, "snapshot", "snapshots");
    let is_damage = report.damaged.iter().any(|(_, error)| error.is_damage());
    Some(Failure::unread(is_damage, format!("{count} cannot be read: {}", named.join(", "))))
}
