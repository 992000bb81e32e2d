//! Making a plan: the walk through the snapshot beside a look at the target.

use crate::ops;
use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::catalog::{Adjust, Catalog, Directory, File, Link, NONE, Place, Special, next_row};
use super::deletion::{self, Deletion, Sources, Stays};
use super::existing::{Existing, Keep, own_error, target_error};
use super::limits;
use super::pieces::{Piece, Pieces};
use super::plan::{Plan, Start};
use super::report::{Problem, ProblemKind, Report};
use super::spelling::Spellings;
use super::tree::{Step, Tree};
use super::{Options, Overwrite};
use crate::base::escape::Escaped;
use crate::base::id::ObjectId;
use crate::codec::tree::{Content, Entry, Metadata, Node};
use crate::files::apply::Applier;
use crate::files::copy::not_linked;
use crate::files::file_system::FileSystems;
use crate::files::made::Seen;
use crate::files::own::Owner;
use crate::files::stat::Kind;
use crate::files::target::{Target, TargetDirectory};
use crate::ops::select::{Chosen, Found, Part};
use crate::ops::{Action, Error, Item, Monitor, Phase, Result, Severity};
use crate::repository::cache::BlockPlace;
use crate::repository::list_reader::Chunks;
use crate::repository::{self, Repository};

/// What the plan says about one entry that the selection lets through, in the order of the walk: for `--verify`, which walks
/// again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// An entry that is or will be there as the snapshot has it; a directory that was entered.
    Present,
    /// Anything else.
    Left,
}

/// What stands in the target where a directory's entries go.
#[derive(Clone)]
pub(super) enum There {
    /// Nothing: everything beneath is new.
    Nothing,
    /// A directory.
    Directory(Arc<TargetDirectory>),
}

pub(super) struct Frame {
    /// Row in the catalog, once something in it is restored.
    row: Option<u32>,
    /// Its number among the decisions.
    ordinal: u32,
    name: Vec<u8>,
    metadata: Metadata,
    there: There,
    /// Its obstacle is noted when the directory itself is.
    obstacle: bool,
    /// It lies on a file system that is mounted beneath the target.
    mounted: bool,
    /// Names in the target that no entry of the snapshot has claimed yet, in order; none when nothing is removed.
    names: Option<std::iter::Peekable<std::vec::IntoIter<Vec<u8>>>>,
    extra: Vec<Vec<u8>>,
    /// What stands there, and which of it the snapshot has.
    pub(super) spellings: Spellings,
    /// It is known what is extra.
    pub(super) removes: bool,
}

/// Key of a group of hard links in the snapshot, and what its first name holds.
type GroupKey = (u32, u64);

pub(super) struct Planner<'a> {
    pub(super) repository: &'a Repository,
    pub(super) options: &'a Options,
    pub(super) monitor: &'a dyn Monitor,
    sources: Sources,
    /// Path of the restored part in the snapshot.
    prefix: Vec<u8>,
    spill: PathBuf,
    pub(super) applier: Applier,
    systems: Arc<FileSystems>,
    pub(super) frames: Vec<Frame>,
    catalog: Catalog,
    pieces: Pieces,
    packs: Vec<ObjectId>,
    pack_rows: HashMap<ObjectId, u32>,
    blocks: HashMap<(u32, u16), BlockPlace>,
    groups: HashMap<GroupKey, (u32, [u8; 32])>,
    /// Existing inodes that were kept for a group.
    pub(super) claimed: HashSet<(u64, u64)>,
    deletions: Vec<Deletion>,
    pub(super) obstacles: Vec<Deletion>,
    decisions: Vec<Decision>,
    broken: Vec<u32>,
    pub(super) report: Report,
}

