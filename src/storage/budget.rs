//! Memory for bytes on their way, shared by all connections of a run, whatever their number.

use crate::base::lock::{lock, wait_timeout};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// How often a waiting one is asked whether it shall go on waiting.
const TICK: Duration = Duration::from_millis(100);

/// See the module.
#[derive(Debug)]
pub struct Budget {
    bytes: u64,
    taken: Mutex<u64>,
    given_back: Condvar,
}

/// A part of a [`Budget`], given back when it is dropped.
#[derive(Debug)]
pub struct Room {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Budget {
    /// One of so many bytes.
    #[must_use]
    pub fn new(bytes: u64) -> Arc<Self> {
        Arc::new(Self { bytes, taken: Mutex::new(0), given_back: Condvar::new() })
    }

    /// How many of so many bytes it has room for, at least one.
    #[must_use]
    pub fn parts(&self, bytes: u64) -> usize {
        usize::try_from(self.bytes / bytes.max(1)).unwrap_or(usize::MAX).max(1)
    }

    /// Takes so much of it, and waits until it is there; none when `stop` says so. Who wants more than all of it gets it when nobody else has
    /// any. One that holds a part must not wait for another.
    pub fn take(self: &Arc<Self>, bytes: u64, stop: impl Fn() -> bool) -> Option<Room> {
        let bytes = bytes.min(self.bytes);
        let mut taken = lock(&self.taken);
        while *taken + bytes > self.bytes {
            if stop() {
                return None;
            }
            taken = wait_timeout(&self.given_back, taken, TICK);
        }
        *taken += bytes;
        Some(Room { budget: Arc::clone(self), bytes })
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        *lock(&self.budget.taken) -= self.bytes;
        self.budget.given_back.notify_all();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[test]
    fn no_more_is_taken_than_there_is() {
        let budget = Budget::new(10);
        let (now, most) = (AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let (budget, now, most) = (&budget, &now, &most);
                scope.spawn(move || {
                    for turn in 0..50 {
                        let bytes = 1 + (thread + turn) % 12;
                        let room = budget.take(bytes, || false).unwrap();
                        let bytes = bytes.min(10);
                        most.fetch_max(now.fetch_add(bytes, Ordering::SeqCst) + bytes, Ordering::SeqCst);
                        std::thread::yield_now();
                        now.fetch_sub(bytes, Ordering::SeqCst);
                        drop(room);
                    }
                });
            }
        });
        assert!(most.into_inner() <= 10);
        let all = budget.take(100, || false).unwrap();
        assert!(budget.take(1, || true).is_none());
        drop(all);
        assert!(budget.take(10, || true).is_some());
        assert_eq!([0, 3, 10, 11].map(|bytes| budget.parts(bytes)), [10, 3, 1, 1]);
    }
}
