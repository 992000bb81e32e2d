//! The order of snapshots: a table of what happens to clocks, and what holds for every history.
#![allow(clippy::unwrap_used)]

use proptest::prelude::{Just, Strategy, any, prop, prop_oneof};
use proptest::test_runner::{Config, TestRunner};

use super::{Doubt, FUTURE_SECONDS, Order, Stamp, is_ahead};
use crate::base::id::ObjectId;
use crate::base::time::Time;

const DAY: i64 = 86_400;
const HOUR: i64 = 3_600;
/// 2026-11-21 12:00:00 UTC.
const NOW: i64 = 1_795_262_400;
/// What a clock without a battery says.
const DEAD: i64 = 60;

fn id(number: usize) -> ObjectId {
    ObjectId::of(&number.to_le_bytes())
}

fn stamp(number: usize, arrival: u64, seconds: i64) -> Stamp {
    let time = Time::from_seconds(seconds);
    Stamp { id: id(number), arrival, time, written: time, derived: false }
}

/// How a snapshot came to be.
#[derive(Debug, Clone, Copy)]
enum Made {
    /// By a backup, with the time of its clock.
    Backup(i64),
    /// By a backup at NOW that claims a time.
    Claims(i64),
    /// From another snapshot, here or elsewhere, with this time.
    From(i64),
    /// From that snapshot, here, in its place.
    InPlaceOf(usize),
}
use Made::{Backup, Claims, From, InPlaceOf};

fn stamps(history: &[Made]) -> Vec<Stamp> {
    let mut all: Vec<Stamp> = Vec::new();
    for (number, made) in history.iter().enumerate() {
        let arrival = number as u64 + 2;
        all.push(match made {
            Backup(seconds) => stamp(number, arrival, *seconds),
            Claims(seconds) => Stamp { written: Time::from_seconds(NOW), ..stamp(number, arrival, *seconds) },
            From(seconds) => Stamp { derived: true, ..stamp(number, arrival, *seconds) },
            InPlaceOf(first) => Stamp { id: id(number), derived: true, ..all[*first] },
        });
    }
    all
}

/// The numbers of the snapshots, oldest first.
fn sequence(order: &Order, count: usize) -> Vec<usize> {
    let mut all: Vec<usize> = (0..count).collect();
    all.sort_by_key(|number| order.position(&id(*number)));
    all
}

const AHEAD: char = 'a';
const CONTRADICTED: char = 'c';

