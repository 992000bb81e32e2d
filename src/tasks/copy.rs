//! Copy snapshots of another repository, or of a mirror, into this one.

use super::environment::{CopySource, Environment, repositories};
use super::failure::{Failure, Kind};
use super::snapshot_filter::SnapshotFilter;
use super::{remedy, report_warnings};
use crate::base::command::{suggest, suggest_all};
use crate::base::id::ObjectId;
use crate::ops::copy::{self, Copied, Copying, Done, Options, Plan};
use crate::ops::select::{Chosen, SnapshotRef};
use crate::ops::{Monitor, Problem, Severity, Subject};
use crate::repository::Repository;
use crate::repository::pack_writer::PackOptions;
use crate::text::size;
use serde::Deserialize;
use std::time::{Duration, Instant};

/// What to copy, and where from.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Request {
    /// Only these snapshots of the source; without any, all that the filter lets through.
    #[serde(deserialize_with = "super::text_form::list")]
    pub snapshots: Vec<SnapshotRef>,
    /// The repository to copy from, and where its secret is.
    pub from: CopySource,
    /// The mirror to copy from instead, by name or address. It wins over the place of [`Request::from`].
    pub from_mirror: Option<String>,
    /// Which snapshots.
    pub filter: SnapshotFilter,
    /// Change nothing, only find out what would be copied.
    pub dry_run: bool,
}

/// What became of one snapshot of the source. A snapshot that cannot be read is reported to the monitor as a problem.
#[derive(Debug)]
pub enum Event<'a> {
    /// Its copy is there already.
    There(&'a Chosen, ObjectId),
    /// It would be copied.
    WouldCopy(&'a Chosen),
    /// It was copied.
    Copied(&'a Chosen, &'a Copied),
}

/// What was copied. With `dry_run`, what would be.
#[derive(Debug, Default)]
pub struct Report {
    /// Snapshots that were copied.
    pub copied: u64,
    /// Snapshots whose copy was there already.
    pub there: u64,
    /// Snapshots that were not copied.
    pub failed: u64,
    /// New chunks, in bytes before compression.
    pub added: u64,
    /// Bytes of what was written.
    pub stored: u64,
    /// How long it took.
    pub took: Duration,
    /// No snapshot of the source is meant.
    pub is_empty: bool,
    /// Why the result is not complete. A face shows this after the result.
    pub incomplete: Option<Failure>,
    /// Some of what was not copied is damaged.
    damage: bool,
}

impl Report {
    /// How it ends.
    #[must_use]
    pub fn kind(&self) -> Option<Kind> {
        self.incomplete.as_ref().map(Failure::kind)
    }
}

/// The two repositories.
struct Pair<'a> {
    source: Repository,
    destination: Repository,
    /// The mirror that is the source.
    mirror: Option<&'a str>,
}

