//! How an object gets to a store: in one request, in parts, or piece by piece, with little of it in memory.
//!
//! | way | what is in memory | what is sent again when it breaks off | what a kill leaves |
//! |---|---|---|---|
//! | [`Sending::Parts`], at most [`PART_BYTES`] | all of it | all of it | nothing |
//! | [`Sending::Parts`], larger | two parts | the part | parts that are under no name: `unfinished` |
//! | [`Sending::Stream`], [`Sending::Pieces`] | some pieces | all of it | an object under a temporary name |
//! | [`Sending::Whole`] | all of it | all of it | nothing |
//!
//! Nothing is under its name before all of it has arrived and its bytes were found right on the way: a body that is not what it should be gives an
//! error instead of its last piece, and then the parts are not put together, the request does not end, and the temporary name stays one.

use crate::base::lock::{into_inner, lock};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{Either, select};
use opendal::Buffer;
use tokio::sync::mpsc;

use super::answer::caught;
use super::flow::Flow;
use super::unfinished::watch::{Seen, watch};
use super::{PAGE_BYTES_MAX, Remote};
use crate::storage::address::Sending;
use crate::storage::body::{Body, pieces};
use crate::storage::{Error, ErrorKind, Result, UnfinishedUpload, Uplink};

/// Bytes of a part, at most. S3 takes no parts of less than 5 MiB, the last one apart; OpenDAL holds back what is less, and forgets it when the
/// request that was to take it along fails. Parts of equal length are never less than half of this.
const PART_BYTES: u64 = 10 << 20;
/// Bytes that are read at once for what goes piece by piece.
const PIECE_BYTES: u64 = 256 << 10;
/// Pieces that wait for their turn.
const PIECES_WAITING: usize = 2;
/// How often an object is begun whose upload the store has lost.
const UPLOADS_MAX: u32 = 2;
/// How long the store is waited for when parts are thrown away.
const ABORT: Duration = Duration::from_secs(5);

/// Bytes of one object that have left, each told once, however often they are sent.
struct Told<'a> {
    uplink: &'a Uplink<'a>,
    /// All that there are; a list of parts is sent too, and is not of the object.
    length: u64,
    bytes: AtomicU64,
}

impl Told<'_> {
    /// All before `position` have left.
    fn until(&self, position: u64) {
        let position = position.min(self.length);
        let before = self.bytes.fetch_max(position, Ordering::Relaxed);
        if position > before {
            (self.uplink.moved)(position - before);
        }
    }
}

/// Why a body could not be read, if that is why it was not sent.
#[derive(Default)]
struct BodyError {
    error: Mutex<Option<Error>>,
    is_there: AtomicBool,
}

impl BodyError {
    /// Keeps the error, and gives the one by which the attempt ends.
    fn keep(&self, error: Error) -> opendal::Error {
        *lock(&self.error) = Some(error);
        self.is_there.store(true, Ordering::Relaxed);
        opendal::Error::new(opendal::ErrorKind::Unexpected, "the body is not whole")
    }

    fn is_there(&self) -> bool {
        self.is_there.load(Ordering::Relaxed)
    }

    /// The body's own error, before whatever it led to.
    fn or(self, sent: Result<()>) -> Result<()> {
        into_inner(self.error).map_or(sent, Err)
    }
}

/// Bytes of each part of an object of so many, the last one apart, which has as many or a few less.
const fn part_of(length: u64) -> u64 {
    match length.div_ceil(PART_BYTES) {
        0 => PART_BYTES,
        parts => length.div_ceil(parts),
    }
}

impl Remote {
    /// Memory that sending so many bytes takes.
    pub(super) fn room_for(&self, length: u64) -> u64 {
        match self.service.sending {
            Sending::Parts => length.min(2 * part_of(length)),
            Sending::Whole => length,
            Sending::Stream | Sending::Pieces => length.min((PIECES_WAITING as u64 + 2) * PIECE_BYTES),
        }
    }

    /// Stores an object at `path`, whatever lies there.
    pub(super) fn upload(&self, path: &str, body: &dyn Body, uplink: &Uplink<'_>) -> Result<()> {
        match self.service.sending {
            Sending::Parts if body.length() > PART_BYTES => self.upload_parts(path, body, uplink),
            Sending::Parts | Sending::Whole => {
                let bytes = Buffer::from(body.piece(0, body.length())?);
                self.run_with("write", &path, PAGE_BYTES_MAX, uplink, || {
                    let (operator, bytes) = (self.operator.clone(), bytes.clone());
                    async move { operator.write(path, bytes).await.map(drop) }
                })
            }
            Sending::Stream => self.upload_stream(path, body, uplink),
            Sending::Pieces => self.upload_pieces(path, body, uplink),
        }
    }

    fn upload_parts(&self, path: &str, body: &dyn Body, uplink: &Uplink<'_>) -> Result<()> {
        let told = Told { uplink, length: body.length(), bytes: AtomicU64::new(0) };
        let mut number = 1;
        loop {
            match self.try_parts(path, body, &told) {
                Err(error) if error.kind == ErrorKind::Absent && number < UPLOADS_MAX => number += 1,
                // What it does not know is the upload.
                Err(error) if error.kind == ErrorKind::Absent => return Err(error.with_kind(ErrorKind::Refused)),
                done => return done,
            }
        }
    }

