//! `restore`: from a snapshot to files.

use super::patterns::{ExcludeOptions, IncludeOptions};
use super::snapshot_argument::{SnapshotArgument, SnapshotFilter};
use std::path::PathBuf;

/// When a file that is there already is written over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Overwrite {
    /// Always; parts that are the same are not written
    #[default]
    Always,
    /// If size or modification time differ
    IfChanged,
    /// If the snapshot's file is newer
    IfNewer,
    /// Never
    Never,
}

/// Write files of a snapshot back
///
/// Nothing outside the target is ever changed. An interrupted restore is continued by the same command.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// The snapshot, or a part of it as ID:path; latest and latest~N count back from the newest
    #[arg(value_name = "SNAPSHOT[:PATH]")]
    pub snapshot: SnapshotArgument,
    /// Write into this directory, which is made if need be
    #[arg(short, long, value_name = "DIRECTORY")]
    pub target: PathBuf,
    /// What to take only.
    #[command(flatten)]
    pub include: IncludeOptions,
    /// What to leave out.
    #[command(flatten)]
    pub exclude: ExcludeOptions,
    /// Which snapshots latest counts.
    #[command(flatten)]
    pub filter: SnapshotFilter,
    /// When to write over a file that is there
    #[arg(long, value_name = "WHEN", value_enum, default_value_t, help_heading = "At the target")]
    pub overwrite: Overwrite,
    /// Remove what is in the target's directories but not in the snapshot
    #[arg(long, help_heading = "At the target")]
    pub delete: bool,
    /// Make long runs of zeros holes, whatever they were
    #[arg(long, help_heading = "At the target")]
    pub sparse: bool,
    /// Set owners by number, not by name
    #[arg(long, help_heading = "At the target")]
    pub numeric_owner: bool,
    /// Read everything back and compare
    #[arg(long, help_heading = "At the target")]
    pub verify: bool,
    /// Change nothing, only say what would be written
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}
