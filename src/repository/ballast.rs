//! A little room that is kept on the repository's disk, so that snapshots can be forgotten and space be freed when the disk is
//! full: even a head that says that something goes takes some bytes.
//!
//! It is the file `lock/ballast`, of this machine only and of no meaning: it may be deleted at any time. When a head does not fit
//! on the disk any more, the file is made shorter by what that head needs, and the head is stored again.
//!
//! # Invariants
//!
//! - It is given in steps: somebody else may take the room that was given, and the next command still finds some.
//! - The last of it is for the commands that make room. Each [`Use`] leaves a part of the file for those behind it, so that
//!   forgetting and tagging, however often, leave what a prune needs to mark and to sweep. Only a sweep takes the last part.
//! - What a sweep has removed goes into it first.
//!
//! A crash at any moment leaves a shorter file or none. The next command that publishes makes it whole when there is room.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, FallocateFlags, OFlags};
use rustix::io::Errno;

use super::lock::Root;
use crate::base::private::{self, Owner};
use crate::base::regular;
use crate::codec::live_state::{LiveState, Mark, MarkedKind};

/// Its least length, in bytes: room for some heads of an ordinary repository.
const BYTES_MIN: u64 = 2 << 20;
/// Its greatest length, in bytes.
const BYTES_MAX: u64 = 64 << 20;
/// Between the two, so many heads fit into it.
const HEADS: u64 = 16;
/// It is made only when so many times its length is free: the last room on a disk is for the user.
const FREE_TIMES_MIN: u64 = 16;
/// The same when a sweep has just made room.
const FREE_TIMES_AFTER_SWEEP: u64 = 2;
/// The least that is given at once, in bytes.
const STEP_BYTES_MIN: u64 = 64 << 10;
/// So many times what is to be stored is given: a file system needs room for more than the bytes.
const STEP_TIMES: u64 = 2;

const NAME: &str = "ballast";

/// What the room is for. Which part of the whole length stays in the file stands beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// Whatever makes no room by itself: one half stays.
    Publish,
    /// The pin of a process that wants to mark or to sweep: one quarter stays.
    Pin,
    /// A head that marks packs, so that they can be swept: one eighth stays.
    Mark,
    /// A head that sweeps: nothing stays.
    Sweep,
}

impl Use {
    /// What a head is for that leads from one state to another.
    pub fn of(before: &LiveState, after: &LiveState) -> Self {
        let mut swept = after.swept.keys();
        // What was replaced makes room too, but for a backup, which wants more of it.
        let is_pack = |mark: &Mark| mark.kind == MarkedKind::Pack && !mark.replaced;
        let mut marked = after.marked.iter().filter(|(_, mark)| is_pack(mark));
        if swept.any(|id| !before.swept.contains_key(id)) {
            Self::Sweep
        } else if marked.any(|(id, _)| !before.marked.contains_key(id)) {
            Self::Mark
        } else {
            Self::Publish
        }
    }

    const fn left(self, length: u64) -> u64 {
        match self {
            Self::Publish => length / 2,
            Self::Pin => length / 4,
            Self::Mark => length / 8,
            Self::Sweep => 0,
        }
    }
}

/// How long it is to be where a head has so many bytes.
fn length_for(head_bytes: u64) -> u64 {
    head_bytes.saturating_mul(HEADS).clamp(BYTES_MIN, BYTES_MAX).next_multiple_of(STEP_BYTES_MIN)
}

/// Gives room for something of so many bytes, where a head has `head_bytes`. True when it has made room: then it may be tried
/// again, and when that fails, more be asked for.
pub(super) fn give(root: &Root, wanted: Use, bytes: u64, head_bytes: u64) -> bool {
    try_give(root, wanted, bytes, head_bytes).unwrap_or(false)
}

fn try_give(root: &Root, wanted: Use, bytes: u64, head_bytes: u64) -> io::Result<bool> {
    let folder = root.folder()?;
    let Some((file, length)) = open(&folder)? else { return Ok(false) };
    let step = bytes.saturating_mul(STEP_TIMES).max(STEP_BYTES_MIN);
    let left = length.saturating_sub(step).max(wanted.left(length_for(head_bytes)));
    if left >= length {
        return Ok(false);
    }
    if left == 0 {
        rustix::fs::unlinkat(&folder, NAME, AtFlags::empty())?;
    }
    rustix::fs::ftruncate(&file, left)?;
    Ok(true)
}

