//! The place that a restore writes to. Promise P7: nothing outside it changes, whatever a snapshot says and whoever else
//! works in the same directories.
//!
//! - Everything is looked up beneath an open directory, one component at a time, never through a symbolic link.
//! - Names from a snapshot are checked: not empty, no `.` or `..`, no slash, no NUL.
//! - An inode that was there before is never written into, and kept only when [`super::keep`] says so. A file, link or device in the way is replaced by making the
//!   new one under a temporary name beside it and renaming; a directory in the way is a [`TargetError::Conflict`], and the
//!   caller decides ([`TargetDirectory::remove`]).
//! - Nothing is more permissive on its way than at its end: files are made with mode 0600, directories with 0700.
//! - What was made is held by its descriptor, or recognised when its name is opened again ([`super::made`]); nobody else can make an
//!   inode of ours. A temporary name is gone on every path that ends here.

use crate::base::hex::hex;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{
    Access, AtFlags, FileType, Mode, OFlags, accessat, makedev, mkdirat, mknodat, openat, renameat, symlinkat, unlinkat,
};
use rustix::io::Errno;
use rustix::process::geteuid;

use super::apply::{Applied, Applier, ApplyProblem, Subject, set_mode};
use super::directory::{Directory, is_loop};
use super::file_system::{FileSystem, FileSystems, Owning};
use super::lease::Writers;
use super::made::{Made, Seen};
use super::protection::{self, Lifted};
use super::stat::{Kind, Stat};
use crate::base::escape::Escaped;
use crate::base::private;
use crate::base::sys;
use crate::codec::tree::{Metadata, Node};

/// Mode of a directory on its way.
const DIRECTORY_MODE: u32 = 0o700;
/// Beginning of every temporary name; what follows is random. Left behind only by a killed restore.
pub const TEMPORARY_PREFIX: &[u8] = b".packstone-restore-";

/// Why something could not be restored.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// A name that would lead out of its directory, or names nothing.
    #[error("\"{}\" cannot be the name of a file; the snapshot is damaged or hostile, and the entry is left out", Escaped(.0))]
    Name(Vec<u8>),
    /// Something else stands there.
    #[error("\"{}\": a {} is in the way", Escaped(name), kind.word())]
    Conflict {
        /// The name.
        name: Vec<u8>,
        /// What stands there.
        kind: Kind,
    },
    /// The inode under the name is not the one that this restore made: somebody else is at work there.
    #[error("\"{}\": was replaced by someone else while it was being restored", Escaped(.0))]
    Replaced(Vec<u8>),
    /// It is not what it was when its content was compared, or somebody has it open for writing now.
    #[error("\"{}\": was changed by someone else after it was compared; run the same command again", Escaped(.0))]
    Changed(Vec<u8>),
    /// A mount point lies in what was to be removed.
    #[error("\"{}\": another file system is mounted there; nothing on it is removed. Unmount it first", Escaped(.0))]
    Mounted(Vec<u8>),
    /// It was not there when it was worked out what goes.
    #[error("\"{}\": appeared while the restore ran; it stays, with the directories that it lies in", Escaped(.0))]
    NotPlanned(Vec<u8>),
    /// The system says no.
    #[error("\"{}\": {operation}: {source}", Escaped(name))]
    Io {
        /// What was tried.
        operation: &'static str,
        /// The name.
        name: Vec<u8>,
        /// What the system says.
        #[source]
        source: io::Error,
    },
}

impl TargetError {
    pub(super) fn io(operation: &'static str, name: &[u8], source: impl Into<io::Error>) -> Self {
        Self::Io { operation, name: name.to_vec(), source: source.into() }
    }

    /// No space, quota or inodes left: going on makes no sense.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Io { source, .. }
            if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
    }
}

type Result<T> = std::result::Result<T, TargetError>;

/// Refuses names that a snapshot must not have. format-spec/tree.md says the same of stored entries; here it guards the
/// file system.
///
/// # Errors
/// [`TargetError::Name`].
pub fn check_name(name: &[u8]) -> Result<()> {
    if crate::codec::tree::is_name(name) { Ok(()) } else { Err(TargetError::Name(name.to_vec())) }
}

/// What to do when something that is no directory stands under the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// [`TargetError::Conflict`].
    Refuse,
    /// The new one takes its place; the old inode is not touched.
    Replace,
}

/// The directory that was named as target.
#[derive(Debug)]
pub struct Target {
    root: Arc<TargetDirectory>,
}

