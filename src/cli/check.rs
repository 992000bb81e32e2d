//! `check`: is everything there, and is it right?

use super::Context;
use super::exit::Exit;
use super::json::{AffectedMessage, CheckMessage, CheckSummary};
use super::progress::Work;
use crate::base::command::suggest;
use crate::base::escape::{Escaped, escape};
use crate::ops::check::{Data, Finding};
use crate::tasks::check::{self, Request, Subset};
use crate::tasks::check_mirror;
use crate::tasks::failure::Failure;
use crate::text::size;
use crate::text::span;

/// Check the repository for damage
///
/// Without options everything but the packs' contents is checked: heads, key slots, segments, snapshots, every listing,
/// that every chunk of every file is known, and that every pack is there with its length. Nothing is changed and no lock
/// is taken. Exit code 17 means that damage was found.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// Read every pack and check every chunk
    #[arg(long)]
    pub read_data: bool,
    /// Read a part of the packs: n/t, x%, or a size (k, M, G, T: powers of 1024)
    #[arg(long, value_name = "SUBSET", conflicts_with = "read_data")]
    pub read_data_subset: Option<Subset>,
    /// Choose the same packs again as a check that showed this number
    #[arg(long, value_name = "NUMBER", requires = "read_data_subset")]
    pub read_data_seed: Option<u64>,
    /// Compare the whole cache with the segments, not only a sample of it; it is never trusted
    #[arg(long)]
    pub with_cache: bool,
    /// Check this mirror instead of the repository: its own newest state, without a passphrase
    #[arg(long, value_name = "NAME", conflicts_with_all = ["with_cache", "list"])]
    pub mirror: Option<String>,
    /// Read what was not read back from the mirror for so long (30d, 12h), the oldest first
    #[arg(long, value_name = "SPAN", value_parser = span::parse_days, requires = "mirror", conflicts_with_all = ["read_data", "read_data_subset"])]
    pub max_age: Option<std::time::Duration>,
    /// Read at most so much of it (k, M, G, T: powers of 1024); the next check goes on from there
    #[arg(long, value_name = "SIZE", value_parser = size::parse, requires = "mirror", conflicts_with_all = ["read_data", "read_data_subset"])]
    pub budget: Option<u64>,
    /// Check nothing, list every file in every snapshot that needs this pack
    #[arg(long, value_name = "PACK", conflicts_with_all = ["read_data", "read_data_subset", "with_cache"])]
    pub list: Option<String>,
}

/// Runs the command.
///
/// # Errors
/// When the repository cannot be opened or listed; damage is no error but exit code 17.
pub fn run(arguments: &Arguments, context: &mut Context) -> Result<Exit, Failure> {
    if let Some(mirror) = &arguments.mirror {
        return super::mirror::check::run(&arguments.of_mirror(mirror), context);
    }
    if let Some(pack) = &arguments.list {
        return list(pack, context);
    }
    let progress = context.progress(Work::Other);
    let checked = check::run(&arguments.request(), &context.environment, &progress);
    progress.finish();
    let report = checked?;
    if context.output.json {
        say_json(&report, context)?;
    } else {
        say(&report, context)?;
    }
    Ok(report.kind().into())
}

impl Arguments {
    fn request(&self) -> Request {
        Request {
            read_data: self.read_data,
            read_data_subset: self.read_data_subset,
            read_data_seed: self.read_data_seed,
            with_cache: self.with_cache,
        }
    }

    fn of_mirror(&self, mirror: &str) -> check_mirror::Request {
        check_mirror::Request {
            mirror: mirror.to_owned(),
            read_data: self.read_data,
            read_data_subset: self.read_data_subset,
            read_data_seed: self.read_data_seed,
            max_age: self.max_age,
            budget: self.budget,
        }
    }
}

fn list(pack: &str, context: &Context) -> Result<Exit, Failure> {
    let progress = context.progress(Work::Other);
    let listed = check::list_affected(pack, &context.environment, &progress);
    progress.finish();
    let (pack, found) = listed?;
    let mut output = context.output.stream();
    for check::Affected { snapshot, path } in &found {
        if context.output.json {
            output.json(&AffectedMessage::new(snapshot, path))?;
        } else {
            output.line(format_args!("{}:{}", snapshot.short(), Escaped(path)))?;
        }
    }
    output.finish()?;
    if found.is_empty() {
        context.output.info(format!("no file of a live snapshot needs pack {}", pack.short()))?;
    }
    Ok(Exit::Success)
}

