//! Store files and directories as a new snapshot.
//!
//! What is asked for is read before the repository is opened ([`prepare`]): a list or a pattern that cannot be read is found before
//! anybody is asked for a passphrase.

pub mod labels;

use super::environment::{Environment, mirrors, own_places, repositories};
use super::failure::{Failure, Kind};
use super::patterns::PatternRules;
use super::report_warnings;
use crate::base::command::suggest;
use crate::base::escape::escape;
use crate::base::threads;
use crate::codec::snapshot::Outcome;
use crate::files::exclude::Excludes;
use crate::files::list;
use crate::files::own::OwnPlaces;
use crate::files::source::Sources;
use crate::files::walk::{Rules, Step, Walk};
use crate::ops::backup::{self, Labels, Options, parent, scan::Unchanged};
use crate::ops::select::{GroupBy, SnapshotRef};
use crate::ops::{self, Monitor, Phase, Problem, Subject};
use crate::repository::Repository;
use crate::repository::pack_writer::PackOptions;
use labels::LabelRequest;
use serde::Deserialize;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

/// The total so far is reported each time that so many more files were counted.
const COUNTED_AT_ONCE: u64 = 1_000;

/// What to store, and how to look at it.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Request {
    /// Files and directories.
    pub paths: Vec<PathBuf>,
    /// Files that hold paths, one pattern a line.
    pub files_from: Vec<PathBuf>,
    /// Files that hold paths, one a line, taken as they are.
    pub files_from_verbatim: Vec<PathBuf>,
    /// Files that hold paths, each ended by a NUL byte.
    pub files_from_raw: Vec<PathBuf>,
    /// What to leave out by pattern.
    pub exclude: PatternRules,
    /// Leave out the contents of directories that hold a CACHEDIR.TAG file.
    pub exclude_caches: bool,
    /// Leave out the contents of directories that hold such a file: `name`, or `name:header`.
    pub exclude_if_present: Vec<PathBuf>,
    /// Leave out files larger than this, in bytes.
    #[serde(deserialize_with = "super::text_form::size")]
    pub exclude_larger_than: Option<u64>,
    /// Stay on the file systems that the paths are on.
    pub one_file_system: bool,
    /// Obey .gitignore and .ignore files.
    pub git_ignore: bool,
    /// Accept a directory that is empty and was not in the last complete snapshot.
    pub allow_empty: bool,
    /// What the snapshot says of itself.
    pub labels: LabelRequest,
    /// How to look for changes.
    pub changes: ChangeRequest,
    /// Count first how much there is, so that the remaining time can be estimated.
    pub count: bool,
    /// Files that are read at the same time; without one by the number of processors.
    pub read_concurrency: Option<u16>,
    /// Do not open and check each block again before it is written.
    pub no_extra_verify: bool,
    /// Make no snapshot when nothing differs from the parent.
    pub skip_if_unchanged: bool,
    /// Change nothing.
    pub dry_run: bool,
}

/// How to look for changes.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct ChangeRequest {
    /// Compare with this snapshot; without one with the newest of the same group.
    #[serde(deserialize_with = "super::text_form::option")]
    pub parent: Option<SnapshotRef>,
    /// What makes a group; without one host and paths.
    #[serde(deserialize_with = "super::text_form::option")]
    pub group_by: Option<GroupBy>,
    /// Read every file again.
    pub force: bool,
    /// A file whose inode number changed may be the same.
    pub ignore_inode: bool,
    /// A file whose change time differs may be the same.
    pub ignore_ctime: bool,
}

/// What came of it.
#[derive(Debug)]
pub struct Report {
    /// The backup's own report.
    pub report: backup::Report,
    /// The sources, as they were named.
    pub sources: Vec<PathBuf>,
    /// The names of the repository's mirrors.
    pub mirrors: Vec<String>,
}

impl Report {
    /// How it ends.
    #[must_use]
    pub fn kind(&self) -> Option<Kind> {
        (self.report.outcome == Outcome::Partial).then_some(Kind::SourcePartlyUnreadable)
    }
}

/// A request of which everything is read that it names.
#[derive(Debug)]
pub struct Prepared<'a> {
    request: &'a Request,
    excludes: Excludes,
    given: Vec<PathBuf>,
    sources: Sources,
    directory: PathBuf,
}

/// Reads what the request names: lists of paths, and patterns.
///
/// # Errors
/// A usage error when there is no path, or a pattern is none; when a list cannot be read.
pub fn prepare(request: &Request) -> Result<Prepared<'_>, Failure> {
    let excludes = request.excludes()?;
    let given = request.sources()?;
    let directory = labels::current_directory()?;
    let sources = Sources::new(&given, &excludes).map_err(|error| Failure::from(ops::Error::from(error)))?;
    Ok(Prepared { request, excludes, given, sources, directory })
}

