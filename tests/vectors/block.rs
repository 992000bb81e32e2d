//! Vectors of blocks, and of the codecs in them.

use packstone::codec::block;
use packstone::codec::chunk_list::ChunkRef;
use packstone::codec::compress::Decompressor;
use packstone::codec::pack::PackKind;
use packstone::codec::unit::{Codec, Context, UnitKind};

use crate::file::{Outcome, Vector, flip, hex, unhex};
use crate::seal::{keys, keys_of, opened, sealed, with_keys};

fn chunks_text(chunks: &[ChunkRef]) -> String {
    chunks.iter().map(|chunk| format!("{}:{}", chunk.id, chunk.length)).collect::<Vec<_>>().join(" ")
}

/// Opens the block as its directory describes it, and checks its chunks.
pub fn read(vector: &Vector) -> Outcome {
    let keys = keys_of(vector);
    let kind = if vector.input("kind") == "data" { PackKind::Data } else { PackKind::Tree };
    let codec = Codec::try_from(vector.input("codec").parse::<u8>().unwrap()).unwrap();
    let plain_length = vector.input("plain-length").parse().unwrap();
    let chunk = |text: &str| {
        let (id, length) = text.split_once(':').unwrap();
        ChunkRef { id: id.parse().unwrap(), length: length.parse().unwrap() }
    };
    let chunks: Vec<ChunkRef> = vector.input("chunks").split(' ').map(chunk).collect();
    let mut unit = vector.bytes.clone();
    let plain = block::open(&keys, kind, &mut Decompressor::new()?, codec, plain_length, &mut unit)?;
    block::verify_chunks(&keys, kind, &plain, &chunks)?;
    Ok(vec![("plain".into(), hex(&plain))])
}

/// Two chunks that compress.
pub const PARTS: [&[u8]; 2] = [b"first chunk, first chunk, first chunk. ", b"second chunk, again the second chunk"];
/// Their frame. It stands here as bytes because another version of zstd may make another one: every reader must read
/// each of them, and no vector may depend on which it is.
pub const FRAME: &str =
    "28b52ffd204b4d0100f06669727374206368756e6b2c202e207365636f6e64616761696e2074686503003bcf598ae0009c5f";

/// A frame of one run of zeros (RFC 8878): blocks of the RLE type, 128 KiB each.
fn zeros_frame(size: u64, window: u8, blocks: usize) -> Vec<u8> {
    let mut frame = [&[0x28, 0xb5, 0x2f, 0xfd, 0xc0, window][..], &size.to_le_bytes()].concat();
    for number in 1..=blocks {
        let header: u32 = u32::from(number == blocks) | 1 << 1 | (128 << 10) << 3;
        frame.extend(&header.to_le_bytes()[..3]);
        frame.push(0);
    }
    frame
}

/// The content of the unit, and its plain length.
pub fn seed_of(vector: &Vector) -> Vec<u8> {
    let plain_length: u32 = vector.input("plain-length").parse().unwrap();
    let codec = Codec::try_from(vector.input("codec").parse::<u8>().unwrap()).unwrap();
    let context = Context { kind: UnitKind::DataBlock, codec, plain_length, clear: b"" };
    let content = opened(&keys_of(vector), &context, &vector.bytes);
    [content.as_deref().unwrap_or(&vector.bytes), &plain_length.to_le_bytes()].concat()
}

