//! A snapshot of one stream: standard input, or what a command prints.

use std::io::Read;

use super::Stored;
use crate::base::time::Time;
use crate::codec::chunk_list::ChunkList;
use crate::codec::chunk_list::ChunkRef;
use crate::codec::chunker::Cutter;
use crate::codec::key_tree::ChunkKind;
use crate::codec::pack::PackKind;
use crate::codec::snapshot::{Counts, Summary};
use crate::codec::tree::{Content, Entry, Metadata, Node, is_name};
use crate::ops::{Error, Monitor, Result};
use crate::repository::list_writer::{ChunkListWriter, StreamWriter};
use crate::repository::run::Run;

/// Bytes that are asked for at once.
const READ_BYTES: usize = 1 << 20;

/// Stores the stream under `path` (absolute or not; its directories are made up).
pub(super) fn store(
    run: &mut Run<'_>,
    source: &mut dyn Read,
    path: &[u8],
    started: Time,
    monitor: &dyn Monitor,
) -> Result<Stored> {
    let names: Vec<&[u8]> = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()).collect();
    let Some((file, directories)) = names.split_last() else {
        return Err(Error::Invalid("the stream needs a file name: --stdin-filename NAME".to_owned()));
    };
    if let Some(wrong) = names.iter().find(|name| !is_name(name)) {
        return Err(crate::repository::error::invalid("not a file name", wrong).into());
    }
    let content = content(run, source, monitor)?;
    let size = content.size;
    let metadata = |mode| Metadata {
        mode,
        uid: rustix::process::getuid().as_raw(),
        gid: rustix::process::getgid().as_raw(),
        mtime: started,
        ctime: started,
        links: 1,
        ..Metadata::default()
    };
    let mut entry = Entry { name: file.to_vec(), metadata: metadata(0o644), node: Node::File(content) };
    for directory in directories.iter().rev() {
        let listing = listing(run, &entry)?;
        entry = Entry { name: directory.to_vec(), metadata: metadata(0o755), node: Node::Directory { listing } };
    }
    let root = listing(run, &entry)?;
    let directories = directories.len() as u64;
    Ok(Stored {
        root,
        counts: Counts { files: 1, directories, others: 0, bytes: size },
        summary: Summary { files_new: 1, dirs_new: directories, bytes_read: size, ..Summary::default() },
        ..Stored::default()
    })
}

fn listing(run: &mut Run<'_>, entry: &Entry) -> Result<ChunkList> {
    let mut writer = StreamWriter::default();
    writer.push_entry(run, entry)?;
    Ok(writer.finish(run)?)
}

fn content(run: &mut Run<'_>, source: &mut dyn Read, monitor: &dyn Monitor) -> Result<Content> {
    let repository = run.repository();
    let refuse = |error: crate::codec::Error| Error::Internal(error.to_string());
    let cutter = Cutter::new(repository.keys().gear(), repository.config().files).map_err(refuse)?;
    let mut digest = blake3::Hasher::new();
    let mut chunks = ChunkListWriter::default();
    let (mut buffer, mut start, mut size) = (Vec::new(), 0, 0_u64);
    loop {
        if monitor.interrupted() {
            return Err(Error::Interrupted);
        }
        buffer.drain(..start);
        start = 0;
        let filled = buffer.len();
        buffer.resize(filled + READ_BYTES, 0);
        let got = match source.read(&mut buffer[filled..]) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {
                buffer.truncate(filled);
                continue;
            }
            other => other.map_err(|source| Error::System { what: "reading the stream".to_owned(), source })?,
        };
        buffer.truncate(filled + got);
        size += got as u64;
        monitor.advance(0, got as u64);
        while let Some(length) = cutter.next(&buffer[start..], got == 0).filter(|length| *length > 0) {
            let chunk = &buffer[start..start + length];
            digest.update(chunk);
            let id = repository.keys().chunk_id(ChunkKind::Data, chunk);
            run.add(PackKind::Data, id, chunk)?;
            chunks.push(ChunkRef { id, length: length as u32 }, run)?;
            start += length;
        }
        if got == 0 {
            break;
        }
    }
    monitor.advance(1, 0);
    let mut content = Content { size, chunks: chunks.finish(run)?, holes: Vec::new(), digest: None };
    if content.needs_digest() {
        content.digest = Some(Content::digest_of(digest, &content.holes));
    }
    Ok(content)
}
