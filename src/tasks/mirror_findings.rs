//! Remembers what a sync or a check found to speak against a mirror, until a later one disproves it. So no mirror is called whole a minute after a
//! sync of it was refused.

use super::failure::{Failure, Kind};
use super::remedy::Remedy;
use crate::base::command::stored;
use crate::base::time::Time;
use crate::ops::{Monitor, Problem, Subject};
use crate::repository::mirror_book::{self, Finding, FoundBy, MirrorBook};

/// Remembers why a sync or a check of this mirror failed. What says nothing of the mirror is passed over: an end that somebody wanted, another
/// process at work, a shortage of this one. `of_mirror` is false when it speaks against the repository here, which keeps the mirror behind.
pub(super) fn note_failure(
    book: &MirrorBook,
    mirror: &str,
    found_by: FoundBy,
    (failure, of_mirror): (&Failure, bool),
    monitor: &dyn Monitor,
) {
    let says_nothing = matches!(failure.kind(), Kind::Interrupted | Kind::OutputClosed | Kind::Locked);
    if says_nothing || failure.is_of_process() {
        return;
    }
    let now = Time::now();
    let finding = Finding {
        found_by,
        kind: failure.kind().word().to_owned(),
        since: now,
        seen: now,
        transient: failure.is_transient(),
        of_mirror,
        reason: stored(&failure.chain()),
        remedies: failure.remedies().iter().map(Remedy::marked).map(str::to_owned).collect(),
    };
    report_lost(book.set_finding(mirror, &finding), mirror, monitor);
}

/// Forgets what speaks against this mirror and `is_disproved` by whoever has looked at what lies there. Damage here, which keeps a mirror behind,
/// is not disproved by that.
pub(super) fn forget(book: &MirrorBook, mirror: &str, is_disproved: impl Fn(&Finding) -> bool, monitor: &dyn Monitor) {
    let forgotten = book.findings(mirror).and_then(|found| {
        let gone = found.iter().filter(|finding| finding.of_mirror && is_disproved(finding));
        gone.map(|finding| finding.found_by).try_for_each(|found_by| book.clear_finding(mirror, found_by))
    });
    report_lost(forgotten, mirror, monitor);
}

/// Forgets what a sync or a check of this mirror found: it is not so any more.
pub(super) fn clear(book: &MirrorBook, mirror: &str, found_by: FoundBy, monitor: &dyn Monitor) {
    report_lost(book.clear_finding(mirror, found_by), mirror, monitor);
}

/// Says that what was found is not remembered. That ends nothing.
pub(super) fn report_lost(remembered: mirror_book::Result<()>, mirror: &str, monitor: &dyn Monitor) {
    if let Err(error) = remembered {
        let message = format!("{mirror}: what was found there is not remembered: {error}");
        monitor.problem(&Problem::warning(Subject::Machine, &message));
    }
}
