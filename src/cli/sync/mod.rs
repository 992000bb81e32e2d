//! `sync`: bring mirrors up to the newest state.

mod show;

use super::exit::{CliError, Exit};
use super::mirror::store;
use super::progress::Work;
use super::{Context, open, size};
use crate::base::time::Time;
use crate::ops::sync::deletion::{self, Deleted, DeletionPlan, Rules};
use crate::ops::sync::pass::{Pass, Reader};
use crate::ops::sync::{self, Options, Plan, Report};
use crate::ops::{self, Item, Monitor, Phase, Severity};
use crate::repository::mirror_book::{Mirror, MirrorBook};
use crate::repository::public_view::PublicView;
use crate::repository::{self, uptime::Uptime};
use crate::storage::MirrorStore;
use std::fs::File;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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
    let mirrors = store::chosen(&book, &arguments.mirrors)?;
    if mirrors.is_empty() {
        return Err(CliError::failed("there is no mirror yet").hint("packstone mirror add NAME s3://BUCKET/PATH"));
    }
    let book = Book(Mutex::new(book));
    let progress = context.progress(Work::Other);
    let mut ended: Vec<(&Mirror, Result<Done, CliError>)> = Vec::new();
    let mut prepared = Vec::new();
    for mirror in &mirrors {
        if progress.interrupted() {
            return Err(CliError::interrupted());
        }
        match prepare(mirror, arguments, &view, &book, &progress, context) {
            Ok(it) => prepared.push(it),
            Err(error) => ended.push((mirror, Err(error))),
        }
    }
    let names: Vec<&Mirror> = prepared.iter().map(|it| it.mirror).collect();
    ended.extend(names.into_iter().zip(bring_up(prepared, arguments, &view, &book, &progress)));
    progress.finish();
    let mut worst: Option<CliError> = None;
    for (mirror, done) in ended {
        let told = done.and_then(|done| {
            show::show(mirror, &done, context)?;
            done.deletion.map_or(Ok(()), |deletion| show::complain(mirror, &deletion, done.deleted.as_ref()))
        });
        let Err(error) = told else { continue };
        let error = error.about(&mirror.name);
        if mirrors.len() == 1 || error.exit() == Exit::Interrupted {
            return Err(error);
        }
        context.output.warn(&error.chain());
        worst = worst.filter(|worst| rank(worst) >= rank(&error)).or(Some(error));
    }
    worst.map_or(Ok(Exit::Success), Err)
}

/// How bad it is: a mirror from which nothing was deleted is whole, one that failed may not be, and what has a code of its own says more.
fn rank(error: &CliError) -> u8 {
    match error.exit() {
        Exit::DeletionRefused => 0,
        Exit::Failed => 1,
        _ => 2,
    }
}

/// A mirror that is at hand, and what it needs.
struct Prepared<'a> {
    mirror: &'a Mirror,
    store: Arc<dyn MirrorStore>,
    /// Nobody else of this machine is at work on it.
    _lock: File,
    plan: Plan,
    clock: u64,
    deletion: Option<DeletionPlan>,
}

/// What was planned, and what was done of it.
struct Done {
    plan: Plan,
    report: Option<Report>,
    deletion: Option<DeletionPlan>,
    deleted: Option<Deleted>,
}

/// The book of mirrors, which all that are at work write into.
struct Book(Mutex<MirrorBook>);

impl Book {
    fn lock(&self) -> MutexGuard<'_, MirrorBook> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn prepare<'a>(
    mirror: &'a Mirror,
    arguments: &Arguments,
    view: &PublicView,
    book: &Book,
    monitor: &dyn Monitor,
    context: &Context,
) -> Result<Prepared<'a>, CliError> {
    let place = store::Place::of(mirror)?;
    store::refuse_same(context, &place.address)?;
    let name = &mirror.name;
    let lock = store::lock(context, view.id(), name)?;
    let store = store::open(context, &place, false)?;
    // Whoever had the lock may have left a newer head there.
    let seen = book.lock().get(name)?.head;
    let plan = sync::plan(view, &*store, seen, monitor).map_err(|error| explained(error, name))?;
    let clock = book.lock().clock(name, &Uptime::now(), Time::now())?;
    let rules = Rules { grace: arguments.grace, max_percent: arguments.max_delete };
    let deletion = match arguments.no_delete {
        true => None,
        false => Some(deletion::plan(view, &*store, &plan, &rules, &book.lock(), name, clock)?),
    };
    Ok(Prepared { mirror, store, _lock: lock, plan, clock, deletion })
}

