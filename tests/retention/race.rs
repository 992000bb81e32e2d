//! The encounters that lost data elsewhere, by name.

use packstone::base::stop::Stop;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use packstone::base::id::ObjectId;
use packstone::base::time::Time;
use packstone::codec::key_tree::ChunkKind;
use packstone::codec::live_state::MarkedKind;
use packstone::codec::pack::PackKind;
use packstone::ops::prune::{self, Limits, MaxUnused};
use packstone::ops::{Item, Monitor, Phase, Problem, Silent, repair_index, undelete};
use packstone::repository::lock::Locks;
use packstone::repository::run::Run;
use packstone::repository::{Access, Repository};
use packstone::storage::crash::CrashDisk;
use packstone::storage::local::Local;
use packstone::storage::{Folder, Storage};

use crate::moments::Moments;
use crate::world::{self, Contents, Machine, PACK_BYTES, Source};

/// Does something once: when a backup publishes, or when a prune has gone through listings.
struct Once<'a> {
    done: AtomicBool,
    act: Mutex<Box<dyn FnMut() + Send + 'a>>,
}

impl<'a> Once<'a> {
    fn new(act: impl FnMut() + Send + 'a) -> Self {
        Self { done: AtomicBool::new(false), act: Mutex::new(Box::new(act)) }
    }

    fn now(&self) {
        if !self.done.swap(true, Ordering::SeqCst) {
            (self.act.lock().unwrap())();
        }
    }
}

/// Of a backup.
struct AtPublish<'a>(Once<'a>);
/// Of a prune.
struct WhileMarking<'a>(Once<'a>);

macro_rules! watches {
    ($name:ident, $phase:expr, $advance:expr) => {
        watches!($name, $phase, $advance, false);
    };
    ($name:ident, $phase:expr, $advance:expr, $asked:expr) => {
        impl Monitor for $name<'_> {
            fn phase(&self, phase: Phase) {
                if Some(phase) == $phase {
                    self.0.now();
                }
            }
            fn expect(&self, _: u64, _: u64, _: bool) {}
            fn advance(&self, _: u64, _: u64) {
                if $advance {
                    self.0.now();
                }
            }
            fn item(&self, _: &Item<'_>) {}
            fn problem(&self, _: &Problem<'_>) {}
            fn stop(&self) -> Option<Stop> {
                if $asked {
                    self.0.now();
                }
                None
            }
        }
    };
}
watches!(AtPublish, Some(Phase::Publish), false);
watches!(WhileMarking, None::<Phase>, true);
/// Of a prune: it has marked the packs that nothing needs, and begins to rewrite others.
struct AtRepack<'a>(Once<'a>);
watches!(AtRepack, Some(Phase::Repack), false);

/// Of an undelete: it has read the index, and goes through listings.
struct AtWalk<'a>(Once<'a>);
watches!(AtWalk, None::<Phase>, false, true);

struct World {
    disk: CrashDisk,
    locks: Locks,
    source: Source,
}

impl World {
    fn new() -> Self {
        let disk = CrashDisk::new();
        drop(Machine::default().create(Arc::new(Local::create_with_disk(disk.clone()).unwrap()), 1).unwrap());
        Self { disk, locks: Locks::none(), source: Source::new() }
    }

    fn open(&self, cache: Option<PathBuf>) -> Repository {
        let storage = Arc::new(Local::open_with_disk(self.disk.clone()));
        let access = Access { locks: self.locks.clone(), ..Machine { cache, remembered: None }.access(storage) };
        Repository::open(access, &world::secret(1)).unwrap()
    }

    fn backup(&self, monitor: &dyn Monitor) -> ObjectId {
        let repository = self.open(None);
        let parent = repository.snapshots().unwrap().last().map(|(id, _)| *id);
        let report = world::backup_as(&repository, self.source.path(), &world::options(parent), monitor).unwrap();
        report.snapshot.unwrap()
    }

    fn forget(&self, id: ObjectId) {
        let change = |state: &mut packstone::codec::live_state::LiveState, since| {
            assert!(state.snapshots.contains_key(&id));
            state.mark(id, MarkedKind::Snapshot, since);
            Ok(())
        };
        self.open(None).append(change).unwrap();
    }

