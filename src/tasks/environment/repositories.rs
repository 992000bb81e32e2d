//! From an environment to an open repository.

use super::freshness::{self, About};
use super::mirrors;
use super::passphrase::Passphrase;
use super::secret::{self, Question};
use super::{CopySource, Environment};
use crate::base::command::suggest;
use crate::base::escape::escape;
use crate::base::id::RepositoryId;
use crate::codec::config::{CONFIG_BYTES, Config};
use crate::codec::key_file::KeyFile;
use crate::codec::key_slot::Secret;
use crate::codec::recovery_code::RecoveryCode;
use crate::ops::{Monitor, Problem, Subject};
use crate::repository::expected::Expected;
use crate::repository::lock::Locks;
use crate::repository::public_view::PublicView;
use crate::repository::remembered::{Recalled, Remembered};
use crate::repository::{self, Access, Repository};
use crate::storage::local::Local;
use crate::storage::read_only::ReadOnly;
use crate::storage::{ErrorKind, ObjectName, Storage};
use crate::tasks::failure::{Failure, Kind};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What takes a state code of the source of a copy.
const FROM_EXPECT_HEAD: &str = "--from-expect-head";

/// The repository's directory as an absolute path.
///
/// # Errors
/// As [`Places::repository`](super::places::Places::repository).
pub fn place(environment: &Environment) -> Result<PathBuf, Failure> {
    absolute(&environment.places.repository()?)
}

fn absolute(place: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(place)
        .map_err(|error| Failure::failed("the current directory cannot be determined").caused_by(error))
}

/// True when a repository lies there.
#[must_use]
pub fn exists(place: &Path) -> bool {
    place.join("config").symlink_metadata().is_ok()
}

/// True when the disk says that no repository lies there. It is false as well when nobody can say: the directory may not be
/// entered, or the disk does not answer. One look decides: two can be answered differently.
fn is_absent(place: &Path) -> bool {
    use std::io::ErrorKind::{NotADirectory, NotFound};
    let looked = place.join("config").symlink_metadata();
    looked.is_err_and(|error| matches!(error.kind(), NotFound | NotADirectory))
}

/// How the repository at `place` is reached. `command` is what another process is told while this one holds a lock.
///
/// # Errors
/// [`Kind::NoRepository`] when there is no such directory.
pub fn access_at(
    environment: &Environment,
    monitor: &dyn Monitor,
    place: &Path,
    storage: Local,
    command: &str,
) -> Result<Access, Failure> {
    let locks = Locks::within(place, storage.root().map_err(repository::Error::from)?);
    Ok(Access {
        locks: locks.for_command(command).ended_by(environment.stop.clone()),
        storage: Arc::new(storage),
        place: place.to_path_buf(),
        cache: environment.cache_directory(monitor),
        remembered: Some(memory(environment, monitor).of(place).expecting(environment.expected.clone())),
        retry_lock: environment.retry_lock,
    })
}

/// What this machine remembers of repositories; nothing where there is no directory for that, which is said.
pub fn memory(environment: &Environment, monitor: &dyn Monitor) -> Remembered {
    let directory = environment.state_directory(monitor);
    directory.map_or_else(Remembered::nowhere, |directory| Remembered::new(directory.join("repositories")))
}

/// True when heads lie there: a repository that has lost its config.
fn has_heads(place: &Path) -> bool {
    std::fs::read_dir(place.join("heads")).is_ok_and(|mut heads| heads.next().is_some())
}

