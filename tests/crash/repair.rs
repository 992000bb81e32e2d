//! `repair index` after a killed run: what it lists outlasts the next power cut.

use std::sync::Arc;

use packstone::ops::{Silent, repair_index};
use packstone::repository::{Repository, Result};
use packstone::storage::crash::CrashDisk;
use packstone::storage::local::Local;

use crate::sweep::init;
use crate::told::{Judge, Told};
use crate::world::{Machine, Source, backup, copy};

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
