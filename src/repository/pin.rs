//! Pins: which state of the repository each running process relies on, so that nothing it may still read is removed.
//!
//! A process pins the generation of the head that it read, before it relies on anything that the head names. Whoever wants to
//! sweep what was marked in generation `m` first asks whether anyone pins a generation before `m`: only such a process
//! may believe that the marked objects are live. format-spec/deleting.md.
//!
//! # Invariants
//!
//! - One file a pin, `lock/pins/<generation>-<random>`, locked by who made it for as long as it is open. The lock is what
//!   counts: it ends with the process, however that ends. What stands in the file is for people.
//! - The file is locked before the newest head is read **again**: when that is still the pinned one, every mark that the
//!   process does not know of is published after the pin, and its sweeper finds the pin.
//! - A pin file without a lock is left over, or not yet locked by who is making it. Whoever removes it holds its lock
//!   meanwhile, and who makes one looks, once he has the lock, whether his file still has its name.

use crate::base::lock::lock;
use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::{Arc, Mutex};

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::lock::{FOLDER, Holder, LockError, Root};
use crate::base::private::{self, Owner};
use crate::base::regular;

/// Folder of the pins, in the folder of the locks.
const PINS: &str = "pins";
/// Files that are made for one pin, at most, before giving up: somebody would have to remove each at the same instant.
const ATTEMPTS: usize = 100;

/// Pins inside this process, for storages without files.
#[derive(Debug, Clone, Default)]
pub(super) struct Board(Arc<Mutex<Vec<(u64, u64, Holder)>>>);

impl Board {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(u64, u64, Holder)>> {
        lock(&self.0)
    }

    pub(super) fn pin(&self, generation: u64, holder: Holder) -> Pin {
        let mut pins = self.lock();
        let number = pins.iter().map(|(number, ..)| number + 1).max().unwrap_or(0);
        pins.push((number, generation, holder));
        Pin { generation, held: Held::Process(self.clone(), number) }
    }

    pub(super) fn oldest(&self) -> Option<Pinned> {
        let pins = self.lock();
        let oldest = pins.iter().min_by_key(|(_, generation, _)| *generation);
        oldest.map(|(_, generation, holder)| Pinned { generation: *generation, holder: Some(holder.clone()) })
    }
}

/// The right to rely on what one generation names; dropping it gives it up.
#[derive(Debug)]
#[must_use]
pub struct Pin {
    generation: u64,
    held: Held,
}

#[derive(Debug)]
enum Held {
    File {
        folder: OwnedFd,
        name: String,
        #[expect(dead_code, reason = "its lock is the pin")]
        file: OwnedFd,
    },
    Process(Board, u64),
}

impl Pin {
    /// The generation that is relied on.
    #[must_use]
    pub const fn generation(&self) -> u64 {
        self.generation
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        match &self.held {
            // Still locked: nobody else takes it for left over and removes the next one of this name.
            Held::File { folder, name, .. } => {
                let _ = rustix::fs::unlinkat(folder, name, AtFlags::empty());
            }
            Held::Process(board, number) => board.lock().retain(|(other, ..)| other != number),
        }
    }
}

/// A generation that somebody relies on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pinned {
    /// The generation.
    pub generation: u64,
    /// Who says so in the file, if that could be read.
    pub holder: Option<Holder>,
}

impl fmt::Display for Pinned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.holder {
            Some(holder) => write!(f, "{holder}"),
            None => write!(f, "another process"),
        }
    }
}

fn failed(root: &Root) -> impl Fn(Errno) -> LockError {
    let path = root.path().join(PINS);
    move |error| LockError::Failed { path: path.clone(), source: error.into() }
}

/// Opens the folder of the pins, and makes it and the folder of the locks when they are not there. Says also for whom a pin is made.
fn open_folder(root: &Root) -> Result<(OwnedFd, Option<Owner>), Errno> {
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let mut folder = root.open()?;
    let owner = Owner::of(&folder);
    for name in [FOLDER, PINS] {
        // Whatever mkdir says of a folder that exists, the next call tells.
        let _ = private::make_directory_at(folder.as_fd(), name, owner);
        folder = rustix::fs::openat(&folder, name, flags, Mode::empty())?;
    }
    Ok((folder, owner))
}

