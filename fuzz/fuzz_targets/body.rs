#![no_main]
//! Bodies: nothing panics, nothing takes more memory than its limit, and what decodes encodes to the same bytes.

use bincode::{Decode, Encode};
use libfuzzer_sys::fuzz_target;
use packstone::codec::body;

const LIMIT: usize = 1 << 20;

fn check<T: Decode<()> + Encode>(data: &[u8]) {
    if let Ok(value) = body::decode::<T, LIMIT>("fuzz", data) {
        assert_eq!(body::encode("fuzz", &value).expect("was decoded"), data);
    }
}

fuzz_target!(|data: &[u8]| {
    check::<u64>(data);
    check::<(i64, u32, bool)>(data);
    check::<Vec<u8>>(data);
    check::<Vec<(u64, Option<Vec<u8>>)>>(data);
    check::<Vec<Vec<Vec<u64>>>>(data);
    check::<(String, [u8; 32], Vec<String>)>(data);
});
