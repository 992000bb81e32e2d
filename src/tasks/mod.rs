//! What a face may ask for: a request of plain data, an environment that says where things are, and a monitor go in; a report
//! or a [`failure::Failure`] comes out.
//!
//! Nothing here prints, asks on a terminal, or knows an exit code. A command line, a schedule, an API and a terminal interface all
//! call these, so that none of them can leave out what protects the data.

pub mod backup;
pub mod cat;
pub mod check;
pub mod check_mirror;
pub mod copy;
pub mod deleted;
pub mod diff;
pub mod drill;
pub mod dump;
pub mod environment;
mod error_mapping;
pub mod failure;
pub mod find;
pub mod forget;
pub mod hold;
pub mod init;
pub mod key;
pub mod ls;
pub mod mirror;
mod mirror_findings;
pub mod patterns;
pub mod prune;
pub mod recover;
pub mod remedy;
pub mod repair;
pub mod restore;
pub mod rewrite;
pub mod show;
pub mod snapshot_filter;
pub mod snapshots;
pub mod stats;
pub mod status;
mod store_failure;
pub mod stream;
pub mod sync;
pub mod tag;
pub mod text_form;
pub mod undelete;

use crate::ops::{Monitor, Problem, Subject};
use crate::repository::Repository;

/// Objects that a request may have on the way at the same time.
const CONNECTIONS: std::ops::RangeInclusive<u16> = 1..=64;

/// Refuses a number of connections that nothing is made for.
fn require_connections(connections: u16) -> Result<(), failure::Failure> {
    match CONNECTIONS.contains(&connections) {
        true => Ok(()),
        false => Err(failure::Failure::usage(format!("{connections} connections: expected 1 to 64"))),
    }
}

/// Reports what the repository has gathered to be said since it was opened.
pub fn report_warnings(repository: &Repository, monitor: &dyn Monitor) {
    for warning in repository.take_warnings() {
        monitor.problem(&Problem::warning(Subject::Machine, &warning));
    }
}
