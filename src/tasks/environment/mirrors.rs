//! From a mirror's name or address to the store itself, with the secrets that it needs.

use super::{Environment, repositories, secret};
use crate::base::command::suggest;
use crate::base::escape::escape;
use crate::base::id::RepositoryId;
use crate::base::private;
use crate::codec::config::{CONFIG_BYTES, Config};
use crate::codec::head::HeadRef;
use crate::codec::head_code::HeadCode;
use crate::ops::mirror_error::MirrorError;
use crate::ops::{Monitor, Problem, Subject};
use crate::repository::mirror_book::{self, BookError, Mirror, MirrorBook};
use crate::repository::public_view::PublicView;
use crate::repository::{self, Access};
use crate::storage;
use crate::storage::address::{Address, CUSTOMER_KEY, NO_CUSTOMER_KEY};
use crate::storage::at_mirror::AtMirror;
use crate::storage::aws_profile::{self, Keys, Profile, Roles};
use crate::storage::cause::MirrorPlace;
use crate::storage::local::Local;
use crate::storage::remote::Remote;
use crate::storage::{ErrorKind, MirrorStore, ObjectName};
use crate::tasks::error_mapping::remedy_of_book;
use crate::tasks::failure::{Failure, Kind};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Where a mirror lies, and where its secrets come from.
#[derive(Debug, Clone)]
pub struct MirrorLocation {
    /// Its name here, when it has one: its own secrets go by it.
    pub name: Option<String>,
    /// The address.
    pub address: Address,
    /// Prints them.
    pub credentials_command: Option<String>,
    /// It is on the list.
    pub is_listed: bool,
}

impl MirrorLocation {
    /// Its address as the place of what lies there.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        PathBuf::from(self.address.to_string())
    }

    /// Of a mirror in the book.
    ///
    /// # Errors
    /// When this program does not understand its address.
    pub fn of(mirror: &Mirror) -> Result<Self, Failure> {
        Ok(Self {
            name: Some(mirror.name.clone()),
            address: Address::parse(&mirror.address, &[])?,
            credentials_command: mirror.credentials_command.clone(),
            is_listed: true,
        })
    }
}

/// The folder of the books.
///
/// # Errors
/// When there is no home directory.
pub fn folder(environment: &Environment) -> Result<PathBuf, Failure> {
    Ok(environment.places.state_directory()?.join("mirrors"))
}

/// The book of a repository.
///
/// # Errors
/// When it cannot be read.
pub fn open_book(environment: &Environment, repository: RepositoryId) -> Result<MirrorBook, Failure> {
    let folder = folder(environment)?;
    MirrorBook::open(&folder, repository).map_err(|error| {
        let file = folder.join(format!("{repository}.sqlite"));
        Failure::failed(format!("{}: {error}", escape(file.as_os_str().as_encoded_bytes())))
            .remedy(remedy_of_book(&error))
    })
}

/// The same for a command that goes on where this machine has no directory to remember things in.
///
/// # Errors
/// As [`open_book`].
pub fn open_book_if_any(
    environment: &Environment,
    monitor: &dyn Monitor,
    repository: RepositoryId,
) -> Result<Option<MirrorBook>, Failure> {
    environment.state_directory(monitor).map(|_| open_book(environment, repository)).transpose()
}

/// The book of a repository that has one. None is made.
///
/// # Errors
/// When it is there and cannot be read.
pub fn open_existing_book(environment: &Environment, repository: RepositoryId) -> Result<Option<MirrorBook>, Failure> {
    let Ok(folder) = folder(environment) else { return Ok(None) };
    let looked = folder.join(format!("{repository}.sqlite")).symlink_metadata();
    match looked {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        _ => open_book(environment, repository).map(Some),
    }
}

