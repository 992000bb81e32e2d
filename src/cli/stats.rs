//! `stats`: how much there is.

use super::Context;
use super::exit::Exit;
use super::json;
use super::output::Output;
use super::progress::Work;
use super::snapshot_argument::{SnapshotArgument, SnapshotFilter};
use crate::ops::freed;
use crate::ops::stats::{Objects, Report, Stored};
use crate::tasks::failure::Failure;
use crate::tasks::stats::{self, Figures, Request};
use crate::text::size;
use clap::builder::OsStringValueParser;
use serde::Serialize;
use std::ffi::OsString;
use std::path::PathBuf;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Mode {
    /// What a restore of each snapshot would write
    #[default]
    RestoreSize,
    /// Files with the same content count once
    FilesByContents,
    /// What the repository stores for them
    RawData,
    /// What their chunks are, each counted once in each file
    #[value(alias = "chunks-per-file")]
    BlobsPerFile,
    /// What would become free without them: what nothing else needs
    Freed,
}

/// Show how much data snapshots hold
///
/// In the mode freed: what forget of these snapshots and then prune would free; or, for a part of a snapshot (ID:PATH) or of
/// each of them (--only-path), what would become free if that part were not in them.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// Only these [default: all]
    #[arg(value_name = "SNAPSHOT[:PATH]")]
    pub snapshots: Vec<SnapshotArgument>,
    /// What to count
    #[arg(long, value_name = "MODE", value_enum, default_value_t)]
    pub mode: Mode,
    /// In the mode freed: of each snapshot only what lies at this path (can be given multiple times)
    #[arg(long = "only-path", value_name = "PATH", value_parser = OsStringValueParser::new())]
    pub only_paths: Vec<OsString>,
    /// Which snapshots.
    #[command(flatten)]
    pub filter: SnapshotFilter,
}

/// What would become free (ours). Sizes are bytes.
#[derive(Debug, Serialize)]
struct Freed {
    #[serde(flatten)]
    stats: json::Stats,
    /// Packs that go whole.
    packs: u64,
    /// Their size.
    packs_size: u64,
    /// What prune wins when it rewrites all packs that are partly unused, these packs among it.
    freed_size: u64,
    /// What prune would win without this.
    unneeded_size: u64,
}

/// restic's figures, and ours about the repository.
#[derive(Debug, Serialize)]
struct Message {
    #[serde(flatten)]
    stats: json::Stats,
    repository: Repository,
}

/// Stored objects by kind (ours). Sizes are bytes.
#[derive(Debug, Serialize)]
struct Repository {
    data_packs: Kind,
    tree_packs: Kind,
    other_packs: Kind,
    segments: Kind,
    snapshots: Kind,
    heads: Kind,
    keys: Kind,
    total_size: u64,
}

/// Objects of one kind.
#[derive(Debug, Serialize)]
struct Kind {
    count: u64,
    size: u64,
}

impl From<Stored> for Kind {
    fn from(stored: Stored) -> Self {
        Self { count: stored.count, size: stored.bytes }
    }
}

impl Arguments {
    fn request(&self) -> Request {
        Request {
            snapshots: self.snapshots.clone(),
            mode: match self.mode {
                Mode::RestoreSize => stats::Mode::RestoreSize,
                Mode::FilesByContents => stats::Mode::FilesByContents,
                Mode::RawData => stats::Mode::RawData,
                Mode::BlobsPerFile => stats::Mode::BlobsPerFile,
                Mode::Freed => stats::Mode::Freed,
            },
            only_paths: self.only_paths.iter().map(PathBuf::from).collect(),
            filter: self.filter.request(),
        }
    }
}

/// Runs the command.
///
/// # Errors
/// [`Exit::Damage`] when something cannot be read, after the rest has been counted.
pub fn run(arguments: &Arguments, context: &mut Context) -> Result<Exit, Failure> {
    let progress = context.progress(Work::Other);
    let counted = stats::run(&arguments.request(), &context.environment, &progress);
    progress.finish();
    let counted = counted?;
    match &counted.figures {
        Figures::Counted(report) if context.output.json => context.output.json(&message(report))?,
        Figures::Counted(report) => context.output.text(&text(report, arguments.mode))?,
        Figures::Freed(report) => show_freed(report, context.output)?,
    }
    counted.incomplete.map_or(Ok(Exit::Success), Err)
}

