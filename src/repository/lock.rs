//! Locks that end with the process that holds them, however it ends.
//!
//! Two of them: `lock/writer` is held by the one process that may write packs, from its first pack to its head;
//! `lock/append` is held by whoever publishes a head, for moments. They are `flock` locks of the operating system on
//! open files: a killed process holds nothing, a restarted machine holds nothing, and no command that breaks locks is
//! needed or exists.
//!
//! # Invariants
//!
//! - The files are made once and never removed: a process that waits on a removed file and one that makes it anew would
//!   both be the holder.
//! - What stands in them (process, since when, command) is for people. It may be stale, half written, or anybody's;
//!   no decision rests on it, and it is escaped when shown.
//! - Reading needs no lock file, so a repository on a read-only file system can be read.
//! - Two handles exclude each other in one process too: `flock` belongs to the open file, not to the process.
//! - What is locked is the directory that is read and written: another one may lie at its path before the command has ended.

use crate::base::lock::{lock, wait_timeout};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use rustix::fs::{CWD, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::ballast;
use super::pin::{self, Board, Pin, Pinned};
use crate::base::escape::{Escaped, escape};
use crate::base::private::{self, Owner};
use crate::base::regular;
use crate::base::stop::StopSignal;
use crate::base::time::Time;

/// Folder of the lock files in the repository.
pub(super) const FOLDER: &str = "lock";
/// Bytes of a lock file that are looked at.
const HOLDER_BYTES_MAX: usize = 256;
/// Waiting for the append lock ends after this time: its holder does a few small writes, so it must be stuck.
const APPEND_WAIT: Duration = Duration::from_secs(60);
/// Even who does not want to wait tries for this long: [`Locks::writer_free`] holds the lock for an instant.
const WAIT_MIN: Duration = Duration::from_millis(100);
/// Pause between two attempts: doubles from the first value to the second.
const PAUSE: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(100));

/// Who says that he holds a lock. For people only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Process.
    pub pid: u32,
    /// When it took the lock.
    pub since: Time,
    /// The command's word, such as "backup"; may hold anything.
    pub command: String,
}

impl Holder {
    pub(super) fn to_line(&self) -> String {
        format!("{} {} {}\n", self.pid, self.since.seconds, self.command)
    }

    /// Reads a lock file's bytes; `None` for anything that was not written whole by us.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let line = str::from_utf8(bytes).ok()?.strip_suffix('\n')?;
        let (pid, rest) = line.split_once(' ')?;
        let (since, command) = rest.split_once(' ')?;
        let since = Time::from_seconds(since.parse().ok()?);
        Some(Self { pid: pid.parse().ok()?, since, command: command.to_owned() })
    }

    /// "backup, PID 4121, since 10:02"; with the date when that was on another day.
    fn describe(&self, now: Time, zone: &TimeZone) -> String {
        let mut text = format!("{}, PID {}", Escaped(self.command.as_bytes()), self.pid);
        let zoned = |time: Time| Some(Timestamp::from_second(time.seconds).ok()?.to_zoned(zone.clone()));
        if let (Some(since), Some(now)) = (zoned(self.since), zoned(now)) {
            let format = if since.date() == now.date() { "%H:%M" } else { "%Y-%m-%d %H:%M" };
            text.push_str(&format!(", since {}", since.strftime(format)));
        }
        text
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.describe(Time::now(), &TimeZone::system()))
    }
}

/// A lock was not got.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another run holds it.
    #[error("the repository is in use by another run{}", holder.as_ref().map(|holder| format!(": {holder}")).unwrap_or_default())]
    Busy {
        /// Who says so in the lock file, if that could be read.
        holder: Option<Holder>,
    },
    /// The lock file could not be opened or locked.
    #[error("cannot lock {}: {source}; writing needs a file system with locks (flock) and the right to write there", escape(path.as_os_str().as_encoded_bytes()))]
    Failed {
        /// The lock file.
        path: PathBuf,
        /// The operating system's word.
        source: io::Error,
    },
    /// Somebody wanted an end while another run held it.
    #[error("interrupted")]
    Interrupted,
}

/// A lock inside this process, for storages without files.
#[derive(Debug, Default)]
struct Slot {
    holder: Mutex<Option<Holder>>,
    freed: Condvar,
}

impl Slot {
    fn lock(&self) -> MutexGuard<'_, Option<Holder>> {
        lock(&self.holder)
    }
}

/// The directory of a repository.
#[derive(Debug, Clone)]
pub(super) struct Root {
    path: PathBuf,
    /// The directory itself, where it is open; else whatever lies at the path.
    directory: Option<Arc<OwnedFd>>,
}

