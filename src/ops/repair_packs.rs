//! `repair packs`: what still opens in a damaged pack goes into new packs, and the damaged one out of the way.
//!
//! # Order of writes, and what a crash leaves
//!
//! | step | a crash before the next step leaves | who cleans it |
//! |---|---|---|
//! | 1. under the writer lock: new packs with the blocks that open, a segment | packs and a segment that no head names | the next backup or prune |
//! | 2. a head that names them and marks the damaged packs | damaged packs that are marked | a prune, after the grace; or this repair, with their names |
//! | 3. each damaged pack is moved to `quarantine/` | the rest of them | as above |
//!
//! # Invariants
//!
//! - A pack is given up in the same head that names what was saved of it.
//! - A marked pack that holds what is lost, and is sound, is brought back to life in that head.
//! - Nothing is removed. A pack without a file is marked and never swept: when a sound copy is put under its name again,
//!   `repair index --read-all-packs` brings it back to life.
//! - A file is moved only while no process relies on a state in which its pack is live: what opens in it can be read until
//!   then.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use rayon::prelude::*;

use super::check::verify_pack;
use super::{Error, Monitor, Phase, Result};
use crate::base::command::suggest;
use crate::base::id::{ChunkId, ObjectId};
use crate::codec::block;
use crate::codec::chunk_list::ChunkRef;
use crate::codec::compress::Decompressor;
use crate::codec::head::HeadRef;
use crate::codec::pack::{HEADER_BYTES, PackKind};
use crate::codec::segment::SegmentPack;
use crate::repository::pack_writer::PackOptions;
use crate::repository::pin::Pinned;
use crate::repository::run::Run;
use crate::repository::{self, Repository, index};
use crate::storage::{Folder, ObjectName};

/// A damaged pack, and what of it can be saved.
#[derive(Debug, Clone)]
pub struct DamagedPack {
    /// What its segment says of it.
    pub pack: SegmentPack,
    /// It is not there at all.
    pub missing: bool,
    /// What is wrong, in sentences.
    pub messages: Vec<String>,
    /// Numbers of the blocks that do not open, ascending.
    pub bad_blocks: Vec<u16>,
    /// Chunks of those blocks of which no sound live pack holds a copy.
    pub lost: Lost,
}

/// Chunks that are gone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lost {
    /// How many.
    pub chunks: u64,
    /// Their plain length, in bytes.
    pub bytes: u64,
}

impl Lost {
    fn add(&mut self, chunk: &ChunkRef) {
        self.chunks += 1;
        self.bytes += u64::from(chunk.length);
    }
}

/// What will be done, and why.
#[derive(Debug, Clone)]
pub struct Plan {
    base: HeadRef,
    /// Live packs that are damaged or missing.
    pub damaged: Vec<DamagedPack>,
    /// Marked packs that were named and are damaged: they only go out of the way.
    pub marked: Vec<ObjectId>,
    /// Marked packs that are sound and hold what is lost elsewhere: they become live again.
    pub revived: Vec<ObjectId>,
    /// Packs that were read.
    pub packs_read: u64,
}

impl Plan {
    /// True when there is nothing to be done.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.damaged.is_empty() && self.marked.is_empty()
    }

    /// What cannot be saved.
    #[must_use]
    pub fn lost(&self) -> Lost {
        self.damaged.iter().fold(Lost::default(), |sum, pack| Lost {
            chunks: sum.chunks + pack.lost.chunks,
            bytes: sum.bytes + pack.lost.bytes,
        })
    }
}

/// What was done.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// The new head; none when no live pack was damaged or missing.
    pub head: Option<HeadRef>,
    /// Blocks that were saved.
    pub blocks_saved: u64,
    /// Bytes of the new packs.
    pub pack_bytes: u64,
    /// Damaged packs, and where their files are now.
    pub moved: Vec<(ObjectId, String)>,
    /// Who relies on a state in which the damaged packs are live: their files stay until this repair is run again.
    pub holder: Option<Pinned>,
}

