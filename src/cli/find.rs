//! `find`: files by name in all snapshots.

use super::clock;
use super::snapshot_argument::{SnapshotFilter, SnapshotRef};
use crate::base::time::Time;
use std::ffi::OsString;

/// Find files by name in snapshots
///
/// A pattern without / is compared with names, one with / with whole paths: * and ? and [...] stand for anything but /,
/// ** for any number of directories.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// What to look for
    #[arg(value_name = "PATTERN", required = true)]
    pub patterns: Vec<OsString>,
    /// Only in these snapshots (can be given multiple times)
    #[arg(short, long = "snapshot", value_name = "SNAPSHOT")]
    pub snapshots: Vec<SnapshotRef>,
    /// Which snapshots.
    #[command(flatten)]
    pub filter: SnapshotFilter,
    /// Only files modified at this time or later
    #[arg(short = 'O', long, value_name = "TIME", value_parser = clock::parse)]
    pub oldest: Option<Time>,
    /// Only files modified at this time or earlier
    #[arg(short = 'N', long, value_name = "TIME", value_parser = clock::parse)]
    pub newest: Option<Time>,
    /// Upper and lower case are the same
    #[arg(short, long)]
    pub ignore_case: bool,
    /// Show mode, owner, size and time
    #[arg(short, long)]
    pub long: bool,
    /// Show sizes with units
    #[arg(long)]
    pub human_readable: bool,
    /// Newest snapshots last
    #[arg(short = 'R', long)]
    pub reverse: bool,
}
