//! What the destination holds already: which of its snapshots is the copy of which one of the source.
//!
//! A copy carries as `original` the first snapshot that its source was made from, or the source itself, so that the same
//! backup is known again over any number of copies, also when it is copied back. Among several with one original the copy is the
//! one that says the same about the backup: one that was rewritten holds other files. Tags and holds are each repository's
//! own business and are not compared.

use std::collections::{BTreeMap, HashMap};

use crate::base::id::ObjectId;
use crate::codec::snapshot::Snapshot;
use crate::repository::{self, Repository};

/// The first snapshot that one was made from.
pub(super) fn origin(id: ObjectId, snapshot: &Snapshot) -> ObjectId {
    snapshot.original.unwrap_or(id)
}

/// True when both say the same about the backup that they come from.
fn is_same(one: &Snapshot, other: &Snapshot) -> bool {
    one.time == other.time
        && one.written == other.written
        && one.host == other.host
        && one.user == other.user
        && one.paths == other.paths
        && one.label == other.label
        && one.options == other.options
        && one.outcome == other.outcome
        && one.problem_count == other.problem_count
        && one.counts == other.counts
}

/// The destination's live snapshots.
#[derive(Debug, Default)]
pub(super) struct Known {
    snapshots: BTreeMap<ObjectId, Option<Snapshot>>,
    by_origin: HashMap<ObjectId, Vec<ObjectId>>,
}

impl Known {
    /// Reads all. One that cannot be read is not known again: what it may be the copy of is copied once more.
    pub fn read(destination: &Repository) -> Self {
        let mut known = Self::default();
        for (id, error) in known.refresh(destination) {
            destination.warn(format!(
                "snapshot {} of the destination cannot be read ({error}): should it be a copy, that is made once more",
                id.short()
            ));
        }
        known
    }

    /// Reads those of the newest head that are new, and returns those that cannot be read.
    pub fn refresh(&mut self, destination: &Repository) -> Vec<(ObjectId, repository::Error)> {
        let live = destination.tip().state.snapshots.clone();
        self.snapshots.retain(|id, _| live.contains_key(id));
        let snapshots = &self.snapshots;
        self.by_origin.values_mut().for_each(|ids| ids.retain(|id| snapshots.contains_key(id)));
        let mut damaged = Vec::new();
        for id in live.into_keys().filter(|id| !snapshots.contains_key(id)).collect::<Vec<_>>() {
            match destination.snapshot(id) {
                Ok(snapshot) => {
                    self.by_origin.entry(origin(id, &snapshot)).or_default().push(id);
                    self.snapshots.insert(id, Some(snapshot));
                }
                Err(error) => {
                    damaged.push((id, error));
                    self.snapshots.insert(id, None);
                }
            }
        }
        damaged
    }

    fn of_origin(&self, origin: &ObjectId) -> impl Iterator<Item = (ObjectId, &Snapshot)> {
        let ids = self.by_origin.get(origin).into_iter().flatten();
        ids.filter_map(|id| Some((*id, self.snapshots.get(id)?.as_ref()?)))
    }

    /// The copy of a snapshot of the source.
    pub fn copy_of(&self, id: ObjectId, snapshot: &Snapshot) -> Option<(ObjectId, &Snapshot)> {
        self.of_origin(&origin(id, snapshot)).find(|(_, copy)| is_same(snapshot, copy))
    }

    /// Any snapshot that was made from the one of this id.
    pub fn made_from(&self, id: &ObjectId) -> Option<ObjectId> {
        self.of_origin(id).map(|(id, _)| id).next()
    }
}
