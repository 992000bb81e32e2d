//! Vectors of trees: listings, and the streams of long chunk lists.

use packstone::base::id::ChunkId;
use packstone::base::time::Time;
use packstone::codec::body;
use packstone::codec::tree::{
    ChunkList, ChunkRef, ChunkRefReader, Content, Entry, EntryReader, Hole, INLINE_MAX, Metadata, NAME_MAX, Node, Xattr,
};

use crate::file::{Outcome, Vector, hex};

/// Reads the stream in pieces of seven bytes.
pub fn read(vector: &Vector) -> Outcome {
    let mut facts = Vec::new();
    if vector.input("stream") == "chunk list" {
        let mut reader = ChunkRefReader::new();
        for piece in vector.bytes.chunks(7) {
            reader.push(piece);
            while let Some(chunk) = reader.next()? {
                facts.push(("chunk".into(), format!("{} {}", chunk.id, chunk.length)));
            }
        }
        reader.finish()?;
        return Ok(facts);
    }
    let mut reader = EntryReader::new();
    for piece in vector.bytes.chunks(7) {
        reader.push(piece);
        while let Some(Entry { name, metadata, node }) = reader.next()? {
            let kind = match node {
                Node::File(content) => format!("file of {} bytes, {} holes", content.size, content.holes.len()),
                Node::Directory { listing } => format!("directory of {} chunks", listing.chunks.len()),
                Node::Symlink { target } => format!("symlink to {}", hex(&target)),
                other => format!("{other:?}"),
            };
            facts.push(("entry".into(), format!("{} {:o} {kind}", hex(&name), metadata.mode)));
        }
    }
    reader.finish()?;
    Ok(facts)
}

fn record(entry: &Entry) -> Vec<u8> {
    let bytes = body::encode("tree", entry).unwrap();
    [&u32::try_from(bytes.len()).unwrap().to_le_bytes()[..], &bytes].concat()
}

fn chunk(number: u8, length: u32) -> ChunkRef {
    ChunkRef { id: ChunkId([number; 32]), length }
}

fn list(chunks: &[ChunkRef]) -> ChunkList {
    ChunkList { depth: 0, chunks: chunks.to_vec() }
}

fn metadata() -> Metadata {
    Metadata {
        mode: 0o644,
        uid: 1000,
        gid: 100,
        user: b"anna".to_vec(),
        group: b"users".to_vec(),
        mtime: Time { seconds: 1_700_000_000, nanoseconds: 123_456_789 },
        ctime: Time { seconds: -1, nanoseconds: 999_999_999 },
        btime: None,
        device: 0,
        inode: 4711,
        links: 1,
        xattrs: vec![],
        flags: 0,
    }
}

fn entry(name: &[u8], node: Node) -> Entry {
    Entry { name: name.to_vec(), metadata: metadata(), node }
}

fn content(size: u64, chunks: &[ChunkRef], holes: &[(u64, u64)], digest: bool) -> Node {
    let holes: Vec<Hole> = holes.iter().map(|&(offset, length)| Hole { offset, length }).collect();
    let digest = digest.then(|| Content::digest_of(blake3::Hasher::new(), &holes));
    Node::File(Content { size, chunks: list(chunks), holes, digest })
}

/// The stream, and pieces of seven bytes.
pub fn seed_of(vector: &Vector) -> Vec<u8> {
    [&vector.bytes[..], &[7]].concat()
}

