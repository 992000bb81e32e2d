//! `repair objects`: what is damaged or missing here comes back from a mirror, under its own name. Needs no secret.
//!
//! # Order, and what an interruption leaves
//!
//! | step | an interruption before the next step leaves |
//! |---|---|
//! | 1. read everything that the newest head needs | nothing |
//! | 2. fetch an object from a mirror, and hash it | a temporary file, which the next backup removes |
//! | 3. move the damaged one to `quarantine/` | it is missing, and known to be so: the same command goes on |
//! | 4. give the good one its name | one object less to be mended |
//!
//! # Invariants
//!
//! - Nothing gets a name whose bytes do not hash to it.
//! - A damaged object is moved only when a good one is here already.

use rayon::prelude::*;

use super::{Error, Monitor, Phase, Result, check};
use crate::repository;
use crate::repository::public_view::{self, Needed, PublicView};
use crate::storage::{ErrorKind, MirrorStore, ObjectName, Storage};

/// An object that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    /// Which.
    pub needed: Needed,
    /// Why; none when it is not there at all.
    pub damage: Option<String>,
    /// The disk does not give its bytes, which says nothing of them.
    pub is_unreadable: bool,
}

/// What has to be mended.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// The objects, in the order of publishing.
    pub wrong: Vec<Wrong>,
    /// Objects that were read.
    pub read: u64,
    /// What the head needs cannot be known before these segments are back: there may be more.
    pub is_partial: bool,
}

/// What was done.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Objects that are right again, and the mirror that they are from.
    pub mended: Vec<(ObjectName, String)>,
    /// Objects that no mirror has, and what each said.
    pub lost: Vec<(ObjectName, String)>,
}

/// Reads everything that the newest head needs.
///
/// # Errors
/// A disk that cannot be read at all; [`Error::Interrupted`].
pub fn plan(view: &PublicView, monitor: &dyn Monitor) -> Result<Plan> {
    // What only a newer head needs would be called sound.
    view.tip().require_sound()?;
    monitor.phase(Phase::CheckData);
    let needs = match view.needs() {
        Ok(needs) => needs,
        // A segment says which packs there are: it comes first.
        Err(repository::Error::Missing { object, .. } | repository::Error::Damaged { object, .. }) => {
            let length = match object {
                ObjectName::Segment(id) => view.tip().state.segments.get(&id).copied(),
                _ => None,
            };
            let wrong = look(view, &Needed { name: object, length })?.into_iter().collect();
            return Ok(Plan { wrong, read: 1, is_partial: true });
        }
        Err(error) => return Err(error.into()),
    };
    monitor.expect(needs.len() as u64, needs.iter().filter_map(|needed| needed.length).sum(), true);
    let looked: Result<Vec<Option<Wrong>>> = needs
        .par_iter()
        .map(|needed| {
            if monitor.interrupted() {
                return Err(Error::Interrupted);
            }
            let found = look(view, needed)?;
            monitor.advance(1, needed.length.unwrap_or_default());
            Ok(found)
        })
        .collect();
    let wrong = looked?.into_iter().flatten().collect();
    Ok(Plan { wrong, read: needs.len() as u64, is_partial: false })
}

fn look(view: &PublicView, needed: &Needed) -> Result<Option<Wrong>> {
    let wrong = |damage| Ok(Some(Wrong { needed: *needed, damage, is_unreadable: false }));
    match public_view::read_verified(view.storage(), needed, view.config_bytes()) {
        Ok(_) => Ok(None),
        Err(repository::Error::Storage(error)) => match error.kind {
            ErrorKind::Absent => wrong(None),
            // A sector that cannot be read: another copy is what helps.
            ErrorKind::Device => {
                Ok(Some(Wrong { needed: *needed, damage: Some(error.to_string()), is_unreadable: true }))
            }
            ErrorKind::Length | ErrorKind::NoFile => wrong(Some(error.to_string())),
            // Nothing is known of its bytes, and a good object must not be put aside for that.
            _ => Err(repository::Error::from(error).into()),
        },
        Err(error) => wrong(Some(check::reason(&error))),
    }
}

/// Mends what the plan says from the first mirror that has it. `mirrors` are names and stores.
///
/// # Errors
/// The repository cannot be written; [`Error::Interrupted`]. What a mirror says is in the report.
pub fn execute(
    view: &PublicView,
    mirrors: &[(String, std::sync::Arc<dyn MirrorStore>)],
    plan: &Plan,
    monitor: &dyn Monitor,
) -> Result<Report> {
    monitor.phase(Phase::Fetch);
    monitor.expect(plan.wrong.len() as u64, plan.wrong.iter().filter_map(|wrong| wrong.needed.length).sum(), true);
    let mut report = Report::default();
    for Wrong { needed, damage, .. } in &plan.wrong {
        let mut said = Vec::new();
        for (name, mirror) in mirrors {
            if monitor.interrupted() {
                return Err(Error::Interrupted);
            }
            match public_view::read_verified(&**mirror, needed, view.config_bytes()) {
                Ok(bytes) => {
                    put(view.storage(), needed.name, &bytes, damage.is_some()).map_err(repository::Error::from)?;
                    report.mended.push((needed.name, name.clone()));
                    said.clear();
                    break;
                }
                Err(error) => said.push(format!("{name}: {}", check::reason(&error))),
            }
        }
        if !said.is_empty() || mirrors.is_empty() {
            report.lost.push((needed.name, said.join("; ")));
            monitor.skip(1, needed.length.unwrap_or_default());
        } else {
            monitor.advance(1, needed.length.unwrap_or_default());
        }
    }
    Ok(report)
}

/// Stores bytes that were hashed, in place of damaged ones if there are any.
fn put(storage: &dyn Storage, name: ObjectName, bytes: &[u8], replaces: bool) -> crate::storage::Result<()> {
    let mut upload = storage.create()?;
    upload.append(bytes)?;
    if replaces {
        match storage.set_aside(&name) {
            Err(error) if error.kind != ErrorKind::Absent => return Err(error),
            _ => {}
        }
    }
    upload.finish(&name).map(|_| ())
}
