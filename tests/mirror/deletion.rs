//! What leaves a mirror: what its own head supersedes, after the grace, under the cap, and nothing else.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use packstone::base::time::Time;
use packstone::codec::head::HeadRef;
use packstone::codec::live_state::MarkedKind;
use packstone::ops::prune::{self, Limits, MaxUnused};
use packstone::ops::sync::deletion::{self, Deleted, DeletionPlan, Rules};
use packstone::ops::{Silent, sync as operation};
use packstone::repository::mirror_book::MirrorBook;
use packstone::repository::public_view::PublicView;
use packstone::repository::uptime::Uptime;
use packstone::storage::memory::Memory;
use packstone::storage::{MirrorStore, ObjectName};

use crate::ill::{Fault, Ill};
use crate::{Home, live, root, send, whole, world};

const DAY: u64 = 24 * 60 * 60;
const NAME: &str = "offsite";

/// What a machine knows of its mirror, and its clocks.
struct Mover {
    _folder: tempfile::TempDir,
    book: Mutex<MirrorBook>,
    uptime: Uptime,
    calendar: i64,
    rules: Rules,
}

impl Mover {
    fn new(view: &PublicView) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let book = MirrorBook::open(folder.path(), view.id()).unwrap();
        book.add(NAME, "file:///somewhere", None, Time::from_seconds(1)).unwrap();
        let uptime = Uptime { boot: "first".to_owned(), running: Duration::from_secs(1000) };
        let rules = Rules { max_percent: 100.0, ..Rules::default() };
        Self { _folder: folder, book: Mutex::new(book), uptime, calendar: 1_800_000_000, rules }
    }

    /// Time goes by while the machine runs.
    fn days(&mut self, days: u64) {
        self.uptime.running += Duration::from_secs(days * DAY);
        self.calendar += (days * DAY) as i64;
    }

    /// A whole sync, as the command does it.
    fn sync(&self, view: &PublicView, mirror: &dyn MirrorStore) -> packstone::ops::Result<(DeletionPlan, Deleted)> {
        let seen = self.book.lock().unwrap().get(NAME)?.head;
        let plan = operation::plan(view, mirror, seen, None, &Silent)?;
        let clock = self.book.lock().unwrap().clock(NAME, &self.uptime, Time::from_seconds(self.calendar))?;
        let going = deletion::plan(view, mirror, &plan, &self.rules, (&self.book, NAME), clock)?;
        send(view, mirror, &plan, None)?;
        self.book.lock().unwrap().set_whole(NAME, plan.head, plan.whole(), Time::from_seconds(self.calendar))?;
        deletion::note(view, &plan, &mut self.book.lock().unwrap(), NAME, clock)?;
        let deleted = deletion::execute(mirror, &going, 2, (&self.book, NAME), clock, &Silent)?;
        Ok((going, deleted))
    }
}

/// Forgets all snapshots but the newest and prunes what only they needed, at once.
fn forget_and_prune(home: &mut Home) {
    let repository = home.open();
    let newest = repository.tip().state.snapshots.iter().max_by_key(|(_, entry)| entry.arrival).map(|(id, _)| *id);
    repository
        .append(|state, since| {
            for id in state.snapshots.keys().copied().collect::<Vec<_>>() {
                if Some(id) != newest {
                    state.mark(id, MarkedKind::Snapshot, since);
                }
            }
            Ok(())
        })
        .unwrap();
    let options = prune::Options {
        limits: Limits { max_unused: MaxUnused::Bytes(0), max_repack: None, pack_bytes: world::PACK_BYTES },
        grace: Duration::ZERO,
        packs: world::packs(world::PACK_BYTES),
        now: Time::now(),
    };
    let report = prune::run(&repository, &options, &Silent).unwrap();
    drop(repository);
    assert!(!home.open().tip().state.swept.is_empty(), "{report:?}");
}

