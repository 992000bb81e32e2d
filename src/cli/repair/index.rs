//! `repair index`: make the cache again from segments, and missing segments from packs.

use crate::base::command::suggest;
use crate::base::escape::escape;
use crate::cli::Context;
use crate::cli::exit::Exit;
use crate::cli::progress::Work;
use crate::ops::repair_index::{Plan, pack_name};
use crate::tasks::failure::Failure;
use crate::tasks::repair::Round;
use crate::tasks::repair::index::{self, Request};
use crate::text::size;

/// Make the cache again from segments, and missing segments from packs
///
/// Nothing is removed. Packs that are gone are marked, so that backups go on without them; after copying them back
/// from another copy of the repository, --read-all-packs brings them to life.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Arguments {
    /// Trust no segment: read what every pack says about itself
    #[arg(long, alias = "from-packs")]
    pub read_all_packs: bool,
    /// Check every block of the packs that are read
    #[arg(long)]
    pub read_data: bool,
    /// Change nothing, only say what would be done
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}

/// Runs the command.
///
/// # Errors
/// When the repository cannot be opened, or the repair cannot be published.
pub fn run(arguments: &Arguments, context: &mut Context) -> Result<Exit, Failure> {
    let Arguments { read_all_packs, read_data, dry_run } = *arguments;
    let progress = context.progress(Work::Other);
    let done =
        index::run(&Request { read_all_packs, read_data, dry_run }, &context.environment, &progress, &mut |round| {
            progress.pause();
            match round {
                Round::Planned(plan) => show(plan, dry_run, context),
                Round::Overtaken => context.output.info(super::ONCE_MORE),
            }
        });
    progress.finish();
    let done = done?;
    let Some(report) = &done.report else { return Ok(done.kind().into()) };
    if let Some(head) = report.head {
        context.output.info(format!("Published generation {}", head.generation))?;
    }
    match &report.cache_failure {
        Some(why) => context.output.warn(&format!("the cache could not be made again: {why}; it may be deleted")),
        None if done.has_cache => context.output.info("The cache was made again")?,
        None => {}
    }
    context.output.info(concat!("Next: ", suggest!("check")))?;
    Ok(done.kind().into())
}

fn show(plan: &Plan, dry_run: bool, context: &Context) -> Result<(), Failure> {
    let output = context.output;
    if output.json {
        let ids = |all: &[(crate::base::id::ObjectId, String)]| -> Vec<String> {
            all.iter().map(|(id, _)| id.to_string()).collect()
        };
        return output.json(&serde_json::json!({
            "message_type": "repair_index",
            "dry_run": dry_run,
            "broken_segments": ids(&plan.broken),
            "replaced_segments": plan.replaced(),
            "packs_listed": plan.packs(),
            "packs_revived": plan.revived(),
            "unusable_packs": ids(&plan.unusable),
            "damaged_packs": ids(&plan.damaged),
            "wrong_length_packs": ids(&plan.wrong_length),
            "missing_packs": plan.gone.iter().map(ToString::to_string).collect::<Vec<_>>(),
        }));
    }
    for (id, why) in &plan.broken {
        output.info(format_args!("broken: segment {}: {}", id.short(), escape(why.as_bytes())))?;
    }
    for (id, why) in &plan.unusable {
        let (name, why) = (pack_name(*id), escape(why.as_bytes()));
        output.line(format_args!("unusable: {name}: {why}; it is left as it is, and what it held is not listed"))?;
    }
    for (id, why) in &plan.damaged {
        let (name, why) = (pack_name(*id), escape(why.as_bytes()));
        output.line(format_args!("damaged: {name}: {why}; it stays listed as its segment says"))?;
    }
    for (id, why) in &plan.wrong_length {
        output.line(format_args!("damaged: {}: {why}; no backup goes on with it", pack_name(*id)))?;
    }
    for id in &plan.gone {
        output.line(format_args!("missing: {}; backups go on without it", pack_name(*id)))?;
    }
    if plan.leaves_damage() {
        output.line(concat!(
            "  Next: copy files of these names back from any other copy of the repository. Then: ",
            suggest!("repair index --read-all-packs")
        ))?;
    }
    if !plan.damaged.is_empty() || !plan.wrong_length.is_empty() {
        output.line(concat!("  without one, save what can still be read: ", suggest!("repair packs")))?;
    }
    let would = if dry_run { "would be " } else { "" };
    if plan.keeps_segments() && plan.wrong_length.is_empty() {
        return output.info(format_args!("The segments are whole; the cache {would}made again from them"));
    }
    if plan.replaced() == 0 && plan.packs() == 0 {
        return Ok(());
    }
    output.info(format_args!(
        "{} {would}replaced, {} {would}listed in new ones",
        size::counted(plan.replaced() as u64, "segment", "segments"),
        size::counted(plan.packs() as u64, "pack", "packs"),
    ))
}
