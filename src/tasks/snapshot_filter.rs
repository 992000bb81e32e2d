//! Which snapshots a request means, by host, tags and paths.

use crate::ops::backup;
use crate::ops::select::{Filter, TagList};
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// Which snapshots are meant. Without a condition, all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct SnapshotFilter {
    /// Any of these hosts; an empty name lets every host through.
    pub hosts: Vec<String>,
    /// Any of these lists of tags; of a list, all. In a request each list is one text: `"a,b"`.
    #[serde(deserialize_with = "super::text_form::list")]
    pub tags: Vec<TagList>,
    /// All of these paths. A relative one begins in the current directory of this process.
    pub paths: Vec<PathBuf>,
}

impl SnapshotFilter {
    /// What is meant: snapshots hold absolute paths.
    #[must_use]
    pub fn resolve(&self) -> Filter {
        self.from_directory(&std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/")))
    }

    /// The same with relative paths beginning in `directory`.
    #[must_use]
    pub fn from_directory(&self, directory: &Path) -> Filter {
        let paths = backup::absolute(&self.paths, directory);
        Filter { hosts: self.hosts.clone(), tags: self.tags.clone(), paths }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn paths_are_made_absolute() {
        let filter =
            SnapshotFilter { paths: vec!["etc/.".into(), "/var/../home/".into()], ..SnapshotFilter::default() };
        assert_eq!(filter.from_directory(Path::new("/")).paths, [b"/etc".to_vec(), b"/home".to_vec()]);
        assert!(SnapshotFilter::default().resolve().is_empty());
    }

    #[test]
    fn lists_of_tags_are_texts() {
        let filter: SnapshotFilter = serde_json::from_str(r#"{"tags": ["a,b", ""]}"#).unwrap();
        assert_eq!(filter.tags, [TagList(vec!["a".into(), "b".into()]), TagList(Vec::new())]);
    }
}
