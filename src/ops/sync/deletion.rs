//! What leaves a mirror, and when. format-spec/mirror.md, "Deleting on a mirror".
//!
//! # Invariants
//!
//! - An object is deleted only when the head that was on the mirror before this sync does not need it and says so itself: it lists the
//!   object as swept, or, of a head, it follows it. That an object is absent here is never a reason.
//! - The grace counts from when this machine first saw such a head on the mirror, on a clock that no change of the calendar shortens by more than a
//!   day ([`MirrorBook::clock`]). A lost book begins it anew.
//! - What the head that was just sent needs is not deleted, whatever the book says.

use crate::base::lock::{into_inner, lock};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Mutex;
use std::time::Duration;

use super::Plan;
use crate::base::threads;
use crate::codec::head::Head;
use crate::ops::{Error, Monitor, Phase, Problem, Result, Severity};
use crate::repository::marked::object_name;
use crate::repository::mirror_book::MirrorBook;
use crate::repository::public_view::PublicView;
use crate::repository::{self, chain};
use crate::storage::cause::Keeping;
use crate::storage::{ErrorKind, MirrorStore, ObjectName};

/// Heads that stay on a mirror, however old: the newest ones.
const HEADS_KEPT: usize = 16;
/// What was deleted in this time counts for the cap.
pub const WINDOW: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// When an object may leave.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// How long after the mirror's own head said that it is superseded.
    pub grace: Duration,
    /// The share of the mirror's bytes that may be deleted in [`WINDOW`], in percent.
    pub max_percent: f64,
}

impl Default for Rules {
    fn default() -> Self {
        Self { grace: Duration::from_secs(30 * 24 * 60 * 60), max_percent: 50.0 }
    }
}

/// What may leave a mirror.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeletionPlan {
    /// What is to be deleted now, with its bytes.
    pub due: Vec<(ObjectName, u64)>,
    /// What is superseded and waits: objects.
    pub waiting: u64,
    /// Their bytes.
    pub waiting_bytes: u64,
    /// How long the first of them waits yet.
    pub next: Option<Duration>,
    /// Bytes that were deleted in the last days.
    pub lately: u64,
    /// Bytes that may be deleted in that time.
    pub cap: u64,
}

impl DeletionPlan {
    /// Bytes that are to be deleted now.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.due.iter().map(|(_, bytes)| bytes).sum()
    }

    /// True when more is due than the cap leaves: nothing is deleted then. Where nothing is due there is nothing to refuse, however
    /// much was deleted lately.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        !self.due.is_empty() && self.lately.saturating_add(self.bytes()) > self.cap
    }
}

/// What a deletion did.
#[derive(Debug, Clone, Default)]
pub struct Deleted {
    /// Objects that are gone.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What the store does with them, where it says that it keeps them: then no space is free yet.
    pub keeping: Option<Keeping>,
    /// Objects that could not be deleted, and why.
    pub failed: Vec<(ObjectName, String)>,
}

/// What of the mirror's objects its newest head supersedes: what it lists as swept, and the heads before it, but for the newest
/// ones. What is needed is never among them.
pub(super) fn superseded(view: &PublicView, plan: &Plan) -> Vec<ObjectName> {
    let state = &view.tip().state;
    let needed: BTreeSet<ObjectName> = plan.needs.iter().map(|needed| needed.name).collect();
    let swept = state.swept.iter().map(|(id, sweep)| object_name(*id, sweep.kind));
    let swept = swept.filter(|name| plan.there.contains_key(name));
    let heads = plan.there.keys().filter(|name| match name {
        ObjectName::Head { generation, id } => state.is_ancestor(*generation, id),
        _ => false,
    });
    // By name is by generation; the head that is sent is not in the listing yet, or stands behind all of these.
    let heads: Vec<ObjectName> = heads.copied().collect();
    let old = heads.len().saturating_sub(HEADS_KEPT);
    swept.chain(heads.into_iter().take(old)).filter(|name| !needed.contains(name)).collect()
}

/// Decides what may leave now. The mirror's head before this sync is `plan.was`.
///
/// # Errors
/// The book cannot be read; heads on the mirror that cannot be read.
pub fn plan(
    view: &PublicView,
    mirror: &dyn MirrorStore,
    sync: &Plan,
    rules: &Rules,
    (book, name): (&Mutex<MirrorBook>, &str),
    clock: u64,
) -> Result<DeletionPlan> {
    // Not held while the mirror is asked: others may be at work on theirs.
    let lock = || lock(book);
    let total: u64 = sync.there.values().sum();
    let mut found = DeletionPlan::default();
    let candidates: BTreeSet<ObjectName> = superseded(view, sync).into_iter().collect();
    let known: BTreeMap<ObjectName, _> =
        lock().superseded(name)?.into_iter().map(|known| (known.name, known)).collect();
    let was = sync.was.map_or(0, |head| head.generation);
    for name in candidates {
        let bytes = sync.there.get(&name).copied().unwrap_or_default();
        // What the head said that is there now, and not one that this sync is about to send.
        let known = known.get(&name).filter(|known| known.generation <= was);
        let age = known.map_or(0, |known| clock.saturating_sub(known.seen));
        if known.is_some() && age >= rules.grace.as_secs() {
            found.due.push((name, bytes));
        } else {
            found.waiting += 1;
            found.waiting_bytes += bytes;
            let left = rules.grace.saturating_sub(Duration::from_secs(age));
            found.next = Some(found.next.map_or(left, |next| next.min(left)));
        }
    }
    keep_checkpoints(view, mirror, sync, &mut found)?;
    // What could not be deleted lately, or was not because of an interruption, counts once.
    let lately = lock().deleted_since(name, clock.saturating_sub(WINDOW.as_secs()))?;
    let again = |name: &ObjectName| sync.there.contains_key(name);
    found.lately = lately.iter().filter(|(name, _)| !again(name)).map(|(_, bytes)| bytes).sum();
    found.cap = (total.saturating_add(found.lately) as f64 * rules.max_percent.clamp(0.0, 100.0) / 100.0) as u64;
    Ok(found)
}

