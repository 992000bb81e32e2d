//! `key`: passphrases, recovery codes and key files that open the repository.

use super::Context;
use super::exit::Exit;
use super::json::Key;
use super::kit;
use super::recovery;
use super::terminal::Terminal;
use crate::base::escape::escape;
use crate::base::id::ObjectId;
use crate::codec::recovery_code::RecoveryCode;
use crate::repository::keyring::SlotInfo;
use crate::tasks::failure::Failure;
use crate::tasks::key::{NewPassphrase, add, list, passwd, recovery_code, remove};
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
    fn request(&self) -> NewPassphrase {
        NewPassphrase {
            file: self.new_password_file.clone(),
            command: self.new_password_command.clone(),
            kdf_memory: self.kdf_memory,
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
    let report = list::run(&context.environment, &context.watch())?;
    let zone = clock::local_zone();
    if context.output.json {
        let key = |slot: &SlotInfo| Key {
            current: slot.current,
            id: slot.id.to_string(),
            kind: slot.describe(),
            label: slot.label.clone(),
            created: clock::show(slot.created, &zone),
        };
        context.output.json(&report.slots.iter().map(key).collect::<Vec<_>>())?;
        return report.incomplete.map_or(Ok(()), Err);
    }
    let columns = [" ID", "Opens with", "Created", "Guessing costs", "Label"].map(|name| (name, Align::Left));
    let mut table = Table::new(&columns);
    for slot in &report.slots {
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
    report.incomplete.map_or(Ok(()), Err)
}

fn say_added(context: &Context, id: ObjectId, what: &str) -> Result<(), Failure> {
    if context.output.json {
        return context.output.json(&serde_json::json!({ "message_type": "key_added", "id": id.to_string() }));
    }
    context.output.info(format!("{what}: key {}", id.short()))
}

fn add(arguments: &AddArguments, context: &mut Context) -> Result<(), Failure> {
    let AddArguments { password, new_key_file, label, dry_run } = arguments.clone();
    let shown = new_key_file.as_ref().map(|path| escape(path.as_os_str().as_bytes()));
    let request = add::Request { passphrase: password.request(), new_key_file, label, dry_run };
    let report = add::run(&request, &context.environment, &context.watch())?;
    let kind = report.kind.describe();
    let Some(id) = report.key else { return context.output.info(format!("would add a {kind}")) };
    let what = match shown {
        Some(path) if report.is_from_before => format!("{path} opens the repository already, an earlier run added it"),
        Some(path) => format!("Added a {kind} in {path}"),
        None => format!("Added a {kind}"),
    };
    say_added(context, id, &what)
}

fn remove(arguments: &RemoveArguments, context: &mut Context) -> Result<(), Failure> {
    let RemoveArguments { id: key, dry_run } = arguments.clone();
    let slot = remove::run(&remove::Request { key, dry_run }, &context.environment, &context.watch())?;
    let what = format!("key {} ({})", slot.id.short(), slot.kind.describe());
    if dry_run {
        return context.output.info(format!("would remove {what}"));
    }
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
    let request = passwd::Request { passphrase: arguments.password.request(), dry_run: arguments.dry_run };
    let report = passwd::run(&request, &context.environment, &context.watch())?;
    match report.new {
        None => context.output.info(format!("would change the passphrase of key {}", report.old.short())),
        Some(id) => say_added(context, id, "Changed the passphrase; the old one opens nothing any more"),
    }
}

fn recovery_code(arguments: &RecoveryCodeArguments, context: &mut Context) -> Result<(), Failure> {
    let RecoveryCodeArguments { replace, label, kdf_memory, dry_run } = arguments.clone();
    let output = context.output;
    let may_show = output.terminal && !output.json;
    let terminal = if may_show { Terminal::open(&context.environment.stop) } else { None };
    let mut show = terminal.map(|mut terminal| {
        move |code: &RecoveryCode, replaced: Option<&SlotInfo>| {
            output.info(format!("A new recovery code, {}", beside_what(replaced)))?;
            recovery::show_once(&mut terminal, code)
        }
    });
    let show = show.as_mut().map(|show| show as &mut recovery_code::Show<'_>);
    let request = recovery_code::Request { replace, label, kdf_memory, dry_run };
    let report = recovery_code::run(&request, &context.environment, &context.watch(), show)?;
    let replaced = report.replaced.as_ref();
    match report.key {
        None => output.info(format!("would add a recovery code, {}", beside_what(replaced)))?,
        Some(id) => {
            say_added(context, id, "The recovery code opens the repository")?;
            if let Some(slot) = replaced {
                output.info(format!("Removed key {}: its code opens nothing any more", recovery::describe(slot)))?;
            }
        }
    }
    recovery::say_others(context, &report.others)
}

fn beside_what(replaced: Option<&SlotInfo>) -> String {
    match replaced {
        Some(slot) => format!("in place of that of key {}", recovery::describe(slot)),
        None => "beside all other keys".to_owned(),
    }
}
