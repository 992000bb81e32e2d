#![no_main]
//! Snapshots and lists of problems: raw bytes, and any body behind an authentic seal.

mod common;

use common::{KEYS, root};
use libfuzzer_sys::fuzz_target;
use packstone::codec::ObjectKind;
use packstone::codec::snapshot::{self, ProblemReader};
use packstone::codec::unit::UnitKind;

fuzz_target!(|data: &[u8]| {
    assert!(snapshot::open(&KEYS, data.to_vec()).is_err());
    let bytes = root(ObjectKind::Snapshot, UnitKind::Snapshot, 0, b"", data);
    if let Ok(snapshot) = snapshot::open(&KEYS, bytes) {
        let again = snapshot::encode(&KEYS, &snapshot, &[0; 32]).expect("was read");
        assert_eq!(snapshot::open(&KEYS, again).expect("was written"), snapshot);
    }
    let (mut reader, mut stream) = (ProblemReader::new(), Vec::new());
    reader.push(data);
    while let Ok(Some(problem)) = reader.next() {
        snapshot::encode_problem(&problem, &mut stream).expect("was read");
    }
    assert!(data.starts_with(&stream));
});
