//! `check --mirror`: a mirror's own head, and everything that it needs. Needs no secret.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use super::{Error, Monitor, Phase, Result};
use crate::codec::head::HeadRef;
use crate::repository;
use crate::repository::public_view::{self, Needed, PublicView};
use crate::storage::{ErrorKind, MirrorStore, ObjectName, Storage};

/// What to look at.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// The share of the objects that is read and hashed, in percent; 0 for the listing alone.
    pub read_percent: f64,
    /// Decides which those are.
    pub seed: u64,
    /// How many are read at the same time.
    pub parallel: usize,
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
}

impl Report {
    /// True when everything that was looked at is as it should be.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.missing.is_empty() && self.wrong_length.is_empty() && self.damaged.is_empty()
    }
}

/// Checks a mirror. `view` was opened on it.
///
/// # Errors
/// A head or segment on it that cannot be read: what it needs cannot be known. [`Error::Interrupted`], storage errors.
pub fn run(view: &PublicView, mirror: &dyn MirrorStore, options: &Options, monitor: &dyn Monitor) -> Result<Report> {
    monitor.phase(Phase::ListMirror);
    view.tip().require_readable()?;
    let needs = view.needs()?;
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
    let chosen = choose(sound, options);
    report.damaged = read(view.storage(), view.config_bytes(), &chosen, options.parallel, monitor)?;
    report.read = chosen.len() as u64;
    report.read_bytes = chosen.iter().filter_map(|needed| needed.length).sum();
    Ok(report)
}

fn choose(mut objects: Vec<Needed>, options: &Options) -> Vec<Needed> {
    let share = options.read_percent.clamp(0.0, 100.0) / 100.0;
    objects.sort_by_cached_key(|needed| {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&options.seed.to_le_bytes()).update(needed.name.to_string().as_bytes());
        *hasher.finalize().as_bytes()
    });
    objects.truncate((objects.len() as f64 * share).ceil() as usize);
    objects
}

/// Reads objects and hashes them; those that are not what their names say, and why. `config` is the repository's.
///
/// # Errors
/// [`Error::Interrupted`], storage errors.
pub(super) fn read(
    storage: &dyn Storage,
    config: &[u8],
    objects: &[Needed],
    parallel: usize,
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
            let next = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some(needed) = next else { return };
            match public_view::read_verified(storage, needed, config) {
                Ok(_) => {}
                Err(repository::Error::Storage(error)) if error.kind != ErrorKind::Length => {
                    failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                    return;
                }
                Err(error) => {
                    let why = super::check::reason(&error);
                    damaged.lock().unwrap_or_else(PoisonError::into_inner).push((needed.name, why));
                }
            }
            monitor.advance(1, needed.length.unwrap_or_default());
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..parallel.max(1) {
            scope.spawn(work);
        }
    });
    if monitor.interrupted() {
        return Err(Error::Interrupted);
    }
    if let Some(error) = failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(repository::Error::from(error).into());
    }
    let mut damaged = damaged.into_inner().unwrap_or_else(PoisonError::into_inner);
    damaged.sort();
    Ok(damaged)
}
