//! A large object of the repository on its way to a mirror: read piece by piece, hashed as it is read.
//!
//! A mirror stores what it was given when the last piece has come. That one is kept back when the hash of all is not the object's name: damage does
//! not spread.

use crate::base::lock::lock;
use std::sync::Mutex;

use bytes::Bytes;

use crate::base::id::ObjectId;
use crate::codec::{Error as CodecError, Reason};
use crate::repository;
use crate::storage::body::Body;
use crate::storage::{self, ErrorKind, ObjectName, Storage};

/// See the module.
pub(super) struct StoredObject<'a> {
    storage: &'a dyn Storage,
    name: ObjectName,
    id: ObjectId,
    length: u64,
    /// The hash of all before a position.
    hashed: Mutex<(blake3::Hasher, u64)>,
    failed: Mutex<Option<repository::Error>>,
}

impl<'a> StoredObject<'a> {
    /// The object `id` of `length` bytes under `name`.
    pub fn new(storage: &'a dyn Storage, name: ObjectName, id: ObjectId, length: u64) -> Self {
        Self { storage, name, id, length, hashed: Mutex::new((blake3::Hasher::new(), 0)), failed: Mutex::default() }
    }

    /// Why it could not be given: it is no matter of the mirror.
    pub fn failure(&self) -> Option<repository::Error> {
        lock(&self.failed).take()
    }

    fn fail(&self, error: repository::Error) -> storage::Error {
        let said = storage::Error::new("read", self.name, std::io::Error::other(error.to_string()));
        *lock(&self.failed) = Some(error);
        said
    }
}

impl Body for StoredObject<'_> {
    fn length(&self) -> u64 {
        self.length
    }

    fn piece(&self, offset: u64, length: u64) -> storage::Result<Bytes> {
        let damaged = |reason| {
            let error = CodecError::new("object", reason);
            repository::Error::Damaged { object: self.name, error }
        };
        let bytes = self.storage.read_range(&self.name, offset, length).map_err(|error| {
            self.fail(match error.kind {
                ErrorKind::Length => damaged(Reason::Truncated),
                _ => repository::Error::from(error),
            })
        })?;
        let mut hashed = lock(&self.hashed);
        let (hasher, until) = &mut *hashed;
        if offset == 0 {
            hasher.reset();
            *until = 0;
        }
        // What comes again was hashed already.
        if offset == *until {
            hasher.update(&bytes);
            *until += bytes.len() as u64;
            if *until == self.length && *hasher.finalize().as_bytes() != self.id.0 {
                // The last piece is not given to whoever asks once more: he has to begin again.
                *until = 0;
                return Err(self.fail(damaged(Reason::ObjectId)));
            }
        }
        if offset > *until {
            let error = std::io::Error::other("it was read out of order");
            return Err(storage::Error::new("read", self.name, error));
        }
        Ok(bytes.into())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::storage::MirrorStore;
    use crate::storage::memory::Memory;

    fn stored(bytes: &[u8], claimed: &[u8]) -> (Memory, ObjectName, ObjectId) {
        let (storage, id) = (Memory::new(), ObjectId::of(claimed));
        storage.replace(&ObjectName::Pack(id), bytes).unwrap();
        (storage, ObjectName::Pack(id), id)
    }

    #[test]
    fn the_last_piece_comes_when_all_are_right() {
        let bytes: Vec<u8> = (0..100).collect();
        let mut flipped = bytes.clone();
        flipped[3] ^= 1;
        let cut = &bytes[..90];
        for (there, is_right) in [(&bytes[..], true), (&flipped, false), (cut, false)] {
            let (storage, name, id) = stored(there, &bytes);
            let object = StoredObject::new(&storage, name, id, 100);
            // Whoever begins again gets the same.
            for _ in 0..2 {
                assert!(object.piece(0, 40).is_ok() && object.piece(40, 40).is_ok() && object.piece(40, 40).is_ok());
                assert_eq!(object.piece(80, 20).is_ok(), is_right);
                assert_eq!(object.piece(80, 20).is_ok(), is_right, "asked once more");
                assert_eq!(object.failure().is_some_and(|error| error.is_damage()), !is_right);
            }
            assert!(object.piece(0, 40).is_ok() && object.piece(80, 20).is_err());
        }
    }

    #[test]
    fn what_is_not_there_is_told_as_this_sides_trouble() {
        let (storage, name, id) = stored(b"x", b"x");
        storage.remove(&name).unwrap();
        let object = StoredObject::new(&storage, name, id, 1);
        assert!(object.piece(0, 1).is_err());
        assert!(matches!(object.failure(), Some(repository::Error::Storage(error)) if error.kind == ErrorKind::Absent));
    }
}
