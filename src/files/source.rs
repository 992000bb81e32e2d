//! The sources of a backup as one tree of names: what of them appears where in the snapshot.
//!
//! restic's rule: an absolute source `/home/u/Docs` appears as `home/u/Docs`, with its ancestors' own metadata; a relative
//! one `work/Docs` as `work/Docs`; leading `..` are dropped; `.` and `/` contribute their entries. A source inside
//! another one is part of it. Two sources that would appear under one name but lie in different places are refused.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::directory::{Directory, coarse_now};
use super::exclude::{Excludes, Level};
use super::listed::Standing;

/// Bytes as a path.
#[must_use]
pub fn as_path(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

/// Why sources cannot be walked.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// No source at all.
    #[error("nothing to back up: name at least one file or directory")]
    None,
    /// A source that is an empty text: an unset variable in a script, mostly.
    #[error("a source is an empty name; if it comes from a variable, check that it is set (\".\" is this directory)")]
    Empty,
    /// None of the sources exists.
    #[error("none of the sources exists ({}); check the spelling, and whether a disk is not mounted", show(.0))]
    AllMissing(Vec<PathBuf>),
    /// Two sources would appear under one name.
    #[error(
        "{} and {} would both be \"{}\" in the snapshot; give absolute paths, or back them up one at a time",
        show(std::slice::from_ref(.first)), show(std::slice::from_ref(.second)), crate::base::escape::Escaped(.name)
    )]
    Clash {
        /// Where the first one lies.
        first: PathBuf,
        /// Where the second one lies.
        second: PathBuf,
        /// The name.
        name: Vec<u8>,
    },
    /// The current directory, or one named as `.` or `/`, cannot be read.
    #[error("{}: cannot be read: {source}", show(std::slice::from_ref(.path)))]
    Read {
        /// The directory.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
}

fn show(paths: &[PathBuf]) -> String {
    let shown: Vec<_> = paths.iter().map(|path| crate::base::escape::escape(path.as_os_str().as_bytes())).collect();
    shown.join(", ")
}

/// A name in the snapshot that leads to sources, or is one.
#[derive(Debug, Clone, Default)]
pub(super) struct Node {
    /// Everything beneath is wanted.
    pub wanted: bool,
    /// It was named with a slash behind it: when it is a symbolic link, what it leads to is meant, as everywhere in Unix.
    pub follow: bool,
    pub children: BTreeMap<Vec<u8>, Node>,
}

impl Node {
    /// Paths of the sources beneath this node, which lies at `path`; a source inside another one is part of it.
    pub fn sources_beneath(&self, path: &[u8]) -> Vec<Vec<u8>> {
        let mut found = Vec::new();
        let mut open = vec![(self, path.to_vec())];
        while let Some((node, path)) = open.pop() {
            for (name, child) in node.children.iter().rev() {
                let path = [path.as_slice(), b"/", name].concat();
                if child.wanted { found.push(path) } else { open.push((child, path)) }
            }
        }
        found
    }
}

impl Drop for Node {
    /// Takes the tree apart without recursion.
    fn drop(&mut self) {
        let mut open: Vec<Self> = std::mem::take(&mut self.children).into_values().collect();
        while let Some(mut node) = open.pop() {
            open.extend(std::mem::take(&mut node.children).into_values());
        }
    }
}

/// A directory whose entries stand at the top of the snapshot: `/`, the current one, or one above it.
#[derive(Debug)]
pub(super) struct Base {
    pub directory: Arc<Directory>,
    /// Absolute path, without a slash at its end; empty for `/`.
    pub path: Vec<u8>,
    /// Present when `.` or `/` itself is a source: what its own tag files say, and its device.
    pub whole: Option<(Level, u64)>,
}

/// One name at the top of the snapshot.
#[derive(Debug, Clone)]
pub(super) struct Root {
    pub name: Vec<u8>,
    pub base: Arc<Base>,
    pub node: Node,
    /// It was not named itself, but is in a directory that was.
    pub expanded: bool,
}

/// What is to be walked. Made by [`Sources::new`], consumed by [`super::walk::Walk`].
#[derive(Debug, Clone)]
pub struct Sources {
    pub(super) roots: Vec<Root>,
    /// Absolute paths of what was named, in the order given: what a snapshot records as its paths.
    pub paths: Vec<Vec<u8>>,
    /// The directories that were named as `.`, `..` or `/`: their entries stand at the top.
    pub whole: Vec<Arc<Directory>>,
    /// How those stood before they were listed, in the same order.
    standings: Vec<Standing>,
    /// What those are the base of.
    bases: Vec<Arc<Base>>,
}

/// Top of the snapshot while it is put together: where it lies, by name; true when only its directory was named.
type Names = BTreeMap<Vec<u8>, (Node, bool)>;

/// True when a path ends in a slash, or in `/.`.
fn ends_in_slash(source: &Path) -> bool {
    let mut bytes = source.as_os_str().as_bytes();
    while let Some(rest) = bytes.strip_suffix(b"/.") {
        bytes = rest;
        if !bytes.ends_with(b"/") {
            return true;
        }
    }
    bytes.ends_with(b"/")
}

