//! The options that give exclude and include patterns. What is made of them: [`crate::tasks::patterns`].

use crate::files::exclude::Excludes;
use crate::tasks::failure::Failure;
use crate::tasks::patterns::{PatternRules, Selection};
use std::ffi::OsString;
use std::path::PathBuf;

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
    /// What they say.
    #[must_use]
    pub fn rules(&self) -> PatternRules {
        rules(&self.exclude, &self.iexclude, &self.exclude_file, &self.iexclude_file)
    }

    /// All patterns, files read.
    ///
    /// # Errors
    /// As [`PatternRules::read`].
    pub fn patterns(&self) -> Result<Selection, Failure> {
        self.rules().read()
    }

    /// Adds all patterns to what a backup leaves out.
    ///
    /// # Errors
    /// As [`PatternRules::read`].
    pub fn add_to(&self, excludes: &mut Excludes) -> Result<(), Failure> {
        self.rules().add_to(excludes)
    }

    /// The patterns given on the command line, for the snapshot's facts.
    #[must_use]
    pub fn given(&self) -> Vec<Vec<u8>> {
        self.rules().given()
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
    /// What they say.
    #[must_use]
    pub fn rules(&self) -> PatternRules {
        rules(&self.include, &self.iinclude, &self.include_file, &self.iinclude_file)
    }

    /// All patterns, files read.
    ///
    /// # Errors
    /// As [`PatternRules::read`].
    pub fn patterns(&self) -> Result<Selection, Failure> {
        self.rules().read()
    }
}

fn rules(
    exact: &[OsString],
    ignoring_case: &[OsString],
    files: &[PathBuf],
    files_ignoring_case: &[PathBuf],
) -> PatternRules {
    let paths = |texts: &[OsString]| texts.iter().map(PathBuf::from).collect();
    PatternRules {
        patterns: paths(exact),
        ignoring_case: paths(ignoring_case),
        files: files.to_vec(),
        files_ignoring_case: files_ignoring_case.to_vec(),
    }
}
