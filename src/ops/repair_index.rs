//! `repair index`: make the cache again from the segments, and segments again from the packs.
//!
//! A pack describes itself, so no segment is ever the only one to know something; but a segment that can be read is
//! believed before a pack that cannot, and nothing it says is given up. What is worked out:
//!
//! - a segment that is missing or damaged is replaced by new ones, made from the packs that no other segment lists;
//! - packs that no segment lists at all are listed, once they have passed their checks;
//! - a pack that is gone is marked: backups go on without it, and store again what they meet. Its entry stays, so that
//!   the pack can be copied back and brought to life (`--read-all-packs`).
//!
//! Nothing is removed. A pack that is there and damaged is left as it is and named: what still opens in it can be read
//! only while it is live.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use rayon::prelude::*;

use super::{Error, Monitor, Phase, Result};
use crate::base::id::ObjectId;
use crate::codec::head::HeadRef;
use crate::codec::segment::SegmentPack;
use crate::repository::reindex::Reindex;
use crate::repository::{self, Repository, index, pack_reader};
use crate::storage::{ErrorKind, Folder, ObjectName};

/// How to go about it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Believe no segment where a pack can be asked: read what every pack says about itself.
    pub all_packs: bool,
    /// Open every block of the packs that are read, not only their directories.
    pub read_data: bool,
}

/// What will be done, and why.
#[derive(Debug, Clone)]
pub struct Plan {
    base: HeadRef,
    change: Reindex,
    /// Segments that are missing or damaged, and why.
    pub broken: Vec<(ObjectId, String)>,
    /// Packs that cannot be used because they are damaged, and why: no segment says what they held.
    pub unusable: Vec<(ObjectId, String)>,
    /// Packs that are damaged, and go on being listed as a segment that can be read says.
    pub damaged: Vec<(ObjectId, String)>,
    /// Live packs that have another length than their segments say, and which: no backup goes on with them.
    pub wrong_length: Vec<(ObjectId, String)>,
    /// Live packs that are gone.
    pub gone: Vec<ObjectId>,
    /// Packs that were read.
    pub packs_read: u64,
}

impl Plan {
    /// How many packs the new segments list.
    #[must_use]
    pub fn packs(&self) -> usize {
        self.change.packs.len()
    }

    /// How many segments are replaced.
    #[must_use]
    pub fn replaced(&self) -> usize {
        self.change.replaced.len()
    }

    /// How many marked packs become live again.
    #[must_use]
    pub fn revived(&self) -> usize {
        self.change.revived.len()
    }

    /// True when the segments stay as they are.
    #[must_use]
    pub const fn keeps_segments(&self) -> bool {
        self.change.is_empty()
    }

    /// True when something stays damaged that only another copy of the repository can heal.
    #[must_use]
    pub fn leaves_damage(&self) -> bool {
        let damaged = [&self.unusable, &self.damaged, &self.wrong_length];
        damaged.iter().any(|packs| !packs.is_empty()) || !self.gone.is_empty()
    }
}

/// What was done.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// The new head; none when the segments stayed as they were.
    pub head: Option<HeadRef>,
    /// Why the cache could not be made again.
    pub cache_failure: Option<String>,
}

fn why(error: &repository::Error) -> String {
    super::check::reason(error)
}

