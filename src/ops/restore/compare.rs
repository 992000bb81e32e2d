//! Does a file hold what the snapshot says? Asked before a file is written over, and by `--verify` afterwards.
//!
//! The file's data is read chunk by chunk and hashed to chunk ids, its holes must read as zeros, and the digest of the whole
//! is computed beside it where the snapshot has one.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rustix::fs::{SeekFrom, seek};

use crate::codec::chunk_list::CHUNK_LENGTH_MAX;
use crate::codec::key_tree::ChunkKind;
use crate::codec::tree::{Content, Hole};
use crate::files::stat::{Kind, Stat};
use crate::repository::list_reader::Chunks;
use crate::repository::{self, Repository};

/// Bytes that are read at once where zeros are expected.
const ZEROS_BYTES: usize = 64 << 10;

/// What the comparison found.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Exactly the content.
    Same,
    /// Something else, in words.
    Differs(String),
    /// Its chunks, one behind the other, and they are not what was backed up.
    WrongDigest,
}

/// Why nothing could be found out.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// The repository cannot say what the content is.
    #[error(transparent)]
    Repository(#[from] repository::Error),
    /// The file cannot be read.
    #[error("read: {0}")]
    Read(#[from] io::Error),
}

/// Where a position in a file's data lies in the file, and how many bytes follow there before the next hole.
#[derive(Debug, Clone, Copy)]
pub struct Cursor<'a> {
    holes: &'a [Hole],
    /// Offset in the file.
    pub offset: u64,
    data: u64,
}

impl<'a> Cursor<'a> {
    /// At the beginning of a file's data.
    pub fn new(holes: &'a [Hole]) -> Self {
        let mut cursor = Self { holes, offset: 0, data: 0 };
        cursor.skip_holes();
        cursor
    }

    /// At a position in the data.
    pub fn at(holes: &'a [Hole], position: u64) -> Self {
        let mut cursor = Self::new(holes);
        loop {
            let left = position - cursor.data;
            let step = left.min(cursor.run());
            if step == 0 {
                return cursor;
            }
            cursor.advance(step);
        }
    }

    /// Bytes from here to the next hole.
    pub fn run(&self) -> u64 {
        self.holes.first().map_or(u64::MAX, |hole| hole.offset.saturating_sub(self.offset))
    }

    /// Goes on by at most [`Cursor::run`] bytes of data.
    pub fn advance(&mut self, bytes: u64) {
        self.offset = self.offset.saturating_add(bytes);
        self.data = self.data.saturating_add(bytes);
        self.skip_holes();
    }

    fn skip_holes(&mut self) {
        while let Some((hole, rest)) = self.holes.split_first()
            && hole.offset <= self.offset
        {
            self.offset = hole.offset.saturating_add(hole.length);
            self.holes = rest;
        }
    }
}

/// Compares an open file with `expected`. `seen` hears of how many bytes more were compared.
///
/// # Errors
/// Nothing could be found out.
pub fn content(
    repository: &Repository,
    file: &File,
    expected: &Content,
    seen: &mut dyn FnMut(u64),
) -> Result<Verdict, CompareError> {
    let differs = |text: String| Ok(Verdict::Differs(text));
    let stat = Stat::of(file)?;
    if stat.kind != Kind::File {
        return differs(format!("a {} is there", stat.kind.word()));
    }
    if stat.size != expected.size {
        return differs(format!("{} bytes expected, {} found", expected.size, stat.size));
    }
    let mut cursor = Cursor::new(&expected.holes);
    let mut digest = expected.digest.map(|_| blake3::Hasher::new());
    let mut buffer = Vec::new();
    for chunk in Chunks::of_file(repository, expected) {
        let chunk = chunk?;
        let offset = cursor.offset;
        buffer.resize(chunk.length.min(CHUNK_LENGTH_MAX) as usize, 0);
        if let Err(error) = read_data(file, &mut cursor, &mut buffer) {
            return match error.kind() {
                io::ErrorKind::UnexpectedEof => differs(format!("it ends after byte {offset}")),
                _ => Err(error.into()),
            };
        }
        if repository.keys().chunk_id(ChunkKind::Data, &buffer) != chunk.id {
            return differs(format!("the {} bytes from byte {offset} on differ", chunk.length));
        }
        if let Some(digest) = &mut digest {
            digest.update(&buffer);
        }
        seen(buffer.len() as u64);
    }
    for hole in &expected.holes {
        if let Some(offset) = not_zero(file, hole)? {
            return differs(format!("byte {offset} is not zero, and lies in a hole"));
        }
    }
    if let Some(digest) = digest
        && Some(Content::digest_of(digest, &expected.holes)) != expected.digest
    {
        return Ok(Verdict::WrongDigest);
    }
    Ok(Verdict::Same)
}

fn read_data(file: &File, cursor: &mut Cursor<'_>, buffer: &mut [u8]) -> io::Result<()> {
    let mut rest = buffer;
    while !rest.is_empty() {
        let step = usize::try_from(cursor.run()).unwrap_or(usize::MAX).min(rest.len());
        let (now, later) = rest.split_at_mut(step);
        file.read_exact_at(now, cursor.offset)?;
        cursor.advance(step as u64);
        rest = later;
    }
    Ok(())
}

/// The first byte within a hole that is not zero. Holes of the file system itself are not read.
fn not_zero(file: &File, hole: &Hole) -> io::Result<Option<u64>> {
    let end = hole.offset.saturating_add(hole.length);
    let mut at = hole.offset;
    let mut buffer = vec![0; ZEROS_BYTES];
    while at < end {
        match seek(file, SeekFrom::Data(at)) {
            Ok(data) => at = data,
            // No data behind this place.
            Err(rustix::io::Errno::NXIO) => return Ok(None),
            // A file system that does not know its holes: everything is read.
            Err(rustix::io::Errno::INVAL) => {}
            Err(error) => return Err(error.into()),
        }
        // Read on to the end of this window before asking again.
        let window = end.min(at.saturating_add(1 << 20));
        while at < window {
            let step = usize::try_from(window - at).unwrap_or(usize::MAX).min(buffer.len());
            let Some(bytes) = buffer.get_mut(..step) else { return Ok(None) };
            file.read_exact_at(bytes, at)?;
            if let Some(position) = bytes.iter().position(|byte| *byte != 0) {
                return Ok(Some(at + position as u64));
            }
            at += step as u64;
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_maps_data_around_holes() {
        let holes = [Hole { offset: 0, length: 10 }, Hole { offset: 15, length: 5 }, Hole { offset: 30, length: 2 }];
        let place = |position| {
            let cursor = Cursor::at(&holes, position);
            (cursor.offset, cursor.run())
        };
        assert_eq!(place(0), (10, 5));
        assert_eq!(place(4), (14, 1));
        assert_eq!(place(5), (20, 10));
        assert_eq!(place(15), (32, u64::MAX));
        assert_eq!(place(100), (117, u64::MAX));
        assert_eq!(Cursor::at(&[], 7).offset, 7);
    }
}
