//! Backup: from the user's files to an acknowledged snapshot.
//!
//! When the walk has ended, directories that changed after they were listed are looked at again (`second_look.rs`), in as many
//! rounds as it takes. Sources that hold nothing of what they held make the snapshot partial (`emptied.rs`).
//!
//! Four stages run beside each other and hand bounded queues on, so memory does not grow with the tree:
//!
//! 1. [`scan`]: one thread walks the sources in order, compares each entry with the parent's listing read as a stream
//!    beside the walk, and forms groups of entries; files that must be read are handed to
//! 2. [`read`]: a few threads read, cut and hash files;
//! 3. [`store`]: one thread takes the groups in walk order, stores what is new, and writes the listings;
//! 4. the repository's pack writer compresses, seals and verifies blocks in parallel and writes packs.
//!
//! What the snapshot before holds and the walk does not meet goes into the log of deletions (`gone.rs`, [`log`]).
//!
//! An entry is taken over unread only when size, mtime, ctime and inode are the parent's **and** its ctime is older than
//! the tick of the clock in which the parent may have read it (`scan.rs`, [`scan::Unchanged`]).

mod emptied;
mod gone;
mod group;
mod listing_cursor;
pub mod log;
pub mod parent;
pub mod paths;
pub mod read;
mod round;
pub mod scan;
mod second_look;
pub mod stdin;
pub mod store;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use self::emptied::Emptied;
pub use self::emptied::{has_lost_nearly_all, lacks_source};
use self::scan::Scan;
use super::{Error, Monitor, Phase, Result};
use crate::base::escape::escape;
use crate::base::id::ObjectId;
use crate::base::time::Time;
use crate::codec::chunk_list::ChunkList;
use crate::codec::head::HeadRef;
use crate::codec::snapshot::{self, Counts, Outcome, Problem, Snapshot, Summary};
use crate::files::owner::Owners;
use crate::files::source::Sources;
use crate::files::walk::{Rules, Walk};
use crate::ops::show::typed_path;
use crate::repository::Repository;
use crate::repository::pack_writer::PackOptions;
use crate::repository::run::{Run, Written};

/// What to put into the snapshot beside the files.
#[derive(Debug, Clone)]
pub struct Labels {
    /// The time the snapshot claims; none for the time the run began.
    pub time: Option<Time>,
    /// Name of the machine.
    pub host: String,
    /// Who runs the backup.
    pub user: String,
    /// Free text.
    pub label: String,
    /// Tags.
    pub tags: Vec<String>,
    /// What was asked for, as absolute paths.
    pub paths: Vec<Vec<u8>>,
    /// Excludes and other options that decide what is in it.
    pub options: Vec<String>,
}

impl Labels {
    /// Refuses before anything is read what could not be stored after hours of reading.
    ///
    /// # Errors
    /// [`Error::Invalid`], with the limit.
    pub fn check(&self) -> Result<()> {
        let counts = [("paths", self.paths.len()), ("tags", self.tags.len()), ("options", self.options.len())];
        if let Some((what, count)) = counts.into_iter().find(|(_, count)| *count > snapshot::LIST_MAX) {
            return Err(Error::Invalid(format!(
                "{count} {what}: a snapshot holds at most {}; give fewer",
                snapshot::LIST_MAX
            )));
        }
        let texts = [&self.host, &self.user, &self.label].into_iter().chain(&self.tags).chain(&self.options);
        if let Some(length) = texts.clone().map(String::len).find(|length| *length > snapshot::TEXT_MAX) {
            return Err(Error::Invalid(format!(
                "a host, user, label, tag or option of {length} bytes: {} is the most that a snapshot holds",
                snapshot::TEXT_MAX
            )));
        }
        let bytes = texts.map(String::len).chain(self.paths.iter().map(Vec::len)).sum::<usize>();
        if self.paths.iter().any(|path| path.len() > snapshot::PATH_MAX) || bytes > snapshot::PLAIN_MAX as usize / 2 {
            return Err(Error::Invalid(format!(
                "{bytes} bytes of paths, tags and options are more than a snapshot holds; name fewer paths"
            )));
        }
        Ok(())
    }
}

