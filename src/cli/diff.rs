//! `diff`: what changed between two snapshots, or since one.

use super::Context;
use super::exit::Exit;
use super::json::{Change as JsonChange, DiffCount, DiffMessage};
use super::snapshot_argument::{DiffTarget, SnapshotArgument, SnapshotFilter};
use super::watch::{Watch, tell_warnings};
use crate::base::escape::{Escaped, escape};
use crate::ops::diff::{self, Change, Count, Statistics, live};
use crate::tasks::environment::{own_places, repositories};
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
    let is_live = matches!(arguments.to, DiffTarget::Live(_));
    if arguments.content && !is_live {
        return Err(Failure::usage("--content reads live files: two snapshots are always compared by content"));
    }
    let repository = repositories::open_repository(&context.environment, &context.watch(), "diff")?;
    let filter = arguments.filter.resolve();
    let from = diff::side(&repository, &arguments.from, &filter)?;
    let watch = Watch::new(context);
    let (json, quiet) = (context.output.json, context.output.quiet);
    let mut stream = context.output.stream();
    let (target, statistics, unreadable) = match &arguments.to {
        DiffTarget::Snapshot(to) => {
            let to = diff::side(&repository, to, &filter)?;
            tell_warnings(&repository, context.output);
            if !json && !quiet {
                let ids = (from.chosen.id.short(), to.chosen.id.short());
                stream.line(format_args!("comparing snapshot {} to {}:\n", ids.0, ids.1))?;
            }
            let mut show = |change: Change| show(&change, json, &mut stream);
            let sides = (&from, &to);
            let counted = !quiet;
            let statistics = diff::execute(&repository, sides, arguments.metadata, counted, &mut show, &watch)?;
            (to.chosen.id.to_string(), statistics, 0)
        }
        DiffTarget::Live(path) => {
            tell_warnings(&repository, context.output);
            let shown = escape(path.as_os_str().as_bytes());
            if !json && !quiet {
                stream.line(format_args!("comparing snapshot {} to {shown}:\n", from.chosen.id.short()))?;
            }
            let options = live::Options {
                metadata: arguments.metadata,
                content: arguments.content,
                own: own_places::places(&context.environment, &context.watch(), &repository),
            };
            let mut show = |change: Change| show(&change, json, &mut stream);
            let report = live::execute(&repository, &from, path, &options, &mut show, &watch)?;
            (String::from_utf8_lossy(path.as_os_str().as_bytes()).into_owned(), report.statistics, report.unreadable)
        }
    };
    if json {
        stream.json(&DiffMessage::Statistics {
            source_snapshot: from.chosen.id.to_string(),
            target_snapshot: target,
            changed_files: statistics.changed_files,
            added: count(&statistics.added),
            removed: count(&statistics.removed),
        })?;
    } else if !quiet {
        stream.line(summary(&statistics, is_live))?;
    }
    stream.finish()?;
    if unreadable == 0 {
        return Ok(Exit::Success);
    }
    let files = size::counted(unreadable, "file", "files");
    Err(Failure::failed(format!("{files} cannot be read: what is shown above is not everything")))
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
