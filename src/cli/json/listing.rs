//! What is stored, as commands list it: snapshots, nodes, matches, differences, keys, sizes.

use super::{Raw, Text};
use crate::base::time::Time;
use crate::text::clock;
use crate::text::file_mode;
use jiff::tz::TimeZone;
use serde::Serialize;

/// One snapshot, as an element of `snapshots` and the first line of `ls`.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Snapshot {
    /// When the backup was started, RFC 3339.
    pub time: String,
    /// The snapshot it was compared with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// The root tree.
    pub tree: String,
    /// What was backed up. A path that is no UTF-8 stands here lossily.
    pub paths: Vec<String>,
    /// The exact bytes of all paths as hex, in the same order, when one is no UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paths_raw: Option<Vec<String>>,
    /// The machine.
    pub hostname: String,
    /// The user.
    pub username: String,
    /// What was left out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub excludes: Vec<String>,
    /// Tags.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// True when no rule may remove it; else absent (ours).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub held: bool,
    /// The label (ours).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// `complete`, `changed` or `partial` (ours).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<&'static str>,
    /// `ahead` of this machine's clock, or `contradicted` by the order of arrival; else absent (ours).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_in_doubt: Option<&'static str>,
    /// The program that made it.
    pub program_version: String,
    /// What was counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary: Option<SnapshotSummary>,
    /// Its id.
    pub id: String,
    /// The first 8 digits of it.
    pub short_id: String,
}

/// What was counted when a snapshot was made. Sizes are bytes.
#[derive(Debug, Clone, Default, Serialize)]
pub struct SnapshotSummary {
    /// When the backup began, RFC 3339.
    pub backup_start: String,
    /// When it ended, RFC 3339.
    pub backup_end: String,
    /// Files that the parent did not have.
    pub files_new: u64,
    /// Files that differ from the parent's.
    pub files_changed: u64,
    /// Files as in the parent.
    pub files_unmodified: u64,
    /// Directories that the parent did not have.
    pub dirs_new: u64,
    /// Directories that differ from the parent's.
    pub dirs_changed: u64,
    /// Directories as in the parent.
    pub dirs_unmodified: u64,
    /// Chunks of content added.
    pub data_blobs: u64,
    /// Chunks of listings added.
    pub tree_blobs: u64,
    /// Added, before compression.
    pub data_added: u64,
    /// Added, as stored.
    pub data_added_packed: u64,
    /// Files looked at.
    pub total_files_processed: u64,
    /// Their bytes.
    pub total_bytes_processed: u64,
}

/// A line of `ls`: the snapshot first, then its nodes.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "message_type", rename_all = "snake_case")]
pub enum LsMessage<'a> {
    /// The snapshot that is listed.
    Snapshot {
        /// Always "snapshot"; restic's older name of `message_type`.
        struct_type: &'static str,
        /// The snapshot.
        #[serde(flatten)]
        snapshot: &'a Snapshot,
    },
    /// One entry.
    Node {
        /// Always "node"; restic's older name of `message_type`.
        struct_type: &'static str,
        /// The entry.
        #[serde(flatten)]
        node: &'a Node<'a>,
    },
}

impl<'a> LsMessage<'a> {
    /// The first line.
    #[must_use]
    pub const fn snapshot(snapshot: &'a Snapshot) -> Self {
        Self::Snapshot { struct_type: "snapshot", snapshot }
    }

    /// One of the other lines.
    #[must_use]
    pub const fn node(node: &'a Node<'a>) -> Self {
        Self::Node { struct_type: "node", node }
    }
}

/// One entry of a snapshot: a line of `ls`, a match of `find`.
#[derive(Debug, Clone, Serialize)]
pub struct Node<'a> {
    name: Text<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name_raw: Option<Raw<'a>>,
    #[serde(rename = "type")]
    kind: &'static str,
    path: Text<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_raw: Option<Raw<'a>>,
    /// Owner's id.
    pub uid: u32,
    /// Group's id.
    pub gid: u32,
    /// Owner's name; empty when none is stored.
    #[serde(skip_serializing_if = "is_empty")]
    pub user: Text<'a>,
    /// Group's name; empty when none is stored.
    #[serde(skip_serializing_if = "is_empty")]
    pub group: Text<'a>,
    /// Size in bytes; only files have one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    mode: u32,
    permissions: String,
    mtime: String,
    ctime: String,
    /// Inode number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inode: Option<u64>,
    /// Number of names of this file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub links: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    link_target: Option<Text<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    link_target_raw: Option<Raw<'a>>,
}

fn is_empty(text: &Text<'_>) -> bool {
    text.0.is_empty()
}

