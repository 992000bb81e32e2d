//! A snapshot against the live files of a directory.
//!
//! Without reading: a file of another size or mtime has changed. With [`Options::content`] files of the same size are read
//! and hashed chunk by chunk against the ids in the snapshot and as a whole against its digest, holes against zeros; nothing is read
//! from the repository but listings. Hard links, creation times and inode numbers are not compared: a restored tree has others.

use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use super::{Ahead, Change, Count, Side, Statistics, same_metadata, same_type};
use crate::base::escape::escape;
use crate::codec::chunk_list::ChunkRef;
use crate::codec::pack::PackKind;
use crate::codec::tree::{Content, Entry, Metadata, Node};
use crate::files::directory::Directory;
use crate::files::metadata;
use crate::files::own::OwnPlaces;
use crate::files::owner::Owners;
use crate::files::stat::{Kind, Stat};
use crate::files::xattr::Place;
use crate::ops::tree_depth::{check_depth, depth_of, far_above};
use crate::ops::tree_walk::{TreeWalk, Visited};
use crate::ops::{Error, Monitor, Problem, Result, Severity};
use crate::repository::Repository;
use crate::repository::list_reader::Chunks;

/// How to compare.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Differences of metadata alone count too.
    pub metadata: bool,
    /// Read files and compare what is in them.
    pub content: bool,
    /// What is this program's own is in no snapshot, and is not looked at.
    pub own: Arc<OwnPlaces>,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Report {
    /// What the differences add up to. Chunks are not counted.
    pub statistics: Statistics,
    /// Live files that could not be looked at.
    pub unreadable: u64,
}

/// Two directories of one name, being compared.
struct Level<'r> {
    stored: Ahead<'r>,
    directory: Arc<Directory>,
    names: std::iter::Peekable<std::vec::IntoIter<Vec<u8>>>,
    path_length: usize,
}

/// An entry of the disk.
struct Live {
    directory: Arc<Directory>,
    name: Vec<u8>,
    stat: Stat,
}

impl Live {
    const fn is_directory(&self) -> bool {
        matches!(self.stat.kind, Kind::Directory)
    }

    const fn count(&self, count: &mut Count) {
        match self.stat.kind {
            Kind::File => {
                count.files += 1;
                count.bytes = count.bytes.saturating_add(self.stat.size);
            }
            Kind::Directory => count.directories += 1,
            _ => count.others += 1,
        }
    }

    /// What it holds, as an entry of a snapshot would say it; of a file only its size, of a directory nothing.
    fn node(&self) -> io::Result<Node> {
        let (major, minor) = self.stat.rdev;
        Ok(match self.stat.kind {
            Kind::File => Node::File(Content { size: self.stat.size, ..Content::default() }),
            Kind::Directory => Node::Directory { listing: Default::default() },
            Kind::Symlink => Node::Symlink { target: self.directory.read_link(&self.name)? },
            Kind::Fifo => Node::Fifo,
            Kind::Socket => Node::Socket,
            Kind::CharacterDevice => Node::CharacterDevice { major, minor },
            Kind::BlockDevice => Node::BlockDevice { major, minor },
        })
    }
}

/// What a comparison carries along.
struct Work<'a, E> {
    repository: &'a Repository,
    options: &'a Options,
    owners: Owners,
    report: Report,
    show: &'a mut dyn FnMut(Change) -> std::result::Result<(), E>,
    monitor: &'a dyn Monitor,
}

