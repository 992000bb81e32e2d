//! `prune`: the space of what nothing needs comes back.

use super::Context;
use super::exit::Exit;
use super::progress::Work;
use crate::base::command::suggest;
use crate::ops::prune::{MaxUnused, PackUse, Report, Sum, Why, sum};
use crate::tasks::failure::Failure;
use crate::tasks::prune::{self, Request};
use crate::text::clock;
use crate::text::size::{self, counted};
use crate::text::span;
use std::time::Duration;

/// Remove what no snapshot needs
///
/// Packs that nothing needs are marked; packs of which much is unused are rewritten and then marked. What is marked can still
/// come back (packstone undelete) until it is swept: when the grace is over and no running command relies on it, the next
/// prune removes the files. Backups and restores go on meanwhile.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// Limits and grace.
    #[command(flatten)]
    pub options: PruneOptions,
    /// Change nothing, only say what would be done
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}

/// What `prune` and `forget --prune` share.
#[derive(Debug, Clone, clap::Args)]
pub struct PruneOptions {
    /// Space that may stay unused rather than be won by rewriting packs: x%, a size, or unlimited
    #[arg(long, value_name = "LIMIT", default_value = "5%", help_heading = "Pruning")]
    pub max_unused: MaxUnused,
    /// Rewrite at most this much (k, M, G, T: powers of 1024)
    #[arg(long, value_name = "SIZE", value_parser = size::parse, help_heading = "Pruning")]
    pub max_repack_size: Option<u64>,
    /// How long what is marked can come back before it is removed, such as 12h, 7d or 1m
    #[arg(long, value_name = "SPAN", default_value = "7d", value_parser = span::parse_days, help_heading = "Pruning")]
    pub grace: Duration,
    /// Remove at once what no running command relies on; nothing of it can come back
    #[arg(long, conflicts_with = "grace", help_heading = "Pruning")]
    pub instant: bool,
}

impl PruneOptions {
    /// As the task wants them.
    #[must_use]
    pub fn request(&self, dry_run: bool) -> Request {
        Request {
            max_unused: Some(self.max_unused),
            max_repack_size: self.max_repack_size,
            grace: (!self.instant).then_some(self.grace),
            instant: self.instant,
            dry_run,
        }
    }
}

/// Runs the command.
///
/// # Errors
/// [`Exit::Damage`] when something of a snapshot cannot be read: then nothing is marked.
pub fn run(arguments: &Arguments, context: &mut Context) -> Result<Exit, Failure> {
    let progress = context.progress(Work::Other);
    let report = prune::run(&arguments.options.request(arguments.dry_run), &context.environment, &progress);
    progress.finish();
    show(&report?, arguments.dry_run, context)
}

