//! How long a store is waited for, and how often it is asked again.

use std::time::Duration;

/// What a system holds of a connection's bytes, at most: the largest buffer of a socket on Linux (`tcp_wmem`), and one of the program's own.
const SYSTEM_BYTES_MAX: u64 = 5 << 20;

/// See the module. The default is what fits a cloud and a slow line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// How often an operation is tried in all; at least once.
    pub attempts: u32,
    /// Pause before the second attempt; each further one is twice as long, and up to a half longer by chance.
    pub pause: Duration,
    /// How long nothing may move in an attempt. While bytes flow it goes on.
    pub answer: Duration,
    /// What the system holds of a body leaves at least this fast, however slow the line.
    pub bytes_per_second: u64,
}

impl Default for Patience {
    fn default() -> Self {
        Self { attempts: 5, pause: Duration::from_secs(1), answer: Duration::from_secs(60), bytes_per_second: 16 << 10 }
    }
}

impl Patience {
    /// How long nothing may be seen to move when `bytes` bytes of a body were handed to the system and the answer is to come.
    #[must_use]
    pub fn silence(&self, bytes: u64) -> Duration {
        self.answer.saturating_add(Duration::from_secs(bytes.min(SYSTEM_BYTES_MAX) / self.bytes_per_second.max(1)))
    }

    /// The pause after attempt number `number`, which is 1 for the first; none when it was the last.
    #[must_use]
    pub fn pause_after(&self, number: u32) -> Option<Duration> {
        (number < self.attempts).then(|| jittered(self.pause.saturating_mul(1 << (number.max(1) - 1).min(16))))
    }
}

/// Up to a half more than `pause`, by chance: many clients that were told to slow down must not come back at once.
fn jittered(pause: Duration) -> Duration {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    pause.saturating_add(pause.saturating_mul(now.subsec_nanos() % 1_000) / 2_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_and_end() {
        let patience = Patience { attempts: 4, ..Patience::default() };
        for (number, seconds) in [(1, 1), (2, 2), (3, 4)] {
            let pause = patience.pause_after(number);
            let (least, most) = (Duration::from_secs(seconds), Duration::from_secs(seconds) * 3 / 2);
            assert!(pause.is_some_and(|pause| (least..=most).contains(&pause)), "after {number}: {pause:?}");
        }
        assert_eq!(patience.pause_after(4), None);
        assert_eq!(Patience { attempts: 0, ..patience }.pause_after(1), None);
        assert!(Patience { attempts: u32::MAX, ..patience }.pause_after(u32::MAX - 1).is_some());
    }

    #[test]
    fn what_the_system_holds_takes_its_time() {
        assert_eq!(Patience::default().silence(0), Duration::from_secs(60));
        assert_eq!(Patience::default().silence(1 << 20), Duration::from_secs(60 + 64));
        assert_eq!(Patience::default().silence(1 << 40), Duration::from_secs(60 + 320));
        assert_eq!(Patience { bytes_per_second: 0, ..Patience::default() }.silence(5), Duration::from_secs(65));
    }
}