/// Compares a part of a snapshot with a directory of this machine, or one file with another: hands every difference to
/// `show`, in the order of paths.
///
/// # Errors
/// [`Error::System`] when the path cannot be read, [`Error::Invalid`] when it is not what the part is; the damage; what `show` returns.
pub fn execute<E: From<Error>>(
    repository: &Repository,
    from: &Side,
    path: &Path,
    options: &Options,
    show: &mut dyn FnMut(Change) -> std::result::Result<(), E>,
    monitor: &dyn Monitor,
) -> std::result::Result<Report, E> {
    let report = Report::default();
    let mut work = Work { repository, options, owners: Owners::new(), report, show, monitor };
    let shown = || escape(path.as_os_str().as_bytes());
    let refuse = |source: io::Error| Error::System { what: format!("{} cannot be read", shown()), source };
    let Some(listing) = from.found.listing() else {
        let Some((entry, name)) = from.found.entry().zip(path.file_name()) else {
            return Err(Error::Invalid(format!("{} names no file", shown())).into());
        };
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let directory = Arc::new(Directory::open_root(parent).map_err(refuse)?);
        let stat = directory.stat(name.as_bytes()).map_err(refuse)?;
        let live = Live { directory, name: name.as_bytes().to_vec(), stat };
        work.both(from, entry, &live, &[b"/", name.as_bytes()].concat())?;
        return Ok(work.report);
    };
    let directory = Arc::new(Directory::open_root(path).map_err(refuse)?);
    let names = directory.names().map_err(refuse)?.into_iter().peekable();
    let stored = Ahead::new(repository, listing, b"")?;
    work.walk(from, vec![Level { stored, directory, names, path_length: 0 }])?;
    Ok(work.report)
}

/// The metadata with the stored owner, where a restore of that owner leads to the live one: by its name where this machine knows it, by its
/// number where it does not.
fn known_owner(stored: &Metadata, mut live: Metadata) -> Metadata {
    let same = |name: &[u8], number: u32, live_name: &[u8], live_number: u32| {
        number == live_number || (!name.is_empty() && name == live_name)
    };
    if same(stored.user.as_ref(), stored.uid, live.user.as_ref(), live.uid) {
        (live.user, live.uid) = (stored.user.clone(), stored.uid);
    }
    if same(stored.group.as_ref(), stored.gid, live.group.as_ref(), live.gid) {
        (live.group, live.gid) = (stored.group.clone(), stored.gid);
    }
    live
}

impl<'a, E: From<Error>> Work<'a, E> {
    fn walk(&mut self, from: &Side, mut levels: Vec<Level<'a>>) -> std::result::Result<(), E> {
        let mut path = Vec::new();
        while let Some(level) = levels.last_mut() {
            if self.monitor.interrupted() {
                return Err(Error::Interrupted.into());
            }
            path.truncate(level.path_length);
            let order = match (&level.stored.next, level.names.peek()) {
                (Some(entry), Some(name)) => entry.name.cmp(name),
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (None, None) => {
                    levels.pop();
                    continue;
                }
            };
            let entry = if order.is_le() { level.stored.step(&path)? } else { None };
            let name = if order.is_ge() { level.names.next() } else { None };
            let Some(either) = entry.as_ref().map(|entry| &entry.name).or(name.as_ref()) else { continue };
            path.push(b'/');
            path.extend_from_slice(either);
            let directory = Arc::clone(&level.directory);
            let live = name.and_then(|name| self.live(directory, name, &path));
            let next = match (entry, live) {
                (Some(entry), Some(Found::Live(live))) => self.both(from, &entry, &live, &path)?,
                (Some(entry), None) => {
                    self.removed(from, &entry, &path)?;
                    None
                }
                (None, Some(Found::Live(live))) => {
                    self.added(&live, &path)?;
                    None
                }
                (_, Some(Found::Unreadable) | None) => None,
            };
            levels.extend(next);
            if let Some(far) = far_above(&mut levels) {
                far.stored.listing.let_go();
            }
        }
        Ok(())
    }

    /// What stands on the disk: nothing when it is this program's own, or has just vanished.
    fn live(&mut self, directory: Arc<Directory>, name: Vec<u8>, path: &[u8]) -> Option<Found> {
        match directory.stat(&name) {
            Ok(stat) if self.is_own(&directory, &name, &stat) => None,
            Ok(stat) => Some(Found::Live(Live { directory, name, stat })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                self.unreadable(path, &error);
                Some(Found::Unreadable)
            }
        }
    }

    fn is_own(&self, directory: &Directory, name: &[u8], stat: &Stat) -> bool {
        let own = &self.options.own;
        let inside = || directory.open_child(name).ok().and_then(|inner| own.copy_in(&inner, None));
        let copy = || if stat.kind == Kind::Directory { inside() } else { None };
        own.place(name, stat).or_else(copy).is_some_and(|owner| owner.is_own())
    }

    fn unreadable(&mut self, path: &[u8], error: &io::Error) {
        self.report.unreadable += 1;
        self.monitor.problem(&Problem::new(Severity::Error, path, &format!("cannot be read: {error}")));
    }

