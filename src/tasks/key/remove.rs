//! Remove a key: from then on it opens nothing.

use super::find_slot;
use crate::base::command::suggest;
use crate::codec::key_slot::SecretKind;
use crate::ops::Monitor;
use crate::repository::keyring::SlotInfo;
use crate::tasks::environment::{Environment, repositories};
use crate::tasks::failure::Failure;
use serde::Deserialize;

/// Which key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Request {
    /// Its id, or the beginning of it.
    pub key: String,
    /// Change nothing, only say what would be done.
    pub dry_run: bool,
}

/// Removes it.
///
/// Returns what was removed, or would be in a dry run.
///
/// # Errors
/// When the id names none or several, or the one in use. Nothing was changed then.
pub fn run(request: &Request, environment: &Environment, monitor: &dyn Monitor) -> Result<SlotInfo, Failure> {
    let repository = repositories::open_repository(environment, monitor, "key remove")?;
    let slot = find_slot(&repository, &request.key)?;
    if slot.current {
        let error = Failure::failed(format!("key {} ({}) is the one in use", slot.id.short(), slot.kind.describe()));
        let error = error.remedy("to remove it, open the repository with another key");
        return Err(match slot.kind {
            SecretKind::Passphrase => error.remedy(concat!("to change it: ", suggest!("key passwd"))),
            _ => error,
        });
    }
    if !request.dry_run {
        repository.remove_slot(slot.id)?;
    }
    Ok(slot)
}
