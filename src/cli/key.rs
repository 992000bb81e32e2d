//! `key`: passphrases, recovery codes and key files that open the repository.

use super::Context;
use super::exit::Exit;
use super::json::Key;
use super::kit;
use super::recovery;
use super::terminal::Terminal;
use crate::base::command::suggest;
use crate::base::escape::escape;
use crate::base::id::ObjectId;
use crate::base::time::Time;
use crate::codec::kdf::Params;
use crate::codec::key_slot::{LABEL_BYTES_MAX, Secret, SecretKind};
use crate::ops::key_file::Making;
use crate::repository::Repository;
use crate::repository::keyring::{self, NewSlot, SlotInfo};
use crate::tasks::environment::Environment;
use crate::tasks::environment::secret::{Question, Source};
use crate::tasks::environment::{own_places, repositories};
use crate::tasks::failure::Failure;
use crate::tasks::init;
use crate::text::clock;
use crate::text::size;
use crate::text::table::{Align, Table};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// List, add, change and remove the keys that open the repository
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: KeyCommand,
}

/// What to do with keys.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum KeyCommand {
    /// List the keys
    List,
    /// Add a passphrase or a key file
    Add(AddArguments),
    /// Remove a key
    ///
    /// It stops opening this repository at once. Whoever used it may have kept the master key: real revocation is a copy
    /// into a new repository.
    Remove(RemoveArguments),
    /// Change the passphrase that opened the repository
    Passwd(PasswdArguments),
    /// Add a recovery code and show it once, on the terminal
    ///
    /// All other keys stay: a code on paper that was lost goes on opening the repository until its key is removed, with packstone key
    /// remove, or with --replace when the new one is there.
    RecoveryCode(RecoveryCodeArguments),
    /// Print a page with everything that a new machine needs to get the data back
    ///
    /// Each page has a recovery code of its own, so that one that was lost or seen can be made worthless: packstone key remove. Credentials of the
    /// mirrors are never on it; there are lines to write them on by hand.
    Kit(kit::Arguments),
}

/// A new secret that is not asked for.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct NewPassword {
    /// Read the new passphrase from this file
    #[arg(long, value_name = "FILE")]
    pub new_password_file: Option<PathBuf>,
    /// Run this command, without a shell, and take its output as the new passphrase
    #[arg(long, value_name = "COMMAND", conflicts_with = "new_password_file")]
    pub new_password_command: Option<String>,
    /// Memory that one guess of the new secret costs, 64M to 1G
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    pub kdf_memory: Option<u64>,
}

impl NewPassword {
    /// Where the new passphrase comes from: what is given here, else the terminal or the standard input. Read it with
    /// [`Question::Create`].
    #[must_use]
    pub fn source(&self) -> Source {
        match (&self.new_password_file, &self.new_password_command) {
            (Some(file), _) => Source::File(file.clone()),
            (None, Some(command)) => Source::Command(command.clone()),
            (None, None) => Source::Ask,
        }
    }
}

/// `key add`
#[derive(Debug, Clone, Default, clap::Args)]
pub struct AddArguments {
    /// Where the new passphrase is.
    #[command(flatten)]
    pub password: NewPassword,
    /// Make a key file here instead of asking for a passphrase; the file must not exist, unless an interrupted run of this very command made it
    #[arg(long, value_name = "FILE", conflicts_with_all = ["new_password_file", "new_password_command", "kdf_memory"])]
    pub new_key_file: Option<PathBuf>,
    /// A few words to know it by
    #[arg(long, value_name = "TEXT")]
    pub label: Option<String>,
    /// Change nothing, only say what would be done
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}

/// `key remove`
#[derive(Debug, Clone, clap::Args)]
pub struct RemoveArguments {
    /// The key's id or its beginning, as key list shows it
    #[arg(value_name = "ID")]
    pub id: String,
    /// Change nothing, only say what would be done
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}

/// `key passwd`
#[derive(Debug, Clone, Default, clap::Args)]
pub struct PasswdArguments {
    /// Where the new passphrase is.
    #[command(flatten)]
    pub password: NewPassword,
    /// Change nothing, only say what would be done
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}

