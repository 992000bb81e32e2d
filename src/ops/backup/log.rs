//! The log of deletions of a source, and how it goes on: that of the snapshot before, and what this backup finds missing.
//!
//! The snapshot before is the live one of the same host and paths that was written last, in the order of [`crate::ops::order`]:
//! that of arrival, and what was made from another one stands where that one stood. Its log holds everything that earlier ones hold, so forgetting those loses nothing; and when it is forgotten itself, the next backup compares with the
//! one before it and finds the same again.

use super::{Labels, lacks_source};
use crate::base::command::suggest;
use crate::base::id::ObjectId;
use crate::codec::chunk_list::{ChunkList, ChunkRef};
use crate::codec::deletion_log::{Deletion, encode_deletion};
use crate::codec::pack::PackKind;
use crate::codec::snapshot::Snapshot;
use crate::codec::{self, Reason};
use crate::ops::{Result, order};
use crate::repository::list_reader::Chunks;
use crate::repository::list_writer::StreamWriter;
use crate::repository::run::Run;
use crate::repository::{self, Repository};

/// Chunks of a log that is carried on, at most: 64 GiB of records. Each is held in memory for a moment, with 36 bytes.
const CHUNKS_MAX: usize = 1 << 20;

/// The snapshot whose log goes on.
#[derive(Debug, Clone)]
pub struct Before {
    /// Its id.
    pub id: ObjectId,
    /// What it says.
    pub snapshot: Snapshot,
}

/// True when both are snapshots of one source: of the same paths, in any order, on the same host.
#[must_use]
pub fn is_same_source(one: (&str, &[Vec<u8>]), other: (&str, &[Vec<u8>])) -> bool {
    let sorted = |paths: &[Vec<u8>]| {
        let mut paths = paths.to_vec();
        paths.sort();
        paths
    };
    one.0 == other.0 && one.1.len() == other.1.len() && sorted(one.1) == sorted(other.1)
}

/// The newest snapshot of the same source, by the time at which each was written: claims have no part in it. One in which a source was
/// missing comes after all others: compared with it, nothing would be gone. One that cannot be
/// read is passed over: what it would tell is found again by comparing with the one before.
///
/// # Errors
/// Nothing more can be read at all.
pub fn before(repository: &Repository, labels: &Labels) -> repository::Result<Option<Before>> {
    let (all, _) = order::all_as_written(repository)?;
    let mut readable = all.into_iter().rev().filter_map(|(id, snapshot)| Some(Before { id, snapshot: snapshot.ok()? }));
    let source = (labels.host.as_str(), labels.paths.as_slice());
    let mut newest = None;
    for before in readable.by_ref().filter(|one| is_same_source((&one.snapshot.host, &one.snapshot.paths), source)) {
        if !lacks_source(repository, &before.snapshot) {
            return Ok(Some(before));
        }
        newest.get_or_insert(before);
    }
    Ok(newest)
}

/// A log that goes on. What is not added to is carried over as it is.
#[derive(Debug, Default)]
pub(super) struct Log {
    /// The log of the snapshot before, as long as nothing was added.
    list: ChunkList,
    writer: Option<StreamWriter>,
    count: u64,
}

impl Log {
    /// Takes over the log of the snapshot before. One that cannot be read ends there: a new one begins, and the run says so.
    ///
    /// # Errors
    /// A storage error, final for the run.
    pub fn go_on(run: &mut Run<'_>, before: Option<&Snapshot>) -> Result<Self> {
        let Some(before) = before.filter(|before| before.deleted_count > 0) else { return Ok(Self::default()) };
        let mut log = Self { list: before.deleted.clone(), writer: None, count: before.deleted_count };
        if let Err(error) = log.keep(run)? {
            log.begin_anew(run, &error);
        } else if log.list.depth > 0 {
            // The chunks of the list itself must stay as well: written again, each is found to be there.
            log.open(run)?;
        }
        Ok(log)
    }

    /// Makes sure that every chunk of the log is live, and stays so until this run publishes. The inner error says why it
    /// cannot be carried on.
    fn keep(&self, run: &mut Run<'_>) -> Result<std::result::Result<(), repository::Error>> {
        let repository = run.repository();
        for chunk in Chunks::new(repository, self.list.clone()) {
            let chunk = match chunk {
                Ok(chunk) => chunk,
                Err(error) => return Ok(Err(error)),
            };
            if run.contains(&chunk.id)? {
                continue;
            }
            // The cache may not know it. Whatever can be read can be stored.
            match repository.chunk(PackKind::Tree, &chunk) {
                Ok(bytes) => run.add_tree(&bytes)?,
                Err(error) => return Ok(Err(error)),
            };
        }
        Ok(Ok(()))
    }

    fn begin_anew(&mut self, run: &mut Run<'_>, error: &repository::Error) {
        run.warn(format!(
            "the log of deletions cannot be read ({error}): its {} records stay behind in earlier snapshots, and a new one \
             begins. Next: {}",
            self.count,
            suggest!("check")
        ));
        *self = Self { writer: Some(StreamWriter::default()), ..Self::default() };
    }

    /// Lets the log be added to.
    fn open(&mut self, run: &mut Run<'_>) -> Result<()> {
        match self.end(run.repository()) {
            Ok((stay, last)) => self.writer = Some(StreamWriter::resume(run, &stay, &last)?),
            Err(error) => self.begin_anew(run, &error),
        }
        Ok(())
    }

    /// The chunks that stay, and the bytes of the last one.
    fn end(&self, repository: &Repository) -> repository::Result<(Vec<ChunkRef>, Vec<u8>)> {
        let mut stay = Vec::new();
        for chunk in Chunks::new(repository, self.list.clone()) {
            stay.push(chunk?);
            if stay.len() > CHUNKS_MAX {
                let rule = "the log has more chunks than any that is carried on";
                return Err(repository::Error::Stream {
                    error: codec::Error::new("deletions", Reason::BrokenRule { rule }),
                });
            }
        }
        let last = match stay.pop() {
            Some(last) => repository.chunk(PackKind::Tree, &last)?.to_vec(),
            None => Vec::new(),
        };
        Ok((stay, last))
    }

    /// Adds a record.
    ///
    /// # Errors
    /// A storage error, final for the run.
    pub fn add(&mut self, run: &mut Run<'_>, deletion: &Deletion) -> Result<()> {
        if self.writer.is_none() {
            self.open(run)?;
        }
        if let Some(writer) = &mut self.writer {
            writer.push(run, |buffer| encode_deletion(deletion, buffer))?;
            self.count += 1;
        }
        Ok(())
    }

    /// The log of the new snapshot, and how many records it has.
    ///
    /// # Errors
    /// A storage error, final for the run.
    pub fn finish(self, run: &mut Run<'_>) -> Result<(ChunkList, u64)> {
        match self.writer {
            Some(writer) => Ok((writer.finish(run)?, self.count)),
            None => Ok((self.list, self.count)),
        }
    }
}
