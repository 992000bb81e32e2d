//! What `backup` is asked: what to store, and how to look at it.

use crate::base::time::Time;
use crate::cli::patterns::ExcludeOptions;
use crate::cli::snapshot_argument::{GroupBy, SnapshotRef, TagList};
use crate::tasks::backup::labels::LabelRequest;
use crate::tasks::backup::{ChangeRequest, Request};
use crate::tasks::stream;
use crate::text::clock;
use crate::text::size;
use std::ffi::OsString;
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
    /// What a backup of files and directories is asked. `count` is true when somebody sees the remaining time.
    #[must_use]
    pub fn request(&self, count: bool) -> Request {
        let paths = |texts: &[OsString]| texts.iter().map(PathBuf::from).collect();
        Request {
            paths: paths(&self.paths),
            files_from: self.files_from.clone(),
            files_from_verbatim: self.files_from_verbatim.clone(),
            files_from_raw: self.files_from_raw.clone(),
            exclude: self.exclude.rules(),
            exclude_caches: self.exclude_caches,
            exclude_if_present: paths(&self.exclude_if_present),
            exclude_larger_than: self.exclude_larger_than,
            one_file_system: self.one_file_system,
            git_ignore: self.git_ignore,
            allow_empty: self.allow_empty,
            labels: self.labels(),
            changes: self.changes(),
            count: count && !self.no_scan,
            read_concurrency: self.read_concurrency,
            no_extra_verify: self.no_extra_verify,
            skip_if_unchanged: self.skip_if_unchanged,
            dry_run: self.dry_run,
        }
    }

    /// What a backup of a stream is asked.
    #[must_use]
    pub fn stream(&self) -> stream::Request {
        stream::Request {
            name: PathBuf::from(&self.stdin_filename),
            allow_empty: self.stdin_allow_empty,
            labels: self.labels(),
            changes: self.changes(),
            recorded: self.request(false).recorded(),
            no_extra_verify: self.no_extra_verify,
            skip_if_unchanged: self.skip_if_unchanged,
            dry_run: self.dry_run,
        }
    }

    fn labels(&self) -> LabelRequest {
        LabelRequest { label: self.label.clone(), tags: self.tags.clone(), host: self.host.clone(), time: self.time }
    }

    fn changes(&self) -> ChangeRequest {
        ChangeRequest {
            parent: self.parent.clone(),
            group_by: Some(self.group_by),
            force: self.force,
            ignore_inode: self.ignore_inode,
            ignore_ctime: self.ignore_ctime,
        }
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
    fn the_standard_input_has_one_use() {
        assert!(arguments(&["--stdin"]).takes_stdin());
        assert!(arguments(&["--files-from", "-"]).takes_stdin());
        assert!(!arguments(&["--stdin-from-command", "--", "dump", "-x"]).takes_stdin());
        assert!(Line::try_parse_from(["backup", "--stdin", "--stdin-from-command"]).is_err());
    }

    #[test]
    fn a_request_holds_what_was_typed() {
        let request = arguments(&["-e", "*.o", "--tag", "a,b", "-x", "--no-scan", "/home"]).request(true);
        assert_eq!((request.paths, request.exclude.given()), (vec!["/home".into()], vec![b"*.o".to_vec()]));
        assert!(request.one_file_system && !request.count);
        assert_eq!(request.labels.tags(), ["a", "b"]);
        assert!(arguments(&["/home"]).request(true).count);
    }
}
