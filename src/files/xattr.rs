//! Extended attributes of any inode, without following symbolic links.
//!
//! The f-calls want a descriptor that is open for reading. For anything else (symbolic links, fifos, sockets, devices,
//! unreadable directories) the l-calls are given `/proc/self/fd/<directory>/<name>`: the first part is a descriptor that
//! we hold, the last one is not followed.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::fs::{self, XattrFlags};
use rustix::io::Errno;

use super::directory::Directory;

/// Largest value and largest list of names, in bytes: `XATTR_SIZE_MAX`, `XATTR_LIST_MAX` of the kernel's limits.h.
const KERNEL_BYTES_MAX: usize = 64 << 10;
/// First try, in bytes, on the stack: nearly every list and value is shorter.
const FIRST_BYTES: usize = 1_024;

/// An inode, named without following anything.
#[derive(Debug, Clone)]
pub enum Place<'a> {
    /// It is open. A descriptor that is not open for reading (`O_PATH`) works while `/proc` is there.
    Open(BorrowedFd<'a>),
    /// By its name beneath an open directory.
    Named(&'a Directory, &'a [u8]),
}

enum Way<'a> {
    Fd(BorrowedFd<'a>),
    /// `/proc/self/fd/N`, a magic link that is followed.
    Followed(Vec<u8>),
    /// `/proc/self/fd/N/name`.
    Exact(Vec<u8>),
}

impl<'a> Place<'a> {
    fn way(&self) -> Way<'a> {
        match self {
            Self::Open(fd) => match fs::fcntl_getfl(fd) {
                Ok(flags) if flags.contains(fs::OFlags::PATH) => Way::Followed(proc_path(*fd, None)),
                _ => Way::Fd(*fd),
            },
            Self::Named(directory, name) => Way::Exact(proc_path(directory.as_fd(), Some(name))),
        }
    }
}

/// The path through `/proc` that leads to a descriptor, or to a name beneath it.
pub(super) fn proc_path(fd: BorrowedFd<'_>, name: Option<&[u8]>) -> Vec<u8> {
    let mut path = format!("/proc/self/fd/{}", fd.as_raw_fd()).into_bytes();
    if let Some(name) = name {
        path.push(b'/');
        path.extend_from_slice(name);
    }
    path
}

/// Calls with a small buffer, then with the largest that the kernel fills.
fn filled(call: impl Fn(&mut [u8]) -> rustix::io::Result<usize>) -> rustix::io::Result<Vec<u8>> {
    let mut small = [0; FIRST_BYTES];
    match call(&mut small) {
        Ok(length) => return Ok(small.get(..length).unwrap_or(&small).to_vec()),
        Err(Errno::RANGE) => {}
        Err(error) => return Err(error),
    }
    let mut large = vec![0; KERNEL_BYTES_MAX];
    let length = call(&mut large)?;
    large.truncate(length);
    Ok(large)
}

/// Names of all attributes that this process may see, sorted. None where the file system has no attributes.
///
/// # Errors
/// What the kernel says; `NotFound` also when `/proc` is not mounted.
pub fn names(place: &Place<'_>) -> io::Result<Vec<Vec<u8>>> {
    let way = place.way();
    let list = filled(|buffer| match &way {
        Way::Fd(fd) => fs::flistxattr(fd, buffer),
        Way::Followed(path) => fs::listxattr(path.as_slice(), buffer),
        Way::Exact(path) => fs::llistxattr(path.as_slice(), buffer),
    });
    let list = match list {
        Ok(list) => list,
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let mut names: Vec<Vec<u8>> =
        list.split(|&byte| byte == 0).filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect();
    names.sort_unstable();
    names.dedup();
    Ok(names)
}

/// Value of an attribute; `None` when it is not there (any more).
///
/// # Errors
/// What the kernel says.
pub fn value(place: &Place<'_>, name: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let way = place.way();
    let value = filled(|buffer| match &way {
        Way::Fd(fd) => fs::fgetxattr(fd, name, buffer),
        Way::Followed(path) => fs::getxattr(path.as_slice(), name, buffer),
        Way::Exact(path) => fs::lgetxattr(path.as_slice(), name, buffer),
    });
    match value {
        Ok(value) => Ok(Some(value)),
        Err(Errno::NODATA) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Sets an attribute, replacing one of that name.
///
/// # Errors
/// What the kernel says.
pub fn set(place: &Place<'_>, name: &[u8], value: &[u8]) -> io::Result<()> {
    Ok(match place.way() {
        Way::Fd(fd) => fs::fsetxattr(fd, name, value, XattrFlags::empty())?,
        Way::Followed(path) => fs::setxattr(path.as_slice(), name, value, XattrFlags::empty())?,
        Way::Exact(path) => fs::lsetxattr(path.as_slice(), name, value, XattrFlags::empty())?,
    })
}

/// Removes an attribute.
///
/// # Errors
/// What the kernel says.
pub fn remove(place: &Place<'_>, name: &[u8]) -> io::Result<()> {
    Ok(match place.way() {
        Way::Fd(fd) => fs::fremovexattr(fd, name)?,
        Way::Followed(path) => fs::removexattr(path.as_slice(), name)?,
        Way::Exact(path) => fs::lremovexattr(path.as_slice(), name)?,
    })
}
