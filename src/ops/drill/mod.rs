//! `drill`: what a blank machine would get back from a mirror, tried out. format-spec/mirror.md, "drill".
//!
//! # What it may know
//!
//! The mirror, a secret, and nothing else: no cache, no local repository. What this machine remembers of the mirror helps with nothing and is only compared: a
//! mirror that was set back brings back what it shows, and proves nothing. All that it makes lies in one folder of its own, which
//! goes when the drill ends, however it ends; one that was killed is cleaned by the next.
//!
//! # What it proves
//!
//! All of it: the repository is recovered as `recover` does it, and checked; what snapshots hold is restored from that. A share: the chosen
//! files are restored straight from the mirror, fetching what they need. Either way what was written is read back by the comparison of a
//! snapshot with live files, which hashes it against the ids in the signed listings and compares all metadata; it shares nothing with the restore
//! but those listings.

mod stopwatch;

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::check;
use super::diff::live;
use super::diff::{Change, Side};
use super::order::Order;
use super::restore::{self, Selection};
use super::sample::Sample;
use super::select::{self, Chosen, Filter, GroupBy, SnapshotRef};
use super::{Error, Monitor, Result, recover};
use crate::base::escape::escape;
use crate::base::private;
use crate::base::time::Time;
use crate::codec::head::HeadRef;
use crate::files::apply::Severity;
use crate::files::target::Target;
use crate::repository::freshness::Freshness;
use crate::repository::public_view::PublicView;
use crate::repository::{self, Access, Repository};
use crate::storage::Storage;
use crate::storage::local::Local;
use crate::storage::read_only::Traffic;
use crate::storage::several::Several;
use stopwatch::Stopwatch;

/// Differences that a report names.
const DIFFERENCES_SHOWN: usize = 20;
/// Folders of drills begin with this.
const PREFIX: &str = "packstone-drill-";

/// What to try.
#[derive(Debug, Clone)]
pub struct Options {
    /// Which snapshots; none for the newest of every source.
    pub snapshots: Vec<SnapshotRef>,
    /// What of each: a path in it.
    pub path: Vec<u8>,
    /// A share of the files only, straight from the mirror.
    pub sample: Option<Sample>,
    /// Objects that are fetched at the same time.
    pub parallel: usize,
    /// The time, for the age of the data.
    pub now: Time,
}

/// What came of it.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// The state that came back.
    pub head: Option<HeadRef>,
    /// How new it is, by what this machine knows of the mirror.
    pub freshness: Option<Freshness>,
    /// Snapshots that were restored.
    pub snapshots: u64,
    /// Files among the entries that were restored and compared.
    pub files: u64,
    /// Everything else.
    pub others: u64,
    /// Bytes of the files.
    pub bytes: u64,
    /// Files and other entries that these snapshots hold.
    pub entries_of: u64,
    /// Bytes that the mirror sent.
    pub fetched: u64,
    /// Requests that took.
    pub requests: u64,
    /// From the beginning until the repository was there and opened; for a share until the mirror was.
    pub opened: Duration,
    /// From the beginning until the first file was there.
    pub first_file: Option<Duration>,
    /// From the beginning until everything was there: what a recovery would take (RTO).
    pub complete: Duration,
    /// How old the data is: since the oldest of the backups that were restored began (RPO). None when that cannot be determined,
    /// because a time is in doubt.
    pub age: Option<Duration>,
    /// What is not as it was backed up, the first ones.
    pub differences: Vec<String>,
    /// How many there are.
    pub difference_count: u64,
    /// Why it ended before everything was restored, for a reason that says nothing of the mirror's bytes.
    pub hindered: Option<String>,
    /// Entries of which something (an owner, say) can only be set by root, and so was not proven.
    pub not_permitted: u64,
}

impl Report {
    /// True when nothing that was restored is other than it was backed up.
    #[must_use]
    pub const fn passed(&self) -> bool {
        self.difference_count == 0
    }

    /// The share of the entries of these snapshots that was not looked at, in percent.
    #[must_use]
    pub fn not_proven(&self) -> f64 {
        let seen = self.files + self.others;
        if self.entries_of == 0 { 0.0 } else { 100.0 * (1.0 - (seen as f64 / self.entries_of as f64).min(1.0)) }
    }

