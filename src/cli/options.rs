//! The options that every command takes, and where things are by default.

use super::about::About;
use super::output::Output;
use super::prompt::Typist;
use super::secret_options::SecretOptions;
use crate::base::stop::StopSignal;
use crate::codec::head_code::HeadCode;
use crate::repository::expected::{Expected, IdBeginning};
use crate::repository::pack_writer::PackOptions;
use crate::tasks::environment::Environment;
use crate::tasks::environment::places::Places;
use crate::tasks::environment::secret::{Secrets, Variables};
use crate::text::size;
use crate::text::span;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// Smallest and largest pack that may be asked for, in bytes. The larger is the format's own limit.
pub const PACK_BYTES: std::ops::RangeInclusive<u64> = 4 << 20..=256 << 20;

/// The options that every command takes.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Global options")]
pub struct GlobalOptions {
    /// The repository: a directory [default: packstone/main in the user's data directory]
    #[arg(short, long, alias = "repository", value_name = "PATH", env = "PACKSTONE_REPOSITORY", global = true)]
    pub repo: Option<PathBuf>,
    /// Read the repository's place from this file
    #[arg(long, value_name = "FILE", env = "PACKSTONE_REPOSITORY_FILE", global = true)]
    pub repository_file: Option<PathBuf>,
    /// Read straight from a mirror, by its name or address, instead of from the repository
    #[arg(long = "from", value_name = "MIRROR", global = true)]
    pub from_mirror: Option<String>,
    /// Refuse any other repository than the one with this id, or with an id that begins with these 8 or more hex digits; it is then the one that belongs there
    /// (can be given multiple times, for disks that are used in turn)
    #[arg(long, value_name = "ID", global = true)]
    pub repo_id: Vec<IdBeginning>,
    /// Refuse a state that is older than the one with this state code, or of another history
    #[arg(long, value_name = "CODE", global = true, value_parser = parse_head_code)]
    pub expect_head: Option<HeadCode>,
    /// Where the secret is.
    #[command(flatten)]
    pub secret: SecretOptions,
    /// Keep the cache in this directory [default: packstone in the user's cache directory]
    #[arg(long, value_name = "DIRECTORY", env = "PACKSTONE_CACHE_DIR", global = true)]
    pub cache_dir: Option<PathBuf>,
    /// Do without a cache on disk
    #[arg(long, global = true, conflicts_with = "cache_dir")]
    pub no_cache: bool,
    /// Keep in this directory what this machine remembers: the newest head seen of each repository, its mirrors and drills
    /// [default: packstone in the user's state directory]
    #[arg(long, value_name = "DIRECTORY", env = "PACKSTONE_STATE_DIR", global = true)]
    pub state_dir: Option<PathBuf>,
    /// Wait this long when another process holds the lock, such as 30s, 5m or 1h30m
    #[arg(long, value_name = "DURATION", global = true, value_parser = span::parse_wait)]
    pub retry_lock: Option<Duration>,
    /// How hard to compress what is stored: auto, off, fastest, better, max, or a zstd level from 1 to 19
    #[arg(long, value_name = "MODE", env = "PACKSTONE_COMPRESSION", global = true, default_value = "auto")]
    pub compression: Compression,
    /// Close packs at this size: a number of MiB, or a size such as 32M [default: 32M]
    #[arg(long, value_name = "SIZE", env = "PACKSTONE_PACK_SIZE", global = true, value_parser = parse_pack_size)]
    pub pack_size: Option<u64>,
    /// Write JSON for programs instead of text
    #[arg(long, global = true)]
    pub json: bool,
    /// Say nothing but results and problems
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Say more; twice names every file
    #[arg(short, long, value_name = "LEVEL", global = true, num_args = 0..=1, require_equals = true,
          default_missing_value = "1", action = clap::ArgAction::Append, conflicts_with = "quiet")]
    pub verbose: Vec<u8>,
    /// Accepted and not needed: nothing that reads waits for a lock.
    #[arg(long, global = true, hide = true)]
    pub no_lock: bool,
}

impl GlobalOptions {
    /// How often `--verbose` was given, or the level given with it.
    #[must_use]
    pub fn verbosity(&self) -> u8 {
        self.verbose.iter().fold(0, |sum: u8, level| sum.saturating_add(*level))
    }

