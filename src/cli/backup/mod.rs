//! `backup`: what to store, and how to look at it.

mod arguments;
mod summary;

pub use arguments::Arguments;

use super::Context;
use super::exit::Exit;
use super::init;
use super::progress::Work;
use crate::base::command::suggest;
use crate::ops::backup::absolute;
use crate::repository::Repository;
use crate::tasks::backup::{self, Report};
use crate::tasks::environment::repositories;
use crate::tasks::failure::Failure;
use crate::tasks::stream::{self, Input, Source};
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Runs the command.
///
/// # Errors
/// Any error means that no snapshot was stored.
pub fn run(arguments: &Arguments, context: &mut Context) -> Result<Exit, Failure> {
    let stream = arguments.takes_stream();
    if stream && !arguments.stdin_from_command && !arguments.paths.is_empty() {
        return Err(Failure::usage("--stdin stores the standard input alone: give no path with it"));
    }
    context.environment.secrets.stdin_taken = arguments.takes_stdin();
    let progress = context.progress(Work::Backup);
    let report = if stream {
        // Patterns change nothing of a stream, and a wrong one is a mistake all the same.
        arguments.request(false).check_patterns()?;
        let repository = open_or_create(arguments, context)?;
        let mut open = open_standard_input;
        let source = arguments.source(&mut open)?;
        stream::run_in(&arguments.stream(), source, &repository, &context.environment, &progress)
    } else {
        let request = arguments.request(context.output.terminal || context.output.json);
        // What cannot be read is found before anything is created or asked.
        let prepared = backup::prepare(&request)?;
        let repository = open_or_create(arguments, context)?;
        prepared.run(&repository, &context.environment, &progress)
    };
    progress.finish();
    let report = report?;
    say(arguments, context, &report)?;
    Ok(report.kind().into())
}

fn open_or_create(arguments: &Arguments, context: &mut Context) -> Result<Repository, Failure> {
    match arguments.init {
        true => init::open_or_create(&init::Arguments::default(), arguments.dry_run, "backup", context),
        false => repositories::open_repository(&context.environment, &context.watch(), "backup"),
    }
}

impl Arguments {
    /// Where the bytes of a stream come from.
    fn source<'a>(&self, open: &'a mut dyn FnMut() -> Result<Box<dyn Input>, Failure>) -> Result<Source<'a>, Failure> {
        if !self.stdin_from_command {
            return Ok(Source::Input(open));
        }
        let Some((program, rest)) = self.paths.split_first() else {
            return Err(Failure::usage("--stdin-from-command needs a command").remedy(concat!(
                "for example: ",
                suggest!("backup --stdin-from-command --stdin-filename db.sql -- pg_dump db")
            )));
        };
        Ok(Source::Command { program: program.clone(), arguments: rest.to_vec() })
    }
}

fn open_standard_input() -> Result<Box<dyn Input>, Failure> {
    if is_closed_input() {
        return Err(Failure::failed("the standard input is closed: there is nothing to store")
            .remedy("give it a pipe or a file, or run a command with --stdin-from-command"));
    }
    // Not the standard library's reader: it holds back what it has read ahead, and nobody can wait for that.
    let input = std::io::stdin().as_fd().try_clone_to_owned();
    let input = input.map_err(|error| Failure::failed("the standard input cannot be read").caused_by(error))?;
    Ok(Box::new(File::from(input)))
}

/// Whether this program was started without a standard input. The runtime then opens `/dev/null` in its place, for reading and
/// writing; who gives `/dev/null` on purpose (`</dev/null`, systemd, cron) opens it for reading.
fn is_closed_input() -> bool {
    use rustix::fs::{FileType, OFlags, fcntl_getfl, fstat, makedev};
    let input = std::io::stdin();
    let is_null = fstat(&input).is_ok_and(|stat| {
        FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == makedev(1, 3)
    });
    is_null && fcntl_getfl(&input).is_ok_and(|flags| flags & OFlags::RWMODE == OFlags::RDWR)
}

/// Where a source lies in the snapshot: an absolute one with all its directories, a relative one by the names in it. None
/// for the current directory, whose entries lie at the top.
fn in_snapshot(source: &Path) -> Option<Vec<u8>> {
    let clean = absolute(&[source.to_path_buf()], Path::new("/")).pop()?;
    let path = if source.is_absolute() { clean.as_slice() } else { clean.strip_prefix(b"/")? };
    (!path.is_empty()).then(|| path.to_vec())
}

fn say(arguments: &Arguments, context: &Context, report: &Report) -> Result<(), Failure> {
    let Report { report, sources: given, mirrors } = report;
    if context.output.json {
        return context.output.json(&summary::json(report, arguments.dry_run));
    }
    if let Some(line) = summary::left_out(&report.own) {
        context.output.info(line)?;
    }
    // Something that is there to be restored.
    let is_stored = |source: &Path| {
        source.symlink_metadata().is_ok()
            && in_snapshot(source).is_none_or(|path| !report.own.contains(&path) && !report.emptied.contains(&path))
    };
    let example = match given.iter().find(|source| is_stored(source)).or(given.first()) {
        Some(first) => in_snapshot(first),
        None => Some(arguments.stdin_filename.as_bytes().to_vec()),
    };
    // The command is typed in another directory.
    let absolute = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
    let sources: Vec<Vec<u8>> = given.iter().map(|path| absolute(path).into_os_string().into_encoded_bytes()).collect();
    for line in summary::text(report, arguments.dry_run, example.as_deref(), (mirrors, &sources)) {
        context.output.info(line)?;
    }
    Ok(())
}
