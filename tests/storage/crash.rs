//! The local storage under a power cut, a kill and a failing call at every operation.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use packstone::base::id::ObjectId;
use packstone::storage::crash::{CrashDisk, CrashFile, Fault};
use packstone::storage::disk::{Disk, DiskEntry};
use packstone::storage::local::Local;
use packstone::storage::{ErrorKind, Folder, ObjectName, Storage};

/// Random images at each operation, beside the systematic ones.
const RANDOM_IMAGES: usize = 24;

/// What the program under test was told.
#[derive(Debug, Clone, Default)]
struct Told {
    /// Objects that may exist, with the only bytes that they may have.
    tried: BTreeMap<ObjectName, Vec<u8>>,
    /// Objects that must exist.
    acknowledged: BTreeSet<ObjectName>,
    /// Objects that must not exist.
    gone: BTreeSet<ObjectName>,
    /// Steps that failed.
    failures: usize,
}

impl Told {
    fn put(&mut self, storage: &dyn Storage, name: ObjectName, bytes: &[u8]) {
        self.tried.insert(name, bytes.to_vec());
        self.gone.remove(&name);
        let stored = storage.create().and_then(|mut upload| {
            bytes.chunks(700).try_for_each(|piece| upload.append(piece))?;
            upload.finish(&name)
        });
        match stored {
            Ok(_) => self.acknowledged.insert(name),
            Err(_) => {
                self.failures += 1;
                false
            }
        };
    }

    fn remove(&mut self, storage: &dyn Storage, name: ObjectName) {
        self.acknowledged.remove(&name);
        match storage.remove(&name) {
            Err(error) if error.kind != ErrorKind::Absent => self.failures += 1,
            _ => {
                self.gone.insert(name);
            }
        }
    }

    /// What is wrong with a disk, if anything.
    fn check(&self, disk: &CrashDisk) -> Result<(), String> {
        let storage = Local::open_with_disk(disk.clone());
        let files = disk.files();
        for name in &self.acknowledged {
            match files.get(&name.to_string()) {
                None => return Err(format!("{name} was acknowledged and is gone")),
                Some((_, mode)) if *mode != 0o400 => return Err(format!("{name} has mode {mode:o}")),
                Some(_) => {}
            }
            let bytes = storage.read(name, u64::MAX).map_err(|error| error.to_string())?;
            if bytes != self.tried[name] {
                return Err(format!("{name} was acknowledged and has other bytes"));
            }
        }
        for name in &self.gone {
            if files.contains_key(&name.to_string()) {
                return Err(format!("{name} was removed and is back"));
            }
        }
        for (path, (bytes, _)) in files.iter().filter(|(path, _)| !path.starts_with("tmp/")) {
            let name = ObjectName::parse(path).map_err(|_| format!("{path} is no name of ours"))?;
            match self.tried.get(&name) {
                Some(wanted) if wanted == bytes => {}
                Some(wanted) => return Err(format!("{path} has {} of {} bytes, or others", bytes.len(), wanted.len())),
                None => return Err(format!("{path} was never written")),
            }
        }
        Ok(())
    }
}

fn object(make: fn(ObjectId) -> ObjectName, tag: u8, length: usize) -> (ObjectName, Vec<u8>) {
    let bytes: Vec<u8> = (0..length).map(|at| tag ^ (at / 256) as u8 ^ 0x55).collect();
    (make(ObjectId::of(&bytes)), bytes)
}

/// Two packs whose ids begin with the same byte.
fn neighbours() -> [(ObjectName, Vec<u8>); 2] {
    let mut seen: BTreeMap<u8, (ObjectName, Vec<u8>)> = BTreeMap::new();
    for tag in 0..=u8::MAX {
        let (name, bytes) = object(ObjectName::Pack, tag, 1600);
        let first = name.id().unwrap().0[0];
        if let Some(earlier) = seen.insert(first, (name, bytes.clone())) {
            return [earlier, (name, bytes)];
        }
    }
    unreachable!("256 draws out of 256 without a repetition")
}

/// A life of a storage: made, filled, used twice, an upload given up, an object removed and stored again.
fn work<D: Disk>(disk: D, told: &mut Told) {
    let mut storage = Local::create_with_disk(disk);
    let Ok(storage) = storage.as_mut() else {
        told.failures += 1;
        return;
    };
    work_on(storage, told);
}

