//! What differs between two runs and cannot be fixed, and the names that stand for it on a page.

use std::collections::HashMap;
use std::time::SystemTime;

use super::World;

/// Gives what differs a name; the same thing has the same name all over a page.
#[derive(Clone)]
pub struct Redaction {
    /// By kind and text.
    names: HashMap<(&'static str, String), usize>,
    nameless: bool,
    /// Fields and lines of sizes that differ in what comes now.
    sizes: &'static [&'static str],
    now: i64,
}

/// Fields that differ; so do those whose names begin or end with "seconds".
const VARYING: [&str; 14] = [
    "total_duration",
    "disk_bytes",
    "disk_free_bytes",
    "data_added",
    "inode",
    "device",
    "links",
    "uid",
    "gid",
    "user",
    "group",
    "username",
    "os",
    "arch",
];

impl Redaction {
    pub fn new() -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let now = i64::try_from(now).unwrap();
        Self { names: HashMap::new(), nameless: false, sizes: &[], now }
    }

    /// From here on all that is alike has one name.
    pub fn forget_names(&mut self) {
        self.nameless = true;
    }

    /// Which sizes are those of listings in what comes next. They differ: listings hold the names of the user and his group, and are
    /// compressed.
    pub fn listings_are_in(&mut self, sizes: &'static [&'static str]) {
        self.sizes = sizes;
    }

    fn varies(&self, field: &str) -> bool {
        VARYING.contains(&field)
            || self.sizes.contains(&field)
            || field.starts_with("seconds")
            || field.ends_with("seconds")
    }

    fn name(&mut self, kind: &'static str, of: &str) -> usize {
        if self.nameless {
            return 0;
        }
        let next = self.names.keys().filter(|(other, _)| *other == kind).count() + 1;
        *self.names.entry((kind, of.to_owned())).or_insert(next)
    }

    /// The text with names in place of what differs.
    pub fn redact(&mut self, world: &World, text: &str) -> String {
        let root = world.path("");
        let root = root.to_str().unwrap().trim_end_matches('/');
        let text: String = text
            .replace(root, "<world>")
            .replace(concat!("packstone ", env!("CARGO_PKG_VERSION")), "packstone <version>")
            .replace(concat!("\"version\":\"", env!("CARGO_PKG_VERSION"), "\""), "\"version\":\"<version>\"")
            .replace(&format!("on {}/{}\n", std::env::consts::OS, std::env::consts::ARCH), "on <system>\n")
            .split_inclusive('\n')
            .filter(|line| !is_progress(line))
            .collect();
        let (mut shown, mut rest, mut before) = (String::with_capacity(text.len()), text.as_str(), '\n');
        while let Some(next) = rest.chars().next() {
            let is_inside = before.is_alphanumeric() && next.is_alphanumeric() || before == '.';
            let found = if is_inside { None } else { self.found(rest, before) };
            let length = match found {
                Some((name, length)) => {
                    shown.push_str(&name);
                    length
                }
                None => {
                    shown.push(next);
                    next.len_utf8()
                }
            };
            before = rest[..length].chars().next_back().unwrap();
            rest = &rest[length..];
        }
        narrow(&shown)
    }

    /// What a text begins with that differs: its name and its length.
    fn found(&mut self, text: &str, before: char) -> Option<(String, usize)> {
        self.value(text)
            .or_else(|| self.line(text, before))
            .or_else(|| added(text))
            .or_else(|| self.copy(text))
            .or_else(|| user(text))
            .or_else(|| owner(text))
            .or_else(|| room(text))
            .or_else(|| self.folder(text))
            .or_else(|| self.id(text))
            .or_else(|| self.code(text))
            .or_else(|| self.time(text))
            .or_else(|| duration(text))
    }

    /// A field of a JSON object.
    fn value(&self, text: &str) -> Option<(String, usize)> {
        let (key, value) = text.strip_prefix('"')?.split_once("\":")?;
        let length = value.find([',', '}', '\n'])?;
        // Not every file system has it.
        if key == "btime" {
            return Some((String::new(), key.len() + 3 + length + 1));
        }
        let varies = self.varies(key) && !value.starts_with("null");
        varies.then(|| (format!("\"{key}\":<varies>"), key.len() + 3 + length))
    }

    /// The same of an object in lines of text.
    fn line(&self, text: &str, before: char) -> Option<(String, usize)> {
        let end = text.find('\n')?;
        if let Some(label) = self.sizes.iter().find(|label| label.ends_with(':') && text.starts_with(**label)) {
            let value = text[label.len()..end].trim_start();
            let start = end - value.len();
            let shown = value.split_once(" (").map_or(value, |(value, _)| value);
            return Some((format!("{}<varies>", &text[..start]), start + shown.len()));
        }
        // Several fields of a small object stand in one line.
        if let Some((key, rest)) = text[..end].split_once(' ')
            && !rest.starts_with(' ')
        {
            let digits = rest.find(|next: char| !next.is_ascii_digit()).unwrap_or(rest.len());
            let varies = before == ' ' && digits > 0 && self.varies(key);
            return varies.then(|| (format!("{key} <varies>"), key.len() + 1 + digits));
        }
        let (key, value) = text[..end].split_once("  ")?;
        if key == "btime" && before == '\n' {
            return Some((String::new(), end + 1));
        }
        let value = value.trim_start();
        if ![' ', '\n'].contains(&before) || !self.varies(key) || value.is_empty() {
            return None;
        }
        let start = end - value.len();
        Some((format!("{}<varies>", &text[..start]), end))
    }

    /// What is remembered of another copy: the file is named by its place.
    fn copy(&mut self, text: &str) -> Option<(String, usize)> {
        let name = text.strip_prefix("-copy-").filter(|name| hex(name) == 16)?;
        Some((format!("-copy-<place {}>", self.name("place", &name[..16])), 22))
    }

    /// The folder of a pack, named by the first digits of its id.
    fn folder(&self, text: &str) -> Option<(String, usize)> {
        let (folder, rest) = text.split_once('/')?;
        let is_folder = folder.len() == 2 && hex(rest) == 64 && rest.starts_with(folder);
        is_folder.then(|| ("<first digits>".to_owned(), 2))
    }

    /// An object id or a key's id, in full or its beginning.
    fn id(&mut self, text: &str) -> Option<(String, usize)> {
        let length = hex(text);
        let ends = !text[length..].starts_with(|next: char| next.is_alphanumeric());
        let kind = match length {
            8 => "id",
            64 => "ID",
            _ => return None,
        };
        ends.then(|| (format!("<{kind} {}>", self.name("id", &text[..8])), length))
    }

    /// A state code without its generation, or a recovery code.
    fn code(&mut self, text: &str) -> Option<(String, usize)> {
        let end = text.find(|next: char| next != '-' && !is_symbol(next)).unwrap_or(text.len());
        let groups: Vec<&str> = text[..end].split('-').collect();
        let lengths: Vec<usize> = groups.iter().map(|group| group.len()).collect();
        if let [digits, 4, 4, 4, 4, 1] = lengths[..]
            && text[..digits].bytes().all(|byte| byte.is_ascii_digit())
        {
            let name = self.name("state code", &text[..end]);
            return Some((format!("{}-<state code {name}>", &text[..digits]), end));
        }
        let is_recovery_code = lengths.len() >= 6 && lengths.iter().all(|length| *length == 4);
        is_recovery_code.then(|| (format!("<recovery code {}>", self.name("recovery code", &text[..end])), end))
    }

    /// A time that is not one of those that the tests set: about now, or so many days from now.
    fn time(&self, text: &str) -> Option<(String, usize)> {
        let number = |text: &str| text.parse::<i64>().ok();
        let at = |range: std::ops::Range<usize>| text.get(range).and_then(number);
        let is_date = text.get(4..5) == Some("-") && text.get(7..8) == Some("-");
        let (year, month, day) = is_date.then_some((at(0..4)?, at(5..7)?, at(8..10)?))?;
        let has_time = text.get(13..14) == Some(":") && text.get(16..17) == Some(":");
        let seconds = match has_time {
            true => at(11..13)? * 3600 + at(14..16)? * 60 + at(17..19)?,
            false => self.now.rem_euclid(86_400),
        };
        let away = days(year, month, day) * 86_400 + seconds - self.now;
        let away = (away as f64 / 86_400.0).round() as i64;
        if away.abs() > 400 {
            return None;
        }
        if !has_time {
            // Midnight may pass meanwhile.
            return (away.abs() <= 1).then(|| ("<today>".to_owned(), 10));
        }
        let away = match away {
            0 => String::new(),
            days if days > 0 => format!(" + {days} d"),
            days => format!(" - {} d", -days),
        };
        if text.get(10..11) == Some(" ") {
            return Some((format!("<now{away}>"), 19));
        }
        let fraction = text[19..].find(|next: char| next != '.' && !next.is_ascii_digit())?;
        let end = 19 + fraction;
        text[end..].starts_with("+00:00").then(|| (format!("<now{away}, RFC 3339>"), end + 6))
    }

    /// No path of this machine may stand on a page.
    pub fn assert_no_path_of_this_machine(page: &str) {
        let temporary = std::env::temp_dir();
        for path in [env!("CARGO_MANIFEST_DIR"), temporary.to_str().unwrap()] {
            assert!(!page.contains(&format!("{path}/")), "{path} is on the page:\n{page}");
        }
    }
}

