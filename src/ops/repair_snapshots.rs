//! `repair snapshots`: new snapshots without what is lost.
//!
//! A file of which one chunk is in no live pack is left out: half a file under its name would be wrong bytes. A directory
//! whose listing is lost keeps what of it can be read. Both go into the new snapshot's list of problems, with their
//! paths, and its outcome is partial. The old snapshots stay until they are told to go: a pack that turns up heals them.
//!
//! # Invariants
//!
//! - Only what the index has for lost is dropped. A pack that is damaged, or of which it is not known yet that it is gone, ends
//!   the repair before anything is published: `repair packs` comes first.
//! - All new snapshots are published in one head, or none.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::Path;

use super::rewrite_tree::{Rewritten, Rules, TreeRewriter};
use super::select::{Chosen, Selection};
use super::{Error, Monitor, Phase, Result};
use crate::base::command::suggest;
use crate::base::id::ObjectId;
use crate::base::unnamed_file;
use crate::codec::chunk_list::ChunkList;
use crate::codec::deletion_log::encode_deletion;
use crate::codec::snapshot::{self, Outcome, Problem, ProblemKind, ProblemReader, Snapshot};
use crate::codec::tree::{Content, Entry, Node};
use crate::repository::list_reader::{Chunks, Deletions, Problems};
use crate::repository::list_writer::StreamWriter;
use crate::repository::pack_writer::PackOptions;
use crate::repository::replace::Replaced;
use crate::repository::run::Run;
use crate::repository::{self, Repository};
use crate::storage::{Folder, ObjectName};

/// How to go about it.
#[derive(Debug, Clone, Copy)]
pub struct Options {
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
    /// Files that are lost.
    pub files: u64,
    /// Their sizes, in bytes.
    pub bytes: u64,
    /// Directories of which some of the listing is lost, and so whatever stood there.
    pub directories: u64,
    /// Nothing of it can be read: there is nothing to make a snapshot of.
    pub all_lost: bool,
}

impl Change {
    /// True when nothing of the snapshot is lost.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.files == 0 && self.directories == 0 && !self.all_lost
    }
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

/// Told of each lost path: of which snapshot, where, and why.
pub type Lost<'a> = &'a mut dyn FnMut(ObjectId, &[u8], &str);

/// Judges by what the index has.
struct Losses<'a, 'l> {
    repository: &'a Repository,
    snapshot: ObjectId,
    change: Change,
    problems: NewProblems,
    lost: Lost<'l>,
}

/// What was found to be lost in one snapshot. A small tree can stand for very many long paths, so they are kept in an unnamed file, and no
/// memory grows with them.
#[derive(Debug, Default)]
struct NewProblems {
    buffer: Vec<u8>,
    file: Option<File>,
    count: u64,
}

/// Bytes that are written or read at once: 256 KiB.
const PIECE_BYTES: usize = 256 << 10;

impl NewProblems {
    fn add(&mut self, folder: &Path, mut problem: Problem) -> Result<()> {
        while problem.message.len() > snapshot::TEXT_MAX {
            problem.message.pop();
        }
        // A path of what cannot be read is never longer than a snapshot's may be.
        snapshot::encode_problem(&problem, &mut self.buffer).map_err(|error| repository::Error::Stream { error })?;
        self.count += 1;
        if self.buffer.len() >= PIECE_BYTES { self.spill(folder).map_err(spill_error) } else { Ok(()) }
    }

    fn spill(&mut self, folder: &Path) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(unnamed_file::create(folder)?),
        };
        file.write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }

    /// Puts them at the end of a list.
    fn write(&mut self, writer: &mut StreamWriter, run: &mut Run<'_>) -> Result<()> {
        let mut reader = ProblemReader::new();
        let mut hand_on = |bytes: &[u8]| -> Result<()> {
            reader.push(bytes);
            while let Some(problem) = reader.next().map_err(|error| repository::Error::Stream { error })? {
                writer.push(run, |buffer| snapshot::encode_problem(&problem, buffer))?;
            }
            Ok(())
        };
        if let Some(file) = &mut self.file {
            file.rewind().map_err(spill_error)?;
            let mut piece = vec![0; PIECE_BYTES];
            loop {
                match file.read(&mut piece).map_err(spill_error)? {
                    0 => break,
                    length => hand_on(piece.get(..length).unwrap_or_default())?,
                }
            }
        }
        hand_on(&self.buffer)
    }
}

