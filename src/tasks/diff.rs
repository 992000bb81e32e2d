//! Show what differs between two snapshots, or between a snapshot and live files.

use super::environment::{Environment, own_places, repositories};
use super::failure::{Failure, Kind};
use super::report_warnings;
use super::snapshot_filter::SnapshotFilter;
use crate::base::id::ObjectId;
use crate::ops::Monitor;
use crate::ops::diff::{self, Change, Side, Statistics, live};
use crate::ops::select::SnapshotArgument;
use crate::repository::Repository;
use crate::text::size;
use serde::Deserialize;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The second side of a comparison: another snapshot, or live files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiffTarget {
    /// A snapshot or a part of one.
    Snapshot(SnapshotArgument),
    /// A directory of this machine.
    Live(PathBuf),
}

impl DiffTarget {
    /// What parses as a snapshot is one; anything else that holds a `/` or begins with a `.` is a path. A directory
    /// called `latest` or `ab` is typed as `./ab`.
    ///
    /// # Errors
    /// A sentence for the command line.
    pub fn parse(text: OsString) -> Result<Self, String> {
        match SnapshotArgument::parse(text.clone()) {
            Ok(snapshot) => Ok(Self::Snapshot(snapshot)),
            Err(why) => {
                let bytes = text.into_vec();
                if bytes.contains(&b'/') || bytes.first() == Some(&b'.') {
                    Ok(Self::Live(PathBuf::from(OsString::from_vec(bytes))))
                } else {
                    Err(format!("{why}, or a path with a / in it such as ./directory"))
                }
            }
        }
    }
}

impl FromStr for DiffTarget {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::parse(text.into())
    }
}

/// What to compare. Both sides have to be named.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Request {
    /// The first snapshot, or a part of it.
    #[serde(deserialize_with = "super::text_form::value")]
    pub from: SnapshotArgument,
    /// The second snapshot, or a directory of this machine.
    #[serde(deserialize_with = "super::text_form::value")]
    pub to: DiffTarget,
    /// Entries too of which only metadata differ.
    #[serde(default)]
    pub metadata: bool,
    /// Read live files and compare what is in them.
    #[serde(default)]
    pub content: bool,
    /// Count the chunks of two snapshots, which may read listings that are the same on both sides.
    #[serde(default)]
    pub count_chunks: bool,
    /// Which snapshots `latest` counts.
    #[serde(default)]
    pub filter: SnapshotFilter,
}

/// The second side, found.
#[derive(Debug)]
enum To<'a> {
    Snapshot(Box<Side>),
    Live(&'a Path),
}

/// What the first side is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compared<'a> {
    /// This snapshot, or a part of it.
    Snapshot(ObjectId),
    /// This directory or file of this machine.
    Live(&'a Path),
}

/// Both sides, found.
#[derive(Debug)]
pub struct Planned<'a> {
    request: &'a Request,
    repository: Repository,
    from: Side,
    to: To<'a>,
}

/// What the differences add up to.
#[derive(Debug)]
pub struct Report {
    /// The figures. Against live files no chunks are counted.
    pub statistics: Statistics,
    /// Why the result is not complete. A face shows this after the result.
    pub incomplete: Option<Failure>,
}

impl Report {
    /// How it ends.
    #[must_use]
    pub fn kind(&self) -> Option<Kind> {
        self.incomplete.as_ref().map(Failure::kind)
    }
}

/// Opens the repository and finds what is to be compared.
///
/// # Errors
/// A usage error for contents of two snapshots, which are always compared; when the repository cannot be opened or a snapshot is not
/// there.
pub fn plan<'a>(
    request: &'a Request,
    environment: &Environment,
    monitor: &dyn Monitor,
) -> Result<Planned<'a>, Failure> {
    if request.content && !matches!(request.to, DiffTarget::Live(_)) {
        return Err(Failure::usage("--content reads live files: two snapshots are always compared by content"));
    }
    let repository = repositories::open_repository(environment, monitor, "diff")?;
    let filter = request.filter.resolve();
    let from = diff::side(&repository, &request.from, &filter)?;
    let to = match &request.to {
        DiffTarget::Snapshot(to) => To::Snapshot(Box::new(diff::side(&repository, to, &filter)?)),
        DiffTarget::Live(path) => To::Live(path),
    };
    report_warnings(&repository, monitor);
    Ok(Planned { request, repository, from, to })
}

impl Planned<'_> {
    /// The first snapshot.
    #[must_use]
    pub const fn from(&self) -> ObjectId {
        self.from.chosen.id
    }

    /// What it is compared with.
    #[must_use]
    pub fn to(&self) -> Compared<'_> {
        match &self.to {
            To::Snapshot(side) => Compared::Snapshot(side.chosen.id),
            To::Live(path) => Compared::Live(path),
        }
    }

    /// Hands every difference to `show`, in the order of paths, and counts.
    ///
    /// # Errors
    /// When a directory would be compared with something else, or something stored cannot be read: then what was shown is not everything;
    /// what `show` returns. Live files that cannot be read are no failure but in [`Report::incomplete`].
    pub fn execute(
        &self,
        environment: &Environment,
        monitor: &dyn Monitor,
        show: &mut dyn FnMut(Change) -> Result<(), Failure>,
    ) -> Result<Report, Failure> {
        let Self { request, repository, from, to } = self;
        match to {
            To::Snapshot(to) => {
                let (sides, counted) = ((from, &**to), request.count_chunks);
                let statistics = diff::execute(repository, sides, request.metadata, counted, show, monitor)?;
                Ok(Report { statistics, incomplete: None })
            }
            To::Live(path) => {
                let options = live::Options {
                    metadata: request.metadata,
                    content: request.content,
                    own: own_places::places(environment, monitor, repository),
                };
                let live::Report { statistics, unreadable } =
                    live::execute(repository, from, path, &options, show, monitor)?;
                let incomplete = (unreadable > 0).then(|| {
                    let files = size::counted(unreadable, "file", "files");
                    Failure::failed(format!("{files} cannot be read: what is shown above is not everything"))
                });
                Ok(Report { statistics, incomplete })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_path_is_told_from_a_snapshot() {
        assert!(matches!(DiffTarget::parse("ab:dir/x".into()), Ok(DiffTarget::Snapshot(_))));
        assert!(matches!(DiffTarget::parse("latest~1".into()), Ok(DiffTarget::Snapshot(_))));
        assert_eq!(DiffTarget::parse("./ab".into()), Ok(DiffTarget::Live("./ab".into())));
        assert_eq!(DiffTarget::parse("/etc:old".into()), Ok(DiffTarget::Live("/etc:old".into())));
        assert_eq!(DiffTarget::parse(".".into()), Ok(DiffTarget::Live(".".into())));
        assert!(DiffTarget::parse("Documents".into()).unwrap_err().contains("./directory"));
        let odd = OsString::from_vec(b"/caf\xe9".to_vec());
        assert_eq!(DiffTarget::parse(odd.clone()), Ok(DiffTarget::Live(odd.into())));
    }

    #[test]
    fn both_sides_have_to_be_named() {
        let request: Request = serde_json::from_str(r#"{"from": "latest~1", "to": "/home"}"#).unwrap();
        assert_eq!(request.to, DiffTarget::Live("/home".into()));
        assert!(serde_json::from_str::<Request>(r#"{"from": "latest"}"#).is_err());
    }
}
