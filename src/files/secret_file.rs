//! A new file with a secret: a key file, or a page with a recovery code. It has its name when it is whole and durable, and not before.
//!
//! # Order of writes, and what a crash leaves
//!
//! | step | a crash before the next step leaves |
//! |---|---|
//! | 1. a file without a name in the directory (where there can be none: a hidden name of its own), readable by its owner only | nothing (a hidden file) |
//! | 2. the bytes, fsync | as above |
//! | 3. its name, unless something has that; fsync of the directory | the whole file |
//!
//! So whoever is interrupted can begin again with the same name, and what has the name is never a part.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use zeroize::Zeroizing;

use crate::base::private;

const DIRECTORY: OFlags = OFlags::DIRECTORY.union(OFlags::CLOEXEC);
const OWN: Mode = Mode::RUSR.union(Mode::WUSR);
/// Where a file without a name has one for the kernel.
const DESCRIPTORS: &str = "/proc/self/fd";

/// A file on its way. Dropped before its end it leaves nothing.
#[derive(Debug)]
pub struct SecretFile {
    directory: OwnedFd,
    name: OsString,
    file: File,
    /// The hidden name, where there must be one.
    temporary: Option<OsString>,
}

fn parts(path: &Path) -> io::Result<(OwnedFd, &OsStr)> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok((rustix::fs::openat(CWD, folder, DIRECTORY, Mode::empty())?, name))
}

fn is_there(directory: &OwnedFd, name: &OsStr) -> io::Result<bool> {
    match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

impl SecretFile {
    /// Begins one. Whatever has the name already is [`io::ErrorKind::AlreadyExists`].
    ///
    /// # Errors
    /// Nothing can be made there.
    pub fn begin(path: &Path) -> io::Result<Self> {
        let (directory, name) = parts(path)?;
        if is_there(&directory, name)? {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let unnamed = match Path::new(DESCRIPTORS).is_dir() {
            true => rustix::fs::openat(&directory, ".", OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC, OWN).ok(),
            false => None,
        };
        let (file, temporary) = match unnamed {
            Some(file) => (file, None),
            // Not every file system has them. The error then names what is wrong with the directory.
            None => {
                let mut temporary = OsString::from(".");
                temporary.push(name);
                temporary.push(format!(".{}.tmp", private::random_digits()?));
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
                (rustix::fs::openat(&directory, &temporary, flags, OWN)?, Some(temporary))
            }
        };
        let this = Self { directory, name: name.to_owned(), file: File::from(file), temporary };
        // Whatever the umask. Sticks are often without modes; whoever holds one holds what is on it.
        match rustix::fs::fchmod(&this.file, OWN) {
            Err(Errno::PERM | Errno::NOSYS | Errno::OPNOTSUPP | Errno::INVAL) => {}
            other => other?,
        }
        Ok(this)
    }

    /// Writes it, and gives it its name.
    ///
    /// # Errors
    /// When the name is not there afterwards, or may not last. Another file that got the name meanwhile is [`io::ErrorKind::AlreadyExists`].
    pub fn finish(mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.file.sync_all()?;
        let Self { directory, name, .. } = &self;
        match &self.temporary {
            None => {
                let unnamed = format!("{DESCRIPTORS}/{}", self.file.as_raw_fd());
                rustix::fs::linkat(CWD, unnamed, directory, name, AtFlags::SYMLINK_FOLLOW)?;
            }
            Some(temporary) => {
                match rustix::fs::renameat_with(directory, temporary, directory, name, RenameFlags::NOREPLACE) {
                    Err(Errno::INVAL | Errno::NOSYS) => {
                        match rustix::fs::linkat(directory, temporary, directory, name, AtFlags::empty()) {
                            // Its hidden name goes with `self`.
                            Ok(()) => {}
                            // Without links either (exFAT): nobody else makes a file of this name in the moment between.
                            Err(Errno::PERM | Errno::NOSYS | Errno::OPNOTSUPP) if !is_there(directory, name)? => {
                                rustix::fs::renameat(directory, temporary, directory, name)?;
                                self.temporary = None;
                            }
                            Err(error) => return Err(error.into()),
                        }
                    }
                    renamed => {
                        renamed?;
                        self.temporary = None;
                    }
                }
            }
        }
        // Where others may write too, a hidden name may have been exchanged under us.
        let (named, own) = (
            rustix::fs::statat(&self.directory, &self.name, AtFlags::SYMLINK_NOFOLLOW)?,
            rustix::fs::fstat(&self.file)?,
        );
        if (named.st_dev, named.st_ino) != (own.st_dev, own.st_ino) {
            return Err(io::Error::other("another file has taken its name meanwhile"));
        }
        rustix::fs::fsync(&self.directory)?;
        Ok(())
    }
}

impl Drop for SecretFile {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            let _ = rustix::fs::unlinkat(&self.directory, temporary, AtFlags::empty());
        }
    }
}