/// Copies snapshots, oldest first, and hands to `show` what became of each.
///
/// # Errors
/// When one of the repositories cannot be opened, or the destination cannot be written; what `show` returns. What was not copied because
/// it cannot be read is no failure but in [`Report::incomplete`].
pub fn run(
    request: &Request,
    environment: &Environment,
    monitor: &dyn Monitor,
    show: &mut dyn FnMut(Event<'_>) -> Result<(), Failure>,
) -> Result<Report, Failure> {
    environment.secrets.take_descriptors(&request.from.secret);
    let pair = Pair::open(request, environment, monitor)?;
    let mut plan = copy::plan(&pair.source, &pair.destination, &request.snapshots, &request.filter.resolve())?;
    pair.report_warnings(monitor);
    for (id, error) in &plan.damaged {
        let message = format!("snapshot {} of the source cannot be read and is not copied: {error}", id.short());
        monitor.problem(&Problem::warning(Subject::Stored, &message));
    }
    let failed = plan.damaged.len() as u64;
    let mut report = Report { failed, damage: failed > 0, ..Report::default() };
    for (chosen, copy) in &plan.there {
        report.there += 1;
        show(Event::There(chosen, *copy))?;
    }
    let begun = Instant::now();
    if request.dry_run {
        for chosen in &plan.copy {
            report.copied += 1;
            show(Event::WouldCopy(chosen))?;
        }
    } else if !plan.copy.is_empty() {
        let result = copy_all(&pair, &mut plan, environment.packs, &mut report, monitor, show);
        pair.report_warnings(monitor);
        result?;
    }
    report.took = begun.elapsed();
    report.is_empty = plan.copy.is_empty() && plan.there.is_empty() && report.failed == 0;
    report.incomplete = pair.incomplete(request, &report);
    Ok(report)
}

fn copy_all(
    pair: &Pair<'_>,
    plan: &mut Plan,
    packs: PackOptions,
    report: &mut Report,
    monitor: &dyn Monitor,
    show: &mut dyn FnMut(Event<'_>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let cpus = std::thread::available_parallelism().map_or(2, usize::from);
    let options = Options { readers: cpus.clamp(2, 4), packs };
    let mut copying = Copying::new(&pair.source, &pair.destination, plan, options, monitor);
    let copied = copy_each(&mut copying, plan, report, monitor, show);
    copying.finish();
    copied
}

fn copy_each(
    copying: &mut Copying<'_>,
    plan: &Plan,
    report: &mut Report,
    monitor: &dyn Monitor,
    show: &mut dyn FnMut(Event<'_>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    for chosen in &plan.copy {
        match copying.snapshot(chosen)? {
            Done::Copied(copied) => {
                report.copied += 1;
                report.added += copied.written.data_bytes + copied.written.tree_bytes;
                report.stored += copied.written.pack_bytes + copied.written.other_bytes;
                show(Event::Copied(chosen, &copied))?;
            }
            Done::There(copy) => {
                report.there += 1;
                show(Event::There(chosen, copy))?;
            }
            Done::Unreadable(error) => {
                report.failed += 1;
                report.damage |= error.is_damage();
                let message = format!("snapshot {} is not copied: {error}", chosen.id.short());
                monitor.problem(&Problem::new(Severity::Error, b"", &message));
            }
        }
    }
    Ok(())
}

impl<'a> Pair<'a> {
    fn open(request: &'a Request, environment: &Environment, monitor: &dyn Monitor) -> Result<Self, Failure> {
        let destination = repositories::open_repository(environment, monitor, "copy")?;
        let (from, mirror) = (&request.from, request.from_mirror.as_deref());
        let source = match mirror {
            Some(mirror) => repositories::open_source_mirror(environment, monitor, mirror, from, destination.id())
                .map_err(|error| error.reading_from(mirror))?,
            None => repositories::open_source(environment, monitor, from, destination.id(), "copy")?,
        };
        Ok(Self { source, destination, mirror })
    }

    /// Reports what both have gathered to be said. Commands in what the source says are about the source.
    fn report_warnings(&self, monitor: &dyn Monitor) {
        match self.mirror {
            Some(_) => report_warnings(&self.source, monitor),
            None => {
                for warning in self.source.take_warnings() {
                    let message = remedy::of_repository(&warning, self.source.place());
                    monitor.problem(&Problem::warning(Subject::Machine, &message));
                }
            }
        }
        report_warnings(&self.destination, monitor);
    }

    /// Why not everything was copied that was asked for.
    fn incomplete(&self, request: &Request, report: &Report) -> Option<Failure> {
        if report.failed == 0 {
            // Who named some has them; a copy of all lacks what only the newest head names.
            let newest = if request.snapshots.is_empty() { self.source.require_newest() } else { Ok(()) };
            return newest.err().map(|error| Failure::from(error).about("the source"));
        }
        let check = match self.mirror {
            Some(mirror) => suggest!("check --from {}", mirror),
            None => suggest_all("-r", [self.source.place().as_os_str().as_encoded_bytes(), b"check"]),
        };
        let snapshots = size::counted(report.failed, "snapshot was", "snapshots were");
        let message = format!("{snapshots} not copied: the source could not be read");
        Some(Failure::new(Kind::of_unread(report.damage), message).remedy(format!(
            "to see everything that is damaged in the source: {check}  Then run the same command again"
        )))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_request_is_read_from_text() {
        let request: Request = serde_json::from_str(
            r#"{"snapshots": ["latest"], "from": {"repository": "/srv/a", "secret": {"file": "/etc/p"},
                "expected": {"ids": ["0123456789"]}}}"#,
        )
        .unwrap();
        assert_eq!(request.snapshots, [SnapshotRef::Latest { back: 0 }]);
        assert_eq!(request.from.repository, Some("/srv/a".into()));
        assert_eq!(request.from.secret.file, Some("/etc/p".into()));
        assert_eq!(request.from.expected.ids.len(), 1);
        assert!(serde_json::from_str::<Request>(r#"{"from": {"expected": {"ids": ["01"]}}}"#).is_err());
    }
}
