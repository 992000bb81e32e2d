//! `check --mirror`: a mirror's own head, and everything that it needs. Needs no secret.

use crate::base::lock::{into_inner, lock};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::Duration;

use super::check::Data;
use super::item_progress::ItemProgress;
use super::sample::Sample;
use super::{Error, Monitor, Phase, Result};
use crate::base::threads;
use crate::base::time::Time;
use crate::codec::head::HeadRef;
use crate::repository;
use crate::repository::mirror_book::{self, MirrorBook};
use crate::repository::public_view::{self, Needed, PublicView};
use crate::storage::{ErrorKind, MirrorStore, ObjectName, Storage};

/// Objects that were read back are written down so many at a time.
const NOTED_AT_ONCE: usize = 32;

/// Which objects are read and hashed. Sizes are bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Which {
    /// What a check of packs would choose, of all objects: with [`Data::None`] the listing alone.
    Share(Data),
    /// Those that were not read back for so long, the oldest first.
    Older {
        /// For how long.
        than: Duration,
        /// At most so many bytes of them, but one object at least.
        budget: Option<u64>,
    },
}

/// What to look at.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// What is read and hashed.
    pub which: Which,
    /// Decides what chance is.
    pub seed: u64,
    /// How many are read at the same time.
    pub parallel: usize,
    /// The time.
    pub now: Time,
}

/// What was found.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// The mirror's newest head.
    pub head: Option<HeadRef>,
    /// Objects that it needs.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Those that are not there.
    pub missing: Vec<ObjectName>,
    /// Those of another length.
    pub wrong_length: Vec<ObjectName>,
    /// Those whose bytes are not what their names say, and why.
    pub damaged: Vec<(ObjectName, String)>,
    /// Objects that the head does not need: of earlier states, or of an interrupted sync.
    pub extra: u64,
    /// What else lies there, escaped.
    pub strays: Vec<String>,
    /// What is worth knowing and is no damage.
    pub notes: Vec<String>,
    /// Objects that were read.
    pub read: u64,
    /// Their bytes.
    pub read_bytes: u64,
    /// Of [`Which::Older`], objects for which the budget was not enough.
    pub overdue: u64,
    /// Their bytes.
    pub overdue_bytes: u64,
    /// Since when everything has been read back, when all of it was.
    pub verified: Option<Time>,
}

impl Report {
    /// True when everything that was looked at is as it should be.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.missing.is_empty() && self.wrong_length.is_empty() && self.damaged.is_empty()
    }
}

/// What was read back, written down in the book of mirrors while it is: an interrupted check goes on where it stopped.
struct Journal<'a> {
    book: Option<(&'a Mutex<MirrorBook>, &'a str)>,
    now: Time,
    right: Mutex<Vec<ObjectName>>,
    failed: Mutex<Option<String>>,
}

impl Journal<'_> {
    /// A book that cannot be read or written stops no check: what it would have said is unknown, and that is noted.
    fn with<T: Default>(&self, act: impl FnOnce(&mut MirrorBook, &str) -> mirror_book::Result<T>) -> T {
        let Some((book, name)) = self.book else { return T::default() };
        let done = act(&mut lock(book), name);
        done.unwrap_or_else(|error| {
            let mut failed = lock(&self.failed);
            failed.get_or_insert_with(|| format!("what was read back is not remembered: {error}"));
            T::default()
        })
    }

    /// When objects were read back, of those that are needed; what is known of others is forgotten.
    fn known(&self, names: &BTreeSet<ObjectName>) -> BTreeMap<ObjectName, Time> {
        self.with(|book, mirror| {
            let mut known = book.verified(mirror)?;
            let others: Vec<ObjectName> = known.keys().filter(|name| !names.contains(name)).copied().collect();
            book.remove_verified(mirror, &others)?;
            // What was read back in the future was so by a clock that nobody believes any more.
            known.retain(|name, at| names.contains(name) && at.seconds <= self.now.seconds);
            Ok(known)
        })
    }

    fn right(&self, name: ObjectName) {
        let mut right = lock(&self.right);
        right.push(name);
        if right.len() >= NOTED_AT_ONCE {
            self.note_right(&right);
            right.clear();
        }
    }

    fn note_right(&self, right: &[ObjectName]) {
        self.with(|book, mirror| book.add_verified(mirror, right, self.now));
        self.with(|book, mirror| book.remove_damaged_objects(mirror, right));
    }

    /// The rest of what was right; and what is not.
    fn end(&self, damaged: &[(ObjectName, String)]) {
        self.note_right(&std::mem::take(&mut *lock(&self.right)));
        self.with(|book, mirror| book.add_damaged_objects(mirror, damaged, self.now));
    }
}

