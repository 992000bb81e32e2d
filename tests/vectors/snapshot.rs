//! Vectors of snapshots, and of the stream of problems beside them.

use packstone::base::id::{ChunkId, ObjectId};
use packstone::base::time::Time;
use packstone::codec::chunk_list::{ChunkList, ChunkRef};
use packstone::codec::root::HEADER_BYTES;
use packstone::codec::snapshot::{
    self, Counts, Outcome as Grade, Problem, ProblemKind, ProblemReader, Snapshot, Summary, TEXT_MAX,
};
use packstone::codec::unit::UnitKind;
use packstone::codec::{ObjectKind, body};

use crate::file::{Outcome, Vector, flip, hex, seed};
use crate::seal::{body_of, framed, keys, keys_of, root_header, root_of, with_keys};

/// Opens the snapshot, or reads the stream of problems.
pub fn read(vector: &Vector) -> Outcome {
    if vector.input("part") == "problems" {
        let (mut reader, mut facts) = (ProblemReader::new(), Vec::new());
        for piece in vector.bytes.chunks(7) {
            reader.push(piece);
            while let Some(Problem { path, kind, message }) = reader.next()? {
                facts.push(("problem".into(), format!("{} {kind:?} {message}", hex(&path))));
            }
        }
        reader.finish()?;
        return Ok(facts);
    }
    let snapshot = snapshot::open(&keys_of(vector), vector.bytes.clone())?;
    let body = body_of(&keys_of(vector), UnitKind::Snapshot, &vector.bytes, 0).unwrap();
    let mut facts = facts_of(&snapshot);
    facts.push(("body".into(), hex(&body)));
    Ok(facts)
}

/// Every field in the order of the page, in words that any language can print: a list is one fact for each element.
fn facts_of(snapshot: &Snapshot) -> Vec<(String, String)> {
    let mut facts: Vec<(String, String)> = Vec::new();
    let mut fact = |name: &str, value: String| facts.push((name.into(), value));
    let list = |list: &ChunkList| {
        let chunks = list.chunks.iter().map(|chunk| format!(" {}:{}", hex(&chunk.id.0), chunk.length));
        format!("{}{}", list.depth, chunks.collect::<String>())
    };
    let Snapshot { counts, summary, .. } = snapshot;
    fact("time", format!("{} {}", snapshot.time.seconds, snapshot.time.nanoseconds));
    fact("written", format!("{} {}", snapshot.written.seconds, snapshot.written.nanoseconds));
    fact("host", snapshot.host.clone());
    fact("user", snapshot.user.clone());
    snapshot.paths.iter().for_each(|path| fact("path", hex(path)));
    fact("label", snapshot.label.clone());
    snapshot.tags.iter().for_each(|tag| fact("tag", tag.clone()));
    fact("held", if snapshot.held { "yes" } else { "no" }.into());
    fact("root", list(&snapshot.root));
    snapshot.parent.iter().for_each(|id| fact("parent", hex(&id.0)));
    snapshot.original.iter().for_each(|id| fact("original", hex(&id.0)));
    let outcome = match snapshot.outcome {
        Grade::Complete => "complete",
        Grade::Changed => "changed",
        Grade::Partial => "partial",
    };
    fact("outcome", outcome.into());
    fact("problems", list(&snapshot.problems));
    fact("problem-count", snapshot.problem_count.to_string());
    fact("deleted", list(&snapshot.deleted));
    fact("deleted-count", snapshot.deleted_count.to_string());
    fact("counts", format!("{} {} {} {}", counts.files, counts.directories, counts.others, counts.bytes));
    let numbers = [
        summary.files_new,
        summary.files_changed,
        summary.files_unmodified,
        summary.dirs_new,
        summary.dirs_changed,
        summary.dirs_unmodified,
        summary.data_chunks,
        summary.tree_chunks,
        summary.data_added,
        summary.data_stored,
        summary.bytes_read,
        summary.duration_nanoseconds,
    ];
    fact("summary", numbers.map(|number| number.to_string()).join(" "));
    snapshot.options.iter().for_each(|option| fact("option", option.clone()));
    fact("program", snapshot.program.clone());
    facts
}

