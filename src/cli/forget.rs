//! `forget`: remove snapshots by rules or by name. What they alone needed stays until `prune` has swept it.

use super::exit::Exit;
use super::json;
use super::progress::Work;
use super::prune::PruneOptions;
use super::snapshot_argument::{GroupBy, SnapshotFilter, SnapshotRef, TagList};
use super::watch::tell_warnings;
use super::{Context, snapshot_json, snapshot_table};
use crate::base::command::suggest;
use crate::base::id::ObjectId;
use crate::base::time::Time;
use crate::ops::forget::policy::{Moment, Period, Quota, Rules};
use crate::ops::forget::{self, Group, Judged, Plan, Report, Wanted};
use crate::tasks::environment::repositories;
use crate::tasks::failure::Failure;
use crate::text::span::{Span, parse_span};
use crate::text::{clock, size};
use jiff::tz::TimeZone;
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
    #[arg(short = 'l', long, value_name = "N", value_parser = parse_quota, allow_hyphen_values = true)]
    pub keep_last: Option<Quota>,
    /// Keep the newest of each of the last N minutes that have one
    #[arg(long, value_name = "N", value_parser = parse_quota, allow_hyphen_values = true)]
    pub keep_minutely: Option<Quota>,
    /// Keep the newest of each of the last N hours that have one
    #[arg(short = 'H', long, value_name = "N", value_parser = parse_quota, allow_hyphen_values = true)]
    pub keep_hourly: Option<Quota>,
    /// Keep the newest of each of the last N days that have one
    #[arg(short = 'd', long, value_name = "N", value_parser = parse_quota, allow_hyphen_values = true)]
    pub keep_daily: Option<Quota>,
    /// Keep the newest of each of the last N weeks that have one
    #[arg(short = 'w', long, value_name = "N", value_parser = parse_quota, allow_hyphen_values = true)]
    pub keep_weekly: Option<Quota>,
    /// Keep the newest of each of the last N months that have one
    #[arg(short = 'm', long, value_name = "N", value_parser = parse_quota, allow_hyphen_values = true)]
    pub keep_monthly: Option<Quota>,
    /// Keep the newest of each of the last N years that have one
    #[arg(short = 'y', long, value_name = "N", value_parser = parse_quota, allow_hyphen_values = true)]
    pub keep_yearly: Option<Quota>,
    /// Keep all within this span before the newest, such as 1y5m7d2h
    #[arg(long, value_name = "SPAN", value_parser = parse_span)]
    pub keep_within: Option<Span>,
    /// Keep the newest of each minute within this span before the newest
    #[arg(long, value_name = "SPAN", value_parser = parse_span)]
    pub keep_within_minutely: Option<Span>,
    /// Keep the newest of each hour within this span before the newest
    #[arg(long, value_name = "SPAN", value_parser = parse_span)]
    pub keep_within_hourly: Option<Span>,
    /// Keep the newest of each day within this span before the newest
    #[arg(long, value_name = "SPAN", value_parser = parse_span)]
    pub keep_within_daily: Option<Span>,
    /// Keep the newest of each week within this span before the newest
    #[arg(long, value_name = "SPAN", value_parser = parse_span)]
    pub keep_within_weekly: Option<Span>,
    /// Keep the newest of each month within this span before the newest
    #[arg(long, value_name = "SPAN", value_parser = parse_span)]
    pub keep_within_monthly: Option<Span>,
    /// Keep the newest of each year within this span before the newest
    #[arg(long, value_name = "SPAN", value_parser = parse_span)]
    pub keep_within_yearly: Option<Span>,
    /// Keep those with all of these tags, separated by commas (can be given multiple times: any of the lists)
    #[arg(long = "keep-tag", value_name = "TAG[,TAG...]")]
    pub keep_tags: Vec<TagList>,
    /// Keep those whose id begins so (can be given multiple times)
    #[arg(long = "keep-id", value_name = "ID", value_parser = parse_id)]
    pub keep_ids: Vec<String>,
}

fn parse_quota(text: &str) -> Result<Quota, String> {
    match text {
        "unlimited" | "-1" => Ok(Quota::Unlimited),
        _ => text.parse().map(Quota::UpTo).map_err(|_| format!("{text:?} is neither a number nor \"unlimited\"")),
    }
}

fn parse_id(text: &str) -> Result<String, String> {
    match text.parse() {
        Ok(SnapshotRef::Prefix(digits)) => Ok(digits),
        _ => Err(format!("{text:?} is not the beginning of an id")),
    }
}

