//! `--verify`: everything that was restored, and what was found to be right already, is read back and compared with chunk ids
//! and digests. The snapshot is walked again; the decisions of the plan say which files count.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::compare::{self, CompareError, Verdict};
use super::execute::{Shared, workers};
use super::plan::Start;
use super::planner::Decision;
use super::report::ProblemKind;
use super::tree::{Step, Tree};
use crate::codec::snapshot::Counts;
use crate::codec::tree::{Content, Entry, Node};
use crate::files::target::TargetDirectory;
use crate::ops::{Error, Result};

/// Files that wait to be read.
const WAITING_MAX: usize = 256;

/// A file to read.
struct Job {
    directory: Arc<TargetDirectory>,
    name: Vec<u8>,
    path: Vec<u8>,
    content: Content,
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
    let (jobs, waiting) = crossbeam_channel::bounded::<Job>(WAITING_MAX);
    let result = std::thread::scope(|scope| {
        for _ in 0..workers() {
            let waiting = waiting.clone();
            let verified = &verified;
            scope.spawn(move || {
                for job in waiting {
                    if !shared.is_stopped() {
                        one(shared, &job);
                        verified.fetch_add(1, Relaxed);
                    }
                }
            });
        }
        drop(waiting);
        // A worker that is gone has panicked, which the scope hands on: nobody waits for it here.
        let mut walk = Walk { shared, decisions: decisions.iter(), send: |job| jobs.send(job).is_ok() };
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
    decisions: std::slice::Iter<'d, Decision>,
    send: S,
}

impl<S: FnMut(Job) -> bool> Walk<'_, '_, S> {
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
                            if self.decisions.next() == Some(&Decision::Present) {
                                open.push(above.and_then(|above| above.directory(&entry.name).ok()));
                                tree.enter(listing.clone())?;
                            }
                        }
                        Node::Directory { .. } => {}
                        _ => match above {
                            Some(above) => self.entry(tree.path(), *entry, &above),
                            None if choice.selected => {
                                self.decisions.next();
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
        if let (Some(Decision::Present), Node::File(content)) = (self.decisions.next(), entry.node) {
            self.shared.monitor.expect(1, content.size, false);
            (self.send)(Job { directory: directory.clone(), name: entry.name, path: path.to_vec(), content });
        }
    }
}

fn one(shared: &Shared<'_>, job: &Job) {
    let found = compare::content(shared.repository, job.directory.as_directory(), &job.name, &job.content);
    shared.monitor.advance(1, job.content.size);
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
        Err(CompareError::Read(error)) => {
            shared.problem(&job.path, ProblemKind::Verify, format!("cannot be read back: {error}"));
        }
        Err(CompareError::Repository(error)) if error.is_unavailable() => shared.end(Error::at(&job.path, error)),
        Err(CompareError::Repository(error)) => {
            shared.problem(&job.path, ProblemKind::Damage, format!("cannot be verified: {error}"));
        }
    }
}
