//! Am I safe? How old the newest complete snapshot of every source is, how the mirrors stand, what is overdue, and what to do next.
//!
//! Of mirrors it tells what the last sync left, and asks nothing over the network.

use super::environment::{Environment, mirrors, repositories};
use super::failure::{Failure, Kind};
use super::remedy::Remedy;
use crate::base::command::{suggest, suggest_all};
use crate::base::escape::escape;
use crate::base::id::RepositoryId;
use crate::base::time::Time;
use crate::codec::head::HeadRef;
use crate::codec::key_slot::SecretKind;
use crate::codec::snapshot::Outcome;
use crate::ops::Monitor;
use crate::ops::backup;
use crate::ops::order::{self, Doubt, Place};
use crate::ops::select::{self, Filter, GroupBy, Selection};
use crate::repository::Repository;
use crate::repository::mirror_book::{Drill, DrillOutcome, Finding, Mirror, MirrorBook, SendCounts};
use crate::storage::address::Address;
use crate::storage::device;
use crate::text::{size, span};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// Below this share of a disk it is nearly full.
const FREE_PERCENT_MIN: f64 = 5.0;
/// The newest complete snapshot, or a mirror that is behind, may be so old when nothing else is said.
pub const AGE_MAX: Duration = Duration::from_secs(2 * 86_400);
/// The last drill that passed may be.
pub const DRILL_AGE_MAX: Duration = Duration::from_secs(90 * 86_400);

/// What is too old.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Request {
    /// The newest complete snapshot of every source may be so old; [`AGE_MAX`] without one.
    #[serde(deserialize_with = "super::text_form::days")]
    pub max_age: Option<Duration>,
    /// A mirror may be behind the repository for so long; [`AGE_MAX`] without one.
    #[serde(deserialize_with = "super::text_form::days")]
    pub max_behind: Option<Duration>,
    /// The last drill that passed may be so old, 0 for none at all; [`DRILL_AGE_MAX`] without one.
    #[serde(deserialize_with = "super::text_form::days")]
    pub max_drill_age: Option<Duration>,
}

/// How things stand.
#[derive(Debug)]
pub struct Assessment {
    /// The repository.
    pub repository: RepositoryId,
    /// Its newest state.
    pub head: HeadRef,
    /// What is backed up.
    pub sources: Vec<Source>,
    /// Copies elsewhere.
    pub mirrors: Vec<Copy>,
    /// Keys that open the repository.
    pub keys: usize,
    /// Bytes of the repository's disk: free, and in all.
    pub disk: Option<(u64, u64)>,
    /// What is not as it should be, what is overdue first.
    pub complaints: Vec<Complaint>,
    /// The time of all this.
    pub now: Time,
}

impl Assessment {
    /// How it ends.
    #[must_use]
    pub fn kind(&self) -> Option<Kind> {
        self.complaints.iter().any(|complaint| complaint.overdue).then_some(Kind::Overdue)
    }
}

/// A mirror.
#[derive(Debug)]
pub struct Copy {
    /// What the book knows of it.
    pub mirror: Mirror,
    /// What waits to be sent there, and what could not be.
    pub counts: SendCounts,
    /// It lies on the repository's file system.
    pub same_file_system: bool,
    /// When the last drill began that passed.
    pub drilled: Option<Time>,
    /// What the last sync and the last check found to speak against it.
    pub findings: Vec<Finding>,
    /// How many objects there were read and are not what their names say.
    pub damaged: u64,
}

impl Copy {
    /// True when it may not be what the last sync left. What may pass by itself says nothing of what is there.
    #[must_use]
    pub fn is_in_doubt(&self) -> bool {
        self.damaged > 0 || self.findings.iter().any(|finding| finding.of_mirror && !finding.transient)
    }
}

