//! Whose clock is in doubt: times that contradict the order in which snapshots arrived.
//!
//! The chain of heads says in which order snapshots were published, and no clock has a part in that. Those whose time
//! is the clock's own (nobody claimed another, and they were not made from another snapshot) should have times that never
//! go back. The largest number of them that fit together is believed. Where several sets are equally large, what is not in
//! all of them is in doubt: of two that contradict each other and nothing else, both are. One that claims another time speaks by
//! the time at which it was written.
//!
//! What was made from others, here or elsewhere, is no member of that set: a copy arrives at any time. But who arrived after it was
//! not written before it. So one is in doubt also when no fewer of them say so than there are of its own kind that say the contrary: a clock that fell back must not
//! make the newest backup the oldest because all others were tagged.

use std::cmp::Reverse;

use super::{FUTURE_SECONDS, Stamp};
use crate::base::time::Time;

/// Snapshots in the order of their arrival.
pub(in crate::ops) struct Arrivals<'a> {
    stamps: &'a [Stamp],
    /// Numbers of stamps.
    order: Vec<usize>,
    believed: Vec<bool>,
    /// For each stamp its place in `order`.
    places: Vec<Option<usize>>,
    /// For each place the latest time of those before it, and the earliest of those behind it.
    around: Vec<(Option<Time>, Option<Time>)>,
}

impl<'a> Arrivals<'a> {
    /// Those of `present` that can speak about each other.
    pub fn new(stamps: &'a [Stamp], present: &[usize], is_ahead: impl Fn(Time) -> bool) -> Self {
        let speaks = |number: &&usize| !stamps[**number].derived && !is_ahead(stamps[**number].written);
        let mut order: Vec<usize> = present.iter().filter(speaks).copied().collect();
        order.sort_by_key(|number| stamps[*number].arrived());
        let times: Vec<Time> = order.iter().map(|number| stamps[*number].written).collect();
        let mut places = vec![None; stamps.len()];
        for (place, number) in order.iter().enumerate() {
            places[*number] = Some(place);
        }
        let mut around = vec![(None, None); order.len()];
        for place in 1..times.len() {
            around[place].0 = around[place - 1].0.max(Some(times[place - 1]));
        }
        for place in (1..times.len()).rev() {
            let earliest = around[place].1.map_or(times[place], |time: Time| time.min(times[place]));
            around[place - 1].1 = Some(earliest);
        }
        let mut believed = in_every_longest(&times);
        let is_witness = |stamp: &&Stamp| stamp.derived && !is_ahead(stamp.written);
        let witnesses: Vec<&Stamp> = present.iter().map(|number| &stamps[*number]).filter(is_witness).collect();
        let refutes = |witness: &Stamp, place: usize| {
            witness.arrival < stamps[order[place]].arrival
                && witness.written.seconds.saturating_sub(times[place].seconds) > FUTURE_SECONDS
        };
        let mut refuted = Vec::new();
        for place in (0..order.len()).filter(|place| believed[*place]) {
            let against = witnesses.iter().filter(|witness| refutes(witness, place));
            let Some(latest) = against.clone().max_by_key(|witness| (witness.written, Reverse(witness.arrival))) else {
                continue;
            };
            let likewise = (0..order.len()).filter(|other| believed[*other] && refutes(latest, *other)).count();
            // As many on either side: what contradicts each other and nothing else is in doubt.
            if against.count() >= likewise {
                refuted.push((place, latest.written));
            }
        }
        for (place, written) in refuted {
            believed[place] = false;
            around[place].0 = around[place].0.max(Some(written));
        }
        Self { stamps, believed, order, places, around }
    }

    fn time(&self, place: usize) -> Time {
        self.stamps[self.order[place]].written
    }

    /// True when its time contradicts that of others.
    pub fn is_doubted(&self, number: usize) -> bool {
        self.stamps[number].is_clocks_own() && self.places[number].is_some_and(|place| !self.believed[place])
    }

