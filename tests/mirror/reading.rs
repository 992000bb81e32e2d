//! What comes back over the wire: cut, gone on with, and counted.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use packstone::ops::restore::{self, Options, Report};
use packstone::ops::select::{Filter, SnapshotArgument, SnapshotRef, argument};
use packstone::ops::{self, Silent, recover};
use packstone::repository::public_view::PublicView;
use packstone::repository::{self, Repository};
use packstone::storage::Storage;
use packstone::storage::memory::Memory;
use packstone::storage::patience::Patience;
use packstone::storage::read_only::ReadOnly;
use packstone::storage::several::Several;

use crate::requests::{patience, quick};
use crate::server::{Asked, FAULTS, Fault, Kind, Script, Server};
use crate::world::{Machine, Noise, is_full};
use crate::{Home, root, sync, view, whole};

/// Gives up at once, as a process that is killed.
fn killed() -> Patience {
    Patience { attempts: 1, ..quick() }
}

/// Every request, or in the short form every sixth.
fn chosen(requests: usize) -> Vec<u64> {
    let step = if is_full() { 1 } else { 6 };
    (0..requests as u64).skip(step - 1).step_by(step).collect()
}

fn packs(asked: &[Asked]) -> Vec<&Asked> {
    asked.iter().filter(|asked| asked.kind == Kind::Get && asked.is_pack()).collect()
}

fn recover_from(server: &Server, patience: Patience, target: &Memory) -> ops::Result<()> {
    let mirror: Arc<dyn Storage> = Arc::new(ReadOnly::new(Arc::new(server.remote(patience))));
    let view = PublicView::open(Machine::default().access(Arc::clone(&mirror)))?;
    let plan = recover::plan(&view, &recover::newest(&view)?, target)?;
    recover::execute(&Several::one("server", mirror), target, &plan, 1, &Silent)?.require_whole()
}

#[test]
fn a_recover_that_is_cut_goes_on_and_fetches_no_pack_twice() {
    let mut home = Home::new();
    let server = Server::start(1_000);
    home.backup();
    home.backup();
    let (plan, _) = sync(&home.view(), &server.remote(quick()), None).unwrap();
    let source = root(&home.source);
    server.script(Script::Well);
    recover_from(&server, quick(), &Memory::new()).unwrap();
    let all = server.asked();
    let fetched = packs(&all).len();
    assert!(fetched > 3);
    // The config is read twice; heads are listed twice, and keys once.
    assert!(all.len() <= plan.needs.len() + 4, "{} requests for {} objects", all.len(), plan.needs.len());
    let mut runs = 0;
    for number in chosen(all.len()) {
        let target = Memory::new();
        server.script(Script::From(number, Fault::Reset));
        recover_from(&server, killed(), &target).unwrap_err();
        assert_eq!(whole(&target, &home.snapshots, &source), Ok(None), "cut at {number}");
        let had: HashSet<String> = target.objects().keys().map(ToString::to_string).collect();
        let packs_had = had.iter().filter(|name| name.starts_with("packs/")).count();
        server.script(Script::Well);
        recover_from(&server, quick(), &target).unwrap();
        let second = server.asked();
        let again = packs(&second).into_iter().find(|asked| had.contains(&asked.name));
        assert!(again.is_none(), "cut at {number}: {again:?} was there");
        assert_eq!(packs(&second).len() + packs_had, fetched, "cut at {number}");
        assert_eq!(whole(&target, &home.snapshots, &source), Ok(Some(plan.head)), "cut at {number}");
        runs += 1;
    }
    println!("recover: {runs} of {runs} cuts in {} requests", all.len());
    assert!(runs >= 2);
}

