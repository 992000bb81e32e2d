//! Write files of a snapshot back. What protects the target is here, so that nobody can leave it out: nothing is restored into what is
//! this program's own, and `delete` of everything in `/` is refused.
//!
//! In three steps, because each has something to be shown: [`open`], then [`Opened::plan`], then [`Planned::execute`].

use super::environment::{Environment, own_places, repositories};
use super::failure::{Failure, Kind};
use super::patterns::PatternRules;
use super::report_warnings;
use super::snapshot_filter::SnapshotFilter;
use crate::base::command::suggest;
use crate::base::escape::escape;
use crate::codec::snapshot::Outcome;
use crate::ops::restore::{self, Options, Overwrite, Plan, Selection};
use crate::ops::select::{self, SnapshotArgument, SnapshotRef};
use crate::ops::{self, Monitor, Problem, Subject};
use crate::repository::Repository;
use serde::Deserialize;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

/// What to restore, and how.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Request {
    /// The snapshot, or a part of it.
    #[serde(deserialize_with = "super::text_form::value")]
    pub snapshot: SnapshotArgument,
    /// The directory to write into, which is made if need be. It has to be named.
    pub target: PathBuf,
    /// What to take only; everything when it is empty.
    pub include: PatternRules,
    /// What to leave out.
    pub exclude: PatternRules,
    /// Which snapshots `latest` counts.
    pub filter: SnapshotFilter,
    /// When to write over a file that is there.
    pub overwrite: Overwrite,
    /// Remove what is in the target's directories but not in the snapshot.
    pub delete: bool,
    /// Make long runs of zeros holes, whatever they were.
    pub sparse: bool,
    /// Set owners by number, not by name.
    pub numeric_owner: bool,
    /// Owners, devices and set-uid and set-gid bits that cannot be set are a failure.
    pub strict_owner: bool,
    /// Read everything back and compare, contents and metadata.
    pub verify: bool,
    /// The plan is made to be shown, and cannot be carried out.
    pub dry_run: bool,
}

/// A restore whose repository is open.
#[derive(Debug)]
pub struct Opened<'a> {
    request: &'a Request,
    repository: Repository,
    options: Options,
    notes: Vec<String>,
}

/// A restore that is worked out, by reading only.
#[derive(Debug)]
pub struct Planned {
    repository: Repository,
    plan: Plan,
    source: String,
    strict_owner: bool,
    is_dry_run: bool,
}

/// What was restored.
#[derive(Debug)]
pub struct Report {
    /// The restore's own report.
    pub report: restore::Report,
    /// Owners, devices and set-uid and set-gid bits that could not be set are a failure.
    pub strict_owner: bool,
}

impl Report {
    /// How it ends.
    #[must_use]
    pub fn kind(&self) -> Option<Kind> {
        let is_done = if self.strict_owner { self.report.is_exact() } else { self.report.is_complete() };
        kind(self.report.damage_count, is_done)
    }
}

const fn kind(damage: u64, is_done: bool) -> Option<Kind> {
    match (damage, is_done) {
        (0, true) => None,
        (0, false) => Some(Kind::Failed),
        _ => Some(Kind::Damage),
    }
}

/// Looks at the request, then opens the repository, and finds out what is this program's own.
///
/// # Errors
/// A usage error for a target or a pattern that cannot be meant; when the repository cannot be opened.
pub fn open<'a>(request: &'a Request, environment: &Environment, monitor: &dyn Monitor) -> Result<Opened<'a>, Failure> {
    // What is asked for is looked at before the secret is.
    let mut options = request.options()?;
    let repository = repositories::open_repository(environment, monitor, "restore")?;
    options.own = own_places::places(environment, monitor, &repository);
    let mut notes = Vec::new();
    if options.delete {
        let absent = options.own.absent_mirrors();
        notes.extend(
            absent.iter().map(|sentence| format!("{sentence}: in the target it is recognised only by what lies in it")),
        );
    } else {
        for sentence in options.own.unknown() {
            let message = format!("{sentence}: in the target it is not recognised");
            monitor.problem(&Problem::warning(Subject::Machine, &message));
        }
    }
    Ok(Opened { request, repository, options, notes })
}

