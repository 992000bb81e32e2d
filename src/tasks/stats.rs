//! Show how much data snapshots hold, or what would become free without them.

use super::environment::{Environment, repositories};
use super::failure::{Failure, Kind};
use super::report_warnings;
use super::snapshot_filter::SnapshotFilter;
use crate::ops::select::SnapshotArgument;
use crate::ops::stats::{self, Wanted};
use crate::ops::{Monitor, freed};
use crate::repository::Repository;
use crate::text::size;
use serde::Deserialize;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// What a restore of each snapshot would write.
    #[default]
    RestoreSize,
    /// Files with the same content count once.
    FilesByContents,
    /// What the repository stores for them.
    RawData,
    /// What their chunks are, each counted once in each file.
    BlobsPerFile,
    /// What would become free without them: what nothing else needs.
    Freed,
}

/// What to count.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Request {
    /// Only these snapshots or parts of them.
    #[serde(deserialize_with = "super::text_form::list")]
    pub snapshots: Vec<SnapshotArgument>,
    /// What to count.
    pub mode: Mode,
    /// In the mode [`Mode::Freed`]: of each snapshot only what lies at these paths.
    pub only_paths: Vec<PathBuf>,
    /// Which snapshots.
    pub filter: SnapshotFilter,
}

/// The figures.
#[derive(Debug)]
pub enum Figures {
    /// How much there is.
    Counted(stats::Report),
    /// What would become free.
    Freed(freed::Report),
}

/// What was counted.
#[derive(Debug)]
pub struct Report {
    /// The figures.
    pub figures: Figures,
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

/// Counts.
///
/// # Errors
/// A usage error for paths in another mode than [`Mode::Freed`]; when the repository cannot be opened or a snapshot is not there. What
/// cannot be read is no failure but in the report; in the mode [`Mode::Freed`] it is one.
pub fn run(request: &Request, environment: &Environment, monitor: &dyn Monitor) -> Result<Report, Failure> {
    let mode = match request.mode {
        Mode::RestoreSize => Some(stats::Mode::RestoreSize),
        Mode::FilesByContents => Some(stats::Mode::FilesByContents),
        Mode::RawData => Some(stats::Mode::RawData),
        Mode::BlobsPerFile => Some(stats::Mode::ChunksPerFile),
        Mode::Freed => None,
    };
    if mode.is_some() && !request.only_paths.is_empty() {
        return Err(Failure::usage("--only-path goes with --mode freed").remedy("one part of one snapshot is ID:PATH"));
    }
    let repository = repositories::open_repository(environment, monitor, "stats")?;
    let Some(mode) = mode else {
        let wanted = freed::Wanted {
            snapshots: request.snapshots.clone(),
            filter: request.filter.resolve(),
            paths: request.only_paths.iter().map(|path| path.as_os_str().as_bytes().to_vec()).collect(),
        };
        let report = freed::run(&repository, &wanted, environment.packs.pack_bytes, monitor);
        report_warnings(&repository, monitor);
        return Ok(Report { figures: Figures::Freed(report?), incomplete: None });
    };
    let wanted = Wanted { snapshots: request.snapshots.clone(), filter: request.filter.resolve(), mode };
    let report = stats::run(&repository, &wanted, monitor);
    report_warnings(&repository, monitor);
    let report = report?;
    let incomplete = incomplete(request, &report, &repository);
    Ok(Report { figures: Figures::Counted(report), incomplete })
}

fn incomplete(request: &Request, report: &stats::Report, repository: &Repository) -> Option<Failure> {
    if report.unread.count == 0 {
        let newest = if request.snapshots.is_empty() { repository.require_newest() } else { Ok(()) };
        return newest.err().map(Failure::from);
    }
    let count = size::counted(report.unread.count, "snapshot or directory", "snapshots and directories");
    Some(Failure::unread(report.unread.is_damage, format!("{count} cannot be read and could not be counted")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_request_is_read_from_text() {
        let request: Request = serde_json::from_str(
            r#"{"snapshots": ["latest:/a"], "mode": "blobs-per-file", "filter": {"hosts": ["h"]}}"#,
        )
        .unwrap();
        assert_eq!((request.mode, request.snapshots.len(), request.filter.hosts.len()), (Mode::BlobsPerFile, 1, 1));
    }
}
