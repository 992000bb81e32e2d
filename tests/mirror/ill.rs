//! A store that fails as stores fail: by script.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use packstone::storage::memory::Memory;
use packstone::storage::{Error, ErrorKind, Folder, Listed, MirrorStore, ObjectName, Result, Storage, Upload};

/// What goes wrong with one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// This and all later ones get no answer: the client was killed, or the network is gone.
    Dead,
    /// No answer this time.
    Unavailable,
    /// "Permission denied" this time.
    Denied,
    /// A write says that it is done and stored nothing; a read finds nothing; a listing is empty.
    Nothing,
    /// A write stores the first half; a read returns it; a listing leaves half out.
    Half,
    /// One bit differs; a listing has a wrong length.
    Flipped,
    /// A listing shows what was there before the last write; anything else is answered as it should be.
    Stale,
    /// It is done, and the answer does not arrive.
    AnswerLost,
}

pub const FAULTS: [Fault; 8] = [
    Fault::Dead,
    Fault::Unavailable,
    Fault::Denied,
    Fault::Nothing,
    Fault::Half,
    Fault::Flipped,
    Fault::Stale,
    Fault::AnswerLost,
];

type Objects = (Vec<Listed>, Vec<String>);

/// See the module.
#[derive(Debug, Clone)]
pub struct Ill {
    pub inner: Memory,
    fault: Option<(u64, Fault)>,
    requests: Arc<AtomicU64>,
    deletes: bool,
    /// The listing before the last write.
    earlier: Arc<Mutex<Option<Objects>>>,
}

fn error(kind: ErrorKind) -> Error {
    Error::new("ask", "the store", io::Error::other("by script")).with_kind(kind)
}

impl Ill {
    pub fn new(inner: Memory) -> Self {
        Self { inner, fault: None, requests: Arc::default(), deletes: false, earlier: Arc::default() }
    }

    pub fn with(inner: Memory, index: u64, fault: Fault) -> Self {
        Self { fault: Some((index, fault)), ..Self::new(inner) }
    }

    /// Objects may be removed.
    pub fn deleting(self) -> Self {
        Self { deletes: true, ..self }
    }

    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::SeqCst)
    }

    /// What befalls the request that begins now.
    fn next(&self) -> Result<Option<Fault>> {
        let index = self.requests.fetch_add(1, Ordering::SeqCst);
        match self.fault {
            Some((at, Fault::Dead)) if index >= at => Err(error(ErrorKind::Unavailable)),
            Some((at, fault)) if index == at => match fault {
                Fault::Unavailable => Err(error(ErrorKind::Unavailable)),
                Fault::Denied => Err(error(ErrorKind::Denied)),
                fault => Ok(Some(fault)),
            },
            _ => Ok(None),
        }
    }

    fn spoil(fault: Option<Fault>, bytes: &[u8]) -> Option<Vec<u8>> {
        match fault {
            Some(Fault::Nothing) => None,
            Some(Fault::Half) => Some(bytes[..bytes.len() / 2].to_vec()),
            Some(Fault::Flipped) => {
                let mut bytes = bytes.to_vec();
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                Some(bytes)
            }
            _ => Some(bytes.to_vec()),
        }
    }
}

impl Storage for Ill {
    fn create(&self) -> Result<Box<dyn Upload>> {
        panic!("a sync writes objects whole")
    }

    fn read(&self, name: &ObjectName, limit: u64) -> Result<Vec<u8>> {
        let fault = self.next()?;
        let bytes = Self::spoil(fault, &self.inner.read(name, limit)?).ok_or_else(|| error(ErrorKind::Absent))?;
        if fault == Some(Fault::AnswerLost) { Err(error(ErrorKind::Unavailable)) } else { Ok(bytes) }
    }

    fn read_range(&self, name: &ObjectName, offset: u64, length: u64) -> Result<Vec<u8>> {
        let fault = self.next()?;
        let bytes = self.inner.read_range(name, offset, length)?;
        Self::spoil(fault, &bytes).ok_or_else(|| error(ErrorKind::Absent))
    }

    fn length(&self, name: &ObjectName) -> Result<u64> {
        self.next()?;
        self.inner.length(name)
    }

    fn list(&self, folder: Folder) -> Result<Vec<Listed>> {
        self.next()?;
        self.inner.list(folder)
    }

    fn strays(&self, folder: Folder) -> Result<Vec<String>> {
        self.inner.strays(folder)
    }

    fn remove(&self, name: &ObjectName) -> Result<()> {
        assert!(self.deletes, "a sync removes nothing, not even {name}");
        match self.next()? {
            Some(Fault::Nothing) => Ok(()),
            Some(Fault::AnswerLost) => self.inner.remove(name).and(Err(error(ErrorKind::Unavailable))),
            _ => self.inner.remove(name),
        }
    }

    fn set_aside(&self, name: &ObjectName) -> Result<String> {
        panic!("a sync moves nothing, not even {name}")
    }

    fn clean_temporary(&self) -> Result<u64> {
        Ok(0)
    }
}

impl MirrorStore for Ill {
    fn list_all(&self) -> Result<(Vec<Listed>, Vec<String>)> {
        let fault = self.next()?;
        let (mut listed, strays) = self.inner.list_all()?;
        match fault {
            Some(Fault::Nothing) => listed.clear(),
            Some(Fault::Half) => listed.truncate(listed.len() / 2),
            Some(Fault::Flipped) => listed.iter_mut().take(1).for_each(|found| found.length += 1),
            Some(Fault::Stale) => {
                if let Some((earlier, _)) = self.earlier.lock().unwrap().clone() {
                    listed = earlier;
                }
            }
            Some(Fault::AnswerLost) => return Err(error(ErrorKind::Unavailable)),
            _ => {}
        }
        Ok((listed, strays))
    }

    fn replace(&self, name: &ObjectName, bytes: &[u8]) -> Result<()> {
        let fault = self.next()?;
        *self.earlier.lock().unwrap() = Some(self.inner.list_all()?);
        if let Some(stored) = Self::spoil(fault, bytes) {
            self.inner.replace(name, &stored)?;
        }
        if fault == Some(Fault::AnswerLost) { Err(error(ErrorKind::Unavailable)) } else { Ok(()) }
    }
}
