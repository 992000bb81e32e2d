//! `copy`: snapshots of another repository into this one.

use super::Context;
use super::exit::Exit;
use super::output::Output;
use super::progress::Work;
use super::secret_options::FromOptions;
use super::snapshot_argument::{SnapshotFilter, SnapshotRef};
use crate::base::escape::escape;
use crate::base::id::ObjectId;
use crate::ops::copy::Copied;
use crate::ops::select::Chosen;
use crate::tasks::copy::{self, Event, Report, Request};
use crate::tasks::failure::Failure;
use crate::text::{clock, size, span};

/// Copy snapshots from another repository into this one
///
/// Without a snapshot, all that --host, --tag and --path let through, oldest first. What has been copied before is not copied
/// again, so the same command may run every night. The two repositories have keys and chunks of their own: contents are read,
/// checked and stored as a backup would store them, so that later backups here share chunks with them. Each snapshot is
/// there wholly or not at all; after an interruption the same command goes on.
///
/// A copy keeps time, host, paths, tags and hold of its source, and has a new id. To copy a whole repository, keys and
/// all, any tool that copies its directory is enough.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// Only these snapshots of the source
    #[arg(value_name = "SNAPSHOT")]
    pub snapshots: Vec<SnapshotRef>,
    /// The repository to copy from.
    #[command(flatten)]
    pub from: FromOptions,
    /// Which snapshots.
    #[command(flatten)]
    pub filter: SnapshotFilter,
    /// Change nothing, only say what would be copied
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}

impl Arguments {
    fn request(&self) -> Request {
        Request {
            snapshots: self.snapshots.clone(),
            from: self.from.source(),
            from_mirror: self.from.mirror.clone(),
            filter: self.filter.request(),
            dry_run: self.dry_run,
        }
    }
}

/// Runs the command.
///
/// # Errors
/// [`Exit::Damage`] when a snapshot cannot be read wholly: it is not copied, the others are.
pub fn run(arguments: &Arguments, context: &mut Context) -> Result<Exit, Failure> {
    let output = context.output;
    let progress = context.progress(Work::Copy);
    let mut show = |event: Event<'_>| {
        progress.between(|| match event {
            Event::There(chosen, copy) => there(chosen, copy, output),
            Event::WouldCopy(chosen) => would_copy(chosen, output),
            Event::Copied(chosen, report) => copied(chosen, report, output),
        })
    };
    let result = copy::run(&arguments.request(), &context.environment, &progress, &mut show);
    progress.finish();
    let report = result?;
    summary(&report, arguments.dry_run, output)?;
    report.incomplete.map_or(Ok(Exit::Success), Err)
}

/// A snapshot as people know it: id, time, host, paths.
fn describe(Chosen { id, snapshot }: &Chosen) -> String {
    let time = clock::show(snapshot.time, &clock::local_zone());
    let paths: Vec<String> = snapshot.paths.iter().map(|path| escape(path)).collect();
    format!("{}  {time}  {}  {}", id.short(), escape(snapshot.host.as_bytes()), paths.join(", "))
}

fn copied(chosen: &Chosen, report: &Copied, output: Output) -> Result<(), Failure> {
    let Copied { id, files_read, bytes_read, written, took, warnings } = report;
    for warning in warnings {
        output.warn(warning);
    }
    let stored = written.pack_bytes + written.other_bytes;
    if output.json {
        return output.json(&serde_json::json!({
            "message_type": "copied",
            "snapshot_id": chosen.id.to_string(),
            "copy_id": id.to_string(),
            "files_read": files_read,
            "bytes_read": bytes_read,
            "data_blobs": written.data_chunks,
            "tree_blobs": written.tree_chunks,
            "data_added": written.data_bytes + written.tree_bytes,
            "data_added_packed": stored,
            "adopted_packs": written.adopted_packs,
            "total_duration": took.as_secs_f64(),
        }));
    }
    if written.adopted_packs > 0 {
        let packs = size::counted(written.adopted_packs, "pack", "packs");
        output.info(format_args!("{packs} of an interrupted run taken over"))?;
    }
    output.info(format_args!(
        "{}\n  copied, is {} here: {} read, {}, {} stored  {}",
        describe(chosen),
        id.short(),
        size::counted(*files_read, "file", "files"),
        size::show(*bytes_read),
        size::show(stored),
        span::show(*took),
    ))
}

fn there(chosen: &Chosen, copy: ObjectId, output: Output) -> Result<(), Failure> {
    if output.json {
        return output.json(&serde_json::json!({
            "message_type": "there",
            "snapshot_id": chosen.id.to_string(),
            "copy_id": copy.to_string(),
        }));
    }
    if output.verbosity > 0 {
        output.info(format_args!("{}\n  there already, is {} here", describe(chosen), copy.short()))?;
    }
    Ok(())
}

fn would_copy(chosen: &Chosen, output: Output) -> Result<(), Failure> {
    let counts = &chosen.snapshot.counts;
    if output.json {
        return output.json(&serde_json::json!({
            "message_type": "would_copy",
            "snapshot_id": chosen.id.to_string(),
            "total_files": counts.files,
            "total_bytes": counts.bytes,
        }));
    }
    output.info(format_args!(
        "{}\n  would be copied: {}, {}",
        describe(chosen),
        size::counted(counts.files, "file", "files"),
        size::show(counts.bytes)
    ))
}

fn summary(report: &Report, is_dry_run: bool, output: Output) -> Result<(), Failure> {
    let Report { copied, there, failed, added, stored, took, is_empty, .. } = *report;
    if output.json {
        return output.json(&serde_json::json!({
            "message_type": "summary",
            "dry_run": is_dry_run,
            "copied_snapshots": copied,
            "there_already": there,
            "failed_snapshots": failed,
            "data_added": added,
            "data_added_packed": stored,
            "total_duration": took.as_secs_f64(),
        }));
    }
    if is_empty {
        return output.info("No snapshot of the source is meant: nothing was copied");
    }
    let so_already = if there == 0 { String::new() } else { format!(", {there} there already") };
    let snapshots = size::counted(copied, "snapshot", "snapshots");
    if is_dry_run {
        return output.info(format_args!("{snapshots} would be copied{so_already}; nothing was changed"));
    }
    let stored = if copied == 0 { String::new() } else { format!(", {} stored", size::show(stored)) };
    output.info(format_args!("{snapshots} copied{so_already}{stored}  {}", span::show(took)))
}
