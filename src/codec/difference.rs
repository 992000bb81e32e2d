//! How one live state differs from another, and its encoding in a head. format-spec/head.md, "Sections".
//!
//! A head carries the [`Difference`] to its checkpoint's state; a checkpoint carries the difference to the empty one.
//! Lists are strictly ascending, removals apply before additions, empty sections are left out: one encoding each.

use std::collections::{BTreeMap, BTreeSet};

use super::config::CONFIG_BYTES;
use super::live_state::{Ancestor, LiveState, Mark, MarkedKind, SnapshotEntry, Sweep};
use super::wire::{Reader, Writer};
use super::{Reason, Result};
use crate::base::id::{ID_BYTES, ObjectId};

/// Bytes before each section's body: type 2, zero 2, length 4.
const SECTION_HEADER_BYTES: usize = 8;

/// Section types. From [`SECTION_OPTIONAL`] up, unknown ones are skipped; below, they are refused. 12 (records), 13
/// (places) and 14 (writers) are reserved.
mod section {
    pub const SLOTS: u16 = 1;
    pub const SEGMENTS: u16 = 2;
    pub const SNAPSHOTS: u16 = 4;
    pub const MARKED: u16 = 6;
    pub const SWEPT: u16 = 8;
    pub const ANCESTORS: u16 = 10;
    pub const CONFIG: u16 = 11;
}

/// Sections of this type and above may be skipped by who does not know them.
pub const SECTION_OPTIONAL: u16 = 0x8000;

/// One thing that a list holds for an id.
trait Entry: Copy + Eq {
    /// Bytes behind the id.
    const BYTES: usize;
    fn read(reader: &mut Reader<'_>) -> Result<Self>;
    fn write(&self, writer: &mut Writer);
}

/// A segment's stored length.
impl Entry for u64 {
    const BYTES: usize = 8;

    fn read(reader: &mut Reader<'_>) -> Result<Self> {
        reader.u64()
    }

    fn write(&self, writer: &mut Writer) {
        writer.u64(*self);
    }
}

impl Entry for SnapshotEntry {
    const BYTES: usize = 16;

    fn read(reader: &mut Reader<'_>) -> Result<Self> {
        Ok(Self { length: reader.u64()?, arrival: reader.u64()? })
    }

    fn write(&self, writer: &mut Writer) {
        writer.u64(self.length).u64(self.arrival);
    }
}

impl MarkedKind {
    fn read(reader: &mut Reader<'_>) -> Result<Self> {
        match reader.u8()? {
            1 => Ok(Self::Slot),
            2 => Ok(Self::Pack),
            3 => Ok(Self::Segment),
            4 => Ok(Self::Snapshot),
            _ => Err(reader.refuse(Reason::OutOfRange { field: "marked kind" })),
        }
    }
}

impl Entry for Mark {
    const BYTES: usize = 32;

    fn read(reader: &mut Reader<'_>) -> Result<Self> {
        let kind = MarkedKind::read(reader)?;
        let replaced = match reader.u8()? {
            flags @ (0 | 1) => flags == 1,
            _ => return Err(reader.refuse(Reason::NonzeroReserved)),
        };
        reader.zero(6)?;
        Ok(Self { kind, replaced, since: reader.u64()?, time: reader.i64()?, arrival: reader.u64()? })
    }

    fn write(&self, writer: &mut Writer) {
        writer.u8(self.kind as u8).u8(u8::from(self.replaced)).zero(6);
        writer.u64(self.since).i64(self.time).u64(self.arrival);
    }
}

impl Entry for Sweep {
    const BYTES: usize = 16;

    fn read(reader: &mut Reader<'_>) -> Result<Self> {
        let kind = MarkedKind::read(reader)?;
        reader.zero(7)?;
        Ok(Self { kind, since: reader.i64()? })
    }

    fn write(&self, writer: &mut Writer) {
        writer.u8(self.kind as u8).zero(7).i64(self.since);
    }
}

/// What changed in one list. An id in both is replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Change<V> {
    added: BTreeMap<ObjectId, V>,
    removed: BTreeSet<ObjectId>,
}

impl<V> Default for Change<V> {
    fn default() -> Self {
        Self { added: BTreeMap::new(), removed: BTreeSet::new() }
    }
}

impl<V: Entry> Change<V> {
    fn between(base: &BTreeMap<ObjectId, V>, next: &BTreeMap<ObjectId, V>) -> Self {
        let missing_in = |other: &BTreeMap<ObjectId, V>, id: &ObjectId, value: &V| other.get(id) != Some(value);
        let added = next.iter().filter(|(id, value)| missing_in(base, id, value));
        let removed = base.iter().filter(|(id, value)| missing_in(next, id, value));
        Self { added: added.map(|(id, value)| (*id, *value)).collect(), removed: removed.map(|(id, _)| *id).collect() }
    }

