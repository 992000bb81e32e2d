//! The one way to print text that somebody else wrote: file names, store answers, labels, tags.
//!
//! A name may hold a newline, an escape sequence that recolours the terminal or rewrites its title, a
//! right-to-left override, or bytes that are no UTF-8. None of that reaches the user's terminal (promise P7):
//! control characters, invisible formatting characters and invalid bytes are written as `\n`, `\x1b`, `\u{202e}`, `\xff`,
//! and a backslash as `\\`, so that what is printed can be read back without doubt.

use std::fmt;

/// Text from outside, shown safely: `write!(f, "{}", Escaped(bytes))`.
#[derive(Debug, Clone, Copy)]
pub struct Escaped<'a>(pub &'a [u8]);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in self.0.utf8_chunks() {
            for character in part.valid().chars() {
                match character {
                    '\n' => f.write_str("\\n")?,
                    '\r' => f.write_str("\\r")?,
                    '\t' => f.write_str("\\t")?,
                    '\\' => f.write_str("\\\\")?,
                    c if c.is_ascii_control() => write!(f, "\\x{:02x}", c as u32)?,
                    c if is_deceptive(c) => write!(f, "\\u{{{:x}}}", c as u32)?,
                    c => fmt::Write::write_char(f, c)?,
                }
            }
            for byte in part.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

/// Control characters beyond ASCII, and those that move, hide or reorder what stands beside them
/// (Unicode general categories Cc, Zl, Zp and the Cf characters that act on a terminal line; Trojan Source, 2021).
fn is_deceptive(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{00ad}' | '\u{061c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// The same as an owned string.
#[must_use]
pub fn escape(bytes: &[u8]) -> String {
    Escaped(bytes).to_string()
}

/// A message made safe to show in one line. Backslashes stay as they are, so a message that quotes text which is
/// escaped already is not escaped again.
#[must_use]
pub fn safe(message: &str) -> String {
    let parts: Vec<String> = message.split('\\').map(|part| escape(part.as_bytes())).collect();
    parts.join("\\")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_acts_on_a_terminal_passes() {
        assert_eq!(escape(b"plain name.txt"), "plain name.txt");
        assert_eq!(escape("Grüße 雪".as_bytes()), "Grüße 雪");
        assert_eq!(escape(b"a\nb\x1b[31m\\"), "a\\nb\\x1b[31m\\\\");
        assert_eq!(escape(b"\xff\xfe"), "\\xff\\xfe");
        assert_eq!(escape("\u{202e}txt.exe\u{9b}".as_bytes()), "\\u{202e}txt.exe\\u{9b}");
    }

    #[test]
    fn messages_are_made_safe_once() {
        assert_eq!(safe("cannot read \x1b[31mred"), "cannot read \\x1b[31mred");
        assert_eq!(safe(&escape(b"a\\b\nc")), escape(b"a\\b\nc"));
        assert_eq!(safe(&safe("x\ny\\")), safe("x\ny\\"));
    }
}
