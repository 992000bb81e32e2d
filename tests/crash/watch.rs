//! A storage that counts what passes through it and asks somebody before each object is finished.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use packstone::storage::{Folder, Listed, ObjectName, Result, Storage, Stored, Upload};

/// Who is asked before each object is finished.
type Asked = Arc<dyn Fn(&ObjectName) + Send + Sync>;

/// Any storage, watched.
#[derive(Clone)]
pub struct Watched {
    inner: Arc<dyn Storage>,
    before_finish: Asked,
    /// Bytes that were appended to packs, finished or not, and to whatever else was never finished.
    pub pack_bytes: Arc<AtomicU64>,
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl Watched {
    pub fn new(inner: Arc<dyn Storage>, before_finish: impl Fn(&ObjectName) + Send + Sync + 'static) -> Self {
        Self { inner, before_finish: Arc::new(before_finish), pack_bytes: Arc::default() }
    }

    /// Counts only.
    pub fn counting(inner: Arc<dyn Storage>) -> Self {
        Self::new(inner, |_| ())
    }

    pub fn pack_bytes(&self) -> u64 {
        self.pack_bytes.load(Ordering::SeqCst)
    }
}

impl Storage for Watched {
    fn create(&self) -> Result<Box<dyn Upload>> {
        let inner = Some(self.inner.create()?);
        Ok(Box::new(WatchedUpload { storage: self.clone(), inner, bytes: 0, is_pack: true }))
    }

    fn read(&self, name: &ObjectName, limit: u64) -> Result<Vec<u8>> {
        self.inner.read(name, limit)
    }

    fn read_range(&self, name: &ObjectName, offset: u64, length: u64) -> Result<Vec<u8>> {
        self.inner.read_range(name, offset, length)
    }

    fn length(&self, name: &ObjectName) -> Result<u64> {
        self.inner.length(name)
    }

    fn list(&self, folder: Folder) -> Result<Vec<Listed>> {
        self.inner.list(folder)
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

struct WatchedUpload {
    storage: Watched,
    inner: Option<Box<dyn Upload>>,
    bytes: u64,
    is_pack: bool,
}

impl Upload for WatchedUpload {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.bytes += bytes.len() as u64;
        self.inner.as_mut().unwrap().append(bytes)
    }

    fn finish(mut self: Box<Self>, name: &ObjectName) -> Result<Stored> {
        (self.storage.before_finish)(name);
        self.is_pack = matches!(name, ObjectName::Pack(_));
        self.inner.take().unwrap().finish(name)
    }
}

impl Drop for WatchedUpload {
    fn drop(&mut self) {
        if self.is_pack {
            self.storage.pack_bytes.fetch_add(self.bytes, Ordering::SeqCst);
        }
    }
}
