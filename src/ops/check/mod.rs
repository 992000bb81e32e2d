//! `check`: is everything there that the newest head promises, and is it right?
//!
//! Three stages: the structure (heads, key slots, segments, snapshots, and one listing of the packs), the trees (every
//! distinct listing once, every chunk of every file), and the packs' contents when they are asked for. Nothing but
//! segments is believed about where a chunk lies; the cache is compared with them and thrown away when it disagrees.
//!
//! A check takes no lock and writes nothing into the repository. It checks the head that was the newest when it began:
//! what a backup publishes meanwhile is no damage, and neither is what it has not published yet.

mod data;
mod digests;
mod log;
mod places;
mod remedy;
mod structure;
#[cfg(test)]
mod tests;
mod trees;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::{Duration, Instant};

pub(super) use self::data::verify as verify_pack;
pub use self::data::{Data, PackDamage};
use self::digests::{Alone, Gathering};
use self::places::Places;
pub use self::remedy::Remedy;
pub(super) use self::trees::reason;
use self::trees::{Cause, Source, Trees};
use super::tree_depth::too_deep;
use super::{Error, Monitor, Phase, Result};
use crate::base::escape::escape;
use crate::base::id::ObjectId;
use crate::codec::chunk_list::ChunkList;
use crate::codec::snapshot::{Outcome, Snapshot};
use crate::codec::tree::Content;
use crate::repository::cache::{Cache, CacheError};
use crate::repository::chain::Tip;
use crate::repository::list_reader::Problems;
use crate::repository::{self, Repository, index, pack_reader};
use crate::storage::ObjectName;

/// How often a check begins anew that found damage while heads were published.
const ROUNDS_MAX: usize = 3;

/// Paths that a finding names.
const PATHS_SHOWN: usize = 5;
/// Paths that a report names.
const ALL_PATHS_SHOWN: usize = 20;
/// Chunks that are looked up in the cache when not all are.
const CACHE_SAMPLE: usize = 20_000;

/// What to check.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Which packs to read.
    pub data: Data,
    /// Decides a choice by chance: the same seed, the same packs.
    pub seed: u64,
    /// Compare every record of the cache with the segments, not only a sample.
    pub whole_cache: bool,
}

/// Which files a finding keeps from being restored.
#[derive(Debug, Clone, Default)]
pub struct Affected {
    /// How many paths, each counted once however many snapshots have it.
    pub paths: u64,
    /// How many snapshots.
    pub snapshots: u64,
    /// The first ones, with a snapshot each. Paths are raw bytes: whoever shows them escapes them.
    pub first: Vec<(Vec<u8>, ObjectId)>,
}

/// Something is wrong.
#[derive(Debug, Clone)]
pub struct Finding {
    /// The object, and what was expected of it. Safe to show.
    pub message: String,
    /// What to do next.
    pub next: Remedy,
    /// The pack it is about.
    pub pack: Option<ObjectId>,
    /// What it keeps from being restored; none when that was not asked (a key slot).
    pub affected: Option<Affected>,
    /// False when every byte is as it was written: no other copy is better, and mirrors need not be kept from it.
    pub is_damage: bool,
    /// It could not be read by this process now: nothing is known of it.
    pub is_unread: bool,
}

impl Finding {
    fn new(message: String, next: Remedy) -> Self {
        Self { message, next, pack: None, affected: None, is_damage: true, is_unread: false }
    }

    /// An object that this process cannot read now. That is no damage: another user, or the same one later, may read it.
    fn unread(name: &ObjectName, error: &repository::Error) -> Self {
        let next = if error.is_of_device() { Remedy::LookAtDisk } else { Remedy::CheckAsOwner };
        let message = format!("cannot be read: {name}: {}; nothing is known of its bytes", reason(error));
        Self { is_damage: false, is_unread: true, ..Self::new(message, next) }
    }
}