    fn apply(
        &self,
        list: &'static str,
        base: &BTreeMap<ObjectId, V>,
    ) -> std::result::Result<BTreeMap<ObjectId, V>, Reason> {
        let mut next = base.clone();
        for id in &self.removed {
            let before = next.remove(id).ok_or(Reason::NotListed { list })?;
            if self.added.get(id) == Some(&before) {
                return Err(Reason::AlreadyListed { list });
            }
        }
        for (id, value) in &self.added {
            if next.insert(*id, *value).is_some() {
                return Err(Reason::AlreadyListed { list });
            }
        }
        Ok(next)
    }

    /// Bytes of its two sections.
    fn encoded_bytes(&self) -> usize {
        section_bytes(self.added.len(), ID_BYTES + V::BYTES) + section_bytes(self.removed.len(), ID_BYTES)
    }

    /// Writes sections `section` (added) and `section + 1` (removed).
    fn write(&self, section: u16, writer: &mut Writer) {
        write_section(section, self.added.len() * (ID_BYTES + V::BYTES), writer, |writer| {
            for (id, value) in &self.added {
                writer.bytes(id.as_bytes());
                value.write(writer);
            }
        });
        write_ids(section + 1, &self.removed, writer);
    }
}

const fn section_bytes(entries: usize, entry_bytes: usize) -> usize {
    if entries == 0 { 0 } else { SECTION_HEADER_BYTES + entries * entry_bytes }
}

/// A section of `length` bytes, which `body` writes; nothing when it is empty.
fn write_section(section: u16, length: usize, writer: &mut Writer, body: impl FnOnce(&mut Writer)) {
    if length > 0 {
        // A head that does not fit 32 bits is refused as a whole when its length is written.
        writer.u16(section).zero(2).u32(u32::try_from(length).unwrap_or(u32::MAX));
        body(writer);
    }
}

fn write_ids(section: u16, ids: &BTreeSet<ObjectId>, writer: &mut Writer) {
    write_section(section, ids.len() * ID_BYTES, writer, |writer| {
        ids.iter().for_each(|id| {
            writer.bytes(id.as_bytes());
        });
    });
}

/// Reads ids, each followed by what `value` reads, to the end of the section; strictly ascending.
fn read_list<V>(
    body: &mut Reader<'_>,
    list: &'static str,
    mut value: impl FnMut(&mut Reader<'_>) -> Result<V>,
) -> Result<Vec<(ObjectId, V)>> {
    let mut entries: Vec<(ObjectId, V)> = Vec::new();
    while body.remaining() > 0 {
        let id = body.object_id()?;
        if entries.last().is_some_and(|(last, _)| *last >= id) {
            return Err(body.refuse(Reason::NotAscending { list }));
        }
        entries.push((id, value(body)?));
    }
    Ok(entries)
}

fn read_ids(body: &mut Reader<'_>, list: &'static str) -> Result<BTreeSet<ObjectId>> {
    Ok(read_list(body, list, |_| Ok(()))?.into_iter().map(|(id, ())| id).collect())
}

fn read_entries<V: Entry>(body: &mut Reader<'_>, list: &'static str) -> Result<BTreeMap<ObjectId, V>> {
    Ok(read_list(body, list, V::read)?.into_iter().collect())
}

/// How one state differs from another; for a checkpoint, from the empty one. The slots are always the full list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Difference {
    pub(super) slots: BTreeSet<ObjectId>,
    segments: Change<u64>,
    snapshots: Change<SnapshotEntry>,
    marked: Change<Mark>,
    swept: Change<Sweep>,
    ancestors: Vec<Ancestor>,
}

/// The config's bytes that a checkpoint carries.
pub(super) type ConfigCopy = [u8; CONFIG_BYTES];

impl Difference {
    /// From `base` to `next`. The ancestors of `base` must begin those of `next`.
    pub(super) fn between(base: &LiveState, next: &LiveState) -> Self {
        Self {
            slots: next.slots.clone(),
            segments: Change::between(&base.segments, &next.segments),
            snapshots: Change::between(&base.snapshots, &next.snapshots),
            marked: Change::between(&base.marked, &next.marked),
            swept: Change::between(&base.swept, &next.swept),
            ancestors: next.ancestors.get(base.ancestors.len()..).unwrap_or_default().to_vec(),
        }
    }

    /// The state that this makes of `base`.
    pub(super) fn apply(&self, base: &LiveState) -> std::result::Result<LiveState, Reason> {
        Ok(LiveState {
            slots: self.slots.clone(),
            segments: self.segments.apply("segments", &base.segments)?,
            snapshots: self.snapshots.apply("snapshots", &base.snapshots)?,
            marked: self.marked.apply("marks", &base.marked)?,
            swept: self.swept.apply("sweeps", &base.swept)?,
            ancestors: [base.ancestors.as_slice(), &self.ancestors].concat(),
        })
    }

    /// Length of the encoding without a config copy, in bytes.
    pub(super) fn encoded_bytes(&self) -> usize {
        section_bytes(self.slots.len(), ID_BYTES)
            + self.segments.encoded_bytes()
            + self.snapshots.encoded_bytes()
            + self.marked.encoded_bytes()
            + self.swept.encoded_bytes()
            + section_bytes(self.ancestors.len(), size_of::<Ancestor>())
    }

