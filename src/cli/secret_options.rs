//! The options that say where secrets are, and which repository is copied from.

use super::options::parse_head_code;
use crate::codec::head_code::HeadCode;
use crate::repository::expected::{Expected, IdBeginning};
use crate::tasks::environment::CopySource;
use crate::tasks::environment::secret::SecretPlaces;
use std::path::PathBuf;

/// The options that say where the secret is.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Global options")]
pub struct SecretOptions {
    /// Read the passphrase from this file, which holds one line [env: PACKSTONE_PASSWORD_FILE]
    #[arg(short = 'p', long, value_name = "FILE", global = true)]
    pub password_file: Option<PathBuf>,
    /// Run this command, without a shell, and take its output as the passphrase [env: PACKSTONE_PASSWORD_COMMAND]
    #[arg(long, value_name = "COMMAND", global = true)]
    pub password_command: Option<String>,
    /// Read the passphrase from this open file descriptor
    #[arg(long, value_name = "N", global = true)]
    pub password_fd: Option<u32>,
    /// Open the repository with this key file instead of a passphrase [env: PACKSTONE_KEY_FILE]
    #[arg(long, value_name = "FILE", global = true)]
    pub key_file: Option<PathBuf>,
}

impl SecretOptions {
    /// The places that they name.
    #[must_use]
    pub fn places(&self) -> SecretPlaces {
        SecretPlaces {
            file: self.password_file.clone(),
            command: self.password_command.clone(),
            descriptor: self.password_fd,
            key_file: self.key_file.clone(),
        }
    }
}

/// The options that say which repository is copied from, and where its secret is.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Source")]
pub struct FromOptions {
    /// The repository to copy from: a directory
    #[arg(long, value_name = "PATH", env = "PACKSTONE_FROM_REPOSITORY")]
    pub from_repo: Option<PathBuf>,
    /// Read the place of the repository to copy from in this file
    #[arg(long, value_name = "FILE", env = "PACKSTONE_FROM_REPOSITORY_FILE")]
    pub from_repository_file: Option<PathBuf>,
    /// Copy from a mirror instead, by name or address: of another repository, or of this one with another history. Wins over --from-repo
    // The global --from has the name that this field would have.
    #[arg(id = "from_which_mirror", long = "from-mirror", value_name = "MIRROR")]
    pub mirror: Option<String>,
    /// Refuse to copy from any other repository than the one with this id, as --repo-id
    #[arg(long, value_name = "ID")]
    pub from_repo_id: Vec<IdBeginning>,
    /// Refuse to copy from a state that is older than the one with this state code, as --expect-head
    #[arg(long, value_name = "CODE", value_parser = parse_head_code)]
    pub from_expect_head: Option<HeadCode>,
    /// Read its passphrase from this file [env: PACKSTONE_FROM_PASSWORD_FILE]
    #[arg(long, value_name = "FILE")]
    pub from_password_file: Option<PathBuf>,
    /// Run this command and take its output as its passphrase [env: PACKSTONE_FROM_PASSWORD_COMMAND]
    #[arg(long, value_name = "COMMAND")]
    pub from_password_command: Option<String>,
    /// Read its passphrase from this open file descriptor
    #[arg(long, value_name = "N")]
    pub from_password_fd: Option<u32>,
    /// Open it with this key file instead of a passphrase [env: PACKSTONE_FROM_KEY_FILE]
    #[arg(long, value_name = "FILE")]
    pub from_key_file: Option<PathBuf>,
}

impl FromOptions {
    /// The repository that they name.
    #[must_use]
    pub fn source(&self) -> CopySource {
        CopySource {
            repository: self.from_repo.clone(),
            repository_file: self.from_repository_file.clone(),
            expected: Expected { ids: self.from_repo_id.clone(), head: self.from_expect_head },
            secret: SecretPlaces {
                file: self.from_password_file.clone(),
                command: self.from_password_command.clone(),
                descriptor: self.from_password_fd,
                key_file: self.from_key_file.clone(),
            },
        }
    }
}
