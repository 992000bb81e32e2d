//! Vectors of segments: whole ones, and their clear tables, which need no key.

use packstone::base::id::{ChunkId, ObjectId};
use packstone::codec::chunk_list::ChunkRef;
use packstone::codec::pack::{Block, PackDirectory, PackKind};
use packstone::codec::root::HEADER_BYTES;
use packstone::codec::segment::{self, ROW_BYTES, Segment, SegmentPack, SegmentTable};
use packstone::codec::unit::{Codec, PREFIX_BYTES, UnitKind};
use packstone::codec::{ObjectKind, body};

use crate::file::{Outcome, Vector, flip, hex, seed, unhex};
use crate::seal::{body_of, framed, keys, keys_of, root_header, root_of, with_keys};

/// Parses the table or opens the whole.
pub fn read(vector: &Vector) -> Outcome {
    let row = |id: ObjectId, length: u64, kind: PackKind| ("pack".into(), format!("{id} {length} {kind:?}"));
    if vector.input("part") == "table" {
        let repository = packstone::base::id::RepositoryId(vector.input_32("repository"));
        let table = SegmentTable::parse(&vector.bytes, repository)?;
        return Ok(table.packs.iter().map(|pack| row(pack.id, pack.length, pack.kind)).collect());
    }
    let segment = Segment::open(&keys_of(vector), vector.bytes.clone())?;
    let mut facts = Vec::new();
    for pack in &segment.packs {
        facts.push(row(pack.id, pack.length, pack.kind));
        facts.push(("prefix".into(), hex(&pack.directory_prefix)));
        for (offset, block) in pack.directory.placed() {
            let Block { codec, stored_length, plain_length, chunks } = block;
            facts.push(("block".into(), format!("{codec:?} at {offset}, {stored_length} bytes, {plain_length} plain")));
            facts.extend(chunks.iter().map(|chunk| ("chunk".into(), format!("{} {}", chunk.id, chunk.length))));
        }
    }
    let table_bytes = segment.packs.len() * ROW_BYTES;
    let body = body_of(&keys_of(vector), UnitKind::Segment, &vector.bytes, table_bytes).unwrap();
    facts.push(("body".into(), hex(&body)));
    Ok(facts)
}

/// The table, the body in the unit and the number of rows, or the bytes and the number of rows.
pub fn seed_of(vector: &Vector) -> Vec<u8> {
    let rows = vector.bytes[20];
    let table_bytes = usize::from(rows) * ROW_BYTES;
    let is_whole = vector.input("part") == "whole";
    let body = is_whole.then(|| body_of(&keys_of(vector), UnitKind::Segment, &vector.bytes, table_bytes)).flatten();
    match body {
        Some(body) => [&vector.bytes[HEADER_BYTES..HEADER_BYTES + table_bytes], &body, &[rows]].concat(),
        None => [&vector.bytes[..], &[rows]].concat(),
    }
}

fn row(number: u8, length: u64, kind: u8) -> Vec<u8> {
    [&[number; 32][..], &length.to_le_bytes(), &[kind]].concat()
}

/// A pack as its bytes stand in the body: prefix, domain, blocks.
type AnyPack = ([u8; PREFIX_BYTES], u32, Vec<(u32, u32, u32, Vec<ChunkRef>)>);

