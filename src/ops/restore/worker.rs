//! Writing the contents: blocks in pack order, each read, opened and checked once, its pieces to all files that hold them.

use crate::base::lock::lock;
use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use super::catalog::{File, NONE};
use super::compare::Cursor;
use super::digests::{self, Digests, Verdict};
use super::execute::{Shared, existing};
use super::open_files::OpenFiles;
use super::pieces::{Piece, Sorted};
use super::report::ProblemKind;
use crate::base::id::{ChunkId, ObjectId};
use crate::codec::key_tree::ChunkKind;
use crate::codec::pack::PackKind;
use crate::files::new_file::NewFile;
use crate::files::target::{TargetDirectory, TargetError};
use crate::ops::{Action, Item};
use crate::repository::index;
use crate::repository::{self, cache::BlockPlace};

/// Pieces that one worker takes at once. A block that has more (the same chunk very often) is read again for the rest.
const JOB_PIECES_MAX: usize = 1 << 16;
/// Files without content that one worker takes at once.
const EMPTY_FILES: usize = 256;
/// Zeros that `--sparse` leaves out: aligned runs of this many bytes.
const SPARSE_BYTES: usize = 32 << 10;

/// Where blocks lie.
pub(super) struct Source<'a> {
    pub packs: &'a [ObjectId],
    pub blocks: &'a HashMap<(u32, u16), BlockPlace>,
}

/// The pieces, handed out block by block.
pub(super) struct Jobs {
    sorted: Sorted,
    next: Option<Piece>,
}

impl Jobs {
    pub fn new(sorted: Sorted) -> Self {
        Self { sorted, next: None }
    }

    /// Fills `job` with the pieces of one block; it stays empty at the end.
    fn take(&mut self, job: &mut Vec<Piece>) -> io::Result<()> {
        job.clear();
        let first = match self.next.take() {
            Some(piece) => piece,
            None => match self.sorted.next()? {
                Some(piece) => piece,
                None => return Ok(()),
            },
        };
        job.push(first);
        while job.len() < JOB_PIECES_MAX {
            match self.sorted.next()? {
                Some(piece) if piece.key() == first.key() => job.push(piece),
                other => {
                    self.next = other;
                    break;
                }
            }
        }
        Ok(())
    }
}

/// What one worker keeps from file to file.
#[derive(Default)]
struct Hand {
    directory: Option<(u32, Arc<TargetDirectory>)>,
    /// Chunks of the block in hand that were hashed, by offset and length.
    hashed: HashMap<(u32, u32), ChunkId>,
}

/// Writes files; one value for all threads.
pub(super) struct Worker<'a> {
    shared: &'a Shared<'a>,
    source: &'a Source<'a>,
    jobs: Mutex<Jobs>,
    next_empty: AtomicUsize,
    open: OpenFiles,
    digests: Digests,
}

type Bytes<'b> = &'b [u8];

impl<'a> Worker<'a> {
    pub fn new(shared: &'a Shared<'a>, jobs: Jobs, source: &'a Source<'a>) -> Self {
        Self {
            shared,
            source,
            jobs: Mutex::new(jobs),
            next_empty: AtomicUsize::new(0),
            open: OpenFiles::default(),
            digests: Digests::default(),
        }
    }

    /// Works until there is nothing left to do.
    pub fn run(&self) {
        let mut hand = Hand::default();
        self.empty_files(&mut hand);
        let mut job = Vec::new();
        while !self.shared.is_stopped() {
            let taken = lock(&self.jobs).take(&mut job);
            if let Err(error) = taken {
                self.shared.end(super::planner::spill_error(error));
            }
            let Some(first) = job.first().copied() else { return };
            self.block(first, &job, &mut hand);
        }
    }

    /// Removes what was not finished.
    pub fn abandon(&self) {
        for (row, detached) in self.open.abandon() {
            if let Some(file) = self.shared.catalog.files.get(row as usize)
                && let Ok(directory) = self.shared.directories.get(file.place.directory)
            {
                detached.attach(directory).discard();
            }
        }
    }

