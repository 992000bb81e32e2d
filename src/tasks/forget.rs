//! Forget: remove snapshots by rules or by name. What they alone needed stays until a prune has swept it.

use super::environment::{Environment, repositories};
use super::failure::Failure;
use super::snapshot_filter::SnapshotFilter;
use super::{prune, report_warnings};
use crate::base::command::suggest;
use crate::base::time::Time;
use crate::ops::forget::policy::{Moment, Quota, Rules};
use crate::ops::forget::{self, Wanted};
use crate::ops::select::{GroupBy, IdBeginning, SnapshotRef, TagList};
use crate::ops::{Monitor, Problem, Subject};
use crate::repository::Repository;
use crate::repository::pack_writer::PackOptions;
use crate::text::clock;
use crate::text::span::Span;
use serde::Deserialize;

/// What goes: the snapshots that are named, or whatever the rules do not keep.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Request {
    /// Remove these. No rule may be given beside them.
    #[serde(deserialize_with = "super::text_form::list")]
    pub snapshots: Vec<SnapshotRef>,
    /// Which snapshots the rules are about; with named ones, which `latest` counts.
    pub filter: SnapshotFilter,
    /// The rules are applied to each group by itself; [`GroupBy::HOST_AND_PATHS`] when it is left out.
    #[serde(deserialize_with = "super::text_form::option")]
    pub group_by: Option<GroupBy>,
    /// Keep the newest so many. A count is a number, or `"unlimited"`.
    #[serde(deserialize_with = "super::text_form::number")]
    pub keep_last: Option<Quota>,
    /// Keep the newest of each of the last so many minutes that have one.
    #[serde(deserialize_with = "super::text_form::number")]
    pub keep_minutely: Option<Quota>,
    /// The same for hours.
    #[serde(deserialize_with = "super::text_form::number")]
    pub keep_hourly: Option<Quota>,
    /// The same for days.
    #[serde(deserialize_with = "super::text_form::number")]
    pub keep_daily: Option<Quota>,
    /// The same for weeks.
    #[serde(deserialize_with = "super::text_form::number")]
    pub keep_weekly: Option<Quota>,
    /// The same for months.
    #[serde(deserialize_with = "super::text_form::number")]
    pub keep_monthly: Option<Quota>,
    /// The same for years.
    #[serde(deserialize_with = "super::text_form::number")]
    pub keep_yearly: Option<Quota>,
    /// Keep all within this span before the newest.
    #[serde(deserialize_with = "super::text_form::option")]
    pub keep_within: Option<Span>,
    /// Keep the newest of each minute within this span before the newest.
    #[serde(deserialize_with = "super::text_form::option")]
    pub keep_within_minutely: Option<Span>,
    /// The same for hours.
    #[serde(deserialize_with = "super::text_form::option")]
    pub keep_within_hourly: Option<Span>,
    /// The same for days.
    #[serde(deserialize_with = "super::text_form::option")]
    pub keep_within_daily: Option<Span>,
    /// The same for weeks.
    #[serde(deserialize_with = "super::text_form::option")]
    pub keep_within_weekly: Option<Span>,
    /// The same for months.
    #[serde(deserialize_with = "super::text_form::option")]
    pub keep_within_monthly: Option<Span>,
    /// The same for years.
    #[serde(deserialize_with = "super::text_form::option")]
    pub keep_within_yearly: Option<Span>,
    /// Keep those with all tags of one of these lists.
    #[serde(deserialize_with = "super::text_form::list")]
    pub keep_tags: Vec<TagList>,
    /// Keep those whose ids begin so.
    #[serde(deserialize_with = "super::text_form::list")]
    pub keep_ids: Vec<IdBeginning>,
    /// A group may lose all of its snapshots. The filter must leave something out then.
    pub unsafe_allow_remove_all: bool,
    /// Prune afterwards. A dry run of the whole prunes nothing.
    pub prune: Option<prune::Request>,
    /// Change nothing, only say what would be done.
    pub dry_run: bool,
}

/// What will be removed, and why.
#[derive(Debug)]
pub struct Plan {
    /// The snapshots.
    pub plan: forget::Plan,
    /// What was asked for.
    pub wanted: Wanted,
    /// When, and in which time zone the rules count.
    pub moment: Moment,
    repository: Repository,
    packs: PackOptions,
    prune: Option<prune::Request>,
    dry_run: bool,
}

/// What was removed, before the prune.
#[derive(Debug)]
pub struct Removed {
    /// What it was based on.
    pub plan: Plan,
    /// What was done; nothing in a dry run.
    pub report: forget::Report,
}

/// What was done.
#[derive(Debug)]
pub struct Report {
    /// What was removed.
    pub removed: Removed,
    /// What the prune did; none when it was not asked for, or in a dry run.
    pub pruned: Option<crate::ops::prune::Report>,
}

/// Removes the snapshots, and prunes where that is asked for.
///
/// # Errors
/// As [`plan`], [`Plan::execute`] and [`Removed::prune`]. The snapshots are gone when it is the prune that failed.
pub fn run(request: &Request, environment: &Environment, monitor: &dyn Monitor) -> Result<Report, Failure> {
    let removed = plan(request, environment, monitor)?.execute()?;
    let pruned = removed.prune(monitor)?;
    Ok(Report { removed, pruned })
}

