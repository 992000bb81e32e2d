//! An open directory: the only thing that names are looked up in.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, RawDir, SeekFrom, fstatfs, openat, readlinkat, seek};
use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};

use super::stat::Stat;
use crate::base::time::Time;

/// Buffer for `getdents64`, in bytes. A name is at most 255 bytes (some FUSE file systems: 1,024).
const LISTING_BYTES: usize = 32 * 1024;
/// A directory that changes while it is listed is listed so many times at most.
const LISTINGS_MAX: usize = 4;

/// An open directory. Holds one file descriptor.
#[derive(Debug)]
pub struct Directory {
    fd: OwnedFd,
    readable: bool,
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Directory {
    /// Opens a directory by a path of the user's, following symbolic links.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn open_root(path: &Path) -> io::Result<Self> {
        Self::open(CWD, path, OFlags::empty())
    }

    /// Opens a directory beneath this one; a symbolic link is an error (`ENOTDIR` or `ELOOP`), never followed.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn open_child(&self, name: &[u8]) -> io::Result<Self> {
        Self::open_beneath(self.fd.as_fd(), name)
    }

    /// The same beneath a descriptor.
    pub(super) fn open_beneath(directory: BorrowedFd<'_>, name: &[u8]) -> io::Result<Self> {
        Self::open(directory, name, OFlags::NOFOLLOW)
    }

    /// The same, through a symbolic link: only for the ancestors of a source that the user named.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn open_child_following(&self, name: &[u8]) -> io::Result<Self> {
        Self::open(self.fd.as_fd(), name, OFlags::empty())
    }

    /// Opens for reading; where only searching is allowed (mode 0711, say), as a place to look names up in.
    fn open<P: rustix::path::Arg + Copy>(at: BorrowedFd<'_>, path: P, extra: OFlags) -> io::Result<Self> {
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | extra;
        let wanted = OFlags::RDONLY | OFlags::NOATIME | flags;
        let opened = match openat(at, path, wanted, Mode::empty()) {
            Err(Errno::PERM) => openat(at, path, OFlags::RDONLY | flags, Mode::empty()),
            other => other,
        };
        match opened {
            Ok(fd) => Ok(Self { fd, readable: true }),
            Err(Errno::ACCESS) => {
                let fd = openat(at, path, OFlags::PATH | flags, Mode::empty())?;
                Ok(Self { fd, readable: false })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Whether the directory can be listed; otherwise names can only be looked up.
    #[must_use]
    pub const fn is_readable(&self) -> bool {
        self.readable
    }

    /// All names except `.` and `..`, sorted by their bytes. One caller at a time: the listing position belongs to
    /// the descriptor.
    ///
    /// A name that others rename something over while the directory is listed may be missing in the listing although it is
    /// there all the time (on btrfs it gets a new place at the end). So a directory that changed meanwhile, or may have, is
    /// listed again, a few times, and what any of the listings has is given.
    ///
    /// # Errors
    /// What the kernel says; `PermissionDenied` when the directory may not be listed.
    pub fn names(&self) -> io::Result<Vec<Vec<u8>>> {
        if !self.readable {
            return Err(Errno::ACCESS.into());
        }
        let mut names = Vec::new();
        for listing in 1..=LISTINGS_MAX {
            let (begun, before) = (coarse_now(), self.stat_self()?.ctime);
            let found = self.list_once()?;
            names = if listing == 1 { found } else { merge_names(names, found) };
            let has_moved = self.stat_self()?.ctime != before;
            // Within one tick of the clock a change does not show, so a directory that changed just now is listed twice.
            if !has_moved && (!may_change_unseen(before, begun) || listing > 1) {
                break;
            }
        }
        Ok(names)
    }

    fn list_once(&self) -> io::Result<Vec<Vec<u8>>> {
        seek(&self.fd, SeekFrom::Start(0))?;
        let mut buffer = Vec::with_capacity(LISTING_BYTES);
        let mut listing = RawDir::new(&self.fd, buffer.spare_capacity_mut());
        let mut names = Vec::new();
        while let Some(entry) = listing.next() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push(name.to_vec());
            }
        }
        names.sort_unstable();
        // A file system that changes under getdents may list a name twice; a tree must not.
        names.dedup();
        Ok(names)
    }

    /// What is under a name; a symbolic link is not followed.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn stat(&self, name: &[u8]) -> io::Result<Stat> {
        Stat::at(self.fd.as_fd(), name)
    }

    /// Takes hold of whatever has the name, without opening it (`O_PATH`): a symbolic link, fifo, socket or device is
    /// described by one descriptor, and nothing that has the name later can be taken for it.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn open_inode(&self, name: &[u8]) -> io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(openat(&self.fd, name, flags, Mode::empty())?)
    }

    /// What this directory itself is.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn stat_self(&self) -> io::Result<Stat> {
        Stat::of(&self.fd)
    }

    /// Target of the symbolic link under a name, whatever its length.
    ///
    /// # Errors
    /// What the kernel says; `InvalidInput` when it is no symbolic link.
    pub fn read_link(&self, name: &[u8]) -> io::Result<Vec<u8>> {
        Ok(readlinkat(&self.fd, name, Vec::new())?.into_bytes())
    }

    /// Opens a file for reading: never follows, never blocks (a fifo), leaves atime alone where that is allowed.
    ///
    /// # Errors
    /// What the kernel says; `ELOOP` for a symbolic link ([`is_loop`]).
    pub fn open_file(&self, name: &[u8]) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        match openat(&self.fd, name, flags | OFlags::NOATIME, Mode::empty()) {
            Err(Errno::PERM) => Ok(openat(&self.fd, name, flags, Mode::empty())?),
            other => Ok(other?),
        }
    }

    /// Reads at most `limit` bytes from the beginning of a regular file; `None` when it is not there or is anything
    /// else.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn read_small(&self, name: &[u8], limit: usize) -> io::Result<Option<Vec<u8>>> {
        let file = match self.open_file(name) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound || is_loop(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        if Stat::of(&file)?.kind != super::stat::Kind::File {
            return Ok(None);
        }
        let mut content = Vec::new();
        io::Read::read_to_end(&mut io::Read::take(std::fs::File::from(file), limit as u64), &mut content)?;
        Ok(Some(content))
    }

    /// Whether starting write-back here makes a later store through a mapping visible in the timestamps; see
    /// [`super::read`]. Known to be so for ext2/3/4 and xfs only.
    #[must_use]
    pub fn writes_back(&self) -> bool {
        writes_back(self.fd.as_fd())
    }
}

