//! `deleted`: what vanished from the sources, and how to get it back.

use super::Context;
use super::exit::Exit;
use super::json::{Raw, Text};
use super::snapshot_argument::SnapshotFilter;
use crate::base::command::{suggest, suggest_all};
use crate::base::escape::escape;
use crate::base::time::Time;
use crate::codec::deletion_log::{DeletedKind, Deletion};
use crate::ops::deleted::{Cursor, Page, Row, Way};
use crate::tasks::deleted::{self, LIMIT, LIMIT_MAX, Request};
use crate::tasks::failure::Failure;
use crate::text::table::{Align, Table};
use crate::text::{clock, size};
use jiff::tz::TimeZone;
use serde::Serialize;
use std::ffi::OsString;
use std::path::PathBuf;

/// List what vanished from the sources, and how to get it back
///
/// Every snapshot carries the log of what was deleted from its source, so forgetting snapshots does not shorten it. The newest
/// deletions come first.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// Only this file, or what was in this directory; with * ? [...] or ** a pattern as for find
    #[arg(value_name = "PATH")]
    pub path: Option<OsString>,
    /// Only what was found gone at this time or later: a time, or how long ago, such as 7d or 1y6m
    #[arg(long, value_name = "TIME", value_parser = clock::parse_past)]
    pub since: Option<Time>,
    /// Only what was found gone at this time or earlier
    #[arg(long, value_name = "TIME", value_parser = clock::parse_past)]
    pub until: Option<Time>,
    /// Also what is there again, and every deletion of the same path
    #[arg(short, long)]
    pub all: bool,
    /// Show at most N
    #[arg(long, value_name = "N", default_value_t = LIMIT,
          value_parser = clap::value_parser!(u32).range(1..=i64::from(LIMIT_MAX)))]
    pub limit: u32,
    /// Go on where a page ended: its last line names the cursor
    #[arg(long, value_name = "CURSOR", allow_hyphen_values = true)]
    pub after: Option<Cursor>,
    /// Which snapshots.
    #[command(flatten)]
    pub filter: SnapshotFilter,
}

/// One deletion.
#[derive(Debug, Serialize)]
struct DeletionJson<'a> {
    message_type: &'static str,
    path: Text<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_raw: Option<Raw<'a>>,
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    mtime: String,
    hostname: &'a str,
    found: String,
    last_snapshot_id: String,
    last_snapshot_time: String,
    there_again: bool,
    restorable: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    restorable_from: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    restorable_from_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    restorable_until: Option<String>,
}

/// Runs the command.
///
/// # Errors
/// A usage error for a pattern that is not understood; [`Exit::Damage`] when a log, a snapshot or a listing cannot be read,
/// after everything else has been shown.
pub fn run(arguments: &Arguments, context: &mut Context) -> Result<Exit, Failure> {
    let request = Request {
        path: arguments.path.as_ref().map(PathBuf::from),
        since: arguments.since,
        until: arguments.until,
        all: arguments.all,
        limit: arguments.limit,
        after: arguments.after,
        filter: arguments.filter.request(),
    };
    let report = deleted::run(&request, &context.environment, &context.watch())?;
    let (page, zone) = (&report.page, clock::local_zone());
    if context.output.json {
        let mut stream = context.output.stream();
        for row in &page.rows {
            stream.json(&row_json(row, &mut Vec::new(), &zone))?;
        }
        stream.json(&serde_json::json!({
            "message_type": "summary",
            "deletions": page.rows.len(),
            "next": page.next.map(|next| next.to_string()),
        }))?;
        stream.finish()?;
    } else {
        context.output.text(&table(page, &zone))?;
        hints(page, context)?;
    }
    report.incomplete.map_or(Ok(Exit::Success), Err)
}

const fn word(kind: DeletedKind) -> &'static str {
    match kind {
        DeletedKind::File => "file",
        DeletedKind::Directory => "dir",
        DeletedKind::Symlink => "symlink",
        DeletedKind::Other => "other",
    }
}

fn row_json<'a>(row: &'a Row, path: &'a mut Vec<u8>, zone: &TimeZone) -> DeletionJson<'a> {
    let Deletion { kind, size, mtime, snapshot, snapshot_time, found, .. } = &row.deletion;
    path.push(b'/');
    path.extend_from_slice(&row.deletion.path);
    let (restorable, from, until) = match &row.way {
        Way::Live { id, time } => ("live", Some((id, time)), None),
        Way::Removed { id, time, until } => ("removed", Some((id, time)), Some(*until)),
        Way::Gone => ("no", None, None),
    };
    DeletionJson {
        message_type: "deletion",
        path: Text(path),
        path_raw: Raw::of(path),
        kind: word(*kind),
        size: (*kind == DeletedKind::File).then_some(*size),
        mtime: clock::rfc3339(*mtime, zone),
        hostname: &row.host,
        found: clock::rfc3339(*found, zone),
        last_snapshot_id: snapshot.to_string(),
        last_snapshot_time: clock::rfc3339(*snapshot_time, zone),
        there_again: row.there_again,
        restorable,
        restorable_from: from.map(|(id, _)| id.to_string()),
        restorable_from_time: from.map(|(_, time)| clock::rfc3339(*time, zone)),
        restorable_until: until.map(|until| clock::rfc3339(until, zone)),
    }
}

fn table(page: &Page, zone: &TimeZone) -> String {
    let several = page.rows.windows(2).any(|pair| pair[0].host != pair[1].host);
    let mut columns = vec![("Found gone", Align::Left), ("Last seen", Align::Left), ("Can be had", Align::Left)];
    columns.extend(several.then_some(("Host", Align::Left)));
    columns.extend([("Size", Align::Right), ("Path", Align::Left)]);
    let mut table = Table::new(&columns);
    for row in &page.rows {
        let Deletion { path, kind, size, snapshot_time, found, .. } = &row.deletion;
        let way = match &row.way {
            Way::Live { id, .. } => format!("as long as {} is kept", id.short()),
            Way::Removed { id, until, .. } => {
                format!("until {}: undelete {}", clock::show(*until, zone), id.short())
            }
            Way::Gone => "no longer".to_owned(),
        };
        let slash = if *kind == DeletedKind::Directory { "/" } else { "" };
        let again = if row.there_again { "  (there again)" } else { "" };
        let mut cells = vec![clock::show(*found, zone), clock::show(*snapshot_time, zone), way];
        cells.extend(several.then(|| escape(row.host.as_bytes())));
        cells.push(if *kind == DeletedKind::File { size::show(*size) } else { String::new() });
        cells.push(format!("/{}{slash}{again}", escape(path)));
        table.row(cells);
    }
    table.footer(size::counted(page.rows.len() as u64, "deletion", "deletions"));
    table.render()
}

/// What to type next.
fn hints(page: &Page, context: &Context) -> Result<(), Failure> {
    let live = page.rows.iter().find_map(|row| match &row.way {
        // A name that is shown otherwise than it is cannot be typed.
        Way::Live { id, .. } if escape(&row.deletion.path).as_bytes() == row.deletion.path => {
            Some((id, [b"/", row.deletion.path.as_slice()].concat()))
        }
        _ => None,
    });
    if let Some((id, path)) = live {
        let part = [id.short().as_bytes(), b":", &path].concat();
        let restore = suggest_all("restore", [part.as_slice(), b"--target", b"./back"]);
        context.output.info(format_args!("Get one back: {restore}"))?;
    }
    if let Some(next) = page.next {
        context.output.info(format_args!("Older ones: {}", suggest!("deleted --after {}", next)))?;
    }
    Ok(())
}
