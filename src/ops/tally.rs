//! How far a piece of work is: what a [`Monitor`](super::Monitor) that shows progress keeps.
//!
//! There is one state behind one lock, so that every look at it is of one moment. What belongs to a phase begins with the phase
//! and ends with it, except what was found out about it from outside ([`Tally::total`]): whoever counts the sources of a backup
//! may end before its phase begins, and may still be at it when the next one has begun. Such a total is kept for its phase, whichever phase runs.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::Phase;
use crate::base::lock::lock;
use crate::text::rate::Rate;

/// So many bytes have to be done before what was lost or left out of them says half of what will be.
const SMOOTHING_BYTES: u64 = 32 << 20;
/// What a file takes beside its bytes, as bytes that take as long: it is looked up, opened, closed and described.
const FILE_BYTES: u64 = 32 << 10;
/// No time is estimated before a phase has lasted this long.
const ESTIMATE_AFTER: Duration = Duration::from_secs(1);

/// One look at a phase.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Items known so far, or done if those are more.
    pub items_expected: u64,
    /// Bytes known so far, or done if those are more.
    pub bytes_expected: u64,
    /// The expected numbers are final.
    pub complete: bool,
    /// Items done.
    pub items_done: u64,
    /// Bytes done.
    pub bytes_done: u64,
    /// Bytes of them that took no work.
    pub bytes_skipped: u64,
    /// Bytes of them that have to be done again.
    pub bytes_lost: u64,
    /// Bytes of those that have been.
    pub bytes_again: u64,
}

impl Counts {
    /// Share that is done, 0 to 1: of bytes where there are any, else of items. 0 while the total is not known.
    #[must_use]
    pub fn share(&self) -> f64 {
        let (done, expected) = self.measure();
        if self.is_known() { (done as f64 / expected as f64).min(1.0) } else { 0.0 }
    }

    /// What is done, and of what: of bytes where there are any, else of items.
    const fn measure(&self) -> (u64, u64) {
        if self.has_bytes() { (self.bytes_done, self.bytes_expected) } else { (self.items_done, self.items_expected) }
    }

    /// True when there is something to do and the total is final.
    #[must_use]
    pub const fn is_known(&self) -> bool {
        self.complete && self.measure().1 > 0
    }

    /// True when the phase has to do with bytes.
    #[must_use]
    pub const fn has_bytes(&self) -> bool {
        self.bytes_expected > 0 || self.bytes_done > 0
    }

    /// Bytes that were read, written or sent, also in vain.
    #[must_use]
    pub const fn moved(&self) -> u64 {
        self.bytes_done.saturating_sub(self.bytes_skipped).saturating_add(self.bytes_again)
    }

    /// What was done, and what is to be done, in one measure: bytes, and `item_bytes` for every item; or items, where there are no
    /// bytes. Of what is left, as much takes no work as of what was done, and as much is lost, as far as that says anything yet.
    fn work(&self, item_bytes: u64) -> (u64, u64) {
        let items_left = self.items_expected.saturating_sub(self.items_done);
        if !self.has_bytes() {
            return (self.items_done, items_left);
        }
        let again = self.bytes_lost.saturating_sub(self.bytes_again);
        let smooth = |bytes: u64| bytes.saturating_add(SMOOTHING_BYTES) as f64;
        let worked = self.bytes_done.saturating_sub(self.bytes_skipped);
        let part = smooth(worked) / smooth(self.bytes_done);
        let losses = smooth(self.moved()) / smooth(worked.saturating_sub(again));
        let left = self.bytes_expected.saturating_sub(self.bytes_done) as f64 * part + again as f64;
        let items = |items: u64| items.saturating_mul(item_bytes);
        let done = self.moved().saturating_add(items(self.items_done));
        (done, ((left * losses) as u64).saturating_add(items(items_left)))
    }
}

/// A phase, as it stands.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    /// Which one.
    pub phase: Phase,
    /// How far it is.
    pub counts: Counts,
    /// The number of the phase: another one is counted anew, also when it is of the same kind.
    number: u64,
    /// How long it has been running.
    elapsed: Duration,
}

/// The whole of a phase, as far as it was counted beside the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Total {
    phase: Phase,
    items: u64,
    bytes: u64,
    complete: bool,
}

#[derive(Debug)]
struct State {
    phase: Option<Phase>,
    number: u64,
    since: Instant,
    /// What the phase itself has reported.
    counts: Counts,
    /// Of the phase that runs, or of one that is to come.
    total: Option<Total>,
    /// The last counts of phases that have ended, until nothing is at work. A total that is counted later than that is dropped.
    ended: Vec<(Phase, Counts)>,
}

