//! The second stage: reading, cutting and hashing files, several at the same time.

use std::os::fd::AsFd;

use crossbeam_channel::{Receiver, Sender};

use super::group::{Finished, Item, Job, JobQueue, Piece};
use crate::base::shortage::is_shortage;
use crate::base::time::Time;
use crate::codec::chunker::{Cutter, Parameters};
use crate::codec::key_tree::{ChunkKind, KeyTree};
use crate::codec::snapshot::ProblemKind;
use crate::files::metadata::{self, Captured};
use crate::files::owner::Owners;
use crate::files::read::{OpenError, Reader};
use crate::files::stat::Stat;
use crate::files::xattr::Place;
use crate::ops::Monitor;

/// A piece is handed on when it holds this many bytes.
const PIECE_BYTES: usize = 512 << 10;
/// At most so many bytes are read at once.
const READ_BYTES: usize = 1 << 20;
/// A buffer that has grown beyond this (a chunk may be several megabytes) is not used again.
const BUFFER_BYTES_MAX: usize = 2 << 20;

/// Works on groups until there are no more.
pub(super) fn files(
    keys: &KeyTree,
    parameters: Parameters,
    owners: &Owners,
    monitor: &dyn Monitor,
    queue: &JobQueue,
    buffers: &Receiver<Vec<u8>>,
) {
    // A config with parameters that cannot cut is refused when the repository is opened.
    let Ok(cutter) = Cutter::new(keys.gear(), parameters) else { return };
    for jobs in queue {
        let mut reading =
            Reading { keys, owners, monitor, buffers, pieces: &jobs.pieces, data: Vec::new(), items: Vec::new() };
        for job in &jobs.files {
            if reading.file(&cutter, job).is_err() {
                break;
            }
        }
        let _ = reading.hand_on(0);
    }
}

/// How often a name is looked at under which nothing keeps still.
const LOOKS_MAX: usize = 8;

/// What was found under the name of a file to read.
enum Opened {
    File(Box<Reader>),
    /// Something else, or nothing: what is said of it.
    Special(Item),
}

/// A file that the system does not let us read, or a process that can read nothing more.
fn unreadable(error: std::io::Error) -> Item {
    if is_shortage(&error) {
        return Item::Shortage { source: error };
    }
    Item::Failed { kind: ProblemKind::Unreadable, message: error.to_string() }
}

/// True for a file that was made since the run began and changed after the round's cut.
fn is_newer(stat: &Stat, (cut, began): (Time, Time)) -> bool {
    stat.ctime > cut && stat.btime.is_some_and(|birth| birth >= began)
}

/// Nobody wants the pieces any more: the run has failed elsewhere.
struct Unwanted;

struct Reading<'a> {
    keys: &'a KeyTree,
    owners: &'a Owners,
    monitor: &'a dyn Monitor,
    buffers: &'a Receiver<Vec<u8>>,
    pieces: &'a Sender<Piece>,
    data: Vec<u8>,
    items: Vec<Item>,
}

