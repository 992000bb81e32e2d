//! Does anybody have a file open for writing? Asked with a read lease, which holds writers off for as long as it is held.

use std::os::fd::BorrowedFd;

use rustix::io::Errno;

use super::file_system::FileSystem;
use crate::base::sys;

/// What the kernel says about the writers of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writers {
    /// Nobody has it open for writing, and nobody will until the descriptor that asked is closed.
    Nobody,
    /// Somebody has.
    Somebody,
    /// The kernel cannot say: a file of somebody else without the right to ask, or a file system without leases.
    Unknown,
}

impl Writers {
    /// Asks, and takes the lease, on a descriptor that is open for reading only.
    pub(super) fn ask(file: BorrowedFd<'_>, system: &FileSystem) -> Self {
        match sys::take_read_lease(file) {
            Ok(()) => Self::Nobody,
            Err(error) if error.raw_os_error() == Some(Errno::AGAIN.raw_os_error()) && system.knows_writers() => {
                Self::Somebody
            }
            Err(_) => Self::Unknown,
        }
    }

    /// Asks again, later on.
    pub(super) fn again(self, file: BorrowedFd<'_>) -> Self {
        if self == Self::Nobody && !sys::has_read_lease(file) { Self::Somebody } else { self }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs::{self, File};
    use std::os::fd::AsFd;

    use rustix::fs::{Mode, OFlags, open};

    use super::super::file_system::FileSystems;
    use super::super::stat::Stat;
    use super::*;
    use crate::base::sys::mapping::Mapping;

    #[test]
    fn a_writer_is_noticed_and_held_off() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("file");
        fs::write(&path, "0123456789").unwrap();
        let directory = File::open(place.path()).unwrap();
        let system = FileSystems::new(true).of(directory.as_fd(), &Stat::of(&directory).unwrap());
        let reader = || File::open(&path).unwrap();
        let first = reader();
        match Writers::ask(first.as_fd(), &system) {
            Writers::Nobody => {}
            other => {
                eprintln!("SKIPPED files::lease::a_writer_is_noticed_and_held_off: no leases here ({other:?})");
                return;
            }
        }
        assert_eq!(Writers::Nobody.again(first.as_fd()), Writers::Nobody);
        // Somebody asks to write, and is let in only when the lease ends.
        let flags = OFlags::WRONLY | OFlags::NONBLOCK;
        assert_eq!(open(&path, flags, Mode::empty()).unwrap_err(), Errno::AGAIN);
        assert_eq!(Writers::Nobody.again(first.as_fd()), Writers::Somebody);
        drop(first);
        let writer = File::options().read(true).write(true).open(&path).unwrap();
        let second = reader();
        assert_eq!(Writers::ask(second.as_fd(), &system), Writers::Somebody);
        // A mapping is as good as a descriptor.
        let mapping = Mapping::new(&writer, 10).unwrap();
        drop(writer);
        assert_eq!(Writers::ask(second.as_fd(), &system), Writers::Somebody);
        drop(mapping);
        assert_eq!(Writers::ask(second.as_fd(), &system), Writers::Nobody);
    }
}
