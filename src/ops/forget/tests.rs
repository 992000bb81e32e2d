//! What the rules keep: restic's answers, and what holds for every history.
#![allow(clippy::unwrap_used)]

use jiff::tz::TimeZone;
use proptest::prelude::{Just, Strategy, any, prop, prop_oneof};
use proptest::test_runner::{Config, TestRunner};
use std::collections::BTreeSet;

use super::policy::{Candidate, Moment, Period, Quota, Rules, apply};
use crate::base::id::ObjectId;
use crate::base::time::Time;
use crate::ops::order::FUTURE_SECONDS;
use crate::ops::select::TagList;
use crate::text::span::Span;

const DAY: i64 = 86_400;
/// 2026-11-21 12:00:00 UTC, a Saturday.
const NOW: i64 = 1_795_262_400;

fn moment() -> Moment {
    Moment { now: Time::from_seconds(NOW), zone: TimeZone::UTC }
}

fn id(number: usize) -> ObjectId {
    ObjectId::of(&number.to_le_bytes())
}

/// A snapshot that arrived as number `arrival` + 1, `seconds` after 1970.
fn candidate(arrival: usize, seconds: i64) -> Candidate {
    Candidate {
        id: id(arrival),
        arrival: arrival as u64 + 2,
        time: Time::from_seconds(seconds),
        written: Time::from_seconds(seconds),
        tags: Vec::new(),
        complete: true,
        held: false,
        derived: false,
    }
}

/// Snapshots in the order of their arrival, so many days before now.
fn days_ago(days: &[i64]) -> Vec<Candidate> {
    days.iter().enumerate().map(|(number, days)| candidate(number, NOW - days * DAY)).collect()
}

fn rules(counts: &[(Period, u32)]) -> Rules {
    let mut rules = Rules::default();
    for (period, count) in counts {
        let index = Period::ALL.iter().position(|known| known == period).unwrap();
        rules.counts[index] = Quota::UpTo(*count);
    }
    rules
}

/// The numbers of those that stay.
fn kept(candidates: &[Candidate], rules: &Rules) -> Vec<usize> {
    let decision = apply(candidates, rules, &moment(), true);
    (0..candidates.len()).filter(|number| decision.verdicts[*number].keep).collect()
}

fn reasons(candidates: &[Candidate], rules: &Rules, number: usize) -> String {
    apply(candidates, rules, &moment(), true).verdicts[number].reasons.join(", ")
}

const fn span(years: u32, months: u32, days: u32, hours: u32) -> Span {
    Span { years, months, days, hours }
}

#[test]
fn counts_are_typed_as_in_restic() {
    assert_eq!("7".parse(), Ok(Quota::UpTo(7)));
    assert_eq!("unlimited".parse(), Ok(Quota::Unlimited));
    assert_eq!("-1".parse(), Ok(Quota::Unlimited));
    for text in ["", "-2", "x", "1.5", "99999999999"] {
        assert!(text.parse::<Quota>().is_err(), "{text}");
    }
}

