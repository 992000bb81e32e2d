//! `show`: everything about one snapshot but its files.

use super::exit::Exit;
use super::json::{Raw, Snapshot as JsonSnapshot, Text};
use super::snapshot_argument::{SnapshotFilter, SnapshotRef};
use super::{Context, snapshot_json};
use crate::base::command::suggest;
use crate::base::escape::{Escaped, escape};
use crate::codec::snapshot::{Problem, ProblemKind};
use crate::ops::select::Chosen;
use crate::ops::show::typed_path;
use crate::tasks::failure::Failure;
use crate::tasks::show::{self, Request};
use crate::text::{clock, size};
use jiff::tz::TimeZone;
use serde::Serialize;
use std::time::Duration;

/// Show a snapshot's facts and notes: what could not be read, what changed while it was read
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// The snapshot; latest and latest~N count back from the newest
    #[arg(value_name = "SNAPSHOT")]
    pub snapshot: SnapshotRef,
    /// Which snapshots latest counts.
    #[command(flatten)]
    pub filter: SnapshotFilter,
}

/// Lines of `show --json`: the snapshot first, then a line for each note.
#[derive(Debug, Serialize)]
#[serde(tag = "message_type", rename_all = "snake_case")]
enum Message<'a> {
    Snapshot {
        #[serde(flatten)]
        snapshot: &'a JsonSnapshot,
        #[serde(skip_serializing_if = "Option::is_none")]
        original: Option<String>,
        options: &'a [String],
        files: u64,
        directories: u64,
        others: u64,
        bytes: u64,
        bytes_read: u64,
        deletions: u64,
        notes: u64,
    },
    Note {
        path: Text<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        path_raw: Option<Raw<'a>>,
        kind: &'static str,
        message: &'a str,
    },
}

/// Runs the command.
///
/// # Errors
/// [`Exit::Damage`] when the snapshot or its notes cannot be read.
pub fn run(arguments: &Arguments, context: &mut Context) -> Result<Exit, Failure> {
    let request = Request { snapshot: arguments.snapshot.clone(), filter: arguments.filter.request() };
    let planned = show::plan(&request, &context.environment, &context.watch())?;
    let zone = clock::local_zone();
    let mut stream = context.output.stream();
    let chosen = planned.chosen();
    let snapshot = &chosen.snapshot;
    if context.output.json {
        stream.json(&Message::Snapshot {
            snapshot: &snapshot_json::snapshot(chosen, &zone),
            original: snapshot.original.map(|id| id.to_string()),
            options: &snapshot.options,
            files: snapshot.counts.files,
            directories: snapshot.counts.directories,
            others: snapshot.counts.others,
            bytes: snapshot.counts.bytes,
            bytes_read: snapshot.summary.bytes_read,
            deletions: snapshot.deleted_count,
            notes: snapshot.problem_count,
        })?;
        planned.execute(&mut |problem| {
            let Problem { path, kind, message } = &problem;
            stream.json(&Message::Note { path: Text(path), path_raw: Raw::of(path), kind: word(*kind), message })
        })?;
        stream.finish()?;
        return Ok(Exit::Success);
    }
    for (name, value) in facts(chosen, &zone) {
        stream.line(format_args!("{name:<10}{value}"))?;
    }
    if snapshot.problem_count > 0 {
        stream.line(format_args!("\n{}:", size::counted(snapshot.problem_count, "note", "notes")))?;
    }
    planned.execute(&mut |problem| {
        let message = Escaped(problem.message.as_bytes());
        if problem.path.is_empty() {
            return stream.line(format_args!("  {:<12} {message}", word(problem.kind)));
        }
        stream.line(format_args!(
            "  {:<12} {}: {message}",
            word(problem.kind),
            Escaped(&typed_path(&problem.path, &snapshot.paths))
        ))
    })?;
    stream.finish()?;
    Ok(Exit::Success)
}

/// The word for a note's kind, in text and JSON.
const fn word(kind: ProblemKind) -> &'static str {
    match kind {
        ProblemKind::Unreadable => "unreadable",
        ProblemKind::MissingSource => "missing",
        ProblemKind::Vanished => "vanished",
        ProblemKind::Changed => "changed",
        ProblemKind::Metadata => "metadata",
        ProblemKind::Unsupported => "unsupported",
    }
}

fn facts(chosen: &Chosen, zone: &TimeZone) -> Vec<(&'static str, String)> {
    let Chosen { id, snapshot } = chosen;
    let (counts, summary) = (&snapshot.counts, &snapshot.summary);
    let text = |text: &String| escape(text.as_bytes());
    let list = |list: &[String]| list.iter().map(text).collect::<Vec<_>>().join(", ");
    let mut facts = vec![("snapshot", id.to_string()), ("time", clock::show(snapshot.time, zone))];
    if snapshot.time != snapshot.written {
        facts.push(("written", clock::show(snapshot.written, zone)));
    }
    facts.push(("host", text(&snapshot.host)));
    facts.push(("user", text(&snapshot.user)));
    for path in &snapshot.paths {
        facts.push(("path", escape(path)));
    }
    if !snapshot.tags.is_empty() {
        facts.push(("tags", list(&snapshot.tags)));
    }
    if snapshot.held {
        facts.push((
            "held",
            format!("yes: no rule removes it. To let it go: {}", suggest!("release {}", chosen.id.short())),
        ));
    }
    if !snapshot.label.is_empty() {
        facts.push(("label", text(&snapshot.label)));
    }
    if let Some(parent) = snapshot.parent {
        facts.push(("parent", parent.short()));
    }
    if let Some(original) = snapshot.original {
        facts.push(("original", original.short()));
    }
    let meaning = match snapshot_json::outcome(snapshot.outcome) {
        "partial" => "partial: something could not be read",
        "changed" => "changed: something grew, shrank or vanished while it was read",
        complete => complete,
    };
    facts.push(("outcome", meaning.to_owned()));
    facts.push((
        "holds",
        format!(
            "{}, {}, {}, {}",
            size::counted(counts.files, "file", "files"),
            size::counted(counts.directories, "directory", "directories"),
            size::counted(counts.others, "other", "others"),
            size::show(counts.bytes)
        ),
    ));
    for (name, new, changed, unmodified) in [
        ("files", summary.files_new, summary.files_changed, summary.files_unmodified),
        ("dirs", summary.dirs_new, summary.dirs_changed, summary.dirs_unmodified),
    ] {
        let [new, changed, unmodified] = [new, changed, unmodified].map(size::count);
        facts.push((name, format!("{new} new, {changed} changed, {unmodified} unmodified")));
    }
    facts.push((
        "added",
        format!(
            "{} read, {} new, {} stored, in {}",
            size::show(summary.bytes_read),
            size::show(summary.data_added),
            size::show(summary.data_stored),
            crate::text::span::show(Duration::from_nanos(summary.duration_nanoseconds))
        ),
    ));
    if snapshot.deleted_count > 0 {
        let deletions = size::counted(snapshot.deleted_count, "deletion", "deletions");
        facts.push(("log", format!("{deletions} so far. To see them: {}", suggest!("deleted"))));
    }
    for option in &snapshot.options {
        facts.push(("option", text(option)));
    }
    facts.push(("program", text(&snapshot.program)));
    facts
}