fn work_on(storage: &dyn Storage, told: &mut Told) {
    let [pack, neighbour] = neighbours();
    let key = object(ObjectName::Key, 1, 512);
    let segment = object(ObjectName::Segment, 2, 2000);
    let snapshot = object(ObjectName::Snapshot, 3, 100);
    let head = object(|id| ObjectName::Head { generation: 1, id }, 4, 600);
    told.put(storage, ObjectName::Config, &[7; 256]);
    told.put(storage, key.0, &key.1);
    told.put(storage, pack.0, &pack.1);
    told.put(storage, pack.0, &pack.1);
    if let Ok(mut given_up) = storage.create() {
        let _ = given_up.append(&[0xaa; 1500]);
    }
    told.put(storage, neighbour.0, &neighbour.1);
    told.put(storage, segment.0, &segment.1);
    told.put(storage, snapshot.0, &snapshot.1);
    told.put(storage, head.0, &head.1);
    told.remove(storage, pack.0);
    told.put(storage, pack.0, &pack.1);
    told.remove(storage, key.0);
    if storage.clean_temporary().is_err() {
        told.failures += 1;
    }
}

/// The storage of a later run: made anew when nothing was stored yet, else opened.
fn again<D: Disk>(disk: impl Fn() -> D) -> Local<D> {
    let storage = Local::open_with_disk(disk());
    let stored = Folder::ALL.iter().map(|folder| storage.list(*folder).unwrap().len()).sum::<usize>();
    if stored == 0 && storage.length(&ObjectName::Config).is_err() {
        return Local::create_with_disk(disk()).expect("an interrupted creation is completed");
    }
    storage
}

/// Cuts the power at every operation; the number of images that were checked, or the first that is wrong.
fn sweep<D: Disk>(wrap: impl Fn(CrashDisk) -> D) -> Result<usize, String> {
    let whole = CrashDisk::new();
    work(wrap(whole.clone()), &mut Told::default());
    let mut checked = 0;
    for stop in 0..=whole.operations() {
        let disk = CrashDisk::new();
        disk.stop_after(stop);
        let mut told = Told::default();
        work(wrap(disk.clone()), &mut told);
        for image in disk.images(stop, RANDOM_IMAGES) {
            told.check(&image).map_err(|wrong| format!("power cut after {stop} operations: {wrong}"))?;
            // Life goes on after it, and the next cut finds everything as well.
            let mut told = told.clone();
            told.failures = 0;
            work_on(&again(|| wrap(image.clone())), &mut told);
            if told.failures > 0 {
                return Err(format!("power cut after {stop} operations: the next run fails"));
            }
            if !image.files().keys().all(|path| !path.starts_with("tmp/")) {
                return Err(format!("power cut after {stop} operations: the next run leaves something in tmp/"));
            }
            told.check(&image)?;
            checked += 1;
        }
    }
    Ok(checked)
}

#[test]
fn a_power_cut_at_any_operation_loses_nothing_acknowledged() {
    let checked = sweep(|disk| disk).unwrap();
    println!("power cut: {checked} of {checked} images");
    assert!(checked > 500, "{checked} images are too few to mean anything");
}

#[test]
fn two_power_cuts_lose_nothing_acknowledged() {
    let mut checked = 0;
    let whole = CrashDisk::new();
    work(whole.clone(), &mut Told::default());
    for stop in (0..=whole.operations()).step_by(3) {
        let disk = CrashDisk::new();
        disk.stop_after(stop);
        let mut told = Told::default();
        work(disk.clone(), &mut told);
        for image in disk.images(stop, 2) {
            let mut told = told.clone();
            work_on(&again(|| image.clone()), &mut told);
            for image in image.images(stop, RANDOM_IMAGES) {
                told.check(&image).unwrap();
                checked += 1;
            }
        }
    }
    println!("two power cuts: {checked} of {checked} images");
}

#[test]
fn a_kill_and_then_a_power_cut_lose_nothing_acknowledged() {
    let whole = CrashDisk::new();
    work(whole.clone(), &mut Told::default());
    let mut checked = 0;
    for kill in 0..=whole.operations() {
        let disk = CrashDisk::new();
        disk.stop_after(kill);
        let mut told = Told::default();
        work(disk.clone(), &mut told);
        // The process is gone, what it wrote is still in the page cache: nothing of it was synced by us.
        disk.restart();
        told.failures = 0;
        work_on(&again(|| disk.clone()), &mut told);
        assert_eq!(told.failures, 0);
        for image in disk.images(kill, RANDOM_IMAGES) {
            told.check(&image).unwrap_or_else(|wrong| panic!("kill after {kill} operations: {wrong}"));
            checked += 1;
        }
    }
    println!("kill: {checked} of {checked} images");
}