    fn change(&mut self, path: &[u8], is_directory: bool, sign: &'static str) -> std::result::Result<(), E> {
        (self.show)(Change { path: path.to_vec(), is_directory, sign })
    }

    /// An entry on both sides. Returns the directories to compare.
    fn both(
        &mut self,
        from: &Side,
        entry: &Entry,
        live: &Live,
        path: &[u8],
    ) -> std::result::Result<Option<Level<'a>>, E> {
        let node = match live.node() {
            Ok(node) => node,
            Err(error) => {
                self.unreadable(path, &error);
                return Ok(None);
            }
        };
        if !same_type(&entry.node, &node) {
            self.change(path, live.is_directory(), "T")?;
            self.report.statistics.removed.add(entry);
            live.count(&mut self.report.statistics.added);
            if matches!(entry.node, Node::Directory { .. }) {
                self.beneath(from, entry, path)?;
            }
            if live.is_directory() {
                self.added_beneath(live, path)?;
            }
            return Ok(None);
        }
        let changed = match (&entry.node, &node) {
            (Node::File(stored), Node::File(_)) => self.file_changed(entry, stored, live, path)?,
            (Node::Directory { .. }, _) => None,
            (one, other) => (one != other).then_some("M"),
        };
        if let Some(sign) = changed {
            if live.stat.kind == Kind::File {
                self.report.statistics.changed_files += 1;
            }
            self.change(path, false, sign)?;
        } else if self.options.metadata && !self.metadata_same(&entry.metadata, live, path) {
            self.change(path, live.is_directory(), "U")?;
        }
        let Node::Directory { listing } = &entry.node else { return Ok(None) };
        check_depth(path, depth_of(from.found.prefix()))?;
        let opened = live.directory.open_child(&live.name).and_then(|directory| {
            let names = directory.names()?;
            Ok((directory, names))
        });
        match opened {
            Ok((directory, names)) => Ok(Some(Level {
                stored: Ahead::new(self.repository, listing, path)?,
                directory: Arc::new(directory),
                names: names.into_iter().peekable(),
                path_length: path.len(),
            })),
            Err(error) => {
                self.unreadable(path, &error);
                Ok(None)
            }
        }
    }

    fn file_changed(
        &mut self,
        entry: &Entry,
        stored: &Content,
        live: &Live,
        path: &[u8],
    ) -> std::result::Result<Option<&'static str>, E> {
        if stored.size != live.stat.size {
            return Ok(Some("M"));
        }
        if !self.options.content {
            return Ok((entry.metadata.mtime != live.stat.mtime).then_some("M"));
        }
        let file = match live.directory.open_file(&live.name) {
            Ok(file) => File::from(file),
            Err(error) => {
                self.unreadable(path, &error);
                return Ok(None);
            }
        };
        match same_bytes(self.repository, stored, &file, self.monitor).map_err(|error| match error {
            Error::Repository(source) => Error::at(path, source),
            other => other,
        })? {
            Ok(true) => Ok(None),
            Ok(false) => {
                let metadata = &entry.metadata;
                let rotten = (metadata.mtime, metadata.ctime, metadata.inode)
                    == (live.stat.mtime, live.stat.ctime, live.stat.inode);
                Ok(Some(if rotten { "M?" } else { "M" }))
            }
            Err(error) => {
                self.unreadable(path, &error);
                Ok(None)
            }
        }
    }

    fn metadata_same(&mut self, stored: &Metadata, live: &Live, path: &[u8]) -> bool {
        // Flags can only be asked of what is open.
        let open = match live.stat.kind {
            Kind::File => live.directory.open_file(&live.name).ok(),
            _ => None,
        };
        let directory = if live.is_directory() { live.directory.open_child(&live.name).ok() } else { None };
        use std::os::fd::AsFd;
        let place = match (&open, &directory) {
            (Some(file), _) => Place::Open(file.as_fd()),
            (None, Some(directory)) if directory.is_readable() => Place::Open(directory.as_fd()),
            _ => Place::Named(&live.directory, &live.name),
        };
        match metadata::capture(&place, &live.stat, 0, &self.owners) {
            Ok(captured) => {
                let flags_known = matches!(place, Place::Open(_));
                let flags = if flags_known { captured.metadata.flags } else { stored.flags };
                // A symbolic link's times and owner are its own; its mode means nothing.
                same_metadata(stored, &known_owner(stored, Metadata { flags, ..captured.metadata }))
            }
            Err(error) => {
                self.unreadable(path, &error);
                true
            }
        }
    }

    fn removed(&mut self, from: &Side, entry: &Entry, path: &[u8]) -> std::result::Result<(), E> {
        self.gone(entry);
        self.change(path, matches!(entry.node, Node::Directory { .. }), "-")?;
        self.beneath(from, entry, path)
    }

    fn gone(&mut self, entry: &Entry) {
        let count = &mut self.report.statistics.removed;
        count.add(entry);
        if let Node::File(content) = &entry.node {
            count.bytes = count.bytes.saturating_add(content.size);
        }
    }

    fn beneath(&mut self, from: &Side, entry: &Entry, path: &[u8]) -> std::result::Result<(), E> {
        let Node::Directory { listing } = &entry.node else { return Ok(()) };
        let walk = TreeWalk::new(self.repository, &from.chosen.snapshot, path, listing.clone());
        for visited in walk.in_part(from.found.prefix()) {
            if self.monitor.interrupted() {
                return Err(Error::Interrupted.into());
            }
            let Visited { path, entry } = visited?;
            self.gone(&entry);
            self.change(&path, matches!(entry.node, Node::Directory { .. }), "-")?;
        }
        Ok(())
    }

    fn added(&mut self, live: &Live, path: &[u8]) -> std::result::Result<(), E> {
        live.count(&mut self.report.statistics.added);
        self.change(path, live.is_directory(), "+")?;
        if live.is_directory() { self.added_beneath(live, path) } else { Ok(()) }
    }

    /// Everything in a live directory that the snapshot does not have. No recursion: a tree may be deep.
    fn added_beneath(&mut self, live: &Live, path: &[u8]) -> std::result::Result<(), E> {
        let mut path = path.to_vec();
        let mut open = Vec::new();
        self.open_added(&live.directory, &live.name, &path, &mut open);
        while let Some((directory, names, path_length)) = open.last_mut() {
            if self.monitor.interrupted() {
                return Err(Error::Interrupted.into());
            }
            path.truncate(*path_length);
            let Some(name) = names.next() else {
                open.pop();
                continue;
            };
            path.push(b'/');
            path.extend_from_slice(&name);
            let directory = Arc::clone(directory);
            let Some(Found::Live(found)) = self.live(directory, name, &path) else { continue };
            found.count(&mut self.report.statistics.added);
            self.change(&path, found.is_directory(), "+")?;
            if found.is_directory() {
                self.open_added(&found.directory, &found.name, &path, &mut open);
            }
        }
        Ok(())
    }

    fn open_added(&mut self, parent: &Directory, name: &[u8], path: &[u8], open: &mut Vec<OpenDirectory>) {
        let opened = parent.open_child(name).and_then(|directory| {
            let names = directory.names()?;
            Ok((directory, names))
        });
        match opened {
            Ok((directory, names)) => open.push((Arc::new(directory), names.into_iter(), path.len())),
            Err(error) => self.unreadable(path, &error),
        }
    }
}

