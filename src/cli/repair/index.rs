//! `repair index`: make the cache again from segments, and missing segments from packs.

use crate::base::command::suggest;
use crate::base::escape::escape;
use crate::cli::Context;
use crate::cli::exit::Exit;
use crate::cli::progress::Work;
use crate::ops;
use crate::ops::repair_index::{self, Options, Plan};
use crate::tasks::environment::repositories;
use crate::tasks::failure::Failure;
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
    let repository = repositories::open_repository(&context.environment, &context.watch(), "repair index")?;
    let options = Options { all_packs: arguments.read_all_packs, read_data: arguments.read_data };
    let mut attempt = 1;
    let (report, exit) = loop {
        let progress = context.progress(Work::Other);
        let plan = repair_index::plan(&repository, options, &progress);
        progress.finish();
        let plan = plan?;
        show(&plan, arguments.dry_run, context)?;
        let exit = if plan.leaves_damage() { Exit::Damage } else { Exit::Success };
        if arguments.dry_run {
            return Ok(exit);
        }
        match repair_index::execute(&repository, plan) {
            Err(error) if error.is_overtaken() && attempt < ops::ATTEMPTS => attempt += 1,
            report => break (report?, exit),
        }
        context.output.info(super::ONCE_MORE)?;
    };
    if let Some(head) = report.head {
        context.output.info(format!("Published generation {}", head.generation))?;
    }
    match report.cache_failure {
        Some(why) => context.output.warn(&format!("the cache could not be made again: {why}; it may be deleted")),
        None if repository.cache_folder().is_some() => context.output.info("The cache was made again")?,
        None => {}
    }
    context.output.info(concat!("Next: ", suggest!("check")))?;
    Ok(exit)
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
        let (name, why) = (repair_index::pack_name(*id), escape(why.as_bytes()));
        output.line(format_args!("unusable: {name}: {why}; it is left as it is, and what it held is not listed"))?;
    }
    for (id, why) in &plan.damaged {
        let (name, why) = (repair_index::pack_name(*id), escape(why.as_bytes()));
        output.line(format_args!("damaged: {name}: {why}; it stays listed as its segment says"))?;
    }
    for (id, why) in &plan.wrong_length {
        output.line(format_args!("damaged: {}: {why}; no backup goes on with it", repair_index::pack_name(*id)))?;
    }
    for id in &plan.gone {
        output.line(format_args!("missing: {}; backups go on without it", repair_index::pack_name(*id)))?;
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
