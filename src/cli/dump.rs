//! `dump`: a file, or a directory as an archive, to the standard output.

use super::snapshot_argument::{SnapshotArgument, SnapshotFilter};
use std::ffi::OsString;
use std::path::PathBuf;

/// The form of an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Archive {
    /// tar
    #[default]
    Tar,
    /// tar, compressed with gzip
    #[value(name = "tar.gz", alias = "tgz")]
    TarGz,
    /// tar, compressed with zstd
    #[value(name = "tar.zst", alias = "tzst")]
    TarZst,
    /// zip
    Zip,
}

/// Write a file of a snapshot, or a directory as an archive, to the standard output
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// The snapshot, or a part of it as ID:path; latest and latest~N count back from the newest
    #[arg(value_name = "SNAPSHOT[:PATH]")]
    pub snapshot: SnapshotArgument,
    /// The file or directory, when it is not given behind the colon
    #[arg(value_name = "PATH")]
    pub path: Option<OsString>,
    /// How a directory is packed
    #[arg(short, long, value_name = "FORM", value_enum, default_value_t)]
    pub archive: Archive,
    /// Write to this file instead
    #[arg(short, long, value_name = "FILE")]
    pub target: Option<PathBuf>,
    /// Which snapshots latest counts.
    #[command(flatten)]
    pub filter: SnapshotFilter,
}
