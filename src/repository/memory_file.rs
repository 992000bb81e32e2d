//! One file of this machine's memory: read without being taken for what is not there, and written whole or not at all.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::io::Errno;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::base::private;

/// Longest file that is read, in bytes. A path has at most 4 KiB, which JSON may make six times as long.
pub(super) const BYTES_MAX: u64 = 64 << 10;

/// The answer of a memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recalled<T> {
    /// Nothing was ever written down.
    Nothing,
    /// This was.
    Known(T),
    /// Something was, and nobody knows what.
    Unreadable(Unreadable),
}

/// A file of the memory that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// Where it is.
    pub file: PathBuf,
    /// Why not.
    pub why: String,
    /// What the system answered, when it did not give the content: that may be as it was. None for content that was read and is wrong.
    errno: Option<i32>,
}

impl Unreadable {
    /// What was read is not what was written.
    pub(crate) fn wrong(file: &Path, why: &str) -> Self {
        Self { file: file.to_path_buf(), why: why.to_owned(), errno: None }
    }

    /// The system did not give it.
    pub(super) fn refused(file: &Path, error: &io::Error) -> Self {
        let errno = error.raw_os_error().or(Some(Errno::IO.raw_os_error()));
        Self { file: file.to_path_buf(), why: error.to_string(), errno }
    }

    /// Why it must not be written over: its content was not read, and may be right.
    #[must_use]
    pub fn refusal(&self) -> Option<io::Error> {
        self.errno.map(io::Error::from_raw_os_error)
    }
}

/// The link on the way to `path`, or in its place, that leads nowhere: to a disk that is not there now. What lies behind it is not absent.
fn dangling(path: &Path) -> Option<PathBuf> {
    let is_absent = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    for above in path.ancestors() {
        match above.symlink_metadata() {
            Err(error) if is_absent(&error) => {}
            Ok(found) if found.is_symlink() => {
                return above.metadata().is_err_and(|error| is_absent(&error)).then(|| above.to_path_buf());
            }
            _ => return None,
        }
    }
    None
}

impl<T> Recalled<T> {
    pub(super) fn map<U>(self, change: impl FnOnce(T) -> U) -> Recalled<U> {
        match self {
            Self::Known(known) => Recalled::Known(change(known)),
            Self::Nothing => Recalled::Nothing,
            Self::Unreadable(why) => Recalled::Unreadable(why),
        }
    }

    /// What is known, if anything is.
    #[must_use]
    pub fn known(self) -> Option<T> {
        match self {
            Self::Known(known) => Some(known),
            Self::Nothing | Self::Unreadable(_) => None,
        }
    }
}

/// Reads one file. What is no regular file is not waited for.
pub(super) fn read<T: DeserializeOwned>(path: &Path) -> Recalled<T> {
    let unreadable = |why: &str| Recalled::Unreadable(Unreadable::wrong(path, why));
    let refused = |error: &io::Error| Recalled::Unreadable(Unreadable::refused(path, error));
    let mut options = fs::OpenOptions::new();
    options.read(true).custom_flags((OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed());
    let file = match options.open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return match dangling(path) {
                None => Recalled::Nothing,
                Some(link) => Recalled::Unreadable(Unreadable {
                    why: "a link that leads nowhere".to_owned(),
                    ..Unreadable::refused(&link, &error)
                }),
            };
        }
        Err(error) => return refused(&error),
    };
    match file.metadata() {
        Ok(found) if found.is_file() => {}
        Ok(_) => return unreadable("it is no file"),
        Err(error) => return refused(&error),
    }
    let mut bytes = Vec::new();
    match file.take(BYTES_MAX + 1).read_to_end(&mut bytes) {
        Ok(_) if bytes.len() as u64 > BYTES_MAX => unreadable("it is too long"),
        Ok(_) => match serde_json::from_slice(&bytes) {
            Ok(value) => Recalled::Known(value),
            Err(_) if bytes.is_empty() => unreadable("it is empty"),
            Err(_) => unreadable("its content is damaged"),
        },
        Err(error) => refused(&error),
    }
}

/// Puts a file in place of whatever has its name. A crash leaves the old one or the new one.
pub(super) fn write(path: &Path, value: &impl Serialize) -> io::Result<()> {
    let folder = path.parent().ok_or(io::ErrorKind::NotFound)?;
    make(folder)?;
    // An empty directory in its place says nothing that could be lost.
    if path.symlink_metadata().is_ok_and(|found| found.is_dir()) {
        fs::remove_dir(path)?;
    }
    let temporary = folder.join(format!(".{}.tmp", private::random_digits()?));
    let store = || {
        let mut file = private::create(&temporary)?;
        file.write_all(&serde_json::to_vec_pretty(value)?)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        fs::File::open(folder)?.sync_all()
    };
    store().inspect_err(|_| drop(fs::remove_file(&temporary)))
}

/// Makes a folder whose name lasts.
pub(super) fn make(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    private::make_directories(folder)?;
    folder.parent().map_or(Ok(()), |above| fs::File::open(above)?.sync_all())
}

/// Removes a file that may be gone already.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