/// Says what was done.
///
/// # Errors
/// The standard output cannot be written.
pub fn show(report: &Report, dry_run: bool, context: &Context) -> Result<Exit, Failure> {
    let output = context.output;
    for (name, why) in report.swept.iter().flat_map(|swept| &swept.failed) {
        output.warn(&format!("{name} could not be removed: {why}; the next prune tries again"));
    }
    let plan = &report.plan;
    let (dead, keep) = (sum(&plan.dead), sum(&plan.keep));
    let repack = sum(plan.repack.iter().map(|(pack, _)| pack));
    let (removed, removed_bytes) = report.removed();
    let zone = clock::local_zone();
    if output.json {
        let of = |sum: Sum| serde_json::json!({ "packs": sum.packs, "bytes": sum.bytes, "unused_bytes": sum.unused });
        let repacked = |(pack, why): &(PackUse, Why)| {
            let (id, why) = (pack.id.to_string(), why.as_str());
            serde_json::json!({ "pack": id, "bytes": pack.length, "unused_bytes": pack.unused, "reason": why })
        };
        let until = report.waiting.grace_ends.map(|(first, last)| {
            serde_json::json!({ "first": clock::rfc3339(first, &zone), "last": clock::rfc3339(last, &zone) })
        });
        output.json(&serde_json::json!({
            "message_type": "prune",
            "dry_run": dry_run,
            "unneeded": of(dead),
            "kept": of(keep),
            "rewritten": of(repack),
            "rewritten_packs": plan.repack.iter().map(repacked).collect::<Vec<_>>(),
            "unneeded_packs": plan.dead.iter().map(|pack| pack.id.to_string()).collect::<Vec<_>>(),
            "merged_segments": plan.merge.len(),
            "marked": of(report.marked),
            "orphans": { "objects": report.orphans.0, "bytes": report.orphans.1 },
            "new_pack_bytes": report.repacked_bytes,
            "removed_objects": removed,
            "removed_bytes": removed_bytes,
            "waiting_bytes": report.waiting_bytes,
            "waiting_until": until,
            "waiting_for": report.waiting.holder.as_ref().map(ToString::to_string),
            "generation": report.head.map(|head| head.generation),
        }))?;
        return Ok(Exit::Success);
    }
    if context.output.verbosity > 0 {
        for pack in &plan.dead {
            output.info(format_args!("pack {}: {} that nothing needs", pack.id.short(), size::show(pack.length)))?;
        }
        for (pack, why) in &plan.repack {
            let why = match why {
                Why::PartlyUnused => format!("{} unused", size::show(pack.unused)),
                Why::Small => "small".to_owned(),
            };
            output.info(format_args!("pack {}: {}, {why}: rewritten", pack.id.short(), size::show(pack.length)))?;
        }
    }
    let would = if dry_run { "would be " } else { "" };
    if dead.packs > 0 {
        let packs = counted(dead.packs, "pack", "packs");
        output.info(format_args!("{packs} that nothing needs {would}marked: {}", size::show(dead.bytes)))?;
    }
    if repack.packs > 0 && report.busy.is_none() {
        let (packs, bytes) = (counted(repack.packs, "pack", "packs"), size::show(repack.bytes));
        let new = if dry_run {
            format!("about {}", size::show(repack.bytes - repack.unused.min(repack.bytes)))
        } else {
            size::show(report.repacked_bytes)
        };
        output.info(format_args!("{packs} {would}rewritten: {bytes} into {new}"))?;
    }
    if report.orphans.0 > 0 {
        let objects = counted(report.orphans.0, "object", "objects");
        output.info(format_args!("{objects} of interrupted runs {would}marked: {}", size::show(report.orphans.1)))?;
    }
    let merged = plan.merge.len() as u64;
    if merged > 0 && report.busy.is_none() {
        output
            .info(format_args!("{} {would}merged", counted(merged, "segment of the index", "segments of the index")))?;
    }
    if let Some(busy) = &report.busy {
        output.warn(&format!(
            "packs were not rewritten: {busy}. Next, or with --retry-lock 1h to wait: {}",
            suggest!("prune")
        ));
    }
    if removed > 0 {
        output.info(format_args!("{} removed: {}", counted(removed, "file", "files"), size::show(removed_bytes)))?;
    }
    if keep.unused > 0 {
        let (unused, bytes) = (size::show(keep.unused), size::show(keep.bytes));
        output.info(format_args!("{unused} stay unused in {bytes} of packs (--max-unused)"))?;
    }
    waiting(report, context)?;
    let quiet = plan.is_empty() && removed == 0 && report.orphans.0 == 0 && report.waiting_bytes == 0;
    if quiet && keep.unused == 0 {
        output.info("Nothing to do: everything that is stored is needed")?;
    }
    Ok(Exit::Success)
}

/// What is free when, and how to have it at once.
fn waiting(report: &Report, context: &Context) -> Result<(), Failure> {
    let output = context.output;
    let bytes = size::show(report.waiting_bytes);
    if let Some(holder) = &report.waiting.holder {
        return output.info(format_args!(
            "{bytes} stay until this has ended, which began before they were marked: {holder}. Then: {}",
            suggest!("prune")
        ));
    }
    if let Some((_, last)) = report.waiting.grace_ends.filter(|_| report.waiting_bytes > 0) {
        let until = clock::show(last, &clock::local_zone());
        output.info(format_args!(
            "{bytes} free by the first prune after {until} (undelete until then). Now: {}",
            suggest!("prune --instant")
        ))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::prune::GRACE;

    #[test]
    fn the_grace_of_the_help_is_the_one_that_is_taken() {
        assert_eq!(span::parse_days("7d"), Ok(GRACE));
        assert_eq!("5%".parse(), Ok(MaxUnused::default()));
    }
}
