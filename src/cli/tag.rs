//! `tag`, `hold` and `release`: what changes about snapshots, not in them.

use super::Context;
use super::exit::Exit;
use super::snapshot_argument::{SnapshotFilter, SnapshotRef, TagList};
use super::watch::tell_warnings;
use crate::ops::retag::{self, Change};
use crate::ops::select::Filter;
use crate::tasks::environment::repositories;
use crate::tasks::failure::{Failure, Kind};
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

fn all(lists: &[TagList]) -> Vec<String> {
    let mut tags: Vec<String> = Vec::new();
    for tag in lists.iter().flat_map(|TagList(list)| list) {
        if !tags.contains(tag) {
            tags.push(tag.clone());
        }
    }
    tags
}

/// Runs `tag`.
///
/// # Errors
/// [`Exit::Usage`] when there is nothing to change.
pub fn run(arguments: &Arguments, context: &mut Context) -> Result<Exit, Failure> {
    let Arguments { snapshots, add, remove, set, filter, dry_run } = arguments;
    let change = match (set.is_empty(), add.is_empty() && remove.is_empty()) {
        (false, _) => Change::Set(all(set)),
        (true, false) => Change::Tags { add: all(add), remove: all(remove) },
        (true, true) => return Err(Failure::usage("nothing to change: give --add, --remove or --set")),
    };
    change_all(("tag", "tagged"), snapshots, &filter.resolve(), &change, *dry_run, context)
}

/// Runs `hold`.
///
/// # Errors
/// When a snapshot is not there, or the change cannot be published.
pub fn hold(arguments: &HoldArguments, context: &mut Context) -> Result<Exit, Failure> {
    let HoldArguments { snapshots, dry_run } = arguments;
    change_all(("hold", "held"), snapshots, &Filter::default(), &Change::Held(true), *dry_run, context)
}

/// Runs `release`.
///
/// # Errors
/// As [`hold`].
pub fn release(arguments: &ReleaseArguments, context: &mut Context) -> Result<Exit, Failure> {
    let ReleaseArguments { snapshots, dry_run } = arguments;
    change_all(("release", "released"), snapshots, &Filter::default(), &Change::Held(false), *dry_run, context)
}

fn change_all(
    (command, done): (&str, &str),
    snapshots: &[SnapshotRef],
    filter: &Filter,
    change: &Change,
    dry_run: bool,
    context: &mut Context,
) -> Result<Exit, Failure> {
    let repository = repositories::open_repository(&context.environment, &context.watch(), command)?;
    let plan = retag::plan(&repository, snapshots, filter, change)?;
    tell_warnings(&repository, context.output);
    for (id, error) in &plan.damaged {
        context.output.warn(&format!("snapshot {} cannot be read ({error}): it stays as it is", id.short()));
    }
    let output = context.output;
    let is_damage = plan.damaged.iter().any(|(_, error)| error.is_damage());
    let is_whole = plan.damaged.is_empty() || snapshots.is_empty();
    let exit = if is_whole { Exit::Success } else { Kind::of_unread(is_damage).into() };
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
    let replaced = retag::execute(&repository, &plan)?;
    let changed = replaced.map(|replaced| replaced.snapshots).unwrap_or_default();
    for (old, new) in &changed {
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
