//! Everything but trees and the packs' contents: heads, key slots, segments, snapshots, and that every live pack is
//! there with its length. One listing a folder.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use rayon::prelude::*;

use super::places::{Bad, Places};
use super::trees::reason;
use super::{Finding, Remedy, read_twice};
use crate::base::id::ObjectId;
use crate::base::time::Time;
use crate::codec::head::{self, Head};
use crate::codec::live_state::MarkedKind;
use crate::codec::snapshot::Snapshot;
use crate::ops::order::{Order, Stamp};
use crate::ops::{Error, Monitor, Result};
use crate::repository::chain::{self, HEAD_BYTES_MAX, Tip};
use crate::repository::sweep::HEADS_KEPT;
use crate::repository::{Repository, index};
use crate::storage::{ErrorKind, Folder, ObjectName};

/// Segments that are open at the same time, at most.
const SEGMENTS_AT_ONCE: usize = 8;
/// Heads that are read at the same time, at most: one may have 64 MiB.
const HEADS_AT_ONCE: usize = 4;
/// Strange names that are told one by one.
const NAMES_SHOWN: usize = 5;

/// What was found on the way.
pub(super) struct Structure {
    pub findings: Vec<Finding>,
    pub notes: Vec<String>,
    pub places: Places,
    /// Packs that are missing.
    pub bad: Bad,
    pub missing: BTreeSet<u32>,
    /// Packs that have another length than their segments say.
    pub wrong_length: BTreeSet<u32>,
    /// What is wrong with which pack, by number.
    pub packs: BTreeMap<u32, Vec<String>>,
    pub snapshots: Vec<(ObjectId, Snapshot)>,
    /// Packs that no segment lists, with their length in bytes.
    pub orphans: Vec<(ObjectId, u64)>,
    pub broken_segments: usize,
    /// Segments that could not be read by this process now.
    pub unread_segments: usize,
    /// Packs of which it is not known whether they are there.
    pub unread: BTreeSet<u32>,
}

/// Checks what `tip` says.
pub(super) fn check(repository: &Repository, tip: &Tip, monitor: &dyn Monitor) -> Result<Structure> {
    let mut this = Structure {
        findings: Vec::new(),
        notes: Vec::new(),
        places: Places::default(),
        bad: Bad::default(),
        missing: BTreeSet::new(),
        wrong_length: BTreeSet::new(),
        packs: BTreeMap::new(),
        snapshots: Vec::new(),
        orphans: Vec::new(),
        broken_segments: 0,
        unread_segments: 0,
        unread: BTreeSet::new(),
    };
    let gone = this.heads(repository, tip)?;
    this.slots(repository)?;
    this.segments(repository, tip, monitor)?;
    this.snapshots(repository, tip)?;
    let listed = repository.storage().list(Folder::Packs).map_err(crate::repository::Error::from)?;
    // Whatever was published, marked or swept while this check ran is no damage.
    let later = newest(repository, tip);
    this.gone_heads(&later, &gone);
    let there = listed.into_iter().filter_map(|found| Some((found.name.id()?, found.length))).collect();
    this.packs(repository, tip, &later, there)?;
    this.others(repository, tip, &later)?;
    Ok(this)
}

impl Structure {
    fn finding(&mut self, message: String, next: Remedy) {
        self.findings.push(Finding::new(message, next));
    }

    /// What concerns one object: damage, or that this process cannot read it now, which is no damage. Absent objects that
    /// the newest head does not name any more are nothing.
    ///
    /// # Errors
    /// Nothing more can be read at all.
    fn object(
        &mut self,
        (name, error): (ObjectName, crate::repository::Error),
        is_needed: impl Fn() -> bool,
        damage: impl FnOnce(&str) -> (String, Remedy),
    ) -> Result<()> {
        if error.is_unavailable() {
            return Err(error.into());
        }
        if error.is_unreadable() {
            self.findings.push(Finding::unread(&name, &error));
            return Ok(());
        }
        if is_absent(&error) && !is_needed() {
            self.notes.push(format!("{name} was removed while this check ran, and nothing needs it any more"));
            return Ok(());
        }
        let (message, next) = damage(&reason(&error));
        self.finding(message, next);
        Ok(())
    }

    /// Heads that were listed and were gone a moment later: a prune removes old ones.
    fn gone_heads(&mut self, later: &Tip, gone: &[ObjectName]) {
        let needed = [chain::name_of(later.reference()), chain::name_of(later.head.checkpoint())];
        for name in gone.iter().filter(|name| needed.contains(name)) {
            self.finding(format!("missing: {name}: it is not there, and what is live depends on it"), Remedy::CopyBack);
        }
    }

