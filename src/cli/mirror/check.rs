//! `check --mirror`: is everything there that the mirror's own head promises?

use crate::base::command::suggest;
use crate::base::escape::escape;
use crate::base::lock::lock;
use crate::base::time::Time;
use crate::cli::Context;
use crate::cli::exit::Exit;
use crate::cli::progress::Work;
use crate::ops::check::Data;
use crate::ops::check_mirror::{self, Options, Report, Which};
use crate::repository::Access;
use crate::repository::public_view::PublicView;
use crate::storage::read_only::ReadOnly;
use crate::tasks::environment::freshness::About;
use crate::tasks::environment::{freshness, mirrors, repositories};
use crate::tasks::failure::Failure;
use crate::text::{clock, size};
use std::sync::{Arc, Mutex};

/// Objects that are named.
const NAMES_SHOWN: usize = 20;
/// Objects that are read at the same time.
const CONNECTIONS: usize = 4;

/// Checks the mirror of this name, or at this address.
///
/// # Errors
/// When there is none, or what its head needs cannot be known. What is missing or damaged is no error but an exit code.
pub fn run(mirror: &str, which: Which, seed: u64, context: &Context) -> Result<Exit, Failure> {
    let place = mirrors::find_mirror(&context.environment, &context.watch(), mirror)?;
    let store = mirrors::open_store(&context.environment, &place, false)?;
    // Whether it is whole is asked of it, and not whose history it has.
    let memory = repositories::memory_of_mirror(&context.environment, &context.watch(), &place, true)?
        .expecting(context.environment.expected.clone());
    let bare = Access::of_mirror(Arc::new(ReadOnly::new(Arc::clone(&store))), place.path());
    let access = Access { remembered: Some(memory), ..bare };
    // What was seen there before must be what is there now, or be followed by it.
    let view = PublicView::open(access.clone()).map_err(|error| mirrors::explain_refusal(error, &place, &access))?;
    freshness::report_freshness(view.freshness(), view.tip().reference(), About::new(&access.place), &context.watch());
    // By its address a mirror is checked on any machine, whatever that one remembers.
    let book = mirrors::open_book(&context.environment, view.id()).ok().map(Mutex::new);
    let known = book.as_ref().and_then(|book| lock(book).get(mirror).ok());
    if known.is_none() && matches!(which, Which::Older { .. }) {
        return Err(Failure::usage("when something was last read back is known of mirrors with a name only")
            .remedy(concat!("to see them: ", suggest!("mirror list"))));
    }
    let progress = context.progress(Work::Other);
    let options = Options { which, seed, parallel: CONNECTIONS, now: Time::now() };
    let named = book.as_ref().zip(known.as_ref().map(|mirror| mirror.name.as_str()));
    let report = check_mirror::run(&view, &*store, &options, named, &progress);
    progress.finish();
    let report = report?;
    if let Some((book, name)) = named
        && let Err(error) = lock(book).set_verified(name, report.verified)
    {
        context.output.warn(&format!("when it was read back is not remembered: {error}"));
    }
    show(&report, which, mirror, context)?;
    Ok(match (report.damaged.is_empty(), report.is_whole()) {
        (_, true) => Exit::Success,
        (false, _) => Exit::Damage,
        (true, false) => Exit::MirrorIncomplete,
    })
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
