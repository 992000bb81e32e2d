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

/// Where cuts may fall: the shortest, the usual and the longest chunk, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Parameters {
    /// No chunk but the last of a stream is shorter.
    pub min: u32,
    /// The length aimed at.
    pub average: u32,
    /// No chunk is longer.
    pub max: u32,
}

impl Parameters {
    /// Contents of files: 256 KiB, 1 MiB, 4 MiB. The default; `init` may choose others.
    pub const FILES: Self = Self { min: 256 << 10, average: 1 << 20, max: 4 << 20 };
    /// Listings: 16, 64, 256 KiB. Not a setting.
    pub const TREES: Self = Self { min: 16 << 10, average: 64 << 10, max: 256 << 10 };

    /// True when the chunker takes these (fastcdc: min from 64 bytes and average from 256 bytes, each at most
    /// its limit, all even)
    /// and no chunk exceeds what a block may hold (16 MiB).
    #[must_use]
    pub const fn is_valid(&self) -> bool {
        self.min >= 64
            && self.min <= 1 << 20
            && self.average >= 256
            && self.average <= 4 << 20
            && self.max >= 1024
            && self.max <= 16 << 20
            && self.min.is_multiple_of(2)
            && self.average.is_multiple_of(2)
            && self.max.is_multiple_of(2)
            && self.min <= self.average
            && self.average <= self.max
    }
}
