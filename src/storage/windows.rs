//! What lies side by side in an object comes in one request: windows over objects on a mirror, a bounded number of bytes of them at hand.
//!
//! - Who knows what will be read says so ([`Windows::expect_ranges`]): ranges with little between them become one window ([`merge`]).
//! - Anything else is read with what is around it, as far as the object is known to go. A window beside the one before is larger than that; one elsewhere begins small again.
//! - A range that is asked for a second time is read anew: somebody doubts it.
//!
//! Nothing here is trusted: whoever reads checks a hash or a tag, as he does of a storage.

use crate::base::lock::lock;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::{Arc, Mutex};

use super::{ObjectName, Result};

/// Bytes at hand, at most, one window apart.
const KEPT_BYTES_MAX: u64 = 32 << 20;
/// Bytes of a window that was expected, at most, unless one range is longer.
const EXPECTED_BYTES_MAX: u64 = 4 << 20;
/// Bytes between two ranges that are fetched along: another request would take longer.
const GAP_BYTES_MAX: u64 = 512 << 10;
/// Bytes of the first window of an object of which nothing is known.
const FIRST_BYTES: u64 = 64 << 10;
/// How many times larger the next one is.
const GROWTH: u64 = 4;
/// Bytes of such a window, at most.
const AHEAD_BYTES_MAX: u64 = 2 << 20;

/// Bytes of an object: where they begin, and how many.
pub type Extent = (ObjectName, u64, u64);

/// The windows in which these ranges are fetched.
#[must_use]
pub fn merge(ranges: impl IntoIterator<Item = Extent>) -> BTreeMap<ObjectName, Vec<Range<u64>>> {
    let mut all: Vec<Extent> = ranges.into_iter().collect();
    all.sort_unstable();
    let mut windows: BTreeMap<ObjectName, Vec<Range<u64>>> = BTreeMap::new();
    for (name, offset, length) in all {
        let end = offset.saturating_add(length);
        let of_object = windows.entry(name).or_default();
        match of_object.last_mut() {
            Some(last)
                if offset <= last.end.saturating_add(GAP_BYTES_MAX)
                    && (end <= last.end || end - last.start <= EXPECTED_BYTES_MAX) =>
            {
                last.end = last.end.max(end);
            }
            _ => of_object.push(offset..end),
        }
    }
    windows
}

/// The bytes of a window, once they are there.
#[derive(Debug, Default)]
struct Filled {
    bytes: Option<Vec<u8>>,
    /// What was taken from it: offset and length.
    taken: Vec<(u64, u64)>,
}

#[derive(Debug)]
struct Window {
    name: ObjectName,
    range: Range<u64>,
    /// Locked by whoever fetches it.
    filled: Mutex<Filled>,
}

#[derive(Debug, Default)]
struct State {
    expected: BTreeMap<ObjectName, Vec<Range<u64>>>,
    lengths: HashMap<ObjectName, u64>,
    /// The last window of an object that was not expected.
    last: HashMap<ObjectName, Range<u64>>,
    /// Least recently used first.
    kept: Vec<Arc<Window>>,
}

impl State {
    /// The window for a range: one that is there, or a new one.
    fn window(&mut self, name: &ObjectName, offset: u64, length: u64) -> Arc<Window> {
        let end = offset.saturating_add(length);
        let covers = |range: &Range<u64>| range.start <= offset && end <= range.end;
        let there = self.kept.iter().rposition(|window| window.name == *name && covers(&window.range));
        let window = match there {
            Some(position) => self.kept.remove(position),
            None => {
                let expected = self.expected.get(name).and_then(|all| {
                    let after = all.partition_point(|range| range.start <= offset);
                    all.get(after.checked_sub(1)?).filter(|range| covers(range)).cloned()
                });
                let range = expected.unwrap_or_else(|| self.ahead(name, offset, end));
                Arc::new(Window { name: *name, range, filled: Mutex::default() })
            }
        };
        self.kept.push(Arc::clone(&window));
        let bytes = |window: &Arc<Window>| window.range.end - window.range.start;
        let mut sum: u64 = self.kept.iter().map(bytes).sum();
        while sum > KEPT_BYTES_MAX && self.kept.len() > 1 {
            sum -= bytes(&self.kept.remove(0));
        }
        window
    }

