//! Words for what a file system keeps otherwise than it was set, and for what the system refuses. One sentence a cause: the
//! reader of it wants to know why, once, and not every entry that it happened to.

use std::io;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::base::time::Time;

/// The reason of whatever only a more privileged user may do.
pub const NOT_PERMITTED: &str = "not permitted";

/// The reason that the system gives, without its number.
#[must_use]
pub fn reason(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::PermissionDenied {
        return NOT_PERMITTED.to_owned();
    }
    let text = error.to_string();
    match text.split_once(" (os error") {
        Some((text, _)) => text.to_lowercase(),
        None => text,
    }
}

/// Why a time that was set reads back as another one. What reads back is looked at, and not how far it is from what was set: that
/// would give one file system as many names of steps as there are times.
#[must_use]
pub fn times(system: &str, set: Time, found: Time) -> String {
    const SECOND: i128 = 1_000_000_000;
    let (at, now) = (set.as_nanoseconds(), found.as_nanoseconds());
    let off = (at - now).abs();
    if now % SECOND == 0 && off < SECOND {
        return format!("{system} keeps whole seconds only");
    }
    if now % (2 * SECOND) == 0 && off < 2 * SECOND {
        return format!("{system} keeps every other second only");
    }
    if off < SECOND / 10 {
        return format!("{system} keeps fewer digits of a second");
    }
    // The present: it was written to, or the call did nothing.
    if (Time::now().as_nanoseconds() - now).abs() < 3_600 * SECOND {
        return format!("{system} shows the time of writing");
    }
    let day = Timestamp::new(found.seconds, 0).map_or_else(
        |_| format!("@{}", found.seconds),
        |found| found.to_zoned(TimeZone::UTC).strftime("%F").to_string(),
    );
    if now < at { format!("{system} keeps none after {day}") } else { format!("{system} keeps none before {day}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_file_system_makes_of_a_time_has_a_name() {
        let time = |seconds, nanoseconds| Time { seconds, nanoseconds };
        for (set, found, words) in [
            (time(15_999_206_400, 0), time(15_032_385_535, 0), "ext4 keeps none after 2446-05-10"),
            (time(-9_999_999_999, 0), time(-2_147_483_648, 0), "ext4 keeps none before 1901-12-13"),
            (time(7, 123_456_789), time(7, 0), "ext4 keeps whole seconds only"),
            (time(7, 123_456_789), time(6, 0), "ext4 keeps every other second only"),
            (time(7, 123_456_789), time(7, 123_456_700), "ext4 keeps fewer digits of a second"),
            (time(7, 123_456_789), time(7, 123_456_000), "ext4 keeps fewer digits of a second"),
            (time(7, 123_456_789), time(7, 120_000_000), "ext4 keeps fewer digits of a second"),
            (time(7, 3_000_000), time(7, 0), "ext4 keeps whole seconds only"),
            (time(-7, 500_000_000), time(-7, 0), "ext4 keeps whole seconds only"),
        ] {
            assert_eq!(times("ext4", set, found), words, "{set:?}");
        }
    }

    #[test]
    fn the_present_is_no_bound() {
        assert_eq!(times("fuse", Time::from_seconds(7), Time::now()), "fuse shows the time of writing");
    }

    #[test]
    fn reasons_have_no_numbers() {
        assert_eq!(reason(&io::Error::from_raw_os_error(1)), NOT_PERMITTED);
        assert_eq!(reason(&io::Error::from_raw_os_error(95)), "operation not supported");
        assert_eq!(reason(&io::Error::other("it is gone")), "it is gone");
    }
}
