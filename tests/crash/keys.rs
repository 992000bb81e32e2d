//! Changes of keys: at every instant an acknowledged secret opens, and what was removed stays removed.

use std::path::Path;
use std::sync::Arc;

use packstone::base::time::Time;
use packstone::codec::kdf::Params;
use packstone::repository::Repository;
use packstone::repository::keyring::NewSlot;
use packstone::storage::crash::{CrashDisk, Fault};
use packstone::storage::local::Local;

use crate::sweep::{cut, init, save, step};
use crate::told::{Judge, Told};
use crate::world::{Machine, Source, copy, secret};

fn open(disk: &CrashDisk, with: u8) -> Option<Repository> {
    Machine::default().open(Arc::new(Local::open_with_disk(disk.clone())), with).ok()
}

/// `key add` 2, `key passwd` 1 to 3, `key remove` 2: each by a process of its own.
fn change(disk: &CrashDisk, told: &mut Told) {
    let (two, three) = (secret(2), secret(3));
    let slot = |secret| NewSlot { secret, kdf: Params::DEFAULT, label: "new", created: Time::now() };
    let Some(repository) = open(disk, 1) else { return };
    let Ok((second, _)) = repository.add_slot(&slot(&two), None) else { return };
    told.opens.insert(2);

    let Some(repository) = open(disk, 1) else { return };
    let replaced = repository.slot();
    told.opens.remove(&1);
    told.either = Some((1, 3));
    let Ok(_) = repository.add_slot(&slot(&three), Some(replaced)) else { return };
    told.either = None;
    told.opens.insert(3);
    told.closed.insert(1);

    let Some(repository) = open(disk, 3) else { return };
    // Until it is acknowledged, the second secret may open or not.
    told.opens.remove(&2);
    let Ok(_) = repository.remove_slot(second) else { return };
    told.closed.insert(2);
}

/// A repository with one snapshot.
fn base(source: &Source) -> (CrashDisk, Told) {
    let machine = Machine::default();
    let (disk, mut told) = (CrashDisk::new(), Told::default());
    init(disk.clone(), &mut told, &machine);
    let contents = Arc::new(source.contents());
    save(disk.clone(), &mut told, &machine, source.path(), &contents);
    assert_eq!(told.snapshots.len(), 1);
    (copy(&disk), told)
}

fn small() -> Source {
    let source = Source::empty();
    source.write("a", b"a");
    source.write("b/c", &[7; 9000]);
    source
}

#[test]
fn a_power_cut_during_a_change_of_keys_locks_nobody_out() {
    let source = small();
    let (disk, told) = base(&source);
    let (machine, now) = (Machine::default(), source.contents());
    let judge = Judge { machine: &machine, source: source.path(), now: &now };
    let images = cut(&disk, &told, &judge, |disk| disk, &|disk, told| change(&disk, told));
    let images = images.unwrap_or_else(|wrong| panic!("{wrong}"));
    println!("change of keys: {images} of {images} images");

    // The whole change works, and what was removed opens nothing any more.
    let mut told = told;
    change(&disk, &mut told);
    assert_eq!((told.opens.len(), told.closed.len()), (1, 2));
    judge.check(&told, &disk, |disk| disk).unwrap();
}

#[test]
fn a_failing_call_during_a_change_of_keys_locks_nobody_out() {
    let source = small();
    let (base, before) = base(&source);
    let (machine, now) = (Machine::default(), source.contents());
    let judge = Judge { machine: &machine, source: source.path(), now: &now };
    let mut images = 0;
    let whole = copy(&base);
    change(&whole, &mut before.clone());
    let mut judged = |disk: &CrashDisk, at: u64, path: &Path| {
        let mut told = before.clone();
        change(disk, &mut told);
        disk.restart();
        judge.check(&told, disk, |disk| disk).unwrap_or_else(|wrong| panic!("failure at {at} of {path:?}: {wrong}"));
        images += 1;
    };
    for at in (0..whole.operations()).step_by(step()) {
        for fault in [Fault::Io, Fault::Full] {
            let disk = copy(&base);
            disk.fail_at(at, fault);
            judged(&disk, at, Path::new("operations"));
        }
    }
    for at in (0..whole.reads()).step_by(step()) {
        let disk = copy(&base);
        disk.fail_read_at(at);
        judged(&disk, at, Path::new("reads"));
    }
    println!("change of keys, failing calls: {images} of {images} images");
}
