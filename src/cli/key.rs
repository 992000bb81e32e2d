//! `key`: passphrases, recovery codes and key files that open the repository.

use super::secret::Source;
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
    /// Make a new recovery code and show it once, on the terminal
    RecoveryCode(RecoveryCodeArguments),
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
}

impl NewPassword {
    /// Where the new passphrase comes from: what is given here, else the terminal or the standard input. Read it with
    /// [`Question::Create`](super::secret::Question::Create).
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
    /// Make a key file here instead of asking for a passphrase; the file must not exist
    #[arg(long, value_name = "FILE", conflicts_with_all = ["new_password_file", "new_password_command"])]
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
    /// Change nothing, only say what would be done
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}
