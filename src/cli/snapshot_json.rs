//! A snapshot in restic's JSON shape, and the words for how its backup went.

use super::json::{Snapshot as JsonSnapshot, SnapshotSummary, texts};
use crate::base::hex::hex;
use crate::base::time::Time;
use crate::codec::chunk_list::ChunkList;
use crate::codec::snapshot::Outcome;
use crate::ops::order::{Doubt, Order};
use crate::ops::select::Chosen;
use crate::text::clock;
use jiff::tz::TimeZone;

/// The word for an outcome, in text and JSON.
#[must_use]
pub const fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Complete => "complete",
        Outcome::Changed => "changed",
        Outcome::Partial => "partial",
    }
}

/// A name for a listing: equal exactly for equal listings. The id of its chunk where it has one, else a hash over the
/// ids of all of them.
#[must_use]
pub fn tree_name(listing: &ChunkList) -> String {
    match listing.chunks.as_slice() {
        [chunk] if listing.depth == 0 => chunk.id.to_string(),
        chunks => {
            let mut hasher = blake3::Hasher::new();
            hasher.update(&[listing.depth]);
            for chunk in chunks {
                hasher.update(chunk.id.as_bytes());
            }
            hasher.finalize().to_hex().to_string()
        }
    }
}

/// The time that lies `nanoseconds` later.
fn later(time: Time, nanoseconds: u64) -> Time {
    let total = u64::from(time.nanoseconds).saturating_add(nanoseconds);
    let seconds = i64::try_from(total / 1_000_000_000).unwrap_or(i64::MAX);
    Time { seconds: time.seconds.saturating_add(seconds), nanoseconds: (total % 1_000_000_000) as u32 }
}

/// The whole snapshot, and whether its time is in doubt.
#[must_use]
pub fn in_order(chosen: &Chosen, order: &Order, zone: &TimeZone) -> JsonSnapshot {
    JsonSnapshot { time_in_doubt: order.doubt(&chosen.id).map(doubt), ..snapshot(chosen, zone) }
}

/// The word for why a time is in doubt, in JSON.
#[must_use]
pub const fn doubt(doubt: Doubt) -> &'static str {
    match doubt {
        Doubt::Ahead => "ahead",
        Doubt::Contradicted => "contradicted",
    }
}

/// The whole snapshot.
#[must_use]
pub fn snapshot(chosen: &Chosen, zone: &TimeZone) -> JsonSnapshot {
    let Chosen { id, snapshot } = chosen;
    let summary = &snapshot.summary;
    let is_text = snapshot.paths.iter().all(|path| std::str::from_utf8(path).is_ok());
    let excludes = snapshot.options.iter().filter_map(|option| {
        option.strip_prefix("--exclude=").or_else(|| option.strip_prefix("--iexclude=")).map(str::to_owned)
    });
    JsonSnapshot {
        time: clock::rfc3339(snapshot.time, zone),
        parent: snapshot.parent.map(|id| id.to_string()),
        tree: tree_name(&snapshot.root),
        paths: texts(snapshot.paths.iter().map(Vec::as_slice)).into_iter().map(Into::into).collect(),
        paths_raw: (!is_text).then(|| snapshot.paths.iter().map(|path| hex(path)).collect()),
        hostname: snapshot.host.clone(),
        username: snapshot.user.clone(),
        excludes: excludes.collect(),
        tags: snapshot.tags.clone(),
        held: snapshot.held,
        label: (!snapshot.label.is_empty()).then(|| snapshot.label.clone()),
        outcome: Some(outcome(snapshot.outcome)),
        time_in_doubt: None,
        program_version: snapshot.program.clone(),
        summary: Some(SnapshotSummary {
            backup_start: clock::rfc3339(snapshot.written, zone),
            backup_end: clock::rfc3339(later(snapshot.written, summary.duration_nanoseconds), zone),
            files_new: summary.files_new,
            files_changed: summary.files_changed,
            files_unmodified: summary.files_unmodified,
            dirs_new: summary.dirs_new,
            dirs_changed: summary.dirs_changed,
            dirs_unmodified: summary.dirs_unmodified,
            data_blobs: summary.data_chunks,
            tree_blobs: summary.tree_chunks,
            data_added: summary.data_added,
            data_added_packed: summary.data_stored,
            total_files_processed: snapshot.counts.files,
            total_bytes_processed: snapshot.counts.bytes,
        }),
        id: id.to_string(),
        short_id: id.short(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_backup_carries_over() {
        let start = Time { seconds: 7, nanoseconds: 900_000_000 };
        assert_eq!(later(start, 200_000_000), Time { seconds: 8, nanoseconds: 100_000_000 });
        assert_eq!(later(Time { seconds: i64::MAX, nanoseconds: 1 }, u64::MAX).seconds, i64::MAX);
    }
}