#[test]
fn a_failing_call_loses_nothing_acknowledged() {
    let whole = CrashDisk::new();
    work(whole.clone(), &mut Told::default());
    let mut checked = 0;
    for fault in [Fault::Io, Fault::Full] {
        for at in 0..whole.operations() {
            let disk = CrashDisk::new();
            disk.fail_at(at, fault);
            let mut told = Told::default();
            work(disk.clone(), &mut told);
            for image in disk.images(at, RANDOM_IMAGES) {
                told.check(&image).unwrap_or_else(|wrong| panic!("{fault:?} at operation {at}: {wrong}"));
                checked += 1;
            }
            // The next run works, and all it says holds.
            disk.restart();
            told.failures = 0;
            work_on(&again(|| disk.clone()), &mut told);
            assert_eq!(told.failures, 0, "{fault:?} at operation {at}: the next run fails");
            for image in disk.images(at, RANDOM_IMAGES) {
                told.check(&image).unwrap_or_else(|wrong| panic!("{fault:?} at operation {at}, next run: {wrong}"));
                checked += 1;
            }
        }
    }
    for at in 0..whole.reads() {
        let disk = CrashDisk::new();
        disk.fail_read_at(at);
        let mut told = Told::default();
        work(disk.clone(), &mut told);
        told.check(&disk).unwrap_or_else(|wrong| panic!("failing read {at}: {wrong}"));
        checked += 1;
    }
    println!("failing calls: {checked} of {checked} images");
}

#[test]
fn a_failed_sync_ends_the_run_and_is_not_tried_again() {
    let [(name, bytes), (other, other_bytes)] = neighbours();
    // Operations of a put: create, 3 appends, seal, sync of the file, close, folder, its parent's sync, rename, sync.
    for (step, fault) in [(5, "file"), (8, "parent"), (10, "folder")] {
        let disk = CrashDisk::new();
        let storage = Local::create_with_disk(disk.clone()).unwrap();
        storage.put(&ObjectName::Config, b"config").unwrap();
        let before = disk.operations();
        disk.fail_at(before + step, Fault::Io);
        let mut upload = storage.create().unwrap();
        bytes.chunks(700).for_each(|piece| upload.append(piece).unwrap());
        let error = upload.finish(&name).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Durability, "{fault}: {error}");
        assert_eq!(error.operation, "fsync", "{fault}: {error}");
        for error in [
            storage.put(&name, &bytes).unwrap_err(),
            storage.put(&other, &other_bytes).unwrap_err(),
            storage.remove(&ObjectName::Config).unwrap_err(),
        ] {
            assert_eq!(error.kind, ErrorKind::Durability, "{fault}: {error}");
        }
        assert_eq!(storage.read(&ObjectName::Config, 6).unwrap(), b"config", "reading goes on");
    }
}

#[test]
fn an_object_that_a_killed_process_removed_stays_away_once_it_is_called_absent() {
    let disk = CrashDisk::new();
    let storage = Local::create_with_disk(disk.clone()).unwrap();
    let (name, bytes) = object(ObjectName::Segment, 1, 100);
    storage.put(&name, &bytes).unwrap();
    disk.stop_after(disk.operations() + 1);
    assert_eq!(storage.remove(&name).unwrap_err().kind, ErrorKind::Durability);
    disk.restart();
    let next = Local::open_with_disk(disk.clone());
    assert_eq!(next.remove(&name).unwrap_err().kind, ErrorKind::Absent);
    assert!(disk.images(1, RANDOM_IMAGES).iter().all(|image| image.files().is_empty()));
}

#[test]
fn a_write_that_falls_short_unnoticed_is_found_by_its_length() {
    let disk = CrashDisk::new();
    let storage = Local::create_with_disk(Careless { disk: disk.clone(), leaves_out: LeftOut::LastByte }).unwrap();
    let error = storage.put(&ObjectName::Config, &[7; 256]).unwrap_err();
    assert!(error.to_string().contains("256 bytes were written, the file has 255"), "{error}");
    assert!(disk.files().is_empty());
}

