//! `init`: a new repository.

use super::Context;
use super::exit::Exit;
use super::json::Initialized;
use super::recovery;
use super::terminal::Terminal;
use crate::base::command::suggest;
use crate::base::escape::escape;
use crate::base::time::Time;
use crate::codec::chunker::Parameters;
use crate::codec::kdf::Params;
use crate::codec::key_slot::Secret;
use crate::ops::key_file::{self, Making};
use crate::repository::keyring::{self, NewSlot};
use crate::repository::{CreateOptions, Repository};
use crate::storage::ErrorKind;
use crate::storage::local::Local;
use crate::tasks::environment::secret::Question;
use crate::tasks::environment::{own_places, repositories};
use crate::tasks::failure::Failure;
use crate::text::size;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Create a new, empty repository
///
/// Asks for a passphrase twice on a terminal, and shows a recovery code once.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Arguments {
    /// Average size of the chunks that files are cut into; a quarter and four times of it are the bounds (k, M: powers of 1024)
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    pub chunk_size: Option<u64>,
    /// Memory that one guess of the passphrase costs, 64M to 1G
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    pub kdf_memory: Option<u64>,
    /// Make a key file here and open the repository with it instead of a passphrase; the file must not exist, unless an interrupted run of
    /// this very command made it
    #[arg(long, value_name = "FILE", conflicts_with_all = ["kdf_memory"])]
    pub new_key_file: Option<PathBuf>,
    /// Make no recovery code
    #[arg(long)]
    pub no_recovery_code: bool,
    /// Change nothing, only say what would be done
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}

/// Runs the command.
///
/// # Errors
/// As [`create`].
pub fn run(arguments: &Arguments, context: &mut Context) -> Result<Exit, Failure> {
    let place = repositories::place(&context.environment)?;
    let shown = escape(place.as_os_str().as_bytes());
    if arguments.dry_run {
        parameters(arguments)?;
        kdf(arguments.kdf_memory)?;
        refuse_expectations(context)?;
        if repositories::exists(&place) {
            return Err(Failure::failed(format!("{shown} cannot become a new repository: there is one already")));
        }
        own_places::refuse_beneath(&context.environment, &context.watch(), &place)?;
        context.output.info(format!("would create a repository at {shown}"))?;
        return Ok(Exit::Success);
    }
    let repository = create(arguments, context, &place, "init")?;
    if context.output.json {
        context.output.json(&Initialized::new(repository.id().to_string(), place.as_os_str().as_bytes()))?;
    }
    context.output.info(concat!("Next: ", suggest!("backup PATH")))?;
    Ok(Exit::Success)
}

/// Makes a repository at `place`, with a recovery code where one can be shown.
///
/// # Errors
/// When something is there, the secret cannot be had, or the disk says no.
pub fn create(
    arguments: &Arguments,
    context: &mut Context,
    place: &Path,
    command: &str,
) -> Result<Repository, Failure> {
    let files = parameters(arguments)?;
    let kdf = kdf(arguments.kdf_memory)?;
    refuse_expectations(context)?;
    let shown = escape(place.as_os_str().as_bytes());
    if repositories::exists(place) {
        if let Some(repository) = made_before(arguments, context, place, command, files)? {
            return Ok(repository);
        }
        return Err(Failure::failed(format!("{shown} cannot become a new repository: there is one already"))
            .remedy(concat!("choose another directory with --repo, or open it: ", suggest!("snapshots"))));
    }
    own_places::refuse_beneath(&context.environment, &context.watch(), place)?;
    if let Some(path) = &arguments.new_key_file {
        own_places::refuse_key_in(&context.environment, &context.watch(), path)?;
    }
    context.output.info(format!("New repository {shown}"))?;
    let mut making = arguments.new_key_file.as_deref().map(|path| begin_key_file(path, place)).transpose()?;
    let asked = match &making {
        Some(_) => None,
        None => Some(repositories::make_secret(context.environment.secret(Question::Create("Passphrase"))?)?),
    };
    let storage = Local::create(place).map_err(crate::repository::Error::from)?;
    let disk = storage.clone();
    let access = repositories::access_at(&context.environment, &context.watch(), place, storage, command)?;
    let created = Time::now();
    let wanted = !arguments.no_recovery_code && context.output.terminal && !context.output.json;
    let code = match wanted.then(|| Terminal::open(&context.environment.stop)).flatten() {
        Some(mut terminal) => {
            let code = recovery::generate()?;
            let confirmed = recovery::show_once(&mut terminal, &code)?;
            if !confirmed {
                context.output.info("The recovery code was not confirmed: it opens nothing, throw it away")?;
            }
            confirmed.then_some(Secret::RecoveryCode(code))
        }
        None => None,
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
        context.output.warn(
            "the file system there has no hard links and no rename that never replaces: let one machine at a time write to this repository",
        );
    }
    say_no_code(arguments, context, &repository)?;
    Ok(repository)
}

fn say_no_code(arguments: &Arguments, context: &Context, repository: &Repository) -> Result<(), Failure> {
    if arguments.no_recovery_code || !repository.recovery_codes().is_empty() {
        return Ok(());
    }
    context.output.info(concat!("No recovery code yet. Make one on a terminal: ", suggest!("key recovery-code")))
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

/// The repository at `place`, when an earlier run of the same command has made it: the key file that was to be made is there and opens it, and
/// nothing has been stored since.
fn made_before(
    arguments: &Arguments,
    context: &Context,
    place: &Path,
    command: &str,
    files: Parameters,
) -> Result<Option<Repository>, Failure> {
    let Some((path, secret)) = arguments.new_key_file.as_deref().and_then(|it| Some((it, key_file::made_before(it)?)))
    else {
        return Ok(None);
    };
    let Ok(storage) = Local::open(place) else { return Ok(None) };
    let opened = Repository::open(
        repositories::access_at(&context.environment, &context.watch(), place, storage, command)?,
        &secret,
    );
    let is_new =
        |repository: &Repository| repository.tip().reference().generation == 1 && repository.config().files == files;
    let Some(repository) = opened.ok().filter(is_new) else {
        return Ok(None);
    };
    let shown = |path: &Path| escape(path.as_os_str().as_bytes());
    let (place, path) = (shown(place), shown(path));
    context
        .output
        .info(format!("{place} is there already, new and empty, and {path} opens it: an earlier run made both"))?;
    say_no_code(arguments, context, &repository)?;
    Ok(Some(repository))
}

/// Who names a repository, or a state of it, does not mean a new one.
fn refuse_expectations(context: &Context) -> Result<(), Failure> {
    let expected = context.environment.expected.clone();
    if expected.ids.is_empty() && expected.head.is_none() {
        return Ok(());
    }
    Err(Failure::usage("a new repository has an id and heads of its own: --repo-id and --expect-head cannot be met")
        .remedy("is the disk of the one that you mean mounted?"))
}

fn parameters(arguments: &Arguments) -> Result<Parameters, Failure> {
    let Some(average) = arguments.chunk_size else { return Ok(Parameters::FILES) };
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
