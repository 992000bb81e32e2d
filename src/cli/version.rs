//! `version`: which program this is.

use super::exit::Exit;
use super::json::Version;
use super::output::Output;
use crate::tasks::failure::Failure;

/// Show the program's version
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Arguments {}

/// Prints name, version and platform.
///
/// # Errors
/// When the output cannot be written.
pub fn run(_: &Arguments, output: Output) -> Result<Exit, Failure> {
    if output.json {
        output.json(&Version::default())?;
    } else {
        let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
        output.line(format_args!("packstone {} on {os}/{arch}", env!("CARGO_PKG_VERSION")))?;
    }
    Ok(Exit::Success)
}
