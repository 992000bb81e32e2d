//! Save what still opens in damaged packs.

use super::Round;
use crate::ops::repair_packs::{self, Plan};
use crate::ops::select::IdBeginning;
use crate::ops::{ATTEMPTS, Monitor};
use crate::tasks::environment::{Environment, repositories};
use crate::tasks::failure::{Failure, Kind};
use serde::Deserialize;

/// Which packs.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Request {
    /// Only those whose ids begin so; all without any.
    #[serde(deserialize_with = "crate::tasks::text_form::list")]
    pub packs: Vec<IdBeginning>,
    /// Change nothing, only say what would be done.
    pub dry_run: bool,
}

/// What was done.
#[derive(Debug)]
pub struct Report {
    /// What it was based on.
    pub plan: Plan,
    /// The repair's own report; none in a dry run, and when nothing is damaged.
    pub report: Option<repair_packs::Report>,
}

impl Report {
    /// How it ends.
    #[must_use]
    pub fn kind(&self) -> Option<Kind> {
        (self.plan.lost().chunks > 0).then_some(Kind::Damage)
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
    let names: Vec<String> = request.packs.iter().map(|IdBeginning(digits)| digits.clone()).collect();
    let repository = repositories::open_repository(environment, monitor, "repair packs")?;
    let mut attempt = 1;
    loop {
        let plan = repair_packs::plan(&repository, &names, monitor)?;
        tell(Round::Planned(&plan))?;
        if request.dry_run || plan.is_empty() {
            return Ok(Report { plan, report: None });
        }
        match repair_packs::execute(&repository, &plan, environment.packs, monitor) {
            Err(error) if error.is_overtaken() && attempt < ATTEMPTS => attempt += 1,
            report => return Ok(Report { plan, report: Some(report?) }),
        }
        tell(Round::Overtaken)?;
    }
}
