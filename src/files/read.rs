//! Reading a regular file: its data without its holes, and whether it kept still.
//!
//! # What timestamps cannot tell
//! An unchanged file is one whose size, mtime, ctime and inode are those of the parent snapshot. Two cases break that:
//!
//! - **The clock tick.** Two changes within one tick of the file system's clock leave the same timestamps. So a file whose
//!   ctime is not older than the start of the parent's run is read again.
//! - **A store through a mapping.** The first store into a clean page takes a fault and moves mtime and ctime; later
//!   stores into the still dirty page move nothing. If we read between the two, the second one is never seen. Write-back
//!   cleans the page and write-protects it again, and the kernel starts it after 30 seconds by itself. So for a file whose
//!   timestamps are younger than [`DIRTY_SECONDS`]: a large one is written back before it is read (the timestamps stored
//!   are those from **before** the write-back, so that a store after it is seen next time); a small one, or one on a
//!   file system where write-back cannot be relied on, is read again by the next backup ([`needs_reread`]).
//!
//! Not covered: tmpfs never cleans a page, so a mapping there that was first stored to more than a minute before a
//! backup can change later without a trace.
//!
//! # Whose content is read
//! That of the file which has the name when it is opened. Programs replace files by renaming a new one over the old, so the
//! inode may be another one than the walk saw a moment before: the descriptor's own stat is the truth, and what the
//! walk saw counts for nothing. Only a name that leads to something else than a regular file is refused
//! ([`OpenError::OtherKind`]), and the caller looks again.
//!
//! A file of size 0 may have content all the same (`/proc`, some network and cloud file systems): one read finds out, and
//! then it is read to its end.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;

use rustix::fs::{Advice, SeekFrom, fadvise, seek};
use rustix::io::Errno;

use super::directory::{Directory, is_loop, writes_back};
use super::stat::{Kind, Stat};
use crate::base::sys;
use crate::base::time::Time;
use crate::codec::tree::{HOLES_MAX, Hole};

/// A page may be dirty for this long: twice the kernel's `dirty_expire_centisecs` (30 s), in seconds.
pub const DIRTY_SECONDS: i64 = 60;
/// A recently changed file from this size on is written back before it is read, in bytes; below it, reading again next
/// time costs less than waiting for the disk.
pub const WRITE_BACK_BYTES_MIN: u64 = 1 << 20;
/// Longest tick of the kernel's coarse clock (100 Hz), doubled, in nanoseconds.
const TICK_NANOSECONDS: i128 = 20_000_000;
/// The same for a file system that stores whole seconds (FAT: every second one), in nanoseconds.
const COARSE_TICK_NANOSECONDS: i128 = 2_000_000_000;
/// From this size on the kernel is asked to read ahead further, in bytes.
const READ_AHEAD_BYTES_MIN: u64 = 256 << 10;
/// A file that says it has 0 bytes is read up to here, in bytes (64 GiB): some never end.
const UNSIZED_BYTES_MAX: u64 = 64 << 30;

/// Whether a file must be read although size, mtime, ctime and inode are those of the parent snapshot, whose run began at
/// `parent_started`. `writes_back` is [`Directory::writes_back`] of where it lies. See the module.
#[must_use]
pub fn needs_reread(size: u64, mtime: Time, ctime: Time, parent_started: Time, writes_back: bool) -> bool {
    let tick = if ctime.nanoseconds == 0 { COARSE_TICK_NANOSECONDS } else { TICK_NANOSECONDS };
    if ctime.as_nanoseconds() >= parent_started.as_nanoseconds() - tick {
        return true;
    }
    may_be_dirty(mtime, ctime, parent_started) && !(writes_back && size >= WRITE_BACK_BYTES_MIN)
}

/// A dirtying store sets both times to its own; ctime cannot be set back, so both must be young.
fn may_be_dirty(mtime: Time, ctime: Time, now: Time) -> bool {
    mtime.min(ctime).seconds >= now.seconds.saturating_sub(DIRTY_SECONDS)
}

/// Why a file could not be opened for reading.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It is not there any more.
    #[error("vanished before it could be read")]
    Vanished,
    /// Something that is no regular file has the name now.
    #[error("is no regular file any more")]
    OtherKind,
    /// The system says no.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// What is known at the end of reading.