/// What a check found.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// What is worth knowing and is no damage.
    pub notes: Vec<String>,
    /// Every path of a live snapshot that something keeps from being restored in full. A snapshot that cannot be read itself has a finding of its own.
    pub affected: Affected,
    /// Damaged and missing packs.
    pub broken_packs: Vec<ObjectId>,
    /// `repair index` would help.
    pub repair_index: bool,
    /// `repair packs` would save what can be read of damaged packs, and let backups go on without missing ones.
    pub repair_packs: bool,
    /// `repair snapshots` would make snapshots without what is lost.
    pub repair_snapshots: bool,
    /// Generation of the head that was checked.
    pub generation: u64,
    /// Live snapshots that were read.
    pub snapshots: u64,
    /// Distinct listings that were read.
    pub trees: u64,
    /// Live packs.
    pub packs: u64,
    /// Packs that were read back.
    pub packs_read: u64,
    /// Their length, in bytes.
    pub bytes_read: u64,
    /// Distinct contents of files whose digest was compared; a content of one chunk needs none.
    pub digests_compared: u64,
    /// Those whose digest was not, because not all of their packs were read.
    pub digests_not_compared: u64,
    /// How long it took.
    pub took: Duration,
}

/// Paths that one cause affects, as they come in.
#[derive(Default)]
struct Impact {
    paths: HashSet<u64>,
    snapshots: HashSet<ObjectId>,
    first: Vec<(Vec<u8>, ObjectId)>,
}

impl Report {
    /// The first finding that is damage.
    #[must_use]
    pub fn damage(&self) -> Option<&Finding> {
        self.findings.iter().find(|finding| finding.is_damage)
    }

    /// True when everything that was to be looked at could be read.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        !self.findings.iter().any(|finding| finding.is_unread)
    }
}

impl Impact {
    fn add(&mut self, snapshot: ObjectId, path: &[u8]) {
        self.add_showing(PATHS_SHOWN, snapshot, path);
    }

    fn add_showing(&mut self, shown: usize, snapshot: ObjectId, path: &[u8]) {
        let hash = blake3::hash(path);
        let is_new = hash.as_bytes().first_chunk().is_none_or(|first| self.paths.insert(u64::from_le_bytes(*first)));
        self.snapshots.insert(snapshot);
        if is_new && self.first.len() < shown {
            self.first.push((path.to_vec(), snapshot));
        }
    }

    fn affected(self) -> Affected {
        Affected { paths: self.paths.len() as u64, snapshots: self.snapshots.len() as u64, first: self.first }
    }
}

/// Checks the repository.
///
/// # Errors
/// [`Error::Interrupted`]; [`Error::Repository`] when a folder cannot be listed at all. Damage is no error: it is in the
/// report.
pub fn run(repository: &Repository, options: &Options, monitor: &dyn Monitor) -> Result<Report> {
    let begun = Instant::now();
    let mut round = 1;
    loop {
        let checked = repository.tip().reference();
        let mut report = check_once(repository, options, monitor)?;
        report.took = begun.elapsed();
        // A reader that may not pin what it reads can meet what a prune removes meanwhile: nobody knows then what is damage.
        let has_moved = repository.refresh().is_ok() && repository.tip().reference() != checked;
        if report.damage().is_none() || !has_moved || round == ROUNDS_MAX {
            return Ok(report);
        }
        round += 1;
    }
}

/// What looks damaged is read once more before it is called so.
fn read_twice<T>(read: impl Fn() -> repository::Result<T>) -> repository::Result<T> {
    match read() {
        Err(error) if !error.is_unavailable() => read(),
        other => other,
    }
}

