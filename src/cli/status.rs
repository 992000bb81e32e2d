//! `status`: am I safe?

use super::exit::Exit;
use super::{Context, snapshot_json};
use crate::base::command::{suggest, suggest_all};
use crate::base::escape::escape;
use crate::base::time::Time;
use crate::codec::head_code::HeadCode;
use crate::codec::key_slot::SecretKind;
use crate::codec::snapshot::Outcome;
use crate::ops::backup;
use crate::ops::order::{self, Doubt, Place};
use crate::ops::select::{self, Filter, GroupBy, Selection};
use crate::repository::Repository;
use crate::repository::mirror_book::{Drill, DrillOutcome, Mirror, MirrorBook};
use crate::storage::address::Address;
use crate::storage::device;
use crate::tasks::environment::{mirrors, repositories};
use crate::tasks::failure::Failure;
use crate::text::table::{Align, Table};
use crate::text::{clock, size, span};
use jiff::tz::TimeZone;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// Below this share of a disk it is nearly full.
const FREE_PERCENT_MIN: f64 = 5.0;

/// Answer "am I safe?": newest snapshots, copies elsewhere, what is overdue, and what to do next
///
/// Of mirrors it tells what the last sync left, and asks nothing over the network. Ends with exit code 18 when something is overdue.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// The newest complete snapshot of every source may be so old (3d, 12h)
    #[arg(long, value_name = "SPAN", default_value = "2d", value_parser = span::parse_days)]
    pub max_age: Duration,
    /// A mirror may be behind the repository for so long
    #[arg(long, value_name = "SPAN", default_value = "2d", value_parser = span::parse_days)]
    pub max_behind: Duration,
    /// The last drill that passed may be so old; 0 for none at all
    #[arg(long, value_name = "SPAN", default_value = "90d", value_parser = span::parse_days)]
    pub max_drill_age: Duration,
}

/// A source: everything that was backed up under the same paths of one machine.
struct Source {
    host: String,
    paths: Vec<String>,
    /// The same as bytes.
    exact: Vec<Vec<u8>>,
    snapshots: u64,
    newest: Time,
    newest_id: String,
    outcome: Outcome,
    complete: Option<Complete>,
}

/// The newest complete snapshot of a source.
struct Complete {
    id: String,
    /// The time that it stands for.
    time: Time,
    /// Where it stands, and whether its time is in doubt.
    place: Place,
    /// How many files, links and so on it holds.
    entries: u64,
    /// The complete one before it, and how many it held.
    before: Option<(String, u64)>,
}

impl Complete {
    /// How old it is, or at most; none when that cannot be determined.
    fn age(&self, now: Time) -> Option<Duration> {
        age(self.place.age_from?, now)
    }
}

/// What is not as it should be, and the command that mends it.
struct Complaint {
    sentence: String,
    next: String,
    /// Something is overdue, and not only worth knowing.
    overdue: bool,
}

/// How long ago it was; none for a time ahead of this machine's clock, which says nothing.
fn age(time: Time, now: Time) -> Option<Duration> {
    let seconds = u64::try_from(now.seconds.saturating_sub(time.seconds)).unwrap_or(0);
    (!order::is_ahead(time, now)).then(|| Duration::from_secs(seconds))
}

/// How long ago it was, in words.
fn ago(time: Time, now: Time) -> String {
    age(time, now)
        .map_or_else(|| "at a time ahead of this machine's clock".to_owned(), |age| format!("{} ago", span::show(age)))
}

