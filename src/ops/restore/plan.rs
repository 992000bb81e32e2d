//! A plan: everything that a restore will do, worked out by reading only.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::catalog::Catalog;
use super::deletion::Deletion;
use super::pieces::Pieces;
use super::report::{Problem, Report};
use super::{Options, planner};
use crate::base::id::ObjectId;
use crate::codec::snapshot::Counts;
use crate::codec::tree::Entry;
use crate::files::file_system::FileSystems;
use crate::ops::Action;
use crate::repository::cache::BlockPlace;
use crate::storage::ObjectName;
use crate::storage::windows::{self, Extent};

/// Where the walk through a snapshot begins.
#[derive(Debug, Clone)]
pub(super) enum Start {
    /// The entries of a directory go into the target.
    Listing(crate::codec::chunk_list::ChunkList),
    /// This one entry does.
    Entry(Box<Entry>),
}

/// See the module. Made by [`super::plan()`], carried out by [`super::execute`].
#[derive(Debug)]
pub struct Plan {
    pub(super) options: Options,
    /// What is known about the file systems of the target.
    pub(super) systems: Arc<FileSystems>,
    pub(super) start: Start,
    pub(super) limit: Counts,
    pub(super) catalog: Catalog,
    pub(super) pieces: Pieces,
    pub(super) packs: Vec<ObjectId>,
    pub(super) blocks: HashMap<(u32, u16), BlockPlace>,
    /// What `--delete` removes.
    pub(super) deletions: Vec<Deletion>,
    /// Directories where something else is to be.
    pub(super) obstacles: Vec<Deletion>,
    /// For every entry that the selection lets through, in the order of the walk.
    pub(super) decisions: Vec<planner::Decision>,
    /// Rows of files of which a piece is missing.
    pub(super) broken: Vec<u32>,
    /// What is known already: counts of what is skipped or as it should be, and problems.
    pub(super) report: Report,
}

/// One thing that a plan will do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// What.
    pub action: Action,
    /// To what: a path from the target, with a slash before each name.
    pub path: Vec<u8>,
    /// It is a directory.
    pub directory: bool,
    /// Its size in bytes.
    pub size: u64,
}

/// What a plan adds up to. Sizes are bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Files to write.
    pub files: u64,
    /// Directories to make.
    pub directories: u64,
    /// Symbolic links, pipes, sockets, devices and further names to make.
    pub others: u64,
    /// Size of the files to write.
    pub bytes: u64,
    /// What of that is no hole.
    pub data_bytes: u64,
    /// Entries that have their content already.
    pub unchanged: u64,
    /// Bytes of those.
    pub unchanged_bytes: u64,
    /// Entries that the overwrite rule leaves alone.
    pub skipped: u64,
    /// Bytes that those have in the snapshot.
    pub skipped_bytes: u64,
    /// Entries to remove, with those in them.
    pub deleted: u64,
    /// Blocks to read.
    pub blocks: u64,
    /// Packs that they lie in.
    pub packs: u64,
    /// Stored bytes to read.
    pub stored_bytes: u64,
    /// Requests that this takes where neighbours come together.
    pub requests: u64,
    /// Entries wanted.
    pub entries: u64,
    /// Bytes wanted.
    pub entry_bytes: u64,
}

/// The places of blocks in packs, which are known by their rows.
pub(super) fn ranges<'a>(
    packs: &'a [ObjectId],
    blocks: &'a HashMap<(u32, u16), BlockPlace>,
) -> impl Iterator<Item = Extent> + 'a {
    blocks.iter().filter_map(|((row, _), place)| {
        let pack = packs.get(*row as usize)?;
        Some((ObjectName::Pack(*pack), place.offset, u64::from(place.stored_length)))
    })
}

