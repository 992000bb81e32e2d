//! The snapshot that a backup compares with.

use super::{Labels, lacks_source};
use crate::base::id::ObjectId;
use crate::ops::Result;
use crate::ops::select::{self, Filter, GroupBy, SnapshotRef};
use crate::repository::Repository;

/// The snapshot that is named; without a name the newest of the group that the backup belongs to, if there is one. One with a time
/// in the future counts as well: what decides whether a file is unchanged is not the snapshot's time. One that cannot be
/// read is passed over unless it was named, or may be the one that was.
///
/// # Errors
/// As [`select::one`] for what is named.
pub fn choose(
    repository: &Repository,
    named: Option<&SnapshotRef>,
    group_by: GroupBy,
    labels: &Labels,
) -> Result<Option<ObjectId>> {
    if let Some(name) = named {
        return Ok(Some(select::one(repository, name, &Filter::default())?.id));
    }
    let group = group_by.key_of(&labels.host, &labels.paths, &labels.tags, &labels.label);
    let everything = select::all(repository, &Filter::default())?;
    let of_group = || everything.chosen.iter().rev().filter(|chosen| group_by.key(&chosen.snapshot) == group);
    let whole = of_group().find(|chosen| !lacks_source(repository, &chosen.snapshot));
    Ok(whole.or_else(|| of_group().next()).map(|chosen| chosen.id))
}
