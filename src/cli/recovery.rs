//! A new recovery code, shown once: on a terminal only, never in JSON or a pipe, stored nowhere.

use super::Context;
use super::terminal::Terminal;
use crate::base::command::suggest;
use crate::base::escape::escape;
use crate::codec::recovery_code::RecoveryCode;
use crate::repository::keyring::SlotInfo;
use crate::tasks::failure::Failure;
use crate::text::clock;
use zeroize::Zeroizing;

/// Shows the code and asks for its last group, so that it is known to be written down. Three tries; then false, and the
/// code is not used.
///
/// # Errors
/// When the terminal cannot be written or read.
pub fn show_once(terminal: &mut Terminal, code: &RecoveryCode) -> Result<bool, Failure> {
    terminal.show("Recovery code (shown once): ")?;
    terminal.show(&code.text())?;
    terminal.show("\n")?;
    confirm(terminal, &code.last_group(), "Write it down")
}

/// Asks for the last group of a code that was shown, saying what to do with the code before. Three tries.
///
/// # Errors
/// When the terminal cannot be written or read.
pub fn confirm(terminal: &mut Terminal, last_group: &str, before: &str) -> Result<bool, Failure> {
    for _ in 0..3 {
        let typed = Zeroizing::new(terminal.ask(&format!("{before}, then type its last group: "))?);
        let symbols = Zeroizing::new(typed.chars().filter(|c| !matches!(c, ' ' | '-' | '\n')).collect::<String>());
        if same_group(&symbols, last_group) {
            return Ok(true);
        }
        terminal.show("That is not the last group.\n")?;
    }
    Ok(false)
}

/// A recovery code's key for a person who looks for the paper: id, label, and when it was made.
#[must_use]
pub fn describe(slot: &SlotInfo) -> String {
    let made = clock::show(slot.created, &clock::local_zone());
    match slot.label.as_str() {
        "" => format!("{} (made {made})", slot.id.short()),
        label => format!("{} (\"{}\", made {made})", slot.id.short(), escape(label.as_bytes())),
    }
}

/// Lists the other recovery codes that still open the repository, and the command that removes one.
///
/// # Errors
/// When the output is gone.
pub fn say_others(context: &Context, others: &[SlotInfo]) -> Result<(), Failure> {
    for slot in others {
        context.output.info(format!("Another recovery code still opens the repository: key {}", describe(slot)))?;
    }
    if others.is_empty() {
        return Ok(());
    }
    context.output.info(concat!("To remove one that was lost or seen: ", suggest!("key remove ID")))
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
