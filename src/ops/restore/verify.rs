//! `--verify`: everything that was restored, and what was found to be right already, is read back: contents are compared with chunk
//! ids and digests, and the metadata of every kind of entry with what the snapshot says ([`super::verify_metadata`]). The snapshot
//! is walked again; the decisions of the plan say which entries count.

use std::collections::HashSet;
use std::fs::File;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::compare::{self, CompareError, Verdict};
use super::execute::Shared;
use super::limits::{kept_open, workers};
use super::plan::Start;
use super::planner::Decision;
use super::report::ProblemKind;
use super::tree::{Step, Tree};
use super::verify_metadata;
use crate::base::shortage::is_shortage;
use crate::base::threads;
use crate::codec::snapshot::Counts;
use crate::codec::tree::{Content, Entry, Metadata, Node};
use crate::files::target::TargetDirectory;
use crate::ops::item_progress::ItemProgress;
use crate::ops::{Error, Result};

/// Files that wait to be read.
const WAITING_MAX: usize = 256;
/// What they take of the open files that are left for keeping: each holds its directory.
const WAITING_SHARE: (usize, usize) = (1, 8);

/// A file to read.
struct Job {
    directory: Arc<TargetDirectory>,
    name: Vec<u8>,
    path: Vec<u8>,
    metadata: Metadata,
    content: Content,
    ordinal: u32,
}

/// Reads everything back.
///
/// # Errors
/// The user wants an end. What differs is a problem in the report.
pub(super) fn all(
    shared: &Shared<'_>,
    start: &Start,
    limit: Counts,
    decisions: &[Decision],
    root: Arc<TargetDirectory>,
) -> Result<()> {
    let verified = AtomicU64::new(0);
    let (jobs, waiting) = crossbeam_channel::bounded::<Job>(kept_open(WAITING_MAX, WAITING_SHARE));
    let result = std::thread::scope(|scope| {
        let worker = || {
            let waiting = waiting.clone();
            let verified = &verified;
            move || {
                for job in waiting {
                    if !shared.is_stopped() {
                        one(shared, &job);
                        verified.fetch_add(1, Relaxed);
                    }
                }
            }
        };
        threads::spawn(scope, workers(), worker).map_err(Error::Threads)?;
        drop(waiting);
        // A worker that is gone has panicked, which the scope hands on: nobody waits for it here.
        let rows = (0..).zip(&shared.catalog.directories);
        let restored = rows.filter(|(row, _)| !shared.directories.is_refused(*row));
        let restored = restored.map(|(_, directory)| directory.ordinal).collect();
        let mut walk = Walk { shared, decisions, next: 0, restored, send: |job| jobs.send(job).is_ok() };
        walk.root(&root);
        let result = match start {
            Start::Listing(listing) => walk.tree(Tree::new(shared.repository, listing.clone(), limit), root),
            Start::Entry(entry) => {
                let path = [b"/", entry.name.as_slice()].concat();
                walk.entry(&path, Entry::clone(entry), &root);
                Ok(())
            }
        };
        drop(jobs);
        result
    });
    shared.report(|report| report.verified = verified.load(Relaxed));
    result
}

struct Walk<'a, 'd, S> {
    shared: &'a Shared<'a>,
    decisions: &'d [Decision],
    next: usize,
    /// Directories that were made, or brought to the snapshot's metadata, by their numbers among the decisions.
    restored: HashSet<u32>,
    send: S,
}

impl<S: FnMut(Job) -> bool> Walk<'_, '_, S> {
    /// The next decision, and its number.
    fn decision(&mut self) -> Option<(u32, Decision)> {
        let ordinal = self.next;
        self.next += 1;
        self.decisions.get(ordinal).map(|decision| (ordinal as u32, *decision))
    }

    /// The target, when it got metadata of its own.
    fn root(&self, root: &TargetDirectory) {
        let catalog = self.shared.catalog;
        if let Some(top) = catalog.directories.first()
            && let Some(attributes) = &top.attributes
        {
            verify_metadata::compare(self.shared, b"/", top.ordinal, &catalog.metadata(attributes), root.as_fd());
        }
    }

