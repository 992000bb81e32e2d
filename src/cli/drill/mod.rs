//! `drill`: rehearse a recovery.

mod history;

use super::Context;
use super::exit::Exit;
use super::progress::Work;
use super::snapshot_argument::SnapshotRef;
use crate::base::command::{stored, suggest};
use crate::base::escape::escape;
use crate::base::id::RepositoryId;
use crate::base::time::Time;
use crate::ops::drill::{self, Ground, Inspect, Options, Report};
use crate::ops::sample::Sample;
use crate::repository::Access;
use crate::repository::mirror_book::{Drill, DrillOutcome, MirrorBook};
use crate::repository::public_view::PublicView;
use crate::storage::MirrorStore;
use crate::storage::read_only::ReadOnly;
use crate::storage::remote::ssh;
use crate::tasks::environment::freshness::About;
use crate::tasks::environment::secret::{Question, Secret};
use crate::tasks::environment::{freshness, mirrors, own_places, repositories};
use crate::tasks::failure::{Failure, Kind};
use crate::text::{clock, shell_words, size, span};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command as Process, Stdio};
use std::sync::Arc;

/// Rehearse a recovery: bring data back from a mirror alone, and compare it
///
/// Uses what a new machine would have: the mirror and a secret; no cache, no local repository. The newest snapshot of every source is restored
/// into a folder of its own, read back and compared in content and metadata, and removed again. With --sample only a share of the files is, straight
/// from the mirror, fetching what they need. What came of it is remembered: packstone drill history.
#[derive(Debug, Clone, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Arguments {
    /// Something else than a drill.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Which mirrors, by name or address; the only one without any
    #[arg(value_name = "MIRROR")]
    pub mirrors: Vec<String>,
    /// All mirrors of the repository, one after the other
    #[arg(long, conflicts_with = "mirrors")]
    pub all: bool,
    /// Restore only this share of the files, chosen by chance, in percent
    #[arg(long, value_name = "PERCENT", value_parser = parse_share)]
    pub sample: Option<f64>,
    /// Choose the same files as an earlier drill with this seed
    #[arg(long, value_name = "NUMBER", requires = "sample")]
    pub seed: Option<u64>,
    /// Restore this snapshot (can be given multiple times)
    #[arg(long = "snapshot", value_name = "SNAPSHOT")]
    pub snapshots: Vec<SnapshotRef>,
    /// Restore only this path of the snapshots
    #[arg(long, value_name = "PATH")]
    pub path: Option<std::ffi::OsString>,
    /// Run this command, without a shell, in each restored tree; unless it succeeds the drill has failed
    #[arg(long, value_name = "COMMAND")]
    pub check_command: Option<String>,
    /// Make the drill's folder in this directory (default: $TMPDIR, or /var/tmp)
    #[arg(long, value_name = "DIRECTORY")]
    pub to: Option<PathBuf>,
    /// Leave what was restored where it is
    #[arg(long)]
    pub keep: bool,
    /// Fetch so many objects at the same time
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub connections: u16,
}

/// Something else than a drill.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum Command {
    /// List the drills of before, and how many succeeded
    History(history::Arguments),
}

fn parse_share(text: &str) -> Result<f64, String> {
    let percent = text.strip_suffix('%').unwrap_or(text).parse::<f64>().ok();
    percent
        .filter(|percent| *percent > 0.0 && *percent <= 100.0)
        .ok_or_else(|| format!("{text:?} is no share: expected more than 0, and at most 100"))
}

