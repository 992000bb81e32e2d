//! What a person is told, and the exit code, when the store behind a mirror is ill.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use crate::server::{Fault, Kind, SECRET_KEY, Script, Server};
use crate::world::Noise;

fn run(home: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_packstone"));
    command.env_clear().env("HOME", home).env("PACKSTONE_REPOSITORY", home.join("repository"));
    command.env("PACKSTONE_KEY_FILE", home.join("key")).env("PACKSTONE_MIRROR_SECRET_ACCESS_KEY", SECRET_KEY);
    command.args(arguments).output().unwrap()
}

#[track_caller]
fn exit(home: &Path, arguments: &[&str], code: i32) -> String {
    let output = run(home, arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
    said
}

#[test]
fn exit_codes_and_sentences_are_true() {
    let folder = tempfile::tempdir().unwrap();
    let (home, server) = (folder.path(), Server::start(1_000));
    let (tree, key) = (home.join("tree"), home.join("key"));
    fs::create_dir(&tree).unwrap();
    for number in 0..30 {
        fs::write(tree.join(number.to_string()), Noise(number).bytes(300 << 10)).unwrap();
    }
    let (tree, key) = (tree.to_str().unwrap(), key.to_str().unwrap());
    exit(home, &["init", "--new-key-file", key], 0);
    exit(home, &["backup", tree], 0);
    exit(home, &["mirror", "add", "cloud", &server.address()], 0);

    server.script(Script::From(0, Fault::Skew));
    let said = exit(home, &["sync", "cloud"], 1);
    assert!(said.contains("the clock of this machine is wrong"), "{said}");
    assert!(!said.contains("who owns the repository"), "{said}");
    assert_eq!(server.asked().len(), 1, "and it is said at once");

    server.script(Script::From(3, Fault::Precondition));
    exit(home, &["sync", "cloud"], 13);
    assert!(server.mirror().objects().len() < 5);

    server.script(Script::At(2, Fault::SlowDown));
    exit(home, &["sync", "cloud"], 0);
    server.script(Script::Well);
    exit(home, &["sync", "cloud"], 0);
    let asked: Vec<Kind> = server.asked().into_iter().map(|asked| asked.kind).collect();
    assert_eq!(asked, [Kind::List], "an idle sync");

    // In the middle of the contents the store refuses: that is no damage.
    server.script(Script::Well);
    let restore = |target: &str, code| {
        let target = home.join(target);
        exit(home, &["--from", "cloud", "restore", "latest", "--target", target.to_str().unwrap()], code)
    };
    // What the contents take is said before they are fetched.
    let planned = run(home, &["--from", "cloud", "restore", "latest", "--target", "/nowhere", "--dry-run", "--json"]);
    let plan: serde_json::Value =
        serde_json::from_slice(planned.stdout.split(|byte| *byte == b'\n').next().unwrap()).unwrap();
    let to_plan = server.asked().len() as u64;
    assert!(plan["message_type"] == "plan" && plan["bytes_to_fetch"].as_u64() > Some(30 * (300 << 10)), "{plan}");
    server.script(Script::Well);
    restore("whole", 0);
    let requests = server.asked().len() as u64;
    let bytes = || server.asked().iter().filter(|asked| asked.is_pack()).map(|asked| asked.bytes).sum::<u64>();
    let all = bytes();
    assert_eq!(requests - to_plan, plan["requests"].as_u64().unwrap());
    server.script(Script::From(requests - 2, Fault::Precondition));
    let said = restore("part", 1);
    assert!(!said.contains("damage"), "{said}");
    server.script(Script::Well);
    restore("part", 0);
    assert!(bytes() < all, "what is there is not fetched again: {} of {all}", bytes());
    for number in 0..30 {
        let path = Path::new("part").join(tree.trim_start_matches('/')).join(number.to_string());
        assert!(fs::read(home.join(path)).unwrap() == Noise(number).bytes(300 << 10), "{number}");
    }
}
