//! `sync`: bring mirrors up to the newest state.

use super::exit::{CliError, Exit};
use super::mirror::store;
use super::progress::Work;
use super::{Context, duration, open, size};
use crate::base::time::Time;
use crate::codec::head_code::HeadCode;
use crate::ops::Monitor;
use crate::ops::sync::deletion::{self, Deleted, DeletionPlan, Rules};
use crate::ops::sync::{self, Options, Plan, Report};
use crate::repository::mirror_book::{Mirror, MirrorBook};
use crate::repository::public_view::PublicView;
use crate::repository::uptime::Uptime;
use crate::storage::MirrorStore;
use std::sync::Mutex;
use std::time::Duration;

/// Send what is new to the mirrors
///
/// Needs no passphrase. A mirror is whole for one state of the repository at every instant: objects first, and what names them last. An
/// interrupted sync is continued by the next one.
///
/// What was pruned leaves a mirror later than the repository: when the mirror's own newest state says that it is not needed any more, and
/// this machine has known that for the whole grace. A repository that is absent, empty or another one removes nothing.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// Which mirrors, by name; all without any
    #[arg(value_name = "MIRROR")]
    pub mirrors: Vec<String>,
    /// Send at most so many bytes a second (k, M, G: powers of 1024)
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    pub limit_upload: Option<u64>,
    /// Send so many objects at the same time
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub connections: u16,
    /// Read back this share of what was sent, in percent
    #[arg(long, value_name = "PERCENT", default_value_t = 1.0, value_parser = parse_percent)]
    pub sample: f64,
    /// Leave what was pruned on the mirror for so long after it was first seen to be superseded there (30d, 12h)
    #[arg(long, value_name = "SPAN", default_value = "30d", value_parser = super::prune::parse_grace, help_heading = "Deleting")]
    pub grace: Duration,
    /// Delete at most this share of a mirror in seven days, in percent; when more is due, delete nothing and end with exit code 20
    #[arg(long, value_name = "PERCENT", default_value_t = 50.0, value_parser = parse_percent, help_heading = "Deleting")]
    pub max_delete: f64,
    /// Delete nothing
    #[arg(long, conflicts_with_all = ["grace", "max_delete"], help_heading = "Deleting")]
    pub no_delete: bool,
    /// Change nothing, only say what would be sent and deleted
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}

fn parse_percent(text: &str) -> Result<f64, String> {
    let percent = text.strip_suffix('%').unwrap_or(text).parse::<f64>().ok();
    percent
        .filter(|percent| (0.0..=100.0).contains(percent))
        .ok_or_else(|| format!("{text:?} is no share: expected 0 to 100"))
}

/// Runs the command.
///
/// # Errors
/// The worst of what befell the mirrors: each is tried.
pub fn run(arguments: &Arguments, context: &mut Context) -> Result<Exit, CliError> {
    let view = open::public_view(context, "sync")?;
    let book = store::book(context, view.id())?;
    let mirrors = match arguments.mirrors.as_slice() {
        [] => book.all()?,
        names => names.iter().map(|name| book.get(name)).collect::<Result<_, _>>()?,
    };
    if mirrors.is_empty() {
        return Err(CliError::failed("there is no mirror yet").hint("packstone mirror add NAME s3://BUCKET/PATH"));
    }
    let book = Mutex::new(book);
    let mut worst: Option<CliError> = None;
    for mirror in &mirrors {
        match one(mirror, arguments, &view, &book, context) {
            Ok(()) => {}
            Err(error) if mirrors.len() == 1 || error.exit() == Exit::Interrupted => {
                return Err(error.about(&mirror.name));
            }
            Err(error) => {
                context.output.warn(&format!("{}: {}", mirror.name, error.chain()));
                worst = worst.filter(|worst| worst.exit() != Exit::Failed).or(Some(error.about(&mirror.name)));
            }
        }
    }
    worst.map_or(Ok(Exit::Success), Err)
}

