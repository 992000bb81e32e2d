//! `mirror`: where copies of a repository are.

pub mod check;

use super::Context;
use super::exit::Exit;
use crate::base::command::suggest;
use crate::base::escape::escape;
use crate::base::time::Time;
use crate::codec::head_code::HeadCode;
use crate::ops::probe;
use crate::repository::mirror_book::{self, Mirror, MirrorBook};
use crate::repository::public_view::PublicView;
use crate::storage::address::Address;
use crate::storage::device;
use crate::tasks::environment::{mirrors, own_places, repositories};
use crate::tasks::failure::Failure;
use crate::text::table::{Align, Table};
use crate::text::{clock, size};

/// Keep copies of the repository elsewhere: which, and how they stand
///
/// A mirror holds the same files under the same names. Nothing here needs a passphrase, and no credentials are stored: they come
/// from the environment (PACKSTONE_MIRROR_NAME_SECRET_ACCESS_KEY and the like with the mirror's name; without it they go to every
/// mirror of that service; AWS_* for s3), from the cloud's usual files, or from a command.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum Command {
    /// Add a mirror, and try what its store can do
    Add(AddArguments),
    /// List the mirrors, and how they stand
    #[command(visible_alias = "status")]
    List,
    /// Take a mirror off the list; its files stay
    Remove(RemoveArguments),
    /// Accept what a mirror shows now, although it showed a newer state before
    Accept(AcceptArguments),
}

/// `mirror add`
#[derive(Debug, Clone, clap::Args)]
pub struct AddArguments {
    /// What to call it: letters, digits, - and _
    #[arg(value_name = "NAME", value_parser = parse_name)]
    pub name: String,
    /// Where it lies: s3://BUCKET/PATH, azblob://, gcs://, b2://, gdrive://, sftp://USER@HOST/PATH, webdav://HOST/PATH, or a directory, which is
    /// made when only the last part of its path is missing
    #[arg(value_name = "ADDRESS")]
    pub address: String,
    /// An option of the service, such as endpoint=https://... (can be given multiple times)
    #[arg(short, long = "option", value_name = "KEY=VALUE")]
    pub option: Vec<String>,
    /// Run this command, without a shell, for the credentials: it prints lines KEY=VALUE
    #[arg(long, value_name = "COMMAND")]
    pub credentials_command: Option<String>,
    /// Do not try the store
    #[arg(long)]
    pub no_probe: bool,
    /// Change nothing, only try the store
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}

/// `mirror remove`
#[derive(Debug, Clone, clap::Args)]
pub struct RemoveArguments {
    /// Which one
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Change nothing, only say what would be done
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}

/// `mirror accept`
#[derive(Debug, Clone, clap::Args)]
pub struct AcceptArguments {
    /// Which one
    #[arg(value_name = "NAME")]
    pub name: String,
    /// The state code of what it shows now, as the refusal named it; "none" for an empty one
    #[arg(long, value_name = "CODE")]
    pub head: String,
    /// Change nothing, only say what would be done
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}

fn parse_name(text: &str) -> Result<String, String> {
    if mirror_book::is_name(text) {
        Ok(text.to_owned())
    } else {
        Err(format!("{text:?} is no name for a mirror: letters, digits, - and _"))
    }
}

/// Runs the command.
///
/// # Errors
/// When there is no repository, or the book of its mirrors cannot be read.
pub fn run(arguments: &Arguments, context: &mut Context) -> Result<Exit, Failure> {
    let view = repositories::open_public_view(&context.environment, &context.watch(), "mirror")?;
    if let Err(error) = view.tip().require_sound() {
        context.output.warn(&format!("{error}. To bring it back from a mirror: {}", suggest!("repair heads")));
    }
    let mut book = mirrors::open_book(&context.environment, view.id())?;
    match &arguments.command {
        Command::Add(arguments) => add(arguments, &view, &book, context),
        Command::List => list(&view, &book, context),
        Command::Remove(arguments) => remove(arguments, &mut book, context),
        Command::Accept(arguments) => accept(arguments, &view, &book, context),
    }
}

