//! `tag`, `hold` and `release`: what changes about snapshots, not in them.

use super::Context;
use super::exit::Exit;
use super::snapshot_argument::{SnapshotFilter, SnapshotRef, TagList};
use crate::tasks::failure::Failure;
use crate::tasks::hold;
use crate::tasks::tag::{self, Report, Request};
use crate::text::size;

/// Change the tags of snapshots
///
/// Without a snapshot, those of all snapshots that --host, --tag and --path let through. A snapshot never changes, so it
/// gets a new id; the old one is marked as by forget.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// Only these
    #[arg(value_name = "SNAPSHOT")]
    pub snapshots: Vec<SnapshotRef>,
    /// Tags to add, separated by commas (can be given multiple times)
    #[arg(long, value_name = "TAG[,TAG...]")]
    pub add: Vec<TagList>,
    /// Tags to take away, separated by commas (can be given multiple times)
    #[arg(long, value_name = "TAG[,TAG...]")]
    pub remove: Vec<TagList>,
    /// Have these tags and no others, separated by commas (can be given multiple times); "" for none
    #[arg(long, value_name = "TAG[,TAG...]", conflicts_with_all = ["add", "remove"])]
    pub set: Vec<TagList>,
    /// Which snapshots.
    #[command(flatten)]
    pub filter: SnapshotFilter,
    /// Change nothing, only say what would be done
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}

/// Hold snapshots: no rule of forget removes them until they are released
#[derive(Debug, Clone, clap::Args)]
pub struct HoldArguments {
    /// Which ones
    #[arg(value_name = "SNAPSHOT", required = true)]
    pub snapshots: Vec<SnapshotRef>,
    /// Change nothing, only say what would be done
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}

/// Release snapshots that were held: rules of forget may remove them again
#[derive(Debug, Clone, clap::Args)]
pub struct ReleaseArguments {
    /// Which ones
    #[arg(value_name = "SNAPSHOT", required = true)]
    pub snapshots: Vec<SnapshotRef>,
    /// Change nothing, only say what would be done
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}

/// Runs `tag`.
///
/// # Errors
/// [`Exit::Usage`] when there is nothing to change.
pub fn run(arguments: &Arguments, context: &mut Context) -> Result<Exit, Failure> {
    let request = Request {
        snapshots: arguments.snapshots.clone(),
        filter: arguments.filter.request(),
        add: arguments.add.clone(),
        remove: arguments.remove.clone(),
        set: arguments.set.clone(),
        dry_run: arguments.dry_run,
    };
    let report = tag::run(&request, &context.environment, &context.watch())?;
    show(&report, "tagged", request.dry_run, context)
}

/// Runs `hold`.
///
/// # Errors
/// When a snapshot is not there, or the change cannot be published.
pub fn hold(arguments: &HoldArguments, context: &mut Context) -> Result<Exit, Failure> {
    let request = hold::Request { snapshots: arguments.snapshots.clone(), dry_run: arguments.dry_run };
    let report = hold::hold(&request, &context.environment, &context.watch())?;
    show(&report, "held", request.dry_run, context)
}

/// Runs `release`.
///
/// # Errors
/// As [`hold()`].
pub fn release(arguments: &ReleaseArguments, context: &mut Context) -> Result<Exit, Failure> {
    let request = hold::Request { snapshots: arguments.snapshots.clone(), dry_run: arguments.dry_run };
    let report = hold::release(&request, &context.environment, &context.watch())?;
    show(&report, "released", request.dry_run, context)
}

fn show(report: &Report, done: &str, dry_run: bool, context: &Context) -> Result<Exit, Failure> {
    let output = context.output;
    let (Report { plan, changed, .. }, exit) = (report, report.kind().into());
    let count = |count: usize| size::counted(count as u64, "snapshot", "snapshots");
    if dry_run {
        for (id, _) in &plan.changes {
            output.info(format_args!("{}  would be {done}", id.short()))?;
        }
        if output.json {
            let (changed, dry_run) = (plan.changes.len(), true);
            let summary =
                serde_json::json!({ "message_type": "summary", "dry_run": dry_run, "changed_snapshots": changed });
            output.json(&summary)?;
        }
        output.info(format_args!("{} would be {done}; nothing was changed", count(plan.changes.len())))?;
        return Ok(exit);
    }
    for (old, new) in changed {
        if output.json {
            output.json(&serde_json::json!({
                "message_type": "changed",
                "old_snapshot_id": old.to_string(),
                "new_snapshot_id": new.to_string(),
            }))?;
        } else {
            output.info(format_args!("{}  {done}, now {}", old.short(), new.short()))?;
        }
    }
    if output.json {
        output.json(&serde_json::json!({ "message_type": "summary", "changed_snapshots": changed.len() }))?;
        return Ok(exit);
    }
    let so_already = if plan.unchanged == 0 { String::new() } else { format!(", {} so already", plan.unchanged) };
    output.info(format_args!("{} {done}{so_already}", count(changed.len())))?;
    Ok(exit)
}
