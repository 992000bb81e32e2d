//! Write a file of a snapshot, or a directory as an archive: into a stream that the face gives, or into a file, which is refused where it
//! would lie in what is this program's own.

use super::environment::{Environment, own_places, repositories};
use super::failure::Failure;
use super::report_warnings;
use super::snapshot_filter::SnapshotFilter;
use crate::base::escape::escape;
use crate::files::own::OwnPlaces;
use crate::files::replaced_file::{self, ReplacedFile};
use crate::ops::dump::{self, Archive, DumpError, LeftOut, Plan, Renamed, Sink, Wanted};
use crate::ops::select::SnapshotArgument;
use crate::ops::{Monitor, Problem, Subject};
use crate::repository::Repository;
use crate::text::size;
use serde::Deserialize;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes that are gathered before they are written.
const BUFFER_BYTES: usize = 256 << 10;

/// What to write, and in which form.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Request {
    /// The snapshot, or a part of it.
    #[serde(deserialize_with = "super::text_form::value")]
    pub snapshot: SnapshotArgument,
    /// The file or directory within that part.
    pub path: Option<PathBuf>,
    /// How a directory is packed.
    pub archive: Archive,
    /// The file to write to; none for a stream.
    pub target: Option<PathBuf>,
    /// Which snapshots `latest` counts.
    pub filter: SnapshotFilter,
}

/// What was found.
#[derive(Debug)]
pub struct Planned<'a> {
    repository: Repository,
    plan: Plan,
    archive: Archive,
    /// The target, and what must not be written into.
    target: Option<(&'a Path, Arc<OwnPlaces>)>,
}

/// What was written.
#[derive(Debug, Default)]
pub struct Report {
    /// What the archive could not hold. The monitor was told of it.
    pub left_out: LeftOut,
}

/// Opens the repository and finds what is to be written.
///
/// # Errors
/// When the repository cannot be opened; when the snapshot or the path in it is not there, or has no content.
pub fn plan<'a>(
    request: &'a Request,
    environment: &Environment,
    monitor: &dyn Monitor,
) -> Result<Planned<'a>, Failure> {
    let repository = repositories::open_repository(environment, monitor, "dump")?;
    let wanted = Wanted {
        snapshot: request.snapshot.clone(),
        filter: request.filter.resolve(),
        path: request.path.as_ref().map(|path| path.as_os_str().as_bytes().to_vec()),
    };
    let target = request.target.as_deref();
    let target = target.map(|target| (target, own_places::places(environment, monitor, &repository)));
    let plan = dump::plan(&repository, &wanted)?;
    report_warnings(&repository, monitor);
    Ok(Planned { repository, plan, archive: request.archive, target })
}

impl Planned<'_> {
    /// True when it is a directory, and so becomes an archive.
    #[must_use]
    pub const fn is_directory(&self) -> bool {
        self.plan.is_directory()
    }

    /// Where it stands in the snapshot.
    #[must_use]
    pub fn path(&self) -> &[u8] {
        self.plan.path()
    }

    /// Writes it to the target of the request, which is made whole or not at all; without one, into `stream`.
    ///
    /// # Errors
    /// When something cannot be read: what has been written to the stream by then is incomplete. When the stream or the target cannot be
    /// written, or the target lies in what is this program's own.
    pub fn execute(&self, monitor: &dyn Monitor, stream: &mut dyn Write) -> Result<Report, Failure> {
        let mut left_out = LeftOut::default();
        let mut write = |to: &mut dyn Sink| {
            if self.plan.is_directory() {
                left_out = dump::archive(&self.repository, &self.plan, self.archive, &mut Plain(to), monitor)?;
                Ok(())
            } else {
                dump::file(&self.repository, &self.plan, to, monitor)
            }
        };
        let result = match &self.target {
            None => to_stream(stream, &mut write),
            Some((target, own)) => to_file(target, own, &mut write),
        };
        report_warnings(&self.repository, monitor);
        report_left_out(&left_out, monitor);
        result.map(|()| Report { left_out })
    }
}

