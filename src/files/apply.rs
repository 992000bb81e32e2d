//! Setting what a snapshot says about an inode: owner, extended attributes, mode, times, flags.
//!
//! The order guards the user:
//! 1. Owner and group. The kernel drops set-id bits and capabilities when they change.
//! 2. Extended attributes that the snapshot does not have go (a default ACL of the parent directory, mostly), then those
//!    that it has come: before the mode, because a file of mode 0444 takes no `user.*` attribute from its owner.
//! 3. Mode with set-id bits. They are left out when owner or group could not be set: a set-id program must not belong to
//!    whoever restores it. 4. `security.capability`. 5. Times. 6. Flags; immutable last of all, after any rename.
//!
//! An ordinary user cannot do all of it. What the system refuses for lack of privilege is a [`Severity::NotPermitted`].

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{
    AtFlags, Gid, IFlags, Mode, Timespec, Timestamps, UTIME_OMIT, Uid, chmod, chownat, fchmod, futimens,
    ioctl_getflags, ioctl_setflags, utimensat,
};
use rustix::io::Errno;
use rustix::process::geteuid;

use super::metadata::{APPEND, FLAGS_MASK, IMMUTABLE};
use super::owner::Owners;
use super::stat::{Kind, Stat};
use super::xattr::{self, Place, proc_path};
use crate::base::escape::Escaped;
use crate::base::time::Time;
use crate::codec::tree::Metadata;

const CAPABILITY: &[u8] = b"security.capability";

/// How bad it is that something could not be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// Only a more privileged user can do it; expected when an ordinary user restores other people's files.
    NotPermitted,
    /// It should have worked.
    Failed,
}

/// Something about an inode that could not be set. Everything else was.
#[derive(Debug)]
pub struct ApplyProblem {
    /// What: `owner`, `mode`, `extended attribute user.x`, `times`, `inode flags`.
    pub what: String,
    /// How bad.
    pub severity: Severity,
    /// What the system says.
    pub error: io::Error,
}

/// Sets metadata, knowing who we are and how owners are named here. Can be shared between threads.
#[derive(Debug)]
pub struct Applier {
    owners: Owners,
    numeric_owner: bool,
    privileged: bool,
}

/// An inode that metadata is applied to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subject<'a> {
    pub fd: BorrowedFd<'a>,
    /// The descriptor only names the inode (`O_PATH`).
    pub path_only: bool,
    pub kind: Kind,
}

impl Applier {
    /// `numeric_owner` takes the numbers of a snapshot and ignores its names.
    #[must_use]
    pub fn new(numeric_owner: bool) -> Self {
        Self { owners: Owners::new(), numeric_owner, privileged: geteuid().is_root() }
    }

    /// Whether this process may give files away, make devices, and so on.
    #[must_use]
    pub const fn is_privileged(&self) -> bool {
        self.privileged
    }

    /// Owner and group that an entry gets on this machine: by name where the name is known here, else by number.
    #[must_use]
    pub fn owner_of(&self, metadata: &Metadata) -> (u32, u32) {
        let known = |name: &[u8], number, ask: &dyn Fn(&[u8]) -> Option<u32>| {
            if self.numeric_owner || name.is_empty() { number } else { ask(name).unwrap_or(number) }
        };
        let uid = known(&metadata.user, metadata.uid, &|name| self.owners.uid(name));
        (uid, known(&metadata.group, metadata.gid, &|name| self.owners.gid(name)))
    }

    fn severity(&self, error: &io::Error) -> Severity {
        if !self.privileged && error.kind() == io::ErrorKind::PermissionDenied {
            Severity::NotPermitted
        } else {
            Severity::Failed
        }
    }

    fn note(&self, problems: &mut Vec<ApplyProblem>, what: impl Into<String>, error: impl Into<io::Error>) {
        let error = error.into();
        problems.push(ApplyProblem { what: what.into(), severity: self.severity(&error), error });
    }

    /// Steps 1 to 5 of the module; [`Applier::flags`] is the sixth.
    pub(super) fn apply(&self, subject: Subject<'_>, metadata: &Metadata) -> Vec<ApplyProblem> {
        let mut problems = Vec::new();
        let mode = self.owner(subject, metadata, &mut problems);
        self.xattrs(subject, metadata, &mut problems);
        if let Some(mode) = mode
            && subject.kind != Kind::Symlink
            && let Err(error) = set_mode(subject, mode)
        {
            self.note(&mut problems, "mode", error);
        }
        if let Some(capability) = metadata.xattrs.iter().find(|xattr| xattr.name == CAPABILITY) {
            self.set_xattr(&Place::Open(subject.fd), &capability.name, &capability.value, &mut problems);
        }
        if let Err(error) = set_mtime(subject, metadata.mtime) {
            self.note(&mut problems, "times", error);
        }
        problems
    }

