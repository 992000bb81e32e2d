//! Objects as files of a local directory.
//!
//! # How an object comes into being
//!
//! 1. `tmp/<process>-<count>` is made exclusively and locked (the lock dies with the process, and a cleaner leaves
//!    locked files alone);
//! 2. the bytes are written as they come;
//! 3. the file's length is compared with what was written;
//! 4. the file gets mode 0400, before the fsync so that the mode is as durable as the bytes;
//! 5. fsync of the file, and what a close would report;
//! 6. the object's folder is made if need be, and its parent is fsynced;
//! 7. rename to the final name, without replacing;
//! 8. fsync of the folder. Only now the object is acknowledged.
//!
//! | power cut, or kill, after | leaves | who cleans |
//! |---|---|---|
//! | 1 to 6 | a file in `tmp/`, an empty folder | [`Storage::clean_temporary`]; the folder stays |
//! | 7 | the whole object, or the file in `tmp/` | an unreferenced object is the repository's to adopt or mark |
//! | 8 | the object | |
//!
//! # Invariants
//!
//! - What carries a final name was fsynced before it got it, so it is whole; nobody opens it for writing again.
//! - A folder counts as there once **this** process has fsynced its parent: the process that made it may have been
//!   killed before it did.
//! - After the first failed fsync or close every later write through the same storage fails ([`ErrorKind::Durability`]).
//!   Another thread's fsync of the same folder would succeed, and acknowledge what the kernel has already dropped.
//! - Reading needs no write access at all, so a repository on a read-only file system can be restored from. A missing
//!   folder is an empty one: tools that copy files often leave empty folders behind.

use crate::base::lock::lock;
use std::cell::Cell;
use std::collections::BTreeSet;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use super::body::{Body, pieces};
use super::disk::{Disk, DiskEntry, EntryKind, OsDisk, split};
use super::{
    Error, ErrorKind, Folder, Leftovers, Listed, MirrorStore, ObjectName, Result, Storage, Stored, Uplink, Upload,
};
use crate::base::escape::escape;

/// Folder of what is being written.
const TEMPORARY: &str = "tmp";
/// Folder of the lock files; used by the repository, made here so that a new repository is whole.
const LOCK: &str = "lock";
/// Folder of damaged objects that were moved out of the way.
const QUARANTINE: &str = "quarantine";
/// Bytes read or written at a time where that is enough: 1 MiB.
const PIECE_BYTES: u64 = 1 << 20;
/// Temporary names tried before giving up: left-overs of killed processes that had our number may be in the way.
const NAME_ATTEMPTS: u32 = 1 << 16;

/// A storage in a local directory. A clone is another handle on the same one.
#[derive(Debug)]
pub struct Local<D: Disk = OsDisk> {
    shared: Arc<Shared<D>>,
}

impl<D: Disk> Clone for Local<D> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

#[derive(Debug)]
struct Shared<D: Disk> {
    disk: D,
    /// Folders whose entry in their parent is known to be durable.
    durable_folders: Mutex<BTreeSet<String>>,
    /// Number of the next temporary file.
    next: AtomicU64,
    /// Why an fsync or close has failed: nothing is acknowledged any more.
    failed: OnceLock<String>,
}

impl Local {
    /// Makes the directory with its folders, or completes what an interrupted earlier call began. A directory that
    /// holds a repository is [`io::ErrorKind::AlreadyExists`], one that holds anything else
    /// [`io::ErrorKind::DirectoryNotEmpty`] (as the error's source). Key slots and heads without a config are what an
    /// interrupted making of a repository leaves: they are let stand, for the repository to judge.
    pub fn create(path: &Path) -> Result<Self> {
        let error = |error| Error::new("create", escape(path.as_os_str().as_encoded_bytes()), error);
        Self::create_with_disk(OsDisk::create(path).map_err(error)?)
    }

    /// The same, but of the path only the last component is made: a parent that is missing is [`ErrorKind::Absent`]. It may be the place of a
    /// disk that is not mounted.
    pub fn create_last(path: &Path) -> Result<Self> {
        let error = |error| Error::new("create", escape(path.as_os_str().as_encoded_bytes()), error);
        Self::create_with_disk(OsDisk::create_last(path).map_err(error)?)
    }

