//! How snapshots are named and chosen on the command line: `latest`, `latest~N`, an id or its beginning, each with
//! `:path` behind it where a part is meant; and the filters `--host`, `--tag` and `--path`.

pub use crate::ops::select::{GroupBy, SnapshotArgument, SnapshotRef, TagList};

use crate::ops::select::Filter;
use crate::tasks::snapshot_filter;
use clap::builder::{OsStringValueParser, TypedValueParser, ValueParserFactory};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

impl ValueParserFactory for SnapshotArgument {
    type Parser = clap::builder::ValueParser;

    fn value_parser() -> Self::Parser {
        OsStringValueParser::new().try_map(Self::parse).into()
    }
}

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

impl ValueParserFactory for DiffTarget {
    type Parser = clap::builder::ValueParser;

    fn value_parser() -> Self::Parser {
        OsStringValueParser::new().try_map(Self::parse).into()
    }
}

/// Which snapshots are meant. Without a filter, all.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct SnapshotFilter {
    /// Only snapshots of this host (can be given multiple times: any of them)
    #[arg(
        short = 'H',
        long = "host",
        value_name = "HOST",
        env = "PACKSTONE_HOST",
        help_heading = "Choosing snapshots"
    )]
    pub hosts: Vec<String>,
    /// Only snapshots with all of these tags, separated by commas (can be given multiple times: any of the lists)
    #[arg(long = "tag", value_name = "TAG[,TAG...]", help_heading = "Choosing snapshots")]
    pub tags: Vec<TagList>,
    /// Only snapshots of this path (can be given multiple times: all of them)
    #[arg(long = "path", value_name = "PATH", help_heading = "Choosing snapshots")]
    pub paths: Vec<PathBuf>,
}

impl SnapshotFilter {
    /// The same as a part of a request.
    #[must_use]
    pub fn request(&self) -> snapshot_filter::SnapshotFilter {
        snapshot_filter::SnapshotFilter {
            hosts: self.hosts.clone(),
            tags: self.tags.clone(),
            paths: self.paths.clone(),
        }
    }

    /// What was meant: relative paths begin in the current directory, and snapshots hold absolute ones.
    #[must_use]
    pub fn resolve(&self) -> Filter {
        self.request().resolve()
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
}
