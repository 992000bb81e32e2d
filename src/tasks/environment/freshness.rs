//! How new what is shown is, in words. What is known of it the floor below finds out ([`crate::repository::freshness`]).

use crate::base::escape::escape;
use crate::codec::head::HeadRef;
use crate::codec::head_code::HeadCode;
use crate::ops::{Monitor, Problem, Subject};
use crate::repository::freshness::{Freshness, Grade};
use std::path::Path;

/// What is said about what was opened, and how the user can prove that it is new.
#[derive(Debug, Clone, Copy)]
pub struct About<'a> {
    /// Where it lies.
    pub place: &'a Path,
    /// The option that takes a state code of it.
    pub option: &'static str,
}

impl<'a> About<'a> {
    /// What is opened by most commands.
    #[must_use]
    pub const fn new(place: &'a Path) -> Self {
        Self { place, option: "--expect-head" }
    }
}

/// Reports what is not known, once: what was seen is remembered.
pub fn report_freshness(freshness: &Freshness, head: HeadRef, about: About<'_>, monitor: &dyn Monitor) {
    for sentence in sentences(freshness, head, about) {
        monitor.problem(&Problem::warning(Subject::Freshness, &sentence));
    }
}

fn sentences(freshness: &Freshness, head: HeadRef, about: About<'_>) -> Vec<String> {
    let mut sentences: Vec<String> = Vec::new();
    let About { place, option } = about;
    let place = escape(place.as_os_str().as_encoded_bytes());
    for unreadable in &freshness.unreadable {
        let file = escape(unreadable.file.as_os_str().as_encoded_bytes());
        let remedy = match unreadable.refusal() {
            None => "",
            Some(_) => {
                ". It is left as it is: make it readable, or remove it to start again from the state that is seen now"
            }
        };
        sentences.push(format!("what this machine remembers cannot be read: {file}: {}{remedy}", unreadable.why));
    }
    let (generation, code) = (head.generation, HeadCode::of(&head));
    match freshness.grade {
        Grade::Proven | Grade::Remembered | Grade::Unasked => {}
        Grade::Behind(seen) => {
            let seen = seen.generation;
            sentences.push(format!("{place} shows generation {generation}; this machine has seen generation {seen}"));
        }
        Grade::Forked(seen) => sentences.push(format!(
            "{place}: generation {generation} is of another history than generation {}, which this machine has seen",
            seen.generation
        )),
        Grade::NotProven => sentences.push(format!(
            "freshness NOT proven: {place} may show an older state than its newest. It shows generation {generation}, state code {code}; to prove that it is new \
             enough, give the newest state code that was noted elsewhere: {option} CODE"
        )),
    }
    sentences
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::ObjectId;
    use crate::repository::remembered::Unreadable;

    #[test]
    fn only_what_is_not_known_is_said() {
        let head = |generation| HeadRef { generation, id: ObjectId([7; 32]) };
        let said = |grade, unreadable| {
            sentences(&Freshness { grade, unreadable }, head(5), About::new(Path::new("/srv/x"))).join("\n")
        };
        for grade in [Grade::Proven, Grade::Remembered, Grade::Unasked] {
            assert_eq!(said(grade, Vec::new()), "");
        }
        let said_once = said(Grade::NotProven, Vec::new());
        assert!(said_once.contains(&HeadCode::of(&head(5)).to_string()) && said_once.contains("/srv/x"), "{said_once}");
        assert!(said(Grade::Behind(head(9)), Vec::new()).contains("generation 9"));
        let unreadable = vec![Unreadable::wrong("/state/\u{1b}".as_ref(), "it is empty")];
        assert!(said(Grade::Proven, unreadable).contains("/state/\\x1b: it is empty"));
    }
}