pub fn vectors() -> Vec<Vector> {
    let keys = keys();
    let parts = PARTS;
    let plain = parts.concat();
    let chunk = |kind: PackKind, bytes: &[u8]| ChunkRef {
        id: keys.chunk_id(kind.chunk_kind(), bytes),
        length: u32::try_from(bytes.len()).unwrap(),
    };
    let data = parts.map(|part| chunk(PackKind::Data, part));
    let tree = parts.map(|part| chunk(PackKind::Tree, part));
    let data_block = |codec, length, content: &[u8]| sealed(UnitKind::DataBlock, codec, length, b"", content);
    let describe = |vector: Vector, kind: &str, codec: Codec, length: usize, chunks: &[ChunkRef]| {
        with_keys(vector)
            .with("kind", kind)
            .with("codec", codec as u8)
            .with("plain-length", length)
            .with("chunks", chunks_text(chunks))
    };
    let good = data_block(Codec::Zstd, plain.len(), &unhex(FRAME));
    let stored = data_block(Codec::Stored, parts[1].len(), parts[1]);
    let tree_block = sealed(UnitKind::TreeBlock, Codec::Zstd, plain.len(), b"", &unhex(FRAME));
    let accepted = |name: &str, comment: &str, bytes: &[u8], kind: &str, codec, length, chunks: &[ChunkRef]| {
        describe(Vector::accepted(name, comment, bytes.to_vec()), kind, codec, length, chunks)
    };
    let refused = |name: &str, slug: &str, comment: &str, kind: &str, codec, length, chunks: &[ChunkRef]| {
        describe(Vector::refused(name, slug, comment, good.clone()), kind, codec, length, chunks)
    };
    let flipped = |name: &str, slug: &str, comment: &str, at| {
        let vector = Vector::refused(name, slug, comment, flip(&good, at, 0));
        describe(vector, "data", Codec::Zstd, plain.len(), &data)
    };
    // Authentic units whose frame is not what the directory says.
    let frame = unhex(FRAME);
    let hostile = |name: &str, slug: &str, comment: &str, frame: &[u8], length: usize| {
        let unit = sealed(UnitKind::DataBlock, Codec::Zstd, length, b"", frame);
        let claim = [ChunkRef { id: data[0].id, length: u32::try_from(length).unwrap() }];
        describe(Vector::refused(name, slug, comment, unit), "data", Codec::Zstd, length, &claim)
    };
    let skippable = [&unhex("502a4d1800000000")[..], &frame].concat();
    let with_byte = |at: usize, value: u8| {
        let mut frame = frame.clone();
        frame[at] |= value;
        frame
    };
    let (n, zstd) = (plain.len(), Codec::Zstd);
    let swapped = data_block(zstd, n, &[&frame[..20], &frame[20..].to_ascii_uppercase()].concat());
    vec![
        accepted("compressed", "two chunks in a frame", &good, "data", zstd, n, &data),
        accepted("stored", "a chunk that does not shrink", &stored, "data", Codec::Stored, 36, &data[1..]),
        accepted("tree", "the same content in a tree pack has other ids", &tree_block, "tree", zstd, n, &tree),
        refused("other-kind", "commitment", "a data block cannot pose as a tree block", "tree", zstd, n, &tree),
        refused("other-codec", "commitment", "the codec is in the key", "data", Codec::Stored, n, &data),
        refused("wrong-plain-length", "commitment", "the plain length is in the key", "data", zstd, n + 1, &data),
        refused("no-length", "out-of-range", "an empty block", "data", zstd, 0, &data),
        refused("long-length", "out-of-range", "a block over 16 MiB", "data", zstd, (16 << 20) + 1, &data),
        refused("chunks-swapped", "chunk-id", "order is checked", "data", zstd, n, &[data[1], data[0]]),
        refused("chunk-missing", "plain-length", "bytes that belong to no chunk", "data", zstd, n, &data[..1]),
        refused(
            "chunk-too-many",
            "plain-length",
            "the chunks are longer",
            "data",
            zstd,
            n,
            &[data[0], data[1], data[1]],
        ),
        refused("tree-ids", "chunk-id", "ids of data and trees never meet", "data", zstd, n, &tree),
        describe(
            Vector::refused("blocks-swapped", "chunk-id", "another block of the same lengths", swapped),
            "data",
            zstd,
            n,
            &data,
        ),
        flipped("salt-flipped", "commitment", "one bit of the salt", 0),
        flipped("frame-flipped", "tag", "one bit of the frame", 70),
        hostile(
            "bomb-claimed",
            "plain-length",
            "a frame that promises 2^62 bytes",
            &zeros_frame(1 << 62, 0x70, 8),
            4096,
        ),
        hostile(
            "bomb-hidden",
            "decompression",
            "a frame that holds more than it promises",
            &zeros_frame(4096, 0x70, 8),
            4096,
        ),
        hostile(
            "frame-short",
            "decompression",
            "a frame that holds less than it promises",
            &zeros_frame(1 << 20, 0x70, 2),
            1 << 20,
        ),
        hostile("frame-length", "plain-length", "a frame of another length than the directory says", &frame, n - 1),
        hostile("window-wide", "decompression", "a window of 32 MiB", &zeros_frame(1 << 18, 0x78, 2), 1 << 18),
        hostile("skippable", "decompression", "a skippable frame before the frame", &skippable, n),
        hostile("two-frames", "trailing-bytes", "a second frame", &[&frame[..], &frame].concat(), n),
        hostile("frame-trailing", "trailing-bytes", "a byte behind the frame", &[&frame[..], b"\0"].concat(), n),
        hostile("frame-truncated", "decompression", "the last byte is missing", &frame[..frame.len() - 1], n),
        hostile("dictionary", "decompression", "a frame that names a dictionary", &with_byte(4, 1), n),
        hostile("checksum", "decompression", "a frame with a checksum", &with_byte(4, 4), n),
        hostile("reserved-bit", "decompression", "the reserved bit of the frame header", &with_byte(4, 8), n),
        hostile("no-frame", "decompression", "no frame at all", &plain, n),
    ]
}