    /// True when it does so by more than so many seconds.
    pub fn is_contradicted(&self, number: usize, seconds: i64) -> bool {
        let Some(place) = self.places[number].filter(|_| self.is_doubted(number)) else { return false };
        let time = self.time(place).seconds;
        let (before, behind) = self.around[place];
        before.is_some_and(|before| before.seconds.saturating_sub(time) > seconds)
            || behind.is_some_and(|behind| time.saturating_sub(behind.seconds) > seconds)
    }

    /// All that are in doubt, in the order of their arrival.
    pub fn doubted(&self) -> impl Iterator<Item = usize> + '_ {
        self.order.iter().copied().filter(|number| self.is_doubted(*number))
    }

    /// Each of them with the one that arrived before it; and, where none that is believed came before, with the one
    /// that arrived after it.
    pub fn doubted_with_neighbours(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        let first = self.believed.iter().position(|believed| *believed).unwrap_or(self.order.len());
        let doubted = |place: &usize| self.is_doubted(self.order[*place]);
        let before = (1..self.order.len()).filter(doubted).map(|place| (place, place - 1));
        let after = (0..first).rev().filter(|place| place + 1 < self.order.len()).map(|place| (place, place + 1));
        before.chain(after).map(|(place, neighbour)| (self.order[place], self.order[neighbour]))
    }

    /// Those whose times contradict this one's, the nearest by arrival first.
    pub fn contradicting(&self, number: usize) -> Vec<usize> {
        let Some(place) = self.places[number] else { return Vec::new() };
        let time = self.time(place);
        let contradicts = |other: &usize| match *other < place {
            true => self.time(*other) > time,
            false => self.time(*other) < time,
        };
        let mut found: Vec<usize> = (0..self.order.len()).filter(contradicts).collect();
        found.sort_by_key(|other| other.abs_diff(place));
        found.into_iter().map(|other| self.order[other]).collect()
    }
}

/// For each place, how many members the longest part has that never goes back and ends there.
fn longest_ending<T: Ord + Copy>(times: impl Iterator<Item = T>) -> Vec<usize> {
    let mut lowest: Vec<T> = Vec::new();
    times
        .map(|time| {
            let layer = lowest.partition_point(|low| *low <= time);
            if layer == lowest.len() {
                lowest.push(time);
            } else {
                lowest[layer] = time;
            }
            layer + 1
        })
        .collect()
}

/// For each of `times`, whether it is in every longest part of them that never goes back.
fn in_every_longest<T: Ord + Copy>(times: &[T]) -> Vec<bool> {
    let ending = longest_ending(times.iter().copied());
    let mut beginning = longest_ending(times.iter().rev().map(|time| Reverse(*time)));
    beginning.reverse();
    let longest = ending.iter().copied().max().unwrap_or(0);
    let mut shared = vec![0_usize; longest + 1];
    let is_member = |place: usize| ending[place] + beginning[place] == longest + 1;
    for place in (0..times.len()).filter(|place| is_member(*place)) {
        shared[ending[place]] += 1;
    }
    (0..times.len()).map(|place| is_member(place) && shared[ending[place]] == 1).collect()
}

#[cfg(test)]
mod tests {
    use super::in_every_longest;

    /// Against trying every subset.
    #[test]
    fn what_is_in_every_longest_part_is_found() {
        let mut state = 7_u64;
        for round in 0..600 {
            let times: Vec<u64> = (0..round % 10)
                .map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    (state >> 33) % 6
                })
                .collect();
            let is_sound =
                |set: &u32| (0..times.len()).filter(|place| set >> place & 1 == 1).map(|p| times[p]).is_sorted();
            let sound: Vec<u32> = (0..1_u32 << times.len()).filter(is_sound).collect();
            let most = sound.iter().map(|set| set.count_ones()).max();
            let common = sound.iter().filter(|set| Some(set.count_ones()) == most).fold(u32::MAX, |all, set| all & set);
            let expected: Vec<bool> = (0..times.len()).map(|place| common >> place & 1 == 1).collect();
            assert_eq!(in_every_longest(&times), expected, "{times:?}");
        }
    }
}