pub fn vectors() -> Vec<Vector> {
    let small = entry(b"cv.odt", content(7, &[chunk(0xc1, 7)], &[], false));
    let stream = |entries: &[Entry]| entries.iter().flat_map(record).collect::<Vec<u8>>();
    let listing = |vector: Vector| vector.with("stream", "listing");
    let accepted =
        |name: &str, comment: &str, entries: &[Entry]| listing(Vector::accepted(name, comment, stream(entries)));
    let refused = |name: &str, slug: &str, comment: &str, entries: &[Entry]| {
        listing(Vector::refused(name, slug, comment, stream(entries)))
    };
    let bytes =
        |name: &str, slug: &str, comment: &str, bytes: Vec<u8>| listing(Vector::refused(name, slug, comment, bytes));
    let name =
        |file: &str, comment: &str, name: &[u8]| refused(file, "broken-rule", comment, &[entry(name, Node::Fifo)]);
    let with = |file: &str, slug: &str, comment: &str, change: fn(&mut Metadata)| {
        let mut entry = small.clone();
        change(&mut entry.metadata);
        refused(file, slug, comment, &[entry])
    };
    let file = |name: &str, slug: &str, comment: &str, node: Node| refused(name, slug, comment, &[entry(b"f", node)]);
    let xattr = |name: &[u8]| Xattr { name: name.to_vec(), value: b"value".to_vec() };
    let mut rich = small.clone();
    rich.name = b"rich".to_vec();
    rich.metadata.mode = 0o4755;
    rich.metadata.btime = Some(Time { seconds: 0, nanoseconds: 1 });
    rich.metadata.xattrs = vec![xattr(b"security.capability"), xattr(b"user.comment")];
    let all = [
        entry(b"\x01new\nline", Node::Fifo),
        entry(b"block", Node::BlockDevice { major: 8, minor: 1 }),
        entry(b"character", Node::CharacterDevice { major: 1, minor: 3 }),
        entry(b"directory", Node::Directory { listing: list(&[chunk(0xd1, 600)]) }),
        entry(b"empty", content(0, &[], &[], false)),
        rich,
        entry(b"socket", Node::Socket),
        entry(b"sparse", content(8200, &[chunk(0xa1, 8)], &[(0, 4096), (4104, 4096)], true)),
        entry(b"symlink", Node::Symlink { target: b"../there".to_vec() }),
        entry(b"two-chunks", content(12, &[chunk(0xa1, 8), chunk(0xa2, 4)], &[], true)),
        entry(b"\xff", Node::Fifo),
    ];
    let good = record(&small);
    let mut overlong = good.clone();
    // The record's length 4, the name's length 1 and six bytes; then mode 420 as 251 a4 01.
    assert_eq!(overlong[11..14], [251, 0xa4, 0x01]);
    overlong.splice(11..14, [252, 0xa4, 0x01, 0, 0]);
    overlong[0] += 2;
    let mut trailing = good.clone();
    trailing.push(0);
    trailing[0] += 1;
    let mut unknown = record(&entry(b"a", Node::Fifo));
    *unknown.last_mut().unwrap() = 7;
    let deep = |length| Node::Directory { listing: ChunkList { depth: 1, chunks: vec![chunk(1, length)] } };
    let long_list = ChunkList { depth: 0, chunks: vec![chunk(1, 1); INLINE_MAX + 1] };
    let long = Node::Directory { listing: long_list };
    let chunk_list = |vector: Vector| vector.with("stream", "chunk list");
    let mut chunks = Vec::new();
    [chunk(1, 5), chunk(2, 16 << 20)].iter().for_each(|chunk| chunk.write(&mut chunks));
    vec![
        accepted("file", "one small file", std::slice::from_ref(&small)),
        accepted("all", "one of each kind, with everything an entry can have", &all),
        accepted("empty", "an empty directory", &[]),
        accepted("name-dots", "three dots are a name", &[entry(b"...", Node::Fifo)]),
        accepted("name-long", "a name of 1 020 bytes", &[entry(&[b'n'; NAME_MAX], Node::Fifo)]),
        accepted("deep", "a listing so long that its chunk list is a stream", &[entry(b"d", deep(36 * 1025))]),
        name("name-empty", "no name", b""),
        name("name-dot", "the directory itself", b"."),
        name("name-dot-dot", "the directory above", b".."),
        name("name-slash", "a path", b"a/b"),
        name("name-absolute", "a path from the root", b"/etc"),
        name("name-nul", "a name that the system would cut short", b"a\0b"),
        name("name-too-long", "a name of 1 021 bytes", &[b'n'; NAME_MAX + 1]),
        refused("duplicate", "not-ascending", "the same name twice", &[small.clone(), small.clone()]),
        refused("disorder", "not-ascending", "z before a", &[entry(b"z", Node::Fifo), entry(b"a", Node::Fifo)]),
        refused(
            "symlink-then-child",
            "not-ascending",
            "a symlink and a directory of the same name",
            &[entry(b"a", Node::Symlink { target: b"/etc".to_vec() }), entry(b"a", deep(36 * 1025))],
        ),
        with("mode", "out-of-range", "the type of file in the mode", |m| m.mode = 0o100_644),
        with("mtime", "out-of-range", "a second of nanoseconds", |m| m.mtime.nanoseconds = 1_000_000_000),
        with("user", "broken-rule", "a NUL in the owner's name", |m| m.user = b"a\0".to_vec()),
        with("xattr-disorder", "not-ascending", "attributes out of order", |m| {
            m.xattrs = [b"user.b", b"user.a"].map(|name| Xattr { name: name.to_vec(), value: vec![] }).to_vec();
        }),
        with("xattr-empty", "broken-rule", "an attribute without a name", |m| {
            m.xattrs = vec![Xattr { name: vec![], value: vec![] }];
        }),
        refused("symlink-empty", "broken-rule", "no target", &[entry(b"s", Node::Symlink { target: vec![] })]),
        refused("symlink-nul", "broken-rule", "NUL", &[entry(b"s", Node::Symlink { target: b"a\0".to_vec() })]),
        file("size", "broken-rule", "a file longer than its chunks", content(9, &[chunk(1, 8)], &[], false)),
        file("chunk-empty", "out-of-range", "a chunk of no bytes", content(0, &[chunk(1, 0)], &[], false)),
        file("digest-missing", "broken-rule", "two chunks", content(4, &[chunk(1, 2), chunk(2, 2)], &[], false)),
        file("digest-needless", "broken-rule", "one chunk", content(2, &[chunk(1, 2)], &[], true)),
        file("hole-overlap", "broken-rule", "holes that overlap", content(9, &[], &[(0, 5), (4, 5)], true)),
        file("hole-touching", "broken-rule", "two holes that are one", content(9, &[], &[(0, 5), (5, 4)], true)),
        file("hole-outside", "broken-rule", "a hole beyond the end", content(9, &[], &[(0, 10)], true)),
        file("hole-overflow", "broken-rule", "a hole that ends at 2^64", content(9, &[], &[(u64::MAX, 2)], true)),
        refused("list-too-deep", "broken-rule", "1 024 chunks stand in the list", &[entry(b"d", deep(36 * 1024))]),
        refused("list-ragged", "broken-rule", "37 000 bytes are no records", &[entry(b"d", deep(37_000))]),
        refused("list-too-long", "out-of-range", "1 025 chunks in the list", &[entry(b"d", long)]),
        bytes("overlong", "not-canonical", "mode 644 in five bytes", overlong),
        bytes("trailing", "trailing-bytes", "a byte behind the entry", trailing),
        bytes("unknown-type", "unknown-variant", "node type 7: a newer version is needed", unknown),
        bytes("truncated", "truncated", "the last byte is missing", good[..good.len() - 1].to_vec()),
        bytes("record-empty", "out-of-range", "a record of no bytes", vec![0; 4]),
        bytes("record-long", "out-of-range", "a record of 16 MiB and a byte", vec![1, 0, 0, 1]),
        chunk_list(Vector::accepted("chunk-list", "two records of 36 bytes", chunks.clone())),
        chunk_list(Vector::refused("chunk-list-truncated", "truncated", "71 bytes", chunks[..71].to_vec())),
        chunk_list(Vector::refused("chunk-list-empty-chunk", "out-of-range", "a chunk of no bytes", vec![0; 36])),
        chunk_list(Vector::refused("chunk-list-long-chunk", "out-of-range", "over 16 MiB", vec![255; 36])),
    ]
}
