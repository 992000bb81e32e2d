//! How snapshots are named and chosen on the command line: `latest`, `latest~N`, an id or its beginning, each with
//! `:path` behind it where a part is meant; and the filters `--host`, `--tag` and `--path`.

use crate::base::escape::escape;
use crate::base::id::ID_BYTES;
use clap::builder::{OsStringValueParser, TypedValueParser, ValueParserFactory};
use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// One snapshot, as it was typed.
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

impl FromStr for SnapshotRef {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
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
        Err(format!("{text:?} names no snapshot: expected latest, latest~N, or an id of hex digits"))
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

/// A snapshot or a part of one: `ID`, `ID:path`.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    pub fn parse(text: OsString) -> Result<Self, String> {
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

impl ValueParserFactory for SnapshotArgument {
    type Parser = clap::builder::ValueParser;

    fn value_parser() -> Self::Parser {
        OsStringValueParser::new().try_map(Self::parse).into()
    }
}

/// The second side of a comparison: another snapshot, or live files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiffTarget {
    /// A snapshot or a part of one.
    Snapshot(SnapshotArgument),
    /// A directory of this machine.
    Live(PathBuf),
}

impl DiffTarget {
    /// What parses as a snapshot is one; anything else that holds a `/` or begins with a `.` is a path. A directory
    /// called `latest` or `ab` is typed as `./ab`.
    ///
    /// # Errors
    /// A sentence for the command line.
    pub fn parse(text: OsString) -> Result<Self, String> {
        match SnapshotArgument::parse(text.clone()) {
            Ok(snapshot) => Ok(Self::Snapshot(snapshot)),
            Err(why) => {
                let bytes = text.into_vec();
                if bytes.contains(&b'/') || bytes.first() == Some(&b'.') {
                    Ok(Self::Live(PathBuf::from(OsString::from_vec(bytes))))
                } else {
                    Err(format!("{why}, or a path with a / in it such as ./directory"))
                }
            }
        }
    }
}

impl ValueParserFactory for DiffTarget {
    type Parser = clap::builder::ValueParser;

    fn value_parser() -> Self::Parser {
        OsStringValueParser::new().try_map(Self::parse).into()
    }
}

/// Tags that must all be there: `--tag a,b`. An empty list means a snapshot without tags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagList(pub Vec<String>);

impl FromStr for TagList {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut tags: Vec<String> =
            text.split(',').map(str::trim).filter(|tag| !tag.is_empty()).map(str::to_owned).collect();
        let mut seen = std::collections::HashSet::new();
        tags.retain(|tag| seen.insert(tag.clone()));
        Ok(Self(tags))
    }
}

/// Which snapshots are meant. Without a filter, all.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct SnapshotFilter {
    /// Only snapshots of this host (can be given multiple times: any of them)
    #[arg(
        short = 'H',
        long = "host",
        value_name = "HOST",
        env = "PACKSTONE_HOST",
        help_heading = "Choosing snapshots"
    )]
    pub hosts: Vec<String>,
    /// Only snapshots with all of these tags, separated by commas (can be given multiple times: any of the lists)
    #[arg(long = "tag", value_name = "TAG[,TAG...]", help_heading = "Choosing snapshots")]
    pub tags: Vec<TagList>,
    /// Only snapshots of this path (can be given multiple times: all of them)
    #[arg(long = "path", value_name = "PATH", help_heading = "Choosing snapshots")]
    pub paths: Vec<PathBuf>,
}

impl SnapshotFilter {
    /// True when a snapshot of `host`, with these tags and paths, is meant.
    #[must_use]
    pub fn matches<T: AsRef<[u8]>, P: AsRef<[u8]>>(&self, host: &[u8], tags: &[T], paths: &[P]) -> bool {
        use std::os::unix::ffi::OsStrExt;
        let has_tag = |wanted: &String| tags.iter().any(|tag| tag.as_ref() == wanted.as_bytes());
        let has_path = |wanted: &PathBuf| paths.iter().any(|path| path.as_ref() == wanted.as_os_str().as_bytes());
        (self.hosts.is_empty() || self.hosts.iter().any(|wanted| wanted.is_empty() || wanted.as_bytes() == host))
            && (self.tags.is_empty()
                || self.tags.iter().any(
                    |TagList(all)| {
                        if all.is_empty() { tags.is_empty() } else { all.iter().all(has_tag) }
                    },
                ))
            && self.paths.iter().all(has_path)
    }