/// A synced repository of four backups of which three were forgotten and swept at home; the mirror's head does not know yet.
fn pruned() -> (Home, Memory, Mover) {
    let mut home = Home::new();
    let mirror = Memory::new();
    for _ in 0..4 {
        home.backup();
    }
    let mover = Mover::new(&home.view());
    mover.sync(&home.view(), &mirror).unwrap();
    forget_and_prune(&mut home);
    (home, mirror, mover)
}

fn is_whole(home: &Home, mirror: &Memory) -> HeadRef {
    whole(mirror, &home.snapshots, &root(&home.source)).unwrap().expect("a repository")
}

#[test]
fn what_was_pruned_leaves_a_mirror_after_the_grace_and_nothing_else_does() {
    let (home, mirror, mut mover) = pruned();
    let view = home.view();
    let before = mirror.objects();
    let (going, deleted) = mover.sync(&view, &mirror).unwrap();
    // Only now the mirror's own head says that they are swept.
    assert_eq!((going.due.len(), deleted.objects), (0, 0));
    assert!(going.waiting > 0, "{going:?}");
    mover.days(29);
    let (going, deleted) = mover.sync(&view, &mirror).unwrap();
    assert_eq!((going.due.len(), deleted.objects), (0, 0));
    assert_eq!(going.next, Some(Duration::from_secs(DAY)));
    assert!(before.iter().all(|(name, bytes)| mirror.objects().get(name) == Some(bytes)), "everything is there");
    mover.days(1);
    let live = live(&mirror);
    let (going, deleted) = mover.sync(&view, &mirror).unwrap();
    assert_eq!(deleted.objects as usize, going.due.len());
    assert!(deleted.objects > 0);
    let after = mirror.objects();
    let swept = &view.tip().state.swept;
    for (name, bytes) in &before {
        let is_swept = name.id().is_some_and(|id| swept.contains_key(&id));
        assert_eq!(after.contains_key(name), !is_swept, "{name}");
        assert!(is_swept || after[name] == *bytes);
    }
    assert!(live.iter().all(|(name, bytes)| after.get(name) == Some(bytes)));
    assert_eq!(is_whole(&home, &mirror), view.tip().reference());
    // The next sync has nothing to do, and one request does.
    let idle = Ill::new(mirror.clone());
    let (going, _) = mover.sync(&view, &idle).unwrap();
    assert_eq!((going.due.len(), going.waiting, idle.requests()), (0, 0, 1));
}

#[test]
fn without_a_grace_the_head_that_says_so_must_still_have_been_there_before() {
    let (home, mirror, mut mover) = pruned();
    mover.rules.grace = Duration::ZERO;
    let view = home.view();
    assert_eq!(mover.sync(&view, &mirror).unwrap().1.objects, 0);
    assert!(mover.sync(&view, &mirror).unwrap().1.objects > 0);
    is_whole(&home, &mirror);
}

/// Ten years on the calendar are nothing while the machine runs, and a day when it was off.
#[test]
fn a_jump_of_the_calendar_does_not_shorten_the_grace() {
    let (home, mirror, mut mover) = pruned();
    let view = home.view();
    mover.sync(&view, &mirror).unwrap();
    mover.calendar += 10 * 365 * DAY as i64;
    assert_eq!(mover.sync(&view, &mirror).unwrap().1.objects, 0);
    for start in 1..30 {
        mover.uptime = Uptime { boot: format!("start {start}"), running: Duration::from_secs(60) };
        mover.calendar += 365 * DAY as i64;
        let (going, deleted) = mover.sync(&view, &mirror).unwrap();
        assert_eq!(deleted.objects, 0, "after {start} starts");
        assert_eq!(going.next, Some(Duration::from_secs((30 - start) * DAY)));
    }
    mover.calendar -= 20 * 365 * DAY as i64;
    mover.uptime.boot = "set back".to_owned();
    assert_eq!(mover.sync(&view, &mirror).unwrap().1.objects, 0, "and backwards it does not move");
    // A machine whose state was set back, with its uptime.
    mover.uptime = Uptime { boot: "set back".to_owned(), running: Duration::ZERO };
    assert_eq!(mover.sync(&view, &mirror).unwrap().1.objects, 0);
    mover.days(1);
    assert!(mover.sync(&view, &mirror).unwrap().1.objects > 0);
    is_whole(&home, &mirror);
}

