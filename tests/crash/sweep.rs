//! The power goes at every operation.

use std::path::Path;
use std::sync::Arc;

use packstone::storage::crash::CrashDisk;
use packstone::storage::disk::Disk;
use packstone::storage::local::Local;

use crate::told::{Judge, Told};
use crate::world::{Contents, Machine, Source, backup, copy, is_full};

/// Random images at each operation, beside the systematic ones.
pub fn random_images() -> usize {
    if is_full() { 12 } else { 1 }
}

/// Distance between two operations at which the power goes.
pub fn step() -> usize {
    if is_full() { 1 } else { 9 }
}

/// One act of a program: does what it can, and writes down what the user was told.
pub type Act<'a, D> = &'a (dyn Fn(D, &mut Told) + Sync);

/// `init`.
pub fn init<D: Disk>(disk: D, told: &mut Told, machine: &Machine) {
    let Ok(storage) = Local::create_with_disk(disk) else { return };
    if machine.create(Arc::new(storage), 1).is_ok() {
        told.made = true;
        told.opens.insert(1);
    }
}

/// `backup`.
pub fn save<D: Disk>(disk: D, told: &mut Told, machine: &Machine, source: &Path, contents: &Arc<Contents>) {
    let storage = Arc::new(Local::open_with_disk(disk));
    let key = told.opens.first().copied().unwrap_or(1);
    let Ok(repository) = machine.open(storage, key) else { return };
    if let Ok(report) = backup(&repository, source) {
        told.snapshots.insert(report.snapshot.expect("a backup makes a snapshot"), Arc::clone(contents));
    }
}

/// Cuts the power at operation after operation of `act` on copies of `base`, until a run ends before its cut; judges
/// every image. Gives the number of images, or what is wrong with the first bad one.
pub fn cut<D: Disk>(
    base: &CrashDisk,
    before: &Told,
    judge: &Judge<'_>,
    wrap: impl Fn(CrashDisk) -> D,
    act: Act<'_, D>,
) -> Result<usize, String> {
    let mut images = 0;
    // A short form must not always meet the same operations of a pack's writing, hence a step that has no common factor.
    for stop in (0..).step_by(step()) {
        let disk = copy(base);
        disk.stop_after(stop);
        let mut told = before.clone();
        act(wrap(disk.clone()), &mut told);
        let reached = disk.operations() >= stop;
        let mut wrong = None;
        disk.each_image(stop, random_images(), |image| {
            if wrong.is_none() {
                wrong = judge.check(&told, &image, &wrap).err();
                images += 1;
            }
        });
        if let Some(wrong) = wrong {
            return Err(format!("power cut after {stop} operations: {wrong}"));
        }
        if !reached {
            break;
        }
    }
    Ok(images)
}

/// Init, a first backup, a second one, each swept; `machine` keeps its cache and memory over all of it.
fn life<D: Disk>(machine: &Machine, wrap: impl Fn(CrashDisk) -> D + Copy + Sync) -> Result<[usize; 3], String> {
    let mut source = Source::new();
    let empty = CrashDisk::new();
    let contents = Arc::new(source.contents());
    let path = source.path().to_path_buf();
    let judge = Judge { machine, source: &path, now: &contents };
    let mut told = Told::default();
    let made = cut(&empty, &told, &judge, wrap, &|disk, told| init(disk, told, machine))?;

    let disk = CrashDisk::new();
    init(wrap(disk.clone()), &mut told, machine);
    assert!(told.made);
    let base = copy(&disk);
    let first = cut(&base, &told, &judge, wrap, &|disk, told| save(disk, told, machine, &path, &contents))?;

    let disk = copy(&base);
    save(wrap(disk.clone()), &mut told, machine, &path, &contents);
    assert_eq!(told.snapshots.len(), 1);
    let base = copy(&disk);
    source.change();
    let contents = Arc::new(source.contents());
    let judge = Judge { machine, source: &path, now: &contents };
    let second = cut(&base, &told, &judge, wrap, &|disk, told| save(disk, told, machine, &path, &contents))?;
    Ok([made, first, second])
}

fn print(what: &str, images: [usize; 3]) {
    let [made, first, second] = images;
    let all = made + first + second;
    println!("{what}: {all} of {all} images (init {made}, first backup {first}, second backup {second})");
}

#[test]
fn a_power_cut_at_any_operation_loses_nothing_acknowledged() {
    let images = life(&Machine::default(), |disk| disk).unwrap_or_else(|wrong| panic!("{wrong}"));
    print("power cut", images);
    assert!(images.iter().sum::<usize>() > 50, "too few images to mean anything");
}

/// The machine keeps one cache over all images, so most of the time it knows packs that this image never had, and lacks
/// others; and it remembers only what cannot be taken back.
#[test]
fn a_cache_and_a_memory_that_outlive_the_power_cut_mislead_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let machine = Machine { cache: Some(folder.path().join("cache")), remembered: None };
    let images = life(&machine, |disk| disk).unwrap_or_else(|wrong| panic!("{wrong}"));
    print("power cut with a cache", images);
}

/// What is remembered of the repository lies on another disk, which keeps everything: no image may look like a rollback.
#[test]
fn a_power_cut_never_looks_like_a_rollback() {
    let source = Source::new();
    let contents = Arc::new(source.contents());
    let machine = Machine::default();
    let disk = CrashDisk::new();
    let mut told = Told::default();
    init(disk.clone(), &mut told, &machine);
    let base = copy(&disk);
    let mut images = 0;
    for stop in (0..).step_by(step()) {
        let folder = tempfile::tempdir().unwrap();
        let remembering = |at: &Path| Machine { cache: None, remembered: Some(at.to_path_buf()) };
        let memory = folder.path().join("memory");
        let disk = copy(&base);
        disk.stop_after(stop);
        save(disk.clone(), &mut told.clone(), &remembering(&memory), source.path(), &contents);
        let reached = disk.operations() >= stop;
        disk.each_image(stop, random_images(), |image| {
            let storage = Arc::new(Local::open_with_disk(image));
            let opened = remembering(&memory).open(storage, 1);
            assert!(opened.is_ok(), "power cut after {stop} operations: {:?}", opened.err());
            images += 1;
        });
        if !reached {
            break;
        }
    }
    println!("no rollback: {images} of {images} images");
}
