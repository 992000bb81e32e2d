//! `deleted`: what vanished from the sources, when, which snapshot held it last, and how to get it back.
//!
//! The newest snapshot of a source carries its whole log, oldest record first. Shown are pages of it, newest first: one
//! pass over the log keeps no more than a page. A place in the log stays what it is, because logs are only added to; so
//! a cursor goes on where a page ended, however many records came since.

pub mod holders;

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::str::FromStr;

use self::holders::{by_names, kinds};
use super::backup::log::is_same_source;
use super::prune::GRACE;
use super::select::Filter;
use super::undelete::{self, Lifted};
use super::{Error, Monitor, Result, order, part};
use crate::base::id::ObjectId;
use crate::base::time::Time;
use crate::codec::deletion_log::Deletion;
use crate::codec::live_state::{LiveState, MarkedKind};
use crate::codec::snapshot::Snapshot;
use crate::files::pattern::Patterns;
use crate::repository::list_reader::{Deletions, TreeChunks};
use crate::repository::{self, Repository};

/// Records that are gathered at least in one pass over the log.
const BATCH: usize = 1_000;
/// Records between two questions whether to stop.
const PATIENCE: u64 = 4_096;

/// A place in the order of all records: the newest first; of one backup, as it found them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cursor {
    found: Reverse<Time>,
    source: u32,
    number: u64,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Time { seconds, nanoseconds } = self.found.0;
        write!(f, "{seconds}.{nanoseconds:09}-{:08x}-{}", self.source, self.number)
    }
}

impl FromStr for Cursor {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let parse = || {
            let mut parts = text.rsplitn(3, '-');
            let (number, source, time) = (parts.next()?, parts.next()?, parts.next()?);
            let (seconds, nanoseconds) = time.split_once('.')?;
            let found = Time { seconds: seconds.parse().ok()?, nanoseconds: nanoseconds.parse().ok()? };
            let source = u32::from_str_radix(source, 16).ok()?;
            let cursor = Self { found: Reverse(found), source, number: number.parse().ok()? };
            // Only what this program shows, letter for letter.
            (cursor.to_string() == text).then_some(cursor)
        };
        parse().ok_or_else(|| "no cursor: expected what a page named as its next one".to_owned())
    }
}

/// The part of a source that is meant.
#[derive(Debug, Clone)]
pub enum Part {
    /// This path and what was beneath it: as typed, and as an absolute path.
    Beneath(Vec<u8>, Vec<u8>),
    /// What the patterns match.
    Matching(Patterns),
}

/// What to look for.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Sources that have a snapshot which this lets through.
    pub filter: Filter,
    /// Which paths.
    pub part: Option<Part>,
    /// Found gone at this time or later.
    pub since: Option<Time>,
    /// Found gone at this time or earlier.
    pub until: Option<Time>,
    /// Also what is there again.
    pub all: bool,
    /// Most records of a page.
    pub limit: usize,
    /// Where the page begins.
    pub after: Option<Cursor>,
}

/// How something that was deleted is restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// From a live snapshot, as long as it is kept.
    Live {
        /// Its id.
        id: ObjectId,
        /// Its time.
        time: Time,
    },
    /// From a snapshot that was removed, until a prune sweeps it.
    Removed {
        /// Its id.
        id: ObjectId,
        /// Its time.
        time: Time,
        /// The end of the usual grace.
        until: Time,
    },
    /// No more.
    Gone,
}

/// One line of a page.
#[derive(Debug, Clone)]
pub struct Row {
    /// What the log says.
    pub deletion: Deletion,
    /// The machine it vanished from.
    pub host: String,
    /// The newest snapshot has something of the same kind at this path.
    pub there_again: bool,
    /// How to get it back.
    pub way: Way,
}

/// One page.
#[derive(Debug, Default)]
pub struct Page {
    /// Newest first.
    pub rows: Vec<Row>,
    /// Where the next page begins; none when this is the last one.
    pub next: Option<Cursor>,
    /// What could not be read: parts of a log, snapshots, listings.
    pub damaged: Vec<String>,
    /// Some of that is damaged or missing. Otherwise this process could not read it now.
    pub has_damage: bool,
}

