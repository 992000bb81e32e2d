//! `cat`: any stored object, decoded.

use super::exit::Exit;
use super::fields::{Fields, Value};
use super::{Context, entry, snapshot_json};
use crate::base::escape::Escaped;
use crate::base::hex::hex;
use crate::base::id::{ObjectId, RepositoryId};
use crate::base::time::Time;
use crate::codec::chunk_list::{ChunkList, ChunkRef};
use crate::codec::config::Config;
use crate::codec::head::HeadRef;
use crate::codec::kdf::Params;
use crate::codec::live_state::{Mark, MarkedKind, SnapshotEntry, Sweep};
use crate::codec::pack::{Block, PackKind};
use crate::codec::segment::SegmentPack;
use crate::codec::tree::{Hole, Node, Xattr};
use crate::codec::unit::Codec;
use crate::ops::cat::{OpenedChunk, OpenedHead};
use crate::ops::select::Chosen;
use crate::ops::tree_walk::Visited;
use crate::repository::keyring::SlotInfo;
use crate::tasks::cat::{self, Opened, Request};
use crate::tasks::failure::Failure;
use crate::text::{clock, file_mode};
use clap::ValueEnum;
use jiff::tz::TimeZone;
use serde::Serialize;
use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::PathBuf;

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

impl Arguments {
    fn request(&self) -> Request {
        let kind = match self.kind {
            Kind::Config => cat::Kind::Config,
            Kind::Head => cat::Kind::Head,
            Kind::Key => cat::Kind::Key,
            Kind::Snapshot => cat::Kind::Snapshot,
            Kind::Segment => cat::Kind::Segment,
            Kind::Pack => cat::Kind::Pack,
            Kind::Tree => cat::Kind::Tree,
            Kind::Chunk => cat::Kind::Chunk,
        };
        Request { kind, id: self.id.as_ref().map(PathBuf::from) }
    }
}

/// Runs the command.
///
/// # Errors
/// A failure when the object is not there or the id stands for several; [`Exit::Damage`] when it cannot be read.
pub fn run(arguments: &Arguments, context: &mut Context) -> Result<Exit, Failure> {
    let (zone, json) = (clock::local_zone(), context.output.json);
    let mut stream = context.output.stream();
    let mut show = |visited: Visited| {
        let fields = entry(&visited, &zone);
        if json { stream.json(&typed("node", fields)) } else { stream.line(fields.text()) }
    };
    let opened = cat::run(&arguments.request(), &context.environment, &context.watch(), &mut show)?;
    let fields = match &opened {
        Opened::Config(id, it) => config(*id, it, &zone),
        Opened::Head(it) => head(it, &zone),
        Opened::Key(it) => key(it, &zone),
        Opened::Segment { id, length, is_live, segment } => Fields::new()
            .with("segment", id.to_string())
            .with("length", *length)
            .with("live", *is_live)
            .with("packs", segment.packs.iter().map(pack).collect::<Value>()),
        Opened::Pack(it) => pack(it),
        Opened::Snapshot(it) => snapshot(it, &zone),
        Opened::Chunk(opened) if !json => {
            if std::io::stdout().is_terminal() {
                stream.line(Escaped(&opened.bytes))?;
            } else {
                stream.bytes(&opened.bytes)?;
            }
            stream.finish()?;
            return Ok(Exit::Success);
        }
        Opened::Chunk(it) => chunk(it),
        Opened::Tree => {
            stream.finish()?;
            return Ok(Exit::Success);
        }
    };
    stream.finish()?;
    if json {
        let kind = arguments.kind.to_possible_value().map(|kind| kind.get_name().to_owned());
        context.output.json(&typed(&kind.unwrap_or_default(), fields))?;
    } else {
        context.output.text(&fields.text())?;
    }
    Ok(Exit::Success)
}

/// A value with its type before it.
#[derive(Debug, Serialize)]
struct Typed {
    message_type: String,
    #[serde(flatten)]
    fields: Fields,
}

fn typed(kind: &str, fields: Fields) -> Typed {
    Typed { message_type: kind.to_owned(), fields }
}

fn config(id: RepositoryId, config: &Config, zone: &TimeZone) -> Fields {
    let features = &config.features;
    Fields::new()
        .with("repository", id.to_string())
        .with("version", u64::from(crate::codec::VERSION))
        .with("suite", u64::from(config.suite))
        .with(
            "chunker",
            Fields::new()
                .with("min", config.files.min)
                .with("average", config.files.average)
                .with("max", config.files.max),
        )
        .with("verifying_key", hex(&config.verifying_key))
        .with(
            "features",
            Fields::new().with("read", features.read).with("write", features.write).with("move", features.move_),
        )
        .with("created", clock::rfc3339(config.created, zone))
}

