//! `dump`: a file, or a directory as an archive, to the standard output.

use super::Context;
use super::exit::Exit;
use super::progress::Work;
use super::snapshot_argument::{SnapshotArgument, SnapshotFilter};
use super::watch::tell_warnings;
use crate::base::escape::escape;
use crate::base::private;
use crate::files::own::OwnPlaces;
use crate::ops::dump::{self, DumpError, LeftOut, Sink, Wanted};
use crate::tasks::environment::{own_places, repositories};
use crate::tasks::failure::Failure;
use crate::text::size;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, IsTerminal, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

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

/// Bytes that are gathered before they are written.
const BUFFER_BYTES: usize = 256 << 10;

/// Runs the command.
///
/// # Errors
/// A usage error for an archive on a terminal; [`Exit::Damage`] when something cannot be read: what has been written to
/// the standard output by then is incomplete, and a target file is not made.
pub fn run(arguments: &Arguments, context: &mut Context) -> Result<Exit, Failure> {
    let repository = repositories::open_repository(&context.environment, &context.watch(), "dump")?;
    let wanted = Wanted {
        snapshot: arguments.snapshot.clone(),
        filter: arguments.filter.resolve(),
        path: arguments.path.as_ref().map(|path| path.as_bytes().to_vec()),
    };
    let own =
        arguments.target.is_some().then(|| own_places::places(&context.environment, &context.watch(), &repository));
    let plan = dump::plan(&repository, &wanted)?;
    tell_warnings(&repository, context.output);
    if plan.is_directory() && arguments.target.is_none() && io::stdout().is_terminal() {
        return Err(Failure::usage(format!(
            "{} is a directory, and an archive is nothing for a terminal",
            escape(plan.path())
        ))
        .remedy("write it to a file with --target FILE, or into a pipe, for example to tar -t"));
    }
    let form = match arguments.archive {
        Archive::Tar => dump::Archive::Tar,
        Archive::TarGz => dump::Archive::TarGz,
        Archive::TarZst => dump::Archive::TarZst,
        Archive::Zip => dump::Archive::Zip,
    };
    let progress = context.progress(Work::Other);
    let mut left_out = LeftOut::default();
    let mut write = |to: &mut dyn Sink| {
        if plan.is_directory() {
            left_out = dump::archive(&repository, &plan, form, &mut Plain(to), &progress)?;
            Ok(())
        } else {
            dump::file(&repository, &plan, to, &progress)
        }
    };
    let result = match &arguments.target {
        None => {
            let mut stdout = Stdout(BufWriter::with_capacity(BUFFER_BYTES, io::stdout().lock()));
            write(&mut stdout).map_err(|error| fail(error, "what was written until then is incomplete"))
        }
        Some(target) => to_file(target, own.as_deref(), &mut write),
    };
    progress.finish();
    tell_warnings(&repository, context.output);
    for (path, why) in &left_out.named {
        context.output.warn(&format!("{} {why}", escape(path)));
    }
    let more = left_out.count - left_out.named.len() as u64;
    if more > 0 {
        let more = size::counted(more, "more entry", "more entries");
        context.output.warn(&format!("{more} could not be put into the archive"));
    }
    result.map(|()| Exit::Success)
}

fn fail(error: DumpError, hint: &str) -> Failure {
    match error {
        DumpError::Operation(error) => Failure::from(error).remedy(hint),
        DumpError::Output(error) => super::output::failed(error),
    }
}

/// Writes beside the target and puts it in its place when it is whole; a device, a pipe or the like is written to as it
/// is.
fn to_file(
    target: &Path,
    own: Option<&OwnPlaces>,
    write: &mut dyn FnMut(&mut dyn Sink) -> Result<(), DumpError>,
) -> Result<(), Failure> {
    let shown = escape(target.as_os_str().as_bytes());
    let refuse = |error: io::Error| Failure::failed(format!("the target {shown} cannot be written")).caused_by(error);
    let target = match fs::metadata(target) {
        Ok(metadata) if metadata.is_dir() => {
            return Err(Failure::failed(format!("the target {shown} is a directory: name a file in it")));
        }
        Ok(metadata) if !metadata.is_file() => {
            let file = OpenOptions::new().write(true).open(target).map_err(refuse)?;
            let mut to = Stdout(BufWriter::with_capacity(BUFFER_BYTES, file));
            return write(&mut to).map_err(|error| fail(error, "what was written until then is incomplete"));
        }
        Ok(_) => fs::canonicalize(target).map_err(refuse)?,
        Err(_) => target.to_path_buf(),
    };
    if let Some(own) = own {
        own.refuse_within(&target)?;
    }
    let Some(name) = target.file_name() else {
        return Err(Failure::failed(format!("the target {shown} names no file")));
    };
    let mut temporary = OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".packstone-{}", private::random_digits().map_err(|error| refuse(error.into()))?));
    let temporary = target.with_file_name(temporary);
    let file = OpenOptions::new().write(true).create_new(true).open(&temporary).map_err(refuse)?;
    let mut to = Target { file: BufWriter::with_capacity(BUFFER_BYTES, file), hole: false };
    let written = write(&mut to)
        .map_err(|error| match error {
            DumpError::Output(error) => refuse(error),
            error => fail(error, "the target was not made"),
        })
        .and_then(|()| to.end().map_err(refuse))
        .and_then(|()| fs::rename(&temporary, &target).map_err(refuse));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// A stream: holes are zeros.
struct Stdout<W: Write>(BufWriter<W>);

impl<W: Write> Write for Stdout<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl<W: Write> Sink for Stdout<W> {}

/// A file: holes are holes.
struct Target {
    file: BufWriter<File>,
    /// The last thing was a hole, so the file's length is not yet what it will be.
    hole: bool,
}

impl Target {
    /// Gives the file its length and makes it durable.
    fn end(mut self) -> io::Result<()> {
        self.file.flush()?;
        let mut file = self.file.into_inner()?;
        if self.hole {
            let length = file.stream_position()?;
            file.set_len(length)?;
        }
        file.sync_all()
    }
}

impl Write for Target {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.hole = false;
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Sink for Target {
    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        let bytes = i64::try_from(bytes).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
        self.file.seek(SeekFrom::Current(bytes))?;
        self.hole = true;
        Ok(())
    }
}

/// A sink as a plain writer.
struct Plain<'a>(&'a mut dyn Sink);

impl Write for Plain<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
