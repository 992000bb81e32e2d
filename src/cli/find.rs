//! `find`: files by name in all snapshots.

use super::exit::Exit;
use super::json::FindGroup;
use super::ls::incomplete;
use super::snapshot_argument::{SnapshotFilter, SnapshotRef};
use super::watch::{Watch, tell_warnings};
use super::{Context, entry};
use crate::base::escape::Escaped;
use crate::base::time::Time;
use crate::files::pattern::Patterns;
use crate::ops::Unread;
use crate::ops::find::{self, Wanted};
use crate::ops::tree_walk::Visited;
use crate::tasks::environment::repositories;
use crate::tasks::failure::Failure;
use crate::text::{clock, size};
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

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

/// Runs the command.
///
/// # Errors
/// A usage error for a pattern that is not understood; [`Exit::Damage`] when a snapshot or a listing cannot be read,
/// after everything else has been shown.
pub fn run(arguments: &Arguments, context: &mut Context) -> Result<Exit, Failure> {
    let mut patterns = Patterns::new(arguments.ignore_case);
    for pattern in &arguments.patterns {
        patterns.add(pattern.as_bytes()).map_err(|error| Failure::usage(error.to_string()))?;
    }
    let wanted = Wanted { patterns, oldest: arguments.oldest, newest: arguments.newest };
    let repository = repositories::open_repository(&context.environment, &context.watch(), "find")?;
    let filter = arguments.filter.resolve();
    let selection = find::snapshots(&repository, &arguments.snapshots, &filter, arguments.reverse)?;
    tell_warnings(&repository, context.output);
    let (json, zone, watch) = (context.output.json, clock::local_zone(), Watch::new(context));
    let mut stream = context.output.stream();
    let (mut damaged, mut groups) = (Unread::default(), 0_u64);
    if json {
        stream.bytes(b"[")?;
    }
    for chosen in &selection.chosen {
        let mut matches: Vec<Visited> = Vec::new();
        let mut hits = 0_u64;
        let mut show = |visited: Visited| -> Result<(), Failure> {
            hits += 1;
            if json {
                matches.push(visited);
                return Ok(());
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
        };
        damaged.join(find::execute(&repository, chosen, &wanted, &mut show, &watch)?);
        if hits == 0 {
            continue;
        }
        if json {
            let nodes = matches.iter().map(|visited| entry::node(visited, &zone)).collect();
            if groups > 0 {
                stream.bytes(b",")?;
            }
            let group = FindGroup { matches: nodes, hits, snapshot: chosen.id.to_string() };
            stream.bytes(&super::json::to_vec(&group).map_err(super::output::failed)?)?;
        }
        groups += 1;
    }
    if json {
        stream.line("]")?;
    }
    stream.finish()?;
    if let Some((id, error)) = selection.damaged.first() {
        let count = size::counted(selection.damaged.len() as u64, "snapshot", "snapshots");
        let is_damage = damaged.is_damage || selection.damaged.iter().any(|(_, error)| error.is_damage());
        return Err(Failure::unread(is_damage, format!("{count} cannot be read: {} ({error})", id.short())));
    }
    if arguments.snapshots.is_empty() {
        repository.require_newest()?;
    }
    if damaged.count == 0 { Ok(Exit::Success) } else { Err(incomplete(damaged)) }
}
