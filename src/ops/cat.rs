//! Any stored object, found by the beginning of its id and opened. No secret is in what comes back.

use super::select::{self, Filter, SnapshotArgument, SnapshotRef};
use super::tree_walk::Visited;
use super::{Error, Result};
use crate::base::command::suggest;
use crate::base::escape::escape;
use crate::base::id::{ChunkId, ObjectId};
use crate::codec::head::{Head, HeadRef};
use crate::codec::live_state::LiveState;
use crate::codec::pack::PackKind;
use crate::codec::segment::{Segment, SegmentPack};
use crate::codec::tree::EntryReader;
use crate::repository::blocks::Chunk;
use crate::repository::index::{self, Place};
use crate::repository::keyring::SlotInfo;
use crate::repository::list_reader::Listing;
use crate::repository::{self, Repository, chain, pack_reader};
use crate::storage::{Folder, ObjectName};

/// Hex digits as ids have them: anything else names nothing.
fn digits(text: &str) -> Result<String> {
    if (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(text.to_ascii_lowercase());
    }
    Err(Error::Invalid(format!("\"{}\" is no id: expected 1 to 64 hex digits", escape(text.as_bytes()))))
}

fn by_id(ids: &[ObjectId], text: &str, kind: &str, next: &str) -> Result<ObjectId> {
    select::by_beginning(ids.iter(), &digits(text)?, kind, next, |id| id.to_string())
}

fn listed(repository: &Repository, folder: Folder) -> Result<Vec<(ObjectName, u64)>> {
    let listed = repository.storage().list(folder).map_err(repository::Error::from)?;
    Ok(listed.into_iter().map(|listed| (listed.name, listed.length)).collect())
}

/// Finds an object of a folder; it need not be live.
fn find(repository: &Repository, folder: Folder, text: &str, kind: &str) -> Result<(ObjectName, ObjectId, u64)> {
    let all = listed(repository, folder)?;
    let ids: Vec<ObjectId> = all.iter().filter_map(|(name, _)| name.id()).collect();
    let next = format!("The files under {}/ of the repository are named by their ids", folder.as_str());
    let id = by_id(&ids, text, kind, &next)?;
    let found = all.into_iter().find(|(name, _)| name.id() == Some(id));
    found.map(|(name, length)| (name, id, length)).ok_or_else(|| Error::NotFound(format!("no {kind} {text}")))
}

/// A head and what it says is live.
#[derive(Debug)]
pub struct OpenedHead {
    /// The head.
    pub head: Head,
    /// What is live, when the checkpoint that it builds on is still there.
    pub state: Option<LiveState>,
}

/// The head of a generation, or of an id; the newest one without either.
///
/// # Errors
/// [`Error::NotFound`] when there is none, the damage when it cannot be read.
pub fn head(repository: &Repository, text: Option<&str>) -> Result<OpenedHead> {
    let Some(text) = text else {
        let tip = repository.tip();
        return Ok(OpenedHead { head: Head::clone(&tip.head), state: Some(LiveState::clone(&tip.state)) });
    };
    let all = listed(repository, Folder::Heads)?;
    let of_generation = |wanted: u64| {
        let of = |(name, _): &&(ObjectName, u64)| matches!(name, ObjectName::Head { generation, .. } if *generation == wanted);
        all.iter().find(of).map(|(name, _)| *name)
    };
    let name = match text.parse().ok().and_then(of_generation) {
        Some(name) => name,
        None => find(repository, Folder::Heads, text, "head")?.0,
    };
    let head = read_head(repository, name)?;
    let state = if head.is_checkpoint() {
        head.resolve(None).ok()
    } else {
        let checkpoint = head.checkpoint();
        let name = ObjectName::Head { generation: checkpoint.generation, id: checkpoint.id };
        read_head(repository, name).ok().and_then(|checkpoint| head.resolve(Some(&checkpoint)).ok())
    };
    Ok(OpenedHead { head, state })
}

fn read_head(repository: &Repository, name: ObjectName) -> Result<Head> {
    let bytes = repository.storage().read(&name, chain::HEAD_BYTES_MAX).map_err(repository::Error::from)?;
    let refuse = |error| Error::Repository(repository::Error::Damaged { object: name, error });
    let head = Head::parse(&bytes, &repository.config().verifying_key, repository.id()).map_err(refuse)?;
    let HeadRef { id, .. } = head.reference();
    if Some(id) != name.id() {
        return Err(refuse(crate::codec::Error::new("head", crate::codec::Reason::ObjectId)));
    }
    Ok(head)
}

/// A live key slot.
///
/// # Errors
/// [`Error::NotFound`] when there is none, [`Error::Invalid`] when there are several.
pub fn key(repository: &Repository, text: &str) -> Result<SlotInfo> {
    let slots = repository.slots();
    let ids: Vec<ObjectId> = slots.iter().map(|slot| slot.id).collect();
    let next = concat!("To see them: ", suggest!("key list"));
    let id = by_id(&ids, text, "key", next)?;
    let slot = slots.into_iter().find(|slot| slot.id == id);
    slot.ok_or_else(|| Error::NotFound(format!("no key {text}. {next}")))
}