pub fn vectors() -> Vec<Vector> {
    let chunk = |number: u8| ChunkRef { id: ChunkId([number; 32]), length: 1000 };
    let block =
        |number| Block { codec: Codec::Zstd, stored_length: 500, plain_length: 1000, chunks: vec![chunk(number)] };
    let pack = |number: u8, kind| SegmentPack {
        id: ObjectId([number; 32]),
        length: 16 << 10,
        kind,
        directory: PackDirectory { blocks: vec![block(number), block(number + 1)] },
        directory_prefix: [number; PREFIX_BYTES],
    };
    let segment = Segment { packs: vec![pack(0x10, PackKind::Data), pack(0x20, PackKind::Tree)] };
    let good = segment::encode(&keys(), segment.clone(), &seed("random")).unwrap();
    let clear = HEADER_BYTES + 2 * ROW_BYTES;
    let whole = |vector: Vector| with_keys(vector).with("part", "whole");
    let refused =
        |name: &str, slug: &str, comment: &str, bytes: Vec<u8>| whole(Vector::refused(name, slug, comment, bytes));
    let table = |vector: Vector| vector.with_hex("repository", &seed("repository")).with("part", "table");
    let in_header = |name: &str, slug: &str, comment: &str, at: usize, value: u8| {
        let mut bytes = good[..clear].to_vec();
        bytes[at] = value;
        table(Vector::refused(name, slug, comment, bytes))
    };
    let rows = |name: &str, slug: &str, comment: &str, rows: &[Vec<u8>]| {
        let header = root_header(ObjectKind::Segment, 100, u32::try_from(rows.len()).unwrap());
        table(Vector::refused(name, slug, comment, [header, rows.concat()].concat()))
    };
    let one_row = row(0x10, 16 << 10, 3);
    let any =
        |domain, stored, plain| -> AnyPack { ([1; PREFIX_BYTES], domain, vec![(1, stored, plain, vec![chunk(1)])]) };
    let encoded = |packs: &Vec<AnyPack>| body::encode("segment", packs).unwrap();
    let honest = encoded(&vec![any(0, 500, 1000)]);
    let hostile = |name: &str, slug: &str, comment: &str, plain: &[u8]| {
        refused(name, slug, comment, root_of(ObjectKind::Segment, UnitKind::Segment, 1, &one_row, plain))
    };
    let mut overlong = honest.clone();
    overlong.splice(0..1, unhex("fb0100"));
    let with_other_repository = {
        let mut vector =
            refused("other-repository", "other-repository", "opened with another repository's keys", good.clone());
        vector.inputs.iter_mut().find(|(key, _)| key == "repository").unwrap().1 = hex(&seed("another"));
        vector
    };
    let with_other_master = {
        let mut vector = refused("other-master", "commitment", "another master key", good.clone());
        vector.inputs.iter_mut().find(|(key, _)| key == "master").unwrap().1 = hex(&seed("another"));
        vector
    };
    let padded = |byte: u8| [framed(&honest), vec![byte; 9]].concat();
    vec![
        whole(Vector::accepted("two-packs", "a data pack and a tree pack", good.clone())),
        whole(Vector::accepted(
            "unpadded",
            "a body without padding is read too",
            root_of(ObjectKind::Segment, UnitKind::Segment, 1, &one_row, &framed(&honest)),
        )),
        table(Vector::accepted("table", "the clear part alone, without a key", good[..clear].to_vec())),
        in_header("header-magic", "wrong-magic", "no packstone object", 1, 0),
        in_header("header-version", "unknown-version", "a later version", 8, 2),
        in_header("header-kind", "wrong-kind", "a snapshot's header", 9, 6),
        in_header("header-key-mode", "unknown-key-mode", "mode 2: a newer version is needed", 10, 2),
        in_header("header-suite", "unknown-suite", "a later suite", 11, 2),
        in_header("header-codec", "unknown-codec", "a later codec", 12, 2),
        in_header("header-reserved", "nonzero-reserved", "a reserved byte", 13, 1),
        in_header("header-reserved-2", "nonzero-reserved", "a reserved byte", 31, 1),
        in_header("header-plain-length", "out-of-range", "a body over 64 MiB", 19, 5),
        in_header("header-rows", "out-of-range", "more packs than a segment takes", 23, 1),
        in_header("header-row-missing", "truncated", "a row more than there is", 20, 3),
        in_header("table-kind", "out-of-range", "a pack that is a snapshot", HEADER_BYTES + 40, 6),
        in_header("table-long-pack", "out-of-range", "a pack over 256 MiB", HEADER_BYTES + 35, 0x11),
        rows("table-empty", "out-of-range", "no packs", &[]),
        rows("table-duplicate", "not-ascending", "the same pack twice", &[one_row.clone(), one_row.clone()]),
        rows("table-disorder", "not-ascending", "ids that descend", &[row(2, 16 << 10, 3), row(1, 16 << 10, 3)]),
        refused("flipped-id", "commitment", "one bit of a pack's id in the table", flip(&good, HEADER_BYTES, 0)),
        refused("flipped-length", "commitment", "a pack's length in the table", flip(&good, HEADER_BYTES + 32, 0)),
        refused("flipped-kind", "commitment", "a data pack shown as a tree pack", {
            let mut bytes = good.clone();
            bytes[HEADER_BYTES + 40] = 4;
            bytes
        }),
        refused("flipped-plain-length", "commitment", "the header's plain length", flip(&good, 16, 0)),
        refused("flipped-body", "tag", "one bit of the ciphertext", flip(&good, clear + 100, 0)),
        refused("row-removed", "commitment", "one pack less in the table", {
            let mut bytes = good.clone();
            bytes.drain(HEADER_BYTES + ROW_BYTES..clear);
            bytes[20] = 1;
            bytes
        }),
        refused("truncated", "truncated", "it ends within the salt", good[..clear + 20].to_vec()),
        refused("shortened", "tag", "the last byte is missing", good[..good.len() - 1].to_vec()),
        refused("trailing", "tag", "a byte follows", [&good[..], b"\0"].concat()),
        with_other_repository,
        with_other_master,
        hostile("hostile-overlong", "not-canonical", "the number of packs in three bytes", &framed(&overlong)),
        hostile(
            "hostile-trailing",
            "trailing-bytes",
            "a byte behind the body",
            &framed(&[&honest[..], b"\0"].concat()),
        ),
        hostile("hostile-padding", "nonzero-reserved", "padding that is not zero", &padded(1)),
        hostile("hostile-length", "truncated", "a body longer than its unit", &[200, 0, 0, 0, 1]),
        hostile("hostile-no-pack", "out-of-range", "fewer packs than the table", &framed(&encoded(&vec![]))),
        hostile("hostile-domain", "out-of-range", "another dedup domain", &framed(&encoded(&vec![any(1, 500, 1000)]))),
        hostile(
            "hostile-sum",
            "plain-length",
            "chunks shorter than their block",
            &framed(&encoded(&vec![any(0, 500, 1001)])),
        ),
        hostile(
            "hostile-overflow",
            "out-of-range",
            "blocks longer than the pack",
            &framed(&encoded(&vec![any(0, 20_000, 1000)])),
        ),
    ]
}