/// Works out what is to be done. Reads only.
///
/// # Errors
/// A head that cannot be read ([`repository::Error::UnreadableHead`]), a folder that cannot be listed,
/// [`Error::Interrupted`].
pub fn plan(repository: &Repository, options: Options, monitor: &dyn Monitor) -> Result<Plan> {
    monitor.phase(Phase::RebuildIndex);
    repository.refresh()?;
    let tip = repository.tip();
    tip.require_sound()?;
    let state = &tip.state;
    let mut plan = Plan {
        base: tip.reference(),
        change: Reindex::default(),
        broken: Vec::new(),
        unusable: Vec::new(),
        damaged: Vec::new(),
        wrong_length: Vec::new(),
        gone: Vec::new(),
        packs_read: 0,
    };
    // What segments that can be read say.
    let mut known: HashMap<ObjectId, Option<SegmentPack>> = HashMap::new();
    let mut lengths: BTreeMap<ObjectId, u64> = BTreeMap::new();
    for (id, length) in &state.segments {
        let read = || index::read_segment(repository.storage(), repository.keys(), *id, *length, plan.base.generation);
        // What is right the second time is not broken.
        match read().or_else(|_| read()) {
            Ok(segment) => {
                for pack in segment.packs {
                    lengths.insert(pack.id, pack.length);
                    known.insert(pack.id, options.all_packs.then_some(pack));
                }
                if options.all_packs {
                    plan.change.replaced.push(*id);
                }
            }
            Err(error) if !error.is_lost() => return Err(error.into()),
            Err(error) => {
                plan.broken.push((*id, why(&error)));
                plan.change.replaced.push(*id);
            }
        }
    }
    let mut there: BTreeMap<ObjectId, u64> = repository
        .storage()
        .list(Folder::Packs)
        .map_err(repository::Error::from)?
        .into_iter()
        .filter_map(|found| Some((found.name.id()?, found.length)))
        .collect();
    // With every segment at hand, an unlisted pack is an interrupted run's, and is checked in full before it is used.
    let in_full = options.read_data || plan.broken.is_empty();
    let wanted = |id: &ObjectId| {
        let is_unlisted = !known.contains_key(id);
        !state.swept.contains_key(id) && (options.all_packs || is_unlisted)
    };
    let to_read: Vec<(ObjectId, u64)> =
        there.iter().filter(|(id, _)| wanted(id)).map(|(id, length)| (*id, *length)).collect();
    plan.packs_read = to_read.len() as u64;
    let is_full = |id: &ObjectId| options.read_data || (in_full && !known.contains_key(id));
    // Of the others little more than their directories is read.
    let bytes_of = |id: &ObjectId, length: u64| if is_full(id) { length } else { 0 };
    monitor.expect(plan.packs_read, to_read.iter().map(|(id, length)| bytes_of(id, *length)).sum(), true);
    let read: Vec<_> = to_read
        .par_iter()
        .map(|(id, length)| {
            if monitor.interrupted() {
                return None;
            }
            let read = || match is_full(id) {
                true => pack_reader::examine(repository, *id, *length),
                false => pack_reader::read_directory(repository, *id, *length),
            };
            let pack = read().or_else(|_| read());
            monitor.advance(1, bytes_of(id, *length));
            Some((*id, pack))
        })
        .collect();
    let mut listed = BTreeSet::new();
    for found in read {
        let (id, pack) = found.ok_or(Error::Interrupted)?;
        let from_segment = known.get_mut(&id).and_then(Option::take);
        let pack = match (pack, from_segment) {
            (Ok(pack), _) => pack,
            (Err(error), _) if !error.is_lost() => return Err(error.into()),
            // It was listed a moment ago: what it held must not be left out because it is somewhere else now.
            (Err(repository::Error::Storage(error)), _)
                if matches!(error.kind, ErrorKind::Absent | ErrorKind::NoFile) =>
            {
                return Err(repository::Error::from(error).into());
            }
            (Err(error), Some(pack)) => {
                plan.damaged.push((id, why(&error)));
                pack
            }
            (Err(error), None) => {
                plan.unusable.push((id, why(&error)));
                continue;
            }
        };
        if options.all_packs && state.marked.contains_key(&id) && there.get(&id) == Some(&pack.length) {
            plan.change.revived.push(id);
        }
        listed.insert(id);
        plan.change.packs.push(pack);
    }
    for (id, entry) in known {
        if there.contains_key(&id) || state.swept.contains_key(&id) {
            continue;
        }
        if state.keeps(&id) {
            match repository.length_if_there(&ObjectName::Pack(id))? {
                Some(length) => drop(there.insert(id, length)),
                None => {
                    plan.gone.push(id);
                    plan.change.gone.push(id);
                }
            }
        }
        // Its entry stays as it is: the pack may come back from another copy.
        if let Some(pack) = entry.filter(|_| !listed.contains(&id)) {
            plan.change.packs.push(pack);
        }
    }
    plan.gone.sort_unstable();
    // No writer publishes on top of a live pack that has another length than it was published with.
    for (id, length) in lengths {
        if let Some(found) = there.get(&id).filter(|found| **found != length && state.keeps(&id)) {
            plan.damaged.retain(|(damaged, _)| *damaged != id);
            plan.wrong_length.push((id, format!("it has {found} bytes, its segment says {length}")));
        }
    }
    Ok(plan)
}

/// Publishes what the plan says, and makes the cache again.
///
/// # Errors
/// Nothing was changed; [`repository::Error::Overtaken`] when a head was published since the plan was made.
pub fn execute(repository: &Repository, plan: Plan) -> Result<Report> {
    let mut report = Report::default();
    repository.close_index();
    if !plan.change.is_empty() {
        report.head = Some(repository.reindex(plan.base, plan.change)?);
    }
    let tip = repository.tip();
    report.cache_failure = index::rebuild_cache(&repository.sources(&tip)).err().map(|error| error.to_string());
    Ok(report)
}

/// The file name of a pack, for messages.
#[must_use]
pub fn pack_name(id: ObjectId) -> String {
    ObjectName::Pack(id).to_string()
}
