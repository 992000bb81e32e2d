//! Exclude and include patterns as they are given: on the command line and in files of them.

use super::exit::CliError;
use crate::base::escape::escape;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// One pattern, as given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    /// The pattern's bytes, restic's syntax.
    pub text: Vec<u8>,
    /// Upper and lower case are the same.
    pub ignore_case: bool,
}

/// What to leave out.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Leaving out")]
pub struct ExcludeOptions {
    /// Leave out what matches this pattern (can be given multiple times)
    #[arg(short, long, value_name = "PATTERN")]
    pub exclude: Vec<OsString>,
    /// The same, without regard to upper and lower case
    #[arg(long, value_name = "PATTERN")]
    pub iexclude: Vec<OsString>,
    /// Read exclude patterns from this file, one a line (can be given multiple times)
    #[arg(long, value_name = "FILE")]
    pub exclude_file: Vec<PathBuf>,
    /// The same, without regard to upper and lower case
    #[arg(long, value_name = "FILE")]
    pub iexclude_file: Vec<PathBuf>,
}

impl ExcludeOptions {
    /// All patterns, files read.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn patterns(&self) -> Result<Vec<Pattern>, CliError> {
        collect(&self.exclude, &self.iexclude, &self.exclude_file, &self.iexclude_file)
    }
}

/// What to take only.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Taking only")]
pub struct IncludeOptions {
    /// Take only what matches this pattern (can be given multiple times)
    #[arg(short, long, value_name = "PATTERN")]
    pub include: Vec<OsString>,
    /// The same, without regard to upper and lower case
    #[arg(long, value_name = "PATTERN")]
    pub iinclude: Vec<OsString>,
    /// Read include patterns from this file, one a line (can be given multiple times)
    #[arg(long, value_name = "FILE")]
    pub include_file: Vec<PathBuf>,
    /// The same, without regard to upper and lower case
    #[arg(long, value_name = "FILE")]
    pub iinclude_file: Vec<PathBuf>,
}

impl IncludeOptions {
    /// All patterns, files read.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn patterns(&self) -> Result<Vec<Pattern>, CliError> {
        collect(&self.include, &self.iinclude, &self.include_file, &self.iinclude_file)
    }
}

fn collect(
    exact: &[OsString],
    ignoring: &[OsString],
    files: &[PathBuf],
    ignoring_files: &[PathBuf],
) -> Result<Vec<Pattern>, CliError> {
    let given = |texts: &[OsString], ignore_case| -> Vec<Pattern> {
        texts.iter().map(|text| Pattern { text: text.as_bytes().to_vec(), ignore_case }).collect()
    };
    let mut patterns = given(exact, false);
    patterns.extend(given(ignoring, true));
    for (files, ignore_case) in [(files, false), (ignoring_files, true)] {
        for file in files {
            let content = std::fs::read(file).map_err(|error| {
                let shown = escape(file.as_os_str().as_bytes());
                CliError::failed(format!("cannot read the pattern file {shown}")).caused_by(error)
            })?;
            patterns.extend(lines(&content, variable).into_iter().map(|text| Pattern { text, ignore_case }));
        }
    }
    Ok(patterns)
}

fn variable(name: &str) -> Option<Vec<u8>> {
    std::env::var_os(name).map(OsString::into_vec)
}

/// The patterns of a file, as restic reads it: one a line, blanks around it removed, empty lines and those that begin
/// with `#` skipped, `$NAME` and `${NAME}` replaced from the environment, `$$` a dollar sign.
fn lines(content: &[u8], variable: impl Fn(&str) -> Option<Vec<u8>>) -> Vec<Vec<u8>> {
    content
        .strip_prefix(b"\xef\xbb\xbf")
        .unwrap_or(content)
        .split(|byte| *byte == b'\n')
        .map(<[u8]>::trim_ascii)
        .filter(|line| !line.is_empty() && line[0] != b'#')
        .map(|line| expand(line, &variable))
        .collect()
}

fn expand(line: &[u8], variable: &impl Fn(&str) -> Option<Vec<u8>>) -> Vec<u8> {
    let mut text = Vec::with_capacity(line.len());
    let mut rest = line;
    while let Some(dollar) = rest.iter().position(|byte| *byte == b'$') {
        text.extend_from_slice(&rest[..dollar]);
        rest = &rest[dollar + 1..];
        if let Some(behind) = rest.strip_prefix(b"$") {
            text.push(b'$');
            rest = behind;
            continue;
        }
        let (name, behind) = match rest.strip_prefix(b"{") {
            Some(inner) => match inner.iter().position(|byte| *byte == b'}') {
                Some(end) => (&inner[..end], &inner[end + 1..]),
                None => (&rest[..0], rest),
            },
            None => {
                let end = rest.iter().position(|byte| !(byte.is_ascii_alphanumeric() || *byte == b'_'));
                rest.split_at(end.unwrap_or(rest.len()))
            }
        };
        match std::str::from_utf8(name) {
            Ok(name) if !name.is_empty() => text.extend(variable(name).unwrap_or_default()),
            _ => text.push(b'$'), // no name behind it: a plain dollar sign, as in `a$`
        }
        rest = behind;
    }
    text.extend_from_slice(rest);
    text
}

/// Reads a list of names from `file`, or from the standard input when it is `-`.
///
/// # Errors
/// When it cannot be read.
pub fn read_list(file: &Path) -> Result<Vec<u8>, CliError> {
    let read = if file.as_os_str() == "-" {
        let mut content = Vec::new();
        std::io::Read::read_to_end(&mut std::io::stdin().lock(), &mut content).map(|_| content)
    } else {
        std::fs::read(file)
    };
    read.map_err(|error| {
        let shown = escape(file.as_os_str().as_bytes());
        CliError::failed(format!("cannot read the list of files {shown}")).caused_by(error)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn texts(content: &[u8]) -> Vec<String> {
        let variable = |name: &str| (name == "HOME").then(|| b"/home/a".to_vec());
        lines(content, variable).into_iter().map(|line| String::from_utf8(line).unwrap()).collect()
    }

    #[test]
    fn files_of_patterns_read_as_in_restic() {
        let content = b"\xef\xbb\xbf# comment\n\n  *.o \r\n$HOME/x\n${HOME}y$\n!keep\na$$b\n$NONE.c\n${HOME";
        assert_eq!(texts(content), ["*.o", "/home/a/x", "/home/ay$", "!keep", "a$b", ".c", "${HOME"]);
    }

    #[test]
    fn patterns_come_from_everywhere() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("p");
        std::fs::write(&file, "c\n").unwrap();
        let options = ExcludeOptions {
            exclude: vec!["a".into()],
            iexclude: vec!["b".into()],
            exclude_file: vec![file.clone()],
            iexclude_file: vec![file],
        };
        let found: Vec<(Vec<u8>, bool)> =
            options.patterns().unwrap().into_iter().map(|p| (p.text, p.ignore_case)).collect();
        let expected = [("a", false), ("b", true), ("c", false), ("c", true)];
        assert_eq!(found, expected.map(|(text, ignore)| (text.as_bytes().to_vec(), ignore)));
        let missing = ExcludeOptions { exclude_file: vec!["/nowhere/p".into()], ..ExcludeOptions::default() };
        assert!(missing.patterns().unwrap_err().chain().contains("/nowhere/p"));
    }
}
