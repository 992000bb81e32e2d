//! Change the passphrase that opened the repository.

use super::{NewPassphrase, add_slot};
use crate::base::command::suggest;
use crate::base::id::ObjectId;
use crate::codec::key_slot::SecretKind;
use crate::ops::Monitor;
use crate::tasks::environment::{Environment, repositories};
use crate::tasks::failure::Failure;
use serde::Deserialize;

/// The new one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Request {
    /// Where it comes from.
    pub passphrase: NewPassphrase,
    /// Change nothing, only say what would be done.
    pub dry_run: bool,
}

/// What was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// The key that is replaced, or would be.
    pub old: ObjectId,
    /// The new one; none in a dry run.
    pub new: Option<ObjectId>,
}

/// Puts a key with the new passphrase in the place of the one that opened the repository, in one step.
///
/// # Errors
/// When the repository was opened with something else than a passphrase, or the new one cannot be read. Nothing was changed then.
pub fn run(request: &Request, environment: &Environment, monitor: &dyn Monitor) -> Result<Report, Failure> {
    let kdf = request.passphrase.kdf()?;
    let repository = repositories::open_repository(environment, monitor, "key passwd")?;
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
    if request.dry_run {
        return Ok(Report { old: old.id, new: None });
    }
    let secret = request.passphrase.read(environment)?;
    let new = add_slot(&repository, (&secret, kdf, &old.label), Some(old.id))?;
    Ok(Report { old: old.id, new: Some(new) })
}