fn check_once(repository: &Repository, options: &Options, monitor: &dyn Monitor) -> Result<Report> {
    monitor.phase(Phase::CheckStructure);
    let tip = repository.tip();
    let mut found = structure::check(repository, &tip, monitor)?;
    let mut report = Report {
        generation: tip.reference().generation,
        snapshots: found.snapshots.len() as u64,
        packs: found.places.packs().len() as u64,
        ..Report::default()
    };
    report.notes.extend(compare_cache(repository, &tip, &found.places, options.whole_cache));

    monitor.phase(Phase::CheckTrees);
    let places = std::mem::take(&mut found.places);
    let roots: Vec<&ChunkList> = found.snapshots.iter().map(|(_, snapshot)| &snapshot.root).collect();
    let mut source = Source::new(repository, &places, found.bad.clone());
    let gathering = Gathering::default();
    let is_read = options.data != Data::None;
    let gather = |content: &Content| gathering.meet(&source, content);
    let mut trees = Trees::read(&source, &roots, if is_read { &gather } else { &|_| () }, monitor)?;
    report.trees = trees.len() as u64;
    let mut impacts: BTreeMap<Cause, Impact> = BTreeMap::new();
    check_problems(&source, &found.snapshots, &mut impacts);
    log::check(&source, &found.snapshots, &mut |cause, id| {
        impacts.entry(cause).or_default().add(id, b"(the log of deletions)");
    });
    // What was broken off is no cause.
    if monitor.interrupted() || repository.is_ended() {
        return Err(Error::Interrupted);
    }
    let mut grew = false;
    for ((pack, block), failure) in source.failures() {
        grew |= found.bad.add_block(pack, block);
        let messages = found.packs.entry(pack).or_default();
        if messages.is_empty() {
            messages.push(format!("block {} {}", u32::from(block) + 1, failure.why));
            if failure.is_unread {
                found.unread.insert(pack);
            }
        } else if !failure.is_unread && found.unread.remove(&pack) {
            *messages = vec![format!("block {} {}", u32::from(block) + 1, failure.why)];
        }
    }

    // Packs of a wrong length are read whatever was asked for: most of their blocks may be good.
    let mut chosen = data::choose(&places, options.data, options.seed);
    chosen.extend(&found.wrong_length);
    chosen.retain(|number| !found.missing.contains(number));
    chosen.sort_unstable();
    chosen.dedup();
    let is_chosen = |number: u32| chosen.binary_search(&number).is_ok();
    let mut digests = gathering.finish(options.data == Data::All, is_chosen);
    if !chosen.is_empty() {
        monitor.phase(Phase::CheckData);
        let lengths = chosen.iter().filter_map(|number| places.pack(*number)).map(|pack| pack.length);
        (report.packs_read, report.bytes_read) = (chosen.len() as u64, lengths.sum());
        for (number, damage) in data::check(repository, &tip, &places, &chosen, &mut digests, monitor)? {
            for block in &damage.blocks {
                grew |= found.bad.add_block(number, *block);
            }
            if damage.has_passed {
                if let Some(pack) = places.pack(number) {
                    report.notes.push(format!(
                        "{} was wrong when it was read first, and right the second time: the memory, the disk or a cable of this \
                         machine may be failing",
                        ObjectName::Pack(pack.id)
                    ));
                }
                continue;
            }
            if damage.is_damage {
                found.unread.remove(&number);
            } else if !found.packs.contains_key(&number) {
                found.unread.insert(number);
            }
            let messages = found.packs.entry(number).or_default();
            if found.wrong_length.contains(&number) {
                messages.extend(damage.messages);
            } else {
                *messages = damage.messages;
            }
        }
    }
    if options.data != Data::None && found.broken_segments > 0 {
        found.findings.extend(check_orphans(repository, &found.orphans, monitor)?);
    }
    let left = digests.left();
    if !left.is_empty() {
        monitor.expect(left.len() as u64, left.values().sum(), true);
    }
    let alone = Alone::new(left, monitor);
    if !alone.is_done() {
        Trees::read(&source, &roots, &|content| alone.meet(&source, content), &super::Silent)?;
        if monitor.interrupted() {
            return Err(Error::Interrupted);
        }
    }
    let compared = digests.finish(&alone);
    (report.digests_compared, report.digests_not_compared) = (compared.compared, compared.not_compared);
    grew |= found.bad.add_contents(&compared.wrong);
    if grew {
        // More is known to be unreadable than when the trees were read: see again what it affects.
        source = Source::new(repository, &places, found.bad.clone());
        trees = Trees::read(&source, &roots, &|_| (), &super::Silent)?;
    }
    let mut all = Impact::default();
    for (id, snapshot) in &found.snapshots {
        trees::affected(&source, &trees, (*id, &snapshot.root, snapshot.counts), &mut |cause, snapshot, path| {
            impacts.entry(cause.clone()).or_default().add(snapshot, path);
            all.add_showing(ALL_PATHS_SHOWN, snapshot, path);
        });
    }
    report.affected = all.affected();
    report.findings = found.findings;
    report.notes.extend(found.notes);
    check_depths(&trees, &found.snapshots, &mut report);
    check_counts(&trees, &found.snapshots, &mut report);
    report_packs(&places, found.packs, (&found.missing, &found.unread), &mut impacts, &mut report);
    report_causes(impacts, (found.broken_segments, found.unread_segments), &mut report);
    let next = || report.findings.iter().map(|finding| finding.next);
    let (index, packs) = (next().any(|next| next.repairs_index()), next().any(|next| next.repairs_packs()));
    let snapshots = next().any(|next| next.repairs_snapshots());
    (report.repair_index, report.repair_packs, report.repair_snapshots) = (index, packs, snapshots);
    Ok(report)
}