/// It, and its length. What has the name and is no file of its own is removed: to make it shorter would harm somebody.
fn open(folder: &OwnedFd) -> io::Result<Option<(OwnedFd, u64)>> {
    match regular::open_at(folder, NAME, OFlags::RDWR) {
        Ok((file, stat)) if stat.st_nlink == 1 => Ok(Some((file, u64::try_from(stat.st_size).unwrap_or(0)))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind() != io::ErrorKind::InvalidData => Err(error),
        _ => {
            rustix::fs::unlinkat(folder, NAME, AtFlags::empty())?;
            Ok(None)
        }
    }
}

/// Makes it as long as it should be, where a head has `head_bytes`, when there is room. Nothing depends on whether that works.
pub(super) fn keep(root: &Root, head_bytes: u64) {
    let _ = try_keep(root, head_bytes, FREE_TIMES_MIN);
}

/// The same after a sweep: what it has removed goes into the ballast first.
pub(super) fn keep_after_sweep(root: &Root, head_bytes: u64) {
    let _ = try_keep(root, head_bytes, FREE_TIMES_AFTER_SWEEP);
}

fn try_keep(root: &Root, head_bytes: u64, free_times: u64) -> io::Result<()> {
    let folder = root.folder()?;
    let wanted = length_for(head_bytes);
    let found = open(&folder)?;
    let length = found.as_ref().map_or(0, |(_, length)| *length);
    let disk = rustix::fs::fstatvfs(&folder)?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    if length >= wanted || free < wanted.saturating_mul(free_times) {
        return Ok(());
    }
    let file = match found {
        Some((file, _)) => file,
        // The folder of the locks is whose the repository is.
        None => match private::create_at(folder.as_fd(), NAME, Owner::of(&folder)) {
            Err(Errno::EXIST) => return Ok(()),
            other => other?,
        },
    };
    let room = rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, wanted);
    match room {
        Err(_) if length == 0 => rustix::fs::unlinkat(&folder, NAME, AtFlags::empty())?,
        Err(_) => rustix::fs::ftruncate(&file, length)?,
        Ok(()) => {}
    }
    Ok(room?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::MetadataExt;

    const HEAD: u64 = 5_000;

    /// A folder of locks, and how long the ballast in it is; none where the file system cannot set room aside.
    fn place() -> (tempfile::TempDir, Root, Option<u64>) {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::of(directory.path());
        std::fs::create_dir(root.path()).unwrap();
        keep(&root, HEAD);
        let length = length(&root);
        (directory, root, length)
    }

    fn length(root: &Root) -> Option<u64> {
        std::fs::metadata(root.path().join(NAME)).ok().map(|metadata| metadata.len())
    }

    #[test]
    fn it_takes_room_and_gives_it_back() {
        let directory = tempfile::tempdir().unwrap();
        let root = &Root::of(directory.path());
        keep(root, HEAD);
        assert!(!give(root, Use::Sweep, HEAD, HEAD), "without the folder of the locks there is none");
        let (_directory, root, Some(length_before)) = place() else { return };
        assert_eq!(length_before, BYTES_MIN);
        assert!(std::fs::metadata(root.path().join(NAME)).unwrap().blocks() * 512 >= BYTES_MIN);
        assert!(give(&root, Use::Publish, HEAD, HEAD));
        assert_eq!(length(&root), Some(BYTES_MIN - STEP_BYTES_MIN));
        keep(&root, HEAD);
        assert_eq!(length(&root), Some(BYTES_MIN), "what was given is made again");
    }

    /// Whatever asks, and however often: so much of the file stays.
    #[test]
    fn each_use_leaves_its_part_for_those_behind_it() {
        for (wanted, bytes, head, left) in [
            (Use::Publish, HEAD, HEAD, Some(BYTES_MIN / 2)),
            (Use::Publish, 900_000, HEAD, Some(BYTES_MIN / 2)),
            (Use::Pin, 1, HEAD, Some(BYTES_MIN / 4)),
            (Use::Mark, HEAD, HEAD, Some(BYTES_MIN / 8)),
            (Use::Sweep, HEAD, HEAD, None),
            (Use::Sweep, 1 << 30, HEAD, None),
            // The heads have grown since it was made.
            (Use::Publish, 1 << 20, 1 << 20, Some(BYTES_MIN)),
        ] {
            let (_directory, root, Some(_)) = place() else { return };
            let mut steps = 0;
            while give(&root, wanted, bytes, head) {
                steps += 1;
                assert!(steps <= BYTES_MIN / STEP_BYTES_MIN);
            }
            assert_eq!(length(&root), left, "{wanted:?} of {bytes}");
        }
    }

    #[test]
    fn what_a_head_is_for_follows_from_what_it_changes() {
        use crate::base::id::ObjectId;
        use crate::codec::live_state::{Mark, Sweep};
        let (pack, old) = (ObjectId([1; 32]), ObjectId([2; 32]));
        let before = LiveState {
            marked: [(old, Mark::new(MarkedKind::Pack, 1))].into(),
            swept: [(old, Sweep { kind: MarkedKind::Pack, since: 1 })].into(),
            ..LiveState::default()
        };
        assert_eq!(Use::of(&before, &before), Use::Publish);
        for (kind, wanted) in [(MarkedKind::Snapshot, Use::Publish), (MarkedKind::Pack, Use::Mark)] {
            let mut after = before.clone();
            after.marked.insert(pack, Mark::new(kind, 2));
            assert_eq!(Use::of(&before, &after), wanted);
            after.swept.insert(pack, Sweep { kind, since: 2 });
            assert_eq!(Use::of(&before, &after), Use::Sweep);
        }
    }

    #[test]
    fn it_grows_with_the_heads() {
        for (head, length) in [(0, BYTES_MIN), (HEAD, BYTES_MIN), (1 << 20, 16 << 20), (u64::MAX, BYTES_MAX)] {
            assert_eq!(length_for(head), length, "{head}");
        }
    }

    #[test]
    fn what_has_its_name_and_is_somebody_elses_stays_as_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let root = &Root::of(directory.path());
        std::fs::create_dir(root.path()).unwrap();
        let other = directory.path().join("other");
        std::fs::write(&other, vec![1; 1 << 20]).unwrap();
        let name = root.path().join(NAME);
        for make in [&(|| std::os::unix::fs::symlink(&other, &name).unwrap()) as &dyn Fn(), &|| {
            std::fs::hard_link(&other, &name).unwrap()
        }] {
            make();
            assert!(!give(root, Use::Sweep, HEAD, HEAD));
            assert_eq!(std::fs::metadata(&other).unwrap().len(), 1 << 20);
            assert!(!name.exists());
        }
    }
}
