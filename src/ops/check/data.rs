//! Reading packs back: every byte is hashed, every block opened, every chunk hashed.
//!
//! A pack is read in runs of blocks, so memory does not depend on its length, and its damage is progress block by block: the
//! segment says where the blocks are even when the pack's own directory is damaged.

use std::collections::{HashMap, HashSet};

use rayon::prelude::*;

use super::digests::Digests;
use super::places::Places;
use super::trees::reason;
use crate::base::id::ObjectId;
use crate::codec::block_verifier::BlockVerifier;
use crate::codec::pack::{self, Block};
use crate::codec::segment::SegmentPack;
use crate::codec::{self, Reason};
use crate::ops::item_progress::ItemProgress;
use crate::ops::{Error, Monitor, Result, Silent};
use crate::repository::chain::Tip;
use crate::repository::{self, Repository, index};
use crate::storage::ObjectName;

/// Stored bytes of neighbouring blocks that are read and opened together.
const RUN_BYTES: u64 = 16 << 20;
/// Plain bytes of blocks that are handed on together.
const HELD_BYTES: u64 = 32 << 20;

/// Which packs to read.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Data {
    /// None: structure only.
    #[default]
    None,
    /// Every live pack.
    All,
    /// The `part`-th (from 1) of `parts` parts, which together are all packs: by the first byte of the pack's id.
    Part {
        /// Which one, from 1.
        part: u32,
        /// Of how many.
        parts: u32,
    },
    /// About this share of the packs, in percent, chosen by chance.
    Percent(f64),
    /// About so many bytes of packs, chosen by chance.
    Bytes(u64),
}

/// The numbers of the packs that `data` chooses. The same `seed` chooses the same packs.
pub(super) fn choose(places: &Places, data: Data, seed: u64) -> Vec<u32> {
    let all = (0..).zip(places.packs()).map(|(number, _)| number);
    let wanted = match data {
        Data::None => return Vec::new(),
        Data::All => return all.collect(),
        Data::Part { part, parts } => {
            let chosen = |pack: &super::places::LivePack| u32::from(pack.id.0[0]) % parts.max(1) + 1 == part;
            return (0..).zip(places.packs()).filter(|(_, pack)| chosen(pack)).map(|(number, _)| number).collect();
        }
        Data::Percent(percent) => {
            let share = percent.clamp(0.0, 100.0) / 100.0;
            (places.packs().len() as f64 * share) as usize
        }
        Data::Bytes(_) => usize::MAX,
    };
    // In the order of a hash that takes the seed in: anyone can repeat the choice.
    let order = |number: &u32| {
        let id = places.pack(*number).map_or([0; 32], |pack| pack.id.0);
        *blake3::Hasher::new().update(&seed.to_le_bytes()).update(&id).finalize().as_bytes()
    };
    let mut chosen: Vec<u32> = all.collect();
    chosen.sort_by_cached_key(order);
    if let Data::Bytes(bytes) = data {
        let mut sum: u64 = 0;
        let enough = chosen.iter().position(|number| {
            sum = sum.saturating_add(places.pack(*number).map_or(0, |pack| pack.length));
            sum >= bytes
        });
        chosen.truncate(enough.map_or(usize::MAX, |last| last + 1));
    } else {
        chosen.truncate(wanted.max(1));
    }
    chosen
}

/// What is wrong with one pack.
#[derive(Debug, Default)]
pub struct PackDamage {
    /// The blocks that do not open, or do not hold what they should, in ascending order.
    pub blocks: Vec<u16>,
    /// What is wrong, in sentences; none when nothing is.
    pub messages: Vec<String>,
    /// Why some of it could not be read by this process now; nothing is known of those bytes.
    pub unreadable: Option<repository::Error>,
    /// Some of what was read is wrong, or some of it is not there.
    pub is_damage: bool,
    /// It was wrong when it was read first, and right the second time.
    pub has_passed: bool,
}