    /// The heads that were gone when they were to be read.
    fn heads(&mut self, repository: &Repository, tip: &Tip) -> Result<Vec<ObjectName>> {
        let storage = repository.storage();
        let mut names: Vec<ObjectName> = storage
            .list(Folder::Heads)
            .map_err(crate::repository::Error::from)?
            .into_iter()
            .map(|listed| listed.name)
            .collect();
        names.sort_unstable();
        let key = &repository.config().verifying_key;
        let read = |name: &ObjectName| Ok((*name, read_head(repository, key, name)?));
        let mut gone = Vec::new();
        let newest = tip.reference();
        // The valid head before the one that is looked at: of all others nothing is kept.
        let mut previous: Option<Head> = None;
        let mut present: BTreeSet<u64> = BTreeSet::new();
        for batch in names.chunks(HEADS_AT_ONCE) {
            let parsed: Vec<(ObjectName, HeadFile)> = batch.par_iter().map(read).collect::<Result<_>>()?;
            for (name, file) in parsed {
                let ObjectName::Head { generation, .. } = name else { continue };
                if !matches!(file, HeadFile::Junk(_)) {
                    present.insert(generation);
                }
                match file {
                    HeadFile::Valid(head) => {
                        // A newer one was published after this check began.
                        if generation < newest.generation && !tip.state.is_ancestor(generation, &head.reference().id) {
                            let message = format!("fork: {name} is signed, and the newest head does not build on it");
                            self.finding(
                                message,
                                Remedy::ByHand(
                                    "keep both copies, and find out which machine wrote to a copy of this repository",
                                ),
                            );
                        }
                        if let Some(before) = previous.as_ref().filter(|before| before.generation() + 1 == generation)
                            && generation <= newest.generation
                            && let Err(error) = head::check_succession(before, &head)
                        {
                            self.finding(format!("damaged: {name}: {}", error.reason), Remedy::CopyBack);
                        }
                        previous = Some(*head);
                    }
                    HeadFile::Damaged(why) => {
                        let what = if generation > newest.generation {
                            "it is newer than the newest head that can be read: snapshots may be missing from what is shown"
                        } else {
                            "it is an older one: what is live now does not depend on it"
                        };
                        self.finding(format!("damaged: {name}: {why}; {what}"), Remedy::CopyBack);
                    }
                    HeadFile::Unread(error) => self.findings.push(Finding::unread(&name, &error)),
                    HeadFile::Gone => gone.push(name),
                    HeadFile::Junk(why) => {
                        self.notes.push(format!("{name} is not a head of this repository ({why}) and is ignored"));
                    }
                }
            }
        }
        if let (Some((name, checkpoint)), Err(_)) = (tip.incomplete, repository.require_newest()) {
            let message = format!(
                "damaged: {name}: its checkpoint {checkpoint} is not there; it is newer than the newest head that can be read: snapshots may be missing from what is shown"
            );
            self.finding(message, Remedy::CopyBack);
        }
        let first =
            present.iter().copied().find(|generation| generation.saturating_add(HEADS_KEPT) > newest.generation);
        for generation in first.unwrap_or(newest.generation)..newest.generation {
            if !present.contains(&generation) {
                let known = usize::try_from(generation - 1).ok().and_then(|index| tip.state.ancestors.get(index));
                let start: String = known.into_iter().flatten().map(|byte| format!("{byte:02x}")).collect();
                self.notes.push(format!(
                    "heads/{generation:016x}-{start}… is not there: an older one, on which nothing that is live depends; a mirror \
                     has the newest only"
                ));
            }
        }
        Ok(gone)
    }

    fn slots(&mut self, repository: &Repository) -> Result<()> {
        let tip = repository.tip();
        let ids: Vec<ObjectId> = tip.state.slots.iter().copied().collect();
        for id in ids {
            let Err(error) = read_twice(|| repository.slot_info(id).map(drop)) else { continue };
            let is_needed = || newest(repository, &tip).state.slots.contains(&id);
            self.object((ObjectName::Key(id), error), is_needed, |why| {
                let name = ObjectName::Key(id);
                let message = format!("damaged: {name}: {why}: what opened this key slot opens the repository no more");
                (message, Remedy::ReplaceKey)
            })?;
        }
        Ok(())
    }

