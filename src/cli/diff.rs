//! `diff`: what changed between two snapshots, or since one.

use super::Context;
use super::exit::Exit;
use super::json::{Change as JsonChange, DiffCount, DiffMessage};
use super::snapshot_argument::{DiffTarget, SnapshotArgument, SnapshotFilter};
use crate::base::escape::{Escaped, escape};
use crate::ops::diff::{Change, Count, Statistics};
use crate::tasks::diff::{self, Compared, Request};
use crate::tasks::failure::Failure;
use crate::text::size;
use std::os::unix::ffi::OsStrExt;

/// Show what differs between two snapshots, or between a snapshot and live files
///
/// The second may be a directory of this machine, typed with a / in it: packstone diff latest:/home/a ./a
///
/// Signs: + added, - removed, M content changed, U only metadata changed, T type changed, ? the content changed while size,
/// times and inode say that it did not: bits rotted. A live file has changed when its size or its modification time
/// has, or with --content when its bytes have.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// The first snapshot, or a part of it as ID:path
    #[arg(value_name = "SNAPSHOT[:PATH]")]
    pub from: SnapshotArgument,
    /// The second snapshot, or a directory of this machine
    #[arg(value_name = "SNAPSHOT[:PATH]|DIRECTORY")]
    pub to: DiffTarget,
    /// Show entries too of which only metadata differ
    #[arg(long)]
    pub metadata: bool,
    /// Read live files and compare what is in them
    #[arg(long)]
    pub content: bool,
    /// Which snapshots latest counts.
    #[command(flatten)]
    pub filter: SnapshotFilter,
}

/// Runs the command.
///
/// # Errors
/// [`Exit::Damage`] when the comparison could not be finished.
pub fn run(arguments: &Arguments, context: &mut Context) -> Result<Exit, Failure> {
    let (watch, json, quiet) = (context.watch(), context.output.json, context.output.quiet);
    let request = Request {
        from: arguments.from.clone(),
        to: arguments.to.clone(),
        metadata: arguments.metadata,
        content: arguments.content,
        count_chunks: !quiet,
        filter: arguments.filter.request(),
    };
    let planned = diff::plan(&request, &context.environment, &watch)?;
    let (from, to) = (planned.from(), planned.to());
    let mut stream = context.output.stream();
    if !json && !quiet {
        let to = match to {
            Compared::Snapshot(id) => id.short(),
            Compared::Live(path) => escape(path.as_os_str().as_bytes()),
        };
        stream.line(format_args!("comparing snapshot {} to {to}:\n", from.short()))?;
    }
    let mut show = |change: Change| show(&change, json, &mut stream);
    let report = planned.execute(&context.environment, &watch, &mut show)?;
    let statistics = &report.statistics;
    if json {
        stream.json(&DiffMessage::Statistics {
            source_snapshot: from.to_string(),
            target_snapshot: match to {
                Compared::Snapshot(id) => id.to_string(),
                Compared::Live(path) => String::from_utf8_lossy(path.as_os_str().as_bytes()).into_owned(),
            },
            changed_files: statistics.changed_files,
            added: count(&statistics.added),
            removed: count(&statistics.removed),
        })?;
    } else if !quiet {
        stream.line(summary(statistics, matches!(to, Compared::Live(_))))?;
    }
    stream.finish()?;
    report.incomplete.map_or(Ok(Exit::Success), Err)
}

fn show(change: &Change, json: bool, stream: &mut super::output::Stream) -> Result<(), Failure> {
    let mut path = change.path.clone();
    if change.is_directory {
        path.push(b'/');
    }
    if json {
        stream.json(&DiffMessage::Change(JsonChange::new(&path, change.sign)))
    } else {
        stream.line(format_args!("{:<5}{}", change.sign, Escaped(&path)))
    }
}

fn count(count: &Count) -> DiffCount {
    DiffCount {
        files: count.files,
        dirs: count.directories,
        others: count.others,
        data_blobs: count.data_chunks,
        tree_blobs: count.tree_chunks,
        bytes: count.bytes,
    }
}

/// restic's figures at the end, without the line's end. Against live files no chunks are counted.
fn summary(statistics: &Statistics, is_live: bool) -> String {
    let Statistics { changed_files, added, removed } = statistics;
    let mut lines = vec![
        String::new(),
        format!("Files:       {:>5} new, {:>5} removed, {changed_files:>5} changed", added.files, removed.files),
        format!("Dirs:        {:>5} new, {:>5} removed", added.directories, removed.directories),
        format!("Others:      {:>5} new, {:>5} removed", added.others, removed.others),
    ];
    if !is_live {
        lines.push(format!("Data chunks: {:>5} new, {:>5} removed", added.data_chunks, removed.data_chunks));
        lines.push(format!("Tree chunks: {:>5} new, {:>5} removed", added.tree_chunks, removed.tree_chunks));
    }
    lines.push(format!("  Added:   {}", size::show(added.bytes)));
    lines.push(format!("  Removed: {}", size::show(removed.bytes)));
    lines.join("\n")
}
