//! Fetch what is damaged or missing here from a mirror. Needs no secret of the repository.

use super::open_mirrors;
use crate::base::command::suggest;
use crate::ops::Monitor;
use crate::ops::repair_objects::{self, Plan};
use crate::storage::ObjectName;
use crate::tasks::environment::{Environment, repositories};
use crate::tasks::failure::{Failure, Kind};
use serde::Deserialize;

/// From where.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Request {
    /// The mirrors, by name; all without any.
    pub mirrors: Vec<String>,
    /// Change nothing, only say what would be done.
    pub dry_run: bool,
}

/// What is told on the way.
#[derive(Debug, Clone, Copy)]
pub enum Step<'a> {
    /// What was found in this round.
    Planned(&'a Plan),
    /// What was fetched in this round.
    Fetched(&'a repair_objects::Report),
}

/// What was done.
#[derive(Debug)]
pub struct Report {
    /// Objects that are right again, and the mirror that they are from.
    pub mended: Vec<(ObjectName, String)>,
    /// Objects that no mirror has, and what each said.
    pub lost: Vec<(ObjectName, String)>,
    /// The last round found something that is wrong.
    pub is_wrong: bool,
    /// What the last round found was fetched, as far as a mirror has it. Otherwise nothing was found, or it was a dry run.
    pub is_fetched: bool,
}

impl Report {
    /// How it ends.
    #[must_use]
    pub fn kind(&self) -> Option<Kind> {
        let is_left = self.is_wrong && !self.is_fetched;
        (is_left || !self.lost.is_empty()).then_some(Kind::Damage)
    }
}

/// Reads everything that the newest state needs, and fetches what is wrong from the first mirror that has it. Does so again as long as what
/// came back says that more is needed.
///
/// # Errors
/// When there is no mirror, or the repository cannot be read or written.
pub fn run(
    request: &Request,
    environment: &Environment,
    monitor: &dyn Monitor,
    tell: &mut dyn FnMut(Step<'_>) -> Result<(), Failure>,
) -> Result<Report, Failure> {
    let mut done = Report { mended: Vec::new(), lost: Vec::new(), is_wrong: false, is_fetched: false };
    let mut rounds = 0_usize;
    loop {
        // Segments that came back name packs that nobody has looked at yet.
        let view = repositories::open_public_view(environment, monitor, "repair objects")?;
        let plan = repair_objects::plan(&view, monitor)?;
        tell(Step::Planned(&plan))?;
        done.is_wrong = !plan.wrong.is_empty();
        if !done.is_wrong || request.dry_run {
            return Ok(Report { is_fetched: false, ..done });
        }
        let (mirrors, _) = open_mirrors(&request.mirrors, view.id(), environment, monitor)?;
        if mirrors.is_empty() {
            return Err(Failure::failed("there is no mirror to fetch from")
                .remedy(concat!("to save what can be read of damaged packs: ", suggest!("repair packs"))));
        }
        let report = repair_objects::execute(&view, &mirrors, &plan, monitor)?;
        tell(Step::Fetched(&report))?;
        done.mended.extend(report.mended);
        done.lost.extend(report.lost);
        rounds += 1;
        let all = view.tip().state.segments.len();
        if !plan.is_partial || !done.lost.is_empty() || rounds > all {
            return Ok(Report { is_fetched: true, ..done });
        }
    }
}
