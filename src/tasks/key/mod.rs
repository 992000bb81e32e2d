//! Passphrases, recovery codes and key files that open the repository: one file for each thing that is done with them.

pub mod add;
pub mod kit;
mod kit_needs;
pub mod kit_page;
pub mod list;
pub mod passwd;
pub mod recovery_code;
pub mod remove;

use super::environment::Environment;
use super::environment::repositories;
use super::environment::secret::{Question, Source};
use super::failure::Failure;
use super::init;
use crate::base::command::suggest;
use crate::base::id::ObjectId;
use crate::base::time::Time;
use crate::codec::kdf::Params;
use crate::codec::key_slot::{LABEL_BYTES_MAX, Secret};
use crate::repository::Repository;
use crate::repository::keyring::{NewSlot, SlotInfo};
use serde::Deserialize;
use std::path::PathBuf;

/// Where a new passphrase comes from, and what one guess of it costs. Without a file and a command somebody is asked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct NewPassphrase {
    /// A file that holds it.
    pub file: Option<PathBuf>,
    /// A command that prints it. It is run without a shell.
    pub command: Option<String>,
    /// Bytes of memory that one guess costs.
    #[serde(deserialize_with = "super::text_form::size")]
    pub kdf_memory: Option<u64>,
}

impl NewPassphrase {
    fn kdf(&self) -> Result<Params, Failure> {
        init::kdf(self.kdf_memory)
    }

    fn source(&self) -> Result<Source, Failure> {
        match (&self.file, &self.command) {
            (Some(_), Some(_)) => {
                Err(Failure::usage("only one of --new-password-file and --new-password-command can be used"))
            }
            (Some(file), None) => Ok(Source::File(file.clone())),
            (None, Some(command)) => Ok(Source::Command(command.clone())),
            (None, None) => Ok(Source::Ask),
        }
    }

    fn read(&self, environment: &Environment) -> Result<Secret, Failure> {
        let question = Question::Create("New passphrase");
        repositories::make_secret(environment.new_secret(self.source()?, question)?)
    }
}

fn check_label(text: Option<&str>) -> Result<&str, Failure> {
    let label = text.unwrap_or_default();
    if label.len() > LABEL_BYTES_MAX {
        return Err(Failure::usage(format!("a label has at most {LABEL_BYTES_MAX} bytes, this one {}", label.len())));
    }
    Ok(label)
}

/// Puts a new key into the repository, in place of another one or beside all others.
fn add_slot(
    repository: &Repository,
    (secret, kdf, label): (&Secret, Params, &str),
    replacing: Option<ObjectId>,
) -> Result<ObjectId, Failure> {
    let new = NewSlot { secret, kdf, label, created: Time::now() };
    let (id, _) = repository.add_slot(&new, replacing)?;
    Ok(id)
}

/// Finds a key by its id or the beginning of it.
fn find_slot(repository: &Repository, prefix: &str) -> Result<SlotInfo, Failure> {
    let mut found = repository.slots().into_iter().filter(|slot| slot.id.to_string().starts_with(prefix));
    let hint = concat!("to see the keys and their ids: ", suggest!("key list"));
    match (found.next(), found.next()) {
        (Some(slot), None) if !prefix.is_empty() => Ok(slot),
        (Some(_), _) => Err(Failure::usage(format!("{prefix:?} is the beginning of several keys' ids")).remedy(hint)),
        (None, _) => Err(Failure::usage(format!("{prefix:?} is the beginning of no key's id")).remedy(hint)),
    }
}