#[test]
fn snapshots_stand_where_they_belong() {
    let ago = |days: i64| NOW - days * DAY;
    let far = NOW + 3_650 * DAY;
    // What it is, the history in the order of arrival, this machine's clock; the order, and whose time is in doubt.
    #[rustfmt::skip]
    type Case<'a> = (&'a str, &'a [Made], i64, &'a [usize], &'a str);
    let table: &[Case<'_>] = &[
        ("nothing", &[], NOW, &[], ""),
        ("every day one", &[Backup(ago(3)), Backup(ago(2)), Backup(ago(1))], NOW, &[0, 1, 2], "..."),
        ("all equal", &[Backup(NOW), Backup(NOW), From(NOW), Claims(NOW), Backup(NOW)], NOW, &[0, 1, 2, 3, 4], "....."),
        ("alone and ahead", &[Backup(far)], NOW, &[0], "a"),
        ("a little ahead", &[Backup(ago(1)), Backup(NOW + FUTURE_SECONDS)], NOW, &[0, 1], ".."),
        ("ahead, first", &[Backup(far), Backup(ago(1))], NOW, &[0, 1], "a."),
        ("ahead, in the middle", &[Backup(ago(2)), Backup(far), Backup(ago(1))], NOW, &[0, 1, 2], ".a."),
        ("ahead, last", &[Backup(ago(2)), Backup(ago(1)), Backup(far)], NOW, &[0, 1, 2], "..a"),
        (
            "ahead then, and past now",
            &[Backup(ago(40)), Backup(ago(5)), Backup(ago(38)), Backup(ago(37))],
            NOW,
            &[0, 1, 2, 3],
            ".c..",
        ),
        ("ahead then, and the first of two", &[Backup(ago(5)), Backup(ago(38))], NOW, &[0, 1], "cc"),
        ("behind, first", &[Backup(DEAD), Backup(ago(2)), Backup(ago(1))], NOW, &[0, 1, 2], "..."),
        (
            "behind, in the middle",
            &[Backup(ago(4)), Backup(ago(3)), Backup(DEAD), Backup(ago(1))],
            NOW,
            &[0, 1, 2, 3],
            "..c.",
        ),
        ("behind, the second of three", &[Backup(ago(3)), Backup(DEAD), Backup(ago(1))], NOW, &[0, 1, 2], "cc."),
        ("behind, last", &[Backup(ago(3)), Backup(ago(2)), Backup(DEAD)], NOW, &[0, 1, 2], "..c"),
        (
            "behind, twice",
            &[Backup(ago(5)), Backup(ago(4)), Backup(ago(3)), Backup(DEAD), Backup(DEAD + 5), Backup(ago(1))],
            NOW,
            &[0, 1, 2, 3, 4, 5],
            "...cc.",
        ),
        (
            "behind, more often than not",
            &[Backup(ago(3)), Backup(DEAD), Backup(DEAD + 5), Backup(ago(2)), Backup(ago(1))],
            NOW,
            &[0, 1, 2, 3, 4],
            "c....",
        ),
        ("set back by minutes", &[Backup(ago(1)), Backup(ago(1) - 300), Backup(NOW)], NOW, &[0, 1, 2], "..."),
        (
            "a dead clock reads",
            &[Backup(ago(3)), From(ago(9)), Claims(ago(8)), Backup(ago(1))],
            DEAD,
            &[0, 1, 2, 3],
            "aaaa",
        ),
        (
            "a clock a year behind reads",
            &[Backup(ago(600)), Backup(ago(500)), Backup(ago(2)), Backup(ago(1))],
            ago(365),
            &[0, 1, 2, 3],
            "..aa",
        ),
        ("a dead clock wrote all", &[Backup(DEAD), Backup(DEAD + 9), Backup(DEAD + 7)], NOW, &[0, 1, 2], "..."),
        (
            "a dead clock wrote again and again",
            &[Backup(DEAD + HOUR), Backup(DEAD), Backup(DEAD + 2 * HOUR)],
            NOW,
            &[0, 1, 2],
            "cc.",
        ),
        // Two hosts, the second one always a year behind, or ahead of what was then now.
        (
            "one of two hosts is behind",
            &[
                Backup(ago(10)),
                Backup(ago(9)),
                Backup(ago(373)),
                Backup(ago(7)),
                Backup(ago(5)),
                Backup(ago(370)),
                Backup(ago(3)),
            ],
            NOW,
            &[0, 1, 2, 3, 4, 5, 6],
            "..c..c.",
        ),
        (
            "one of two hosts is ahead",
            &[Backup(ago(9)), Backup(far), Backup(ago(7)), Backup(far + DAY), Backup(ago(5))],
            NOW,
            &[0, 1, 2, 3, 4],
            ".a.a.",
        ),
        (
            "one of two hosts was ahead",
            &[
                Backup(ago(90)),
                Backup(ago(9)),
                Backup(ago(80)),
                Backup(ago(70)),
                Backup(ago(8)),
                Backup(ago(60)),
                Backup(ago(50)),
            ],
            NOW,
            &[0, 1, 2, 3, 4, 5, 6],
            ".c..c..",
        ),
        ("copies in any order", &[From(ago(3)), From(ago(9)), From(ago(1)), From(ago(5))], NOW, &[1, 3, 0, 2], "...."),
        (
            "copies among backups",
            &[Backup(ago(6)), From(ago(9)), From(ago(2)), Backup(ago(4)), Backup(ago(1))],
            NOW,
            &[1, 0, 2, 3, 4],
            // Who arrived after a copy was not written two days before it: one says so, and one the contrary.
            "...c.",
        ),
        (
            "all but the last were tagged, and the clock fell back",
            &[
                Backup(ago(9)),
                Backup(ago(8)),
                Backup(ago(7)),
                InPlaceOf(0),
                InPlaceOf(1),
                InPlaceOf(2),
                Backup(ago(900)),
            ],
            NOW,
            &[0, 3, 1, 4, 2, 5, 6],
            "......c",
        ),
        (
            "the same, and the ones that were tagged are gone",
            &[From(ago(9)), From(ago(8)), From(ago(7)), Backup(ago(900))],
            NOW,
            &[0, 1, 2, 3],
            "...c",
        ),
        ("a claimed time, and the clock fell back", &[Claims(ago(9)), Backup(ago(900))], NOW, &[0, 1], ".c"),
        ("a copy of one that was ahead", &[Backup(ago(6)), From(far), Backup(ago(4))], NOW, &[0, 1, 2], ".a."),
        ("a copy of what a dead clock made", &[Backup(ago(6)), From(DEAD), Backup(ago(4))], NOW, &[1, 0, 2], "..."),
        ("ahead behind nothing but copies", &[From(ago(1)), From(ago(9)), Backup(far)], NOW, &[1, 0, 2], "..a"),
        ("ahead before copies", &[Backup(far), From(ago(1)), From(ago(9))], NOW, &[0, 2, 1], "a.."),
        (
            "no copy moves a backup over the next one",
            &[Backup(ago(61)), Backup(ago(60)), From(ago(1)), Backup(DEAD), Backup(ago(50)), Backup(ago(40))],
            NOW,
            &[0, 1, 3, 4, 5, 2],
            "...c..",
        ),
        ("tagged in its place", &[Backup(ago(3)), Backup(ago(2)), InPlaceOf(0)], NOW, &[0, 2, 1], "..."),
        ("ahead, and tagged in its place", &[Backup(far), Backup(ago(2)), InPlaceOf(0)], NOW, &[0, 2, 1], "a.a"),
        ("rewritten, both are there", &[Backup(ago(3)), InPlaceOf(0)], NOW, &[0, 1], ".."),
        ("a claim from the past", &[Backup(ago(3)), Backup(ago(2)), Claims(ago(9))], NOW, &[2, 0, 1], "..."),
        (
            "a claim between two",
            &[Backup(ago(3)), Claims(ago(2)), Backup(ago(3)), Backup(ago(1))],
            NOW,
            &[0, 2, 1, 3],
            "....",
        ),
        ("a claim ahead", &[Backup(ago(3)), Claims(far), Backup(ago(1))], NOW, &[0, 1, 2], ".a."),
        (
            "nothing but claims",
            &[Claims(ago(1)), Claims(ago(5)), Claims(far), Claims(ago(3))],
            NOW,
            &[1, 3, 0, 2],
            "..a.",
        ),
        (
            "a claim before one that is behind",
            &[Claims(ago(5)), Backup(DEAD), Backup(ago(3)), Backup(ago(1))],
            NOW,
            &[1, 0, 2, 3],
            "....",
        ),
        ("nobody is believed", &[Backup(ago(1)), Backup(ago(2)), Backup(ago(3))], NOW, &[0, 1, 2], "ccc"),
    ];
    for (name, history, now, expected, doubts) in table {
        let all = stamps(history);
        let order = Order::new(&all, Time::from_seconds(*now));
        assert_eq!(sequence(&order, all.len()), *expected, "{name}");
        let found = |stamp: &Stamp| match order.doubt(&stamp.id) {
            None => '.',
            Some(Doubt::Ahead) => AHEAD,
            Some(Doubt::Contradicted) => CONTRADICTED,
        };
        assert_eq!(all.iter().map(found).collect::<String>(), *doubts, "{name}");
    }
}