    fn differs(&mut self, what: String) {
        self.difference_count += 1;
        if self.differences.len() < DIFFERENCES_SHOWN {
            self.differences.push(what);
        }
    }
}

/// A folder of a drill's own, which goes with it.
#[derive(Debug)]
pub struct Ground {
    parent: PathBuf,
    name: String,
    /// Held for as long as the drill runs.
    lock: Option<File>,
}

impl Ground {
    /// Makes one in `parent`, and removes those that killed drills left there.
    ///
    /// # Errors
    /// What the system says.
    pub fn make(parent: &Path) -> io::Result<Self> {
        let parent = std::path::absolute(parent)?;
        private::make_public_directories(&parent)?;
        for entry in std::fs::read_dir(&parent)?.flatten() {
            if let Some(name) = entry.file_name().to_str().filter(|name| name.starts_with(PREFIX)) {
                Self::tidy(&parent, name);
            }
        }
        let name = format!("{PREFIX}{}", private::random_digits()?);
        private::make_directories(&parent.join(&name))?;
        let lock = private::create(&parent.join(&name).join("lock"))?;
        lock.try_lock()?;
        Ok(Self { parent, name, lock: Some(lock) })
    }

    /// Removes the folder of a drill that does not run any more. Only what is ours alone: where everybody may write, another's folder of
    /// such a name can hold anything as its lock, a pipe that never opens or a link to elsewhere.
    fn tidy(parent: &Path, name: &str) {
        let is_ours = |found: std::fs::Metadata| {
            found.is_dir() && found.uid() == rustix::process::geteuid().as_raw() && found.mode() & 0o022 == 0
        };
        if !std::fs::symlink_metadata(parent.join(name)).is_ok_and(is_ours) {
            return;
        }
        let lock = File::options().write(true).open(parent.join(name).join("lock"));
        // A folder without one was made a moment ago, or is nobody's.
        if lock.is_ok_and(|lock| lock.try_lock().is_ok()) {
            let _ = Self::remove(parent, name);
        }
    }

    fn remove(parent: &Path, name: &str) -> io::Result<()> {
        let target = Target::open(parent, false)?;
        target.root().remove(name.as_bytes()).map_err(io::Error::other)
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.parent.join(&self.name)
    }

    /// Leaves what was restored where it is, and returns where that is.
    #[must_use]
    pub fn keep(mut self) -> PathBuf {
        self.lock = None;
        let path = self.path();
        // Without its lock file no later drill takes it for left over.
        let _ = std::fs::remove_file(path.join("lock"));
        self.name.clear();
        path
    }

    /// Removes it.
    ///
    /// # Errors
    /// What the system says: something of it is still there.
    pub fn clean(mut self) -> io::Result<()> {
        let name = std::mem::take(&mut self.name);
        Self::remove(&self.parent, &name)
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        if !self.name.is_empty() {
            let _ = Self::remove(&self.parent, &self.name);
        }
    }
}

/// Looks at a restored tree: an error is a reason why the drill failed, unless it is [`Error::Interrupted`].
pub type Inspect<'a> = &'a dyn Fn(&Path) -> Result<()>;

