//! What an entry is called in an archive.
//!
//! A tar keeps every name as it is: it is unpacked where names are bytes. A zip is unpacked anywhere, and there a name may be a way out
//! of the directory (`..\..\x`), a drive, a device (`NUL`), or the name that another entry has already. So in a zip
//!
//! - each byte of a name that means something elsewhere, or that is no UTF-8, is written as `%` and two hexadecimal digits, and in a
//!   name that is changed every `%` is, so that the name can be read back;
//! - of two names in a directory that are one elsewhere (upper and lower case, forms of Unicode, ß and ss) the second is written so
//!   from its beginning, as far as it takes;
//! - what still has no name of its own is left out.
//!
//! In any archive, what would be an absolute name or a way up is left out. No snapshot of ours holds one.

use std::collections::HashSet;

use icu_normalizer::DecomposingNormalizerBorrowed;

/// Which names an archive may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Any bytes: tar.
    Bytes,
    /// Only what is the same name on every system: zip.
    Everywhere,
}

/// What an entry is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Called {
    /// As in the snapshot.
    Itself,
    /// So, for this reason: the rest of a sentence.
    Other(Vec<u8>, &'static str),
    /// It cannot be in the archive, for this reason.
    Nothing(&'static str),
}

const ELSEWHERE: &str = "other systems take its name for something else";
const ALIKE: &str = "other systems do not tell its name from another one's";
const NO_NAME: &str = "is not in the archive: no name is left for it";
const NO_WAY: &str = "is not in the archive: its name leads out of it";
const TOO_LONG: &str = "is not in the archive: its path is too long for a zip";
const ABOVE: &str = "is not in the archive: the directory that it lies in is not";

/// Longest path in a zip, in bytes: its length has 16 bits, and a directory's ends with a slash.
const ZIP_PATH_BYTES_MAX: usize = u16::MAX as usize - 1;

/// Names of devices of Windows, in any case and with anything behind a dot. A digit follows the last two, also a raised one.
const DEVICES: [&str; 6] = ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"];
const NUMBERED_DEVICES: [&str; 2] = ["COM", "LPT"];

/// A directory that the walk is in.
#[derive(Debug)]
struct Level {
    /// Its path, and what that is in the archive.
    path: Vec<u8>,
    called: Vec<u8>,
    /// The names in it, as systems see them that do not tell all apart.
    taken: HashSet<String>,
}

/// The names of an archive: each entry is asked for once, a directory before what lies in it.
#[derive(Debug)]
pub(super) struct Names {
    kind: Kind,
    levels: Vec<Level>,
    /// A directory that is not in the archive.
    left_out: Option<Vec<u8>>,
}

impl Names {
    /// None are in it yet.
    pub fn of(kind: Kind) -> Self {
        Self { kind, levels: Vec::new(), left_out: None }
    }

    /// What the entry at this path, without a slash before it, is called.
    pub fn call(&mut self, path: &[u8]) -> Called {
        let leads_out = |name: &[u8]| matches!(name, b"" | b"." | b"..") || name.contains(&0);
        if path.split(|byte| *byte == b'/').any(leads_out) {
            return Called::Nothing(NO_WAY);
        }
        if self.left_out.as_deref().is_some_and(|above| is_beneath(path, above)) {
            return Called::Nothing(ABOVE);
        }
        match self.kind {
            Kind::Bytes => Called::Itself,
            Kind::Everywhere => self.call_everywhere(path),
        }
    }

    fn call_everywhere(&mut self, path: &[u8]) -> Called {
        let (parent, name) = match path.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => (&path[..slash], &path[slash + 1..]),
            None => (&path[..0], path),
        };
        let level = self.level(parent);
        let plain = changed(name, 0);
        let mut found = Some((plain.clone().unwrap_or_else(|| name.to_vec()), ELSEWHERE));
        let mut written = 0;
        while let Some((called, _)) = &found {
            if level.taken.insert(alike(called)) {
                break;
            }
            written += 1;
            // The same again: every byte of it is written already.
            found = (written <= name.len()).then(|| (changed(name, written).unwrap_or_default(), ALIKE));
        }
        let Some((called, why)) = found else {
            self.left_out = Some(path.to_vec());
            return Called::Nothing(NO_NAME);
        };
        let whole = match level.called.as_slice() {
            b"" => called.clone(),
            above => [above, b"/", &called].concat(),
        };
        if whole.len() > ZIP_PATH_BYTES_MAX {
            self.left_out = Some(path.to_vec());
            return Called::Nothing(TOO_LONG);
        }
        let is_other = whole != path;
        self.levels.push(Level { path: path.to_vec(), called: whole.clone(), taken: HashSet::new() });
        if is_other { Called::Other(whole, why) } else { Called::Itself }
    }

    /// The directory of this path. One that no entry has made, above the part that was asked for, is called as it can be.
    fn level(&mut self, path: &[u8]) -> &mut Level {
        while self.levels.last().is_some_and(|level| !level.path.is_empty() && !is_beneath(path, &level.path)) {
            self.levels.pop();
        }
        if self.levels.is_empty() {
            self.levels.push(Level { path: Vec::new(), called: Vec::new(), taken: HashSet::new() });
        }
        let known = self.levels.last().map_or(0, |level| level.path.len());
        let mut called = self.levels.last().map(|level| level.called.clone()).unwrap_or_default();
        let rest = path.get(known..).unwrap_or_default();
        for name in rest.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
            if !called.is_empty() {
                called.push(b'/');
            }
            called.extend_from_slice(&changed(name, 0).unwrap_or_else(|| name.to_vec()));
        }
        if !rest.is_empty() {
            self.levels.push(Level { path: path.to_vec(), called, taken: HashSet::new() });
        }
        let last = self.levels.len() - 1;
        &mut self.levels[last]
    }
}