/// Reads the list of problems of every snapshot.
fn check_problems(source: &Source<'_>, snapshots: &[(ObjectId, Snapshot)], impacts: &mut BTreeMap<Cause, Impact>) {
    for (id, snapshot) in snapshots {
        let path = b"(the list of what could not be saved)";
        let mut count = 0;
        let mut causes = Vec::new();
        for problem in Problems::of(source, snapshot) {
            match problem {
                Ok(_) => count += 1,
                Err(error) => causes = trees::listing_causes(source, &error),
            }
        }
        if causes.is_empty() && count != snapshot.problem_count {
            let why = format!("the list of problems has {count} records, the snapshot says {}", snapshot.problem_count);
            causes.push(Cause::Refused(why));
        }
        for cause in causes {
            impacts.entry(cause).or_default().add(*id, path);
        }
    }
}

/// No snapshot has a directory that is deeper than a tree may be. Every byte of such a one is as it was written, on every mirror
/// too: it is refused, and it is not damage.
fn check_depths(trees: &Trees, snapshots: &[(ObjectId, Snapshot)], report: &mut Report) {
    for (id, _) in snapshots.iter().filter(|(_, snapshot)| trees.is_too_deep(&snapshot.root)) {
        let message =
            format!("refused: {}: a directory is too deep; {}", ObjectName::Snapshot(*id), too_deep("the snapshot"));
        report.findings.push(Finding { is_damage: false, ..Finding::new(message, Remedy::Forget(*id)) });
    }
}

/// Every snapshot holds what it says it holds.
fn check_counts(trees: &Trees, snapshots: &[(ObjectId, Snapshot)], report: &mut Report) {
    for (id, snapshot) in snapshots {
        if trees.is_tainted(&snapshot.root) {
            continue;
        }
        let Some(total) = trees.total(&snapshot.root) else { continue };
        let said = snapshot.counts;
        // What a partial snapshot could not store, it may have counted.
        let fits = total.entries() <= said.entries() && total.bytes <= said.bytes;
        if total != said && !(snapshot.outcome == Outcome::Partial && fits) {
            report.findings.push(Finding::new(
                format!(
                    "refused: {}: it says {} entries and {} bytes, its tree has {} and {}",
                    ObjectName::Snapshot(*id),
                    said.entries(),
                    said.bytes,
                    total.entries(),
                    total.bytes
                ),
                Remedy::ByHand(
                    "whoever wrote it had a key of this repository: restore what you need from it, and make a new backup",
                ),
            ));
        }
    }
}

fn report_packs(
    places: &Places,
    packs: BTreeMap<u32, Vec<String>>,
    (missing, unread): (&BTreeSet<u32>, &BTreeSet<u32>),
    impacts: &mut BTreeMap<Cause, Impact>,
    report: &mut Report,
) {
    let hit = impacts.keys().filter_map(|cause| if let Cause::Pack(number) = cause { Some(*number) } else { None });
    let numbers: BTreeSet<u32> = packs.keys().copied().chain(hit).collect();
    for number in numbers {
        let Some(pack) = places.pack(number) else { continue };
        let messages = packs.get(&number).map(Vec::as_slice).unwrap_or_default();
        let gone = missing.contains(&number);
        let why = match messages {
            [] => "it cannot be read".to_owned(),
            [first] => first.clone(),
            [first, rest @ ..] => format!("{first}, and {} more", rest.len()),
        };
        let name = ObjectName::Pack(pack.id);
        let message = if gone { format!("missing: {name}: {why}") } else { format!("damaged: {name}: {why}") };
        let affected = impacts.remove(&Cause::Pack(number)).map(Impact::affected).unwrap_or_default();
        if unread.contains(&number) {
            let message = format!("cannot be read: {name}: {why}; nothing is known of its bytes");
            let finding = Finding { is_damage: false, is_unread: true, ..Finding::new(message, Remedy::LookAtFiles) };
            report.findings.push(Finding { pack: Some(pack.id), affected: Some(affected), ..finding });
            continue;
        }
        report.broken_packs.push(pack.id);
        let pack = Some(pack.id);
        report.findings.push(Finding { pack, affected: Some(affected), ..Finding::new(message, Remedy::RepairPacks) });
    }
}