/// `key recovery-code`
#[derive(Debug, Clone, Default, clap::Args)]
pub struct RecoveryCodeArguments {
    /// Remove the recovery code of this key as soon as the new one opens the repository (its id or the beginning, as key list shows it)
    #[arg(long, value_name = "ID")]
    pub replace: Option<String>,
    /// A few words to know it by
    #[arg(long, value_name = "TEXT")]
    pub label: Option<String>,
    /// Memory that one guess of the recovery code costs, 64M to 1G
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    pub kdf_memory: Option<u64>,
    /// Change nothing, only say what would be done
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}

/// Runs the command.
///
/// # Errors
/// When the repository cannot be opened, the new secret cannot be had, or nothing was changed.
pub fn run(arguments: &Arguments, context: &mut Context) -> Result<Exit, Failure> {
    match &arguments.command {
        KeyCommand::List => list(context),
        KeyCommand::Add(arguments) => add(arguments, context),
        KeyCommand::Remove(arguments) => remove(arguments, context),
        KeyCommand::Passwd(arguments) => passwd(arguments, context),
        KeyCommand::RecoveryCode(arguments) => recovery_code(arguments, context),
        KeyCommand::Kit(arguments) => kit::run(arguments, context),
    }?;
    Ok(Exit::Success)
}

fn list(context: &mut Context) -> Result<(), Failure> {
    let repository = repositories::open_repository(&context.environment, &context.watch(), "key list")?;
    let zone = clock::local_zone();
    let mut slots = repository.slots();
    slots.sort_by_key(|slot| (slot.created, slot.id));
    if context.output.json {
        let key = |slot: &SlotInfo| Key {
            current: slot.current,
            id: slot.id.to_string(),
            kind: slot.describe(),
            label: slot.label.clone(),
            created: clock::show(slot.created, &zone),
        };
        context.output.json(&slots.iter().map(key).collect::<Vec<_>>())?;
        return Ok(repository.require_newest()?);
    }
    let columns = [" ID", "Opens with", "Created", "Guessing costs", "Label"].map(|name| (name, Align::Left));
    let mut table = Table::new(&columns);
    for slot in &slots {
        let mark = if slot.current { "*" } else { " " };
        let id = format!("{mark}{}", slot.id.short());
        match &slot.damage {
            Some(damage) => table.row([id, format!("{}: {}", slot.describe(), escape(damage.as_bytes()))]),
            None => table.row([
                id,
                slot.kind.describe().to_owned(),
                clock::show(slot.created, &zone),
                slot.kdf.map_or(String::new(), |kdf| size::show(u64::from(kdf.memory_kib) << 10)),
                escape(slot.label.as_bytes()),
            ]),
        }
    }
    context.output.text(&table.render())?;
    // A key that was removed since is a key in an older head.
    Ok(repository.require_newest()?)
}

/// The new passphrase, from wherever the options say.
fn new_passphrase(options: &NewPassword, environment: &Environment) -> Result<Secret, Failure> {
    let question = Question::Create("New passphrase");
    repositories::make_secret(environment.secrets.read(options.source(), question, &*environment.prompt)?)
}

fn label(text: Option<&str>) -> Result<&str, Failure> {
    let label = text.unwrap_or_default();
    if label.len() > LABEL_BYTES_MAX {
        return Err(Failure::usage(format!("a label has at most {LABEL_BYTES_MAX} bytes, this one {}", label.len())));
    }
    Ok(label)
}

/// Puts a new slot into the repository, in place of another one or beside all others.
fn add_slot(
    repository: &Repository,
    (secret, kdf, label): (&Secret, Params, &str),
    replacing: Option<ObjectId>,
) -> Result<ObjectId, Failure> {
    let new = NewSlot { secret, kdf, label, created: Time::now() };
    let (id, _) = repository.add_slot(&new, replacing)?;
    Ok(id)
}

