//! `repair packs`: save what still opens in damaged packs.

use crate::base::command::suggest;
use crate::base::escape::escape;
use crate::cli::Context;
use crate::cli::exit::Exit;
use crate::cli::progress::Work;
use crate::ops::repair_packs::{DamagedPack, Plan, Report};
use crate::ops::select::IdBeginning;
use crate::storage::ObjectName;
use crate::tasks::failure::Failure;
use crate::tasks::repair::Round;
use crate::tasks::repair::packs::{self, Request};
use crate::text::size;

/// Save what can still be read in damaged packs, and put them out of the way
///
/// Every pack is read, or those that are named. What opens in a damaged one is stored again; the pack itself is no longer used,
/// and its file is moved to quarantine/ in the repository. The next backup stores again what it meets of the rest; what
/// it does not meet, "packstone repair snapshots" takes out of snapshots. Nothing is removed.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// Only the packs whose ids begin so
    #[arg(value_name = "PACK", value_parser = parse_pack)]
    pub packs: Vec<IdBeginning>,
    /// Change nothing, only say what would be done
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}

fn parse_pack(text: &str) -> Result<IdBeginning, String> {
    text.parse().map_err(|_| format!("{text:?} is not the beginning of a pack's id"))
}

/// Runs the command.
///
/// # Errors
/// When the repository cannot be opened, or the repair cannot be published.
pub fn run(arguments: &Arguments, context: &mut Context) -> Result<Exit, Failure> {
    let request = Request { packs: arguments.packs.clone(), dry_run: arguments.dry_run };
    let progress = context.progress(Work::Other);
    let repaired = packs::run(&request, &context.environment, &progress, &mut |round| {
        progress.pause();
        match round {
            Round::Planned(plan) => show(plan, request.dry_run, context),
            Round::Overtaken => context.output.info(super::ONCE_MORE),
        }
    });
    progress.finish();
    let repaired = repaired?;
    if let Some(report) = &repaired.report {
        done(report, &repaired.plan, context)?;
    }
    Ok(repaired.kind().into())
}

fn why(pack: &DamagedPack) -> String {
    match pack.messages.as_slice() {
        [] => "it cannot be read".to_owned(),
        [first] => first.clone(),
        [first, rest @ ..] => format!("{first}, and {} more", rest.len()),
    }
}

fn show(plan: &Plan, dry_run: bool, context: &Context) -> Result<(), Failure> {
    let output = context.output;
    let would = if dry_run { "would be" } else { "will be" };
    if output.json {
        let damaged = |pack: &DamagedPack| {
            serde_json::json!({
                "pack": pack.pack.id.to_string(),
                "missing": pack.missing,
                "reason": why(pack),
                "blocks": pack.pack.directory.blocks.len(),
                "bad_blocks": pack.bad_blocks.len(),
                "lost_chunks": pack.lost.chunks,
                "lost_bytes": pack.lost.bytes,
            })
        };
        return output.json(&serde_json::json!({
            "message_type": "repair_packs_plan",
            "dry_run": dry_run,
            "packs_read": plan.packs_read,
            "damaged_packs": plan.damaged.iter().map(damaged).collect::<Vec<_>>(),
            "revived_packs": plan.revived.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "lost_chunks": plan.lost().chunks,
            "lost_bytes": plan.lost().bytes,
        }));
    }
    for damaged in &plan.damaged {
        let (what, name) = (if damaged.missing { "missing" } else { "damaged" }, ObjectName::Pack(damaged.pack.id));
        output.line(format_args!("{what}: {name}: {}", escape(why(damaged).as_bytes())))?;
        let blocks = damaged.pack.directory.blocks.len() as u64;
        let good = blocks - damaged.bad_blocks.len() as u64;
        if good > 0 {
            output
                .line(format_args!("  {good} of {} {would} stored again", size::counted(blocks, "block", "blocks")))?;
        }
        if damaged.lost.chunks > 0 {
            let (chunks, bytes) =
                (size::counted(damaged.lost.chunks, "chunk", "chunks"), size::show(damaged.lost.bytes));
            output.line(format_args!("  lost: {chunks}, {bytes}, of which no other copy is here"))?;
        } else if !damaged.bad_blocks.is_empty() {
            output.line("  nothing is lost: there are other copies of the rest")?;
        }
    }
    for id in &plan.marked {
        output.line(format_args!("damaged: {}: no longer used; it {would} moved", ObjectName::Pack(*id)))?;
    }
    for id in &plan.revived {
        output.line(format_args!(
            "{}: marked, and holds what is lost elsewhere: it {would} used again",
            ObjectName::Pack(*id)
        ))?;
    }
    if plan.lost().chunks > 0 {
        output.line(concat!(
            "  Next: if any other copy of the repository has these files, copy them back under the same names. Then: ",
            suggest!("repair index --read-all-packs")
        ))?;
    }
    if plan.is_empty() {
        return output.info(format_args!("{} read, none is damaged", size::counted(plan.packs_read, "pack", "packs")));
    }
    Ok(())
}

fn done(report: &Report, plan: &Plan, context: &Context) -> Result<(), Failure> {
    let output = context.output;
    if output.json {
        let moved = |(id, place): &(crate::base::id::ObjectId, String)| serde_json::json!({ "pack": id.to_string(), "now": place });
        return output.json(&serde_json::json!({
            "message_type": "repair_packs",
            "blocks_saved": report.blocks_saved,
            "new_pack_bytes": report.pack_bytes,
            "moved": report.moved.iter().map(moved).collect::<Vec<_>>(),
            "waiting_for": report.holder.as_ref().map(ToString::to_string),
            "generation": report.head.map(|head| head.generation),
        }));
    }
    if let Some(head) = report.head {
        let (packs, blocks) = (plan.damaged.len() as u64, report.blocks_saved);
        output.info(format_args!(
            "Published generation {}: {} no longer used, {} stored again ({})",
            head.generation,
            size::counted(packs, "pack is", "packs are"),
            size::counted(blocks, "block", "blocks"),
            size::show(report.pack_bytes),
        ))?;
    }
    for (id, place) in &report.moved {
        output.info(format_args!("moved: {} is now {place}", ObjectName::Pack(*id)))?;
    }
    if let Some(holder) = &report.holder {
        output.info(format_args!(
            "The damaged files stay until this has ended, which may be reading them: {holder}. The first prune after the grace \
             removes them. To keep them: {}",
            suggest!("repair packs PACK")
        ))?;
    }
    if plan.lost().chunks > 0 {
        output.info(concat!(
            "Next: a backup stores again what is still on this machine. Then: ",
            suggest!("repair snapshots --dry-run")
        ))
    } else {
        output.info(concat!("Next: ", suggest!("check")))
    }
}
