//! The map at the top of `src/lib.rs` stays true: this reads `src/` and says which arrow is wrong and what to do instead.
//!
//! The rules: a path `crate::folder` or `packstone::folder` only points down, to a folder on a lower floor (or into its
//! own folder); folders on one floor do not know each other; what is imported is named, because a glob hides arrows; a
//! file has at most 700 lines, because past that there are two nouns in it; `unsafe` stands in one audited file.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};

/// Floors: an arrow points to a lower number.
const FLOORS: [(&str, u32); 9] = [
    ("cli", 7),
    ("tasks", 5),
    ("ops", 4),
    ("repository", 3),
    ("files", 3),
    ("codec", 2),
    ("storage", 2),
    ("text", 2),
    ("base", 1),
];
/// Crates that one folder uses and nobody else, with the folder. Only faces know a command line and a terminal; a crate for what
/// is stored or sent can be exchanged where it is.
const HOMES: [(&str, &str); 6] = [
    ("clap", "cli/"),
    ("indicatif", "cli/"),
    ("rpassword", "cli/"),
    ("opendal", "storage/remote/"),
    ("rusqlite", "repository/mirror_book/"),
    ("redb", "repository/cache/"),
];
/// Longest file, in lines.
const LINES_MAX: usize = 700;
/// The one file that may hold `unsafe`.
const UNSAFE_FILE: &str = "base/sys.rs";
/// The program's own outermost file: above all floors.
const MAIN: &str = "main.rs";

fn floor(folder: &str) -> Option<u32> {
    FLOORS.iter().find(|(name, _)| *name == folder).map(|(_, floor)| *floor)
}

/// A word, a `::`, or a single other character, with its line.
#[derive(Debug, Clone, PartialEq)]
struct Token {
    text: String,
    line: usize,
}

/// Cuts Rust source into tokens and leaves out comments, strings and characters.
fn tokens(source: &str) -> Vec<Token> {
    let text: Vec<char> = source.chars().collect();
    let at = |index: usize| text.get(index).copied().unwrap_or('\0');
    let word = |c: char| c.is_alphanumeric() || c == '_';
    let mut tokens = Vec::new();
    let (mut index, mut line) = (0, 1);
    while index < text.len() {
        let start = index;
        let c = at(index);
        if c == '/' && at(index + 1) == '/' {
            while index < text.len() && at(index) != '\n' {
                index += 1;
            }
        } else if c == '/' && at(index + 1) == '*' {
            let mut depth = 0;
            loop {
                match (at(index), at(index + 1)) {
                    ('/', '*') => (depth, index) = (depth + 1, index + 2),
                    ('*', '/') => (depth, index) = (depth - 1, index + 2),
                    _ => index += 1,
                }
                if depth == 0 || index >= text.len() {
                    break;
                }
            }
        } else if let Some(hashes) = raw_string(&text, index) {
            // r, or br, or cr, then the hashes and the quote; ends with a quote and as many hashes.
            while at(index) != '"' {
                index += 1;
            }
            index += 1;
            while index < text.len() && !(at(index) == '"' && (1..=hashes).all(|n| at(index + n) == '#')) {
                index += 1;
            }
            index += 1 + hashes;
        } else if c == '"' {
            index += 1;
            while index < text.len() && at(index) != '"' {
                index += if at(index) == '\\' { 2 } else { 1 };
            }
            index += 1;
        } else if c == '\'' {
            // A character has its closing quote after one character or an escape; anything else is a lifetime.
            index += 1;
            if at(index) == '\\' {
                index += 2;
                while index < text.len() && at(index) != '\'' {
                    index += 1;
                }
                index += 1;
            } else if at(index + 1) == '\'' {
                index += 2;
            }
        } else if word(c) {
            while word(at(index)) {
                index += 1;
            }
            tokens.push(Token { text: text[start..index].iter().collect(), line });
        } else if c == ':' && at(index + 1) == ':' {
            index += 2;
            tokens.push(Token { text: "::".to_owned(), line });
        } else {
            index += 1;
            if !c.is_whitespace() {
                tokens.push(Token { text: c.to_string(), line });
            }
        }
        let end = index.min(text.len());
        line += text[start..end].iter().filter(|c| **c == '\n').count();
    }
    tokens
}

/// The number of hashes when a raw string begins here.
fn raw_string(text: &[char], index: usize) -> Option<usize> {
    let before = index.checked_sub(1).and_then(|index| text.get(index));
    if before.is_some_and(|c| c.is_alphanumeric() || *c == '_') {
        return None;
    }
    let rest = text.get(index..)?;
    let rest = rest.strip_prefix(&['b']).or_else(|| rest.strip_prefix(&['c'])).unwrap_or(rest);
    let rest = rest.strip_prefix(&['r'])?;
    let hashes = rest.iter().take_while(|c| **c == '#').count();
    (rest.get(hashes) == Some(&'"')).then_some(hashes)
}

