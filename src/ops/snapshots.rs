//! The list of snapshots: chosen by name and filter, put into groups, thinned to the newest of each.

use std::collections::BTreeMap;

use super::Result;
use super::order::Order;
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
    /// Only so many newest ones of each group of this kind.
    pub newest: Option<(usize, GroupBy)>,
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
    /// The groups, by key; without a kind of group one that holds all.
    pub groups: Vec<Group>,
    /// The order of all that can be read, listed or not.
    pub order: Order,
    /// Snapshots that cannot be read and so belong to no group.
    pub damaged: Vec<(ObjectId, repository::Error)>,
}

/// Lists snapshots.
///
/// # Errors
/// As [`select::many`].
pub fn list(repository: &Repository, wanted: &Wanted) -> Result<Report> {
    let selection = select::many(repository, &wanted.names, &wanted.filter)?;
    let mut chosen = selection.chosen;
    if let Some((newest, group_by)) = wanted.newest {
        let mut left: BTreeMap<GroupKey, usize> = BTreeMap::new();
        chosen.reverse();
        chosen.retain(|chosen| {
            let left = left.entry(group_by.key(&chosen.snapshot)).or_insert(newest);
            let stays = *left > 0;
            *left = left.saturating_sub(1);
            stays
        });
        chosen.reverse();
    }
    let mut groups: BTreeMap<GroupKey, Vec<Chosen>> = BTreeMap::new();
    for chosen in chosen {
        groups.entry(wanted.group_by.key(&chosen.snapshot)).or_default().push(chosen);
    }
    let groups = groups.into_iter().map(|(key, snapshots)| Group { key, snapshots }).collect();
    Ok(Report { groups, order: selection.order, damaged: selection.damaged })
}
