//! Sources that hold nothing, or nearly nothing of what they held: a disk that is not mounted, a pattern that matches
//! everything, a variable that is not set.
//!
//! What a source held is asked of the newest snapshot of the same host and paths that is not partial. A partial one does not
//! count: it may be partial because the source was empty then already.

use super::{Labels, log};
use crate::base::id::ObjectId;
use crate::codec::chunk_list::ChunkList;
use crate::codec::snapshot::{Outcome, Problem, ProblemKind, Snapshot};
use crate::codec::tree::Node;
use crate::ops::order;
use crate::ops::tree_walk::TreeWalk;
use crate::repository::list_reader::{Listing, Problems};
use crate::repository::{self, Repository};

/// A source has lost nearly all when it holds less than one of so many.
const LOST_PART: u64 = 10;
/// Sources that held fewer entries lose nearly all every now and then.
const HELD_MIN: u64 = 50;

/// True when so many entries are nearly none of what there was before.
#[must_use]
pub const fn has_lost_nearly_all(before: u64, now: u64) -> bool {
    before >= HELD_MIN && before > now.saturating_mul(LOST_PART)
}

/// True when a source was missing in a snapshot, or empty and not meant to be. What is compared with it would be read again,
/// and what was deleted since would not be noticed.
#[must_use]
pub fn lacks_source(repository: &Repository, snapshot: &Snapshot) -> bool {
    let is_missing =
        |problem: repository::Result<Problem>| problem.is_ok_and(|problem| problem.kind == ProblemKind::MissingSource);
    snapshot.outcome == Outcome::Partial && Problems::of(repository, snapshot).any(is_missing)
}

/// What is wrong with a source.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Emptied {
    /// It holds nothing, and held nothing as far as is known.
    Nothing,
    /// It holds nothing, and held something.
    All {
        /// In this snapshot.
        snapshot: ObjectId,
    },
    /// It holds less than a tenth.
    Nearly {
        /// In this snapshot.
        snapshot: ObjectId,
        /// It held at least so many entries.
        held: u64,
    },
}

/// Looks at one source, which lies at `path` in the snapshot and holds `now` entries that are no directories. `reference` is
/// asked for only when it is needed.
///
/// # Errors
/// Nothing more can be read at all.
pub(super) fn examine(
    repository: &Repository,
    path: &[u8],
    now: u64,
    reference: &mut Reference<'_>,
) -> repository::Result<Option<Emptied>> {
    // As many as say that the source has lost something worth saying; see also [`has_lost_nearly_all`].
    let enough = if now == 0 { 1 } else { HELD_MIN.max(now.saturating_mul(LOST_PART).saturating_add(1)) };
    // A source that was as large as this one is now has lost nothing: most are known by that.
    let counted = reference.newest()?.map_or(0, |(_, snapshot)| snapshot.counts.files + snapshot.counts.others);
    let held = match counted >= enough {
        true => reference.newest()?.map_or(0, |(_, snapshot)| count_beneath(repository, snapshot, path, enough)),
        false => 0,
    };
    Ok(match (reference.newest()?, now) {
        (Some((snapshot, _)), 0) if held > 0 => Some(Emptied::All { snapshot: *snapshot }),
        (Some((snapshot, _)), _) if held >= enough => Some(Emptied::Nearly { snapshot: *snapshot, held }),
        (_, 0) => Some(Emptied::Nothing),
        _ => None,
    })
}

/// The snapshot that sources are compared with, looked for once.
pub(super) struct Reference<'a> {
    repository: &'a Repository,
    labels: &'a Labels,
    found: Option<Option<(ObjectId, Snapshot)>>,
}

impl<'a> Reference<'a> {
    /// Not looked for yet.
    pub const fn new(repository: &'a Repository, labels: &'a Labels) -> Self {
        Self { repository, labels, found: None }
    }

    fn newest(&mut self) -> repository::Result<Option<&(ObjectId, Snapshot)>> {
        let Self { repository, labels, found } = self;
        let found = match found {
            Some(found) => found,
            none => {
                let (all, _) = order::all_as_written(repository)?;
                none.insert(all.into_iter().rev().find_map(|(id, snapshot)| {
                    let snapshot = snapshot.ok()?;
                    let ours = log::is_same_source((&snapshot.host, &snapshot.paths), (&labels.host, &labels.paths));
                    (ours && snapshot.outcome != Outcome::Partial).then_some((id, snapshot))
                }))
            }
        };
        Ok(found.as_ref())
    }
}

/// How many entries that are no directories lie beneath a path, up to `enough`. A listing that cannot be read says nothing.
fn count_beneath(repository: &Repository, snapshot: &Snapshot, path: &[u8], enough: u64) -> u64 {
    let Some(listing) = find_directory(repository, &snapshot.root, path) else { return 0 };
    let mut count = 0;
    for visited in TreeWalk::new(repository, snapshot, path, listing) {
        let Ok(visited) = visited else { break };
        count += u64::from(!matches!(visited.entry.node, Node::Directory { .. }));
        if count >= enough {
            break;
        }
    }
    count
}

fn find_directory(repository: &Repository, root: &ChunkList, path: &[u8]) -> Option<ChunkList> {
    let mut listing = root.clone();
    for name in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
        let mut entries = Listing::new(repository, listing);
        let found = entries.find_map(|entry| entry.ok().filter(|entry| entry.name == name))?;
        match found.node {
            Node::Directory { listing: inner } => listing = inner,
            _ => return None,
        }
    }
    Some(listing)
}