impl PackDamage {
    fn add(&mut self, message: String) {
        self.messages.push(message);
        self.is_damage = true;
    }

    fn add_error(&mut self, what: &str, error: repository::Error) {
        self.messages.push(format!("{what}: {}", reason(&error)));
        if error.is_unreadable() {
            self.unreadable.get_or_insert(error);
        } else {
            self.is_damage = true;
        }
    }

    /// Nothing could be read at all, so that going on makes no sense.
    pub fn is_fatal(&self) -> bool {
        self.unreadable.as_ref().is_some_and(repository::Error::is_unavailable)
    }
}

/// Reads the packs with these numbers, and returns those that are damaged. Those that hold something of `digests` are read one
/// after the other, in its order, their blocks by all threads; all others beside each other.
pub(super) fn check(
    repository: &Repository,
    tip: &Tip,
    places: &Places,
    numbers: &[u32],
    digests: &mut Digests,
    monitor: &dyn Monitor,
) -> Result<Vec<(u32, PackDamage)>> {
    let mut wanted: HashSet<u32> = numbers.iter().copied().collect();
    let order: Vec<u32> = digests.order().iter().copied().filter(|number| wanted.remove(number)).collect();
    let segment_of = |number: &u32| places.pack(*number).map(|pack| pack.segment);
    let mut segments: Vec<ObjectId> = Vec::new();
    let mut known: HashSet<ObjectId> = HashSet::new();
    for segment in order.iter().filter_map(segment_of).chain(tip.state.segments.keys().copied()) {
        if known.insert(segment) {
            segments.push(segment);
        }
    }
    let bytes = numbers.iter().filter_map(|number| places.pack(*number)).map(|pack| pack.length).sum();
    monitor.expect(numbers.len() as u64, bytes, true);
    let mut damage = Vec::new();
    let generation = tip.reference().generation;
    for id in &segments {
        let Some(length) = tip.state.segments.get(id) else { continue };
        let is_here = |number: &&u32| segment_of(number) == Some(*id);
        let in_order: Vec<u32> = order.iter().filter(is_here).copied().collect();
        let is_wanted = |pack: &ObjectId| {
            let number = places.number(pack)?;
            (is_here(&&number) && wanted.contains(&number)).then_some(number)
        };
        let any = |pack: &super::places::LivePack| pack.segment == *id && is_wanted(&pack.id).is_some();
        if in_order.is_empty() && !places.packs().iter().any(any) {
            continue;
        }
        // It was opened a moment ago; a segment that breaks in between is the next check's finding.
        let segment = index::read_segment(repository.storage(), repository.keys(), *id, *length, generation)?;
        let packs: Vec<(u32, &SegmentPack)> =
            segment.packs.iter().filter_map(|pack| Some((is_wanted(&pack.id)?, pack))).collect();
        let found: Vec<Option<(u32, PackDamage)>> = packs
            .par_iter()
            .with_max_len(1)
            .map(|(number, pack)| {
                if monitor.interrupted() {
                    return None;
                }
                let found = confirm(repository, pack, verify(repository, pack, monitor));
                monitor.advance(1, 0);
                found.map(|found| (*number, found))
            })
            .collect();
        damage.extend(found.into_iter().flatten());
        end_if_fatal(&mut damage)?;
        let listed: HashMap<ObjectId, &SegmentPack> = segment.packs.iter().map(|pack| (pack.id, pack)).collect();
        for number in in_order {
            if monitor.interrupted() {
                return Err(Error::Interrupted);
            }
            let Some(pack) = places.pack(number).and_then(|pack| listed.get(&pack.id)) else { continue };
            let wanted = digests.blocks(number);
            let mut give = |blocks: &[(u16, Option<Vec<u8>>)]| digests.take(number, blocks);
            let found = verify_giving(repository, pack, Some((&wanted, &mut give)), monitor);
            monitor.advance(1, 0);
            damage.extend(confirm(repository, pack, found).map(|found| (number, found)));
            end_if_fatal(&mut damage)?;
        }
        if monitor.interrupted() {
            return Err(Error::Interrupted);
        }
    }
    Ok(damage)
}