/// The mirrors of a repository that lie in directories of this machine. No book is made.
///
/// # Errors
/// When the book is there and cannot be read.
pub fn list_directories(
    environment: &Environment,
    repository: RepositoryId,
) -> Result<Vec<(String, PathBuf)>, Failure> {
    let file = folder(environment)?.join(format!("{repository}.sqlite"));
    match file.symlink_metadata() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Failure::failed("the list of mirrors cannot be looked at").caused_by(error)),
        Ok(_) => {}
    }
    let mirrors = open_book(environment, repository)?.all()?.into_iter();
    // An address that this program does not understand is no directory of this machine.
    let directory = |mirror: Mirror| {
        let address = Address::parse(&mirror.address, &[]).ok()?;
        Some((mirror.name, address.directory()?.to_path_buf()))
    };
    Ok(mirrors.filter_map(directory).collect())
}

/// What a place is called in the book: copies of one repository lie at several.
#[must_use]
pub fn place_name(place: &Path) -> String {
    place.canonicalize().unwrap_or_else(|_| place.to_path_buf()).to_string_lossy().into_owned()
}

/// The names of a repository's mirrors, for a hint.
#[must_use]
pub fn list_names(environment: &Environment, repository: RepositoryId) -> Vec<String> {
    let all =
        open_existing_book(environment, repository).ok().flatten().and_then(|book| book.all().ok()).unwrap_or_default();
    all.into_iter().map(|mirror| mirror.name).collect()
}

/// The mirrors of these names; all without any.
///
/// # Errors
/// When one is not in the book, or that cannot be read.
pub fn choose_mirrors(book: &MirrorBook, names: &[String]) -> Result<Vec<Mirror>, Failure> {
    if names.is_empty() {
        return Ok(book.all()?);
    }
    let names: BTreeSet<&String> = names.iter().collect();
    Ok(names.into_iter().map(|name| book.get(name)).collect::<Result<_, _>>()?)
}

/// The repositories that this machine keeps a book for.
///
/// # Errors
/// When there is no home directory.
pub fn list_books(environment: &Environment) -> Result<Vec<RepositoryId>, Failure> {
    let entries = std::fs::read_dir(folder(environment)?).into_iter().flatten().flatten();
    let id = |name: std::ffi::OsString| name.to_str()?.strip_suffix(".sqlite")?.parse().ok();
    Ok(entries.filter_map(|entry| id(entry.file_name())).collect())
}

/// How often a lock is looked at again that is waited for.
const LOOKED_AGAIN: Duration = Duration::from_millis(100);

/// Why a mirror that shares the repository's file system is not enough.
pub const NO_COPY: &str = "when that disk fails, both are lost";

/// The address that a person typed.
///
/// # Errors
/// A usage error.
pub fn parse_typed(text: &str, options: &[String]) -> Result<Address, Failure> {
    let current = std::env::current_dir().ok();
    Ok(Address::parse_typed(text, current.as_deref(), options)?)
}

/// A place where a mirror is, or can be: a name from a book, or an address.
///
/// # Errors
/// When it is neither.
pub fn find_mirror(environment: &Environment, monitor: &dyn Monitor, text: &str) -> Result<MirrorLocation, Failure> {
    if !mirror_book::is_name(text) {
        let address = parse_typed(text, &[])?;
        return Ok(MirrorLocation { name: None, address, credentials_command: None, is_listed: false });
    }
    let unknown = |error: Failure| {
        let error = error
            .remedy(concat!("an address looks like s3://BUCKET/PATH. To see the names: ", suggest!("mirror list")));
        match Path::new(text).is_dir() {
            true => error.remedy(format!("the directory of this name is ./{text}")),
            false => error,
        }
    };
    // The repository that is meant knows its mirrors; only where there is none, any repository's may be meant.
    if let Some(id) = repositories::require_id(environment, monitor)? {
        return match open_book(environment, id)?.get(text) {
            Err(BookError::Unknown(_)) => Err(unknown(Failure::failed(format!("there is no mirror {text}")))),
            mirror => MirrorLocation::of(&mirror?),
        };
    }
    let mut found: Vec<Mirror> = Vec::new();
    for id in list_books(environment)? {
        found.extend(open_book(environment, id)?.get(text).ok());
    }
    match found.as_slice() {
        [mirror] => MirrorLocation::of(mirror),
        [] => Err(unknown(Failure::failed(format!("\"{text}\" is neither a mirror's name nor an address")))),
        _ => {
            Err(Failure::failed(format!("several repositories have a mirror {text}")).remedy("name it by its address"))
        }
    }
}

