//! Packs: immutable objects of blocks, with a sealed directory of what is in them. format-spec/pack.md.
//!
//!     header 48 | block ... | directory unit | padding | footer 32
//!
//! A pack is written from front to back and read from its end: footer, directory, then any block. Where a block begins
//! stands nowhere in clear. Header and footer are part of the directory unit's key derivation, so a changed bit in
//! either fails at the directory's commitment if no check before it sees it.

use bincode::{Decode, Encode};

use super::block::{self, PLAIN_MAX};
use super::chunk_list::ChunkRef;
use super::compress::Decompressor;
use super::key_tree::{ChunkKind, DOMAIN, KeyTree};
use super::padding::padded_length;
use super::unit::{self, Codec, Context, OVERHEAD_BYTES, PREFIX_BYTES, UnitKind};
use super::wire::{MAGIC, Reader, Writer};
use super::{Error, ObjectKind, Reason, Result, SUITE, body};
use crate::base::id::RepositoryId;

/// Bytes before the first block, in key mode 1.
pub const HEADER_BYTES: usize = 48;
/// Bytes behind the padding.
pub const FOOTER_BYTES: usize = 32;
/// Key mode 1: units are sealed under keys from the key tree. Mode 2 is reserved for hosts that can only write.
pub const KEY_MODE: u8 = 1;

/// Longest pack, in bytes. format-spec/pack.md, "Limits".
pub const LENGTH_MAX: u64 = 256 << 20;
/// Most blocks of one pack.
pub const BLOCKS_MAX: usize = 65_535;
/// Most chunks of one pack: a segment takes no more.
pub const CHUNKS_MAX: usize = 1 << 18;
/// Longest encoded directory, in bytes; the longest possible is about 10 MiB.
pub const DIRECTORY_MAX: u32 = 16 << 20;
/// The shortest padded pack. An incremental run of one small file writes two packs.
pub const PADDED_MIN: u64 = 16 << 10;

/// Memory that decoding a directory may take, in bytes.
const LIMIT: usize = 32 << 20;
const STRUCTURE: &str = "pack";

fn refuse(reason: Reason) -> Error {
    Error::new(STRUCTURE, reason)
}

/// What a pack holds. The two kinds have different keys and chunk ids that never collide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PackKind {
    /// Chunks of files' contents.
    Data,
    /// Chunks of listings, long chunk lists and lists of problems.
    Tree,
}

impl PackKind {
    /// Both kinds.
    pub const ALL: [Self; 2] = [Self::Data, Self::Tree];

    /// The kind in the clear header.
    #[must_use]
    pub const fn object_kind(self) -> ObjectKind {
        match self {
            Self::Data => ObjectKind::DataPack,
            Self::Tree => ObjectKind::TreePack,
        }
    }

    /// The pack kind of an object kind's number, if it is one.
    #[must_use]
    pub const fn from_byte(kind: u8) -> Option<Self> {
        if kind == ObjectKind::DataPack as u8 {
            Some(Self::Data)
        } else if kind == ObjectKind::TreePack as u8 {
            Some(Self::Tree)
        } else {
            None
        }
    }

    /// The unit kind of its blocks.
    #[must_use]
    pub const fn block_unit(self) -> UnitKind {
        match self {
            Self::Data => UnitKind::DataBlock,
            Self::Tree => UnitKind::TreeBlock,
        }
    }

    /// The unit kind of its directory.
    #[must_use]
    pub const fn directory_unit(self) -> UnitKind {
        match self {
            Self::Data => UnitKind::DataDirectory,
            Self::Tree => UnitKind::TreeDirectory,
        }
    }

    /// The space of its chunks' ids.
    #[must_use]
    pub const fn chunk_kind(self) -> ChunkKind {
        match self {
            Self::Data => ChunkKind::Data,
            Self::Tree => ChunkKind::Tree,
        }
    }

    /// Plain bytes at which the assembler closes a block: 2 MiB for data, 256 KiB for trees, because a reader of one
    /// directory decodes the whole block.
    #[must_use]
    pub const fn block_target(self) -> u32 {
        match self {
            Self::Data => 2 << 20,
            Self::Tree => 256 << 10,
        }
    }
}

/// A block as its pack's directory describes it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Block {
    /// How its content is packed.
    pub codec: Codec,
    /// Length of the whole unit in the pack, in bytes.
    pub stored_length: u32,
    /// Length of its chunks together, in bytes.
    pub plain_length: u32,
    /// Its chunks, in order, without gaps.
    pub chunks: Vec<ChunkRef>,
}

