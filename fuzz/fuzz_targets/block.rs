#![no_main]
//! Blocks: raw bytes, and any content behind an authentic seal, as it is and as a frame.

mod common;

use common::{KEYS, sealed};
use libfuzzer_sys::fuzz_target;
use packstone::codec::block;
use packstone::codec::compress::{Compressor, Decompressor};
use packstone::codec::pack::PackKind;
use packstone::codec::unit::{Codec, UnitKind};

// The last four bytes of the input are the plain length, below 1 MiB.
fuzz_target!(|data: &[u8]| {
    let Some((content, plain_length)) = data.split_last_chunk() else { return };
    let plain_length = u32::from_le_bytes(*plain_length) % (1 << 20);
    let mut decompressor = Decompressor::new().expect("memory");
    for codec in [Codec::Stored, Codec::Zstd] {
        let mut raw = content.to_vec();
        assert!(block::open(&KEYS, PackKind::Data, &mut decompressor, codec, plain_length, &mut raw).is_err());
        let mut unit = sealed(UnitKind::DataBlock, codec, plain_length, b"", content);
        if let Ok(plain) = block::open(&KEYS, PackKind::Data, &mut decompressor, codec, plain_length, &mut unit) {
            assert_eq!(plain.len(), plain_length as usize);
        }
    }
    if !content.is_empty() {
        let mut compressor = Compressor::new(1).expect("memory");
        let mut block = block::seal(&KEYS, PackKind::Tree, &mut compressor, content, &[0; 32]).expect("short");
        let length = content.len() as u32;
        let plain = block::open(&KEYS, PackKind::Tree, &mut decompressor, block.codec, length, &mut block.bytes);
        assert_eq!(plain.expect("just sealed"), content);
    }
});