/// A segment, live or not.
///
/// # Errors
/// [`Error::NotFound`] when there is none; the damage.
pub fn segment(repository: &Repository, text: &str) -> Result<(ObjectId, u64, Segment)> {
    let (_, id, length) = find(repository, Folder::Index, text, "segment")?;
    let generation = repository.tip().reference().generation;
    let segment = index::read_segment(repository.storage(), repository.keys(), id, length, generation)?;
    Ok((id, length, segment))
}

/// A pack, live or not: its directory.
///
/// # Errors
/// [`Error::NotFound`] when there is none; the damage.
pub fn pack(repository: &Repository, text: &str) -> Result<SegmentPack> {
    let (_, id, length) = find(repository, Folder::Packs, text, "pack")?;
    Ok(pack_reader::read_whole(repository, id, length)?.0)
}

/// A chunk that was found.
#[derive(Debug)]
pub struct OpenedChunk {
    /// Its id.
    pub id: ChunkId,
    /// Content or listing.
    pub kind: PackKind,
    /// Where it lies.
    pub place: Place,
    /// Its bytes.
    pub bytes: Chunk,
}

/// A live chunk. Only a whole id is looked up at once; for the beginning of one all segments are read.
///
/// # Errors
/// [`Error::NotFound`] when there is none, [`Error::Invalid`] when there are several; the damage.
pub fn chunk(repository: &Repository, text: &str) -> Result<OpenedChunk> {
    let digits = digits(text)?;
    let id = match digits.parse::<ChunkId>() {
        Ok(id) => id,
        Err(_) => chunk_by_beginning(repository, &digits)?,
    };
    let tip = repository.tip();
    let index = repository.index();
    let missing = || repository::Error::ChunkMissing { chunk: id };
    let place = index.locate(&repository.sources(&tip), &id).ok_or_else(missing)?;
    let kind = index.packs().get(&place.pack).map(|pack| pack.kind).ok_or_else(missing)?;
    let reference = crate::codec::chunk_list::ChunkRef { id, length: place.length };
    let bytes = repository.chunk(kind, &reference)?;
    Ok(OpenedChunk { id, kind, place, bytes })
}

fn chunk_by_beginning(repository: &Repository, digits: &str) -> Result<ChunkId> {
    let tip = repository.tip();
    let mut found: Vec<ChunkId> = Vec::new();
    for (id, length) in &tip.state.segments {
        let generation = tip.reference().generation;
        let segment = index::read_segment(repository.storage(), repository.keys(), *id, *length, generation)?;
        let chunks = segment.packs.iter().flat_map(|pack| &pack.directory.blocks).flat_map(|block| &block.chunks);
        found.extend(chunks.map(|chunk| chunk.id).filter(|id| id.to_string().starts_with(digits)));
    }
    found.sort_unstable();
    found.dedup();
    let ids: Vec<ObjectId> = found.iter().map(|id| ObjectId(*id.as_bytes())).collect();
    let next =
        concat!("Chunks are named by: ", suggest!("cat segment ID"), "  and by: ", suggest!("cat tree SNAPSHOT:PATH"));
    let id = by_id(&ids, digits, "chunk", next)?;
    Ok(ChunkId(*id.as_bytes()))
}

/// The entries of one listing: of a directory named as `SNAPSHOT:path`, or of a chunk of listings.
///
/// # Errors
/// [`Error::NotFound`] when neither is there; the damage; what `show` returns.
pub fn tree<E: From<Error>>(
    repository: &Repository,
    argument: &SnapshotArgument,
    show: &mut dyn FnMut(Visited) -> std::result::Result<(), E>,
) -> std::result::Result<(), E> {
    let refused = match select::argument(repository, argument, &Filter::default()) {
        Ok((chosen, found)) => {
            let Some(listing) = found.listing() else {
                let path = escape(&found.path);
                let id = chosen.id.short();
                return Err(Error::Invalid(format!("{path} is no directory in snapshot {id}")).into());
            };
            for entry in Listing::new(repository, listing.clone()) {
                let entry = entry.map_err(|source| Error::at(&found.path, source))?;
                let path = [found.prefix(), b"/", &entry.name].concat();
                show(Visited { path, entry })?;
            }
            return Ok(());
        }
        Err(error) => error,
    };
    let SnapshotArgument { snapshot: SnapshotRef::Prefix(digits), path: None } = argument else {
        return Err(refused.into());
    };
    if !refused.is_unmet() {
        return Err(refused.into());
    }
    let Ok(opened) = chunk(repository, digits) else { return Err(refused.into()) };
    if opened.kind != PackKind::Tree {
        return Err(Error::Invalid(format!("chunk {} is content, no listing", opened.id.short())).into());
    }
    let mut reader = EntryReader::new();
    reader.push(&opened.bytes);
    let refuse = |error| Error::Repository(repository::Error::Stream { error });
    while let Some(entry) = reader.next().map_err(refuse)? {
        show(Visited { path: entry.name.clone(), entry })?;
    }
    Ok(())
}
