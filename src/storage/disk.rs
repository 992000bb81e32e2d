//! The few file-system calls that [`super::local::Local`] is made of.
//!
//! They stand behind a trait so that the crash model ([`super::crash::CrashDisk`]) can take the place of the operating
//! system and show what a power cut leaves at every single call.
//!
//! # Invariants
//!
//! - Every path is relative to one root, made of plain components between single slashes, `""` being the root itself.
//!   A call never leaves that root: each component is opened beneath its parent's handle and a symbolic link on the
//!   way, or at the end, is an error.
//! - A write call writes all of its bytes or fails. Nothing is durable before the matching sync call returned.
//! - [`Disk::rename_new`] never replaces anything. Where the file system has neither `RENAME_NOREPLACE` nor hard links (exFAT, sshfs to
//!   many servers), it looks and renames while it holds a lock on the root, so no process of this machine can take the name in between.
//!   Another machine could. Every name but `config` is the hash of the bytes, so it would replace them by the same ones; and when two machines
//!   make a repository in one directory at one instant, the heads of one do not fit the config of the other.

use std::fmt::Debug;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{AtFlags, CWD, FileType, FlockOperation, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use crate::base::private::{self, Owner};
use crate::base::regular::{self, uninterrupted};
use crate::base::shortage::is_shortage;

/// Mode of every object: read-only, so that a slip of the hand needs a `chmod` first.
const OBJECT_MODE: Mode = Mode::RUSR;
/// How often a new file may be swept away by a concurrent cleaner before its creation is given up.
const CREATE_ATTEMPTS: u32 = 16;

/// What an entry of a directory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link, fifo, socket or device: never ours.
    Other,
}

/// One entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskEntry {
    /// Its name, as bytes: whoever else writes there is not bound to UTF-8.
    pub name: Vec<u8>,
    /// What it is; links are not followed.
    pub kind: EntryKind,
    /// Length in bytes; meaningful for files only.
    pub length: u64,
}

/// A file system beneath one root directory.
pub trait Disk: Send + Sync + Debug + 'static {
    /// A file that is being written. Dropping it closes it.
    type File: Send + Debug + 'static;

    /// Makes a directory of mode 0700 whatever the umask. One that exists is [`io::ErrorKind::AlreadyExists`].
    fn create_directory(&self, path: &str) -> io::Result<()>;

    /// Makes a new, empty file that only this handle writes and that counts as held while the handle lives
    /// (see [`Disk::remove_abandoned`]). One that exists is [`io::ErrorKind::AlreadyExists`].
    fn create_file(&self, path: &str) -> io::Result<Self::File>;

    /// Writes all `bytes` at the end, or fails with any part of them written.
    fn append(&self, file: &mut Self::File, bytes: &[u8]) -> io::Result<()>;

    /// The file's length as the file system sees it, in bytes.
    fn file_length(&self, file: &Self::File) -> io::Result<u64>;

    /// Gives the file mode 0400 whatever the umask; the handle can still write.
    fn seal_file(&self, file: &Self::File) -> io::Result<()>;

    /// Makes the file's bytes, length and mode durable (not its name).
    fn sync_file(&self, file: &Self::File) -> io::Result<()>;

    /// Reports what closing the file would report (NFS tells of a failed write there), and keeps it held.
    fn check_close(&self, file: &Self::File) -> io::Result<()>;

    /// Makes the bytes of a file that exists already durable.
    fn sync_existing(&self, path: &str) -> io::Result<()>;

    /// Renames a file to a name that is free; a taken one is [`io::ErrorKind::AlreadyExists`] and nothing changed.
    fn rename_new(&self, from: &str, to: &str) -> io::Result<()>;

    /// Makes durable which names the directory holds.
    fn sync_directory(&self, path: &str) -> io::Result<()>;

    /// Removes a file's name.
    fn unlink(&self, path: &str) -> io::Result<()>;

    /// Removes a file unless a living process holds it as [`Disk::create_file`] says; true when it was removed.
    fn remove_abandoned(&self, path: &str) -> io::Result<bool>;

    /// Reads exactly `length` bytes from `offset`; a file that ends earlier is [`io::ErrorKind::UnexpectedEof`],
    /// found out before any memory is set aside.
    fn read_range(&self, path: &str, offset: u64, length: u64) -> io::Result<Vec<u8>>;

    /// Length of a regular file, in bytes.
    fn length(&self, path: &str) -> io::Result<u64>;

    /// What a directory holds, in no particular order.
    fn list(&self, path: &str) -> io::Result<Vec<DiskEntry>>;
}

