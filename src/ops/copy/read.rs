//! The second stage: reading and checking contents of the source, cutting and hashing them as the destination does.

use crossbeam_channel::{Receiver, Sender};

use super::walk::{Jobs, Piece};
use crate::base::id::ChunkId;
use crate::codec::chunker::Cutter;
use crate::codec::key_tree::ChunkKind;
use crate::codec::tree::Content;
use crate::ops::Error;
use crate::ops::content;
use crate::repository::Repository;

/// A piece is handed on when it holds this many bytes.
const PIECE_BYTES: usize = 512 << 10;
/// A buffer that has grown beyond this (a chunk may be several megabytes) is not used again.
const BUFFER_BYTES_MAX: usize = 2 << 20;

/// One fact about the content being read.
pub(super) enum Item {
    /// A chunk, in the piece's data.
    Chunk { start: usize, length: usize, id: ChunkId },
    /// The content is read to its end and is what its snapshot says. Its digest, should it need one now.
    End { digest: Option<[u8; 32]> },
    /// The content cannot be read.
    Failed(Box<Error>),
}

/// Why reading stopped.
enum Stop {
    /// Nobody wants the pieces any more: the run has failed elsewhere.
    Unwanted,
    /// The source is damaged.
    Failed(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// From one repository to the other.
#[derive(Clone, Copy)]
pub(super) struct Way<'a> {
    pub source: &'a Repository,
    pub destination: &'a Repository,
}

impl Way<'_> {
    /// Works on groups until there are no more.
    pub fn contents(self, queue: &Receiver<Jobs>, buffers: &Receiver<Vec<u8>>) {
        for Jobs { files, pieces } in queue {
            let mut reading = Reading { pieces: &pieces, buffers, data: Vec::new(), items: Vec::new() };
            for (path, content) in &files {
                match self.read(path, content, &mut reading) {
                    Ok(digest) => reading.items.push(Item::End { digest }),
                    Err(Stop::Failed(error)) => {
                        reading.items.push(Item::Failed(Box::new(error)));
                        break;
                    }
                    Err(Stop::Unwanted) => break,
                }
            }
            let _ = reading.hand_on(0);
        }
    }

    fn read(self, path: &[u8], content: &Content, reading: &mut Reading<'_>) -> Result<Option<[u8; 32]>, Stop> {
        let keys = self.destination.keys();
        let parameters = self.destination.config().files;
        let cutter = Cutter::new(keys.gear(), parameters)
            .map_err(|error| Error::Internal(format!("the destination's config: {error}")))?;
        if reading.data.capacity() == 0 {
            reading.data = reading.buffer();
        }
        // What was one chunk has no digest, and may be several here.
        let mut digest =
            (content.digest.is_none() && content.size > u64::from(parameters.min)).then(blake3::Hasher::new);
        let mut start = reading.data.len();
        let mut cut = |reading: &mut Reading<'_>, at_end: bool| {
            while let Some(length) = cutter.next(&reading.data[start..], at_end).filter(|length| *length > 0) {
                let id = keys.chunk_id(ChunkKind::Data, &reading.data[start..start + length]);
                reading.items.push(Item::Chunk { start, length, id });
                start += length;
            }
            if start >= PIECE_BYTES {
                reading.hand_on(start)?;
                start = 0;
            }
            Ok::<_, Stop>(())
        };
        content::read(self.source, path, content, &mut |piece| {
            let content::Piece::Data(bytes) = piece else { return Ok(()) };
            if let Some(digest) = &mut digest {
                digest.update(bytes);
            }
            reading.data.extend_from_slice(bytes);
            cut(reading, false)
        })?;
        cut(reading, true)?;
        Ok(content.digest.or_else(|| digest.map(|digest| Content::digest_of(digest, &content.holes))))
    }
}

struct Reading<'a> {
    pieces: &'a Sender<Piece>,
    buffers: &'a Receiver<Vec<u8>>,
    data: Vec<u8>,
    items: Vec<Item>,
}

impl Reading<'_> {
    /// Hands on what lies before `keep_from`; the rest stays for the next piece.
    fn hand_on(&mut self, keep_from: usize) -> Result<(), Stop> {
        let mut data = std::mem::take(&mut self.data);
        let items = std::mem::take(&mut self.items);
        if keep_from > 0 {
            self.data = self.buffer();
            self.data.extend_from_slice(&data[keep_from..]);
            data.truncate(keep_from);
        }
        if items.is_empty() {
            return Ok(());
        }
        self.pieces.send(Piece { data, items }).map_err(|_| Stop::Unwanted)
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
}