fn one(
    mirror: &Mirror,
    arguments: &Arguments,
    view: &PublicView,
    book: &Mutex<MirrorBook>,
    context: &Context,
) -> Result<(), CliError> {
    let place = store::Place::of(mirror)?;
    store::refuse_same(context, &place.address)?;
    let _lock = store::lock(context, view.id(), &mirror.name)?;
    let store = store::open(context, &place, false)?;
    let progress = context.progress(Work::Other);
    let done = bring_up(mirror, arguments, view, &*store, book, &progress);
    progress.finish();
    let done = done?;
    show(mirror, &done, context)?;
    done.deletion.map_or(Ok(()), |deletion| complain(mirror, &deletion, done.deleted.as_ref()))
}

/// What was planned, and what was done of it.
struct Done {
    plan: Plan,
    report: Option<Report>,
    deletion: Option<DeletionPlan>,
    deleted: Option<Deleted>,
}

fn bring_up(
    mirror: &Mirror,
    arguments: &Arguments,
    view: &PublicView,
    store: &dyn MirrorStore,
    book: &Mutex<MirrorBook>,
    monitor: &dyn Monitor,
) -> Result<Done, CliError> {
    let lock = || book.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let name = &mirror.name;
    let plan = sync::plan(view, store, mirror.head, monitor)?;
    let clock = lock().clock(name, &Uptime::now(), Time::now())?;
    let rules = Rules { grace: arguments.grace, max_percent: arguments.max_delete };
    let deletion = match arguments.no_delete {
        true => None,
        false => Some(deletion::plan(view, store, &plan, &rules, &lock(), name, clock)?),
    };
    if arguments.dry_run {
        return Ok(Done { plan, report: None, deletion, deleted: None });
    }
    let options = Options {
        parallel: usize::from(arguments.connections),
        limit: arguments.limit_upload,
        sample_percent: arguments.sample,
        seed: Time::now().seconds.unsigned_abs(),
    };
    let report = sync::execute(view, store, &plan, &options, Some((book, name)), monitor)?;
    lock().set_whole(name, plan.head, plan.whole(), Time::now())?;
    deletion::note(view, &plan, &mut lock(), name, clock)?;
    let deleted = match &deletion {
        Some(deletion) => Some(deletion::execute(store, deletion, options.parallel, (book, name), clock, monitor)?),
        None => None,
    };
    Ok(Done { plan, report: Some(report), deletion, deleted })
}

/// What left the mirror, and what will.
fn show_deletion(plan: &DeletionPlan, deleted: Option<&Deleted>, context: &Context) -> Result<(), CliError> {
    let output = context.output;
    match deleted.map(|deleted| (deleted.objects, deleted.bytes)) {
        None if !plan.due.is_empty() => output.info(format_args!(
            "  {} would be deleted, {}",
            objects(plan.due.len() as u64),
            size::show(plan.bytes())
        ))?,
        Some((count, bytes)) if count > 0 => output.info(format_args!(
            "  {} deleted, {}: pruned here, and the grace is over",
            objects(count),
            size::show(bytes)
        ))?,
        _ => {}
    }
    if let Some(next) = plan.next {
        output.info(format_args!(
            "  {} ({}) will be deleted there, the first in {}",
            size::counted(plan.waiting, "object that was pruned", "objects that were pruned"),
            size::show(plan.waiting_bytes),
            in_days(next),
        ))?;
    }
    Ok(())
}

fn deletion_json(plan: &DeletionPlan, deleted: Option<&Deleted>) -> serde_json::Value {
    serde_json::json!({
        "due": plan.due.len(),
        "due_bytes": plan.bytes(),
        "waiting": plan.waiting,
        "waiting_bytes": plan.waiting_bytes,
        "next_seconds": plan.next.map(|next| next.as_secs()),
        "lately_bytes": plan.lately,
        "cap_bytes": plan.cap,
        "refused": plan.is_refused(),
        "deleted": deleted.map(|deleted| deleted.objects),
        "deleted_bytes": deleted.map(|deleted| deleted.bytes),
        "failed": deleted.map(|deleted| deleted.failed.len()),
    })
}

