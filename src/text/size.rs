//! Byte sizes: shown in powers of 1000 as disks are sold ("1.48 GB"), typed as in restic, where `k`, `M`, `G` and
//! `T` are powers of 1024.

const UNITS: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];

/// A size for people, three digits: "512 B", "1.48 GB", "17.4 GB", "227 MB".
#[must_use]
pub fn show(bytes: u64) -> String {
    let mut unit = 0;
    let mut scale = 1_u128; // 128 bits: no step below can overflow, whatever `bytes` is
    let bytes = u128::from(bytes);
    // 999.5 of a unit would round to four digits, so it is shown as 1.00 of the next.
    while unit + 1 < UNITS.len() && bytes * 2 >= 1999 * scale && bytes >= 1000 {
        unit += 1;
        scale *= 1000;
    }
    let name = UNITS[unit];
    if unit == 0 {
        return format!("{bytes} {name}");
    }
    let hundredths = (bytes * 100 + scale / 2) / scale;
    if hundredths < 1000 {
        return format!("{}.{:02} {name}", hundredths / 100, hundredths % 100);
    }
    let tenths = (bytes * 10 + scale / 2) / scale;
    if tenths < 1000 {
        return format!("{}.{} {name}", tenths / 10, tenths % 10);
    }
    format!("{} {name}", count_u128((bytes + scale / 2) / scale))
}

/// A number with thousands separated: "86,573".
#[must_use]
pub fn count(number: u64) -> String {
    count_u128(u128::from(number))
}

fn count_u128(number: u128) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// "1 file", "86,573 files".
#[must_use]
pub fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
}

/// `part` of `whole` in percent, for a sentence; a whole of nothing is done.
#[must_use]
pub fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 100.0 } else { part as f64 * 100.0 / whole as f64 }
}

/// Parses a size as restic does: a whole number of bytes, with a suffix of `B`, `k`, `M`, `G` or `T` (either case,
/// powers of 1024).
///
/// # Errors
/// A sentence for the command line when it is anything else, or does not fit in 64 bits.
pub fn parse(text: &str) -> Result<u64, String> {
    let bad = || format!("{text:?} is not a size: expected a whole number with B, k, M, G or T, such as 500M");
    let (digits, shift) = match text.as_bytes().last() {
        Some(b'0'..=b'9') => (text, 0),
        Some(b'b' | b'B') => (&text[..text.len() - 1], 0),
        Some(b'k' | b'K') => (&text[..text.len() - 1], 10),
        Some(b'm' | b'M') => (&text[..text.len() - 1], 20),
        Some(b'g' | b'G') => (&text[..text.len() - 1], 30),
        Some(b't' | b'T') => (&text[..text.len() - 1], 40),
        _ => return Err(bad()),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(bad());
    }
    let number: u64 = digits.parse().map_err(|_| format!("{text:?} is more than 64 bits can count"))?;
    number.checked_mul(1 << shift).ok_or_else(|| format!("{text:?} is more than 64 bits can count"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.00 kB"),
            (1_005, "1.01 kB"),
            (9_994, "9.99 kB"),
            (9_995, "10.0 kB"),
            (99_949, "99.9 kB"),
            (99_950, "100 kB"),
            (227_000_000, "227 MB"),
            (999_499, "999 kB"),
            (999_500, "1.00 MB"),
            (1_480_000_000, "1.48 GB"),
            (17_400_000_000, "17.4 GB"),
            (u64::MAX, "18,447 PB"),
        ] {
            assert_eq!(show(bytes), text, "{bytes}");
        }
    }

    #[test]
    fn counts_are_grouped() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(86_573), "86,573");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(counted(1, "file", "files"), "1 file");
        assert_eq!(counted(2000, "file", "files"), "2,000 files");
    }

    #[test]
    fn sizes_are_typed_as_in_restic() {
        for (text, bytes) in [("0", 0), ("10", 10), ("10b", 10), ("10k", 10_240), ("1M", 1 << 20), ("2g", 2 << 30)] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
        assert_eq!(parse("3T"), Ok(3 << 40));
        for text in
            ["", "k", "-1", "+1", "1.5G", "1 k", "10kb", "ten", "18446744073709551616", "99999999T", "１k", "1é"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_share_of_nothing_is_all_of_it() {
        assert_eq!(percent(0, 0), 100.0);
        assert_eq!(percent(1, 4), 25.0);
    }
}