fn report_causes(impacts: BTreeMap<Cause, Impact>, (broken, unread): (usize, usize), report: &mut Report) {
    for (cause, impact) in impacts {
        let (message, next) = match cause {
            Cause::ChunkMissing if broken == 0 && unread > 0 => {
                let message = "not found: chunks that may be listed in a segment that cannot be read now".to_owned();
                let finding = Finding { is_damage: false, is_unread: true, ..Finding::new(message, Remedy::LookAtFiles) };
                report.findings.push(Finding { affected: Some(impact.affected()), ..finding });
                continue;
            }
            Cause::ChunkMissing if broken > 0 => (
                "missing: chunks that are in no segment that can be read".to_owned(),
                Remedy::ReadPacks,
            ),
            Cause::ChunkMissing => (
                "missing: chunks that are in no live pack".to_owned(),
                Remedy::BringChunksBack,
            ),
            Cause::Digest => (
                "damaged: files whose chunks are all right, and whose digest is not: together they are not what was backed up"
                    .to_owned(),
                Remedy::StoreAgain,
            ),
            Cause::Refused(why) => (
                format!("refused: {why}"),
                Remedy::ByHand(
                    "whoever wrote it had a key of this repository: restore the other files, and make a new backup",
                ),
            ),
            Cause::Pack(_) => continue,
        };
        report.findings.push(Finding { affected: Some(impact.affected()), ..Finding::new(message, next) });
    }
}

/// Checks the packs that no readable segment lists, while a segment is broken: they may be what it listed.
fn check_orphans(repository: &Repository, orphans: &[(ObjectId, u64)], monitor: &dyn Monitor) -> Result<Vec<Finding>> {
    use rayon::prelude::*;
    let examine = |(id, length): &(ObjectId, u64)| {
        if monitor.interrupted() {
            return None;
        }
        let error = read_twice(|| pack_reader::examine(repository, *id, *length)).err()?;
        if error.is_unavailable() {
            return Some(Err(error.into()));
        }
        let name = ObjectName::Pack(*id);
        if error.is_unreadable() {
            return Some(Ok(Finding { pack: Some(*id), ..Finding::unread(&name, &error) }));
        }
        let message = format!("damaged: {name}: {}", reason(&error));
        Some(Ok(Finding { pack: Some(*id), ..Finding::new(message, Remedy::CopyBack) }))
    };
    let findings = orphans.par_iter().filter_map(examine).collect::<Result<Vec<_>>>();
    if monitor.interrupted() { Err(Error::Interrupted) } else { findings }
}

/// Compares the cache with the segments, and makes it again when it disagrees. Says what a person should know.
fn compare_cache(repository: &Repository, tip: &Tip, places: &Places, whole: bool) -> Option<String> {
    let folder = repository.cache_folder()?;
    let why = match Cache::try_open(folder, repository.keys().cache(), repository.id()) {
        Ok(cache) => disagreement(&cache, repository, tip, places, whole)?,
        Err(CacheError::Absent) => return None,
        Err(CacheError::Busy) => return Some("the cache is in use by another process and was not compared".to_owned()),
        Err(error @ CacheError::Io { .. }) => return Some(format!("the cache was not compared: {error}")),
        Err(error) => error.to_string(),
    };
    let why = escape(why.as_bytes());
    Some(match index::rebuild_cache(&repository.sources(tip)) {
        Ok(()) => format!("the cache was wrong and was made again ({why}); no backup is affected by that"),
        Err(error) => format!("the cache is wrong ({why}) and could not be made again: {error}; it may be deleted"),
    })
}

