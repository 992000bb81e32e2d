//! `sync`: bring mirrors up to the newest state.

mod show;

use super::Context;
use super::exit::Exit;
use super::progress::{Progress, Work};
use crate::base::command::suggest;
use crate::base::escape::escape;
use crate::base::lock::{lock, wait_timeout};
use crate::base::stop::Stop;
use crate::base::threads;
use crate::base::time::Time;
use crate::ops::sync::deletion::{self, Deleted, DeletionPlan, Rules};
use crate::ops::sync::pass::Pass;
use crate::ops::sync::{self, Options, Plan, Report};
use crate::ops::{self, Item, Monitor, Phase, Problem, Subject};
use crate::repository::mirror_book::{Damage, Mirror, MirrorBook};
use crate::repository::public_view::PublicView;
use crate::repository::{self, uptime::Uptime};
use crate::storage::MirrorStore;
use crate::tasks::environment::{mirrors, repositories};
use crate::tasks::failure::{Failure, Kind};
use crate::text::span;
use crate::text::{clock, size};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

/// Longest grace of a mirror: 365 days. format-spec/deleting.md, "Swept names".
const GRACE_MAX: Duration = Duration::from_secs(365 * 86_400);

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
    #[arg(long, value_name = "SPAN", default_value = "30d", value_parser = parse_grace, help_heading = "Deleting")]
    pub grace: Duration,
    /// Delete at most this share of a mirror in seven days, in percent; when more is due, delete nothing and end with exit code 20
    #[arg(long, value_name = "PERCENT", default_value_t = 50.0, value_parser = parse_percent, help_heading = "Deleting")]
    pub max_delete: f64,
    /// Delete nothing
    #[arg(long, conflicts_with_all = ["grace", "max_delete"], help_heading = "Deleting")]
    pub no_delete: bool,
    /// Send although the last check found damage here; what is damaged is never sent, and nothing is deleted on a mirror
    #[arg(long)]
    pub force: bool,
    /// Change nothing, only say what would be sent and deleted
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}

