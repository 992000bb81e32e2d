//! The life of a repository: backed up, synced to two mirrors, checked, drilled, and recovered from a mirror alone.

use crate::world::{MIRRORS, World, contents, noise};
use packstone::repository::mirror_book::DrillOutcome;
use packstone::tasks::environment::Environment;
use packstone::tasks::environment::places::Places;
use packstone::tasks::environment::secret::{SecretPlaces, Secrets, Variables};
use packstone::tasks::failure::Kind;
use packstone::tasks::{
    backup, check, check_mirror, drill, forget, mirror, prune, recover, restore, snapshots, status, stream, sync,
    undelete,
};
use std::cell::RefCell;
use std::sync::Mutex;

#[test]
fn a_repository_lives_without_a_command_line() {
    let world = World::with_mirrors();
    let (environment, monitor) = (world.environment(), &world.listener);
    let first = world.back_up().unwrap();
    assert_eq!((first.kind(), first.mirrors), (None, MIRRORS.map(str::to_owned).to_vec()));
    let synced = Mutex::new(Vec::new());
    let request = sync::Request::default();
    let done = sync::run(&request, &environment, monitor, &|mirror, done| {
        synced.lock().unwrap().push((mirror.name.clone(), done.report.as_ref().unwrap().sent > 0));
        Ok(())
    });
    done.unwrap().into_result().unwrap();
    let mut synced = synced.into_inner().unwrap();
    synced.sort();
    assert_eq!(synced, MIRRORS.map(|name| (name.to_owned(), true)));
    let (generation, listed) = mirror::list(&environment, monitor).unwrap();
    assert!(listed.iter().all(|listed| listed.mirror.head.unwrap().generation == generation));

    let checked = check::run(&check::Request { read_data: true, ..Default::default() }, &environment, monitor);
    assert_eq!(checked.unwrap().kind(), None);
    for name in MIRRORS {
        let request = check_mirror::Request { mirror: name.to_owned(), read_data: true, ..Default::default() };
        assert_eq!(check_mirror::run(&request, &environment, monitor).unwrap().kind(), None);
    }

    let runs = RefCell::new(Vec::new());
    let request = drill::Request { all: true, to: Some(world.at("ground")), ..drill::Request::default() };
    let drills = drill::run(&request, &environment, monitor, &|run| {
        runs.borrow_mut().push((run.mirror.clone(), run.report.passed(), run.rate.passed));
        Ok(())
    });
    assert_eq!(drills.unwrap().kind, None);
    assert_eq!(runs.into_inner(), MIRRORS.map(|name| (name.to_owned(), true, 1)));
    let history = drill::list_history(None, 10, &environment).unwrap();
    assert!(history.drills.len() == 2 && history.drills.iter().all(|drill| drill.outcome == DrillOutcome::Passed));

    let seen = status::assess(&status::Request::default(), &environment, monitor).unwrap();
    assert_eq!((seen.kind(), seen.sources.len(), seen.mirrors.len()), (None, 1, 2));

    // Another machine, which has the key file and a mirror.
    let places = Places {
        repository: Some(world.at("recovered")),
        cache: Some(world.at("other cache")),
        state: Some(world.at("other state")),
        ..Places::default()
    };
    let secret = SecretPlaces { key_file: Some(world.at("key")), ..SecretPlaces::default() };
    let other = Environment::new(places, Secrets::new(secret, Variables::default()));
    let request =
        recover::Request { mirrors: vec![world.at("two").to_str().unwrap().to_owned()], ..recover::Request::default() };
    let recovered = recover::run(&request, &other, monitor, &|_| Ok(())).unwrap();
    assert_eq!(recovered.kind(), None);
    let packs = |name: &str| contents(&world.at(name).join("packs"));
    assert_eq!(packs("recovered"), packs("repository"));
}

