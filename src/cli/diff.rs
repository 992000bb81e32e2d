//! `diff`: what changed between two snapshots, or since one.

use super::snapshot_argument::{DiffTarget, SnapshotArgument, SnapshotFilter};

/// Show what differs between two snapshots, or between a snapshot and live files
///
/// The second may be a directory of this machine, typed with a / in it: packstone diff latest:/home/a ./a
///
/// Signs: + added, - removed, M content changed, U metadata changed, T type changed.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// The first snapshot, or a part of it as ID:path
    #[arg(value_name = "SNAPSHOT[:PATH]")]
    pub from: SnapshotArgument,
    /// The second snapshot, or a directory of this machine
    #[arg(value_name = "SNAPSHOT[:PATH]|DIRECTORY")]
    pub to: DiffTarget,
    /// Show entries too of which only metadata differ
    #[arg(long)]
    pub metadata: bool,
    /// Which snapshots latest counts.
    #[command(flatten)]
    pub filter: SnapshotFilter,
}
