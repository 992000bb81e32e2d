//! Parse, run, turn the outcome into an exit code; nothing else. The rest is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    packstone::cli::main(std::env::args_os()).into()
}