/// True for a directory's own path and what lies in it.
fn is_beneath(path: &[u8], above: &[u8]) -> bool {
    path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}

/// A name with all that must not be in it written as `%` and digits, and at least its first `written` bytes. None when nothing is.
fn changed(name: &[u8], written: usize) -> Option<Vec<u8>> {
    let mut is_written: Vec<bool> = (0..name.len()).map(|at| at < written).collect();
    let mut at = 0;
    for chunk in name.utf8_chunks() {
        for character in chunk.valid().chars() {
            let length = character.len_utf8();
            let is_bad = character.is_control() || r#"\:*?"<>|"#.contains(character);
            is_written[at..at + length].iter_mut().for_each(|written| *written |= is_bad);
            at += length;
        }
        let length = chunk.invalid().len();
        is_written[at..at + length].fill(true);
        at += length;
    }
    // Windows drops dots and blanks at the end.
    if let (Some(last), Some(b'.' | b' ')) = (is_written.last_mut(), name.last()) {
        *last = true;
    }
    if is_device(name)
        && let Some(first) = is_written.first_mut()
    {
        *first = true;
    }
    // A character is written as a whole: what is left must be text.
    let mut at = 0;
    for chunk in name.utf8_chunks() {
        for character in chunk.valid().chars() {
            let bytes = &mut is_written[at..at + character.len_utf8()];
            let any = bytes.contains(&true);
            bytes.fill(any);
            at += character.len_utf8();
        }
        at += chunk.invalid().len();
    }
    if !is_written.contains(&true) {
        return None;
    }
    let mut out = Vec::with_capacity(name.len() + 8);
    for (byte, is_written) in name.iter().zip(is_written) {
        if is_written || *byte == b'%' {
            out.extend_from_slice(format!("%{byte:02X}").as_bytes());
        } else {
            out.push(*byte);
        }
    }
    Some(out)
}