impl RuleArguments {
    fn rules(&self) -> Rules {
        let counts = [
            self.keep_last,
            self.keep_minutely,
            self.keep_hourly,
            self.keep_daily,
            self.keep_weekly,
            self.keep_monthly,
            self.keep_yearly,
        ];
        let within = [
            self.keep_within,
            self.keep_within_minutely,
            self.keep_within_hourly,
            self.keep_within_daily,
            self.keep_within_weekly,
            self.keep_within_monthly,
            self.keep_within_yearly,
        ];
        Rules {
            counts: counts.map(Option::unwrap_or_default),
            within: within.map(Option::unwrap_or_default),
            tags: self.keep_tags.clone(),
            ids: self.keep_ids.clone(),
        }
    }
}

fn wanted(arguments: &Arguments) -> Result<Wanted, Failure> {
    let (hosts, tags, paths) = (arguments.hosts.clone(), arguments.tags.clone(), arguments.paths.clone());
    let filter = SnapshotFilter { hosts, tags, paths }.resolve();
    let rules = arguments.rules.rules();
    if !arguments.snapshots.is_empty() {
        if !rules.is_empty() {
            return Err(Failure::usage("either snapshots are named or rules are given, not both: nothing was removed"));
        }
        return Ok(Wanted::Named { names: arguments.snapshots.clone(), filter });
    }
    let allow_remove_all = arguments.unsafe_allow_remove_all;
    if allow_remove_all && filter.is_empty() {
        return Err(Failure::usage(
            "--unsafe-allow-remove-all needs --host, --tag or --path beside it: nothing was removed",
        ));
    }
    if rules.is_empty() && !allow_remove_all {
        return Err(Failure::usage("no rule says what to keep, and no snapshot is named: nothing was removed")
            .remedy(concat!("for example: ", suggest!("forget --keep-daily 7 --keep-weekly 4 --dry-run"))));
    }
    Ok(Wanted::ByRules { filter, group_by: arguments.group_by, rules, allow_remove_all })
}

/// Runs the command.
///
/// # Errors
/// [`Exit::Usage`] without rules and names; when a group would lose everything, or a held snapshot is named.
pub fn run(arguments: &Arguments, context: &mut Context) -> Result<Exit, Failure> {
    let wanted = wanted(arguments)?;
    let repository = repositories::open_repository(&context.environment, &context.watch(), "forget")?;
    let moment = Moment { now: Time::now(), zone: clock::local_zone() };
    let plan = forget::plan(&repository, &wanted, &moment)?;
    tell_warnings(&repository, context.output);
    if let Wanted::ByRules { rules, .. } = &wanted {
        for (id, error) in &plan.damaged {
            let id = id.short();
            context.output.warn(&format!(
                "snapshot {id} cannot be read ({error}): no rule removes it. To remove it: {}",
                suggest!("forget {}", id)
            ));
        }
        if !context.output.json {
            show_groups(&plan, rules, arguments.compact, context)?;
        }
    }
    let report = if arguments.dry_run { Report::default() } else { forget::execute(&repository, &plan)? };
    if context.output.json {
        show_json(&plan, &wanted, arguments.dry_run, &moment.zone, context)?;
    } else {
        tell(&plan, &report, arguments, context)?;
    }
    if !arguments.prune {
        return Ok(Exit::Success);
    }
    if arguments.dry_run {
        context
            .output
            .info(concat!("What prune would do is known when they are removed. Then: ", suggest!("prune --dry-run")))?;
        return Ok(Exit::Success);
    }
    let progress = context.progress(Work::Other);
    let request = arguments.prune_options.request(false);
    let report = request.prune(&repository, context.environment.packs, &progress);
    progress.finish();
    super::prune::show(&report?, false, context)
}

fn show_groups(plan: &Plan, rules: &Rules, compact: bool, context: &Context) -> Result<(), Failure> {
    let output = context.output;
    let rules = crate::base::escape::safe(&rules.to_string());
    output.info(format_args!("Applying rules: keep {rules}"))?;
    for Group { key, keep, remove } in &plan.groups {
        output.info(format_args!("snapshots for ({}):\n", forget::describe(key)))?;
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

fn show_json(plan: &Plan, wanted: &Wanted, dry_run: bool, zone: &TimeZone, context: &Context) -> Result<(), Failure> {
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn counts_are_typed_as_in_restic() {
        assert_eq!(parse_quota("7"), Ok(Quota::UpTo(7)));
        assert_eq!(parse_quota("unlimited"), Ok(Quota::Unlimited));
        assert_eq!(parse_quota("-1"), Ok(Quota::Unlimited));
        for text in ["", "-2", "x", "1.5", "99999999999"] {
            assert!(parse_quota(text).is_err(), "{text}");
        }
        assert!(parse_id("AB12").is_ok() && parse_id("latest").is_err());
    }
}