fn spill_error(source: io::Error) -> Error {
    Error::System { what: "the temporary file of what is lost".to_owned(), source }
}

/// A loss that `repair packs` has found out about; anything else is an error to be mended first.
const fn is_loss(error: &repository::Error) -> bool {
    matches!(error, repository::Error::ChunkMissing { .. } | repository::Error::Stream { .. })
}

impl Losses<'_, '_> {
    fn content(&self, content: &Content) -> repository::Result<()> {
        for chunk in Chunks::of_file(self.repository, content) {
            self.repository.locate(&chunk?)?;
        }
        Ok(())
    }

    fn lose(&mut self, path: &[u8], message: String) -> Result<()> {
        (self.lost)(self.snapshot, path, &message);
        let folder = self.repository.cache_folder().map_or_else(std::env::temp_dir, Path::to_path_buf);
        self.problems.add(&folder, Problem { path: path.to_vec(), kind: ProblemKind::Unreadable, message })
    }
}

impl Rules for Losses<'_, '_> {
    fn keeps(&mut self, path: &[u8], entry: &Entry) -> Result<bool> {
        let Node::File(content) = &entry.node else { return Ok(true) };
        let Err(error) = self.content(content) else { return Ok(true) };
        if !is_loss(&error) {
            return Err(Error::at(path, error));
        }
        self.change.files += 1;
        self.change.bytes = self.change.bytes.saturating_add(content.size);
        self.lose(path, format!("lost from the repository: {error}"))?;
        Ok(false)
    }

    fn broken(&mut self, path: &[u8], error: repository::Error) -> Result<()> {
        let path: &[u8] = if path.is_empty() { b"/" } else { path };
        if !is_loss(&error) {
            return Err(Error::at(path, error));
        }
        self.change.directories += 1;
        self.lose(path, format!("some of its listing is lost from the repository, and what stood there: {error}"))
    }

    /// What is lost does not depend on where it stood.
    fn key(&self, _: &[u8], listing: &ChunkList) -> u128 {
        listing.key()
    }
}

/// Makes new snapshots of the chosen ones that have lost something, and publishes them in one head. `lost` hears of every
/// lost path before that.
///
/// # Errors
/// Any error means that nothing was published: damage that `repair index` or `repair packs` must see first,
/// [`Error::Interrupted`], storage errors.
pub fn run(
    repository: &Repository,
    selection: &Selection,
    options: Options,
    monitor: &dyn Monitor,
    lost: Lost<'_>,
) -> Result<Report> {
    monitor.phase(Phase::Rewrite);
    let mut run = Run::begin(repository, options.packs)?;
    require_known(repository)?;
    let mut rewriter = TreeRewriter::new(repository);
    let mut report = Report::default();
    let mut derived = Vec::new();
    for Chosen { id, snapshot } in &selection.chosen {
        let change = Change { id: *id, files: 0, bytes: 0, directories: 0, all_lost: false };
        let mut losses =
            Losses { repository, snapshot: *id, change, problems: NewProblems::default(), lost: &mut *lost };
        let whole = (&snapshot.root, snapshot.counts.entries());
        let rewritten = rewriter.rewrite(&mut run, whole, &mut losses, monitor)?;
        let Losses { mut change, problems, .. } = losses;
        change.all_lost = rewritten.changed && rewritten.counts.entries() == 0;
        let log = readable_log(&mut run, snapshot)?;
        let list_lost = lost_list(repository, snapshot)?;
        if (problems.count > 0 || list_lost.is_some() || log.is_some()) && !change.all_lost {
            let mut new = derive(&mut run, *id, snapshot, rewritten, (problems, list_lost))?;
            if let Some((deleted, count)) = log {
                (new.deleted, new.deleted_count) = (deleted, count);
            }
            derived.push((*id, new));
        }
        report.changes.push(change);
    }
    drop(rewriter);
    report.warnings = run.warnings().to_vec();
    if !options.packs.discard && !derived.is_empty() {
        repository.close_index();
        report.published = Some(run.publish_derived(&derived, options.replace)?);
    }
    Ok(report)
}

