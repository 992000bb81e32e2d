//! The one audited module with `unsafe`: system calls that the safe wrappers do not offer, each behind a safe function.
//!
//! Everything else of the program is compiled with `unsafe_code = "deny"`.
#![allow(unsafe_code)]

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};

/// Writes the dirty pages of a file and waits for them, without a journal commit and without flushing the disk.
///
/// All three flags together are `WB_SYNC_ALL` since Linux 5.1 (`fs/sync.c`): a page that is dirty again while an older
/// write of it is under way is waited for and written too. Each page is write-protected in every mapping before it is
/// written, so that the next store through a mapping takes a fault, and the fault moves mtime and ctime.
///
/// # Errors
/// What the system call says; `ESPIPE` for anything that is no file, directory or block device.
pub fn write_back(file: BorrowedFd<'_>) -> io::Result<()> {
    let flags = libc::SYNC_FILE_RANGE_WAIT_BEFORE | libc::SYNC_FILE_RANGE_WRITE | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    // SAFETY: the call takes integers only; `file` is an open descriptor for as long as it is borrowed. Length 0 means
    // "to the end of the file".
    let result = unsafe { libc::sync_file_range(file.as_raw_fd(), 0, 0, flags) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Removes a variable from the environment, so that no child inherits a secret.
///
/// The caller must be the only thread: call it first thing in `main`, before any thread is started and before any
/// library that reads the environment from a thread of its own. On Linux this is checked; with more than one thread
/// the variable stays and the answer is false.
pub fn remove_environment_variable(name: &OsStr) -> bool {
    if threads() != Some(1) {
        return false;
    }
    // SAFETY: `remove_var` is unsound only when another thread reads or writes the environment at the same time; the
    // process has exactly one thread, this one, as the kernel just said.
    unsafe { std::env::remove_var(name) };
    true
}

/// Sets a variable of the environment for this process and its children.
///
/// As for [`remove_environment_variable`] the caller must be the only thread; otherwise nothing is changed and the answer is false.
pub fn set_environment_variable(name: &OsStr, value: &OsStr) -> bool {
    if threads() != Some(1) {
        return false;
    }
    // SAFETY: as above: `set_var` is unsound only when another thread reads or writes the environment at the same time, and there is none.
    unsafe { std::env::set_var(name, value) };
    true
}

/// Takes an open file that this process was given by whoever started it. From now on no child has it.
///
/// What this program opens itself is close-on-exec from the beginning, and what it was given is not, or it would not be there. So
/// each can be taken once, and nothing that anybody here uses.
///
/// # Errors
/// `EBADF` for what is not open, what was not given to this process, and the standard input, output and error.
pub fn take_descriptor(number: u32) -> io::Result<OwnedFd> {
    let unknown = || io::Error::from_raw_os_error(libc::EBADF);
    let number = i32::try_from(number).ok().filter(|number| *number > libc::STDERR_FILENO).ok_or_else(unknown)?;
    // SAFETY: the calls take integers only; for a number that is not open they fail.
    let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
    if flags < 0 {
        return Err(io::Error::last_os_error());
    }
    if flags & libc::FD_CLOEXEC != 0 {
        return Err(unknown());
    }
    // SAFETY: as above.
    if unsafe { libc::fcntl(number, libc::F_SETFD, flags | libc::FD_CLOEXEC) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is open, and nobody here owns it: it had no close-on-exec, and now it has, so that it is not taken a second time.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Number of threads of this process as the kernel counts them, when `/proc` is there.
fn threads() -> Option<usize> {
    Some(std::fs::read_dir("/proc/self/task").ok()?.count())
}

/// Keeps keys out of core dumps and away from other processes of the same user: `PR_SET_DUMPABLE` 0 (which also closes
/// `/proc/self/mem` and `ptrace`) and a core size limit of 0.
///
/// A process that is not dumpable finds its own `/proc/self` owned by root; reading `/proc/self/fd/N` stays allowed.
///
/// # Errors
/// What the system says; the caller may go on with a warning.
pub fn forbid_core_dumps() -> io::Result<()> {
    let limit = getrlimit(Resource::Core);
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: limit.maximum })?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(())
}

/// Gives memory that was freed back to the system: glibc keeps what lies below anything still in use, in an arena for each
/// thread, so that after a phase of many allocations a process stays as large as it was. Other libraries need not be told.
pub fn give_back_memory() {
    // SAFETY: `malloc_trim` takes and returns integers, touches free memory only, and is safe to call from any thread.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}

/// From now on pieces of memory of 1 MiB and more come from the system one by one and go back to it as soon as they are freed.
/// glibc begins like that at 128 KiB, but raises the bound to the longest piece that was ever freed, and then keeps such
/// pieces in the arena of the thread that took them. Where blocks go from thread to thread, a fifth of the memory is held so.
pub fn keep_no_large_memory() {
    // SAFETY: `mallopt` takes and returns integers. It stores this one without a lock: a thread that asks for memory at the same
    // moment finds the old bound or the new one, and either is right.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 1 << 20);
    }
}

/// Raises the soft limit of open files to the hard limit: a walk holds one directory open for each level of depth.
/// Failure is no error: the walk then names the directories that it could not open.
pub fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    }
}

