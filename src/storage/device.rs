//! Whether two directories die together: on which file system each lies. Two file systems may still share a disk, which nobody can see
//! from here.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The device number of the file system of a directory; of one that is not there yet, where it would be made.
///
/// # Errors
/// Neither it nor what lies above can be looked at.
pub fn of(path: &Path) -> io::Result<u64> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for path in path.ancestors() {
        match fs::metadata(path) {
            Ok(metadata) => return Ok(metadata.dev()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

/// True when both lie on one file system. What cannot be looked at is not called so.
#[must_use]
pub fn is_shared(one: &Path, other: &Path) -> bool {
    of(one).ok().zip(of(other).ok()).is_some_and(|(one, other)| one == other)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_not_there_lies_where_it_would_be_made() {
        let folder = tempfile::tempdir().unwrap();
        let real = of(folder.path()).unwrap();
        assert_eq!(of(&folder.path().join("a/b")).unwrap(), real);
        assert!(is_shared(folder.path(), &folder.path().join("a")));
        let proc = Path::new("/proc");
        assert!(!is_shared(folder.path(), proc), "another file system");
        fs::write(folder.path().join("file"), "").unwrap();
        assert!(!is_shared(folder.path(), &folder.path().join("file/below")), "no directory");
    }
}
