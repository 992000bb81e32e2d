//! `copy`: snapshots of another repository into this one.

use super::Context;
use super::exit::Exit;
use super::output::Output;
use super::progress::{Progress, Work};
use super::secret_options::FromOptions;
use super::snapshot_argument::{SnapshotFilter, SnapshotRef};
use super::watch::tell_warnings;
use crate::base::command::{suggest, suggest_all};
use crate::base::escape::escape;
use crate::base::id::ObjectId;
use crate::ops::copy::{self, Copied, Copying, Done, Options, Plan};
use crate::ops::select::Chosen;
use crate::ops::{Monitor, Problem, Severity};
use crate::repository::pack_writer::PackOptions;
use crate::tasks::environment::repositories;
use crate::tasks::failure::{Failure, Kind};
use crate::text::{clock, size, span};
use std::time::Duration;

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

/// What was done so far.
#[derive(Debug, Default)]
struct Tally {
    copied: u64,
    there: u64,
    /// Snapshots that were not copied.
    failed: u64,
    /// Whether any of them is damaged.
    damage: bool,
    /// New chunks, before compression.
    added: u64,
    /// Bytes of what was written.
    stored: u64,
}

/// Runs the command.
///
/// # Errors
/// [`Exit::Damage`] when a snapshot cannot be read wholly: it is not copied, the others are.
pub fn run(arguments: &Arguments, context: &mut Context) -> Result<Exit, Failure> {
    let destination = repositories::open_repository(&context.environment, &context.watch(), "copy")?;
    let from = arguments.from.source();
    let source = match &arguments.from.mirror {
        Some(mirror) => {
            repositories::open_source_mirror(&context.environment, &context.watch(), mirror, &from, destination.id())
                .map_err(|error| error.reading_from(mirror))?
        }
        None => repositories::open_source(&context.environment, &context.watch(), &from, destination.id(), "copy")?,
    };
    let of_source = match &arguments.from.mirror {
        Some(_) => context.output,
        None => Output { about: context.output.about.at(source.place()), ..context.output },
    };
    let mut plan = copy::plan(&source, &destination, &arguments.snapshots, &arguments.filter.resolve())?;
    tell_warnings(&source, of_source);
    tell_warnings(&destination, context.output);
    let mut tally = Tally { failed: plan.damaged.len() as u64, damage: !plan.damaged.is_empty(), ..Tally::default() };
    for (id, error) in &plan.damaged {
        context
            .output
            .warn(&format!("snapshot {} of the source cannot be read and is not copied: {error}", id.short()));
    }
    for (chosen, copy) in &plan.there {
        there(chosen, *copy, &mut tally, context)?;
    }
    let begun = std::time::Instant::now();
    if arguments.dry_run {
        for chosen in &plan.copy {
            would_copy(chosen, &mut tally, context)?;
        }
    } else if !plan.copy.is_empty() {
        let cpus = std::thread::available_parallelism().map_or(2, usize::from);
        let packs = PackOptions {
            pack_bytes: context.global.pack_size.unwrap_or(PackOptions::default().pack_bytes),
            compression: context.global.compression.level(),
            ..PackOptions::default()
        };
        let options = Options { readers: cpus.clamp(2, 4), packs };
        let progress = context.progress(Work::Copy);
        let mut copying = Copying::new(&source, &destination, &mut plan, options, &progress);
        let result = plan.copy.iter().try_for_each(|chosen| one(chosen, &mut copying, &mut tally, &progress, context));
        progress.finish();
        tell_warnings(&source, of_source);
        tell_warnings(&destination, context.output);
        result?;
    }
    summary(arguments, &plan, &tally, begun.elapsed(), context)?;
    match (tally.failed, tally.damage) {
        (0, _) => {
            if arguments.snapshots.is_empty() {
                source.require_newest().map_err(|error| Failure::from(error).about("the source"))?;
            }
            Ok(Exit::Success)
        }
        (failed, damage) => {
            let check = match &arguments.from.mirror {
                Some(mirror) => suggest!("check --from {}", mirror),
                None => suggest_all("-r", [source.place().as_os_str().as_encoded_bytes(), b"check"]),
            };
            let snapshots = size::counted(failed, "snapshot was", "snapshots were");
            let kind = Kind::of_unread(damage);
            Err(Failure::new(kind, format!("{snapshots} not copied: the source could not be read")).remedy(format!(
                "to see everything that is damaged in the source: {check}  Then run the same command again"
            )))
        }
    }
}

