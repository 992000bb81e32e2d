//! In which order snapshots stand, and whose time is in doubt. Whoever asks for the newest snapshot, the one before it, or
//! the age of one, asks here. format-spec/snapshot.md, "Order".
//!
//! # The definition
//!
//! The chain of heads says in which order snapshots arrived, and no clock has a part in that.
//!
//! - A time is **the clock's own** when nobody claimed another (`--time`) and the snapshot was not made from another one.
//! - A time is **ahead** when it lies more than [`FUTURE_SECONDS`] after this machine's clock.
//! - Of the times that are the clock's own and not ahead, those are **believed** that are in every longest part of the
//!   arrivals whose times never go back (`arrivals.rs`). All snapshots of the repository are asked, of every host, and filters
//!   come later.
//!
//! A believed snapshot stands at its time. A claimed one stands at the time that it claims. The others, whose time is ahead
//! or not believed, stand where they arrived: just after the latest of those that arrived before, but not after the next
//! believed one that arrived later; where none arrived before, just before that one. Equal places go by arrival.
//!
//! # What holds
//!
//! - The order is total, and the same for whoever reads the same snapshots with the same clock. A filter takes snapshots out of it and
//!   moves none.
//! - All snapshots whose time is the clock's own stand in the order of their arrival, whatever any clock says. Times only
//!   decide where the claimed ones stand among them.
//! - When this machine's clock is dead, everything is ahead, and the order is that of arrival.

mod arrivals;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};

pub(super) use self::arrivals::Arrivals;
use crate::base::id::ObjectId;
use crate::base::time::Time;
use crate::codec::live_state::LiveState;
use crate::codec::snapshot::Snapshot;
use crate::repository::{self, Repository};

/// How far ahead of this machine's clock a time may be and still be taken for one of now: 10 minutes, in seconds.
/// More than the clocks of two machines without a time server usually differ, and less than the smallest mistake about
/// a time zone (15 minutes).
pub const FUTURE_SECONDS: i64 = 600;

/// True for what lies ahead of every clock that may be right, when this machine's clock says `now`.
#[must_use]
pub const fn is_ahead(time: Time, now: Time) -> bool {
    time.seconds > now.seconds.saturating_add(FUTURE_SECONDS)
}

/// What the order needs to know of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Its id.
    pub id: ObjectId,
    /// Generation of the head that first listed it, or the one in whose place it came.
    pub arrival: u64,
    /// The time that it stands for.
    pub time: Time,
    /// The time at which it was written, by its machine's clock.
    pub written: Time,
    /// True when it was made from another snapshot, here or elsewhere: its arrival says nothing about its time.
    pub derived: bool,
}

impl Stamp {
    /// That of a live snapshot.
    #[must_use]
    pub fn of(state: &LiveState, id: ObjectId, snapshot: &Snapshot) -> Self {
        Self {
            id,
            arrival: state.snapshots.get(&id).map_or(u64::MAX, |entry| entry.arrival),
            time: snapshot.time,
            written: snapshot.written,
            derived: snapshot.original.is_some(),
        }
    }

    /// True when its time is that of a clock and its arrival can speak about it.
    const fn is_clocks_own(&self) -> bool {
        self.time.seconds == self.written.seconds && self.time.nanoseconds == self.written.nanoseconds && !self.derived
    }

    /// The order of arrival. What was made from a snapshot and came into its place arrived after it.
    const fn arrived(&self) -> (u64, bool, Time, ObjectId) {
        (self.arrival, self.derived, self.written, self.id)
    }
}

/// Why a time is in doubt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Doubt {
    /// It lies ahead of this machine's clock.
    Ahead,
    /// It contradicts the order in which snapshots arrived, by more than [`FUTURE_SECONDS`].
    Contradicted,
}

impl Doubt {
    /// Behind "its time is".
    #[must_use]
    pub const fn why(self) -> &'static str {
        match self {
            Self::Ahead => "ahead of this machine's clock",
            Self::Contradicted => "contradicted by the order in which the snapshots were stored",
        }
    }
}

/// Where one snapshot stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// How many stand before it, all of the repository counted.
    pub position: usize,
    /// The time at which it stands; none where its own is in doubt and nothing beside it has one.
    pub at: Option<Time>,
    /// Why its own time is in doubt.
    pub doubt: Option<Doubt>,
    /// What its age is counted from: its own time, or where that is in doubt the time of one that was there before it, so that it
    /// may be younger but not older. None where its age cannot be determined.
    pub age_from: Option<Time>,
}

/// Snapshots in their order.
#[derive(Debug, Clone, Default)]
pub struct Order {
    places: HashMap<ObjectId, Place>,
}

