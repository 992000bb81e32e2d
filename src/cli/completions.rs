//! `completions`: for the user's shell.

use super::exit::Exit;
use super::output::Output;
use crate::tasks::failure::Failure;
use clap::CommandFactory;
use std::io::Write;

/// Write a shell's completion script to the standard output
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// The shell
    #[arg(value_name = "SHELL", value_enum)]
    pub shell: clap_complete::Shell,
}

/// Prints the script.
///
/// # Errors
/// When the output cannot be written.
pub fn run(arguments: &Arguments, output: Output) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut super::Cli::command(), "packstone", &mut script);
    let mut stream = output.stream();
    stream.write_all(&script).map_err(super::output::failed)?;
    stream.finish()?;
    Ok(Exit::Success)
}