    fn segments(&mut self, repository: &Repository, tip: &Tip, monitor: &dyn Monitor) -> Result<()> {
        let (storage, keys) = (repository.storage(), repository.keys());
        let generation = tip.reference().generation;
        let all: Vec<(ObjectId, u64)> = tip.state.segments.iter().map(|(id, length)| (*id, *length)).collect();
        monitor.expect(all.len() as u64, 0, false);
        for batch in all.chunks(SEGMENTS_AT_ONCE) {
            if monitor.interrupted() {
                return Err(Error::Interrupted);
            }
            let read: Vec<_> = batch
                .par_iter()
                .map(|(id, length)| (*id, read_twice(|| index::read_segment(storage, keys, *id, *length, generation))))
                .collect();
            for (id, segment) in read {
                match segment {
                    Ok(segment) => self.places.add(id, &segment, |pack| tip.state.keeps(pack)),
                    Err(error) => {
                        let is_unread = error.is_unreadable();
                        self.unread_segments += usize::from(is_unread);
                        self.broken_segments += usize::from(!is_unread);
                        let name = ObjectName::Segment(id);
                        let is_needed = || newest(repository, tip).state.segments.contains_key(&id);
                        self.object((name, error), is_needed, |why| {
                            let message = format!("damaged: {name}: {why}; what its packs hold cannot be found");
                            (message, Remedy::RepairIndex)
                        })?;
                    }
                }
            }
            monitor.advance(batch.len() as u64, 0);
        }
        self.places.finish();
        Ok(())
    }

    fn snapshots(&mut self, repository: &Repository, tip: &Tip) -> Result<()> {
        let ids: Vec<ObjectId> = tip.state.snapshots.keys().copied().collect();
        let read: Vec<_> = ids.into_par_iter().map(|id| (id, read_twice(|| repository.snapshot(id)))).collect();
        for (id, snapshot) in read {
            match snapshot {
                Ok(snapshot) => self.snapshots.push((id, snapshot)),
                Err(error) => {
                    let name = ObjectName::Snapshot(id);
                    let is_needed = || newest(repository, tip).state.snapshots.contains_key(&id);
                    self.object((name, error), is_needed, |why| {
                        (format!("damaged: {name}: {why}; this one snapshot cannot be restored"), Remedy::CopyBack)
                    })?;
                }
            }
        }
        // Newest first: what is said about damage names the snapshots that are wanted most.
        let stamp = |(id, snapshot): &(ObjectId, Snapshot)| Stamp::of(&tip.state, *id, snapshot);
        let order = Order::new(&self.snapshots.iter().map(stamp).collect::<Vec<Stamp>>(), Time::now());
        self.snapshots.sort_by_key(|(id, _)| std::cmp::Reverse(order.position(id)));
        Ok(())
    }

    fn packs(
        &mut self,
        repository: &Repository,
        tip: &Tip,
        later: &Tip,
        mut there: HashMap<ObjectId, u64>,
    ) -> Result<()> {
        for (number, pack) in (0..).zip(self.places.packs()) {
            // What the listing does not have is asked for by its name before it is called missing.
            if !there.contains_key(&pack.id) && later.state.keeps(&pack.id) {
                match repository.storage().length(&ObjectName::Pack(pack.id)) {
                    Ok(length) => drop(there.insert(pack.id, length)),
                    Err(error) if error.kind.is_about_object() => {}
                    Err(error) if error.kind.is_general() => return Err(crate::repository::Error::from(error).into()),
                    Err(error) => {
                        self.bad.add_pack(number);
                        self.unread.insert(number);
                        self.packs.entry(number).or_default().push(reason(&error.into()));
                        continue;
                    }
                }
            }
            let wrong = match there.get(&pack.id) {
                Some(found) if *found == pack.length => continue,
                Some(found) => {
                    self.wrong_length.insert(number);
                    format!("it has {found} bytes, its segment says {}", pack.length)
                }
                None if !later.state.keeps(&pack.id) => continue,
                None => {
                    self.bad.add_pack(number);
                    self.missing.insert(number);
                    "it is not there".to_owned()
                }
            };
            self.packs.entry(number).or_default().push(wrong);
        }
        if later.reference() != tip.reference() {
            self.notes.push(format!(
                "generation {} was published while this check ran; generation {} was checked",
                later.reference().generation,
                tip.reference().generation
            ));
            return Ok(());
        }
        let known = |id: &ObjectId| self.places.number(id).is_some() || !tip.state.keeps(id);
        self.orphans = there.iter().filter(|(id, _)| !known(id)).map(|(id, length)| (*id, *length)).collect();
        self.orphans.sort_unstable();
        if self.broken_segments == 0 && !self.orphans.is_empty() {
            self.notes.push(format!(
                "{} in no segment, left by a backup that was interrupted (or is running now): the next backup takes over \
                 what is whole",
                counted(self.orphans.len(), "pack is", "packs are")
            ));
        }
        let kept =
            tip.state.marked.iter().filter(|(id, mark)| mark.kind == MarkedKind::Pack && !there.contains_key(id));
        let gone = kept.count();
        if gone > 0 {
            self.notes.push(format!(
                "{} not there, and cannot be brought back to life without",
                counted(gone, "marked pack is", "marked packs are")
            ));
        }
        Ok(())
    }