/// Runs the command.
///
/// # Errors
/// [`Exit::DrillFailed`] when something did not come back as it was backed up; what kept a drill from being held.
pub fn run(arguments: &Arguments, context: &mut Context) -> Result<Exit, Failure> {
    if let Some(Command::History(arguments)) = &arguments.command {
        return history::run(arguments, context);
    }
    let mirrors = mirrors(arguments, context)?;
    own_places::refuse_within(&context.environment, &context.watch(), &parent(arguments))?;
    let secret = context.environment.secret(Question::Open("Passphrase or recovery code"))?;
    let mut worst = Exit::Success;
    for mirror in &mirrors {
        match one(mirror, arguments, &secret, context) {
            Ok(exit) => worst = worse(worst, exit),
            Err(error) if mirrors.len() == 1 || error.kind() == Kind::Interrupted => return Err(error),
            Err(error) => {
                context.output.warn(&error.chain());
                worst = worse(worst, error.kind().into());
            }
        }
    }
    Ok(worst)
}

/// A mirror that did not bring the data back is worse than a drill that could not be held.
fn worse(one: Exit, other: Exit) -> Exit {
    if one == Exit::Success || other == Exit::DrillFailed { other } else { one }
}

fn mirrors(arguments: &Arguments, context: &Context) -> Result<Vec<String>, Failure> {
    if !arguments.mirrors.is_empty() {
        return Ok(arguments.mirrors.clone());
    }
    let known = repositories::require_id(&context.environment, &context.watch())?
        .map(|id| mirrors::list_names(&context.environment, id))
        .unwrap_or_default();
    match known.as_slice() {
        [] => Err(Failure::usage("there is no mirror to drill")
            .remedy(concat!("name one by its address, or add one: ", suggest!("mirror add NAME s3://BUCKET/PATH")))),
        [_] => Ok(known),
        _ if arguments.all => Ok(known),
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
    fn begin(id: RepositoryId, mirror: &str, sample: Option<f64>, context: &Context) -> Result<Option<Self>, Failure> {
        let Some(book) = mirrors::open_book_if_any(&context.environment, &context.watch(), id)? else {
            return Ok(None);
        };
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
        drill.outcome = if report.passed() { DrillOutcome::Passed } else { DrillOutcome::Failed };
        drill.reason = report.differences.first().cloned();
        drill.generation = report.head.map(|head| head.generation);
        (drill.snapshots, drill.files) = (report.snapshots, report.files);
        (drill.bytes, drill.fetched) = (report.bytes, report.fetched);
        (drill.first_file, drill.complete, drill.age) = (report.first_file, Some(report.complete), report.age);
        Ok(self.book.end_drill(drill)?)
    }

    fn give_up(&mut self, error: &Failure) -> Result<(), Failure> {
        // A drill that this process could not hold says nothing of the mirror.
        let interrupted = error.kind() == Kind::Interrupted || error.is_of_process();
        self.drill.outcome = if interrupted { DrillOutcome::Interrupted } else { DrillOutcome::Failed };
        self.drill.reason = Some(stored(&error.chain()));
        Ok(self.book.end_drill(&self.drill)?)
    }
}

/// The repository of a mirror: the one here, when that is where its name is from; else as the mirror says.
fn repository_of(
    mirror: &Arc<dyn MirrorStore>,
    place: &mirrors::MirrorLocation,
    context: &Context,
) -> Option<RepositoryId> {
    if place.name.is_some()
        && let Some(id) = repositories::find_id(&context.environment)
    {
        return Some(id);
    }
    let access =
        Access::of_mirror(Arc::new(ReadOnly::new(Arc::clone(mirror))), PathBuf::from(place.address.to_string()));
    PublicView::open(access).ok().map(|view| view.id())
}

fn one(mirror: &str, arguments: &Arguments, secret: &Secret, context: &Context) -> Result<Exit, Failure> {
    let place = mirrors::find_mirror(&context.environment, &context.watch(), mirror)?;
    let label = place.name.clone().unwrap_or_else(|| place.address.to_string());
    let shown = escape(label.as_bytes());
    let store = mirrors::open_store(&context.environment, &place, false)?;
    let mut record = match repository_of(&store, &place, context) {
        Some(id) => Record::begin(id, &label, arguments.sample, context)?,
        None => None,
    };
    let held = hold(store, &place, arguments, secret, context).map_err(|error| error.reading_from(mirror));
    let (report, seed, kept) = match held {
        Ok(held) => held,
        Err(error) => {
            if let Some(record) = &mut record {
                record.give_up(&error)?;
            }
            // What the mirror is not to blame for keeps its code.
            let ours =
                error.is_of_process() || matches!(error.kind(), Kind::Interrupted | Kind::WrongPassword | Kind::Usage);
            return Err(if ours { error } else { error.with_kind(Kind::DrillFailed) }.about(&label));
        }
    };
    if let Some(record) = &mut record {
        record.end(&report)?;
    }
    show(&shown, &report, seed, kept.as_deref(), record.as_ref(), context)?;
    Ok(if report.passed() { Exit::Success } else { Exit::DrillFailed })
}

/// Where the drill's folder is made.
fn parent(arguments: &Arguments) -> PathBuf {
    arguments.to.clone().unwrap_or_else(|| {
        std::env::var_os("TMPDIR")
            .filter(|path| !path.is_empty())
            .map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from)
    })
}

