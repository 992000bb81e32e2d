//! `dump`: a file, or a directory as an archive, to the standard output.

use super::Context;
use super::exit::Exit;
use super::progress::Work;
use super::snapshot_argument::{SnapshotArgument, SnapshotFilter};
use crate::base::escape::escape;
use crate::ops;
use crate::tasks::dump::{self, Request};
use crate::tasks::failure::Failure;
use std::ffi::OsString;
use std::io::{self, IsTerminal};
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

impl Arguments {
    fn request(&self) -> Request {
        Request {
            snapshot: self.snapshot.clone(),
            path: self.path.as_ref().map(PathBuf::from),
            archive: match self.archive {
                Archive::Tar => ops::dump::Archive::Tar,
                Archive::TarGz => ops::dump::Archive::TarGz,
                Archive::TarZst => ops::dump::Archive::TarZst,
                Archive::Zip => ops::dump::Archive::Zip,
            },
            target: self.target.clone(),
            filter: self.filter.request(),
        }
    }
}

/// Runs the command.
///
/// # Errors
/// A usage error for an archive on a terminal; [`Exit::Damage`] when something cannot be read: what has been written to
/// the standard output by then is incomplete, and a target file is not made.
pub fn run(arguments: &Arguments, context: &mut Context) -> Result<Exit, Failure> {
    let request = arguments.request();
    let progress = context.progress(Work::Other);
    let planned = dump::plan(&request, &context.environment, &progress)?;
    if planned.is_directory() && request.target.is_none() && io::stdout().is_terminal() {
        return Err(Failure::usage(format!(
            "{} is a directory, and an archive is nothing for a terminal",
            escape(planned.path())
        ))
        .remedy("write it to a file with --target FILE, or into a pipe, for example to tar -t"));
    }
    let written = planned.execute(&progress, &mut io::stdout());
    progress.finish();
    written.map(|_| Exit::Success)
}
