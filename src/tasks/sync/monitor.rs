//! What one of several mirrors reports of its work.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::base::lock::lock;
use crate::base::stop::Stop;
use crate::ops::{Item, Monitor, Phase, Problem, Subject};

/// With several mirrors all are one phase, in which only what is sent counts, and what went wrong begins with the mirror's name.
pub(super) struct MirrorMonitor<'a> {
    inner: &'a dyn Monitor,
    several: Option<Several<'a>>,
}

/// One of several.
struct Several<'a> {
    name: &'a str,
    /// Of how many mirrors it is not known yet how much will be sent.
    unknown: &'a AtomicUsize,
    own: Mutex<Own>,
}

/// What was reported of this mirror.
#[derive(Default)]
struct Own {
    is_sending: bool,
    is_known: bool,
    /// Objects and bytes that were expected, and that are done.
    expected: (u64, u64),
    done: (u64, u64),
}

impl<'a> MirrorMonitor<'a> {
    /// Of the only mirror.
    pub const fn of_one(inner: &'a dyn Monitor) -> Self {
        Self { inner, several: None }
    }

    /// Of the one of this name. `unknown` begins with the number of all.
    pub fn of_several(inner: &'a dyn Monitor, name: &'a str, unknown: &'a AtomicUsize) -> Self {
        Self { inner, several: Some(Several { name, unknown, own: Mutex::default() }) }
    }

    /// True when what happens now counts.
    fn counts(&self) -> bool {
        self.several.as_ref().is_none_or(|several| lock(&several.own).is_sending)
    }

    fn note_done(&self, items: u64, bytes: u64) {
        if let Some(several) = &self.several {
            let done = &mut lock(&several.own).done;
            *done = (done.0.saturating_add(items), done.1.saturating_add(bytes));
        }
    }
}

impl Several<'_> {
    /// How much will be sent is known. The total is when it is known of all.
    fn know(&self, inner: &dyn Monitor) {
        if !std::mem::replace(&mut lock(&self.own).is_known, true) && self.unknown.fetch_sub(1, Ordering::Relaxed) == 1
        {
            inner.expect(0, 0, true);
        }
    }

    /// What is expected still is not sent any more.
    fn give_up_rest(&self, inner: &dyn Monitor) {
        let Own { expected, done, .. } = std::mem::take(&mut *lock(&self.own));
        let rest = (expected.0.saturating_sub(done.0), expected.1.saturating_sub(done.1));
        if rest != (0, 0) {
            inner.skip(rest.0, rest.1);
        }
    }
}

/// A mirror that has ended will send nothing more.
impl Drop for MirrorMonitor<'_> {
    fn drop(&mut self) {
        if let Some(several) = &self.several {
            several.know(self.inner);
            several.give_up_rest(self.inner);
        }
    }
}

impl Monitor for MirrorMonitor<'_> {
    fn phase(&self, phase: Phase) {
        let Some(several) = &self.several else { return self.inner.phase(phase) };
        let is_sending = phase == Phase::Send;
        if is_sending && lock(&several.own).is_sending {
            // It begins again with a newer state.
            let is_known = lock(&several.own).is_known;
            several.give_up_rest(self.inner);
            lock(&several.own).is_known = is_known;
        }
        lock(&several.own).is_sending = is_sending;
    }

    fn expect(&self, items: u64, bytes: u64, complete: bool) {
        match &self.several {
            None => self.inner.expect(items, bytes, complete),
            Some(several) if self.counts() => {
                let expected = &mut lock(&several.own).expected;
                *expected = (expected.0.saturating_add(items), expected.1.saturating_add(bytes));
                self.inner.expect(items, bytes, false);
            }
            Some(_) => {}
        }
        if let Some(several) = self.several.as_ref().filter(|_| complete && self.counts()) {
            several.know(self.inner);
        }
    }

    fn advance(&self, items: u64, bytes: u64) {
        if self.counts() {
            self.note_done(items, bytes);
            self.inner.advance(items, bytes);
        }
    }

    fn skip(&self, items: u64, bytes: u64) {
        if self.counts() {
            self.note_done(items, bytes);
            self.inner.skip(items, bytes);
        }
    }

    fn repeat(&self, lost: u64, again: u64) {
        if self.counts() {
            self.inner.repeat(lost, again);
        }
    }

    fn item(&self, item: &Item<'_>) {
        self.inner.item(item);
    }

    fn problem(&self, problem: &Problem<'_>) {
        match &self.several {
            Some(several) => {
                let message = format!("{}: {}", several.name, problem.message);
                self.inner.problem(&Problem { message: &message, subject: Subject::Mirror, ..*problem });
            }
            None => self.inner.problem(problem),
        }
    }

    fn stop(&self) -> Option<Stop> {
        self.inner.stop()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::tally::{Counts, Tally};

    #[derive(Default)]
    struct Seen(Tally);

    impl Monitor for Seen {
        fn phase(&self, phase: Phase) {
            self.0.phase(phase);
        }
        fn expect(&self, items: u64, bytes: u64, complete: bool) {
            self.0.expect(items, bytes, complete);
        }
        fn advance(&self, items: u64, bytes: u64) {
            self.0.advance(items, bytes);
        }
        fn skip(&self, items: u64, bytes: u64) {
            self.0.skip(items, bytes);
        }
        fn item(&self, _: &Item<'_>) {}
        fn problem(&self, _: &Problem<'_>) {}
        fn stop(&self) -> Option<Stop> {
            None
        }
    }

    fn counts(seen: &Seen) -> Counts {
        seen.0.look().map(|look| look.counts).unwrap_or_default()
    }

    /// Three mirrors: one sends, one breaks off in the middle, one needs nothing. Only what is sent counts.
    #[test]
    fn the_total_of_several_is_known_when_it_is_known_of_all() {
        let (seen, unknown) = (Seen::default(), AtomicUsize::new(3));
        seen.phase(Phase::Send);
        let mirror = |name| MirrorMonitor::of_several(&seen, name, &unknown);
        let (one, two, three) = (mirror("one"), mirror("two"), mirror("three"));
        for (mirror, bytes) in [(&one, 100), (&two, 50)] {
            mirror.phase(Phase::ListMirror);
            mirror.expect(7, 0, true);
            mirror.advance(7, 0);
            mirror.phase(Phase::Send);
            mirror.expect(2, bytes, true);
        }
        two.advance(1, 20);
        assert_eq!((counts(&seen).items_expected, counts(&seen).complete), (4, false));
        drop(three);
        assert_eq!((counts(&seen).bytes_expected, counts(&seen).complete), (150, true));
        drop(two);
        assert_eq!((counts(&seen).items_done, counts(&seen).bytes_done, counts(&seen).bytes_skipped), (2, 50, 30));
        one.advance(2, 100);
        one.phase(Phase::DeleteOnMirror);
        one.expect(5, 0, true);
        one.advance(5, 0);
        drop(one);
        let all = Counts {
            items_expected: 4,
            bytes_expected: 150,
            complete: true,
            items_done: 4,
            bytes_done: 150,
            bytes_skipped: 30,
            ..Counts::default()
        };
        assert_eq!(counts(&seen), all);
    }
}
