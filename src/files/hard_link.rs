//! Further names of an inode that this restore made.

use std::os::fd::AsFd;

use rustix::fs::{AtFlags, linkat};

use super::protection::Lifted;
use super::target::{Existing, Made, TargetDirectory, TargetError, check_name};

type Result<T> = std::result::Result<T, TargetError>;

impl TargetDirectory {
    /// Makes another name for what this restore made under `from_name` in `from`.
    ///
    /// # Errors
    /// [`TargetError::Replaced`] when something else stands there now; [`TargetError::Conflict`].
    pub fn hard_link(&self, from: &Self, from_name: &[u8], made: Made, name: &[u8], existing: Existing) -> Result<()> {
        check_name(from_name)?;
        // Renaming one name of an inode over another one does nothing, so that case is finished here.
        if self.stat(name)?.is_some_and(|stat| Made::of(&stat) == made) {
            return Ok(());
        }
        match self.link_once(from, from_name, made, name, existing) {
            Err(TargetError::Io { source, .. }) if source.kind() == std::io::ErrorKind::PermissionDenied => {
                // An immutable or append-only inode takes no further name while it is that.
                let _lifted = Lifted::from_file(from.as_directory(), from_name);
                self.link_once(from, from_name, made, name, existing)
            }
            other => other,
        }
    }

    fn link_once(&self, from: &Self, from_name: &[u8], made: Made, name: &[u8], existing: Existing) -> Result<()> {
        let (place, ()) =
            self.make(name, existing, |at| linkat(from.as_fd(), from_name, self.as_fd(), at, AtFlags::empty()))?;
        let linked = self.stat(place.current());
        if matches!(&linked, Ok(Some(stat)) if Made::of(stat) == made) {
            return place.settle();
        }
        place.discard();
        linked?;
        Err(TargetError::Replaced(from_name.to_vec()))
    }
}
