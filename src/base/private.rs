//! Directories and files of this program: only their owner can use them, and he always can, whatever the umask says.
//!
//! Where root works in what is another user's, the new ones become his: a repository that root pruned once is to stay usable.
//!
//! # Invariants
//!
//! - A directory has mode 0700 and a file 0600 when these functions return, where the file system keeps modes. A bit that a
//!   directory inherited from its parent (set-group-id) stays.
//! - Nothing that existed before is changed, and no symbolic link is followed in the last component.
//! - What is to be another user's has its name only once it is his: it is made under a name of its own and renamed. A kill before
//!   that leaves something that begins with [`TEMPORARY_PREFIX`] and that nobody needs.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, Dir, Gid, Mode, OFlags, RenameFlags, Stat, Uid, fchmod, fchown, fstat, mkdirat, openat,
};
use rustix::fs::{chmod, renameat, renameat_with, statat, unlinkat};
use rustix::io::Errno;
use rustix::path::Arg;
use rustix::process::geteuid;

use super::regular;

/// Mode of a directory.
const DIRECTORY_MODE: Mode = Mode::RWXU;
/// Mode of a directory of the user's that is made on the way to what he named; the umask takes from it.
const PUBLIC_MODE: Mode = Mode::from_raw_mode(0o755);
/// Mode of a file.
const FILE_MODE: Mode = Mode::RUSR.union(Mode::WUSR);
/// Bits of a mode that are permissions.
const PERMISSIONS: u32 = 0o777;
/// Beginning of a name that something of another user's has until it is his.
pub const TEMPORARY_PREFIX: &str = ".packstone-new-";

const FILE: OFlags = OFlags::RDWR.union(OFlags::CLOEXEC).union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK);
const DIRECTORY: OFlags = OFlags::DIRECTORY.union(OFlags::CLOEXEC).union(OFlags::NOFOLLOW);

/// The user and group whose it will be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    uid: Uid,
    gid: Gid,
}

impl Owner {
    /// For whom to make something beneath a directory: for its owner, when root works in another user's. `None` when that is
    /// whoever runs this, or cannot be helped.
    pub fn of(directory: impl AsFd) -> Option<Self> {
        let stat = fstat(directory).ok()?;
        (geteuid().is_root() && stat.st_uid != 0)
            .then(|| Self { uid: Uid::from_raw(stat.st_uid), gid: Gid::from_raw(stat.st_gid) })
    }

    /// Gives him what was just made. Where that cannot be (no such user in a user namespace, a server that takes root for
    /// nobody, a file system without owners) it stays as it is; a full quota of his is an error.
    ///
    /// # Errors
    /// What the system says.
    pub fn give(self, file: impl AsFd) -> Result<(), Errno> {
        match fchown(file, Some(self.uid), Some(self.gid)) {
            Err(Errno::PERM | Errno::ACCESS | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::OVERFLOW) => {
                Ok(())
            }
            other => other,
        }
    }
}

/// Makes a directory in `parent`. One that exists is [`Errno::EXIST`].
///
/// # Errors
/// What the system says.
pub fn make_directory_at(parent: BorrowedFd<'_>, name: impl Arg + Copy, owner: Option<Owner>) -> Result<(), Errno> {
    let Some(owner) = owner else {
        mkdirat(parent, name, DIRECTORY_MODE)?;
        return set_directory_mode(parent, name, |_| DIRECTORY_MODE.bits());
    };
    if statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
        return Err(Errno::EXIST);
    }
    let temporary = temporary_name()?;
    mkdirat(parent, &*temporary, DIRECTORY_MODE)?;
    let made = give_directory(parent, &temporary, owner).and_then(|()| rename_new(parent, &temporary, name));
    if made.is_err() {
        let _ = unlinkat(parent, &*temporary, AtFlags::REMOVEDIR);
    }
    made
}

/// Whoever owns the parent may exchange the directory for another one in it at any moment: only an empty one is given away.
fn give_directory(parent: BorrowedFd<'_>, name: &str, owner: Owner) -> Result<(), Errno> {
    let directory = openat(parent, name, DIRECTORY, Mode::empty())?;
    let empty = Dir::read_from(&directory)?
        .all(|entry| entry.is_ok_and(|entry| matches!(entry.file_name().to_bytes(), b"." | b"..")));
    if !empty {
        return Err(Errno::NOTEMPTY);
    }
    let stat = fstat(&directory)?;
    set_mode(&directory, &stat, DIRECTORY_MODE.bits())?;
    owner.give(&directory)
}

/// Renames what nobody else knows to a name that is free.
fn rename_new(parent: BorrowedFd<'_>, from: &str, to: impl Arg + Copy) -> Result<(), Errno> {
    match renameat_with(parent, from, parent, to, RenameFlags::NOREPLACE) {
        // Not every file system knows the flag. Another process may make the same directory, or the same file for a lock, between the
        // two calls, and then one of them works with what has no name any more: its next call fails, and nothing is lost.
        Err(Errno::INVAL | Errno::NOSYS) => match statat(parent, to, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => renameat(parent, from, parent, to),
            other => other.and(Err(Errno::EXIST)),
        },
        other => other,
    }
}

