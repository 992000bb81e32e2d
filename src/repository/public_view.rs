//! What anyone can see of a repository without a secret: its config, its signed heads, and which objects they need. What a
//! mirror is made from. format-spec/mirror.md.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::chain::{self, Tip};
use super::error::{Error, Result, damaged};
use super::freshness::Freshness;
use super::pin::Pin;
use super::{Access, Repository};
use crate::base::id::{ObjectId, RepositoryId};
use crate::codec::config::{CONFIG_BYTES, Config};
use crate::codec::key_slot::{KeySlot, SLOT_BYTES};
use crate::codec::segment::{self, SegmentTable};
use crate::codec::{self, Reason};
use crate::storage::{self, ErrorKind, ObjectName, Storage};

/// See the module.
#[derive(Debug)]
pub struct PublicView {
    access: Access,
    config: Config,
    config_bytes: Vec<u8>,
    tip: Tip,
    freshness: Freshness,
    /// None where nothing can be written.
    _pin: Option<Pin>,
}

/// An object that a head needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Needed {
    /// Its name.
    pub name: ObjectName,
    /// Its stored length, in bytes, as far as signed objects say.
    pub length: Option<u64>,
}

impl PublicView {
    /// Reads config and newest head, and pins it.
    ///
    /// # Errors
    /// As [`Repository::open`], secrets apart: no repository, no valid head, a fork, a rollback.
    pub fn open(access: Access) -> Result<Self> {
        let (config, config_bytes) = Repository::read_config(&access)?;
        let id = Config::id(&config_bytes);
        let known = access.known(id)?;
        let (tip, pin) = Repository::pinned_tip(&access, &config.verifying_key, id)?;
        let freshness = known.judge(&tip)?;
        // The id names the config, the config the key, and the key has signed the head: no secret is needed to know that it is one of
        // this repository's. Who cannot write that down goes on.
        let _ = access.remember(id, &tip);
        Ok(Self { access, config, config_bytes, tip, freshness, _pin: pin })
    }