/// The sentence for a place where no repository is, with what this machine remembers of it.
pub fn nothing_at(environment: &Environment, monitor: &dyn Monitor, place: &Path) -> Failure {
    let shown = escape(place.as_os_str().as_bytes());
    if has_heads(place) {
        return Failure::new(
            Kind::Damage,
            format!("damaged: the config file of the repository at {shown} is not there"),
        )
        .remedy(
            "copy the file config back from any other copy of the repository: it is the same there and never changes",
        );
    }
    match memory(environment, monitor).at(place) {
        Recalled::Known(id) => Failure::new(
            Kind::NoRepository,
            format!("repository {} was at {shown} and is not there now", id.short()),
        )
        .remedy(concat!("is its disk mounted? To make a new repository there, on purpose: ", suggest!("init"))),
        Recalled::Unreadable(unreadable) => Failure::new(
            Kind::NoRepository,
            format!(
                "no repository at {shown}: there is no config file; whether one was there before cannot be determined ({}: {})",
                escape(unreadable.file.as_os_str().as_bytes()),
                unreadable.why
            ),
        )
        .remedy(concat!("is its disk mounted? To make a new repository there, on purpose: ", suggest!("init"))),
        Recalled::Nothing => Failure::new(Kind::NoRepository, format!("no repository at {shown}: there is no config file"))
            .remedy(concat!("name its directory with --repo or PACKSTONE_REPOSITORY, or make one: ", suggest!("init")))
            .remedy(concat!("or make it with its first snapshot: ", suggest!("backup --init PATH"))),
    }
}

/// Opens the repository that options and environment name.
///
/// # Errors
/// Each of its kind; see `error_mapping.rs`.
pub fn open_repository(environment: &Environment, monitor: &dyn Monitor, command: &str) -> Result<Repository, Failure> {
    if let Some(mirror) = environment.from_mirror.clone() {
        return from_mirror(environment, monitor, &mirror);
    }
    let place = place(environment)?;
    let storage = storage(environment, monitor, &place)?;
    let secret = environment.secret(Question::Open("Passphrase or recovery code"))?;
    open_at(environment, monitor, &place, storage, command, secret)
}

/// Opens the repository that is copied from, after the one that is copied into.
///
/// # Errors
/// As [`open_repository`].
pub fn open_source(
    environment: &Environment,
    monitor: &dyn Monitor,
    source: &CopySource,
    destination: RepositoryId,
    command: &str,
) -> Result<Repository, Failure> {
    let place = absolute(&source.place()?)?;
    open_source_at(environment, monitor, &place, source, destination, command).map_err(|error| error.at(&place))
}

fn open_source_at(
    environment: &Environment,
    monitor: &dyn Monitor,
    place: &Path,
    source: &CopySource,
    destination: RepositoryId,
    command: &str,
) -> Result<Repository, Failure> {
    let shown = escape(place.as_os_str().as_bytes());
    if is_absent(place) && !has_heads(place) {
        let message = format!("no repository at {shown}: there is no config file");
        return Err(Failure::new(Kind::NoRepository, message)
            .remedy("name the directory to copy from with --from-repo or PACKSTONE_FROM_REPOSITORY"));
    }
    let storage = storage(environment, monitor, place)?;
    let secret = environment.secret_of_source(source, Question::Open("Passphrase or recovery code of the source"))?;
    let about = format!("the source {shown}");
    let memory = memory(environment, monitor).expecting(source.expected.clone());
    let access = access_at(environment, monitor, place, storage, command)?;
    let access = if read_id(place) == Some(destination) {
        // Another history of the same repository: what is known of that one, and its cache, say nothing of it.
        Access { cache: None, remembered: Some(memory.of_copy(place, Vec::new(), true)), ..access }
    } else {
        Access { remembered: Some(memory.of(place)), ..access }
    };
    open_and_report(monitor, access, secret, FROM_EXPECT_HEAD).map_err(|error| error.about(&about))
}

/// Opens the mirror that is copied from. What this machine remembers is not asked: a mirror of the repository that is copied into may have
/// another history, which is why its snapshots are wanted here.
///
/// # Errors
/// As [`Repository::open`].
pub fn open_source_mirror(
    environment: &Environment,
    monitor: &dyn Monitor,
    mirror: &str,
    source: &CopySource,
    destination: RepositoryId,
) -> Result<Repository, Failure> {
    let place = mirrors::find_mirror(environment, monitor, mirror)?;
    let access = access_mirror(environment, monitor, &place, source.expected.clone(), true)?;
    let about = format!("the source {}", escape(mirror.as_bytes()));
    let is_same = PublicView::open(Access { remembered: None, ..access.clone() })
        .map_err(|error| Failure::from(error).about(&about))?
        .id()
        == destination;
    // The cache of one history knows nothing of the other.
    let cache = if is_same { None } else { access.cache.clone() };
    let secret = environment.secret_of_source(source, Question::Open("Passphrase or recovery code of the source"))?;
    open_mirror(monitor, &place, Access { cache, ..access }, secret, FROM_EXPECT_HEAD)
        .map_err(|error| error.about(&about))
}