/// How to run.
#[derive(Debug, Clone)]
pub struct Options {
    /// The snapshot that unchanged files are taken from.
    pub parent: Option<ObjectId>,
    /// Which differences make a file worth reading again.
    pub unchanged: scan::Unchanged,
    /// Publish nothing when the tree is the parent's.
    pub skip_if_unchanged: bool,
    /// A source that holds nothing, or a stream that gives nothing, is what is meant.
    pub allow_empty: bool,
    /// How many files are read at the same time.
    pub readers: usize,
    /// How packs are written; with `discard` nothing is.
    pub packs: PackOptions,
}

/// What came of it.
#[derive(Debug, Clone)]
pub struct Report {
    /// The snapshot's id; none for a dry run or when nothing changed and that was to be skipped.
    pub snapshot: Option<ObjectId>,
    /// The head that acknowledges it.
    pub head: Option<HeadRef>,
    /// The parent that was used.
    pub parent: Option<ObjectId>,
    /// Complete, changed, or partial.
    pub outcome: Outcome,
    /// What the snapshot holds.
    pub counts: Counts,
    /// What was new.
    pub summary: Summary,
    /// What was written.
    pub written: Written,
    /// The first problems, at most [`PROBLEMS_SHOWN`].
    pub problems: Vec<Problem>,
    /// How many there are in all.
    pub problem_count: u64,
    /// How many entries of the snapshot before are gone.
    pub deletions: u64,
    /// Paths of this program's own that were left out.
    pub own: Vec<Vec<u8>>,
    /// Sources that are empty and were not in the last complete snapshot.
    pub emptied: Vec<Vec<u8>>,
    /// What a person should hear about.
    pub warnings: Vec<String>,
    /// When it began.
    pub started: Time,
    /// How long it took.
    pub took: Duration,
}

/// Problems that a report carries; the snapshot has them all.
pub const PROBLEMS_SHOWN: usize = 1_000;

/// What the stages found, before it becomes a snapshot.
#[derive(Debug, Default)]
struct Stored {
    root: ChunkList,
    problems: ChunkList,
    problem_count: u64,
    /// The log of deletions, and how many records it has.
    deleted: ChunkList,
    deleted_count: u64,
    /// How many of them are new.
    deletions: u64,
    shown: Vec<Problem>,
    outcome: Outcome,
    counts: Counts,
    summary: Summary,
    own: Vec<Vec<u8>>,
    /// Sources that are empty and were not.
    emptied: Vec<Vec<u8>>,
}

/// What the files are compared with.
#[derive(Debug, Clone, Copy)]
struct Compared<'a> {
    /// The snapshot that unchanged files are taken from.
    parent: Option<(ObjectId, &'a Snapshot)>,
    /// The snapshot whose log of deletions goes on.
    before: Option<&'a log::Before>,
    /// The time of the new snapshot: what is gone was found gone then.
    found: Time,
}

/// Backs up files and directories.
///
/// # Errors
/// Any error means that no snapshot was acknowledged; what was stored is taken over by the next run.
pub fn run(
    repository: &Repository,
    sources: Sources,
    rules: Rules,
    labels: &Labels,
    options: &Options,
    monitor: &dyn Monitor,
) -> Result<Report> {
    labels.check()?;
    let begun = Instant::now();
    monitor.phase(Phase::LoadIndex);
    let mut run = Run::begin_keeping_trees(repository, options.packs)?;
    let options = &with_live_parent(&mut run, options);
    let parent = match options.parent {
        Some(id) => Some((id, repository.snapshot(id)?)),
        None => None,
    };
    let started = Time::now();
    monitor.phase(Phase::Backup);
    let before = log::before(repository, labels)?;
    let compared = Compared {
        parent: parent.as_ref().map(|(id, parent)| (*id, parent)),
        before: before.as_ref(),
        found: labels.time.unwrap_or(started),
    };
    let stored = files(&mut run, sources, rules, compared, (labels, options), monitor)?;
    let parent_root = parent.as_ref().map(|(_, parent)| parent.root.clone());
    publish(run, stored, parent_root, started, begun, labels, options, monitor)
}

