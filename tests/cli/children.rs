//! What commands that this program starts can see of its secrets: nothing. One row a way in which a child is started.

use std::fs;
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use super::Ran;
use super::support::World;

/// A passphrase that is found when it is anywhere.
const SECRET: &str = "correct horse battery staple";

/// A script that writes down what it can see: its environment, and what can be read from whatever is open.
fn spy(world: &World) -> String {
    let script = world.path("spy.sh");
    let seen = world.path("seen");
    fs::write(
        &script,
        format!(
            "#!/bin/bash\n{{ env; for n in /proc/self/fd/*; do n=${{n##*/}}; case $n in 0|1|2|255) ;; \
             *) [ -e /proc/$$/fd/$n ] && {{ echo \"open $n $(readlink /proc/$$/fd/$n)\"; timeout 1 cat <&$n; }};; esac; done; \
             echo input; timeout 1 cat; echo saw; }} >>'{}' 2>/dev/null\n",
            seen.display()
        ),
    )
    .unwrap();
    assert!(Command::new("chmod").arg("755").arg(&script).status().unwrap().success());
    script.to_str().unwrap().to_owned()
}

/// Gives a file to the program as this number.
fn give(command: &mut Command, file: OwnedFd, number: i32) {
    // It is inherited by who is made with `exec`, when it is not close-on-exec: a shell does this.
    let path = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
    let program = command.get_program().to_owned();
    let words: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("exec \"$0\" \"$@\" {number}<{path}")]).arg(program).args(words).env_clear();
    shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    shell.current_dir(command.get_current_dir().unwrap());
    shell.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    *command = shell;
    command.arg0("sh");
    // Kept open until the shell has opened it.
    std::mem::forget(file);
}

fn ran(mut command: Command) -> Ran {
    command.output().unwrap().into()
}

#[test]
fn no_command_that_is_started_sees_a_secret() {
    let world = World::with_repository();
    world.write("file", "content");
    fs::write(world.path("secret"), format!("{SECRET}\n")).unwrap();
    world.ok(&["key", "add", "--new-password-file", world.text(&world.path("secret"))]);
    world.backup();
    let spy = spy(&world);
    let secret = || OwnedFd::from(fs::File::open(world.path("secret")).unwrap());
    let stream = ["backup", "--stdin-from-command", "--stdin-filename", "x", "--stdin-allow-empty", "--", &spy];
    let with = |options: &[&str], rest: &[&str]| world.bare(&[options, rest].concat());

    let mut rows: Vec<(&str, Command)> = Vec::new();
    for (name, option, value) in [
        ("a descriptor", "--password-fd", "3"),
        ("a path of a descriptor", "--password-file", "/dev/fd/3"),
        ("another path of it", "--password-file", "/proc/self/fd/3"),
    ] {
        let mut command = with(&[option, value], &stream);
        give(&mut command, secret(), 3);
        rows.push((name, command));
    }
    let mut command = with(&["--password-fd", "0"], &stream);
    give(&mut command, secret(), 0);
    rows.push(("the standard input", command));
    let mut command = world.bare(&stream);
    command.env("PACKSTONE_PASSWORD", SECRET).env("PACKSTONE_MIRROR_PASSWORD", SECRET);
    rows.push(("the environment", command));
    let mut command = world.bare(&stream);
    command.env("PACKSTONE_PASSWORD_FILE", "/dev/fd/3");
    give(&mut command, secret(), 3);
    rows.push(("a variable that names a descriptor", command));
    // The other repository's command runs before our own secret is read, or after it.
    let other = world.path("other");
    let made = world.command(&["init", "--repo", world.text(&other)]).env("PACKSTONE_PASSWORD", SECRET).output();
    drop(made);
    let from = format!("--from-password-command={spy}");
    let mut command = with(&["--password-fd=3"], &["copy", "--from-repo", world.text(&other), &from]);
    give(&mut command, secret(), 3);
    rows.push(("a command for the other passphrase", command));

    for (name, command) in rows {
        let _ = fs::remove_file(world.path("seen"));
        let ran = ran(command);
        let seen = fs::read(world.path("seen")).unwrap_or_default();
        let seen = String::from_utf8_lossy(&seen).into_owned();
        assert!(seen.contains("\nsaw\n"), "{name}: the command ran\n{seen}\n{}{}", ran.out, ran.err);
        assert!(!seen.contains(SECRET), "{name}:\n{seen}");
        assert!(!seen.contains("/secret"), "{name}: its file is open\n{seen}");
        assert!(!seen.contains("PACKSTONE_PASSWORD") && !seen.contains("PACKSTONE_MIRROR_"), "{name}:\n{seen}");
        if name != "a command for the other passphrase" {
            assert_eq!(ran.code, Some(0), "{name}: {}", ran.err);
        }
    }
}

/// A control: with what a shell gives to everybody the spy finds the secret.
#[test]
fn the_spy_can_find_it() {
    let world = World::new();
    let spy = spy(&world);
    let mut secret = tempfile::tempfile().unwrap();
    secret.write_all(SECRET.as_bytes()).unwrap();
    fs::write(world.path("secret"), SECRET).unwrap();
    let line = format!("'{spy}' 5<'{}'", world.path("secret").display());
    assert!(Command::new("sh").args(["-c", &line]).status().unwrap().success());
    let seen = fs::read_to_string(world.path("seen")).unwrap();
    assert!(seen.contains("open 5 ") && seen.contains(SECRET), "{seen}");
}

/// A restored tree is checked by a command too.
#[test]
fn the_check_of_a_drill_sees_no_secret() {
    let world = World::with_repository();
    world.write("file", "content");
    fs::write(world.path("secret"), format!("{SECRET}\n")).unwrap();
    world.ok(&["key", "add", "--new-password-file", world.text(&world.path("secret"))]);
    world.backup();
    world.ok(&["mirror", "add", "offsite", world.text(&world.path("mirror"))]);
    world.ok(&["sync"]);
    let spy = spy(&world);
    let ground = world.path("ground");
    fs::create_dir(&ground).unwrap();
    let words = ["drill", "offsite", "--to", world.text(&ground), "--check-command", &spy];
    let mut command = world.bare(&[&["--password-fd", "3"][..], &words].concat());
    give(&mut command, fs::File::open(world.path("secret")).unwrap().into(), 3);
    let ran = ran(command);
    let seen = fs::read_to_string(world.path("seen")).unwrap_or_default();
    assert!(seen.contains("\nsaw\n"), "{}{}", ran.out, ran.err);
    assert!(!seen.contains(SECRET) && !seen.contains("/secret"), "{seen}");
    assert_eq!(ran.code, Some(0), "{}", ran.err);
}