/// What should have left the mirror, and did not.
fn complain(mirror: &Mirror, plan: &DeletionPlan, deleted: Option<&Deleted>) -> Result<(), CliError> {
    let name = &mirror.name;
    if plan.is_refused() {
        return Err(CliError::new(
            Exit::DeletionRefused,
            format!(
                "nothing was deleted there: with {} ({}) that are due, and {} of the last seven days, it would be more than the {} that may be",
                objects(plan.due.len() as u64),
                size::show(plan.bytes()),
                size::show(plan.lately),
                size::show(plan.cap),
            ),
        )
        .hint(format!("if that is right: packstone sync {name} --max-delete 100")));
    }
    let failed = deleted.map(|deleted| deleted.failed.as_slice()).unwrap_or_default();
    match failed.first() {
        None => Ok(()),
        Some((_, why)) => Err(CliError::failed(format!(
            "the mirror is whole, but {} could not be deleted there: {why}",
            objects(failed.len() as u64)
        ))
        .hint(format!("if its credentials must not delete: packstone sync {name} --no-delete"))),
    }
}

fn in_days(span: Duration) -> String {
    let hours = span.as_secs().div_ceil(3600);
    if hours < 48 { format!("{hours} h") } else { format!("{} days", hours.div_ceil(24)) }
}

fn objects(count: u64) -> String {
    size::counted(count, "object", "objects")
}

fn show(mirror: &Mirror, done: &Done, context: &Context) -> Result<(), CliError> {
    let output = context.output;
    let Done { plan, report, deletion, deleted } = done;
    let report = report.as_ref();
    for note in &plan.notes {
        output.warn(&format!("{}: {note}", mirror.name));
    }
    let code = HeadCode::of(&plan.head);
    if output.json {
        return output.json(&serde_json::json!({
            "message_type": "summary",
            "mirror": mirror.name,
            "dry_run": report.is_none(),
            "generation": plan.head.generation,
            "was_at_generation": plan.was.map(|head| head.generation),
            "state_code": code.to_string(),
            "objects": plan.whole().0,
            "bytes": plan.whole().1,
            "to_send": (plan.send.len() + plan.heads.len()) as u64,
            "to_send_bytes": plan.bytes(),
            "sent": report.map(|report| report.sent),
            "sent_bytes": report.map(|report| report.sent_bytes),
            "read_back": report.map(|report| report.read_back),
            "seconds": report.map(|report| report.took.as_secs_f64()),
            "deletion": deletion.as_ref().map(|deletion| deletion_json(deletion, deleted.as_ref())),
        }));
    }
    let was = match plan.was {
        _ if plan.is_empty() => String::new(),
        Some(head) => format!("   (was at generation {})", head.generation),
        None => "   (was empty)".to_owned(),
    };
    let generation = plan.head.generation;
    match report {
        None => output.info(format_args!(
            "{}  {} would be sent, {}{was}",
            mirror.name,
            objects((plan.send.len() + plan.heads.len()) as u64),
            size::show(plan.bytes())
        ))?,
        Some(report) => {
            let done = if plan.is_empty() {
                "nothing to send".to_owned()
            } else {
                format!(
                    "{} sent ({}), {} read back  {}",
                    objects(report.sent),
                    size::show(report.sent_bytes),
                    report.read_back,
                    duration::show(report.took),
                )
            };
            let name = &mirror.name;
            output.info(format_args!("{name}  whole at generation {generation}   state code {code}   {done}{was}"))?;
        }
    }
    deletion.as_ref().map_or(Ok(()), |deletion| show_deletion(deletion, deleted.as_ref(), context))
}
