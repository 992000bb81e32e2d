//! Uploads in parts that nobody finished: those that a killed sync of this machine left go with the next one, those of others when they are old,
//! and what is another's is never touched.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use bytes::Bytes;
use packstone::base::id::ObjectId;
use packstone::base::time::Time;
use packstone::ops::sync::{self as operation, Report};
use packstone::ops::{self, Silent};
use packstone::repository::mirror_book::MirrorBook;
use packstone::storage::patience::Patience;
use packstone::storage::{Leftovers, MirrorStore, ObjectName, Storage, UnfinishedUpload, Uplink};

use crate::requests::quick;
use crate::server::{Fault, Kind, SECRET_KEY, Script, Server};
use crate::world::Noise;
use crate::{Home, send};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const NAME: &str = "cloud";

fn pack(number: u64) -> String {
    ObjectName::Pack(ObjectId::of(&number.to_le_bytes())).to_string()
}

/// One machine with a repository and a mirror on a server.
struct Machine {
    home: Home,
    server: Server,
    _folder: tempfile::TempDir,
    book: Mutex<MirrorBook>,
}

impl Machine {
    fn new(page: usize) -> Self {
        let (home, server, folder) = (Home::new(), Server::start(page), tempfile::tempdir().unwrap());
        let book = MirrorBook::open(folder.path(), home.view().id()).unwrap();
        book.add(NAME, &server.address(), None, Time::from_seconds(1)).unwrap();
        Self { home, server, _folder: folder, book: Mutex::new(book) }
    }

    fn sync(&self, patience: Patience) -> ops::Result<Report> {
        let (view, remote) = (self.home.view(), self.server.remote(patience));
        let seen = self.book.lock().unwrap().get(NAME)?.head;
        let plan = operation::plan(&view, &remote, seen, None, &Silent)?;
        let report = send(&view, &remote, &plan, Some((&self.book, NAME)))?;
        self.book.lock().unwrap().set_whole(NAME, plan.head, plan.whole(), Time::from_seconds(2))?;
        Ok(report)
    }

    fn asked(&self, kind: Kind) -> usize {
        self.server.asked().into_iter().filter(|asked| asked.kind == kind).count()
    }
}

#[test]
fn others_uploads_go_when_they_are_old_and_only_objects_of_this_mirror() {
    let mut machine = Machine::new(3);
    machine.home.backup();
    let server = &machine.server;
    for number in 0..10 {
        server.begin_upload(&pack(number), 8 * DAY);
    }
    // The same object twice: two machines may have been at it.
    server.begin_upload(&pack(0), 30 * DAY);
    server.begin_upload("tmp/a1-0123456789abcdef-2", 8 * DAY);
    server.begin_upload(&format!("quarantine/{}", ObjectId::of(b"x")), 8 * DAY);
    let goes = server.uploads();
    let stays = [
        ("backups/mirror/packs/photo.jpg".to_owned(), 100 * DAY),
        ("backups/mirror/packs/../../../x".to_owned(), 100 * DAY),
        ("backups/mirror/\u{e9}<&>\" x".to_owned(), 100 * DAY),
        (format!("backups/mirror2/{}", pack(1)), 100 * DAY),
        (format!("other/{}", pack(1)), 100 * DAY),
        (format!("backups/mirror/{}", pack(20)), 6 * DAY),
        (format!("backups/mirror/{}", pack(1)), Duration::ZERO),
        // No store is as old as that.
        (format!("backups/mirror/{}", pack(21)), 5_000 * DAY),
    ];
    for (key, ago) in &stays {
        server.begin_foreign_upload(key, *ago);
    }
    let report = machine.sync(quick()).unwrap();
    let left: Vec<String> = server.unfinished().into_iter().map(|(key, _)| key).collect();
    assert_eq!(left, stays.map(|(key, _)| key), "in the order in which they began");
    assert_eq!(report.leftovers, Leftovers { removed: (goes as u64, 0), there: (3, 0) });
    assert_eq!(machine.asked(Kind::Abort), goes);
    assert!(machine.asked(Kind::Uploads) >= 5, "page by page");
}

