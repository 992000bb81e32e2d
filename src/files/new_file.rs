//! A regular file on its way: made exclusively, written anywhere in it by many threads, closed and opened again as its
//! pieces come, and given its metadata and name at the end.
//!
//! Until then it belongs to this process's user and has mode 0600, so that nobody else can open it. One that is opened again must be
//! that inode still, and still be so; the number of an inode alone is given to another as soon as it is free.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use rustix::fs::{AtFlags, Mode, OFlags, fchmod, ioctl_getflags, openat, unlinkat};

use super::apply::{Applier, ApplyProblem, Subject, set_flags};
use super::made::Made;
use super::metadata::NO_COPY_ON_WRITE;
use super::stat::{Kind, Stat};
use super::target::{Existing, TargetDirectory, TargetError, check_name};
use crate::codec::tree::Metadata;

type Result<T> = std::result::Result<T, TargetError>;

/// Mode of a file on its way.
const FILE_MODE: u32 = 0o600;
const FLAGS: OFlags = OFlags::WRONLY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC).union(OFlags::NONBLOCK);

/// A file that is not open at the moment. Holds its directory; dropping it leaves the unfinished file.
#[derive(Debug, Clone)]
pub struct Pending {
    directory: Arc<TargetDirectory>,
    name: Vec<u8>,
    temporary: Option<Vec<u8>>,
    made: Made,
    /// Whose it is on its way.
    uid: u32,
}

/// A [`Pending`] file without its directory: costs no descriptor at all.
#[derive(Debug, Clone)]
pub struct Detached {
    name: Vec<u8>,
    temporary: Option<Vec<u8>>,
    made: Made,
    uid: u32,
}

impl Detached {
    /// The same in its directory, which may have been opened again.
    #[must_use]
    pub fn attach(self, directory: Arc<TargetDirectory>) -> Pending {
        Pending { directory, name: self.name, temporary: self.temporary, made: self.made, uid: self.uid }
    }
}

/// An open file on its way. Dropping it without [`NewFile::finish`] or [`NewFile::suspend`] removes it.
#[derive(Debug)]
pub struct NewFile {
    file: File,
    /// What it was when it was opened: owner, group and mode are that until it is finished.
    stat: Stat,
    pending: Option<Pending>,
}

impl Pending {
    fn current(&self) -> &[u8] {
        self.temporary.as_ref().unwrap_or(&self.name)
    }

    /// Opens it again.
    ///
    /// # Errors
    /// [`TargetError::Replaced`] when the name leads to anything but the file that this restore made.
    pub fn reopen(self) -> Result<NewFile> {
        let fd = openat(self.directory.as_fd(), self.current(), FLAGS, Mode::empty());
        let fd = fd.map_err(|error| TargetError::io("open", &self.name, error))?;
        let stat = Stat::of(&fd).map_err(|error| TargetError::io("stat", &self.name, error))?;
        if !self.made.is(&stat) || stat.uid != self.uid || stat.links > 1 {
            return Err(TargetError::Replaced(self.name));
        }
        Ok(NewFile { file: File::from(fd), stat, pending: Some(self) })
    }

    /// Removes the unfinished file. A temporary name is nobody else's.
    pub fn discard(self) {
        let is_ours = self.temporary.is_some()
            || matches!(self.directory.stat(self.current()), Ok(Some(stat)) if self.made.is(&stat) && stat.uid == self.uid);
        if is_ours {
            let _ = unlinkat(self.directory.as_fd(), self.current(), AtFlags::empty());
        }
    }

    /// Lets go of the directory too.
    #[must_use]
    pub fn detach(self) -> Detached {
        Detached { name: self.name, temporary: self.temporary, made: self.made, uid: self.uid }
    }

    /// The inode that was made.
    #[must_use]
    pub const fn made(&self) -> Made {
        self.made
    }
}

impl NewFile {
    /// Makes an empty file of mode 0600.
    ///
    /// # Errors
    /// [`TargetError::Conflict`] when something is there and `existing` refuses it, or when it is a directory.
    pub fn create(directory: &Arc<TargetDirectory>, name: &[u8], existing: Existing) -> Result<Self> {
        check_name(name)?;
        let flags = FLAGS | OFlags::CREATE | OFlags::EXCL;
        let (naming, fd) = directory
            .make(name, existing, |at| openat(directory.as_fd(), at, flags, Mode::from_raw_mode(FILE_MODE)))?;
        let temporary = naming.into_temporary();
        let stat = Stat::of(&fd).map_err(|error| TargetError::io("stat", name, error))?;
        // The umask may have taken bits away, and then it could not be opened again.
        if stat.mode & FILE_MODE != FILE_MODE {
            let _ = fchmod(&fd, Mode::from_raw_mode(FILE_MODE));
        }
        let made = Made::of(&stat, directory.system());
        let pending = Pending { directory: directory.clone(), name: name.to_vec(), temporary, made, uid: stat.uid };
        Ok(Self { file: File::from(fd), stat, pending: Some(pending) })
    }

    fn error(&self, operation: &'static str, error: io::Error) -> TargetError {
        TargetError::io(operation, self.pending.as_ref().map_or(b"", |pending| pending.name.as_slice()), error)
    }

    /// Before the first write: flags that an inode takes only while it is empty. Failure shows in [`NewFile::finish`].
    pub fn prepare(&self, metadata: &Metadata) {
        if metadata.flags & NO_COPY_ON_WRITE != 0
            && let Ok(now) = ioctl_getflags(&self.file)
        {
            let _ = set_flags(&self.file, now.bits() | NO_COPY_ON_WRITE);
        }
    }

    /// Sets the length; what was not written is a hole.
    ///
    /// # Errors
    /// What the system says, with the name.
    pub fn set_length(&self, length: u64) -> Result<()> {
        self.file.set_len(length).map_err(|error| self.error("set length", error))
    }

    /// Writes all of `bytes` at `offset`.
    ///
    /// # Errors
    /// What the system says, with the name; see [`TargetError::is_full`].
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.file.write_all_at(bytes, offset).map_err(|error| self.error("write", error))
    }

    /// Closes it for now.
    #[must_use]
    pub fn suspend(mut self) -> Option<Pending> {
        self.pending.take()
    }

    /// Sets the metadata and gives it its name.
    ///
    /// # Errors
    /// When it cannot take the place of what is there, or somebody has taken its name away; the new file is removed then.
    pub fn finish(mut self, metadata: &Metadata, applier: &Applier) -> Result<(Made, Vec<ApplyProblem>)> {
        let Some(pending) = &self.pending else {
            return Err(self.error("finish", io::Error::from(io::ErrorKind::InvalidInput)));
        };
        let Pending { directory, name, temporary, made, .. } = pending;
        let now = Some(&self.stat);
        let subject = Subject { fd: self.file.as_fd(), path_only: false, kind: Kind::File, directory, now };
        let mut applied = applier.apply(&subject, metadata);
        let replaced = || TargetError::Replaced(name.clone());
        if applied.stat.is_some_and(|stat| stat.links == 0) && self.stat.links > 0 {
            return Err(replaced());
        }
        if let Some(temporary) = temporary {
            directory.rename_over(temporary, name)?;
            // The name may have been given to something else just before.
            if !directory.stat(name)?.is_some_and(|stat| made.is(&stat)) {
                return Err(replaced());
            }
        }
        // Immutable would have kept the rename from happening.
        applied.problems.extend(applier.flags(&subject, metadata));
        let made = *made;
        self.pending = None;
        Ok((made, applied.problems))
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if let Some(pending) = self.pending.take() {
            pending.discard();
        }
    }
}
