//! Everything that a schedule, a page or a terminal interface will ask for, through `tasks` alone: no command line, no terminal, and the same
//! kinds of failure as the program's exit codes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod keys;
mod kinds;
mod progress;
mod requests;
mod stop;
mod whole;
mod world;
