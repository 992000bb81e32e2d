//! Writing a tree again without some of its entries: what `rewrite` and `repair snapshots` come down to.
//!
//! Listings are read and written one after the other, from the root down and back; one listing a level is open. A directory
//! in which nothing changes becomes the very same listing, so nothing of it is stored again, and it is gone through once
//! for all snapshots that have it in a place where the rules say the same.

use std::collections::HashMap;

use super::tree_depth::{check_depth, far_above};
use super::{Error, Monitor, Result};
use crate::codec::chunk_list::ChunkList;
use crate::codec::snapshot::{Counts, PATH_MAX};
use crate::codec::tree::{Entry, Node};
use crate::codec::{self, Reason};
use crate::repository;
use crate::repository::list_reader::{Listing, TreeChunks};
use crate::repository::list_writer::StreamWriter;
use crate::repository::run::Run;

/// What stays of a tree. Paths begin at the root, with a slash before each name.
pub(super) trait Rules {
    /// True for an entry that stays.
    ///
    /// # Errors
    /// Ends the rewriting.
    fn keeps(&mut self, path: &[u8], entry: &Entry) -> Result<bool>;

    /// A listing cannot be read to its end: it ends here.
    ///
    /// # Errors
    /// Ends the rewriting.
    fn broken(&mut self, path: &[u8], error: repository::Error) -> Result<()>;

    /// Two directories with the same key are judged alike.
    fn key(&self, path: &[u8], listing: &ChunkList) -> u128;
}

/// What a tree has become.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rewritten {
    /// The listing of its root.
    pub root: ChunkList,
    /// What it holds.
    pub counts: Counts,
    /// False when everything stayed.
    pub changed: bool,
}

struct Frame<'s> {
    /// The directory's own entry; none for the root.
    entry: Option<Entry>,
    /// Length of its path.
    path_length: usize,
    key: u128,
    listing: Listing<'s>,
    writer: StreamWriter,
    counts: Counts,
    /// How many directories lie below it, one in the other.
    height: usize,
    changed: bool,
}

/// Directories that are remembered, at most: 64 MiB. A small tree can stand for very many, each under a path of its own.
const UNCHANGED_MAX: usize = 1 << 19;

/// Rewrites trees, and remembers where nothing changes.
pub(super) struct TreeRewriter<'s> {
    source: &'s dyn TreeChunks,
    /// Directories in which nothing changes, what they hold, and their height.
    unchanged: HashMap<u128, (Counts, usize)>,
}

fn add(sum: &mut Counts, more: Counts) {
    sum.files = sum.files.saturating_add(more.files);
    sum.directories = sum.directories.saturating_add(more.directories);
    sum.others = sum.others.saturating_add(more.others);
    sum.bytes = sum.bytes.saturating_add(more.bytes);
}

impl<'s> TreeRewriter<'s> {
    /// Reads listings from `source`.
    pub fn new(source: &'s dyn TreeChunks) -> Self {
        Self { source, unchanged: HashMap::new() }
    }

    fn frame(&self, entry: Option<Entry>, path_length: usize, key: u128, listing: ChunkList) -> Frame<'s> {
        Frame {
            entry,
            path_length,
            key,
            listing: Listing::new(self.source, listing),
            writer: StreamWriter::default(),
            counts: Counts::default(),
            height: 0,
            changed: false,
        }
    }

    /// Rewrites the tree below `root`, which has at most `entries` entries.
    ///
    /// # Errors
    /// What the rules say, storage errors (final for the run), [`Error::Interrupted`], and trees that unfold beyond what
    /// their snapshot says.
    pub fn rewrite(
        &mut self,
        run: &mut Run<'_>,
        (root, entries): (&ChunkList, u64),
        rules: &mut dyn Rules,
        monitor: &dyn Monitor,
    ) -> Result<Rewritten> {
        let mut path = Vec::new();
        let key = rules.key(&path, root);
        let mut frames = vec![self.frame(None, 0, key, root.clone())];
        let mut left = entries;
        loop {
            let Some(frame) = frames.last_mut() else {
                return Err(Error::Internal("a tree ended before its root".to_owned()));
            };
            path.truncate(frame.path_length);
            let entry = match frame.listing.next() {
                Some(Ok(entry)) => entry,
                Some(Err(error)) => {
                    rules.broken(&path, error)?;
                    frame.changed = true;
                    continue;
                }
                None => {
                    let Some(done) = frames.pop() else { continue };
                    let listing = done.writer.finish(run)?;
                    if !done.changed {
                        // What is forgotten is gone through again.
                        if self.unchanged.len() >= UNCHANGED_MAX {
                            self.unchanged.clear();
                        }
                        self.unchanged.insert(done.key, (done.counts, done.height));
                    }
                    let Some(parent) = frames.last_mut() else {
                        return Ok(Rewritten { root: listing, counts: done.counts, changed: done.changed });
                    };
                    parent.changed |= done.changed;
                    add(&mut parent.counts, done.counts);
                    parent.height = parent.height.max(done.height + 1);
                    if let Some(entry) = done.entry {
                        parent.writer.push_entry(run, &Entry { node: Node::Directory { listing }, ..entry })?;
                    }
                    continue;
                }
            };
            if monitor.interrupted() {
                return Err(Error::Interrupted);
            }
            path.push(b'/');
            path.extend_from_slice(&entry.name);
            let refuse = |rule| {
                let error = codec::Error::new("tree", Reason::BrokenRule { rule });
                Error::at(&path, repository::Error::Stream { error })
            };
            if path.len() > PATH_MAX {
                return Err(refuse("a path is longer than any path may be"));
            }
            left = left.checked_sub(1).ok_or_else(|| refuse("there are more entries than the snapshot says it has"))?;
            monitor.advance(1, 0);
            if !rules.keeps(&path, &entry)? {
                frame.changed = true;
                continue;
            }
            match &entry.node {
                Node::Directory { listing } => {
                    frame.counts.directories = frame.counts.directories.saturating_add(1);
                    let key = rules.key(&path, listing);
                    if let Some((counts, height)) = self.unchanged.get(&key) {
                        check_depth(&path, *height)?;
                        frame.height = frame.height.max(height + 1);
                        left = left.saturating_sub(counts.entries());
                        add(&mut frame.counts, *counts);
                        frame.writer.push_entry(run, &entry)?;
                        continue;
                    }
                    check_depth(&path, 0)?;
                    let (length, listing) = (path.len(), listing.clone());
                    let inner = self.frame(Some(entry), length, key, listing);
                    frames.push(inner);
                    if let Some(far) = far_above(&mut frames) {
                        far.listing.let_go();
                    }
                    continue;
                }
                Node::File(content) => {
                    frame.counts.files = frame.counts.files.saturating_add(1);
                    frame.counts.bytes = frame.counts.bytes.saturating_add(content.size);
                }
                _ => frame.counts.others = frame.counts.others.saturating_add(1),
            }
            frame.writer.push_entry(run, &entry)?;
        }
    }
}
