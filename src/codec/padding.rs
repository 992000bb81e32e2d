//! Padded lengths: what a provider sees of an object's size. format-spec/pack.md, "Padding".

/// Up to this length padded lengths are powers of two, in bytes; above it Padmé's steps are finer.
const POWERS_MAX: u64 = 1 << 20;

/// The length that an object of `length` bytes is padded to: at least `floor`, then the next power of two up to 1 MiB,
/// then Padmé, whose steps are at most 3 % for the sizes that packs have (Nikitin et al., "Reducing Metadata Leakage from Encrypted
/// Files and Communication with PURBs", PoPETs 2019, section 4.4). `floor` is a power of two.
#[must_use]
pub const fn padded_length(length: u64, floor: u64) -> u64 {
    if length <= floor {
        return floor;
    }
    if length <= POWERS_MAX {
        return length.next_power_of_two();
    }
    let exponent = length.ilog2();
    let step = 1_u64 << (exponent - (exponent.ilog2() + 1));
    length.next_multiple_of(step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_step_as_the_spec_says() {
        for (length, padded) in [
            (0, 16 << 10),
            (16 << 10, 16 << 10),
            ((16 << 10) + 1, 32 << 10),
            (1 << 20, 1 << 20),
            ((1 << 20) + 1, (1 << 20) + (1 << 15)),
            (5_000_000, 5_111_808),
            (32 << 20, 32 << 20),
            ((32 << 20) + 1, 33 << 20),
            (256 << 20, 256 << 20),
        ] {
            assert_eq!(padded_length(length, 16 << 10), padded, "{length}");
        }
    }

    #[test]
    fn padding_is_bounded_and_padded_lengths_stay() {
        for length in (1..3000_u64).map(|n| n * 99_991) {
            let padded = padded_length(length, 1 << 14);
            assert!(padded >= length && padded_length(padded, 1 << 14) == padded);
            assert!(length <= POWERS_MAX || (padded - length) * 32 <= length, "{length}: {padded}");
        }
    }
}
