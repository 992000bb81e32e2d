//! Commands of this program that a text suggests.
//!
//! Who writes the text knows what to run next, and does not know how the user named the repository. So a command stands in a text
//! between two marks, without the program's name: `suggest!`. Where the text is printed, the floor that knows the command line
//! puts name and repository in front of it ([`render`]). No other text names a command of this program.
//!
//! The marks are control characters for private use. [`escape`] never lets them through, so text that somebody else wrote cannot
//! hold a command; where such text is taken over as it is, [`unmarked`] makes sure of that.

use super::escape::escape;

/// Begins a command: PRIVATE USE ONE of ISO 6429.
pub const BEGIN: char = '\u{91}';
/// Ends it: PRIVATE USE TWO.
pub const END: char = '\u{92}';

/// A suggested command: `suggest!("repair index")`, a constant, or `suggest!("forget {}", id)`, a `String` in which every argument
/// is one word of a POSIX shell. What only the user knows stands in capitals: `suggest!("mirror add NAME ADDRESS")`.
///
/// It stands at the end of its text, or before two blanks: whoever copies it knows where it ends.
macro_rules! suggest {
    ($words:literal) => {
        concat!("\u{91}", $words, "\u{92}")
    };
    ($words:literal, $($argument:expr),+ $(,)?) => {
        format!(concat!("\u{91}", $words, "\u{92}"), $($crate::base::command::quote($argument.to_string().as_bytes())),+)
    };
}
pub(crate) use suggest;

/// A suggested command that ends with any number of words.
pub fn suggest_all<T: AsRef<[u8]>>(words: &str, arguments: impl IntoIterator<Item = T>) -> String {
    let arguments: String = arguments.into_iter().map(|word| format!(" {}", quote(word.as_ref()))).collect();
    format!("{BEGIN}{words}{arguments}{END}")
}

/// One word for a POSIX shell: as it is, in single quotes, or by printf(1) where it holds what must not be printed. Nothing of it acts
/// on a terminal.
#[must_use]
pub fn quote(word: &[u8]) -> String {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/:.,@_-%+=".contains(byte);
    let is_shown = |part: &[u8]| escape(part).as_bytes() == part;
    match std::str::from_utf8(word) {
        Ok(text) if !text.is_empty() && word.iter().all(is_plain) => text.to_owned(),
        Ok(text) if word.split(|byte| *byte == b'\\').all(is_shown) => format!("'{}'", text.replace('\'', r"'\''")),
        _ => {
            let mut text = String::from("\"$(printf '");
            for (index, byte) in word.iter().enumerate() {
                match byte {
                    b'%' => text.push_str("%%"),
                    b'-' if index == 0 => text.push_str("\\055"),
                    b'\'' | b'\\' => text.push_str(&format!("\\{byte:03o}")),
                    b' '..=b'~' => text.push(char::from(*byte)),
                    _ => text.push_str(&format!("\\{byte:03o}")),
                }
            }
            text + "')\""
        }
    }
}

/// `text` as it is shown: `command` gets the words of every suggested command, `other` everything between. Behind a command the text
/// ends, its line ends, or two blanks follow.
pub fn render(text: &str, other: impl Fn(&str) -> String, command: impl Fn(&str) -> String) -> String {
    if !text.contains(BEGIN) {
        return other(text);
    }
    let mut parts = text.split(BEGIN);
    let mut shown = other(parts.next().unwrap_or_default());
    for part in parts {
        let Some((words, rest)) = part.split_once(END) else {
            shown.push_str(&other(&format!("{BEGIN}{part}")));
            continue;
        };
        shown.push_str(&command(words));
        let ends = rest.is_empty() || rest.starts_with('\n') || rest.starts_with("  ");
        shown.push_str(if ends { "" } else { "  " });
        shown.push_str(&other(if ends { rest } else { rest.trim_start() }));
    }
    shown
}

/// `text` for a file of ours, to be shown by another process: the commands by their names alone.
#[must_use]
pub fn stored(text: &str) -> String {
    render(text, str::to_owned, |words| format!("packstone {words}"))
}

/// `text` that is not ours, and cannot suggest anything then.
#[must_use]
pub fn unmarked(text: &str) -> String {
    text.replace(BEGIN, "\\u{91}").replace(END, "\\u{92}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::process::Command;

    #[test]
    fn text_of_others_holds_no_command() {
        let forged = suggest!("forget latest");
        for text in [escape(forged.as_bytes()), unmarked(forged), format!("{forged:?}"), suggest!("ls {}", forged)] {
            let shown = render(&text, str::to_owned, |words| format!("<{words}>"));
            assert!(!shown.contains("<forget"), "{shown}");
        }
    }

    #[test]
    fn it_is_seen_where_a_command_ends() {
        for (text, shown) in [
            (concat!("Next: ", suggest!("check")), "Next: <check>"),
            (concat!(suggest!("check"), ", or ", suggest!("prune"), "."), "<check>  , or <prune>  ."),
            (concat!(suggest!("check"), " and more"), "<check>  and more"),
            (concat!(suggest!("check"), "\nmore"), "<check>\nmore"),
            ("no \u{91}end", "no \u{91}end"),
            ("no beginning\u{92}", "no beginning\u{92}"),
        ] {
            assert_eq!(render(text, str::to_owned, |words| format!("<{words}>")), shown);
        }
        assert_eq!(stored(&suggest!("forget {}", "1a2b")), "packstone forget 1a2b");
    }

    /// A shell takes the word as it was, and nothing in it acts on a terminal.
    #[test]
    fn a_quoted_word_is_one_word_of_a_shell() {
        let words: [&[u8]; 16] = [
            b"plain",
            b"/srv/a b",
            b"it's",
            b"",
            b"$HOME",
            b"`id`",
            b"a\\b",
            b"\"x\"",
            b"a\nb",
            b"*",
            b"~",
            b"%s\x01",
            b"-n\x1b[31m",
            b"\xff\\'",
            "\u{202e}txt".as_bytes(),
            "Gr\u{fc}\u{df}e".as_bytes(),
        ];
        for word in words {
            let quoted = quote(word);
            assert_eq!(quoted.split('\\').map(|part| escape(part.as_bytes())).collect::<Vec<_>>().join("\\"), quoted);
            let ran = Command::new("sh").args(["-c", &format!("printf '%s.' {quoted}")]).output().unwrap();
            assert_eq!(ran.stdout, [word, b"."].concat(), "{quoted}");
        }
        assert_eq!(quote(b"s3://bucket/path"), "s3://bucket/path");
        assert_eq!(suggest_all("backup", ["/a", "/b c"]), "\u{91}backup /a '/b c'\u{92}");
    }
}
