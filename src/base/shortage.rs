//! What a process, or the machine under it, has run out of: open files, memory, threads.
//!
//! Such a failure says nothing of what was to be opened or read. It ends a command; it is never damage of a repository, and
//! never a property of a source.

use std::io;

use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

/// Open files that are assumed where the system sets no limit.
const UNLIMITED: usize = 1 << 20;

/// True for the failures that the module is about: getrlimit(2), open(2), clone(2).
///
/// `EAGAIN` is not among them: of a file it says that somebody holds a lease on it. Where a thread cannot be started it
/// stands for the limit of processes, and the caller knows that.
#[must_use]
pub fn is_shortage(error: &io::Error) -> bool {
    let Some(errno) = Errno::from_io_error(error) else { return error.kind() == io::ErrorKind::OutOfMemory };
    matches!(errno, Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::NOBUFS)
}

/// What has run out and how to get more of it, for a hint; none for any other failure.
#[must_use]
pub fn describe(error: &io::Error) -> Option<String> {
    Some(match Errno::from_io_error(error)? {
        Errno::MFILE => format!(
            "this process may have {} files open at the same time (ulimit -n, LimitNOFILE= of systemd). Raise the limit and \
             run the command again; nothing is damaged",
            open_files()
        ),
        Errno::NFILE => "the whole machine has too many files open (sysctl fs.file-max). Run the command again later; \
                         nothing is damaged"
            .to_owned(),
        Errno::NOMEM | Errno::NOBUFS => {
            "the machine, or this process (ulimit -v, MemoryMax= of systemd), has no memory left. Free some and run the \
             command again; nothing is damaged"
                .to_owned()
        }
        Errno::AGAIN => "this user, or this container, may start no more threads (ulimit -u, TasksMax= of systemd). Raise \
                         the limit and run the command again"
            .to_owned(),
        _ => return None,
    })
}

/// How many files this process may have open at the same time.
#[must_use]
pub fn open_files() -> usize {
    getrlimit(Resource::Nofile).current.map_or(UNLIMITED, |limit| usize::try_from(limit).unwrap_or(UNLIMITED))
}

/// How many files a part of the program may keep open for later use: `wanted`, or its share of what the limit leaves when
/// `reserved` are set aside for everything else. At least `least`, without which the part cannot work.
#[must_use]
pub fn share_of_open_files(wanted: usize, share: (usize, usize), reserved: usize, least: usize) -> usize {
    let left = open_files().saturating_sub(reserved);
    (left.saturating_mul(share.0) / share.1.max(1)).clamp(least, wanted.max(least))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_a_process_lacks_is_told_from_what_is_wrong_with_a_file() {
        let cases = [
            (Errno::MFILE, true),
            (Errno::NFILE, true),
            (Errno::NOMEM, true),
            (Errno::NOBUFS, true),
            (Errno::ACCESS, false),
            (Errno::PERM, false),
            (Errno::NOENT, false),
            (Errno::IO, false),
            (Errno::LOOP, false),
            (Errno::NOSPC, false),
            (Errno::AGAIN, false),
        ];
        for (errno, is) in cases {
            let error = io::Error::from(errno);
            assert_eq!(is_shortage(&error), is, "{error}");
            assert!(!is || describe(&error).is_some(), "{error}");
        }
        assert!(is_shortage(&io::ErrorKind::OutOfMemory.into()));
        assert!(describe(&Errno::MFILE.into()).unwrap().contains(&open_files().to_string()));
    }

    #[test]
    fn a_share_stays_within_what_is_wanted_and_what_is_needed() {
        assert_eq!(share_of_open_files(0, (1, 2), 0, 1), 1);
        assert_eq!(share_of_open_files(2, (1, 2), 0, 1), 2);
        assert_eq!(share_of_open_files(8, (1, 2), usize::MAX, 3), 3);
        assert!(share_of_open_files(usize::MAX, (1, 2), 0, 1) <= open_files() / 2);
    }
}