    /// Opens a directory that exists. Whether a repository is in it is for the reader of `config` to say.
    pub fn open(path: &Path) -> Result<Self> {
        let error = |error| Error::new("open", escape(path.as_os_str().as_encoded_bytes()), error);
        Ok(Self::open_with_disk(OsDisk::open(path).map_err(error)?))
    }

    /// A handle on the directory in which everything is, whatever lies at its path by now.
    ///
    /// # Errors
    /// The process has no handle left.
    pub fn root(&self) -> Result<OwnedFd> {
        self.shared.disk.root().map_err(|error| Error::new("open", "the repository's directory", error))
    }

    /// True once it has turned out that names are given by a look and a rename here, which only processes of one machine do
    /// one after the other.
    #[must_use]
    pub fn wants_one_machine(&self) -> bool {
        self.shared.disk.is_plain()
    }
}

impl<D: Disk> Local<D> {
    /// As [`Local::create`], in the root of any disk.
    pub fn create_with_disk(disk: D) -> Result<Self> {
        let storage = Self::open_with_disk(disk);
        storage.refuse_occupied()?;
        for folder in Folder::ALL.map(Folder::as_str).into_iter().chain([LOCK, TEMPORARY]) {
            storage.shared.make_folder(folder)?;
        }
        Ok(storage)
    }

    /// As [`Local::open`], in the root of any disk. Touches nothing.
    pub fn open_with_disk(disk: D) -> Self {
        let shared =
            Shared { disk, durable_folders: Mutex::default(), next: AtomicU64::new(0), failed: OnceLock::new() };
        Self { shared: Arc::new(shared) }
    }

    /// Only folders of ours may be there: empty ones, files in `tmp/`, lock files, key slots and heads.
    fn refuse_occupied(&self) -> Result<()> {
        let refuse = |path: String, kind, message: &str| {
            Err(Error::new("create", path, io::Error::new(kind, message.to_owned())))
        };
        let foreign = "something else is there already; choose an empty directory, or one that does not exist";
        for entry in self.shared.list("")? {
            if entry.name == b"config" {
                return refuse(escape(&entry.name), io::ErrorKind::AlreadyExists, "a repository is there already");
            }
            let folder = Folder::ALL.into_iter().find(|folder| folder.as_str().as_bytes() == entry.name);
            let other = [LOCK, TEMPORARY].iter().any(|name| name.as_bytes() == entry.name);
            if entry.kind != EntryKind::Directory || !(folder.is_some() || other) {
                return refuse(escape(&entry.name), io::ErrorKind::DirectoryNotEmpty, foreign);
            }
            if let Some(folder) = folder {
                let listing = self.shared.walk(folder)?;
                let unfinished = matches!(folder, Folder::Keys | Folder::Heads);
                let object = listing.objects.first().filter(|_| !unfinished).map(|object| object.name);
                let object = listing.others.first().copied().or(object).map(|name| name.to_string());
                if let Some(found) = listing.strays.into_iter().next().or(object) {
                    return refuse(found, io::ErrorKind::DirectoryNotEmpty, foreign);
                }
            }
        }
        Ok(())
    }
}

/// What a folder holds. A head that is no regular file is an object all the same, and cannot be read: it may be the newest one. Whether another
/// object is there is asked by its name, so that what else has one is just not part of the repository.
#[derive(Default)]
struct Listing {
    objects: Vec<Listed>,
    /// Names of objects that something else than a regular file has: a link, a pipe, a directory.
    others: Vec<ObjectName>,
    /// Anything else, escaped.
    strays: Vec<String>,
}

impl Listing {
    /// The objects, and the names of everything else.
    fn into_parts(mut self, folder: Folder) -> (Vec<Listed>, Vec<String>) {
        if folder == Folder::Heads {
            self.objects.extend(self.others.into_iter().map(|name| Listed { name, length: 0 }));
        } else {
            self.strays.extend(self.others.iter().map(ObjectName::to_string));
        }
        (self.objects, self.strays)
    }
}

