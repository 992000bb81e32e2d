//! Bring heads that cannot be read back from a mirror, or go on from the newest one that can. Needs no secret of the repository.

use super::open_mirrors;
use crate::base::command::suggest;
use crate::codec::head::HeadRef;
use crate::ops::{ATTEMPTS, Monitor, repair_heads};
use crate::repository;
use crate::repository::broken_heads::BrokenHeads;
use crate::repository::chain::Tip;
use crate::storage::ObjectName;
use crate::tasks::environment::freshness::{About, report_freshness};
use crate::tasks::environment::{Environment, repositories};
use crate::tasks::failure::{Failure, Kind};
use crate::text::size;
use serde::Deserialize;
use std::collections::BTreeSet;

/// From where, and how far it may go.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Request {
    /// The mirrors, by name; all without any.
    pub mirrors: Vec<String>,
    /// Go on from the newest head that can be read, when no mirror has the later ones.
    pub set_back: bool,
    /// Change nothing, only say what would be done.
    pub dry_run: bool,
}

/// What is told on the way.
#[derive(Clone, Copy)]
pub enum Step<'a> {
    /// What was found in the beginning.
    Found(&'a BrokenHeads),
    /// What was fetched in this round.
    Fetched(&'a repair_heads::Report),
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// Every head that matters could be read from the beginning.
    Sound,
    /// Some cannot be read; nothing was changed in a dry run.
    Planned,
    /// Every head that matters can be read again.
    Mended,
    /// The repository goes on from an older state.
    SetBack {
        /// The head of that state.
        head: HeadRef,
        /// Where the files are now that were moved, from the repository's directory.
        moved: Vec<String>,
    },
}

impl Report {
    /// How it ends.
    #[must_use]
    pub fn kind(&self) -> Option<Kind> {
        matches!(self, Self::Planned).then_some(Kind::Damage)
    }
}

/// Finds the heads that cannot be read, and brings them back from the first mirror that has them; where none has, and that is asked for,
/// sets the repository back.
///
/// # Errors
/// When there is no repository, or it cannot be read or written; [`Kind::Damage`] when heads stay lost and it may not be set back.
pub fn run(
    request: &Request,
    environment: &Environment,
    monitor: &dyn Monitor,
    tell: &mut dyn FnMut(Step<'_>) -> Result<(), Failure>,
) -> Result<Report, Failure> {
    let mut broken = find(environment, monitor)?;
    let place = repositories::place(environment)?;
    if let Some((head, known)) = broken.freshness() {
        report_freshness(&known, head, About::new(&place), monitor);
    }
    tell(Step::Found(&broken))?;
    if broken.wrong.is_empty() {
        return Ok(Report::Sound);
    }
    if request.dry_run {
        return Ok(Report::Planned);
    }
    let before = broken.sound.as_ref().map(Tip::reference);
    let mut silent = BTreeSet::new();
    // A head that came back may name a checkpoint that is not there either.
    for _ in 0..ATTEMPTS {
        let (mirrors, closed) = open_mirrors(&request.mirrors, broken.id(), environment, monitor)?;
        let report = repair_heads::fetch(&broken, &mirrors, monitor)?;
        tell(Step::Fetched(&report))?;
        silent = report.silent.into_iter().chain(closed).collect();
        broken = find(environment, monitor)?;
        if let Some(before) = before {
            let came: Vec<ObjectName> = report.mended.iter().map(|(name, _)| *name).collect();
            broken.follow(before, &came)?;
        }
        if report.mended.is_empty() || broken.wrong.is_empty() {
            break;
        }
    }
    if broken.wrong.is_empty() {
        return Ok(Report::Mended);
    }
    require_set_back(&broken, request.set_back, &silent)?;
    let memory = repositories::memory(environment, monitor);
    let elsewhere = repositories::elsewhere(&memory, broken.id(), &place);
    let (head, moved) = broken.set_back(elsewhere.is_some())?;
    Ok(Report::SetBack { head, moved })
}

/// What a newer program wrote is no damage.
fn find(environment: &Environment, monitor: &dyn Monitor) -> Result<BrokenHeads, Failure> {
    let access = repositories::access_repository(environment, monitor, "repair heads")?;
    BrokenHeads::find(access).map_err(|error| match error {
        repository::Error::UnreadableHead { .. } => Failure::new(Kind::Damage, error.to_string()).remedy(
            "use the newer program; if none ever wrote here, keep that file somewhere else and take it out of heads/",
        ),
        error => error.into(),
    })
}

/// Refuses to set back what cannot be, what need not be, and what nobody has asked for.
fn require_set_back(broken: &BrokenHeads, may_set_back: bool, silent: &BTreeSet<String>) -> Result<(), Failure> {
    let Some(newest) = broken.sound.as_ref().map(|tip| tip.reference().generation) else {
        return Err(Failure::new(
            Kind::Damage,
            "no head here can be read, and no mirror has one of those that are here",
        )
        .remedy(concat!(
            "from any other copy of the repository, copy the files under heads/ back. To bring it back from a mirror: ",
            suggest!("recover MIRROR --to DIRECTORY")
        )));
    };
    if !may_set_back {
        let files = size::counted(broken.unlisted_snapshots, "file", "files");
        return Err(Failure::new(
            Kind::Damage,
            format!(
                "the newest head that can be read is of generation {newest}, and later ones cannot be brought back"
            ),
        )
        .remedy(format!(
            "to go on from generation {newest}, which says nothing of {files} under snapshots/: {}",
            suggest!("repair heads --set-back")
        ))
        .remedy(concat!("to see then what can come back: ", suggest!("undelete"))));
    }
    if !silent.is_empty() {
        let names: Vec<&str> = silent.iter().map(String::as_str).collect();
        return Err(Failure::failed(format!("{} did not answer, and may have the later heads", names.join(", ")))
            .remedy(concat!(
                "run the command again when it answers. To forget one that is gone for good: ",
                suggest!("mirror remove NAME")
            )));
    }
    Ok(())
}