/// Takes a read lease (fcntl(2), "Leases") on a file that is open for reading only: the kernel grants it while nobody has the
/// file open for writing, a mapping included, and lets nobody open it so until the lease ends with the last descriptor, or
/// `/proc/sys/fs/lease-break-time` after somebody has asked.
///
/// Whoever asks makes the kernel send a signal to this process. SIGIO, the usual one, would end it; SIGURG does nothing.
///
/// # Errors
/// `EAGAIN`: somebody has it open for writing. Anything else: this file system, or this process, can take none.
pub fn take_read_lease(file: BorrowedFd<'_>) -> io::Result<()> {
    /// include/uapi/asm-generic/fcntl.h: the same on all machines but PA-RISC.
    const F_SETSIG: libc::c_int = 10;
    // SAFETY: both calls take integers only; `file` is an open descriptor for as long as it is borrowed.
    let result = unsafe {
        match libc::fcntl(file.as_raw_fd(), F_SETSIG, libc::SIGURG) {
            0 => libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_RDLCK),
            failed => failed,
        }
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Whether the lease of [`take_read_lease`] is whole: nobody has asked to write meanwhile.
pub fn has_read_lease(file: BorrowedFd<'_>) -> bool {
    // SAFETY: the call takes integers only; `file` is an open descriptor for as long as it is borrowed.
    unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETLEASE) == libc::F_RDLCK }
}

/// Lets the system take bytes of a connection only while fewer than so many wait to be sent (`TCP_NOTSENT_LOWAT`, tcp(7)): what was handed over
/// is then on the wire, but for that much. It says nothing of how much may be on its way there.
///
/// # Errors
/// What the system says: it is no TCP connection.
pub fn bound_unsent_bytes(connection: BorrowedFd<'_>, bytes: u32) -> io::Result<()> {
    let length = size_of::<u32>() as libc::socklen_t;
    // SAFETY: the pointer is to an integer of `length` bytes that lives until the call has returned; `connection` is an open descriptor for as
    // long as it is borrowed.
    let result = unsafe {
        let option = libc::TCP_NOTSENT_LOWAT;
        libc::setsockopt(connection.as_raw_fd(), libc::IPPROTO_TCP, option, (&raw const bytes).cast(), length)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A shared, writable mapping of a file, for tests of what a store through a mapping does to timestamps.
#[cfg(test)]
pub mod mapping {
    use std::fs::File;
    use std::io;
    use std::os::fd::AsRawFd;
    use std::ptr;

    /// See the module.
    pub struct Mapping {
        address: *mut libc::c_void,
        length: usize,
    }

    impl Mapping {
        /// Maps the first `length` bytes of `file`, which must be at least that long.
        pub fn new(file: &File, length: usize) -> io::Result<Self> {
            let protection = libc::PROT_READ | libc::PROT_WRITE;
            // SAFETY: a new mapping at an address of the kernel's choice; it aliases no memory of this process.
            let address =
                unsafe { libc::mmap(ptr::null_mut(), length, protection, libc::MAP_SHARED, file.as_raw_fd(), 0) };
            if address == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(Self { address, length }) }
        }

        /// Stores one byte.
        pub fn store(&mut self, offset: usize, byte: u8) {
            assert!(offset < self.length);
            // SAFETY: inside the mapping, which is writable and lives as long as `self`.
            unsafe { ptr::write_volatile(self.address.cast::<u8>().add(offset), byte) };
        }
    }

    impl Drop for Mapping {
        fn drop(&mut self) {
            // SAFETY: exactly the range that `new` mapped; nothing borrows from it.
            unsafe { libc::munmap(self.address, self.length) };
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn unsent_bytes_are_those_of_a_connection() {
        use std::os::fd::AsFd;
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let connection = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        bound_unsent_bytes(connection.as_fd(), 1 << 16).unwrap();
        assert!(bound_unsent_bytes(std::fs::File::open("/dev/null").unwrap().as_fd(), 1).is_err());
    }

    #[test]
    fn the_environment_is_left_alone_when_there_are_threads() {
        // The test runner has a main thread and this one, so the refusal is what can be seen here.
        assert!(!remove_environment_variable(OsStr::new("PATH")));
        assert!(!set_environment_variable(OsStr::new("PACKSTONE_NEVER"), OsStr::new("set")));
        assert!(std::env::var_os("PACKSTONE_NEVER").is_none());
        assert!(std::env::var_os("PATH").is_some());
    }
}