/// One history, rules, and the numbers of the snapshots that restic 0.19.1 keeps (tests/forget-as-restic.py compares many
/// more).
#[test]
fn the_rules_keep_what_restic_keeps() {
    let times = [
        1_773_815_400,
        1_774_074_600,
        1_781_850_600,
        1_782_109_800,
        1_782_196_200,
        1_783_924_200,
        1_783_929_200,
        1_783_934_200,
        1_784_193_400,
        1_784_233_400,
        1_784_319_800,
        1_792_095_800,
        1_792_096_400,
        1_792_355_600,
        1_792_356_200,
        1_792_615_400,
        1_794_343_400,
        1_794_429_800,
        1_794_689_000,
        1_794_729_000,
        1_794_734_000,
        1_794_993_200,
        1_795_252_400,
        1_795_257_400,
    ];
    let history: Vec<Candidate> = times.into_iter().enumerate().map(|(number, time)| candidate(number, time)).collect();
    type Case<'a> = (&'a [(Period, u32)], &'a [(Period, Span)], &'a [usize]);
    let cases: [Case<'_>; 12] = [
        (&[(Period::Last, 5)], &[], &[19, 20, 21, 22, 23]),
        (&[(Period::Hourly, 6)], &[], &[18, 19, 20, 21, 22, 23]),
        (&[(Period::Daily, 4)], &[], &[18, 20, 21, 23]),
        (&[(Period::Weekly, 3)], &[], &[15, 20, 23]),
        (&[(Period::Monthly, 30)], &[], &[0, 1, 4, 10, 15, 23]),
        (&[(Period::Yearly, 2)], &[], &[0, 23]),
        (
            &[(Period::Last, 1), (Period::Daily, 3), (Period::Weekly, 4), (Period::Monthly, 6), (Period::Yearly, 9)],
            &[],
            &[0, 1, 4, 10, 14, 15, 20, 21, 23],
        ),
        (&[], &[(Period::Last, span(0, 1, 5, 0))], &[13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23]),
        (&[], &[(Period::Daily, span(0, 0, 40, 0))], &[12, 14, 15, 16, 17, 18, 20, 21, 23]),
        (&[], &[(Period::Weekly, span(0, 2, 0, 0)), (Period::Yearly, span(9, 0, 0, 0))], &[0, 14, 15, 20, 23]),
        (&[], &[(Period::Hourly, span(0, 0, 0, 30)), (Period::Monthly, span(1, 0, 0, 0))], &[0, 1, 4, 10, 15, 22, 23]),
        (&[(Period::Last, 2)], &[(Period::Monthly, span(0, 0, 200, 3))], &[4, 10, 15, 22, 23]),
    ];
    for (counts, within, expected) in cases {
        let mut wanted = rules(counts);
        for (period, span) in within {
            wanted.within[Period::ALL.iter().position(|known| known == period).unwrap()] = *span;
        }
        assert_eq!(kept(&history, &wanted), expected, "{wanted}");
    }
}

#[test]
fn counts_keep_the_newest_of_each_period_and_the_oldest_of_all() {
    let history = days_ago(&[40, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0]);
    assert_eq!(kept(&history, &rules(&[(Period::Last, 2)])), [9, 10]);
    assert_eq!(kept(&history, &rules(&[(Period::Daily, 3)])), [8, 9, 10]);
    // Weeks from Monday: 16 to 22 November is days 0 to 5 ago, the week before ends 6 days ago.
    assert_eq!(kept(&history, &rules(&[(Period::Weekly, 2)])), [4, 10]);
    assert_eq!(kept(&history, &rules(&[(Period::Monthly, 5)])), [0, 10], "12 October is a month of its own");
    assert_eq!(kept(&history, &rules(&[(Period::Yearly, 3)])), [0, 10], "the oldest, while counts are left");
    assert_eq!(reasons(&history, &rules(&[(Period::Yearly, 3)]), 0), "oldest yearly snapshot");
    assert_eq!(kept(&history, &rules(&[(Period::Yearly, 1)])), [10]);
    let mut all = Rules::default();
    all.counts[3] = Quota::Unlimited;
    assert_eq!(kept(&history, &all).len(), 11);
}

#[test]
fn what_goes_is_told_why() {
    let mut history = days_ago(&[3, 2, 1, 0]);
    history.push(candidate(4, NOW - 3600));
    history[4].derived = true;
    let wanted = rules(&[(Period::Daily, 2)]);
    assert_eq!(reasons(&history, &wanted, 0), "beyond 2 daily");
    assert_eq!(reasons(&history, &wanted, 4), format!("same day as {}", id(3).short()));
    let tagged = Rules { tags: vec![TagList(vec!["a".into()])], ..Rules::default() };
    assert_eq!(reasons(&history, &tagged, 0), "no rule keeps it");
    let within = Rules { within: [Span { days: 1, ..Span::default() }; 7], ..Rules::default() };
    assert_eq!(reasons(&history, &within, 0), "not within 1d");
}

