//! Mirrors wait for each other's plans, so that what several lack is read together.

use crate::base::lock::{lock, wait_timeout};
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

/// So long a mirror waits for the plans of the others. One that does not answer holds back nobody for longer.
const WAIT_MAX: Duration = Duration::from_secs(10);
/// How often it is asked whether somebody wants an end.
const TICK: Duration = Duration::from_millis(200);

/// How many mirrors are still planning.
pub(super) struct PlanBarrier {
    planning: Mutex<usize>,
    changed: Condvar,
}

impl PlanBarrier {
    /// All of so many are.
    pub fn of(mirrors: usize) -> Self {
        Self { planning: Mutex::new(mirrors), changed: Condvar::new() }
    }

    /// One of them plans until this is dropped.
    pub const fn planning(&self) -> PlanningGuard<'_> {
        PlanningGuard(self)
    }

    /// Waits until all have planned, or for as long as is good, or until `stop` says so.
    pub fn wait(&self, stop: impl Fn() -> bool) {
        let until = Instant::now() + WAIT_MAX;
        let mut planning = lock(&self.planning);
        while *planning > 0 && !stop() {
            let left = until.saturating_duration_since(Instant::now()).min(TICK);
            if left.is_zero() {
                return;
            }
            planning = wait_timeout(&self.changed, planning, left);
        }
    }
}

/// See [`PlanBarrier::planning`].
pub(super) struct PlanningGuard<'a>(&'a PlanBarrier);

impl Drop for PlanningGuard<'_> {
    fn drop(&mut self) {
        *lock(&self.0.planning) -= 1;
        self.0.changed.notify_all();
    }
}
