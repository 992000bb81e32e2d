//! `undelete`: bring back what `forget` removed, as long as `prune` has not swept it.
//!
//! A snapshot comes back when everything that it needs is there: its object, every listing that it leads to, and every pack
//! that holds a chunk of those listings or of its files. Packs that were marked meanwhile are marked no more, in the same
//! head. Files' contents are not read: that their packs are there with their lengths is what a backup asks, too.
//!
//! A snapshot that no head says anything of comes back in the same way: one that only a lost head named (`repair heads`), or that an
//! interrupted backup left. What a sweep has taken is listed as swept, and never is one of these.
//!
//! The walk reads the index as if no pack were marked, so it sees what is live and what may become so again, and never
//! what was swept. Between the walk and the head a sweep may come first; the head then is not published.

use crate::base::lock::{into_inner, lock};
use std::collections::{BTreeSet, HashSet};
use std::sync::Mutex;

use super::order::{Order, Stamp};
use super::select::by_beginning;
use super::{Error, Monitor, Result, on_newest};
use crate::base::command::suggest;
use crate::base::escape::escape;
use crate::base::id::ObjectId;
use crate::base::time::Time;
use crate::codec::chunk_list::{ChunkList, ChunkRef};
use crate::codec::head::HeadRef;
use crate::codec::live_state::{LiveState, MarkedKind, SnapshotEntry};
use crate::codec::pack::PackKind;
use crate::codec::snapshot::Snapshot;
use crate::codec::tree::Node;
use crate::repository::blocks::{Blocks, Chunk};
use crate::repository::chain::{self, Tip};
use crate::repository::index::{Index, Place, Sources};
use crate::repository::list_reader::{Chunks, Listing, Problems, TreeChunks};
use crate::repository::{self, Repository};
use crate::storage::{Folder, ObjectName};

/// A snapshot that was removed and is there still.
#[derive(Debug)]
pub struct Marked {
    /// Its id.
    pub id: ObjectId,
    /// Generation of the head that removed it; none when no head says anything of it.
    pub since: Option<u64>,
    /// The live snapshot that took its place, when its tags or its hold were changed.
    pub replaced_by: Option<ObjectId>,
    /// What it says.
    pub snapshot: repository::Result<Snapshot>,
}

/// Every snapshot that can still come back, oldest first.
///
/// # Errors
/// Nothing more can be read at all.
pub fn list(repository: &Repository) -> Result<Vec<Marked>> {
    on_newest(repository, || {
        let seen = repository.tip().reference();
        let all = list_once(repository)?;
        // What cannot be read may have been swept.
        let is_unread = all.iter().any(|marked| marked.snapshot.is_err());
        match is_unread && repository.refresh().is_ok() && repository.tip().reference() != seen {
            true => Err(repository::Error::Overtaken { what: chain::name_of(seen) }.into()),
            false => Ok(all),
        }
    })
}

fn list_once(repository: &Repository) -> Result<Vec<Marked>> {
    let tip = repository.tip();
    let live = repository.snapshots()?;
    let successor = |first: ObjectId| {
        let made = live.iter().find(|(_, made)| made.as_ref().is_ok_and(|made| made.original == Some(first)));
        made.map(|(id, _)| *id)
    };
    let marked = tip.state.marked.iter().filter(|(_, mark)| mark.kind == MarkedKind::Snapshot);
    let marked = marked.map(|(id, mark)| (*id, Some(mark.since), repository.snapshot(*id)));
    // Of these nobody has said that they can be read.
    let unlisted = unlisted(repository, &tip)?.into_iter().map(|id| (id, None, repository.snapshot(id)));
    let unlisted = unlisted.filter(|(.., snapshot)| snapshot.is_ok());
    let mut all: Vec<Marked> = marked
        .chain(unlisted)
        .map(|(id, since, snapshot)| {
            let first = snapshot.as_ref().ok().and_then(|snapshot| snapshot.original).unwrap_or(id);
            Marked { id, since, replaced_by: successor(first), snapshot }
        })
        .collect();
    let readable = all.iter().filter_map(|marked| Some((marked.id, marked.snapshot.as_ref().ok()?)));
    let places = order(repository, &tip, readable)?;
    all.sort_by_key(|marked| (places.position(&marked.id), marked.since, marked.id));
    Ok(all)
}

