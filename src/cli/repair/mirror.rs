//! `repair mirror`: what is damaged there is sent again.

use crate::base::command::suggest;
use crate::base::escape::escape;
use crate::cli::Context;
use crate::cli::exit::Exit;
use crate::cli::progress::Work;
use crate::ops::repair_mirror::Report;
use crate::storage::ObjectName;
use crate::tasks::failure::Failure;
use crate::tasks::repair::mirror::{self, Request};
use crate::text::size;

/// Send again what is damaged on a mirror
///
/// Everything that the newest state needs is read there and hashed. What is wrong is moved to quarantine/ on the mirror and sent again from
/// here. What is missing there, "packstone sync" sends. Needs no passphrase.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// Which mirror
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Read so many objects at the same time
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub connections: u16,
    /// Change nothing, only say what would be done
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}

/// Runs the command.
///
/// # Errors
/// As `sync`.
pub fn run(arguments: &Arguments, context: &mut Context) -> Result<Exit, Failure> {
    let request = Request {
        mirror: arguments.name.clone(),
        connections: Some(arguments.connections),
        dry_run: arguments.dry_run,
    };
    let progress = context.progress(Work::Other);
    let planned = mirror::plan(&request, &context.environment, &progress)?;
    progress.pause();
    show(&planned, request.dry_run, context)?;
    let name = planned.name.clone();
    let done = planned.execute(&progress);
    progress.finish();
    let done = done?;
    if let Some(report) = &done.report {
        told(report, &name, context)?;
    }
    Ok(done.kind().into())
}

fn show(planned: &mirror::Plan, dry_run: bool, context: &Context) -> Result<(), Failure> {
    let mirror::Plan { plan, name, .. } = planned;
    let output = context.output;
    let read = size::counted(plan.read, "object", "objects");
    if output.json {
        return output.json(&serde_json::json!({
            "message_type": "repair_mirror_plan",
            "dry_run": dry_run,
            "mirror": name,
            "objects_read": plan.read,
            "damaged": plan.damaged.iter().map(|(name, _)| name.to_string()).collect::<Vec<_>>(),
            "missing_objects": plan.missing,
        }));
    }
    for (object, why) in &plan.damaged {
        output.line(format_args!("damaged: {object}: {}", escape(why.as_bytes())))?;
    }
    let problems = plan.damaged.len();
    output.info(format_args!("{name}  {read} read, {problems} damaged, {} missing", plan.missing))
}

fn told(report: &Report, name: &str, context: &Context) -> Result<(), Failure> {
    let output = context.output;
    if output.json {
        let names = |names: &[ObjectName]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        output.json(&serde_json::json!({
            "message_type": "repair_mirror",
            "mirror": name,
            "mended": names(&report.mended),
            "lost": report.lost.iter().map(|(name, _)| name.to_string()).collect::<Vec<_>>(),
        }))?;
    }
    for (object, why) in &report.lost {
        output.line(format_args!("damaged here as well: {object}: {}", escape(why.as_bytes())))?;
    }
    let mended = size::counted(report.mended.len() as u64, "object", "objects");
    output.info(format_args!(
        "{name}  {mended} sent again; what was there is in quarantine/ on the mirror. Next: {}",
        suggest!("sync {}", name)
    ))
}