    /// Files without any data: empty ones, and those that are one hole.
    fn empty_files(&self, hand: &mut Hand) {
        let files = &self.shared.catalog.files;
        while !self.shared.is_stopped() {
            let start = self.next_empty.fetch_add(EMPTY_FILES, Relaxed);
            let Some(some) = files.get(start..) else { return };
            for (row, file) in (start as u32..).zip(some.iter().take(EMPTY_FILES)) {
                if file.pieces == 0 && !self.has_failed(row) {
                    self.whole(row, file, &[], &[], hand);
                }
            }
        }
    }

    fn has_failed(&self, row: u32) -> bool {
        self.shared.failed.get(row as usize).is_none_or(|failed| failed.load(Relaxed))
    }

    /// Marks a file as failed; true when it was not before.
    fn fail(&self, row: u32) -> bool {
        let is_new = self.shared.failed.get(row as usize).is_some_and(|failed| !failed.swap(true, Relaxed));
        if is_new {
            self.shared.monitor.skip(1, 0);
        }
        is_new
    }

    fn block(&self, first: Piece, job: &[Piece], hand: &mut Hand) {
        let shared = self.shared;
        let (Some(pack), Some(at)) = (self.source.packs.get(first.pack as usize), self.source.blocks.get(&first.key()))
        else {
            return;
        };
        let place = index::Place { pack: *pack, block: first.block, at: *at, offset: 0, length: 0 };
        let plain = match shared.repository.block(PackKind::Data, &place) {
            // Nothing is damaged, and the next block would not come either: the same command goes on later.
            Err(error) if error.is_unavailable() => return shared.end(error.into()),
            plain => plain.map(Arc::new),
        };
        shared.report(|report| report.blocks += 1);
        hand.hashed.clear();
        let nothing = Arc::default();
        for run in job.chunk_by(|a, b| a.file == b.file) {
            let Some(piece) = run.first() else { continue };
            let Some(file) = shared.catalog.files.get(piece.file as usize) else { continue };
            if self.has_failed(piece.file) {
                // It is not written any more.
                shared.monitor.skip(0, run.iter().map(|piece| u64::from(piece.length)).sum());
            }
            let bytes = match &plain {
                Ok(plain) => self.check(run, plain, hand).map(|_| plain).map_err(|piece| {
                    format!(
                        "block {} of pack {} does not hold the {} bytes at {} that the index says",
                        place.block,
                        place.pack.short(),
                        piece.length,
                        piece.offset
                    )
                }),
                Err(error) => Err(format!("block {} of pack {}: {error}", place.block, place.pack.short())),
            };
            let plain = match bytes {
                Ok(plain) => plain,
                Err(message) if plain.as_ref().is_err_and(repository::Error::is_unreadable) => {
                    self.unreadable(piece.file, file, &message);
                    &nothing
                }
                Err(message) => {
                    self.damaged(piece.file, file, *pack, message);
                    &nothing
                }
            };
            if run.len() as u64 == u64::from(file.pieces) {
                if !self.has_failed(piece.file) {
                    self.whole(piece.file, file, run, plain, hand);
                }
            } else {
                self.part(piece.file, file, run, plain, hand);
            }
            if shared.is_stopped() {
                return;
            }
        }
    }

    /// Nothing is known of the bytes: this process cannot read them now.
    fn unreadable(&self, row: u32, file: &File, message: &str) {
        if self.fail(row) {
            let path = self.shared.catalog.path(file.place);
            self.shared.problem(&path, ProblemKind::Unreadable, format!("{message}; the file is not restored"));
        }
    }