/// A source: everything that was backed up under the same paths of one machine.
#[derive(Debug, Clone)]
pub struct Source {
    /// The machine's name, safe to show.
    pub host: String,
    /// Its paths, safe to show.
    pub paths: Vec<String>,
    /// The same as bytes.
    pub exact: Vec<Vec<u8>>,
    /// How many snapshots there are of it.
    pub snapshots: u64,
    /// The time of the newest.
    pub newest: Time,
    /// The beginning of its id.
    pub newest_id: String,
    /// Whether it is complete.
    pub outcome: Outcome,
    /// The newest that is complete.
    pub complete: Option<Complete>,
}

/// The newest complete snapshot of a source.
#[derive(Debug, Clone)]
pub struct Complete {
    /// The beginning of its id.
    pub id: String,
    /// The time that it stands for.
    pub time: Time,
    /// Where it stands, and whether its time is in doubt.
    pub place: Place,
    /// How many files, links and so on it holds.
    pub entries: u64,
    /// The complete one before it, and how many it held.
    pub before: Option<(String, u64)>,
}

impl Complete {
    /// How old it is, or at most; none when that cannot be determined.
    #[must_use]
    pub fn age(&self, now: Time) -> Option<Duration> {
        age(self.place.age_from?, now)
    }
}

/// What is not as it should be, and the command that mends it.
#[derive(Debug, Clone)]
pub struct Complaint {
    /// What is not.
    pub sentence: String,
    /// What to do about it.
    pub remedy: Remedy,
    /// Something is overdue, and not only worth knowing.
    pub overdue: bool,
}

/// How long ago it was; none for a time ahead of this machine's clock, which says nothing.
fn age(time: Time, now: Time) -> Option<Duration> {
    let seconds = u64::try_from(now.seconds.saturating_sub(time.seconds)).unwrap_or(0);
    (!order::is_ahead(time, now)).then(|| Duration::from_secs(seconds))
}

/// How long ago it was, in words.
#[must_use]
pub fn ago(time: Time, now: Time) -> String {
    age(time, now)
        .map_or_else(|| "at a time ahead of this machine's clock".to_owned(), |age| format!("{} ago", span::show(age)))
}

