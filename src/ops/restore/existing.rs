//! What is in the target already: may it be written over, does it have the right content, may its inode stay? The last
//! question is [`crate::files::keep`]'s.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::Overwrite;
use super::compare::{self, CompareError, Verdict};
use super::deletion::{self, Stays};
use super::planner::{Planner, There};
use super::report::ProblemKind;
use crate::base::escape::escape;
use crate::base::shortage::is_shortage;
use crate::base::time::Time;
use crate::codec::tree::{Content, Metadata, Node};
use crate::files::keep::{Candidate, raises};
use crate::files::made::Seen;
use crate::files::own::OwnError;
use crate::files::stat::{Kind, Stat};
use crate::files::target::{TargetDirectory, TargetError};
use crate::ops::{Action, Error, Item, Result};

/// What is under a name that may be written to.
pub(super) enum Existing {
    Nothing,
    /// A directory, which is removed first.
    Obstacle,
    Other(Arc<TargetDirectory>, Stat),
}

/// What becomes of an inode that is there.
pub(super) enum Keep {
    /// Nothing needs to be done.
    AsItIs(Seen),
    /// Its metadata is set, if it is still what was seen.
    Adjusted(Seen),
    /// A new inode takes its place.
    No,
}

/// Whether it is of that kind, and leads where the snapshot says.
pub(super) fn is_same_special(candidate: &Candidate, node: &Node) -> bool {
    let stat = candidate.stat();
    match (stat.kind, node) {
        (Kind::Symlink, Node::Symlink { target }) => candidate.link_target().is_some_and(|found| found == *target),
        (Kind::Fifo, Node::Fifo) | (Kind::Socket, Node::Socket) => true,
        (Kind::CharacterDevice, Node::CharacterDevice { major, minor })
        | (Kind::BlockDevice, Node::BlockDevice { major, minor }) => stat.rdev == (*major, *minor),
        _ => false,
    }
}

/// A sentence about something in the target.
pub(super) fn target_message(error: &TargetError) -> String {
    match error {
        TargetError::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
            format!("{error}; run as the owner or as root")
        }
        _ => error.to_string(),
    }
}

/// The failure that ends a restore, when it says nothing of the path but that this process has run out of something.
pub(super) fn shortage(path: &[u8], error: &TargetError) -> Option<Error> {
    match error {
        TargetError::Io { source, .. } if is_shortage(source) => {
            let source = source.raw_os_error().map_or_else(|| source.kind().into(), io::Error::from_raw_os_error);
            Some(Error::Shortage { path: path.to_vec(), source })
        }
        _ => None,
    }
}

/// The target is, or lies in, what nothing is restored into; or nobody can say.
pub(super) fn own_error(target: &Path, error: OwnError) -> Error {
    match error {
        OwnError::Unknown { source, .. } if is_shortage(&source) => {
            Error::Shortage { path: target.as_os_str().as_encoded_bytes().to_vec(), source }
        }
        error => Error::Refused(format!("the target: {error}")),
    }
}

/// The target is there, and is no directory or cannot be opened.
pub(super) fn target_error(target: &Path, error: io::Error) -> Error {
    let path = escape(target.as_os_str().as_encoded_bytes());
    match error.kind() {
        io::ErrorKind::NotADirectory => {
            Error::Conflict(format!("the target {path} is no directory: name one, or a new place"))
        }
        _ => Error::System { what: format!("the target {path} cannot be opened"), source: error },
    }
}