impl Page {
    fn add_unread(&mut self, sentence: String, error: &repository::Error) {
        self.has_damage |= error.is_damage();
        self.damaged.push(sentence);
    }
}

/// The snapshots of one host and set of paths.
struct Source {
    host: String,
    paths: Vec<Vec<u8>>,
    key: u32,
    /// The live ones, newest first by the time at which they were written.
    live: Vec<(ObjectId, Snapshot)>,
    /// Where each of its paths stands in the newest snapshot, as names.
    places: Vec<(Vec<u8>, Vec<u8>)>,
}

fn names(path: &[u8]) -> Vec<&[u8]> {
    path.split(|byte| *byte == b'/').filter(|name| !matches!(*name, b"" | b".")).collect()
}

/// Every source with its live snapshots, and the snapshots that cannot be read.
fn sources(repository: &Repository, filter: &Filter, page: &mut Page) -> Result<Vec<Source>> {
    let mut sources: Vec<Source> = Vec::new();
    let (all, _) = order::all_as_written(repository)?;
    for (id, snapshot) in all.into_iter().rev() {
        let snapshot = match snapshot {
            Ok(snapshot) => snapshot,
            Err(error) => {
                page.add_unread(format!("snapshot {} cannot be read: {error}", id.short()), &error);
                continue;
            }
        };
        let this = (snapshot.host.as_str(), snapshot.paths.as_slice());
        match sources.iter_mut().find(|source| is_same_source((&source.host, &source.paths), this)) {
            Some(source) => source.live.push((id, snapshot)),
            None => {
                let mut paths = snapshot.paths.clone();
                paths.sort();
                let mut hasher = blake3::Hasher::new();
                for part in std::iter::once(snapshot.host.as_bytes()).chain(paths.iter().map(Vec::as_slice)) {
                    hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
                }
                let mut key = [0; 4];
                hasher.finalize_xof().fill(&mut key);
                let (host, key) = (snapshot.host.clone(), u32::from_be_bytes(key));
                sources.push(Source { host, paths, key, live: vec![(id, snapshot)], places: Vec::new() });
            }
        }
    }
    sources.retain(|source| source.live.iter().any(|(_, snapshot)| filter.admits(snapshot)));
    Ok(sources)
}

impl Source {
    /// Finds out where its paths stand in the tree: an absolute source under its whole path, a relative one under
    /// the end of it, `.` and `/` at the root.
    fn place(&mut self, repository: &Repository) {
        let Some((_, newest)) = self.live.first() else { return };
        let whole = part::is_whole(repository, newest).unwrap_or(true);
        for path in &self.paths {
            let names = names(path);
            let ends = (0..names.len()).map(|from| names[from..].join(&b'/'));
            let is_there = |end: &Vec<u8>| {
                let (found, _) = kinds(repository, &newest.root, &[end]);
                found.first().is_some_and(Option::is_some)
            };
            let end = if whole { None } else { ends.into_iter().find(is_there) };
            self.places.push((names.join(&b'/'), end.unwrap_or_default()));
        }
    }

    fn contains(&self, part: &Part, path: &[u8]) -> bool {
        let beneath = |above: &[u8]| {
            above.is_empty() || path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
        };
        match part {
            Part::Matching(patterns) => patterns.matches(&[b"/", path].concat()),
            Part::Beneath(typed, absolute) => {
                let in_snapshot = names(typed).join(&b'/');
                if !in_snapshot.is_empty() && beneath(&in_snapshot) {
                    return true;
                }
                // As in restore, a relative path may begin in the source.
                let in_source = |place: &[u8]| beneath(&[names(place), names(typed)].concat().join(&b'/'));
                if !in_snapshot.is_empty()
                    && !typed.starts_with(b"/")
                    && self.places.iter().any(|(_, place)| in_source(place))
                {
                    return true;
                }
                let absolute = names(absolute);
                self.places.iter().any(|(source, place)| {
                    let source = names(source);
                    if source.starts_with(&absolute) {
                        return beneath(place);
                    }
                    match absolute.strip_prefix(source.as_slice()) {
                        Some(rest) => beneath(&[names(place), rest.to_vec()].concat().join(&b'/')),
                        None => false,
                    }
                })
            }
        }
    }
}

