//! What a prune would do, and why: worked out without changing anything.

use std::collections::BTreeSet;
use std::str::FromStr;

use super::chunk_table::{Bits, ChunkTable, each_live_pack};
use crate::base::id::ObjectId;
use crate::codec::pack::PackKind;
use crate::repository::{Repository, Result};
use crate::text::size;

/// How much room may stay unused rather than be won by rewriting packs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum MaxUnused {
    /// So many percent of what is needed.
    Percent(f64),
    /// So many bytes.
    Bytes(u64),
    /// Any: only packs that nothing needs go.
    Unlimited,
}

/// A twentieth of what is needed, as in restic.
impl Default for MaxUnused {
    fn default() -> Self {
        Self::Percent(5.0)
    }
}

impl FromStr for MaxUnused {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let bad = || format!("{text:?} is no limit: expected a share such as 5%, a size such as 500M, or unlimited");
        if text == "unlimited" {
            return Ok(Self::Unlimited);
        }
        match text.strip_suffix('%') {
            Some(percent) => match percent.parse::<f64>() {
                Ok(percent) if percent.is_finite() && percent >= 0.0 => Ok(Self::Percent(percent)),
                _ => Err(bad()),
            },
            None => size::parse(text).map(Self::Bytes).map_err(|_| bad()),
        }
    }
}

/// The limits of a plan.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Room that may stay unused.
    pub max_unused: MaxUnused,
    /// Bytes of packs that are rewritten at most.
    pub max_repack: Option<u64>,
    /// The length that packs are meant to have, in bytes.
    pub pack_bytes: u64,
}

/// A pack below this part of the intended length is small.
const SMALL_PART: u64 = 4;
/// So many small packs of one kind are made into fewer.
const SMALL_PACKS_MIN: usize = 10;
/// A segment with fewer chunks than this is small.
const SMALL_SEGMENT_CHUNKS: usize = 1 << 14;
/// So many small segments are made into fewer.
const SMALL_SEGMENTS_MIN: usize = 10;

/// Why a pack is rewritten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Why {
    /// Part of it is not needed.
    PartlyUnused,
    /// There are many small ones.
    Small,
}

impl Why {
    /// The word for it, as in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PartlyUnused => "partly_unused",
            Self::Small => "small",
        }
    }
}

/// One pack, and how much of it is needed. All in bytes.
#[derive(Debug, Clone, Copy)]
pub struct PackUse {
    /// The pack.
    pub id: ObjectId,
    /// What it holds.
    pub kind: PackKind,
    /// Stored length.
    pub length: u64,
    /// How much of the stored length is of chunks that nothing needs, about: chunks are compressed together.
    pub unused: u64,
    /// How many of its chunks are needed.
    pub chunks_needed: u32,
    /// Its number in the table.
    pub(super) number: usize,
}

/// What a prune would do.
#[derive(Debug, Default)]
pub struct Plan {
    /// Packs that nothing needs.
    pub dead: Vec<PackUse>,
    /// Packs that are rewritten, and why.
    pub repack: Vec<(PackUse, Why)>,
    /// Packs that stay.
    pub keep: Vec<PackUse>,
    /// Segments that are replaced: small ones that are merged, and those that list swept packs.
    pub merge: Vec<ObjectId>,
}

/// A sum over packs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sum {
    /// How many.
    pub packs: u64,
    /// Stored bytes.
    pub bytes: u64,
    /// Those of them that are not needed, about.
    pub unused: u64,
}

/// Adds packs up.
pub fn sum<'a>(packs: impl IntoIterator<Item = &'a PackUse>) -> Sum {
    packs.into_iter().fold(Sum::default(), |sum, pack| Sum {
        packs: sum.packs + 1,
        bytes: sum.bytes + pack.length,
        unused: sum.unused + pack.unused,
    })
}

impl Plan {
    /// True when no pack and no segment changes.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.dead.is_empty() && self.repack.is_empty() && self.merge.is_empty()
    }

    /// Bytes of the packs that are rewritten.
    #[must_use]
    pub fn repack_bytes(&self) -> u64 {
        self.repack.iter().map(|(pack, _)| pack.length).sum()
    }

    /// Bytes that become free when everything is done, about.
    #[must_use]
    pub fn freed(&self) -> u64 {
        sum(&self.dead).bytes + self.repack.iter().map(|(pack, _)| pack.unused).sum::<u64>()
    }

    /// Bytes that nothing needs and that stay, about.
    #[must_use]
    pub fn left_unused(&self) -> u64 {
        sum(&self.keep).unused
    }
}

