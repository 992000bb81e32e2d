//! `snapshots`: the list of them.

use super::exit::{CliError, Exit};
use super::output::{Output, safe};
use super::snapshot_argument::{GroupBy, SnapshotFilter, SnapshotRef};
use super::watch::tell_warnings;
use super::{Context, clock, json, open, size, snapshot_json, snapshot_table};
use crate::ops::forget;
use crate::ops::select::{Chosen, GroupKey};
use crate::ops::snapshots::{self, Group, Report, Wanted};
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
/// [`Exit::Damage`] when a snapshot cannot be read, after the others have been shown.
pub fn run(arguments: &Arguments, context: &mut Context) -> Result<Exit, CliError> {
    let repository = open::repository(context, "snapshots")?;
    let group_by = match (arguments.group_by, arguments.latest) {
        (Some(group_by), _) => group_by,
        (None, Some(_)) => GroupBy::HOST_AND_PATHS,
        (None, None) => GroupBy::default(),
    };
    let wanted = Wanted {
        names: arguments.snapshots.clone(),
        filter: arguments.filter.resolve(),
        newest: arguments.latest.map(|newest| newest as usize),
        group_by,
    };
    let mut report = snapshots::list(&repository, &wanted)?;
    tell_warnings(&repository, context.output);
    let is_grouped = arguments.group_by.is_some_and(|group_by| group_by != GroupBy::default());
    if !is_grouped {
        let mut all: Vec<Chosen> = report.groups.drain(..).flat_map(|group| group.snapshots).collect();
        all.sort_by_key(|chosen| chosen.snapshot.time);
        report.groups.push(Group { key: GroupKey::default(), snapshots: all });
    }
    if context.output.json {
        show_json(&report, is_grouped, context.output)?;
    } else {
        show_text(&report, arguments, is_grouped, context)?;
    }
    if report.damaged.is_empty() {
        return Ok(Exit::Success);
    }
    let named: Vec<String> = report.damaged.iter().map(|(id, error)| format!("{} ({error})", id.short())).collect();
    let count = size::counted(named.len() as u64, "snapshot", "snapshots");
    Err(CliError::new(Exit::Damage, format!("{count} cannot be read: {}", named.join(", ")))
        .hint("packstone check names everything that is damaged; any copy of the file under the same name heals it"))
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

fn show_json(report: &Report, is_grouped: bool, output: Output) -> Result<(), CliError> {
    let zone = clock::local_zone();
    let list = |group: &Group| group.snapshots.iter().map(|chosen| snapshot_json::snapshot(chosen, &zone)).collect();
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

fn show_text(report: &Report, arguments: &Arguments, is_grouped: bool, context: &Context) -> Result<(), CliError> {
    let output = context.output;
    for (number, group) in report.groups.iter().enumerate() {
        if is_grouped {
            let gap = if number == 0 { "" } else { "\n" };
            output.line(format!("{gap}snapshots for ({}):", forget::describe(&group.key)))?;
        }
        output.text(&snapshot_table::show(group.snapshots.iter().map(|chosen| (chosen, None)), arguments.compact))?;
    }
    if report.groups.is_empty() && report.damaged.is_empty() {
        output.text(&snapshot_table::show(std::iter::empty(), arguments.compact))?;
    }
    for (id, error) in &report.damaged {
        output.line(format!("! {}  damaged: {}", id.short(), safe(&error.to_string())))?;
    }
    Ok(())
}