impl Order {
    /// Puts snapshots into order, for a machine whose clock says `now`.
    #[must_use]
    pub fn new(stamps: &[Stamp], now: Time) -> Self {
        let present: Vec<usize> = (0..stamps.len()).filter(|number| !is_ahead(stamps[*number].time, now)).collect();
        let arrivals = Arrivals::new(stamps, &present, |time| is_ahead(time, now));
        let mut arrived: Vec<usize> = (0..stamps.len()).collect();
        arrived.sort_by_key(|number| stamps[*number].arrived());
        let doubts: Vec<Option<Doubt>> = (0..stamps.len())
            .map(|number| match is_ahead(stamps[number].time, now) {
                true => Some(Doubt::Ahead),
                false => arrivals.is_contradicted(number, FUTURE_SECONDS).then_some(Doubt::Contradicted),
            })
            .collect();
        let ats = places_in_time(stamps, &arrived, &arrivals, now);
        let rank: HashMap<usize, usize> = arrived.iter().enumerate().map(|(rank, number)| (*number, rank)).collect();
        let mut sequence = arrived.clone();
        sequence.sort_by_key(|number| (ats[*number].map(|(at, _)| at), rank[number]));
        let place = |(position, number): (usize, &usize)| {
            let doubt = doubts[*number];
            let age_from = match doubt {
                None => Some(stamps[*number].time),
                Some(_) => ats[*number].filter(|(_, is_after)| *is_after).map(|(at, _)| at),
            };
            let at = ats[*number].map(|(at, _)| at);
            (stamps[*number].id, Place { position, at, doubt, age_from })
        };
        Self { places: sequence.iter().enumerate().map(place).collect() }
    }

    /// Where a snapshot stands; none for one that is not in the order.
    #[must_use]
    pub fn place(&self, id: &ObjectId) -> Option<Place> {
        self.places.get(id).copied()
    }

    /// A key that sorts by the order, oldest first. What is not in it comes last.
    #[must_use]
    pub fn position(&self, id: &ObjectId) -> usize {
        self.place(id).map_or(usize::MAX, |place| place.position)
    }

    /// Why a snapshot's time is in doubt.
    #[must_use]
    pub fn doubt(&self, id: &ObjectId) -> Option<Doubt> {
        self.place(id)?.doubt
    }
}

/// The time at which each stands, and whether something that arrived before it says so.
fn places_in_time(
    stamps: &[Stamp],
    arrived: &[usize],
    arrivals: &Arrivals<'_>,
    now: Time,
) -> Vec<Option<(Time, bool)>> {
    let floats = |number: usize| is_ahead(stamps[number].time, now) || arrivals.is_doubted(number);
    // For each, the time of the next believed one that arrived later.
    let mut later: Vec<Option<Time>> = vec![None; stamps.len()];
    let mut next = None;
    for number in arrived.iter().rev() {
        later[*number] = next;
        if stamps[*number].is_clocks_own() && !floats(*number) {
            next = Some(stamps[*number].time);
        }
    }
    let mut before: BTreeSet<Time> = BTreeSet::new();
    let mut ats = vec![None; stamps.len()];
    for number in arrived {
        let at = if floats(*number) {
            let last = match later[*number] {
                Some(limit) => before.range(..=limit).next_back(),
                None => before.last(),
            };
            last.map(|at| (*at, true)).or_else(|| later[*number].map(|at| (at, false)))
        } else {
            Some((stamps[*number].time, true))
        };
        before.extend(at.map(|(at, _)| at));
        ats[*number] = at;
    }
    ats
}

/// A snapshot, or why it cannot be read.
type Read = (ObjectId, repository::Result<Snapshot>);

/// Every live snapshot in its order, oldest first, then those that cannot be read; and the order itself.
///
/// # Errors
/// Nothing more can be read at all.
pub fn all(repository: &Repository) -> repository::Result<(Vec<Read>, Order)> {
    sorted(repository, Stamp::of)
}

/// The same by the time at which each was written instead of what it claims: those that are not made from others in the
/// order of their arrival, and those that are where the ones stood that they were made from.
///
/// # Errors
/// Nothing more can be read at all.
pub fn all_as_written(repository: &Repository) -> repository::Result<(Vec<Read>, Order)> {
    sorted(repository, |state, id, snapshot| {
        let stamp = Stamp::of(state, id, snapshot);
        Stamp { time: stamp.written, ..stamp }
    })
}

fn sorted(
    repository: &Repository,
    stamp: impl Fn(&LiveState, ObjectId, &Snapshot) -> Stamp,
) -> repository::Result<(Vec<Read>, Order)> {
    let state = repository.tip().state;
    let mut all = repository.snapshots()?;
    let readable = all.iter().filter_map(|(id, snapshot)| Some(stamp(&state, *id, snapshot.as_ref().ok()?)));
    let order = Order::new(&readable.collect::<Vec<Stamp>>(), Time::now());
    all.sort_by_key(|(id, _)| order.position(id));
    Ok((all, order))
}
