//! The names of what was swept leave the heads one day: else heads would grow for as long as the repository is used.
//! format-spec/deleting.md, "Swept names".
//!
//! # Invariants
//!
//! A name leaves only when nobody can take its object for live without it:
//!
//! - its file is gone;
//! - no live segment lists it;
//! - every running process began with a head that says that it was swept: no pin is older than the head that is followed;
//! - 400 days have passed since the sweep, by this machine's clock and by the times that all heads give that are kept: a clock that was
//!   wrong for a few heads is not enough. What a mirror still holds then stays there.
//!
//! Names of key slots stay for ever: they are few, and what was taken from a user's keys must leave every mirror.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use super::Repository;
use super::error::Result;
use super::marked::folder;
use super::public_view::segment_table;
use crate::base::id::ObjectId;
use crate::base::time::Time;
use crate::codec::live_state::{LiveState, MarkedKind, Sweep};

/// How long the name of a swept object stays listed, at least. format-spec/head.md.
pub const NAMES_KEPT: Duration = Duration::from_secs(400 * 86_400);

/// Names that may leave, and what that was worked out from.
#[derive(Debug, Default)]
pub(super) struct OldNames {
    names: BTreeMap<ObjectId, Sweep>,
    /// The live segments, none of which lists any of them.
    segments: BTreeSet<ObjectId>,
}

impl OldNames {
    /// The names that may leave the newest head.
    pub(super) fn find(repository: &Repository, now: Time) -> Result<Self> {
        let tip = repository.tip();
        let is_old = |sweep: &Sweep, clock: i64| sweep.since.saturating_add_unsigned(NAMES_KEPT.as_secs()) <= clock;
        let may_leave = |sweep: &Sweep| sweep.kind != MarkedKind::Slot && is_old(sweep, now.seconds);
        let old = tip.state.swept.iter().filter(|(_, sweep)| may_leave(sweep));
        let mut names: BTreeMap<ObjectId, Sweep> = old.map(|(id, sweep)| (*id, *sweep)).collect();
        if names.is_empty() {
            return Ok(Self::default());
        }
        let clock = repository.earliest_head_time(&tip)?.seconds;
        names.retain(|_, sweep| is_old(sweep, clock));
        let newest = tip.reference().generation;
        if names.is_empty() || repository.oldest_pin()?.is_some_and(|pinned| pinned.generation < newest) {
            return Ok(Self::default());
        }
        for kind in MarkedKind::ALL {
            if names.values().any(|sweep| sweep.kind == kind) {
                let there = repository.storage().list(folder(kind))?;
                let there: HashSet<ObjectId> = there.into_iter().filter_map(|found| found.name.id()).collect();
                names.retain(|id, _| !there.contains(id));
            }
        }
        for (id, length) in &tip.state.segments {
            let table = segment_table(repository.storage(), repository.id(), *id, *length, &tip)?;
            for row in table.packs {
                names.remove(&row.id);
            }
        }
        Ok(Self { names, segments: tip.state.segments.keys().copied().collect() })
    }

