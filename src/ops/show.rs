//! Everything about one snapshot but its files.

use super::select::{self, Chosen, Filter, SnapshotRef};
use super::{Error, Result};
use crate::codec::snapshot::{Problem, many_beneath};
use crate::repository::Repository;
use crate::repository::list_reader::Problems;

/// Finds the snapshot.
///
/// # Errors
/// As [`select::one`].
pub fn plan(repository: &Repository, name: &SnapshotRef, filter: &Filter) -> Result<Chosen> {
    select::one(repository, name, filter)
}

/// The path of a note as it is typed on the machine that was backed up: with the slash before it when it leads to, or lies
/// in, a source that was given by an absolute path. `sources` are the paths of the snapshot.
#[must_use]
pub fn typed_path(path: &[u8], sources: &[Vec<u8>]) -> Vec<u8> {
    let absolute = [b"/", path].concat();
    let leads_to = |longer: &[u8], shorter: &[u8]| {
        longer.strip_prefix(shorter).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/") || shorter == b"/")
    };
    let is_in = |source: &Vec<u8>| {
        let source = many_beneath(source).unwrap_or(source);
        leads_to(&absolute, source) || leads_to(source, &absolute)
    };
    if !path.is_empty() && sources.iter().any(is_in) { absolute } else { path.to_vec() }
}

/// Hands every note of the snapshot to `show`: there may be a million.
///
/// # Errors
/// The damage, when the notes cannot be read; what `show` returns.
pub fn problems<E: From<Error>>(
    repository: &Repository,
    chosen: &Chosen,
    show: &mut dyn FnMut(Problem) -> std::result::Result<(), E>,
) -> std::result::Result<(), E> {
    for problem in Problems::of(repository, &chosen.snapshot) {
        show(problem.map_err(Error::from)?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_belongs_to_an_absolute_source_gets_its_slash() {
        let sources = [b"/home/u/Documents".to_vec()];
        for (path, typed) in [
            ("home/u/Documents/cv.odt", "/home/u/Documents/cv.odt"),
            ("home/u/Documents", "/home/u/Documents"),
            ("home/u", "/home/u"),
            ("home/u/Documents2", "home/u/Documents2"),
            ("Documents/cv.odt", "Documents/cv.odt"),
            ("", ""),
        ] {
            assert_eq!(typed_path(path.as_bytes(), &sources), typed.as_bytes());
        }
        assert_eq!(typed_path(b"etc", &[b"/".to_vec()]), b"/etc");
        assert_eq!(typed_path(b"etc", &[]), b"etc");
        assert_eq!(typed_path(b"home/u/x", &[b"/home/u/".to_vec()]), b"/home/u/x");
        assert_eq!(typed_path(b"etc/x", &[b"//".to_vec()]), b"/etc/x");
    }
}
