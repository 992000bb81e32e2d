//! Setting what a snapshot says about an inode: owner, extended attributes, mode, times, flags.
//!
//! The order guards the user:
//! 1. Owner and group. The kernel drops set-id bits and capabilities when they change.
//! 2. Extended attributes that the snapshot does not have go (a default ACL of the parent directory, mostly), then those
//!    that it has come: before the mode, because a file of mode 0444 takes no `user.*` attribute from its owner.
//! 3. Mode with set-id bits. They are left out when owner or group could not be set: a set-id program must not belong to
//!    whoever restores it. So they are, with the capability, when the file has a second name already, which somebody else gave it.
//! 4. `security.capability`. 5. Times. 6. A look at what is there now ([`super::read_back`]): not every file system says that it
//!    keeps something else. 7. Flags; immutable last of all, after any rename.
//!
//! What is right already is not set again, so that an inode that is kept does not look changed to the next backup.
//!
//! An ordinary user cannot do all of it. Whether that is for lack of rights is known by what the process may do
//! ([`super::rights`]) and what the system answers, not by the number of its user.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{
    AtFlags, Gid, IFlags, Mode, Timespec, Timestamps, UTIME_OMIT, Uid, chmod, chownat, fchmod, futimens,
    ioctl_getflags, ioctl_setflags, utimensat,
};
use rustix::io::Errno;

use super::keep::{self, ACCESS, Found};
use super::metadata::{APPEND, FLAGS_MASK, IMMUTABLE};
use super::owner::Owners;
use super::read_back;
use super::rights::Rights;
use super::stat::{Kind, Stat};
use super::target::TargetDirectory;
use super::xattr::{self, Place, proc_path};
use crate::base::escape::Escaped;
use crate::base::time::Time;
use crate::codec::tree::Metadata;

pub(super) const CAPABILITY: &[u8] = b"security.capability";
const SET_ID: u32 = 0o6000;

/// How bad it is that something could not be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Owners, set-id bits and devices, which an ordinary user may not set: he knows that his files are his.
    Note,
    /// Something else that only a more privileged user can set.
    NotPermitted,
    /// It should have worked.
    Failed,
}

/// Something about an inode that is set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// Owner and group.
    Owner,
    /// Both, when nothing is known of the inode.
    OwnerAndMode,
    /// The mode, without set-id bits.
    Mode,
    /// The set-id bits of the mode.
    SetIdBits,
    /// Both of what gives a program more rights.
    SetIdBitsAndCapabilities,
    /// The file capabilities.
    Capabilities,
    /// The same, which were to be removed.
    CapabilitiesToRemove,
    /// The time of the last change.
    Times,
    /// All extended attributes.
    Attributes,
    /// The extended attribute of that name.
    Attribute(Vec<u8>),
    /// The same, which was to be removed.
    AttributeToRemove(Vec<u8>),
    /// All inode flags.
    Flags,
    /// One of them, by its bit.
    Flag(u32),
    /// That it is a device.
    Device,
    /// That it has further names.
    HardLinks,
}

impl What {
    fn attribute(name: &[u8]) -> Self {
        if name == CAPABILITY { Self::Capabilities } else { Self::Attribute(name.to_vec()) }
    }

    fn attribute_to_remove(name: Vec<u8>) -> Self {
        if name == CAPABILITY { Self::CapabilitiesToRemove } else { Self::AttributeToRemove(name) }
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Owner => f.write_str("owner"),
            Self::OwnerAndMode => f.write_str("owner and mode"),
            Self::Mode => f.write_str("mode"),
            Self::SetIdBits => f.write_str("set-id bits"),
            Self::SetIdBitsAndCapabilities => f.write_str("set-id bits and capabilities"),
            Self::Capabilities => f.write_str("capabilities"),
            Self::CapabilitiesToRemove => f.write_str("capabilities (to be removed)"),
            Self::Times => f.write_str("times"),
            Self::Attributes => f.write_str("extended attributes"),
            Self::Attribute(name) => write!(f, "extended attribute {}", Escaped(name)),
            Self::AttributeToRemove(name) => write!(f, "extended attribute {} (to be removed)", Escaped(name)),
            Self::Flags => f.write_str("inode flags"),
            Self::Flag(bit) => write!(f, "inode flag {bit:#x}"),
            Self::Device => f.write_str("devices"),
            Self::HardLinks => f.write_str("hard links"),
        }
    }
}

