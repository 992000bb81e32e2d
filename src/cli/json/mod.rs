//! What `--json` writes: restic's shapes, one value a line, `message_type` on every line of a stream.
//!
//! # Names that are no UTF-8
//! A path, name or link target is written as a string in which every invalid sequence is U+FFFD. When that loses
//! something, a second field with the same name and `_raw` behind it holds the exact bytes as lower-case hex
//! (`"path": "/caf\ufffd", "path_raw": "2f636166e9"`); otherwise the second field is absent. Reading `_raw` first and
//! the plain field second is lossless.
//!
//! # Nothing acts on a terminal
//! Beside what JSON demands, every character that [`crate::base::escape`] would not let through to a terminal (DEL, the C1
//! controls, bidirectional overrides, invisible format characters) is written as `\uXXXX`. A parser sees no difference.

mod finding;
mod listing;
mod messages;

pub use finding::{AffectedMessage, AffectedPath, MirrorFinding};
pub use listing::{Change, DiffCount, DiffMessage, Key, LsMessage, Node, Snapshot, SnapshotSummary, Stats};
pub use messages::{
    BackupMessage, BackupStatus, BackupSummary, BackupVerbose, CheckMessage, CheckSummary, ExitError, Initialized,
    ItemError, RestoreCounts, RestoreMessage, RestoreMetadata, RestoreStatus, RestoreSummary, RestoreVerbose, Version,
    Warning,
};

use crate::base::escape::Escaped;
use crate::base::hex::hex;
use serde::{Serialize, Serializer};
use serde_json::ser::Formatter;
use std::borrow::Cow;
use std::io::{self, Write};

/// Bytes as a string, invalid sequences replaced; see the module's head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Text<'a>(pub &'a [u8]);

impl Serialize for Text<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&String::from_utf8_lossy(self.0))
    }
}

/// The exact bytes as hex; present only when [`Text`] loses something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Raw<'a>(&'a [u8]);

impl<'a> Raw<'a> {
    /// The bytes, when they are no UTF-8.
    #[must_use]
    pub fn of(bytes: &'a [u8]) -> Option<Self> {
        std::str::from_utf8(bytes).is_err().then_some(Self(bytes))
    }
}

impl Serialize for Raw<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex(self.0))
    }
}

/// The lossy form of many paths, for lists that have no room for a second field.
#[must_use]
pub fn texts<'a, I: IntoIterator<Item = &'a [u8]>>(paths: I) -> Vec<Cow<'a, str>> {
    paths.into_iter().map(String::from_utf8_lossy).collect()
}

/// Compact JSON in which no character acts on a terminal.
#[derive(Debug, Clone, Copy, Default)]
struct SafeFormatter;

impl Formatter for SafeFormatter {
    fn write_string_fragment<W: Write + ?Sized>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        if fragment.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            return writer.write_all(fragment.as_bytes());
        }
        let mut start = 0;
        let mut bytes = [0; 4];
        for (index, character) in fragment.char_indices() {
            let shown = character.encode_utf8(&mut bytes);
            if (' '..='~').contains(&character) || Escaped(shown.as_bytes()).to_string() == *shown {
                continue;
            }
            writer.write_all(&fragment.as_bytes()[start..index])?;
            for unit in character.encode_utf16(&mut [0; 2]) {
                write!(writer, "\\u{unit:04x}")?;
            }
            start = index + character.len_utf8();
        }
        writer.write_all(&fragment.as_bytes()[start..])
    }
}

/// Writes one value as compact JSON, without a line end.
///
/// # Errors
/// When `writer` fails.
pub fn to_writer(writer: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    let mut serializer = serde_json::Serializer::with_formatter(writer, SafeFormatter);
    value.serialize(&mut serializer).map_err(io::Error::from)
}

/// One value as compact JSON.
///
/// # Errors
/// When the value cannot be written as JSON at all (a map whose keys are no strings).
pub fn to_vec(value: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    to_writer(&mut bytes, value)?;
    Ok(bytes)
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    pub(crate) fn json(value: &impl Serialize) -> String {
        String::from_utf8(to_vec(value).unwrap()).unwrap()
    }

    #[test]
    fn names_are_kept_exactly() {
        #[derive(Serialize)]
        struct Name<'a> {
            path: Text<'a>,
            #[serde(skip_serializing_if = "Option::is_none")]
            path_raw: Option<Raw<'a>>,
        }
        let name = |bytes| json(&Name { path: Text(bytes), path_raw: Raw::of(bytes) });
        assert_eq!(name(b"/plain"), r#"{"path":"/plain"}"#);
        assert_eq!(name(b"/caf\xe9"), "{\"path\":\"/caf\u{fffd}\",\"path_raw\":\"2f636166e9\"}");
        assert_eq!(name("\u{fffd}".as_bytes()), "{\"path\":\"\u{fffd}\"}");
    }

    #[test]
    fn nothing_in_a_string_acts_on_a_terminal() {
        let hostile = "a\"\\\n\x1b[31m\x7f\u{9b}\u{202e}\u{e0041}Grüße 雪😀";
        let text = json(&hostile);
        assert_eq!(text, "\"a\\\"\\\\\\n\\u001b[31m\\u007f\\u009b\\u202e\\udb40\\udc41Grüße 雪😀\"");
        assert_eq!(serde_json::from_str::<String>(&text).unwrap(), hostile);
    }
}