#[test]
fn spans_reach_back_from_the_newest() {
    let history = days_ago(&[400, 100, 32, 30, 2, 1]);
    let mut wanted = Rules::default();
    wanted.within[0] = Span { months: 1, ..Span::default() };
    assert_eq!(kept(&history, &wanted), [3, 4, 5], "a month before 20 November, to the second");
    let mut wanted = Rules::default();
    wanted.within[6] = Span { years: 2, ..Span::default() };
    assert_eq!(kept(&history, &wanted), [0, 5], "one in each year, and the oldest");
    // A month before 31 March is 3 March.
    let zone = TimeZone::UTC;
    let march = candidate(0, 1_774_915_200); // 2026-03-31 00:00
    let edge = |seconds| vec![candidate(1, seconds), Candidate { arrival: 9, ..march.clone() }];
    let mut wanted = Rules::default();
    wanted.within[0] = Span { months: 1, ..Span::default() };
    let moment = Moment { now: Time::from_seconds(NOW), zone };
    // 2026-03-03 00:00 to the second is not within.
    for (seconds, stays) in [(1_772_496_000, false), (1_772_496_001, true)] {
        assert_eq!(apply(&edge(seconds), &wanted, &moment, true).verdicts[0].keep, stays, "{seconds}");
    }
}

#[test]
fn tags_and_ids_keep_whatever_their_age() {
    let mut history = days_ago(&[9, 8, 7, 0]);
    history[0].tags = vec!["a".into(), "b".into()];
    history[1].tags = vec!["a".into()];
    let mut wanted = rules(&[(Period::Last, 1)]);
    wanted.tags = vec![TagList(vec!["a".into(), "b".into()])];
    assert_eq!(kept(&history, &wanted), [0, 3]);
    assert_eq!(reasons(&history, &wanted, 0), "has tags [a, b]");
    wanted.tags = vec![TagList(Vec::new())];
    assert_eq!(kept(&history, &wanted), [2, 3], "those without tags");
    wanted.tags = Vec::new();
    wanted.ids = vec![id(1).short()];
    assert_eq!(kept(&history, &wanted), [1, 3]);
}

#[test]
fn the_newest_complete_snapshot_is_kept_in_addition() {
    let mut history = days_ago(&[5, 4, 3, 2, 1]);
    history[2..].iter_mut().for_each(|candidate| candidate.complete = false);
    let wanted = rules(&[(Period::Last, 2)]);
    assert_eq!(kept(&history, &wanted), [1, 3, 4]);
    assert_eq!(reasons(&history, &wanted, 1), "newest complete snapshot");
    history.iter_mut().for_each(|candidate| candidate.complete = false);
    let tagged = Rules { tags: vec![TagList(vec!["no such".into()])], ..Rules::default() };
    assert_eq!(kept(&history, &tagged), [4]);
    assert_eq!(reasons(&history, &tagged, 4), "newest snapshot, none is complete");
    let decision = apply(&history, &tagged, &moment(), false);
    assert!(decision.keeps_nothing && decision.verdicts.iter().all(|verdict| !verdict.keep));
}

#[test]
fn held_snapshots_and_those_from_the_future_stay() {
    let mut history = days_ago(&[5, 4, 3, 2, 1, 0, -1, -3650]);
    history[1].held = true;
    let wanted = rules(&[(Period::Last, 2)]);
    assert_eq!(kept(&history, &wanted), [1, 4, 5, 6, 7], "the future takes nobody's place");
    assert_eq!(reasons(&history, &wanted, 1), "held");
    assert_eq!(reasons(&history, &wanted, 7), "time in the future");
    let ahead = vec![candidate(0, NOW - 60), candidate(1, NOW + FUTURE_SECONDS)];
    assert_eq!(kept(&ahead, &rules(&[(Period::Last, 1)])), [1], "a clock a little ahead is right enough");
}

