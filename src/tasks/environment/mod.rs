//! What a task needs beside its request: where things are, how secrets are had, who may be asked, and who may end it.
//!
//! An environment is of one repository, as far as options, variables or a configuration named one. It can be used for any number of
//! tasks: nothing in it is used up.

mod descriptors;
pub mod freshness;
pub mod mirrors;
pub mod own_places;
pub mod passphrase;
pub mod places;
pub mod prompt;
pub mod repositories;
pub mod secret;
mod secret_variables;
pub mod user_command;

use crate::base::stop::StopSignal;
use crate::ops::{Monitor, Problem, Subject};
use crate::repository::expected::Expected;
use crate::repository::pack_writer::PackOptions;
use crate::storage::rate_limit::RateLimit;
use crate::tasks::failure::Failure;
use crate::tasks::remedy::Remedy;
use places::Places;
use prompt::{Nobody, Prompt};
use secret::{Question, Secret, SecretPlaces, Secrets, Source};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// See the module.
pub struct Environment {
    /// Where things are.
    pub places: Places,
    /// What is said of the repository before it is opened.
    pub expected: Expected,
    /// The mirror that is read from instead, by name or address.
    pub from_mirror: Option<String>,
    /// How long to wait for a lock.
    pub retry_lock: Duration,
    /// How packs are written.
    pub packs: PackOptions,
    /// What all transfers share that are not limited by their own request. Its rate may change at any time.
    pub upload_limit: Arc<RateLimit>,
    /// How secrets are had.
    pub secrets: Secrets,
    /// Who is asked for what is not given.
    pub prompt: Arc<dyn Prompt>,
    /// Ends all that takes long.
    pub stop: StopSignal,
    /// Of what was reported already: each thing once.
    reported: Reported,
}

#[derive(Default)]
struct Reported {
    state: OnceLock<()>,
    cache: OnceLock<()>,
}

/// The repository that is copied from.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct CopySource {
    /// Its directory.
    pub repository: Option<PathBuf>,
    /// A file that holds its place.
    pub repository_file: Option<PathBuf>,
    /// What is said of it before it is opened.
    #[serde(deserialize_with = "super::text_form::expected")]
    pub expected: Expected,
    /// Where its secret is.
    pub secret: SecretPlaces,
}

impl CopySource {
    /// Its directory.
    ///
    /// # Errors
    /// As [`Places::repository`]; a usage error when none is named.
    pub fn place(&self) -> Result<PathBuf, Failure> {
        match (&self.repository, &self.repository_file) {
            (Some(_), Some(_)) => Err(Failure::usage("only one of --from-repo and --from-repository-file can be used")),
            (Some(place), None) => places::local(place.clone()),
            (None, Some(file)) => places::in_file(file),
            (None, None) => Err(Failure::usage("which repository to copy from is not said").remedy(
                "name it with --from-repo or PACKSTONE_FROM_REPOSITORY; --repo is the one that is copied into",
            )),
        }
    }
}

impl Environment {
    /// One in which things are there, secrets are had so, and nobody is asked.
    #[must_use]
    pub fn new(places: Places, secrets: Secrets) -> Self {
        Self {
            places,
            expected: Expected::default(),
            from_mirror: None,
            retry_lock: Duration::ZERO,
            packs: PackOptions::default(),
            upload_limit: Arc::default(),
            secrets,
            prompt: Arc::new(Nobody),
            stop: StopSignal::new(),
            reported: Reported::default(),
        }
    }

    /// Reads the secret that opens the repository, or that a new one will be opened with.
    ///
    /// # Errors
    /// As [`Secrets::read_own`].
    pub fn secret(&self, question: Question<'_>) -> Result<Secret, Failure> {
        self.secrets.read_own(question, &*self.prompt, &self.stop)
    }

    /// Reads the secret that opens the repository that is copied from.
    ///
    /// # Errors
    /// As [`Secrets::read_from`].
    pub fn secret_of_source(&self, source: &CopySource, question: Question<'_>) -> Result<Secret, Failure> {
        self.secrets.read_from(&source.secret, question, &*self.prompt, &self.stop)
    }

    /// Reads a secret that is to open the repository from now on.
    ///
    /// # Errors
    /// As [`Secrets::read`].
    pub fn new_secret(&self, source: Source, question: Question<'_>) -> Result<Secret, Failure> {
        self.secrets.read(source, question, &*self.prompt, &self.stop)
    }

    /// Where this machine remembers things, for a task that goes on without it. What that means is reported once.
    pub fn state_directory(&self, monitor: &dyn Monitor) -> Option<PathBuf> {
        let lost = "Nothing is remembered: an older copy in the repository's place would not be noticed, and no mirrors are known";
        let report = |error: &Failure| *self.reported.state.get_or_init(|| report_missing(error, lost, monitor));
        self.places.state_directory().inspect_err(report).ok()
    }

    /// Where caches are; none with `no_cache`. A cache is no necessity: where there is no directory for it that is reported once.
    pub fn cache_directory(&self, monitor: &dyn Monitor) -> Option<PathBuf> {
        let lost = "There is no cache now, which is slower";
        let report = |error: &Failure| *self.reported.cache.get_or_init(|| report_missing(error, lost, monitor));
        self.places.cache_directory().inspect_err(report).ok().flatten()
    }
}

fn report_missing(error: &Failure, lost: &str, monitor: &dyn Monitor) {
    let remedies: Vec<&str> = error.remedies().iter().map(Remedy::marked).collect();
    let message = format!("{}. {lost}: {}", error.chain(), remedies.join("; "));
    monitor.problem(&Problem::warning(Subject::Machine, &message));
}