/// The stages, in as many rounds as it takes.
fn files(
    run: &mut Run<'_>,
    sources: Sources,
    rules: Rules,
    compared: Compared<'_>,
    (labels, options): (&Labels, &Options),
    monitor: &dyn Monitor,
) -> Result<Stored> {
    let (began, begun) = (Time::now(), Instant::now());
    let repository = run.repository();
    let owners = Owners::new();
    let mut store = store::Store::new(run, monitor, sources.paths.clone(), compared)?;
    let (owners, readers) = (&owners, options.readers);
    let (walk, whole) = (Walk::new(sources.clone(), rules.clone()), sources.whole.clone());
    let unchanged = options.unchanged;
    let empties = options.allow_empty;
    let first = store.round(owners, readers, move |groups, jobs| {
        Scan::new(repository, owners, compared, unchanged, groups, jobs).allow_empty(empties).run(walk, whole, monitor)
    })?;
    let is_whole = !sources.whole.is_empty();
    let given = second_look::Given { sources, rules, owners, readers, began, took: begun.elapsed() };
    second_look::look_again(&mut store, given, first, monitor)?;
    if !options.allow_empty {
        examine_sources(&mut store, repository, labels, is_whole)?;
    }
    store.finish()
}

/// Says which sources hold nothing, or nearly nothing of what they held. One that is empty and was not makes the snapshot
/// partial: a disk that is not mounted must not become the newest complete snapshot.
fn examine_sources(
    store: &mut store::Store<'_, '_>,
    repository: &Repository,
    labels: &Labels,
    is_whole: bool,
) -> Result<()> {
    let mut reference = emptied::Reference::new(repository, labels);
    for (path, now) in store.held().clone() {
        if path.is_empty() && !is_whole {
            continue;
        }
        let shown = || escape(&typed_path(&path, &labels.paths));
        match emptied::examine(repository, &path, now, &mut reference)? {
            None => {}
            // What could not be read was said.
            Some(Emptied::Nothing) if store.is_partial() => {}
            Some(Emptied::Nothing) => {
                let warning =
                    format!("{}: no files were stored: it is empty, or everything in it is excluded", shown());
                store.run().warn(warning);
            }
            Some(Emptied::Nearly { snapshot, held }) => {
                let id = snapshot.short();
                let warning = format!("{}: {now} files were stored, and snapshot {id} has {held} or more", shown());
                store.run().warn(warning);
            }
            Some(Emptied::All { snapshot }) => {
                let message = format!(
                    "no files were stored, and snapshot {} has some: is its disk mounted? Does an exclude pattern match everything?",
                    snapshot.short()
                );
                store.empty_source(path, message)?;
            }
        }
    }
    Ok(())
}

/// Backs up one stream as a file of the given name. Between two reads it is asked whether somebody wants an end: a source that may give
/// nothing for long is a [`Polled`](crate::base::polled::Polled) one.
///
/// # Errors
/// As [`run`]; a source that fails in the middle leaves no snapshot.
pub fn run_stream(
    repository: &Repository,
    source: &mut dyn std::io::Read,
    finish: &mut dyn FnMut() -> Result<()>,
    name: &[u8],
    labels: &Labels,
    options: &Options,
    monitor: &dyn Monitor,
) -> Result<Report> {
    labels.check()?;
    let begun = Instant::now();
    monitor.phase(Phase::LoadIndex);
    let mut run = Run::begin(repository, options.packs)?;
    let options = &with_live_parent(&mut run, options);
    let started = Time::now();
    monitor.phase(Phase::Backup);
    let mut stored = stdin::store(&mut run, source, name, started, monitor)?;
    // Nothing can be missing in one stream, but the log of what was saved under this name before goes on.
    let before = log::before(repository, labels)?.map(|before| before.snapshot);
    (stored.deleted, stored.deleted_count) = log::Log::go_on(&mut run, before.as_ref())?.finish(&mut run)?;
    finish()?;
    if stored.counts.bytes == 0 && !options.allow_empty {
        return Err(Error::EmptyStream);
    }
    let parent_root = match options.parent {
        Some(id) => Some(repository.snapshot(id)?.root),
        None => None,
    };
    publish(run, stored, parent_root, started, begun, labels, options, monitor)
}

