//! What `--delete` may remove: entries of restored directories that the snapshot does not have.
//!
//! A snapshot of `/home/u/docs` holds `home` and `home/u` too, with nothing in them but the way to `docs`. What else lies in
//! such a directory was never asked about, so it is not removed: only directories at or beneath a source are cleared.
//!
//! What the backup could not read is not in the snapshot either, and a directory that it was not allowed to list stands there
//! as an empty one. Neither is removed, nor anything in such a directory: here may be the only copy.

use std::cmp::Ordering;
use std::collections::HashSet;

use crate::codec::chunk_list::ChunkList;
use crate::codec::snapshot::{Problem, ProblemKind, Snapshot};
use crate::codec::tree::Node;
use crate::files::stat::Kind;
use crate::files::target::TargetDirectory;
use crate::repository::list_reader::{Listing, Problems};
use crate::repository::{self, Repository};

use super::Options;

/// Directories that a snapshot holds completely.
#[derive(Debug, Default)]
pub struct Sources {
    /// Paths in the snapshot, without a slash at either end; an empty one is the root.
    places: Vec<Vec<u8>>,
    /// What lies there and could not be read by the backup, in the same form.
    unread: HashSet<Vec<u8>>,
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
        'sources: for path in &snapshot.paths {
            let names = names(path);
            let mut place = Vec::new();
            for from in 0..names.len() {
                match is_there(repository, &snapshot.root, &names[from..]) {
                    Some(true) => {
                        place = names[from..].join(&b'/');
                        break;
                    }
                    Some(false) => {}
                    // Where the source lies cannot be told: it covers nothing.
                    None => continue 'sources,
                }
            }
            places.push(place);
        }
        if places.iter().any(|place| !place.is_empty()) {
            // A source that is not there at all looks like the root: it says nothing while others are there.
            places.retain(|place| !place.is_empty());
        }
        let mut unread = HashSet::new();
        for problem in Problems::new(repository, snapshot.problems.clone()) {
            let Problem { path, kind, .. } = problem?;
            // What vanished under the backup may have been on its way to another inode of the same name.
            if kind != ProblemKind::Metadata {
                unread.insert(names(&path).join(&b'/'));
            }
        }
        Ok(Self { places, unread })
    }

    /// True for what the backup could not read.
    pub fn is_unread(&self, path: &[u8]) -> bool {
        self.unread.contains(path.strip_prefix(b"/").unwrap_or(path))
    }

    /// True when everything in the directory at `path` (a slash before each name) was asked for, and could be listed.
    pub fn cover(&self, path: &[u8]) -> bool {
        let path = path.strip_prefix(b"/").unwrap_or(path);
        !self.unread.contains(path)
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

/// Whether an entry and everything beneath it may go: nothing in it is left out by the selection, or is one of the
/// directories that are never removed. What cannot be looked at stays.
pub fn is_free(options: &Options, directory: &TargetDirectory, name: &[u8], path: &[u8]) -> bool {
    let Options { selection, never, .. } = options;
    if !selection.choose(path).selected {
        return false;
    }
    if selection.is_everything() && never.is_empty() {
        return true;
    }
    let mut open = Vec::new();
    let look = |directory: &TargetDirectory, name: &[u8], path: Vec<u8>| -> Option<Option<_>> {
        match directory.stat(name) {
            Ok(Some(stat)) if never.contains(&stat.key()) => None,
            Ok(Some(stat)) if stat.kind == Kind::Directory => {
                let inner = directory.directory(name).ok()?;
                let names = inner.names().ok()?.into_iter();
                Some(Some((inner, names, path)))
            }
            Ok(_) => Some(None),
            Err(_) => None,
        }
    };
    match look(directory, name, path.to_vec()) {
        Some(inner) => open.extend(inner),
        None => return false,
    }
    while let Some((directory, names, path)) = open.last_mut() {
        let Some(name) = names.next() else {
            open.pop();
            continue;
        };
        let path = [path.as_slice(), b"/", &name].concat();
        if !selection.choose(&path).selected {
            return false;
        }
        match look(&directory.clone(), &name, path) {
            Some(inner) => open.extend(inner),
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sources_are_covered() {
        let places = vec![b"home/u".to_vec(), b"etc".to_vec()];
        let sources = Sources { places, unread: HashSet::from([b"etc/ssl".to_vec()]) };
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
        assert!(Sources { places: vec![Vec::new()], unread: HashSet::new() }.cover(b""));
        assert!(!Sources::default().cover(b""));
    }
}
