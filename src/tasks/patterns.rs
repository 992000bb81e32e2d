//! Exclude and include patterns as they are given: one by one and in files of them. What they mean, and how such files are read, is the
//! business of [`crate::files`].

use super::failure::Failure;
use crate::files::exclude::Excludes;
use crate::files::list::{self, ListError};
use crate::files::pattern::{PatternError, Patterns};
use serde::Deserialize;
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

/// Patterns, and files that hold one a line. They are paths because names need not be UTF-8.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct PatternRules {
    /// Patterns for which upper and lower case differ.
    pub patterns: Vec<PathBuf>,
    /// Patterns for which they are the same.
    pub ignoring_case: Vec<PathBuf>,
    /// Files of patterns of the first kind.
    pub files: Vec<PathBuf>,
    /// Files of patterns of the second kind.
    pub files_ignoring_case: Vec<PathBuf>,
}

impl PatternRules {
    /// All patterns, files read.
    ///
    /// # Errors
    /// When a file cannot be read; a usage error when a pattern is none.
    pub fn read(&self) -> Result<Selection, Failure> {
        let mut this = Selection { exact: Patterns::new(false), ignoring_case: Patterns::new(true) };
        for (patterns, texts, files) in [
            (&mut this.exact, &self.patterns, &self.files),
            (&mut this.ignoring_case, &self.ignoring_case, &self.files_ignoring_case),
        ] {
            for text in texts {
                patterns.add(text.as_os_str().as_bytes())?;
            }
            for file in files {
                for pattern in list::read_patterns(file)? {
                    patterns.add(&pattern)?;
                }
            }
        }
        Ok(this)
    }

    /// Adds all patterns to what a backup leaves out.
    ///
    /// # Errors
    /// As [`PatternRules::read`].
    pub fn add_to(&self, excludes: &mut Excludes) -> Result<(), Failure> {
        for (texts, files, ignore_case) in
            [(&self.patterns, &self.files, false), (&self.ignoring_case, &self.files_ignoring_case, true)]
        {
            for text in texts {
                excludes.add(text.as_os_str().as_bytes(), ignore_case)?;
            }
            for file in files {
                excludes.add_file(file, ignore_case)?;
            }
        }
        Ok(())
    }

    /// The patterns that were given one by one, for a snapshot's facts.
    #[must_use]
    pub fn given(&self) -> Vec<Vec<u8>> {
        self.patterns.iter().chain(&self.ignoring_case).map(|text| text.as_os_str().as_bytes().to_vec()).collect()
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
        let rules = PatternRules {
            patterns: vec!["a".into()],
            ignoring_case: vec!["b".into()],
            files: vec![file.clone()],
            files_ignoring_case: Vec::new(),
        };
        let selection = rules.read().unwrap();
        let mut excludes = Excludes::new();
        rules.add_to(&mut excludes).unwrap();
        for (path, expected) in
            [("/x/a", true), ("/A", false), ("/B", true), ("/c/d", true), ("/C", false), ("/e", false)]
        {
            assert_eq!(selection.matches(path.as_bytes()), expected, "{path}");
            assert_eq!(excludes.rejects_path(path.as_bytes()), expected, "{path}");
        }
        assert_eq!(rules.given(), [b"a", b"b"]);
        assert!(PatternRules::default().read().unwrap().is_empty());
        let ignoring = PatternRules { files_ignoring_case: vec![file], ..PatternRules::default() };
        assert!(ignoring.read().unwrap().matches(b"/C"));
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let missing = PatternRules { files: vec!["/nowhere/p".into()], ..PatternRules::default() };
        let error = missing.read().unwrap_err();
        assert!(error.chain().contains("/nowhere/p"), "{}", error.chain());
        assert_eq!(error.kind(), Kind::Failed);
        let bad = PatternRules { patterns: vec!["[a".into()], ..PatternRules::default() };
        assert_eq!(bad.read().unwrap_err().kind(), Kind::Usage);
    }

    #[test]
    fn a_request_writes_them_as_text() {
        let rules: PatternRules =
            serde_json::from_str(r#"{"patterns": ["*.o"], "files-ignoring-case": ["/etc/p"]}"#).unwrap();
        assert_eq!((rules.patterns, rules.files_ignoring_case), (vec!["*.o".into()], vec!["/etc/p".into()]));
        assert!(serde_json::from_str::<PatternRules>(r#"{"pattern": []}"#).is_err());
    }
}
