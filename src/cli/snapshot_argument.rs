//! How snapshots are named and chosen on the command line: `latest`, `latest~N`, an id or its beginning, each with
//! `:path` behind it where a part is meant; and the filters `--host`, `--tag` and `--path`.

pub use crate::ops::select::{GroupBy, SnapshotArgument, SnapshotRef, TagList};
pub use crate::tasks::diff::DiffTarget;

use crate::ops::select::Filter;
use crate::tasks::snapshot_filter;
use clap::builder::{OsStringValueParser, TypedValueParser, ValueParserFactory};
use std::path::PathBuf;

impl ValueParserFactory for SnapshotArgument {
    type Parser = clap::builder::ValueParser;

    fn value_parser() -> Self::Parser {
        OsStringValueParser::new().try_map(Self::parse).into()
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
