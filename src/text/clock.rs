//! Points in time, shown in the user's time zone and typed in it.

use crate::base::time::Time;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

/// The user's time zone: `TZ`, else the system's, else UTC.
#[must_use]
pub fn local_zone() -> TimeZone {
    TimeZone::system()
}

fn zoned(time: Time, zone: &TimeZone) -> Option<Zoned> {
    let nanoseconds = i32::try_from(time.nanoseconds).ok()?;
    Some(Timestamp::new(time.seconds, nanoseconds).ok()?.to_zoned(zone.clone()))
}

/// The time on the wall; what no calendar holds is its first or last moment.
#[must_use]
pub fn local_time(time: Time, zone: &TimeZone) -> DateTime {
    let clamped = match Timestamp::new(time.seconds, i32::try_from(time.nanoseconds).unwrap_or(0)) {
        Ok(timestamp) => timestamp,
        Err(_) if time.seconds < 0 => Timestamp::MIN,
        Err(_) => Timestamp::MAX,
    };
    Zoned::new(clamped, zone.clone()).datetime()
}

/// A time for people: "2026-11-20 10:02:11". One that no calendar holds is shown as seconds: "@-99999999999999".
#[must_use]
pub fn show(time: Time, zone: &TimeZone) -> String {
    zoned(time, zone)
        .map_or_else(|| format!("@{}", time.seconds), |zoned| zoned.strftime("%Y-%m-%d %H:%M:%S").to_string())
}

/// A time for programs, as restic writes it: RFC 3339 with nanoseconds and offset.
/// One that no calendar holds is written as seconds and nanoseconds since 1970: "@-99999999999999.000000000".
#[must_use]
pub fn rfc3339(time: Time, zone: &TimeZone) -> String {
    zoned(time, zone).map_or_else(
        || format!("@{}.{:09}", time.seconds, time.nanoseconds),
        |zoned| zoned.strftime("%Y-%m-%dT%H:%M:%S%.f%:z").to_string(),
    )
}

/// Forms of a date with a time that are understood, most exact first. Without an offset it is local time.
const FORMS: [&str; 5] =
    ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M", "%d.%m.%Y %H:%M:%S"];

/// Parses a time as restic's `--time` does: "now", "2012-11-01 22:08:41", also without seconds or time of day, or with
/// an offset ("2012-11-01 22:08:41 +02:00", "2012-11-01T22:08:41Z").
///
/// # Errors
/// A sentence for the command line.
pub fn parse(text: &str) -> Result<Time, String> {
    parse_in(text, &local_zone())
}

/// Parses a time as [`parse`] does, or how long ago it was: "7d", "2y5m7d3h".
///
/// # Errors
/// A sentence for the command line.
pub fn parse_past(text: &str) -> Result<Time, String> {
    match crate::text::span::parse_span(text) {
        Ok(span) => Ok(span.before(Time::now(), &local_zone())),
        Err(_) => parse(text).map_err(|_| {
            format!("{text:?} is neither a time such as \"2012-11-01 22:08:41\" nor a span such as 7d or 1y6m")
        }),
    }
}

fn parse_in(text: &str, zone: &TimeZone) -> Result<Time, String> {
    let bad = || format!("{text:?} is not a time: expected now, or a time such as \"2012-11-01 22:08:41\"");
    if text == "now" {
        return Ok(Time::now());
    }
    if let Ok(timestamp) = text.parse::<Timestamp>() {
        return Ok(from_timestamp(timestamp));
    }
    for form in ["%Y-%m-%d %H:%M:%S%.f %:z", "%Y-%m-%d %H:%M:%S%.f %z"] {
        if let Ok(timestamp) = Timestamp::strptime(form, text) {
            return Ok(from_timestamp(timestamp));
        }
    }
    let civil = FORMS.iter().find_map(|form| DateTime::strptime(form, text).ok()).or_else(|| {
        let date = ["%Y-%m-%d", "%d.%m.%Y"];
        date.iter().find_map(|form| jiff::civil::Date::strptime(form, text).ok()).map(|date| date.at(0, 0, 0, 0))
    });
    let zoned = civil.ok_or_else(bad)?.to_zoned(zone.clone()).map_err(|_| bad())?;
    Ok(from_timestamp(zoned.timestamp()))
}

fn from_timestamp(timestamp: Timestamp) -> Time {
    let nanoseconds = timestamp.as_nanosecond();
    let seconds = nanoseconds.div_euclid(1_000_000_000);
    let rest = nanoseconds.rem_euclid(1_000_000_000);
    // Timestamps span the years -9999 to 9999 and a remainder is below 10^9, so both fit.
    Time { seconds: seconds as i64, nanoseconds: rest as u32 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::tz::Offset;

    fn berlin_winter() -> TimeZone {
        TimeZone::fixed(Offset::constant(1))
    }

    #[test]
    fn times_are_shown_in_the_given_zone() {
        let time = Time { seconds: 1_351_807_721, nanoseconds: 5 };
        assert_eq!(show(time, &TimeZone::UTC), "2012-11-01 22:08:41");
        assert_eq!(show(time, &berlin_winter()), "2012-11-01 23:08:41");
        assert_eq!(rfc3339(time, &berlin_winter()), "2012-11-01T23:08:41.000000005+01:00");
        assert_eq!(rfc3339(Time::from_seconds(0), &TimeZone::UTC), "1970-01-01T00:00:00+00:00");
        let before = Time { seconds: -1, nanoseconds: 500_000_000 };
        assert_eq!(rfc3339(before, &TimeZone::UTC), "1969-12-31T23:59:59.5+00:00");
    }

    #[test]
    fn times_beyond_every_calendar_are_still_shown() {
        assert_eq!(show(Time::from_seconds(i64::MAX), &TimeZone::UTC), format!("@{}", i64::MAX));
        assert_eq!(rfc3339(Time::from_seconds(i64::MIN), &TimeZone::UTC), format!("@{}.000000000", i64::MIN));
        assert_eq!(show(Time { seconds: 0, nanoseconds: u32::MAX }, &TimeZone::UTC), "@0");
    }

    #[test]
    fn times_are_typed_as_in_restic() {
        let zone = berlin_winter();
        for text in [
            "2012-11-01 23:08:41",
            "2012-11-01T23:08:41",
            "01.11.2012 23:08:41",
            "2012-11-01 22:08:41 +00:00",
            "2012-11-01 22:08:41 +0000",
            "2012-11-01T22:08:41Z",
        ] {
            assert_eq!(parse_in(text, &zone), Ok(Time::from_seconds(1_351_807_721)), "{text}");
        }
        assert_eq!(parse_in("1969-12-31", &zone), Ok(Time::from_seconds(-90_000)));
        assert_eq!(parse_in("1970-01-01 00:59:59.5", &zone), Ok(Time { seconds: -1, nanoseconds: 500_000_000 }));
        for text in ["", "yesterday", "2012-13-01", "2012-11-01 25:00", "1351807721"] {
            assert!(parse_in(text, &zone).is_err(), "{text}");
        }
        assert!(parse_in("now", &zone).is_ok());
        assert_eq!(parse_past("2012-11-01T22:08:41Z"), Ok(Time::from_seconds(1_351_807_721)));
        let (yesterday, now) = (parse_past("24h").unwrap_or_default(), Time::now());
        assert!((86_400..86_460).contains(&(now.seconds - yesterday.seconds)));
        assert!(parse_past("7").is_err() && parse_past("soon").is_err());
    }
}