    fn directory(
        &mut self,
        path: &[u8],
        entry: &Entry,
        above: Option<&TargetDirectory>,
    ) -> Option<Option<Arc<TargetDirectory>>> {
        let (ordinal, decision) = self.decision()?;
        if decision != Decision::Present {
            return None;
        }
        let opened = above.and_then(|above| above.directory(&entry.name).ok());
        if let Some(directory) = &opened
            && self.restored.contains(&ordinal)
        {
            verify_metadata::compare(self.shared, path, ordinal, &entry.metadata, directory.as_fd());
        }
        Some(opened)
    }

    fn tree(&mut self, mut tree: Tree<'_>, root: Arc<TargetDirectory>) -> Result<()> {
        // None: a directory that could not be made, which is known already.
        let mut open: Vec<Option<Arc<TargetDirectory>>> = vec![Some(root)];
        while let Some(step) = tree.next()? {
            if self.shared.is_stopped() {
                return Ok(());
            }
            match step {
                Step::Entry(entry) => {
                    let above = open.last().cloned().flatten();
                    let choice = self.shared.options.selection.choose(tree.path());
                    match &entry.node {
                        Node::Directory { listing } if choice.selected || choice.enter => {
                            if let Some(opened) = self.directory(tree.path(), &entry, above.as_deref()) {
                                open.push(opened);
                                tree.enter(listing.clone())?;
                            }
                        }
                        Node::Directory { .. } => {}
                        _ => match above {
                            Some(above) => self.entry(tree.path(), *entry, &above),
                            None if choice.selected => {
                                self.decision();
                            }
                            None => {}
                        },
                    }
                }
                // The plan has named it.
                Step::Broken(_) => {}
                Step::Leave => {
                    open.pop();
                }
            }
        }
        Ok(())
    }

    fn entry(&mut self, path: &[u8], entry: Entry, directory: &Arc<TargetDirectory>) {
        if !self.shared.options.selection.choose(path).selected {
            return;
        }
        let Some((ordinal, Decision::Present)) = self.decision() else { return };
        let Entry { name, metadata, node } = entry;
        match node {
            Node::File(content) => {
                (self.send)(Job {
                    directory: directory.clone(),
                    name,
                    path: path.to_vec(),
                    metadata,
                    content,
                    ordinal,
                });
            }
            node => {
                verify_metadata::special(self.shared, path, ordinal, &name, &metadata, &node, directory);
                self.shared.monitor.advance(1, 0);
            }
        }
    }
}

fn one(shared: &Shared<'_>, job: &Job) {
    let found = job.directory.as_directory().open_file(&job.name).map(File::from).map_err(CompareError::Read);
    if let Ok(file) = &found {
        verify_metadata::compare(shared, &job.path, job.ordinal, &job.metadata, file.as_fd());
    }
    let mut progress = ItemProgress::new(shared.monitor, 1, job.content.size);
    let mut seen = |bytes| progress.read(bytes);
    let found = found.and_then(|file| compare::content(shared.repository, &file, &job.content, &mut seen));
    match found {
        Ok(Verdict::Same) => {}
        // What was written is what is stored: the file is not to blame.
        Ok(Verdict::WrongDigest) => {
            let message = "its chunks are right, and the digest of the whole is another one than recorded: what stands in the target is \
                           not what was backed up";
            shared.problem(&job.path, ProblemKind::Damage, message.to_owned());
        }
        Ok(Verdict::Differs(how)) => {
            let message = format!("read back and not as in the snapshot: {how}; run the same command again");
            shared.problem(&job.path, ProblemKind::Verify, message);
        }
        Err(CompareError::Read(source)) if is_shortage(&source) => {
            shared.end(Error::Shortage { path: job.path.clone(), source });
        }
        Err(CompareError::Read(error)) => {
            shared.problem(&job.path, ProblemKind::Verify, format!("cannot be read back: {error}"));
        }
        Err(CompareError::Repository(error)) if error.is_unavailable() => shared.end(Error::at(&job.path, error)),
        Err(CompareError::Repository(error)) => {
            let kind = if error.is_unreadable() { ProblemKind::Unreadable } else { ProblemKind::Damage };
            shared.problem(&job.path, kind, format!("cannot be verified: {error}"));
        }
    }
}
