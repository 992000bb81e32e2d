//! `snapshots`: the list of them.

use super::exit::Exit;
use super::output::Output;
use super::snapshot_argument::{GroupBy, SnapshotFilter, SnapshotRef};
use super::{Context, json, snapshot_json, snapshot_table};
use crate::base::escape::safe;
use crate::ops::forget;
use crate::ops::select::Chosen;
use crate::ops::snapshots::{Group, Report};
use crate::tasks::failure::Failure;
use crate::tasks::snapshots::{self, Request};
use crate::text::clock;
use serde::Serialize;

/// List snapshots
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// Only these
    #[arg(value_name = "SNAPSHOT")]
    pub snapshots: Vec<SnapshotRef>,
    /// Which snapshots.
    #[command(flatten)]
    pub filter: SnapshotFilter,
    /// Only the newest N of each group (by host and paths unless --group-by is given)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub latest: Option<u32>,
    /// Show snapshots in groups with the same host, paths, tags or label
    #[arg(short, long, value_name = "LIST")]
    pub group_by: Option<GroupBy>,
    /// One short line each
    #[arg(short, long)]
    pub compact: bool,
}

/// Runs the command.
///
/// # Errors
/// [`Exit::Damage`] when a snapshot, or the newest head, cannot be read, after what can be has been shown.
pub fn run(arguments: &Arguments, context: &mut Context) -> Result<Exit, Failure> {
    let request = Request {
        snapshots: arguments.snapshots.clone(),
        filter: arguments.filter.request(),
        latest: arguments.latest,
        group_by: arguments.group_by,
    };
    let found = snapshots::run(&request, &context.environment, &context.watch())?;
    if context.output.json {
        show_json(&found.report, found.is_grouped, context.output)?;
    } else {
        show_text(&found.report, arguments, found.is_grouped, context)?;
    }
    found.incomplete.map_or(Ok(Exit::Success), Err)
}

/// What the snapshots of a group have in common, as restic writes it.
#[derive(Debug, Serialize)]
struct GroupKeyJson {
    hostname: String,
    paths: Option<Vec<String>>,
    tags: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<String>,
}

/// One group, as restic writes it.
#[derive(Debug, Serialize)]
struct GroupJson {
    group_key: GroupKeyJson,
    snapshots: Vec<json::Snapshot>,
}

fn show_json(report: &Report, is_grouped: bool, output: Output) -> Result<(), Failure> {
    let zone = clock::local_zone();
    let list = |group: &Group| {
        let json = |chosen: &Chosen| snapshot_json::in_order(chosen, &report.order, &zone);
        group.snapshots.iter().map(json).collect()
    };
    if !is_grouped {
        let all: Vec<json::Snapshot> = report.groups.first().map(list).unwrap_or_default();
        return output.json(&all);
    }
    let lossy =
        |paths: &Vec<Vec<u8>>| json::texts(paths.iter().map(Vec::as_slice)).into_iter().map(Into::into).collect();
    let groups: Vec<GroupJson> = report
        .groups
        .iter()
        .map(|group| GroupJson {
            group_key: GroupKeyJson {
                hostname: group.key.host.clone().unwrap_or_default(),
                paths: group.key.paths.as_ref().map(lossy),
                tags: group.key.tags.clone(),
                label: group.key.label.clone(),
            },
            snapshots: list(group),
        })
        .collect();
    output.json(&groups)
}

fn show_text(report: &Report, arguments: &Arguments, is_grouped: bool, context: &Context) -> Result<(), Failure> {
    let output = context.output;
    for (number, group) in report.groups.iter().enumerate() {
        if is_grouped {
            let gap = if number == 0 { "" } else { "\n" };
            output.line(format!("{gap}snapshots for ({}):", forget::describe(&group.key)))?;
        }
        let rows = group.snapshots.iter().map(|chosen| (chosen, None));
        output.text(&snapshot_table::show(rows, &report.order, arguments.compact))?;
    }
    if report.groups.is_empty() && report.damaged.is_empty() {
        output.text(&snapshot_table::show(std::iter::empty(), &report.order, arguments.compact))?;
    }
    for (id, error) in &report.damaged {
        let what = if error.is_damage() { "damaged" } else { "unreadable" };
        output.line(format!("! {}  {what}: {}", id.short(), safe(&error.to_string())))?;
    }
    Ok(())
}
