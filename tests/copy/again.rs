//! What was copied is not copied again, what is there is not stored again, and what cannot be copied whole is not there.

use packstone::base::stop::Stop;
use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use packstone::base::id::ObjectId;
use packstone::base::time::Time;
use packstone::codec::live_state::MarkedKind;
use packstone::codec::tree::Node;
use packstone::ops::copy::{self as copies, Copying, Done};
use packstone::ops::prune::{self, Limits, MaxUnused};
use packstone::ops::select::Filter;
use packstone::ops::{Error, Item, Monitor, Phase, Problem, Silent, backup as backups};
use packstone::repository::Repository;
use packstone::repository::index::read_segment;
use packstone::repository::list_reader::{Chunks, Listing};
use packstone::storage::Folder;

use super::pair::{LARGE, PACK_BYTES, SMALL, Side, assert_sound, copy_all, copy_as};
use super::world::{Noise, Source, backup, backup_as, contents, copy, options, packs};

fn root(source: &Source) -> Vec<u8> {
    source.path().as_os_str().as_encoded_bytes()[1..].to_vec()
}

/// Two repositories, three snapshots in the first, and what they hold.
struct Three {
    source: Source,
    one: Side,
    two: Side,
    saved: Vec<(ObjectId, super::world::Contents)>,
}

impl Three {
    fn new() -> Self {
        Self::made_by(|repository, source| backup(repository, source.path()))
    }

    /// None of them names another as its parent, and what they have in common is found all the same.
    fn without_parents() -> Self {
        Self::made_by(|repository, source| backup_as(repository, source.path(), &options(None), &Silent))
    }

    fn made_by(backup: impl Fn(&Repository, &Source) -> packstone::ops::Result<backups::Report>) -> Self {
        let (mut source, one, two) = (Source::new(), Side::new(1, SMALL), Side::new(2, LARGE));
        for number in 0..20 {
            source.write(&format!("still/{number}"), &Noise(100 + number).bytes(20_000));
        }
        let mut saved = Vec::new();
        for _ in 0..3 {
            let report = backup(&one.open(), &source).unwrap();
            saved.push((report.snapshot.unwrap(), source.contents()));
            source.change();
        }
        Self { source, one, two, saved }
    }

    fn assert_same(&self, repository: &Repository, copy: ObjectId, number: usize) {
        assert!(contents(repository, copy, &root(&self.source)).unwrap() == self.saved[number].1, "{number}");
    }
}

fn forget(repository: &Repository, ids: &[ObjectId]) {
    let marked = |state: &mut packstone::codec::live_state::LiveState, generation| {
        for id in ids {
            state.mark(*id, MarkedKind::Snapshot, generation);
        }
        Ok(())
    };
    repository.append(marked).unwrap();
}

fn prune_at_once(repository: &Repository) {
    let options = prune::Options {
        limits: Limits { max_unused: MaxUnused::Bytes(0), max_repack: None, pack_bytes: PACK_BYTES },
        grace: Duration::ZERO,
        packs: packs(PACK_BYTES),
        now: Time::now(),
    };
    prune::run(repository, &options, &Silent).unwrap();
}

#[test]
fn only_what_changed_is_read_and_a_second_time_nothing() {
    let three = Three::new();
    let (one, two) = (three.one.open(), three.two.open());
    let copied = copy_all(&one, &two);
    assert_eq!(copied.len(), 3);
    // Three letters, one more, the book and a photo.
    let read: Vec<u64> = copied.iter().map(|copied| copied.files_read).collect();
    assert_eq!(read, [46, 6, 6], "files with a content, each once");
    for (number, copied) in copied.iter().enumerate() {
        three.assert_same(&two, copied.id, number);
        let parent = two.snapshot(copied.id).unwrap().parent;
        assert_eq!(parent, number.checked_sub(1).map(|before| live(&two)[before]));
    }
    let generation = two.tip().reference().generation;
    assert!(copy_all(&one, &two).is_empty());
    assert_eq!(two.tip().reference().generation, generation);
    assert_sound(&two);
    // Another process, which remembers nothing, reads only what differs from the copy of a relative.
    let mut source = three.source;
    source.change();
    let saved = backup(&one, source.path()).unwrap().snapshot.unwrap();
    let (one, two) = (three.one.open(), three.two.open());
    let [copied] = copy_all(&one, &two).try_into().unwrap();
    assert_eq!(two.snapshot(copied.id).unwrap().original, Some(saved));
    assert_eq!(copied.files_read, 6);
    assert!(contents(&two, copied.id, &root(&source)).unwrap() == source.contents());
    // Back again: it is the same backup.
    assert!(copy_all(&two, &one).is_empty());
    // Tags are each repository's own.
    let mut changed = two.snapshot(copied.id).unwrap();
    changed.tags.push("other".to_owned());
    two.replace_snapshots(&[(copied.id, changed)]).unwrap();
    assert!(copy_all(&one, &two).is_empty());
    // One that was rewritten is another one.
    let mut rewritten = one.snapshot(saved).unwrap();
    (rewritten.original, rewritten.counts.files) = (Some(saved), rewritten.counts.files + 1);
    one.replace_snapshots(&[(saved, rewritten)]).unwrap();
    assert_eq!(copy_all(&one, &two).len(), 1);
}

