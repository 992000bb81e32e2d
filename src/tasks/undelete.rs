//! Undelete: what a forget removed, and its way back.

use super::environment::{Environment, repositories};
use super::failure::Failure;
use crate::codec::head::HeadRef;
use crate::ops::Monitor;
use crate::ops::select::IdBeginning;
use crate::ops::undelete::{self, Marked, Plan};
use crate::text::size;
use serde::Deserialize;

/// Which snapshots come back.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Request {
    /// The snapshots, at least one.
    #[serde(deserialize_with = "super::text_form::list")]
    pub snapshots: Vec<IdBeginning>,
    /// Change nothing, only say what would be done.
    pub dry_run: bool,
}

/// What came back.
#[derive(Debug)]
pub struct Report {
    /// The snapshots, and the packs that came back with them.
    pub plan: Plan,
    /// The new head; none in a dry run.
    pub head: Option<HeadRef>,
}

/// What can come back.
#[derive(Debug)]
pub struct Listing {
    /// Every snapshot that was removed and is there still, oldest first; also those that cannot be read.
    pub marked: Vec<Marked>,
    /// Why this is not all, to be reported after what there is.
    pub lacking: Option<Failure>,
}

/// Brings the snapshots back.
///
/// # Errors
/// [`Kind::Damage`](super::failure::Kind::Damage) when something that is needed is gone; a failure when a prune has swept it. Nothing
/// came back then.
pub fn run(request: &Request, environment: &Environment, monitor: &dyn Monitor) -> Result<Report, Failure> {
    if request.snapshots.is_empty() {
        return Err(Failure::usage("no snapshot is named: nothing came back"));
    }
    let repository = repositories::open_repository(environment, monitor, "undelete")?;
    let names: Vec<String> = request.snapshots.iter().map(|IdBeginning(digits)| digits.clone()).collect();
    if request.dry_run {
        return Ok(Report { plan: undelete::plan(&repository, &names, monitor)?, head: None });
    }
    let (plan, head) = undelete::run(&repository, &names, monitor)?;
    Ok(Report { plan, head: Some(head) })
}

/// Lists what can come back.
///
/// # Errors
/// When nothing more can be read at all. What can be read beside something that cannot is in the listing.
pub fn list(environment: &Environment, monitor: &dyn Monitor) -> Result<Listing, Failure> {
    let repository = repositories::open_repository(environment, monitor, "undelete")?;
    let marked = undelete::list(&repository)?;
    let (mut unread, mut is_damage) = (Vec::new(), false);
    for Marked { id, snapshot, .. } in &marked {
        if let Err(error) = snapshot {
            is_damage |= error.is_damage();
            unread.push(format!("{} ({error})", id.short()));
        }
    }
    let lacking = if unread.is_empty() {
        // What an older state says of removed snapshots may be over by now.
        repository.require_newest().err().map(Failure::from)
    } else {
        let count = size::counted(unread.len() as u64, "removed snapshot", "removed snapshots");
        Some(Failure::unread(is_damage, format!("{count} cannot be read: {}", unread.join(", "))))
    };
    Ok(Listing { marked, lacking })
}