/// Where removed snapshots stand among the live ones. The arrival of each is the one that it had; one that never was live counts as
/// having arrived when it was marked, or last.
///
/// # Errors
/// Nothing more can be read at all.
pub(super) fn order<'a>(
    repository: &Repository,
    tip: &Tip,
    removed: impl Iterator<Item = (ObjectId, &'a Snapshot)>,
) -> repository::Result<Order> {
    let mut stamps: Vec<Stamp> = Vec::new();
    for (id, snapshot) in removed {
        let mark = tip.state.marked.get(&id);
        let arrival = mark.map_or(u64::MAX, |mark| if mark.arrival == 0 { mark.since } else { mark.arrival });
        stamps.push(Stamp { arrival, ..Stamp::of(&tip.state, id, snapshot) });
    }
    for (id, snapshot) in repository.snapshots()? {
        stamps.extend(snapshot.ok().map(|snapshot| Stamp::of(&tip.state, id, &snapshot)));
    }
    Ok(Order::new(&stamps, Time::now()))
}

/// Snapshots that lie there and of which the head says nothing.
fn unlisted(repository: &Repository, tip: &Tip) -> repository::Result<Vec<ObjectId>> {
    let listed = repository.storage().list(Folder::Snapshots)?;
    let ids = listed.into_iter().filter_map(|found| found.name.id());
    Ok(ids.filter(|id| !tip.state.knows(id)).collect())
}

/// One snapshot that comes back.
#[derive(Debug, Clone)]
pub struct Return {
    /// Its id.
    pub id: ObjectId,
    /// With the arrival that it had; zero when it never was live: it arrives anew.
    entry: SnapshotEntry,
    /// True when the newest head says nothing of it.
    is_unlisted: bool,
}

/// What will be done.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// The snapshots, each once.
    pub snapshots: Vec<Return>,
    /// Marked packs that become live again.
    pub revived: BTreeSet<ObjectId>,
    /// Every pack that is needed, and the segment that lists it.
    needed: BTreeSet<(ObjectId, ObjectId)>,
}

/// Finds the snapshots by the beginnings of their ids, and proves that everything they need is there.
///
/// # Errors
/// [`Error::NotFound`] when a name stands for nothing that can come back, [`Error::Conflict`] when it is there; the damage, when something is gone.
pub fn plan(repository: &Repository, names: &[String], monitor: &dyn Monitor) -> Result<Plan> {
    on_newest(repository, || plan_once(repository, names, monitor))
}

fn plan_once(repository: &Repository, names: &[String], monitor: &dyn Monitor) -> Result<Plan> {
    let tip = repository.tip();
    tip.require_sound()?;
    let mut lifted = LiveState::clone(&tip.state);
    lifted.marked.retain(|_, mark| mark.kind != MarkedKind::Pack);
    let mut source = Lifted::new(repository, &tip, &lifted)?;
    let mut plan = Plan::default();
    let unlisted = unlisted(repository, &tip)?;
    for name in names {
        let id = find(repository, &tip, &unlisted, name)?;
        if plan.snapshots.iter().any(|chosen| chosen.id == id) {
            continue;
        }
        let snapshot = repository.snapshot(id)?;
        let chosen = arrival(repository, &tip, id)?;
        source.walk(&snapshot, monitor).map_err(|error| match chosen.is_unlisted {
            true => not_yet(id, error),
            false => lost(&tip, id, error),
        })?;
        plan.snapshots.push(chosen);
    }
    for pack in into_inner(source.packs) {
        let Some(known) = source.index.packs().get(&pack) else { continue };
        let found = repository.storage().length(&ObjectName::Pack(pack)).map_err(|error| match error.kind {
            crate::storage::ErrorKind::Absent => {
                repository::Error::Missing { object: ObjectName::Pack(pack), generation: tip.reference().generation }
            }
            _ => error.into(),
        })?;
        if found != known.length {
            return Err(repository::Error::PackLength { pack, expected: known.length, found }.into());
        }
        plan.needed.insert((pack, known.segment));
        if tip.state.marked.contains_key(&pack) {
            plan.revived.insert(pack);
        }
    }
    Ok(plan)
}