/// The repositories that have a mirror at this place by their books, and the newest head that was seen of each there.
#[must_use]
pub fn list_known_at(
    environment: &Environment,
    monitor: &dyn Monitor,
    place: &MirrorLocation,
) -> Vec<(RepositoryId, Option<HeadRef>)> {
    let address = place.address.to_string();
    let mut listed = Vec::new();
    for id in list_books(environment).unwrap_or_default() {
        let read = || Ok(open_existing_book(environment, id)?.map(|book| book.all()).transpose()?.unwrap_or_default());
        let mirrors = read().unwrap_or_else(|error: Failure| {
            let message = format!(
                "whether another repository, or a newer state, was seen at this mirror cannot be determined: {}",
                error.chain()
            );
            monitor.problem(&Problem::warning(Subject::Machine, &message));
            Vec::new()
        });
        listed.extend(mirrors.into_iter().filter(|mirror| mirror.address == address).map(|mirror| (id, mirror.head)));
    }
    listed
}

/// Why a mirror was not read, in words about the mirror.
#[must_use]
pub fn explain_refusal(error: repository::Error, place: &MirrorLocation, access: &Access) -> Failure {
    let repository::Error::Rollback { remembered, found } = error else { return error.into() };
    let code = HeadCode::of(&found);
    let error = MirrorError::Rollback { seen: remembered.generation, found: Some(found) };
    let hint = match (&place.name, memory_file(access)) {
        (Some(name), _) => {
            format!(
                "somebody put an older state in its place. If that was you: {}",
                suggest!("mirror accept {} --head {}", name, code)
            )
        }
        (None, Some(file)) => {
            let file = escape(file.as_os_str().as_encoded_bytes());
            format!(
                "somebody put an older state in its place. If that was you, remove what this machine remembers of it: {file}"
            )
        }
        (None, None) => "somebody put an older state in its place".to_owned(),
    };
    Failure::new(Kind::Rollback, error.to_string()).remedy(hint)
}

/// The same for what was opened with a secret.
#[must_use]
pub fn explain_failure(error: Failure, place: &MirrorLocation, access: &Access) -> Failure {
    if error.kind() != Kind::Rollback {
        return error;
    }
    match PublicView::open(access.clone()) {
        Err(rollback @ repository::Error::Rollback { .. }) => explain_refusal(rollback, place, access),
        _ => error,
    }
}

fn memory_file(access: &Access) -> Option<PathBuf> {
    let config = access.storage.read(&ObjectName::Config, CONFIG_BYTES as u64).ok()?;
    Some(access.remembered.as_ref()?.file(Config::id(&config)))
}

/// Opens the store at an address. Nothing is asked of it yet.
///
/// # Errors
/// When a secret cannot be had, or the settings are refused.
pub fn open_store(
    environment: &Environment,
    place: &MirrorLocation,
    make: bool,
) -> Result<Arc<dyn MirrorStore>, Failure> {
    let MirrorLocation { name, address, credentials_command, is_listed } = place;
    let at = MirrorPlace { name: name.clone(), address: address.clone(), is_listed: *is_listed };
    if let Some(directory) = address.directory() {
        return Ok(Arc::new(AtMirror::new(local(directory, make, &at)?, at)));
    }
    let customer_key = format!("{CUSTOMER_KEY}key");
    if address.service().scheme == "s3" && environment.secrets.of_mirror(name.as_deref(), &customer_key).is_some() {
        return Err(
            Failure::failed(NO_CUSTOMER_KEY).remedy(format!("unset PACKSTONE_MIRROR_{}", customer_key.to_uppercase()))
        );
    }
    let (mut secrets, mut roles) = (BTreeMap::new(), Roles::default());
    // What stands in the address is meant by it; what does not may come from where the secrets come from.
    let (service, settings) = (address.service(), address.settings());
    let options = service.options.iter().filter(|key| !settings.contains_key(**key));
    for key in service.secrets.iter().chain(options) {
        if let Some(value) = environment.secrets.of_mirror(name.as_deref(), key) {
            secrets.insert((*key).to_owned(), value);
        }
    }
    if let Some(command) = credentials_command {
        let printed = secret::command_output(command, "credentials command", &environment.stop)?;
        let text = String::from_utf8_lossy(&printed).into_owned();
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let known = line
                .split_once('=')
                .filter(|(key, _)| address.service().secrets.contains(key) || address.service().options.contains(key));
            let (key, value) = known.ok_or_else(|| {
                Failure::failed(format!(
                    "the credentials command printed a line that is no secret or option of {}: expected lines like {}=...",
                    address.service().scheme,
                    address.service().secrets.first().unwrap_or(&"key"),
                ))
            })?;
            secrets.insert(key.to_owned(), value.to_owned());
        }
    }
    if address.service().scheme == "s3" {
        roles = add_profile(environment, address, &mut secrets)?;
    }
    let opened = Remote::open(address, &secrets, &roles);
    let remote = opened.map_err(|error| repository::Error::from(error.at_mirror(&Arc::new(at.clone()))))?;
    Ok(Arc::new(AtMirror::new(remote.ended_by(environment.stop.clone()), at)))
}