/// Reads a file with a secret that an earlier run may have made, and makes it as durable as a new one. None when there is nothing of the
/// name.
///
/// # Errors
/// [`io::ErrorKind::PermissionDenied`] for one that somebody else may have put there or can read: a link, another owner, rights for others,
/// several names. More than `limit` bytes; what the system says.
pub fn read_own(path: &Path, limit: usize) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    let (directory, name) = parts(path)?;
    if !is_there(&directory, name)? {
        return Ok(None);
    }
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let mut file = File::from(rustix::fs::openat(&directory, name, flags, Mode::empty())?);
    let stat = rustix::fs::fstat(&file)?;
    let is_private = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
        && stat.st_uid == rustix::process::geteuid().as_raw()
        && stat.st_mode & 0o077 == 0
        && stat.st_nlink == 1;
    if !is_private {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(limit + 1));
    (&mut file).take(limit as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > limit {
        return Err(io::ErrorKind::InvalidData.into());
    }
    rustix::fs::fsync(&file)?;
    rustix::fs::fsync(&directory)?;
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn it_has_its_name_when_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let begun = SecretFile::begin(&path).unwrap();
        assert!(!path.exists());
        drop(begun);
        assert_eq!(names(folder.path()), Vec::<String>::new());
        SecretFile::begin(&path).unwrap().finish(b"secret").unwrap();
        assert_eq!((fs::read(&path).unwrap().as_slice(), names(folder.path()).len()), (&b"secret"[..], 1));
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(read_own(&path, 6).unwrap().unwrap().as_slice(), b"secret");
    }

    #[test]
    fn nothing_is_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let begun = SecretFile::begin(&path).unwrap();
        fs::write(&path, "somebody's").unwrap();
        assert_eq!(SecretFile::begin(&path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(begun.finish(b"secret").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"somebody's");
        symlink("nowhere", folder.path().join("link")).unwrap();
        assert!(SecretFile::begin(&folder.path().join("link")).is_err());
        assert!(SecretFile::begin(Path::new("/")).is_err() && SecretFile::begin(&folder.path().join("..")).is_err());
    }

    /// Where no file without a name can be: the hidden name goes, whatever happens.
    #[test]
    fn a_hidden_name_does_not_stay() {
        let folder = tempfile::tempdir().unwrap();
        let hidden = || {
            let (directory, _) = parts(&folder.path().join("key")).unwrap();
            let file = File::options().create_new(true).write(true).open(folder.path().join(".key.tmp")).unwrap();
            SecretFile { directory, name: "key".into(), file, temporary: Some(".key.tmp".into()) }
        };
        drop(hidden());
        assert!(names(folder.path()).is_empty());
        hidden().finish(b"secret").unwrap();
        assert_eq!(names(folder.path()), ["key"]);
        assert_eq!(hidden().finish(b"other").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(
            (names(folder.path()), fs::read(folder.path().join("key")).unwrap()),
            (vec!["key".into()], b"secret".to_vec())
        );
    }

    #[test]
    fn only_what_nobody_else_can_have_put_there_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        assert!(read_own(&path, 9).unwrap().is_none());
        SecretFile::begin(&path).unwrap().finish(b"secret").unwrap();
        assert_eq!(read_own(&path, 5).unwrap_err().kind(), io::ErrorKind::InvalidData);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(read_own(&path, 9).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        symlink("key", folder.path().join("link")).unwrap();
        assert!(read_own(&folder.path().join("link"), 9).is_err());
        assert!(read_own(folder.path(), 9).is_err(), "a directory");
        rustix::fs::mknodat(CWD, folder.path().join("fifo"), FileType::Fifo, OWN, 0).unwrap();
        assert_eq!(read_own(&folder.path().join("fifo"), 9).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        fs::hard_link(&path, folder.path().join("second")).unwrap();
        assert_eq!(read_own(&path, 9).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
    }
}