fn add(arguments: &AddArguments, view: &PublicView, book: &MirrorBook, context: &Context) -> Result<Exit, Failure> {
    let output = context.output;
    let address = mirrors::parse_typed(&arguments.address, &arguments.option)?;
    mirrors::refuse_same(&context.environment, &address)?;
    if let Some(directory) = address.directory() {
        own_places::refuse_beneath(&context.environment, &context.watch(), directory)?;
    }
    if let Ok(there) = book.get(&arguments.name) {
        if there.address == address.to_string() && there.credentials_command == arguments.credentials_command {
            // Who was interrupted says the same again.
            return added(arguments, &address, "is on the list already", context);
        }
        return Err(mirror_book::BookError::Exists(arguments.name.clone()).into());
    }
    // One lock a name: under two names two syncs would be at work there.
    let real = |address: &Address| address.directory().and_then(|directory| directory.canonicalize().ok());
    let is_same = |mirror: &Mirror| {
        let other = Address::parse(&mirror.address, &[]).ok();
        mirror.address == address.to_string()
            || other.is_some_and(|it| real(&it).is_some() && real(&it) == real(&address))
    };
    if let Some(there) = book.all()?.into_iter().find(is_same) {
        return Err(Failure::failed(format!("mirror {} is at this address already", there.name)));
    }
    let new = address.directory().filter(|directory| arguments.dry_run && !directory.exists());
    if let Some(directory) = new {
        mirrors::require_parent(directory)?;
        output.info("  the directory would be made")?;
    } else if !arguments.no_probe {
        let place = mirrors::MirrorLocation {
            name: Some(arguments.name.clone()),
            address: address.clone(),
            credentials_command: arguments.credentials_command.clone(),
        };
        let store = mirrors::open_store(&context.environment, &place, !arguments.dry_run)?;
        let found = probe::run(&*store, view.id())?;
        for line in found.lines() {
            output.info(format_args!("  {line}"))?;
        }
    }
    if !arguments.dry_run {
        book.add(&arguments.name, &address.to_string(), arguments.credentials_command.as_deref(), Time::now())?;
    }
    let done = if arguments.dry_run { "would be added, and nothing was changed" } else { "added" };
    added(arguments, &address, done, context)
}

fn added(arguments: &AddArguments, address: &Address, done: &str, context: &Context) -> Result<Exit, Failure> {
    let (output, here) = (context.output, repositories::place(&context.environment)?);
    let shared = address.directory().is_some_and(|directory| device::is_shared(&here, directory));
    if shared {
        output.warn(&format!(
            "mirror {} is on the same file system as the repository: {}",
            arguments.name,
            mirrors::NO_COPY
        ));
    }
    if output.json {
        return output
            .json(&serde_json::json!({
                "message_type": "mirror_added",
                "name": arguments.name,
                "address": address.to_string(),
                "same_file_system": shared,
                "dry_run": arguments.dry_run,
            }))
            .map(|()| Exit::Success);
    }
    let name = &arguments.name;
    output.info(format_args!("mirror {name} {done}: {}", escape(address.to_string().as_bytes())))?;
    if !arguments.dry_run {
        output.info(format_args!("Next: {}", suggest!("sync {}", name)))?;
    }
    Ok(Exit::Success)
}

fn remove(arguments: &RemoveArguments, book: &mut MirrorBook, context: &Context) -> Result<Exit, Failure> {
    let mirror = book.get(&arguments.name)?;
    if !arguments.dry_run {
        book.remove(&arguments.name)?;
    }
    let would = if arguments.dry_run { "would be taken" } else { "taken" };
    let address = escape(mirror.address.as_bytes());
    context.output.info(format_args!("mirror {} {would} off the list; its files stay at {address}", mirror.name))?;
    Ok(Exit::Success)
}

