//! Bring mirrors to the newest state of the repository, several at the same time. Needs no secret of the repository.
//!
//! # What protects a mirror
//!
//! - **The damage brake.** When the last check found damage here, nothing is sent, and nothing is deleted even if sending is forced: a
//!   mirror may have the only good copy.
//! - **The order.** Plan, then what is due for deletion by that plan, then send, then remember that the mirror is whole, then note
//!   what it superseded, then delete: [`crate::ops::sync::deletion`] says why none of these may change places.
//! - **One at a time.** A lock a mirror; the reads are shared by all of them ([`crate::ops::sync::pass`]).

mod barrier;
mod monitor;

use super::environment::mirrors::{self, MirrorLocation};
use super::environment::{Environment, repositories};
use super::failure::{Failure, Kind};
use super::mirror_findings;
use super::require_connections;
use crate::base::command::suggest;
use crate::base::escape::escape;
use crate::base::lock::lock;
use crate::base::threads;
use crate::base::time::Time;
use crate::ops::sync::deletion::{self, Deleted, DeletionPlan, Rules};
use crate::ops::sync::pass::Pass;
use crate::ops::sync::{self, Options, Plan, Report as SendReport};
use crate::ops::{self, Monitor, Phase, Problem, Subject};
use crate::repository::mirror_book::{Damage, FoundBy, Mirror, MirrorBook};
use crate::repository::public_view::PublicView;
use crate::repository::{self, uptime::Uptime};
use crate::storage::rate_limit::RateLimit;
use crate::storage::{MirrorStore, ObjectName};
use crate::text::{clock, size};
use barrier::{PlanBarrier, PlanningGuard};
use monitor::MirrorMonitor;
use serde::Deserialize;
use std::collections::BTreeSet;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};
use std::thread::ScopedJoinHandle;
use std::time::Duration;

/// Longest grace of a mirror: 365 days. format-spec/deleting.md, "Swept names".
const GRACE_MAX: Duration = Duration::from_secs(365 * 86_400);
/// What was pruned stays on a mirror for so long when nothing else is said.
pub const GRACE: Duration = Duration::from_secs(30 * 86_400);

/// Which mirrors, and how.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Request {
    /// Their names; all without any.
    pub mirrors: Vec<String>,
    /// At most so many bytes a second to all of them together; without one what the environment's limit says.
    #[serde(deserialize_with = "super::text_form::size")]
    pub limit_upload: Option<u64>,
    /// Objects that are sent to a mirror at the same time, 1 to 64.
    pub connections: u16,
    /// The share of what was sent that is read back, in percent.
    pub sample: f64,
    /// What was pruned stays for so long after it was first seen to be superseded; [`GRACE`] without one.
    #[serde(deserialize_with = "super::text_form::days")]
    pub grace: Option<Duration>,
    /// The share of a mirror that may be deleted in seven days, in percent. When more is due nothing is deleted.
    pub max_delete: f64,
    /// Delete nothing.
    pub no_delete: bool,
    /// Send although the last check found damage here.
    pub force: bool,
    /// Change nothing.
    pub dry_run: bool,
}

impl Default for Request {
    fn default() -> Self {
        Self {
            mirrors: Vec::new(),
            limit_upload: None,
            connections: 4,
            sample: 1.0,
            grace: None,
            max_delete: 50.0,
            no_delete: false,
            force: false,
            dry_run: false,
        }
    }
}

impl Request {
    /// Refuses what no command line lets through, and returns the grace.
    fn check(&self) -> Result<Duration, Failure> {
        require_connections(self.connections)?;
        for percent in [self.sample, self.max_delete] {
            if !(0.0..=100.0).contains(&percent) {
                return Err(Failure::usage(format!("{percent} is no share: expected 0 to 100")));
            }
        }
        check_grace(self.grace.unwrap_or(GRACE)).map_err(Failure::usage)
    }
}

/// How long what was pruned stays on a mirror. A name that was swept leaves the heads after 400 days: whoever waits longer deletes
/// nothing.
///
/// # Errors
/// A sentence for whoever typed it.
pub fn check_grace(grace: Duration) -> Result<Duration, String> {
    if grace > GRACE_MAX {
        return Err("at most 365d: 400 days after it was swept nobody knows an object's name any more".to_owned());
    }
    Ok(grace)
}