    /// The filter with relative paths made absolute from `directory`, as snapshots hold them.
    #[must_use]
    pub fn from_directory(mut self, directory: &Path) -> Self {
        for path in &mut self.paths {
            if path.is_relative() {
                *path = directory.join(&*path);
            }
        }
        self
    }

    /// True when nothing is asked for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
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
}

impl FromStr for GroupBy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut group = Self::default();
        for word in text.split(',').filter(|word| !word.is_empty()) {
            match word {
                "host" | "hosts" => group.host = true,
                "path" | "paths" => group.paths = true,
                "tag" | "tags" => group.tags = true,
                _ => return Err(format!("{word:?} is none of host, paths, tags")),
            }
        }
        Ok(group)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn argument(text: &str) -> Result<SnapshotArgument, String> {
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
    fn a_path_is_told_from_a_snapshot() {
        assert!(matches!(DiffTarget::parse("ab:dir/x".into()), Ok(DiffTarget::Snapshot(_))));
        assert!(matches!(DiffTarget::parse("latest~1".into()), Ok(DiffTarget::Snapshot(_))));
        assert_eq!(DiffTarget::parse("./ab".into()), Ok(DiffTarget::Live("./ab".into())));
        assert_eq!(DiffTarget::parse("/etc:old".into()), Ok(DiffTarget::Live("/etc:old".into())));
        assert_eq!(DiffTarget::parse(".".into()), Ok(DiffTarget::Live(".".into())));
        assert!(DiffTarget::parse("Documents".into()).unwrap_err().contains("./directory"));
        let odd = OsString::from_vec(b"/caf\xe9".to_vec());
        assert_eq!(DiffTarget::parse(odd.clone()), Ok(DiffTarget::Live(odd.into())));
    }

    #[test]
    fn filters_are_and_inside_a_tag_list_and_or_between() {
        let tags = |text: &str| text.parse::<TagList>().unwrap();
        assert_eq!(tags("a, b,,a").0, ["a", "b"]);
        let filter = SnapshotFilter { tags: vec![tags("a,b"), tags("c")], ..SnapshotFilter::default() };
        let matches = |filter: &SnapshotFilter, tags: &[&str]| filter.matches(b"h", tags, &["/home", "/etc"]);
        assert!(matches(&filter, &["b", "a", "x"]));
        assert!(matches(&filter, &["c"]));
        assert!(!matches(&filter, &["a"]));
        assert!(!matches(&filter, &[]));
        let untagged = SnapshotFilter { tags: vec![tags("")], ..SnapshotFilter::default() };
        assert!(matches(&untagged, &[]) && !matches(&untagged, &["a"]));
        let host = SnapshotFilter { hosts: vec!["g".into(), "h".into()], ..SnapshotFilter::default() };
        assert!(matches(&host, &[]) && !host.matches::<&str, &str>(b"i", &[], &[]));
        let paths = |list: &[&str]| SnapshotFilter {
            paths: list.iter().map(PathBuf::from).collect(),
            ..SnapshotFilter::default()
        };
        assert!(matches(&paths(&["/etc", "/home"]), &[]) && !matches(&paths(&["/etc", "/var"]), &[]));
        assert!(matches(&paths(&["etc"]).from_directory(Path::new("/")), &[]));
    }

    #[test]
    fn groups_are_parsed() {
        assert_eq!("host,paths".parse(), Ok(GroupBy { host: true, paths: true, tags: false }));
        assert_eq!("".parse(), Ok(GroupBy::default()));
        assert!("host,user".parse::<GroupBy>().is_err());
    }
}
