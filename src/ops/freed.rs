//! What would become free if some snapshots, or some paths in them, were not there: what only they need.
//!
//! The answer is the difference of two prunes, the one of now and the one after they are gone. It reads and changes nothing
//! that a prune's plan would not, and like it ends at anything that cannot be read.

use std::collections::BTreeMap;

use super::part::find_path_if_there;
use super::prune::chunk_table::{ChunkTable, add_up};
use super::prune::needed::{Cut, Needed};
use super::prune::plan::decide;
use super::prune::{Limits, MaxUnused, Plan, Sum, sum};
use super::select::{self, Chosen, Filter, SnapshotArgument};
use super::{Error, Monitor, Phase, Result};
use crate::base::escape::escape;
use crate::base::id::ObjectId;
use crate::repository::Repository;

/// What is imagined to be gone.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Only these; empty for all that the filter lets through.
    pub snapshots: Vec<SnapshotArgument>,
    /// What the others are chosen by.
    pub filter: Filter,
    /// Of each snapshot only what lies at these paths, in those that have them; empty for all of it.
    pub paths: Vec<Vec<u8>>,
}

/// What would become free. Sizes are bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Report {
    /// Snapshots of which something was meant.
    pub snapshots: u64,
    /// Chunks that nothing else needs.
    pub chunks: u64,
    /// Their length before compression.
    pub plain: u64,
    /// Their share of what is stored.
    pub stored: u64,
    /// Packs in which nothing else is needed.
    pub packs: Sum,
    /// What a prune wins in all when it rewrites every pack that is partly unused: these packs, and about what is stored for the
    /// chunks in others.
    pub freed: u64,
    /// What nothing needs even now, and a prune would free without this.
    pub unneeded: u64,
}

/// Works it out.
///
/// # Errors
/// As [`select::argument`] for what is named; [`Error::NotFound`] when the paths are in none of the snapshots; anything of a live
/// snapshot that cannot be read; [`Error::Interrupted`].
pub fn run(repository: &Repository, wanted: &Wanted, pack_bytes: u64, monitor: &dyn Monitor) -> Result<Report> {
    // What only a newer state needs would be called free.
    repository.require_newest()?;
    let cuts = cuts(repository, wanted)?;
    monitor.phase(Phase::Mark);
    let table = ChunkTable::read(repository)?;
    let mut needed = Needed::new(repository);
    needed.snapshots_without(&cuts, &table, monitor)?;
    let limits = Limits { max_unused: MaxUnused::Bytes(0), max_repack: None, pack_bytes };
    let (others, before) = (table.needed(), table.kept().0);
    let without = decide(repository, &table, &before, &limits)?;
    needed.snapshots(&table, monitor)?;
    let (kept, _) = table.kept();
    let with = decide(repository, &table, &kept, &limits)?;
    let chunks = add_up(repository, &table.since(&others, &kept))?;
    let is_dead = |plan: &Plan, id: &ObjectId| plan.dead.iter().any(|pack| pack.id == *id);
    Ok(Report {
        snapshots: cuts.len() as u64,
        chunks: chunks.chunks,
        plain: chunks.plain,
        stored: chunks.stored,
        packs: sum(without.dead.iter().filter(|pack| !is_dead(&with, &pack.id))),
        freed: without.freed().saturating_sub(with.freed()),
        unneeded: with.freed(),
    })
}

/// What is taken away from which snapshot.
fn cuts(repository: &Repository, wanted: &Wanted) -> Result<BTreeMap<ObjectId, Cut>> {
    let mut parts: Vec<(Chosen, Vec<u8>)> = Vec::new();
    if wanted.snapshots.is_empty() {
        let selection = select::all(repository, &wanted.filter)?;
        // Which of the others need what it needs cannot be determined either.
        if let Some((_, error)) = selection.damaged.into_iter().next() {
            return Err(error.into());
        }
        parts.extend(selection.chosen.into_iter().map(|chosen| (chosen, b"/".to_vec())));
    }
    for argument in &wanted.snapshots {
        let (chosen, found) = select::argument(repository, argument, &wanted.filter)?;
        parts.push((chosen, found.path));
    }
    let mut cuts: BTreeMap<ObjectId, Cut> = BTreeMap::new();
    let mut add = |id: ObjectId, path: &[u8]| {
        let names = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty());
        cuts.entry(id).or_default().add(names);
    };
    for (chosen, part) in &parts {
        if wanted.paths.is_empty() {
            add(chosen.id, part);
        }
        for path in &wanted.paths {
            if let Some(found) = find_path_if_there(repository, chosen, path)? {
                add(chosen.id, &found.path);
            }
        }
    }
    match wanted.paths.first() {
        Some(path) if cuts.is_empty() => {
            Err(Error::NotFound(format!("no {} in any of the {} snapshots meant", escape(path), parts.len())))
        }
        _ => Ok(cuts),
    }
}
