//! `mirror`: where copies of a repository are.

pub mod check;

use super::Context;
use super::exit::Exit;
use super::json::MirrorFinding;
use crate::base::command::suggest;
use crate::base::escape::escape;
use crate::base::time::Time;
use crate::codec::head_code::HeadCode;
use crate::repository::mirror_book::{self, DamagedObject, Mirror};
use crate::tasks::failure::Failure;
use crate::tasks::mirror::{self, AddRequest, Added, Adding, Listed, Step};
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
    ///
    /// s3: endpoint, region, access_key_id, profile (of ~/.aws/config); azblob: account_name; webdav: username; sftp: key, known_hosts_strategy
    /// (strict, accept-new, accept-changed). All but sftp: ca_file=/PATH.pem, the certificates that the server may have. What a service does not
    /// have is refused, with a list of what it has.
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
    match &arguments.command {
        Command::Add(arguments) => add(arguments, context),
        Command::List => list(context),
        Command::Remove(arguments) => remove(arguments, context),
        Command::Accept(arguments) => accept(arguments, context),
    }
}

fn add(arguments: &AddArguments, context: &Context) -> Result<Exit, Failure> {
    let output = context.output;
    let request = AddRequest {
        name: arguments.name.clone(),
        address: arguments.address.clone(),
        option: arguments.option.clone(),
        credentials_command: arguments.credentials_command.clone(),
        no_probe: arguments.no_probe,
        dry_run: arguments.dry_run,
    };
    let added = mirror::add(&request, &context.environment, &context.watch(), &|step| match step {
        Step::WouldMakeDirectory => output.info("  the directory would be made"),
        Step::Probed(found) => found.lines().into_iter().try_for_each(|line| output.info(format_args!("  {line}"))),
    })?;
    let Added { adding, address, same_file_system } = added;
    let name = &arguments.name;
    if output.json {
        return output
            .json(&serde_json::json!({
                "message_type": "mirror_added",
                "name": name,
                "address": address.to_string(),
                "same_file_system": same_file_system,
                "dry_run": arguments.dry_run,
            }))
            .map(|()| Exit::Success);
    }
    let done = match adding {
        Adding::Added => "added",
        Adding::There => "is on the list already",
        Adding::WouldBeAdded => "would be added, and nothing was changed",
    };
    output.info(format_args!("mirror {name} {done}: {}", escape(address.to_string().as_bytes())))?;
    if !arguments.dry_run {
        output.info(format_args!("Next: {}", suggest!("sync {}", name)))?;
    }
    Ok(Exit::Success)
}

fn remove(arguments: &RemoveArguments, context: &Context) -> Result<Exit, Failure> {
    let mirror = mirror::remove(&arguments.name, arguments.dry_run, &context.environment, &context.watch())?;
    let would = if arguments.dry_run { "would be taken" } else { "taken" };
    let address = escape(mirror.address.as_bytes());
    context.output.info(format_args!("mirror {} {would} off the list; its files stay at {address}", mirror.name))?;
    Ok(Exit::Success)
}

fn accept(arguments: &AcceptArguments, context: &Context) -> Result<Exit, Failure> {
    let AcceptArguments { name, head, dry_run } = arguments;
    let (mirror, wanted) = mirror::accept(name, head, *dry_run, &context.environment, &context.watch())?;
    let state = wanted.map_or_else(|| "nothing there".to_owned(), |head| format!("generation {}", head.generation));
    let would = if *dry_run { "would be accepted" } else { "accepted" };
    context.output.info(format_args!("{state} {would} as the newest state of mirror {}", mirror.name))?;
    Ok(Exit::Success)
}

fn list(context: &Context) -> Result<Exit, Failure> {
    let (output, zone) = (context.output, clock::local_zone());
    let (ours, mirrors) = mirror::list(&context.environment, &context.watch())?;
    let columns = [
        ("Name", Align::Left),
        ("Generation", Align::Right),
        ("Synced", Align::Left),
        ("Read back since", Align::Left),
        ("Bytes", Align::Right),
        ("Address", Align::Left),
    ];
    let mut table = Table::new(&columns);
    for Listed { mirror, counts, findings, damaged, failures } in &mirrors {
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
                "damaged_objects": damaged.len(),
                "findings": findings.iter().map(|finding| MirrorFinding::new(finding, output, &zone)).collect::<Vec<_>>(),
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
        for finding in findings {
            let (word, seen) = (finding.found_by.word(), clock::show(finding.seen, &zone));
            output.warn(&format!("{name}: the {word} of {seen} failed: {}", escape(finding.reason.as_bytes())));
            for remedy in &finding.remedies {
                output.warn(&format!("{name}: {remedy}"));
            }
        }
        for DamagedObject { name: object, since, reason } in damaged {
            let since = clock::show(*since, &zone);
            output.warn(&format!("{name}: {object} cannot be used, found {since}: {}", escape(reason.as_bytes())));
        }
        for (object, tries, transient, reason) in failures {
            let again = if *transient { "may pass" } else { "permanent" };
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
