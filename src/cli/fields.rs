//! A decoded object as named values: lines for people, or JSON with the fields in the same order.

use crate::base::escape::Escaped;
use crate::base::hex::hex;
use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Serialize, Serializer};
use std::fmt::Write;

/// A value of a decoded object.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Text from anywhere: it is made safe when it is shown.
    Text(Vec<u8>),
    /// A number.
    Number(u64),
    /// Yes or no.
    Flag(bool),
    /// Many.
    List(Vec<Value>),
    /// Named ones, in order.
    Fields(Fields),
}

/// Named values, in the order in which they are shown.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Fields(Vec<(&'static str, Value)>);

impl Fields {
    /// Without any.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Adds one.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.0.push((name, value.into()));
        self
    }

    /// Adds one, when there is one.
    #[must_use]
    pub fn maybe(self, name: &'static str, value: Option<impl Into<Value>>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    /// Lines for people, each ended.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        self.write(&mut text, 0);
        text
    }

    fn write(&self, text: &mut String, depth: usize) {
        let width = self.0.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        for (name, value) in &self.0 {
            let is_below = match value {
                Value::List(values) => !values.is_empty(),
                Value::Fields(_) => true,
                _ => false,
            };
            let width = if is_below { 0 } else { width };
            let _ = write!(text, "{:1$}{name:<width$}", "", depth * 2); // writing to a String cannot fail
            value.write(text, depth);
        }
    }
}

impl Value {
    /// The value behind its name, and what it holds on lines of its own.
    fn write(&self, text: &mut String, depth: usize) {
        match self {
            Self::Text(bytes) => drop(writeln!(text, "  {}", Escaped(bytes))),
            Self::Number(number) => drop(writeln!(text, "  {number}")),
            Self::Flag(flag) => drop(writeln!(text, "  {}", if *flag { "yes" } else { "no" })),
            Self::List(values) if values.is_empty() => text.push_str("  none\n"),
            Self::List(values) => {
                text.push('\n');
                for value in values {
                    let _ = write!(text, "{:1$}-", "", depth * 2 + 2);
                    match value {
                        Self::Fields(fields) => fields.write_line(text, depth),
                        other => other.write(text, depth + 1),
                    }
                }
            }
            Self::Fields(fields) => {
                text.push('\n');
                fields.write(text, depth + 1);
            }
        }
    }
}

impl Fields {
    /// All of them in one line; what is itself a list follows below it.
    fn write_line(&self, text: &mut String, depth: usize) {
        let mut below = Vec::new();
        for (name, value) in &self.0 {
            match value {
                Value::Text(bytes) => drop(write!(text, "  {name} {}", Escaped(bytes))),
                Value::Number(number) => drop(write!(text, "  {name} {number}")),
                Value::Flag(flag) => drop(write!(text, "  {name} {}", if *flag { "yes" } else { "no" })),
                Value::List(values) if values.is_empty() => {}
                _ => below.push((*name, value.clone())),
            }
        }
        text.push('\n');
        Self(below).write(text, depth + 3);
    }
}

impl Serialize for Fields {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
            if let Value::Text(bytes) = value
                && std::str::from_utf8(bytes).is_err()
            {
                map.serialize_entry(&format!("{name}_raw"), &hex(bytes))?;
            }
        }
        map.end()
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(bytes) => serializer.serialize_str(&String::from_utf8_lossy(bytes)),
            Self::Number(number) => serializer.serialize_u64(*number),
            Self::Flag(flag) => serializer.serialize_bool(*flag),
            Self::List(values) => {
                let mut list = serializer.serialize_seq(Some(values.len()))?;
                values.iter().try_for_each(|value| list.serialize_element(value))?;
                list.end()
            }
            Self::Fields(fields) => fields.serialize(serializer),
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.as_bytes().to_vec())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text.into_bytes())
    }
}

impl From<&[u8]> for Value {
    fn from(bytes: &[u8]) -> Self {
        Self::Text(bytes.to_vec())
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self::Number(number.into())
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

impl From<Fields> for Value {
    fn from(fields: Fields) -> Self {
        Self::Fields(fields)
    }
}

impl<V: Into<Value>> FromIterator<V> for Value {
    fn from_iter<I: IntoIterator<Item = V>>(values: I) -> Self {
        Self::List(values.into_iter().map(Into::into).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::super::json::tests::json;
    use super::*;

    #[test]
    fn values_are_shown_in_order_and_safely() {
        let inner = Fields::new().with("offset", 1_u64).with("chunks", Value::from_iter(["c"]));
        let fields = Fields::new()
            .with("name", &b"a\x1b\xff"[..])
            .with("id", "x")
            .maybe("parent", None::<String>)
            .with("live", true)
            .with("tags", Value::from_iter(["one", "two"]))
            .with("none", Value::List(vec![]))
            .with("blocks", Value::from_iter([inner]));
        assert_eq!(
            fields.text(),
            "name    a\\x1b\\xff\nid      x\nlive    yes\ntags\n  -  one\n  -  two\nnone    none\nblocks\n  -  offset 1\n      chunks\n        -  c\n"
        );
        assert_eq!(
            json(&fields),
            "{\"name\":\"a\\u001b\u{fffd}\",\"name_raw\":\"611bff\",\"id\":\"x\",\"live\":true,\"tags\":[\"one\",\"two\"],\"none\":[],\"blocks\":[{\"offset\":1,\"chunks\":[\"c\"]}]}"
        );
    }
}
