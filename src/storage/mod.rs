//! Named immutable objects somewhere: the local disk, memory, a crash model; later a cloud.
//!
//! # What every storage promises
//!
//! 1. An object appears under its name **whole or not at all**, at the moment [`Upload::finish`] or [`Storage::put`]
//!    returns, and from then on survives a power cut.
//! 2. An object is **never overwritten**. Putting a name that exists is [`Stored::Exists`] and leaves the object alone;
//!    where the name is a hash and other bytes are there than were handed over, it is an error instead, so that nobody
//!    takes a damaged object for what he has just stored.
//! 3. A failed write leaves nothing under the name (or, when even that is unknown, the whole object). An fsync or
//!    close error is final for the run ([`ErrorKind::Durability`]): it is never retried, because the kernel may have
//!    dropped the dirty pages and would report success the second time.
//! 4. A read returns exactly the bytes asked for or an error. It does not promise that they are the bytes written:
//!    every caller checks a hash or a tag.
//! 5. A storage is handed sealed or signed bytes only. It knows nothing of what they mean.

pub mod address;
pub mod at_mirror;
pub mod aws_profile;
pub mod body;
pub mod budget;
pub mod cause;
pub mod crash;
pub mod device;
pub mod disk;
pub mod local;
pub mod memory;
mod name;
pub mod patience;
pub mod rate_limit;
pub mod read_only;
pub mod remote;
pub mod several;
pub mod windows;

pub use name::{Folder, ObjectName, ParseNameError};

use std::fmt;
use std::io;
use std::sync::Arc;

use rustix::io::Errno;

use self::body::Body;
use self::cause::{Behind, Cause, Keeping, MirrorPlace};
use self::rate_limit::RateLimit;
use self::windows::Extent;
use crate::base::command::unmarked;

/// What kind of failure a storage met; decides what a person can do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// No object of this name.
    Absent,
    /// The operating system or the store says that we may not.
    Denied,
    /// No space, quota or inodes left.
    Full,
    /// The bytes may not have reached the disk (fsync or close failed). Never retried.
    Durability,
    /// The object ends before the range that was asked for, or is larger than the limit given.
    Length,
    /// Something lies under the object's name that is no regular file: a directory, a link, a pipe.
    NoFile,
    /// This process or this machine has run out of open files or memory ([`crate::base::shortage`]).
    Shortage,
    /// The disk, or what stands between it and us, failed: a sector that cannot be read, a file system that went away.
    Device,
    /// The store did not answer, or asked us to come later, as often as it was tried.
    Unavailable,
    /// The user wanted an end before it was done. It says nothing of the store.
    Interrupted,
    /// The store refuses, and says nothing of the object by it: its words are in the source. Asking again would not help.
    Refused,
    /// Anything else: see the source.
    Other,
}

impl ErrorKind {
    /// True when the failure says something of the object: it is not there, it is something else, or it has another length.
    /// Any other one says that this process could not read or write it now, and nothing of its bytes.
    #[must_use]
    pub const fn is_about_object(self) -> bool {
        matches!(self, Self::Absent | Self::Length | Self::NoFile)
    }

    /// True when every other object would fail as this one did: a store that does not answer, a process that can open nothing, or is to end.
    #[must_use]
    pub const fn is_general(self) -> bool {
        matches!(self, Self::Unavailable | Self::Interrupted | Self::Refused | Self::Shortage)
    }

    /// The kind of an operating system's error.
    fn of(error: &io::Error) -> Self {
        if crate::base::shortage::is_shortage(error) {
            return Self::Shortage;
        }
        match Errno::from_io_error(error) {
            Some(Errno::IO | Errno::NODEV | Errno::NXIO | Errno::STALE | Errno::NOTCONN | Errno::REMOTEIO) => {
                return Self::Device;
            }
            Some(Errno::LOOP | Errno::NOTDIR | Errno::ISDIR) => return Self::NoFile,
            // A limit of file sizes (ulimit -f): there is no room for this file.
            Some(Errno::FBIG) => return Self::Full,
            _ => {}
        }
        match error.kind() {
            io::ErrorKind::NotFound => Self::Absent,
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Self::Denied,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full,
            io::ErrorKind::UnexpectedEof => Self::Length,
            io::ErrorKind::InvalidData => Self::NoFile,
            io::ErrorKind::TimedOut => Self::Device,
            _ => Self::Other,
        }
    }
}