fn disagreement(cache: &Cache, repository: &Repository, tip: &Tip, places: &Places, whole: bool) -> Option<String> {
    let covered: Vec<(&ObjectId, &u64)> =
        tip.state.segments.iter().filter(|(id, _)| cache.stamp().segments.contains(*id)).collect();
    for fact in cache.packs().iter().filter(|fact| tip.state.segments.contains_key(&fact.segment)) {
        match places.number(&fact.id).and_then(|number| places.pack(number)) {
            Some(pack) if pack.length == fact.length && pack.kind.object_kind() as u8 == fact.kind => {}
            None if !tip.state.keeps(&fact.id) => {}
            _ => return Some(format!("it describes pack {} otherwise than the segments", fact.id.short())),
        }
    }
    let step = if whole { 1 } else { (places.len() / CACHE_SAMPLE).max(1) };
    let mut number = 0;
    for (id, length) in covered {
        let generation = tip.reference().generation;
        let Ok(segment) = index::read_segment(repository.storage(), repository.keys(), *id, *length, generation) else {
            continue;
        };
        for pack in segment.packs.iter().filter(|pack| tip.state.keeps(&pack.id)) {
            for chunk in pack.directory.blocks.iter().flat_map(|block| &block.chunks) {
                number += 1;
                if number % step != 0 {
                    continue;
                }
                match cache.lookup(&chunk.id) {
                    // A pack that is gone: its name may have left the list of swept ones.
                    Ok(Some(location)) if places.number(&location.pack).is_none() => {}
                    Ok(Some(location)) if !tip.state.keeps(&location.pack) => {}
                    Ok(Some(location)) => {
                        let same = |record: &places::Record| {
                            places.number(&location.pack) == Some(record.pack)
                                && (record.block, record.offset) == (location.block, location.offset)
                        };
                        if !places.copies(pack.kind, chunk).any(same) {
                            return Some("it finds a chunk where the segments do not".to_owned());
                        }
                    }
                    Ok(None) => return Some("it lacks a chunk that the segments have".to_owned()),
                    Err(CacheError::Io { .. }) => {}
                    Err(error) => return Some(error.to_string()),
                }
            }
        }
    }
    None
}

/// Calls `each` with every path of every live snapshot that needs the pack, whatever state the pack is in.
///
/// # Errors
/// [`Error::NotFound`] when no live pack has this id, [`Error::Invalid`] when several have it; as [`run`].
pub fn needs_pack(
    repository: &Repository,
    prefix: &str,
    monitor: &dyn Monitor,
    each: &mut dyn FnMut(ObjectId, &[u8]),
) -> Result<ObjectId> {
    monitor.phase(Phase::CheckStructure);
    let tip = repository.tip();
    let mut found = structure::check(repository, &tip, monitor)?;
    let places = std::mem::take(&mut found.places);
    let fits = |pack: &&places::LivePack| !prefix.is_empty() && pack.id.to_string().starts_with(prefix);
    let mut packs = places.packs().iter().filter(fits);
    let shown = escape(prefix.as_bytes());
    let pack = match (packs.next(), packs.next()) {
        (Some(pack), None) => pack.id,
        (None, _) => return Err(Error::NotFound(format!("no live pack has an id that begins with {shown}"))),
        (Some(_), Some(_)) => {
            return Err(Error::Invalid(format!(
                "more than one pack has an id that begins with {shown}: type more of it"
            )));
        }
    };
    if let Some(number) = places.number(&pack) {
        found.bad.add_pack(number);
        monitor.phase(Phase::CheckTrees);
        let source = Source::without(repository, &places, found.bad, number);
        let roots: Vec<&ChunkList> = found.snapshots.iter().map(|(_, snapshot)| &snapshot.root).collect();
        let trees = Trees::read(&source, &roots, &|_| (), monitor)?;
        for (id, snapshot) in &found.snapshots {
            let wanted = Cause::Pack(number);
            let snapshot = (*id, &snapshot.root, snapshot.counts);
            trees::affected(&source, &trees, snapshot, &mut |cause, snapshot, path| {
                if *cause == wanted {
                    each(snapshot, path);
                }
            });
        }
    }
    Ok(pack)
}
