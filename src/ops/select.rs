//! Which snapshots are meant: `latest`, `latest~N`, an id or its beginning, each perhaps with `:path` behind it; and the
//! filters by host, tags and paths. The part of a snapshot behind the colon is found by [`find_path`].
//!
//! `latest` counts in the order that [`order`] gives. A snapshot that cannot be read is never chosen by `latest`, and never
//! passed over in silence: it comes back beside those that can ([`Selection::damaged`]), or as a warning of the repository.
//!
//! When a newer head cannot be read, no snapshot is `latest`: the one that is meant may be in that head only. An id is still an id; who lists all
//! snapshots shows what can be read, and ends with [`Repository::require_newest`].

use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::OsStringExt;
use std::str::FromStr;

use super::order::{self, Order};
pub use super::part::{Found, Part, find_path};
use super::{Error, Result};
use crate::base::command::suggest;
use crate::base::escape::escape;
use crate::base::id::{ID_BYTES, ObjectId};
use crate::codec::snapshot::{Snapshot, many_beneath};
use crate::repository::{self, Repository};

/// Candidates of an ambiguous id that are named.
const CANDIDATES_SHOWN: usize = 8;
/// Where all of them are shown.
const LISTED: &str = concat!("To see them: ", suggest!("snapshots"));

/// One snapshot, as it was typed. The newest by default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SnapshotRef {
    /// The newest but `back` of those that the filters let through: `latest` is 0, `latest~1` the one before.
    Latest {
        /// How many to go back.
        back: usize,
    },
    /// The one whose id begins with these lower-case hex digits (1 to 64 of them).
    Prefix(String),
}

impl Default for SnapshotRef {
    fn default() -> Self {
        Self::Latest { back: 0 }
    }
}

impl FromStr for SnapshotRef {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        if text == "latest" {
            return Ok(Self::Latest { back: 0 });
        }
        if let Some(back) = text.strip_prefix("latest~")
            && back.bytes().all(|byte| byte.is_ascii_digit())
            && let Ok(back) = back.parse()
        {
            return Ok(Self::Latest { back });
        }
        if (1..=ID_BYTES * 2).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Ok(Self::Prefix(text.to_ascii_lowercase()));
        }
        Err(format!(
            "\"{}\" names no snapshot: expected latest, latest~N, or an id of hex digits",
            escape(text.as_bytes())
        ))
    }
}

impl fmt::Display for SnapshotRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latest { back: 0 } => f.write_str("latest"),
            Self::Latest { back } => write!(f, "latest~{back}"),
            Self::Prefix(digits) => f.write_str(digits),
        }
    }
}

/// The beginning of an id: 1 to 64 lower-case hex digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdBeginning(pub String);

impl FromStr for IdBeginning {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text.parse() {
            Ok(SnapshotRef::Prefix(digits)) => Ok(Self(digits)),
            _ => Err(format!("{text:?} is not the beginning of an id")),
        }
    }
}

/// A snapshot or a part of one: `ID`, `ID:path`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SnapshotArgument {
    /// Which snapshot.
    pub snapshot: SnapshotRef,
    /// The path behind the colon, as bytes; `None` for all of it.
    pub path: Option<Vec<u8>>,
}

impl SnapshotArgument {
    /// Parses what was typed. Only the first colon separates, so a path may hold more.
    ///
    /// # Errors
    /// A sentence for the command line.
    pub fn parse(text: OsString) -> std::result::Result<Self, String> {
        let mut bytes = text.into_vec();
        let path = match bytes.iter().position(|byte| *byte == b':') {
            Some(colon) => {
                let path = bytes.split_off(colon + 1);
                bytes.truncate(colon);
                (!path.is_empty()).then_some(path)
            }
            None => None,
        };
        let name =
            String::from_utf8(bytes).map_err(|error| format!("\"{}\" names no snapshot", escape(error.as_bytes())))?;
        Ok(Self { snapshot: name.parse()?, path })
    }
}