type Held = (Report, Option<u64>, Option<PathBuf>);

fn hold(
    store: Arc<dyn MirrorStore>,
    place: &mirrors::MirrorLocation,
    arguments: &Arguments,
    secret: &Secret,
    context: &Context,
) -> Result<Held, Failure> {
    let memory = repositories::memory_of_mirror(&context.environment, &context.watch(), place, false)?
        .expecting(context.environment.expected.clone());
    let reader = ReadOnly::new(store);
    let traffic = reader.traffic();
    let mirror = Access { remembered: Some(memory), ..Access::of_mirror(Arc::new(reader), place.path()) };
    let parent = parent(arguments);
    let ground = Ground::make(&parent).map_err(|error| {
        Failure::failed(format!("no folder for the drill can be made in {}", escape(parent.as_os_str().as_bytes())))
            .caused_by(error)
            .of_process()
    })?;
    let random = Time::now().as_nanoseconds().unsigned_abs() as u64;
    let sample = arguments.sample.map(|percent| Sample { percent, seed: arguments.seed.unwrap_or(random) });
    let options = Options {
        snapshots: arguments.snapshots.clone(),
        path: arguments.path.as_ref().map(|path| path.as_bytes().to_vec()).unwrap_or_default(),
        sample,
        parallel: usize::from(arguments.connections),
        now: Time::now(),
    };
    let inspect = |tree: &Path| -> Result<(), String> {
        arguments.check_command.as_deref().map_or(Ok(()), |command| run_in(command, tree))
    };
    let inspect: Option<Inspect<'_>> = arguments.check_command.is_some().then_some(&inspect);
    let open = |access| repositories::open_with(access, secret.clone()).map(|(repository, _)| repository);
    let progress = context.progress(Work::Other);
    let report = drill::run(mirror.clone(), &traffic, &open, &ground, &options, inspect, &progress);
    progress.finish();
    let report = report.map_err(|error| mirrors::explain_failure(error, place, &mirror));
    if let Some((freshness, head)) = report.as_ref().ok().and_then(|report| report.freshness.as_ref().zip(report.head))
    {
        freshness::report_freshness(freshness, head, About::new(&mirror.place), &context.watch());
    }
    let kept = if arguments.keep {
        Some(ground.keep())
    } else {
        let path = ground.path();
        if let Err(error) = ground.clean() {
            let path = escape(path.as_os_str().as_bytes());
            context.output.warn(&format!("{path} could not be removed wholly: {error}"));
        }
        None
    };
    Ok((report?, sample.map(|sample| sample.seed), kept))
}

