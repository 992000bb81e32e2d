//! Open directories of the target, by their row in the catalog. A bounded number is kept open; any other one is opened again
//! beneath the nearest directory above it that is, and must then be the inode that was made or found first.

use crate::base::lock::lock;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex};

use super::catalog::Catalog;
use super::limits::kept_open;
use crate::files::apply::{Applier, ApplyProblem};
use crate::files::made::Made;
use crate::files::remove::Removal;
use crate::files::stat::{Kind, Stat};
use crate::files::target::{TargetDirectory, TargetError};

/// Directories that are kept open, at most.
const OPEN_MAX: usize = 384;
/// What they take of the open files that are left for keeping.
const OPEN_SHARE: (usize, usize) = (1, 2);

#[derive(Debug, Default)]
struct Kept {
    open: HashMap<u32, Arc<TargetDirectory>>,
    /// Rows in the order in which they were opened.
    order: VecDeque<u32>,
    /// Which inode each row is, and whose, once it was open.
    made: Vec<Option<(Made, u32)>>,
    /// Rows that lead to the directory of another row, because the file system does not tell their names apart.
    refused: HashSet<u32>,
    /// All of those, where inode numbers stay.
    keys: HashSet<(u64, u64)>,
    /// How many may be open.
    open_max: usize,
}

/// See the module.
#[derive(Debug)]
pub struct Directories<'a> {
    catalog: &'a Catalog,
    root: Arc<TargetDirectory>,
    kept: Mutex<Kept>,
}

impl<'a> Directories<'a> {
    /// The directories of a catalog, whose row 0 is `root`.
    pub fn new(catalog: &'a Catalog, root: Arc<TargetDirectory>) -> Self {
        let open_max = kept_open(OPEN_MAX, OPEN_SHARE);
        let kept = Kept { made: vec![None; catalog.directories.len()], open_max, ..Kept::default() };
        Self { catalog, root, kept: Mutex::new(kept) }
    }

    /// A directory that is there.
    ///
    /// # Errors
    /// It, or one above it, is not there, is no directory, or is another one than before.
    pub fn get(&self, row: u32) -> Result<Arc<TargetDirectory>, TargetError> {
        if row == 0 {
            return Ok(self.root.clone());
        }
        let mut kept = lock(&self.kept);
        if let Some(open) = kept.open.get(&row) {
            return Ok(open.clone());
        }
        // Up to the nearest open one, then down again.
        let mut missing = vec![row];
        let mut directory = loop {
            let Some(top) = missing.last().and_then(|row| self.catalog.directories.get(*row as usize)) else {
                return Ok(self.root.clone());
            };
            match top.place.directory {
                0 => break self.root.clone(),
                above => match kept.open.get(&above) {
                    Some(open) => break open.clone(),
                    None => missing.push(above),
                },
            }
        };
        while let Some(row) = missing.pop() {
            let Some(entry) = self.catalog.directories.get(row as usize) else { continue };
            let name = self.catalog.bytes(entry.place.name);
            if kept.refused.contains(&row) {
                return Err(in_the_way(name));
            }
            directory = directory.directory(name)?;
            kept.keep(row, &directory, name)?;
        }
        Ok(directory)
    }

    /// Makes a directory, or opens it for writing when it is there. The answer says whether it is new.
    ///
    /// One that is there and that somebody else owns or may write is taken from him first.
    ///
    /// # Errors
    /// Something else is there, or the system says no.
    pub fn make(&self, row: u32, applier: &Applier) -> Result<bool, TargetError> {
        let Some(entry) = self.catalog.directories.get(row as usize) else { return Ok(false) };
        let above = self.get(entry.place.directory)?;
        let name = self.catalog.bytes(entry.place.name);
        if entry.obstacle {
            above.remove_as(name, &mut NoDirectory)?;
        }
        let (mut directory, new) = above.make_directory(name)?;
        // There was nothing when the plan was made, and now there is something under another spelling of the name.
        let is_listed = || above.names().is_ok_and(|names| names.iter().any(|listed| listed == name));
        if !new && !entry.exists && !is_listed() {
            lock(&self.kept).refused.insert(row);
            return Err(in_the_way(name));
        }
        if !new && let Some(attributes) = &entry.attributes {
            let failed = |source| TargetError::Io { operation: "stat", name: name.to_vec(), source };
            if directory.take(&self.catalog.metadata(attributes), applier).map_err(failed)? {
                // Whose it is is asked again.
                directory = above.directory(name)?;
            }
        }
        let mut kept = lock(&self.kept);
        if new && directory.made().key().is_some_and(|key| kept.keys.contains(&key)) {
            // Made, and another one moved to its name before it was opened.
            return Err(TargetError::Replaced(name.to_vec()));
        }
        kept.keep(row, &directory, name)?;
        Ok(new)
    }