/// Where a pass begins.
#[derive(Debug, Clone, Copy)]
enum Start {
    After(Option<Cursor>),
    At(Cursor),
}

impl Start {
    fn admits(self, place: &Cursor) -> bool {
        match self {
            Self::After(after) => after.is_none_or(|after| *place > after),
            Self::At(at) => *place >= at,
        }
    }
}

/// The first records from a start, in order, no more than `most`.
struct Gathered {
    rows: BTreeMap<Cursor, (usize, Deletion)>,
    /// The first one that found no room.
    rest: Option<Cursor>,
    most: usize,
}

impl Gathered {
    fn insert(&mut self, place: Cursor, row: (usize, Deletion)) -> Option<(usize, Deletion)> {
        if self.rest.is_some_and(|rest| place > rest) {
            return None;
        }
        self.rows.insert(place, row);
        if self.rows.len() <= self.most {
            return None;
        }
        let (last, dropped) = self.rows.pop_last()?;
        self.rest = Some(last);
        Some(dropped)
    }
}

fn gather(
    repository: &Repository,
    sources: &[Source],
    wanted: &Wanted,
    (start, most): (Start, usize),
    page: &mut Page,
    monitor: &dyn Monitor,
) -> Result<Gathered> {
    let mut gathered = Gathered { rows: BTreeMap::new(), rest: None, most };
    for (index, source) in sources.iter().enumerate() {
        let Some((id, newest)) = source.live.first() else { continue };
        // Of several deletions of one path the newest counts, unless all are wanted.
        let mut latest: HashMap<Vec<u8>, Cursor> = HashMap::new();
        for (number, deletion) in (0..).zip(Deletions::of(repository, newest)) {
            if number % PATIENCE == 0 && monitor.interrupted() {
                return Err(Error::Interrupted);
            }
            let deletion = match deletion {
                Ok(deletion) => deletion,
                Err(error) => {
                    let count = newest.deleted_count.saturating_sub(number);
                    let sentence = format!(
                        "the newest {count} records of the log of deletions in snapshot {} cannot be read: {error}",
                        id.short()
                    );
                    page.add_unread(sentence, &error);
                    break;
                }
            };
            if wanted.part.as_ref().is_some_and(|part| !source.contains(part, &deletion.path)) {
                continue;
            }
            let place = Cursor { found: Reverse(deletion.found), source: source.key, number };
            if !wanted.all
                && let Some(earlier) = latest.remove(&deletion.path)
            {
                gathered.rows.remove(&earlier);
            }
            let in_time = wanted.since.is_none_or(|since| deletion.found >= since)
                && wanted.until.is_none_or(|until| deletion.found <= until);
            if !in_time || !start.admits(&place) {
                continue;
            }
            if !wanted.all {
                latest.insert(deletion.path.clone(), place);
            }
            if let Some((of, dropped)) = gathered.insert(place, (index, deletion))
                && of == index
            {
                latest.remove(&dropped.path);
            }
        }
    }
    Ok(gathered)
}

/// Which of the rows stand in a snapshot, by their numbers.
fn present(
    chunks: &dyn TreeChunks,
    snapshot: &Snapshot,
    rows: &[(usize, &Deletion)],
) -> (HashSet<usize>, Option<repository::Error>) {
    let paths: Vec<&[u8]> = rows.iter().map(|(_, deletion)| deletion.path.as_slice()).collect();
    let (kinds, failed) = kinds(chunks, &snapshot.root, &paths);
    let same = rows.iter().zip(kinds).filter(|((_, deletion), kind)| *kind == Some(deletion.kind));
    (same.map(|((number, _), _)| *number).collect(), failed)
}

