//! The paths that a snapshot names when more are given than it can name.
//!
//! Invariants
//! - What fits is named as it was given.
//! - What is named for many paths ends with a slash ([`snapshot::many_beneath`]), which no given path does: such a snapshot is never one of
//!   the same source as one of the whole directory. Retention must not let one stand for the other, and a restore must not take the
//!   directory for stored whole.
//! - It depends on where the paths lie and not on how many there are: the same command finds its parent the next day, when files
//!   have come and gone.

use std::collections::BTreeMap;

use crate::codec::snapshot;

/// Bytes of paths that are named as they are. The rest of a snapshot's room is for everything else that it says.
const BYTES_MAX: usize = snapshot::PLAIN_MAX as usize / 8 * 3;

/// What a snapshot names for these absolute paths. Where they are too many, a path that lies in another one is left out, which is part of
/// that; where the others are too many still, those that share the first name become the deepest directory that holds them all.
#[must_use]
pub fn fold(paths: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    if fits(&paths) {
        return paths;
    }
    let topmost = topmost(paths);
    if fits(&topmost) {
        return topmost;
    }
    let mut groups: BTreeMap<&[u8], Vec<&[u8]>> = BTreeMap::new();
    for path in &topmost {
        groups.entry(first_name(path)).or_default().push(path);
    }
    let folded: Vec<Vec<u8>> = groups.into_values().map(|group| common(&group)).collect();
    if fits(&folded) { folded } else { vec![b"//".to_vec()] }
}

fn fits(paths: &[Vec<u8>]) -> bool {
    paths.len() <= snapshot::LIST_MAX && paths.iter().map(Vec::len).sum::<usize>() <= BYTES_MAX
}

fn first_name(path: &[u8]) -> &[u8] {
    path.split(|byte| *byte == b'/').find(|name| !name.is_empty()).unwrap_or_default()
}

/// Each once, sorted by their names, without those that lie in another one.
fn topmost(mut paths: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let names = |path: &[u8]| path.split(|byte| *byte == b'/').map(<[u8]>::to_vec).collect::<Vec<_>>();
    paths.sort_by_cached_key(|path| names(path));
    let mut kept: Vec<Vec<u8>> = Vec::new();
    for path in paths {
        let is_in = |above: &Vec<u8>| {
            let rest = path.strip_prefix(above.as_slice());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/") || above == b"/")
        };
        if !kept.last().is_some_and(is_in) {
            kept.push(path);
        }
    }
    kept
}

/// One path as it is; of several the deepest directory that holds all of them, with a slash behind it.
fn common(group: &[&[u8]]) -> Vec<u8> {
    let [first, others @ ..] = group else { return Vec::new() };
    if others.is_empty() {
        return first.to_vec();
    }
    let mut shared = first.len();
    for other in others {
        shared = first.iter().zip(*other).take(shared).take_while(|(one, other)| one == other).count();
    }
    let slash = first.get(..shared).and_then(|shared| shared.iter().rposition(|byte| *byte == b'/')).unwrap_or(0);
    first.get(..=slash).unwrap_or_default().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(paths: Vec<Vec<u8>>) -> Vec<String> {
        fold(paths).iter().map(|path| String::from_utf8_lossy(path).into_owned()).collect()
    }

    fn many(count: usize, path: impl Fn(usize) -> String) -> Vec<Vec<u8>> {
        (0..count).map(|number| path(number).into_bytes()).collect()
    }

    const MANY: usize = snapshot::LIST_MAX + 1;

    #[test]
    fn what_fits_is_as_it_was_given() {
        let given = many(snapshot::LIST_MAX, |number| format!("/home/{}", snapshot::LIST_MAX - number));
        assert_eq!(fold(given.clone()), given);
        let given = vec![b"/b".to_vec(), b"/a".to_vec(), b"/a/b".to_vec(), b"/a".to_vec()];
        assert_eq!(fold(given.clone()), given);
    }

    #[test]
    fn many_paths_become_the_directories_that_hold_them() {
        let (of_home, other) =
            (many(MANY, |number| format!("/home/u/{}/{number}", number % 7)), b"/etc/hosts".to_vec());
        assert_eq!(shown(of_home.clone()), ["/home/u/"]);
        // However they are ordered, and when some have gone.
        let mut less: Vec<_> = of_home.iter().rev().cloned().collect();
        less.push(b"/home/u/8/another".to_vec());
        less.swap_remove(0);
        assert_eq!(shown(less), ["/home/u/"]);
        assert_eq!(shown([of_home.clone(), vec![other.clone()]].concat()), ["/etc/hosts", "/home/u/"]);
        assert_eq!(shown([of_home.clone(), vec![b"/home/v".to_vec()]].concat()), ["/home/"]);
        // A name that only begins as another one is another one.
        assert_eq!(shown(many(MANY, |number| format!("/home/ab{number}"))), ["/home/"]);
        // The directory itself holds all of them, whole.
        assert_eq!(shown([of_home.clone(), vec![b"/home/u".to_vec()]].concat()), ["/home/u"]);
        assert_eq!(shown([of_home, vec![b"/".to_vec()]].concat()), ["/"]);
        assert_eq!(shown(many(MANY, |number| format!("/{number}"))), ["//"]);
        // Few, and long.
        assert_eq!(
            shown(many(2_000, |number| format!("/a/{}/{number}", "x".repeat(1_000)))),
            [format!("/a/{}/", "x".repeat(1_000))]
        );
    }

    #[test]
    fn what_lies_in_another_one_is_found_whatever_stands_between() {
        let mut given = many(MANY, |number| format!("/a/b/{number}"));
        given.extend([b"/a/b".to_vec(), b"/a/b-c".to_vec(), b"/a/b!".to_vec()]);
        assert_eq!(shown(given), ["/a/b", "/a/b!", "/a/b-c"]);
    }

    #[test]
    fn what_stands_for_many_is_told_from_a_directory() {
        for (path, expected) in [("/home/u/", Some("/home/u")), ("//", Some("/")), ("/", None), ("/home/u", None)] {
            assert_eq!(snapshot::many_beneath(path.as_bytes()), expected.map(str::as_bytes), "{path}");
        }
    }
}