    fn prune(&self, grace: Duration, monitor: &dyn Monitor) -> prune::Report {
        let options = prune::Options {
            limits: Limits { max_unused: MaxUnused::Bytes(0), max_repack: None, pack_bytes: PACK_BYTES },
            grace,
            packs: world::packs(PACK_BYTES),
            now: Time::now(),
        };
        prune::run(&self.open(None), &options, monitor).unwrap()
    }

    fn reads_back(&self, id: ObjectId, wanted: &Contents) {
        let root = self.source.path().as_os_str().as_encoded_bytes()[1..].to_vec();
        assert!(world::contents(&self.open(None), id, &root).unwrap() == *wanted);
    }
}

const WEEK: Duration = Duration::from_secs(7 * 86_400);

#[test]
fn a_backup_that_publishes_after_a_mark_revives_what_it_relies_on() {
    let world = World::new();
    let contents = world.source.contents();
    let parent = world.backup(&Silent);
    let marked = Mutex::new(0);
    let publishing = AtPublish(Once::new(|| {
        world.forget(parent);
        let report = world.prune(Duration::ZERO, &Silent);
        assert_eq!(report.removed().0, 0, "a running backup relies on them");
        assert!(report.waiting.holder.is_some());
        *marked.lock().unwrap() = report.marked.packs;
    }));
    let id = world.backup(&publishing);
    drop(publishing);
    assert!(marked.into_inner().unwrap() > 2, "the packs of the parent were marked");
    world.reads_back(id, &contents);
    let report = world.prune(Duration::ZERO, &Silent);
    assert!(report.plan.dead.iter().all(|pack| pack.kind == PackKind::Tree), "the contents are needed again");
    world.reads_back(id, &contents);
}

#[test]
fn a_mark_that_is_computed_while_a_backup_publishes_spares_what_it_needs() {
    let world = World::new();
    let contents = world.source.contents();
    let waste = world.backup(&Silent);
    world.forget(waste);
    // Something stays, so that there are listings to go through.
    let repository = world.open(None);
    let small = Source::empty();
    small.write("one", b"one");
    world::backup_as(&repository, small.path(), &world::options(None), &Silent).unwrap();
    drop(repository);
    let made = Mutex::new(None);
    let marking = WhileMarking(Once::new(|| {
        // It meets the chunks of the forgotten one: nothing is stored again.
        let repository = world.open(None);
        let report = world::backup_as(&repository, world.source.path(), &world::options(None), &Silent).unwrap();
        assert_eq!(report.written.data_chunks, 0, "they were still there");
        *made.lock().unwrap() = report.snapshot;
    }));
    let report = world.prune(Duration::ZERO, &marking);
    drop(marking);
    let id = made.into_inner().unwrap().expect("a backup was made meanwhile");
    assert!(report.plan.dead.len() > 2, "they looked like waste when the prune began");
    world.reads_back(id, &contents);
    world.prune(Duration::ZERO, &Silent);
    world.reads_back(id, &contents);
}

#[test]
fn nothing_swept_comes_back_to_life_whatever_was_removed_when_the_power_went() {
    let mut world = World::new();
    for _ in 0..3 {
        let id = world.backup(&Silent);
        world.source.change();
        world.forget(id);
    }
    let contents = world.source.contents();
    let second = world.backup(&Silent);
    world.prune(WEEK, &Silent);
    let base = world::copy(&world.disk);
    let mut cuts = 0;
    for stop in 0.. {
        world.disk = world::copy(&base);
        let repository = world.open(None);
        let ready = repository.sweepable(Duration::ZERO, Time::now()).unwrap().ready;
        assert!(!ready.is_empty());
        let end = world.disk.operations() + stop;
        world.disk.stop_after(end);
        let _ = repository.sweep(&ready, Time::now());
        let done = world.disk.operations() < end;
        drop(repository);
        world.disk.restart();
        let swept: BTreeSet<ObjectId> = world.open(None).tip().state.swept.keys().copied().collect();
        if !swept.is_empty() {
            cuts += 1;
            world.backup(&Silent);
            let repository = world.open(None);
            let options = repair_index::Options { all_packs: true, read_data: true };
            let plan = repair_index::plan(&repository, options, &Silent).unwrap();
            repair_index::execute(&repository, plan).unwrap();
            let state = repository.tip().state;
            assert!(swept.iter().all(|id| state.swept.contains_key(id)), "what was swept stays swept");
            let index = repository.open_index();
            assert!(swept.iter().all(|id| !index.packs().contains_key(id) && !state.lists(id)));
            world.reads_back(second, &contents);
        }
        if done {
            break;
        }
    }
    assert!(cuts > 3, "{cuts} power cuts between the head and the last removal");
    println!(
        "{cuts} of {cuts} power cuts between a sweep's head and its last removal: nothing came back, nothing was lost"
    );
}

