//! Heads that keep a repository from being opened: those above the newest one that can be read and completed. They come back from a
//! copy under their names; or the repository is set back to that newest one. format-spec/repairing.md, "Heads".
//!
//! # Order of setting back, and what a crash leaves
//!
//! | step | a crash before the next step leaves |
//! |---|---|
//! | 1. each file that cannot be used moves to `quarantine/`, the newest first | the others, which stop everybody still |
//! | 2. this machine's memory is of the head that is the newest now | a rollback, as far as anybody can tell: setting back goes on |
//!
//! # Invariants
//!
//! - A head that can be read and completed is never moved, and nothing above one that only a newer program reads.
//! - Nothing is removed.

use super::chain::{self, Tip, name_of};
use super::error::{Error, Result};
use super::{Access, Repository};
use crate::base::id::{ObjectId, RepositoryId};
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
    pub incomplete: Vec<ObjectName>,
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

    /// Its objects.
    #[must_use]
    pub fn storage(&self) -> &dyn Storage {
        &*self.access.storage
    }

    /// The stored bytes of its config.
    #[must_use]
    pub fn config_bytes(&self) -> &[u8] {
        &self.config_bytes
    }

    /// True when a head of that name is among those that cannot be read because it is not there.
    #[must_use]
    pub fn is_absent(&self, name: &ObjectName) -> bool {
        matches!(self.storage().length(name), Err(error) if error.kind == ErrorKind::Absent)
    }

    fn is_wrong(&self, name: &ObjectName) -> bool {
        self.wrong.iter().any(|(wrong, _)| wrong == name)
    }

    fn look(&mut self) -> Result<()> {
        let (id, key) = (self.id(), self.config.verifying_key);
        let storage = std::sync::Arc::clone(&self.access.storage);
        let mut names: Vec<ObjectName> = storage.list(Folder::Heads)?.into_iter().map(|listed| listed.name).collect();
        names.sort_unstable_by_key(|name| std::cmp::Reverse((chain::generation(name), name.id())));
        for name in &names {
            if self.sound.as_ref().is_some_and(|tip| tip.reference().generation != chain::generation(name)) {
                break;
            }
            let head = match chain::readable(&*storage, name, &key, id)? {
                Ok(Some(head)) => head,
                Ok(None) => continue,
                Err(why) => {
                    // Beside a sound one of its generation it is none of this history.
                    if self.sound.is_none() && !self.is_wrong(name) {
                        self.wrong.push((*name, why));
                    }
                    continue;
                }
            };
            if let Some(tip) = &self.sound {
                return Err(Error::Fork { one: tip.reference(), other: head.reference() });
            }
            let checkpoint = name_of(head.checkpoint());
            match chain::complete(&*storage, &key, id, head) {
                Ok(tip) => self.sound = Some(tip),
                Err(error @ (Error::Missing { object, .. } | Error::Damaged { object, .. }))
                    if object == checkpoint =>
                {
                    self.incomplete.push(*name);
                    if !self.is_wrong(&checkpoint) {
                        self.wrong.push((checkpoint, error.to_string()));
                    }
                }
                Err(error) => return Err(error),
            }
        }
        let newest = self.sound.as_ref().map_or(0, |tip| tip.reference().generation);
        let seen = self.access.remembered.as_ref().and_then(|remembered| remembered.head(id));
        if let Some(seen) = seen.filter(|seen| seen.generation > newest && !names.contains(&name_of(*seen))) {
            self.wrong.insert(0, (name_of(seen), "it was seen here, and is not there".to_owned()));
        }
        if let Some(tip) = &self.sound {
            let unlisted = |found: &ObjectId| !tip.state.lists(found) && tip.state.keeps(found);
            let listed = storage.list(Folder::Snapshots)?;
            self.unlisted_snapshots = listed.iter().filter_map(|found| found.name.id()).filter(unlisted).count() as u64;
        }
        Ok(())
    }

    /// Takes the newest head that can be read for the newest one there is. Returns it, and where the files of the others are.
    ///
    /// # Errors
    /// None can be read; another process writes; a file cannot be moved; the memory cannot be written.
    pub fn set_back(mut self) -> Result<(HeadRef, Vec<String>)> {
        let _writer = self.access.locks.writer(self.access.retry_lock)?;
        let _append = self.access.locks.append()?;
        // Somebody may have published, or mended, since.
        (self.wrong, self.incomplete, self.sound) = (Vec::new(), Vec::new(), None);
        self.look()?;
        let Some(tip) = &self.sound else {
            return Err(Error::NoHead { found: self.wrong.len() + self.incomplete.len() });
        };
        let mut moved = Vec::new();
        let newest = tip.reference();
        if self.wrong.is_empty() {
            return Ok((newest, moved));
        }
        for name in self.incomplete.iter().chain(self.wrong.iter().map(|(name, _)| name)) {
            if chain::generation(name) <= newest.generation || self.is_absent(name) {
                continue;
            }
            moved.push(self.storage().set_aside(name)?);
        }
        if let Some(remembered) = &self.access.remembered {
            let refused = |error| Error::Refused(format!("what this machine remembers cannot be written: {error}"));
            remembered.forget(self.id()).map_err(refused)?;
            remembered.store(self.id(), &self.access.place, newest).map_err(refused)?;
        }
        Ok((newest, moved))
    }
}
