//! Where this program's own directories are when none is named: `packstone` in the directories of the XDG base directory
//! specification.
//!
//! A service, a cron job or `env -i` has no HOME. Then the home directory that the password database names is the one that
//! the same user's shell has, so that both see the same memory, mirrors and cache. Root without one has the system's
//! directories.

use crate::base::escape::escape;
use crate::storage::remote::ssh;
use crate::tasks::failure::Failure;
use nix::unistd::{User, geteuid};
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

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

/// Where things are, as far as somebody named them; where nothing is named, each is where the XDG base directory specification has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Places {
    /// The repository's directory.
    pub repository: Option<PathBuf>,
    /// A file that holds the repository's place.
    pub repository_file: Option<PathBuf>,
    /// The directory of caches.
    pub cache: Option<PathBuf>,
    /// Do without caches.
    pub no_cache: bool,
    /// The directory of what this machine remembers.
    pub state: Option<PathBuf>,
}

impl Places {
    /// The repository's directory.
    ///
    /// # Errors
    /// A usage error when two are named or the place is a URL; a failure when the file that names it cannot be
    /// read, or nothing is named and there is no home directory.
    pub fn repository(&self) -> Result<PathBuf, Failure> {
        match (&self.repository, &self.repository_file) {
            (Some(_), Some(_)) => Err(Failure::usage("only one of --repo and --repository-file can be used")),
            (Some(place), None) => local(place.clone()),
            (None, Some(file)) => in_file(file),
            (None, None) => local(Place::Data.find()?.join("main")),
        }
    }

    /// True when neither option nor environment names a repository, so that the default one is meant.
    #[must_use]
    pub fn repository_is_default(&self) -> bool {
        self.repository.is_none() && self.repository_file.is_none()
    }

    /// The directory of the caches, or `None` with `--no-cache`.
    ///
    /// # Errors
    /// When there is no home directory to put it in.
    pub fn cache_directory(&self) -> Result<Option<PathBuf>, Failure> {
        match (self.cache.as_ref().filter(|directory| !directory.as_os_str().is_empty()), self.no_cache) {
            (_, true) => Ok(None),
            (Some(directory), false) => Ok(Some(directory.clone())),
            (None, false) => self.default_cache_directory().map(Some),
        }
    }

    /// The directory of the caches when none is named.
    ///
    /// # Errors
    /// When there is no home directory to put it in.
    pub fn default_cache_directory(&self) -> Result<PathBuf, Failure> {
        Place::Cache.find()
    }

    /// The directory of this program's settings.
    ///
    /// # Errors
    /// When there is no home directory to put it in.
    pub fn configuration_directory(&self) -> Result<PathBuf, Failure> {
        Place::Configuration.find()
    }

    /// The directory where it is remembered what was seen of each repository, which mirrors it has, and its drills.
    ///
    /// # Errors
    /// When there is no home directory to put it in.
    pub fn state_directory(&self) -> Result<PathBuf, Failure> {
        // An empty variable names nothing.
        match self.state.as_ref().filter(|directory| !directory.as_os_str().is_empty()) {
            Some(directory) => Ok(directory.clone()),
            None => self.default_state_directory(),
        }
    }

    /// The same when none is named.
    ///
    /// # Errors
    /// When there is no home directory to put it in.
    pub fn default_state_directory(&self) -> Result<PathBuf, Failure> {
        Place::State.find()
    }
}

/// The place that a file names.
pub(super) fn in_file(file: &Path) -> Result<PathBuf, Failure> {
    let shown = escape(file.as_os_str().as_bytes());
    let content = std::fs::read(file)
        .map_err(|error| Failure::failed(format!("cannot read the repository file {shown}")).caused_by(error))?;
    let line = content.trim_ascii();
    if line.is_empty() || line.contains(&b'\n') {
        return Err(Failure::failed(format!("the repository file {shown} should hold one line: a path")));
    }
    local(PathBuf::from(std::ffi::OsStr::from_bytes(line)))
}

/// Accepts a path, and restic's `local:path`. Refuses what looks like the address of another service.
pub(super) fn local(place: PathBuf) -> Result<PathBuf, Failure> {
    let bytes = place.as_os_str().as_bytes();
    if let Some(path) = bytes.strip_prefix(b"local:") {
        return Ok(PathBuf::from(std::ffi::OsStr::from_bytes(path)));
    }
    let services = ["s3:", "sftp:", "rest:", "rclone:", "b2:", "azure:", "gs:", "swift:"];
    if bytes.windows(3).any(|part| part == b"://") || services.iter().any(|name| bytes.starts_with(name.as_bytes())) {
        let shown = escape(bytes);
        return Err(Failure::usage(format!("{shown} is no directory of this machine")).remedy(
            "a repository is always local; copy its directory elsewhere with any tool, the files never change",
        ));
    }
    if bytes.is_empty() {
        return Err(
            Failure::usage("the repository's path is empty").remedy("give one with --repo or PACKSTONE_REPOSITORY")
        );
    }
    Ok(place)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
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

    #[test]
    fn a_repository_is_a_directory_here() {
        assert_eq!(local("local:/x".into()).unwrap(), PathBuf::from("/x"));
        assert_eq!(local("/a:b".into()).unwrap(), PathBuf::from("/a:b"));
        for url in ["s3:bucket", "sftp://host/x", "https://host", ""] {
            assert!(local(url.into()).is_err(), "{url}");
        }
    }
}