#[test]
fn snapshots_are_forgotten_come_back_and_are_pruned() {
    let world = World::with_mirrors();
    let (environment, monitor) = (world.environment(), &world.listener);
    let first = world.back_up().unwrap().report.snapshot.unwrap();
    std::fs::write(world.at("files/large"), noise(2 << 20)).unwrap();
    let second = world.back_up().unwrap().report.snapshot.unwrap();
    world.sync().unwrap();
    let ids = || {
        let report = snapshots::run(&snapshots::Request::default(), &environment, monitor).unwrap();
        report.report.groups.iter().flat_map(|group| group.snapshots.iter().map(|chosen| chosen.id)).collect::<Vec<_>>()
    };
    assert_eq!(ids(), [first, second]);
    let keep: forget::Request = serde_json::from_str(r#"{"keep-last": 1}"#).unwrap();
    forget::run(&keep, &environment, monitor).unwrap();
    assert_eq!(ids(), [second]);
    let back: undelete::Request = serde_json::from_str(&format!(r#"{{"snapshots": ["{first}"]}}"#)).unwrap();
    undelete::run(&back, &environment, monitor).unwrap();
    assert_eq!(ids(), [first, second]);
    let without_rules = forget::run(&forget::Request::default(), &environment, monitor).unwrap_err();
    assert_eq!((without_rules.kind(), ids().len()), (Kind::Usage, 2));

    forget::run(&keep, &environment, monitor).unwrap();
    let before = bytes_of(&world.at("repository/packs"));
    let pruned = prune::run(&prune::Request { instant: true, ..Default::default() }, &environment, monitor);
    pruned.unwrap();
    assert!(bytes_of(&world.at("repository/packs")) < before);
    world.sync().unwrap();
    let checked = check::run(&check::Request { read_data: true, ..Default::default() }, &environment, monitor);
    assert_eq!(checked.unwrap().kind(), None);
    let request = restore::Request { target: world.at("back"), ..restore::Request::default() };
    let opened = restore::open(&request, &environment, monitor).unwrap();
    let report = opened.plan(monitor).unwrap().execute(monitor).unwrap();
    assert_eq!(report.kind(), None);
    let files = world.at("back").join(world.at("files").strip_prefix("/").unwrap());
    assert_eq!(contents(&files), contents(&world.at("files")));
    // Nobody writes into what is packstone's own.
    let own = restore::Request { target: world.at("repository/packs"), ..restore::Request::default() };
    let refused = restore::open(&own, &environment, monitor).and_then(|opened| opened.plan(monitor).map(drop));
    assert!(refused.is_err());
}

fn bytes_of(directory: &std::path::Path) -> usize {
    contents(directory).iter().map(|(_, bytes)| bytes.len()).sum()
}

#[test]
fn secrets_are_had_as_often_as_they_are_needed() {
    let world = World::new();
    let environment = world.environment();
    let request = backup::Request { paths: vec![world.at("files")], ..backup::Request::default() };
    for _ in 0..3 {
        assert_eq!(backup::run(&request, &environment, &world.listener).unwrap().kind(), None);
    }
}

#[test]
fn a_command_that_fails_leaves_no_snapshot() {
    let world = World::new();
    let request = stream::Request { name: "dump".into(), ..stream::Request::default() };
    let run = |script: &str| {
        let arguments = vec!["-c".into(), script.into()];
        let source = stream::Source::Command { program: "sh".into(), arguments };
        stream::run(&request, source, &world.environment(), &world.listener)
    };
    let failed = run("echo half; exit 3").unwrap_err();
    assert!(failed.chain().contains("no snapshot was made"), "{}", failed.chain());
    assert_eq!(run("printf ''").unwrap_err().kind(), Kind::Failed);
    assert_eq!(run("echo whole").unwrap().report.counts.bytes, 6);
    let seen = status::assess(&status::Request::default(), &world.environment(), &world.listener).unwrap();
    assert_eq!(seen.sources.iter().map(|source| source.snapshots).sum::<u64>(), 1);
}
