#![no_main]
//! Packs: header and footer from raw bytes, and any directory behind an authentic seal.

mod common;

use common::{KEYS, REPOSITORY, sealed};
use libfuzzer_sys::fuzz_target;
use packstone::codec::pack::{self, FOOTER_BYTES, HEADER_BYTES, PackDirectory, PackKind};
use packstone::codec::unit::{Codec, UnitKind};
use packstone::codec::wire::MAGIC;

fn any_directory(data: &[u8], body_length: u32) -> Option<PackDirectory> {
    let (plain_length, unit_length) = (data.len() as u32, data.len() as u32 + 80);
    let total = HEADER_BYTES as u64 + u64::from(body_length) + u64::from(unit_length) + FOOTER_BYTES as u64;
    let mut footer = [unit_length, plain_length, 0, 0].map(u32::to_le_bytes).concat();
    footer.extend(total.to_le_bytes());
    footer.extend(MAGIC);
    let parsed = pack::parse_footer(&footer, total).ok()?;
    let clear = [pack::header(PackKind::Tree, REPOSITORY), footer].concat();
    let mut unit = sealed(UnitKind::TreeDirectory, Codec::Stored, plain_length, &clear, data);
    let directory = pack::open_directory(&KEYS, PackKind::Tree, &parsed, &mut unit).ok()?;
    assert_eq!(directory.body_length(), parsed.directory_offset);
    Some(directory)
}

// The last four bytes of the input are a length: of the pack, or of its blocks.
fuzz_target!(|data: &[u8]| {
    let Some((data, number)) = data.split_last_chunk() else { return };
    let number = u32::from_le_bytes(*number);
    let _ = pack::parse_header(data, REPOSITORY);
    for total in [data.len() as u64, u64::from(number)] {
        let start = data.len().saturating_sub(FOOTER_BYTES);
        if let Ok(footer) = pack::parse_footer(&data[start..], total) {
            assert!(footer.directory_offset + u64::from(footer.directory_length) < total);
            let _ = pack::open_directory(&KEYS, PackKind::Data, &footer, &mut data.to_vec());
            let _ = pack::check_padding(&footer, data);
        }
    }
    if let Some(directory) = any_directory(data, number % (1 << 28)) {
        let placed = directory.placed().last().map(|(offset, block)| offset + u64::from(block.stored_length));
        assert_eq!(placed, Some(directory.body_length()));
        let _ = pack::finish(&KEYS, PackKind::Tree, &directory, directory.body_length(), &[0; 32]);
    }
});
