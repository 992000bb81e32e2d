//! `repair index` after a killed run: what it lists outlasts the next power cut.

use std::sync::Arc;

use packstone::ops::{Silent, repair_index, repair_packs};
use packstone::repository::{Repository, Result};
use packstone::storage::ObjectName;
use packstone::storage::crash::CrashDisk;
use packstone::storage::disk::Disk;
use packstone::storage::local::Local;

use crate::sweep::{init, save};
use crate::told::{Judge, Told};
use crate::world::{Machine, PACK_BYTES, Source, backup, copy, packs};

fn open(machine: &Machine, disk: &CrashDisk) -> Result<Repository> {
    machine.open(Arc::new(Local::open_with_disk(disk.clone())), 1)
}

#[test]
fn packs_of_a_killed_run_are_durable_before_they_are_listed() {
    let machine = Machine::default();
    let (base, mut told) = (CrashDisk::new(), Told::default());
    init(base.clone(), &mut told, &machine);
    let base = copy(&base);
    let source = Source::empty();
    source.write("one", &[1; 5_000]);
    let now = source.contents();
    let judge = Judge { machine: &machine, source: source.path(), now: &now };
    let mut listed = 0;
    for stop in 0.. {
        let disk = copy(&base);
        disk.stop_after(stop);
        let is_whole = open(&machine, &disk).is_ok_and(|repository| backup(&repository, source.path()).is_ok());
        disk.restart();
        if is_whole {
            break;
        }
        let repository = open(&machine, &disk).unwrap();
        let plan = repair_index::plan(&repository, repair_index::Options::default(), &Silent).unwrap();
        listed += plan.packs();
        repair_index::execute(&repository, plan).unwrap();
        disk.each_image(stop, 4, |image| {
            if let Err(wrong) = judge.check(&told, &image, |disk| disk) {
                panic!("killed after {stop} operations, repaired, power cut: {wrong}");
            }
        });
    }
    assert!(listed > 2, "no pack was left for the repair");
}

/// Changes one bit of a file, behind everybody's back.
fn flip(disk: &CrashDisk, path: &str) {
    let (mut bytes, _) = disk.files().remove(path).unwrap();
    bytes[500] ^= 1;
    disk.unlink(path).unwrap();
    let mut file = disk.create_file(path).unwrap();
    disk.append(&mut file, &bytes).unwrap();
    disk.seal_file(&file).unwrap();
    disk.sync_file(&file).unwrap();
    disk.sync_directory(path.rsplit_once('/').unwrap().0).unwrap();
}

/// `repair packs` with the power cut at every operation: what was not lost stays, and the repair run again finishes.
#[test]
fn a_power_cut_while_damaged_packs_are_repaired_loses_nothing_more() {
    let machine = Machine::default();
    let (disk, mut told) = (CrashDisk::new(), Told::default());
    init(disk.clone(), &mut told, &machine);
    let mut source = Source::new();
    let mut all = Vec::new();
    for _ in 0..2 {
        let contents = Arc::new(source.contents());
        save(disk.clone(), &mut told, &machine, source.path(), &contents);
        all.extend(told.snapshots.keys().copied().find(|id| !all.contains(id)));
        source.change();
    }
    // The packs that only the second snapshot needs lose a byte.
    let repository = open(&machine, &disk).unwrap();
    let index = repository.open_index();
    let root = repository.snapshot(all[1]).unwrap().root.chunks[0];
    let of_second = index.packs()[&repository.locate(&root).unwrap().pack].segment;
    let base = copy(&disk);
    for (id, _) in index.packs().iter().filter(|(_, pack)| pack.segment == of_second) {
        flip(&base, &ObjectName::Pack(*id).to_string());
        told.given_up.insert(*id);
    }
    let base = copy(&base);
    assert!(!told.given_up.is_empty());
    told.snapshots.remove(&all[1]);
    let now = source.contents();
    let judge = Judge { machine: &machine, source: source.path(), now: &now };
    let repair = |disk: &CrashDisk| -> packstone::ops::Result<()> {
        let repository = open(&machine, disk)?;
        let plan = repair_packs::plan(&repository, &[], &Silent)?;
        repair_packs::execute(&repository, &plan, packs(PACK_BYTES), &Silent)?;
        Ok(())
    };
    let forget_lost = |disk: &CrashDisk| {
        let repository = open(&machine, disk).unwrap();
        crate::prune::forget(&repository, all[1]).unwrap();
    };
    let mut images = 0;
    for stop in 0.. {
        let disk = copy(&base);
        disk.stop_after(stop);
        let is_whole = repair(&disk).is_ok();
        disk.restart();
        disk.each_image(stop, 4, |image| {
            images += 1;
            repair(&image).unwrap_or_else(|error| panic!("cut after {stop}, and again: {error}"));
            forget_lost(&image);
            if let Err(wrong) = judge.check(&told, &image, |disk| disk) {
                panic!("cut after {stop} operations of repair packs, and again: {wrong}");
            }
        });
        if is_whole {
            break;
        }
    }
    println!("power cut in repair packs: {images} of {images} images");
    assert!(images > 10);
}
