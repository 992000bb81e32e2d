//! A part of a snapshot, found by its path.
//!
//! The root of a snapshot holds the sources as restic places them: an absolute source `/home/u/Documents` stands there as
//! `home/u/Documents`, a relative one as it was typed. So a path that is not found from the root is looked for
//! beneath the sources and beside them too: `7f3a91c2:Documents/cv.odt` and `7f3a91c2:cv.odt` both work after a backup of
//! `/home/u/Documents`, and `latest:/home/u/Documents` after one of `Documents` within `/home/u`. When that finds
//! different things, they are named and none is chosen.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::select::Chosen;
use super::{Error, Result};
use crate::base::command::suggest;
use crate::base::escape::escape;
use crate::codec::chunk_list::ChunkList;
use crate::codec::snapshot::Snapshot;
use crate::codec::tree::{Entry, Node};
use crate::repository::Repository;
use crate::repository::list_reader::Listing;

/// What stands at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "there is one of them at a time")]
pub enum Part {
    /// The root of the snapshot, which has no name and no metadata: its listing.
    Root(ChunkList),
    /// An entry. Its parents are what the path says.
    Entry(Entry),
}

/// A part of a snapshot and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its path from the snapshot's root: `/` for the root itself, else with a slash before each name.
    pub path: Vec<u8>,
    /// What is there.
    pub part: Part,
}

impl Found {
    /// The listing, when it is a directory or the root.
    #[must_use]
    pub const fn listing(&self) -> Option<&ChunkList> {
        match &self.part {
            Part::Root(listing) | Part::Entry(Entry { node: Node::Directory { listing }, .. }) => Some(listing),
            Part::Entry(_) => None,
        }
    }

    /// The entry, when it is not the root.
    #[must_use]
    pub const fn entry(&self) -> Option<&Entry> {
        match &self.part {
            Part::Root(_) => None,
            Part::Entry(entry) => Some(entry),
        }
    }

    /// The path that entries beneath it begin with: empty for the root, else [`Found::path`].
    #[must_use]
    pub fn prefix(&self) -> &[u8] {
        if self.path == b"/" { b"" } else { &self.path }
    }
}

/// The names of a path: empty ones and `.` are nothing, `..` takes the one before it away.
fn names(path: &[u8]) -> Vec<&[u8]> {
    let mut names: Vec<&[u8]> = Vec::new();
    for name in path.split(|byte| *byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => {
                names.pop();
            }
            name => names.push(name),
        }
    }
    names
}

fn path_of(names: &[&[u8]]) -> Vec<u8> {
    if names.is_empty() {
        return b"/".to_vec();
    }
    names.iter().flat_map(|name| [b"/".as_slice(), name]).collect::<Vec<_>>().concat()
}

/// The name at which a path ends, and what is in its way there.
struct Missing {
    depth: usize,
    sentence: String,
}

/// Walks from the root, and remembers the directories it came through.
struct Walker<'r> {
    repository: &'r Repository,
    root: ChunkList,
    seen: HashMap<Vec<u8>, Option<Entry>>,
}

impl Walker<'_> {
    fn entry(&mut self, path: &[u8], listing: &ChunkList, name: &[u8]) -> Result<Option<Entry>> {
        if let Some(entry) = self.seen.get(path) {
            return Ok(entry.clone());
        }
        let mut found = None;
        // Names ascend, so a larger one says that this one is not there.
        for entry in Listing::new(self.repository, listing.clone()) {
            let entry = entry.map_err(|source| Error::at(path, source))?;
            if entry.name.as_slice() >= name {
                found = (entry.name == name).then_some(entry);
                break;
            }
        }
        self.seen.insert(path.to_vec(), found.clone());
        Ok(found)
    }

    fn walk(&mut self, names: &[&[u8]]) -> Result<std::result::Result<Part, Missing>> {
        let mut listing = self.root.clone();
        for (depth, name) in names.iter().enumerate() {
            let path = path_of(&names[..=depth]);
            let Some(entry) = self.entry(&path, &listing, name)? else {
                let sentence = format!("{} holds no \"{}\"", escape(&path_of(&names[..depth])), escape(name));
                return Ok(Err(Missing { depth, sentence }));
            };
            if depth + 1 == names.len() {
                return Ok(Ok(Part::Entry(entry)));
            }
            let kind = match entry.node {
                Node::Directory { listing: inner } => {
                    listing = inner;
                    continue;
                }
                Node::Symlink { target } => format!("a symbolic link to {}, which is not followed", escape(&target)),
                Node::File(_) => "a file, not a directory".to_owned(),
                _ => "no directory".to_owned(),
            };
            return Ok(Err(Missing { depth: depth + 1, sentence: format!("{} is {kind}", escape(&path)) }));
        }
        Ok(Ok(Part::Root(listing)))
    }
}