impl Root {
    pub fn of(path: &Path) -> Self {
        Self { path: path.to_path_buf(), directory: None }
    }

    pub fn open(&self) -> Result<OwnedFd, Errno> {
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        match &self.directory {
            Some(directory) => rustix::fs::openat(&**directory, ".", flags, Mode::empty()),
            None => rustix::fs::openat(CWD, &self.path, flags, Mode::empty()),
        }
    }

    /// The folder of the locks.
    pub fn folder(&self) -> Result<OwnedFd, Errno> {
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        rustix::fs::openat(self.open()?, FOLDER, flags, Mode::empty())
    }

    /// Its path in it, for a message.
    pub fn path(&self) -> PathBuf {
        self.path.join(FOLDER)
    }
}

#[derive(Debug, Clone)]
enum Place {
    Files { root: Root },
    Process { writer: Arc<Slot>, append: Arc<Slot>, pins: Option<Board> },
}

#[derive(Debug, Clone, Copy)]
enum Which {
    Writer,
    Append,
}

impl Which {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Writer => "writer",
            Self::Append => "append",
        }
    }
}

/// The locks of one repository. A clone is another handle on the same ones.
#[derive(Debug, Clone)]
pub struct Locks {
    place: Place,
    command: String,
    stop: StopSignal,
}