/// Everything that is broken is known to be: segments can be read, and live packs are there with their lengths.
fn require_known(repository: &Repository) -> Result<()> {
    let index = repository.index();
    if let Some(error) = index.broken().first() {
        return Err(Error::Refused(format!("{error}. First: {}", suggest!("repair index"))));
    }
    let listed = repository.storage().list(Folder::Packs).map_err(repository::Error::from)?;
    let there: BTreeMap<ObjectId, u64> =
        listed.into_iter().filter_map(|found| Some((found.name.id()?, found.length))).collect();
    let mut bad = None;
    for (id, pack) in index.packs().iter().filter(|(id, pack)| there.get(*id) != Some(&pack.length)) {
        if there.contains_key(id) || repository.length_if_there(&ObjectName::Pack(*id))? != Some(pack.length) {
            bad = Some(id);
            break;
        }
    }
    match bad {
        None => Ok(()),
        Some(id) => Err(Error::Refused(format!(
            "{} is missing or has another length: copy it back from any other copy of the repository. Without one, \
             first: {}",
            ObjectName::Pack(*id),
            suggest!("repair packs")
        ))),
    }
}

/// What is to be said where the list of problems of before cannot be read to its end.
fn lost_list(repository: &Repository, old: &Snapshot) -> Result<Option<Problem>> {
    match Problems::of(repository, old).find_map(std::result::Result::err) {
        None => Ok(None),
        Some(error) if is_loss(&error) => {
            let message = format!("some of the list of what could not be saved is lost: {error}");
            Ok(Some(Problem { path: b"/".to_vec(), kind: ProblemKind::Metadata, message }))
        }
        Some(error) => Err(error.into()),
    }
}

/// What can be read of a log of deletions of which some is lost; none when nothing is.
fn readable_log(run: &mut Run<'_>, old: &Snapshot) -> Result<Option<(ChunkList, u64)>> {
    let repository = run.repository();
    let lost = Deletions::of(repository, old).find_map(std::result::Result::err);
    let Some(error) = lost else { return Ok(None) };
    if !is_loss(&error) {
        return Err(error.into());
    }
    let (mut writer, mut count) = (StreamWriter::default(), 0);
    for deletion in Deletions::of(repository, old).map_while(std::result::Result::ok) {
        writer.push(run, |buffer| encode_deletion(&deletion, buffer))?;
        count += 1;
    }
    Ok(Some((writer.finish(run)?, count)))
}

/// The snapshot without what is lost. Its problems are those of before, as far as they can be read, and those that came.
fn derive(
    run: &mut Run<'_>,
    id: ObjectId,
    old: &Snapshot,
    rewritten: Rewritten,
    (mut came, list_lost): (NewProblems, Option<Problem>),
) -> Result<Snapshot> {
    let mut new = old.clone();
    new.original.get_or_insert(id);
    (new.root, new.counts) = (rewritten.root, rewritten.counts);
    new.outcome = Outcome::Partial;
    let (mut writer, mut count) = (StreamWriter::default(), came.count);
    let repository = run.repository();
    for problem in Problems::of(repository, old).map_while(std::result::Result::ok).chain(list_lost) {
        writer.push(run, |buffer| snapshot::encode_problem(&problem, buffer))?;
        count += 1;
    }
    came.write(&mut writer, run)?;
    (new.problems, new.problem_count) = (writer.finish(run)?, count);
    Ok(new)
}
