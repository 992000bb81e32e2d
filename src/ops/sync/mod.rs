//! `sync`: a mirror becomes whole for the newest head of the repository. Needs no secret. format-spec/mirror.md.
//!
//! # Order of requests, and what an interruption leaves
//!
//! | step | an interruption before the next step leaves |
//! |---|---|
//! | 1. list the mirror, compare histories | nothing |
//! | 2. send what the head needs and the listing lacks, in the order of publishing | objects that no head on the mirror names |
//! | 3. read a sample back, list again, prove that everything is there and that nobody has published another history since | as above |
//! | 4. send the head | as above: without its checkpoint it says nothing |
//! | 5. send its checkpoint, when it is another one than before | a mirror that is whole for the head |
//! | 6. list the heads: who published another history at the same moment is told of | as above |
//!
//! # Invariants
//!
//! - A checkpoint is a head too, and what it named may be swept: it is sent last, when the head above it is there.
//! - A head is sent only after a listing has shown everything that it needs, with the right lengths.
//! - What is sent was hashed when it was read from the repository: damage does not spread.
//! - Nothing is removed here; [`deletion`] does that afterwards. An object is replaced only when its length is wrong, or an earlier sync or
//!   check saw that its bytes are.
//! - A mirror of another repository or history, or one that was set back, is not written to. Before one is called so, the newest head here is
//!   read again: whoever published and synced meanwhile has left a head there that only this sync does not know ([`with_newest`]).

mod connections;
pub mod deletion;
mod history;
mod lag;
mod object;
pub mod pass;
mod send;

pub use self::history::recognise;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::mirror_error::MirrorError;
use super::{Error, Monitor, Phase, Result};
use crate::codec::config::CONFIG_BYTES;
use crate::codec::head::HeadRef;
use crate::repository::mirror_book::MirrorBook;
use crate::repository::public_view::{Needed, PublicView};
use crate::repository::{self, chain};
use crate::storage::{Folder, Leftovers, Listed, MirrorStore, ObjectName};
use connections::Connections;
use pass::Reader;

/// Objects that a message names.
const NAMES_SHOWN: usize = 5;

/// How to go about it.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Objects on their way at the same time.
    pub parallel: usize,
    /// The share of packs, segments and snapshots that is read back after it was sent, in percent. What everything hangs on is
    /// always read back: the config, key slots and heads.
    pub sample_percent: f64,
    /// Decides what that is.
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { parallel: 4, sample_percent: 1.0, seed: 0 }
    }
}

/// What will be sent.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The newest head of ours that is on the mirror.
    pub was: Option<HeadRef>,
    /// The head that the mirror will be whole for.
    pub head: HeadRef,
    /// What it needs.
    pub needs: Vec<Needed>,
    /// What of that is to be sent, in the order of sending, heads apart.
    pub send: Vec<Needed>,
    /// The heads that are to be sent behind the rest: the newest, then its checkpoint.
    pub heads: Vec<Needed>,
    /// All objects that are on the mirror, with their lengths.
    pub there: BTreeMap<ObjectName, u64>,
    /// What else lies on the mirror and was left alone.
    pub notes: Vec<String>,
}

impl Plan {
    /// True when the mirror is whole for the newest head already.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.send.is_empty() && self.heads.is_empty()
    }

    /// The same plan, with what is `doubtful` sent again, each in its place.
    fn with(self, doubtful: &BTreeSet<ObjectName>) -> Self {
        if doubtful.is_empty() {
            return self;
        }
        let chosen: BTreeSet<Needed> = self.send.iter().chain(&self.heads).copied().collect();
        let is_sent = |needed: &&Needed| chosen.contains(needed) || doubtful.contains(&needed.name);
        let (heads, send) = in_order(self.needs.iter().filter(is_sent), self.head);
        Self { send, heads, ..self }
    }

    /// Bytes to be sent, as far as they are known.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.send.iter().chain(&self.heads).filter_map(|needed| needed.length).sum()
    }

    /// What the head needs: how many objects, and their bytes.
    #[must_use]
    pub fn whole(&self) -> (u64, u64) {
        (self.needs.len() as u64, self.needs.iter().filter_map(|needed| needed.length).sum())
    }
}

