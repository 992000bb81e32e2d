//! `find`: files by name in all snapshots.

use super::exit::Exit;
use super::snapshot_argument::{SnapshotFilter, SnapshotRef};
use super::{Context, entry};
use crate::base::escape::Escaped;
use crate::base::time::Time;
use crate::tasks::failure::Failure;
use crate::tasks::find::{self, Event, Request};
use crate::text::clock;
use std::ffi::OsString;
use std::path::PathBuf;

/// Find files by name in snapshots
///
/// In a pattern, * and ? and [...] stand for anything but /, and ** for any number of directories. A pattern that begins
/// with / is compared with whole paths, any other one with names and with any run of them (a/b). What lies in a directory
/// that matches is found too.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// What to look for
    #[arg(value_name = "PATTERN", required = true)]
    pub patterns: Vec<OsString>,
    /// Only in these snapshots (can be given multiple times)
    #[arg(short, long = "snapshot", value_name = "SNAPSHOT")]
    pub snapshots: Vec<SnapshotRef>,
    /// Which snapshots.
    #[command(flatten)]
    pub filter: SnapshotFilter,
    /// Only files modified at this time or later
    #[arg(short = 'O', long, value_name = "TIME", value_parser = clock::parse)]
    pub oldest: Option<Time>,
    /// Only files modified at this time or earlier
    #[arg(short = 'N', long, value_name = "TIME", value_parser = clock::parse)]
    pub newest: Option<Time>,
    /// Upper and lower case are the same
    #[arg(short, long)]
    pub ignore_case: bool,
    /// Show mode, owner, size and time
    #[arg(short, long)]
    pub long: bool,
    /// Show sizes with units
    #[arg(long)]
    pub human_readable: bool,
    /// Newest snapshots last
    #[arg(short = 'R', long)]
    pub reverse: bool,
}

impl Arguments {
    fn request(&self) -> Request {
        Request {
            patterns: self.patterns.iter().map(PathBuf::from).collect(),
            snapshots: self.snapshots.clone(),
            filter: self.filter.request(),
            oldest: self.oldest,
            newest: self.newest,
            ignore_case: self.ignore_case,
            reverse: self.reverse,
        }
    }
}

/// Runs the command.
///
/// # Errors
/// A usage error for a pattern that is not understood; [`Exit::Damage`] when a snapshot or a listing cannot be read,
/// after everything else has been shown.
pub fn run(arguments: &Arguments, context: &mut Context) -> Result<Exit, Failure> {
    let (watch, zone, json) = (context.watch(), clock::local_zone(), context.output.json);
    let planned = find::plan(&arguments.request(), &context.environment, &watch)?;
    let mut stream = context.output.stream();
    if json {
        stream.bytes(b"[")?;
    }
    let (mut hits, mut groups) = (0_u64, 0_u64);
    let mut show = |event: Event<'_>| match event {
        Event::Found(chosen, visited) => {
            hits += 1;
            if json {
                // Each as it comes: there may be very many.
                let before: &[u8] = match (hits, groups) {
                    (1, 0) => b"{\"matches\":[",
                    (1, _) => b",{\"matches\":[",
                    _ => b",",
                };
                stream.bytes(before)?;
                let node = super::json::to_vec(&entry::node(&visited, &zone)).map_err(super::output::failed)?;
                return stream.bytes(&node);
            }
            if hits == 1 {
                let gap = if groups == 0 { "" } else { "\n" };
                let time = clock::show(chosen.snapshot.time, &zone);
                stream
                    .line(format_args!("{gap}Found matching entries in snapshot {} from {time}", chosen.id.short()))?;
            }
            if arguments.long {
                stream.line(entry::long_line(&visited, arguments.human_readable, &zone))
            } else {
                stream.line(Escaped(&visited.path))
            }
        }
        Event::Searched(_, 0) => Ok(()),
        Event::Searched(chosen, found) => {
            hits = 0;
            if json {
                stream.bytes(format!("],\"hits\":{found},\"snapshot\":\"{}\"}}", chosen.id).as_bytes())?;
            }
            groups += 1;
            Ok(())
        }
    };
    let report = planned.execute(&watch, &mut show)?;
    if json {
        stream.line("]")?;
    }
    stream.finish()?;
    report.incomplete.map_or(Ok(Exit::Success), Err)
}