/// A chunk that no live segment lists is no damage once something was swept: then it was to be expected.
fn lost(tip: &Tip, id: ObjectId, error: Error) -> Error {
    let has_swept = tip.state.swept.values().any(|sweep| sweep.kind == MarkedKind::Pack);
    match error.repository() {
        Some(repository::Error::ChunkMissing { chunk }) if has_swept => Error::NotFound(format!(
            "snapshot {} cannot come back: chunk {} is in no pack that a live segment lists. Prune has swept it, unless it is \
             found in a pack that none lists: {}",
            id.short(),
            chunk.short(),
            suggest!("repair index")
        )),
        _ => error,
    }
}

/// Who stored an unlisted snapshot may have stored packs that no segment lists.
fn not_yet(id: ObjectId, error: Error) -> Error {
    match error.repository() {
        Some(repository::Error::ChunkMissing { chunk }) => Error::NotFound(format!(
            "snapshot {} cannot come back now: chunk {} is in no pack that a live segment lists. To take over packs that none \
             lists: {}",
            id.short(),
            chunk.short(),
            suggest!("repair index")
        )),
        _ => error,
    }
}

/// Its entry as it was.
fn arrival(repository: &Repository, tip: &Tip, id: ObjectId) -> Result<Return> {
    let length = repository.storage().length(&ObjectName::Snapshot(id)).map_err(repository::Error::from)?;
    let mark = tip.state.marked.get(&id);
    let entry = SnapshotEntry { length, arrival: mark.map_or(0, |mark| mark.arrival) };
    Ok(Return { id, entry, is_unlisted: mark.is_none() })
}

fn find(repository: &Repository, tip: &Tip, unlisted: &[ObjectId], digits: &str) -> Result<ObjectId> {
    let begins = |id: &&ObjectId| id.to_string().starts_with(digits);
    let marked = tip.state.marked.iter().filter(|(_, mark)| mark.kind == MarkedKind::Snapshot).map(|(id, _)| id);
    let there = marked.chain(unlisted);
    if there.clone().find(begins).is_none() {
        if let Some(live) = tip.state.snapshots.keys().find(begins) {
            return Err(Error::Conflict(format!("snapshot {} is there: it was not removed", live.short())));
        }
        if let Some(swept) = tip.state.swept.keys().find(begins) {
            let id = swept.short();
            return Err(Error::NotFound(format!("snapshot {id} was swept by prune: it cannot come back")));
        }
    }
    let describe = |id: &ObjectId| match repository.snapshot(*id) {
        Ok(snapshot) => format!("{} of {}", id.short(), escape(snapshot.host.as_bytes())),
        Err(_) => format!("{} (cannot be read)", id.short()),
    };
    let next = concat!("To see what can come back: ", suggest!("undelete"));
    by_beginning(there, digits, "removed snapshot", next, describe)
}

/// Makes a plan and carries it out. When the repository moves on in between, as by `repair index` and `prune`, it begins again.
///
/// # Errors
/// As [`plan`]; [`repository::Error::Conflict`] when a sweep came first, [`repository::Error::Overtaken`] when the index changed every time; any error means
/// that nothing changed.
pub fn run(repository: &Repository, names: &[String], monitor: &dyn Monitor) -> Result<(Plan, HeadRef)> {
    on_newest(repository, || {
        let plan = plan_once(repository, names, monitor)?;
        let head = execute(repository, &plan)?;
        Ok((plan, head))
    })
}