fn added(context: &Context, id: ObjectId, what: &str) -> Result<(), Failure> {
    if context.output.json {
        return context.output.json(&serde_json::json!({ "message_type": "key_added", "id": id.to_string() }));
    }
    context.output.info(format!("{what}: key {}", id.short()))
}

fn add(arguments: &AddArguments, context: &mut Context) -> Result<(), Failure> {
    let label = label(arguments.label.as_deref())?;
    let kdf = init::kdf(arguments.password.kdf_memory)?;
    let repository = repositories::open_repository(&context.environment, &context.watch(), "key add")?;
    if arguments.dry_run {
        let kind = if arguments.new_key_file.is_some() { "key file" } else { "passphrase" };
        return context.output.info(format!("would add a {kind}"));
    }
    let Some(path) = &arguments.new_key_file else {
        let secret = new_passphrase(&arguments.password, &context.environment)?;
        let kind = secret.kind().describe();
        let id = add_slot(&repository, (&secret, kdf, label), None)?;
        return added(context, id, &format!("Added a {kind}"));
    };
    own_places::refuse_key_in(&context.environment, &context.watch(), path)?;
    let shown = escape(path.as_os_str().as_bytes());
    let mut making = Making::begin(path, |secret| Ok(!keyring::opened_by(repository.storage(), secret)?.is_empty()))?;
    let secret = making.copy_of_secret();
    if !making.is_new() {
        let live = repository.tip().state.slots.clone();
        let opened = keyring::opened_by(repository.storage(), &secret)?;
        if let Some(id) = opened.into_iter().find(|id| live.contains(id)) {
            return added(context, id, &format!("{shown} opens the repository already, an earlier run added it"));
        }
    }
    let new = NewSlot { secret: &secret, kdf, label, created: Time::now() };
    let added_slot = repository.add_slot_keeping(&new, None, || making.keep());
    let (id, _) = added_slot.map_err(|error| {
        let error = Failure::from(error);
        // What was made and opens nothing must not pass for a key.
        match path.exists() {
            true => error.remedy(format!("{shown} opens nothing yet: give the same command again, or remove it")),
            false => error,
        }
    })?;
    added(context, id, &format!("Added a key file in {shown}"))
}

fn find(repository: &Repository, prefix: &str) -> Result<SlotInfo, Failure> {
    let mut found = repository.slots().into_iter().filter(|slot| slot.id.to_string().starts_with(prefix));
    let hint = concat!("to see the keys and their ids: ", suggest!("key list"));
    match (found.next(), found.next()) {
        (Some(slot), None) if !prefix.is_empty() => Ok(slot),
        (Some(_), _) => Err(Failure::usage(format!("{prefix:?} is the beginning of several keys' ids")).remedy(hint)),
        (None, _) => Err(Failure::usage(format!("{prefix:?} is the beginning of no key's id")).remedy(hint)),
    }
}

fn remove(arguments: &RemoveArguments, context: &mut Context) -> Result<(), Failure> {
    let repository = repositories::open_repository(&context.environment, &context.watch(), "key remove")?;
    let slot = find(&repository, &arguments.id)?;
    let what = format!("key {} ({})", slot.id.short(), slot.kind.describe());
    if slot.current {
        let error = Failure::failed(format!("{what} is the one in use"));
        let error = error.remedy("to remove it, open the repository with another key");
        return Err(match slot.kind {
            SecretKind::Passphrase => error.remedy(concat!("to change it: ", suggest!("key passwd"))),
            _ => error,
        });
    }
    if arguments.dry_run {
        return context.output.info(format!("would remove {what}"));
    }
    repository.remove_slot(slot.id)?;
    if context.output.json {
        return context.output.json(&serde_json::json!({ "message_type": "key_removed", "id": slot.id.to_string() }));
    }
    context.output.info(format!("Removed {what}: from now on it opens nothing"))?;
    context.output.info(
        "Whoever used it may have kept the master key or an older copy of the repository: real revocation is a copy of \
         the snapshots into a new repository",
    )
}

