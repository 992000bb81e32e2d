//! `drill`: rehearse a recovery.

mod history;

use super::Context;
use super::exit::Exit;
use super::progress::Work;
use super::snapshot_argument::SnapshotRef;
use crate::base::escape::escape;
use crate::tasks::drill::{self, DrillRun, Request};
use crate::tasks::failure::Failure;
use crate::text::{clock, size, span};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// Rehearse a recovery: bring data back from a mirror alone, and compare it
///
/// Uses what a new machine would have: the mirror and a secret; no cache, no local repository. The newest snapshot of every source is restored
/// into a folder of its own, read back and compared in content and metadata, and removed again. With --sample only a share of the files is, straight
/// from the mirror, fetching what they need. What came of it is remembered: packstone drill history.
#[derive(Debug, Clone, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Arguments {
    /// Something else than a drill.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Which mirrors, by name or address; the only one without any
    #[arg(value_name = "MIRROR")]
    pub mirrors: Vec<String>,
    /// All mirrors of the repository, one after the other
    #[arg(long, conflicts_with = "mirrors")]
    pub all: bool,
    /// Restore only this share of the files, chosen by chance, in percent
    #[arg(long, value_name = "PERCENT", value_parser = parse_share)]
    pub sample: Option<f64>,
    /// Choose the same files as an earlier drill with this seed
    #[arg(long, value_name = "NUMBER", requires = "sample")]
    pub seed: Option<u64>,
    /// Restore this snapshot (can be given multiple times)
    #[arg(long = "snapshot", value_name = "SNAPSHOT")]
    pub snapshots: Vec<SnapshotRef>,
    /// Restore only this path of the snapshots
    #[arg(long, value_name = "PATH")]
    pub path: Option<std::ffi::OsString>,
    /// Run this command, without a shell, in each restored tree; unless it succeeds the drill has failed
    #[arg(long, value_name = "COMMAND")]
    pub check_command: Option<String>,
    /// Make the drill's folder in this directory (default: $TMPDIR, or /var/tmp)
    #[arg(long, value_name = "DIRECTORY")]
    pub to: Option<PathBuf>,
    /// Leave what was restored where it is
    #[arg(long)]
    pub keep: bool,
    /// Fetch so many objects at the same time
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub connections: u16,
}

/// Something else than a drill.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum Command {
    /// List the drills of before, and how many succeeded
    History(history::Arguments),
}

fn parse_share(text: &str) -> Result<f64, String> {
    let percent = text.strip_suffix('%').unwrap_or(text).parse::<f64>().ok();
    percent
        .filter(|percent| *percent > 0.0 && *percent <= 100.0)
        .ok_or_else(|| format!("{text:?} is no share: expected more than 0, and at most 100"))
}

/// Runs the command.
///
/// # Errors
/// [`Exit::DrillFailed`] when something did not come back as it was backed up; what kept a drill from being held.
pub fn run(arguments: &Arguments, context: &mut Context) -> Result<Exit, Failure> {
    if let Some(Command::History(arguments)) = &arguments.command {
        return history::run(arguments, context);
    }
    let progress = context.progress(Work::Other);
    let drills = drill::run(&arguments.request(), &context.environment, &progress, &|run| {
        progress.between(|| show(run, context))
    });
    progress.finish();
    Ok(drills?.kind.into())
}

impl Arguments {
    fn request(&self) -> Request {
        Request {
            mirrors: self.mirrors.clone(),
            all: self.all,
            sample: self.sample,
            seed: self.seed,
            snapshots: self.snapshots.clone(),
            path: self.path.as_ref().map(PathBuf::from),
            check_command: self.check_command.clone(),
            to: self.to.clone(),
            keep: self.keep,
            connections: self.connections,
        }
    }
}

fn show(run: &DrillRun, context: &Context) -> Result<(), Failure> {
    let output = context.output;
    let DrillRun { report, seed, kept, record, rate, .. } = run;
    let mirror = escape(run.mirror.as_bytes());
    let kept = kept.as_ref().map(|path| escape(path.as_os_str().as_bytes()));
    if output.json {
        return output.json(&serde_json::json!({
            "message_type": "drill",
            "mirror": mirror,
            "passed": report.passed(),
            "generation": report.head.map(|head| head.generation),
            "sample_percent": record.as_ref().and_then(|record| record.sample),
            "seed": seed,
            "snapshots": report.snapshots,
            "files": report.files,
            "others": report.others,
            "bytes": report.bytes,
            "fetched_bytes": report.fetched,
            "requests": report.requests,
            "seconds_to_open": report.opened.as_secs_f64(),
            "seconds_to_first_file": report.first_file.map(|span| span.as_secs_f64()),
            "seconds_to_complete": report.complete.as_secs_f64(),
            "data_age_seconds": report.age.map(|age| age.as_secs()),
            "differences": report.difference_count,
            "first_differences": report.differences,
            "not_permitted": report.not_permitted,
            "not_proven_percent": report.not_proven(),
            "passed_of_last": [rate.passed, rate.held],
            "kept": kept,
        }));
    }
    let word = if report.passed() { "PASSED" } else { "FAILED" };
    let first =
        report.first_file.map_or_else(|| "no file".to_owned(), |span| format!("first file {}", span::show(span)));
    output.line(format!(
        "{mirror}  {word}  {first}   complete {}   {}",
        span::show(report.complete),
        report.age.map_or_else(
            || "the age of the data cannot be determined: a time in it is in doubt".to_owned(),
            |age| format!("data {} old", span::show(age))
        )
    ))?;
    for difference in &report.differences {
        output.line(format!("  {difference}"))?;
    }
    let more = report.difference_count.saturating_sub(report.differences.len() as u64);
    if more > 0 {
        output.line(format!("  and {more} more"))?;
    }
    let files = size::counted(report.files, "file", "files");
    let left = kept.map_or_else(|| "cleaned up".to_owned(), |path| format!("left in {path}"));
    let identical = match (report.passed(), report.not_permitted) {
        (false, _) => "compared".to_owned(),
        (true, 0) => "and all metadata identical".to_owned(),
        (true, count) => format!("identical; owners and the like of {count} entries only root can prove"),
    };
    let snapshots = size::counted(report.snapshots, "snapshot", "snapshots");
    let fetched = size::show(report.fetched);
    output.line(format!(
        "{files} of {snapshots} {identical}   {fetched} fetched in {} requests | {left}",
        report.requests
    ))?;
    let zone = clock::local_zone();
    let last = rate
        .last_full
        .map_or_else(|| "no full drill yet".to_owned(), |time| format!("last full drill {}", clock::show(time, &zone)));
    let rest = report.not_proven();
    let not_proven =
        if rest >= 0.05 { format!("not proven: {rest:.1} % of the entries ({last})   ") } else { String::new() };
    output.line(format!("{not_proven}last {}: {} of {} passed", rate.held, rate.passed, rate.held))
}
