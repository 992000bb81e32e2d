//! The sweep finds programs that are wrong: each variant here leaves something out, or does it too early, and must be
//! caught. A sweep that cannot fail proves nothing.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use packstone::storage::crash::{CrashDisk, CrashFile};
use packstone::storage::disk::{Disk, DiskEntry};
use packstone::storage::local::Local;
use packstone::storage::{Folder, Listed, ObjectName, Result, Storage, Stored, Upload};

use crate::sweep::{cut, init, save};
use crate::told::{Judge, Told};
use crate::world::{Contents, Machine, Source, backup, copy};

/// What a wrong disk leaves out.
#[derive(Debug, Clone, Copy, PartialEq)]
enum LeftOut {
    /// The fsync of files.
    File,
    /// The fsync of the folders of packs.
    PackFolder,
    /// The fsync of `packs/`, in which new folders stand.
    PackParent,
    /// The fsync of `heads/`.
    Heads,
}

#[derive(Debug)]
struct Careless {
    disk: CrashDisk,
    leaves_out: LeftOut,
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
        self.disk.append(file, bytes)
    }

    fn file_length(&self, file: &CrashFile) -> io::Result<u64> {
        self.disk.file_length(file)
    }

    fn seal_file(&self, file: &CrashFile) -> io::Result<()> {
        self.disk.seal_file(file)
    }

    fn sync_file(&self, file: &CrashFile) -> io::Result<()> {
        if self.leaves_out == LeftOut::File { Ok(()) } else { self.disk.sync_file(file) }
    }

    fn check_close(&self, file: &CrashFile) -> io::Result<()> {
        self.disk.check_close(file)
    }

    fn sync_existing(&self, path: &str) -> io::Result<()> {
        self.disk.sync_existing(path)
    }

    fn rename_new(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename_new(from, to)
    }

    fn sync_directory(&self, path: &str) -> io::Result<()> {
        let left_out = match self.leaves_out {
            LeftOut::File => false,
            LeftOut::PackFolder => path.starts_with("packs/"),
            LeftOut::PackParent => path == "packs",
            LeftOut::Heads => path == "heads",
        };
        if left_out { Ok(()) } else { self.disk.sync_directory(path) }
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

/// A repository without snapshots.
fn base(machine: &Machine) -> (CrashDisk, Told) {
    let (disk, mut told) = (CrashDisk::new(), Told::default());
    init(disk.clone(), &mut told, machine);
    assert!(told.made);
    (copy(&disk), told)
}

fn small() -> (Source, Arc<Contents>) {
    let source = Source::empty();
    for number in 0..9 {
        source.write(&format!("{number}"), &vec![number; 5_000]);
    }
    let contents = Arc::new(source.contents());
    (source, contents)
}

#[test]
fn a_disk_that_leaves_a_sync_out_is_caught() {
    let machine = Machine::default();
    let (base, told) = base(&machine);
    let (source, now) = small();
    let judge = Judge { machine: &machine, source: source.path(), now: &now };
    for leaves_out in [LeftOut::File, LeftOut::PackFolder, LeftOut::PackParent, LeftOut::Heads] {
        let wrap = |disk| Careless { disk, leaves_out };
        // A whole run, and then a power cut: no step of the sweep may skip it.
        let disk = copy(&base);
        let mut after = told.clone();
        save(wrap(disk.clone()), &mut after, &machine, source.path(), &now);
        let mut found = None;
        disk.each_image(1, 8, |image| {
            found = found.take().or_else(|| judge.check(&after, &image, |disk| disk).err());
        });
        println!("{leaves_out:?}: {}", found.as_deref().unwrap_or("not caught"));
        assert!(found.is_some(), "{leaves_out:?} was not caught");
        assert!(
            cut(&base, &told, &judge, |disk| disk, &|disk, told| save(disk, told, &machine, source.path(), &now))
                .is_ok()
        );
    }
}

/// Which objects a wrong storage holds back until the head is stored.
type Late = fn(&ObjectName) -> bool;

/// Objects on their way that have said they were stored.
type Held = Arc<Mutex<Vec<(ObjectName, Vec<u8>)>>>;

/// Publishes the head before what it names.
#[derive(Debug)]
struct HeadFirst {
    inner: Local<CrashDisk>,
    late: Late,
    held: Held,
}

struct HeadFirstUpload {
    inner: Local<CrashDisk>,
    late: Late,
    held: Held,
    bytes: Vec<u8>,
}

impl Upload for HeadFirstUpload {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn finish(self: Box<Self>, name: &ObjectName) -> Result<Stored> {
        if (self.late)(name) {
            self.held.lock().unwrap().push((*name, self.bytes));
            return Ok(Stored::Created);
        }
        let stored = self.inner.put(name, &self.bytes)?;
        if matches!(name, ObjectName::Head { .. }) {
            for (name, bytes) in self.held.lock().unwrap().drain(..) {
                self.inner.put(&name, &bytes)?;
            }
        }
        Ok(stored)
    }
}

impl HeadFirst {
    fn held(&self, name: &ObjectName) -> Option<Vec<u8>> {
        self.held.lock().unwrap().iter().find(|(held, _)| held == name).map(|(_, bytes)| bytes.clone())
    }
}

impl Storage for HeadFirst {
    fn create(&self) -> Result<Box<dyn Upload>> {
        let (inner, held) = (self.inner.clone(), Arc::clone(&self.held));
        Ok(Box::new(HeadFirstUpload { inner, late: self.late, held, bytes: Vec::new() }))
    }

    fn read(&self, name: &ObjectName, limit: u64) -> Result<Vec<u8>> {
        self.held(name).map_or_else(|| self.inner.read(name, limit), Ok)
    }

    fn read_range(&self, name: &ObjectName, offset: u64, length: u64) -> Result<Vec<u8>> {
        match self.held(name) {
            Some(bytes) => Ok(bytes[offset as usize..(offset + length) as usize].to_vec()),
            None => self.inner.read_range(name, offset, length),
        }
    }

    fn length(&self, name: &ObjectName) -> Result<u64> {
        self.inner.length(name)
    }

    fn list(&self, folder: Folder) -> Result<Vec<Listed>> {
        let mut listed = self.inner.list(folder)?;
        let held = self.held.lock().unwrap();
        let of_folder = held.iter().filter(|(name, _)| name.folder() == Some(folder));
        listed.extend(of_folder.map(|(name, bytes)| Listed { name: *name, length: bytes.len() as u64 }));
        Ok(listed)
    }

    fn strays(&self, folder: Folder) -> Result<Vec<String>> {
        self.inner.strays(folder)
    }

    fn remove(&self, name: &ObjectName) -> Result<()> {
        self.inner.remove(name)
    }

    fn set_aside(&self, name: &ObjectName) -> Result<String> {
        self.inner.set_aside(name)
    }

    fn clean_temporary(&self) -> Result<u64> {
        self.inner.clean_temporary()
    }
}

/// What the sweep says about a program that stores `late` objects after the head.
fn sweep_late(late: Late, source: &Path, now: &Arc<Contents>) -> Option<String> {
    let machine = Machine::default();
    let (base, told) = base(&machine);
    let judge = Judge { machine: &machine, source, now };
    for stop in 0.. {
        let disk = copy(&base);
        disk.stop_after(stop);
        let storage = HeadFirst { inner: Local::open_with_disk(disk.clone()), late, held: Held::default() };
        let mut told = told.clone();
        let acknowledged = machine.open(Arc::new(storage), 1).is_ok_and(|repository| {
            let report = backup(&repository, source);
            report.is_ok_and(|report| told.snapshots.insert(report.snapshot.unwrap(), Arc::clone(now)).is_none())
        });
        let mut wrong = None;
        disk.each_image(stop, 0, |image| {
            wrong = wrong.take().or_else(|| judge.check(&told, &image, |disk| disk).err());
        });
        if wrong.is_some() || acknowledged {
            return wrong;
        }
    }
    None
}

#[test]
fn a_head_that_is_published_before_what_it_names_is_caught() {
    let (source, now) = small();
    let cases: [(&str, Late); 3] = [
        ("packs", |name| matches!(name, ObjectName::Pack(_))),
        ("segments", |name| matches!(name, ObjectName::Segment(_))),
        ("the snapshot", |name| matches!(name, ObjectName::Snapshot(_))),
    ];
    for (what, late) in cases {
        let found = sweep_late(late, source.path(), &now);
        println!("{what} after the head: {}", found.as_deref().unwrap_or("not caught"));
        assert!(found.is_some(), "{what} after the head: not caught");
    }
    assert_eq!(sweep_late(|_| false, source.path(), &now), None, "nothing is late, and something is wrong");
}