/// A failed operation on one object.
#[derive(Debug, thiserror::Error)]
// What a store answers may hold anything.
#[error("{operation} {object}: {}", unmarked(&.source.to_string()))]
pub struct Error {
    /// What was tried: "read", "write", "rename", "fsync", "list", "remove".
    pub operation: &'static str,
    /// The object or folder, relative to the storage.
    pub object: String,
    /// The kind of failure.
    pub kind: ErrorKind,
    /// The operating system's or the store's own word.
    #[source]
    pub source: io::Error,
    /// What a person can do something about, where a store says so much.
    pub cause: Option<Cause>,
    /// The mirror that it is about; none for the repository.
    pub mirror: Option<Arc<MirrorPlace>>,
}

impl Error {
    /// An error of `operation` on `object`, its kind taken from the operating system's error.
    pub fn new(operation: &'static str, object: impl fmt::Display, source: io::Error) -> Self {
        let kind = ErrorKind::of(&source);
        Self { operation, object: object.to_string(), kind, source, cause: None, mirror: None }
    }

    /// The same error with another kind.
    #[must_use]
    pub fn with_kind(mut self, kind: ErrorKind) -> Self {
        self.kind = kind;
        self
    }

    /// The same with what is behind it.
    #[must_use]
    pub fn with_cause(mut self, cause: Option<Cause>) -> Self {
        self.cause = cause;
        self
    }

    /// What is behind it, where that is known.
    #[must_use]
    pub fn behind(&self) -> Option<Behind> {
        Some(Behind { cause: self.cause?, operation: self.operation, mirror: self.mirror.clone() })
    }

    /// The same where it is about this mirror.
    #[must_use]
    pub fn at_mirror(mut self, place: &Arc<MirrorPlace>) -> Self {
        self.mirror.get_or_insert_with(|| Arc::clone(place));
        self
    }
}

/// The object is longer than its reader allows.
fn too_long(name: &ObjectName, length: Option<u64>, limit: u64) -> Error {
    let length = length.map_or_else(|| "more".to_owned(), |length| format!("{length} bytes"));
    let message = format!("it has {length}, at most {limit} were expected");
    Error::new("read", name, io::Error::new(io::ErrorKind::InvalidData, message)).with_kind(ErrorKind::Length)
}

/// The name is a hash, and what lies there has other bytes than those handed over.
fn other_bytes(name: &ObjectName) -> Error {
    let message = "other bytes are stored under this name: that object is damaged, and was left as it is; run check";
    Error::new("write", name, io::Error::other(message))
}

/// Result of a storage operation.
pub type Result<T> = std::result::Result<T, Error>;

/// What a put did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// The object is new.
    Created,
    /// An object of that name was there already and was left as it is.
    Exists,
}

/// One object in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub name: ObjectName,
    /// Its stored length in bytes.
    pub length: u64,
}

/// Named immutable objects somewhere. The promises stand at the top of this module.
pub trait Storage: Send + Sync + fmt::Debug {
    /// Begins an object whose name is not known yet (a pack is named by the hash of all its bytes).
    /// Dropping the upload without finishing it leaves nothing behind.
    fn create(&self) -> Result<Box<dyn Upload>>;

    /// Stores a small object in one go.
    fn put(&self, name: &ObjectName, bytes: &[u8]) -> Result<Stored> {
        let mut upload = self.create()?;
        upload.append(bytes)?;
        upload.finish(name)
    }

    /// Reads a whole object of at most `limit` bytes; a longer one is [`ErrorKind::Length`], before it is read.
    fn read(&self, name: &ObjectName, limit: u64) -> Result<Vec<u8>>;

