//! The place that a restore writes to. Promise P7: nothing outside it changes, whatever a snapshot says and whoever else
//! works in the same directories.
//!
//! - Everything is looked up beneath an open directory, one component at a time, never through a symbolic link.
//! - Names from a snapshot are checked: not empty, no `.` or `..`, no slash, no NUL.
//! - An inode that was there before is never written into. A file, link or device in the way is replaced by making the
//!   new one under a temporary name beside it and renaming; a directory in the way is a [`TargetError::Conflict`], and the
//!   caller decides ([`TargetDirectory::remove`]).
//! - Nothing is more permissive on its way than at its end: files are made with mode 0600, directories with 0700.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, makedev, mkdirat, mknodat, openat, renameat, symlinkat, unlinkat};
use rustix::io::Errno;
use rustix::process::geteuid;

use super::apply::{Applier, ApplyProblem, Subject, set_mode};
use super::directory::{Directory, is_loop};
use super::protection::{self, Lifted};
use super::stat::{Kind, Stat};
use super::sys;
use crate::base::escape::Escaped;
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
    /// The inode has other names, which would change with it.
    #[error("\"{}\": has other hard links, which would change with it", Escaped(.0))]
    Linked(Vec<u8>),
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

/// The inode that a restore made, to recognise it later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Made {
    pub(super) device: u64,
    pub(super) inode: u64,
}

impl Made {
    /// The inode that a stat describes.
    #[must_use]
    pub const fn of(stat: &Stat) -> Self {
        Self { device: stat.device, inode: stat.inode }
    }
}

/// The directory that was named as target.
#[derive(Debug)]
pub struct Target {
    root: Arc<TargetDirectory>,
}

impl Target {
    /// Opens the target, following symbolic links: the user named it. With `create`, it and its ancestors are made
    /// where they are missing (mode 0777 less the umask, like `mkdir -p`).
    ///
    /// # Errors
    /// What the system says.
    pub fn open(path: &Path, create: bool) -> io::Result<Self> {
        sys::raise_open_files();
        if create {
            std::fs::create_dir_all(path)?;
        }
        Ok(Self { root: Arc::new(TargetDirectory { directory: Directory::open_root(path)? }) })
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
}

impl AsFd for TargetDirectory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

impl TargetDirectory {
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
            Ok(directory) => Ok(Arc::new(Self { directory })),
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
    /// [`TargetError::Conflict`] when something else is there.
    pub fn make_directory(&self, name: &[u8]) -> Result<(Arc<Self>, bool)> {
        check_name(name)?;
        let new = match mkdirat(&self.directory, name, Mode::from_raw_mode(DIRECTORY_MODE)) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(error) => return Err(TargetError::io("create directory", name, error)),
        };
        let opened = self.directory(name)?;
        if new {
            return Ok((opened, true));
        }
        opened.unlock().map_err(|error| TargetError::io("make writable", name, error))?;
        // What was only searchable may be readable now.
        let opened = if opened.directory.is_readable() { opened } else { self.directory(name)? };
        Ok((opened, false))
    }

    /// Lets the owner work in an existing directory: gives him `rwx`, takes immutable and append-only away.
    pub(super) fn unlock(&self) -> io::Result<()> {
        let stat = self.directory.stat_self()?;
        if self.directory.is_readable() {
            protection::clear(&self.directory);
        }
        let me = geteuid();
        if !me.is_root() && stat.uid == me.as_raw() && stat.mode & DIRECTORY_MODE != DIRECTORY_MODE {
            set_mode(self.subject(), stat.mode | DIRECTORY_MODE)?;
        }
        Ok(())
    }

