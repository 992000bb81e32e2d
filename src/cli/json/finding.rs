//! What was found: what speaks against a mirror, and the files that damage keeps from being restored.

use super::{Raw, Text};
use crate::base::id::ObjectId;
use crate::cli::output::Output;
use crate::repository::mirror_book::Finding;
use crate::text::clock;
use jiff::tz::TimeZone;
use serde::Serialize;

/// Why the last sync or check of a mirror failed, as nothing has disproved it since.
#[derive(Debug, Clone, Serialize)]
pub struct MirrorFinding<'a> {
    /// `sync` or `check`.
    pub by: &'static str,
    /// The kind of failure: `rollback`, `mirror-incomplete`, `fork`, `damage`, `failed` and so on.
    pub kind: &'a str,
    /// When it was found first, RFC 3339.
    pub since: String,
    /// When it was found last, RFC 3339.
    pub seen: String,
    /// True when it may pass by itself.
    pub transient: bool,
    /// True when it speaks against what lies there, and not against the repository here.
    pub of_mirror: bool,
    /// Why, for people.
    pub reason: &'a str,
    /// What to do about it, for people.
    pub next: Vec<String>,
}

impl<'a> MirrorFinding<'a> {
    /// A finding in the words of this command line.
    #[must_use]
    pub fn new(finding: &'a Finding, output: Output, zone: &TimeZone) -> Self {
        Self {
            by: finding.found_by.word(),
            kind: &finding.kind,
            since: clock::rfc3339(finding.since, zone),
            seen: clock::rfc3339(finding.seen, zone),
            transient: finding.transient,
            of_mirror: finding.of_mirror,
            reason: &finding.reason,
            next: finding.remedies.iter().map(|remedy| output.with_commands(remedy)).collect(),
        }
    }
}

/// A path of a snapshot that cannot be restored in full.
#[derive(Debug, Clone, Serialize)]
pub struct AffectedPath<'a> {
    /// The path.
    pub path: Text<'a>,
    /// Its bytes, when they are no UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_raw: Option<Raw<'a>>,
    /// The snapshot.
    pub snapshot_id: String,
}

impl<'a> AffectedPath<'a> {
    /// The path in this snapshot.
    #[must_use]
    pub fn new(snapshot: &ObjectId, path: &'a [u8]) -> Self {
        Self { path: Text(path), path_raw: Raw::of(path), snapshot_id: snapshot.to_string() }
    }
}

/// One of them, as a line of its own.
#[derive(Debug, Clone, Serialize)]
pub struct AffectedMessage<'a> {
    message_type: &'static str,
    #[serde(flatten)]
    affected: AffectedPath<'a>,
}

impl<'a> AffectedMessage<'a> {
    /// The path in this snapshot.
    #[must_use]
    pub fn new(snapshot: &ObjectId, path: &'a [u8]) -> Self {
        Self { message_type: "affected", affected: AffectedPath::new(snapshot, path) }
    }
}
