//! `sync`: bring mirrors up to the newest state.

use super::exit::{CliError, Exit};
use super::mirror::store;
use super::progress::Work;
use super::{Context, duration, open, size};
use crate::base::time::Time;
use crate::codec::head_code::HeadCode;
use crate::ops::sync::{self, Options, Plan, Report};
use crate::repository::mirror_book::{Mirror, MirrorBook};
use crate::repository::public_view::PublicView;
use crate::storage::address::Address;
use std::sync::Mutex;

/// Send what is new to the mirrors
///
/// Needs no passphrase. A mirror is whole for one state of the repository at every instant: objects first, and what names them last. An
/// interrupted sync is continued by the next one. Nothing is removed.
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
    /// Change nothing, only say what would be sent
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
    let address = Address::parse(&mirror.address, &[])?;
    store::refuse_same(context, &address)?;
    let _lock = store::lock(context, view.id(), &mirror.name)?;
    let store = store::open(context, &address, mirror.credentials_command.as_deref(), false)?;
    let progress = context.progress(Work::Other);
    let plan = sync::plan(view, &*store, mirror.head, &progress);
    let plan = match plan {
        Ok(plan) => plan,
        Err(error) => {
            progress.finish();
            return Err(error.into());
        }
    };
    let options = Options {
        parallel: usize::from(arguments.connections),
        limit: arguments.limit_upload,
        sample_percent: arguments.sample,
        seed: Time::now().seconds.unsigned_abs(),
    };
    if arguments.dry_run {
        progress.finish();
        return show(mirror, &plan, None, context);
    }
    let report = sync::execute(view, &*store, &plan, &options, Some((book, &mirror.name)), &progress);
    progress.finish();
    let report = report?;
    let lock = || book.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    lock().set_whole(&mirror.name, plan.head, plan.whole(), Time::now())?;
    show(mirror, &plan, Some(&report), context)
}

fn show(mirror: &Mirror, plan: &Plan, report: Option<&Report>, context: &Context) -> Result<(), CliError> {
    let output = context.output;
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
        }));
    }
    let was = match plan.was {
        _ if plan.is_empty() => String::new(),
        Some(head) => format!("   (was at generation {})", head.generation),
        None => "   (was empty)".to_owned(),
    };
    let generation = plan.head.generation;
    let Some(report) = report else {
        let objects = size::counted((plan.send.len() + plan.heads.len()) as u64, "object", "objects");
        return output.info(format_args!(
            "{}  {objects} would be sent, {}{was}",
            mirror.name,
            size::show(plan.bytes())
        ));
    };
    let done = if plan.is_empty() {
        "nothing to send".to_owned()
    } else {
        format!(
            "{} sent ({}), {} read back  {}",
            size::counted(report.sent, "object", "objects"),
            size::show(report.sent_bytes),
            report.read_back,
            duration::show(report.took),
        )
    };
    output.info(format_args!("{}  whole at generation {generation}   state code {code}   {done}{was}", mirror.name))
}
