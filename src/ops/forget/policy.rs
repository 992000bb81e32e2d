//! Which snapshots of one group a policy keeps. Pure: no clock, no repository.
//!
//! The rules and what they count are restic's (0.19): a rule walks from the newest snapshot to the oldest and keeps the
//! newest of each hour, day, ... until it has kept as many as it was told; the oldest of all is kept too while a rule has
//! counts left. Buckets are those of the given time zone. What is ours:
//!
//! - The newest complete snapshot is kept in addition to what the rules keep; where none is complete, the newest.
//! - A held snapshot is never removed. It counts like any other.
//! - A snapshot from the future is never removed and takes nobody's place, as if it were not there.
//! - A time that contradicts the order of arrival is in doubt ([`crate::ops::order`]), and takes nobody's place either. Such
//!   a snapshot stays with the one that arrived before it, or where the rules would keep it if it alone were believed;
//!   so neither a dead clock nor a majority of wrong ones removes what another reading would keep. While one stays, one
//!   of those that contradict it stays too: otherwise the next run would have no reason to doubt it.
//!
//! So what is kept once is kept when the rules are applied again, and a wrong clock costs no other snapshot its place. Both
//! hold for any one wrong clock in a group. With several, witnesses may go with the snapshots that the rules remove, and the
//! next run may believe another set: of random histories with two to seven wrong clocks, one in four hundred.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use std::fmt;
use std::str::FromStr;

use crate::base::id::ObjectId;
use crate::base::time::Time;
use crate::ops::order::{self, Arrivals, Order, Stamp};
use crate::ops::select::TagList;
use crate::text::clock;
use crate::text::span::Span;

/// What a rule counts by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Period {
    /// Every snapshot.
    Last,
    /// Minutes of the clock.
    Minutely,
    /// Hours of the clock.
    Hourly,
    /// Days of the calendar.
    Daily,
    /// ISO weeks, from Monday.
    Weekly,
    /// Months of the calendar.
    Monthly,
    /// Years of the calendar.
    Yearly,
}

impl Period {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Last, Self::Minutely, Self::Hourly, Self::Daily, Self::Weekly, Self::Monthly, Self::Yearly];

    /// The word in reasons and JSON.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Last => "last",
            Self::Minutely => "minutely",
            Self::Hourly => "hourly",
            Self::Daily => "daily",
            Self::Weekly => "weekly",
            Self::Monthly => "monthly",
            Self::Yearly => "yearly",
        }
    }

    const fn noun(self) -> &'static str {
        match self {
            Self::Last => "snapshot",
            Self::Minutely => "minute",
            Self::Hourly => "hour",
            Self::Daily => "day",
            Self::Weekly => "week",
            Self::Monthly => "month",
            Self::Yearly => "year",
        }
    }

    /// A number that two times share exactly when they lie in one period; `number` is the snapshot's place in the list.
    fn bucket(self, at: &DateTime, number: usize) -> i64 {
        let (year, month, day) = (i64::from(at.year()), i64::from(at.month()), i64::from(at.day()));
        let (hour, minute) = (i64::from(at.hour()), i64::from(at.minute()));
        match self {
            Self::Last => number as i64,
            Self::Minutely => (((year * 100 + month) * 100 + day) * 100 + hour) * 100 + minute,
            Self::Hourly => ((year * 100 + month) * 100 + day) * 100 + hour,
            Self::Daily => (year * 100 + month) * 100 + day,
            Self::Weekly => {
                let week = at.date().iso_week_date();
                i64::from(week.year()) * 100 + i64::from(week.week())
            }
            Self::Monthly => year * 100 + month,
            Self::Yearly => year,
        }
    }
}

/// How many snapshots a rule keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quota {
    /// So many; 0 for no such rule.
    UpTo(u32),
    /// As many as there are.
    Unlimited,
}

impl Default for Quota {
    fn default() -> Self {
        Self::UpTo(0)
    }
}

impl FromStr for Quota {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "unlimited" | "-1" => Ok(Self::Unlimited),
            _ => text.parse().map(Self::UpTo).map_err(|_| format!("{text:?} is neither a number nor \"unlimited\"")),
        }
    }
}

