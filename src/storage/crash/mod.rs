//! A disk that can lose its power: a file system in memory which remembers what was not yet synced.
//!
//! A sweep runs a program on it again and again, switched off after 0, 1, 2, ... operations
//! ([`CrashDisk::stop_after`]), and each time asks for the disks that may be found when the power returns
//! ([`CrashDisk::images`]). What must hold then is the sweep's business.
//!
//! # What is guaranteed, and what is not
//!
//! The model grants what POSIX together with ext4 and xfs grants, and nothing that merely tends to be so:
//!
//! - Bytes, length and mode of a file are durable after an fsync of the file. Before it each single write may be there,
//!   not there, or torn at a multiple of 512 bytes, the rest missing or zero, in any order.
//! - An entry of a directory (made, renamed, removed) is durable after an fsync of that directory; before it each may
//!   be there or not, independently of all others.
//! - A rename is one step: the old name or the new name. It is durable after an fsync of the **new** name's directory.
//! - A directory whose own entry is not durable takes with it all that it holds.
//! - After an fsync that failed, what it should have saved is lost, and a second one would claim success: Linux marks
//!   the pages clean (P. Hillbrand et al., "fsyncgate", 2018; A. Rebello et al., "Can Applications Recover from fsync
//!   Failures?", USENIX ATC 2020).

mod image;
mod tree;

use crate::base::lock::lock;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use rustix::io::Errno;

use self::tree::{Effect, Node, ROOT, Tree, apply, walk};
use super::disk::{Disk, DiskEntry, EntryKind, ends_early, split};

/// Mode of a new file, and of an object; as in [`super::disk::OsDisk`].
const NEW_MODE: u32 = 0o600;
const SEALED_MODE: u32 = 0o400;

/// How an operation fails; see [`CrashDisk::fail_at`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// EIO. A sync that fails so loses what it should have saved.
    Io,
    /// ENOSPC. A write that fails so has written half of its bytes.
    Full,
}

#[derive(Debug)]
struct State {
    /// What a running program sees.
    live: Tree,
    /// What is certainly on the disk.
    durable: Tree,
    /// What may be on the disk, in the order of the calls.
    pending: Vec<Effect>,
    /// Files and directories whose sync failed once.
    lost: BTreeSet<u64>,
    /// Files that are being written.
    held: BTreeSet<u64>,
    next_node: u64,
    operations: u64,
    reads: u64,
    stop_after: Option<u64>,
    fail_at: Option<(u64, Fault)>,
    fail_read_at: Option<u64>,
    /// Files with a bad sector.
    bad: BTreeSet<String>,
}

/// The disk. A clone is another handle on the same one.
#[derive(Debug, Clone)]
pub struct CrashDisk {
    state: Arc<Mutex<State>>,
}

/// A file being written on a [`CrashDisk`].
#[derive(Debug)]
pub struct CrashFile {
    disk: CrashDisk,
    node: u64,
}

impl Drop for CrashFile {
    fn drop(&mut self) {
        self.disk.lock().held.remove(&self.node);
    }
}

impl Default for CrashDisk {
    fn default() -> Self {
        Self::new()
    }
}

impl CrashDisk {
    /// An empty disk.
    #[must_use]
    pub fn new() -> Self {
        Self::from_tree(BTreeMap::from([(ROOT, Node::Directory(Arc::default()))]))
    }

