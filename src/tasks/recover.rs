//! Bring a repository back from a mirror alone: authenticate what the mirror shows, fetch it, remember it, open it and check it.

use super::environment::freshness::{About, report_freshness};
use super::environment::secret::Question;
use super::environment::{Environment, mirrors, own_places, repositories};
use super::failure::{Failure, Kind};
use super::require_connections;
use crate::base::command::suggest;
use crate::base::escape::escape;
use crate::base::id::RepositoryId;
use crate::codec::head::HeadRef;
use crate::codec::head_code::HeadCode;
use crate::ops::{self, Monitor, Problem, Subject, recover};
use crate::repository::freshness::Grade;
use crate::repository::lock::Locks;
use crate::repository::public_view::PublicView;
use crate::repository::remembered::Remembered;
use crate::repository::{self, Access, Repository};
use crate::storage::Storage;
use crate::storage::local::Local;
use crate::storage::read_only::ReadOnly;
use serde::Deserialize;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// From where, and where to.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Request {
    /// The mirror: its address, a directory, or its name.
    pub mirror: String,
    /// Options of the service, each `key=value`.
    pub option: Vec<String>,
    /// Prints the credentials, lines `key=value`; run without a shell.
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
            mirror: String::new(),
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
}

impl Report {
    /// How it ends.
    #[must_use]
    pub fn kind(&self) -> Option<Kind> {
        self.check.as_ref().and_then(super::check::kind)
    }
}

/// Brings it back. An interrupted one goes on where it stopped.
///
/// # Errors
/// [`Kind::Rollback`] or [`Kind::Stale`] for a state that is older than is known; [`Kind::WrongPassword`]; damage; storage errors.
pub fn run(
    request: &Request,
    environment: &Environment,
    monitor: &dyn Monitor,
    on_step: OnStep<'_>,
) -> Result<Report, Failure> {
    recover(request, environment, monitor, on_step).map_err(|error| error.reading_from(&request.mirror))
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
    let (store, from) = {
        let mut place = mirrors::find_mirror(environment, monitor, &request.mirror)?;
        if !request.option.is_empty() {
            place.address = crate::storage::address::Address::parse(&place.address.to_string(), &request.option)?;
        }
        place.credentials_command = request.credentials_command.clone().or(place.credentials_command);
        (mirrors::open_store(environment, &place, false)?, place)
    };
    let mut storage = ReadOnly::new(store);
    let wanted = request.head.map(|code| recover::named(&storage, &code)).transpose()?;
    if let Some(head) = wanted {
        storage = storage.as_of(head.generation, head.id);
    }
    let storage: Arc<dyn Storage> = Arc::new(storage);
    let bare = Access::of_mirror(Arc::clone(&storage), from.path());
    let of_mirror = repositories::memory_of_mirror(environment, monitor, &from, false)?.expecting(expected);
    // A state that was asked for by its code may be older than what was seen.
    let remembered = wanted.is_none().then(|| of_mirror.clone());
    let access = Access { remembered, ..bare };
    let mirror = PublicView::open(access.clone()).map_err(|error| refused(error, &from, &access))?;
    of_mirror.require_identity(&access.place, mirror.id())?;
    let memory = repositories::memory(environment, monitor);
    let tip = match wanted {
        Some(head) => recover::older(&mirror, head)?,
        None => recover::newest(&mirror)?,
    };
    if let Some((head, _)) = tip.incomplete.filter(|_| wanted.is_none()) {
        let message = format!("{head} on the mirror is not whole: a sync was interrupted, or is running now");
        monitor.problem(&Problem::warning(Subject::Mirror, &message));
    }
    // An earlier attempt may have got as far as the config. What else is a repository is left alone.
    if let Some(id) = here
        && !(id == mirror.id() && Local::open(&place).is_ok_and(|target| recover::is_same(&mirror, &tip, &target)))
    {
        return Err(occupied());
    }
    let head = tip.reference();
    let known = mirror.freshness();
    if let Grade::Behind(seen) = known.grade {
        return Err(behind(seen, head));
    }
    report_freshness(known, head, About::new(&access.place), monitor);
    let secret = environment.secret(Question::Open("Passphrase or recovery code"))?;
    let (_, secret) = repositories::open_with(access, secret)?;
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
    if plan.is_repository() && !plan.is_done() {
        return Err(occupied().remedy(concat!("something is damaged or missing in it: ", suggest!("repair objects"))));
    }
    on_step(Step::Planned { objects: plan.fetch.len() as u64, bytes: plan.bytes(), place: &place })?;
    if request.dry_run {
        return Ok(Report { place, repository: mirror.id(), check: None });
    }
    recover::execute(&mirror, target, &plan, usize::from(request.connections), monitor)?;
    monitor.idle();
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
    finish(&place, secret, environment, monitor).map_err(|error| error.at(&place))
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

fn refused(error: repository::Error, from: &mirrors::MirrorLocation, access: &Access) -> Failure {
    let code = match &error {
        repository::Error::Rollback { found, .. } => Some(HeadCode::of(found)),
        _ => None,
    };
    let error = mirrors::explain_refusal(error, from, access);
    match code {
        Some(code) => error.remedy(format!("To take what it shows, this once: --head {code}")),
        None => error,
    }
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
) -> Result<Report, Failure> {
    let storage = Local::open(place).map_err(repository::Error::from)?;
    let access = repositories::access_at(environment, monitor, place, storage, "recover")?;
    let repository = Repository::open(access, &secret)?;
    let check = ops::check::run(&repository, &ops::check::Options::default(), monitor)?;
    let report = Report { place: place.to_path_buf(), repository: repository.id(), check: Some(check) };
    // Everything was hashed when it was fetched: what a check of what lay here once had found is over.
    if report.kind() != Some(Kind::Damage)
        && let Ok(Some(book)) = mirrors::open_existing_book(environment, repository.id())
    {
        let _ = book.clear_damage(&mirrors::place_name(place), true);
    }
    Ok(report)
}
