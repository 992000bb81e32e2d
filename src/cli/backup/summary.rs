//! What a backup says at its end: what happened, whether it is safe now, what to type next.

use crate::base::command::{suggest, suggest_all};
use crate::base::escape::escape;
use crate::cli::json::{BackupMessage, BackupSummary, texts};
use crate::codec::snapshot::{Outcome, ProblemKind};
use crate::ops::backup::Report;
use crate::text::clock;
use crate::text::size;
use crate::text::span;
use std::borrow::Cow;

/// Problems, or paths, that are named in a line of the summary; the rest is in the snapshot.
const NAMED: usize = 5;
/// Paths of packstone's own that the JSON summary names.
const OWN_NAMED: usize = 100;

const fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Complete => "complete",
        Outcome::Changed => "changed",
        Outcome::Partial => "partial",
    }
}

/// restic's summary line.
#[must_use]
pub fn json(report: &Report, dry_run: bool) -> BackupMessage<'static> {
    let zone = clock::local_zone();
    let end = crate::base::time::Time::now();
    let summary = &report.summary;
    BackupMessage::Summary(BackupSummary {
        dry_run,
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
        total_files_processed: report.counts.files,
        total_bytes_processed: report.counts.bytes,
        total_duration: report.took.as_secs_f64(),
        backup_start: clock::rfc3339(report.started, &zone),
        backup_end: clock::rfc3339(end, &zone),
        snapshot_id: report.snapshot.map(|id| id.to_string()),
        outcome: word(report.outcome),
        problems: report.problem_count,
        own: texts(report.own.iter().take(OWN_NAMED).map(Vec::as_slice)).into_iter().map(Cow::into_owned).collect(),
        own_count: report.own.len() as u64,
        emptied: texts(report.emptied.iter().take(OWN_NAMED).map(Vec::as_slice))
            .into_iter()
            .map(Cow::into_owned)
            .collect(),
    })
}

/// The lines for people. `example` is a path in the snapshot, `mirrors` the names of the mirrors, `sources` what was asked for.
#[must_use]
pub fn text(
    report: &Report,
    dry_run: bool,
    example: Option<&[u8]>,
    (mirrors, sources): (&[String], &[Vec<u8>]),
) -> Vec<String> {
    let mut lines = Vec::new();
    let summary = &report.summary;
    let stored = if dry_run { "would be stored" } else { "stored" };
    let what = match (report.snapshot, dry_run) {
        (Some(id), _) => format!("Snapshot {}", id.short()),
        (None, true) => "Dry run, nothing written".to_owned(),
        (None, false) => "Nothing changed, no snapshot made".to_owned(),
    };
    let mut line = format!(
        "{what}  {}  {}  {} read, {} {stored}  {}",
        size::counted(report.counts.files, "file", "files"),
        size::show(report.counts.bytes),
        size::show(summary.bytes_read),
        size::show(report.written.pack_bytes + report.written.other_bytes),
        span::show(report.took),
    );
    if let (Some(id), true) = (report.snapshot, report.problem_count > 0) {
        let notes = size::counted(report.problem_count, "note", "notes");
        line.push_str(&format!("  {notes}: {}", suggest!("show {}", id.short())));
    }
    lines.push(line);
    lines.push(format!(
        "Files: {} new, {} changed, {} unmodified   Directories: {} new, {} changed, {} unmodified",
        size::count(summary.files_new),
        size::count(summary.files_changed),
        size::count(summary.files_unmodified),
        size::count(summary.dirs_new),
        size::count(summary.dirs_changed),
        size::count(summary.dirs_unmodified),
    ));
    if report.deletions > 0 {
        let (count, verb) = (size::count(report.deletions), if report.deletions == 1 { "is" } else { "are" });
        let listed = if report.snapshot.is_some() { concat!(": ", suggest!("deleted")) } else { "" };
        lines.push(format!("{count} of what the snapshot before holds {verb} gone{listed}"));
    }
    if report.written.adopted_packs > 0 {
        let packs = size::counted(report.written.adopted_packs, "pack", "packs");
        lines.push(format!("{packs} of an interrupted run taken over"));
    }
    if report.outcome == Outcome::Partial {
        let verb = if dry_run { "would be" } else { "is" };
        lines.push(format!("! The snapshot {verb} partial, because of {}", failures(report)));
    }
    if !report.emptied.is_empty() {
        lines.push(format!("  If that is right: {}", suggest_all("backup --allow-empty", sources)));
    }
    if report.snapshot.is_some() {
        lines.push(if mirrors.is_empty() {
            concat!(
                "! Only copy: if its disk fails, the snapshots are gone. Next: ",
                suggest!("mirror add NAME s3://BUCKET/PATH")
            )
            .to_owned()
        } else {
            format!("Not on {} yet. Next: {}", mirrors.join(", "), suggest!("sync"))
        });
    }
    if let Some(id) = report.snapshot {
        let part = example.map(|example| [b":", example].concat()).unwrap_or_default();
        let restore =
            suggest_all("restore", [[id.short().as_bytes(), &part].concat().as_slice(), b"--target", b"./back"]);
        lines.push(format!("Get it back: {restore}"));
    }
    lines
}

fn failures(report: &Report) -> String {
    let failed =
        report.problems.iter().filter(|problem| !matches!(problem.kind, ProblemKind::Vanished | ProblemKind::Changed));
    let names: Vec<String> = failed.take(NAMED).map(|problem| escape(&problem.path)).collect();
    let more = if report.problem_count as usize > names.len() { ", ..." } else { "" };
    format!("{}{more}", names.join(", "))
}

/// The line about what a backup left out; none when there is nothing.
#[must_use]
pub fn left_out(own: &[Vec<u8>]) -> Option<String> {
    let named: Vec<String> = own.iter().take(NAMED).map(|path| escape(path)).collect();
    let more = own.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {} more", size::count(more as u64)) } else { String::new() };
    (!own.is_empty()).then(|| format!("Left out, packstone's own: {}{more}", named.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_few_are_named() {
        let paths = |count: usize| (0..count).map(|number| format!("/\u{1b}{number}").into_bytes()).collect::<Vec<_>>();
        assert_eq!(left_out(&[]), None);
        assert_eq!(left_out(&paths(1)).as_deref(), Some("Left out, packstone's own: /\\x1b0"));
        let line = left_out(&paths(NAMED + 2)).unwrap_or_default();
        assert!(line.ends_with(", /\\x1b4 and 2 more"), "{line}");
    }
}
