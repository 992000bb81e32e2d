//! Every command that failed or was killed can be given again. `strace` kills the program at each of its calls that change something, and makes
//! each of them fail; then the very same command is given again and must end well.
//!
//! The short form takes one of some calls, `PACKSTONE_FULL=1` all.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use super::Ran;
use super::support::{World, files_beneath, snapshot_id};

/// What changes files; a question mark for what some machines do not have.
const CALLS: [&str; 16] = [
    "?mkdir",
    "mkdirat",
    "write",
    "pwrite64",
    "fsync",
    "fdatasync",
    "?fallocate",
    "ftruncate",
    "?rename",
    "?renameat",
    "renameat2",
    "linkat",
    "?unlink",
    "unlinkat",
    "fchmod",
    "?fchmodat",
];
struct Case {
    name: &'static str,
    words: &'static [&'static str],
    /// The short form takes one of so many faults: an odd number, so that both kinds have their turn.
    step: usize,
    prepare: fn() -> World,
    /// The world after the command was given again, and what that one said.
    judge: fn(&World, &Ran),
    /// The command may find that the first run got to its end, which its own name says.
    done: fn(&World) -> bool,
}

fn strace(world: &World, words: &[&str], options: &[&str]) -> Ran {
    let plain = world.command(words);
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o", "/dev/null"]).args(options).arg(plain.get_program()).args(plain.get_args());
    command.env_clear().current_dir(world.path("."));
    for (name, value) in plain.get_envs() {
        if let Some(value) = value {
            command.env(name, value);
        }
    }
    command.output().unwrap().into()
}

/// How often each call is made, by the thread that makes it most often.
fn counts(world: &World, words: &[&str]) -> BTreeMap<String, usize> {
    let log = world.path("calls");
    let traced = format!("trace={}", CALLS.join(","));
    let ran = strace(world, words, &["-e", &traced, "-o", world.text(&log)]);
    assert_eq!(ran.code, Some(0), "{words:?}: {}", ran.err);
    let mut by_thread: BTreeMap<(String, String), usize> = BTreeMap::new();
    for line in fs::read_to_string(&log).unwrap().lines() {
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        let Some((call, _)) = rest.trim_start().split_once('(') else { continue };
        *by_thread.entry((thread.to_owned(), call.to_owned())).or_default() += 1;
    }
    let mut most = BTreeMap::new();
    for ((_, call), count) in by_thread {
        let known = most.entry(call).or_insert(0);
        *known = count.max(*known);
    }
    most
}

fn is_there(test: &str) -> bool {
    let probe = Command::new("strace").args(["-f", "-qq", "-o", "/dev/null", "true"]).output();
    let there = probe.is_ok_and(|output| output.status.success());
    if !there {
        println!("SKIPPED {test}: it needs strace, and the right to trace");
    }
    there
}

fn sweep(case: &Case) {
    if !is_there(case.name) {
        return;
    }
    let template = (case.prepare)();
    let counted = counts(&World::copy(&template), case.words);
    let step = if super::together::is_full() { 1 } else { case.step };
    let (mut runs, mut number, mut refused, mut killed) = (0, 0, 0, 0);
    for (call, count) in &counted {
        for index in 1..=*count {
            for fault in ["signal=KILL", "error=EIO"] {
                number += 1;
                if number % step != 0 {
                    continue;
                }
                let world = World::copy(&template);
                let inject = format!("inject={call}:{fault}:when={index}");
                let first = strace(&world, case.words, &["-e", &inject]);
                let what = |ran: &Ran| {
                    let Ran { code, out, err } = ran;
                    format!(
                        "{} {inject}: {:?}, then {code:?}\n{out}\n{err}\n(first: {})",
                        case.name, first.code, first.err
                    )
                };
                runs += 1;
                killed += usize::from(first.code.is_none());
                // What failed and did not matter was done.
                if first.code == Some(0) {
                    (case.judge)(&world, &first);
                    continue;
                }
                let again = world.run(case.words);
                if again.code != Some(0) {
                    assert!((case.done)(&world), "{}", what(&again));
                    refused += 1;
                }
                (case.judge)(&world, &again);
            }
        }
    }
    // Threads do not share their calls alike in every run: some of the faults befall nobody.
    assert!(runs > 8 && refused * 4 < runs && killed * 4 > runs, "{runs} runs, {refused} refused, {killed} killed");
    println!("{}: given again after {runs} of {number} faults ({killed} kills), {refused} found it done", case.name);
}

fn never(_: &World) -> bool {
    false
}

