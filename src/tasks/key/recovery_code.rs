//! Add a recovery code. It is shown once, by a face that has somebody to show it to, and stored nowhere.

use super::{add_slot, check_label, find_slot};
use crate::base::command::suggest;
use crate::base::id::ObjectId;
use crate::codec::key_slot::{Secret, SecretKind};
use crate::codec::recovery_code::{RecoveryCode, SECRET_BYTES};
use crate::ops::Monitor;
use crate::repository::Repository;
use crate::repository::keyring::SlotInfo;
use crate::tasks::environment::{Environment, repositories};
use crate::tasks::failure::Failure;
use crate::tasks::init;
use serde::Deserialize;
use zeroize::Zeroizing;

/// What to add.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Request {
    /// Remove the recovery code of this key as soon as the new one opens the repository: its id, or the beginning of it.
    pub replace: Option<String>,
    /// A few words to know it by.
    pub label: Option<String>,
    /// Bytes of memory that one guess of it costs.
    #[serde(deserialize_with = "crate::tasks::text_form::size")]
    pub kdf_memory: Option<u64>,
    /// Change nothing, only say what would be done.
    pub dry_run: bool,
}

/// What was added.
#[derive(Debug)]
pub struct Report {
    /// The new key; none in a dry run.
    pub key: Option<ObjectId>,
    /// The key whose place it takes.
    pub replaced: Option<SlotInfo>,
    /// The other recovery codes that open the repository.
    pub others: Vec<SlotInfo>,
}

/// How a face shows a new code, which takes the place of a key's or stands beside all others. True when whoever saw it has confirmed it.
pub type Show<'a> = dyn FnMut(&RecoveryCode, Option<&SlotInfo>) -> Result<bool, Failure> + 'a;

/// Makes a recovery code, has it shown, and adds it once it is confirmed.
///
/// # Errors
/// When nobody can see it, or it was not confirmed; when the key that is to be replaced is not a recovery code. Nothing was changed then.
pub fn run(
    request: &Request,
    environment: &Environment,
    monitor: &dyn Monitor,
    show: Option<&mut Show<'_>>,
) -> Result<Report, Failure> {
    let label = check_label(request.label.as_deref())?;
    let kdf = init::kdf(request.kdf_memory)?;
    if show.is_none() && !request.dry_run {
        return Err(Failure::failed("a recovery code is shown on a terminal only, never in JSON, a pipe or a file")
            .remedy(concat!("on a terminal: ", suggest!("key recovery-code")))
            .remedy(concat!("for unattended use make a key file: ", suggest!("key add --new-key-file FILE"))));
    }
    let repository = repositories::open_repository(environment, monitor, "key recovery-code")?;
    let replaced = request.replace.as_deref().map(|prefix| find_replaceable(&repository, prefix)).transpose()?;
    let replacing = replaced.as_ref().map(|slot| slot.id);
    // A code that is shown and then refused is paper that opens nothing.
    repository.require_room_for_slot(replacing)?;
    let mut others = repository.recovery_codes();
    others.retain(|slot| Some(slot.id) != replacing);
    let Some(show) = show.filter(|_| !request.dry_run) else { return Ok(Report { key: None, replaced, others }) };
    let code = generate()?;
    if !show(&code, replaced.as_ref())? {
        return Err(Failure::failed("the recovery code was not confirmed: nothing was changed")
            .remedy("what was shown opens nothing: throw it away, and run the command again for another one"));
    }
    let key = add_slot(&repository, (&Secret::RecoveryCode(code), kdf, label), replacing)
        .map_err(|error| error.remedy("the code that was shown opens nothing: throw it away"))?;
    Ok(Report { key: Some(key), replaced, others })
}

/// A fresh code.
///
/// # Errors
/// When the system's generator fails.
pub fn generate() -> Result<RecoveryCode, Failure> {
    let mut random = Zeroizing::new([0; SECRET_BYTES]);
    getrandom::fill(random.as_mut()).map_err(|_| Failure::failed("the system's random generator failed"))?;
    Ok(RecoveryCode::generate(&random))
}

/// The recovery code that is to be replaced. What is damaged opens nothing, whatever it was.
fn find_replaceable(repository: &Repository, prefix: &str) -> Result<SlotInfo, Failure> {
    let slot = find_slot(repository, prefix)?;
    if slot.kind == SecretKind::RecoveryCode && slot.damage.is_none() {
        return Ok(slot);
    }
    let kind = slot.describe();
    let refused = Failure::usage(format!("key {} ({kind}) is no recovery code", slot.id.short()));
    let refused = refused.remedy(concat!("to see which are: ", suggest!("key list")));
    Err(refused.remedy(format!("to remove it, whatever it is: {}", suggest!("key remove {}", slot.id.short()))))
}