/// What was planned for one mirror, and what was done of it.
#[derive(Debug)]
pub struct MirrorSync {
    /// What is to be sent.
    pub plan: Plan,
    /// What was sent; none in a dry run.
    pub report: Option<SendReport>,
    /// What is to be deleted there; none where nothing may be.
    pub deletion: Option<DeletionPlan>,
    /// What was deleted.
    pub deleted: Option<Deleted>,
}

/// How it went with one mirror.
pub type MirrorOutcome = Result<MirrorSync, Failure>;

/// Is told of each mirror when it is done, one after the other; a failure of its own ends as that mirror's.
pub type OnMirror<'a> = &'a (dyn Fn(&Mirror, &MirrorSync) -> Result<(), Failure> + Sync);

/// How it went with all of them.
#[derive(Debug)]
pub struct Report {
    /// Each mirror's name, and what kept it from being brought to the newest state.
    pub mirrors: Vec<(String, Option<Failure>)>,
}

impl Report {
    /// The worst of what befell the mirrors.
    ///
    /// # Errors
    /// That, when something did.
    pub fn into_result(self) -> Result<(), Failure> {
        let all = self.mirrors.len();
        let failed: Vec<Failure> = self.mirrors.into_iter().filter_map(|(_, failure)| failure).collect();
        let count = failed.len();
        // Of equal ones the first.
        let worst = failed.into_iter().reduce(|one, other| if rank(&other) > rank(&one) { other } else { one });
        let worst = worst.map(|worst| match worst.kind() {
            // Each was named when it failed.
            kind if all > 1 && kind != Kind::Interrupted => {
                let sentence = format!("{count} of {all} mirrors not brought up as asked, named above");
                // That is no reason to be silent about the others.
                let kind = if kind == Kind::OutputClosed { Kind::Failed } else { kind };
                let of_all = Failure::new(kind, sentence);
                let of_all = if worst.is_transient() { of_all.transient() } else { of_all };
                worst.remedies().iter().fold(of_all, |of_all, remedy| of_all.remedy(remedy.clone()))
            }
            _ => worst,
        });
        worst.map_or(Ok(()), Err)
    }
}

/// How bad it is. What another run may find well again is less than what it will find as it is; a mirror from which nothing was deleted is
/// whole.
fn rank(failure: &Failure) -> u8 {
    match failure.kind() {
        Kind::DeletionRefused => 0,
        Kind::Locked => 1,
        Kind::Failed
        | Kind::NotFound
        | Kind::Conflict
        | Kind::Invalid
        | Kind::TargetFull
        | Kind::Internal
        | Kind::OutputClosed
        | Kind::Refused => 2,
        Kind::MirrorIncomplete => 4,
        Kind::Damage | Kind::Fork | Kind::Rollback | Kind::Stale => 5,
        Kind::Interrupted => 6,
        _ => 3,
    }
}

/// Brings the mirrors to the newest state. Each is tried, whatever befalls the others.
///
/// # Errors
/// What keeps all of them from being brought there; the report says what befell each.
pub fn run(
    request: &Request,
    environment: &Environment,
    monitor: &dyn Monitor,
    on_mirror: OnMirror<'_>,
) -> Result<Report, Failure> {
    let grace = request.check()?;
    let view = repositories::open_public_view(environment, monitor, "sync")?;
    view.tip().require_sound()?;
    let book = mirrors::open_book(environment, view.id())?;
    let mirrors = mirrors::choose_mirrors(&book, &request.mirrors)?;
    if mirrors.is_empty() {
        return Err(Failure::failed("there is no mirror yet").remedy(suggest!("mirror add NAME s3://BUCKET/PATH")));
    }
    let damage = book.damage(&mirrors::place_name(&repositories::place(environment)?))?;
    if let Some(damage) = damage.as_ref().filter(|_| !request.force) {
        return Err(refuse_damage(damage));
    }
    // A mirror may have the only copy of what is damaged here, also of what was given up here and swept.
    let may_delete = !request.no_delete && damage.is_none();
    if !request.no_delete && !may_delete {
        let message = "nothing is deleted on a mirror: the last check found damage here";
        monitor.problem(&Problem::warning(Subject::Mirror, message));
    }
    if mirrors.len() > 1 {
        monitor.phase(Phase::Send);
    }
    let limit = match request.limit_upload {
        Some(rate) => Arc::new(RateLimit::new(Some(rate))),
        None => Arc::clone(&environment.upload_limit),
    };
    let all = MirrorSyncs {
        request,
        rules: may_delete.then_some(Rules { grace, max_percent: request.max_delete }),
        view: &view,
        book: Mutex::new(book),
        pass: Pass::new(&view, limit),
        barrier: PlanBarrier::of(mirrors.len()),
        several: mirrors.len() > 1,
        unknown: AtomicUsize::new(mirrors.len()),
        environment,
        monitor,
        on_mirror,
        report_lock: Mutex::new(()),
        credentials_lock: Mutex::new(()),
    };
    let ended: Vec<Result<(), Failure>> = std::thread::scope(|scope| {
        let start = |mirror| {
            let all = &all;
            let started = threads::spawn_one(scope, move || all.sync_and_report(mirror));
            started.map_err(|error| Failure::from(ops::Error::Threads(error)))
        };
        let started: Vec<_> = mirrors.iter().map(start).collect();
        let join = |thread: ScopedJoinHandle<'_, Result<(), Failure>>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        started.into_iter().map(|thread| thread.and_then(join)).collect()
    });
    let names = mirrors.into_iter().map(|mirror| mirror.name);
    Ok(Report { mirrors: names.zip(ended.into_iter().map(Result::err)).collect() })
}

