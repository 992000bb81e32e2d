//! What a listing showed, in bounded memory: a store may go on for ever, and say anything.
//!
//! A store may say a name twice, when a page comes again: it is one object. One that says the same over and over is not waited for, nor one that has
//! far more objects than the repository needs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{QUARANTINE, TEMPORARY};
use crate::base::escape::escape;
use crate::storage::{Listed, ObjectName};

/// Names that a listing may say again before it is given up, those apart that it has said once.
const REPEATED_MAX: u64 = 10_000;
/// Objects, at least, before there are too many: 32 TiB in packs of 32 MiB.
const OBJECTS_MIN: u64 = 1 << 20;
/// Files of other kinds that are remembered by name; the rest is counted.
const STRAYS_MAX: usize = 10_000;
/// Bytes of a path: more than any file system or store takes.
const PATH_BYTES_MAX: usize = 4_096;

/// A file that is no object yet.
#[derive(Debug, Clone)]
pub(super) struct Incomplete {
    pub path: String,
    pub length: u64,
    /// By the store's clock, where it has one.
    pub age: Option<Duration>,
}

/// The name of an object that is being written, and nothing else that may lie in that folder or is reached from it.
pub(super) fn is_temporary(path: &str) -> bool {
    let Some(name) = path.strip_prefix(TEMPORARY).and_then(|rest| rest.strip_prefix('/')) else { return false };
    let parts: Vec<&str> = name.split('-').collect();
    let [owner, random, count] = parts[..] else { return false };
    let is_count = !count.is_empty() && count.bytes().all(|byte| byte.is_ascii_digit());
    let is_random = random.len() == 16 && random.bytes().all(|byte| byte.is_ascii_hexdigit());
    owner.bytes().all(|byte| byte.is_ascii_alphanumeric()) && is_random && is_count
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Listing {
    objects: BTreeMap<ObjectName, u64>,
    strays: BTreeSet<String>,
    incomplete: BTreeMap<String, Incomplete>,
    /// Files that are not remembered, and names that came again.
    others: u64,
    passed_over: u64,
    most: u64,
}

impl Listing {
    /// One that may show so many objects.
    pub fn new(most: u64) -> Self {
        Self { most: most.max(OBJECTS_MIN), ..Self::default() }
    }

    fn len(&self) -> u64 {
        (self.objects.len() + self.strays.len() + self.incomplete.len()) as u64
    }

    /// One file more.
    ///
    /// # Errors
    /// Why the listing is given up.
    pub fn add(&mut self, path: &str, length: u64, age: Option<Duration>) -> Result<(), String> {
        if path.len() > PATH_BYTES_MAX {
            return Err(format!("the listing has a name of {} bytes", path.len()));
        }
        let is_new = if let Ok(name) = ObjectName::parse(path) {
            self.objects.insert(name, length).is_none()
        } else if path.starts_with(&format!("{QUARANTINE}/")) {
            return self.pass_over();
        } else if is_temporary(path) && self.incomplete.len() < STRAYS_MAX {
            let found = Incomplete { path: path.to_owned(), length, age };
            self.incomplete.insert(path.to_owned(), found).is_none()
        } else if self.strays.len() < STRAYS_MAX {
            self.strays.insert(escape(path.as_bytes()))
        } else {
            false
        };
        self.others += u64::from(!is_new);
        let is_full = self.strays.len() >= STRAYS_MAX || self.incomplete.len() >= STRAYS_MAX;
        if !is_full && self.others > self.len() + REPEATED_MAX {
            return Err("the listing has no end: the store says the same names over and over".to_owned());
        }
        self.check()
    }

    /// Counts a directory, or a file that was set aside: neither is remembered.
    ///
    /// # Errors
    /// As [`Listing::add`].
    pub fn pass_over(&mut self) -> Result<(), String> {
        self.passed_over += 1;
        self.check()
    }

    fn check(&self) -> Result<(), String> {
        if self.len() + self.others + self.passed_over <= self.most {
            return Ok(());
        }
        Err(format!("the listing has no end: more than {} names", self.most))
    }

    /// Objects, and whatever else lies there, escaped.
    pub fn sort_out(self) -> (Vec<Listed>, Vec<String>, Vec<Incomplete>) {
        let objects = self.objects.into_iter().map(|(name, length)| Listed { name, length });
        (objects.collect(), self.strays.into_iter().collect(), self.incomplete.into_values().collect())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::base::id::ObjectId;

    fn pack(number: u64) -> String {
        ObjectName::Pack(ObjectId::of(&number.to_le_bytes())).to_string()
    }

    #[test]
    fn what_is_listed_is_sorted_out() {
        let mut listing = Listing::new(0);
        for path in [
            &pack(1),
            &pack(2),
            &pack(1),
            "tmp/a1-0123456789abcdef-2",
            "tmp/a1-/../../packs/x",
            "tmp/photo",
            "quarantine/x",
            "notes.txt",
            "packs/\u{1b}[2J",
        ] {
            listing.add(path, 7, None).unwrap();
        }
        let (objects, strays, incomplete) = listing.sort_out();
        assert_eq!((objects.len(), incomplete.len()), (2, 1));
        assert!(strays.len() == 4 && !strays.iter().any(|stray| stray.contains('\u{1b}')), "{strays:?}");
    }

    #[test]
    fn a_listing_without_end_is_given_up() {
        let count = |mut next: Box<dyn FnMut(u64) -> String>| {
            let mut listing = Listing::new(0);
            (0..u64::MAX).find_map(|number| listing.add(&next(number), 1, None).err().map(|why| (number, why))).unwrap()
        };
        let (number, why) = count(Box::new(|number| pack(number % 100)));
        assert!(number < 20_000 && why.contains("over and over"), "{number} {why}");
        let (number, why) = count(Box::new(|number| format!("file {number}")));
        assert!(number == OBJECTS_MIN && why.contains("no end"), "{number} {why}");
        let (number, why) = count(Box::new(|_| "x".repeat(5_000)));
        assert!(number == 0 && why.contains("5000 bytes"), "{why}");
        // Who has so many may have them.
        let mut listing = Listing::new(3 * OBJECTS_MIN);
        assert!((0..2 * OBJECTS_MIN).all(|number| listing.add(&format!("f{number}"), 1, None).is_ok()));
    }
}