/// A source, taken apart: where it starts, and the names from there.
fn split(source: &Path, current: &[u8]) -> (Vec<u8>, Vec<Vec<u8>>) {
    let bytes = source.as_os_str().as_bytes();
    let absolute = bytes.starts_with(b"/");
    let mut base = if absolute { Vec::new() } else { current.to_vec() };
    let mut names: Vec<Vec<u8>> = Vec::new();
    for name in bytes.split(|&byte| byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." if names.pop().is_some() => {}
            b".." => {
                let end = base.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
                base.truncate(end);
            }
            other => names.push(other.to_vec()),
        }
    }
    (base, names)
}

impl Sources {
    /// Puts the sources into one tree. `a/..` is removed as text, as restic does.
    ///
    /// # Errors
    /// See [`SourceError`]. A missing source among others is no error here: the walk reports it.
    pub fn new(sources: &[PathBuf], excludes: &Excludes) -> Result<Self, SourceError> {
        if sources.iter().all(|source| source.is_absolute()) {
            return Self::new_in(Path::new("/"), sources, excludes);
        }
        let current = std::env::current_dir();
        let current = current.map_err(|source| SourceError::Read { path: PathBuf::from("."), source })?;
        Self::new_in(&current, sources, excludes)
    }

    /// The same with relative sources beginning in `current`, an absolute path without symbolic links.
    ///
    /// # Errors
    /// As [`Sources::new`].
    pub fn new_in(current: &Path, sources: &[PathBuf], excludes: &Excludes) -> Result<Self, SourceError> {
        if sources.is_empty() {
            return Err(SourceError::None);
        }
        if sources.iter().any(|source| source.as_os_str().is_empty()) {
            return Err(SourceError::Empty);
        }
        let is_missing = |source: &PathBuf| {
            current
                .join(source)
                .symlink_metadata()
                .is_err_and(|error| matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory))
        };
        if sources.iter().all(is_missing) {
            return Err(SourceError::AllMissing(sources.to_vec()));
        }
        let current = current.as_os_str().as_bytes();
        let current = current.strip_suffix(b"/").unwrap_or(current);
        let mut places: BTreeMap<Vec<u8>, Names> = BTreeMap::new();
        let mut whole = Vec::new();
        let mut paths = Vec::new();
        for source in sources {
            let (base, names) = split(source, current);
            let full = [base.clone()].into_iter().chain(names.iter().cloned()).collect::<Vec<_>>().join(&b"/"[..]);
            paths.push(if full.is_empty() { b"/".to_vec() } else { full });
            let place = places.entry(base.clone()).or_default();
            let mut names = names.into_iter();
            let Some(first) = names.next() else {
                whole.push(base);
                continue;
            };
            let mut node = &mut place.entry(first).or_default().0;
            for name in names {
                node = node.children.entry(name).or_default();
            }
            node.wanted = true;
            node.follow |= ends_in_slash(source);
        }
        let mut roots: BTreeMap<Vec<u8>, Root> = BTreeMap::new();
        let (mut wholes, mut standings, mut bases) = (Vec::new(), Vec::new(), Vec::new());
        for (path, mut nodes) in places {
            let shown = || if path.is_empty() { PathBuf::from("/") } else { as_path(&path).to_owned() };
            let read = |source| SourceError::Read { path: shown(), source };
            let directory = Arc::new(Directory::open_root(&shown()).map_err(read)?);
            let mut level = None;
            if whole.contains(&path) {
                let (now, stat) = (coarse_now(), directory.stat_self().map_err(read)?);
                let names = directory.names().map_err(read)?;
                wholes.push(directory.clone());
                standings.push(Standing::of(&stat, now));
                level = Some((excludes.level(&directory, &path, &names), stat.device));
                for name in names {
                    let (node, expanded) = nodes.entry(name).or_default();
                    *expanded = !node.wanted;
                    node.wanted = true;
                }
            }
            let base = Arc::new(Base { directory, path, whole: level });
            if base.whole.is_some() {
                bases.push(base.clone());
            }
            for (name, (node, expanded)) in nodes {
                let root = Root { name: name.clone(), base: base.clone(), node, expanded };
                if let Some(other) = roots.insert(name.clone(), root) {
                    let full = |base: &Base| as_path(&[&base.path, &b"/"[..], &name].concat()).to_owned();
                    return Err(SourceError::Clash { first: full(&other.base), second: full(&base), name });
                }
            }
        }
        Ok(Self { roots: roots.into_values().collect(), paths, whole: wholes, standings, bases })
    }

    /// True when a directory that was named as `.`, `..` or `/` changed since it was listed.
    #[must_use]
    pub fn has_changed(&self) -> bool {
        let stands = |(directory, standing): (&Arc<Directory>, &Standing)| {
            directory.stat_self().is_ok_and(|now| !standing.has_changed(&now))
        };
        !self.whole.iter().zip(&self.standings).all(stands)
    }

    /// The same sources, found in the same directories, with what has come into those that were named as `.`, `..` or `/`.
    ///
    /// # Errors
    /// One of those cannot be listed.
    pub fn look_again(&self) -> io::Result<Self> {
        let mut again = self.clone();
        let mut known: HashSet<Vec<u8>> = again.roots.iter().map(|root| root.name.clone()).collect();
        for (base, standing) in again.bases.iter().zip(&mut again.standings) {
            *standing = Standing::of(&base.directory.stat_self()?, coarse_now());
            for name in base.directory.names()? {
                if known.insert(name.clone()) {
                    let node = Node { wanted: true, follow: false, children: BTreeMap::new() };
                    again.roots.push(Root { name, base: base.clone(), node, expanded: true });
                }
            }
        }
        again.roots.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(again)
    }
}
