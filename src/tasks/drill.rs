//! Rehearse a recovery from one or more mirrors, and record how it ended.
//!
//! What came of a drill is in the book, also of one that could not be held: the record is begun before anything is asked of the mirror.

use super::environment::freshness::{About, report_freshness};
use super::environment::mirrors::{self, MirrorLocation};
use super::environment::secret::{Question, Secret};
use super::environment::user_command::user_command;
use super::environment::{Environment, own_places, repositories};
use super::failure::{Failure, Kind};
use super::require_connections;
use crate::base::child;
use crate::base::command::{stored, suggest};
use crate::base::escape::escape;
use crate::base::id::RepositoryId;
use crate::base::time::Time;
use crate::ops::drill::{self, Ground, Inspect, Options, Report};
use crate::ops::sample::Sample;
use crate::ops::select::SnapshotRef;
use crate::ops::{self, Error, Monitor, Problem, Subject};
use crate::repository::Access;
use crate::repository::mirror_book::{Drill, DrillOutcome, MirrorBook};
use crate::repository::public_view::PublicView;
use crate::storage::MirrorStore;
use crate::storage::read_only::ReadOnly;
use crate::text::shell_words;
use serde::Deserialize;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

/// What to try.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Request {
    /// Which mirrors, by name or address; the only one without any.
    pub mirrors: Vec<String>,
    /// All mirrors of the repository, one after the other.
    pub all: bool,
    /// Restore only this share of the files, in percent.
    pub sample: Option<f64>,
    /// Choose the same files as an earlier drill with this seed.
    pub seed: Option<u64>,
    /// Restore these snapshots; the newest of every source without any.
    #[serde(deserialize_with = "super::text_form::list")]
    pub snapshots: Vec<SnapshotRef>,
    /// Restore only this path of the snapshots.
    pub path: Option<PathBuf>,
    /// Run this command, without a shell, in each restored tree; unless it succeeds the drill has failed.
    pub check_command: Option<String>,
    /// The directory in which the drill makes its folder; without one the directory of temporary files.
    pub to: Option<PathBuf>,
    /// Leave what was restored where it is.
    pub keep: bool,
    /// Objects that are fetched at the same time, 1 to 64.
    pub connections: u16,
}

impl Default for Request {
    fn default() -> Self {
        Self {
            mirrors: Vec::new(),
            all: false,
            sample: None,
            seed: None,
            snapshots: Vec::new(),
            path: None,
            check_command: None,
            to: None,
            keep: false,
            connections: 4,
        }
    }
}

/// A drill that was held.
#[derive(Debug)]
pub struct DrillRun {
    /// The mirror's name, or its address.
    pub mirror: String,
    /// What came of it.
    pub report: Report,
    /// With which the files of a share were chosen.
    pub seed: Option<u64>,
    /// Where what was restored was left.
    pub kept: Option<PathBuf>,
    /// Its record; none where this machine has no directory to remember it in.
    pub record: Option<Drill>,
    /// How the drills of this mirror ended, this one among them.
    pub rate: Rate,
}

impl DrillRun {
    /// How it ends.
    #[must_use]
    pub const fn kind(&self) -> Option<Kind> {
        if self.report.passed() { None } else { Some(Kind::DrillFailed) }
    }
}

/// Drills that the success rate is about.
const RATE_OVER: usize = 12;

/// How many of the last drills succeeded. Those that somebody interrupted, that could not be held, or that did not end, do not count.
#[derive(Debug, Clone, Copy)]
pub struct Rate {
    /// Drills that ended.
    pub held: usize,
    /// Those that passed.
    pub passed: usize,
    /// When all data was restored the last time, and passed.
    pub last_full: Option<Time>,
}

impl Rate {
    /// Of these drills, the last one first.
    #[must_use]
    pub fn of(drills: &[Drill]) -> Self {
        let ended = |drill: &&Drill| matches!(drill.outcome, DrillOutcome::Passed | DrillOutcome::Failed);
        let passed = |drill: &&Drill| drill.outcome == DrillOutcome::Passed;
        let last: Vec<&Drill> = drills.iter().filter(ended).take(RATE_OVER).collect();
        Self {
            held: last.len(),
            passed: last.iter().filter(|drill| passed(drill)).count(),
            last_full: drills.iter().find(|drill| passed(drill) && drill.sample.is_none()).map(|drill| drill.began),
        }
    }
}

