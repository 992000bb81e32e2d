//! Points in time as file systems and snapshots store them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A point in time: seconds since 1970-01-01T00:00:00Z (negative before it) and nanoseconds above that second.
///
/// The nanoseconds always count upwards, as in `struct timespec`: half a second before 1970 is `(-1, 500_000_000)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, bincode::Encode, bincode::Decode)]
pub struct Time {
    /// Whole seconds since the epoch, rounded towards the past.
    pub seconds: i64,
    /// Nanoseconds after `seconds`, 0 to 999,999,999.
    pub nanoseconds: u32,
}

impl Time {
    /// A time of whole seconds.
    #[must_use]
    pub const fn from_seconds(seconds: i64) -> Self {
        Self { seconds, nanoseconds: 0 }
    }

    /// The system clock, now.
    #[must_use]
    pub fn now() -> Self {
        SystemTime::now().into()
    }

    /// True when the nanoseconds are in their range; anything read from a repository is asked this.
    #[must_use]
    pub const fn is_valid(&self) -> bool {
        self.nanoseconds < 1_000_000_000
    }

    /// Nanoseconds since the epoch.
    #[must_use]
    pub const fn as_nanoseconds(&self) -> i128 {
        self.seconds as i128 * 1_000_000_000 + self.nanoseconds as i128
    }
}

impl From<SystemTime> for Time {
    fn from(time: SystemTime) -> Self {
        let signed = |d: Duration| i64::try_from(d.as_secs()).unwrap_or(i64::MAX);
        match time.duration_since(UNIX_EPOCH) {
            Ok(after) => Self { seconds: signed(after), nanoseconds: after.subsec_nanos() },
            Err(before) => {
                let before = before.duration();
                match before.subsec_nanos() {
                    0 => Self { seconds: -signed(before), nanoseconds: 0 },
                    nanos => Self { seconds: -signed(before) - 1, nanoseconds: 1_000_000_000 - nanos },
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_the_epoch_count_upwards() {
        let half_before = UNIX_EPOCH - Duration::from_millis(500);
        assert_eq!(Time::from(half_before), Time { seconds: -1, nanoseconds: 500_000_000 });
        assert_eq!(Time::from(half_before).as_nanoseconds(), -500_000_000);
        assert_eq!(Time::from(UNIX_EPOCH - Duration::from_secs(2)), Time::from_seconds(-2));
    }
}
