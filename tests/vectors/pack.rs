//! Vectors of packs: whole ones, and their header, footer and directory each by itself.

use packstone::base::id::RepositoryId;
use packstone::codec::chunk_list::ChunkRef;
use packstone::codec::compress::Decompressor;
use packstone::codec::pack::{self, Block, FOOTER_BYTES, Footer, HEADER_BYTES, PackDirectory, PackKind};
use packstone::codec::unit::{Codec, Context, UnitKind};
use packstone::codec::{Error, block, body};

use crate::block::{FRAME, PARTS};
use crate::file::{Outcome, Vector, flip, hex, seed, unhex};
use crate::seal::{keys, keys_of, opened, repository, sealed, with_keys};

fn describe(directory: &PackDirectory) -> Vec<(String, String)> {
    let mut facts = Vec::new();
    for (offset, block) in directory.placed() {
        let Block { codec, stored_length, plain_length, chunks } = block;
        facts.push(("block".into(), format!("{codec:?} at {offset}, {stored_length} bytes, {plain_length} plain")));
        facts.extend(chunks.iter().map(|chunk| ("chunk".into(), format!("{} {}", chunk.id, chunk.length))));
    }
    facts
}

fn footer_of(pack: &[u8]) -> Result<Footer, Error> {
    pack::parse_footer(&pack[pack.len() - FOOTER_BYTES..], pack.len() as u64)
}

/// Reads the part that the input line names; a whole pack with every block, chunk and padding byte.
pub fn read(vector: &Vector) -> Outcome {
    let keys = keys_of(vector);
    let bytes = &vector.bytes;
    match vector.input("part") {
        "header" => {
            let kind = pack::parse_header(bytes, keys.repository())?;
            Ok(vec![("kind".into(), format!("{kind:?}"))])
        }
        "footer" => {
            let footer = pack::parse_footer(bytes, vector.input("length").parse().unwrap())?;
            let Footer { directory_offset, directory_length, padding_length, plain_length, .. } = footer;
            let fact = format!("at {directory_offset}, {directory_length} bytes, {plain_length} plain");
            Ok(vec![("directory".into(), fact), ("padding".into(), padding_length.to_string())])
        }
        "directory" => {
            let footer = pack::parse_footer(&vector.input_hex("footer"), vector.input("length").parse().unwrap())?;
            let kind = pack::parse_header(&vector.input_hex("header"), keys.repository())?;
            let mut facts = describe(&pack::open_directory(&keys, kind, &footer, &mut bytes.clone())?);
            facts.push(("body".into(), hex(&directory_body(vector, &footer, kind).unwrap())));
            Ok(facts)
        }
        _ => {
            let kind = pack::parse_header(bytes, keys.repository())?;
            let footer = footer_of(bytes)?;
            let part = |offset: u64, length: u32| {
                let start = usize::try_from(offset).unwrap();
                bytes[start..start + length as usize].to_vec()
            };
            let mut unit = part(footer.directory_offset, footer.directory_length);
            let directory = pack::open_directory(&keys, kind, &footer, &mut unit)?;
            let padding_offset = footer.directory_offset + u64::from(footer.directory_length);
            pack::check_padding(&footer, &part(padding_offset, footer.padding_length))?;
            let mut decompressor = Decompressor::new()?;
            for (offset, block) in directory.placed() {
                let mut unit = part(offset, block.stored_length);
                let length = block.plain_length;
                let plain = block::open(&keys, kind, &mut decompressor, block.codec, length, &mut unit)?;
                block::verify_chunks(&keys, kind, &plain, &block.chunks)?;
            }
            Ok(describe(&directory))
        }
    }
}

/// The encoded directory, if its unit opens.
fn directory_body(vector: &Vector, footer: &Footer, kind: PackKind) -> Option<Vec<u8>> {
    let clear = [vector.input_hex("header"), vector.input_hex("footer")].concat();
    let Footer { codec, plain_length, .. } = *footer;
    let context = Context { kind: kind.directory_unit(), codec, plain_length, clear: &clear };
    opened(&keys_of(vector), &context, &vector.bytes)
}