/// True for what Windows takes for a device.
fn is_device(name: &[u8]) -> bool {
    let Some(stem) = name.split(|byte| *byte == b'.').next().and_then(|stem| std::str::from_utf8(stem).ok()) else {
        return false;
    };
    let stem = stem.trim_end_matches(' ').to_uppercase();
    let is_number = |rest: &str| {
        let mut rest = rest.chars();
        matches!((rest.next(), rest.next()), (Some('0'..='9' | '¹' | '²' | '³'), None))
    };
    DEVICES.contains(&stem.as_str())
        || NUMBERED_DEVICES.iter().any(|device| stem.strip_prefix(device).is_some_and(is_number))
}

/// The same for all names that are one on some system.
fn alike(name: &[u8]) -> String {
    let normal = DecomposingNormalizerBorrowed::new_nfd();
    let text = String::from_utf8_lossy(name);
    normal.normalize(&normal.normalize(&text).to_uppercase().to_lowercase()).into_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    fn call(names: &mut Names, path: &[u8]) -> String {
        match names.call(path) {
            Called::Itself => String::from_utf8_lossy(path).into_owned(),
            Called::Other(name, why) => format!("{} ({why})", String::from_utf8(name).unwrap()),
            Called::Nothing(why) => format!("- {why}"),
        }
    }

    #[test]
    fn a_name_in_a_zip_means_the_same_everywhere() {
        let table: [(&[u8], &str); 43] = [
            (b"plain.txt", "plain.txt"),
            ("Grüße 日本.txt".as_bytes(), "Grüße 日本.txt"),
            (b"100% sure", "100% sure"),
            (b" begins with a blank", " begins with a blank"),
            (b"...", "..%2E"),
            (b"-rf", "-rf"),
            (b".hidden", ".hidden"),
            (b"..x", "..x"),
            // A way out, a root, a drive, a stream of a file.
            (b"..\\..\\evil", "..%5C..%5Cevil"),
            (b"\\\\server\\share", "%5C%5Cserver%5Cshare"),
            (b"C:", "C%3A"),
            (b"C:evil", "C%3Aevil"),
            (b"file:stream", "file%3Astream"),
            (b"\\\\?\\C:", "%5C%5C%3F%5CC%3A"),
            // What a terminal or an extracting program may act on.
            (b"a\nb", "a%0Ab"),
            (b"a\x1b[2J", "a%1B[2J"),
            (b"\x7f", "%7F"),
            ("a\u{85}b".as_bytes(), "a%C2%85b"),
            // What Windows cannot have, and what it drops.
            (b"a*b?.txt", "a%2Ab%3F.txt"),
            (b"<a>|\"b\"", "%3Ca%3E%7C%22b%22"),
            (b"ends.", "ends%2E"),
            (b"ends ", "ends%20"),
            (b"ends. .", "ends. %2E"),
            // Devices.
            (b"NUL", "%4EUL"),
            (b"nul.txt", "%6Eul.txt"),
            (b"Con", "%43on"),
            (b"aux.c.orig", "%61ux.c.orig"),
            (b"prn .x", "%70rn .x"),
            (b"COM1", "%43OM1"),
            (b"lpt0.log", "%6Cpt0.log"),
            ("COM\u{b9}".as_bytes(), "%43OM\u{b9}"),
            (b"CONIN$", "%43ONIN$"),
            (b"COM", "COM"),
            (b"COM10", "COM10"),
            (b"console", "console"),
            (b"nul-1", "nul-1"),
            // No text.
            (b"caf\xe9", "caf%E9"),
            (b"\xff\xfe", "%FF%FE"),
            (b"\xc3\xa4\xe9", "\u{e4}%E9"),
            // What is changed can be read back.
            (b"50%\\x", "50%25%5Cx"),
            (b"%5C", "%5C"),
            (b"a%41:", "a%2541%3A"),
            (b"%", "%"),
        ];
        for (name, expected) in table {
            let mut names = Names::of(Kind::Everywhere);
            let expected = match expected.as_bytes() == name {
                true => expected.to_owned(),
                false => format!("{expected} ({ELSEWHERE})"),
            };
            assert_eq!(call(&mut names, name), expected, "{name:?}");
            assert_eq!(Names::of(Kind::Bytes).call(name), Called::Itself, "{name:?} in a tar");
        }
    }

    #[test]
    fn of_names_that_are_one_elsewhere_each_has_its_own() {
        let mut names = Names::of(Kind::Everywhere);
        for (path, expected) in [
            ("Makefile", "Makefile"),
            ("makefile", "%6Dakefile"),
            ("MAKEFILE", "%4DAKEFILE"),
            ("Makefile2", "Makefile2"),
            // One letter, and a letter with an accent behind it.
            ("\u{e4}", "\u{e4}"),
            ("a\u{308}", "%61\u{308}"),
            ("A\u{308}", "%41\u{308}"),
            ("stra\u{df}e", "stra\u{df}e"),
            ("strasse", "%73trasse"),
            ("\u{3c3}", "\u{3c3}"),
            ("\u{3c2}", "%CF%82"),
            // A name that looks like an escaped one.
            ("x:", "x%3A"),
            ("x%3a", "%78%253a"),
            ("x%3A", "%78%25%33A"),
            // A link and a directory: what goes into the one must not go through the other.
            ("link", "link"),
            ("LINK", "%4CINK"),
            ("LINK/passwd", "%4CINK/passwd"),
            ("LINK/Passwd", "%4CINK/%50asswd"),
            ("LINK/deeper", "%4CINK/deeper"),
            ("LINK/deeper/nul", "%4CINK/deeper/%6Eul"),
            ("other", "other"),
            ("other/Passwd", "other/Passwd"),
        ] {
            let called = call(&mut names, path.as_bytes());
            assert_eq!(called.split(" (").next(), Some(expected), "{path}");
        }
    }

    #[test]
    fn what_has_no_name_left_is_left_out_with_all_in_it() {
        let mut names = Names::of(Kind::Everywhere);
        for taken in ["%61", "A", "%41"] {
            call(&mut names, taken.as_bytes());
        }
        assert_eq!(call(&mut names, b"a"), format!("- {NO_NAME}"));
        assert_eq!(call(&mut names, b"a/file"), format!("- {ABOVE}"));
        assert_eq!(call(&mut names, b"ab"), "ab");
        let long = [b"x/".repeat(40_000), b"y".to_vec()].concat();
        assert_eq!(call(&mut names, &long), format!("- {TOO_LONG}"));
    }

    #[test]
    fn no_name_in_any_archive_leads_out_of_it() {
        for kind in [Kind::Bytes, Kind::Everywhere] {
            for path in ["", "/etc/passwd", "../x", "a/../x", "a/..", ".", "a//b", "a/", "a\0b"] {
                assert_eq!(Names::of(kind).call(path.as_bytes()), Called::Nothing(NO_WAY), "{path:?}");
            }
            for path in ["a/b", "...", "..a/b", "a/.b", &"x".repeat(4_000)] {
                assert!(!matches!(Names::of(kind).call(path.as_bytes()), Called::Nothing(_)), "{path:?}");
            }
        }
    }

    /// Names above the part that was asked for have no entries of their own.
    #[test]
    fn what_lies_above_the_first_entry_is_called_as_it_can_be() {
        let mut names = Names::of(Kind::Everywhere);
        assert_eq!(call(&mut names, b"a:/b/c").split(" (").next(), Some("a%3A/b/c"));
        assert_eq!(call(&mut names, b"a:/b/c/nul").split(" (").next(), Some("a%3A/b/c/%6Eul"));
        assert_eq!(call(&mut names, b"a:/b/C").split(" (").next(), Some("a%3A/b/%43"));
    }
}
