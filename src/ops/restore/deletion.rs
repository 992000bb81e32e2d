//! What `--delete` may remove: entries of restored directories that the snapshot does not have.
//!
//! A snapshot of `/home/u/docs` holds `home` and `home/u` too, with nothing in them but the way to `docs`. What else lies in
//! such a directory was never asked about, so it is not removed: only directories at or beneath a source are cleared.
//!
//! What the backup could not read is not in the snapshot either, and a directory that it was not allowed to list stands there
//! as an empty one. Neither is removed, nor anything in such a directory: here may be the only copy.

use std::cmp::Ordering;
use std::collections::HashSet;

use crate::base::escape::Escaped;
use crate::codec::chunk_list::ChunkList;
use crate::codec::snapshot::{Problem, ProblemKind, Snapshot, many_beneath};
use crate::codec::tree::Node;
use crate::files::made::Made;
use crate::files::own::Owner;
use crate::files::remove::Removal;
use crate::files::stat::{Kind, Stat};
use crate::files::target::TargetDirectory;
use crate::ops::Result;
use crate::repository::list_reader::{Listing, Problems};
use crate::repository::{self, Repository};

use super::Options;
use super::catalog::{NONE, Place, next_row};

/// Directories that a snapshot holds completely.
#[derive(Debug, Default)]
pub struct Sources {
    /// Paths in the snapshot, without a slash at either end; an empty one is the root.
    places: Vec<Vec<u8>>,
    /// What lies there and could not be read by the backup: a hash of each path in the same form.
    unread: HashSet<[u8; 16]>,
    /// The backup could not tell what it lacks: nothing is known to be extra.
    is_uncertain: bool,
}

/// Paths that the backup could not read, at most, among which nothing is removed: 32 MiB of hashes. With more of them, nothing is removed at all.
pub const UNREAD_MAX: usize = 1 << 20;

fn hash(path: &[u8]) -> [u8; 16] {
    let mut hash = [0; 16];
    blake3::Hasher::new().update(path).finalize_xof().fill(&mut hash);
    hash
}

fn names(path: &[u8]) -> Vec<&[u8]> {
    path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()).collect()
}

impl Sources {
    /// Finds the sources of a snapshot in its tree. An absolute source stands there under its whole path, a relative
    /// one under the end of it, `.` and `/` are the root itself. The longest end that is there is taken: when in doubt,
    /// less is removed.
    ///
    /// # Errors
    /// The list of what could not be read cannot be read itself.
    pub fn find(repository: &Repository, snapshot: &Snapshot) -> repository::Result<Self> {
        let mut places = Vec::new();
        // Of a directory that stands for many paths it is not known what else lies in it.
        'sources: for path in snapshot.paths.iter().filter(|path| many_beneath(path).is_none()) {
            let names = names(path);
            let mut place = Vec::new();
            for from in 0..names.len() {
                match is_there(repository, &snapshot.root, &names[from..]) {
                    Some(true) => {
                        place = names[from..].join(&b'/');
                        break;
                    }
                    Some(false) => {}
                    // Where the source lies cannot be determined: it covers nothing.
                    None => continue 'sources,
                }
            }
            places.push(place);
        }
        if places.iter().any(|place| !place.is_empty()) {
            // A source that is not there at all looks like the root: it says nothing while others are there.
            places.retain(|place| !place.is_empty());
        }
        let (mut unread, mut is_uncertain) = (HashSet::new(), false);
        for problem in Problems::of(repository, snapshot) {
            let Problem { path, kind, .. } = problem?;
            // What is said of all of it is said of every name.
            if path.is_empty() && matches!(kind, ProblemKind::Changed | ProblemKind::Unreadable) {
                is_uncertain = true;
            }
            // What vanished under the backup may have been on its way to another inode of the same name.
            if kind != ProblemKind::Metadata {
                unread.insert(hash(&names(&path).join(&b'/')));
            }
            if unread.len() > UNREAD_MAX {
                repository
                    .warn(format!("nothing is removed: the backup could not read more than {UNREAD_MAX} of the files"));
                return Ok(Self { places, unread: HashSet::new(), is_uncertain: true });
            }
        }
        if is_uncertain {
            repository.warn(
                "nothing is removed: names may be missing in this snapshot, because files were moved while it was made"
                    .to_owned(),
            );
        }
        Ok(Self { places, unread, is_uncertain })
    }

    /// True for what the backup could not read.
    pub fn is_unread(&self, path: &[u8]) -> bool {
        self.unread.contains(&hash(path.strip_prefix(b"/").unwrap_or(path)))
    }

    /// True when everything in the directory at `path` (a slash before each name) was asked for, and could be listed.
    pub fn cover(&self, path: &[u8]) -> bool {
        let path = path.strip_prefix(b"/").unwrap_or(path);
        !self.is_uncertain
            && !self.unread.contains(&hash(path))
            && self.places.iter().any(|place| {
                place.is_empty()
                    || path.strip_prefix(place.as_slice()).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
            })
    }
}

