//! `cat`: any stored object, decoded.

use std::ffi::OsString;

/// Kind of a stored object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// The repository's configuration
    Config,
    /// A head; without an id, the newest
    Head,
    /// A key slot
    Key,
    /// A snapshot
    Snapshot,
    /// A segment of the index
    #[value(alias = "index")]
    Segment,
    /// A pack's directory
    Pack,
    /// A directory's listing: SNAPSHOT:path, or the id of a chunk
    Tree,
    /// A chunk's bytes
    #[value(alias = "blob")]
    Chunk,
}

/// Show a stored object, decoded
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// What kind of object
    #[arg(value_name = "KIND", value_enum)]
    pub kind: Kind,
    /// Its id or the beginning of it; config needs none
    #[arg(value_name = "ID", required_if_eq_any = [
        ("kind", "key"), ("kind", "snapshot"), ("kind", "segment"), ("kind", "pack"), ("kind", "tree"), ("kind", "chunk")])]
    pub id: Option<OsString>,
}
