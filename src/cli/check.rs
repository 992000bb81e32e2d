//! `check`: is everything there, and is it right?

use super::Context;
use super::exit::Exit;
use super::json::{CheckMessage, CheckSummary};
use super::progress::Work;
use crate::base::command::{stored, suggest};
use crate::base::escape::{Escaped, escape};
use crate::base::time::Time;
use crate::ops::check::{self, Data, Finding, Options, Report};
use crate::ops::check_mirror::Which;
use crate::repository::Repository;
use crate::repository::mirror_book::Damage;
use crate::tasks::environment::{mirrors, repositories};
use crate::tasks::failure::Failure;
use crate::text::size;
use crate::text::span;
use std::str::FromStr;

/// Which part of the packs to read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Subset {
    /// `n/t`: the n-th of t parts, which together are all packs. 1 <= n <= t <= 256.
    Part {
        /// Which one, from 1.
        part: u32,
        /// Of how many.
        parts: u32,
    },
    /// `x%`: packs chosen by chance, about this share of them; above 0, at most 100.
    Percent(f64),
    /// Packs chosen by chance, about this many bytes of them.
    Bytes(u64),
}

/// restic's limit for the parts of `n/t`.
const PARTS_MAX: u32 = 256;

impl FromStr for Subset {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some((part, parts)) = text.split_once('/') {
            let number = |text: &str| text.parse::<u32>().ok().filter(|number| (1..=PARTS_MAX).contains(number));
            return match (number(part), number(parts)) {
                (Some(part), Some(parts)) if part <= parts => Ok(Self::Part { part, parts }),
                _ => Err(format!("{text:?} is no part: expected n/t with 1 <= n <= t <= {PARTS_MAX}")),
            };
        }
        if let Some(percent) = text.strip_suffix('%') {
            return match percent.parse::<f64>() {
                Ok(percent) if percent > 0.0 && percent <= 100.0 => Ok(Self::Percent(percent)),
                _ => Err(format!("{text:?} is no share: expected more than 0 % and at most 100 %")),
            };
        }
        match size::parse(text) {
            Ok(0) | Err(_) => Err(format!("{text:?} is no part of the packs: expected n/t, x% or a size such as 500M")),
            Ok(bytes) => Ok(Self::Bytes(bytes)),
        }
    }
}

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
    #[arg(long, value_name = "SPAN", value_parser = super::prune::parse_grace, requires = "mirror", conflicts_with_all = ["read_data", "read_data_subset"])]
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
        let Options { data, seed, .. } = options(arguments);
        let checked = super::mirror::check::run(mirror, of_mirror(data, arguments), seed, context);
        return checked.map_err(|error| error.reading_from(mirror));
    }
    let repository = repositories::open_repository(&context.environment, &context.watch(), "check")?;
    if let Some(pack) = &arguments.list {
        return list(pack, &repository, context);
    }
    let options = options(arguments);
    let progress = context.progress(Work::Other);
    let report = check::run(&repository, &options, &progress);
    progress.finish();
    let report = report?;
    for warning in repository.take_warnings() {
        context.output.warn(&warning);
    }
    if context.environment.from_mirror.is_none()
        && let Err(error) = remember(&report, options.data, &repository, context)
    {
        context.output.warn(&format!("what this check found could not be remembered: {}", error.chain()));
    }
    if context.output.json {
        say_json(&report, &options, context)?;
    } else {
        say(&report, &options, context)?;
        let mirrors = mirrors::list_names(&context.environment, repository.id());
        if report.damage().is_some() && !mirrors.is_empty() {
            let names = mirrors.join(", ");
            context
                .output
                .line(format_args!("{names} may have good copies.  First: {}", suggest!("repair objects")))?;
        }
    }
    Ok(exit(&report))
}

