//! What a file system keeps of what a restore makes there: owners, and the numbers of inodes.
//!
//! A restore recognises what it made by owner and inode number. Some file systems show every file as somebody else's (bindfs with
//! `--force-user`, ntfs-3g with `uid=`, NFS with `root_squash`), and some give an inode another number when it has left the
//! cache (exFAT, vfat, most of FUSE). Neither is an attack, so it is found out first:
//!
//! - Those of which the kernel's sources say that they keep both are known by `statfs`, and nothing is tried there.
//! - Anywhere else the numbers count only while a descriptor is held, and owners are tried once for each file system: with a
//!   directory of mode 0700 under a random name and a file in it, which are removed at once. A dry run does not try.
//!
//! What is known is weaker checks for the second kind ([`super::made`]), and nothing else: a file system that keeps owners and
//! numbers is held to both.

use crate::base::lock::lock;
use std::collections::HashMap;
use std::fs;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, OnceLock};

use rustix::fs::{AtFlags, Gid, Mode, OFlags, Uid, fchown, fstatfs, linkat, major, minor, openat, unlinkat};
use rustix::io::Errno;

use super::directory::Directory;
use super::rights::Rights;
use super::stat::Stat;
use super::target::temporary_name;
use crate::base::escape::escape;
use crate::base::private;

/// File systems that keep owners and numbers, by their magic number (statfs(2)).
const KEEPING: [(u64, &str); 11] = [
    (0xef53, "ext4"),
    (0x5846_5342, "xfs"),
    (0x9123_683e, "btrfs"),
    (0x0102_1994, "tmpfs"),
    (0x8584_58f6, "ramfs"),
    (0xf2f5_2010, "f2fs"),
    (0x2fc1_2fc1, "zfs"),
    (0xca45_1a4e, "bcachefs"),
    (0x3153_464a, "jfs"),
    (0x3434, "nilfs2"),
    (0x2405_1905, "ubifs"),
];
/// How often the directory of a trial is emptied.
const REMOVALS_MAX: usize = 16;
/// Keeps the numbers; whose a file is, the server decides.
const NFS: u64 = 0x6969;
/// Keeps the owners; numbers of directories depend on how its layers lie.
const OVERLAY: u64 = 0x794c_7630;
const NAMES: [(u64, &str); 9] = [
    (NFS, "nfs"),
    (OVERLAY, "overlay"),
    (0x6573_5546, "fuse"),
    (0x4d44, "vfat"),
    (0x2011_bab0, "exfat"),
    (0x7366_746e, "ntfs3"),
    (0xff53_4d42, "cifs"),
    (0xfe53_4d42, "smb2"),
    (0x0102_1997, "9p"),
];

/// Whose a file is that this process makes, and whether it can be given to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Owning {
    /// Owner of what this process makes; `None` when it is not known.
    pub creator: Option<u32>,
    /// An inode keeps the owner that it is given.
    pub kept: bool,
    /// Bits of the mode that every file has there, whatever was asked for.
    pub mode: u32,
    /// A file can have further names.
    pub links: bool,
}

impl Owning {
    /// What is not known: nothing is concluded from it.
    const UNKNOWN: Self = Self { creator: None, kept: true, mode: 0, links: true };
}

/// One file system. See the module.
#[derive(Debug)]
pub struct FileSystem {
    device: u64,
    magic: u64,
    name: OnceLock<String>,
    owning: OnceLock<Owning>,
}

impl FileSystem {
    /// An inode keeps its number for as long as it is there.
    #[must_use]
    pub fn keeps_numbers(&self) -> bool {
        self.magic == NFS || self.is_known()
    }

    /// A refused lease says that somebody has the file open for writing. NFS refuses every one that its server did not delegate.
    pub(super) const fn knows_writers(&self) -> bool {
        self.magic != NFS
    }

    fn is_known(&self) -> bool {
        KEEPING.iter().any(|(magic, _)| *magic == self.magic)
    }

    /// Its name, as `mount` shows it; for one of FUSE that has none, what is mounted there too.
    #[must_use]
    pub fn name(&self) -> &str {
        self.name.get_or_init(|| self.find_name())
    }

    fn find_name(&self) -> String {
        let device = format!("{}:{}", major(self.device), minor(self.device));
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let mounted = mounts.lines().find_map(|line| type_of(line, &device));
        let known = || KEEPING.iter().chain(&NAMES).find(|(magic, _)| *magic == self.magic).map(|(_, name)| *name);
        mounted.or_else(|| known().map(str::to_owned)).unwrap_or_else(|| "this file system".to_owned())
    }
}

/// Type of the file system that a line of `/proc/self/mountinfo` is about, when it is this device.
fn type_of(line: &str, device: &str) -> Option<String> {
    let (front, back) = line.split_once(" - ")?;
    if front.split(' ').nth(2)? != device {
        return None;
    }
    let mut words = back.split(' ');
    let name = escape(words.next()?.as_bytes());
    match words.next() {
        Some(source) if matches!(name.as_str(), "fuse" | "fuseblk") => {
            Some(format!("{name} ({})", escape(source.as_bytes())))
        }
        _ => Some(name),
    }
}

