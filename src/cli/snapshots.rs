//! `snapshots`: the list of them.

use super::snapshot_argument::{GroupBy, SnapshotFilter, SnapshotRef};

/// List snapshots
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// Only these
    #[arg(value_name = "SNAPSHOT")]
    pub snapshots: Vec<SnapshotRef>,
    /// Which snapshots.
    #[command(flatten)]
    pub filter: SnapshotFilter,
    /// Only the newest N of each group (by host and paths unless --group-by is given)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub latest: Option<u32>,
    /// Show snapshots in groups with the same host, paths or tags
    #[arg(short, long, value_name = "LIST")]
    pub group_by: Option<GroupBy>,
    /// One short line each
    #[arg(short, long)]
    pub compact: bool,
}
