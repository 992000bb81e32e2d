//! `repair`: make again what can be made again.

/// Repair parts of the repository
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// What to repair.
    #[command(subcommand)]
    pub command: RepairCommand,
}

/// What to repair.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum RepairCommand {
    /// Make the cache again from segments, and missing segments from packs
    Index(IndexArguments),
}

/// `repair index`
#[derive(Debug, Clone, Default, clap::Args)]
pub struct IndexArguments {
    /// Trust no segment: read all packs
    #[arg(long)]
    pub read_all_packs: bool,
    /// Change nothing, only say what would be done
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}