    /// Whether its name leads to the directory of another row.
    pub fn is_refused(&self, row: u32) -> bool {
        lock(&self.kept).refused.contains(&row)
    }

    /// Takes the target itself, when it gets the snapshot's metadata, from whoever else owns or may write it.
    ///
    /// # Errors
    /// What the system says.
    pub fn take_root(&self, applier: &Applier) -> Result<(), TargetError> {
        let Some(attributes) = self.catalog.directories.first().and_then(|root| root.attributes.as_ref()) else {
            return Ok(());
        };
        let failed = |source| TargetError::Io { operation: "stat", name: b".".to_vec(), source };
        self.root.take(&self.catalog.metadata(attributes), applier).map(drop).map_err(failed)
    }

    /// Sets the metadata of a directory, after everything in it. Its name must still lead to it: what is in one that was moved away
    /// is not where the snapshot has it.
    ///
    /// # Errors
    /// As [`Directories::get`].
    pub fn finish(&self, row: u32, applier: &Applier) -> Result<Vec<ApplyProblem>, TargetError> {
        let Some(entry) = self.catalog.directories.get(row as usize) else { return Ok(Vec::new()) };
        let Some(attributes) = &entry.attributes else { return Ok(Vec::new()) };
        // It was named when it was to be made, and the directory that it leads to has metadata of its own.
        if self.is_refused(row) {
            return Ok(Vec::new());
        }
        let directory = self.get(row)?;
        let applied = directory.finish(&self.catalog.metadata(attributes), applier);
        let mut kept = lock(&self.kept);
        if let (Some(stat), Some(Some((_, owner)))) = (&applied.stat, kept.made.get_mut(row as usize)) {
            *owner = stat.uid;
        }
        drop(kept);
        if row != 0 {
            let name = self.catalog.bytes(entry.place.name);
            let there = self.get(entry.place.directory)?.stat(name)?;
            if !there.is_some_and(|stat| directory.made().is(&stat)) {
                return Err(TargetError::Replaced(name.to_vec()));
            }
        }
        Ok(applied.problems)
    }
}

fn in_the_way(name: &[u8]) -> TargetError {
    TargetError::Conflict { name: name.to_vec(), kind: Kind::Directory }
}

/// What was planned to go was no directory; a directory that has taken its place since stays.
struct NoDirectory;

impl Removal for NoDirectory {
    fn may_go(&mut self, _: &[u8], _: &[u8], stat: &Stat) -> bool {
        stat.kind != Kind::Directory
    }

    fn gone(&mut self, _: &[u8], _: bool) {}
}

impl Kept {
    fn keep(&mut self, row: u32, directory: &Arc<TargetDirectory>, name: &[u8]) -> Result<(), TargetError> {
        if let Some(slot) = self.made.get_mut(row as usize) {
            match slot {
                Some((made, owner)) if !directory.is(made) || directory.owner() != *owner => {
                    return Err(TargetError::Replaced(name.to_vec()));
                }
                Some(_) => {}
                None => {
                    *slot = Some((directory.made(), directory.owner()));
                    self.keys.extend(directory.made().key());
                }
            }
        }
        if self.open.insert(row, directory.clone()).is_none() {
            self.order.push_back(row);
        }
        while self.order.len() > self.open_max {
            if let Some(oldest) = self.order.pop_front() {
                self.open.remove(&oldest);
            }
        }
        Ok(())
    }
}