impl FromStr for SnapshotArgument {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        Self::parse(text.into())
    }
}

/// Tags that must all be there: `--tag a,b`. An empty list means a snapshot without tags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagList(pub Vec<String>);

impl FromStr for TagList {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        let mut tags: Vec<String> =
            text.split(',').map(str::trim).filter(|tag| !tag.is_empty()).map(str::to_owned).collect();
        let mut seen = std::collections::HashSet::new();
        tags.retain(|tag| seen.insert(tag.clone()));
        Ok(Self(tags))
    }
}

/// Which snapshots are meant. Without a condition, all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Any of these hosts; an empty name lets every host through.
    pub hosts: Vec<String>,
    /// Any of these lists of tags.
    pub tags: Vec<TagList>,
    /// All of these paths, absolute, as snapshots hold them.
    pub paths: Vec<Vec<u8>>,
}

impl Filter {
    /// True when a snapshot of `host`, with these tags and paths, is meant.
    #[must_use]
    pub fn matches(&self, host: &str, tags: &[String], paths: &[Vec<u8>]) -> bool {
        let list = |TagList(all): &TagList| match all.is_empty() {
            true => tags.is_empty(),
            false => all.iter().all(|tag| tags.contains(tag)),
        };
        (self.hosts.is_empty() || self.hosts.iter().any(|wanted| wanted.is_empty() || wanted == host))
            && (self.tags.is_empty() || self.tags.iter().any(list))
            && self
                .paths
                .iter()
                .all(|wanted| paths.iter().any(|path| path == wanted || many_beneath(path) == Some(wanted.as_slice())))
    }

    /// [`Filter::matches`] for a snapshot.
    #[must_use]
    pub fn admits(&self, snapshot: &Snapshot) -> bool {
        self.matches(&snapshot.host, &snapshot.tags, &snapshot.paths)
    }

    /// True when nothing is asked for.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.hosts.is_empty() && self.tags.is_empty() && self.paths.is_empty()
    }
}

/// What snapshots are put together by: `--group-by host,paths`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GroupBy {
    /// Snapshots of one host.
    pub host: bool,
    /// Snapshots of the same paths.
    pub paths: bool,
    /// Snapshots with the same tags.
    pub tags: bool,
    /// Snapshots with the same label.
    pub label: bool,
}

impl GroupBy {
    /// What groups are made by where nothing else is asked for, as in restic.
    pub const HOST_AND_PATHS: Self = Self { host: true, paths: true, tags: false, label: false };
}

impl FromStr for GroupBy {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let mut group = Self::default();
        for word in text.split(',').filter(|word| !word.is_empty()) {
            match word {
                "host" | "hosts" => group.host = true,
                "path" | "paths" => group.paths = true,
                "tag" | "tags" => group.tags = true,
                "label" | "labels" => group.label = true,
                _ => return Err(format!("{word:?} is none of host, paths, tags, label")),
            }
        }
        Ok(group)
    }
}

/// What the snapshots of one group have in common; what they are not grouped by is absent.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct GroupKey {
    /// The host.
    pub host: Option<String>,
    /// The paths, sorted.
    pub paths: Option<Vec<Vec<u8>>>,
    /// The tags, sorted.
    pub tags: Option<Vec<String>>,
    /// The label.
    pub label: Option<String>,
}

impl GroupBy {
    /// The group of a snapshot.
    #[must_use]
    pub fn key(&self, snapshot: &Snapshot) -> GroupKey {
        self.key_of(&snapshot.host, &snapshot.paths, &snapshot.tags, &snapshot.label)
    }

    /// The group of a snapshot of this host, with these paths, tags and label.
    #[must_use]
    pub fn key_of(&self, host: &str, paths: &[Vec<u8>], tags: &[String], label: &str) -> GroupKey {
        fn sorted<T: Clone + Ord>(list: &[T]) -> Vec<T> {
            let mut list = list.to_vec();
            list.sort();
            list
        }
        GroupKey {
            host: self.host.then(|| host.to_owned()),
            paths: self.paths.then(|| sorted(paths)),
            tags: self.tags.then(|| sorted(tags)),
            label: self.label.then(|| label.to_owned()),
        }
    }
}

