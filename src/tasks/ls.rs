//! List files of a snapshot.

use super::environment::{Environment, repositories};
use super::failure::{Failure, Kind};
use super::report_warnings;
use super::snapshot_filter::SnapshotFilter;
use crate::codec::tree::{Entry, Node};
use crate::ops::ls::{self, Plan, Wanted};
use crate::ops::select::{Chosen, SnapshotArgument};
use crate::ops::tree_walk::Visited;
use crate::ops::{Monitor, Unread};
use crate::repository::Repository;
use crate::text::size;
use serde::Deserialize;
use std::cmp::Reverse;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// What entries are put in order by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sort {
    /// Path.
    #[default]
    Name,
    /// Size, the largest first.
    Size,
    /// Modification time, the newest first.
    Time,
    /// Change time, the newest first.
    Ctime,
    /// Extension.
    Extension,
}

/// What to list.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Request {
    /// The snapshot, or a part of it.
    #[serde(deserialize_with = "super::text_form::value")]
    pub snapshot: SnapshotArgument,
    /// Only what is in these directories.
    pub directories: Vec<PathBuf>,
    /// Which snapshots `latest` counts.
    pub filter: SnapshotFilter,
    /// What is in the given directories' directories too.
    pub recursive: bool,
    /// Order.
    pub sort: Sort,
    /// The other way round.
    pub reverse: bool,
}

/// What will be listed.
#[derive(Debug)]
pub struct Planned {
    repository: Repository,
    plan: Plan,
    sort: Sort,
    reverse: bool,
}

/// How the listing ended.
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

/// Opens the repository and finds what is to be listed.
///
/// # Errors
/// When the repository cannot be opened, or the snapshot or a directory of it is not there.
pub fn plan(request: &Request, environment: &Environment, monitor: &dyn Monitor) -> Result<Planned, Failure> {
    let repository = repositories::open_repository(environment, monitor, "ls")?;
    let wanted = Wanted {
        snapshot: request.snapshot.clone(),
        filter: request.filter.resolve(),
        directories: request.directories.iter().map(|path| path.as_os_str().as_bytes().to_vec()).collect(),
        recursive: request.recursive,
    };
    let plan = ls::plan(&repository, &wanted)?;
    report_warnings(&repository, monitor);
    Ok(Planned { repository, plan, sort: request.sort, reverse: request.reverse })
}

impl Planned {
    /// The snapshot.
    #[must_use]
    pub const fn chosen(&self) -> &Chosen {
        &self.plan.chosen
    }

    /// Hands every entry to `show`, in the order that was asked for. By name that is as they are read; for any other order all are kept
    /// first.
    ///
    /// # Errors
    /// An interruption, or nothing more can be read at all; what `show` returns. A listing that cannot be read is no failure but in
    /// [`Report::incomplete`].
    pub fn execute(
        &self,
        monitor: &dyn Monitor,
        show: &mut dyn FnMut(&Visited) -> Result<(), Failure>,
    ) -> Result<Report, Failure> {
        let Self { repository, plan, sort, reverse } = self;
        if *sort == Sort::Name && !reverse {
            let unread = ls::execute(repository, plan, &mut |visited| show(&visited), monitor)?;
            return Ok(Report { incomplete: incomplete(unread) });
        }
        let mut all = Vec::new();
        let mut keep = |visited| -> Result<(), Failure> {
            all.push(visited);
            Ok(())
        };
        let unread = ls::execute(repository, plan, &mut keep, monitor)?;
        put_in_order(&mut all, *sort);
        if *reverse {
            all.reverse();
        }
        all.iter().try_for_each(show)?;
        Ok(Report { incomplete: incomplete(unread) })
    }
}

/// What is said at the end when some listings could not be read.
pub(super) fn incomplete(unread: Unread) -> Option<Failure> {
    if unread.count == 0 {
        return None;
    }
    let count = size::counted(unread.count, "directory", "directories");
    Some(Failure::unread(unread.is_damage, format!("{count} cannot be read: what is shown above is not everything")))
}

/// Length of a file's content, in bytes; nothing else has one.
const fn length(entry: &Entry) -> u64 {
    match &entry.node {
        Node::File(content) => content.size,
        _ => 0,
    }
}

/// Largest and newest first, as restic and `ls` have it; names and extensions ascending.
fn put_in_order(all: &mut [Visited], by: Sort) {
    let extension = |visited: &Visited| {
        let name = &visited.entry.name;
        let dot = name.iter().rposition(|byte| *byte == b'.').filter(|dot| *dot > 0);
        dot.map_or_else(Vec::new, |dot| name[dot..].to_vec())
    };
    match by {
        Sort::Name => all.sort_by(|a, b| a.path.cmp(&b.path)),
        Sort::Size => all.sort_by_key(|visited| Reverse(length(&visited.entry))),
        Sort::Time => all.sort_by_key(|visited| Reverse(visited.entry.metadata.mtime)),
        Sort::Ctime => all.sort_by_key(|visited| Reverse(visited.entry.metadata.ctime)),
        Sort::Extension => all.sort_by_cached_key(extension),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::codec::tree::{Content, Metadata};

    fn visited(path: &str, size: u64) -> Visited {
        let node = Node::File(Content { size, ..Content::default() });
        let name = path.trim_start_matches('/').as_bytes().to_vec();
        Visited { path: path.as_bytes().to_vec(), entry: Entry { name, metadata: Metadata::default(), node } }
    }

    #[test]
    fn entries_are_put_in_order() {
        let sorted = |by| {
            let mut all = vec![visited("/b.a", 1), visited("/a.c", 3), visited("/c.b", 2)];
            put_in_order(&mut all, by);
            all.iter().map(|visited| char::from(visited.path[1])).collect::<String>()
        };
        assert_eq!(
            (sorted(Sort::Name), sorted(Sort::Size), sorted(Sort::Extension)),
            ("abc".into(), "acb".into(), "bca".into())
        );
        let request: Request = serde_json::from_str(r#"{"snapshot": "latest", "sort": "ctime"}"#).unwrap();
        assert_eq!(request.sort, Sort::Ctime);
    }
}