/// See the module.
#[derive(Debug)]
pub struct Tally(Mutex<State>);

impl Default for Tally {
    fn default() -> Self {
        let state = State {
            phase: None,
            number: 0,
            since: Instant::now(),
            counts: Counts::default(),
            total: None,
            ended: Vec::new(),
        };
        Self(Mutex::new(state))
    }
}

impl Tally {
    /// As [`super::Monitor::phase`].
    pub fn phase(&self, phase: Phase) {
        let mut state = lock(&self.0);
        let ended = state.counts();
        if let Some(before) = state.phase.replace(phase).filter(|before| *before != phase) {
            state.total = state.total.filter(|total| total.phase != before);
            state.ended.retain(|(phase, _)| *phase != before);
            state.ended.push((before, ended));
        }
        state.number += 1;
        state.since = Instant::now();
        state.counts = Counts::default();
    }

    /// As [`super::Monitor::idle`]. True when something was at work.
    pub fn idle(&self) -> bool {
        let mut state = lock(&self.0);
        state.total = None;
        state.ended.clear();
        state.phase.take().is_some()
    }

    /// As [`super::Monitor::total`].
    pub fn total(&self, phase: Phase, items: u64, bytes: u64, complete: bool) {
        let mut state = lock(&self.0);
        if state.phase == Some(phase) || state.ended.iter().all(|(ended, _)| *ended != phase) {
            state.total = Some(Total { phase, items, bytes, complete });
        }
    }

    /// As [`super::Monitor::expect`].
    pub fn expect(&self, items: u64, bytes: u64, complete: bool) {
        let counts = &mut lock(&self.0).counts;
        counts.items_expected = counts.items_expected.saturating_add(items);
        counts.bytes_expected = counts.bytes_expected.saturating_add(bytes);
        counts.complete |= complete;
    }

    /// As [`super::Monitor::advance`].
    pub fn advance(&self, items: u64, bytes: u64) {
        let counts = &mut lock(&self.0).counts;
        counts.items_done = counts.items_done.saturating_add(items);
        counts.bytes_done = counts.bytes_done.saturating_add(bytes);
    }

    /// As [`super::Monitor::skip`].
    pub fn skip(&self, items: u64, bytes: u64) {
        let counts = &mut lock(&self.0).counts;
        counts.items_done = counts.items_done.saturating_add(items);
        counts.bytes_done = counts.bytes_done.saturating_add(bytes);
        counts.bytes_skipped = counts.bytes_skipped.saturating_add(bytes);
    }

    /// As [`super::Monitor::repeat`].
    pub fn repeat(&self, lost: u64, again: u64) {
        let counts = &mut lock(&self.0).counts;
        counts.bytes_lost = counts.bytes_lost.saturating_add(lost);
        counts.bytes_again = counts.bytes_again.saturating_add(again);
    }

    /// The phase that runs. None before the first one, and when nothing is at work.
    pub fn look(&self) -> Option<Look> {
        let state = lock(&self.0);
        let phase = state.phase?;
        Some(Look { phase, counts: state.counts(), number: state.number, elapsed: state.since.elapsed() })
    }

    /// How far a phase is or was. Of one that is to come, what is known of it.
    pub fn counts_of(&self, phase: Phase) -> Counts {
        let state = lock(&self.0);
        match (state.phase == Some(phase), state.ended.iter().find(|(ended, _)| *ended == phase)) {
            (true, _) => state.counts(),
            (false, Some((_, counts))) => *counts,
            (false, None) => state.total_of(phase),
        }
    }
}

impl State {
    /// What was counted of a phase beside the work.
    fn total_of(&self, phase: Phase) -> Counts {
        let total = self.total.filter(|total| total.phase == phase);
        total.map_or_else(Counts::default, |Total { items, bytes, complete, .. }| Counts {
            items_expected: items,
            bytes_expected: bytes,
            complete,
            ..Counts::default()
        })
    }

    /// How far the phase that runs is.
    fn counts(&self) -> Counts {
        let mut counts = self.counts;
        let total = self.phase.map_or_else(Counts::default, |phase| self.total_of(phase));
        // What is counted may grow meanwhile, and whoever counts may be slower.
        counts.items_expected = counts.items_expected.saturating_add(total.items_expected).max(counts.items_done);
        counts.bytes_expected = counts.bytes_expected.saturating_add(total.bytes_expected).max(counts.bytes_done);
        counts.complete |= total.complete;
        counts
    }
}

