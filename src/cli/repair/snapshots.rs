//! `repair snapshots`: new snapshots without what is lost.

use crate::base::command::suggest;
use crate::base::escape::escape;
use crate::cli::Context;
use crate::cli::exit::Exit;
use crate::cli::snapshot_argument::{SnapshotFilter, SnapshotRef};
use crate::ops::repair_snapshots::{Change, Report};
use crate::tasks::failure::Failure;
use crate::tasks::repair::snapshots::{self, Request};
use crate::text::size;

/// Make new snapshots without the files that are lost
///
/// Every lost file is listed. The new snapshots say that they are partial, and which files are missing; the old ones
/// stay until --forget removes them. Nothing is published while a pack is damaged or missing that "packstone repair packs" has
/// not seen.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// Only these
    #[arg(value_name = "SNAPSHOT")]
    pub snapshots: Vec<SnapshotRef>,
    /// Which snapshots.
    #[command(flatten)]
    pub filter: SnapshotFilter,
    /// Remove the old snapshots, as forget does
    #[arg(long)]
    pub forget: bool,
    /// Change nothing, only list what is lost
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}

/// Runs the command.
///
/// # Errors
/// When the repository cannot be opened, or the repair cannot be published.
pub fn run(arguments: &Arguments, context: &mut Context) -> Result<Exit, Failure> {
    let request = Request {
        snapshots: arguments.snapshots.clone(),
        filter: arguments.filter.request(),
        forget: arguments.forget,
        dry_run: arguments.dry_run,
    };
    let output = context.output;
    let mut failed = None;
    let mut tell = |id: crate::base::id::ObjectId, path: &[u8], why: &str| {
        let said = if output.json {
            output.json(&serde_json::json!({
                "message_type": "lost",
                "snapshot_id": id.to_string(),
                "path": String::from_utf8_lossy(path),
                "reason": why,
            }))
        } else {
            output.line(format_args!("{}:{}: {}", id.short(), escape(path), escape(why.as_bytes())))
        };
        failed = failed.take().or(said.err());
    };
    let report = snapshots::run(&request, &context.environment, &context.watch(), &mut tell)?;
    if let Some(error) = failed {
        return Err(error);
    }
    show(&report.report, arguments, context)?;
    Ok(report.kind().into())
}

fn show(report: &Report, arguments: &Arguments, context: &Context) -> Result<(), Failure> {
    let output = context.output;
    let new_id = |id| {
        let published = report.published.as_ref()?;
        published.snapshots.iter().find(|(old, _)| *old == id).map(|(_, new)| *new)
    };
    let mut broken = 0;
    for change in report.changes.iter().filter(|change| !change.is_whole() || new_id(change.id).is_some()) {
        let Change { id, files, bytes, directories, all_lost } = change;
        broken += 1;
        if output.json {
            output.json(&serde_json::json!({
                "message_type": "repaired",
                "old_snapshot_id": id.to_string(),
                "new_snapshot_id": new_id(*id).map(|id| id.to_string()),
                "lost_files": files,
                "lost_bytes": bytes,
                "broken_directories": directories,
                "all_lost": all_lost,
            }))?;
            continue;
        }
        let lost = format!(
            "{} ({}) and {} lost",
            size::counted(*files, "file", "files"),
            size::show(*bytes),
            size::counted(*directories, "listing", "listings"),
        );
        match new_id(*id) {
            _ if *all_lost => output.line(format_args!(
                "{}  nothing of it can be read. Next, when it cannot be healed: {}",
                id.short(),
                suggest!("forget {}", id.short())
            ))?,
            Some(new) => output.info(format_args!("{}  {lost}: {} has the rest", id.short(), new.short()))?,
            None => output.info(format_args!("{}  {lost}; a new snapshot would have the rest", id.short()))?,
        }
    }
    if output.json {
        return output.json(&serde_json::json!({
            "message_type": "summary",
            "dry_run": arguments.dry_run,
            "snapshots": report.changes.len(),
            "damaged_snapshots": broken,
            "new_snapshots": report.published.as_ref().map_or(0, |published| published.snapshots.len()),
        }));
    }
    if broken == 0 {
        let count = size::counted(report.changes.len() as u64, "snapshot has", "snapshots have");
        return output.info(format_args!("{count} lost nothing"));
    }
    match (&report.published, arguments.forget) {
        (None, _) if arguments.dry_run => output.info("Nothing was changed"),
        (None, _) => Ok(()),
        (Some(_), true) => output.info(concat!(
            "The old snapshots were removed. To bring them back, until prune has swept them: ",
            suggest!("undelete")
        )),
        (Some(_), false) => output
            .info(concat!("The old snapshots stay. Next, when nothing more can be healed: ", suggest!("forget ID"))),
    }
}