/// Works out what a restore will do. Changes nothing; where the target's file system is not known, a file and a directory are
/// made in it to find out what it keeps, and removed at once, unless this is for a dry run.
///
/// # Errors
/// The snapshot holds more than it says, the root cannot be read, or the target cannot be looked at. Whatever concerns
/// single entries is a problem in the plan.
pub fn plan(
    repository: &Repository,
    chosen: &Chosen,
    found: &Found,
    options: &Options,
    monitor: &dyn Monitor,
) -> Result<Plan> {
    monitor.phase(Phase::Plan);
    if options.delete {
        options.own.require_known().map_err(|error| Error::Refused(error.to_string()))?;
    }
    require_yours(options)?;
    let snapshot = &chosen.snapshot;
    let start = match &found.part {
        Part::Root(listing) => Start::Listing(listing.clone()),
        Part::Entry(entry) => match &entry.node {
            Node::Directory { listing } => Start::Listing(listing.clone()),
            _ => Start::Entry(Box::new(entry.clone())),
        },
    };
    limits::require_countable(chosen, found)?;
    let sources = match options.delete {
        true => Sources::find(repository, snapshot)?,
        false => Sources::default(),
    };
    let mut planner = Planner {
        repository,
        options,
        monitor,
        sources,
        prefix: found.prefix().to_vec(),
        spill: repository.cache_folder().map_or_else(std::env::temp_dir, Path::to_path_buf),
        applier: Applier::new(options.numeric_owner),
        systems: FileSystems::new(!options.dry_run),
        frames: Vec::new(),
        catalog: Catalog::default(),
        pieces: Pieces::default(),
        packs: Vec::new(),
        pack_rows: HashMap::new(),
        blocks: HashMap::new(),
        groups: HashMap::new(),
        claimed: HashSet::new(),
        deletions: Vec::new(),
        obstacles: Vec::new(),
        decisions: Vec::new(),
        broken: Vec::new(),
        report: Report::default(),
    };
    planner.root(matches!(start, Start::Listing(_)), found)?;
    match &start {
        Start::Listing(listing) => {
            planner.walk(Tree::new(repository, listing.clone(), snapshot.counts).beneath(found.prefix()))?;
        }
        Start::Entry(entry) => {
            let path = [b"/", entry.name.as_slice()].concat();
            planner.entry(&path, Entry::clone(entry))?;
        }
    }
    let Planner { systems, catalog, pieces, packs, blocks, deletions, obstacles, decisions, broken, report, .. } =
        planner;
    Ok(Plan {
        options: options.clone(),
        systems,
        start,
        limit: snapshot.counts,
        catalog,
        pieces,
        packs,
        blocks,
        deletions,
        obstacles,
        decisions,
        broken,
        report,
    })
}

/// Refuses a target that is this program's own or another repository, or lies in one.
pub(super) fn require_yours(options: &Options) -> Result<()> {
    options.own.refuse_within(&options.target).map_err(|error| own_error(&options.target, error))
}

/// A sentence about a directory of the target that is somebody's.
fn owned(owner: &Owner) -> String {
    let next = if owner.is_own() { "" } else { ". To have it back from the snapshot, move it away first" };
    format!("is {owner}: nothing is restored into it{next}")
}

pub(super) fn spill_error(source: io::Error) -> Error {
    Error::System { what: "the temporary file of this restore's plan".to_owned(), source }
}

/// Says that two names of one inode hold the same.
fn fingerprint(content: &Content) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&content.size.to_le_bytes());
    hasher.update(&[content.chunks.depth]);
    for chunk in &content.chunks.chunks {
        hasher.update(chunk.id.as_bytes());
    }
    hasher.update(&content.digest.unwrap_or_default());
    *hasher.finalize().as_bytes()
}

/// True when `target` is where `path`, an absolute path of the snapshot, was saved from.
fn is_place(target: &Path, path: &[u8]) -> bool {
    use std::os::unix::ffi::OsStrExt;
    let saved = Path::new(std::ffi::OsStr::from_bytes(path));
    path.starts_with(b"/") && std::path::absolute(target).is_ok_and(|target| target.components().eq(saved.components()))
}