/// How fast a phase goes, and how long it will still take. It is fed with one look after the other.
#[derive(Debug, Default)]
pub struct Pace {
    number: u64,
    elapsed: Duration,
    bytes: Rate,
    work: Rate,
}

impl Pace {
    /// Takes in how far it is now.
    pub fn update(&mut self, look: &Look) {
        if self.number != look.number {
            let rate = if is_over_line(look.phase) { Rate::of_line() } else { Rate::default() };
            *self = Self { number: look.number, elapsed: Duration::ZERO, bytes: rate, work: rate.for_estimate() };
        }
        self.elapsed = look.elapsed;
        self.bytes.update(look.elapsed, look.counts.moved());
        self.work.update(look.elapsed, look.counts.work(item_bytes(look.phase)).0);
    }

    /// Bytes a second that are read, written or sent; none in a phase that has to do with items alone.
    #[must_use]
    pub fn bytes_per_second(&self, look: &Look) -> Option<u64> {
        let rate = self.bytes.per_second().filter(|_| look.counts.has_bytes())?;
        Some(rate.round() as u64)
    }

    /// How long the rest will take, in whole seconds, once the total is final and something is known of the rate.
    #[must_use]
    pub fn left(&self, look: &Look) -> Option<Duration> {
        if !look.counts.is_known() || self.elapsed < ESTIMATE_AFTER {
            return None;
        }
        let left = self.work.time_for(look.counts.work(item_bytes(look.phase)).1)?;
        Some(Duration::from_secs(left.as_secs_f64().round() as u64))
    }
}

/// True for what leaves over a line, or comes over it.
const fn is_over_line(phase: Phase) -> bool {
    matches!(phase, Phase::Send)
}

