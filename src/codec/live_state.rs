//! What is live: the lists that a head signs. format-spec/head.md, "The live state".
//!
//! Nothing here is signed or secret: signatures are [`super::head`]'s business, the encoding is `super::difference`'s.
//! There is exactly one encoding of a state, so its digest says everything.
//!
//! A packed object's life: live, marked (revivable), swept (never again). The head lists segments, snapshots and slots
//! that are live; a pack is live when a live segment names it and it is neither marked nor swept, so a mark of a pack
//! takes it out of the live closure by being there.

use std::collections::{BTreeMap, BTreeSet};

use super::Reason;
use super::difference::Difference;
use super::key_tree::derive;
use super::wire::Writer;
use crate::base::id::ObjectId;

/// Most key slots that can be live.
pub const SLOTS_MAX: usize = 16;
/// The first bytes of an earlier head's id.
pub type Ancestor = [u8; 8];

/// A live snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SnapshotEntry {
    /// Stored length, in bytes.
    pub length: u64,
    /// Generation of the head that first listed it.
    pub arrival: u64,
}

/// What a marked or swept object is, and so in which folder it lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum MarkedKind {
    /// A key slot.
    Slot = 1,
    /// A pack, of data or trees.
    Pack = 2,
    /// A segment.
    Segment = 3,
    /// A snapshot.
    Snapshot = 4,
}

impl MarkedKind {
    /// All of them; what names others comes before what it names.
    pub const ALL: [Self; 4] = [Self::Snapshot, Self::Segment, Self::Slot, Self::Pack];
}

/// A marked object: no longer live, still revivable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mark {
    /// What it is.
    pub kind: MarkedKind,
    /// Everything in it lies in live packs or segments too: nobody misses it, so it needs no grace.
    pub replaced: bool,
    /// Generation of the head that marked it.
    pub since: u64,
    /// The time of that head, as claimed: seconds since 1970.
    pub time: i64,
    /// Of a snapshot, the arrival that it had: who brings it back puts it where it was. Zero for what never was live, and for everything
    /// else.
    pub arrival: u64,
}

impl Mark {
    /// The mark of something that was not live. Its time is filled in by whoever signs the head.
    #[must_use]
    pub const fn new(kind: MarkedKind, since: u64) -> Self {
        Self { kind, replaced: false, since, time: 0, arrival: 0 }
    }

    /// Only packs and segments are replaced, and only snapshots have an arrival, which was before the mark.
    const fn is_sound(&self) -> bool {
        match self.kind {
            MarkedKind::Slot => !self.replaced && self.arrival == 0,
            MarkedKind::Pack | MarkedKind::Segment => self.arrival == 0,
            MarkedKind::Snapshot => !self.replaced && self.arrival < self.since,
        }
    }
}

/// A swept object: gone or going, never to come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sweep {
    /// What it is.
    pub kind: MarkedKind,
    /// When it was swept, as claimed: seconds since 1970.
    pub since: i64,
}

/// Everything that a head says about the repository's objects.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LiveState {
    /// Live key slots: at least one, at most [`SLOTS_MAX`].
    pub slots: BTreeSet<ObjectId>,
    /// Live segments and their stored lengths in bytes.
    pub segments: BTreeMap<ObjectId, u64>,
    /// Live snapshots.
    pub snapshots: BTreeMap<ObjectId, SnapshotEntry>,
    /// What was live and may become so again.
    pub marked: BTreeMap<ObjectId, Mark>,
    /// What never will; kept at least 400 days.
    pub swept: BTreeMap<ObjectId, Sweep>,
    /// The beginning of every earlier head's id: index 0 is generation 1. Heads keep this list themselves.
    pub ancestors: Vec<Ancestor>,
}