/// A live directory with the names still to be looked at, and the length of its path.
type OpenDirectory = (Arc<Directory>, std::vec::IntoIter<Vec<u8>>, usize);

/// What a name of the disk turned out to be.
enum Found {
    Live(Live),
    Unreadable,
}

/// Whether a file holds what was stored. The outer error is the repository's, the inner one the file's.
fn same_bytes(
    repository: &Repository,
    content: &Content,
    file: &File,
    monitor: &dyn Monitor,
) -> Result<io::Result<bool>> {
    let mut data = DataReader::new(content);
    let mut digest = content.digest.map(|_| blake3::Hasher::new());
    let mut buffer = Vec::new();
    for chunk in Chunks::of_file(repository, content) {
        if monitor.interrupted() {
            return Err(Error::Interrupted);
        }
        let ChunkRef { id, length } = chunk?;
        buffer.resize(length as usize, 0);
        match data.read(file, &mut buffer) {
            Ok(true) if repository.keys().chunk_id(PackKind::Data.chunk_kind(), &buffer) == id => {}
            Ok(_) => return Ok(Ok(false)),
            Err(error) => return Ok(Err(error)),
        }
        if let Some(digest) = &mut digest {
            digest.update(&buffer);
        }
    }
    for hole in &content.holes {
        match is_zero(file, hole.offset, hole.length, monitor) {
            Ok(true) => {}
            other => return Ok(other),
        }
    }
    Ok(Ok(digest.map(|digest| Content::digest_of(digest, &content.holes)) == content.digest))
}

