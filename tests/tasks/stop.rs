//! A stop is heard within two seconds, also where a store, a stream or a lock gives nothing.

use crate::world::World;
use packstone::base::stop::Stop;
use packstone::tasks::environment::Environment;
use packstone::tasks::failure::{Failure, Kind};
use packstone::tasks::{backup, mirror, stream, sync};
use std::net::TcpListener;
use std::time::{Duration, Instant};

/// Runs it, asks it to stop after a moment, and says how long that took.
fn stop_after<T: Send>(
    world: &World,
    why: Stop,
    task: impl FnOnce(&Environment) -> Result<T, Failure> + Send,
) -> (Failure, Duration) {
    let environment = world.environment();
    std::thread::scope(|scope| {
        let environment = &environment;
        let running = scope.spawn(move || task(environment));
        std::thread::sleep(Duration::from_millis(700));
        assert!(!running.is_finished(), "it ended before it was stopped: {:?}", running.join().unwrap().err());
        let asked = Instant::now();
        world.listener.stop.request(why);
        let failure = running.join().unwrap().err().expect("it succeeded");
        (failure, asked.elapsed())
    })
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
    let (failure, took) = stop_after(&world, Stop::Shutdown, |environment| {
        sync::run(&sync::Request::default(), environment, &world.listener, &|_, _| Ok(()))?.into_result()
    });
    assert_eq!(failure.kind(), Kind::Interrupted, "{}", failure.chain());
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[test]
fn a_stream_that_gives_nothing_is_left() {
    let world = World::new();
    let request = stream::Request { name: "dump".into(), ..stream::Request::default() };
    let (failure, took) = stop_after(&world, Stop::User, |environment| {
        let source = stream::Source::Command { program: "sleep".into(), arguments: vec!["60".into()] };
        stream::run(&request, source, environment, &world.listener)
    });
    assert_eq!(failure.kind(), Kind::Interrupted, "{}", failure.chain());
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[test]
fn a_deadline_is_a_stop() {
    let world = World::new();
    world.listener.stop.end_at(Instant::now());
    let request = backup::Request { paths: vec![world.at("files")], ..backup::Request::default() };
    let failure = backup::run(&request, &world.environment(), &world.listener).unwrap_err();
    assert_eq!(failure.kind(), Kind::Interrupted);
}