impl LiveState {
    /// The digest that a head signs: over the sections of the whole state as a checkpoint would write them.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        let mut writer = Writer::new();
        Difference::between(&Self::default(), self).write(&mut writer, None);
        let mut digest = [0; 32];
        derive("packstone v1 live state", &[writer.as_slice()]).fill(&mut digest);
        digest
    }

    /// Takes an object out of the lists of what is live and marks it, in a head of generation `since`.
    pub fn mark(&mut self, id: ObjectId, kind: MarkedKind, since: u64) {
        self.slots.remove(&id);
        self.segments.remove(&id);
        let arrival = self.snapshots.remove(&id).map_or(0, |entry| entry.arrival);
        self.marked.insert(id, Mark { arrival, ..Mark::new(kind, since) });
    }

    /// As [`LiveState::mark`], for a pack or segment whose whole content lies in other live ones.
    pub fn replace(&mut self, id: ObjectId, kind: MarkedKind, since: u64) {
        self.segments.remove(&id);
        self.marked.insert(id, Mark { replaced: true, ..Mark::new(kind, since) });
    }

    /// True when slots, segments or snapshots list it.
    #[must_use]
    pub fn lists(&self, id: &ObjectId) -> bool {
        self.slots.contains(id) || self.segments.contains_key(id) || self.snapshots.contains_key(id)
    }

    /// True when a head of this generation and id stands in the chain before the head with this state (as far as 64
    /// bits of its id say so).
    #[must_use]
    pub fn is_ancestor(&self, generation: u64, id: &ObjectId) -> bool {
        let index = generation.checked_sub(1).and_then(|index| usize::try_from(index).ok());
        index.and_then(|index| self.ancestors.get(index)).is_some_and(|ancestor| id.0.starts_with(ancestor))
    }

    /// Whether a head of `generation` may say this.
    ///
    /// # Errors
    /// [`Reason::NoSlots`], [`Reason::LiveMarked`] when an object is on more than one of live, marked and swept,
    /// [`Reason::OutOfRange`] for more than [`SLOTS_MAX`] slots, a generation from the future, or a mark that its kind cannot have.
    pub fn check(&self, generation: u64) -> Result<(), Reason> {
        if self.slots.is_empty() {
            return Err(Reason::NoSlots);
        }
        if self.slots.len() > SLOTS_MAX {
            return Err(Reason::OutOfRange { field: "number of key slots" });
        }
        if self.snapshots.values().any(|snapshot| snapshot.arrival == 0 || snapshot.arrival > generation) {
            return Err(Reason::OutOfRange { field: "arrival generation" });
        }
        if self.marked.values().any(|mark| mark.since == 0 || mark.since > generation) {
            return Err(Reason::OutOfRange { field: "mark's generation" });
        }
        if self.marked.values().any(|mark| !mark.is_sound()) {
            return Err(Reason::OutOfRange { field: "mark" });
        }
        let listed_twice = |id: &ObjectId| self.lists(id) || self.swept.contains_key(id);
        if self.marked.keys().any(listed_twice) || self.swept.keys().any(|id| self.lists(id)) {
            return Err(Reason::LiveMarked);
        }
        Ok(())
    }

    /// True for an object that is neither marked nor swept. The live packs are those of the live segments for which
    /// this is true: a segment goes on listing a pack that left it.
    #[must_use]
    pub fn keeps(&self, id: &ObjectId) -> bool {
        !self.marked.contains_key(id) && !self.swept.contains_key(id)
    }

    /// True when the state says anything of an object that is no pack: that it is live, marked or swept. A live pack only its segment names.
    #[must_use]
    pub fn knows(&self, id: &ObjectId) -> bool {
        self.lists(id) || !self.keeps(id)
    }

    /// Whether `next` may follow this state: what is swept was marked before, and stays swept.
    ///
    /// # Errors
    /// [`Reason::WrongTransition`].
    pub fn check_transition(&self, next: &Self) -> Result<(), Reason> {
        let returns = |id: &ObjectId| next.lists(id) || next.marked.contains_key(id);
        let was_marked = |(id, sweep): (&ObjectId, &Sweep)| match self.swept.get(id) {
            Some(before) => before == sweep,
            None => self.marked.get(id).is_some_and(|mark| mark.kind == sweep.kind),
        };
        if self.swept.keys().any(returns) || !next.swept.iter().all(was_marked) {
            return Err(Reason::WrongTransition);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn id(byte: u8) -> ObjectId {
        ObjectId([byte; 32])
    }

    fn state() -> LiveState {
        LiveState {
            slots: [id(1)].into(),
            segments: [(id(2), 100), (id(3), 200)].into(),
            snapshots: [(id(4), SnapshotEntry { length: 7, arrival: 1 })].into(),
            marked: [(id(5), Mark::new(MarkedKind::Pack, 2))].into(),
            swept: [(id(6), Sweep { kind: MarkedKind::Segment, since: -1 })].into(),
            ancestors: vec![[9; 8]],
        }
    }

    #[test]
    fn a_state_that_contradicts_itself_is_refused() {
        let changed = |change: fn(&mut LiveState)| {
            let mut state = state();
            change(&mut state);
            state.check(2)
        };
        assert_eq!(changed(|_| {}), Ok(()));
        assert_eq!(state().check(1), Err(Reason::OutOfRange { field: "mark's generation" }));
        assert_eq!(changed(|s| s.slots.clear()), Err(Reason::NoSlots));
        assert_eq!(
            changed(|s| s.slots.extend((100..116).map(id))),
            Err(Reason::OutOfRange { field: "number of key slots" })
        );
        for live in [1, 2, 4, 6] {
            let mut marked = state();
            marked.marked.insert(id(live), Mark::new(MarkedKind::Snapshot, 1));
            assert_eq!(marked.check(2), Err(Reason::LiveMarked));
        }
        for live in [1, 2, 4, 5] {
            let mut swept = state();
            swept.swept.insert(id(live), Sweep { kind: MarkedKind::Snapshot, since: 1 });
            assert_eq!(swept.check(2), Err(Reason::LiveMarked));
        }
        let mark = |mark: Mark| {
            let mut marked = state();
            marked.marked.insert(id(7), mark);
            marked.check(2)
        };
        let sound = |kind, replaced, arrival| mark(Mark { replaced, arrival, ..Mark::new(kind, 2) });
        let [snapshot, segment, slot, pack] = MarkedKind::ALL;
        for (kind, replaced, arrival) in [(pack, true, 0), (segment, true, 0), (snapshot, false, 1), (slot, false, 0)] {
            assert_eq!(sound(kind, replaced, arrival), Ok(()));
        }
        let wrong = [(slot, true, 0), (snapshot, true, 0), (snapshot, false, 2), (pack, false, 1), (segment, true, 1)];
        for (kind, replaced, arrival) in wrong.into_iter().chain([(slot, false, 1)]) {
            let refused = Err(Reason::OutOfRange { field: "mark" });
            assert_eq!(sound(kind, replaced, arrival), refused, "{kind:?} {replaced} {arrival}");
        }
        let late = |s: &mut LiveState| {
            s.snapshots.insert(id(7), SnapshotEntry { length: 1, arrival: 3 });
        };
        assert_eq!(changed(late), Err(Reason::OutOfRange { field: "arrival generation" }));
    }

    #[test]
    fn only_what_was_marked_is_swept_and_nothing_swept_returns() {
        let base = state();
        let next = |change: fn(&mut LiveState)| {
            let mut next = state();
            change(&mut next);
            base.check_transition(&next)
        };
        assert_eq!(next(|_| {}), Ok(()));
        let sweep = |s: &mut LiveState, id: ObjectId, kind| {
            s.swept.insert(id, Sweep { kind, since: 1 });
        };
        assert_eq!(
            base.check_transition(&{
                let mut next = state();
                next.marked.clear();
                sweep(&mut next, id(5), MarkedKind::Pack);
                next
            }),
            Ok(())
        );
        assert_eq!(
            next(|s| {
                s.swept.insert(id(5), Sweep { kind: MarkedKind::Slot, since: 1 });
            }),
            Err(Reason::WrongTransition)
        );
        assert_eq!(
            next(|s| {
                s.swept.insert(id(9), Sweep { kind: MarkedKind::Pack, since: 1 });
            }),
            Err(Reason::WrongTransition)
        );
        assert_eq!(next(|s| s.swept.clear()), Ok(()), "an old sweep may be forgotten");
        assert_eq!(
            next(|s| {
                s.swept.clear();
                s.segments.insert(id(6), 1);
            }),
            Err(Reason::WrongTransition)
        );
    }

    #[test]
    fn earlier_heads_are_known_by_their_first_bytes() {
        let state = LiveState { ancestors: vec![[1; 8], [2; 8]], ..state() };
        assert!(state.is_ancestor(1, &id(1)) && state.is_ancestor(2, &id(2)));
        assert!(!state.is_ancestor(2, &id(1)) && !state.is_ancestor(0, &id(1)) && !state.is_ancestor(3, &id(2)));
        assert!(state.keeps(&id(2)) && !state.keeps(&id(5)) && !state.keeps(&id(6)));
    }
}