impl Quota {
    /// True when the rule keeps another one.
    #[must_use]
    pub const fn is_left(self) -> bool {
        !matches!(self, Self::UpTo(0))
    }

    const fn take(&mut self) {
        if let Self::UpTo(left) = self {
            *left = left.saturating_sub(1);
        }
    }
}

/// What is to be kept.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rules {
    /// The newest so many of each period, in the order of [`Period::ALL`].
    pub counts: [Quota; Period::ALL.len()],
    /// The newest of each period within a span before the newest snapshot, in the order of [`Period::ALL`]; with
    /// [`Period::Last`], all of them.
    pub within: [Span; Period::ALL.len()],
    /// Those with all tags of one of these lists.
    pub tags: Vec<TagList>,
    /// Those whose ids begin so.
    pub ids: Vec<String>,
}

impl Rules {
    /// True when nothing is asked for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut counted = Vec::new();
        for (period, quota) in Period::ALL.iter().zip(self.counts) {
            match quota {
                Quota::UpTo(0) => {}
                Quota::UpTo(count) => counted.push(format!("{count} {}", period.word())),
                Quota::Unlimited => counted.push(format!("all {}", period.word())),
            }
        }
        let mut parts = Vec::new();
        if !counted.is_empty() {
            parts.push(format!("{} snapshots", counted.join(", ")));
        }
        for (period, span) in Period::ALL.iter().zip(self.within).filter(|(_, span)| !span.is_zero()) {
            parts.push(match period {
                Period::Last => format!("all snapshots within {span} of the newest"),
                period => format!("{} snapshots within {span} of the newest", period.word()),
            });
        }
        parts.extend(self.tags.iter().map(|tags| format!("all with {}", described(tags))));
        parts.extend(self.ids.iter().map(|id| format!("those whose id begins with {id}")));
        f.write_str(&if parts.is_empty() { "nothing".to_owned() } else { parts.join("; ") })
    }
}

fn described(TagList(tags): &TagList) -> String {
    format!("tags [{}]", tags.join(", "))
}

/// What a policy needs to know of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its id.
    pub id: ObjectId,
    /// Generation of the head that first listed it.
    pub arrival: u64,
    /// The time that it stands for.
    pub time: Time,
    /// The time at which it was written, by its machine's clock.
    pub written: Time,
    /// Its tags.
    pub tags: Vec<String>,
    /// True when everything that was asked for is in it.
    pub complete: bool,
    /// True when no rule may remove it.
    pub held: bool,
    /// True when it was made from another snapshot, here or elsewhere: its arrival says nothing about its time.
    pub derived: bool,
}

impl Candidate {
    const fn stamp(&self) -> Stamp {
        let Self { id, arrival, time, written, derived, .. } = *self;
        Stamp { id, arrival, time, written, derived }
    }
}

/// When and where a policy is applied.
#[derive(Debug, Clone)]
pub struct Moment {
    /// The clock of this machine.
    pub now: Time,
    /// Whose days, weeks and years are meant.
    pub zone: TimeZone,
}

impl Moment {
    /// True for what lies ahead of every clock that may be right.
    #[must_use]
    pub const fn is_future(&self, time: Time) -> bool {
        order::is_ahead(time, self.now)
    }
}

/// What becomes of one snapshot, and why.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verdict {
    /// True when it stays.
    pub keep: bool,
    /// The rules that keep it; or, for one that goes, why each rule does not.
    pub reasons: Vec<String>,
    /// What each count had left after this snapshot.
    pub left: [Quota; Period::ALL.len()],
}

/// What becomes of a group.
#[derive(Debug, Clone, Default)]
pub struct Decision {
    /// One for each candidate, in their order.
    pub verdicts: Vec<Verdict>,
    /// The candidates' numbers, newest first.
    pub order: Vec<usize>,
    /// True when neither a rule nor a hold nor a time in the future keeps even one.
    pub keeps_nothing: bool,
}