/// The columns of a table are as wide as what was in them: where a duration was, they are made narrow.
fn narrow(text: &str) -> String {
    let is_rule = |line: &str| line.len() > 10 && line.bytes().all(|byte| byte == b'-');
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let rules: Vec<usize> = (0..lines.len()).filter(|line| is_rule(lines[*line].trim_end())).collect();
    // The names of the columns stand above the first rule.
    let tables = rules.windows(2).map(|pair| pair[0].saturating_sub(1)..pair[1] + 1);
    let tables: Vec<_> = tables.filter(|table| lines[table.clone()].concat().contains("<duration>")).collect();
    let line = |(number, line): (usize, &&str)| {
        if !tables.iter().any(|table| table.contains(&number)) {
            return (*line).to_owned();
        }
        let line = line.trim_end();
        let line = if is_rule(line) { "----" } else { line };
        let words: Vec<&str> = line.split("  ").map(str::trim).filter(|word| !word.is_empty()).collect();
        words.join("  ") + "\n"
    };
    lines.iter().enumerate().map(line).collect()
}

/// How much room is on the disk.
fn room(text: &str) -> Option<(String, usize)> {
    let (room, _) = text.strip_prefix("disk: ")?.split_once(" free\n")?;
    (!room.contains('\n')).then(|| ("disk: <room> of <size>".to_owned(), 6 + room.len()))
}