/// Paths that begin at the crate's root, as their words after it, with the line of the first; `*` ends a glob.
fn root_paths(tokens: &[Token]) -> Vec<(Vec<String>, usize)> {
    let text = |index: usize| tokens.get(index).map_or("", |token| token.text.as_str());
    let mut found = Vec::new();
    for (index, token) in tokens.iter().enumerate() {
        let root = match token.text.as_str() {
            "crate" => true,
            // `other::packstone` or `x.packstone` would be something else.
            "packstone" => !matches!(text(index.wrapping_sub(1)), "::" | "."),
            _ => false,
        };
        if root && text(index + 1) == "::" {
            expand(tokens, index + 2, &mut Vec::new(), &mut found);
        } else if token.text == "crate" && text(index + 1) == "as" {
            found.push((vec!["*".to_owned()], token.line));
        }
        // Two or more `super::` and then a folder's name: the root reached from below.
        if token.text == "super" && text(index.wrapping_sub(1)) != "::" {
            let mut next = index;
            while text(next) == "super" && text(next + 1) == "::" {
                next += 2;
            }
            if next >= index + 4 && floor(text(next)).is_some() {
                expand(tokens, next, &mut Vec::new(), &mut found);
            }
        }
    }
    found
}

/// Reads a path, or a brace group of paths, from `index`; hands back where it ends.
fn expand(tokens: &[Token], mut index: usize, begun: &mut Vec<String>, found: &mut Vec<(Vec<String>, usize)>) -> usize {
    let length = begun.len();
    let line = tokens.get(index).map_or(0, |token| token.line);
    let mut group = false;
    while let Some(token) = tokens.get(index) {
        if token.text == "{" {
            group = true;
            index += 1;
            while tokens.get(index).is_some_and(|token| token.text != "}") {
                let end = expand(tokens, index, begun, found);
                // A comma, or something that is no path: one step, so that this ends.
                index = if end > index { end } else { index + 1 };
            }
            index += 1;
            break;
        }
        begun.push(token.text.clone());
        index += 1;
        if tokens.get(index).is_none_or(|token| token.text != "::") {
            break;
        }
        index += 1;
    }
    let is_path = |word: &String| word == "*" || word.chars().all(|c| c.is_alphanumeric() || c == '_');
    if !group && begun.len() > length && begun.iter().all(is_path) {
        found.push((begun.clone(), line));
    }
    begun.truncate(length);
    index
}

