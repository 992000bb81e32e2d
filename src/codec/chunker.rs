//! Content-defined cutting: FastCDC with a table from the repository's keys. format-spec/chunker.md.
//!
//! Where a cut falls depends on the bytes since the last cut only, so an insertion moves the cuts near it and none
//! further on, and the same file is cut alike whatever the sizes of the reads (Xia et al., "The Design of Fast
//! Content-Defined Chunking for Data Deduplication Based Storage Systems", IEEE TPDS 2020). The table is hygiene, not
//! secrecy: what hides the sizes of chunks is that many lie in one block.

use fastcdc::v2020::{self, Normalization};
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::{Error, Reason, Result};

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

    /// The number of each byte value.
    #[must_use]
    pub const fn gear(&self) -> &[u64; 256] {
        &self.gear
    }

    /// The numbers shifted left by one, for the first byte of each pair.
    #[must_use]
    pub const fn shifted(&self) -> &[u64; 256] {
        &self.shifted
    }
}

/// Lengths of chunks, in bytes. Those of file contents stand in the config.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Parameters {
    /// No chunk is shorter, except the last of a stream.
    pub min: u32,
    /// From this length on a cut is four times as likely.
    pub average: u32,
    /// No chunk is longer.
    pub max: u32,
}

impl Parameters {
    /// What `init` writes for file contents: 256 KiB, 1 MiB, 4 MiB.
    pub const FILES: Self = Self { min: 256 << 10, average: 1 << 20, max: 4 << 20 };
    /// Listings, long chunk lists and lists of problems, in every repository: 16, 64, 256 KiB.
    pub const TREES: Self = Self { min: 16 << 10, average: 64 << 10, max: 256 << 10 };

    /// True when chunks can be cut with these numbers: even, ascending, and within the bounds of the algorithm
    /// (64 B to 1 MiB, 256 B to 4 MiB, 1 KiB to 16 MiB). Anything read from a config is asked this.
    #[must_use]
    pub const fn is_valid(&self) -> bool {
        const fn is_between(value: u32, low: usize, high: usize) -> bool {
            value.is_multiple_of(2) && value as usize >= low && value as usize <= high
        }
        is_between(self.min, v2020::MINIMUM_MIN, v2020::MINIMUM_MAX)
            && is_between(self.average, v2020::AVERAGE_MIN, v2020::AVERAGE_MAX)
            && is_between(self.max, v2020::MAXIMUM_MIN, v2020::MAXIMUM_MAX)
            && self.min < self.average
            && self.average < self.max
    }
}

const _: () = assert!(Parameters::FILES.is_valid() && Parameters::TREES.is_valid());
/// A chunk always fits into one block. format-spec/block.md.
const _: () = assert!(v2020::MAXIMUM_MAX <= super::block::PLAIN_MAX as usize);

/// Cuts one kind of stream.
#[derive(Clone, Copy)]
pub struct Cutter<'a> {
    table: &'a GearTable,
    parameters: Parameters,
    /// Bits that must be zero for a cut before `average` and after it.
    masks: (u64, u64),
}

impl<'a> Cutter<'a> {
    /// A cutter.
    ///
    /// # Errors
    /// [`Reason::OutOfRange`] when the parameters are not valid.
    pub fn new(table: &'a GearTable, parameters: Parameters) -> Result<Self> {
        if !parameters.is_valid() {
            return Err(Error::new("chunker", Reason::OutOfRange { field: "chunk lengths" }));
        }
        let masks = v2020::select_masks(parameters.average as usize, Normalization::Level1);
        Ok(Self { table, parameters, masks })
    }

    /// The lengths that this cutter keeps to.
    #[must_use]
    pub const fn parameters(&self) -> Parameters {
        self.parameters
    }

