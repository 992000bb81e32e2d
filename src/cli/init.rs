//! `init`: a new repository.

use super::size;

/// Create a new, empty repository
///
/// Asks for a passphrase twice on a terminal, and shows a recovery code once.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Arguments {
    /// Average size of the chunks that files are cut into; a quarter and four times of it are the bounds (k, M: powers of 1024)
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    pub chunk_size: Option<u64>,
    /// Memory that one guess of the passphrase costs, 64M to 1G
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    pub kdf_memory: Option<u64>,
    /// Make no recovery code
    #[arg(long)]
    pub no_recovery_code: bool,
    /// Change nothing, only say what would be done
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}