fn accept(
    arguments: &AcceptArguments,
    view: &PublicView,
    book: &MirrorBook,
    context: &Context,
) -> Result<Exit, Failure> {
    let mirror = book.get(&arguments.name)?;
    let wanted = if arguments.head == "none" {
        None
    } else {
        let code = HeadCode::parse(&arguments.head).map_err(|error| Failure::usage(error.to_string()))?;
        let store = mirrors::open_store(&context.environment, &mirrors::MirrorLocation::of(&mirror)?, false)?;
        let newest = crate::repository::chain::newest(&*store, view.verifying_key(), view.id())?;
        if !code.matches(&newest.reference()) {
            let now = HeadCode::of(&newest.reference());
            return Err(Failure::failed(format!("the mirror shows another state: {now}")));
        }
        Some(newest.reference())
    };
    if !arguments.dry_run {
        book.set_head(&arguments.name, wanted)?;
        // What was read from it directly counts no more either.
        let place = mirrors::MirrorLocation::of(&mirror)?;
        let forgotten = repositories::memory_of_mirror(&context.environment, &context.watch(), &place, false)?
            .unset_apart(view.id());
        forgotten.map_err(|error| {
            Failure::failed("this machine's memory of a newer state cannot be changed").caused_by(error)
        })?;
    }
    let state = wanted.map_or_else(|| "nothing there".to_owned(), |head| format!("generation {}", head.generation));
    let would = if arguments.dry_run { "would be accepted" } else { "accepted" };
    context.output.info(format_args!("{state} {would} as the newest state of mirror {}", mirror.name))?;
    Ok(Exit::Success)
}

fn list(view: &PublicView, book: &MirrorBook, context: &Context) -> Result<Exit, Failure> {
    let (output, zone) = (context.output, clock::local_zone());
    let ours = view.tip().reference().generation;
    let columns = [
        ("Name", Align::Left),
        ("Generation", Align::Right),
        ("Synced", Align::Left),
        ("Read back since", Align::Left),
        ("Bytes", Align::Right),
        ("Address", Align::Left),
    ];
    let mut table = Table::new(&columns);
    let mirrors = book.all()?;
    for mirror in &mirrors {
        let counts = book.counts(&mirror.name)?;
        if output.json {
            let time = |time: Option<Time>| time.map(|time| clock::rfc3339(time, &zone));
            output.json(&serde_json::json!({
                "message_type": "mirror",
                "name": mirror.name,
                "address": mirror.address,
                "generation": mirror.head.map(|head| head.generation),
                "repository_generation": ours,
                "state_code": mirror.head.map(|head| HeadCode::of(&head).to_string()),
                "synced": time(mirror.synced),
                "listed": time(mirror.listed),
                "verified": time(mirror.verified),
                "objects": mirror.objects,
                "bytes": mirror.bytes,
                "pending_objects": counts.pending,
                "pending_bytes": counts.pending_bytes,
                "failed_objects": counts.failed,
            }))?;
            continue;
        }
        let generation = mirror.head.map_or_else(|| "none".to_owned(), |head| format!("{} of {ours}", head.generation));
        let Mirror { name, synced, verified, bytes, address, .. } = mirror;
        let shown = |time: &Option<Time>| time.map_or_else(|| "never".to_owned(), |time| clock::show(time, &zone));
        table.row_of_lines(vec![
            vec![name.clone()],
            vec![generation],
            vec![shown(synced)],
            vec![shown(verified)],
            vec![size::show(*bytes)],
            vec![escape(address.as_bytes())],
        ]);
        for (object, tries, transient, reason) in book.failures(name)? {
            let again = if transient { "may pass" } else { "permanent" };
            output.warn(&format!("{name}: {object} failed ({again}, {tries} tries): {reason}"));
        }
        if counts.pending > 0 {
            let waiting = size::counted(counts.pending, "object waits", "objects wait");
            output.info(format_args!(
                "{name}: {waiting} ({})  Next: {}",
                size::show(counts.pending_bytes),
                suggest!("sync {}", name)
            ))?;
        }
    }
    if output.json {
        return Ok(Exit::Success);
    }
    if mirrors.is_empty() {
        output.info(concat!(
            "No mirror yet: this repository is the only copy. Next: ",
            suggest!("mirror add NAME s3://BUCKET/PATH")
        ))?;
        return Ok(Exit::Success);
    }
    table.footer(size::counted(mirrors.len() as u64, "mirror", "mirrors"));
    output.text(&table.render())?;
    Ok(Exit::Success)
}
