//! The one way to open a file whose name somebody else may have filled: an object of a repository, a lock, a file of the state directory or of
//! the cache.
//!
//! A link, pipe, device, socket or directory that has such a name is [`not_regular`]: never followed, never waited for, and not even opened where that can be
//! helped, since opening a device can do something. What is opened is looked at again, because the name may have changed hands in between.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, fstat, openat, statat};
use rustix::io::Errno;
use rustix::path::Arg;

/// Handles are never inherited, and nothing is followed, waited for, or made the terminal of this process.
const SAFE: OFlags = OFlags::CLOEXEC.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::NOCTTY);
/// Interruptions by a signal that are borne before a call has failed.
const INTERRUPTIONS_MAX: usize = 100;

/// Opens the regular file `name` in `parent` with `flags` (how it is to be used), and gives what the system says of it.
///
/// # Errors
/// [`not_regular`] for anything else of that name; else what the system says.
pub fn open_at(parent: impl AsFd, name: impl Arg + Copy, flags: OFlags) -> io::Result<(OwnedFd, Stat)> {
    require(&uninterrupted(|| statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW))?)?;
    let file = match uninterrupted(|| openat(&parent, name, flags | SAFE, Mode::empty())) {
        // A link or a socket, since that look.
        Err(Errno::LOOP | Errno::NXIO) => return Err(not_regular()),
        other => other?,
    };
    let stat = uninterrupted(|| fstat(&file))?;
    require(&stat)?;
    Ok((file, stat))
}

/// Refuses what is no regular file.
///
/// # Errors
/// [`not_regular`].
pub fn require(stat: &Stat) -> io::Result<()> {
    if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile { Ok(()) } else { Err(not_regular()) }
}

/// Something else than a regular file has the name: [`io::ErrorKind::InvalidData`].
#[must_use]
pub fn not_regular() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "not a regular file")
}

/// Makes a call again that a signal interrupted, which file systems of a network, or in user space, let happen. Only for
/// calls that have done nothing then: never fsync, close or rename.
///
/// # Errors
/// What the call says.
pub fn uninterrupted<T>(mut call: impl FnMut() -> rustix::io::Result<T>) -> rustix::io::Result<T> {
    for _ in 0..INTERRUPTIONS_MAX {
        match call() {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
    call()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs;

    use rustix::fs::{CWD, mknodat};

    /// Nothing here may hang: a pipe has no writer.
    #[test]
    fn only_a_regular_file_is_opened() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        fs::write(at("file"), "x").unwrap();
        fs::create_dir(at("directory")).unwrap();
        std::os::unix::fs::symlink("file", at("link")).unwrap();
        std::os::unix::fs::symlink("nowhere", at("dangling")).unwrap();
        mknodat(CWD, at("pipe"), FileType::Fifo, Mode::RWXU, 0).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        for flags in [OFlags::RDONLY, OFlags::RDWR] {
            let kind = |path: std::path::PathBuf| open_at(CWD, &path, flags).map(drop).map_err(|error| error.kind());
            assert_eq!(kind(at("file")), Ok(()));
            assert_eq!(kind(at("absent")), Err(io::ErrorKind::NotFound));
            for other in ["directory", "link", "dangling", "pipe", "socket"] {
                assert_eq!(kind(at(other)), Err(io::ErrorKind::InvalidData), "{other}");
            }
            assert_eq!(kind("/dev/null".into()), Err(io::ErrorKind::InvalidData));
        }
    }
}
