//! Files whose pieces lie in several blocks: kept open between the blocks, a bounded number at a time.

use crate::base::lock::lock;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use super::limits::kept_open;
use crate::files::new_file::{Detached, NewFile};

/// Files that are kept open. One that is in use is not closed, so there may be as many more as there are workers.
const OPEN_MAX: usize = 128;
/// What they take of the open files that are left for keeping: each holds its directory too.
const OPEN_SHARE: (usize, usize) = (1, 8);

#[derive(Debug)]
enum State {
    /// Nobody has begun.
    New,
    Open(Arc<NewFile>),
    Closed(Detached),
    /// It cannot be finished. What there was of it is removed.
    Failed,
}

#[derive(Debug)]
struct Slot {
    state: State,
    /// Pieces that are still to come.
    left: u32,
    users: u32,
}

#[derive(Debug, Default)]
struct Slots {
    slots: HashMap<u32, Slot>,
    /// Rows of open files, in the order in which they were opened; may name some that are gone.
    order: VecDeque<u32>,
    open: usize,
}

/// See the module. Files go by their row in the catalog.
#[derive(Debug)]
pub struct OpenFiles {
    slots: Mutex<Slots>,
    open_max: usize,
}

impl Default for OpenFiles {
    fn default() -> Self {
        Self { slots: Mutex::default(), open_max: kept_open(OPEN_MAX, OPEN_SHARE) }
    }
}

impl OpenFiles {
    fn lock(&self) -> std::sync::MutexGuard<'_, Slots> {
        lock(&self.slots)
    }

    /// Takes hold of a file of `pieces` pieces: `open` makes it, or opens it again. `None` when it has failed before;
    /// [`OpenFiles::release`] is called in any case.
    ///
    /// # Errors
    /// What `open` says; the file has failed then.
    pub fn acquire<E>(
        &self,
        row: u32,
        pieces: u32,
        open: impl FnOnce(Option<Detached>) -> Result<NewFile, E>,
    ) -> Result<Option<Arc<NewFile>>, E> {
        let mut slots = self.lock();
        let slots = &mut *slots;
        let slot = slots.slots.entry(row).or_insert(Slot { state: State::New, left: pieces, users: 0 });
        slot.users += 1;
        let opened = match std::mem::replace(&mut slot.state, State::Failed) {
            State::Failed => return Ok(None),
            State::Open(file) => {
                slot.state = State::Open(file.clone());
                return Ok(Some(file));
            }
            State::New => open(None)?,
            State::Closed(detached) => open(Some(detached))?,
        };
        let file = Arc::new(opened);
        slot.state = State::Open(file.clone());
        slots.order.push_back(row);
        slots.open += 1;
        slots.close_some(self.open_max);
        Ok(Some(file))
    }

    /// `pieces` of a file are written, or not when it has `failed`. Gives the file back when it is complete.
    pub fn release(&self, row: u32, file: Option<Arc<NewFile>>, pieces: u32, failed: bool) -> Option<NewFile> {
        let mut slots = self.lock();
        drop(file);
        let slots = &mut *slots;
        let slot = slots.slots.get_mut(&row)?;
        slot.users = slot.users.saturating_sub(1);
        slot.left = slot.left.saturating_sub(pieces);
        let is_done = slot.left == 0 && slot.users == 0;
        if failed || is_done {
            let state = std::mem::replace(&mut slot.state, State::Failed);
            if is_done {
                slots.slots.remove(&row);
            }
            if let State::Open(file) = state {
                slots.open -= 1;
                // Another worker may still be writing to a file that has failed: it is removed when that one lets go.
                return if failed { None } else { Arc::into_inner(file) };
            }
        }
        None
    }

    /// Nothing more comes. Gives the rows of all unfinished files that are closed; open ones are removed.
    pub fn abandon(&self) -> Vec<(u32, Detached)> {
        let mut slots = self.lock();
        let closed = slots.slots.drain().filter_map(|(row, slot)| match slot.state {
            State::Closed(detached) => Some((row, detached)),
            State::New | State::Open(_) | State::Failed => None,
        });
        closed.collect()
    }
}

impl Slots {
    /// Closes files that nobody is writing to until few enough are open.
    fn close_some(&mut self, open_max: usize) {
        let mut looked_at = 0;
        while self.open > open_max && looked_at <= open_max {
            let Some(row) = self.order.pop_front() else { return };
            let Some(slot) = self.slots.get_mut(&row) else { continue };
            if !matches!(slot.state, State::Open(_)) {
                continue;
            }
            if slot.users > 0 {
                self.order.push_back(row);
                looked_at += 1;
                continue;
            }
            if let State::Open(file) = std::mem::replace(&mut slot.state, State::Failed) {
                self.open -= 1;
                if let Some(pending) = Arc::into_inner(file).and_then(NewFile::suspend) {
                    slot.state = State::Closed(pending.detach());
                }
            }
        }
    }
}
