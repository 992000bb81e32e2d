//! `restore`: from a snapshot to files.

use super::Context;
use super::exit::Exit;
use super::json::{RestoreCounts, RestoreMessage, RestoreMetadata, RestoreSummary};
use super::output::Output;
use super::patterns::{ExcludeOptions, IncludeOptions};
use super::progress::{Progress, Work};
use super::snapshot_argument::{SnapshotArgument, SnapshotFilter};
use crate::base::command::suggest;
use crate::base::escape::escape;
use crate::files::apply::Severity;
use crate::ops::restore::report::READ_BACK;
use crate::ops::restore::{Cause, Plan, ProblemKind, Report, Unset};
use crate::ops::{self, Action, Item, Monitor};
use crate::tasks::failure::Failure;
use crate::tasks::restore::{self, Request};
use crate::text::{size, span};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// When a file that is there already is written over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Overwrite {
    /// Always; a file of the same size is compared first, and written only if it differs
    #[default]
    Always,
    /// If size or modification time differ
    IfChanged,
    /// If the snapshot's file is newer
    IfNewer,
    /// Never
    Never,
}

/// Write files of a snapshot back
///
/// Nothing outside the target is ever changed. An interrupted restore is continued by the same command.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// The snapshot, or a part of it as ID:path; latest and latest~N count back from the newest
    #[arg(value_name = "SNAPSHOT[:PATH]")]
    pub snapshot: SnapshotArgument,
    /// Write into this directory, which is made if need be
    #[arg(short, long, value_name = "DIRECTORY")]
    pub target: PathBuf,
    /// What to take only.
    #[command(flatten)]
    pub include: IncludeOptions,
    /// What to leave out.
    #[command(flatten)]
    pub exclude: ExcludeOptions,
    /// Which snapshots latest counts.
    #[command(flatten)]
    pub filter: SnapshotFilter,
    /// When to write over a file that is there
    #[arg(long, value_name = "WHEN", value_enum, default_value_t, help_heading = "At the target")]
    pub overwrite: Overwrite,
    /// Remove what is in the target's directories but not in the snapshot (not beside the way to what was backed up)
    #[arg(long, help_heading = "At the target")]
    pub delete: bool,
    /// Make long runs of zeros holes, whatever they were
    #[arg(long, help_heading = "At the target")]
    pub sparse: bool,
    /// Set owners by number, not by name
    #[arg(long, help_heading = "At the target")]
    pub numeric_owner: bool,
    /// Exit with code 1 if owners, devices or set-uid and set-gid bits cannot be set
    #[arg(long, help_heading = "At the target")]
    pub strict_owner: bool,
    /// Read everything back and compare, contents and metadata
    #[arg(long, help_heading = "At the target")]
    pub verify: bool,
    /// Only show what would be done, with every entry that --delete would remove; with -v also what would be written
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}

impl Arguments {
    fn request(&self) -> Request {
        Request {
            snapshot: self.snapshot.clone(),
            target: self.target.clone(),
            include: self.include.rules(),
            exclude: self.exclude.rules(),
            filter: self.filter.request(),
            overwrite: match self.overwrite {
                Overwrite::Always => ops::restore::Overwrite::Always,
                Overwrite::IfChanged => ops::restore::Overwrite::IfChanged,
                Overwrite::IfNewer => ops::restore::Overwrite::IfNewer,
                Overwrite::Never => ops::restore::Overwrite::Never,
            },
            delete: self.delete,
            sparse: self.sparse,
            numeric_owner: self.numeric_owner,
            strict_owner: self.strict_owner,
            verify: self.verify,
            dry_run: self.dry_run,
        }
    }
}

