//! One entry of a snapshot, shown: as a line of `ls -l` and as restic's JSON node.

use super::json::{Node as JsonNode, Text};
use crate::base::escape::escape;
use crate::codec::tree::{Entry, Node};
use crate::ops::tree_walk::Visited;
use crate::text::{clock, file_mode, size};
use jiff::tz::TimeZone;

/// Type and permissions as the system has them in `st_mode`; inode(7).
#[must_use]
pub const fn st_mode(entry: &Entry) -> u32 {
    let kind = match entry.node {
        Node::File(_) => 0o100_000,
        Node::Directory { .. } => 0o040_000,
        Node::Symlink { .. } => 0o120_000,
        Node::Fifo => 0o010_000,
        Node::Socket => 0o140_000,
        Node::CharacterDevice { .. } => 0o020_000,
        Node::BlockDevice { .. } => 0o060_000,
    };
    kind | entry.metadata.mode
}

/// Length of a file's content, in bytes; nothing else has one.
#[must_use]
pub const fn length(entry: &Entry) -> Option<u64> {
    match &entry.node {
        Node::File(content) => Some(content.size),
        _ => None,
    }
}

/// restic's long line: mode, owner, group, size, time, path, and the target of a symbolic link.
#[must_use]
pub fn long_line(visited: &Visited, human: bool, zone: &TimeZone) -> String {
    let Visited { path, entry } = visited;
    let bytes = length(entry).unwrap_or(0);
    let bytes = if human { size::show(bytes) } else { bytes.to_string() };
    let width = if human { 7 } else { 6 };
    let metadata = &entry.metadata;
    let target = match &entry.node {
        Node::Symlink { target } => format!(" -> {}", escape(target)),
        _ => String::new(),
    };
    format!(
        "{} {:>5} {:>5} {bytes:>width$} {} {}{target}",
        file_mode::show(st_mode(entry)),
        metadata.uid,
        metadata.gid,
        clock::show(metadata.mtime, zone),
        escape(path),
    )
}

/// The JSON node.
#[must_use]
pub fn node<'a>(visited: &'a Visited, zone: &TimeZone) -> JsonNode<'a> {
    let Visited { path, entry } = visited;
    let metadata = &entry.metadata;
    let mut node = JsonNode::new(path, st_mode(entry), metadata.mtime, metadata.ctime, zone);
    node.uid = metadata.uid;
    node.gid = metadata.gid;
    node.user = Text(&metadata.user);
    node.group = Text(&metadata.group);
    node.size = length(entry);
    node.inode = Some(metadata.inode);
    node.links = Some(metadata.links);
    match &entry.node {
        Node::Symlink { target } => node.with_link_target(target),
        _ => node,
    }
}
