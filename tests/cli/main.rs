//! The program from outside: what is typed, what is printed, and the exit code. One binary, one file a subject.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod again;
mod backup;
mod cat;
mod catastrophe;
mod check;
mod children;
mod clock;
mod copy;
mod deleted;
mod depth;
mod diff;
mod drill;
mod dump;
mod endings;
mod environment;
mod file_system;
mod find;
mod findings;
mod forget;
mod freed;
mod help;
mod interleave;
mod key;
mod limits;
mod ls;
mod mirror;
mod newest;
mod nothing;
mod outputs;
mod own;
mod owner;
mod passphrase;
mod paths;
mod progress;
mod prune;
mod reading;
mod recover;
mod repair;
mod repair_heads;
#[path = "../support/repository.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod repository;
mod restore;
mod rewrite;
mod show;
mod snapshots;
mod stats;
mod status;
mod suggested;
mod support;
mod tag;
mod terminal;
mod together;
mod umask;
mod undelete;
mod usage;
mod who;

use std::process::{Command, Output, Stdio};

/// The program, in an empty environment and without a terminal.
pub fn packstone(words: &[&str]) -> Command {
    let program = std::env::var_os("PACKSTONE_TEST_PROGRAM").unwrap_or(env!("CARGO_BIN_EXE_packstone").into());
    let mut command = Command::new(program);
    command.args(words).env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// What the program printed, and how it ended.
pub struct Ran {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("the program prints UTF-8 only");
        Self { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }
}

/// What was printed, with suggested commands as they are where the repository is the default one. Its path has no blank in the worlds
/// of the tests that ask; `suggested` is about the others.
pub fn plain(text: &str) -> String {
    let mut parts = text.split("packstone -r ");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + "packstone " + part.split_once(' ').map_or("", |(_, rest)| rest))
}

/// Runs it to the end.
pub fn run(words: &[&str]) -> Ran {
    packstone(words).output().unwrap().into()
}