/// How much of every live pack is needed.
fn uses(repository: &Repository, table: &ChunkTable, kept: &Bits) -> Result<Vec<PackUse>> {
    let mut uses = Vec::with_capacity(table.packs().len());
    let mut ordinal = 0;
    each_live_pack(repository, &mut |pack| {
        let (mut unused, mut chunks_needed) = (0, 0);
        for block in &pack.directory.blocks {
            let mut block_unused = 0;
            for chunk in &block.chunks {
                if kept.get(ordinal) {
                    chunks_needed += 1;
                } else {
                    block_unused += u64::from(chunk.length);
                }
                ordinal += 1;
            }
            unused += u64::from(block.stored_length) * block_unused / u64::from(block.plain_length.max(1));
        }
        if chunks_needed == 0 {
            unused = pack.length;
        }
        let number = uses.len();
        uses.push(PackUse { id: pack.id, kind: pack.kind, length: pack.length, unused, chunks_needed, number });
        Ok(())
    })?;
    Ok(uses)
}

/// Decides about every pack and segment.
///
/// # Errors
/// A segment that cannot be read.
pub(in crate::ops) fn decide(
    repository: &Repository,
    table: &ChunkTable,
    kept: &Bits,
    limits: &Limits,
) -> Result<Plan> {
    let mut plan = Plan::default();
    let (mut partly, mut whole) = (Vec::new(), Vec::new());
    for pack in uses(repository, table, kept)? {
        if pack.chunks_needed == 0 {
            plan.dead.push(pack);
        } else if pack.unused > 0 {
            partly.push(pack);
        } else {
            whole.push(pack);
        }
    }
    let needed: u64 = partly.iter().chain(&whole).map(|pack| pack.length - pack.unused.min(pack.length)).sum();
    let may_stay = match limits.max_unused {
        MaxUnused::Percent(percent) => (needed as f64 * percent.max(0.0) / 100.0) as u64,
        MaxUnused::Bytes(bytes) => bytes,
        MaxUnused::Unlimited => u64::MAX,
    };
    let mut unused: u64 = partly.iter().map(|pack| pack.unused).sum();
    let mut budget = limits.max_repack.unwrap_or(u64::MAX);
    // What wins most for the least writing comes first.
    let share = |pack: &PackUse| u128::from(pack.unused) * (1 << 32) / u128::from(pack.length.max(1));
    partly.sort_by_key(|pack| (std::cmp::Reverse(share(pack)), pack.number));
    for pack in partly {
        if unused > may_stay && pack.length <= budget {
            unused -= pack.unused;
            budget -= pack.length;
            plan.repack.push((pack, Why::PartlyUnused));
        } else {
            whole.push(pack);
        }
    }
    for kind in [PackKind::Data, PackKind::Tree] {
        let is_small = |pack: &PackUse| pack.kind == kind && pack.length < limits.pack_bytes / SMALL_PART;
        if whole.iter().filter(|pack| is_small(pack)).count() < SMALL_PACKS_MIN {
            continue;
        }
        let (small, rest): (Vec<_>, Vec<_>) = whole.into_iter().partition(is_small);
        whole = rest;
        for pack in small {
            if pack.length <= budget {
                budget -= pack.length;
                plan.repack.push((pack, Why::Small));
            } else {
                whole.push(pack);
            }
        }
    }
    // In the order in which they were written: what lay together stays together.
    plan.repack.sort_by_key(|(pack, _)| pack.number);
    whole.sort_by_key(|pack| pack.number);
    plan.keep = whole;
    plan.merge = segments_to_merge(repository, &plan)?;
    Ok(plan)
}

/// Small segments when there are many, and every segment that lists packs that are gone for good: the name of a swept pack is
/// forgotten one day, and no segment may list it then.
pub(super) fn segments_to_merge(repository: &Repository, plan: &Plan) -> Result<Vec<ObjectId>> {
    let tip = repository.tip();
    let going: BTreeSet<ObjectId> =
        plan.dead.iter().chain(plan.repack.iter().map(|(pack, _)| pack)).map(|pack| pack.id).collect();
    let (mut small, mut worn) = (Vec::new(), Vec::new());
    for (id, length) in &tip.state.segments {
        let generation = tip.reference().generation;
        let segment =
            crate::repository::index::read_segment(repository.storage(), repository.keys(), *id, *length, generation)?;
        let swept = segment.packs.iter().any(|pack| tip.state.swept.contains_key(&pack.id));
        let stays: usize = segment
            .packs
            .iter()
            .filter(|pack| !going.contains(&pack.id) && tip.state.keeps(&pack.id))
            .map(|pack| pack.directory.chunk_count())
            .sum();
        if swept {
            worn.push(*id);
        } else if stays < SMALL_SEGMENT_CHUNKS {
            small.push(*id);
        }
    }
    if small.len() + worn.len() >= SMALL_SEGMENTS_MIN {
        worn.append(&mut small);
    }
    worn.sort_unstable();
    Ok(worn)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_parsed() {
        assert_eq!("5%".parse(), Ok(MaxUnused::Percent(5.0)));
        assert_eq!("0".parse(), Ok(MaxUnused::Bytes(0)));
        assert_eq!("10M".parse(), Ok(MaxUnused::Bytes(10 << 20)));
        assert_eq!("unlimited".parse(), Ok(MaxUnused::Unlimited));
        for text in ["", "%", "-1%", "x", "NaN%", "inf%"] {
            assert!(text.parse::<MaxUnused>().is_err(), "{text}");
        }
    }
}
