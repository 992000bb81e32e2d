//! What differs between two snapshots, or between a snapshot and live files.
//!
//! Two listings are read side by side, name by name. Directories whose listings are the same chunks are the same and are
//! not read. Signs as in restic: `+` added, `-` removed, `M` content changed, `T` type changed, `U` only metadata changed,
//! `M?` content changed while size, times and inode say that it did not: bits that rotted before they were read.

mod chunks;
pub mod live;

use super::part::Part;
use super::select::{self, Chosen, Filter, Found, SnapshotArgument};
use super::tree_depth::{check_depth, depth_of, far_above};
use super::tree_walk::{TreeWalk, Visited};
use super::{Error, Monitor, Result};
use crate::base::escape::escape;
use crate::codec::chunk_list::ChunkList;
use crate::codec::tree::{Content, Entry, Metadata, Node};
use crate::repository::Repository;
use crate::repository::list_reader::Listing;
use chunks::Chunks;

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Where, from what is compared, with a slash before each name.
    pub path: Vec<u8>,
    /// It is a directory now, or was one when it is removed.
    pub is_directory: bool,
    /// `+`, `-`, `T`, `M`, `M?` or `U`.
    pub sign: &'static str,
}

/// So many entries of one side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Count {
    /// Regular files.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Everything else.
    pub others: u64,
    /// Chunks of content that the other side does not have.
    pub data_chunks: u64,
    /// Chunks of listings that the other side does not have.
    pub tree_chunks: u64,
    /// Plain bytes of those chunks; against live files, sizes of the files.
    pub bytes: u64,
}

impl Count {
    const fn add(&mut self, entry: &Entry) {
        match entry.node {
            Node::File(_) => self.files += 1,
            Node::Directory { .. } => self.directories += 1,
            _ => self.others += 1,
        }
    }
}

/// What the differences add up to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Statistics {
    /// Files whose content differs.
    pub changed_files: u64,
    /// What only the second side has.
    pub added: Count,
    /// What only the first side has.
    pub removed: Count,
}

/// One side of a comparison.
#[derive(Debug)]
pub struct Side {
    /// The snapshot.
    pub chosen: Chosen,
    /// The part of it.
    pub found: Found,
}

/// Finds one side.
///
/// # Errors
/// As [`select::argument`].
pub fn side(repository: &Repository, argument: &SnapshotArgument, filter: &Filter) -> Result<Side> {
    let (chosen, found) = select::argument(repository, argument, filter)?;
    Ok(Side { chosen, found })
}

/// True for the same kind of file.
fn same_type(one: &Node, other: &Node) -> bool {
    std::mem::discriminant(one) == std::mem::discriminant(other)
}

/// The same bytes at the same places.
fn same_content(one: &Content, other: &Content) -> bool {
    one.size == other.size && one.chunks == other.chunks && one.holes == other.holes
}

/// True when what an entry of one type holds is the same: bytes, target, device; a directory's entries are compared for
/// themselves.
fn same_node(one: &Node, other: &Node) -> bool {
    match (one, other) {
        (Node::File(one), Node::File(other)) => same_content(one, other),
        (Node::Directory { .. }, Node::Directory { .. }) => true,
        _ => one == other,
    }
}

/// True when all that a restore would set is the same.
fn same_metadata(one: &Metadata, other: &Metadata) -> bool {
    let owner = |metadata: &Metadata| (metadata.mode, metadata.uid, metadata.gid, metadata.flags);
    owner(one) == owner(other)
        && one.mtime == other.mtime
        && (&one.user, &one.group, &one.xattrs) == (&other.user, &other.group, &other.xattrs)
}

/// True when nothing but the content could have told that the content changed.
fn claims_unchanged(one: &Metadata, other: &Metadata) -> bool {
    (one.mtime, one.ctime, one.inode) == (other.mtime, other.ctime, other.inode)
}

/// The sign for two entries of one name; `None` when there is nothing to say.
fn sign_of(from: &Entry, to: &Entry, metadata: bool) -> Option<&'static str> {
    if !same_type(&from.node, &to.node) {
        return Some("T");
    }
    if !same_node(&from.node, &to.node) {
        let same_size = match (&from.node, &to.node) {
            (Node::File(from), Node::File(to)) => from.size == to.size,
            _ => false,
        };
        let rotten = same_size && claims_unchanged(&from.metadata, &to.metadata);
        return Some(if rotten { "M?" } else { "M" });
    }
    (metadata && !same_metadata(&from.metadata, &to.metadata)).then_some("U")
}