/// Stores what the request names.
///
/// # Errors
/// Any failure means that no snapshot was stored.
pub fn run(request: &Request, environment: &Environment, monitor: &dyn Monitor) -> Result<Report, Failure> {
    let prepared = prepare(request)?;
    let repository = repositories::open_repository(environment, monitor, "backup")?;
    prepared.run(&repository, environment, monitor)
}

impl Prepared<'_> {
    /// Stores it in this repository.
    ///
    /// # Errors
    /// As [`run`].
    pub fn run(
        self,
        repository: &Repository,
        environment: &Environment,
        monitor: &dyn Monitor,
    ) -> Result<Report, Failure> {
        let Self { request, excludes, given, sources, directory } = self;
        let paths = backup::paths::fold(backup::absolute(&given, &directory));
        let labels = request.labels.resolve(paths, request.recorded())?;
        let options = request.options(repository, &labels, environment.packs)?;
        let own = own_places::places(environment, monitor, repository);
        refuse_own(&sources.paths, &own, monitor)?;
        let rules = || Rules { excludes: excludes.clone(), one_file_system: request.one_file_system, own: own.clone() };
        let is_done = AtomicBool::new(false);
        let report = std::thread::scope(|scope| {
            if request.count {
                let (rules, given, excludes, is_done) = (rules(), &given, &excludes, &is_done);
                // Without it the time that is left cannot be estimated, and nothing else is lost.
                let _ = threads::spawn_one(scope, move || count(given, excludes, rules, is_done, monitor));
            }
            let report = backup::run(repository, sources, rules(), &labels, &options, monitor);
            // Nobody waits for a count that is of no use any more.
            is_done.store(true, Ordering::Relaxed);
            report
        })?;
        Ok(finish(report, given, repository, environment, monitor))
    }
}

/// Reports what was gathered to be said, and finds the mirrors that do not have the snapshot yet.
pub(super) fn finish(
    report: backup::Report,
    sources: Vec<PathBuf>,
    repository: &Repository,
    environment: &Environment,
    monitor: &dyn Monitor,
) -> Report {
    monitor.idle();
    for warning in &report.warnings {
        monitor.problem(&Problem::warning(Subject::Stored, warning));
    }
    report_warnings(repository, monitor);
    let mirrors = mirrors::list_names(environment, repository.id());
    Report { report, sources, mirrors }
}

impl ChangeRequest {
    /// The options of a backup that looks so, with these packs.
    pub(super) fn options(
        &self,
        repository: &Repository,
        labels: &Labels,
        packs: PackOptions,
    ) -> Result<Options, Failure> {
        let cpus = std::thread::available_parallelism().map_or(2, usize::from);
        let group_by = self.group_by.unwrap_or(GroupBy::HOST_AND_PATHS);
        let parent = match self.force {
            true => None,
            false => parent::choose(repository, self.parent.as_ref(), group_by, labels)?,
        };
        Ok(Options {
            parent,
            unchanged: Unchanged {
                force: self.force,
                ignore_ctime: self.ignore_ctime,
                ignore_inode: self.ignore_inode,
            },
            skip_if_unchanged: false,
            allow_empty: false,
            readers: cpus.clamp(2, 4),
            packs,
        })
    }
}

impl Request {
    fn options(&self, repository: &Repository, labels: &Labels, packs: PackOptions) -> Result<Options, Failure> {
        let packs = PackOptions { verify: !self.no_extra_verify, discard: self.dry_run, ..packs };
        let options = self.changes.options(repository, labels, packs)?;
        Ok(Options {
            skip_if_unchanged: self.skip_if_unchanged,
            allow_empty: self.allow_empty,
            readers: self.read_concurrency.map_or(options.readers, usize::from),
            ..options
        })
    }

    /// The paths to store: those given and those of the lists, as they are written there.
    fn sources(&self) -> Result<Vec<PathBuf>, Failure> {
        let mut sources = self.paths.clone();
        for file in &self.files_from {
            sources.extend(list::files_from(file)?);
        }
        for file in &self.files_from_verbatim {
            sources.extend(list::files_from_verbatim(file)?);
        }
        for file in &self.files_from_raw {
            sources.extend(list::files_from_raw(file)?);
        }
        if sources.is_empty() {
            return Err(Failure::usage("nothing to back up: no path is given").remedy(suggest!("backup PATH")));
        }
        Ok(sources)
    }

    /// Refuses patterns that are none, and lists of them that cannot be read.
    ///
    /// # Errors
    /// As [`prepare`].
    pub fn check_patterns(&self) -> Result<(), Failure> {
        self.excludes().map(drop)
    }

    /// Everything that decides what is left out, but the file systems.
    fn excludes(&self) -> Result<Excludes, Failure> {
        let mut excludes = Excludes::new();
        self.exclude.add_to(&mut excludes)?;
        if self.exclude_caches {
            excludes.add_caches();
        }
        for rule in &self.exclude_if_present {
            excludes.add_if_present(rule.as_os_str().as_bytes()).map_err(Failure::usage)?;
        }
        if let Some(bytes) = self.exclude_larger_than {
            excludes.set_larger_than(bytes);
        }
        excludes.set_git_ignore(self.git_ignore);
        Ok(excludes)
    }

