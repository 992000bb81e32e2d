//! What is this program's own among the user's files: one set of places, made once a command, asked by everything that walks or writes.
//! format-spec/own.md says what is own and what each command does about it.
//!
//! Invariants
//! - A place is known by device, inode and birth of its directory and of its well-known parts, so a bind mount of a part is recognised under any
//!   path. A place that is not there when the set is made may come to be while the command runs: it is looked for again under its name.
//! - What lies beneath a place is found by going up from an open directory with `..`, by descriptor. A walk that begins outside of all
//!   places and follows no link needs no look upwards: it meets the place first.
//! - A copy of a repository is known by what lies in it, wherever it lies. `config` is read only where folders of a repository lie beside it,
//!   only when it is a regular file of the right length, through no link.
//! - What cannot be looked at is never taken for nothing: [`OwnPlaces::unknown`] says it, and whoever deletes asks.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::directory::Directory;
use super::source::as_path;
use super::stat::{Kind, Stat};
use crate::base::command::suggest;
use crate::base::escape::Escaped;
use crate::base::id::RepositoryId;
use crate::base::time::Time;
use crate::codec::config::{CONFIG_BYTES, Config};

/// Directories that are climbed at most, one above the other.
const CLIMB_MAX: usize = 16_384;
/// Folders of a repository.
const FOLDERS: [&str; 8] = ["keys", "packs", "index", "snapshots", "heads", "lock", "tmp", "quarantine"];
/// Those that every repository has.
const PARTS: [&str; 5] = ["keys", "packs", "index", "snapshots", "heads"];
/// Folders of this machine's memory.
const STATE_FOLDERS: [&str; 2] = ["repositories", "mirrors"];
/// What lies in them besides.
const STATE_FILES: [&[u8]; 2] = [b"lock", b"places"];
/// One of these beside a `config` makes a directory a repository.
const SIGNS: [&[u8]; 2] = [b"heads", b"packs"];

/// What a place is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// The repository of this command.
    Repository,
    /// Where caches lie.
    Cache,
    /// This machine's memory.
    State,
    /// Settings of this program.
    Configuration,
    /// A mirror in a directory, by its name.
    Mirror(String),
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Repository => f.write_str("packstone's own repository"),
            Self::Cache => f.write_str("packstone's own cache"),
            Self::State => f.write_str("packstone's own memory of this machine"),
            Self::Configuration => f.write_str("packstone's own configuration"),
            Self::Mirror(name) => write!(f, "packstone's own mirror {}", Escaped(name.as_bytes())),
        }
    }
}

/// A place of this program.
#[derive(Debug, Clone)]
struct Place {
    what: What,
    path: PathBuf,
}

/// To whom something belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// It is, or lies in, a place of this program.
    Place(What),
    /// It is, or lies in, a copy of this command's repository.
    Copy,
    /// It looks like a repository, and which one it is cannot be read: somebody's data too.
    Unknown,
    /// It is, or lies in, another repository or a copy of one: somebody's data. It is backed up, but nothing is written into it and
    /// nothing in it is removed.
    Other(RepositoryId),
}

impl Owner {
    /// True for what no backup holds.
    #[must_use]
    pub const fn is_own(&self) -> bool {
        !matches!(self, Self::Other(_) | Self::Unknown)
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Place(what) => what.fmt(f),
            Self::Copy => f.write_str("packstone's own: a copy of this repository"),
            Self::Unknown => f.write_str("what looks like a packstone repository and cannot be read"),
            Self::Other(id) => write!(f, "the packstone repository {}, or a copy of it", id.short()),
        }
    }
}

/// Where in what is somebody's something lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Whose.
    pub owner: Owner,
    /// True when it is the place itself, false when it lies in it.
    pub itself: bool,
}

/// A directory that is a place, or a part of one. Numbers of inodes are used again as soon as they are free, and what this
/// program keeps beside a repository comes and goes: a number alone must not take a directory of the user's for it.
#[derive(Debug, Clone)]
struct Known {
    /// Row of the place.
    row: usize,
    birth: Option<Time>,
    path: PathBuf,
}

impl Known {
    /// True when it is the inode that was seen: by its birth, or because the path leads to it still.
    fn is(&self, stat: &Stat) -> bool {
        if self.birth.is_some() && stat.btime.is_some() {
            return self.birth == stat.btime;
        }
        Directory::open_root(&self.path)
            .and_then(|directory| directory.stat_self())
            .is_ok_and(|now| now.same_inode(stat))
    }
}

