//! Packs: immutable objects of blocks, with a sealed directory of what is in them. format-spec/pack.md.
//!
//! ```text
//! header 48 | block ... | directory unit | padding | footer 32
//! ```
//!
//! A pack is written from front to back and read from its end: footer, directory, then any block. Where a block begins
//! stands nowhere in clear. Header and footer are part of the directory unit's key derivation, so a changed bit in
//! either fails at the directory's commitment if no check before it sees it.

use super::block;
use super::compress::Decompressor;
use super::directory::DirectoryBody;
pub use super::directory::{BLOCKS_MAX, Block, CHUNKS_MAX, DIRECTORY_MAX, PackDirectory};
use super::key_tree::{ChunkKind, KeyTree};
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::codec::chunk_list::ChunkRef;
    use crate::codec::compress::Compressor;
    use crate::codec::key_tree::MasterKey;

    fn keys() -> KeyTree {
        KeyTree::new(&MasterKey::new([7; 32]), RepositoryId([1; 32]))
    }

    /// A data pack of two blocks, and its directory.
    fn pack(keys: &KeyTree) -> (Vec<u8>, PackDirectory) {
        let (kind, mut compressor) = (PackKind::Data, Compressor::new(3).unwrap());
        let mut bytes = header(kind, keys.repository());
        let mut directory = PackDirectory::default();
        for plain in [b"one chunk and the next ".repeat(50), b"short".to_vec()] {
            let sealed = block::seal(keys, kind, &mut compressor, &plain, &[1; 32]).unwrap();
            let length = u32::try_from(plain.len()).unwrap();
            directory.blocks.push(Block {
                codec: sealed.codec,
                stored_length: u32::try_from(sealed.bytes.len()).unwrap(),
                plain_length: length,
                chunks: vec![ChunkRef { id: keys.chunk_id(kind.chunk_kind(), &plain), length }],
            });
            bytes.extend_from_slice(&sealed.bytes);
        }
        bytes.extend(finish(keys, kind, &directory, bytes.len() as u64, &[2; 32]).unwrap());
        (bytes, directory)
    }

    fn footer_of(bytes: &[u8]) -> Result<Footer> {
        parse_footer(&bytes[bytes.len() - FOOTER_BYTES..], bytes.len() as u64)
    }

    fn directory_of(keys: &KeyTree, bytes: &[u8]) -> Result<PackDirectory> {
        let kind = parse_header(bytes, keys.repository())?;
        let footer = footer_of(bytes)?;
        let start = usize::try_from(footer.directory_offset).unwrap();
        let mut unit = bytes[start..start + footer.directory_length as usize].to_vec();
        open_directory(keys, kind, &footer, &mut unit)
    }

    #[test]
    fn a_pack_describes_itself() {
        let keys = keys();
        let (bytes, directory) = pack(&keys);
        assert_eq!(bytes.len() as u64, PADDED_MIN);
        assert_eq!(directory_of(&keys, &bytes).unwrap(), directory);
        for (index, (offset, block)) in directory.placed().enumerate() {
            assert_eq!(directory.block_offset(index), Some(offset));
            let start = usize::try_from(offset).unwrap();
            let mut unit = bytes[start..start + block.stored_length as usize].to_vec();
            let mut decompressor = Decompressor::new().unwrap();
            let (codec, length) = (block.codec, block.plain_length);
            let plain = block::open(&keys, PackKind::Data, &mut decompressor, codec, length, &mut unit).unwrap();
            block::verify_chunks(&keys, PackKind::Data, &plain, &block.chunks).unwrap();
        }
        assert_eq!(directory.block_offset(2), None);
        let footer = footer_of(&bytes).unwrap();
        let padding_end = bytes.len() - FOOTER_BYTES;
        let padding = &bytes[padding_end - footer.padding_length as usize..padding_end];
        check_padding(&footer, padding).unwrap();
        let mut noisy = padding.to_vec();
        noisy[9] = 1;
        assert_eq!(check_padding(&footer, &noisy).unwrap_err().reason, Reason::NonzeroReserved);
        let needed = footer.total_length - u64::from(footer.padding_length);
        assert!(needed <= directory.body_length() + PackDirectory::room(2, 2));
    }

    #[test]
    fn every_flipped_bit_outside_blocks_and_padding_is_noticed() {
        let keys = keys();
        let (bytes, _) = pack(&keys);
        let footer = footer_of(&bytes).unwrap();
        let directory = usize::try_from(footer.directory_offset).unwrap();
        let positions = (0..HEADER_BYTES)
            .chain(directory..directory + footer.directory_length as usize)
            .chain(bytes.len() - FOOTER_BYTES..bytes.len());
        for position in positions {
            for bit in 0..8 {
                let mut bytes = bytes.clone();
                bytes[position] ^= 1 << bit;
                assert!(directory_of(&keys, &bytes).is_err(), "byte {position}, bit {bit}");
            }
        }
    }

    #[test]
    fn a_footer_that_still_parses_fails_at_the_commitment() {
        let keys = keys();
        let (bytes, directory) = pack(&keys);
        let footer = footer_of(&bytes).unwrap();
        let start = usize::try_from(directory.body_length()).unwrap();
        let unit = &bytes[start..start + footer.directory_length as usize];
        let reason =
            |kind, footer: Footer| open_directory(&keys, kind, &footer, &mut unit.to_vec()).unwrap_err().reason;
        let (padding_length, total_length) = (footer.padding_length + 1, footer.total_length + 1);
        for other in [
            Footer { plain_length: footer.plain_length - 1, ..footer },
            Footer { codec: Codec::Zstd, ..footer },
            Footer { padding_length, ..footer },
            Footer { total_length, ..footer },
        ] {
            assert_eq!(reason(PackKind::Data, other), Reason::Commitment, "{other:?}");
        }
        assert_eq!(reason(PackKind::Tree, footer), Reason::Commitment);
    }

    #[test]
    fn footers_that_do_not_fit_their_pack_are_refused() {
        let footer = |directory_length, padding_length, total_length| {
            let footer = Footer {
                directory_offset: 0,
                directory_length,
                padding_length,
                plain_length: 1,
                codec: Codec::Stored,
                total_length,
            };
            parse_footer(&footer.to_bytes(), total_length).map_err(|error| error.reason.slug())
        };
        assert_eq!(footer(100, 50, 230).map(|footer| footer.directory_offset), Ok(48));
        assert_eq!(footer(100, 51, 230), Err("out-of-range"), "the directory would begin in the header");
        assert_eq!(footer(100, u32::MAX, 230), Err("out-of-range"));
        assert_eq!(footer(u32::MAX, 0, 1 << 20), Err("out-of-range"));
        assert_eq!(footer(100, 0, LENGTH_MAX + 1), Err("out-of-range"));
        let bytes = header(PackKind::Data, RepositoryId([1; 32]));
        assert!(parse_footer(&bytes, 230).is_err() && parse_footer(b"", 0).is_err());
    }

    #[test]
    fn a_pack_is_not_finished_in_the_wrong_place() {
        let (bytes, directory) = pack(&keys());
        let body_length = footer_of(&bytes).unwrap().directory_offset + 1;
        let wrong_place = finish(&keys(), PackKind::Data, &directory, body_length, &[0; 32]);
        assert_eq!(wrong_place.unwrap_err().reason, Reason::OutOfRange { field: "length of the blocks" });
    }

    #[test]
    fn the_longest_directory_is_within_its_limits() {
        let chunk = ChunkRef { id: keys().chunk_id(ChunkKind::Data, b"x"), length: 251 };
        let per_block = CHUNKS_MAX / 4096;
        let plain_length = 251 * u32::try_from(per_block).unwrap();
        let stored_length = plain_length + OVERHEAD_BYTES as u32;
        let block = Block { codec: Codec::Stored, stored_length, plain_length, chunks: vec![chunk; per_block] };
        let directory = PackDirectory { blocks: vec![block; 4096] };
        assert_eq!(directory.chunk_count(), CHUNKS_MAX);
        let bytes = finish(&keys(), PackKind::Data, &directory, directory.body_length(), &[0; 32]).unwrap();
        let total = directory.body_length() + bytes.len() as u64;
        let footer = parse_footer(&bytes[bytes.len() - FOOTER_BYTES..], total).unwrap();
        let mut unit = bytes[..footer.directory_length as usize].to_vec();
        assert_eq!(open_directory(&keys(), PackKind::Data, &footer, &mut unit).unwrap(), directory);
    }
}