    /// Objects that no head names, and whatever else lies in the repository's folders.
    fn others(&mut self, repository: &Repository, tip: &Tip, later: &Tip) -> Result<()> {
        let storage = repository.storage();
        let known = |id: &ObjectId| [tip, later].iter().any(|tip| tip.state.lists(id) || !tip.state.keeps(id));
        for (folder, one, many) in [
            (Folder::Keys, "key slot is", "key slots are"),
            (Folder::Index, "segment is", "segments are"),
            (Folder::Snapshots, "snapshot is", "snapshots are"),
        ] {
            let listed = storage.list(folder).map_err(crate::repository::Error::from)?;
            let unknown = listed.iter().filter_map(|found| found.name.id()).filter(|id| !known(id)).count();
            if unknown > 0 {
                self.notes.push(format!(
                    "{} named by no head: removed, or left by a command that was interrupted; not used",
                    counted(unknown, one, many)
                ));
            }
        }
        for folder in Folder::ALL {
            let strays = storage.strays(folder).map_err(crate::repository::Error::from)?;
            for stray in strays.iter().take(NAMES_SHOWN) {
                self.notes.push(format!("{stray} is not part of the repository"));
            }
            if let Some(more) = strays.len().checked_sub(NAMES_SHOWN).filter(|more| *more > 0) {
                self.notes.push(format!("{}: {more} more files are not part of the repository", folder.as_str()));
            }
        }
        Ok(())
    }
}

/// A number with its noun and verb.
pub(super) fn counted(number: usize, one: &str, many: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {many}") }
}

/// What a file under `heads/` turned out to be.
enum HeadFile {
    Valid(Box<Head>),
    Damaged(String),
    Junk(String),
    /// This process cannot read it now.
    Unread(crate::repository::Error),
    /// It was listed, and is not there any more.
    Gone,
}

/// The newest head now; the one that is checked when it cannot be determined.
fn newest(repository: &Repository, tip: &Tip) -> Tip {
    repository.refresh().map_or_else(|_| tip.clone(), |()| repository.tip())
}

fn is_absent(error: &crate::repository::Error) -> bool {
    use crate::repository::Error as E;
    matches!(error, E::Missing { .. }) || matches!(error, E::Storage(error) if error.kind == ErrorKind::Absent)
}

/// What looks damaged is read once more before it is called so.
fn read_head(repository: &Repository, key: &[u8; 32], name: &ObjectName) -> Result<HeadFile> {
    let read = || repository.storage().read(name, HEAD_BYTES_MAX).map_err(crate::repository::Error::from);
    let judge = || match read_twice(read) {
        Ok::<Vec<u8>, _>(bytes) => Ok(judge_head(repository, key, name, &bytes)),
        Err(error) if error.is_unavailable() => Err(error.into()),
        Err(error) if is_absent(&error) => Ok(HeadFile::Gone),
        Err(error) if error.is_unreadable() => Ok(HeadFile::Unread(error)),
        Err(error) => Ok(HeadFile::Damaged(reason(&error))),
    };
    match judge()? {
        HeadFile::Damaged(_) => judge(),
        file => Ok(file),
    }
}

fn judge_head(repository: &Repository, key: &[u8; 32], name: &ObjectName, bytes: &[u8]) -> HeadFile {
    if Some(ObjectId::of(bytes)) != name.id() {
        return HeadFile::Damaged("its bytes have another hash than its name says".to_owned());
    }
    if let Err(error) = Head::verify(bytes, key, repository.id()) {
        let why = error.reason.to_string();
        return if error.reason.needs_newer_program() { HeadFile::Damaged(why) } else { HeadFile::Junk(why) };
    }
    match Head::parse(bytes, key, repository.id()) {
        Ok(head) if chain::name_of(head.reference()) == *name => HeadFile::Valid(Box::new(head)),
        Ok(_) => HeadFile::Junk("its name says another generation".to_owned()),
        Err(error) => HeadFile::Damaged(error.reason.to_string()),
    }
}
