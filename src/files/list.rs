//! Files that list patterns or paths: `--exclude-file`, `--files-from`, `--files-from-verbatim`, `--files-from-raw`.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::pattern::{PatternError, component_matches, is_glob};
use super::source::as_path;

/// Why a list cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// The file cannot be read.
    #[error("{path}: cannot be read: {source}", path = .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// It holds a pattern that cannot be read.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// `--files-from-raw`: an empty name, or a last name that does not end in a zero byte.
    #[error("{path}: {reason}", path = .path.display())]
    Raw {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: &'static str,
    },
}

/// The whole of a file, or of standard input for `-`.
fn content(path: &Path) -> Result<Vec<u8>, ListError> {
    let read = if path.as_os_str() == "-" {
        let mut all = Vec::new();
        io::stdin().lock().read_to_end(&mut all).map(|_| all)
    } else {
        std::fs::read(path)
    };
    read.map_err(|source| ListError::Read { path: path.to_owned(), source })
}

/// Lines that are neither empty nor comments, without the white space around them.
fn lines(content: &[u8]) -> impl Iterator<Item = &[u8]> {
    let content = content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(content);
    content.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty() && line[0] != b'#')
}

/// `--exclude-file`: one pattern a line, `#` begins a comment line, `$NAME` and `${NAME}` stand for variables of the
/// environment and `$$` for a dollar sign.
///
/// # Errors
/// The file cannot be read.
pub fn read_patterns(path: &Path) -> Result<Vec<Vec<u8>>, ListError> {
    let content = content(path)?;
    Ok(lines(&content)
        .map(|line| expand_variables(line, |name| std::env::var_os(name).map(OsString::into_vec)))
        .collect())
}

/// Go's `os.Expand`, with `$$` as a dollar sign. An unknown variable is empty.
fn expand_variables(line: &[u8], value: impl Fn(&OsStr) -> Option<Vec<u8>>) -> Vec<u8> {
    let mut out = Vec::with_capacity(line.len());
    let mut rest = line;
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'$' {
            out.push(*first);
            continue;
        }
        let name = match rest {
            [b'$', after @ ..] => {
                out.push(b'$');
                rest = after;
                continue;
            }
            [b'{', after @ ..] => {
                // Without an end, or empty, it is eaten.
                let end = after.iter().position(|&byte| byte == b'}').unwrap_or(after.len());
                rest = after.get(end + 1..).unwrap_or_default();
                &after[..end]
            }
            // The shell's own one-character variables have no value in an environment.
            [b'*' | b'#' | b'@' | b'!' | b'?' | b'-' | b'0'..=b'9', after @ ..] => {
                rest = after;
                continue;
            }
            other => {
                let end = other.iter().position(|b| !b.is_ascii_alphanumeric() && *b != b'_').unwrap_or(other.len());
                if end == 0 {
                    out.push(b'$');
                    continue;
                }
                rest = &other[end..];
                &other[..end]
            }
        };
        out.extend(value(OsStr::from_bytes(name)).unwrap_or_default());
    }
    out
}

/// `--files-from`: one pattern a line, comments and empty lines skipped, each expanded to the paths that exist. One that
/// matches nothing stands for itself: a source that is missing, which a backup names and goes on without.
///
/// # Errors
/// The file or a pattern cannot be read.
pub fn files_from(path: &Path) -> Result<Vec<PathBuf>, ListError> {
    let mut all = Vec::new();
    for line in lines(&content(path)?) {
        let found = expand(line)?;
        if found.is_empty() {
            all.push(PathBuf::from(OsStr::from_bytes(line)));
        }
        all.extend(found);
    }
    Ok(all)
}

/// `--files-from-verbatim`: one path a line, taken as it is; empty lines are skipped.
///
/// # Errors
/// The file cannot be read.
pub fn files_from_verbatim(path: &Path) -> Result<Vec<PathBuf>, ListError> {
    let content = content(path)?;
    Ok(content.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()).map(path_buf).collect())
}