/// 16 random hex digits, for a name that nobody has. The number of a process is none: processes of two containers may have one, and so may a
/// later process, which finds what a killed one has left.
///
/// # Errors
/// The kernel's generator failed.
pub fn random_digits() -> Result<String, Errno> {
    let mut number = [0; 8];
    getrandom::fill(&mut number).map_err(|_| Errno::AGAIN)?;
    Ok(format!("{:016x}", u64::from_le_bytes(number)))
}

/// A name that nobody has.
fn temporary_name() -> Result<String, Errno> {
    Ok(format!("{TEMPORARY_PREFIX}{}", random_digits()?))
}

/// Makes a new, empty file in `parent`. One that exists is [`Errno::EXIST`].
///
/// # Errors
/// What the system says.
pub fn create_at(parent: BorrowedFd<'_>, name: impl Arg + Copy, owner: Option<Owner>) -> Result<OwnedFd, Errno> {
    let create = |name: &str| openat(parent, name, FILE | OFlags::CREATE | OFlags::EXCL, FILE_MODE);
    let Some(owner) = owner else {
        let file = openat(parent, name, FILE | OFlags::CREATE | OFlags::EXCL, FILE_MODE)?;
        set_file_mode(&file)?;
        return Ok(file);
    };
    let temporary = temporary_name()?;
    let file = create(&temporary)?;
    let made =
        set_file_mode(&file).and_then(|()| owner.give(&file)).and_then(|()| rename_new(parent, &temporary, name));
    if made.is_err() {
        let _ = unlinkat(parent, &*temporary, AtFlags::empty());
    }
    made.map(|()| file)
}

/// Opens a file in `parent`, and makes it when it is not there.
///
/// # Errors
/// What the system says; [`regular::not_regular`] when something else has the name.
pub fn open_at(parent: BorrowedFd<'_>, name: impl Arg + Copy, owner: Option<Owner>) -> io::Result<OwnedFd> {
    loop {
        match regular::open_at(parent, name, OFlags::RDWR) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => return Ok(other?.0),
        }
        match create_at(parent, name, owner) {
            Err(Errno::EXIST) => {}
            other => return Ok(other?),
        }
    }
}

/// Makes a directory and all that are missing above it.
///
/// # Errors
/// What the system says, with `NotADirectory` for anything else of that name.
pub fn make_directories(path: &Path) -> io::Result<()> {
    make_all(path, DIRECTORY_MODE, &|_| DIRECTORY_MODE.bits())
}

/// The same for directories of the user's, on the way to a place that he named: mode 0755 less the umask, but never without
/// access for their owner.
///
/// # Errors
/// As [`make_directories`].
pub fn make_public_directories(path: &Path) -> io::Result<()> {
    make_all(path, PUBLIC_MODE, &|now| now | DIRECTORY_MODE.bits())
}

fn make_all(path: &Path, mode: Mode, wanted: &dyn Fn(u32) -> u32) -> io::Result<()> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let made = match mkdirat(CWD, path, mode) {
        Err(Errno::NOENT) => {
            // What begins at the root or here is there, or there is nothing to be done.
            let above = path.parent().ok_or(Errno::NOENT)?;
            make_all(above, mode, wanted)?;
            mkdirat(CWD, path, mode)
        }
        other => other,
    };
    let Err(error) = made else { return Ok(set_directory_mode(CWD, path, wanted)?) };
    match path.metadata() {
        // A link to one will do: the user made it.
        Ok(there) if there.is_dir() => Ok(()),
        // What is there cannot be determined.
        Err(why) if error == Errno::EXIST && why.kind() != io::ErrorKind::NotFound => Err(why),
        _ if error == Errno::EXIST => Err(Errno::NOTDIR.into()),
        _ => Err(error.into()),
    }
}

/// Makes a new file.
///
/// # Errors
/// What the system says; `AlreadyExists` when something has the name.
pub fn create(path: &Path) -> io::Result<File> {
    Ok(File::from(create_at(CWD, path, None)?))
}

/// Opens a file, and makes it when it is not there.
///
/// # Errors
/// What the system says.
pub fn open(path: &Path) -> io::Result<File> {
    Ok(File::from(open_at(CWD, path, None)?))
}

/// Gives a directory that was just made the mode that is wanted, seen from the one that it has.
fn set_directory_mode(parent: BorrowedFd<'_>, name: impl Arg + Copy, wanted: impl Fn(u32) -> u32) -> Result<(), Errno> {
    // Without permission to read it this way is still open.
    let directory = openat(parent, name, DIRECTORY | OFlags::PATH, Mode::empty())?;
    let stat = fstat(&directory)?;
    set_mode(&directory, &stat, wanted(stat.st_mode & PERMISSIONS))
}