#[test]
fn a_sync_with_nothing_to_send_asks_for_no_uploads_but_ends_its_own() {
    let mut machine = Machine::new(1_000);
    machine.home.backup();
    machine.sync(quick()).unwrap();
    assert_eq!(machine.asked(Kind::Uploads), 1, "once in a sync that sends");
    let kinds = || machine.server.asked().into_iter().map(|asked| asked.kind).collect::<Vec<_>>();
    machine.server.begin_upload(&pack(1), 8 * DAY);
    machine.server.script(Script::Well);
    machine.sync(quick()).unwrap();
    assert_eq!(kinds(), [Kind::List]);
    // Notes of a sync that was killed: one is there, one was put together, one is no object.
    machine.server.begin_upload(&pack(2), Duration::ZERO);
    for (path, id) in [(pack(2), "2"), (pack(3), "77"), ("notes.txt".to_owned(), "1")] {
        let upload = UnfinishedUpload { path, id: id.to_owned() };
        machine.book.lock().unwrap().note_upload(NAME, &upload).unwrap();
    }
    machine.server.script(Script::Well);
    let report = machine.sync(quick()).unwrap();
    assert_eq!(kinds(), [Kind::List, Kind::Abort, Kind::Abort]);
    assert_eq!((report.leftovers.removed, machine.server.uploads()), ((1, 0), 1), "{:?}", machine.server.unfinished());
    machine.server.script(Script::Well);
    machine.sync(quick()).unwrap();
    assert_eq!(kinds(), [Kind::List], "and it is known no more");
}

#[test]
fn a_store_that_has_no_such_call_is_synced_to() {
    let silent = Patience { answer: Duration::from_millis(300), ..quick() };
    for fault in [Fault::Unknown, Fault::Error, Fault::SlowDown, Fault::Precondition, Fault::Reset, Fault::Silence] {
        let mut machine = Machine::new(1_000);
        machine.home.backup();
        machine.server.begin_upload(&pack(1), 8 * DAY);
        let note = UnfinishedUpload { path: pack(1), id: "1".to_owned() };
        for kind in [Kind::Uploads, Kind::Abort] {
            machine.server.script(Script::Each(kind, fault));
            machine.book.lock().unwrap().note_upload(NAME, &note).unwrap();
            let begun = Instant::now();
            machine.sync(silent).unwrap();
            assert!(begun.elapsed() < Duration::from_secs(20), "{fault:?}");
            machine.home.backup();
            if kind == Kind::Uploads {
                // It was ours, and is gone before the store was asked for others.
                assert_eq!((machine.asked(Kind::Uploads), machine.server.uploads()), (1, 0), "{fault:?}");
                machine.server.begin_upload(&pack(1), 8 * DAY);
                machine.book.lock().unwrap().note_upload(NAME, &note).unwrap();
                let id = UnfinishedUpload { path: pack(1), id: "2".to_owned() };
                machine.book.lock().unwrap().note_upload(NAME, &id).unwrap();
                machine.book.lock().unwrap().forget_upload(NAME, &note).unwrap();
            } else {
                assert!(machine.asked(Kind::Abort) >= 1, "{fault:?}");
                let noted = machine.book.lock().unwrap().uploads(NAME).unwrap().len();
                // What was refused is not asked again; what may pass is.
                let is_refused = matches!(fault, Fault::Unknown | Fault::Precondition);
                assert_eq!(noted == 0, is_refused, "{fault:?}: {noted} noted");
            }
        }
    }
}