impl Target {
    /// Opens the target, following symbolic links: the user named it. With `create`, it and its ancestors are made
    /// where they are missing (mode 0755 less the umask, but never closed to their owner).
    ///
    /// # Errors
    /// What the system says.
    pub fn open(path: &Path, create: bool) -> io::Result<Self> {
        Self::open_with(path, create, FileSystems::new(true))
    }

    /// The same with what is known about file systems already.
    ///
    /// # Errors
    /// What the system says.
    pub fn open_with(path: &Path, create: bool, systems: Arc<FileSystems>) -> io::Result<Self> {
        sys::raise_open_files();
        if create {
            private::make_public_directories(path)?;
        }
        Ok(Self { root: Arc::new(TargetDirectory::new(Directory::open_root(path)?, systems)?) })
    }

    /// The top.
    #[must_use]
    pub fn root(&self) -> Arc<TargetDirectory> {
        self.root.clone()
    }

    /// Makes everything on the target's file system durable.
    ///
    /// # Errors
    /// What the system says.
    pub fn sync(&self) -> io::Result<()> {
        let here = openat(&self.root.directory, ".", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(rustix::fs::syncfs(here)?)
    }
}

/// An open directory of the target.
#[derive(Debug)]
pub struct TargetDirectory {
    directory: Directory,
    /// What it was when it was opened.
    stat: Stat,
    system: Arc<FileSystem>,
    systems: Arc<FileSystems>,
}

impl AsFd for TargetDirectory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

impl TargetDirectory {
    fn new(directory: Directory, systems: Arc<FileSystems>) -> io::Result<Self> {
        let stat = directory.stat_self()?;
        let system = systems.of(directory.as_fd(), &stat);
        Ok(Self { directory, stat, system, systems })
    }

    /// The file system that it is on.
    #[must_use]
    pub const fn system(&self) -> &Arc<FileSystem> {
        &self.system
    }

    /// Whose files are that are made here.
    pub(super) fn owning(&self) -> Owning {
        self.systems.owning(&self.system, self.directory.as_fd())
    }

    /// Whether a file can have further names here, as far as that is known.
    #[must_use]
    pub fn holds_links(&self) -> bool {
        self.owning().links
    }

    /// The inode that it is.
    #[must_use]
    pub fn made(&self) -> Made {
        Made::of(&self.stat, &self.system)
    }

    /// Whether it is an inode that was made or looked at before.
    #[must_use]
    pub fn is(&self, made: &Made) -> bool {
        made.is(&self.stat)
    }

    /// Whose it was when it was opened.
    #[must_use]
    pub const fn owner(&self) -> u32 {
        self.stat.uid
    }

    /// Whether what a stat describes can be something that this process has just made here.
    pub(super) fn is_ours(&self, stat: &Stat) -> bool {
        self.owning().creator.is_none_or(|creator| creator == stat.uid)
    }

    /// The same as a plain directory, to read back what was written ([`super::read::Reader`], [`super::xattr::Place`]).
    #[must_use]
    pub const fn as_directory(&self) -> &Directory {
        &self.directory
    }

    /// All names in it, sorted.
    ///
    /// # Errors
    /// What the system says.
    pub fn names(&self) -> io::Result<Vec<Vec<u8>>> {
        self.directory.names()
    }