/// Notes what the head that is on the mirror now supersedes: from now on its grace runs.
///
/// # Errors
/// The book cannot be written.
pub fn note(view: &PublicView, sync: &Plan, book: &mut MirrorBook, name: &str, clock: u64) -> Result<()> {
    let names = superseded(view, sync);
    Ok(book.set_superseded(name, sync.head.generation, &names, clock)?)
}

/// A head that stays is read with its checkpoint. Checkpoints only go forward: that of the oldest head that stays is the only one among what
/// is older than it.
fn keep_checkpoints(view: &PublicView, mirror: &dyn MirrorStore, sync: &Plan, plan: &mut DeletionPlan) -> Result<()> {
    let going: BTreeSet<ObjectName> = plan.due.iter().map(|(name, _)| *name).collect();
    if !going.iter().any(|name| matches!(name, ObjectName::Head { .. })) {
        return Ok(());
    }
    let stays = |name: &&ObjectName| match **name {
        ObjectName::Head { generation, id } => !going.contains(*name) && view.tip().state.is_ancestor(generation, &id),
        _ => false,
    };
    // By name is by generation.
    let checkpoint = match sync.there.keys().find(stays) {
        Some(name) => {
            let bytes = mirror.read(name, chain::HEAD_BYTES_MAX).map_err(repository::Error::from)?;
            Head::parse(&bytes, view.verifying_key(), view.id()).ok().map(|head| head.checkpoint())
        }
        None => Some(view.tip().head.checkpoint()),
    };
    match checkpoint {
        Some(checkpoint) => plan.due.retain(|(name, _)| *name != chain::name_of(checkpoint)),
        // What it stands on nobody knows: all heads stay.
        None => plan.due.retain(|(name, _)| !matches!(name, ObjectName::Head { .. })),
    }
    Ok(())
}

/// Deletes what is due, heads first: a head whose objects are gone says nothing useful. What cannot be deleted stays for the next sync.
///
/// # Errors
/// The book cannot be written: nothing is deleted then, since the cap could not be kept. [`Error::Interrupted`].
pub fn execute(
    mirror: &dyn MirrorStore,
    plan: &DeletionPlan,
    parallel: usize,
    (book, name): (&Mutex<MirrorBook>, &str),
    clock: u64,
    monitor: &dyn Monitor,
) -> Result<Deleted> {
    if plan.due.is_empty() || plan.is_refused() {
        return Ok(Deleted::default());
    }
    monitor.phase(Phase::DeleteOnMirror);
    // No bytes are moved.
    monitor.expect(plan.due.len() as u64, 0, true);
    lock(book).add_deleted(name, &plan.due, clock)?;
    let is_head = |(name, _): &&(ObjectName, u64)| matches!(name, ObjectName::Head { .. });
    let (heads, others): (Vec<_>, Vec<_>) = plan.due.iter().partition(is_head);
    let done = Mutex::new(Deleted::default());
    for kind in [heads, others] {
        let queue: Mutex<VecDeque<(ObjectName, u64)>> = Mutex::new(kind.into_iter().copied().collect());
        let work = || {
            while !monitor.interrupted() {
                let next = lock(&queue).pop_front();
                let Some((name, bytes)) = next else { return };
                let removed = mirror.remove(&name);
                let mut done = lock(&done);
                match removed {
                    Ok(()) => {
                        done.objects += 1;
                        done.bytes += bytes;
                    }
                    // Somebody else was faster.
                    Err(error) if matches!(error.kind, ErrorKind::Absent) => {}
                    Err(error) => {
                        monitor.problem(&Problem::new(Severity::Error, b"", &error.to_string()));
                        done.failed.push((name, error.to_string()));
                    }
                }
                monitor.advance(1, 0);
            }
        };
        threads::share(parallel, work);
    }
    if monitor.interrupted() {
        return Err(Error::Interrupted);
    }
    let mut done = into_inner(done);
    done.failed.sort();
    if done.objects > 0 {
        done.keeping = mirror.keeping();
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::ObjectId;

    #[test]
    fn only_what_is_due_now_is_refused() {
        let plan = |due: &[u64], lately, cap| {
            let name = ObjectName::Pack(ObjectId([1; 32]));
            let due = due.iter().map(|bytes| (name, *bytes)).collect();
            DeletionPlan { due, lately, cap, ..DeletionPlan::default() }
        };
        for (due, lately, cap, refused) in [
            (&[][..], 0, 0, false),
            // More than half went on somebody's word a day ago, and nothing else is to go.
            (&[], 90, 50, false),
            (&[5], 90, 50, true),
            (&[5], 45, 50, false),
            (&[5, 1], 45, 50, true),
            (&[60], 0, 50, true),
        ] {
            assert_eq!(plan(due, lately, cap).is_refused(), refused, "{due:?} {lately} {cap}");
        }
    }
}