/// What was done.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Objects that were sent, the head among them.
    pub sent: u64,
    /// Their bytes.
    pub sent_bytes: u64,
    /// Objects that were read back.
    pub read_back: u64,
    /// What interrupted writes had left there.
    pub leftovers: Leftovers,
    /// How long it took.
    pub took: Duration,
}

/// How often a sync begins again because the repository has moved on under it.
const ROUNDS_MAX: u32 = 16;

/// Does `work` with `view`; and again with a view of the newest head, when the mirror shows what `view` does not know and the repository
/// here does by now.
///
/// # Errors
/// Those of `work`.
pub fn with_newest<T>(view: &PublicView, mut work: impl FnMut(&PublicView) -> Result<T>) -> Result<T> {
    let mut newest: Option<PublicView> = None;
    for _ in 1..ROUNDS_MAX {
        let view = newest.as_ref().unwrap_or(view);
        match work(view) {
            Err(error) => match history::newer(view, &error)? {
                Some(now) => newest = Some(now),
                None => return Err(error),
            },
            done => return done,
        }
    }
    work(newest.as_ref().unwrap_or(view))
}

/// Lists the mirror and works out what it lacks. `seen` is the newest head that was seen there before. What `book` says of the mirror of this
/// name had other bytes there the last time is sent again.
///
/// # Errors
/// [`Error::Mirror`] when it must not be written to; a fork; a segment here that cannot be read; storage errors of the mirror.
pub fn plan(
    view: &PublicView,
    mirror: &dyn MirrorStore,
    seen: Option<HeadRef>,
    book: Option<(&Mutex<MirrorBook>, &str)>,
    monitor: &dyn Monitor,
) -> Result<Plan> {
    monitor.phase(Phase::ListMirror);
    // An older head must not pass for the newest.
    view.tip().require_sound()?;
    let head = view.tip().reference();
    let mut needs = view.needs()?;
    for needed in &mut needs {
        if needed.length.is_none() {
            needed.length = Some(view.storage().length(&needed.name).map_err(repository::Error::from)?);
        }
    }
    mirror.expect_objects(needs.len() as u64);
    let (listed, strays) = list_with(mirror, seen, monitor)?;
    let there: BTreeMap<ObjectName, u64> = listed.into_iter().map(|found| (found.name, found.length)).collect();
    let mut notes = Vec::new();
    let mut doubtful = send::doubtful(book);
    let was = history::compare(view, mirror, &there, &strays, seen, &mut doubtful, &mut notes)?;
    if !strays.is_empty() {
        notes.push(format!(
            "{} files on the mirror are not part of the repository, {} one of them",
            strays.len(),
            strays[0]
        ));
    }
    let lacks = |needed: &&Needed| there.get(&needed.name).copied() != needed.length;
    let (heads, send) = in_order(needs.iter().filter(lacks), head);
    Ok(Plan { was, head, needs, send, heads, there, notes }.with(&doubtful))
}

/// A listing that shows the head that was seen, when the store has that. Some stores show for seconds after a write what was before it: that is
/// no mirror that was set back.
fn list_with(
    mirror: &dyn MirrorStore,
    seen: Option<HeadRef>,
    monitor: &dyn Monitor,
) -> Result<(Vec<Listed>, Vec<String>)> {
    let name = seen.map(chain::name_of);
    let mut pauses = lag::pauses(monitor);
    loop {
        let (listed, strays) = mirror.list_all().map_err(repository::Error::from)?;
        let is_listed = |name: &ObjectName| listed.iter().any(|found| found.name == *name);
        match name {
            Some(name) if !is_listed(&name) && mirror.length(&name).is_ok() && pauses.next().is_some() => {}
            // The wait may have been cut short: then this listing proves nothing.
            _ if monitor.interrupted() => return Err(Error::Interrupted),
            _ => return Ok((listed, strays)),
        }
    }
}

/// What is to be sent, heads apart and the newest of them first.
fn in_order<'a>(needs: impl Iterator<Item = &'a Needed>, head: HeadRef) -> (Vec<Needed>, Vec<Needed>) {
    let (mut heads, send): (Vec<Needed>, Vec<Needed>) = needs.partition(|needed| is_head(needed));
    heads.sort_by_key(|needed| needed.name != chain::name_of(head));
    (heads, send)
}