/// All file systems that a restore meets, by device.
#[derive(Debug)]
pub struct FileSystems {
    rights: Rights,
    tries: bool,
    known: Mutex<HashMap<u64, Arc<FileSystem>>>,
}

impl FileSystems {
    /// None yet. Without `tries` nothing is made to find out about owners: for a dry run.
    #[must_use]
    pub fn new(tries: bool) -> Arc<Self> {
        Arc::new(Self { rights: Rights::of_process(), tries, known: Mutex::default() })
    }

    /// The file system of an open directory.
    pub(super) fn of(&self, directory: BorrowedFd<'_>, stat: &Stat) -> Arc<FileSystem> {
        let mut known = lock(&self.known);
        let system = known.entry(stat.device).or_insert_with(|| {
            #[allow(clippy::cast_sign_loss, clippy::unnecessary_cast)]
            let magic = fstatfs(directory).map_or(0, |answer| answer.f_type as u64 & 0xffff_ffff);
            Arc::new(FileSystem { device: stat.device, magic, name: OnceLock::new(), owning: OnceLock::new() })
        });
        system.clone()
    }

    /// Whose files are there, tried in `directory` when it has to be.
    pub(super) fn owning(&self, system: &FileSystem, directory: BorrowedFd<'_>) -> Owning {
        if system.is_known() || system.magic == OVERLAY {
            return Owning { creator: Some(self.rights.uid()), ..Owning::UNKNOWN };
        }
        if !self.tries {
            return Owning::UNKNOWN;
        }
        *system.owning.get_or_init(|| self.try_owning(directory).unwrap_or(Owning::UNKNOWN))
    }

    fn try_owning(&self, directory: BorrowedFd<'_>) -> Option<Owning> {
        let name = temporary_name().ok()?;
        private::make_directory_at(directory, name.as_slice(), None).ok()?;
        let found = self.try_in(directory, &name);
        // FUSE keeps a file that is closed and removed under a hidden name until its server has heard of the end, and the directory is
        // not empty until then. It is ours alone, so that whatever is in it may go.
        for _ in 0..REMOVALS_MAX {
            if unlinkat(directory, &name, AtFlags::REMOVEDIR) != Err(Errno::NOTEMPTY) {
                break;
            }
            let Ok(inner) = Directory::open_beneath(directory, &name) else { break };
            for hidden in inner.names().unwrap_or_default() {
                let _ = unlinkat(&inner, &hidden, AtFlags::empty());
            }
        }
        found
    }

    /// The directory is ours alone, so that nobody else's file is given away.
    fn try_in(&self, directory: BorrowedFd<'_>, name: &[u8]) -> Option<Owning> {
        const PROBE: &[u8] = b"probe";
        const FURTHER: &[u8] = b"further";
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let inner = openat(directory, name, flags, Mode::empty()).ok()?;
        let file = private::create_at(inner.as_fd(), PROBE, None).ok()?;
        let found = Stat::of(&file).ok().map(|made| {
            let kept = match self.rights.another(made.uid, made.gid) {
                Some((uid, gid)) => {
                    fchown(&file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))).is_ok()
                        && Stat::of(file.as_fd()).is_ok_and(|now| (now.uid, now.gid) == (uid, gid))
                }
                None => made.uid == self.rights.uid(),
            };
            let links = linkat(&inner, PROBE, &inner, FURTHER, AtFlags::empty()).is_ok();
            if links {
                let _ = unlinkat(&inner, FURTHER, AtFlags::empty());
            }
            Owning { creator: Some(made.uid), kept, mode: made.mode & 0o077, links }
        });
        drop(file);
        let _ = unlinkat(&inner, PROBE, AtFlags::empty());
        found
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_mount_is_found_by_its_device() {
        let line = "36 35 98:0 /a /mnt rw,noatime shared:1 master:2 - fuse.bindfs /src rw,user_id=0";
        assert_eq!(type_of(line, "98:0").as_deref(), Some("fuse.bindfs"));
        assert_eq!(type_of(&line.replace(".bindfs", ""), "98:0").as_deref(), Some("fuse (/src)"));
        assert_eq!(type_of(line, "98:1"), None);
        assert_eq!(type_of("no mount", "98:0"), None);
    }

    #[test]
    fn what_is_tried_is_removed_and_says_whose_files_are() {
        let place = tempfile::tempdir().unwrap();
        let directory = fs::File::open(place.path()).unwrap();
        let systems = FileSystems::new(true);
        let found = systems.try_owning(directory.as_fd()).unwrap();
        assert_eq!(found, Owning { creator: Some(systems.rights.uid()), kept: true, mode: 0, links: true });
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
        let system = systems.of(directory.as_fd(), &Stat::of(&directory).unwrap());
        assert_eq!(systems.owning(&system, directory.as_fd()).creator, Some(systems.rights.uid()));
        assert_ne!(system.name(), "this file system");
    }
}
