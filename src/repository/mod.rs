//! What is stored and where it is: packs, segments, snapshots, heads, key slots, locks, and the cache.
//!
//! [`Repository::create`] and [`Repository::open`] are the two ways in. The order of trust when opening
//! (format-spec/config.md): the config, strictly parsed; the newest head that verifies under the config's key; freshness
//! against what this machine remembers; the slots that this head names; the master key; and only then, when the master
//! key derives the very key that the config names, is anything called authenticated.

mod ballast;
pub mod blocks;
pub mod broken_heads;
pub mod cache;
pub mod chain;
pub mod error;
pub mod expected;
#[cfg(test)]
pub(crate) mod fixture;
pub mod freshness;
pub mod index;
pub mod keyring;
mod known;
pub mod list_reader;
pub mod list_writer;
pub mod lock;
pub mod marked;
mod memory_file;
pub mod merge;
pub mod mirror_book;
pub mod pack_blocks;
pub mod pack_mover;
pub mod pack_reader;
pub mod pack_writer;
pub mod pin;
pub mod public_view;
mod random;
pub mod reindex;
pub mod remembered;
pub mod replace;
pub mod run;
pub mod run_trees;
pub mod sweep;
mod swept_names;
pub mod uptime;

use crate::base::lock::lock;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub use error::{Error, Result};

use self::ballast::Use;
use self::blocks::{Blocks, Chunk};
use self::chain::Tip;
use self::freshness::Freshness;
use self::index::{Index, Sources};
use self::keyring::{NewSlot, Opened};
use self::lock::{AppendGuard, LockError, Locks, WriterGuard};
use self::pin::{Pin, Pinned};
use self::remembered::Remembered;
use crate::base::command::suggest;
use crate::base::id::{ObjectId, RepositoryId};
use crate::base::shortage::is_shortage;
use crate::base::stop::StopSignal;
use crate::base::time::Time;
use crate::codec::chunk_list::ChunkRef;
use crate::codec::chunker::Parameters;
use crate::codec::config::{CONFIG_BYTES, Config};
use crate::codec::head::HeadRef;
use crate::codec::key_slot::Secret;
use crate::codec::key_tree::{KeyTree, MasterKey};
use crate::codec::live_state::LiveState;
use crate::codec::pack::PackKind;
use crate::codec::snapshot::{self, Snapshot};
use crate::storage::{ErrorKind, Folder, ObjectName, Storage, Stored};

/// Where a repository is and how it is to be used.
#[derive(Debug, Clone)]
pub struct Access {
    /// Its objects.
    pub storage: Arc<dyn Storage>,
    /// Its locks.
    pub locks: Locks,
    /// Its place, as the user knows it, for messages and for this machine's memory.
    pub place: PathBuf,
    /// The folder under which each repository has its cache; none for no cache.
    pub cache: Option<PathBuf>,
    /// What this machine remembers; none to remember nothing.
    pub remembered: Option<Remembered>,
    /// How long to wait for another writer.
    pub retry_lock: Duration,
}

impl Access {
    /// With nothing but its objects: no locks, no cache, no memory.
    #[must_use]
    pub fn bare(storage: Arc<dyn Storage>, place: PathBuf) -> Self {
        Self { storage, locks: Locks::none(), place, cache: None, remembered: None, retry_lock: Duration::ZERO }
    }

    /// The same; what is read ends, and every wait for a lock, once somebody wants an end.
    #[must_use]
    pub fn ended_by(self, stop: StopSignal) -> Self {
        Self { locks: self.locks.ended_by(stop), ..self }
    }

    /// The same for what is read straight from a mirror.
    #[must_use]
    pub fn of_mirror(storage: Arc<dyn Storage>, place: PathBuf) -> Self {
        Self { locks: Locks::of_mirror(), ..Self::bare(storage, place) }
    }
}

/// An open repository.
pub struct Repository {
    access: Access,
    config: Config,
    config_bytes: Vec<u8>,
    keys: Arc<KeyTree>,
    master: MasterKey,
    slot: Mutex<ObjectId>,
    tip: Mutex<Tip>,
    /// The oldest generation that this process relies on; none where nothing can be written.
    pin: Mutex<Option<Pin>>,
    index: Mutex<Option<Arc<Index>>>,
    blocks: Blocks,
    cache_folder: Option<PathBuf>,
    freshness: Freshness,
    warnings: Mutex<Vec<String>>,
}