const fn is_head(needed: &Needed) -> bool {
    matches!(needed.name, ObjectName::Head { .. })
}

/// Sends what the plan says. `book` hears how each object stands, under the name of the mirror. `reader` was made for this plan.
///
/// # Errors
/// [`Error::Mirror`] when something did not arrive, damage in the repository, storage errors: the mirror's newest head is the one of
/// before. [`Error::Interrupted`].
pub fn execute(
    reader: &Reader<'_>,
    mirror: &dyn MirrorStore,
    plan: &Plan,
    options: &Options,
    book: Option<(&Mutex<MirrorBook>, &str)>,
    monitor: &dyn Monitor,
) -> Result<Report> {
    let begun = Instant::now();
    let mut report = Report::default();
    let doubtful = send::doubtful(book);
    let owner = send::owner(book);
    // What cannot be removed only takes room. The next sync finds it again.
    report.leftovers = mirror.clean_leftovers(&owner).unwrap_or_else(|_| mirror.leftovers());
    report.leftovers += send::end_unfinished(book, mirror, !plan.is_empty());
    if plan.is_empty() {
        return Ok(report);
    }
    monitor.phase(Phase::Send);
    monitor.expect((plan.send.len() + plan.heads.len()) as u64, plan.bytes(), true);
    // One of another length is in the plan.
    if plan.was.is_some() && plan.there.get(&ObjectName::Config) == Some(&(CONFIG_BYTES as u64)) {
        history::confirm_config(reader.view(), mirror)?;
    }
    let book = send::Book::new(book, plan);
    let connections = Connections::new(options.parallel);
    let sender = send::Sender {
        reader,
        mirror,
        options,
        book: &book,
        monitor,
        connections: &connections,
        owner: &owner,
        doubtful: &doubtful,
    };
    let sent = sender.send_all(&plan.send)?;
    report.sent = sent.len() as u64;
    report.sent_bytes = sent.iter().filter_map(|needed| needed.length).sum();
    if monitor.interrupted() {
        return Err(Error::Interrupted);
    }
    report.read_back = sender.read_back(&sent)?;
    prove(reader.view(), mirror, plan, monitor)?;
    if monitor.interrupted() {
        return Err(Error::Interrupted);
    }
    for needed in &plan.heads {
        sender.send_one(needed)?;
        report.sent += 1;
        report.sent_bytes += needed.length.unwrap_or_default();
        // A head that did not arrive as it is would stand above the one that can be read.
        report.read_back += sender.read_back(std::slice::from_ref(needed))?;
    }
    // Who published another history at the same moment saw nothing of ours, either.
    let heads = mirror.list(Folder::Heads).map_err(repository::Error::from)?;
    history::compare_again(reader.view(), mirror, heads.into_iter().map(|found| found.name))?;
    report.took = begun.elapsed();
    Ok(report)
}

/// Lists the mirror again: everything but heads is there, and its history is still ours.
fn prove(view: &PublicView, mirror: &dyn MirrorStore, plan: &Plan, monitor: &dyn Monitor) -> Result<()> {
    let mut pauses = lag::pauses(monitor);
    loop {
        let (listed, _) = mirror.list_all().map_err(repository::Error::from)?;
        history::compare_again(view, mirror, listed.iter().map(|found| found.name))?;
        let there: BTreeSet<(ObjectName, Option<u64>)> =
            listed.into_iter().map(|found| (found.name, Some(found.length))).collect();
        let lacks = |needed: &&Needed| !is_head(needed) && !there.contains(&(needed.name, needed.length));
        let missing: Vec<&Needed> = plan.needs.iter().filter(lacks).collect();
        let Some(one) = missing.first() else { return Ok(()) };
        // A listing that lags shows it soon. What the store does not have it never shows.
        if mirror.length(&one.name).ok() == one.length && pauses.next().is_some() {
            continue;
        }
        if monitor.interrupted() {
            return Err(Error::Interrupted);
        }
        let first: Vec<String> = missing.iter().take(NAMES_SHOWN).map(|needed| needed.name.to_string()).collect();
        return Err(MirrorError::Incomplete {
            generation: plan.head.generation,
            missing: missing.len(),
            of: plan.needs.len(),
            first: first.join(", "),
            behind: None,
        }
        .into());
    }
}