/// `--files-from-raw`: paths that each end in a zero byte.
///
/// # Errors
/// The file cannot be read, holds an empty path, or does not end in a zero byte.
pub fn files_from_raw(path: &Path) -> Result<Vec<PathBuf>, ListError> {
    let refuse = |reason| ListError::Raw { path: path.to_owned(), reason };
    let content = content(path)?;
    if content.is_empty() {
        return Ok(Vec::new());
    }
    let content = content.strip_suffix(b"\0").ok_or_else(|| refuse("the last path does not end in a zero byte"))?;
    let paths: Vec<_> = content.split(|&byte| byte == 0).map(path_buf).collect();
    if paths.iter().any(|path| path.as_os_str().is_empty()) {
        return Err(refuse("it holds an empty path"));
    }
    Ok(paths)
}

fn path_buf(bytes: &[u8]) -> PathBuf {
    as_path(bytes).to_owned()
}

/// Go's `filepath.Glob`: the existing paths that a pattern matches, sorted; a plain path only when it exists.
fn expand(pattern: &[u8]) -> Result<Vec<PathBuf>, PatternError> {
    let mut found = vec![if pattern.starts_with(b"/") { PathBuf::from("/") } else { PathBuf::new() }];
    for component in pattern.split(|&byte| byte == b'/').filter(|component| !component.is_empty()) {
        let mut next = Vec::new();
        // A pattern that cannot be read is an error even where there is nothing to compare it with.
        component_matches(component, b"")?;
        for base in found {
            if !is_glob(component) {
                let path = base.join(as_path(component));
                if path.symlink_metadata().is_ok() {
                    next.push(path);
                }
                continue;
            }
            let place = if base.as_os_str().is_empty() { Path::new(".") } else { &base };
            let mut names: Vec<OsString> =
                std::fs::read_dir(place).into_iter().flatten().flatten().map(|entry| entry.file_name()).collect();
            names.sort_unstable();
            for name in names {
                if component_matches(component, name.as_bytes())? {
                    next.push(base.join(name));
                }
            }
        }
        found = next;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn variables_expand_as_in_restic() {
        let value = |name: &OsStr| (name == "HOME").then(|| b"/home/u".to_vec());
        for (line, expected) in [
            ("$HOME/x", "/home/u/x"),
            ("${HOME}x", "/home/ux"),
            ("$HOMER", ""),
            ("a$$b", "a$b"),
            ("$/x", "$/x"),
            ("end$", "end$"),
            ("${HOME", "/home/u"),
            ("${}x", "x"),
            ("$1x", "x"),
        ] {
            assert_eq!(expand_variables(line.as_bytes(), value), expected.as_bytes(), "{line}");
        }
    }

    #[test]
    fn lists_are_read_in_their_three_forms() {
        let place = tempfile::tempdir().unwrap();
        let list = place.path().join("list");
        let at = |name: &str| place.path().join(name);
        for name in ["a.txt", "b.txt", "c [1]"] {
            std::fs::write(at(name), "").unwrap();
        }
        let root = place.path().to_str().unwrap();
        std::fs::write(&list, format!("\u{feff}# comment\n\n  {root}/*.txt \r\n")).unwrap();
        assert_eq!(files_from(&list).unwrap(), [at("a.txt"), at("b.txt")]);
        std::fs::write(&list, format!("{root}/*.missing\n")).unwrap();
        assert_eq!(files_from(&list).unwrap(), [at("*.missing")]);
        std::fs::write(&list, format!("{root}/c [1]\n\n# x\n")).unwrap();
        assert_eq!(files_from_verbatim(&list).unwrap(), [at("c [1]"), PathBuf::from("# x")]);
        std::fs::write(&list, b"a\nb\0\xff\0").unwrap();
        assert_eq!(files_from_raw(&list).unwrap(), [as_path(b"a\nb"), as_path(b"\xff")]);
        for bad in [&b"a\0b"[..], b"a\0\0"] {
            std::fs::write(&list, bad).unwrap();
            assert!(matches!(files_from_raw(&list), Err(ListError::Raw { .. })));
        }
    }
}