impl<D: Disk> Shared<D> {
    /// Refuses to go on after a failed fsync.
    fn check_not_failed(&self, operation: &'static str, object: impl std::fmt::Display) -> Result<()> {
        if let Some(why) = self.failed.get() {
            let message = format!(
                "an earlier fsync failed ({why}): what the disk holds is not known; nothing more is written in this run"
            );
            return Err(Error::new(operation, object, io::Error::other(message)).with_kind(ErrorKind::Durability));
        }
        Ok(())
    }

    /// Turns a failed fsync or close into the error that ends the run.
    fn durable(&self, object: impl std::fmt::Display, result: io::Result<()>) -> Result<()> {
        result.map_err(|error| {
            let _ = self.failed.set(error.to_string());
            Error::new("fsync", object, error).with_kind(ErrorKind::Durability)
        })
    }

    /// Makes a folder, with its parents, unless it is there, and its entry durable.
    fn make_folder(&self, folder: &str) -> Result<()> {
        let known = || lock(&self.durable_folders);
        if folder.is_empty() || known().contains(folder) {
            return Ok(());
        }
        let (parent, _) = split(folder);
        self.make_folder(parent)?;
        match self.disk.create_directory(folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(Error::new("create", folder, error));
            }
            _ => {}
        }
        self.durable(folder, self.disk.sync_directory(parent))?;
        known().insert(folder.to_owned());
        Ok(())
    }

    /// A directory's entries; none when it does not exist.
    fn list(&self, path: &str) -> Result<Vec<DiskEntry>> {
        match self.disk.list(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            other => other.map_err(|error| {
                let error = Error::new("list", if path.is_empty() { "." } else { path }, error);
                // Another kind of thing in a folder's place says nothing of any object.
                if error.kind == ErrorKind::NoFile { error.with_kind(ErrorKind::Other) } else { error }
            }),
        }
    }

    fn walk(&self, folder: Folder) -> Result<Listing> {
        let mut listing = Listing::default();
        for entry in self.list(folder.as_str())? {
            let fan_out = folder == Folder::Packs && entry.kind == EntryKind::Directory && is_fan_out(&entry.name);
            if fan_out && let Ok(name) = str::from_utf8(&entry.name) {
                let path = format!("{}/{name}", folder.as_str());
                for entry in self.list(&path)? {
                    sort_out(&path, entry, &mut listing);
                }
            } else {
                sort_out(folder.as_str(), entry, &mut listing);
            }
        }
        Ok(listing)
    }

    /// Fails unless the object that lies under `name` is what was to be stored, durably.
    fn check_existing(&self, name: &ObjectName, temporary: &str, length: u64) -> Result<()> {
        let path = name.to_string();
        let fail = |error| Error::new("read", name, error);
        // What is no file is not fsynced, and nothing failed by that.
        match self.disk.length(&path).map_err(fail) {
            Err(error) if error.kind == ErrorKind::NoFile => return Err(super::other_bytes(name)),
            looked => looked?,
        };
        // The object was fsynced before it got its name if we wrote it, but a copying tool may have put it there; and
        // whoever renamed it may have been killed before the folder's fsync.
        self.durable(name, self.disk.sync_existing(&path))?;
        self.durable(name, self.disk.sync_directory(split(&path).0))?;
        if name.id().is_none() {
            return Ok(());
        }
        if self.disk.length(&path).map_err(fail)? != length {
            return Err(super::other_bytes(name));
        }
        let mut offset = 0;
        while offset < length {
            let count = PIECE_BYTES.min(length - offset);
            let there = self.disk.read_range(&path, offset, count).map_err(fail)?;
            if there != self.disk.read_range(temporary, offset, count).map_err(fail)? {
                return Err(super::other_bytes(name));
            }
            offset += count;
        }
        Ok(())
    }
}

/// A folder of the repository, or one of this machine's.
fn is_own_folder(entry: &DiskEntry) -> bool {
    let names = Folder::ALL.map(Folder::as_str).into_iter().chain([LOCK, TEMPORARY, QUARANTINE]);
    entry.kind == EntryKind::Directory && names.into_iter().any(|name| name.as_bytes() == entry.name)
}

