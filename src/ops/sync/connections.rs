//! How many large objects are on their way to a mirror at once: as many as the line gives something to.
//!
//! On a slow line connections starve each other, and none of their objects arrives for hours. So the first large object goes alone; each further
//! connection needs that those that there are got [`ENOUGH`] each. When an object had to go with less than [`SLOW`], there is one fewer.

use crate::base::lock::{lock, wait_timeout};
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

/// An object of so many bytes is large: it is read piece by piece, and waits until the line has room for it. Smaller ones need quick answers, not a
/// wide line.
pub(super) const LARGE_BYTES: u64 = 1 << 20;
/// Bytes a second of a connection with which another one is worth a try.
const ENOUGH: u64 = 256 << 10;
/// Bytes a second of a connection with which there are too many.
const SLOW: u64 = 64 << 10;
/// What the system takes of a connection at once, and has not sent yet.
const HELD_BYTES: u64 = 512 << 10;
/// What took less time than this was not slow.
const SLOW_TIME: Duration = Duration::from_secs(10);
/// How often a waiting one is asked whether it shall go on waiting.
const TICK: Duration = Duration::from_millis(100);

/// What one connection says about the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// There may be more of them.
    More,
    /// There are too many.
    Fewer,
    /// Neither.
    Same,
}

/// From the bytes that have left in so much time, and whether all of them were taken by the store.
fn judge(bytes: u64, took: Duration, is_taken: bool) -> Verdict {
    let per_second = |bytes: u64| (bytes as f64 / took.as_secs_f64().max(1e-6)) as u64;
    let left = if is_taken { bytes } else { bytes.saturating_sub(HELD_BYTES) };
    if bytes >= LARGE_BYTES && per_second(left) >= ENOUGH {
        Verdict::More
    } else if is_taken && took > SLOW_TIME && per_second(bytes) < SLOW {
        Verdict::Fewer
    } else {
        Verdict::Same
    }
}

#[derive(Debug)]
struct State {
    allowed: usize,
    active: usize,
}

/// See the module. Shared by all that send to one mirror.
#[derive(Debug)]
pub(super) struct Connections {
    most: usize,
    state: Mutex<State>,
    changed: Condvar,
}

impl Connections {
    /// At most so many.
    pub fn new(most: usize) -> Self {
        Self { most: most.max(1), state: Mutex::new(State { allowed: 1, active: 0 }), changed: Condvar::new() }
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = lock(&self.state);
        let done = change(&mut state);
        self.changed.notify_all();
        done
    }

    /// Waits until an object of so many bytes may go; none when `stop` says so.
    pub fn begin(&self, length: u64, stop: impl Fn() -> bool) -> Option<Connection<'_>> {
        if length < LARGE_BYTES {
            return Some(Connection { all: None, begun: Instant::now(), bytes: Mutex::new(0) });
        }
        let mut state = lock(&self.state);
        while state.active >= state.allowed {
            if stop() {
                return None;
            }
            state = wait_timeout(&self.changed, state, TICK);
        }
        state.active += 1;
        Some(Connection { all: Some(self), begun: Instant::now(), bytes: Mutex::new(0) })
    }

    fn follow(&self, verdict: Verdict) {
        self.change(|state| match verdict {
            // Whoever has room does not need more.
            Verdict::More if state.active >= state.allowed => state.allowed = (state.allowed * 2).min(self.most),
            Verdict::Fewer => state.allowed = (state.allowed - 1).max(1),
            Verdict::More | Verdict::Same => {}
        });
    }
}

/// One object on its way.
#[derive(Debug)]
pub(super) struct Connection<'a> {
    all: Option<&'a Connections>,
    begun: Instant,
    bytes: Mutex<u64>,
}

impl Connection<'_> {
    /// So many bytes more have left.
    pub fn moved(&self, bytes: u64) {
        let Some(all) = self.all else { return };
        let sum = {
            let mut sum = lock(&self.bytes);
            *sum += bytes;
            *sum
        };
        all.follow(judge(sum, self.begun.elapsed(), false));
    }

    /// The store has all of it.
    pub fn end(self) {
        let sum = *lock(&self.bytes);
        if let Some(all) = self.all {
            all.follow(judge(sum, self.begun.elapsed(), true));
        }
    }
}

impl Drop for Connection<'_> {
    fn drop(&mut self) {
        if let Some(all) = self.all {
            all.change(|state| state.active -= 1);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_line_says_how_many() {
        let seconds = Duration::from_secs;
        for (bytes, took, is_taken, verdict) in [
            // What the system holds says nothing.
            (512 << 10, Duration::from_millis(1), false, Verdict::Same),
            (1 << 20, Duration::from_millis(100), false, Verdict::More),
            // 40 kB/s: the first MiB took 13 s, as half of it was held.
            (1 << 20, seconds(13), false, Verdict::Same),
            (32 << 20, seconds(838), true, Verdict::Fewer),
            // 1 Mbit/s for one alone.
            (32 << 20, seconds(268), true, Verdict::Same),
            (32 << 20, seconds(100), true, Verdict::More),
            (2 << 20, seconds(9), true, Verdict::Same),
            (2 << 20, seconds(40), true, Verdict::Fewer),
            (32 << 20, Duration::ZERO, true, Verdict::More),
        ] {
            assert_eq!(judge(bytes, took, is_taken), verdict, "{bytes} in {took:?}");
        }
    }

    #[test]
    fn the_first_goes_alone_and_small_ones_do_not_wait() {
        let all = Connections::new(4);
        let allowed = || all.state.lock().unwrap().allowed;
        let first = all.begin(LARGE_BYTES, || true).unwrap();
        assert!(all.begin(LARGE_BYTES, || true).is_none());
        assert!(all.begin(LARGE_BYTES - 1, || true).is_some());
        first.moved(64 << 20);
        assert_eq!(allowed(), 2);
        let second = all.begin(LARGE_BYTES, || true).unwrap();
        second.moved(64 << 20);
        first.moved(1);
        // Two of four: none is missing.
        assert_eq!(allowed(), 4);
        all.follow(Verdict::Fewer);
        assert_eq!(allowed(), 3);
        drop((first, second));
        (0..9).for_each(|_| all.follow(Verdict::Fewer));
        assert_eq!(allowed(), 1);
        assert_eq!(all.state.lock().unwrap().active, 0);
    }
}