/// The rows of one source in the order of their names, with their numbers.
fn of_source(source: usize, rows: &[(usize, Deletion)]) -> Vec<(usize, &Deletion)> {
    let mut own: Vec<(usize, &Deletion)> = (0..)
        .zip(rows)
        .filter(|(_, (of, _))| *of == source)
        .map(|(number, (_, deletion))| (number, deletion))
        .collect();
    own.sort_by(|one, other| by_names(&one.1.path, &other.1.path));
    own
}

/// One page of what was deleted.
///
/// # Errors
/// [`Error::Interrupted`]; a head or a segment that cannot be read. What else cannot be read is in [`Page::damaged`].
pub fn page(repository: &Repository, wanted: &Wanted, monitor: &dyn Monitor) -> Result<Page> {
    let mut page = Page::default();
    let mut sources = sources(repository, &wanted.filter, &mut page)?;
    if wanted.part.is_some() {
        sources.iter_mut().for_each(|source| source.place(repository));
    }
    let mut start = Start::After(wanted.after);
    let mut rows: Vec<(usize, Deletion)> = Vec::new();
    let mut again: Vec<bool> = Vec::new();
    let mut places: Vec<Cursor> = Vec::new();
    loop {
        let damaged = page.damaged.len();
        let most = wanted.limit.max(BATCH);
        let gathered = gather(repository, &sources, wanted, (start, most), &mut page, monitor)?;
        if matches!(start, Start::At(_)) {
            // The pass before has said it.
            page.damaged.truncate(damaged);
        }
        let (found, batch): (Vec<Cursor>, Vec<(usize, Deletion)>) = gathered.rows.into_iter().unzip();
        let mut there = HashSet::new();
        for (index, source) in sources.iter().enumerate() {
            let own = of_source(index, &batch);
            let Some((id, newest)) = source.live.first().filter(|_| !own.is_empty()) else { continue };
            let (numbers, failed) = present(repository, newest, &own);
            there.extend(numbers);
            if let Some(error) = failed {
                page.add_unread(format!("snapshot {}: {error}", id.short()), &error);
            }
        }
        for ((number, row), place) in (0..).zip(batch).zip(found) {
            let is_there = there.contains(&number);
            if wanted.all || !is_there {
                rows.push(row);
                again.push(is_there);
                places.push(place);
            }
        }
        match gathered.rest {
            Some(rest) if rows.len() < wanted.limit => start = Start::At(rest),
            rest => {
                let is_more = rest.is_some() || rows.len() > wanted.limit;
                rows.truncate(wanted.limit);
                page.next = places.get(rows.len().saturating_sub(1)).copied().filter(|_| is_more);
                break;
            }
        }
    }
    let ways = ways(repository, &sources, &rows, &mut page, monitor)?;
    let mut said = HashSet::new();
    page.damaged.retain(|sentence| said.insert(sentence.clone()));
    for (((source, deletion), there_again), way) in rows.into_iter().zip(again).zip(ways) {
        let host = sources.get(source).map(|source| source.host.clone()).unwrap_or_default();
        page.rows.push(Row { deletion, host, there_again, way });
    }
    Ok(page)
}

/// How each row is restored.
fn ways(
    repository: &Repository,
    sources: &[Source],
    rows: &[(usize, Deletion)],
    page: &mut Page,
    monitor: &dyn Monitor,
) -> Result<Vec<Way>> {
    let mut ways = vec![Way::Gone; rows.len()];
    let mut left = false;
    for (index, source) in sources.iter().enumerate() {
        let mut own = of_source(index, rows);
        own.retain(|(number, deletion)| {
            let live = source.live.iter().find(|(id, _)| *id == deletion.snapshot);
            if let Some((id, snapshot)) = live {
                ways[*number] = Way::Live { id: *id, time: snapshot.time };
            }
            live.is_none()
        });
        let mut roots = HashSet::new();
        for (id, snapshot) in &source.live {
            if own.is_empty() {
                break;
            }
            if monitor.interrupted() {
                return Err(Error::Interrupted);
            }
            if !roots.insert(snapshot.root.key()) {
                continue;
            }
            let (numbers, failed) = present(repository, snapshot, &own);
            for number in &numbers {
                ways[*number] = Way::Live { id: *id, time: snapshot.time };
            }
            own.retain(|(number, _)| !numbers.contains(number));
            if let Some(error) = failed {
                page.add_unread(format!("snapshot {}: {error}", id.short()), &error);
            }
        }
        left |= !own.is_empty();
    }
    if left {
        removed(repository, sources, rows, &mut ways, monitor)?;
    }
    Ok(ways)
}