fn one(
    chosen: &Chosen,
    copying: &mut Copying<'_>,
    tally: &mut Tally,
    progress: &Progress,
    context: &Context,
) -> Result<(), Failure> {
    match copying.snapshot(chosen)? {
        Done::Copied(report) => {
            tally.copied += 1;
            tally.added += report.written.data_bytes + report.written.tree_bytes;
            tally.stored += report.written.pack_bytes + report.written.other_bytes;
            progress.between(|| copied(chosen, &report, context))
        }
        Done::There(copy) => progress.between(|| there(chosen, copy, tally, context)),
        Done::Unreadable(error) => {
            tally.failed += 1;
            tally.damage |= error.is_damage();
            let message = format!("snapshot {} is not copied: {error}", chosen.id.short());
            progress.problem(&Problem::new(Severity::Error, b"", &message));
            Ok(())
        }
    }
}

/// A snapshot as people know it: id, time, host, paths.
fn describe(Chosen { id, snapshot }: &Chosen) -> String {
    let time = clock::show(snapshot.time, &clock::local_zone());
    let paths: Vec<String> = snapshot.paths.iter().map(|path| escape(path)).collect();
    format!("{}  {time}  {}  {}", id.short(), escape(snapshot.host.as_bytes()), paths.join(", "))
}

fn copied(chosen: &Chosen, report: &Copied, context: &Context) -> Result<(), Failure> {
    let Copied { id, files_read, bytes_read, written, took, warnings } = report;
    let output = context.output;
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

fn there(chosen: &Chosen, copy: ObjectId, tally: &mut Tally, context: &Context) -> Result<(), Failure> {
    tally.there += 1;
    let output = context.output;
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

fn would_copy(chosen: &Chosen, tally: &mut Tally, context: &Context) -> Result<(), Failure> {
    tally.copied += 1;
    let counts = &chosen.snapshot.counts;
    if context.output.json {
        return context.output.json(&serde_json::json!({
            "message_type": "would_copy",
            "snapshot_id": chosen.id.to_string(),
            "total_files": counts.files,
            "total_bytes": counts.bytes,
        }));
    }
    context.output.info(format_args!(
        "{}\n  would be copied: {}, {}",
        describe(chosen),
        size::counted(counts.files, "file", "files"),
        size::show(counts.bytes)
    ))
}

fn summary(
    arguments: &Arguments,
    plan: &Plan,
    tally: &Tally,
    took: Duration,
    context: &Context,
) -> Result<(), Failure> {
    let Tally { copied, there, failed, added, stored, .. } = *tally;
    let output = context.output;
    if output.json {
        return output.json(&serde_json::json!({
            "message_type": "summary",
            "dry_run": arguments.dry_run,
            "copied_snapshots": copied,
            "there_already": there,
            "failed_snapshots": failed,
            "data_added": added,
            "data_added_packed": stored,
            "total_duration": took.as_secs_f64(),
        }));
    }
    if plan.copy.is_empty() && plan.there.is_empty() && failed == 0 {
        return output.info("No snapshot of the source is meant: nothing was copied");
    }
    let so_already = if there == 0 { String::new() } else { format!(", {there} there already") };
    let snapshots = size::counted(copied, "snapshot", "snapshots");
    if arguments.dry_run {
        return output.info(format_args!("{snapshots} would be copied{so_already}; nothing was changed"));
    }
    let stored = if copied == 0 { String::new() } else { format!(", {} stored", size::show(stored)) };
    output.info(format_args!("{snapshots} copied{so_already}{stored}  {}", span::show(took)))
}
