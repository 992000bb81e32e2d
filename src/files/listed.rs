//! The directories that a walk has listed, and how they stood when their listing began: so that, after the walk, those that
//! changed since can be found without walking everything again.
//!
//! A record holds a name, not a path, and records stand in the order of the walk. So a directory costs some 30 bytes, kept
//! in memory up to `MEMORY_BYTES_MAX` and in an unnamed file behind that, and looking again costs one `statx` for each, and
//! one open directory a level.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, Write};
use std::sync::Arc;

use super::directory::{Directory, may_change_unseen};
use super::stat::{Kind, Stat};
use crate::base::time::Time;
use crate::base::unnamed_file;

/// Records in memory, at most, in bytes.
const MEMORY_BYTES_MAX: usize = 4 << 20;

/// How a directory stood when its listing began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Its inode.
    pub inode: u64,
    /// Its change time: every name that comes or goes moves it.
    pub ctime: Time,
    /// It had changed within the tick of the clock: a further change does not show.
    pub is_fresh: bool,
}

impl Standing {
    /// Of a directory that is about to be listed; `now` is the file systems' clock ([`super::directory::coarse_now`]).
    #[must_use]
    pub fn of(stat: &Stat, now: Time) -> Self {
        Self { inode: stat.inode, ctime: stat.ctime, is_fresh: may_change_unseen(stat.ctime, now) }
    }

    /// Of a directory that counts as changed, whatever it looks like.
    #[must_use]
    pub fn unknown() -> Self {
        Self { inode: 0, ctime: Time::default(), is_fresh: true }
    }

    /// True when a name may have come or gone since.
    #[must_use]
    pub fn has_changed(&self, now: &Stat) -> bool {
        self.is_fresh || now.inode != self.inode || now.ctime != self.ctime
    }
}

/// One directory.
struct Record {
    depth: u16,
    /// It was reached through a symbolic link, if it is one: the user named the path.
    follow: bool,
    /// Absent for one that was not listed: an ancestor of a source, or one that was kept empty.
    standing: Option<Standing>,
    name: Vec<u8>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct ListedDirectories {
    /// Directories in which records of depth 0 lie, with the number of records before the first of them.
    bases: Vec<(u64, Arc<Directory>)>,
    count: u64,
    memory: Vec<u8>,
    file: Option<File>,
    /// The first error of the file: what is behind it is not known.
    failed: bool,
}

impl ListedDirectories {
    /// What comes next at depth 0 lies in this directory.
    pub(super) fn begin(&mut self, base: &Arc<Directory>) {
        self.bases.push((self.count, Arc::clone(base)));
    }

    /// Notes a directory. `depth` counts the directories above it, below the base.
    pub(super) fn push(&mut self, depth: usize, name: &[u8], follow: bool, standing: Option<Standing>) {
        let (Ok(depth), Ok(length)) = (u16::try_from(depth), u16::try_from(name.len())) else {
            self.failed = true;
            return;
        };
        let flags = u8::from(follow)
            | u8::from(standing.is_some()) << 1
            | u8::from(standing.is_some_and(|standing| standing.is_fresh)) << 2;
        let standing = standing.unwrap_or(Standing { inode: 0, ctime: Time::default(), is_fresh: false });
        self.memory.extend_from_slice(&depth.to_le_bytes());
        self.memory.push(flags);
        self.memory.extend_from_slice(&standing.inode.to_le_bytes());
        self.memory.extend_from_slice(&standing.ctime.seconds.to_le_bytes());
        self.memory.extend_from_slice(&standing.ctime.nanoseconds.to_le_bytes());
        self.memory.extend_from_slice(&length.to_le_bytes());
        self.memory.extend_from_slice(name);
        self.count += 1;
        if self.memory.len() > MEMORY_BYTES_MAX {
            self.failed |= self.spill().is_err();
        }
    }

    fn spill(&mut self) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(unnamed_file::create(&std::env::temp_dir())?),
        };
        file.write_all(&self.memory)?;
        self.memory.clear();
        Ok(())
    }

    /// Paths of the directories that changed since they were listed, in the order of the walk, in the form of
    /// [`super::walk::Enter::path`]. `later` has what is known better of some, because they were listed again. One that is
    /// gone is not named: what held it has changed.
    ///
    /// # Errors
    /// The temporary file cannot be read, or could not be written.
    pub fn changed(&mut self, later: &HashMap<Vec<u8>, Standing>) -> io::Result<Vec<Vec<u8>>> {
        let mut changed = Vec::new();
        let bases = std::mem::take(&mut self.bases);
        let mut look = Look { bases: &bases, levels: Vec::new(), path: Vec::new(), base: None, exchanged: None };
        let read = self.read(&mut |number, record| look.next(number, record, later, &mut changed));
        self.bases = bases;
        read?;
        Ok(changed)
    }
}

