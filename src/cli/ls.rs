//! `ls`: the files of a snapshot.

use super::exit::Exit;
use super::json::LsMessage;
use super::output::Stream;
use super::snapshot_argument::{SnapshotArgument, SnapshotFilter};
use super::watch::{Watch, tell_warnings};
use super::{Context, entry, snapshot_json};
use crate::base::escape::{Escaped, escape};
use crate::ops::Unread;
use crate::ops::ls::{self, Wanted};
use crate::ops::select::Chosen;
use crate::ops::tree_walk::Visited;
use crate::tasks::environment::repositories;
use crate::tasks::failure::Failure;
use crate::text::{clock, size};
use jiff::tz::TimeZone;
use std::cmp::Reverse;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

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

/// Runs the command.
///
/// # Errors
/// [`Exit::Damage`] when a listing cannot be read, after the others have been shown.
pub fn run(arguments: &Arguments, context: &mut Context) -> Result<Exit, Failure> {
    let repository = repositories::open_repository(&context.environment, &context.watch(), "ls")?;
    let wanted = Wanted {
        snapshot: arguments.snapshot.clone(),
        filter: arguments.filter.resolve(),
        directories: arguments.directories.iter().map(|directory| directory.as_bytes().to_vec()).collect(),
        recursive: arguments.recursive,
    };
    let plan = ls::plan(&repository, &wanted)?;
    tell_warnings(&repository, context.output);
    let zone = clock::local_zone();
    let mut stream = context.output.stream();
    let (json, quiet) = (context.output.json, context.output.quiet);
    if json {
        let snapshot = snapshot_json::snapshot(&plan.chosen, &zone);
        stream.json(&LsMessage::snapshot(&snapshot))?;
    } else if !quiet {
        stream.line(headline(&plan.chosen, &zone))?;
    }
    let show = |visited: &Visited, stream: &mut Stream| {
        if json {
            stream.json(&LsMessage::node(&entry::node(visited, &zone)))
        } else if arguments.long {
            stream.line(entry::long_line(visited, arguments.human_readable, &zone))
        } else {
            stream.line(Escaped(&visited.path))
        }
    };
    let watch = Watch::new(context);
    let damaged = if arguments.sort == Sort::Name && !arguments.reverse {
        ls::execute(&repository, &plan, &mut |visited| show(&visited, &mut stream), &watch)?
    } else {
        let mut all = Vec::new();
        let mut keep = |visited| -> Result<(), Failure> {
            all.push(visited);
            Ok(())
        };
        let damaged = ls::execute(&repository, &plan, &mut keep, &watch)?;
        sort(&mut all, arguments.sort);
        if arguments.reverse {
            all.reverse();
        }
        all.iter().try_for_each(|visited| show(visited, &mut stream))?;
        damaged
    };
    stream.finish()?;
    if damaged.count == 0 { Ok(Exit::Success) } else { Err(incomplete(damaged)) }
}

/// restic's first line.
pub(super) fn headline(chosen: &Chosen, zone: &TimeZone) -> String {
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

/// What is said at the end when some listings could not be read.
pub(super) fn incomplete(unread: Unread) -> Failure {
    let count = size::counted(unread.count, "directory", "directories");
    Failure::unread(unread.is_damage, format!("{count} cannot be read: what is shown above is not everything"))
}

/// Largest and newest first, as restic and `ls` have it; names and extensions ascending.
fn sort(all: &mut [Visited], by: Sort) {
    let extension = |visited: &Visited| {
        let name = &visited.entry.name;
        let dot = name.iter().rposition(|byte| *byte == b'.').filter(|dot| *dot > 0);
        dot.map_or_else(Vec::new, |dot| name[dot..].to_vec())
    };
    match by {
        Sort::Name => all.sort_by(|a, b| a.path.cmp(&b.path)),
        Sort::Size => all.sort_by_key(|visited| Reverse(entry::length(&visited.entry).unwrap_or(0))),
        Sort::Time => all.sort_by_key(|visited| Reverse(visited.entry.metadata.mtime)),
        Sort::Ctime => all.sort_by_key(|visited| Reverse(visited.entry.metadata.ctime)),
        Sort::Extension => all.sort_by_cached_key(extension),
    }
}