/// See the module. By default it knows no place, and takes every repository for another one.
#[derive(Debug, Clone, Default)]
pub struct OwnPlaces {
    repository: Option<RepositoryId>,
    places: Vec<Place>,
    /// Directories by (device, inode).
    known: HashMap<(u64, u64), Known>,
    /// Rows of places that are not there.
    absent: Vec<usize>,
    unknown: Vec<String>,
}

impl OwnPlaces {
    /// A set for the repository with this id, where there is one already.
    #[must_use]
    pub fn new(repository: Option<RepositoryId>) -> Self {
        Self { repository, ..Self::default() }
    }

    /// Adds a place. Symbolic links are followed: the user named it.
    pub fn add(&mut self, what: What, path: &Path) {
        let row = self.places.len();
        self.places.push(Place { what, path: path.to_path_buf() });
        match Directory::open_root(path) {
            Ok(directory) => self.look(row, &directory),
            Err(error) if is_absent(&error) => self.absent.push(row),
            Err(error) => self.cannot_be_looked_at(row, &error),
        }
    }

    /// Adds the folders of repositories in a directory of caches. The directory may hold other things too, which are not ours.
    pub fn add_caches_in(&mut self, directory: &Path) {
        let names = match Directory::open_root(directory).and_then(|directory| directory.names()) {
            Ok(names) => names,
            Err(error) if is_absent(&error) => return,
            Err(error) => {
                let path = Escaped(directory.as_os_str().as_encoded_bytes()).to_string();
                return self.unknown.push(format!("{} at {path} cannot be looked at ({error})", What::Cache));
            }
        };
        let is_cache = |name: &[u8]| std::str::from_utf8(name).is_ok_and(|name| name.parse::<RepositoryId>().is_ok());
        for name in names.iter().filter(|name| is_cache(name)) {
            self.add(What::Cache, &directory.join(as_path(name)));
        }
    }

    /// Adds the folders of this machine's memory in a directory that was named for it and may hold other things too. A folder of
    /// such a name that somebody else fills is not ours to leave out of a backup.
    pub fn add_state_in(&mut self, directory: &Path) {
        for folder in STATE_FOLDERS {
            let path = directory.join(folder);
            let names = match Directory::open_root(&path).and_then(|directory| directory.names()) {
                Err(error) if !is_absent(&error) => {
                    let path = Escaped(path.as_os_str().as_encoded_bytes()).to_string();
                    self.unknown.push(format!("{} at {path} cannot be looked at ({error})", What::State));
                    continue;
                }
                names => names.unwrap_or_default(),
            };
            // Every file in them begins with the id of the repository that it is about, but for these; and a killed process
            // may have left one under its temporary name.
            let is_state = |name: &Vec<u8>| {
                let is_temporary = name.starts_with(b".") && name.ends_with(b".tmp");
                if is_temporary || STATE_FILES.contains(&name.as_slice()) {
                    return true;
                }
                let id = name.get(..64).and_then(|id| std::str::from_utf8(id).ok());
                id.is_some_and(|id| id.parse::<RepositoryId>().is_ok())
            };
            if names.iter().all(is_state) {
                self.add(What::State, &path);
            } else {
                let path = Escaped(path.as_os_str().as_encoded_bytes()).to_string();
                self.unknown.push(format!("{} at {path} holds files of others too", What::State));
            }
        }
    }

    /// Something that keeps a place from being known: a list that cannot be read.
    pub fn add_unknown(&mut self, sentence: String) {
        self.unknown.push(sentence);
    }

    /// Mirrors that are not there now, a sentence each: a disk that is not mounted, mostly.
    #[must_use]
    pub fn absent_mirrors(&self) -> Vec<String> {
        let places = self.absent.iter().filter_map(|row| self.places.get(*row));
        let mirrors = places.filter(|place| matches!(place.what, What::Mirror(_)));
        let say = |Place { what, path }: &Place| {
            format!("{what} at {} is not there now", Escaped(path.as_os_str().as_encoded_bytes()))
        };
        mirrors.map(say).collect()
    }

    /// What could not be looked at, a sentence each.
    #[must_use]
    pub fn unknown(&self) -> &[String] {
        &self.unknown
    }

    fn cannot_be_looked_at(&mut self, row: usize, error: &io::Error) {
        let Some(Place { what, path }) = self.places.get(row) else { return };
        let path = Escaped(path.as_os_str().as_encoded_bytes()).to_string();
        self.unknown.push(format!("{what} at {path} cannot be looked at ({error})"));
    }

