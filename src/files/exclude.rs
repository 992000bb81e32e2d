//! What a backup leaves out: restic's `--exclude...` options and the gitignore mode.
//!
//! - Patterns ([`super::pattern`]) are matched against the absolute path of an entry on disk, as restic does.
//! - A directory that is left out is not entered.
//! - `--exclude-caches` and `--exclude-if-present` leave out everything in a directory that holds the tag file, except
//!   the tag file itself; the directory is kept.

use std::io;
use std::path::Path;

use ignore::gitignore::{Gitignore, GitignoreBuilder};

use super::directory::Directory;
use super::list::{self, ListError};
use super::pattern::{PatternError, Patterns};
use super::stat::{Kind, Stat};

/// Name and first bytes of the file that marks a cache directory; <https://bford.info/cachedir/>.
const CACHEDIR_TAG: (&[u8], &[u8]) = (b"CACHEDIR.TAG", b"Signature: 8a477f597d28d172789f06886806bc55");

/// A longer `.gitignore` is cut here, in bytes.
const GITIGNORE_BYTES_MAX: usize = 4 << 20;

/// A file whose presence in a directory leaves its siblings out.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Tag {
    name: Vec<u8>,
    header: Vec<u8>,
}

/// Everything that decides what is left out of a backup. Empty by default.
#[derive(Debug, Clone)]
pub struct Excludes {
    patterns: Patterns,
    patterns_ignoring_case: Patterns,
    larger_than: Option<u64>,
    tags: Vec<Tag>,
    git_ignore: bool,
}

impl Default for Excludes {
    fn default() -> Self {
        Self {
            patterns: Patterns::new(false),
            patterns_ignoring_case: Patterns::new(true),
            larger_than: None,
            tags: Vec::new(),
            git_ignore: false,
        }
    }
}

impl Excludes {
    /// Nothing is left out.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// `--exclude`, and with `ignore_case` `--iexclude`.
    ///
    /// # Errors
    /// A pattern that cannot be read.
    pub fn add(&mut self, pattern: &[u8], ignore_case: bool) -> Result<(), PatternError> {
        if ignore_case { self.patterns_ignoring_case.add(pattern) } else { self.patterns.add(pattern) }
    }

    /// `--exclude-file`, `--iexclude-file`.
    ///
    /// # Errors
    /// The file cannot be read, or holds a pattern that cannot be read.
    pub fn add_file(&mut self, path: &Path, ignore_case: bool) -> Result<(), ListError> {
        for pattern in list::read_patterns(path)? {
            self.add(&pattern, ignore_case)?;
        }
        Ok(())
    }

    /// `--exclude-larger-than`, in bytes: files only.
    pub fn set_larger_than(&mut self, bytes: u64) {
        self.larger_than = Some(bytes);
    }

    /// `--exclude-caches`.
    pub fn add_caches(&mut self) {
        let (name, header) = CACHEDIR_TAG;
        self.tags.push(Tag { name: name.to_vec(), header: header.to_vec() });
    }

    /// `--exclude-if-present FILE[:HEADER]`.
    ///
    /// # Errors
    /// The text why it is refused: an empty name, or one with a slash.
    pub fn add_if_present(&mut self, rule: &[u8]) -> Result<(), String> {
        let mut parts = rule.splitn(2, |&byte| byte == b':');
        let name = parts.next().unwrap_or_default();
        if name.is_empty() || name.contains(&b'/') {
            return Err("--exclude-if-present needs a file name without a slash: FILE or FILE:HEADER".to_owned());
        }
        self.tags.push(Tag { name: name.to_vec(), header: parts.next().unwrap_or_default().to_vec() });
        Ok(())
    }

    /// Gitignore mode: `.gitignore` files found on the way are obeyed.
    pub fn set_git_ignore(&mut self, on: bool) {
        self.git_ignore = on;
    }

    /// Whether the patterns leave out an absolute path.
    #[must_use]
    pub fn rejects_path(&self, path: &[u8]) -> bool {
        self.patterns.matches(path) || self.patterns_ignoring_case.matches(path)
    }

    /// Whether an entry is left out for what it is.
    #[must_use]
    pub fn rejects_stat(&self, stat: &Stat) -> bool {
        stat.kind == Kind::File && self.larger_than.is_some_and(|limit| stat.size > limit)
    }

    /// What a directory's own files say about the rest of it. `path` is where it lies, for `.gitignore`.
    /// A tag or `.gitignore` that cannot be read counts as absent.
    #[must_use]
    pub fn level(&self, directory: &Directory, path: &[u8], names: &[Vec<u8>]) -> Level {
        let holds = |name: &[u8]| names.binary_search_by(|other| other.as_slice().cmp(name)).is_ok();
        let tags = self.tags.iter().filter(|tag| holds(&tag.name) && tag.is_in(directory)).map(|tag| tag.name.clone());
        let ignore = (self.git_ignore && holds(b".gitignore")).then(|| git_ignore(directory, path)).flatten();
        Level { tags: tags.collect(), ignore }
    }
}

impl Tag {
    fn is_in(&self, directory: &Directory) -> bool {
        if self.header.is_empty() {
            return true;
        }
        matches!(directory.read_small(&self.name, self.header.len()), Ok(Some(content)) if content == self.header)
    }
}

fn git_ignore(directory: &Directory, path: &[u8]) -> Option<Gitignore> {
    let content: io::Result<_> = directory.read_small(b".gitignore", GITIGNORE_BYTES_MAX);
    let content = content.ok()??;
    let mut builder = GitignoreBuilder::new(super::source::as_path(path));
    for line in content.split(|&byte| byte == b'\n') {
        // git skips a line that it cannot read, and so do we.
        if let Ok(line) = str::from_utf8(line) {
            let _ = builder.add_line(None, line.trim_end_matches('\r'));
        }
    }
    builder.build().ok()
}

/// What one directory says about its entries and what lies beneath them.
#[derive(Debug, Default)]
pub struct Level {
    tags: Vec<Vec<u8>>,
    ignore: Option<Gitignore>,
}

impl Level {
    /// Whether a tag file of this directory leaves the entry out.
    #[must_use]
    pub fn tag_rejects(&self, name: &[u8]) -> bool {
        self.tags.iter().any(|tag| tag != name)
    }

    /// Whether this directory's `.gitignore` leaves the entry out (true), asks for it (false) or says nothing.
    #[must_use]
    pub fn git_rejects(&self, path: &[u8], is_directory: bool) -> Option<bool> {
        let ignore = self.ignore.as_ref()?;
        let answer = ignore.matched(super::source::as_path(path), is_directory);
        if answer.is_none() { None } else { Some(answer.is_ignore()) }
    }
}
