//! `ls`: the files of a snapshot.

use super::snapshot_argument::{SnapshotArgument, SnapshotFilter};
use std::ffi::OsString;

/// What entries are put in order by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Sort {
    /// Path
    #[default]
    Name,
    /// Size
    Size,
    /// Modification time
    #[value(alias = "mtime")]
    Time,
    /// Change time
    Ctime,
    /// Extension
    Extension,
}

/// List files of a snapshot
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// The snapshot, or a part of it as ID:path; latest and latest~N count back from the newest
    #[arg(value_name = "SNAPSHOT[:PATH]")]
    pub snapshot: SnapshotArgument,
    /// Only what is in these directories
    #[arg(value_name = "DIRECTORY")]
    pub directories: Vec<OsString>,
    /// Which snapshots latest counts.
    #[command(flatten)]
    pub filter: SnapshotFilter,
    /// Show mode, owner, size and time
    #[arg(short, long)]
    pub long: bool,
    /// Show what is in the given directories' directories too
    #[arg(long)]
    pub recursive: bool,
    /// Show sizes with units
    #[arg(long)]
    pub human_readable: bool,
    /// Order
    #[arg(short, long, value_name = "BY", value_enum, default_value_t)]
    pub sort: Sort,
    /// The other way round
    #[arg(long)]
    pub reverse: bool,
}
