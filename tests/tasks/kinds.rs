//! The kinds of failure are those of the program's exit codes, and what a check remembers binds whoever comes next.

use crate::world::{World, a_pack};
use packstone::repository::lock::Locks;
use packstone::storage::local::Local;
use packstone::tasks::environment::secret::SecretPlaces;
use packstone::tasks::failure::Kind;
use packstone::tasks::{backup, check, drill, recover, sync};
use std::time::Duration;

#[test]
fn damage_that_a_check_finds_stops_a_later_sync() {
    let world = World::with_mirrors();
    world.back_up().unwrap();
    world.sync().unwrap();
    let pack = a_pack(&world.at("repository"));
    let mut bytes = std::fs::read(&pack).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::remove_file(&pack).unwrap();
    std::fs::write(&pack, &bytes).unwrap();
    let (environment, monitor) = (world.environment(), &world.listener);
    let request = check::Request { read_data: true, ..check::Request::default() };
    assert_eq!(check::run(&request, &environment, monitor).unwrap().kind(), Some(Kind::Damage));
    let stopped = world.sync().unwrap_err();
    assert_eq!((stopped.kind(), stopped.is_transient()), (Kind::Damage, false));
    assert!(stopped.remedies().iter().any(|remedy| remedy.commands() == ["repair objects"]), "{stopped:?}");
    // Forced it sends, and still deletes nothing.
    let forced = sync::Request { force: true, ..sync::Request::default() };
    let no_deletion = |_: &_, done: &sync::MirrorSync| {
        assert!(done.deletion.is_none());
        Ok(())
    };
    sync::run(&forced, &environment, monitor, &no_deletion).unwrap().into_result().unwrap();
    assert!(world.problems().iter().any(|problem| problem.contains("nothing is deleted on a mirror")));
}

#[test]
fn a_failure_is_of_the_kind_that_the_exit_code_names() {
    let world = World::with_mirrors();
    let (environment, monitor) = (world.environment(), &world.listener);
    let request = backup::Request { paths: vec![world.at("files")], ..backup::Request::default() };
    let kind = |environment: &_| backup::run(&request, environment, monitor).unwrap_err().kind();

    let mut elsewhere = world.environment();
    elsewhere.places.repository = Some(world.at("nowhere"));
    assert_eq!(kind(&elsewhere), Kind::NoRepository);

    let nobody = world.environment_with(SecretPlaces::default());
    assert_eq!(kind(&nobody), Kind::Failed, "nobody can be asked");

    let other = World::new();
    let wrong = SecretPlaces { key_file: Some(other.at("key")), ..SecretPlaces::default() };
    assert_eq!(kind(&world.environment_with(wrong)), Kind::WrongPassword);

    assert_eq!(backup::run(&backup::Request::default(), &environment, monitor).unwrap_err().kind(), Kind::Usage);

    let storage = Local::open(&world.at("repository")).unwrap();
    let locks = Locks::within(&world.at("repository"), storage.root().unwrap()).for_command("test");
    let writer = locks.writer(Duration::ZERO).unwrap();
    let locked = backup::run(&request, &environment, monitor).unwrap_err();
    assert_eq!((locked.kind(), locked.is_transient()), (Kind::Locked, true));
    drop(writer);

    let missing = drill::Request { mirrors: vec!["three".to_owned()], ..drill::Request::default() };
    assert_eq!(drill::run(&missing, &environment, monitor, &|_| Ok(())).unwrap_err().kind(), Kind::Failed);
    let occupied = recover::Request { mirrors: vec!["one".to_owned()], ..recover::Request::default() };
    assert!(recover::run(&occupied, &environment, monitor, &|_| Ok(())).is_err());

    // What is not there can be stored only in part.
    let partly = backup::Request { paths: vec![world.at("files"), world.at("gone")], ..backup::Request::default() };
    let stored = backup::run(&partly, &environment, monitor).unwrap();
    assert_eq!(stored.kind(), Some(Kind::SourcePartlyUnreadable));
}

#[test]
fn an_older_state_in_the_repositorys_place_is_a_rollback() {
    let world = World::with_mirrors();
    let (repository, older) = (world.at("repository"), world.at("older"));
    let copied = std::process::Command::new("cp").arg("-a").arg(&repository).arg(&older).status().unwrap();
    assert!(copied.success());
    world.back_up().unwrap();
    std::fs::rename(&repository, world.at("newer")).unwrap();
    std::fs::rename(&older, &repository).unwrap();
    assert_eq!(world.back_up().unwrap_err().kind(), Kind::Rollback);
}
