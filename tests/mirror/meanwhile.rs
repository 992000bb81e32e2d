//! A store on which somebody else is at work: at one request something is done first.

use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use packstone::storage::memory::Memory;
use packstone::storage::{Folder, Listed, MirrorStore, ObjectName, Result, Storage, Upload};

type Deed<T> = Box<dyn FnOnce() -> T + Send>;

/// See the module.
pub struct Meanwhile<T> {
    inner: Memory,
    at: u64,
    requests: AtomicU64,
    deed: Mutex<Option<Deed<T>>>,
    done: Mutex<Option<T>>,
}

impl<T> fmt::Debug for Meanwhile<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Meanwhile").field("at", &self.at).finish_non_exhaustive()
    }
}

impl<T> Meanwhile<T> {
    /// Before the request of this number is answered, `deed` is done.
    pub fn at(inner: Memory, at: u64, deed: impl FnOnce() -> T + Send + 'static) -> Self {
        let deed: Deed<T> = Box::new(deed);
        Self { inner, at, requests: AtomicU64::new(0), deed: Mutex::new(Some(deed)), done: Mutex::new(None) }
    }

    /// What came of it; none when there were fewer requests.
    pub fn done(self) -> Option<T> {
        self.done.into_inner().unwrap()
    }

    fn next(&self) -> &Memory {
        if self.requests.fetch_add(1, Ordering::SeqCst) == self.at {
            let deed = self.deed.lock().unwrap().take().unwrap();
            *self.done.lock().unwrap() = Some(deed());
        }
        &self.inner
    }
}

impl<T: Send> Storage for Meanwhile<T> {
    fn create(&self) -> Result<Box<dyn Upload>> {
        self.next().create()
    }

    fn read(&self, name: &ObjectName, limit: u64) -> Result<Vec<u8>> {
        self.next().read(name, limit)
    }

    fn read_range(&self, name: &ObjectName, offset: u64, length: u64) -> Result<Vec<u8>> {
        self.next().read_range(name, offset, length)
    }

    fn length(&self, name: &ObjectName) -> Result<u64> {
        self.next().length(name)
    }

    fn list(&self, folder: Folder) -> Result<Vec<Listed>> {
        self.next().list(folder)
    }

    fn strays(&self, folder: Folder) -> Result<Vec<String>> {
        self.next().strays(folder)
    }

    fn remove(&self, name: &ObjectName) -> Result<()> {
        self.next().remove(name)
    }

    fn set_aside(&self, name: &ObjectName) -> Result<String> {
        self.next().set_aside(name)
    }

    fn clean_temporary(&self) -> Result<u64> {
        Ok(0)
    }
}

impl<T: Send> MirrorStore for Meanwhile<T> {
    fn list_all(&self) -> Result<(Vec<Listed>, Vec<String>)> {
        self.next().list_all()
    }

    fn replace(&self, name: &ObjectName, bytes: &[u8]) -> Result<()> {
        self.next().replace(name, bytes)
    }
}