/// How all of them ended.
#[derive(Debug)]
pub struct Drills {
    /// The worst: a mirror that did not bring the data back is worse than a drill that could not be held.
    pub kind: Option<Kind>,
}

/// Is told of each drill that was held. A failure ends as that mirror's.
pub type OnDrill<'a> = &'a dyn Fn(&DrillRun) -> Result<(), Failure>;

/// Holds a drill with each of the mirrors. Of several each is tried; why one could not be held is reported as a problem.
///
/// # Errors
/// What kept the drill of the only mirror from being held, or an end that somebody wanted.
pub fn run(
    request: &Request,
    environment: &Environment,
    monitor: &dyn Monitor,
    on_drill: OnDrill<'_>,
) -> Result<Drills, Failure> {
    request.check()?;
    let mirrors = choose_mirrors(request, environment, monitor)?;
    own_places::refuse_within(environment, monitor, &request.parent())?;
    let secret = environment.secret(Question::Open("Passphrase or recovery code"))?;
    let mut worst = None;
    for mirror in &mirrors {
        match drill_mirror(mirror, request, &secret, environment, monitor, on_drill) {
            Ok(kind) => worst = worse(worst, kind),
            Err(error) if mirrors.len() == 1 || error.kind() == Kind::Interrupted => return Err(error),
            Err(error) => {
                monitor.problem(&Problem::warning(Subject::Mirror, &error.chain()));
                worst = worse(worst, Some(error.kind()));
            }
        }
    }
    Ok(Drills { kind: worst })
}

fn worse(one: Option<Kind>, other: Option<Kind>) -> Option<Kind> {
    if one.is_none() || other == Some(Kind::DrillFailed) { other } else { one }
}

fn choose_mirrors(request: &Request, environment: &Environment, monitor: &dyn Monitor) -> Result<Vec<String>, Failure> {
    if !request.mirrors.is_empty() {
        return Ok(request.mirrors.clone());
    }
    let id = repositories::require_id(environment, monitor)?;
    let known = id.map(|id| mirrors::list_names(environment, id)).unwrap_or_default();
    match known.as_slice() {
        [] => Err(Failure::usage("there is no mirror to drill")
            .remedy(concat!("name one by its address, or add one: ", suggest!("mirror add NAME s3://BUCKET/PATH")))),
        [_] => Ok(known),
        _ if request.all => Ok(known),
        _ => {
            Err(Failure::usage(format!("there are several mirrors: {}", known.join(", ")))
                .remedy("name one, or say --all"))
        }
    }
}

/// Where the outcome is written down.
struct Record {
    book: MirrorBook,
    drill: Drill,
}

impl Record {
    /// `None` where this machine has no directory to remember it in.
    fn begin(
        id: RepositoryId,
        mirror: &str,
        sample: Option<f64>,
        environment: &Environment,
        monitor: &dyn Monitor,
    ) -> Result<Option<Self>, Failure> {
        let Some(book) = mirrors::open_book_if_any(environment, monitor, id)? else { return Ok(None) };
        let now = Time::now();
        let number = book.begin_drill(mirror, sample, now)?;
        let drill = Drill {
            number,
            mirror: mirror.to_owned(),
            began: now,
            sample,
            outcome: DrillOutcome::Begun,
            reason: None,
            generation: None,
            snapshots: 0,
            files: 0,
            bytes: 0,
            fetched: 0,
            first_file: None,
            complete: None,
            age: None,
        };
        Ok(Some(Self { book, drill }))
    }

    fn end(&mut self, report: &Report) -> Result<(), Failure> {
        let drill = &mut self.drill;
        drill.outcome = match (&report.hindered, report.passed()) {
            (_, false) => DrillOutcome::Failed,
            (Some(_), true) => DrillOutcome::NotHeld,
            (None, true) => DrillOutcome::Passed,
        };
        drill.reason = report.differences.first().or(report.hindered.as_ref()).cloned();
        drill.generation = report.head.map(|head| head.generation);
        (drill.snapshots, drill.files) = (report.snapshots, report.files);
        (drill.bytes, drill.fetched) = (report.bytes, report.fetched);
        (drill.first_file, drill.complete, drill.age) = (report.first_file, Some(report.complete), report.age);
        Ok(self.book.end_drill(drill)?)
    }

