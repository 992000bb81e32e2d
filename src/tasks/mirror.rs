//! Where copies of a repository are: add one, take one off the list, accept what one shows now, list them. Needs no secret of the
//! repository; credentials come from the environment and are not stored.

use super::environment::mirrors::{self, MirrorLocation};
use super::environment::{Environment, own_places, repositories};
use super::failure::{Failure, Kind};
use crate::base::command::suggest;
use crate::base::time::Time;
use crate::codec::head::HeadRef;
use crate::codec::head_code::HeadCode;
use crate::ops::{self, Monitor, Problem, Subject, probe};
use crate::repository::chain;
use crate::repository::mirror_book::{BookError, DamagedObject, Finding, Mirror, MirrorBook, SendCounts};
use crate::repository::public_view::PublicView;
use crate::storage::address::Address;
use crate::storage::device;
use serde::Deserialize;

/// A mirror that is to be added.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct AddRequest {
    /// What to call it: letters, digits, - and _.
    pub name: String,
    /// Where it lies.
    pub address: String,
    /// Options of the service, each `key=value`.
    pub option: Vec<String>,
    /// Prints the credentials, lines `key=value`; run without a shell.
    pub credentials_command: Option<String>,
    /// Do not try the store.
    pub no_probe: bool,
    /// Change nothing, only try the store.
    pub dry_run: bool,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Adding {
    /// It is on the list.
    Added,
    /// It was on the list already, so.
    There,
    /// It would be.
    WouldBeAdded,
}

/// What came of adding a mirror.
#[derive(Debug)]
pub struct Added {
    /// What became of it.
    pub adding: Adding,
    /// Where it lies.
    pub address: Address,
    /// It lies on the repository's file system: when that disk fails, both are lost.
    pub same_file_system: bool,
}

/// What is found out before a mirror is on the list.
#[derive(Debug)]
pub enum Step {
    /// Its directory is not there, and would be made.
    WouldMakeDirectory,
    /// What its store can do.
    Probed(probe::Findings),
}

/// Is told of each step. A failure ends it, and the mirror is not on the list.
pub type OnStep<'a> = &'a dyn Fn(Step) -> Result<(), Failure>;

/// The repository as anyone sees it, and the book of its mirrors. A newest head that cannot be read is reported.
fn open_book(environment: &Environment, monitor: &dyn Monitor) -> Result<(PublicView, MirrorBook), Failure> {
    let view = repositories::open_public_view(environment, monitor, "mirror")?;
    if let Err(error) = view.tip().require_sound() {
        let message = format!("{error}. To bring it back from a mirror: {}", suggest!("repair heads"));
        monitor.problem(&Problem::warning(Subject::Stored, &message));
    }
    let book = mirrors::open_book(environment, view.id())?;
    Ok((view, book))
}

/// Adds a mirror, and tries what its store can do.
///
/// # Errors
/// When its name or its address is taken, its place is packstone's own, or its store does not do what is needed.
pub fn add(
    request: &AddRequest,
    environment: &Environment,
    monitor: &dyn Monitor,
    on_step: OnStep<'_>,
) -> Result<Added, Failure> {
    let (view, book) = open_book(environment, monitor)?;
    let address = mirrors::complete(mirrors::parse_typed(&request.address, &request.option)?)?;
    mirrors::refuse_same(environment, &address)?;
    if let Some(directory) = address.directory() {
        own_places::refuse_beneath(environment, monitor, directory)?;
    }
    if let Ok(there) = book.get(&request.name) {
        if there.address == address.to_string() && there.credentials_command == request.credentials_command {
            // Who was interrupted says the same again.
            return added(request, address, Adding::There, environment, monitor);
        }
        return Err(BookError::Exists(request.name.clone()).into());
    }
    // One lock a name: under two names two syncs would be at work there.
    if let Some(there) = book.all()?.into_iter().find(|mirror| is_same(mirror, &address)) {
        return Err(Failure::failed(format!("mirror {} is at this address already", there.name)));
    }
    let new = address.directory().filter(|directory| request.dry_run && !directory.exists());
    if let Some(directory) = new {
        mirrors::require_parent(directory)?;
        on_step(Step::WouldMakeDirectory)?;
    } else if !request.no_probe {
        let location = MirrorLocation {
            name: Some(request.name.clone()),
            address: address.clone(),
            credentials_command: request.credentials_command.clone(),
            is_listed: false,
        };
        let store = mirrors::open_store(environment, &location, !request.dry_run)?;
        let found = probe::run(&*store, &view).map_err(|error| of_probe(error, &request.name))?;
        on_step(Step::Probed(found))?;
    }
    if request.dry_run {
        return added(request, address, Adding::WouldBeAdded, environment, monitor);
    }
    book.add(&request.name, &address.to_string(), request.credentials_command.as_deref(), Time::now())?;
    added(request, address, Adding::Added, environment, monitor)
}

