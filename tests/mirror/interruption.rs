//! The first signal ends whatever waits for a store, within about a second, and nothing is remembered of it.

use packstone::base::stop::{Stop, StopSignal};
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use packstone::storage::patience::Patience;
use packstone::storage::{ErrorKind, Folder, MirrorStore, ObjectName};
use rustix::process::{Pid, Signal, kill_process};

use crate::server::{Fault, SECRET_KEY, Script, Server};
use crate::world::Noise;

fn command(home: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_packstone"));
    command.env_clear().env("HOME", home).env("PACKSTONE_REPOSITORY", home.join("repository"));
    command.env("PACKSTONE_KEY_FILE", home.join("key")).env("PACKSTONE_MIRROR_SECRET_ACCESS_KEY", SECRET_KEY);
    command.args(arguments).stdin(Stdio::null());
    command
}

#[track_caller]
fn well(home: &Path, arguments: &[&str]) -> String {
    let output = command(home, arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// What this machine knows of its mirrors, but for what waits to be sent.
fn known(home: &Path) -> String {
    let mut known: serde_json::Value = serde_json::from_str(&well(home, &["mirror", "list", "--json"])).unwrap();
    for name in ["pending_objects", "pending_bytes"] {
        known.as_object_mut().unwrap().remove(name);
    }
    known.to_string()
}

/// Its end, or none when it takes much more than a second, and another one for what it cleans up.
fn end_of(process: &mut Child) -> Option<i32> {
    let until = Instant::now() + Duration::from_millis(2_500);
    while Instant::now() < until {
        if let Some(status) = process.try_wait().unwrap() {
            return status.code();
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    process.kill().unwrap();
    process.wait().unwrap();
    None
}

#[test]
fn every_operation_of_a_store_ends_when_the_user_wants_an_end() {
    let server = Server::start(1_000);
    server.script(Script::From(0, Fault::Silence));
    let name = ObjectName::Config;
    type Operation = fn(&dyn MirrorStore, &ObjectName) -> packstone::storage::Result<()>;
    let operations: [(&str, Operation); 9] = [
        ("list all", |store, _| store.list_all().map(drop)),
        ("list", |store, _| store.list(Folder::Heads).map(drop)),
        ("read", |store, name| store.read(name, 1_000).map(drop)),
        ("read a range", |store, name| store.read_range(name, 1, 5).map(drop)),
        ("stream", |store, name| store.stream(name, 1_000, &mut |_| Ok(())).map(drop)),
        ("length", |store, name| store.length(name).map(drop)),
        ("set aside", |store, name| store.set_aside(name).map(drop)),
        ("replace", |store, name| store.replace(name, b"bytes")),
        ("remove", |store, name| store.remove(name)),
    ];
    for (what, operation) in operations {
        let stop = StopSignal::new();
        let remote = server.remote(Patience::default()).ended_by(stop.clone());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(300));
                stop.request(Stop::User);
            });
            let began = Instant::now();
            let error = operation(&remote, &name).unwrap_err();
            assert_eq!(error.kind, ErrorKind::Interrupted, "{what}: {error}");
            assert!(began.elapsed() < Duration::from_millis(1_300), "{what}: {:?}", began.elapsed());
        });
        // And none begins.
        let asked = server.asked().len();
        assert_eq!(operation(&remote, &name).unwrap_err().kind, ErrorKind::Interrupted, "{what}");
        assert_eq!(server.asked().len(), asked, "{what}");
    }
}

#[test]
fn the_first_signal_ends_every_command_that_waits_for_a_store() {
    let folder = tempfile::tempdir().unwrap();
    let (home, server) = (folder.path(), Server::start(1_000));
    let (tree, key, target) = (home.join("tree"), home.join("key"), home.join("target"));
    fs::create_dir(&tree).unwrap();
    for number in 0..4 {
        fs::write(tree.join(number.to_string()), Noise(number).bytes(300 << 10)).unwrap();
    }
    let (tree, key, target) = (tree.to_str().unwrap(), key.to_str().unwrap(), target.to_str().unwrap());
    well(home, &["init", "--new-key-file", key]);
    well(home, &["backup", tree]);
    well(home, &["mirror", "add", "cloud", &server.address()]);
    well(home, &["sync", "cloud"]);
    fs::write(Path::new(tree).join("more"), Noise(9).bytes(300 << 10)).unwrap();
    well(home, &["backup", tree]);
    let known = known(home);
    let address = server.address();
    let other = address.replace("/mirror?", "/other?");
    let commands: [&[&str]; 9] = [
        &["sync", "cloud"],
        &["sync", "cloud", "--dry-run"],
        &["mirror", "add", "new", &other],
        &["check", "--mirror", "cloud", "--read-data"],
        &["drill", "cloud", "--to", folder.path().to_str().unwrap()],
        &["recover", &address, "--to", target],
        &["--from", "cloud", "restore", "latest", "--target", target],
        &["--from", "cloud", "snapshots", "--no-cache"],
        &["repair", "mirror", "cloud"],
    ];
    let mut tried = 0;
    for arguments in commands {
        for from in [0, 1, 2, 4] {
            let _ = fs::remove_dir_all(target);
            server.script(Script::From(from, Fault::Silence));
            let mut process = command(home, arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            let until = Instant::now() + Duration::from_secs(30);
            while server.asked().len() as u64 <= from && process.try_wait().unwrap().is_none() {
                assert!(Instant::now() < until, "{arguments:?} asks nothing");
                std::thread::sleep(Duration::from_millis(10));
            }
            if process.try_wait().unwrap().is_some() {
                // It asks for less.
                process.wait().unwrap();
                break;
            }
            tried += 1;
            std::thread::sleep(Duration::from_millis(100));
            kill_process(Pid::from_child(&process), Signal::INT).unwrap();
            let code = end_of(&mut process);
            let mut said = String::new();
            std::io::Read::read_to_string(&mut process.stderr.take().unwrap(), &mut said).unwrap();
            assert_eq!(code, Some(130), "{arguments:?} from {from}: {said}");
            assert!(!said.contains("damage") && !said.contains("unreachable"), "{arguments:?} from {from}: {said}");
        }
    }
    assert!(tried >= 18, "{tried}");
    server.script(Script::Well);
    assert_eq!(self::known(home), known, "something is remembered");
    well(home, &["sync", "cloud"]);
    well(home, &["check", "--mirror", "cloud", "--read-data"]);
}
