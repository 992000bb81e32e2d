//! A command that the user named: one that prints a secret, whose output is stored, or that checks a restored tree.

use std::ffi::OsStr;
use std::process::Command;

use super::secret_variables::is_secret_variable;
use crate::storage::remote::ssh;

/// A command with the environment that the user has, without the secrets of this program. They are gone from the environment already,
/// unless the system could not say at the start that there was one thread.
#[must_use]
pub fn user_command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if is_secret_variable(&name) {
            command.env_remove(name);
        }
    }
    ssh::Place::hide_from(&mut command);
    command
}