/// Runs the command.
///
/// # Errors
/// Any error means that the restore did not come to its end; what was restored until then is complete, file by file.
pub fn run(arguments: &Arguments, context: &mut Context) -> Result<Exit, Failure> {
    let request = arguments.request();
    let (target, output) = (&request.target, context.output);
    let progress = context.progress(Work::Restore);
    let opened = restore::open(&request, &context.environment, &progress)?;
    for note in opened.notes() {
        progress.between(|| output.info(format_args!("Note: {note}")))?;
    }
    let planned = opened.plan(&progress)?;
    if context.environment.from_mirror.is_some() {
        progress.between(|| tell_fetches(planned.plan(), output))?;
    }
    let source = planned.source().to_owned();
    if request.dry_run {
        tell_lines(planned.plan(), &progress, output);
        planned.report_warnings(&progress);
        let elapsed = progress.elapsed();
        progress.finish();
        show_plan(planned.plan(), &source, target, elapsed.as_secs(), output)?;
        return Ok(planned.kind().into());
    }
    let done = planned.execute(&progress);
    let elapsed = progress.elapsed();
    progress.finish();
    let report = done?;
    show_report(&report.report, &source, target, elapsed, report.strict_owner, output)?;
    Ok(report.kind().into())
}

/// Names what would be done, as far as that is asked for.
fn tell_lines(plan: &Plan, progress: &Progress, output: Output) {
    for line in plan.lines() {
        let item = Item { directory: line.directory, size: line.size, ..Item::new(&line.path, line.action) };
        match line.action {
            // What goes is named whatever else is.
            Action::Deleted => progress.name(&item),
            Action::New | Action::Changed if output.verbosity == 1 => progress.name(&item),
            Action::Unchanged if line.directory => {}
            _ => progress.item(&item),
        }
    }
}

fn shown(target: &Path) -> String {
    escape(target.as_os_str().as_bytes())
}

/// What the contents will cost. Listings were read for the plan.
fn tell_fetches(plan: &Plan, output: Output) -> Result<(), Failure> {
    let totals = plan.totals();
    if output.json {
        return output.json(&serde_json::json!({
            "message_type": "plan",
            "objects": totals.packs,
            "bytes_to_fetch": totals.stored_bytes,
            "requests": totals.requests,
        }));
    }
    output.info(format!(
        "To fetch: {} of {}, in {}",
        size::show(totals.stored_bytes),
        size::counted(totals.packs, "pack", "packs"),
        size::counted(totals.requests, "request", "requests")
    ))
}

fn show_plan(plan: &Plan, source: &str, target: &Path, seconds: u64, output: Output) -> Result<(), Failure> {
    let totals = plan.totals();
    if output.json {
        let counts = RestoreCounts {
            total_files: totals.entries,
            files_restored: totals.files + totals.directories + totals.others,
            files_skipped: totals.skipped + totals.unchanged,
            files_deleted: totals.deleted,
            total_bytes: totals.entry_bytes,
            bytes_restored: totals.bytes,
            bytes_skipped: totals.skipped_bytes + totals.unchanged_bytes,
        };
        let error_count = plan.problem_count();
        return output.json(&RestoreMessage::Summary(RestoreSummary {
            seconds_elapsed: seconds,
            counts,
            error_count,
            files_not_compared: 0,
            metadata: Vec::new(),
        }));
    }
    output.line(format!(
        "Would restore {source} to {}: {}, {}, {} others, {} to write",
        shown(target),
        size::counted(totals.files, "file", "files"),
        size::counted(totals.directories, "new directory", "new directories"),
        size::count(totals.others),
        size::show(totals.bytes)
    ))?;
    output.info(format!(
        "{} in {} to read ({}); {} unchanged, {} skipped, {} to delete. Nothing was changed",
        size::counted(totals.blocks, "block", "blocks"),
        size::counted(totals.packs, "pack", "packs"),
        size::show(totals.stored_bytes),
        size::count(totals.unchanged),
        size::count(totals.skipped),
        size::count(totals.deleted)
    ))?;
    if plan.problem_count() > 0 {
        output.warn(&format!("{}, named above", size::counted(plan.problem_count(), "problem", "problems")));
    }
    Ok(())
}

