//! Two thousand single flipped bits anywhere in a repository, each of which `check --read-data` must notice.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use packstone::repository::lock::Locks;
use packstone::repository::{Access, Repository};
use packstone::storage::ObjectName;
use packstone::storage::memory::Memory;

use super::world::{Noise, add_later, back_up, check_all, create, fill, secret};

const FLIPS: usize = 2_000;

#[test]
fn every_flipped_bit_is_noticed() {
    let source = tempfile::tempdir().unwrap();
    let mut noise = Noise(3);
    fill(source.path(), &mut noise);
    let storage = Memory::new();
    let access = Access {
        storage: Arc::new(storage.clone()),
        locks: Locks::none(),
        place: PathBuf::from("/memory"),
        cache: None,
        remembered: None,
        retry_lock: Duration::ZERO,
    };
    let repository = create(access.clone());
    back_up(&repository, source.path()).unwrap();
    add_later(source.path(), &mut noise);
    back_up(&repository, source.path()).unwrap();
    let sound = check_all(&repository);
    assert!(sound.findings.is_empty() && sound.notes.is_empty(), "{sound:?}");

    let objects: Vec<(ObjectName, u64)> =
        storage.objects().into_iter().map(|(name, bytes)| (name, bytes.len() as u64)).collect();
    let whole: u64 = objects.iter().map(|(_, length)| *length).sum();
    let mut noticed = 0;
    for number in 0..FLIPS {
        // By turns any object, however short, and any byte.
        let (name, position) = if number % 2 == 0 {
            let (name, length) = objects[number / 2 % objects.len()];
            (name, noise.next() % length)
        } else {
            let mut position = noise.next() % whole;
            let found = objects.iter().find(|(_, length)| {
                let inside = position < *length;
                position -= if inside { 0 } else { *length };
                inside
            });
            (found.unwrap().0, position)
        };
        let bit = 1 << (noise.next() % 8);
        let flip = |bytes: &mut Vec<u8>| bytes[position as usize] ^= bit;
        assert!(storage.corrupt(&name, flip));
        let is_noticed = match Repository::open(access.clone(), &secret(1)) {
            Ok(repository) => !check_all(&repository).findings.is_empty(),
            Err(_) => true,
        };
        assert!(is_noticed, "{name}, byte {position}, bit {bit:#x}");
        noticed += usize::from(is_noticed);
        assert!(storage.corrupt(&name, flip));
    }
    println!("{noticed} of {FLIPS} single-bit flips noticed");
    assert!(check_all(&repository).findings.is_empty());
}
