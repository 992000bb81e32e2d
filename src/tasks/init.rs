//! Create a new, empty repository, with the key that opens it and a recovery code.

use super::environment::secret::Question;
use super::environment::{Environment, own_places, repositories};
use super::failure::Failure;
use crate::base::command::suggest;
use crate::base::escape::escape;
use crate::base::time::Time;
use crate::codec::chunker::Parameters;
use crate::codec::kdf::Params;
use crate::codec::key_slot::Secret;
use crate::codec::recovery_code::RecoveryCode;
use crate::ops::key_file::{self, Making};
use crate::ops::{Monitor, Problem, Subject};
use crate::repository::keyring::{self, NewSlot};
use crate::repository::remembered::Recalled;
use crate::repository::{CreateOptions, Repository};
use crate::storage::ErrorKind;
use crate::storage::local::Local;
use crate::text::size;
use serde::Deserialize;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// What it is to be like.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Request {
    /// Average size of the chunks that files are cut into, in bytes.
    #[serde(deserialize_with = "super::text_form::size")]
    pub chunk_size: Option<u64>,
    /// Bytes of memory that one guess of the passphrase costs.
    #[serde(deserialize_with = "super::text_form::size")]
    pub kdf_memory: Option<u64>,
    /// Make a key file here and open the repository with it instead of a passphrase.
    pub new_key_file: Option<PathBuf>,
    /// Make no recovery code.
    pub no_recovery_code: bool,
}

/// What a face does while a repository is made.
pub trait Offer {
    /// A repository is made there, and its secret is asked for next.
    ///
    /// # Errors
    /// When that cannot be shown: nothing is made then.
    fn begin(&mut self, place: &Path) -> Result<(), Failure>;

    /// Makes a recovery code and shows it; none where nobody can see it, or when it was not confirmed.
    ///
    /// # Errors
    /// When it cannot be shown: nothing is made then.
    fn recovery_code(&mut self) -> Result<Option<RecoveryCode>, Failure>;
}

/// Nobody is there: nothing is shown, and there is no recovery code.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unattended;

impl Offer for Unattended {
    fn begin(&mut self, _: &Path) -> Result<(), Failure> {
        Ok(())
    }

    fn recovery_code(&mut self) -> Result<Option<RecoveryCode>, Failure> {
        Ok(None)
    }
}

/// A new repository.
#[derive(Debug)]
pub struct Created {
    /// It, open.
    pub repository: Repository,
    /// The key file with which an earlier run of the same request has made it.
    pub made_before: Option<PathBuf>,
}

/// Makes a repository where the environment says.
///
/// # Errors
/// As [`create`].
pub fn run(
    request: &Request,
    environment: &Environment,
    monitor: &dyn Monitor,
    offer: &mut dyn Offer,
) -> Result<Created, Failure> {
    let place = repositories::place(environment)?;
    create(request, &place, "init", environment, monitor, offer)
}

/// Finds out whether one could be made there, and changes nothing.
///
/// # Errors
/// Why not.
pub fn check(request: &Request, place: &Path, environment: &Environment, monitor: &dyn Monitor) -> Result<(), Failure> {
    parameters(request)?;
    kdf(request.kdf_memory)?;
    refuse_expectations(environment)?;
    if repositories::exists(place) {
        let shown = escape(place.as_os_str().as_bytes());
        return Err(Failure::failed(format!("{shown} cannot become a new repository: there is one already")));
    }
    own_places::refuse_beneath(environment, monitor, place)
}

/// What [`open_or_create`] came to.
#[derive(Debug)]
pub enum OpenedOrCreated {
    /// It was there.
    Opened(Repository),
    /// It is new.
    Created(Created),
}

/// Opens the repository where the environment says, or makes one where there is nothing and nothing is remembered: a disk that is not mounted
/// must not become an empty repository. `command` is the name that other processes read while this one holds a lock.
///
/// # Errors
/// When it cannot be opened; when this machine knows one at that place; when one would have to be made in a dry run; as [`create`].
pub fn open_or_create(
    request: &Request,
    is_dry_run: bool,
    command: &str,
    environment: &Environment,
    monitor: &dyn Monitor,
    offer: &mut dyn Offer,
) -> Result<OpenedOrCreated, Failure> {
    let place = repositories::place(environment)?;
    if repositories::exists(&place) {
        return Ok(OpenedOrCreated::Opened(repositories::open_repository(environment, monitor, command)?));
    }
    if repositories::memory(environment, monitor).at(&place) != Recalled::Nothing {
        return Err(repositories::nothing_at(environment, monitor, &place));
    }
    if is_dry_run {
        return Err(Failure::usage("--dry-run needs a repository, and --init would have to make one"));
    }
    Ok(OpenedOrCreated::Created(create(request, &place, command, environment, monitor, offer)?))
}

