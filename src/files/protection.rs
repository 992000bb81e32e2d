//! Immutable and append-only: flags that keep even root from replacing, linking or removing.
//!
//! A restore over an earlier one meets its own immutable files. It takes the flags away for the one call that needs it and
//! sets them again, so that an inode with other names is afterwards what it was.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::ioctl_getflags;

use super::apply::set_flags;
use super::directory::Directory;
use super::metadata::{APPEND, IMMUTABLE};
use super::stat::{Kind, Stat};

/// Takes both flags away for good, where they are set and we may.
pub(super) fn clear(fd: impl AsFd) {
    let fd = fd.as_fd();
    if let Some(flags) = protected(fd) {
        let _ = set_flags(fd, flags & !(IMMUTABLE | APPEND));
    }
}

/// All flags of an inode that has one of the two.
fn protected(fd: impl AsFd) -> Option<u32> {
    let flags = ioctl_getflags(fd).ok()?.bits();
    (flags & (IMMUTABLE | APPEND) != 0).then_some(flags)
}

/// The flags, taken away for as long as this lives.
pub(super) struct Lifted {
    fd: OwnedFd,
    flags: u32,
}

impl Lifted {
    /// Of a file or directory by name; `None` when it has neither flag, or we may not.
    pub fn from_file(directory: &Directory, name: &[u8]) -> Option<Self> {
        let fd = directory.open_file(name).ok()?;
        if !matches!(Stat::of(&fd).ok()?.kind, Kind::File | Kind::Directory) {
            return None;
        }
        let flags = protected(&fd)?;
        set_flags(&fd, flags & !(IMMUTABLE | APPEND)).ok()?;
        Some(Self { fd, flags })
    }
}

impl Drop for Lifted {
    fn drop(&mut self) {
        // The same call that took them away. If the inode is gone, nothing is lost.
        let _ = set_flags(&self.fd, self.flags);
    }
}
