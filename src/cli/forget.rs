//! `forget`: remove snapshots by rules or by name. What they alone needed stays until `prune` has swept it.

use super::exit::Exit;
use super::json;
use super::progress::Work;
use super::prune::PruneOptions;
use super::snapshot_argument::{GroupBy, SnapshotRef, TagList};
use super::{Context, snapshot_json, snapshot_table};
use crate::base::command::suggest;
use crate::base::id::ObjectId;
use crate::ops::forget::policy::{Period, Quota, Rules};
use crate::ops::forget::{Group, Judged, Plan, Report, Wanted, describe};
use crate::ops::select::IdBeginning;
use crate::tasks::failure::Failure;
use crate::tasks::forget::{self, Request};
use crate::tasks::snapshot_filter::SnapshotFilter;
use crate::text::size;
use crate::text::span::Span;
use serde::Serialize;
use std::path::PathBuf;

/// Remove snapshots, by rules or by name
///
/// Snapshots are put into groups (--group-by), and the rules (--keep-...) are applied to each group by itself: what no rule
/// keeps goes. In addition the newest complete snapshot of each group stays; held snapshots and those with a time in
/// the future stay; and a clock that was wrong for a while costs no other snapshot its place. Where rules are given, the
/// oldest snapshot stays while a rule has counts left.
///
/// What is removed can be brought back with packstone undelete until prune has swept it.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// Remove these, whatever the rules would say
    #[arg(value_name = "SNAPSHOT")]
    pub snapshots: Vec<SnapshotRef>,
    /// What stays.
    #[command(flatten)]
    pub rules: RuleArguments,
    /// Allow a group to lose all of its snapshots (only with --host, --tag or --path)
    #[arg(long, conflicts_with = "snapshots")]
    pub unsafe_allow_remove_all: bool,
    /// Only snapshots of this host (can be given multiple times: any of them)
    #[arg(long = "host", value_name = "HOST", env = "PACKSTONE_HOST", help_heading = "Choosing snapshots")]
    pub hosts: Vec<String>,
    /// Only snapshots with all of these tags, separated by commas (can be given multiple times: any of the lists)
    #[arg(long = "tag", value_name = "TAG[,TAG...]", help_heading = "Choosing snapshots")]
    pub tags: Vec<TagList>,
    /// Only snapshots of this path (can be given multiple times: all of them)
    #[arg(long = "path", value_name = "PATH", help_heading = "Choosing snapshots")]
    pub paths: Vec<PathBuf>,
    /// Apply the rules to snapshots with the same host, paths, tags or label, each group by itself; empty for one group
    #[arg(short, long, value_name = "LIST", default_value = "host,paths", help_heading = "Choosing snapshots")]
    pub group_by: GroupBy,
    /// One short line each
    #[arg(short, long)]
    pub compact: bool,
    /// Change nothing, only say what would be done
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// Then remove what no snapshot needs any more, as packstone prune does
    #[arg(long)]
    pub prune: bool,
    /// Limits and grace of that.
    #[command(flatten)]
    pub prune_options: PruneOptions,
}

/// The rules.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Rules")]
pub struct RuleArguments {
    /// Keep the newest N (of this and all counts: "unlimited" for all)
    #[arg(short = 'l', long, value_name = "N", allow_hyphen_values = true)]
    pub keep_last: Option<Quota>,
    /// Keep the newest of each of the last N minutes that have one
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub keep_minutely: Option<Quota>,
    /// Keep the newest of each of the last N hours that have one
    #[arg(short = 'H', long, value_name = "N", allow_hyphen_values = true)]
    pub keep_hourly: Option<Quota>,
    /// Keep the newest of each of the last N days that have one
    #[arg(short = 'd', long, value_name = "N", allow_hyphen_values = true)]
    pub keep_daily: Option<Quota>,
    /// Keep the newest of each of the last N weeks that have one
    #[arg(short = 'w', long, value_name = "N", allow_hyphen_values = true)]
    pub keep_weekly: Option<Quota>,
    /// Keep the newest of each of the last N months that have one
    #[arg(short = 'm', long, value_name = "N", allow_hyphen_values = true)]
    pub keep_monthly: Option<Quota>,
    /// Keep the newest of each of the last N years that have one
    #[arg(short = 'y', long, value_name = "N", allow_hyphen_values = true)]
    pub keep_yearly: Option<Quota>,
    /// Keep all within this span before the newest, such as 1y5m7d2h
    #[arg(long, value_name = "SPAN")]
    pub keep_within: Option<Span>,
    /// Keep the newest of each minute within this span before the newest
    #[arg(long, value_name = "SPAN")]
    pub keep_within_minutely: Option<Span>,
    /// Keep the newest of each hour within this span before the newest
    #[arg(long, value_name = "SPAN")]
    pub keep_within_hourly: Option<Span>,
    /// Keep the newest of each day within this span before the newest
    #[arg(long, value_name = "SPAN")]
    pub keep_within_daily: Option<Span>,
    /// Keep the newest of each week within this span before the newest
    #[arg(long, value_name = "SPAN")]
    pub keep_within_weekly: Option<Span>,
    /// Keep the newest of each month within this span before the newest
    #[arg(long, value_name = "SPAN")]
    pub keep_within_monthly: Option<Span>,
    /// Keep the newest of each year within this span before the newest
    #[arg(long, value_name = "SPAN")]
    pub keep_within_yearly: Option<Span>,
    /// Keep those with all of these tags, separated by commas (can be given multiple times: any of the lists)
    #[arg(long = "keep-tag", value_name = "TAG[,TAG...]")]
    pub keep_tags: Vec<TagList>,
    /// Keep those whose id begins so (can be given multiple times)
    #[arg(long = "keep-id", value_name = "ID")]
    pub keep_ids: Vec<IdBeginning>,
}