fn show_freed(report: &freed::Report, output: Output) -> Result<(), Failure> {
    let freed::Report { snapshots, chunks, plain, stored, packs, freed, unneeded } = *report;
    if output.json {
        return output.json(&Freed {
            stats: json::Stats {
                total_size: stored,
                total_uncompressed_size: Some(plain),
                compression_ratio: Some(ratio(stored, plain)),
                total_blob_count: Some(chunks),
                snapshots_count: snapshots,
                ..json::Stats::default()
            },
            packs: packs.packs,
            packs_size: packs.bytes,
            freed_size: freed,
            unneeded_size: unneeded,
        });
    }
    let mut lines = vec!["Stats in freed mode:".to_owned()];
    let mut fact = |name: &str, value: String| lines.push(format!("{name:>18}:  {value}"));
    fact("Snapshots", size::count(snapshots));
    fact("Chunks", format!("{} (nothing else needs them)", size::count(chunks)));
    fact("Before compression", size::show(plain));
    fact("Size", format!("{} (stored for them alone)", size::show(stored)));
    fact("Freed", format!("{} (by prune --max-unused 0, when they are gone)", size::show(freed)));
    let whole = size::counted(packs.packs, "whole pack", "whole packs");
    fact("At once", format!("{} ({whole}: the rest when prune rewrites others)", size::show(packs.bytes)));
    if unneeded > 0 {
        fact("Freed without this", format!("{} (needed by nothing even now)", size::show(unneeded)));
    }
    lines.push(String::new());
    output.text(&lines.join("\n"))
}

/// The second by the first; nothing by nothing is 1.
fn ratio(stored: u64, plain: u64) -> f64 {
    if stored == 0 { 1.0 } else { plain as f64 / stored as f64 }
}

fn message(report: &Report) -> Message {
    let objects = &report.objects;
    let ratio = report.plain_size.map(|plain| ratio(report.size, plain));
    Message {
        stats: json::Stats {
            total_size: report.size,
            total_uncompressed_size: report.plain_size,
            compression_ratio: ratio,
            compression_progress: ratio.map(|_| 100.0),
            compression_space_saving: ratio.map(|ratio| (1.0 - 1.0 / ratio) * 100.0),
            total_file_count: report.files,
            total_blob_count: report.chunks,
            snapshots_count: report.snapshots,
        },
        repository: Repository {
            data_packs: objects.data_packs.into(),
            tree_packs: objects.tree_packs.into(),
            other_packs: objects.other_packs.into(),
            segments: objects.segments.into(),
            snapshots: objects.snapshots.into(),
            heads: objects.heads.into(),
            keys: objects.keys.into(),
            total_size: objects.bytes(),
        },
    }
}

fn text(report: &Report, mode: Mode) -> String {
    let (name, of) = match mode {
        Mode::RestoreSize | Mode::Freed => ("restore-size", "a restore of each would write"),
        Mode::FilesByContents => ("files-by-contents", "different contents"),
        Mode::RawData => ("raw-data", "stored for them"),
        Mode::BlobsPerFile => ("blobs-per-file", "chunks, each once in each file"),
    };
    let mut lines = vec![format!("Stats in {name} mode:")];
    let mut fact = |name: &str, value: String| lines.push(format!("{name:>18}:  {value}"));
    fact("Snapshots", size::count(report.snapshots));
    if let Some(files) = report.files {
        fact("Files", size::count(files));
    }
    if let Some(chunks) = report.chunks {
        fact("Chunks", size::count(chunks));
    }
    if let Some(plain) = report.plain_size {
        fact("Before compression", size::show(plain));
        fact("Ratio", format!("{:.2}x", ratio(report.size, plain)));
    }
    fact("Size", format!("{} ({of})", size::show(report.size)));
    lines.push("Repository:".to_owned());
    let Objects { data_packs, tree_packs, other_packs, segments, snapshots, heads, keys } = report.objects;
    for (name, stored) in [
        ("Data packs", data_packs),
        ("Tree packs", tree_packs),
        ("Other packs", other_packs),
        ("Segments", segments),
        ("Snapshots", snapshots),
        ("Heads", heads),
        ("Keys", keys),
    ] {
        if stored.count > 0 {
            lines.push(format!("{name:>18}:  {:>6}  {}", size::count(stored.count), size::show(stored.bytes)));
        }
    }
    lines.push(format!("{:>18}:  {}", "Together", size::show(report.objects.bytes())));
    lines.push(String::new());
    lines.join("\n")
}