/// Makes a repository at `place`. `command` is the name that other processes read while this one holds a lock.
///
/// # Errors
/// When something is there, the secret cannot be had, or the disk refuses.
pub fn create(
    request: &Request,
    place: &Path,
    command: &str,
    environment: &Environment,
    monitor: &dyn Monitor,
    offer: &mut dyn Offer,
) -> Result<Created, Failure> {
    let files = parameters(request)?;
    let kdf = kdf(request.kdf_memory)?;
    refuse_expectations(environment)?;
    let shown = escape(place.as_os_str().as_bytes());
    if repositories::exists(place) {
        if let Some((repository, key_file)) = find_made_before(request, environment, monitor, place, command, files)? {
            return Ok(Created { repository, made_before: Some(key_file) });
        }
        return Err(Failure::failed(format!("{shown} cannot become a new repository: there is one already"))
            .remedy(concat!("choose another directory with --repo, or open it: ", suggest!("snapshots"))));
    }
    own_places::refuse_beneath(environment, monitor, place)?;
    if let Some(path) = &request.new_key_file {
        own_places::refuse_key_in(environment, monitor, path)?;
    }
    offer.begin(place)?;
    let mut making = request.new_key_file.as_deref().map(|path| begin_key_file(path, place)).transpose()?;
    let asked = match &making {
        Some(_) => None,
        None => Some(repositories::make_secret(environment.secret(Question::Create("Passphrase"))?)?),
    };
    let storage = Local::create(place).map_err(crate::repository::Error::from)?;
    let disk = storage.clone();
    let access = repositories::access_at(environment, monitor, place, storage, command)?;
    let created = Time::now();
    let code = match request.no_recovery_code {
        true => None,
        false => offer.recovery_code()?.map(Secret::RecoveryCode),
    };
    let options = CreateOptions { files, created };
    let create = |secret: &Secret, keep: &mut dyn FnMut() -> crate::repository::Result<()>| {
        let mut slots = vec![NewSlot { secret, kdf, label: "", created }];
        slots.extend(code.as_ref().map(|secret| NewSlot { secret, kdf, label: "", created }));
        Repository::create_keeping(access, &slots, &options, keep).map_err(|error| match &code {
            Some(_) if !repositories::exists(place) => {
                Failure::from(error).remedy("the recovery code that was shown opens nothing: throw it away")
            }
            _ => error.into(),
        })
    };
    let repository = match (&mut making, &asked) {
        (Some(making), _) => {
            let secret = making.copy_of_secret();
            create(&secret, &mut || making.keep())?
        }
        (None, Some(secret)) => create(secret, &mut || Ok(()))?,
        (None, None) => return Err(Failure::failed("a repository needs a key")),
    };
    if disk.wants_one_machine() {
        let message = "the file system there has no hard links and no rename that never replaces: let one machine at a time write to this repository";
        monitor.problem(&Problem::warning(Subject::Machine, message));
    }
    Ok(Created { repository, made_before: None })
}

/// A new key file, or the one that an interrupted `init` at this place has made.
fn begin_key_file(path: &Path, place: &Path) -> Result<Making, Failure> {
    let opens = |secret: &Secret| match Local::open(place) {
        Ok(storage) => Ok(!keyring::opened_by(&storage, secret)?.is_empty()),
        Err(error) if error.kind == ErrorKind::Absent => Ok(false),
        Err(error) => Err(crate::repository::Error::from(error).into()),
    };
    Ok(Making::begin(path, opens)?)
}

/// The repository at `place`, when an earlier run of the same request has made it: the key file that was to be made is there and opens it, and
/// nothing has been stored since.
fn find_made_before(
    request: &Request,
    environment: &Environment,
    monitor: &dyn Monitor,
    place: &Path,
    command: &str,
    files: Parameters,
) -> Result<Option<(Repository, PathBuf)>, Failure> {
    let Some((path, secret)) = request.new_key_file.as_deref().and_then(|it| Some((it, key_file::made_before(it)?)))
    else {
        return Ok(None);
    };
    let Ok(storage) = Local::open(place) else { return Ok(None) };
    let opened = Repository::open(repositories::access_at(environment, monitor, place, storage, command)?, &secret);
    let is_new =
        |repository: &Repository| repository.tip().reference().generation == 1 && repository.config().files == files;
    Ok(opened.ok().filter(is_new).map(|repository| (repository, path.to_path_buf())))
}

/// Who names a repository, or a state of it, does not mean a new one.
fn refuse_expectations(environment: &Environment) -> Result<(), Failure> {
    let expected = &environment.expected;
    if expected.ids.is_empty() && expected.head.is_none() {
        return Ok(());
    }
    Err(Failure::usage("a new repository has an id and heads of its own: --repo-id and --expect-head cannot be met")
        .remedy("is the disk of the one that you mean mounted?"))
}

fn parameters(request: &Request) -> Result<Parameters, Failure> {
    let Some(average) = request.chunk_size else { return Ok(Parameters::FILES) };
    let parameters = u32::try_from(average)
        .ok()
        .filter(|average| *average <= 4 << 20)
        .map(|average| Parameters { min: average / 4, average, max: average * 4 })
        .filter(Parameters::is_valid);
    parameters
        .ok_or_else(|| Failure::usage(format!("--chunk-size {} cannot be: it goes from 4k to 4M", size::show(average))))
}

/// Key derivation parameters with `memory` bytes.
///
/// # Errors
/// A usage error outside the limits.
pub fn kdf(memory: Option<u64>) -> Result<Params, Failure> {
    let Some(memory) = memory else { return Ok(Params::DEFAULT) };
    let params = u32::try_from(memory >> 10).ok().map(|memory_kib| Params { memory_kib, ..Params::DEFAULT });
    params
        .filter(|params| params.check().is_ok())
        .ok_or_else(|| Failure::usage(format!("--kdf-memory {} cannot be: it goes from 64M to 1G", size::show(memory))))
}
