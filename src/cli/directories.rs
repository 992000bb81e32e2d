//! Where this program's own directories are when none is named: `packstone` in the directories of the XDG base directory
//! specification.
//!
//! A service, a cron job or `env -i` has no HOME. Then the home directory that the password database names is the one that
//! the same user's shell has, so that both see the same memory, mirrors and cache. Root without one has the system's
//! directories.

use super::Context;
use crate::storage::remote::ssh;
use crate::tasks::failure::Failure;
use crate::tasks::remedy::Remedy;
use nix::unistd::{User, geteuid};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// A directory of this program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Repositories of which no place is named.
    Data,
    /// Caches.
    Cache,
    /// Settings.
    Configuration,
    /// What this machine remembers, and its lists of mirrors and drills.
    State,
}

impl Place {
    /// The variable of the specification, and where it points by default in the home directory.
    const fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Data => ("XDG_DATA_HOME", ".local/share"),
            Self::Cache => ("XDG_CACHE_HOME", ".cache"),
            Self::Configuration => ("XDG_CONFIG_HOME", ".config"),
            Self::State => ("XDG_STATE_HOME", ".local/state"),
        }
    }

    /// Where root has it who has no home directory. A repository is never made where nobody named a place.
    const fn of_root(self) -> Option<&'static str> {
        match self {
            Self::Data => None,
            Self::Cache => Some("/var/cache/packstone"),
            Self::Configuration => Some("/etc/packstone"),
            Self::State => Some("/var/lib/packstone"),
        }
    }

    /// What is missing without it, and how it is named.
    const fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Data => ("which repository is meant is not said", "name it with --repo or PACKSTONE_REPOSITORY"),
            Self::Cache => (
                "there is no directory for the cache",
                "name one with --cache-dir or PACKSTONE_CACHE_DIR, or do without: --no-cache",
            ),
            Self::Configuration => ("there is no directory of settings", "set HOME"),
            Self::State => (
                "there is no directory for what this machine remembers (the newest head seen of each repository, mirrors, drills)",
                "name one with --state-dir or PACKSTONE_STATE_DIR",
            ),
        }
    }

    /// The directory, which need not exist yet.
    ///
    /// # Errors
    /// When neither the environment nor the password database names one; the hint says which option does.
    pub fn find(self) -> Result<PathBuf, Failure> {
        let (variable, _) = self.names();
        let read = |name: &str| if name == ssh::VARIABLE { ssh::Place::given() } else { std::env::var_os(name) };
        self.find_with(read, recorded_home, geteuid().is_root()).ok_or_else(|| {
            let (missing, hint) = self.words();
            let user = geteuid();
            Failure::failed(format!(
                "{missing}: neither {variable} nor HOME names one, and user {user} has no home directory in the password database"
            ))
            .remedy(hint)
        })
    }

    /// Relative values are ignored, as the specification says.
    fn find_with(
        self,
        variable: impl Fn(&str) -> Option<OsString>,
        recorded: impl Fn() -> Option<PathBuf>,
        is_root: bool,
    ) -> Option<PathBuf> {
        let (name, fallback) = self.names();
        let absolute = |name: &str| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let base = absolute(name)
            .or_else(|| absolute("HOME").map(|home| home.join(fallback)))
            .or_else(|| recorded().map(|home| home.join(fallback)));
        base.map(|base| base.join("packstone")).or_else(|| self.of_root().filter(|_| is_root).map(PathBuf::from))
    }
}

/// The home directory that the password database names for this user, when it is there. Users that are no persons have
/// `/nonexistent` or `/`, which is nobody's home.
fn recorded_home() -> Option<PathBuf> {
    let home = User::from_uid(geteuid()).ok().flatten()?.dir;
    (home.is_absolute() && home != Path::new("/") && home.is_dir()).then_some(home)
}

/// Of what the user has been told in this process: each thing once.
#[derive(Default)]
pub struct Told {
    state: OnceLock<()>,
    cache: OnceLock<()>,
}

impl Context {
    /// Where this machine remembers things, for a command that goes on without it. What that means is said once.
    pub fn state_directory(&self) -> Option<PathBuf> {
        let directory = self.global.state_directory();
        let lost = "Nothing is remembered: an older copy in the repository's place would not be noticed, and no mirrors are known";
        directory.inspect_err(|error| *self.told.state.get_or_init(|| self.warn_without(error, lost))).ok()
    }

    /// Where caches are; none with `--no-cache`. A cache is no necessity: where there is no directory for it the user is
    /// told once.
    pub fn cache_directory(&self) -> Option<PathBuf> {
        let directory = self.global.cache_directory();
        let lost = "There is no cache now, which is slower";
        directory.inspect_err(|error| *self.told.cache.get_or_init(|| self.warn_without(error, lost))).ok().flatten()
    }

    fn warn_without(&self, error: &Failure, lost: &str) {
        self.output.warn(&format!(
            "{}. {lost}: {}",
            error.chain(),
            error.remedies().iter().map(Remedy::marked).collect::<Vec<_>>().join("; ")
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_place_that_is_named_counts() {
        type Case<'a> = (Place, Option<&'a str>, Option<&'a str>, Option<&'a str>, bool, Option<&'a str>);
        let cases: [Case<'_>; 13] = [
            (Place::Cache, Some("/x"), Some("/home/a"), Some("/home/b"), false, Some("/x/packstone")),
            (Place::Cache, None, Some("/home/a"), Some("/home/b"), false, Some("/home/a/.cache/packstone")),
            (Place::Cache, Some("relative"), Some("/home/a"), None, false, Some("/home/a/.cache/packstone")),
            (Place::Cache, None, None, Some("/home/b"), false, Some("/home/b/.cache/packstone")),
            (Place::State, Some(""), Some(""), Some("/home/b"), false, Some("/home/b/.local/state/packstone")),
            (Place::State, None, Some("relative"), Some("/root"), true, Some("/root/.local/state/packstone")),
            (Place::State, None, None, None, true, Some("/var/lib/packstone")),
            (Place::Cache, None, None, None, true, Some("/var/cache/packstone")),
            (Place::Configuration, None, None, None, true, Some("/etc/packstone")),
            (Place::Data, None, None, None, true, None),
            (Place::State, None, None, None, false, None),
            (Place::Cache, Some(""), None, None, false, None),
            (Place::Data, None, None, Some("/home/b"), false, Some("/home/b/.local/share/packstone")),
        ];
        for (place, xdg, home, recorded, is_root, expected) in cases {
            let variable = |name: &str| if name == "HOME" { home } else { xdg }.map(OsString::from);
            let found = place.find_with(variable, || recorded.map(PathBuf::from), is_root);
            assert_eq!(found, expected.map(PathBuf::from), "{place:?} {xdg:?} {home:?} {recorded:?} {is_root}");
        }
    }
}