impl Block {
    fn check(&self) -> Result<()> {
        let out_of_range = |field| Err(refuse(Reason::OutOfRange { field }));
        if !(1..=PLAIN_MAX).contains(&self.plain_length) {
            return out_of_range("plain length of a block");
        }
        let content = self.stored_length.checked_sub(OVERHEAD_BYTES as u32);
        match (self.codec, content) {
            (Codec::Stored, Some(content)) if content == self.plain_length => {}
            (Codec::Zstd, Some(content)) if content > 0 && content < self.plain_length => {}
            _ => return out_of_range("stored length of a block"),
        }
        self.chunks.iter().try_for_each(ChunkRef::check)?;
        let sum: u64 = self.chunks.iter().map(|chunk| u64::from(chunk.length)).sum();
        if sum != u64::from(self.plain_length) {
            return Err(refuse(Reason::PlainLength));
        }
        Ok(())
    }
}

/// What a pack holds: its blocks in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PackDirectory {
    /// The blocks, in the order in which they stand in the pack, without gaps.
    pub blocks: Vec<Block>,
}

/// The directory as it is encoded.
#[derive(Encode, Decode)]
pub(super) struct DirectoryBody {
    /// Whose chunk ids these are; always [`DOMAIN`] in version 1.
    domain: u32,
    blocks: Vec<Block>,
}

impl From<PackDirectory> for DirectoryBody {
    fn from(directory: PackDirectory) -> Self {
        Self { domain: DOMAIN, blocks: directory.blocks }
    }
}

impl TryFrom<DirectoryBody> for PackDirectory {
    type Error = Error;

    fn try_from(body: DirectoryBody) -> Result<Self> {
        if body.domain != DOMAIN {
            return Err(refuse(Reason::OutOfRange { field: "dedup domain" }));
        }
        let directory = Self { blocks: body.blocks };
        directory.check()?;
        Ok(directory)
    }
}

impl PackDirectory {
    /// The blocks with the offsets at which they begin in the pack, in bytes.
    pub fn placed(&self) -> impl Iterator<Item = (u64, &Block)> {
        self.blocks.iter().scan(HEADER_BYTES as u64, |end, block| {
            let offset = *end;
            *end += u64::from(block.stored_length);
            Some((offset, block))
        })
    }

    /// Where block `index` begins in the pack, in bytes; `None` when there is no such block.
    #[must_use]
    pub fn block_offset(&self, index: usize) -> Option<u64> {
        self.placed().nth(index).map(|(offset, _)| offset)
    }

    /// Length of header and blocks together: where the directory unit begins, in bytes.
    #[must_use]
    pub fn body_length(&self) -> u64 {
        HEADER_BYTES as u64 + self.blocks.iter().map(|block| u64::from(block.stored_length)).sum::<u64>()
    }

    /// Number of chunks in all blocks.
    #[must_use]
    pub fn chunk_count(&self) -> usize {
        self.blocks.iter().map(|block| block.chunks.len()).sum()
    }

    /// A pack's length before padding is at most `body_length` and this, in bytes, when its directory describes so many
    /// blocks and chunks. A writer closes a pack before the next block would lift it over its wanted length.
    #[must_use]
    pub const fn room(blocks: usize, chunks: usize) -> u64 {
        // Domain 1, count 5; a block's codec 1, lengths 5 + 5, count 5; a chunk's id 32, length 5.
        (OVERHEAD_BYTES + FOOTER_BYTES) as u64 + 6 + 16 * blocks as u64 + 37 * chunks as u64
    }

    /// Refuses directories that no writer makes.
    ///
    /// # Errors
    /// [`Reason::OutOfRange`]; [`Reason::PlainLength`] when the chunks of a block do not add up to it.
    pub(super) fn check(&self) -> Result<()> {
        if self.blocks.is_empty() || self.blocks.len() > BLOCKS_MAX {
            return Err(refuse(Reason::OutOfRange { field: "number of blocks" }));
        }
        if self.chunk_count() > CHUNKS_MAX {
            return Err(refuse(Reason::OutOfRange { field: "number of chunks" }));
        }
        self.blocks.iter().try_for_each(Block::check)
    }
}

/// The first bytes of a pack of this repository.
#[must_use]
pub fn header(kind: PackKind, repository: RepositoryId) -> Vec<u8> {
    let mut header = Writer::with_header(kind.object_kind());
    header.u8(KEY_MODE).u8(SUITE).u16(0).zero(2).bytes(repository.as_bytes());
    header.finish()
}