/// Looks for what no live snapshot holds in those that were removed and can come back.
fn removed(
    repository: &Repository,
    sources: &[Source],
    rows: &[(usize, Deletion)],
    ways: &mut [Way],
    monitor: &dyn Monitor,
) -> Result<()> {
    let tip = repository.tip();
    let marked = tip.state.marked.iter().filter(|(_, mark)| mark.kind == MarkedKind::Snapshot);
    let mut marked: Vec<(Time, ObjectId, Snapshot)> = marked
        .filter_map(|(id, mark)| Some((Time::from_seconds(mark.time), *id, repository.snapshot(*id).ok()?)))
        .collect();
    if marked.is_empty() {
        return Ok(());
    }
    let places = undelete::order(repository, &tip, marked.iter().map(|(_, id, snapshot)| (*id, snapshot)))?;
    marked.sort_by_key(|(_, id, _)| Reverse(places.position(id)));
    let mut lifted = LiveState::clone(&tip.state);
    lifted.marked.retain(|_, mark| mark.kind != MarkedKind::Pack);
    let chunks = Lifted::new(repository, &tip, &lifted)?;
    for (index, source) in sources.iter().enumerate() {
        let mut own = of_source(index, rows);
        own.retain(|(number, _)| ways[*number] == Way::Gone);
        for (marked_at, id, snapshot) in &marked {
            let this = (snapshot.host.as_str(), snapshot.paths.as_slice());
            if own.is_empty() || !is_same_source((&source.host, &source.paths), this) {
                continue;
            }
            if monitor.interrupted() {
                return Err(Error::Interrupted);
            }
            // What of it is gone cannot come back, and is no news.
            let (numbers, _) = present(&chunks, snapshot, &own);
            let until = Time::from_seconds(marked_at.seconds.saturating_add_unsigned(GRACE.as_secs()));
            for number in &numbers {
                ways[*number] = Way::Removed { id: *id, time: snapshot.time, until };
            }
            own.retain(|(number, _)| !numbers.contains(number));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn cursors_are_typed_as_they_are_shown() {
        let cursor = Cursor { found: Reverse(Time { seconds: -5, nanoseconds: 7 }), source: 0xab, number: 12 };
        assert_eq!(cursor.to_string(), "-5.000000007-000000ab-12");
        assert_eq!(cursor.to_string().parse(), Ok(cursor));
        for text in ["", "1.2-3-4", "1.000000000-000000ab", "x", "1.000000000-000000ab-+1", "1.000000000-000000AB-1"] {
            assert!(text.parse::<Cursor>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_finds_no_room_is_where_the_next_pass_begins() {
        let place = |number| Cursor { found: Reverse(Time::from_seconds(0)), source: 0, number };
        let deletion = Deletion {
            path: b"a".to_vec(),
            kind: crate::codec::deletion_log::DeletedKind::File,
            size: 0,
            mtime: Time::default(),
            snapshot: ObjectId([0; 32]),
            snapshot_time: Time::default(),
            found: Time::default(),
        };
        let mut gathered = Gathered { rows: BTreeMap::new(), rest: None, most: 2 };
        for number in [5, 3, 4, 9] {
            gathered.insert(place(number), (0, deletion.clone()));
        }
        assert_eq!((gathered.rest, gathered.rows.len()), (Some(place(5)), 2));
        // One goes: what comes behind the rest must not take its room.
        gathered.rows.remove(&place(3));
        gathered.insert(place(6), (0, deletion.clone()));
        assert_eq!(gathered.rows.keys().copied().collect::<Vec<_>>(), [place(4)]);
        assert!(Start::At(place(5)).admits(&place(5)) && !Start::After(Some(place(5))).admits(&place(5)));
    }
}
