//! The script: which commands a text suggests.
//!
//! A command begins with the word `packstone`, followed by an option or by the name of a command, and ends at the end of its line or before two
//! blanks that stand in no quotes. Of JSON every string is a text of its own. A line that begins with `Usage:` is clap's.

/// Commands of the program; what follows `packstone` in prose is none of them.
pub(super) const COMMANDS: [&str; 31] = [
    "init",
    "backup",
    "restore",
    "snapshots",
    "ls",
    "find",
    "deleted",
    "diff",
    "dump",
    "forget",
    "undelete",
    "tag",
    "hold",
    "release",
    "rewrite",
    "prune",
    "copy",
    "check",
    "stats",
    "status",
    "mirror",
    "sync",
    "recover",
    "drill",
    "key",
    "repair",
    "show",
    "cat",
    "completions",
    "man",
    "version",
];
/// The commands in one text, as they are to be typed.
pub(super) fn suggested(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in text.lines().filter(|line| !line.trim_start().starts_with("Usage:")) {
        let mut from = 0;
        while let Some(at) = line[from..].find("packstone ").map(|at| at + from) {
            from = at + "packstone ".len();
            let next = line[from..].split(' ').next().unwrap();
            let begins = line[..at].chars().next_back().is_none_or(|before| before == ' ');
            if begins && (next.starts_with('-') || COMMANDS.contains(&next)) {
                let end = at + end_of(&line[at..]);
                found.push(line[at..end].to_owned());
                from = end;
            }
        }
    }
    found
}

/// Where a command ends that begins the line.
fn end_of(line: &str) -> usize {
    let (mut quote, mut is_escaped) = (None, false);
    for (at, character) in line.char_indices() {
        match (quote, character) {
            _ if std::mem::take(&mut is_escaped) => {}
            (None, '\\') => is_escaped = true,
            (None, '\'' | '"') => quote = Some(character),
            (Some(open), close) if open == close => quote = None,
            (None, ' ') if line[at..].starts_with("  ") => return at,
            _ => {}
        }
    }
    line.len()
}

/// The strings of a value of JSON.
pub(super) fn strings(value: &serde_json::Value, found: &mut Vec<String>) {
    match value {
        serde_json::Value::String(text) => found.push(text.clone()),
        serde_json::Value::Array(all) => all.iter().for_each(|value| strings(value, found)),
        serde_json::Value::Object(all) => all.values().for_each(|value| strings(value, found)),
        _ => {}
    }
}

#[test]
fn the_script_takes_commands_as_they_are_typed() {
    let line = r"Next: packstone -r 'it'\''s  b' check  Then: packstone prune --instant";
    assert_eq!(suggested(line), [r"packstone -r 'it'\''s  b' check", "packstone prune --instant"]);
    assert_eq!(suggested("Usage: packstone check\nthe packstone repository, packstone's own"), [""; 0]);
}

/// A suggestion without what differs from run to run: repository, ids, paths, state codes.
pub(super) fn kind(command: &str) -> String {
    let words = command.split(' ').skip_while(|word| !COMMANDS.contains(word));
    let plain = |word: &str| match word {
        _ if word.contains('/') && !word.starts_with("s3:") => "PATH".to_owned(),
        _ if word.len() >= 8 && word.bytes().take(8).all(|byte| byte.is_ascii_hexdigit()) => "ID".to_owned(),
        _ if !word.starts_with('-')
            && word.matches('-').count() > 3
            && word.bytes().all(|byte| byte == b'-' || byte.is_ascii_alphanumeric()) =>
        {
            "CODE".to_owned()
        }
        _ => word.to_owned(),
    };
    words.map(plain).collect::<Vec<_>>().join(" ")
}
