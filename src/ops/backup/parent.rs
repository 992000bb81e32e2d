//! The snapshot that a backup compares with.

use crate::base::id::ObjectId;
use crate::codec::snapshot::Snapshot;

/// What snapshots must have in common to be parent and child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Group {
    /// The same host.
    pub host: bool,
    /// The same paths.
    pub paths: bool,
    /// The same tags.
    pub tags: bool,
    /// The same label.
    pub label: bool,
}

/// The newest readable snapshot of the group; the caller's list is oldest first. One with a time in the future counts
/// as well: what decides whether a file is unchanged is not the snapshot's time.
#[must_use]
pub fn newest<'a>(
    snapshots: impl DoubleEndedIterator<Item = (ObjectId, &'a Snapshot)>,
    group: Group,
    labels: &super::Labels,
) -> Option<ObjectId> {
    let mut paths = labels.paths.clone();
    paths.sort();
    let mut tags = labels.tags.clone();
    tags.sort();
    let fits = |snapshot: &Snapshot| {
        let sorted = |mut list: Vec<Vec<u8>>| {
            list.sort();
            list
        };
        let mut theirs = snapshot.tags.clone();
        theirs.sort();
        (!group.host || snapshot.host == labels.host)
            && (!group.paths || sorted(snapshot.paths.clone()) == paths)
            && (!group.tags || theirs == tags)
            && (!group.label || snapshot.label == labels.label)
    };
    snapshots.rev().find(|(_, snapshot)| fits(snapshot)).map(|(id, _)| id)
}