impl<'a> Node<'a> {
    /// An entry at `path` (its name is what follows the last `/`), with `st_mode` as the operating system has it
    /// (type and permissions). The remaining fields are public.
    #[must_use]
    pub fn new(path: &'a [u8], st_mode: u32, mtime: Time, ctime: Time, zone: &TimeZone) -> Self {
        let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path);
        Self {
            name: Text(name),
            name_raw: Raw::of(name),
            kind: file_mode::type_name(st_mode),
            path: Text(path),
            path_raw: Raw::of(path),
            uid: 0,
            gid: 0,
            user: Text(b""),
            group: Text(b""),
            size: None,
            mode: file_mode::go_mode(st_mode),
            permissions: file_mode::go_permissions(st_mode),
            mtime: clock::rfc3339(mtime, zone),
            ctime: clock::rfc3339(ctime, zone),
            inode: None,
            links: None,
            link_target: None,
            link_target_raw: None,
        }
    }

    /// The same with a symbolic link's target.
    #[must_use]
    pub fn with_link_target(mut self, target: &'a [u8]) -> Self {
        self.link_target = Some(Text(target));
        self.link_target_raw = Raw::of(target);
        self
    }
}

/// A line of `diff`.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "message_type", rename_all = "snake_case")]
pub enum DiffMessage<'a> {
    /// One difference.
    Change(Change<'a>),
    /// The last line.
    Statistics {
        /// The first snapshot.
        source_snapshot: String,
        /// The second snapshot, or the path of the live directory.
        target_snapshot: String,
        /// Files whose content differs.
        changed_files: u64,
        /// What only the second has.
        added: DiffCount,
        /// What only the first has.
        removed: DiffCount,
    },
}

/// One difference.
#[derive(Debug, Clone, Serialize)]
pub struct Change<'a> {
    path: Text<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_raw: Option<Raw<'a>>,
    modifier: String,
}

impl<'a> Change<'a> {
    /// `modifier` is a sequence of `+` added, `-` removed, `T` type, `M` content, `U` metadata.
    #[must_use]
    pub fn new(path: &'a [u8], modifier: impl Into<String>) -> Self {
        Self { path: Text(path), path_raw: Raw::of(path), modifier: modifier.into() }
    }
}

/// What a difference adds up to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct DiffCount {
    /// Files.
    pub files: u64,
    /// Directories.
    pub dirs: u64,
    /// Everything else.
    pub others: u64,
    /// Chunks of content.
    pub data_blobs: u64,
    /// Chunks of listings.
    pub tree_blobs: u64,
    /// Bytes.
    pub bytes: u64,
}

/// One key slot, as an element of `key list`.
#[derive(Debug, Clone, Serialize)]
pub struct Key {
    /// The one that opened the repository now.
    pub current: bool,
    /// Its id.
    pub id: String,
    /// `passphrase`, `recovery code` or `key file` (ours).
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Its label (ours).
    pub label: String,
    /// When it was made, local time.
    pub created: String,
}

/// What `stats` counts. Sizes are bytes; what a mode does not count is absent.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Stats {
    /// Size in the chosen mode.
    pub total_size: u64,
    /// The same before compression.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_uncompressed_size: Option<u64>,
    /// The second by the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compression_ratio: Option<f64>,
    /// Percentage of data that is compressed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compression_progress: Option<f64>,
    /// Percentage saved by compression.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compression_space_saving: Option<f64>,
    /// Files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_file_count: Option<u64>,
    /// Chunks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_blob_count: Option<u64>,
    /// Snapshots looked at.
    pub snapshots_count: u64,
}

#[cfg(test)]
mod tests {
    use super::super::tests::json;
    use super::*;

    #[test]
    fn listings_have_restics_shape() {
        let time = Time::from_seconds(0);
        let mut node = Node::new(b"/etc/hosts", 0o100_644, time, time, &TimeZone::UTC);
        node.size = Some(7);
        node.inode = Some(3);
        assert_eq!(
            json(&LsMessage::node(&node)),
            r#"{"message_type":"node","struct_type":"node","name":"hosts","type":"file","path":"/etc/hosts","uid":0,"gid":0,"size":7,"mode":420,"permissions":"-rw-r--r--","mtime":"1970-01-01T00:00:00+00:00","ctime":"1970-01-01T00:00:00+00:00","inode":3}"#
        );
        let link = Node::new(b"/l", 0o120_777, time, time, &TimeZone::UTC).with_link_target(b"\xff");
        let text = json(&link);
        assert!(
            text.contains(r#""type":"symlink""#)
                && text.contains("\"link_target\":\"\u{fffd}\",\"link_target_raw\":\"ff\""),
            "{text}"
        );
        assert_eq!(
            json(&DiffMessage::Change(Change::new(b"/a", "M"))),
            r#"{"message_type":"change","path":"/a","modifier":"M"}"#
        );
        let snapshot = Snapshot { id: "abc".to_owned(), ..Snapshot::default() };
        let text = json(&LsMessage::snapshot(&snapshot));
        assert!(text.starts_with(r#"{"message_type":"snapshot","struct_type":"snapshot","time":"""#), "{text}");
    }
}