impl ListedDirectories {
    /// How each directory that was listed stood, by its path.
    ///
    /// # Errors
    /// As [`ListedDirectories::changed`].
    pub fn standings(&mut self) -> io::Result<Vec<(Vec<u8>, Standing)>> {
        let (mut found, mut lengths, mut path) = (Vec::new(), Vec::new(), Vec::new());
        self.read(&mut |_, record| {
            lengths.truncate(usize::from(record.depth));
            path.truncate(lengths.last().copied().unwrap_or(0));
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(&record.name);
            lengths.push(path.len());
            found.extend(record.standing.map(|standing| (path.clone(), standing)));
        })?;
        Ok(found)
    }

    /// Hands on every record with its number.
    fn read(&mut self, each: &mut dyn FnMut(u64, Record)) -> io::Result<()> {
        if self.failed {
            return Err(io::Error::other("the temporary file of the walk could not be written"));
        }
        let memory = self.memory.as_slice();
        let from: Box<dyn Read + '_> = match &mut self.file {
            Some(file) => {
                file.rewind()?;
                Box::new(BufReader::with_capacity(1 << 20, &*file).chain(memory))
            }
            None => Box::new(memory),
        };
        let mut records = Records { from };
        for number in 0..self.count {
            each(number, records.next()?);
        }
        drop(records);
        // A walk that goes on writes behind what is there.
        if let Some(file) = &mut self.file {
            file.seek(io::SeekFrom::End(0))?;
        }
        Ok(())
    }
}

struct Records<'a> {
    from: Box<dyn Read + 'a>,
}

impl Records<'_> {
    fn take<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.from.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn next(&mut self) -> io::Result<Record> {
        let depth = u16::from_le_bytes(self.take()?);
        let [flags] = self.take()?;
        let inode = u64::from_le_bytes(self.take()?);
        let seconds = i64::from_le_bytes(self.take()?);
        let nanoseconds = u32::from_le_bytes(self.take()?);
        let mut name = vec![0; usize::from(u16::from_le_bytes(self.take()?))];
        self.from.read_exact(&mut name)?;
        let standing = Standing { inode, ctime: Time { seconds, nanoseconds }, is_fresh: flags & 4 != 0 };
        Ok(Record { depth, follow: flags & 1 != 0, standing: (flags & 2 != 0).then_some(standing), name })
    }
}

/// A directory above the one that is looked at.
struct Level {
    name: Vec<u8>,
    follow: bool,
    /// Length of the path of the directory above.
    path_length: usize,
    /// Opened when something in it is looked at; `Some(None)` when it cannot be.
    opened: Option<Option<Arc<Directory>>>,
}

struct Look<'a> {
    bases: &'a [(u64, Arc<Directory>)],
    levels: Vec<Level>,
    path: Vec<u8>,
    base: Option<Arc<Directory>>,
    /// Depth of a directory that another one has taken the place of: what lay beneath it lies elsewhere, and what lies there now is
    /// new as a whole.
    exchanged: Option<u16>,
}