/// The directory in its unit and the length of its blocks, or the bytes and the length of the pack.
pub fn seed_of(vector: &Vector) -> Vec<u8> {
    let total: u32 = vector.input_if_any("length").map_or(0, |length| length.parse().unwrap());
    if vector.input("part") == "directory" {
        let footer = pack::parse_footer(&vector.input_hex("footer"), total.into()).unwrap();
        if let Some(body) = directory_body(vector, &footer, PackKind::Data) {
            let blocks = u32::try_from(footer.directory_offset).unwrap() - HEADER_BYTES as u32;
            return [&body[..], &blocks.to_le_bytes()].concat();
        }
    }
    [&vector.bytes[..], &total.to_le_bytes()].concat()
}

/// A block: its codec, its content in that codec, and its chunks.
type AnyBlock<'a> = (Codec, &'a [u8], &'a [&'a [u8]]);

/// A pack of these blocks.
fn pack_of(kind: PackKind, blocks: &[AnyBlock<'_>]) -> Vec<u8> {
    let keys = keys();
    let mut bytes = pack::header(kind, keys.repository());
    let mut directory = PackDirectory::default();
    for &(codec, content, parts) in blocks {
        let plain_length = parts.concat().len();
        let unit = sealed(kind.block_unit(), codec, plain_length, b"", content);
        let chunk = |part: &&[u8]| ChunkRef {
            id: keys.chunk_id(kind.chunk_kind(), part),
            length: u32::try_from(part.len()).unwrap(),
        };
        directory.blocks.push(Block {
            codec,
            stored_length: u32::try_from(unit.len()).unwrap(),
            plain_length: u32::try_from(plain_length).unwrap(),
            chunks: parts.iter().map(chunk).collect(),
        });
        bytes.extend(unit);
    }
    bytes.extend(pack::finish(&keys, kind, &directory, bytes.len() as u64, &seed("random")).unwrap());
    bytes
}

/// A footer of any numbers.
fn footer(directory_length: usize, plain_length: usize, padding: usize, codec: u8, total: usize) -> Vec<u8> {
    let mut footer = Vec::new();
    for number in [directory_length, plain_length, padding] {
        footer.extend(u32::try_from(number).unwrap().to_le_bytes());
    }
    footer.extend([codec, 0, 0, 0]);
    footer.extend((total as u64).to_le_bytes());
    footer.extend(packstone::codec::wire::MAGIC);
    footer
}

/// A directory as its bytes stand in the body: domain, then blocks of (codec, stored, plain, chunks).
type AnyDirectory = (u32, Vec<(u32, u32, u32, Vec<ChunkRef>)>);

/// An authentic directory of any content behind `body_length` bytes, with its footer.
fn directory_vector(name: &str, slug: &str, comment: &str, plain: &[u8], body_length: usize) -> Vector {
    let total = body_length + plain.len() + 80 + FOOTER_BYTES;
    let footer = footer(plain.len() + 80, plain.len(), 0, 0, total);
    let header = pack::header(PackKind::Data, repository());
    let unit = sealed(UnitKind::DataDirectory, Codec::Stored, plain.len(), &[&header[..], &footer].concat(), plain);
    with_keys(Vector::refused(name, slug, comment, unit))
        .with("part", "directory")
        .with("length", total)
        .with_hex("header", &header)
        .with_hex("footer", &footer)
}

pub fn vectors() -> Vec<Vector> {
    let frame = unhex(FRAME);
    let stored = |content| (Codec::Stored, content, [content]);
    let (one, listing) = (stored(&b"another block"[..]), stored(&b"a listing"[..]));
    let whole = pack_of(PackKind::Data, &[(Codec::Zstd, &frame, &PARTS), (one.0, one.1, &one.2)]);
    let tree = pack_of(PackKind::Tree, &[(listing.0, listing.1, &listing.2)]);
    let whole_vector = |vector: Vector| with_keys(vector).with("part", "whole");
    let mut noisy_padding = tree.clone();
    noisy_padding[2000] = 1;
    let mut vectors = vec![
        whole_vector(Vector::accepted("data", "two blocks of three chunks", whole.clone())),
        whole_vector(Vector::refused("padding", "nonzero-reserved", "padding that is not zero", noisy_padding)),
    ];

    let header = &whole[..HEADER_BYTES];
    let in_header = |vector: Vector| with_keys(vector).with("part", "header");
    let header_with = |name: &str, slug: &str, comment: &str, at: usize, value: u8| {
        let mut bytes = header.to_vec();
        bytes[at] = value;
        in_header(Vector::refused(name, slug, comment, bytes))
    };
    vectors.extend([
        in_header(Vector::accepted("header-tree", "of a tree pack", tree[..HEADER_BYTES].to_vec())),
        header_with("header-magic", "wrong-magic", "no packstone object", 0, 0),
        header_with("header-version", "unknown-version", "a later version", 8, 2),
        header_with("header-kind", "wrong-kind", "a snapshot's header", 9, 6),
        header_with("header-key-mode", "unknown-key-mode", "mode 2: a newer version is needed", 10, 2),
        header_with("header-suite", "unknown-suite", "a later suite", 11, 2),
        header_with("header-mode-block", "out-of-range", "a mode block in mode 1", 12, 1),
        header_with("header-reserved", "nonzero-reserved", "a reserved byte", 15, 1),
        header_with("header-repository", "other-repository", "another repository's id", 47, 0),
        in_header(Vector::refused("header-short", "truncated", "47 bytes", header[..47].to_vec())),
    ]);

    let parsed = footer_of(&whole).unwrap();
    let tail = &whole[whole.len() - FOOTER_BYTES..];
    let in_footer = |vector: Vector, length: usize| with_keys(vector).with("part", "footer").with("length", length);
    let footer_with = |name: &str, slug: &str, comment: &str, at: usize, value: u8| {
        let mut bytes = tail.to_vec();
        bytes[at] = value;
        in_footer(Vector::refused(name, slug, comment, bytes), whole.len())
    };
    let longer = [&tail[1..], b"\0"].concat();
    vectors.extend([
        in_footer(Vector::accepted("footer", "of the pack `data`", tail.to_vec()), whole.len()),
        footer_with("footer-magic", "wrong-magic", "one byte of the magic", 24, 0),
        footer_with("footer-codec", "unknown-codec", "a later codec", 12, 9),
        footer_with("footer-reserved", "nonzero-reserved", "a reserved byte", 13, 1),
        footer_with("footer-total", "wrong-length", "a pack of another length", 16, 1),
        footer_with("footer-directory", "out-of-range", "a directory longer than the pack", 2, 2),
        footer_with("footer-padding", "out-of-range", "padding longer than the pack", 11, 255),
        in_footer(Vector::refused("footer-shortened", "wrong-length", "the pack lost bytes", tail.to_vec()), 9000),
        in_footer(
            Vector::refused("footer-trailing", "wrong-magic", "a byte follows the pack", longer),
            whole.len() + 1,
        ),
        in_footer(Vector::refused("footer-half", "wrong-length", "16 bytes", tail[16..].to_vec()), whole.len()),
    ]);

    let start = usize::try_from(parsed.directory_offset).unwrap();
    let unit = &whole[start..start + parsed.directory_length as usize];
    let directory = |vector: Vector, header: &[u8], footer: &[u8], total: usize| {
        with_keys(vector)
            .with("part", "directory")
            .with("length", total)
            .with_hex("header", header)
            .with_hex("footer", footer)
    };
    let (unit_length, plain_length) = (parsed.directory_length as usize, parsed.plain_length as usize);
    let padding = parsed.padding_length as usize;
    let total = whole.len();
    let refused = |name: &str, slug: &str, comment: &str| Vector::refused(name, slug, comment, unit.to_vec());
    let with_footer = |name: &str, comment: &str, footer: Vec<u8>, total| {
        directory(refused(name, "commitment", comment), header, &footer, total)
    };
    vectors.extend([
        directory(Vector::accepted("directory", "of the pack `data`", unit.to_vec()), header, tail, total),
        with_footer(
            "directory-plain-length",
            "the footer's plain length is in the key",
            footer(unit_length, plain_length + 1, padding, 0, total),
            total,
        ),
        with_footer(
            "directory-codec",
            "the codec is in the key",
            footer(unit_length, plain_length, padding, 1, total),
            total,
        ),
        with_footer(
            "directory-padding",
            "the padding's length is in the key",
            footer(unit_length, plain_length, padding - 1, 0, total),
            total,
        ),
        with_footer(
            "directory-total",
            "the pack's length is in the key",
            footer(unit_length, plain_length, padding, 0, total + 1),
            total + 1,
        ),
        directory(
            refused("directory-kind", "commitment", "a data pack cannot pose as a tree pack"),
            &tree[..HEADER_BYTES],
            tail,
            total,
        ),
        directory(
            Vector::refused("directory-short", "wrong-length", "a byte is missing", unit[1..].to_vec()),
            header,
            tail,
            total,
        ),
        directory(
            Vector::refused("directory-flipped", "tag", "one bit of the ciphertext", flip(unit, 70, 0)),
            header,
            tail,
            total,
        ),
        directory(
            Vector::refused("directory-salt", "commitment", "one bit of the salt", flip(unit, 0, 0)),
            header,
            tail,
            total,
        ),
    ]);

    let chunk = ChunkRef { id: keys().chunk_id(PackKind::Data.chunk_kind(), b"x"), length: 10 };
    let any = |directory: &AnyDirectory| body::encode("pack", directory).unwrap();
    let block = |codec, stored, plain, chunks: &[ChunkRef]| any(&(0, vec![(codec, stored, plain, chunks.to_vec())]));
    let good = block(0, 90, 10, &[chunk]);
    let mut overlong = good.clone();
    overlong.splice(0..1, [251, 0, 0]);
    let hostile = |name: &str, slug: &str, comment: &str, plain: &[u8]| {
        directory_vector(name, slug, comment, plain, HEADER_BYTES + 90)
    };
    vectors.extend([
        hostile("hostile-overlong", "not-canonical", "the domain in three bytes", &overlong),
        hostile("hostile-trailing", "trailing-bytes", "a byte behind the directory", &[&good[..], &[0]].concat()),
        hostile("hostile-truncated", "truncated", "a byte of the directory is missing", &good[..good.len() - 1]),
        hostile("hostile-domain", "out-of-range", "another dedup domain", &any(&(1, vec![(0, 90, 10, vec![chunk])]))),
        hostile("hostile-codec", "unknown-variant", "a block of codec 2", &block(2, 90, 10, &[chunk])),
        hostile("hostile-empty", "out-of-range", "no blocks", &any(&(0, vec![]))),
        hostile("hostile-no-chunks", "plain-length", "a block of no chunks", &block(0, 90, 10, &[])),
        hostile("hostile-sum", "plain-length", "chunks longer than their block", &block(0, 90, 10, &[chunk, chunk])),
        hostile("hostile-stored", "out-of-range", "a stored block of other lengths", &block(0, 91, 10, &[chunk])),
        hostile("hostile-gain", "out-of-range", "a frame as long as its content", &block(1, 90, 10, &[chunk])),
        hostile(
            "hostile-chunk",
            "out-of-range",
            "a chunk of no bytes",
            &block(0, 90, 10, &[ChunkRef { length: 0, ..chunk }, chunk]),
        ),
        hostile("hostile-blocks", "undecodable", "2^32 blocks", &[0, 253, 0, 0, 0, 0, 1, 0, 0, 0]),
        directory_vector(
            "hostile-offset",
            "out-of-range",
            "blocks that end before the directory",
            &good,
            HEADER_BYTES + 91,
        ),
    ]);
    let other = RepositoryId(seed("another repository"));
    let foreign = pack::header(PackKind::Data, other);
    vectors.push(in_header(Vector::refused("other-repository", "other-repository", "a pack of another", foreign)));
    vectors
}
