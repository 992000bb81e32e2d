//! What a person is told, and the exit code, when the store behind a mirror is ill.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use crate::server::{ACCESS_KEY, Fault, Kind, SECRET_KEY, Script, Server};
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

    // A login page is no empty mirror, and nothing about the mirror follows from it.
    server.script(Script::From(0, Fault::Portal));
    for (arguments, code) in [
        (&["sync", "cloud"][..], 1),
        (&["check", "--mirror", "cloud"], 1),
        (&["--from", "cloud", "snapshots"], 1),
        (&["mirror", "add", "other", &format!("{}&disable_list_objects_v2=true", server.address())], 1),
    ] {
        let said = exit(home, arguments, code);
        assert!(said.contains("it sent a web page") && said.contains("log in to the network"), "{said}");
        let named = if arguments.contains(&"other") { "mirror other" } else { "mirror cloud" };
        assert!(said.contains(named) && !said.contains("mirror accept") && !said.contains("rollback"), "{said}");
    }
    server.script(Script::Well);
    exit(home, &["sync", "cloud"], 0);
    // What is not allowed, or not there, is said with what was tried, and what it takes.
    for (script, arguments, code, words) in [
        (
            Script::From(0, Fault::NoBucket),
            &["sync", "cloud"][..],
            1,
            &["mirror cloud cannot be listed: there is no such bucket"][..],
        ),
        (Script::Each(Kind::List, Fault::Denied), &["sync", "cloud"], 1, &["cannot be listed", "s3:ListBucket"]),
        (
            Script::Each(Kind::Get, Fault::Denied),
            &["--from", "cloud", "snapshots"],
            1,
            &["cannot be read from mirror cloud", "s3:GetObject"],
        ),
    ] {
        server.script(script);
        let said = exit(home, arguments, code);
        assert!(words.iter().all(|words| said.contains(words)) && !said.contains("repository's directory"), "{said}");
    }
    server.script(Script::Well);
    fs::write(Path::new(tree).join("new"), Noise(99).bytes(300 << 10)).unwrap();
    exit(home, &["backup", tree], 0);
    server.script(Script::Each(Kind::Put, Fault::Denied));
    let said = exit(home, &["sync", "cloud"], 13);
    assert!(said.contains("do not allow it: it takes the right s3:PutObject"), "{said}");
    server.script(Script::Well);
    exit(home, &["sync", "cloud"], 0);

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

/// Region, endpoint and credentials come from a profile, and where the mirror is stands in its address then: a new machine has no such file.
#[test]
fn a_profile_of_aws_says_where_a_store_is_and_who_asks() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let (home, server) = (folder.path(), Server::start(1_000));
    let key = home.join("key");
    exit(home, &["init", "--new-key-file", key.to_str().unwrap()], 0);
    let endpoint = server.address().split("127.0.0.1%3A").nth(1).unwrap().split('&').next().unwrap().to_owned();
    let helper = home.join("a helper");
    let answer =
        format!("{{\"Version\": 1, \"AccessKeyId\": \"{ACCESS_KEY}\", \"SecretAccessKey\": \"{SECRET_KEY}\"}}");
    fs::write(&helper, format!("#!/bin/sh\necho '{answer}'\n")).unwrap();
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir(home.join(".aws")).unwrap();
    let config = format!(
        "[profile work]\nregion = us-east-1\nendpoint_url = http://127.0.0.1:{endpoint}\ncredential_process = '{}' get\n[profile broken]\nregion = \
         us-east-1\ncredential_process = echo no\n",
        helper.display()
    );
    fs::write(home.join(".aws/config"), config).unwrap();
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_packstone"));
        command.env_clear().env("HOME", home).env("PATH", "/usr/bin:/bin");
        command.env("PACKSTONE_REPOSITORY", home.join("repository")).env("PACKSTONE_KEY_FILE", &key);
        let output = command.args(arguments).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&said).into_owned())
    };
    let add = |name: &'static str, option: &str| {
        let address = format!("s3://bucket/backups/mirror?disable_ec2_metadata=true&{option}");
        run(&["mirror", "add", name, &address])
    };
    let (code, said) = add("cloud", "profile=work");
    assert!(
        code == Some(0) && said.contains("region=us-east-1") && said.contains("endpoint=http%3A%2F%2F127"),
        "{said}"
    );
    assert!(!said.contains(SECRET_KEY), "{said}");
    let (code, said) = run(&["sync", "cloud"]);
    assert_eq!(code, Some(0), "{said}");
    for (option, words) in [
        ("profile=nobody", "there is no profile nobody in"),
        ("profile=broken", "what the credential_process of the profile printed is not understood"),
        ("region=", "no region is known for s3://bucket"),
        ("profile=work&ca_file=/no/such/file", "/no/such/file (option ca_file) cannot be read"),
    ] {
        let (code, said) = add("other", option);
        assert!(code == Some(1) && said.contains(words), "{option}: {said}");
    }
}
