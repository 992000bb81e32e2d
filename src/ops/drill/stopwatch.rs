//! When the first file was there.

use crate::base::stop::Stop;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::ops::{Action, Item, Monitor, Phase, Problem};

/// Passes everything on, and looks at the clock when the first file is finished.
pub(super) struct Stopwatch<'a> {
    inner: &'a dyn Monitor,
    begun: Instant,
    first: OnceLock<Duration>,
}

impl<'a> Stopwatch<'a> {
    pub fn new(inner: &'a dyn Monitor, begun: Instant) -> Self {
        Self { inner, begun, first: OnceLock::new() }
    }

    /// How long after the beginning that was.
    pub fn first_file(&self) -> Option<Duration> {
        self.first.get().copied()
    }
}

impl Monitor for Stopwatch<'_> {
    fn phase(&self, phase: Phase) {
        self.inner.phase(phase);
    }

    fn idle(&self) {
        self.inner.idle();
    }

    fn expect(&self, items: u64, bytes: u64, complete: bool) {
        self.inner.expect(items, bytes, complete);
    }

    fn total(&self, phase: Phase, items: u64, bytes: u64, complete: bool) {
        self.inner.total(phase, items, bytes, complete);
    }

    fn advance(&self, items: u64, bytes: u64) {
        self.inner.advance(items, bytes);
    }

    fn skip(&self, items: u64, bytes: u64) {
        self.inner.skip(items, bytes);
    }

    fn repeat(&self, lost: u64, again: u64) {
        self.inner.repeat(lost, again);
    }

    fn item(&self, item: &Item<'_>) {
        if !item.directory && matches!(item.action, Action::New | Action::Changed) {
            self.first.get_or_init(|| self.begun.elapsed());
        }
        self.inner.item(item);
    }

    fn problem(&self, problem: &Problem<'_>) {
        self.inner.problem(problem);
    }

    fn stop(&self) -> Option<Stop> {
        self.inner.stop()
    }
}