    /// Writes the sections, ascending by type, empty ones left out.
    pub(super) fn write(&self, writer: &mut Writer, config: Option<&ConfigCopy>) {
        write_ids(section::SLOTS, &self.slots, writer);
        self.segments.write(section::SEGMENTS, writer);
        self.snapshots.write(section::SNAPSHOTS, writer);
        self.marked.write(section::MARKED, writer);
        self.swept.write(section::SWEPT, writer);
        write_section(section::ANCESTORS, self.ancestors.len() * size_of::<Ancestor>(), writer, |writer| {
            self.ancestors.iter().for_each(|ancestor| {
                writer.bytes(ancestor);
            });
        });
        if let Some(config) = config {
            write_section(section::CONFIG, CONFIG_BYTES, writer, |writer| {
                writer.bytes(config);
            });
        }
    }

    /// Reads sections up to the reader's end. In a checkpoint nothing can be removed and the config must stand.
    pub(super) fn read(reader: &mut Reader<'_>, checkpoint: bool) -> Result<(Self, Option<ConfigCopy>)> {
        let mut difference = Self::default();
        let mut config = None;
        let mut last = 0;
        while reader.remaining() > 0 {
            let section = reader.u16()?;
            reader.zero(2)?;
            let length = reader.u32()? as usize;
            let misplaced = reader.refuse(Reason::MisplacedSection { section });
            let mut body = Reader::new("head", reader.take(length)?);
            let only_in_differences = matches!(section, 3 | 5 | 7 | 9);
            let known = section < SECTION_OPTIONAL;
            if section <= last
                || (known && length == 0)
                || (only_in_differences && checkpoint)
                || (section == section::CONFIG && !checkpoint)
            {
                return Err(misplaced);
            }
            last = section;
            match section {
                section::SLOTS => difference.slots = read_ids(&mut body, "slots")?,
                section::SEGMENTS => difference.segments.added = read_entries(&mut body, "segments")?,
                3 => difference.segments.removed = read_ids(&mut body, "segments")?,
                section::SNAPSHOTS => difference.snapshots.added = read_entries(&mut body, "snapshots")?,
                5 => difference.snapshots.removed = read_ids(&mut body, "snapshots")?,
                section::MARKED => difference.marked.added = read_entries(&mut body, "marks")?,
                7 => difference.marked.removed = read_ids(&mut body, "marks")?,
                section::SWEPT => difference.swept.added = read_entries(&mut body, "sweeps")?,
                9 => difference.swept.removed = read_ids(&mut body, "sweeps")?,
                section::ANCESTORS => {
                    while body.remaining() > 0 {
                        difference.ancestors.push(body.array()?);
                    }
                }
                section::CONFIG => config = Some(body.array()?),
                _ if !known => {
                    body.take(length)?;
                }
                section => return Err(body.refuse(Reason::UnknownSection { section })),
            }
            body.finish()?;
        }
        if difference.slots.is_empty() {
            return Err(reader.refuse(Reason::NoSlots));
        }
        if checkpoint && config.is_none() {
            return Err(reader.refuse(Reason::MissingSection { section: section::CONFIG }));
        }
        Ok((difference, config))
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

    fn read(bytes: &[u8], checkpoint: bool) -> std::result::Result<Difference, Reason> {
        let read = Difference::read(&mut Reader::new("head", bytes), checkpoint);
        read.map(|(difference, _)| difference).map_err(|error| error.reason)
    }

    #[test]
    fn a_difference_applied_to_its_base_gives_the_next_state() {
        let base = state();
        let mut next = state();
        next.slots = [id(1), id(11)].into();
        next.segments.remove(&id(2));
        next.segments.insert(id(12), 300);
        next.snapshots.clear();
        next.marked.insert(id(5), Mark::new(MarkedKind::Pack, 3));
        next.marked.insert(id(2), Mark::new(MarkedKind::Segment, 3));
        next.swept.clear();
        next.ancestors.push([8; 8]);
        let difference = Difference::between(&base, &next);
        let mut writer = Writer::new();
        difference.write(&mut writer, None);
        assert_eq!(writer.as_slice().len(), difference.encoded_bytes());
        assert_eq!(read(writer.as_slice(), false), Ok(difference.clone()));
        assert_eq!(difference.apply(&base), Ok(next.clone()));
        assert_ne!(base.digest(), next.digest());
        assert_eq!(Difference::between(&base, &base).apply(&base), Ok(base));
    }

    #[test]
    fn a_difference_that_does_not_fit_is_refused() {
        let base = state();
        let difference = Difference::between(&LiveState::default(), &base);
        assert_eq!(difference.apply(&base), Err(Reason::AlreadyListed { list: "segments" }));
        let removal = Difference::between(&base, &LiveState::default());
        assert_eq!(removal.apply(&LiveState::default()), Err(Reason::NotListed { list: "segments" }));
        let mut idle = Difference::default();
        idle.segments.added.insert(id(2), 100);
        idle.segments.removed.insert(id(2));
        assert_eq!(idle.apply(&base), Err(Reason::AlreadyListed { list: "segments" }));
    }
}
