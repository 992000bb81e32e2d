//! Values that are written as text in a configuration and in a request, as they are typed on the command line: `"30d"`, `"500M"`,
//! `"latest~1"`. For `#[serde(deserialize_with = "...")]`; the parser is the type's own, so a value means the same everywhere.

use crate::base::time::Time;
use crate::codec::head_code::HeadCode;
use crate::repository::expected::{Expected, IdBeginning};
use serde::de::{Deserialize, Deserializer, Error};
use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

/// One value.
///
/// # Errors
/// The sentence of its parser.
pub fn value<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: FromStr<Err: Display>,
    D: Deserializer<'de>,
{
    String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
}

/// One value that may be left out.
///
/// # Errors
/// The sentence of its parser.
pub fn option<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
where
    T: FromStr<Err: Display>,
    D: Deserializer<'de>,
{
    let text: Option<String> = Option::deserialize(deserializer)?;
    text.map(|text| text.parse().map_err(D::Error::custom)).transpose()
}

/// A list of values.
///
/// # Errors
/// The sentence of the first one that is not understood.
pub fn list<'de, T, D>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    T: FromStr<Err: Display>,
    D: Deserializer<'de>,
{
    let texts: Vec<String> = Vec::deserialize(deserializer)?;
    texts.iter().map(|text| text.parse().map_err(D::Error::custom)).collect()
}

/// One value that may be left out, and may be written as a whole number too: `7`, `"7"`, `"unlimited"`.
///
/// # Errors
/// The sentence of its parser.
pub fn number<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
where
    T: FromStr<Err: Display>,
    D: Deserializer<'de>,
{
    #[derive(serde::Deserialize)]
    #[serde(untagged)]
    enum Value {
        Number(i64),
        Text(String),
    }
    let text = Option::deserialize(deserializer)?.map(|value| match value {
        Value::Number(number) => number.to_string(),
        Value::Text(text) => text,
    });
    text.map(|text| text.parse().map_err(D::Error::custom)).transpose()
}

/// A size that may be left out, in bytes: a number, or text such as `"500M"`.
///
/// # Errors
/// The sentence of [`crate::text::size::parse`].
pub fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    #[derive(serde::Deserialize)]
    #[serde(untagged)]
    enum Size {
        Bytes(u64),
        Text(String),
    }
    Ok(match Option::deserialize(deserializer)? {
        None => None,
        Some(Size::Bytes(bytes)) => Some(bytes),
        Some(Size::Text(text)) => Some(crate::text::size::parse(&text).map_err(D::Error::custom)?),
    })
}

/// A span of a fixed length that may be left out: `"30d"`, `"12h"`. A month is 30 days, a year 365.
///
/// # Errors
/// The sentence of [`crate::text::span::parse_days`].
pub fn days<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text: Option<String> = Option::deserialize(deserializer)?;
    text.map(|text| crate::text::span::parse_days(&text).map_err(D::Error::custom)).transpose()
}

/// A moment that may be left out: `"2026-11-20 10:02:11"`, `"now"`.
///
/// # Errors
/// The sentence of [`crate::text::clock::parse`].
pub fn moment<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Time>, D::Error> {
    let text: Option<String> = Option::deserialize(deserializer)?;
    text.map(|text| crate::text::clock::parse(&text).map_err(D::Error::custom)).transpose()
}

/// A moment, or how long ago it was, that may be left out: `"2026-11-20"`, `"7d"`.
///
/// # Errors
/// The sentence of [`crate::text::clock::parse_past`].
pub fn past_moment<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Time>, D::Error> {
    let text: Option<String> = Option::deserialize(deserializer)?;
    text.map(|text| crate::text::clock::parse_past(&text).map_err(D::Error::custom)).transpose()
}

/// What is said of a repository before it is opened: `{"ids": ["0123abcd"], "head": "214-0D6K-7M2Q-X4TR-9HBW-C"}`.
///
/// # Errors
/// The sentence of the first value that is not understood.
pub fn expected<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Expected, D::Error> {
    #[derive(Default, serde::Deserialize)]
    #[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
    struct Form {
        #[serde(deserialize_with = "list")]
        ids: Vec<IdBeginning>,
        #[serde(deserialize_with = "option")]
        head: Option<HeadCode>,
    }
    let Form { ids, head } = Form::deserialize(deserializer)?;
    Ok(Expected { ids, head })
}