/// Applies the rules to one group. Without `safety_net` the newest complete snapshot is not kept in addition.
#[must_use]
pub fn apply(candidates: &[Candidate], rules: &Rules, moment: &Moment, safety_net: bool) -> Decision {
    let is_future = |number: &usize| moment.is_future(candidates[*number].time);
    let present: Vec<usize> = (0..candidates.len()).filter(|number| !is_future(number)).collect();
    let stamps: Vec<Stamp> = candidates.iter().map(Candidate::stamp).collect();
    let arrivals = Arrivals::new(&stamps, &present, |time| moment.is_future(time));
    let places = Order::new(&stamps, moment.now);
    let mut order: Vec<usize> = (0..candidates.len()).collect();
    order.sort_by_key(|number| {
        let Candidate { id, derived, .. } = &candidates[*number];
        // What a repair or a rewriting left out, the one that it was made from has, as long as both are there.
        std::cmp::Reverse((places.place(id).and_then(|place| place.at), !*derived, places.position(id)))
    });
    let trusted: Vec<usize> = order.iter().copied().filter(|n| !is_future(n) && !arrivals.is_doubted(*n)).collect();
    let walk = Walk { candidates, rules, zone: &moment.zone, local: wall(candidates, &moment.zone) };

    let mut verdicts = vec![Verdict::default(); candidates.len()];
    for (number, verdict) in walk.run(&trusted) {
        verdicts[number] = verdict;
    }
    for doubted in arrivals.doubted() {
        let key = |number: usize| (candidates[number].time, candidates[number].arrival, candidates[number].id);
        let mut with = trusted.clone();
        with.insert(trusted.partition_point(|number| key(*number) > key(doubted)), doubted);
        if let Some((_, verdict)) = walk.run(&with).find(|(number, _)| *number == doubted) {
            verdicts[doubted] = verdict;
        }
    }
    for (number, verdict) in verdicts.iter_mut().enumerate() {
        if is_future(&number) {
            keep(verdict, "time in the future".to_owned());
        }
        if candidates[number].held {
            keep(verdict, "held".to_owned());
        }
    }
    let keeps_nothing = verdicts.iter().all(|verdict| !verdict.keep);
    if safety_net {
        let mut known = order.iter().copied().filter(|number| !is_future(number));
        let newest = known.clone().next().map(|number| (number, "newest snapshot, none is complete"));
        let complete = known.find(|number| candidates[*number].complete);
        let complete = complete.map(|number| (number, "newest complete snapshot"));
        if let Some((number, why)) = complete.or(newest)
            && !verdicts[number].keep
        {
            keep(&mut verdicts[number], why.to_owned());
        }
    }
    settle(&arrivals, candidates, &mut verdicts);
    Decision { verdicts, order, keeps_nothing }
}

/// Those in doubt stay with their neighbours, and whoever contradicts one that stays, stays.
fn settle(arrivals: &Arrivals<'_>, candidates: &[Candidate], verdicts: &mut [Verdict]) {
    loop {
        let mut changed = false;
        for (doubted, neighbour) in arrivals.doubted_with_neighbours() {
            if verdicts[neighbour].keep && !verdicts[doubted].keep {
                let beside = candidates[neighbour].id.short();
                keep(&mut verdicts[doubted], format!("clock in doubt, arrived beside {beside}"));
                changed = true;
            }
        }
        for doubted in arrivals.doubted().filter(|number| verdicts[*number].keep).collect::<Vec<_>>() {
            let against = arrivals.contradicting(doubted);
            if let Some(nearest) = against.first()
                && against.iter().all(|number| !verdicts[*number].keep)
            {
                let other = candidates[doubted].id.short();
                keep(&mut verdicts[*nearest], format!("speaks against the clock of {other}"));
                changed = true;
            }
        }
        if !changed {
            return;
        }
    }
}

fn keep(verdict: &mut Verdict, why: String) {
    if !std::mem::replace(&mut verdict.keep, true) {
        verdict.reasons.clear();
    }
    verdict.reasons.push(why);
}