/// A name that was swept leaves the heads after 400 days: whoever waits longer deletes nothing.
fn parse_grace(text: &str) -> Result<Duration, String> {
    let grace = span::parse_days(text)?;
    if grace > GRACE_MAX {
        return Err("at most 365d: 400 days after it was swept nobody knows an object's name any more".to_owned());
    }
    Ok(grace)
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
pub fn run(arguments: &Arguments, context: &mut Context) -> Result<Exit, Failure> {
    let view = repositories::open_public_view(&context.environment, &context.watch(), "sync")?;
    view.tip().require_sound()?;
    let book = mirrors::open_book(&context.environment, view.id())?;
    let mirrors = mirrors::choose_mirrors(&book, &arguments.mirrors)?;
    if mirrors.is_empty() {
        return Err(Failure::failed("there is no mirror yet").remedy(suggest!("mirror add NAME s3://BUCKET/PATH")));
    }
    let damage = book.damage(&mirrors::place_name(&repositories::place(&context.environment)?))?;
    if let Some(damage) = damage.as_ref().filter(|_| !arguments.force) {
        return Err(refused(damage));
    }
    // A mirror may have the only copy of what is damaged here, also of what was given up here and swept.
    let may_delete = !arguments.no_delete && damage.is_none();
    if !arguments.no_delete && !may_delete {
        context.output.warn("nothing is deleted on a mirror: the last check found damage here");
    }
    let progress = context.progress(Work::Other);
    if mirrors.len() > 1 {
        progress.phase(Phase::Send);
    }
    let crew = Crew {
        arguments,
        may_delete,
        view: &view,
        book: Mutex::new(book),
        pass: Pass::new(&view, arguments.limit_upload),
        start: Start::of(mirrors.len()),
        several: mirrors.len() > 1,
        progress: &progress,
        voice: Mutex::new(()),
        asking: Mutex::new(()),
        context,
    };
    let ended: Vec<Result<(), Failure>> = std::thread::scope(|scope| {
        let start = |mirror| {
            let crew = &crew;
            let started = threads::spawn_one(scope, move || crew.tell(mirror));
            started.map_err(|error| Failure::from(ops::Error::Threads(error)))
        };
        let started: Vec<_> = mirrors.iter().map(start).collect();
        let join = |thread: ScopedJoinHandle<'_, Result<(), Failure>>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        started.into_iter().map(|thread| thread.and_then(join)).collect()
    });
    progress.finish();
    let failed: Vec<Failure> = ended.into_iter().filter_map(Result::err).collect();
    let count = failed.len();
    // Of equal ones the first.
    let worst = failed.into_iter().reduce(|one, other| if rank(&other) > rank(&one) { other } else { one });
    let worst = worst.map(|worst| match worst.kind() {
        // Each was named when it failed.
        kind if mirrors.len() > 1 && kind != Kind::Interrupted => {
            let all = Failure::new(
                kind,
                format!("{count} of {} mirrors not brought up as asked, named above", mirrors.len()),
            );
            worst.remedies().iter().fold(all, |all, remedy| all.remedy(remedy.clone()))
        }
        _ => worst,
    });
    worst.map_or(Ok(Exit::Success), Err)
}

fn refused(damage: &Damage) -> Failure {
    let found = clock::show(damage.found, &clock::local_zone());
    let check = if damage.by_reading { suggest!("check --read-data") } else { suggest!("check") };
    Failure::new(
        Kind::Damage,
        format!("nothing was sent: the check of {found} found damage here ({})", escape(damage.what.as_bytes())),
    )
    .remedy(concat!("to fetch good copies from a mirror: ", suggest!("repair objects")))
    .remedy(format!("then: {check}"))
    .remedy(concat!("to send all the same: ", suggest!("sync --force")))
}

/// How bad it is. What another run may find well again is less than what it will find as it is; a mirror from which nothing was deleted is
/// whole.
fn rank(error: &Failure) -> u8 {
    match error.kind() {
        Kind::DeletionRefused => 0,
        Kind::Locked => 1,
        Kind::Failed
        | Kind::NotFound
        | Kind::Conflict
        | Kind::Invalid
        | Kind::TargetFull
        | Kind::Internal
        | Kind::Refused => 2,
        Kind::MirrorIncomplete => 4,
        Kind::Damage | Kind::Fork | Kind::Rollback | Kind::Stale => 5,
        Kind::Interrupted => 6,
        _ => 3,
    }
}

/// What was planned, and what was done of it.
struct Done {
    plan: Plan,
    report: Option<Report>,
    deletion: Option<DeletionPlan>,
    deleted: Option<Deleted>,
}

/// Another history there is no reason to doubt what this machine remembers.
fn explained(error: ops::Error, mirror: &str) -> Failure {
    match &error {
        ops::Error::Repository(repository::Error::Fork { .. }) => Failure::new(Kind::Fork, error.to_string())
            .remedy(format!(
                "somebody wrote to a copy of this repository and synced it there. To bring its snapshots here: {}",
                suggest!("copy --from-mirror {}", mirror)
            ))
            .remedy(concat!("then this history needs a mirror of its own: ", suggest!("mirror add NAME ADDRESS"))),
        ops::Error::Mirror(error) => Failure::of_mirror(error, mirror),
        _ => error.into(),
    }
}

/// All mirrors that are brought up at the same time, each in a thread and with a lock of its own.
struct Crew<'a> {
    arguments: &'a Arguments,
    may_delete: bool,
    view: &'a PublicView,
    book: Mutex<MirrorBook>,
    pass: Pass<'a>,
    start: Start,
    several: bool,
    progress: &'a Progress,
    /// Held by who says something.
    voice: Mutex<()>,
    /// Held by who may ask something.
    asking: Mutex<()>,
    context: &'a Context,
}