/// Ages are counted from the snapshot's own time, or from one that was there before; never from nothing.
#[test]
fn an_age_is_known_or_at_most_or_unknown() {
    let ago = |days: i64| NOW - days * DAY;
    let far = NOW + 3_650 * DAY;
    let table: &[(&[Made], &[Option<i64>])] = &[
        (&[Backup(ago(2)), Claims(ago(9)), From(ago(8))], &[Some(2), Some(9), Some(8)]),
        (&[Backup(far)], &[None]),
        (&[Backup(far), Backup(ago(1))], &[None, Some(1)]),
        (&[Backup(ago(4)), Backup(far)], &[Some(4), Some(4)]),
        (&[Backup(ago(4)), Backup(ago(3)), Backup(DEAD)], &[Some(4), Some(3), Some(3)]),
        (&[From(ago(7)), Backup(far), Backup(ago(1))], &[Some(7), Some(7), Some(1)]),
        (&[Backup(ago(1)), Backup(ago(2))], &[None, None]),
    ];
    for (history, expected) in table {
        let all = stamps(history);
        let order = Order::new(&all, Time::from_seconds(NOW));
        let days = |stamp: &Stamp| Some((NOW - order.place(&stamp.id).unwrap().age_from?.seconds) / DAY);
        assert_eq!(all.iter().map(days).collect::<Vec<_>>(), *expected, "{history:?}");
    }
    let order = Order::new(&stamps(&[Backup(ago(1))]), Time::from_seconds(DEAD));
    assert_eq!(order.place(&id(0)).unwrap().age_from, None, "a dead clock knows no age");
}