impl Reading<'_> {
    /// Hands on what lies before `keep_from`; the rest stays for the next piece.
    fn hand_on(&mut self, keep_from: usize) -> Result<(), Unwanted> {
        let mut data = std::mem::take(&mut self.data);
        let items = std::mem::take(&mut self.items);
        if keep_from < data.len() && keep_from > 0 {
            self.data = self.buffer();
            self.data.extend_from_slice(&data[keep_from..]);
            data.truncate(keep_from);
        }
        if items.is_empty() {
            return Ok(());
        }
        self.pieces.send(Piece { data, items }).map_err(|_| Unwanted)
    }

    fn buffer(&self) -> Vec<u8> {
        match self.buffers.try_recv() {
            Ok(mut buffer) if buffer.capacity() <= BUFFER_BYTES_MAX => {
                buffer.clear();
                buffer
            }
            _ => Vec::with_capacity(PIECE_BYTES + PIECE_BYTES / 2),
        }
    }

    fn failed(&mut self, error: std::io::Error) {
        self.items.push(unreadable(error));
    }

    /// Opens what has the job's name now. The walk's look may be long ago: another file, or something of another kind, has
    /// the name as rightfully, and it is looked at again until a look and the opening after it agree.
    fn open(&self, job: &Job) -> Opened {
        let failed = |kind, message: String| Opened::Special(Item::Failed { kind, message });
        let mut last = OpenError::Vanished;
        for _ in 0..LOOKS_MAX {
            match Reader::open(&job.directory, &job.name, Time::now()) {
                Ok(reader) if job.until.is_some_and(|until| is_newer(reader.stat(), until)) => {
                    return Opened::Special(Item::Newer);
                }
                // One ordinal stands for the file system that the walk saw.
                Ok(reader) if reader.stat().device == job.stat.device => return Opened::File(Box::new(reader)),
                Ok(_) => last = OpenError::OtherKind,
                Err(error @ OpenError::Vanished) => last = error,
                Err(OpenError::Io(error)) => return Opened::Special(unreadable(error)),
                Err(OpenError::OtherKind) => {
                    last = OpenError::OtherKind;
                    match metadata::capture_special(&job.directory, &job.name, self.owners) {
                        Ok((stat, Some(Captured { metadata, node: Some(node), problems })))
                            if stat.device == job.stat.device =>
                        {
                            let problems = problems.iter().map(metadata::Problem::to_string).collect();
                            return Opened::Special(Item::Other { metadata: Box::new(metadata), node, problems });
                        }
                        Ok(_) => {}
                        Err(error) if error.kind() == std::io::ErrorKind::NotFound => last = OpenError::Vanished,
                        Err(error) => return Opened::Special(unreadable(error)),
                    }
                }
            }
        }
        match last {
            OpenError::Vanished => failed(ProblemKind::Vanished, last.to_string()),
            _ => Opened::Special(Item::Restless { message: "was something else at each look".to_owned() }),
        }
    }

    fn file(&mut self, cutter: &Cutter<'_>, job: &Job) -> Result<(), Unwanted> {
        if self.data.capacity() == 0 {
            self.data = self.buffer();
        }
        let mut reader = match self.open(job) {
            Opened::File(reader) => reader,
            Opened::Special(item) => {
                self.items.push(item);
                return Ok(());
            }
        };
        // Metadata first: an attribute that changes while the data is read moves ctime, which the last look finds.
        let mut captured = match metadata::capture(&Place::Open(reader.as_fd()), reader.stat(), 0, self.owners) {
            Ok(captured) => captured,
            Err(error) => {
                self.failed(error);
                return Ok(());
            }
        };
        if let Some(source) = captured.take_shortage() {
            self.failed(source);
            return Ok(());
        }
        let mut digest = blake3::Hasher::new();
        let (mut start, mut chunks) = (self.data.len(), 0_u32);
        let has_holes = !reader.holes().is_empty();
        loop {
            let filled = self.data.len();
            let want = usize::try_from(reader.remaining()).unwrap_or(usize::MAX).min(READ_BYTES);
            self.data.reserve_exact(want);
            self.data.resize(filled + want, 0);
            let got = match reader.read(&mut self.data[filled..]) {
                Ok(got) => got,
                Err(error) => {
                    self.data.truncate(start);
                    self.failed(error);
                    return Ok(());
                }
            };
            self.data.truncate(filled + got);
            if job.reports_bytes {
                // Here and not where they are stored: that follows the order of the walk, and several files are read at a time.
                self.monitor.advance(0, got as u64);
            }
            let at_end = got < want || reader.remaining() == 0;
            while let Some(length) = cutter.next(&self.data[start..], at_end).filter(|length| *length > 0) {
                let chunk = &self.data[start..start + length];
                // One chunk without holes needs no digest: its id says as much.
                let alone = chunks == 0 && at_end && start + length == self.data.len() && !has_holes;
                if !alone {
                    digest.update(chunk);
                }
                let id = self.keys.chunk_id(ChunkKind::Data, chunk);
                self.items.push(Item::Chunk { start, length, id });
                start += length;
                chunks += 1;
            }
            if start >= PIECE_BYTES {
                self.hand_on(start)?;
                start = 0;
            }
            if at_end {
                break;
            }
        }
        let stat = *reader.stat();
        match reader.finish() {
            Ok(end) => {
                let changed = end.changed.then(|| {
                    let now = end.stat.size;
                    match stat.size {
                        was if was == now => "was written to while it was read".to_owned(),
                        was => format!("changed from {was} to {now} bytes while it was read"),
                    }
                });
                let problems = captured.problems.iter().map(metadata::Problem::to_string).collect();
                self.items.push(Item::End(Box::new(Finished {
                    metadata: captured.metadata,
                    size: end.size,
                    holes: end.holes,
                    data: digest,
                    changed,
                    problems,
                })));
            }
            Err(error) => self.failed(error),
        }
        Ok(())
    }
}
