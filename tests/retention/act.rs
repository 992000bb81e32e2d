//! What a process does to snapshots, drawn beforehand, so that a sequence is the same in every run; and what came of it.

use std::time::Duration;

use jiff::tz::TimeZone;
use packstone::base::id::ObjectId;
use packstone::base::time::Time;
use packstone::ops::forget::policy::{Moment, Period, Quota, Rules};
use packstone::ops::forget::{self, Wanted};
use packstone::ops::prune::{self, Limits, MaxUnused};
use packstone::ops::retag::{self, Change};
use packstone::ops::select::{Filter, GroupBy, SnapshotRef, TagList};
use packstone::ops::{Error, Monitor, Silent, undelete};
use packstone::repository::pack_writer::PackOptions;
use packstone::repository::{self, Repository};
use packstone::text::span::Span;

use crate::world::{self, Noise};

pub const PACK_BYTES: u64 = 96 << 10;

/// Packs of which three that are as short as can be are made into one by the next backup.
pub fn merging_packs() -> PackOptions {
    PackOptions { merge_min: 3, ..world::packs(PACK_BYTES) }
}
pub const TEN_YEARS: i64 = 10 * 366 * 86_400;
pub const WEEK: Duration = Duration::from_secs(7 * 86_400);
pub const TAGS: [&str; 3] = ["a", "b", "c"];

/// What is done.
#[derive(Debug, Clone)]
pub enum Act {
    /// `forget` by name.
    Forget(Vec<ObjectId>),
    /// `forget` by rules.
    Rules(Box<Policy>),
    /// `tag`, `hold`, `release`.
    Retag(Vec<ObjectId>, Change),
    Undelete(ObjectId),
    Prune {
        grace: Duration,
        now: i64,
        max_unused: u64,
    },
}

/// Rules, and the clock by which they are applied.
#[derive(Debug, Clone)]
pub struct Policy {
    pub rules: Rules,
    pub filter: Filter,
    pub group_by: GroupBy,
    pub now: i64,
}

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Done {
    pub removed: Vec<ObjectId>,
    /// Old and new ids.
    pub replaced: Vec<(ObjectId, ObjectId)>,
    pub back: Vec<ObjectId>,
    /// It said no, and nothing changed.
    pub refused: bool,
}

impl Done {
    fn refused() -> Self {
        Self { refused: true, ..Self::default() }
    }
}

impl Policy {
    pub fn draw(noise: &mut Noise, now: i64) -> Self {
        let mut draw = |below: u64| noise.next() % below;
        let mut rules = Rules::default();
        for _ in 0..=draw(2) {
            let period = draw(Period::ALL.len() as u64) as usize;
            match draw(4) {
                0 => rules.within[period] = Span { days: 1 + draw(20) as u32, ..Span::default() },
                1 => rules.counts[period] = Quota::Unlimited,
                _ => rules.counts[period] = Quota::UpTo(1 + draw(3) as u32),
            }
        }
        let mut tags = || vec![TagList(vec![TAGS[draw(3) as usize].to_owned()])];
        let (kept, filtered) = (tags(), tags());
        if draw(4) == 0 {
            rules.tags = kept;
        }
        let filter = Filter { tags: if draw(4) == 0 { filtered } else { Vec::new() }, ..Filter::default() };
        let group_by = GroupBy { tags: draw(2) == 0, ..GroupBy::HOST_AND_PATHS };
        Self { rules, filter, group_by, now: now + [0, 0, TEN_YEARS, -TEN_YEARS][draw(4) as usize] }
    }