    fn give_up(&mut self, failure: &Failure) -> Result<(), Failure> {
        self.drill.outcome = match failure.kind() {
            Kind::Interrupted => DrillOutcome::Interrupted,
            _ if is_not_held(failure) => DrillOutcome::NotHeld,
            _ => DrillOutcome::Failed,
        };
        self.drill.reason = Some(stored(&failure.chain()));
        Ok(self.book.end_drill(&self.drill)?)
    }
}

/// True for what kept a drill from being held and says nothing of the mirror: this process or its disk lacks something, what was asked for is
/// not there, or the store did not answer.
fn is_not_held(failure: &Failure) -> bool {
    use Kind::{Internal, Invalid, Locked, NotFound, TargetFull, Usage, WrongPassword};
    let is_ours = matches!(failure.kind(), Usage | WrongPassword | NotFound | Invalid | TargetFull | Locked | Internal);
    is_ours || failure.is_of_process() || failure.is_transient()
}

/// The repository of a mirror: the one here, when that is where its name is from; else as the mirror says.
fn repository_of(
    mirror: &Arc<dyn MirrorStore>,
    location: &MirrorLocation,
    environment: &Environment,
) -> Option<RepositoryId> {
    if location.name.is_some()
        && let Some(id) = repositories::find_id(environment)
    {
        return Some(id);
    }
    let access = Access::of_mirror(Arc::new(ReadOnly::new(Arc::clone(mirror))), location.path());
    PublicView::open(access).ok().map(|view| view.id())
}

fn drill_mirror(
    mirror: &str,
    request: &Request,
    secret: &Secret,
    environment: &Environment,
    monitor: &dyn Monitor,
    on_drill: OnDrill<'_>,
) -> Result<Option<Kind>, Failure> {
    let location = mirrors::find_mirror(environment, monitor, mirror)?;
    let label = location.name.clone().unwrap_or_else(|| location.address.to_string());
    let store = mirrors::open_store(environment, &location, false)?;
    let mut record = match repository_of(&store, &location, environment) {
        Some(id) => Record::begin(id, &label, request.sample, environment, monitor)?,
        None => None,
    };
    let held = hold_drill(store, &location, request, secret, environment, monitor);
    let held = match held.map_err(|error| error.reading_from(mirror)) {
        Ok(held) => held,
        Err(error) => {
            if let Some(record) = &mut record {
                record.give_up(&error)?;
            }
            let error = match error.kind() {
                // They are the same everywhere.
                Kind::Interrupted | Kind::WrongPassword | Kind::Usage => error,
                _ if is_not_held(&error) => error.with_kind(Kind::DrillNotHeld),
                _ => error.with_kind(Kind::DrillFailed),
            };
            return Err(error.about(&label));
        }
    };
    if let Some(record) = &mut record {
        record.end(&held.report)?;
    }
    if let Some(why) = held.report.hindered.as_ref().filter(|_| held.report.passed()) {
        let sentence = format!("{label}: the drill could not be held to its end: {why}");
        return Err(Failure::new(Kind::DrillNotHeld, sentence).remedy(
            "this says nothing of the mirror. Hold the drill on another disk with --to, or try a share with --sample",
        ));
    }
    let drills = record.as_ref().map(|record| record.book.drills(Some(&record.drill.mirror))).transpose()?;
    let run = DrillRun {
        mirror: label,
        report: held.report,
        seed: held.seed,
        kept: held.kept,
        record: record.map(|record| record.drill),
        rate: Rate::of(&drills.unwrap_or_default()),
    };
    on_drill(&run)?;
    Ok(run.kind())
}

struct Held {
    report: Report,
    seed: Option<u64>,
    kept: Option<PathBuf>,
}

