//! `man`: manual pages, made from the same text as the help.

use super::exit::Exit;
use super::output::Output;
use crate::base::escape::escape;
use crate::base::private;
use crate::tasks::failure::Failure;
use clap::CommandFactory;
use clap_mangen::Man;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// Write the manual page to the standard output, or all pages to a directory
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Arguments {
    /// Write a page for the program and one for each command into this directory
    #[arg(long, value_name = "DIRECTORY")]
    pub directory: Option<PathBuf>,
}

/// Prints or writes the pages.
///
/// # Errors
/// When they cannot be written.
pub fn run(arguments: &Arguments, output: Output) -> Result<Exit, Failure> {
    let command = super::Cli::command();
    if let Some(directory) = &arguments.directory {
        let shown = escape(directory.as_os_str().as_bytes());
        private::make_public_directories(directory)
            .and_then(|()| clap_mangen::generate_to(command, directory))
            .map_err(|error| Failure::failed(format!("cannot write manual pages to {shown}")).caused_by(error))?;
        output.info(format_args!("manual pages are in {shown}; view one with: man -l {shown}/packstone.1"))?;
    } else {
        let mut stream = output.stream();
        Man::new(command).render(&mut stream).map_err(super::output::failed)?;
        stream.finish()?;
    }
    Ok(Exit::Success)
}