/// What is wrong in one file of `src/`, its path given relative to it.
fn complaints(file: &str, source: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut complain = |line: usize, what: String| complaints.push(format!("src/{file}:{line}: {what}"));
    let lines = source.lines().count();
    if lines > LINES_MAX {
        complain(lines, format!("{lines} lines, at most {LINES_MAX}: split it, there are two nouns in it"));
    }
    let tokens = tokens(source);
    for token in tokens.iter().filter(|token| token.text == "unsafe" && file != UNSAFE_FILE) {
        complain(token.line, format!("unsafe stands only in src/{UNSAFE_FILE}: put a safe function there and call it"));
    }
    for pair in tokens.windows(2) {
        let home = HOMES.iter().find(|(name, _)| pair[0].text == *name && pair[1].text == "::");
        if let Some((name, home)) = home.filter(|(_, home)| !file.starts_with(home)) {
            complain(pair[0].line, format!("{name} belongs in src/{home} alone: give that a function, and call it"));
        }
    }
    let own = file.split_once('/').map_or("", |(folder, _)| folder);
    if !own.is_empty() && floor(own).is_none() {
        complain(1, format!("{own} is not on the map: give it a floor in src/lib.rs and in tests/layers.rs"));
        return complaints;
    }
    for (path, line) in root_paths(&tokens) {
        let shown = path.join("::");
        if path.last().is_some_and(|last| last == "*") {
            complain(line, format!("crate::{shown} hides what it brings: name what you import"));
            continue;
        }
        let to = path.first().map_or("", String::as_str);
        let Some(to_floor) = floor(to) else {
            complain(
                line,
                format!("crate::{shown} is in no folder of the map: put it in one, or the folder on the map"),
            );
            continue;
        };
        if own == to || own.is_empty() && file == MAIN {
            continue;
        }
        let Some(own_floor) = floor(own) else {
            complain(line, format!("{file} only declares the folders: crate::{shown} belongs in one of them"));
            continue;
        };
        let arrow = format!("{own} (floor {own_floor}) may not know {to} (floor {to_floor}), but names crate::{shown}");
        if to_floor == own_floor {
            complain(
                line,
                format!(
                    "{arrow}: the two stand side by side; let a folder above hand one what it needs from the other, or move the shared word down to base"
                ),
            );
        } else if to_floor > own_floor {
            complain(
                line,
                format!(
                    "{arrow}: arrows point down; take the value as a parameter or a trait of {own}, or move the shared word down"
                ),
            );
        }
    }
    complaints
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

#[test]
fn every_arrow_points_down() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    let files = sources(&root);
    assert!(files.len() > 20, "src/ was not read: {files:?}");
    for path in files {
        let file = path.strip_prefix(&root).unwrap().to_str().unwrap();
        wrong.extend(complaints(file, &fs::read_to_string(&path).unwrap()));
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn the_map_in_the_library_has_the_same_floors() {
    let library = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).unwrap();
    for (folder, floor) in FLOORS {
        assert!(library.contains(&format!("//! | {floor} | [`{folder}`] |")), "{folder} on floor {floor}");
    }
    let declared = tokens(&library).windows(2).filter(|pair| pair[0].text == "mod").count();
    assert_eq!(declared, FLOORS.len(), "every folder of src/lib.rs has a floor");
}

/// A made-up file with one wrong arrow must be reported, at its line, with what to do instead.
fn reported(file: &str, source: &str, line: usize, words: &str) {
    let complaints = complaints(file, source);
    let [complaint] = complaints.as_slice() else { panic!("one complaint expected: {complaints:?}") };
    assert!(complaint.starts_with(&format!("src/{file}:{line}: ")), "{complaint}");
    assert!(complaint.contains(words), "{complaint}");
}

#[test]
fn wrong_arrows_are_reported() {
    let up = "//! storage\nuse std::io;\n\nuse crate::repository::Repository;\n";
    reported("storage/local.rs", up, 4, "storage (floor 2) may not know repository (floor 3)");
    reported("storage/local.rs", up, 4, "arrows point down");
    reported("codec/pack.rs", "fn f() {\n    crate::storage::local::x();\n}", 2, "side by side");
    reported("files/walk.rs", "use crate::{base::id, repository::{lock::Locks}};", 1, "crate::repository::lock::Locks");
}

#[test]
fn a_crate_outside_its_home_is_reported() {
    reported("tasks/sync/mod.rs", "//! x\nuse clap::Args;\n", 2, "clap belongs in src/cli/ alone");
    reported("ops/backup.rs", "fn f() { rusqlite::x() }", 1, "src/repository/mirror_book/");
    assert_eq!(complaints("cli/sync/mod.rs", "use clap::Args;"), Vec::<String>::new());
}

#[test]
fn arrows_in_disguise_are_reported() {
    let nested = "use crate::{\n    base::{id::ObjectId, time},\n    ops::backup,\n    codec::wire,\n};";
    reported("repository/mod.rs", nested, 3, "crate::ops::backup");
    reported("base/id.rs", "pub(in crate::codec) fn f() {}", 1, "base (floor 1) may not know codec");
    reported("ops/backup.rs", "use packstone::cli::render;", 1, "cli (floor 7)");
    reported("codec/unit.rs", "use super::super::storage::Storage;", 1, "crate::storage::Storage");
    reported("codec/unit.rs", "let x: r#type = \"// \\\" no comment\"; crate :: ops :: run();", 1, "crate::ops::run");
    reported(
        "codec/unit.rs",
        "let x = '\"'; /* a /* b */ \" */ crate::ops::run(); let y = '\"';",
        1,
        "crate::ops::run",
    );
    reported(
        "codec/unit.rs",
        "let x = r#\"a \" b\"#; let l: &'static str = y;\ncrate::ops::run();",
        2,
        "crate::ops::run",
    );
    reported("base/id.rs", "fn f(x: crate::ops::Report) {}", 1, "crate::ops::Report");
}

#[test]
fn globs_strangers_length_and_unsafe_are_reported() {
    reported("ops/backup.rs", "use crate::storage::*;", 1, "name what you import");
    reported("ops/backup.rs", "use crate::storage::{Folder, local::*};", 1, "name what you import");
    reported("ops/backup.rs", "use crate::*;", 1, "name what you import");
    reported("ops/backup.rs", "use crate as c;", 1, "name what you import");
    reported("ops/backup.rs", "use crate::util::helper;", 1, "in no folder of the map");
    reported("util/mod.rs", "fn f() {}", 1, "not on the map");
    reported("lib.rs", "use crate::base::id;", 1, "only declares");
    reported("base/id.rs", &"// line\n".repeat(LINES_MAX + 1), LINES_MAX + 1, "two nouns");
    reported("base/id.rs", "fn f() {\n    unsafe { g() }\n}", 2, "unsafe stands only in");
}

#[test]
fn right_arrows_are_not_reported() {
    let source = "//! [`crate::ops::backup`] is not an arrow.\n// use crate::ops;\n/* crate::cli::x */\n\
        use crate::base::id::{ObjectId, ParseIdError as E};\nuse crate::storage::{self, Storage};\n\
        use super::*;\nuse std::collections::*;\npub(crate) fn f() { let x = 3 * crate::base::time::N; }\n\
        const S: &str = \"use crate::ops; unsafe\";\nuse crate::repository::lock;\nmod unsafe_code {}\n";
    assert_eq!(complaints("repository/mod.rs", source), Vec::<String>::new());
    assert_eq!(complaints("main.rs", "fn main() { packstone::cli::run(); }"), Vec::<String>::new());
    assert_eq!(complaints(UNSAFE_FILE, "fn f() { unsafe { g() } }"), Vec::<String>::new());
    assert_eq!(complaints("base/id.rs", &"// line\n".repeat(LINES_MAX)), Vec::<String>::new());
}
