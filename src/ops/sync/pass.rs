//! One pass over the repository for several mirrors: small objects that more than one of them lacks are read and hashed once.
//!
//! Mirrors are as fast as they are. What a fast one has read waits in memory for the slower ones, up to a bound; beyond it they read
//! again. Nobody waits for anybody. A large object is read piece by piece by each mirror: the system remembers it for as long as is good.
//!
//! All mirrors together have 64 MiB of memory for what is on its way, whatever the number of connections.

use crate::base::lock::lock;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::Plan;
use super::connections::LARGE_BYTES;
use super::object::StoredObject;
use crate::ops::Result;
use crate::repository;
use crate::repository::public_view::{Needed, PublicView, read_verified};
use crate::storage::body::Body;
use crate::storage::budget::Budget;
use crate::storage::rate_limit::RateLimit;
use crate::storage::{self, ErrorKind, ObjectName};

/// Bytes that wait for slower mirrors.
const WAITING_BYTES_MAX: u64 = 16 << 20;
/// Bytes in memory that are on their way. With those that wait and what else a process takes it is less than 128 MiB.
const SENDING_BYTES_MAX: u64 = 64 << 20;

/// The bytes of an object, counted for as long as anybody has them.
pub(super) struct Bytes {
    bytes: Vec<u8>,
    alive: Arc<AtomicU64>,
}

impl Bytes {
    fn new(bytes: Vec<u8>, alive: &Arc<AtomicU64>) -> Self {
        alive.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Self { bytes, alive: Arc::clone(alive) }
    }
}

impl Drop for Bytes {
    fn drop(&mut self) {
        self.alive.fetch_sub(self.bytes.len() as u64, Ordering::Relaxed);
    }
}

/// Bytes that several mirrors may be sending at the same time.
struct SharedBytes(Arc<Bytes>);

impl AsRef<[u8]> for SharedBytes {
    fn as_ref(&self) -> &[u8] {
        &self.0.bytes
    }
}

/// What is sent of an object.
pub(super) enum ObjectBody<'a> {
    /// A small one.
    Shared(bytes::Bytes),
    /// A large one.
    Stored(Box<StoredObject<'a>>),
}

impl ObjectBody<'_> {
    /// Why it could not be given, when that is no matter of the mirror.
    pub fn failure(&self) -> Option<repository::Error> {
        match self {
            Self::Shared(_) => None,
            Self::Stored(object) => object.failure(),
        }
    }
}

impl Body for ObjectBody<'_> {
    fn length(&self) -> u64 {
        match self {
            Self::Shared(bytes) => bytes.length(),
            Self::Stored(object) => object.length(),
        }
    }

    fn piece(&self, offset: u64, length: u64) -> storage::Result<bytes::Bytes> {
        match self {
            Self::Shared(bytes) => bytes.piece(offset, length),
            Self::Stored(object) => object.piece(offset, length),
        }
    }
}

/// Locked by whoever reads the object.
type Slot = Arc<Mutex<Option<Arc<Bytes>>>>;

/// An object that mirrors still have to take: how many, and where it waits for them.
#[derive(Default)]
struct Claim {
    mirrors: usize,
    slot: Slot,
}

/// See the module.
pub struct Pass<'a> {
    view: &'a PublicView,
    limit: Arc<RateLimit>,
    claims: Mutex<HashMap<ObjectName, Claim>>,
    alive: Arc<AtomicU64>,
    budget: Arc<Budget>,
}

impl<'a> Pass<'a> {
    /// Over the repository of this view, sending within `limit` to all mirrors together; its rate may change while they are at work.
    #[must_use]
    pub fn new(view: &'a PublicView, limit: Arc<RateLimit>) -> Self {
        let budget = Budget::new(SENDING_BYTES_MAX);
        Self { view, limit, claims: Mutex::default(), alive: Arc::default(), budget }
    }

