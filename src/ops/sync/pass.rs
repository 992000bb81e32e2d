//! One pass over the repository for several mirrors: what more than one of them lacks is read and hashed once.
//!
//! Mirrors are as fast as they are. What a fast one has read waits in memory for the slower ones, up to a bound; beyond it they read
//! again. Nobody waits for anybody.

use std::collections::{HashMap, HashSet};
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Plan;
use crate::ops::Result;
use crate::repository;
use crate::repository::public_view::{Needed, PublicView, read_verified};
use crate::storage::{ErrorKind, ObjectName};

/// Bytes that wait for slower mirrors.
const WAITING_BYTES_MAX: u64 = 128 << 20;

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

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
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
    limit: Limit,
    claims: Mutex<HashMap<ObjectName, Claim>>,
    alive: Arc<AtomicU64>,
}

impl<'a> Pass<'a> {
    /// Over the repository of this view, sending at most `limit` bytes a second to all mirrors together.
    #[must_use]
    pub fn new(view: &'a PublicView, limit: Option<u64>) -> Self {
        let limit = Limit { bytes_per_second: limit, free_at: Mutex::new(Instant::now()) };
        Self { view, limit, claims: Mutex::default(), alive: Arc::default() }
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// Reads an object and hashes it, unless another mirror's reader just did.
    ///
    /// # Errors
    /// As [`read_verified`].
    pub(super) fn read(&self, needed: &Needed) -> Result<Arc<Bytes>> {
        let (view, alive) = (self.view, &self.pass.alive);
        let read = || -> Result<Arc<Bytes>> {
            let bytes = read_verified(view.storage(), needed, view.config_bytes()).map_err(|error| match error {
                // Not on the mirror, as a storage error would be understood: here.
                repository::Error::Storage(error) if matches!(error.kind, ErrorKind::Absent | ErrorKind::NoFile) => {
                    let generation = view.tip().reference().generation;
                    repository::Error::Missing { object: needed.name, generation }
                }
                error => error,
            })?;
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

    /// Waits until so much may be sent, or `stop` says so.
    pub(super) fn wait(&self, bytes: u64, stop: impl Fn() -> bool) {
        self.pass.limit.wait(bytes, stop);
    }
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        for name in lock(&self.wants).drain() {
            self.pass.take(&name);
        }
    }
}

/// Spreads bytes over time.
struct Limit {
    bytes_per_second: Option<u64>,
    free_at: Mutex<Instant>,
}

impl Limit {
    fn wait(&self, bytes: u64, stop: impl Fn() -> bool) {
        let Some(rate) = self.bytes_per_second.filter(|rate| *rate > 0) else { return };
        let until = {
            let mut free_at = lock(&self.free_at);
            let begins = (*free_at).max(Instant::now());
            *free_at = begins + Duration::from_secs_f64(bytes as f64 / rate as f64);
            begins
        };
        while !stop() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            std::thread::sleep(left.min(Duration::from_millis(200)));
        }
    }
}