/// Why a place was not taken, in words about the mirror that it was to be.
fn of_probe(error: ops::Error, name: &str) -> Failure {
    if let ops::Error::Mirror(error) = &error { Failure::of_mirror(error, name) } else { error.into() }
}

fn is_same(mirror: &Mirror, address: &Address) -> bool {
    let real = |address: &Address| address.directory().and_then(|directory| directory.canonicalize().ok());
    let other = Address::parse(&mirror.address, &[]).ok();
    mirror.address == address.to_string()
        || other.is_some_and(|other| real(&other).is_some() && real(&other) == real(address))
}

fn added(
    request: &AddRequest,
    address: Address,
    adding: Adding,
    environment: &Environment,
    monitor: &dyn Monitor,
) -> Result<Added, Failure> {
    let here = repositories::place(environment)?;
    let same_file_system = address.directory().is_some_and(|directory| device::is_shared(&here, directory));
    if same_file_system {
        let message =
            format!("mirror {} is on the same file system as the repository: {}", request.name, mirrors::NO_COPY);
        monitor.problem(&Problem::warning(Subject::Mirror, &message));
    }
    Ok(Added { adding, address, same_file_system })
}

/// Takes a mirror off the list, and returns what was known of it. Its files stay.
///
/// # Errors
/// When there is none of this name.
pub fn remove(name: &str, dry_run: bool, environment: &Environment, monitor: &dyn Monitor) -> Result<Mirror, Failure> {
    let (_, mut book) = open_book(environment, monitor)?;
    let mirror = book.get(name)?;
    if !dry_run {
        book.remove(name)?;
    }
    Ok(mirror)
}

/// Accepts what a mirror shows now, although it showed a newer state before. `head` is its state code, or `none` for an empty one.
///
/// # Errors
/// When it shows another state; a usage error when the code is none.
pub fn accept(
    name: &str,
    head: &str,
    dry_run: bool,
    environment: &Environment,
    monitor: &dyn Monitor,
) -> Result<(Mirror, Option<HeadRef>), Failure> {
    let (view, book) = open_book(environment, monitor)?;
    let mirror = book.get(name)?;
    let wanted = if head == "none" {
        None
    } else {
        let code = HeadCode::parse(head).map_err(|error| Failure::usage(error.to_string()))?;
        let store = mirrors::open_store(environment, &MirrorLocation::of(&mirror)?, false)?;
        let newest = chain::newest(&*store, view.verifying_key(), view.id())?;
        if !code.matches(&newest.reference()) {
            let now = HeadCode::of(&newest.reference());
            return Err(Failure::failed(format!("the mirror shows another state: {now}")));
        }
        Some(newest.reference())
    };
    if !dry_run {
        book.set_head(name, wanted)?;
        for finding in book.findings(name)?.iter().filter(|finding| finding.kind == Kind::Rollback.word()) {
            book.clear_finding(name, finding.found_by)?;
        }
        // What was read from it directly counts no more either.
        let location = MirrorLocation::of(&mirror)?;
        let memory = repositories::memory_of_mirror(environment, monitor, &location, false)?;
        memory.unset_apart(view.id()).map_err(|error| {
            Failure::failed("this machine's memory of a newer state cannot be changed").caused_by(error)
        })?;
    }
    Ok((mirror, wanted))
}

/// A mirror of the list.
#[derive(Debug)]
pub struct Listed {
    /// What the book knows of it.
    pub mirror: Mirror,
    /// What waits to be sent there, and what could not be.
    pub counts: SendCounts,
    /// What the last sync and the last check found to speak against it.
    pub findings: Vec<Finding>,
    /// Objects there that are not what their names say.
    pub damaged: Vec<DamagedObject>,
    /// What could not be sent, each with the number of tries, whether it may pass, and why.
    pub failures: Vec<(String, u64, bool, String)>,
}

/// The repository's newest generation, and its mirrors by name.
///
/// # Errors
/// When there is no repository, or the book of its mirrors cannot be read.
pub fn list(environment: &Environment, monitor: &dyn Monitor) -> Result<(u64, Vec<Listed>), Failure> {
    let (view, book) = open_book(environment, monitor)?;
    let mut listed = Vec::new();
    for mirror in book.all()? {
        let (counts, failures) = (book.counts(&mirror.name)?, book.failures(&mirror.name)?);
        let (findings, damaged) = (book.findings(&mirror.name)?, book.damaged_objects(&mirror.name)?);
        listed.push(Listed { mirror, counts, findings, damaged, failures });
    }
    Ok((view.tip().reference().generation, listed))
}
