//! A repository in memory, for tests within the library.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use super::keyring::NewSlot;
use super::{Access, CreateOptions, Repository};
use crate::base::time::Time;
use crate::codec::chunker::Parameters;
use crate::codec::kdf::Params;
use crate::codec::key_file::KeyFile;
use crate::codec::key_slot::Secret;
use crate::storage::memory::Memory;

/// A new one in `storage`, whose key file is made from `number`.
pub fn repository(storage: &Memory, number: u8, files: Parameters) -> Repository {
    let access = Access::bare(Arc::new(storage.clone()), format!("/memory/{number}").into());
    let secret = Secret::KeyFile(KeyFile::generate(&[number; 32]));
    let slot = NewSlot { secret: &secret, kdf: Params::DEFAULT, label: "", created: Time::default() };
    Repository::create(access, &[slot], &CreateOptions { files, created: Time::now() }).unwrap()
}
