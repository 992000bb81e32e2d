//! Bring a repository back from mirrors alone: authenticate what they show, fetch what they have, remember it, open it and check it.
//!
//! What no mirror has sound does not come, and is named: by object, and by file. What came is a repository that lacks it. It is known as damaged
//! from then on, as after a check that found damage, so that no sync deletes anything elsewhere.

mod sources;

use self::sources::{Shown, Sources};
use super::environment::freshness::{About, report_freshness};
use super::environment::secret::Question;
use super::environment::{Environment, mirrors, own_places, repositories};
use super::failure::{Failure, Kind};
use super::{check, report_warnings, require_connections};
use crate::base::command::suggest;
use crate::base::escape::escape;
use crate::base::id::{ObjectId, RepositoryId};
use crate::codec::head::HeadRef;
use crate::codec::head_code::HeadCode;
use crate::codec::key_slot::SLOT_BYTES;
use crate::ops::{self, Monitor, Problem, Subject, recover};
use crate::repository::chain::Tip;
use crate::repository::freshness::Grade;
use crate::repository::lock::Locks;
use crate::repository::remembered::Remembered;
use crate::repository::{self, Repository};
use crate::storage::local::Local;
use crate::storage::{ObjectName, Storage};
use serde::Deserialize;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// From where, and where to.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Request {
    /// The mirrors: the address of each, a directory, its name, or `NAME=ADDRESS`. Each object comes from the first that has it sound.
    pub mirrors: Vec<String>,
    /// Options of the service, each `key=value`. For one mirror.
    pub option: Vec<String>,
    /// Prints the credentials, lines `key=value`; run without a shell. For one mirror.
    pub credentials_command: Option<String>,
    /// Where the repository is to be; where the environment says without one.
    pub to: Option<PathBuf>,
    /// Bring back the older state with this state code.
    #[serde(deserialize_with = "super::text_form::option")]
    pub head: Option<HeadCode>,
    /// Objects that are fetched at the same time, 1 to 64.
    pub connections: u16,
    /// Change nothing.
    pub dry_run: bool,
}

impl Default for Request {
    fn default() -> Self {
        Self {
            mirrors: Vec::new(),
            option: Vec::new(),
            credentials_command: None,
            to: None,
            head: None,
            connections: 4,
            dry_run: false,
        }
    }
}

/// What is known now.
#[derive(Debug, Clone, Copy)]
pub enum Step<'a> {
    /// The secret opens what the mirror shows, which is so new.
    Authenticated(Grade),
    /// So much is fetched.
    Planned {
        /// Objects.
        objects: u64,
        /// Their bytes.
        bytes: u64,
        /// Into this directory.
        place: &'a Path,
    },
    /// The repository itself lives elsewhere and stays as it is; the copy that came back is remembered apart from it.
    RememberedApart {
        /// Where it lives.
        lives: &'a Path,
    },
}

/// Is told of each step. A failure ends the recovery.
pub type OnStep<'a> = &'a dyn Fn(Step<'_>) -> Result<(), Failure>;

/// What came back.
#[derive(Debug)]
pub struct Report {
    /// Where.
    pub place: PathBuf,
    /// Its id.
    pub repository: RepositoryId,
    /// What a check of it found; none in a dry run.
    pub check: Option<ops::check::Report>,
    /// Objects that no mirror has sound, by name.
    pub lacking: Vec<Lacking>,
    /// There are newer heads that cannot be read: this is not the newest state.
    pub hides_newer: bool,
    /// Mirrors that did not answer, each with what was said.
    pub silent: Vec<(String, String)>,
}

/// An object that did not come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lacking {
    /// Which.
    pub object: ObjectName,
    /// The mirrors that were asked for it, and what is wrong with it on each. May hold text of theirs.
    pub said: Vec<(String, String)>,
}