fn live(repository: &Repository) -> Vec<ObjectId> {
    repository.snapshots().unwrap().into_iter().map(|(id, _)| id).collect()
}

#[test]
fn copies_and_backups_share_chunks() {
    let (source, one) = (Source::new(), Side::new(1, SMALL));
    backup(&one.open(), source.path()).unwrap();
    let fresh = |repository: &Repository| {
        let unchanged = backups::scan::Unchanged { force: true, ..Default::default() };
        let options = backups::Options { unchanged, ..options(None) };
        backup_as(repository, source.path(), &options, &Silent).unwrap()
    };
    let two = Side::new(2, LARGE).open();
    let [copied] = copy_all(&one.open(), &two).try_into().unwrap();
    assert!(copied.written.data_chunks > 20);
    let direct = fresh(&two);
    // The directories above the tree may have changed meanwhile: they are shared with all other tests.
    assert_eq!(direct.written.data_chunks, 0);
    assert!(direct.written.tree_chunks <= 10, "{:?}", direct.written);
    let three = Side::new(3, LARGE).open();
    let direct = fresh(&three);
    let [copied] = copy_all(&one.open(), &three).try_into().unwrap();
    assert!(direct.written.data_chunks > 20);
    assert_eq!(copied.written.data_chunks, 0);
    assert!(copied.written.tree_chunks <= 10, "{:?}", copied.written);
}

/// Readers that want one block at the same time open it once.
#[test]
fn each_block_is_read_once() {
    let (source, one) = (Source::empty(), Side::new(1, LARGE));
    for number in 0..240 {
        source.write(&format!("{}/{number}", number % 5), &Noise(number).bytes(100_000));
    }
    let options = backups::Options { packs: packs(8 << 20), ..options(None) };
    backup_as(&one.open(), source.path(), &options, &Silent).unwrap();
    let repository = one.open();
    let mut blocks = 0;
    for (id, length) in &repository.tip().state.segments {
        let segment = read_segment(repository.storage(), repository.keys(), *id, *length, 0).unwrap();
        blocks += segment.packs.iter().map(|pack| pack.directory.blocks.len() as u64).sum::<u64>();
    }
    assert!(blocks > 10);
    let before = one.disk.reads();
    copy_all(&repository, &Side::new(2, SMALL).open());
    let reads = one.disk.reads() - before;
    // Beside the blocks: the snapshot, for the plan and for its choice, and the segment.
    assert!(reads <= blocks + 6, "{reads} reads for {blocks} blocks");
}

#[test]
fn one_repository_is_not_copied_into_itself() {
    let side = Side::new(1, SMALL);
    let error = copy_as(&side.open(), &side.open(), &[], &Silent).unwrap_err();
    assert!(error.to_string().contains("are the same repository"), "{error}");
}

