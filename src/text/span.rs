//! Spans of time, shown and typed.
//!
//! Two forms are typed, as in restic, and they differ: a *wait* counts seconds, minutes and hours (`90s`, `5m`,
//! `1h30m`); a *span* of the calendar counts hours, days, months and years (`2y5m7d3h`). `m` is minutes in the first
//! and months in the second.

use super::clock;
use crate::base::time::Time;
use jiff::Span as JiffSpan;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A span of the calendar: `2y5m7d3h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// Years.
    pub years: u32,
    /// Months.
    pub months: u32,
    /// Days.
    pub days: u32,
    /// Hours.
    pub hours: u32,
}

impl Span {
    /// True when it is no time at all: no such rule.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        *self == Self::default()
    }

    /// The time that lies so much before `time`. Days that a month does not have run on into the next one (a month before
    /// 31 March is 3 March, or 2 March in a leap year), as in restic. Before every calendar: the earliest time.
    #[must_use]
    pub fn before(&self, time: Time, zone: &TimeZone) -> Time {
        self.try_before(time, zone).unwrap_or(Time { seconds: i64::MIN, nanoseconds: 0 })
    }

    fn try_before(&self, time: Time, zone: &TimeZone) -> Option<Time> {
        let local = clock::local_time(time, zone);
        let months = i64::from(local.year()) * 12 + i64::from(local.month())
            - 1
            - i64::from(self.years) * 12
            - i64::from(self.months);
        let first = Date::new(i16::try_from(months.div_euclid(12)).ok()?, (months.rem_euclid(12) + 1) as i8, 1).ok()?;
        let days = i64::from(local.day()) - 1 - i64::from(self.days);
        let date = first.checked_add(JiffSpan::new().try_days(days).ok()?).ok()?;
        let zoned = date.to_datetime(local.time()).to_zoned(zone.clone()).ok()?;
        let timestamp = zoned.timestamp().checked_sub(JiffSpan::new().try_hours(i64::from(self.hours)).ok()?).ok()?;
        let nanoseconds = timestamp.as_nanosecond();
        Some(Time {
            seconds: nanoseconds.div_euclid(1_000_000_000) as i64,
            nanoseconds: nanoseconds.rem_euclid(1_000_000_000) as u32,
        })
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, unit) in [(self.years, 'y'), (self.months, 'm'), (self.days, 'd'), (self.hours, 'h')] {
            if number > 0 {
                write!(f, "{number}{unit}")?;
            }
        }
        Ok(())
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parse_span(text)
    }
}

/// A duration for people: "0.4 s", "3.8 s", "41 s", "5 min 02 s", "2 h 07 min", "3 d 4 h".
#[must_use]
pub fn show(duration: Duration) -> String {
    let tenths = duration.as_millis().saturating_add(50) / 100;
    if tenths < 100 {
        return format!("{}.{} s", tenths / 10, tenths % 10);
    }
    let seconds = duration.as_millis().saturating_add(500) / 1000;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {:02} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// The time that is left, to a tenth of itself: "12 s left", "2 min 20 s left", "25 min left", "2 h 10 min left".
#[must_use]
pub fn show_left(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..100 => format!("{seconds} s left"),
        100..595 => match (seconds + 5) / 10 * 10 {
            tens if tens % 60 == 0 => format!("{} min left", tens / 60),
            tens => format!("{} min {} s left", tens / 60, tens % 60),
        },
        595..3600 => format!("{} min left", (seconds + 30) / 60),
        _ => format!("{} h {:02} min left", seconds / 3600, seconds / 60 % 60),
    }
}

/// Splits `1h30m` into numbers and their unit characters.
fn parts(text: &str) -> Option<Vec<(u64, char)>> {
    let mut found = Vec::new();
    let mut number: Option<u64> = None;
    for character in text.chars() {
        if let Some(digit) = character.to_digit(10) {
            number = Some(number.unwrap_or(0).checked_mul(10)?.checked_add(u64::from(digit))?);
        } else {
            found.push((number.take()?, character));
        }
    }
    (number.is_none() && !found.is_empty()).then_some(found)
}

/// Parses how long to wait: `90s`, `5m`, `1h30m`, or `0`.
///
/// # Errors
/// A sentence for the command line.
pub fn parse_wait(text: &str) -> Result<Duration, String> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let seconds = parts(text).and_then(|parts| {
        parts.into_iter().try_fold(0_u64, |sum, (number, unit)| {
            let factor = match unit {
                's' => 1,
                'm' => 60,
                'h' => 3600,
                _ => return None,
            };
            sum.checked_add(number.checked_mul(factor)?)
        })
    });
    seconds.map(Duration::from_secs).ok_or_else(|| {
        format!("{text:?} is not a waiting time: expected hours, minutes and seconds such as 1h30m or 90s")
    })
}

/// Parses a span of the calendar: `2y5m7d3h`, each unit at most once and in any order.
///
/// # Errors
/// A sentence for the command line.
pub fn parse_span(text: &str) -> Result<Span, String> {
    let bad = || format!("{text:?} is not a span: expected years, months, days and hours such as 2y5m7d3h");
    let mut span = Span::default();
    let mut seen = [false; 4];
    for (number, unit) in parts(text).ok_or_else(bad)? {
        let number = u32::try_from(number).map_err(|_| bad())?;
        let (index, field) = match unit {
            'y' => (0, &mut span.years),
            'm' => (1, &mut span.months),
            'd' => (2, &mut span.days),
            'h' => (3, &mut span.hours),
            _ => return Err(bad()),
        };
        if std::mem::replace(&mut seen[index], true) {
            return Err(bad());
        }
        *field = number;
    }
    Ok(span)
}

/// Parses a span of a fixed length: as [`parse_span`], with 365 days in a year and 30 in a month, or `0`.
///
/// # Errors
/// A sentence for the command line.
pub fn parse_days(text: &str) -> Result<Duration, String> {
    let Span { years, months, days, hours } = match text {
        "0" => Span::default(),
        text => parse_span(text)?,
    };
    let days = u64::from(years) * 365 + u64::from(months) * 30 + u64::from(days);
    Ok(Duration::from_secs((days * 24 + u64::from(hours)) * 3600))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_well() {
        for (millis, text) in [
            (0, "0.0 s"),
            (3_840, "3.8 s"),
            (9_949, "9.9 s"),
            (9_950, "10 s"),
            (41_000, "41 s"),
            (302_000, "5 min 02 s"),
            (7_620_000, "2 h 07 min"),
            (273_600_000, "3 d 4 h"),
        ] {
            assert_eq!(show(Duration::from_millis(millis)), text, "{millis}");
        }
        assert_eq!(show_left(Duration::from_secs(140)), "2 min 20 s left");
        assert_eq!(show_left(Duration::from_secs(296)), "5 min left");
        assert_eq!(show_left(Duration::from_secs(594)), "9 min 50 s left");
        assert_eq!(show_left(Duration::from_secs(1_520)), "25 min left");
        assert_eq!(show_left(Duration::from_secs(3_599)), "60 min left");
        assert_eq!(show_left(Duration::from_secs(7_800)), "2 h 10 min left");
    }

    #[test]
    fn waits_count_minutes() {
        assert_eq!(parse_wait("0"), Ok(Duration::ZERO));
        assert_eq!(parse_wait("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_wait("1h30m"), Ok(Duration::from_secs(5400)));
        for text in ["", "5", "m", "5d", "1h30", "-5m", "99999999999999999999h", "9999999999999999999h"] {
            assert!(parse_wait(text).is_err(), "{text}");
        }
    }

    #[test]
    fn spans_count_months() {
        assert_eq!(parse_span("2y5m7d3h"), Ok(Span { years: 2, months: 5, days: 7, hours: 3 }));
        assert_eq!(parse_span("30d"), Ok(Span { days: 30, ..Default::default() }));
        for text in ["", "5", "5w", "5d5d", "d", "4294967296d"] {
            assert!(parse_span(text).is_err(), "{text}");
        }
    }

    #[test]
    fn spans_of_a_fixed_length_are_parsed() {
        assert_eq!(parse_days("0"), Ok(Duration::ZERO));
        assert_eq!(parse_days("7d"), Ok(Duration::from_secs(7 * 86_400)));
        assert_eq!(parse_days("1y1m1d1h"), Ok(Duration::from_secs((396 * 24 + 1) * 3600)));
        assert!(parse_days("7").is_err() && parse_days("7s").is_err());
    }
}
