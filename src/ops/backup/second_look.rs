//! Later rounds of a backup: what came, moved or was replaced in directories after they were listed.
//!
//! A walk takes time, and a directory is listed once. What another program puts into it afterwards is not in the snapshot,
//! although something that is read later may need it: a repository of git has its objects listed before its references are
//! read, so a commit in between leaves a reference to objects that are missing. So when the walk has ended, every
//! directory that it listed is looked at once more (one `statx` each), and those that changed are listed again.
//!
//! # What holds afterwards
//! A round has a moment at which it begins, its cut. Its result holds every name that was there at the cut in the
//! directories that changed since they were listed, with the content that the name had then or had before. What changed
//! after the cut (its ctime says so) keeps the content that an earlier round read, and when it is new it is left to the next
//! backup: taking it could make it refer to what is missing. What is gone stays. A file that keeps its inode is not read
//! again.
//!
//! What is removed after the cut and before its directory is listed may be missing, and what replaces it is too new to be
//! taken: a collection of garbage by git does both. So a round that met something that was gone, or that kept what has been
//! replaced, is followed by another one, up to [`ROUNDS_MAX`], as long as they take little time beside the first. After
//! [`ROUNDS_MIN`], a round without either is the last one, also when it stored much. When something was lost even in the last
//! one, the snapshot says so. When it cannot be determined what changed, the snapshot is partial.
//!
//! Nothing here makes a snapshot of several files one moment: a program that
//! changes files in place needs a snapshot of its file system, or a dump.
//!
//! # How
//! A round walks again, to what changed and the way there ([`Focus`]), and compares with the listings of the rounds before,
//! which are read back from the run ([`crate::repository::run_trees`]). It writes all listings on the way anew; nothing is
//! published before the last round.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use super::round::{Again, Scanned, directory_of};
use super::scan::Scan;
use super::store::Store;
use crate::base::time::Time;
use crate::files::directory::coarse_now;
use crate::files::focus::Focus;
use crate::files::listed::{ListedDirectories, Standing};
use crate::files::owner::Owners;
use crate::files::source::Sources;
use crate::files::walk::{Rules, Walk};
use crate::ops::{Monitor, Result};

/// Rounds after the first, at most.
const ROUNDS_MAX: usize = 16;

/// So many rounds there are in any case, as long as something changes: a name may have moved between a round's cut and its listings.
const ROUNDS_MIN: usize = 3;
/// A file that is replaced all the time keeps what an earlier round read: no more rounds for that alone.
const ROUNDS_STALE_MAX: usize = 8;

/// Later rounds may take this long in any case,
const DURATION_MIN: Duration = Duration::from_secs(5);
/// and this part of what the first took.
const DURATION_PART: u32 = 4;

/// The kernel's coarse clock moves on within this time.
const TICK_MAX: Duration = Duration::from_millis(50);

/// What the first round was given, and when it began.
pub(super) struct Given<'a> {
    pub sources: Sources,
    pub rules: Rules,
    pub owners: &'a Owners,
    pub readers: usize,
    pub began: Time,
    pub took: Duration,
}

/// Runs the later rounds. See the module.
///
/// # Errors
/// Any error is final for the run.
pub(super) fn look_again(
    store: &mut Store<'_, '_>,
    given: Given<'_>,
    first: Scanned,
    monitor: &dyn Monitor,
) -> Result<()> {
    let Given { mut sources, rules, owners, readers, began, took } = given;
    let Scanned { listed, mut devices, .. } = first;
    let (mut walks, mut later, mut gone) = (vec![listed], HashMap::new(), HashSet::new());
    let started = Instant::now();
    let limit = DURATION_MIN.max(took / DURATION_PART);
    let mut is_lost = false;
    for round in 1..=ROUNDS_MAX {
        let changed = match find_changed(store, &mut walks, &later, &sources) {
            Ok(changed) => changed,
            Err(error) => return store.cannot_look_again(&error),
        };
        if changed.is_empty() {
            return Ok(());
        }
        let cut = pass_tick();
        // Again, so that what changed up to the cut is among it.
        let changed = match find_changed(store, &mut walks, &later, &sources) {
            Ok(changed) => changed,
            Err(error) => return store.cannot_look_again(&error),
        };
        if changed.iter().any(Vec::is_empty) {
            match sources.look_again() {
                Ok(again) => sources = again,
                Err(error) => return store.cannot_look_again(&error),
            }
        }
        let Some((trees, root)) = store.trees()? else { return Ok(()) };
        let again = Again { trees: &trees, root, began, cut, unsettled: store.unsettled() };
        let walk = Walk::again(sources.clone(), rules.clone(), Focus::on(&changed));
        let repository = store.run().repository();
        let mut scanned = store.round(owners, readers, move |groups, jobs| {
            Scan::again(repository, owners, again, devices, groups, jobs).run(walk, Vec::new(), monitor)
        })?;
        devices = std::mem::take(&mut scanned.devices);
        match scanned.listed.standings() {
            Ok(standings) => later.extend(standings),
            Err(error) => return store.cannot_look_again(&error),
        }
        // What was too new for this round is taken by the next one, whether its directory changes once more or not.
        for path in scanned.unfinished.iter().chain(store.missed()) {
            later.entry(path.clone()).or_insert_with(Standing::unknown).is_fresh = true;
        }
        walks.push(scanned.listed);
        let has_lost = scanned.gone.iter().any(|path| !gone.contains(path));
        gone = scanned.gone;
        is_lost = has_lost || !store.missed().is_empty();
        if !is_lost && (scanned.stale == 0 || round >= ROUNDS_STALE_MAX) && round >= ROUNDS_MIN {
            return Ok(());
        }
        if started.elapsed() > limit {
            break;
        }
    }
    if is_lost { store.note_unrest() } else { Ok(()) }
}

/// Paths of the directories that changed since they were last listed, each once; an empty one for the root.
fn find_changed(
    store: &Store<'_, '_>,
    walks: &mut [ListedDirectories],
    later: &HashMap<Vec<u8>, Standing>,
    sources: &Sources,
) -> std::io::Result<Vec<Vec<u8>>> {
    let mut changed = Vec::new();
    for listed in walks {
        changed.extend(listed.changed(later)?);
    }
    if sources.has_changed() || later.get(&[][..]).is_some_and(|root| root.is_fresh) {
        changed.push(Vec::new());
    }
    // What is there and was not stored is looked for, whether its directory changed or not.
    changed.extend(store.unsettled().iter().map(|path| directory_of(path)));
    changed.sort_unstable();
    changed.dedup();
    Ok(changed)
}

/// Now, once the clock that file systems take their times from has passed it: what changes afterwards has a later time. (That
/// clock stands still within a tick; but newer kernels give finer times to what was looked at a moment before.)
fn pass_tick() -> Time {
    let (cut, started) = (Time::now(), Instant::now());
    while coarse_now() <= cut && started.elapsed() < TICK_MAX {
        std::thread::sleep(Duration::from_millis(1));
    }
    cut
}