    /// What one mirror reads from it. The readers of all mirrors are made before the first one reads.
    #[must_use]
    pub fn reader(&'a self, plan: &Plan) -> Reader<'a> {
        self.reader_of(self.view, plan)
    }

    /// The same for a plan that was made with a later view of the repository: an object has the same bytes in both.
    #[must_use]
    pub fn reader_of(&'a self, view: &'a PublicView, plan: &Plan) -> Reader<'a> {
        let wants: HashSet<ObjectName> = plan.send.iter().chain(&plan.heads).map(|needed| needed.name).collect();
        let mut claims = lock(&self.claims);
        for name in &wants {
            claims.entry(*name).or_default().mirrors += 1;
        }
        Reader { pass: self, view, wants: Mutex::new(wants) }
    }

    /// Takes one mirror's claim away, and gives the slot.
    fn take(&self, name: &ObjectName) -> Option<Slot> {
        let mut claims = lock(&self.claims);
        let claim = claims.get_mut(name)?;
        claim.mirrors -= 1;
        if claim.mirrors > 0 { Some(Arc::clone(&claim.slot)) } else { claims.remove(name).map(|claim| claim.slot) }
    }
}

/// One mirror's part in a [`Pass`].
pub struct Reader<'a> {
    pass: &'a Pass<'a>,
    view: &'a PublicView,
    wants: Mutex<HashSet<ObjectName>>,
}

impl<'a> Reader<'a> {
    /// The repository.
    #[must_use]
    pub const fn view(&self) -> &'a PublicView {
        self.view
    }

    /// What is sent of an object: a small one is read now.
    ///
    /// # Errors
    /// As [`read_verified`].
    pub(super) fn body(&self, needed: &Needed) -> Result<ObjectBody<'a>> {
        if let (Some(id), Some(length)) = (needed.name.id(), needed.length)
            && length >= LARGE_BYTES
        {
            let object = StoredObject::new(self.view.storage(), needed.name, id, length);
            return Ok(ObjectBody::Stored(Box::new(object)));
        }
        Ok(ObjectBody::Shared(bytes::Bytes::from_owner(SharedBytes(self.read(needed)?))))
    }

    /// What is missing here is not missing on the mirror, as a storage error would be understood.
    pub(super) fn explain(&self, needed: &Needed, error: repository::Error) -> repository::Error {
        match error {
            repository::Error::Storage(error) if matches!(error.kind, ErrorKind::Absent | ErrorKind::NoFile) => {
                let generation = self.view.tip().reference().generation;
                repository::Error::Missing { object: needed.name, generation }
            }
            error => error,
        }
    }

    /// Reads an object and hashes it, unless another mirror's reader just did.
    ///
    /// # Errors
    /// As [`read_verified`].
    fn read(&self, needed: &Needed) -> Result<Arc<Bytes>> {
        let (view, alive) = (self.view, &self.pass.alive);
        let read = || -> Result<Arc<Bytes>> {
            let read = read_verified(view.storage(), needed, view.config_bytes());
            let bytes = read.map_err(|error| self.explain(needed, error))?;
            Ok(Arc::new(Bytes::new(bytes, alive)))
        };
        let is_first = lock(&self.wants).remove(&needed.name);
        let Some(slot) = is_first.then(|| self.pass.take(&needed.name)).flatten() else { return read() };
        let mut waiting = lock(&slot);
        if let Some(bytes) = waiting.as_ref() {
            return Ok(Arc::clone(bytes));
        }
        let bytes = read()?;
        if alive.load(Ordering::Relaxed) <= WAITING_BYTES_MAX {
            *waiting = Some(Arc::clone(&bytes));
        }
        Ok(bytes)
    }

    /// Memory for what is on its way to all mirrors together.
    pub(super) fn budget(&self) -> &'a Arc<Budget> {
        &self.pass.budget
    }

    /// What all mirrors together may send.
    pub(super) fn limit(&self) -> Arc<RateLimit> {
        Arc::clone(&self.pass.limit)
    }
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        for name in lock(&self.wants).drain() {
            self.pass.take(&name);
        }
    }
}
