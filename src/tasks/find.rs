//! Find files by name in snapshots.

use super::environment::{Environment, repositories};
use super::failure::{Failure, Kind};
use super::ls::incomplete;
use super::report_warnings;
use super::snapshot_filter::SnapshotFilter;
use crate::base::time::Time;
use crate::files::pattern::Patterns;
use crate::ops::find::{self, Wanted};
use crate::ops::select::{Chosen, Selection, SnapshotRef};
use crate::ops::tree_walk::Visited;
use crate::ops::{Monitor, Unread};
use crate::repository::Repository;
use crate::text::size;
use serde::Deserialize;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// What to look for, and where.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Request {
    /// The patterns, at least one. They are paths because names need not be UTF-8.
    pub patterns: Vec<PathBuf>,
    /// Only in these snapshots.
    #[serde(deserialize_with = "super::text_form::list")]
    pub snapshots: Vec<SnapshotRef>,
    /// Which snapshots.
    pub filter: SnapshotFilter,
    /// Only files modified at this time or later.
    #[serde(deserialize_with = "super::text_form::moment")]
    pub oldest: Option<Time>,
    /// Only files modified at this time or earlier.
    #[serde(deserialize_with = "super::text_form::moment")]
    pub newest: Option<Time>,
    /// Upper and lower case are the same.
    pub ignore_case: bool,
    /// Newest snapshots last.
    pub reverse: bool,
}

/// What happens on the way.
#[derive(Debug)]
pub enum Event<'a> {
    /// An entry of this snapshot was found.
    Found(&'a Chosen, Box<Visited>),
    /// All of this snapshot was looked through, and so many entries were found.
    Searched(&'a Chosen, u64),
}

/// The snapshots to look in.
#[derive(Debug)]
pub struct Planned {
    repository: Repository,
    wanted: Wanted,
    selection: Selection,
    /// Who named some has seen them; a search of all lacks what only the newest head names.
    needs_newest: bool,
}

/// How the search ended.
#[derive(Debug, Default)]
pub struct Report {
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

/// Opens the repository and chooses the snapshots.
///
/// # Errors
/// A usage error without a pattern, or for one that is not understood; when the repository cannot be opened or a snapshot is not there.
pub fn plan(request: &Request, environment: &Environment, monitor: &dyn Monitor) -> Result<Planned, Failure> {
    let mut patterns = Patterns::new(request.ignore_case);
    for pattern in &request.patterns {
        patterns.add(pattern.as_os_str().as_bytes())?;
    }
    if request.patterns.is_empty() {
        return Err(Failure::usage("nothing to look for: no pattern is given"));
    }
    let wanted = Wanted { patterns, oldest: request.oldest, newest: request.newest };
    let repository = repositories::open_repository(environment, monitor, "find")?;
    let selection = find::snapshots(&repository, &request.snapshots, &request.filter.resolve(), request.reverse)?;
    report_warnings(&repository, monitor);
    Ok(Planned { repository, wanted, selection, needs_newest: request.snapshots.is_empty() })
}

impl Planned {
    /// Looks through all of them, and hands to `show` what was found.
    ///
    /// # Errors
    /// An interruption, or nothing more can be read at all; what `show` returns. A snapshot or a listing that cannot be read is no failure
    /// but in [`Report::incomplete`].
    pub fn execute(
        &self,
        monitor: &dyn Monitor,
        show: &mut dyn FnMut(Event<'_>) -> Result<(), Failure>,
    ) -> Result<Report, Failure> {
        let mut unread = Unread::default();
        for chosen in &self.selection.chosen {
            let mut hits = 0;
            let mut found = |visited| {
                hits += 1;
                show(Event::Found(chosen, Box::new(visited)))
            };
            unread.join(find::execute(&self.repository, chosen, &self.wanted, &mut found, monitor)?);
            show(Event::Searched(chosen, hits))?;
        }
        Ok(Report { incomplete: self.incomplete(unread) })
    }

    fn incomplete(&self, unread: Unread) -> Option<Failure> {
        let damaged = &self.selection.damaged;
        if let Some((id, error)) = damaged.first() {
            let count = size::counted(damaged.len() as u64, "snapshot", "snapshots");
            let is_damage = unread.is_damage || damaged.iter().any(|(_, error)| error.is_damage());
            return Some(Failure::unread(is_damage, format!("{count} cannot be read: {} ({error})", id.short())));
        }
        let newest = if self.needs_newest { self.repository.require_newest() } else { Ok(()) };
        match newest {
            Err(error) => Some(error.into()),
            Ok(()) => incomplete(unread),
        }
    }
}