/// What an item takes beside its bytes ([`FILE_BYTES`]).
const fn item_bytes(phase: Phase) -> u64 {
    match phase {
        Phase::Backup | Phase::Copy | Phase::Restore | Phase::Verify => FILE_BYTES,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn counts(tally: &Tally) -> Counts {
        tally.look().unwrap().counts
    }

    /// Whenever the count of the sources ends: before the index is loaded, before the phase, in it, after it.
    #[test]
    fn what_is_counted_for_a_phase_is_known_in_it_whenever_it_was_counted() {
        let phases = [Phase::LoadIndex, Phase::Backup, Phase::Publish];
        for first in 0..=2 {
            for last in first..=2 {
                let tally = Tally::default();
                for (number, phase) in phases.into_iter().enumerate() {
                    if number == first {
                        tally.total(Phase::Backup, 1, 50, false);
                    }
                    if number == last {
                        tally.total(Phase::Backup, 3, 150, true);
                    }
                    tally.phase(phase);
                    if phase == Phase::Backup {
                        tally.advance(1, 60);
                        let seen = counts(&tally);
                        let expected = if last < 2 { (3, 150, true) } else { (1, 60, false) };
                        assert_eq!(
                            (seen.items_expected, seen.bytes_expected, seen.complete),
                            expected,
                            "{first} {last}"
                        );
                        assert_eq!((seen.items_done, seen.bytes_done), (1, 60));
                        if last == 2 {
                            tally.total(Phase::Backup, 3, 150, true);
                            let seen = counts(&tally);
                            assert_eq!((seen.items_expected, seen.bytes_expected, seen.complete), (3, 150, true));
                            assert!((seen.share() - 0.4).abs() < 1e-9);
                        }
                    } else {
                        assert_eq!(counts(&tally), Counts::default(), "{phase:?} knows nothing of it");
                        let known = tally.counts_of(Phase::Backup);
                        let (expected, done) =
                            if phase == Phase::Publish { (150, 60) } else { (known.bytes_expected, 0) };
                        assert_eq!((known.bytes_expected, known.bytes_done), (expected, done), "{phase:?}");
                    }
                }
                tally.total(Phase::Backup, 4, 200, true);
                tally.phase(Phase::Backup);
                assert_eq!(counts(&tally), Counts::default(), "it came too late, and belongs to no later backup");
                tally.idle();
                tally.total(Phase::Backup, 4, 200, true);
                tally.phase(Phase::Backup);
                assert_eq!(counts(&tally).bytes_expected, 200, "the next backup is counted anew");
            }
        }
    }

    #[test]
    fn counters_add_up_and_begin_anew_with_a_phase() {
        let tally = Tally::default();
        assert!(tally.look().is_none());
        tally.phase(Phase::Backup);
        tally.expect(2, 100, false);
        assert!(counts(&tally).share() < 1e-9, "of a total that is not known there is no share");
        tally.expect(1, 50, true);
        tally.advance(1, 75);
        assert!((counts(&tally).share() - 0.5).abs() < 1e-9);
        tally.advance(3, 100);
        assert_eq!((counts(&tally).items_expected, counts(&tally).bytes_expected), (4, 175), "files grew");
        tally.phase(Phase::Publish);
        assert_eq!(counts(&tally), Counts::default());
        assert!(tally.idle() && !tally.idle());
        assert!(tally.look().is_none());
    }

    fn look(phase: Phase, seconds: u64, counts: Counts) -> Look {
        Look { phase, counts, number: 1, elapsed: Duration::from_secs(seconds) }
    }

    fn pace(looks: &[Look]) -> Pace {
        let mut pace = Pace::default();
        looks.iter().for_each(|look| pace.update(look));
        pace
    }

    #[test]
    fn a_rate_is_of_bytes_and_of_nothing_else() {
        let known = Counts { items_expected: 10, items_done: 5, complete: true, ..Counts::default() };
        let items = look(Phase::CheckTrees, 1, known);
        assert_eq!(pace(&[items]).bytes_per_second(&items), None);
        assert_eq!(pace(&[items]).left(&items).map(|left| left.as_secs()), Some(1), "of items time is left too");
        let unknown = look(Phase::Backup, 1, Counts { items_done: 5, bytes_done: 9_000_000, ..Counts::default() });
        assert_eq!(pace(&[unknown]).bytes_per_second(&unknown), Some(9_000_000), "whether a total is known or not");
        assert_eq!(pace(&[unknown]).left(&unknown), None);
    }

    /// 900 MB are the parent's and cost nothing. What is left is to be read to the same part, and takes as long.
    #[test]
    fn what_takes_no_work_makes_nothing_faster() {
        let (mut pace, mut counts) = (Pace::default(), Counts { bytes_expected: 2_000_000_000, ..Counts::default() });
        counts.complete = true;
        for second in 1..=100 {
            counts.bytes_done += 10_000_000;
            counts.bytes_skipped += 9_000_000;
            pace.update(&look(Phase::Backup, second, counts));
        }
        let last = look(Phase::Backup, 100, counts);
        assert_eq!(pace.bytes_per_second(&last), Some(1_000_000));
        let left = pace.left(&last).unwrap().as_secs();
        assert!((95..=135).contains(&left), "{left} s, and the other half took 100");
    }

    /// Ten thousand small files, and then a large one of as many bytes, which takes a tenth of the time.
    #[test]
    fn files_take_time_beside_their_bytes() {
        let counts = Counts {
            items_expected: 10_001,
            bytes_expected: 200_000_000,
            complete: true,
            items_done: 10_000,
            bytes_done: 100_000_000,
            ..Counts::default()
        };
        let now = look(Phase::Backup, 10, counts);
        let left = pace(&[now]).left(&now).unwrap().as_secs();
        assert!((1..=4).contains(&left), "{left}");
    }

    /// 5 MB of the 11 MB were lost on the way, and 1 MB of them has left again.
    #[test]
    fn what_is_done_in_vain_takes_time_and_is_no_progress() {
        let counts = Counts {
            bytes_expected: 77_000_000,
            complete: true,
            bytes_done: 11_000_000,
            bytes_lost: 5_000_000,
            bytes_again: 1_000_000,
            ..Counts::default()
        };
        let now = look(Phase::Fetch, 1, counts);
        assert_eq!(pace(&[now]).bytes_per_second(&now), Some(12_000_000));
        assert_eq!(pace(&[now]).left(&now).map(|left| left.as_secs_f64().round()), Some(7.0));
        assert!((counts.share() - 11.0 / 77.0).abs() < 1e-9);
    }

    #[test]
    fn a_phase_that_comes_again_is_measured_anew() {
        let first = look(Phase::Restore, 10, Counts { bytes_done: 1_000_000, ..Counts::default() });
        let again = Look { number: 2, ..look(Phase::Restore, 2, Counts { bytes_done: 500, ..Counts::default() }) };
        let pace = pace(&[first, again]);
        assert_eq!(pace.bytes_per_second(&again), Some(250));
    }
}
