//! Something that happens in the middle of what another process does.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use packstone::storage::{Folder, Listed, ObjectName, Result, Storage, Upload};

/// Any storage; after so many reads, or listings of one folder, something happens.
#[derive(Clone)]
pub struct Moments {
    pub inner: Arc<dyn Storage>,
    /// Only listings of this folder count.
    pub listing: Option<Folder>,
    pub left: Arc<AtomicI64>,
    pub act: Arc<dyn Fn() + Send + Sync>,
}

impl fmt::Debug for Moments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Moments").finish_non_exhaustive()
    }
}

impl Moments {
    fn after<T>(&self, listed: Option<Folder>, result: T) -> T {
        if (self.listing.is_none() || self.listing == listed) && self.left.fetch_sub(1, Ordering::SeqCst) == 0 {
            (self.act)();
        }
        result
    }
}

impl Storage for Moments {
    fn create(&self) -> Result<Box<dyn Upload>> {
        self.inner.create()
    }
    fn read(&self, name: &ObjectName, limit: u64) -> Result<Vec<u8>> {
        self.after(None, self.inner.read(name, limit))
    }
    fn read_range(&self, name: &ObjectName, offset: u64, length: u64) -> Result<Vec<u8>> {
        self.after(None, self.inner.read_range(name, offset, length))
    }
    fn length(&self, name: &ObjectName) -> Result<u64> {
        self.after(None, self.inner.length(name))
    }
    fn list(&self, folder: Folder) -> Result<Vec<Listed>> {
        self.after(Some(folder), self.inner.list(folder))
    }
    fn strays(&self, folder: Folder) -> Result<Vec<String>> {
        self.inner.strays(folder)
    }
    fn settle(&self, name: &ObjectName) -> Result<()> {
        self.inner.settle(name)
    }
    fn remove(&self, name: &ObjectName) -> Result<()> {
        self.inner.remove(name)
    }
    fn set_aside(&self, name: &ObjectName) -> Result<String> {
        self.inner.set_aside(name)
    }

    fn clean_temporary(&self) -> Result<u64> {
        self.inner.clean_temporary()
    }
}