    /// Sets owner and group; gives the mode that is safe to set then.
    fn owner(&self, subject: Subject<'_>, metadata: &Metadata, problems: &mut Vec<ApplyProblem>) -> Option<u32> {
        let now = match Stat::of(subject.fd) {
            Ok(now) => now,
            Err(error) => {
                self.note(problems, "owner and mode", error);
                return None;
            }
        };
        let (uid, gid) = self.owner_of(metadata);
        let mut mode = metadata.mode & 0o7777;
        let change = |uid: Option<u32>, gid: Option<u32>| {
            chownat(subject.fd, "", uid.map(Uid::from_raw), gid.map(Gid::from_raw), AtFlags::EMPTY_PATH)
        };
        let mut right = (now.uid, now.gid) == (uid, gid);
        if !right {
            // u32::MAX means "leave it" to the kernel.
            let result =
                if uid == u32::MAX || gid == u32::MAX { Err(Errno::INVAL) } else { change(Some(uid), Some(gid)) };
            if let Err(error) = result {
                // The group alone, where the user is a member.
                let group_right = gid == now.gid || (gid != u32::MAX && change(None, Some(gid)).is_ok());
                right = uid == now.uid && group_right;
                if !right {
                    self.note(problems, "owner", error);
                }
            } else {
                right = true;
            }
        }
        if !right && mode & 0o6000 != 0 && subject.kind != Kind::Symlink {
            mode &= !0o6000;
            self.note(problems, "set-id bits (the owner could not be set)", Errno::PERM);
        }
        Some(mode)
    }

    fn xattrs(&self, subject: Subject<'_>, metadata: &Metadata, problems: &mut Vec<ApplyProblem>) {
        let place = Place::Open(subject.fd);
        let present = match xattr::names(&place) {
            Ok(present) => present,
            Err(error) => {
                if !metadata.xattrs.is_empty() {
                    self.note(problems, "extended attributes", error);
                }
                return;
            }
        };
        for name in present {
            let wanted = metadata.xattrs.binary_search_by(|xattr| xattr.name.cmp(&name)).is_ok();
            // Labels of the system's own making stay where the snapshot has none.
            let ours = name.starts_with(b"user.")
                || name.starts_with(b"system.posix_acl_")
                || (self.privileged && (name.starts_with(b"trusted.") || name == CAPABILITY));
            if !wanted
                && ours
                && let Err(error) = xattr::remove(&place, &name)
                && error.raw_os_error() != Some(Errno::NODATA.raw_os_error())
            {
                self.note(problems, format!("extended attribute {} (to be removed)", Escaped(&name)), error);
            }
        }
        for xattr in metadata.xattrs.iter().filter(|xattr| xattr.name != CAPABILITY) {
            self.set_xattr(&place, &xattr.name, &xattr.value, problems);
        }
    }

    fn set_xattr(&self, place: &Place<'_>, name: &[u8], value: &[u8], problems: &mut Vec<ApplyProblem>) {
        let what = || format!("extended attribute {}", Escaped(name));
        if name.is_empty() || name.contains(&0) {
            return self.note(problems, what(), Errno::INVAL);
        }
        if !self.privileged && (name.starts_with(b"security.") || name.starts_with(b"trusted.")) {
            return self.note(problems, what(), Errno::PERM);
        }
        // An owner cannot write the attributes of his file of mode 0444, but a restore over an earlier one finds them there.
        if let Err(error) = xattr::set(place, name, value)
            && !xattr::value(place, name).is_ok_and(|there| there.as_deref() == Some(value))
        {
            self.note(problems, what(), error);
        }
    }

    /// Inode flags, immutable and append-only last.
    pub(super) fn flags(&self, subject: Subject<'_>, metadata: &Metadata) -> Vec<ApplyProblem> {
        let mut problems = Vec::new();
        let wanted = metadata.flags & FLAGS_MASK;
        if !matches!(subject.kind, Kind::File | Kind::Directory) {
            return problems;
        }
        let now = match ioctl_getflags(subject.fd) {
            Ok(now) => now.bits(),
            Err(error) => {
                if wanted != 0 {
                    self.note(&mut problems, "inode flags", error);
                }
                return problems;
            }
        };
        let goal = now & !FLAGS_MASK | wanted;
        if now == goal || set_flags(subject.fd, goal).is_ok() {
            return problems;
        }
        // The file system may know some of them only: one at a time, so that the others are set.
        let mut have = now;
        let last = IMMUTABLE | APPEND;
        for bits in [FLAGS_MASK & !last, last] {
            for shift in 0..u32::BITS {
                let bit = (1 << shift) & bits;
                if (have ^ goal) & bit == 0 {
                    continue;
                }
                match set_flags(subject.fd, have ^ bit) {
                    Ok(()) => have ^= bit,
                    Err(error) => self.note(&mut problems, format!("inode flag {bit:#x}"), error),
                }
            }
        }
        problems
    }
}

/// Sets all flags of an open file or directory.
pub(super) fn set_flags(fd: impl AsFd, flags: u32) -> rustix::io::Result<()> {
    ioctl_setflags(fd, IFlags::from_bits_retain(flags))
}

pub(super) fn set_mode(subject: Subject<'_>, mode: u32) -> rustix::io::Result<()> {
    let mode = Mode::from_raw_mode(mode);
    if subject.path_only { chmod(proc_path(subject.fd, None).as_slice(), mode) } else { fchmod(subject.fd, mode) }
}

fn set_mtime(subject: Subject<'_>, mtime: Time) -> rustix::io::Result<()> {
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: mtime.seconds, tv_nsec: mtime.nanoseconds.into() },
    };
    if !mtime.is_valid() {
        return Err(Errno::INVAL);
    }
    if subject.path_only {
        utimensat(subject.fd, "", &times, AtFlags::EMPTY_PATH)
    } else {
        futimens(subject.fd, &times)
    }
}