    /// What is under a name, if anything; a symbolic link is not followed.
    ///
    /// # Errors
    /// A hostile name; what the system says.
    pub fn stat(&self, name: &[u8]) -> Result<Option<Stat>> {
        check_name(name)?;
        match self.directory.stat(name) {
            Ok(stat) => Ok(Some(stat)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(TargetError::io("stat", name, error)),
        }
    }

    /// A conflict that names what is there, after the system said "exists" or "is no directory".
    pub(super) fn conflict(&self, name: &[u8], error: io::Error) -> TargetError {
        match self.stat(name) {
            Ok(Some(stat)) => TargetError::Conflict { name: name.to_vec(), kind: stat.kind },
            _ => TargetError::io("create", name, error),
        }
    }

    /// Opens a directory that is there.
    ///
    /// # Errors
    /// [`TargetError::Conflict`] when it is something else, a symbolic link to a directory included.
    pub fn directory(&self, name: &[u8]) -> Result<Arc<Self>> {
        check_name(name)?;
        match self.directory.open_child(name) {
            Ok(directory) => Self::new(directory, self.systems.clone())
                .map(Arc::new)
                .map_err(|error| TargetError::io("stat", name, error)),
            Err(error) if error.kind() == io::ErrorKind::NotADirectory || is_loop(&error) => {
                Err(self.conflict(name, error))
            }
            Err(error) => Err(TargetError::io("open directory", name, error)),
        }
    }

    /// Makes a directory with mode 0700 and opens it; one that is there is opened, and made writable for its owner until
    /// its metadata is applied. The answer says whether it is new.
    ///
    /// # Errors
    /// [`TargetError::Conflict`] when something else is there; [`TargetError::Replaced`] when it is not the one that was made.
    pub fn make_directory(&self, name: &[u8]) -> Result<(Arc<Self>, bool)> {
        check_name(name)?;
        let new = match mkdirat(&self.directory, name, Mode::from_raw_mode(DIRECTORY_MODE)) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(error) => return Err(TargetError::io("create directory", name, error)),
        };
        let opened = self.directory(name)?;
        if new && !self.is_ours(&opened.stat) {
            return Err(TargetError::Replaced(name.to_vec()));
        }
        // The umask may have taken bits away that we need ourselves.
        if new && opened.stat.mode & DIRECTORY_MODE == DIRECTORY_MODE {
            return Ok((opened, true));
        }
        opened.unlock().map_err(|error| TargetError::io("make writable", name, error))?;
        // What was only searchable may be readable now.
        let again = if new || !opened.directory.is_readable() { self.directory(name)? } else { opened.clone() };
        if new && !again.stat.same_inode(&opened.stat) {
            return Err(TargetError::Replaced(name.to_vec()));
        }
        Ok((again, new))
    }

    /// Lets the owner work in an existing directory: gives him `rwx`, takes immutable and append-only away.
    pub(super) fn unlock(&self) -> io::Result<()> {
        let stat = self.directory.stat_self()?;
        if self.directory.is_readable() {
            protection::clear(&self.directory);
        }
        let shut = stat.mode & DIRECTORY_MODE != DIRECTORY_MODE && stat.uid == geteuid().as_raw();
        // Whoever may work there in spite of the mode leaves it as it is.
        let all = Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK;
        if shut && accessat(&self.directory, ".", all, AtFlags::EACCESS).is_err() {
            set_mode(&self.subject(), stat.mode | DIRECTORY_MODE)?;
        }
        Ok(())
    }

    fn subject(&self) -> Subject<'_> {
        let path_only = !self.directory.is_readable();
        Subject { fd: self.directory.as_fd(), path_only, kind: Kind::Directory, directory: self, now: None }
    }

    /// Sets a directory's own metadata. Last, after everything in it and beneath it: deepest directories first.
    pub fn finish(&self, metadata: &Metadata, applier: &Applier) -> Applied {
        let mut applied = applier.apply(&self.subject(), metadata);
        applied.problems.extend(applier.flags(&self.subject(), metadata));
        applied
    }

    /// Makes a symbolic link, fifo, socket or device with its metadata.
    ///
    /// # Errors
    /// [`TargetError::Conflict`]; what the system says: `PermissionDenied` for a device made by an ordinary user.
    pub fn make_special(
        &self,
        name: &[u8],
        node: &Node,
        metadata: &Metadata,
        applier: &Applier,
        existing: Existing,
    ) -> Result<(Made, Vec<ApplyProblem>)> {
        check_name(name)?;
        let (kind, rdev) = match node {
            Node::Symlink { .. } => (Kind::Symlink, (0, 0)),
            Node::Fifo => (Kind::Fifo, (0, 0)),
            Node::Socket => (Kind::Socket, (0, 0)),
            Node::CharacterDevice { major, minor } => (Kind::CharacterDevice, (*major, *minor)),
            Node::BlockDevice { major, minor } => (Kind::BlockDevice, (*major, *minor)),
            Node::File(_) | Node::Directory { .. } => {
                return Err(TargetError::io("create", name, io::Error::from(io::ErrorKind::InvalidInput)));
            }
        };
        let (place, ()) = self.make(name, existing, |at| match node {
            Node::Symlink { target } => symlinkat(target.as_slice(), &self.directory, at),
            _ => mknodat(&self.directory, at, file_type(kind), Mode::from_raw_mode(0o600), makedev(rdev.0, rdev.1)),
        })?;
        let (fd, now) = self.hold(place.current(), kind)?;
        let subject = Subject { fd: fd.as_fd(), path_only: true, kind, directory: self, now: Some(&now) };
        let applied = applier.apply(&subject, metadata);
        place.settle()?;
        Ok((Made::of(&now, &self.system), applied.problems))
    }