/// Checks a mirror. `view` was opened on it; `book` knows it by this name, when it has one here, and what was read back of it.
///
/// # Errors
/// A head or segment on it that cannot be read: what it needs cannot be known. [`Error::Interrupted`], storage errors.
pub fn run(
    view: &PublicView,
    mirror: &dyn MirrorStore,
    options: &Options,
    book: Option<(&Mutex<MirrorBook>, &str)>,
    monitor: &dyn Monitor,
) -> Result<Report> {
    monitor.phase(Phase::ListMirror);
    view.tip().require_readable()?;
    let needs = view.needs()?;
    mirror.expect_objects(needs.len() as u64);
    let (listed, strays) = mirror.list_all().map_err(repository::Error::from)?;
    let there: BTreeMap<ObjectName, u64> = listed.into_iter().map(|found| (found.name, found.length)).collect();
    let names: BTreeSet<ObjectName> = needs.iter().map(|needed| needed.name).collect();
    let mut report = Report {
        head: Some(view.tip().reference()),
        objects: needs.len() as u64,
        extra: there.keys().filter(|name| !names.contains(*name)).count() as u64,
        strays,
        ..Report::default()
    };
    if let Some((head, _)) = view.tip().incomplete {
        report.notes.push(format!("{head} is not whole yet: a sync was interrupted, or is running now"));
    }
    let mut sound = Vec::new();
    for needed in needs {
        match there.get(&needed.name) {
            None => report.missing.push(needed.name),
            Some(found) if needed.length.is_some_and(|length| length != *found) => {
                report.wrong_length.push(needed.name)
            }
            Some(found) => {
                report.bytes += found;
                sound.push(Needed { length: Some(*found), ..needed });
            }
        }
    }
    let journal = Journal { book, now: options.now, right: Mutex::default(), failed: Mutex::default() };
    let known = journal.known(&names);
    let (chosen, left) = choose(sound, &known, options);
    let right = |name| journal.right(name);
    let done = read(view.storage(), view.config_bytes(), &chosen, options.parallel, &right, monitor);
    journal.end(done.as_deref().unwrap_or_default());
    report.damaged = done?;
    report.read = chosen.len() as u64;
    report.read_bytes = bytes(&chosen);
    (report.overdue, report.overdue_bytes) = (left.len() as u64, bytes(&left));
    let absent = report.missing.iter().chain(&report.wrong_length);
    let wrong: Vec<ObjectName> = absent.chain(report.damaged.iter().map(|(name, _)| name)).copied().collect();
    journal.with(|book, mirror| book.remove_verified(mirror, &wrong));
    let known = journal.known(&names);
    report.verified = if known.len() == names.len() { known.into_values().min() } else { None };
    report.notes.extend(into_inner(journal.failed));
    Ok(report)
}

fn bytes(objects: &[Needed]) -> u64 {
    objects.iter().filter_map(|needed| needed.length).sum()
}

/// What is read now, and what would be as well, were the budget larger.
fn choose(
    mut objects: Vec<Needed>,
    known: &BTreeMap<ObjectName, Time>,
    options: &Options,
) -> (Vec<Needed>, Vec<Needed>) {
    let name = |needed: &Needed| needed.name.to_string();
    let chance = |percent| Sample { percent, seed: options.seed };
    match options.which {
        Which::Share(Data::None) => (Vec::new(), Vec::new()),
        Which::Share(Data::All) => (objects, Vec::new()),
        Which::Share(Data::Percent(percent)) => (chance(percent).of(objects, name), Vec::new()),
        Which::Share(Data::Part { part, parts }) => {
            let of = Sample { percent: 100.0, seed: 0 };
            let is_in =
                |needed: &Needed| of.place(name(needed).as_bytes()) % u64::from(parts.max(1)) + 1 == u64::from(part);
            objects.retain(is_in);
            (objects, Vec::new())
        }
        Which::Share(Data::Bytes(budget)) => (within(chance(100.0).of(objects, name), budget).0, Vec::new()),
        Which::Older { than, budget } => {
            let age = |needed: &Needed| {
                let at = known.get(&needed.name)?;
                Some(Duration::from_secs(options.now.seconds.saturating_sub(at.seconds).unsigned_abs()))
            };
            objects.retain(|needed| age(needed).is_none_or(|age| age >= than));
            let mut objects = chance(100.0).of(objects, name);
            objects.sort_by_cached_key(|needed| std::cmp::Reverse(age(needed).unwrap_or(Duration::MAX)));
            within(objects, budget.unwrap_or(u64::MAX))
        }
    }
}

/// The first ones, one at least, of so many bytes together; and the rest.
fn within(mut objects: Vec<Needed>, budget: u64) -> (Vec<Needed>, Vec<Needed>) {
    let mut sum = 0_u64;
    let fits = |needed: &Needed| {
        sum = sum.saturating_add(needed.length.unwrap_or_default());
        sum <= budget
    };
    let count = objects.iter().map(fits).take_while(|fits| *fits).count().max(1).min(objects.len());
    let rest = objects.split_off(count);
    (objects, rest)
}

/// Reads objects and hashes them; those that are not what their names say, and why. `config` is the repository's; `right` hears of the
/// others.
///
/// # Errors
/// [`Error::Interrupted`], storage errors.
pub(super) fn read(
    storage: &dyn Storage,
    config: &[u8],
    objects: &[Needed],
    parallel: usize,
    right: &(dyn Fn(ObjectName) + Sync),
    monitor: &dyn Monitor,
) -> Result<Vec<(ObjectName, String)>> {
    if objects.is_empty() {
        return Ok(Vec::new());
    }
    monitor.phase(Phase::CheckData);
    monitor.expect(objects.len() as u64, objects.iter().filter_map(|needed| needed.length).sum(), true);
    let queue = Mutex::new(objects.iter());
    let (damaged, failed) = (Mutex::new(Vec::new()), Mutex::new(None));
    let work = || {
        while !monitor.interrupted() {
            let next = lock(&queue).next();
            let Some(needed) = next else { return };
            let mut progress = ItemProgress::new(monitor, 1, needed.length.unwrap_or_default());
            match public_view::verify(storage, needed, config, &mut |bytes| progress.read(bytes)) {
                Ok(()) => right(needed.name),
                Err(repository::Error::Storage(error)) if error.kind != ErrorKind::Length => {
                    lock(&failed).get_or_insert(error);
                    return;
                }
                Err(error) => {
                    let why = super::check::reason(&error);
                    lock(&damaged).push((needed.name, why));
                }
            }
        }
    };
    threads::share(parallel, work);
    if monitor.interrupted() {
        return Err(Error::Interrupted);
    }
    if let Some(error) = into_inner(failed) {
        return Err(repository::Error::from(error).into());
    }
    let mut damaged = into_inner(damaged);
    damaged.sort();
    Ok(damaged)
}