    /// What is read around a range.
    fn ahead(&mut self, name: &ObjectName, offset: u64, end: u64) -> Range<u64> {
        let size = match self.last.get(name) {
            // Listings are stored from the leaves up, and read from the root down.
            Some(last)
                if offset <= last.end.saturating_add(last.end - last.start)
                    && last.start <= end.saturating_add(last.end - last.start) =>
            {
                ((last.end - last.start) * GROWTH).min(AHEAD_BYTES_MAX)
            }
            _ => FIRST_BYTES,
        };
        // What is as long as a window has nothing around it.
        let start = if end - offset >= size { offset } else { offset / size * size };
        // Beyond its end there is nothing to be asked for.
        let last = self.lengths.get(name).copied().unwrap_or_default();
        let range = start..end.max(last.min(start.saturating_add(size)));
        self.last.insert(*name, range.clone());
        range
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct Windows {
    state: Mutex<State>,
}

impl Windows {
    /// These will be read, about in the order of objects and offsets. What was expected before is not any more.
    pub fn expect_ranges(&self, ranges: impl IntoIterator<Item = Extent>) {
        lock(&self.state).expected = merge(ranges);
    }

    /// These objects have these lengths.
    pub fn learn_lengths(&self, lengths: impl IntoIterator<Item = (ObjectName, u64)>) {
        lock(&self.state).lengths.extend(lengths);
    }

    /// The bytes of a range. `fetch` reads exactly so many bytes from an offset.
    ///
    /// # Errors
    /// Those of `fetch`.
    pub fn read(
        &self,
        name: &ObjectName,
        offset: u64,
        length: u64,
        fetch: impl Fn(u64, u64) -> Result<Vec<u8>>,
    ) -> Result<Vec<u8>> {
        let window = lock(&self.state).window(name, offset, length);
        let mut filled = lock(&window.filled);
        let Filled { bytes, taken } = &mut *filled;
        if taken.contains(&(offset, length)) {
            // What is at hand is as it was.
            drop(filled);
            return fetch(offset, length);
        }
        let all = match bytes {
            Some(bytes) => bytes,
            None => {
                let Range { start, end } = window.range;
                match fetch(start, end - start) {
                    Ok(fetched) => bytes.insert(fetched),
                    // The object is not what it should be: what was asked for may be there all the same.
                    Err(error)
                        if error.kind.is_about_object() && window.range != (offset..offset.saturating_add(length)) =>
                    {
                        drop(filled);
                        return fetch(offset, length);
                    }
                    Err(error) => return Err(error),
                }
            }
        };
        let from = usize::try_from(offset - window.range.start).unwrap_or(usize::MAX);
        let part = all.get(from..).and_then(|rest| rest.get(..usize::try_from(length).unwrap_or(usize::MAX)));
        let Some(part) = part.map(<[u8]>::to_vec) else {
            drop(filled);
            return fetch(offset, length);
        };
        taken.push((offset, length));
        Ok(part)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::base::id::ObjectId;
    use crate::storage::Error;
    use std::cell::RefCell;

    fn pack(number: u8) -> ObjectName {
        ObjectName::Pack(ObjectId([number; 32]))
    }

    #[test]
    #[allow(clippy::single_range_in_vec_init, reason = "that is what it is")]
    fn neighbours_become_one_window() {
        const M: u64 = 1 << 20;
        for (ranges, expected) in [
            (vec![(0, 10), (10, 5)], vec![0..15]),
            // In any order, with a gap that is cheaper than a request, and one inside another.
            (vec![(600_000, 10), (0, 100_000), (5, 10)], vec![0..600_010]),
            (vec![(0, 10), (M, 10)], vec![0..10, M..M + 10]),
            // No window is longer than it may be, one range apart.
            (vec![(0, 3 * M), (3 * M, 2 * M)], vec![0..3 * M, 3 * M..5 * M]),
            (vec![(0, 9 * M), (1, 8 * M)], vec![0..9 * M]),
            (vec![], vec![]),
        ] {
            let merged = merge(ranges.into_iter().map(|(offset, length)| (pack(1), offset, length)));
            assert_eq!(merged.get(&pack(1)).cloned().unwrap_or_default(), expected);
        }
        assert_eq!(merge([(pack(1), 0, 1), (pack(2), 1, 1)]).len(), 2);
    }

    /// An object of 8 MiB, and what was fetched of it.
    struct Fetched(Vec<u8>, RefCell<Vec<Range<u64>>>);

    impl Fetched {
        fn new() -> Self {
            let mut bytes = vec![0; 8 << 20];
            blake3::Hasher::new().finalize_xof().fill(&mut bytes);
            Self(bytes, RefCell::default())
        }

        fn read(&self, windows: &Windows, offset: u64, length: u64) -> Result<Vec<u8>> {
            let fetch = |start: u64, count: u64| {
                self.1.borrow_mut().push(start..start + count);
                let early = || Error::new("read", "it", std::io::ErrorKind::UnexpectedEof.into());
                self.0.get(start as usize..(start + count) as usize).map(<[u8]>::to_vec).ok_or_else(early)
            };
            let read = windows.read(&pack(1), offset, length, fetch);
            if let Ok(read) = &read {
                assert!(*read == self.0[offset as usize..][..length as usize]);
            }
            read
        }
    }

    #[test]
    fn what_was_expected_comes_in_its_window() {
        let (windows, object) = (Windows::default(), Fetched::new());
        windows.expect_ranges((0..64).map(|number| (pack(1), number * 100_000, 70_000)));
        for number in 0..64 {
            assert!(object.read(&windows, number * 100_000, 70_000).is_ok());
        }
        assert_eq!(object.1.borrow().len(), 2, "{:?}", object.1);
        // A second look is one at the store.
        assert!(object.read(&windows, 0, 70_000).is_ok());
        assert_eq!(object.1.borrow().last(), Some(&(0..70_000)));
    }

    #[test]
    fn what_was_not_expected_is_read_ahead_and_back_and_begins_small_elsewhere() {
        let known = || {
            let windows = Windows::default();
            windows.learn_lengths([(pack(1), 8 << 20)]);
            (windows, Fetched::new())
        };
        let (windows, object) = known();
        let lengths = || object.1.borrow().iter().map(|range| (range.end - range.start) >> 10).collect::<Vec<u64>>();
        for number in 0..100 {
            object.read(&windows, number * 20_000, 20_000).unwrap();
        }
        assert_eq!(lengths(), [64, 256, 1024, 2048]);
        let (windows, object) = known();
        for number in (0..100).rev() {
            object.read(&windows, (4 << 20) + number * 20_000, 20_000).unwrap();
        }
        assert!(object.1.borrow().len() <= 5, "{:?}", object.1);
        let (windows, object) = known();
        for number in [0, 50, 20, 70, 10] {
            object.read(&windows, number * 100_000, 20_000).unwrap();
        }
        assert!(object.1.borrow().iter().all(|range| range.end - range.start <= 256 << 10), "{:?}", object.1);
    }

    #[test]
    fn nothing_is_asked_for_beyond_an_end() {
        let (windows, object) = (Windows::default(), Fetched::new());
        assert!(object.read(&windows, (8 << 20) - 10, 10).is_ok());
        assert!(object.read(&windows, (8 << 20) - 10, 11).is_err());
        assert!(object.read(&windows, 9 << 20, 1).is_err());
        // One that is shorter than it should be still has its beginning.
        windows.learn_lengths([(pack(1), 9 << 20)]);
        assert!(object.read(&windows, (8 << 20) - 100, 20).is_ok());
        assert_eq!(object.1.borrow().last(), Some(&((8 << 20) - 100..(8 << 20) - 80)));
    }

    #[test]
    fn no_more_is_kept_than_may_be() {
        let windows = Windows::default();
        for number in 0..100 {
            let bytes = windows.read(&pack(number), 0, 1 << 20, |_, count| Ok(vec![number; count as usize])).unwrap();
            assert_eq!(bytes[0], number);
        }
        let kept: u64 = lock(&windows.state).kept.iter().map(|window| window.range.end - window.range.start).sum();
        assert!(kept <= KEPT_BYTES_MAX);
    }
}
