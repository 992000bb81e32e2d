#![no_main]
//! Segments: clear tables from raw bytes, and any table and body behind an authentic seal.

mod common;

use common::{KEYS, REPOSITORY, root};
use libfuzzer_sys::fuzz_target;
use packstone::codec::ObjectKind;
use packstone::codec::segment::{self, ROW_BYTES, Segment, SegmentTable};
use packstone::codec::unit::UnitKind;

// The last byte of the input is the number of rows.
fuzz_target!(|data: &[u8]| {
    let Some((rows, data)) = data.split_last() else { return };
    let _ = SegmentTable::parse(data, REPOSITORY);
    assert!(Segment::open(&KEYS, data.to_vec()).is_err());
    let Some((table, body)) = data.split_at_checked(usize::from(*rows) * ROW_BYTES) else { return };
    let bytes = root(ObjectKind::Segment, UnitKind::Segment, (*rows).into(), table, body);
    let parsed = SegmentTable::parse(&bytes, REPOSITORY);
    if let Ok(segment) = Segment::open(&KEYS, bytes) {
        assert_eq!(parsed.expect("opened").packs.len(), segment.packs.len());
        let again = segment::encode(&KEYS, segment.clone(), &[0; 32]).expect("was read");
        assert_eq!(Segment::open(&KEYS, again).expect("was written"), segment);
    }
});
