//! Prune: the space of what nothing needs comes back.

use super::environment::{Environment, repositories};
use super::failure::Failure;
use crate::base::time::Time;
use crate::ops::Monitor;
use crate::ops::prune::{self, GRACE, Limits, MaxUnused, Options, Report};
use crate::repository::Repository;
use crate::repository::pack_writer::PackOptions;
use serde::Deserialize;
use std::time::Duration;

/// How far to go, and how soon.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Request {
    /// Space that may stay unused rather than be won by rewriting packs; [`MaxUnused::default`] when it is left out.
    #[serde(deserialize_with = "super::text_form::option")]
    pub max_unused: Option<MaxUnused>,
    /// Rewrite at most so many bytes of packs.
    #[serde(deserialize_with = "super::text_form::size")]
    pub max_repack_size: Option<u64>,
    /// How long what is marked can come back before it is removed; [`GRACE`] when it is left out.
    #[serde(deserialize_with = "super::text_form::days")]
    pub grace: Option<Duration>,
    /// Remove at once what no running task relies on; nothing of it can come back. No grace may be given beside it.
    pub instant: bool,
    /// Change nothing, only say what would be done.
    pub dry_run: bool,
}

/// Removes what no snapshot needs.
///
/// # Errors
/// [`Kind::Damage`](super::failure::Kind::Damage) when something of a snapshot cannot be read: then nothing is marked.
pub fn run(request: &Request, environment: &Environment, monitor: &dyn Monitor) -> Result<Report, Failure> {
    request.require_clear()?;
    let repository = repositories::open_repository(environment, monitor, "prune")?;
    request.prune(&repository, environment.packs, monitor)
}

impl Request {
    /// Refuses a request that says two things.
    ///
    /// # Errors
    /// The refusal.
    pub(super) fn require_clear(&self) -> Result<(), Failure> {
        match self.instant && self.grace.is_some() {
            true => Err(Failure::usage("either a grace is given or there is none, not both: nothing was removed")),
            false => Ok(()),
        }
    }

    /// Prunes a repository that is open.
    pub(super) fn prune(
        &self,
        repository: &Repository,
        packs: PackOptions,
        monitor: &dyn Monitor,
    ) -> Result<Report, Failure> {
        let options = self.options(packs);
        Ok(match self.dry_run {
            true => prune::plan(repository, &options, monitor)?,
            false => prune::run(repository, &options, monitor)?,
        })
    }

    fn options(&self, packs: PackOptions) -> Options {
        let max_unused = self.max_unused.unwrap_or_default();
        Options {
            limits: Limits { max_unused, max_repack: self.max_repack_size, pack_bytes: packs.pack_bytes },
            grace: if self.instant { Duration::ZERO } else { self.grace.unwrap_or(GRACE) },
            packs,
            now: Time::now(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn options(request: &str) -> Options {
        serde_json::from_str::<Request>(request).unwrap().options(PackOptions::default())
    }

    #[test]
    fn a_request_is_read_as_it_is_typed() {
        let nothing = options("{}");
        assert_eq!((nothing.grace, nothing.limits.max_unused), (GRACE, MaxUnused::Percent(5.0)));
        let all = options(r#"{"max-unused": "10M", "max-repack-size": "1G", "grace": "12h"}"#);
        assert_eq!((all.limits.max_unused, all.limits.max_repack), (MaxUnused::Bytes(10 << 20), Some(1 << 30)));
        assert_eq!(all.grace, Duration::from_secs(12 * 3600));
        assert_eq!(options(r#"{"instant": true}"#).grace, Duration::ZERO);
        assert!(serde_json::from_str::<Request>(r#"{"max-unused": "x"}"#).is_err());
        let both: Request = serde_json::from_str(r#"{"instant": true, "grace": "12h"}"#).unwrap();
        assert!(both.require_clear().is_err());
    }
}
