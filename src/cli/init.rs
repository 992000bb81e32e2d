//! `init`: a new repository.

use super::Context;
use super::exit::{CliError, Exit};
use super::json::Initialized;
use super::open;
use super::own;
use super::recovery;
use super::secret::Question;
use super::size;
use super::terminal::Terminal;
use crate::base::escape::escape;
use crate::base::private;
use crate::base::time::Time;
use crate::codec::chunker::Parameters;
use crate::codec::kdf::Params;
use crate::codec::key_file::{self, KeyFile};
use crate::codec::key_slot::Secret;
use crate::repository::keyring::NewSlot;
use crate::repository::{CreateOptions, Repository};
use crate::storage::local::Local;
use std::fs::File;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

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
    /// Make a key file here and open the repository with it instead of a passphrase; the file must not exist
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
pub fn run(arguments: &Arguments, context: &mut Context) -> Result<Exit, CliError> {
    let place = open::place(context)?;
    let shown = escape(place.as_os_str().as_bytes());
    if arguments.dry_run {
        parameters(arguments)?;
        kdf(arguments.kdf_memory)?;
        if open::exists(&place) {
            return Err(CliError::failed(format!("{shown} cannot become a new repository: there is one already")));
        }
        own::refuse_beneath(context, &place)?;
        context.output.info(format!("would create a repository at {shown}"))?;
        return Ok(Exit::Success);
    }
    let repository = create(arguments, context, &place, "init", false)?;
    if context.output.json {
        context.output.json(&Initialized::new(repository.id().to_string(), place.as_os_str().as_bytes()))?;
    }
    context.output.info(format!("Next: packstone -r {shown} backup PATH"))?;
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
    stdin_taken: bool,
) -> Result<Repository, CliError> {
    let files = parameters(arguments)?;
    let kdf = kdf(arguments.kdf_memory)?;
    let shown = escape(place.as_os_str().as_bytes());
    if open::exists(place) {
        return Err(CliError::failed(format!("{shown} cannot become a new repository: there is one already"))
            .hint("open it: packstone snapshots; or choose another directory with --repo"));
    }
    own::refuse_beneath(context, place)?;
    if let Some(path) = &arguments.new_key_file {
        own::refuse_key_in(context, path)?;
    }
    context.output.info(format!("New repository {shown}"))?;
    let secret = match &arguments.new_key_file {
        Some(path) => make_key_file(path)?,
        None => open::new_secret(context.secret(Question::Create("Passphrase"), stdin_taken)?)?,
    };
    let storage = Local::create(place).map_err(crate::repository::Error::from)?;
    let disk = storage.clone();
    let access = open::access(context, place, storage, command)?;
    let created = Time::now();
    let wanted = !arguments.no_recovery_code && context.output.terminal && !context.output.json;
    let code = match wanted.then(|| Terminal::open(&context.interrupt)).flatten() {
        Some(mut terminal) => {
            let code = recovery::generate()?;
            recovery::show_once(&mut terminal, &code)?.then_some(Secret::RecoveryCode(code))
        }
        None => None,
    };
    let first = NewSlot { secret: &secret, kdf, label: "", created };
    let mut slots = vec![first];
    if let Some(code) = &code {
        slots.push(NewSlot { secret: code, kdf, label: "", created });
    }
    let repository = Repository::create(access, &slots, &CreateOptions { files, created })?;
    if disk.wants_one_machine() {
        context.output.warn(
            "the file system there has no hard links and no rename that never replaces: let one machine at a time write to this repository",
        );
    }
    if code.is_none() && !arguments.no_recovery_code {
        context.output.info("No recovery code yet. Make one on a terminal: packstone key recovery-code")?;
    }
    Ok(repository)
}

/// Makes a key file that did not exist, readable by its owner only.
///
/// # Errors
/// When there is a file already, or it cannot be written.
pub fn make_key_file(path: &Path) -> Result<Secret, CliError> {
    let shown = escape(path.as_os_str().as_bytes());
    let failed = |error: std::io::Error| CliError::failed(format!("cannot make the key file {shown}")).caused_by(error);
    let mut random = Zeroizing::new([0; key_file::SECRET_BYTES]);
    getrandom::fill(random.as_mut()).map_err(|_| CliError::failed("the system's random generator failed"))?;
    let key = KeyFile::generate(&random);
    let mut file = private::create(path).map_err(failed)?;
    file.write_all(key.encode().as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
    // It may be the only key: its name must be as durable as the repository.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
    Ok(Secret::KeyFile(key))
}

fn parameters(arguments: &Arguments) -> Result<Parameters, CliError> {
    let Some(average) = arguments.chunk_size else { return Ok(Parameters::FILES) };
    let parameters = u32::try_from(average)
        .ok()
        .filter(|average| *average <= 4 << 20)
        .map(|average| Parameters { min: average / 4, average, max: average * 4 })
        .filter(Parameters::is_valid);
    parameters.ok_or_else(|| {
        CliError::usage(format!("--chunk-size {} cannot be: it goes from 4k to 4M", size::show(average)))
    })
}

/// Key derivation parameters with `memory` bytes.
///
/// # Errors
/// A usage error outside the limits.
pub fn kdf(memory: Option<u64>) -> Result<Params, CliError> {
    let Some(memory) = memory else { return Ok(Params::DEFAULT) };
    let params = u32::try_from(memory >> 10).ok().map(|memory_kib| Params { memory_kib, ..Params::DEFAULT });
    params.filter(|params| params.check().is_ok()).ok_or_else(|| {
        CliError::usage(format!("--kdf-memory {} cannot be: it goes from 64M to 1G", size::show(memory)))
    })
}
