//! Content-defined cutting. format-spec/chunker.md.

use zeroize::{Zeroize, ZeroizeOnDrop};

/// The gear table of one repository: 256 numbers, and the same shifted left by one.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct GearTable {
    gear: [u64; 256],
    shifted: [u64; 256],
}

impl GearTable {
    /// Bytes that a table is made of: 256 little-endian u64.
    pub const BYTES: usize = 2048;

    /// Reads a table from derived bytes.
    #[must_use]
    pub fn new(bytes: &[u8; Self::BYTES]) -> Self {
        let mut gear = [0; 256];
        for (value, bytes) in gear.iter_mut().zip(bytes.as_chunks::<8>().0) {
            *value = u64::from_le_bytes(*bytes);
        }
        Self { gear, shifted: gear.map(|value| value << 1) }
    }
}
