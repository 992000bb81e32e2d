//! What one round of a backup is given, and what it leaves to the next; see [`super::second_look`].

use std::collections::{HashMap, HashSet};

use super::gone::kind_of_inode;
use crate::base::time::Time;
use crate::codec::chunk_list::ChunkList;
use crate::codec::tree::{Entry, Node};
use crate::files::listed::ListedDirectories;
use crate::files::stat::Stat;
use crate::files::walk::Enter;
use crate::ops::deleted::holders::kind_of;
use crate::repository::run_trees::RunTrees;

/// Presence says that this is a later round; see [`super::second_look`].
pub(super) struct Again<'r> {
    /// The listings of the rounds before, and their root.
    pub trees: &'r RunTrees<'r>,
    /// See [`Self::trees`].
    pub root: ChunkList,
    /// When the run began, and when this round did.
    pub began: Time,
    /// See [`Self::began`].
    pub cut: Time,
    /// What was found in no state that could be stored, and is taken in whatever state it is now.
    pub unsettled: HashSet<Vec<u8>>,
}

impl Again<'_> {
    /// True for what stood as it is now when the round began, and for what was there before the run and has moved since.
    pub fn takes(&self, path: &[u8], stat: &Stat) -> bool {
        // Where no time of birth is known, nothing may be called younger than the run.
        stat.ctime <= self.cut || stat.btime.is_none_or(|birth| birth < self.began) || self.unsettled.contains(path)
    }
}

/// What the first stage leaves to the next round.
pub(super) struct Scanned {
    /// The directories that were listed.
    pub listed: ListedDirectories,
    /// Numbers of file systems.
    pub devices: HashMap<u64, u32>,
    /// In a later round: how many entries took another's place after the round began, and stay as they were.
    pub stale: u64,
    /// In a later round: what the rounds before stored and is gone, by a hash of its path.
    pub gone: HashSet<u64>,
    /// In a later round: directories in which something is too new to be taken.
    pub unfinished: HashSet<Vec<u8>>,
}

/// What a later round does with a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stored {
    /// It stays as the rounds before stored it: nothing in it changed.
    Stays,
    /// It stays, because another directory is in the place of a source, or of one on the way to it: the two must not be mixed.
    WasExchanged,
    /// It is gone over again.
    Changed,
    /// Another one has its name: what was stored gives way.
    GivesWay,
}

/// Compares what was stored under a name with the directory that has it now.
pub(super) fn compare_directory(stored: &Entry, enter: &Enter, device: u32, in_focus: bool) -> Stored {
    let Node::Directory { .. } = stored.node else { return Stored::GivesWay };
    match is_inode(stored, &enter.stat, device) {
        true if !in_focus && stored.metadata.ctime == enter.stat.ctime => Stored::Stays,
        true => Stored::Changed,
        false if enter.ancestor || enter.source => Stored::WasExchanged,
        false => Stored::GivesWay,
    }
}

/// True for the very inode. Numbers are used again at once, so the time of birth must be the same too.
fn is_inode(stored: &Entry, stat: &Stat, device: u32) -> bool {
    let metadata = &stored.metadata;
    (metadata.device, metadata.inode, metadata.btime) == (device, stat.inode, stat.btime)
}

/// True when a later round meets what was stored.
pub(super) fn is_same_inode(stored: &Entry, stat: &Stat, device: u32) -> bool {
    kind_of(&stored.node) == kind_of_inode(stat.kind) && is_inode(stored, stat, device)
}

/// The path of the directory in which a path lies, empty for the root.
pub(super) fn directory_of(path: &[u8]) -> Vec<u8> {
    let slash = path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
    path.get(..slash).unwrap_or_default().to_vec()
}