impl Plan {
    /// What it adds up to.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let catalog = &self.catalog;
        let holes = |file| catalog.holes(file).iter().map(|hole| hole.length).fold(0, u64::saturating_add);
        Totals {
            files: catalog.files.len() as u64 - self.broken.len() as u64,
            directories: catalog.directories.iter().filter(|directory| !directory.exists).count() as u64,
            others: (catalog.specials.len() + catalog.links.len()) as u64,
            bytes: catalog.files.iter().map(|file| file.size).fold(0, u64::saturating_add),
            data_bytes: catalog
                .files
                .iter()
                .map(|file| file.size.saturating_sub(holes(file)))
                .fold(0, u64::saturating_add),
            unchanged: self.report.unchanged + catalog.adjusts.len() as u64,
            unchanged_bytes: catalog
                .adjusts
                .iter()
                .map(|adjust| adjust.size)
                .fold(self.report.unchanged_bytes, u64::saturating_add),
            skipped: self.report.skipped,
            skipped_bytes: self.report.skipped_bytes,
            deleted: self.all_deletions().map(Deletion::len).sum::<u64>()
                + catalog.directories.iter().filter(|directory| directory.obstacle).count() as u64,
            blocks: self.blocks.len() as u64,
            packs: self.packs.len() as u64,
            requests: windows::merge(self.ranges()).values().map(|windows| windows.len() as u64).sum(),
            stored_bytes: self.blocks.values().map(|block| u64::from(block.stored_length)).sum(),
            entries: self.report.total_entries,
            entry_bytes: self.report.total_bytes,
        }
    }

    /// What of which packs will be read.
    pub(super) fn ranges(&self) -> impl Iterator<Item = Extent> + '_ {
        ranges(&self.packs, &self.blocks)
    }

    /// Problems that are known before anything is written, the first ones.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.report.problems
    }

    /// How many there are in all.
    #[must_use]
    pub const fn problem_count(&self) -> u64 {
        self.report.problem_count
    }

    /// How many of them are the repository's fault: damage, or what no snapshot may say.
    #[must_use]
    pub const fn damage_count(&self) -> u64 {
        self.report.damage_count
    }

    fn all_deletions(&self) -> impl Iterator<Item = &Deletion> {
        self.obstacles.iter().chain(&self.deletions)
    }

    /// Everything that goes: each entry by its name, what is in a directory after it.
    fn deleted(&self) -> impl Iterator<Item = Line> + '_ {
        let catalog = &self.catalog;
        let line = |path, directory| Line { action: Action::Deleted, path, directory, size: 0 };
        let beneath = self.all_deletions().flat_map(move |deletion| {
            let top = catalog.path(deletion.place);
            deletion.entries().map(move |(path, is_directory)| {
                let slash: &[u8] = if path.is_empty() { b"" } else { b"/" };
                line([top.as_slice(), slash, &path].concat(), is_directory)
            })
        });
        let in_the_way = catalog.directories.iter().filter(|directory| directory.obstacle);
        beneath.chain(in_the_way.map(move |directory| line(catalog.path(directory.place), false)))
    }

    /// Everything that it will do, one thing after the other: what is removed, directories, files, everything else. What
    /// is left alone was told to the monitor while the plan was made.
    pub fn lines(&self) -> impl Iterator<Item = Line> + '_ {
        let catalog = &self.catalog;
        let line = |action, place, directory, size| Line { action, path: catalog.path(place), directory, size };
        let written = |replaces| if replaces { Action::Changed } else { Action::New };
        let directories = catalog.directories.iter().skip(1).map(move |directory| {
            let action = if directory.exists { Action::Unchanged } else { Action::New };
            line(action, directory.place, true, 0)
        });
        let broken: HashSet<u32> = self.broken.iter().copied().collect();
        let whole = catalog.files.iter().zip(0_u32..).filter(move |(_, row)| !broken.contains(row));
        let files = whole.map(move |(file, _)| line(written(file.replaces), file.place, false, file.size));
        let specials =
            catalog.specials.iter().map(move |special| line(written(special.replaces), special.place, false, 0));
        let links = catalog.links.iter().map(move |link| line(written(link.replaces), link.place, false, link.size));
        let adjusts =
            catalog.adjusts.iter().map(move |adjust| line(Action::Unchanged, adjust.place, false, adjust.size));
        self.deleted().chain(directories).chain(files).chain(specials).chain(links).chain(adjusts)
    }
}
