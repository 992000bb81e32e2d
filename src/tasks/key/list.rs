//! List the keys that open the repository.

use crate::ops::Monitor;
use crate::repository::keyring::SlotInfo;
use crate::tasks::environment::{Environment, repositories};
use crate::tasks::failure::{Failure, Kind};

/// The list.
#[derive(Debug)]
pub struct Report {
    /// The keys, the oldest first.
    pub slots: Vec<SlotInfo>,
    /// Why the result may not be what is so now. A face shows this after the result.
    pub incomplete: Option<Failure>,
}

impl Report {
    /// How it ends.
    #[must_use]
    pub fn kind(&self) -> Option<Kind> {
        self.incomplete.as_ref().map(Failure::kind)
    }
}

/// Lists the keys. One that is damaged is in the list, with what is wrong.
///
/// # Errors
/// When the repository cannot be opened.
pub fn run(environment: &Environment, monitor: &dyn Monitor) -> Result<Report, Failure> {
    let repository = repositories::open_repository(environment, monitor, "key list")?;
    let mut slots = repository.slots();
    slots.sort_by_key(|slot| (slot.created, slot.id));
    // A key that was removed since is a key in an older head.
    Ok(Report { slots, incomplete: repository.require_newest().err().map(Failure::from) })
}
