//! Which directories a walk looks at when it goes over its sources again: those that changed, and the way to them.

use std::collections::{BTreeSet, HashMap};

/// Directories that are looked at again, by their path in the snapshot. See the module.
#[derive(Debug, Default)]
pub struct Focus {
    /// Names that lead on; none where all names count.
    places: HashMap<Vec<u8>, Option<BTreeSet<Vec<u8>>>>,
}

impl Focus {
    /// All names in each of these directories, and of the directories above them the names that lead there.
    #[must_use]
    pub fn on(changed: &[Vec<u8>]) -> Self {
        let mut places: HashMap<Vec<u8>, Option<BTreeSet<Vec<u8>>>> = HashMap::new();
        for path in changed {
            places.insert(path.clone(), None);
            let mut rest = path.as_slice();
            while !rest.is_empty() {
                let end = rest.iter().rposition(|byte| *byte == b'/');
                let (above, name) = match end {
                    Some(slash) => (&rest[..slash], &rest[slash + 1..]),
                    None => (&rest[..0], rest),
                };
                if let Some(names) = places.entry(above.to_vec()).or_insert_with(|| Some(BTreeSet::new())) {
                    names.insert(name.to_vec());
                }
                rest = above;
            }
        }
        Self { places }
    }

    /// True when the directory at this path is looked at, or leads to one that is.
    #[must_use]
    pub fn holds(&self, path: &[u8]) -> bool {
        self.places.contains_key(path)
    }

    /// True when every name in the directory at this path is looked at.
    #[must_use]
    pub fn is_on(&self, path: &[u8]) -> bool {
        !matches!(self.places.get(path), Some(Some(_)))
    }

    /// Whether a name in the directory at `path` is looked at. In a directory that the first walk did not meet, all are.
    #[must_use]
    pub fn wants(&self, path: &[u8], name: &[u8]) -> bool {
        match self.places.get(path) {
            Some(Some(names)) => names.contains(name),
            Some(None) | None => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_to_what_changed_is_looked_at_and_nothing_beside_it() {
        let focus = Focus::on(&[b"a/b/c".to_vec(), b"a/b".to_vec(), b"d".to_vec()]);
        for (path, name, wanted) in [
            ("", "a", true),
            ("", "d", true),
            ("", "e", false),
            ("a", "b", true),
            ("a", "x", false),
            ("a/b", "x", true),
            ("a/b/c", "x", true),
            ("d", "x", true),
            ("d/new", "x", true),
        ] {
            assert_eq!(focus.wants(path.as_bytes(), name.as_bytes()), wanted, "{path} {name}");
        }
        assert!(focus.is_on(b"a/b") && focus.is_on(b"new") && !focus.is_on(b"a") && !focus.is_on(b""));
        assert!(focus.holds(b"a") && focus.holds(b"a/b/c") && !focus.holds(b"a/x"));
        assert!(!Focus::on(&[]).holds(b""));
    }
}