/// The right to write packs; dropping it gives it back.
#[derive(Debug)]
#[must_use]
pub struct WriterGuard(#[expect(dead_code, reason = "held for its drop")] Guard);

/// The right to publish a head; dropping it gives it back.
#[derive(Debug)]
#[must_use]
pub struct AppendGuard(#[expect(dead_code, reason = "held for its drop")] Guard);

#[derive(Debug)]
enum Guard {
    File(OwnedFd),
    Process(Arc<Slot>),
}

impl Drop for Guard {
    fn drop(&mut self) {
        match self {
            // Who waits next must not be shown somebody who is done. Closing the file releases the lock.
            Self::File(file) => drop(rustix::fs::ftruncate(&*file, 0)),
            Self::Process(slot) => {
                *slot.lock() = None;
                slot.freed.notify_one();
            }
        }
    }
}

impl Locks {
    /// The locks of the repository in the directory `root`. Touches nothing yet.
    #[must_use]
    pub fn open(root: &Path) -> Self {
        Self::at(Root::of(root))
    }

    /// The same of a directory that is open. `root` is its path, for messages.
    #[must_use]
    pub fn within(root: &Path, directory: OwnedFd) -> Self {
        Self::at(Root { path: root.to_path_buf(), directory: Some(Arc::new(directory)) })
    }

    fn at(root: Root) -> Self {
        Self::of(Place::Files { root })
    }

    fn of(place: Place) -> Self {
        Self { place, command: "packstone".to_owned(), stop: StopSignal::new() }
    }

    /// Locks among the threads of this process, for a storage in memory: clones exclude each other.
    #[must_use]
    pub fn none() -> Self {
        Self::of(Place::Process { writer: Arc::default(), append: Arc::default(), pins: Some(Board::default()) })
    }

    /// For a mirror that is only read. Nobody there waits for a pin: what it no longer needs stays for as long as its grace says.
    #[must_use]
    pub fn of_mirror() -> Self {
        Self::of(Place::Process { writer: Arc::default(), append: Arc::default(), pins: None })
    }

    /// True when somebody waits for what is pinned here.
    #[must_use]
    pub(super) const fn knows_pins(&self) -> bool {
        !matches!(self.place, Place::Process { pins: None, .. })
    }

    /// True when nothing is locked but between the parts of this process.
    #[must_use]
    pub(super) const fn is_of_process(&self) -> bool {
        matches!(self.place, Place::Process { .. })
    }

    /// The word that others are shown for what this process does, such as "backup".
    #[must_use]
    pub fn for_command(mut self, command: &str) -> Self {
        self.command = command.chars().take(64).collect();
        self
    }

    /// Ends every wait for a lock once somebody wants an end. Clones that were made before are not ended by it.
    #[must_use]
    pub fn ended_by(mut self, stop: StopSignal) -> Self {
        self.stop = stop;
        self
    }

    /// What ends every wait.
    #[must_use]
    pub const fn stop(&self) -> &StopSignal {
        &self.stop
    }

    /// True once somebody wants an end.
    #[must_use]
    pub(super) fn is_ended(&self) -> bool {
        self.stop.is_set()
    }

    /// Takes the writer lock; waits up to `retry` for another run to end, then [`LockError::Busy`]. [`LockError::Interrupted`]
    /// when somebody wants an end before that: within 200 ms.
    pub fn writer(&self, retry: Duration) -> Result<WriterGuard, LockError> {
        self.take(Which::Writer, retry.max(WAIT_MIN)).map(WriterGuard)
    }

    /// Takes the append lock, waiting for the moments that another run needs it. Errors as of [`Locks::writer`].
    pub fn append(&self) -> Result<AppendGuard, LockError> {
        self.take(Which::Append, APPEND_WAIT).map(AppendGuard)
    }

    /// Whether the writer lock is free at this moment; [`LockError::Busy`] names who holds it. Makes no file.
    pub fn writer_free(&self) -> Result<(), LockError> {
        let root = match &self.place {
            Place::Files { root } => root,
            Place::Process { writer, .. } => {
                return match &*writer.lock() {
                    None => Ok(()),
                    holder => Err(LockError::Busy { holder: holder.clone() }),
                };
            }
        };
        let name = Which::Writer.as_str();
        let path = root.path().join(name);
        let opened = root.folder().map_err(io::Error::from);
        let file = match opened.and_then(|folder| regular::open_at(folder, name, OFlags::RDONLY)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other.map_err(|source| LockError::Failed { path: path.clone(), source })?.0,
        };
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => Ok(()),
            Err(Errno::WOULDBLOCK) => Err(LockError::Busy { holder: read_holder(&file) }),
            Err(error) => Err(LockError::Failed { path, source: error.into() }),
        }
    }

    /// Relies on what the head of `generation` names, until the pin is dropped.
    ///
    /// # Errors
    /// [`LockError::Failed`], also where nothing can be written.
    pub fn pin(&self, generation: u64) -> Result<Pin, LockError> {
        match &self.place {
            Place::Files { root } => pin::pin(root, generation, &self.me()),
            Place::Process { pins, .. } => Ok(pins.clone().unwrap_or_default().pin(generation, self.me())),
        }
    }

    /// The oldest generation that any process relies on, this one included.
    ///
    /// # Errors
    /// [`LockError::Failed`].
    pub fn oldest_pin(&self) -> Result<Option<Pinned>, LockError> {
        match &self.place {
            Place::Files { root } => pin::oldest(root),
            Place::Process { pins, .. } => Ok(pins.as_ref().and_then(Board::oldest)),
        }
    }

    /// Gives some of the room that was kept on the disk for the time when it is full, for something of so many bytes; true when
    /// there was some.
    pub(super) fn give_ballast(&self, wanted: ballast::Use, bytes: u64, head_bytes: u64) -> bool {
        matches!(&self.place, Place::Files { root } if ballast::give(root, wanted, bytes, head_bytes))
    }

    /// Keeps some room on the disk for the time when it is full, if there is enough now.
    pub(super) fn keep_ballast(&self, head_bytes: u64) {
        if let Place::Files { root } = &self.place {
            ballast::keep(root, head_bytes);
        }
    }

    /// The same when a sweep has made room.
    pub(super) fn keep_ballast_after_sweep(&self, head_bytes: u64) {
        if let Place::Files { root } = &self.place {
            ballast::keep_after_sweep(root, head_bytes);
        }
    }

    fn me(&self) -> Holder {
        Holder { pid: std::process::id(), since: Time::now(), command: self.command.clone() }
    }

    fn take(&self, which: Which, wait: Duration) -> Result<Guard, LockError> {
        match (&self.place, which) {
            (Place::Files { root }, _) => self.take_file(root, which, wait),
            (Place::Process { writer: slot, .. }, Which::Writer)
            | (Place::Process { append: slot, .. }, Which::Append) => {
                let begun = Instant::now();
                let mut holder = slot.lock();
                while holder.is_some() {
                    let left = wait.saturating_sub(begun.elapsed());
                    if self.is_ended() {
                        return Err(LockError::Interrupted);
                    } else if left.is_zero() {
                        return Err(LockError::Busy { holder: holder.clone() });
                    }
                    holder = wait_timeout(&slot.freed, holder, left.min(PAUSE.1));
                }
                *holder = Some(self.me());
                drop(holder);
                Ok(Guard::Process(Arc::clone(slot)))
            }
        }
    }

    fn take_file(&self, root: &Root, which: Which, wait: Duration) -> Result<Guard, LockError> {
        let failed = |source: io::Error| LockError::Failed { path: root.path().join(which.as_str()), source };
        let file = open_file(root, which).map_err(failed)?;
        let begun = Instant::now();
        let mut pause = PAUSE.0;
        loop {
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(Errno::INTR) => continue,
                Err(Errno::WOULDBLOCK) if self.is_ended() => return Err(LockError::Interrupted),
                Err(Errno::WOULDBLOCK) if begun.elapsed() >= wait => {
                    return Err(LockError::Busy { holder: read_holder(&file) });
                }
                Err(Errno::WOULDBLOCK) => std::thread::sleep(pause.min(wait.saturating_sub(begun.elapsed()))),
                Err(error) => return Err(failed(error.into())),
            }
            pause = (pause * 2).min(PAUSE.1);
        }
        // For people: on a full disk the lock holds without it.
        let _ = rustix::fs::ftruncate(&file, 0);
        let _ = rustix::io::pwrite(&file, self.me().to_line().as_bytes(), 0);
        Ok(Guard::File(file))
    }
}