/// Finds out how things stand.
///
/// # Errors
/// When the repository cannot be opened, or its newest state is not known.
pub fn assess(request: &Request, environment: &Environment, monitor: &dyn Monitor) -> Result<Assessment, Failure> {
    let max_age = request.max_age.unwrap_or(AGE_MAX);
    let max_behind = request.max_behind.unwrap_or(AGE_MAX);
    let max_drill_age = request.max_drill_age.unwrap_or(DRILL_AGE_MAX);
    let repository = repositories::open_repository(environment, monitor, "status")?;
    // Nobody is safe by an older state.
    repository.require_newest()?;
    let now = Time::now();
    let book = mirrors::open_book_if_any(environment, monitor, repository.id())?;
    let mirrors = book.as_ref().map(MirrorBook::all).transpose()?.unwrap_or_default();
    let drills = book.as_ref().map(|book| book.drills(None)).transpose()?.unwrap_or_default();
    let mut complaints = Vec::new();
    let sources = sources(&repository, &mut complaints)?;
    overdue_sources(&sources, max_age, now, &mut complaints);
    if let Some(book) = &book
        && let Some(damage) = book.damage(&mirrors::place_name(repository.place()))?
    {
        let (ago, what) = (ago(damage.found, now), escape(damage.what.as_bytes()));
        let next = if mirrors.is_empty() { suggest!("check") } else { suggest!("repair objects") };
        complain(&mut complaints, true, &format!("the last check, {ago}, found damage: {what}"), next);
    }
    for mirror in &mirrors {
        if let Some(book) = &book {
            overdue_mirror(mirror, &repository, book, max_behind, now, &mut complaints)?;
        }
        overdue_drill(&mirror.name, &drills, max_drill_age, now, &mut complaints);
        if shares_disk(mirror, repository.place()) {
            // A note: the copy is as good as asked for, and nothing that is done later makes it better.
            let sentence =
                format!("{} is on the same file system as the repository: {}", mirror.name, mirrors::NO_COPY);
            let next = suggest!("mirror add NAME s3://BUCKET/PATH");
            complain(&mut complaints, false, &sentence, next);
        }
    }
    if book.is_none() {
        let sentence = "which mirrors this repository has is not known without a directory of this machine's state";
        complain(&mut complaints, false, sentence, suggest!("status --state-dir DIRECTORY"));
    } else if mirrors.is_empty() {
        complain(
            &mut complaints,
            false,
            "this repository is the only copy",
            suggest!("mirror add NAME s3://BUCKET/PATH"),
        );
    }
    let slots = repository.slots();
    for slot in slots.iter().filter(|slot| slot.damage.is_some()) {
        complain(&mut complaints, false, &format!("key {} cannot be used", slot.id.short()), suggest!("key list"));
    }
    // One that cannot be read now may be one.
    if !slots.iter().any(|slot| slot.is_unreadable || (slot.kind == SecretKind::RecoveryCode && slot.damage.is_none()))
    {
        complain(&mut complaints, false, "there is no recovery code", suggest!("key recovery-code"));
    }
    let disk = rustix::fs::statvfs(repository.place()).ok().map(|disk| {
        let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
        (bytes(disk.f_bavail), bytes(disk.f_blocks))
    });
    if let Some((free, whole)) = disk.filter(|(free, whole)| (*free as f64) < *whole as f64 * FREE_PERCENT_MIN / 100.0)
    {
        let sentence =
            format!("the repository's disk is nearly full: {} of {} are free", size::show(free), size::show(whole));
        complain(&mut complaints, true, &sentence, suggest!("prune"));
    }
    complaints.sort_by_key(|complaint| !complaint.overdue);
    let passed = |drill: &&Drill, name: &str| drill.mirror == name && drill.outcome == DrillOutcome::Passed;
    let mut copies = Vec::new();
    for mirror in mirrors {
        let counts = book.as_ref().map(|book| book.counts(&mirror.name)).transpose()?.unwrap_or_default();
        let drilled = drills.iter().find(|drill| passed(drill, &mirror.name)).map(|drill| drill.began);
        let same_file_system = shares_disk(&mirror, repository.place());
        let findings = book.as_ref().map(|book| book.findings(&mirror.name)).transpose()?.unwrap_or_default();
        let damaged = book.as_ref().map(|book| book.damaged_objects(&mirror.name)).transpose()?.unwrap_or_default();
        let damaged = damaged.len() as u64;
        copies.push(Copy { mirror, counts, same_file_system, drilled, findings, damaged });
    }
    Ok(Assessment {
        repository: repository.id(),
        head: repository.tip().reference(),
        sources,
        mirrors: copies,
        keys: slots.len(),
        disk,
        complaints,
        now,
    })
}

/// True when the mirror is in a directory on the repository's file system. Of one that is not there nothing is known: its disk may not be
/// mounted.
#[must_use]
pub fn shares_disk(mirror: &Mirror, repository: &Path) -> bool {
    let address = Address::parse(&mirror.address, &[]).ok();
    let directory = address.as_ref().and_then(Address::directory).filter(|directory| directory.exists());
    directory.is_some_and(|directory| device::is_shared(repository, directory))
}

fn complain(complaints: &mut Vec<Complaint>, overdue: bool, sentence: &str, next: &str) {
    complaints.push(Complaint { sentence: sentence.to_owned(), remedy: Remedy::from(next), overdue });
}