/// The directory and the last component of a path.
pub(super) fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

/// The directory that a path's last component lies in.
fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The operating system's file system, beneath an open directory.
#[derive(Debug)]
pub struct OsDisk {
    root: OwnedFd,
    /// Whose everything becomes that is made here.
    owner: Option<Owner>,
    /// This file system has shown that it can neither rename without replacing nor link.
    is_plain: AtomicBool,
}

/// A file being written by [`OsDisk`].
#[derive(Debug)]
pub struct OsFile(OwnedFd);

const DIRECTORY: OFlags = OFlags::DIRECTORY.union(OFlags::CLOEXEC);

impl OsDisk {
    /// Opens an existing directory as root. The path itself may lead through symbolic links: that is the user's choice.
    pub fn open(path: &Path) -> io::Result<Self> {
        let root = uninterrupted(|| rustix::fs::openat(CWD, path, DIRECTORY, Mode::empty()))?;
        Ok(Self { owner: Owner::of(&root), root, is_plain: AtomicBool::new(false) })
    }

    /// Opens a directory as root and makes it first, with all parents that are missing, mode 0700; every level made,
    /// and the root in any case, is durable in its parent when this returns.
    pub fn create(path: &Path) -> io::Result<Self> {
        match Self::create_last(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Self::create(parent(path))?;
                Self::create_last(path)
            }
            other => other,
        }
    }

    /// The same, but only the last component is made: a parent that is missing is [`io::ErrorKind::NotFound`].
    pub fn create_last(path: &Path) -> io::Result<Self> {
        let parent = parent(path);
        let made = private::make_directory_at(CWD, path, None);
        match made {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        let disk = Self::open(path)?;
        // A parent that we may not read (a home under a shared directory of mode 0711) cannot be synced by us;
        // whoever made the directory there did so before this run.
        match rustix::fs::openat(CWD, parent, DIRECTORY, Mode::empty()) {
            Ok(parent) => rustix::fs::fsync(&parent)?,
            Err(Errno::ACCESS) if made == Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(disk)
    }

    /// Another handle on the root.
    ///
    /// # Errors
    /// The process has no handle left.
    pub fn root(&self) -> io::Result<OwnedFd> {
        Ok(uninterrupted(|| rustix::fs::openat(&self.root, ".", DIRECTORY, Mode::empty()))?)
    }

    /// Opens a directory beneath the root, component by component.
    fn directory(&self, path: &str) -> io::Result<OwnedFd> {
        let flags = DIRECTORY | OFlags::NOFOLLOW;
        let mut directory = uninterrupted(|| rustix::fs::openat(&self.root, ".", flags, Mode::empty()))?;
        for component in path.split('/').filter(|component| !component.is_empty()) {
            if component == ".." {
                return Err(Errno::INVAL.into());
            }
            directory = uninterrupted(|| rustix::fs::openat(&directory, component, flags, Mode::empty()))?;
        }
        Ok(directory)
    }

    /// Opens the directory that holds `path`; hands back the last component too.
    fn parent<'a>(&self, path: &'a str) -> io::Result<(OwnedFd, &'a str)> {
        let (directory, name) = split(path);
        if name.is_empty() || name == "." || name == ".." {
            return Err(Errno::INVAL.into());
        }
        Ok((self.directory(directory)?, name))
    }

    /// Opens a regular file for reading; hands back its length too.
    fn open_file(&self, path: &str) -> io::Result<(OwnedFd, u64)> {
        let (directory, name) = self.parent(path)?;
        let (file, stat) = regular::open_at(&directory, name, OFlags::RDONLY)?;
        Ok((file, regular_length(&stat)?))
    }
}

