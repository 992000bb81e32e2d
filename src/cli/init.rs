//! `init`: a new repository.

use super::Context;
use super::exit::Exit;
use super::json::Initialized;
use super::output::Output;
use super::recovery;
use super::terminal::Terminal;
use crate::base::command::suggest;
use crate::base::escape::escape;
use crate::base::stop::StopSignal;
use crate::codec::recovery_code::RecoveryCode;
use crate::repository::Repository;
use crate::tasks::environment::repositories;
use crate::tasks::failure::Failure;
use crate::tasks::init::{self, Created, Offer, OpenedOrCreated, Request};
use crate::tasks::key::recovery_code;
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

impl Arguments {
    fn request(&self) -> Request {
        Request {
            chunk_size: self.chunk_size,
            kdf_memory: self.kdf_memory,
            new_key_file: self.new_key_file.clone(),
            no_recovery_code: self.no_recovery_code,
        }
    }
}

/// Runs the command.
///
/// # Errors
/// As [`init::run`].
pub fn run(arguments: &Arguments, context: &mut Context) -> Result<Exit, Failure> {
    let place = repositories::place(&context.environment)?;
    let shown = escape(place.as_os_str().as_bytes());
    if arguments.dry_run {
        init::check(&arguments.request(), &place, &context.environment, &context.watch())?;
        context.output.info(format!("would create a repository at {shown}"))?;
        return Ok(Exit::Success);
    }
    let mut screen = Screen::new(context);
    let created = init::run(&arguments.request(), &context.environment, &context.watch(), &mut screen)?;
    say_created(arguments, context, &created)?;
    if context.output.json {
        let id = created.repository.id().to_string();
        context.output.json(&Initialized::new(id, place.as_os_str().as_bytes()))?;
    }
    context.output.info(concat!("Next: ", suggest!("backup PATH")))?;
    Ok(Exit::Success)
}

/// Opens the repository, or makes it with a recovery code where one can be shown.
///
/// # Errors
/// As [`init::open_or_create`].
pub fn open_or_create(
    arguments: &Arguments,
    is_dry_run: bool,
    command: &str,
    context: &Context,
) -> Result<Repository, Failure> {
    let (request, mut screen) = (arguments.request(), Screen::new(context));
    let (environment, watch) = (&context.environment, context.watch());
    match init::open_or_create(&request, is_dry_run, command, environment, &watch, &mut screen)? {
        OpenedOrCreated::Opened(repository) => Ok(repository),
        OpenedOrCreated::Created(created) => {
            say_created(arguments, context, &created)?;
            Ok(created.repository)
        }
    }
}

fn say_created(arguments: &Arguments, context: &Context, created: &Created) -> Result<(), Failure> {
    let output = context.output;
    if let Some(key_file) = &created.made_before {
        let place = repositories::place(&context.environment)?;
        let [place, path] = [place.as_path(), key_file].map(|path| escape(path.as_os_str().as_bytes()));
        output
            .info(format!("{place} is there already, new and empty, and {path} opens it: an earlier run made both"))?;
    }
    if !arguments.no_recovery_code && created.repository.recovery_codes().is_empty() {
        output.info(concat!("No recovery code yet. Make one on a terminal: ", suggest!("key recovery-code")))?;
    }
    Ok(())
}

/// Whoever typed the command.
struct Screen {
    output: Output,
    stop: StopSignal,
}

impl Screen {
    fn new(context: &Context) -> Self {
        Self { output: context.output, stop: context.environment.stop.clone() }
    }
}

impl Offer for Screen {
    fn begin(&mut self, place: &Path) -> Result<(), Failure> {
        self.output.info(format!("New repository {}", escape(place.as_os_str().as_bytes())))
    }

    fn recovery_code(&mut self) -> Result<Option<RecoveryCode>, Failure> {
        let may_show = self.output.terminal && !self.output.json;
        let Some(mut terminal) = may_show.then(|| Terminal::open(&self.stop)).flatten() else { return Ok(None) };
        let code = recovery_code::generate()?;
        let confirmed = recovery::show_once(&mut terminal, &code)?;
        if !confirmed {
            self.output.info("The recovery code was not confirmed: it opens nothing, throw it away")?;
        }
        Ok(confirmed.then_some(code))
    }
}