    fn from_tree(tree: Tree) -> Self {
        let state = State {
            next_node: tree.keys().next_back().map_or(1, |last| last + 1),
            durable: tree.clone(),
            live: tree,
            pending: Vec::new(),
            lost: BTreeSet::new(),
            held: BTreeSet::new(),
            operations: 0,
            reads: 0,
            stop_after: None,
            fail_at: None,
            fail_read_at: None,
            bad: BTreeSet::new(),
        };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Switches the power off after `count` operations (calls that change or sync something; reads do not count):
    /// from then on every call fails and nothing changes.
    pub fn stop_after(&self, count: u64) {
        self.lock().stop_after = Some(count);
    }

    /// Goes on after [`CrashDisk::stop_after`] or a fault as if only the process had ended, not the machine: all that it
    /// did can be seen, synced or not, and calls work again. A directory whose sync failed can be synced again: a file
    /// system that could not write it for good would have gone read-only.
    pub fn restart(&self) {
        let mut state = self.lock();
        state.stop_after = None;
        state.fail_at = None;
        state.fail_read_at = None;
        let State { live, lost, .. } = &mut *state;
        lost.retain(|node| matches!(live.get(node), Some(Node::File { .. })));
    }

    /// Lets operation number `index`, counted from 0 at the disk's making, fail once; the others work.
    pub fn fail_at(&self, index: u64, fault: Fault) {
        self.lock().fail_at = Some((index, fault));
    }

    /// Lets read number `index` (lengths and listings are reads too) fail once with EIO.
    pub fn fail_read_at(&self, index: u64) {
        self.lock().fail_read_at = Some(index);
    }

    /// Lets every reading of a file's bytes fail with EIO.
    pub fn spoil(&self, path: &str) {
        self.lock().bad.insert(path.to_owned());
    }

    /// How many operations ran, failed ones included, refused ones after the power cut not.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.lock().operations
    }

    /// How many reads ran.
    #[must_use]
    pub fn reads(&self) -> u64 {
        self.lock().reads
    }

    /// How many effects are not yet durable.
    #[must_use]
    pub fn unsynced(&self) -> usize {
        self.lock().pending.len()
    }

    /// All files as a running program sees them, by path, with their mode.
    #[must_use]
    pub fn files(&self) -> BTreeMap<String, (Vec<u8>, u32)> {
        let mut files = BTreeMap::new();
        walk(&self.lock().live, &mut |path, _, node| {
            if let Node::File { content, mode } = node {
                files.insert(path.to_owned(), (content.bytes().to_vec(), *mode));
            }
        });
        files
    }

    /// Begins an operation: counts it, or fails as the settings say.
    fn operation(&self) -> io::Result<(MutexGuard<'_, State>, Option<Fault>)> {
        let mut state = self.lock();
        state.check_power()?;
        let index = state.operations;
        state.operations += 1;
        let fault = state.fail_at.filter(|(at, _)| *at == index).map(|(_, fault)| fault);
        Ok((state, fault))
    }

    /// Begins an operation that has no effect at all when it fails.
    fn clean_operation(&self) -> io::Result<MutexGuard<'_, State>> {
        let (state, fault) = self.operation()?;
        match fault {
            Some(fault) => Err(fault.into()),
            None => Ok(state),
        }
    }

    fn read(&self) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.lock();
        state.check_power()?;
        let index = state.reads;
        state.reads += 1;
        if state.fail_read_at == Some(index) { Err(Errno::IO.into()) } else { Ok(state) }
    }
}

impl From<Fault> for io::Error {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Io => Errno::IO.into(),
            Fault::Full => Errno::NOSPC.into(),
        }
    }
}

impl State {
    fn check_power(&self) -> io::Result<()> {
        match self.stop_after {
            Some(count) if self.operations >= count => Err(io::Error::other("the power is off")),
            _ => Ok(()),
        }
    }

    /// Makes an effect visible to the program and remembers that it is not durable.
    fn effect(&mut self, effect: Effect) {
        apply(&mut self.live, &effect, None);
        self.pending.push(effect);
    }