    fn damaged(&self, row: u32, file: &File, pack: ObjectId, message: String) {
        if self.fail(row) {
            let path = self.shared.catalog.path(file.place);
            self.shared.problem(&path, ProblemKind::Damage, format!("{message}; the file is not restored"));
            self.shared.report(|report| *report.damaged_packs.entry(pack).or_default() += 1);
        }
    }

    /// Every chunk is what its id says. Gives the block back, or the piece that is not.
    fn check<'b>(&self, run: &[Piece], plain: &'b [u8], hand: &mut Hand) -> Result<Bytes<'b>, Piece> {
        for piece in run {
            let bytes = bytes_of(piece, plain).ok_or(*piece)?;
            let id = hand
                .hashed
                .entry((piece.offset, piece.length))
                .or_insert_with(|| self.shared.repository.keys().chunk_id(ChunkKind::Data, bytes));
            if !piece.is_of(id) {
                return Err(*piece);
            }
        }
        Ok(plain)
    }

    fn directory(&self, row: u32, hand: &mut Hand) -> Result<Arc<TargetDirectory>, TargetError> {
        if let Some((kept, directory)) = &hand.directory
            && *kept == row
        {
            return Ok(directory.clone());
        }
        let directory = self.shared.directories.get(row)?;
        hand.directory = Some((row, directory.clone()));
        Ok(directory)
    }

    fn create(&self, file: &File, hand: &mut Hand) -> Result<NewFile, TargetError> {
        let shared = self.shared;
        let directory = self.directory(file.place.directory, hand)?;
        let new = NewFile::create(&directory, shared.catalog.bytes(file.place.name), existing(file.replaces))?;
        if file.attributes.has_flags() {
            new.prepare(&shared.catalog.metadata(&file.attributes));
        }
        if file.holes != NONE || shared.options.sparse {
            new.set_length(file.size)?;
        }
        Ok(new)
    }

    /// The chunks of a file are right, and together they are not what was backed up.
    fn wrong_digest(&self, row: u32, file: &File) {
        if self.fail(row) {
            let path = self.shared.catalog.path(file.place);
            let message = "its chunks are right, and the digest of the whole is another one than recorded: they are not what was \
                           backed up; the file is not restored";
            self.shared.problem(&path, ProblemKind::Damage, message.to_owned());
        }
    }

    /// A file that is complete with this block.
    fn whole(&self, row: u32, file: &File, run: &[Piece], plain: Bytes<'_>, hand: &mut Hand) {
        let catalog = self.shared.catalog;
        if catalog.digest(file).is_some_and(|digest| !digests::is_right(digest, run, plain, catalog.holes(file))) {
            return self.wrong_digest(row, file);
        }
        let written = self.create(file, hand).and_then(|new| {
            self.write(&new, file, run, plain)?;
            Ok(new)
        });
        match written {
            Ok(new) => self.finish(row, file, new),
            Err(error) => self.target_failed(row, file, &error),
        }
    }

    /// A file that has pieces in other blocks too.
    fn part(&self, row: u32, file: &File, run: &[Piece], plain: &Arc<Vec<u8>>, hand: &mut Hand) {
        let failed_before = self.has_failed(row);
        let opened = if failed_before {
            Ok(None)
        } else {
            self.open.acquire(row, file.pieces, |detached| match detached {
                None => self.create(file, hand),
                Some(detached) => detached.attach(self.directory(file.place.directory, hand)?).reopen(),
            })
        };
        let result = match &opened {
            Ok(Some(new)) => self.write(new, file, run, plain),
            Ok(None) => Ok(()),
            Err(_) => Ok(()),
        };
        let failed = failed_before || opened.is_err() || result.is_err();
        let digest = self.shared.catalog.digest(file);
        match failed {
            true => self.digests.forget(row),
            false if digest.is_some() => self.digests.add(row, run, plain),
            false => {}
        }
        if let Some(error) = opened.as_ref().err().or(result.as_ref().err()) {
            self.target_failed(row, file, error);
        }
        let done = self.open.release(row, opened.ok().flatten(), run.len() as u32, failed);
        let Some(new) = done else { return };
        if let Some(digest) = digest {
            let holes = self.shared.catalog.holes(file);
            let length = holes.iter().fold(file.size, |left, hole| left.saturating_sub(hole.length));
            match self.digests.end(row, length, digest, holes) {
                Verdict::Right => {}
                Verdict::Wrong => return self.wrong_digest(row, file),
                Verdict::NotCompared => self.shared.report(|report| report.not_compared += 1),
            }
        }
        self.finish(row, file, new);
    }

    fn target_failed(&self, row: u32, file: &File, error: &TargetError) {
        if self.fail(row) {
            self.shared.target_problem(file.place, error);
        }
    }

    fn finish(&self, row: u32, file: &File, new: NewFile) {
        let shared = self.shared;
        let metadata = shared.catalog.metadata(&file.attributes);
        match new.finish(&metadata, &shared.applier) {
            Ok((made, problems)) => {
                if file.group != NONE {
                    shared.made(file.group, made);
                }
                shared.applied(file.place, file.ordinal, problems);
                shared.report(|report| report.files += 1);
                let holes: u64 = shared.catalog.holes(file).iter().map(|hole| hole.length).sum();
                shared.monitor.advance(1, holes);
                let path = shared.catalog.path(file.place);
                shared.monitor.item(&Item { size: file.size, ..Item::new(&path, action(file)) });
            }
            Err(error) => self.target_failed(row, file, &error),
        }
    }

    fn write(&self, new: &NewFile, file: &File, run: &[Piece], plain: Bytes<'_>) -> Result<(), TargetError> {
        let holes = self.shared.catalog.holes(file);
        let mut written = 0;
        for piece in run {
            let Some(mut bytes) = bytes_of(piece, plain) else { continue };
            let mut cursor = Cursor::at(holes, piece.position);
            written += bytes.len() as u64;
            while !bytes.is_empty() {
                let step = usize::try_from(cursor.run()).unwrap_or(usize::MAX).min(bytes.len());
                let (now, later) = bytes.split_at(step);
                if self.shared.options.sparse {
                    write_sparse(new, cursor.offset, now)?;
                } else {
                    new.write_at(cursor.offset, now)?;
                }
                cursor.advance(step as u64);
                bytes = later;
            }
        }
        self.shared.report(|report| report.bytes += written);
        self.shared.monitor.advance(0, written);
        Ok(())
    }
}

