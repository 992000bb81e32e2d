//! A slot that is read: its parameters are within the limits, and a key file either opens it or does not. Nothing is
//! stretched here: that would only be slow.
#![no_main]

use libfuzzer_sys::fuzz_target;
use packstone::base::id::RepositoryId;
use packstone::codec::key_file::KeyFile;
use packstone::codec::key_slot::{KeySlot, Secret, SecretKind};
use packstone::codec::key_tree::{KeyTree, MasterKey};

fuzz_target!(|data: &[u8]| {
    let mut repository = [0; 32];
    if let Some(named) = data.get(32..64) {
        repository.copy_from_slice(named);
    }
    let repository = RepositoryId(repository);
    let Ok(slot) = KeySlot::parse(data, repository) else { return };
    if slot.kind() == SecretKind::KeyFile {
        assert!(slot.unlock(&Secret::KeyFile(KeyFile::generate(&[7; 32]))).is_err());
    } else {
        assert!(slot.params().check().is_ok());
    }
    assert!(slot.label(&KeyTree::new(&MasterKey::new([1; 32]), repository)).is_err());
});
