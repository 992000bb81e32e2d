//! How new what is shown is, in words. What is known of it the floor below finds out ([`crate::repository::freshness`]).

use super::output::Output;
use crate::base::escape::escape;
use crate::codec::head::HeadRef;
use crate::codec::head_code::HeadCode;
use crate::repository::freshness::{Freshness, Grade};

/// Says on the standard error what is not known, once: what was seen is remembered.
pub fn tell(freshness: &Freshness, head: HeadRef, output: Output) {
    for sentence in sentences(freshness, head) {
        output.warn(&sentence);
    }
}

fn sentences(freshness: &Freshness, head: HeadRef) -> Vec<String> {
    let mut sentences: Vec<String> = Vec::new();
    for unreadable in &freshness.unreadable {
        let file = escape(unreadable.file.as_os_str().as_encoded_bytes());
        sentences.push(format!("what this machine remembers cannot be read: {file}: {}", unreadable.why));
    }
    let (generation, code) = (head.generation, HeadCode::of(&head));
    match freshness.grade {
        Grade::Proven | Grade::Remembered | Grade::Unasked => {}
        Grade::Behind(seen) => {
            let seen = seen.generation;
            sentences.push(format!("the mirror shows generation {generation}; this machine has seen generation {seen}"));
        }
        Grade::Forked(seen) => sentences.push(format!(
            "generation {generation} there is of another history than generation {}, which this machine has seen",
            seen.generation
        )),
        Grade::NotProven => sentences.push(format!(
            "freshness NOT proven: this may be an older state. It is generation {generation}, state code {code}; to prove it, give the newest \
             state code that was noted elsewhere: --expect-head CODE"
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
        let said = |grade, unreadable| sentences(&Freshness { grade, unreadable }, head(5)).join("\n");
        for grade in [Grade::Proven, Grade::Remembered, Grade::Unasked] {
            assert_eq!(said(grade, Vec::new()), "");
        }
        assert!(said(Grade::NotProven, Vec::new()).contains(&HeadCode::of(&head(5)).to_string()));
        assert!(said(Grade::Behind(head(9)), Vec::new()).contains("generation 9"));
        let unreadable = vec![Unreadable { file: "/state/\u{1b}".into(), why: "it is empty".to_owned() }];
        assert!(said(Grade::Proven, unreadable).contains("/state/\\x1b: it is empty"));
    }
}
