//! Make the cache again from segments, and missing segments from packs.

use super::Round;
use crate::ops::repair_index::{self, Options, Plan};
use crate::ops::{ATTEMPTS, Monitor};
use crate::tasks::environment::{Environment, repositories};
use crate::tasks::failure::{Failure, Kind};
use serde::Deserialize;

/// What is believed, and what is read.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Request {
    /// Trust no segment: read what every pack says about itself.
    pub read_all_packs: bool,
    /// Check every block of the packs that are read.
    pub read_data: bool,
    /// Change nothing, only say what would be done.
    pub dry_run: bool,
}

/// What was done.
#[derive(Debug)]
pub struct Report {
    /// The repair's own report; none in a dry run.
    pub report: Option<repair_index::Report>,
    /// Whether there is a cache at all.
    pub has_cache: bool,
    leaves_damage: bool,
}

impl Report {
    /// How it ends.
    #[must_use]
    pub fn kind(&self) -> Option<Kind> {
        self.leaves_damage.then_some(Kind::Damage)
    }
}

/// Makes a plan, tells it and carries it out; begins again when another run comes between.
///
/// # Errors
/// When the repository cannot be opened, or the repair cannot be published.
pub fn run(
    request: &Request,
    environment: &Environment,
    monitor: &dyn Monitor,
    tell: &mut dyn FnMut(Round<'_, Plan>) -> Result<(), Failure>,
) -> Result<Report, Failure> {
    let repository = repositories::open_repository(environment, monitor, "repair index")?;
    let options = Options { all_packs: request.read_all_packs, read_data: request.read_data };
    let has_cache = repository.cache_folder().is_some();
    let mut attempt = 1;
    loop {
        let plan = repair_index::plan(&repository, options, monitor)?;
        tell(Round::Planned(&plan))?;
        let leaves_damage = plan.leaves_damage();
        if request.dry_run {
            return Ok(Report { report: None, has_cache, leaves_damage });
        }
        match repair_index::execute(&repository, plan) {
            Err(error) if error.is_overtaken() && attempt < ATTEMPTS => attempt += 1,
            report => return Ok(Report { report: Some(report?), has_cache, leaves_damage }),
        }
        tell(Round::Overtaken)?;
    }
}