/// How the mirror at `place` is reached, to read from it. What a command would write there is refused by the storage.
///
/// # Errors
/// When its store cannot be opened, or there is no home directory.
pub fn access_mirror(
    environment: &Environment,
    monitor: &dyn Monitor,
    place: &mirrors::MirrorLocation,
    expected: Expected,
    any_history: bool,
) -> Result<Access, Failure> {
    let store = mirrors::open_store(environment, place, false)?;
    let address = place.path();
    let memory = memory_of_mirror(environment, monitor, place, any_history)?.expecting(expected);
    let bare = Access::of_mirror(Arc::new(ReadOnly::new(store)), address).ended_by(environment.stop.clone());
    Ok(Access { cache: environment.cache_directory(monitor), remembered: Some(memory), ..bare })
}

/// What this machine remembers of the mirror at `place`.
///
/// # Errors
/// When there is no home directory.
pub fn memory_of_mirror(
    environment: &Environment,
    monitor: &dyn Monitor,
    place: &mirrors::MirrorLocation,
    any_history: bool,
) -> Result<Remembered, Failure> {
    Ok(memory(environment, monitor).of_copy(
        &place.path(),
        mirrors::list_known_at(environment, monitor, place),
        any_history,
    ))
}

fn storage(environment: &Environment, monitor: &dyn Monitor, place: &Path) -> Result<Local, Failure> {
    if is_absent(place) {
        return Err(nothing_at(environment, monitor, place));
    }
    Local::open(place).map_err(|error| match error.kind {
        ErrorKind::Absent => Failure::new(Kind::NoRepository, error.to_string()),
        _ => repository::Error::from(error).into(),
    })
}

fn open_at(
    environment: &Environment,
    monitor: &dyn Monitor,
    place: &Path,
    storage: Local,
    command: &str,
    secret: secret::Secret,
) -> Result<Repository, Failure> {
    open_and_report(monitor, access_at(environment, monitor, place, storage, command)?, secret, "--expect-head")
}

/// Opens, and reports what there is to report about it. `option` takes a state code of it.
fn open_and_report(
    monitor: &dyn Monitor,
    access: Access,
    secret: secret::Secret,
    option: &'static str,
) -> Result<Repository, Failure> {
    let (opened, _) = open_with(access, secret)?;
    let about = About { place: opened.place(), option };
    freshness::report_freshness(opened.freshness(), opened.tip().reference(), about, monitor);
    for warning in opened.take_warnings() {
        monitor.problem(&Problem::warning(Subject::Machine, &warning));
    }
    Ok(opened)
}

fn open_mirror(
    monitor: &dyn Monitor,
    place: &mirrors::MirrorLocation,
    access: Access,
    secret: secret::Secret,
    option: &'static str,
) -> Result<Repository, Failure> {
    let seen = access.clone();
    open_and_report(monitor, access, secret, option).map_err(|error| mirrors::explain_failure(error, place, &seen))
}

/// Opens a mirror to read from it.
fn from_mirror(environment: &Environment, monitor: &dyn Monitor, mirror: &str) -> Result<Repository, Failure> {
    let place = mirrors::find_mirror(environment, monitor, mirror)?;
    let access = access_mirror(environment, monitor, &place, environment.expected.clone(), false)?;
    let secret = environment.secret(Question::Open("Passphrase or recovery code"))?;
    open_mirror(monitor, &place, access, secret, "--expect-head")
}

/// The id of the repository that options and environment name, when there is one.
#[must_use]
pub fn find_id(environment: &Environment) -> Option<RepositoryId> {
    read_id(&place(environment).ok()?)
}

/// The same, where it is about to be used.
///
/// # Errors
/// When it is another one than the user named, or than was seen at that place.
pub fn require_id(environment: &Environment, monitor: &dyn Monitor) -> Result<Option<RepositoryId>, Failure> {
    let Some(id) = find_id(environment) else { return Ok(None) };
    let place = place(environment)?;
    memory(environment, monitor).of(&place).expecting(environment.expected.clone()).require_identity(&place, id)?;
    Ok(Some(id))
}