#[test]
fn a_chunk_whose_cached_copy_lies_in_a_swept_pack_is_found_in_the_other() {
    let world = World::new();
    let folder = tempfile::tempdir().unwrap();
    let cache = || Some(folder.path().join("cache"));
    let contents = world.source.contents();
    let id = world.backup(&Silent);
    // Every data chunk of one file once more, in a pack of its own, as two interrupted runs leave it.
    let repository = world.open(cache());
    let mut run = Run::begin(&repository, world::packs(PACK_BYTES)).unwrap();
    let parameters = repository.config().files;
    let cutter = packstone::codec::chunker::Cutter::new(repository.keys().gear(), parameters).unwrap();
    let book = contents.iter().find(|(path, _)| path.ends_with(b"/book")).and_then(|(_, bytes)| bytes.clone()).unwrap();
    let (mut rest, mut copies) = (&book[..], 0);
    while let Some(length) = cutter.next(rest, true).filter(|length| *length > 0) {
        let (chunk, behind) = rest.split_at(length);
        run.move_chunk(PackKind::Data, repository.keys().chunk_id(ChunkKind::Data, chunk), chunk).unwrap();
        (rest, copies) = (behind, copies + 1);
    }
    run.publish_segments().unwrap().expect("copies were published");
    drop(repository);
    assert!(copies > 20);
    // Another machine prunes: of each two copies one goes, whichever the cache here knows.
    let report = world.prune(Duration::ZERO, &Silent);
    assert!(report.removed().0 > 0);
    let root = world.source.path().as_os_str().as_encoded_bytes()[1..].to_vec();
    assert!(world::contents(&world.open(cache()), id, &root).unwrap() == contents);
    let repository = world.open(cache());
    let again = world::backup_as(&repository, world.source.path(), &world::options(None), &Silent).unwrap();
    drop(repository);
    world.reads_back(again.snapshot.unwrap(), &contents);
    world.prune(Duration::ZERO, &Silent);
    world.reads_back(id, &contents);
}

/// Story: a chunk lay in two packs and was needed by nobody. A prune marked the one pack, which held nothing else, and began
/// to rewrite the other, which did. Meanwhile the snapshot that needs the chunk came back, found it in the second pack, and
/// left the first one marked. The prune then took the first pack for one that stays, and marked the second as well.
#[test]
fn a_copy_in_a_pack_that_this_prune_has_marked_does_not_count() {
    let world = World { source: Source::empty(), ..World::new() };
    let shared = world::Noise(1).bytes(2_000);
    let needed = world::Noise(2).bytes(2_000);
    world.source.write("shared", &shared);
    let wanted = world.source.contents();
    let first = world.backup(&Silent);
    let repository = world.open(None);
    let of_shared = repository.keys().chunk_id(ChunkKind::Data, &shared);
    let of_needed = repository.keys().chunk_id(ChunkKind::Data, &needed);
    let alone = repository.open_index().pack_of(&of_shared).unwrap();
    let mut run = Run::begin(&repository, world::packs(PACK_BYTES)).unwrap();
    run.move_chunk(PackKind::Data, of_shared, &shared).unwrap();
    run.add(PackKind::Data, of_needed, &needed).unwrap();
    run.publish_segments().unwrap().unwrap();
    let both = repository.open_index().pack_of(&of_needed).unwrap();
    assert_ne!(alone, both);
    drop(repository);
    std::fs::remove_file(world.source.path().join("shared")).unwrap();
    world.source.write("needed", &needed);
    let contents = world.source.contents();
    let second = world.backup(&Silent);
    world.forget(first);

    let folder = tempfile::tempdir().unwrap();
    let rewriting = AtRepack(Once::new(|| {
        let repository = world.open(Some(folder.path().to_path_buf()));
        assert!(repository.tip().state.marked.contains_key(&alone), "the prune has marked it");
        // A cache of this moment knows the copy that is live.
        drop(repository.open_index());
        let plan = undelete::plan(&repository, &[first.to_string()], &Silent).unwrap();
        assert!(!plan.revived.contains(&alone), "the copy in the other pack is as good");
        undelete::execute(&repository, &plan).unwrap();
    }));
    let report = world.prune(WEEK, &rewriting);
    assert!(rewriting.0.done.load(Ordering::SeqCst));
    drop(rewriting);
    assert!(report.plan.dead.iter().any(|pack| pack.id == alone));
    assert!(report.plan.repack.iter().any(|(pack, _)| pack.id == both));
    world.reads_back(first, &wanted);
    world.reads_back(second, &contents);
    world.prune(Duration::ZERO, &Silent);
    world.reads_back(first, &wanted);
    world.reads_back(second, &contents);
}

