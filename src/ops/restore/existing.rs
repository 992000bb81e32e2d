//! What is in the target already: may it be written over, does it have the right content, may its inode stay?

use std::io;
use std::sync::Arc;

use super::Overwrite;
use super::compare::{self, CompareError, Verdict};
use super::deletion::{self, Stays};
use super::planner::{Planner, There};
use super::report::ProblemKind;
use crate::base::time::Time;
use crate::codec::tree::{Content, Metadata, Node};
use crate::files::metadata;
use crate::files::stat::{Kind, Stat};
use crate::files::target::{Made, TargetDirectory, TargetError};
use crate::files::xattr;
use crate::ops::{Action, Error, Item, Result};

/// What is under a name that may be written to.
pub(super) enum Existing {
    Nothing,
    /// A directory, which is removed first.
    Obstacle,
    Other(Arc<TargetDirectory>, Stat),
}

pub(super) enum Keep {
    /// Nothing needs to be done.
    AsItIs,
    /// Its metadata is set.
    Adjusted,
    /// It has other names: a new inode takes its place.
    No,
}

pub(super) fn is_same_special(directory: &TargetDirectory, name: &[u8], stat: &Stat, node: &Node) -> bool {
    match (stat.kind, node) {
        (Kind::Symlink, Node::Symlink { target }) => {
            directory.as_directory().read_link(name).is_ok_and(|found| found == *target)
        }
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

impl Planner<'_> {
    /// What is under a name in the target, if the rules allow that something is written there. `None`: it is left.
    pub(super) fn existing(&mut self, path: &[u8], name: &[u8], mtime: Time, size: u64) -> Result<Option<Existing>> {
        let There::Directory(directory) = self.there() else { return Ok(Some(Existing::Nothing)) };
        let stat = match directory.stat(name) {
            Ok(None) => return Ok(Some(Existing::Nothing)),
            Ok(Some(stat)) => stat,
            Err(error) => {
                self.problem(path, ProblemKind::Target, error.to_string());
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
            let seen_in = match directory.as_directory().stat_self() {
                Ok(stat) => Made::of(&stat),
                Err(error) => {
                    self.problem(path, ProblemKind::Target, error.to_string());
                    return Ok(None);
                }
            };
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

    /// Whether a file that is there has the content already.
    pub(super) fn has_content(
        &mut self,
        path: &[u8],
        directory: &TargetDirectory,
        name: &[u8],
        stat: &Stat,
        metadata: &Metadata,
        content: &Content,
    ) -> Result<bool> {
        if stat.kind != Kind::File || stat.size != content.size {
            return Ok(false);
        }
        if self.options.overwrite == Overwrite::IfChanged && stat.mtime == metadata.mtime {
            return Ok(true);
        }
        match compare::content(self.repository, directory.as_directory(), name, content) {
            Ok(verdict) => Ok(verdict == Verdict::Same),
            Err(CompareError::Repository(error)) if error.is_unavailable() => Err(Error::at(path, error)),
            // What cannot be read is written again; what the repository lacks is found out below.
            Err(CompareError::Read(_) | CompareError::Repository(_)) => {
                self.monitor.item(&Item::new(path, Action::Started));
                Ok(false)
            }
        }
    }

    /// Whether an inode that has the right content may stay. One with other names is never changed.
    pub(super) fn keep(&mut self, directory: &TargetDirectory, name: &[u8], stat: &Stat, metadata: &Metadata) -> Keep {
        if stat.links <= 1 {
            return Keep::Adjusted;
        }
        if metadata.links <= 1 || self.claimed.contains(&stat.key()) {
            return Keep::No;
        }
        let is_same = (stat.mode, stat.uid, stat.gid, stat.mtime)
            == (metadata.mode, metadata.uid, metadata.gid, metadata.mtime)
            && self.has_attributes(directory, name, stat, metadata);
        if is_same { Keep::AsItIs } else { Keep::No }
    }

    fn has_attributes(&self, directory: &TargetDirectory, name: &[u8], stat: &Stat, metadata: &Metadata) -> bool {
        use std::os::fd::AsFd;
        let directory = directory.as_directory();
        let captured = match (stat.kind, directory.open_file(name)) {
            (Kind::File, Ok(file)) => {
                metadata::capture(&xattr::Place::Open(file.as_fd()), stat, metadata.device, &self.owners)
            }
            (Kind::File, Err(_)) => return false,
            _ => metadata::capture(&xattr::Place::Named(directory, name), stat, metadata.device, &self.owners),
        };
        captured.is_ok_and(|captured| {
            captured.problems.is_empty()
                && captured.metadata.xattrs == metadata.xattrs
                && captured.metadata.flags == metadata.flags
        })
    }
}