fn with(world: &World, key: &str, words: &[&str]) -> Ran {
    world.bare(words).env("PACKSTONE_KEY_FILE", world.path(key)).output().unwrap().into()
}

/// Nothing that has another name than these lies in the world's own directory.
fn only(world: &World, names: &[&str]) {
    for entry in fs::read_dir(world.path(".")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(["home", "tree", "calls"].contains(&name.as_str()) || names.contains(&name.as_str()), "{name} is left");
    }
}

fn keys(world: &World, key: &str) -> Vec<serde_json::Value> {
    let ran = with(world, key, &["key", "list", "--json"]);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    serde_json::from_str(&ran.out).unwrap()
}

#[test]
fn init_is_given_again() {
    sweep(&Case {
        name: "init",
        words: &["init", "--new-key-file", "key"],
        step: 5,
        prepare: World::new,
        judge: |world, _| {
            assert_eq!(keys(world, "key").len(), 1);
            assert_eq!(
                files_beneath(&world.repository().join("keys")).len(),
                1,
                "what was interrupted is cleared away"
            );
            only(world, &["key", "repository"]);
            world.backup();
            world.ok(&["check", "--read-data"]);
        },
        done: never,
    });
}

#[test]
fn key_add_is_given_again() {
    sweep(&Case {
        name: "key add",
        words: &["key", "add", "--new-key-file", "second", "--label", "the safe"],
        step: 5,
        prepare: World::with_repository,
        judge: |world, _| {
            assert_eq!(keys(world, "second").len(), 2);
            only(world, &["key", "second", "repository"]);
            world.ok(&["check"]);
        },
        done: never,
    });
}

/// Of a kit that is there the first run has told everything but that it is there.
#[test]
fn key_kit_is_given_again() {
    sweep(&Case {
        name: "key kit",
        words: &["key", "kit", "--output", "kit.txt"],
        step: 15,
        prepare: World::with_repository,
        judge: |world, said| {
            let page = fs::read_to_string(world.path("kit.txt")).unwrap();
            let code = page.lines().skip_while(|line| *line != "Recovery code").nth(2).unwrap().trim().to_owned();
            let ran: Ran = world.bare(&["key", "list"]).env("PACKSTONE_PASSWORD", &code).output().unwrap().into();
            assert_eq!(ran.code, Some(0), "{}", ran.err);
            only(world, &["key", "kit.txt", "repository"]);
            // A key whose page nobody has is named.
            let own = page.lines().find_map(|line| line.strip_prefix("Key         ")).unwrap()[..8].to_owned();
            for key in keys(world, "key").iter().filter(|key| key["type"] == "recovery code") {
                let id = &key["id"].as_str().unwrap()[..8];
                assert!(
                    id == own || said.out.contains(&format!("still opens the repository: key {id}")),
                    "{}",
                    said.out
                );
            }
        },
        done: |world| world.path("kit.txt").exists(),
    });
}

fn lost() -> World {
    let world = World::with_repository();
    world.write("letters/one", "dear one\n".repeat(2_000));
    world.backup();
    world.write("letters/two", super::prune::noise(2, 300_000));
    world.backup();
    world.ok(&["mirror", "add", "offsite", "mirror"]);
    world.ok(&["sync"]);
    fs::remove_dir_all(world.repository()).unwrap();
    world
}

#[test]
fn recover_is_given_again() {
    sweep(&Case {
        name: "recover",
        words: &["recover", "./mirror", "--to", "repository"],
        step: 5,
        prepare: lost,
        judge: |world, _| {
            world.ok(&["check", "--read-data"]);
            world.ok(&["restore", "latest", "--target", "back", "--verify"]);
            assert_eq!(fs::read(world.path("back/tree/letters/two")).unwrap(), super::prune::noise(2, 300_000));
            world.backup();
        },
        done: never,
    });
}

#[test]
fn mirror_add_is_given_again() {
    sweep(&Case {
        name: "mirror add",
        words: &["mirror", "add", "offsite", "mirror"],
        step: 5,
        prepare: World::with_repository,
        judge: |world, _| {
            world.ok(&["sync"]);
            world.ok(&["check", "--mirror", "offsite", "--read-data"]);
        },
        done: never,
    });
}

#[test]
fn backup_init_is_given_again() {
    sweep(&Case {
        name: "backup --init",
        words: &["--repo", "other", "backup", "--init", "tree"],
        step: 5,
        prepare: || {
            let world = World::with_repository();
            world.write("a", "a");
            world
        },
        judge: |world, _| {
            world.ok(&["--repo", "other", "check", "--read-data"]);
            world.ok(&["--repo", "other", "restore", "latest", "--target", "back"]);
            assert_eq!(fs::read_to_string(world.path("back/tree/a")).unwrap(), "a");
        },
        done: never,
    });
}