/// A snapshot that was chosen.
#[derive(Debug, Clone)]
pub struct Chosen {
    /// Its id.
    pub id: ObjectId,
    /// What it says.
    pub snapshot: Snapshot,
}

/// Snapshots that were chosen.
#[derive(Debug, Default)]
pub struct Selection {
    /// Those that could be read, oldest first.
    pub chosen: Vec<Chosen>,
    /// The order of all that can be read, chosen or not.
    pub order: Order,
    /// Those that could not: whether the filters mean them cannot be known.
    pub damaged: Vec<(ObjectId, repository::Error)>,
}

/// Every live snapshot that the filter lets through, oldest first, and every one that cannot be read.
///
/// # Errors
/// Nothing more can be read at all.
pub fn all(repository: &Repository, filter: &Filter) -> Result<Selection> {
    let (all, order) = order::all(repository)?;
    let mut selection = Selection { order, ..Selection::default() };
    for (id, snapshot) in all {
        match snapshot {
            Ok(snapshot) if filter.admits(&snapshot) => selection.chosen.push(Chosen { id, snapshot }),
            Ok(_) => {}
            Err(error) => selection.damaged.push((id, error)),
        }
    }
    Ok(selection)
}

/// The snapshots that are named, each once, oldest first; without a name, all that the filter lets through.
/// As restic has it, the filter decides what `latest` counts, and an id is taken whatever the filter says.
///
/// # Errors
/// As [`one`], for the first name that stands for nothing. A named snapshot that cannot be read is in
/// [`Selection::damaged`].
pub fn many(repository: &Repository, names: &[SnapshotRef], filter: &Filter) -> Result<Selection> {
    let mut everything = all(repository, &Filter::default())?;
    if names.is_empty() {
        let chosen = everything.chosen.into_iter().filter(|chosen| filter.admits(&chosen.snapshot)).collect();
        return Ok(Selection { chosen, ..everything });
    }
    let mut wanted = std::collections::BTreeSet::new();
    for name in names {
        wanted.insert(match name {
            SnapshotRef::Latest { back } => latest(repository, &mut everything, *back, filter)?.id,
            SnapshotRef::Prefix(digits) => by_prefix(repository, digits)?,
        });
    }
    Ok(Selection {
        chosen: everything.chosen.into_iter().filter(|chosen| wanted.contains(&chosen.id)).collect(),
        damaged: everything.damaged.into_iter().filter(|(id, _)| wanted.contains(id)).collect(),
        order: everything.order,
    })
}

/// The one snapshot that is named.
///
/// # Errors
/// [`Error::NotFound`] when there is none, [`Error::Invalid`] when an id's beginning stands for several; the damage, when it cannot be
/// read.
pub fn one(repository: &Repository, name: &SnapshotRef, filter: &Filter) -> Result<Chosen> {
    match name {
        SnapshotRef::Prefix(digits) => {
            let id = by_prefix(repository, digits)?;
            Ok(Chosen { id, snapshot: repository.snapshot(id)? })
        }
        SnapshotRef::Latest { back } => {
            let mut everything = all(repository, &Filter::default())?;
            let chosen = latest(repository, &mut everything, *back, filter)?;
            for (id, error) in &everything.damaged {
                repository.warn(format!(
                    "snapshot {} cannot be read ({error}): {name} is chosen among the others",
                    id.short()
                ));
            }
            Ok(chosen)
        }
    }
}

/// The snapshot that is named, and the part of it that is meant.
///
/// # Errors
/// As [`one`] and [`find_path`].
pub fn argument(repository: &Repository, argument: &SnapshotArgument, filter: &Filter) -> Result<(Chosen, Found)> {
    let chosen = one(repository, &argument.snapshot, filter)?;
    let found = find_path(repository, &chosen, argument.path.as_deref().unwrap_or_default())?;
    Ok((chosen, found))
}

