//! A new recovery code, shown once: on a terminal only, never in JSON or a pipe, stored nowhere.

use super::exit::CliError;
use super::output::Output;
use crate::codec::recovery_code::RecoveryCode;
use std::io::{self, BufRead, IsTerminal, Write};
use zeroize::Zeroizing;

/// True when there is a terminal to show a code on and somebody to copy it from there.
#[must_use]
pub fn can_be_shown(output: &Output) -> bool {
    output.terminal && !output.json && io::stdin().is_terminal()
}

/// A fresh code.
///
/// # Errors
/// When the system's generator fails.
pub fn generate() -> Result<RecoveryCode, CliError> {
    let mut random = Zeroizing::new([0; crate::codec::recovery_code::SECRET_BYTES]);
    getrandom::fill(random.as_mut())
        .map_err(|_| CliError::failed("the system's random generator failed"))?;
    Ok(RecoveryCode::generate(&random))
}

/// Shows the code and asks for its last group, so that it is known to be written down. Three tries; then the code
/// is not used, and the caller says so.
///
/// # Errors
/// When the terminal cannot be written or read.
pub fn show_once(code: &RecoveryCode) -> Result<bool, CliError> {
    let mut terminal = io::stderr().lock();
    let mut say = |text: &str| {
        terminal.write_all(text.as_bytes()).and_then(|()| terminal.flush()).map_err(CliError::output)
    };
    say("Recovery code (shown once): ")?;
    say(&code.text())?;
    say("\n")?;
    for _ in 0..3 {
        say("Write it down, then type its last group: ")?;
        let mut line = Zeroizing::new(String::with_capacity(64));
        let read = io::stdin().lock().read_line(&mut line);
        if read.map_err(|error| CliError::failed("cannot read the terminal").caused_by(error))? == 0 {
            break;
        }
        let typed: String = line.trim().chars().filter(|c| !matches!(c, ' ' | '-')).collect();
        if same_group(&typed, &code.last_group()) {
            return Ok(true);
        }
        say("That is not the last group. ")?;
    }
    Ok(false)
}

/// Crockford's base 32 forgives case, O for 0, and I or L for 1.
fn same_group(typed: &str, group: &str) -> bool {
    let plain = |c: char| match c.to_ascii_uppercase() {
        'O' => '0',
        'I' | 'L' => '1',
        c => c,
    };
    typed.chars().map(plain).eq(group.chars().map(plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_compared_as_a_person_reads_it() {
        assert!(same_group("j8ve", "J8VE"));
        assert!(same_group("Oil1", "0111"));
        assert!(!same_group("J8V", "J8VE"));
        assert!(!same_group("", "J8VE"));
    }
}