/// What the files of AWS say about a store of S3, where neither its address nor a variable says it.
fn profile_of(address: &Address, secrets: &BTreeMap<String, String>) -> Result<Profile, Failure> {
    let mut settings = address.settings();
    settings.extend(secrets.iter().map(|(key, value)| (key.clone(), value.clone())));
    aws_profile::look_up(&settings, &|name| std::env::var(name).ok()).map_err(|why| {
        Failure::failed(why).remedy(
            "the profile is named by --option profile=NAME or AWS_PROFILE, the files by AWS_CONFIG_FILE and AWS_SHARED_CREDENTIALS_FILE",
        )
    })
}

/// Adds them to the settings of the store: region, endpoint, keys of another profile, and what a `credential_process` prints. Returns the roles that are to
/// be taken.
fn add_profile(
    environment: &Environment,
    address: &Address,
    secrets: &mut BTreeMap<String, String>,
) -> Result<Roles, Failure> {
    let profile = profile_of(address, secrets)?;
    let is_named = address.settings().get("region").is_some_and(|region| !region.is_empty());
    if !is_named && !profile.settings.contains_key("region") {
        return Err(Failure::failed(format!("no region is known for {address}"))
            .remedy("name it: --option region=REGION, AWS_REGION, or region in a profile. Stores that are not Amazon's mostly take us-east-1"));
    }
    secrets.extend(profile.settings);
    if let Some(command) = profile.credential_process {
        let printed = secret::command_output(&command, "credential_process", &environment.stop)?;
        let answer: ProcessAnswer = serde_json::from_slice(&printed).map_err(|error| {
            // The text itself holds secrets.
            let at = format!("line {}, column {}", error.line(), error.column());
            Failure::failed(format!(
                "what the credential_process of the profile printed is not understood ({at}): expected JSON with AccessKeyId and SecretAccessKey"
            ))
        })?;
        secrets.insert("access_key_id".to_owned(), answer.access_key_id);
        secrets.insert("secret_access_key".to_owned(), answer.secret_access_key);
        secrets.extend(answer.session_token.map(|token| ("session_token".to_owned(), token)));
    }
    if let Some(Keys { id, secret, session_token }) = profile.keys {
        secrets.insert("access_key_id".to_owned(), id);
        secrets.insert("secret_access_key".to_owned(), secret);
        secrets.extend(session_token.map(|token| ("session_token".to_owned(), token)));
    }
    Ok(profile.roles)
}

/// What a `credential_process` prints.
#[derive(serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ProcessAnswer {
    access_key_id: String,
    secret_access_key: String,
    session_token: Option<String>,
}

/// The address with what a variable or a profile says about it now: region and endpoint belong to where a mirror is, and a new machine has neither.
///
/// # Errors
/// When a file of profiles cannot be read, or has not the one that is named.
pub fn complete(address: Address) -> Result<Address, Failure> {
    if address.service().scheme != "s3" {
        return Ok(address);
    }
    let found = profile_of(&address, &BTreeMap::new())?.settings;
    found.into_iter().try_fold(address, |address, (key, value)| Ok(address.with_option(&key, &value)?))
}