/// Story: a repair of the index replaced the segments that an undelete had read, and the undelete failed where nothing stood in its way.
#[test]
fn an_undelete_whose_segments_are_replaced_begins_again() {
    let world = World::new();
    let id = world.backup(&Silent);
    let contents = world.source.contents();
    world.source.write("later", b"later");
    world.backup(&Silent);
    world.forget(id);
    let mut repairs = 0;
    let walking = AtWalk(Once::new(|| {
        let repository = world.open(None);
        let options = repair_index::Options { all_packs: true, ..repair_index::Options::default() };
        let plan = repair_index::plan(&repository, options, &Silent).unwrap();
        assert!(plan.replaced() > 0);
        repair_index::execute(&repository, plan).unwrap();
        repairs += 1;
    }));
    let repository = world.open(None);
    undelete::run(&repository, &[id.to_string()], &walking).unwrap();
    drop(walking);
    assert_eq!(repairs, 1);
    world.reads_back(id, &contents);
}

/// Story: a prune that sweeps at once had marked what nothing needs, and was removing files. Meanwhile a snapshot was forgotten, and another
/// prune kept the second copy of a chunk and marked the pack with the first, on which the plan of the first prune rested. That one
/// took the other's mark for something that it had known, rewrote the pack with the second copy without the chunk, and both copies were gone.
#[test]
fn two_prunes_never_drop_both_copies_of_a_chunk_whenever_the_second_runs() {
    let mut moments = 0;
    let mut noticed = 0;
    loop {
        let world = World::new();
        let file = |name: &str| format!("{name} {}", name.repeat(5_000)).into_bytes();
        let (one, two, waste) = (Source::empty(), Source::empty(), Source::empty());
        one.write("both", &file("both"));
        one.write("one", &file("one"));
        two.write("both", &file("both"));
        two.write("two", &file("two"));
        waste.write("waste", &file("waste"));
        let save = |source: &Source| {
            let repository = world.open(None);
            world::backup_as(&repository, source.path(), &world::options(None), &Silent).unwrap().snapshot.unwrap()
        };
        let first = save(&one);
        let repository = world.open(None);
        let mut run = Run::begin(&repository, world::packs(PACK_BYTES)).unwrap();
        for name in ["both", "two", "nobody", "else"] {
            let bytes = file(name);
            run.move_chunk(PackKind::Data, repository.keys().chunk_id(ChunkKind::Data, &bytes), &bytes).unwrap();
        }
        run.publish_segments().unwrap();
        drop(repository);
        let second = save(&two);
        let contents = two.contents();
        let gone = save(&waste);
        world.forget(gone);

        let left = Arc::new(AtomicI64::new(moments));
        let (disk, locks) = (world.disk.clone(), world.locks.clone());
        let open = move |storage: Arc<dyn Storage>| {
            let access = Access { locks: locks.clone(), ..Machine::default().access(storage) };
            Repository::open(access, &world::secret(1)).unwrap()
        };
        let options = |max_unused, grace| prune::Options {
            limits: Limits { max_unused, max_repack: None, pack_bytes: PACK_BYTES },
            grace,
            packs: world::packs(PACK_BYTES),
            now: Time::now(),
        };
        let other = {
            let (disk, open) = (disk.clone(), open.clone());
            move || {
                let repository = open(Arc::new(Local::open_with_disk(disk.clone())));
                let forget = |state: &mut packstone::codec::live_state::LiveState, since| {
                    if state.snapshots.contains_key(&first) {
                        state.mark(first, MarkedKind::Snapshot, since);
                    }
                    Ok(())
                };
                repository.append(forget).unwrap();
                prune::run(&repository, &options(MaxUnused::Unlimited, WEEK), &Silent).unwrap();
            }
        };
        let storage = Moments {
            inner: Arc::new(Local::open_with_disk(disk.clone())),
            listing: Some(Folder::Packs),
            left: Arc::clone(&left),
            act: Arc::new(other),
        };
        let repository = open(Arc::new(storage));
        let report = prune::run(&repository, &options(MaxUnused::Bytes(0), Duration::ZERO), &Silent);
        drop(repository);
        if left.load(Ordering::SeqCst) >= 0 {
            break;
        }
        noticed += usize::from(report.is_err());
        let root = two.path().as_os_str().as_encoded_bytes()[1..].to_vec();
        for _ in 0..2 {
            let found = world::contents(&world.open(None), second, &root);
            assert!(
                found.unwrap_or_else(|error| panic!("listing {moments}: {error}")) == contents,
                "listing {moments}"
            );
            world.prune(Duration::ZERO, &Silent);
        }
        moments += 1;
    }
    assert!(moments > 3, "{moments} moments");
    println!("{moments} of {moments} moments of a prune beside another one: nothing was lost ({noticed} gave up)");
}