/// Two lower-case hex digits: a folder below `packs/`.
fn is_fan_out(name: &[u8]) -> bool {
    name.len() == 2 && name.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Tells objects from everything else by their name and kind.
fn sort_out(directory: &str, entry: DiskEntry, listing: &mut Listing) {
    let name = str::from_utf8(&entry.name).ok().and_then(|name| ObjectName::parse(&format!("{directory}/{name}")).ok());
    match name {
        Some(name) if entry.kind == EntryKind::File => listing.objects.push(Listed { name, length: entry.length }),
        Some(name) => listing.others.push(name),
        None => listing.strays.push(format!("{directory}/{}", escape(&entry.name))),
    }
}

impl<D: Disk> Storage for Local<D> {
    fn create(&self) -> Result<Box<dyn Upload>> {
        self.shared.check_not_failed("write", TEMPORARY)?;
        self.shared.make_folder(TEMPORARY)?;
        for _ in 0..NAME_ATTEMPTS {
            let count = self.shared.next.fetch_add(1, Ordering::Relaxed);
            let temporary = format!("{TEMPORARY}/{}-{count}", std::process::id());
            match self.shared.disk.create_file(&temporary) {
                Ok(file) => {
                    let shared = Arc::clone(&self.shared);
                    return Ok(Box::new(LocalUpload { shared, file, temporary, length: 0, named: false }));
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(Error::new("write", &temporary, error)),
            }
        }
        let message = "too many left-over files are there; remove them while nothing runs";
        Err(Error::new("write", TEMPORARY, io::Error::other(message)))
    }

    fn read(&self, name: &ObjectName, limit: u64) -> Result<Vec<u8>> {
        let length = self.length(name)?;
        if length > limit {
            return Err(super::too_long(name, Some(length), limit));
        }
        self.read_range(name, 0, length)
    }

    fn stream(&self, name: &ObjectName, limit: u64, sink: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<u64> {
        let length = self.length(name)?;
        if length > limit {
            return Err(super::too_long(name, Some(length), limit));
        }
        let mut at = 0;
        while at < length {
            let piece = self.read_range(name, at, PIECE_BYTES.min(length - at))?;
            sink(&piece)?;
            at += piece.len() as u64;
        }
        Ok(length)
    }

    fn read_range(&self, name: &ObjectName, offset: u64, length: u64) -> Result<Vec<u8>> {
        let read = self.shared.disk.read_range(&name.to_string(), offset, length);
        read.map_err(|error| Error::new("read", name, error))
    }

    fn length(&self, name: &ObjectName) -> Result<u64> {
        self.shared.disk.length(&name.to_string()).map_err(|error| Error::new("read", name, error))
    }

    fn list(&self, folder: Folder) -> Result<Vec<Listed>> {
        Ok(self.shared.walk(folder)?.into_parts(folder).0)
    }

    fn strays(&self, folder: Folder) -> Result<Vec<String>> {
        Ok(self.shared.walk(folder)?.into_parts(folder).1)
    }

    fn settle(&self, name: &ObjectName) -> Result<()> {
        self.shared.check_not_failed("fsync", name)?;
        let path = name.to_string();
        let (folder, _) = split(&path);
        self.shared.disk.length(&path).map_err(|error| Error::new("read", name, error))?;
        // The folder may be as new as the object.
        self.shared.make_folder(folder)?;
        self.shared.durable(name, self.shared.disk.sync_existing(&path))?;
        self.shared.durable(name, self.shared.disk.sync_directory(folder))?;
        self.shared.check_not_failed("fsync", name)
    }

    fn remove(&self, name: &ObjectName) -> Result<()> {
        self.shared.check_not_failed("remove", name)?;
        let path = name.to_string();
        let unlinked = self.shared.disk.unlink(&path);
        // A directory is none of ours, and may hold what somebody wants to have.
        if unlinked.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::IsADirectory) {
            return self.set_aside(name).map(drop);
        }
        let removed = unlinked.map_err(|error| Error::new("remove", name, error));
        // Absent may mean: removed by a process that was killed before its fsync. It is made durable here as well.
        if let Err(error) = &removed
            && error.kind != ErrorKind::Absent
        {
            return removed;
        }
        match self.shared.disk.sync_directory(split(&path).0) {
            // Without its folder the object is absent for good.
            Err(error) if removed.is_err() && error.kind() == io::ErrorKind::NotFound => removed,
            synced => self.shared.durable(name, synced).and(removed),
        }
    }

    fn set_aside(&self, name: &ObjectName) -> Result<String> {
        self.shared.check_not_failed("move", name)?;
        self.shared.make_folder(QUARANTINE)?;
        let path = name.to_string();
        let (folder, file) = split(&path);
        for count in 0..NAME_ATTEMPTS {
            let suffix = if count == 0 { String::new() } else { format!(".{count}") };
            let aside = format!("{QUARANTINE}/{file}{suffix}");
            match self.shared.disk.rename_new(&path, &aside) {
                Ok(()) => {
                    // First where it is now: between the two it has both names rather than none.
                    self.shared.durable(name, self.shared.disk.sync_directory(QUARANTINE))?;
                    self.shared.durable(name, self.shared.disk.sync_directory(folder))?;
                    return Ok(aside);
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(Error::new("move", name, error)),
            }
        }
        let message = "too many copies of it are in quarantine/; remove some";
        Err(Error::new("move", name, io::Error::other(message)))
    }

    fn clean_temporary(&self) -> Result<u64> {
        let mut removed = 0;
        for entry in self.shared.list(TEMPORARY)? {
            let Ok(name) = str::from_utf8(&entry.name) else { continue };
            if entry.kind == EntryKind::Directory {
                continue;
            }
            let path = format!("{TEMPORARY}/{name}");
            match self.shared.disk.remove_abandoned(&path) {
                Ok(done) => removed += u64::from(done),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(Error::new("remove", escape(path.as_bytes()), error)),
            }
        }
        Ok(removed)
    }
}

impl<D: Disk> Local<D> {
    /// True when this very body lies under the name.
    fn holds(&self, name: &ObjectName, body: &dyn Body) -> Result<bool> {
        match self.length(name) {
            Ok(length) if length == body.length() => {}
            Err(error) if error.kind != ErrorKind::NoFile => return Err(error),
            _ => return Ok(false),
        }
        let mut at = 0;
        for piece in pieces(body, PIECE_BYTES) {
            let piece = piece?;
            if self.read_range(name, at, piece.len() as u64)? != piece {
                return Ok(false);
            }
            at += piece.len() as u64;
        }
        Ok(true)
    }
}

impl<D: Disk> MirrorStore for Local<D> {
    fn list_all(&self) -> Result<(Vec<Listed>, Vec<String>)> {
        let (mut all, mut other) = (Vec::new(), Vec::new());
        for folder in Folder::ALL {
            let (objects, strays) = self.shared.walk(folder)?.into_parts(folder);
            all.extend(objects);
            other.extend(strays);
        }
        for entry in self.shared.list("")? {
            if entry.name == b"config" && entry.kind == EntryKind::File {
                all.push(Listed { name: ObjectName::Config, length: entry.length });
            } else if !is_own_folder(&entry) {
                other.push(escape(&entry.name));
            }
        }
        Ok((all, other))
    }

    /// What lies there is looked at first: another process may have stored the very same, and a published head may need it.
    fn replace(&self, name: &ObjectName, bytes: &[u8]) -> Result<()> {
        let same = |storage: &Self| storage.read(name, bytes.len() as u64).is_ok_and(|there| there == bytes);
        match self.put(name, bytes) {
            Ok(Stored::Created) => return Ok(()),
            Ok(Stored::Exists) if same(self) => return Ok(()),
            // What is no file is not what is to be there, and makes room for it.
            Err(error) if self.length(name).is_err_and(|error| error.kind != ErrorKind::NoFile) => return Err(error),
            _ => {}
        }
        match self.remove(name) {
            Err(error) if error.kind != ErrorKind::Absent => return Err(error),
            _ => {}
        }
        self.put(name, bytes).map(drop)
    }

    fn send(&self, name: &ObjectName, body: &dyn Body, uplink: &Uplink<'_>) -> Result<()> {
        let stopped = || Error::new("write", name, io::Error::other("interrupted")).with_kind(ErrorKind::Interrupted);
        let (told, is_written) = (Cell::new(0), Cell::new(false));
        let copy = || {
            let (mut upload, mut written) = (self.create()?, 0);
            for piece in pieces(body, PIECE_BYTES) {
                let piece = piece?;
                uplink.limit.wait(piece.len() as u64, uplink.stop);
                if (uplink.stop)() {
                    return Err(stopped());
                }
                upload.append(&piece)?;
                written += piece.len() as u64;
                if written > told.get() {
                    (uplink.moved)(written - told.replace(written));
                }
            }
            is_written.set(true);
            upload.finish(name)
        };
        // Without a hash for a name it is small.
        if name.id().is_none() {
            self.replace(name, &body.piece(0, body.length())?)?;
            (uplink.moved)(body.length());
            return Ok(());
        }
        match copy() {
            // It was compared.
            Ok(Stored::Created | Stored::Exists) => return Ok(()),
            // Only what was whole here may take the place of something, and only of what was read and is something else.
            Err(error) if !is_written.get() || error.kind != ErrorKind::Other || self.holds(name, body)? => {
                return Err(error);
            }
            Err(_) => {}
        }
        match self.remove(name) {
            Err(error) if error.kind != ErrorKind::Absent => return Err(error),
            _ => {}
        }
        copy().map(drop)
    }

    /// What somebody writes now is locked, and stays.
    fn clean_leftovers(&self, _owner: &str) -> Result<Leftovers> {
        Ok(Leftovers { removed: (self.clean_temporary()?, 0), ..Leftovers::default() })
    }

    fn room(&self, length: u64) -> u64 {
        length.min(PIECE_BYTES)
    }
}

/// An object on its way into a [`Local`].
#[derive(Debug)]
struct LocalUpload<D: Disk> {
    shared: Arc<Shared<D>>,
    file: D::File,
    temporary: String,
    length: u64,
    /// The file has its final name: the temporary one is gone.
    named: bool,
}

impl<D: Disk> Upload for LocalUpload<D> {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        let written = self.shared.disk.append(&mut self.file, bytes);
        written.map_err(|error| Error::new("write", &self.temporary, error))?;
        self.length += bytes.len() as u64;
        Ok(())
    }

    fn finish(mut self: Box<Self>, name: &ObjectName) -> Result<Stored> {
        let shared = Arc::clone(&self.shared);
        shared.check_not_failed("write", name)?;
        let disk = &shared.disk;
        let written = disk.file_length(&self.file).map_err(|error| Error::new("write", name, error))?;
        if written != self.length {
            let message = format!("{} bytes were written, the file has {written}", self.length);
            return Err(Error::new("write", name, io::Error::other(message)));
        }
        disk.seal_file(&self.file).map_err(|error| Error::new("write", name, error))?;
        shared.durable(name, disk.sync_file(&self.file))?;
        shared.durable(name, disk.check_close(&self.file))?;

        let path = name.to_string();
        let (folder, _) = split(&path);
        shared.make_folder(folder)?;
        match disk.rename_new(&self.temporary, &path) {
            Ok(()) => self.named = true,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                shared.check_existing(name, &self.temporary, self.length)?;
                return Ok(Stored::Exists);
            }
            // Absent is what a missing object is called; here the temporary file or its folder went missing.
            Err(error) => {
                let error = Error::new("rename", name, error);
                let absent = error.kind == ErrorKind::Absent;
                return Err(if absent { error.with_kind(ErrorKind::Other) } else { error });
            }
        }
        shared.durable(name, disk.sync_directory(folder))?;
        // Another thread's failed fsync may have been of this very folder, and ours has then proved nothing.
        shared.check_not_failed("write", name)?;
        Ok(Stored::Created)
    }
}

impl<D: Disk> Drop for LocalUpload<D> {
    fn drop(&mut self) {
        if !self.named {
            // What cannot be removed now is removed by the next cleaner.
            let _ = self.shared.disk.unlink(&self.temporary);
        }
    }
}