impl Arguments {
    fn request(&self) -> Request {
        let filter = SnapshotFilter { hosts: self.hosts.clone(), tags: self.tags.clone(), paths: self.paths.clone() };
        let rules = &self.rules;
        Request {
            snapshots: self.snapshots.clone(),
            filter,
            group_by: Some(self.group_by),
            keep_last: rules.keep_last,
            keep_minutely: rules.keep_minutely,
            keep_hourly: rules.keep_hourly,
            keep_daily: rules.keep_daily,
            keep_weekly: rules.keep_weekly,
            keep_monthly: rules.keep_monthly,
            keep_yearly: rules.keep_yearly,
            keep_within: rules.keep_within,
            keep_within_minutely: rules.keep_within_minutely,
            keep_within_hourly: rules.keep_within_hourly,
            keep_within_daily: rules.keep_within_daily,
            keep_within_weekly: rules.keep_within_weekly,
            keep_within_monthly: rules.keep_within_monthly,
            keep_within_yearly: rules.keep_within_yearly,
            keep_tags: rules.keep_tags.clone(),
            keep_ids: rules.keep_ids.clone(),
            unsafe_allow_remove_all: self.unsafe_allow_remove_all,
            prune: self.prune.then(|| self.prune_options.request(false)),
            dry_run: self.dry_run,
        }
    }
}

/// Runs the command.
///
/// # Errors
/// [`Exit::Usage`] without rules and names; when a group would lose everything, or a held snapshot is named.
pub fn run(arguments: &Arguments, context: &mut Context) -> Result<Exit, Failure> {
    let output = context.output;
    let plan = forget::plan(&arguments.request(), &context.environment, &context.watch())?;
    if let Wanted::ByRules { rules, .. } = &plan.wanted
        && !output.json
    {
        show_groups(&plan.plan, rules, arguments.compact, context)?;
    }
    let removed = plan.execute()?;
    if output.json {
        show_json(&removed.plan, arguments.dry_run, context)?;
    } else {
        tell(&removed.plan.plan, &removed.report, arguments, context)?;
    }
    if !arguments.prune {
        return Ok(Exit::Success);
    }
    if arguments.dry_run {
        output
            .info(concat!("What prune would do is known when they are removed. Then: ", suggest!("prune --dry-run")))?;
        return Ok(Exit::Success);
    }
    let progress = context.progress(Work::Other);
    let pruned = removed.prune(&progress);
    progress.finish();
    match pruned? {
        Some(report) => super::prune::show(&report, false, context),
        None => Ok(Exit::Success),
    }
}

fn show_groups(plan: &Plan, rules: &Rules, compact: bool, context: &Context) -> Result<(), Failure> {
    let output = context.output;
    let rules = crate::base::escape::safe(&rules.to_string());
    output.info(format_args!("Applying rules: keep {rules}"))?;
    for Group { key, keep, remove } in &plan.groups {
        output.info(format_args!("snapshots for ({}):\n", describe(key)))?;
        for (word, list) in [("keep", keep), ("remove", remove)] {
            if list.is_empty() {
                continue;
            }
            let count = size::counted(list.len() as u64, "snapshot", "snapshots");
            output.info(format_args!("{word} {count}:"))?;
            let rows = list.iter().map(|judged| (&judged.chosen, Some(judged.verdict.reasons.as_slice())));
            output.info(snapshot_table::show(rows, &plan.order, compact))?;
        }
    }
    Ok(())
}

