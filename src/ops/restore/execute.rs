//! Carrying a plan out. The order of the steps stands at the top of [`super`].

use crate::base::lock::{into_inner, lock};
use crate::ops;
use std::collections::{HashMap, HashSet};
use std::io;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Instant;

use super::catalog::{Catalog, Group, Link, NONE, Place};
use super::deletion::{Deletion, Planned};
use super::directories::Directories;
use super::existing::{shortage, target_message};
use super::limits::workers;
use super::plan::Plan;
use super::planner::{Decision, require_yours};
use super::report::{Problem, ProblemKind, Report};
use super::verify_metadata::parts;
use super::worker::{Jobs, Source, Worker};
use super::{Options, verify};
use crate::base::escape::Escaped;
use crate::base::threads;
use crate::files::apply::{Applier, ApplyProblem, Severity as Bad, What};
use crate::files::copy::not_linked;
use crate::files::made::Made;
use crate::files::target::{Existing, Target, TargetError};
use crate::ops::{Action, Error, Item, Monitor, Phase, Result, Severity};
use crate::repository::Repository;

/// What all steps and all workers share.
pub(super) struct Shared<'a> {
    pub repository: &'a Repository,
    pub monitor: &'a dyn Monitor,
    pub options: &'a Options,
    pub catalog: &'a Catalog,
    pub directories: Directories<'a>,
    pub applier: Applier,
    /// By row of a file: it cannot be restored.
    pub failed: Vec<AtomicBool>,
    /// By row of a group: the inode, once it is there.
    pub groups: Mutex<Vec<Option<Made>>>,
    /// With `--verify`, by number among the decisions: parts of an entry's metadata that are known not to be as in the snapshot.
    pub known: Mutex<HashMap<u32, u8>>,
    report: Mutex<Report>,
    /// Rows of directories that could not be made.
    unmade: Mutex<HashSet<u32>>,
    /// The first error that ends the restore.
    fatal: Mutex<Option<Error>>,
    stop: AtomicBool,
}

impl Shared<'_> {
    /// Changes the report.
    pub fn report(&self, change: impl FnOnce(&mut Report)) {
        change(&mut lock(&self.report));
    }

    /// Something is not restored.
    pub fn problem(&self, path: &[u8], kind: ProblemKind, message: String) {
        self.monitor.problem(&ops::Problem::new(Severity::Error, path, &message));
        self.report(|report| report.problem(Problem { path: path.to_vec(), kind, message }));
    }

    /// The target did not let us. A full disk ends the restore.
    pub fn target_problem(&self, place: Place, error: &TargetError) {
        let path = self.catalog.path(place);
        if error.is_full() {
            self.end(Error::TargetFull(format!(
                "{}: the disk of the target is full ({error}). What was restored is complete; free some space and run the \
                 same command again, which goes on from here",
                Escaped(&path)
            )));
            return;
        }
        if let Some(error) = shortage(&path, error) {
            self.end(error);
            return;
        }
        if self.lies_in_unmade(place) {
            // The directory was named: a line for each entry in it would hide the cause.
            self.report(Report::not_reached);
            return;
        }
        self.problem(&path, ProblemKind::Target, target_message(error));
    }

    /// A directory could not be made, and nothing in it will be.
    fn unmade_directory(&self, row: u32, place: Place, error: &TargetError) {
        self.target_problem(place, error);
        lock(&self.unmade).insert(row);
    }

    fn lies_in_unmade(&self, place: Place) -> bool {
        let unmade = lock(&self.unmade);
        let mut row = place.directory;
        while row != 0 && !unmade.is_empty() {
            if unmade.contains(&row) {
                return true;
            }
            row = self.catalog.directories.get(row as usize).map_or(0, |directory| directory.place.directory);
        }
        false
    }

    /// What of an entry's metadata could not be set.
    pub fn applied(&self, place: Place, ordinal: u32, problems: Vec<ApplyProblem>) {
        if problems.is_empty() {
            return;
        }
        if self.options.verify {
            let all = problems.iter().fold(0, |all, problem| all | parts(&problem.what));
            lock(&self.known).insert(ordinal, all);
        }
        let path = self.catalog.path(place);
        self.report(|report| problems.into_iter().for_each(|problem| report.unset(problem, &path)));
    }

    /// What is known of the first name of an inode is known of its further ones.
    fn know_twins(&self) {
        let mut known = lock(&self.known);
        for (first, other) in &self.catalog.twins {
            if let Some(parts) = known.get(first).copied() {
                *known.entry(*other).or_default() |= parts;
            }
        }
    }

    /// Ends the restore with an error, unless it has one already.
    pub fn end(&self, error: Error) {
        lock(&self.fatal).get_or_insert(error);
        self.stop.store(true, Relaxed);
    }

    /// True when nothing more is to be done.
    pub fn is_stopped(&self) -> bool {
        if self.monitor.interrupted() {
            self.end(Error::Interrupted);
        }
        self.stop.load(Relaxed)
    }

    fn check(&self) -> Result<()> {
        if !self.is_stopped() {
            return Ok(());
        }
        Err(lock(&self.fatal).take().unwrap_or(Error::Interrupted))
    }

    /// Says what became of an entry.
    pub fn done(&self, place: Place, replaces: bool, directory: bool, size: u64) {
        let action = if replaces { Action::Changed } else { Action::New };
        self.monitor.item(&Item { directory, size, ..Item::new(&self.catalog.path(place), action) });
    }

    /// Notes the inode of a group of hard links.
    pub fn made(&self, group: u32, made: Made) {
        let mut groups = lock(&self.groups);
        if let Some(slot) = groups.get_mut(group as usize) {
            *slot = Some(made);
        }
    }
}

