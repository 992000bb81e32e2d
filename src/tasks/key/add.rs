//! Add a passphrase or a key file.

use super::{NewPassphrase, add_slot, check_label};
use crate::base::escape::escape;
use crate::base::id::ObjectId;
use crate::base::time::Time;
use crate::codec::key_slot::SecretKind;
use crate::ops::Monitor;
use crate::ops::key_file::Making;
use crate::repository::Repository;
use crate::repository::keyring::{self, NewSlot};
use crate::tasks::environment::{Environment, own_places, repositories};
use crate::tasks::failure::Failure;
use serde::Deserialize;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// What to add.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Request {
    /// The passphrase.
    pub passphrase: NewPassphrase,
    /// Make a key file here instead. The file must not exist, unless an interrupted run of the same request made it.
    pub new_key_file: Option<PathBuf>,
    /// A few words to know it by.
    pub label: Option<String>,
    /// Change nothing, only say what would be done.
    pub dry_run: bool,
}

/// What was added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// The key; none in a dry run.
    pub key: Option<ObjectId>,
    /// What opens it.
    pub kind: SecretKind,
    /// An earlier run of the same request had added it already.
    pub is_from_before: bool,
}

/// Adds a key beside all others.
///
/// # Errors
/// When the repository cannot be opened, the new secret cannot be read or the key file not be made. Nothing was changed then.
pub fn run(request: &Request, environment: &Environment, monitor: &dyn Monitor) -> Result<Report, Failure> {
    let label = check_label(request.label.as_deref())?;
    let kdf = request.passphrase.kdf()?;
    if request.new_key_file.is_some() && request.passphrase != NewPassphrase::default() {
        return Err(Failure::usage("either a passphrase is added or a key file is made, not both"));
    }
    let repository = repositories::open_repository(environment, monitor, "key add")?;
    if request.dry_run {
        let kind = if request.new_key_file.is_some() { SecretKind::KeyFile } else { SecretKind::Passphrase };
        return Ok(Report { key: None, kind, is_from_before: false });
    }
    let Some(path) = &request.new_key_file else {
        let secret = request.passphrase.read(environment)?;
        let key = Some(add_slot(&repository, (&secret, kdf, label), None)?);
        return Ok(Report { key, kind: secret.kind(), is_from_before: false });
    };
    own_places::refuse_key_in(environment, monitor, path)?;
    let mut making = Making::begin(path, |secret| Ok(!keyring::opened_by(repository.storage(), secret)?.is_empty()))?;
    let kind = SecretKind::KeyFile;
    if let Some(id) = added_before(&repository, &making)? {
        return Ok(Report { key: Some(id), kind, is_from_before: true });
    }
    let secret = making.copy_of_secret();
    let new = NewSlot { secret: &secret, kdf, label, created: Time::now() };
    let added = repository.add_slot_keeping(&new, None, || making.keep());
    let (id, _) = added.map_err(|error| explain_leftover(error.into(), path))?;
    Ok(Report { key: Some(id), kind, is_from_before: false })
}

/// The key that an earlier run of the same request has added with the key file that it made.
fn added_before(repository: &Repository, making: &Making) -> Result<Option<ObjectId>, Failure> {
    if making.is_new() {
        return Ok(None);
    }
    let opened = keyring::opened_by(repository.storage(), &making.copy_of_secret())?;
    Ok(opened.into_iter().find(|id| repository.tip().state.slots.contains(id)))
}

/// What was made and opens nothing must not pass for a key.
fn explain_leftover(error: Failure, path: &Path) -> Failure {
    if !path.exists() {
        return error;
    }
    let shown = escape(path.as_os_str().as_bytes());
    error.remedy(format!("{shown} opens nothing yet: give the same command again, or remove it"))
}
