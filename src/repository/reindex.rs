//! Publishing other segments for the same packs: what a repair of the index comes down to.
//!
//! Order: the gate (every pack that becomes live is there with its length, and durable); new segments, each durable under
//! its name; the head. A crash before the head leaves segments that no head names. Nothing is removed: segments that are replaced,
//! and packs that are gone, are marked, which can be taken back.

use super::error::{Error, Result};
use super::{Repository, chain, random};
use crate::base::id::ObjectId;
use crate::codec::head::HeadRef;
use crate::codec::live_state::MarkedKind;
use crate::codec::segment::{self, Segment, SegmentPack};
use crate::storage::ObjectName;

/// What changes.
#[derive(Debug, Clone, Default)]
pub struct Reindex {
    /// Live segments that are marked, because the new ones say what they said.
    pub replaced: Vec<ObjectId>,
    /// What the new segments list.
    pub packs: Vec<SegmentPack>,
    /// Live packs that are marked, because they are gone.
    pub gone: Vec<ObjectId>,
    /// Marked packs that become live again.
    pub revived: Vec<ObjectId>,
}

impl Reindex {
    /// True when there is nothing to publish.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.replaced.is_empty() && self.packs.is_empty() && self.gone.is_empty() && self.revived.is_empty()
    }
}

impl Repository {
    /// Publishes a change of the index that was worked out on top of the head `base`.
    ///
    /// # Errors
    /// [`Error::Overtaken`] when `base` is no longer the newest head, [`Error::Locked`], [`Error::PackLength`]; any error
    /// means that nothing changed.
    pub fn reindex(&self, base: HeadRef, change: Reindex) -> Result<HeadRef> {
        let _writer = self.lock_writer()?;
        self.refresh()?;
        let tip = self.tip();
        tip.require_sound()?;
        let overtaken = || Error::Overtaken { what: chain::name_of(base) };
        if tip.reference() != base {
            return Err(overtaken());
        }
        for pack in change.packs.iter().filter(|pack| !change.gone.contains(&pack.id) && tip.state.keeps(&pack.id)) {
            let name = ObjectName::Pack(pack.id);
            let found = self.storage().length(&name)?;
            if found != pack.length {
                return Err(Error::PackLength { pack: pack.id, expected: pack.length, found });
            }
            // Whoever stored it may have been killed before the folder was synced.
            self.storage().settle(&name)?;
        }
        let segments = self.write_segments(change.packs)?;
        self.append(|state, generation| {
            if generation != base.generation + 1 {
                return Err(overtaken());
            }
            for id in change.replaced {
                state.mark(id, MarkedKind::Segment, generation);
            }
            for id in change.gone {
                state.mark(id, MarkedKind::Pack, generation);
            }
            for id in change.revived {
                state.marked.remove(&id);
            }
            state.segments.extend(segments);
            Ok(())
        })
    }

    fn write_segments(&self, mut packs: Vec<SegmentPack>) -> Result<Vec<(ObjectId, u64)>> {
        packs.sort_unstable_by_key(|pack| pack.id);
        packs.dedup_by_key(|pack| pack.id);
        let (mut written, mut group, mut chunks) = (Vec::new(), Vec::new(), 0);
        for pack in packs {
            let count = pack.directory.chunk_count();
            if !group.is_empty() && (chunks + count > segment::CHUNKS_MAX || group.len() == segment::PACKS_MAX) {
                written.push(self.write_segment(std::mem::take(&mut group))?);
                chunks = 0;
            }
            chunks += count;
            group.push(pack);
        }
        if !group.is_empty() {
            written.push(self.write_segment(group)?);
        }
        Ok(written)
    }

    fn write_segment(&self, packs: Vec<SegmentPack>) -> Result<(ObjectId, u64)> {
        let bytes = segment::encode(self.keys(), Segment { packs }, &random::bytes()?)
            .map_err(|error| Error::Internal(format!("a segment could not be written: {error}")))?;
        let id = ObjectId::of(&bytes);
        self.storage().put(&ObjectName::Segment(id), &bytes)?;
        Ok((id, bytes.len() as u64))
    }
}
