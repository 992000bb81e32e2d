#![no_main]
//! Listings and chunk lists: the same however the stream is cut, and what is read encodes to the same bytes.

use libfuzzer_sys::fuzz_target;
use packstone::codec::tree::{ChunkRefReader, Entry, EntryReader, encode_entry};

fn read(data: &[u8], piece: usize) -> (Vec<Entry>, bool) {
    let (mut reader, mut entries) = (EntryReader::new(), Vec::new());
    for bytes in data.chunks(piece) {
        reader.push(bytes);
        loop {
            match reader.next() {
                Ok(Some(entry)) => entries.push(entry),
                Ok(None) => break,
                Err(_) => return (entries, false),
            }
        }
    }
    (entries, reader.finish().is_ok())
}

// The last byte of the input is the length of the pieces.
fuzz_target!(|data: &[u8]| {
    let Some((piece, data)) = data.split_last() else { return };
    let piece = usize::from(*piece).max(1);
    let (entries, is_whole) = read(data, data.len().max(1));
    assert_eq!(read(data, piece), (entries.clone(), is_whole));
    let mut stream = Vec::new();
    for entry in &entries {
        encode_entry(entry, &mut stream).expect("was read");
        assert!(!entry.name.contains(&b'/') && entry.name != b"..");
    }
    assert!(data.starts_with(&stream) && (!is_whole || stream == data));

    let (mut reader, mut records) = (ChunkRefReader::new(), Vec::new());
    for bytes in data.chunks(piece) {
        reader.push(bytes);
        while let Ok(Some(chunk)) = reader.next() {
            chunk.write(&mut records);
        }
    }
    let _ = reader.finish();
    assert!(records.len() <= data.len());
});