    /// Reads a whole object of at most `limit` bytes piece by piece, in order and each once, and returns its length. `sink` may want an end by
    /// an error of its own. A longer object is [`ErrorKind::Length`], maybe after some of it was handed over.
    fn stream(&self, name: &ObjectName, limit: u64, sink: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<u64> {
        let bytes = self.read(name, limit)?;
        sink(&bytes)?;
        Ok(bytes.len() as u64)
    }

    /// Reads exactly `length` bytes from `offset`; an object that ends earlier is [`ErrorKind::Length`].
    fn read_range(&self, name: &ObjectName, offset: u64, length: u64) -> Result<Vec<u8>>;

    /// These ranges will be read, about in this order: a storage far away may then fetch neighbours together.
    fn expect_ranges(&self, _ranges: &mut dyn Iterator<Item = Extent>) {}

    /// These objects have these lengths, as signed ones say: a storage far away may then fetch what stands around a range.
    fn learn_lengths(&self, _lengths: &mut dyn Iterator<Item = (ObjectName, u64)>) {}

    /// The stored length of an object, in bytes.
    fn length(&self, name: &ObjectName) -> Result<u64>;

    /// All objects of a folder, in no particular order. Names that are none of ours are left out of the listing
    /// (a stray file must not stop a backup); [`Storage::strays`] names them.
    fn list(&self, folder: Folder) -> Result<Vec<Listed>>;

    /// Whatever else lies in a folder, as text for a message.
    fn strays(&self, folder: Folder) -> Result<Vec<String>>;

    /// Makes an object that was found in a listing as durable as one that this process has put: whoever stored it may
    /// have been killed between its rename and the fsync of its folder. To be called before anything that is published
    /// relies on it. Where whatever is listed is durable there is nothing to do, and so says the default.
    ///
    /// # Errors
    /// [`ErrorKind::Absent`], or [`ErrorKind::Durability`], which is final for the run.
    fn settle(&self, _name: &ObjectName) -> Result<()> {
        Ok(())
    }

    /// Removes an object and makes the removal durable. An absent one is [`ErrorKind::Absent`].
    fn remove(&self, name: &ObjectName) -> Result<()>;

    /// Moves a damaged object out of its folder to where nobody reads it, and returns where that is, for a message. Another
    /// copy may then be stored under its name. An absent one is [`ErrorKind::Absent`].
    fn set_aside(&self, name: &ObjectName) -> Result<String>;

    /// Removes what interrupted uploads left behind. Only the holder of the writer lock may call it.
    fn clean_temporary(&self) -> Result<u64>;
}

/// A storage that can be a mirror: a sync lists it at once, and replaces what an interrupted write left.
pub trait MirrorStore: Storage {
    /// Every object with its length, and whatever else lies there, escaped. One request where the store has one for it.
    fn list_all(&self) -> Result<(Vec<Listed>, Vec<String>)>;

    /// Removes what this process has stored itself and nobody needs, also when the user wants an end meanwhile.
    fn discard(&self, name: &ObjectName) -> Result<()> {
        self.remove(name)
    }

    /// So many objects are to be there: a listing that has far more is given up.
    fn expect_objects(&self, _count: u64) {}

    /// Removes what interrupted writes of `owner` left, as far as the last listing showed it, and what is so old that nobody writes it any more.
    /// Only the one process that writes to this mirror for `owner` may call it.
    fn clean_leftovers(&self, _owner: &str) -> Result<Leftovers> {
        Ok(Leftovers::default())
    }

    /// What interrupted writes left, as far as the last listing showed it; another process may be at work on some of it.
    fn leftovers(&self) -> Leftovers {
        Leftovers::default()
    }