fn set_file_mode(file: &OwnedFd) -> Result<(), Errno> {
    let stat = fstat(file)?;
    set_mode(file, &stat, FILE_MODE.bits())
}

/// Sets permissions, unless they are right. Where the file system keeps none, those that it shows must do.
fn set_mode(file: &OwnedFd, stat: &Stat, wanted: u32) -> Result<(), Errno> {
    if stat.st_mode & PERMISSIONS == wanted {
        return Ok(());
    }
    let mode = Mode::from_raw_mode(stat.st_mode & 0o7000 | wanted);
    let set = match fchmod(file, mode) {
        // It was opened as a path.
        Err(Errno::BADF) => {
            use std::os::fd::AsRawFd;
            chmod(format!("/proc/self/fd/{}", file.as_raw_fd()), mode)
        }
        other => other,
    };
    let usable = stat.st_mode & wanted & 0o700 == wanted & 0o700;
    match set {
        Err(Errno::PERM | Errno::NOSYS | Errno::OPNOTSUPP | Errno::INVAL) if usable => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn what_exists_is_left_alone_and_no_link_is_followed() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        make_directories(&at("a/b/c")).unwrap();
        make_directories(&at("a/b/c")).unwrap();
        assert_eq!([mode(&at("a")), mode(&at("a/b/c"))], [0o700; 2]);
        drop(create(&at("file")).unwrap());
        assert_eq!(mode(&at("file")), 0o600);
        assert_eq!(create(&at("file")).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(make_directories(&at("file")).unwrap_err().kind(), io::ErrorKind::NotADirectory);
        assert_eq!(make_directories(&at("file/x")).unwrap_err().kind(), io::ErrorKind::NotADirectory);
        std::fs::set_permissions(at("file"), std::fs::Permissions::from_mode(0o640)).unwrap();
        drop(open(&at("file")).unwrap());
        assert_eq!(mode(&at("file")), 0o640);
        symlink(at("nowhere"), at("link")).unwrap();
        assert!(open(&at("link")).is_err() && create(&at("link")).is_err() && make_directories(&at("link")).is_err());
        assert!(!at("nowhere").exists());
        symlink(at("a"), at("to-a")).unwrap();
        make_directories(&at("to-a/d")).unwrap();
        assert!(at("a/d").is_dir());
    }

    #[test]
    fn a_directory_keeps_the_group_bit_of_its_parent() {
        let place = tempfile::tempdir().unwrap();
        std::fs::set_permissions(place.path(), std::fs::Permissions::from_mode(0o2770)).unwrap();
        make_directories(&place.path().join("a/b")).unwrap();
        assert_eq!(mode(&place.path().join("a/b")) & 0o777, 0o700);
        assert_eq!(mode(&place.path().join("a/b")) & 0o2000, mode(place.path()) & 0o2000);
    }

    #[test]
    fn what_root_makes_in_anothers_directory_is_his() {
        let place = tempfile::tempdir().unwrap();
        let parent = File::open(place.path()).unwrap();
        if !geteuid().is_root() {
            println!("SKIPPED base::private::tests::what_root_makes_in_anothers_directory_is_his: needs root");
            assert_eq!(Owner::of(&parent), None);
            return;
        }
        assert_eq!(Owner::of(&parent), None);
        std::os::unix::fs::chown(place.path(), Some(65_534), Some(4_321)).unwrap();
        let owner = Owner::of(&parent);
        assert!(owner.is_some());
        let parent = parent.as_fd();
        make_directory_at(parent, "directory", owner).unwrap();
        assert_eq!(make_directory_at(parent, "directory", owner), Err(Errno::EXIST));
        drop(create_at(parent, "file", owner).unwrap());
        assert_eq!(create_at(parent, "file", owner).unwrap_err(), Errno::EXIST);
        drop(open_at(parent, "lock", owner).unwrap());
        drop(open_at(parent, "lock", owner).unwrap());
        for (name, mode) in [("directory", 0o700), ("file", 0o600), ("lock", 0o600)] {
            let found = std::fs::symlink_metadata(place.path().join(name)).unwrap();
            assert_eq!((found.uid(), found.gid(), found.mode() & 0o777), (65_534, 4_321, mode), "{name}");
        }
        // Root's own stays root's.
        std::fs::write(place.path().join("before"), "").unwrap();
        drop(open_at(parent, "before", owner).unwrap());
        assert_eq!(std::fs::metadata(place.path().join("before")).unwrap().uid(), 0);
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 4, "no temporary name stays");
    }

    #[test]
    fn a_directory_that_was_exchanged_for_a_full_one_is_not_given_away() {
        let place = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(place.path().join("roots/own")).unwrap();
        let parent = File::open(place.path()).unwrap();
        let owner = Owner { uid: Uid::from_raw(65_534), gid: Gid::from_raw(65_534) };
        assert_eq!(give_directory(parent.as_fd(), "roots", owner), Err(Errno::NOTEMPTY));
        assert_eq!(std::fs::metadata(place.path().join("roots")).unwrap().uid(), geteuid().as_raw());
    }
}