    /// Where things are.
    #[must_use]
    pub fn places(&self) -> Places {
        Places {
            repository: self.repo.clone(),
            repository_file: self.repository_file.clone(),
            cache: self.cache_dir.clone(),
            no_cache: self.no_cache,
            state: self.state_dir.clone(),
        }
    }

    /// What tasks need, with the secrets that the variables hold.
    #[must_use]
    pub fn environment(&self, variables: Variables, stop: StopSignal) -> Environment {
        let mut environment = Environment::new(self.places(), Secrets::new(self.secret.places(), variables));
        environment.expected = Expected { ids: self.repo_id.clone(), head: self.expect_head };
        environment.from_mirror.clone_from(&self.from_mirror);
        environment.retry_lock = self.retry_lock.unwrap_or_default();
        environment.packs = self.pack_options();
        environment.secrets.once = true;
        environment.prompt = Arc::new(Typist);
        environment.stop = stop;
        environment
    }

    /// How packs are written.
    #[must_use]
    pub fn pack_options(&self) -> PackOptions {
        let default = PackOptions::default();
        let pack_bytes = self.pack_size.unwrap_or(default.pack_bytes);
        PackOptions { pack_bytes, compression: self.compression.level(), ..default }
    }

    /// The form of output asked for, by a command line that is about this.
    #[must_use]
    pub fn output(&self, about: About) -> Output {
        Output::new(self.json, self.quiet, self.verbosity(), about)
    }
}

/// A state code, as it was printed or written down.
///
/// # Errors
/// A sentence for the command line.
pub fn parse_head_code(text: &str) -> Result<HeadCode, String> {
    HeadCode::parse(text).map_err(|error| error.to_string())
}

/// How hard to compress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// The program's choice: fast, and data that does not compress is stored as it is.
    #[default]
    Auto,
    /// Nothing is compressed.
    Off,
    /// This zstd level, 1 to 19.
    Level(i32),
}

impl Compression {
    /// The zstd level, or `None` when nothing is compressed.
    #[must_use]
    pub const fn level(self) -> Option<i32> {
        match self {
            Self::Auto => Some(3),
            Self::Off => None,
            Self::Level(level) => Some(level),
        }
    }
}

impl FromStr for Compression {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "off" => Ok(Self::Off),
            "fastest" => Ok(Self::Level(1)),
            "better" => Ok(Self::Level(7)),
            "max" => Ok(Self::Level(19)),
            _ => text
                .parse()
                .ok()
                .filter(|level| (1..=19).contains(level))
                .map(Self::Level)
                .ok_or_else(|| format!("{text:?} is none of auto, off, fastest, better, max, or 1 to 19")),
        }
    }
}

/// A pack size: a plain number counts MiB, as in restic.
fn parse_pack_size(text: &str) -> Result<u64, String> {
    let bytes = match text.parse::<u64>() {
        Ok(mebibytes) => mebibytes.checked_mul(1 << 20).ok_or_else(|| format!("{text:?} is too large"))?,
        Err(_) => size::parse(text)?,
    };
    if PACK_BYTES.contains(&bytes) {
        Ok(bytes)
    } else {
        Err(format!("a pack has {} MiB to {} MiB", PACK_BYTES.start() >> 20, PACK_BYTES.end() >> 20))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn compression_and_pack_size_are_parsed() {
        assert_eq!("auto".parse::<Compression>().unwrap().level(), Some(3));
        assert_eq!("off".parse::<Compression>().unwrap().level(), None);
        assert_eq!("max".parse::<Compression>().unwrap().level(), Some(19));
        assert_eq!("7".parse(), Ok(Compression::Level(7)));
        for text in ["", "0", "20", "-1", "fast"] {
            assert!(text.parse::<Compression>().is_err(), "{text}");
        }
        assert_eq!(parse_pack_size("64"), Ok(64 << 20));
        assert_eq!(parse_pack_size("16M"), Ok(16 << 20));
        for text in ["0", "3", "257", "1k", "1T", "99999999999999999"] {
            assert!(parse_pack_size(text).is_err(), "{text}");
        }
    }
}
