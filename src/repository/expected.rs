//! What the user says of a repository, or of a copy of it, before it is opened: which one it is, and how new it is at least.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use super::chain::Tip;
use super::error::{Error, Result};
use crate::base::id::{ID_BYTES, RepositoryId};
use crate::codec::head_code::HeadCode;

/// Fewest hex digits of an id that name a repository.
const DIGITS_MIN: usize = 8;

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expected {
    /// It is one of these; any, when none is named.
    pub ids: Vec<IdBeginning>,
    /// Its newest head is the one with this code, or follows it.
    pub head: Option<HeadCode>,
}

/// A repository's id, or its beginning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdBeginning(String);

impl FromStr for IdBeginning {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let is_hex = text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if is_hex && (DIGITS_MIN..=ID_BYTES * 2).contains(&text.len()) {
            return Ok(Self(text.to_ascii_lowercase()));
        }
        Err(format!("a repository is named by its id, or by {DIGITS_MIN} or more of the first hex digits of it"))
    }
}

impl fmt::Display for IdBeginning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl IdBeginning {
    fn begins(&self, id: RepositoryId) -> bool {
        id.to_string().starts_with(&self.0)
    }
}

impl Expected {
    /// Whether the repository that was found is named. False when none is.
    ///
    /// # Errors
    /// [`Error::OtherRepository`]; [`Error::Invalid`] when what was typed stands for one of `known` as well.
    pub fn require_id(&self, found: RepositoryId, known: &BTreeSet<RepositoryId>) -> Result<bool> {
        if self.ids.is_empty() {
            return Ok(false);
        }
        let Some(id) = self.ids.iter().find(|id| id.begins(found)) else {
            let expected = self.ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or ");
            return Err(Error::OtherRepository { expected, found });
        };
        match known.iter().find(|other| **other != found && id.begins(**other)) {
            Some(other) => Err(Error::Invalid(format!(
                "{id} is the beginning of two repositories: type more of {found} or {other}"
            ))),
            None => Ok(true),
        }
    }

    /// Whether the newest head is proven to be as new as the code says. False when no code was given.
    ///
    /// # Errors
    /// [`Error::BehindCode`] for an older one; [`Error::NotInHistory`] for one of another history.
    pub fn require_head(&self, tip: &Tip) -> Result<bool> {
        let Some(code) = self.head else { return Ok(false) };
        let found = tip.reference();
        if code.generation() > found.generation {
            return Err(Error::BehindCode { expected: code.generation(), found });
        }
        let follows = if code.generation() == found.generation {
            code.matches(&found)
        } else {
            let index = usize::try_from(code.generation().saturating_sub(1)).unwrap_or(usize::MAX);
            tip.state.ancestors.get(index).is_some_and(|ancestor| code.begins(ancestor))
        };
        if follows { Ok(true) } else { Err(Error::NotInHistory { expected: code.generation(), found }) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn id(first: u8, last: u8) -> RepositoryId {
        let mut bytes = [first; 32];
        bytes[31] = last;
        RepositoryId(bytes)
    }

    #[test]
    fn a_repository_is_named_by_eight_digits_or_more() {
        let found = id(0xab, 1);
        let named = |text: &str| text.parse().map(|id| Expected { ids: vec![id], head: None });
        for text in ["", "abababa", "abababag", "abababab/", &"ab".repeat(33)] {
            assert!(named(text).is_err(), "{text:?}");
        }
        for (text, known, expected) in [
            ("abababab", None, Some(true)),
            ("ABABABAB", None, Some(true)),
            (&found.to_string(), None, Some(true)),
            ("acababab", None, None),
            // Another repository that this machine knows begins like it.
            ("abababab", Some(id(0xab, 2)), None),
            (&found.to_string(), Some(id(0xab, 2)), Some(true)),
            ("abababab", Some(id(0xcd, 2)), Some(true)),
            ("abababab", Some(found), Some(true)),
        ] {
            let known = known.into_iter().collect();
            assert_eq!(named(text).unwrap().require_id(found, &known).ok(), expected, "{text} {known:?}");
        }
        assert!(!Expected::default().require_id(found, &BTreeSet::new()).unwrap(), "nothing was named");
        let two = Expected { ids: vec!["cdcdcdcd".parse().unwrap(), "abababab".parse().unwrap()], head: None };
        assert!(two.require_id(found, &BTreeSet::new()).unwrap(), "one of two disks that are used in turn");
        assert!(matches!(two.require_id(id(1, 1), &BTreeSet::new()), Err(Error::OtherRepository { .. })));
    }
}
