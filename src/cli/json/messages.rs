//! Lines that commands write while they work and at their end.

use super::{Raw, Text};
use crate::cli::exit::Exit;
use crate::cli::output::Output;
use crate::tasks::failure::Failure;
use serde::Serialize;

/// A command ends with an error; written on the standard error.
#[derive(Debug, Clone, Serialize)]
pub struct ExitError {
    message_type: &'static str,
    /// The exit code.
    code: u8,
    /// The sentence with its causes.
    message: String,
    /// What to do next.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    hints: Vec<String>,
}

impl ExitError {
    /// The line for `error`, in the words that `output` shows.
    #[must_use]
    pub fn new(error: &Failure, output: Output) -> Self {
        Self {
            message_type: "exit_error",
            code: Exit::from(error.kind()).code(),
            message: output.shown(&error.chain()),
            hints: error.remedies().iter().map(|remedy| output.shown(remedy.marked())).collect(),
        }
    }
}

/// Something the user should know; written on the standard error.
#[derive(Debug, Clone, Serialize)]
pub struct Warning<'a> {
    message_type: &'static str,
    message: &'a str,
}

impl<'a> Warning<'a> {
    /// The line for `message`.
    #[must_use]
    pub const fn new(message: &'a str) -> Self {
        Self { message_type: "warning", message }
    }
}

/// A new repository.
#[derive(Debug, Clone, Serialize)]
pub struct Initialized<'a> {
    message_type: &'static str,
    id: String,
    repository: Text<'a>,
}

impl<'a> Initialized<'a> {
    /// Repository `id` was created at the place `repository`.
    #[must_use]
    pub const fn new(id: String, repository: &'a [u8]) -> Self {
        Self { message_type: "initialized", id, repository: Text(repository) }
    }
}

/// The program's version.
#[derive(Debug, Clone, Serialize)]
pub struct Version {
    message_type: &'static str,
    version: &'static str,
    os: &'static str,
    arch: &'static str,
}

impl Default for Version {
    fn default() -> Self {
        Self {
            message_type: "version",
            version: env!("CARGO_PKG_VERSION"),
            os: std::env::consts::OS,
            arch: std::env::consts::ARCH,
        }
    }
}

/// A line of `backup`.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "message_type", rename_all = "snake_case")]
pub enum BackupMessage<'a> {
    /// How far it is, a few times a second.
    Status(BackupStatus<'a>),
    /// What became of one entry, with `--verbose --verbose`.
    VerboseStatus(BackupVerbose<'a>),
    /// One entry could not be read; written on the standard error.
    Error(ItemError<'a>),
    /// The last line.
    Summary(BackupSummary),
}

/// How far a backup is.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct BackupStatus<'a> {
    /// Whole seconds since the start.
    pub seconds_elapsed: u64,
    /// Estimated; 0 while nothing is known.
    #[serde(skip_serializing_if = "is_zero")]
    pub seconds_remaining: u64,
    /// Bytes that are read a second (ours).
    #[serde(skip_serializing_if = "is_zero")]
    pub bytes_per_second: u64,
    /// Share of bytes, 0 to 1.
    pub percent_done: f64,
    /// Files found so far.
    pub total_files: u64,
    /// Files done.
    pub files_done: u64,
    /// Bytes found so far.
    pub total_bytes: u64,
    /// Bytes done.
    pub bytes_done: u64,
    /// Problems so far.
    pub error_count: u64,
    /// What is being read.
    pub current_files: Vec<Text<'a>>,
}

/// What became of one entry in a backup. Sizes are bytes.
#[derive(Debug, Clone, Serialize)]
pub struct BackupVerbose<'a> {
    /// `new`, `modified`, `unchanged` or `scan_finished`.
    pub action: &'static str,
    /// The path.
    pub item: Text<'a>,
    /// Its exact bytes, when they are no UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub item_raw: Option<Raw<'a>>,
    /// Seconds it took.
    pub duration: f64,
    /// New content, before compression.
    pub data_size: u64,
    /// New content, as stored.
    pub data_size_in_repo: u64,
    /// New metadata, before compression.
    pub metadata_size: u64,
    /// New metadata, as stored.
    pub metadata_size_in_repo: u64,
    /// Files found, for `scan_finished`.
    pub total_files: u64,
}