fn report_left_out(left_out: &LeftOut, monitor: &dyn Monitor) {
    let warn = |message: &str| monitor.problem(&Problem::warning(Subject::Stored, message));
    for (path, why) in &left_out.named {
        warn(&format!("{} {why}", escape(path)));
    }
    let more = left_out.count - left_out.named.len() as u64;
    if more > 0 {
        let more = size::counted(more, "more entry", "more entries");
        warn(&format!("{more} could not be put into the archive"));
    }
    for Renamed { path, called, why } in &left_out.names {
        warn(&format!("{} is called {} in the archive: {why}", escape(path), escape(called)));
    }
    let more = left_out.renamed - left_out.names.len() as u64;
    if more > 0 {
        let more = size::counted(more, "more entry has", "more entries have");
        warn(&format!("{more} another name in the archive"));
    }
}

/// What writes it.
type Writing<'a> = dyn FnMut(&mut dyn Sink) -> Result<(), DumpError> + 'a;

fn fail(error: DumpError, hint: &str) -> Failure {
    match error {
        DumpError::Operation(error) => Failure::from(error).remedy(hint),
        DumpError::Output(error) => Failure::of_output(error),
    }
}

fn to_stream(to: impl Write, write: &mut Writing<'_>) -> Result<(), Failure> {
    let mut to = Stream(BufWriter::with_capacity(BUFFER_BYTES, to));
    write(&mut to).map_err(|error| fail(error, "what was written until then is incomplete"))
}

/// Writes beside the target and puts it in its place when it is whole; a device, a pipe or the like is written to as it
/// is.
fn to_file(target: &Path, own: &OwnPlaces, write: &mut Writing<'_>) -> Result<(), Failure> {
    let shown = escape(target.as_os_str().as_bytes());
    let refuse = |error: io::Error| Failure::failed(format!("the target {shown} cannot be written")).caused_by(error);
    let target = match fs::metadata(target) {
        Ok(metadata) if metadata.is_dir() => {
            return Err(Failure::failed(format!("the target {shown} is a directory: name a file in it")));
        }
        Ok(metadata) if !metadata.is_file() => {
            replaced_file::follow(target).map_err(refuse)?;
            let to = OpenOptions::new().write(true).open(target).map_err(refuse)?;
            if to.metadata().map_err(refuse)?.is_file() {
                return Err(refuse(io::Error::other("another file has taken its name meanwhile")));
            }
            return to_stream(to, write);
        }
        _ => replaced_file::follow(target).map_err(refuse)?,
    };
    own.refuse_within(&target)?;
    if target.file_name().is_none() {
        return Err(Failure::failed(format!("the target {shown} names no file")));
    }
    let (replaced, file) = ReplacedFile::begin(&target).map_err(refuse)?;
    let mut to = Target { file: BufWriter::with_capacity(BUFFER_BYTES, file), hole: false };
    write(&mut to).map_err(|error| match error {
        DumpError::Output(error) => refuse(error),
        error => fail(error, "the target was not made"),
    })?;
    let file = to.end().map_err(refuse)?;
    replaced.finish(&file).map_err(refuse)
}

/// A stream: holes are zeros.
struct Stream<W: Write>(BufWriter<W>);

impl<W: Write> Write for Stream<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl<W: Write> Sink for Stream<W> {}

/// A file: holes are holes.
struct Target {
    file: BufWriter<File>,
    /// The last thing was a hole, so the file's length is not yet what it will be.
    hole: bool,
}

impl Target {
    /// Gives the file its length and makes it durable.
    fn end(mut self) -> io::Result<File> {
        self.file.flush()?;
        let mut file = self.file.into_inner()?;
        if self.hole {
            let length = file.stream_position()?;
            file.set_len(length)?;
        }
        file.sync_all()?;
        Ok(file)
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_request_is_read_from_text() {
        let request: Request = serde_json::from_str(r#"{"snapshot": "latest:/a", "archive": "tar.gz"}"#).unwrap();
        assert_eq!((request.archive, request.target), (Archive::TarGz, None));
        assert_eq!(Request::default().archive, Archive::Tar);
    }
}
