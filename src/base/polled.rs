//! Reads from what may give nothing for a long time: a pipe, a terminal, the output of a command.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use std::io::{self, Read};
use std::os::fd::AsFd;

/// The longest time that one read waits, in nanoseconds: 200 ms.
const WAIT: i64 = 200_000_000;

/// A source whose read waits for 200 ms at most. When nothing has come by then it says [`io::ErrorKind::Interrupted`], as a read that a
/// signal interrupts: whoever reads asks whether somebody wants an end, and reads again. It must not hold read bytes back in a buffer.
#[derive(Debug)]
pub struct Polled<R>(R);

impl<R: Read + AsFd> Polled<R> {
    /// Reads from `source`.
    pub const fn new(source: R) -> Self {
        Self(source)
    }
}

impl<R: Read + AsFd> Read for Polled<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut waiting = [PollFd::new(&self.0, PollFlags::IN)];
        match poll(&mut waiting, Some(&Timespec { tv_sec: 0, tv_nsec: WAIT })) {
            // A read after a signal would wait on.
            Ok(0) | Err(Errno::INTR) => Err(io::ErrorKind::Interrupted.into()),
            // Whatever else the system says of it, the read says again.
            _ => self.0.read(buffer),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::Write;
    use std::time::{Duration, Instant};

    #[test]
    fn a_read_ends_when_nothing_comes() {
        let (source, mut from) = io::pipe().unwrap();
        let mut polled = Polled::new(source);
        let mut buffer = [0; 8];
        let begun = Instant::now();
        assert_eq!(polled.read(&mut buffer).unwrap_err().kind(), io::ErrorKind::Interrupted);
        assert!((Duration::from_millis(150)..Duration::from_secs(2)).contains(&begun.elapsed()));
        from.write_all(b"abc").unwrap();
        assert_eq!(polled.read(&mut buffer).unwrap(), 3);
        drop(from);
        assert_eq!(polled.read(&mut buffer).unwrap(), 0, "the end is no time-out");
    }

    #[test]
    fn a_file_is_always_ready() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"abc").unwrap();
        assert_eq!(Polled::new(&file).read(&mut [0; 8]).unwrap(), 0);
    }
}