#[test]
fn a_full_disk_is_told_apart_and_leaves_nothing() {
    let disk = CrashDisk::new();
    let storage = Local::create_with_disk(disk.clone()).unwrap();
    let (name, bytes) = object(ObjectName::Pack, 1, 4000);
    // The first put syncs tmp/ once more; after that the append is the second operation.
    storage.put(&ObjectName::Config, b"config").unwrap();
    disk.fail_at(disk.operations() + 1, Fault::Full);
    let error = storage.put(&name, &bytes).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Full);
    assert_eq!(disk.files().len(), 1);
    storage.put(&name, &bytes).expect("space came back");
}

/// A disk that leaves something out, as a wrong program would.
#[derive(Debug)]
struct Careless {
    disk: CrashDisk,
    leaves_out: LeftOut,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum LeftOut {
    SyncFile,
    SyncDirectory,
    SyncParent,
    SyncObjectFolder,
    SealFile,
    LastByte,
    /// Renames first and syncs the file later, through its new name.
    SyncBeforeRename,
}

impl Disk for Careless {
    type File = CrashFile;

    fn create_directory(&self, path: &str) -> io::Result<()> {
        self.disk.create_directory(path)
    }

    fn create_file(&self, path: &str) -> io::Result<CrashFile> {
        self.disk.create_file(path)
    }

    fn append(&self, file: &mut CrashFile, bytes: &[u8]) -> io::Result<()> {
        let kept = if self.leaves_out == LeftOut::LastByte { bytes.len() - 1 } else { bytes.len() };
        self.disk.append(file, &bytes[..kept])
    }

    fn file_length(&self, file: &CrashFile) -> io::Result<u64> {
        self.disk.file_length(file)
    }

    fn seal_file(&self, file: &CrashFile) -> io::Result<()> {
        if self.leaves_out == LeftOut::SealFile { Ok(()) } else { self.disk.seal_file(file) }
    }

    fn sync_file(&self, file: &CrashFile) -> io::Result<()> {
        match self.leaves_out {
            LeftOut::SyncFile | LeftOut::SyncBeforeRename => Ok(()),
            _ => self.disk.sync_file(file),
        }
    }

    fn check_close(&self, file: &CrashFile) -> io::Result<()> {
        self.disk.check_close(file)
    }

    fn sync_existing(&self, path: &str) -> io::Result<()> {
        self.disk.sync_existing(path)
    }

    fn rename_new(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename_new(from, to)?;
        if self.leaves_out == LeftOut::SyncBeforeRename { self.disk.sync_existing(to) } else { Ok(()) }
    }

    fn sync_directory(&self, path: &str) -> io::Result<()> {
        let parent = matches!(path, "" | "packs");
        match self.leaves_out {
            LeftOut::SyncDirectory => Ok(()),
            LeftOut::SyncParent if parent => Ok(()),
            LeftOut::SyncObjectFolder if !parent => Ok(()),
            _ => self.disk.sync_directory(path),
        }
    }

    fn unlink(&self, path: &str) -> io::Result<()> {
        self.disk.unlink(path)
    }

    fn remove_abandoned(&self, path: &str) -> io::Result<bool> {
        self.disk.remove_abandoned(path)
    }

    fn read_range(&self, path: &str, offset: u64, length: u64) -> io::Result<Vec<u8>> {
        self.disk.read_range(path, offset, length)
    }

    fn length(&self, path: &str) -> io::Result<u64> {
        self.disk.length(path)
    }

    fn list(&self, path: &str) -> io::Result<Vec<DiskEntry>> {
        self.disk.list(path)
    }
}

#[test]
fn the_sweep_catches_a_program_that_leaves_a_sync_out() {
    for leaves_out in [
        LeftOut::SyncFile,
        LeftOut::SyncDirectory,
        LeftOut::SyncParent,
        LeftOut::SyncObjectFolder,
        LeftOut::SealFile,
        LeftOut::SyncBeforeRename,
    ] {
        let found = sweep(|disk| Careless { disk, leaves_out });
        println!("{leaves_out:?}: {}", found.as_ref().err().map_or("not caught", String::as_str));
        assert!(found.is_err(), "{leaves_out:?} was not caught");
    }
}
