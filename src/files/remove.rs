//! Removing what a restore with `--delete` does not want: recursively, never through a symbolic link, never across a
//! mount point (bind mounts included).

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::vec;

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, openat2, unlinkat};
use rustix::io::Errno;

use super::directory::Directory;
use super::protection::Lifted;
use super::stat::{Kind, Stat};
use super::target::{TargetDirectory, TargetError, check_name};

type Result<T> = std::result::Result<T, TargetError>;

struct Open {
    directory: Arc<TargetDirectory>,
    name: Vec<u8>,
    names: vec::IntoIter<Vec<u8>>,
    /// Length of its path.
    length: usize,
}

/// Who decides about a removal, and hears of it. Paths are relative to what is removed, which itself has an empty one.
pub trait Removal {
    /// Whether an entry may go. It is asked before anything in it goes.
    fn may_go(&mut self, path: &[u8], name: &[u8], stat: &Stat) -> bool;

    /// An entry is gone.
    fn gone(&mut self, path: &[u8], is_directory: bool);
}

/// Everything goes, and nobody hears of it.
struct Everything;

impl Removal for Everything {
    fn may_go(&mut self, _: &[u8], _: &[u8], _: &Stat) -> bool {
        true
    }

    fn gone(&mut self, _: &[u8], _: bool) {}
}

impl TargetDirectory {
    /// Removes a name and everything beneath it. An absent one is no error. Stops at the first failure; what was removed
    /// until then is gone.
    ///
    /// # Errors
    /// [`TargetError::Mounted`]; what the system says, with the innermost name.
    pub fn remove(&self, name: &[u8]) -> Result<()> {
        self.remove_as(name, &mut Everything)
    }

    /// The same as far as `removal` lets it: the first entry that may not go ends it, and stays with all that it lies in.
    ///
    /// # Errors
    /// As [`TargetDirectory::remove`]; [`TargetError::NotPlanned`].
    pub fn remove_as(&self, name: &[u8], removal: &mut dyn Removal) -> Result<()> {
        check_name(name)?;
        let Some(stat) = self.stat(name)? else { return Ok(()) };
        let mut path = Vec::new();
        let ask = |path: &[u8], name: &[u8], stat: &Stat, removal: &mut dyn Removal| {
            if removal.may_go(path, name, stat) { Ok(()) } else { Err(TargetError::NotPlanned(name.to_vec())) }
        };
        ask(&path, name, &stat, removal)?;
        if stat.kind != Kind::Directory {
            self.unlink(name, AtFlags::empty())?;
            removal.gone(&path, false);
            return Ok(());
        }
        let mut open = vec![self.open_to_empty(name, 0)?];
        while let Some(top) = open.last_mut() {
            path.truncate(top.length);
            let Some(child) = top.names.next() else {
                let name = open.pop().map(|done| done.name).unwrap_or_default();
                let parent = open.last().map_or(self, |above| &above.directory);
                parent.unlink(&name, AtFlags::REMOVEDIR)?;
                removal.gone(&path, true);
                continue;
            };
            let Some(stat) = top.directory.stat(&child)? else { continue };
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(&child);
            ask(&path, &child, &stat, removal)?;
            if stat.kind == Kind::Directory {
                let next = top.directory.open_to_empty(&child, path.len())?;
                open.push(next);
            } else {
                top.directory.unlink(&child, AtFlags::empty())?;
                removal.gone(&path, false);
            }
        }
        Ok(())
    }

    /// Whether something is mounted on the directory of this name, a bind mount included. What cannot be determined counts as
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

    fn open_to_empty(&self, name: &[u8], length: usize) -> Result<Open> {
        let here = self.directory_on_this_mount(name)?;
        here.unlock().map_err(|error| TargetError::io("make writable", name, error))?;
        let here = if here.as_directory().is_readable() { here } else { self.directory_on_this_mount(name)? };
        let names = here.names().map_err(|error| TargetError::io("list", name, error))?;
        Ok(Open { directory: here, name: name.to_vec(), names: names.into_iter(), length })
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
            && let (Ok(a), Ok(b)) = (Stat::of(&probe), opened.as_directory().stat_self())
            && !a.same_inode(&b)
        {
            return Err(TargetError::Replaced(name.to_vec()));
        }
        Ok(opened)
    }
}