/// Brings back what the options say from `mirror` into `ground`, and compares it. `traffic` counts what is asked of the mirror; `open` opens a
/// repository with the secret.
///
/// # Errors
/// Whatever keeps the data from coming back. What came back and is wrong is in the report.
pub fn run<E: From<Error>>(
    mirror: Access,
    traffic: &Traffic,
    open: &dyn Fn(Access) -> std::result::Result<Repository, E>,
    ground: &Ground,
    options: &Options,
    inspect: Option<Inspect<'_>>,
    monitor: &dyn Monitor,
) -> std::result::Result<Report, E> {
    let refused = |error: repository::Error| Error::from(error);
    let begun = Instant::now();
    let folder = ground.path();
    let cache = Some(folder.join("cache"));
    let stop = mirror.locks.stop().clone();
    let access = |storage: Arc<dyn Storage>, place: PathBuf| {
        Access { cache: cache.clone(), ..Access::bare(storage, place) }.ended_by(stop.clone())
    };
    let mut report = Report { age: Some(Duration::ZERO), ..Report::default() };
    let from_mirror = Access { cache: cache.clone(), ..mirror };
    let repository = if options.sample.is_some() {
        let repository = open(from_mirror)?;
        report.freshness = Some(repository.freshness().clone());
        repository
    } else {
        let view = PublicView::open(from_mirror).map_err(refused)?;
        let copies = Several::one("the mirror", view.shared_storage());
        report.freshness = Some(view.freshness().clone());
        let local = folder.join("repository");
        let target = Local::create(&local).map_err(repository::Error::from).map_err(refused)?;
        let plan = recover::plan(&view, &recover::newest(&view)?, &target)?;
        room(&folder, plan.bytes())?;
        recover::execute(&copies, &target, &plan, options.parallel, monitor)?.require_whole()?;
        let repository = open(access(Arc::new(target), local))?;
        let checked = check::run(&repository, &check::Options::default(), monitor)?;
        checked.findings.into_iter().for_each(|finding| report.differs(finding.message));
        repository
    };
    report.head = Some(repository.tip().reference());
    report.opened = begun.elapsed();
    let stopwatch = Stopwatch::new(monitor, begun);
    // Comparing is the proof and no part of a recovery.
    let mut comparing = Duration::ZERO;
    let (all, order) = chosen(&repository, options)?;
    for chosen in all {
        let at = folder.join("restored").join(chosen.id.short());
        report.age = match (report.age, age(&chosen, &order, options.now)) {
            (Some(known), Some(age)) => Some(known.max(age)),
            _ => None,
        };
        report.snapshots += 1;
        let selection = back(&repository, &chosen, &at, options, &mut report, &stopwatch)?;
        if report.hindered.is_some() {
            break;
        }
        let paused = Instant::now();
        compare(&repository, chosen, &at, &selection, options, &mut report, monitor)?;
        match inspect.map(|inspect| inspect(&at)) {
            None | Some(Ok(())) => {}
            Some(Err(Error::Interrupted)) => return Err(Error::Interrupted.into()),
            Some(Err(why)) => report.differs(why.to_string()),
        }
        comparing += paused.elapsed();
    }
    report.complete = begun.elapsed().saturating_sub(comparing);
    report.first_file = stopwatch.first_file();
    (report.fetched, report.requests) = (traffic.bytes(), traffic.requests());
    Ok(report)
}

/// How old a snapshot's data is. A time that somebody claimed makes it no younger than the backup.
fn age(chosen: &Chosen, order: &Order, now: Time) -> Option<Duration> {
    let place = order.place(&chosen.id)?;
    let from = match place.doubt {
        None => chosen.snapshot.time.min(chosen.snapshot.written),
        Some(_) => place.age_from?,
    };
    Some(Duration::from_secs(u64::try_from(now.seconds.saturating_sub(from.seconds)).unwrap_or(0)))
}

/// The snapshots that are named, or the newest of every source.
fn chosen(repository: &Repository, options: &Options) -> Result<(Vec<Chosen>, Order)> {
    if options.snapshots.is_empty() {
        repository.require_newest()?;
    }
    let found = select::many(repository, &options.snapshots, &Filter::default())?;
    if let Some((id, error)) = found.damaged.into_iter().next() {
        return Err(Error::Refused(format!("snapshot {} cannot be read: {error}", id.short())));
    }
    if found.chosen.is_empty() {
        return Err(Error::Refused("the mirror holds no snapshot: there is nothing that could come back".to_owned()));
    }
    if !options.snapshots.is_empty() {
        return Ok((found.chosen, found.order));
    }
    let of_source = |chosen: Chosen| (GroupBy::HOST_AND_PATHS.key(&chosen.snapshot), chosen);
    // Oldest first: the last one of each source stays.
    let newest: BTreeMap<_, Chosen> = found.chosen.into_iter().map(of_source).collect();
    Ok((newest.into_values().collect(), found.order))
}

