//! The source: no text names a command by hand.

use std::fs;
use std::path::Path;

use super::script::COMMANDS;
use crate::support::files_beneath;

/// Whatever names a command by hand drops the repository: only the module that renders them may.
#[test]
fn no_text_names_a_command_by_hand() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    // The module, its rendering, and the page that is read on a machine without a repository.
    let allowed = ["base/command.rs", "cli/about.rs", "tasks/key/kit_page.rs"];
    let mut found = Vec::new();
    for file in files_beneath(&source) {
        let name = file.strip_prefix(&source).unwrap().to_str().unwrap().to_owned();
        let text = fs::read_to_string(&file).unwrap();
        let text = text.split("#[cfg(test)]\nmod tests").next().unwrap();
        for (number, line) in by_hand(text) {
            if !allowed.contains(&name.as_str()) {
                found.push(format!("{name}:{number}: {line}"));
            }
        }
    }
    assert!(found.is_empty(), "write suggest!(\"...\") instead:\n{}", found.join("\n"));
    for line in [
        r#"x("run packstone check")"#,
        r#"format!("packstone{words} restore")"#,
        "\"packstone \\\n    repair heads\"",
        r#"suggest!("ls {id}")"#,
    ] {
        assert_eq!(by_hand(line).len(), 1, "{line}");
    }
    for line in ["/// Run packstone check", r#"suggest!("ls {}", id)"#, r#""the packstone repository""#] {
        assert_eq!(by_hand(line), []);
    }
}

/// Lines that name a command by hand, or suggest one with something in it that is not replaced.
fn by_hand(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let lines: Vec<&str> = text.lines().collect();
    for (index, line) in lines.iter().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//")) {
        let goes_on =
            line.strip_suffix('\\').map(|begun| format!("{begun}{}", lines.get(index + 1).unwrap_or(&"").trim_start()));
        let whole = goes_on.unwrap_or_else(|| (*line).to_owned());
        let names = whole.match_indices("packstone").filter(|(at, _)| *at < line.len()).any(|(at, word)| {
            let rest = &whole[at + word.len()..];
            let next =
                rest.strip_prefix(' ').and_then(|rest| rest.split([' ', '"', ',', ':', ';', '.', ')', '\\']).next());
            rest.starts_with('{') || rest.starts_with(" -") || next.is_some_and(|next| COMMANDS.contains(&next))
        });
        let literal = whole.split("suggest!(\"").skip(1).filter_map(|rest| rest.split_once('"'));
        let unfilled = literal.into_iter().any(|(words, rest)| {
            words.contains('{') && (words.replace("{}", "").contains('{') || !rest.starts_with(','))
        });
        if names || unfilled || whole.contains("u{91}") {
            found.push((index + 1, line.trim().to_owned()));
        }
    }
    found
}
