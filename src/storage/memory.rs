//! Objects in memory, for tests: the same promises as on disk, except that nothing survives the process.

use crate::base::lock::lock;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use super::{Error, ErrorKind, Folder, Listed, MirrorStore, ObjectName, Result, Storage, Stored, Upload};

type Objects = BTreeMap<ObjectName, Vec<u8>>;

/// A storage in memory. A clone is another handle on the same objects.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    objects: Arc<Mutex<Objects>>,
}

impl Memory {
    /// An empty storage.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, Objects> {
        lock(&self.objects)
    }

    /// A copy of everything stored.
    #[must_use]
    pub fn objects(&self) -> BTreeMap<ObjectName, Vec<u8>> {
        self.lock().clone()
    }

    /// Changes the bytes of an object behind everybody's back; false when there is no such object.
    pub fn corrupt(&self, name: &ObjectName, change: impl FnOnce(&mut Vec<u8>)) -> bool {
        self.lock().get_mut(name).map(change).is_some()
    }

    fn with<T>(&self, name: &ObjectName, read: impl FnOnce(&[u8]) -> Result<T>) -> Result<T> {
        let objects = self.lock();
        let bytes = objects.get(name).ok_or_else(|| Error::new("read", name, io::ErrorKind::NotFound.into()))?;
        read(bytes)
    }
}

impl Storage for Memory {
    fn create(&self) -> Result<Box<dyn Upload>> {
        Ok(Box::new(MemoryUpload { storage: self.clone(), bytes: Vec::new() }))
    }

    fn read(&self, name: &ObjectName, limit: u64) -> Result<Vec<u8>> {
        self.with(name, |bytes| {
            if bytes.len() as u64 > limit {
                return Err(super::too_long(name, Some(bytes.len() as u64), limit));
            }
            Ok(bytes.to_vec())
        })
    }

    fn read_range(&self, name: &ObjectName, offset: u64, length: u64) -> Result<Vec<u8>> {
        self.with(name, |bytes| {
            let range = usize::try_from(offset)
                .ok()
                .zip(offset.checked_add(length).and_then(|end| usize::try_from(end).ok()))
                .and_then(|(start, end)| bytes.get(start..end));
            let early = || Error::new("read", name, super::disk::ends_early(bytes.len() as u64, offset, length));
            Ok(range.ok_or_else(early)?.to_vec())
        })
    }

    fn length(&self, name: &ObjectName) -> Result<u64> {
        self.with(name, |bytes| Ok(bytes.len() as u64))
    }

    fn list(&self, folder: Folder) -> Result<Vec<Listed>> {
        let objects = self.lock();
        let of_folder = objects.iter().filter(|(name, _)| name.folder() == Some(folder));
        Ok(of_folder.map(|(name, bytes)| Listed { name: *name, length: bytes.len() as u64 }).collect())
    }

    fn strays(&self, _folder: Folder) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn remove(&self, name: &ObjectName) -> Result<()> {
        match self.lock().remove(name) {
            Some(_) => Ok(()),
            None => Err(Error::new("remove", name, io::ErrorKind::NotFound.into())),
        }
    }

    /// What is set aside is nowhere: nobody looks at it again.
    fn set_aside(&self, name: &ObjectName) -> Result<String> {
        self.remove(name)?;
        Ok(format!("quarantine/{name}"))
    }

    fn clean_temporary(&self) -> Result<u64> {
        Ok(0)
    }
}

impl MirrorStore for Memory {
    fn list_all(&self) -> Result<(Vec<Listed>, Vec<String>)> {
        let objects = self.lock();
        let listed = objects.iter().map(|(name, bytes)| Listed { name: *name, length: bytes.len() as u64 });
        Ok((listed.collect(), Vec::new()))
    }

    fn replace(&self, name: &ObjectName, bytes: &[u8]) -> Result<()> {
        self.lock().insert(*name, bytes.to_vec());
        Ok(())
    }
}

/// An object on its way into [`Memory`].
#[derive(Debug)]
struct MemoryUpload {
    storage: Memory,
    bytes: Vec<u8>,
}

impl Upload for MemoryUpload {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn finish(self: Box<Self>, name: &ObjectName) -> Result<Stored> {
        let mut objects = self.storage.lock();
        match objects.get(name) {
            None => {
                objects.insert(*name, self.bytes);
                Ok(Stored::Created)
            }
            Some(there) if name.id().is_none() || *there == self.bytes => Ok(Stored::Exists),
            Some(_) => Err(super::other_bytes(name).with_kind(ErrorKind::Other)),
        }
    }
}
