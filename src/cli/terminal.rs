//! The terminal itself, whatever the standard streams are: for what must be seen by a person and by nobody else (a
//! recovery code is never written to a pipe, a file or JSON), and for questions whose answers are shown.

use crate::base::stop::StopSignal;
use crate::tasks::failure::Failure;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};

/// Longest answer, in bytes: a line of the terminal in its usual mode is no longer (`_POSIX_MAX_CANON` is at least 255,
/// Linux has 4,096).
const ANSWER_BYTES_MAX: usize = 4096;

/// How often a waiting question looks whether the user wants an end.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// The controlling terminal of this process.
#[derive(Debug)]
pub struct Terminal {
    file: File,
    interrupt: StopSignal,
}

impl Terminal {
    /// The terminal, or `None` when there is none (a service, a pipeline in the background).
    #[must_use]
    pub fn open(interrupt: &StopSignal) -> Option<Self> {
        let file = OpenOptions::new().read(true).write(true).open("/dev/tty").ok()?;
        Some(Self { file, interrupt: interrupt.clone() })
    }

    /// Shows a text as it is; no line is ended.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn show(&mut self, text: &str) -> Result<(), Failure> {
        self.file.write_all(text.as_bytes()).map_err(gone)
    }

    /// Asks a question and waits for a line, which is returned without blanks around it.
    ///
    /// # Errors
    /// When the terminal is gone or the input has ended, or the user wants an end instead.
    pub fn ask(&mut self, question: &str) -> Result<String, Failure> {
        self.show(question)?;
        let mut line = Vec::new();
        while line.last() != Some(&b'\n') && line.len() < ANSWER_BYTES_MAX {
            // Not a plain read: the kernel would restart it after the signal, and the user could not leave.
            let ready = poll(&mut [PollFd::new(&self.file, PollFlags::IN)], Some(&LOOK));
            if self.interrupt.is_set() {
                return Err(Failure::interrupted());
            }
            match ready {
                Ok(0) | Err(rustix::io::Errno::INTR) => continue,
                Ok(_) => {}
                Err(error) => return Err(gone(error.into())),
            }
            let mut part = [0; 256];
            match self.file.read(&mut part).map_err(gone)? {
                0 => return Err(gone(io::ErrorKind::UnexpectedEof.into())),
                length => line.extend_from_slice(&part[..length]),
            }
        }
        Ok(String::from_utf8_lossy(&line).trim().to_owned())
    }
}

fn gone(error: io::Error) -> Failure {
    Failure::failed("cannot talk to the terminal").caused_by(error)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A terminal that answers: `ask` reads what `show` left behind in a file.
    fn answering(answer: &str) -> Terminal {
        let mut file = tempfile::tempfile().unwrap();
        io::Seek::seek(&mut file, io::SeekFrom::Start(2)).unwrap();
        file.write_all(answer.as_bytes()).unwrap();
        io::Seek::rewind(&mut file).unwrap();
        Terminal { file, interrupt: StopSignal::new() }
    }

    #[test]
    fn a_line_is_an_answer() {
        assert_eq!(answering(" J8VE \n").ask("? ").unwrap(), "J8VE");
        assert_eq!(answering("\n").ask("? ").unwrap(), "");
        assert!(answering("").ask("? ").unwrap_err().chain().contains("cannot talk to the terminal"));
        assert!(answering("no end").ask("? ").is_err());
    }

    #[test]
    fn the_user_may_leave() {
        let mut terminal = answering("yes\n");
        terminal.interrupt.request(crate::base::stop::Stop::User);
        assert_eq!(terminal.ask("? ").unwrap_err().kind(), crate::tasks::failure::Kind::Interrupted);
    }
}