/// Reads the packs whose ids begin with one of `names`, or all of them, and works out what is to be done.
///
/// # Errors
/// A segment that cannot be read: `repair index` comes first. A name that is no pack's. [`Error::Interrupted`].
pub fn plan(repository: &Repository, names: &[String], monitor: &dyn Monitor) -> Result<Plan> {
    monitor.phase(Phase::CheckData);
    repository.refresh()?;
    let tip = repository.tip();
    tip.require_sound()?;
    let mut there: BTreeMap<ObjectId, u64> = listed(repository)?;
    let mut plan =
        Plan { base: tip.reference(), damaged: Vec::new(), marked: Vec::new(), revived: Vec::new(), packs_read: 0 };
    if names.iter().any(String::is_empty) {
        return Err(Error::Invalid(
            "a pack is named by its id, or by the beginning of it: an empty name was given".to_owned(),
        ));
    }
    let is_named = |id: &ObjectId| {
        names.is_empty() || names.iter().any(|name| id.to_string().starts_with(&name.to_ascii_lowercase()))
    };
    let mut seen = BTreeSet::new();
    for (id, length) in &tip.state.segments {
        let packs = segment(repository, *id, *length, tip.reference().generation)?;
        let mut wanted = Vec::new();
        for pack in packs {
            if !is_named(&pack.id) || tip.state.swept.contains_key(&pack.id) || !seen.insert(pack.id) {
                continue;
            }
            let is_kept = tip.state.keeps(&pack.id);
            if is_kept
                && !there.contains_key(&pack.id)
                && let Some(length) = repository.length_if_there(&ObjectName::Pack(pack.id))?
            {
                there.insert(pack.id, length);
            }
            match (there.contains_key(&pack.id), is_kept) {
                (true, true) => wanted.push(pack),
                // What opens in it may be wanted by an undelete: it is moved only when it is meant.
                (true, false) if !names.is_empty() => wanted.push(pack),
                (false, true) => {
                    let bad_blocks = (0..pack.directory.blocks.len()).map(|number| number as u16).collect();
                    let messages = vec!["it is not there".to_owned()];
                    plan.damaged.push(DamagedPack { pack, missing: true, messages, bad_blocks, lost: Lost::default() });
                }
                (_, false) => {}
            }
        }
        monitor.expect(wanted.len() as u64, wanted.iter().map(|pack| pack.length).sum(), false);
        plan.packs_read += wanted.len() as u64;
        let read: Vec<_> = wanted
            .into_par_iter()
            .with_max_len(1)
            .map(|pack| {
                if monitor.interrupted() {
                    return None;
                }
                let mut damage = verify_pack(repository, &pack, monitor);
                if let Some(found) = there.get(&pack.id).filter(|found| **found != pack.length) {
                    damage.messages.insert(0, format!("it has {found} bytes, its segment says {}", pack.length));
                }
                monitor.advance(1, 0);
                Some((pack, damage))
            })
            .collect();
        for found in read {
            let (pack, damage) = found.ok_or(Error::Interrupted)?;
            if damage.messages.is_empty() {
                continue;
            }
            // What the disk does not give is lost here. What this process may or can not read now is not.
            if let Some(error) = damage.unreadable.filter(|error| !error.is_lost()) {
                return Err(error.into());
            }
            if tip.state.keeps(&pack.id) {
                let (messages, bad_blocks) = (damage.messages, damage.blocks);
                plan.damaged.push(DamagedPack { pack, missing: false, messages, bad_blocks, lost: Lost::default() });
            } else {
                plan.marked.push(pack.id);
            }
        }
    }
    if let Some(name) = names.iter().find(|name| !seen.iter().any(|id| id.to_string().starts_with(name.as_str()))) {
        return Err(Error::NotFound(format!(
            "no live pack has an id that begins with {name:?}. Next: {}",
            suggest!("check")
        )));
    }
    count_lost(repository, &mut plan, &there, monitor)?;
    Ok(plan)
}

fn listed(repository: &Repository) -> Result<BTreeMap<ObjectId, u64>> {
    let listed = repository.storage().list(Folder::Packs).map_err(repository::Error::from)?;
    Ok(listed.into_iter().filter_map(|found| Some((found.name.id()?, found.length))).collect())
}

fn segment(repository: &Repository, id: ObjectId, length: u64, generation: u64) -> Result<Vec<SegmentPack>> {
    let read = index::read_segment(repository.storage(), repository.keys(), id, length, generation);
    Ok(read.map_err(|error| Error::Refused(format!("{error}. First: {}", suggest!("repair index"))))?.packs)
}

/// Looks for other copies of the chunks that do not open: in live packs, and then in marked ones, which can be brought back.
fn count_lost(
    repository: &Repository,
    plan: &mut Plan,
    there: &BTreeMap<ObjectId, u64>,
    monitor: &dyn Monitor,
) -> Result<()> {
    let state = repository.tip().state;
    // Of each chunk the damaged pack that is to answer for it, until a copy is found.
    let mut lost: HashMap<(PackKind, ChunkId), (usize, ChunkRef)> = HashMap::new();
    let mut bad: HashMap<ObjectId, &[u16]> = HashMap::new();
    for (number, damaged) in plan.damaged.iter().enumerate() {
        bad.insert(damaged.pack.id, &damaged.bad_blocks);
        for block in &damaged.bad_blocks {
            let chunks = damaged.pack.directory.blocks.get(usize::from(*block)).map(|block| block.chunks.as_slice());
            for chunk in chunks.unwrap_or_default() {
                lost.insert((damaged.pack.kind, chunk.id), (number, *chunk));
            }
        }
    }
    let mut revived = Vec::new();
    for live in [true, false] {
        for (id, length) in &state.segments {
            if lost.is_empty() {
                break;
            }
            for pack in segment(repository, *id, *length, plan.base.generation)? {
                let listed = there.get(&pack.id) == Some(&pack.length) || bad.contains_key(&pack.id);
                if !listed || state.keeps(&pack.id) != live || state.swept.contains_key(&pack.id) {
                    continue;
                }
                let damaged = bad.get(&pack.id).copied().unwrap_or_default();
                let sound = |(number, _): &(usize, _)| damaged.binary_search(&(*number as u16)).is_err();
                let blocks = pack.directory.blocks.iter().enumerate().filter(sound);
                let held = blocks.flat_map(|(_, block)| &block.chunks).map(|chunk| (pack.kind, chunk.id));
                let held: Vec<_> = held.filter(|chunk| lost.contains_key(chunk)).collect();
                if held.is_empty() || (!live && !verify_pack(repository, &pack, monitor).messages.is_empty()) {
                    continue;
                }
                for chunk in &held {
                    lost.remove(chunk);
                }
                if !live {
                    revived.push(pack.id);
                }
            }
        }
    }
    for (number, chunk) in lost.into_values() {
        if let Some(damaged) = plan.damaged.get_mut(number) {
            damaged.lost.add(&chunk);
        }
    }
    plan.revived = revived;
    Ok(())
}

