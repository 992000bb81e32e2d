//! A repository in memory, for tests within the library.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use super::keyring::NewSlot;
use super::{Access, CreateOptions, Repository};
use crate::base::id::ObjectId;
use crate::base::time::Time;
use crate::codec::chunker::Parameters;
use crate::codec::kdf::Params;
use crate::codec::key_file::KeyFile;
use crate::codec::key_slot::Secret;
use crate::codec::live_state::{LiveState, MarkedKind};
use crate::storage::memory::Memory;

/// A new one in `storage`, whose key file is made from `number`.
pub fn repository(storage: &Memory, number: u8, files: Parameters) -> Repository {
    let access = Access::bare(Arc::new(storage.clone()), format!("/memory/{number}").into());
    let secret = Secret::KeyFile(KeyFile::generate(&[number; 32]));
    let slot = NewSlot { secret: &secret, kdf: Params::DEFAULT, label: "", created: Time::default() };
    Repository::create(access, &[slot], &CreateOptions { files, created: Time::now() }).unwrap()
}

/// Publishes heads until the newest one is a checkpoint of more than a few things: those that follow are differences to it. Returns its
/// generation.
pub fn fill(repository: &Repository) -> u64 {
    let marks = |state: &mut LiveState, generation| {
        let slots = (0..100_u64).map(|number| ObjectId::of(&number.to_le_bytes()));
        slots.for_each(|id| state.mark(id, MarkedKind::Slot, generation));
        Ok(())
    };
    repository.append(marks).unwrap();
    while !repository.tip().head.is_checkpoint() {
        repository.append(|_, _| Ok(())).unwrap();
    }
    repository.tip().reference().generation
}
