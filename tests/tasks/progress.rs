//! What a person is told while the work goes on: of every phase whose total is known, exactly that is done in the end, and bytes are
//! what was read, written or sent.

use crate::world::{World, a_pack, noise};
use packstone::base::stop::Stop;
use packstone::ops::{Item, Monitor, Phase, Problem};
use packstone::tasks::environment::secret::{SecretPlaces, Secrets, Variables};
use packstone::tasks::environment::{CopySource, Environment, places::Places};
use packstone::tasks::{backup, check, check_mirror, copy, drill, forget, init, prune, recover, repair, restore, sync};
use std::os::unix::fs::{FileExt, symlink};
use std::path::PathBuf;
use std::sync::Mutex;

#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    expected: (u64, u64),
    complete: bool,
    done: (u64, u64),
    moved: u64,
    /// The most bytes that were done at once.
    step: u64,
}

/// One phase after the other, as they were told.
#[derive(Default)]
struct Ledger(Mutex<Vec<(Phase, Counts)>>);

impl Ledger {
    fn add(&self, change: impl FnOnce(&mut Counts)) {
        let mut phases = self.0.lock().unwrap();
        if let Some((_, counts)) = phases.last_mut() {
            change(counts);
        }
    }

    /// Everything that was expected is done, and nothing else. Returns the phases since the last time.
    fn close(&self, command: &str) -> Vec<(Phase, Counts)> {
        let phases = std::mem::take(&mut *self.0.lock().unwrap());
        for (phase, counts) in &phases {
            if counts.complete {
                assert_eq!(counts.done, counts.expected, "{command}, {phase:?}: items and bytes, done and expected");
            }
            assert!(counts.moved <= counts.done.1, "{command}, {phase:?}: {counts:?}");
        }
        phases
    }
}