/// The body in the unit, or the bytes.
pub fn seed_of(vector: &Vector) -> Vec<u8> {
    let is_whole = vector.input("part") == "whole";
    let body = is_whole.then(|| body_of(&keys_of(vector), UnitKind::Snapshot, &vector.bytes, 0)).flatten();
    body.unwrap_or_else(|| vector.bytes.clone())
}

fn sample() -> Snapshot {
    let list = |number, length| ChunkList { depth: 0, chunks: vec![ChunkRef { id: ChunkId([number; 32]), length }] };
    Snapshot {
        time: Time { seconds: 1_700_000_000, nanoseconds: 5 },
        written: Time::from_seconds(1_700_000_001),
        host: "host".into(),
        user: "anna".into(),
        paths: vec![b"/home/anna".to_vec()],
        label: "first".into(),
        tags: vec!["laptop".into()],
        held: false,
        root: list(0xd1, 600),
        parent: Some(ObjectId([0xee; 32])),
        original: None,
        outcome: Grade::Complete,
        problems: ChunkList::default(),
        problem_count: 0,
        deleted: ChunkList::default(),
        deleted_count: 0,
        counts: Counts { files: 3, directories: 2, others: 1, bytes: 4000 },
        summary: Summary { files_new: 3, dirs_new: 2, data_added: 4000, data_stored: 1500, ..Summary::default() },
        options: vec!["--exclude=*.tmp".into()],
        program: "packstone 0.1.0".into(),
    }
}