    /// Chooses, lets `between` happen, and removes what was chosen.
    pub fn run(&self, repository: &Repository, between: &mut dyn FnMut()) -> Result<Done, String> {
        let wanted = Wanted::ByRules {
            filter: self.filter.clone(),
            group_by: self.group_by,
            rules: self.rules.clone(),
            allow_remove_all: false,
        };
        let moment = Moment { now: Time::from_seconds(self.now), zone: TimeZone::UTC };
        let plan = match forget::plan(repository, &wanted, &moment) {
            Ok(plan) => plan,
            // They keep nothing at all.
            Err(Error::Refused(_)) if !self.rules.tags.is_empty() => return Ok(Done::refused()),
            Err(error) => return Err(format!("forget by rules: {error}")),
        };
        between();
        match forget::execute(repository, &plan) {
            Ok(report) => Ok(Done { removed: report.removed, ..Done::default() }),
            Err(Error::Repository(repository::Error::Overtaken { .. })) => Ok(Done::refused()),
            Err(error) => Err(format!("forget by rules: {error}")),
        }
    }
}

fn names(ids: &[ObjectId]) -> Vec<SnapshotRef> {
    ids.iter().map(|id| SnapshotRef::Prefix(id.to_string())).collect()
}

/// Those that are live in what the process has read: the others may have gone since they were drawn.
fn live(repository: &Repository, ids: &[ObjectId]) -> Vec<ObjectId> {
    let state = repository.tip().state;
    ids.iter().filter(|id| state.snapshots.contains_key(*id)).copied().collect()
}

/// Does it. An error is one that nobody should see.
pub fn act(repository: &Repository, act: &Act, monitor: &dyn Monitor) -> Result<Done, String> {
    match act {
        Act::Forget(ids) => {
            let ids = live(repository, ids);
            if ids.is_empty() {
                return Ok(Done::default());
            }
            let wanted = Wanted::Named { names: names(&ids), filter: Filter::default() };
            let moment = Moment { now: Time::now(), zone: TimeZone::UTC };
            match forget::plan(repository, &wanted, &moment).and_then(|plan| forget::execute(repository, &plan)) {
                Ok(report) => Ok(Done { removed: report.removed, ..Done::default() }),
                Err(Error::NotFound(_) | Error::Refused(_)) => Ok(Done::refused()),
                Err(error) => Err(format!("forget: {error}")),
            }
        }
        Act::Rules(policy) => policy.run(repository, &mut || {}),
        Act::Retag(ids, change) => {
            let ids = live(repository, ids);
            if ids.is_empty() {
                return Ok(Done::default());
            }
            let plan = retag::plan(repository, &names(&ids), &Filter::default(), change);
            let done = plan.and_then(|plan| retag::execute(repository, &plan));
            let done = done.map_err(|error| format!("tag: {error}"))?;
            Ok(Done { replaced: done.map(|done| done.snapshots).unwrap_or_default(), ..Done::default() })
        }
        Act::Undelete(id) => bring_back(repository, *id),
        Act::Prune { grace, now, max_unused } => {
            let options = prune::Options {
                limits: Limits { max_unused: MaxUnused::Bytes(*max_unused), max_repack: None, pack_bytes: PACK_BYTES },
                grace: *grace,
                packs: merging_packs(),
                now: Time::from_seconds(*now),
            };
            prune::run(repository, &options, monitor).map_err(|error| format!("prune: {error}"))?;
            Ok(Done::default())
        }
    }
}

fn bring_back(repository: &Repository, id: ObjectId) -> Result<Done, String> {
    let before = repository.tip().state;
    let done =
        undelete::plan(repository, &[id.to_string()], &Silent).and_then(|plan| undelete::execute(repository, &plan));
    match done {
        Ok(_) if before.swept.contains_key(&id) => Err(format!("snapshot {} was swept and came back", id.short())),
        Ok(_) => Ok(Done { back: vec![id], ..Done::default() }),
        // It is live, or gone for good, or what it needs may be.
        Err(Error::NotFound(_) | Error::Conflict(_))
            if !before.marked.contains_key(&id) || !before.swept.is_empty() =>
        {
            Ok(Done::refused())
        }
        Err(error) => Err(format!("undelete: {error}")),
    }
}
