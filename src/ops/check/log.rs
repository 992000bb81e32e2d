//! The logs of deletions: every record of every log can be read, and there are as many as the snapshot says.
//!
//! The logs of a source's snapshots begin alike: each is the one before it and a little more. So what a log's first chunks hold
//! is remembered, and a hundred snapshots cost little more than one.

use std::collections::HashMap;

use super::trees::{self, Cause, Source};
use crate::base::id::ObjectId;
use crate::codec::deletion_log::DeletionReader;
use crate::codec::snapshot::Snapshot;
use crate::repository::list_reader::{Chunks, part};
use crate::repository::{self, Error};

/// How far a log was read after some of its chunks.
#[derive(Clone, Default)]
struct Mark {
    records: u64,
    /// The beginning of the next record.
    begun: Vec<u8>,
}

/// Bytes of the beginning of a record that are kept in a mark.
const BEGUN_MAX: usize = 4 << 10;
/// Marks that are kept.
const MARKS_MAX: usize = 1 << 16;

/// How far each beginning of a log was read; by a hash of its chunks.
type Marks = HashMap<[u8; 32], Mark>;

/// Tells of every log that cannot be read, and of every one that holds another number of records than its snapshot says.
pub(super) fn check(source: &Source<'_>, snapshots: &[(ObjectId, Snapshot)], each: &mut dyn FnMut(Cause, ObjectId)) {
    let mut marks = Marks::new();
    for (id, snapshot) in snapshots {
        match records(source, snapshot, &mut marks) {
            Ok(count) if count == snapshot.deleted_count => {}
            Ok(count) => {
                let said = snapshot.deleted_count;
                let why = format!("the log of deletions has {count} records, the snapshot says {said}");
                each(Cause::Refused(why), *id);
            }
            Err(error) => trees::listing_causes(source, &error).into_iter().for_each(|cause| each(cause, *id)),
        }
    }
}

fn records(source: &Source<'_>, snapshot: &Snapshot, marks: &mut Marks) -> repository::Result<u64> {
    let refused = |error| Error::Stream { error };
    let (mut so_far, mut mark) = (blake3::Hasher::new(), Mark::default());
    for chunk in Chunks::new(source, snapshot.deleted.clone()) {
        let chunk = chunk?;
        so_far.update(chunk.id.as_bytes());
        let key = *so_far.finalize().as_bytes();
        if let Some(known) = marks.get(&key) {
            mark = known.clone();
            continue;
        }
        let mut reader = DeletionReader::new();
        reader.push(&mark.begun);
        reader.push(&part(source, &chunk)?);
        while reader.next().map_err(refused)?.is_some() {
            mark.records += 1;
        }
        mark.begun = reader.begun().to_vec();
        if mark.records > snapshot.deleted_count {
            break;
        }
        // One record may be longer than a thousand chunks, and what has come of it is not kept a thousand times.
        if mark.begun.len() <= BEGUN_MAX && marks.len() < MARKS_MAX {
            marks.insert(key, mark.clone());
        }
    }
    if mark.records > snapshot.deleted_count {
        return Ok(mark.records);
    }
    let mut end = DeletionReader::new();
    end.push(&mark.begun);
    end.finish().map_err(refused)?;
    Ok(mark.records)
}