#[test]
fn a_damaged_snapshot_is_not_there_and_the_others_are() {
    let three = Three::new();
    for pack in packs_of(&three.one.open(), three.saved[0].0, three.saved[1].0) {
        three.one.disk.spoil(&path_of(&three.one, pack));
    }
    let (one, two) = (three.one.open(), three.two.open());
    let done = copy_as(&one, &two, &[], &Silent).unwrap();
    assert_eq!(done.len(), 3);
    let mut copies = Vec::new();
    for (number, (id, done)) in done.into_iter().enumerate() {
        assert_eq!(id, three.saved[number].0);
        match done {
            Done::Copied(copied) => copies.push((number, copied.id)),
            Done::Unreadable(error) => assert!(number > 0 && error.to_string().contains("/"), "{number}: {error}"),
            Done::There(_) => panic!("{number} was there"),
        }
    }
    assert!(!copies.is_empty() && copies.len() < 3, "{copies:?}");
    assert_eq!(copies[0].0, 0);
    assert_eq!(live(&two).len(), copies.len());
    for (number, copy) in copies {
        three.assert_same(&two, copy, number);
    }
    assert_sound(&two);
}

/// The data packs that one snapshot needs.
fn needed(repository: &Repository, snapshot: ObjectId) -> BTreeSet<ObjectId> {
    let mut packs = BTreeSet::new();
    let mut open = vec![repository.snapshot(snapshot).unwrap().root];
    while let Some(list) = open.pop() {
        for entry in Listing::new(repository, list) {
            match entry.unwrap().node {
                Node::Directory { listing } => open.push(listing),
                Node::File(content) => {
                    for chunk in Chunks::new(repository, content.chunks) {
                        packs.insert(repository.locate(&chunk.unwrap()).unwrap().pack);
                    }
                }
                _ => {}
            }
        }
    }
    packs
}

/// The data packs that the second needs and the first does not.
fn packs_of(repository: &Repository, first: ObjectId, second: ObjectId) -> Vec<ObjectId> {
    let (earlier, later) = (needed(repository, first), needed(repository, second));
    let own: Vec<ObjectId> = later.difference(&earlier).copied().collect();
    assert!(!own.is_empty());
    own
}

fn path_of(side: &Side, pack: ObjectId) -> String {
    let name = pack.to_string();
    side.disk.files().into_keys().find(|path| path.ends_with(&name)).unwrap()
}

/// Wants an end after so many files.
struct Impatient(u64, AtomicU64);

impl Monitor for Impatient {
    fn phase(&self, _: Phase) {}
    fn expect(&self, _: u64, _: u64, _: bool) {}
    fn advance(&self, items: u64, _: u64) {
        self.1.fetch_add(items, Ordering::SeqCst);
    }
    fn item(&self, _: &Item<'_>) {}
    fn problem(&self, &Problem { message, .. }: &Problem<'_>) {
        panic!("{message}");
    }
    fn stop(&self) -> Option<Stop> {
        (self.1.load(Ordering::SeqCst) >= self.0).then_some(Stop::User)
    }
}

#[test]
fn an_interrupted_copy_is_gone_on_with() {
    let (source, one, two) = (Source::empty(), Side::new(1, SMALL), Side::new(2, LARGE));
    for number in 0..20 {
        source.write(&format!("{}/{number}", number % 5), &Noise(number).bytes(550_000));
    }
    let saved = backup(&one.open(), source.path()).unwrap().snapshot.unwrap();
    let whole = {
        let [copied] = copy_all(&one.open(), &Side::new(3, LARGE).open()).try_into().unwrap();
        copied.written.pack_bytes
    };
    let error = copy_as(&one.open(), &two.open(), &[saved], &Impatient(14, AtomicU64::new(0))).unwrap_err();
    assert!(matches!(error, Error::Interrupted), "{error}");
    let repository = two.open();
    assert!(live(&repository).is_empty());
    let left = repository.storage().list(Folder::Packs).unwrap().len() as u64;
    assert!(left > 1, "no pack was finished");
    let [copied] = copy_all(&one.open(), &repository).try_into().unwrap();
    assert_eq!(copied.written.adopted_packs, left);
    assert!(copied.written.pack_bytes < whole * 3 / 4, "{} of {whole} were stored again", copied.written.pack_bytes);
    assert!(contents(&repository, copied.id, &root(&source)).unwrap() == source.contents());
    assert_sound(&repository);
}

/// Does something once, when the first of so many files is stored.
struct Meddler<'a> {
    left: AtomicI64,
    armed: AtomicBool,
    act: Mutex<Box<dyn FnMut() + Send + 'a>>,
}

