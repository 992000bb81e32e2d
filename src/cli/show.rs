//! `show`: everything about one snapshot but its files.

use super::snapshot_argument::{SnapshotFilter, SnapshotRef};

/// Show a snapshot's facts and notes
///
/// Notes say what could not be read, and what changed while it was read.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// The snapshot; latest and latest~N count back from the newest
    #[arg(value_name = "SNAPSHOT")]
    pub snapshot: SnapshotRef,
    /// Which snapshots latest counts.
    #[command(flatten)]
    pub filter: SnapshotFilter,
}