/// One entry that could not be read or written.
#[derive(Debug, Clone, Serialize)]
pub struct ItemError<'a> {
    /// What happened.
    pub error: ErrorText<'a>,
    /// `archival` or `restore`, as restic says.
    pub during: &'static str,
    /// The path.
    pub item: Text<'a>,
    /// Its exact bytes, when they are no UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub item_raw: Option<Raw<'a>>,
}

impl<'a> ItemError<'a> {
    /// The problem `message` with `path`.
    #[must_use]
    pub fn new(message: &'a str, during: &'static str, path: &'a [u8]) -> Self {
        Self { error: ErrorText { message }, during, item: Text(path), item_raw: Raw::of(path) }
    }
}

/// The inner object of [`ItemError`].
#[derive(Debug, Clone, Serialize)]
pub struct ErrorText<'a> {
    /// The sentence.
    pub message: &'a str,
}

/// What a backup did. Sizes are bytes.
#[derive(Debug, Clone, Default, Serialize)]
pub struct BackupSummary {
    /// Nothing was written.
    #[serde(skip_serializing_if = "is_false")]
    pub dry_run: bool,
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
    /// Seconds it took.
    pub total_duration: f64,
    /// When it began, RFC 3339.
    pub backup_start: String,
    /// When it ended, RFC 3339.
    pub backup_end: String,
    /// The new snapshot; absent when none was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot_id: Option<String>,
    /// `complete`, `changed` or `partial` (ours, not restic's).
    pub outcome: &'static str,
    /// Entries that could not be read, and notes (ours).
    pub problems: u64,
    /// Paths of packstone's own that were left out, the first ones (ours).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub own: Vec<String>,
    /// How many there are (ours).
    #[serde(skip_serializing_if = "is_zero")]
    pub own_count: u64,
    /// Sources that are empty and were not, the first ones (ours).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub emptied: Vec<String>,
}

/// A line of `restore`.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "message_type", rename_all = "snake_case")]
pub enum RestoreMessage<'a> {
    /// How far it is.
    Status(RestoreStatus),
    /// What became of one entry, with `--verbose --verbose`.
    VerboseStatus(RestoreVerbose<'a>),
    /// One entry could not be restored; written on the standard error.
    Error(ItemError<'a>),
    /// The last line.
    Summary(RestoreSummary),
}

/// What is counted in a restore. Sizes are bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct RestoreCounts {
    /// Files wanted.
    pub total_files: u64,
    /// Files written.
    pub files_restored: u64,
    /// Files left as they are, by the overwrite rule.
    pub files_skipped: u64,
    /// Files removed, with `--delete`.
    pub files_deleted: u64,
    /// Bytes wanted.
    pub total_bytes: u64,
    /// Bytes written.
    pub bytes_restored: u64,
    /// Bytes of files left as they are.
    pub bytes_skipped: u64,
}

/// How far a restore is.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct RestoreStatus {
    /// Whole seconds since the start.
    pub seconds_elapsed: u64,
    /// Estimated (ours); 0 while nothing is known.
    #[serde(skip_serializing_if = "is_zero")]
    pub seconds_remaining: u64,
    /// Bytes that are written a second (ours).
    #[serde(skip_serializing_if = "is_zero")]
    pub bytes_per_second: u64,
    /// Share of bytes, 0 to 1.
    pub percent_done: f64,
    /// The counts.
    #[serde(flatten)]
    pub counts: RestoreCounts,
}

/// What became of one entry in a restore.
#[derive(Debug, Clone, Serialize)]
pub struct RestoreVerbose<'a> {
    /// `restored`, `updated`, `unchanged` or `deleted`.
    pub action: &'static str,
    /// The path.
    pub item: Text<'a>,
    /// Its exact bytes, when they are no UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub item_raw: Option<Raw<'a>>,
    /// Its size in bytes.
    pub size: u64,
}