pub fn vectors() -> Vec<Vector> {
    let good = snapshot::encode(&keys(), &sample(), &seed("random")).unwrap();
    let root = |plain: &[u8]| root_of(ObjectKind::Snapshot, UnitKind::Snapshot, 0, b"", plain);
    let whole = |vector: Vector| with_keys(vector).with("part", "whole");
    let refused =
        |name: &str, slug: &str, comment: &str, bytes: Vec<u8>| whole(Vector::refused(name, slug, comment, bytes));
    let in_header = |name: &str, slug: &str, comment: &str, at: usize, value: u8| {
        let mut bytes = good[..HEADER_BYTES].to_vec();
        bytes[at] = value;
        refused(name, slug, comment, bytes)
    };
    let encoded = |snapshot: &Snapshot| body::encode("snapshot", snapshot).unwrap();
    let hostile = |name: &str, slug: &str, comment: &str, change: fn(&mut Snapshot)| {
        let mut snapshot = sample();
        change(&mut snapshot);
        refused(name, slug, comment, root(&framed(&encoded(&snapshot))))
    };
    let honest = encoded(&sample());
    // The time's nanoseconds, 5, stand in one byte behind the five of its seconds.
    assert_eq!(honest[..6], [252, 0, 0xe2, 0xa7, 0xca, 5]);
    let mut overlong = honest.clone();
    overlong.splice(5..6, [251, 5, 0]);
    // Outcome 0 stands between the absent original (0) and the empty list of problems (0 0).
    let at = honest.windows(33).position(|bytes| bytes[1..] == [0xee; 32]).unwrap() + 34;
    assert_eq!(honest[at - 1..at + 4], [0, 0, 0, 0, 0]);
    let mut unknown = honest.clone();
    unknown[at] = 9;
    let held = encoded(&Snapshot { held: true, ..sample() });
    // The one byte in which a held snapshot differs stands behind its tags.
    let at = honest.iter().zip(&held).position(|(one, other)| one != other).unwrap();
    assert_eq!((&honest[at - 6..at], honest[at], held[at]), (&b"laptop"[..], 0, 1));
    let mut neither = honest.clone();
    neither[at] = 2;
    let chunks = vec![ChunkRef { id: ChunkId([0xde; 32]), length: 20_000 }];
    let deleted = encoded(&Snapshot { deleted: ChunkList { depth: 0, chunks }, deleted_count: 170, ..sample() });
    let problems = |vector: Vector| vector.with("part", "problems");
    let problem = |message: &str| Problem {
        path: b"/home/anna/\xff".to_vec(),
        kind: ProblemKind::Unreadable,
        message: message.into(),
    };
    let record = |problem: &Problem| {
        let bytes = body::encode("problems", problem).unwrap();
        [&u32::try_from(bytes.len()).unwrap().to_le_bytes()[..], &bytes].concat()
    };
    let stream = [record(&problem("Permission denied")), record(&problem(""))].concat();
    let with_key = |name: &str, slug: &str, comment: &str, key: &str| {
        let mut vector = refused(name, slug, comment, good.clone());
        vector.inputs.iter_mut().find(|(name, _)| name == key).unwrap().1 = hex(&seed("another"));
        vector
    };
    let rows = [root_header(ObjectKind::Snapshot, 100, 1), vec![0; 200]].concat();
    vec![
        whole(Vector::accepted("first", "everything that a snapshot has", good.clone())),
        whole(Vector::accepted("held", "no rule may remove it", root(&framed(&held)))),
        whole(Vector::accepted("deleted", "its source lost something", root(&framed(&deleted)))),
        whole(Vector::accepted("unpadded", "a body without padding is read too", root(&framed(&honest)))),
        in_header("header-magic", "wrong-magic", "no packstone object", 7, 0),
        in_header("header-version", "unknown-version", "a later version", 8, 2),
        in_header("header-kind", "wrong-kind", "a segment's header", 9, 5),
        in_header("header-key-mode", "unknown-key-mode", "mode 2: a newer version is needed", 10, 2),
        in_header("header-suite", "unknown-suite", "a later suite", 11, 2),
        in_header("header-codec", "unknown-codec", "a later codec", 12, 2),
        in_header("header-reserved", "nonzero-reserved", "a reserved byte", 24, 1),
        in_header("header-plain-length", "out-of-range", "a body over 4 MiB", 19, 1),
        refused("header-rows", "out-of-range", "a snapshot has no table", rows),
        refused("header-alone", "truncated", "the body is missing", good[..HEADER_BYTES].to_vec()),
        with_key("other-repository", "other-repository", "opened with another repository's keys", "repository"),
        with_key("other-master", "commitment", "another master key", "master"),
        refused("flipped-plain-length", "commitment", "the header's plain length", flip(&good, 16, 0)),
        refused("flipped-codec", "commitment", "the header's codec", flip(&good, 12, 0)),
        refused("flipped-body", "tag", "one bit of the ciphertext", flip(&good, 1000, 0)),
        refused("trailing", "tag", "a byte follows", [&good[..], b"\0"].concat()),
        refused("hostile-overlong", "not-canonical", "5 ns in three bytes", root(&framed(&overlong))),
        refused(
            "hostile-trailing",
            "trailing-bytes",
            "a byte behind the body",
            root(&framed(&[&honest[..], b"\0"].concat())),
        ),
        refused(
            "hostile-padding",
            "nonzero-reserved",
            "padding that is not zero",
            root(&[framed(&honest), vec![1]].concat()),
        ),
        refused("hostile-outcome", "unknown-variant", "outcome 9: a newer version is needed", root(&framed(&unknown))),
        refused("hostile-held", "undecodable", "held is neither true nor false", root(&framed(&neither))),
        hostile("hostile-time", "out-of-range", "a second of nanoseconds", |s| s.time.nanoseconds = 1_000_000_000),
        hostile("hostile-path", "out-of-range", "a path with NUL", |s| s.paths = vec![b"/a\0".to_vec()]),
        hostile("hostile-label", "out-of-range", "a label of 4 097 bytes", |s| s.label = "x".repeat(TEXT_MAX + 1)),
        hostile("hostile-problems", "out-of-range", "problems that are not there", |s| s.problem_count = 1),
        hostile("hostile-deleted", "out-of-range", "deletions that are not there", |s| s.deleted_count = 1),
        hostile("hostile-deleted-list", "broken-rule", "a list deeper than it needs be", |s| s.deleted.depth = 1),
        hostile("hostile-root", "broken-rule", "a root list deeper than it needs be", |s| s.root.depth = 1),
        problems(Vector::accepted("problems", "two records", stream.clone())),
        problems(Vector::refused(
            "problems-truncated",
            "truncated",
            "a byte is missing",
            stream[..stream.len() - 1].to_vec(),
        )),
        problems(Vector::refused(
            "problems-message",
            "out-of-range",
            "a message of 4 097 bytes",
            record(&problem(&"x".repeat(TEXT_MAX + 1))),
        )),
    ]
}