/// Something about an inode that could not be set, or is not what was set. Everything else is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApplyProblem {
    /// What.
    pub what: What,
    /// How bad.
    pub severity: Severity,
    /// Why, in words that are the same for every inode that it happens to.
    pub reason: String,
}

/// What came of setting metadata.
#[derive(Debug)]
pub struct Applied {
    /// What could not be set.
    pub problems: Vec<ApplyProblem>,
    /// The inode as it is now; `None` when the system does not say.
    pub stat: Option<Stat>,
}

/// Sets metadata, knowing who we are and how owners are named here. Can be shared between threads.
#[derive(Debug)]
pub struct Applier {
    owners: Owners,
    numeric_owner: bool,
    rights: Rights,
}

/// The owner that an inode will have when this process has done what it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expected {
    /// The user.
    pub uid: u32,
    /// The group; `None` when it cannot be set, and stays what it is.
    pub gid: Option<u32>,
}

/// An inode that metadata is applied to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subject<'a> {
    pub fd: BorrowedFd<'a>,
    /// The descriptor only names the inode (`O_PATH`).
    pub path_only: bool,
    pub kind: Kind,
    /// Where it is; a directory is in itself.
    pub directory: &'a TargetDirectory,
    /// What it is, when this restore made it and nobody else can have changed it.
    pub now: Option<&'a Stat>,
}

impl Applier {
    /// `numeric_owner` takes the numbers of a snapshot and ignores its names.
    #[must_use]
    pub fn new(numeric_owner: bool) -> Self {
        Self { owners: Owners::new(), numeric_owner, rights: Rights::of_process() }
    }

