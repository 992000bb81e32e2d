//! A stop is heard within two seconds, also where a store, a stream or a lock gives nothing.

use crate::world::{Listener, World};
use packstone::base::stop::{Stop, StopSignal};
use packstone::repository::mirror_book::DrillOutcome;
use packstone::tasks::environment::Environment;
use packstone::tasks::environment::secret::SecretPlaces;
use packstone::tasks::failure::{Failure, Kind};
use packstone::tasks::{backup, drill, mirror, snapshots, stream, sync};
use std::net::TcpListener;
use std::time::{Duration, Instant};

/// Runs it in this environment, asks it to stop after a moment, and sees that it ends as interrupted within two seconds.
fn is_left<T: Send>(
    world: &World,
    environment: &Environment,
    why: Stop,
    task: impl FnOnce(&Environment) -> Result<T, Failure> + Send,
) {
    std::thread::scope(|scope| {
        let running = scope.spawn(move || task(environment));
        std::thread::sleep(Duration::from_millis(700));
        assert!(!running.is_finished(), "it ended before it was stopped: {:?}", running.join().unwrap().err());
        let asked = Instant::now();
        world.listener.stop.request(why);
        let failure = running.join().unwrap().err().expect("it succeeded");
        assert_eq!(failure.kind(), Kind::Interrupted, "{}", failure.chain());
        assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    });
}

/// A store that takes connections and never answers.
fn stalled() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("endpoint=http://127.0.0.1:{}", listener.local_addr().unwrap().port());
    (listener, endpoint)
}

#[test]
fn a_stalled_store_is_left() {
    let world = World::new();
    world.back_up().unwrap();
    let (_listener, endpoint) = stalled();
    let request = mirror::AddRequest {
        name: "dead".to_owned(),
        address: "webdav:///".to_owned(),
        option: vec![endpoint],
        no_probe: true,
        ..mirror::AddRequest::default()
    };
    mirror::add(&request, &world.environment(), &world.listener, &|_| Ok(())).unwrap();
    is_left(&world, &world.environment(), Stop::Shutdown, |environment| {
        sync::run(&sync::Request::default(), environment, &world.listener, &|_, _| Ok(()))?.into_result()
    });
}

/// The second one has closed its output: the stream has ended, and the command has not.
#[test]
fn a_command_whose_output_is_stored_is_left() {
    for script in ["sleep 60", "echo row; exec >&-; sleep 60"] {
        let world = World::new();
        let request = stream::Request { name: "dump".into(), ..stream::Request::default() };
        is_left(&world, &world.environment(), Stop::User, |environment| {
            let source = stream::Source::Command { program: "sh".into(), arguments: vec!["-c".into(), script.into()] };
            stream::run(&request, source, environment, &world.listener)
        });
        let mut environment = world.environment();
        environment.stop = StopSignal::new();
        let listed = snapshots::run(&snapshots::Request::default(), &environment, &Listener::default()).unwrap();
        assert!(listed.report.groups.iter().all(|group| group.snapshots.is_empty()), "no snapshot was made");
    }
}

/// The second one prints nothing more, and does not end.
#[test]
fn a_command_that_prints_a_secret_is_left() {
    for script in ["sh -c 'sleep 60'", "sh -c 'echo secret; exec >&-; sleep 60'"] {
        let world = World::new();
        let secret = SecretPlaces { command: Some(script.to_owned()), ..SecretPlaces::default() };
        is_left(&world, &world.environment_with(secret), Stop::Deadline, |environment| {
            snapshots::run(&snapshots::Request::default(), environment, &world.listener)
        });
        let request = mirror::AddRequest {
            name: "later".to_owned(),
            address: "webdav:///".to_owned(),
            option: vec!["endpoint=http://127.0.0.1:9".to_owned()],
            credentials_command: Some(script.to_owned()),
            ..mirror::AddRequest::default()
        };
        let other = World::new();
        is_left(&other, &other.environment(), Stop::User, |environment| {
            mirror::add(&request, environment, &other.listener, &|_| Ok(()))
        });
    }
}

/// And it is no drill that failed.
#[test]
fn a_check_command_of_a_drill_is_left() {
    let world = World::with_mirrors();
    world.back_up().unwrap();
    world.sync().unwrap();
    let request = drill::Request {
        check_command: Some("sleep 60".to_owned()),
        to: Some(world.at("drills")),
        mirrors: vec!["one".to_owned()],
        ..drill::Request::default()
    };
    std::fs::create_dir(world.at("drills")).unwrap();
    is_left(&world, &world.environment(), Stop::Shutdown, |environment| {
        drill::run(&request, environment, &world.listener, &|_| Ok(()))
    });
    assert!(std::fs::read_dir(world.at("drills")).unwrap().next().is_none(), "its folder is gone");
    let history = drill::list_history(None, 9, &world.environment()).unwrap().drills;
    assert!(history.iter().all(|drill| drill.outcome != DrillOutcome::Failed), "{history:?}");
}

#[test]
fn a_deadline_is_a_stop() {
    let world = World::new();
    world.listener.stop.end_at(Instant::now());
    let request = backup::Request { paths: vec![world.at("files")], ..backup::Request::default() };
    let failure = backup::run(&request, &world.environment(), &world.listener).unwrap_err();
    assert_eq!(failure.kind(), Kind::Interrupted);
}