/// True when the root of the snapshot is a source itself for sure, given as `.`: it is not just the way to its sources.
///
/// # Errors
/// The damage, when a listing cannot be read.
pub fn is_whole(repository: &Repository, snapshot: &Snapshot) -> Result<bool> {
    let mut walker = Walker { repository, root: snapshot.root.clone(), seen: HashMap::new() };
    root_is_a_source(&mut walker, &snapshot.paths)
}

/// True when the root may be a source itself, given as `.`: when it is empty, or holds a name that leads to no source.
fn root_is_a_source(walker: &mut Walker<'_>, paths: &[Vec<u8>]) -> Result<bool> {
    let mut first = BTreeSet::new();
    for source in paths {
        let source = names(source);
        for from in 0..source.len() {
            if walker.walk(&source[from..])?.is_ok() {
                first.insert(source[from]);
            }
        }
    }
    for entry in Listing::new(walker.repository, walker.root.clone()) {
        if !first.contains(entry.map_err(|source| Error::at(b"/", source))?.name.as_slice()) {
            return Ok(true);
        }
    }
    Ok(first.is_empty())
}

/// Finds a path in a snapshot; an empty path, `.` and `/` are its root.
///
/// # Errors
/// [`Error::NotFound`] when nothing is there (it names the component that is missing), [`Error::Invalid`] when several places fit; the
/// damage, when a listing cannot be read.
pub fn find_path(repository: &Repository, chosen: &Chosen, path: &[u8]) -> Result<Found> {
    look_for(repository, chosen, path)?.map_err(Error::NotFound)
}

/// The same for a path that need not be in every snapshot.
///
/// # Errors
/// As [`find_path`], but for what is not there.
pub fn find_path_if_there(repository: &Repository, chosen: &Chosen, path: &[u8]) -> Result<Option<Found>> {
    Ok(look_for(repository, chosen, path)?.ok())
}

/// What stands at a path, or the sentence that says what is missing.
fn look_for(repository: &Repository, chosen: &Chosen, path: &[u8]) -> Result<std::result::Result<Found, String>> {
    let snapshot = &chosen.snapshot;
    let mut walker = Walker { repository, root: snapshot.root.clone(), seen: HashMap::new() };
    let wanted = names(path);
    let mut missing = match walker.walk(&wanted)? {
        Ok(part) => return Ok(Ok(Found { path: path_of(&wanted), part })),
        Err(missing) => missing,
    };
    let mut candidates: Vec<Vec<&[u8]>> = Vec::new();
    let is_whole = root_is_a_source(&mut walker, &snapshot.paths)?;
    for source in &snapshot.paths {
        let source = names(source);
        // A source that was given by a relative path stands in the snapshot under the end of its absolute path.
        for from in 0..=source.len() {
            let place = &source[from..];
            if (place.is_empty() && !is_whole) || walker.walk(place)?.is_err() {
                continue;
            }
            if path.starts_with(b"/") {
                if let Some(rest) = wanted.strip_prefix(source.as_slice()) {
                    candidates.push([place, rest].concat());
                }
                continue;
            }
            candidates.push([place, &wanted].concat());
            if let Some((_, parent)) = place.split_last() {
                candidates.push([parent, &wanted].concat());
            }
        }
    }
    let mut found = BTreeMap::new();
    for candidate in candidates {
        match walker.walk(&candidate)? {
            Ok(part) => {
                found.insert(path_of(&candidate), part);
            }
            Err(other) if other.depth > missing.depth => missing = other,
            Err(_) => {}
        }
    }
    let shown = escape(path);
    if found.len() > 1 {
        let places: Vec<String> = found.keys().map(|path| escape(path)).collect();
        return Err(Error::Invalid(format!(
            "{shown} may be {} in snapshot {}: type one of these",
            places.join(" or "),
            chosen.id.short()
        )));
    }
    Ok(match found.pop_first() {
        Some((path, part)) => Ok(Found { path, part }),
        None => Err(format!(
            "no {shown} in snapshot {id}: {}. To see what is there: {}",
            missing.sentence,
            suggest!("ls {}", chosen.id.short()),
            id = chosen.id.short()
        )),
    })
}