/// Another history there is no reason to doubt what this machine remembers.
fn explained(error: ops::Error, mirror: &str) -> CliError {
    match &error {
        ops::Error::Repository(repository::Error::Fork { .. }) => {
            CliError::new(Exit::Fork, error.to_string()).hint(format!(
                "somebody wrote to a copy of this repository and synced it there. Its snapshots come here with packstone copy --from-mirror \
                 {mirror}; then this history needs a mirror of its own: packstone mirror add NAME ADDRESS"
            ))
        }
        _ => error.into(),
    }
}

impl Prepared<'_> {
    /// Sends and deletes what was planned.
    fn carry_out(
        &self,
        reader: &Reader<'_>,
        arguments: &Arguments,
        book: &Book,
        monitor: &dyn Monitor,
    ) -> Result<(Report, Option<Deleted>), CliError> {
        let Self { store, plan, deletion, clock, .. } = self;
        let (name, clock) = (&self.mirror.name, *clock);
        let options = Options {
            parallel: usize::from(arguments.connections),
            sample_percent: arguments.sample,
            seed: Time::now().seconds.unsigned_abs(),
        };
        let report = sync::execute(reader, &**store, plan, &options, Some((&book.0, name)), monitor)?;
        book.lock().set_whole(name, plan.head, plan.whole(), Time::now())?;
        deletion::note(reader.view(), plan, &mut book.lock(), name, clock)?;
        let deleted = match deletion {
            Some(deletion) => {
                Some(deletion::execute(&**store, deletion, options.parallel, (&book.0, name), clock, monitor)?)
            }
            None => None,
        };
        Ok((report, deleted))
    }
}

/// Several mirrors are one phase of work.
struct Beside<'a>(&'a dyn Monitor);

impl Monitor for Beside<'_> {
    fn phase(&self, _: Phase) {}

    fn expect(&self, items: u64, bytes: u64, complete: bool) {
        self.0.expect(items, bytes, complete);
    }

    fn advance(&self, items: u64, bytes: u64) {
        self.0.advance(items, bytes);
    }

    fn item(&self, item: &Item<'_>) {
        self.0.item(item);
    }

    fn problem(&self, severity: Severity, path: &[u8], message: &str) {
        self.0.problem(severity, path, message);
    }

    fn interrupted(&self) -> bool {
        self.0.interrupted()
    }
}

/// Brings all up at the same time, from one pass over the repository.
fn bring_up(
    prepared: Vec<Prepared<'_>>,
    arguments: &Arguments,
    view: &PublicView,
    book: &Book,
    monitor: &dyn Monitor,
) -> Vec<Result<Done, CliError>> {
    let done = |it: Prepared<'_>, report, deleted| Done { plan: it.plan, report, deletion: it.deletion, deleted };
    if arguments.dry_run {
        return prepared.into_iter().map(|it| Ok(done(it, None, None))).collect();
    }
    let pass = Pass::new(view, arguments.limit_upload);
    let readers: Vec<Reader<'_>> = prepared.iter().map(|it| pass.reader(&it.plan)).collect();
    monitor.phase(Phase::Send);
    let beside = Beside(monitor);
    let monitor: &dyn Monitor = if prepared.len() > 1 { &beside } else { monitor };
    let carried: Vec<_> = std::thread::scope(|scope| {
        let work = |(it, reader): (&'_ Prepared<'_>, Reader<'_>)| it.carry_out(&reader, arguments, book, monitor);
        let threads: Vec<_> = prepared.iter().zip(readers).map(|pair| scope.spawn(move || work(pair))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    let both = prepared.into_iter().zip(carried);
    both.map(|(it, carried)| carried.map(|(report, deleted)| done(it, Some(report), deleted))).collect()
}