#[test]
fn repair_heads_is_given_again() {
    sweep(&Case {
        name: "repair heads",
        words: &["repair", "heads"],
        step: 5,
        prepare: || {
            let world = World::with_repository();
            world.write("a", "a");
            world.backup();
            world.write("b", "b");
            world.backup();
            world.ok(&["mirror", "add", "offsite", "mirror"]);
            world.ok(&["sync"]);
            let newest = files_beneath(&world.repository().join("heads")).pop().unwrap();
            super::check::damage(&newest, |bytes| bytes[100] ^= 1);
            assert_eq!(world.run(&["snapshots"]).code, Some(17));
            world
        },
        judge: |world, _| {
            world.ok(&["check", "--read-data"]);
            assert_eq!(super::forget::ids(world).len(), 2);
        },
        done: never,
    });
}

#[test]
fn restore_is_given_again() {
    sweep(&Case {
        name: "restore",
        words: &["restore", "latest", "--target", "back", "--verify"],
        step: 3,
        prepare: || {
            let world = World::with_repository();
            world.write("letters/one", "dear one\n".repeat(2_000));
            world.write("letters/two", super::prune::noise(2, 300_000));
            world.backup();
            world
        },
        judge: |world, _| {
            only(world, &["key", "repository", "back"]);
            let names = files_beneath(&world.path("back"));
            assert_eq!(names.len(), 2, "{names:?}");
            assert_eq!(fs::read(world.path("back/tree/letters/two")).unwrap(), super::prune::noise(2, 300_000));
        },
        done: never,
    });
}

/// Two runs at once: one is cut off when its key file is there, the other when the key file's name is taken. The first run's file is taken after
/// all.
#[test]
fn two_that_were_interrupted_leave_what_is_taken_up() {
    if !is_there("two_that_were_interrupted_leave_what_is_taken_up") {
        return;
    }
    let world = World::new();
    let words = ["init", "--new-key-file", "key"];
    // The first one is killed before the config gets its name; the key file is there.
    for index in 1.. {
        let first = strace(&world, &words, &["-e", &format!("inject=renameat2:signal=KILL:when={index}")]);
        assert_eq!(first.code, None, "{}", first.err);
        if world.path("key").exists() {
            break;
        }
    }
    // What the second one leaves that came before the file was there, and met it: slots of a key that nobody has.
    let other = World::with_repository();
    let slot = files_beneath(&other.repository().join("keys")).remove(0);
    fs::copy(&slot, world.repository().join("keys").join(slot.file_name().unwrap())).unwrap();
    let key = fs::read(world.key()).unwrap();
    for index in [1, 2, 3] {
        strace(&world, &words, &["-e", &format!("inject=unlinkat:signal=KILL:when={index}")]);
        assert_eq!(fs::read(world.key()).unwrap(), key);
    }
    world.ok(&words);
    assert_eq!(fs::read(world.key()).unwrap(), key);
    assert_eq!(files_beneath(&world.repository().join("keys")).len(), 1);
    world.backup();
}

/// A key file is taken for that of an interrupted run only when it is: anybody else's is neither taken nor written over.
#[test]
fn no_foreign_key_file_is_taken() {
    let world = World::with_repository();
    let foreign = fs::read(world.key()).unwrap();
    let place = |name: &str, bytes: &[u8]| {
        let path = world.path(name);
        let _ = fs::remove_file(&path);
        fs::write(&path, bytes).unwrap();
        mode(&path, 0o600);
        path
    };
    let other = World::with_repository();
    for (what, bytes) in [
        ("a key of another repository", fs::read(other.key()).unwrap()),
        ("no key", b"notes".to_vec()),
        ("nothing in it", Vec::new()),
        ("more than a key", vec![b'x'; 100_000]),
    ] {
        let path = place("taken", &bytes);
        for words in
            [&["--repo", "new", "init", "--new-key-file", "taken"][..], &["key", "add", "--new-key-file", "taken"]]
        {
            let ran = world.run(words);
            assert!(
                ran.code == Some(1) && ran.err.contains("something is there already"),
                "{what} {words:?}: {}",
                ran.err
            );
            assert!(fs::read(&path).unwrap() == bytes && !world.path("new/config").exists());
        }
    }
    // The key of the repository itself: whoever could have exchanged it or can read it is not trusted.
    place("own", &foreign);
    let ran = world.ok(&["key", "add", "--new-key-file", "own"]);
    assert!(ran.out.contains("own opens the repository already"), "{}", ran.out);
    assert_eq!(keys(&world, "key").len(), 1);
    mode(&world.path("own"), 0o640);
    assert_eq!(world.run(&["key", "add", "--new-key-file", "own"]).code, Some(1));
    place("own", &foreign);
    std::os::unix::fs::symlink("own", world.path("link")).unwrap();
    assert_eq!(world.run(&["key", "add", "--new-key-file", "link"]).code, Some(1));
    // init at a repository that was used since, or was made otherwise, is no init that was interrupted.
    world.ok(&["init", "--new-key-file", "key"]);
    assert_eq!(world.run(&["init", "--new-key-file", "key", "--chunk-size", "64k"]).code, Some(1));
    world.write("a", "a");
    world.backup();
    let ran = world.run(&["init", "--new-key-file", "key"]);
    assert!(ran.code == Some(1) && ran.err.contains("there is one already"), "{}", ran.err);
}