/// Story: an undelete had read the head that names a removed snapshot, when a prune swept it. It said that the snapshot was missing, and called it
/// damage.
#[test]
fn an_undelete_that_a_sweep_overtakes_finds_no_damage() {
    let mut world = World::new();
    let gone = world.backup(&Silent);
    world.source.change();
    world.backup(&Silent);
    world.forget(gone);
    let base = world::copy(&world.disk);
    let (mut moments, mut back, mut refused) = (0, 0, 0);
    loop {
        let (disk, locks) = (world::copy(&base), Locks::none());
        let left = Arc::new(AtomicI64::new(i64::MAX));
        let other = World { disk: disk.clone(), locks: locks.clone(), source: Source::empty() };
        let storage = Moments {
            inner: Arc::new(Local::open_with_disk(disk)),
            listing: None,
            left: Arc::clone(&left),
            act: Arc::new(move || drop(other.prune(Duration::ZERO, &Silent))),
        };
        let access = Access { locks, ..Machine { cache: None, remembered: None }.access(Arc::new(storage)) };
        let repository = Repository::open(access, &world::secret(1)).unwrap();
        // As far as the plan reads. Later the undelete has the lock of those who publish, and a prune waits for it.
        left.store(i64::MAX, Ordering::SeqCst);
        undelete::plan(&repository, &[gone.to_string()], &Silent).unwrap();
        if moments >= i64::MAX - left.load(Ordering::SeqCst) {
            break;
        }
        left.store(moments, Ordering::SeqCst);
        if moments % 2 == 0 {
            let listed = undelete::list(&repository).unwrap_or_else(|error| panic!("after {moments} reads: {error}"));
            assert!(listed.iter().all(|removed| removed.snapshot.is_ok()), "after {moments} reads");
        }
        match undelete::run(&repository, &[gone.to_string()], &Silent) {
            Ok(_) => back += 1,
            Err(packstone::ops::Error::NotFound(why)) if why.contains("swept by prune") => refused += 1,
            Err(error) => panic!("after {moments} reads: {error}"),
        }
        moments += 1;
    }
    assert!(refused > 3 && moments > 6, "{back} came back, {refused} were swept, {moments} moments");
}

/// However many heads have come and gone since it was removed.
#[test]
fn a_snapshot_that_comes_back_after_many_heads_stands_where_it_stood() {
    let mut world = World::new();
    let first = world.backup(&Silent);
    world.source.change();
    let second = world.backup(&Silent);
    world.forget(first);
    let repository = world.open(None);
    for _ in 0..40 {
        repository.append(|_, _| Ok(())).unwrap();
    }
    repository.pin_newest().unwrap();
    repository.thin_heads().unwrap();
    assert!(repository.storage().list(Folder::Heads).unwrap().len() < 20);
    undelete::run(&repository, &[first.to_string()], &Silent).unwrap();
    let ids: Vec<ObjectId> = repository.snapshots().unwrap().into_iter().map(|(id, _)| id).collect();
    assert_eq!(ids, [first, second]);
}