impl Look<'_> {
    fn next(&mut self, number: u64, record: Record, later: &HashMap<Vec<u8>, Standing>, changed: &mut Vec<Vec<u8>>) {
        while let Some(((begins, base), rest)) = self.bases.split_first()
            && *begins <= number
        {
            self.base = Some(Arc::clone(base));
            self.bases = rest;
        }
        while self.levels.len() > usize::from(record.depth) {
            if let Some(level) = self.levels.pop() {
                self.path.truncate(level.path_length);
            }
        }
        let path_length = self.path.len();
        let above = self.above();
        if path_length > 0 {
            self.path.push(b'/');
        }
        self.path.extend_from_slice(&record.name);
        self.exchanged = self.exchanged.filter(|depth| record.depth > *depth);
        let expected = later.get(&self.path).copied().or(record.standing).filter(|_| self.exchanged.is_none());
        if let (Some(expected), Some(above)) = (expected, above) {
            let now = match record.follow {
                true => Stat::at_following(std::os::fd::AsFd::as_fd(&*above), &record.name),
                false => above.stat(&record.name),
            };
            let is_other = |now: &Stat| expected.inode != now.inode && expected != Standing::unknown();
            if now.as_ref().is_ok_and(is_other) {
                self.exchanged = Some(record.depth);
            }
            let has_changed = match now {
                Ok(now) => now.kind == Kind::Directory && expected.has_changed(&now),
                // What cannot be looked at is looked at again, and said.
                Err(error) => error.kind() != io::ErrorKind::NotFound,
            };
            if has_changed {
                changed.push(self.path.clone());
            }
        }
        self.levels.push(Level { name: record.name, follow: record.follow, path_length, opened: None });
    }

    /// The open directory in which the next record lies. Levels are opened from the top down, each once.
    fn above(&mut self) -> Option<Arc<Directory>> {
        let mut above = self.base.clone();
        for level in &mut self.levels {
            let parent = above?;
            let open = || match level.follow {
                true => parent.open_child_following(&level.name),
                false => parent.open_child(&level.name),
            };
            above = level.opened.get_or_insert_with(|| open().ok().map(Arc::new)).clone();
        }
        above
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::directory::coarse_now;
    use super::*;

    /// Every directory beneath `place`, as a walk would note them.
    fn note(listed: &mut ListedDirectories, directory: &Directory, depth: usize, now: Time) {
        for name in directory.names().unwrap() {
            if directory.stat(&name).unwrap().kind == Kind::Directory {
                let inner = directory.open_child(&name).unwrap();
                listed.push(depth, &name, false, Some(Standing::of(&inner.stat_self().unwrap(), now)));
                note(listed, &inner, depth + 1, now);
            }
        }
    }

    #[test]
    fn directories_that_changed_are_found_also_from_the_file() {
        let place = tempfile::tempdir().unwrap();
        let at = |path: &str| place.path().join(path);
        for path in ["a/b/c", "a/d", "e/f/g", "h"] {
            std::fs::create_dir_all(at(path)).unwrap();
        }
        std::thread::sleep(std::time::Duration::from_millis(30));
        let base = Arc::new(Directory::open_root(place.path()).unwrap());
        let list = |spills: bool| {
            let mut listed = ListedDirectories::default();
            listed.begin(&base);
            note(&mut listed, &base, 0, coarse_now());
            if spills {
                listed.spill().unwrap();
                assert!(listed.memory.is_empty());
            }
            listed
        };
        for spills in [false, true] {
            let mut listed = list(spills);
            let changed = |listed: &mut ListedDirectories| {
                let found = listed.changed(&HashMap::new()).unwrap();
                found.into_iter().map(|path| String::from_utf8(path).unwrap()).collect::<Vec<_>>()
            };
            assert_eq!(changed(&mut listed), [""; 0]);
            std::fs::write(at("a/b/c/new"), "").unwrap();
            std::fs::rename(at("h"), at("e/f/h")).unwrap();
            assert_eq!(changed(&mut listed), ["a/b/c", "e/f"]);
            // What was listed again is known better.
            let inner = Directory::open_root(&at("e/f")).unwrap();
            let standing = Standing { is_fresh: false, ..Standing::of(&inner.stat_self().unwrap(), coarse_now()) };
            let later = HashMap::from([(b"e/f".to_vec(), standing)]);
            assert_eq!(listed.changed(&later).unwrap(), [b"a/b/c"]);
            std::fs::rename(at("e/f/h"), at("h")).unwrap();
            std::fs::remove_file(at("a/b/c/new")).unwrap();
            std::fs::rename(at("a"), at("z")).unwrap();
            // A directory that was moved there and back has changed itself; what is gone is not named.
            assert_eq!(changed(&mut listed), ["e/f", "h"]);
            std::fs::rename(at("z"), at("a")).unwrap();
            std::thread::sleep(std::time::Duration::from_millis(30));
        }
    }

    #[test]
    fn a_directory_that_changed_within_the_tick_counts_as_changed() {
        let place = tempfile::tempdir().unwrap();
        std::fs::create_dir(place.path().join("a")).unwrap();
        let base = Arc::new(Directory::open_root(place.path()).unwrap());
        let stat = base.stat(b"a").unwrap();
        let mut listed = ListedDirectories::default();
        listed.begin(&base);
        listed.push(0, b"a", false, Some(Standing::of(&stat, stat.ctime)));
        assert_eq!(listed.changed(&HashMap::new()).unwrap(), [b"a"]);
    }
}