    /// Notes a place and its parts.
    fn look(&mut self, row: usize, directory: &Directory) {
        let stat = match directory.stat_self() {
            Ok(stat) => stat,
            Err(error) => return self.cannot_be_looked_at(row, &error),
        };
        let path = self.places.get(row).map(|place| place.path.clone()).unwrap_or_default();
        self.known.entry(stat.key()).or_insert_with(|| Known { row, birth: stat.btime, path: path.clone() });
        let is_repository =
            matches!(self.places.get(row), Some(Place { what: What::Repository | What::Mirror(_), .. }));
        let parts: Vec<Vec<u8>> = if is_repository {
            FOLDERS.map(|name| name.as_bytes().to_vec()).to_vec()
        } else {
            directory.names().unwrap_or_default()
        };
        for name in parts {
            self.part(row, directory, &path, &name);
        }
        if is_repository
            && let Ok((names, packs)) = directory.open_child(b"packs").and_then(|packs| Ok((packs.names()?, packs)))
        {
            let path = path.join("packs");
            names.iter().filter(|name| name.len() == 2).for_each(|name| self.part(row, &packs, &path, name));
        }
    }

    /// Notes a part that is a directory. Files are found in them.
    fn part(&mut self, row: usize, directory: &Directory, above: &Path, name: &[u8]) {
        match directory.stat(name) {
            Ok(stat) if stat.kind == Kind::Directory => {
                let path = above.join(as_path(name));
                self.known.entry(stat.key()).or_insert_with(|| Known { row, birth: stat.btime, path });
            }
            Ok(_) => {}
            Err(error) if is_absent(&error) => {}
            Err(error) => self.cannot_be_looked_at(row, &error),
        }
    }

    /// The place that this inode is, or is a well-known part of. `name` is what it is called where it was met.
    #[must_use]
    pub fn place(&self, name: &[u8], stat: &Stat) -> Option<Owner> {
        let row = match self.known.get(&stat.key()).filter(|known| known.is(stat)) {
            Some(known) => Some(known.row),
            None => self.absent.iter().copied().find(|row| {
                self.places.get(*row).is_some_and(|place| {
                    place.path.file_name().is_some_and(|last| last.as_encoded_bytes() == name)
                        && Directory::open_root(&place.path)
                            .and_then(|directory| directory.stat_self())
                            .is_ok_and(|now| now.same_inode(stat))
                })
            }),
        };
        Some(Owner::Place(self.places.get(row?)?.what.clone()))
    }

    /// The repository, or copy of one, that a directory is by what lies in it. `names` are its names, sorted, where they are known.
    #[must_use]
    pub fn copy_in(&self, directory: &Directory, names: Option<&[Vec<u8>]>) -> Option<Owner> {
        let is_directory = |name: &[u8]| directory.stat(name).is_ok_and(|stat| stat.kind == Kind::Directory);
        if let Some(names) = names {
            let has = |name: &[u8]| names.binary_search_by(|other| other.as_slice().cmp(name)).is_ok();
            if !has(b"config") || !SIGNS.iter().any(|name| has(name)) {
                return None;
            }
        }
        let stat = directory.stat(b"config").ok()?;
        if stat.kind != Kind::File || !SIGNS.iter().any(|name| is_directory(name)) {
            return None;
        }
        // All folders of a repository: a saved config beside one of them is no reason to leave anything out.
        let is_whole = || PARTS.iter().all(|name| is_directory(name.as_bytes()));
        let id = match directory.read_small(b"config", CONFIG_BYTES + 1) {
            Ok(Some(bytes)) if Config::parse(&bytes).is_ok() => Some(Config::id(&bytes)),
            // Damaged, of a newer format, or not for our eyes.
            _ => None,
        };
        match id {
            None => is_whole().then_some(Owner::Unknown),
            Some(id) if self.repository != Some(id) => Some(Owner::Other(id)),
            Some(_) => is_whole().then_some(Owner::Copy),
        }
    }

    /// To whom an open directory belongs by itself, without a look at what is above it.
    #[must_use]
    pub fn directory(&self, name: &[u8], directory: &Directory, stat: &Stat) -> Option<Owner> {
        self.place(name, stat).or_else(|| self.copy_in(directory, None))
    }