fn made() -> impl Strategy<Value = Made> {
    let time = || prop_oneof![0..DAY, NOW - 20 * DAY..NOW, NOW - 3 * HOUR..NOW, Just(NOW), NOW..NOW + 4_000 * DAY];
    prop_oneof![
        5 => time().prop_map(Backup),
        1 => time().prop_map(Claims),
        2 => time().prop_map(From),
        1 => any::<prop::sample::Index>().prop_map(|index| InPlaceOf(index.index(1_000))),
    ]
}

fn history() -> impl Strategy<Value = Vec<Stamp>> {
    prop::collection::vec(made(), 1..25).prop_map(|mut history| {
        for (number, made) in history.iter_mut().enumerate() {
            if let InPlaceOf(first) = *made {
                *made = first.checked_rem(number).map_or(Backup(NOW), InPlaceOf);
            }
        }
        stamps(&history)
    })
}

fn run<S: Strategy>(cases: u32, strategy: &S, test: impl Fn(S::Value)) {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let test = |value| {
        test(value);
        Ok(())
    };
    TestRunner::new(config).run(strategy, test).unwrap();
}

fn clocks() -> impl Strategy<Value = i64> {
    prop_oneof![Just(NOW), Just(DEAD), NOW - 30 * DAY..NOW, Just(NOW + 9_000 * DAY)]
}

#[test]
fn what_the_module_promises_holds_for_every_history() {
    run(4_000, &(history(), clocks(), any::<u64>()), |(all, now, seed)| {
        let now = Time::from_seconds(now);
        let order = Order::new(&all, now);
        let places: Vec<_> = all.iter().map(|stamp| order.place(&stamp.id).unwrap()).collect();
        // Total.
        let mut positions: Vec<usize> = places.iter().map(|place| place.position).collect();
        positions.sort_unstable();
        assert!(positions.into_iter().eq(0..all.len()));
        // The same in whatever sequence they are given.
        let mut mixed = all.clone();
        mixed.sort_by_key(|stamp| (stamp.arrival ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let again = Order::new(&mixed, now);
        assert!(all.iter().zip(&places).all(|(stamp, place)| again.place(&stamp.id) == Some(*place)));
        for (one, place) in all.iter().zip(&places) {
            let own = one.time == one.written && !one.derived;
            let ahead = is_ahead(one.time, now);
            assert_eq!(place.doubt == Some(Doubt::Ahead), ahead);
            assert!(own || place.doubt != Some(Doubt::Contradicted), "only clocks are contradicted");
            if !ahead && (!own || place.doubt.is_none()) {
                assert_eq!(place.age_from, Some(one.time));
            }
            assert!(place.age_from.is_none_or(|from| !is_ahead(from, now)), "nothing is younger than now");
            if !own && !ahead {
                assert_eq!(place.at, Some(one.time), "what claims a time stands there");
            }
            for (other, beside) in all.iter().zip(&places).filter(|(other, _)| other.arrival > one.arrival) {
                // Backups, and whatever is ahead, in the order of arrival.
                let floats = |stamp: &Stamp, own: bool| own || is_ahead(stamp.time, now);
                let others_own = other.time == other.written && !other.derived;
                if floats(one, own) && floats(other, others_own) {
                    assert!(place.position < beside.position, "{one:?} {other:?}");
                }
            }
            if now.seconds == DEAD {
                let arrived = |stamp: &Stamp| (stamp.arrival, stamp.derived);
                let before = all.iter().filter(|other| is_ahead(other.time, now) && arrived(other) < arrived(one));
                assert!(!ahead || before.count() <= place.position);
            }
        }
    });
}

/// What is taken out leaves the others as they stand, as long as it was no witness: a filter moves nothing, because the
/// order is that of all.
#[test]
fn backups_keep_their_order_whatever_else_is_there() {
    run(2_000, &(history(), any::<prop::sample::Index>()), |(all, index)| {
        let now = Time::from_seconds(NOW);
        let order = Order::new(&all, now);
        let mut fewer = all.clone();
        fewer.remove(index.index(all.len()));
        let without = Order::new(&fewer, now);
        let backups: Vec<&Stamp> = fewer.iter().filter(|one| one.time == one.written && !one.derived).collect();
        for pair in backups.windows(2) {
            let newer = |order: &Order| order.position(&pair[0].id) < order.position(&pair[1].id);
            assert_eq!(newer(&order), newer(&without));
        }
    });
}
