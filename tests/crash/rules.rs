//! Rules of a run, each with the story of how it was broken.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use packstone::codec::tree::Node;
use packstone::files::exclude::Excludes;
use packstone::files::source::Sources;
use packstone::files::walk::Rules;
use packstone::ops::{self, Silent, backup};
use packstone::repository::chain;
use packstone::repository::list_reader::Listing;
use packstone::repository::{Error, Repository};
use packstone::storage::crash::CrashDisk;
use packstone::storage::local::Local;
use packstone::storage::{Folder, ObjectName, Storage};

use crate::sweep::init;
use crate::told::Told;
use crate::watch::Watched;
use crate::world::{self, Machine, Source, copy, options, packs};

fn repository() -> (CrashDisk, Arc<dyn Storage>) {
    let disk = CrashDisk::new();
    init(disk.clone(), &mut Told::default(), &Machine::default());
    let storage = Arc::new(Local::open_with_disk(disk.clone()));
    (disk, storage)
}

fn save(repository: &Repository, path: &Path, options: &backup::Options) -> backup::Report {
    world::backup_as(repository, path, options, &Silent).unwrap()
}

fn inside(repository: &Repository, path: &Path, options: &backup::Options) -> backup::Report {
    world::backup_inside(repository, path, options).unwrap()
}

/// Story: a run that was interrupted gave its lock back first and finished its open packs afterwards, so packs appeared
/// while another run held the lock. Promised now: whoever finishes a pack holds the writer lock.
#[test]
fn an_interrupted_run_keeps_its_lock_until_its_last_pack_is_stored() {
    let (_, storage) = repository();
    let source = Source::new();
    let machine = Machine::default();
    let mut access = machine.access(Arc::clone(&storage));
    let locks = access.locks.clone();
    let (packs_seen, unlocked) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
    let (count, without) = (Arc::clone(&packs_seen), Arc::clone(&unlocked));
    access.storage = Arc::new(Watched::new(storage, move |name| {
        if matches!(name, ObjectName::Pack(_)) {
            count.fetch_add(1, Ordering::SeqCst);
            if locks.writer_free().is_ok() {
                without.lock().unwrap().push(*name);
            }
        }
    }));
    let repository = Repository::open(access, &world::secret(1)).unwrap();
    let monitor = crate::interrupted::Impatient::after(20);
    let ended = world::backup_with(&repository, source.path(), packs(world::PACK_BYTES), &monitor);
    assert!(matches!(ended, Err(ops::Error::Interrupted)), "{ended:?}");
    assert!(packs_seen.load(Ordering::SeqCst) > 0, "the run was interrupted before its first pack");
    assert_eq!(*unlocked.lock().unwrap(), []);
}

/// Story: a backup chose its parent, waited for the lock, and the parent was forgotten meanwhile; what it took over
/// unread might have been swept the next day. Promised now: only a live snapshot is a parent.
#[test]
fn a_parent_that_was_forgotten_meanwhile_is_none() {
    let (_, storage) = repository();
    let source = Source::new();
    let repository = Machine::default().open(storage, 1).unwrap();
    let first = save(&repository, source.path(), &options(None)).snapshot.unwrap();
    let second = save(&repository, source.path(), &options(Some(first)));
    assert!(second.summary.files_unmodified > 0);
    repository
        .append(|state, _| {
            state.snapshots.remove(&first);
            Ok(())
        })
        .unwrap();
    let third = save(&repository, source.path(), &options(Some(first)));
    assert_eq!((third.parent, third.summary.files_unmodified), (None, 0));
    assert!(third.warnings.iter().any(|warning| warning.contains("forgotten meanwhile")), "{:?}", third.warnings);
    assert_eq!(repository.snapshot(third.snapshot.unwrap()).unwrap().parent, None);
}

/// Story: a head was exchanged for another one of the same generation while a command ran, and taken for the truth.
/// Promised now: that is a fork, in the middle of a command as well as at its beginning.
#[test]
fn a_head_that_is_exchanged_while_a_command_runs_is_a_fork() {
    let (disk, storage) = repository();
    let source = Source::new();
    let other = Arc::new(Local::open_with_disk(copy(&disk)));
    let machine = Machine::default();
    let repository = machine.open(Arc::clone(&storage), 1).unwrap();
    save(&repository, source.path(), &options(None));
    let elsewhere = machine.open(other.clone(), 1).unwrap();
    save(&elsewhere, source.path(), &options(None));
    let (ours, theirs) = (repository.tip().reference(), elsewhere.tip().reference());
    assert_eq!(ours.generation, theirs.generation);
    storage.remove(&chain::name_of(ours)).unwrap();
    let name = chain::name_of(theirs);
    storage.put(&name, &other.read(&name, u64::MAX).unwrap()).unwrap();
    assert!(matches!(repository.refresh(), Err(Error::Fork { .. })));
}

