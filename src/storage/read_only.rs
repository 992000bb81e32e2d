//! A storage that is only looked at: what a command reads straight from a mirror.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::base::id::ObjectId;

use super::{Error, ErrorKind, Folder, Listed, MirrorStore, ObjectName, Result, Storage, Upload};

/// See the module.
#[derive(Debug, Clone)]
pub struct ReadOnly {
    store: Arc<dyn MirrorStore>,
    traffic: Arc<Traffic>,
    /// The generation and id of the newest head that is shown.
    as_of: Option<(u64, ObjectId)>,
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
        Self { store, traffic: Arc::default(), as_of: None }
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
        self.traffic.ask();
        self.store.read(name, limit).map(|bytes| self.traffic.count(bytes))
    }

    fn read_range(&self, name: &ObjectName, offset: u64, length: u64) -> Result<Vec<u8>> {
        self.traffic.ask();
        self.store.read_range(name, offset, length).map(|bytes| self.traffic.count(bytes))
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