    /// To whom an open directory belongs, itself or by what it lies in: the answer of the lowest one that is somebody's.
    ///
    /// # Errors
    /// What is above it cannot be looked at.
    pub fn find(&self, directory: &Directory) -> io::Result<Option<Found>> {
        let mut stat = directory.stat_self()?;
        let mut above: Option<Directory> = None;
        let mut other = None;
        for level in 0..CLIMB_MAX {
            let here = above.as_ref().unwrap_or(directory);
            match self.directory(b"", here, &stat).or_else(|| self.late(&stat)) {
                // A place of ours may hold another repository: what is own goes before what is somebody's.
                Some(owner @ (Owner::Other(_) | Owner::Unknown)) if other.is_none() => {
                    other = Some(Found { owner, itself: level == 0 })
                }
                Some(Owner::Other(_) | Owner::Unknown) | None => {}
                Some(owner) => return Ok(Some(Found { owner, itself: level == 0 })),
            }
            let next = here.open_child(b"..")?;
            let up = next.stat_self()?;
            if up.same_inode(&stat) {
                return Ok(other);
            }
            (stat, above) = (up, Some(next));
        }
        Err(io::Error::other(format!("more than {CLIMB_MAX} directories lie above it")))
    }

    /// A place that was not there when the set was made, under whatever name.
    fn late(&self, stat: &Stat) -> Option<Owner> {
        self.absent.iter().filter_map(|row| self.places.get(*row)).find_map(|place| {
            let name = place.path.file_name()?.as_encoded_bytes();
            self.place(name, stat)
        })
    }

    /// The same for a path, which need not be there yet: then what will hold it is asked. Symbolic links are followed.
    ///
    /// # Errors
    /// What is there cannot be looked at.
    pub fn find_path(&self, path: &Path) -> io::Result<Option<Found>> {
        let whole = std::path::absolute(path)?;
        for there in whole.ancestors() {
            match Directory::open_root(there) {
                Ok(directory) => {
                    let is_whole = there == whole;
                    let found = self.find(&directory)?;
                    return Ok(found.map(|found| Found { itself: found.itself && is_whole, ..found }));
                }
                Err(error) if is_absent(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// To whom a source of a backup belongs: an absolute path, of which the last name may be a symbolic link, which is not followed.
    ///
    /// # Errors
    /// What is above it cannot be looked at; [`io::ErrorKind::NotFound`].
    pub fn find_source(&self, path: &[u8]) -> io::Result<Option<Owner>> {
        let path = as_path(path);
        let is_directory = path.symlink_metadata()?.is_dir();
        let directory = if is_directory { path } else { path.parent().unwrap_or(path) };
        let found = self.find(&Directory::open_root(directory)?)?;
        Ok(found.map(|found| found.owner))
    }

    /// Refuses to write a file or directory at this path, or beneath it.
    ///
    /// # Errors
    /// It would lie in something of this program, or in another repository; or that cannot be found out.
    pub fn refuse_within(&self, path: &Path) -> Result<(), OwnError> {
        let shown = || Escaped(path.as_os_str().as_encoded_bytes()).to_string();
        match self.find_path(path) {
            Ok(None) => Ok(()),
            Ok(Some(Found { owner, itself })) => Err(OwnError::Own { path: shown(), owner, itself }),
            Err(source) => Err(OwnError::Unknown { path: shown(), source }),
        }
    }

    /// Refuses to remove anything while a place cannot be looked at.
    ///
    /// # Errors
    /// [`OwnError::Places`].
    pub fn require_known(&self) -> Result<(), OwnError> {
        if self.unknown.is_empty() { Ok(()) } else { Err(OwnError::Places(self.unknown.join("; "))) }
    }
}

/// Nothing is written or removed here.
#[derive(Debug, thiserror::Error)]
pub enum OwnError {
    /// It is somebody's.
    #[error("{path} {} {owner}: nothing of yours is written into it. Name another place", if *itself { "is" } else { "lies in" })]
    Own {
        /// The path, safe to show.
        path: String,
        /// Whose it is.
        owner: Owner,
        /// It is the place itself.
        itself: bool,
    },
    /// It cannot be found out.
    #[error("{path} cannot be looked at: {source}; choose a directory that you may read and write")]
    Unknown {
        /// The path, safe to show.
        path: String,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// A place cannot be looked at.
    #[error(
        "{0}: what belongs to it cannot be recognised, so nothing is removed. Run as a user who may read it, mount its disk, or \
         take a mirror that is gone off the list: {remove}",
        remove = suggest!("mirror remove NAME")
    )]
    Places(String),
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}