    /// What this process may do.
    #[must_use]
    pub const fn rights(&self) -> &Rights {
        &self.rights
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

    /// Owner and group that an entry will have in a directory: those of the snapshot where this process may set them and the file
    /// system keeps them, otherwise those of whatever this process makes there.
    #[must_use]
    pub fn expected(&self, metadata: &Metadata, directory: &TargetDirectory) -> Expected {
        let (uid, gid) = self.owner_of(metadata);
        let owning = directory.owning();
        if owning.kept && self.rights.may_give(uid, gid) {
            return Expected { uid, gid: Some(gid) };
        }
        let gid = (owning.kept && self.rights.is_in_group(gid)).then_some(gid);
        Expected { uid: owning.creator.unwrap_or(self.rights.uid()), gid }
    }

    /// What of an inode's metadata is not as the snapshot has it, as in [`ApplyProblem::what`]. Labels of the system's
    /// own making (`is_ours`) are not asked about where the snapshot has none.
    #[must_use]
    pub fn differences(&self, metadata: &Metadata, found: &Found) -> Vec<What> {
        let stat = &found.stat;
        let mut differs = Vec::new();
        let (uid, gid) = self.owner_of(metadata);
        let mut say = |is_wrong: bool, what: What| {
            if is_wrong {
                differs.push(what);
            }
        };
        say((stat.uid, stat.gid) != (uid, gid), What::Owner);
        if stat.kind != Kind::Symlink {
            let wrong = stat.mode ^ metadata.mode & 0o7777;
            say(wrong & !SET_ID != 0, What::Mode);
            say(wrong & SET_ID != 0, What::SetIdBits);
        }
        say(stat.mtime != metadata.mtime, What::Times);
        say(found.flags.is_some_and(|flags| flags != metadata.flags & FLAGS_MASK), What::Flags);
        match &found.xattrs {
            None => say(true, What::Attributes),
            Some(xattrs) => {
                for xattr in xattrs.iter().filter(|xattr| is_ours(&xattr.name)) {
                    let wanted = metadata.xattrs.iter().any(|wanted| wanted.name == xattr.name);
                    say(!wanted, What::attribute(&xattr.name));
                }
                for wanted in &metadata.xattrs {
                    say(!xattrs.contains(wanted), What::attribute(&wanted.name));
                }
            }
        }
        differs
    }

    /// For lack of rights, as far as the process and the answer show it.
    fn is_not_permitted(&self, error: &io::Error) -> bool {
        error.kind() == io::ErrorKind::PermissionDenied && !self.rights.gives_to_anybody()
    }

    fn note(&self, problems: &mut Vec<ApplyProblem>, what: What, error: impl Into<io::Error>) {
        let error = error.into();
        let severity = if self.is_not_permitted(&error) { Severity::NotPermitted } else { Severity::Failed };
        problems.push(ApplyProblem { what, severity, reason: read_back::reason(&error) });
    }

    /// Steps 1 to 6 of the module; [`Applier::flags`] is the seventh.
    pub(super) fn apply(&self, subject: &Subject<'_>, metadata: &Metadata) -> Applied {
        let mut problems = Vec::new();
        let asked;
        let now = match subject.now {
            Some(now) => now,
            None => match Stat::of(subject.fd) {
                Ok(now) => {
                    asked = now;
                    &asked
                }
                Err(error) => {
                    self.note(&mut problems, What::OwnerAndMode, error);
                    return Applied { problems, stat: None };
                }
            },
        };
        let owner = self.owner(subject, now, metadata, &mut problems);
        let listed = self.xattrs(subject, metadata, &mut problems);
        let mut mode = metadata.mode & 0o7777;
        let mut capability = metadata.xattrs.iter().find(|xattr| xattr.name == CAPABILITY);
        if subject.kind == Kind::Symlink {
            mode = now.mode;
        }
        if let Some(severity) = owner.refused
            && mode & SET_ID != 0
        {
            mode &= !SET_ID;
            let reason = "not set without the owner".to_owned();
            problems.push(ApplyProblem { what: What::SetIdBits, severity, reason });
        }
        if subject.kind == Kind::File
            && keep::raises(metadata)
            && !Stat::of(subject.fd).is_ok_and(|stat| stat.links <= 1)
        {
            mode &= !SET_ID;
            capability = None;
            let reason = "not set: somebody has given the file another name meanwhile".to_owned();
            problems.push(ApplyProblem { what: What::SetIdBitsAndCapabilities, severity: Severity::Failed, reason });
        }
        if subject.kind != Kind::Symlink
            && (owner.changed || listed || now.mode != mode)
            && let Err(error) = set_mode(subject, mode)
        {
            mode = now.mode;
            self.note(&mut problems, What::Mode, error);
        }
        if let Some(capability) = capability {
            self.set_xattr(&Place::Open(subject.fd), &capability.name, &capability.value, &mut problems);
        }
        let mut mtime = Some(metadata.mtime);
        if (subject.now.is_some() || now.mtime != metadata.mtime)
            && let Err(error) = set_mtime(subject, metadata.mtime)
        {
            mtime = None;
            self.note(&mut problems, What::Times, error);
        }
        let mut stat = Stat::of(subject.fd).ok();
        if let (Some(mtime), Some(found)) = (mtime, &stat)
            && found.mtime != mtime
            && set_both_times(subject, mtime).is_ok()
        {
            stat = Stat::of(subject.fd).ok();
        }
        if let Some(stat) = &stat {
            let system = subject.directory.system();
            if owner.refused.is_none() && (stat.uid, stat.gid) != self.owner_of(metadata) {
                let reason = format!("{} shows another than was set", system.name());
                problems.push(ApplyProblem { what: What::Owner, severity: Severity::Failed, reason });
            }
            if stat.mode != mode {
                problems.push(self.other_mode(stat.mode, mode, subject));
            }
            if let Some(mtime) = mtime.filter(|mtime| *mtime != stat.mtime) {
                let reason = read_back::times(system.name(), mtime, stat.mtime);
                problems.push(ApplyProblem { what: What::Times, severity: Severity::Failed, reason });
            }
        }
        Applied { problems, stat }
    }

    /// The system took the mode and keeps another. It drops the set-group-id bit of who is not in the group without a word.
    fn other_mode(&self, found: u32, set: u32, subject: &Subject<'_>) -> ApplyProblem {
        if found == set & !SET_ID && !self.rights.may_change_owners() {
            let reason = read_back::NOT_PERMITTED.to_owned();
            return ApplyProblem { what: What::SetIdBits, severity: Severity::Note, reason };
        }
        let reason = format!("{} keeps other permissions than were set", subject.directory.system().name());
        ApplyProblem { what: What::Mode, severity: Severity::Failed, reason }
    }

    /// Sets owner and group.
    fn owner(
        &self,
        subject: &Subject<'_>,
        now: &Stat,
        metadata: &Metadata,
        problems: &mut Vec<ApplyProblem>,
    ) -> OwnerSet {
        let (uid, gid) = self.owner_of(metadata);
        if (now.uid, now.gid) == (uid, gid) {
            return OwnerSet { changed: false, refused: None };
        }
        let change = |uid: Option<u32>, gid: Option<u32>| {
            chownat(subject.fd, "", uid.map(Uid::from_raw), gid.map(Gid::from_raw), AtFlags::EMPTY_PATH)
        };
        // u32::MAX means "leave it" to the kernel.
        let result = if uid == u32::MAX || gid == u32::MAX { Err(Errno::INVAL) } else { change(Some(uid), Some(gid)) };
        let Err(error) = result else { return OwnerSet { changed: true, refused: None } };
        // The group alone, where the user is a member.
        let group_right = gid == now.gid || (gid != u32::MAX && change(None, Some(gid)).is_ok());
        if uid == now.uid && group_right {
            return OwnerSet { changed: true, refused: None };
        }
        // A user namespace has no number for most users: EINVAL, or EOVERFLOW.
        let lacks = matches!(error, Errno::PERM | Errno::ACCESS | Errno::INVAL | Errno::OVERFLOW);
        let (severity, reason) = if lacks && !self.rights.gives_to_anybody() {
            (Severity::Note, read_back::NOT_PERMITTED.to_owned())
        } else if lacks || error == Errno::OPNOTSUPP || error == Errno::NOSYS {
            let system = subject.directory.system().name();
            (Severity::Failed, format!("{system} does not take this one ({})", read_back::reason(&error.into())))
        } else {
            (Severity::Failed, read_back::reason(&error.into()))
        };
        problems.push(ApplyProblem { what: What::Owner, severity, reason });
        OwnerSet { changed: group_right && gid != now.gid, refused: Some(severity) }
    }

    /// Removes the attributes that the snapshot does not have, and sets those that it has. True when an access control list was
    /// among them, which is half of the mode.
    fn xattrs(&self, subject: &Subject<'_>, metadata: &Metadata, problems: &mut Vec<ApplyProblem>) -> bool {
        let place = Place::Open(subject.fd);
        let mut listed = metadata.xattrs.iter().any(|xattr| xattr.name == ACCESS);
        let present = match xattr::names(&place) {
            Ok(present) => present,
            Err(error) => {
                if !metadata.xattrs.is_empty() {
                    self.note(problems, What::Attributes, error);
                }
                return listed;
            }
        };
        for name in present {
            let wanted = metadata.xattrs.binary_search_by(|xattr| xattr.name.cmp(&name)).is_ok();
            if wanted || !is_ours(&name) {
                continue;
            }
            listed |= name == ACCESS;
            if let Err(error) = xattr::remove(&place, &name)
                && error.raw_os_error() != Some(Errno::NODATA.raw_os_error())
            {
                self.note(problems, What::attribute_to_remove(name), error);
            }
        }
        for xattr in metadata.xattrs.iter().filter(|xattr| xattr.name != CAPABILITY) {
            self.set_xattr(&place, &xattr.name, &xattr.value, problems);
        }
        listed
    }

    fn set_xattr(&self, place: &Place<'_>, name: &[u8], value: &[u8], problems: &mut Vec<ApplyProblem>) {
        if name.is_empty() || name.contains(&0) {
            return self.note(problems, What::attribute(name), Errno::INVAL);
        }
        // An owner cannot write the attributes of his file of mode 0444, but a restore over an earlier one finds them there.
        let Err(error) = xattr::set(place, name, value) else { return };
        if xattr::value(place, name).is_ok_and(|there| there.as_deref() == Some(value)) {
            return;
        }
        if name == CAPABILITY && self.is_not_permitted(&error) {
            let reason = read_back::NOT_PERMITTED.to_owned();
            problems.push(ApplyProblem { what: What::Capabilities, severity: Severity::NotPermitted, reason });
        } else if error.raw_os_error() == Some(Errno::OPNOTSUPP.raw_os_error()) {
            self.note(problems, What::Attributes, error);
        } else {
            self.note(problems, What::attribute(name), error);
        }
    }

    /// Inode flags, immutable and append-only last.
    pub(super) fn flags(&self, subject: &Subject<'_>, metadata: &Metadata) -> Vec<ApplyProblem> {
        let mut problems = Vec::new();
        let wanted = metadata.flags & FLAGS_MASK;
        if !matches!(subject.kind, Kind::File | Kind::Directory) {
            return problems;
        }
        let now = match ioctl_getflags(subject.fd) {
            Ok(now) => now.bits(),
            Err(error) => {
                if wanted != 0 {
                    self.note(&mut problems, What::Flags, error);
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
                    Err(error) => self.note(&mut problems, What::Flag(bit), error),
                }
            }
        }
        problems
    }
}

/// What came of setting owner and group.
struct OwnerSet {
    /// Something may have changed, and the kernel may have dropped set-id bits with it.
    changed: bool,
    /// Owner or group is not the wanted one, and how bad that is.
    refused: Option<Severity>,
}

/// Attributes that a restore removes where the snapshot has none. Labels of the system's own making (`security.selinux`) stay.
fn is_ours(name: &[u8]) -> bool {
    name.starts_with(b"user.")
        || name.starts_with(b"system.posix_acl_")
        || name.starts_with(b"trusted.")
        || name == CAPABILITY
}

/// Sets all flags of an open file or directory.
pub(super) fn set_flags(fd: impl AsFd, flags: u32) -> rustix::io::Result<()> {
    ioctl_setflags(fd, IFlags::from_bits_retain(flags))
}

pub(super) fn set_mode(subject: &Subject<'_>, mode: u32) -> rustix::io::Result<()> {
    let mode = Mode::from_raw_mode(mode);
    if subject.path_only { chmod(proc_path(subject.fd, None).as_slice(), mode) } else { fchmod(subject.fd, mode) }
}

fn set_mtime(subject: &Subject<'_>, mtime: Time) -> rustix::io::Result<()> {
    set_times(subject, Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT }, mtime)
}

/// File systems over libfuse 2 take a call that leaves the time of access out, say that it is done, and do nothing.
fn set_both_times(subject: &Subject<'_>, mtime: Time) -> rustix::io::Result<()> {
    let now = Time::now();
    set_times(subject, Timespec { tv_sec: now.seconds, tv_nsec: now.nanoseconds.into() }, mtime)
}

fn set_times(subject: &Subject<'_>, last_access: Timespec, mtime: Time) -> rustix::io::Result<()> {
    let times = Timestamps {
        last_access,
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