/// A listing with its next entry in sight.
struct Ahead<'r> {
    listing: Listing<'r>,
    next: Option<Entry>,
}

impl<'r> Ahead<'r> {
    fn new(repository: &'r Repository, list: &ChunkList, path: &[u8]) -> Result<Self> {
        let mut this = Self { listing: Listing::new(repository, list.clone()), next: None };
        this.step(path)?;
        Ok(this)
    }

    /// Takes the next entry.
    fn step(&mut self, path: &[u8]) -> Result<Option<Entry>> {
        let path = if path.is_empty() { b"/" } else { path };
        let next = self.listing.next().transpose().map_err(|source| Error::at(path, source))?;
        Ok(std::mem::replace(&mut self.next, next))
    }
}

/// Two directories of one name, being compared.
struct Level<'r> {
    from: Ahead<'r>,
    to: Ahead<'r>,
    path_length: usize,
}

/// Compares two snapshots or parts of them: hands every difference to `show`, in the order of paths, and counts. With
/// `metadata`, differences of metadata alone count too. Chunks are only counted when `count_chunks` is set: that may read
/// listings that are the same on both sides, because a chunk is new only when it is nowhere on the other side.
///
/// # Errors
/// [`Error::Invalid`] for a directory against a file; the damage: then what was shown is not everything; what `show`
/// returns.
pub fn execute<E: From<Error>>(
    repository: &Repository,
    (from, to): (&Side, &Side),
    metadata: bool,
    count_chunks: bool,
    show: &mut dyn FnMut(Change) -> std::result::Result<(), E>,
    monitor: &dyn Monitor,
) -> std::result::Result<Statistics, E> {
    let above = depth_of(from.found.prefix()).max(depth_of(to.found.prefix()));
    let mut work = Work { repository, metadata, above, statistics: Statistics::default(), chunks: None, show, monitor };
    work.chunks = count_chunks.then(|| Chunks::new(repository));
    match (&from.found.part, &to.found.part) {
        (Part::Entry(one), Part::Entry(other)) if from.found.listing().is_none() && to.found.listing().is_none() => {
            let path = [b"/", other.name.as_slice()].concat();
            work.both((from, one), (to, other), &path, &mut Vec::new())?;
        }
        _ => work.directories(from, to)?,
    }
    if let Some(chunks) = work.chunks {
        chunks.finish(&mut work.statistics, (&from.chosen.snapshot, &to.chosen.snapshot), monitor)?;
    }
    Ok(work.statistics)
}

/// What a comparison carries along.
struct Work<'a, E> {
    repository: &'a Repository,
    metadata: bool,
    /// How many names lead to the deeper of the two parts.
    above: usize,
    statistics: Statistics,
    chunks: Option<Chunks<'a>>,
    show: &'a mut dyn FnMut(Change) -> std::result::Result<(), E>,
    monitor: &'a dyn Monitor,
}

impl<'a, E: From<Error>> Work<'a, E> {
    fn directories(&mut self, from: &Side, to: &Side) -> std::result::Result<(), E> {
        let (Some(one), Some(other)) = (from.found.listing(), to.found.listing()) else {
            let [from, to] = [from, to].map(|side| {
                let what = if side.found.listing().is_some() { "a directory" } else { "none" };
                format!("{} is {what}", escape(&side.found.path))
            });
            return Err(
                Error::Invalid(format!("a directory can only be compared with another one: {from}, {to}")).into()
            );
        };
        let mut levels = Vec::new();
        self.enter(one, other, 0, b"", &mut levels)?;
        let mut path = Vec::new();
        while let Some(level) = levels.last_mut() {
            if self.monitor.interrupted() {
                return Err(Error::Interrupted.into());
            }
            path.truncate(level.path_length);
            let order = match (&level.from.next, &level.to.next) {
                (Some(one), Some(other)) => one.name.cmp(&other.name),
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (None, None) => {
                    levels.pop();
                    continue;
                }
            };
            let one = if order.is_le() { level.from.step(&path)? } else { None };
            let other = if order.is_ge() { level.to.step(&path)? } else { None };
            let Some(name) = one.as_ref().or(other.as_ref()).map(|entry| entry.name.as_slice()) else { continue };
            path.push(b'/');
            path.extend_from_slice(name);
            match (&one, &other) {
                (Some(one), Some(other)) => self.both((from, one), (to, other), &path, &mut levels)?,
                (Some(one), None) => self.only(from, one, &path, "-")?,
                (None, Some(other)) => self.only(to, other, &path, "+")?,
                (None, None) => {}
            }
        }
        Ok(())
    }

