//! Snapshots that take the place of others with the same content: other tags, held or released.
//!
//! Order: the new snapshots, each durable under its name; then one head in which they are live, with the arrival of those
//! that they replace, and those are marked. A crash before the head leaves snapshots that no head names.

use super::error::{Error, Result};
use super::{Repository, random};
use crate::base::id::ObjectId;
use crate::codec::head::HeadRef;
use crate::codec::live_state::{MarkedKind, SnapshotEntry};
use crate::codec::snapshot::{self, Snapshot};
use crate::storage::ObjectName;

/// What took whose place.
#[derive(Debug, Clone)]
pub struct Replaced {
    /// The head that says so.
    pub head: HeadRef,
    /// Old and new ids, in the order given.
    pub snapshots: Vec<(ObjectId, ObjectId)>,
}

impl Repository {
    /// Puts new snapshots in the place of old ones.
    ///
    /// # Errors
    /// [`Error::Overtaken`] when one of the old ones is live no more, [`Error::Invalid`] for what the format cannot hold;
    /// any error means that nothing changed.
    pub fn replace_snapshots(&self, changes: &[(ObjectId, Snapshot)]) -> Result<Replaced> {
        let mut stored = Vec::new();
        for (old, new) in changes {
            let bytes = snapshot::encode(self.keys(), new, &random::bytes()?)
                .map_err(|error| Error::Invalid(format!("the snapshot could not be written: {error}")))?;
            let id = ObjectId::of(&bytes);
            self.storage().put(&ObjectName::Snapshot(id), &bytes)?;
            stored.push((*old, id, bytes.len() as u64));
        }
        let head = self.append(|state, generation| {
            for (old, id, length) in &stored {
                let Some(entry) = state.snapshots.get(old).copied() else {
                    return Err(Error::Overtaken { what: ObjectName::Snapshot(*old) });
                };
                state.snapshots.insert(*id, SnapshotEntry { length: *length, arrival: entry.arrival });
                state.mark(*old, MarkedKind::Snapshot, generation);
            }
            Ok(())
        })?;
        Ok(Replaced { head, snapshots: stored.into_iter().map(|(old, new, _)| (old, new)).collect() })
    }
}
