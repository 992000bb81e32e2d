#![no_main]
//! Cutting: the pieces are the whole, keep to their lengths, and do not depend on the reads.

mod common;

use libfuzzer_sys::fuzz_target;
use packstone::codec::chunker::{Cutter, Parameters};

const PARAMETERS: Parameters = Parameters { min: 64, average: 256, max: 1024 };

// The last two bytes of the input are the length of the reads.
fuzz_target!(|data: &[u8]| {
    let Some((data, read)) = data.split_last_chunk() else { return };
    let read = usize::from(u16::from_le_bytes(*read)).max(1);
    let cutter = Cutter::new(common::KEYS.gear(), PARAMETERS).expect("valid");
    let (mut start, mut end) = (0, 0);
    loop {
        let at_end = end == data.len();
        match cutter.next(&data[start..end], at_end) {
            Some(length) => {
                assert!(length <= PARAMETERS.max as usize);
                assert!(length >= PARAMETERS.min as usize || start + length == data.len());
                assert_eq!(cutter.next(&data[start..], true), Some(length));
                start += length;
            }
            None if at_end => break,
            None => end = data.len().min(end + read),
        }
    }
    assert_eq!(start, data.len());
});