impl std::fmt::Debug for Repository {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Repository").field("id", &self.id()).field("access", &self.access).finish_non_exhaustive()
    }
}

/// What a new repository is made with.
#[derive(Debug, Clone, Copy)]
pub struct CreateOptions {
    /// How files are cut.
    pub files: Parameters,
    /// The clock.
    pub created: Time,
}

impl Repository {
    /// Makes a new repository and opens it.
    ///
    /// Order: key slots, first head, and **the config last**: a repository exists when its config does. A crash before
    /// that leaves objects that no config knows, which the next `init` at this place clears away; it does so only when
    /// there is not one pack, segment or snapshot.
    ///
    /// # Errors
    /// [`Error::Occupied`] when something is there, [`Error::Random`], or a storage error.
    pub fn create(access: Access, slots: &[NewSlot<'_>], options: &CreateOptions) -> Result<Self> {
        Self::create_keeping(access, slots, options, || Ok(()))
    }

    /// The same. `keep` makes a secret durable where its user finds it: after the slot that it opens is stored, so that the next `init` knows the
    /// secret again ([`keyring::opened_by`]), and before the config, so that no repository opens with a secret that nobody has.
    ///
    /// # Errors
    /// As [`Repository::create`], and those of `keep`: then there is no repository.
    pub fn create_keeping(
        access: Access,
        slots: &[NewSlot<'_>],
        options: &CreateOptions,
        keep: impl FnOnce() -> Result<()>,
    ) -> Result<Self> {
        let writer = access.locks.writer(access.retry_lock)?;
        let storage = &*access.storage;
        storage.clean_temporary()?;
        Self::require_empty(&access)?;
        let master = MasterKey::new(random::master()?);
        let verifying_key = master.signing_key().verifying_key().to_bytes();
        let config = Config::new(options.files, verifying_key, options.created);
        let config_bytes = config.encode().to_vec();
        let id = Config::id(&config_bytes);
        let keys = KeyTree::new(&master, id);
        let mut state = LiveState::default();
        for slot in slots {
            let (slot, bytes) = slot.seal(&master, &keys)?;
            storage.put(&ObjectName::Key(slot), &bytes)?;
            state.slots.insert(slot);
        }
        keep()?;
        Self::clear_interrupted(storage, &state)?;
        let bytes = chain::first(keys.signing(), id, &config_bytes, &state, options.created)?;
        let head = HeadRef { generation: 1, id: ObjectId::of(&bytes) };
        storage.put(&chain::name_of(head), &bytes)?;
        if storage.put(&ObjectName::Config, &config_bytes)? == Stored::Exists {
            return Err(Self::occupied(&access, "another process has just made one there"));
        }
        let first = slots.first().ok_or_else(|| Error::Invalid("a repository needs a key".to_owned()))?;
        access.locks.keep_ballast(bytes.len() as u64);
        if let Some(remembered) = &access.remembered {
            // What it is, and how new, is known from here on. The place is taken over from whatever lay there before.
            let _ = remembered.set_place(id, &access.place).and(remembered.store(id, &access.place, head));
        }
        drop(writer);
        Self::open(access, first.secret)
    }

    fn occupied(access: &Access, why: &'static str) -> Error {
        Error::Occupied { place: access.place.display().to_string(), why }
    }

    /// Refuses a place where more lies than an interrupted `create` leaves.
    fn require_empty(access: &Access) -> Result<()> {
        let storage = &*access.storage;
        match storage.length(&ObjectName::Config) {
            Ok(_) => return Err(Self::occupied(access, "there is a repository already")),
            Err(error) if error.kind == ErrorKind::Absent => {}
            Err(error) => return Err(error.into()),
        }
        for folder in [Folder::Packs, Folder::Index, Folder::Snapshots] {
            if !storage.list(folder)?.is_empty() {
                return Err(Self::occupied(access, "it holds packs or snapshots of a repository without its config"));
            }
        }
        Ok(())
    }

    /// Removes what an interrupted `create` left: all heads, and the slots that are not in `state`. Not before those of `state` are stored and
    /// their secret is kept: while a key file is there, a slot lies here that it opens.
    fn clear_interrupted(storage: &dyn Storage, state: &LiveState) -> Result<()> {
        for folder in [Folder::Heads, Folder::Keys] {
            for found in storage.list(folder)? {
                if !matches!(found.name, ObjectName::Key(id) if state.slots.contains(&id)) {
                    storage.remove(&found.name)?;
                }
            }
        }
        Ok(())
    }

    /// Opens a repository with a secret, in the order of trust that stands at the top of this module.
    ///
    /// # Errors
    /// Each mismatch has its own: see [`Error`].
    pub fn open(access: Access, secret: &Secret) -> Result<Self> {
        Self::open_with(access, std::slice::from_ref(secret)).map(|(repository, _)| repository)
    }

    /// The same with the first of several secrets that opens it, one passphrase in its spellings; says which. What all of them may cost together is limited.
    ///
    /// # Errors
    /// As [`Repository::open`].
    pub fn open_with(access: Access, secrets: &[Secret]) -> Result<(Self, usize)> {
        let storage = Arc::clone(&access.storage);
        let (config, config_bytes) = Self::read_config(&access)?;
        let id = Config::id(&config_bytes);
        let known = access.known(id)?;
        let (tip, pin) = Self::pinned_tip(&access, &config.verifying_key, id)?;
        let freshness = known.judge(&tip)?;
        let Opened { slot, master, secret } = keyring::unlock(&*storage, id, &tip, secrets, &access.locks)?;
        if master.signing_key().verifying_key().to_bytes() != config.verifying_key {
            return Err(Error::ForeignConfig);
        }
        let mut warnings = Vec::new();
        let is_mirror = access.is_mirror();
        let mend = if is_mirror {
            concat!("to send it there again: ", suggest!("repair mirror NAME"))
        } else {
            concat!("to bring it back: ", suggest!("repair heads"))
        };
        if let Some((object, error)) = &tip.unreadable {
            warnings.push(format!(
                "{object} is newer than the newest head that can be read ({error}): \
                 snapshots may be missing from what is shown; {mend}"
            ));
        }
        if let Some((object, checkpoint)) = &tip.incomplete {
            let what = if is_mirror {
                "a sync was interrupted, or is running now".to_owned()
            } else {
                format!("snapshots may be missing from what is shown; {mend}")
            };
            warnings.push(format!(
                "{object} is newer than what is shown, and its checkpoint {checkpoint} is not there: {what}"
            ));
        }
        for junk in &tip.junk {
            warnings.push(format!("{junk} is not a head of this repository and is ignored"));
        }
        let repository = Self {
            cache_folder: access.cache.as_ref().map(|folder| folder.join(id.to_string())),
            keys: Arc::new(KeyTree::new(&master, id)),
            access,
            config,
            config_bytes,
            master,
            slot: Mutex::new(slot),
            tip: Mutex::new(tip),
            pin: Mutex::new(pin),
            index: Mutex::new(None),
            blocks: Blocks::default(),
            freshness,
            warnings: Mutex::new(warnings),
        };
        repository.remember();
        Ok((repository, secret))
    }

    /// Reads the newest head and pins it: it is the newest one still when its pin is there. Without the right to write a
    /// reader goes on without a pin; should what it reads be swept meanwhile, it will say so.
    fn pinned_tip(access: &Access, verifying_key: &[u8; 32], id: RepositoryId) -> Result<(Tip, Option<Pin>)> {
        let mut tip = chain::newest(&*access.storage, verifying_key, id)?;
        if !access.locks.knows_pins() {
            return Ok((tip, None));
        }
        loop {
            let pin = match access.locks.pin(tip.reference().generation) {
                Ok(pin) => pin,
                Err(LockError::Failed { source, .. }) if is_shortage(&source) => {
                    return Err(crate::storage::Error::new("pin", "lock/pins", source).into());
                }
                Err(_) => return Ok((tip, None)),
            };
            let again = chain::newest(&*access.storage, verifying_key, id)?;
            if again.reference().generation == pin.generation() {
                return Ok((again, Some(pin)));
            }
            tip = again;
        }
    }

    fn read_config(access: &Access) -> Result<(Config, Vec<u8>)> {
        let name = ObjectName::Config;
        let bytes = access.storage.read(&name, CONFIG_BYTES as u64 + 1).map_err(|error| match error.kind {
            ErrorKind::Absent => {
                Error::NoRepository { place: access.place.display().to_string(), why: "there is no config file" }
            }
            ErrorKind::Length => {
                error::damaged(name)(crate::codec::Error::new("config", crate::codec::Reason::TrailingBytes))
            }
            _ => error.into(),
        })?;
        let config = Config::parse(&bytes).map_err(error::damaged(name))?;
        Ok((config, bytes))
    }

    /// True once somebody wants an end of the command that opened it.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.access.locks.is_ended()
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> RepositoryId {
        self.keys.repository()
    }

    /// Its config.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// Its keys.
    #[must_use]
    pub fn keys(&self) -> &KeyTree {
        &self.keys
    }

    pub(crate) fn shared_keys(&self) -> Arc<KeyTree> {
        Arc::clone(&self.keys)
    }

    /// Its master key, for sealing it into a new slot.
    pub(crate) const fn master(&self) -> &MasterKey {
        &self.master
    }

    /// Its objects.
    #[must_use]
    pub fn storage(&self) -> &dyn Storage {
        &*self.access.storage
    }

    /// The length of an object that a listing has left out; none when it is gone. Nothing is called gone that was not asked for by its name.
    ///
    /// # Errors
    /// It is not known whether it is there.
    pub fn length_if_there(&self, name: &ObjectName) -> Result<Option<u64>> {
        match self.storage().length(name) {
            Ok(length) => Ok(Some(length)),
            Err(error) if error.kind.is_about_object() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    pub(crate) fn shared_storage(&self) -> Arc<dyn Storage> {
        Arc::clone(&self.access.storage)
    }

    /// Its place, as the user knows it.
    #[must_use]
    pub fn place(&self) -> &Path {
        &self.access.place
    }

    /// The folder of its cache.
    #[must_use]
    pub fn cache_folder(&self) -> Option<&Path> {
        self.cache_folder.as_deref()
    }

    /// The slot that opened it.
    #[must_use]
    pub fn slot(&self) -> ObjectId {
        *lock(&self.slot)
    }

    pub(super) fn set_slot(&self, id: ObjectId) {
        *lock(&self.slot) = id;
    }

    /// The newest head that was read, and what it says.
    #[must_use]
    pub fn tip(&self) -> Tip {
        lock(&self.tip).clone()
    }

    /// Refuses to take what was read for the newest state when a newer head is there that cannot be read. Everybody asks here who says
    /// "latest", or who says that something is not there.
    ///
    /// # Errors
    /// [`Error::UnreadableHead`].
    pub fn require_newest(&self) -> Result<()> {
        self.tip().require_newest(self.access.is_mirror())
    }

    /// Takes the warnings that have gathered.
    pub fn take_warnings(&self) -> Vec<String> {
        std::mem::take(&mut *lock(&self.warnings))
    }

    pub(crate) fn warn(&self, warning: String) {
        lock(&self.warnings).push(warning);
    }

    fn remember(&self) {
        if let Err(sentence) = self.access.remember(self.id(), &self.tip()) {
            self.warn(sentence);
        }
    }

    /// Reads the newest head again.
    ///
    /// # Errors
    /// As opening: a rollback or fork is one here too.
    pub fn refresh(&self) -> Result<()> {
        let tip = chain::newest(self.storage(), &self.config.verifying_key, self.id())?;
        let before = self.tip().reference();
        if tip.hides(before) {
            tip.require_sound()?;
        }
        remembered::follows(before, tip.reference(), &tip.state)?;
        let is_new = tip.reference() != before;
        // Also when the head is the same: what cannot be read above it may be new, and stops writers.
        *lock(&self.tip) = tip;
        if is_new {
            *lock(&self.index) = None;
            self.remember();
        }
        Ok(())
    }

    /// Relies from now on on the newest head alone, and no longer on what an older one named. What was read before is
    /// forgotten.
    ///
    /// # Errors
    /// The pin cannot be made; whoever publishes needs one.
    pub fn pin_newest(&self) -> Result<()> {
        *lock(&self.index) = None;
        let (tip, pin) = Self::pinned_tip(&self.access, &self.config.verifying_key, self.id())?;
        *lock(&self.pin) = match pin {
            Some(pin) => Some(pin),
            None => Some(loop {
                match self.access.locks.pin(tip.reference().generation) {
                    // A few bytes, and maybe a block of the folder.
                    Err(LockError::Failed { source, .. })
                        if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
                            && self.access.locks.give_ballast(Use::Pin, 0, self.head_bytes()) => {}
                    pin => break pin?,
                }
            }),
        };
        self.refresh()
    }

    /// Refuses to rely on anything for writing without a pin.
    pub(super) fn require_pin(&self) -> Result<()> {
        if lock(&self.pin).is_some() { Ok(()) } else { self.pin_newest() }
    }

    /// The oldest generation that any process relies on, and who.
    ///
    /// # Errors
    /// The folder of pins cannot be read.
    pub fn oldest_pin(&self) -> Result<Option<Pinned>> {
        Ok(self.access.locks.oldest_pin()?)
    }

    /// Keeps some room on the disk for the time when it is full, if there is enough now.
    pub(super) fn keep_ballast(&self) {
        self.access.locks.keep_ballast(self.head_bytes());
    }

    /// The same when a sweep has made room.
    pub(super) fn keep_ballast_after_sweep(&self) {
        self.access.locks.keep_ballast_after_sweep(self.head_bytes());
    }

    /// How long the newest head is. The next one will be about as long.
    fn head_bytes(&self) -> u64 {
        self.storage().length(&chain::name_of(self.tip().reference())).unwrap_or_default()
    }

    pub(super) fn lock_writer(&self) -> Result<WriterGuard> {
        Ok(self.access.locks.writer(self.access.retry_lock)?)
    }

    pub(super) fn lock_append(&self) -> Result<AppendGuard> {
        Ok(self.access.locks.append()?)
    }

    /// Publishes a head: under the append lock, on top of the newest one, whatever `change` makes of its state. It is
    /// handed the generation that the new head will have.
    ///
    /// # Errors
    /// Nothing was published.
    pub fn append(&self, change: impl FnOnce(&mut LiveState, u64) -> Result<()>) -> Result<HeadRef> {
        let _append = self.lock_append()?;
        self.refresh()?;
        let tip = self.tip();
        let mut next = LiveState::clone(&tip.state);
        change(&mut next, tip.reference().generation + 1)?;
        // What is published is no longer marked: an object may have been taken for an orphan before its head was stored.
        let LiveState { slots, segments, snapshots, marked, .. } = &mut next;
        marked.retain(|id, _| !slots.contains(id) && !segments.contains_key(id) && !snapshots.contains_key(id));
        let signing = self.keys.signing();
        let store = || chain::append(self.storage(), signing, self.id(), &self.config_bytes, &tip, &next, Time::now());
        let head = loop {
            match store() {
                // What was begun has been taken back: with a little more room it can be tried again.
                Err(Error::Storage(full)) if full.kind == ErrorKind::Full => {
                    let bytes = self.head_bytes();
                    if !self.access.locks.give_ballast(Use::of(&tip.state, &next), bytes, bytes) {
                        return Err(full.into());
                    }
                }
                other => break other?,
            }
        };
        // It is published, whatever happens from here on: who hears an error would take a removed key for a live one.
        match self.refresh() {
            // Under the append lock, so that each is removed once. What cannot be removed now, the next head will.
            Ok(()) => drop(self.thin_heads_above(sweep::HEADS_MAX)),
            Err(error) => {
                self.warn(format!("head {} was published and could not be read back: {error}", head.generation));
            }
        }
        Ok(head)
    }

    /// What an index of `tip` is made from.
    #[must_use]
    pub fn sources<'a>(&'a self, tip: &'a Tip) -> Sources<'a> {
        Sources {
            storage: self.storage(),
            keys: &self.keys,
            state: &tip.state,
            head: tip.reference(),
            cache_folder: self.cache_folder(),
        }
    }

    /// A new index of the newest head.
    #[must_use]
    pub fn open_index(&self) -> Index {
        Index::open(&self.sources(&self.tip()))
    }

    /// The index that reading uses, opened once. Segments that cannot be read become warnings.
    #[must_use]
    pub fn index(&self) -> Arc<Index> {
        let mut index = lock(&self.index);
        match &*index {
            Some(index) => Arc::clone(index),
            None => {
                let opened = Arc::new(self.open_index());
                for error in opened.broken() {
                    self.warn(format!("{error}; reading goes on without it. Next: {}", suggest!("check")));
                }
                *index = Some(Arc::clone(&opened));
                opened
            }
        }
    }

    /// Lets go of the cache file, so that another process, or the end of this run, can write it.
    pub fn close_index(&self) {
        *lock(&self.index) = None;
    }

    /// Where a chunk lies.
    ///
    /// # Errors
    /// [`Error::ChunkMissing`] when neither the cache nor any segment knows it; a storage error when a segment could not be asked.
    pub fn locate(&self, chunk: &ChunkRef) -> Result<index::Place> {
        let (tip, index) = (self.tip(), self.index());
        match index.locate(&self.sources(&tip), &chunk.id) {
            Some(place) if place.length == chunk.length => Ok(place),
            _ => Err(index.unavailable().unwrap_or(Error::ChunkMissing { chunk: chunk.id })),
        }
    }

    /// Reads one chunk and checks its id.
    ///
    /// # Errors
    /// [`Error::ChunkMissing`], or the damage that was found.
    pub fn chunk(&self, kind: PackKind, chunk: &ChunkRef) -> Result<Chunk> {
        if self.is_ended() {
            return Err(Error::stopped("read", "chunks"));
        }
        let read = || {
            let place = self.locate(chunk)?;
            let generation = self.tip().reference().generation;
            let read = self.blocks.chunk(self.storage(), &self.keys, kind, chunk, &place, generation);
            read.map_err(|error| self.unless_swept(error))
        };
        match read() {
            // What was replaced lies elsewhere now.
            Err(Error::Overtaken { .. }) => self.refresh().and_then(|()| read()),
            read => read,
        }
    }

    /// A pack that is missing is no damage when this reader has no pin (a disk that it may not write to) and heads were published since it
    /// read the newest one: it may have been swept.
    fn unless_swept(&self, error: Error) -> Error {
        let Error::Missing { object: what @ ObjectName::Pack(_), .. } = error else { return error };
        let has_moved = || {
            let newest = chain::newest(self.storage(), &self.config.verifying_key, self.id());
            newest.is_ok_and(|tip| tip.reference() != self.tip().reference())
        };
        if lock(&self.pin).is_none() && has_moved() { Error::Overtaken { what } } else { error }
    }

    /// Reads and opens one block, for a reader that wants all of it once.
    ///
    /// # Errors
    /// The damage that was found.
    pub fn block(&self, kind: PackKind, place: &index::Place) -> Result<Vec<u8>> {
        let generation = self.tip().reference().generation;
        self.blocks.open(self.storage(), &self.keys, kind, place, generation).map_err(|error| self.unless_swept(error))
    }

    /// Reads one live snapshot.
    ///
    /// # Errors
    /// [`Error::Missing`] or [`Error::Damaged`].
    pub fn snapshot(&self, id: ObjectId) -> Result<Snapshot> {
        let tip = self.tip();
        let name = ObjectName::Snapshot(id);
        let bytes = self.storage().read(&name, snapshot::BYTES_MAX).map_err(|error| match error.kind {
            ErrorKind::Absent | ErrorKind::NoFile => {
                Error::Missing { object: name, generation: tip.reference().generation }
            }
            _ => error.into(),
        })?;
        list_reader::open_snapshot(self, id, bytes)
    }

    /// Every live snapshot in the order of arrival; one that cannot be read comes as its error. Which one is the newest is
    /// another question (`ops::order`): what was copied or claims another time arrived when that was done.
    ///
    /// # Errors
    /// Nothing more can be read at all.
    pub fn snapshots(&self) -> Result<Vec<(ObjectId, Result<Snapshot>)>> {
        let tip = self.tip();
        let mut arrived: Vec<_> = tip.state.snapshots.iter().map(|(id, entry)| (entry.arrival, *id)).collect();
        arrived.sort_unstable();
        let read = |(_, id)| match self.snapshot(id) {
            Err(error) if error.is_unavailable() => Err(error),
            read => Ok((id, read)),
        };
        arrived.into_iter().map(read).collect()
    }
}