#[test]
fn a_clock_in_doubt_takes_nobodys_place() {
    // Day 3 ago the clock stood in 1970.
    let mut history = days_ago(&[6, 5, 4, 3, 2, 1]);
    set_clock(&mut history[3], 60);
    let wanted = rules(&[(Period::Daily, 3)]);
    assert_eq!(kept(&history, &wanted), [2, 3, 4, 5], "beside day 4, which stays");
    assert_eq!(reasons(&history, &wanted, 3), format!("clock in doubt, arrived beside {}", id(2).short()));
    assert_eq!(kept(&history, &rules(&[(Period::Daily, 2)])), [4, 5]);
    // One whose time somebody claimed is believed.
    history[3].written = Time::from_seconds(NOW - 3 * DAY);
    assert_eq!(kept(&history, &wanted), [2, 4, 5]);
    // The newest to arrive stands in 1970: it is the newest complete one all the same.
    let mut history = days_ago(&[3, 2]);
    history.push(candidate(2, 60));
    assert_eq!(kept(&history, &rules(&[(Period::Last, 1)])), [1, 2]);
    // One word against the other: both stay until a third one speaks.
    let history = days_ago(&[1, 9]);
    assert_eq!(kept(&history, &rules(&[(Period::Last, 1)])), [0, 1]);
}

/// Forgotten and brought back, ten old snapshots arrive again, in one head, after three new ones. They are the majority,
/// and still the new ones stay.
#[test]
fn a_majority_of_late_arrivals_removes_nothing_new() {
    let mut history = days_ago(&[3, 2, 1, 20, 19, 18, 17, 16, 15, 14, 13, 12, 11]);
    history[3..].iter_mut().for_each(|candidate| candidate.arrival = 90);
    let found = kept(&history, &rules(&[(Period::Last, 3)]));
    assert!([0, 1, 2].iter().all(|new| found.contains(new)), "{found:?}");
}

/// A snapshot every so often, in the order of their times, with a few tags, holds and flaws.
fn history() -> impl Strategy<Value = Vec<Candidate>> {
    let gap = prop_oneof![0..90_i64, 1..7200_i64, DAY / 2..3 * DAY, DAY..90 * DAY];
    let one = (gap, any::<[bool; 3]>(), 0..8_u8);
    (prop::collection::vec(one, 1..30), 1_000..100_000_i64).prop_map(|(list, last)| {
        let mut seconds = NOW - last;
        let mut built: Vec<Candidate> = Vec::new();
        let count = list.len();
        for (place, (gap, [tagged, flawed, _], rare)) in list.into_iter().enumerate() {
            let mut one = candidate(count - 1 - place, seconds);
            one.tags = if tagged { vec!["a".into()] } else { Vec::new() };
            one.complete = !flawed;
            one.held = rare == 0;
            seconds -= gap;
            built.push(one);
        }
        built.reverse();
        built
    })
}

fn policy() -> impl Strategy<Value = Rules> {
    let quota = prop_oneof![4 => Just(0_u32), 2 => 1..5_u32, 1 => 5..15_u32];
    let span = prop_oneof![
        6 => Just(Span::default()),
        1 => (0..3_u32, 0..6_u32, 0..40_u32, 0..30_u32)
            .prop_map(|(years, months, days, hours)| Span { years, months, days, hours }),
    ];
    let array = (prop::array::uniform7(quota), prop::array::uniform7(span), any::<bool>());
    array
        .prop_map(|(counts, within, tagged)| Rules {
            counts: counts.map(Quota::UpTo),
            within,
            tags: if tagged { vec![TagList(vec!["a".into()])] } else { Vec::new() },
            ids: Vec::new(),
        })
        .prop_filter("a rule is given", |rules| !rules.is_empty())
}

/// A clock that is wrong: dead, a little slow, a little fast, years ahead.
fn wrong() -> impl Strategy<Value = i64> {
    prop_oneof![
        0..DAY,
        NOW - 400 * DAY..NOW,
        NOW - 5 * DAY..NOW,
        Just(NOW + 3650 * DAY),
        Just(NOW + FUTURE_SECONDS + 1)
    ]
}

fn ids(candidates: &[Candidate], rules: &Rules) -> BTreeSet<ObjectId> {
    kept(candidates, rules).into_iter().map(|number| candidates[number].id).collect()
}