    /// Takes them out of the state that is being published, unless it has segments that were not looked into.
    pub(super) fn leave(&self, state: &mut LiveState) {
        if state.segments.keys().all(|id| self.segments.contains(id)) {
            state.swept.retain(|id, sweep| self.names.get(id) != Some(sweep));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::codec::chunker::Parameters;
    use crate::codec::key_tree::ChunkKind;
    use crate::codec::live_state::Mark;
    use crate::codec::pack::PackKind;
    use crate::repository::fixture;
    use crate::repository::pack_writer::PackOptions;
    use crate::repository::run::Run;
    use crate::storage::memory::Memory;
    use crate::storage::{Folder, ObjectName, Storage};

    const DAY: i64 = 86_400;

    /// A pack that its segment lists; returns both.
    fn pack(repository: &Repository, content: u8) -> (ObjectId, ObjectId) {
        let before = repository.tip().state.segments.clone();
        let known = packs(repository);
        let mut run = Run::begin(repository, PackOptions::default()).unwrap();
        let id = repository.keys().chunk_id(ChunkKind::Data, &[content; 1000]);
        run.add(PackKind::Data, id, &[content; 1000]).unwrap();
        run.publish_segments().unwrap();
        let segments = &repository.tip().state.segments;
        let segment = *segments.keys().find(|id| !before.contains_key(*id)).unwrap();
        (*packs(repository).difference(&known).next().unwrap(), segment)
    }

    fn packs(repository: &Repository) -> BTreeSet<ObjectId> {
        repository.storage().list(Folder::Packs).unwrap().into_iter().filter_map(|found| found.name.id()).collect()
    }

    fn mark(repository: &Repository, id: ObjectId, kind: MarkedKind) -> (ObjectId, Mark) {
        let change = |state: &mut LiveState, since| {
            state.segments.remove(&id);
            state.marked.insert(id, Mark::new(kind, since));
            Ok(())
        };
        repository.append(change).unwrap();
        (id, repository.tip().state.marked[&id])
    }

    fn days_ago(days: i64) -> Time {
        Time { seconds: Time::now().seconds - days * DAY, ..Time::now() }
    }

    fn swept(repository: &Repository) -> BTreeSet<ObjectId> {
        repository.tip().state.swept.keys().copied().collect()
    }

    /// Sweeps a pack as a prune does, which first says that it relies on the newest head.
    fn sweep(repository: &Repository, pack: ObjectId, now: Time) -> u64 {
        let marked = mark(repository, pack, MarkedKind::Pack);
        repository.pin_newest().unwrap();
        repository.sweep(&[marked], now).unwrap().removed
    }

    /// As if it had been swept at this time.
    fn sweep_long_ago(repository: &Repository, pack: ObjectId, at: Time) {
        mark(repository, pack, MarkedKind::Pack);
        let change = |state: &mut LiveState, _| {
            state.marked.remove(&pack);
            state.swept.insert(pack, Sweep { kind: MarkedKind::Pack, since: at.seconds });
            Ok(())
        };
        repository.append(change).unwrap();
        repository.storage().remove(&ObjectName::Pack(pack)).unwrap();
    }

    /// Sweeps something else, so that a head is published.
    fn sweep_another(repository: &Repository, content: u8, now: Time) -> ObjectId {
        let (other, _) = pack(repository, content);
        sweep(repository, other, now);
        other
    }

    #[test]
    fn a_name_leaves_after_four_hundred_days_when_no_segment_lists_it() {
        let storage = Memory::new();
        let repository = fixture::repository(&storage, 7, Parameters::FILES);
        let (id, segment) = pack(&repository, 1);
        sweep_long_ago(&repository, id, days_ago(401));
        assert!(swept(&repository).contains(&id));

        let others = vec![sweep_another(&repository, 2, days_ago(0))];
        assert!(swept(&repository).contains(&id), "its segment is live");

        mark(&repository, segment, MarkedKind::Segment);
        let last = sweep_another(&repository, 3, days_ago(0));
        assert_eq!(swept(&repository), others.into_iter().chain([last]).collect());
    }

    #[test]
    fn it_stays_while_a_process_relies_on_a_head_of_before() {
        let storage = Memory::new();
        let repository = fixture::repository(&storage, 7, Parameters::FILES);
        let (id, segment) = pack(&repository, 1);
        mark(&repository, segment, MarkedKind::Segment);
        sweep_long_ago(&repository, id, days_ago(500));
        let (other, _) = pack(&repository, 2);
        let marked = mark(&repository, other, MarkedKind::Pack);
        // Its own pin is of the head before the mark.
        repository.sweep(&[marked], days_ago(0)).unwrap();
        assert!(swept(&repository).contains(&id));
        sweep_another(&repository, 3, days_ago(0));
        assert!(!swept(&repository).contains(&id));
    }

    #[test]
    fn it_stays_while_its_file_is_there_and_while_the_clocks_do_not_agree() {
        let storage = Memory::new();
        let repository = fixture::repository(&storage, 7, Parameters::FILES);
        let (id, segment) = pack(&repository, 1);
        mark(&repository, segment, MarkedKind::Segment);
        sweep_long_ago(&repository, id, days_ago(300));
        let ten_years_on = days_ago(-3650);
        sweep_another(&repository, 2, ten_years_on);
        assert!(swept(&repository).contains(&id), "the heads say that it is 300 days old");
        sweep_another(&repository, 6, days_ago(3650));
        let earliest = repository.tip().state.swept.values().map(|sweep| sweep.since).min();
        assert!(earliest >= Some(days_ago(301).seconds), "a clock that is behind makes no name old");

        let (id, segment) = pack(&repository, 3);
        let name = ObjectName::Pack(id);
        let file = storage.objects().remove(&name).unwrap();
        mark(&repository, segment, MarkedKind::Segment);
        sweep_long_ago(&repository, id, days_ago(500));
        storage.put(&name, &file).unwrap();
        let (other, _) = pack(&repository, 4);
        assert_eq!(sweep(&repository, other, days_ago(0)), 2, "the file that was there again goes too");
        assert!(swept(&repository).contains(&id), "its file was there");
        sweep_another(&repository, 5, days_ago(0));
        assert!(!swept(&repository).contains(&id));
    }
}