fn mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// While the passphrase is typed another recover may end, and backups be made: what is a repository by then is left alone. And two write there
/// one after the other.
#[test]
fn recover_looks_again_when_it_has_the_lock() {
    let world = lost();
    let question = world.path("question");
    assert!(Command::new("mkfifo").arg(&question).status().unwrap().success());
    let words = ["recover", "./mirror", "--to", "back"];
    let mut command = world.command(&words);
    let slow =
        command.env("PACKSTONE_KEY_FILE", &question).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // It waits in the kernel until it is asked for.
    let mut answer = fs::OpenOptions::new().write(true).open(&question).unwrap();
    world.ok(&words);
    let snapshot = snapshot_id(&world.ok(&["--repo", "back", "backup", "--json", "tree"]));
    let heads = files_beneath(&world.path("back/heads"));
    answer.write_all(&fs::read(world.key()).unwrap()).unwrap();
    drop(answer);
    let ran: Ran = slow.wait_with_output().unwrap().into();
    assert_eq!(ran.code, Some(1), "{}", ran.err);
    assert!(ran.err.contains("holds a repository already"), "{}", ran.err);
    assert_eq!(files_beneath(&world.path("back/heads")), heads);
    assert!(world.ok(&["--repo", "back", "snapshots"]).out.contains(&snapshot[..8]));

    let world = lost();
    fs::create_dir_all(world.path("back/lock")).unwrap();
    let lock = fs::File::create(world.path("back/lock/writer")).unwrap();
    lock.lock().unwrap();
    let ran = world.run(&words);
    assert_eq!(ran.code, Some(11), "{}", ran.err);
    assert!(!world.path("back/config").exists());
    drop(lock);
    world.ok(&words);
}

/// A repository that is the mirror's newest state is what a recover makes. One that is not is left alone, byte for byte.
#[test]
fn recover_leaves_other_repositories_alone() {
    let world = lost();
    world.ok(&["recover", "./mirror", "--to", "repository"]);
    let before = files_beneath(&world.repository());
    let ran = world.ok(&["recover", "./mirror", "--to", "repository"]);
    assert!(ran.out.contains("0 objects"), "{}", ran.out);
    let objects = |files: &[std::path::PathBuf]| {
        files.iter().filter(|path| !path.to_string_lossy().contains("/lock/")).cloned().collect::<Vec<_>>()
    };
    assert_eq!(objects(&files_beneath(&world.repository())), objects(&before));
    // Something is missing in it, as after a recover from a mirror that lacked it: it comes, and nothing else is touched.
    let pack = files_beneath(&world.repository().join("packs")).remove(0);
    fs::rename(&pack, world.path("pack")).unwrap();
    let ran = world.ok(&["recover", "./mirror", "--to", "repository"]);
    assert!(ran.out.contains("1 object,"), "{}", ran.out);
    assert_eq!(fs::read(world.path("pack")).unwrap(), fs::read(&pack).unwrap());
    assert_eq!(objects(&files_beneath(&world.repository())), objects(&before));
    // It was written to since; and another one.
    world.backup();
    let after = files_beneath(&world.repository());
    let ran = world.run(&["recover", "./mirror", "--to", "repository"]);
    assert!(ran.code != Some(0) && files_beneath(&world.repository()) == after, "{}", ran.err);
    let other = World::with_repository();
    let ran = world.run(&["recover", "./mirror", "--to", other.text(&other.repository())]);
    assert!(ran.code == Some(1) && ran.err.contains("holds a repository already"), "{}", ran.err);
}