/// Publishes the head in which the snapshots, and the packs that they need, are live.
///
/// # Errors
/// As [`run`].
pub fn execute(repository: &Repository, plan: &Plan) -> Result<HeadRef> {
    let swept = |what: &str, id: &ObjectId| {
        repository::Error::Conflict(format!("{what} {} was swept by prune meanwhile: nothing came back", id.short()))
    };
    for Return { id, .. } in plan.snapshots.iter().filter(|chosen| chosen.is_unlisted) {
        // Whoever stored it may have been killed before the folder was synced.
        repository.storage().settle(&ObjectName::Snapshot(*id)).map_err(repository::Error::from)?;
    }
    let head = repository.append(|state, generation| {
        for (pack, segment) in &plan.needed {
            if state.swept.contains_key(pack) {
                return Err(swept("pack", pack));
            }
            if !state.segments.contains_key(segment) {
                return Err(repository::Error::Overtaken { what: ObjectName::Segment(*segment) });
            }
            // Also one that was marked since the walk.
            state.marked.remove(pack);
        }
        for Return { id, entry, is_unlisted } in &plan.snapshots {
            if state.swept.contains_key(id) {
                return Err(swept("snapshot", id));
            }
            // Also an unlisted one that a prune has marked since.
            let is_there = *is_unlisted && !state.lists(id);
            if state.marked.remove(id).is_none() && !is_there {
                return Err(repository::Error::Overtaken { what: ObjectName::Snapshot(*id) });
            }
            let arrival = if entry.arrival == 0 { generation } else { entry.arrival };
            state.snapshots.insert(*id, SnapshotEntry { arrival, ..*entry });
        }
        Ok(())
    })?;
    Ok(head)
}

/// Reads as if no pack were marked, and remembers which packs were needed.
pub(super) struct Lifted<'a> {
    repository: &'a Repository,
    sources: Sources<'a>,
    index: Index,
    blocks: Blocks,
    generation: u64,
    packs: Mutex<BTreeSet<ObjectId>>,
    /// Listings that were walked.
    seen: HashSet<u128>,
}

impl<'a> Lifted<'a> {
    /// `state` is that of the tip without the marks of packs.
    ///
    /// # Errors
    /// A segment that cannot be read.
    pub(super) fn new(repository: &'a Repository, tip: &'a Tip, state: &'a LiveState) -> Result<Self> {
        let sources = Sources { state, ..repository.sources(tip) };
        let mut index = Index::open(&sources);
        if let Some(error) = index.take_broken().into_iter().next() {
            return Err(error.into());
        }
        Ok(Self {
            repository,
            sources,
            index,
            blocks: Blocks::default(),
            generation: tip.reference().generation,
            packs: Mutex::default(),
            seen: HashSet::new(),
        })
    }

    fn locate(&self, chunk: &ChunkRef) -> repository::Result<Place> {
        match self.index.locate(&self.sources, &chunk.id) {
            Some(place) if place.length == chunk.length => {
                lock(&self.packs).insert(place.pack);
                Ok(place)
            }
            _ => Err(repository::Error::ChunkMissing { chunk: chunk.id }),
        }
    }

    /// Finds everything that the snapshot needs. Each distinct listing is read once, so a small tree that names itself
    /// without end does not last longer than its listings.
    fn walk(&mut self, snapshot: &Snapshot, monitor: &dyn Monitor) -> Result<()> {
        for problem in Problems::of(self, snapshot) {
            problem?;
        }
        self.contents(&mut vec![snapshot.deleted.clone()])?;
        let mut pending = vec![snapshot.root.clone()];
        while let Some(list) = pending.pop() {
            if monitor.interrupted() {
                return Err(Error::Interrupted);
            }
            if !self.seen.insert(list.key()) {
                continue;
            }
            let mut files = Vec::new();
            for entry in Listing::new(self, list) {
                match entry?.node {
                    Node::Directory { listing } => pending.push(listing),
                    Node::File(content) => files.push(content.chunks),
                    _ => {}
                }
                if files.len() >= 1_000 {
                    self.contents(&mut files)?;
                }
            }
            self.contents(&mut files)?;
        }
        Ok(())
    }

    fn contents(&self, files: &mut Vec<ChunkList>) -> Result<()> {
        for list in files.drain(..) {
            for chunk in Chunks::new(self, list) {
                self.locate(&chunk?)?;
            }
        }
        Ok(())
    }
}

impl TreeChunks for Lifted<'_> {
    fn is_ended(&self) -> bool {
        self.repository.is_ended()
    }

    fn tree_chunk(&self, chunk: &ChunkRef) -> repository::Result<Chunk> {
        let place = self.locate(chunk)?;
        let (storage, keys) = (self.repository.storage(), self.repository.keys());
        self.blocks.chunk(storage, keys, PackKind::Tree, chunk, &place, self.generation)
    }
}