/// What arrived before the chosen one is older; what arrived after it and cannot be read may be what is meant, and older data must not pass for
/// it.
fn latest(repository: &Repository, everything: &mut Selection, back: usize, filter: &Filter) -> Result<Chosen> {
    let name = SnapshotRef::Latest { back };
    let (all, unread) = (&everything.chosen, &mut everything.damaged);
    let fitting = || all.iter().rev().filter(|chosen| filter.admits(&chosen.snapshot));
    if let Err(source) = repository.require_newest() {
        let Some(found) = fitting().next().map(|chosen| chosen.id.short()) else { return Err(source.into()) };
        let sentence = format!("which snapshot is {name} cannot be determined");
        return Err(Error::NewestUnreadable { sentence, found, source: Box::new(source) });
    }
    let state = repository.tip().state;
    let arrival = |id: &ObjectId| state.snapshots.get(id).map_or(0, |entry| entry.arrival);
    let chosen = fitting().nth(back);
    let older = chosen.map_or(0, |chosen| arrival(&chosen.id));
    if let Some(found) = chosen.or_else(|| fitting().next())
        && let Some(newer) = unread.iter().position(|(id, _)| chosen.is_none() || arrival(id) > older)
    {
        let (newer, source) = unread.swap_remove(newer);
        let (found, newer) = (found.id.short(), newer.short());
        let after = if chosen.is_none() { String::new() } else { format!(", stored after {found},") };
        let sentence = format!("which snapshot is {name} cannot be determined: {newer}{after} cannot be read");
        return Err(Error::NewestUnreadable { sentence, found, source: Box::new(source) });
    }
    if let Some(chosen) = chosen {
        return Ok(chosen.clone());
    }
    let sentence = match (all.len(), fitting().count()) {
        (0, _) if unread.is_empty() => format!(
            "no snapshot {name}: the repository at {} holds none yet. To make one: {}",
            escape(repository.place().as_os_str().as_encoded_bytes()),
            suggest!("backup PATH")
        ),
        (0, _) => {
            let named: Vec<String> = unread.iter().map(|(id, _)| id.short()).collect();
            format!("no snapshot {name}: none can be read ({}). Next: {}", named.join(", "), suggest!("check"))
        }
        (held, 0) => {
            format!("no snapshot {name}: none of the {held} snapshots has this host, these tags and paths. {LISTED}")
        }
        (_, fit) => format!("no snapshot {name}: only {fit} to choose from. {LISTED}"),
    };
    Err(Error::NotFound(sentence))
}

fn by_prefix(repository: &Repository, digits: &str) -> Result<ObjectId> {
    let tip = repository.tip();
    let describe = |id: &ObjectId| match repository.snapshot(*id) {
        Ok(snapshot) => {
            let paths: Vec<String> = snapshot.paths.iter().map(|path| escape(path)).collect();
            format!("{} of {} ({})", id.short(), escape(snapshot.host.as_bytes()), paths.join(", "))
        }
        Err(_) => format!("{} (cannot be read)", id.short()),
    };
    by_beginning(tip.state.snapshots.keys(), digits, "snapshot", LISTED, describe)
}