/// How to treat what is under a name.
pub(super) const fn existing(replaces: bool) -> Existing {
    if replaces { Existing::Replace } else { Existing::Refuse }
}

/// Carries a plan out.
///
/// # Errors
/// The target cannot be made or is full, or the user wants an end: what was restored until then is complete file by file,
/// and the same command goes on from there. Whatever concerns single entries is a problem in the report.
pub fn execute(repository: &Repository, plan: Plan, monitor: &dyn Monitor) -> Result<Report> {
    let begun = Instant::now();
    let Plan {
        options,
        systems,
        start,
        limit,
        catalog,
        pieces,
        packs,
        blocks,
        deletions,
        obstacles,
        mut decisions,
        broken,
        report,
    } = plan;
    monitor.phase(Phase::Restore);
    let items = catalog.files.len() + catalog.specials.len() + catalog.links.len() + catalog.adjusts.len();
    let bytes = catalog.files.iter().map(|file| file.size).fold(0, u64::saturating_add);
    monitor.expect(items as u64, bytes, true);
    let target =
        Target::open_with(&options.target, true, systems).map_err(|error| cannot_make(&options.target, error))?;
    // Where it did not exist, only now it is certain where it lies.
    require_yours(&options)?;
    let failed: Vec<AtomicBool> = catalog.files.iter().map(|_| AtomicBool::new(false)).collect();
    for row in &broken {
        if let Some(failed) = failed.get(*row as usize) {
            failed.store(true, Relaxed);
            monitor.skip(1, catalog.files.get(*row as usize).map_or(0, |file| file.size));
        }
    }
    let groups = catalog.groups.iter().map(|group| group.kept).collect();
    let shared = Shared {
        repository,
        monitor,
        options: &options,
        catalog: &catalog,
        directories: Directories::new(&catalog, target.root()),
        applier: Applier::new(options.numeric_owner),
        failed,
        groups: Mutex::new(groups),
        known: Mutex::default(),
        report: Mutex::new(report),
        unmade: Mutex::default(),
        fatal: Mutex::new(None),
        stop: AtomicBool::new(false),
    };
    shared.make_directories();
    shared.check()?;
    shared.remove(&obstacles);
    shared.remove(&deletions);
    shared.check()?;
    let sorted = pieces.sorted().map_err(super::planner::spill_error)?;
    repository.storage().expect_ranges(&mut super::plan::ranges(&packs, &blocks));
    let source = Source { packs: &packs, blocks: &blocks };
    write_files(&shared, Jobs::new(sorted), &source);
    shared.check()?;
    let unmade = shared.specials(&mut decisions);
    shared.adjusts(&mut decisions);
    shared.links(&mut decisions, &unmade);
    shared.check()?;
    shared.finish_directories();
    shared.check()?;
    for (file, failed) in catalog.files.iter().zip(&shared.failed) {
        if failed.load(Relaxed)
            && let Some(decision) = decisions.get_mut(file.ordinal as usize)
        {
            *decision = Decision::Left;
        }
    }
    if options.verify {
        monitor.phase(Phase::Verify);
        shared.expect_verify(&decisions);
        shared.know_twins();
        verify::all(&shared, &start, limit, &decisions, target.root())?;
        shared.report(|report| report.not_compared = 0);
        shared.check()?;
    }
    let mut report = into_inner(shared.report);
    report.took = begun.elapsed();
    Ok(report)
}