/// Does it.
///
/// # Errors
/// [`repository::Error::Overtaken`] when a head was published since the plan was made; storage errors. What was published
/// before stays true.
pub fn execute(repository: &Repository, plan: &Plan, packs: PackOptions, monitor: &dyn Monitor) -> Result<Report> {
    let mut report = Report::default();
    let mut aside: Vec<ObjectId> = plan.marked.clone();
    if !plan.damaged.is_empty() {
        monitor.phase(Phase::Repack);
        let mut run = Run::begin_without_adopting(repository, packs)?;
        let tip = repository.tip();
        if tip.reference() != plan.base {
            let what = ObjectName::Head { generation: tip.reference().generation, id: tip.reference().id };
            return Err(repository::Error::Overtaken { what }.into());
        }
        monitor.expect(plan.damaged.len() as u64, plan.damaged.iter().map(|damaged| damaged.pack.length).sum(), true);
        for damaged in &plan.damaged {
            if monitor.interrupted() {
                return Err(Error::Interrupted);
            }
            run.give_up(damaged.pack.id);
            if !damaged.missing {
                report.blocks_saved += salvage(&mut run, damaged)?;
                aside.push(damaged.pack.id);
            }
            match damaged.missing {
                true => monitor.skip(1, damaged.pack.length),
                false => monitor.advance(1, damaged.pack.length),
            }
        }
        run.seal()?;
        report.pack_bytes = run.written().pack_bytes;
        repository.close_index();
        let base = plan.base;
        report.head = Some(run.publish_change(|state, generation| {
            if generation != base.generation + 1 {
                let what = ObjectName::Head { generation: base.generation, id: base.id };
                return Err(repository::Error::Overtaken { what });
            }
            state.marked.retain(|id, _| !plan.revived.contains(id));
            Ok(())
        })?);
        // Of the chunks that were saved the cache knows the copy that is marked.
        let tip = repository.tip();
        let _ = index::rebuild_cache(&repository.sources(&tip));
    }
    move_aside(repository, &aside, &mut report)?;
    Ok(report)
}

/// Stores again what opens; how many blocks that are.
fn salvage(run: &mut Run<'_>, damaged: &DamagedPack) -> Result<u64> {
    let repository = run.repository();
    let name = ObjectName::Pack(damaged.pack.id);
    let mut tool = Decompressor::new().map_err(|error| repository::Error::Damaged { object: name, error })?;
    let (mut at, mut saved) = (HEADER_BYTES as u64, 0);
    for (number, record) in damaged.pack.directory.blocks.iter().enumerate() {
        let length = u64::from(record.stored_length);
        let read = repository.storage().read_range(&name, at, length);
        at += length;
        let is_sound = damaged.bad_blocks.binary_search(&(number as u16)).is_err();
        let sealed = match read.map_err(repository::Error::from) {
            Ok(sealed) => sealed,
            // No more is given up than the plan has said, and nothing is published yet.
            Err(error) if is_sound || !error.is_lost() => return Err(error.into()),
            Err(_) => continue,
        };
        if is_sound {
            run.move_block(damaged.pack.kind, record.clone(), sealed, damaged.pack.id)?;
            saved += 1;
            continue;
        }
        // A block may open, and hold other chunks than it should beside those that it should.
        let (keys, kind) = (repository.keys(), damaged.pack.kind);
        let mut unit = sealed;
        let Ok(plain) = block::open(keys, kind, &mut tool, record.codec, record.plain_length, &mut unit) else {
            continue;
        };
        let mut start = 0;
        for chunk in &record.chunks {
            let end = start + chunk.length as usize;
            let bytes = plain.get(start..end).unwrap_or_default();
            if !bytes.is_empty() && keys.chunk_id(kind.chunk_kind(), bytes) == chunk.id {
                run.move_chunk(kind, chunk.id, bytes)?;
            }
            start = end;
        }
    }
    Ok(saved)
}

fn move_aside(repository: &Repository, packs: &[ObjectId], report: &mut Report) -> Result<()> {
    if packs.is_empty() {
        return Ok(());
    }
    repository.pin_newest()?;
    (report.moved, report.holder) = repository.quarantine(packs)?;
    Ok(())
}
