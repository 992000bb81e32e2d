//! Tag: other tags for snapshots. A snapshot never changes, so each gets a new id.

use super::environment::{Environment, repositories};
use super::failure::{Failure, Kind};
use super::report_warnings;
use super::snapshot_filter::SnapshotFilter;
use crate::base::id::ObjectId;
use crate::ops::retag::{self, Change};
use crate::ops::select::{Filter, SnapshotRef, TagList};
use crate::ops::{Monitor, Problem, Subject};
use serde::Deserialize;

/// Which snapshots, and how their tags change. Each list of tags is one text: `"a,b"`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Request {
    /// Only these; without any, all that the filter lets through.
    #[serde(deserialize_with = "super::text_form::list")]
    pub snapshots: Vec<SnapshotRef>,
    /// Which snapshots are meant where none is named, and which `latest` counts.
    pub filter: SnapshotFilter,
    /// Tags to add.
    #[serde(deserialize_with = "super::text_form::list")]
    pub add: Vec<TagList>,
    /// Tags to take away.
    #[serde(deserialize_with = "super::text_form::list")]
    pub remove: Vec<TagList>,
    /// Have these tags and no others; one empty list for none. Nothing may be added or taken away beside it.
    #[serde(deserialize_with = "super::text_form::list")]
    pub set: Vec<TagList>,
    /// Change nothing, only say what would be done.
    pub dry_run: bool,
}

/// What was changed.
#[derive(Debug)]
pub struct Report {
    /// The snapshots that change, and those that do not.
    pub plan: retag::Plan,
    /// Old and new ids; none in a dry run.
    pub changed: Vec<(ObjectId, ObjectId)>,
    is_named: bool,
}

impl Report {
    /// How it ends. What was not named may not have been meant.
    #[must_use]
    pub fn kind(&self) -> Option<Kind> {
        let is_damage = self.plan.damaged.iter().any(|(_, error)| error.is_damage());
        let is_whole = self.plan.damaged.is_empty() || !self.is_named;
        (!is_whole).then(|| Kind::of_unread(is_damage))
    }
}

/// Changes the tags, in one step for all snapshots.
///
/// # Errors
/// A usage error when there is nothing to change; when a snapshot is not there, or the change cannot be published.
pub fn run(request: &Request, environment: &Environment, monitor: &dyn Monitor) -> Result<Report, Failure> {
    let change = request.change()?;
    let (snapshots, filter) = (&request.snapshots, request.filter.resolve());
    change_snapshots("tag", (snapshots, &filter), &change, request.dry_run, environment, monitor)
}

/// Gives the snapshots that are named, or all that the filter lets through, the change.
pub(super) fn change_snapshots(
    command: &str,
    (snapshots, filter): (&[SnapshotRef], &Filter),
    change: &Change,
    dry_run: bool,
    environment: &Environment,
    monitor: &dyn Monitor,
) -> Result<Report, Failure> {
    let repository = repositories::open_repository(environment, monitor, command)?;
    let plan = retag::plan(&repository, snapshots, filter, change)?;
    report_warnings(&repository, monitor);
    for (id, error) in &plan.damaged {
        let message = format!("snapshot {} cannot be read ({error}): it stays as it is", id.short());
        monitor.problem(&Problem::warning(Subject::Stored, &message));
    }
    let replaced = if dry_run { None } else { retag::execute(&repository, &plan)? };
    let changed = replaced.map(|replaced| replaced.snapshots).unwrap_or_default();
    Ok(Report { plan, changed, is_named: !snapshots.is_empty() })
}

impl Request {
    fn change(&self) -> Result<Change, Failure> {
        let Self { add, remove, set, .. } = self;
        match (set.is_empty(), add.is_empty() && remove.is_empty()) {
            (false, true) => Ok(Change::Set(join(set))),
            (true, false) => Ok(Change::Tags { add: join(add), remove: join(remove) }),
            (true, true) => Err(Failure::usage("nothing to change: give --add, --remove or --set")),
            (false, false) => Err(Failure::usage("either tags are set, or some are added or removed, not both")),
        }
    }
}

/// The tags of all lists, each once.
fn join(lists: &[TagList]) -> Vec<String> {
    let mut tags: Vec<String> = Vec::new();
    for tag in lists.iter().flat_map(|TagList(list)| list) {
        if !tags.contains(tag) {
            tags.push(tag.clone());
        }
    }
    tags
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_request_changes_tags_in_one_way() {
        let change = |text: &str| serde_json::from_str::<Request>(text).unwrap().change().ok();
        let tags = |list: &[&str]| list.iter().map(|tag| (*tag).to_owned()).collect::<Vec<_>>();
        assert_eq!(change(r#"{"set": ["a,b", "b"]}"#), Some(Change::Set(tags(&["a", "b"]))));
        assert_eq!(change(r#"{"set": [""]}"#), Some(Change::Set(Vec::new())));
        let both = Change::Tags { add: tags(&["a"]), remove: tags(&["b"]) };
        assert_eq!(change(r#"{"add": ["a"], "remove": ["b"]}"#), Some(both));
        for text in ["{}", r#"{"set": ["a"], "add": ["b"]}"#] {
            assert_eq!(change(text), None, "{text}");
        }
    }
}