fn refuse_damage(damage: &Damage) -> Failure {
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

/// All mirrors that are brought to the newest state at the same time, each in a thread and with a lock of its own.
struct MirrorSyncs<'a> {
    request: &'a Request,
    /// By which something is deleted; none where nothing may be.
    rules: Option<Rules>,
    view: &'a PublicView,
    book: Mutex<MirrorBook>,
    pass: Pass<'a>,
    barrier: PlanBarrier,
    several: bool,
    /// Of how many mirrors it is not known yet how much will be sent.
    unknown: AtomicUsize,
    environment: &'a Environment,
    monitor: &'a dyn Monitor,
    on_mirror: OnMirror<'a>,
    /// Held while one mirror is reported.
    report_lock: Mutex<()>,
    /// Held by who runs a command for credentials: it may ask somebody.
    credentials_lock: Mutex<()>,
}

impl MirrorSyncs<'_> {
    /// Brings one to the newest state, and reports how it went.
    fn sync_and_report(&self, mirror: &Mirror) -> Result<(), Failure> {
        let monitor = match self.several {
            true => MirrorMonitor::of_several(self.monitor, &mirror.name, &self.unknown),
            false => MirrorMonitor::of_one(self.monitor),
        };
        let done = self.sync_mirror(mirror, &monitor);
        drop(monitor);
        let _report = lock(&self.report_lock);
        let reported = done.and_then(|done| {
            (self.on_mirror)(mirror, &done)?;
            done.require_deleted(&mirror.name).inspect_err(|failure| self.note_failure(mirror, failure, true))
        });
        reported.map_err(|failure| {
            let failure = failure.about(&mirror.name);
            if self.several && failure.kind() != Kind::Interrupted {
                self.monitor.problem(&Problem::warning(Subject::Mirror, &failure.chain()));
            }
            failure
        })
    }

    fn sync_mirror(&self, mirror: &Mirror, monitor: &MirrorMonitor<'_>) -> MirrorOutcome {
        let Self { view, environment, .. } = self;
        let name = &mirror.name;
        let planning = self.barrier.planning();
        let note = |failure: &Failure| self.note_failure(mirror, failure, true);
        let location = MirrorLocation::of(mirror).inspect_err(note)?;
        mirrors::refuse_same(environment, &location.address).inspect_err(note)?;
        let _lock = mirrors::lock_mirror(environment, view.id(), name)?;
        let store = {
            let _credentials = lock(&self.credentials_lock);
            mirrors::open_store(environment, &location, false).inspect_err(note)?
        };
        let mut planning = Some(planning);
        sync::with_newest(view, |view| self.attempt(view, name, &*store, &mut planning, monitor)).map_err(|error| {
            let is_of_mirror = error.is_of_mirror();
            let failure = explain(error, name);
            self.note_failure(mirror, &failure, is_of_mirror);
            failure
        })
    }

    /// Remembers why a mirror was not brought to the newest state.
    fn note_failure(&self, mirror: &Mirror, failure: &Failure, of_mirror: bool) {
        if !self.request.dry_run {
            mirror_findings::note_failure(
                &lock(&self.book),
                &mirror.name,
                FoundBy::Sync,
                (failure, of_mirror),
                self.monitor,
            );
        }
    }

    /// The mirror is whole: nothing that was found before speaks against it any more.
    fn forget_findings(&self, name: &str, plan: &Plan) {
        let mut book = lock(&self.book);
        for found_by in [FoundBy::Sync, FoundBy::Check] {
            mirror_findings::clear(&book, name, found_by, self.monitor);
        }
        // What is needed was sent again. What is not harms nobody.
        let needed: BTreeSet<ObjectName> = plan.needs.iter().map(|needed| needed.name).collect();
        let forgotten = book.damaged_objects(name).and_then(|damaged| {
            let gone: Vec<ObjectName> =
                damaged.into_iter().map(|damaged| damaged.name).filter(|name| !needed.contains(name)).collect();
            book.remove_damaged_objects(name, &gone)
        });
        mirror_findings::report_lost(forgotten, name, self.monitor);
    }

    /// One attempt, with one view of the repository. `planning` ends when there is a plan.
    fn attempt(
        &self,
        view: &PublicView,
        name: &str,
        store: &dyn MirrorStore,
        planning: &mut Option<PlanningGuard<'_>>,
        monitor: &MirrorMonitor<'_>,
    ) -> ops::Result<MirrorSync> {
        let request = self.request;
        // Whoever had the lock before may have left a newer head there.
        let seen = lock(&self.book).get(name)?.head;
        let plan = sync::plan(view, store, seen, Some((&self.book, name)), monitor)?;
        let clock = lock(&self.book).clock(name, &Uptime::now(), Time::now())?;
        let deletion = match &self.rules {
            None => None,
            Some(rules) => Some(deletion::plan(view, store, &plan, rules, (&self.book, name), clock)?),
        };
        if request.dry_run {
            return Ok(MirrorSync { plan, report: None, deletion, deleted: None });
        }
        let reader = self.pass.reader_of(view, &plan);
        drop(planning.take());
        if !plan.is_empty() {
            self.barrier.wait(|| monitor.interrupted());
        }
        let options = Options {
            parallel: usize::from(request.connections),
            sample_percent: request.sample,
            seed: Time::now().seconds.unsigned_abs(),
        };
        let report = sync::execute(&reader, store, &plan, &options, Some((&self.book, name)), monitor)?;
        lock(&self.book).set_whole(name, plan.head, plan.whole(), Time::now())?;
        self.forget_findings(name, &plan);
        deletion::note(view, &plan, &mut lock(&self.book), name, clock)?;
        let deleted = match &deletion {
            Some(deletion) => {
                Some(deletion::execute(store, deletion, options.parallel, (&self.book, name), clock, monitor)?)
            }
            None => None,
        };
        Ok(MirrorSync { plan, report: Some(report), deletion, deleted })
    }
}

