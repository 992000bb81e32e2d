//! How fast work goes, smoothed, and how long it will still take.

use std::time::Duration;

/// After this many seconds an old speed counts for a third (e⁻¹): long enough not to jump with every large file.
const MEMORY_SECONDS: f64 = 8.0;
/// The same for a line: a slow one takes minutes for a part of an object, and nothing moves between two of them.
const LINE_MEMORY_SECONDS: f64 = 120.0;
/// For so long a line takes what it does not send yet.
const LINE_IGNORED_SECONDS: f64 = 3.0;
/// An estimate remembers at least this part of the time that has passed: the last seconds say little about the hours that are left.
const ESTIMATE_PART: f64 = 0.5;

/// A smoothed rate, fed with how much is done at which time since the start.
///
/// An exponentially weighted mean that starts at zero and is divided by the weight seen so far (bias correction as in
/// Kingma and Ba, Adam, 2015, section 3), so that a burst in the first instant counts for an instant only.
#[derive(Debug, Clone, Copy)]
pub struct Rate {
    /// After so many seconds an old speed counts for a third.
    memory: f64,
    /// The same as a part of the time that has passed, where that is more.
    part: f64,
    /// What is done in so many seconds at the beginning says nothing.
    ignored: f64,
    seconds: f64,
    done: u64,
    weighted: f64,
    weight: f64,
}

impl Default for Rate {
    fn default() -> Self {
        Self { memory: MEMORY_SECONDS, part: 0.0, ignored: 0.0, seconds: 0.0, done: 0, weighted: 0.0, weight: 0.0 }
    }
}

impl Rate {
    /// One for bytes that leave over a line: the system takes half a megabyte at once and sends it later, and waits for answers between.
    #[must_use]
    pub fn of_line() -> Self {
        Self { memory: LINE_MEMORY_SECONDS, ignored: LINE_IGNORED_SECONDS, ..Self::default() }
    }

    /// The same for an estimate of the time that is left: it remembers more the longer the work lasts.
    #[must_use]
    pub const fn for_estimate(self) -> Self {
        Self { part: ESTIMATE_PART, ..self }
    }

    /// Takes in that `done` is done after `elapsed`.
    pub fn update(&mut self, elapsed: Duration, done: u64) {
        let seconds = elapsed.as_secs_f64();
        let span = seconds - self.seconds;
        if span <= 0.0 {
            return;
        }
        if seconds < self.ignored {
            (self.seconds, self.done) = (seconds, done);
            return;
        }
        let now = done.saturating_sub(self.done) as f64 / span;
        let gained = -(-span / self.memory.max(self.part * seconds)).exp_m1();
        self.weighted += (now - self.weighted) * gained;
        self.weight += (1.0 - self.weight) * gained;
        self.seconds = seconds;
        self.done = done;
    }

    /// So much a second; `None` before anything is known.
    #[must_use]
    pub fn per_second(&self) -> Option<f64> {
        (self.weight > 0.0).then(|| self.weighted / self.weight)
    }

    /// How long `left` more will take; `None` when nothing moves.
    #[must_use]
    pub fn time_for(&self, left: u64) -> Option<Duration> {
        let seconds = left as f64 / self.per_second().filter(|rate| *rate > 0.0)?;
        // Longer than a century is no estimate.
        (seconds < 3.2e9).then(|| Duration::from_secs_f64(seconds))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_steady_rate_is_found_and_a_change_is_followed() {
        let mut rate = Rate::default();
        assert_eq!(rate.time_for(1), None);
        for second in 1..=10 {
            rate.update(Duration::from_secs(second), second * 100);
        }
        assert!((rate.per_second().unwrap() - 100.0).abs() < 1e-9);
        assert_eq!(rate.time_for(500).unwrap().as_secs_f64().round(), 5.0);
        rate.update(Duration::from_secs(60), 1000);
        assert!(rate.per_second().unwrap() < 1.0, "a standstill of 50 s is noticed");
        rate.update(Duration::from_secs(60), 2000);
        assert!(rate.per_second().unwrap() < 1.0, "no time, no rate");
    }

    /// 40 kB/s in parts of 8 MB: half a MB leaves at once, and at the end of a part nothing for as long as that takes.
    #[test]
    fn what_the_system_holds_does_not_spoil_an_estimate() {
        let (mut rate, all) = (Rate::of_line(), 64_000_000_u64);
        for tick in 1..6_000_u64 {
            let sent = tick * 10_000;
            let (parts, of_part) = (sent / 8_000_000, sent % 8_000_000);
            let done = parts * 8_000_000 + (of_part + 500_000).min(8_000_000);
            rate.update(Duration::from_millis(tick * 250), done);
            if tick > 240 {
                let (said, right) = (rate.time_for(all - done).unwrap().as_secs_f64(), (all - sent) as f64 / 40_000.0);
                assert!((right * 0.8..=right * 1.2).contains(&said), "after {} s: {said} s, not {right}", tick / 4);
            }
        }
    }

    /// An hour at 100 a second, in which every tenth minute only half as much is done.
    #[test]
    fn an_estimate_does_not_follow_every_slow_minute() {
        let (mut shown, mut estimate, mut done) = (Rate::default(), Rate::default().for_estimate(), 0);
        for second in 1..=1_200 {
            done += if second / 60 % 10 == 5 { 50 } else { 100 };
            shown.update(Duration::from_secs(second), done);
            estimate.update(Duration::from_secs(second), done);
        }
        assert!(shown.per_second().unwrap() > 99.0);
        for second in 1_201..=1_230 {
            done += 50;
            shown.update(Duration::from_secs(second), done);
            estimate.update(Duration::from_secs(second), done);
        }
        assert!(shown.per_second().unwrap() < 55.0, "what is shown is what happens");
        assert!((85.0..100.0).contains(&estimate.per_second().unwrap()), "{:?}", estimate.per_second());
    }

    #[test]
    fn a_burst_at_the_start_counts_for_an_instant() {
        let mut rate = Rate::default();
        rate.update(Duration::from_micros(1), 1_000_000);
        rate.update(Duration::from_secs(1), 2_000_000);
        let per_second = rate.per_second().unwrap();
        assert!((1_500_000.0..2_500_000.0).contains(&per_second), "{per_second}");
    }

    #[test]
    fn no_movement_is_no_estimate() {
        let mut rate = Rate::default();
        rate.update(Duration::from_secs(1), 0);
        assert_eq!(rate.time_for(10), None);
        rate.update(Duration::from_secs(2), 1);
        assert_eq!(rate.time_for(u64::MAX), None);
    }
}
