//! Removing what a restore with `--delete` does not want: recursively, never through a symbolic link, never across a
//! mount point (bind mounts included).

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::vec;

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, openat2, unlinkat};
use rustix::io::Errno;

use super::directory::Directory;
use super::protection::Lifted;
use super::stat::Kind;
use super::target::{TargetDirectory, TargetError, check_name};

type Result<T> = std::result::Result<T, TargetError>;

struct Open {
    directory: Arc<TargetDirectory>,
    name: Vec<u8>,
    names: vec::IntoIter<Vec<u8>>,
}

impl TargetDirectory {
    /// Removes a name and everything beneath it. An absent one is no error. Stops at the first failure; what was removed
    /// until then is gone.
    ///
    /// # Errors
    /// [`TargetError::Mounted`]; what the system says, with the innermost name.
    pub fn remove(&self, name: &[u8]) -> Result<()> {
        check_name(name)?;
        let Some(stat) = self.stat(name)? else { return Ok(()) };
        if stat.kind != Kind::Directory {
            return self.unlink(name, AtFlags::empty());
        }
        let mut open = vec![self.open_to_empty(name)?];
        while let Some(top) = open.last_mut() {
            let Some(child) = top.names.next() else {
                let name = open.pop().map(|done| done.name).unwrap_or_default();
                let parent = open.last().map_or(self, |above| &above.directory);
                parent.unlink(&name, AtFlags::REMOVEDIR)?;
                continue;
            };
            match top.directory.stat(&child)? {
                None => {}
                Some(stat) if stat.kind == Kind::Directory => {
                    let next = top.directory.open_to_empty(&child)?;
                    open.push(next);
                }
                Some(_) => top.directory.unlink(&child, AtFlags::empty())?,
            }
        }
        Ok(())
    }

    /// Whether something is mounted on the directory of this name, a bind mount included. What cannot be told counts as
    /// mounted.
    #[must_use]
    pub fn is_mount_point(&self, name: &[u8]) -> bool {
        self.directory_on_this_mount(name).is_err()
    }

    fn unlink(&self, name: &[u8], flags: AtFlags) -> Result<()> {
        match unlinkat(self.as_fd(), name, flags) {
            Err(Errno::PERM) => {
                let _lifted = Lifted::from_file(self.as_directory(), name);
                unlinkat(self.as_fd(), name, flags)
            }
            other => other,
        }
        .map_err(|error| match error {
            Errno::BUSY => TargetError::Mounted(name.to_vec()),
            error => TargetError::io("remove", name, error),
        })
    }

    fn open_to_empty(&self, name: &[u8]) -> Result<Open> {
        let here = self.directory_on_this_mount(name)?;
        here.unlock().map_err(|error| TargetError::io("make writable", name, error))?;
        let here = if here.as_directory().is_readable() { here } else { self.directory_on_this_mount(name)? };
        let names = here.names().map_err(|error| TargetError::io("list", name, error))?;
        Ok(Open { directory: here, name: name.to_vec(), names: names.into_iter() })
    }

    /// Opens a directory that is on the same mount; where the kernel cannot tell (before 5.6), on the same device.
    fn directory_on_this_mount(&self, name: &[u8]) -> Result<Arc<Self>> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        let probe: rustix::io::Result<OwnedFd> = openat2(self.as_fd(), name, flags, Mode::empty(), resolve);
        match probe {
            Ok(_) | Err(Errno::NOSYS) => {}
            Err(Errno::XDEV) => return Err(TargetError::Mounted(name.to_vec())),
            Err(error) => return Err(TargetError::io("open directory", name, error)),
        }
        let opened = self.directory(name)?;
        let device = |directory: &Directory| {
            directory.stat_self().map(|stat| stat.device).map_err(|error| TargetError::io("stat", name, error))
        };
        if device(opened.as_directory())? != device(self.as_directory())? {
            return Err(TargetError::Mounted(name.to_vec()));
        }
        // One probe, one open: the probe's inode must be what was opened.
        if let Ok(probe) = probe
            && let (Ok(a), Ok(b)) = (super::stat::Stat::of(&probe), opened.as_directory().stat_self())
            && !a.same_inode(&b)
        {
            return Err(TargetError::Replaced(name.to_vec()));
        }
        Ok(opened)
    }
}