/// Whoever runs the tests, as who has made a snapshot.
fn user(text: &str) -> Option<(String, usize)> {
    let (user, _) = text.strip_prefix("by ")?.split_once('@')?;
    (!user.contains(char::is_whitespace)).then(|| ("by <user>".to_owned(), 3 + user.len()))
}

/// A mode, and the numbers of the owner and the group behind it.
fn owner(text: &str) -> Option<(String, usize)> {
    let mode = text.get(..10).filter(|mode| mode.bytes().all(|byte| b"-dlrwxsStT".contains(&byte)))?;
    let number = |text: &str| {
        let blanks = text.find(|next: char| next != ' ').filter(|blanks| *blanks > 0)?;
        let digits = text[blanks..].find(|next: char| !next.is_ascii_digit()).filter(|digits| *digits > 0)?;
        Some(blanks + digits)
    };
    let first = number(&text[10..])?;
    let second = number(&text[10 + first..])?;
    Some((format!("{mode} <owner> <group>"), 10 + first + second))
}

/// Progress in JSON comes as often as time passes.
fn is_progress(line: &str) -> bool {
    line.starts_with("{\"message_type\":\"status\",")
}

/// How much of a snapshot is new, listings and all.
fn added(text: &str) -> Option<(String, usize)> {
    let (size, _) = text.strip_prefix("read, ")?.split_once(" new,")?;
    (!size.contains('\n')).then(|| ("read, <size>".to_owned(), 6 + size.len()))
}

/// How many digits of an id a text begins with.
fn hex(text: &str) -> usize {
    text.find(|next: char| !matches!(next, '0'..='9' | 'a'..='f')).unwrap_or(text.len())
}

/// A symbol of Crockford's base 32.
fn is_symbol(next: char) -> bool {
    next.is_ascii_digit() || next.is_ascii_uppercase() && !"ILOU".contains(next)
}

/// Days since 1970, of the Gregorian calendar.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1 - 719_468
}

/// How long something took, or how old it is, in the program's words: "0.4 s", "41 s", "5 min 02 s", "2 h 07 min", "3 d 4 h".
fn duration(text: &str) -> Option<(String, usize)> {
    let digits = |text: &str| text.find(|next: char| !next.is_ascii_digit()).unwrap_or(text.len());
    let first = digits(text);
    if first == 0 {
        return None;
    }
    let rest = &text[first..];
    let length = if let Some(rest) = rest.strip_prefix('.') {
        let tenths = digits(rest);
        (tenths == 1 && rest[1..].starts_with(" s")).then_some(first + 4)?
    } else if rest.starts_with(" s") {
        first + 2
    } else {
        let (unit, last) =
            [(" min ", " s"), (" h ", " min"), (" d ", " h")].into_iter().find(|(unit, _)| rest.starts_with(unit))?;
        let second = digits(&rest[unit.len()..]);
        let end = unit.len() + second;
        (second > 0 && rest[end..].starts_with(last)).then_some(first + end + last.len())?
    };
    (!text[length..].starts_with(|next: char| next.is_alphanumeric())).then(|| ("<duration>".to_owned(), length))
}
