//! Vectors of logs of deletions: the stream in the clear.

use packstone::base::id::ObjectId;
use packstone::base::time::Time;
use packstone::codec::body;
use packstone::codec::deletion_log::{DeletedKind, Deletion, DeletionReader};

use crate::file::{Outcome, Vector, hex};

/// Reads the stream in pieces of seven bytes.
pub fn read(vector: &Vector) -> Outcome {
    let (mut reader, mut facts) = (DeletionReader::new(), Vec::new());
    for piece in vector.bytes.chunks(7) {
        reader.push(piece);
        while let Some(deletion) = reader.next()? {
            let Deletion { path, kind, size, mtime, snapshot, snapshot_time, found } = deletion;
            let [mtime, snapshot_time, found] =
                [mtime, snapshot_time, found].map(|time| format!("{} {}", time.seconds, time.nanoseconds));
            let (path, snapshot) = (hex(&path), hex(&snapshot.0));
            facts.push((
                "deletion".into(),
                format!("{path} {kind:?} {size} {mtime} {snapshot} {snapshot_time} {found}"),
            ));
        }
    }
    reader.finish()?;
    Ok(facts)
}

fn record_of(body: &[u8]) -> Vec<u8> {
    [&u32::try_from(body.len()).unwrap().to_le_bytes()[..], body].concat()
}

fn record(deletion: &Deletion) -> Vec<u8> {
    record_of(&body::encode("log of deletions", deletion).unwrap())
}

fn sample() -> Deletion {
    Deletion {
        path: b"home/anna/cv.odt".to_vec(),
        kind: DeletedKind::File,
        size: 4000,
        mtime: Time { seconds: 1_699_990_000, nanoseconds: 9 },
        snapshot: ObjectId([0x1a; 32]),
        snapshot_time: Time::from_seconds(1_700_000_000),
        found: Time::from_seconds(1_700_086_400),
    }
}

/// The fuzz target takes the last byte for the length of the pieces.
pub fn seed_of(vector: &Vector) -> Vec<u8> {
    [&vector.bytes[..], &[7]].concat()
}

pub fn vectors() -> Vec<Vector> {
    let other = |path: &[u8], kind| record(&Deletion { path: path.to_vec(), kind, size: 0, ..sample() });
    let kinds = [
        record(&sample()),
        other(b"home/anna/old", DeletedKind::Directory),
        other(b"home/anna/old/link", DeletedKind::Symlink),
        other(b"pipe\n\xff", DeletedKind::Other),
    ]
    .concat();
    let whole = record(&sample());
    let refused = |name: &str, slug: &str, comment: &str, bytes: Vec<u8>| Vector::refused(name, slug, comment, bytes);
    let hostile = |name: &str, slug: &str, comment: &str, change: &dyn Fn(&mut Deletion)| {
        let mut deletion = sample();
        change(&mut deletion);
        refused(name, slug, comment, record(&deletion))
    };
    let path = |name: &str, comment: &str, path: &[u8]| {
        hostile(name, "broken-rule", comment, &|deletion| deletion.path = path.to_vec())
    };
    let body = &whole[4..];
    // The kind stands behind the path's length and its 16 bytes; the size, 4 000, in three bytes behind it.
    assert_eq!(body[17..21], [0, 251, 0xa0, 0x0f]);
    let with_body = |at: usize, bytes: &[u8]| {
        let mut body = body.to_vec();
        body.splice(at..at + 1, bytes.iter().copied());
        record_of(&body)
    };
    vec![
        Vector::accepted("record", "a file", whole.clone()),
        Vector::accepted("kinds", "one record of each kind", kinds),
        Vector::accepted("empty", "nothing was ever deleted", Vec::new()),
        refused("truncated", "truncated", "a byte is missing", whole[..whole.len() - 1].to_vec()),
        refused("length-cut", "truncated", "three bytes of a length", [&whole[..], &[1, 0, 0]].concat()),
        refused("no-record", "out-of-range", "a record of no bytes", vec![0; 4]),
        refused(
            "trailing",
            "trailing-bytes",
            "a byte behind the body, in its record",
            record_of(&[body, b"\0"].concat()),
        ),
        refused("overlong", "not-canonical", "the kind in three bytes", with_body(17, &[251, 0, 0])),
        refused("unknown-kind", "unknown-variant", "kind 4: a newer version is needed", with_body(17, &[4])),
        path("path-empty", "no name at all", b""),
        path("path-absolute", "a slash before the first name", b"/home"),
        path("path-slash", "a slash behind the last name", b"home/"),
        path("path-above", "a name that leaves the snapshot", b"home/../etc"),
        path("path-nul", "a name with NUL", b"home/a\0"),
        hostile("size", "broken-rule", "a directory of 4 000 bytes", &|deletion| {
            deletion.kind = DeletedKind::Directory
        }),
        hostile("time", "out-of-range", "a second of nanoseconds", &|deletion| {
            deletion.found.nanoseconds = 1_000_000_000
        }),
    ]
}