/// What a fault may end in: only what the store hides is not seen, and only what it says wrongly is damage.
#[test]
fn every_fault_of_every_request_of_a_recover_is_told() {
    let mut home = Home::new();
    let server = Server::start(3);
    home.backup();
    let (older, _) = sync(&home.view(), &server.remote(quick()), None).unwrap();
    home.backup();
    let (newest, _) = sync(&home.view(), &server.remote(quick()), Some(older.head)).unwrap();
    let source = root(&home.source);
    server.script(Script::Well);
    recover_from(&server, quick(), &Memory::new()).unwrap();
    let all: Vec<Kind> = server.asked().into_iter().map(|asked| asked.kind).collect();
    let (mut runs, mut gone_on, step) = (0, 0, if is_full() { 1 } else { 7 });
    for (first, fault) in FAULTS.into_iter().enumerate() {
        let numbers = (0..all.len()).filter(|number| number % step == first % step && fault.befalls(all[*number]));
        for number in numbers.map(|number| number as u64) {
            for script in [Script::At(number, fault), Script::From(number, fault)] {
                if script == Script::From(number, Fault::Repeated) {
                    continue;
                }
                let target = Memory::new();
                server.script(script);
                let told = recover_from(&server, patience(script), &target);
                let is = whole(&target, &home.snapshots, &source);
                let say =
                    || format!("{script:?}: {is:?}, and it said {:?}", told.as_ref().map_err(ToString::to_string));
                match (&told, fault) {
                    (Ok(()), Fault::Lost | Fault::Stale | Fault::Wrong) if is == Ok(Some(older.head)) => {}
                    (Ok(()), _) => assert_eq!(is, Ok(Some(newest.head)), "{}", say()),
                    // What came lacks something, and says so; with the mirror as it is the same command brings the rest.
                    (Err(error), Fault::Lost | Fault::Stale | Fault::Wrong | Fault::Repeated) => {
                        let of_object = error.is_damage() || error.repository().is_some_and(repository::Error::is_lost);
                        assert!(is == Ok(None) || (is.is_err() && of_object), "{}: {error:?}", say());
                        server.script(Script::Well);
                        recover_from(&server, quick(), &target).unwrap();
                        let again = whole(&target, &home.snapshots, &source);
                        assert_eq!(again, Ok(Some(newest.head)), "{}", say());
                        gone_on += usize::from(is.is_err());
                    }
                    // Whoever gets no answer has found no damage, and no wrong key.
                    (Err(error), _) => {
                        assert_eq!(is, Ok(None), "{}", say());
                        let storage = matches!(error.repository(), Some(repository::Error::Storage(_)));
                        assert!(storage && !error.is_damage(), "{}: {error:?}", say());
                    }
                }
                let passes =
                    [Fault::Error, Fault::SlowDown, Fault::Silence, Fault::Reset, Fault::Short, Fault::Repeated];
                if script == Script::At(number, fault) && passes.contains(&fault) {
                    assert!(told.is_ok(), "{}", say());
                }
                runs += 1;
            }
        }
    }
    println!("recover: {runs} of {runs} requests and faults, {gone_on} brought a part");
    assert!(runs > 40 && gone_on > 2);
}

fn open(server: &Server, patience: Patience) -> ops::Result<Repository> {
    let mirror = ReadOnly::new(Arc::new(server.remote(patience)));
    Ok(Machine::default().open(Arc::new(mirror), 1)?)
}

/// Restores `part` of the newest snapshot, straight from the mirror.
fn restore_from(repository: &Repository, part: &Path, target: &Path) -> ops::Result<Report> {
    let options = Options::new(target.to_path_buf());
    let wanted = SnapshotArgument {
        snapshot: SnapshotRef::Latest { back: 0 },
        path: Some(part.as_os_str().as_bytes().to_vec()),
    };
    let (chosen, found) = argument(repository, &wanted, &Filter::default())?;
    let plan = restore::plan(repository, &chosen, &found, &options, &Silent)?;
    restore::execute(repository, plan, &Silent)
}