    /// Takes hold of something just made and makes sure that it is that: of the right kind, ours, with one name.
    fn hold(&self, name: &[u8], kind: Kind) -> Result<(OwnedFd, Stat)> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = openat(&self.directory, name, flags, Mode::empty())
            .map_err(|error| TargetError::io("open", name, error))?;
        let stat = Stat::of(&fd).map_err(|error| TargetError::io("stat", name, error))?;
        if stat.kind != kind || stat.links > 1 || !self.is_ours(&stat) {
            return Err(TargetError::Replaced(name.to_vec()));
        }
        Ok((fd, stat))
    }

    /// Sets metadata of something that was there before and has the right content: the very inode that was seen, unchanged since,
    /// with one name, and held off from writers while its metadata is set.
    ///
    /// # Errors
    /// [`TargetError::Changed`]; [`TargetError::Conflict`] when it is not of that kind.
    pub fn update(
        &self,
        name: &[u8],
        seen: &Seen,
        metadata: &Metadata,
        applier: &Applier,
    ) -> Result<Vec<ApplyProblem>> {
        check_name(name)?;
        let changed = || TargetError::Changed(name.to_vec());
        let (kind, path_only) = (seen.kind(), seen.kind() != Kind::File);
        let opened = if path_only {
            openat(&self.directory, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
                .map_err(io::Error::from)
        } else {
            self.directory.open_file(name)
        };
        let fd = opened.map_err(|error| self.conflict(name, error))?;
        let writers = if path_only { Writers::Unknown } else { Writers::ask(fd.as_fd(), &self.system) };
        let stat = Stat::of(&fd).map_err(|error| TargetError::io("stat", name, error))?;
        if stat.kind != kind {
            return Err(TargetError::Conflict { name: name.to_vec(), kind: stat.kind });
        }
        if !seen.is(&stat) || stat.links > 1 || writers == Writers::Somebody {
            return Err(changed());
        }
        if !path_only {
            protection::clear(&fd);
        }
        let subject = Subject { fd: fd.as_fd(), path_only, kind, directory: self, now: None };
        let mut applied = applier.apply(&subject, metadata);
        applied.problems.extend(applier.flags(&subject, metadata));
        let same =
            applied.stat.is_none_or(|now| seen.made().is(&now) && now.size == stat.size && now.links == stat.links);
        if same && writers.again(fd.as_fd()) == writers { Ok(applied.problems) } else { Err(changed()) }
    }

    /// Runs `create` on the name itself, or on a temporary one beside it when something is there that may be replaced.
    pub(super) fn make<T>(
        &self,
        name: &[u8],
        existing: Existing,
        create: impl Fn(&[u8]) -> rustix::io::Result<T>,
    ) -> Result<(Naming<'_>, T)> {
        match create(name) {
            Ok(made) => return Ok((Naming { directory: self, name: name.to_vec(), temporary: None }, made)),
            Err(Errno::EXIST) if existing == Existing::Replace => {}
            Err(Errno::EXIST) => return Err(self.conflict(name, Errno::EXIST.into())),
            Err(error) => {
                self.remove_substitute(name, error);
                return Err(TargetError::io("create", name, error));
            }
        }
        if let Some(stat) = self.stat(name)?
            && stat.kind == Kind::Directory
        {
            return Err(TargetError::Conflict { name: name.to_vec(), kind: stat.kind });
        }
        for _ in 0..16 {
            let temporary = temporary_name().map_err(|error| TargetError::io("draw a temporary name", name, error))?;
            match create(&temporary) {
                Ok(made) => {
                    return Ok((Naming { directory: self, name: name.to_vec(), temporary: Some(temporary) }, made));
                }
                Err(Errno::EXIST) => {}
                Err(error) => {
                    let _ = unlinkat(&self.directory, &temporary, AtFlags::empty());
                    return Err(TargetError::io("create", name, error));
                }
            }
        }
        Err(TargetError::io("create", name, Errno::EXIST))
    }

    /// FUSE says EIO when its server made a plain file instead of a pipe, a socket or a device, and the file stays. Nothing had the
    /// name before, or the answer would have been that it exists; what goes is empty, ours, and has no other name.
    fn remove_substitute(&self, name: &[u8], error: Errno) {
        if error == Errno::IO
            && let Ok(Some(stat)) = self.stat(name)
            && stat.kind == Kind::File
            && stat.size == 0
            && stat.links <= 1
            && self.is_ours(&stat)
        {
            let _ = unlinkat(&self.directory, name, AtFlags::empty());
        }
    }

    /// Renames a temporary name over the final one, whose old inode may be immutable. rename(2) does nothing where both lead to one
    /// inode, which a file system without lasting inode numbers does not show beforehand; so the temporary name is removed afterwards.
    pub(super) fn rename_over(&self, temporary: &[u8], name: &[u8]) -> Result<()> {
        let rename = || renameat(&self.directory, temporary, &self.directory, name);
        match rename() {
            Err(Errno::PERM) => {
                let _lifted = Lifted::from_file(&self.directory, name);
                rename()
            }
            other => other,
        }
        .map_err(|error| match error {
            Errno::ISDIR | Errno::NOTEMPTY | Errno::EXIST => self.conflict(name, error.into()),
            error => TargetError::io("rename", name, error),
        })?;
        let _ = unlinkat(&self.directory, temporary, AtFlags::empty());
        Ok(())
    }
}

