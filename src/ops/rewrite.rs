//! `rewrite`: new snapshots without some of the paths of old ones.
//!
//! Only listings are written, those on the way to what is dropped; contents stay where they are. What the dropped paths held is
//! freed by a prune, when no other snapshot needs it: the old snapshots must have gone by then.

use super::rewrite_tree::{Rewritten, Rules, TreeRewriter};
use super::select::{Chosen, Selection};
use super::{Error, Monitor, Phase, Result};
use crate::base::id::ObjectId;
use crate::codec::chunk_list::ChunkList;
use crate::codec::snapshot::{Counts, Snapshot};
use crate::codec::tree::Entry;
use crate::files::pattern::Patterns;
use crate::repository::pack_writer::PackOptions;
use crate::repository::replace::Replaced;
use crate::repository::run::Run;
use crate::repository::{self, Repository};

/// How to go about it.
#[derive(Debug, Clone)]
pub struct Options {
    /// What is dropped: patterns that tell upper from lower case, and those that do not.
    pub excludes: [Patterns; 2],
    /// The options that say so, for the new snapshots to remember.
    pub said: Vec<String>,
    /// The old snapshots leave, and the new ones take their place.
    pub replace: bool,
    /// How packs are written; with `discard` nothing is.
    pub packs: PackOptions,
}

/// What became of one snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The snapshot.
    pub id: ObjectId,
    /// What is no longer in the new one; none when nothing of it matches.
    pub dropped: Option<Counts>,
}

/// What was done.
#[derive(Debug, Default)]
pub struct Report {
    /// Every chosen snapshot, oldest first.
    pub changes: Vec<Change>,
    /// Old and new ids; none when nothing was published.
    pub published: Option<Replaced>,
    /// What a person should hear about.
    pub warnings: Vec<String>,
}

/// Judges paths by patterns.
struct Dropping<'a>(&'a [Patterns; 2]);

impl Rules for Dropping<'_> {
    fn keeps(&mut self, path: &[u8], _: &Entry) -> Result<bool> {
        Ok(!self.0.iter().any(|patterns| patterns.matches(path)))
    }

    fn broken(&mut self, path: &[u8], error: repository::Error) -> Result<()> {
        Err(Error::at(if path.is_empty() { b"/" } else { path }, error))
    }

    fn key(&self, path: &[u8], listing: &ChunkList) -> u128 {
        let mut hasher = blake3::Hasher::new();
        hasher.update(path).update(&[0]).update(&listing.key().to_le_bytes());
        let mut key = [0; 16];
        hasher.finalize_xof().fill(&mut key);
        u128::from_le_bytes(key)
    }
}

/// Rewrites the chosen snapshots and publishes the new ones in one head.
///
/// # Errors
/// Any error means that nothing was published: a listing that cannot be read, [`Error::Interrupted`], storage errors.
pub fn run(repository: &Repository, selection: &Selection, options: &Options, monitor: &dyn Monitor) -> Result<Report> {
    monitor.phase(Phase::Rewrite);
    let mut run = Run::begin(repository, options.packs)?;
    let mut rewriter = TreeRewriter::new(repository);
    let mut report = Report::default();
    let mut derived = Vec::new();
    for Chosen { id, snapshot } in &selection.chosen {
        let whole = (&snapshot.root, snapshot.counts.entries());
        let rewritten = rewriter.rewrite(&mut run, whole, &mut Dropping(&options.excludes), monitor)?;
        let dropped = rewritten.changed.then(|| difference(snapshot.counts, rewritten.counts));
        report.changes.push(Change { id: *id, dropped });
        if rewritten.changed {
            derived.push((*id, derive(*id, snapshot, rewritten, &options.said)));
        }
    }
    drop(rewriter);
    report.warnings = run.warnings().to_vec();
    if !options.packs.discard && !derived.is_empty() {
        report.published = Some(run.publish_derived(&derived, options.replace)?);
    }
    Ok(report)
}

fn difference(before: Counts, after: Counts) -> Counts {
    Counts {
        files: before.files.saturating_sub(after.files),
        directories: before.directories.saturating_sub(after.directories),
        others: before.others.saturating_sub(after.others),
        bytes: before.bytes.saturating_sub(after.bytes),
    }
}

fn derive(id: ObjectId, old: &Snapshot, rewritten: Rewritten, said: &[String]) -> Snapshot {
    let mut new = old.clone();
    new.original.get_or_insert(id);
    (new.root, new.counts) = (rewritten.root, rewritten.counts);
    let unsaid = said.iter().filter(|option| !old.options.contains(option));
    new.options.extend(unsaid.cloned());
    new
}