/// Reads a file's data and leaves out where the stored one has holes.
struct DataReader<'a> {
    content: &'a Content,
    next_hole: usize,
    offset: u64,
}

impl<'a> DataReader<'a> {
    const fn new(content: &'a Content) -> Self {
        Self { content, next_hole: 0, offset: 0 }
    }

    /// Fills the buffer; false when the file ends before that.
    fn read(&mut self, file: &File, mut buffer: &mut [u8]) -> io::Result<bool> {
        while !buffer.is_empty() {
            let hole = self.content.holes.get(self.next_hole);
            let room = match hole {
                Some(hole) if hole.offset == self.offset => {
                    self.offset = self.offset.saturating_add(hole.length);
                    self.next_hole += 1;
                    continue;
                }
                Some(hole) => hole.offset.saturating_sub(self.offset),
                None => u64::MAX,
            };
            let length = usize::try_from(room).unwrap_or(usize::MAX).min(buffer.len());
            let (now, later) = std::mem::take(&mut buffer).split_at_mut(length);
            match file.read_exact_at(now, self.offset) {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
                other => other?,
            }
            self.offset = self.offset.saturating_add(length as u64);
            buffer = later;
        }
        Ok(true)
    }
}

fn is_zero(file: &File, mut offset: u64, mut length: u64, monitor: &dyn Monitor) -> io::Result<bool> {
    let mut buffer = vec![0; 256 << 10];
    while length > 0 {
        if monitor.interrupted() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let now = length.min(buffer.len() as u64);
        let bytes = &mut buffer[..now as usize];
        match file.read_exact_at(bytes, offset) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            other => other?,
        }
        if bytes.iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
        offset += now;
        length -= now;
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Write;

    use super::*;
    use crate::codec::chunk_list::ChunkList;
    use crate::codec::chunker::Parameters;
    use crate::ops::Silent;
    use crate::repository::fixture;
    use crate::storage::memory::Memory;

    /// Right chunks in the wrong order, or too few of them, have another digest.
    #[test]
    fn the_digest_of_the_whole_counts() {
        let repository = fixture::repository(&Memory::new(), 7, Parameters::FILES);
        let parts = [&b"one "[..], b"two"];
        let refer = |part: &&[u8]| ChunkRef {
            id: repository.keys().chunk_id(PackKind::Data.chunk_kind(), part),
            length: part.len() as u32,
        };
        let chunks = ChunkList { depth: 0, chunks: parts.iter().map(refer).collect() };
        let digest = Some(*blake3::hash(b"what was saved").as_bytes());
        let wrong = Content { size: 7, chunks, digest, ..Content::default() };
        let mut whole = blake3::Hasher::new();
        whole.update(b"one two");
        let right = Content { digest: Some(Content::digest_of(whole, &[])), ..wrong.clone() };
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"one two").unwrap();
        let same = |content| same_bytes(&repository, content, &file, &Silent).unwrap().unwrap();
        assert!(same(&right) && !same(&wrong));
    }

    #[test]
    fn an_owner_is_the_same_by_name_or_by_number() {
        let owned = |user: &str, uid| Metadata { user: user.into(), uid, ..Metadata::default() };
        let same = |stored: (&str, u32), live: (&str, u32)| {
            let stored = owned(stored.0, stored.1);
            same_metadata(&stored, &known_owner(&stored, owned(live.0, live.1)))
        };
        assert!(same(("alice", 1000), ("alice", 1000)));
        assert!(same(("alice", 1000), ("alice", 2000)), "the name has another number here");
        assert!(same(("alice", 1000), ("", 1000)), "nobody is called so here");
        assert!(same(("", 0), ("root", 0)), "no name was stored");
        assert!(!same(("alice", 1000), ("bob", 1001)));
        assert!(!same(("", 1000), ("root", 0)));
    }
}
