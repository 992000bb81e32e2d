//! An interrupted first backup stores at most two packs' worth of bytes again: the open data pack and the open tree pack.

use packstone::base::stop::Stop;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use packstone::ops::{self, Item, Monitor, Phase, Problem, Silent};
use packstone::storage::crash::CrashDisk;
use packstone::storage::local::Local;
use packstone::storage::{Folder, Storage};

use crate::sweep::init;
use crate::told::{Judge, Told};
use crate::watch::Watched;
use crate::world::{Machine, Noise, Source, backup_with, copy, is_full, packs};

/// Two blocks of two megabytes and their frames fit into one pack.
const PACK_BYTES: u64 = 5 << 20;

/// Says "interrupted" once so many files are stored.
pub struct Impatient {
    files: u64,
    stored: AtomicU64,
}

impl Impatient {
    pub const fn after(files: u64) -> Self {
        Self { files, stored: AtomicU64::new(0) }
    }
}

impl Monitor for Impatient {
    fn phase(&self, _: Phase) {}
    fn expect(&self, _: u64, _: u64, _: bool) {}
    fn advance(&self, items: u64, _: u64) {
        self.stored.fetch_add(items, Ordering::SeqCst);
    }
    fn item(&self, _: &Item<'_>) {}
    fn problem(&self, &Problem { path, message, .. }: &Problem<'_>) {
        panic!("{path:?}: {message}");
    }
    fn stop(&self) -> Option<Stop> {
        (self.stored.load(Ordering::SeqCst) >= self.files).then_some(Stop::User)
    }
}

struct Trial {
    machine: Machine,
    source: Source,
    base: CrashDisk,
    told: Told,
    /// Pack bytes of a run that nobody interrupts.
    whole: u64,
}

impl Trial {
    fn new() -> Self {
        let source = Source::empty();
        let mut noise = Noise(3);
        for number in 0..40 {
            source.write(&format!("{}/{number}", number % 5), &noise.bytes(550_000));
        }
        let (machine, base, mut told) = (Machine::default(), CrashDisk::new(), Told::default());
        init(base.clone(), &mut told, &machine);
        let mut trial = Self { machine, source, base: copy(&base), told, whole: 0 };
        let (disk, storage) = trial.storage();
        trial.run(&storage, &Silent).unwrap();
        trial.whole = storage.pack_bytes();
        assert!(disk.files().len() > 6, "too few packs to mean anything");
        trial
    }

    fn storage(&self) -> (CrashDisk, Watched) {
        let disk = copy(&self.base);
        (disk.clone(), Self::on(&disk))
    }

    fn on(disk: &CrashDisk) -> Watched {
        Watched::counting(Arc::new(Local::open_with_disk(disk.clone())))
    }

    fn run(&self, storage: &Watched, monitor: &dyn Monitor) -> ops::Result<ops::backup::Report> {
        let repository = self.machine.open(Arc::new(storage.clone()), 1)?;
        backup_with(&repository, self.source.path(), packs(PACK_BYTES), monitor)
    }

    /// The next run on `disk`, when the run before it wrote `before` bytes of packs.
    fn finish(&self, what: &str, disk: &CrashDisk, before: u64) -> (u64, u64) {
        let storage = Self::on(disk);
        let found = storage.list(Folder::Packs).unwrap().len() as u64;
        // The head may have been stored and not acknowledged: then a segment lists them already.
        let published = !self.machine.open(Arc::new(storage.clone()), 1).unwrap().tip().state.snapshots.is_empty();
        let left = if published { 0 } else { found };
        let report = self.run(&storage, &Silent).unwrap();
        assert_eq!(report.written.adopted_packs, left, "{what}: {:?}", report.warnings);
        assert_eq!(report.written.pack_bytes, storage.pack_bytes(), "{what}: what it reports it stored");
        let again = (before + storage.pack_bytes()).saturating_sub(self.whole);
        assert!(again <= 2 * PACK_BYTES, "{what}: {again} bytes were stored again, {} in all", self.whole);
        let now = self.source.contents();
        let judge = Judge { machine: &self.machine, source: self.source.path(), now: &now };
        judge.check(&self.told, disk, |disk| disk).unwrap_or_else(|wrong| panic!("{what}: {wrong}"));
        (left, again)
    }
}

#[test]
fn an_interrupted_first_backup_stores_at_most_two_packs_again() {
    let trial = Trial::new();
    let (mut runs, mut worst, mut adopted) = (0, 0, 0);
    let step = if is_full() { 1 } else { 6 };
    for patience in (0..).step_by(step) {
        let (disk, storage) = trial.storage();
        match trial.run(&storage, &Impatient::after(patience)) {
            Err(ops::Error::Interrupted) => {}
            Ok(_) => break,
            Err(error) => panic!("{error}"),
        }
        let (left, again) = trial.finish(&format!("interrupted at {patience}"), &disk, storage.pack_bytes());
        (runs, worst, adopted) = (runs + 1, worst.max(again), adopted.max(left));
    }
    println!(
        "interrupted: {runs} of {runs} runs, at most {worst} bytes again of {}, up to {adopted} packs taken over",
        trial.whole
    );
    assert!(runs > 0);
}

#[test]
fn a_first_backup_without_power_stores_at_most_two_packs_again() {
    let trial = Trial::new();
    let (mut images, mut worst, mut adopted) = (0, 0, 0);
    let step = if is_full() { 7 } else { 23 };
    for stop in (0..).step_by(step) {
        let (disk, storage) = trial.storage();
        disk.stop_after(stop);
        if trial.run(&storage, &Silent).is_ok() {
            break;
        }
        disk.each_image(stop, 1, |image| {
            let (left, again) = trial.finish(&format!("power cut at {stop}"), &image, storage.pack_bytes());
            (images, worst, adopted) = (images + 1, worst.max(again), adopted.max(left));
        });
    }
    println!(
        "power cut: {images} of {images} images, at most {worst} bytes again of {}, up to {adopted} packs taken over",
        trial.whole
    );
    assert!(adopted > 2, "too few packs to mean anything");
}