fn sources(repository: &Repository, complaints: &mut Vec<Complaint>) -> Result<Vec<Source>, Failure> {
    let found = select::all(repository, &Filter::default())?;
    for (id, error) in &found.damaged {
        let sentence = format!("snapshot {} cannot be read: {error}", id.short());
        complain(complaints, true, &sentence, suggest!("check"));
    }
    ahead(&found, complaints);
    let mut sources: BTreeMap<_, Source> = BTreeMap::new();
    for chosen in &found.chosen {
        let snapshot = &chosen.snapshot;
        let source = sources.entry(GroupBy::HOST_AND_PATHS.key(snapshot)).or_insert_with(|| Source {
            host: escape(snapshot.host.as_bytes()),
            paths: snapshot.paths.iter().map(|path| escape(path)).collect(),
            exact: snapshot.paths.iter().map(|path| path.to_vec()).collect(),
            snapshots: 0,
            newest: snapshot.time,
            newest_id: String::new(),
            outcome: snapshot.outcome,
            complete: None,
        });
        // Oldest first: the last one is the newest.
        source.snapshots += 1;
        (source.newest, source.outcome) = (snapshot.time, snapshot.outcome);
        source.newest_id = chosen.id.short();
        if let Some(place) = found.order.place(&chosen.id).filter(|_| snapshot.outcome != Outcome::Partial) {
            let before = source.complete.take().map(|before| (before.id, before.entries));
            let entries = snapshot.counts.files + snapshot.counts.others;
            let (id, time) = (chosen.id.short(), snapshot.time);
            source.complete = Some(Complete { id, time, place, entries, before });
        }
    }
    Ok(sources.into_values().collect())
}

/// Times ahead of the clock: it is wrong here, or was where these were made.
fn ahead(found: &Selection, complaints: &mut Vec<Complaint>) {
    let mut ahead = found.chosen.iter().filter(|chosen| found.order.doubt(&chosen.id) == Some(Doubt::Ahead));
    let Some(first) = ahead.next() else { return };
    let sentence = match ahead.count() as u64 {
        0 => format!("the time of snapshot {} is ahead of this machine's clock", first.id.short()),
        more => format!("the times of {} snapshots are ahead of this machine's clock", more + 1),
    };
    complain(
        complaints,
        false,
        &sentence,
        concat!("compare the clock with date, and the times with: ", suggest!("snapshots")),
    );
}

fn next_backup(source: &Source) -> String {
    suggest_all("backup", &source.exact)
}

fn overdue_sources(sources: &[Source], max_age: Duration, now: Time, complaints: &mut Vec<Complaint>) {
    if sources.is_empty() {
        complain(complaints, true, "there is no snapshot yet", suggest!("backup PATH"));
    }
    for source in sources {
        let (paths, next) = (source.paths.join(", "), next_backup(source));
        match &source.complete {
            None => complain(complaints, true, &format!("{paths}: no snapshot of it is complete"), &next),
            Some(complete) => {
                let id = &complete.id;
                if let Some(sentence) = too_old(complete, max_age, now) {
                    complain(
                        complaints,
                        true,
                        &format!("{paths}: the newest complete snapshot, {id}, {sentence}"),
                        &next,
                    );
                } else if source.outcome == Outcome::Partial {
                    let sentence = format!("{paths}: the newest snapshot is not complete");
                    complain(complaints, false, &sentence, &suggest!("show {}", source.newest_id));
                }
                if let Some((sentence, next)) = too_little(complete) {
                    complain(complaints, false, &format!("{paths}: snapshot {id} {sentence}"), &next);
                }
            }
        }
    }
}

/// Why the newest complete snapshot may not hold what it should, and how to look.
fn too_little(complete: &Complete) -> Option<(String, String)> {
    let Complete { id, entries, before, .. } = complete;
    if *entries == 0 {
        return Some(("has no files".to_owned(), suggest!("show {}", id)));
    }
    let (other, held) = before.as_ref().filter(|(_, held)| backup::has_lost_nearly_all(*held, *entries))?;
    let (now, held) = (size::counted(*entries, "file", "files"), size::count(*held));
    Some((format!("has {now}, the one before it had {held}"), suggest!("diff {} {}", other, id)))
}

/// Why the newest complete snapshot is not young enough. What cannot be determined is not young.
fn too_old(complete: &Complete, max_age: Duration, now: Time) -> Option<String> {
    let Some(doubt) = complete.place.doubt else {
        let old = complete.age(now).unwrap_or(Duration::ZERO);
        return (old > max_age).then(|| format!("is {} old", span::show(old)));
    };
    let why = doubt.why();
    match complete.age(now) {
        Some(old) if old > max_age => {
            Some(format!("may be {} old: its time is {why}, and the one before it is so old", span::show(old)))
        }
        Some(_) => None,
        None => Some(format!("is of an age that cannot be determined: its time is {why}")),
    }
}

