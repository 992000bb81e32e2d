//! Heads that keep a repository from being opened: those above the newest one that can be read and completed. They come back from a
//! copy under their names; or the repository is set back to that newest one. format-spec/repairing.md, "repair heads".
//!
//! # Order of setting back, and what a crash leaves
//!
//! | step | a crash before the next step leaves |
//! |---|---|
//! | 1. each file that cannot be used moves to `quarantine/` | the others, which stop everybody still |
//! | 2. this machine's memory is of the head that is the newest now | a rollback, as far as anybody can tell: setting back goes on |
//!
//! # Invariants
//!
//! - A head that can be read and completed is never moved, and nothing above one that only a newer program reads.
//! - Nothing is removed, and no fork is taken for a broken head.
//! - Nobody is using the repository while it is set back: what he pinned would be kept no more.

use std::collections::HashSet;
use std::sync::Arc;

use super::chain::{self, Tip, name_of};
use super::error::{Error, Result};
use super::freshness::Freshness;
use super::{Access, Repository, remembered};
use crate::base::id::RepositoryId;
use crate::codec::config::Config;
use crate::codec::head::HeadRef;
use crate::storage::{ErrorKind, Folder, ObjectName, Storage};

/// See the module.
#[derive(Debug)]
pub struct BrokenHeads {
    access: Access,
    config: Config,
    config_bytes: Vec<u8>,
    /// Heads that cannot be read, the newest first, and why.
    pub wrong: Vec<(ObjectName, String)>,
    /// Heads that can be read, and name a checkpoint that cannot.
    incomplete: Vec<ObjectName>,
    /// The newest head that can be read, and what it says.
    pub sound: Option<Tip>,
    /// Files under `snapshots/` on which that head says nothing, as many as there are.
    pub unlisted_snapshots: u64,
}