impl Planner<'_> {
    /// The target did not let us look at a path.
    pub(super) fn target_problem(&mut self, path: &[u8], error: &TargetError) -> Result<()> {
        match shortage(path, error) {
            Some(shortage) => Err(shortage),
            None => {
                self.problem(path, ProblemKind::Target, error.to_string());
                Ok(())
            }
        }
    }

    /// What is under a name in the target, if the rules allow that something is written there. `None`: it is left.
    pub(super) fn existing(&mut self, path: &[u8], name: &[u8], mtime: Time, size: u64) -> Result<Option<Existing>> {
        let There::Directory(directory) = self.there() else { return Ok(Some(Existing::Nothing)) };
        let stat = match directory.stat(name) {
            Ok(None) => return Ok(Some(Existing::Nothing)),
            Ok(Some(stat)) => stat,
            Err(error) => {
                self.target_problem(path, &error)?;
                return Ok(None);
            }
        };
        let skip = match self.options.overwrite {
            Overwrite::Never => true,
            Overwrite::IfNewer => stat.mtime >= mtime,
            Overwrite::Always | Overwrite::IfChanged => false,
        };
        if skip {
            self.report.skipped += 1;
            self.report.skipped_bytes += size;
            self.monitor.item(&Item { size, ..Item::new(path, Action::Skipped) });
            return Ok(None);
        }
        if stat.kind == Kind::Directory {
            let is_empty =
                || directory.directory(name).ok().and_then(|inner| inner.names().ok()?.is_empty().then_some(()));
            if !self.options.delete && is_empty().is_none() {
                let message = "a directory that is not empty is in the way; --delete removes it".to_owned();
                self.problem(path, ProblemKind::Target, message);
                return Ok(None);
            }
            let seen_in = directory.made();
            let place = self.place(name)?;
            let why = match deletion::examine(self.options, &directory, name, path, place, seen_in)? {
                Ok(deletion) => {
                    self.obstacles.push(deletion);
                    return Ok(Some(Existing::Obstacle));
                }
                Err(Stays::LeftOut) => "holds what is left out".to_owned(),
                Err(Stays::Owned(owner)) => format!("is, or holds, {owner}"),
                Err(Stays::Unknown(why)) => format!("cannot be looked at: {why}"),
            };
            self.problem(path, ProblemKind::Target, format!("a directory is in the way that {why}"));
            return Ok(None);
        }
        Ok(Some(Existing::Other(directory, stat)))
    }

    /// What becomes of a file that is there. It is only read when it may be kept.
    pub(super) fn keep_file(
        &mut self,
        path: &[u8],
        name: &[u8],
        existing: &Existing,
        metadata: &Metadata,
        content: &Content,
    ) -> Result<Keep> {
        let Existing::Other(directory, stat) = existing else { return Ok(Keep::No) };
        if stat.kind != Kind::File || stat.size != content.size {
            return Ok(Keep::No);
        }
        let Some(mut candidate) = directory.candidate(name, Kind::File) else { return Ok(Keep::No) };
        if candidate.stat().size != content.size || candidate.doubt(metadata, &self.applier, directory).is_some() {
            return Ok(Keep::No);
        }
        // The rule that goes by size and time does not read, unless the content would get rights of its own.
        let believes = self.options.overwrite == Overwrite::IfChanged && candidate.stat().mtime == metadata.mtime;
        if !believes || raises(metadata) {
            let same = match candidate.file().try_clone_to_owned() {
                Ok(file) => compare::content(self.repository, &File::from(file), content, &mut |_| ()),
                Err(error) => Err(CompareError::Read(error)),
            };
            match same {
                Ok(Verdict::Same) => {}
                Ok(Verdict::Differs(_) | Verdict::WrongDigest) => return Ok(Keep::No),
                Err(CompareError::Repository(error)) if error.is_unavailable() => return Err(Error::at(path, error)),
                Err(CompareError::Read(source)) if is_shortage(&source) => {
                    return Err(Error::Shortage { path: path.to_vec(), source });
                }
                // What cannot be read is written again; what the repository lacks is found out below.
                Err(CompareError::Read(_) | CompareError::Repository(_)) => {
                    self.monitor.item(&Item::new(path, Action::Started));
                    return Ok(Keep::No);
                }
            }
        }
        Ok(self.kept(&candidate, metadata))
    }

    /// What becomes of a symbolic link, pipe, socket or device that is there.
    pub(super) fn keep_special(&self, name: &[u8], existing: &Existing, metadata: &Metadata, node: &Node) -> Keep {
        let Existing::Other(directory, stat) = existing else { return Keep::No };
        let Some(mut candidate) = directory.candidate(name, stat.kind) else { return Keep::No };
        if !is_same_special(&candidate, node) || candidate.doubt(metadata, &self.applier, directory).is_some() {
            return Keep::No;
        }
        self.kept(&candidate, metadata)
    }

    /// Of an inode that may be kept and holds the right content. One with other names is never changed, and one that gives rights
    /// to whoever runs it is right in everything or made anew.
    fn kept(&self, candidate: &Candidate, metadata: &Metadata) -> Keep {
        let stat = candidate.stat();
        let alone = stat.links <= 1;
        if !alone && (metadata.links <= 1 || self.claimed.contains(&stat.key())) {
            return Keep::No;
        }
        let is_right = candidate.is_right(metadata, &self.applier);
        match candidate.seen() {
            Some(seen) if is_right => Keep::AsItIs(seen),
            Some(seen) if alone && !raises(metadata) => Keep::Adjusted(seen),
            _ => Keep::No,
        }
    }
}
