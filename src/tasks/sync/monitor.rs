//! What one of several mirrors reports of its work.

use crate::base::stop::Stop;
use crate::ops::{Item, Monitor, Phase, Problem, Subject};

/// With several mirrors all are one phase, and what went wrong begins with the mirror's name.
pub(super) struct MirrorMonitor<'a> {
    pub inner: &'a dyn Monitor,
    /// Its name, when there are several.
    pub name: Option<&'a str>,
}

impl Monitor for MirrorMonitor<'_> {
    fn phase(&self, phase: Phase) {
        if self.name.is_none() {
            self.inner.phase(phase);
        }
    }

    fn expect(&self, items: u64, bytes: u64, complete: bool) {
        self.inner.expect(items, bytes, complete && self.name.is_none());
    }

    fn advance(&self, items: u64, bytes: u64) {
        self.inner.advance(items, bytes);
    }

    fn repeat(&self, lost: u64, again: u64) {
        self.inner.repeat(lost, again);
    }

    fn item(&self, item: &Item<'_>) {
        self.inner.item(item);
    }

    fn problem(&self, problem: &Problem<'_>) {
        match self.name {
            Some(name) => {
                let message = format!("{name}: {}", problem.message);
                self.inner.problem(&Problem { message: &message, subject: Subject::Mirror, ..*problem });
            }
            None => self.inner.problem(problem),
        }
    }

    fn stop(&self) -> Option<Stop> {
        self.inner.stop()
    }
}
