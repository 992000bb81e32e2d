//! The power goes at every operation of a backup that makes one pack and one segment out of many small ones, and sweeps those.

use std::sync::Arc;

use packstone::ops::{Silent, repair_index};
use packstone::repository::lock::Locks;
use packstone::repository::pack_writer::MERGE_MIN;
use packstone::repository::{Access, Repository};
use packstone::storage::crash::CrashDisk;
use packstone::storage::disk::Disk;
use packstone::storage::local::Local;
use packstone::storage::{Folder, ObjectName, Storage};

use crate::sweep::{cut, init};
use crate::told::{Judge, Told};
use crate::world::{Contents, Machine, Source, backup_with, copy, packs, secret};

/// Packs are meant to be so long that those of one file are small.
const PACK_BYTES: u64 = 32 << 20;

fn open<D: Disk>(disk: D, machine: &Machine) -> Option<Repository> {
    machine.open(Arc::new(Local::open_with_disk(disk)), 1).ok()
}

fn save<D: Disk>(disk: D, told: &mut Told, machine: &Machine, source: &Source, contents: &Arc<Contents>) {
    let Some(repository) = open(disk, machine) else { return };
    if let Ok(report) = backup_with(&repository, source.path(), packs(PACK_BYTES), &Silent) {
        told.snapshots.insert(report.snapshot.expect("a backup makes a snapshot"), Arc::clone(contents));
    }
}

fn count(repository: &Repository, folder: Folder) -> usize {
    repository.storage().list(folder).unwrap().len()
}

/// What the source holds at the time of a run.
fn write(source: &Source, run: usize) -> Arc<Contents> {
    source.write("log", format!("what happened until {run}").as_bytes());
    source.write(&format!("letter-{}", run % 3), &[run as u8; 300]);
    Arc::new(source.contents())
}

/// A repository of which the next backup merges; of its snapshots a few that stand for the others.
fn many_backups(machine: &Machine, source: &Source) -> (CrashDisk, Told) {
    let disk = CrashDisk::new();
    let mut told = Told::default();
    init(disk.clone(), &mut told, machine);
    for run in 0..MERGE_MIN {
        let contents = write(source, run);
        save(disk.clone(), &mut told, machine, source, &contents);
    }
    assert_eq!(told.snapshots.len(), MERGE_MIN);
    let few: Vec<_> = told.snapshots.keys().step_by(8).copied().collect();
    told.snapshots.retain(|id, _| few.contains(id));
    let before = open(disk.clone(), machine).unwrap();
    assert!(count(&before, Folder::Packs) >= 2 * MERGE_MIN && count(&before, Folder::Index) == MERGE_MIN);
    (disk, told)
}

fn life(machine: &Machine) -> Result<[usize; 2], String> {
    let source = Source::empty();
    let (disk, mut told) = many_backups(machine, &source);
    let base = copy(&disk);
    let contents = write(&source, MERGE_MIN);
    let judge = Judge { machine, source: source.path(), now: &contents };
    let merged = cut(&base, &told, &judge, |disk| disk, &|disk, told| save(disk, told, machine, &source, &contents))?;
    // Without a cut: the packs of this run, what the small ones hold, and nothing else.
    save(disk.clone(), &mut told.clone(), machine, &source, &contents);
    let after = open(disk.clone(), machine).unwrap();
    let counts = (count(&after, Folder::Packs), count(&after, Folder::Index));
    assert_eq!(counts, (4, 2), "packs and segments: the marked ones are swept");
    assert!(after.tip().state.marked.is_empty());
    drop(after);

    // A process that relies on a head of before keeps them from being swept; the next backup does that.
    let disk = copy(&base);
    let locks = Locks::none();
    let with_locks = || {
        let access = machine.access(Arc::new(Local::open_with_disk(disk.clone())));
        Repository::open(Access { locks: locks.clone(), ..access }, &secret(1)).unwrap()
    };
    let reader = with_locks();
    let repository = with_locks();
    let report = backup_with(&repository, source.path(), packs(PACK_BYTES), &Silent).unwrap();
    let marked = repository.tip().state.marked.values().filter(|mark| mark.replaced).count();
    assert!(marked >= 3 * MERGE_MIN, "{marked} packs and segments are replaced, and there still");
    told.snapshots.insert(report.snapshot.unwrap(), Arc::clone(&contents));
    drop((reader, repository));
    let base = copy(&disk);
    let contents = write(&source, MERGE_MIN + 1);
    let judge = Judge { machine, source: source.path(), now: &contents };
    let swept = cut(&base, &told, &judge, |disk| disk, &|disk, told| save(disk, told, machine, &source, &contents))?;
    Ok([merged, swept])
}

fn print(what: &str, images: [usize; 2]) {
    let [merged, swept] = images;
    println!("{what}: {0} of {0} images (merge and sweep {merged}, sweep later {swept})", merged + swept);
}

#[test]
fn a_power_cut_while_small_packs_are_merged_loses_nothing() {
    let images = life(&Machine::default()).unwrap_or_else(|wrong| panic!("{wrong}"));
    print("power cut in a merge", images);
    assert!(images.iter().sum::<usize>() > 20, "too few images to mean anything");
}

#[test]
fn a_cache_that_outlives_the_power_cut_in_a_merge_misleads_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let machine = Machine { cache: Some(folder.path().join("cache")), remembered: None };
    let images = life(&machine).unwrap_or_else(|wrong| panic!("{wrong}"));
    print("power cut in a merge, with a cache", images);
}

/// What was merged lies in packs that describe themselves: without the heads that name them nothing is lost either.
#[test]
fn who_loses_the_heads_of_a_merge_gets_everything_back() {
    let machine = Machine::default();
    let source = Source::empty();
    let (disk, told) = many_backups(&machine, &source);
    let contents = write(&source, MERGE_MIN);
    save(disk.clone(), &mut told.clone(), &machine, &source, &contents);
    let storage = Local::open_with_disk(disk.clone());
    let mut heads: Vec<ObjectName> = storage.list(Folder::Heads).unwrap().iter().map(|found| found.name).collect();
    heads.sort_unstable();
    // That of the backup, and that of the sweep after it.
    heads.iter().rev().take(2).for_each(|head| storage.remove(head).unwrap());
    let repository = open(disk.clone(), &machine).unwrap();
    assert!(told.snapshots.keys().all(|id| repository.tip().state.snapshots.contains_key(id)));
    let plan = repair_index::plan(&repository, repair_index::Options::default(), &Silent).unwrap();
    assert_eq!(plan.packs(), 4);
    repair_index::execute(&repository, plan).unwrap();
    drop(repository);
    let judge = Judge { machine: &machine, source: source.path(), now: &contents };
    judge.check(&told, &disk, |disk| disk).unwrap_or_else(|wrong| panic!("{wrong}"));
}