/// Story: with `--ignore-inode`, an unchanged file was stored with the inode number of long ago. That number now belonged
/// to another file with several names, and a restore would have made one file of the two. Promised now: entries carry
/// the inode numbers of this walk.
#[test]
fn ignoring_inodes_does_not_join_files_that_are_two() {
    let (_, storage) = repository();
    let source = Source::empty();
    source.write("one", b"the same length, 1");
    fs::hard_link(source.path().join("one"), source.path().join("one too")).unwrap();
    let repository = Machine::default().open(storage, 1).unwrap();
    let first = save(&repository, source.path(), &options(None)).snapshot.unwrap();
    // The same bytes and times under another inode, as after a restore.
    let old = source.path().join("old");
    fs::rename(source.path().join("one"), &old).unwrap();
    source.write("one", b"the same length, 1");
    fs::remove_file(source.path().join("one too")).unwrap();
    fs::hard_link(source.path().join("one"), source.path().join("one too")).unwrap();
    fs::remove_file(&old).unwrap();
    let mut again = options(Some(first));
    again.unchanged.ignore_inode = true;
    again.unchanged.ignore_ctime = true;
    let report = save(&repository, source.path(), &again);
    assert_eq!(report.problem_count, 0, "{:?}", report.problems);
    let mut list = repository.snapshot(report.snapshot.unwrap()).unwrap().root;
    let wanted = fs::metadata(source.path().join("one")).unwrap();
    let mut inodes = Vec::new();
    loop {
        let entries: Vec<_> = Listing::new(&repository, list).map(Result::unwrap).collect();
        match &entries[0].node {
            Node::Directory { listing } => list = listing.clone(),
            _ => {
                inodes.extend(entries.iter().map(|entry| entry.metadata.inode));
                break;
            }
        }
    }
    let inode = std::os::unix::fs::MetadataExt::ino(&wanted);
    assert_eq!(inodes, [inode, inode]);
}

/// Story: with `--skip-if-unchanged`, packs of an interrupted run were taken over again and again, each time with a
/// segment that no head ever named. Promised now: they are taken over for good.
#[test]
fn a_skipped_snapshot_still_takes_over_what_an_interrupted_run_left() {
    let (disk, storage) = repository();
    let source = Source::new();
    let repository = Machine::default().open(Arc::clone(&storage), 1).unwrap();
    let now = inside(&repository, source.path(), &options(None)).snapshot.unwrap();
    let mut skip = options(Some(now));
    skip.skip_if_unchanged = true;
    // A pack that no list names, as a killed run leaves it.
    let other = copy(&disk);
    let elsewhere = Machine::default().open(Arc::new(Local::open_with_disk(other.clone())), 1).unwrap();
    let fresh = Source::empty();
    fresh.write("fresh", &world::Noise(99).bytes(50_000));
    let known: Vec<_> = storage.list(Folder::Packs).unwrap().into_iter().map(|found| found.name).collect();
    save(&elsewhere, fresh.path(), &options(None));
    let elsewhere = Local::open_with_disk(other);
    for found in elsewhere.list(Folder::Packs).unwrap().iter().filter(|found| !known.contains(&found.name)) {
        storage.put(&found.name, &elsewhere.read(&found.name, u64::MAX).unwrap()).unwrap();
    }
    let segments = || storage.list(Folder::Index).unwrap().len();
    let before = segments();
    let skipped = inside(&repository, source.path(), &skip);
    assert_eq!(skipped.snapshot, None);
    assert!(skipped.written.adopted_packs > 0 && skipped.head.is_some(), "{skipped:?}");
    for _ in 0..2 {
        let skipped = inside(&repository, source.path(), &skip);
        assert_eq!((skipped.written.adopted_packs, skipped.head), (0, None));
    }
    assert_eq!(segments(), before + 1);
}

/// Story: a list of 20,000 files was read to its end, and then the snapshot could not hold their names. Promised now: what
/// cannot be stored is refused before anything is read.
#[test]
fn more_paths_than_a_snapshot_holds_are_refused_at_once() {
    let (_, storage) = repository();
    let repository = Machine::default().open(storage, 1).unwrap();
    let source = Source::new();
    let refused = |change: &dyn Fn(&mut backup::Labels)| {
        let sources = Sources::new_in(source.path(), &[".".into()], &Excludes::new()).unwrap();
        let mut labels = world::labels(sources.paths.clone());
        change(&mut labels);
        let monitor = crate::interrupted::Impatient::after(0);
        let ran = backup::run(&repository, sources, Rules::default(), &labels, &options(None), &monitor);
        match ran {
            Err(ops::Error::Invalid(message)) => message,
            other => panic!("{other:?}"),
        }
    };
    assert!(refused(&|labels| labels.paths = vec![b"/a".to_vec(); 20_000]).contains("20000 paths"));
    assert!(refused(&|labels| labels.paths = vec![vec![b'a'; 4_000]; 1_000]).contains("4000008 bytes"));
    assert!(refused(&|labels| labels.label = "x".repeat(5_000)).contains("5000 bytes"));
}