fn wall(candidates: &[Candidate], zone: &TimeZone) -> Vec<DateTime> {
    candidates.iter().map(|candidate| clock::local_time(candidate.time, zone)).collect()
}

/// One rule on its walk.
struct Walking {
    period: Period,
    /// The period of the snapshot that was kept last, and that snapshot.
    last: Option<(i64, ObjectId)>,
}

impl Walking {
    fn new(period: Period) -> Self {
        Self { period, last: None }
    }

    /// The words of a rule that keeps this snapshot; or why it does not.
    fn visit(&mut self, id: ObjectId, bucket: i64, is_oldest: bool) -> Result<&'static str, String> {
        match self.last {
            Some((last, standing)) if last == bucket && !is_oldest => {
                Err(format!("same {} as {}", self.period.noun(), standing.short()))
            }
            last => {
                self.last = Some((bucket, id));
                Ok(if last.is_some_and(|(last, _)| last == bucket) { "oldest " } else { "" })
            }
        }
    }
}

/// The walk of all rules from the newest to the oldest.
struct Walk<'a> {
    candidates: &'a [Candidate],
    rules: &'a Rules,
    zone: &'a TimeZone,
    local: Vec<DateTime>,
}

impl Walk<'_> {
    /// What the rules say of each in `list`, which holds numbers of candidates, newest first.
    fn run<'a>(&'a self, list: &'a [usize]) -> impl Iterator<Item = (usize, Verdict)> + 'a {
        let Self { candidates, rules, zone, local } = self;
        let newest = list.first().map(|number| candidates[*number].time).unwrap_or_default();
        let limits = rules.within.map(|span| span.before(newest, zone));
        let mut left = rules.counts;
        let mut counting = Period::ALL.map(Walking::new);
        let mut reaching = Period::ALL.map(Walking::new);
        list.iter().enumerate().map(move |(place, number)| {
            let candidate = &candidates[*number];
            let (at, is_oldest) = (local[*number], place + 1 == list.len());
            let (mut kept, mut missed) = (Vec::new(), Vec::new());
            let id = candidate.id.to_string();
            kept.extend(rules.ids.iter().filter(|start| id.starts_with(*start)).map(|start| format!("id {start}")));
            let tagged = rules.tags.iter().filter(|TagList(wanted)| match wanted.is_empty() {
                true => candidate.tags.is_empty(),
                false => wanted.iter().all(|tag| candidate.tags.contains(tag)),
            });
            kept.extend(tagged.map(|wanted| format!("has {}", described(wanted))));
            if !rules.within[0].is_zero() {
                match candidate.time > limits[0] {
                    true => kept.push(format!("within {}", rules.within[0])),
                    false => missed.push(format!("not within {}", rules.within[0])),
                }
            }
            for (index, rule) in counting.iter_mut().enumerate() {
                let word = rule.period.word();
                if !left[index].is_left() {
                    if let Quota::UpTo(asked @ 1..) = rules.counts[index] {
                        missed.push(format!("beyond {asked} {word}"));
                    }
                    continue;
                }
                match rule.visit(candidate.id, rule.period.bucket(&at, place), is_oldest) {
                    Ok(prefix) => {
                        left[index].take();
                        kept.push(format!("{prefix}{word} snapshot"));
                    }
                    Err(why) => missed.push(why),
                }
            }
            for (index, rule) in reaching.iter_mut().enumerate().skip(1) {
                let (span, word) = (rules.within[index], rule.period.word());
                if span.is_zero() {
                    continue;
                }
                if candidate.time <= limits[index] {
                    missed.push(format!("not within {span}"));
                    continue;
                }
                match rule.visit(candidate.id, rule.period.bucket(&at, place), is_oldest) {
                    Ok(prefix) => kept.push(format!("{prefix}{word} within {span}")),
                    Err(why) => missed.push(why),
                }
            }
            missed.dedup();
            if missed.is_empty() {
                missed.push("no rule keeps it".to_owned());
            }
            let keep = !kept.is_empty();
            (*number, Verdict { keep, reasons: if keep { kept } else { missed }, left })
        })
    }
}