impl Monitor for Meddler<'_> {
    fn phase(&self, _: Phase) {}
    fn expect(&self, _: u64, _: u64, _: bool) {}
    fn advance(&self, _: u64, _: u64) {
        if self.left.fetch_sub(1, Ordering::SeqCst) <= 0 && self.armed.swap(false, Ordering::SeqCst) {
            (self.act.lock().unwrap())();
        }
    }
    fn item(&self, _: &Item<'_>) {}
    fn problem(&self, &Problem { message, .. }: &Problem<'_>) {
        panic!("{message}");
    }
    fn stop(&self) -> Option<Stop> {
        None
    }
}

/// Listings and contents are taken over unread from copies that somebody forgets and prunes in the middle of a snapshot: from
/// those of this process, and of an earlier one.
#[test]
fn what_is_taken_over_stays_when_its_snapshot_is_forgotten_meanwhile() {
    let three = Three::without_parents();
    for earlier in [false, true] {
        for when in (0..90).step_by(if super::world::is_full() { 1 } else { 11 }) {
            let two = Side::new(2, LARGE);
            if earlier {
                copy_as(&three.one.open(), &two.open(), &[three.saved[0].0], &Silent).unwrap();
            }
            let other = two.clone();
            let meddler = Meddler {
                left: AtomicI64::new(when),
                armed: AtomicBool::new(true),
                act: Mutex::new(Box::new(|| {
                    let repository = other.open();
                    let all = live(&repository);
                    if !all.is_empty() {
                        forget(&repository, &all);
                    }
                    prune_at_once(&repository);
                })),
            };
            let (one, repository) = (three.one.open(), two.open());
            let done = copy_as(&one, &repository, &[], &meddler).unwrap();
            drop(meddler);
            let left = repository.tip().state.snapshots.clone();
            for (id, done) in done {
                let Done::Copied(copied) = done else { panic!("{done:?}") };
                let number = three.saved.iter().position(|(saved, _)| *saved == id).unwrap();
                if left.contains_key(&copied.id) {
                    three.assert_same(&repository, copied.id, number);
                }
            }
            assert!(!left.is_empty());
            drop(repository);
            prune_at_once(&two.open());
            assert_sound(&two.open());
        }
    }
}

/// The same between two snapshots: then nothing is taken over.
#[test]
fn what_was_forgotten_between_two_snapshots_is_not_taken_over() {
    let three = Three::without_parents();
    let (one, two) = (three.one.open(), three.two.open());
    let mut plan = copies::plan(&one, &two, &[], &Filter::default()).unwrap();
    let mut copying = Copying::new(&one, &two, &mut plan, super::pair::options(), &Silent);
    for (number, chosen) in plan.copy.iter().enumerate() {
        let Done::Copied(copied) = copying.snapshot(chosen).unwrap() else { panic!("{number}") };
        assert_eq!(copied.files_read, [46, 47, 47][number], "everything is read again");
        three.assert_same(&two, copied.id, number);
        let other = three.two.open();
        forget(&other, &[copied.id]);
        prune_at_once(&other);
    }
}

/// The power goes somewhere in the middle: each copy is there whole or not at all, and the next one goes on.
#[test]
fn after_a_power_cut_the_same_command_goes_on() {
    let three = Three::new();
    let base = Side::new(2, LARGE);
    let mut stop = 0;
    loop {
        let mut two = base.clone();
        two.disk = copy(&base.disk);
        let repository = two.open();
        two.disk.stop_after(two.disk.operations() + stop);
        let done = copy_as(&three.one.open(), &repository, &[], &Silent);
        let acknowledged = done.as_ref().map_or(0, Vec::len);
        drop(repository);
        let mut images = Vec::new();
        two.disk.each_image(stop, 4, |image| images.push(image));
        let step = if super::world::is_full() { 1 } else { images.len().div_ceil(2) };
        for image in images.into_iter().step_by(step) {
            image.restart();
            two.disk = image;
            let repository = two.open();
            assert!(live(&repository).len() >= acknowledged);
            assert_sound(&repository);
            copy_all(&three.one.open(), &repository);
            for (number, id) in live(&repository).into_iter().enumerate() {
                three.assert_same(&repository, id, number);
            }
            assert_eq!(live(&repository).len(), 3);
        }
        if done.is_ok() {
            break;
        }
        stop += if super::world::is_full() { 1 } else { 17 };
    }
    assert!(stop > 60, "the cuts came too late: {stop}");
}