impl Planner<'_> {
    /// The target itself gets the metadata of the directory whose contents go into it when it stands for that directory: it is
    /// made by this restore, it is empty, or it is the place that the directory was saved from. Any other keeps its own:
    /// nobody who restores into /tmp wants another /tmp.
    fn root(&mut self, is_directory: bool, found: &Found) -> Result<()> {
        let target = &self.options.target;
        let there = match Target::open_with(target, false, self.systems.clone()) {
            Ok(target) => There::Directory(target.root()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => There::Nothing,
            Err(error) => return Err(target_error(target, error)),
        };
        let place = Place { directory: 0, name: self.catalog.name(b"")? };
        let stands_for_it = match &there {
            There::Directory(target) => {
                target.names().is_ok_and(|names| names.is_empty()) || is_place(&self.options.target, &found.path)
            }
            _ => true,
        };
        let attributes = match found.entry() {
            Some(entry) if is_directory && stands_for_it => Some(self.catalog.attributes(entry.metadata.clone())?),
            _ => None,
        };
        self.catalog.directories.push(Directory {
            place,
            attributes,
            exists: matches!(there, There::Directory(_)),
            obstacle: false,
            ordinal: NONE,
        });
        let names = if is_directory { self.names(b"", &there) } else { None };
        let spellings = Spellings::of(&there);
        self.frames.push(Frame {
            row: Some(0),
            ordinal: NONE,
            name: Vec::new(),
            metadata: Metadata::default(),
            there,
            obstacle: false,
            mounted: false,
            names,
            extra: Vec::new(),
            spellings,
            removes: true,
        });
        Ok(())
    }

    fn walk(&mut self, mut tree: Tree<'_>) -> Result<()> {
        while let Some(step) = tree.next()? {
            if self.monitor.interrupted() {
                return Err(Error::Interrupted);
            }
            match step {
                Step::Entry(entry) => {
                    if let Some(listing) = self.entry(tree.path(), *entry)? {
                        tree.enter(listing)?;
                    }
                }
                Step::Broken(error) => {
                    if let Some(frame) = self.frames.last_mut() {
                        frame.removes = false;
                    }
                    if tree.depth() == 1 && self.report.total_entries == 0 {
                        return Err(Error::at(b"/", error));
                    }
                    let message = format!("{error}: what else this directory holds cannot be determined");
                    self.repository_problem(tree.path(), error, message)?;
                }
                Step::Leave => self.leave(tree.path())?,
            }
        }
        Ok(())
    }

    pub(super) fn problem(&mut self, path: &[u8], kind: ProblemKind, message: String) {
        self.monitor.problem(&ops::Problem::new(Severity::Error, path, &message));
        self.report.problem(Problem { path: path.to_vec(), kind, message });
    }

    /// What is damaged is named, and the rest restored. A store that does not answer ends the plan: it is not known what there is.
    fn repository_problem(&mut self, path: &[u8], error: repository::Error, message: String) -> Result<()> {
        let kind = match error {
            error if error.is_unavailable() => return Err(Error::at(path, error)),
            repository::Error::Stream { .. } => ProblemKind::Hostile,
            error if error.is_unreadable() => ProblemKind::Unreadable,
            _ => ProblemKind::Damage,
        };
        self.problem(path, kind, message);
        Ok(())
    }

    /// Names in a directory of the target, when what the snapshot does not have is to be removed from it.
    fn names(&mut self, path: &[u8], there: &There) -> Option<std::iter::Peekable<std::vec::IntoIter<Vec<u8>>>> {
        let There::Directory(directory) = there else { return None };
        if !self.options.delete || !self.sources.cover(&[self.prefix.as_slice(), path].concat()) {
            return None;
        }
        match directory.names() {
            Ok(names) => Some(names.into_iter().peekable()),
            Err(error) => {
                self.problem(path, ProblemKind::Target, format!("cannot be listed, so nothing is removed: {error}"));
                None
            }
        }
    }

    /// Decides about one entry. Gives the listing of a directory that is to be entered.
    fn entry(&mut self, path: &[u8], entry: Entry) -> Result<Option<crate::codec::chunk_list::ChunkList>> {
        self.claim(&entry.name);
        let choice = self.options.selection.choose(path);
        let is_directory = matches!(entry.node, Node::Directory { .. });
        let wanted = choice.selected || is_directory && choice.enter;
        let has_name = self.take_name(path, &entry.name, wanted);
        if !wanted {
            return Ok(None);
        }
        if !has_name {
            self.report.total_entries += u64::from(choice.selected);
            self.decisions.push(Decision::Left);
            return Ok(None);
        }
        let Entry { name, metadata, node } = entry;
        match node {
            Node::Directory { listing } => {
                let entered = self.enter(path, name, metadata, choice.selected)?;
                self.decisions.push(if entered { Decision::Present } else { Decision::Left });
                return Ok(entered.then_some(listing));
            }
            Node::File(content) => self.file(path, name, metadata, content)?,
            node => self.special(path, name, metadata, node)?,
        }
        Ok(None)
    }

    /// The snapshot has this name: it is not removed. Names before it that nobody claimed are extra.
    fn claim(&mut self, name: &[u8]) {
        let Some(Frame { names: Some(names), extra, .. }) = self.frames.last_mut() else { return };
        while let Some(next) = names.next_if(|next| next.as_slice() <= name) {
            if next != name {
                extra.push(next);
            }
        }
    }

    pub(super) fn there(&self) -> There {
        self.frames.last().map_or(There::Nothing, |frame| frame.there.clone())
    }

    /// A directory begins. False when nothing of it can be restored.
    fn enter(&mut self, path: &[u8], name: Vec<u8>, metadata: Metadata, selected: bool) -> Result<bool> {
        let mut obstacle = false;
        let mut there = There::Nothing;
        let mut mounted = self.frames.last().is_some_and(|frame| frame.mounted);
        if let There::Directory(directory) = self.there() {
            match directory.stat(&name) {
                Ok(None) => {}
                Ok(Some(stat)) if stat.kind == Kind::Directory => match directory.directory(&name) {
                    Ok(inner) => {
                        if let Some(owner) = self.options.own.directory(&name, inner.as_directory(), &stat) {
                            self.problem(path, ProblemKind::Target, owned(&owner));
                            return Ok(false);
                        }
                        there = There::Directory(inner);
                        mounted |= self.options.delete && directory.is_mount_point(&name);
                    }
                    Err(error) => {
                        self.target_problem(path, &error)?;
                        return Ok(false);
                    }
                },
                Ok(Some(stat)) if self.options.overwrite == Overwrite::Never => {
                    let message = format!("a {} is in the way, and nothing is to be overwritten", stat.kind.word());
                    self.problem(path, ProblemKind::Target, message);
                    return Ok(false);
                }
                Ok(Some(_)) => obstacle = true,
                Err(error) => {
                    self.target_problem(path, &error)?;
                    return Ok(false);
                }
            }
        }
        let names = if mounted { None } else { self.names(path, &there) };
        let spellings = Spellings::of(&there);
        let ordinal = next_row(self.decisions.len())?;
        self.frames.push(Frame {
            row: None,
            ordinal,
            name,
            metadata,
            there,
            obstacle,
            mounted,
            names,
            extra: Vec::new(),
            spellings,
            removes: true,
        });
        if selected {
            self.row()?;
        }
        Ok(true)
    }

    /// The row of the directory that the walk is in; it and those above it get one now if they have none.
    fn row(&mut self) -> Result<u32> {
        let mut above = 0;
        for frame in &mut self.frames {
            above = match frame.row {
                Some(row) => row,
                None => {
                    let row = next_row(self.catalog.directories.len())?;
                    let place = Place { directory: above, name: self.catalog.name(&frame.name)? };
                    let attributes = Some(self.catalog.attributes(std::mem::take(&mut frame.metadata))?);
                    let exists = matches!(frame.there, There::Directory(_));
                    let Frame { obstacle, ordinal, .. } = *frame;
                    self.catalog.directories.push(Directory { place, attributes, exists, obstacle, ordinal });
                    self.report.total_entries += 1;
                    frame.row = Some(row);
                    row
                }
            };
        }
        Ok(above)
    }

    fn leave(&mut self, path: &[u8]) -> Result<()> {
        let Some(mut frame) = self.frames.pop() else { return Ok(()) };
        frame.extra.extend(frame.names.into_iter().flatten());
        let (Some(row), There::Directory(directory)) = (frame.row, frame.there) else { return Ok(()) };
        if !frame.removes || frame.extra.is_empty() {
            return Ok(());
        }
        for name in frame.extra.into_iter().filter(|name| !frame.spellings.is_taken(name)) {
            let path = [path, b"/", &name].concat();
            let is_unread = self.sources.is_unread(&[self.prefix.as_slice(), &path].concat());
            if is_unread {
                continue;
            }
            let place = Place { directory: row, name: self.catalog.name(&name)? };
            match deletion::examine(self.options, &directory, &name, &path, place, directory.made())? {
                Ok(deletion) => self.deletions.push(deletion),
                Err(Stays::LeftOut) => {}
                Err(Stays::Owned(owner)) => {
                    // Nothing failed, but who asked for --delete must hear that something stays.
                    self.repository.warn(format!("{} is not removed: it is, or holds, {owner}", Escaped(&path)));
                }
                Err(Stays::Unknown(why)) => {
                    self.problem(&path, ProblemKind::Target, format!("is not removed: {why}"));
                }
            }
        }
        Ok(())
    }

    pub(super) fn place(&mut self, name: &[u8]) -> Result<Place> {
        let directory = self.row()?;
        Ok(Place { directory, name: self.catalog.name(name)? })
    }

    fn file(&mut self, path: &[u8], name: Vec<u8>, metadata: Metadata, content: Content) -> Result<()> {
        self.report.total_entries += 1;
        self.report.total_bytes = self.report.total_bytes.saturating_add(content.size);
        let ordinal = next_row(self.decisions.len())?;
        self.decisions.push(Decision::Left);
        let Some(existing) = self.existing(path, &name, metadata.mtime, content.size)? else { return Ok(()) };
        let key = (metadata.links > 1).then_some((metadata.device, metadata.inode));
        let print = key.map(|_| fingerprint(&content));
        if let Some((group, first)) = key.and_then(|key| self.groups.get(&key).copied())
            && Some(first) == print
        {
            self.decide(ordinal, Decision::Present);
            // Where a file has no further names, an earlier restore left a copy.
            if let Existing::Other(directory, _) = &existing
                && !directory.holds_links()
                && let kept @ (Keep::AsItIs(_) | Keep::Adjusted(_)) =
                    self.keep_file(path, &name, &existing, &metadata, &content)?
            {
                self.report.unset(not_linked(&directory.no_links()), path);
                if let Keep::Adjusted(seen) = kept {
                    return self.adjust(&name, metadata, seen, content.size, ordinal);
                }
                self.unchanged(path, content.size);
                return Ok(());
            }
            return self.link(path, &name, metadata, group, content.size, ordinal, &existing);
        }
        let keep = self.keep_file(path, &name, &existing, &metadata, &content)?;
        self.decide(ordinal, Decision::Present);
        match keep {
            Keep::AsItIs(seen) => {
                self.unchanged(path, content.size);
                return self.kept_group(&name, key, print, &seen, ordinal);
            }
            Keep::Adjusted(seen) => {
                self.kept_group(&name, key, print, &seen, ordinal)?;
                return self.adjust(&name, metadata, seen, content.size, ordinal);
            }
            Keep::No => {}
        }
        let place = self.place(&name)?;
        let attributes = self.catalog.attributes(metadata)?;
        let group = match (key, print) {
            (Some(key), Some(print)) if !self.groups.contains_key(&key) => {
                let group = self.catalog.group(place, None, ordinal)?;
                self.groups.insert(key, (group, print));
                group
            }
            _ => NONE,
        };
        let row = next_row(self.catalog.files.len())?;
        let size = content.size;
        let data_length = content.data_length();
        let chunks = Chunks::of_file(self.repository, &content);
        let holes = self.catalog.keep_holes(content.holes)?;
        let digest = self.catalog.keep_digest(content.digest)?;
        let replaces = matches!(existing, Existing::Other(..));
        self.catalog.files.push(File { place, attributes, size, pieces: 0, holes, digest, group, ordinal, replaces });
        match self.pieces(row, chunks)? {
            Ok((pieces, length)) if Some(length) == data_length => {
                if let Some(file) = self.catalog.files.get_mut(row as usize) {
                    file.pieces = pieces;
                }
                return Ok(());
            }
            Ok(_) => {
                let message = "its chunks do not add up to its size; it is not restored".to_owned();
                self.problem(path, ProblemKind::Hostile, message);
            }
            Err(error) => {
                let message = format!("{error}; the file is not restored");
                self.repository_problem(path, error, message)?;
            }
        }
        self.decide(ordinal, Decision::Left);
        self.broken.push(row);
        Ok(())
    }

    fn decide(&mut self, ordinal: u32, decision: Decision) {
        if let Some(entry) = self.decisions.get_mut(ordinal as usize) {
            *entry = decision;
        }
    }

    fn kept_group(
        &mut self,
        name: &[u8],
        key: Option<GroupKey>,
        print: Option<[u8; 32]>,
        seen: &Seen,
        ordinal: u32,
    ) -> Result<()> {
        if let (Some(key), Some(print)) = (key, print)
            && !self.groups.contains_key(&key)
        {
            let place = self.place(name)?;
            let group = self.catalog.group(place, Some(seen.made()), ordinal)?;
            self.claimed.insert(seen.key());
            self.groups.insert(key, (group, print));
        }
        Ok(())
    }

    /// Notes all chunks of a file; gives how many there are and their length.
    #[allow(clippy::type_complexity)] // what ends the restore, and what ends this file
    fn pieces(&mut self, file: u32, chunks: Chunks<'_>) -> Result<repository::Result<(u32, u64)>> {
        let (mut count, mut position) = (0_u32, 0_u64);
        for chunk in chunks {
            let located = chunk.and_then(|chunk| self.repository.locate(&chunk).map(|place| (chunk, place)));
            let (chunk, place) = match located {
                Ok(located) => located,
                Err(error) => return Ok(Err(error)),
            };
            let pack = match self.pack_rows.get(&place.pack) {
                Some(row) => *row,
                None => {
                    let row = next_row(self.packs.len())?;
                    self.packs.push(place.pack);
                    self.pack_rows.insert(place.pack, row);
                    row
                }
            };
            self.blocks.entry((pack, place.block)).or_insert(place.at);
            let piece = Piece::new(pack, place.block, file, position, place.offset, chunk.length, &chunk.id);
            self.pieces.push(piece, &self.spill).map_err(spill_error)?;
            position = position.saturating_add(u64::from(chunk.length));
            count = count.checked_add(1).ok_or_else(|| Error::Refused("a file of 2^32 chunks".to_owned()))?;
        }
        Ok(Ok((count, position)))
    }

    fn unchanged(&mut self, path: &[u8], size: u64) {
        self.report.unchanged += 1;
        self.report.unchanged_bytes = self.report.unchanged_bytes.saturating_add(size);
        self.monitor.item(&Item { size, ..Item::new(path, Action::Unchanged) });
    }

    fn adjust(&mut self, name: &[u8], metadata: Metadata, seen: Seen, size: u64, ordinal: u32) -> Result<()> {
        let place = self.place(name)?;
        let attributes = self.catalog.attributes(metadata)?;
        self.catalog.adjusts.push(Adjust { place, attributes, seen, size, ordinal });
        Ok(())
    }

    /// A further name of a group.
    #[allow(clippy::too_many_arguments)] // the entry, and what is known of it
    fn link(
        &mut self,
        path: &[u8],
        name: &[u8],
        metadata: Metadata,
        group: u32,
        size: u64,
        ordinal: u32,
        existing: &Existing,
    ) -> Result<()> {
        let group_row = self.catalog.groups.get(group as usize);
        let kept = group_row.and_then(|group| group.kept);
        if let Some(first) = group_row.filter(|_| self.options.verify).map(|group| group.ordinal) {
            self.catalog.twins.push((first, ordinal));
        }
        if let Existing::Other(_, stat) = existing
            && kept.is_some_and(|kept| kept.is_exactly(stat))
        {
            self.unchanged(path, size);
            return Ok(());
        }
        let place = self.place(name)?;
        let replaces = matches!(existing, Existing::Other(..));
        let attributes = self.catalog.attributes(metadata)?;
        self.catalog.links.push(Link { place, attributes, group, size, ordinal, replaces });
        Ok(())
    }

    fn special(&mut self, path: &[u8], name: Vec<u8>, metadata: Metadata, node: Node) -> Result<()> {
        self.report.total_entries += 1;
        let ordinal = next_row(self.decisions.len())?;
        self.decisions.push(Decision::Left);
        let Some(existing) = self.existing(path, &name, metadata.mtime, 0)? else { return Ok(()) };
        let key = (metadata.links > 1).then_some((metadata.device, metadata.inode));
        let print = key.map(|_| *blake3::hash(format!("{node:?}").as_bytes()).as_bytes());
        if let Some((group, first)) = key.and_then(|key| self.groups.get(&key).copied())
            && Some(first) == print
        {
            self.decide(ordinal, Decision::Present);
            return self.link(path, &name, metadata, group, 0, ordinal, &existing);
        }
        let keep = self.keep_special(&name, &existing, &metadata, &node);
        self.decide(ordinal, Decision::Present);
        match keep {
            Keep::AsItIs(seen) => {
                self.unchanged(path, 0);
                return self.kept_group(&name, key, print, &seen, ordinal);
            }
            Keep::Adjusted(seen) => {
                self.kept_group(&name, key, print, &seen, ordinal)?;
                return self.adjust(&name, metadata, seen, 0, ordinal);
            }
            Keep::No => {}
        }
        let place = self.place(&name)?;
        let attributes = self.catalog.attributes(metadata)?;
        let group = match (key, print) {
            (Some(key), Some(print)) if !self.groups.contains_key(&key) => {
                let group = self.catalog.group(place, None, ordinal)?;
                self.groups.insert(key, (group, print));
                group
            }
            _ => NONE,
        };
        let replaces = matches!(existing, Existing::Other(..));
        self.catalog.specials.push(Special { place, attributes, node, group, ordinal, replaces });
        Ok(())
    }
}
