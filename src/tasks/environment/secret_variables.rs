//! The environment variables that may hold or lead to a secret of this program.

use std::ffi::OsStr;

/// The variables that may hold or lead to a secret, and are removed from the environment.
pub(super) const VARIABLES: [&str; 4] =
    ["PACKSTONE_PASSWORD", "PACKSTONE_PASSWORD_COMMAND", "PACKSTONE_PASSWORD_FILE", "PACKSTONE_KEY_FILE"];
/// The same for a repository that is copied from.
pub(super) const FROM_VARIABLES: [&str; 4] = [
    "PACKSTONE_FROM_PASSWORD",
    "PACKSTONE_FROM_PASSWORD_COMMAND",
    "PACKSTONE_FROM_PASSWORD_FILE",
    "PACKSTONE_FROM_KEY_FILE",
];

/// What the variables begin with that hold secrets of mirrors' services.
pub(super) const MIRROR_PREFIX: &str = "PACKSTONE_MIRROR_";

/// True for a variable that may hold or lead to a secret of this program.
pub(super) fn is_secret_variable(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| {
        VARIABLES.contains(&name) || FROM_VARIABLES.contains(&name) || name.starts_with(MIRROR_PREFIX)
    })
}
