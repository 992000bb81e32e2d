//! `check --mirror`: is everything there that the mirror's own head promises?

use crate::base::command::suggest;
use crate::base::escape::escape;
use crate::cli::Context;
use crate::cli::exit::Exit;
use crate::cli::progress::Work;
use crate::ops::check::Data;
use crate::ops::check_mirror::{Report, Which};
use crate::tasks::check_mirror::{self, Request};
use crate::tasks::failure::Failure;
use crate::text::{clock, size};

/// Objects that are named.
const NAMES_SHOWN: usize = 20;
/// Checks a mirror.
///
/// # Errors
/// When there is none, or what its head needs cannot be known. What is missing or damaged is no error but an exit code.
pub fn run(request: &Request, context: &Context) -> Result<Exit, Failure> {
    let progress = context.progress(Work::Other);
    let checked = check_mirror::run(request, &context.environment, &progress);
    progress.finish();
    let report = checked?;
    show(&report.report, report.which, &request.mirror, context)?;
    Ok(report.kind().into())
}

fn show(report: &Report, which: Which, mirror: &str, context: &Context) -> Result<(), Failure> {
    let output = context.output;
    let generation = report.head.map_or(0, |head| head.generation);
    if output.json {
        let names = |names: &[crate::storage::ObjectName]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        return output.json(&serde_json::json!({
            "message_type": "summary",
            "mirror": mirror,
            "generation": generation,
            "objects": report.objects,
            "bytes": report.bytes,
            "missing": names(&report.missing),
            "wrong_length": names(&report.wrong_length),
            "damaged": report.damaged.iter().map(|(name, _)| name.to_string()).collect::<Vec<_>>(),
            "extra_objects": report.extra,
            "strays": report.strays,
            "objects_read": report.read,
            "bytes_read": report.read_bytes,
            "overdue_objects": report.overdue,
            "overdue_bytes": report.overdue_bytes,
            "verified": report.verified.map(|since| clock::rfc3339(since, &clock::local_zone())),
        }));
    }
    let named = report.missing.iter().map(|name| format!("missing: {name}"));
    let named = named.chain(report.wrong_length.iter().map(|name| format!("damaged: {name}: it has another length")));
    let named =
        named.chain(report.damaged.iter().map(|(name, why)| format!("damaged: {name}: {}", escape(why.as_bytes()))));
    let lines: Vec<String> = named.collect();
    for line in lines.iter().take(NAMES_SHOWN) {
        output.line(line)?;
    }
    if let Some(more) = lines.len().checked_sub(NAMES_SHOWN).filter(|more| *more > 0) {
        output.line(format_args!("and {more} more"))?;
    }
    for note in &report.notes {
        output.info(format_args!("Note: {note}"))?;
    }
    if !report.strays.is_empty() {
        let files = size::counted(report.strays.len() as u64, "file is", "files are");
        output.info(format_args!("Note: {files} not part of the repository, such as {}", report.strays[0]))?;
    }
    let (name, mirror) = (mirror, escape(mirror.as_bytes()));
    let objects = size::counted(report.objects, "object", "objects");
    let read = format!("{} read back ({})", size::count(report.read), size::show(report.read_bytes));
    if report.is_whole() {
        output.info(format_args!(
            "{mirror}  whole at generation {generation}: {objects}, {}, {read}",
            size::show(report.bytes)
        ))?;
        if report.overdue > 0 {
            let left = size::counted(report.overdue, "object is", "objects are");
            output.info(format_args!(
                "{left} due as well ({}): the same command goes on there",
                size::show(report.overdue_bytes)
            ))?;
        } else if which != Which::Share(Data::None)
            && let Some(since) = report.verified
        {
            output.info(format_args!("all of it was read back since {}", clock::show(since, &clock::local_zone())))?;
        }
        if which == Which::Share(Data::None) {
            output.info("Contents were not read: --read-data, or --read-data-subset 10%")?;
        }
        return Ok(());
    }
    let problems = size::counted(lines.len() as u64, "problem", "problems");
    output.line(format_args!("{mirror}  {problems} at generation {generation}: {objects}, {read}"))?;
    output.line(format_args!("  Next: {}", suggest!("repair mirror {}", name)))?;
    output.line(format_args!("  Then: {}", suggest!("sync {}", name)))
}