impl Crew<'_> {
    fn book(&self) -> MutexGuard<'_, MirrorBook> {
        lock(&self.book)
    }

    /// Brings one up, and says how it went.
    fn tell(&self, mirror: &Mirror) -> Result<(), Failure> {
        let one = One { progress: self.progress, name: self.several.then_some(mirror.name.as_str()) };
        let done = self.bring_up(mirror, &one);
        let _voice = lock(&self.voice);
        let told = done.and_then(|done| {
            self.progress.between(|| show::show(mirror, &done, self.context))?;
            done.deletion.map_or(Ok(()), |deletion| show::complain(mirror, &deletion, done.deleted.as_ref()))
        });
        told.map_err(|error| {
            let error = error.about(&mirror.name);
            if self.several && error.kind() != Kind::Interrupted {
                self.progress.between(|| self.context.output.warn(&error.chain()));
            }
            error
        })
    }

    fn bring_up(&self, mirror: &Mirror, monitor: &One<'_>) -> Result<Done, Failure> {
        let Self { view, context, .. } = self;
        let name = &mirror.name;
        let planning = self.start.planning();
        let place = mirrors::MirrorLocation::of(mirror)?;
        mirrors::refuse_same(&context.environment, &place.address)?;
        let _lock = mirrors::lock_mirror(&context.environment, view.id(), name)?;
        let store = {
            // Commands for credentials may ask somebody: one after the other.
            let _asking = lock(&self.asking);
            mirrors::open_store(&context.environment, &place, false)?
        };
        let mut planning = Some(planning);
        sync::with_newest(view, |view| self.attempt(view, name, &*store, &mut planning, monitor))
            .map_err(|error| explained(error, name))
    }

    /// One attempt, with one view of the repository. `planning` ends when there is a plan.
    fn attempt(
        &self,
        view: &PublicView,
        name: &str,
        store: &dyn MirrorStore,
        planning: &mut Option<Planning<'_>>,
        monitor: &One<'_>,
    ) -> ops::Result<Done> {
        let arguments = self.arguments;
        // Whoever had the lock before may have left a newer head there.
        let seen = self.book().get(name)?.head;
        let plan = sync::plan(view, store, seen, monitor)?;
        let clock = self.book().clock(name, &Uptime::now(), Time::now())?;
        let rules = Rules { grace: arguments.grace, max_percent: arguments.max_delete };
        let deletion = match self.may_delete {
            false => None,
            true => Some(deletion::plan(view, store, &plan, &rules, (&self.book, name), clock)?),
        };
        if arguments.dry_run {
            return Ok(Done { plan, report: None, deletion, deleted: None });
        }
        let reader = self.pass.reader_of(view, &plan);
        drop(planning.take());
        if !plan.is_empty() {
            self.start.wait(|| monitor.interrupted());
        }
        let options = Options {
            parallel: usize::from(arguments.connections),
            sample_percent: arguments.sample,
            seed: Time::now().seconds.unsigned_abs(),
        };
        let report = sync::execute(&reader, store, &plan, &options, Some((&self.book, name)), monitor)?;
        self.book().set_whole(name, plan.head, plan.whole(), Time::now())?;
        deletion::note(view, &plan, &mut self.book(), name, clock)?;
        let deleted = match &deletion {
            Some(deletion) => {
                Some(deletion::execute(store, deletion, options.parallel, (&self.book, name), clock, monitor)?)
            }
            None => None,
        };
        Ok(Done { plan, report: Some(report), deletion, deleted })
    }
}

/// So long a mirror waits for the plans of the others, to read together what several lack. One that does not answer holds back nobody for
/// longer.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// How many mirrors are still planning.
struct Start {
    planning: Mutex<usize>,
    changed: Condvar,
}

impl Start {
    fn of(mirrors: usize) -> Self {
        Self { planning: Mutex::new(mirrors), changed: Condvar::new() }
    }

    /// One of them plans until this is dropped.
    const fn planning(&self) -> Planning<'_> {
        Planning(self)
    }

    fn lock(&self) -> MutexGuard<'_, usize> {
        lock(&self.planning)
    }

    fn wait(&self, stop: impl Fn() -> bool) {
        let until = Instant::now() + WAIT_MAX;
        let mut planning = self.lock();
        while *planning > 0 && !stop() {
            let left = until.saturating_duration_since(Instant::now()).min(Duration::from_millis(200));
            if left.is_zero() {
                return;
            }
            planning = wait_timeout(&self.changed, planning, left);
        }
    }
}

struct Planning<'a>(&'a Start);

impl Drop for Planning<'_> {
    fn drop(&mut self) {
        *self.0.lock() -= 1;
        self.0.changed.notify_all();
    }
}

/// What one mirror tells of its work. With several, all are one phase, and what went wrong begins with its name.
struct One<'a> {
    progress: &'a Progress,
    name: Option<&'a str>,
}

impl Monitor for One<'_> {
    fn phase(&self, phase: Phase) {
        if self.name.is_none() {
            self.progress.phase(phase);
        }
    }

    fn expect(&self, items: u64, bytes: u64, complete: bool) {
        self.progress.expect(items, bytes, complete && self.name.is_none());
    }

    fn advance(&self, items: u64, bytes: u64) {
        self.progress.advance(items, bytes);
    }

    fn repeat(&self, lost: u64, again: u64) {
        self.progress.repeat(lost, again);
    }

    fn item(&self, item: &Item<'_>) {
        self.progress.item(item);
    }

    fn problem(&self, problem: &Problem<'_>) {
        match self.name {
            Some(name) => {
                let message = format!("{name}: {}", problem.message);
                self.progress.problem(&Problem { message: &message, subject: Subject::Mirror, ..*problem });
            }
            None => self.progress.problem(problem),
        }
    }

    fn stop(&self) -> Option<Stop> {
        self.progress.stop()
    }
}