/// Reads once more where the disk failed: what a file system of a network could not give may come the second time, a sector
/// that cannot be read does not.
fn read_again<T>(read: impl Fn() -> io::Result<T>) -> io::Result<T> {
    match read() {
        Err(error) if Errno::from_io_error(&error) == Some(Errno::IO) => read(),
        other => other,
    }
}

fn regular_length(stat: &rustix::fs::Stat) -> io::Result<u64> {
    regular::require(stat)?;
    u64::try_from(stat.st_size).map_err(io::Error::other)
}

/// What every [`Disk`] answers when a range lies beyond the end.
pub(super) fn ends_early(length: u64, offset: u64, wanted: u64) -> io::Error {
    let message = format!("{wanted} bytes from byte {offset} were asked for, the file has {length}");
    io::Error::new(io::ErrorKind::UnexpectedEof, message)
}

impl Disk for OsDisk {
    type File = OsFile;

    fn create_directory(&self, path: &str) -> io::Result<()> {
        let (parent, name) = self.parent(path)?;
        Ok(private::make_directory_at(parent.as_fd(), name, self.owner)?)
    }

    fn create_file(&self, path: &str) -> io::Result<OsFile> {
        let (directory, name) = self.parent(path)?;
        for _ in 0..CREATE_ATTEMPTS {
            let file = private::create_at(directory.as_fd(), name, None)?;
            // It has its final name later, and is its owner's then. A kill before this line leaves root's file in a directory of his,
            // where he can remove it.
            self.owner.map_or(Ok(()), |owner| owner.give(&file))?;
            // A cleaner that saw the file before it was locked has removed it: then begin again. Where locks do not
            // exist, a cleaner takes the file away, and the rename of it fails: an error, never a wrong object.
            let _ = rustix::fs::flock(&file, FlockOperation::LockExclusive);
            if rustix::fs::fstat(&file)?.st_nlink > 0 {
                return Ok(OsFile(file));
            }
        }
        Err(io::Error::other("the new file was removed again and again while it was made"))
    }