/// What is wrong with a pack, if anything: what looks damaged is read once more before it is called so.
fn confirm(repository: &Repository, pack: &SegmentPack, found: PackDamage) -> Option<PackDamage> {
    if found.messages.is_empty() {
        return None;
    }
    if found.is_fatal() {
        return Some(found);
    }
    let again = verify(repository, pack, &Silent);
    Some(PackDamage { has_passed: again.messages.is_empty(), ..again })
}

/// Ends the check where nothing more can be read.
fn end_if_fatal(damage: &mut [(u32, PackDamage)]) -> Result<()> {
    let fatal = damage.iter_mut().find(|(_, damage)| damage.is_fatal());
    fatal.and_then(|(_, damage)| damage.unreadable.take()).map_or(Ok(()), |error| Err(error.into()))
}

/// Which blocks are wanted, and who takes them: by number, in order, nothing for those that cannot be opened.
type Giving<'a> = Option<(&'a HashSet<u16>, &'a mut dyn FnMut(&[(u16, Option<Vec<u8>>)]))>;

/// Reads one pack: every byte of it against its name, every block as the segment says.
pub(in crate::ops) fn verify(repository: &Repository, pack: &SegmentPack, monitor: &dyn Monitor) -> PackDamage {
    verify_giving(repository, pack, None, monitor)
}

/// The same, and hands on what is in some of its blocks.
fn verify_giving(repository: &Repository, pack: &SegmentPack, giving: Giving<'_>, monitor: &dyn Monitor) -> PackDamage {
    let mut damage = PackDamage::default();
    let mut hasher = blake3::Hasher::new();
    read(repository, pack, &mut hasher, &mut damage, giving, monitor);
    if *hasher.finalize().as_bytes() != pack.id.0 && damage.messages.is_empty() {
        damage.add(Reason::ObjectId.to_string());
    }
    damage
}