fn say_json(report: &check::Report, context: &Context) -> Result<(), Failure> {
    let check::Report { report, options, .. } = report;
    for finding in &report.findings {
        let mut message = finding.message.clone();
        for line in affected(finding) {
            message.push_str("; ");
            message.push_str(&line);
        }
        context.output.json_to_stderr(&CheckMessage::Error { message: &context.output.with_commands(&message) });
    }
    for note in &report.notes {
        context.output.warn(note);
    }
    context.output.json(&CheckMessage::Summary(CheckSummary {
        num_errors: report.findings.len() as u64,
        broken_packs: report.broken_packs.iter().map(ToString::to_string).collect(),
        suggest_repair_index: report.repair_index,
        suggest_prune: false,
        suggest_repair_packs: report.repair_packs,
        suggest_repair_snapshots: report.repair_snapshots,
        digests_compared: (options.data != Data::None).then_some(report.digests_compared),
        digests_not_compared: (options.data != Data::None).then_some(report.digests_not_compared),
    }))
}

/// What a finding keeps from being restored, in lines.
pub(super) fn affected(finding: &Finding) -> Vec<String> {
    let Some(affected) = &finding.affected else { return Vec::new() };
    if affected.paths == 0 {
        return vec!["nothing of a live snapshot is lost".to_owned()];
    }
    let files = size::counted(affected.paths, "path", "paths");
    let snapshots = size::counted(affected.snapshots, "snapshot", "snapshots");
    let mut lines = vec![format!("needed by {files} in {snapshots}")];
    lines.extend(affected.first.iter().map(|(path, snapshot)| format!("{}:{}", snapshot.short(), escape(path))));
    let more = affected.paths - affected.first.len() as u64;
    if more > 0 {
        lines.push(format!("and {} more", size::count(more)));
    }
    lines.extend(finding.pack.map(|pack| format!("all of them: {}", suggest!("check --list {}", pack.short()))));
    lines
}

fn say(report: &check::Report, context: &Context) -> Result<(), Failure> {
    let check::Report { report, options, mirrors } = report;
    let output = context.output;
    for finding in &report.findings {
        output.line(&finding.message)?;
        for line in affected(finding) {
            output.line(format_args!("  {line}"))?;
        }
        output.line(format_args!("  Next: {}", finding.next.sentence()))?;
    }
    for note in &report.notes {
        output.info(format_args!("Note: {note}"))?;
    }
    let read = if report.packs_read == 0 {
        String::new()
    } else {
        format!(", {} of them read ({})", size::count(report.packs_read), size::show(report.bytes_read))
    };
    if options.data != Data::None && (report.digests_compared > 0 || report.digests_not_compared > 0) {
        let all = report.digests_compared + report.digests_not_compared;
        let (compared, all) = (size::count(report.digests_compared), size::counted(all, "file", "files"));
        let why = if report.digests_not_compared == 0 { "" } else { "; for the others not all packs were read" };
        output.info(format_args!("Digests of whole files: {compared} compared, of {all} of several chunks{why}"))?;
    }
    let checked = format!(
        "generation {}: {}, {}, {}{read}  {}",
        report.generation,
        size::counted(report.snapshots, "snapshot", "snapshots"),
        size::counted(report.trees, "listing", "listings"),
        size::counted(report.packs, "pack", "packs"),
        span::show(report.took),
    );
    if matches!(options.data, Data::Percent(_) | Data::Bytes(_)) {
        let seed = options.seed;
        output.info(format_args!("The packs were chosen by chance; the same ones again: --read-data-seed {seed}"))?;
    }
    if report.findings.is_empty() {
        output.info(format_args!("No damage found  {checked}"))?;
        if options.data == Data::None {
            output.info(concat!(
                "The packs' contents were not read. To read them too: ",
                suggest!("check --read-data")
            ))?;
        }
        return Ok(());
    }
    let problems = size::counted(report.findings.len() as u64, "problem", "problems");
    output.line(format_args!("{problems} found  {checked}"))?;
    if report.damage().is_some() && !mirrors.is_empty() {
        let names = mirrors.join(", ");
        output.line(format_args!("{names} may have good copies.  First: {}", suggest!("repair objects")))?;
    }
    Ok(())
}