    fn try_parts(&self, path: &str, body: &dyn Body, told: &Told<'_>) -> Result<()> {
        let open = || self.operator.writer(path);
        let writer = self.run("write", &path, PAGE_BYTES_MAX, open)?;
        let writer = tokio::sync::Mutex::new(writer);
        // OpenDAL holds a part back until the next one comes. They leave in order, one at a time; the call that failed sends the same one again.
        let sent = AtomicU64::new(0);
        // Noted before anything of the first part leaves: a kill must not find it without a note.
        let (seen, noted) = (Seen::default(), OnceLock::new());
        let note = || {
            if let Some(id) = seen.get() {
                noted.get_or_init(|| {
                    let upload = UnfinishedUpload { path: path.to_owned(), id: id.clone() };
                    (told.uplink.begun)(&upload);
                    upload
                });
            }
        };
        let moved = |bytes| told.until(sent.fetch_add(bytes, Ordering::Relaxed) + bytes);
        let uplink = Uplink { limit: told.uplink.limit.clone(), moved: &moved, ..*told.uplink };
        let send = || {
            for part in pieces(body, part_of(body.length())) {
                let part = Buffer::from(part?);
                self.run_with("write", &path, PAGE_BYTES_MAX, &uplink, || {
                    let (writer, part) = (&writer, part.clone());
                    watch(&seen, note, async move { writer.lock().await.write(part).await })
                })?;
            }
            self.run_with("write", &path, PAGE_BYTES_MAX, &uplink, || {
                watch(&seen, note, async { writer.lock().await.close().await.map(drop) })
            })
        };
        let done = send();
        let is_over = done.is_ok() || {
            let flow = Arc::new(Flow::new(PAGE_BYTES_MAX, Arc::default()));
            let abort = flow.scope(async {
                tokio::time::timeout(ABORT, caught(async { writer.into_inner().abort().await })).await
            });
            match self.runtime.block_on(abort) {
                Ok(Ok(())) => true,
                Ok(Err(error)) => error.kind() == opendal::ErrorKind::NotFound,
                Err(_) => false,
            }
        };
        // Parts that cannot be thrown away now stay noted, and the next sync tries it again.
        if let Some(upload) = noted.get().filter(|_| is_over) {
            (told.uplink.ended)(upload);
        }
        done
    }

    fn upload_stream(&self, path: &str, body: &dyn Body, uplink: &Uplink<'_>) -> Result<()> {
        let wrong = BodyError::default();
        let stop = || wrong.is_there() || (uplink.stop)();
        let watched = Uplink { limit: uplink.limit.clone(), stop: &stop, ..*uplink };
        let sent = self.run_with("write", &path, PAGE_BYTES_MAX, &watched, || async {
            let (sender, receiver) = mpsc::channel::<Bytes>(PIECES_WAITING);
            if let Some(flow) = Flow::current() {
                flow.give_body(body.length(), receiver);
            }
            let feed = async {
                for piece in pieces(body, PIECE_BYTES) {
                    let piece = piece.map_err(|error| wrong.keep(error))?;
                    // The request has ended.
                    if sender.send(piece).await.is_err() {
                        break;
                    }
                }
                Ok(())
            };
            let put = self.operator.write(path, Buffer::new());
            match select(std::pin::pin!(put), std::pin::pin!(feed)).await {
                Either::Left((put, _)) => put.map(drop),
                // Otherwise the request would wait for what does not come.
                Either::Right((fed, put)) => {
                    fed?;
                    put.await.map(drop)
                }
            }
        });
        wrong.or(sent)
    }

    fn upload_pieces(&self, path: &str, body: &dyn Body, uplink: &Uplink<'_>) -> Result<()> {
        let wrong = BodyError::default();
        let sent = self.run_with("write", &path, PAGE_BYTES_MAX, uplink, || async {
            let mut writer = self.operator.writer(path).await?;
            let flow = Flow::current();
            let most = flow
                .as_ref()
                .map_or(PIECE_BYTES, |flow| (flow.limit.portion() as u64).clamp(PIECE_BYTES / 4, PIECE_BYTES));
            let mut left = body.length();
            for piece in pieces(body, most) {
                let piece = piece.map_err(|error| wrong.keep(error))?;
                let bytes = piece.len() as u64;
                left -= bytes;
                // Waiting for a turn is no silence of the store.
                let mut waiting = flow.as_ref().map_or(0, |_| piece.len());
                while let Some(flow) = flow.as_ref().filter(|_| waiting > 0) {
                    let portion = waiting.min(flow.limit.portion());
                    if let Some(turn) = flow.limit.reserve(portion) {
                        tokio::time::sleep_until(turn.into()).await;
                        flow.touch();
                    }
                    waiting -= portion;
                }
                writer.write(piece).await?;
                if let Some(flow) = &flow {
                    flow.sent(bytes, left == 0);
                }
            }
            writer.close().await.map(drop)
        });
        wrong.or(sent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_part_is_too_small_or_too_large() {
        for length in
            [PART_BYTES + 1, 2 * PART_BYTES, 2 * PART_BYTES + 1, 32 << 20, (32 << 20) + 7, 256 << 20, 100_000_000]
        {
            let part = part_of(length);
            let last = length - part * (length.div_ceil(part) - 1);
            assert!(part <= PART_BYTES && (PART_BYTES / 2..=part).contains(&last), "{length}: {part}, {last}");
        }
    }
}