/// Restores one snapshot, or a share of it of at least one file, and returns what was chosen.
fn back(
    repository: &Repository,
    chosen: &Chosen,
    at: &Path,
    options: &Options,
    report: &mut Report,
    monitor: &dyn Monitor,
) -> Result<Selection> {
    let found = select::find_path(repository, chosen, &options.path)?;
    let mut sample = options.sample;
    let restored = loop {
        let restoring = restore::Options {
            selection: sample.map(Selection::sample).unwrap_or_default(),
            ..restore::Options::new(at.to_path_buf())
        };
        let plan = restore::plan(repository, chosen, &found, &restoring, monitor)?;
        match &mut sample {
            Some(sample) if plan.totals().files == 0 && sample.percent < 100.0 => {
                sample.percent = (sample.percent.max(0.001) * 4.0).min(100.0);
            }
            _ => {
                room(at.ancestors().find(|path| path.exists()).unwrap_or(at), plan.totals().data_bytes)?;
                break restore::execute(repository, plan, monitor)?;
            }
        }
    };
    report.files += restored.files;
    report.others += restored.directories + restored.others;
    report.bytes += restored.total_bytes;
    report.not_permitted += restored.unset_count(|severity| severity < Severity::Failed);
    for (cause, unset) in restored.unset.iter().filter(|(cause, _)| cause.severity == Severity::Failed) {
        let example = escape(&unset.example);
        report.differs(format!("{}: {} ({} entries, {example} among them)", cause.what, cause.reason, unset.count));
    }
    // Nothing that was fetched is wrong: it could not be written here, or the store did not send it.
    if restored.damage_count == 0
        && let Some(problem) = restored.problems.first()
    {
        report.hindered = Some(format!("{}: {}", escape(&problem.path), problem.message));
        return Ok(sample.map(Selection::sample).unwrap_or_default());
    }
    report.difference_count += restored.problem_count - restored.problems.len() as u64;
    for problem in restored.problems {
        report.differs(format!("{}: {}", escape(&problem.path), problem.message));
    }
    Ok(sample.map(Selection::sample).unwrap_or_default())
}

/// A full disk here says nothing about the mirror: it is said before anything is fetched.
fn room(folder: &Path, bytes: u64) -> Result<()> {
    let Ok(disk) = rustix::fs::statvfs(folder) else { return Ok(()) };
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    if bytes <= free {
        return Ok(());
    }
    Err(Error::TargetFull(format!(
        "the drill needs {} MiB in {} and {} MiB are free there: hold it elsewhere with --to, or try a share with --sample",
        bytes >> 20,
        escape(folder.as_os_str().as_bytes()),
        free >> 20
    )))
}

/// Reads back what was restored.
fn compare(
    repository: &Repository,
    chosen: Chosen,
    at: &Path,
    selection: &Selection,
    options: &Options,
    report: &mut Report,
    monitor: &dyn Monitor,
) -> Result<()> {
    let found = select::find_path(repository, &chosen, &options.path)?;
    let name = Path::new(std::ffi::OsStr::from_bytes(&found.path)).file_name();
    let (is_part, at) = match (found.listing(), name) {
        (None, Some(name)) => (true, at.join(name)),
        _ => (!options.path.is_empty(), at.to_path_buf()),
    };
    let counts = chosen.snapshot.counts;
    if !is_part {
        report.entries_of += counts.entries();
    }
    let id = chosen.id.short();
    let side = Side { chosen, found };
    let comparing = live::Options { metadata: true, content: true, own: Arc::default() };
    let mut unexplained = Vec::new();
    let mut show = |change: Change| -> Result<()> {
        if !selection.choose(&change.path).selected {
            return Ok(());
        }
        let path = escape(&change.path);
        match change.sign {
            "U" => unexplained.push(format!("{id}:{path}: other metadata than was backed up")),
            "-" => report.differs(format!("{id}:{path}: did not come back")),
            "+" => report.differs(format!("{id}:{path}: came back and was never backed up")),
            _ => report.differs(format!("{id}:{path}: other content than was backed up")),
        }
        Ok(())
    };
    let compared = live::execute(repository, &side, &at, &comparing, &mut show, monitor)?;
    // What only root could have set differs now, and says nothing about the mirror.
    if unexplained.len() as u64 > report.not_permitted {
        unexplained.into_iter().for_each(|difference| report.differs(difference));
    }
    if compared.unreadable > 0 {
        report.differs(format!("{} restored entries cannot be read back", compared.unreadable));
    }
    Ok(())
}