/// What breaks a limit of the format and is as it was written is no damage.
#[must_use]
pub fn exit(report: &Report) -> Exit {
    match (report.damage(), report.findings.is_empty()) {
        (Some(_), _) => Exit::Damage,
        (None, false) => Exit::Failed,
        (None, true) => Exit::Success,
    }
}

/// A later sync must know of damage: mirrors hold the good copies. What is refused and not damaged is the same on all of them, and does
/// not keep anything from being sent.
fn remember(report: &Report, data: Data, repository: &Repository, context: &Context) -> Result<(), Failure> {
    let place = mirrors::place_name(repository.place());
    match report.damage() {
        Some(finding) => {
            let (by_reading, what) = (data != Data::None, stored(&finding.message));
            if let Some(book) = mirrors::open_book_if_any(&context.environment, &context.watch(), repository.id())? {
                book.set_damage(&place, &Damage { found: Time::now(), by_reading, what })?;
            }
        }
        None => {
            if let Some(book) = mirrors::open_existing_book(&context.environment, repository.id())? {
                book.clear_damage(&place, data == Data::All)?;
            }
        }
    }
    Ok(())
}

fn of_mirror(data: Data, arguments: &Arguments) -> Which {
    if arguments.max_age.is_some() || arguments.budget.is_some() {
        return Which::Older { than: arguments.max_age.unwrap_or_default(), budget: arguments.budget };
    }
    Which::Share(data)
}

fn options(arguments: &Arguments) -> Options {
    let data = match arguments.read_data_subset {
        _ if arguments.read_data => Data::All,
        None => Data::None,
        Some(Subset::Part { part, parts }) => Data::Part { part, parts },
        Some(Subset::Percent(percent)) => Data::Percent(percent),
        Some(Subset::Bytes(bytes)) => Data::Bytes(bytes),
    };
    // Any number will do: it only has to differ from time to time, so that in the end every pack is read.
    let now = Time::now();
    let chance = (now.seconds.unsigned_abs() << 16) ^ u64::from(now.nanoseconds);
    let seed = arguments.read_data_seed.unwrap_or(chance % 1_000_000_000);
    Options { data, seed, whole_cache: arguments.with_cache }
}

fn list(pack: &str, repository: &Repository, context: &Context) -> Result<Exit, Failure> {
    let progress = context.progress(Work::Other);
    let mut found = Vec::new();
    let pack = check::needs_pack(repository, pack, &progress, &mut |snapshot, path| {
        found.push((snapshot, path.to_vec()));
    });
    progress.finish();
    let pack = pack?;
    let mut output = context.output.stream();
    for (snapshot, path) in &found {
        if context.output.json {
            output.json(&serde_json::json!({
                "message_type": "affected",
                "snapshot_id": snapshot.to_string(),
                "path": String::from_utf8_lossy(path),
            }))?;
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

fn say_json(report: &Report, options: &Options, context: &Context) -> Result<(), Failure> {
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
fn affected(finding: &Finding) -> Vec<String> {
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

fn say(report: &Report, options: &Options, context: &Context) -> Result<(), Failure> {
    let output = context.output;
    for finding in &report.findings {
        output.line(&finding.message)?;
        for line in affected(finding) {
            output.line(format_args!("  {line}"))?;
        }
        output.line(format_args!("  Next: {}", finding.next))?;
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
    output.line(format_args!("{} found  {checked}", size::counted(report.findings.len() as u64, "problem", "problems")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subsets_are_parsed() {
        assert_eq!("1/5".parse(), Ok(Subset::Part { part: 1, parts: 5 }));
        assert_eq!("2.5%".parse(), Ok(Subset::Percent(2.5)));
        assert_eq!("100%".parse(), Ok(Subset::Percent(100.0)));
        assert_eq!("500M".parse(), Ok(Subset::Bytes(500 << 20)));
        for text in ["", "0/5", "6/5", "1/257", "1/", "/", "0%", "101%", "nan%", "%", "0", "x"] {
            assert!(text.parse::<Subset>().is_err(), "{text}");
        }
    }
}
