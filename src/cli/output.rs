//! Where text leaves the program: results on the standard output, everything else on the standard error.
//!
//! Results are lines of text or of JSON. Text that somebody else wrote is made safe before it gets here
//! ([`crate::base::escape`]); error messages, which quote such text, are made safe here. Commands that a text suggests become what
//! this user types ([`About`]).

use super::about::About;
use super::json;
use crate::base::escape::safe;
use crate::tasks::failure::{Failure, Kind};
use serde::Serialize;
use std::fmt::Display;
use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};

/// How much is said, and in which form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Output {
    /// Lines for programs instead of text for people.
    pub json: bool,
    /// Results and problems only.
    pub quiet: bool,
    /// How often `--verbose` was given: 1 adds detail to summaries, 2 names every file.
    pub verbosity: u8,
    /// Standard output and standard error are both a terminal: progress may be drawn and questions asked.
    pub terminal: bool,
    /// What suggested commands are about.
    pub about: About,
}

impl Output {
    /// The form asked for, on the streams that this process has.
    #[must_use]
    pub fn new(json: bool, quiet: bool, verbosity: u8, about: About) -> Self {
        let terminal = io::stdout().is_terminal() && io::stderr().is_terminal();
        Self { json, quiet, verbosity, terminal, about }
    }

    /// A message as it is shown: in one line that is safe, with its commands as this user types them.
    #[must_use]
    pub fn shown(&self, message: &str) -> String {
        self.about.show(message, safe)
    }

    /// Text that is safe already, with its commands as this user types them. For cells of a table, and texts in JSON.
    #[must_use]
    pub fn with_commands(&self, text: &str) -> String {
        self.about.show(text, str::to_owned)
    }

    /// Prints one line of the result.
    ///
    /// # Errors
    /// When the standard output cannot be written; see [`failed`].
    pub fn line(&self, text: impl Display) -> Result<(), Failure> {
        writeln!(io::stdout(), "{}", self.with_commands(&text.to_string())).map_err(failed)
    }

    /// Prints text that already ends its lines, such as a rendered table.
    ///
    /// # Errors
    /// As [`Output::line`].
    pub fn text(&self, text: &str) -> Result<(), Failure> {
        io::stdout().write_all(self.with_commands(text).as_bytes()).map_err(failed)
    }

    /// Prints a line of explanation: not with `--quiet` or `--json`.
    ///
    /// # Errors
    /// As [`Output::line`].
    pub fn info(&self, text: impl Display) -> Result<(), Failure> {
        if self.quiet || self.json { Ok(()) } else { self.line(text) }
    }

    /// Prints one value as a line of JSON.
    ///
    /// # Errors
    /// As [`Output::line`].
    pub fn json(&self, value: &impl Serialize) -> Result<(), Failure> {
        let mut line = json::to_vec(value).map_err(failed)?;
        line.push(b'\n');
        io::stdout().write_all(&line).map_err(failed)
    }

    /// Warns on the standard error: a line that begins with `!`. A warning that cannot be written is lost.
    pub fn warn(&self, text: &str) {
        let text = self.shown(text);
        if self.json {
            self.json_to_stderr(&json::Warning::new(&text));
        } else {
            let _ = writeln!(io::stderr(), "! {text}");
        }
    }

    /// Prints one value as a line of JSON on the standard error.
    pub fn json_to_stderr(&self, value: &impl Serialize) {
        if let Ok(mut line) = json::to_vec(value) {
            line.push(b'\n');
            let _ = io::stderr().write_all(&line);
        }
    }

    /// Says why the command ends: the sentence with its causes, then what to do next.
    pub fn error(&self, error: &Failure) {
        if error.kind() == Kind::OutputClosed {
            return;
        }
        if self.json {
            self.json_to_stderr(&json::ExitError::new(error, *self));
            return;
        }
        let mut text = format!("Error: {}\n", self.shown(&error.chain()));
        for remedy in error.remedies() {
            text.push_str(&format!("  {}\n", self.shown(remedy.marked())));
        }
        let _ = io::stderr().write_all(text.as_bytes());
    }

    /// A buffered way to the standard output for many lines. Call [`Stream::finish`] at the end.
    #[must_use]
    pub fn stream(&self) -> Stream {
        Stream { to: BufWriter::with_capacity(64 * 1024, io::stdout().lock()), about: self.about }
    }
}

/// Many lines on their way to the standard output.
#[derive(Debug)]
pub struct Stream {
    to: BufWriter<StdoutLock<'static>>,
    about: About,
}

impl Stream {
    /// Adds one line of text.
    ///
    /// # Errors
    /// As [`Output::line`].
    pub fn line(&mut self, text: impl Display) -> Result<(), Failure> {
        let text = self.about.show(&text.to_string(), str::to_owned);
        writeln!(self.to, "{text}").map_err(failed)
    }

    /// Adds one value as a line of JSON.
    ///
    /// # Errors
    /// As [`Output::line`].
    pub fn json(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        json::to_writer(&mut self.to, value).and_then(|()| self.to.write_all(b"\n")).map_err(failed)
    }

    /// Adds bytes as they are (the content of a file).
    ///
    /// # Errors
    /// As [`Output::line`].
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.to.write_all(bytes).map_err(failed)
    }

    /// Writes what is still buffered.
    ///
    /// # Errors
    /// As [`Output::line`].
    pub fn finish(mut self) -> Result<(), Failure> {
        self.to.flush().map_err(failed)
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.to.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// Writing the command's own output failed. A reader that went away (`packstone ls | head`) is no error worth a sentence; the
/// program then ends as others do, by SIGPIPE.
#[must_use]
pub fn failed(error: io::Error) -> Failure {
    Failure::of_output(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_pipe_is_told_apart() {
        assert_eq!(failed(io::ErrorKind::BrokenPipe.into()).kind(), Kind::OutputClosed);
        assert_eq!(failed(io::ErrorKind::StorageFull.into()).kind(), Kind::Failed);
    }
}
