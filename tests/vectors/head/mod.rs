//! Vectors of the head. They are built byte by byte ([`raw`]), not by the program's own writer: most say what it never
//! would.

mod raw;

use ed25519_dalek::Signer;
use packstone::base::id::RepositoryId;
use packstone::codec::config::Config;
use packstone::codec::head::{Head, LiveState, check_succession};
use packstone::codec::key_tree::MasterKey;

use crate::config::{config, verifying_key};
use crate::file::{Outcome, Vector, flip, hex, seed};
use raw::{REPLACED, Raw, emptied, first, full, id, list, malleated, mark, name, patched, second, signing, third};

/// Verifies the head; with a `previous` line also that it follows that head; then resolves it with the `checkpoint`.
pub fn read(vector: &Vector) -> Outcome {
    let (key, repository) = (vector.input_32("verifying-key"), RepositoryId(vector.input_32("repository")));
    let other =
        |name: &str| vector.input_if_any(name).map(|_| Head::parse(&vector.input_hex(name), &key, repository).unwrap());
    let (checkpoint, previous) = (other("checkpoint"), other("previous"));
    let head = Head::parse(&vector.bytes, &key, repository)?;
    if let Some(previous) = &previous {
        check_succession(previous, &head)?;
    }
    let state = head.resolve(checkpoint.as_ref())?;
    if let (Some(previous), Some(before)) = (&previous, &checkpoint) {
        let before = previous.resolve(Some(before))?;
        before.check_transition(&state).map_err(|reason| packstone::codec::Error::new("head", reason))?;
    }
    let LiveState { slots, segments, snapshots, marked, swept, ancestors } = &state;
    let mut facts = vec![
        ("id".into(), head.reference().id.to_string()),
        ("generation".into(), head.generation().to_string()),
        ("checkpoint".into(), format!("{} {}", head.checkpoint().generation, head.checkpoint().id)),
        ("time".into(), head.time().seconds.to_string()),
        ("digest".into(), hex(head.digest())),
    ];
    let mut fact = |name: &str, value: String| facts.push((name.into(), value));
    slots.iter().for_each(|id| fact("slot", id.to_string()));
    segments.iter().for_each(|(id, length)| fact("segment", format!("{id} {length}")));
    snapshots.iter().for_each(|(id, entry)| fact("snapshot", format!("{id} {} {}", entry.length, entry.arrival)));
    marked.iter().for_each(|(id, mark)| {
        let replaced = if mark.replaced { " replaced" } else { "" };
        fact("marked", format!("{id} {} {} {} {}{replaced}", mark.kind as u8, mark.since, mark.time, mark.arrival));
    });
    swept.iter().for_each(|(id, sweep)| fact("swept", format!("{id} {} {}", sweep.kind as u8, sweep.since)));
    ancestors.iter().for_each(|ancestor| fact("ancestor", hex(ancestor)));
    Ok(facts)
}