impl Report {
    /// How it ends.
    #[must_use]
    pub fn kind(&self) -> Option<Kind> {
        let checked = self.check.as_ref().and_then(check::kind);
        if self.lacking.is_empty() { checked } else { Some(Kind::Damage) }
    }
}

/// Brings it back. An interrupted one goes on where it stopped.
///
/// # Errors
/// [`Kind::Rollback`] or [`Kind::Stale`] for a state that is older than is known; [`Kind::WrongPassword`]; nothing that can be opened; storage
/// errors.
pub fn run(
    request: &Request,
    environment: &Environment,
    monitor: &dyn Monitor,
    on_step: OnStep<'_>,
) -> Result<Report, Failure> {
    recover(request, environment, monitor, on_step).map_err(|error| {
        let [first, rest @ ..] = request.mirrors.as_slice() else { return error };
        let error = error.reading_from(first);
        // Nothing came that opens. What is needed for that may be sound elsewhere.
        let is_lost = error.kind() == Kind::Damage && rest.is_empty();
        if is_lost { error.remedy(from_others(first)) } else { error }
    })
}

/// Where else it may be.
fn from_others(mirror: &str) -> String {
    format!("another mirror may have it; both together: {}", suggest!("recover {} ADDRESS --to DIRECTORY", mirror))
}