/// What a restore did.
#[derive(Debug, Clone, Default, Serialize)]
pub struct RestoreSummary {
    /// Whole seconds it took.
    pub seconds_elapsed: u64,
    /// The counts.
    #[serde(flatten)]
    pub counts: RestoreCounts,
    /// Entries that could not be restored (ours).
    pub error_count: u64,
    /// Files of which the digest of the whole was not compared; else absent (ours).
    #[serde(skip_serializing_if = "is_zero")]
    pub files_not_compared: u64,
    /// Metadata that is not as in the snapshot, one element a cause (ours); absent when there is none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub metadata: Vec<RestoreMetadata>,
}

/// Metadata that could not be set, or reads back as something else (ours).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RestoreMetadata {
    /// What: "owner", "times".
    pub what: String,
    /// Why.
    pub reason: String,
    /// It is what an ordinary user may not set, which is no error.
    pub note: bool,
    /// On how many entries.
    pub count: u64,
    /// One of them.
    pub example: String,
}

/// A line of `check`.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "message_type", rename_all = "snake_case")]
pub enum CheckMessage<'a> {
    /// Something is wrong; written on the standard error.
    Error {
        /// The sentence.
        message: &'a str,
    },
    /// The last line.
    Summary(CheckSummary),
}

/// What a check found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CheckSummary {
    /// Number of findings.
    pub num_errors: u64,
    /// Damaged or missing packs.
    pub broken_packs: Vec<String>,
    /// `repair index` would help.
    pub suggest_repair_index: bool,
    /// `prune` would help.
    pub suggest_prune: bool,
    /// `repair packs` would help.
    pub suggest_repair_packs: bool,
    /// `repair snapshots` would help.
    pub suggest_repair_snapshots: bool,
    /// With contents: distinct files of several chunks whose digest was compared (ours).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digests_compared: Option<u64>,
    /// Those whose digest was not, because not all of their packs were read (ours).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digests_not_compared: Option<u64>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn is_false(value: &bool) -> bool {
    !*value
}

#[cfg(test)]
mod tests {
    use super::super::tests::json;
    use super::*;
    use crate::cli::about::About;
    use crate::tasks::failure::Kind;

    #[test]
    fn lines_have_restics_shape() {
        let error = Failure::new(Kind::NoRepository, "no repository at /x");
        assert_eq!(
            json(&ExitError::new(&error, Output::new(true, false, 0, About::NONE))),
            r#"{"message_type":"exit_error","code":10,"message":"no repository at /x"}"#
        );
        let status = BackupStatus { files_done: 1, current_files: vec![Text(b"/a")], ..BackupStatus::default() };
        assert_eq!(
            json(&BackupMessage::Status(status)),
            r#"{"message_type":"status","seconds_elapsed":0,"percent_done":0.0,"total_files":0,"files_done":1,"total_bytes":0,"bytes_done":0,"error_count":0,"current_files":["/a"]}"#
        );
        assert_eq!(
            json(&BackupMessage::Error(ItemError::new("no", "archival", b"/a\xff"))),
            "{\"message_type\":\"error\",\"error\":{\"message\":\"no\"},\"during\":\"archival\",\"item\":\"/a\u{fffd}\",\"item_raw\":\"2f61ff\"}"
        );
        let restored = RestoreSummary {
            seconds_elapsed: 2,
            counts: RestoreCounts { total_files: 3, files_restored: 3, ..RestoreCounts::default() },
            error_count: 0,
            files_not_compared: 0,
            metadata: Vec::new(),
        };
        assert_eq!(
            json(&RestoreMessage::Summary(restored)),
            r#"{"message_type":"summary","seconds_elapsed":2,"total_files":3,"files_restored":3,"files_skipped":0,"files_deleted":0,"total_bytes":0,"bytes_restored":0,"bytes_skipped":0,"error_count":0}"#
        );
        assert_eq!(
            json(&CheckMessage::Summary(CheckSummary::default())),
            r#"{"message_type":"summary","num_errors":0,"broken_packs":[],"suggest_repair_index":false,"suggest_prune":false,"suggest_repair_packs":false,"suggest_repair_snapshots":false}"#
        );
        assert_eq!(
            json(&Initialized::new("ab".to_owned(), b"/r")),
            r#"{"message_type":"initialized","id":"ab","repository":"/r"}"#
        );
    }
}
