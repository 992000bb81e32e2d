//! `backup`: what to store, and how to look at it.

mod arguments;
mod summary;

pub use arguments::Arguments;

use super::Context;
use super::exit::Exit;
use super::init;
use super::progress::{Progress, Work};
use crate::base::command::suggest;
use crate::base::escape::escape;
use crate::base::polled::Polled;
use crate::base::threads;
use crate::codec::snapshot::Outcome;
use crate::files::exclude::Excludes;
use crate::files::own::OwnPlaces;
use crate::files::source::Sources;
use crate::files::walk::{Rules, Step, Walk};
use crate::ops::backup::{self, Labels, Options, Report, parent, scan::Unchanged};
use crate::ops::{Monitor, Phase};
use crate::repository::Repository;
use crate::repository::pack_writer::PackOptions;
use crate::repository::remembered::Recalled;
use crate::storage::remote::ssh;
use crate::tasks::environment::{mirrors, own_places, repositories};
use crate::tasks::failure::Failure;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Runs the command.
///
/// # Errors
/// Any error means that no snapshot was stored.
pub fn run(arguments: &Arguments, context: &mut Context) -> Result<Exit, Failure> {
    let stream = arguments.takes_stream();
    if stream && !arguments.stdin_from_command && !arguments.paths.is_empty() {
        return Err(Failure::usage("--stdin stores the standard input alone: give no path with it"));
    }
    let excludes = arguments.excludes()?;
    let given = if stream { Vec::new() } else { arguments.sources()? };
    let current = std::env::current_dir()
        .map_err(|error| Failure::failed("the current directory cannot be determined").caused_by(error))?;
    // What cannot be read is found before anything is created or asked.
    let sources = if stream {
        None
    } else {
        Some(Sources::new(&given, &excludes).map_err(|error| Failure::from(crate::ops::Error::from(error)))?)
    };
    let repository = open_or_create(arguments, context)?;
    let labels = labels(arguments, &given, &current)?;
    labels.check().map_err(Failure::from)?;
    let options = options(arguments, context, &repository, &labels)?;
    let progress = context.progress(Work::Backup);
    let report = match sources {
        None => stream_backup(arguments, &repository, &labels, &options, &progress),
        Some(sources) => {
            let own = own_places::places(&context.environment, &context.watch(), &repository);
            refuse_own(&sources.paths, &own, context)?;
            let rules =
                || Rules { excludes: excludes.clone(), one_file_system: arguments.one_file_system, own: own.clone() };
            let count = !arguments.no_scan && (context.output.terminal || context.output.json);
            std::thread::scope(|scope| {
                if count {
                    let (rules, given, excludes) = (rules(), &given, &excludes);
                    let progress = &progress;
                    // Without it the time that is left cannot be estimated, and nothing else is lost.
                    let _ = threads::spawn_one(scope, move || expect(given, excludes, rules, progress));
                }
                backup::run(&repository, sources, rules(), &labels, &options, &progress).map_err(Failure::from)
            })
        }
    };
    progress.finish();
    let report = report?;
    for warning in report.warnings.iter().chain(&repository.take_warnings()) {
        context.output.warn(warning);
    }
    say(arguments, context, &repository, &report, &given)?;
    Ok(if report.outcome == Outcome::Partial { Exit::SourcePartlyUnreadable } else { Exit::Success })
}

fn open_or_create(arguments: &Arguments, context: &mut Context) -> Result<Repository, Failure> {
    context.environment.secrets.stdin_taken = arguments.takes_stdin();
    let place = repositories::place(&context.environment)?;
    if !arguments.init || repositories::exists(&place) {
        return repositories::open_repository(&context.environment, &context.watch(), "backup");
    }
    if repositories::memory(&context.environment, &context.watch()).at(&place) != Recalled::Nothing {
        return Err(repositories::nothing_at(&context.environment, &context.watch(), &place));
    }
    if arguments.dry_run {
        return Err(Failure::usage("--dry-run needs a repository, and --init would have to make one"));
    }
    init::create(&init::Arguments::default(), context, &place, "backup")
}

fn labels(arguments: &Arguments, given: &[PathBuf], current: &Path) -> Result<Labels, Failure> {
    let host = match &arguments.host {
        Some(host) => host.clone(),
        None => nix::unistd::gethostname()
            .map(|name| name.to_string_lossy().into_owned())
            .map_err(|error| Failure::failed("the system's host name cannot be determined").caused_by(error))?,
    };
    let user = nix::unistd::User::from_uid(nix::unistd::getuid()).ok().flatten();
    let paths = if given.is_empty() {
        let name = arguments.stdin_filename.as_bytes();
        let names: Vec<&[u8]> = name.split(|byte| *byte == b'/').filter(|name| !name.is_empty()).collect();
        vec![[b"/".as_slice(), &names.join(&b"/"[..])].concat()]
    } else {
        backup::paths::fold(backup::absolute(given, current))
    };
    Ok(Labels {
        time: arguments.time,
        host,
        user: user.map(|user| user.name).unwrap_or_default(),
        label: arguments.label.clone().unwrap_or_default(),
        tags: arguments.tags(),
        paths,
        options: arguments.recorded(),
    })
}