    /// Ends unfinished uploads: those of `ours`, which this machine began and no process of it goes on with; and when it is to `look` for others,
    /// those that are so old that nobody goes on with them. A store that has or allows no such call is passed over. What [`MirrorStore::leftovers`]
    /// counts is not counted here.
    fn end_unfinished(&self, ours: &[UnfinishedUpload], _look: bool) -> EndedUploads {
        EndedUploads { gone: ours.to_vec(), ..EndedUploads::default() }
    }

    /// What the store does with objects that were removed; none where it does not say.
    fn keeping(&self) -> Option<Keeping> {
        None
    }

    /// Stores an object in one go, whatever lies under its name. The caller has hashed the bytes.
    fn replace(&self, name: &ObjectName, bytes: &[u8]) -> Result<()>;

    /// The same for bytes that come piece by piece, over a line that is paced and watched. What the body does not give whole is not stored.
    fn send(&self, name: &ObjectName, body: &dyn Body, uplink: &Uplink<'_>) -> Result<()> {
        uplink.limit.wait(body.length(), uplink.stop);
        self.replace(name, &body.piece(0, body.length())?)?;
        (uplink.moved)(body.length());
        Ok(())
    }

    /// Bytes of memory that sending an object of so many takes.
    fn room(&self, length: u64) -> u64 {
        length
    }
}

/// Incomplete objects on a mirror that no listing of objects shows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Leftovers {
    /// Those that were removed, and their bytes.
    pub removed: (u64, u64),
    /// Those that are there, and their bytes.
    pub there: (u64, u64),
}

/// Bytes that leave more than once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeated {
    /// So many that had left did so in vain.
    Lost(u64),
    /// So many of those have left once more.
    Sent(u64),
}

impl std::ops::AddAssign for Leftovers {
    fn add_assign(&mut self, more: Self) {
        self.removed = (self.removed.0 + more.removed.0, self.removed.1 + more.removed.1);
        self.there = (self.there.0 + more.there.0, self.there.1 + more.there.1);
    }
}

/// An upload in parts that is not finished: its parts are at the store under no name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnfinishedUpload {
    /// What it is to be, relative to the storage.
    pub path: String,
    /// The store's name for it.
    pub id: String,
}

/// What came of ending unfinished uploads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EndedUploads {
    /// Those of ours that need not be remembered any more.
    pub gone: Vec<UnfinishedUpload>,
    /// What was removed, and what is there. Their bytes are not known.
    pub leftovers: Leftovers,
}

/// How bytes leave for a mirror.
pub struct Uplink<'a> {
    /// All that share it are no faster than this together.
    pub limit: Arc<RateLimit>,
    /// Hears of bytes that have left, each once, however often they are sent.
    pub moved: &'a (dyn Fn(u64) + Sync),
    /// Hears of bytes that leave again.
    pub repeated: &'a (dyn Fn(Repeated) + Sync),
    /// True when the user wants an end: then it fails with [`ErrorKind::Interrupted`].
    pub stop: &'a (dyn Fn() -> bool + Sync),
    /// Whose writes they are, for [`MirrorStore::clean_leftovers`]: letters and digits.
    pub owner: &'a str,
    /// Hears of an upload in parts before the first of them leaves. Who remembers it can have it ended after a kill: [`MirrorStore::end_unfinished`].
    pub begun: &'a (dyn Fn(&UnfinishedUpload) + Sync),
    /// Hears of it again when it was finished, or its parts were thrown away.
    pub ended: &'a (dyn Fn(&UnfinishedUpload) + Sync),
}

impl Default for Uplink<'_> {
    fn default() -> Self {
        Self {
            limit: Arc::default(),
            moved: &|_| {},
            repeated: &|_| {},
            stop: &|| false,
            owner: "",
            begun: &|_| {},
            ended: &|_| {},
        }
    }
}

/// An object on its way. See [`Storage::create`].
pub trait Upload: Send {
    /// Adds bytes at the end.
    fn append(&mut self, bytes: &[u8]) -> Result<()>;

    /// Makes the object durable and gives it its name; see the promises 1 to 3.
    fn finish(self: Box<Self>, name: &ObjectName) -> Result<Stored>;
}