    /// The same repository as it is now.
    ///
    /// # Errors
    /// As [`PublicView::open`].
    pub fn reopen(&self) -> Result<Self> {
        Self::open(self.access.clone())
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> RepositoryId {
        Config::id(&self.config_bytes)
    }

    /// The key that its heads are signed with.
    #[must_use]
    pub const fn verifying_key(&self) -> &[u8; 32] {
        &self.config.verifying_key
    }

    /// The stored bytes of its config.
    #[must_use]
    pub fn config_bytes(&self) -> &[u8] {
        &self.config_bytes
    }

    /// The head that is pinned.
    #[must_use]
    pub const fn tip(&self) -> &Tip {
        &self.tip
    }

    /// How new it was when it was opened, as far as that is known.
    #[must_use]
    pub const fn freshness(&self) -> &Freshness {
        &self.freshness
    }

    /// The same, to be read by others too.
    #[must_use]
    pub fn shared_storage(&self) -> Arc<dyn Storage> {
        Arc::clone(&self.access.storage)
    }

    /// How new it is by what is known of it at another place, which `access` names: this machine may remember what it saw there.
    ///
    /// # Errors
    /// As [`PublicView::open`]: another repository was seen there; a rollback; a fork.
    pub fn judge(&self, access: &Access) -> Result<Freshness> {
        access.known(self.id())?.judge(&self.tip)
    }

    /// Remembers that the head that is pinned was seen at the place that `access` names. Who cannot write that down goes on.
    pub fn remember(&self, access: &Access) {
        let _ = access.remember(self.id(), &self.tip);
    }

    /// Its objects.
    #[must_use]
    pub fn storage(&self) -> &dyn Storage {
        &*self.access.storage
    }

    /// Everything that the head needs, in the order of publishing: the head is the last.
    ///
    /// # Errors
    /// As [`needs`].
    pub fn needs(&self) -> Result<Vec<Needed>> {
        needs(self.storage(), self.id(), &self.tip)
    }
}

/// Everything that the head of `tip` needs, in the order of publishing: config, key slots, packs, segments, snapshots,
/// checkpoint, the head itself. Key slots that are never mirrored are left out, as far as they can be read.
///
/// # Errors
/// A segment that is missing, or is not what its name says: what it lists cannot be known.
pub fn needs(storage: &dyn Storage, repository: RepositoryId, tip: &Tip) -> Result<Vec<Needed>> {
    let survey = survey(storage, repository, tip, true)?;
    Ok(survey.needs)
}

/// What a head needs, as far as its segments can be read.
#[derive(Debug)]
pub struct Survey {
    /// As [`needs`]; the packs of broken segments are not among them, the segments are.
    pub needs: Vec<Needed>,
    /// Segments that are lost: which packs they list cannot be known.
    pub broken_segments: usize,
}

/// The same as [`needs`] where segments may be lost.
///
/// # Errors
/// With `strict` a segment that is lost. A store that does not answer.
pub fn survey(storage: &dyn Storage, repository: RepositoryId, tip: &Tip, strict: bool) -> Result<Survey> {
    let state = &tip.state;
    let mut all = vec![Needed { name: ObjectName::Config, length: Some(CONFIG_BYTES as u64) }];
    for id in &state.slots {
        let name = ObjectName::Key(*id);
        let stays_here = match storage.read(&name, SLOT_BYTES as u64) {
            Ok(bytes) => KeySlot::parse(&bytes, repository).is_ok_and(|slot| !slot.mirrored()),
            Err(error) if error.kind.is_about_object() => false,
            Err(error) if !strict && error.kind == ErrorKind::Device => false,
            // It may be one that must not leave this machine, and be readable by the time that it is sent.
            Err(error) => return Err(error.into()),
        };
        if !stays_here {
            all.push(Needed { name, length: Some(SLOT_BYTES as u64) });
        }
    }
    let mut packs: BTreeMap<ObjectId, u64> = BTreeMap::new();
    let mut broken_segments = 0;
    for (id, length) in &state.segments {
        match segment_table(storage, repository, *id, *length, tip) {
            Ok(table) => {
                packs.extend(table.packs.iter().filter(|row| state.keeps(&row.id)).map(|row| (row.id, row.length)));
            }
            Err(error) if !strict && error.is_lost() => broken_segments += 1,
            Err(error) => return Err(error),
        }
    }
    all.extend(packs.into_iter().map(|(id, length)| Needed { name: ObjectName::Pack(id), length: Some(length) }));
    let segments = state.segments.iter();
    all.extend(segments.map(|(id, length)| Needed { name: ObjectName::Segment(*id), length: Some(*length) }));
    let snapshots = state.snapshots.iter();
    all.extend(snapshots.map(|(id, entry)| Needed { name: ObjectName::Snapshot(*id), length: Some(entry.length) }));
    let (checkpoint, head) = (tip.head.checkpoint(), tip.reference());
    if checkpoint != head {
        all.push(Needed { name: chain::name_of(checkpoint), length: None });
    }
    all.push(Needed { name: chain::name_of(head), length: None });
    Ok(Survey { needs: all, broken_segments })
}

/// The clear table of a segment that the head names, by its hash.
pub(super) fn segment_table(
    storage: &dyn Storage,
    repository: RepositoryId,
    id: ObjectId,
    length: u64,
    tip: &Tip,
) -> Result<SegmentTable> {
    let name = ObjectName::Segment(id);
    let bytes = storage.read(&name, length.min(segment::BYTES_MAX)).map_err(|error| match error.kind {
        ErrorKind::Absent | ErrorKind::NoFile => {
            Error::Missing { object: name, generation: tip.reference().generation }
        }
        _ => error.into(),
    })?;
    if ObjectId::of(&bytes) != id {
        return Err(damaged(name)(codec::Error::new("segment", Reason::ObjectId)));
    }
    SegmentTable::parse(&bytes, repository).map_err(damaged(name))
}

/// Reads an object piece by piece, hands the pieces over, and checks at the end that it is what its name says: what was handed over before that
/// may be anything.
///
/// # Errors
/// As [`read_verified`]; what `sink` returns.
pub fn stream_verified(
    storage: &dyn Storage,
    needed: &Needed,
    config: &[u8],
    sink: &mut dyn FnMut(&[u8]) -> storage::Result<()>,
) -> Result<u64> {
    let name = needed.name;
    let Some(id) = name.id() else {
        let bytes = read_verified(storage, needed, config)?;
        sink(&bytes)?;
        return Ok(bytes.len() as u64);
    };
    let mut hasher = blake3::Hasher::new();
    let limit = needed.length.unwrap_or(chain::HEAD_BYTES_MAX);
    let length = storage.stream(&name, limit, &mut |piece| {
        hasher.update(piece);
        sink(piece)
    })?;
    let is_right = *hasher.finalize().as_bytes() == id.0;
    if is_right { Ok(length) } else { Err(damaged(name)(codec::Error::new("object", Reason::ObjectId))) }
}

/// Reads an object, and checks that it is what its name says; once more when it is not: a reading that broke off and went on may have mixed two.
/// `read` hears of how many bytes more the first attempt has read.
///
/// # Errors
/// As [`read_verified`].
pub fn verify(storage: &dyn Storage, needed: &Needed, config: &[u8], read: &mut dyn FnMut(u64)) -> Result<()> {
    let look = |read: &mut dyn FnMut(u64)| {
        stream_verified(storage, needed, config, &mut |piece| {
            read(piece.len() as u64);
            Ok(())
        })
    };
    match look(read) {
        Err(Error::Damaged { .. }) => look(&mut |_| ()).map(drop),
        seen => seen.map(drop),
    }
}

/// Reads a stored object and hashes it; a config is compared with `config`.
///
/// # Errors
/// [`Error::Damaged`] when its bytes are not what its name says; a storage error.
pub fn read_verified(storage: &dyn Storage, needed: &Needed, config: &[u8]) -> Result<Vec<u8>> {
    let name = needed.name;
    let limit = needed.length.unwrap_or(chain::HEAD_BYTES_MAX);
    let bytes = storage.read(&name, limit)?;
    let right = match name.id() {
        Some(id) => ObjectId::of(&bytes) == id,
        None => bytes == config,
    };
    if right { Ok(bytes) } else { Err(damaged(name)(codec::Error::new("object", Reason::ObjectId))) }
}