fn reference(head: HeadRef) -> Fields {
    Fields::new().with("generation", head.generation).with("id", head.id.to_string())
}

fn head(opened: &OpenedHead, zone: &TimeZone) -> Fields {
    let head = &opened.head;
    let fields = Fields::new()
        .with("generation", head.generation())
        .with("id", head.reference().id.to_string())
        .maybe("previous", head.previous().map(reference))
        .with("time", clock::rfc3339(head.time(), zone))
        .with("is_checkpoint", head.is_checkpoint())
        .with("checkpoint", reference(head.checkpoint()))
        .with("digest", hex(head.digest()));
    let Some(state) = &opened.state else {
        return fields.with("state", "unknown: the checkpoint that this head builds on is gone");
    };
    let segment = |(id, length): (&ObjectId, &u64)| Fields::new().with("id", id.to_string()).with("length", *length);
    let live = |(id, entry): (&ObjectId, &SnapshotEntry)| {
        Fields::new().with("id", id.to_string()).with("length", entry.length).with("arrival", entry.arrival)
    };
    let marked = |(id, mark): (&ObjectId, &Mark)| {
        let time = clock::rfc3339(Time::from_seconds(mark.time), zone);
        let fields = Fields::new().with("id", id.to_string()).with("kind", marked_kind(mark.kind));
        let fields = fields.with("since", mark.since).with("time", time).with("replaced", mark.replaced);
        if mark.arrival == 0 { fields } else { fields.with("arrival", mark.arrival) }
    };
    let swept = |(id, sweep): (&ObjectId, &Sweep)| {
        let since = clock::rfc3339(Time::from_seconds(sweep.since), zone);
        Fields::new().with("id", id.to_string()).with("kind", marked_kind(sweep.kind)).with("since", since)
    };
    fields
        .with("keys", state.slots.iter().map(ObjectId::to_string).collect::<Value>())
        .with("segments", state.segments.iter().map(segment).collect::<Value>())
        .with("snapshots", state.snapshots.iter().map(live).collect::<Value>())
        .with("marked", state.marked.iter().map(marked).collect::<Value>())
        .with("swept", state.swept.iter().map(swept).collect::<Value>())
}

const fn marked_kind(kind: MarkedKind) -> &'static str {
    match kind {
        MarkedKind::Slot => "key",
        MarkedKind::Pack => "pack",
        MarkedKind::Segment => "segment",
        MarkedKind::Snapshot => "snapshot",
    }
}

fn key(slot: &SlotInfo, zone: &TimeZone) -> Fields {
    let fields = Fields::new().with("key", slot.id.to_string()).with("current", slot.current);
    if let Some(damage) = &slot.damage {
        return fields.with("damaged", damage.as_str());
    }
    let kdf = |kdf: Params| {
        Fields::new()
            .with("name", "argon2id")
            .with("memory_kib", kdf.memory_kib)
            .with("passes", kdf.passes)
            .with("lanes", kdf.lanes)
    };
    fields
        .with("type", slot.kind.describe())
        .with("label", slot.label.as_str())
        .with("created", clock::rfc3339(slot.created, zone))
        .maybe("kdf", slot.kdf.map(kdf))
}

const fn pack_kind(kind: PackKind) -> &'static str {
    match kind {
        PackKind::Data => "data",
        PackKind::Tree => "tree",
    }
}

fn codec(codec: Codec) -> &'static str {
    match codec {
        Codec::Stored => "stored",
        Codec::Zstd => "zstd",
    }
}

fn references(chunks: &[ChunkRef]) -> Value {
    let one = |chunk: &ChunkRef| Fields::new().with("id", chunk.id.to_string()).with("length", chunk.length);
    chunks.iter().map(one).collect()
}

fn list(list: &ChunkList) -> Fields {
    Fields::new().with("depth", u64::from(list.depth)).with("chunks", references(&list.chunks))
}

fn pack(pack: &SegmentPack) -> Fields {
    let block = |(offset, block): (u64, &Block)| {
        Fields::new()
            .with("offset", offset)
            .with("stored_length", block.stored_length)
            .with("plain_length", block.plain_length)
            .with("codec", codec(block.codec))
            .with("chunks", references(&block.chunks))
    };
    Fields::new()
        .with("pack", pack.id.to_string())
        .with("length", pack.length)
        .with("kind", pack_kind(pack.kind))
        .with("blocks", pack.directory.placed().map(block).collect::<Value>())
}

