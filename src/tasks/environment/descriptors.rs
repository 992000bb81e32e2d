//! Open file descriptors that somebody gave to this process for a secret: `--password-fd 3`, or a file that is one (`/dev/fd/63`, as a
//! shell writes `<(...)`).
//!
//! # Invariant
//!
//! No child of this process has one of them. So each is taken as soon as it is named, before anything is read and any command is
//! started: it becomes close-on-exec, and is closed when the secret was read. In place of the standard input, which children
//! may have, there is then `/dev/null`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::Mutex;

use crate::base::lock::lock;
use crate::base::sys::take_descriptor;

/// Descriptors that were named, and not read yet as often as they were named.
#[derive(Debug, Default)]
pub(super) struct Descriptors(Mutex<BTreeMap<u32, Held>>);

#[derive(Debug)]
struct Held {
    file: OwnedFd,
    named: u32,
}

impl Descriptors {
    /// Takes one that was named. What is not open, or was not given to this process, is no error before it is read.
    pub fn take(&self, number: u32) {
        let mut held = lock(&self.0);
        match held.get_mut(&number) {
            Some(held) => held.named += 1,
            None => {
                if let Ok(file) = take(number) {
                    held.insert(number, Held { file, named: 1 });
                }
            }
        }
    }

    /// Opens one to be read from its beginning, where it is a file, and does not keep it longer than it is wanted.
    ///
    /// # Errors
    /// It was not given to this process, or was read before.
    pub fn open(&self, number: u32) -> io::Result<File> {
        let mut held = lock(&self.0);
        let mut found = match held.remove(&number) {
            Some(found) => found,
            None => Held { file: take(number)?, named: 1 },
        };
        let file = match File::open(format!("/dev/fd/{}", found.file.as_raw_fd())) {
            Ok(file) => file,
            // A socket cannot be opened by a name.
            Err(_) => File::from(found.file.try_clone()?),
        };
        found.named -= 1;
        if found.named > 0 {
            held.insert(number, found);
        }
        Ok(file)
    }
}

fn take(number: u32) -> io::Result<OwnedFd> {
    if number > 0 {
        return take_descriptor(number);
    }
    let input = rustix::io::fcntl_dupfd_cloexec(io::stdin(), 3)?;
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    Ok(input)
}

/// The descriptor that a path names.
pub(super) fn named_by(path: &Path) -> Option<u32> {
    let path = path.to_str()?;
    if path == "/dev/stdin" {
        return Some(0);
    }
    let number = path.strip_prefix("/dev/fd/").or_else(|| path.strip_prefix("/proc/self/fd/"))?;
    number.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::{Read, Write};
    use std::os::fd::IntoRawFd;

    /// One as another process would give it: without close-on-exec.
    fn given(bytes: &[u8]) -> u32 {
        let (reader, mut writer) = io::pipe().unwrap();
        writer.write_all(bytes).unwrap();
        u32::try_from(rustix::io::dup(&reader).unwrap().into_raw_fd()).unwrap()
    }

    fn is_open(number: u32) -> bool {
        Path::new(&format!("/proc/self/fd/{number}")).symlink_metadata().is_ok()
    }

    #[test]
    fn one_is_closed_when_it_was_read_as_often_as_it_was_named() {
        let (number, descriptors) = (given(b"secret"), Descriptors::default());
        descriptors.take(number);
        descriptors.take(number);
        let mut text = String::new();
        descriptors.open(number).unwrap().read_to_string(&mut text).unwrap();
        assert!(text == "secret" && is_open(number));
        drop(descriptors.open(number).unwrap());
        assert!(!is_open(number) && descriptors.open(number).is_err());
    }

    #[test]
    fn what_this_process_has_opened_itself_was_not_given_to_it() {
        let own = File::open("/dev/null").unwrap();
        let number = u32::try_from(own.as_raw_fd()).unwrap();
        assert!(Descriptors::default().open(number).is_err() && is_open(number));
        for closed in [u32::MAX, 1 << 20] {
            assert!(Descriptors::default().open(closed).is_err());
        }
    }

    #[test]
    fn a_path_may_name_one() {
        for (path, number) in [
            ("/dev/fd/63", Some(63)),
            ("/proc/self/fd/3", Some(3)),
            ("/dev/stdin", Some(0)),
            ("/dev/fd/x", None),
            ("/dev/fd/", None),
            ("/dev/null", None),
            ("fd/3", None),
        ] {
            assert_eq!(named_by(Path::new(path)), number, "{path}");
        }
    }
}