impl Opened<'_> {
    /// What is worth knowing before anything is done, in sentences.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Works out what will be done. Nothing is changed.
    ///
    /// # Errors
    /// When the snapshot or the part of it is not there; when the target is, or lies in, what is this program's own or cannot be looked
    /// at.
    pub fn plan(self, monitor: &dyn Monitor) -> Result<Planned, Failure> {
        let Self { request, repository, options, .. } = self;
        let (chosen, found) = select::argument(&repository, &request.snapshot, &request.filter.resolve())?;
        report_warnings(&repository, monitor);
        let is_latest = matches!(request.snapshot.snapshot, SnapshotRef::Latest { .. });
        if chosen.snapshot.outcome == Outcome::Partial && is_latest {
            let id = chosen.id.short();
            let message =
                format!("snapshot {id} is partial. To see what is missing in it: {}", suggest!("show {}", id));
            monitor.problem(&Problem::warning(Subject::Stored, &message));
        }
        let part = if found.path == b"/" { String::new() } else { format!(":{}", escape(&found.path)) };
        let source = format!("{}{part}", chosen.id.short());
        let plan = restore::plan(&repository, &chosen, &found, &options, monitor)?;
        Ok(Planned { repository, plan, source, strict_owner: request.strict_owner, is_dry_run: request.dry_run })
    }
}

impl Planned {
    /// What will be done.
    #[must_use]
    pub const fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The snapshot and the part of it, safe to show: `7f3a1c2d:/home`.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// How it ends when it is not carried out.
    #[must_use]
    pub const fn kind(&self) -> Option<Kind> {
        kind(self.plan.damage_count(), self.plan.problem_count() == 0)
    }

    /// Reports what the repository has gathered to be said while the plan was made. [`Planned::execute`] does it too.
    pub fn report_warnings(&self, monitor: &dyn Monitor) {
        report_warnings(&self.repository, monitor);
    }

    /// Carries it out.
    ///
    /// # Errors
    /// It did not come to its end; what was restored until then is complete, file by file. A usage error when it was asked for to be
    /// shown only.
    pub fn execute(self, monitor: &dyn Monitor) -> Result<Report, Failure> {
        if self.is_dry_run {
            return Err(Failure::usage("this restore was planned to be shown only"));
        }
        let done = restore::execute(&self.repository, self.plan, monitor);
        report_warnings(&self.repository, monitor);
        let report = done.map_err(|error| match error {
            ops::Error::Interrupted => Failure::interrupted().remedy("the same command goes on from here"),
            other => other.into(),
        })?;
        Ok(Report { report, strict_owner: self.strict_owner })
    }
}

impl Request {
    fn options(&self) -> Result<Options, Failure> {
        let (include, exclude) = (self.include.read()?, self.exclude.read()?);
        let selection = Selection::new([include.exact, include.ignoring_case], [exclude.exact, exclude.ignoring_case]);
        if self.target.as_os_str().is_empty() {
            return Err(Failure::usage("the target's path is empty").remedy("give a directory with --target"));
        }
        if self.delete && selection.is_everything() && is_root(&self.target) {
            return Err(Failure::usage("--delete in / would remove what the snapshot never meant to hold")
                .remedy("say what is meant with --include or --exclude"));
        }
        Ok(Options {
            target: self.target.clone(),
            selection,
            overwrite: self.overwrite,
            delete: self.delete,
            sparse: self.sparse,
            numeric_owner: self.numeric_owner,
            verify: self.verify,
            own: Arc::default(),
            dry_run: self.dry_run,
        })
    }
}

/// True for every way to write `/`.
fn is_root(path: &Path) -> bool {
    path.canonicalize().is_ok_and(|path| path.components().all(|component| component == Component::RootDir))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_request_is_read_from_text() {
        let request: Request = serde_json::from_str(
            r#"{"snapshot": "latest~1:/home", "target": "/tmp/x", "overwrite": "if-newer", "include": {"patterns": ["*.o"]}}"#,
        )
        .unwrap();
        let snapshot = SnapshotArgument { snapshot: SnapshotRef::Latest { back: 1 }, path: Some(b"/home".to_vec()) };
        assert_eq!((request.snapshot, request.overwrite), (snapshot, Overwrite::IfNewer));
        assert!(serde_json::from_str::<Request>(r#"{"snapshot": "xyz"}"#).is_err());
    }

    #[test]
    fn what_cannot_be_meant_is_refused_before_anything_is_opened() {
        let refused = |request: Request| request.options().unwrap_err();
        assert_eq!(refused(Request::default()).kind(), Kind::Usage);
        for target in ["/", "/usr/..", "//"] {
            let request = Request { target: target.into(), delete: true, ..Request::default() };
            let include = PatternRules { patterns: vec!["/home".into()], ..PatternRules::default() };
            assert!(Request { include, ..request.clone() }.options().is_ok());
            assert!(refused(request).chain().contains("--delete in /"), "{target}");
        }
    }
}