fn snapshot(chosen: &Chosen, zone: &TimeZone) -> Fields {
    let Chosen { id, snapshot } = chosen;
    let (counts, summary) = (&snapshot.counts, &snapshot.summary);
    let texts = |texts: &[String]| texts.iter().map(String::as_str).collect::<Value>();
    Fields::new()
        .with("snapshot", id.to_string())
        .with("time", clock::rfc3339(snapshot.time, zone))
        .with("written", clock::rfc3339(snapshot.written, zone))
        .with("hostname", snapshot.host.as_str())
        .with("username", snapshot.user.as_str())
        .with("paths", snapshot.paths.iter().map(|path| Fields::new().with("path", path.as_slice())).collect::<Value>())
        .with("label", snapshot.label.as_str())
        .with("tags", texts(&snapshot.tags))
        .with("held", snapshot.held)
        .with("root", list(&snapshot.root))
        .maybe("parent", snapshot.parent.map(|id| id.to_string()))
        .maybe("original", snapshot.original.map(|id| id.to_string()))
        .with("outcome", snapshot_json::outcome(snapshot.outcome))
        .with("problems", list(&snapshot.problems))
        .with("problem_count", snapshot.problem_count)
        .with("deleted", list(&snapshot.deleted))
        .with("deleted_count", snapshot.deleted_count)
        .with(
            "counts",
            Fields::new()
                .with("files", counts.files)
                .with("directories", counts.directories)
                .with("others", counts.others)
                .with("bytes", counts.bytes),
        )
        .with(
            "summary",
            Fields::new()
                .with("files_new", summary.files_new)
                .with("files_changed", summary.files_changed)
                .with("files_unmodified", summary.files_unmodified)
                .with("dirs_new", summary.dirs_new)
                .with("dirs_changed", summary.dirs_changed)
                .with("dirs_unmodified", summary.dirs_unmodified)
                .with("data_chunks", summary.data_chunks)
                .with("tree_chunks", summary.tree_chunks)
                .with("data_added", summary.data_added)
                .with("data_stored", summary.data_stored)
                .with("bytes_read", summary.bytes_read)
                .with("duration_nanoseconds", summary.duration_nanoseconds),
        )
        .with("options", texts(&snapshot.options))
        .with("program", snapshot.program.as_str())
}

fn entry(visited: &Visited, zone: &TimeZone) -> Fields {
    let Visited { entry, .. } = visited;
    let metadata = &entry.metadata;
    let st_mode = entry::st_mode(entry);
    let fields = Fields::new()
        .with("name", entry.name.as_slice())
        .with("type", file_mode::type_name(st_mode))
        .with("mode", format!("{:04o}", metadata.mode))
        .with("uid", metadata.uid)
        .with("gid", metadata.gid)
        .with("user", metadata.user.as_slice())
        .with("group", metadata.group.as_slice())
        .with("mtime", clock::rfc3339(metadata.mtime, zone))
        .with("ctime", clock::rfc3339(metadata.ctime, zone))
        .maybe("btime", metadata.btime.map(|time| clock::rfc3339(time, zone)))
        .with("device", metadata.device)
        .with("inode", metadata.inode)
        .with("links", metadata.links)
        .with("flags", metadata.flags);
    let xattr = |xattr: &Xattr| Fields::new().with("name", xattr.name.as_slice()).with("value_hex", hex(&xattr.value));
    let fields = match metadata.xattrs.as_slice() {
        [] => fields,
        xattrs => fields.with("xattrs", xattrs.iter().map(xattr).collect::<Value>()),
    };
    match &entry.node {
        Node::File(content) => {
            let hole = |hole: &Hole| Fields::new().with("offset", hole.offset).with("length", hole.length);
            let fields = fields.with("size", content.size).with("content", list(&content.chunks));
            let fields = match content.holes.as_slice() {
                [] => fields,
                holes => fields.with("holes", holes.iter().map(hole).collect::<Value>()),
            };
            fields.maybe("digest", content.digest.map(|digest| hex(&digest)))
        }
        Node::Directory { listing } => fields.with("listing", list(listing)),
        Node::Symlink { target } => fields.with("target", target.as_slice()),
        Node::CharacterDevice { major, minor } | Node::BlockDevice { major, minor } => {
            fields.with("major", *major).with("minor", *minor)
        }
        Node::Fifo | Node::Socket => fields,
    }
}

fn chunk(opened: &OpenedChunk) -> Fields {
    let place = &opened.place;
    Fields::new()
        .with("id", opened.id.to_string())
        .with("kind", pack_kind(opened.kind))
        .with("length", place.length)
        .with("pack", place.pack.to_string())
        .with("block", u64::from(place.block))
        .with("block_offset", place.at.offset)
        .with("offset", place.offset)
        .with("bytes_hex", hex(&opened.bytes))
}
