//! Where there is no HOME: systemd units, cron, `env -i`; and signals that whoever started the program has ignored.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::support::World;
use super::{Ran, packstone};

/// A user id that no password database has.
const STRANGER: u32 = 1_234_567;

/// The program as a user without a home directory anywhere, with nothing in the environment.
fn homeless(world: &World, words: &[&str]) -> Ran {
    let repository = world.repository();
    let key = world.key();
    let place = ["--repo", world.text(&repository), "--key-file", world.text(&key)];
    let mut command = packstone(&[&place[..], words].concat());
    command.current_dir(world.path("")).uid(STRANGER).gid(STRANGER);
    command.output().unwrap().into()
}

fn ok(world: &World, words: &[&str]) -> Ran {
    let ran = homeless(world, words);
    assert_eq!(ran.code, Some(0), "{words:?}\n{}\n{}", ran.out, ran.err);
    ran
}

/// Gives everything in a world to the stranger, who can then reach it.
fn give(world: &World) {
    let owner = format!("{STRANGER}:{STRANGER}");
    assert!(Command::new("chown").args(["-R", &owner]).arg(world.path("")).status().unwrap().success());
    assert!(Command::new("chmod").args(["755"]).arg(world.path("")).status().unwrap().success());
}

fn skipped(test: &str) -> bool {
    if rustix::process::geteuid().is_root() {
        return false;
    }
    println!("SKIPPED environment::{test}: needs root, to become a user without a home directory");
    true
}

/// Story: every command failed, and told to set `--repo` and `--cache-dir`, which were set.
#[test]
fn without_a_home_everything_but_mirrors_works_and_what_is_lost_is_said_once() {
    if skipped("without_a_home_everything_but_mirrors_works_and_what_is_lost_is_said_once") {
        return;
    }
    let world = World::new();
    world.write("a", "content");
    give(&world);
    let key = world.key();
    let ran = homeless(&world, &["init", "--new-key-file", world.text(&key)]);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    for words in [
        &["backup", "tree"][..],
        &["snapshots"],
        &["ls", "latest"],
        &["restore", "latest", "--target", "restored"],
        &["dump", "latest", "/tree/a"],
        &["find", "a"],
        &["stats"],
        &["diff", "latest", "latest"],
        &["check", "--read-data"],
        &["status"],
        &["key", "list"],
        &["tag", "--add", "x", "latest"],
        &["forget", "--keep-last", "1"],
        &["prune"],
    ] {
        let ran = ok(&world, words);
        for lost in ["Nothing is remembered", "There is no cache now"] {
            assert_eq!(ran.err.matches(lost).count(), 1, "{words:?}\n{}", ran.err);
        }
        assert!(ran.err.contains("user 1234567 has no home directory"), "{words:?}\n{}", ran.err);
        assert!(ran.err.contains("--state-dir or PACKSTONE_STATE_DIR"), "{words:?}\n{}", ran.err);
        let ran = ok(&world, &[words, &["--no-cache", "--state-dir", "memory"]].concat());
        assert!(!ran.err.contains("home directory"), "{words:?}\n{}", ran.err);
    }
    // Mirrors belong on a kit.
    let ran = ok(&world, &["key", "kit", "--output", "kit.txt"]);
    assert!(ran.err.contains("no mirrors are known"), "{}", ran.err);
    assert_eq!(fs::read_to_string(world.path("restored/tree/a")).unwrap(), "content");
    // What is about mirrors lies in the state directory, and says what it lacks.
    for words in [&["mirror", "add", "m", "/nowhere"][..], &["mirror", "list"], &["sync"], &["drill", "history"]] {
        let ran = homeless(&world, &[words, &["--no-cache"]].concat());
        assert_eq!(ran.code, Some(1), "{words:?}\n{}", ran.err);
        assert!(ran.err.contains("--state-dir or PACKSTONE_STATE_DIR"), "{words:?}\n{}", ran.err);
        assert!(!ran.err.contains("--repo"), "{words:?}\n{}", ran.err);
    }
    let mirror = world.path("mirror");
    for words in [
        &["mirror", "add", "m", world.text(&mirror)][..],
        &["sync"],
        &["drill", "m", "--to", "."],
        &["drill", "history"],
        &["status"],
    ] {
        let ran = ok(&world, &[words, &["--no-cache", "--state-dir", "memory"]].concat());
        assert!(!ran.err.contains("home directory"), "{words:?}\n{}", ran.err);
    }
    let ran = ok(&world, &["mirror", "list", "--json", "--no-cache", "--state-dir", "memory"]);
    assert!(ran.out.contains("\"m\""), "{}", ran.out);
    // Without a memory an older copy is not noticed; with one it is.
    let state = world.path("memory");
    let about = fs::read_dir(state.join("repositories")).unwrap().flatten();
    let about = about.filter(|entry| entry.path().extension().is_some_and(|extension| extension == "json"));
    assert!(about.count() > 0 && state.join("mirrors").is_dir());
    // A repository that is not named is not guessed.
    let ran: Ran = packstone(&["snapshots"]).uid(STRANGER).output().unwrap().into();
    assert!(ran.code == Some(1) && ran.err.contains("--repo or PACKSTONE_REPOSITORY"), "{}", ran.err);
}

