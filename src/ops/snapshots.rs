//! The list of snapshots: chosen by name and filter, put into groups, thinned to the newest of each.

use std::collections::BTreeMap;

use super::Result;
use super::select::{self, Chosen, Filter, GroupBy, GroupKey, SnapshotRef};
use crate::base::id::ObjectId;
use crate::repository::{self, Repository};

/// Which snapshots are listed, and how.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Only these; empty for all.
    pub names: Vec<SnapshotRef>,
    /// What the others are chosen by.
    pub filter: Filter,
    /// Only so many newest ones of each group.
    pub newest: Option<usize>,
    /// What groups are made by.
    pub group_by: GroupBy,
}

/// The snapshots of one group, oldest first.
#[derive(Debug)]
pub struct Group {
    /// What they have in common.
    pub key: GroupKey,
    /// The snapshots.
    pub snapshots: Vec<Chosen>,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Report {
    /// The groups, by key.
    pub groups: Vec<Group>,
    /// Snapshots that cannot be read and so belong to no group.
    pub damaged: Vec<(ObjectId, repository::Error)>,
}

/// Lists snapshots.
///
/// # Errors
/// As [`select::many`].
pub fn list(repository: &Repository, wanted: &Wanted) -> Result<Report> {
    let selection = select::many(repository, &wanted.names, &wanted.filter)?;
    let mut groups: BTreeMap<GroupKey, Vec<Chosen>> = BTreeMap::new();
    for chosen in selection.chosen {
        groups.entry(wanted.group_by.key(&chosen.snapshot)).or_default().push(chosen);
    }
    if let Some(newest) = wanted.newest {
        for snapshots in groups.values_mut() {
            snapshots.drain(..snapshots.len().saturating_sub(newest));
        }
    }
    let groups = groups.into_iter().map(|(key, snapshots)| Group { key, snapshots }).collect();
    Ok(Report { groups, damaged: selection.damaged })
}