/// Works out what goes. Reads only.
///
/// # Errors
/// A usage error without rules and names; a failure when a group would lose everything, or a held snapshot is named.
pub fn plan(request: &Request, environment: &Environment, monitor: &dyn Monitor) -> Result<Plan, Failure> {
    let wanted = request.wanted()?;
    if let Some(prune) = &request.prune {
        prune.require_clear()?;
    }
    let repository = repositories::open_repository(environment, monitor, "forget")?;
    let moment = Moment { now: Time::now(), zone: clock::local_zone() };
    let plan = forget::plan(&repository, &wanted, &moment)?;
    report_warnings(&repository, monitor);
    if matches!(wanted, Wanted::ByRules { .. }) {
        for (id, error) in &plan.damaged {
            let id = id.short();
            let message = format!(
                "snapshot {id} cannot be read ({error}): no rule removes it. To remove it: {}",
                suggest!("forget {}", id)
            );
            monitor.problem(&Problem::warning(Subject::Stored, &message));
        }
    }
    let (packs, prune, dry_run) = (environment.packs, request.prune.clone(), request.dry_run);
    Ok(Plan { plan, wanted, moment, repository, packs, prune, dry_run })
}

impl Plan {
    /// Removes what it says, in one step for all; nothing in a dry run.
    ///
    /// # Errors
    /// As [`forget::execute`]: then nothing was removed.
    pub fn execute(self) -> Result<Removed, Failure> {
        let report =
            if self.dry_run { forget::Report::default() } else { forget::execute(&self.repository, &self.plan)? };
        Ok(Removed { plan: self, report })
    }
}

impl Removed {
    /// Then removes what no snapshot needs any more, where that is asked for. In a dry run it cannot be known what that is.
    ///
    /// # Errors
    /// As [`prune::run`].
    pub fn prune(&self, monitor: &dyn Monitor) -> Result<Option<crate::ops::prune::Report>, Failure> {
        let Plan { repository, packs, prune, dry_run, .. } = &self.plan;
        let prune = prune.as_ref().filter(|_| !dry_run);
        prune.map(|prune| prune.prune(repository, *packs, monitor)).transpose()
    }
}

impl Request {
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
            ids: self.keep_ids.iter().map(|IdBeginning(digits)| digits.clone()).collect(),
        }
    }

    fn wanted(&self) -> Result<Wanted, Failure> {
        let (filter, rules) = (self.filter.resolve(), self.rules());
        let allow_remove_all = self.unsafe_allow_remove_all;
        if !self.snapshots.is_empty() {
            if !rules.is_empty() || allow_remove_all {
                return Err(Failure::usage(
                    "either snapshots are named or rules are given, not both: nothing was removed",
                ));
            }
            return Ok(Wanted::Named { names: self.snapshots.clone(), filter });
        }
        if allow_remove_all && filter.is_empty() {
            return Err(Failure::usage(
                "--unsafe-allow-remove-all needs --host, --tag or --path beside it: nothing was removed",
            ));
        }
        if rules.is_empty() && !allow_remove_all {
            return Err(Failure::usage("no rule says what to keep, and no snapshot is named: nothing was removed")
                .remedy(concat!("for example: ", suggest!("forget --keep-daily 7 --keep-weekly 4 --dry-run"))));
        }
        let group_by = self.group_by.unwrap_or(GroupBy::HOST_AND_PATHS);
        Ok(Wanted::ByRules { filter, group_by, rules, allow_remove_all })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use crate::tasks::failure::Kind;

    fn request(text: &str) -> Request {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn rules_are_read_as_they_are_typed() {
        let request = request(
            r#"{"keep-daily": 7, "keep-weekly": "4", "keep-yearly": "unlimited", "keep-within-hourly": "2d",
                "keep-ids": ["AB1"], "group-by": "host", "prune": {"grace": "1d"}}"#,
        );
        let Wanted::ByRules { rules, group_by, .. } = request.wanted().unwrap() else { panic!("by rules") };
        let none = Quota::default();
        let (days, weeks) = (Quota::UpTo(7), Quota::UpTo(4));
        assert_eq!(rules.counts, [none, none, none, days, weeks, none, Quota::Unlimited]);
        assert_eq!(rules.within[2], Span { days: 2, ..Span::default() });
        assert_eq!(rules.ids, ["ab1"]);
        assert!(group_by.host && !group_by.paths && request.prune.is_some());
    }

    #[test]
    fn what_says_nothing_or_two_things_removes_nothing() {
        for text in [
            "{}",
            r#"{"keep-last": 0}"#,
            r#"{"snapshots": ["latest"], "keep-last": 1}"#,
            r#"{"snapshots": ["latest"], "unsafe-allow-remove-all": true}"#,
            r#"{"unsafe-allow-remove-all": true}"#,
        ] {
            assert_eq!(request(text).wanted().map(|_| ()).unwrap_err().kind(), Kind::Usage, "{text}");
        }
        assert!(matches!(request(r#"{"snapshots": ["latest"]}"#).wanted(), Ok(Wanted::Named { .. })));
        assert!(request(r#"{"unsafe-allow-remove-all": true, "filter": {"hosts": ["a"]}}"#).wanted().is_ok());
        for text in [r#"{"keep-last": -2}"#, r#"{"keep-ids": ["latest"]}"#, r#"{"keep-within": "x"}"#, r#"{"keep": 1}"#]
        {
            assert!(serde_json::from_str::<Request>(text).is_err(), "{text}");
        }
    }
}
