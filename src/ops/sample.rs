//! A share of many things, chosen by chance that can be repeated.

/// A share: the same seed chooses the same, and a larger share chooses these and more.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// The share, in percent.
    pub percent: f64,
    /// Decides which.
    pub seed: u64,
}

impl Sample {
    /// Where a name comes in the order of this seed.
    #[must_use]
    pub fn place(&self, name: &[u8]) -> u64 {
        let hash = blake3::Hasher::new().update(&self.seed.to_le_bytes()).update(name).finalize();
        let (first, _) = hash.as_bytes().split_first_chunk().unwrap_or((&[0; 8], &[]));
        u64::from_le_bytes(*first)
    }

    /// True for about this share of all names. What is decided about one does not depend on the others.
    #[must_use]
    pub fn takes(&self, name: &[u8]) -> bool {
        (self.place(name) as f64) < self.percent / 100.0 * u64::MAX as f64
    }

    /// Exactly this share of the items, rounded up.
    #[must_use]
    pub fn of<T>(&self, mut items: Vec<T>, name: impl Fn(&T) -> String) -> Vec<T> {
        let share = self.percent.clamp(0.0, 100.0) / 100.0;
        items.sort_by_cached_key(|item| self.place(name(item).as_bytes()));
        items.truncate((items.len() as f64 * share).ceil() as usize);
        items
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_a_list_is_exact_and_grows() {
        let of = |percent| Sample { percent, seed: 7 }.of((0..1000).collect(), i32::to_string);
        assert_eq!([0.0, 0.05, 1.0, 50.0, 100.0].map(|percent| of(percent).len()), [0, 1, 10, 500, 1000]);
        assert_eq!(of(50.0)[..10], of(1.0));
        assert_ne!(of(1.0), Sample { percent: 1.0, seed: 8 }.of((0..1000).collect(), i32::to_string));
    }
}
