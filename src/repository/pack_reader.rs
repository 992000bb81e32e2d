//! Reading packs whole: for a check, for rebuilding the index, and for taking over the packs of a run that was killed. A
//! pack of the last kind is checked in full before anything relies on it.

use super::Repository;
use super::error::{Error, Result, damaged};
use crate::base::id::ObjectId;
use crate::codec::block_verifier::BlockVerifier;
use crate::codec::pack::{self, PackDirectory, PackKind};
use crate::codec::segment::SegmentPack;
use crate::codec::{self, Reason, unit};
use crate::storage::ObjectName;

/// Reads one pack whole and checks its name, header, footer, directory and padding.
///
/// # Errors
/// [`Error::Damaged`] with the first check that failed.
pub fn read_whole(repository: &Repository, id: ObjectId, length: u64) -> Result<(SegmentPack, Vec<u8>)> {
    let name = ObjectName::Pack(id);
    let refuse = damaged(name);
    if length > pack::LENGTH_MAX {
        return Err(refuse(codec::Error::new("pack", Reason::OutOfRange { field: "pack length" })));
    }
    let bytes = repository.storage().read(&name, length)?;
    if ObjectId::of(&bytes) != id {
        return Err(refuse(codec::Error::new("pack", Reason::ObjectId)));
    }
    let (kind, directory, prefix) = open_directory(repository, &bytes).map_err(&refuse)?;
    Ok((SegmentPack { id, length: bytes.len() as u64, kind, directory, directory_prefix: prefix }, bytes))
}

fn open_directory(
    repository: &Repository,
    bytes: &[u8],
) -> codec::Result<(PackKind, PackDirectory, [u8; unit::PREFIX_BYTES])> {
    let truncated = || codec::Error::new("pack", Reason::Truncated);
    let header = bytes.get(..pack::HEADER_BYTES).ok_or_else(truncated)?;
    let kind = pack::parse_header(header, repository.id())?;
    let footer = bytes.len().checked_sub(pack::FOOTER_BYTES).and_then(|at| bytes.get(at..)).ok_or_else(truncated)?;
    let footer = pack::parse_footer(footer, bytes.len() as u64)?;
    let start = usize::try_from(footer.directory_offset).map_err(|_| truncated())?;
    let length = footer.directory_length as usize;
    let mut sealed = bytes.get(start..).and_then(|rest| rest.get(..length)).ok_or_else(truncated)?.to_vec();
    let mut prefix = [0; unit::PREFIX_BYTES];
    prefix.copy_from_slice(sealed.get(..unit::PREFIX_BYTES).ok_or_else(truncated)?);
    let directory = pack::open_directory(repository.keys(), kind, &footer, &mut sealed)?;
    let padding = bytes.get(start + length..bytes.len() - pack::FOOTER_BYTES).ok_or_else(truncated)?;
    pack::check_padding(&footer, padding)?;
    Ok((kind, directory, prefix))
}

/// Reads what a pack says about itself, its header and what stands behind its blocks, and leaves the blocks unread.
///
/// # Errors
/// [`Error::Damaged`] with the first check that failed.
pub fn read_directory(repository: &Repository, id: ObjectId, length: u64) -> Result<SegmentPack> {
    let name = ObjectName::Pack(id);
    let refuse = damaged(name);
    let storage = repository.storage();
    let truncated = || codec::Error::new("pack", Reason::Truncated);
    let footer_bytes = pack::FOOTER_BYTES as u64;
    if length > pack::LENGTH_MAX {
        return Err(refuse(codec::Error::new("pack", Reason::OutOfRange { field: "pack length" })));
    }
    let footer_at = length.checked_sub(footer_bytes).filter(|at| *at >= pack::HEADER_BYTES as u64);
    let footer_at = footer_at.ok_or_else(|| refuse(truncated()))?;
    let header = storage.read_range(&name, 0, pack::HEADER_BYTES as u64)?;
    let kind = pack::parse_header(&header, repository.id()).map_err(&refuse)?;
    let footer = pack::parse_footer(&storage.read_range(&name, footer_at, footer_bytes)?, length).map_err(&refuse)?;
    let behind = footer_at.checked_sub(footer.directory_offset).ok_or_else(|| refuse(truncated()))?;
    let mut sealed = storage.read_range(&name, footer.directory_offset, behind)?;
    let mut open = || {
        let (sealed, padding) = sealed.split_at_mut_checked(footer.directory_length as usize).ok_or_else(truncated)?;
        pack::check_padding(&footer, padding)?;
        let prefix = *sealed.first_chunk().ok_or_else(truncated)?;
        Ok((prefix, pack::open_directory(repository.keys(), kind, &footer, sealed)?))
    };
    let (directory_prefix, directory) = open().map_err(&refuse)?;
    Ok(SegmentPack { id, length, kind, directory, directory_prefix })
}

/// Opens every block of a pack that was read whole and hashes every chunk.
///
/// # Errors
/// The number of the first block that is damaged, and why.
pub fn verify_blocks(
    repository: &Repository,
    pack: &SegmentPack,
    bytes: &[u8],
) -> std::result::Result<(), (usize, codec::Error)> {
    let mut verifier = BlockVerifier::new().map_err(|error| (0, error))?;
    let mut at = pack::HEADER_BYTES;
    for (number, record) in pack.directory.blocks.iter().enumerate() {
        let truncated = || (number, codec::Error::new("pack", Reason::Truncated));
        let length = record.stored_length as usize;
        let sealed = bytes.get(at..).and_then(|rest| rest.get(..length)).ok_or_else(truncated)?;
        at += length;
        verifier.verify(repository.keys(), pack.kind, record, sealed).map_err(|error| (number, error))?;
    }
    Ok(())
}

/// The full check of a pack that no segment lists.
///
/// # Errors
/// [`Error::Damaged`] with the first check that failed.
pub fn examine(repository: &Repository, id: ObjectId, length: u64) -> Result<SegmentPack> {
    let (pack, bytes) = read_whole(repository, id, length)?;
    verify_blocks(repository, &pack, &bytes)
        .map_err(|(_, error)| Error::Damaged { object: ObjectName::Pack(id), error })?;
    Ok(pack)
}
