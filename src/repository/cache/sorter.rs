//! Sorting more records than memory should hold: sorted runs in unnamed files, merged (Knuth, "The Art of Computer
//! Programming", volume 3, section 5.4.1).
//!
//! Records have a fixed length and are ordered by their first bytes; equal keys come out in the order in which they
//! were pushed. Run files are unlinked as soon as they are open, so nothing stays behind, whatever happens.

use crate::base::private;
use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::path::{Path, PathBuf};

/// Bytes of each buffer between a run and its file.
const BUFFER_BYTES: usize = 64 * 1024;

/// Runs that are merged at once: their buffers take 16 MiB, and their files a quarter of the usual limit. When there are as many, they become
/// one.
const RUNS_MAX: usize = 256;

/// Takes records of `N` bytes and gives them back ordered by their first `K` bytes.
pub struct Sorter<const N: usize, const K: usize> {
    folder: PathBuf,
    records_max: usize,
    runs_max: usize,
    records: Vec<[u8; N]>,
    runs: Vec<File>,
}

impl<const N: usize, const K: usize> Sorter<N, K> {
    const KEY_FITS: () = assert!(K <= N);

    /// A sorter that keeps at most `records_max` records in memory and puts the rest into unnamed files in `folder`.
    pub fn new(folder: &Path, records_max: usize) -> Self {
        let () = Self::KEY_FITS;
        let (records_max, runs_max) = (records_max.max(1), RUNS_MAX);
        Self { folder: folder.to_owned(), records_max, runs_max, records: Vec::new(), runs: Vec::new() }
    }

    /// Takes one more record.
    ///
    /// # Errors
    /// When a run cannot be written. The sorter is of no use then.
    pub fn push(&mut self, record: [u8; N]) -> io::Result<()> {
        if self.records.len() >= self.records_max {
            self.spill()?;
        }
        // Memory is taken when it is written to; a vector that grows would hold everything twice for a moment.
        self.records.reserve_exact(self.records_max - self.records.len());
        self.records.push(record);
        Ok(())
    }

    fn sort(&mut self) {
        self.records.sort_by(|a, b| a[..K].cmp(&b[..K]));
    }

    fn spill(&mut self) -> io::Result<()> {
        if self.runs.len() >= self.runs_max {
            let older = std::mem::take(&mut self.runs);
            let merged = Sorted::<N, K>::new(older, Vec::new())?;
            let file = self.write(merged)?;
            self.runs.push(file);
        }
        self.sort();
        let records = std::mem::take(&mut self.records);
        let file = self.write(records.iter().copied().map(Ok))?;
        self.runs.push(file);
        self.records = records;
        self.records.clear();
        Ok(())
    }

    /// Puts records into a new file without a name, and returns it, to be read from its beginning.
    fn write(&self, records: impl Iterator<Item = io::Result<[u8; N]>>) -> io::Result<File> {
        let path = self.folder.join(format!("sort-{}-{}.tmp", std::process::id(), self.runs.len()));
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = private::create(&path)?;
        std::fs::remove_file(&path)?;
        let mut writer = BufWriter::with_capacity(BUFFER_BYTES, file);
        for record in records {
            writer.write_all(&record?)?;
        }
        let mut file = writer.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.rewind()?;
        Ok(file)
    }

    /// All records in order.
    ///
    /// # Errors
    /// When a run cannot be read.
    pub fn finish(mut self) -> io::Result<Sorted<N, K>> {
        self.sort();
        Sorted::new(self.runs, self.records)
    }
}

/// The first record that a run has not given yet. The smallest key is the greatest head, because the heap gives the
/// greatest first; among equal keys the older run comes first.
struct Head<const N: usize, const K: usize> {
    record: [u8; N],
    run: usize,
}

impl<const N: usize, const K: usize> Ord for Head<N, K> {
    fn cmp(&self, other: &Self) -> Ordering {
        other.record[..K].cmp(&self.record[..K]).then(other.run.cmp(&self.run))
    }
}