#[derive(Debug)]
pub struct Finished {
    /// What the kernel says about the file now.
    pub stat: Stat,
    /// Size of what was read, holes included: the size when it was opened, or less when the file shrank; of a file that
    /// says it has 0 bytes, what it gave.
    pub size: u64,
    /// The holes inside that size, as [`crate::codec::tree::Content::holes`] wants them.
    pub holes: Vec<Hole>,
    /// Size or timestamps moved while it was read: the data may be of no single moment.
    pub changed: bool,
}

/// An open regular file. Gives the bytes of its data extents one after the other.
#[derive(Debug)]
pub struct Reader {
    file: File,
    stat: Stat,
    settled: bool,
    /// Data to come, as (offset, end), last first.
    data: Vec<(u64, u64)>,
    holes: Vec<Hole>,
    /// Where the file ended, if it did so too early.
    end: Option<u64>,
    /// Its size is 0, and it has content.
    is_unsized: bool,
}

impl AsFd for Reader {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Reader {
    /// Opens the regular file that has the name now. May wait for write-back; see the module.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(directory: &Directory, name: &[u8], now: Time) -> Result<Self, OpenError> {
        let file = match directory.open_file(name) {
            Ok(file) => File::from(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(OpenError::Vanished),
            Err(error) if is_loop(&error) => return Err(OpenError::OtherKind),
            // A socket or a device without a driver.
            Err(error) if error.raw_os_error() == Some(Errno::NXIO.raw_os_error()) => return Err(OpenError::OtherKind),
            Err(error) => return Err(error.into()),
        };
        let stat = Stat::of(&file)?;
        if stat.kind != Kind::File {
            return Err(OpenError::OtherKind);
        }
        let mut settled = !may_be_dirty(stat.mtime, stat.ctime, now);
        if !settled && stat.size >= WRITE_BACK_BYTES_MIN && writes_back(file.as_fd()) {
            settled = sys::write_back(file.as_fd()).is_ok();
        }
        if stat.size >= READ_AHEAD_BYTES_MIN {
            // Advice only.
            let _ = fadvise(&file, 0, None, Advice::Sequential);
        }
        let is_unsized = stat.size == 0 && has_content(&file)?;
        let (data, holes) =
            if is_unsized { (vec![(0, UNSIZED_BYTES_MAX + 1)], Vec::new()) } else { extents(&file, &stat)? };
        Ok(Self { file, stat, settled, data, holes, end: None, is_unsized })
    }

    /// What the file was when it was opened: what the snapshot stores.
    #[must_use]
    pub const fn stat(&self) -> &Stat {
        &self.stat
    }

    /// Whether any later change will move the timestamps. If not, [`needs_reread`] will say so next time.
    #[must_use]
    pub const fn settled(&self) -> bool {
        self.settled
    }

    /// Bytes of data still to come, if the file keeps still; more than will come, when the file does not say its size.
    #[must_use]
    pub fn remaining(&self) -> u64 {
        self.data.iter().map(|(from, to)| to - from).sum()
    }

    /// The holes as found at opening: ascending, apart, not empty.
    #[must_use]
    pub fn holes(&self) -> &[Hole] {
        &self.holes
    }

    /// Reads the next data bytes; 0 at the end.
    ///
    /// # Errors
    /// What the kernel says: a disk that cannot be read, mostly. [`io::ErrorKind::FileTooLarge`] for a file of size 0 that
    /// does not end.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            let Some((from, to)) = self.data.last_mut() else { break };
            let want = usize::try_from(*to - *from).unwrap_or(usize::MAX).min(buffer.len() - filled);
            let got = match self.file.read_at(&mut buffer[filled..filled + want], *from) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            };
            if got == 0 {
                self.end = Some(*from);
                self.data.clear();
                break;
            }
            filled += got;
            *from += got as u64;
            if self.is_unsized && *from > UNSIZED_BYTES_MAX {
                let sentence = format!("says it has 0 bytes and gives more than {} GiB", UNSIZED_BYTES_MAX >> 30);
                return Err(io::Error::new(io::ErrorKind::FileTooLarge, sentence));
            }
            if from == to {
                self.data.pop();
            }
        }
        Ok(filled)
    }

    /// Looks again at the file after everything was read.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn finish(mut self) -> io::Result<Finished> {
        let now = Stat::of(&self.file)?;
        let was = &self.stat;
        let ended_early = self.end.is_some() && !self.is_unsized;
        let changed = ended_early || (now.size, now.mtime, now.ctime) != (was.size, was.mtime, was.ctime);
        let size = self.end.unwrap_or(was.size);
        self.holes.retain(|hole| hole.offset < size);
        Ok(Finished { stat: now, size, holes: self.holes, changed })
    }
}

