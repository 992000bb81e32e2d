//! List what vanished from the sources, and how to get it back.

use super::environment::{Environment, repositories};
use super::failure::{Failure, Kind};
use super::report_warnings;
use super::snapshot_filter::SnapshotFilter;
use crate::base::time::Time;
use crate::files::pattern::{Patterns, is_glob};
use crate::ops::deleted::{self, Cursor, Page, Part, Wanted};
use crate::ops::{Monitor, backup};
use serde::Deserialize;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Records of a page where nothing else is asked for.
pub const LIMIT: u32 = 1_000;
/// Most records of a page that may be asked for.
pub const LIMIT_MAX: u32 = 1_000_000;

/// What to look for, and which page of it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Request {
    /// Only this file, or what was in this directory; with `*`, `?`, `[...]` or `**` a pattern. A relative path begins in the current
    /// directory of this process.
    pub path: Option<PathBuf>,
    /// Only what was found gone at this time or later.
    #[serde(deserialize_with = "super::text_form::past_moment")]
    pub since: Option<Time>,
    /// Only what was found gone at this time or earlier.
    #[serde(deserialize_with = "super::text_form::past_moment")]
    pub until: Option<Time>,
    /// Also what is there again, and every deletion of the same path.
    pub all: bool,
    /// Most records, 1 to [`LIMIT_MAX`].
    pub limit: u32,
    /// Go on where a page ended.
    #[serde(deserialize_with = "super::text_form::option")]
    pub after: Option<Cursor>,
    /// Which snapshots.
    pub filter: SnapshotFilter,
}

impl Default for Request {
    fn default() -> Self {
        Self {
            path: None,
            since: None,
            until: None,
            all: false,
            limit: LIMIT,
            after: None,
            filter: SnapshotFilter::default(),
        }
    }
}

/// A page.
#[derive(Debug)]
pub struct Report {
    /// The page.
    pub page: Page,
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

/// Finds a page of deletions, the newest first.
///
/// # Errors
/// A usage error for a pattern that is not understood or a page that is too long; when the repository cannot be opened. A log, a snapshot
/// or a listing that cannot be read is no failure but in the report.
pub fn run(request: &Request, environment: &Environment, monitor: &dyn Monitor) -> Result<Report, Failure> {
    let part = request.path.as_deref().map(part).transpose()?;
    if !(1..=LIMIT_MAX).contains(&request.limit) {
        return Err(Failure::usage(format!("a page has 1 to {LIMIT_MAX} records")));
    }
    let repository = repositories::open_repository(environment, monitor, "deleted")?;
    let wanted = Wanted {
        filter: request.filter.resolve(),
        part,
        since: request.since,
        until: request.until,
        all: request.all,
        limit: request.limit as usize,
        after: request.after,
    };
    let page = deleted::page(&repository, &wanted, monitor)?;
    report_warnings(&repository, monitor);
    let incomplete = match page.damaged.split_first() {
        None => repository.require_newest().err().map(Failure::from),
        Some((first, others)) => {
            let more = match others.len() {
                0 => String::new(),
                more => format!(", and {more} more like it"),
            };
            Some(Failure::unread(page.has_damage, format!("some of it cannot be determined: {first}{more}")))
        }
    };
    Ok(Report { page, incomplete })
}

fn part(path: &Path) -> Result<Part, Failure> {
    let typed = path.as_os_str().as_bytes();
    if is_glob(typed) {
        let mut patterns = Patterns::new(false);
        patterns.add(typed)?;
        return Ok(Part::Matching(patterns));
    }
    let current = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
    let absolute = backup::absolute(&[path.to_path_buf()], &current).pop().unwrap_or_default();
    Ok(Part::Beneath(typed.to_vec(), absolute))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_request_is_read_from_text() {
        let request: Request =
            serde_json::from_str(r#"{"path": "/home", "since": "2026-01-01", "all": true}"#).unwrap();
        assert!(request.since.is_some() && request.all && request.limit == LIMIT);
        assert!(serde_json::from_str::<Request>(r#"{"after": "x"}"#).is_err());
    }

    #[test]
    fn a_path_is_told_from_a_pattern() {
        assert!(matches!(part(Path::new("/a/*.txt")), Ok(Part::Matching(_))));
        assert!(matches!(part(Path::new("/a/../b")), Ok(Part::Beneath(_, absolute)) if absolute == b"/b"));
        assert!(part(Path::new("[a")).is_err());
    }
}