impl<const N: usize, const K: usize> PartialOrd for Head<N, K> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<const N: usize, const K: usize> PartialEq for Head<N, K> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<const N: usize, const K: usize> Eq for Head<N, K> {}

/// Sorted records, read while they are asked for.
pub struct Sorted<const N: usize, const K: usize> {
    runs: Vec<BufReader<File>>,
    /// The newest run, which never left memory; its number is the one after the last file's.
    memory: std::vec::IntoIter<[u8; N]>,
    heads: BinaryHeap<Head<N, K>>,
}

impl<const N: usize, const K: usize> Sorted<N, K> {
    fn new(runs: Vec<File>, memory: Vec<[u8; N]>) -> io::Result<Self> {
        let runs: Vec<_> = runs.into_iter().map(|file| BufReader::with_capacity(BUFFER_BYTES, file)).collect();
        let mut sorted = Self { runs, memory: memory.into_iter(), heads: BinaryHeap::new() };
        for run in 0..=sorted.runs.len() {
            sorted.refill(run)?;
        }
        Ok(sorted)
    }

    fn refill(&mut self, run: usize) -> io::Result<()> {
        let record = match self.runs.get_mut(run) {
            None => self.memory.next(),
            Some(reader) => read_record(reader)?,
        };
        self.heads.extend(record.map(|record| Head { record, run }));
        Ok(())
    }

    fn advance(&mut self) -> io::Result<Option<[u8; N]>> {
        let Some(Head { record, run }) = self.heads.pop() else { return Ok(None) };
        self.refill(run)?;
        Ok(Some(record))
    }
}

impl<const N: usize, const K: usize> Iterator for Sorted<N, K> {
    type Item = io::Result<[u8; N]>;

    fn next(&mut self) -> Option<Self::Item> {
        self.advance().transpose()
    }
}

/// The next record of a run; `None` exactly at its end.
fn read_record<const N: usize>(reader: &mut impl Read) -> io::Result<Option<[u8; N]>> {
    let mut record = [0; N];
    let mut filled = 0;
    while filled < N {
        match reader.read(&mut record[filled..]) {
            Ok(0) if filled == 0 => return Ok(None),
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Some(record))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Few different keys, so that equal ones meet across runs.
        #[test]
        fn any_number_of_runs_gives_what_a_stable_sort_gives(
            keys in prop::collection::vec(0..40_u8, 0..300),
            records_max in 1..50_usize,
            runs_max in 2..20_usize,
        ) {
            let folder = tempfile::tempdir().unwrap();
            let records: Vec<[u8; 4]> = keys
                .iter()
                .zip(0_u16..)
                .map(|(key, n)| [*key, 0, n.to_be_bytes()[0], n.to_be_bytes()[1]])
                .collect();
            let mut sorter = Sorter::<4, 2>::new(folder.path(), records_max);
            sorter.runs_max = runs_max;
            for record in &records {
                sorter.push(*record).unwrap();
            }
            let written = records.len().saturating_sub(1) / records_max;
            prop_assert!(sorter.runs.len() <= runs_max && (sorter.runs.len() == written || written > runs_max));
            let sorted: Vec<_> = sorter.finish().unwrap().collect::<io::Result<_>>().unwrap();
            let mut expected = records;
            expected.sort_by_key(|record| [record[0], record[1]]);
            prop_assert_eq!(sorted, expected);
            prop_assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        }
    }

    #[test]
    fn a_folder_that_is_gone_is_an_error_when_memory_is_full() {
        let folder = tempfile::tempdir().unwrap();
        let mut sorter = Sorter::<4, 2>::new(&folder.path().join("gone"), 1);
        sorter.push([0; 4]).unwrap();
        assert_eq!(sorter.push([1; 4]).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_run_that_ends_inside_a_record_is_an_error() {
        assert_eq!(read_record::<4>(&mut &[1_u8, 2, 3, 4][..]).unwrap(), Some([1, 2, 3, 4]));
        assert_eq!(read_record::<4>(&mut &[][..]).unwrap(), None);
        assert!(read_record::<4>(&mut &[1_u8, 2][..]).is_err());
    }
}
