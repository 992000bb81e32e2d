//! `recover`: a repository from a mirror alone.

use super::Context;
use super::exit::Exit;
use super::options::parse_head_code;
use super::output::Output;
use super::progress::Work;
use super::watch::Watch;
use crate::base::command::suggest;
use crate::base::escape::escape;
use crate::base::id::RepositoryId;
use crate::codec::head::HeadRef;
use crate::codec::head_code::HeadCode;
use crate::ops::check;
use crate::ops::recover;
use crate::repository::freshness::Grade;
use crate::repository::lock::Locks;
use crate::repository::public_view::PublicView;
use crate::repository::remembered::Remembered;
use crate::repository::{self, Access, Repository};
use crate::storage::Storage;
use crate::storage::local::Local;
use crate::storage::read_only::ReadOnly;
use crate::tasks::environment::freshness::About;
use crate::tasks::environment::secret::Question;
use crate::tasks::environment::{freshness, mirrors, own_places, repositories};
use crate::tasks::failure::{Failure, Kind};
use crate::text::size;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bring the repository back from a mirror alone
///
/// Any passphrase, recovery code or key file of the repository opens it. Interrupt freely: the same command goes on where it stopped.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// Where the mirror is: s3://BUCKET/PATH and the like, a directory, or a mirror's name
    #[arg(value_name = "ADDRESS")]
    pub mirror: String,
    /// An option of the service, such as endpoint=https://... (can be given multiple times)
    #[arg(short, long = "option", value_name = "KEY=VALUE")]
    pub option: Vec<String>,
    /// Run this command, without a shell, for the credentials: it prints lines KEY=VALUE
    #[arg(long, value_name = "COMMAND")]
    pub credentials_command: Option<String>,
    /// Where the repository is to be [default: where --repo says]
    #[arg(long, value_name = "DIRECTORY")]
    pub to: Option<PathBuf>,
    /// Bring back the older state with this state code
    #[arg(long, value_name = "CODE", value_parser = parse_head_code)]
    pub head: Option<HeadCode>,
    /// Fetch so many objects at the same time
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub connections: u16,
    /// Change nothing, only say what would be fetched
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}

/// Runs the command.
///
/// # Errors
/// [`Exit::Rollback`] for a state that is older than is known; [`Exit::WrongPassword`]; damage; storage errors.
pub fn run(arguments: &Arguments, context: &mut Context) -> Result<Exit, Failure> {
    recover(arguments, context).map_err(|error| error.reading_from(&arguments.mirror))
}

