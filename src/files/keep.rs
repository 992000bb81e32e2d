//! May an inode that was there be kept? The one place that decides it, for every `--overwrite` rule and every kind of entry.
//!
//! A restore that keeps a file gives it the snapshot's owner, mode and times. If it was somebody else's, or somebody else can
//! write it, that puts bytes of his under a name and an owner that vouch for them: he may have kept a descriptor from before.
//! So an inode is kept only when
//!
//! 1. its owner and group are already those that this restore would give it ([`Applier::expected`]);
//! 2. nobody may write it who may not write it as the snapshot has it, by mode or by access control list;
//! 3. nobody has it open for writing ([`super::lease`]). Where the kernel cannot say that, a process that may change owners makes a
//!    new inode, and an ordinary user keeps what is his own;
//! 4. with other names, or with set-id bits or a capability: it is right in everything already and nothing is put on it.
//!
//! In doubt a new inode takes its place: that is always right, and costs the writing of it.
//!
//! Order: open, `fstat`, rules 1 and 2, lease, comparison of the content through that descriptor, `fstat` again, lease still whole.
//! What was seen ([`Seen`]) goes into the plan. [`TargetDirectory::update`] opens the name again, takes the lease, compares the
//! descriptor with what was seen, sets the metadata, and looks once more. An end between these steps leaves the inode as it was,
//! or with some of the snapshot's metadata, which its owner could have given it himself.
//!
//! Symbolic links, fifos, sockets and devices have no content that anybody could write; rules 1, 2 and 4 hold for them too. A
//! directory is always kept, since what is in it is compared name by name. Before anything is made in one that somebody else owns
//! or may write, it is taken from him ([`TargetDirectory::take`]).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, Gid, Mode, OFlags, Uid, chownat, openat, readlinkat};

use super::apply::{Applier, Expected, Subject, set_mode};
use super::file_system::FileSystem;
use super::lease::Writers;
use super::made::Seen;
use super::metadata;
use super::stat::{Kind, Stat};
use super::target::{TargetDirectory, check_name};
use super::xattr::{self, Place};
use crate::codec::tree::{Metadata, Xattr};

/// Access control list of an inode, as extended attribute (acl(5)).
pub(super) const ACCESS: &[u8] = b"system.posix_acl_access";
/// What files and directories that are made in a directory get.
pub(super) const DEFAULT: &[u8] = b"system.posix_acl_default";
const GROUP_WRITES: u32 = 0o020;
const OTHERS_WRITE: u32 = 0o002;

/// Why an inode is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doubt {
    /// It belongs to another user.
    Owner,
    /// It belongs to another group.
    Group,
    /// Somebody may write it who may not as the snapshot has it.
    Writable,
    /// Somebody has it open for writing.
    Open,
    /// Whether somebody has cannot be found out.
    Unknown,
}

/// Who may write an inode: owner, mode and list.
#[derive(Debug, Clone, Copy)]
struct Access<'a> {
    uid: u32,
    gid: u32,
    mode: u32,
    list: Option<&'a [u8]>,
}

/// Rules 1 and 2.
fn doubt(now: &Access<'_>, expected: Expected, mode: u32, list: Option<&[u8]>) -> Option<Doubt> {
    if now.uid != expected.uid {
        return Some(Doubt::Owner);
    }
    let writers = now.mode & (GROUP_WRITES | OTHERS_WRITE);
    match expected.gid {
        Some(gid) if gid != now.gid => return Some(Doubt::Group),
        // A group that cannot be set stays what it is: harmless while it may not write.
        None if writers & GROUP_WRITES != 0 => return Some(Doubt::Group),
        _ => {}
    }
    // With a list the bits of the group are its mask, so that without them no user or group in it may write.
    let is_right = if now.list == list { writers & !mode == 0 } else { writers == 0 };
    (!is_right).then_some(Doubt::Writable)
}

/// Rule 3.
const fn open_doubt(writers: Writers, may_change_owners: bool) -> Option<Doubt> {
    match writers {
        Writers::Nobody => None,
        Writers::Somebody => Some(Doubt::Open),
        Writers::Unknown if may_change_owners => Some(Doubt::Unknown),
        Writers::Unknown => None,
    }
}