/// Checks the first [`HEADER_BYTES`] bytes of a pack and says what it holds; more bytes may follow.
///
/// # Errors
/// In this order: [`Reason::Truncated`], [`Reason::WrongMagic`], [`Reason::UnknownVersion`], [`Reason::WrongKind`],
/// [`Reason::UnknownKeyMode`], [`Reason::UnknownSuite`], [`Reason::OutOfRange`] for a mode block in mode 1,
/// [`Reason::NonzeroReserved`], [`Reason::OtherRepository`].
pub fn parse_header(bytes: &[u8], repository: RepositoryId) -> Result<PackKind> {
    let header = bytes.get(..HEADER_BYTES).ok_or(refuse(Reason::Truncated))?;
    let mut reader = Reader::new(STRUCTURE, header);
    let kind = match reader.clear_header_of(&PackKind::ALL.map(PackKind::object_kind))? {
        ObjectKind::TreePack => PackKind::Tree,
        _ => PackKind::Data,
    };
    match reader.u8()? {
        KEY_MODE => {}
        mode => return Err(refuse(Reason::UnknownKeyMode { mode })),
    }
    match reader.u8()? {
        SUITE => {}
        suite => return Err(refuse(Reason::UnknownSuite { suite })),
    }
    if reader.u16()? != 0 {
        return Err(refuse(Reason::OutOfRange { field: "length of the mode block" }));
    }
    reader.zero(2)?;
    reader.repository(repository)?;
    reader.finish()?;
    Ok(kind)
}

/// What the last [`FOOTER_BYTES`] bytes of a pack say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Footer {
    /// Where the directory unit begins, in bytes: right behind the last block.
    pub directory_offset: u64,
    /// Length of the directory unit, in bytes.
    pub directory_length: u32,
    /// Length of the zeros between directory and footer, in bytes.
    pub padding_length: u32,
    /// Length of the encoded directory, in bytes.
    pub plain_length: u32,
    /// How the directory is packed.
    pub codec: Codec,
    /// Length of the pack, in bytes.
    pub total_length: u64,
}

impl Footer {
    fn to_bytes(self) -> Vec<u8> {
        let mut footer = Writer::new();
        footer.u32(self.directory_length).u32(self.plain_length).u32(self.padding_length);
        footer.u8(self.codec as u8).zero(3).u64(self.total_length).bytes(&MAGIC);
        footer.finish()
    }

    /// The clear bytes in the directory unit's key derivation: the pack's header and footer.
    fn clear(&self, kind: PackKind, repository: RepositoryId) -> Vec<u8> {
        [&header(kind, repository)[..], &self.to_bytes()].concat()
    }

    fn context<'a>(&self, kind: PackKind, clear: &'a [u8]) -> Context<'a> {
        Context { kind: kind.directory_unit(), codec: self.codec, plain_length: self.plain_length, clear }
    }
}

/// Reads a footer: the last [`FOOTER_BYTES`] bytes of a pack that is `total_length` bytes long.
///
/// # Errors
/// In this order: [`Reason::WrongLength`] for another number of bytes, [`Reason::WrongMagic`] (also when bytes follow the
/// pack's end), [`Reason::UnknownCodec`], [`Reason::NonzeroReserved`], [`Reason::WrongLength`] when the pack has another
/// length than it says, [`Reason::OutOfRange`] for lengths over a limit or that do not fit into it.
pub fn parse_footer(bytes: &[u8], total_length: u64) -> Result<Footer> {
    let mut reader = Reader::fixed(STRUCTURE, bytes, FOOTER_BYTES)?;
    if !bytes.ends_with(&MAGIC) {
        return Err(refuse(Reason::WrongMagic));
    }
    let (directory_length, plain_length, padding_length) = (reader.u32()?, reader.u32()?, reader.u32()?);
    let codec = Codec::try_from(reader.u8()?).map_err(refuse)?;
    reader.zero(3)?;
    let expected = reader.u64()?;
    if expected != total_length {
        return Err(refuse(Reason::WrongLength { expected, found: total_length }));
    }
    let out_of_range = |field| Err(refuse(Reason::OutOfRange { field }));
    if total_length > LENGTH_MAX {
        return out_of_range("length");
    }
    if plain_length > DIRECTORY_MAX || directory_length > DIRECTORY_MAX + OVERHEAD_BYTES as u32 {
        return out_of_range("length of the directory");
    }
    let behind = u64::from(directory_length) + u64::from(padding_length) + FOOTER_BYTES as u64;
    match total_length.checked_sub(behind) {
        Some(directory_offset) if directory_offset >= HEADER_BYTES as u64 => {
            Ok(Footer { directory_offset, directory_length, padding_length, plain_length, codec, total_length })
        }
        _ => out_of_range("length of directory and padding"),
    }
}

