//! `tag`, `hold` and `release`: the same snapshot with other tags, held, or held no more.
//!
//! Snapshots never change, so each gets a new id; it remembers the first one that it comes from.

use super::Result;
use super::select::{self, Filter, SnapshotRef};
use crate::base::id::ObjectId;
use crate::codec::snapshot::Snapshot;
use crate::repository::replace::Replaced;
use crate::repository::{self, Repository};

/// What is to be changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// These tags and no others.
    Set(Vec<String>),
    /// Some more, and some fewer.
    Tags {
        /// Tags that are added at the end, unless they are there.
        add: Vec<String>,
        /// Tags that are taken away.
        remove: Vec<String>,
    },
    /// Whether rules may remove it.
    Held(bool),
}

impl Change {
    /// Changes the snapshot; false when it was so already.
    fn apply(&self, snapshot: &mut Snapshot) -> bool {
        let (tags, held) = (snapshot.tags.clone(), snapshot.held);
        match self {
            Self::Set(set) => snapshot.tags.clone_from(set),
            Self::Tags { add, remove } => {
                let missing = add.iter().filter(|tag| !tags.contains(tag));
                snapshot.tags.extend(missing.cloned());
                snapshot.tags.retain(|tag| !remove.contains(tag));
            }
            Self::Held(held) => snapshot.held = *held,
        }
        snapshot.tags != tags || snapshot.held != held
    }
}

/// What will be done.
#[derive(Debug, Default)]
pub struct Plan {
    /// Snapshots that change, by their present ids, and what they become.
    pub changes: Vec<(ObjectId, Snapshot)>,
    /// Snapshots that are so already.
    pub unchanged: usize,
    /// Snapshots that were meant, or may have been, and cannot be read.
    pub damaged: Vec<(ObjectId, repository::Error)>,
}

/// Works out which snapshots change: those named, else all that the filter lets through.
///
/// # Errors
/// As [`select::many`].
pub fn plan(repository: &Repository, names: &[SnapshotRef], filter: &Filter, change: &Change) -> Result<Plan> {
    repository.require_newest()?;
    let selection = select::many(repository, names, filter)?;
    let mut plan = Plan { damaged: selection.damaged, ..Plan::default() };
    for mut chosen in selection.chosen {
        if change.apply(&mut chosen.snapshot) {
            chosen.snapshot.original.get_or_insert(chosen.id);
            plan.changes.push((chosen.id, chosen.snapshot));
        } else {
            plan.unchanged += 1;
        }
    }
    Ok(plan)
}

/// Stores the changed snapshots and publishes them in one head; none when nothing changes.
///
/// # Errors
/// As [`Repository::replace_snapshots`].
pub fn execute(repository: &Repository, plan: &Plan) -> Result<Option<Replaced>> {
    if plan.changes.is_empty() {
        return Ok(None);
    }
    Ok(Some(repository.replace_snapshots(&plan.changes)?))
}