#[test]
fn more_than_may_be_is_not_deleted_at_all_and_the_cap_adds_up() {
    let (home, mirror, mut mover) = pruned();
    let view = home.view();
    mover.sync(&view, &mirror).unwrap();
    mover.days(31);
    mover.rules.max_percent = 0.01;
    let before = mirror.objects();
    let (going, deleted) = mover.sync(&view, &mirror).unwrap();
    assert!(going.is_refused() && deleted.objects == 0, "{going:?}");
    assert!(mirror.objects() == before);
    // Half of it was deleted yesterday: the rest is measured together with it.
    let total: u64 = mirror.objects().values().map(|bytes| bytes.len() as u64).sum();
    mover.rules.max_percent = 100.0 * (going.bytes() as f64 + 0.5) / total as f64;
    let clock = mover.book.lock().unwrap().clock(NAME, &mover.uptime, Time::from_seconds(mover.calendar)).unwrap();
    let gone = ObjectName::Pack(packstone::base::id::ObjectId([9; 32]));
    mover.book.lock().unwrap().add_deleted(NAME, &[(gone, total)], clock).unwrap();
    mover.days(1);
    assert!(mover.sync(&view, &mirror).unwrap().0.is_refused());
    mover.days(7);
    let (going, deleted) = mover.sync(&view, &mirror).unwrap();
    assert!(!going.is_refused() && deleted.objects as usize == going.due.len() && deleted.objects > 0);
    is_whole(&home, &mirror);
}

/// The machine's memory is gone: the grace begins anew.
#[test]
fn a_lost_book_deletes_nothing() {
    let (home, mirror, mut mover) = pruned();
    let view = home.view();
    mover.sync(&view, &mirror).unwrap();
    mover.days(100);
    let mut mover = Mover { uptime: mover.uptime.clone(), calendar: mover.calendar, ..Mover::new(&view) };
    assert_eq!(mover.sync(&view, &mirror).unwrap().1.objects, 0);
    mover.days(29);
    assert_eq!(mover.sync(&view, &mirror).unwrap().1.objects, 0);
    mover.days(1);
    assert!(mover.sync(&view, &mirror).unwrap().1.objects > 0);
}

/// An older state of the mirror was put back and accepted: its head does not say what a later one had said.
#[test]
fn what_an_older_head_of_the_mirror_does_not_say_is_not_deleted() {
    let (home, mirror, mut mover) = pruned();
    let earlier = crate::copy(&mirror);
    let view = home.view();
    mover.sync(&view, &mirror).unwrap();
    mover.days(31);
    mover.book.lock().unwrap().set_head(NAME, None).unwrap();
    let before = earlier.objects();
    let (going, deleted) = mover.sync(&view, &earlier).unwrap();
    assert_eq!((going.due.len(), deleted.objects), (0, 0), "{going:?}");
    assert!(before.iter().all(|(name, bytes)| earlier.objects().get(name) == Some(bytes)));
    assert!(mover.sync(&view, &earlier).unwrap().1.objects > 0, "now it does");
    is_whole(&home, &earlier);
}

/// Whatever the book says, and whoever wrote it, what the newest head needs stays.
#[test]
fn a_wrong_book_deletes_nothing_that_is_needed() {
    let (home, mirror, mut mover) = pruned();
    let view = home.view();
    mover.sync(&view, &mirror).unwrap();
    let all: Vec<ObjectName> = mirror.objects().into_keys().collect();
    mover.book.lock().unwrap().set_superseded(NAME, 1, &all, 0).unwrap();
    mover.days(31);
    let live = live(&mirror);
    mover.sync(&view, &mirror).unwrap();
    let after = mirror.objects();
    assert!(live.iter().all(|(name, bytes)| after.get(name) == Some(bytes)));
    is_whole(&home, &mirror);
}