fn read(
    repository: &Repository,
    pack: &SegmentPack,
    hasher: &mut blake3::Hasher,
    damage: &mut PackDamage,
    mut giving: Giving<'_>,
    monitor: &dyn Monitor,
) {
    let (storage, name) = (repository.storage(), ObjectName::Pack(pack.id));
    let mut progress = ItemProgress::new(monitor, 0, pack.length);
    match storage.read_range(&name, 0, pack::HEADER_BYTES as u64) {
        Ok(header) => {
            progress.read(header.len() as u64);
            hasher.update(&header);
            match pack::parse_header(&header, repository.id()) {
                Ok(kind) if kind == pack.kind => {}
                Ok(_) => damage.add("its header says another kind than its segment".to_owned()),
                Err(error) => damage.add(format!("its header: {}", error.reason)),
            }
        }
        Err(error) => damage.add_error("its header", error.into()),
    }
    let mut at = pack::HEADER_BYTES as u64;
    let mut first = 0;
    let mut one_by_one = 0;
    while let Some(rest) = pack.directory.blocks.get(first..).filter(|rest| !rest.is_empty()) {
        let mut length = 0;
        // Where a run cannot be read, its blocks are read one by one: some of them may be whole.
        let run_bytes = if first < one_by_one { 0 } else { RUN_BYTES };
        let fits = |block: &&Block| {
            let before = length;
            length += u64::from(block.stored_length);
            before == 0 || length <= run_bytes
        };
        let run = rest.iter().take_while(fits).count().max(1);
        let blocks = &rest[..run];
        let length: u64 = blocks.iter().map(|block| u64::from(block.stored_length)).sum();
        let mut bytes = match storage.read_range(&name, at, length) {
            Ok(bytes) => bytes,
            Err(error) if error.kind.is_general() => return damage.add_error("its blocks", error.into()),
            Err(_) if run > 1 => {
                one_by_one = first + run;
                continue;
            }
            Err(error) => {
                damage.blocks.push(first as u16);
                let of = pack.directory.blocks.len();
                damage.add_error(&format!("block {} of {of}", first + 1), error.into());
                if let Some((_, give)) = &mut giving {
                    give(&[(first as u16, None)]);
                }
                at += length;
                first += 1;
                continue;
            }
        };
        hasher.update(&bytes);
        let mut sealed = Vec::with_capacity(run);
        let mut left = bytes.as_mut_slice();
        for block in blocks {
            let (unit, behind) = left.split_at_mut(block.stored_length as usize);
            sealed.push((block, unit));
            left = behind;
        }
        let wanted = giving.as_ref().map(|(wanted, _)| *wanted);
        let is_wanted = |index: usize| wanted.is_some_and(|wanted| wanted.contains(&(index as u16)));
        let open = |verifier: &mut codec::Result<BlockVerifier>, (index, block, unit): (usize, &Block, &mut [u8])| {
            let verifier = verifier.as_mut().map_err(|error| error.reason)?;
            let plain = verifier.open(repository.keys(), pack.kind, block, unit).map_err(|error| error.reason)?;
            Ok(is_wanted(index).then(|| plain.to_vec()))
        };
        let mut numbered = (first..).zip(sealed).map(|(index, (block, unit))| (index, block, unit)).peekable();
        while numbered.peek().is_some() {
            // What is handed on is held until all of it is there.
            let mut held = 0;
            let mut batch = Vec::new();
            while let Some((index, block, _)) = numbered.peek() {
                held += if is_wanted(*index) { u64::from(block.plain_length) } else { 0 };
                if held > HELD_BYTES && !batch.is_empty() {
                    break;
                }
                batch.extend(numbered.next());
            }
            let numbers: Vec<usize> = batch.iter().map(|(index, ..)| *index).collect();
            let opened: Vec<std::result::Result<Option<Vec<u8>>, Reason>> =
                batch.into_par_iter().with_max_len(1).map_init(BlockVerifier::new, open).collect();
            let mut given = Vec::new();
            for (index, result) in numbers.into_iter().zip(opened) {
                let plain = result.unwrap_or_else(|reason| {
                    let of = pack.directory.blocks.len();
                    damage.blocks.push(index as u16);
                    damage.add(format!("block {} of {of} {reason}", index + 1));
                    None
                });
                if is_wanted(index) {
                    given.push((index as u16, plain));
                }
            }
            if let Some((_, give)) = &mut giving {
                give(&given);
            }
        }
        progress.read(length);
        at += length;
        first += run;
    }
    match storage.read_range(&name, at, pack.length.saturating_sub(at)) {
        Ok(rest) => {
            hasher.update(&rest);
            if let Err(error) = check_end(repository, pack, &rest) {
                damage.add(format!("its directory or footer: {}", error.reason));
            }
            progress.read(rest.len() as u64);
        }
        Err(error) => damage.add_error("its directory or footer", error.into()),
    }
}

/// Checks what stands behind the blocks: directory, padding and footer.
fn check_end(repository: &Repository, pack: &SegmentPack, rest: &[u8]) -> codec::Result<()> {
    let truncated = || codec::Error::new("pack", Reason::Truncated);
    let before_footer = rest.len().checked_sub(pack::FOOTER_BYTES).ok_or_else(truncated)?;
    let footer = pack::parse_footer(&rest[before_footer..], pack.length)?;
    let (sealed, padding) =
        rest[..before_footer].split_at_checked(footer.directory_length as usize).ok_or_else(truncated)?;
    let mut sealed = sealed.to_vec();
    let same_unit = sealed.starts_with(&pack.directory_prefix);
    let directory = pack::open_directory(repository.keys(), pack.kind, &footer, &mut sealed)?;
    pack::check_padding(&footer, padding)?;
    if !same_unit || directory != pack.directory || footer.directory_offset != pack.directory.body_length() {
        return Err(codec::Error::new("pack", Reason::BrokenRule { rule: "it differs from what its segment says" }));
    }
    Ok(())
}