    fn append(&self, file: &mut OsFile, bytes: &[u8]) -> io::Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            match rustix::io::write(&file.0, rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn file_length(&self, file: &OsFile) -> io::Result<u64> {
        regular_length(&rustix::fs::fstat(&file.0)?)
    }

    fn seal_file(&self, file: &OsFile) -> io::Result<()> {
        match rustix::fs::fchmod(&file.0, OBJECT_MODE) {
            // A file system without modes. That nobody writes into an object by a slip of the hand is a comfort, no promise.
            Err(Errno::PERM | Errno::NOSYS | Errno::OPNOTSUPP | Errno::INVAL) => Ok(()),
            other => Ok(other?),
        }
    }

    fn sync_file(&self, file: &OsFile) -> io::Result<()> {
        Ok(rustix::fs::fsync(&file.0)?)
    }

    fn check_close(&self, file: &OsFile) -> io::Result<()> {
        // Every close of a descriptor flushes, not only the last one (close(2), "Dealing with error returns"): closing a
        // duplicate gives the answer while the lock on the open file stays. rustix and std drop that answer.
        let duplicate = rustix::io::fcntl_dupfd_cloexec(&file.0, 0)?;
        match nix::unistd::close(duplicate) {
            Ok(()) | Err(nix::errno::Errno::EINTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn sync_existing(&self, path: &str) -> io::Result<()> {
        let (file, _) = self.open_file(path)?;
        Ok(rustix::fs::fsync(&file)?)
    }

    fn rename_new(&self, from: &str, to: &str) -> io::Result<()> {
        let (from_directory, from_name) = self.parent(from)?;
        let (to_directory, to_name) = self.parent(to)?;
        let (from, to) = ((&from_directory, from_name), (&to_directory, to_name));
        if !self.is_plain.load(Ordering::Relaxed) {
            let flags = RenameFlags::NOREPLACE;
            match rustix::fs::renameat_with(from.0, from.1, to.0, to.1, flags) {
                // The kernel or this file system does not know the flag. A link never replaces either, and until the
                // second call both names lead to the same whole file.
                Err(Errno::INVAL | Errno::NOSYS) => {}
                other => return Ok(other?),
            }
            match link_then_unlink(from, to) {
                Err(error) if knows_no_links(&error) => self.is_plain.store(true, Ordering::Relaxed),
                other => return other,
            }
        }
        self.look_then_rename(from, to)
    }

    fn sync_directory(&self, path: &str) -> io::Result<()> {
        let directory = self.directory(path)?;
        match rustix::fs::fsync(&directory) {
            // Some servers' file systems sync no directories. All of the file system then.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => Ok(rustix::fs::syncfs(&directory)?),
            other => Ok(other?),
        }
    }

    fn unlink(&self, path: &str) -> io::Result<()> {
        let (directory, name) = self.parent(path)?;
        Ok(rustix::fs::unlinkat(&directory, name, AtFlags::empty())?)
    }

    fn remove_abandoned(&self, path: &str) -> io::Result<bool> {
        let (directory, name) = self.parent(path)?;
        match regular::open_at(&directory, name, OFlags::RDONLY) {
            Ok((file, _))
                if rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK) =>
            {
                return Ok(false);
            }
            // Nobody can say whether it is held.
            Err(error) if is_shortage(&error) => return Err(error),
            _ => {}
        }
        rustix::fs::unlinkat(&directory, name, AtFlags::empty())?;
        Ok(true)
    }

    fn read_range(&self, path: &str, offset: u64, length: u64) -> io::Result<Vec<u8>> {
        read_again(|| self.read_range_once(path, offset, length))
    }

    fn length(&self, path: &str) -> io::Result<u64> {
        let stat = read_again(|| {
            let (directory, name) = self.parent(path)?;
            Ok(uninterrupted(|| rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW))?)
        })?;
        regular_length(&stat)
    }

    fn list(&self, path: &str) -> io::Result<Vec<DiskEntry>> {
        match read_again(|| self.list_once(path)) {
            // A directory that is exchanged this very moment is absent for one look. What it holds must not be called lost for that.
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.list_once(path),
            other => other,
        }
    }
}

impl OsDisk {
    fn read_range_once(&self, path: &str, offset: u64, length: u64) -> io::Result<Vec<u8>> {
        let (file, available) = self.open_file(path)?;
        let end = offset.checked_add(length).filter(|end| *end <= available);
        let (Some(_), Ok(count)) = (end, usize::try_from(length)) else {
            return Err(ends_early(available, offset, length));
        };
        let mut bytes = vec![0; count];
        let mut done = 0;
        while let Some(rest) = bytes.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match rustix::io::pread(&file, rest, offset + done as u64) {
                Ok(0) => return Err(ends_early(offset + done as u64, offset, length)),
                Ok(read) => done += read,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(bytes)
    }

    fn list_once(&self, path: &str) -> io::Result<Vec<DiskEntry>> {
        let directory = self.directory(path)?;
        let mut entries = Vec::new();
        for entry in rustix::fs::Dir::read_from(&directory)? {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let stat = match uninterrupted(|| rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW)) {
                // Removed since the directory was read.
                Err(Errno::NOENT) => continue,
                other => other?,
            };
            let kind = match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile => EntryKind::File,
                FileType::Directory => EntryKind::Directory,
                _ => EntryKind::Other,
            };
            let length = u64::try_from(stat.st_size).unwrap_or(0);
            entries.push(DiskEntry { name: name.to_bytes().to_vec(), kind, length });
        }
        Ok(entries)
    }
}

/// A directory and a name in it.
type Entry<'a> = (&'a OwnedFd, &'a str);

/// A rename that never replaces, for file systems without `RENAME_NOREPLACE`.
fn link_then_unlink(from: Entry<'_>, to: Entry<'_>) -> io::Result<()> {
    rustix::fs::linkat(from.0, from.1, to.0, to.1, AtFlags::empty())?;
    // The object has its name; a temporary name that stays is swept later.
    let _ = rustix::fs::unlinkat(from.0, from.1, AtFlags::empty());
    Ok(())
}

/// What file systems answer that have no hard links.
fn knows_no_links(error: &io::Error) -> bool {
    let answers = [Errno::PERM, Errno::NOSYS, Errno::OPNOTSUPP, Errno::INVAL, Errno::MLINK];
    answers.iter().any(|answer| error.raw_os_error() == Some(answer.raw_os_error()))
}

impl OsDisk {
    /// True once the file system has shown that it can neither rename without replacing nor link.
    pub fn is_plain(&self) -> bool {
        self.is_plain.load(Ordering::Relaxed)
    }

