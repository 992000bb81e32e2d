//! Exclude and include patterns as they are given: on the command line and in files of them. What they mean, and how such
//! files are read, is the business of [`crate::files`].

use crate::files::exclude::Excludes;
use crate::files::list::{self, ListError};
use crate::files::pattern::{PatternError, Patterns};
use crate::tasks::failure::Failure;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

impl From<PatternError> for Failure {
    fn from(error: PatternError) -> Self {
        Self::usage(error.to_string())
    }
}

impl From<ListError> for Failure {
    fn from(error: ListError) -> Self {
        match error {
            ListError::Pattern(error) => error.into(),
            error => Self::failed(error.to_string()),
        }
    }
}

/// Patterns of both kinds.
#[derive(Debug, Clone)]
pub struct Selection {
    /// Upper and lower case differ.
    pub exact: Patterns,
    /// Upper and lower case are the same.
    pub ignoring_case: Patterns,
}

impl Selection {
    fn new(
        exact: &[OsString],
        ignoring_case: &[OsString],
        files: &[PathBuf],
        files_ignoring_case: &[PathBuf],
    ) -> Result<Self, Failure> {
        let mut this = Self { exact: Patterns::new(false), ignoring_case: Patterns::new(true) };
        for (patterns, texts, files) in
            [(&mut this.exact, exact, files), (&mut this.ignoring_case, ignoring_case, files_ignoring_case)]
        {
            for text in texts {
                patterns.add(text.as_bytes())?;
            }
            for file in files {
                for pattern in list::read_patterns(file)? {
                    patterns.add(&pattern)?;
                }
            }
        }
        Ok(this)
    }

    /// True when no pattern is given.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.ignoring_case.is_empty()
    }

    /// True when a pattern of either kind matches.
    #[must_use]
    pub fn matches(&self, path: &[u8]) -> bool {
        self.exact.matches(path) || self.ignoring_case.matches(path)
    }
}

/// What to leave out.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ExcludeOptions {
    /// Leave out what matches this pattern (can be given multiple times)
    #[arg(short, long, value_name = "PATTERN", help_heading = "Leaving out")]
    pub exclude: Vec<OsString>,
    /// The same, without regard to upper and lower case
    #[arg(long, value_name = "PATTERN", help_heading = "Leaving out")]
    pub iexclude: Vec<OsString>,
    /// Read exclude patterns from this file, one a line (can be given multiple times)
    #[arg(long, value_name = "FILE", help_heading = "Leaving out")]
    pub exclude_file: Vec<PathBuf>,
    /// The same, without regard to upper and lower case
    #[arg(long, value_name = "FILE", help_heading = "Leaving out")]
    pub iexclude_file: Vec<PathBuf>,
}

impl ExcludeOptions {
    /// All patterns, files read.
    ///
    /// # Errors
    /// When a file cannot be read, or a pattern is none.
    pub fn patterns(&self) -> Result<Selection, Failure> {
        Selection::new(&self.exclude, &self.iexclude, &self.exclude_file, &self.iexclude_file)
    }

    /// Adds all patterns to what a backup leaves out.
    ///
    /// # Errors
    /// As [`ExcludeOptions::patterns`].
    pub fn add_to(&self, excludes: &mut Excludes) -> Result<(), Failure> {
        for (texts, files, ignore_case) in
            [(&self.exclude, &self.exclude_file, false), (&self.iexclude, &self.iexclude_file, true)]
        {
            for text in texts {
                excludes.add(text.as_bytes(), ignore_case)?;
            }
            for file in files {
                excludes.add_file(file, ignore_case)?;
            }
        }
        Ok(())
    }

    /// The patterns given on the command line, for the snapshot's facts.
    #[must_use]
    pub fn given(&self) -> Vec<Vec<u8>> {
        self.exclude.iter().chain(&self.iexclude).map(|text| text.as_bytes().to_vec()).collect()
    }
}

/// What to take only.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct IncludeOptions {
    /// Take only what matches this pattern (can be given multiple times)
    #[arg(short, long, value_name = "PATTERN", help_heading = "Taking only")]
    pub include: Vec<OsString>,
    /// The same, without regard to upper and lower case
    #[arg(long, value_name = "PATTERN", help_heading = "Taking only")]
    pub iinclude: Vec<OsString>,
    /// Read include patterns from this file, one a line (can be given multiple times)
    #[arg(long, value_name = "FILE", help_heading = "Taking only")]
    pub include_file: Vec<PathBuf>,
    /// The same, without regard to upper and lower case
    #[arg(long, value_name = "FILE", help_heading = "Taking only")]
    pub iinclude_file: Vec<PathBuf>,
}

impl IncludeOptions {
    /// All patterns, files read.
    ///
    /// # Errors
    /// When a file cannot be read, or a pattern is none.
    pub fn patterns(&self) -> Result<Selection, Failure> {
        Selection::new(&self.include, &self.iinclude, &self.include_file, &self.iinclude_file)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::tasks::failure::Kind;

    #[test]
    fn patterns_come_from_everywhere() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("p");
        std::fs::write(&file, "# comment\nc\n").unwrap();
        let options = ExcludeOptions {
            exclude: vec!["a".into()],
            iexclude: vec!["b".into()],
            exclude_file: vec![file.clone()],
            iexclude_file: Vec::new(),
        };
        let selection = options.patterns().unwrap();
        let mut excludes = Excludes::new();
        options.add_to(&mut excludes).unwrap();
        for (path, expected) in
            [("/x/a", true), ("/A", false), ("/B", true), ("/c/d", true), ("/C", false), ("/e", false)]
        {
            assert_eq!(selection.matches(path.as_bytes()), expected, "{path}");
            assert_eq!(excludes.rejects_path(path.as_bytes()), expected, "{path}");
        }
        assert!(IncludeOptions::default().patterns().unwrap().is_empty());
        let ignoring = IncludeOptions { iinclude_file: vec![file], ..IncludeOptions::default() };
        assert!(ignoring.patterns().unwrap().matches(b"/C"));
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let missing = ExcludeOptions { exclude_file: vec!["/nowhere/p".into()], ..ExcludeOptions::default() };
        let error = missing.patterns().unwrap_err();
        assert!(error.chain().contains("/nowhere/p"), "{}", error.chain());
        assert_eq!(error.kind(), Kind::Failed);
        let bad = ExcludeOptions { exclude: vec!["[a".into()], ..ExcludeOptions::default() };
        assert_eq!(bad.patterns().unwrap_err().kind(), Kind::Usage);
    }
}