/// A history in few words, for a failure.
fn told(candidates: &[Candidate], rules: &Rules) -> String {
    let mut text = format!("{rules}\n");
    for (number, one) in candidates.iter().enumerate() {
        let ago = (NOW - one.time.seconds) as f64 / DAY as f64;
        let verdict = &apply(candidates, rules, &moment(), true).verdicts[number];
        text += &format!("{} {ago:.4} {} {:?}\n", one.id.short(), verdict.keep, verdict.reasons);
    }
    text
}

fn run<S: Strategy>(cases: u32, strategy: &S, test: impl Fn(S::Value)) {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let test = |value| {
        test(value);
        Ok(())
    };
    TestRunner::new(config).run(strategy, test).unwrap();
}

fn set_clock(candidate: &mut Candidate, seconds: i64) {
    (candidate.time, candidate.written) = (Time::from_seconds(seconds), Time::from_seconds(seconds));
}

#[test]
fn what_is_kept_is_kept_again() {
    run(3_000, &(history(), policy(), prop::option::of((any::<usize>(), wrong()))), |(mut history, rules, broken)| {
        if let Some((place, seconds)) = broken {
            let place = place % history.len();
            set_clock(&mut history[place], seconds);
        }
        let first = ids(&history, &rules);
        let rest: Vec<Candidate> = history.iter().filter(|one| first.contains(&one.id)).cloned().collect();
        assert!(ids(&rest, &rules) == first, "{}\nthen\n{}", told(&history, &rules), told(&rest, &rules));
    });
}

/// No other snapshot goes that would stay if the broken one had never been made. More may stay: one to speak against its
/// clock, or two that contradict each other and take nobody's place; a time in the future changes nothing at all.
#[test]
fn one_wrong_clock_changes_nothing_for_the_others() {
    run(3_000, &(history(), policy(), any::<usize>(), wrong()), |(history, rules, place, seconds)| {
        let place = place % history.len();
        let mut broken = history.clone();
        set_clock(&mut broken[place], seconds);
        let near = &broken[place.saturating_sub(1)..broken.len().min(place + 2)];
        if seconds <= NOW + FUTURE_SECONDS && near.is_sorted_by_key(|one| one.time) {
            return; // nothing contradicts it
        }
        let mut without = history;
        let gone = without.remove(place).id;
        let (found, expected) = (ids(&broken, &rules), ids(&without, &rules));
        for (number, other) in broken.iter().enumerate().filter(|(_, other)| other.id != gone) {
            let why = reasons(&broken, &rules, number);
            if expected.contains(&other.id) {
                let number = without.iter().position(|one| one.id == other.id).unwrap();
                // The broken one may be the newest complete one; then nobody need stand in for it.
                let stood_in = reasons(&without, &rules, number).starts_with("newest ");
                assert!(stood_in || found.contains(&other.id), "{} is lost: {}", number, told(&broken, &rules));
            } else if found.contains(&other.id) {
                let spoken = ["speaks against", "clock in doubt"].iter().any(|start| why.starts_with(start));
                let alone = broken[place].time <= moment().now;
                assert!(spoken || alone, "{why}: {}", told(&broken, &rules));
            }
        }
    });
}

#[test]
fn something_stays_of_every_history() {
    run(2_000, &(history(), policy(), prop::collection::vec(wrong(), 0..8)), |(mut history, rules, clocks)| {
        let count = history.len();
        for (place, seconds) in clocks.into_iter().enumerate() {
            set_clock(&mut history[place * 7 % count], seconds);
        }
        let decision = apply(&history, &rules, &moment(), true);
        assert!(decision.verdicts.iter().any(|verdict| verdict.keep));
        assert!(decision.verdicts.iter().all(|verdict| !verdict.reasons.is_empty()));
        let known = history.iter().enumerate().filter(|(_, one)| one.complete && !moment().is_future(one.time));
        let kept = known.clone().any(|(number, _)| decision.verdicts[number].keep);
        assert!(kept || known.count() == 0, "a complete one stays");
    });
}
