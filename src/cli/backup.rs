//! `backup`: what to store, and how to look at it.

use super::clock;
use super::exit::CliError;
use super::patterns::{self, ExcludeOptions};
use super::size;
use super::snapshot_argument::{GroupBy, SnapshotRef, TagList};
use crate::base::time::Time;
use globset::{GlobBuilder, GlobMatcher};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Store files and directories as a new snapshot
///
/// What did not change since the parent snapshot is not read again; what the repository already holds is not stored
/// again. Exit code 3 means that the snapshot is stored but something could not be read.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// Files and directories to store, or the command and its arguments with --stdin-from-command
    #[arg(value_name = "PATH")]
    pub paths: Vec<OsString>,

    /// Create the repository first when there is none
    #[arg(long)]
    pub init: bool,
    /// Change nothing, only say what would be stored
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// Make no snapshot when nothing differs from the parent
    #[arg(long)]
    pub skip_if_unchanged: bool,

    /// What to leave out by pattern.
    #[command(flatten)]
    pub excludes: ExcludeOptions,
    /// Leave out the contents of directories that hold a CACHEDIR.TAG file
    #[arg(long, help_heading = "Leaving out")]
    pub exclude_caches: bool,
    /// Leave out the contents of directories that hold FILENAME, or only if it begins with HEADER (can be given multiple times)
    #[arg(long, value_name = "FILENAME[:HEADER]", help_heading = "Leaving out")]
    pub exclude_if_present: Vec<OsString>,
    /// Leave out files larger than this, such as 500M (k, M, G, T: powers of 1024)
    #[arg(long, value_name = "SIZE", value_parser = size::parse, help_heading = "Leaving out")]
    pub exclude_larger_than: Option<u64>,
    /// Stay on the file systems that the given paths are on
    #[arg(short = 'x', long, help_heading = "Leaving out")]
    pub one_file_system: bool,
    /// Obey .gitignore and .ignore files
    #[arg(long, help_heading = "Leaving out")]
    pub git_ignore: bool,

    /// Read paths from this file, one pattern a line (- for the standard input; can be given multiple times)
    #[arg(long, value_name = "FILE", help_heading = "What to store")]
    pub files_from: Vec<PathBuf>,
    /// Read paths from this file, one a line, taken as they are
    #[arg(long, value_name = "FILE", help_heading = "What to store")]
    pub files_from_verbatim: Vec<PathBuf>,
    /// Read paths from this file, each ended by a NUL byte
    #[arg(long, value_name = "FILE", help_heading = "What to store")]
    pub files_from_raw: Vec<PathBuf>,
    /// Store what comes from the standard input as one file
    #[arg(long, conflicts_with = "stdin_from_command", help_heading = "What to store")]
    pub stdin: bool,
    /// Name of the file that --stdin and --stdin-from-command store
    #[arg(long, value_name = "NAME", default_value = "stdin", help_heading = "What to store")]
    pub stdin_filename: OsString,
    /// Run a command and store its output as one file; no snapshot is made when it fails
    #[arg(long, help_heading = "What to store")]
    pub stdin_from_command: bool,

    /// A few words about this snapshot
    #[arg(long, value_name = "TEXT", help_heading = "About the snapshot")]
    pub label: Option<String>,
    /// Tags for the snapshot, separated by commas (can be given multiple times)
    #[arg(long = "tag", value_name = "TAG[,TAG...]", help_heading = "About the snapshot")]
    pub tags: Vec<TagList>,
    /// Name of this machine, if not the system's
    #[arg(short = 'H', long, value_name = "HOST", env = "PACKSTONE_HOST", help_heading = "About the snapshot")]
    pub host: Option<String>,
    /// Time of the snapshot, such as "2012-11-01 22:08:41" [default: now]
    #[arg(long, value_name = "TIME", value_parser = clock::parse, help_heading = "About the snapshot")]
    pub time: Option<Time>,

    /// Compare with this snapshot [default: the newest of the same group]
    #[arg(long, value_name = "SNAPSHOT", help_heading = "Looking for changes")]
    pub parent: Option<SnapshotRef>,
    /// Look for the parent among snapshots with the same host, paths or tags
    #[arg(short, long, value_name = "LIST", default_value = "host,paths", help_heading = "Looking for changes")]
    pub group_by: GroupBy,
    /// Read every file again
    #[arg(short, long, conflicts_with = "parent", help_heading = "Looking for changes")]
    pub force: bool,
    /// A file whose inode number changed may be the same
    #[arg(long, help_heading = "Looking for changes")]
    pub ignore_inode: bool,
    /// A file whose change time differs may be the same
    #[arg(long, help_heading = "Looking for changes")]
    pub ignore_ctime: bool,

    /// Do not count first how much there is: no remaining time is shown
    #[arg(long, help_heading = "Speed")]
    pub no_scan: bool,
    /// Do not open and check each block again before it is written
    #[arg(long, help_heading = "Speed")]
    pub no_extra_verify: bool,
    /// Read this many files at once
    #[arg(long, value_name = "N", env = "PACKSTONE_READ_CONCURRENCY", help_heading = "Speed",
          value_parser = clap::value_parser!(u16).range(1..=256))]
    pub read_concurrency: Option<u16>,
}

