//! The log of deletions: which files vanished from a source, when, and which snapshot held each last.
//! format-spec/deletion_log.md.
//!
//! Every snapshot carries the log of its source as a stream of [`Deletion`] records: that of the snapshot before it, and what
//! its own backup found missing. So the log outlives the snapshots that it names.

use bincode::{Decode, Encode};

use super::snapshot::PATH_MAX;
use super::stream::{self, RecordReader};
use super::tree::is_name;
use super::{Error, Reason, Result, body};
use crate::base::id::ObjectId;
use crate::base::time::Time;

/// Memory that decoding one record may take, in bytes.
const LIMIT: usize = 16 << 20;
const STRUCTURE: &str = "log of deletions";

/// What was deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
pub enum DeletedKind {
    /// A regular file.
    File,
    /// A directory. What was in it has records of its own.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A pipe, socket or device.
    Other,
}

/// One entry that vanished.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Deletion {
    /// Its path in the snapshot that held it last: names with a slash between them, none before the first.
    pub path: Vec<u8>,
    /// What it was there.
    pub kind: DeletedKind,
    /// Length of the file there, in bytes; 0 for anything else.
    pub size: u64,
    /// When it was modified last, as that snapshot says.
    pub mtime: Time,
    /// The snapshot that held it last.
    pub snapshot: ObjectId,
    /// The time of that snapshot.
    pub snapshot_time: Time,
    /// The time of the snapshot whose backup found it gone.
    pub found: Time,
}

impl Deletion {
    /// Refuses what cannot be stored.
    ///
    /// # Errors
    /// [`Reason::OutOfRange`], [`Reason::BrokenRule`].
    pub fn check(&self) -> Result<()> {
        let refuse = |reason| Err(Error::new(STRUCTURE, reason));
        if self.path.len() > PATH_MAX {
            return refuse(Reason::OutOfRange { field: "length of a path" });
        }
        if !self.path.split(|byte| *byte == b'/').all(is_name) {
            return refuse(Reason::BrokenRule { rule: "a path is names with a slash between them" });
        }
        if self.kind != DeletedKind::File && self.size != 0 {
            return refuse(Reason::BrokenRule { rule: "only files have a size" });
        }
        if ![self.mtime, self.snapshot_time, self.found].iter().all(Time::is_valid) {
            return refuse(Reason::OutOfRange { field: "time" });
        }
        Ok(())
    }
}

/// Appends a record to the stream. After an error `out` is as it was.
///
/// # Errors
/// [`Reason::OutOfRange`], [`Reason::BrokenRule`] for what a reader would refuse.
pub fn encode_deletion(deletion: &Deletion, out: &mut Vec<u8>) -> Result<()> {
    deletion.check()?;
    stream::write_record(STRUCTURE, out, |out| body::encode_into(STRUCTURE, deletion, out))
}

/// Reads the stream in pieces.
pub struct DeletionReader {
    records: RecordReader,
}

impl Default for DeletionReader {
    fn default() -> Self {
        Self::new()
    }
}

impl DeletionReader {
    /// A reader at the beginning of the stream.
    #[must_use]
    pub fn new() -> Self {
        Self { records: RecordReader::new(STRUCTURE) }
    }

    /// Adds the next bytes of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        self.records.push(bytes);
    }

    /// The next record; `None` when more of the stream is needed, or it is at its end.
    ///
    /// # Errors
    /// What [`body::decode`] refuses; [`Reason::OutOfRange`], [`Reason::BrokenRule`].
    #[allow(clippy::should_implement_trait)] // the next piece may be missing, which no iterator can say
    pub fn next(&mut self) -> Result<Option<Deletion>> {
        let Some(record) = self.records.next()? else { return Ok(None) };
        let deletion: Deletion = body::decode::<_, LIMIT>(STRUCTURE, record)?;
        deletion.check()?;
        Ok(Some(deletion))
    }

    /// The beginning of a record whose end has not come. A new reader that is given these bytes first goes on as this one.
    #[must_use]
    pub fn begun(&self) -> &[u8] {
        self.records.rest()
    }

    /// The stream has ended.
    ///
    /// # Errors
    /// [`Reason::Truncated`] when it ends within a record.
    pub fn finish(self) -> Result<()> {
        self.records.finish()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn deletion(number: u8) -> Deletion {
        Deletion {
            path: vec![b'a', b'/', b'\n', number.max(b'0')],
            kind: DeletedKind::File,
            size: u64::from(number) * 1_000,
            mtime: Time { seconds: -1, nanoseconds: 999_999_999 },
            snapshot: ObjectId([number; 32]),
            snapshot_time: Time::from_seconds(5),
            found: Time::from_seconds(6),
        }
    }

    #[test]
    fn records_come_back_however_the_stream_is_cut() {
        let all: Vec<Deletion> = (0..60).map(deletion).collect();
        let mut stream = Vec::new();
        all.iter().for_each(|deletion| encode_deletion(deletion, &mut stream).unwrap());
        for piece in [1, 7, 60, 61, 5_000] {
            let (mut reader, mut found) = (DeletionReader::new(), Vec::new());
            for bytes in stream.chunks(piece) {
                // A reader that is made anew at every piece goes on where the last one stopped.
                let mut next = DeletionReader::new();
                next.push(reader.begun());
                next.push(bytes);
                while let Some(deletion) = next.next().unwrap() {
                    found.push(deletion);
                }
                reader = next;
            }
            assert_eq!(reader.begun(), b"");
            reader.finish().unwrap();
            assert_eq!(found, all);
        }
        let mut reader = DeletionReader::new();
        reader.push(&stream[..stream.len() - 1]);
        while reader.next().unwrap().is_some() {}
        assert_eq!(reader.finish().unwrap_err().reason, Reason::Truncated);
    }

    #[test]
    fn what_no_backup_finds_is_refused() {
        let refused = |change: &dyn Fn(&mut Deletion)| {
            let mut hostile = deletion(1);
            change(&mut hostile);
            let mut out = Vec::new();
            let error = encode_deletion(&hostile, &mut out).unwrap_err();
            assert!(out.is_empty());
            // The reader refuses what this writer would not write.
            let body = body::encode(STRUCTURE, &hostile).unwrap();
            let mut reader = DeletionReader::new();
            reader.push(&u32::try_from(body.len()).unwrap().to_le_bytes());
            reader.push(&body);
            assert_eq!(reader.next().unwrap_err(), error);
            error.reason.slug()
        };
        for path in [&b""[..], b"/a", b"a/", b"a//b", b"a/../b", b".", b"a\0"] {
            assert_eq!(refused(&|deletion| deletion.path = path.to_vec()), "broken-rule", "{path:?}");
        }
        assert_eq!(refused(&|deletion| deletion.path = b"aa/".repeat(PATH_MAX / 3 + 1)), "out-of-range");
        assert_eq!(refused(&|deletion| deletion.kind = DeletedKind::Directory), "broken-rule");
        assert_eq!(refused(&|deletion| deletion.found.nanoseconds = 1_000_000_000), "out-of-range");
    }
}