/// A mirror in the repository, or the other way round, is no second copy.
///
/// # Errors
/// A usage error that says so.
pub fn refuse_same(environment: &Environment, address: &Address) -> Result<(), Failure> {
    let Some(directory) = address.directory() else { return Ok(()) };
    // What is not there yet has a parent that is.
    let real = |path: &Path| {
        let there = path.ancestors().find(|path| path.exists())?;
        let rest = path.strip_prefix(there).ok()?;
        Some(there.canonicalize().ok()?.join(rest))
    };
    let place = repositories::place(environment)?;
    match (real(&place), real(directory)) {
        (Some(place), Some(mirror)) if place.starts_with(&mirror) || mirror.starts_with(&place) => {
            let shown = escape(directory.as_os_str().as_encoded_bytes());
            Err(Failure::usage(format!(
                "{shown} is the repository itself, or lies in it, or around it: that is no second copy"
            ))
            .remedy("choose a directory on another disk, or an address like s3://BUCKET/PATH"))
        }
        _ => Ok(()),
    }
}

/// One sync or repair of a mirror at a time: the lock ends with the process.
///
/// # Errors
/// [`Kind::Locked`] when another process has it, and still has it when the time for which locks are waited for is over.
pub fn lock_mirror(environment: &Environment, repository: RepositoryId, name: &str) -> Result<std::fs::File, Failure> {
    let until = Instant::now() + environment.retry_lock;
    let failed =
        |error: std::io::Error| Failure::failed(format!("the lock of mirror {name} cannot be had")).caused_by(error);
    let path = folder(environment)?.join(format!("{repository}-{name}.lock"));
    let file = private::open(&path).map_err(failed)?;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(std::fs::TryLockError::WouldBlock) if Instant::now() < until => {
                if environment.stop.is_set() {
                    return Err(Failure::interrupted());
                }
                std::thread::sleep(LOOKED_AGAIN.min(until.saturating_duration_since(Instant::now())));
            }
            Err(std::fs::TryLockError::WouldBlock) => {
                let busy = Failure::new(Kind::Locked, format!("another process is at work on mirror {name}"));
                return Err(busy.remedy(
                    "wait for it, for example with --retry-lock 10m; the lock ends with the process that holds it",
                ));
            }
            Err(std::fs::TryLockError::Error(error)) => return Err(failed(error)),
        }
    }
}

/// A mirror in a directory is written as a repository is: durable before anything relies on it.
fn local(directory: &Path, make: bool, at: &MirrorPlace) -> Result<Local, Failure> {
    let at = Arc::new(at.clone());
    let failed = |error: storage::Error| repository::Error::from(error.at_mirror(&at));
    if make && !directory.exists() {
        return match Local::create_last(directory) {
            Err(error) if error.kind == ErrorKind::Absent => Err(no_parent(directory)),
            made => Ok(made.map_err(failed)?),
        };
    }
    Local::open(directory).map_err(|error| {
        if !error.kind.is_about_object() {
            return failed(error).into();
        }
        Failure::new(Kind::Failed, format!("{error}"))
            .remedy(concat!("is its disk mounted? A new directory is made by: ", suggest!("mirror add NAME DIRECTORY")))
    })
}

/// Refuses a directory that could not be made, because what it lies in is not there.
///
/// # Errors
/// The refusal.
pub fn require_parent(directory: &Path) -> Result<(), Failure> {
    let is_there = directory.parent().is_none_or(Path::is_dir);
    if is_there { Ok(()) } else { Err(no_parent(directory)) }
}

fn no_parent(directory: &Path) -> Failure {
    let shown = |path: &Path| escape(path.as_os_str().as_encoded_bytes());
    let parent = directory.parent().unwrap_or(directory);
    Failure::failed(format!("{} cannot be made: the directory {} is not there", shown(directory), shown(parent))).remedy(
        "is its disk mounted? Only the last directory of a mirror's path is made, so that a mirror never lands on the disk beneath a mount point",
    )
}
