//! `repair mirror`: objects on a mirror that are not what their names say are put aside there and sent again. The one case in which
//! something on a mirror is replaced. What is missing is the business of `sync`.
//!
//! # Invariants
//!
//! - Only an object that the repository's newest head needs is touched, only when its bytes on the mirror are wrong, and only when the ones
//!   here are right.
//! - The history of the mirror is ours: what `sync` would refuse is refused here.

use std::collections::BTreeMap;

use super::sync;
use super::{Error, Monitor, Phase, Result, check_mirror};
use crate::codec::head::HeadRef;
use crate::repository;
use crate::repository::public_view::{self, Needed, PublicView};
use crate::storage::{ErrorKind, MirrorStore, ObjectName};

/// What will be done.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// Objects that are wrong there, and why.
    pub damaged: Vec<(ObjectName, String)>,
    /// Objects that are missing there: the next sync sends them.
    pub missing: usize,
    /// Objects that were read.
    pub read: u64,
}

/// What was done.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Objects that are right again.
    pub mended: Vec<ObjectName>,
    /// Objects that are damaged or missing here as well, and why.
    pub lost: Vec<(ObjectName, String)>,
}

/// Reads everything on the mirror that the repository's newest head needs.
///
/// # Errors
/// As [`sync::plan`]; [`Error::Interrupted`].
pub fn plan(
    view: &PublicView,
    mirror: &dyn MirrorStore,
    seen: Option<HeadRef>,
    parallel: usize,
    monitor: &dyn Monitor,
) -> Result<Plan> {
    let sync = sync::plan(view, mirror, seen, None, monitor)?;
    let lacking: BTreeMap<ObjectName, ()> =
        sync.send.iter().chain(&sync.heads).map(|needed| (needed.name, ())).collect();
    let there: Vec<Needed> = sync.needs.iter().filter(|needed| !lacking.contains_key(&needed.name)).copied().collect();
    let damaged = check_mirror::read(mirror, view.config_bytes(), &there, parallel, &|_| {}, monitor)?;
    Ok(Plan { damaged, missing: lacking.len(), read: there.len() as u64 })
}

/// Mends what the plan says.
///
/// # Errors
/// Storage errors of the mirror; [`Error::Interrupted`].
pub fn execute(view: &PublicView, mirror: &dyn MirrorStore, plan: &Plan, monitor: &dyn Monitor) -> Result<Report> {
    monitor.phase(Phase::Send);
    let length_of = |name: &ObjectName| view.storage().length(name).ok();
    let lengths: Vec<Option<u64>> = plan.damaged.iter().map(|(name, _)| length_of(name)).collect();
    monitor.expect(lengths.len() as u64, lengths.iter().flatten().sum(), true);
    let mut report = Report::default();
    for ((name, _), length) in plan.damaged.iter().zip(lengths) {
        if monitor.interrupted() {
            return Err(Error::Interrupted);
        }
        let bytes =
            match public_view::read_verified(view.storage(), &Needed { name: *name, length }, view.config_bytes()) {
                Ok(bytes) => bytes,
                Err(error) => {
                    monitor.skip(1, length.unwrap_or_default());
                    report.lost.push((*name, super::check::reason(&error)));
                    continue;
                }
            };
        // Without the newest head the one before it would pass for the newest: it is replaced where it is.
        if !matches!(name, ObjectName::Head { .. }) {
            match mirror.set_aside(name) {
                Err(error) if error.kind != ErrorKind::Absent => return Err(repository::Error::from(error).into()),
                _ => {}
            }
        }
        mirror.replace(name, &bytes).map_err(repository::Error::from)?;
        let again = mirror.read(name, bytes.len() as u64).map_err(repository::Error::from)?;
        if again == bytes {
            report.mended.push(*name);
        } else {
            report.lost.push((*name, "it reads back with other bytes than were sent".to_owned()));
        }
        monitor.advance(1, bytes.len() as u64);
    }
    Ok(report)
}