fn overdue_mirror(
    mirror: &Mirror,
    repository: &Repository,
    book: &MirrorBook,
    max_behind: Duration,
    now: Time,
    complaints: &mut Vec<Complaint>,
) -> Result<(), Failure> {
    let (name, head) = (&mirror.name, repository.tip().reference());
    let next = suggest!("sync {}", name);
    let findings = book.findings(name)?;
    for finding in &findings {
        complain_of(finding, name, now, complaints);
    }
    let damaged = book.damaged_objects(name)?;
    if let Some(first) = damaged.first() {
        let count = size::counted(damaged.len() as u64, "object", "objects");
        let (object, ago, why) = (first.name, ago(first.since, now), escape(first.reason.as_bytes()));
        let sentence = format!("{name}: {count} there cannot be used, {object} one of them, found {ago}: {why}");
        complain(complaints, true, &sentence, &next);
    }
    // A sync that found the mirror incomplete has said so.
    let is_said = findings.iter().any(|finding| finding.kind == Kind::MirrorIncomplete.word());
    let failed = book.counts(name)?.failed;
    if failed > 0 && !is_said {
        let sentence = format!("{name}: {} could not be sent", size::counted(failed, "object", "objects"));
        complain(complaints, true, &sentence, &next);
    }
    let Some((synced, theirs)) = mirror.synced.zip(mirror.head) else {
        complain(complaints, true, &format!("{name} was never synced"), &next);
        return Ok(());
    };
    if theirs != head {
        let behind = head.generation.saturating_sub(theirs.generation);
        let behind = size::counted(behind, "state", "states");
        let sentence = format!("{name} is {behind} behind; its last sync was {}", ago(synced, now));
        let overdue = age(synced, now).is_none_or(|old| old > max_behind);
        complain(complaints, overdue, &sentence, &next);
    }
    Ok(())
}

/// What was found counts until it is disproved. What may pass by itself is overdue when the mirror has been behind for too long.
fn complain_of(finding: &Finding, mirror: &str, now: Time, complaints: &mut Vec<Complaint>) {
    let (word, reason) = (finding.found_by.word(), escape(finding.reason.as_bytes()));
    let since = match finding.since == finding.seen {
        true => String::new(),
        false => format!(", and first {}", ago(finding.since, now)),
    };
    let sentence = format!("{mirror}: the last {word} of it, {}{since}, failed: {reason}", ago(finding.seen, now));
    let next = finding.remedies.first().cloned().unwrap_or_else(|| suggest!("sync {}", mirror));
    complain(complaints, !finding.transient, &sentence, &next);
}

fn overdue_drill(mirror: &str, drills: &[Drill], max_age: Duration, now: Time, complaints: &mut Vec<Complaint>) {
    let mut here = drills.iter().filter(|drill| drill.mirror == mirror);
    let next = suggest!("drill {}", mirror);
    let ended = here.clone().find(|drill| matches!(drill.outcome, DrillOutcome::Passed | DrillOutcome::Failed));
    if let Some(failed) = ended.filter(|drill| drill.outcome == DrillOutcome::Failed) {
        let reason = escape(failed.reason.as_deref().unwrap_or_default().as_bytes());
        complain(complaints, true, &format!("{mirror}: the last drill failed: {reason}"), &next);
        return;
    }
    if max_age.is_zero() {
        return;
    }
    match here.find(|drill| drill.outcome == DrillOutcome::Passed) {
        None => {
            complain(complaints, false, &format!("{mirror}: whether data comes back from it was never tried"), &next)
        }
        Some(drill) => {
            if age(drill.began, now).is_none_or(|old| old > max_age) {
                complain(complaints, true, &format!("{mirror}: the last drill was {}", ago(drill.began, now)), &next);
            }
        }
    }
}