fn value<'a>(xattrs: &'a [Xattr], name: &[u8]) -> Option<&'a [u8]> {
    xattrs.iter().find(|xattr| xattr.name == name).map(|xattr| xattr.value.as_slice())
}

/// What is known of an open inode beside its content.
#[derive(Debug)]
pub struct Found {
    /// The rest.
    pub stat: Stat,
    /// Extended attributes; `None` when they cannot be read.
    pub xattrs: Option<Vec<Xattr>>,
    /// Inode flags; `None` for what has none.
    pub flags: Option<u32>,
}

/// An inode that was there, held open while it is decided about.
#[derive(Debug)]
pub struct Candidate {
    fd: OwnedFd,
    system: Arc<FileSystem>,
    found: Found,
    writers: Writers,
}

impl TargetDirectory {
    /// Opens what is under a name, when it is of this kind and can be looked at.
    #[must_use]
    pub fn candidate(&self, name: &[u8], kind: Kind) -> Option<Candidate> {
        check_name(name).ok()?;
        let fd = if kind == Kind::File {
            self.as_directory().open_file(name).ok()?
        } else {
            openat(self, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()).ok()?
        };
        let found = Found::of(fd.as_fd()).ok().filter(|found| found.stat.kind == kind)?;
        Some(Candidate { fd, system: self.system().clone(), found, writers: Writers::Unknown })
    }

    /// Takes a directory that was there from whoever else owns or may write it, before anything is made in it: owner, group and
    /// mode come first, without the right to write for anybody else. The rest comes last, with [`TargetDirectory::finish`].
    /// What cannot be set is said then. The answer says whether there was anybody to take it from.
    ///
    /// # Errors
    /// What the system says when it is asked about the directory.
    pub fn take(&self, metadata: &Metadata, applier: &Applier) -> std::io::Result<bool> {
        let fd = self.as_fd();
        let stat = Stat::of(fd)?;
        let expected = applier.expected(metadata, self);
        let xattrs = metadata::xattrs(&Place::Open(fd)).unwrap_or_default();
        let mode = stat.mode & !self.owning().mode;
        let now = Access { uid: stat.uid, gid: stat.gid, mode, list: value(&xattrs, ACCESS) };
        let inherits = value(&xattrs, DEFAULT) != value(&metadata.xattrs, DEFAULT);
        if doubt(&now, expected, metadata.mode, value(&metadata.xattrs, ACCESS)).is_none() && !inherits {
            return Ok(false);
        }
        let gid = expected.gid.map(Gid::from_raw);
        let _ = chownat(fd, "", Some(Uid::from_raw(expected.uid)), gid, AtFlags::EMPTY_PATH);
        for list in [ACCESS, DEFAULT] {
            if value(&xattrs, list).is_some() {
                let _ = xattr::remove(&Place::Open(fd), list);
            }
        }
        let path_only = !self.as_directory().is_readable();
        let subject = Subject { fd, path_only, kind: Kind::Directory, directory: self, now: None };
        let _ = set_mode(&subject, metadata.mode & 0o7777 & !(GROUP_WRITES | OTHERS_WRITE) | 0o700);
        Ok(true)
    }
}

impl Found {
    /// Looks at an open inode.
    ///
    /// # Errors
    /// What the system says.
    pub fn of(fd: BorrowedFd<'_>) -> std::io::Result<Self> {
        let stat = Stat::of(fd)?;
        let place = Place::Open(fd);
        let flags = matches!(stat.kind, Kind::File | Kind::Directory).then(|| metadata::flags(&place, stat.kind));
        Ok(Self { stat, xattrs: metadata::xattrs(&place), flags })
    }
}

impl Candidate {
    /// What it is.
    #[must_use]
    pub const fn stat(&self) -> &Stat {
        &self.found.stat
    }

