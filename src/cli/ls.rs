//! `ls`: the files of a snapshot.

use super::exit::Exit;
use super::json::LsMessage;
use super::snapshot_argument::{SnapshotArgument, SnapshotFilter};
use super::{Context, entry, snapshot_json};
use crate::base::escape::{Escaped, escape};
use crate::ops::select::Chosen;
use crate::ops::tree_walk::Visited;
use crate::tasks::failure::Failure;
use crate::tasks::ls::{self, Request};
use crate::text::clock;
use jiff::tz::TimeZone;
use std::ffi::OsString;
use std::path::PathBuf;

/// What entries are put in order by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Sort {
    /// Path
    #[default]
    Name,
    /// Size
    Size,
    /// Modification time
    #[value(alias = "mtime")]
    Time,
    /// Change time
    Ctime,
    /// Extension
    Extension,
}

/// List files of a snapshot
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// The snapshot, or a part of it as ID:path; latest and latest~N count back from the newest
    #[arg(value_name = "SNAPSHOT[:PATH]")]
    pub snapshot: SnapshotArgument,
    /// Only what is in these directories
    #[arg(value_name = "DIRECTORY")]
    pub directories: Vec<OsString>,
    /// Which snapshots latest counts.
    #[command(flatten)]
    pub filter: SnapshotFilter,
    /// Show mode, owner, size and time
    #[arg(short, long)]
    pub long: bool,
    /// Show what is in the given directories' directories too
    #[arg(long)]
    pub recursive: bool,
    /// Show sizes with units
    #[arg(long)]
    pub human_readable: bool,
    /// Order
    #[arg(short, long, value_name = "BY", value_enum, default_value_t)]
    pub sort: Sort,
    /// The other way round
    #[arg(long)]
    pub reverse: bool,
}

impl Arguments {
    fn request(&self) -> Request {
        Request {
            snapshot: self.snapshot.clone(),
            directories: self.directories.iter().map(PathBuf::from).collect(),
            filter: self.filter.request(),
            recursive: self.recursive,
            sort: match self.sort {
                Sort::Name => ls::Sort::Name,
                Sort::Size => ls::Sort::Size,
                Sort::Time => ls::Sort::Time,
                Sort::Ctime => ls::Sort::Ctime,
                Sort::Extension => ls::Sort::Extension,
            },
            reverse: self.reverse,
        }
    }
}

/// Runs the command.
///
/// # Errors
/// [`Exit::Damage`] when a listing cannot be read, after the others have been shown.
pub fn run(arguments: &Arguments, context: &mut Context) -> Result<Exit, Failure> {
    let (watch, zone, json) = (context.watch(), clock::local_zone(), context.output.json);
    let planned = ls::plan(&arguments.request(), &context.environment, &watch)?;
    let mut stream = context.output.stream();
    if json {
        let snapshot = snapshot_json::snapshot(planned.chosen(), &zone);
        stream.json(&LsMessage::snapshot(&snapshot))?;
    } else if !context.output.quiet {
        stream.line(headline(planned.chosen(), &zone))?;
    }
    let mut show = |visited: &Visited| {
        if json {
            stream.json(&LsMessage::node(&entry::node(visited, &zone)))
        } else if arguments.long {
            stream.line(entry::long_line(visited, arguments.human_readable, &zone))
        } else {
            stream.line(Escaped(&visited.path))
        }
    };
    let report = planned.execute(&watch, &mut show)?;
    stream.finish()?;
    report.incomplete.map_or(Ok(Exit::Success), Err)
}

/// restic's first line.
fn headline(chosen: &Chosen, zone: &TimeZone) -> String {
    let snapshot = &chosen.snapshot;
    let paths: Vec<String> = snapshot.paths.iter().map(|path| escape(path)).collect();
    format!(
        "snapshot {} of [{}] at {} by {}@{}:",
        chosen.id.short(),
        paths.join(" "),
        clock::show(snapshot.time, zone),
        escape(snapshot.user.as_bytes()),
        escape(snapshot.host.as_bytes())
    )
}