    fn entries(&self, directory: u64) -> io::Result<&BTreeMap<String, u64>> {
        match self.live.get(&directory) {
            Some(Node::Directory(entries)) => Ok(entries),
            _ => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    fn resolve(&self, path: &str) -> io::Result<u64> {
        let mut node = ROOT;
        for component in path.split('/').filter(|component| !component.is_empty()) {
            node = *self.entries(node)?.get(component).ok_or(io::ErrorKind::NotFound)?;
        }
        Ok(node)
    }

    fn file(&self, node: u64) -> io::Result<&[u8]> {
        match self.live.get(&node) {
            Some(Node::File { content, .. }) => Ok(content.bytes()),
            _ => Err(crate::base::regular::not_regular()),
        }
    }

    /// Makes a node and its entry; the entry must be free.
    fn make(&mut self, path: &str, new: Node) -> io::Result<u64> {
        let (directory, name) = split(path);
        let directory = self.resolve(directory)?;
        if self.entries(directory)?.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let node = self.next_node;
        self.next_node += 1;
        // Without an entry nobody sees it, so it may as well be on the disk already.
        self.durable.insert(node, new.clone());
        self.live.insert(node, new);
        self.effect(Effect::Link { directory, name: name.to_owned(), node });
        Ok(node)
    }

    /// Takes the effects that `wanted` picks out of the pending ones, in their order.
    fn take(&mut self, wanted: impl Fn(&Effect) -> bool) -> Vec<Effect> {
        let (taken, rest) = std::mem::take(&mut self.pending).into_iter().partition(wanted);
        self.pending = rest;
        taken
    }

    fn sync_node(&mut self, node: u64, fault: Option<Fault>) -> io::Result<()> {
        let effects = self.take(
            |effect| matches!(effect, Effect::Write { node: of, .. } | Effect::Mode { node: of, .. } if *of == node),
        );
        if let Some(fault) = fault {
            // The pages are dropped; a later sync will find nothing to write.
            self.lost.insert(node);
            return Err(fault.into());
        }
        match self.live.get(&node) {
            Some(live) if !self.lost.contains(&node) => {
                self.durable.insert(node, live.clone());
            }
            _ => effects.iter().for_each(|effect| apply(&mut self.durable, effect, None)),
        }
        Ok(())
    }

    fn sync_entries(&mut self, directory: u64, fault: Option<Fault>) -> io::Result<()> {
        self.entries(directory)?;
        if let Some(fault) = fault {
            self.lost.insert(directory);
            return Err(fault.into());
        }
        if self.lost.contains(&directory) {
            return Ok(());
        }
        let effects = self.take(|effect| match effect {
            Effect::Link { directory: of, .. } | Effect::Unlink { directory: of, .. } => *of == directory,
            Effect::Rename { to, .. } => to.0 == directory,
            _ => false,
        });
        for effect in effects {
            apply(&mut self.durable, &effect, None);
            if let Effect::Rename { from, node, .. } = effect {
                // The old name went with it: that it was ever made no longer matters.
                self.pending.retain(|earlier| {
                    !matches!(earlier, Effect::Link { directory, name, node: of }
                        if (directory, name, of) == (&from.0, &from.1, &node))
                });
            }
        }
        Ok(())
    }

    fn unlink(&mut self, path: &str) -> io::Result<()> {
        let (directory, name) = split(path);
        let directory = self.resolve(directory)?;
        let node = *self.entries(directory)?.get(name).ok_or(io::ErrorKind::NotFound)?;
        self.file(node)?;
        self.effect(Effect::Unlink { directory, name: name.to_owned() });
        Ok(())
    }
}

impl Disk for CrashDisk {
    type File = CrashFile;

    fn create_directory(&self, path: &str) -> io::Result<()> {
        self.clean_operation()?.make(path, Node::Directory(Arc::default())).map(drop)
    }

    fn create_file(&self, path: &str) -> io::Result<CrashFile> {
        let mut state = self.clean_operation()?;
        let node = state.make(path, Node::File { content: Arc::default(), mode: NEW_MODE })?;
        state.held.insert(node);
        Ok(CrashFile { disk: self.clone(), node })
    }

    fn append(&self, file: &mut CrashFile, bytes: &[u8]) -> io::Result<()> {
        let (mut state, fault) = self.operation()?;
        let offset = state.file(file.node)?.len();
        let written = match fault {
            None => bytes,
            Some(Fault::Full) => bytes.get(..bytes.len() / 2).unwrap_or_default(),
            Some(Fault::Io) => &[],
        };
        if !written.is_empty() {
            state.effect(Effect::Write { node: file.node, offset, bytes: written.into() });
        }
        fault.map_or(Ok(()), |fault| Err(fault.into()))
    }

    fn file_length(&self, file: &CrashFile) -> io::Result<u64> {
        Ok(self.read()?.file(file.node)?.len() as u64)
    }

    fn seal_file(&self, file: &CrashFile) -> io::Result<()> {
        self.clean_operation()?.effect(Effect::Mode { node: file.node, mode: SEALED_MODE });
        Ok(())
    }

    fn sync_file(&self, file: &CrashFile) -> io::Result<()> {
        let (mut state, fault) = self.operation()?;
        state.sync_node(file.node, fault)
    }

    fn check_close(&self, _file: &CrashFile) -> io::Result<()> {
        self.clean_operation().map(drop)
    }

    fn sync_existing(&self, path: &str) -> io::Result<()> {
        let (mut state, fault) = self.operation()?;
        let node = state.resolve(path)?;
        state.sync_node(node, fault)
    }

    fn rename_new(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.clean_operation()?;
        let node = state.resolve(from)?;
        let (from_directory, from_name) = split(from);
        let (to_directory, to_name) = split(to);
        let from = (state.resolve(from_directory)?, from_name.to_owned());
        let to = (state.resolve(to_directory)?, to_name.to_owned());
        if state.entries(to.0)?.contains_key(to_name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        state.effect(Effect::Rename { from, to, node });
        Ok(())
    }

    fn sync_directory(&self, path: &str) -> io::Result<()> {
        let (mut state, fault) = self.operation()?;
        let directory = state.resolve(path)?;
        state.sync_entries(directory, fault)
    }

    fn unlink(&self, path: &str) -> io::Result<()> {
        self.clean_operation()?.unlink(path)
    }

    fn remove_abandoned(&self, path: &str) -> io::Result<bool> {
        let mut state = self.clean_operation()?;
        let node = state.resolve(path)?;
        if state.held.contains(&node) {
            return Ok(false);
        }
        state.unlink(path).map(|()| true)
    }

    fn read_range(&self, path: &str, offset: u64, length: u64) -> io::Result<Vec<u8>> {
        let state = self.read()?;
        if state.bad.contains(path) {
            return Err(Errno::IO.into());
        }
        let bytes = state.file(state.resolve(path)?)?;
        let range = usize::try_from(offset)
            .ok()
            .zip(offset.checked_add(length).and_then(|end| usize::try_from(end).ok()))
            .and_then(|(start, end)| bytes.get(start..end));
        Ok(range.ok_or_else(|| ends_early(bytes.len() as u64, offset, length))?.to_vec())
    }

    fn length(&self, path: &str) -> io::Result<u64> {
        let state = self.read()?;
        Ok(state.file(state.resolve(path)?)?.len() as u64)
    }

    fn list(&self, path: &str) -> io::Result<Vec<DiskEntry>> {
        let state = self.read()?;
        let entries = state.entries(state.resolve(path)?)?;
        let entry = |(name, node): (&String, &u64)| {
            let (kind, length) = match state.live.get(node) {
                Some(Node::File { content, .. }) => (EntryKind::File, content.bytes().len() as u64),
                _ => (EntryKind::Directory, 0),
            };
            DiskEntry { name: name.clone().into_bytes(), kind, length }
        };
        Ok(entries.iter().map(entry).collect())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Contents of `path` in every image; `None` where it is not there.
    fn seen(disk: &CrashDisk, path: &str) -> BTreeSet<Option<Vec<u8>>> {
        disk.images(1, 500).iter().map(|image| image.files().remove(path).map(|(bytes, _)| bytes)).collect()
    }

    #[test]
    fn an_unsynced_file_may_be_there_absent_or_torn() {
        let disk = CrashDisk::new();
        let mut file = disk.create_file("a").unwrap();
        disk.append(&mut file, &[7; 1024]).unwrap();
        let seen = seen(&disk, "a");
        let half_then_zeros = [[7u8; 512], [0; 512]].concat();
        let zeros_then_half = [[0u8; 512], [7; 512]].concat();
        for wanted in [vec![], vec![7; 512], vec![7; 1024], half_then_zeros, zeros_then_half, vec![0; 1024]] {
            assert!(seen.contains(&Some(wanted.clone())), "{wanted:?}");
        }
        assert!(seen.contains(&None));
    }

    #[test]
    fn what_is_synced_stays_and_a_rename_is_one_step() {
        let disk = CrashDisk::new();
        disk.create_directory("d").unwrap();
        disk.sync_directory("").unwrap();
        let mut file = disk.create_file("d/a").unwrap();
        disk.append(&mut file, b"whole").unwrap();
        disk.seal_file(&file).unwrap();
        disk.sync_file(&file).unwrap();
        disk.sync_directory("d").unwrap();
        disk.rename_new("d/a", "b").unwrap();
        let images = disk.images(1, 64);
        assert_eq!(images.len(), 2);
        for image in images {
            let files: Vec<_> = image.files().into_iter().collect();
            let [(path, content)] = files.as_slice() else { unreachable!("one file, not {files:?}") };
            assert!(path == "d/a" || path == "b");
            assert_eq!(content, &(b"whole".to_vec(), SEALED_MODE));
        }
        disk.sync_directory("").unwrap();
        assert_eq!(disk.unsynced(), 0);
        assert_eq!(seen(&disk, "b"), BTreeSet::from([Some(b"whole".to_vec())]));
    }

    #[test]
    fn a_directory_that_is_not_durable_takes_its_files_with_it() {
        let disk = CrashDisk::new();
        disk.create_directory("d").unwrap();
        let file = disk.create_file("d/a").unwrap();
        disk.sync_file(&file).unwrap();
        disk.sync_directory("d").unwrap();
        assert!(seen(&disk, "d/a").contains(&None));
        disk.sync_directory("").unwrap();
        assert!(!seen(&disk, "d/a").contains(&None));
    }

    #[test]
    fn a_second_sync_after_a_failed_one_saves_nothing() {
        let disk = CrashDisk::new();
        let mut file = disk.create_file("a").unwrap();
        disk.sync_directory("").unwrap();
        disk.append(&mut file, b"lost").unwrap();
        disk.fail_at(disk.operations(), Fault::Io);
        assert!(disk.sync_file(&file).is_err());
        disk.sync_file(&file).unwrap();
        assert_eq!(seen(&disk, "a"), BTreeSet::from([Some(vec![])]));
    }

    #[test]
    fn without_power_nothing_works_or_changes() {
        let disk = CrashDisk::new();
        disk.stop_after(1);
        let mut file = disk.create_file("a").unwrap();
        assert!(disk.append(&mut file, b"x").is_err());
        assert!(disk.list("").is_err());
        assert_eq!(disk.operations(), 1);
        assert_eq!(disk.unsynced(), 1);
    }

    #[test]
    fn the_same_seed_gives_the_same_images() {
        let disk = CrashDisk::new();
        for name in ["a", "b", "c"] {
            let mut file = disk.create_file(name).unwrap();
            disk.append(&mut file, &[1; 5000]).unwrap();
        }
        let files = |seed| disk.images(seed, 50).iter().map(CrashDisk::files).collect::<Vec<_>>();
        assert_eq!(files(3), files(3));
        assert_ne!(files(3), files(4));
        let unique: BTreeSet<_> = files(3).into_iter().collect();
        assert_eq!(unique.len(), files(3).len());
    }
}