const fn action(file: &File) -> Action {
    if file.replaces { Action::Changed } else { Action::New }
}

pub(super) fn bytes_of<'b>(piece: &Piece, plain: &'b [u8]) -> Option<&'b [u8]> {
    plain.get(piece.offset as usize..)?.get(..piece.length as usize)
}

/// Writes all but aligned runs of zeros; the file has its length already.
fn write_sparse(new: &NewFile, offset: u64, bytes: &[u8]) -> Result<(), TargetError> {
    let is_hole = |part: &[u8]| part.len() == SPARSE_BYTES && part.iter().all(|byte| *byte == 0);
    let mut at = offset;
    let mut rest = bytes;
    let mut pending: (u64, &[u8], usize) = (offset, bytes, 0);
    while !rest.is_empty() {
        let to_boundary = SPARSE_BYTES - (at % SPARSE_BYTES as u64) as usize;
        let (part, later) = rest.split_at(to_boundary.min(rest.len()));
        if is_hole(part) {
            flush(new, pending)?;
            pending = (at + part.len() as u64, later, 0);
        } else {
            pending.2 += part.len();
        }
        at += part.len() as u64;
        rest = later;
    }
    flush(new, pending)
}

fn flush(new: &NewFile, (offset, bytes, length): (u64, &[u8], usize)) -> Result<(), TargetError> {
    match bytes.get(..length) {
        Some(bytes) if length > 0 => new.write_at(offset, bytes),
        _ => Ok(()),
    }
}