/// Another history there is no reason to doubt what this machine remembers.
fn explain(error: ops::Error, mirror: &str) -> Failure {
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

impl MirrorSync {
    /// That what should have left the mirror did.
    ///
    /// # Errors
    /// That it did not.
    fn require_deleted(&self, name: &str) -> Result<(), Failure> {
        let Some(plan) = &self.deletion else { return Ok(()) };
        let objects = |count: u64| size::counted(count, "object", "objects");
        if plan.is_refused() {
            return Err(Failure::new(
                Kind::DeletionRefused,
                format!(
                    "nothing was deleted there: with {} ({}) that are due, and {} of the last seven days, it would be more than the {} that may be",
                    objects(plan.due.len() as u64),
                    size::show(plan.bytes()),
                    size::show(plan.lately),
                    size::show(plan.cap),
                ),
            )
            .remedy(format!("if that is right: {}", suggest!("sync {} --max-delete 100", name))));
        }
        let failed = self.deleted.as_ref().map(|deleted| deleted.failed.as_slice()).unwrap_or_default();
        match failed.first() {
            None => Ok(()),
            Some((_, why)) => Err(Failure::failed(format!(
                "the mirror is whole, but {} could not be deleted there: {why}",
                objects(failed.len() as u64)
            ))
            .remedy(format!("if its credentials must not delete: {}", suggest!("sync {} --no-delete", name)))),
        }
    }
}