/// Every fault of every request of a sync that sends and deletes: the mirror is whole, and what is not due is there.
#[test]
fn an_interrupted_deletion_leaves_a_whole_mirror_and_is_finished_later() {
    let (mut home, mirror, mut mover) = pruned();
    mover.sync(&home.view(), &mirror).unwrap();
    mover.days(31);
    home.backup();
    let view = home.view();
    let start = mirror.objects();
    let swept = &view.tip().state.swept;
    let stays: BTreeMap<_, _> =
        start.iter().filter(|(name, _)| name.id().is_none_or(|id| !swept.contains_key(&id))).collect();
    let (mut tried, mut finished) = (0, 0);
    for fault in [Fault::Dead, Fault::Unavailable, Fault::Denied, Fault::AnswerLost, Fault::Nothing, Fault::Stale] {
        for at in 0.. {
            let trial = crate::copy(&mirror);
            let ill = Ill::with(trial.clone(), at, fault).deleting();
            // Each trial with the memory as it was.
            let clock = |mover: &Mover| {
                let now = Time::from_seconds(mover.calendar);
                mover.book.lock().unwrap().clock(NAME, &mover.uptime, now).unwrap()
            };
            let told = mover.sync(&view, &ill);
            tried += 1;
            let after = trial.objects();
            assert!(stays.iter().all(|(name, bytes)| after.get(name) == Some(bytes)), "{fault:?} at {at}");
            let head = is_whole(&home, &trial);
            if let Ok((going, deleted)) = &told {
                assert_eq!(head, view.tip().reference(), "{fault:?} at {at}");
                let gone = start.keys().filter(|name| !after.contains_key(name)).count();
                let all = deleted.failed.is_empty() && gone == going.due.len();
                assert!(all || !deleted.failed.is_empty() || fault == Fault::Nothing, "{fault:?} at {at}: {deleted:?}");
            }
            let clock = clock(&mover);
            assert!(mover.sync(&view, &trial).is_ok());
            // What the trial did to the memory is undone.
            let names: Vec<ObjectName> = swept
                .iter()
                .map(|(id, sweep)| packstone::repository::marked::object_name(*id, sweep.kind))
                .filter(|name| start.contains_key(name))
                .collect();
            let before = clock - 31 * DAY;
            let mut book = mover.book.lock().unwrap();
            book.set_superseded(NAME, 1, &[], before).unwrap();
            book.set_superseded(NAME, 1, &names, before).unwrap();
            book.set_head(NAME, None).unwrap();
            drop(book);
            if ill.requests() <= at {
                finished += 1;
                break;
            }
        }
    }
    assert_eq!(finished, 6);
    println!("{tried} of {tried} interruptions of a sync that deletes leave a whole mirror");
}

/// Heads leave a mirror as other objects do; the newest stay, and those that these build on.
#[test]
fn old_heads_leave_too_and_the_newest_stay() {
    let mut home = Home::new();
    let mirror = Memory::new();
    let mut mover = Mover::new(&home.view());
    for _ in 0..40 {
        home.backup();
        mover.sync(&home.view(), &mirror).unwrap();
    }
    let heads =
        |mirror: &Memory| mirror.objects().keys().filter(|name| matches!(name, ObjectName::Head { .. })).count();
    let before = heads(&mirror);
    assert!(before >= 40, "{before}");
    mover.days(31);
    mover.sync(&home.view(), &mirror).unwrap();
    let after = heads(&mirror);
    assert!((16..=34).contains(&after), "{after} of {before} heads");
    is_whole(&home, &mirror);
    // Each that stayed can be opened, with what it builds on.
    let view = crate::view(&mirror).unwrap();
    for name in mirror.objects().keys() {
        if let ObjectName::Head { generation, id } = *name {
            let code = packstone::codec::head_code::HeadCode::of(&HeadRef { generation, id });
            if generation + 8 > view.tip().reference().generation {
                crate::as_of(&mirror, &code);
            }
        }
    }
}