fn recover(
    request: &Request,
    environment: &Environment,
    monitor: &dyn Monitor,
    on_step: OnStep<'_>,
) -> Result<Report, Failure> {
    require_connections(request.connections)?;
    let expected = environment.expected.clone();
    if request.head.is_some() && expected.head.is_some() {
        return Err(Failure::usage(
            "--head brings back an older state, and --expect-head refuses one: give one of them",
        ));
    }
    let place = match &request.to {
        Some(to) => std::path::absolute(to)
            .map_err(|error| Failure::failed("the current directory cannot be determined").caused_by(error))?,
        None => repositories::place(environment)?,
    };
    let shown = escape(place.as_os_str().as_bytes());
    let occupied = || {
        Failure::failed(format!("{shown} holds a repository already"))
            .remedy(concat!("choose another directory with --to. To see how this one is: ", suggest!("check")))
            .at(&place)
    };
    let here =
        if repositories::exists(&place) { Some(repositories::read_id(&place).ok_or_else(occupied)?) } else { None };
    own_places::refuse_beneath(environment, monitor, &place)?;
    let sources = Sources::open(request, environment, monitor, &expected)?;
    let wanted = sources.wanted();
    let Shown { view: mirror, freshness: known, access } = sources.look()?;
    let memory = repositories::memory(environment, monitor);
    let tip = match wanted {
        Some(head) => recover::older(&mirror, head)?,
        None => recover::readable(&mirror)?,
    };
    if wanted.is_none() {
        report_hidden(&tip, monitor);
    }
    let mut said = report_left_out(&sources, 0, monitor);
    // An earlier attempt may have got as far as the config. What else is a repository is left alone.
    if let Some(id) = here
        && !(id == mirror.id() && Local::open(&place).is_ok_and(|target| recover::is_same(&mirror, &tip, &target)))
    {
        return Err(occupied());
    }
    let head = tip.reference();
    if let Grade::Behind(seen) = known.grade
        && !tip.hides(seen)
    {
        return Err(behind(seen, head));
    }
    report_freshness(&known, head, About::new(&access.place), monitor);
    let secret = environment.secret(Question::Open("Passphrase or recovery code"))?;
    let (_, secret) = repositories::open_with(access, secret).map_err(|error| {
        // A slot that cannot be read may be the one that this secret opens.
        let is_sound = |id: &ObjectId| {
            let read = mirror.storage().read(&ObjectName::Key(*id), SLOT_BYTES as u64);
            read.is_ok_and(|bytes| ObjectId::of(&bytes) == *id)
        };
        match (request.mirrors.as_slice(), error.kind()) {
            ([only], Kind::WrongPassword) if !tip.state.slots.iter().all(is_sound) => error.remedy(from_others(only)),
            _ => error,
        }
    })?;
    on_step(Step::Authenticated(known.grade))?;
    let is_empty = !place.exists() || std::fs::read_dir(&place).is_ok_and(|mut entries| entries.next().is_none());
    let made = if request.dry_run && is_empty { None } else { Some(target(&place)?) };
    let empty = crate::storage::memory::Memory::new();
    let target: &dyn Storage = made.as_ref().map_or(&empty, |local| local);
    // A dry run changes nothing, not even a lock file.
    let writer = match made.as_ref().filter(|_| !request.dry_run) {
        None => None,
        Some(local) => {
            let root = local.root().map_err(repository::Error::from)?;
            let writer = Locks::within(&place, root).for_command("recover").ended_by(environment.stop.clone());
            Some(writer.writer(environment.retry_lock).map_err(repository::Error::from)?)
        }
    };
    let plan = recover::plan(&mirror, &tip, target)?;
    // Since the first look another process may have made one, while the passphrase was typed.
    if plan.is_repository() && !recover::is_same(&mirror, &tip, target) {
        return Err(occupied());
    }
    on_step(Step::Planned { objects: plan.fetch.len() as u64, bytes: plan.bytes(), place: &place })?;
    let hides_newer = !plan.unreadable.is_empty();
    if request.dry_run {
        let silent = sources.left_out();
        return Ok(Report { place, repository: mirror.id(), check: None, lacking: Vec::new(), hides_newer, silent });
    }
    let fetched = recover::execute(sources.copies(), target, &plan, usize::from(request.connections), monitor);
    monitor.idle();
    said = report_left_out(&sources, said, monitor);
    let lacking = fetched?.lacking.into_iter();
    let lacking = lacking.map(|lost| Lacking { object: lost.object, said: lost.reasons() }).collect();
    drop(writer);
    let remembered = match wanted {
        Some(_) => remember(&memory, mirror.id(), &place, head, on_step),
        None => came_back(&memory, mirror.id(), &place, head),
    };
    match (remembered, wanted) {
        (Err(error), Some(_)) => {
            return Err(Failure::failed("this machine's memory of a newer state cannot be changed").caused_by(error));
        }
        (Err(error), None) => {
            let message =
                format!("this machine could not remember the newest head ({error}): a rollback may go unnoticed");
            monitor.problem(&Problem::warning(Subject::Mirror, &message));
        }
        (Ok(()), _) => {}
    }
    let check = finish(&place, secret, environment, monitor).map_err(|error| error.at(&place))?;
    report_left_out(&sources, said, monitor);
    let silent = sources.left_out();
    Ok(Report { place, repository: mirror.id(), check: Some(check), lacking, hides_newer, silent })
}

/// Says which newer states are there and do not come.
fn report_hidden(tip: &Tip, monitor: &dyn Monitor) {
    let generation = tip.reference().generation;
    if let Some((head, why)) = &tip.unreadable {
        let message = format!(
            "{head} cannot be read ({why}): what comes back is the newest state that can, generation {generation}, and snapshots may be missing \
             in it. From a mirror that has this head: {}",
            suggest!("repair heads")
        );
        monitor.problem(&Problem::warning(Subject::Mirror, &message));
    }
    if let Some((head, _)) = tip.incomplete {
        let message = format!("{head} on the mirror is not whole: a sync was interrupted, or is running now");
        monitor.problem(&Problem::warning(Subject::Mirror, &message));
    }
}

/// Says which mirrors were left out, but for the first `said`, and returns how many they are by now.
fn report_left_out(sources: &Sources, said: usize, monitor: &dyn Monitor) -> usize {
    let all = sources.left_out();
    for (name, why) in all.iter().skip(said) {
        let message = format!(
            "{name} is left out: {why}. What only this mirror has does not come; the same command goes on later"
        );
        monitor.problem(&Problem::warning(Subject::Mirror, &message));
    }
    all.len()
}