pub fn vectors() -> Vec<Vector> {
    let keys = |vector: Vector| {
        vector.with_hex("verifying-key", &verifying_key("master")).with_hex("repository", &Config::id(&config()).0)
    };
    let alone =
        |name: &str, slug: &str, comment: &str, bytes: Vec<u8>| keys(Vector::refused(name, slug, comment, bytes));
    let based = |vector: Vector, base: &Raw| keys(vector).with_hex("checkpoint", &base.sign());
    let on_first = |name: &str, slug: &str, comment: &str, bytes: Vec<u8>| {
        based(Vector::refused(name, slug, comment, bytes), &first())
    };
    let after_second = |name: &str, slug: &str, comment: &str, bytes: Vec<u8>| {
        on_first(name, slug, comment, bytes).with_hex("previous", &second().sign())
    };
    // A section of the second head exchanged, in the head and in the state it makes.
    let second_with = |index: usize, body: Vec<u8>| {
        let mut sections = second().sections;
        sections[index].1 = body;
        second().with_sections(sections.clone(), sections)
    };
    let second_plus = |section: u16, body: Vec<u8>| {
        let mut sections = second().sections;
        let at = sections.iter().position(|(other, _)| *other > section).unwrap_or(sections.len());
        sections.insert(at, (section, body));
        second().with_sections(sections, second().state)
    };
    let both_lists = |section: u16, label: &str, numbers: &[u64]| {
        let mut sections = second().sections;
        match sections.iter_mut().find(|(other, _)| *other == section) {
            Some((_, body)) => *body = list(&[("pack 1", &mark(2, 2, 0)), (label, numbers)]),
            None => sections.insert(4, (section, list(&[(label, numbers)]))),
        }
        second().with_sections(sections.clone(), sections)
    };
    let good = first().sign();
    let signed_by = |raw: &Raw, master: &str| raw.sign_by(&MasterKey::new(seed(master)).signing_key());
    let mut vectors = vec![
        keys(Vector::accepted("first", "the head of a new repository: a checkpoint", good.clone())),
        based(Vector::accepted("second", "a difference to the first", second().sign()), &first()),
        based(Vector::accepted("third", "the next, still relative to the first", third().sign()), &first())
            .with_hex("previous", &second().sign()),
        keys(Vector::accepted("checkpoint", "everything in full", full().sign())),
        based(Vector::accepted("emptied", "removes from every list", emptied().sign()), &full())
            .with_hex("previous", &full().sign()),
        based(
            Vector::accepted(
                "optional-section",
                "an unknown section that may be skipped",
                second_plus(0x8000, vec![1]),
            ),
            &first(),
        ),
        keys(Vector::accepted(
            "features",
            "unknown write and move features: readable",
            first().with(|raw| raw.features = [0, 1, 2]),
        )),
        alone("empty", "truncated", "no bytes", Vec::new()),
        alone("magic", "wrong-magic", "one bit of the magic", flip(&good, 3, 1)),
        alone("version", "unknown-version", "version 2", {
            let mut bytes = good.clone();
            bytes[8] = 2;
            bytes
        }),
        alone("kind", "wrong-kind", "the kind of a segment", {
            let mut bytes = good.clone();
            bytes[9] = 5;
            bytes
        }),
        alone("truncated", "wrong-length", "the last byte is missing", good[..good.len() - 1].to_vec()),
        alone("extended", "wrong-length", "a byte follows", [&good[..], &[0]].concat()),
        alone("too-short", "truncated", "a total length that leaves no room for the signature", {
            let mut bytes = good[..287].to_vec();
            bytes[12..16].copy_from_slice(&287_u32.to_le_bytes());
            bytes
        }),
        alone(
            "other-repository",
            "other-repository",
            "rightly signed, for another repository",
            first().with(|raw| raw.repository = id("other")),
        ),
        alone("other-signer", "other-signer", "names and is signed by another key", {
            let mut raw = first();
            raw.signer = verifying_key("foreign");
            signed_by(&raw, "foreign")
        }),
        alone("forged", "signature", "names our key, signed by another", signed_by(&first(), "foreign")),
        alone("no-context", "signature", "signed without the context string", {
            let body = first().body();
            [&body[..], &signing().sign(&body).to_bytes()].concat()
        }),
        alone("signature-flipped", "signature", "one bit of the signature", flip(&good, good.len() - 1, 0)),
        alone(
            "signature-malleated",
            "signature",
            "the group order added to S: the same signature in another encoding",
            malleated(&good),
        ),
        alone("nonzero-flag", "nonzero-reserved", "an unknown flag, signed", first().with(|raw| raw.flags = 3)),
        alone(
            "nonzero-reserved",
            "nonzero-reserved",
            "the reserved byte, signed",
            first().with(|raw| raw.reserved = 1),
        ),
        alone(
            "read-feature",
            "unknown-feature",
            "a read feature of a later version",
            first().with(|raw| raw.features[0] = 1),
        ),
        alone(
            "generation-zero",
            "out-of-range",
            "generations begin with 1",
            first().with(|raw| {
                (raw.generation, raw.checkpoint.0) = (0, 0);
            }),
        ),
        alone(
            "first-with-previous",
            "wrong-previous",
            "the first head has none before it",
            first().with(|raw| raw.previous = id("x")),
        ),
        on_first(
            "second-without-previous",
            "wrong-previous",
            "every later head has one",
            second().with(|raw| raw.previous = [0; 32]),
        ),
        alone(
            "checkpoint-of-another",
            "wrong-checkpoint",
            "a checkpoint names itself",
            full().with(|raw| raw.checkpoint.0 = 3),
        ),
        on_first(
            "checkpoint-later",
            "wrong-checkpoint",
            "a checkpoint from the future",
            second().with(|raw| raw.checkpoint.0 = 2),
        ),
        based(
            Vector::refused(
                "checkpoint-exchanged",
                "wrong-checkpoint",
                "another checkpoint than the one named",
                second().sign(),
            ),
            &full(),
        ),
        alone(
            "no-slots",
            "no-slots",
            "nobody could open it again",
            first().with_sections(vec![(11, config().to_vec())], Vec::new()),
        ),
        alone("many-slots", "out-of-range", "17 slots", {
            let labels: Vec<String> = (0..17).map(|n| format!("slot {n}")).collect();
            let entries: Vec<(&str, &[u64])> = labels.iter().map(|label| (label.as_str(), &[][..])).collect();
            let slots = (1, list(&entries));
            first().with_sections(vec![slots.clone(), (11, config().to_vec())], vec![slots])
        }),
        alone(
            "no-config",
            "missing-section",
            "a checkpoint without the config",
            first().with(|raw| drop(raw.sections.pop())),
        ),
        alone(
            "no-config-but-optional",
            "missing-section",
            "a checkpoint whose last section is an optional one, in place of the config",
            first().with(|raw| {
                raw.sections.pop();
                raw.sections.push((0x8000, vec![1]));
            }),
        ),
        alone(
            "other-config",
            "other-repository",
            "a checkpoint with another config",
            first().with(|raw| raw.sections[1].1[88] ^= 1),
        ),
        on_first(
            "config-in-difference",
            "misplaced-section",
            "only checkpoints carry the config",
            second_plus(11, config().to_vec()),
        ),
        alone("removal-in-checkpoint", "misplaced-section", "a checkpoint removes nothing", {
            let mut sections = full().sections;
            sections.insert(2, (3, id("x").to_vec()));
            full().with_sections(sections, full().state)
        }),
        on_first("records", "unknown-section", "section 12 is reserved", second_plus(12, vec![0; 32])),
        on_first("places", "unknown-section", "section 13 is reserved", second_plus(13, vec![0; 32])),
        on_first(
            "last-mandatory",
            "unknown-section",
            "section 0x7fff is not optional",
            second_plus(0x7fff, Vec::from([1])),
        ),
        on_first("empty-section", "misplaced-section", "empty sections are left out", second_plus(8, Vec::new())),
        on_first(
            "section-twice",
            "misplaced-section",
            "two sections of segments",
            second_plus(2, list(&[("x", &[1])])),
        ),
        on_first(
            "section-order",
            "misplaced-section",
            "sections out of order",
            second().with(|raw| raw.sections.swap(1, 2)),
        ),
        on_first("section-type-zero", "misplaced-section", "there is no section 0", second_plus(0, vec![1])),
        on_first(
            "section-reserved",
            "nonzero-reserved",
            "reserved bytes of a section's header",
            patched(&second(), 224 + 2, &[1]),
        ),
        on_first(
            "section-overlong",
            "truncated",
            "a section longer than the head",
            patched(&second(), 224 + 4, &[0xff; 4]),
        ),
        on_first(
            "section-cut",
            "truncated",
            "a list that ends within an entry",
            second_with(1, list(&[("segment 1", &[1000])])[..39].to_vec()),
        ),
        on_first("ancestor-cut", "truncated", "ancestors that end within one", second_with(4, vec![0; 7])),
        on_first("unsorted", "not-ascending", "segments in descending order", {
            let sorted = list(&[("segment 1", &[1000]), ("segment 2", &[2000])]);
            second_with(1, [&sorted[40..], &sorted[..40]].concat())
        }),
        on_first(
            "duplicate",
            "not-ascending",
            "the same segment twice",
            second_with(1, list(&[("segment 1", &[1]), ("segment 1", &[1])])),
        ),
        on_first(
            "mark-kind",
            "out-of-range",
            "a marked object of kind 5",
            second_with(3, list(&[("pack 1", &mark(5, 2, 0))])),
        ),
        on_first(
            "mark-reserved",
            "nonzero-reserved",
            "reserved bytes of a mark",
            second_with(3, list(&[("pack 1", &mark(0x1_0002, 2, 0))])),
        ),
        on_first(
            "mark-flag",
            "nonzero-reserved",
            "a second flag of a mark",
            second_with(3, list(&[("pack 1", &mark(0x202, 2, 0))])),
        ),
        on_first(
            "mark-replaced-slot",
            "out-of-range",
            "a slot that was replaced",
            second_with(3, list(&[("slot 2", &mark(1 | REPLACED, 2, 0))])),
        ),
        on_first(
            "mark-replaced-snapshot",
            "out-of-range",
            "a snapshot that was replaced",
            second_with(3, list(&[("snapshot 2", &mark(4 | REPLACED, 2, 1))])),
        ),
        on_first(
            "mark-arrival-pack",
            "out-of-range",
            "a pack with an arrival",
            second_with(3, list(&[("pack 1", &mark(2, 2, 1))])),
        ),
        on_first(
            "mark-arrival-late",
            "out-of-range",
            "a marked snapshot that arrived with its mark",
            second_with(3, list(&[("snapshot 2", &mark(4, 2, 2))])),
        ),
        on_first(
            "mark-late",
            "out-of-range",
            "marked by a head that does not exist yet",
            second_with(3, list(&[("pack 1", &mark(2, 3, 0))])),
        ),
        on_first(
            "arrival-late",
            "out-of-range",
            "a snapshot that arrives later",
            second_with(2, list(&[("snapshot 1", &[500, 3])])),
        ),
        on_first(
            "mark-live-segment",
            "live-marked",
            "a mark of a live segment",
            both_lists(6, "segment 1", &mark(3, 2, 0)),
        ),
        on_first("mark-live-slot", "live-marked", "a mark of a live slot", both_lists(6, "slot", &mark(1, 2, 0))),
        on_first(
            "sweep-live-snapshot",
            "live-marked",
            "a sweep of a live snapshot",
            both_lists(8, "snapshot 1", &[4, 0]),
        ),
        on_first("marked-and-swept", "live-marked", "on both lists", both_lists(8, "pack 1", &[2, 0])),
        based(
            Vector::refused(
                "add-live",
                "already-listed",
                "adds a segment that the checkpoint has",
                emptied().with(|raw| {
                    raw.sections[1] = (2, list(&[("segment 1", &[1000])]));
                }),
            ),
            &full(),
        ),
        based(
            Vector::refused(
                "remove-absent",
                "not-listed",
                "removes a segment that the checkpoint lacks",
                emptied().with(|raw| {
                    raw.sections[1].1 = list(&[("segment 9", &[])]);
                }),
            ),
            &full(),
        ),
        based(
            Vector::refused(
                "replace-by-same",
                "already-listed",
                "removes a snapshot and adds it unchanged",
                emptied().with(|raw| {
                    raw.sections.insert(2, (4, list(&[("snapshot 1", &[500, 2])])));
                }),
            ),
            &full(),
        ),
        on_first(
            "wrong-digest",
            "wrong-digest",
            "the digest of another state",
            second().with(|raw| raw.state = first().state),
        ),
        on_first("ancestors-missing", "wrong-ancestors", "no ancestor listed", {
            let mut sections = second().sections;
            sections.pop();
            second().with_sections(sections.clone(), sections)
        }),
        on_first(
            "ancestors-other",
            "wrong-ancestors",
            "another head than the previous one",
            second_with(4, id("x")[..8].to_vec()),
        ),
        after_second(
            "skipped-generation",
            "wrong-previous",
            "generation 4 after 2",
            third().with(|raw| raw.generation = 4),
        ),
        after_second(
            "fork",
            "wrong-previous",
            "follows another head of generation 2",
            third().with(|raw| raw.previous = id("x")),
        ),
        after_second(
            "checkpoint-changed",
            "wrong-checkpoint",
            "neither a checkpoint nor relative to the same one",
            third().with(|raw| {
                raw.checkpoint = (2, name(&second().sign()));
            }),
        ),
        after_second("sweep-unmarked", "wrong-transition", "sweeps what no head had marked", {
            let mut sections = third().sections;
            sections[4].1 = list(&[("pack 2", &[2, 0])]);
            third().with_sections(sections.clone(), sections)
        }),
    ];
    let growing = second().with(|raw| raw.features = [0, 0, 2]);
    let mut shrunk = third();
    shrunk.previous = name(&growing);
    vectors.push(
        on_first("shrunk-features", "shrunk-features", "takes a feature back", shrunk.sign())
            .with_hex("previous", &growing),
    );
    vectors
}
