//! A storage that is only looked at: what a command reads straight from a mirror, with few requests.
//!
//! Parts of packs come in windows ([`super::windows`]). A small object that is what its name says is asked for once: under that name there are no
//! other bytes.

use crate::base::lock::lock;
use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::base::id::ObjectId;

use super::windows::{Extent, Windows};
use super::{Error, ErrorKind, Folder, Listed, MirrorStore, ObjectName, Result, Storage, Upload};

/// See the module.
#[derive(Debug, Clone)]
pub struct ReadOnly {
    store: Arc<dyn MirrorStore>,
    traffic: Arc<Traffic>,
    /// The generation and id of the newest head that is shown.
    as_of: Option<(u64, ObjectId)>,
    windows: Arc<Windows>,
    small: Arc<Mutex<Small>>,
}

/// Bytes of an object that is kept, at most.
const SMALL_BYTES_MAX: usize = 1 << 20;
/// Bytes of all of them.
const KEPT_BYTES_MAX: usize = 16 << 20;

/// Objects that were read, and are what their names say.
#[derive(Debug, Default)]
struct Small {
    objects: HashMap<ObjectName, Vec<u8>>,
    bytes: usize,
}

/// What was asked of a store and came back, over all copies of one [`ReadOnly`].
#[derive(Debug, Default)]
pub struct Traffic {
    requests: AtomicU64,
    bytes: AtomicU64,
}

impl Traffic {
    /// Questions: reads, listings, lengths.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Bytes of objects that came back.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    fn ask(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    fn count(&self, bytes: Vec<u8>) -> Vec<u8> {
        self.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        bytes
    }
}

impl ReadOnly {
    /// Looks at `store`.
    #[must_use]
    pub fn new(store: Arc<dyn MirrorStore>) -> Self {
        Self { store, traffic: Arc::default(), as_of: None, windows: Arc::default(), small: Arc::default() }
    }

    /// The same as it stood when this head was its newest: later ones, and others of its generation, are not listed.
    #[must_use]
    pub fn as_of(self, generation: u64, id: ObjectId) -> Self {
        Self { as_of: Some((generation, id)), ..self }
    }

    fn shows(&self, name: &ObjectName) -> bool {
        match (self.as_of, name) {
            (Some((newest, chosen)), ObjectName::Head { generation, id }) => {
                *generation < newest || (*generation == newest && *id == chosen)
            }
            _ => true,
        }
    }

    fn small(&self) -> MutexGuard<'_, Small> {
        lock(&self.small)
    }

    /// What it is used for.
    #[must_use]
    pub fn traffic(&self) -> Arc<Traffic> {
        Arc::clone(&self.traffic)
    }
}

fn refuse<T>(operation: &'static str, object: impl std::fmt::Display) -> Result<T> {
    let message = "a mirror is only read here; leave --from out to write to the repository";
    Err(Error::new(operation, object, io::Error::other(message)).with_kind(ErrorKind::Denied))
}

impl Storage for ReadOnly {
    fn create(&self) -> Result<Box<dyn Upload>> {
        refuse("write", "an object")
    }

    fn read(&self, name: &ObjectName, limit: u64) -> Result<Vec<u8>> {
        if let Some(kept) = self.small().objects.get(name).filter(|kept| kept.len() as u64 <= limit) {
            return Ok(kept.clone());
        }
        self.traffic.ask();
        let bytes = self.store.read(name, limit).map(|bytes| self.traffic.count(bytes))?;
        if bytes.len() <= SMALL_BYTES_MAX && name.id() == Some(ObjectId::of(&bytes)) {
            let mut small = self.small();
            if small.bytes + bytes.len() <= KEPT_BYTES_MAX && small.objects.insert(*name, bytes.clone()).is_none() {
                small.bytes += bytes.len();
            }
        }
        Ok(bytes)
    }

    fn stream(&self, name: &ObjectName, limit: u64, sink: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<u64> {
        let kept = self.small().objects.get(name).filter(|kept| kept.len() as u64 <= limit).cloned();
        if let Some(kept) = kept {
            sink(&kept)?;
            return Ok(kept.len() as u64);
        }
        self.traffic.ask();
        self.store.stream(name, limit, &mut |piece| {
            self.traffic.bytes.fetch_add(piece.len() as u64, Ordering::Relaxed);
            sink(piece)
        })
    }

    fn read_range(&self, name: &ObjectName, offset: u64, length: u64) -> Result<Vec<u8>> {
        self.windows.read(name, offset, length, |offset, length| {
            self.traffic.ask();
            self.store.read_range(name, offset, length).map(|bytes| self.traffic.count(bytes))
        })
    }

    fn expect_ranges(&self, ranges: &mut dyn Iterator<Item = Extent>) {
        self.windows.expect_ranges(ranges);
    }

    fn learn_lengths(&self, lengths: &mut dyn Iterator<Item = (ObjectName, u64)>) {
        self.windows.learn_lengths(lengths);
    }

    fn length(&self, name: &ObjectName) -> Result<u64> {
        self.traffic.ask();
        self.store.length(name)
    }

    fn list(&self, folder: Folder) -> Result<Vec<Listed>> {
        self.traffic.ask();
        let mut listed = self.store.list(folder)?;
        listed.retain(|found| self.shows(&found.name));
        Ok(listed)
    }

    fn strays(&self, folder: Folder) -> Result<Vec<String>> {
        self.store.strays(folder)
    }

    fn remove(&self, name: &ObjectName) -> Result<()> {
        refuse("remove", name)
    }

    fn set_aside(&self, name: &ObjectName) -> Result<String> {
        refuse("move", name)
    }

    fn clean_temporary(&self) -> Result<u64> {
        refuse("remove", "tmp/")
    }
}
