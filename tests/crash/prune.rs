//! The power goes at every operation of forgetting, marking, rewriting and sweeping.

use std::sync::Arc;
use std::time::Duration;

use packstone::base::id::ObjectId;
use packstone::base::time::Time;
use packstone::codec::live_state::MarkedKind;
use packstone::ops::prune::{self, Limits, MaxUnused};
use packstone::ops::{self, Silent};
use packstone::repository::Repository;
use packstone::storage::crash::CrashDisk;
use packstone::storage::disk::Disk;
use packstone::storage::local::Local;

use crate::sweep::{cut, init, save};
use crate::told::{Judge, Told};
use crate::world::{Machine, PACK_BYTES, Source, copy, packs};

/// Takes a snapshot out of what is live.
pub fn forget(repository: &Repository, id: ObjectId) -> packstone::repository::Result<()> {
    repository
        .append(|state, generation| {
            if state.snapshots.contains_key(&id) {
                state.mark(id, MarkedKind::Snapshot, generation);
            }
            Ok(())
        })
        .map(drop)
}

/// Every byte that is not needed is to go.
pub fn options(grace: Duration) -> prune::Options {
    prune::Options {
        limits: Limits { max_unused: MaxUnused::Bytes(0), max_repack: None, pack_bytes: PACK_BYTES },
        grace,
        packs: packs(PACK_BYTES),
        now: Time::now(),
    }
}

fn open<D: Disk>(disk: D, told: &Told, machine: &Machine) -> Option<Repository> {
    let key = told.opens.first().copied().unwrap_or(1);
    machine.open(Arc::new(Local::open_with_disk(disk)), key).ok()
}

fn pruned<D: Disk>(disk: D, told: &Told, machine: &Machine, grace: Duration) -> ops::Result<prune::Report> {
    let repository = open(disk, told, machine).ok_or(ops::Error::Interrupted)?;
    prune::run(&repository, &options(grace), &Silent)
}

const WEEK: Duration = Duration::from_secs(7 * 86_400);

/// Three snapshots, and packs that an interrupted run left.
fn years_later(machine: &Machine, source: &mut Source) -> (CrashDisk, Told, Vec<ObjectId>) {
    let disk = CrashDisk::new();
    let mut told = Told::default();
    init(disk.clone(), &mut told, machine);
    let mut ids: Vec<ObjectId> = Vec::new();
    for _ in 0..3 {
        let contents = Arc::new(source.contents());
        save(disk.clone(), &mut told, machine, source.path(), &contents);
        let new = told.snapshots.keys().copied().find(|id| !ids.contains(id));
        ids.extend(new);
        source.change();
    }
    assert_eq!(ids.len(), 3);
    let base = copy(&disk);
    let half = copy(&base);
    half.stop_after(40);
    save(half.clone(), &mut told.clone(), machine, source.path(), &Arc::default());
    half.restart();
    let base = copy(&half);
    (base, told, ids)
}

fn life(machine: &Machine) -> Result<[usize; 4], String> {
    let mut source = Source::new();
    let (base, mut told, ids) = years_later(machine, &mut source);
    let contents = Arc::new(source.contents());
    let path = source.path().to_path_buf();
    let judge = Judge { machine, source: &path, now: &contents };

    // What is being forgotten may be there or not; the others must be.
    let forgotten = told.snapshots.remove(&ids[0]);
    assert!(forgotten.is_some());
    let forgot = cut(&base, &told, &judge, |disk| disk, &|disk, told| {
        if let Some(repository) = open(disk, told, machine) {
            let _ = forget(&repository, ids[0]);
        }
    })?;
    let disk = copy(&base);
    forget(&open(disk.clone(), &told, machine).unwrap(), ids[0]).unwrap();
    let base = copy(&disk);

    let marked = cut(&base, &told, &judge, |disk| disk, &|disk, told| {
        let _ = pruned(disk, told, machine, WEEK);
    })?;
    let disk = copy(&base);
    let report = pruned(disk.clone(), &told, machine, WEEK).unwrap();
    assert!(!report.plan.repack.is_empty() && report.marked.packs > 0, "nothing was rewritten: {report:?}");
    assert!(report.waiting_bytes > 0 && report.removed().0 == 0, "{report:?}");
    let base = copy(&disk);

    let swept = cut(&base, &told, &judge, |disk| disk, &|disk, told| {
        let _ = pruned(disk, told, machine, Duration::ZERO);
    })?;
    let disk = copy(&base);
    let report = pruned(disk.clone(), &told, machine, Duration::ZERO).unwrap();
    assert!(report.removed().1 > 0 && report.waiting_bytes == 0, "{report:?}");

    // All at once, on a repository of which the newest snapshot goes.
    told.snapshots.remove(&ids[2]);
    let base = copy(&disk);
    forget(&open(base.clone(), &told, machine).unwrap(), ids[2]).unwrap();
    let base = copy(&base);
    let at_once = cut(&base, &told, &judge, |disk| disk, &|disk, told| {
        let _ = pruned(disk, told, machine, Duration::ZERO);
    })?;
    Ok([forgot, marked, swept, at_once])
}

fn print(what: &str, images: [usize; 4]) {
    let [forgot, marked, swept, at_once] = images;
    let all: usize = images.iter().sum();
    println!(
        "{what}: {all} of {all} images (forget {forgot}, mark and rewrite {marked}, sweep {swept}, all at once {at_once})"
    );
}

#[test]
fn a_power_cut_during_forget_and_prune_loses_nothing() {
    let images = life(&Machine::default()).unwrap_or_else(|wrong| panic!("{wrong}"));
    print("power cut in a prune", images);
    assert!(images.iter().sum::<usize>() > 20, "too few images to mean anything");
}

#[test]
fn a_cache_that_outlives_the_power_cut_in_a_prune_misleads_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let machine = Machine { cache: Some(folder.path().join("cache")), remembered: None };
    let images = life(&machine).unwrap_or_else(|wrong| panic!("{wrong}"));
    print("power cut in a prune, with a cache", images);
}
