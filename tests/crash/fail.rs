//! A call that fails, and a process that is killed, at every operation.

use std::sync::Arc;

use packstone::storage::crash::{CrashDisk, Fault};

use crate::sweep::{init, random_images, save, step};
use crate::told::{Judge, Told};
use crate::world::{Contents, Machine, Source, copy};

/// An act with the disk before it.
struct Stage {
    base: CrashDisk,
    told: Told,
    source: Source,
    contents: Arc<Contents>,
    first: bool,
}

impl Stage {
    fn act(&self, disk: &CrashDisk, told: &mut Told) {
        let machine = Machine::default();
        if self.first {
            init(disk.clone(), told, &machine);
        } else {
            save(disk.clone(), told, &machine, self.source.path(), &self.contents);
        }
    }

    /// Operations and reads of the whole act.
    fn size(&self) -> (u64, u64) {
        let disk = copy(&self.base);
        self.act(&disk, &mut self.told.clone());
        (disk.operations(), disk.reads())
    }

    fn judge(&self, told: &Told, disk: &CrashDisk) -> Result<(), String> {
        let machine = Machine::default();
        let judge = Judge { machine: &machine, source: self.source.path(), now: &self.contents };
        judge.check(told, disk, |disk| disk)
    }
}

/// Init, first backup, second backup.
fn stages() -> [Stage; 3] {
    let machine = Machine::default();
    let source = Source::new();
    let contents = Arc::new(source.contents());
    let init_stage = Stage { base: CrashDisk::new(), told: Told::default(), source, contents, first: true };
    let source = Source::new();
    let contents = Arc::new(source.contents());
    let (disk, mut told) = (CrashDisk::new(), Told::default());
    init(disk.clone(), &mut told, &machine);
    let first = Stage { base: copy(&disk), told: told.clone(), source, contents, first: false };
    let mut source = Source::new();
    let contents = Arc::new(source.contents());
    save(disk.clone(), &mut told, &machine, source.path(), &contents);
    source.change();
    let contents = Arc::new(source.contents());
    let second = Stage { base: copy(&disk), told, source, contents, first: false };
    [init_stage, first, second]
}

#[test]
fn a_failing_call_ends_the_run_and_loses_nothing_acknowledged() {
    let (mut images, mut survived) = (0, 0);
    for stage in stages() {
        let (operations, reads) = stage.size();
        for fault in [Fault::Io, Fault::Full] {
            for at in (0..operations).step_by(step()) {
                let disk = copy(&stage.base);
                disk.fail_at(at, fault);
                let mut told = stage.told.clone();
                stage.act(&disk, &mut told);
                let acknowledged = (told.made, told.snapshots.len()) != (stage.told.made, stage.told.snapshots.len());
                survived += usize::from(acknowledged);
                let say = |wrong| panic!("{fault:?} at operation {at}: {wrong}");
                // The power goes after the failure, or it does not.
                disk.each_image(at, random_images() / 4, |image| {
                    stage.judge(&told, &image).unwrap_or_else(say);
                    images += 1;
                });
                disk.restart();
                stage.judge(&told, &disk).unwrap_or_else(say);
                images += 1;
            }
        }
        for at in (0..reads).step_by(step()) {
            let disk = copy(&stage.base);
            disk.fail_read_at(at);
            let mut told = stage.told.clone();
            stage.act(&disk, &mut told);
            disk.restart();
            stage.judge(&told, &disk).unwrap_or_else(|wrong| panic!("failing read {at}: {wrong}"));
            images += 1;
        }
    }
    println!("failing calls: {images} of {images} images; {survived} runs went on to their end rightly");
}

/// Story: a process was killed after it had renamed a pack to its name and before it had synced the folder. The next run
/// took the pack over and published a snapshot that needs it; then the power went, and the pack with it. Promised now:
/// what is taken over is made durable first.
#[test]
fn what_a_killed_run_left_is_durable_before_anything_relies_on_it() {
    let mut images = 0;
    for stage in stages() {
        let (operations, _) = stage.size();
        for stop in (0..=operations).step_by(step()) {
            let disk = copy(&stage.base);
            disk.stop_after(stop);
            let mut told = stage.told.clone();
            stage.act(&disk, &mut told);
            // The process is gone; the machine runs on, with everything in its page cache.
            disk.restart();
            let machine = Machine::default();
            if !told.made {
                init(disk.clone(), &mut told, &machine);
                if !told.made
                    && machine.open(Arc::new(packstone::storage::local::Local::open_with_disk(disk.clone())), 1).is_ok()
                {
                    told.made = true;
                    told.opens.insert(1);
                }
            }
            let acknowledged = told.snapshots.len();
            save(disk.clone(), &mut told, &machine, stage.source.path(), &stage.contents);
            assert_eq!(told.snapshots.len(), acknowledged + 1, "kill after {stop} operations: the next run fails");
            disk.each_image(stop, random_images(), |image| {
                stage.judge(&told, &image).unwrap_or_else(|wrong| panic!("kill after {stop} operations: {wrong}"));
                images += 1;
            });
        }
    }
    println!("kill, next run, power cut: {images} of {images} images");
}

/// A bad sector in the newest head: what older heads name is still read, with a warning, and nobody writes.
#[test]
fn a_head_that_the_disk_cannot_read_does_not_hide_the_others() {
    let [_, _, stage] = stages();
    let machine = Machine::default();
    let disk = copy(&stage.base);
    let storage = Arc::new(packstone::storage::local::Local::open_with_disk(disk.clone()));
    let newest = disk.files().into_keys().filter(|path| path.starts_with("heads/")).max().unwrap();
    disk.spoil(&newest);
    let repository = machine.open(storage, 1).unwrap();
    let (object, _) = repository.tip().unreadable.expect("the newest head could be read");
    assert_eq!(object.to_string(), newest);
    assert!(repository.tip().require_sound().is_err());
    assert!(repository.take_warnings().iter().any(|warning| warning.contains(&newest)));
}
