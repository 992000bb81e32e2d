//! `rewrite`: drop paths from snapshots.

use super::Context;
use super::exit::Exit;
use super::patterns::ExcludeOptions;
use super::snapshot_argument::{SnapshotFilter, SnapshotRef};
use crate::base::command::suggest;
use crate::ops::rewrite::{Change, Report};
use crate::tasks::failure::Failure;
use crate::tasks::rewrite::{self, Request};
use crate::text::size;

/// Drop paths from snapshots
///
/// Makes new snapshots without what the exclude patterns match; the old ones stay until --forget removes them. Space
/// comes back when the old ones are gone and "packstone prune" has run. Patterns are matched against the paths in the
/// snapshots, as "packstone ls" shows them.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// Only these; without any, all that --host, --tag and --path let through
    #[arg(value_name = "SNAPSHOT")]
    pub snapshots: Vec<SnapshotRef>,
    /// What to drop.
    #[command(flatten)]
    pub excludes: ExcludeOptions,
    /// Which snapshots.
    #[command(flatten)]
    pub filter: SnapshotFilter,
    /// Remove the old snapshots, as forget does
    #[arg(long)]
    pub forget: bool,
    /// Change nothing, only say what would be done
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}

/// Runs the command.
///
/// # Errors
/// [`Exit::Usage`] without a pattern; [`Exit::Damage`] when a listing cannot be read: then nothing was published.
pub fn run(arguments: &Arguments, context: &mut Context) -> Result<Exit, Failure> {
    let request = Request {
        snapshots: arguments.snapshots.clone(),
        filter: arguments.filter.request(),
        exclude: arguments.excludes.rules(),
        forget: arguments.forget,
        dry_run: arguments.dry_run,
    };
    let report = rewrite::run(&request, &context.environment, &context.watch())?;
    show(&report.report, arguments, context)?;
    Ok(report.kind().into())
}

fn show(report: &Report, arguments: &Arguments, context: &Context) -> Result<(), Failure> {
    let output = context.output;
    let new_id = |id| {
        let published = report.published.as_ref()?;
        published.snapshots.iter().find(|(old, _)| *old == id).map(|(_, new)| *new)
    };
    let mut changed = 0;
    for Change { id, dropped } in &report.changes {
        let Some(dropped) = dropped else { continue };
        changed += 1;
        if output.json {
            output.json(&serde_json::json!({
                "message_type": "changed",
                "old_snapshot_id": id.to_string(),
                "new_snapshot_id": new_id(*id).map(|id| id.to_string()),
                "dropped_entries": dropped.entries(),
                "dropped_files": dropped.files,
                "dropped_bytes": dropped.bytes,
            }))?;
            continue;
        }
        let (entries, bytes) = (size::counted(dropped.entries(), "entry", "entries"), size::show(dropped.bytes));
        match new_id(*id) {
            Some(new) => output.info(format_args!("{}  without {entries} ({bytes}): {}", id.short(), new.short()))?,
            None => output.info(format_args!("{}  {entries} ({bytes}) would be dropped", id.short()))?,
        }
    }
    if output.json {
        return output.json(&serde_json::json!({
            "message_type": "summary",
            "dry_run": arguments.dry_run,
            "snapshots": report.changes.len(),
            "changed_snapshots": changed,
        }));
    }
    let of = size::counted(report.changes.len() as u64, "snapshot", "snapshots");
    match (changed, &report.published, arguments.forget) {
        (0, ..) => output.info(format_args!("Nothing in {of} matches")),
        (_, None, _) => output.info(format_args!("{changed} of {of} would be rewritten; nothing was changed")),
        (_, Some(_), false) => output.info(format_args!(
            "{changed} of {of} rewritten; the old ones stay. To free the space: {}  Then: {}",
            suggest!("forget ID"),
            suggest!("prune")
        )),
        (_, Some(_), true) => output.info(format_args!(
            "{changed} of {of} rewritten, the old ones removed (undelete brings them back). To free the space: {}",
            suggest!("prune")
        )),
    }
}
