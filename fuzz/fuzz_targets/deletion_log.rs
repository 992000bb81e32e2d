#![no_main]
//! Logs of deletions: the same however the stream is cut, and what is read encodes to the same bytes.

use libfuzzer_sys::fuzz_target;
use packstone::codec::deletion_log::{Deletion, DeletionReader, encode_deletion};

fn read(data: &[u8], piece: usize) -> (Vec<Deletion>, bool) {
    let (mut reader, mut deletions) = (DeletionReader::new(), Vec::new());
    for bytes in data.chunks(piece) {
        // A new reader goes on where the last one stopped.
        let mut next = DeletionReader::new();
        next.push(reader.begun());
        next.push(bytes);
        loop {
            match next.next() {
                Ok(Some(deletion)) => deletions.push(deletion),
                Ok(None) => break,
                Err(_) => return (deletions, false),
            }
        }
        reader = next;
    }
    (deletions, reader.finish().is_ok())
}

// The last byte of the input is the length of the pieces.
fuzz_target!(|data: &[u8]| {
    let Some((piece, data)) = data.split_last() else { return };
    let (deletions, is_whole) = read(data, data.len().max(1));
    assert_eq!(read(data, usize::from(*piece).max(1)), (deletions.clone(), is_whole));
    let mut stream = Vec::new();
    for deletion in &deletions {
        encode_deletion(deletion, &mut stream).expect("was read");
        assert!(deletion.path.split(|byte| *byte == b'/').all(|name| !matches!(name, b"" | b"." | b"..")));
    }
    assert!(data.starts_with(&stream) && (!is_whole || stream == data));
});
