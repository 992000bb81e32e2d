//! A little room that is kept on the repository's disk, so that snapshots can be forgotten and space be freed when the disk is
//! full: even a head that says that something goes takes some bytes.
//!
//! It is the file `lock/ballast`, of this machine only and of no meaning: it may be deleted at any time. It is let go when a head does
//! not fit on the disk any more, and made again when there is room.

use std::os::fd::AsFd;

use rustix::fs::{AtFlags, FallocateFlags};
use rustix::io::Errno;

use super::lock::Root;
use crate::base::private::{self, Owner};

/// Its length: a head of 1 MiB, and the little that goes with it.
const BYTES: u64 = 2 << 20;
/// It is made only when this much is free, in bytes: the last room on a disk is for the user.
const FREE_BYTES_MIN: u64 = 16 * BYTES;

const NAME: &str = "ballast";

/// Lets it go. True when that made room.
pub(super) fn release(root: &Root) -> bool {
    root.folder().is_ok_and(|folder| rustix::fs::unlinkat(&folder, NAME, AtFlags::empty()).is_ok())
}

/// Makes it when it is not there and there is room. Nothing depends on whether that works.
pub(super) fn keep(root: &Root) {
    let _ = try_keep(root);
}

fn try_keep(root: &Root) -> Result<(), Errno> {
    let folder = root.folder()?;
    let disk = rustix::fs::fstatvfs(&folder)?;
    if disk.f_bavail.saturating_mul(disk.f_frsize) < FREE_BYTES_MIN {
        return Ok(());
    }
    // The folder of the locks is whose the repository is.
    let file = match private::create_at(folder.as_fd(), NAME, Owner::of(&folder)) {
        Err(Errno::EXIST) => return Ok(()),
        other => other?,
    };
    let room = rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, BYTES);
    if room.is_err() {
        rustix::fs::unlinkat(&folder, NAME, AtFlags::empty())?;
    }
    room
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn it_takes_room_and_gives_it_back() {
        let directory = tempfile::tempdir().unwrap();
        let root = &Root::of(directory.path());
        keep(root);
        assert!(!release(root), "without the folder of the locks there is none");
        std::fs::create_dir(root.path()).unwrap();
        keep(root);
        keep(root);
        let path = root.path().join(NAME);
        // A file system that cannot set room aside has none.
        if let Ok(metadata) = std::fs::metadata(&path) {
            assert!(metadata.blocks() * 512 >= BYTES);
            assert!(release(root));
        }
        assert!(!release(root) && !path.exists());
    }
}
