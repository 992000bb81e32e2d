//! A limit of bytes a second, for all that share it together, that holds within every second.

use crate::base::lock::lock;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Bytes go in portions of so much time: within every second the limit is kept to a tenth.
const PORTIONS_PER_SECOND: u64 = 10;
/// How often a waiting one is asked whether it shall go on waiting.
const TICK: Duration = Duration::from_millis(100);
/// A portion, in bytes, at most.
const PORTION_MAX: u64 = 32 << 10;

/// See the module. Without a rate nobody waits.
#[derive(Debug)]
pub struct RateLimit {
    /// 0 for none.
    bytes_per_second: AtomicU64,
    free_at: Mutex<Instant>,
}

impl Default for RateLimit {
    fn default() -> Self {
        Self::new(None)
    }
}

impl RateLimit {
    /// At most `bytes_per_second`, or as much as the line takes.
    #[must_use]
    pub fn new(bytes_per_second: Option<u64>) -> Self {
        Self { bytes_per_second: AtomicU64::new(bytes_per_second.unwrap_or(0)), free_at: Mutex::new(Instant::now()) }
    }

    /// Another rate from now on. Who waits for a turn that was taken before goes on waiting for it, a portion at most.
    pub fn set_rate(&self, bytes_per_second: Option<u64>) {
        self.bytes_per_second.store(bytes_per_second.unwrap_or(0), Ordering::Relaxed);
    }

    fn rate(&self) -> Option<u64> {
        Some(self.bytes_per_second.load(Ordering::Relaxed)).filter(|rate| *rate > 0)
    }

    /// How many bytes are to go at once.
    #[must_use]
    pub fn portion(&self) -> usize {
        let rate = self.rate().unwrap_or(u64::MAX);
        (rate / PORTIONS_PER_SECOND).clamp(1, PORTION_MAX) as usize
    }

    /// Takes the turn of so many bytes, and says when it comes; none when it is there.
    pub fn reserve(&self, bytes: usize) -> Option<Instant> {
        let rate = self.rate()?;
        let now = Instant::now();
        let mut free_at = lock(&self.free_at);
        let begins = (*free_at).max(now);
        *free_at = begins + Duration::from_secs_f64(bytes as f64 / rate as f64);
        (begins > now).then_some(begins)
    }

    /// Waits for the turn of so many bytes, in portions, or until `stop` says so.
    pub fn wait(&self, bytes: u64, stop: impl Fn() -> bool) {
        let mut left = bytes;
        while left > 0 && self.rate().is_some() {
            let portion = left.min(self.portion() as u64);
            let until = self.reserve(portion as usize);
            while let Some(until) = until.filter(|until| *until > Instant::now()) {
                if stop() {
                    return;
                }
                std::thread::sleep(TICK.min(until.saturating_duration_since(Instant::now())));
            }
            if stop() {
                return;
            }
            left -= portion;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn turns_follow_each_other_at_the_rate() {
        let limit = RateLimit::new(Some(1_000));
        assert_eq!(limit.portion(), 100);
        assert_eq!(limit.reserve(100), None);
        let turns: Vec<Instant> = (0..10).map(|_| limit.reserve(100).unwrap()).collect();
        for pair in turns.windows(2) {
            assert_eq!(pair[1] - pair[0], Duration::from_millis(100));
        }
    }

    #[test]
    fn the_rate_may_change_on_the_way() {
        let limit = RateLimit::new(Some(1_000));
        assert_eq!(limit.reserve(100), None);
        limit.set_rate(Some(100_000));
        assert_eq!(limit.portion(), 10_000);
        let turns: Vec<Instant> = (0..2).map(|_| limit.reserve(1_000).unwrap()).collect();
        assert_eq!(turns[1] - turns[0], Duration::from_millis(10));
        limit.set_rate(None);
        assert_eq!(limit.reserve(1 << 30), None);
    }

    #[test]
    fn without_a_rate_nobody_waits() {
        for limit in [RateLimit::new(None), RateLimit::new(Some(0))] {
            assert_eq!((limit.reserve(1 << 30), limit.portion()), (None, PORTION_MAX as usize));
            limit.wait(u64::MAX, || false);
        }
        assert_eq!(RateLimit::new(Some(1)).portion(), 1);
    }
}