/// Whether these names lead to something; `None` when a listing on the way cannot be read.
fn is_there(repository: &Repository, root: &ChunkList, names: &[&[u8]]) -> Option<bool> {
    let mut listing = root.clone();
    let mut left = names.iter();
    'names: while let Some(name) = left.next() {
        for entry in Listing::new(repository, listing.clone()) {
            let entry = entry.ok()?;
            match entry.name.as_slice().cmp(name) {
                Ordering::Less => {}
                Ordering::Greater => break,
                Ordering::Equal => match entry.node {
                    Node::Directory { listing: inner } => {
                        listing = inner;
                        continue 'names;
                    }
                    _ => return Some(left.next().is_none()),
                },
            }
        }
        return Some(false);
    }
    Some(true)
}

/// One entry that goes because of another one.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Beneath {
    /// Row of the directory that it lies in, or [`NONE`] for the topmost.
    above: u32,
    name: Box<[u8]>,
    is_directory: bool,
}

/// An entry of the target that goes, with everything in it, each by its name: what is shown is what goes, and what appears in it
/// later stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deletion {
    /// The entry.
    pub place: Place,
    /// The directory that it was seen in.
    pub seen_in: Made,
    /// It is a directory.
    pub is_directory: bool,
    /// What is in it: a directory before its entries.
    beneath: Vec<Beneath>,
}

impl Deletion {
    /// How many entries go.
    pub fn len(&self) -> u64 {
        1 + self.beneath.len() as u64
    }

    /// Every entry that goes: its path beneath the first (empty for that itself), and whether it is a directory.
    pub fn entries(&self) -> impl Iterator<Item = (Vec<u8>, bool)> + '_ {
        let beneath = self.beneath.iter().map(|entry| (self.path(entry), entry.is_directory));
        std::iter::once((Vec::new(), self.is_directory)).chain(beneath)
    }

    fn path(&self, entry: &Beneath) -> Vec<u8> {
        let mut names = vec![&*entry.name];
        let mut above = entry.above;
        while let Some(entry) = self.beneath.get(above as usize) {
            names.push(&entry.name);
            above = entry.above;
        }
        names.reverse();
        names.join(&b'/')
    }
}

/// What keeps an entry in the target.
#[derive(Debug)]
pub enum Stays {
    /// It is, or holds, what the selection leaves out.
    LeftOut,
    /// It is, or holds, something of this program or another repository.
    Owned(Owner),
    /// It, or something in it, cannot be looked at, or lies on another file system.
    Unknown(String),
}

