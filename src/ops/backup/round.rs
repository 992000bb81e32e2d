//! What one round of a backup is given, and what it leaves to the next; see [`super::second_look`].

use std::collections::{HashMap, HashSet};

use super::gone::kind_of_inode;
use crate::base::time::Time;
use crate::codec::chunk_list::ChunkList;
use crate::codec::deletion_log::DeletedKind;
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
        stat.ctime <= self.cut || stat.btime.is_some_and(|birth| birth < self.began) || self.unsettled.contains(path)
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

/// True for a directory that stays as the rounds before stored it: nothing in it changed; or another directory is in the place
/// of a source, or of one on the way to it, and the two must not be mixed.
pub(super) fn is_settled(stored: &Entry, enter: &Enter, in_focus: bool) -> bool {
    let Node::Directory { .. } = stored.node else { return false };
    match stored.metadata.inode == enter.stat.inode {
        true => !in_focus && stored.metadata.ctime == enter.stat.ctime,
        false => enter.ancestor || enter.source,
    }
}

/// True when a later round meets what was stored, or a name under which a whole directory was stored. Numbers of inodes are
/// used again at once, so the time of birth must be the same too.
pub(super) fn is_same_inode(stored: &Entry, stat: &Stat) -> bool {
    let kind = kind_of(&stored.node);
    kind == DeletedKind::Directory
        || (kind == kind_of_inode(stat.kind)
            && stored.metadata.inode == stat.inode
            && stored.metadata.btime == stat.btime)
}

/// The path of the directory in which a path lies, empty for the root.
pub(super) fn directory_of(path: &[u8]) -> Vec<u8> {
    let slash = path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
    path.get(..slash).unwrap_or_default().to_vec()
}