/// The clock that file systems take their times from: it stands still within a tick.
#[must_use]
pub fn coarse_now() -> Time {
    let now = clock_gettime(ClockId::RealtimeCoarse);
    Time { seconds: now.tv_sec, nanoseconds: u32::try_from(now.tv_nsec).unwrap_or(0) }
}

/// Whether a further change of what has this change time may not show, when file systems' clock says `now`: within a tick of that clock,
/// or within two seconds where the file system keeps whole seconds.
#[must_use]
pub fn may_change_unseen(ctime: Time, now: Time) -> bool {
    if ctime.nanoseconds == 0 { ctime.seconds.saturating_add(2) >= now.seconds } else { ctime >= now }
}

/// Both sorted lists as one, each name once.
fn merge_names(mut names: Vec<Vec<u8>>, more: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    names.extend(more);
    names.sort_unstable();
    names.dedup();
    names
}

/// See [`Directory::writes_back`]. Magic numbers: statfs(2).
pub(super) fn writes_back(fd: BorrowedFd<'_>) -> bool {
    const EXT: u64 = 0xef53;
    const XFS: u64 = 0x5846_5342;
    #[allow(clippy::cast_sign_loss, clippy::unnecessary_cast)]
    fstatfs(fd).is_ok_and(|answer| matches!(answer.f_type as u64, EXT | XFS))
}

/// Whether `O_NOFOLLOW` met a symbolic link (`ELOOP`).
#[must_use]
pub fn is_loop(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::LOOP.raw_os_error())
}