/// A service of root's without HOME has the memory that root's shell has.
#[test]
fn without_home_the_password_database_is_asked() {
    let Some(home) = nix::unistd::User::from_uid(nix::unistd::geteuid()).unwrap().map(|user| user.dir) else {
        println!("SKIPPED environment::without_home_the_password_database_is_asked: this user has no home directory");
        return;
    };
    let ran: Ran = packstone(&["snapshots"]).output().unwrap().into();
    let named = home.join(".local/share/packstone/main");
    assert!(ran.err.contains(named.to_str().unwrap()), "{}", ran.err);
}

/// What is own follows the option: the memory is never part of a backup, and what else lies in the directory is.
#[test]
fn the_directory_of_the_state_may_hold_other_things() {
    let world = World::with_repository();
    world.write("letter", "dear");
    let state = world.tree();
    let with_state = |words: &[&str]| {
        let ran: Ran = world.command(words).env("PACKSTONE_STATE_DIR", &state).output().unwrap().into();
        assert_eq!(ran.code, Some(0), "{words:?}\n{}\n{}", ran.out, ran.err);
        ran
    };
    let mirror = world.path("mirror");
    with_state(&["mirror", "add", "m", world.text(&mirror)]);
    with_state(&["backup", "tree"]);
    let ran = with_state(&["backup", "tree"]);
    assert!(ran.out.contains("Left out, packstone's own: "), "{}", ran.out);
    let listed = with_state(&["ls", "latest", "--recursive"]).out;
    assert!(listed.contains("letter") && !listed.contains(".sqlite") && !listed.contains(".json"), "{listed}");
    with_state(&["restore", "latest:/tree", "--target", "tree", "--delete"]);
    assert!(fs::read_dir(state.join("mirrors")).unwrap().count() > 0);
    let ran = with_state(&["mirror", "list", "--json"]);
    assert!(ran.out.contains("\"m\""), "{}", ran.out);
    // A directory of the user's that only has the name is backed up.
    world.write("mirrors/baroque.txt", "of glass");
    let ran = with_state(&["backup", "tree"]);
    assert!(ran.err.contains("holds files of others too"), "{}", ran.err);
    let listed = with_state(&["ls", "latest", "--recursive"]).out;
    assert!(listed.contains("baroque.txt"), "{listed}");
}

/// Starts a backup that goes on until it is given more, in a shell that has set up how `signal` is met; sends the signal to it, ends
/// what it reads, and says how it ended.
fn signalled(world: &World, setting: &str, signal: &str) -> Option<i32> {
    let program = env!("CARGO_BIN_EXE_packstone");
    let line = format!("{setting} exec {program} backup --stdin");
    assert_eq!(fs::read_dir(world.repository().join("lock/pins")).map_or(0, Iterator::count), 0, "of another run");
    // Whoever runs the tests may ignore the signal himself, and a shell cannot take that back.
    let mut command = Command::new("env");
    command
        .args(["--default-signal=HUP,INT,TERM", "sh", "-c", &line])
        .env("HOME", world.path("home"))
        .env("PACKSTONE_REPOSITORY", world.repository());
    command.env("PACKSTONE_KEY_FILE", world.key()).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    // It has set everything up when it waits for what is to come: the pin of its generation is there.
    let (began, pins) = (Instant::now(), world.repository().join("lock/pins"));
    while fs::read_dir(&pins).map_or(0, Iterator::count) == 0 {
        assert!(began.elapsed() < Duration::from_secs(60), "it does not begin");
        std::thread::sleep(Duration::from_millis(10));
    }
    let mut input = child.stdin.take().unwrap();
    assert!(Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).status().unwrap().success());
    let _ = std::io::Write::write_all(&mut input, b"content");
    drop(input);
    child.wait().unwrap().code()
}

/// Story: `nohup packstone backup` ended with the terminal all the same.
#[test]
fn a_signal_that_is_ignored_at_the_start_stays_ignored() {
    let world = World::with_repository();
    for signal in ["HUP", "INT", "TERM"] {
        assert_eq!(signalled(&world, &format!("trap '' {signal};"), signal), Some(0), "{signal} is ignored");
        assert_eq!(signalled(&world, "", signal), Some(130), "{signal} is not");
    }
}