/// Metadata that is not as in the snapshot: one line a cause.
fn sentence(cause: &Cause, unset: &Unset) -> String {
    let Cause { severity, what, reason } = cause;
    let entries = size::counted(unset.count, "entry", "entries");
    let next = match severity {
        Severity::Note | Severity::NotPermitted => "; run as root of the machine to restore it",
        Severity::Failed if reason == READ_BACK => "; run the same command again",
        Severity::Failed => "",
    };
    format!("{what}: {reason} for {entries}, {} among them{next}", escape(&unset.example))
}

fn show_report(
    report: &Report,
    source: &str,
    target: &Path,
    elapsed: std::time::Duration,
    strict_owner: bool,
    output: Output,
) -> Result<(), Failure> {
    for (cause, unset) in &report.unset {
        output.warn(&sentence(cause, unset));
    }
    let counts = |severity| strict_owner || severity != Severity::Note;
    let error_count = report.problem_count.saturating_add(report.unset_count(counts));
    if output.json {
        let counts = RestoreCounts {
            total_files: report.total_entries,
            files_restored: report.files + report.directories + report.others,
            files_skipped: report.skipped + report.unchanged,
            files_deleted: report.deleted,
            total_bytes: report.total_bytes,
            bytes_restored: report.bytes,
            bytes_skipped: report.skipped_bytes.saturating_add(report.unchanged_bytes),
        };
        let metadata = report.unset.iter().map(|(cause, unset)| RestoreMetadata {
            what: cause.what.clone(),
            reason: cause.reason.clone(),
            note: cause.severity == Severity::Note,
            count: unset.count,
            example: escape(&unset.example),
        });
        let metadata = metadata.collect();
        let summary = RestoreSummary {
            seconds_elapsed: elapsed.as_secs(),
            counts,
            error_count,
            files_not_compared: report.not_compared,
            metadata,
        };
        return output.json(&RestoreMessage::Summary(summary));
    }
    let mut line = format!(
        "Restored {source} to {}  {}, {}, {} others  {} written  {}",
        shown(target),
        size::counted(report.files, "file", "files"),
        size::counted(report.directories, "directory", "directories"),
        size::count(report.others),
        size::show(report.bytes),
        span::show(elapsed)
    );
    let more = [(report.unchanged, "unchanged"), (report.skipped, "skipped"), (report.deleted, "deleted")];
    for (count, word) in more.into_iter().filter(|(count, _)| *count > 0) {
        line.push_str(&format!("  {} {word}", size::count(count)));
    }
    if report.verified > 0 {
        let wrong = report.problems.iter().any(|problem| problem.kind == ProblemKind::Verify)
            || report.unset.keys().any(|cause| cause.reason == READ_BACK);
        let word = if wrong { "read back, not all as in the snapshot" } else { "read back and identical" };
        line.push_str(&format!("  {} {word}", size::counted(report.verified, "file", "files")));
    }
    if !output.quiet {
        output.line(line)?;
    }
    if report.not_compared > 0 {
        let (files, was) = (
            size::counted(report.not_compared, "file", "files"),
            if report.not_compared == 1 { "was" } else { "were" },
        );
        output.info(format!(
            "{files} {was} compared chunk by chunk and not as a whole, because the chunks did not come in the file's order: --verify compares both"
        ))?;
    }
    for (pack, files) in &report.damaged_packs {
        let files = size::counted(*files, "file", "files");
        output.warn(&format!("damaged: pack {} holds parts of {files} that are not restored", pack.short()));
    }
    if report.damage_count > 0 {
        output.warn(concat!(
            "the rest is restored. A good copy of the file under the same name heals it; run the same command again then. Next: ",
            suggest!("check --read-data")
        ));
    } else if report.problem_count > 0 {
        let problems = size::counted(report.problem_count, "entry was", "entries were");
        let mut line = format!("{problems} not restored as in the snapshot");
        if report.not_reached > 0 {
            line.push_str(&format!(
                ", {} of them in directories that could not be made",
                size::count(report.not_reached)
            ));
        }
        output.warn(&format!("{line}: see above"));
    }
    Ok(())
}
