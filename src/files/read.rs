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

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;

use rustix::fs::{Advice, SeekFrom, fadvise, seek};
use rustix::io::Errno;

use super::directory::{Directory, is_loop, writes_back};
use super::stat::{Kind, Stat};
use super::sys;
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
    /// Another inode stands under the name now.
    #[error("was replaced while it was being looked at")]
    Replaced,
    /// The system says no.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// What is known at the end of reading.
#[derive(Debug)]
pub struct Finished {
    /// What the kernel says about the file now.
    pub stat: Stat,
    /// Size of what was read, holes included: the size when it was opened, or less when the file shrank.
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
}

impl AsFd for Reader {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Reader {
    /// Opens the file that `expected` describes. May wait for write-back; see the module.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(directory: &Directory, name: &[u8], expected: &Stat, now: Time) -> Result<Self, OpenError> {
        let file = match directory.open_file(name) {
            Ok(file) => File::from(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(OpenError::Vanished),
            Err(error) if is_loop(&error) => return Err(OpenError::Replaced),
            // A socket or a device without a driver.
            Err(error) if error.raw_os_error() == Some(Errno::NXIO.raw_os_error()) => return Err(OpenError::Replaced),
            Err(error) => return Err(error.into()),
        };
        let stat = Stat::of(&file)?;
        if stat.kind != Kind::File || !stat.same_inode(expected) {
            return Err(OpenError::Replaced);
        }
        let mut settled = !may_be_dirty(stat.mtime, stat.ctime, now);
        if !settled && stat.size >= WRITE_BACK_BYTES_MIN && writes_back(file.as_fd()) {
            settled = sys::write_back(file.as_fd()).is_ok();
        }
        if stat.size >= READ_AHEAD_BYTES_MIN {
            // Advice only.
            let _ = fadvise(&file, 0, None, Advice::Sequential);
        }
        let (data, holes) = extents(&file, &stat)?;
        Ok(Self { file, stat, settled, data, holes, end: None })
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

    /// Bytes of data still to come, if the file keeps still.
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
    /// What the kernel says: a disk that cannot be read, mostly.
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
        let changed = self.end.is_some() || (now.size, now.mtime, now.ctime) != (was.size, was.mtime, was.ctime);
        let size = self.end.unwrap_or(was.size);
        self.holes.retain(|hole| hole.offset < size);
        Ok(Finished { stat: now, size, holes: self.holes, changed })
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