impl Monitor for Ledger {
    fn phase(&self, phase: Phase) {
        self.0.lock().unwrap().push((phase, Counts::default()));
    }
    fn expect(&self, items: u64, bytes: u64, complete: bool) {
        self.add(|counts| {
            counts.expected = (counts.expected.0 + items, counts.expected.1 + bytes);
            counts.complete |= complete;
        });
    }
    fn advance(&self, items: u64, bytes: u64) {
        self.add(|counts| {
            counts.done = (counts.done.0 + items, counts.done.1 + bytes);
            counts.moved += bytes;
            counts.step = counts.step.max(bytes);
        });
    }
    fn skip(&self, items: u64, bytes: u64) {
        self.add(|counts| counts.done = (counts.done.0 + items, counts.done.1 + bytes));
    }
    fn item(&self, _: &Item<'_>) {}
    fn problem(&self, _: &Problem<'_>) {}
    fn stop(&self) -> Option<Stop> {
        None
    }
}

fn of(phases: &[(Phase, Counts)], wanted: Phase) -> Counts {
    phases.iter().rfind(|(phase, _)| *phase == wanted).map(|(_, counts)| *counts).expect("the phase")
}

const LARGE: usize = 9 << 20;

fn world() -> World {
    let world = World::with_mirrors();
    let files = world.at("files");
    std::fs::write(files.join("large"), noise(LARGE)).unwrap();
    std::fs::write(files.join("empty"), "").unwrap();
    std::fs::hard_link(files.join("large"), files.join("second name")).unwrap();
    symlink("small", files.join("link")).unwrap();
    let sparse = std::fs::File::create(files.join("sparse")).unwrap();
    sparse.set_len(20 << 20).unwrap();
    sparse.write_all_at(b"middle", 7 << 20).unwrap();
    world
}

fn back_up(world: &World, ledger: &Ledger) -> Vec<(Phase, Counts)> {
    let request = backup::Request { paths: vec![world.at("files")], ..backup::Request::default() };
    backup::run(&request, &world.environment(), ledger).unwrap();
    ledger.close("backup")
}

/// Six entries; the large file twice, the sparse one, and six bytes.
const ENTRIES: (u64, u64) = (6, 2 * LARGE as u64 + (20 << 20) + 6);

#[test]
fn what_was_expected_is_what_is_done() {
    let (world, ledger) = (world(), Ledger::default());
    let environment = world.environment();
    let stored = of(&back_up(&world, &ledger), Phase::Backup);
    assert_eq!(stored.done, ENTRIES);
    assert!(stored.moved < LARGE as u64 + (2 << 20), "a second name and holes are not read: {stored:?}");
    assert!(stored.step <= 4 << 20, "within a file: {stored:?}");
    let unchanged = of(&back_up(&world, &ledger), Phase::Backup);
    assert_eq!(unchanged.done, ENTRIES);
    std::fs::write(world.at("files/small"), "other\n").unwrap();
    back_up(&world, &ledger);

    let request = check::Request { read_data: true, ..Default::default() };
    check::run(&request, &environment, &ledger).unwrap();
    let read = of(&ledger.close("check"), Phase::CheckData);
    assert!(read.complete && read.moved > LARGE as u64, "{read:?}");

    for name in ["one", "two"] {
        let request = sync::Request { mirrors: vec![name.to_owned()], ..sync::Request::default() };
        sync::run(&request, &environment, &ledger, &|_, _| Ok(())).unwrap().into_result().unwrap();
        assert!(of(&ledger.close("sync"), Phase::Send).moved > LARGE as u64);
        let request = check_mirror::Request { mirror: name.to_owned(), read_data: true, ..Default::default() };
        check_mirror::run(&request, &environment, &ledger).unwrap();
        assert!(of(&ledger.close("check --mirror"), Phase::CheckData).complete);
    }

    for verify in [true, false] {
        let target = world.at(&format!("back-{verify}"));
        let request = restore::Request { target, verify, ..restore::Request::default() };
        let restored = |expected: &str| {
            let opened = restore::open(&request, &environment, &ledger).unwrap();
            opened.plan(&ledger).unwrap().execute(&ledger).unwrap();
            let phases = ledger.close(expected);
            assert!(of(&phases, Phase::Restore).complete && (!verify || of(&phases, Phase::Verify).complete));
            phases
        };
        let first = restored("restore");
        if verify {
            assert_eq!(of(&first, Phase::Verify).done, ENTRIES);
            assert!(of(&first, Phase::Verify).step <= 4 << 20);
        }
        // Again, over what is there, of which one file was touched.
        std::fs::File::options()
            .append(true)
            .open(request.target.join(world.at("files/small").strip_prefix("/").unwrap()))
            .unwrap()
            .set_modified(std::time::UNIX_EPOCH)
            .unwrap();
        restored("restore again");
    }

    let other = other(&world, "recovered", "key");
    let mirrors = vec![world.at("two").to_str().unwrap().to_owned()];
    recover::run(&recover::Request { mirrors, ..Default::default() }, &other, &ledger, &|_| Ok(())).unwrap();
    assert!(of(&ledger.close("recover"), Phase::Fetch).complete);
    let request = drill::Request { all: true, to: Some(world.at("ground")), ..drill::Request::default() };
    drill::run(&request, &environment, &ledger, &|_| Ok(())).unwrap();
    ledger.close("drill");
}

#[test]
fn what_changes_a_repository_says_how_far_it_is_too() {
    let (world, ledger) = (world(), Ledger::default());
    let environment = world.environment();
    back_up(&world, &ledger);
    std::fs::write(world.at("files/large"), &noise(LARGE)[..LARGE / 2]).unwrap();
    back_up(&world, &ledger);

    let copied = other(&world, "copied", "other key");
    let request =
        init::Request { new_key_file: Some(world.at("other key")), no_recovery_code: true, ..init::Request::default() };
    init::run(&request, &copied, &ledger, &mut init::Unattended).unwrap();
    ledger.close("init");
    let from = CopySource {
        repository: Some(world.at("repository")),
        secret: SecretPlaces { key_file: Some(world.at("key")), ..SecretPlaces::default() },
        ..CopySource::default()
    };
    for _ in 0..2 {
        let request = copy::Request { from: from.clone(), ..copy::Request::default() };
        copy::run(&request, &copied, &ledger, &mut |_| Ok(())).unwrap();
        let phases = ledger.close("copy");
        assert!(phases.iter().all(|(phase, counts)| *phase != Phase::Copy || counts.step <= 4 << 20), "{phases:?}");
    }

    let keep: forget::Request = serde_json::from_str(r#"{"keep-last": 1}"#).unwrap();
    forget::run(&keep, &environment, &ledger).unwrap();
    prune::run(&prune::Request { instant: true, ..Default::default() }, &environment, &ledger).unwrap();
    ledger.close("prune");

    let request = repair::index::Request { read_all_packs: true, ..Default::default() };
    repair::index::run(&request, &environment, &ledger, &mut |_| Ok(())).unwrap();
    let read = of(&ledger.close("repair index"), Phase::RebuildIndex);
    assert_eq!(read.moved, 0, "only directories of packs are read");
    let pack = a_pack(&world.at("repository"));
    let mut bytes = std::fs::read(&pack).unwrap();
    bytes[5_000] ^= 1;
    std::fs::remove_file(&pack).unwrap();
    std::fs::write(&pack, bytes).unwrap();
    repair::packs::run(&repair::packs::Request::default(), &environment, &ledger, &mut |_| Ok(())).unwrap();
    ledger.close("repair packs");
}

fn other(world: &World, name: &str, key: &str) -> Environment {
    let at = |what: &str| -> Option<PathBuf> { Some(world.at(&format!("{name} {what}"))) };
    let places =
        Places { repository: Some(world.at(name)), cache: at("cache"), state: at("state"), ..Places::default() };
    let secret = SecretPlaces { key_file: Some(world.at(key)), ..SecretPlaces::default() };
    Environment::new(places, Secrets::new(secret, Variables::default()))
}