fn hold_drill(
    store: Arc<dyn MirrorStore>,
    location: &MirrorLocation,
    request: &Request,
    secret: &Secret,
    environment: &Environment,
    monitor: &dyn Monitor,
) -> Result<Held, Failure> {
    let memory = repositories::memory_of_mirror(environment, monitor, location, false)?;
    let memory = memory.expecting(environment.expected.clone());
    let reader = ReadOnly::new(store);
    let traffic = reader.traffic();
    let mirror = Access { remembered: Some(memory), ..Access::of_mirror(Arc::new(reader), location.path()) }
        .ended_by(environment.stop.clone());
    let parent = request.parent();
    let ground = Ground::make(&parent).map_err(|error| {
        Failure::failed(format!("no folder for the drill can be made in {}", escape(parent.as_os_str().as_bytes())))
            .caused_by(error)
            .of_process()
    })?;
    let random = Time::now().as_nanoseconds().unsigned_abs() as u64;
    let sample = request.sample.map(|percent| Sample { percent, seed: request.seed.unwrap_or(random) });
    let options = Options {
        snapshots: request.snapshots.clone(),
        path: request.path.as_ref().map(|path| path.as_os_str().as_bytes().to_vec()).unwrap_or_default(),
        sample,
        parallel: usize::from(request.connections),
        now: Time::now(),
    };
    let inspect =
        |tree: &Path| request.check_command.as_deref().map_or(Ok(()), |command| run_in(command, tree, monitor));
    let inspect: Option<Inspect<'_>> = request.check_command.is_some().then_some(&inspect);
    let open = |access| repositories::open_with(access, secret.clone()).map(|(repository, _)| repository);
    let report = drill::run(mirror.clone(), &traffic, &open, &ground, &options, inspect, monitor);
    monitor.idle();
    let report = report.map_err(|error| mirrors::explain_failure(error, location, &mirror));
    if let Some((freshness, head)) = report.as_ref().ok().and_then(|report| report.freshness.as_ref().zip(report.head))
    {
        report_freshness(freshness, head, About::new(&mirror.place), monitor);
    }
    let kept = if request.keep {
        Some(ground.keep())
    } else {
        let path = ground.path();
        if let Err(error) = ground.clean() {
            let path = escape(path.as_os_str().as_bytes());
            let message = format!("{path} could not be removed wholly: {error}");
            monitor.problem(&Problem::warning(Subject::Machine, &message));
        }
        None
    };
    Ok(Held { report: report?, seed: sample.map(|sample| sample.seed), kept })
}

impl Request {
    /// A share of nothing would pass, and prove nothing.
    fn check(&self) -> Result<(), Failure> {
        require_connections(self.connections)?;
        match self.sample {
            Some(percent) if !(percent > 0.0 && percent <= 100.0) => {
                Err(Failure::usage(format!("{percent} is no share: expected more than 0, and at most 100")))
            }
            _ => Ok(()),
        }
    }

    /// Where the drill's folder is made.
    fn parent(&self) -> PathBuf {
        self.to.clone().unwrap_or_else(|| {
            std::env::var_os("TMPDIR")
                .filter(|path| !path.is_empty())
                .map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from)
        })
    }
}

/// Runs a command in a restored tree.
fn run_in(command: &str, tree: &Path, monitor: &dyn Monitor) -> ops::Result<()> {
    let words = shell_words::split(command).map_err(Error::Refused)?;
    let Some((program, arguments)) = words.split_first() else {
        return Err(Error::Refused("the check command is empty".to_owned()));
    };
    let shown = escape(program.as_bytes());
    // What it prints must not mix with lines for programs.
    let mut command = user_command(program);
    let failed = |error: std::io::Error| Error::Refused(format!("the check command {shown} cannot be run: {error}"));
    let mut child = command
        .args(arguments)
        .current_dir(tree)
        .stdin(Stdio::null())
        .stdout(std::io::stderr())
        .spawn()
        .map_err(failed)?;
    match child::wait(&mut child, &|| monitor.interrupted()).map_err(failed)? {
        None => Err(Error::Interrupted),
        Some(status) if status.success() => Ok(()),
        Some(status) => Err(Error::Refused(format!("the check command {shown} failed: {status}"))),
    }
}

/// Drills of before, the last one first.
#[derive(Debug)]
pub struct History {
    /// Each of them.
    pub drills: Vec<Drill>,
    /// How they ended, all of them.
    pub rate: Rate,
    /// There is a mirror that could be drilled.
    pub has_mirrors: bool,
}

/// The drills of the repository that the environment names; of all where it names none. At most `last`, of one mirror or of all.
///
/// # Errors
/// When what this machine knows of mirrors cannot be read.
pub fn list_history(mirror: Option<&str>, last: usize, environment: &Environment) -> Result<History, Failure> {
    let ids = match repositories::find_id(environment) {
        Some(id) => vec![id],
        None => mirrors::list_books(environment)?,
    };
    let has_mirrors = ids.iter().any(|id| !mirrors::list_names(environment, *id).is_empty());
    let mut drills = Vec::new();
    for id in ids {
        drills.extend(mirrors::open_book(environment, id)?.drills(mirror)?);
    }
    drills.sort_by_key(|drill| std::cmp::Reverse((drill.began, drill.number)));
    let rate = Rate::of(&drills);
    drills.truncate(last);
    Ok(History { drills, rate, has_mirrors })
}
