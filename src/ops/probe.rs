//! What a store can do, tried with one object that goes again: written, listed, read whole and in part, removed.

use super::{Error, Result};
use crate::base::id::{ObjectId, RepositoryId};
use crate::base::time::Time;
use crate::repository;
use crate::storage::{ErrorKind, MirrorStore, ObjectName};

/// Bytes of the probe: more than one packet, and not much.
pub(super) const PROBE_BYTES: usize = 64 << 10;

/// What was found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Findings {
    /// The listing shows what was written, with its length.
    pub lists: bool,
    /// A part of an object reads as that part.
    pub reads_ranges: bool,
    /// What was removed is gone.
    pub removes: bool,
}

impl Findings {
    /// The same in words.
    #[must_use]
    pub fn lines(&self) -> Vec<&'static str> {
        let say = |is_so, yes, no| if is_so { yes } else { no };
        vec![
            "writing and reading back: the same bytes",
            say(
                self.lists,
                "listing: shows what was written, at once",
                "listing: does not show what was just written; a sync may have to be run again",
            ),
            say(
                self.reads_ranges,
                "reading a part: right",
                "reading a part: wrong bytes; only whole objects will be read right",
            ),
            say(self.removes, "removing: works", "removing: does not work, so nothing on it can ever be freed"),
        ]
    }
}

/// Tries the store.
///
/// # Errors
/// [`Error::Refused`] when what is read back is not what was written; a storage error when it cannot be written or read at all.
pub fn run(store: &dyn MirrorStore, repository: RepositoryId) -> Result<Findings> {
    let now = Time::now();
    let mut bytes = vec![0; PROBE_BYTES];
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"packstone probe").update(repository.as_bytes()).update(&now.seconds.to_le_bytes());
    hasher.update(&now.nanoseconds.to_le_bytes()).finalize_xof().fill(&mut bytes);
    let name = ObjectName::Pack(ObjectId::of(&bytes));
    let storage = repository::Error::from;
    store.replace(&name, &bytes).map_err(storage)?;
    let whole = store.read(&name, PROBE_BYTES as u64).map_err(storage);
    let listed = store.list_all();
    let part = store.read_range(&name, 1_000, 3_000).map_err(storage);
    let removed = store.discard(&name);
    let length = store.length(&name);
    // Whatever failed before, the probe was tried to be removed.
    let (listed, _) = listed.map_err(storage)?;
    let gone = match length {
        Err(error) if error.kind == ErrorKind::Interrupted => return Err(Error::Interrupted),
        Err(error) => error.kind == ErrorKind::Absent,
        Ok(_) => false,
    };
    if whole? != bytes {
        return Err(Error::Refused(
            "this store returns other bytes than it was given: no mirror can be kept there".to_owned(),
        ));
    }
    Ok(Findings {
        lists: listed.iter().any(|found| found.name == name && found.length == PROBE_BYTES as u64),
        reads_ranges: part.is_ok_and(|part| Some(part.as_slice()) == bytes.get(1_000..4_000)),
        removes: removed.is_ok() && gone,
    })
}