/// Only a live snapshot can be a parent: what is taken over from it unread lies in live packs because it is live. It
/// was chosen before this run had its lock, and may have been forgotten since.
fn with_live_parent(run: &mut Run<'_>, options: &Options) -> Options {
    let mut options = options.clone();
    let dead = options.parent.filter(|id| !run.repository().tip().state.snapshots.contains_key(id));
    if let Some(id) = dead {
        options.parent = None;
        run.warn(format!("snapshot {}, the parent, was forgotten meanwhile: every file was read", id.short()));
    }
    options
}

/// The same with the path as a person types it.
fn typed(problem: Problem, sources: &[Vec<u8>]) -> Problem {
    Problem { path: typed_path(&problem.path, sources), ..problem }
}

#[allow(clippy::too_many_arguments)] // the tail that both kinds of backup share
fn publish(
    mut run: Run<'_>,
    stored: Stored,
    parent_root: Option<ChunkList>,
    started: Time,
    begun: Instant,
    labels: &Labels,
    options: &Options,
    monitor: &dyn Monitor,
) -> Result<Report> {
    if monitor.interrupted() {
        return Err(Error::Interrupted);
    }
    monitor.phase(Phase::Publish);
    run.seal()?;
    let written = *run.written();
    let mut summary = stored.summary;
    summary.data_chunks = written.data_chunks;
    summary.tree_chunks = written.tree_chunks;
    summary.data_added = written.data_bytes + written.tree_bytes;
    summary.data_stored = written.pack_bytes;
    summary.duration_nanoseconds = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
    let mut report = Report {
        snapshot: None,
        head: None,
        parent: options.parent,
        outcome: stored.outcome,
        counts: stored.counts,
        summary,
        written,
        problems: stored.shown.into_iter().map(|problem| typed(problem, &labels.paths)).collect(),
        problem_count: stored.problem_count,
        deletions: stored.deletions,
        own: stored.own.iter().map(|path| typed_path(path, &labels.paths)).collect(),
        emptied: stored.emptied.iter().map(|path| typed_path(path, &labels.paths)).collect(),
        warnings: run.warnings().to_vec(),
        started,
        took: Duration::ZERO,
    };
    let unchanged = parent_root.is_some_and(|root| root == stored.root);
    let skipped = options.skip_if_unchanged && unchanged;
    if !options.packs.discard && !skipped {
        let snapshot = Snapshot {
            time: labels.time.unwrap_or(started),
            written: started,
            host: labels.host.clone(),
            user: labels.user.clone(),
            paths: labels.paths.clone(),
            label: labels.label.clone(),
            tags: labels.tags.clone(),
            held: false,
            root: stored.root,
            parent: options.parent,
            original: None,
            outcome: stored.outcome,
            problems: stored.problems,
            problem_count: stored.problem_count,
            deleted: stored.deleted,
            deleted_count: stored.deleted_count,
            counts: stored.counts,
            summary,
            options: labels.options.clone(),
            program: concat!("packstone ", env!("CARGO_PKG_VERSION")).to_owned(),
        };
        run.merge_small(&|| monitor.interrupted())?;
        report.warnings = run.warnings().to_vec();
        report.written.merged_bytes = run.written().merged_bytes;
        let repository = run.repository();
        let (id, head) = run.publish(&snapshot)?;
        report.snapshot = Some(id);
        report.head = Some(head);
        repository.sweep_replaced_or_warn();
    } else if !options.packs.discard && written.adopted_packs > 0 {
        // What an interrupted run left is taken over for good, or every later run would do it again.
        report.head = run.publish_segments()?;
    }
    report.took = begun.elapsed();
    Ok(report)
}

/// Paths by which [`scan`] names things: the absolute path that was asked for.
#[must_use]
pub fn absolute(paths: &[PathBuf], current: &std::path::Path) -> Vec<Vec<u8>> {
    use std::os::unix::ffi::OsStrExt;
    let joined = |path: &PathBuf| {
        let mut clean = PathBuf::new();
        for component in current.join(path).components() {
            match component {
                std::path::Component::ParentDir => {
                    clean.pop();
                }
                std::path::Component::CurDir => {}
                other => clean.push(other),
            }
        }
        clean.as_os_str().as_bytes().to_vec()
    };
    paths.iter().map(joined).collect()
}
