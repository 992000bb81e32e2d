//! `stats`: how much there is.

use super::snapshot_argument::{SnapshotArgument, SnapshotFilter};

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Mode {
    /// What a restore of each snapshot would write
    #[default]
    RestoreSize,
    /// Files with the same content count once
    FilesByContents,
    /// What the repository stores for them
    RawData,
    /// What their chunks are, each counted once in each file
    BlobsPerFile,
}

/// Show how much data snapshots hold
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// Only these [default: all]
    #[arg(value_name = "SNAPSHOT[:PATH]")]
    pub snapshots: Vec<SnapshotArgument>,
    /// What to count
    #[arg(long, value_name = "MODE", value_enum, default_value_t)]
    pub mode: Mode,
    /// Which snapshots.
    #[command(flatten)]
    pub filter: SnapshotFilter,
}