/// Runs a command in a restored tree; an error is a sentence.
fn run_in(command: &str, tree: &Path) -> Result<(), String> {
    let words = shell_words::split(command)?;
    let Some((program, arguments)) = words.split_first() else { return Err("the check command is empty".to_owned()) };
    let shown = escape(program.as_bytes());
    // What it prints must not mix with lines for programs.
    let mut command = Process::new(program);
    ssh::Place::hide_from(&mut command);
    let status = command
        .args(arguments)
        .current_dir(tree)
        .stdin(Stdio::null())
        .stdout(std::io::stderr())
        .status()
        .map_err(|error| format!("the check command {shown} cannot be run: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("the check command {shown} says no: {status}")) }
}

fn show(
    mirror: &str,
    report: &Report,
    seed: Option<u64>,
    kept: Option<&Path>,
    record: Option<&Record>,
    context: &Context,
) -> Result<(), Failure> {
    let output = context.output;
    let past = record.map(|record| record.book.drills(Some(&record.drill.mirror))).transpose()?.unwrap_or_default();
    let rate = history::Rate::of(&past);
    let kept = kept.map(|path| escape(path.as_os_str().as_bytes()));
    if output.json {
        return output.json(&serde_json::json!({
            "message_type": "drill",
            "mirror": mirror,
            "passed": report.passed(),
            "generation": report.head.map(|head| head.generation),
            "sample_percent": record.and_then(|record| record.drill.sample),
            "seed": seed,
            "snapshots": report.snapshots,
            "files": report.files,
            "others": report.others,
            "bytes": report.bytes,
            "fetched_bytes": report.fetched,
            "requests": report.requests,
            "seconds_to_open": report.opened.as_secs_f64(),
            "seconds_to_first_file": report.first_file.map(|span| span.as_secs_f64()),
            "seconds_to_complete": report.complete.as_secs_f64(),
            "data_age_seconds": report.age.map(|age| age.as_secs()),
            "differences": report.difference_count,
            "first_differences": report.differences,
            "not_permitted": report.not_permitted,
            "not_proven_percent": report.not_proven(),
            "passed_of_last": [rate.passed, rate.held],
            "kept": kept,
        }));
    }
    let word = if report.passed() { "PASSED" } else { "FAILED" };
    let first =
        report.first_file.map_or_else(|| "no file".to_owned(), |span| format!("first file {}", span::show(span)));
    output.line(format!(
        "{mirror}  {word}  {first}   complete {}   {}",
        span::show(report.complete),
        report.age.map_or_else(
            || "the age of the data cannot be determined: a time in it is in doubt".to_owned(),
            |age| format!("data {} old", span::show(age))
        )
    ))?;
    for difference in &report.differences {
        output.line(format!("  {difference}"))?;
    }
    let more = report.difference_count.saturating_sub(report.differences.len() as u64);
    if more > 0 {
        output.line(format!("  and {more} more"))?;
    }
    let files = size::counted(report.files, "file", "files");
    let left = kept.map_or_else(|| "cleaned up".to_owned(), |path| format!("left in {path}"));
    let identical = match (report.passed(), report.not_permitted) {
        (false, _) => "compared".to_owned(),
        (true, 0) => "and all metadata identical".to_owned(),
        (true, count) => format!("identical; owners and the like of {count} entries only root can prove"),
    };
    let snapshots = size::counted(report.snapshots, "snapshot", "snapshots");
    let fetched = size::show(report.fetched);
    output.line(format!(
        "{files} of {snapshots} {identical}   {fetched} fetched in {} requests | {left}",
        report.requests
    ))?;
    let zone = clock::local_zone();
    let last = rate
        .last_full
        .map_or_else(|| "no full drill yet".to_owned(), |time| format!("last full drill {}", clock::show(time, &zone)));
    let rest = report.not_proven();
    let not_proven =
        if rest >= 0.05 { format!("not proven: {rest:.1} % of the entries ({last})   ") } else { String::new() };
    output.line(format!("{not_proven}last {}: {} of {} passed", rate.held, rate.passed, rate.held))
}