    /// Two directories of one name: nothing to do when they are the same.
    fn enter(
        &mut self,
        one: &ChunkList,
        other: &ChunkList,
        path_length: usize,
        path: &[u8],
        levels: &mut Vec<Level<'a>>,
    ) -> std::result::Result<(), E> {
        check_depth(path, self.above)?;
        if one == other {
            if let Some(chunks) = &mut self.chunks {
                chunks.same_directory(one);
            }
            return Ok(());
        }
        if let Some(chunks) = &mut self.chunks {
            chunks.directory(one, false)?;
            chunks.directory(other, true)?;
        }
        let from = Ahead::new(self.repository, one, path)?;
        let to = Ahead::new(self.repository, other, path)?;
        levels.push(Level { from, to, path_length });
        if let Some(far) = far_above(levels) {
            far.from.listing.let_go();
            far.to.listing.let_go();
        }
        Ok(())
    }

    fn both(
        &mut self,
        (from, one): (&Side, &Entry),
        (to, other): (&Side, &Entry),
        path: &[u8],
        levels: &mut Vec<Level<'a>>,
    ) -> std::result::Result<(), E> {
        let sign = sign_of(one, other, self.metadata);
        let is_directory = |entry: &Entry| matches!(entry.node, Node::Directory { .. });
        if let Some(sign) = sign {
            (self.show)(Change { path: path.to_vec(), is_directory: is_directory(other), sign })?;
        }
        if sign == Some("T") {
            self.statistics.removed.add(one);
            self.statistics.added.add(other);
            self.content(one, false)?;
            self.content(other, true)?;
            self.beneath(from, one, path, "-")?;
            return self.beneath(to, other, path, "+");
        }
        match (&one.node, &other.node) {
            (Node::Directory { listing: one }, Node::Directory { listing: other }) => {
                return self.enter(one, other, path.len(), path, levels);
            }
            (Node::File(one), Node::File(other)) if same_content(one, other) => {
                if let Some(chunks) = &mut self.chunks {
                    chunks.same_file(one)?;
                }
                return Ok(());
            }
            (Node::File(_), Node::File(_)) => self.statistics.changed_files += 1,
            _ => {}
        }
        self.content(one, false)?;
        self.content(other, true)
    }

    fn content(&mut self, entry: &Entry, added: bool) -> std::result::Result<(), E> {
        let Some(chunks) = &mut self.chunks else { return Ok(()) };
        match &entry.node {
            Node::File(content) => chunks.file(content, added)?,
            Node::Directory { listing } => chunks.directory(listing, added)?,
            _ => {}
        }
        Ok(())
    }

    /// An entry that only one side has, and what is in it.
    fn only(&mut self, side: &Side, entry: &Entry, path: &[u8], sign: &'static str) -> std::result::Result<(), E> {
        let is_directory = matches!(entry.node, Node::Directory { .. });
        let added = sign == "+";
        let count = if added { &mut self.statistics.added } else { &mut self.statistics.removed };
        count.add(entry);
        (self.show)(Change { path: path.to_vec(), is_directory, sign })?;
        self.content(entry, added)?;
        self.beneath(side, entry, path, sign)
    }

    fn beneath(&mut self, side: &Side, entry: &Entry, path: &[u8], sign: &'static str) -> std::result::Result<(), E> {
        let Node::Directory { listing } = &entry.node else { return Ok(()) };
        let added = sign == "+";
        let walk = TreeWalk::new(self.repository, &side.chosen.snapshot, path, listing.clone());
        for visited in walk.in_part(side.found.prefix()) {
            if self.monitor.interrupted() {
                return Err(Error::Interrupted.into());
            }
            let Visited { path, entry } = visited?;
            let count = if added { &mut self.statistics.added } else { &mut self.statistics.removed };
            count.add(&entry);
            self.content(&entry, added)?;
            let is_directory = matches!(entry.node, Node::Directory { .. });
            (self.show)(Change { path, is_directory, sign })?;
        }
        Ok(())
    }
}
