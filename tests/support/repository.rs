//! A repository on a disk, used through the library.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use packstone::base::id::ObjectId;
use packstone::codec::key_file::KeyFile;
use packstone::codec::key_slot::Secret;
use packstone::codec::live_state::{LiveState, MarkedKind};
use packstone::repository::lock::Locks;
use packstone::repository::{Access, Repository};
use packstone::storage::local::Local;

/// Opens it as a machine that knows nothing but the key.
pub fn open_with_key_file(place: &Path, key: &Path) -> Repository {
    let bare = Access::bare(Arc::new(Local::open(place).unwrap()), place.to_path_buf());
    let access = Access { locks: Locks::open(place), ..bare };
    Repository::open(access, &Secret::KeyFile(KeyFile::parse(&fs::read(key).unwrap()).unwrap())).unwrap()
}

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
