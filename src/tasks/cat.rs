//! Open any stored object, found by the beginning of its id. No secret is in what comes back.

use super::environment::{Environment, repositories};
use super::failure::Failure;
use super::report_warnings;
use crate::base::id::{ObjectId, RepositoryId};
use crate::codec::config::Config;
use crate::codec::segment::{Segment, SegmentPack};
use crate::ops::Monitor;
use crate::ops::cat::{self, OpenedChunk, OpenedHead};
use crate::ops::select::{self, Chosen, Filter, SnapshotArgument};
use crate::ops::tree_walk::Visited;
use crate::repository::keyring::SlotInfo;
use serde::Deserialize;
use std::path::PathBuf;

/// Kind of a stored object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The repository's configuration.
    Config,
    /// A head; without an id, the newest.
    Head,
    /// A key slot.
    Key,
    /// A snapshot.
    Snapshot,
    /// A segment of the index.
    Segment,
    /// A pack's directory.
    Pack,
    /// A directory's listing: `SNAPSHOT:path`, or the id of a chunk.
    Tree,
    /// A chunk's bytes.
    Chunk,
}

/// Which object.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Request {
    /// What kind of object.
    pub kind: Kind,
    /// Its id, or the beginning of it. The configuration needs none.
    #[serde(default)]
    pub id: Option<PathBuf>,
}

/// An object that was found.
#[derive(Debug)]
pub enum Opened {
    /// The configuration of the repository with this id.
    Config(RepositoryId, Box<Config>),
    /// A head.
    Head(Box<OpenedHead>),
    /// A key slot.
    Key(SlotInfo),
    /// A snapshot.
    Snapshot(Box<Chosen>),
    /// A segment.
    Segment {
        /// Its id.
        id: ObjectId,
        /// Bytes of the object.
        length: u64,
        /// The newest head names it.
        is_live: bool,
        /// What it says.
        segment: Segment,
    },
    /// A pack.
    Pack(SegmentPack),
    /// A listing, all entries of which were handed over.
    Tree,
    /// A chunk.
    Chunk(OpenedChunk),
}

/// Finds the object and opens it. The entries of a listing are handed to `show`, one by one.
///
/// # Errors
/// When the object is not there or the id stands for several; when it cannot be read; what `show` returns.
pub fn run(
    request: &Request,
    environment: &Environment,
    monitor: &dyn Monitor,
    show: &mut dyn FnMut(Visited) -> Result<(), Failure>,
) -> Result<Opened, Failure> {
    let text = request.id.as_ref().map(|id| id.to_string_lossy().into_owned());
    let id = || text.clone().ok_or_else(|| Failure::usage("cat needs an id here, after the kind"));
    let repository = repositories::open_repository(environment, monitor, "cat")?;
    let opened = match request.kind {
        Kind::Config => Opened::Config(repository.id(), Box::new(repository.config().clone())),
        Kind::Head => Opened::Head(Box::new(cat::head(&repository, text.as_deref())?)),
        Kind::Key => Opened::Key(cat::key(&repository, &id()?)?),
        Kind::Segment => {
            let (id, length, segment) = cat::segment(&repository, &id()?)?;
            let is_live = repository.tip().state.segments.contains_key(&id);
            Opened::Segment { id, length, is_live, segment }
        }
        Kind::Pack => Opened::Pack(cat::pack(&repository, &id()?)?),
        Kind::Snapshot => {
            let name = id()?.parse().map_err(Failure::usage)?;
            Opened::Snapshot(Box::new(select::one(&repository, &name, &Filter::default())?))
        }
        Kind::Tree => {
            let argument = request.id.clone().unwrap_or_default().into_os_string();
            let argument = SnapshotArgument::parse(argument).map_err(Failure::usage)?;
            cat::tree(&repository, &argument, show)?;
            Opened::Tree
        }
        Kind::Chunk => Opened::Chunk(cat::chunk(&repository, &id()?)?),
    };
    report_warnings(&repository, monitor);
    Ok(opened)
}
