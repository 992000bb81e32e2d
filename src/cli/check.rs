//! `check`: is everything there, and is it right?

use super::size;
use std::str::FromStr;

/// Which part of the packs to read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Subset {
    /// `n/t`: the n-th of t parts, which together are all packs. 1 <= n <= t <= 256.
    Part {
        /// Which one, from 1.
        part: u32,
        /// Of how many.
        parts: u32,
    },
    /// `x%`: packs chosen by chance, about this share of them; above 0, at most 100.
    Percent(f64),
    /// Packs chosen by chance, about this many bytes of them.
    Bytes(u64),
}

/// restic's limit for the parts of `n/t`.
const PARTS_MAX: u32 = 256;

impl FromStr for Subset {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some((part, parts)) = text.split_once('/') {
            let number = |text: &str| text.parse::<u32>().ok().filter(|number| (1..=PARTS_MAX).contains(number));
            return match (number(part), number(parts)) {
                (Some(part), Some(parts)) if part <= parts => Ok(Self::Part { part, parts }),
                _ => Err(format!("{text:?} is no part: expected n/t with 1 <= n <= t <= {PARTS_MAX}")),
            };
        }
        if let Some(percent) = text.strip_suffix('%') {
            return match percent.parse::<f64>() {
                Ok(percent) if percent > 0.0 && percent <= 100.0 => Ok(Self::Percent(percent)),
                _ => Err(format!("{text:?} is no share: expected more than 0 % and at most 100 %")),
            };
        }
        match size::parse(text) {
            Ok(0) | Err(_) => Err(format!("{text:?} is no part of the packs: expected n/t, x% or a size such as 500M")),
            Ok(bytes) => Ok(Self::Bytes(bytes)),
        }
    }
}

/// Check the repository for damage
///
/// Without options everything but the packs' contents is checked: heads, segments, snapshots, trees, and that every pack
/// is there with its size. Exit code 17 means that damage was found.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// Read every pack and check every chunk
    #[arg(long)]
    pub read_data: bool,
    /// Read a part of the packs: n/t, x%, or a size (k, M, G, T: powers of 1024)
    #[arg(long, value_name = "SUBSET", conflicts_with = "read_data")]
    pub read_data_subset: Option<Subset>,
    /// Use the cache, which is otherwise not trusted
    #[arg(long)]
    pub with_cache: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subsets_are_parsed() {
        assert_eq!("1/5".parse(), Ok(Subset::Part { part: 1, parts: 5 }));
        assert_eq!("2.5%".parse(), Ok(Subset::Percent(2.5)));
        assert_eq!("100%".parse(), Ok(Subset::Percent(100.0)));
        assert_eq!("500M".parse(), Ok(Subset::Bytes(500 << 20)));
        for text in ["", "0/5", "6/5", "1/257", "1/", "/", "0%", "101%", "nan%", "%", "0", "x"] {
            assert!(text.parse::<Subset>().is_err(), "{text}");
        }
    }
}
