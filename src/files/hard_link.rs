//! Further names of an inode that this restore made or kept.
//!
//! The name that leads to it is opened, and what was opened must be it; then the descriptor gets the further name. So no other
//! inode is ever linked, not for a moment, whatever happens to the first name meanwhile. Without `/proc`, which leads from a
//! descriptor to a name, the first name is linked, and what came of it is looked at.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, linkat, openat};
use rustix::io::Errno;

use super::made::Made;
use super::protection::Lifted;
use super::stat::Stat;
use super::target::{Existing, TargetDirectory, TargetError, check_name};
use super::xattr::proc_path;

type Result<T> = std::result::Result<T, TargetError>;

impl TargetDirectory {
    /// Makes another name for what this restore made under `from_name` in `from`.
    ///
    /// # Errors
    /// [`TargetError::Replaced`] when something else stands there now; [`TargetError::Conflict`].
    pub fn hard_link(&self, from: &Self, from_name: &[u8], made: Made, name: &[u8], existing: Existing) -> Result<()> {
        check_name(from_name)?;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd =
            openat(from, from_name, flags, Mode::empty()).map_err(|error| TargetError::io("open", from_name, error))?;
        let stat = Stat::of(&fd).map_err(|error| TargetError::io("stat", from_name, error))?;
        if !made.is(&stat) {
            return Err(TargetError::Replaced(from_name.to_vec()));
        }
        // Renaming one name of an inode over another one does nothing, so that case is finished here.
        if self.stat(name)?.is_some_and(|there| there.same_inode(&stat)) {
            return Ok(());
        }
        match self.link_once(from, from_name, &fd, &stat, name, existing) {
            Err(TargetError::Io { source, .. }) if source.kind() == std::io::ErrorKind::PermissionDenied => {
                // An immutable or append-only inode takes no further name while it is that.
                let _lifted = Lifted::from_file(from.as_directory(), from_name);
                self.link_once(from, from_name, &fd, &stat, name, existing)
            }
            other => other,
        }
    }

    fn link_once(
        &self,
        from: &Self,
        from_name: &[u8],
        fd: &OwnedFd,
        stat: &Stat,
        name: &[u8],
        existing: Existing,
    ) -> Result<()> {
        let path = proc_path(fd.as_fd(), None);
        let (place, by_name) = self.make(name, existing, |at| {
            match linkat(CWD, path.as_slice(), self.as_fd(), at, AtFlags::SYMLINK_FOLLOW) {
                Err(Errno::NOENT) => linkat(from.as_fd(), from_name, self.as_fd(), at, AtFlags::empty()).map(|()| true),
                other => other.map(|()| false),
            }
        })?;
        if !by_name {
            return place.settle();
        }
        let linked = self.stat(place.current());
        if matches!(&linked, Ok(Some(linked)) if linked.same_inode(stat)) {
            return place.settle();
        }
        place.discard();
        linked?;
        Err(TargetError::Replaced(from_name.to_vec()))
    }
}