/// The end of a pack whose header and blocks are written: directory unit, padding and footer. `body_length` is the number
/// of bytes written so far; `random` is 32 fresh bytes.
///
/// # Errors
/// [`Reason::OutOfRange`] when the pack is over a limit or `body_length` is not what the directory says.
pub fn finish(
    keys: &KeyTree,
    kind: PackKind,
    directory: &PackDirectory,
    body_length: u64,
    random: &[u8; 32],
) -> Result<Vec<u8>> {
    let out_of_range = |field| refuse(Reason::OutOfRange { field });
    directory.check()?;
    if directory.body_length() != body_length {
        return Err(out_of_range("length of the blocks"));
    }
    let mut unit = vec![0; PREFIX_BYTES];
    body::encode_into(STRUCTURE, &DirectoryBody::from(directory.clone()), &mut unit)?;
    let plain_length = u32::try_from(unit.len() - PREFIX_BYTES).unwrap_or(u32::MAX);
    if plain_length > DIRECTORY_MAX {
        return Err(out_of_range("length of the directory"));
    }
    let directory_length = plain_length + OVERHEAD_BYTES as u32;
    let length = body_length + u64::from(directory_length) + FOOTER_BYTES as u64;
    let total_length = padded_length(length, PADDED_MIN);
    if total_length > LENGTH_MAX {
        return Err(out_of_range("length"));
    }
    let padding_length = u32::try_from(total_length - length).map_err(|_| out_of_range("padding"))?;
    let footer = Footer {
        directory_offset: body_length,
        directory_length,
        padding_length,
        plain_length,
        codec: Codec::Stored,
        total_length,
    };
    let clear = footer.clear(kind, keys.repository());
    unit::seal(keys, &footer.context(kind, &clear), random, &mut unit)?;
    unit.resize(unit.len() + padding_length as usize, 0);
    unit.extend_from_slice(&footer.to_bytes());
    Ok(unit)
}

/// Opens a pack's directory in place: the `directory_length` bytes at `directory_offset`.
///
/// # Errors
/// [`Reason::WrongLength`] for another number of bytes; what [`unit::open`] refuses, [`Reason::Commitment`] for any changed
/// bit of header and footer among it; what [`body::decode`] refuses; [`Reason::OutOfRange`] when the blocks do not end
/// where the directory begins, or the directory breaks a limit.
pub fn open_directory(keys: &KeyTree, kind: PackKind, footer: &Footer, unit: &mut [u8]) -> Result<PackDirectory> {
    let (expected, found) = (u64::from(footer.directory_length), unit.len() as u64);
    if expected != found {
        return Err(refuse(Reason::WrongLength { expected, found }));
    }
    let clear = footer.clear(kind, keys.repository());
    let content = unit::open(keys, &footer.context(kind, &clear), unit)?;
    let plain = Decompressor::new()?.decompress(footer.codec, content, footer.plain_length)?;
    let directory = PackDirectory::try_from(body::decode::<DirectoryBody, LIMIT>(STRUCTURE, &plain)?)?;
    if directory.body_length() != footer.directory_offset {
        return Err(refuse(Reason::OutOfRange { field: "length of the blocks" }));
    }
    Ok(directory)
}

/// Checks the padding of a pack: zeros, as many as its length asks for. A reader need not; a full check does.
///
/// # Errors
/// [`Reason::WrongLength`], [`Reason::NonzeroReserved`], [`Reason::OutOfRange`] when another length was due.
pub fn check_padding(footer: &Footer, padding: &[u8]) -> Result<()> {
    let (expected, found) = (u64::from(footer.padding_length), padding.len() as u64);
    if expected != found {
        return Err(refuse(Reason::WrongLength { expected, found }));
    }
    if padding.iter().any(|byte| *byte != 0) {
        return Err(refuse(Reason::NonzeroReserved));
    }
    if padded_length(footer.total_length - expected, PADDED_MIN) != footer.total_length {
        return Err(refuse(Reason::OutOfRange { field: "padding" }));
    }
    Ok(())
}

const _: () = assert!(block::STORED_MAX as u64 + PADDED_MIN < LENGTH_MAX);