/// Whether a file whose size is 0 gives a byte.
fn has_content(file: &File) -> io::Result<bool> {
    loop {
        match file.read_at(&mut [0], 0) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return Ok(other? > 0),
        }
    }
}

type Extents = (Vec<(u64, u64)>, Vec<Hole>);

/// Data (last first) and holes, when the file occupies less than its size. Beyond [`HOLES_MAX`] holes everything counts
/// as data; a file system that cannot tell has no holes.
fn extents(file: &File, stat: &Stat) -> io::Result<Extents> {
    let size = stat.size;
    let whole = |from: u64| if from < size { vec![(from, size)] } else { Vec::new() };
    if size == 0 || stat.blocks.saturating_mul(512) >= size {
        return Ok((whole(0), Vec::new()));
    }
    let (mut data, mut holes) = (Vec::new(), Vec::<Hole>::new());
    let mut at = 0;
    while at < size {
        if holes.len() == HOLES_MAX {
            data.extend(whole(at));
            break;
        }
        let from = match seek(file, SeekFrom::Data(at)) {
            Ok(from) => from.clamp(at, size),
            // No data up to the end.
            Err(Errno::NXIO) => size,
            Err(Errno::INVAL | Errno::OPNOTSUPP) if at == 0 => return Ok((whole(0), Vec::new())),
            Err(error) => return Err(error.into()),
        };
        if from > at {
            holes.push(Hole { offset: at, length: from - at });
        }
        if from == size {
            break;
        }
        let to = match seek(file, SeekFrom::Hole(from)) {
            Ok(to) if to > from => to.min(size),
            // The file changed beneath us: take the rest as data.
            Ok(_) | Err(Errno::NXIO) => size,
            Err(error) => return Err(error.into()),
        };
        data.push((from, to));
        at = to;
    }
    data.reverse();
    Ok((data, holes))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::Path;

    use super::*;
    use crate::base::sys::mapping::Mapping;

    /// Story: a program stores through a mapping, a backup reads the dirty page, the program stores again. The second
    /// store moved no timestamp, and the next backup took the file for unchanged. Promised now: either the timestamps move
    /// against what was stored, or the rule says to read again.
    fn second_store_is_noticed(place: &Path, length: usize) {
        std::fs::write(place.join("mapped"), vec![0; length]).unwrap();
        let file = File::options().read(true).write(true).open(place.join("mapped")).unwrap();
        let mut mapping = Mapping::new(&file, length).unwrap();
        mapping.store(10, b'1');
        let directory = Directory::open_root(place).unwrap();
        // The run begins well after the first store, so that the rule of the clock tick does not help.
        std::thread::sleep(std::time::Duration::from_millis(50));
        let started = Time::now();
        let mut reader = Reader::open(&directory, b"mapped", started).unwrap();
        let mut content = vec![0; length + 1];
        assert_eq!(reader.read(&mut content).unwrap(), length);
        assert_eq!(content[10], b'1');
        let (stored, settled) = (*reader.stat(), reader.settled());
        assert!(!reader.finish().unwrap().changed);
        std::thread::sleep(std::time::Duration::from_millis(50));
        mapping.store(10, b'2');
        let later = directory.stat(b"mapped").unwrap();
        let moved = (later.mtime, later.ctime) != (stored.mtime, stored.ctime);
        let reread = needs_reread(stored.size, stored.mtime, stored.ctime, started, directory.writes_back());
        assert!(moved || reread);
        assert_eq!(reread, !settled);
        assert!(moved || !settled, "settled means that the second store shows");
        assert_eq!(settled, directory.writes_back() && length as u64 >= WRITE_BACK_BYTES_MIN);
    }

    #[test]
    fn a_store_into_a_page_that_was_dirty_when_read_is_noticed() {
        for length in [4_096, WRITE_BACK_BYTES_MIN as usize] {
            // Wherever the tests run, and on tmpfs, which never writes back.
            second_store_is_noticed(tempfile::tempdir().unwrap().path(), length);
            if Path::new("/dev/shm").is_dir() {
                second_store_is_noticed(tempfile::tempdir_in("/dev/shm").unwrap().path(), length);
            }
        }
    }

    #[test]
    fn only_young_files_are_read_again() {
        let at = |seconds, nanoseconds| Time { seconds, nanoseconds };
        let started = at(1_000_000, 500_000_000);
        let large = WRITE_BACK_BYTES_MIN;
        // Within the clock tick, or after the start.
        assert!(needs_reread(0, at(0, 0), at(1_000_000, 490_000_000), started, true));
        assert!(needs_reread(0, at(0, 0), at(1_000_001, 1), started, true));
        // Whole seconds only: the tick is two seconds.
        assert!(needs_reread(0, at(0, 0), at(999_999, 0), started, true));
        assert!(!needs_reread(0, at(0, 0), at(999_999, 1), started, true));
        // Perhaps a dirty page.
        assert!(needs_reread(1, at(999_950, 1), at(999_950, 1), started, true));
        assert!(needs_reread(large, at(999_950, 1), at(999_950, 1), started, false));
        assert!(!needs_reread(large, at(999_950, 1), at(999_950, 1), started, true));
        // Unpacked just now with an old mtime; or mtime in the future for years.
        assert!(!needs_reread(1, at(5, 1), at(999_950, 1), started, true));
        assert!(!needs_reread(1, at(2_000_000, 1), at(900_000, 1), started, true));
    }

    #[test]
    fn ten_gibibytes_of_nothing_are_read_at_once() {
        let place = tempfile::tempdir().unwrap();
        let file = File::create(place.path().join("sparse")).unwrap();
        let size = 10 << 30;
        file.set_len(size).unwrap();
        for (offset, text) in [(1 << 30, &b"one"[..]), (5 << 30, b"two"), (size - 3, b"end")] {
            file.write_all_at(text, offset).unwrap();
        }
        let directory = Directory::open_root(place.path()).unwrap();
        let mut reader = Reader::open(&directory, b"sparse", Time::now()).unwrap();
        assert!(reader.remaining() < 1 << 20);
        assert!(!reader.holes().is_empty());
        // Put together again, the data and the holes are the file.
        let (mut at, mut data) = (0, reader.data.clone());
        data.reverse();
        let mut holes = reader.holes().to_vec().into_iter().peekable();
        let mut found: Vec<u8> = Vec::new();
        let mut buffer = vec![0; 1 << 16];
        while at < size {
            if let Some(hole) = holes.next_if(|hole| hole.offset == at) {
                at += hole.length;
                continue;
            }
            let (from, to) = data.remove(0);
            assert_eq!(from, at);
            let mut left = usize::try_from(to - from).unwrap();
            while left > 0 {
                let want = left.min(buffer.len());
                let got = reader.read(&mut buffer[..want]).unwrap();
                found.extend(buffer[..got].iter().filter(|byte| **byte != 0));
                left -= got;
            }
            at = to;
        }
        assert_eq!(found, b"onetwoend");
        let finished = reader.finish().unwrap();
        assert!(!finished.changed);
        assert_eq!(finished.size, size);
    }

    #[test]
    fn a_file_that_does_not_keep_still_is_noticed() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("log");
        let directory = Directory::open_root(place.path()).unwrap();
        let mut buffer = vec![0; 1 << 20];
        let mut read = |change: &dyn Fn(&File)| {
            std::fs::write(&path, vec![b'x'; 300_000]).unwrap();
            std::thread::sleep(std::time::Duration::from_millis(20));
            let mut reader = Reader::open(&directory, b"log", Time::now()).unwrap();
            let mut total = reader.read(&mut buffer[..1_000]).unwrap();
            change(&File::options().append(true).open(&path).unwrap());
            total += reader.read(&mut buffer).unwrap();
            assert_eq!(reader.read(&mut buffer).unwrap(), 0);
            let finished = reader.finish().unwrap();
            assert_eq!(finished.size, total as u64);
            (finished.changed, total)
        };
        assert_eq!(read(&|_| ()), (false, 300_000));
        assert_eq!(read(&|file| io::Write::write_all(&mut &*file, b"more").unwrap()), (true, 300_000));
        assert_eq!(read(&|file| file.set_len(70_000).unwrap()), (true, 70_000));
    }

    /// Story: a program that replaces a file by renaming a new one over it was at work between the look at the name and the
    /// opening; the file was called replaced and left out, and the snapshot complete. Promised now: what has the name is read.
    #[test]
    fn what_has_the_name_is_read_and_what_is_no_file_is_said() {
        use std::os::unix::net::UnixListener;
        let place = tempfile::tempdir().unwrap();
        let directory = Directory::open_root(place.path()).unwrap();
        let path = place.path().join("name");
        let open = || Reader::open(&directory, b"name", Time::now());
        let content = |mut reader: Reader| {
            let mut buffer = vec![0; 100];
            let length = reader.read(&mut buffer).unwrap();
            (buffer[..length].to_vec(), reader.stat().size, reader.finish().unwrap().changed)
        };
        std::fs::write(&path, "one").unwrap();
        assert_eq!(content(open().unwrap()), (b"one".to_vec(), 3, false));
        std::fs::write(place.path().join("new"), "another").unwrap();
        std::fs::rename(place.path().join("new"), &path).unwrap();
        assert_eq!(content(open().unwrap()), (b"another".to_vec(), 7, false));
        // A file that is replaced while it is open is read as what it was: one moment, nothing mixed.
        let open_file = open().unwrap();
        std::fs::write(place.path().join("new"), "third").unwrap();
        std::fs::rename(place.path().join("new"), &path).unwrap();
        let (bytes, size, _) = content(open_file);
        assert_eq!((bytes, size), (b"another".to_vec(), 7));
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(open(), Err(OpenError::Vanished)));
        let makers: [(&str, &dyn Fn()); 4] = [
            ("symbolic link", &|| std::os::unix::fs::symlink("new", &path).unwrap()),
            ("directory", &|| std::fs::create_dir(&path).unwrap()),
            ("socket", &|| drop(UnixListener::bind(&path).unwrap())),
            ("fifo", &|| {
                let fifo = rustix::fs::FileType::Fifo;
                rustix::fs::mknodat(&directory, "name", fifo, rustix::fs::Mode::RUSR, 0).unwrap();
            }),
        ];
        for (kind, make) in makers {
            make();
            assert!(matches!(open(), Err(OpenError::OtherKind)), "{kind}");
            std::fs::remove_file(&path).or_else(|_| std::fs::remove_dir(&path)).unwrap();
        }
    }

    #[test]
    fn a_file_that_says_it_is_empty_and_is_not_is_read_to_its_end() {
        if !Path::new("/proc/version").is_file() {
            eprintln!("SKIPPED a_file_that_says_it_is_empty_and_is_not_is_read_to_its_end: no /proc");
            return;
        }
        let read = |place: &Path, name: &[u8]| {
            let directory = Directory::open_root(place).unwrap();
            let mut reader = Reader::open(&directory, name, Time::now()).unwrap();
            assert_eq!(reader.stat().size, 0);
            let (mut all, mut buffer) = (Vec::new(), vec![0; 50]);
            while reader.remaining() > 0 {
                let length = reader.read(&mut buffer).unwrap();
                all.extend_from_slice(&buffer[..length]);
            }
            let finished = reader.finish().unwrap();
            assert_eq!((finished.size, finished.changed), (all.len() as u64, false));
            all
        };
        assert_eq!(read(Path::new("/proc"), b"version"), std::fs::read("/proc/version").unwrap());
        let place = tempfile::tempdir().unwrap();
        std::fs::write(place.path().join("empty"), "").unwrap();
        assert_eq!(read(place.path(), b"empty"), b"");
    }
}
