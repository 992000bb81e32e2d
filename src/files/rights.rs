//! What this process may do to inodes of other users. Asked of the kernel once, because the number 0 says little: root of a user
//! namespace may not give files to most users, and root of a container may lack any of its rights.

use std::fs;
use std::ops::Range;

use rustix::process::{getegid, geteuid, getgroups};

/// Bits of `CapEff` (include/uapi/linux/capability.h).
const CHOWN: u64 = 1 << 0;
const MKNOD: u64 = 1 << 27;
/// The number that means "leave it" to chown(2), so that no inode can have it.
const NOBODY: u32 = u32::MAX;

/// See the module.
#[derive(Debug, Clone)]
pub struct Rights {
    uid: u32,
    groups: Vec<u32>,
    capabilities: u64,
    /// Users and groups that this process's user namespace has numbers for.
    uids: Vec<Range<u32>>,
    gids: Vec<Range<u32>>,
}

impl Rights {
    /// Of this process. Without `/proc` the number of the user is all there is to go by.
    #[must_use]
    pub fn of_process() -> Self {
        let uid = geteuid();
        let mut groups: Vec<u32> = getgroups().unwrap_or_default().into_iter().map(rustix::fs::Gid::as_raw).collect();
        groups.push(getegid().as_raw());
        let status = fs::read_to_string("/proc/self/status").ok();
        let capabilities = status.and_then(|status| effective(&status));
        Self {
            uid: uid.as_raw(),
            groups,
            capabilities: capabilities.unwrap_or(if uid.is_root() { u64::MAX } else { 0 }),
            uids: mapped("/proc/self/uid_map"),
            gids: mapped("/proc/self/gid_map"),
        }
    }

    /// The user that this process works as.
    #[must_use]
    pub const fn uid(&self) -> u32 {
        self.uid
    }

    /// May give a file to this user and group.
    #[must_use]
    pub fn may_give(&self, uid: u32, gid: u32) -> bool {
        let has = |ranges: &[Range<u32>], id| id != NOBODY && ranges.iter().any(|range| range.contains(&id));
        self.may_change_owners() && has(&self.uids, uid) && has(&self.gids, gid)
    }

    /// May change the owners of files, to whom its user namespace knows.
    #[must_use]
    pub const fn may_change_owners(&self) -> bool {
        self.capabilities & CHOWN != 0
    }

    /// May give any file to anybody: root of the first user namespace. When a file system refuses it, that is not for lack of
    /// rights.
    #[must_use]
    pub fn gives_to_anybody(&self) -> bool {
        let all = |ranges: &[Range<u32>]| ranges.contains(&(0..NOBODY));
        self.may_change_owners() && all(&self.uids) && all(&self.gids)
    }

    /// May make devices.
    #[must_use]
    pub fn makes_devices(&self) -> bool {
        self.capabilities & MKNOD != 0 && self.gives_to_anybody()
    }

    /// May give its own files to this group.
    #[must_use]
    pub fn is_in_group(&self, gid: u32) -> bool {
        self.groups.contains(&gid)
    }

    /// Another user and group than this, whom a file could be given to.
    pub(super) fn another(&self, uid: u32, gid: u32) -> Option<(u32, u32)> {
        let other =
            |ranges: &[Range<u32>], not| ranges.iter().flat_map(|range| range.clone().take(2)).find(|id| *id != not);
        Some((other(&self.uids, uid)?, other(&self.gids, gid)?)).filter(|_| self.may_change_owners())
    }
}

fn effective(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

/// The first column of a map of user_namespaces(7) with its length; everybody where there is no such map.
fn mapped(path: &str) -> Vec<Range<u32>> {
    let everybody = std::iter::once(0..NOBODY).collect();
    let Ok(map) = fs::read_to_string(path) else { return everybody };
    let line = |line: &str| {
        let mut numbers = line.split_whitespace().map(str::parse::<u32>);
        let (start, _, length) = (numbers.next()?.ok()?, numbers.next()?.ok()?, numbers.next()?.ok()?);
        Some(start..start.saturating_add(length))
    };
    map.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rights(capabilities: u64, users: Range<u32>) -> Rights {
        let uids: Vec<_> = std::iter::once(users).collect();
        Rights { uid: 0, groups: vec![0], capabilities, gids: uids.clone(), uids }
    }

    #[test]
    fn the_number_0_alone_gives_nothing() {
        let all = 0..NOBODY;
        for (name, rights, anybody, to_1000, to_0) in [
            ("root", rights(u64::MAX, all.clone()), true, true, true),
            ("root of a container without CAP_CHOWN", rights(!CHOWN, all.clone()), false, false, false),
            ("root of unshare -Ur", rights(u64::MAX, 0..1), false, false, true),
            ("root of a namespace of 65,536", rights(u64::MAX, 0..65_536), false, true, true),
            ("an ordinary user", rights(0, all), false, false, false),
        ] {
            assert_eq!(rights.gives_to_anybody(), anybody, "{name}");
            assert_eq!(rights.may_give(1000, 1000), to_1000, "{name}");
            assert_eq!(rights.may_give(0, 0), to_0, "{name}");
            assert!(!rights.may_give(NOBODY, 0), "{name}");
            assert_eq!(rights.makes_devices(), anybody, "{name}");
        }
        assert_eq!(rights(u64::MAX, 0..1).another(0, 0), None);
        assert_eq!(rights(u64::MAX, 0..2).another(0, 0), Some((1, 1)));
    }

    #[test]
    fn the_kernel_says_what_this_process_may() {
        let rights = Rights::of_process();
        assert_eq!(effective("Name:\tx\nCapEff:\t00000000000000ff\n"), Some(0xff));
        assert_eq!(rights.uid(), geteuid().as_raw());
        assert!(rights.is_in_group(getegid().as_raw()));
    }
}
