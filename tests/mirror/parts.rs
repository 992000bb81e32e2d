//! Large objects go in parts: one that fails is sent again and not the whole, and nothing is under the name before all are there.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use packstone::base::id::ObjectId;
use packstone::storage::body::Body;
use packstone::storage::patience::Patience;
use packstone::storage::{self, ErrorKind, MirrorStore, ObjectName, Storage, Uplink};

use crate::requests::{patience, quick};
use crate::server::{FAULTS, Fault, Kind, Script, Server};

/// Three parts.
const LENGTH: usize = (20 << 20) + 4_321;

fn object() -> (ObjectName, Bytes) {
    let mut bytes = vec![0; LENGTH];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    (ObjectName::Pack(ObjectId::of(&bytes)), bytes.into())
}

/// Sends it, and says how many bytes were told to have left.
fn send(server: &Server, patience: Patience, name: &ObjectName, body: &dyn Body) -> (storage::Result<()>, u64) {
    let told = AtomicU64::new(0);
    let moved = |bytes| {
        told.fetch_add(bytes, Ordering::Relaxed);
    };
    // The system sends what it holds at once.
    let patience = Patience { bytes_per_second: 1 << 30, ..patience };
    let done = server.remote(patience).send(name, body, &Uplink { moved: &moved, ..Uplink::default() });
    (done, told.into_inner())
}

fn empty() -> Server {
    let server = Server::start(100);
    server.script(Script::Well);
    server
}

fn kinds(server: &Server) -> Vec<Kind> {
    server.asked().into_iter().map(|asked| asked.kind).collect()
}

#[test]
fn a_large_object_goes_in_parts_and_a_small_one_at_once() {
    let (name, bytes) = object();
    let server = empty();
    let (done, told) = send(&server, quick(), &name, &bytes);
    done.unwrap();
    assert_eq!(kinds(&server), [Kind::Begin, Kind::Put, Kind::Put, Kind::Put, Kind::Complete]);
    assert_eq!((told, server.mirror().read(&name, u64::MAX).unwrap() == bytes), (LENGTH as u64, true));
    server.script(Script::Well);
    let small = bytes.slice(..10 << 20);
    let name = ObjectName::Pack(ObjectId::of(&small));
    send(&server, quick(), &name, &small).0.unwrap();
    assert_eq!(kinds(&server), [Kind::Put]);
}

#[test]
fn every_fault_of_every_request_of_an_upload_is_told_and_costs_a_part() {
    let (name, bytes) = object();
    let server = empty();
    let mut runs = 0;
    for fault in FAULTS {
        for number in 0..5 {
            server.set(&storage::memory::Memory::new());
            let script = Script::At(number, fault);
            server.script(script);
            let (done, told) = send(&server, patience(script), &name, &bytes);
            let asked = kinds(&server);
            let there = server.mirror().read(&name, u64::MAX).ok();
            let length = there.as_ref().map(Vec::len);
            let say = || format!("{script:?}: {done:?}, {asked:?}, told {told}, there {length:?}");
            let is_whole = there.as_ref().is_some_and(|there| *there == bytes);
            // A store that keeps other bytes than it confirms is found out by reading back.
            let lies = matches!(fault, Fault::Wrong | Fault::Lost);
            assert!(is_whole || there.is_none() || lies, "{}", say());
            assert!(done.is_err() || is_whole || lies, "{}", say());
            let passes = [Fault::Error, Fault::SlowDown, Fault::Silence, Fault::Reset, Fault::Short];
            if passes.contains(&fault) {
                assert!(is_whole && done.is_ok() && told == LENGTH as u64, "{}", say());
                // One whose parts were put together, and whose answer was lost, has to be sent anew.
                let is_anew = asked.iter().filter(|kind| **kind == Kind::Complete).count() > 1 && number == 4;
                assert!(is_anew || asked.iter().filter(|kind| **kind == Kind::Put).count() <= 4, "{}", say());
            }
            // The answer that names an upload may be lost.
            if number > 0 && fault != Fault::Lost {
                assert!(server.uploads() == 0, "{}: {} left", say(), server.uploads());
            }
            runs += 1;
        }
    }
    println!("parts: {runs} of {runs} requests and faults");
}

#[test]
fn from_any_request_on_nothing_works_and_nothing_is_under_the_name() {
    let (name, bytes) = object();
    let server = empty();
    for fault in [Fault::Error, Fault::Reset, Fault::Short, Fault::Precondition] {
        for number in 0..5 {
            server.set(&storage::memory::Memory::new());
            server.script(Script::From(number, fault));
            let (done, _) = send(&server, Patience { attempts: 2, ..quick() }, &name, &bytes);
            let there = server.mirror().read(&name, u64::MAX).ok();
            assert!(done.is_err(), "{fault:?} from {number}");
            // What the store did before it lost the answer is whole.
            assert!(there.is_none_or(|there| there == bytes), "{fault:?} from {number}");
        }
    }
}

/// One whose last part does not come.
struct Broken(Bytes);

impl Body for Broken {
    fn length(&self) -> u64 {
        self.0.length()
    }

    fn piece(&self, offset: u64, length: u64) -> storage::Result<Bytes> {
        if offset + length == self.length() {
            return Err(storage::Error::new("read", "here", std::io::Error::other("it is damaged")));
        }
        self.0.piece(offset, length)
    }
}

#[test]
fn what_is_not_whole_here_is_not_put_together_there() {
    let (name, bytes) = object();
    for length in [LENGTH, 1_000] {
        let server = empty();
        let error = send(&server, quick(), &name, &Broken(bytes.slice(..length))).0.unwrap_err();
        assert!(error.to_string().contains("it is damaged"), "{error}");
        assert!(!kinds(&server).contains(&Kind::Complete) && server.uploads() == 0);
        assert_eq!(server.mirror().read(&name, u64::MAX).unwrap_err().kind, ErrorKind::Absent);
    }
}

#[test]
fn who_wants_an_end_leaves_no_parts() {
    let (name, bytes) = object();
    let server = empty();
    server.script(Script::At(2, Fault::Silence));
    let begun = std::time::Instant::now();
    let stop = || begun.elapsed() > Duration::from_millis(700);
    let patience = Patience { answer: Duration::from_secs(60), ..quick() };
    let done = server.remote(patience).send(&name, &bytes, &Uplink { stop: &stop, ..Uplink::default() });
    assert!(done.is_err() && server.uploads() == 0, "{done:?}");
}