/// The id of the repository at a place.
#[must_use]
pub fn read_id(place: &Path) -> Option<RepositoryId> {
    let config = Local::open(place).ok()?.read(&ObjectName::Config, CONFIG_BYTES as u64).ok()?;
    Config::parse(&config).ok()?;
    Some(Config::id(&config))
}

/// The repository as anyone sees it, without a secret.
///
/// # Errors
/// When there is none, or its heads cannot be believed.
pub fn open_public_view(
    environment: &Environment,
    monitor: &dyn Monitor,
    command: &str,
) -> Result<PublicView, Failure> {
    let access = access_repository(environment, monitor, command)?;
    let place = access.place.clone();
    let view = PublicView::open(access)?;
    freshness::report_freshness(view.freshness(), view.tip().reference(), About::new(&place), monitor);
    Ok(view)
}

/// Where the repository lies that this machine knows, when that is not `place`: what lies here is a copy beside it.
#[must_use]
pub fn elsewhere(memory: &Remembered, id: RepositoryId, place: &Path) -> Option<PathBuf> {
    memory.place(id).filter(|lives| lives != place && read_id(lives) == Some(id))
}

/// The repository that the user named, before anything of it was read.
///
/// # Errors
/// When there is none, or the disk refuses.
pub fn access_repository(environment: &Environment, monitor: &dyn Monitor, command: &str) -> Result<Access, Failure> {
    let place = place(environment)?;
    if is_absent(&place) {
        return Err(nothing_at(environment, monitor, &place));
    }
    let storage = Local::open(&place).map_err(repository::Error::from)?;
    access_at(environment, monitor, &place, storage, command)
}

/// Opens with whatever the secret turns out to be: what was typed as a passphrase may be a recovery code.
///
/// # Errors
/// As [`Repository::open`].
pub fn open_with(access: Access, secret: secret::Secret) -> Result<(Repository, Secret), Failure> {
    match secret {
        secret::Secret::KeyFile(content) => {
            let secret = read_key_file(&content)?;
            Ok((Repository::open(access, &secret)?, secret))
        }
        secret::Secret::Passphrase(passphrase) => with_passphrase(&access, &passphrase),
    }
}

/// Tries what was typed as a recovery code, and as a passphrase in each spelling. The error is about the passphrase.
fn with_passphrase(access: &Access, passphrase: &Passphrase) -> Result<(Repository, Secret), Failure> {
    let mut spellings = passphrase.spellings().into_iter();
    let typed = spellings.next().unwrap_or_default();
    let code = std::str::from_utf8(&typed).ok().map(RecoveryCode::parse);
    let code = code.and_then(|code| code.ok()).map(Secret::RecoveryCode);
    let passphrases = std::iter::once(typed).chain(spellings).map(Secret::Passphrase);
    let mut secrets: Vec<Secret> = code.into_iter().chain(passphrases).collect();
    match Repository::open_with(access.clone(), &secrets) {
        Err(wrong @ repository::Error::WrongSecret { .. }) => Err(passphrase.refused().unwrap_or_else(|| wrong.into())),
        opened => opened.map(|(repository, number)| (repository, secrets.swap_remove(number))).map_err(Failure::from),
    }
}

/// Reads the content of a key file.
///
/// # Errors
/// When it is none of ours.
pub fn read_key_file(content: &[u8]) -> Result<Secret, Failure> {
    KeyFile::parse(content).map(Secret::KeyFile).map_err(|error| {
        Failure::new(Kind::WrongPassword, format!("this is no key file of packstone: {}", error.reason)).remedy(
            concat!(
                "a passphrase in a file is given with --password-file. To make a key file: ",
                suggest!("key add --new-key-file FILE")
            ),
        )
    })
}

/// The secret of a new repository or of a new key.
///
/// # Errors
/// As [`read_key_file`]; a file with more than one line.
pub fn make_secret(secret: secret::Secret) -> Result<Secret, Failure> {
    match secret {
        secret::Secret::KeyFile(content) => read_key_file(&content),
        secret::Secret::Passphrase(passphrase) => Ok(Secret::Passphrase(passphrase.for_new()?)),
    }
}
