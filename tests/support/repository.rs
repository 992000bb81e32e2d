//! Heads as those of a repository that was used for a while.

use packstone::base::id::ObjectId;
use packstone::codec::live_state::{LiveState, MarkedKind};
use packstone::repository::Repository;

/// Publishes heads with so much in their lists that those which follow are differences to a checkpoint, the newest one: a small state is
/// always written whole.
pub fn lengthen_state(repository: &Repository) {
    let marks = |state: &mut LiveState, generation| {
        let slots = (0..100_u64).map(|number| ObjectId::of(&number.to_le_bytes()));
        slots.for_each(|id| state.mark(id, MarkedKind::Slot, generation));
        Ok(())
    };
    repository.append(marks).unwrap();
    while !repository.tip().head.is_checkpoint() {
        repository.append(|_, _| Ok(())).unwrap();
    }
}