/// Opens a lock file, and makes it and its folder when they are not there (a copied repository may lack them).
fn open_file(root: &Root, which: Which) -> io::Result<OwnedFd> {
    let directory = root.open()?;
    let owner = Owner::of(&directory);
    // Whatever mkdir says of a folder that exists (EROFS, on a read-only file system), the next call tells.
    let _ = private::make_directory_at(directory.as_fd(), FOLDER, owner);
    let folder = root.folder()?;
    private::open_at(folder.as_fd(), which.as_str(), owner)
}

pub(super) fn read_holder(file: &OwnedFd) -> Option<Holder> {
    let mut bytes = [0; HOLDER_BYTES_MAX];
    let length = rustix::io::pread(file, &mut bytes[..], 0).ok()?;
    Holder::parse(bytes.get(..length)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::base::stop::Stop;
    use std::io::{Read, Write};
    use std::process::{Command, Stdio};

    const CHILD: &str = "PACKSTONE_TEST_LOCK_CHILD";

    fn holder_of<T>(result: Result<T, LockError>) -> Option<Holder> {
        match result {
            Err(LockError::Busy { holder }) => holder,
            Err(error) => panic!("{error}"),
            Ok(_) => panic!("the lock was free"),
        }
    }

    fn exclude(locks: &Locks) {
        let one = locks.clone().for_command("backup");
        locks.writer_free().unwrap();
        let writer = one.writer(Duration::ZERO).unwrap();
        let holder = holder_of(locks.writer(Duration::ZERO)).unwrap();
        assert_eq!((holder.pid, holder.command.as_str()), (std::process::id(), "backup"));
        assert_eq!(holder_of(locks.writer_free()), Some(holder));
        let append = locks.append().unwrap();
        let waiting = {
            let locks = locks.clone();
            std::thread::spawn(move || locks.append().map(drop))
        };
        drop(append);
        waiting.join().unwrap().unwrap();
        let waiting = {
            let locks = locks.clone();
            std::thread::spawn(move || locks.writer(Duration::from_secs(600)).map(drop))
        };
        drop(writer);
        waiting.join().unwrap().unwrap();
        locks.writer_free().unwrap();
        drop(locks.writer(Duration::ZERO).unwrap());
    }

    /// The directory was renamed, and another one lies at its path, or none.
    #[test]
    fn what_is_locked_is_the_directory_that_is_open() {
        let above = tempfile::tempdir().unwrap();
        let (here, moved) = (above.path().join("here"), above.path().join("moved"));
        std::fs::create_dir(&here).unwrap();
        let open = || OwnedFd::from(std::fs::File::open(&here).unwrap());
        let locks = Locks::within(&here, open());
        std::fs::rename(&here, &moved).unwrap();
        assert!(locks.oldest_pin().unwrap().is_none());
        let _pin = locks.pin(3).unwrap();
        let _writer = locks.writer(Duration::ZERO).unwrap();
        std::fs::create_dir(&here).unwrap();
        assert_eq!(locks.oldest_pin().unwrap().map(|pinned| pinned.generation), Some(3));
        assert!(locks.writer_free().is_err() && Locks::open(&moved).writer_free().is_err());
        assert!(Locks::within(&here, open()).writer_free().is_ok());
        assert_eq!(std::fs::read_dir(&here).unwrap().count(), 0, "nothing was made there");
    }

    #[test]
    fn one_writer_at_a_time_in_one_process() {
        let directory = tempfile::tempdir().unwrap();
        exclude(&Locks::open(directory.path()));
        exclude(&Locks::none());
    }

    /// A stop ends a wait for a lock. A lock that is free is still taken after a stop, so that finished work can be published.
    #[test]
    fn a_wait_hears_a_stop() {
        let directory = tempfile::tempdir().unwrap();
        for locks in [Locks::open(directory.path()), Locks::none()] {
            let stop = StopSignal::new();
            let mine = locks.clone().ended_by(stop.clone());
            let writer = locks.writer(Duration::ZERO).unwrap();
            let append = locks.append().unwrap();
            let waiting = [
                std::thread::spawn({
                    let mine = mine.clone();
                    move || mine.writer(Duration::from_secs(600)).map(drop)
                }),
                std::thread::spawn({
                    let mine = mine.clone();
                    move || mine.append().map(drop)
                }),
            ];
            std::thread::sleep(Duration::from_millis(300));
            assert!(waiting.iter().all(|thread| !thread.is_finished()), "it waits");
            let asked = Instant::now();
            stop.request(Stop::User);
            for thread in waiting {
                let error = thread.join().unwrap().unwrap_err();
                assert!(matches!(error, LockError::Interrupted), "{error}");
            }
            assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
            assert!(locks.writer(Duration::ZERO).is_err_and(|error| matches!(error, LockError::Busy { .. })));
            drop((writer, append));
            drop((mine.writer(Duration::ZERO).unwrap(), mine.append().unwrap()));
        }
    }

    #[test]
    fn many_threads_append_one_after_the_other() {
        let directory = tempfile::tempdir().unwrap();
        for locks in [Locks::open(directory.path()), Locks::none()] {
            let inside = Mutex::new(0);
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        for _ in 0..20 {
                            let _append = locks.append().unwrap();
                            *inside.try_lock().expect("two inside") += 1;
                        }
                    });
                }
            });
            assert_eq!(inside.into_inner().unwrap(), 80);
        }
    }

    #[test]
    fn a_killed_process_holds_nothing() {
        if let Ok(root) = std::env::var(CHILD) {
            let _writer = Locks::open(Path::new(&root)).for_command("backup").writer(Duration::ZERO).unwrap();
            io::stderr().write_all(b"!").unwrap();
            let _ = io::stdin().read(&mut [0]);
            panic!("the child was to be killed");
        }
        let directory = tempfile::tempdir().unwrap();
        let locks = Locks::open(directory.path());
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "repository::lock::tests::a_killed_process_holds_nothing", "--nocapture"])
            .env(CHILD, directory.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stderr.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        let holder = holder_of(locks.writer(Duration::ZERO)).unwrap();
        assert_eq!((holder.pid, holder.command.as_str()), (child.id(), "backup"));
        child.kill().unwrap();
        child.wait().unwrap();
        locks.writer_free().unwrap();
        drop(locks.writer(Duration::ZERO).unwrap());
    }

    #[test]
    fn what_stands_in_a_lock_file_is_shown_but_never_trusted() {
        let directory = tempfile::tempdir().unwrap();
        let locks = Locks::open(directory.path());
        let file = directory.path().join("lock/writer");
        let writer = locks.writer(Duration::ZERO).unwrap();
        let texts: [&[u8]; 6] = [b"", b"\n", b"4121", b"-1 0 x\n", b"4121 0 backup", &[0xff; 5000]];
        for text in texts {
            std::fs::write(&file, text).unwrap();
            assert_eq!(holder_of(locks.writer(Duration::ZERO)), None, "{text:?}");
        }
        std::fs::write(&file, b"4121 9223372036854775807 \x1b[31mroot\x07\n").unwrap();
        let shown = locks.writer(Duration::ZERO).unwrap_err().to_string();
        assert!(shown.ends_with("another run: \\x1b[31mroot\\x07, PID 4121"), "{shown}");
        drop(writer);
        // The text of somebody long gone does not lock anything.
        std::fs::write(&file, b"1 0 backup\n").unwrap();
        drop(locks.writer(Duration::ZERO).unwrap());
        assert_eq!(std::fs::read(&file).unwrap(), b"", "who is done takes his name away");
    }

    #[test]
    fn the_sentence_names_command_process_and_time() {
        let since = Time::from_seconds(1_763_632_920);
        let holder = Holder { pid: 4121, since, command: "backup".to_owned() };
        let later = |seconds| Time::from_seconds(since.seconds + seconds);
        assert_eq!(holder.describe(later(60), &TimeZone::UTC), "backup, PID 4121, since 10:02");
        assert_eq!(holder.describe(later(86_400), &TimeZone::UTC), "backup, PID 4121, since 2025-11-20 10:02");
        assert_eq!(Holder::parse(holder.to_line().as_bytes()), Some(holder));
    }

    #[test]
    fn asking_makes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        Locks::open(directory.path()).writer_free().unwrap();
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
        let error = Locks::open(&directory.path().join("absent")).writer(Duration::ZERO).unwrap_err();
        assert!(matches!(error, LockError::Failed { .. }), "{error}");
    }
}
