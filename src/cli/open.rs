//! From the global options to an open repository.

use super::Context;
use super::freshness::{self, About};
use super::mirror::store;
use super::options::from_repository;
use super::passphrase::Passphrase;
use super::secret::{self, FromOptions, Question};
use crate::base::command::suggest;
use crate::base::escape::escape;
use crate::base::id::RepositoryId;
use crate::codec::config::Config;
use crate::codec::key_file::KeyFile;
use crate::codec::key_slot::Secret;
use crate::codec::recovery_code::RecoveryCode;
use crate::repository::expected::Expected;
use crate::repository::lock::Locks;
use crate::repository::public_view::PublicView;
use crate::repository::remembered::{Recalled, Remembered};
use crate::repository::{self, Access, Repository};
use crate::storage::ErrorKind;
use crate::storage::local::Local;
use crate::storage::read_only::ReadOnly;
use crate::tasks::failure::{Failure, Kind};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// What takes a state code of the source of a copy.
const FROM_EXPECT_HEAD: &str = "--from-expect-head";

/// The repository's directory as an absolute path.
///
/// # Errors
/// As [`super::options::GlobalOptions::repository`].
pub fn place(context: &Context) -> Result<PathBuf, Failure> {
    absolute(&context.global.repository()?)
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
/// [`Exit::NoRepository`] when there is no such directory.
pub fn access(context: &Context, place: &Path, storage: Local, command: &str) -> Result<Access, Failure> {
    Ok(Access {
        locks: Locks::within(place, storage.root().map_err(repository::Error::from)?).for_command(command),
        storage: Arc::new(storage),
        place: place.to_path_buf(),
        cache: context.cache_directory(),
        remembered: Some(remembered(context).of(place).expecting(context.global.expected())),
        retry_lock: context.global.retry_lock.unwrap_or(Duration::ZERO),
    })
}

/// What this machine remembers of repositories; nothing where there is no directory for that, which is said.
pub fn remembered(context: &Context) -> Remembered {
    let directory = context.state_directory();
    directory.map_or_else(Remembered::nowhere, |directory| Remembered::new(directory.join("repositories")))
}

/// True when heads lie there: a repository that has lost its config.
fn has_heads(place: &Path) -> bool {
    std::fs::read_dir(place.join("heads")).is_ok_and(|mut heads| heads.next().is_some())
}

/// The sentence for a place where no repository is, with what this machine remembers of it.
pub fn nothing_at(context: &Context, place: &Path) -> Failure {
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
    match remembered(context).at(place) {
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
/// Each with its exit code; see `failure.rs`.
pub fn repository(context: &mut Context, command: &str) -> Result<Repository, Failure> {
    repository_with(context, command, false)
}

/// The same, for a command that may take something else from the standard input.
///
/// # Errors
/// As [`repository()`].
pub fn repository_with(context: &mut Context, command: &str, stdin_taken: bool) -> Result<Repository, Failure> {
    if let Some(mirror) = context.global.from_mirror.clone() {
        return from_mirror(context, &mirror, stdin_taken);
    }
    let place = place(context)?;
    let storage = storage(context, &place)?;
    let secret = context.secret(Question::Open("Passphrase or recovery code"), stdin_taken)?;
    open_at(context, &place, storage, command, secret)
}

/// Opens the repository that is copied from, after the one that is copied into.
///
/// # Errors
/// As [`repository()`].
pub fn source(
    options: &FromOptions,
    destination: RepositoryId,
    context: &mut Context,
    command: &str,
) -> Result<Repository, Failure> {
    let place = absolute(&from_repository(options)?)?;
    source_at(&place, options, destination, context, command).map_err(|error| error.at(&place))
}

fn source_at(
    place: &Path,
    options: &FromOptions,
    destination: RepositoryId,
    context: &mut Context,
    command: &str,
) -> Result<Repository, Failure> {
    let shown = escape(place.as_os_str().as_bytes());
    if is_absent(place) && !has_heads(place) {
        let message = format!("no repository at {shown}: there is no config file");
        return Err(Failure::new(Kind::NoRepository, message)
            .remedy("name the directory to copy from with --from-repo or PACKSTONE_FROM_REPOSITORY"));
    }
    let storage = storage(context, place)?;
    let secret = context.secret_from(options, Question::Open("Passphrase or recovery code of the source"))?;
    let about = format!("the source {shown}");
    let memory = remembered(context).expecting(options.expected());
    let access = access(context, place, storage, command)?;
    let access = if id_at(place) == Some(destination) {
        // Another history of the same repository: what is known of that one, and its cache, say nothing of it.
        Access { cache: None, remembered: Some(memory.of_copy(place, Vec::new(), true)), ..access }
    } else {
        Access { remembered: Some(memory.of(place)), ..access }
    };
    open_and_tell(context, access, secret, FROM_EXPECT_HEAD).map_err(|error| error.about(&about))
}

/// Opens the mirror that is copied from. What this machine remembers is not asked: a mirror of the repository that is copied into may have
/// another history, which is why its snapshots are wanted here.
///
/// # Errors
/// As [`Repository::open`].
pub fn source_mirror(
    mirror: &str,
    options: &FromOptions,
    destination: RepositoryId,
    context: &mut Context,
) -> Result<Repository, Failure> {
    let place = store::find(context, mirror)?;
    let access = mirror_access(context, &place, options.expected(), true)?;
    let about = format!("the source {}", escape(mirror.as_bytes()));
    let is_same = PublicView::open(Access { remembered: None, ..access.clone() })
        .map_err(|error| Failure::from(error).about(&about))?
        .id()
        == destination;
    // The cache of one history knows nothing of the other.
    let cache = if is_same { None } else { access.cache.clone() };
    let secret = context.secret_from(options, Question::Open("Passphrase or recovery code of the source"))?;
    open_mirror(context, &place, Access { cache, ..access }, secret, FROM_EXPECT_HEAD)
        .map_err(|error| error.about(&about))
}

/// How the mirror at `place` is reached, to read from it. What a command would write there is refused by the storage.
///
/// # Errors
/// When its store cannot be opened, or there is no home directory.
pub fn mirror_access(
    context: &Context,
    place: &store::Place,
    expected: Expected,
    any_history: bool,
) -> Result<Access, Failure> {
    let store = store::open(context, place, false)?;
    let address = place.path();
    let memory = memory_of_mirror(context, place, any_history)?.expecting(expected);
    let bare = Access::of_mirror(Arc::new(ReadOnly::new(store)), address);
    Ok(Access { cache: context.cache_directory(), remembered: Some(memory), ..bare })
}

/// What this machine remembers of the mirror at `place`.
///
/// # Errors
/// When there is no home directory.
pub fn memory_of_mirror(context: &Context, place: &store::Place, any_history: bool) -> Result<Remembered, Failure> {
    Ok(remembered(context).of_copy(&place.path(), store::listed(context, place), any_history))
}

fn storage(context: &Context, place: &Path) -> Result<Local, Failure> {
    if is_absent(place) {
        return Err(nothing_at(context, place));
    }
    Local::open(place).map_err(|error| match error.kind {
        ErrorKind::Absent => Failure::new(Kind::NoRepository, error.to_string()),
        _ => repository::Error::from(error).into(),
    })
}

fn open_at(
    context: &Context,
    place: &Path,
    storage: Local,
    command: &str,
    secret: secret::Secret,
) -> Result<Repository, Failure> {
    open_and_tell(context, access(context, place, storage, command)?, secret, "--expect-head")
}

/// Opens, and says what there is to say about it.
/// `option` takes a state code of it.
fn open_and_tell(
    context: &Context,
    access: Access,
    secret: secret::Secret,
    option: &'static str,
) -> Result<Repository, Failure> {
    let (opened, _) = open(access, secret)?;
    let about = About { place: opened.place(), option };
    freshness::tell(opened.freshness(), opened.tip().reference(), about, context.output);
    for warning in opened.take_warnings() {
        context.output.warn(&warning);
    }
    Ok(opened)
}

fn open_mirror(
    context: &Context,
    place: &store::Place,
    access: Access,
    secret: secret::Secret,
    option: &'static str,
) -> Result<Repository, Failure> {
    let seen = access.clone();
    open_and_tell(context, access, secret, option).map_err(|error| store::explained(error, place, &seen))
}

/// Opens a mirror to read from it.
fn from_mirror(context: &mut Context, mirror: &str, stdin_taken: bool) -> Result<Repository, Failure> {
    let place = store::find(context, mirror)?;
    let access = mirror_access(context, &place, context.global.expected(), false)?;
    let secret = context.secret(Question::Open("Passphrase or recovery code"), stdin_taken)?;
    open_mirror(context, &place, access, secret, "--expect-head")
}

/// The id of the repository that options and environment name, when there is one.
#[must_use]
pub fn id(context: &Context) -> Option<RepositoryId> {
    id_at(&place(context).ok()?)
}

/// The same, where it is about to be used.
///
/// # Errors
/// When it is another one than the user named, or than was seen at that place.
pub fn required_id(context: &Context) -> Result<Option<RepositoryId>, Failure> {
    let Some(id) = id(context) else { return Ok(None) };
    let place = place(context)?;
    remembered(context).of(&place).expecting(context.global.expected()).require_identity(&place, id)?;
    Ok(Some(id))
}

/// The id of the repository at a place.
#[must_use]
pub fn id_at(place: &Path) -> Option<RepositoryId> {
    let config = std::fs::read(place.join("config")).ok()?;
    Config::parse(&config).ok()?;
    Some(Config::id(&config))
}

/// The repository as anyone sees it, without a secret.
///
/// # Errors
/// When there is none, or its heads cannot be believed.
pub fn public_view(context: &Context, command: &str) -> Result<PublicView, Failure> {
    let access = closed(context, command)?;
    let place = access.place.clone();
    let view = PublicView::open(access)?;
    freshness::tell(view.freshness(), view.tip().reference(), About::new(&place), context.output);
    Ok(view)
}

/// Where the repository lies that this machine knows, when that is not `place`: what lies here is a copy beside it.
#[must_use]
pub fn elsewhere(memory: &Remembered, id: RepositoryId, place: &Path) -> Option<PathBuf> {
    memory.place(id).filter(|lives| lives != place && id_at(lives) == Some(id))
}

/// The repository that the user named, before anything of it was read.
///
/// # Errors
/// When there is none, or the disk refuses.
pub fn closed(context: &Context, command: &str) -> Result<Access, Failure> {
    let place = place(context)?;
    if is_absent(&place) {
        return Err(nothing_at(context, &place));
    }
    let storage = Local::open(&place).map_err(repository::Error::from)?;
    access(context, &place, storage, command)
}

/// Opens with whatever the secret turns out to be: what was typed as a passphrase may be a recovery code.
///
/// # Errors
/// As [`Repository::open`].
pub fn open(access: Access, secret: secret::Secret) -> Result<(Repository, Secret), Failure> {
    match secret {
        secret::Secret::KeyFile(content) => {
            let secret = key_file(&content)?;
            Ok((Repository::open(access, &secret)?, secret))
        }
        secret::Secret::Passphrase(passphrase) => with_passphrase(&access, &passphrase),
    }
}

/// Tries what was typed as a recovery code, and as a passphrase in each spelling. The error is that of the first one.
fn with_passphrase(access: &Access, passphrase: &Passphrase) -> Result<(Repository, Secret), Failure> {
    let mut spellings = passphrase.spellings().into_iter();
    let typed = spellings.next().unwrap_or_default();
    let code = std::str::from_utf8(&typed).ok().map(RecoveryCode::parse);
    let code = code.and_then(|code| code.ok()).map(Secret::RecoveryCode);
    let mut wrong = None;
    for secret in code.into_iter().chain([Secret::Passphrase(typed)]).chain(spellings.map(Secret::Passphrase)) {
        match Repository::open(access.clone(), &secret) {
            Err(error @ repository::Error::WrongSecret { .. }) => {
                if matches!(secret, Secret::Passphrase(_)) {
                    wrong.get_or_insert(error);
                }
            }
            other => return Ok((other?, secret)),
        }
    }
    match (passphrase.refused(), wrong) {
        (Some(refused), _) => Err(refused),
        (None, Some(wrong)) => Err(wrong.into()),
        (None, None) => Err(Failure::failed("the passphrase is empty")),
    }
}

/// Reads the content of a key file.
///
/// # Errors
/// When it is none of ours.
pub fn key_file(content: &[u8]) -> Result<Secret, Failure> {
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
/// As [`key_file`]; a file with more than one line.
pub fn new_secret(secret: secret::Secret) -> Result<Secret, Failure> {
    match secret {
        secret::Secret::KeyFile(content) => key_file(&content),
        secret::Secret::Passphrase(passphrase) => Ok(Secret::Passphrase(passphrase.for_new()?)),
    }
}