    fn subject(&self) -> Subject<'_> {
        Subject { fd: self.directory.as_fd(), path_only: !self.directory.is_readable(), kind: Kind::Directory }
    }

    /// Sets a directory's own metadata. Last, after everything in it and beneath it: deepest directories first.
    pub fn finish(&self, metadata: &Metadata, applier: &Applier) -> Vec<ApplyProblem> {
        let mut problems = applier.apply(self.subject(), metadata);
        problems.extend(applier.flags(self.subject(), metadata));
        problems
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
        let (fd, made) = self.hold(place.current(), kind)?;
        let subject = Subject { fd: fd.as_fd(), path_only: true, kind };
        let problems = applier.apply(subject, metadata);
        place.settle()?;
        Ok((made, problems))
    }

    /// Takes hold of something just made and makes sure that it is that: of the right kind, ours, with one name.
    fn hold(&self, name: &[u8], kind: Kind) -> Result<(OwnedFd, Made)> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = openat(&self.directory, name, flags, Mode::empty())
            .map_err(|error| TargetError::io("open", name, error))?;
        let stat = Stat::of(&fd).map_err(|error| TargetError::io("stat", name, error))?;
        if stat.kind != kind || stat.links != 1 || stat.uid != geteuid().as_raw() {
            return Err(TargetError::Replaced(name.to_vec()));
        }
        Ok((fd, Made::of(&stat)))
    }

    /// Sets metadata of something that was there before and has the right content.
    ///
    /// # Errors
    /// [`TargetError::Linked`] when it has more names than `links_max`; [`TargetError::Conflict`] when it is not of that
    /// kind.
    pub fn update(
        &self,
        name: &[u8],
        kind: Kind,
        links_max: u64,
        metadata: &Metadata,
        applier: &Applier,
    ) -> Result<Vec<ApplyProblem>> {
        check_name(name)?;
        let readable = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let common = OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = |flags| openat(&self.directory, name, flags | common, Mode::empty());
        let (opened, mut path_only) = match kind {
            Kind::File | Kind::Directory => (open(readable), false),
            _ => (open(OFlags::PATH), true),
        };
        let opened = match opened {
            Err(Errno::ACCESS) if !path_only => {
                path_only = true;
                open(OFlags::PATH)
            }
            other => other,
        };
        let fd = opened.map_err(|error| self.conflict(name, error.into()))?;
        let stat = Stat::of(&fd).map_err(|error| TargetError::io("stat", name, error))?;
        if stat.kind != kind {
            return Err(TargetError::Conflict { name: name.to_vec(), kind: stat.kind });
        }
        if kind != Kind::Directory && stat.links > links_max.max(1) {
            return Err(TargetError::Linked(name.to_vec()));
        }
        if !path_only {
            protection::clear(&fd);
        }
        let subject = Subject { fd: fd.as_fd(), path_only, kind };
        let mut problems = applier.apply(subject, metadata);
        problems.extend(applier.flags(subject, metadata));
        Ok(problems)
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
            Err(error) => return Err(TargetError::io("create", name, error)),
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
                Err(error) => return Err(TargetError::io("create", name, error)),
            }
        }
        Err(TargetError::io("create", name, Errno::EXIST))
    }

    /// Renames a temporary name over the final one, whose old inode may be immutable.
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
        })
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
fn temporary_name() -> io::Result<Vec<u8>> {
    let mut random = [0; 12];
    getrandom::fill(&mut random).map_err(|error| io::Error::other(error.to_string()))?;
    let mut name = TEMPORARY_PREFIX.to_vec();
    for byte in random {
        name.extend_from_slice(format!("{byte:02x}").as_bytes());
    }
    Ok(name)
}

/// Something that was made, perhaps under a temporary name still.
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
    pub fn into_temporary(self) -> Option<Vec<u8>> {
        self.temporary
    }

    /// Removes it.
    pub fn discard(&self) {
        let _ = unlinkat(&self.directory.directory, self.current(), AtFlags::empty());
    }

    /// Gives it the final name.
    pub fn settle(self) -> Result<()> {
        let Some(temporary) = &self.temporary else { return Ok(()) };
        let result = self.directory.rename_over(temporary, &self.name);
        if result.is_err() {
            self.discard();
        }
        result
    }
}