/// Finds out what goes with an entry: everything beneath it, or nothing at all when something in it stays. Changes nothing.
///
/// # Errors
/// More entries than can be counted.
pub fn examine(
    options: &Options,
    directory: &TargetDirectory,
    name: &[u8],
    path: &[u8],
    place: Place,
    seen_in: Made,
) -> Result<std::result::Result<Deletion, Stays>> {
    let Options { selection, own, .. } = options;
    let look = |directory: &TargetDirectory, name: &[u8], path: &[u8]| -> std::result::Result<Option<_>, Stays> {
        if !selection.choose(path).selected {
            return Err(Stays::LeftOut);
        }
        let unknown = |why: String| Stays::Unknown(format!("{}: {why}", Escaped(path)));
        let stat = match directory.stat(name) {
            Ok(Some(stat)) => stat,
            Ok(None) => return Ok(None),
            Err(error) => return Err(unknown(error.to_string())),
        };
        if let Some(owner) = own.place(name, &stat) {
            return Err(Stays::Owned(owner));
        }
        if stat.kind != Kind::Directory {
            return Ok(Some((false, None)));
        }
        if directory.is_mount_point(name) {
            return Err(unknown("another file system is mounted there".to_owned()));
        }
        let inner = directory.directory(name).map_err(|error| unknown(error.to_string()))?;
        let names = inner.names().map_err(|error| unknown(error.to_string()))?;
        if let Some(owner) = own.copy_in(inner.as_directory(), Some(&names)) {
            return Err(Stays::Owned(owner));
        }
        Ok(Some((true, Some((inner, names.into_iter())))))
    };
    let (is_directory, first) = match look(directory, name, path) {
        Ok(found) => found.unwrap_or_default(),
        Err(stays) => return Ok(Err(stays)),
    };
    let mut deletion = Deletion { place, seen_in, is_directory, beneath: Vec::new() };
    let mut path = path.to_vec();
    let mut open: Vec<_> = first.into_iter().map(|(inner, names)| (inner, names, NONE, path.len())).collect();
    while let Some((directory, names, above, length)) = open.last_mut() {
        path.truncate(*length);
        let Some(name) = names.next() else {
            open.pop();
            continue;
        };
        path.push(b'/');
        path.extend_from_slice(&name);
        let (is_directory, inner) = match look(directory, &name, &path) {
            Ok(Some(found)) => found,
            Ok(None) => continue,
            Err(stays) => return Ok(Err(stays)),
        };
        let row = next_row(deletion.beneath.len())?;
        deletion.beneath.push(Beneath { above: *above, name: name.into_boxed_slice(), is_directory });
        open.extend(inner.map(|(inner, names)| (inner, names, row, path.len())));
    }
    Ok(Ok(deletion))
}

/// Carries a deletion out: only what was planned goes.
pub struct Planned<'a> {
    options: &'a Options,
    /// Hashes of what goes.
    entries: HashSet<[u8; 16]>,
    /// Told of each entry that is gone.
    told: &'a mut dyn FnMut(&[u8], bool),
}

fn fingerprint(path: &[u8], is_directory: bool) -> [u8; 16] {
    let mut hash = [0; 16];
    blake3::Hasher::new().update(&[u8::from(is_directory)]).update(path).finalize_xof().fill(&mut hash);
    hash
}

impl<'a> Planned<'a> {
    /// For one deletion. `told` hears the path of each entry beneath the first one, and whether it was a directory.
    pub fn new(options: &'a Options, deletion: &Deletion, told: &'a mut dyn FnMut(&[u8], bool)) -> Self {
        let entries = deletion.entries().map(|(path, is_directory)| fingerprint(&path, is_directory)).collect();
        Self { options, entries, told }
    }
}

impl Removal for Planned<'_> {
    fn may_go(&mut self, path: &[u8], name: &[u8], stat: &Stat) -> bool {
        let is_directory = stat.kind == Kind::Directory;
        self.entries.contains(&fingerprint(path, is_directory)) && self.options.own.place(name, stat).is_none()
    }

    fn gone(&mut self, path: &[u8], is_directory: bool) {
        (self.told)(path, is_directory);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sources_are_covered() {
        let places = vec![b"home/u".to_vec(), b"etc".to_vec()];
        let sources = Sources { places, unread: HashSet::from([hash(b"etc/ssl")]), is_uncertain: false };
        for (path, covered) in [
            ("", false),
            ("/home", false),
            ("/home/u", true),
            ("/home/u/x", true),
            ("/home/uu", false),
            ("/etc", true),
            ("/etc/ssl", false),
        ] {
            assert_eq!(sources.cover(path.as_bytes()), covered, "{path}");
        }
        assert!(Sources { places: vec![Vec::new()], ..Sources::default() }.cover(b""));
        assert!(!Sources::default().cover(b""));
        let uncertain = Sources { places: vec![Vec::new()], is_uncertain: true, ..Sources::default() };
        assert!(!uncertain.cover(b"") && !uncertain.cover(b"/x"));
    }
}
