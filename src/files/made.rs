//! Recognising an inode again, by a name that leads to it or by a descriptor.
//!
//! Where inode numbers stay ([`FileSystem::keeps_numbers`]) an inode is its device, its number and its time of birth: a number is
//! given again as soon as its inode is gone, a birth is not. Elsewhere a number only counts while a descriptor is held, and
//! what is left is the device, the kind, and the birth where there is one.

use super::file_system::FileSystem;
use super::stat::{Kind, Stat};
use crate::base::time::Time;

/// File systems that keep times in steps show another birth when the inode was out of the cache: FAT's steps are two seconds.
const STEP_NANOSECONDS: i128 = 2_000_000_000;

/// An inode that was made or looked at, to recognise it later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Made {
    device: u64,
    inode: u64,
    born: Option<Time>,
    kind: Kind,
    /// Its number stays.
    numbered: bool,
}

impl Made {
    /// The inode that a stat describes, on this file system.
    #[must_use]
    pub fn of(stat: &Stat, system: &FileSystem) -> Self {
        Self {
            device: stat.device,
            inode: stat.inode,
            born: stat.btime,
            kind: stat.kind,
            numbered: system.keeps_numbers(),
        }
    }

    /// Whether this is still it, as far as the file system lets that be known.
    #[must_use]
    pub fn is(&self, stat: &Stat) -> bool {
        if self.numbered {
            return self.is_exactly(stat);
        }
        let born = match (self.born, stat.btime) {
            (Some(one), Some(other)) => (one.as_nanoseconds() - other.as_nanoseconds()).abs() <= STEP_NANOSECONDS,
            _ => true,
        };
        self.device == stat.device && self.kind == stat.kind && born
    }

    /// Whether this is the same inode beyond doubt: asked where "no" costs nothing.
    #[must_use]
    pub fn is_exactly(&self, stat: &Stat) -> bool {
        let born = self.born.is_none() || self.born == stat.btime;
        (self.device, self.inode, self.kind) == (stat.device, stat.inode, stat.kind) && born
    }

    /// Key in a set of inodes; none where numbers do not stay.
    #[must_use]
    pub fn key(&self) -> Option<(u64, u64)> {
        self.numbered.then_some((self.device, self.inode))
    }
}

/// An inode whose content was looked at: it, and the marks by which every change of it shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    made: Made,
    size: u64,
    mtime: Time,
    ctime: Time,
}

impl Seen {
    /// The inode that a stat describes, as it is.
    #[must_use]
    pub fn of(stat: &Stat, system: &FileSystem) -> Self {
        Self { made: Made::of(stat, system), size: stat.size, mtime: stat.mtime, ctime: stat.ctime }
    }

    /// Whether this is still it, and unchanged.
    #[must_use]
    pub fn is(&self, stat: &Stat) -> bool {
        if !self.made.is(stat) || self.size != stat.size {
            return false;
        }
        if self.made.numbered {
            return (self.mtime, self.ctime) == (stat.mtime, stat.ctime);
        }
        (self.mtime.as_nanoseconds() - stat.mtime.as_nanoseconds()).abs() <= STEP_NANOSECONDS
    }

    /// What is under it.
    #[must_use]
    pub const fn made(&self) -> Made {
        self.made
    }

    /// Key of the inode in a set: (device, inode).
    #[must_use]
    pub const fn key(&self) -> (u64, u64) {
        (self.made.device, self.made.inode)
    }

    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.made.kind
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn stat() -> Stat {
        let place = tempfile::tempdir().unwrap();
        Stat { btime: Some(Time::from_seconds(50)), ..Stat::of(std::fs::File::open(place.path()).unwrap()).unwrap() }
    }

    #[test]
    fn a_number_that_was_given_again_is_another_inode() {
        let first = stat();
        let changed = |change: fn(&mut Stat)| {
            let mut stat = first;
            change(&mut stat);
            stat
        };
        let second: fn(&mut Stat) = |stat| stat.btime = Some(Time::from_seconds(51));
        for (name, stat, numbered, by_hand, exactly) in [
            ("the same", first, true, true, true),
            ("another number", changed(|stat| stat.inode += 1), false, true, false),
            ("born a second later", changed(second), false, true, false),
            ("born much later", changed(|stat| stat.btime = Some(Time::from_seconds(60))), false, false, false),
            ("another kind", changed(|stat| stat.kind = Kind::Symlink), false, false, false),
            ("another device", changed(|stat| stat.device += 1), false, false, false),
        ] {
            for is_numbered in [true, false] {
                let (device, inode) = first.key();
                let made = Made { device, inode, born: first.btime, kind: first.kind, numbered: is_numbered };
                assert_eq!(made.is(&stat), if is_numbered { numbered } else { by_hand }, "{name} {is_numbered}");
                assert_eq!(made.is_exactly(&stat), exactly, "{name}");
                assert_eq!(made.key().is_some(), is_numbered);
            }
        }
    }

    #[test]
    fn a_change_of_the_content_shows() {
        let first = stat();
        let (device, inode) = first.key();
        let made = |numbered| Made { device, inode, born: first.btime, kind: first.kind, numbered };
        let seen = |numbered| Seen { made: made(numbered), size: first.size, mtime: first.mtime, ctime: first.ctime };
        let later = |time: Time| Time { seconds: time.seconds + 10, ..time };
        for (name, stat, numbered, unnumbered) in [
            ("nothing", first, true, true),
            ("size", Stat { size: first.size + 1, ..first }, false, false),
            ("mtime", Stat { mtime: later(first.mtime), ..first }, false, false),
            ("ctime", Stat { ctime: later(first.ctime), ..first }, false, true),
        ] {
            assert_eq!(seen(true).is(&stat), numbered, "{name}");
            assert_eq!(seen(false).is(&stat), unnumbered, "{name}");
        }
    }
}
