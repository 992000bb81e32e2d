//! `repair objects`: what is damaged here comes back from a mirror.

use crate::base::command::suggest;
use crate::base::escape::escape;
use crate::cli::Context;
use crate::cli::exit::Exit;
use crate::cli::progress::Work;
use crate::ops::repair_objects::{Plan, Report};
use crate::tasks::failure::Failure;
use crate::tasks::repair::objects::{self, Request, Step};
use crate::text::size;

/// Fetch what is damaged or missing here from a mirror
///
/// Everything that the newest state needs is read and hashed. What is wrong is fetched from the first mirror that has it, and what was here is moved
/// to quarantine/ in the repository. The first thing to try when something is damaged. Needs no passphrase.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// From which mirrors, by name; all without any
    #[arg(value_name = "MIRROR")]
    pub mirrors: Vec<String>,
    /// Change nothing, only say what would be done
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}

/// Runs the command.
///
/// # Errors
/// When there is no mirror, or the repository cannot be read or written.
pub fn run(arguments: &Arguments, context: &mut Context) -> Result<Exit, Failure> {
    let request = Request { mirrors: arguments.mirrors.clone(), dry_run: arguments.dry_run };
    let progress = context.progress(Work::Other);
    let repaired = objects::run(&request, &context.environment, &progress, &mut |step| {
        progress.pause();
        match step {
            Step::Planned(plan) => show(plan, request.dry_run, context),
            Step::Fetched(report) => told(report, context),
        }
    });
    progress.finish();
    let report = repaired?;
    if report.is_fetched {
        let next = if report.kind().is_none() { suggest!("check --read-data") } else { suggest!("repair packs") };
        context.output.info(format_args!("What was damaged here is in quarantine/. Next: {next}"))?;
    }
    Ok(report.kind().into())
}

fn told(report: &Report, context: &Context) -> Result<(), Failure> {
    let output = context.output;
    if output.json {
        output.json(&serde_json::json!({
            "message_type": "repair_objects",
            "mended": report.mended.iter().map(|(name, _)| name.to_string()).collect::<Vec<_>>(),
            "lost": report.lost.iter().map(|(name, _)| name.to_string()).collect::<Vec<_>>(),
        }))?;
    }
    for (object, from) in &report.mended {
        output.info(format_args!("mended: {object}, from {from}"))?;
    }
    for (object, why) in &report.lost {
        output.line(format_args!("no mirror has {object}: {}", escape(why.as_bytes())))?;
    }
    Ok(())
}

fn show(plan: &Plan, dry_run: bool, context: &Context) -> Result<(), Failure> {
    let output = context.output;
    let missing = plan.wrong.iter().filter(|wrong| wrong.damage.is_none()).count() as u64;
    let unreadable = plan.wrong.iter().filter(|wrong| wrong.is_unreadable).count() as u64;
    let damaged = plan.wrong.len() as u64 - missing - unreadable;
    if output.json {
        return output.json(&serde_json::json!({
            "message_type": "repair_objects_plan",
            "dry_run": dry_run,
            "objects_read": plan.read,
            "wrong": plan.wrong.iter().map(|wrong| wrong.needed.name.to_string()).collect::<Vec<_>>(),
            "damaged_objects": damaged,
            "missing_objects": missing,
            "unreadable_objects": unreadable,
            "partial": plan.is_partial,
        }));
    }
    for wrong in &plan.wrong {
        match &wrong.damage {
            None => output.line(format_args!("missing: {}", wrong.needed.name))?,
            Some(why) if wrong.is_unreadable => {
                output.line(format_args!("unreadable: {}: {}", wrong.needed.name, escape(why.as_bytes())))?;
            }
            Some(why) => output.line(format_args!("damaged: {}: {}", wrong.needed.name, escape(why.as_bytes())))?,
        }
    }
    let read = size::counted(plan.read, "object", "objects");
    let unreadable = if unreadable > 0 { format!(", {unreadable} unreadable") } else { String::new() };
    output.info(format_args!("{read} read, {damaged} damaged, {missing} missing{unreadable}"))
}