fn recover(arguments: &Arguments, context: &mut Context) -> Result<Exit, Failure> {
    let expected = context.environment.expected.clone();
    if arguments.head.is_some() && expected.head.is_some() {
        return Err(Failure::usage(
            "--head brings back an older state, and --expect-head refuses one: give one of them",
        ));
    }
    let place = match &arguments.to {
        Some(to) => std::path::absolute(to)
            .map_err(|error| Failure::failed("the current directory cannot be determined").caused_by(error))?,
        None => repositories::place(&context.environment)?,
    };
    let shown = escape(place.as_os_str().as_bytes());
    let occupied = || {
        Failure::failed(format!("{shown} holds a repository already"))
            .remedy(concat!("choose another directory with --to. To see how this one is: ", suggest!("check")))
            .at(&place)
    };
    let here =
        if repositories::exists(&place) { Some(repositories::read_id(&place).ok_or_else(occupied)?) } else { None };
    own_places::refuse_beneath(&context.environment, &context.watch(), &place)?;
    let (store, from) = {
        let mut place = mirrors::find_mirror(&context.environment, &context.watch(), &arguments.mirror)?;
        if !arguments.option.is_empty() {
            place.address = crate::storage::address::Address::parse(&place.address.to_string(), &arguments.option)?;
        }
        place.credentials_command = arguments.credentials_command.clone().or(place.credentials_command);
        (mirrors::open_store(&context.environment, &place, false)?, place)
    };
    let mut storage = ReadOnly::new(store);
    let wanted = arguments.head.map(|code| recover::named(&storage, &code)).transpose()?;
    if let Some(head) = wanted {
        storage = storage.as_of(head.generation, head.id);
    }
    let storage: Arc<dyn Storage> = Arc::new(storage);
    let bare = Access::of_mirror(Arc::clone(&storage), from.path());
    let of_mirror =
        repositories::memory_of_mirror(&context.environment, &context.watch(), &from, false)?.expecting(expected);
    // A state that was asked for by its code may be older than what was seen.
    let remembered = wanted.is_none().then(|| of_mirror.clone());
    let access = Access { remembered, ..bare };
    let mirror = PublicView::open(access.clone()).map_err(|error| refused(error, &from, &access))?;
    of_mirror.require_identity(&access.place, mirror.id())?;
    let memory = repositories::memory(&context.environment, &context.watch());
    let tip = match wanted {
        Some(head) => recover::older(&mirror, head)?,
        None => recover::newest(&mirror)?,
    };
    if let Some((head, _)) = tip.incomplete.filter(|_| wanted.is_none()) {
        context.output.warn(&format!("{head} on the mirror is not whole: a sync was interrupted, or is running now"));
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
    freshness::report_freshness(known, head, About::new(&access.place), &context.watch());
    let secret = context.environment.secret(Question::Open("Passphrase or recovery code"))?;
    let (_, secret) = repositories::open_with(access, secret)?;
    let fresh = match known.grade {
        Grade::Proven => "freshness PROVEN by the state code",
        Grade::Remembered => "not older than what this machine has seen",
        Grade::Unasked => "the state that was asked for",
        Grade::Behind(_) | Grade::Forked(_) | Grade::NotProven => "freshness NOT proven",
    };
    context.output.info(format_args!("authenticated   {fresh}"))?;
    let is_empty = !place.exists() || std::fs::read_dir(&place).is_ok_and(|mut entries| entries.next().is_none());
    let made = if arguments.dry_run && is_empty { None } else { Some(target(&place)?) };
    let empty = crate::storage::memory::Memory::new();
    let target: &dyn Storage = made.as_ref().map_or(&empty, |local| local);
    // A dry run changes nothing, not even a lock file.
    let writer = match made.as_ref().filter(|_| !arguments.dry_run) {
        None => None,
        Some(local) => {
            let root = local.root().map_err(repository::Error::from)?;
            let writer = Locks::within(&place, root).for_command("recover").ended_by(context.environment.stop.clone());
            Some(writer.writer(context.environment.retry_lock).map_err(repository::Error::from)?)
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
    let objects = size::counted(plan.fetch.len() as u64, "object", "objects");
    context.output.info(format_args!("{objects}, {} to fetch into {shown}", size::show(plan.bytes())))?;
    if arguments.dry_run {
        return Ok(Exit::Success);
    }
    let progress = context.progress(Work::Other);
    let fetched = recover::execute(&mirror, target, &plan, usize::from(arguments.connections), &progress);
    progress.finish();
    fetched?;
    drop(writer);
    let remembered = match wanted {
        Some(_) => remember(&memory, mirror.id(), &place, head, context.output),
        None => came_back(&memory, mirror.id(), &place, head),
    };
    match (remembered, wanted) {
        (Err(error), Some(_)) => {
            return Err(Failure::failed("this machine's memory of a newer state cannot be changed").caused_by(error));
        }
        (Err(error), None) => {
            context.output.warn(&format!(
                "this machine could not remember the newest head ({error}): a rollback may go unnoticed"
            ));
        }
        (Ok(()), _) => {}
    }
    context.output.about = context.output.about.at(&place);
    finish(&place, secret, context).map_err(|error| error.at(&place))
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
fn remember(memory: &Remembered, id: RepositoryId, place: &Path, head: HeadRef, output: Output) -> io::Result<()> {
    let lives = repositories::elsewhere(memory, id, place);
    let apart = memory.clone().of(place);
    match lives {
        None => {
            apart.unset_apart(id)?;
            apart.set(id, place, head)?;
        }
        Some(lives) => {
            apart.set_apart(id, place, head)?;
            let lives = escape(lives.as_os_str().as_bytes());
            let _ = output
                .info(format_args!("the repository at {lives} stays as it is; this copy is remembered apart from it"));
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
fn finish(place: &Path, secret: crate::codec::key_slot::Secret, context: &Context) -> Result<Exit, Failure> {
    let storage = Local::open(place).map_err(repository::Error::from)?;
    let access = repositories::access_at(&context.environment, &context.watch(), place, storage, "recover")?;
    let repository = Repository::open(access, &secret)?;
    let report = check::run(&repository, &check::Options::default(), &Watch::new(context))?;
    for finding in &report.findings {
        context.output.line(&finding.message)?;
    }
    let snapshots = size::counted(report.snapshots, "snapshot", "snapshots");
    let output = context.output;
    if output.json {
        output.json(&serde_json::json!({
            "message_type": "summary",
            "repository": repository.id().to_string(),
            "generation": report.generation,
            "snapshots": report.snapshots,
            "packs": report.packs,
            "problems": report.findings.len(),
        }))?;
    }
    let exit: Exit = crate::tasks::check::kind(&report).into();
    if exit == Exit::Damage {
        return Ok(exit);
    }
    // Everything was hashed when it was fetched: what a check of what lay here once had found is over.
    if let Ok(Some(book)) = mirrors::open_existing_book(&context.environment, repository.id()) {
        let _ = book.clear_damage(&mirrors::place_name(place), true);
    }
    if exit != Exit::Success {
        return Ok(exit);
    }
    output.info(format_args!("{snapshots}, check clean.  Next: {}", suggest!("restore latest --target DIRECTORY")))?;
    Ok(Exit::Success)
}