/// Files that do not shrink, some megabytes in packs of some blocks; and one small file.
fn many_files(server: &Server) -> (Home, BTreeMap<String, Vec<u8>>) {
    let mut home = Home::new();
    home.source = crate::world::Source::empty();
    let (mut noise, mut files) = (Noise(11), BTreeMap::new());
    for number in 0..200 {
        files.insert(format!("{}/{number}", number % 4), noise.bytes(200 << 10));
    }
    files.insert("small".to_owned(), b"a small file\n".to_vec());
    for (name, bytes) in &files {
        home.source.write(name, bytes);
    }
    let repository = home.open();
    let packs = repository::pack_writer::PackOptions::default();
    crate::world::backup_with(&repository, home.source.path(), packs, &Silent).unwrap();
    drop(repository);
    sync(&home.view(), &server.remote(quick()), None).unwrap();
    (home, files)
}

fn assert_restored(target: &Path, files: &BTreeMap<String, Vec<u8>>, when: &str) {
    for (name, bytes) in files {
        assert!(fs::read(target.join(name)).unwrap() == *bytes, "{when}: {name}");
    }
}

#[test]
fn a_restore_from_a_mirror_that_is_cut_goes_on_with_what_it_has() {
    let server = Server::start(1_000);
    let (home, files) = many_files(&server);
    let run = |patience, target: &Path| restore_from(&open(&server, patience)?, home.source.path(), target);
    let fetched = |asked: &[Asked]| packs(asked).iter().map(|asked| asked.bytes).sum::<u64>();
    let folder = tempfile::tempdir().unwrap();
    server.script(Script::Well);
    assert!(run(quick(), &folder.path().join("whole")).unwrap().is_complete());
    let all = server.asked();
    // How far the blocks of a cut run are of use: each but those of files that were not finished.
    let largest = packs(&all).iter().map(|asked| asked.bytes).max().unwrap();
    let (numbers, mut runs, mut saved) = (chosen(all.len()), 0, 0);
    for number in numbers {
        let when = format!("cut at {number} of {}", all.len());
        let target = folder.path().join(number.to_string());
        server.script(Script::From(number, Fault::Reset));
        let error = run(killed(), &target).err();
        assert!(error.is_some_and(|error| !error.is_damage()), "{when}: nothing is damaged, and nothing is done");
        let first = fetched(&server.asked());
        server.script(Script::Well);
        assert!(run(quick(), &target).unwrap().is_complete(), "{when}");
        assert_restored(&target, &files, &when);
        // Of what the first run fetched at most two blocks for each of its workers, and what leads to them, are fetched again.
        let workers = std::thread::available_parallelism().unwrap().get() as u64;
        let (second, slack) = (fetched(&server.asked()), 2 * workers * largest + (256 << 10));
        assert!(second <= (fetched(&all) + slack).saturating_sub(first), "{when}: {second} bytes after {first}");
        saved += fetched(&all).saturating_sub(second);
        runs += 1;
    }
    println!("restore --from: {runs} of {runs} cuts in {} requests, {} KiB not fetched again", all.len(), saved >> 10);
    assert!(runs > 1 && saved > 0);
}

#[test]
fn one_small_file_takes_a_block_and_not_a_pack() {
    let server = Server::start(1_000);
    let (home, files) = many_files(&server);
    let target = tempfile::tempdir().unwrap();
    server.script(Script::Well);
    let repository = open(&server, quick()).unwrap();
    let report = restore_from(&repository, &home.source.path().join("small"), target.path()).unwrap();
    assert!(report.is_complete());
    assert_eq!(fs::read(target.path().join("small")).unwrap(), files["small"]);
    let asked = server.asked();
    let bytes: u64 = asked.iter().map(|asked| asked.bytes).sum();
    let needs = view(&server.mirror()).unwrap().needs().unwrap();
    let mirror: u64 = needs.iter().filter_map(|needed| needed.length).sum();
    println!("one small file: {bytes} bytes in {} requests, of a mirror of {mirror}", asked.len());
    // One block of data (2 MiB at most, and its seal), the listings that lead to it, and segments, snapshots and heads.
    assert!(bytes < (2 << 20) + (512 << 10), "{bytes}");
    assert!(mirror > 30 << 20, "else this says nothing");
}
