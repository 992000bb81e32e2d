//! Store one stream as a file in a new snapshot: what a reader gives, or what a command prints.
//!
//! A command that fails leaves no snapshot, however much it printed before: its exit status decides.

use super::backup::labels::LabelRequest;
use super::backup::{ChangeRequest, Report, finish};
use super::environment::user_command::user_command;
use super::environment::{Environment, repositories};
use super::failure::Failure;
use crate::base::child;
use crate::base::escape::escape;
use crate::base::polled::Polled;
use crate::ops::backup::{self, Options};
use crate::ops::{self, Error, Monitor, Phase};
use crate::repository::Repository;
use crate::repository::pack_writer::PackOptions;
use serde::Deserialize;
use std::ffi::OsString;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::process::Stdio;

/// What it is called, and what the snapshot says of itself.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Request {
    /// The file's name or path in the snapshot.
    pub name: PathBuf,
    /// Store it even if it is empty.
    pub allow_empty: bool,
    /// What the snapshot says of itself.
    pub labels: LabelRequest,
    /// Which snapshot is its parent.
    pub changes: ChangeRequest,
    /// Options of the face that decide what is in the snapshot, for its record.
    pub recorded: Vec<String>,
    /// Do not open and check each block again before it is written.
    pub no_extra_verify: bool,
    /// Make no snapshot when nothing differs from the parent.
    pub skip_if_unchanged: bool,
    /// Change nothing.
    pub dry_run: bool,
}

/// What gives bytes, and can be waited for.
pub trait Input: Read + AsFd {}

impl<T: Read + AsFd> Input for T {}

/// Where the bytes come from.
pub enum Source<'a> {
    /// A reader, made when the repository is open.
    Input(&'a mut dyn FnMut() -> Result<Box<dyn Input>, Failure>),
    /// A command, run without a shell.
    Command {
        /// The program.
        program: OsString,
        /// Its arguments.
        arguments: Vec<OsString>,
    },
}

/// Stores the stream.
///
/// # Errors
/// Any failure means that no snapshot was stored.
pub fn run(
    request: &Request,
    source: Source<'_>,
    environment: &Environment,
    monitor: &dyn Monitor,
) -> Result<Report, Failure> {
    let repository = repositories::open_repository(environment, monitor, "backup")?;
    run_in(request, source, &repository, environment, monitor)
}

/// Stores it in this repository.
///
/// # Errors
/// As [`run`].
pub fn run_in(
    request: &Request,
    source: Source<'_>,
    repository: &Repository,
    environment: &Environment,
    monitor: &dyn Monitor,
) -> Result<Report, Failure> {
    let name = request.name.as_os_str().as_bytes();
    let names: Vec<&[u8]> = name.split(|byte| *byte == b'/').filter(|name| !name.is_empty()).collect();
    let path = [b"/".as_slice(), &names.join(&b"/"[..])].concat();
    let labels = request.labels.resolve(vec![path], request.recorded.clone())?;
    let packs = PackOptions { verify: !request.no_extra_verify, discard: request.dry_run, ..environment.packs };
    let options = Options {
        skip_if_unchanged: request.skip_if_unchanged,
        allow_empty: request.allow_empty,
        ..request.changes.options(repository, &labels, packs)?
    };
    monitor.phase(Phase::Backup);
    let store = |input: &mut dyn Read, end: &mut dyn FnMut() -> ops::Result<()>| {
        backup::run_stream(repository, input, end, name, &labels, &options, monitor)
    };
    let report = match source {
        Source::Input(open) => store(&mut Polled::new(open()?), &mut || Ok(()))?,
        Source::Command { program, arguments } => store_output(program, arguments, store, monitor)?,
    };
    Ok(finish(report, Vec::new(), repository, environment, monitor))
}

fn store_output(
    program: OsString,
    arguments: Vec<OsString>,
    store: impl FnOnce(&mut dyn Read, &mut dyn FnMut() -> ops::Result<()>) -> ops::Result<backup::Report>,
    monitor: &dyn Monitor,
) -> Result<backup::Report, Failure> {
    let shown = escape(program.as_bytes());
    let failed = |error| Failure::failed(format!("cannot run {shown}")).caused_by(error);
    let mut command = user_command(&program);
    let mut child = command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().map_err(failed)?;
    let mut output: Box<dyn Read> = match child.stdout.take() {
        Some(output) => Box::new(Polled::new(output)),
        None => Box::new(io::empty()),
    };
    let mut end = || match child::wait(&mut child, &|| monitor.interrupted()) {
        Ok(Some(status)) if status.success() => Ok(()),
        Ok(Some(status)) => {
            Err(Error::Refused(format!("{shown} failed ({status}): no snapshot was made of its output")))
        }
        Ok(None) => Err(Error::Interrupted),
        Err(error) => Err(Error::Refused(format!("{shown} could not be waited for: {error}"))),
    };
    let report = store(&mut *output, &mut end);
    drop(output);
    if report.is_err() {
        // A command whose output nobody reads any more ends by itself or is ended.
        let _ = child.kill();
        let _ = child.wait();
    }
    Ok(report?)
}
