//! The end that somebody wants before the work is done, and why.
//!
//! A [`StopSignal`] is handed to all that takes long: operations ask it between two objects, and what waits for a store or pauses
//! between two attempts asks it while it waits. Nothing is lost by an end: whatever was not published yet is swept up by the next run.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

/// Who wants an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stop {
    /// The user.
    User,
    /// The system or the service manager: the machine goes down, or the terminal is gone.
    Shutdown,
    /// The time that was given is over.
    Deadline,
}

impl Stop {
    /// As a number, for a flag that a signal handler sets. 0 is none of them.
    #[must_use]
    pub const fn number(self) -> usize {
        match self {
            Self::User => 1,
            Self::Shutdown => 2,
            Self::Deadline => 3,
        }
    }

    const fn of(number: usize) -> Option<Self> {
        match number {
            0 => None,
            1 => Some(Self::User),
            2 => Some(Self::Shutdown),
            _ => Some(Self::Deadline),
        }
    }
}

/// Asked whether somebody wants an end. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct StopSignal {
    asked: Arc<AtomicUsize>,
    deadline: Arc<OnceLock<Instant>>,
}

impl StopSignal {
    /// Nobody wants an end yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Says that an end is wanted. The latest reason counts.
    pub fn request(&self, why: Stop) {
        self.asked.store(why.number(), Ordering::Relaxed);
    }

    /// An end is wanted from `time` on. The first deadline stays.
    pub fn end_at(&self, time: Instant) {
        let _ = self.deadline.set(time);
    }

    /// Who wants an end, once somebody does.
    #[must_use]
    pub fn get(&self) -> Option<Stop> {
        let is_over = || self.deadline.get().is_some_and(|time| Instant::now() >= *time);
        Stop::of(self.asked.load(Ordering::Relaxed)).or_else(|| is_over().then_some(Stop::Deadline))
    }

    /// True once somebody wants an end.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.get().is_some()
    }

    /// The flag itself, for a signal handler that stores [`Stop::number`] there.
    #[must_use]
    pub fn flag(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.asked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn clones_share_what_was_said() {
        let (signal, other) = (StopSignal::new(), StopSignal::new());
        let clone = signal.clone();
        assert_eq!(clone.get(), None);
        for why in [Stop::User, Stop::Shutdown, Stop::Deadline] {
            signal.request(why);
            assert_eq!((clone.get(), other.get()), (Some(why), None));
            assert_eq!(Stop::of(why.number()), Some(why));
        }
    }

    #[test]
    fn a_deadline_is_an_end_when_it_has_come() {
        let signal = StopSignal::new();
        signal.end_at(Instant::now() + Duration::from_secs(3600));
        assert!(!signal.is_set());
        let over = StopSignal::new();
        over.end_at(Instant::now());
        assert_eq!(over.get(), Some(Stop::Deadline));
        over.request(Stop::User);
        assert_eq!(over.get(), Some(Stop::User));
    }
}
