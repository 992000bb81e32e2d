//! Many entries, and many names of one file.

use std::fs;

use crate::world::{World, is_full};

/// What one changed file may cost in a directory of 300,000 entries, in bytes.
const BYTES_MAX: u64 = 200_000;
/// Bytes of a listing's entry in the list of its chunks: an id and a length for about 64 KiB, or 400 entries.
const LIST_BYTES_PER_ENTRY: f64 = 36.0 / 400.0;

#[test]
fn one_changed_file_in_a_huge_directory_costs_little() {
    let entries = if is_full() { 300_000 } else { 30_000 };
    let world = World::new();
    let folder = world.tree.join("huge");
    fs::create_dir(&folder).unwrap();
    for number in 0..entries {
        fs::write(folder.join(format!("message-{number:06}.eml")), []).unwrap();
    }
    world.write("huge/message-000007.eml", b"before");
    let first = world.backup();
    assert_eq!(first.counts.files, entries);
    // What grows with the directory is the list of its chunks: a smaller one must cost that much less.
    let less = ((300_000 - entries) as f64 * LIST_BYTES_PER_ENTRY) as u64;
    for round in 0..3_u64 {
        let before = world.stored();
        world.write(&format!("huge/message-{:06}.eml", entries / 2 + round), b"after");
        let report = world.backup();
        let bytes = world.stored() - before;
        println!("one file in {entries} changed: {bytes} bytes stored, {} read", report.summary.bytes_read);
        assert!(bytes < BYTES_MAX - less, "{bytes} bytes stored");
    }
    let before = world.stored();
    let report = world.backup();
    println!("nothing in {entries} changed: {} bytes stored", world.stored() - before);
    assert_eq!((report.written.data_chunks, report.written.tree_chunks), (0, 0));
}

#[test]
fn many_names_of_one_file_are_stored_once() {
    let world = World::new();
    let content: Vec<u8> =
        (0..1_000_000_u32).flat_map(|number| blake3::hash(&number.to_le_bytes()).as_bytes()[..1].to_vec()).collect();
    world.write("one", &content);
    for number in 0..200 {
        fs::hard_link(world.tree.join("one"), world.tree.join(format!("name-{number}"))).unwrap();
    }
    let before = world.stored();
    let report = world.backup();
    let bytes = world.stored() - before;
    println!("one file of 1,000,000 bytes with 201 names: {bytes} bytes stored, {} read", report.summary.bytes_read);
    assert_eq!(report.summary.bytes_read, 1_000_000);
    assert!(bytes < 1_300_000, "{bytes} bytes stored");
    let files = world.files(report.snapshot.unwrap());
    assert_eq!(files.len(), 201);
    assert!(files.values().all(|found| *found == content));
}