impl Arguments {
    /// The paths to store: those given and those of the `--files-from` files, as they are written there.
    ///
    /// # Errors
    /// A usage error when there is none, or when they are given along with the standard input; a failure when a list
    /// cannot be read or a pattern matches nothing.
    pub fn sources(&self) -> Result<Vec<PathBuf>, CliError> {
        let mut sources: Vec<PathBuf> = self.paths.iter().map(PathBuf::from).collect();
        for file in &self.files_from {
            for line in patterns::read_list(file)?.split(|byte| *byte == b'\n') {
                let line = line.trim_ascii();
                if !line.is_empty() && line[0] != b'#' {
                    sources.extend(expand(Path::new(OsStr::from_bytes(line)))?);
                }
            }
        }
        for file in &self.files_from_verbatim {
            let content = patterns::read_list(file)?;
            let lines = content.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
            sources.extend(lines.filter(|line| !line.is_empty()).map(path));
        }
        for file in &self.files_from_raw {
            let content = patterns::read_list(file)?;
            if content.last().is_some_and(|byte| *byte != 0) {
                return Err(CliError::failed("the list of --files-from-raw ends within a name: expected a NUL byte"));
            }
            sources.extend(content.split(|byte| *byte == 0).filter(|name| !name.is_empty()).map(path));
        }
        if sources.is_empty() {
            return Err(CliError::usage("nothing to back up: no path is given").hint("packstone backup PATH..."));
        }
        Ok(sources)
    }

    /// True when something else than the passphrase comes from the standard input.
    #[must_use]
    pub fn takes_stdin(&self) -> bool {
        let lists = [&self.files_from, &self.files_from_verbatim, &self.files_from_raw];
        self.stdin || lists.into_iter().flatten().any(|file| file.as_os_str() == "-")
    }

    /// All tags, each once.
    #[must_use]
    pub fn tags(&self) -> Vec<String> {
        let mut tags: Vec<String> = self.tags.iter().flat_map(|TagList(tags)| tags.iter().cloned()).collect();
        tags.sort();
        tags.dedup();
        tags
    }
}

fn path(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(bytes))
}

/// What a pattern of `--files-from` stands for, in order of name: `*`, `?`, `[...]` within one component, as in Go's
/// `filepath.Glob`. A path without them stands for itself, whether it exists or not.
fn expand(pattern: &Path) -> Result<Vec<PathBuf>, CliError> {
    let special = |text: &OsStr| text.as_bytes().iter().any(|byte| matches!(byte, b'*' | b'?' | b'['));
    if !special(pattern.as_os_str()) {
        return Ok(vec![pattern.to_owned()]);
    }
    let shown = || crate::base::escape::escape(pattern.as_os_str().as_bytes());
    let mut found = vec![PathBuf::new()];
    for component in pattern.components() {
        let name = component.as_os_str();
        if !special(name) {
            found.iter_mut().for_each(|path| path.push(name));
            continue;
        }
        let text = name.to_str().ok_or_else(|| CliError::failed(format!("the pattern {} is no UTF-8", shown())))?;
        let matcher: GlobMatcher = GlobBuilder::new(text)
            .literal_separator(true)
            .build()
            .map_err(|error| CliError::failed(format!("the pattern {} is not understood", shown())).caused_by(error))?
            .compile_matcher();
        let mut deeper = Vec::new();
        for directory in &found {
            let place = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
            // A directory that cannot be listed matches nothing, as in a shell; the check below says so.
            let Ok(entries) = std::fs::read_dir(place) else { continue };
            let names = entries.flatten().map(|entry| entry.file_name()).filter(|name| matcher.is_match(name));
            deeper.extend(names.map(|name| directory.join(name)));
        }
        deeper.sort();
        found = deeper;
    }
    found.retain(|path| path.symlink_metadata().is_ok());
    if found.is_empty() {
        return Err(CliError::failed(format!("the pattern {} of --files-from matches nothing", shown())));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use clap::Parser;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        backup: Arguments,
    }

    fn arguments(line: &[&str]) -> Arguments {
        Line::try_parse_from([&["backup"], line].concat()).unwrap().backup
    }

    #[test]
    fn sources_come_from_every_kind_of_list() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["a1", "a2", "b"] {
            std::fs::write(at(name), "").unwrap();
        }
        let lists = [
            ("glob", format!("# list\n\n {}/a*\n{}/none\n", dir.path().display(), dir.path().display()).into_bytes()),
            ("plain", b"# x\n a* \r\n".to_vec()),
            ("raw", b"one\ntwo\0three\xff\0".to_vec()),
        ];
        for (name, content) in &lists {
            std::fs::write(at(name), content).unwrap();
        }
        let text = |name: &str| at(name).to_str().unwrap().to_owned();
        let given = arguments(&[
            "p",
            "--files-from",
            &text("glob"),
            "--files-from-verbatim",
            &text("plain"),
            "--files-from-raw",
            &text("raw"),
        ]);
        let expected: Vec<PathBuf> = vec![
            "p".into(),
            at("a1"),
            at("a2"),
            at("none"),
            "# x".into(),
            " a* ".into(),
            "one\ntwo".into(),
            path(b"three\xff"),
        ];
        assert_eq!(given.sources().unwrap(), expected);
        std::fs::write(at("raw"), b"one").unwrap();
        assert!(given.sources().is_err());
        std::fs::write(at("glob"), format!("{}/z*", dir.path().display())).unwrap();
        assert!(given.sources().unwrap_err().chain().contains("matches nothing"));
        assert!(arguments(&[]).sources().is_err());
    }

    #[test]
    fn tags_and_the_standard_input() {
        assert_eq!(arguments(&["--tag", "b,a", "--tag", "a"]).tags(), ["a", "b"]);
        assert!(arguments(&["--stdin"]).takes_stdin());
        assert!(arguments(&["--files-from", "-"]).takes_stdin());
        assert!(!arguments(&["--stdin-from-command", "--", "dump", "-x"]).takes_stdin());
        assert!(Line::try_parse_from(["backup", "--stdin", "--stdin-from-command"]).is_err());
    }
}