    /// The open file, to read its content.
    #[must_use]
    pub fn file(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Where a symbolic link leads.
    #[must_use]
    pub fn link_target(&self) -> Option<Vec<u8>> {
        readlinkat(&self.fd, "", Vec::new()).ok().map(std::ffi::CString::into_bytes)
    }

    /// Why it may not be kept, if so, whatever it holds: rules 1 to 3 of the module. A file is held off from writers from now on.
    pub fn doubt(&mut self, metadata: &Metadata, applier: &Applier, directory: &TargetDirectory) -> Option<Doubt> {
        let Found { stat, xattrs, .. } = &self.found;
        let Some(xattrs) = xattrs else { return Some(Doubt::Writable) };
        // A symbolic link takes no writing, whatever its mode says; and a mode that every file has there says nothing.
        let mode = if stat.kind == Kind::Symlink { 0 } else { stat.mode & !directory.owning().mode };
        let now = Access { uid: stat.uid, gid: stat.gid, mode, list: value(xattrs, ACCESS) };
        let expected = applier.expected(metadata, directory);
        let found = doubt(&now, expected, metadata.mode, value(&metadata.xattrs, ACCESS));
        if found.is_some() || stat.kind != Kind::File {
            return found;
        }
        self.writers = Writers::ask(self.fd.as_fd(), &self.system);
        open_doubt(self.writers, applier.rights().may_change_owners())
    }

    /// What it is after its content was compared; `None` when it changed meanwhile, or somebody wanted to write it.
    #[must_use]
    pub fn seen(&self) -> Option<Seen> {
        let seen = Seen::of(&self.found.stat, &self.system);
        let now = Stat::of(&self.fd).ok()?;
        let still = self.writers.again(self.fd.as_fd()) == self.writers;
        (still && seen.is(&now)).then_some(seen)
    }

    /// Whether all of its metadata is as the snapshot has it.
    #[must_use]
    pub fn is_right(&self, metadata: &Metadata, applier: &Applier) -> bool {
        applier.differences(metadata, &self.found).is_empty()
    }
}

/// Whether an inode of this metadata gives rights to whoever runs it: such a one is never made of what was there.
#[must_use]
pub fn raises(metadata: &Metadata) -> bool {
    metadata.mode & 0o6000 != 0 || value(&metadata.xattrs, super::apply::CAPABILITY).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: u32 = 10;
    const ENEMY: u32 = 66;

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Person {
        InTheGroup,
        Named,
        Stranger,
    }

    /// Lets the named user write, and the group not; and the other way round.
    const FOR_NAMED: &[u8] = b"named";
    const FOR_GROUP: &[u8] = b"group";

    /// By the rules of acl(5), beside the owner.
    fn may_write(person: Person, mode: u32, list: Option<&[u8]>) -> bool {
        let masked = mode & GROUP_WRITES != 0;
        match (person, list) {
            (Person::Stranger, _) | (Person::Named, None) => mode & OTHERS_WRITE != 0,
            (Person::InTheGroup, None) => masked,
            (Person::InTheGroup, Some(list)) => masked && list == FOR_GROUP,
            (Person::Named, Some(list)) => masked && list == FOR_NAMED,
        }
    }

    /// Every owner, group, mode and list that an inode can have, against every mode and list of a snapshot.
    #[test]
    fn whoever_may_write_what_is_kept_may_write_it_as_the_snapshot_has_it() {
        let lists = [None, Some(FOR_NAMED), Some(FOR_GROUP)];
        let expected = Expected { uid: ME, gid: Some(ME) };
        let mut kept = 0;
        for (mode, wanted) in (0..0o1000).flat_map(|mode| (0..0o1000).step_by(2).map(move |wanted| (mode, wanted))) {
            for (list, wanted_list) in lists.iter().flat_map(|list| lists.iter().map(move |wanted| (*list, *wanted))) {
                let now = |uid, gid| Access { uid, gid, mode, list };
                assert!(doubt(&now(ENEMY, ME), expected, wanted, wanted_list).is_some());
                assert!(doubt(&now(ME, ENEMY), expected, wanted, wanted_list).is_some());
                let answer = doubt(&now(ME, ME), expected, wanted, wanted_list);
                for person in [Person::InTheGroup, Person::Named, Person::Stranger] {
                    let more = may_write(person, mode, list) && !may_write(person, wanted, wanted_list);
                    assert!(answer.is_some() || !more, "{person:?} {mode:o} {list:?} {wanted:o} {wanted_list:?}");
                }
                kept += u32::from(answer.is_none());
                assert!(answer.is_none() || (mode, list) != (wanted, wanted_list), "{mode:o} {list:?}: it is right");
            }
        }
        assert!(kept > 0);
    }

    #[test]
    fn only_what_is_right_and_nobody_elses_is_kept() {
        let list: &[u8] = b"a list";
        let other: &[u8] = b"another list";
        let cases = [
            // name, uid, gid, mode, list; mode and list in the snapshot; answer
            ("as it should be", ME, ME, 0o644, None, 0o644, None, None),
            ("fewer rights", ME, ME, 0o400, None, 0o644, None, None),
            ("readable by others", ME, ME, 0o644, None, 0o600, None, None),
            ("of an enemy", ENEMY, ME, 0o644, None, 0o644, None, Some(Doubt::Owner)),
            ("of an enemy, closed to all", ENEMY, ME, 0o000, None, 0o644, None, Some(Doubt::Owner)),
            ("of another group", ME, ENEMY, 0o600, None, 0o600, None, Some(Doubt::Group)),
            ("the group may write, and should", ME, ME, 0o664, None, 0o664, None, None),
            ("the group may write, and should not", ME, ME, 0o664, None, 0o644, None, Some(Doubt::Writable)),
            ("others may write, and should", ME, ME, 0o666, None, 0o666, None, None),
            ("others may write, and should not", ME, ME, 0o606, None, 0o660, None, Some(Doubt::Writable)),
            ("the group may not write, and should", ME, ME, 0o602, None, 0o622, None, None),
            ("set-id bits", ME, ME, 0o6755, None, 0o755, None, None),
            ("the same list", ME, ME, 0o664, Some(list), 0o664, Some(list), None),
            ("the same list, masked", ME, ME, 0o644, Some(list), 0o664, Some(list), None),
            ("a list, and none wanted", ME, ME, 0o664, Some(list), 0o664, None, Some(Doubt::Writable)),
            ("a list that lets nobody write", ME, ME, 0o644, Some(list), 0o664, None, None),
            ("another list", ME, ME, 0o660, Some(list), 0o660, Some(other), Some(Doubt::Writable)),
            ("none, and a list wanted", ME, ME, 0o660, None, 0o660, Some(list), Some(Doubt::Writable)),
        ];
        for (name, uid, gid, mode, list, wanted, wanted_list, answer) in cases {
            let now = Access { uid, gid, mode, list };
            let expected = Expected { uid: ME, gid: Some(ME) };
            assert_eq!(doubt(&now, expected, wanted, wanted_list), answer, "{name}");
        }
    }

    #[test]
    fn a_group_that_cannot_be_set_may_not_write() {
        let expected = Expected { uid: ME, gid: None };
        for (mode, answer) in
            [(0o644, None), (0o600, None), (0o664, Some(Doubt::Group)), (0o602, Some(Doubt::Writable))]
        {
            let now = Access { uid: ME, gid: ENEMY, mode, list: None };
            assert_eq!(doubt(&now, expected, 0o664, None), answer, "{mode:o}");
        }
    }

    #[test]
    fn what_the_kernel_cannot_say_is_a_doubt_of_who_may_give_files_away() {
        for (writers, privileged, ordinary) in [
            (Writers::Nobody, None, None),
            (Writers::Somebody, Some(Doubt::Open), Some(Doubt::Open)),
            (Writers::Unknown, Some(Doubt::Unknown), None),
        ] {
            assert_eq!(open_doubt(writers, true), privileged, "{writers:?}");
            assert_eq!(open_doubt(writers, false), ordinary, "{writers:?}");
        }
    }

    #[test]
    fn set_id_bits_and_capabilities_raise() {
        let plain = Metadata { mode: 0o1777, ..Metadata::default() };
        assert!(!raises(&plain));
        assert!(
            raises(&Metadata { mode: 0o4755, ..plain.clone() }) && raises(&Metadata { mode: 0o2755, ..plain.clone() })
        );
        let capability = Xattr { name: b"security.capability".to_vec(), value: vec![1] };
        assert!(raises(&Metadata { xattrs: vec![capability], ..plain }));
    }
}
