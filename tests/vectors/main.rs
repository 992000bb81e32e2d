//! The vectors of `format-spec/vectors/`: one scenario a file, each made by a short generator here, read by the parser
//! of its structure, and compared. format-spec/README.md, "Vectors".
//!
//! For every structure there is a [`Structure`] with its generators (deterministic: no clock, no randomness) and one
//! function that reads a vector as a stranger would: from the file's header lines and bytes only. A normal run demands
//! that the generators make exactly the files that are there, that every file is read with the outcome it expects, and
//! that no file lacks a generator. `PACKSTONE_WRITE_VECTORS=1 cargo test --test vectors` writes the files anew; look
//! at the difference before committing it: a changed vector is a changed format.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod block;
mod body;
mod chunker;
mod config;
mod deletion_log;
mod file;
mod head;
mod key_slot;
mod key_tree;
mod pack;
mod recovery_code;
mod seal;
mod segment;
mod snapshot;
mod tree;
mod unit;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use file::{Expect, Vector};

/// One stored structure and its vectors.
struct Structure {
    /// The folder under `format-spec/vectors/`; also the name of the spec page, the codec module and the fuzz target.
    name: &'static str,
    /// Makes all its vectors.
    vectors: fn() -> Vec<Vector>,
    /// Reads one; on success the facts that the `result` lines state.
    read: fn(&Vector) -> file::Outcome,
    /// What its fuzz target starts from: the bytes, or what is in them, with the parameters that the target wants.
    seed: fn(&Vector) -> Vec<u8>,
}

/// Every structure that has vectors.
#[rustfmt::skip]
const STRUCTURES: &[Structure] = &[
    Structure { name: "key_tree", vectors: key_tree::vectors, read: key_tree::read, seed: file::bytes_of },
    Structure { name: "unit", vectors: unit::vectors, read: unit::read, seed: file::bytes_of },
    Structure { name: "body", vectors: body::vectors, read: body::read, seed: file::bytes_of },
    Structure { name: "chunker", vectors: chunker::vectors, read: chunker::read, seed: chunker::seed_of },
    Structure { name: "block", vectors: block::vectors, read: block::read, seed: block::seed_of },
    Structure { name: "pack", vectors: pack::vectors, read: pack::read, seed: pack::seed_of },
    Structure { name: "tree", vectors: tree::vectors, read: tree::read, seed: tree::seed_of },
    Structure { name: "segment", vectors: segment::vectors, read: segment::read, seed: segment::seed_of },
    Structure { name: "snapshot", vectors: snapshot::vectors, read: snapshot::read, seed: snapshot::seed_of },
    Structure { name: "deletion_log", vectors: deletion_log::vectors, read: deletion_log::read, seed: deletion_log::seed_of },
    Structure { name: "config", vectors: config::vectors, read: config::read, seed: file::bytes_of },
    Structure { name: "key_slot", vectors: key_slot::vectors, read: key_slot::read, seed: file::bytes_of },
    Structure { name: "head", vectors: head::vectors, read: head::read, seed: file::bytes_of },
    Structure { name: "recovery_code", vectors: recovery_code::vectors, read: recovery_code::read, seed: file::bytes_of },
];

/// Longest vector that also is a fuzzing seed, in bytes: longer ones slow the fuzzer down.
const SEED_BYTES_MAX: usize = 64 << 10;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("format-spec/vectors")
}

/// True when the variable asks to write the files anew.
fn writes() -> bool {
    std::env::var_os("PACKSTONE_WRITE_VECTORS").is_some()
}

/// Every `<structure>/<name>.txt` that lies in the folder.
fn files_present() -> BTreeSet<String> {
    let mut present = BTreeSet::new();
    for structure in fs::read_dir(folder()).unwrap().map(Result::unwrap) {
        for vector in fs::read_dir(structure.path()).unwrap().map(Result::unwrap) {
            let name = format!("{}/{}", structure.file_name().display(), vector.file_name().display());
            present.insert(name);
        }
    }
    present
}

#[test]
fn every_vector_is_what_its_generator_makes_and_is_read_as_expected() {
    let write = writes();
    let mut generated = BTreeSet::new();
    for structure in STRUCTURES {
        let directory = folder().join(structure.name);
        if write {
            let _ = fs::remove_dir_all(&directory);
            fs::create_dir_all(&directory).unwrap();
        }
        for vector in (structure.vectors)() {
            let name = format!("{}/{}.txt", structure.name, vector.name);
            assert!(generated.insert(name.clone()), "{name}: two generators make it");
            let outcome = (structure.read)(&vector);
            let met = match (&vector.expect, &outcome) {
                (Expect::Accepted, Ok(_)) => true,
                (Expect::Refused(slug), Err(error)) => error.reason.slug() == slug,
                _ => false,
            };
            assert!(met, "{name}: expected {:?}, found {outcome:?}", vector.expect);
            let text = vector.render(structure.name, &outcome);
            if write {
                fs::write(directory.join(format!("{}.txt", vector.name)), &text).unwrap();
            }
            let present = fs::read_to_string(folder().join(&name)).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(present, text, "{name}: the file differs from what its generator makes");
            // What a stranger has is the file alone: it must say everything that reading needs.
            let parsed = Vector::parse(structure.name, &vector.name, &present);
            assert_eq!(parsed, vector, "{name}: does not parse to what was rendered");
            assert_eq!((structure.read)(&parsed), outcome, "{name}: is read otherwise from its file");
        }
    }
    let orphans: Vec<_> = files_present().difference(&generated).cloned().collect();
    assert!(orphans.is_empty(), "vectors without a generator: {orphans:?}");
}

#[test]
fn most_vectors_are_refused() {
    let vectors: Vec<Vector> = STRUCTURES.iter().flat_map(|structure| (structure.vectors)()).collect();
    let refused = vectors.iter().filter(|vector| vector.expect != Expect::Accepted).count();
    println!("{} vectors, {refused} of them refused", vectors.len());
    assert!(refused * 2 > vectors.len(), "{refused} of {} refused", vectors.len());
}

/// `fuzz/seeds/<structure>/<name>` holds the seed of each vector whose structure has a fuzz target.
#[test]
fn the_fuzzer_starts_from_the_vectors() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    for structure in STRUCTURES {
        if !fuzz.join(format!("fuzz_targets/{}.rs", structure.name)).exists() {
            continue;
        }
        let directory = fuzz.join("seeds").join(structure.name);
        if writes() {
            let _ = fs::remove_dir_all(&directory);
            fs::create_dir_all(&directory).unwrap();
        }
        let mut expected = BTreeSet::new();
        for vector in (structure.vectors)() {
            let seed = (structure.seed)(&vector);
            if seed.len() > SEED_BYTES_MAX {
                continue;
            }
            let path = directory.join(&vector.name);
            if writes() {
                fs::write(&path, &seed).unwrap();
            }
            let present = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            assert!(present == seed, "{} differs from its vector", path.display());
            expected.insert(vector.name);
        }
        let found = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().file_name().display().to_string());
        assert_eq!(found.collect::<BTreeSet<_>>(), expected, "{}", directory.display());
    }
}