    /// Length of the next chunk at the front of `data`, which begins right behind the last cut.
    ///
    /// `None` means that `data` does not decide it: it is shorter than the longest chunk and the stream goes on, or it is
    /// empty. Called again with more bytes behind the same ones, the answer is the one that the whole stream gives.
    #[must_use]
    pub fn next(&self, data: &[u8], at_end: bool) -> Option<usize> {
        let Parameters { min, average, max } = self.parameters;
        if data.is_empty() || (data.len() < max as usize && !at_end) {
            return None;
        }
        let (strict, loose) = self.masks;
        let (_, length) = v2020::cut_gear(
            data,
            min as usize,
            average as usize,
            max as usize,
            strict,
            loose,
            strict << 1,
            loose << 1,
            &self.table.gear,
            &self.table.shifted,
        );
        Some(length)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn noise(length: usize, seed: &str) -> Vec<u8> {
        let mut bytes = vec![0; length];
        blake3::Hasher::new().update(seed.as_bytes()).finalize_xof().fill(&mut bytes);
        bytes
    }

    fn table() -> GearTable {
        GearTable::new(noise(GearTable::BYTES, "gear").as_slice().try_into().unwrap())
    }

    fn cut(cutter: &Cutter<'_>, mut data: &[u8]) -> Vec<usize> {
        let mut lengths = Vec::new();
        while let Some(length) = cutter.next(data, true) {
            lengths.push(length);
            data = &data[length..];
        }
        lengths
    }

    /// Feeds `data` in reads of `read` bytes, asking after every one.
    fn cut_in_reads(cutter: &Cutter<'_>, data: &[u8], read: usize) -> Vec<usize> {
        let (mut lengths, mut start, mut end) = (Vec::new(), 0, 0);
        loop {
            let at_end = end == data.len();
            match cutter.next(&data[start..end], at_end) {
                Some(length) => {
                    lengths.push(length);
                    start += length;
                }
                None if at_end => return lengths,
                None => end = data.len().min(end + read),
            }
        }
    }

    #[test]
    fn cuts_do_not_depend_on_the_reads() {
        let table = table();
        let cutter = Cutter::new(&table, Parameters { min: 64, average: 256, max: 1024 }).unwrap();
        for length in [0, 1, 63, 64, 65, 1023, 1024, 1025, 20_001] {
            let data = noise(length, "reads");
            let whole = cut(&cutter, &data);
            assert_eq!(whole.iter().sum::<usize>(), length);
            for read in [1, 7, 64, 1000, 1024, 4096, 50_000] {
                assert_eq!(cut_in_reads(&cutter, &data, read), whole, "{length} bytes in reads of {read}");
            }
        }
    }

    #[test]
    fn an_insertion_moves_only_the_cuts_near_it() {
        let table = table();
        let cutter = Cutter::new(&table, Parameters::TREES).unwrap();
        let data = noise(4 << 20, "shift");
        let mut shifted = data.clone();
        shifted.splice(1_000_000..1_000_000, *b"inserted");
        let ends = |data: &[u8]| {
            cut(&cutter, data)
                .iter()
                .scan(0, |end, length| Some(std::mem::replace(end, *end + length)))
                .collect::<Vec<_>>()
        };
        let (before, after) = (ends(&data), ends(&shifted));
        let kept =
            before.iter().filter(|end| after.contains(&if **end > 1_000_000 { **end + 8 } else { **end })).count();
        assert!(before.len() > 30, "{} chunks", before.len());
        assert!(before.len() - kept <= 3, "{kept} of {} cuts kept", before.len());
    }

    #[test]
    fn lengths_keep_to_the_parameters() {
        let table = table();
        for parameters in [Parameters::TREES, Parameters { min: 64, average: 256, max: 1024 }] {
            let cutter = Cutter::new(&table, parameters).unwrap();
            let (last, others) = {
                let mut lengths = cut(&cutter, &noise(3 << 20, "lengths"));
                (lengths.pop().unwrap(), lengths)
            };
            assert!(last <= parameters.max as usize);
            assert!(others.iter().all(|l| (parameters.min as usize..=parameters.max as usize).contains(l)));
            let average = others.iter().sum::<usize>() / others.len();
            assert!((parameters.average as usize / 2..parameters.average as usize * 2).contains(&average), "{average}");
            let small = noise(parameters.min as usize, "small");
            assert_eq!(cutter.next(&small, true), Some(small.len()), "a file of the shortest length is one chunk");
            assert_eq!(cutter.next(&small, false), None);
        }
    }

    #[test]
    fn parameters_out_of_bounds_are_refused() {
        let table = table();
        let good = Parameters::FILES;
        for bad in [
            Parameters { min: 0, ..good },
            Parameters { min: 62, ..good },
            Parameters { min: (256 << 10) + 1, ..good },
            Parameters { min: good.average, ..good },
            Parameters { average: good.max, ..good },
            Parameters { max: (16 << 20) + 2, ..good },
            Parameters { min: u32::MAX, average: u32::MAX, max: u32::MAX },
        ] {
            assert!(!bad.is_valid() && Cutter::new(&table, bad).is_err(), "{bad:?}");
        }
    }

    /// The algorithm of format-spec/chunker.md, word for word; `data` is what follows the last cut.
    fn cut_as_the_page_says(table: &GearTable, p: Parameters, masks: (u64, u64), data: &[u8]) -> usize {
        let (min, average, max) = (p.min as usize, p.average as usize, p.max as usize);
        if data.len() <= min {
            return data.len();
        }
        let n = data.len().min(max);
        let center = average.min(n);
        let mut h: u64 = 0;
        for i in (min..2 * (n / 2)).step_by(2) {
            let m = if i < 2 * (center / 2) { masks.0 } else { masks.1 };
            h = (h << 2).wrapping_add(table.gear()[usize::from(data[i])] << 1);
            if h & (m << 1) == 0 {
                return i;
            }
            h = h.wrapping_add(table.gear()[usize::from(data[i + 1])]);
            if h & m == 0 {
                return i + 1;
            }
        }
        n
    }

    #[test]
    fn cuts_are_those_of_the_page() {
        let table = table();
        let cases = [
            (Parameters { min: 64, average: 256, max: 1024 }, (0x0190_0035_3000, 0x1803_5100)),
            (Parameters::TREES, (0xd907_0353_7000, 0xd90f_0353_0000)),
            (Parameters::FILES, (0xd917_6753_7000, 0xd917_0753_7000)),
        ];
        for (parameters, masks) in cases {
            let cutter = Cutter::new(&table, parameters).unwrap();
            assert_eq!(cutter.masks, masks);
            let data = noise(parameters.max as usize * 4 + 77, "page");
            let mut rest = &data[..];
            while let Some(length) = cutter.next(rest, true) {
                assert_eq!(length, cut_as_the_page_says(&table, parameters, masks, rest));
                rest = &rest[length..];
            }
        }
    }
}
