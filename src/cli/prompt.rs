//! Asking for a passphrase: on the terminal, without showing the answer, or the first line of the standard input.

use crate::tasks::environment::passphrase::Passphrase;
use crate::tasks::environment::prompt::Prompt;
use crate::tasks::environment::secret::{Question, SECRET_BYTES_MAX};
use crate::tasks::failure::{Failure, Kind};
use std::io::{self, BufRead, IsTerminal, Read};
use zeroize::Zeroizing;

/// Whoever typed the command.
#[derive(Debug, Clone, Copy)]
pub struct Typist;

impl Prompt for Typist {
    fn passphrase(&self, question: Question<'_>, stdin_taken: bool) -> Result<Passphrase, Failure> {
        ask(question, stdin_taken)
    }
}

fn ask(question: Question<'_>, stdin_taken: bool) -> Result<Passphrase, Failure> {
    let ways = "use --password-file, --password-command, --password-fd, --key-file or PACKSTONE_PASSWORD";
    if !stdin_taken && !io::stdin().is_terminal() {
        let mut line = Zeroizing::new(Vec::with_capacity(SECRET_BYTES_MAX as usize + 1));
        io::stdin()
            .lock()
            .take(SECRET_BYTES_MAX)
            .read_until(b'\n', &mut line)
            .map_err(|error| Failure::failed("cannot read the passphrase from the standard input").caused_by(error))?;
        if line.is_empty() {
            return Err(Failure::failed("no passphrase: the standard input is empty and no terminal").remedy(ways));
        }
        if line.len() as u64 == SECRET_BYTES_MAX {
            return Err(Failure::failed(format!(
                "the first line of the standard input is longer than {} KiB: no passphrase",
                SECRET_BYTES_MAX / 1024
            ))
            .remedy(ways));
        }
        return Ok(Passphrase::in_text(line, "the first line of the standard input"));
    }
    let (prompt, again) = match question {
        Question::Open(prompt) => (prompt, None),
        Question::Create(prompt) => (prompt, Some("again: ")),
    };
    let first = prompt_hidden(&format!("{prompt}: "), ways)?;
    if let Some(again) = again.filter(|_| !first.is_empty()) {
        let second = prompt_hidden(again, ways)?;
        if *first != *second {
            return Err(Failure::failed("the two passphrases differ").remedy("run the command again"));
        }
    }
    Ok(Passphrase::exact(first))
}

/// Asks on the terminal without showing the answer.
///
/// # Errors
/// When there is no terminal (with `ways` as the hint), or the user pressed Ctrl-C.
pub fn prompt_hidden(prompt: &str, ways: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
    match rpassword::prompt_password(prompt) {
        Ok(answer) => Ok(Zeroizing::new(answer.into_bytes())),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(Failure::interrupted()),
        Err(error) => {
            Err(Failure::new(Kind::Failed, "cannot ask for a passphrase: no terminal").caused_by(error).remedy(ways))
        }
    }
}