    /// The options that decide what is in the snapshot, for its record.
    #[must_use]
    pub fn recorded(&self) -> Vec<String> {
        let mut options: Vec<String> =
            self.exclude.given().iter().map(|text| format!("--exclude={}", escape(text))).collect();
        let flags = [
            (self.exclude_caches, "--exclude-caches"),
            (self.one_file_system, "--one-file-system"),
            (self.git_ignore, "--git-ignore"),
        ];
        options.extend(flags.iter().filter(|(set, _)| *set).map(|(_, flag)| (*flag).to_owned()));
        let rules = self.exclude_if_present.iter().map(|rule| escape(rule.as_os_str().as_bytes()));
        options.extend(rules.map(|rule| format!("--exclude-if-present={rule}")));
        options.extend(self.exclude_larger_than.map(|bytes| format!("--exclude-larger-than={bytes}")));
        options
    }
}

/// Looks at the sources that are, or lie in, what is packstone's own: they are left out, aloud. An absolute path each.
fn refuse_own(sources: &[Vec<u8>], own: &OwnPlaces, monitor: &dyn Monitor) -> Result<(), Failure> {
    let warn = |message: &str| monitor.problem(&Problem::warning(Subject::Machine, message));
    for sentence in own.unknown() {
        warn(&format!("{sentence}: what belongs to it may become part of this backup"));
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
        warn(&format!("{} is {owner}, or lies in it: it is left out", escape(source)));
    }
    Ok(())
}

/// Counts what there is, so that the remaining time can be estimated. It is reported for the phase that stores the files, whichever phase runs.
fn count(given: &[PathBuf], excludes: &Excludes, rules: Rules, is_done: &AtomicBool, monitor: &dyn Monitor) {
    let Ok(sources) = Sources::new(given, excludes) else { return };
    let (mut files, mut bytes) = (0, 0_u64);
    for step in Walk::new(sources, rules) {
        if is_done.load(Ordering::Relaxed) || monitor.interrupted() {
            return;
        }
        if let Step::Entry(entry) = step {
            files += 1;
            let is_file = entry.stat.kind == crate::files::stat::Kind::File;
            bytes = bytes.saturating_add(if is_file { entry.stat.size } else { 0 });
            if files % COUNTED_AT_ONCE == 0 {
                monitor.total(Phase::Backup, files, bytes, false);
            }
        }
    }
    monitor.total(Phase::Backup, files, bytes, true);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn sources_come_from_every_kind_of_list() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("a1"), "").unwrap();
        std::fs::write(at("glob"), format!("# list\n{}/a*\n", dir.path().display())).unwrap();
        std::fs::write(at("plain"), " a* \n").unwrap();
        std::fs::write(at("raw"), "one\ntwo\0").unwrap();
        let request = Request {
            paths: vec!["p".into()],
            files_from: vec![at("glob")],
            files_from_verbatim: vec![at("plain")],
            files_from_raw: vec![at("raw")],
            ..Request::default()
        };
        let expected: Vec<PathBuf> = vec!["p".into(), at("a1"), " a* ".into(), "one\ntwo".into()];
        assert_eq!(request.sources().unwrap(), expected);
        assert!(Request::default().sources().is_err());
    }

    #[test]
    fn every_way_of_leaving_out_is_heard() {
        let rules =
            PatternRules { patterns: vec!["*.o".into()], ignoring_case: vec!["B".into()], ..PatternRules::default() };
        let request = Request { exclude: rules, exclude_if_present: vec![".nobackup".into()], ..Request::default() };
        let excludes = request.excludes().unwrap();
        assert!(excludes.rejects_path(b"/x.o") && excludes.rejects_path(b"/b") && !excludes.rejects_path(b"/c"));
        assert!(Request { exclude_if_present: vec!["".into()], ..Request::default() }.excludes().is_err());
    }

    #[test]
    fn a_request_is_read_as_it_is_written_in_a_configuration() {
        let read = |text: &str| serde_json::from_str::<Request>(text);
        let request = read(
            r#"{"paths": ["/home"], "exclude": {"patterns": ["*.o"]}, "exclude-larger-than": "500M",
                "labels": {"tags": ["a,b"], "host": "nas"}, "changes": {"group-by": "host"}}"#,
        )
        .unwrap();
        assert_eq!(request.exclude_larger_than, Some(500 << 20));
        assert_eq!(request.labels.tags(), ["a", "b"]);
        assert!(request.changes.group_by.is_some_and(|by| by.host && !by.paths));
        assert!(read(r#"{"path": ["/home"]}"#).unwrap_err().to_string().contains("unknown field"));
        assert!(read(r#"{"exclude-larger-than": "much"}"#).is_err());
    }
}
