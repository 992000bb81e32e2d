//! Which entries of a snapshot are restored: restic's `--include` and `--exclude`.
//!
//! Patterns are matched against the path within what is restored, with a slash before it. With includes, an entry is taken
//! when it or a directory above it matches, and a directory that does not match is looked into as long as something
//! beneath it may. With excludes, an entry that matches is left out and not looked into. Both together: taken by the
//! includes and not left out by the excludes. A [`Sample`] takes a share of what these take.

use crate::files::pattern::Patterns;
use crate::ops::sample::Sample;

/// See the module. Takes everything by default.
#[derive(Debug, Clone)]
pub struct Selection {
    includes: [Patterns; 2],
    excludes: [Patterns; 2],
    sample: Option<Sample>,
}

impl Default for Selection {
    fn default() -> Self {
        let none = || [Patterns::new(false), Patterns::new(true)];
        Self { includes: none(), excludes: none(), sample: None }
    }
}

/// What is decided about a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice {
    /// It is restored.
    pub selected: bool,
    /// When it is a directory: something beneath it may be restored.
    pub enter: bool,
}

impl Selection {
    /// Patterns of each kind: those that tell upper from lower case, and those that do not.
    #[must_use]
    pub fn new(includes: [Patterns; 2], excludes: [Patterns; 2]) -> Self {
        Self { includes, excludes, sample: None }
    }

    /// A share of everything.
    #[must_use]
    pub fn sample(sample: Sample) -> Self {
        Self { sample: Some(sample), ..Self::default() }
    }

    /// True when everything is taken.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.sample.is_none() && self.includes.iter().chain(&self.excludes).all(Patterns::is_empty)
    }

    /// Decides about a path that begins with a slash.
    #[must_use]
    pub fn choose(&self, path: &[u8]) -> Choice {
        let mut choice = Choice { selected: true, enter: true };
        if self.includes.iter().any(|patterns| !patterns.is_empty()) {
            let answers = self.includes.each_ref().map(|patterns| patterns.check(path));
            choice.selected = answers.iter().any(|answer| answer.matched);
            choice.enter = answers.iter().any(|answer| answer.matched || answer.children_may_match);
        }
        if self.excludes.iter().any(|patterns| patterns.matches(path)) {
            choice = Choice { selected: false, enter: false };
        }
        choice.selected &= self.sample.is_none_or(|sample| sample.takes(path));
        choice
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn choice(selection: &Selection, path: &str) -> (bool, bool) {
        let Choice { selected, enter } = selection.choose(path.as_bytes());
        (selected, enter)
    }

    #[test]
    fn nothing_given_takes_everything() {
        let all = Selection::default();
        assert!(all.is_everything());
        assert_eq!(choice(&all, "/a/b"), (true, true));
    }

    fn selection(includes: &[&str], ignoring_case: &[&str], excludes: &[&str]) -> Selection {
        let list = |ignore_case, given: &[&str]| {
            let mut patterns = Patterns::new(ignore_case);
            given.iter().for_each(|pattern| patterns.add(pattern.as_bytes()).unwrap());
            patterns
        };
        Selection::new([list(false, includes), list(true, ignoring_case)], [list(false, excludes), list(true, &[])])
    }

    #[test]
    fn includes_lead_to_what_they_name() {
        let some = selection(&["/home/*/docs"], &["*.TXT"], &[]);
        assert_eq!(choice(&some, "/home"), (false, true));
        assert_eq!(choice(&some, "/home/u/docs"), (true, true));
        assert_eq!(choice(&some, "/home/u/docs/deep/x"), (true, true));
        assert!(choice(&some, "/etc/a.txt").0);
        assert!(!choice(&some, "/etc/a.png").0);
        assert_eq!(choice(&selection(&["/home/u"], &[], &[]), "/etc"), (false, false));
    }

    #[test]
    fn a_sample_takes_its_share_and_grows() {
        let taken = |percent, seed| {
            let some = Selection::sample(Sample { percent, seed });
            assert!(!some.is_everything());
            let paths = (0..10_000).map(|path| format!("/{path}"));
            paths.filter(|path| choice(&some, path).0).collect::<std::collections::BTreeSet<_>>()
        };
        let (few, more) = (taken(5.0, 1), taken(20.0, 1));
        assert!((400..600).contains(&few.len()) && (1_800..2_200).contains(&more.len()));
        assert!(few.is_subset(&more) && few != taken(5.0, 2));
        assert_eq!((taken(0.0, 1).len(), taken(100.0, 1).len()), (0, 10_000));
    }

    #[test]
    fn excludes_win_and_are_not_entered() {
        let some = selection(&[], &[], &["*.o", "!keep.o"]);
        assert_eq!(choice(&some, "/src/a.o"), (false, false));
        assert_eq!(choice(&some, "/src/keep.o"), (true, true));
        let some = selection(&["/src"], &[], &["*.o"]);
        assert_eq!(choice(&some, "/src/a.c"), (true, true));
        assert_eq!(choice(&some, "/src/a.o"), (false, false));
        assert!(!choice(&some, "/doc/a.c").0);
    }
}