const fn file_type(kind: Kind) -> FileType {
    match kind {
        Kind::File => FileType::RegularFile,
        Kind::Directory => FileType::Directory,
        Kind::Symlink => FileType::Symlink,
        Kind::Fifo => FileType::Fifo,
        Kind::Socket => FileType::Socket,
        Kind::CharacterDevice => FileType::CharacterDevice,
        Kind::BlockDevice => FileType::BlockDevice,
    }
}

/// A name that nobody can guess, so that nobody can put something there first.
pub(super) fn temporary_name() -> io::Result<Vec<u8>> {
    let mut random = [0; 12];
    getrandom::fill(&mut random).map_err(|error| io::Error::other(error.to_string()))?;
    let mut name = TEMPORARY_PREFIX.to_vec();
    name.extend_from_slice(hex(&random).as_bytes());
    Ok(name)
}

/// Something that was made, perhaps under a temporary name still, which goes with this unless it is settled.
pub(super) struct Naming<'a> {
    directory: &'a TargetDirectory,
    name: Vec<u8>,
    temporary: Option<Vec<u8>>,
}

impl Naming<'_> {
    /// The name that it has now.
    pub fn current(&self) -> &[u8] {
        self.temporary.as_ref().unwrap_or(&self.name)
    }

    /// The temporary name, for a caller that renames later.
    pub fn into_temporary(mut self) -> Option<Vec<u8>> {
        self.temporary.take()
    }

    /// Removes it.
    pub fn discard(mut self) {
        let _ = unlinkat(&self.directory.directory, self.current(), AtFlags::empty());
        self.temporary = None;
    }

    /// Gives it the final name.
    pub fn settle(mut self) -> Result<()> {
        let Some(temporary) = &self.temporary else { return Ok(()) };
        self.directory.rename_over(temporary, &self.name)?;
        self.temporary = None;
        Ok(())
    }
}

impl Drop for Naming<'_> {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            let _ = unlinkat(&self.directory.directory, temporary.as_slice(), AtFlags::empty());
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn no_temporary_name_stays_however_a_making_ends() {
        let place = tempfile::tempdir().unwrap();
        let target = Target::open(place.path(), false).unwrap().root();
        let at = |name: &[u8]| place.path().join(std::str::from_utf8(name).unwrap());
        let names = || target.names().unwrap();
        std::fs::write(at(b"there"), "x").unwrap();
        let refused = |substitute: bool, error: Errno| {
            move |name: &[u8]| -> rustix::io::Result<()> {
                if name == b"there" {
                    return Err(Errno::EXIST);
                }
                if substitute {
                    std::fs::write(at(name), "").unwrap();
                }
                Err(error)
            }
        };
        // A server that makes a file where something else was asked for, and the kernel's answer.
        for (substitute, error) in [(true, Errno::IO), (false, Errno::IO), (true, Errno::NOSPC)] {
            assert!(target.make(b"there", Existing::Replace, refused(substitute, error)).is_err());
            assert_eq!(names(), [b"there"], "{substitute} {error}");
        }
        assert!(target.make(b"new", Existing::Refuse, refused(true, Errno::IO)).is_err());
        assert_eq!(names(), [b"there"]);
        // Dropped without being settled.
        let create = |name: &[u8]| symlinkat(b"x".as_slice(), &target.directory, name);
        drop(target.make(b"there", Existing::Replace, create).unwrap());
        assert_eq!(names(), [b"there"]);
        // Another name of what it is to replace.
        std::fs::hard_link(at(b"there"), at(b"other")).unwrap();
        target.rename_over(b"other", b"there").unwrap();
        assert_eq!(names(), [b"there"]);
    }
}
