//! Send again what is damaged on a mirror. Needs no secret of the repository.

use crate::base::time::Time;
use crate::ops::{Monitor, repair_mirror, sync};
use crate::repository::mirror_book::{Finding, MirrorBook};
use crate::repository::public_view::PublicView;
use crate::storage::{MirrorStore, ObjectName};
use crate::tasks::environment::{Environment, mirrors, repositories};
use crate::tasks::failure::{Failure, Kind};
use crate::tasks::mirror_findings;
use serde::Deserialize;
use std::collections::BTreeSet;
use std::fs::File;
use std::sync::Arc;

/// Objects that are read at the same time, where nothing else is asked for.
const CONNECTIONS: u16 = 4;
/// So many at most.
const CONNECTIONS_MAX: u16 = 64;

/// Which mirror.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Request {
    /// Its name.
    pub mirror: String,
    /// Read so many objects at the same time, 1 to 64; 4 when it is left out.
    pub connections: Option<u16>,
    /// Change nothing, only say what would be done.
    pub dry_run: bool,
}

/// What is damaged there. Nobody else repairs or syncs this mirror as long as this lives.
pub struct Plan {
    /// The repair's own plan.
    pub plan: repair_mirror::Plan,
    /// The mirror's name.
    pub name: String,
    book: MirrorBook,
    view: PublicView,
    store: Arc<dyn MirrorStore>,
    dry_run: bool,
    _lock: File,
}

/// What was done.
#[derive(Debug)]
pub struct Report {
    /// What it was based on.
    pub plan: repair_mirror::Plan,
    /// The repair's own report; none in a dry run, and when nothing is damaged.
    pub report: Option<repair_mirror::Report>,
}

impl Report {
    /// How it ends.
    #[must_use]
    pub fn kind(&self) -> Option<Kind> {
        let is_left = match &self.report {
            Some(report) => !report.lost.is_empty(),
            None => !self.plan.damaged.is_empty(),
        };
        is_left.then_some(Kind::Damage)
    }
}

/// Repairs the mirror.
///
/// # Errors
/// As [`plan`] and [`Plan::execute`].
pub fn run(request: &Request, environment: &Environment, monitor: &dyn Monitor) -> Result<Report, Failure> {
    plan(request, environment, monitor)?.execute(monitor)
}

/// Reads and hashes everything there that the newest state needs.
///
/// # Errors
/// A usage error for more connections than may be; when there is no such mirror, another process is at work on it, or it cannot be read.
pub fn plan(request: &Request, environment: &Environment, monitor: &dyn Monitor) -> Result<Plan, Failure> {
    let connections = request.connections.unwrap_or(CONNECTIONS);
    if !(1..=CONNECTIONS_MAX).contains(&connections) {
        return Err(Failure::usage(format!("{connections} connections: expected 1 to {CONNECTIONS_MAX}")));
    }
    let view = repositories::open_public_view(environment, monitor, "repair mirror")?;
    let mirror = mirrors::open_book(environment, view.id())?.get(&request.mirror)?;
    let place = mirrors::MirrorLocation::of(&mirror)?;
    let lock = mirrors::lock_mirror(environment, view.id(), &mirror.name)?;
    let store = mirrors::open_store(environment, &place, false)?;
    let plan = sync::with_newest(&view, |view| {
        repair_mirror::plan(view, &*store, mirror.head, usize::from(connections), monitor)
    })?;
    let book = mirrors::open_book(environment, view.id())?;
    Ok(Plan { plan, name: mirror.name, book, view, store, dry_run: request.dry_run, _lock: lock })
}

impl Plan {
    /// Sends what is damaged again; nothing in a dry run.
    ///
    /// # Errors
    /// When the mirror cannot be written. What is damaged here as well is in the report.
    pub fn execute(self, monitor: &dyn Monitor) -> Result<Report, Failure> {
        // The lock is held until the end.
        let Self { plan, name, mut book, view, store, dry_run, _lock } = self;
        if dry_run {
            return Ok(Report { plan, report: None });
        }
        // Everything was read.
        let damaged: BTreeSet<ObjectName> = plan.damaged.iter().map(|(name, _)| *name).collect();
        let right = |book: &mut MirrorBook| {
            let known = book.damaged_objects(&name)?.into_iter().map(|damaged| damaged.name);
            let right: Vec<ObjectName> = known.filter(|name| !damaged.contains(name)).collect();
            book.remove_damaged_objects(&name, &right)?;
            book.add_damaged_objects(&name, &plan.damaged, Time::now())
        };
        mirror_findings::report_lost(right(&mut book), &name, monitor);
        if plan.damaged.is_empty() {
            return Ok(Report { plan, report: None });
        }
        let report = repair_mirror::execute(&view, &*store, &plan, monitor)?;
        mirror_findings::report_lost(book.remove_damaged_objects(&name, &report.mended), &name, monitor);
        if report.lost.is_empty() {
            let is_disproved = |finding: &Finding| finding.kind == Kind::Damage.word();
            mirror_findings::forget(&book, &name, is_disproved, monitor);
        }
        Ok(Report { plan, report: Some(report) })
    }
}
