//! What `backup` is asked: what to store, and how to look at it.

use crate::base::command::suggest;
use crate::base::escape::escape;
use crate::base::time::Time;
use crate::cli::patterns::ExcludeOptions;
use crate::cli::snapshot_argument::{GroupBy, SnapshotRef, TagList};
use crate::files::exclude::Excludes;
use crate::files::list;
use crate::tasks::failure::Failure;
use crate::text::clock;
use crate::text::size;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

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
    pub exclude: ExcludeOptions,
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
    /// Store the stream even if it is empty, which is an error otherwise
    #[arg(long, help_heading = "What to store")]
    pub stdin_allow_empty: bool,
    /// Accept a directory that is empty and was not in the last complete snapshot; otherwise the snapshot is partial (exit code 3)
    #[arg(long, help_heading = "What to store")]
    pub allow_empty: bool,

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
    /// Look for the parent among snapshots with the same host, paths, tags or label
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
    /// A usage error when there is none; a failure when a list or a pattern in it cannot be read.
    pub fn sources(&self) -> Result<Vec<PathBuf>, Failure> {
        let mut sources: Vec<PathBuf> = self.paths.iter().map(PathBuf::from).collect();
        for file in &self.files_from {
            sources.extend(list::files_from(file)?);
        }
        for file in &self.files_from_verbatim {
            sources.extend(list::files_from_verbatim(file)?);
        }
        for file in &self.files_from_raw {
            sources.extend(list::files_from_raw(file)?);
        }
        if sources.is_empty() {
            return Err(Failure::usage("nothing to back up: no path is given").remedy(suggest!("backup PATH")));
        }
        Ok(sources)
    }

    /// Everything that decides what is left out, but the file systems.
    ///
    /// # Errors
    /// When a file of patterns cannot be read, or a pattern is none.
    pub fn excludes(&self) -> Result<Excludes, Failure> {
        let mut excludes = Excludes::new();
        self.exclude.add_to(&mut excludes)?;
        if self.exclude_caches {
            excludes.add_caches();
        }
        for rule in &self.exclude_if_present {
            excludes.add_if_present(rule.as_bytes()).map_err(Failure::usage)?;
        }
        if let Some(bytes) = self.exclude_larger_than {
            excludes.set_larger_than(bytes);
        }
        excludes.set_git_ignore(self.git_ignore);
        Ok(excludes)
    }

    /// The options that decide what is in the snapshot, for its record.
    #[must_use]
    pub fn recorded(&self) -> Vec<String> {
        let mut options: Vec<String> =
            self.exclude.given().iter().map(|text| format!("--exclude={}", escape(text))).collect();
        let flags = [
            (self.exclude_caches, "--exclude-caches"),
            (self.one_file_system, "--one-file-system"),
            (self.git_ignore, "--git-ignore"),
        ];
        options.extend(flags.iter().filter(|(set, _)| *set).map(|(_, flag)| (*flag).to_owned()));
        options.extend(
            self.exclude_if_present.iter().map(|rule| format!("--exclude-if-present={}", escape(rule.as_bytes()))),
        );
        options.extend(self.exclude_larger_than.map(|bytes| format!("--exclude-larger-than={bytes}")));
        options
    }

    /// True when something else than the passphrase comes from the standard input.
    #[must_use]
    pub fn takes_stdin(&self) -> bool {
        let lists = [&self.files_from, &self.files_from_verbatim, &self.files_from_raw];
        self.stdin || lists.into_iter().flatten().any(|file| file.as_os_str() == "-")
    }

    /// Whether one stream is stored, and no files and directories.
    #[must_use]
    pub const fn takes_stream(&self) -> bool {
        self.stdin || self.stdin_from_command
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
        std::fs::write(at("a1"), "").unwrap();
        std::fs::write(at("glob"), format!("# list\n{}/a*\n", dir.path().display())).unwrap();
        std::fs::write(at("plain"), " a* \n").unwrap();
        std::fs::write(at("raw"), "one\ntwo\0").unwrap();
        let text = |name: &str| at(name).to_str().unwrap().to_owned();
        let lists = [
            "p",
            "--files-from",
            &text("glob"),
            "--files-from-verbatim",
            &text("plain"),
            "--files-from-raw",
            &text("raw"),
        ];
        let expected: Vec<PathBuf> = vec!["p".into(), at("a1"), " a* ".into(), "one\ntwo".into()];
        assert_eq!(arguments(&lists).sources().unwrap(), expected);
        assert!(arguments(&[]).sources().is_err());
    }

    #[test]
    fn every_way_of_leaving_out_is_heard() {
        let excludes =
            arguments(&["-e", "*.o", "--iexclude", "B", "--exclude-if-present", ".nobackup"]).excludes().unwrap();
        assert!(excludes.rejects_path(b"/x.o") && excludes.rejects_path(b"/b") && !excludes.rejects_path(b"/c"));
        assert!(arguments(&["--exclude-if-present", ""]).excludes().is_err());
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