fn try_lock(file: &OwnedFd) -> Result<bool, Errno> {
    loop {
        match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(true),
            Err(Errno::WOULDBLOCK) => return Ok(false),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Whether a file still has its name. The count of its links does not say so over FUSE, where an open file that is removed goes on
/// under a hidden name.
fn has_name(file: &OwnedFd, folder: &OwnedFd, name: &str) -> Result<bool, Errno> {
    let own = rustix::fs::fstat(file)?;
    match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => Ok(false),
        Err(error) => Err(error),
        Ok(named) => Ok(own.st_nlink > 0 && (own.st_dev, own.st_ino) == (named.st_dev, named.st_ino)),
    }
}

/// Makes a pin in the repository at `root`.
pub(super) fn pin(root: &Root, generation: u64, holder: &Holder) -> Result<Pin, LockError> {
    let failed = failed(root);
    let (folder, owner) = open_folder(root).map_err(&failed)?;
    for _ in 0..ATTEMPTS {
        let mut number = [0; 8];
        getrandom::fill(&mut number).map_err(|_| failed(Errno::AGAIN))?;
        let number = u64::from_le_bytes(number);
        let name = format!("{generation:016x}-{number:016x}");
        let file = match private::create_at(folder.as_fd(), &*name, owner) {
            Err(Errno::EXIST) => continue,
            other => other.map_err(&failed)?,
        };
        // Whoever tidies up may have it at this instant, and then it is gone.
        if !try_lock(&file).map_err(&failed)? || !has_name(&file, &folder, &name).map_err(&failed)? {
            continue;
        }
        // For people: on a full disk the pin holds without it.
        let _ = rustix::io::pwrite(&file, holder.to_line().as_bytes(), 0);
        return Ok(Pin { generation, held: Held::File { folder, name, file } });
    }
    Err(failed(Errno::BUSY))
}

fn parse(name: &[u8]) -> Option<u64> {
    let name = str::from_utf8(name).ok()?;
    let (generation, number) = name.split_once('-')?;
    let is_hex = |text: &str| text.len() == 16 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    (is_hex(generation) && is_hex(number)).then(|| u64::from_str_radix(generation, 16).ok())?
}

/// The oldest generation that any process relies on, this one included. Removes what dead processes left.
pub(super) fn oldest(root: &Root) -> Result<Option<Pinned>, LockError> {
    let failed = failed(root);
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let opened = root.folder().and_then(|folder| rustix::fs::openat(folder, PINS, flags, Mode::empty()));
    let folder = match opened {
        Err(Errno::NOENT) => return Ok(None),
        other => other.map_err(&failed)?,
    };
    let mut oldest: Option<Pinned> = None;
    for entry in rustix::fs::Dir::read_from(&folder).map_err(&failed)? {
        let entry = entry.map_err(&failed)?;
        let name = entry.file_name();
        let Some(generation) = parse(name.to_bytes()) else { continue };
        let file = match regular::open_at(&folder, name, OFlags::RDONLY) {
            // Given up between the listing and now.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(source) => {
                let path = root.path().join(PINS).join(OsStr::from_bytes(name.to_bytes()));
                return Err(LockError::Failed { path, source });
            }
            Ok((file, _)) => file,
        };
        if try_lock(&file).map_err(&failed)? {
            let _ = rustix::fs::unlinkat(&folder, name, AtFlags::empty());
        } else if oldest.as_ref().is_none_or(|oldest| oldest.generation > generation) {
            oldest = Some(Pinned { generation, holder: super::lock::read_holder(&file) });
        }
    }
    Ok(oldest)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use std::io::{Read, Write};
    use std::process::{Command, Stdio};

    use super::super::lock::Locks;

    const CHILD: &str = "PACKSTONE_TEST_PIN_CHILD";

    #[test]
    fn the_oldest_pin_is_found_until_it_is_given_up() {
        let directory = tempfile::tempdir().unwrap();
        for locks in [Locks::open(directory.path()), Locks::none()] {
            assert_eq!(locks.oldest_pin().unwrap(), None);
            let newer = locks.pin(7).unwrap();
            let older = locks.clone().for_command("restore").pin(3).unwrap();
            let same = locks.pin(3).unwrap();
            assert_eq!((newer.generation(), older.generation()), (7, 3));
            drop(same);
            let found = locks.oldest_pin().unwrap().unwrap();
            assert_eq!(found.generation, 3);
            let holder = found.holder.unwrap();
            assert_eq!((holder.pid, holder.command.as_str()), (std::process::id(), "restore"));
            drop(older);
            assert_eq!(locks.oldest_pin().unwrap().map(|pinned| pinned.generation), Some(7));
            drop(newer);
            assert_eq!(locks.oldest_pin().unwrap(), None);
        }
        assert_eq!(std::fs::read_dir(directory.path().join("lock/pins")).unwrap().count(), 0);
    }

    #[test]
    fn a_killed_process_pins_nothing_and_a_stopped_one_does() {
        if let Ok(root) = std::env::var(CHILD) {
            let _pin = Locks::open(root.as_ref()).for_command("backup").pin(5).unwrap();
            std::io::stderr().write_all(b"!").unwrap();
            let _ = std::io::stdin().read(&mut [0]);
            panic!("the child was to be killed");
        }
        let directory = tempfile::tempdir().unwrap();
        let locks = Locks::open(directory.path());
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "repository::pin::tests::a_killed_process_pins_nothing_and_a_stopped_one_does",
                "--nocapture",
            ])
            .env(CHILD, directory.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stderr.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        let found = locks.oldest_pin().unwrap().unwrap();
        assert_eq!((found.generation, found.holder.unwrap().pid), (5, child.id()));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(locks.oldest_pin().unwrap(), None);
        assert_eq!(std::fs::read_dir(directory.path().join("lock/pins")).unwrap().count(), 0, "it was tidied up");
    }

    #[test]
    fn many_threads_pin_while_others_tidy_up() {
        let directory = tempfile::tempdir().unwrap();
        let locks = Locks::open(directory.path());
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let pin = locks.pin(1).unwrap();
                        assert_eq!(locks.oldest_pin().unwrap().map(|pinned| pinned.generation), Some(1));
                        drop(pin);
                    }
                });
            }
            scope.spawn(|| {
                for _ in 0..400 {
                    let _ = locks.oldest_pin().unwrap();
                }
            });
        });
        assert_eq!(locks.oldest_pin().unwrap(), None);
    }

    #[test]
    fn other_files_are_no_pins() {
        let directory = tempfile::tempdir().unwrap();
        let locks = Locks::open(directory.path());
        drop(locks.pin(1).unwrap());
        for name in ["x", "0000000000000001", "0000000000000001-", "000000000000000G-0000000000000000"] {
            std::fs::write(directory.path().join("lock/pins").join(name), "").unwrap();
        }
        assert_eq!(locks.oldest_pin().unwrap(), None);
    }
}