impl BrokenHeads {
    /// Looks for them. Needs no secret.
    ///
    /// # Errors
    /// No repository; a fork; a head that only a newer program reads; heads that cannot be listed.
    pub fn find(access: Access) -> Result<Self> {
        let (config, config_bytes) = Repository::read_config(&access)?;
        access.known(Config::id(&config_bytes))?;
        let mut broken = Self {
            access,
            config,
            config_bytes,
            wrong: Vec::new(),
            incomplete: Vec::new(),
            sound: None,
            unlisted_snapshots: 0,
        };
        broken.look()?;
        Ok(broken)
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> RepositoryId {
        Config::id(&self.config_bytes)
    }

    fn storage(&self) -> &dyn Storage {
        &*self.access.storage
    }

    /// The stored bytes of its config.
    #[must_use]
    pub fn config_bytes(&self) -> &[u8] {
        &self.config_bytes
    }

    /// How new the newest head that can be read is, as far as that is known; none when there is none, or when it is known to be an older one. Where every
    /// head can be read it is remembered.
    #[must_use]
    pub fn freshness(&self) -> Option<(HeadRef, Freshness)> {
        let tip = self.sound.as_ref()?;
        let freshness = self.access.known(self.id()).ok()?.judge(tip).ok()?;
        if self.wrong.is_empty() {
            let _ = self.access.remember(self.id(), tip);
        }
        Some((tip.reference(), freshness))
    }

    /// True when nothing lies under that name.
    #[must_use]
    pub fn is_absent(&self, name: &ObjectName) -> bool {
        matches!(self.storage().length(name), Err(error) if error.kind == ErrorKind::Absent)
    }

    fn look(&mut self) -> Result<()> {
        let (id, key) = (self.id(), self.config.verifying_key);
        // Asked for first: another process of this machine may publish, and remember that, in between.
        let seen = self.access.remembered.as_ref().and_then(|remembered| remembered.head(id));
        let storage = Arc::clone(&self.access.storage);
        let mut names: Vec<ObjectName> = storage.list(Folder::Heads)?.into_iter().map(|listed| listed.name).collect();
        names.sort_unstable_by_key(|name| std::cmp::Reverse((chain::generation(name), name.id())));
        let mut wrong: Vec<(ObjectName, String)> = Vec::new();
        let mut checkpoints: HashSet<ObjectName> = HashSet::new();
        let mut incomplete: Vec<HeadRef> = Vec::new();
        for name in &names {
            if self.sound.as_ref().is_some_and(|tip| tip.reference().generation != chain::generation(name)) {
                break;
            }
            let head = match chain::readable(&*storage, name, &key, id)? {
                Ok(Some(head)) => head,
                Ok(None) => continue,
                Err(found) if found.is_newer => {
                    return Err(found.of(*name));
                }
                Err(found) => {
                    // Beside a sound one of its generation it is none of this history.
                    if self.sound.is_none() && !checkpoints.contains(name) {
                        wrong.push((*name, found.why));
                    }
                    continue;
                }
            };
            let other = self.sound.as_ref().map(Tip::reference).or(incomplete.last().copied());
            if let Some(one) = other.filter(|other| other.generation == head.generation()) {
                return Err(Error::Fork { one, other: head.reference() });
            }
            let (reference, checkpoint) = (head.reference(), name_of(head.checkpoint()));
            let why = match chain::complete(&*storage, &key, id, head) {
                Ok(tip) => {
                    self.sound = Some(tip);
                    continue;
                }
                Err(error @ (Error::Missing { object, .. } | Error::Damaged { object, .. }))
                    if object == checkpoint =>
                {
                    error.to_string()
                }
                // All that it reads is the checkpoint.
                Err(Error::Storage(error)) if !chain::is_silent(error.kind) => error.to_string(),
                Err(error) => return Err(error),
            };
            incomplete.push(reference);
            if checkpoints.insert(checkpoint) {
                wrong.push((checkpoint, why));
            }
        }
        if let (Some(seen), Some(tip)) = (seen, &self.sound)
            && seen.generation <= tip.reference().generation
        {
            remembered::follows(seen, tip.reference(), &tip.state)?;
        }
        let newest = self.sound.as_ref().map_or(0, |tip| tip.reference().generation);
        if let Some(seen) = seen.filter(|seen| seen.generation > newest && !names.contains(&name_of(*seen))) {
            wrong.insert(0, (name_of(seen), "it was seen here, and is not there".to_owned()));
        }
        if wrong.is_empty() && self.sound.is_none() {
            return Err(Error::NoHead { found: names.len() });
        }
        if let Some(tip) = &self.sound {
            let listed = storage.list(Folder::Snapshots)?;
            let ids = listed.iter().filter_map(|found| found.name.id());
            self.unlisted_snapshots = ids.filter(|id| !tip.state.knows(id)).count() as u64;
        }
        self.wrong = wrong;
        self.incomplete = incomplete.into_iter().map(name_of).collect();
        Ok(())
    }

    /// Puts the bytes of a head, which hash to its name, in place of what is there, unless that is right by now. Nobody
    /// publishes meanwhile. An interruption in the middle leaves the head missing.
    ///
    /// # Errors
    /// Another process holds the append lock for long; the repository cannot be written.
    pub fn put(&self, name: &ObjectName, bytes: &[u8]) -> Result<()> {
        let mut upload = self.storage().create()?;
        upload.append(bytes)?;
        let _append = self.access.locks.append()?;
        match self.storage().read(name, chain::HEAD_BYTES_MAX) {
            Ok(there) if there == bytes => return Ok(()),
            Err(error) if error.kind == ErrorKind::Absent => {}
            _ => drop(self.storage().set_aside(name)?),
        }
        upload.finish(name)?;
        Ok(())
    }

    /// Whether the newest head that can be read is, or follows, the one that could be read before. If not, these heads, which came
    /// since, are moved away again.
    ///
    /// # Errors
    /// [`Error::Fork`]; a file cannot be moved.
    pub fn follow(&self, before: HeadRef, came: &[ObjectName]) -> Result<()> {
        let Some(tip) = &self.sound else { return Ok(()) };
        let Err(error) = remembered::follows(before, tip.reference(), &tip.state) else { return Ok(()) };
        let _append = self.access.locks.append()?;
        for name in came.iter().filter(|name| chain::generation(name) > before.generation) {
            self.storage().set_aside(name)?;
        }
        Err(error)
    }

    /// Takes the newest head that can be read for the newest one there is. Returns it, and where the files of the others are. With
    /// `beside` the repository itself lies elsewhere, and this copy of it is remembered apart.
    ///
    /// # Errors
    /// None can be read; another process writes, or reads; a file cannot be moved; the memory cannot be written.
    pub fn set_back(mut self, beside: bool) -> Result<(HeadRef, Vec<String>)> {
        let _writer = self.access.locks.writer(self.access.retry_lock)?;
        let _append = self.access.locks.append()?;
        // A pin of a generation that is gone keeps nothing from being swept.
        if let Some(pinned) = self.access.locks.oldest_pin()? {
            let holder = pinned.holder.map_or_else(|| "another process".to_owned(), |holder| holder.to_string());
            return Err(Error::Conflict(format!("{holder} is using the repository; wait for it, and try again")));
        }
        // Somebody may have published, or mended, since.
        self.sound = None;
        self.look()?;
        let Some(tip) = &self.sound else {
            return Err(Error::NoHead { found: self.wrong.len() + self.incomplete.len() });
        };
        let mut moved = Vec::new();
        let newest = tip.reference();
        if self.wrong.is_empty() {
            return Ok((newest, moved));
        }
        let above = |name: &ObjectName| chain::generation(name) >= newest.generation && *name != name_of(newest);
        let wrong = self.wrong.iter().map(|(name, _)| name);
        for name in self.incomplete.iter().chain(wrong).filter(|name| above(name)) {
            if !self.is_absent(name) {
                moved.push(self.storage().set_aside(name)?);
            }
        }
        // What is remembered must not outlive the head itself.
        self.storage().settle(&name_of(newest))?;
        if let Some(remembered) = &self.access.remembered {
            let (id, place) = (self.id(), &self.access.place);
            let set = if beside { remembered.set_apart(id, place, newest) } else { remembered.set(id, place, newest) };
            let what = "what this machine remembers cannot be written".to_owned();
            set.map_err(|source| Error::System { what, source })?;
        }
        Ok((newest, moved))
    }
}