fn options(
    arguments: &Arguments,
    context: &Context,
    repository: &Repository,
    labels: &Labels,
) -> Result<Options, Failure> {
    let cpus = std::thread::available_parallelism().map_or(2, usize::from);
    let parent = match arguments.force {
        true => None,
        false => parent::choose(repository, arguments.parent.as_ref(), arguments.group_by, labels)?,
    };
    Ok(Options {
        parent,
        unchanged: Unchanged {
            force: arguments.force,
            ignore_ctime: arguments.ignore_ctime,
            ignore_inode: arguments.ignore_inode,
        },
        skip_if_unchanged: arguments.skip_if_unchanged,
        allow_empty: if arguments.takes_stream() { arguments.stdin_allow_empty } else { arguments.allow_empty },
        readers: arguments.read_concurrency.map_or(cpus.clamp(2, 4), usize::from),
        packs: PackOptions {
            verify: !arguments.no_extra_verify,
            discard: arguments.dry_run,
            ..context.environment.packs
        },
    })
}

/// Looks at the sources that are, or lie in, what is packstone's own: they are left out, aloud. An absolute path each.
///
/// # Errors
/// When nothing else was named.
fn refuse_own(sources: &[Vec<u8>], own: &OwnPlaces, context: &Context) -> Result<(), Failure> {
    for sentence in own.unknown() {
        context.output.warn(&format!("{sentence}: what belongs to it may become part of this backup"));
    }
    let (mut owned, mut others) = (Vec::new(), 0);
    for source in sources {
        match own.find_source(source) {
            Ok(Some(owner)) if owner.is_own() => owned.push((source, owner)),
            // What is missing or cannot be read the walk names.
            _ => others += 1,
        }
    }
    if let (Some((source, owner)), 0) = (owned.first(), others) {
        return Err(Failure::failed(format!("nothing to back up: {} is {owner}, or lies in it", escape(source)))
            .remedy(concat!("a repository is never backed up. To copy it: ", suggest!("mirror add NAME ADDRESS"))));
    }
    for (source, owner) in owned {
        context.output.warn(&format!("{} is {owner}, or lies in it: it is left out", escape(source)));
    }
    Ok(())
}

/// Counts what there is, so that the remaining time can be told.
fn expect(given: &[PathBuf], excludes: &Excludes, rules: Rules, progress: &Progress) {
    let Ok(sources) = Sources::new(given, excludes) else { return };
    let (mut files, mut bytes) = (0, 0);
    for step in Walk::new(sources, rules) {
        if progress.interrupted() {
            return;
        }
        if let Step::Entry(entry) = step {
            files += 1;
            bytes += if entry.stat.kind == crate::files::stat::Kind::File { entry.stat.size } else { 0 };
            if files == 1_000 {
                progress.expect(files, bytes, false);
                (files, bytes) = (0, 0);
            }
        }
    }
    progress.expect(files, bytes, true);
}

fn stream_backup(
    arguments: &Arguments,
    repository: &Repository,
    labels: &Labels,
    options: &Options,
    progress: &Progress,
) -> Result<Report, Failure> {
    let name = arguments.stdin_filename.as_bytes();
    progress.phase(Phase::Backup);
    if !arguments.stdin_from_command {
        if is_closed_input() {
            return Err(Failure::failed("the standard input is closed: there is nothing to store")
                .remedy("give it a pipe or a file, or run a command with --stdin-from-command"));
        }
        let mut input = Polled::new(std::io::stdin().lock());
        return Ok(backup::run_stream(repository, &mut input, &mut || Ok(()), name, labels, options, progress)?);
    }
    let Some((program, rest)) = arguments.paths.split_first() else {
        return Err(Failure::usage("--stdin-from-command needs a command").remedy(concat!(
            "for example: ",
            suggest!("backup --stdin-from-command --stdin-filename db.sql -- pg_dump db")
        )));
    };
    let shown = escape(program.as_bytes());
    let failed = |error| Failure::failed(format!("cannot run {shown}")).caused_by(error);
    let mut command = Command::new(program);
    ssh::Place::hide_from(&mut command);
    let mut child = command.args(rest).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().map_err(failed)?;
    let mut output: Box<dyn Read> = match child.stdout.take() {
        Some(output) => Box::new(Polled::new(output)),
        None => Box::new(std::io::empty()),
    };
    let mut finish = || match child.wait() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{shown} failed ({status}): no snapshot was made of its output")),
        Err(error) => Err(format!("{shown} could not be waited for: {error}")),
    };
    let report = backup::run_stream(repository, &mut *output, &mut finish, name, labels, options, progress);
    drop(output);
    if report.is_err() {
        // A command whose output nobody reads any more ends by itself or is ended.
        let _ = child.kill();
        let _ = child.wait();
    }
    Ok(report?)
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
    let clean = backup::absolute(&[source.to_path_buf()], Path::new("/")).pop()?;
    let path = if source.is_absolute() { clean.as_slice() } else { clean.strip_prefix(b"/")? };
    (!path.is_empty()).then(|| path.to_vec())
}

fn say(
    arguments: &Arguments,
    context: &Context,
    repository: &Repository,
    report: &Report,
    given: &[PathBuf],
) -> Result<(), Failure> {
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
    let mirrors = mirrors::list_names(&context.environment, repository.id());
    // The command is typed in another directory.
    let absolute = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
    let sources: Vec<Vec<u8>> = given.iter().map(|path| absolute(path).into_os_string().into_encoded_bytes()).collect();
    for line in summary::text(report, arguments.dry_run, example.as_deref(), (&mirrors, &sources)) {
        context.output.info(line)?;
    }
    Ok(())
}