/// A wrong abort costs a resend.
#[test]
fn who_loses_an_upload_under_way_sends_the_object_again() {
    let mut bytes = vec![0; (20 << 20) + 4_321];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    let (name, bytes) = (ObjectName::Pack(ObjectId::of(&bytes)), Bytes::from(bytes));
    let server = Server::start(100);
    let all = Mutex::new(Vec::new());
    let tell = |what: &'static str| {
        let all = &all;
        move |upload: &UnfinishedUpload| all.lock().unwrap().push((what, upload.clone()))
    };
    let (begun, ended) = (tell("begun"), tell("ended"));
    let uplink = Uplink { begun: &begun, ended: &ended, ..Uplink::default() };
    // The request with this number, which is the second part: from 0, after the one that began it.
    server.script(Script::At(2, Fault::Aborted));
    server.remote(quick()).send(&name, &bytes, &uplink).unwrap();
    assert!(server.mirror().read(&name, u64::MAX).unwrap() == bytes);
    let of = |id: &str| UnfinishedUpload { path: name.to_string(), id: id.to_owned() };
    let expected = [("begun", of("1")), ("ended", of("1")), ("begun", of("2")), ("ended", of("2"))];
    assert_eq!(*all.lock().unwrap(), expected);
    assert_eq!(server.uploads(), 0);
}

fn command(home: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_packstone"));
    command.env_clear().env("HOME", home).env("PACKSTONE_REPOSITORY", home.join("repository"));
    command.env("PACKSTONE_KEY_FILE", home.join("key")).env("PACKSTONE_MIRROR_SECRET_ACCESS_KEY", SECRET_KEY);
    command.args(arguments);
    command
}

#[track_caller]
fn run(home: &Path, arguments: &[&str]) -> Output {
    let output = command(home, arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    output
}

/// A child that does not outlive a test that failed.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn what_a_killed_sync_left_is_gone_after_the_next_one() {
    let folder = tempfile::tempdir().unwrap();
    let (home, server) = (folder.path(), Server::start(1_000));
    let (tree, key) = (home.join("tree"), home.join("key"));
    fs::create_dir(&tree).unwrap();
    fs::write(tree.join("large"), Noise(1).bytes(24 << 20)).unwrap();
    run(home, &["init", "--new-key-file", key.to_str().unwrap()]);
    run(home, &["backup", tree.to_str().unwrap()]);
    run(home, &["mirror", "add", "cloud", &server.address()]);
    // Another machine is at the same mirror.
    server.begin_upload(&pack(1), Duration::from_secs(60));
    server.script(Script::Part(2, Fault::Silence));
    let mut child = command(home, &["sync", "cloud"]);
    let child = Killed(child.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    let until = Instant::now() + Duration::from_secs(60);
    // As soon as one part is there: it was noted before.
    while !server.unfinished().iter().any(|(_, parts)| *parts == 1) {
        assert!(Instant::now() < until, "{:?}", server.asked());
        std::thread::sleep(Duration::from_millis(1));
    }
    // SIGKILL.
    drop(child);
    let left = server.unfinished();
    assert!(left.len() == 2 && left[1].1 == 1, "one part of it is there: {left:?}");
    server.script(Script::Well);
    let said = run(home, &["sync", "cloud"]);
    let said = String::from_utf8_lossy(&said.stderr).into_owned() + &String::from_utf8_lossy(&said.stdout);
    assert!(said.contains("Removed 1 incomplete object"), "{said}");
    assert!(said.contains("1 incomplete object left on the mirror: a later sync"), "{said}");
    assert_eq!(server.unfinished(), left[..1], "the other's is there");
    let kinds: Vec<Kind> = server.asked().into_iter().map(|asked| asked.kind).collect();
    let first = |kind| kinds.iter().position(|other| *other == kind).unwrap();
    assert!(first(Kind::Abort) < first(Kind::Begin), "{kinds:?}");
    assert_eq!(kinds.iter().filter(|kind| matches!(kind, Kind::Uploads | Kind::Abort)).count(), 2, "{kinds:?}");
    server.script(Script::Well);
    run(home, &["sync", "cloud"]);
    assert_eq!(server.asked().len(), 1, "an idle sync is one listing");
}
