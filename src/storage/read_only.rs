//! A storage that is only looked at: what a command reads straight from a mirror.

use std::io;
use std::sync::Arc;

use super::{Error, ErrorKind, Folder, Listed, MirrorStore, ObjectName, Result, Storage, Upload};

/// See the module.
#[derive(Debug, Clone)]
pub struct ReadOnly(Arc<dyn MirrorStore>);

impl ReadOnly {
    /// Looks at `store`.
    #[must_use]
    pub fn new(store: Arc<dyn MirrorStore>) -> Self {
        Self(store)
    }
}

fn refuse<T>(operation: &'static str, object: impl std::fmt::Display) -> Result<T> {
    let message = "a mirror is only read here: write to the repository, and packstone sync sends it";
    Err(Error::new(operation, object, io::Error::other(message)).with_kind(ErrorKind::Denied))
}

impl Storage for ReadOnly {
    fn create(&self) -> Result<Box<dyn Upload>> {
        refuse("write", "an object")
    }

    fn read(&self, name: &ObjectName, limit: u64) -> Result<Vec<u8>> {
        self.0.read(name, limit)
    }

    fn read_range(&self, name: &ObjectName, offset: u64, length: u64) -> Result<Vec<u8>> {
        self.0.read_range(name, offset, length)
    }

    fn length(&self, name: &ObjectName) -> Result<u64> {
        self.0.length(name)
    }

    fn list(&self, folder: Folder) -> Result<Vec<Listed>> {
        self.0.list(folder)
    }

    fn strays(&self, folder: Folder) -> Result<Vec<String>> {
        self.0.strays(folder)
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