/// What comes back is the repository, and the place is its. It is no copy of before that lay there.
fn came_back(memory: &Remembered, id: RepositoryId, place: &Path, head: HeadRef) -> io::Result<()> {
    let here = memory.clone().of(place);
    here.unset_apart(id)?;
    here.set_place(id, place)?;
    here.store(id, place, head)
}

/// A state was asked for by its code: that it is an older one, or of another history, is no rollback then. What is known of the repository
/// itself stays, as long as that is where it was seen.
fn remember(memory: &Remembered, id: RepositoryId, place: &Path, head: HeadRef, on_step: OnStep<'_>) -> io::Result<()> {
    let lives = repositories::elsewhere(memory, id, place);
    let apart = memory.clone().of(place);
    match lives {
        None => {
            apart.unset_apart(id)?;
            apart.set(id, place, head)?;
        }
        Some(lives) => {
            apart.set_apart(id, place, head)?;
            // It is done, whoever can be told.
            let _ = on_step(Step::RememberedApart { lives: &lives });
        }
    }
    apart.set_place(id, place)
}

/// A mirror that was last synced before the repository was lost is behind what this machine has seen. It may also have been set
/// back: whoever takes it says so.
fn behind(seen: HeadRef, head: HeadRef) -> Failure {
    let (now, code) = (head.generation, HeadCode::of(&head));
    Failure::new(
        Kind::Stale,
        format!(
            "the mirror shows generation {now}, and this machine has seen generation {} of this repository",
            seen.generation
        ),
    )
    .remedy(format!("the last sync was before that, or the mirror was set back. To take what it shows: --head {code}"))
}

/// A directory that is empty, or that an interrupted recover left.
fn target(place: &Path) -> Result<Local, Failure> {
    if place.exists() && std::fs::read_dir(place).is_ok_and(|mut entries| entries.next().is_some()) {
        // What has a config was compared with the mirror before.
        let known = ["config", "keys", "packs", "index", "snapshots", "heads", "lock", "tmp", "quarantine"];
        let foreign = std::fs::read_dir(place)
            .into_iter()
            .flatten()
            .flatten()
            .find(|entry| !entry.file_name().to_str().is_some_and(|name| known.contains(&name)));
        if let Some(foreign) = foreign {
            let (place, name) = (escape(place.as_os_str().as_bytes()), escape(foreign.file_name().as_bytes()));
            return Err(Failure::failed(format!("{place} holds something else: {name}"))
                .remedy("choose an empty directory, or one that does not exist, with --to"));
        }
        return Ok(Local::open(place).map_err(repository::Error::from)?);
    }
    Ok(Local::create(place).map_err(repository::Error::from)?)
}

/// Opens what came back, makes its cache, and checks it.
fn finish(
    place: &Path,
    secret: crate::codec::key_slot::Secret,
    environment: &Environment,
    monitor: &dyn Monitor,
) -> Result<ops::check::Report, Failure> {
    let storage = Local::open(place).map_err(repository::Error::from)?;
    let access = repositories::access_at(environment, monitor, place, storage, "recover")?;
    let repository = Repository::open(access, &secret)?;
    let report = ops::check::run(&repository, &ops::check::Options::default(), monitor)?;
    if check::kind(&report) == Some(Kind::Damage) {
        // The findings say what the index would warn of.
        drop(repository.take_warnings());
        check::remember(&report, ops::check::Data::None, &repository, environment, monitor);
    } else {
        report_warnings(&repository, monitor);
        // Everything was hashed when it was fetched: what a check of what lay here once had found is over.
        if let Ok(Some(book)) = mirrors::open_existing_book(environment, repository.id()) {
            let _ = book.clear_damage(&mirrors::place_name(place), true);
        }
    }
    Ok(report)
}