fn passwd(arguments: &PasswdArguments, context: &mut Context) -> Result<(), Failure> {
    let kdf = init::kdf(arguments.password.kdf_memory)?;
    let repository = repositories::open_repository(&context.environment, &context.watch(), "key passwd")?;
    let old = repository.slots().into_iter().find(|slot| slot.current);
    let old = old.ok_or_else(|| Failure::failed("the key that opened the repository is not live any more"))?;
    if old.kind != SecretKind::Passphrase {
        return Err(Failure::usage(format!(
            "the repository was opened with a {}, not with a passphrase",
            old.kind.describe()
        ))
        .remedy(concat!(
            "open it with the passphrase that is to be changed, or add another one: ",
            suggest!("key add")
        )));
    }
    if arguments.dry_run {
        return context.output.info(format!("would change the passphrase of key {}", old.id.short()));
    }
    let secret = new_passphrase(&arguments.password, &context.environment)?;
    let id = add_slot(&repository, (&secret, kdf, &old.label), Some(old.id))?;
    added(context, id, "Changed the passphrase; the old one opens nothing any more")
}

fn recovery_code(arguments: &RecoveryCodeArguments, context: &mut Context) -> Result<(), Failure> {
    let label = label(arguments.label.as_deref())?;
    let kdf = init::kdf(arguments.kdf_memory)?;
    let shown = context.output.terminal && !context.output.json;
    let terminal = if shown { Terminal::open(&context.environment.stop) } else { None };
    if terminal.is_none() && !arguments.dry_run {
        return Err(Failure::failed("a recovery code is shown on a terminal only, never in JSON, a pipe or a file")
            .remedy(concat!("on a terminal: ", suggest!("key recovery-code")))
            .remedy(concat!("for unattended use make a key file: ", suggest!("key add --new-key-file FILE"))));
    }
    let repository = repositories::open_repository(&context.environment, &context.watch(), "key recovery-code")?;
    let replaced = arguments.replace.as_deref().map(|prefix| replaceable(&repository, prefix)).transpose()?;
    let replacing = replaced.as_ref().map(|slot| slot.id);
    // A code that is shown and then refused is paper that opens nothing.
    repository.require_room_for_slot(replacing)?;
    let what = match &replaced {
        Some(slot) => format!("in place of that of key {}", recovery::describe(slot)),
        None => "beside all other keys".to_owned(),
    };
    let Some(mut terminal) = terminal.filter(|_| !arguments.dry_run) else {
        context.output.info(format!("would add a recovery code, {what}"))?;
        return recovery::say_others(context, &repository.recovery_codes(), replacing);
    };
    context.output.info(format!("A new recovery code, {what}"))?;
    let code = recovery::generate()?;
    if !recovery::show_once(&mut terminal, &code)? {
        return Err(Failure::failed("the recovery code was not confirmed: nothing was changed")
            .remedy("what was shown opens nothing: throw it away, and run the command again for another one"));
    }
    let before: Vec<SlotInfo> = repository.recovery_codes();
    let id = add_slot(&repository, (&Secret::RecoveryCode(code), kdf, label), replacing)
        .map_err(|error| error.remedy("the code that was shown opens nothing: throw it away"))?;
    added(context, id, "The recovery code opens the repository")?;
    if let Some(slot) = &replaced {
        context.output.info(format!("Removed key {}: its code opens nothing any more", recovery::describe(slot)))?;
    }
    recovery::say_others(context, &before, replacing)
}

/// The recovery code that is to be replaced. What is damaged opens nothing, whatever it was.
fn replaceable(repository: &Repository, prefix: &str) -> Result<SlotInfo, Failure> {
    let slot = find(repository, prefix)?;
    if slot.kind == SecretKind::RecoveryCode && slot.damage.is_none() {
        return Ok(slot);
    }
    let kind = slot.describe();
    let refused = Failure::usage(format!("key {} ({kind}) is no recovery code", slot.id.short()));
    let refused = refused.remedy(concat!("to see which are: ", suggest!("key list")));
    Err(refused.remedy(format!("to remove it, whatever it is: {}", suggest!("key remove {}", slot.id.short()))))
}
