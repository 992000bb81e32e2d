//! What the kernel says about an inode, in our own words.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{AtFlags, Statx, StatxFlags, StatxTimestamp, makedev, statx};

use crate::base::time::Time;

/// Kind of an inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A character device.
    CharacterDevice,
    /// A block device.
    BlockDevice,
}

impl Kind {
    /// The word for a message.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Directory => "directory",
            Self::Symlink => "symbolic link",
            Self::Fifo => "fifo",
            Self::Socket => "socket",
            Self::CharacterDevice => "character device",
            Self::BlockDevice => "block device",
        }
    }

    fn from_mode(mode: u32) -> io::Result<Self> {
        // S_IFMT and its values are the same on every Linux; inode(7).
        Ok(match mode & 0o170_000 {
            0o100_000 => Self::File,
            0o040_000 => Self::Directory,
            0o120_000 => Self::Symlink,
            0o010_000 => Self::Fifo,
            0o140_000 => Self::Socket,
            0o020_000 => Self::CharacterDevice,
            0o060_000 => Self::BlockDevice,
            other => {
                return Err(io::Error::new(io::ErrorKind::Unsupported, format!("unknown file type {other:#o}")));
            }
        })
    }
}

/// One answer of `statx`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// Kind of the inode.
    pub kind: Kind,
    /// Permission and set-id bits, `0o7777` at most.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Size in bytes; of a symbolic link, the length of its target.
    pub size: u64,
    /// Allocated space in units of 512 bytes.
    pub blocks: u64,
    /// Last modification of the content.
    pub mtime: Time,
    /// Last change of the inode.
    pub ctime: Time,
    /// Birth, where the file system knows it.
    pub btime: Option<Time>,
    /// The file system: raw `st_dev`, which changes at a reboot.
    pub device: u64,
    /// Inode number.
    pub inode: u64,
    /// Hard links.
    pub links: u64,
    /// Major and minor number of a device node, else zeros.
    pub rdev: (u32, u32),
}

impl Stat {
    /// Asks about a name beneath a directory, never following a symbolic link and never triggering an automount.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn at(directory: BorrowedFd<'_>, name: &[u8]) -> io::Result<Self> {
        Self::ask(directory, name, AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT)
    }

    /// The same, but through a symbolic link.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn at_following(directory: BorrowedFd<'_>, name: &[u8]) -> io::Result<Self> {
        Self::ask(directory, name, AtFlags::empty())
    }

    /// Asks about an open descriptor (`O_PATH` ones too).
    ///
    /// # Errors
    /// What the kernel says.
    pub fn of(file: impl AsFd) -> io::Result<Self> {
        Self::ask(file.as_fd(), b"", AtFlags::EMPTY_PATH)
    }

    fn ask(directory: BorrowedFd<'_>, name: &[u8], flags: AtFlags) -> io::Result<Self> {
        Self::from_statx(&statx(directory, name, flags, StatxFlags::BASIC_STATS | StatxFlags::BTIME)?)
    }

    fn from_statx(raw: &Statx) -> io::Result<Self> {
        let mode = u32::from(raw.stx_mode);
        Ok(Self {
            kind: Kind::from_mode(mode)?,
            mode: mode & 0o7777,
            uid: raw.stx_uid,
            gid: raw.stx_gid,
            size: raw.stx_size,
            blocks: raw.stx_blocks,
            mtime: time(raw.stx_mtime),
            ctime: time(raw.stx_ctime),
            btime: (raw.stx_mask & StatxFlags::BTIME.bits() != 0).then(|| time(raw.stx_btime)),
            device: makedev(raw.stx_dev_major, raw.stx_dev_minor),
            inode: raw.stx_ino,
            links: u64::from(raw.stx_nlink),
            rdev: (raw.stx_rdev_major, raw.stx_rdev_minor),
        })
    }

    /// The same inode of the same file system (while both are mounted).
    #[must_use]
    pub fn same_inode(&self, other: &Self) -> bool {
        self.device == other.device && self.inode == other.inode
    }

    /// Key of an inode in a set: (device, inode).
    #[must_use]
    pub const fn key(&self) -> (u64, u64) {
        (self.device, self.inode)
    }
}

/// A file system with broken nanoseconds must not make an invalid [`Time`].
fn time(raw: StatxTimestamp) -> Time {
    Time { seconds: raw.tv_sec, nanoseconds: raw.tv_nsec.min(999_999_999) }
}