/// The one of `ids` that begins with these hex digits. `kind` and `next` are for the message: what is looked for, and
/// what to run to see them all; `describe` names a candidate.
///
/// # Errors
/// [`Error::NotFound`] when there is none, [`Error::Invalid`] when there are several.
pub fn by_beginning<'a>(
    ids: impl Iterator<Item = &'a ObjectId>,
    digits: &str,
    kind: &str,
    next: &str,
    describe: impl Fn(&ObjectId) -> String,
) -> Result<ObjectId> {
    let found: Vec<&ObjectId> = ids.filter(|id| id.to_string().starts_with(digits)).collect();
    match found.as_slice() {
        [id] => Ok(**id),
        [] => Err(Error::NotFound(format!("no {kind} {digits}. {next}"))),
        several => {
            let mut names: Vec<String> = several.iter().take(CANDIDATES_SHOWN).map(|id| describe(id)).collect();
            if several.len() > CANDIDATES_SHOWN {
                names.push(format!("and {} more", several.len() - CANDIDATES_SHOWN));
            }
            Err(Error::Invalid(format!(
                "{digits} is the beginning of {} {kind}s: {}; type more digits",
                several.len(),
                names.join(", ")
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn argument(text: &str) -> std::result::Result<SnapshotArgument, String> {
        SnapshotArgument::parse(text.into())
    }

    #[test]
    fn snapshots_are_named_in_every_form() {
        let latest = SnapshotRef::Latest { back: 0 };
        assert_eq!(argument("latest"), Ok(SnapshotArgument { snapshot: latest.clone(), path: None }));
        assert_eq!(argument("latest~3").unwrap().snapshot, SnapshotRef::Latest { back: 3 });
        assert_eq!(argument("7F3a").unwrap().snapshot, SnapshotRef::Prefix("7f3a".to_owned()));
        assert_eq!(argument("latest:/a:b"), Ok(SnapshotArgument { snapshot: latest, path: Some(b"/a:b".to_vec()) }));
        assert_eq!(argument("7f3a91c2:").unwrap().path, None);
        for text in ["", ":x", "latest~", "latest~-1", "latest~x", "latest~99999999999999999999", "xyz", "7f 3", "/etc"]
        {
            assert!(argument(text).is_err(), "{text}");
        }
        assert!(argument(&"a".repeat(64)).is_ok() && argument(&"a".repeat(65)).is_err());
        for text in ["latest", "latest~2", "ab12"] {
            assert_eq!(argument(text).unwrap().snapshot.to_string(), text);
        }
    }

    #[test]
    fn only_ids_have_beginnings() {
        assert_eq!("AB12".parse(), Ok(IdBeginning("ab12".to_owned())));
        assert!("latest".parse::<IdBeginning>().is_err() && "".parse::<IdBeginning>().is_err());
    }

    #[test]
    fn filters_are_and_inside_a_tag_list_and_or_between() {
        let tags = |text: &str| text.parse::<TagList>().unwrap();
        assert_eq!(tags("a, b,,a").0, ["a", "b"]);
        let filter = Filter { tags: vec![tags("a,b"), tags("c")], ..Filter::default() };
        let matches = |filter: &Filter, tags: &[&str]| {
            let tags: Vec<String> = tags.iter().map(|tag| (*tag).to_owned()).collect();
            filter.matches("h", &tags, &[b"/home".to_vec(), b"/etc".to_vec()])
        };
        assert!(matches(&filter, &["b", "a", "x"]));
        assert!(matches(&filter, &["c"]));
        assert!(!matches(&filter, &["a"]));
        assert!(!matches(&filter, &[]));
        let untagged = Filter { tags: vec![tags("")], ..Filter::default() };
        assert!(matches(&untagged, &[]) && !matches(&untagged, &["a"]));
        let host = Filter { hosts: vec!["g".into(), "h".into()], ..Filter::default() };
        assert!(matches(&host, &[]) && !host.matches("i", &[], &[]));
        let paths = |list: &[&str]| Filter {
            paths: list.iter().map(|path| path.as_bytes().to_vec()).collect(),
            ..Filter::default()
        };
        assert!(matches(&paths(&["/etc", "/home"]), &[]) && !matches(&paths(&["/etc", "/var"]), &[]));
    }

    #[test]
    fn groups_are_parsed() {
        assert_eq!("host,paths".parse(), Ok(GroupBy::HOST_AND_PATHS));
        assert_eq!("label".parse(), Ok(GroupBy { label: true, ..GroupBy::default() }));
        assert_eq!("".parse(), Ok(GroupBy::default()));
        assert!("host,user".parse::<GroupBy>().is_err());
    }
}