fn cannot_make(target: &Path, source: io::Error) -> Error {
    use std::os::unix::ffi::OsStrExt;
    Error::System { what: format!("the target {} cannot be made", Escaped(target.as_os_str().as_bytes())), source }
}

fn write_files(shared: &Shared<'_>, jobs: Jobs, source: &Source<'_>) {
    let worker = Worker::new(shared, jobs, source);
    threads::share(workers(), || worker.run());
    worker.abandon();
}

impl Shared<'_> {
    /// All that is there now as the snapshot has it is read back.
    fn expect_verify(&self, decisions: &[Decision]) {
        let is_there = |ordinal: u32| decisions.get(ordinal as usize) == Some(&Decision::Present);
        let Catalog { files, links, specials, .. } = self.catalog;
        let files = files.iter().filter(|file| is_there(file.ordinal)).map(|file| file.size);
        let links = links.iter().filter(|link| is_there(link.ordinal)).map(|link| link.size);
        let specials = specials.iter().filter(|special| is_there(special.ordinal)).map(|_| 0);
        let (mut items, mut bytes) = (0, 0);
        self.report(|report| (items, bytes) = (report.unchanged, report.unchanged_bytes));
        for size in files.chain(links).chain(specials) {
            (items, bytes) = (items + 1, u64::saturating_add(bytes, size));
        }
        self.monitor.expect(items, bytes, true);
    }

    fn make_directories(&self) {
        for (row, directory) in self.catalog.directories.iter().enumerate() {
            if self.is_stopped() {
                return;
            }
            if row == 0 {
                if let Err(error) = self.directories.take_root(&self.applier) {
                    self.target_problem(directory.place, &error);
                }
                continue;
            }
            match self.directories.make(row as u32, &self.applier) {
                Ok(new) => {
                    if directory.obstacle {
                        self.deleted(&self.catalog.path(directory.place), false);
                    }
                    self.report(|report| report.directories += 1);
                    if new {
                        self.done(directory.place, directory.obstacle, true, 0);
                    }
                }
                Err(error) => self.unmade_directory(row as u32, directory.place, &error),
            }
        }
    }

    /// Only in the very directory that was looked at, and only what was there then: what has appeared since was never compared with the
    /// snapshot.
    fn remove(&self, deletions: &[Deletion]) {
        for deletion in deletions {
            if self.is_stopped() {
                return;
            }
            let place = deletion.place;
            let top = self.catalog.path(place);
            let name = self.catalog.bytes(place.name);
            let mut told = |path: &[u8], is_directory: bool| {
                let slash: &[u8] = if path.is_empty() { b"" } else { b"/" };
                self.deleted(&[top.as_slice(), slash, path].concat(), is_directory);
            };
            let removed = self.directories.get(place.directory).and_then(|directory| {
                if !directory.is(&deletion.seen_in) {
                    return Err(TargetError::Replaced(name.to_vec()));
                }
                directory.remove_as(name, &mut Planned::new(self.options, deletion, &mut told))
            });
            if let Err(error) = removed {
                self.target_problem(place, &error);
            }
        }
    }

    fn deleted(&self, path: &[u8], directory: bool) {
        self.report(|report| report.deleted += 1);
        self.monitor.item(&Item { directory, ..Item::new(path, Action::Deleted) });
    }

    /// Gives the groups of devices that this process may not make.
    fn specials(&self, decisions: &mut [Decision]) -> HashSet<u32> {
        let mut unmade = HashSet::new();
        for special in &self.catalog.specials {
            if self.is_stopped() {
                return unmade;
            }
            self.monitor.advance(1, 0);
            let metadata = self.catalog.metadata(&special.attributes);
            let name = self.catalog.bytes(special.place.name);
            let made = self.directories.get(special.place.directory).and_then(|directory| {
                directory.make_special(name, &special.node, &metadata, &self.applier, existing(special.replaces))
            });
            match made {
                Ok((made, problems)) => {
                    self.made(special.group, made);
                    self.applied(special.place, special.ordinal, problems);
                    self.report(|report| report.others += 1);
                    self.done(special.place, special.replaces, false, 0);
                }
                Err(TargetError::Io { source, .. })
                    if source.kind() == io::ErrorKind::PermissionDenied && is_device(&special.node) =>
                {
                    unmade.insert(special.group);
                    self.unmade(special.place, special.ordinal, decisions);
                }
                Err(error) => {
                    left(decisions, special.ordinal);
                    self.target_problem(special.place, &error);
                }
            }
        }
        unmade
    }

    fn unmade(&self, place: Place, ordinal: u32, decisions: &mut [Decision]) {
        left(decisions, ordinal);
        let severity = if self.applier.rights().makes_devices() { Bad::Failed } else { Bad::Note };
        let reason = "not permitted, and not made".to_owned();
        self.applied(place, ordinal, vec![ApplyProblem { what: What::Device, severity, reason }]);
    }

    fn adjusts(&self, decisions: &mut [Decision]) {
        for adjust in &self.catalog.adjusts {
            if self.is_stopped() {
                return;
            }
            self.monitor.advance(1, 0);
            let metadata = self.catalog.metadata(&adjust.attributes);
            let name = self.catalog.bytes(adjust.place.name);
            let updated = self
                .directories
                .get(adjust.place.directory)
                .and_then(|directory| directory.update(name, &adjust.seen, &metadata, &self.applier));
            match updated {
                Ok(problems) => {
                    self.applied(adjust.place, adjust.ordinal, problems);
                    self.report(|report| {
                        report.unchanged += 1;
                        report.unchanged_bytes = report.unchanged_bytes.saturating_add(adjust.size);
                    });
                    let path = self.catalog.path(adjust.place);
                    self.monitor.item(&Item { size: adjust.size, ..Item::new(&path, Action::Unchanged) });
                }
                Err(error) => {
                    left(decisions, adjust.ordinal);
                    self.target_problem(adjust.place, &error);
                }
            }
        }
    }

    fn links(&self, decisions: &mut [Decision], unmade: &HashSet<u32>) {
        let groups = std::mem::take(&mut *lock(&self.groups));
        for link in &self.catalog.links {
            if self.is_stopped() {
                return;
            }
            self.monitor.advance(1, 0);
            let Some(first) = self.catalog.groups.get(link.group as usize) else { continue };
            let result = match groups.get(link.group as usize).copied().flatten() {
                Some(made) => self.link(link, first, made),
                None if unmade.contains(&link.group) => {
                    self.unmade(link.place, link.ordinal, decisions);
                    continue;
                }
                None => {
                    let path = self.catalog.path(link.place);
                    let first = self.catalog.path(first.place);
                    let message = format!("is the same file as {}, which is not restored", Escaped(&first));
                    self.problem(&path, ProblemKind::Target, message);
                    left(decisions, link.ordinal);
                    continue;
                }
            };
            match result {
                Ok(problems) => {
                    self.applied(link.place, link.ordinal, problems);
                    self.report(|report| report.others += 1);
                    self.done(link.place, link.replaces, false, link.size);
                }
                Err(error) => {
                    self.target_problem(link.place, &error);
                    left(decisions, link.ordinal);
                }
            }
        }
    }

    /// A further name; where there can be none, a copy of the content.
    fn link(&self, link: &Link, first: &Group, made: Made) -> std::result::Result<Vec<ApplyProblem>, TargetError> {
        let from = self.directories.get(first.place.directory)?;
        let to = self.directories.get(link.place.directory)?;
        let (from_name, name) = (self.catalog.bytes(first.place.name), self.catalog.bytes(link.place.name));
        let existing = existing(link.replaces);
        let error = match to.hard_link(&from, from_name, made, name, existing) {
            Ok(()) => return Ok(Vec::new()),
            Err(error) => error,
        };
        let Some(why) = to.cannot_link(&error) else { return Err(error) };
        let metadata = self.catalog.metadata(&link.attributes);
        let (bytes, mut problems) =
            to.copy((&from, from_name), (made, link.size), name, &metadata, &self.applier, existing)?;
        self.report(|report| report.bytes += bytes);
        problems.push(not_linked(&why));
        Ok(problems)
    }

    fn finish_directories(&self) {
        for (row, directory) in self.catalog.directories.iter().enumerate().rev() {
            if self.is_stopped() {
                return;
            }
            match self.directories.finish(row as u32, &self.applier) {
                Ok(problems) => self.applied(directory.place, directory.ordinal, problems),
                Err(error) => self.target_problem(directory.place, &error),
            }
        }
    }
}

fn left(decisions: &mut [Decision], ordinal: u32) {
    if ordinal != NONE
        && let Some(decision) = decisions.get_mut(ordinal as usize)
    {
        *decision = Decision::Left;
    }
}

const fn is_device(node: &crate::codec::tree::Node) -> bool {
    use crate::codec::tree::Node;
    matches!(node, Node::CharacterDevice { .. } | Node::BlockDevice { .. })
}