    /// The same for file systems that have no links either. See the module.
    fn look_then_rename(&self, from: Entry<'_>, to: Entry<'_>) -> io::Result<()> {
        // An open directory of its own: the lock ends with it, and threads exclude each other as processes do.
        let root = rustix::fs::openat(&self.root, ".", DIRECTORY, Mode::empty())?;
        loop {
            match rustix::fs::flock(&root, FlockOperation::LockExclusive) {
                Err(Errno::INTR) => {}
                other => break other?,
            }
        }
        match rustix::fs::statat(to.0, to.1, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => Ok(rustix::fs::renameat(from.0, from.1, to.0, to.1)?),
            Err(error) => Err(error.into()),
            Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_fallback_of_the_rename_never_replaces() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("a"), b"new").unwrap();
        std::fs::write(directory.path().join("b"), b"old").unwrap();
        let root = OsDisk::open(directory.path()).unwrap().root;
        let error = link_then_unlink((&root, "a"), (&root, "b")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert!(!knows_no_links(&error));
        assert_eq!(std::fs::read(directory.path().join("b")).unwrap(), b"old");
        link_then_unlink((&root, "a"), (&root, "c")).unwrap();
        assert_eq!(std::fs::read(directory.path().join("c")).unwrap(), b"new");
        assert!(!directory.path().join("a").exists());
    }

    /// Whoever looks and renames waits for everybody else who does: here for one who has looked, and names it now.
    #[test]
    fn between_the_look_and_the_rename_nobody_else_takes_the_name() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let disk = OsDisk::open(directory.path()).unwrap();
        disk.is_plain.store(true, Ordering::Relaxed);
        std::fs::write(at("mine"), "mine").unwrap();
        let other = std::fs::File::open(directory.path()).unwrap();
        rustix::fs::flock(&other, FlockOperation::LockShared).unwrap();
        std::thread::scope(|scope| {
            let renaming = scope.spawn(|| disk.rename_new("mine", "name"));
            std::thread::sleep(std::time::Duration::from_millis(200));
            assert!(!renaming.is_finished() && !at("name").exists(), "it did not wait");
            std::fs::write(at("name"), "another's").unwrap();
            drop(other);
            assert_eq!(renaming.join().unwrap().unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        });
        assert_eq!(std::fs::read(at("name")).unwrap(), b"another's");
        disk.rename_new("mine", "free").unwrap();
        assert_eq!(std::fs::read(at("free")).unwrap(), b"mine");
        assert_eq!(disk.rename_new("free", "name").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    }

    #[test]
    fn links_on_the_way_are_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("secret"), b"x").unwrap();
        std::os::unix::fs::symlink(outside.path(), directory.path().join("packs")).unwrap();
        std::os::unix::fs::symlink(outside.path().join("secret"), directory.path().join("config")).unwrap();
        let disk = OsDisk::open(directory.path()).unwrap();
        assert!(disk.read_range("packs/secret", 0, 1).is_err());
        assert!(disk.read_range("config", 0, 1).is_err());
        assert!(disk.length("config").is_err());
        assert!(disk.list("packs").is_err());
        assert!(disk.create_file("packs/new").is_err());
        assert!(disk.read_range("../secret", 0, 1).is_err());
    }

    #[test]
    fn a_fifo_under_our_name_does_not_block() {
        let directory = tempfile::tempdir().unwrap();
        rustix::fs::mknodat(CWD, directory.path().join("config"), FileType::Fifo, Mode::RWXU, 0).unwrap();
        let disk = OsDisk::open(directory.path()).unwrap();
        assert!(disk.read_range("config", 0, 0).is_err());
    }

    #[test]
    fn a_file_that_is_being_written_is_not_swept() {
        let directory = tempfile::tempdir().unwrap();
        let disk = OsDisk::open(directory.path()).unwrap();
        let file = disk.create_file("t").unwrap();
        disk.check_close(&file).unwrap();
        assert!(!disk.remove_abandoned("t").unwrap());
        drop(file);
        assert!(disk.remove_abandoned("t").unwrap());
    }
}