/// Runs the command.
///
/// # Errors
/// When the repository cannot be opened.
pub fn run(arguments: &Arguments, context: &mut Context) -> Result<Exit, Failure> {
    let repository = repositories::open_repository(&context.environment, &context.watch(), "status")?;
    // Nobody is safe by an older state.
    repository.require_newest()?;
    let (now, zone) = (Time::now(), clock::local_zone());
    let book = mirrors::open_book_if_any(&context.environment, &context.watch(), repository.id())?;
    let mirrors = book.as_ref().map(MirrorBook::all).transpose()?.unwrap_or_default();
    let drills = book.as_ref().map(|book| book.drills(None)).transpose()?.unwrap_or_default();
    let mut complaints = Vec::new();
    let sources = sources(&repository, &mut complaints)?;
    overdue_sources(&sources, arguments.max_age, now, &mut complaints);
    if let Some(book) = &book
        && let Some(damage) = book.damage(&mirrors::place_name(repository.place()))?
    {
        let (ago, what) = (ago(damage.found, now), escape(damage.what.as_bytes()));
        let next = if mirrors.is_empty() { suggest!("check") } else { suggest!("repair objects") };
        complain(&mut complaints, true, &format!("the last check, {ago}, found damage: {what}"), next);
    }
    for mirror in &mirrors {
        if let Some(book) = &book {
            overdue_mirror(mirror, &repository, book, arguments, now, &mut complaints)?;
        }
        overdue_drill(&mirror.name, &drills, arguments.max_drill_age, now, &mut complaints);
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
    let overdue = complaints.iter().any(|complaint| complaint.overdue);
    let screen =
        Screen { repository: &repository, sources, mirrors, drills, slots: slots.len(), disk, complaints, now, zone };
    if context.output.json {
        screen.json(book.as_ref(), context)?
    } else {
        screen.show(context)?
    }
    Ok(if overdue { Exit::Overdue } else { Exit::Success })
}

/// True when the mirror is in a directory on the repository's file system. Of one that is not there nothing is known: its disk may not be
/// mounted.
fn shares_disk(mirror: &Mirror, repository: &Path) -> bool {
    let address = Address::parse(&mirror.address, &[]).ok();
    let directory = address.as_ref().and_then(Address::directory).filter(|directory| directory.exists());
    directory.is_some_and(|directory| device::is_shared(repository, directory))
}

fn complain(complaints: &mut Vec<Complaint>, overdue: bool, sentence: &str, next: &str) {
    complaints.push(Complaint { sentence: sentence.to_owned(), next: next.to_owned(), overdue });
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
    arguments: &Arguments,
    now: Time,
    complaints: &mut Vec<Complaint>,
) -> Result<(), Failure> {
    let (name, head) = (&mirror.name, repository.tip().reference());
    let next = suggest!("sync {}", name);
    let failed = book.counts(name)?.failed;
    if failed > 0 {
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
        let overdue = age(synced, now).is_none_or(|old| old > arguments.max_behind);
        complain(complaints, overdue, &sentence, &next);
    }
    Ok(())
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

/// Everything that is shown.
struct Screen<'a> {
    repository: &'a Repository,
    sources: Vec<Source>,
    mirrors: Vec<Mirror>,
    drills: Vec<Drill>,
    slots: usize,
    /// Free, and in all.
    disk: Option<(u64, u64)>,
    complaints: Vec<Complaint>,
    now: Time,
    zone: TimeZone,
}

impl Screen<'_> {
    fn ago(&self, time: Option<Time>) -> String {
        time.map_or_else(|| "never".to_owned(), |time| ago(time, self.now))
    }

    fn age(&self, complete: &Complete) -> String {
        match (complete.age(self.now), complete.place.doubt) {
            (Some(age), None) => span::show(age),
            (Some(age), Some(_)) => format!("{} or less", span::show(age)),
            (None, _) => "unknown".to_owned(),
        }
    }

    fn drilled(&self, mirror: &str) -> Option<Time> {
        let passed = |drill: &&Drill| drill.mirror == mirror && drill.outcome == DrillOutcome::Passed;
        self.drills.iter().find(passed).map(|drill| drill.began)
    }

    fn show(&self, context: &Context) -> Result<(), Failure> {
        let (output, head) = (context.output, self.repository.tip().reference());
        let mut table = Table::new(&[
            ("Source", Align::Left),
            ("Host", Align::Left),
            ("Snapshots", Align::Right),
            ("Newest complete", Align::Left),
            ("Age", Align::Right),
        ]);
        for source in &self.sources {
            let (id, old) = source.complete.as_ref().map_or_else(
                || ("none".to_owned(), String::new()),
                |complete| (complete.id.clone(), self.age(complete)),
            );
            let cells = [source.host.clone(), size::count(source.snapshots), id, old];
            table.row_of_lines([vec![source.paths.clone()], cells.map(|cell| vec![cell]).to_vec()].concat());
        }
        if !self.sources.is_empty() {
            output.text(&table.render())?;
        }
        let mut table = Table::new(&[
            ("Copy", Align::Left),
            ("State", Align::Left),
            ("Synced", Align::Left),
            ("Verified", Align::Left),
            ("Drilled", Align::Left),
        ]);
        let state = format!("generation {}", head.generation);
        table.row_of_lines(vec![vec!["here".to_owned()], vec![state]]);
        for mirror in &self.mirrors {
            let state = match mirror.head {
                None => "empty".to_owned(),
                Some(theirs) if theirs == head => format!("whole at {}", theirs.generation),
                Some(theirs) => format!("whole at {}, behind", theirs.generation),
            };
            let drilled = self.ago(self.drilled(&mirror.name));
            let cells = [mirror.name.clone(), state, self.ago(mirror.synced), self.ago(mirror.verified), drilled];
            table.row_of_lines(cells.map(|cell| vec![cell]).to_vec());
        }
        let keys = size::counted(self.slots as u64, "key", "keys");
        let disk = self.disk.map_or_else(String::new, |(free, whole)| {
            format!("   disk: {} of {} free", size::show(free), size::show(whole))
        });
        table.footer(format!("state code {}   {keys}{disk}", HeadCode::of(&head)));
        output.text(&table.render())?;
        for complaint in &self.complaints {
            let mark = if complaint.overdue { "! " } else { "  " };
            output.line(format!("{mark}{}.  Next: {}", complaint.sentence, complaint.next))?;
        }
        if !self.complaints.iter().any(|complaint| complaint.overdue) {
            output.line(if self.mirrors.is_empty() { "Nothing is overdue here." } else { "Nothing is overdue." })?;
        }
        Ok(())
    }

    fn json(&self, book: Option<&MirrorBook>, context: &Context) -> Result<(), Failure> {
        let head = self.repository.tip().reference();
        let time = |time: Time| clock::rfc3339(time, &self.zone);
        let sources: Vec<_> = self
            .sources
            .iter()
            .map(|source| {
                let age = source.complete.as_ref().and_then(|complete| complete.age(self.now));
                let doubt =
                    source.complete.as_ref().and_then(|complete| complete.place.doubt).map(snapshot_json::doubt);
                serde_json::json!({
                    "host": source.host,
                    "paths": source.paths,
                    "snapshots": source.snapshots,
                    "newest": time(source.newest),
                    "newest_complete": source.complete.as_ref().map(|complete| &complete.id),
                    "newest_complete_time": source.complete.as_ref().map(|complete| time(complete.time)),
                    "newest_complete_time_in_doubt": doubt,
                    "age_seconds": age.map(|age| age.as_secs()),
                })
            })
            .collect();
        let mut mirrors = Vec::new();
        for mirror in &self.mirrors {
            let counts = book.map(|book| book.counts(&mirror.name)).transpose()?.unwrap_or_default();
            mirrors.push(serde_json::json!({
                "name": mirror.name,
                "generation": mirror.head.map(|head| head.generation),
                "is_newest": mirror.head == Some(head),
                "same_file_system": shares_disk(mirror, self.repository.place()),
                "synced": mirror.synced.map(time),
                "verified": mirror.verified.map(time),
                "drilled": self.drilled(&mirror.name).map(time),
                "objects": mirror.objects,
                "bytes": mirror.bytes,
                "pending_objects": counts.pending,
                "failed_objects": counts.failed,
            }));
        }
        let complaints: Vec<_> = self
            .complaints
            .iter()
            .map(|it| serde_json::json!({ "sentence": it.sentence, "next": context.output.with_commands(&it.next), "overdue": it.overdue }))
            .collect();
        context.output.json(&serde_json::json!({
            "message_type": "status",
            "repository": self.repository.id().to_string(),
            "generation": head.generation,
            "state_code": HeadCode::of(&head).to_string(),
            "sources": sources,
            "mirrors": mirrors,
            "keys": self.slots,
            "disk_free_bytes": self.disk.map(|(free, _)| free),
            "disk_bytes": self.disk.map(|(_, whole)| whole),
            "complaints": complaints,
            "overdue": self.complaints.iter().any(|complaint| complaint.overdue),
        }))
    }
}
