//! `repair`: make again what can be made again. One file a part.

pub mod heads;
pub mod index;
pub mod mirror;
pub mod objects;
pub mod packs;
pub mod snapshots;

use super::Context;
use super::exit::Exit;
use crate::tasks::failure::Failure;

/// What is said then.
const ONCE_MORE: &str = "The repository was changed by another run meanwhile. Once more:";

/// Repair parts of the repository
///
/// "packstone check" says what is wrong and which of these to run. Each shows what it will do before it does it; nothing is
/// removed.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// What to repair.
    #[command(subcommand)]
    pub command: Command,
}

/// What to repair.
#[derive(Debug, Clone, clap::Subcommand)]
#[expect(missing_docs, reason = "each stands for the file of its name, whose argument struct says what it does")]
pub enum Command {
    Heads(heads::Arguments),
    Index(index::Arguments),
    Mirror(mirror::Arguments),
    Objects(objects::Arguments),
    Packs(packs::Arguments),
    Snapshots(snapshots::Arguments),
}

/// Runs the command.
///
/// # Errors
/// When the repository cannot be opened, or the repair cannot be published.
pub fn run(arguments: &Arguments, context: &mut Context) -> Result<Exit, Failure> {
    match &arguments.command {
        Command::Heads(arguments) => heads::run(arguments, context),
        Command::Index(arguments) => index::run(arguments, context),
        Command::Mirror(arguments) => mirror::run(arguments, context),
        Command::Objects(arguments) => objects::run(arguments, context),
        Command::Packs(arguments) => packs::run(arguments, context),
        Command::Snapshots(arguments) => snapshots::run(arguments, context),
    }
}