fn tell(plan: &Plan, report: &Report, arguments: &Arguments, context: &Context) -> Result<(), Failure> {
    let output = context.output;
    let count = |count: usize| size::counted(count as u64, "snapshot", "snapshots");
    let named: Vec<String> = plan.remove.iter().map(ObjectId::short).collect();
    let kept = if plan.groups.is_empty() { String::new() } else { format!("kept {}, ", plan.kept()) };
    if arguments.dry_run {
        let named = if plan.groups.is_empty() { format!(": {}", named.join(", ")) } else { String::new() };
        return output
            .info(format_args!("{kept}would remove {}{named}; nothing was changed", count(plan.remove.len())));
    }
    output.info(format_args!("{kept}removed {}", count(report.removed.len())))?;
    let Some(first) = report.removed.first() else { return Ok(()) };
    if !arguments.prune {
        output.info(concat!("To get their space back: ", suggest!("prune")))?;
    }
    let which = if report.removed.len() == 1 { "it" } else { "that one" };
    output.info(format_args!("To bring {which} back, until it is swept: {}", suggest!("undelete {}", first.short())))
}

/// Why a snapshot stays or goes, as restic writes it.
#[derive(Debug, Serialize)]
struct ReasonJson {
    snapshot: json::Snapshot,
    matches: Vec<String>,
    counters: serde_json::Map<String, serde_json::Value>,
}

/// One group, as restic writes it; `message_type` and `remove_reasons` are ours.
#[derive(Debug, Serialize)]
struct GroupJson {
    message_type: &'static str,
    dry_run: bool,
    tags: Option<Vec<String>>,
    host: String,
    paths: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<String>,
    keep: Vec<json::Snapshot>,
    remove: Vec<json::Snapshot>,
    reasons: Vec<ReasonJson>,
    remove_reasons: Vec<ReasonJson>,
}

fn show_json(planned: &forget::Plan, dry_run: bool, context: &Context) -> Result<(), Failure> {
    let forget::Plan { plan, wanted, moment, .. } = planned;
    let zone = &moment.zone;
    let Wanted::ByRules { rules, .. } = wanted else {
        return context.output.json(&serde_json::json!({
            "message_type": "forget",
            "dry_run": dry_run,
            "snapshot_ids": plan.remove.iter().map(ToString::to_string).collect::<Vec<_>>(),
        }));
    };
    let snapshot = |judged: &Judged| snapshot_json::in_order(&judged.chosen, &plan.order, zone);
    let reason = |judged: &Judged| ReasonJson {
        snapshot: snapshot(judged),
        matches: judged.verdict.reasons.clone(),
        counters: counters(rules, &judged.verdict.left),
    };
    let lossy =
        |paths: &Vec<Vec<u8>>| json::texts(paths.iter().map(Vec::as_slice)).into_iter().map(Into::into).collect();
    let groups: Vec<GroupJson> = plan
        .groups
        .iter()
        .map(|Group { key, keep, remove }| GroupJson {
            message_type: "forget_group",
            dry_run,
            tags: key.tags.clone(),
            host: key.host.clone().unwrap_or_default(),
            paths: key.paths.as_ref().map(lossy),
            label: key.label.clone(),
            keep: keep.iter().map(snapshot).collect(),
            remove: remove.iter().map(snapshot).collect(),
            reasons: keep.iter().map(reason).collect(),
            remove_reasons: remove.iter().map(reason).collect(),
        })
        .collect();
    context.output.json(&groups)
}

/// What is left of each count that was asked for, without those at 0.
fn counters(rules: &Rules, left: &[Quota]) -> serde_json::Map<String, serde_json::Value> {
    let counted = Period::ALL.iter().zip(rules.counts).zip(left).filter(|((_, asked), _)| asked.is_left());
    let number = |left: &Quota| match left {
        Quota::UpTo(0) => None,
        Quota::UpTo(left) => Some(i64::from(*left).into()),
        Quota::Unlimited => Some((-1).into()),
    };
    counted.filter_map(|((period, _), left)| Some((period.word().to_owned(), number(left)?))).collect()
}
